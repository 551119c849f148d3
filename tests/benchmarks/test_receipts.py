"""The benchmark of receipts, on the smallest model that ships."""

from __future__ import annotations

import receipts

from onnxpuma.shipped import shipped_model


def test_both_trios_answer_in_turn() -> None:
    found = receipts.measure(shipped_model("breast-cancer").path, {}, repeat=1)
    assert {on: len(seconds) for on, seconds in found.items()} == {True: 1, False: 1}
    assert all(seconds[0] > 0 for seconds in found.values())
