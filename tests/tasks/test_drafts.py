"""Drafts: the same text in fewer runs, whatever is guessed, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto

from onnxpuma.errors import ConfigError, InputError, ModelError
from onnxpuma.roles.local.cluster import LocalCluster
from onnxpuma.roles.owner.owner import share_model
from onnxpuma.shipped import shipped_model
from onnxpuma.tasks import SecureRunner, pipeline
from onnxpuma.tasks.decoder import causal_decoder
from onnxpuma.tasks.guesses import LookUp, PublicModel, guesser_of
from onnxpuma.tasks.plain import PlainRunner
from onnxpuma.tasks.port import Result, Run
from onnxpuma.tasks.rules import Rules
from onnxpuma.tasks.secure import on_this_machine
from onnxpuma.tasks.writing import write

ENDLESS = {"eos_token_id": None}
TEXT = "abcabcab"


def causal_folder(
    kit: SimpleNamespace, path: Path, seed: int, cached: bool = True, **generation: Any
) -> Path:
    """A decoder that mixes each token with the sum of those up to it, and no later ones."""
    weights = kit.drawn(seed)
    width = weights["table"].shape[1]
    sketch = kit.Sketch(constants={**weights, "two": np.array(2), "one": np.array([1])})
    sketch.constants |= {"end": np.array([2**31]), "axis": np.array([2]), "tenth": np.float32(0.1)}
    sketch.take("input_ids", TensorProto.INT64, ["batch", "sequence"])
    sketch.add("Gather", ["table", "input_ids"], "rows")
    present = sketch.add("Unsqueeze", ["rows", "one"], "heads")  # (batch, 1, sequence, width)
    if cached:
        sketch.take("past_key_values.0.key", TensorProto.FLOAT, ["batch", 1, "past", width])
        present = sketch.add("Concat", ["past_key_values.0.key", "heads"], "present.0.key", axis=2)
        sketch.give(present, ["batch", 1, "total", width])
    sketch.add("CumSum", [present, "two"], "sums")
    if cached:
        sketch.add("Shape", ["past_key_values.0.key"], "past_length", start=2, end=3)
        sketch.add("Slice", ["sums", "past_length", "end", "axis"], "new_sums")
    sketch.add("Squeeze", ["new_sums" if cached else "sums", "one"], "seen")  # (batch, sequence, width)
    sketch.add("Mul", ["seen", "tenth"], "some")
    sketch.add("MatMul", ["rows", "after"], "a")
    sketch.add("MatMul", ["some", "mean"], "b")
    sketch.add("Add", ["a", "b"], "logits")
    sketch.give("logits", ["batch", "sequence", kit.VOCABULARY])
    sketch.save(path / "model.onnx")
    kind = {"model_type": "llama", "max_position_embeddings": 64}
    return Path(kit.write_folder(path, kind, {**ENDLESS, **generation}))


class Fixed:
    """Guesses what a list of tokens says, which a text from `start` on should follow."""

    def __init__(self, tokens: Sequence[int], start: int, count: int, wrong_at: Sequence[int] = ()) -> None:
        self._tokens = [t + (place in wrong_at) for place, t in enumerate(tokens)]
        self._start, self._count = start, count

    def guess(self, text: Sequence[int], most: int) -> list[int]:
        place, count = len(text) - self._start, min(self._count, most)
        guesses = self._tokens[place : place + count]
        return guesses + [text[-1]] * (count - len(guesses))


def written(pipe: Any, text: str = TEXT, **options: Any) -> list[int]:
    return list(pipe(text, return_tensors=True, **options)[0]["generated_token_ids"])


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_a_text_is_the_same_whatever_is_guessed(
    kit: SimpleNamespace, tmp_path: Path, seed: int, cached: bool
) -> None:
    folder = causal_folder(kit, tmp_path, seed, cached)
    with pipeline("text-generation", folder, plain=True) as pipe:
        for most in (1, 2, 3, 11):
            want = written(pipe, max_new_tokens=most)
            right = Fixed(want, len(TEXT), 3)
            some = Fixed(want, len(TEXT), 3, wrong_at=(2, 4, 5))
            none = Fixed(want, len(TEXT), 3, wrong_at=range(most))
            runs = []
            for guesser in (right, some, none):
                assert written(pipe, max_new_tokens=most, draft=guesser) == want
                runs.append(pipe.usage.requests)
            assert runs == {1: [1, 1, 1], 2: [2, 2, 2], 3: [2, 2, 3], 11: [4, 6, 11]}[most]
            for count in (1, 5, 20):
                assert written(pipe, max_new_tokens=most, draft="prompt", draft_tokens=count) == want


def test_the_requests_of_drafts(kit: SimpleNamespace, tmp_path: Path) -> None:
    folder = causal_folder(kit, tmp_path, 0)
    with pipeline("text-generation", folder, plain=True) as pipe:
        want = written(pipe, max_new_tokens=8)
    runner = kit.Watched(folder)
    with pipeline("text-generation", folder=folder, runner=runner) as pipe:
        assert written(pipe, max_new_tokens=8, draft=Fixed(want, len(TEXT), 2, wrong_at=(2,))) == want
    assert runner.held == []
    assert runner.most_held == 2
    outputs = [outputs for _, _, outputs, _ in runner.calls]
    assert outputs == [["next_token"], ["next_tokens"], ["next_tokens"], ["next_tokens"]]
    assert [call[1]["input_ids"].shape[1] for call in runner.calls] == [len(TEXT), 3, 3, 2]
    pasts = [call[1]["past_key_values.0.key"].shape[2] for call in runner.calls]
    assert pasts == [0, len(TEXT), len(TEXT) + 2, len(TEXT) + 5]


def test_an_end_among_right_guesses_ends_the_text(kit: SimpleNamespace, tmp_path: Path) -> None:
    with pipeline("text-generation", causal_folder(kit, tmp_path, 1), plain=True) as pipe:
        endless = written(pipe, max_new_tokens=12)
        end = next(t for place, t in enumerate(endless) if place > 3 and t not in endless[:place])
        length = endless.index(end) + 1
    for count in (1, 2, 3, 8):
        folder = causal_folder(kit, tmp_path, 1, eos_token_id=end)
        with pipeline("text-generation", folder, plain=True) as pipe:
            guesser = Fixed(endless, len(TEXT), count)
            assert written(pipe, max_new_tokens=12, draft=guesser) == endless[:length]
            assert written(pipe, max_new_tokens=12) == endless[:length]


@pytest.mark.parametrize("count", [1, 2, 3, 9])
def test_rules_that_change_within_a_draft(kit: SimpleNamespace, tmp_path: Path, count: int) -> None:
    """The end is suppressed for the first tokens; the last one may be forced."""
    with pipeline("text-generation", causal_folder(kit, tmp_path, 2), plain=True) as pipe:
        end = written(pipe, max_new_tokens=4)[3]
    folder = causal_folder(kit, tmp_path, 2, eos_token_id=end, forced_eos_token_id=9)
    with pipeline("text-generation", folder, plain=True) as pipe:
        for least in (0, 4, 6):
            options = {"min_new_tokens": least, "max_new_tokens": 9}
            want = written(pipe, **options)
            for guesser in (Fixed(want, len(TEXT), count), "prompt"):
                assert written(pipe, **options, draft=guesser) == want


def test_a_draft_ends_where_the_positions_do(kit: SimpleNamespace, tmp_path: Path) -> None:
    runner = kit.Watched(causal_folder(kit, tmp_path, 0))
    with pipeline("text-generation", folder=tmp_path, runner=runner) as pipe:
        want = written(pipe, "a" * 58, max_new_tokens=50)
        assert len(want) == 6
        first = len(runner.calls)
        assert written(pipe, "a" * 58, max_new_tokens=50, draft="prompt", draft_tokens=30) == want
    read = [
        call[1]["past_key_values.0.key"].shape[2] + call[1]["input_ids"].shape[1] for call in runner.calls
    ]
    assert max(read[first:]) <= 63


def test_logits_are_those_of_each_token(kit: SimpleNamespace, tmp_path: Path) -> None:
    with pipeline("text-generation", causal_folder(kit, tmp_path, 0), plain=True) as pipe:
        plain, drafted = (
            pipe(TEXT, max_new_tokens=7, logits=True, draft=draft)[0]["logits"]
            for draft in ("none", "prompt")
        )
    assert plain.shape == drafted.shape == (7, kit.VOCABULARY)
    np.testing.assert_allclose(plain, drafted, atol=1e-4)


def test_what_is_looked_up() -> None:
    assert LookUp(4).guess([1, 2, 3, 9, 1, 2, 3], 10) == [9, 1, 2, 3]
    assert LookUp(4).guess([1, 2, 3, 9, 1, 2, 3], 2) == [9, 1]
    assert LookUp(3).guess([1, 5, 6, 2, 5, 7, 1, 5], 9) == [6, 2, 5]  # two tokens tell more than one
    assert LookUp(3).guess([5, 6, 4, 5, 7, 4, 5], 9) == [7, 4, 5]  # the latest place
    assert LookUp(5).guess([1, 2, 1, 2], 9) == [1, 2, 1, 2, 1]  # and on behind the end
    assert LookUp(3).guess([7], 9) == [7, 7, 7]
    assert LookUp(2).guess([1, 2, 3], 9) == [3, 3]


@pytest.mark.parametrize("cached", [True, False])
def test_a_small_public_model_guesses(kit: SimpleNamespace, tmp_path: Path, cached: bool) -> None:
    large = causal_folder(kit, tmp_path / "large", 3)
    same = causal_folder(kit, tmp_path / "same", 3, cached)
    other = causal_folder(kit, tmp_path / "other", 4, cached)
    with pipeline("text-generation", large, plain=True) as pipe:
        want = [written(pipe, text, max_new_tokens=12) for text in (TEXT, "xyz")]
        for folder in (same, other):
            runs = []
            for text, tokens in zip((TEXT, "xyz"), want, strict=True):
                assert written(pipe, text, max_new_tokens=12, draft=folder, draft_tokens=3) == tokens
                runs.append(pipe.usage.requests)
            assert runs == [4, 4] if folder is same else min(runs) > 4


def test_a_public_model_stays_in_its_positions(kit: SimpleNamespace, tmp_path: Path) -> None:
    guesser = PublicModel(causal_folder(kit, tmp_path, 0), 4, kit.byte_tokenizer())
    assert guesser.guess([5] * 60, 9) != [5] * 4
    assert guesser.guess([5] * 61, 9) == [5] * 4
    assert len(guesser.guess([5] * 61, 2)) == 2


def test_a_model_for_drafts_with_other_words_is_refused(kit: SimpleNamespace, tmp_path: Path) -> None:
    folder = causal_folder(kit, tmp_path, 0)
    text = (folder / "tokenizer.json").read_text()
    table = json.loads(text)
    words = table["model"]["vocab"]
    words["A"], words["B"] = words["B"], words["A"]
    other = causal_folder(kit, tmp_path / "other", 0)
    (other / "tokenizer.json").write_text(json.dumps(table))
    with pipeline("text-generation", folder, plain=True) as pipe:
        with pytest.raises(ConfigError, match="has another vocabulary"):
            pipe(TEXT, draft=other)
        assert pipe.usage.requests == 0
        with pytest.raises(ConfigError, match=r"there is no config\.json"):
            pipe(TEXT, draft=tmp_path / "gone")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"draft_tokens": 3}, "there is none"),
        ({"draft": "prompt", "draft_tokens": 0}, "draft_tokens is 0"),
        ({"draft": "prompt", "draft_tokens": 65}, "draft_tokens is 65"),
        ({"draft": "prompt", "draft_tokens": 2.5}, "draft_tokens is 2.5"),
        ({"draft": "prompt", "fixed_length": True}, "fixed_length hides how long a text is"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    kit: SimpleNamespace, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    runner = kit.Watched(causal_folder(kit, tmp_path, 0))
    with pipeline("text-generation", folder=tmp_path, runner=runner) as pipe:
        with pytest.raises(InputError, match=message):
            pipe(TEXT, **options)
        assert runner.calls == []


def test_only_text_generation_has_drafts(kit: SimpleNamespace, tmp_path: Path) -> None:
    folder, refused = (
        kit.pair_folder(tmp_path, kit.drawn()),
        pytest.raises(InputError, match="no option 'draft'"),
    )
    with pipeline("translation", folder, plain=True) as pipe, refused:
        pipe(TEXT, draft="prompt")
    assert guesser_of("none", None, None) is None


class _Rolling(PlainRunner):
    """Keeps a cache of other lengths than the tokens have."""

    def run(self, run: Run) -> Result:
        done = super().run(run)
        return Result(done.outputs, {name: value[:, :, -3:] for name, value in done.kept.items()})


def test_a_cache_without_a_place_for_each_token_cannot_be_cut(kit: SimpleNamespace, tmp_path: Path) -> None:
    decoder = causal_decoder(_Rolling(causal_folder(kit, tmp_path, 0)))
    decoder.read([4, 5, 6, 7])
    decoder.read_each([8, 9])
    decoder.forget(6)
    with pytest.raises(ModelError, match="does not grow by one place a token"):
        decoder.forget(5)


# ---- on shares --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(kit: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return causal_folder(kit, tmp_path_factory.mktemp("causal"), 3)


@pytest.fixture(scope="module")
def servers(folder: Path) -> Iterator[LocalCluster]:
    with LocalCluster(folder) as cluster:
        yield cluster


class _Kept(SecureRunner):
    """Records the values that it keeps."""

    def run(self, run: Run) -> Any:
        result = super().run(run)
        self.kept = [*getattr(self, "kept", []), *result.kept.values()]
        return result


def test_a_text_on_shares_is_that_in_the_clear(folder: Path, servers: LocalCluster) -> None:
    with pipeline("text-generation", folder, plain=True) as pipe:
        want = written(pipe, max_new_tokens=7)
    some = Fixed(want, len(TEXT), 3, wrong_at=(2, 4))
    runner = _Kept(servers.client())
    with pipeline("text-generation", folder=folder, runner=runner) as pipe:
        for draft, runs in ((None, 7), (some, 4), ("prompt", None), (folder, 3)):
            count = 3 if draft in ("prompt", folder) else None
            assert written(pipe, max_new_tokens=7, draft=draft, draft_tokens=count) == want
            assert runs is None or pipe.usage.requests == runs
        for held in runner.kept:
            feed = {"input_ids": [[1]], "past_key_values.0.key": held}
            with pytest.raises(InputError, match="the servers do not hold"):
                runner.run(Run("model", feed, ["next_token"]))


def test_an_owner_can_hide_the_tokens_after_all_positions(folder: Path, tmp_path: Path) -> None:
    share_model(folder, tmp_path, hide=["next_tokens"])
    with pipeline(None, tmp_path, folder=folder) as pipe:
        with pytest.raises(InputError, match="has hidden next_tokens"):
            pipe(TEXT, draft="prompt", max_new_tokens=3)
        assert len(written(pipe, max_new_tokens=2)) == 2


def test_the_tales_that_ship() -> None:
    """They are read again for each token, as the model has no cache."""
    model = shipped_model("tales")
    prompt = [int(token) for token in model.inputs[0][:6]]
    texts = []
    with closing(on_this_machine(model.path)) as secure:
        for runner, guesser in ((PlainRunner(model.path), None), (secure, LookUp(3)), (secure, None)):
            before = runner.usage.requests
            found = write(causal_decoder(runner), prompt, Rules(most=3), guesser)
            texts.append([one.token for one in found])
            assert runner.usage.requests - before <= 3
    assert texts[0] == texts[1] == texts[2]
    assert len(texts[0]) == 3
