"""A cache whose length stays for a block of tokens: the same texts, whatever stands in front of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from onnxpuma.errors import ModelError
from onnxpuma.plan.owner_policy import Policy
from onnxpuma.plan.prepare import prepare
from onnxpuma.roles.local.cluster import LocalCluster
from onnxpuma.roles.request.kept import Kept
from onnxpuma.roles.request.view import View
from onnxpuma.tasks import SecureRunner
from onnxpuma.tasks.cache import hides_front
from onnxpuma.tasks.decoder import Decoder, causal_decoder
from onnxpuma.tasks.plain import PlainRunner
from onnxpuma.tasks.port import Result, Run, Signature
from onnxpuma.tasks.rules import Rules
from onnxpuma.tasks.together import write_together
from onnxpuma.tasks.writing import write

LLAMA = Path(__file__).resolve().parents[1] / "benchmarks" / "llama" / "model.onnx"
PROMPT = [382, 101, 401, 270, 385]  # whose tokens lead the next likeliest by 0.009 in the logits at least
MOST = 14  # tokens: past two borders of blocks


class Plain(PlainRunner):
    """In the clear, with padding in front or without; records its feeds and what it holds."""

    def __init__(self, blocks: bool) -> None:
        super().__init__(LLAMA)
        self._blocks = blocks
        self.feeds: list[Mapping[str, Any]] = []
        self.held: list[Any] = []

    @property
    def graphs(self) -> Mapping[str, Signature]:
        made = super().graphs
        return {name: Signature(s.inputs, s.outputs, self._blocks) for name, s in made.items()}

    def run(self, run: Run) -> Result:
        self.feeds.append(run.feed)
        result = super().run(run)
        self.held += result.kept.values()
        self.release(run.release)
        return result

    def release(self, kept: Sequence[Any]) -> None:
        for value in kept:
            place = next(i for i, other in enumerate(self.held) if other is value)
            del self.held[place]

    @property
    def masks(self) -> list[list[int]]:
        return [feed["attention_mask"][0].tolist() for feed in self.feeds]

    @property
    def lengths(self) -> list[int]:
        return [feed["past_key_values.0.key"].shape[2] for feed in self.feeds]


def text(runner: Any, most: int = MOST, guesser: Any = None, prompt: Sequence[int] = PROMPT) -> list[int]:
    found = write(causal_decoder(runner), prompt, Rules(most=most), guesser)
    return [one.token for one in found]


@pytest.fixture(scope="module")
def want() -> list[int]:
    return text(Plain(False))


class Guessed:
    """Guesses the text, wrongly at some places; none at others."""

    def __init__(self, want: Sequence[int], wrong: Sequence[int], silent: Sequence[int]) -> None:
        self._want, self._wrong, self._silent = want, wrong, silent

    def guess(self, text: Sequence[int], most: int) -> list[int]:
        place = len(text) - len(PROMPT)
        if place in self._silent:
            return []
        guesses = list(self._want[place : place + min(3, most)])
        return [(token + (place + at in self._wrong)) % 512 for at, token in enumerate(guesses)]


def test_a_text_keeps_its_length_for_a_block(want: list[int]) -> None:
    runner = Plain(True)
    assert text(runner) == want
    tokens = [0, *range(len(PROMPT), len(PROMPT) + MOST - 1)]
    assert runner.lengths[:5] == [0, 7, 7, 7, 15]
    assert runner.lengths == [0, *(-(-(n + 1) // 8) * 8 - 1 for n in tokens[1:])]
    assert runner.masks[0] == [1] * len(PROMPT)
    for count, length, mask in zip(tokens[1:], runner.lengths[1:], runner.masks[1:], strict=True):
        assert mask == [0] * (length - count) + [1] * (count + 1)
    positions = [feed["position_ids"].reshape(-1).tolist() for feed in runner.feeds[1:]]
    assert positions == [[n] for n in tokens[1:]]
    for feed, count in zip(runner.feeds[1:], tokens[1:], strict=True):
        for name, value in feed.items():
            if name.startswith("past_key_values"):
                first = value.shape[2] - count
                assert np.array_equal(value[:, :, :first], value[:, :, [first] * first])
                assert value[:, :, first].any()
    assert not runner.held


@pytest.mark.parametrize("length", range(1, 10))
def test_a_prompt_of_any_length(length: int) -> None:
    prompt = list(range(3, 3 + length))
    assert text(Plain(True), 12, prompt=prompt) == text(Plain(False), 12, prompt=prompt)


@pytest.mark.parametrize("wrong", [(), (2, 5, 8, 11), range(MOST)])
@pytest.mark.parametrize("silent", [(), (3, 4, 5, 9, 12, 13), range(0, MOST, 2)])
def test_drafts_read_the_cache_without_padding(
    want: list[int], wrong: Sequence[int], silent: Sequence[int]
) -> None:
    runner = Plain(True)
    assert text(runner, guesser=Guessed(want, wrong, silent)) == want
    for feed, mask in zip(runner.feeds, runner.masks, strict=True):
        if feed["input_ids"].shape[1] > 1:
            assert 0 not in mask
        else:
            assert len(mask) % 8 == 0
    assert not runner.held


def test_tokens_are_forgotten_from_behind_padding(want: list[int]) -> None:
    runner = Plain(True)
    decoder = causal_decoder(runner)
    following = [decoder.read(PROMPT).token]
    while len(following) < 9:
        following.append(decoder.read(following[-1:]).token)
    assert following == want[:9]
    for kept in (10, 6, 5):  # tokens, of which the prompt is five
        decoder.forget(kept)
        assert decoder.read([want[kept - 5]]).token == want[kept - 4]
        decoder.forget(kept)
    decoder.forget(0)
    assert decoder.read(PROMPT).token == want[0]
    assert runner.lengths[-1] == 0
    decoder.close()
    assert not runner.held


def test_texts_written_together_keep_their_length_as_well(want: list[int]) -> None:
    prompts = [PROMPT, PROMPT[:2], [7, *PROMPT, 300, 12]]
    found = []
    for blocks in (True, False):
        runner = Plain(blocks)
        found.append(write_together(runner, prompts, [Rules(most=MOST)] * 3, pad=0))
        assert not runner.held
        assert (runner.lengths == [0, *[15] * 8, *[23] * 5]) == blocks
    assert found[0] == found[1]
    assert found[0][0] == want


class _Rolling(Plain):
    """Keeps no more than the last seven places."""

    def run(self, run: Run) -> Result:
        done = super().run(run)
        self.held = [value[:, :, -7:] for value in self.held]
        return Result(done.outputs, dict(zip(run.keep, self.held[-len(run.keep) :], strict=True)))


def test_a_cache_that_loses_its_padding_is_refused() -> None:
    runner = _Rolling(True)
    decoder = causal_decoder(runner)
    decoder.read(PROMPT)
    with pytest.raises(ModelError, match="does not always grow by one place a token"):
        decoder.read([1])
    decoder.close()
    assert not runner.held


def test_other_caches_stay_as_they_are(kit: SimpleNamespace, tmp_path: Path) -> None:
    """Of a decoder that begins with another graph, and of one without positions."""
    runner = kit.Watched(kit.causal_folder(tmp_path, kit.drawn()))
    assert not hides_front(prepare(tmp_path / "model.onnx")[0])
    decoder = Decoder(runner, "model", "model")
    for ids in ([4, 5], [6], [7]):
        decoder.read(ids)
    assert [call[1]["past_key_values.0.key"].shape[2] for call in runner.calls] == [0, 2, 3]


# ---- which graphs ---------------------------------------------------------------------------------------


def test_a_graph_that_counts_its_mask_has_nothing_in_front(tmp_path: Path) -> None:
    """So do graphs whose attention is told how long the past is."""
    assert hides_front(prepare(LLAMA)[0])
    model = onnx.load(LLAMA)
    model.graph.node.insert(0, helper.make_node("ReduceSum", ["attention_mask"], ["length"], keepdims=0))
    model.graph.output.append(helper.make_tensor_value_info("length", onnx.TensorProto.INT64, []))
    onnx.save(model, tmp_path / "model.onnx")
    assert not hides_front(prepare(tmp_path / "model.onnx")[0])


def test_mask_and_positions_must_be_public() -> None:
    for name in ("position_ids", "attention_mask"):
        assert not hides_front(prepare(LLAMA, Policy(secret_inputs=(name,)))[0])


# ---- on shares ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def servers() -> Iterator[LocalCluster]:
    with LocalCluster(LLAMA) as cluster:
        yield cluster


class Secure(SecureRunner):
    """Records what it reads and what it keeps."""

    def run(self, run: Run) -> Result:
        result = super().run(run)
        self.reads = [*getattr(self, "reads", []), run.feed]
        return result


def test_a_text_on_shares_is_that_in_the_clear(want: list[int], servers: LocalCluster) -> None:
    runner = Secure(servers.client())
    assert runner.graphs["model"].blocks
    assert text(runner) == want
    pasts = [feed["past_key_values.1.value"] for feed in runner.reads[1:]]
    assert all(isinstance(past, Kept) for past in pasts)
    assert [past.taken.skip for past in pasts[:5]] == [-2, 1, 1, -7, 1]
    assert {past.taken for past in pasts} == {View(skip, 2) for skip in (-2, 1, -7)}
    assert [past.shape[2] for past in pasts] == [7] * 3 + [15] * 8 + [23] * 2
    some = Guessed(want, wrong=(2,), silent=(3, 4, 5))
    assert text(runner, 9, some) == want[:9]
    assert [feed["attention_mask"][0].tolist().count(0) for feed in runner.reads[MOST:]] == [0, 0, 0, 7, 6, 0]
    runner.close()
