"""
The long run: the node with its defaults beside a steady camera, for as long as one likes.

`make soak` runs this for 30 minutes. It leaves a picture of memory and latency over time, its
numbers as JSON, and ends with code 1 where a promise is broken. Virtual machines are not as fast
at every time: once a second it times a small piece of work of its own, and a machine that is
slower at the end than in the beginning excuses as much latency.
"""

import argparse
from dataclasses import asdict, dataclass
import json
import os
from pathlib import Path
import signal
import subprocess
import sys
from time import monotonic, thread_time

import cv2
from diagnostic_msgs.msg import DiagnosticArray
from dpt_ros.bench.node import Probe
from dpt_ros.conditions import conditions
import numpy as np
import psutil
import rclpy
from rclpy.executors import SingleThreadedExecutor

TOPICS = ('~/depth/image', '~/segmentation/mask', '~/points')
STARTS_WITHIN = 180.0  # seconds until the first answer
SETTLING, SPAN = 120.0, 60.0  # seconds; of a shorter run a third and a sixth
MEMORY, LATENCY = 1.01, 1.10  # allowed ratios of the last minute to the first


@dataclass
class Run:
    """What was seen; times are seconds since the beginning."""

    times: list[float]  # of the samples of the process, one a second
    memory: list[float]  # resident, MB
    threads: list[int]
    files: list[int]  # descriptors
    pace: list[float]  # of the machine: CPU milliseconds of the same small work
    answered: list[float]  # when an answer came
    latency: list[float]  # from the stamp of its image until then, ms
    sent: int
    counts: dict[str, int]  # the node's own


def judge(run: Run) -> dict[str, tuple[bool, str]]:
    """Hold a run against the promises: name -> whether it is kept, and the figures."""
    whole = run.times[-1]
    settling, span = min(SETTLING, whole / 3), min(SPAN, whole / 6)
    times, answered = np.array(run.times), np.array(run.answered)
    memory, latency = np.array(run.memory), np.array(run.latency)
    early = np.median(memory[(times >= settling) & (times <= settling + span)])
    late = np.median(memory[times >= whole - span])
    first = np.percentile(latency[answered <= span], 99)
    last = np.percentile(latency[answered >= whole - span], 99)
    kept = (times >= settling).nonzero()[0][0]
    slower = np.mean(np.array(run.pace)[times >= whole - span])
    slower /= np.mean(np.array(run.pace)[times <= span])
    allowed = LATENCY * first * max(1.0, slower)
    entities = [(name, series[kept], series[-1]) for name, series in _entities(run).items()]
    counts = run.counts
    lost = counts['in'] - counts['out'] - counts['dropped'] - counts['faults']
    told = ', '.join(f'{count} {name}' for name, count in counts.items())
    return {
        'memory': (late <= MEMORY * early, f'{early:.1f} MB, at the end {late:.1f} MB'),
        'latency': (
            last <= allowed,
            f'p99 {first:.0f} ms, at the end {last:.0f} ms, where the same work of the machine '
            f'takes {slower:.2f} times as long',
        ),
        'threads and files': (
            all(end <= begin for _, begin, end in entities),
            ', '.join(f'{begin} {name}, at the end {end}' for name, begin, end in entities),
        ),
        'counted': (lost == 0 and not counts['faults'], f'{told}, {lost} lost without a count'),
        'delivered': (
            run.sent == counts['in'] + counts['missed'],
            f'{run.sent} sent, {run.sent - counts["in"]} of them replaced in the middleware',
        ),
    }


def _entities(run: Run) -> dict[str, list[int]]:
    return {'threads': run.threads, 'files': run.files}


