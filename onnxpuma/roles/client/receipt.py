"""The client's side of receipts: it checks what the servers signed against what it sent and received."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from onnxpuma.errors import ReceiptError
from onnxpuma.roles.request.receipt import Receipt, client_code, code_of, heard
from onnxpuma.transport import wire_pb2
from onnxpuma.transport.cluster import Answer
from onnxpuma.transport.link import Buffer, as_bytes
from onnxpuma.transport.request import request_digest

_HINT = "send the request again; if it happens again, ask the owner of that server"


def taken_receipt(
    answers: Sequence[Answer],
    signers: Sequence[str] | None,  # the signing keys of the three servers; None: no receipts
    terms: int,  # buffers of an answer that are terms of outputs
    client_key: str,
    body: wire_pb2.Request,
    public: Sequence[Buffer],
    private: Sequence[Sequence[Buffer]],
) -> tuple[list[Answer], Receipt | None]:
    """The answers without their receipts, and the three receipts, checked.

    Raises ReceiptError when a receipt is missing or malformed, when its signature is wrong, when the three do
    not fit together, or when they are about another request, other inputs or other outputs; it names the
    servers.
    """
    if signers is None:
        return [replace(answer, buffers=answer.buffers[: terms + 1]) for answer in answers], None
    found = []
    for party, answer in enumerate(answers):
        if len(answer.buffers) != terms + 2:
            raise ReceiptError(
                f"server {party} sent no receipt",
                "let all servers and clients have the same [receipts] and signing keys in cluster.toml",
            )
        found.append(heard(party, answer.buffers[-1], signers[party]))
    receipt = Receipt(tuple(signed for signed, _ in found))
    receipt.check(signers)
    sent = wire_pb2.Request()
    sent.CopyFrom(body)
    sent.id, sent.public_buffers = answers[0].request, len(public)
    due = {
        "request": request_digest(sent, [as_bytes(buffer) for buffer in public]).hex(),
        "client": client_code(client_key).hex(),
        "model": body.model_digest.hex(),
        "plan": as_bytes(public[0]).hex(),
    }
    for party, (signed, salt) in enumerate(found):
        mine = {
            **due,
            "inputs": code_of(salt, "inputs", private[party]),
            "outputs": code_of(salt, "outputs", answers[party].buffers[:terms]),
        }
        for name, value in mine.items():
            if signed.statement[name] != value:
                raise ReceiptError(
                    f"server {party} signed for another {name.removesuffix('s')} than this client's", _HINT
                )
    return [replace(answer, buffers=answer.buffers[:-1]) for answer in answers], receipt
