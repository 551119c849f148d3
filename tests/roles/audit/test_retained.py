"""What a server keeps of a canary's session: who gets it, for how long, and that it is destroyed."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from onnxpuma.errors import BusyError, InputError
from onnxpuma.roles.request import testimony
from onnxpuma.roles.request.commitment import commitment_of, fresh_opening, is_opened, unopenable
from onnxpuma.roles.request.receipt import BEGUN, FORM
from onnxpuma.roles.request.testimony import CONTEXT, payload_of, sealed, unsealed
from onnxpuma.roles.server import retained
from onnxpuma.roles.server.retained import Evidence, Retained
from onnxpuma.transport import wire_pb2
from onnxpuma.transport.request import Request
from onnxpuma.transport.sealing import OwnerKey
from onnxpuma.transport.signing import SigningKey

OWNER, SIGNING = OwnerKey.generate(), SigningKey.generate()
OPENING = fresh_opening()
BEGAN = {"form": FORM, "party": 1, "session": "00", "jobs": [], "keys": {}, "began": ""}


def evidence(commitment: bytes = commitment_of(OPENING)) -> Evidence:
    return Evidence(
        party=1,
        session=b"s" * 16,
        coins=(b"0" * 32, b"1" * 32, b"2" * 32),
        parts=[bytearray(b"p" * 32), bytearray(b"f" * 32)],
        keys={1: bytearray(b"k" * 16), 2: bytearray(b"l" * 16)},
        digests={(1, 0): (b"a" * 32, b"b" * 32), (1, 2): (), (0, 1): (b"c" * 32,), (2, 1): (b"d" * 32,)},
        begun=BEGAN,
        at_begin=b"g" * 64,
        commitment=commitment,
    )


def request_of(number: int = 0, key: str = "ann", opened: wire_pb2.Opened | None = None) -> Request:
    body = wire_pb2.Request(id=bytes([number]) * 16, opened=opened)
    return Request("c", body, [], [], b"", (0, 0), key)


def asking(number: int = 0, key: str = "ann", opening: bytes = OPENING) -> Request:
    return request_of(99, key, wire_pb2.Opened(request=bytes([number]) * 16, opening=opening))


@pytest.fixture
def clock() -> SimpleNamespace:
    return SimpleNamespace(time=100.0)


@pytest.fixture
def kept(clock: SimpleNamespace) -> Retained:
    return Retained(30.0, lambda: clock.time)


def test_the_owner_alone_opens_what_is_handed_over(kept: Retained) -> None:
    kept.keep(request_of(), OWNER.public, evidence())
    data = kept.hand_over(asking(), SIGNING)
    told = unsealed(data, OWNER, SIGNING.public)
    assert isinstance(told, testimony.Testimony)
    due = evidence().testimony(OPENING)
    assert replace(told, payload=b"", signature=b"") == due
    assert json.loads(told.payload)["opening"] == OPENING.hex()
    assert b"k" * 16 not in data
    assert (b"k" * 16).hex().encode() not in data
    assert "6b6b6b" not in repr(told)
    other = unsealed(data, OwnerKey.generate(), SIGNING.public)
    assert isinstance(other, str)
    assert "not sealed to this owner's key" in other
    assert "did not sign" in str(unsealed(data, OWNER, SigningKey.generate().public))
    for place in range(0, len(data), 97):
        changed = bytearray(data)
        changed[place] ^= 1
        assert isinstance(unsealed(bytes(changed), OWNER, SIGNING.public), str)
    assert OWNER.open(data, CONTEXT + b"!") is None


@pytest.mark.parametrize("change", [{"form": "x"}, {"keys": {}}, {"digests": {"10": "ab"}}, {"party": 3}])
def test_a_testimony_of_another_form_is_the_fault_of_its_server(change: dict[str, Any]) -> None:
    said = {**json.loads(payload_of(evidence().testimony(OPENING))), **change}
    data = sealed(json.dumps(said).encode(), SIGNING, OWNER.public)
    assert "of another form, under its signature" in str(unsealed(data, OWNER, SIGNING.public))


def test_asking_again_costs_no_further_signature(kept: Retained) -> None:
    kept.keep(request_of(), OWNER.public, evidence())
    assert kept.hand_over(asking(), SIGNING) == kept.hand_over(asking(), SIGNING)


def test_another_client_with_the_same_id_displaces_nothing(kept: Retained) -> None:
    kept.keep(request_of(), OWNER.public, evidence())
    kept.keep(request_of(key="ben"), OWNER.public, evidence(unopenable()))
    assert len(kept) == 2
    assert kept.hand_over(asking(), SIGNING)
    held = evidence()
    kept.keep(request_of(key="eve"), OWNER.public, held)
    kept.keep(request_of(key="eve"), OWNER.public, evidence())
    assert not any(held.keys[1])


def test_nobody_else_gets_it(kept: Retained) -> None:
    kept.keep(request_of(), OWNER.public, evidence())
    with pytest.raises(InputError, match="no keys of request 01010101"):
        kept.hand_over(asking(1), SIGNING)
    with pytest.raises(InputError, match="for this client"):
        kept.hand_over(asking(key="ben"), SIGNING)
    for wrong in (fresh_opening(), b"", OPENING + b"!", commitment_of(OPENING)):
        with pytest.raises(InputError, match="does not open the commitment"):
            kept.hand_over(asking(opening=wrong), SIGNING)
    kept.keep(request_of(2), OWNER.public, evidence(unopenable()))
    with pytest.raises(InputError, match="does not open the commitment"):
        kept.hand_over(asking(2), SIGNING)


def test_it_is_overwritten_after_its_time(kept: Retained, clock: SimpleNamespace) -> None:
    held = evidence()
    kept.keep(request_of(), OWNER.public, held)
    clock.time += 29.9
    assert kept.hand_over(asking(), SIGNING)
    clock.time += 0.2
    with pytest.raises(InputError, match=r"for 30 s after its run"):
        kept.hand_over(asking(), SIGNING)
    assert len(kept) == 0
    assert not any(any(secret) for secret in (*held.parts, *held.keys.values()))
    assert [len(part) for part in held.parts] == [32, 32]


def test_a_server_that_ends_destroys_all_of_it(kept: Retained) -> None:
    held = [evidence(), evidence()]
    for number, each in enumerate(held):
        kept.keep(request_of(number), OWNER.public, each)
    kept.clear()
    assert len(kept) == 0
    assert not any(any(secret) for each in held for secret in (*each.parts, *each.keys.values()))


def test_a_shorter_time_holds_for_what_is_kept_from_then_on(kept: Retained, clock: SimpleNamespace) -> None:
    kept.keep(request_of(0), OWNER.public, evidence())
    kept.seconds = 5.0
    kept.keep(request_of(1), OWNER.public, evidence())
    clock.time += 6.0
    kept.expire()
    assert len(kept) == 1
    assert kept.hand_over(asking(0), SIGNING)


def test_nothing_is_given_up_for_a_newer_session(
    kept: Retained, clock: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retained, "MOST_SESSIONS", 2)
    kept.keep(request_of(0), OWNER.public, evidence())
    clock.time += 10.0
    kept.keep(request_of(1), OWNER.public, evidence())
    with pytest.raises(BusyError, match="keys of 2 sessions are kept") as caught:
        kept.check_room()
    assert caught.value.retry_after == pytest.approx(20.0)
    assert kept.hand_over(asking(0), SIGNING)
    clock.time += 21.0
    kept.check_room()
    monkeypatch.setattr(retained, "MOST_BYTES", evidence().size)
    with pytest.raises(BusyError):
        kept.check_room()


def test_a_run_without_a_commitment_leaves_nothing(kept: Retained) -> None:
    kept.keep(request_of(), OWNER.public, None)
    assert len(kept) == 0


def test_an_opening_opens_its_own_commitment() -> None:
    opening = fresh_opening()
    assert is_opened(commitment_of(opening), opening)
    assert not is_opened(commitment_of(opening), fresh_opening())
    assert len(commitment_of(opening)) == len(unopenable()) == 32
    assert set(BEGAN) == set(BEGUN)
