"""
Data sets to be scored on, in the forms that people have them; docs/evaluation.md lists these.

Nothing is read before it is asked for, one image at a time.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
from dpt_ros.evaluation.metrics import UNLABELLED
from dpt_ros.training.data import find_pairs, Pair, read_color, read_depth, read_pair
from dpt_ros.training.furnishing import LABELS as WORLDS_LABELS
from dpt_ros.training.worlds import HELD_OUT, render, SIZE
import numpy as np

DATASETS = ('nyu', 'kitti', 'ade20k', 'folder', 'worlds')


@dataclass(frozen=True)
class Sample:
    """An image and what is known of it."""

    rgb: np.ndarray  # (H, W, 3) uint8
    depth: np.ndarray | None = None  # (H, W) float32 metres; 0, NaN or Inf where not known
    labels: np.ndarray | None = None  # (H, W) uint8, `UNLABELLED` where not known


@dataclass(frozen=True)
class DataSet:
    """Images with their truth."""

    name: str
    items: Sequence  # what `read` takes, one an image
    read: Callable[..., Sample]
    has_depth: bool
    labels: str | None = None  # the set of classes that its labels are of
    multiscale: bool = False  # its labels are for `multiscale`
    without_truth: int = 0  # images of the split that no truth was published of
    limited_from: int | None = None  # images there are, if not all are scored

    def first(self, count: int | None) -> 'DataSet':
        """Return the first `count` images of it; None: all."""
        if count is None or count >= len(self.items):
            return self
        return replace(self, items=self.items[:count], limited_from=len(self.items))


def open_dataset(name: str, root: Path | None = None, split: Path | None = None) -> DataSet:
    """
    Open the data set called `name`, one of `DATASETS`.

    :param root: the folder of all but the worlds, which are drawn.
    :param split: which images are meant, for nyu and kitti.
    :raises ValueError: for files that are missing, naming them, or not what they ought to be.
    """
    if name not in DATASETS:
        raise ValueError(f"no data set is called '{name}'; there are {', '.join(DATASETS)}")
    if name == 'worlds':
        return worlds()
    if root is None:
        raise ValueError(f'{name} takes --root DIR, the folder that it is in')
    if not root.is_dir():
        raise ValueError(f'there is no folder {root}')
    match name:
        case 'nyu':
            return open_nyu(root, split)
        case 'kitti':
            return open_kitti(root, split)
        case 'ade20k':
            return open_ade20k(root)
        case _:
            return recording(find_pairs(root))


def open_nyu(root: Path, split: Path | None = None) -> DataSet:
    """
    Open the 654 test images of NYU Depth v2.

    :param root: with nyu_depth_v2_labeled.mat and splits.mat as published (raw depth counts; takes
        h5py and scipy); or with rgb_N.jpg and sync_depth_N.png of BTS, in folders or not.
    :param split: instead of ROOT/splits.mat.
    """
    packed = root / 'nyu_depth_v2_labeled.mat'
    if packed.is_file():
        split = split or root / 'splits.mat'
        return DataSet('nyu', _read_splits(split), lambda n: _read_nyu(packed, n), True)
    colors = sorted(root.rglob('rgb_*.jpg')) or sorted(root.rglob('rgb_*.png'))
    pairs = [Pair(c, c.with_name(f'sync_depth_{c.stem[4:]}.png')) for c in colors]
    pairs = [pair for pair in pairs if pair.depth.is_file()]
    if not pairs:
        raise ValueError(
            f'there is no test set of NYU Depth v2 in {root}: it needs nyu_depth_v2_labeled.mat '
            'and splits.mat, or rgb_N.jpg and sync_depth_N.png'
        )
    return DataSet('nyu', pairs, _read, True)


def _read_splits(file: Path) -> list[int]:
    """Read the numbers of the test images, from 1."""
    try:
        from scipy.io import loadmat
    except ImportError:
        raise ValueError(f'{file} takes scipy to be read: pip install scipy') from None
    if not file.is_file():
        raise ValueError(f'there is no {file}, which says what the test images of NYU are')
    return sorted(int(number) for number in loadmat(file)['testNdxs'].ravel())


def _read_nyu(file: Path, number: int) -> Sample:
    try:
        import h5py
    except ImportError:
        raise ValueError(f'{file} takes h5py to be read: pip install h5py') from None
    with h5py.File(file) as content:  # stored column by column, as MATLAB does
        rgb, depth = (content[name][number - 1].T for name in ('images', 'rawDepths'))
    return Sample(np.ascontiguousarray(rgb), np.ascontiguousarray(depth, np.float32))


def open_kitti(root: Path, split: Path | None = None) -> DataSet:
    """
    Open the images of KITTI that a list names.

    :param root: with the raw images, below raw/ or not, and the annotated depth, below
        data_depth_annotated/ (train/ and val/ or neither) or gt/.
    :param split: a line an image, which begins with its path below the raw images, such as
        2011_09_26/2011_09_26_drive_0002_sync/image_02/data/0000000069.png: the test lists of
        Eigen et al. and of BTS. 45 of the 697 have no truth and are left out.
    """
    if split is None:
        raise ValueError('kitti takes --split FILE, the list of the images of Eigen et al.')
    lines = [line.split() for line in split.read_text(encoding='utf-8').splitlines()]
    images = [Path(words[0].lstrip('/')) for words in lines if words]
    pairs = [_find_kitti(root, image) for image in images]
    known = [pair for pair in pairs if pair is not None]
    if not known:
        raise ValueError(
            f'of the {len(images)} images of {split} none is in {root} with its truth: '
            'it needs raw/ and data_depth_annotated/ as published'
        )
    return DataSet('kitti', known, _read_kitti, True, without_truth=len(pairs) - len(known))


def _find_kitti(root: Path, image: Path) -> Pair | None:
    """Find the files of an image; None: its depth was not published."""
    parts = image.parts
    if len(parts) < 4 or not parts[-4].endswith('_sync'):
        raise ValueError(
            f"'{image}' of the list is no image of KITTI: wanted are paths such as "
            '2011_09_26/2011_09_26_drive_0002_sync/image_02/data/0000000069.png'
        )
    drive, camera = parts[-4], parts[-3]
    truth = Path(drive, 'proj_depth', 'groundtruth', camera, f'{image.stem}.png')
    annotated = ('data_depth_annotated', 'gt', '.')
    truths = [root / a / part / truth for a in annotated for part in ('.', 'train', 'val')]
    depth = next((file for file in truths if file.is_file()), None)
    if depth is None:
        return None
    colors = [
        root / raw / image.with_suffix(end) for raw in ('raw', '.') for end in ('.png', '.jpg')
    ]
    color = next((file for file in colors if file.is_file()), None)
    if color is None:
        raise ValueError(f'there is no {colors[0]}, though its depth is there: {depth}')
    return Pair(color, depth)


def _read_kitti(pair: Pair) -> Sample:
    return Sample(read_color(pair.color), read_depth(pair.depth, unit=1 / 256))


def open_ade20k(root: Path) -> DataSet:
    """
    Open the 2000 validation images of ADE20K's scene parsing benchmark.

    :param root: with images/validation/NAME.jpg and annotations/validation/NAME.png, such as
        ADEChallengeData2016: class 1 is the first, 0 does not count.
    """
    colors = sorted((root / 'images' / 'validation').glob('*.jpg'))
    if not colors:
        raise ValueError(f'there are no images/validation/*.jpg in {root}')
    truths = root / 'annotations' / 'validation'
    pairs = [(color, truths / f'{color.stem}.png') for color in colors]
    return DataSet('ade20k', pairs, _read_ade20k, False, 'ade20k_150', multiscale=True)


def _read_ade20k(pair: tuple[Path, Path]) -> Sample:
    color, truth = pair
    stored = cv2.imread(str(truth), cv2.IMREAD_UNCHANGED)
    if stored is None or stored.dtype != np.uint8 or stored.ndim != 2:
        raise ValueError(f'{truth} is not a map of classes: it must be a PNG of 8 bits, gray')
    labels = np.where(stored == 0, UNLABELLED, stored - 1).astype(np.uint8)
    return Sample(read_color(color), labels=labels)


def recording(pairs: Sequence[Pair]) -> DataSet:
    """Make a data set of some pairs of an RGB-D recording."""
    return DataSet('folder', pairs, _read, True)


def _read(pair: Pair) -> Sample:
    return Sample(*read_pair(pair))


def worlds(seeds: Sequence[int] = HELD_OUT, size: tuple[int, int] = SIZE) -> DataSet:
    """Make a data set of drawn worlds of (H, W) = `size`; by default those never trained on."""
    return DataSet('worlds', seeds, lambda seed: _draw(seed, size), True, WORLDS_LABELS)


def _draw(seed: int, size: tuple[int, int]) -> Sample:
    view = render(seed, size)
    return Sample(view.rgb, view.depth, view.labels)
