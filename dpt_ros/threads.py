"""How PyTorch's threads wait for each other: chosen before PyTorch is imported, or never."""

import os

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
    """Let threads wait awake for a moment, unless the environment says otherwise."""
    if 'OMP_WAIT_POLICY' not in os.environ:
        os.environ.setdefault('GOMP_SPINCOUNT', SPIN)
