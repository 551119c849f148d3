"""Arrays dealt a block at a time on threads: the words of the whole array, in little memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest

from onnxpuma.graph.initializer import Initializer
from onnxpuma.mpc import ring
from onnxpuma.mpc.format import Format
from onnxpuma.mpc.forms.source import KeySource
from onnxpuma.roles.owner import packing
from onnxpuma.roles.owner.packing import Packing

KEYS = (bytes(range(16)), bytes(16))
KINDS = (np.float16, ml_dtypes.bfloat16, np.float32, np.float64, np.int64)


def opened(blocks: bytes, format: Format, count: int, index: int) -> np.ndarray:
    """The numbers whose component 2 these packed words are."""
    words = ring.unpack(np.frombuffer(blocks, np.uint8), format.bits, (count,)).copy()
    for key in KEYS:
        stream = np.empty(format.bytes(count), np.uint8)
        KeySource(key, index).read(0, stream.data)
        words += ring.unpack(stream, format.bits, (count,))
    return format.decode(words & format.mask)


@pytest.mark.parametrize("bits", [32, 40, 48, 64])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: np.dtype(kind).name)
def test_blocks_add_up_to_the_array(bits: int, kind: type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "_BLOCK", 128)
    values = np.random.default_rng(bits).normal(0, 4, (61, 33)).astype(kind)
    weight = Initializer("w", values.dtype, values.shape, ir.tensor(values))
    pack, format = Packing(), Format(bits, 0 if kind is np.int64 else 18)
    try:
        blocks = list(pack.packed(weight, format, KEYS, 7))
    finally:
        pack.close()
    assert len(blocks) == -(-values.size // 128)
    found = opened(b"".join(bytes(block) for block, _ in blocks), format, values.size, 7)
    assert np.abs(found - values.reshape(-1).astype(np.float64)).max() <= format.unit / 2
    assert max(largest for _, largest in blocks) == np.abs(values.astype(np.float64)).max()


@pytest.mark.parametrize("shape", [(), (1,), (300,), (3, 700), (2, 3, 5, 7)])
def test_arrays_of_every_shape(shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "_BLOCK", 256)
    values = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    weight = Initializer("w", values.dtype, shape, ir.tensor(values))
    pack, format = Packing(), Format(40, 18)
    try:
        whole = b"".join(bytes(block) for block, _ in pack.packed(weight, format, KEYS, 0))
    finally:
        pack.close()
    found = opened(whole, format, values.size, 0)
    assert np.abs(found - values.reshape(-1)).max() <= format.unit / 2


SCRIPT = """
import resource, sys
import numpy as np, onnx_ir as ir
from onnxpuma.graph.by_rows import times
from onnxpuma.graph.initializer import Initializer
from onnxpuma.mpc.format import Format
from onnxpuma.plan.weights.one_pass import View, measured
from onnxpuma.roles.owner.packing import Packing

rows, columns = 4096, 8192
factor = np.ones(columns, np.float32)

def weight(shape):
    stored = ir.ExternalTensor("weights.bin", 0, 2 * shape[0] * shape[1], ir.DataType.FLOAT16,
                               shape=ir.Shape(shape), name="w", base_dir=sys.argv[1])
    return Initializer("w", np.dtype(np.float32), shape, times(stored, lambda: factor[: shape[1]], 1))

def pass_over(held):
    views = [View("w", True, ["columns"], lambda width: [128])]
    measured(held.rows(), held.shape, views)
    pack = Packing()
    for _ in pack.packed(held, Format(40, 18), (bytes(16), bytes(16)), 0):
        pass
    pack.close()

pass_over(weight((256, columns)))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
pass_over(weight((rows, columns)))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_memory_does_not_grow_with_the_array(tmp_path: Path) -> None:
    with (tmp_path / "weights.bin").open("wb") as file:
        file.truncate(2 * 4096 * 8192)  # 64 MB of half precision, 128 MB in single
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 60_000, "kilobytes"
