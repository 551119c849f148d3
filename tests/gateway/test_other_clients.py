"""Other clients against the gateway: OpenAI's for JavaScript, and LangChain; skipped where missing."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

JAVASCRIPT = """
const OpenAI = require("openai");
const client = new OpenAI({ baseURL: process.argv[2], apiKey: "unused", maxRetries: 0 });
const messages = [{ role: "user", content: "tell me" }];
(async () => {
  const told = { models: [] };
  for await (const model of client.models.list()) told.models.push(model.id);
  const chat = await client.chat.completions.create({ model: "story", messages });
  told.chat = chat.choices[0].message.content;
  told.tokens = chat.usage.completion_tokens;
  told.rounds = chat.onnxpuma.rounds;
  const stream = await client.chat.completions.create({
    model: "story", messages, stream: true, stream_options: { include_usage: true },
  });
  told.pieces = [];
  for await (const chunk of stream) {
    const piece = chunk.choices[0]?.delta?.content;
    if (piece) told.pieces.push(piece);
    if (chunk.usage) told.streamed = chunk.usage.completion_tokens;
  }
  told.completion = (await client.completions.create({ model: "story", prompt: "a>" })).choices[0].text;
  const vectors = await client.embeddings.create({ model: "vectors", input: ["ab", "b"] });
  told.vectors = vectors.data.map((each) => each.embedding.length);
  told.refused = await client.chat.completions
    .create({ model: "story", messages, temperature: 1, seed: 1 })
    .catch((error) => [error.status, error.param, error.constructor.name]);
  console.log(JSON.stringify(told));
})();
"""


def has_openai_for_javascript() -> bool:
    node = shutil.which("node")
    if node is None:
        return False
    found = subprocess.run([node, "-e", "require.resolve('openai')"], capture_output=True, check=False)
    return found.returncode == 0


@pytest.mark.skipif(
    not has_openai_for_javascript(),
    reason="needs node with the module openai: npm install openai, and NODE_PATH=.../node_modules",
)
def test_openai_for_javascript(plain: Any, tmp_path: Path) -> None:
    script = tmp_path / "client.cjs"
    script.write_text(JAVASCRIPT)
    ended = subprocess.run(
        ["node", str(script), f"{plain.url}/v1"], capture_output=True, text=True, check=False, timeout=120
    )
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout) == {
        "models": ["story", "endless", "vectors", "hearing", "turning"],
        "chat": "Hé😀.",
        "tokens": 9,
        "rounds": 0,
        "pieces": ["H", "é", "😀", "."],
        "streamed": 9,
        "completion": "Hé😀.",
        "vectors": [3, 3],
        "refused": [400, "seed", "BadRequestError"],
    }


def test_langchain(plain: Any) -> None:
    langchain = pytest.importorskip("langchain_openai", reason="needs langchain-openai")
    there = {"base_url": f"{plain.url}/v1", "api_key": "unused", "max_retries": 0}
    chat = langchain.ChatOpenAI(model="story", **there)
    answer = chat.invoke([("system", "be brief"), ("human", "tell me")])
    assert answer.content == "Hé😀."
    assert answer.usage_metadata["output_tokens"] == 9
    assert "".join(chunk.content for chunk in chat.stream("tell me")) == "Hé😀."
    assert [each.content for each in chat.batch(["one", "two", "three"])] == ["Hé😀."] * 3
    texts = langchain.OpenAI(model="story", temperature=0, **there)
    assert texts.invoke("a>") == "Hé😀."
    vectors = langchain.OpenAIEmbeddings(model="vectors", check_embedding_ctx_length=False, **there)
    assert [len(each) for each in vectors.embed_documents(["ab", "b"])] == [3, 3]
