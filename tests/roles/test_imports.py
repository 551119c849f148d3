"""What a server imports when it starts: nothing that fetches, and nothing heavy that it does not need."""

from __future__ import annotations

import subprocess
import sys

FETCHING = ("urllib.request", "http.client", "requests", "httpx", "huggingface_hub", "transformers", "torch")
HEAVY = ("onnx.reference", "onnxscript", "rich", "scipy", "sympy", "typer")
OF_OTHERS = ("jsonschema", "opendp", "prometheus_client", "pydantic", "starlette", "uvicorn")
OUR_ROOMS = (
    "backend", "check", "commands", "gateway", "graph.canonicalise", "roles.client", "roles.owner",
    "session", "tasks",
)  # fmt: skip


def test_a_server_imports_what_it_needs() -> None:
    forbidden = {*FETCHING, *HEAVY, *OF_OTHERS, *(f"onnxpuma.{room}" for room in OUR_ROOMS)}
    code = f"import onnxpuma.roles.local.party, sys; print(*set(sys.modules) & {forbidden!r})"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not said.stdout.split()
