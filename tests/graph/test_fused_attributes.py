"""Declared attributes of onnxruntime's operators agree with onnxruntime's own schemas."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from onnxpuma.graph.canonicalise import FUSED
from onnxpuma.graph.dialect import DOMAIN
from onnxpuma.standard.signature import signature

state = pytest.importorskip("onnxruntime.capi.onnxruntime_pybind11_state")
if not hasattr(state, "get_all_operator_schema"):
    pytest.skip("this onnxruntime does not show its schemas", allow_module_level=True)

SCHEMAS = {s.name: s for s in state.get_all_operator_schema() if s.domain == DOMAIN}
DECLARED = sorted(op for _, op in FUSED if signature(op, 1, DOMAIN))


def test_there_are_some() -> None:
    assert {"Attention", "MatMulNBits", "SkipLayerNormalization"} <= set(DECLARED)


@pytest.mark.parametrize("op", DECLARED)
def test_defaults_are_onnxruntimes(op: str) -> None:
    own = SCHEMAS[op].attributes if op in SCHEMAS else {}
    for name, default in signature(op, 1, DOMAIN).items():
        if default is None or name not in own or not own[name]._default_value:
            continue
        theirs = onnx.helper.get_attribute_value(onnx.AttributeProto.FromString(own[name]._default_value))
        if name != "smooth_softmax":  # both 0 and -1 are the usual one
            assert np.float32(default) == np.float32(theirs), name
