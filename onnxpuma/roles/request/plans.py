"""A cache of the plans of one model, by input shapes and public inputs: planning takes 0.1 s and more.

A plan for other shapes or public inputs is made from what the last one with the same outputs found where that
still holds (plan/known/recall.py): the next token's takes about a third of the time. A plan may also be made
ahead, in pieces (ahead.py); a request that asks for it meanwhile has it finished, and one that needs what the
last plan found takes that over, and the plan ahead is dropped.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Lock

import numpy as np

from onnxpuma.mpc.cost import USUAL, Network
from onnxpuma.plan.blueprint import Blueprint
from onnxpuma.plan.budget import Budget, needed_bytes, public_bytes
from onnxpuma.plan.compile import compile_plan
from onnxpuma.plan.known.recall import Recall
from onnxpuma.plan.plan import Plan, Selection
from onnxpuma.roles.request.pieces import Pieces
from onnxpuma.roles.request.question import Question

KEPT = 64  # some 0.9 MB each for a model of a thousand steps; two for each of 32 texts that grow side by side
RECALLED = 4  # selections whose last plan helps to make the next one
KEPT_BYTES = 1 << 29  # of public arrays; every plan counts those of the model again

_log = logging.getLogger("onnxpuma.roles")


@dataclass(frozen=True, eq=False)
class Begun:
    """A plan that is made ahead."""

    question: Question
    pieces: Pieces[Plan]


class Plans:
    """Compiles plans of `blueprint` for `network`, and keeps those used last. Threads may share it."""

    def __init__(self, blueprint: Blueprint, network: Network = USUAL) -> None:
        self.blueprint, self.network = blueprint, network
        self._plans: OrderedDict[bytes, Plan] = OrderedDict()
        self._recalls: OrderedDict[Selection | None, Recall] = OrderedDict()
        self._begun: Begun | None = None
        self._lock = Lock()

    def get(
        self,
        shapes: Mapping[str, tuple[int, ...]],
        public: Mapping[str, np.ndarray],
        selection: Selection | None = None,
        budget: Budget | None = None,
    ) -> Plan:
        """The plan at these shapes and public values, for this selection of outputs. Raises what
        `compile_plan` raises."""
        question = Question(shapes, public, selection)
        with self._lock:
            plan = self._plans.get(question.key) or self._finished(question)
            if plan is None:
                plan = self._made(question, budget)
            self._keep(question, plan)
            return plan

    def begin(self, question: Question, budget: Budget) -> Begun | None:
        """Begin to make a plan ahead, for `go_on`; None where it is there, or another one is begun."""
        with self._lock:
            if self._begun is not None or question.key in self._plans:
                return None
            self._begun = Begun(question, Pieces(lambda pause: self._ahead(question, budget, pause)))
            return self._begun

    def go_on(self, begun: Begun, until: Callable[[], bool]) -> bool:
        """Make more of a plan until the condition holds. False once nothing is left to do: it is there, was
        dropped, or cannot be made."""
        if not self._lock.acquire(blocking=False):
            return True  # another thread plans
        try:
            if self._begun is not begun:
                return False
            if not begun.pieces.own:
                self._begun = None
                return False
            if self._ends(begun, until):
                self._begun = None
                if begun.pieces.result is not None:
                    self._keep(begun.question, begun.pieces.result)
            return self._begun is begun
        finally:
            self._lock.release()

    def __len__(self) -> int:
        return len(self._plans)

    # ---- within: the caller holds the lock ------------------------------------------------------------

    def _finished(self, question: Question) -> Plan | None:
        """The plan that is made ahead, if it is this one and this thread makes it; it is begun no more. One
        that would need the same recall is dropped."""
        begun = self._begun
        if begun is None or begun.question.selection != question.selection:
            return None
        self._begun = None
        if begun.question.key != question.key or not begun.pieces.own:
            return None
        self._ends(begun)
        return begun.pieces.result

    def _ends(self, begun: Begun, until: Callable[[], bool] = lambda: False) -> bool:
        """Whether a plan that is made ahead is made, or cannot be: then a request for it is told why."""
        try:
            return begun.pieces.go_on(until)
        except Exception as error:
            _log.debug("a plan was begun ahead that cannot be made: %s", error)
            return True

    def _ahead(self, question: Question, budget: Budget, pause: Callable[[], None]) -> Plan:
        """A plan with all that a request asks of it. The time of pauses is not counted."""

        def paused() -> None:
            began = time.monotonic()
            pause()
            budget.began += time.monotonic() - began

        budget.pause = paused
        plan = self._made(question, budget)
        for step in plan.steps:
            _ = step.digest
            paused()
        _ = plan.digest, needed_bytes(plan)
        return plan

    def _made(self, question: Question, budget: Budget | None) -> Plan:
        selection = question.selection
        recall = self._recalls.setdefault(selection, Recall())
        self._recalls.move_to_end(selection)
        if len(self._recalls) > RECALLED:
            self._recalls.popitem(last=False)
        return compile_plan(
            self.blueprint,
            question.shapes,
            question.public,
            selection,
            budget=budget,
            network=self.network,
            recall=recall,
        )

    def _keep(self, question: Question, plan: Plan) -> None:
        self._plans[question.key] = plan
        self._plans.move_to_end(question.key)
        while len(self._plans) > KEPT or (len(self._plans) > 1 and self._bytes() > KEPT_BYTES):
            self._plans.popitem(last=False)

    def _bytes(self) -> int:
        return sum(public_bytes(plan) for plan in self._plans.values())
