"""The benchmark of large language models, on a LLaMA of two layers whose weights do not all fit.

llama/ is what tools/export.py writes for TinyLlama with --tiny --in-place, without the tokenizer.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import llama

from onnxpuma.observe import peak_rss_bytes

MODEL = Path(__file__).parent / "llama"


def test_a_tiny_llama_runs_within_its_memory_and_agrees_with_a_plain_run(tmp_path: Path) -> None:
    options = argparse.Namespace(
        model=MODEL, cache=tmp_path, prompt=8, memory="600kB", threads=1, no_check=False, size="7b"
    )
    found = llama.measure(options)
    assert found["max_abs_error"] < 2e-3
    assert found["same_token"]
    assert all(sum(found[name]["bytes_read"]) > 0 for name in ("first", "next"))
    assert found["bytes_sent"] > found["next"]["bytes_sent"] > 0
    assert found["seconds"] > 0
    assert found["next_seconds"] > 0
    # A child process counts what this one holds when it starts.
    assert found["share"]["peak_rss_bytes"] < 1e9 + peak_rss_bytes()
    assert llama.shown(found).row_count > 10
