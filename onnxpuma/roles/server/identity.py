"""What three servers must have in common to compute together: version, models, their shares, the network.

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

from onnxpuma.errors import PlanError, plain_text
from onnxpuma.mpc.cost import USUAL, Network
from onnxpuma.roles.request.network import SAME_EVERYWHERE, described, told
from onnxpuma.roles.server.lockstep import code_of
from onnxpuma.transport import wire_pb2
from onnxpuma.transport.link import PARTIES

DIGEST_BYTES = 32
DEALT_BYTES = 48  # of a model's digest and its dealing
CODE_BYTES = 32


@dataclass(frozen=True)
class Part:
    """One model at one server."""

    digest: str  # hex
    dealing: str  # hex
    contents: Mapping[int, bytes] = field(repr=False)  # a code of each component that this party holds
    seals: Mapping[int, bytes] = field(repr=False)  # the keys under which two holders compare a component

    @property
    def dealt(self) -> bytes:
        """The bytes that name the model and its dealing."""
        return bytes.fromhex(self.digest + self.dealing)

    def code(self, sender: int, receiver: int) -> bytes:
        component = shared_component(sender, receiver)
        said = b"onnxpuma component" + bytes([component, sender, receiver]) + self.dealt
        return hmac.digest(self.seals[component], said + self.contents[component], "sha256")


@dataclass(frozen=True)
class Identity:
    """The identity of one server."""

    party: int
    version: str  # of the package, and the code of what it does in lockstep
    parts: Mapping[str, Part]  # by the model's name, in the order of the names
    network: Network = USUAL  # for which it plans requests

    @property
    def model_digest(self) -> bytes:
        """The bytes by which a greeting between servers names the models and their dealings: of each the
        length of its name, its name, its digest, its dealing."""
        names = {name: name.encode() for name in self.parts}
        return b"".join(bytes([len(names[n])]) + names[n] + part.dealt for n, part in self.parts.items())

    def code(self, sender: int, receiver: int) -> bytes:
        """The codes, 32 bytes for each model, that the greeting of `sender` tells `receiver` about the
        component that both hold. One of them is this party."""
        return b"".join(part.code(sender, receiver) for part in self.parts.values())

    def difference(self, peer: int, hello: wire_pb2.Hello) -> PlanError | None:
        """Why this server cannot compute with `peer`, which sent `hello`; None if it can."""
        if code_of(hello.version) != code_of(self.version):
            return PlanError(
                f"party {peer} has onnxpuma {hello.version}, party {self.party} has {self.version}",
                "install the same version on all servers: these two do not compute alike",
            )
        if hello.model_digest == self.model_digest:
            if self.disputes(peer, hello):
                return self._component_difference(peer, hello)
            return self._network_difference(peer, hello)
        return self._models_difference(peer, hello)

    def _models_difference(self, peer: int, hello: wire_pb2.Hello) -> PlanError:
        theirs, ours = _dealt(hello.model_digest), {name: part.dealt for name, part in self.parts.items()}
        if theirs.keys() != ours.keys():
            return PlanError(
                f"party {peer} serves {_listed(theirs)}, party {self.party} serves {_listed(ours)}",
                "start all three with the same --model options: the same names",
            )
        name = next(name for name in ours if theirs[name] != ours[name])
        same = theirs[name][:DIGEST_BYTES] == ours[name][:DIGEST_BYTES]
        what = "shares of the same model from another call of `share`" if same else "another model"
        called = f" as '{name}'" if name else ""
        place = slice(-8, None) if same else slice(8)
        return PlanError(
            f"party {peer} serves {what}{called} ({theirs[name].hex()[place]}) than party {self.party}"
            f" ({ours[name].hex()[place]})",
            "give all three the files of one call of `onnxpuma share`, and start them again",
        )

    def disputes(self, peer: int, hello: wire_pb2.Hello) -> bool:
        """Whether `peer` has files of the same call of `share` but differs in the component that both hold.
        One of the two must copy its file again, and neither knows which."""
        same = code_of(hello.version) == code_of(self.version) and hello.model_digest == self.model_digest
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

    def _component_difference(self, peer: int, hello: wire_pb2.Hello) -> PlanError:
        component = shared_component(peer, self.party)
        codes = [self.code(peer, self.party), hello.components]
        odd = [n for n, *pair in zip(self.parts, *map(_pieces, codes), strict=False) if pair[0] != pair[1]]
        of = f" of '{odd[0]}'" if odd and odd[0] else ""
        return PlanError(
            f"component {component} of the weights{of} is not the same at party {peer} and"
            f" party {self.party}",
            "copy the key files again from the model's owner:"
            f" party{peer}.keys and party{self.party}.keys, of one call of `onnxpuma share`",
        )


def shared_component(one: int, other: int) -> int:
    """The component that both parties hold: parties i and i - 1 hold component i."""
    return one if (one - 1) % PARTIES == other else other


def _dealt(told: bytes) -> dict[str, bytes]:
    """`Identity.model_digest`, taken apart; of bytes of another form as much as can be read."""
    found = {}
    while told:
        name, rest = told[1 : 1 + told[0]], told[1 + told[0] :]
        found[plain_text(name.decode(errors="replace"))] = rest[:DEALT_BYTES]
        told = rest[DEALT_BYTES:]
    return found


def _pieces(codes: bytes) -> list[bytes]:
    return [codes[place : place + CODE_BYTES] for place in range(0, len(codes), CODE_BYTES)]


def _listed(names: Mapping[str, object]) -> str:
    return ", ".join(f"'{name}'" if name else "a model without a name" for name in names) or "no model"
