"""
Blocks of a transformer run without ceremony, for a CPU.

To call a module, which finds others and their weights by name and calls those, takes Python a
while: a tenth of the time of the blocks of a ViT-Tiny with 257 tokens (in turn, three processes:
31.7, 28.2 and 31.2 ms as modules, 29.5, 26.1 and 28.1 so).
"""

from dpt_ros.model.transformer import Block, Scale
import torch
from torch import nn, Tensor
from torch.nn import functional as F


def use_lean_blocks(network: nn.Module) -> None:
    """Put `Lean` in the place of each frozen block on a CPU."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if type(child) is Block and child.norm1.weight.device.type == 'cpu':
                setattr(module, name, Lean(child))


class Lean(nn.Module):
    """A frozen `Block`."""

    def __init__(self, block: Block):
        """Take it over with the weights that it has by now."""
        super().__init__()
        self.block = block
        norms = block.norm1, block.norm2
        layers = block.attn.qkv, block.attn.proj, block.mlp.fc1, block.mlp.fc2
        scales = (s.gamma if isinstance(s, Scale) else None for s in (block.ls1, block.ls2))
        self._norms = [(norm.normalized_shape, norm.weight, norm.bias, norm.eps) for norm in norms]
        self._layers = [(layer.weight, layer.bias) for layer in layers]
        self._scales, self._heads = tuple(scales), block.attn.heads

    def forward(self, tokens: Tensor) -> Tensor:
        """Refine tokens (B, N, C)."""
        (of_norm1, of_norm2), (qkv, proj, fc1, fc2) = self._norms, self._layers
        scale1, scale2 = self._scales
        batch, count, _ = tokens.shape
        shared = F.linear(torch.layer_norm(tokens, *of_norm1), *qkv)
        shared = shared.view(batch, count, 3, self._heads, -1)
        query, key, value = shared.permute(2, 0, 3, 1, 4).unbind()  # (B, heads, N, C / heads)
        mixed = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        added = F.linear(mixed, *proj)
        tokens = (added if scale1 is None else added.mul_(scale1)).add_(tokens)
        hidden = F.gelu(F.linear(torch.layer_norm(tokens, *of_norm2), *fc1))
        added = F.linear(hidden, *fc2)
        return (added if scale2 is None else added.mul_(scale2)).add_(tokens)
