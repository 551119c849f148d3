"""A process that may open too few files says so before libzmq aborts it."""

from __future__ import annotations

import subprocess
import sys

import pytest

CODE = """
import resource, socket, sys
from onnxpuma.errors import ConfigError
from onnxpuma.transport.descriptors import require_descriptors
soft, hard, opened, least, raised = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
held = [socket.socket() for _ in range(opened)]
try:
    require_descriptors(least, raised=bool(raised))
except ConfigError as error:
    print(error.message)
else:
    print(*resource.getrlimit(resource.RLIMIT_NOFILE))
"""


def said(*numbers: int) -> str:
    command = [sys.executable, "-c", CODE, *map(str, numbers)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize(
    ("soft", "hard", "opened", "least", "raised", "expected"),
    [
        (256, 512, 0, 100, 0, "256 512"),
        (256, 512, 0, 100, 1, "512 512"),
        (64, 512, 0, 100, 0, "512 512"),
        (256, 512, 200, 100, 0, "512 512"),
    ],
)
def test_the_soft_limit_rises_where_it_is_too_low(
    soft: int, hard: int, opened: int, least: int, raised: int, expected: str
) -> None:
    assert said(soft, hard, opened, least, raised) == expected


def test_too_low_a_hard_limit_is_an_error() -> None:
    assert "may have 64 files and sockets open" in said(64, 64, 0, 100, 1)
    assert "it needs 100 more" in said(256, 256, 200, 100, 0)
