"""The two public files of a graph, skeleton.onnx and policy.json: written in one way, read only as written.

policy.json: version, digest, and the content, which says who may see what. The digest covers the content in
its order (weights are stored in it), every byte of the skeleton, the version, and the tables of this machine.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onnxpuma import __version__
from onnxpuma.errors import PlanError
from onnxpuma.mpc.separable import fingerprint

SKELETON = "skeleton.onnx"
POLICY = "policy.json"


def digest_of(skeleton: bytes, content: Mapping[str, Any]) -> str:
    """SHA-256, hex."""
    covered = json.dumps([hashlib.sha256(skeleton).hexdigest(), content, __version__, fingerprint()])
    return hashlib.sha256(covered.encode()).hexdigest()


def write_public(folder: Path, skeleton: bytes, content: Mapping[str, Any]) -> None:
    """Write both files; OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SKELETON).write_bytes(skeleton)
    policy = {"version": __version__, "digest": digest_of(skeleton, content), **content}
    (folder / POLICY).write_bytes(_written(policy))


def read_public(folder: Path) -> tuple[bytes, dict[str, Any]]:
    """The skeleton and the content of the policy, each byte of them as `write_public` wrote it.

    Raises PlanError when a file is missing or damaged, or of another version.
    """
    try:
        skeleton = (folder / SKELETON).read_bytes()
        text = (folder / POLICY).read_bytes()
        policy = dict(json.loads(text))
    except OSError as error:
        raise PlanError(
            f"{folder} is not a shared model: {error}", "give the folder that `onnxpuma share` wrote"
        ) from error
    except (ValueError, TypeError, RecursionError) as error:
        raise PlanError(
            f"{folder / POLICY} is damaged: {error}", "copy the folder again from the model's owner"
        ) from error
    if policy.get("version") != __version__:
        raise PlanError(
            f"{folder} was shared with onnxpuma {policy.get('version')}, this is {__version__}",
            "install the same version everywhere, or share the model again",
        )
    content = {name: value for name, value in policy.items() if name not in ("version", "digest")}
    if text != _written(policy) or policy.get("digest") != digest_of(skeleton, content):
        raise PlanError(
            f"the plan in {folder} does not match its digest",
            "it is damaged: copy it again from the owner of the model",
        )
    return skeleton, content


def _written(policy: Mapping[str, Any]) -> bytes:
    return json.dumps(policy, indent=1).encode() + b"\n"
