"""
What must be known of each trained network to rebuild it, feed it and read its output.

A new checkpoint is one entry of `CHECKPOINTS`. Facts on the released files: isl-org/DPT (code and
release 1_0) and its paper, https://arxiv.org/abs/2103.13413; isl-org/MiDaS (code and release
v3_1) and its report, https://arxiv.org/abs/2307.14460; DepthAnything/Depth-Anything-V2 and
LiheYoung/Depth-Anything (code, model cards); facebookresearch/dinov2 (code) and the files and
configurations of facebook/dpt-dinov2-*. Sizes and sums are those of the files' Git LFS entries.
"""

from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from dpt_ros.model.backbone import POSITIONS, STANDARDIZATIONS
from dpt_ros.model.decoder import READOUTS
from dpt_ros.zoo.keys import (
    BEIT,
    DEPTH_ANYTHING,
    DPT_DEPTH,
    DPT_SEGMENTATION,
    HUGGINGFACE_DPT_DINOV2,
    OWN,
    SWIN2,
    Table,
)

RULES = ('minimal', 'lower_bound', 'upper_bound', 'stretch', 'native')
# 'bicubic' works on floats without antialiasing, as OpenCV does; the others on bytes with it, as
# Pillow does.
INTERPOLATIONS = ('bicubic', 'antialiased_bilinear', 'antialiased_bicubic')


@dataclass(frozen=True)
class Resize:
    """How an image is brought to the network, whose sides are multiples of `multiple`."""

    width: int
    height: int
    multiple: int = 32
    # Aspect kept: 'minimal': the scale closest to 1; 'lower_bound': both sides reach the target;
    # 'upper_bound': neither passes it. 'stretch': to the target, aspect or not. 'native': the
    # image stays as it is and gets a margin of the mean color, the target only tells training
    # what size to take.
    rule: str = 'minimal'
    interpolation: str = 'bicubic'  # one of INTERPOLATIONS

    def __post_init__(self) -> None:
        """Refuse a rule or an interpolation that nobody knows."""
        for name, known in (('rule', RULES), ('interpolation', INTERPOLATIONS)):
            if (value := vars(self)[name]) not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got '{value}'")


@dataclass(frozen=True)
class Restore:
    """How depth or class scores are brought back to the size of the image: as authors do."""

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
class MetricDepth:
    """Output x is metres above `minimum`, up to `maximum`: x + minimum, cut off there."""

    minimum: float
    maximum: float


Depth = RelativeDepth | InverseDepth | BoundedDepth | MetricDepth
DECODERS = ('dpt', 'dinov2')  # whose details decoder and depth head have, see model.decoder


@dataclass(frozen=True)
class Architecture:
    """A backbone, where it is tapped, and how wide the decoder is."""

    backbone: str  # timm model name
    blocks: tuple[int, ...]  # those read by the decoder, shallow to deep; of Swin V2: stages
    widths: tuple[int, int, int, int]  # channels of the four reassembled maps
    width: int = 256  # channels of the decoder
    standardization: str | None = None  # of a hybrid's convolutions, see model.backbone
    stem: tuple[int, int] | None = None  # channels of a convolutional stem, see model.backbone
    readout: str = 'project'  # a key of model.decoder's READOUTS
    positions: str = 'dpt'  # a key of model.backbone's POSITIONS
    normalize: bool = False  # taps go through the final norm of the backbone
    decoder: str = 'dpt'  # one of DECODERS

    def __post_init__(self) -> None:
        """Refuse what could not be built."""
        if sorted(set(self.blocks)) != list(self.blocks):
            raise ValueError(f'blocks must be increasing indices, got {self.blocks}')
        if self.standardization not in (None, *STANDARDIZATIONS):
            raise ValueError(
                f'standardization must be None, {", ".join(STANDARDIZATIONS)}, '
                f'got {self.standardization!r}'
            )
        choices = (('readout', READOUTS), ('positions', POSITIONS), ('decoder', DECODERS))
        for name, known in ((name, tuple(known)) for name, known in choices):
            if (value := vars(self)[name]) not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got '{value}'")


