"""A secret key that root hands to a service: systemd and Kubernetes let the service read it as its group."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from onnxpuma.errors import ConfigError
from onnxpuma.transport import curve
from onnxpuma.transport.curve import keygen, read_secret_key


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a file of root's")
@pytest.mark.parametrize(
    ("mode", "service", "allowed"),
    [
        (0o440, 10001, True),
        (0o640, 10001, True),
        (0o444, 10001, False),
        (0o460, 10001, False),
        (0o440, 0, False),  # root's own: nobody else needs it
    ],
)
def test_the_group_of_a_service_may_read_a_key_of_roots(
    mode: int, service: int, allowed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = keygen(tmp_path / "alice")
    path = tmp_path / "alice.secret"
    path.chmod(mode)
    monkeypatch.setattr(curve.os, "geteuid", lambda: service)
    if allowed:
        assert read_secret_key(path) == pair
    else:
        with pytest.raises(ConfigError, match="others than its owner"):
            read_secret_key(path)


def test_the_group_may_not_read_a_key_of_the_services_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keygen(tmp_path / "alice")
    path = tmp_path / "alice.secret"
    path.chmod(0o440)
    monkeypatch.setattr(curve.os, "geteuid", lambda: path.stat().st_uid)
    with pytest.raises(ConfigError, match="others than its owner"):
        read_secret_key(path)
