"""How PyTorch's threads wait for each other: for a moment awake, as long as there are few."""

from collections.abc import Callable
from concurrent.futures import Future
import os
from threading import Thread
from typing import TypeVar

Result = TypeVar('Result')

# Turns of a loop, some two hundred microseconds, for which a thread of OpenMP waits awake before
# it sleeps: longer than the steps between two operations. By default they wait awake for good. The
# node takes fewer threads where others keep the cores busy (`perception.crew`). dpt_tiny on two
# cores of a virtual machine (EPYC), medians of two runs of each by turns, in milliseconds; one
# thread took 106 and 131 on free cores, 111 and 117 beside one busy process, 179 and 192 beside
# two:
#              1000      3000      10000     30000
#   free       95, 146   88, 91    66, 74    77, 79
#   one busy   134, 150  169, 177  247, 280  547, 569
#   two busy   117, 141  158, 181  272, 283  181, 626
SPIN = '10000'


def wait_briefly() -> None:
    """
    Let threads wait awake for a moment, unless the environment says otherwise.

    Chosen before PyTorch is imported, or never.
    """
    if 'OMP_WAIT_POLICY' not in os.environ:
        os.environ.setdefault('GOMP_SPINCOUNT', SPIN)


def apart(function: Callable[[], Result]) -> Result:
    """
    Call a function in a thread of its own; return, or raise, what it does.

    Each thread that calls PyTorch has helpers of its own until it ends. When all of them are more
    than the cores, libgomp lets them fall asleep at once, whatever `SPIN` says. So who calls it
    once does that here. The node on two cores, in turn, medians of two runs each: the network of
    a frame 100 and 104 ms -> 67 and 73, from stamp to the last output 152 and 161 -> 120 and 124.
    """
    done: Future[Result] = Future()

    def run() -> None:
        try:
            done.set_result(function())
        except BaseException as error:
            done.set_exception(error)

    # Of an executor whoever is interrupted, by a signal, would have to await the end.
    thread = Thread(target=run, name='apart', daemon=True)
    thread.start()
    result = done.result()
    thread.join()
    return result
