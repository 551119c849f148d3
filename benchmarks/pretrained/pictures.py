"""PP-OCRv6's recogniser: does it read the same words in pictures on shares?"""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx

from onnxpuma.tasks import Runner
from onnxpuma.tasks.port import Run
from pretrained.case import Bench, Case, Folders, Measured, Target, average
from pretrained.compare import Errors
from pretrained.packages import OCR
from pretrained.samples import pictures

HEIGHT, WIDTH = 48, 320
MODEL = "PP-OCRv6_rec_small.onnx"


def prepare(sources: Sequence[Path], folder: Path) -> Folders:
    if not (folder / "model.onnx").exists():
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(sources[0] / MODEL, folder / "model.onnx")
    return Folders(folder, folder)


def measure(bench: Bench) -> Measured:
    crops = bench.some(pictures(bench.data), 2)
    letters = _letters(bench.folder / "model.onnx")
    errors, examples = Errors(), []
    same = exact = 0
    right = [0, 0]
    for number, (path, word) in enumerate(crops):
        feed = pixels(path)
        plain, secure = _read(bench.plain, feed), _read(bench.secure, feed)
        errors.add(secure, plain)
        texts = [decoded(scores, letters) for scores in (plain, secure)]
        same += texts[0] == texts[1]
        exact += bool((plain.argmax(-1) == secure.argmax(-1)).all())
        right = [count + (text.upper() == word.upper()) for count, text in zip(right, texts, strict=True)]
        examples.append((word, *texts))
        bench.say(f"picture {number + 1} of {len(crops)}: {texts[0]!r} and {texts[1]!r}")
    return Measured(
        samples=f"{len(crops)} crops of one word",
        metric="words read right, whatever the case",
        plain=f"{right[0]} of {len(crops)}",
        secure=f"{right[1]} of {len(crops)}",
        agreement=f"{same} of {len(crops)} readings the same; every position's letter the same in {exact}",
        error_of="a probability",
        errors=errors,
        costs=[average(f"a crop, {HEIGHT} x {WIDTH}", bench.secure.runs)],
        targets=[Target("equal readings", f"{len(crops)} of {len(crops)}", f"{same}", same == len(crops))],
        examples=examples,
    )


def pixels(path: Path) -> dict[str, np.ndarray]:
    """A crop as the recogniser expects it: 48 high, 320 wide, blue first, -1 to 1, zeros on the right."""
    from PIL import Image

    image = Image.open(path).convert("RGB")
    width = min(WIDTH, math.ceil(image.width * HEIGHT / image.height))
    array = np.asarray(image.resize((width, HEIGHT), Image.Resampling.BILINEAR), np.float32)[:, :, ::-1]
    padded = np.zeros((1, 3, HEIGHT, WIDTH), np.float32)
    padded[0, :, :, :width] = (array / 127.5 - 1).transpose(2, 0, 1)
    return {"x": padded}


def decoded(scores: np.ndarray, letters: Sequence[str]) -> str:
    """CTC: the most likely letter of each position in (positions, letters), without repetitions and
    blanks."""
    best = scores.argmax(-1)
    before = np.concatenate([[0], best[:-1]])
    return "".join(letters[i] for i, last in zip(best, before, strict=True) if i not in (0, last))


def _read(runner: Runner, feed: dict[str, np.ndarray]) -> np.ndarray:
    (output,) = runner.graphs["model"].outputs
    return np.asarray(runner.run(Run("model", feed, [output])).outputs[output][0])


def _letters(model: Path) -> list[str]:
    """Blank, the letters that the file lists, and a space."""
    entries = {entry.key: entry.value for entry in onnx.load(model).metadata_props}
    return ["", *entries["character"].splitlines(), " "]


CASE = Case(
    key="ocr",
    title="PP-OCRv6 recogniser (RapidOCR), text in pictures",
    about="57 convolutions, attention over columns, CTC over 18710 letters; the ONNX file is the package's, "
    "written by Paddle. The crops are those of the data set: the words are found in the clear, and read on "
    "shares.",
    packages=(OCR,),
    data="ocr",
    prepare=prepare,
    measure=measure,
)
