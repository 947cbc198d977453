"""What is left of a training: weights to ship, a record of how they came about, and a picture."""

from dataclasses import asdict
import hashlib
import json
from pathlib import Path
import platform
import subprocess

import cv2
from dpt_ros.model.dpt import freeze
from dpt_ros.training.evaluate import compare, table
from dpt_ros.training.train import describe, Plan, Say, smooth, State, trained
from dpt_ros.training.worlds import HELD_OUT, TRAINING
from dpt_ros.zoo import store
from dpt_ros.zoo.checkpoints import Checkpoint
import numpy as np
from safetensors.torch import save_file
import timm
import torch

_PANEL = (320, 640)  # rows and columns of one curve
_MARGIN = 48


def publish(
    state: State,
    name: str,
    entry: Checkpoint,
    plan: Plan,
    folder: Path,
    say: Say,
    recording: Path | None = None,
) -> list[Path]:
    """
    Write NAME.safetensors, its record NAME.json and its curves NAME.png to `folder`.

    What is evaluated is the file written, read back.

    :param recording: see `evaluate.compare`.
    :return: the three files.
    """
    weights, record, picture = (
        folder / f'{name}.{kind}' for kind in ('safetensors', 'json', 'png')
    )
    save_file(trained(state), weights)
    network = store.build(entry)
    network.load_state_dict(store.read(weights))
    results = compare(freeze(network.float()), entry, name, recording)
    say(table(results))
    content = {
        'name': name,
        'sha256': hashlib.sha256(weights.read_bytes()).hexdigest(),
        'bytes': weights.stat().st_size,
        'architecture': asdict(entry.architecture),
        'plan': describe(plan),
        'seeds': {'training': str(TRAINING), 'held_out': str(HELD_OUT)},
        'hours': round(state.seconds / 3600, 2),
        'curves': _summary(state.curves),
        'evaluation': results,
        'commit': _commit(),
        'machine': f'{_processor()}, {torch.get_num_threads()} thread(s)',
        'versions': {'torch': torch.__version__, 'timm': timm.__version__},
    }
    record.write_text(json.dumps(content, indent=2) + '\n', encoding='utf-8')
    cv2.imwrite(str(picture), draw_curves(state.curves)[..., ::-1])
    return [weights, record, picture]


def _summary(curves: list[dict[str, float]], points: int = 20) -> dict[str, list[float]]:
    """Thin every curve, smoothed, out to some points."""
    at = np.linspace(0, len(curves) - 1, min(points, len(curves))).astype(int)
    smoothed = {k: smooth([step[k] for step in curves], 50) for k in curves[0]}
    return {
        'step': (at + 1).tolist(),
        **{k: [round(values[i], 4) for i in at] for k, values in smoothed.items()},
    }


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
        _write(panel, f'{value:.2f}', (4, y + 4))
    for line, color, thick in (
        (logs, (190, 205, 230), 1),
        (np.log(smooth(values, 50)), (40, 70, 150), 2),
    ):
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


def _commit() -> str | None:
    """Return the git commit of this code, if it is a checkout that has one."""
    command = ['git', '-C', str(Path(__file__).parent), 'describe', '--always', '--dirty']
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except OSError:
        return None
    return done.stdout.strip() or None


def _processor() -> str:
    """Name the processor."""
    try:
        lines = Path('/proc/cpuinfo').read_text(encoding='utf-8').splitlines()
    except OSError:
        lines = []
    names = [line.split(':', 1)[1].strip() for line in lines if line.startswith('model name')]
    return names[0] if names else platform.processor() or platform.machine()
