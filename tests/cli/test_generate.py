"""onnxpuma generate: a text on stdout as it emerges, figures on stderr, and refusals."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models
from tokenizers.pre_tokenizers import Whitespace
from transformers import PreTrainedTokenizerFast

from onnxpuma.commands import screen
from onnxpuma.roles.local.cluster import LocalCluster

WORDS = ("</s>", "<unk>", "once", "upon", "a", "time")
END = 0


def told(folder: Path) -> Path:
    """A model without a cache that writes `once upon a time`, and the end."""
    after = np.zeros((len(WORDS), len(WORDS)), np.float32)
    chain = [*(WORDS.index(word) for word in ("once", "upon", "a", "time")), END]
    for token, successor in pairwise(chain):
        after[token, successor] = 5.0
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["rows"]),
        helper.make_node("MatMul", ["rows", "after"], ["logits"]),
    ]
    weights = {"table": np.eye(len(WORDS), dtype=np.float32), "after": after}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "sequence"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", "sequence", len(WORDS)])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, folder / "model.onnx")
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    names = {"eos_token": "</s>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps({"model_type": "gpt2", "n_positions": 16}))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": END}))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return told(tmp_path_factory.mktemp("tale"))


def test_a_text_on_servers_of_this_machine(cli: Any, folder: Path) -> None:
    ended = cli("generate", folder, "once")
    assert ended.status == 0
    assert ended.out == " upon a time\n"
    assert "4 tokens in" in ended.err
    assert "rounds a token" in ended.err


def test_tokens_are_drawn_as_the_options_say(cli: Any, folder: Path) -> None:
    plain = ("generate", folder, "once", "--plain")
    assert cli(*plain, "--temperature", 0).out == " upon a time\n"
    assert cli(*plain, "--top-k", 1).out == " upon a time\n"
    again = cli(*plain, "--temperature", 0, "--presence-penalty", 50, "--max-new-tokens", 3)
    assert again.out == " upon a time\n"
    hot = ("--temperature", 100, "--max-new-tokens", 8)
    assert len({cli(*plain, *hot).out for _ in range(8)}) > 1
    refused = cli(*plain, "--top-p", 0)
    assert refused.status == 4
    assert "top_p is 0" in refused.err


def test_a_model_that_chats_answers(cli: Any, folder: Path, tmp_path: Path) -> None:
    chatting = told(tmp_path)
    (chatting / "chat_template.jinja").write_text("{% for m in messages %}once {{ m.content }}{% endfor %}")
    assert cli("generate", chatting, "once", "--plain").out == " upon a time\n"
    assert cli("generate", chatting, "upon", "--plain", "--max-new-tokens", 1, "--json").out.count(" a") == 1
    answered, as_it_is = (
        json.loads(cli("generate", chatting, "upon a", "--plain", "--json", *more).out)
        for more in ((), ("--raw",))
    )
    assert answered["text"].strip() == as_it_is["text"].strip() == "time"
    assert cli("generate", chatting, " ", "--plain").status == 4


def test_a_reader_that_has_enough(folder: Path) -> None:
    command = f"{sys.executable} -m onnxpuma generate {folder} once --plain | true"
    ended = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert "Traceback" not in ended.stderr
    assert "has failed" not in ended.stderr


def test_receipts_need_a_folder_and_servers(cli: Any, folder: Path, tmp_path: Path) -> None:
    asked = ("generate", folder, "once", "--plain", "--max-new-tokens", 1, "--receipts")
    assert "cannot write into" in cli(*asked, tmp_path / "none").message
    assert "nobody signed these runs" in cli(*asked, tmp_path).err


def test_a_text_from_a_cluster(cli: Any, folder: Path, tmp_path: Path) -> None:
    with LocalCluster(folder) as cluster:
        key = cluster.folder / "client.secret"
        asked = ("generate", "--cluster", cluster.config_path, "--key", key, "--tokenizer", folder)
        ended = cli(*asked, "once", "--max-new-tokens", 2, "--json", "--receipts", tmp_path)
        for receipt in tmp_path.iterdir():
            assert cli("verify", receipt, "--cluster", cluster.config_path).status == 0
    result = json.loads(ended.out)
    assert len(list(tmp_path.iterdir())) == 2  # one of each run
    assert result["text"] == " upon a"
    assert result["task"] == "text-generation"
    assert result["tokens"] == result["requests"] == 2
    assert result["bytes_per_token"] == result["bytes_sent"] // 2 > 0
    assert result["seconds"] >= result["first_token_seconds"] > 0


def test_drafts(cli: Any, folder: Path) -> None:
    plain = ("generate", folder, "once upon a time once", "--plain", "--max-new-tokens", 4)
    without, looked_up, modelled = (
        json.loads(cli(*plain, "--json", *more).out)
        for more in ((), ("--draft", "prompt", "--draft-tokens", 3), ("--draft", folder))
    )
    assert without["text"] == looked_up["text"] == modelled["text"] == " upon a time"
    assert (without["requests"], looked_up["requests"], modelled["requests"]) == (4, 2, 2)
    assert looked_up["tokens_per_request"] == 2
    assert "4 tokens by 2 runs in" in cli(*plain, "--draft", "prompt").err


def test_in_the_clear(cli: Any, folder: Path) -> None:
    ended = cli("generate", folder, "once upon", "--plain", "--fixed-length", "--max-new-tokens", 6)
    assert ended.out == " a time\n"
    assert "rounds" not in ended.err
    assert json.loads(cli("generate", folder, "once", "--plain", "--json").out)["bytes_sent"] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("once",), "expected 2 arguments, got 1"),
        (("FOLDER", "once", "upon"), "expected 2 arguments, got 3"),
        (("FOLDER", "once", "--task", "sing"), "there is no task 'sing'"),
        (("FOLDER", "once", "--task", "translation", "--plain"), "this model is not made for translation"),
        (("FOLDER", "once", "--language", "en", "--plain"), "text-generation has no option 'language'"),
        (("FOLDER", "once", "--draft", "FOLDER/gone", "--plain"), "there is no config.json in"),
        (("FOLDER", "once", "--draft-tokens", "2", "--plain"), "there is none"),
        (("FOLDER", "once", "--draft", "prompt", "--fixed-length", "--plain"), "fixed_length hides"),
        (("FOLDER", "", "--plain"), "the text is empty"),
        (("FOLDER", "a " * 17, "--plain"), "the text has 17 tokens, the model has 16 positions"),
        (("FOLDER/gone", "once"), "there is no config.json in"),
        (("--cluster", "gone.toml", "once"), "the servers have the model, but no tokenizer"),
        (("--cluster", "gone.toml", "--plain", "once"), "--plain and --cluster contradict each other"),
        (("--cluster", "gone.toml", "--tokenizer", "FOLDER", "once"), "gone.toml"),
    ],
)
def test_what_is_refused(cli: Any, folder: Path, arguments: tuple[str, ...], message: str) -> None:
    ended = cli("generate", *(a.replace("FOLDER", str(folder)) for a in arguments))
    assert message in ended.message


def test_a_terminal_is_told_no_commands(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    screen.tell("red: \x1b[31m\n")
    assert capsys.readouterr().out == "red: \ufffd[31m\n"
