"""Whether two servers of different versions may compute together: if they would do the same at every step.

The plan says which steps there are. What a step sends, opens and masks is decided by the code of these rooms:
servers compare a hash of it. Versions that differ elsewhere (commands, clients, documentation) go together.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

CODE_LENGTH = 12  # hex digits
ROOMS = (
    "graph", "interpreter.py", "mpc", "ops", "plan", "standard", "roles/request",
    "roles/server/agreement.py", "roles/server/follower.py", "roles/server/job.py", "roles/server/leader.py",
    "roles/server/opening.py", "roles/server/receipt.py", "roles/server/run.py", "roles/server/sides.py",
    "transport/chained.py",
)  # fmt: skip
_KINDS = (".py", ".cpp", ".hpp", ".json")


@cache
def lockstep_code() -> str:
    """The hash of that code, as installed here."""
    root = Path(__file__).resolve().parents[2]
    total = hashlib.sha256()
    for room in ROOMS:
        place = root / room
        for path in sorted(place.rglob("*")) if place.is_dir() else [place]:
            if path.suffix in _KINDS:
                content = path.read_bytes()
                name = f"{room}/{path.relative_to(place)} {len(content)}\n"
                total.update(name.encode() + content)
    return total.hexdigest()[:CODE_LENGTH]


def code_of(version: str) -> str:
    """The hash in the version that a server tells: "0.1.0+9f86d081884c"."""
    return version.partition("+")[2]
