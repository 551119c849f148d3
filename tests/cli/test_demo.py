"""demo and models: the shipped models run, and the demo shows what was really sent and opened."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from onnxpuma.commands.local import start_servers
from onnxpuma.commands.pictures import draw_classes, draw_input, probabilities
from onnxpuma.shipped import shipped_model, shipped_models

SHARES: list[str] = []  # of one run, for the test that compares two runs


def test_the_default_demo_shows_every_side(cli):
    ended = cli("demo")
    assert ended.status == 0
    shares = re.findall(r"server [012]  ((?:[0-9a-f]{16} ){4})", ended.out)
    assert len(shares) == 6
    assert len(set(shares)) == 6
    SHARES.extend(" ".join(shares).split())
    secure, plain = (ended.out.split(title)[1].split("\n")[1] for title in ("client opens", "in the clear"))
    assert secure.split()[0] == plain.split()[0]
    for text in ("mean radius", "true class: ", "online", "rounds", "MB"):
        assert text in ended.out


def test_the_shares_differ_from_run_to_run(cli):
    """Compared with the shares of the test above, if it ran."""
    second = re.findall(r"[0-9a-f]{16}", cli("demo").out)
    first = SHARES or re.findall(r"[0-9a-f]{16}", cli("demo").out)
    assert first
    assert second
    assert not set(first) & set(second)


@pytest.mark.slow
def test_the_language_model_tells_a_story(cli):
    ended = cli("demo", "tales")
    assert ended.status == 0
    same, whole = map(int, re.findall(r"the same token (\d+) times of (\d+)", ended.out)[0])
    assert same == whole > 3


def test_a_name_that_is_none_is_refused_with_those_that_are(cli):
    ended = cli("demo", "nothing")
    assert ended.status == 6
    assert "breast-cancer" in ended.err


def test_an_example_that_is_none_is_refused(cli):
    ended = cli("demo", "digits", "--example", "100000")
    assert ended.status == 6
    assert "no example 100000" in ended.message


def test_models_are_listed_with_their_score(cli):
    out = cli("models").out
    for name, model in shipped_models().items():
        assert name in out
        assert model.card["about"] in out
        assert model.path.is_file()


def test_every_shipped_model_has_examples_that_can_be_drawn():
    for name, model in shipped_models().items():
        assert len(model.inputs) == len(model.labels) > 0, name
        assert any(line.strip() for line in draw_input(model, model.inputs[:1]))


def test_a_picture_is_darker_where_there_is_more_ink():
    image = np.zeros((1, 1, 8, 8), np.float32)
    image[0, 0, 2, 3] = 16
    lines = draw_input(shipped_model("digits"), image)
    assert lines[2] == " " * 6 + "@@" + " " * 8
    assert not "".join(lines[:2] + lines[3:]).strip()


def test_classes_are_drawn_likeliest_first():
    lines = draw_classes(["a", "bb", "c", "d"], np.array([0.0, 2.0, 1.0, -9.0]))
    assert [line.split()[0] for line in lines] == ["bb", "c", "a"]
    assert probabilities(np.array([1000.0, 1000.0])).tolist() == [0.5, 0.5]


def test_missing_kernel_is_said_where_the_servers_are_started(monkeypatch: pytest.MonkeyPatch):
    started = []
    monkeypatch.setattr("onnxpuma.roles.local.cluster.LocalCluster", lambda *a, **k: started.append((a, k)))
    monkeypatch.setattr("onnxpuma.mpc.ring.native._native", None)
    monkeypatch.setattr("onnxpuma.mpc.ring.native._warned", False)
    with pytest.warns(RuntimeWarning, match="many times slower"):
        start_servers("shared", 2)
    assert started == [(("shared",), {"threads": 2})]


def test_models_lie_inside_the_package():
    assert all(Path(m.folder).parent.parent.name == "onnxpuma" for m in shipped_models().values())