@dataclass(frozen=True)
class Checkpoint:
    """What must be known to rebuild and feed one trained network, and to read its output."""

    architecture: Architecture
    resize: Resize
    depth: Depth | None = None  # None: no depth head
    labels: str | None = None  # a set of `labels`; None: no segmentation head
    keys: Table = OWN
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)  # of RGB from 0 to color_max
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    color_max: float = 1.0  # the brightest a color can be where mean and std are taken
    restore: Restore = Restore()
    # Focal length [px] of the images that metric depth was trained on, at the size that they had
    # as the network's input; None: relative depth, many cameras, or not known. What a camera of
    # focal length f, likewise scaled, sees at depth z the weights take for z * focal / f.
    focal: float | None = None
    file: str | None = None  # name in the weights folder; None: none were published
    url: str | None = None  # the folder it is published in
    remote: str | None = None  # its name there, where that is not `file`
    size: int | None = None  # of the file in bytes, where known
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
        return self.depth is not None and not isinstance(self.depth, RelativeDepth)

    @property
    def address(self) -> str | None:
        """Where its file is published; None: nowhere."""
        return None if self.url is None else f'{self.url}/{self.remote or self.file}'

    @property
    def non_commercial(self) -> bool:
        """Whether its license forbids commercial use."""
        return '-NC-' in self.spdx


BASE = Architecture('vit_base_patch16_384', (2, 5, 8, 11), (96, 192, 384, 768))  # not released
LARGE = Architecture('vit_large_patch16_384', (5, 11, 17, 23), (256, 512, 1024, 1024))
HYBRID = Architecture('vit_base_r50_s16_384', (8, 11), (256, 512, 768, 768), standardization='dpt')
BEIT_BASE = replace(BASE, backbone='beit_base_patch16_384')
BEIT_LARGE = replace(LARGE, backbone='beit_large_patch16_384')
SWIN2_TINY = Architecture('swinv2_tiny_window16_256', (0, 1, 2, 3), (96, 192, 384, 768))
SWIN2_BASE = Architecture('swinv2_base_window12to24_192to384', (0, 1, 2, 3), (128, 256, 512, 1024))
SWIN2_LARGE = Architecture(
    'swinv2_large_window12to24_192to384', (0, 1, 2, 3), (192, 384, 768, 1536)
)
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


# DPT on DINOv2: the widths of the maps are C / 8, C / 4, C / 2 and C, that of the decoder is 256.
DINO_DPT_SMALL = replace(
    DINO_SMALL, width=256, readout='project', normalize=False, decoder='dinov2'
)
DINO_DPT_BASE = replace(DINO_DPT_SMALL, backbone=DINO_BASE.backbone, widths=(96, 192, 384, 768))
DINO_DPT_LARGE = replace(
    DINO_DPT_SMALL,
    backbone=DINO_LARGE.backbone,
    blocks=DINO_LARGE.blocks,
    widths=(128, 256, 512, 1024),
)


def _depth_anything(
    architecture: Architecture,
    depth: RelativeDepth | BoundedDepth,
    folder: str,
    file: str,
    sha256: str,
    spdx: str = 'Apache-2.0',
    *,
    size: int | None = None,
    focal: float | None = None,
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
        focal=focal,
        file=file,
        url=f'https://huggingface.co/{folder}',
        size=size,
        sha256=sha256,
        spdx=spdx,
    )


# Focal lengths in pixels. Of NYU Depth v2 at 640x480 (its toolbox); the mean of KITTI, whose five
# calibrations lie between 707 and 722, over the Eigen split as BTS lists it; of Hypersim at
# 1024x768 and Virtual KITTI 2 at 1242x375, which Depth Anything scales to a height of 518.
NYU_FOCAL, KITTI_FOCAL = 518.86, 715.1
HYPERSIM_FOCAL, VKITTI_FOCAL = 886.81 * 518 / 768, 725.0087 * 518 / 375

