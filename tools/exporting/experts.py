"""Mixtures of experts: every expert sees every token, and those that a token did not choose count nothing.

Which experts a token chooses is secret, so no server may run only these.
"""

from __future__ import annotations

from typing import Any

import torch

from exporting import ExportError

NAME = "onnxpuma_all"


def use_all_experts(model: Any) -> None:
    """Make the experts of a model run that way, if it has any and Transformers lets them be replaced."""
    try:
        from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS
    except ImportError:  # before version 5 each architecture has a loop of its own
        return
    ALL_EXPERTS_FUNCTIONS.register(NAME, all_experts)
    for module in model.modules():
        if hasattr(module, "is_concatenated") and hasattr(module.config, "_experts_implementation"):
            module.config._experts_implementation = NAME


def all_experts(
    experts: Any, hidden_states: torch.Tensor, top_k_index: torch.Tensor, top_k_weights: torch.Tensor
) -> torch.Tensor:
    """(tokens, hidden) and the chosen experts with their weights, (tokens, k) -> (tokens, hidden)."""
    if experts.has_post_expert_norm:
        raise ExportError(
            "experts with a normalisation of their own are not supported", "export another model"
        )
    numbers = torch.arange(experts.num_experts, device=top_k_index.device)
    chosen = (top_k_index.unsqueeze(-1) == numbers).to(top_k_weights.dtype)  # (tokens, k, experts)
    weights = (chosen * top_k_weights.unsqueeze(-1)).sum(1)  # (tokens, experts)
    name = "gate_up_proj" if experts.has_gate else "up_proj"
    made = _linear(experts, name, hidden_states.unsqueeze(0))  # (experts, tokens, 2 wide)
    made = experts._apply_gate(made) if experts.has_gate else experts.act_fn(made)
    made = _linear(experts, "down_proj", made)  # (experts, tokens, hidden)
    return (made * weights.t().unsqueeze(-1)).sum(0).to(hidden_states.dtype)


def _linear(experts: Any, name: str, x: torch.Tensor) -> torch.Tensor:
    weight = getattr(experts, name)
    y = torch.matmul(x, weight if experts.is_transposed else weight.transpose(-1, -2))
    return y + getattr(experts, f"{name}_bias").unsqueeze(1) if experts.has_bias else y
