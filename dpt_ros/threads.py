"""How PyTorch's threads wait for each other: chosen before PyTorch is imported, or never."""

import os

# Turns of a loop, some microseconds, for which a thread of OpenMP waits awake before it sleeps.
# By default they wait awake for good: on cores shared with navigation a frame then takes five
# times as long and more. If they sleep at once, a frame takes a third longer on free cores, as
# its many small steps each wake them. dpt_tiny on two cores, median: 45 ms free and 161 with three
# other busy processes; awake for good 45 and 389, asleep at once 58 and 109.
SPIN = '1000'


def wait_briefly() -> None:
    """Let threads wait awake for some microseconds, unless the environment says otherwise."""
    if 'OMP_WAIT_POLICY' not in os.environ:
        os.environ.setdefault('GOMP_SPINCOUNT', SPIN)
