"""Blocks without ceremony, and the same tokens."""

from dpt_ros.model.transformer import Block, Shape, Transformer
from dpt_ros.perception.lean import Lean, use_lean_blocks
import pytest
import torch
from torch import nn


@pytest.mark.parametrize('scaled', [False, True])
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
@torch.inference_mode()
def test_tokens_are_those_of_the_blocks(scaled: bool, dtype: torch.dtype):
    torch.manual_seed(0)
    network = Transformer(Shape(24, 3, depth=2, scaled=scaled)).requires_grad_(False).to(dtype)
    for parameter in network.parameters():  # those of training leave most as it is
        parameter.normal_(std=0.2)
    tokens = torch.randn(2, 7, 24, dtype=dtype)
    before, wanted = tokens.clone(), network.blocks(tokens)
    for _ in range(2):  # once and for all
        use_lean_blocks(network)
    assert all(type(block) is Lean for block in network.blocks)
    torch.testing.assert_close(network.blocks(tokens), wanted)
    assert torch.equal(tokens, before)


def test_blocks_elsewhere_stay():
    network = nn.Sequential(Block(24, 3).to('meta'), nn.Linear(24, 24))
    use_lean_blocks(network)
    assert [type(module) for module in network] == [Block, nn.Linear]
