"""
From the name of a checkpoint to a network ready for inference: find, verify, load.

Nothing here uses the network, and no file is ever executed: PyTorch files are read with
`weights_only`, others as safetensors.
"""

from dataclasses import dataclass
from functools import lru_cache
import hashlib
import os
from pathlib import Path
from stat import S_ISREG

from dpt_ros.model.backbone import Backbone, Hybrid, Stemmed, ViT
from dpt_ros.model.decoder import Decoder
from dpt_ros.model.dpt import DPT, freeze, Task
from dpt_ros.model.heads import DepthHead, ProjectedDepthHead, SegmentationHead
from dpt_ros.model.transformer import SHAPES, Transformer
from dpt_ros.zoo.checkpoints import Architecture, BoundedDepth, Checkpoint, CHECKPOINTS
from dpt_ros.zoo.huggingface import HUGGINGFACE
from dpt_ros.zoo.keys import rename
from dpt_ros.zoo.labels import load_labels
from safetensors.torch import load_file
import torch
from torch import Tensor

EMBEDDED = Path(__file__).with_name('weights')  # what comes with the package
SUFFIXES = ('.safetensors', '.pt', '.pth', '.bin')  # of files of weights


@dataclass(frozen=True)
class Trained:
    """A network with its weights, and what is known of it."""

    name: str
    checkpoint: Checkpoint
    network: DPT  # frozen, float32, on the CPU
    sha256: str = ''  # of the file that the weights came from; empty: from none


def checkpoint(name: str) -> Checkpoint:
    """Look a checkpoint up by name."""
    for table in (CHECKPOINTS, HUGGINGFACE):
        if name in table:
            return table[name]
    names = ', '.join((*CHECKPOINTS, *HUGGINGFACE))
    raise ValueError(f"no model is called '{name}'; there are {names}")


def weights_folder(folder: str = '') -> Path:
    """Return where weights are looked for: `folder`, else $DPT_ROS_WEIGHTS, else the cache."""
    chosen = folder or os.environ.get('DPT_ROS_WEIGHTS') or '~/.cache/dpt_ros'
    return Path(chosen).expanduser()


def weights_path(name: str, folder: str = '') -> Path:
    """Return where the file of `name` is or belongs: in the package, or in a `weights_folder`."""
    file = checkpoint(name).file
    if file is None:
        raise ValueError(f'{name} has no weights: it is only there to be trained')
    embedded = EMBEDDED / file
    return embedded if embedded.is_file() else weights_folder(folder) / file


def build(entry: Checkpoint) -> DPT:
    """Build the network of a checkpoint with random weights, for training or to be loaded."""
    shape = entry.architecture
    backbone = _build_backbone(shape)
    dinov2 = shape.decoder == 'dinov2'
    heads: list[DepthHead | SegmentationHead] = []
    if entry.depth is not None:
        if dinov2:
            heads.append(ProjectedDepthHead(shape.width))
        else:
            heads.append(DepthHead(shape.width, bounded=isinstance(entry.depth, BoundedDepth)))
    if entry.labels is not None:
        heads.append(SegmentationHead(shape.width, len(load_labels(entry.labels).names)))
    tasks = [
        Task(
            Decoder(
                backbone.channels,
                shape.widths,
                shape.width,
                kept=backbone.kept,
                readout=shape.readout,
                batch_norm=isinstance(head, SegmentationHead),
                bias=not dinov2,
                doubling=dinov2,
            ),
            head,
        )
        for head in heads
    ]
    return DPT(backbone, tasks)


def _build_backbone(shape: Architecture) -> Backbone:
    """Choose what becomes of the transformer."""
    if shape.backbone not in SHAPES:
        return _build_of_timm(shape)
    vit = Transformer(SHAPES[shape.backbone])
    if shape.stem is not None:
        return Stemmed(vit, shape.blocks, shape.stem)
    return ViT(vit, shape.blocks, positions=shape.positions, normalize=shape.normalize)


def _build_of_timm(shape: Architecture) -> Backbone:
    """Choose by the kind of timm's network what becomes of it."""
    from dpt_ros.model.relative import BEiT, SwinV2  # here: importing timm takes seconds
    import timm
    from timm.models.beit import Beit
    from timm.models.swin_transformer_v2 import SwinTransformerV2
    from timm.models.vision_transformer import VisionTransformer

    vit = timm.create_model(shape.backbone)
    if isinstance(vit, Beit):
        return BEiT(vit, shape.blocks)
    if isinstance(vit, SwinTransformerV2):
        return SwinV2(vit, shape.blocks)
    if isinstance(vit, VisionTransformer) and shape.standardization is not None:
        return Hybrid(vit, shape.blocks, shape.standardization)
    raise ValueError(f'{shape.backbone} is no vision transformer that DPT knows')


