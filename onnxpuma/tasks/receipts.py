"""The receipts of an answer that takes many runs, as a text does: a file for each run."""

from __future__ import annotations

from pathlib import Path

from onnxpuma.roles.request.receipt import Receipt


class Receipts:
    """Takes the receipt of each run, in order (`SecureRunner.signed`).

    folder: where each is stored, as SESSION.json; None: nowhere.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self.sessions: list[str] = []  # of all runs so far, hex

    def __call__(self, receipt: Receipt) -> None:
        """Raises ConfigError when the file cannot be written."""
        if self._folder is not None:
            receipt.write(self._folder / f"{receipt.session}.json")
        self.sessions.append(receipt.session)
