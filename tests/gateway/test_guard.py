"""Who may ask: Host and Origin headers, the length of bodies, keys and their limits."""

from __future__ import annotations

import itertools
import socket
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from onnxpuma.errors import ConfigError
from onnxpuma.gateway.allowance import Lease
from onnxpuma.gateway.guard import MOST_BYTES, is_loopback
from onnxpuma.gateway.keys import new_key, read_keys
from onnxpuma.gateway.refusal import Refused


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:8000", 200),
        ("LOCALHOST", 200),
        ("127.0.0.1", 200),
        ("[::1]:80", 200),
        ("192.168.7.7:8000", 200),
        ("evil.example:8000", 403),
        ("localhost.evil.example", 403),
        (":8000", 403),
        ("[", 403),
    ],
)
def test_a_name_that_is_rebound_to_this_address(plain: Any, host: str, status: int) -> None:
    for path in ("/v1/models", "/", "/health"):
        assert httpx.get(plain.url + path, headers={"Host": host}).status_code == status


def test_pages_of_other_origins(plain: Any) -> None:
    own = httpx.get(f"{plain.url}/v1/models", headers={"Origin": plain.url})
    assert own.status_code == 200
    assert not [name for name in own.headers if name.startswith("access-control")]
    other = httpx.get(f"{plain.url}/v1/models", headers={"Origin": "https://evil.example"})
    assert other.json()["error"]["code"] == "origin_not_allowed"
    asked = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    assert httpx.options(f"{plain.url}/v1/models", headers=asked).status_code == 403


def test_origins_and_hosts_that_are_allowed(kit: Any, story: Path) -> None:
    with kit.plainly({"story": story}, origins=["https://mine.example"], hosts=["box.lan"]) as gateway:
        asked = {"Origin": "https://mine.example", "Host": "box.lan:80"}
        answer = httpx.get(f"{gateway.url}/v1/models", headers=asked)
        assert answer.headers["access-control-allow-origin"] == "https://mine.example"
        before = {**asked, "Access-Control-Request-Method": "POST"}
        assert httpx.options(f"{gateway.url}/v1/models", headers=before).status_code == 200
        other = httpx.get(f"{gateway.url}/v1/models", headers={"Origin": "https://evil.example"})
        assert other.status_code == 403


def test_a_body_that_is_too_long(plain: Any) -> None:
    headers = {"Content-Type": "application/json"}
    host, _, port = plain.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), 30) as line:
        head = f"POST /v1/completions HTTP/1.1\r\nHost: {host}\r\nContent-Length: {MOST_BYTES + 1}\r\n\r\n"
        line.sendall(head.encode())
        assert b"413" in line.recv(1000)  # before the body is there
    pieces = itertools.repeat(b" " * (1 << 20), (MOST_BYTES >> 20) + 1)  # no declared length
    streamed = httpx.post(f"{plain.url}/v1/completions", headers=headers, content=pieces, timeout=60)
    assert streamed.status_code == 413


def test_what_a_browser_may_do_with_the_page(plain: Any) -> None:
    answer = httpx.get(plain.url)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    for path in ("page.js", "page.css", "icon.svg"):
        assert httpx.get(f"{plain.url}/{path}").status_code == 200
    for text in (
        answer.text,
        httpx.get(f"{plain.url}/page.js").text,
        httpx.get(f"{plain.url}/page.css").text,
    ):
        assert "https://" not in text
    assert httpx.get(f"{plain.url}/health").json()["status"] == "ok"


def test_loopback() -> None:
    assert [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "127.9.9.9")] == [True] * 4
    assert [is_loopback(host) for host in ("0.0.0.0", "::", "example.org", "")] == [False] * 4


# ---- keys ---------------------------------------------------------------------------------------------


