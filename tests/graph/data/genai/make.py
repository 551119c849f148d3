"""Make llama.onnx, a decoder as written by onnxruntime-genai's model builder: `python make.py`.

Needs torch, transformers and onnxruntime-genai. One layer of width 32 with random weights.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import onnxpuma  # noqa: F401  (before other libraries are loaded: it ends their telemetry)

# isort: split
import onnx
import torch
import transformers as hf
from tokenizers import Tokenizer, models

WORDS = 20

if __name__ == "__main__":
    torch.manual_seed(0)
    config = hf.LlamaConfig(
        vocab_size=WORDS,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        intermediate_size=16,
        max_position_embeddings=32,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(WORDS)}, unk_token="w0"))
    with tempfile.TemporaryDirectory() as folder:
        hf.LlamaForCausalLM(config).save_pretrained(f"{folder}/hf")
        hf.PreTrainedTokenizerFast(tokenizer_object=words).save_pretrained(f"{folder}/hf")
        builder = [
            sys.executable,
            "-m",
            "onnxruntime_genai.models.builder",
            "-m",
            "tiny",
            "-p",
            "fp32",
            "-e",
            "cpu",
        ]
        places = ["-i", f"{folder}/hf", "-o", f"{folder}/onnx", "-c", f"{folder}/cache"]
        subprocess.run([*builder, *places], check=True)
        onnx.save(onnx.load(f"{folder}/onnx/model.onnx"), Path(__file__).parent / "llama.onnx")
