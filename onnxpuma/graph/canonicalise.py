"""Rewrite any exporter's graph in a few standard operators: the passes, in order.

A Transformer is reduced to MatMul, Gemm, Conv, LayerNormalization, RMSNormalization, Gelu, Swish, Softmax,
Attention, RotaryEmbedding, sums, products, layout operators, and public arithmetic, all at opset 24 or newer.
"""

from __future__ import annotations

import copy
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import onnx_ir as ir
import onnx_ir.passes.common as passes
from onnxscript.optimizer import fold_constants
from onnxscript.rewriter import RewriteRuleSet
from onnxscript.rewriter.rules import common

from onnxpuma.graph.border import join_outputs, name_outputs, part_outputs
from onnxpuma.graph.constants import MergeStructurePass, lift_constants, set_apart, write_fills
from onnxpuma.graph.dialect import DOMAIN, claim
from onnxpuma.graph.identity import drop_identities
from onnxpuma.graph.marks import is_marked, mark_given, mark_shown
from onnxpuma.graph.model import to_graph
from onnxpuma.graph.opset import raise_opset
from onnxpuma.graph.precision import cast_like, to_single
from onnxpuma.graph.rows import lift_rows
from onnxpuma.graph.rules import (
    activation,
    attention,
    batch_norm,
    division,
    flattened,
    folding,
    fused,
    fused_activation,
    fused_attention,
    fused_linear,
    fused_norm,
    fused_rotary,
    gemm_factors,
    grouped,
    layer_norm,
    length,
    log_probability,
    log_sum,
    logistic,
    lone_filler,
    masked_table,
    nan_guard,
    neutral,
    norm_by_hand,
    norm_scale,
    order,
    power,
    quantised,
    rms_norm,
    rotary,
    rotary_pairs,
    saturation,
    scale,
    shape,
    small_floor,
    weight_only,
)
from onnxpuma.graph.rules.rule import Rule, fresh
from onnxpuma.graph.shapes import infer, infer_again

# A larger constant is folded when it is read (weight_only), or stays in its file.
_LARGEST_FOLDED = 8192
_MOST_ROUNDS = 8

# Copied before anybody applies them: a rule keeps the graph that it last matched, and with it the weights;
# one that PyTorch's exporter applied in this process cannot even be copied.
_NOTHING_DONE = copy.deepcopy([
    common.no_op_cast_rule, common.no_op_expand_rule, common.no_op_transpose_rule,
    common.transpose_transpose_rule, common.reshape_reshape_rule, common.squeeze_reshape_1d_rule,
    common.unsqueeze_unsqueeze_rule, common.collapse_slice_rule,
])  # fmt: skip

# In this order, each until it finds nothing more. Scales follow activations, whose factors they would carry
# away; attention comes last, as it absorbs the scales.
STAGES: tuple[tuple[type[Rule], ...], ...] = (
    (
        *nan_guard.RULES,
        *shape.RULES,
        *neutral.RULES,
        *power.RULES,
        *division.RULES,
        *order.RULES,
        *flattened.RULES,
        *saturation.RULES,
    ),
    (*log_sum.RULES, *log_probability.RULES, *small_floor.RULES),
    (*logistic.RULES, *activation.RULES),
    layer_norm.RULES,
    rms_norm.RULES,
    norm_by_hand.RULES,
    length.RULES,
    scale.RULES,
    (*rotary.RULES, *rotary_pairs.RULES),
    attention.RULES,
    grouped.RULES,
    (*division.LATE, *small_floor.LATE),
)

_FAMILIES = (fused_activation, fused_norm, fused_linear, fused_attention, fused_rotary, quantised)
# (domain, operator) -> the standard float nodes it becomes.
FUSED = {(DOMAIN, op): how for family in _FAMILIES for op, how in family.CONVERSIONS.items()}
QUANTISED = {("", op): how for op, how in quantised.STANDARD.items()}
_QUANTISED_TITLES = {"Mul": "product of integers", "DequantizeLinear": "de-quantised value"}
_SINGLE = "single precision"
# Rules that change the precision: the nodes of the file compute something other than the remaining graph.
ROUNDED = {_SINGLE, *_QUANTISED_TITLES.values(), *(quantised.CONVERSIONS.keys() - _QUANTISED_TITLES)}


@dataclass
class Report:
    """The changes that `canonicalise` made to a model."""

    opset_before: int
    opset_after: int
    before: dict[str, int]
    """Operator -> number of nodes before, without Constant."""
    after: dict[str, int]
    rules: dict[str, int] = field(default_factory=dict)
    """Rule -> how often it was applied, in the order of the passes; rules that never applied are omitted."""
    missed: dict[str, str] = field(default_factory=dict)
    """Node -> why it was not recognised as part of something larger, where one would expect it."""


def canonicalise(model: ir.Model, secret: weight_only.Classify = weight_only.by_rule) -> Report:
    """Rewrite `model` in place; its inputs and outputs keep their names, its weights stay in their files.

    Floats of every kind become float32, including those of inputs and outputs. Metadata (source paths, stack
    traces) is cleared. secret: which constants are weights. Two runs write the same bytes. Cost: one to three
    seconds for twelve layers. Raises UnsupportedModelError for an opset that onnx cannot convert.
    """
    with _quiet("onnx_ir"), _quiet("onnxscript"):
        return _canonicalise(model, secret)


