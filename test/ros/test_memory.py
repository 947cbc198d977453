"""Frame after frame takes the same memory, and an image is copied no more than it must be."""

from collections.abc import Iterator
from contextlib import contextmanager
import gc
import tracemalloc

from dpt_ros.bench.frames import camera_info, picture
from dpt_ros.perception.pipeline import Perception
from dpt_ros.perception.runtime import memory_in_use
from dpt_ros.ros import messages
from dpt_ros.ros.messages import encode_image
from dpt_ros.ros.outputs import OUTPUTS
from dpt_ros.ros.parameters import Parameters
from dpt_ros.ros.processor import Job, Outcome, Processor
from dpt_ros.zoo.store import load
import numpy as np
import pytest
from sensor_msgs.msg import Image, PointCloud2
from std_msgs.msg import Header
import torch
from torch.utils._python_dispatch import TorchDispatchMode

WIDTH, HEIGHT, FRAMES = 64, 48, 1000
IMAGE = encode_image(Header(), picture(WIDTH, HEIGHT), 'rgb8')
INFO = camera_info(WIDTH, HEIGHT)
CPU = torch.device('cpu')
COPIES = ('clone', 'copy_', '_to_copy', 'cat', 'stack')


class Copies(TorchDispatchMode):
    """Counts what moves as many bytes as the image has and computes nothing."""

    def __init__(self):
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        result = function(*arguments, **(options or {}))
        name = function.overloadpacket.__name__
        if name in COPIES and isinstance(result, torch.Tensor) and {*result.shape} >= SIZE:
            source = arguments[1] if name == 'copy_' else arguments[0]
            same = not isinstance(source, torch.Tensor) or source.dtype == result.dtype
            if same and result.nbytes >= len(IMAGE.data):
                self.found.append(f'{name} {tuple(result.shape)}')
        return result


SIZE = {WIDTH, HEIGHT}


@pytest.fixture(scope='module')
def way() -> Iterator['Way']:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # there is too little to do for two
    yield Way()
    torch.set_num_threads(threads)


class Way:
    """The way of a frame as the node goes it, all outputs heard; the network is fed little."""

    def __init__(self):
        tiny = load('dpt_tiny')
        perception = Perception(tiny, tiny, device=CPU, dtype=torch.float32, network_side=32)
        self.processor = Processor(perception)
        self.outputs = [o for o in OUTPUTS if o.needs <= perception.products]

    def __call__(self) -> Outcome:
        job = Job('', IMAGE, INFO, 'K', self.outputs)
        (outcome,) = self.processor([job], Parameters(points_labels=True))
        if outcome.error is not None:
            raise outcome.error
        self.processor.give_back(outcome)
        return outcome


@contextmanager
def traced() -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
    finally:
        tracemalloc.stop()


def test_a_thousand_frames_leave_no_memory_behind(way: Way):
    for _ in range(20):
        way()
    with traced():
        way()
        gc.collect()
        before, resident = tracemalloc.get_traced_memory()[0], memory_in_use(CPU)
        for _ in range(FRAMES):
            way()
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - before
    assert grown < 256 * 1024  # Python's own caches; one leaked map of labels a frame is 3 MB
    assert memory_in_use(CPU) - resident < 8e6  # PyTorch's own, which tracemalloc does not see


def test_messages_are_filled_again_where_they_are(way: Way):
    first = {t: m.data.buffer_info() for t, m in way().messages.items() if hasattr(m, 'data')}
    again = {t: m.data.buffer_info() for t, m in way().messages.items() if hasattr(m, 'data')}
    assert len(first) == 7 and first == again


def test_what_is_computed_is_computed_in_its_message(way: Way, monkeypatch: pytest.MonkeyPatch):
    way()
    copied, fill = [], messages._fill

    def note(message: Image | PointCloud2, values: np.ndarray) -> None:
        if values.ctypes.data != message.data.buffer_info()[0]:
            copied.append(message.encoding)
        fill(message, values)

    monkeypatch.setattr(messages, '_fill', note)
    way()
    assert not copied


def test_an_rgb8_image_goes_out_as_it_came_and_is_not_filled_again(way: Way):
    before = bytes(IMAGE.data)
    for _ in range(3):
        assert way().messages['~/color/image'] is IMAGE
    assert bytes(IMAGE.data) == before
    assert not way.processor._spare['', '~/color/image']


@pytest.mark.parametrize('change', ['bgr8', 'gaps', 'half'])
def test_an_image_that_is_not_its_own_color_is_encoded(way: Way, change: str):
    rgb, chosen = picture(WIDTH, HEIGHT), {'output_decimation': 2 if change == 'half' else 1}
    image = encode_image(Header(), rgb, 'rgb8')
    if change == 'bgr8':
        image = encode_image(Header(), np.ascontiguousarray(rgb[..., ::-1]), 'bgr8')
    if change == 'gaps':
        image = encode_image(Header(), np.pad(rgb, ((0, 0), (0, 1), (0, 0))), 'rgb8')
        image.width -= 1
    job = Job('', image, INFO, 'K', [o for o in way.outputs if o.topic == '~/color/image'])
    (outcome,) = way.processor([job], Parameters(**chosen))
    made = outcome.messages['~/color/image']
    assert made is not image and made.encoding == 'rgb8'
    if change == 'half':
        assert (made.width, made.height) == (WIDTH // 2, HEIGHT // 2)
    else:
        assert bytes(made.data) == rgb.tobytes()


def test_no_map_is_copied_on_its_way_from_the_image_to_its_message(
    way: Way, monkeypatch: pytest.MonkeyPatch
):
    way()
    filled, fill = [], messages._fill

    def note(data: object, values: np.ndarray) -> None:
        filled.append(values.nbytes)
        fill(data, values)

    monkeypatch.setattr(messages, '_fill', note)
    with Copies() as copies:
        outcome = way()
    assert copies.found == []
    made = [m for m in outcome.messages.values() if m is not IMAGE]
    written = [len(m.data) for m in made if hasattr(m, 'data')]
    assert sorted(filled) == sorted(written)  # down: once each


def test_an_rgb8_image_goes_up_as_it_lies_in_its_message(way: Way):
    seen, upload = [], way.processor._perception._upload
    way.processor._perception._upload = lambda images: seen.append(images[0]) or upload(images)
    try:
        way()
    finally:
        del way.processor._perception._upload
    assert np.shares_memory(seen[0], np.frombuffer(IMAGE.data, np.uint8))
    assert upload(seen).data_ptr() == IMAGE.data.buffer_info()[0]


def test_the_count_of_copies_sees_one():
    with Copies() as copies:
        torch.zeros(HEIGHT, WIDTH, 3, dtype=torch.uint8).clone()
        torch.zeros(HEIGHT, WIDTH, 3, dtype=torch.uint8).float()  # converts, which is work
    assert len(copies.found) == 1
