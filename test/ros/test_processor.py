"""The way of a frame without a node: batches, faults, and the memory of messages."""

from dataclasses import replace

import cv2
from dpt_ros.model.dpt import DPT
from dpt_ros.perception.pipeline import Perception
from dpt_ros.ros.outputs import OUTPUTS
from dpt_ros.ros.parameters import Parameters
from dpt_ros.ros.processor import Job, Outcome, Processor
from dpt_ros.zoo.store import load
from graph import image_of, info_of, picture
import numpy as np
import pytest
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
import torch

DEPTH = [output for output in OUTPUTS if output.topic.startswith('~/depth/')]


@pytest.fixture(scope='module')
def perception() -> Perception:
    tiny = load('dpt_tiny')
    return Perception(tiny, tiny, device=torch.device('cpu'), dtype=torch.float32)


@pytest.fixture
def processor(perception: Perception) -> Processor:
    return Processor(perception)


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count the passes through the network, with the images in each."""
    seen, forward = [], DPT.forward

    def counting(self: DPT, image: torch.Tensor, wanted: object = None) -> object:
        seen.append(len(image))
        return forward(self, image, wanted)

    monkeypatch.setattr(DPT, 'forward', counting)
    return seen


def job(
    source: str, seed: int = 0, size: tuple[int, int] = (64, 48), encoding: str = 'rgb8'
) -> Job:
    image = image_of(picture(size[1], size[0], seed), encoding)
    image.header.frame_id = source
    return Job(source, image, info_of(*size), 'K', DEPTH)


def run(processor: Processor, *jobs: Job, **parameters: object) -> dict[str, Outcome]:
    return {o.job.source: o for o in processor(jobs, Parameters(**parameters))}


def depth(outcome: Outcome) -> np.ndarray:
    image: Image = outcome.messages['~/depth/image']
    return np.frombuffer(image.data, np.float32).reshape(image.height, image.width)


def test_images_of_one_size_go_through_the_network_together(processor, passes):
    outcomes = run(processor, job('front', 1), job('rear', 2), job('left', 3, (32, 48)))
    assert sorted(passes) == [1, 2]
    shapes = {source: depth(outcome).shape for source, outcome in outcomes.items()}
    assert shapes == {'front': (48, 64), 'rear': (48, 64), 'left': (48, 32)}


def test_each_camera_of_a_batch_gets_what_it_would_get_alone(processor):
    together = run(processor, job('front', 1), job('rear', 2))
    for source, seed in (('front', 1), ('rear', 2)):
        assert together[source].messages['~/depth/image'].header.frame_id == source
        alone = run(processor, job(source, seed))[source]
        np.testing.assert_allclose(depth(together[source]), depth(alone), rtol=1e-4)
    assert not np.allclose(depth(together['front']), depth(together['rear']), rtol=1e-2)


def test_a_bad_image_of_a_batch_costs_only_itself(processor, passes):
    outcomes = run(processor, job('front'), job('rear', encoding='kodachrome'), job('left'))
    assert 'kodachrome' in str(outcomes['rear'].error)
    assert not outcomes['rear'].messages
    assert passes == [2]
    assert all(set(outcomes[s].messages) == {o.topic for o in DEPTH} for s in ('front', 'left'))


def test_a_batch_that_fails_is_tried_one_by_one(processor, perception, monkeypatch):
    upload = perception._upload

    def choosy(images: list[np.ndarray]) -> torch.Tensor:
        if any(not image.any() for image in images):
            raise RuntimeError('out of memory')
        return upload(images)

    monkeypatch.setattr(perception, '_upload', choosy)
    black = job('rear')
    black.image.data = image_of(np.zeros((48, 64, 3), np.uint8)).data
    outcomes = run(processor, job('front', 1), black, job('left', 2))
    assert {s: str(o.error) for s, o in outcomes.items() if o.error} == {'rear': 'out of memory'}
    assert all('~/depth/image' in outcomes[source].messages for source in ('front', 'left'))


def test_a_message_that_cannot_be_built_costs_its_frame_only(processor, monkeypatch):
    info = info_of(64, 48)
    wrong = Job('rear', job('rear').image, info, 'K', [*DEPTH, OUTPUTS[-1]])
    monkeypatch.setattr('dpt_ros.ros.outputs.encode_points', lambda *_: 1 / 0)
    outcomes = run(processor, job('front'), wrong)
    assert isinstance(outcomes['rear'].error, ZeroDivisionError)
    assert not outcomes['rear'].messages
    assert outcomes['front'].messages


def test_memory_that_was_given_back_is_filled_again(processor):
    (first,) = processor([job('front', 1)], Parameters())
    data, before = first.messages['~/depth/image'].data, depth(first).copy()
    (second,) = processor([job('front', 2)], Parameters())
    assert second.messages['~/depth/image'].data is not data  # the first is still in use
    np.testing.assert_array_equal(depth(first), before)
    processor.give_back(first)
    (third,) = processor([job('front', 2)], Parameters())
    assert third.messages['~/depth/image'].data is data
    np.testing.assert_array_equal(depth(third), depth(second))
    (fourth,) = processor([job('front', 1)], Parameters())
    assert fourth.messages['~/depth/image'].data is not data  # given back once, filled once


def test_memory_of_one_camera_is_not_filled_by_another(processor):
    front = run(processor, job('front', 1))['front']
    processor.give_back(front)
    before = depth(front).copy()
    run(processor, job('rear', 2))
    np.testing.assert_array_equal(depth(front), before)


@pytest.mark.parametrize(
    ('info', 'misfit', 'hint'),
    [
        (None, 'None', 'no camera_info has come'),
        (CameraInfo(width=64, height=48), 'None', 'the camera is not calibrated (K[0] = 0 in'),
        (info_of(640, 480), 'camera_info is of 640x480 pixels but the image of 64x48', ''),
    ],
)
def test_without_a_calibration_that_fits_depth_comes_and_says_so(processor, info, misfit, hint):
    (outcome,) = processor([Job('', job('').image, info, 'K', OUTPUTS)], Parameters())
    assert outcome.error is None and '~/depth/image' in outcome.messages
    assert '~/points' not in outcome.messages
    assert str(outcome.misfit).startswith(misfit)
    assert outcome.hint.startswith(hint)


def test_a_compressed_image_is_read_too(processor):
    png = cv2.imencode('.png', picture()[..., ::-1])[1]
    image = CompressedImage(format='png', data=png.tobytes())
    (outcome,) = processor([Job('', image, info_of(64, 48), 'K', DEPTH)], Parameters())
    np.testing.assert_array_equal(depth(outcome), depth(run(processor, job(''))['']))


def measured(metres: float, seconds: int, size: tuple[int, int] = (64, 48)) -> Image:
    """Measure one depth everywhere."""
    image = image_of(np.full((size[1], size[0]), metres, np.float32), '32FC1')
    image.header.stamp.sec = seconds
    return image


def test_measured_depth_goes_with_its_image_and_a_bad_one_is_told(processor):
    good, bad = measured(2.0, 0), measured(2.0, 0)
    bad.encoding = 'rgb8'
    given = replace(job('front'), references=[bad, good])
    outcome = run(processor, given, scale_mode='reference', scale_min_points=5)['front']
    assert 'rgb8' in str(outcome.stray)
    assert outcome.error is None
    assert outcome.scale.fit is not None or outcome.scale.lost


def test_without_a_scale_no_message_of_metres_goes_out_and_the_reason_is_told(processor):
    outcome = run(processor, job('rear'), scale_mode='reference')['rear']
    assert not outcome.messages
    assert outcome.scale.lost == 'no reference_depth has come'
