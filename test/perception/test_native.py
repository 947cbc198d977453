"""What native code is made of, and for which processor."""

import os
from pathlib import Path
import shutil
import subprocess
import sys

from dpt_ros.perception import loops, native, tiles
import pytest


@pytest.mark.parametrize('name', native.SOURCES)
def test_what_was_compiled_of_other_files_is_not_taken(name: str, tmp_path: Path):
    for source in native.SOURCES:
        shutil.copy(Path(native.__file__).with_name(source), tmp_path)
    before = native.stamp.__wrapped__(tmp_path)
    assert before == native.stamp()
    with (tmp_path / name).open('a') as file:
        file.write('# another one')
    assert native.stamp.__wrapped__(tmp_path) != before


@pytest.mark.parametrize('function', [loops.classify, loops.buffer, tiles.convolve, native.run])
def test_numba_asks_for_that(function):
    assert function._cache._cache_file._source_stamp == native.stamp()


@pytest.mark.parametrize('chosen', ['', 'NUMBA_CPU_FEATURES', 'NUMBA_CPU_NAME'])
def test_wide_registers_are_taken_unless_the_user_chose(chosen: str):
    value = {'': '', 'NUMBA_CPU_FEATURES': '+sse2', 'NUMBA_CPU_NAME': 'generic'}[chosen]
    code = (
        'from numba.core import config\n'
        'from numba.core import codegen\n'
        "codegen.get_host_cpu_features = lambda: '+avx512vl,+avx512f'\n"
        'from dpt_ros.perception.native import _take_wide_registers\n'
        '_take_wide_registers()\n'
        'print(config.CPU_FEATURES)\n'
    )
    environment = {**os.environ, **({chosen: value} if chosen else {})}
    told = subprocess.run(
        [sys.executable, '-c', code],
        check=True,
        timeout=120,
        capture_output=True,
        text=True,
        env=environment,
    ).stdout.strip()
    wanted = {'': '+avx512vl,+avx512f,-prefer-256-bit', 'NUMBA_CPU_FEATURES': '+sse2'}
    assert told == wanted.get(chosen, '')
