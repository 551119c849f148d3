"""A cache of the plans of one model, by input shapes and public inputs: planning takes 0.1 s and more.

A plan for other shapes or public inputs is made from what the last one with the same outputs found where that
still holds (plan/known/recall.py): the next token's takes about a third of the time.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from threading import Lock

import numpy as np

from onnxpuma.mpc.cost import USUAL, Network
from onnxpuma.plan.blueprint import Blueprint
from onnxpuma.plan.budget import Budget, public_bytes
from onnxpuma.plan.compile import compile_plan
from onnxpuma.plan.known.recall import Recall
from onnxpuma.plan.plan import Plan, Selection

KEPT = 32
RECALLED = 4  # selections whose last plan helps to make the next one
KEPT_BYTES = 1 << 29  # of public arrays; every plan counts those of the model again


class Plans:
    """Compiles plans of `blueprint` for `network`, and keeps those used last. Threads may share it."""

    def __init__(self, blueprint: Blueprint, network: Network = USUAL) -> None:
        self.blueprint, self.network = blueprint, network
        self._plans: OrderedDict[bytes, Plan] = OrderedDict()
        self._recalls: OrderedDict[Selection | None, Recall] = OrderedDict()
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
        key = _key(shapes, public, selection)
        with self._lock:
            return self._get(key, shapes, public, selection, budget)

    def _get(
        self,
        key: bytes,
        shapes: Mapping[str, tuple[int, ...]],
        public: Mapping[str, np.ndarray],
        selection: Selection | None,
        budget: Budget | None,
    ) -> Plan:
        plan = self._plans.get(key)
        if plan is None:
            recall = self._recalls.setdefault(selection, Recall())
            self._recalls.move_to_end(selection)
            if len(self._recalls) > RECALLED:
                self._recalls.popitem(last=False)
            plan = compile_plan(
                self.blueprint,
                shapes,
                public,
                selection,
                budget=budget,
                network=self.network,
                recall=recall,
            )
            self._plans[key] = plan
            while len(self._plans) > KEPT or (len(self._plans) > 1 and self._bytes() > KEPT_BYTES):
                self._plans.popitem(last=False)
        self._plans.move_to_end(key)
        return plan

    def __len__(self) -> int:
        return len(self._plans)

    def _bytes(self) -> int:
        return sum(public_bytes(plan) for plan in self._plans.values())


def _key(
    shapes: Mapping[str, tuple[int, ...]], public: Mapping[str, np.ndarray], selection: Selection | None
) -> bytes:
    total = hashlib.sha256(repr((sorted(shapes.items()), selection)).encode())
    for name, array in sorted(public.items()):
        total.update(repr((name, array.dtype.str, array.shape)).encode())
        total.update(np.ascontiguousarray(array).data)
    return total.digest()
