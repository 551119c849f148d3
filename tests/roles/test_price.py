"""onnxpuma.price: the cost of a model as an object, a page, a picture; and its layers."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

import onnxpuma
from onnxpuma.config import NetworkConfig
from onnxpuma.errors import ConfigError
from onnxpuma.plan.compile import compile_plan
from onnxpuma.plan.examine.layers import by_layer, by_operator
from onnxpuma.plan.examine.report import NodeEntry
from onnxpuma.plan.examine.widths import with_widths
from onnxpuma.plan.owner_policy import DEFAULT
from onnxpuma.plan.prepare import prepare
from onnxpuma.roles.owner.price import Price

TALES = Path(__file__).resolve().parents[2] / "models" / "tales" / "model.onnx"


@pytest.fixture(scope="module")
def price() -> Price:
    return onnxpuma.price(TALES, {"input_ids": (2, 8)})


def test_it_is_the_price_of_the_plan(price: Price) -> None:
    blueprint = with_widths(prepare(TALES)[0], DEFAULT, {"batch": 2, "sequence": 8})
    plan = compile_plan(blueprint, {"input_ids": (2, 8), "suppressed_ids": (0,)}, {})
    assert (price.bytes, price.rounds) == (round(plan.cost.bytes), plan.cost.rounds)
    assert price.report.inputs["input_ids"]["shape"] == (2, 8)
    assert not price.assumed
    assert not price.refused
    assert f"{price.rounds} rounds" in repr(price)
    assert repr(price.report).startswith("<ModelReport: ")


def test_sizes_that_nobody_asked_for_are_told() -> None:
    found = onnxpuma.price(TALES, {"batch": 3})
    symbol, size = next(iter(found.assumed.items()))
    assert found.report.inputs["input_ids"]["shape"] == (3, size)
    assert f"sizes assumed: {symbol} = {size}" in repr(found)
    assert f"Sizes assumed: {symbol} = {size}" in found._repr_html_()


def test_a_far_network_makes_it_slow(price: Price) -> None:
    far = onnxpuma.price(TALES, {"input_ids": (2, 8)}, NetworkConfig(40.0, 100.0))
    assert far.seconds > 0.04 * far.rounds > price.seconds
    assert far.rounds <= price.rounds


@pytest.mark.parametrize(
    ("shapes", "said"),
    [
        ({"ids": (1, 8)}, "no input 'ids'"),
        ({"rows": 3}, "no dimension 'rows'"),
        ({"input_ids": (1, 8, 8)}, "no shape of input 'input_ids'"),
    ],
)
def test_shapes_that_do_not_fit(shapes: dict[str, int | tuple[int, ...]], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        onnxpuma.price(TALES, shapes)


def test_layers_and_operators_add_up_to_the_nodes(price: Price) -> None:
    report = price.report
    names = [part.name for part in report.layers]
    assert [name for name in names if "blocks" in name] == [f"encoder.blocks.{i}" for i in range(3)][
        : sum("blocks" in name for name in names)
    ]
    for parts in (report.layers, report.operators):
        assert sum(part.bytes for part in parts) == sum(node.bytes for node in report.nodes)
        assert sum(part.nodes for part in parts) == len(report.nodes)
    sent = [part.bytes for part in report.operators]
    assert sent == sorted(sent, reverse=True)


def test_a_node_without_a_layer_belongs_to_the_one_before() -> None:
    names = ["shape", "/embed/Gather", "/model/layers.0/mlp/Add", "sum_3/row", "/lm_head/MatMul", "h.11/attn"]
    nodes = [NodeEntry(name, "Add", None, "secret", bytes=place) for place, name in enumerate(names)]
    parts = [(part.name, part.bytes) for part in by_layer(nodes)]
    assert parts == [("start", 0), ("embed", 1), ("model/layers.0", 5), ("lm_head", 4), ("h.11", 5)]
    assert by_operator(nodes)[0].nodes == 6


def test_the_page_is_whole_and_loads_nothing(price: Price) -> None:
    text = price.html()
    assert not re.search(r"https?:|<script|<link|src=", text)
    assert text.count("<svg") == 5
    for drawing in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        root = ElementTree.fromstring(drawing)
        bars = [float(bar.attrib["width"]) for bar in root.iter("rect")]
        assert bars
        assert max(bars) == 420
    for part in price.report.layers:
        assert not part.rounds or part.name in text


def test_names_of_a_model_are_no_markup() -> None:
    from onnxpuma.plan.examine.page import chart

    part = by_layer([NodeEntry("/<script>/x", "Add", None, "secret", bytes=7)])[0]
    drawn = chart("Bytes", [part], lambda each: each.bytes, str)
    assert "<script>" not in drawn
    assert "&lt;script&gt;" in drawn


def test_a_figure_has_a_bar_for_each_layer(price: Price) -> None:
    pytest.importorskip("matplotlib")
    figure = price.plot()
    sending = [part for part in price.report.layers if part.rounds]
    assert [len(axes.patches) for axes in figure.axes] == 3 * [len(sending)]
