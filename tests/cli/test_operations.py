"""Operating three servers: status, metrics, logs, several models, reload, restarts of one after the other."""

from __future__ import annotations

import json
import os
import signal
import stat
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np
import pytest

from onnxpuma import InferenceSession
from onnxpuma.config import read_cluster
from onnxpuma.errors import InputError
from onnxpuma.roles.client.client import Client
from onnxpuma.transport.curve import read_secret_key
from tests.cli.site import NAMES, Site, until

MODELS = Path(__file__).resolve().parents[2] / "models"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    models = {"patient": MODELS / "breast-cancer" / "model.onnx", "digits": MODELS / "digits" / "model.onnx"}
    made = Site(tmp_path_factory.mktemp("site"), models)
    try:
        until(made.ready)
        yield made
    finally:
        made.close()


def client(site: Site, name: str = "clinic", model: str = "patient") -> Client:
    return Client(
        read_cluster(site.cluster), read_secret_key(site.folder / f"{name}.secret"), model_name=model
    )


def ask(cli: Any, site: Site, patient: np.ndarray, *more: str, who: str = "clinic") -> Any:
    np.savez(site.folder / "x.npz", measurements=patient)
    own = ("--cluster", site.cluster, "--key", site.folder / f"{who}.secret")
    return cli("infer", *own, "--inputs", site.folder / "x.npz", "--out", site.folder / "y.npz", *more)


def test_each_model_is_chosen_by_its_name(cli, site: Site, patient: np.ndarray):
    assert ask(cli, site, patient, "--model", "patient").status == 0
    with np.load(site.folder / "y.npz") as arrays:
        assert arrays["logits"].shape == (1, 2)
    refused = ask(cli, site, patient)
    assert refused.status == 4
    assert "several models" in refused.message
    assert "name one of digits, patient" in " ".join(refused.err.split())
    unknown = ask(cli, site, patient, "--model", "nobody")
    assert "no model 'nobody'" in unknown.message
    with client(site) as one, client(site, model="digits") as other:
        assert one.model_names == ["digits", "patient"]
        assert one.model.digest != other.model.digest
    key = site.folder / "clinic.secret"
    with InferenceSession("digits", cluster=site.cluster, key=key) as session:
        assert session.get_outputs()[0].shape[-1] == 10


def test_what_one_model_keeps_another_does_not_hold(site: Site, patient: np.ndarray):
    with client(site) as one:
        kept = one.run({"measurements": patient}, [], keep=["logits"]).kept
        again = one.run({"measurements": patient}, release=kept.values())
        assert again.outputs["logits"].shape == (1, 2)
        assert site.messages(0).count("is done") >= 2


def test_status_shows_servers_models_and_peers(cli, site: Site):
    own = ("--cluster", site.cluster, "--key", site.folder / "clinic.secret")
    shown = cli("status", *own)
    assert shown.status == 0
    assert all(f"{i} {name}" in shown.out for i, name in enumerate(NAMES))
    assert "model patient: digest" in shown.out
    assert "at server 0, 1, 2" in shown.out
    servers = json.loads(cli("status", *own, "--json").out)["servers"]
    for party, server in enumerate(servers):
        assert server["ready"]
        assert [p["party"] for p in server["peers"] if p["connected"]] == [i for i in range(3) if i != party]
        assert [model["name"] for model in server["models"]] == ["digits", "patient"]
        assert server["memory_bytes"] > 10_000_000
        assert server["uptime_seconds"] > 0


def test_metrics_and_audit_log_tell_what_was_asked(cli, site: Site, patient: np.ndarray):
    before = [len(audited(site, party)) for party in range(3)]
    assert ask(cli, site, patient, "--model", "patient").status == 0
    for party in range(3):
        code, text = site.page(party, "/metrics")
        assert code == 200
        assert 'onnxpuma_requests_total{kind="run",model="patient",outcome="done"}' in text
        assert "clinic" not in text
        lines = audited(site, party)[before[party] :]
        assert [line["kind"] for line in lines] == ["model", "run"]
        assert lines[1]["client"] == "clinic"
        assert lines[1]["key"] == site.keys["clinic"]
        assert lines[1]["shapes"] == {"measurements": [1, 30]}
        assert lines[1]["outcome"] == "done"
        assert lines[1]["rounds"] > 0
        path = site.folder / f"{NAMES[party]}.audit"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert str(float(patient[0, 0])) not in path.read_text()


def audited(site: Site, party: int) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (site.folder / f"{NAMES[party]}.audit").read_text().splitlines()]


