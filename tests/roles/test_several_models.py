"""Several models at the same three servers: who holds what, whose kept values are whose, and the memory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxpuma.errors import ConfigError, InputError, PlanError
from onnxpuma.mpc.cost import USUAL
from onnxpuma.roles.client.client import Client
from onnxpuma.roles.owner.owner import share_model
from onnxpuma.roles.server import holdings
from onnxpuma.roles.server.holdings import check_names, opened
from onnxpuma.roles.server.identity import Identity, Part
from onnxpuma.roles.server.server import Server
from onnxpuma.transport import wire_pb2
from tests.roles.test_kept import NO_PAST, cached_model, rows

SEALS = {i: bytes([i]) * 32 for i in range(3)}
CONTENTS = {i: bytes([64 + i]) * 32 for i in range(3)}


def part(digest: int = 1, dealing: int = 2, contents: Any = None) -> Part:
    return Part(f"{digest:02x}" * 32, f"{dealing:02x}" * 16, contents or CONTENTS, SEALS)


def difference(ours: dict[str, Part], theirs: dict[str, Part]) -> PlanError | None:
    """What party 0 says of party 1."""
    here, there = Identity(0, "1", ours), Identity(1, "1", theirs)
    network = wire_pb2.Network(latency=USUAL.latency, bandwidth=USUAL.bandwidth)
    hello = wire_pb2.Hello(
        version="1", model_digest=there.model_digest, components=there.code(1, 0), network=network
    )
    return here.difference(1, hello)


def test_a_name_in_place_of_the_shared_model_is_refused() -> None:
    config: Any = None  # nothing of it is read
    name: Any = "small"
    with pytest.raises(ConfigError, match="model is the text 'small'") as refused:
        Client(config, config, name)
    assert "model_name='small'" in str(refused.value)


@pytest.mark.parametrize(
    ("theirs", "said"),
    [
        ({"a": part(), "b": part(9)}, "serves another model as 'b' (09090909)"),
        (
            {"a": part(), "b": part(3, 8)},
            "serves shares of the same model from another call of `share` as 'b'",
        ),
        ({"a": part()}, "party 1 serves 'a', party 0 serves 'a', 'b'"),
        ({"a": part(), "c": part(3)}, "party 1 serves 'a', 'c', party 0 serves 'a', 'b'"),
        ({"": part()}, "party 1 serves a model without a name"),
        (
            {"a": part(), "b": part(3, contents={i: bytes(32) for i in range(3)})},
            "component 1 of the weights of 'b' is not the same at party 1 and party 0",
        ),
    ],
)
def test_servers_that_hold_different_models_say_which(theirs: dict[str, Part], said: str) -> None:
    ours = {"a": part(), "b": part(3)}
    assert difference(ours, ours) is None
    error = difference(ours, theirs)
    assert error is not None
    assert said in error.message


def test_a_greeting_of_another_form_is_a_difference() -> None:
    here = Identity(0, "1", {"a": part()})
    for told in (b"", b"\xff", b"\x05ab", bytes(500)):
        assert isinstance(here.difference(1, wire_pb2.Hello(version="1", model_digest=told)), PlanError)


@pytest.mark.parametrize("names", [[], ["", "b"], ["a b"], ["-a"], ["a" * 101]])
def test_names_that_models_cannot_have(names: list[str]) -> None:
    with pytest.raises(ConfigError):
        check_names({name: Path() for name in names})


@pytest.fixture(scope="module")
def cached(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("cached")
    onnx.save(cached_model(), made / "cached.onnx")
    share_model(made / "cached.onnx", made)
    return made


def test_what_a_client_keeps_of_one_model_no_other_model_opens(hall: Any, cached: Path) -> None:
    """Here both are the same files: the handle would fit in every other way."""
    threads = [hall.start(party, {"one": cached, "two": cached}) for party in range(3)]
    assert all(thread.ready.wait(60) for thread in threads)
    config = replace(hall.config, timeouts=replace(hall.config.timeouts, connect=20.0))
    x = rows(6)
    with (
        Client(config, hall.client_keys, model_name="one") as one,
        Client(config, hall.client_keys, model_name="two") as two,
    ):
        kept = one.run({"x": x[:, :4], "past": NO_PAST}, keep=["present"]).kept["present"]
        with pytest.raises(InputError, match="do not hold 'present'"):
            two.run({"x": x[:, 4:5], "past": kept}, ["y"])
        two.release([kept])
        assert one.run({"x": x[:, 4:5], "past": kept}, ["y"]).outputs["y"].shape == (1, 1, 4)
        one.release([kept])
        with pytest.raises(InputError, match="do not hold 'present'"):
            one.run({"x": x[:, 4:5], "past": kept}, ["y"])
    with (
        Client(config, hall.client_keys) as unsaid,
        pytest.raises(InputError, match="several models"),
    ):
        _ = unsaid.model


def chain(width: int, layers: int = 12) -> onnx.ModelProto:
    """x times `layers` matrices of `width` squared."""
    rng = np.random.default_rng(1)
    weights = [
        numpy_helper.from_array(rng.normal(0, 0.1, (width, width)).astype(np.float32), f"w{i}")
        for i in range(layers)
    ]
    nodes = [helper.make_node("MatMul", [f"h{i}", f"w{i}"], [f"h{i + 1}"]) for i in range(layers)]
    ends = [helper.make_tensor_value_info(f"h{i}", TensorProto.FLOAT, ["n", width]) for i in (0, layers)]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def test_the_memory_is_divided_by_need(hall: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = {name: tmp_path / name for name in ("large", "small")}
    for name, width in (("large", 256), ("small", 128)):
        onnx.save(chain(width), tmp_path / f"{name}.onnx")
        share_model(tmp_path / f"{name}.onnx", folders[name])
    took: list[int] = []
    monkeypatch.setattr(
        holdings, "load_graphs", lambda model, shares, place, network: took.append(place.memory) or {}
    )
    with opened(folders, 1, hall.config, None, USUAL):
        large, small = took
    assert large == 4 * small
    took.clear()
    with opened(folders, 1, hall.config, (large + small) * 4 // 5, USUAL):
        assert sum(took) <= (large + small) * 4 // 5
        assert took[0] < large
        assert took[1] < small
    with pytest.raises(ConfigError), opened(folders, 1, hall.config, 1000, USUAL):
        pass


def test_a_server_is_told_the_folders_of_its_models(hall: Any, cached: Path) -> None:
    with pytest.raises(ConfigError, match="no name for a model"):
        Server(0, hall.config, hall.keys[0], {"a model": cached})
