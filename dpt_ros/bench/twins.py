"""
One network twice, with equal weights: transformers' and ours.

A DPT on ViT-Tiny for depth and one for labels, of random weights that keep signals alive: what
they compute means nothing, that both compute the same is checked, and the time is the point.
"""

from typing import Any

from dpt_ros.model.dpt import freeze
from dpt_ros.zoo.checkpoints import Architecture, Checkpoint, InverseDepth, Resize
from dpt_ros.zoo.keys import DPT_DEPTH, DPT_SEGMENTATION, rename, Table
from dpt_ros.zoo.labels import load_labels
from dpt_ros.zoo.store import build, Trained
import torch
from torch import nn
from transformers import DPTConfig, DPTForDepthEstimation, DPTForSemanticSegmentation

SIDE = 256  # of the networks' input in pixels
BLOCKS, WIDTHS, WIDTH = (2, 5, 8, 11), (24, 48, 96, 192), 64
LABELS = 'worlds_10'
MEANING = InverseDepth(scale=0.05, offset=0.1)  # brings it to some metres


def build_twins() -> tuple[nn.Module, nn.Module]:
    """Build transformers' networks for depth and for labels, on one backbone's weights."""
    shape: dict[str, Any] = {
        'hidden_size': 192,
        'num_hidden_layers': 12,
        'num_attention_heads': 3,
        'intermediate_size': 768,
        'image_size': 384,  # of its positions
        'patch_size': 16,
        'backbone_out_indices': list(BLOCKS),
        'neck_hidden_sizes': list(WIDTHS),
        'fusion_hidden_size': WIDTH,
        'layer_norm_eps': 1e-6,
    }
    depth = DPTForDepthEstimation(DPTConfig(**shape)).eval()
    for_labels = DPTConfig(
        **shape, use_batch_norm_in_fusion_residual=True, use_auxiliary_head=False
    )
    for_labels.num_labels = len(load_labels(LABELS).names)
    labels = DPTForSemanticSegmentation(for_labels).eval()
    generator = torch.Generator().manual_seed(0)
    for network in (depth, labels):
        _draw_weights(network, generator)
    labels.dpt.load_state_dict(depth.dpt.state_dict())
    depth.head.head[-2].bias.data.fill_(5.0)  # several deviations above zero, where it is cut off
    return depth, labels


def adopt(depth: nn.Module, labels: nn.Module) -> tuple[Trained, Trained]:
    """Give ours the weights of transformers' networks."""
    shape = Architecture('vit_tiny_patch16_384', BLOCKS, WIDTHS, width=WIDTH)
    entry = Checkpoint(shape, Resize(SIDE, SIDE), depth=MEANING, keys=DPT_DEPTH)
    for_labels = Checkpoint(shape, Resize(SIDE, SIDE), labels=LABELS, keys=DPT_SEGMENTATION)
    return _adopt('depth', entry, depth), _adopt('labels', for_labels, labels)


def _adopt(name: str, entry: Checkpoint, theirs: nn.Module) -> Trained:
    network = build(entry)
    table: Table = entry.keys
    state = {key: tensor.clone() for key, tensor in theirs.state_dict().items()}
    network.load_state_dict(rename(state, table, entry.tasks[0]))
    return Trained(name, entry, freeze(network))


def _draw_weights(network: nn.Module, generator: torch.Generator) -> None:
    """Draw weights that neither fade nor explode."""
    for name, tensor in network.named_parameters():
        noise = torch.randn(tensor.shape, generator=generator)
        if tensor.ndim > 1:
            tensor.data = noise / max(1, tensor[0].numel()) ** 0.5
        else:
            tensor.data = 0.1 * noise + ('norm' in name and name.endswith('weight'))
