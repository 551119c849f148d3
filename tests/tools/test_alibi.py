"""The export computes Falcon's ALiBi in single precision, equal to bfloat16's result to the last digit."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
falcon = pytest.importorskip("transformers.models.falcon.modeling_falcon")

from exporting.alibi import alibi, as_bfloat16  # noqa: E402


@pytest.mark.parametrize("heads", [4, 12, 32, 71])
def test_distances_are_those_of_transformers(heads: int) -> None:
    mask = torch.ones(2, 5000, dtype=torch.int64)
    mask[1, :77] = 0
    torch.testing.assert_close(
        alibi(mask, heads, torch.float32),
        falcon.build_alibi_tensor(mask, heads, torch.float32),
        rtol=0,
        atol=0,
    )


def test_rounding_is_that_of_bfloat16() -> None:
    x = torch.randn(4096, generator=torch.Generator().manual_seed(2)) * 300
    assert torch.equal(as_bfloat16(x), x.bfloat16().float())
    whole = torch.arange(1 << 17).float()  # with ties among them
    assert torch.equal(as_bfloat16(whole), whole.bfloat16().float())
