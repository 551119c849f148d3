"""The line below a growing text: layers, bytes, seconds to go; drawn on a terminal alone."""

from __future__ import annotations

import sys

import pytest

from onnxpuma.commands.standing import StandingLine, layer_of
from onnxpuma.observe import Standing

NAMES = ["embed/Gather", "MatMul model.layers.0.mlp/node_1", "model.layers.11.mlp/node_2", "lm_head/node_3"]


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("MatMul model.layers.7.self_attn.q_proj/node_linear", 7),
        ("MatMul /transformer/h.3/attn/MatMul", 3),
        ("Add /encoder/layer.10/Add", 10),
        ("Add blocks.4/Add", 4),
        ("MatMul node_linear_12", None),
        ("Add path.3/Add", None),
        ("Mul model.layers.x/Mul", None),
    ],
)
def test_which_layer_a_node_belongs_to(name: str, layer: int | None) -> None:
    assert layer_of(name) == layer


def test_what_the_line_says() -> None:
    line = StandingLine(NAMES)
    line.begin("token 3")
    assert line.told(Standing(0, 1, "2 requests wait before this one")) == (
        "token 3: 2 requests wait before this one"
    )
    early = Standing(1, 100, "embed/Gather", 2000, 0.5)
    line.show(early)
    assert line.told(early) == "token 3: step 1 of 100, 2 kB sent by server 0"
    half = Standing(50, 100, NAMES[1], 3_000_000, 4.0)
    line.show(half)
    assert line.told(half) == "token 3: layer 1 of 12, 3 MB sent by server 0, 4 s to go"
    line.begin("token 4")
    assert line.told(early).endswith(", 3.5 s to go")  # as the last run took
    assert line.told(Standing(80, 100, "", 0, 8.0)).endswith(", 2 s to go")  # it takes longer than that


def test_a_layer_is_not_told_again() -> None:
    """Steps of two layers may run side by side."""
    line = StandingLine(NAMES)
    line.begin("prompt")
    for name in NAMES[2], NAMES[1]:
        line.show(Standing(50, 100, name, 0, 1.0))
    assert "layer 12 of 12" in line.told(Standing(51, 100, NAMES[1], 0, 1.0))


def test_it_is_drawn_below_the_text_and_taken_away(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    line = StandingLine(NAMES)
    line.begin("prompt")
    now = Standing(50, 100, NAMES[1] + "\x1b[31m", 0, 1.0)
    line.show(now)
    line.clear()
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    line.show(Standing(0, 1, "name\x1b[31m"))
    line.show(now)  # too soon
    line.clear()
    line.clear()
    drawn = capsys.readouterr().err
    assert drawn.startswith("\x1bD\x1bM\x1b7\x1b[1E")
    assert "\x1b[31m" not in drawn
    assert "layer" not in drawn
    assert drawn.endswith("\x1b7\x1b[1E\x1b[2K\x1b8")
    assert drawn.count("\x1b[2K") == 1
