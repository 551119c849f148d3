"""A computation on SecretFlow SPU [SPU] with PUMA's functions and settings: its owner, and one party.

benchmarks/peer.py runs this file with the Python of an environment that has SPU:

    python spu_party.py prepare FOLDER     compile, run in the clear, and share all inputs
    python spu_party.py party FOLDER RANK  one of the three parties
    python spu_party.py open FOLDER        the output, from its shares

FOLDER/task.json has `work`, a key of WORK; `layers` (None: all), `tokens`, `one_hot` (tables as PUMA reads
them), `requests`, `addresses`.
"""

from __future__ import annotations

import json
import pickle
import re
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import puma

PARTIES = 3
FRACTION = 18
ROWS, COLUMNS = 1000, 128  # of a single function's argument
BELOW = 30000  # ids are drawn from below it
TIMEOUT_MILLISECONDS = 600_000
DETAILS = re.compile(r"Link details: total send bytes (\d+), recv bytes \d+, send actions (\d+)")

Task = dict[str, Any]
Work = tuple[Callable[..., Any], tuple[Any, ...]]  # a function of jax, and its arguments


# ---- what is computed ---------------------------------------------------------------------------------


def _model(kind: str, configuration: str, task: Task) -> Work:
    """A Flax model of the exact shapes with random weights: a function of ids and weights."""
    import numpy as np
    import transformers

    layers = {} if task["layers"] is None else {"num_hidden_layers": task["layers"]}
    made = getattr(transformers, kind)(getattr(transformers, configuration)(**layers), seed=0)
    ids = np.random.default_rng(0).integers(0, BELOW, (1, task["tokens"])).astype(np.int32)

    def function(ids: Any, weights: Any) -> Any:
        return made(input_ids=ids, params=weights, train=False)[0]

    return function, (ids, made.params)


def _single(function: Callable[..., Any], arguments: int = 1, spread: float = 6.0) -> Work:
    """A function of numbers that are uniform between -spread and spread."""
    import numpy as np

    draw = np.random.default_rng(0)
    drawn = [draw.uniform(-spread, spread, (ROWS, COLUMNS)).astype(np.float32) for _ in range(arguments)]
    return function, tuple(drawn)


def _gelu(task: Task) -> Work:
    import jax

    # Looked up at the call, so that PUMA's can take its place.
    return _single(lambda x: jax.nn.gelu(x, approximate=False))


def _softmax(task: Task) -> Work:
    import jax

    return _single(lambda x: jax.nn.softmax(x))


WORK: dict[str, Callable[[Task], Work]] = {
    "bert": lambda task: _model("FlaxBertModel", "BertConfig", task),
    "gpt2": lambda task: _model("FlaxGPT2LMHeadModel", "GPT2Config", task),
    "gelu": _gelu,
    "softmax": _softmax,
    "less": lambda task: _single(lambda x, y: x < y, 2),
    "product": lambda task: _single(lambda x, y: x * y, 2),
}


def use_puma(tables: bool) -> None:
    """Put PUMA's functions where Flax looks for GELU, softmax and, for `tables`, the table of words.

    PUMA multiplies the table by one-hot rows, which equality tests make [PUMA]. SPU alone reads it in a loop
    over the ids.
    """
    import jax
    import jax.numpy as jnp
    from flax import linen
    from transformers import modeling_flax_utils

    jax.nn.softmax = lambda x, axis=-1: puma.softmax(x, jnp, jnp.exp)
    jax.nn.gelu = lambda x, approximate=True: puma.gelu(x, jnp)
    modeling_flax_utils.ACT2FN.update(gelu=jax.nn.gelu, gelu_new=jax.nn.gelu)
    look_up = linen.Embed.__call__

    def one_hot(self: Any, ids: Any) -> Any:
        if self.num_embeddings < BELOW:  # positions and segments, which are public
            return look_up(self, ids)
        return (ids[..., None] == jnp.arange(self.num_embeddings)).astype(jnp.float32) @ self.embedding

    if tables:
        linen.Embed.__call__ = one_hot


# ---- who computes it ----------------------------------------------------------------------------------


