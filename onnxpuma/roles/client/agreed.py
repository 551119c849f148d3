"""What a client believes of its servers only where all three say the same: model, network, receipts."""

from __future__ import annotations

from collections.abc import Sequence

from onnxpuma.errors import OnnxpumaError, PlanError, ReceiptError
from onnxpuma.mpc.cost import Network
from onnxpuma.roles.request.network import SAME_EVERYWHERE, described, heard
from onnxpuma.roles.shared.model import SharedModel
from onnxpuma.transport import wire_pb2


def agreed_model(copies: list[list[bytes]]) -> SharedModel:
    """The model, if all three servers sent the same one; else PlanError."""
    for number, copy in enumerate(copies):
        if copy != copies[0]:
            raise PlanError(
                f"server {number} sent a different model from server 0",
                "all three must serve the files of one and the same call of `onnxpuma share`",
            )
    return SharedModel.from_menu(copies[0])


def agreed_network(answers: Sequence[wire_pb2.Status | OnnxpumaError]) -> Network:
    """The network for which all three servers plan. Raises PlanError where they disagree, and the error of a
    server that sent no status."""
    found: list[Network] = []
    for server, answer in enumerate(answers):
        if isinstance(answer, OnnxpumaError):
            raise answer
        found.append(heard(answer.network, f"server {server}"))
        if found[server] != found[0]:
            raise PlanError(
                f"server 0 plans for a network of {described(found[0])}, server {server} for one of"
                f" {described(found[server])}",
                SAME_EVERYWHERE,
            )
    return found[0]


def check_signing(answers: Sequence[wire_pb2.Status | OnnxpumaError], due: bool) -> None:
    """ReceiptError where a server signs no receipts although they are due, before anything is sent."""
    for server, answer in enumerate(answers):
        if due and isinstance(answer, wire_pb2.Status) and not answer.signs:
            raise ReceiptError(
                f"server {server} signs no receipts",
                "let all servers and clients have the same [receipts] and signing keys in cluster.toml",
            )
