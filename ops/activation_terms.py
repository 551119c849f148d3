"""An activation that stays at the twins of its pivots, as terms, for the product that reads it."""

from __future__ import annotations

from onnxpuma.mpc.cost import Cost, Network
from onnxpuma.mpc.format import Format
from onnxpuma.mpc.forms import Replicated, Sum3
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.mpc.protocols.fourier import Series
from onnxpuma.mpc.protocols.pivots import over_parts, spread
from onnxpuma.mpc.protocols.smooth import activation_terms
from onnxpuma.mpc.protocols.smooth_reading import Reading, readings_to_terms


def terms_cost(
    network: Network, series: Series, argument: float | None, source: Format, form: type, size: int
) -> Cost:
    """The cost of `to_terms` for arguments of this format and form."""
    way = _reading(network, series, argument, source, form, size)
    return over_parts(size, lambda n: way.cost(n, source, form))


def to_terms(
    party: Party, network: Network, x: Replicated | Sum3, series: Series, argument: float | None
) -> Protocol[Sum3]:
    """The activation of `series`, its parts led by the three pivots (`activation_terms`)."""
    way = _reading(network, series, argument, x.format, type(x), x.size)
    return (yield from spread(party, x, lambda part, pivot: activation_terms(party, part, pivot, way)))


def _reading(
    network: Network, series: Series, argument: float | None, source: Format, form: type, size: int
) -> Reading:
    ways = {way.name: way for way in readings_to_terms(series, argument, source)}

    def cost(way: Reading) -> Cost:
        return over_parts(size, lambda n: way.cost(n, source, form))

    return ways[network.fastest({name: cost(way) for name, way in ways.items()})]
