"""The menu: every room of operators. Importing it registers them all."""

from onnxpuma.ops import (
    activation,
    attention,
    conv,
    elementwise,
    gather,
    layout,
    logic,
    matmul,
    normalize,
    select,
    softmax,
)

__all__ = [
    "activation",
    "attention",
    "conv",
    "elementwise",
    "gather",
    "layout",
    "logic",
    "matmul",
    "normalize",
    "select",
    "softmax",
]
