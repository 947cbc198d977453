"""What is left of a training: weights to ship, a record of how they came about, and a picture."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
import json
from pathlib import Path

import cv2
from dpt_ros.conditions import conditions
from dpt_ros.training.train import describe, Plan, smooth, State, trained
from dpt_ros.zoo.checkpoints import Checkpoint
from dpt_ros.zoo.store import checksum
import numpy as np
from safetensors.torch import save

_PANEL = (320, 640)  # rows and columns of one curve
_MARGIN = 48


def write_weights(state: State, folder: Path) -> Path:
    """Write FOLDER/weights.safetensors, which the node and every tool load."""
    path = folder / 'weights.safetensors'
    path.write_bytes(save(trained(state)))  # `save_file` would keep others from reading it
    return path


def write_record(
    state: State,
    weights: Path,
    about: Mapping[str, object],
    entry: Checkpoint,
    plan: Plan,
    evaluation: Mapping[str, object],
) -> list[Path]:
    """
    Write record.json and curves.png beside the weights.

    :param weights: the file, see `write_weights`.
    :param about: what the run was of, besides the plan.
    :param evaluation: what the weights in the file score.
    :return: the two files.
    """
    record, picture = weights.with_name('record.json'), weights.with_name('curves.png')
    device = next(state.network.parameters()).device
    content = {
        **about,
        'sha256': checksum(weights),
        'bytes': weights.stat().st_size,
        'architecture': asdict(entry.architecture),
        'plan': describe(plan),
        'hours': round(state.seconds / 3600, 2),
        'curves': _summary(state.curves),
        'evaluation': evaluation,
        'conditions': {**conditions(), 'device': str(device)},
    }
    record.write_text(json.dumps(content, indent=2) + '\n', encoding='utf-8')
    cv2.imwrite(str(picture), draw_curves(state.curves)[..., ::-1])
    return [record, picture]


def _summary(curves: list[dict[str, float]], points: int = 20) -> dict[str, list[float]]:
    """Thin every curve, smoothed, out to some points."""
    at = np.linspace(0, len(curves) - 1, min(points, len(curves))).astype(int)
    smoothed = {k: smooth([step[k] for step in curves], _reach(curves)) for k in curves[0]}
    return {
        'step': (at + 1).tolist(),
        **{k: [round(values[i], 4) for i in at] for k, values in smoothed.items()},
    }


def _reach(values: Sequence) -> float:
    """Choose over how many steps a curve is smoothed."""
    return min(50.0, max(1.0, len(values) / 20))


def draw_curves(curves: list[dict[str, float]]) -> np.ndarray:
    """Draw each loss over the steps, logarithmic, smoothed over raw: (H, W, 3) uint8, RGB."""
    panels = [_draw_curve(key, [step[key] for step in curves]) for key in curves[0]]
    return np.vstack(panels)


def _draw_curve(title: str, values: list[float]) -> np.ndarray:
    rows, columns = _PANEL
    panel = np.full((rows, columns, 3), 255, np.uint8)
    logs = np.log(np.maximum(values, 1e-6))
    low, high = np.percentile(logs, 0.5), np.percentile(logs, 99.5) + 1e-6
    for value in np.exp(np.linspace(low, high, 5)):
        y = _height(np.log(value), low, high)
        cv2.line(panel, (_MARGIN, y), (columns - 8, y), (225, 225, 225))
        _write(panel, f'{value:.2g}', (4, y + 4))
    smoothed = np.log(np.maximum(smooth(values, _reach(values)), 1e-6))
    for line, color, thick in ((logs, (190, 205, 230), 1), (smoothed, (40, 70, 150), 2)):
        across = np.linspace(_MARGIN, columns - 8, len(line))
        points = np.stack((across, [_height(v, low, high) for v in line]), axis=1)
        points = points.astype(np.int32)
        cv2.polylines(panel, [points], False, color, thick, cv2.LINE_AA)
    _write(panel, f'loss: {title}, {len(values)} steps', (_MARGIN, 20))
    return panel


def _height(value: float, low: float, high: float) -> int:
    share = np.clip((value - low) / (high - low), 0, 1)
    return int(_PANEL[0] - 16 - share * (_PANEL[0] - 48))


def _write(panel: np.ndarray, text: str, at: tuple[int, int]) -> None:
    cv2.putText(panel, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.4, (60, 60, 60), 1, cv2.LINE_AA)
