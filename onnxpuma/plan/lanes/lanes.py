"""A plan in lanes: while the words of one part of the rows travel, the servers compute the other parts.

On a long link a round's words are under way for longer than a server takes to compute the next ones. No row
of a feed-forward layer or of a norm depends on another, and a row of attention needs the others only as keys
and values. So a step is cut into one for each lane wherever plan/together/rows.py says that its result is
then the results of the lanes end to end. A lane has messages of its own (interpreter.py). To cut and to join
is local; all else are the same protocols, with the same masks, on fewer rows.
"""

from __future__ import annotations

from dataclasses import replace
from weakref import WeakKeyDictionary

from onnxpuma.mpc.cost import Cost, Network
from onnxpuma.plan.lanes.cutting import Cutting
from onnxpuma.plan.lanes.waiting import Waiting
from onnxpuma.plan.plan import Plan, Step, rounds_of, total

LANES = 2
LONG = 0.005  # seconds one way, from which on a link is long
# Of the time that rounds take, how much bytes must take, in the plan and in the steps that are cut.
TRAVEL = 0.05
WEIGHTS = 10**9  # elements of all weights: larger models may be streamed, and each lane reads them anew
LATER = 1.05  # times the rounds of a plan, that it may take in lanes

# None for a plan that stays whole: a plan that stood for itself here would never be freed.
_laned: WeakKeyDictionary[Plan, Plan | None] = WeakKeyDictionary()


def lanes_of(plan: Plan) -> int:
    """How many lanes a plan has."""
    return 1 + max((step.lane or 0 for step in plan.steps), default=0)


def in_lanes(plan: Plan) -> Plan:
    """The plan that servers run for this one, found once: itself where lanes gain nothing."""
    if plan not in _laned:
        found = _laid_out(plan)
        _laned[plan] = None if found is plan else found
    return _laned[plan] or plan


def cost_in_lanes(plan: Plan) -> Cost:
    """What a run of this plan sends, and its rounds, in each of which every lane has one turn.

    A step may wait for a lane whose turn comes later, so there can be a few more rounds than in the longest
    path.
    """
    found = in_lanes(plan)
    return plan.cost if found is plan else Cost(_rounds(found), found.cost.bits)


def links_seconds(plan: Plan, network: Network, computing: float) -> float:
    """The seconds that the links add to a run in which a server computes for so long: every round waits once,
    and in lanes words travel while servers compute."""
    cost = cost_in_lanes(plan)
    travel = network.seconds(Cost(0, cost.bits))
    if in_lanes(plan) is not plan:
        travel = max(0.0, travel - computing)
    return network.seconds(Cost(cost.rounds)) + travel


def _laid_out(plan: Plan) -> Plan:
    network = plan.network
    if network.latency < LONG:  # such a plan need not be priced
        return plan
    cost = plan.cost

    def travels(bits: int) -> bool:
        return network.seconds(Cost(0, bits)) >= TRAVEL * network.seconds(Cost(cost.rounds))

    if not travels(cost.bits) or _weights(plan) > WEIGHTS:
        return plan
    steps = [step.numbered(index) for index, step in enumerate(Cutting(plan.opset, LANES).run(plan))]
    found = replace(plan, steps=tuple(steps))
    gains = travels(total([step for step in steps if step.lane is not None]).bits)
    return found if gains and _rounds(found) <= LATER * cost.rounds else plan


def _weights(plan: Plan) -> int:
    """The elements of all secret weights."""
    read = (o for step in plan.steps for o in step.call.inputs if o is not None and o.secret and o.weight)
    return sum({o.name: o.size for o in read}.values())


def _rounds(plan: Plan) -> int:
    """The rounds of a run in lanes, as `onnxpuma.interpreter` takes them."""
    waiting, rounds = Waiting(plan), 0
    running: list[list[tuple[Step, int]]] = [[] for _ in range(lanes_of(plan))]

    def goes_on(step: Step, left: int) -> bool:
        if not left:
            waiting.ended(step)
        return bool(left)

    while waiting.ready or any(running):
        for lane, steps in enumerate(running):
            steps[:] = [(step, left - 1) for step, left in steps if goes_on(step, left - 1)]
            while due := waiting.due(lane):
                steps += [(step, rounds_of(step)) for step in due if goes_on(step, rounds_of(step))]
        rounds += any(running)
    return rounds