def test_the_log_has_dates(site: Site):
    for entry in site.said(1):
        assert entry["time"][:2] == "20"
        assert entry["time"].endswith("+00:00")
        assert entry["level"] in ("info", "warning", "error")


def reload(cli: Any, site: Site) -> None:
    for name in NAMES:
        told = cli("reload", "--pid-file", site.folder / f"{name}.pid", "--cluster", site.cluster)
        assert told.status == 0, told.err


def test_a_client_comes_and_goes_without_a_restart(cli, site: Site, patient: np.ndarray):
    """And a cluster.toml that is broken meanwhile changes nothing."""
    pids = [process.pid for process in site.processes]
    sound = site.cluster.read_text()
    site.let_in("clinic", "ward", waiting=50)
    reload(cli, site)
    until(lambda: all("client ward may ask; [limits]" in site.messages(party) for party in range(3)))
    assert ask(cli, site, patient, "--model", "patient", who="ward").status == 0
    good = site.cluster.read_text()
    site.cluster.write_text(sound.replace("waiting", "wating"))
    assert cli("reload", "--pid-file", site.folder / "bob.pid", "--cluster", site.cluster).status == 6
    os.kill(site.processes[1].pid, signal.SIGHUP)
    until(lambda: "the old cluster.toml stays in force" in site.messages(1))
    site.cluster.write_text(good)
    assert ask(cli, site, patient, "--model", "patient", who="ward").status == 0
    with client(site, "ward") as gone:
        assert gone.run({"measurements": patient}).outputs
        site.let_in("clinic")
        reload(cli, site)
        until(lambda: all("client ward may not" in site.messages(party) for party in range(3)))
        until(lambda: all("it is no longer on the list" in site.messages(party) for party in range(3)))
    assert ask(cli, site, patient, "--model", "patient", who="ward").status == 7
    assert [process.pid for process in site.processes] == pids
    assert all(process.poll() is None for process in site.processes)


def test_a_restart_of_one_server_after_the_other_loses_no_request(site: Site, patient: np.ndarray):
    done, over, lost = [0], Event(), []

    def keep_asking() -> None:
        with client(site) as one:
            while not over.wait(0.1):
                try:
                    assert one.run({"measurements": patient}).outputs["logits"].shape == (1, 2)
                    done[0] += 1
                except Exception as error:
                    lost.append(error)

    askers = [Thread(target=keep_asking, daemon=True) for _ in range(2)]
    for asker in askers:
        asker.start()
    until(lambda: done[0] >= 2)
    for party in (1, 0, 2):
        assert site.restart(party) == 0
        until(site.ready)
        before = done[0]
        until(lambda before=before: done[0] > before + 2)
    over.set()
    for asker in askers:
        asker.join(60)
    assert lost == []
    assert "party 1 is stopping" in site.messages(0)


def test_a_server_that_is_down_shows_in_the_exit_status(cli, site: Site, patient: np.ndarray):
    site.processes[2].kill()
    site.processes[2].wait()
    own = ("--cluster", site.cluster, "--key", site.folder / "clinic.secret", "--wait", "2")
    until(lambda: site.page(0, "/readyz")[0] == 503)
    shown = cli("status", *own)
    assert shown.status == 7
    assert "2 carol" in shown.out
    assert "server 2" in shown.out
    servers = json.loads(cli("status", *own, "--json").out)["servers"]
    assert [server["up"] for server in servers] == [True, True, False]
    assert "party 2" in servers[0]["why"]
    assert site.page(0, "/healthz")[0] == 200, "it lives, though it cannot serve"
    site.processes[2] = site.start(2)
    until(site.ready)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--model", "a=x", "--model", "a=y"), "is given twice"),
        (("--model", "x", "--model", "b=y"), "has no name"),
        (("--model", "a=x", "--metrics", "nine"), "is not an address and a port"),
    ],
)
def test_options_that_cannot_be_are_refused(cli, site: Site, options: tuple[str, ...], said: str):
    ended = cli("serve", "--cluster", site.cluster, "--key", site.folder / "alice.secret", *options)
    assert ended.status == 6
    assert said in ended.message


@pytest.mark.parametrize("text", ["", "nobody", "-1"])
def test_a_pid_file_that_names_no_process_is_refused(cli, site: Site, tmp_path: Path, text: str):
    path = tmp_path / "pid"
    path.write_text(text)
    ended = cli("reload", "--pid-file", path, "--cluster", site.cluster)
    assert ended.status == 6
    assert "has no number of a process" in ended.message


def test_a_name_that_a_model_lacks_is_an_input_error(site: Site):
    with client(site, model="none") as asking, pytest.raises(InputError, match="no model 'none'"):
        _ = asking.model
