"""A model on shares as an object that `generate` and the pipelines of Transformers take for one of theirs."""

from __future__ import annotations

from typing import Any

import numpy as np

from onnxpuma.errors import ConfigError, InputError
from onnxpuma.tasks.base import Pipeline
from onnxpuma.tasks.logits import NextLogits

try:
    import torch
    from transformers import AutoConfig, GenerationConfig, GenerationMixin, PreTrainedModel
    from transformers.modeling_outputs import CausalLMOutput
except ImportError as error:
    raise ConfigError(
        f"OnnxpumaForCausalLM needs the library {error.name or 'torch'}",
        "install it: pip install 'onnxpuma[tasks]' torch",
    ) from error


class OnnxpumaForCausalLM(PreTrainedModel, GenerationMixin):
    """A model of `onnxpuma.tasks.pipeline("text-generation", ...)` for Transformers' own search.

        with pipeline("text-generation", cluster="cluster.toml", folder="smollm2") as pipe:
            model = OnnxpumaForCausalLM(pipe)
            model.generate(**tokenizer("Once", return_tensors="pt"), num_beams=2, max_new_tokens=20)

    **The client sees more than with the pipeline itself:** for each token the servers open the logits at the
    last position to it, all of them, and the client chooses. A few thousand such rows suffice to copy a
    model's last layer [Carlini24]. Where the owner has hidden the logits this raises InputError. The servers
    see what they always do: lengths, and when a text ends.

    What works on logits works as in Transformers: beams, n-grams that do not repeat, a seed. Each text is a
    request of its own. The servers keep its cache, of which nothing is told to `generate`; a text that goes
    on from another one of the same batch, as beams do, is read from its beginning. Nothing can be trained.
    """

    main_input_name = "input_ids"
    _supports_cache_class = False

    def __init__(self, pipe: Pipeline) -> None:
        """pipe: for text-generation. It stays open, and belongs to the caller."""
        if pipe.task != "text-generation":
            raise InputError(f"this pipeline is for {pipe.task}", "make one for text-generation")
        folder = pipe.folder.path
        super().__init__(AutoConfig.from_pretrained(folder, local_files_only=True))
        self._logits = NextLogits(pipe.runner)
        if pipe.folder.generation:
            self.generation_config = GenerationConfig.from_pretrained(folder, local_files_only=True)
        self.generation_config.use_cache = False

    @property
    def device(self) -> Any:
        return torch.device("cpu")

    @property
    def dtype(self) -> Any:
        return torch.float32

    def can_generate(self) -> bool:
        return True

    def prepare_inputs_for_generation(
        self, input_ids: Any, attention_mask: Any = None, **kwargs: Any
    ) -> dict[str, Any]:
        return {"input_ids": input_ids, "attention_mask": attention_mask}

    def forward(self, input_ids: Any, attention_mask: Any = None, **_: Any) -> Any:
        """The logits of the token after each text, (texts, tokens), of which the mask shows what counts:
        (texts, 1, vocabulary)."""
        ids = input_ids.cpu().numpy()
        shown = np.ones_like(ids) if attention_mask is None else attention_mask.cpu().numpy()
        texts = [row[mask.astype(bool)].tolist() for row, mask in zip(ids, shown, strict=True)]
        logits = torch.from_numpy(self._logits(texts).astype(np.float32))
        return CausalLMOutput(logits=logits[:, None])

    def close(self) -> None:
        """Release what the servers keep of texts."""
        self._logits.close()
