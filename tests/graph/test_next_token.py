"""next_token is the id of the largest logit at the last position, among those not suppressed; next_tokens
has it for every position."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from onnxpuma.errors import ConfigError
from onnxpuma.graph.canonicalise import canonicalise
from onnxpuma.graph.hidden import hide_outputs
from onnxpuma.graph.next_token import (
    NEXT_TOKEN,
    NEXT_TOKENS,
    SUPPRESSED,
    add_next_token,
    remove_inputs,
    vocabulary,
)
from onnxpuma.graph.rows import needed
from onnxpuma.graph.sampling import DRAWN

DATA = Path(__file__).parent / "data"
WORDS = 20

# A decoder of one block. Its cache is an output, so a token alone still needs all rows of the keys.
DECODER = """
    e = Gather <axis = 0> (table, input_ids)
    k = MatMul(e, wk)
    present = Concat <axis = 1> (past_key_values, k)
    n = LayerNormalization <axis = -1> (e, g)
    u = MatMul(n, w1)
    a = Gelu(u)
    d = MatMul(a, w2)
    h = Add(e, d)
    o = LayerNormalization <axis = -1> (h, g)
    logits = MatMul(o, head)
"""
INPUTS = "int64[b, s] input_ids, float[b, p, 4] past_key_values"


def decoder(parsed: Any, body: str = DECODER, inputs: str = INPUTS, outputs: str = "") -> ir.Model:
    rng = np.random.default_rng(0)
    sizes = {"table": (WORDS, 4), "wk": (4, 4), "g": (4,), "w1": (4, 6), "w2": (6, 4), "head": (4, WORDS)}
    outputs = outputs or f"float[b, s, {WORDS}] logits, float[b, t, 4] present"
    model = parsed(f"g ({inputs}) => ({outputs}) <{_declared(sizes)}> {{ {body} }}")
    for tensor in model.graph.initializer:
        values = rng.normal(0, 1, sizes[tensor.name]).astype(np.float32)
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    return ir.from_proto(model)


def greedy(model: ir.Model) -> int | None:
    """`add_next_token` without the outputs that are drawn, which onnxruntime does not know."""
    size = add_next_token(model)
    if size is not None:
        hide_outputs(model, list(DRAWN))
        remove_inputs(model, size)
    return size


def _declared(sizes: dict[str, tuple[int, ...]]) -> str:
    def zeros(shape: tuple[int, ...]) -> str:
        return ", ".join("0" for _ in range(int(np.prod(shape))))

    return ", ".join(
        f"float[{', '.join(map(str, shape))}] {name} = {{{zeros(shape)}}}" for name, shape in sizes.items()
    )


def feed(batch: int, length: int, past: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(length)
    return {
        "input_ids": rng.integers(0, WORDS, (batch, length)),
        "past_key_values": rng.normal(0, 1, (batch, past, 4)).astype(np.float32),
    }


@pytest.mark.parametrize("suppressed", [[], [3], [0, 7, 19, 7], list(range(WORDS - 1))])
@pytest.mark.parametrize(("batch", "length", "past"), [(1, 1, 4), (2, 5, 0), (3, 2, 1)])
def test_the_id_of_the_largest_logit(
    batch: int, length: int, past: int, suppressed: list[int], parsed: Any, run_model: Any
) -> None:
    model = decoder(parsed)
    given = feed(batch, length, past)
    want = run_model(ir.to_proto(model), given)[0]
    canonicalise(model)
    assert greedy(model) == WORDS
    after = ir.to_proto(model)
    onnx.checker.check_model(after, full_check=True)
    logits, _, token, tokens = run_model(after, {**given, SUPPRESSED: np.array(suppressed, np.int64)})
    np.testing.assert_allclose(logits, want, atol=1e-5)
    left = want.copy()
    left[..., suppressed] = -np.inf
    assert (token.dtype, token.shape) == (np.int64, (batch, 1))
    assert (tokens.dtype, tokens.shape) == (np.int64, (batch, length))
    assert np.array_equal(token, left[:, -1:].argmax(axis=-1))
    assert np.array_equal(tokens, left.argmax(axis=-1))


def test_one_row_goes_through_the_head_and_the_last_block(parsed: Any) -> None:
    model = decoder(parsed)
    canonicalise(model)
    weights = len(model.graph.initializers)
    greedy(model)
    (token,) = (v for v in model.graph.outputs if v.name == NEXT_TOKEN)
    needs = needed(model.graph, [token])
    rows = [n.outputs[0].shape[1] for n in needs if n.op_type in ("Gelu", "MatMul", "LayerNormalization")]
    assert rows == [1] * len(rows)
    assert len(rows) == 6
    assert sum(i.dtype == ir.DataType.FLOAT for i in model.graph.initializers.values()) <= weights
    others = needed(model.graph, [v for v in model.graph.outputs if v.name == "present"])
    assert {n.op_type for n in others} == {"Gather", "MatMul", "Concat"}


def test_the_same_bytes_twice(parsed: Any) -> None:
    made = []
    for _ in range(2):
        model = decoder(parsed)
        canonicalise(model)
        add_next_token(model)
        made.append(ir.to_proto(model).SerializeToString(deterministic=True))
    assert made[0] == made[1]


@pytest.mark.parametrize(
    ("inputs", "outputs", "generates"),
    [
        (INPUTS, f"float[b, s, {WORDS}] logits", True),
        ("int64[b, s] input_ids, float[b, p, 4] carried", f"float[b, s, {WORDS}] logits", True),  # a table
        ("float[b, s, 4] e, float[b, p, 4] encoder_hidden_states", f"float[b, s, {WORDS}] logits", True),
        ("float[b, s, 4] e, float[b, p, 4] carried", f"float[b, s, {WORDS}] logits", False),
        (INPUTS, f"float[b, s, {WORDS}] scores", False),
        (f"{INPUTS}, float[b] next_token", f"float[b, s, {WORDS}] logits", False),
    ],
)
def test_which_models_generate(inputs: str, outputs: str, generates: bool, parsed: Any) -> None:
    body = DECODER.replace("past_key_values", "carried") if "carried" in inputs else DECODER
    body = body.replace("past_key_values", "encoder_hidden_states") if "encoder" in inputs else body
    body = body.replace("logits =", "scores =") if "scores" in outputs else body
    body = body.replace("e = Gather <axis = 0> (table, input_ids)\n", "") if "s, 4] e" in inputs else body
    model = decoder(parsed, body, inputs, outputs)
    canonicalise(model)
    assert vocabulary(model) == (WORDS if generates else None)
    names = [v.name for v in model.graph.outputs]
    assert add_next_token(model) == (WORDS if generates else None)
    assert [v.name for v in model.graph.outputs] == [
        *names,
        *([NEXT_TOKEN, NEXT_TOKENS, *DRAWN] if generates else []),
    ]


def test_a_model_that_flattens_its_ids_generates(parsed: Any) -> None:
    body = DECODER.replace("past_key_values", "carried").replace("(table, input_ids)", "(table, flat)")
    reshaping = """
        length = Shape <start = 1> (input_ids)
        rows = Constant <value = int64[1] {-1}> ()
        shape = Concat <axis = 0> (rows, length)
        flat = Reshape(input_ids, shape)
    """
    model = decoder(parsed, reshaping + body, "int64[b, s] input_ids, float[b, p, 4] carried")
    assert vocabulary(model) == WORDS


@pytest.mark.parametrize("name", ["bert-dynamo-18", "vit-torchscript-20"])
def test_models_that_do_not_generate_stay_as_they_are(name: str) -> None:
    model = ir.from_proto(onnx.load(DATA / f"{name}.onnx"))
    canonicalise(model)
    before = ir.to_proto(model).SerializeToString(deterministic=True)
    assert add_next_token(model) is None
    assert ir.to_proto(model).SerializeToString(deterministic=True) == before


def test_hidden_outputs_take_along_what_was_computed_for_them(parsed: Any, run_model: Any) -> None:
    model = decoder(parsed)
    canonicalise(model)
    greedy(model)
    assert hide_outputs(model, ["log*", NEXT_TOKENS]) == ["logits", NEXT_TOKENS]
    assert [v.name for v in model.graph.outputs] == ["present", NEXT_TOKEN]
    left = [n for n in model.graph if n.op_type in ("Gelu", "MatMul", "LayerNormalization")]
    assert [n.outputs[0].shape[1] for n in left].count(1) == len(left) - 1  # only the keys take every row
    given = {**feed(2, 3, 2), SUPPRESSED: np.zeros(0, np.int64)}
    assert run_model(ir.to_proto(model), given)[1].shape == (2, 1)


def test_patterns_that_hide_nothing_or_everything(parsed: Any) -> None:
    model = decoder(parsed)
    with pytest.raises(ConfigError, match="no output matches 'logit'"):
        hide_outputs(model, ["logit"])
    unmatched: set[str] = set()
    assert hide_outputs(model, ["logit"], unmatched) == []
    assert unmatched == {"logit"}
    with pytest.raises(ConfigError, match="leaves no output"):
        hide_outputs(model, ["logits", "p*"])
    assert len(model.graph.outputs) == 2
