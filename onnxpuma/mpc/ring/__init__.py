"""Ring words, and the functions on arrays of them that the compiled kernel or numpy runs."""

from onnxpuma.mpc.ring.blended import matmul_blended
from onnxpuma.mpc.ring.coins import coin_sums
from onnxpuma.mpc.ring.dealing import deal_packed
from onnxpuma.mpc.ring.keys import key_stream
from onnxpuma.mpc.ring.native import native_level, native_levels, set_native_level, set_threads, threads
from onnxpuma.mpc.ring.packed import matmul_keyed, matmul_packed
from onnxpuma.mpc.ring.packing import pack, unpack
from onnxpuma.mpc.ring.products import (
    axpy,
    einsum,
    gather_table,
    matmul,
    matmul_pair,
    pick_bits,
    shift_mask,
    table_bits,
    turned_sums,
)

__all__ = [
    "axpy",
    "coin_sums",
    "deal_packed",
    "einsum",
    "gather_table",
    "key_stream",
    "matmul",
    "matmul_blended",
    "matmul_keyed",
    "matmul_packed",
    "matmul_pair",
    "native_level",
    "native_levels",
    "pack",
    "pick_bits",
    "set_native_level",
    "set_threads",
    "shift_mask",
    "table_bits",
    "threads",
    "turned_sums",
    "unpack",
]
