"""text-generation: inputs, results, the end of a text, and refusals."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from onnxpuma.errors import InputError
from onnxpuma.tasks import pipeline

STORY = "Hé😀."


@pytest.fixture(scope="module")
def folder(kit: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Writes the story after `>`; each token's second choice leads out of the story."""
    follow = kit.chain(STORY, kit.byte_tokens(">")[0])
    follow[kit.byte_tokens("H")[0]].append(kit.byte_tokens("!")[0])
    follow[kit.byte_tokens("!")[0]] = [kit.END]
    follow[kit.byte_tokens(".")[0]].append(kit.byte_tokens("?")[0])
    return Path(kit.causal_folder(tmp_path_factory.mktemp("story"), kit.scripted(follow)))


@pytest.fixture
def watched(kit: SimpleNamespace, folder: Path) -> Any:
    return kit.Watched(folder)


@pytest.fixture
def pipe(folder: Path, watched: Any) -> Any:
    return pipeline("text-generation", folder=folder, runner=watched)


def test_results_have_the_form_of_transformers(pipe: Any) -> None:
    assert pipe("a>") == [{"generated_text": "a>" + STORY}]
    assert pipe(["a>", "b>"]) == [[{"generated_text": "a>" + STORY}], [{"generated_text": "b>" + STORY}]]
    assert pipe("a>", return_full_text=False) == [{"generated_text": STORY}]


def test_ids_end_with_the_token_that_ended_them(pipe: Any, kit: SimpleNamespace) -> None:
    assert pipe("a>", return_tensors=True) == [{"generated_token_ids": [*kit.byte_tokens(STORY), kit.END]}]


def test_a_text_is_streamed_in_whole_letters(pipe: Any) -> None:
    assert list(pipe.stream("a>")) == ["H", "é", "😀", "."]


def test_a_letter_cut_off_is_shown_broken_at_the_end(pipe: Any) -> None:
    pieces = list(pipe.stream("a>", max_new_tokens=4))
    assert pieces == ["H", "é", "\ufffd"]


def test_the_most_tokens(pipe: Any, watched: Any) -> None:
    assert pipe("a>", max_new_tokens=1, return_full_text=False) == [{"generated_text": "H"}]
    assert pipe("a>", max_length=3, return_full_text=False) == [{"generated_text": "H"}]
    assert len(watched.calls) == 2


def test_usage_is_of_the_last_call(pipe: Any) -> None:
    pipe("a>", max_new_tokens=3)
    assert pipe.usage.requests == 3
    pipe(["a>", "a>"], max_new_tokens=2)
    assert pipe.usage.requests == 4


def test_a_fixed_length_runs_on_behind_the_end(pipe: Any, watched: Any) -> None:
    assert pipe("a>", max_new_tokens=20, fixed_length=True) == [{"generated_text": "a>" + STORY}]
    assert len(watched.calls) == 20


def test_the_least_tokens_suppress_the_end(pipe: Any, watched: Any, kit: SimpleNamespace) -> None:
    length = len(kit.byte_tokens(STORY))
    result = pipe("a>", min_new_tokens=length + 1, return_full_text=False)
    assert result[0]["generated_text"].startswith(STORY + "?")
    suppressed = [call[1]["suppressed_ids"].tolist() for call in watched.calls]
    assert suppressed[: length + 1] == [[kit.END]] * (length + 1)
    assert all(ids == [] for ids in suppressed[length + 1 :])


def test_suppressed_tokens_do_not_come_out(kit: SimpleNamespace, folder: Path, tmp_path: Path) -> None:
    begin = kit.byte_tokens("H")
    weights = kit.scripted({kit.byte_tokens(">")[0]: [*begin, *kit.byte_tokens("!")]})
    made = kit.causal_folder(
        tmp_path, weights, generation={"begin_suppress_tokens": begin, "suppress_tokens": [7]}
    )
    runner = kit.Watched(made)
    with pipeline("text-generation", folder=made, runner=runner) as pipe:
        assert pipe(">", max_new_tokens=2, return_full_text=False)[0]["generated_text"][0] == "!"
    assert [call[1]["suppressed_ids"].tolist() for call in runner.calls] == [[7, *begin], [7]]


