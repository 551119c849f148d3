"""What each client has been answered so far, on disk: a server's ledger of noisy answers.

Every server keeps its own, and a run needs all three, so one honest server is enough to hold a client to its
budget. Answers are counted before a run begins, and the count is on disk before the first word leaves: a run
that fails, or a server that is killed, has spent them. A ledger holds public keys and counts, no value.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from onnxpuma.errors import BudgetError, ConfigError
from onnxpuma.graph.noising import is_noise
from onnxpuma.mpc.noise import opendp
from onnxpuma.plan.blueprint import Blueprint
from onnxpuma.plan.plan import Plan

EVERYBODY = "*"
_FORM = 0x6F6E7031  # application_id of the file
_RESTORE = "restore the file from a copy that is not older than the last answer, or share the model again"
_TABLE = """create table if not exists spent (
    model text not null, client text not null, answers integer not null check (answers >= 0),
    primary key (model, client)
) without rowid"""


class AnswerLedger:
    """The answers that each client has had of each model, in a file that this process alone uses.

    A missing file is made, for its owner alone (0600). Raises ConfigError for a file that is damaged, is no
    ledger, cannot be written, or is in use by another server.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            path.chmod(0o600)
            self._file = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
        except (OSError, sqlite3.Error) as error:
            raise ConfigError(
                f"cannot keep a ledger in {path}: {error}", "name a file in a folder that you may write to"
            ) from error
        try:
            self._begin()
        except (sqlite3.Error, ConfigError) as error:
            self._file.close()
            if isinstance(error, ConfigError):
                raise
            raise self._failure(error) from error

    def _begin(self) -> None:
        self._file.execute("pragma locking_mode = exclusive")
        self._file.execute("pragma journal_mode = delete")
        self._file.execute("pragma synchronous = extra")  # a commit returns once file and folder are on disk
        self._file.execute("begin exclusive")
        (form,) = self._file.execute("pragma application_id").fetchone()
        tables = self._file.execute("select name from sqlite_master").fetchall()
        if form != _FORM and tables:
            raise ConfigError(f"{self._path} is no ledger", "name another file: --ledger FILE")
        (found,) = self._file.execute("pragma integrity_check").fetchone()
        if found != "ok":
            raise sqlite3.DatabaseError(found)
        self._file.execute(f"pragma application_id = {_FORM}")
        self._file.execute(_TABLE)
        self._file.execute("commit")

    def spent(self, model: str, client: str) -> int:
        """The answers that a client has had of a model."""
        try:
            found = self._file.execute(
                "select answers from spent where model = ? and client = ?", (model, client)
            ).fetchone()
        except sqlite3.Error as error:
            raise self._failure(error) from error
        return 0 if found is None else int(found[0])

    def spend(self, model: str, client: str, answers: int, allowed: int) -> int:
        """Count these answers, on disk; the answers that are left.

        Raises BudgetError, and counts nothing, where fewer than `answers` are left of `allowed`; ConfigError
        when the file can no longer be written.
        """
        left = allowed - self.spent(model, client)
        if answers > left:
            raise BudgetError(
                f"{answers} answer{'s' * (answers != 1)} would be too many: of the {allowed} that the model's"
                f" owner allows, {max(left, 0)} {'is' if left == 1 else 'are'} left",
                "ask for fewer rows at a time, or ask the model's owner; nothing was run and nothing counted",
            )
        try:
            self._file.execute(
                "insert into spent values (?, ?, ?)"
                " on conflict do update set answers = answers + excluded.answers",
                (model, client, answers),
            )
        except sqlite3.Error as error:
            raise self._failure(error) from error
        return left - answers

    def close(self) -> None:
        """Release the file."""
        self._file.close()

    def _failure(self, error: sqlite3.Error) -> ConfigError:
        if "locked" in str(error):
            return ConfigError(
                f"another server uses the ledger {self._path}", "give each server its own: --ledger FILE"
            )
        return ConfigError(f"the ledger {self._path} cannot be used: {error}", _RESTORE)


@contextmanager
def answer_ledger(path: Path | None, blueprints: Iterable[Blueprint]) -> Iterator[AnswerLedger | None]:
    """The ledger of a server of these graphs; None where none of them has noise.

    Raises ConfigError where it needs one and has no path, BuildError where it could draw no noise.
    """
    if all(blueprint.noised is None for blueprint in blueprints):
        yield None
        return
    if path is None:
        raise ConfigError(
            "the model's owner adds noise to its outputs and allows each client so many answers",
            "say where this server counts them: --ledger FILE, a file that is kept",
        )
    opendp("measurements")
    with closing(AnswerLedger(path)) as ledger:
        yield ledger


def answers_of(plan: Plan) -> int:
    """The answers that a run gives: the rows of its noisy values; 0 where it computes none."""
    noisy = (step.call.outputs[0].shape for step in plan.steps if is_noise(step.call.node))
    return max((shape[0] if shape else 1 for shape in noisy), default=0)


def charge(ledger: AnswerLedger | None, blueprint: Blueprint, plan: Plan, client: str) -> int | None:
    """Count the answers of a run before it begins; the answers that are left, None where all are exact.

    client: its public key. Raises as `AnswerLedger.spend`.
    """
    noised = blueprint.noised
    if noised is None:
        return None
    if ledger is None:
        raise ConfigError("this server keeps no ledger", "start it with --ledger FILE")
    account = EVERYBODY if noised.together else client
    return ledger.spend(blueprint.digest, account, answers_of(plan), noised.answers)