class Watch:
    """The node in a process of its own, and what it tells and takes."""

    def __init__(self, rate: float, width: int, height: int):
        ros = ['--ros-args', '--log-level', 'warn', '-p', 'qos.input:=reliable']
        self._process = subprocess.Popen([sys.executable, '-m', 'dpt_ros.ros.main', *ros])
        self._client, self._executor = rclpy.create_node('soak'), SingleThreadedExecutor()
        self._executor.add_node(self._client)
        self._probe = Probe(self._client, '', 'dpt/')
        self._rate = rate
        self._reports = 0
        self._told: dict[str, int] = {}
        self._client.create_subscription(DiagnosticArray, '/diagnostics', self._hear, 1)
        self._probe.listen(TOPICS)
        self._probe.use(width, height)

    def run(self, seconds: float) -> Run:
        """Wait for the first answer, then watch for so long."""
        self._drive(STARTS_WITHIN, lambda: self._probe.ages)
        if not self._probe.ages:
            raise RuntimeError(f'the node gave no answer within {STARTS_WITHIN:g} s')
        before = self._settle()
        self._probe.begin(monotonic())
        seen = Run([], [], [], [], [], [], [], 0, {})
        process, began = psutil.Process(self._process.pid), monotonic()

        def look() -> bool:
            now = monotonic() - began
            known = len(seen.latency)
            new = self._probe.ages[known:]
            seen.latency += [age * 1e3 for age in new]
            seen.answered += [now] * len(new)
            if now >= len(seen.times):
                with process.oneshot():
                    seen.times.append(now)
                    seen.memory.append(process.memory_info().rss / 1e6)
                    seen.threads.append(process.num_threads())
                    seen.files.append(process.num_fds())
                seen.pace.append(_pace())
            return False

        self._drive(seconds, look)
        seen.sent = self._probe.sent
        seen.counts = {name: count - before[name] for name, count in self._settle().items()}
        return seen

    def close(self) -> None:
        """End the node by its id."""
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(30)
        self._client.destroy_node()

    def _drive(self, seconds: float, done) -> None:
        """Send at the rate until it is done or the time is over."""
        end = monotonic() + seconds
        while monotonic() < end and not done():
            if self._process.poll() is not None:
                raise RuntimeError('the node ended; the lines above say why')
            due = self._probe.drive(self._rate)
            self._executor.spin_once(timeout_sec=max(0.0, min(due - monotonic(), 0.05)))

    def _settle(self) -> dict[str, int]:
        """Send nothing until two reports agree, and return what they count."""
        last, reports, end = None, self._reports, monotonic() + STARTS_WITHIN
        while monotonic() < end:
            self._executor.spin_once(timeout_sec=0.1)
            if self._reports > reports:
                if self._reports > 1 and last == self._told:
                    return last
                last, reports = self._told, self._reports
        raise RuntimeError('the diagnostics of the node did not come to rest')

    def _hear(self, array: DiagnosticArray) -> None:
        values = {pair.key: pair.value for pair in array.status[0].values}
        faults = sum(int(v) for k, v in values.items() if k.startswith('faults:') and v.isdigit())
        names = ('in', 'out', 'dropped', 'missed')
        self._told = {name: int(values[f'frames {name}']) for name in names} | {'faults': faults}
        self._reports += 1


def _pace() -> float:
    """Return the CPU milliseconds of a piece of work: waiting for a core does not count."""
    started = thread_time()
    sum(range(100_000))
    return (thread_time() - started) * 1e3


def draw(run: Run, title: str) -> np.ndarray:
    """Draw memory, latency and the machine over time: (H, W, 3) uint8, BGR."""
    panels = [
        _panel(f'{title}: resident memory [MB]', run.times, run.memory),
        _panel('latency of each frame [ms]', run.answered, run.latency),
        _panel('CPU time of the same work, not of the node [ms]', run.times, run.pace),
    ]
    return np.vstack(panels)


def _panel(title: str, times: list[float], values: list[float]) -> np.ndarray:
    rows, columns, margin = 300, 1000, 60
    panel = np.full((rows, columns, 3), 255, np.uint8)
    top = 1.15 * max(values)  # from zero, so that a growth looks as large as it is
    digits = 0 if top > 20 else 1
    minutes = max(times) / 60
    x = margin + (columns - 2 * margin) * np.array(times) / max(times)
    y = rows - 40 - (rows - 80) * np.array(values) / top
    for share in (0, 0.25, 0.5, 0.75, 1):
        row = int(rows - 40 - (rows - 80) * share)
        column = int(margin + (columns - 2 * margin) * share)
        cv2.line(panel, (margin, row), (columns - margin, row), (225, 225, 225))
        _write(panel, f'{top * share:.{digits}f}', (8, row + 4))
        _write(panel, f'{minutes * share:.1f} min', (column - 20, rows - 16))
    for point in np.stack((x, y), axis=1).astype(int).tolist():
        cv2.circle(panel, point, 1, (150, 70, 40), -1, cv2.LINE_AA)
    _write(panel, title, (margin, 24))
    return panel


def _write(panel: np.ndarray, text: str, at: tuple[int, int]) -> None:
    cv2.putText(panel, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.45, (60, 60, 60), 1, cv2.LINE_AA)


def watch(minutes: float, rate: float, width: int, height: int) -> Run:
    """Run the node beside a camera, and return what was seen."""
    os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    rclpy.init()
    try:
        watcher = Watch(rate, width, height)
        try:
            return watcher.run(60 * minutes)
        finally:
            watcher.close()
    finally:
        rclpy.try_shutdown()


def soak(minutes: float, rate: float, width: int, height: int, output: Path) -> bool:
    """Run, write soak.png and soak.json into a folder, tell; True if all is kept."""
    run = watch(minutes, rate, width, height)
    verdicts = judge(run)
    title = f'{minutes:g} min of {width}x{height} at {rate:g} Hz'
    output.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(output / 'soak.png'), draw(run, title))
    about = {'title': title, 'conditions': conditions(), 'verdicts': verdicts, **asdict(run)}
    (output / 'soak.json').write_text(json.dumps(about, default=bool) + '\n', encoding='utf-8')
    print(title)
    for name, (kept, figures) in verdicts.items():
        print(f'  {"kept" if kept else "BROKEN":<8}{name}: {figures}')
    return all(kept for kept, _ in verdicts.values())


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--minutes', type=float, default=30.0, help='(%(default)s)')
    parser.add_argument('--rate', type=float, default=30.0, help='images a second (%(default)s)')
    parser.add_argument('--size', default='640x480', help='of an image (%(default)s)')
    parser.add_argument('--output', type=Path, default=Path('soak'), help='folder (%(default)s)')
    given = parser.parse_args()
    size = [int(side) for side in given.size.split('x')]
    sys.exit(not soak(given.minutes, given.rate, *size, given.output))