def _canonicalise(model: ir.Model, secret: weight_only.Classify) -> Report:
    report = Report(model.opset_imports.get("", 0), 0, _histogram(model), {})
    outputs = [value.name for value in model.graph.outputs]
    claim(model)
    part_outputs(model.graph)
    _prepare(model)
    changed = to_single(model)
    if changed:
        report.rules[_SINGLE] = changed
    raise_opset(model)
    cast_like(model)
    _unfuse(model, report)
    if any(value.type is None or value.shape is None for value in model.graph.outputs):
        infer(model)
    weight_only.fold(model, secret)
    # Judged only now: a constant computed from weights has become one. The marks bind every later rule.
    weights = secret(to_graph(model))
    set_apart(model, weights)
    mark_shown(model, weights)
    mark_given(model)
    _clean(model)
    for rules in STAGES:
        _repeat(model, rules, report)
    for folds in (gemm_factors, batch_norm, norm_scale, folding):
        report.rules.update(folds.fold(model))
    infer_again(model)
    report.rules.update(lift_rows(model))
    lift_constants(model)
    # Again, as rules made further expressions of weights; later steps split what this would join.
    for step in (weight_only.fold, masked_table.split, lone_filler.known):
        report.rules.update(step(model, secret))
    _finish(model, outputs)
    report.opset_after = model.opset_imports[""]
    report.after = _histogram(model)
    return report


def _repeat(model: ir.Model, rules: Sequence[type[Rule]], report: Report) -> None:
    for _ in range(_MOST_ROUNDS):
        if not _apply(model, rules, report):
            return
        _clean(model)


def _prepare(model: ir.Model) -> None:
    passes.InlinePass()(model)
    write_fills(model)
    for step in (
        passes.ClearMetadataAndDocStringPass(),
        passes.RemoveInitializersFromInputsPass(),
        passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        passes.LiftSubgraphInitializersToMainGraphPass(),
    ):
        step(model)


def _unfuse(model: ir.Model, report: Report) -> None:
    """Replace onnxruntime's own operators by standard ones, and quantised operators by float ones."""
    conversions = dict(FUSED) if DOMAIN in model.opset_imports else {}
    if any(n.op_type in ("DequantizeLinear", "DynamicQuantizeLinear") for g in model.graphs() for n in g):
        conversions |= QUANTISED
    if conversions:
        counts, missed = fused.convert(model, conversions, infer)
        report.rules.update((_QUANTISED_TITLES.get(op, op), count) for op, count in counts.items())
        report.missed.update(missed)


def _clean(model: ir.Model) -> None:
    """Infer shapes; fold small constants; drop no-ops, duplicates and unread nodes."""
    infer(model)
    fold_constants(
        model, onnx_shape_inference=True, input_size_limit=_LARGEST_FOLDED, should_fold=_should_fold
    )
    RewriteRuleSet(fresh(_NOTHING_DONE)).apply_to_model(model)
    drop_identities(model)
    for step in (
        passes.RemoveUnusedNodesPass(),
        passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        MergeStructurePass(),
        passes.CommonSubexpressionEliminationPass(),
        passes.OutputFixPass(),
        passes.NameFixPass(),
    ):
        step(model)


def _should_fold(node: ir.Node) -> bool | None:
    """False for a node that reads a weight: onnxscript would fold some of them at any size."""
    if any(is_marked(v) for v in node.inputs):
        return False
    constants = [v.const_value for v in node.inputs if v is not None and v.const_value is not None]
    return False if any(c.size > _LARGEST_FOLDED for c in constants) else None


def _apply(model: ir.Model, rules: Sequence[type[Rule]], report: Report) -> int:
    """Sweep the graph once; count each rule in the report; return how many applied."""
    made = [rule() for rule in rules]
    RewriteRuleSet([rule.compiled() for rule in made]).apply_to_model(model)
    for rule in made:
        report.missed.update(rule.missed)
        if rule.applied:
            report.rules[rule.title] = report.rules.get(rule.title, 0) + rule.applied
    return sum(rule.applied for rule in made)


def _finish(model: ir.Model, outputs: Sequence[str]) -> None:
    """Drop metadata (of values too) and unused nodes; sort; restore the names of the outputs."""
    join_outputs(model.graph, outputs)
    for step in (
        passes.RemoveUnusedNodesPass(),
        passes.RemoveUnusedFunctionsPass(),
        passes.RemoveUnusedOpsetsPass(),
        passes.TopologicalSortPass(),
        passes.NameFixPass(),
        passes.ClearMetadataAndDocStringPass(),
    ):
        step(model)
    name_outputs(model.graph, outputs)
    _order_initializers(model.graph)
    model.metadata_props.clear()
    model.doc_string = None
    for graph in model.graphs():
        values = [*graph.inputs, *graph.initializers.values(), *(o for n in graph for o in n.outputs)]
        for value in values:
            value.metadata_props.clear()
            value.doc_string = None


def _order_initializers(graph: ir.Graph) -> None:
    """Order by first use, whatever the passes left: some of them remove constants and add them again."""
    used = [v for n in graph.all_nodes() for v in n.inputs if v is not None and v.is_initializer()]
    for value in [v for v in dict.fromkeys(used) if v.graph is graph]:
        graph.initializers.pop(str(value.name))
        graph.register_initializer(value)


def _histogram(model: ir.Model) -> dict[str, int]:
    found = Counter(n.op_type for g in model.graphs() for n in g if n.op_type != "Constant")
    return dict(sorted(found.items(), key=lambda kv: (-kv[1], kv[0])))


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Keep warnings of a library off the user's terminal: serious problems raise an error instead."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
