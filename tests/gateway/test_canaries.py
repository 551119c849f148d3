"""A gateway with canaries at three servers that sign: users notice nothing, and a wrong answer is found."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest

from onnxpuma.config import ReceiptConfig
from onnxpuma.gateway.trio import Trio
from onnxpuma.roles.audit.judge import judge
from onnxpuma.roles.audit.reading import read_case
from onnxpuma.roles.audit.verdict import Finding
from onnxpuma.roles.client.mixing import Mixing
from onnxpuma.roles.local.canaries import make_canaries
from onnxpuma.roles.local.cluster import LocalCluster
from onnxpuma.roles.owner.owner import share_model
from onnxpuma.roles.request.canary_file import Canaries, Canary
from onnxpuma.roles.request.receipt import Receipt
from onnxpuma.tasks.secure import at_servers
from onnxpuma.transport.sealing import OwnerKey

TEXTS = ["hello", "words", "shore"]  # of one length: a canary fits each
LONGER = "no canary has this length"
PATIENCE = 60.0  # seconds


@dataclass
class Site:
    """A model with canaries of its owner, and three servers that have it."""

    folder: Path  # the model's, with its tokenizer
    shares: Path
    owner: OwnerKey
    servers: LocalCluster
    canaries: Canaries


@pytest.fixture(scope="module")
def site(kit: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    base, owner = tmp_path_factory.mktemp("site"), OwnerKey.generate()
    (base / "vectors").mkdir()
    folder = kit.embedder(base / "vectors")
    share_model(folder, base / "shared", owner_key=owner.public)
    feeds = [{"input_ids": np.array([kit.tasks.byte_tokens(text)])} for text in TEXTS]
    canaries = make_canaries(base / "shared", len(feeds), feeds=feeds)
    with LocalCluster(base / "shared", receipts=ReceiptConfig(True, 600.0)) as servers:
        yield Site(folder, base / "shared", owner, servers, canaries)


@dataclass
class Asked:
    """What the gateway gave its users."""

    vectors: list[np.ndarray]
    sessions: list[str]


def ask(kit: Any, site: Site, mixing: Mixing, receipts: Path, texts: Sequence[str]) -> Asked:
    """Ask for one text after the other, until as many canaries were sent as texts that they fit."""
    made = Trio(
        "vectors",
        site.folder,
        lambda: at_servers(site.servers.config, site.servers.client_keys, mixing=mixing),
        workers=2,
        receipts=receipts,
        close=mixing.close,
    )
    asked = Asked([], [])
    with kit.answering([made]) as url:
        with openai.OpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0, timeout=60) as client:
            for text in texts:
                answer = client.embeddings.create(model="vectors", input=text, encoding_format="float")
                asked.vectors.append(np.array(answer.data[0].embedding))
                asked.sessions += answer.onnxpuma["sessions"]
        until = time.monotonic() + PATIENCE
        while len(mixing.files) < texts.count(TEXTS[0]) - 1 and time.monotonic() < until:
            time.sleep(0.05)
    return asked


def same(vectors: Sequence[np.ndarray]) -> bool:
    return max(float(np.abs(each - vectors[0]).max()) for each in vectors) < 0.01


def test_users_get_their_answers_and_honest_servers_pass_their_audit(
    kit: Any, site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mixing = Mixing(site.canaries, 1.0, audited=1.0, folder=tmp_path, spread=True)
    texts = [TEXTS[0]] * 4 + [LONGER]
    asked = ask(kit, site, mixing, tmp_path, texts)
    assert same(asked.vectors[:4])
    assert not same(asked.vectors)
    assert len(set(asked.sessions)) == len(texts), "the runs of canaries are no part of an answer"
    for session in asked.sessions:
        Receipt.read(tmp_path / f"{session}.json").check()
    assert mixing.sent >= 3  # the first request has no pause before it, after which a canary could follow
    assert mixing.wrong == 0
    assert len(mixing.files) == mixing.sent
    assert "no canary fits a request" in caplog.text, "the longer text has none"
    case = read_case(mixing.files[0], site.shares, site.owner, site.servers.config.signers)
    assert judge(case.evidence, case.plan, case.interpreters).finding is Finding.NOBODY


def test_a_wrong_answer_goes_to_the_log_and_users_are_served_on(
    kit: Any, site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    off = [
        Canary(each.feed, {name: value + 1 for name, value in each.outputs.items()})
        for each in site.canaries.every
    ]
    mixing = Mixing(replace(site.canaries, every=off), 1.0, folder=tmp_path, spread=True)
    with caplog.at_level(logging.ERROR):
        asked = ask(kit, site, mixing, tmp_path, [TEXTS[0]] * 4)
    assert same(asked.vectors)
    assert mixing.wrong == mixing.sent >= 3
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert all("the answer to a canary is wrong" in line for line in said)
    assert f"onnxpuma audit {mixing.files[0]} --shares" in said[0]
