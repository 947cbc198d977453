"""
What must be known of each trained network to rebuild it, feed it and read its output.

A new checkpoint is one entry of `CHECKPOINTS`. Facts on the released files: isl-org/DPT (code and
release 1_0) and its paper, https://arxiv.org/abs/2103.13413; DepthAnything/Depth-Anything-V2 and
LiheYoung/Depth-Anything (code, model cards).
"""

from dataclasses import dataclass, replace

from dpt_ros.model.backbone import POSITIONS, STANDARDIZATIONS
from dpt_ros.model.decoder import READOUTS
from dpt_ros.zoo.keys import DEPTH_ANYTHING, DPT_DEPTH, DPT_SEGMENTATION, OWN, Table


@dataclass(frozen=True)
class Resize:
    """How an image is brought to the network: aspect kept, sides multiples of `multiple`."""

    width: int
    height: int
    multiple: int = 32
    # 'minimal': the scale closest to 1; 'lower_bound': both sides reach the target;
    # 'upper_bound': neither passes it.
    rule: str = 'minimal'

    def __post_init__(self) -> None:
        """Refuse a rule that nobody knows."""
        if self.rule not in ('minimal', 'lower_bound', 'upper_bound'):
            raise ValueError(
                f"rule must be 'minimal', 'lower_bound' or 'upper_bound', got '{self.rule}'"
            )


@dataclass(frozen=True)
class Restore:
    """How a map of depth is brought back to the size of the image: as its authors do."""

    mode: str = 'bicubic'  # of torch's interpolate, no antialiasing
    align_corners: bool = False


@dataclass(frozen=True)
class RelativeDepth:
    """Output is inverse depth up to an unknown scale and offset, larger is nearer: no metres."""


@dataclass(frozen=True)
class InverseDepth:
    """Output x is affine in inverse depth: 1 / (scale * x + offset) metres."""

    scale: float
    offset: float


@dataclass(frozen=True)
class BoundedDepth:
    """Output is a share of `maximum` metres."""

    maximum: float


@dataclass(frozen=True)
class Architecture:
    """A backbone, where it is tapped, and how wide the decoder is."""

    backbone: str  # timm model name
    blocks: tuple[int, ...]  # backbone blocks read by the decoder, shallow to deep
    widths: tuple[int, int, int, int]  # channels of the four reassembled maps
    width: int = 256  # channels of the decoder
    standardization: str | None = None  # of a hybrid's convolutions, see model.backbone
    stem: tuple[int, int] | None = None  # channels of a convolutional stem, see model.backbone
    readout: str = 'project'  # a key of model.decoder's READOUTS
    positions: str = 'dpt'  # a key of model.backbone's POSITIONS
    normalize: bool = False  # taps go through the final norm of the backbone

    def __post_init__(self) -> None:
        """Refuse what could not be built."""
        if sorted(set(self.blocks)) != list(self.blocks):
            raise ValueError(f'blocks must be increasing indices, got {self.blocks}')
        if self.standardization not in (None, *STANDARDIZATIONS):
            raise ValueError(
                f'standardization must be None, {", ".join(STANDARDIZATIONS)}, '
                f'got {self.standardization!r}'
            )
        for name, known in (('readout', READOUTS), ('positions', POSITIONS)):
            if (value := vars(self)[name]) not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got '{value}'")


