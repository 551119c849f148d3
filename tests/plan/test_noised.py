"""What policy.json records of noise: it survives the file, and one that the graph contradicts is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from onnxpuma.errors import ConfigError, PlanError
from onnxpuma.plan.blueprint import POLICY, SKELETON, Blueprint
from onnxpuma.plan.noise.wish import OutputNoise
from onnxpuma.plan.owner_policy import Policy
from onnxpuma.plan.policy_file import digest_of, written
from onnxpuma.plan.prepare import prepare

MODELS = Path(__file__).resolve().parents[2] / "models"
PATIENT, TALES = MODELS / "breast-cancer" / "model.onnx", MODELS / "tales" / "model.onnx"
WISH = OutputNoise(outputs=["logits"], sensitivity=1.0, rho=0.5, answers=10, clip=(-4, 4))


@pytest.fixture(scope="module")
def noisy() -> Blueprint:
    return prepare(PATIENT, Policy(noise=WISH))[0]


def test_the_record_is_read_as_it_was_written(noisy: Blueprint) -> None:
    files = noisy.files()
    read = Blueprint.parse(files[SKELETON], files[POLICY], "here")
    assert read.noised == noisy.noised
    assert read.digest == noisy.digest
    assert read.noised is not None
    assert read.noised.loss <= 0.5
    assert read.noised.loss == pytest.approx(0.5, rel=1e-4)


def test_noise_is_part_of_the_digest(noisy: Blueprint) -> None:
    others = [replace(WISH, answers=11), replace(WISH, rho=0.4), replace(WISH, together=True)]
    digests = {prepare(PATIENT, Policy(noise=wish))[0].digest for wish in others}
    assert len({noisy.digest, prepare(PATIENT)[0].digest, *digests}) == 5


@pytest.mark.parametrize(
    "changes",
    [
        {"noise": None},
        {"checked": True},
        {"noise": {"answers": 0}},
        {"noise": {"answers": True}},
        {"noise": {"kind": "laplace"}},
        {"noise": {"outputs": {}}},
        {"noise": {"delta": 0.0}},
        {"noise": {"more": 1}},
        {"scale": 16},
        {"scale": -1},
        {"unit": 1e-9},
    ],
)
def test_a_record_that_does_not_fit_the_graph_is_refused(noisy: Blueprint, changes: dict[str, Any]) -> None:
    """With the right digest, so the form and the nodes decide."""
    files = noisy.files()
    policy = json.loads(files[POLICY])
    for key, value in changes.items():
        if key in ("scale", "unit"):
            policy["noise"]["outputs"]["logits"][key] = value
        elif isinstance(value, dict):
            policy[key].update(value)
        else:
            policy[key] = value
    policy["digest"] = digest_of(files[SKELETON], policy)
    with pytest.raises(PlanError, match="noise") as error:
        Blueprint.parse(files[SKELETON], written(policy), "here")
    assert error.value.hint


def test_a_skeleton_without_its_nodes_is_refused(noisy: Blueprint) -> None:
    bare = prepare(PATIENT)[0].files()[SKELETON]
    policy = json.loads(noisy.files()[POLICY])
    policy["digest"] = digest_of(bare, policy)
    with pytest.raises(PlanError):
        Blueprint.parse(bare, written(policy), "here")


def test_the_smaller_of_two_bounds_counts() -> None:
    def distance(**changes: Any) -> int:
        noised = prepare(PATIENT, Policy(noise=replace(WISH, **changes)))[0].noised
        assert noised is not None
        return noised.outputs["logits"].distance

    root = 2**0.5
    assert distance(clip=None, error=0.0) == pytest.approx(2**18, abs=2)
    assert distance(clip=None, error=0.01) == pytest.approx((1 + 0.02 * root) * 2**18, abs=2)
    assert distance(sensitivity=None) == pytest.approx(8 * root * 2**18, abs=2)
    assert distance(clip=(-0.1, 0.1)) == pytest.approx(0.2 * root * 2**18, abs=4)
    assert distance(kind="laplace", rho=None, epsilon=1.0, sensitivity=None) == 16 * 2**18 + 1


def test_a_generating_model_has_other_ways_out() -> None:
    with pytest.raises(ConfigError, match="fixed size"):
        prepare(TALES, Policy(noise=WISH))


def test_noise_on_a_hidden_output_from_which_nothing_follows() -> None:
    with pytest.raises(ConfigError):
        prepare(PATIENT, Policy(noise=WISH, hide=["logits"]))
