"""The benchmark beside SPU: PUMA's functions err as the pages state; SPU itself runs by name."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from math import erf
from pathlib import Path

import numpy as np
import peer
import puma
import pytest
import spu_party

CACHE = Path(tempfile.gettempdir()) / "onnxpuma-benchmarks"


def test_gelu_of_puma_errs_most_at_three() -> None:
    x = np.linspace(-6, 6, 60001)
    exact = x * (1 + np.vectorize(erf)(x / np.sqrt(2))) / 2
    apart = np.abs(puma.gelu(x, np) - exact)
    assert apart.max() == pytest.approx(2.0e-2, rel=0.02)
    assert x[apart.argmax()] == pytest.approx(3, abs=1e-3)
    assert apart.mean() == pytest.approx(2.4e-3, rel=0.02)
    assert puma.gelu(np.array([-4.5, 5.0]), np).tolist() == [0, 5]


def test_exp_of_puma_errs_most_near_two() -> None:
    x = np.linspace(puma.LEAST, 0, 14001)
    apart = np.abs(puma.exp(x) - np.exp(x))
    assert apart.max() == pytest.approx(8.5e-3, rel=0.01)
    assert x[apart.argmax()] == pytest.approx(-2, abs=0.05)


def test_softmax_of_puma_drops_what_is_far_below_the_largest() -> None:
    x = np.array([[0.0, -1.0, -14.5], [5.0, 5.0, 5.0]])
    found = puma.softmax(x, np, np.exp)
    assert found[0, 2] == 0
    assert found.sum(axis=-1) == pytest.approx(1)
    assert found[0, :2] == pytest.approx(np.exp(x[0, :2]) / np.exp(x[0, :2]).sum())


def test_options_name_a_model_a_side_and_a_size() -> None:
    parse = peer.arguments().parse_args
    assert (parse([]).model, parse([]).repeat, parse([]).only) == ("bert", 1, None)
    asked = parse(["--model", "gpt2", "--layers", "2", "--tokens", "8", "--only", "spu", "--table", "loop"])
    assert (asked.model, asked.layers, asked.tokens, asked.only, asked.table) == ("gpt2", 2, 8, "spu", "loop")
    with pytest.raises(SystemExit):
        parse(["--only", "another"])
    assert {*peer.TOKENS, *peer.SINGLE} == set(spu_party.WORK)


def test_what_a_party_sent_is_read_from_its_log() -> None:
    line = "Link details: total send bytes 44380592, recv bytes 38765488, send actions 4729, recv actions 4"
    assert spu_party.DETAILS.findall(f"{line}\n{line}") == [("44380592", "4729")] * 2


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_spu_computes_gelu(tmp_path: Path) -> None:
    if not (CACHE / "spu" / "complete").exists():
        pytest.skip("python benchmarks/peer.py was not run here")
    command = [sys.executable, peer.__file__, "--model", "gelu", "--json"]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    (spu,) = json.loads(said)["sides"]
    assert spu["bytes_sent"] / 128_000 == pytest.approx(920, rel=0.1)
    assert 1e-2 < spu["max_error"] < 3e-2
