"""A case of an audit: a protocol, its input words, and who knows each of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from onnxpuma.mpc.audit.views import Input, Program


@dataclass(frozen=True)
class Case:
    """`results`: the values that come out of valid inputs; others tell that the input was not valid."""

    name: str
    program: Program
    inputs: list[Input]
    results: range | None = None


def named(cases: list[Case]) -> Any:
    return pytest.mark.parametrize("case", cases, ids=[c.name for c in cases])
