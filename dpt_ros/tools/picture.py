"""One picture of what the node makes of an image, with a legend."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
from dpt_ros.zoo.labels import Labels
import numpy as np

PANEL = (480, 360)  # width and height
INK, PAPER = (30, 30, 30), 255
RANGE = 10.0  # metres seen from above


@dataclass(frozen=True)
class Views:
    """What the picture shows; all arrays are of one frame, and None is left blank."""

    image: np.ndarray  # (H, W, 3) uint8, RGB
    depth_color: np.ndarray | None  # (h, w, 3) uint8, RGB
    mask: np.ndarray | None  # (h, w) class ids
    overlay: np.ndarray | None  # (h, w, 3) uint8, RGB
    points: np.ndarray | None  # (N, 3) float32, metres, optical frame
    point_colors: np.ndarray | None  # (N, 3) uint8, RGB
    depth: np.ndarray | None = None  # (h, w) float32, metres
    true_depth: np.ndarray | None = None  # (h, w) float32, metres, where the source knows it
    true_mask: np.ndarray | None = None  # (h, w) class ids, likewise


def draw(views: Views, labels: Labels | None, title: str, notes: Sequence[str]) -> np.ndarray:
    """
    Lay out image, depth, labels, overlay, the cloud from above, and the truth if it is known.

    :param title: printed large, at the top; `notes` below it, a line each.
    :return: (height, width, 3) uint8, RGB.
    """
    shares = _shares(views.mask, labels)
    panels = {
        'image': views.image,
        'depth: red is near, blue is far': views.depth_color,
        'labels': _paint(views.mask, labels),
        'overlay': views.overlay,
        f'cloud from above, {RANGE:g} m ahead': _from_above(views.points, views.point_colors),
        'classes': _legend(shares, labels),
    }
    if views.true_depth is not None and views.depth is not None:
        error = np.abs(views.depth / views.true_depth - 1)
        panels |= {
            'error of depth: red is 50 % and more': color(0.5 - error, 0.5),
            'true depth': color(views.true_depth, RANGE),
            'true labels': _paint(views.true_mask, labels),
        }
    cells = [_cell(name, pixels) for name, pixels in panels.items()]
    rows = [cells[:3], cells[3:6], cells[6:]]
    grid = np.vstack([np.hstack(row) for row in rows if row])
    head = np.full((34 + 24 * len(notes) + 12, grid.shape[1], 3), PAPER, np.uint8)
    _write(head, title, (10, 30), 0.9, 2)
    for row, note in enumerate(notes):
        _write(head, note, (10, 56 + 24 * row), 0.55, 1)
    return np.vstack([head, grid])


def color(values: np.ndarray, farthest: float) -> np.ndarray:
    """Color values from 0 (red) to `farthest` (blue); what is not finite is black."""
    steps = np.nan_to_num(values * (255 / farthest), nan=0, posinf=0, neginf=0).clip(0, 255)
    colored = cv2.applyColorMap(255 - steps.astype(np.uint8), cv2.COLORMAP_TURBO)[..., ::-1]
    return np.where(np.isfinite(values)[..., None], colored, 0).astype(np.uint8)


def _cell(name: str, pixels: np.ndarray | None) -> np.ndarray:
    """Fit pixels into a panel with its name above."""
    cell = np.full((PANEL[1] + 30, PANEL[0] + 8, 3), PAPER, np.uint8)
    _write(cell, name if pixels is not None else f'{name}: none', (8, 20), 0.5, 1)
    if pixels is not None:
        scale = min(PANEL[0] / pixels.shape[1], PANEL[1] / pixels.shape[0])
        size = (round(pixels.shape[1] * scale), round(pixels.shape[0] * scale))
        fitted = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
        inner = cell[28:, 4:]
        inner[: size[1], : size[0]] = fitted
    return cell


def _paint(mask: np.ndarray | None, labels: Labels | None) -> np.ndarray | None:
    """Color class ids; unlabelled pixels are black."""
    if mask is None or labels is None:
        return None
    palette = np.zeros((65536, 3), np.uint8)
    palette[: len(labels.colors)] = labels.colors
    return palette[mask]


def _shares(mask: np.ndarray | None, labels: Labels | None) -> Mapping[int, float]:
    """Return the share of pixels of each class that is seen, largest first."""
    if mask is None or labels is None:
        return {}
    ids, counts = np.unique(mask, return_counts=True)
    order = np.argsort(-counts)
    return {int(ids[i]): counts[i] / mask.size for i in order if ids[i] < len(labels.names)}


def _legend(shares: Mapping[int, float], labels: Labels | None) -> np.ndarray | None:
    """List the classes seen, with their color and share."""
    if labels is None:
        return None
    panel = np.full((PANEL[1], PANEL[0], 3), PAPER, np.uint8)
    for row, (index, share) in enumerate(list(shares.items())[:12]):
        top = 10 + 28 * row
        cv2.rectangle(panel, (10, top), (40, top + 20), labels.colors[index], -1)
        _write(panel, f'{labels.names[index]}  {share:.0%}', (52, top + 16), 0.5, 1)
    return panel


def _from_above(points: np.ndarray | None, colors: np.ndarray | None) -> np.ndarray | None:
    """Draw the cloud as the robot would see its map: itself below, straight ahead is up."""
    if points is None or colors is None:
        return None
    width, height = PANEL
    scale = height / RANGE  # pixels a metre
    panel = np.full((height, width, 3), 245, np.uint8)
    for metre in range(1, round(RANGE) + 1):
        cv2.circle(panel, (width // 2, height), round(metre * scale), (215, 215, 215), 1)
    low_to_high = np.argsort(-points[:, 1])  # y points down: what stands highest is drawn last
    x, z = points[low_to_high][:, (0, 2)].T
    u, v = np.round(width / 2 + x * scale), np.round(height - z * scale)
    inside = (u >= 0) & (u < width) & (v >= 0) & (v < height)
    painted = colors[low_to_high][inside]
    panel[v[inside].astype(int), u[inside].astype(int)] = painted
    cv2.circle(panel, (width // 2, height - 2), 5, INK, -1)
    return panel


def _write(pixels: np.ndarray, text: str, at: tuple[int, int], size: float, weight: int) -> None:
    cv2.putText(pixels, text, at, cv2.FONT_HERSHEY_SIMPLEX, size, INK, weight, cv2.LINE_AA)
