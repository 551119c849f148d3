"""A server's ledger of noisy answers: what it counts survives, and what it cannot trust it refuses."""

from __future__ import annotations

import signal
import sqlite3
import stat
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from onnxpuma.errors import BudgetError, ConfigError
from onnxpuma.roles.server.budgets import EVERYBODY, AnswerLedger, charge


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "party0.ledger"


def test_answers_are_counted_by_model_and_client(path: Path) -> None:
    ledger = AnswerLedger(path)
    assert ledger.spend("model", "alice", 3, 10) == 7
    assert ledger.spend("model", "alice", 7, 10) == 0
    assert ledger.spend("model", "bob", 1, 10) == 9
    assert ledger.spend("other", "alice", 2, 10) == 8
    assert [ledger.spent("model", who) for who in ("alice", "bob", "carol")] == [10, 1, 0]
    ledger.close()


def test_too_many_are_refused_and_not_counted(path: Path) -> None:
    ledger = AnswerLedger(path)
    ledger.spend("model", "alice", 8, 10)
    with pytest.raises(BudgetError, match=r"3 answers would be too many: of the 10 .* allows, 2 are left"):
        ledger.spend("model", "alice", 3, 10)
    assert ledger.spend("model", "alice", 2, 10) == 0
    with pytest.raises(BudgetError, match=r"1 answer would be too many.* 0 are left"):
        ledger.spend("model", "alice", 1, 10)
    assert ledger.spend("model", "alice", 0, 10) == 0
    ledger.close()


def test_a_ledger_is_its_owners_and_remembers(path: Path) -> None:
    first = AnswerLedger(path)
    first.spend("model", "alice", 3, 10)
    first.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    again = AnswerLedger(path)
    assert again.spent("model", "alice") == 3
    again.close()


def test_what_was_counted_survives_a_kill(path: Path) -> None:
    """The process dies at once after `spend` has returned; and once within a transaction."""
    program = textwrap.dedent(
        f"""
        import os, signal
        from pathlib import Path
        from onnxpuma.roles.server.budgets import AnswerLedger
        ledger = AnswerLedger(Path({str(path)!r}))
        ledger.spend("model", "alice", 4, 10)
        ledger._file.execute("begin immediate")
        ledger._file.execute("update spent set answers = 0")
        os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    ended = subprocess.run([sys.executable, "-c", program], timeout=120, check=False)
    assert ended.returncode == -signal.SIGKILL
    ledger = AnswerLedger(path)
    assert ledger.spent("model", "alice") == 4
    ledger.close()


def test_two_servers_do_not_share_a_ledger(path: Path) -> None:
    ledger = AnswerLedger(path)
    with pytest.raises(ConfigError, match="another server uses"):
        AnswerLedger(path)
    ledger.close()
    AnswerLedger(path).close()


@pytest.mark.parametrize("damage", ["torn", "overwritten", "another database", "text"])
def test_a_damaged_ledger_is_not_taken_for_an_empty_one(path: Path, damage: str) -> None:
    if damage in ("torn", "overwritten"):
        ledger = AnswerLedger(path)
        ledger.spend("model", "alice", 4, 10)
        ledger.close()
        content = path.read_bytes()
        broken = (
            content[: len(content) // 2] if damage == "torn" else content[:100] + bytes(len(content) - 100)
        )
        path.write_bytes(broken)
    elif damage == "text":
        path.write_text("alice has had four answers\n" * 100)
    else:
        with sqlite3.connect(path) as other:
            other.execute("create table t (a)")
        other.close()
    with pytest.raises(ConfigError, match=r"cannot be used|is no ledger") as error:
        AnswerLedger(path)
    assert error.value.hint


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot keep a ledger"):
        AnswerLedger(tmp_path / "nowhere" / "ledger")


def plan_of(*rows: int) -> Any:
    node, other = (SimpleNamespace(domain=d, op=o) for d, o in (("onnxpuma.noise", "Noise"), ("", "Add")))
    steps = [SimpleNamespace(call=SimpleNamespace(node=other, outputs=[SimpleNamespace(shape=(99, 3))]))]
    steps += [
        SimpleNamespace(call=SimpleNamespace(node=node, outputs=[SimpleNamespace(shape=(n, 3))]))
        for n in rows
    ]
    return SimpleNamespace(steps=steps)


def test_a_run_is_charged_by_the_rows_of_its_noisy_values(path: Path) -> None:
    ledger = AnswerLedger(path)
    each: Any = SimpleNamespace(digest="m", noised=SimpleNamespace(answers=10, together=False))
    assert charge(ledger, each, plan_of(4, 2), "alice") == 6
    assert charge(ledger, each, plan_of(), "alice") == 6
    assert charge(ledger, each, plan_of(9), "bob") == 1
    together: Any = SimpleNamespace(digest="t", noised=SimpleNamespace(answers=10, together=True))
    assert charge(ledger, together, plan_of(6), "alice") == 4
    with pytest.raises(BudgetError):
        charge(ledger, together, plan_of(6), "bob")
    assert ledger.spent("t", EVERYBODY) == 6
    exact: Any = SimpleNamespace(digest="e", noised=None)
    assert charge(None, exact, plan_of(), "alice") is None
    with pytest.raises(ConfigError, match="keeps no ledger"):
        charge(None, each, plan_of(1), "alice")
    ledger.close()
