"""Publishing while the next images are computed, as with a GPU: order, bounds, memory, the end."""

from collections.abc import Iterator
from queue import Empty, SimpleQueue
from threading import Event
from typing import Any

from dpt_ros.model.dpt import DPT
from dpt_ros.perception.pipeline import Perception
from dpt_ros.ros.diagnostics import Statistics
from dpt_ros.ros.outputs import OUTPUTS
from dpt_ros.ros.parameters import Parameters
from dpt_ros.ros.worker import Camera, Worker
from dpt_ros.zoo.store import load
from graph import image_of, picture
import pytest
from sensor_msgs.msg import Image
import torch

PATIENCE = 20.0  # seconds, for what takes milliseconds
NEVER = 0.3  # seconds in which what must not happen would happen
DEPTH = next(output for output in OUTPUTS if output.topic == '~/depth/image')


class Publisher:
    """Takes messages as slowly as it is told to."""

    def __init__(self) -> None:
        self.begun: SimpleQueue[Image] = SimpleQueue()  # messages that it is given
        self.goes_on = Event()
        self.goes_on.set()
        self.error: Exception | None = None

    def get_subscription_count(self) -> int:
        return 1

    def publish(self, message: Image) -> None:
        self.begun.put(message)
        assert self.goes_on.wait(PATIENCE)
        if self.error is not None:
            error, self.error = self.error, None
            raise error


class Logger:
    """Keeps what was logged."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def error(self, line: str, **_: Any) -> None:
        self.lines.append(line)

    warning = info = error


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> SimpleQueue:
    """Tell of each pass through the network."""
    done, forward = SimpleQueue(), DPT.forward

    def telling(self: DPT, *arguments: object) -> object:
        result = forward(self, *arguments)
        done.put(len(arguments[0]))
        return result

    monkeypatch.setattr(DPT, 'forward', telling)
    return done


@pytest.fixture
def publisher() -> Publisher:
    return Publisher()


@pytest.fixture
def logger() -> Logger:
    return Logger()


@pytest.fixture
def worker(publisher: Publisher, logger: Logger) -> Iterator[Worker]:
    tiny, cpu = load('dpt_tiny'), torch.device('cpu')
    made = Worker(
        Perception(tiny, None, device=cpu, dtype=torch.float32, network_side=64),
        {'': Camera('K', {DEPTH.topic: (DEPTH, publisher)})},
        Statistics(),
        parameters=Parameters,
        age=lambda _: 0.0,
        alive=lambda: True,
        overlapped=True,
        logger=logger,
    )
    made.start()
    yield made
    publisher.goes_on.set()
    assert made.stop(PATIENCE)


def image(number: int) -> Image:
    made = image_of(picture(48, 64, number), 'rgb8')
    made.header.frame_id = str(number)
    return made


def given(publisher: Publisher) -> str:
    return publisher.begun.get(timeout=PATIENCE).header.frame_id


def test_the_next_image_is_computed_while_one_is_published_and_no_more(
    worker, publisher, computed
):
    publisher.goes_on.clear()
    worker.put_image('', image(1))
    assert given(publisher) == '1'
    assert computed.get(timeout=PATIENCE) == 1
    worker.put_image('', image(2))
    assert computed.get(timeout=PATIENCE) == 1  # while 1 is still going out
    worker.put_image('', image(3))
    worker.put_image('', image(4))
    with pytest.raises(Empty):
        computed.get(timeout=NEVER)  # else images would queue up
    assert publisher.begun.empty()
    publisher.goes_on.set()
    assert [given(publisher), given(publisher)] == ['2', '4']
    assert worker.counts['']['frames dropped'] == 1


def test_a_message_is_not_filled_again_while_it_goes_out(worker, publisher, computed):
    publisher.goes_on.clear()
    worker.put_image('', image(1))
    message = publisher.begun.get(timeout=PATIENCE)
    before = bytes(message.data)
    computed.get(timeout=PATIENCE)
    worker.put_image('', image(2))
    computed.get(timeout=PATIENCE)
    with pytest.raises(Empty):
        computed.get(timeout=NEVER)
    assert bytes(message.data) == before
    publisher.goes_on.set()
    other = publisher.begun.get(timeout=PATIENCE)
    assert bytes(other.data) != before
    worker.put_image('', image(3))
    third = publisher.begun.get(timeout=PATIENCE)
    worker.put_image('', image(4))
    fourth = publisher.begun.get(timeout=PATIENCE)
    assert {id(third), id(fourth)} <= {id(message), id(other)}  # but it is afterwards


def test_a_frame_that_cannot_be_published_costs_only_itself(worker, publisher, logger):
    publisher.error = RuntimeError('the middleware is ill')
    worker.put_image('', image(1))
    assert given(publisher) == '1'
    worker.put_image('', image(2))
    assert given(publisher) == '2'
    assert any('the middleware is ill' in line for line in logger.lines)


def test_the_end_waits_for_what_goes_out_and_nothing_follows(worker, publisher, computed):
    publisher.goes_on.clear()
    worker.put_image('', image(1))
    assert given(publisher) == '1'
    computed.get(timeout=PATIENCE)
    worker.put_image('', image(2))
    computed.get(timeout=PATIENCE)
    assert not worker.stop()  # it hangs, as far as one can tell
    publisher.goes_on.set()
    assert worker.stop(PATIENCE)
    assert publisher.begun.empty()
