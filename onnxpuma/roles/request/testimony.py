"""What a server hands over of a canary's session: signed, then sealed to the key of the model's owner.

Three testimonies tell every value of the session, and with them the weights. So nobody but the owner, who
knows the weights, may open them; the client that stores them cannot.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from onnxpuma.mpc.prf import KEY_BYTES, PART_BYTES
from onnxpuma.roles.request.commitment import COMMITMENT_BYTES, OPENING_BYTES
from onnxpuma.roles.request.receipt import BEGUN, canonical
from onnxpuma.transport.chained import CHAIN_BYTES
from onnxpuma.transport.link import PARTIES, SESSION_BYTES
from onnxpuma.transport.sealing import OwnerKey, seal
from onnxpuma.transport.signing import SIGNATURE_BYTES, SigningKey, is_signed

Way = tuple[int, int]  # sender, receiver

FORM = "onnxpuma testimony 1"
CONTEXT = FORM.encode()  # of the seal
_SIGNED = b"testimony"  # precedes what is signed


@dataclass(frozen=True)
class Testimony:
    """What one server handed over of a session. Its signature is checked already, with its signing key."""

    party: int
    session: bytes
    coins: tuple[bytes, ...] = field(repr=False)  # of all three, by party, as this server had them
    # Its own randomness for the keys that it shares with the party before it and the party after it: in the
    # order in which `open_session` draws it.
    parts: tuple[bytes, bytes] = field(repr=False)
    keys: Mapping[int, bytes] = field(repr=False)  # its two session keys, by component
    # The digests of all messages that it sent to and received from each neighbour, in order, opening
    # included: what it says its chains are made of.
    digests: Mapping[Way, tuple[bytes, ...]] = field(repr=False)
    begun: Mapping[str, Any]  # the statement of its first signature (receipt.BEGUN)
    at_begin: bytes  # that signature; all there is where the run did not end
    commitment: bytes = b""  # of the request
    opening: bytes = field(default=b"", repr=False)  # of the commitment, as the client showed it
    payload: bytes = field(default=b"", repr=False)  # what it signed, of which all of the above was read
    signature: bytes = b""


def payload_of(testimony: Testimony) -> bytes:
    """The bytes that are signed."""
    return canonical(
        {
            "form": FORM,
            "party": testimony.party,
            "session": testimony.session.hex(),
            "coins": [coin.hex() for coin in testimony.coins],
            "parts": [bytes(part).hex() for part in testimony.parts],
            "keys": {str(component): bytes(key).hex() for component, key in testimony.keys.items()},
            "digests": {f"{a}{b}": b"".join(d).hex() for (a, b), d in testimony.digests.items()},
            "begun": dict(testimony.begun),
            "at_begin": testimony.at_begin.hex(),
            "commitment": testimony.commitment.hex(),
            "opening": testimony.opening.hex(),
        }
    )


def sealed(payload: bytes, key: SigningKey, owner: str) -> bytes:
    """A payload under this server's signature, encrypted to the owner with this public key, checked."""
    return seal(owner, key.sign(_SIGNED + payload) + payload, CONTEXT)


def unsealed(data: bytes, owner: OwnerKey, signer: str) -> Testimony | str:
    """The testimony that `sealed` made, or why there is none: a few words about its server.

    signer: the public signing key of the server, checked.
    """
    plain = owner.open(data, CONTEXT)
    if plain is None:
        return "handed over something that was not sealed to this owner's key, or has changed since"
    signature, payload = plain[:SIGNATURE_BYTES], plain[SIGNATURE_BYTES:]
    if not is_signed(signer, _SIGNED + payload, signature):
        return "handed over something that it did not sign"
    try:
        return _read(payload, signature)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return "handed over something of another form, under its signature"


def _read(payload: bytes, signature: bytes) -> Testimony:
    said = json.loads(payload)
    party, begun = said["party"], said["begun"]
    if said["form"] != FORM or party not in range(PARTIES) or set(begun) != set(BEGUN):
        raise ValueError
    peers = [peer for peer in range(PARTIES) if peer != party]
    coins, parts = _each(said["coins"], PARTIES, PART_BYTES), _each(said["parts"], 2, PART_BYTES)
    keys = {c: _bytes(said["keys"][str(c)], KEY_BYTES) for c in (party, (party + 1) % PARTIES)}
    ways = [way for peer in peers for way in ((party, peer), (peer, party))]
    return Testimony(
        party=party,
        session=_bytes(said["session"], SESSION_BYTES),
        coins=tuple(coins),
        parts=(parts[0], parts[1]),
        keys=keys,
        digests={(a, b): _digests(said["digests"][f"{a}{b}"]) for a, b in ways},
        begun=begun,
        at_begin=_bytes(said["at_begin"], SIGNATURE_BYTES),
        commitment=_bytes(said["commitment"], COMMITMENT_BYTES),
        opening=_bytes(said["opening"], OPENING_BYTES),
        payload=payload,
        signature=signature,
    )


def _bytes(text: str, length: int) -> bytes:
    found = bytes.fromhex(text)
    if len(found) != length:
        raise ValueError
    return found


def _each(texts: Sequence[str], count: int, length: int) -> list[bytes]:
    if len(texts) != count:
        raise ValueError
    return [_bytes(text, length) for text in texts]


def _digests(text: str) -> tuple[bytes, ...]:
    joined = bytes.fromhex(text)
    if len(joined) % CHAIN_BYTES:
        raise ValueError
    return tuple(joined[at : at + CHAIN_BYTES] for at in range(0, len(joined), CHAIN_BYTES))
