"""Lifecycle under stress: two clients at once, hundreds of rounds, frames in flight."""

import gc
from itertools import permutations
import os
import threading

from graph import image_of, info_of, picture
from lifecycle_msgs.msg import State, Transition, TransitionEvent
from lifecycle_msgs.srv import ChangeState
import numpy as np
import psutil
import pytest
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image
from std_srvs.srv import SetBool

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


class Client:
    """One of those who ask the node for something."""

    def __init__(self, graph):
        kinds = {'change_state': ChangeState, 'set_parameters': SetParameters, 'enable': SetBool}
        self._graph = graph
        self._clients = {n: graph.client.create_client(k, f'dpt/{n}') for n, k in kinds.items()}

    def find(self, configured):
        """Wait until it sees the services that there are: ~/enable only while configured."""
        for name, client in self._clients.items():
            there = configured or name != 'enable'
            self._graph.until(lambda c=client, t=there: c.service_is_ready() == t, name)

    def ask(self, wish, value):
        """Ask for a wish of `WISHES`; return what tells the answer, None while there is none."""
        if wish == 'transition':
            future = self._call('change_state', Transition(id=value))
            return lambda: future.result().success if future.done() else None
        if wish == 'enable':
            client = self._clients['enable']
            if not client.service_is_ready():
                return lambda: False
            future = client.call_async(SetBool.Request(data=value))
            # One that went away may have gone with the question.
            return lambda: future.done() or (None if client.service_is_ready() else False)
        name = 'network.side' if wish == 'late' else 'depth.color_max'
        future = self._call('set_parameters', [Parameter(name, value=value).to_parameter_msg()])
        return lambda: future.result().results[0].successful if future.done() else None

    def _call(self, name, content):
        """Call a service whose request has one field."""
        client = self._clients[name]
        (field,) = client.srv_type.Request.get_fields_and_field_types()
        return client.call_async(client.srv_type.Request(**{field: content}))


WISHES = {  # what may be asked for: how often, and the values
    'transition': (6, [*2 * (CONFIGURE, CLEANUP, ACTIVATE, DEACTIVATE), 0, 99]),
    'enable': (2, [True, False]),
    'live': (2, [2.0, 3.0]),
    'wrong': (1, [-1.0, 'far']),
    'late': (2, range(64, 224)),  # read at configure; of so many that it is another each time
}


def follow(state, wish, value, answer):
    """Return the state after an answer, or None if it cannot be the answer in this state."""
    if wish == 'transition':
        end = LEGAL.get((state, value))
        return (end or state) if answer == (end is not None) else None
    unconfigured = state == State.PRIMARY_STATE_UNCONFIGURED
    right = {'enable': not unconfigured, 'live': True, 'wrong': False, 'late': unconfigured}
    return state if answer == right[wish] else None


def test_two_clients_that_ask_for_anything_at_once_leave_a_node_that_works(graph):
    random = np.random.default_rng(0)
    node = graph.start_node(autostart=False)
    before = entities(node)
    events = graph.listen('dpt/transition_event', TransitionEvent, QoSProfile(depth=1000))
    depths = graph.listen('dpt/depth/image', Image)
    camera, image, info = graph.camera(), image_of(picture()), info_of(64, 48)
    clients = [Client(graph), Client(graph)]
    graph.until(lambda: graph.client.count_publishers('dpt/transition_event'), 'the events')
    state, changes = State.PRIMARY_STATE_UNCONFIGURED, 0
    shares = np.array([share for share, _ in WISHES.values()])
    for _ in range(200):
        wishes = []
        for wish in random.choice(list(WISHES), 2, p=shares / shares.sum()).tolist():
            values = WISHES[wish][1]
            wishes.append((wish, values[random.integers(len(values))]))
        for client in clients:
            client.find(state != State.PRIMARY_STATE_UNCONFIGURED)
        asked = [c.ask(*wish) for c, wish in zip(clients, wishes, strict=True)]
        camera[1].publish(info)
        camera[0].publish(image)
        graph.until(lambda asked=asked: all(a() is not None for a in asked), f'{wishes}')
        answers = [(*wish, a()) for wish, a in zip(wishes, asked, strict=True)]
        # Who was first of two is not known, but one of the orders must explain both answers.
        ends = {walk(state, order) for order in permutations(answers)} - {None}
        state = graph.state()
        assert state in ends, f'{answers} have no explanation'
        changes += sum(answer for wish, _, answer in answers if wish == 'transition')
    assert changes > 20
    assert len(events) >= 2 * changes
    for transition in (DEACTIVATE, CLEANUP):
        graph.change(transition)
    assert entities(node) == before
    graph.set_parameters(network__side=0)
    assert graph.change(CONFIGURE) and graph.change(ACTIVATE)
    assert graph.call(SetBool, 'dpt/enable', SetBool.Request(data=True)).success
    depths.clear()
    graph.shoot(camera, image, info, lambda: depths)


def walk(state, answers):
    """Follow answers in their order; None if one of them cannot be."""
    for answer in answers:
        if state is not None:
            state = follow(state, *answer)
    return state


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
