"""What the node tells of itself once a second, as diagnostic_msgs/DiagnosticArray."""

from collections import Counter, defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from threading import Lock

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from dpt_ros.perception.scale.tracker import Scale
from dpt_ros.ros.faults import FAULTS
import numpy as np
from std_msgs.msg import Header

PREFIX = 'faults:'
# Of all cameras, and of each of many.
FRAMES = ('frames in', 'frames out', 'frames dropped', 'frames missed')
WINDOW = 300  # frames that the percentiles of a stage are taken over


class Statistics:
    """Counts and times of the node's work: written by the worker, read once a second."""

    def __init__(self) -> None:
        """Start from zero."""
        self._lock = Lock()
        self._stages: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=WINDOW))
        self._counts: Counter[str] = Counter()
        self._last: Mapping[str, int] = {}
        self._scales: dict[str, Scale] = {}

    def record(self, seconds: Mapping[str, float], source: str = '') -> None:
        """Add one frame that went out of a camera: how long each stage took, in seconds."""
        with self._lock:
            self._counts['frames out'] += 1
            if source:
                self._counts[f'{source}: frames out'] += 1
            for stage, duration in seconds.items():
                self._stages[stage].append(duration)

    def fault(self, kind: str) -> None:
        """Count something that cost a frame, or its points."""
        with self._lock:
            self._counts[f'{PREFIX} {kind}'] += 1

    def scale(self, source: str, scale: Scale | None) -> None:
        """Keep the scale of a camera's last frame; None: nobody asked for metres."""
        with self._lock:
            if scale is None:
                self._scales.pop(source, None)
            else:
                self._scales[source] = scale

    def report(
        self,
        counts: Mapping[str, int],
        others: Mapping[str, str],
        idle: str,
        period: float,
        silent: Sequence[str] = (),
        hanging: str = '',
    ) -> 'Report':
        """
        Describe the time since the last report.

        :param counts: totals that others keep: 'frames in', 'dropped', 'missed'.
        :param others: more to tell, as text.
        :param idle: why nothing is expected to happen, such as 'paused'; empty: it is.
        :param period: seconds since the last report.
        :param silent: of which cameras no image came, as sentences.
        :param hanging: where a frame hangs, see `Worker.hanging`.
        """
        with self._lock:
            totals = {**dict.fromkeys(FRAMES, 0), **self._counts, **counts}
            scales = dict(self._scales)
            stages = {stage: np.array(times) * 1e3 for stage, times in self._stages.items()}
        new = {name: max(0, total - self._last.get(name, 0)) for name, total in totals.items()}
        self._last = totals
        values = {name: str(total) for name, total in totals.items()} | dict(others)
        for name in (name for name in totals if name.endswith(FRAMES)):
            values[f'{name} [Hz]'] = f'{new[name] / period:.1f}'
        for stage, times in stages.items():
            p50, p95 = np.percentile(times, (50, 95))
            values[f'{stage} [ms] p50, p95, max'] = f'{p50:.1f}, {p95:.1f}, {times.max():.1f}'
        lost = []
        for source, scale in scales.items():
            prefix = source and f'{source}: '
            values |= {f'{prefix}{name}': value for name, value in describe_scale(scale).items()}
            lost += [f'{prefix}no metres: {scale.lost}'] if scale.lost else []
        faults = [kind for kind in FAULTS if new.get(f'{PREFIX} {kind}')]
        return Report(
            values, new['frames out'], new['frames in'], faults, idle, silent, hanging, lost
        )


def describe_scale(scale: Scale) -> dict[str, str]:
    """Tell a scale and, where one was fitted, what it rests on."""
    told = {
        'scale factor': f'{scale.factor:.6g}',
        'scale offset [1/m]': f'{scale.offset:.6g}',
        'scale lost': scale.lost or 'no',
    }
    if (fit := scale.fit) is not None:
        share = fit.inliers / fit.points
        told |= {
            'scale inliers': f'{fit.inliers} of {fit.points} ({share:.0%})',
            'scale residual': f'{fit.residual:.2%}',
            'scale age [s]': f'{scale.age:.2f}',
        }
    return told


@dataclass(frozen=True)
class Report:
    """What happened since the last report."""

    values: Mapping[str, str]  # name -> value, as text
    frames: int  # that went out
    images: int  # that came in
    faults: Sequence[str]  # kinds that occurred, keys of FAULTS
    idle: str = ''  # why nothing was to happen
    silent: Sequence[str] = ()  # of which cameras no image came
    hanging: str = ''  # where a frame hangs
    lost: Sequence[str] = ()  # why cameras have no metres

    @property
    def level(self) -> bytes:
        """As bad as the worst fault; WARN if images or metres are missing, else OK."""
        kinds = [*self.faults, 'stalled'] if self.hanging else self.faults
        levels = [FAULTS[kind].level for kind in kinds]
        lost = self.lost and self.images
        if self.silent or lost or not (self.images or self.idle):
            levels.append(DiagnosticStatus.WARN)
        return max(levels, default=DiagnosticStatus.OK)

    @property
    def message(self) -> str:
        """The state in a few words, the worst first."""
        if self.hanging:
            return f'stalled: {self.hanging}'
        if self.faults:
            worst = sorted(self.faults, key=lambda kind: FAULTS[kind].level, reverse=True)
            return '; '.join(f'{kind}: {FAULTS[kind].cause}' for kind in worst)
        if self.idle or self.silent or not self.images:
            return self.idle or ', '.join(self.silent) or 'no image came'
        if self.lost:
            return ', '.join(self.lost)
        return f'{self.frames} frames out' if self.frames else 'nobody listens'


def encode_diagnostics(stamp: Time, name: str, hardware: str, report: Report) -> DiagnosticArray:
    """Wrap a report as the one status of a DiagnosticArray."""
    values = [KeyValue(key=key, value=value) for key, value in report.values.items()]
    status = DiagnosticStatus(
        level=report.level, name=name, hardware_id=hardware, message=report.message, values=values
    )
    return DiagnosticArray(header=Header(stamp=stamp), status=[status])
