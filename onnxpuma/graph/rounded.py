"""Does a file round its activations to few bits? On shares they are not rounded, so that results differ."""

from __future__ import annotations

from pathlib import Path

from onnxpuma.graph.dialect import proto_graphs
from onnxpuma.graph.load import parse

_ROUNDING = (
    *("DynamicQuantizeLinear", "QuantizeLinear", "MatMulInteger", "ConvInteger"),
    *("MatMulIntegerToFloat", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM", "QuantizeBFP"),
    *("QAttention", "QGemm", "QEmbedLayerNormalization"),
)


def rounds_activations(path: Path) -> bool:
    """Whether a node of the model at `path` quantises what it is given. Raises ModelError as `load`."""
    proto = parse(path, path.name)
    nodes = [node for graph in proto_graphs(proto.graph) for node in graph.node]
    nodes += [node for function in proto.functions for node in function.node]
    return any(node.op_type in _ROUNDING or node.op_type.startswith("QLinear") for node in nodes)