def test_several_ends(kit: SimpleNamespace, tmp_path: Path) -> None:
    script = kit.scripted(kit.chain(STORY, kit.byte_tokens(">")[0]))
    made = kit.causal_folder(tmp_path, script, generation={"eos_token_id": [kit.END, *kit.byte_tokens("H")]})
    with pipeline("text-generation", made, plain=True) as pipe:
        assert pipe(">", return_tensors=True) == [{"generated_token_ids": kit.byte_tokens("H")}]


def test_options_may_be_given_once_for_all(folder: Path) -> None:
    with pipeline("text-generation", folder, plain=True, max_new_tokens=1, do_sample=False) as pipe:
        assert pipe(">") == [{"generated_text": ">H"}]
        assert pipe(">", generate_kwargs={"max_new_tokens": 3}) == [{"generated_text": ">Hé"}]


def test_a_chat(kit: SimpleNamespace, folder: Path) -> None:
    chat = [{"role": "user", "content": "hello"}]
    tokenizer = kit.byte_tokenizer()
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}>"
    with pipeline("text-generation", folder, plain=True, tokenizer=tokenizer) as pipe:
        answer = {"role": "assistant", "content": STORY}
        assert pipe(chat) == [{"generated_text": [*chat, answer]}]
        assert pipe([chat, chat], return_full_text=False) == [[{"generated_text": STORY}]] * 2
        with pytest.raises(InputError, match="no role or no content"):
            pipe([{"role": "user"}])
        with pytest.raises(InputError, match="text is empty"):
            pipe([{"role": "user", "content": ""}])


def test_a_chat_needs_a_template(pipe: Any) -> None:
    with pytest.raises(InputError, match="no chat template"):
        pipe([{"role": "user", "content": "hello"}])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("", "the text is empty"),
        (" \n", "the text is empty"),
        (7, "expected a text, got int"),
        (b"bytes", "expected a text, got bytes"),
        (None, "expected a text, got NoneType"),
        ([], "the list of inputs is empty"),
        (["a>", 3], "expected a text, got int"),
        ("half \ud83d", "half a character"),
        ("a" * 65, "65 tokens, the model has 64 positions"),
    ],
)
def test_what_is_no_text_is_refused_before_anything_runs(
    pipe: Any, watched: Any, given: Any, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        pipe(given, max_new_tokens=1)
    assert len(watched.calls) == (1 if given == ["a>", 3] else 0)


def test_writing_ends_where_the_positions_do(pipe: Any, watched: Any) -> None:
    with pytest.raises(InputError, match="64 tokens, the model has 64 positions"):
        pipe("a" * 64)
    assert watched.calls == []
    result = pipe("a" * 61 + ">", max_new_tokens=50, return_tensors=True)[0]
    assert len(result["generated_token_ids"]) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_beams": 4}, "num_beams=4 asks for another search than greedy"),
        ({"typical_p": 0.7}, "typical_p=0.7"),
        ({"temperature": 0.7}, "temperature steers sampling"),
        ({"no_repeat_ngram_size": 3}, "no_repeat_ngram_size=3"),
        ({"max_new_token": 4}, "no option 'max_new_token'"),
        ({"max_new_tokens": 0}, "max_new_tokens is 0"),
        ({"max_new_tokens": 1.5}, "max_new_tokens is 1.5"),
        ({"min_new_tokens": -1}, "min_new_tokens is -1"),
        ({"max_length": 2}, "the prompt alone has 2 tokens"),
    ],
)
def test_other_searches_and_unknown_options_are_refused(
    pipe: Any, watched: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        pipe("a>", **options)
    assert watched.calls == []


def test_an_option_misspelled_is_told_the_right_one(pipe: Any) -> None:
    with pytest.raises(InputError) as refusal:
        pipe("a>", max_new_token=4)
    assert "did you mean 'max_new_tokens'?" in refusal.value.hint
