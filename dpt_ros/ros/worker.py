"""
The one thread that runs the device: the newest images in, what came of them published.

Where that is worth it, another one publishes while the next images are computed.

Nothing is computed that nobody subscribed to; see `processor` for the way of a frame.
"""

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
import sys
from threading import Thread
from time import perf_counter
import traceback
from typing import Any

from dpt_ros.perception.pipeline import Perception
from dpt_ros.perception.runtime import free_memory
from dpt_ros.perception.scale.scaler import WAITING
from dpt_ros.ros.diagnostics import Statistics
from dpt_ros.ros.faults import ERROR, FAULTS, kind_of
from dpt_ros.ros.gravity import Gravity
from dpt_ros.ros.mailbox import Mailbox
from dpt_ros.ros.messages import seconds_of
from dpt_ros.ros.outputs import Output
from dpt_ros.ros.parameters import Parameters
from dpt_ros.ros.processor import Job, Outcome, Processor
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, Imu

THROTTLE = 10.0  # seconds between two log lines of one kind
FAREWELL = 1.0  # seconds that the end of a frame is waited for in any case
PACKAGE = str(Path(__file__).parents[1])


@dataclass(frozen=True)
class Camera:
    """What its images obey, 'K' or 'P', and who publishes what comes of them."""

    matrix: str
    outputs: Mapping[str, tuple[Output, Any]]  # topic in OUTPUTS -> its row and publisher


