"""What does `onnxpuma share` show of the models that people export? Writes the page docs/disclosed.md.

    python tools/disclosure_page.py --cache DIR

Each model is exported once into the cache folder, with random weights, so that nothing is downloaded; that
takes some minutes and 4 GB of disk. Its shares are deleted immediately. Needs the `export` extra.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# Title, model, task, further options of tools/export.py.
MODELS: tuple[tuple[str, str, str, tuple[str, ...]], ...] = (
    ("BERT", "bert-base-uncased", "feature-extraction", ("--random-init",)),
    ("GPT-2", "gpt2", "text-generation-with-past", ("--random-init",)),
    ("LLaMA (SmolLM2)", "SmolLM2-135M", "text-generation-with-past", ("--random-init",)),
    ("LLaMA, TorchScript", "TinyLlama-1.1B", "text-generation", ("--tiny", "--exporter", "torchscript")),
    ("T5", "t5-small", "summarization", ("--random-init",)),
    ("Whisper", "whisper-tiny", "automatic-speech-recognition", ("--random-init",)),
    ("ViT", "vit-base-patch16-224", "image-classification", ("--random-init",)),
)

HEAD = """# What `share` shows

Written by `python tools/disclosure_page.py`: exports with random weights, at the model's real size
unless the command says `--tiny`, and the output of `onnxpuma share` for each. It begins with the public
constants that an owner should look at: arrays of more than 16 elements, lone numbers that are not round, and
constants that may have been trained. None of these models needs a confirmation.
[security.md](security.md#which-constants-are-public) has the rules.
"""


def exported(model: str, task: str, options: tuple[str, ...], cache: Path) -> Path:
    """The folder of the export, created if missing."""
    folder = cache / "-".join([model, task, *(option.strip("-") for option in options)])
    if not folder.exists():
        partial = folder.with_name(f"{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        command = [sys.executable, str(ROOT / "tools" / "export.py"), "--model", model, "--task", task]
        subprocess.run([*command, *options, "--out", str(partial)], check=True)
        partial.rename(folder)
    return folder


def shared(folder: Path) -> str:
    """The output of `share` for the export in `folder`."""
    files = sorted(folder.glob("*.onnx"))
    source = files[0] if len(files) == 1 else folder
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        run = subprocess.run(
            [sys.executable, "-m", "onnxpuma", "share", str(source), "--out", f"{temporary}/shared"],
            check=True,
            capture_output=True,
            text=True,
            cwd=ROOT,
            env={**os.environ, "COLUMNS": "120"},
        )
    return "\n".join(line.rstrip() for line in run.stdout.strip().splitlines())


def page(cache: Path) -> str:
    """The page, from exports in `cache`."""
    parts = [HEAD]
    for title, model, task, options in MODELS:
        text = shared(exported(model, task, options, cache))
        command = f"python tools/export.py --model {model} --task {task} {' '.join(options)}"
        parts += [f"## {title}", f"`{command}`", f"```\n{text}\n```"]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cache", required=True, type=Path, help="folder for the exports")
    cache = parser.parse_args().cache.absolute()
    cache.mkdir(parents=True, exist_ok=True)
    (ROOT / "docs" / "disclosed.md").write_text(page(cache))


if __name__ == "__main__":
    main()
