"""Make the small exported models of this folder: `python tests/graph/data/make.py`.

Needs torch and transformers. One layer of width 8 with random weights per architecture and exporter; metadata
is cleared, so that the files contain no paths of the machine that made them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxpuma  # noqa: F401  (before other libraries are loaded: it ends their telemetry)

# isort: split
import onnx_ir as ir
import torch
import transformers as hf
from onnx_ir.external_data import load_to_model
from onnx_ir.passes.common import ClearMetadataAndDocStringPass, RemoveUnusedNodesPass

WORDS = 20
SIZE = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


class FirstOutput(torch.nn.Module):
    """Returns only the first output of a model, so that each file has one."""

    def __init__(self, model: torch.nn.Module, **options: Any) -> None:
        super().__init__()
        self.model, self.options = model, options

    def forward(self, first: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        if attention_mask is None:
            return self.model(first)[0]
        return self.model(input_ids=first, attention_mask=attention_mask, **self.options)[0]


def bert(attention: str) -> FirstOutput:
    config = hf.BertConfig(
        vocab_size=WORDS, max_position_embeddings=32, attn_implementation=attention, **SIZE
    )
    return FirstOutput(hf.BertModel(config, add_pooling_layer=False))


def gpt2(attention: str) -> FirstOutput:
    config = hf.GPT2Config(
        vocab_size=WORDS, n_embd=8, n_layer=1, n_head=2, n_positions=32, attn_implementation=attention
    )
    return FirstOutput(hf.GPT2LMHeadModel(config), use_cache=False)


def llama(attention: str) -> FirstOutput:
    config = hf.LlamaConfig(vocab_size=WORDS, num_key_value_heads=1, attn_implementation=attention, **SIZE)
    return FirstOutput(hf.LlamaForCausalLM(config), use_cache=False)


def t5(attention: str) -> FirstOutput:
    config = hf.T5Config(
        vocab_size=WORDS,
        d_model=8,
        d_kv=4,
        d_ff=16,
        num_layers=1,
        num_heads=2,
        feed_forward_proj="gated-gelu",
        attn_implementation=attention,
    )
    return FirstOutput(hf.T5EncoderModel(config))


def vit(attention: str) -> FirstOutput:
    config = hf.ViTConfig(image_size=8, patch_size=4, attn_implementation=attention, **SIZE)
    return FirstOutput(hf.ViTModel(config, add_pooling_layer=False))


MODELS: dict[str, tuple[Callable[[str], FirstOutput], str, int, str]] = {
    "bert-torchscript-14": (bert, "torchscript", 14, "eager"),
    "bert-torchscript-17": (bert, "torchscript", 17, "sdpa"),
    "bert-dynamo-18": (bert, "dynamo", 18, "sdpa"),
    "bert-dynamo-23": (bert, "dynamo", 23, "sdpa"),
    "gpt2-torchscript-17": (gpt2, "torchscript", 17, "eager"),
    "gpt2-dynamo-20": (gpt2, "dynamo", 20, "sdpa"),
    "llama-torchscript-17": (llama, "torchscript", 17, "sdpa"),
    "llama-dynamo-18": (llama, "dynamo", 18, "sdpa"),
    "llama-dynamo-23": (llama, "dynamo", 23, "sdpa"),
    "t5-torchscript-17": (t5, "torchscript", 17, "eager"),
    "vit-torchscript-20": (vit, "torchscript", 20, "sdpa"),
    "vit-dynamo-20": (vit, "dynamo", 20, "eager"),
}


def export(name: str, folder: Path) -> Path:
    make, exporter, opset, attention = MODELS[name]
    torch.manual_seed(0)
    module = make(attention).eval()
    for key, parameter in module.named_parameters():
        noise = 0.4 * torch.randn_like(parameter)
        parameter.data = 1 + noise if "norm" in key.lower() and key.endswith("weight") else noise
    path = folder / f"{name}.onnx"
    if make is vit:
        arguments: tuple[torch.Tensor, ...] = (torch.randn(2, 3, 8, 8),)
        names, axes = ["pixel_values"], ({0: "batch"},)
    else:
        arguments = (torch.randint(3, WORDS, (2, 6)), torch.ones(2, 6, dtype=torch.int64))
        names, axes = ["input_ids", "attention_mask"], ({0: "batch", 1: "sequence"},) * 2
    if exporter == "dynamo":
        program = torch.onnx.export(
            module,
            arguments,
            input_names=names,
            output_names=["y"],
            dynamo=True,
            opset_version=opset,
            dynamic_shapes=axes,
        )
        program.save(str(path))
    else:
        torch.onnx.export(
            module,
            arguments,
            str(path),
            input_names=names,
            output_names=["y"],
            dynamo=False,
            opset_version=opset,
            dynamic_axes=dict(zip(names, axes, strict=True)),
        )
    model = load_to_model(ir.load(path))
    RemoveUnusedNodesPass()(model)
    ClearMetadataAndDocStringPass()(model)
    for value in [*model.graph.initializers.values(), *(o for n in model.graph for o in n.outputs)]:
        value.metadata_props.clear()
    model.metadata_props.clear()
    ir.save(model, path)
    return path


if __name__ == "__main__":
    here = Path(__file__).parent
    for name in MODELS:
        print(name, export(name, here).stat().st_size)
