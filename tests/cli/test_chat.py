"""onnxpuma chat: a conversation, its commands, stop words; and the words that end a text."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from onnxpuma.commands import chat
from onnxpuma.commands.generate import Telling
from onnxpuma.errors import InputError
from onnxpuma.tasks.stop import Until

MODEL = Path("model")


class Pipe:
    """In place of a pipeline: records what it is asked, and answers with the words of its script."""

    def __init__(self, *script: str | BaseException) -> None:
        self.script, self.asked, self.ended = list(script), [], 0
        self.runner, self.task = None, "text-generation"
        self.folder = type("Folder", (), {"tokenizer": type("Tokenizer", (), {"chat_template": "x"})})
        self.usage = type("Usage", (), {"requests": 1, "bytes_sent": 0, "rounds": 0})

    def options(self, given: dict[str, Any]) -> dict[str, Any]:
        return given

    def pieces(self, item: Any, options: dict[str, Any]) -> Any:
        from onnxpuma.tasks.writer import Piece

        self.asked.append((item, options))
        answer = self.script.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        try:
            for letter in answer:
                yield Piece(letter, 1)
        finally:
            self.ended += 1

    def __enter__(self) -> Pipe:
        return self

    def __exit__(self, *_: object) -> None:
        return


@pytest.fixture
def talk(cli: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Run chat on a script, with lines on stdin."""

    def call(pipe: Pipe, lines: str, *options: str) -> Any:
        monkeypatch.setattr(chat, "writing", lambda *_: pipe)
        monkeypatch.setattr("sys.stdin", io.StringIO(lines))
        return cli("chat", MODEL, *options)

    return call


def test_a_conversation_remembers_until_it_is_reset(talk: Any) -> None:
    pipe = Pipe("hello", "fine", "again")
    ended = talk(pipe, "hi\n\nhow are you\n/reset\nhi\n/quit\nnever read\n", "--system", "be brief")
    assert ended.status == 0
    assert ended.out == "hello\nfine\nagain\n"
    system = {"role": "system", "content": "be brief"}
    user, answer = {"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}
    assert [asked for asked, _ in pipe.asked] == [
        [system, user],
        [system, user, answer, {"role": "user", "content": "how are you"}],
        [system, user],
    ]


def test_one_of_several_models_is_talked_to(
    cli: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """--model goes where the pipeline is made, by its name."""
    asked: list[tuple[Any, ...]] = []

    def writing(*given: Any) -> Pipe:
        asked.append(given)
        return Pipe("hello")

    monkeypatch.setattr(chat, "writing", writing)
    monkeypatch.setattr("sys.stdin", io.StringIO("hi\n"))
    cluster = tmp_path / "cluster.toml"
    ended = cli("chat", "--cluster", cluster, "--tokenizer", tmp_path, "--model", "tales")
    assert ended.status == 0
    assert ended.out == "hello\n"
    assert len(asked) == 1
    assert asked[0][1:3] == (tmp_path, cluster)
    assert asked[0][-1] == "tales"


def test_instructions_can_be_replaced_and_an_unknown_command_explains(talk: Any) -> None:
    pipe = Pipe("a", "b")
    ended = talk(pipe, "/system be kind\nx\n/system\n/what\ny\n", "--max-new-tokens", "7")
    assert pipe.asked[0][0][0] == {"role": "system", "content": "be kind"}
    assert [each["role"] for each in pipe.asked[1][0]] == ["user", "assistant", "user"]
    assert pipe.asked[1][1] == {"max_new_tokens": 7}
    assert "/reset forgets" in ended.err


def test_a_stop_word_ends_the_answer_and_the_run(talk: Any) -> None:
    pipe = Pipe("one\nUser: two", "three")
    ended = talk(pipe, "x\ny\n", "--stop", "User:", "--stop", "zzz")
    assert ended.out == "one\n\nthree\n"
    assert pipe.ended == 2
    assert pipe.asked[1][0][1] == {"role": "assistant", "content": "one\n"}


def test_a_message_that_fails_is_forgotten_and_the_next_is_answered(talk: Any) -> None:
    pipe = Pipe(InputError("the text has 90 tokens", "shorten it"), "fine")
    ended = talk(pipe, "long\nshort\n")
    assert ended.status == 0
    assert "the text has 90 tokens" in ended.err
    assert pipe.asked[1][0] == [{"role": "user", "content": "short"}]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "either a model or --cluster"),
        (("m", "--cluster", "c.toml"), "either a model or --cluster"),
        (("--cluster", "c.toml"), "--cluster needs --tokenizer"),
        (("m", "--stop", ""), "--stop is empty"),
    ],
)
def test_options_that_contradict_each_other(cli: Any, arguments: tuple[str, ...], said: str) -> None:
    ended = cli("chat", *arguments)
    assert ended.status == 6
    assert said in ended.message


def test_a_model_without_a_chat_template_does_not_chat(talk: Any) -> None:
    pipe = Pipe()
    pipe.folder.tokenizer.chat_template = None
    assert "no chat template" in talk(pipe, "x\n").message


def test_a_real_model_answers(cli: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import importlib.util

    spec = importlib.util.spec_from_file_location("told", Path(__file__).with_name("test_generate.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    folder = module.told(tmp_path)
    (folder / "chat_template.jinja").write_text("{{ messages[-1].content }}")
    monkeypatch.setattr("sys.stdin", io.StringIO("once\nupon a\n"))
    ended = cli("chat", folder)
    assert ended.status == 0
    assert ended.out == " upon a time\n time\n"
    assert "rounds a token" in ended.err


@pytest.mark.parametrize(
    ("words", "pieces", "passed", "rest"),
    [
        ([], ["ab", "c"], ["ab", "c"], ""),
        (["stop"], ["a st", "op b"], ["a ", ""], ""),
        (["stop"], ["a st", "ay"], ["a ", "stay"], ""),
        (["bc", "abcd"], ["ab", "cd"], ["", ""], ""),
        (["xx"], ["ax"], ["a"], "x"),
    ],
)
def test_text_until_a_word(words: list[str], pieces: list[str], passed: list[str], rest: str) -> None:
    until = Until(words)
    assert [until.add(piece) for piece in pieces] == passed
    assert until.rest == rest


def test_what_was_held_back_is_told_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    told = Telling(Pipe("a sto"), silent=False, stop=["stop"])  # type: ignore[arg-type]
    told.tell("x", {})
    assert told.text == "a sto"
    assert capsys.readouterr().out == "a sto"