def configured() -> Any:
    """PUMA's settings: ABY3, 64-bit words, 18 fraction bits, exp by squarings. What is sent is logged."""
    from spu import libspu

    config = libspu.RuntimeConfig(
        protocol=libspu.ProtocolKind.ABY3, field=libspu.FieldType.FM64, fxp_fraction_bits=FRACTION
    )
    config.fxp_exp_mode = libspu.RuntimeConfig.EXP_TAYLOR
    config.fxp_exp_iters = puma.SQUARINGS
    config.enable_pphlo_profile = True
    return config


def prepare(folder: Path, task: Task) -> None:
    """Write the program, three files of shares, and the output in the clear, by the exact functions."""
    import jax
    import numpy as np
    from spu import api, libspu
    from spu.utils import frontend

    function, arguments = WORK[task["work"]](task)
    np.save(folder / "reference.npy", np.asarray(jax.jit(function)(*arguments)))
    jax.clear_caches()
    use_puma(task["one_hot"])
    flat = [np.asarray(each) for each in jax.tree_util.tree_leaves(arguments)]
    names = [f"in{place}" for place in range(len(flat))]
    options = libspu.CompilerOptions()
    options.enable_optimize_denominator_with_broadcast = True  # one reciprocal for each row of softmax
    program, _ = frontend.compile(
        frontend.Kind.JAX,
        WORK[task["work"]](task)[0],
        arguments,
        {},
        names,
        [libspu.Visibility.VIS_SECRET] * len(flat),
        lambda outputs: [f"out{place}" for place in range(len(outputs))],
        copts=options,
    )
    (folder / "program").write_bytes(program.SerializeToString())
    io = api.Io(PARTIES, configured())
    files = [(folder / f"shares{rank}").open("wb") for rank in range(PARTIES)]
    for name, value in zip(names, flat, strict=True):
        for file, share in zip(files, io.make_shares(value, libspu.Visibility.VIS_SECRET), strict=True):
            pickle.dump((name, share.meta, list(share.share_chunks)), file)
    for file in files:
        file.close()


def party(folder: Path, task: Task, rank: int) -> None:
    """Compute `requests` times. Write the seconds of each, what was sent, and a share of the output."""
    from spu import api, libspu

    log = libspu.logging.LogOptions()
    log.enable_console_logger, log.system_log_path = False, str(folder / f"log{rank}")
    libspu.logging.setup_logging(log)
    description = libspu.link.Desc()
    description.recv_timeout_ms = description.http_timeout_ms = TIMEOUT_MILLISECONDS
    for place, address in enumerate(task["addresses"]):
        description.add_party(f"party{place}", address)
    link = libspu.link.create_brpc(description, rank)
    runtime = api.Runtime(link, configured())
    with (folder / f"shares{rank}").open("rb") as file:
        while file.peek(1):
            name, *parts = pickle.load(file)
            runtime.set_var(name, _share(*parts))
    program = libspu.Executable()
    program.ParseFromString((folder / "program").read_bytes())
    seconds, processor = [], []
    for _ in range(task["requests"]):
        link.barrier()
        began = time.perf_counter(), time.process_time()
        runtime.run(program)
        seconds.append(time.perf_counter() - began[0])
        processor.append(time.process_time() - began[1])
    (output,) = (runtime.get_var(name) for name in program.output_names)
    (folder / f"output{rank}").write_bytes(pickle.dumps((output.meta, list(output.share_chunks))))
    link.barrier()
    link.stop_link()
    sent = [[int(one) for one in found] for found in DETAILS.findall((folder / f"log{rank}").read_text())]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    figures = {"seconds": seconds, "processor": processor, "sent": sent, "peak": peak}
    (folder / f"figures{rank}.json").write_text(json.dumps(figures))


def _share(meta: bytes, chunks: list[bytes]) -> Any:
    from spu import libspu

    share = libspu.Share()
    share.meta, share.share_chunks = meta, chunks
    return share


def opened(folder: Path) -> None:
    """Write output.npy."""
    import numpy as np
    from spu import api

    shares = [_share(*pickle.loads((folder / f"output{rank}").read_bytes())) for rank in range(PARTIES)]
    np.save(folder / "output.npy", api.Io(PARTIES, configured()).reconstruct(shares))


def main() -> None:
    what, folder, *rest = sys.argv[1], Path(sys.argv[2]), *sys.argv[3:]
    task = json.loads((folder / "task.json").read_text())
    if what == "prepare":
        prepare(folder, task)
    elif what == "party":
        party(folder, task, int(rest[0]))
    else:
        opened(folder)


if __name__ == "__main__":
    main()
