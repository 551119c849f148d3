"""Nodes that do nothing are removed, except those that return a value of an outer graph."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from onnxpuma.graph.identity import drop_identities

X = np.random.default_rng(6).normal(size=(2, 3)).astype(np.float32)

# One branch computes; the other returns a value of the graph around it.
HANDED = {
    "a value": "b = Identity(y)",
    "through two": "q = Identity(y) b = Identity(q)",
    "an input": "b = Identity(x)",
    "a weight": "b = Identity(w)",
    "a cast": "b = Cast <to = 1> (y)",
    "nothing added": "z = Constant <value_float = 0.0> () b = Add(y, z)",
    "no factor": "z = Constant <value_float = 1.0> () b = Mul(y, z)",
    "turned back": "q = Transpose <perm = [1, 0]> (y) b = Transpose <perm = [1, 0]> (q)",
    "dropout": "b = Dropout(y)",
    "a branch within": """b = If(flag) <then_branch = i () => (float[n, 3] k) { k = Identity(y) },
                                        else_branch = j () => (float[n, 3] l) { l = Identity(x) }>""",
}


@pytest.mark.parametrize("handed", HANDED.values(), ids=HANDED)
def test_two_branches_that_hand_on_one_value(rewritten: Any, handed: str) -> None:
    choice = """{r} = If(flag) <then_branch = t{r} () => (float[n, 3] a{r}) {{ a{r} = Add(y, y) }},
                              else_branch = e{r} () => (float[n, 3] b) {{ {handed} }}>"""
    choices = "\n".join(choice.format(r=r, handed=handed) for r in ("r", "s"))
    source = f"""g (float[n, 3] x, bool flag) => (float[n, 3] out)
        <float[1, 3] w = {{1, 2, 3}}> {{ y = Tanh(x)  {choices}  out = Sum(r, s, y) }}"""
    rewritten(source, {"x": X, "flag": np.array(True)}, {"x": X, "flag": np.array(False)})


def left(parsed: Any, text: str) -> list[str]:
    model = ir.from_proto(parsed(text))
    drop_identities(model)
    return [f"{n.op_type} {n.outputs[0].name}" for n in model.graph.all_nodes()]


def test_what_is_dropped(parsed: Any) -> None:
    text = "g (float[2] x) => (float[2] y) { a = Identity(x) b = Tanh(a) c = Identity(b) y = Identity(c) }"
    assert left(parsed, text) == ["Tanh y"]


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("g (float[2] x) => (float[2] y) { y = Identity(x) }", ["Identity y"]),
        ("g (float[2] x) => (float[2] y) <float[2] x = {1, 2}> { y = Identity(x) }", ["Identity y"]),
        (
            "g (float[2] x) => (float[2] y, float[2] z) { y = Tanh(x) z = Identity(y) }",
            ["Tanh y", "Identity z"],
        ),
    ],
)
def test_what_is_kept(parsed: Any, text: str, kept: list[str]) -> None:
    assert left(parsed, text) == kept