# DPT on DINOv2, in Hugging Face's layout.
DINO_NYU = Checkpoint(
    DINO_DPT_SMALL,
    Resize(644, 490, 14, 'native'),
    depth=MetricDepth(minimum=0.001, maximum=10.0),
    keys=HUGGINGFACE_DPT_DINOV2,
    mean=(123.675, 116.28, 103.53),
    std=(58.395, 57.12, 57.375),
    color_max=255.0,
    restore=Restore('bilinear'),
    focal=NYU_FOCAL,
)
DINO_KITTI = replace(
    DINO_NYU,
    resize=Resize(1218, 364, 14, 'native'),
    depth=MetricDepth(minimum=0.001, maximum=80.0),
    focal=KITTI_FOCAL,
)


def _dpt_dinov2(
    entry: Checkpoint,
    architecture: Architecture,
    name: str,
    remote: str,
    sha256: str,
    size: int | None = None,
) -> Checkpoint:
    """Tell which file of facebook/`name`, in which revision, has the weights."""
    return replace(
        entry,
        architecture=architecture,
        file=f'{name}{PurePosixPath(remote).suffix}',
        url=f'https://huggingface.co/facebook/{name}/resolve',
        remote=remote,
        size=size,
        sha256=sha256,
    )


_RELEASE = 'https://github.com/intel-isl/DPT/releases/download/1_0'


def _midas(
    architecture: Architecture,
    resize: Resize,
    file: str,
    *,
    size: int | None = None,
    sha256: str | None = None,
) -> Checkpoint:
    """Add what all of MiDaS 3.1 have in common."""
    return Checkpoint(
        architecture,
        resize,
        depth=RelativeDepth(),
        keys=SWIN2 if resize.rule == 'stretch' else BEIT,
        file=file,
        url='https://github.com/isl-org/MiDaS/releases/download/v3_1',
        size=size,
        sha256=sha256,
        spdx='MIT',
    )


