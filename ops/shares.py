"""Operands as kernels need them: a secret one with two components, or a public one as trivial shares."""

from __future__ import annotations

from onnxpuma.errors import ProtocolError
from onnxpuma.mpc.format import Format
from onnxpuma.mpc.forms import Form, PublicWords, Replicated, Shares, Sum3, trivial
from onnxpuma.mpc.party import Party
from onnxpuma.ops.late import LateValue


def replicated(value: object) -> Replicated:
    """A secret operand that the plan has truncated."""
    if isinstance(value, Replicated):
        return value
    raise ProtocolError(f"a kernel takes no {type(value).__name__} here", "let the plan truncate the operand")


def secret(value: object) -> Shares:
    """A secret operand, truncated or not."""
    if isinstance(value, (Replicated, Sum3)):
        return value
    raise ProtocolError(f"a kernel takes no {type(value).__name__} here", "one operand must be secret")


def in_one_ring(a: Replicated, b: Replicated) -> tuple[Replicated, Replicated]:
    """Two factors mod the smaller of their rings."""
    bits = min(a.bits, b.bits)
    return tuple(x if x.bits == bits else x.modulo(bits) for x in (a, b))  # type: ignore[return-value]


def as_shares(party: Party, value: LateValue, format: Format) -> Replicated:
    """A public array as the shares (value, 0, 0); a secret operand unchanged."""
    if value is None or isinstance(value, (Form, PublicWords)):
        return replicated(value)
    return trivial(party.index, value, format)
