"""The training scripts write whole folders, equal for equal seeds; stories survive their vocabulary."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")

import train_digits  # noqa: E402
import train_language  # noqa: E402
import train_tabular  # noqa: E402
from training import blocks, folder, loop  # noqa: E402
from training.stories import END, UNKNOWN, Vocabulary, story  # noqa: E402


@pytest.fixture(autouse=True)
def _give_back_torch_settings() -> object:
    threads = torch.get_num_threads()
    yield
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(threads)


@pytest.mark.parametrize(
    ("script", "options", "better_than"),
    [
        (train_tabular, ["--epochs", "3"], 0.63),  # "benign" alone is right for 63 %
        (train_digits, ["--epochs", "6"], 0.15),
        (train_language, ["--epochs", "1", "--stories", "400", "--heldout", "10"], 0.1),
    ],
)
def test_script_writes_a_folder_that_has_learned(
    tmp_path: Path, script: object, options: list[str], better_than: float
) -> None:
    assert script.main(["--out", str(tmp_path), *options]) == 0  # type: ignore[attr-defined]
    with np.load(tmp_path / "heldout.npz") as arrays:
        result = folder.score(tmp_path / "model.onnx", arrays["inputs"], arrays["labels"])
    assert result["accuracy"] > better_than
    assert f"accuracy = {result['accuracy']}" in (tmp_path / "model.toml").read_text()


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    written = []
    for name in ("first", "second"):
        train_tabular.main(["--out", str(tmp_path / name), "--epochs", "1"])
        written.append((tmp_path / name / "model.onnx").read_bytes())
    assert written[0] == written[1]


def test_causal_attention_hides_later_positions() -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 6, 16)
    changed = x.clone()
    changed[:, 4:] += 1
    for causal in (True, False):
        attention = blocks.Attention(16, 2, causal)
        same = torch.allclose(attention(x)[:, :4], attention(changed)[:, :4], atol=1e-6)
        assert same is causal


def test_shift_moves_by_at_most_one_pixel() -> None:
    image = torch.zeros(1, 1, 8, 8)
    image[0, 0, 4, 4] = 16
    for _ in range(20):
        (place,) = train_digits.shift(image)[0, 0].nonzero().tolist()
        assert max(abs(place[0] - 4), abs(place[1] - 4)) <= 1


def test_stories_survive_the_vocabulary() -> None:
    draw = random.Random(1)
    told = [story(draw) for _ in range(500)]
    vocabulary = Vocabulary.of(told)
    assert vocabulary == Vocabulary.of(reversed(told))
    for text in told[:20]:
        ids = vocabulary.encode(text)
        assert len(ids) <= train_language.CONTEXT
        assert ids[-1] == vocabulary.tokens.index(END)
        plain = vocabulary.decode(ids)
        assert END not in plain
        assert vocabulary.encode(plain) == ids[:-1]
    assert vocabulary.tokens[vocabulary.encode("once upon a zeppelin")[-1]] == UNKNOWN


def test_windows_ask_for_the_next_token_and_no_more() -> None:
    text = story(random.Random(2))
    vocabulary = Vocabulary.of([text])
    (inputs,), (labels,) = train_language.windows([text], vocabulary)
    asked = int((labels != loop.IGNORED).sum())
    assert asked == len(vocabulary.encode(text)) - 1
    assert (labels[: asked - 1] == inputs[1:asked]).all()
    assert vocabulary.tokens[labels[asked - 1]] == END
