"""
The properties of test/fuzz at length, guided by coverage: `make fuzz`.

Each target is a process of its own, for atheris ends the one that it runs in. It fails with what
the property fails with, on one input that takes longer than SECONDS, and where its memory grows.
Only inputs that became a message or a file are counted, not those too short to make one.
"""

import argparse
from itertools import count
import os
from pathlib import Path
from random import Random
import subprocess
import sys
import tempfile
from time import perf_counter

import atheris
import psutil

TARGETS = {  # property: its share of the inputs, by how often and how cheaply it is met
    'test_images.test_any_image_is_read_or_refused': 0.25,
    'test_images.test_any_map_of_depth_is_read_or_refused': 0.2,
    'test_images.test_any_compressed_image_is_read_or_refused': 0.25,
    'test_camera_info.test_any_camera_info_gives_a_camera_or_is_refused': 0.15,
    'test_parameter_files.test_any_parameter_file_gives_parameters_or_is_refused': 0.05,
    'test_files.test_any_file_of_weights_gives_tensors_or_is_refused': 0.05,
    'test_files.test_any_bag_gives_images_or_is_refused': 0.05,
}
SECONDS = 1.0  # for one input; libFuzzer's own alarm comes later, where one never ends
HANGING = 20
SEEDS = 30
GROWTH = 100 * 2**20  # bytes of resident memory, from a tenth of the inputs to the last
FAILED = 77  # as libFuzzer says it
# Where there is a file system in memory, files are made there: a disk is what takes time else.
IN_MEMORY = {**({'TMPDIR': '/dev/shm'} if os.access('/dev/shm', os.W_OK) else {}), **os.environ}


def fuzz(target: str, runs: int) -> None:
    """Feed one property with `runs` inputs, tell how it went, and end this process."""
    module, name = target.split('.')
    with atheris.instrument_imports(include=['dpt_ros']):
        run = getattr(__import__(module), name).hypothesis.fuzz_one_input
    numbers, memory = count(1), psutil.Process().memory_info
    longest, early = 0.0, 0

    def one(data: bytes) -> None:
        nonlocal longest, early
        begin = perf_counter()
        made = run(data) is not None
        spent = perf_counter() - begin
        if not made:
            return
        if spent > SECONDS:  # once more, lest a machine that was busy pass for a slow input
            begin = perf_counter()
            run(data)
            spent = min(spent, perf_counter() - begin)
        number = next(numbers)
        if number > 1:  # the first one imports and compiles
            longest = max(longest, spent)
        if number == max(1, runs // 10):
            early = memory().rss
        late = spent > SECONDS and number > 1
        if number < runs and not late:
            return
        grown = memory().rss - early if early else 0
        told = f'{number} inputs, longest {1000 * longest:.0f} ms, {grown / 2**20:+.1f} MiB'
        print(f'{name}: {told}', flush=True)
        if late:
            print(f'{spent:.1f} s for {data!r}', flush=True)
        os._exit(FAILED if late or grown > GROWTH else 0)  # atheris would end it no sooner

    options = [f'-timeout={HANGING}', '-rss_limit_mb=0', '-max_len=8192', '-len_control=0']
    for seed in range(SEEDS):  # long enough to become messages
        Path(f'seed{seed}').write_bytes(Random(seed).randbytes(4096))
    atheris.Setup([target, *options, '.'], one)
    atheris.Fuzz()


def main() -> int:
    """Fuzz every target, or the one that is named; return how many failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--runs', type=int, default=200_000, help='inputs of all targets')
    parser.add_argument('--only', choices=TARGETS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.only:
        fuzz(given.only, round(given.runs * TARGETS[given.only]))
    failed = 0
    for target in TARGETS:
        command = [sys.executable, __file__, '--only', target, '--runs', str(given.runs)]
        with tempfile.TemporaryFile('w+') as noise, tempfile.TemporaryDirectory() as folder:
            code = subprocess.run(command, stderr=noise, cwd=folder, env=IN_MEMORY).returncode
            if code:
                noise.seek(0)
                print(f'{target} failed ({code}):', noise.read()[-8000:], flush=True)
        failed += code != 0
    return failed


if __name__ == '__main__':
    sys.path.insert(0, str(Path(__file__).parent))
    sys.exit(main())
