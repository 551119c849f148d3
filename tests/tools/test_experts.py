"""A mixture of experts that runs all experts gives the results of one that runs only the chosen ones."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers.integrations.moe")

from transformers import MixtralConfig, MixtralForCausalLM  # noqa: E402

from exporting.experts import NAME, all_experts, use_all_experts  # noqa: E402

SIZES: dict[str, Any] = {
    "vocab_size": 40,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
}


def test_all_experts_say_what_the_chosen_ones_say() -> None:
    torch.manual_seed(0)
    model = MixtralForCausalLM(MixtralConfig(**SIZES)).eval()
    ids = torch.arange(12).reshape(2, 6)
    with torch.no_grad():
        before = model(ids).logits
        use_all_experts(model)
        after = model(ids).logits
    experts = model.model.layers[0].mlp.experts
    assert experts.config._experts_implementation == NAME
    torch.testing.assert_close(after, before, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("gate", [False, True])
def test_every_way_to_store_experts(transposed: bool, bias: bool, gate: bool) -> None:
    torch.manual_seed(1)
    tokens, hidden, wide, count = 5, 8, 6, 3
    first = 2 * wide if gate else wide

    class Experts:
        num_experts, has_gate, has_bias, is_transposed = count, gate, bias, transposed
        has_post_expert_norm = False
        act_fn = staticmethod(torch.tanh)
        gate_up_proj = up_proj = torch.randn(count, first, hidden)
        gate_up_proj_bias = up_proj_bias = torch.randn(count, first)
        down_proj, down_proj_bias = torch.randn(count, hidden, wide), torch.randn(count, hidden)

        def _apply_gate(self, made: torch.Tensor) -> torch.Tensor:
            left, right = made.chunk(2, dim=-1)
            return torch.tanh(left) * right

    experts = Experts()
    x, weights = torch.randn(tokens, hidden), torch.rand(tokens, 2)
    index = torch.stack([torch.randperm(count)[:2] for _ in range(tokens)])
    want = torch.zeros(tokens, hidden)
    for token in range(tokens):
        for place in range(2):
            e = int(index[token, place])
            made = experts.up_proj[e] @ x[token] + (experts.up_proj_bias[e] if bias else 0)
            made = experts._apply_gate(made) if gate else torch.tanh(made)
            made = experts.down_proj[e] @ made + (experts.down_proj_bias[e] if bias else 0)
            want[token] += weights[token, place] * made
    if transposed:
        for name in ("gate_up_proj", "up_proj", "down_proj"):
            setattr(experts, name, getattr(experts, name).transpose(-1, -2))
    torch.testing.assert_close(all_experts(experts, x, index, weights), want, atol=1e-5, rtol=1e-4)
