"""POST /v1/embeddings: a vector for each text, pooled as the model's sentence-transformers files say."""

from __future__ import annotations

import base64
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from starlette.responses import Response

from onnxpuma.errors import ConfigError
from onnxpuma.gateway.account import total
from onnxpuma.gateway.batches import Batches
from onnxpuma.gateway.exchange import Exchange, answered
from onnxpuma.gateway.fields import EmbeddingRequest, read
from onnxpuma.gateway.refusal import Refused
from onnxpuma.gateway.trio import Trio

_MODES = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len",
    "pooling_mode_lasttoken": "lasttoken",
}
_BATCHES: WeakKeyDictionary[Trio, Batches] = WeakKeyDictionary()


@dataclass(frozen=True)
class Pooling:
    """From the numbers of each token to those of a text."""

    mode: str = "mean"
    normalize: bool = True  # to length 1

    @classmethod
    def of(cls, folder: Path) -> Pooling:
        """As modules.json in this folder says; without one, the mean of all tokens at length 1, as OpenAI's
        vectors are. Raises ConfigError for a way that is not known here."""
        modules = _json(folder / "modules.json", [])
        if not modules:
            return cls()
        kinds = {str(module.get("type", "")).rpartition(".")[2]: module for module in modules}
        unknown = set(kinds) - {"Transformer", "Pooling", "Normalize"}
        table = _json(folder / kinds.get("Pooling", {}).get("path", "1_Pooling") / "config.json", {})
        modes = (
            [table["pooling_mode"]]
            if "pooling_mode" in table
            else [name for key, name in _MODES.items() if table.get(key)]
        )
        if unknown or len(modes) != 1 or modes[0] not in _MODES.values():
            what = ", ".join(sorted(unknown)) or " and ".join(map(str, modes)) or "none"
            raise ConfigError(
                f"the sentence-transformers files in {folder} ask for pooling that is not known here: {what}",
                "pool in Python: onnxpuma.tasks.pipeline('feature-extraction', ...)",
            )
        return cls(modes[0], "Normalize" in kinds)

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """features: (1, tokens, width), or (1, width) of a model that pools itself. Returns (width,)."""
        rows = features[0].astype(np.float64)
        if rows.ndim == 2:
            rows = {
                "mean": lambda: rows.mean(axis=0),
                "cls": lambda: rows[0],
                "max": lambda: rows.max(axis=0),
                "mean_sqrt_len": lambda: rows.sum(axis=0) / np.sqrt(len(rows)),
                "lasttoken": lambda: rows[-1],
            }[self.mode]()
        if self.normalize:
            rows = rows / max(float(np.linalg.norm(rows)), 1e-12)
        return np.asarray(rows, np.float32)


async def embeddings(exchange: Exchange) -> Response:
    """A vector for each of the texts, which run together, and with those of other callers."""
    asked = read(EmbeddingRequest, await exchange.json())
    trio, begin = exchange.models.trio(asked.model), time.perf_counter()
    pooling = Pooling.of(trio.folder)
    texts = asked.inputs()
    with exchange.caller.reserved(0, 0) as spent:
        found = await exchange.present(_BATCHES.setdefault(trio, Batches(trio)).features(texts))
        spent(sum(account.prompt_tokens for _, account in found))
    vectors = [pooling(features) for features, _ in found]
    _check_width(asked, vectors[0].size)
    account = total([each for _, each in found])
    account.seconds = time.perf_counter() - begin
    data = [
        {"object": "embedding", "index": place, "embedding": _encoded(vector, asked.encoding_format)}
        for place, vector in enumerate(vectors)
    ]
    usage = {"prompt_tokens": account.prompt_tokens, "total_tokens": account.prompt_tokens}
    figures = account.figures(bool(asked.show_shares))
    return answered({"object": "list", "model": trio.name, "data": data, "usage": usage, "onnxpuma": figures})


def _check_width(asked: EmbeddingRequest, width: int) -> None:
    if asked.dimensions is not None and asked.dimensions != width:
        raise Refused(
            f"the model's vectors have {width} dimensions, not {asked.dimensions}",
            "omit dimensions",
            param="dimensions",
            code="unsupported_parameter",
        )


def _encoded(vector: np.ndarray, form: str | None) -> Any:
    if form == "base64":
        return base64.b64encode(vector.astype("<f4").tobytes()).decode()
    return vector.tolist()


def _json(path: Path, missing: Any) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return missing
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read {path}: {error}", "copy it again from the model") from error
