"""The plans of one model that were used last, by input shapes and public inputs: planning takes 0.1 s."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping

import numpy as np

from onnxpuma.plan.blueprint import Blueprint
from onnxpuma.plan.compile import compile_plan
from onnxpuma.plan.plan import Plan, Selection

KEPT = 16


class Plans:
    """Compiles plans of `blueprint` and keeps the last few."""

    def __init__(self, blueprint: Blueprint) -> None:
        self.blueprint = blueprint
        self._plans: OrderedDict[bytes, Plan] = OrderedDict()

    def get(
        self,
        shapes: Mapping[str, tuple[int, ...]],
        public: Mapping[str, np.ndarray],
        selection: Selection | None = None,
    ) -> Plan:
        """The plan at these shapes and public values, for this selection of outputs. Raises what
        `compile_plan` raises."""
        key = _key(shapes, public, selection)
        plan = self._plans.get(key)
        if plan is None:
            plan = compile_plan(self.blueprint, shapes, public, selection)
            self._plans[key] = plan
            if len(self._plans) > KEPT:
                self._plans.popitem(last=False)
        self._plans.move_to_end(key)
        return plan


def _key(
    shapes: Mapping[str, tuple[int, ...]], public: Mapping[str, np.ndarray], selection: Selection | None
) -> bytes:
    total = hashlib.sha256(repr((sorted(shapes.items()), selection)).encode())
    for name, array in sorted(public.items()):
        total.update(repr((name, array.dtype.str, array.shape)).encode())
        total.update(np.ascontiguousarray(array).data)
    return total.digest()
