"""The benchmark of an audit, on the smallest model that ships."""

from __future__ import annotations

import audit

from onnxpuma.roles.audit.verdict import Finding
from onnxpuma.shipped import shipped_model


def test_an_honest_session_is_audited() -> None:
    found = audit.measure(shipped_model("breast-cancer").path, {})
    assert found.verdict.finding is Finding.NOBODY
    assert found.processor > 0
    assert found.file > 1000
