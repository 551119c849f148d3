"""The send buffer between servers: asked for where the kernel grants it, and left alone elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest
import zmq

from onnxpuma.transport import sockets

UNSET = -1


def buffer_of(kernel: Path) -> int:
    """The size that a socket asks for on a machine with these settings."""
    with pytest.MonkeyPatch.context() as patch, zmq.Context() as context, context.socket(zmq.PUSH) as socket:
        patch.setattr(sockets, "KERNEL", kernel)
        sockets.widen(socket)
        return int(socket.getsockopt(zmq.SNDBUF))


@pytest.mark.parametrize(
    ("allowed", "chosen", "asked"),
    [
        ("212992", "4096 16384 4194304", UNSET),  # older kernels: it would shrink to 416 kB
        ("4194304", "4096 16384 4194304", sockets.SEND_BUFFER),
        ("33554432", "4096 65536 4194304", sockets.SEND_BUFFER),
        ("33554432", "4096 65536 33554432", UNSET),  # the kernel's own choice goes further
    ],
)
def test_a_buffer_is_asked_for_where_that_makes_it_larger(
    tmp_path: Path, allowed: str, chosen: str, asked: int
) -> None:
    (tmp_path / "core").mkdir()
    (tmp_path / "ipv4").mkdir()
    (tmp_path / "core" / "wmem_max").write_text(f"{allowed}\n")
    (tmp_path / "ipv4" / "tcp_wmem").write_text(f"{chosen}\n".replace(" ", "\t"))
    assert buffer_of(tmp_path) == asked


def test_a_kernel_that_does_not_tell_is_left_alone(tmp_path: Path) -> None:
    assert buffer_of(tmp_path) == UNSET