def test_a_gateway_that_asks_for_keys(kit: Any, story: Path, tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    key = new_key(path, "alice", {"requests_per_minute": 3, "most_tokens": 5})
    assert key not in path.read_text()
    assert path.stat().st_mode & 0o077 == 0
    with kit.plainly({"story": story}, keys=read_keys(path)) as gateway:
        for other in ("wrong", key[:-1]):
            answer = httpx.get(f"{gateway.url}/v1/models", headers={"Authorization": f"Bearer {other}"})
            assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
        with pytest.raises(openai.AuthenticationError):
            gateway.client.models.list()
        gateway.key = key
        completed = gateway.client.completions.create(model="story", prompt="a>")
        assert completed.usage.completion_tokens == 5  # cut at the key's limit
        with pytest.raises(openai.BadRequestError, match="may have 5 tokens written"):
            gateway.client.completions.create(model="story", prompt="a>", max_tokens=6)
        gateway.client.models.list()
        with pytest.raises(openai.RateLimitError, match="3 requests a minute") as found:
            gateway.client.models.list()
        assert 1 <= int(found.value.response.headers["retry-after"]) <= 20
        assert httpx.get(gateway.url).status_code == 200  # the page, which asks for a key


def test_tokens_a_minute(kit: Any, endless: Path, ring: Any) -> None:
    with kit.plainly({"endless": endless}, keys=ring("k" * 20, tokens_per_minute=40)) as gateway:
        gateway.key = "k" * 20
        create = gateway.client.completions.create
        assert create(model="endless", prompt="aaaa", max_tokens=20).usage.total_tokens == 24
        with pytest.raises(openai.RateLimitError, match="40 tokens a minute"):
            create(model="endless", prompt="aaaa", max_tokens=20)
        assert create(model="endless", prompt="a", max_tokens=2).usage.total_tokens == 3


def test_unwritten_tokens_are_given_back() -> None:
    now = 0.0
    lease = Lease("alice", tokens_per_minute=100, clock=lambda: now)
    with lease.reserved(10, 90) as spent:
        spent(5)
        with pytest.raises(Refused, match="100 tokens a minute"), lease.reserved(1, 1):
            pass
    with lease.reserved(5, 80):
        pass
    with pytest.raises(Refused), lease.reserved(10, 90):  # 20 are gone
        pass
    now = 60.0
    with lease.reserved(500, 500) as spent:  # more than a minute's worth needs the whole bucket
        spent(400)
    with pytest.raises(Refused) as found, lease.reserved(0, 1):
        pass
    assert found.value.retry is not None
    assert found.value.retry > 60


def test_requests_a_minute() -> None:
    now = 0.0
    lease = Lease("alice", requests_per_minute=2, clock=lambda: now)
    lease.ask()
    lease.ask()
    with pytest.raises(Refused) as found:
        lease.ask()
    assert found.value.retry == pytest.approx(30)
    now = 30.0
    lease.ask()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no key"),
        ("key = 3", "something other than"),
        ("[[key", "cannot read"),
        ("[[key]]\nsha256 = '00'", "has no name"),
        ("[[key]]\nname = 'a'", "either sha256 or env"),
        ("[[key]]\nname = 'a'\nsha256 = '00'", "no digest"),
        ("[[key]]\nname = 'a'\nenv = 'MISSING'", "holds no key"),
        (f"[[key]]\nname = 'a'\nsha256 = '{'0' * 64}'\nlimit = 3", "limit is not a known entry"),
        (f"[[key]]\nname = 'a'\nsha256 = '{'0' * 64}'\nmost_tokens = 0", "most_tokens is 0"),
        (f"[[key]]\nname = 'a'\nsha256 = '{'0' * 64}'\n" * 2, "two callers"),
    ],
)
def test_keys_files_that_are_wrong(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "keys.toml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_keys(tmp_path / "keys.toml")


def test_a_key_from_a_variable(tmp_path: Path) -> None:
    (tmp_path / "keys.toml").write_text("[[key]]\nname = 'bob'\nenv = 'BOB'")
    ring = read_keys(tmp_path / "keys.toml", {"BOB": "b" * 16})
    assert ring.caller(f"Bearer {'b' * 16}").name == "bob"
    with pytest.raises(Refused):
        ring.caller("Basic " + "b" * 16)
    new_key(tmp_path / "new.toml", "carol", {})
    new_key(tmp_path / "new.toml", "dave", {"tokens_per_minute": 9})
    with pytest.raises(ConfigError, match="has a key for carol"):
        new_key(tmp_path / "new.toml", "carol", {})
    with pytest.raises(ConfigError, match="no name for a caller"):
        new_key(tmp_path / "new.toml", "car ol", {})
    assert read_keys(tmp_path / "new.toml").names == {"carol", "dave"}
