"""
The way of a frame: message -> frame -> perception -> messages, on the one thread of the device.

Nothing is computed that nobody subscribed to, and a frame that cannot be used costs only itself.
"""

from collections.abc import Callable, Sequence
from threading import Thread
from time import perf_counter
import traceback
from typing import Any

from dpt_ros.perception.camera import Camera
from dpt_ros.perception.pipeline import Frame, Perception
from dpt_ros.ros.diagnostics import Statistics
from dpt_ros.ros.mailbox import Mailbox
from dpt_ros.ros.messages import decode_camera, decode_compressed, decode_image, rectified
from dpt_ros.ros.outputs import Origin, Output
from dpt_ros.ros.parameters import options, Parameters
import numpy as np
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

THROTTLE = 10.0  # seconds between two log lines of one kind


class Worker:
    """One thread from `start` to `stop`."""

    def __init__(
        self,
        perception: Perception,
        outputs: Sequence[tuple[Output, Any]],
        statistics: Statistics,
        *,
        parameters: Callable[[], Parameters],
        matrix: str,
        age: Callable[[Any], float],
        alive: Callable[[], bool],
        logger: Any,
    ):
        """
        Prepare to run.

        :param outputs: each topic with its publisher.
        :param parameters: gives the parameters as they are now.
        :param matrix: 'K' or 'P', what the images obey.
        :param age: seconds since a message's stamp.
        :param alive: whether ROS still runs; publishing fails when it does not.
        :param logger: of the node.
        """
        self._perception, self._outputs, self._statistics = perception, outputs, statistics
        self._parameters, self._matrix, self._age = parameters, matrix, age
        self._alive, self._logger = alive, logger
        self._mailbox: Mailbox[Image | CompressedImage] = Mailbox()
        self._info: CameraInfo | None = None
        self._messages: dict[str, Any] = {}  # the last of each topic
        self._thread = Thread(target=self._run, name='dpt worker', daemon=True)

    def start(self) -> None:
        """Begin to take frames."""
        self._thread.start()

    def stop(self, timeout: float | None = None) -> None:
        """Take no more frames and wait, `timeout` seconds at most, for the one in flight."""
        self._mailbox.close()
        self._thread.join(timeout)

    def put_image(self, source: str, image: Image | CompressedImage) -> None:
        """Leave the newest image of a camera."""
        self._mailbox.put(source, image)

    def put_info(self, info: CameraInfo) -> None:
        """Leave the newest camera_info."""
        self._info = rectified(info) if self._matrix == 'P' else info

    @property
    def counts(self) -> dict[str, int]:
        """Frames that came and frames that were replaced by newer ones before their turn."""
        return {'frames in': self._mailbox.arrived, 'frames dropped': self._mailbox.dropped}

    def _run(self) -> None:
        while (images := self._mailbox.take()) is not None:
            for source, image in images.items():
                try:
                    self._process(source, image)
                except ValueError as error:
                    self._lose('image', self._logger.warning, str(error))
                except Exception:  # whatever it is, the next frame gets its chance
                    self._lose('internal', self._logger.error, traceback.format_exc())

    def _lose(self, kind: str, log: Callable[..., Any], reason: str) -> None:
        """Count a frame that is lost and tell why, unless all is coming to its end."""
        if self._alive():
            self._statistics.fault(kind)
            log(f'a frame is lost: {reason}', throttle_duration_sec=THROTTLE)

    def _process(self, source: str, image: Image | CompressedImage) -> None:
        """Make of one image all that somebody listens to."""
        heard = [(o, publisher) for o, publisher in self._outputs if _listeners(publisher)]
        if not heard:
            return
        started = perf_counter()
        frame = self._frame(source, image)
        decoded = perf_counter()
        parameters = self._parameters()
        wanted = frozenset[str]().union(*(output.reads for output, _ in heard))
        (result,) = self._perception([frame], wanted, options(parameters))
        computed = perf_counter()
        for output, publisher in heard:
            last = self._messages.pop(output.topic, None)
            message = output.build(result, parameters, last)
            if message is not None:
                publisher.publish(message)
                self._messages[output.topic] = message  # sent, so it may be filled again
        ended = perf_counter()
        stages = {'decode': decoded - started, **result.seconds, 'publish': ended - computed}
        self._statistics.record({**stages, 'total': ended - started, 'age': self._age(image)})

    def _frame(self, source: str, image: Image | CompressedImage) -> Frame:
        """Decode an image and join it with the camera_info that fits it."""
        compressed = isinstance(image, CompressedImage)
        decode, parameters = decode_compressed if compressed else decode_image, self._parameters()
        pixels = decode(image, parameters.limits_max_pixels)
        info, camera = self._calibration(pixels)
        return Frame(source, Origin(image.header, info), pixels, camera)

    def _calibration(self, pixels: np.ndarray) -> tuple[CameraInfo | None, Camera | None]:
        """Return the newest camera_info and its camera if they are of this image."""
        info, (height, width) = self._info, pixels.shape[:2]
        if info is None:
            self._logger.warning(
                'no camera_info has come: depth and labels flow, points wait for it', once=True
            )
            return None, None
        try:
            camera = decode_camera(info, width, height, self._matrix)
        except ValueError as error:
            self._statistics.fault('camera_info')
            self._logger.warning(
                f'no points: {error}; depth and labels flow', throttle_duration_sec=THROTTLE
            )
            return None, None
        if camera is None:
            self._logger.warning(
                f'the camera is not calibrated ({self._matrix}[0] = 0 in camera_info): depth and '
                'labels flow, points wait for it',
                once=True,
            )
        return info, camera


def _listeners(publisher: Any) -> int:
    return publisher.get_subscription_count()
