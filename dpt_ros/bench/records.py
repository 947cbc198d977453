"""Past results in a folder: a JSON file and a picture each, and a table of all in README.md."""

from collections.abc import Callable, Mapping
import json
from pathlib import Path
from typing import Any

import cv2
from dpt_ros.bench.report import draw, to_json

TITLE = """# Benchmarks

What `dpt bench --node --keep` measured, newest first. The machine was free if the load before is
small; across machines compare ratios only. Around the network is all else that a frame takes, but
DDS (640x480, all outputs). Each picture shows the stages of a frame beside the baseline, which
leaves pixels that float between surfaces where they are (`depth.edge_angle`).

"""
COLUMNS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    'date': lambda r: r['conditions']['date'][:10],
    'commit': lambda r: str(r['conditions']['commit']),
    'machine': lambda r: '{cpu}, {cores} cores'.format(**r['conditions']),
    'GPU': lambda r: str(r['conditions']['gpu']),
    'runtime': lambda r: r['conditions'].get('runtime', 'eager'),
    'threads': lambda r: str(r['conditions']['threads']),
    'load before': lambda r: str(r['conditions']['load average'][0]),
    'network ratio': lambda r: f'{r["network_ratio"]:.2f}',
    'around, ms': lambda r: f'{next(iter(r["frames"].values()))["around_ms"]:.1f}',
    'around ratio': lambda r: f'{r["around_ratio"]:.2f}',
    'dpt_tiny, ms': lambda r: f'{r["embedded"]["median_ms"]:.1f}',
    'DPT-Base, share of the matrix rate': lambda r: f'{r["networks"][0]["share"]:.2f}',
    'active after, s': lambda r: f'{r["startup"]["active"]:.1f}',
}


def keep(results: Mapping[str, Any], folder: Path) -> Path:
    """File results by date, commit and runtime, and write the table anew; return the JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    told = results['conditions']
    file = folder / f'{told["date"][:10]}-{told["commit"]}-{told["runtime"]}.json'
    file.write_text(to_json(results), encoding='utf-8')
    cv2.imwrite(str(file.with_suffix('.png')), draw(results)[..., ::-1])
    (folder / 'README.md').write_text(TITLE + _table(folder), encoding='utf-8')
    return file


def _table(folder: Path) -> str:
    rows = [list(COLUMNS), ['---'] * len(COLUMNS)]
    kept = [(json.loads(file.read_text(encoding='utf-8')), file) for file in folder.glob('*.json')]
    kept.sort(key=lambda each: each[0]['conditions']['date'], reverse=True)
    for results, file in kept:
        date, *others = (column(results) for column in COLUMNS.values())
        picture = file.with_suffix('.png').name
        rows.append([f'[{date}]({file.name}) ([picture]({picture}))', *others])
    return ''.join(f'| {" | ".join(row)} |\n' for row in rows)
