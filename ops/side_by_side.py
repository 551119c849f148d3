"""The two operators that bring values of several requests together and take them apart again.

They are not ONNX operators: a run of several requests has them (plan/together/). Both are local.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.forms import Form, joined
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.mpc.protocols.dpf import Dealt, SecretIds, joined_ids
from onnxpuma.ops.registry import Call, Kernel, Operator, as_first
from onnxpuma.standard.signature import declare

DOMAIN = "onnxpuma.together"


def join(party: Party, call: Call, *values: Dealt) -> Protocol[Sequence[Any]]:
    """Values of several requests end to end along the attribute `axis`, each filled up with zeros to `size`
    places along the axis `filled`, if that is one."""
    yield from ()
    axis = int(call.attribute("axis"))
    ids = [value for value in values if isinstance(value, SecretIds)]
    if ids:
        return [joined_ids(ids, call.outputs[0].shape)]
    forms = [value for value in values if isinstance(value, Form)]
    filled, size = int(call.attribute("filled")), int(call.attribute("size"))
    if filled >= 0:
        before = [(0, 0)] * filled
        forms = [
            x.pad([*before, (0, size - x.shape[filled]), *[(0, 0)] * (len(x.shape) - filled - 1)])
            for x in forms
        ]
    return [joined(forms, axis)]


def part(party: Party, call: Call, x: Form) -> Protocol[Sequence[Form]]:
    """The values of one request: `size` places along `axis`, from `start` on."""
    yield from ()
    axis, start, size = (int(call.attribute(name)) for name in ("axis", "start", "size"))
    index = (*(slice(None),) * axis, slice(start, start + size))
    return [x[index]]


def _operator(name: str, kernel: Kernel) -> Operator:
    return Operator(
        name=name,
        kernel=kernel,
        cost=lambda call: Cost(),
        result=as_first,
        defers=lambda call, index: True,
        integers=True,
        moves=True,
        narrow=True,
        beside=lambda call: [None] * len(call.outputs),
        reaches=True,
    )


declare(DOMAIN, "Join", axis=0, filled=-1, size=0)
declare(DOMAIN, "Part", axis=0, start=0, size=0)
JOIN = _operator("Join", join)
PART = _operator("Part", part)
