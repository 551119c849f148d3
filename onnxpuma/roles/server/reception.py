"""A client's request becomes a job: it costs little until it fits, and never more than the limits allow.

Before planning, a server checks the client's share of the queue, the form of the request, and the presence
of the shares that its declared shapes require. It plans the request, within a budget, when its turn comes,
and notes it: the plan of the request that most likely continues it may be made ahead.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from onnxpuma.config import ClusterConfig
from onnxpuma.errors import InputError, PlanError
from onnxpuma.graph.model import Node
from onnxpuma.interpreter import Interpreter
from onnxpuma.mpc.protocols.dpf import ONE_HOT
from onnxpuma.plan.blueprint import Blueprint
from onnxpuma.plan.budget import Budget
from onnxpuma.plan.known.readers import needed
from onnxpuma.plan.plan import SecretInput
from onnxpuma.plan.shapes import check_shapes
from onnxpuma.plan.together.join import Joints
from onnxpuma.roles.request.ahead import Ahead
from onnxpuma.roles.request.commitment import COMMITMENT_BYTES, check_auditable
from onnxpuma.roles.request.feed import check_filling
from onnxpuma.roles.request.message import MADE_HERE, Asked, buffer_lengths, check_private, read_public_part
from onnxpuma.roles.request.network import described
from onnxpuma.roles.request.plans import Plans
from onnxpuma.roles.request.question import Question
from onnxpuma.roles.server.admission import Admission
from onnxpuma.roles.server.identity import DIGEST_BYTES
from onnxpuma.roles.server.job import Job
from onnxpuma.roles.server.machine import machine_bytes
from onnxpuma.roles.server.store import KeptShares, Store
from onnxpuma.transport import wire_pb2
from onnxpuma.transport.client_port import Request

MOST_RELEASED = 4096
MEMORY_SHARE = 0.75  # of the machine's, if no limit is set


@dataclass(frozen=True)
class Served:
    """One graph of the model: its plans, and this server's shares of its weights."""

    plans: Plans
    interpreter: Interpreter
    joints: Joints = field(default_factory=Joints)  # plans of several requests together


class Reception:
    """Takes requests in at server `party`. models: by name; their graphs by digest, since a request names a
    graph by its digest."""

    def __init__(
        self, party: int, models: Mapping[str, Mapping[bytes, Served]], store: Store, config: ClusterConfig
    ) -> None:
        self.party, self.models, self.store = party, models, store
        self.admission = Admission()
        self.ahead = Ahead(self._budget)
        self.adopt(config)

    def adopt(self, config: ClusterConfig) -> None:
        """From now on take requests of these clients, within these limits."""
        self.limits, self._clients = config.limits, config.clients
        self._signs = config.signers is not None
        self.memory = self.limits.request_megabytes * 1_000_000 or int(MEMORY_SHARE * machine_bytes())
        self.store.limits = config.kept

    def model_of(self, request: Request) -> str:
        """The name of the model that a request is for. InputError if there is none, or none is named of
        several."""
        return chosen(request.body.model, self.models)

    def graph_of(self, request: Request) -> Served:
        """The graph that a request names; any if it names none of ours: `read_public_part` refuses that.
        InputError as `model_of`."""
        graphs = self.models[self.model_of(request)]
        return graphs.get(request.body.model_digest, next(iter(graphs.values())))

    def take_in(self, request: Request, waiting: Iterable[Request]) -> Job:
        """Turn a request into a job. waiting: the requests that wait already.

        Raises BusyError when there are too many of them or the client asks too often, InputError and
        PlanError for a request whose form does not fit the model. Cost: in proportion to the bytes sent,
        not to the work requested.
        """
        self.admission.check(request, waiting, self.limits)
        plans = self.graph_of(request).plans
        blueprint = plans.blueprint
        _check_commitment(request.body.commitment, blueprint, self._signs)
        _check_counts(request.body, blueprint)
        if [len(buffer) for buffer in request.public[:1]] != [DIGEST_BYTES]:
            raise InputError("the request carries no digest of a plan", MADE_HERE)
        asked = _within(read_public_part(request, blueprint), self.model_of(request))
        if asked.network != plans.network:
            raise PlanError(
                f"the client plans for {described(asked.network)}, server {self.party} for"
                f" {described(plans.network)}",
                MADE_HERE,
            )
        check_shapes(blueprint, asked.shapes)
        self._budget().check_inputs(asked.shapes.items())
        check_sent(blueprint, asked, self.party, request)
        held = {
            name: self.store.get(request.client, *place, asked.shapes[name], asked.views[name])
            for name, place in asked.held.items()
        }
        check_held(blueprint, asked, held)
        key, alone = self._clients.get(request.client, ""), bool(request.body.commitment)
        return Job(request, asked, held, key, alone=alone)

    def let_go(self, request: Request) -> bool:
        """Forget the kept values named by a request that asks for nothing else; False if it names none.

        Raises InputError when it names more than one request may, and as `model_of`.
        """
        owner = self.model_of(request).encode()
        released = [(entry.handle + owner, entry.name) for entry in request.body.release]
        if len(released) > MOST_RELEASED:
            raise InputError(
                f"the request names {len(released)} values to release, {MOST_RELEASED} are allowed",
                MADE_HERE,
            )
        self.store.release(request.client, released)
        return bool(released)

    def plan(self, job: Job) -> None:
        """Make the plan of a job whose turn has come.

        Raises PlanError when it differs from the client's plan, InputError when it exceeds a limit or the
        client sent other shares than it takes, and what `compile_plan` raises.
        """
        asked = job.asked
        plans = self.graph_of(job.request).plans
        plan = plans.get(asked.shapes, asked.public, asked.selection, self._budget())
        if plan.digest != asked.plan_digest:
            raise PlanError(
                f"party {self.party} plans this request differently from the client",
                "install the same versions of onnxpuma, onnx, onnxruntime and numpy everywhere",
            )
        check_private(plan, self.party, job.request.private)
        self.store.check_room(plan, job.request.client)
        job.plan = plan
        if asked.selection.kept:
            question = Question(asked.shapes, asked.public, asked.selection)
            self.ahead.saw(plans, question, asked.handle, [handle for handle, _ in asked.held.values()])

    def _budget(self) -> Budget:
        limits = self.limits
        traffic = limits.traffic_megabytes * 1_000_000
        return Budget(self.memory, limits.elements, traffic, limits.planning)


