"""`dpt predict`: images through the networks and into files that other programs read."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
import io
from pathlib import Path
from types import MappingProxyType

from dpt_ros.perception.camera import Camera
from dpt_ros.perception.paint import millimetres
from dpt_ros.perception.pipeline import Frame, Perception, Result
from dpt_ros.perception.runtime import choose_device, choose_precision
from dpt_ros.ros.parameters import options, Parameters
from dpt_ros.tools.sources import read_file
from dpt_ros.zoo.labels import Labels
from dpt_ros.zoo.store import checkpoint, load
import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo
import torch

PRODUCTS = frozenset({'depth', 'inverse_depth', 'labels', 'overlay'})


@dataclass(frozen=True)
class Written:
    """The files of one image."""

    source: str  # the file that it came from
    name: str  # what its files begin with
    width: int
    height: int
    files: dict[str, str]  # by what they hold: depth, depth_png, inverse_depth, labels, ...


def choose_networks(
    model: str, segmentation_model: str = '', weights: str = ''
) -> tuple[str, str]:
    """
    Say which network gives depth and which labels; empty for none.

    :param model: for depth, and for labels if it has them and no `segmentation_model` is named.
    :param weights: folder, or file of `model`.
    :raises ValueError: for names and weights that will not do.
    """
    tasks = checkpoint(model).tasks
    if segmentation_model not in ('', model):
        checkpoint(segmentation_model)
        if 'depth' not in tasks:
            raise ValueError(
                f'{model} gives labels and no depth, and {segmentation_model} labels too: name '
                'one of them'
            )
        if Path(weights).expanduser().is_file():
            raise ValueError(
                f'{weights} is one file for the two networks {model} and {segmentation_model}: '
                'give the folder that has both'
            )
    if weights and not Path(weights).expanduser().exists():
        raise ValueError(f'there are no weights at {weights}: give a file or a folder')
    own = model if 'segmentation' in tasks else ''
    return model if 'depth' in tasks else '', segmentation_model or own


def open_perception(
    model: str, segmentation_model: str = '', weights: str = '', device: str = 'auto'
) -> Perception:
    """
    Load the networks of `choose_networks`.

    :raises ValueError: for names, weights or a device that will not do.
    :raises OSError: for weights that are missing or cannot be read.
    """
    names = choose_networks(model, segmentation_model, weights)
    where = choose_device(device)
    trained = {name: load(name, weights) for name in sorted({*names} - {''})}
    depth, segmentation = (trained.get(name) for name in names)
    return Perception(depth, segmentation, device=where, dtype=choose_precision('auto', where))


def predict(
    perception: Perception,
    files: Sequence[Path],
    output: Path,
    intrinsics: Sequence[float] | None = None,
) -> Iterator[Written]:
    """
    Write what the networks make of each image, one after the other.

    :param files: images and videos.
    :param output: folder to write to, made if missing.
    :param intrinsics: fx, fy, cx, cy in pixels, for clouds; None: no clouds.
    :raises ValueError: for files whose results would have one name or cannot be read, and for a
        cloud wanted of networks without metres.
    """
    _check_names(files, output)
    relative = 'inverse_depth' in perception.products
    chosen = replace(
        options(Parameters()),
        points_labels=perception.labels is not None,
        scale_mode='none' if relative else 'model',
    )
    available = perception.available(chosen)
    wanted = PRODUCTS & available
    if intrinsics is not None:
        if 'points' not in available:
            raise ValueError(
                'there is no cloud without metric depth: leave --camera out, or choose a --model '
                'of metric depth (`dpt models` tells which)'
            )
        wanted |= {'points'}
    output.mkdir(parents=True, exist_ok=True)
    for file in files:
        for name, pixels in read_file(file):
            height, width = pixels.shape[:2]
            camera = None
            if intrinsics is not None:
                fx, fy, cx, cy = intrinsics
                camera = Camera(width, height, fx, fy, cx, cy)
            (result,) = perception([Frame(name, None, pixels, camera)], wanted, chosen)
            encoded = dict(encode(result, perception.labels))
            paths = {kind: output / f'{name}{end}' for kind, (end, _) in encoded.items()}
            for kind, (_, content) in encoded.items():
                paths[kind].write_bytes(content)
            told = {kind: str(path) for kind, path in paths.items()}
            yield Written(str(file), name, width, height, told)


def encode(result: Result, labels: Labels | None) -> Iterator[tuple[str, tuple[str, bytes]]]:
    """Yield what each file holds, the end of its name and its content."""
    products = result.products
    if 'depth' in products:
        depth = products['depth']
        yield 'depth', ('_depth.npy', encode_npy(depth))
        narrow = millimetres(torch.from_numpy(depth)).numpy()
        yield 'depth_png', ('_depth.png', encode_png(narrow))
    if 'inverse_depth' in products:
        values = products['inverse_depth']
        yield 'inverse_depth', ('_inverse_depth.npy', encode_npy(values))
        narrow, notes = spread(values)
        yield 'inverse_depth_png', ('_inverse_depth.png', encode_png(narrow, notes=notes))
    if 'labels' in products and labels is not None:
        ids = products['labels']
        palette = labels.colors if ids.dtype == np.uint8 else ()
        yield 'labels', ('_labels.png', encode_png(ids, palette))
    if 'overlay' in products:
        yield 'overlay', ('_overlay.png', encode_png(products['overlay']))
    if 'points' in products:
        yield 'points', ('.ply', encode_ply(products['points'], labels is not None))


def spread(values: np.ndarray) -> tuple[np.ndarray, dict[str, str]]:
    """
    Spread (H, W) float32 over uint16, from its smallest to its largest.

    :return: pixels, and what brings them back: value = offset + scale * pixel.
    """
    low, high = float(values.min()), float(values.max())
    scale = (high - low) / 65535 or 1.0
    pixels = np.round((values.astype(np.float64) - low) / scale).astype(np.uint16)
    return pixels, {'offset': repr(low), 'scale': repr(scale)}


def encode_npy(values: np.ndarray) -> bytes:
    """Write an array as np.save does."""
    content = io.BytesIO()
    np.save(content, values)
    return content.getvalue()


def encode_png(
    pixels: np.ndarray,
    palette: Sequence[tuple[int, int, int]] = (),
    notes: Mapping[str, str] = MappingProxyType({}),
) -> bytes:
    """
    Write (H, W) uint8 or uint16, or (H, W, 3) uint8, RGB.

    :param palette: colors that the numbers of (H, W) uint8 are shown in; others are black.
    :param notes: text by keyword, kept in the file.
    """
    image = Image.fromarray(np.ascontiguousarray(pixels))
    if palette:
        image.putpalette([channel for color in palette for channel in color])
    info, content = PngInfo(), io.BytesIO()
    for keyword, text in notes.items():
        info.add_text(keyword, text)
    image.save(content, 'png', pnginfo=info)
    return content.getvalue()


def encode_ply(points: np.ndarray, labelled: bool) -> bytes:
    """Write the finite ones of (..., 8) float32 points, as `points.pack_points` packs them."""
    points = points.reshape(-1, points.shape[-1])
    points = points[np.isfinite(points[:, 2])]
    bits = np.ascontiguousarray(points).view(np.uint32)
    columns: dict[str, tuple[str, str, np.ndarray]] = {
        'x': ('float', '<f4', points[:, 0]),
        'y': ('float', '<f4', points[:, 1]),
        'z': ('float', '<f4', points[:, 2]),
        'red': ('uchar', 'u1', bits[:, 4] >> 16 & 255),
        'green': ('uchar', 'u1', bits[:, 4] >> 8 & 255),
        'blue': ('uchar', 'u1', bits[:, 4] & 255),
    }
    if labelled:
        columns['label'] = ('ushort', '<u2', bits[:, 5])
    rows = np.empty(len(points), [(name, kind) for name, (_, kind, _) in columns.items()])
    for name, (_, _, values) in columns.items():
        rows[name] = values
    header = [
        'ply',
        'format binary_little_endian 1.0',
        'comment metres; x right, y down, z ahead',
        f'element vertex {len(points)}',
        *(f'property {kind} {name}' for name, (kind, _, _) in columns.items()),
        'end_header\n',
    ]
    return '\n'.join(header).encode() + rows.tobytes()


def _check_names(files: Sequence[Path], output: Path) -> None:
    """Refuse results that would replace each other, or become images to read."""
    seen: dict[str, Path] = {}
    for file in files:
        if (other := seen.setdefault(file.stem, file)) != file:
            raise ValueError(
                f'the results of {other} and {file} would have one name: run them one by one, '
                'each with an --output of its own'
            )
        if file.resolve().parent == output.resolve():
            raise ValueError(
                f'{output} has the images themselves: choose another folder for --output'
            )