class Worker:
    """One thread from `start` to `stop`."""

    def __init__(
        self,
        perception: Perception,
        cameras: Mapping[str, Camera],
        statistics: Statistics,
        *,
        parameters: Callable[[], Parameters],
        age: Callable[[Any], float],
        alive: Callable[[], bool],
        overlapped: bool,
        logger: Any,
    ):
        """
        Prepare to run.

        :param cameras: by name, '' for the only one.
        :param parameters: gives the parameters as they are now.
        :param age: seconds since a message's stamp.
        :param alive: whether ROS still runs; publishing fails when it does not.
        :param overlapped: publish in a thread of its own while the next images are computed. It
            pays where the device is not the CPU: rclpy holds the interpreter's lock meanwhile.
        :param logger: of the node.
        """
        self._processor = Processor(perception)
        self._cameras, self._statistics = cameras, statistics
        self._parameters, self._age = parameters, age
        self._alive, self._logger = alive, logger
        self._mailbox: Mailbox[Image | CompressedImage] = Mailbox()
        self._missed = Counter[str]()
        self._infos: dict[str, CameraInfo] = {}
        self._references: dict[str, deque[Image]] = defaultdict(lambda: deque(maxlen=WAITING))
        self._gravities: dict[str, Gravity] = defaultdict(Gravity)
        self._hinted: set[tuple[str, str]] = set()  # (camera, what was told): once is enough
        self._traced: set[tuple[type, str]] = set()  # errors whose traceback was told, by place
        self._told: dict[str, float] = {}  # kind of fault -> when it was logged
        self._began: float | None = None  # when the frames in flight were taken up
        self._given_up = False  # nobody waits any more for what it is at
        self._sender = ThreadPoolExecutor(1, 'dpt sender') if overlapped else None
        self._going_out: list[Future[None]] = []  # what came of the images taken up last
        self._thread = Thread(target=self._run, name='dpt worker', daemon=True)

    def start(self) -> None:
        """Begin to take frames."""
        self._thread.start()

    def stop(self, patience: float = 0.0) -> bool:
        """
        Take no more frames and wait for the one in flight, of which nothing comes out afterwards.

        :param patience: seconds that it may take from its beginning; after that, or if that is
            over, FAREWELL is waited.
        :return: whether it has ended; else it hangs, and holds the networks.
        """
        self._mailbox.close()
        began = self._began
        left = 0.0 if began is None else began + patience - perf_counter()
        self._thread.join(max(left, FAREWELL))
        self._given_up = self.is_alive
        return not self._given_up

    @property
    def is_alive(self) -> bool:
        """Whether its thread runs."""
        return self._thread.is_alive()

    def put_image(self, source: str, image: Image | CompressedImage) -> None:
        """Leave the newest image of a camera."""
        self._mailbox.put(source, image)

    def miss(self, source: str, images: int) -> None:
        """Count images of a camera that were sent and never came."""
        self._missed[source] += images

    def put_info(self, source: str, info: CameraInfo) -> None:
        """Leave the newest camera_info of a camera."""
        self._infos[source] = info

    def put_reference(self, source: str, depth: Image) -> None:
        """Leave measured depth of a camera for its next image."""
        self._references[source].append(depth)

    def put_imu(self, source: str, imu: Imu) -> None:
        """Leave what the IMU of a camera measured."""
        self._gravities[source].put(imu)

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """By camera: frames that came, those replaced by newer ones, those that never came."""
        return {
            name: {
                'frames in': self._mailbox.arrived[name],
                'frames dropped': self._mailbox.dropped[name],
                'frames missed': self._missed[name],
            }
            for name in self._cameras
        }

    def hanging(self, patience: float = 0.0) -> str:
        """
        Say for how long the frames in flight have been there, and in which line of ours.

        :param patience: seconds that they may take; until then the answer is empty.
        """
        began, thread = self._began, self._thread.ident
        seconds = 0.0 if began is None else perf_counter() - began
        if seconds <= patience or thread is None:
            return ''
        stack = traceback.extract_stack(sys._current_frames().get(thread))
        ours = [f for f in stack if f.filename.startswith(PACKAGE)]
        place = f' in {Path(ours[-1].filename).name}, {ours[-1].name}' if ours else ''
        return f'a frame has taken {seconds:.0f} s{place}'

    def _run(self) -> None:
        while (images := self._mailbox.take()) is not None:
            self._began = perf_counter()
            try:
                self._process(images)
            except Exception as error:  # whatever it is, the next frames get their chance
                self._lose(error, '')
            self._began = None
        if self._sender is not None:
            self._sender.shutdown()

    def _process(self, images: Mapping[str, Image | CompressedImage]) -> None:
        """Make of the newest image of each camera all that somebody listens to."""
        started = perf_counter()
        jobs = [self._job(source, image) for source, image in images.items()]
        heard = [job for job in jobs if job.outputs]
        for job in jobs:
            if not job.outputs:
                self._statistics.scale(job.source, None)
        if not heard:
            return
        before, self._going_out = self._going_out, []
        for outcome in self._processor(heard, self._parameters()):
            wait(before)  # so that nothing queues up
            if self._given_up:
                return
            self._tell(outcome)
            if outcome.error is not None:
                continue
            if self._sender is None:
                self._publish(outcome, started)
            else:
                self._going_out.append(self._sender.submit(self._publish, outcome, started))

    def _publish(self, outcome: Outcome, started: float) -> None:
        """Publish what came of an image that was taken up when its batch `started`."""
        source, began = outcome.job.source, perf_counter()
        outputs = self._cameras[source].outputs
        try:
            for topic, message in outcome.messages.items():
                if self._given_up:
                    return
                outputs[topic][1].publish(message)
        except Exception as error:
            self._lose(error, source and f'{source}: ')
            return
        self._processor.give_back(outcome)
        ended = perf_counter()
        times = {'publish': ended - began, 'total': ended - started}
        age = self._age(outcome.job.image)
        self._statistics.record({**outcome.seconds, **times, 'age': age}, source)

    def _job(self, source: str, image: Image | CompressedImage) -> Job:
        """Join an image with what else is known of its camera, and with what is listened to."""
        camera = self._cameras[source]
        heard = [
            o for o, publisher in camera.outputs.values() if publisher.get_subscription_count()
        ]
        waiting, references = self._references[source], []
        while heard and waiting:
            references.append(waiting.popleft())
        down = self._gravities[source].down(seconds_of(image.header))
        info = self._infos.get(source)
        return Job(source, image, info, camera.matrix, heard, references, down)

    def _tell(self, outcome: Outcome) -> None:
        """Count and log what is wrong with a frame."""
        name = outcome.job.source and f'{outcome.job.source}: '
        if outcome.error is not None:
            self._lose(outcome.error, name)
        if outcome.misfit is not None:
            self._statistics.fault('camera_info')
            self._logger.warning(
                f'{name}no points: {outcome.misfit}; depth and labels flow',
                throttle_duration_sec=THROTTLE,
            )
        if outcome.stray is not None:
            self._statistics.fault('reference_depth')
            self._logger.warning(
                f'{name}a reference_depth is not used: {outcome.stray}',
                throttle_duration_sec=THROTTLE,
            )
        self._statistics.scale(outcome.job.source, outcome.scale)
        if outcome.scale is not None and outcome.scale.notes:
            notes = '; '.join(outcome.scale.notes)
            if outcome.scale.lost:  # a line of code has one severity, for rclpy
                self._logger.warning(f'{name}there are no metres: {notes}')
            else:
                self._logger.info(f'{name}{notes}')
        hint = (outcome.job.source, outcome.hint)
        if outcome.hint and hint not in self._hinted:
            self._hinted.add(hint)
            self._logger.warning(
                f'{name}{outcome.hint}: depth and labels flow, points wait for it'
            )

    def _lose(self, error: Exception, name: str) -> None:
        """Count a frame that is lost and tell why, unless all is coming to its end."""
        if self._given_up or not self._alive():
            return
        kind = kind_of(error)
        self._statistics.fault(kind)
        reason = str(error)
        if kind == 'internal':
            last = traceback.extract_tb(error.__traceback__)[-1]
            place = type(error), f'{last.filename}:{last.lineno}'
            reason = f'{place[0].__name__} in {place[1]}: {error}'
            if place not in self._traced:
                self._traced.add(place)
                reason = ''.join(traceback.format_exception(error))
                self._told.pop(kind, None)
        now = perf_counter()
        if now - self._told.get(kind, -THROTTLE) >= THROTTLE:  # rclpy throttles lines, not kinds
            self._told[kind] = now
            if FAULTS[kind].level == ERROR:
                self._logger.error(f'a frame is lost: {name}{reason}')
            else:
                self._logger.warning(f'a frame is lost: {name}{reason}')
        if kind == 'memory':
            error.__traceback__ = None  # it holds what the frame was made of
            free_memory()