def _within(asked: Asked, model: str) -> Asked:
    """The same, with handles that only requests for this model can name: what one model's owner closes, a
    graph of another must not open."""
    owner = model.encode()
    return replace(
        asked,
        handle=asked.handle + owner,
        held={name: (handle + owner, kept) for name, (handle, kept) in asked.held.items()},
        release=tuple((handle + owner, kept) for handle, kept in asked.release),
    )


def check_held(blueprint: Blueprint, asked: Asked, held: Mapping[str, KeptShares]) -> None:
    """InputError unless each input is filled as the model's owner allows (feed.check_filling)."""
    for name, spec in blueprint.inputs.items():
        kept = held.get(name)
        if kept is not None:
            check_filling(spec, 1, kept.output.name, kept.output.closed)
        else:
            check_filling(spec, math.prod(asked.shapes.get(name, (0,))))


def check_sent(blueprint: Blueprint, asked: Asked, party: int, request: Request) -> None:
    """InputError unless the request has the buffers that its declared shapes require under any plan: those of
    inputs that a needed node combines with a weight."""
    sent = [len(buffer) for buffer in request.private]
    certain: dict[str, list[int]] = {}
    for node in needed(blueprint.graph.nodes, asked.selection.outputs):
        for name in node.inputs:
            spec = blueprint.inputs.get(name or "")
            if spec is not None and spec.secret and name not in asked.held:
                entry = _shared(blueprint, node, spec.name, asked)
                if entry is not None:
                    certain[entry.operand] = buffer_lengths(entry, party)
    for operand, lengths in certain.items():
        for length in lengths:
            if length not in sent:
                raise InputError(
                    f"server {party} was given no shares of '{operand}': {length} bytes are due",
                    MADE_HERE,
                )
            sent.remove(length)


def _shared(blueprint: Blueprint, node: Node, name: str, asked: Asked) -> SecretInput | None:
    """How `name` enters this node as an operand; None if that is uncertain before planning."""
    spec = blueprint.inputs[name]
    weights = [n for n in node.inputs if n and blueprint.visibility.get(n) == "secret"]
    if node.op == "Gather" and not node.domain:
        if node.inputs[1] != name or not weights:
            return None
        table = blueprint.graph.initializers[weights[0]].shape
        depth = int(table[node.attribute("axis")])
        return SecretInput(name, asked.shapes[name], spec.dtype, ONE_HOT, depth)
    if node.op in ("MatMul", "Gemm", "Conv") and spec.dtype.kind == "f" and weights:
        return SecretInput(name, asked.shapes[name], spec.dtype, blueprint.resting)
    return None


def _check_commitment(commitment: bytes, blueprint: Blueprint, signs: bool) -> None:
    """InputError for a commitment that could not be opened here, or is none."""
    if commitment and not signs:
        raise InputError("these servers sign no receipts", "use no canaries: nothing would prove a cheat")
    if commitment:
        check_auditable(blueprint)
    if len(commitment) not in (0, COMMITMENT_BYTES):
        raise InputError(f"the request's commitment has {len(commitment)} bytes", MADE_HERE)


def _check_counts(body: wire_pb2.Request, blueprint: Blueprint) -> None:
    """InputError for lists longer than the things they may name, and for names given twice."""
    most = {
        "inputs": (len(body.inputs), len(blueprint.inputs)),
        "outputs": (len(body.outputs), len(blueprint.outputs)),
        "outputs to keep": (len(body.keep), len(blueprint.outputs)),
        "values to release": (len(body.release), MOST_RELEASED),
    }
    for what, (count, allowed) in most.items():
        if count > allowed:
            raise InputError(f"the request names {count} {what}, {allowed} are allowed", MADE_HERE)
    for names in ([entry.name for entry in body.inputs], list(body.outputs), list(body.keep)):
        if len(set(names)) != len(names):
            raise InputError("the request gives a name twice", MADE_HERE)


def chosen(name: str, names: Mapping[str, object]) -> str:
    """Which of these models a client means that writes `name`, or nothing: the only one. Otherwise
    InputError, which lists them."""
    if name in names:
        return name
    if not name and len(names) == 1:
        return next(iter(names))
    if list(names) == [""]:
        raise InputError(f"the servers have no model '{name}'", "they have one, without a name: name none")
    what = f"the servers have no model '{name}'" if name else "the servers have several models"
    raise InputError(what, f"name one of {', '.join(names)}")