def load(name: str, folder: str = '') -> Trained:
    """
    Build the network called `name` and give it its weights.

    :param folder: see `weights_folder`; or a file in any layout of `Checkpoint.keys`, the user's
        own, what `dpt train` wrote, or Hugging Face's `model.safetensors`. Its checksum is
        compared only where it has the name of the published one.
    :return: the network, frozen, in float32 on the CPU.
    :raises ValueError: for a name that is not known or a file that is not that network's.
    :raises OSError: for a file that is missing or cannot be read.
    """
    network = build_with(name, folder)
    digits = _fingerprint(_locate(name, folder))
    return Trained(name, checkpoint(name), freeze(network.float()), digits)


def build_with(name: str, folder: str = '') -> DPT:
    """Build the network called `name` with its weights, to be trained further; see `load`."""
    entry, path = checkpoint(name), _locate(name, folder)
    if path.name == entry.file:
        verify(path, entry)
    with torch.device('meta'):
        network = build(entry)
    state = read(path)
    try:
        if state.keys() != network.state_dict().keys():  # not by our names
            state = rename(state, entry.keys, entry.tasks[0])
        network.load_state_dict(state, strict=True, assign=True)
    except (ValueError, RuntimeError) as error:
        reason = str(error).splitlines()
        raise ValueError(
            f'{path} does not hold the weights of {name}: {reason[-1].strip()}'
        ) from None
    return network


def _locate(name: str, folder: str) -> Path:
    """Return the file that the weights of `name` are read from, which is there."""
    path = weights_path(name, folder)
    given = weights_folder(folder)
    if os.path.isfile(given):
        path = given
    elif given.suffix in SUFFIXES and not given.exists():
        raise FileNotFoundError(
            f'the file of weights {given} is not there: correct its name, or name a folder'
        )
    if not (os.path.isfile(path) and os.access(path, os.R_OK)):
        raise _unreadable(path, name)
    return path


def _unreadable(path: Path, name: str) -> OSError:
    """Tell why the file of `name` cannot be opened, and the cure."""
    entry, closed = checkpoint(name), path
    try:
        is_there = S_ISREG(path.stat().st_mode)
    except PermissionError:
        is_there, closed = True, path.parent
    except OSError:
        is_there = False
    if not is_there:
        known = f', whose sha256 begins with {entry.sha256},' if entry.sha256 else ''
        return FileNotFoundError(
            f'the weights of {name} are not at {path}: run `dpt fetch {name}`, or bring '
            f'{entry.address}{known} to that place'
        )
    return PermissionError(
        f'the weights of {name} are at {path}, but this user may not open {closed}: change its '
        'permissions, or name another folder in weights_dir or $DPT_ROS_WEIGHTS'
    )


def verify(path: Path, entry: Checkpoint) -> None:
    """Refuse a file that has not the size and checksum of the published one, as far as known."""
    if has_wrong_size(path, entry):
        found = f'{path.stat().st_size} bytes where {entry.size} are'
    elif (digits := _fingerprint(path)).startswith(entry.sha256 or ''):
        return
    else:
        found = f'sha256 {digits} where {entry.sha256} is'
    raise ValueError(
        f'{path} has {found} wanted: it is truncated or another file; delete it and download '
        'it again with `dpt fetch`'
    )


def has_wrong_size(path: Path, entry: Checkpoint) -> bool:
    """Tell at a glance that a file cannot be the published one."""
    return entry.size is not None and path.stat().st_size != entry.size


def checksum(path: Path) -> str:
    """Return the sha256 of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open('rb') as file:
        while chunk := file.read(1 << 22):
            digest.update(chunk)
    return digest.hexdigest()


def _fingerprint(path: Path) -> str:
    """Return the checksum of a file, computed once as long as it does not change."""
    facts = path.stat()
    return _checksum_of(path, facts.st_ino, facts.st_mtime_ns, facts.st_size)


@lru_cache(maxsize=8)
def _checksum_of(path: Path, *_: int) -> str:
    return checksum(path)


def read(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a .safetensors or PyTorch file, memory-mapped, running no code."""
    try:
        if path.suffix == '.safetensors':
            return load_file(path)
        state = torch.load(path, map_location='cpu', mmap=_is_zip(path), weights_only=True)
    except Exception as error:  # a damaged file makes PyTorch raise IndexError, struct.error, ...
        raise ValueError(
            f'{path} is not a file of weights that can be read safely: {error}'
        ) from None
    if isinstance(state, dict) and 'optimizer' in state:
        state = state.get('model')
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in state.items()
    ):
        raise ValueError(f'{path} holds no tensors by name')
    return state


def _is_zip(path: Path) -> bool:
    with path.open('rb') as file:
        return file.read(2) == b'PK'
