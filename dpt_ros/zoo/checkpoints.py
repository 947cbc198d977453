"""
What must be known of each trained network to rebuild it, feed it and read its output.

A new checkpoint is one entry of `CHECKPOINTS`. Facts on the released files: isl-org/DPT (code and
release 1_0) and its paper, https://arxiv.org/abs/2103.13413.
"""

from dataclasses import dataclass

from dpt_ros.model.backbone import STANDARDIZATIONS
from dpt_ros.zoo.keys import OFFICIAL_DEPTH, OFFICIAL_SEGMENTATION, OWN, Table


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

    def __post_init__(self) -> None:
        """Refuse what could not be built."""
        if sorted(set(self.blocks)) != list(self.blocks):
            raise ValueError(f'blocks must be increasing indices, got {self.blocks}')
        if self.standardization not in (None, *STANDARDIZATIONS):
            raise ValueError(
                f'standardization must be None, {", ".join(STANDARDIZATIONS)}, '
                f'got {self.standardization!r}'
            )


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


BASE = Architecture('vit_base_patch16_384', (2, 5, 8, 11), (96, 192, 384, 768))  # not released
LARGE = Architecture('vit_large_patch16_384', (5, 11, 17, 23), (256, 512, 1024, 1024))
HYBRID = Architecture('vit_base_r50_s16_384', (8, 11), (256, 512, 768, 768), standardization='dpt')
TINY = Architecture('vit_tiny_patch16_224', (2, 5), (48, 96, 128, 192), width=48, stem=(48, 96))

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
        keys=OFFICIAL_DEPTH,
        file='dpt_large-midas-2f21e586.pt',
        url=_RELEASE,
        sha256='2f21e586477d90cb9624c7eef5df7891edca49a1c4795ee2cb631fd4daa6ca69',
        spdx='MIT',
    ),
    'dpt_hybrid_midas': Checkpoint(
        HYBRID,
        Resize(384, 384),
        depth=RelativeDepth(),
        keys=OFFICIAL_DEPTH,
        file='dpt_hybrid-midas-501f0c75.pt',
        url=_RELEASE,
        sha256='501f0c75b3bca7daec6b3682c5054c09b366765aef6fa3a09d03a5cb4b230853',
        spdx='MIT',
    ),
    'dpt_hybrid_nyu': Checkpoint(
        HYBRID,
        Resize(640, 480),
        depth=InverseDepth(scale=0.000305, offset=0.1378),
        keys=OFFICIAL_DEPTH,
        file='dpt_hybrid_nyu-2ce69ec7.pt',
        url=_RELEASE,
        sha256='2ce69ec7',
        spdx='MIT',
    ),
    'dpt_hybrid_kitti': Checkpoint(
        HYBRID,
        Resize(1216, 352),
        depth=InverseDepth(scale=0.00006016, offset=0.00579),
        keys=OFFICIAL_DEPTH,
        file='dpt_hybrid_kitti-cb926ef4.pt',
        url=_RELEASE,
        sha256='cb926ef4',
        spdx='MIT',
    ),
    'dpt_large_ade20k': Checkpoint(
        LARGE,
        Resize(480, 480),
        labels='ade20k_150',
        keys=OFFICIAL_SEGMENTATION,
        file='dpt_large-ade20k-b12dca68.pt',
        url=_RELEASE,
        sha256='b12dca68',
        spdx='MIT',
    ),
    'dpt_hybrid_ade20k': Checkpoint(
        HYBRID,
        Resize(480, 480),
        labels='ade20k_150',
        keys=OFFICIAL_SEGMENTATION,
        file='dpt_hybrid-ade20k-53898607.pt',
        url=_RELEASE,
        sha256='53898607bfff539504639b34eb1cd3d13fdb97f16c044462f017ed79942c8b94',
        spdx='MIT',
    ),
}
