"""What a figure depends on besides the code: the machine, its load, and the versions."""

from datetime import datetime, timezone
from importlib.metadata import version
import os
from pathlib import Path
import platform
import subprocess

import torch

PACKAGES = ('torch', 'timm', 'transformers', 'numpy', 'opencv-python-headless')


def conditions() -> dict[str, object]:
    """Describe this machine and process, as they are now."""
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        'date': datetime.now(timezone.utc).isoformat(timespec='seconds'),
        'commit': commit(),
        'cpu': processor(),
        'cores': len(os.sched_getaffinity(0)),
        'threads': torch.get_num_threads(),
        'load average': [round(load, 2) for load in os.getloadavg()],
        'gpu': gpus or 'none: not measured on a GPU',
        'python': platform.python_version(),
        **{name: _version(name) for name in PACKAGES},
    }


def commit() -> str | None:
    """Return the git commit of this code, if it is a checkout that has one."""
    command = ['git', '-C', str(Path(__file__).parent), 'describe', '--always', '--dirty']
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except OSError:
        return None
    return done.stdout.strip() or None


def processor() -> str:
    """Name the processor."""
    try:
        lines = Path('/proc/cpuinfo').read_text(encoding='utf-8').splitlines()
    except OSError:
        lines = []
    names = [line.split(':', 1)[1].strip() for line in lines if line.startswith('model name')]
    return names[0] if names else platform.processor() or platform.machine()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except ModuleNotFoundError:
        return None
