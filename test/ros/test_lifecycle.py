"""Lifecycle under stress: two clients at once, hundreds of rounds, frames in flight."""

import gc
import os
import threading

from graph import image_of, info_of, picture
from lifecycle_msgs.msg import State, Transition, TransitionEvent
from lifecycle_msgs.srv import ChangeState
import numpy as np
import psutil
import pytest
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image

pytestmark = pytest.mark.graph

CONFIGURE, CLEANUP = Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_CLEANUP
ACTIVATE, DEACTIVATE = Transition.TRANSITION_ACTIVATE, Transition.TRANSITION_DEACTIVATE
# https://design.ros2.org/articles/node_lifecycle.html: how each transition ends if all goes well.
LEGAL = {
    (State.PRIMARY_STATE_UNCONFIGURED, CONFIGURE): State.PRIMARY_STATE_INACTIVE,
    (State.PRIMARY_STATE_INACTIVE, CLEANUP): State.PRIMARY_STATE_UNCONFIGURED,
    (State.PRIMARY_STATE_INACTIVE, ACTIVATE): State.PRIMARY_STATE_ACTIVE,
    (State.PRIMARY_STATE_ACTIVE, DEACTIVATE): State.PRIMARY_STATE_INACTIVE,
}
SHUTDOWN = {
    Transition.TRANSITION_UNCONFIGURED_SHUTDOWN: [],
    Transition.TRANSITION_INACTIVE_SHUTDOWN: [CONFIGURE],
    Transition.TRANSITION_ACTIVE_SHUTDOWN: [CONFIGURE, ACTIVATE],
}

SETTLING = 10  # rounds until all that is made once is made
ROUNDS = int(os.environ.get('DPT_ROS_ROUNDS', '30'))  # `make soak` lives 500


def entities(node):
    gc.collect()
    lists = (node.publishers, node.subscriptions, node.services, node.timers, node.clients)
    counts = [len(list(entities)) for entities in lists]
    return [*counts, len(node._managed_entities), threading.active_count()]


def test_two_clients_that_ask_for_anything_at_once_leave_a_node_that_works(graph):
    random = np.random.default_rng(0)
    node = graph.start_node(autostart=False)
    before = entities(node)
    qos = QoSProfile(depth=1000)
    events = graph.listen('dpt/transition_event', TransitionEvent, qos)
    depths = graph.listen('dpt/depth/image', Image)
    camera, image, info = graph.camera(), image_of(picture()), info_of(64, 48)
    changers = [graph.client.create_client(ChangeState, 'dpt/change_state') for _ in range(2)]
    graph.until(lambda: all(c.service_is_ready() for c in changers), 'the services')
    graph.until(lambda: graph.client.count_publishers('dpt/transition_event'), 'the events')
    answers = []
    for _ in range(40):
        asked = random.choice([CONFIGURE, CLEANUP, ACTIVATE, DEACTIVATE, 0, 99], 2)
        requests = [ChangeState.Request(transition=Transition(id=int(id_))) for id_ in asked]
        futures = [c.call_async(r) for c, r in zip(changers, requests, strict=True)]
        camera[1].publish(info)
        camera[0].publish(image)
        graph.until(lambda futures=futures: all(f.done() for f in futures), 'the answers')
        answers += [(int(i), f.result().success) for i, f in zip(asked, futures, strict=True)]
    # Who was first of two is not known, but one of the orders must explain both answers.
    where = {State.PRIMARY_STATE_UNCONFIGURED}
    for one, other in zip(answers[::2], answers[1::2], strict=True):
        where = {
            end
            for begin in where
            for pair in ((one, other), (other, one))
            for end in walked(begin, pair)
        }
        assert where, f'{one} and {other} have no explanation'
    assert graph.state() in where
    assert len(events) >= 2 * sum(success for _, success in answers)
    for transition in (DEACTIVATE, CLEANUP):
        graph.change(transition)
    assert entities(node) == before
    assert graph.change(CONFIGURE) and graph.change(ACTIVATE)
    depths.clear()
    graph.shoot(camera, image, info, lambda: depths)


def walked(state, steps):
    """Yield where steps lead whose answers (transition, success) are as the design says."""
    for transition, success in steps:
        end = LEGAL.get((state, transition))
        if success != (end is not None):
            return
        state = end if success else state
    yield state


@pytest.mark.parametrize(('shutdown', 'way'), SHUTDOWN.items(), ids=lambda v: str(v))
def test_it_shuts_down_from_every_state(graph, shutdown, way):
    node = graph.start_node(autostart=False)
    before = entities(node)
    assert all(graph.change(transition) for transition in way)
    assert graph.change(shutdown)
    assert graph.state() == State.PRIMARY_STATE_FINALIZED
    assert entities(node) == before
    assert not graph.change(CONFIGURE)


def test_a_frame_in_flight_is_finished_before_the_node_is_inactive(graph):
    node = graph.start_node()
    depths = graph.listen('dpt/depth/image', Image)
    camera, image, info = graph.camera(), image_of(picture()), info_of(64, 48)
    graph.shoot(camera, image, info, lambda: depths)
    perception, begun, may_end = (
        node._worker._processor._perception,
        threading.Event(),
        threading.Event(),
    )

    def slow(*arguments):
        begun.set()
        may_end.wait()
        return perception(*arguments)

    node._worker._processor._perception = slow
    try:
        graph.shoot(camera, image, info, begun.is_set)
        depths.clear()
        client = graph.client.create_client(ChangeState, 'dpt/change_state')
        graph.until(client.service_is_ready)
        request = ChangeState.Request(transition=Transition(id=DEACTIVATE))
        future = client.call_async(request)
        worker = node._worker
        graph.until(lambda: not worker._mailbox._open, 'deactivation')
        assert not future.done()
    finally:
        may_end.set()
    graph.until(future.done, 'the answer')
    assert future.result().success
    graph.until(lambda: depths, 'the depth of the frame in flight')
    assert graph.state() == State.PRIMARY_STATE_INACTIVE
    assert node._statistics._counts.get('faults: internal', 0) == 0


def test_rounds_of_life_cost_neither_memory_nor_files_nor_threads(graph, monkeypatch):
    node = graph.start_node(autostart=False)
    perception = node._load(node._chosen)  # once: loading is not the point, and takes long
    monkeypatch.setattr(node, '_load', lambda _: perception)
    client = graph.client.create_client(ChangeState, 'dpt/change_state')
    graph.until(client.service_is_ready, 'the service')
    process = psutil.Process()

    def live(rounds):
        for transition in rounds * [CONFIGURE, ACTIVATE, DEACTIVATE, CLEANUP]:
            request = ChangeState.Request(transition=Transition(id=transition))
            future = client.call_async(request)
            graph.until(future.done, 'the answer')
            assert future.result().success
        return process.memory_info().rss / 1e6, (process.num_fds(), entities(node))

    memory, before = live(SETTLING)
    memory_then, after = live(ROUNDS)
    assert after == before
    assert memory_then < memory + 0.1 * ROUNDS  # MB; a network that stays is 20 a round
