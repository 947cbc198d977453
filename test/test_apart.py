"""Who calls PyTorch once leaves no helpers behind, which would send those of others to sleep."""

from pathlib import Path
import subprocess
import sys
import threading

from dpt_ros.threads import apart
import pytest

COUNT = """
import os
from time import monotonic
import torch
from dpt_ros.threads import apart

def threads():
    return len(os.listdir('/proc/self/task'))

torch.set_num_threads(2)
before = threads()
work = lambda: (torch.ones(1 << 20), threads() - before)[1]
print('apart', apart(work))
end = monotonic() + 10
while threads() > before and monotonic() < end:
    pass  # the kernel takes a moment
print('left', threads() - before)
print('here', work())
"""


def test_what_comes_back_is_what_the_function_gave():
    assert apart(lambda: (threading.current_thread().name, 5)) == ('apart', 5)


def test_what_the_function_raises_is_raised():
    with pytest.raises(OSError, match='no such weights'):
        apart(lambda: (_ for _ in ()).throw(OSError('no such weights')))


@pytest.mark.skipif(not Path('/proc/self/task').exists(), reason='threads are counted on Linux')
def test_the_helpers_of_pytorch_go_with_the_thread_that_had_them():
    lines = subprocess.run(
        [sys.executable, '-c', COUNT], capture_output=True, text=True, check=True, timeout=120
    ).stdout
    told = dict(line.split() for line in lines.splitlines())
    assert told == {'apart': '2', 'left': '0', 'here': '1'}  # itself and its helper; the helper
