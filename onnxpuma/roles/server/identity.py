"""What three servers must have in common to compute together: version, model, its shares, the network.

The digest of the model covers its graph, who may see what, and the tables by which two parties multiply alike
(fourier.py); Blueprint.read compares it with the digest that this machine computes. `dealing` names the call
of `share_model` that dealt the weights: shares of different calls do not fit together.

Two servers hold each component of the weights. They compare it by an HMAC under its seal, a key that the
owner gave these two alone: the third server, which has the other two components, could test guessed weights
against a plain hash.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field

from onnxpuma.errors import PlanError
from onnxpuma.mpc.cost import USUAL, Network
from onnxpuma.roles.request.network import SAME_EVERYWHERE, described, told
from onnxpuma.transport import wire_pb2
from onnxpuma.transport.link import PARTIES

DIGEST_BYTES = 32


@dataclass(frozen=True)
class Identity:
    """The identity of one server."""

    party: int
    version: str
    digest: str  # of the model; hex
    dealing: str  # hex
    contents: Mapping[int, bytes] = field(repr=False)  # a code of each component that this party holds
    seals: Mapping[int, bytes] = field(repr=False)  # the keys under which two holders compare a component
    network: Network = USUAL  # for which it plans requests

    @property
    def model_digest(self) -> bytes:
        """The bytes by which a greeting between servers names the model and its dealing."""
        return bytes.fromhex(self.digest + self.dealing)

    def code(self, sender: int, receiver: int) -> bytes:
        """The code, 32 bytes, that the greeting of `sender` tells `receiver` about the component that both
        hold. One of them is this party."""
        component = shared_component(sender, receiver)
        said = b"onnxpuma component" + bytes([component, sender, receiver]) + self.model_digest
        return hmac.digest(self.seals[component], said + self.contents[component], "sha256")

    def difference(self, peer: int, hello: wire_pb2.Hello) -> PlanError | None:
        """Why this server cannot compute with `peer`, which sent `hello`; None if it can."""
        if hello.version != self.version:
            return PlanError(
                f"party {peer} has onnxpuma {hello.version}, party {self.party} has {self.version}",
                "install the same version on all servers",
            )
        if hello.model_digest == self.model_digest:
            if self.disputes(peer, hello):
                return self._component_difference(peer)
            return self._network_difference(peer, hello)
        same = hello.model_digest[:DIGEST_BYTES] == self.model_digest[:DIGEST_BYTES]
        what = "shares of the same model from another call of `share`" if same else "another model"
        theirs, ours = hello.model_digest.hex(), self.digest + self.dealing
        place = slice(-8, None) if same else slice(8)
        return PlanError(
            f"party {peer} serves {what} ({theirs[place]}) than party {self.party} ({ours[place]})",
            "give all three the files of one call of `onnxpuma share`, and start them again",
        )

    def disputes(self, peer: int, hello: wire_pb2.Hello) -> bool:
        """Whether `peer` has files of the same call of `share` but differs in the component that both hold.
        One of the two must copy its file again, and neither knows which."""
        same = hello.version == self.version and hello.model_digest == self.model_digest
        return same and not hmac.compare_digest(hello.components, self.code(peer, self.party))

    def _network_difference(self, peer: int, hello: wire_pb2.Hello) -> PlanError | None:
        if hello.network == told(self.network):
            return None
        theirs = Network(hello.network.bandwidth, hello.network.latency)
        return PlanError(
            f"party {peer} plans for a network of {described(theirs)}, party {self.party} for one of"
            f" {described(self.network)}",
            SAME_EVERYWHERE,
        )

    def _component_difference(self, peer: int) -> PlanError:
        component = shared_component(peer, self.party)
        return PlanError(
            f"component {component} of the weights is not the same at party {peer} and party {self.party}",
            "copy the key files again from the model's owner:"
            f" party{peer}.keys and party{self.party}.keys, of one call of `onnxpuma share`",
        )


def shared_component(one: int, other: int) -> int:
    """The component that both parties hold: parties i and i - 1 hold component i."""
    return one if (one - 1) % PARTIES == other else other
