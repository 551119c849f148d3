"""Attributes of onnxruntime's operators, and their defaults: no schema of the standard has them.

None: no default, or the one of the standard operator that takes the attribute over.
"""

from __future__ import annotations

from typing import Any

from onnxpuma.graph.dialect import DOMAIN
from onnxpuma.standard.mask_values import MASKED
from onnxpuma.standard.signature import declare

_TURNED = {"alpha": 1.0, "transA": 0, "transB": 0, "transBatchA": 0, "transBatchB": 0}
_ACTIVATION = dict.fromkeys(("activation", "activation_alpha", "activation_beta", "activation_gamma"))
_FUSED = {**_TURNED, **_ACTIVATION}
_GEMM = dict.fromkeys(("alpha", "beta", "transA", "transB"))
_WINDOW = dict.fromkeys(("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"))
_HEADS = {"num_heads": None, "unidirectional": 0, "mask_filter_value": MASKED, "scale": None}
_PROJECTED = {**_HEADS, "qkv_hidden_sizes": None, "do_rotary": 0, "past_present_share_buffer": 0}
_QUANTISED = {"axis": 1, "block_size": 0}

_ATTRIBUTES: dict[str, dict[str, Any]] = {
    "Attention": _PROJECTED,
    "DequantizeLinear": _QUANTISED,
    "EmbedLayerNormalization": {"epsilon": 1e-12},
    "FusedConv": {**_WINDOW, "activation": None, "activation_params": ()},
    "FusedGemm": {**_GEMM, **_ACTIVATION},
    "FusedMatMul": _FUSED,
    "FusedMatMulActivation": _FUSED,
    "GatherBlockQuantized": {"bits": 4, "block_size": 128, "gather_axis": 0, "quantize_axis": 1},
    "GroupQueryAttention": {
        **dict.fromkeys(("num_heads", "kv_num_heads", "scale")),
        "causal": 1,
        "do_rotary": 0,
        "kv_cache_bit_width": 0,
        "local_window_size": -1,
        "qk_norm_epsilon": 1e-6,
        "rotary_interleaved": 0,
        "sliding_window_cache": 0,
        "smooth_softmax": 0,
        "softcap": 0.0,
    },
    "LayerNormalization": {"axis": -1, "epsilon": 1e-5},
    "MatMulNBits": {"N": None, "K": None, "bits": 4, "block_size": None},
    "MultiHeadAttention": _HEADS,
    "QAttention": _PROJECTED,
    "QEmbedLayerNormalization": {"epsilon": 1e-12},
    "QuickGelu": {"alpha": 1.702},
    "RotaryEmbedding": {
        "interleaved": 0,
        "is_packed_batching": 0,
        "num_heads": 0,
        "rotary_embedding_dim": 0,
        "scale": 1.0,
    },
    "SimplifiedLayerNormalization": {"axis": -1, "epsilon": 1e-5},
    "SkipLayerNormalization": {"epsilon": 1e-12},
    "SkipSimplifiedLayerNormalization": {"epsilon": 1e-12},
    "TransposeMatMul": _FUSED,
}

for _op, _defaults in _ATTRIBUTES.items():
    declare(DOMAIN, _op, **_defaults)
