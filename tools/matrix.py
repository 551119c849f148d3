"""Does every architecture run on shares, whichever exporter wrote it? Tiny versions, against onnxruntime.

    python tools/matrix.py --cache DIR [--optimum OPTIMUM_VENV/bin/python] [--page docs/exports.md]
    python tools/matrix.py --cache DIR --exporters dynamo23 --only gpt2 --only bert --again

Each export and each run is a separate process, and finished ones are kept in the cache folder: after an
interruption the script resumes. The whole matrix takes an hour or two on two cores. docs/exports.md has the
results.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matching.combinations import EXPORTERS, TOOLS, Combination, combinations
from matching.page import page, worst

EXPORTED = "exported.json"  # after a successful export: how long it took
FAILED = "failed.txt"  # after a failed export: its output
RESULT = "on_shares.json"
HOUR = 3600.0


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cache", required=True, type=Path, help="folder for exports and results")
    parser.add_argument("--exporters", default=",".join(EXPORTERS), help="of " + ", ".join(EXPORTERS))
    parser.add_argument(
        "--only", action="append", default=[], help="part of exporter/model/task; may be repeated"
    )
    parser.add_argument("--optimum", type=Path, help="Python of an environment with optimum (docs/export.md)")
    parser.add_argument("--again", action="store_true", help="repeat finished runs on shares")
    parser.add_argument("--retry", action="store_true", help="retry failed exports")
    parser.add_argument("--export-only", action="store_true", help="run nothing on shares")
    parser.add_argument("--page", type=Path, help="write the tables into this Markdown file")
    return parser


def exported(one: Combination, cache: Path, optimum: Path | None, retry: bool) -> bool:
    """Whether the export exists, after making it, and the one it is derived from, if necessary."""
    folder, source = one.folder(cache), one.source()
    if (folder / EXPORTED).exists():
        return True
    if (folder / FAILED).exists() and not retry:
        return False
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if source is not None and not exported(source, cache, optimum, retry):
        (folder / FAILED).write_text(f"there is no {source.name} to change")
        return False
    began = time.perf_counter()
    code, said = _run(one.command(cache, optimum))
    if code:
        (folder / FAILED).write_text(said[-4000:])
        return False
    (folder / EXPORTED).write_text(json.dumps({"seconds": round(time.perf_counter() - began, 1)}))
    return True


def compared(folder: Path, again: bool) -> list[dict[str, Any]]:
    """The records of a folder, made if missing."""
    result = folder / RESULT
    if again or not result.exists():
        result.unlink(missing_ok=True)
        code, said = _run(
            [sys.executable, str(TOOLS / "matching" / "on_shares.py"), str(folder), str(result)]
        )
        if code:
            return [{"graph": "all", "cases": [], "error": said[-2000:]}]
    found: list[dict[str, Any]] = json.loads(result.read_text())
    return found


def _run(command: list[str]) -> tuple[int, str]:
    quiet = os.environ | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=quiet, timeout=HOUR
        )
    except subprocess.TimeoutExpired:
        return 1, "not finished after an hour"
    return done.returncode, done.stdout


def kept(one: Combination, cache: Path) -> list[dict[str, Any]] | None:
    """The records of a combination, if there are any; one record with an error where the export failed."""
    folder = one.folder(cache)
    if (folder / RESULT).exists():
        found: list[dict[str, Any]] = json.loads((folder / RESULT).read_text())
        return found
    if (folder / FAILED).exists():
        said = (folder / FAILED).read_text().strip().splitlines() or ["the exporter failed"]
        return [{"graph": "the export", "cases": [], "error": said[-1]}]
    return None


def main(argv: Sequence[str] | None = None) -> int:
    """0 when everything requested ran and matches."""
    options = arguments().parse_args(argv)
    exporters = [name for name in options.exporters.split(",") if name != "optimum" or options.optimum]
    good = True
    for one in combinations(exporters, options.only):
        folder = one.folder(options.cache)
        if not exported(one, options.cache, options.optimum, options.retry):
            print(f"{one.name}: not exported: {(folder / FAILED).read_text().strip()[-300:]}", flush=True)
            good = False
        elif not options.export_only:
            records = compared(folder, options.again)
            error, matches = worst(records)
            good &= matches
            print(f"{one.name}: {'ok' if matches else 'FAILS'}, largest error {error:.1e}", flush=True)
            for record in records:
                for said in filter(None, [record, *record["cases"]]):
                    if said.get("error"):
                        print(f"    {record['graph']} {said.get('case', '')}: {said['error']}", flush=True)
    if options.page:
        every = {one: records for one in combinations() if (records := kept(one, options.cache)) is not None}
        options.page.write_text(page(every))
        print(f"wrote {options.page}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
