"""Sin and Cos of secret angles."""

from __future__ import annotations

from collections.abc import Sequence

from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.forms import Form, Replicated
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.mpc.protocols.harmonic import COSINE, SINE, harmonic, harmonic_cost
from onnxpuma.mpc.protocols.pivots import over_parts, spread
from onnxpuma.ops.limits import input_below
from onnxpuma.ops.registry import Call, operator

_SERIES = {"Sin": SINE, "Cos": COSINE}


def _cost(call: Call) -> Cost:
    return over_parts(call.given(0).size, lambda n: harmonic_cost(n, _SERIES[call.node.op], call.reals))


@operator("Sin", "Cos", cost=_cost, limits=input_below(2.0**24), error="1e-5", tolerance=1e-5)
def wave(party: Party, call: Call, x: Replicated) -> Protocol[Sequence[Form]]:
    """The sine or the cosine of an angle in radians of any size."""
    series = _SERIES[call.node.op]
    return [(yield from spread(party, x, lambda part, pivot: harmonic(party, part, pivot, series)))]
