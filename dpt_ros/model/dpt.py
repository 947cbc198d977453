"""
Dense Prediction Transformer: one backbone, and for each task a decoder with its head.

Names follow the paper (Ranftl et al., ICCV 2021, https://arxiv.org/abs/2103.13413): tokens of
four blocks are *reassembled* into maps at strides 4, 8, 16 and 32, which are *fused* coarse to
fine; a *head* turns the fused map into depth or class scores. One pass of the backbone feeds
every task asked for.

Shapes: B batch, (H, W) the network's input in pixels. Nothing here knows of ROS, files or
devices; trained weights are the business of `zoo`.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import cast

from dpt_ros.model.backbone import Backbone, StandardizedConv2d
from dpt_ros.model.decoder import Decoder
from dpt_ros.model.heads import DepthHead, SegmentationHead
from torch import nn, Tensor
from torch.nn.utils.fusion import fuse_conv_bn_eval


class Task(nn.Module):
    """A decoder and the head that reads it."""

    def __init__(self, decoder: Decoder, head: DepthHead | SegmentationHead):
        """Join the two; both have the same width."""
        super().__init__()
        self.decoder, self.head = decoder, head

    def forward(self, taps: Sequence, size: tuple[int, int]) -> Tensor:
        """Decode the taps of an image of (H, W) = `size`; the head says what comes out."""
        return self.head(self.decoder(taps), size)


class DPT(nn.Module):
    """One backbone with a task for each head."""

    def __init__(self, backbone: Backbone, tasks: Sequence[Task]):
        """Build from parts; what the heads provide names the tasks, each at most once."""
        super().__init__()
        self.backbone = backbone
        self.tasks = nn.ModuleDict({task.head.provides: task for task in tasks})
        if len(self.tasks) != len(tasks):
            raise ValueError(f'each head may stand once, got {[t.head.provides for t in tasks]}')

    @property
    def provides(self) -> frozenset[str]:
        """What this network can compute: 'depth', 'segmentation' or both."""
        return frozenset(self.tasks)

    def forward(self, image: Tensor, wanted: Collection[str] | None = None) -> dict[str, Tensor]:
        """
        Compute the tasks wanted, all of them from one pass of the backbone.

        :param image: (B, 3, H, W), normalized; of a size that the backbone takes.
        :param wanted: names out of `provides`; None for all.
        :return: 'depth': (B, H, W) or the head's own size, see `ProjectedDepthHead`, not negative,
            in the unit of the weights;
            'segmentation': (B, K, H / 2, W / 2) scores, see `SegmentationHead`.
        """
        height, width = image.shape[-2:]
        self.backbone.check_size(width, height)
        taps = self.backbone(image)
        return {
            name: task(taps, (height, width))
            for name, task in self.tasks.items()
            if wanted is None or name in wanted
        }


def join(networks: Mapping[str, DPT]) -> DPT:
    """
    Make one network of several frozen ones whose backbones are the same.

    :param networks: by the task that is wanted of each; they share the first one's backbone.
    """
    tasks = [cast(Task, network.tasks[name]) for name, network in networks.items()]
    return freeze(DPT(next(iter(networks.values())).backbone, tasks))


def freeze(network: DPT) -> DPT:
    """
    Make `network` one for inference only and return it.

    Its weights are fixed, standardized once, and batch norms become part of the convolutions
    before them: it has fewer entries in its state then, and cannot be trained.
    """
    for module in network.eval().modules():
        if isinstance(module, StandardizedConv2d):
            module.freeze()
        _fold_norms(module)
    return network.eval().requires_grad_(False)


def _fold_norms(module: nn.Module) -> None:
    """Give what each batch norm among the children does to the convolution that it follows."""
    where, before = '', module
    for name, child in list(module.named_children()):
        if type(child) is nn.BatchNorm2d and isinstance(before, nn.Conv2d):
            setattr(module, where, fuse_conv_bn_eval(before, child))
            setattr(module, name, nn.Identity())
        where, before = name, child
