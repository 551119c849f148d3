"""The data that the models run on: lines of text, recordings with transcripts, pictures of words."""

from __future__ import annotations

import json
import sys
from pathlib import Path

STEPS = Path(__file__).with_name("steps.txt")
PROMPTS = Path(__file__).with_name("prompts.txt")


def paragraphs(folder: Path, count: int) -> list[str]:
    """The first paragraphs of WikiText-2's validation text that are longer than 200 letters."""
    lines = (folder / "wikitext2-valid-head.txt").read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if len(line.strip()) > 200][:count]


def sentences(folder: Path, count: int, longest: int) -> list[str]:
    """The first sentence of each paragraph of WikiText-2, if it is shorter than `longest` letters and nothing
    in it was removed or split."""
    firsts = (text.split(" . ")[0] for text in paragraphs(folder, sys.maxsize))
    return [f"{text} ." for text in firsts if 20 < len(text) < longest and not {*"<@"} & {*text}][:count]


def recordings(folder: Path) -> list[tuple[Path, str]]:
    """Recordings of LibriSpeech, and their transcripts."""
    listed = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    return [(folder / entry["file"], entry["text"]) for entry in listed]


def pictures(folder: Path) -> list[tuple[Path, str]]:
    """Crops that show one word each, and the word."""
    listed = json.loads((folder / "labels.json").read_text(encoding="utf-8"))["data_list"]
    return [(folder / entry["img_path"], entry["instances"][0]["text"]) for entry in listed]


def steps() -> list[str]:
    """Twenty notes of a programmer's steps, in the form that the title model was trained on."""
    return STEPS.read_text(encoding="utf-8").splitlines()


def prompts() -> list[str]:
    """Eight prompts for a language model: attacks and harmless ones alternately."""
    return PROMPTS.read_text(encoding="utf-8").splitlines()
