"""What it costs to load a network, measured in a process of its own after its imports."""

from dataclasses import asdict, dataclass
import json
from pathlib import Path
import re
import resource
import subprocess
import sys

from dpt_ros.zoo.store import checksum, load, weights_path
import torch


@dataclass(frozen=True)
class Loading:
    """The cost of one file."""

    name: str
    file: str
    file_megabytes: float
    checksum_cpu_seconds: float
    cpu_seconds: float  # of all threads, checksum included
    peak_megabytes: float  # of host memory above what the imports took, mapped file included
    peak_over_file: float


def bench_loading(name: str, weights: str = '') -> Loading:
    """
    Load a network in a fresh process and measure it.

    :param name: a network; `weights` its file or folder, see `store.load`.
    :raises OSError: for a file that is missing; ValueError for one that will not do.
    """
    command = [sys.executable, '-m', 'dpt_ros.bench.loading', name, weights]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(done.stderr.strip().splitlines()[-1])
    return Loading(**json.loads(done.stdout.splitlines()[-1]))


def measure(name: str, weights: str) -> Loading:
    """Load a network in this process; everything needed has been imported."""
    given = Path(weights).expanduser()
    path = given if given.is_file() else weights_path(name, weights)
    if not path.is_file():
        load(name, weights)  # which says what is missing
    began = _cpu_seconds()
    checksum(path)
    hashed = _cpu_seconds() - began
    before = _memory('VmRSS')
    Path('/proc/self/clear_refs').write_text('5', encoding='ascii')  # resets VmHWM
    began = _cpu_seconds()
    trained = load(name, weights)
    for tensor in trained.network.parameters():
        tensor.sum()  # what is mapped is read at last
    seconds = _cpu_seconds() - began
    if path.name != trained.checkpoint.file:
        seconds += hashed  # the store left out what a published file's name asks for
    peak, size = _memory('VmHWM') - before, path.stat().st_size
    return Loading(name, str(path), size / 1e6, hashed, seconds, peak / 1e6, peak / size)


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _memory(kind: str) -> int:
    """Return VmRSS or VmHWM of this process in bytes."""
    status = Path('/proc/self/status').read_text(encoding='ascii')
    (kilobytes,) = re.findall(rf'^{kind}:\s+(\d+) kB', status, re.M)
    return int(kilobytes) * 1024


if __name__ == '__main__':
    torch.set_num_threads(2)
    sys.stdout.write(json.dumps(asdict(measure(*sys.argv[1:3]))) + '\n')