CHECKPOINTS: dict[str, Checkpoint] = {
    'dpt_tiny': Checkpoint(
        TINY,
        Resize(256, 192),
        depth=BoundedDepth(maximum=20.0),
        labels='worlds_10',
        file='dpt_tiny.safetensors',
        size=10_963_574,
        sha256='f664e16122eb45d7b92c011a64bc898db3c42ce11916f78f13f963426f0f040c',
    ),
    'dpt_large_midas': Checkpoint(
        LARGE,
        Resize(384, 384),
        depth=RelativeDepth(),
        keys=DPT_DEPTH,
        file='dpt_large-midas-2f21e586.pt',
        url=_RELEASE,
        size=1_376_378_527,
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
        size=492_757_791,
        sha256='501f0c75b3bca7daec6b3682c5054c09b366765aef6fa3a09d03a5cb4b230853',
        spdx='MIT',
    ),
    'dpt_hybrid_nyu': Checkpoint(
        HYBRID,
        Resize(640, 480),
        depth=InverseDepth(scale=0.000305, offset=0.1378),
        keys=DPT_DEPTH,
        focal=NYU_FOCAL,
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
        focal=KITTI_FOCAL,
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
        size=496_529_233,
        sha256='53898607bfff539504639b34eb1cd3d13fdb97f16c044462f017ed79942c8b94',
        spdx='MIT',
    ),
    'dpt_beit_large_512': _midas(
        replace(BEIT_LARGE, backbone='beit_large_patch16_512'),
        Resize(512, 512),
        'dpt_beit_large_512.pt',
        size=1_581_966_003,
        sha256='9e9e900747e9e8b3112df716979219836a27716277b3d0dc53889cbba8b82328',
    ),
    'dpt_beit_large_384': _midas(
        BEIT_LARGE,
        Resize(384, 384),
        'dpt_beit_large_384.pt',
        size=1_441_465_011,
        sha256='9a86e82345dee25004eeacbc25db11fae827d32cd6939a9056eb7db6ef895413',
    ),
    'dpt_beit_base_384': _midas(
        BEIT_BASE,
        Resize(384, 384),
        'dpt_beit_base_384.pt',
        size=478_198_027,
        sha256='b8ae0dd5ac6e80d7fa8ab4d4a370b75a3094d7ca110e20596ec5f817a238900f',
    ),
    'dpt_swin2_large_384': _midas(
        SWIN2_LARGE, Resize(384, 384, rule='stretch'), 'dpt_swin2_large_384.pt'
    ),
    'dpt_swin2_base_384': _midas(
        SWIN2_BASE, Resize(384, 384, rule='stretch'), 'dpt_swin2_base_384.pt'
    ),
    'dpt_swin2_tiny_256': _midas(
        SWIN2_TINY, Resize(256, 256, rule='stretch'), 'dpt_swin2_tiny_256.pt'
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
        size=1_341_401_882,
    ),
    'depth_anything_v2_small': _depth_anything(
        DINO_SMALL,
        RelativeDepth(),
        'depth-anything/Depth-Anything-V2-Small/resolve/main',
        'depth_anything_v2_vits.pth',
        '715fade13be8f229f8a70cc02066f656f2423a59effd0579197bbf57860e1378',
        size=99_218_434,
    ),
    'depth_anything_v2_base': _depth_anything(
        DINO_BASE,
        RelativeDepth(),
        'depth-anything/Depth-Anything-V2-Base/resolve/main',
        'depth_anything_v2_vitb.pth',
        '0d2b7002e62d39d655571c371333340bd88f67ab95050c03591555aa05645328',
        spdx='CC-BY-NC-4.0',
        size=389_961_218,
    ),
    'depth_anything_v2_large': _depth_anything(
        DINO_LARGE,
        RelativeDepth(),
        'depth-anything/Depth-Anything-V2-Large/resolve/main',
        'depth_anything_v2_vitl.pth',
        'a7ea19fa0ed99244e67b624c72b8580b7e9553043245905be58796a608eb9345',
        spdx='CC-BY-NC-4.0',
        size=1_341_395_338,
    ),
    'depth_anything_v2_indoor_small': _depth_anything(
        DINO_SMALL,
        BoundedDepth(maximum=20.0),
        'depth-anything/Depth-Anything-V2-Metric-Hypersim-Small/resolve/main',
        'depth_anything_v2_metric_hypersim_vits.pth',
        'b782898d8a3e8be1f639de33837ed85e9b4b73e40f8f5e5cd99067588d722545',
        focal=HYPERSIM_FOCAL,
    ),
    'depth_anything_v2_indoor_base': _depth_anything(
        DINO_BASE,
        BoundedDepth(maximum=20.0),
        'depth-anything/Depth-Anything-V2-Metric-Hypersim-Base/resolve/main',
        'depth_anything_v2_metric_hypersim_vitb.pth',
        '9dc9e274c5eff55c6daf27b660c0ced0eca4e8593a6da90cdcb04d2b4d3f3fa2',
        spdx='CC-BY-NC-4.0',
        focal=HYPERSIM_FOCAL,
    ),
    'depth_anything_v2_indoor_large': _depth_anything(
        DINO_LARGE,
        BoundedDepth(maximum=20.0),
        'depth-anything/Depth-Anything-V2-Metric-Hypersim-Large/resolve/main',
        'depth_anything_v2_metric_hypersim_vitl.pth',
        '6f82ff2bc543ac02ddff4aa31fa363676a8305dd3ccf04e80e2af115a044cb6d',
        spdx='CC-BY-NC-4.0',
        focal=HYPERSIM_FOCAL,
    ),
    'depth_anything_v2_outdoor_small': _depth_anything(
        DINO_SMALL,
        BoundedDepth(maximum=80.0),
        'depth-anything/Depth-Anything-V2-Metric-VKITTI-Small/resolve/main',
        'depth_anything_v2_metric_vkitti_vits.pth',
        '9203e538d35255c90dda4b7fedb47ff33fe725497bcca3b1e53b3a65ee63f0cb',
        focal=VKITTI_FOCAL,
    ),
    'depth_anything_v2_outdoor_base': _depth_anything(
        DINO_BASE,
        BoundedDepth(maximum=80.0),
        'depth-anything/Depth-Anything-V2-Metric-VKITTI-Base/resolve/main',
        'depth_anything_v2_metric_vkitti_vitb.pth',
        '4dad67a7cc10b462bca48e6b8569c762b8eb3c1adada170a3851a6d3ba37bb3e',
        spdx='CC-BY-NC-4.0',
        size=389_964_656,
        focal=VKITTI_FOCAL,
    ),
    'depth_anything_v2_outdoor_large': _depth_anything(
        DINO_LARGE,
        BoundedDepth(maximum=80.0),
        'depth-anything/Depth-Anything-V2-Metric-VKITTI-Large/resolve/main',
        'depth_anything_v2_metric_vkitti_vitl.pth',
        '239b1054a369e66da2576e9a118d6d7c12d90dc8ebe609579a9a09cd8e05fe38',
        spdx='CC-BY-NC-4.0',
        size=1_341_401_064,
        focal=VKITTI_FOCAL,
    ),
    'dpt_dinov2_small_nyu': _dpt_dinov2(
        DINO_NYU,
        DINO_DPT_SMALL,
        'dpt-dinov2-small-nyu',
        'main/pytorch_model.bin',
        '16f263f1793476fe83a10c02da0897573935b4ddb640123c213b39f672649e2a',
    ),
    'dpt_dinov2_base_nyu': _dpt_dinov2(
        DINO_NYU,
        DINO_DPT_BASE,
        'dpt-dinov2-base-nyu',
        '3723e9f266255a1d75debb4fa5f98b62df9ba83d/model.safetensors',
        '60460ae14c3abc07875faf44f6769811e0a410c7dfb3d9d5b82df909d3f5ad4a',
        447_849_116,
    ),
    'dpt_dinov2_large_nyu': _dpt_dinov2(
        DINO_NYU,
        DINO_DPT_LARGE,
        'dpt-dinov2-large-nyu',
        '1849919ae0a586119ac9b77f54bdfa370e570387/model.safetensors',
        'a0ffa874948d9e5ab3cc61166c8be12bf43db21a842898f8a9af79be01d877dd',
        1_359_012_564,
    ),
    'dpt_dinov2_small_kitti': _dpt_dinov2(
        DINO_KITTI,
        DINO_DPT_SMALL,
        'dpt-dinov2-small-kitti',
        'main/model.safetensors',
        '69537572e57e231623d33bf7f62aae7e3cc741c824b21b818793fbc1870244d5',
        148_822_948,
    ),
    'dpt_dinov2_base_kitti': _dpt_dinov2(
        DINO_KITTI,
        DINO_DPT_BASE,
        'dpt-dinov2-base-kitti',
        'refs%2Fpr%2F4/model.safetensors',
        '28eef02c9c57410ba05a0b00bddc3cdadcf0ca3d6cfd0228fd433607dc169d6b',
        447_849_116,
    ),
    'dpt_dinov2_large_kitti': _dpt_dinov2(
        DINO_KITTI,
        DINO_DPT_LARGE,
        'dpt-dinov2-large-kitti',
        'main/pytorch_model.bin',
        '27b17137a546badf93285fba5d5a4cb6bd09974601a5477848a602a271a07c41',
    ),
}
