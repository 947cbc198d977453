"""A benchmark's result for people: a table, and a picture of where the time goes."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
import json
import math
from typing import Any

import cv2
from dpt_ros.bench.networks import table_of
import numpy as np

INK = (60, 60, 60)
COLORS = (
    (68, 114, 196),
    (237, 125, 49),
    (112, 173, 71),
    (255, 192, 0),
    (91, 155, 213),
    (158, 72, 14),
    (99, 99, 99),
    (165, 105, 189),
    (38, 166, 154),
    (190, 190, 190),
    (110, 150, 210),
    (170, 200, 235),
    (210, 225, 245),
)
BAR, LEFT, WIDTH, LEGEND = 24, 220, 1100, 70
COLUMNS = 9  # of the legend


def to_json(results: Mapping[str, Any]) -> str:
    """Write results as JSON; what is a dataclass becomes an object, and what is no number null."""
    return json.dumps(_plain(results), indent=2, allow_nan=False) + '\n'


def table(results: Mapping[str, Any]) -> str:
    """Lay the results out as text."""
    lines = [f'{name}: {value}' for name, value in results['conditions'].items()]
    lines += ['', *_machine(results)]
    network = results['network']
    lines += [
        '',
        'network, ViT-Tiny DPT at 256x256, equal weights: ours '
        f'{network["ours_ms"]:.1f} ms, transformers {network["transformers_ms"]:.1f} ms, ratio '
        f'{network["network_ratio"]:.2f} (outputs differ by {network["difference"]:.1e} of their '
        'deviation)',
    ]
    tiny = results['embedded']
    lines.append(
        f'network, dpt_tiny at {tiny["width"]}x{tiny["height"]}, depth and labels: '
        f'{tiny["median_ms"]:.1f} ms, p95 {tiny["p95_ms"]:.1f} ms'
    )
    for size, found in results['frames'].items():
        lines += ['', f'{size:<16}{"median ms":>10}{"p95 ms":>10}{"share":>8}{"MB":>8}']
        for name, stage in found['stages'].items():
            moved = '' if stage.megabytes is None else f'{stage.megabytes:.1f}'
            lines.append(
                f'  {name:<14}{stage.median_ms:>10.2f}{stage.p95_ms:>10.2f}'
                f'{stage.share:>8.0%}{moved:>8}'
            )
        baseline = found['baseline']
        lines.append(
            f'  around the network {found["around_ms"]:.1f} ms, baseline '
            f'{baseline["around_ms"]:.1f} ms, ratio {found["around_ratio"]:.2f}; '
            f'{found["frames_per_second"]:.1f} frames/s in process'
        )
    if runs := results.get('node'):
        lines += ['', _ROW.format('node', 'Hz in', 'Hz out', 'sent', 'lost', 'p50', 'p95', 'p99')]
        lines += [
            _ROW.format(
                run.name,
                f'{run.rate:g}' if run.rate else 'full',
                f'{run.per_second:.1f}',
                run.sent,
                run.sent - run.answered,
                *(f'{ms:.0f}' for ms in (run.p50_ms, run.p95_ms, run.p99_ms)),
            )
            for run in runs
        ]
    for size, stages in results.get('node_stages', {}).items():
        told = ', '.join(f'{name} {p50:g}' for name, (p50, _, _) in stages.items())
        lines.append(f'in the node, {size}, ms: {told}')
    if loading := results.get('loading'):
        lines += [
            '',
            f'loading {loading.name}, {loading.file_megabytes:.0f} MB: '
            f'{loading.cpu_seconds:.2f} s of CPU, {loading.checksum_cpu_seconds:.2f} s of it for '
            f'the checksum; peak memory {loading.peak_over_file:.2f} times the file',
        ]
    memory = ', '.join(f'{name} {value:.0f} MB' for name, value in results['memory'].items())
    return '\n'.join([*lines, '', f'peak memory of this process: {memory}'])


def _machine(results: Mapping[str, Any]) -> list[str]:
    """Tell what the machine can do, how much of that networks take, and how long a start takes."""
    lines = []
    for device, ceiling in results['ceilings'].items():
        rates = ', '.join(f'{name} {rate:.0f}' for name, rate in ceiling.matrix_gflops.items())
        memory = ceiling.memory_gigabytes
        lines.append(f'ceilings, {device}: matrices {rates} GFLOP/s; memory {memory:.1f} GB/s')
    start = results['startup']
    return [
        *lines,
        *table_of(results['networks']),
        f'start of the node: rclpy up after {start.ros:.1f} s, imported {start.imported:.1f}, '
        f'configured {start.configured:.1f}, active {start.active:.1f} ({start.cpu:.1f} s of CPU)',
    ]


_ROW = '{:<40}{:>7}{:>8}{:>6}{:>6}{:>7}{:>7}{:>7}'


def draw(results: Mapping[str, Any]) -> np.ndarray:
    """
    Draw bars: each size's stages, its baseline, and latencies of the node if it was measured.

    :return: (H, W, 3) uint8, RGB.
    """
    bars: list[tuple[str, Sequence[tuple[str, float]]]] = []
    for size, found in results['frames'].items():
        stages = [(n, s.median_ms) for n, s in found['stages'].items() if n != 'total']
        baseline = found['baseline']
        bars.append((f'{size} ours', stages))
        around, network = baseline['around_ms'], baseline['network_ms']
        bars.append((f'{size} baseline', [('around', around), ('network', network)]))
    for run in results.get('node', ()):
        if run.outputs == 'all' and run.answered:
            rate = f'{run.rate:g} Hz' if run.rate else 'full'
            many = f' {run.cameras} cam. {run.nodes} n.' if run.cameras > 1 else ''
            latency = [
                ('latency p50', run.p50_ms),
                ('to p95', run.p95_ms - run.p50_ms),
                ('to p99', run.p99_ms - run.p95_ms),
            ]
            bars.append((f'{run.size}{many} {rate}', latency))
    names = list(dict.fromkeys(name for _, parts in bars for name, _ in parts))
    color = {name: COLORS[index % len(COLORS)] for index, name in enumerate(names)}
    longest = max(sum(ms for _, ms in parts) for _, parts in bars)
    scale = (WIDTH - LEFT - 100) / longest
    picture = np.full((len(bars) * (BAR + 12) + LEGEND, WIDTH, 3), 255, np.uint8)
    for index, name in enumerate(names):
        left, top = 20 + 108 * (index % COLUMNS), 8 + 24 * (index // COLUMNS)
        cv2.rectangle(picture, (left, top), (left + 14, top + 14), color[name], -1)
        _write(picture, name, (left + 20, top + 12))
    for index, (title, parts) in enumerate(bars):
        top, x = LEGEND + index * (BAR + 12), float(LEFT)
        _write(picture, title, (8, top + BAR // 2 + 4))
        for name, ms in parts:
            end = x + ms * scale
            cv2.rectangle(picture, (round(x), top), (round(end), top + BAR), color[name], -1)
            x = end
        total = sum(ms for _, ms in parts)
        _write(picture, f'{total:.0f} ms', (round(x) + 6, top + BAR // 2 + 4))
    return picture


def _write(picture: np.ndarray, text: str, at: tuple[int, int]) -> None:
    cv2.putText(picture, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.42, INK, 1, cv2.LINE_AA)


def _plain(value: Any) -> Any:
    """Return what JSON knows."""
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, Mapping):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    return None if isinstance(value, float) and not math.isfinite(value) else value
