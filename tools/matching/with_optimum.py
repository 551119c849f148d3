"""Export with optimum, as its users do: a tiny checkpoint with random weights, then `main_export`.

    OPTIMUM_VENV/bin/python tools/matching/with_optimum.py --model gpt2 --task text-generation --out OUT

Runs under the Python of an environment with optimum-onnx, which requires another Transformers than
tools/export.py does (docs/export.md). By hand, `optimum-cli export onnx --model CHECKPOINT --task TASK OUT`
does the same.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import exporting  # noqa: F401  (before onnxruntime is loaded: it ends the telemetry)

# isort: split
from optimum.exporters.onnx import main_export

from exporting import checkpoints
from exporting.tasks import task_named

# optimum's names for tasks to which tools/export.py gives another name.
NAMES = {"image-feature-extraction": "feature-extraction"}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    for name in ("--model", "--task", "--out"):
        parser.add_argument(name, required=True)
    options = parser.parse_args()
    task = task_named(options.task)
    model = checkpoints.load(options.model, task, random_init=True, tiny=True, attention="eager", seed=0)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        checkpoints.save_companions(model, options.model, task, Path(folder), drawn=True, tiny=True)
        name = NAMES.get(options.task, options.task)
        # By default optimum traces Whisper with thirty seconds, whatever its configuration says.
        frames = {"nb_max_frames": 2 * model.config.max_source_positions} if task.modality == "audio" else {}
        main_export(folder, options.out, task=name, device="cpu", **frames)


if __name__ == "__main__":
    main()
