"""What the three servers must have in common before they compute together: version, model, and its shares.

The digest of the model covers its graph, who may see what, and the tables that two parties multiply by alike
(mpc/separable.py): Blueprint.read compares it with what this machine computes. `dealing` names the call of
`share_model` that made the weights' shares, as shares of different calls do not fit together.
"""

from __future__ import annotations

from dataclasses import dataclass

from onnxpuma.errors import PlanError
from onnxpuma.transport import wire_pb2

DIGEST_BYTES = 32


@dataclass(frozen=True)
class Identity:
    """Of one server. digest: of the blueprint, hex; dealing: hex."""

    party: int
    version: str
    digest: str
    dealing: str

    @property
    def model_digest(self) -> bytes:
        """What the greeting between servers says of the model."""
        return bytes.fromhex(self.digest + self.dealing)

    def difference(self, peer: int, hello: wire_pb2.Hello) -> PlanError | None:
        """Why this server cannot compute with `peer`, which said `hello`; None if it can."""
        if hello.version != self.version:
            return PlanError(
                f"party {peer} has onnxpuma {hello.version}, party {self.party} has {self.version}",
                "install the same version on all servers",
            )
        if hello.model_digest == self.model_digest:
            return None
        same = hello.model_digest[:DIGEST_BYTES] == self.model_digest[:DIGEST_BYTES]
        what = "shares of the same model from another call of `share`" if same else "another model"
        theirs, ours = hello.model_digest.hex(), self.digest + self.dealing
        place = slice(-8, None) if same else slice(8)
        return PlanError(
            f"party {peer} serves {what} ({theirs[place]}) than party {self.party} ({ours[place]})",
            "give all three the files of one and the same call of `onnxpuma share`, and start them again",
        )
