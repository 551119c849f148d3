"""The walk over a graph: for each node who computes it, and for each step the forms of its operands.

A node whose inputs are public runs now, in the clear. A node that depends on the client's input and public
values alone is the client's (a position counted from ids, say): it costs nothing and leaks nothing. All
others become steps, in the order of the graph.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

import onnxpuma.ops  # noqa: F401  (registers the operators)
from onnxpuma.errors import OnnxpumaError
from onnxpuma.graph.function import function_body
from onnxpuma.graph.infer import infer_node, misfit
from onnxpuma.graph.model import Node, ValueType
from onnxpuma.graph.run import run_node
from onnxpuma.mpc.forms import Replicated
from onnxpuma.mpc.protocols.dpf import SecretIds
from onnxpuma.ops.beside import fits
from onnxpuma.ops.registry import FRACTION, Call, Operand, Operator, altered, find
from onnxpuma.plan.blueprint import Blueprint
from onnxpuma.plan.budget import Budget
from onnxpuma.plan.checks import Watched, watched
from onnxpuma.plan.control import Unbounded, unroll
from onnxpuma.plan.known import (
    Known,
    Refusal,
    draft_operand,
    expected,
    given_types,
    left_in,
    needed,
    no_kernel,
    uses_of,
    way_out,
)
from onnxpuma.plan.late import taken
from onnxpuma.plan.lookups import looked_up
from onnxpuma.plan.masks import drafted, given, refusal, with_beside
from onnxpuma.plan.plan import SecretInput, Selection, Step
from onnxpuma.plan.ranges import at_client, bounded, entered, ranged
from onnxpuma.plan.scaling import MOST_DEFERRED, WITH_ROOM, Scales
from onnxpuma.plan.undefined import evened, guarded, is_nan


class Walk:
    def __init__(
        self, blueprint: Blueprint, public_values: Mapping[str, np.ndarray], selection: Selection
    ) -> None:
        self.budget, self.watched = Budget.unlimited(), Watched()
        self.blueprint = blueprint
        self.graph = blueprint.graph
        self.public_values = public_values
        self.selection = selection
        self.nodes = needed(self.graph.nodes, selection.outputs)
        self.weights = {name: self.graph.initializers[name] for name in blueprint.weights}
        self.values: dict[str, Known] = {}
        self.steps: list[Step] = []
        self.client_nodes: list[Node] = []
        self.inputs: dict[str, SecretInput] = {}
        self.held: dict[str, SecretInput] = {}
        self.refusals: list[Refusal] = []
        self.unknown: dict[str, bool] = {}  # what refused nodes would have made -> whether it is secret
        self.wanted: set[str] = set()  # what refused nodes would read
        self.producers = {name: node for node in self.nodes for name in node.outputs if name}
        scales = Scales(self.nodes, self.graph, blueprint.weights, blueprint.public_inputs, selection.kept)
        self.finer = scales.made({n: f - FRACTION for n, f in blueprint.fractions.items()})
        self.uses = uses_of(needed(self.nodes, selection.outputs, shapes=False), selection.outputs)

    # -- the three kinds of node ------------------------------------------------------------

    def visit(self, node: Node) -> None:
        names = [n for n in (*node.inputs, *(c for g in node.subgraphs for c in g.captured())) if n]
        if any(name in self.unknown for name in names):
            self._pass_over(node)
            return
        known = [self.values[name] for name in names]
        constant = all(k.constant for k in known)
        if node.traits.of_shape:
            self._run_public(node, [np.broadcast_to(np.float32(0), known[0].type.shape)], constant)  # type: ignore[arg-type]
        elif node.op == "CastLike" and known[0].value is not None:  # of the other input only the type matters
            self._run_public(node, [known[0].value, np.zeros(0, known[1].type.dtype)], known[0].constant)
        elif all(k.value is not None for k in known):
            self._run_public(node, [self.values[n].value if n else None for n in node.inputs], constant)
        elif all(k.value is not None or k.client for k in known):
            self._leave_to_client(node)
        elif node.traits.unrolled:
            self._unroll(node)
        elif not looked_up(self, node):
            self._plan_step(evened(self, node), constant)

    def _unroll(self, node: Node) -> None:
        """If, Loop, Scan and IsNaN, as the nodes that they come down to."""
        try:
            (is_nan if node.op == "IsNaN" else unroll)(self, node)
        except Unbounded as error:
            self._refuse(node, str(error))

    def _run_public(self, node: Node, inputs: Sequence[np.ndarray | None], constant: bool) -> None:
        self.budget.before_public(node, inputs, lambda: self._infer(node))
        outer = (
            {n: k.value for n, k in self.values.items() if k.value is not None} if node.subgraphs else None
        )
        try:
            values = run_node(node, inputs, self.graph.opset, outer)
        except OnnxpumaError as error:
            self._refuse(node, error.message, sizes=True)
            return
        for name, value in zip(node.outputs, map(np.asarray, values), strict=True):
            if name:
                self.values[name] = Known(ValueType(value.dtype, value.shape), value, constant=constant)
                self.budget.take_public(node.name, value.nbytes)

    def _leave_to_client(self, node: Node) -> None:
        try:
            types = self._infer(node)
        except OnnxpumaError as error:
            if node.traits.control:  # of its turns, or its branch, the shapes can be told
                self._unroll(node)
            else:
                self._refuse(node, error.message, sizes=True)
            return
        self.client_nodes.append(node)
        bounds = at_client(self.blueprint, self.values, node, types)
        for name, kind, bound in zip(node.outputs, types, bounds, strict=True):
            if name:
                self.values[name] = Known(kind, client=True, constant=False, bound=bound)

    def _plan_step(self, node: Node, constant: bool) -> None:
        found = find(node)
        if found is None:
            self._expand(node)
            return
        if any(self.values[n].type.dtype.kind == "O" for n in node.inputs if n):
            self._refuse(node, "it puts text beside a secret, and shares are numbers: ask for those")
            return
        try:
            types = self._types(node)
        except OnnxpumaError as error:
            self._refuse(node, error.message, sizes=True)
            return
        self.budget.before_secret(node, given_types(self.values, node), types)
        operands = tuple(None if n is None else self._operand(n, node, i) for i, n in enumerate(node.inputs))
        whole = [o for o in operands if o and o.secret and o.dtype.kind != "f" and o.form is not SecretIds]
        if whole and not found.integers:
            self._refuse(node, "it computes on secret integers or booleans: it is supported for reals only")
            return
        call = Call(node, operands, drafted(self.uses, node, types), self.graph.opset)
        draft = taken(self, ranged(self.blueprint, call), found)
        secret = draft.secrets
        reason = refusal(draft, found) if secret else "none of its inputs is secret"
        if reason is not None:
            self._refuse(node, reason, sizes=" is beyond " in reason)
            return
        # an operand that arrives untruncated where the kernel does not take it was resolved by its producer
        left = left_in(draft.outputs, found.result(draft))
        weight = all(o.weight for o in secret)
        made = tuple(altered(o, weight=weight, finer=self.finer.get(o.name, 0)) for o in left)
        call = bounded(self.blueprint, altered(draft, outputs=with_beside(draft, found, made)), found)
        call = watched(self, call, found)
        resolves = tuple(self._must_resolve(o, found, call) for o in call.outputs)
        # only what needs no message: a server that starts again must not be a step behind the others
        constant = constant and weight and found.layout
        self.steps.append(Step(len(self.steps), found, call, node.outputs, resolves, constant))
        for operand, resolve in zip(call.outputs, resolves, strict=True):
            kept = altered(operand, form=Replicated, fraction=operand.resting) if resolve else operand
            kind = ValueType(kept.dtype, kept.shape)
            self.values[operand.name] = Known(kind, operand=kept, constant=constant)

    def share(self, name: str) -> None:
        """An input that enters as shares whatever reads it: from the client, or held by the servers."""
        kind = self.values[name].type
        held = name in self.selection.held
        entry, operand = given({} if held else self.uses, self.graph, name, kind)
        (self.held if held else self.inputs)[name] = entry
        self.values[name] = Known(kind, operand=entered(self.blueprint, entry, operand, held), constant=False)

    # -- operands and forms -------------------------------------------------------------------

    def _operand(self, name: str, node: Node, place: int) -> Operand:
        known = self.values[name]
        shape = tuple(int(d) for d in known.type.shape or ())  # type: ignore[arg-type]
        if known.value is not None:
            return Operand(name, shape, known.type.dtype, known.value)
        if known.operand is not None:
            return known.operand
        if node.op == "Gather" and place == 1:  # the client's ids
            table = self.values[node.inputs[0]]  # type: ignore[index]
            depth = int(table.type.shape[node.attribute("axis")])  # type: ignore[index]
            ids = SecretInput(name, shape, known.type.dtype, depth)
            self.inputs.setdefault(ids.operand, ids)
            return Operand(ids.operand, shape, known.type.dtype, form=SecretIds)
        entry, operand = given(self.uses, self.graph, name, known.type)
        self.inputs.setdefault(name, entry)
        return entered(self.blueprint, entry, operand, made=known.bound)

    def _must_resolve(self, operand: Operand, producer: Operator, call: Call) -> bool:
        """Whether a product is truncated at once: unless its one consumer takes it as it is."""
        if not operand.deferred:
            return False
        uses = self.uses.get(operand.name, [])
        if operand.name in self.selection.kept:
            return True
        if operand.hollow and guarded(self.producers, self.uses, operand.name):
            return True
        if uses == [None] and operand.name in self.selection.opened:
            return False  # nobody else reads it: its terms are shifted as they leave
        if len(uses) != 1 or uses[0] is None or operand.fraction > MOST_DEFERRED:
            return True
        if operand.fraction > WITH_ROOM and any(o.finer for o in call.secrets):
            return True
        consumer, place = uses[0]
        found = find(consumer)
        if found is None:
            return True
        if operand.form is Replicated and not found.layout and not consumer.traits.scaled:
            return True
        reads = enumerate(consumer.inputs)
        inputs = tuple(operand if i == place else expected(self.values, n) for i, n in reads)
        ahead = ranged(self.blueprint, Call(consumer, inputs, (), self.graph.opset))
        return not found.defers(ahead, place) or not fits(operand, aware=found.beside is not None)

    def _infer(self, node: Node) -> list[ValueType]:
        values = [None if n is None else self.values[n].value for n in node.inputs]
        return infer_node(node, given_types(self.values, node), values, self.graph.opset)

    def _expand(self, node: Node) -> None:
        """An operator without a kernel runs as the function that the standard defines it by, if it does."""
        try:
            body = function_body(node, given_types(self.values, node), self.graph.opset)
        except OnnxpumaError as error:  # it is made of lists, say
            self._refuse(node, f"{no_kernel(node)}; its function: {error.message}")
            return
        before = len(self.refusals)
        for part in body:
            self.visit(part)
        reasons = self.refusals[before:]
        if reasons or not body:
            del self.refusals[before:]
            why = f"; as the function that defines it: {reasons[0]}" if reasons else ""
            self._refuse(node, no_kernel(node) + why)

    def _types(self, node: Node) -> list[ValueType]:
        """Types of the outputs; where onnx does not infer a shape, found by running the node on zeros: no
        shape that a kernel makes depends on what is secret."""
        try:
            return self._infer(node)
        except OnnxpumaError as error:
            given = given_types(self.values, node)
            self.budget.before_secret(node, given, filter(None, given))
            inputs = [None if n is None else self.values[n].stand_in() for n in node.inputs]
            try:
                found = [ValueType(v.dtype, v.shape) for v in run_node(node, inputs, self.graph.opset)]
            except OnnxpumaError:
                raise error from None
            if misfit(node, given, found):
                raise
            return found

    def _refuse(self, node: Node, reason: str, sizes: bool = False) -> None:
        """Note why this node cannot run, and go on as if it could where the types of its outputs are known:
        the nodes after it are to be named in the same error."""
        operator = f"{node.domain}::{node.op}" if node.domain else node.op
        reason = reason.removeprefix(f"node '{node.name}' ({node.op})").removeprefix(":").strip()
        reason += way_out(node, self.weights, self.nodes, sizes)
        self.refusals.append(Refusal(node.name, operator, self.graph.opset, reason, sizes))
        self.wanted.update(n for n in node.inputs if n)
        try:
            types = self._infer(node)
        except OnnxpumaError:
            types = []
        if not types or any(t.dtype.kind != "f" for t in types):
            self._lose(node)
            return
        for name, kind in zip(node.outputs, types, strict=True):
            if name:
                self.values[name] = Known(kind, operand=draft_operand(name, kind), constant=False)

    def _pass_over(self, node: Node) -> None:
        """A node after one whose result is not known: only whether its operator exists can be said."""
        if self._lose(node) and find(node) is None and not node.traits.unrolled:
            self.refusals.append(Refusal(node.name, node.op, self.graph.opset, no_kernel(node)))

    def _lose(self, node: Node) -> bool:
        """Nothing is known of what this node makes, but whether it is secret; a shape never is."""
        names = [n for n in node.inputs if n]
        self.wanted.update(names)
        of_shape = node.traits.of_shape
        secret = not of_shape and any(
            self.unknown[n] if n in self.unknown else self.values[n].value is None for n in names
        )
        self.unknown.update(dict.fromkeys(node.outputs, secret))
        return secret