@dataclass(frozen=True)
class Checkpoint:
    """What must be known to rebuild and feed one trained network, and to read its output."""

    architecture: Architecture
    resize: Resize
    depth: RelativeDepth | InverseDepth | BoundedDepth | None = None  # None: no depth head
    labels: str | None = None  # a set of `labels`; None: no segmentation head
    keys: Table = OWN
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)  # of RGB in [0, 1]
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    restore: Restore = Restore()  # of depth
    file: str | None = None  # name in the weights folder; None: none were published
    url: str | None = None  # the folder it is published in
    sha256: str | None = None  # whole, or as much of its start as is published
    spdx: str = 'Apache-2.0'  # license

    def __post_init__(self) -> None:
        """Refuse a network without a head."""
        if not self.tasks:
            raise ValueError('a checkpoint has a depth head, a segmentation head or both')

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks of its heads, out of 'depth' and 'segmentation'."""
        heads = {'depth': self.depth, 'segmentation': self.labels}
        return tuple(task for task, head in heads.items() if head is not None)

    @property
    def is_metric(self) -> bool:
        """Whether its depth comes in metres."""
        return isinstance(self.depth, InverseDepth | BoundedDepth)

    @property
    def non_commercial(self) -> bool:
        """Whether its license forbids commercial use."""
        return '-NC-' in self.spdx


BASE = Architecture('vit_base_patch16_384', (2, 5, 8, 11), (96, 192, 384, 768))  # not released
LARGE = Architecture('vit_large_patch16_384', (5, 11, 17, 23), (256, 512, 1024, 1024))
HYBRID = Architecture('vit_base_r50_s16_384', (8, 11), (256, 512, 768, 768), standardization='dpt')
TINY = Architecture('vit_tiny_patch16_224', (2, 5), (48, 96, 128, 192), width=48, stem=(48, 96))

DINO_SMALL = Architecture(
    'vit_small_patch14_dinov2',
    (2, 5, 8, 11),
    (48, 96, 192, 384),
    width=64,
    readout='ignore',
    positions='depth_anything',
    normalize=True,
)
DINO_BASE = replace(
    DINO_SMALL, backbone='vit_base_patch14_dinov2', widths=(96, 192, 384, 768), width=128
)
DINO_LARGE = replace(
    DINO_SMALL,
    backbone='vit_large_patch14_dinov2',
    blocks=(4, 11, 17, 23),
    widths=(256, 512, 1024, 1024),
    width=256,
)


def _depth_anything(
    architecture: Architecture,
    depth: RelativeDepth | BoundedDepth,
    folder: str,
    file: str,
    sha256: str,
    spdx: str = 'Apache-2.0',
) -> Checkpoint:
    """Add what all of Depth Anything have in common."""
    return Checkpoint(
        architecture,
        Resize(518, 518, 14, 'lower_bound'),
        depth=depth,
        keys=DEPTH_ANYTHING,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        restore=Restore('bilinear', align_corners=True),
        file=file,
        url=f'https://huggingface.co/{folder}',
        sha256=sha256,
        spdx=spdx,
    )


_RELEASE = 'https://github.com/intel-isl/DPT/releases/download/1_0'

CHECKPOINTS: dict[str, Checkpoint] = {
    'dpt_tiny': Checkpoint(
        TINY,
        Resize(256, 192),
        depth=BoundedDepth(maximum=20.0),
        labels='worlds_10',
        file='dpt_tiny.safetensors',
        sha256='f664e16122eb45d7b92c011a64bc898db3c42ce11916f78f13f963426f0f040c',
    ),
    'dpt_large_midas': Checkpoint(
        LARGE,
        Resize(384, 384),
        depth=RelativeDepth(),
        keys=DPT_DEPTH,
        file='dpt_large-midas-2f21e586.pt',
        url=_RELEASE,
        sha256='2f21e586477d90cb9624c7eef5df7891edca49a1c4795ee2cb631fd4daa6ca69',
        spdx='MIT',
    ),
    'dpt_hybrid_midas': Checkpoint(
        HYBRID,
        Resize(384, 384),
        depth=RelativeDepth(),
        keys=DPT_DEPTH,
        file='dpt_hybrid-midas-501f0c75.pt',
        url=_RELEASE,
        sha256='501f0c75b3bca7daec6b3682c5054c09b366765aef6fa3a09d03a5cb4b230853',
        spdx='MIT',
    ),
    'dpt_hybrid_nyu': Checkpoint(
        HYBRID,
        Resize(640, 480),
        depth=InverseDepth(scale=0.000305, offset=0.1378),
        keys=DPT_DEPTH,
        file='dpt_hybrid_nyu-2ce69ec7.pt',
        url=_RELEASE,
        sha256='2ce69ec7',
        spdx='MIT',
    ),
    'dpt_hybrid_kitti': Checkpoint(
        HYBRID,
        Resize(1216, 352),
        depth=InverseDepth(scale=0.00006016, offset=0.00579),
        keys=DPT_DEPTH,
        file='dpt_hybrid_kitti-cb926ef4.pt',
        url=_RELEASE,
        sha256='cb926ef4',
        spdx='MIT',
    ),
    'dpt_large_ade20k': Checkpoint(
        LARGE,
        Resize(480, 480),
        labels='ade20k_150',
        keys=DPT_SEGMENTATION,
        file='dpt_large-ade20k-b12dca68.pt',
        url=_RELEASE,
        sha256='b12dca68',
        spdx='MIT',
    ),
    'dpt_hybrid_ade20k': Checkpoint(
        HYBRID,
        Resize(480, 480),
        labels='ade20k_150',
        keys=DPT_SEGMENTATION,
        file='dpt_hybrid-ade20k-53898607.pt',
        url=_RELEASE,
        sha256='53898607bfff539504639b34eb1cd3d13fdb97f16c044462f017ed79942c8b94',
        spdx='MIT',
    ),
    'depth_anything_v1_small': _depth_anything(
        replace(DINO_SMALL, blocks=(8, 9, 10, 11)),
        RelativeDepth(),
        'spaces/LiheYoung/Depth-Anything/resolve/main/checkpoints',
        'depth_anything_vits14.pth',
        '59afe57cfd9f4284deaf5b753d954723d7136ae842fba3e068ba03537ca1e60e',
    ),
    'depth_anything_v1_base': _depth_anything(
        replace(DINO_BASE, blocks=(8, 9, 10, 11)),
        RelativeDepth(),
        'spaces/LiheYoung/Depth-Anything/resolve/main/checkpoints',
        'depth_anything_vitb14.pth',
        '64ae214ae4e27424b644c49464c0aa243016f6f753d95097c8eb9ad0b9cb2d9b',
    ),
    'depth_anything_v1_large': _depth_anything(
        replace(DINO_LARGE, blocks=(20, 21, 22, 23)),
        RelativeDepth(),
        'spaces/LiheYoung/Depth-Anything/resolve/main/checkpoints',
        'depth_anything_vitl14.pth',
        '6c6a383e33e51c5fdfbf31e7ebcda943973a9e6a1cbef1564afe58d7f2e8fe63',
    ),
    'depth_anything_v2_small': _depth_anything(
        DINO_SMALL,
        RelativeDepth(),
        'depth-anything/Depth-Anything-V2-Small/resolve/main',
        'depth_anything_v2_vits.pth',
        '715fade13be8f229f8a70cc02066f656f2423a59effd0579197bbf57860e1378',
    ),
    'depth_anything_v2_base': _depth_anything(
        DINO_BASE,
        RelativeDepth(),
        'depth-anything/Depth-Anything-V2-Base/resolve/main',
        'depth_anything_v2_vitb.pth',
        '0d2b7002e62d39d655571c371333340bd88f67ab95050c03591555aa05645328',
        spdx='CC-BY-NC-4.0',
    ),
    'depth_anything_v2_large': _depth_anything(
        DINO_LARGE,
        RelativeDepth(),
        'depth-anything/Depth-Anything-V2-Large/resolve/main',
        'depth_anything_v2_vitl.pth',
        'a7ea19fa0ed99244e67b624c72b8580b7e9553043245905be58796a608eb9345',
        spdx='CC-BY-NC-4.0',
    ),
    'depth_anything_v2_indoor_small': _depth_anything(
        DINO_SMALL,
        BoundedDepth(maximum=20.0),
        'depth-anything/Depth-Anything-V2-Metric-Hypersim-Small/resolve/main',
        'depth_anything_v2_metric_hypersim_vits.pth',
        'b782898d8a3e8be1f639de33837ed85e9b4b73e40f8f5e5cd99067588d722545',
    ),
    'depth_anything_v2_indoor_base': _depth_anything(
        DINO_BASE,
        BoundedDepth(maximum=20.0),
        'depth-anything/Depth-Anything-V2-Metric-Hypersim-Base/resolve/main',
        'depth_anything_v2_metric_hypersim_vitb.pth',
        '9dc9e274c5eff55c6daf27b660c0ced0eca4e8593a6da90cdcb04d2b4d3f3fa2',
        spdx='CC-BY-NC-4.0',
    ),
    'depth_anything_v2_indoor_large': _depth_anything(
        DINO_LARGE,
        BoundedDepth(maximum=20.0),
        'depth-anything/Depth-Anything-V2-Metric-Hypersim-Large/resolve/main',
        'depth_anything_v2_metric_hypersim_vitl.pth',
        '6f82ff2bc543ac02ddff4aa31fa363676a8305dd3ccf04e80e2af115a044cb6d',
        spdx='CC-BY-NC-4.0',
    ),
    'depth_anything_v2_outdoor_small': _depth_anything(
        DINO_SMALL,
        BoundedDepth(maximum=80.0),
        'depth-anything/Depth-Anything-V2-Metric-VKITTI-Small/resolve/main',
        'depth_anything_v2_metric_vkitti_vits.pth',
        '9203e538d35255c90dda4b7fedb47ff33fe725497bcca3b1e53b3a65ee63f0cb',
    ),
    'depth_anything_v2_outdoor_base': _depth_anything(
        DINO_BASE,
        BoundedDepth(maximum=80.0),
        'depth-anything/Depth-Anything-V2-Metric-VKITTI-Base/resolve/main',
        'depth_anything_v2_metric_vkitti_vitb.pth',
        '4dad67a7cc10b462bca48e6b8569c762b8eb3c1adada170a3851a6d3ba37bb3e',
        spdx='CC-BY-NC-4.0',
    ),
    'depth_anything_v2_outdoor_large': _depth_anything(
        DINO_LARGE,
        BoundedDepth(maximum=80.0),
        'depth-anything/Depth-Anything-V2-Metric-VKITTI-Large/resolve/main',
        'depth_anything_v2_metric_vkitti_vitl.pth',
        '239b1054a369e66da2576e9a118d6d7c12d90dc8ebe609579a9a09cd8e05fe38',
        spdx='CC-BY-NC-4.0',
    ),
}
