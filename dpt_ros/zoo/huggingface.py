"""
Published weights once more, under the rules that Hugging Face uses them by.

transformers feeds and reads the released networks differently from their authors: images are
squeezed to a square or scaled less, filtered on bytes with antialiasing, learned positions are
resized by another rule. Depth differs by percents, so the authors' rules are what a name stands
for; the same name with `_hf` is for comparing with numbers that transformers made, and exists
where Hugging Face tells known answers. The files are the same ones.
"""

from dataclasses import replace
import math

from dpt_ros.zoo.checkpoints import Checkpoint, CHECKPOINTS, MetricDepth, Resize, Restore


def _dpt(name: str, side: int) -> Checkpoint:
    """Squeeze images to a square."""
    return replace(
        CHECKPOINTS[name],
        resize=Resize(side, side, 32, 'stretch', 'antialiased_bilinear'),
        restore=Restore('bicubic' if CHECKPOINTS[name].depth else 'bilinear'),
    )


def _dinov2(name: str, resize: Resize) -> Checkpoint:
    """Resize positions by transformers' rule."""
    entry = CHECKPOINTS[name]
    architecture = replace(entry.architecture, positions='huggingface')
    return replace(entry, architecture=architecture, resize=resize, restore=Restore())


def _depth_anything(name: str) -> Checkpoint:
    """Scale images no more than it takes."""
    return _dinov2(name, Resize(518, 518, 14, 'minimal', 'antialiased_bicubic'))


_HYBRID = _dpt('dpt_hybrid_midas', 384)
_KITTI = _dinov2('dpt_dinov2_small_kitti', CHECKPOINTS['dpt_dinov2_small_kitti'].resize)

HUGGINGFACE: dict[str, Checkpoint] = {
    'dpt_large_midas_hf': _dpt('dpt_large_midas', 384),
    'dpt_large_ade20k_hf': _dpt('dpt_large_ade20k', 480),
    'dpt_hybrid_midas_hf': replace(
        _HYBRID, architecture=replace(_HYBRID.architecture, standardization='midas')
    ),
    'dpt_beit_base_384_hf': _dpt('dpt_beit_base_384', 384),
    'dpt_swin2_tiny_256_hf': _dpt('dpt_swin2_tiny_256', 256),
    'dpt_dinov2_small_kitti_hf': replace(_KITTI, depth=MetricDepth(0.0, math.inf)),
    'depth_anything_v1_small_hf': _depth_anything('depth_anything_v1_small'),
    'depth_anything_v2_small_hf': _depth_anything('depth_anything_v2_small'),
    'depth_anything_v2_base_hf': _depth_anything('depth_anything_v2_base'),
    'depth_anything_v2_large_hf': _depth_anything('depth_anything_v2_large'),
    'depth_anything_v2_indoor_small_hf': _depth_anything('depth_anything_v2_indoor_small'),
    'depth_anything_v2_indoor_base_hf': _depth_anything('depth_anything_v2_indoor_base'),
    'depth_anything_v2_indoor_large_hf': _depth_anything('depth_anything_v2_indoor_large'),
    'depth_anything_v2_outdoor_small_hf': _depth_anything('depth_anything_v2_outdoor_small'),
    'depth_anything_v2_outdoor_base_hf': _depth_anything('depth_anything_v2_outdoor_base'),
    'depth_anything_v2_outdoor_large_hf': _depth_anything('depth_anything_v2_outdoor_large'),
}
