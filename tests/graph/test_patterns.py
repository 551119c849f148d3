"""Patterns of names: stars and sets as in a shell, and brackets that belong to the names themselves."""

from __future__ import annotations

import pytest

from onnxpuma.errors import ConfigError
from onnxpuma.graph.patterns import matching, picked

NAMES = ["layers[0].weight", "layers[10].weight", "layers0.weight", "head"]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("layers[0].weight", {"layers[0].weight"}),
        ("layers[*].weight", {"layers[0].weight", "layers[10].weight"}),
        ("*[1?].*", {"layers[10].weight"}),
        ("[h]ead", {"head"}),
        ("[!l]*", {"head"}),
        ("layers[0-9].weight", {"layers0.weight"}),
        ("layers[9].weight", set()),
        ("h*", {"head"}),
    ],
)
def test_brackets(pattern: str, found: set[str]) -> None:
    assert picked(NAMES, pattern) == found


def test_in_the_order_of_the_names() -> None:
    assert matching("weight", NAMES, ["h*", "layers[0].weight"]) == ["layers[0].weight", "head"]


def test_a_pattern_that_picks_nothing() -> None:
    with pytest.raises(ConfigError, match=r"no weight matches 'layers\[9\].weight'"):
        matching("weight", NAMES, ["head", "layers[9].weight"])
    unmatched: set[str] = set()
    assert matching("weight", NAMES, ["head", "x"], unmatched) == ["head"]
    assert unmatched == {"x"}
