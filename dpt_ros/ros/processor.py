"""
The way of a frame: messages in, messages out, for as many cameras as have one.

What the node publishes is made here and nowhere else, and here are neither threads nor
publishers: the node, the benchmark and whoever reads a recording call the same `Processor`.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import cv2
from dpt_ros.perception.compiled import Log
from dpt_ros.perception.pipeline import Frame, Perception, Result
from dpt_ros.perception.runtime import choose_device, choose_precision, free_memory, open_runtime
from dpt_ros.perception.scale.ground import Vector
from dpt_ros.perception.scale.scaler import Reference
from dpt_ros.perception.scale.tracker import Scale
from dpt_ros.ros.messages import (
    decode_camera,
    decode_compressed,
    decode_depth,
    decode_image,
    decode_info,
    is_rgb8,
    rectified,
    seconds_of,
)
from dpt_ros.ros.outputs import Origin, Output
from dpt_ros.ros.parameters import options, Parameters
from dpt_ros.zoo.store import load
import numpy as np
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
import torch


@dataclass(frozen=True)
class Job:
    """One image: what came with it, and what is wanted of it."""

    source: str  # name of the camera
    image: Image | CompressedImage
    info: CameraInfo | None  # the newest of that camera; None: none has come
    matrix: str  # 'K' or 'P', what the image obeys
    outputs: Sequence[Output]
    references: Sequence[Image] = ()  # measured depth of that camera, new since its last job
    down: Vector | None = None  # as its IMU has it


@dataclass
class Outcome:
    """What became of a job."""

    job: Job
    messages: dict[str, Any] = field(default_factory=dict)  # by topic, without what it lacks
    spare: dict[str, Any] = field(default_factory=dict)  # by topic, messages to be filled again
    # Spent in each stage. From upload to download it is the time of all that went together.
    seconds: dict[str, float] = field(default_factory=dict)
    error: Exception | None = None  # why there are no messages
    misfit: ValueError | None = None  # why its camera_info is not used, and there are no points
    hint: str = ''  # why there are no points, where nothing is wrong
    stray: ValueError | None = None  # why measured depth is not used
    scale: Scale | None = None  # of its metres; None: nobody asked for them


class Processor:
    """Perception between messages; it has the memory of those that were given back."""

    def __init__(self, perception: Perception):
        """Run these networks."""
        self._perception = perception
        # (camera, topic) -> messages to fill again
        self._spare: dict[tuple[str, str], list[Any]] = defaultdict(list)

    def __call__(self, jobs: Sequence[Job], parameters: Parameters) -> Iterator[Outcome]:
        """
        Make of each image the messages wanted of it.

        Images of one size of which the same is wanted go through the networks together. One that
        fails costs only itself.

        :return: one outcome for each job, as soon as it is there, so in no order.
        """
        groups = defaultdict(list)
        for job in jobs:
            outcome = Outcome(job, spare=self._take_spare(job))
            try:
                frame, wanted = _decode(outcome, parameters)
            except Exception as error:
                outcome.error = error
                yield outcome
            else:
                groups[frame.pixels.shape, wanted].append((frame, outcome))
        for (_, wanted), group in groups.items():
            yield from self._run(group, wanted, parameters)

    def give_back(self, outcome: Outcome) -> None:
        """
        Let messages that nobody needs any more be filled again, which spares their memory.

        Another thread may do so than the one that runs frames.
        """
        for topic, message in outcome.messages.items():
            if message is not outcome.job.image:
                self._spare[outcome.job.source, topic].append(message)

    def _take_spare(self, job: Job) -> dict[str, Any]:
        """Take a message that was given back for each output, by its topic, if there is one."""
        given_back = {
            output.topic: self._spare[job.source, output.topic] for output in job.outputs
        }
        return {topic: messages.pop() for topic, messages in given_back.items() if messages}

    def _run(
        self, group: list[tuple[Frame, Outcome]], wanted: frozenset[str], parameters: Parameters
    ) -> Iterator[Outcome]:
        """Compute what is wanted of images of one size: together or, if that fails, one by one."""
        results = None
        try:
            frames = [frame for frame, _ in group]
            results = self._perception(frames, wanted, options(parameters))
        except Exception as error:
            if len(group) == 1:
                group[0][1].error = error
                yield group[0][1]
                return
        if results is None:  # told apart here, where the memory of the failure is free again
            free_memory()
            for one in group:
                yield from self._run([one], wanted, parameters)
            return
        for (_, outcome), result in zip(group, results, strict=True):
            outcome.seconds |= result.seconds
            outcome.scale = result.scale
            try:
                self._encode(outcome, result, parameters)
            except Exception as error:
                outcome.messages, outcome.error = {}, error
            yield outcome

    def _encode(self, outcome: Outcome, result: Result, parameters: Parameters) -> None:
        """Put a result into messages."""
        started = perf_counter()
        for output in outcome.job.outputs:
            message = output.build(result, parameters, outcome.spare.pop(output.topic, None))
            if message is not None:
                outcome.messages[output.topic] = message
        outcome.seconds['encode'] = perf_counter() - started


def _decode(outcome: Outcome, parameters: Parameters) -> tuple[Frame, frozenset[str]]:
    """
    Read the image of a job and join it with the camera_info that fits it, and spare memory.

    :return: beside that the products that its outputs need.
    """
    started, job, max_pixels = perf_counter(), outcome.job, parameters.limits_max_pixels
    if isinstance(job.image, CompressedImage):
        pixels = decode_compressed(job.image, max_pixels)
    else:
        pixels = decode_image(job.image, max_pixels)
    height, width = pixels.shape[:2]
    calibration, camera = None, None
    if job.info is None:
        outcome.hint = 'no camera_info has come'
    else:
        try:
            calibration = decode_info(job.info)
            if job.matrix == 'P':
                calibration = rectified(calibration)
            camera = decode_camera(calibration, width, height, job.matrix)
        except ValueError as error:
            outcome.misfit, calibration = error, None
        else:
            if camera is None:
                outcome.hint = f'the camera is not calibrated ({job.matrix}[0] = 0 in camera_info)'
    references = []
    for message in job.references:
        try:
            depth = decode_depth(message, max_pixels)
        except ValueError as error:
            outcome.stray = error
        else:
            if message.encoding != '32FC1':
                depth[depth > 65.534] = np.nan  # 65535 mm: no reading, to many sensors
            references.append(Reference(seconds_of(message.header), depth))
    spare = {
        product: np.frombuffer(outcome.spare[output.topic].data, np.uint8)
        for output in job.outputs
        if output.topic in outcome.spare
        for product in output.reads
    }
    wanted = frozenset[str]().union(*(output.reads for output in job.outputs))
    origin, seconds = Origin(job.image.header, calibration), seconds_of(job.image.header)
    if parameters.output_decimation == 1 and is_rgb8(job.image):
        origin.color, wanted = job.image, wanted - {'color'}
    outcome.seconds['decode'] = perf_counter() - started
    frame = Frame(job.source, origin, pixels, camera, seconds, references, job.down, spare)
    return frame, wanted


def open_perception(chosen: Parameters, log: Log | None = None) -> Perception:
    """
    Load the networks that the parameters name.

    :param log: told of what is compiled; None: that of Python.
    :raises ValueError: for what cannot be, alone or together.
    :raises OSError: for weights that are missing or cannot be read.
    """
    torch.set_num_threads(chosen.cpu_threads)
    cv2.setNumThreads(chosen.cpu_threads)
    device = choose_device(chosen.device)
    runtime = open_runtime(chosen.runtime, device, log, chosen.cpu_threads)
    names = sorted({chosen.depth_model, chosen.segmentation_model} - {''})
    trained = {name: load(name, chosen.weights_dir) for name in names}
    return Perception(
        trained.get(chosen.depth_model),
        trained.get(chosen.segmentation_model),
        device=device,
        dtype=choose_precision(chosen.precision, device),
        network_side=chosen.network_side,
        runtime=runtime,
    )


def choose_matrix(image_topic: str, use: str) -> str:
    """Choose K or P of camera_info: 'auto' takes P for a topic that is called rectified."""
    if use != 'auto':
        return use
    return 'P' if 'rect' in image_topic.removesuffix('/compressed').split('/')[-1] else 'K'
