"""The life of the node: transitions, services, parameters, and the end of the process."""

import gc
from pathlib import Path
import subprocess
import sys
import threading
import weakref

from dpt_ros.zoo.labels import load_labels
from graph import image_of, info_of, picture
from lifecycle_msgs.msg import State, Transition
import pytest
from rcl_interfaces.srv import GetParameters
from sensor_msgs.msg import Image
from std_srvs.srv import SetBool

pytestmark = pytest.mark.graph


def test_the_node_walks_to_active_by_itself(graph):
    graph.start_node()
    assert graph.state() == State.PRIMARY_STATE_ACTIVE


def test_without_autostart_it_waits_for_a_manager(graph):
    graph.start_node(autostart=False)
    assert graph.state() == State.PRIMARY_STATE_UNCONFIGURED
    assert graph.change(Transition.TRANSITION_CONFIGURE)
    assert graph.state() == State.PRIMARY_STATE_INACTIVE


def test_a_parameter_tells_the_names_of_the_classes_while_configured(graph):
    given = {'segmentation.class_names': ['mine']}
    node = graph.start_node(autostart=False, **given)
    assert not node.has_parameter('segmentation.class_names')
    assert graph.change(Transition.TRANSITION_CONFIGURE)
    request = GetParameters.Request(names=['segmentation.class_names'])
    (told,) = graph.call(GetParameters, 'dpt/get_parameters', request).values
    assert told.string_array_value == list(load_labels('worlds_10').names)
    (refused,) = graph.set_parameters(segmentation__class_names=['mine'])
    assert not refused.successful
    assert 'segmentation.model' in refused.reason
    assert graph.change(Transition.TRANSITION_CLEANUP)
    assert not node.has_parameter('segmentation.class_names')


def test_a_graph_without_a_gpu_is_refused_with_what_to_do_and_the_node_lives(graph, capfd):
    graph.start_node(autostart=False, device='cpu', runtime='graph')
    assert not graph.change(Transition.TRANSITION_CONFIGURE)
    said = capfd.readouterr().err
    assert "cannot configure: runtime 'graph' needs a GPU" in said
    assert 'set runtime to eager' in said
    assert 'Traceback' not in said
    (taken,) = graph.set_parameters(runtime='eager')
    assert taken.successful
    assert graph.change(Transition.TRANSITION_CONFIGURE)
    (late,) = graph.set_parameters(runtime='auto')
    assert 'read when the node is configured' in late.reason


def test_two_rounds_of_life_leave_nothing_behind(graph):
    node = graph.start_node(autostart=False)
    depths = graph.listen('dpt/depth/image', Image)
    camera, image, info = graph.camera(), image_of(picture()), info_of(64, 48)
    before = None
    for _ in range(2):
        assert graph.change(Transition.TRANSITION_CONFIGURE)
        network = weakref.ref(node._perception._networks)
        assert graph.change(Transition.TRANSITION_ACTIVATE)
        depths.clear()
        graph.shoot(camera, image, info, lambda: depths)
        assert graph.change(Transition.TRANSITION_DEACTIVATE)
        assert network() is not None
        assert graph.change(Transition.TRANSITION_CLEANUP)
        gc.collect()
        assert network() is None
        entities = (
            len(list(node.publishers)),
            len(list(node.subscriptions)),
            len(list(node.services)),
            len(list(node.timers)),
            len(node._managed_entities),
            threading.active_count(),
        )
        assert before in (None, entities)
        before = entities


def test_disabled_it_publishes_nothing_and_resumes(graph):
    graph.start_node()
    depths = graph.listen('dpt/depth/image', Image)
    camera, image, info = graph.camera(), image_of(picture()), info_of(64, 48)
    graph.shoot(camera, image, info, lambda: depths)
    answer = graph.call(SetBool, 'dpt/enable', SetBool.Request(data=False))
    assert answer.success
    depths.clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('graph.PATIENCE', 1.0)
        with pytest.raises(TimeoutError):
            graph.shoot(camera, image, info, lambda: len(depths) > 1)  # one may be in flight
    assert graph.call(SetBool, 'dpt/enable', SetBool.Request(data=True)).success
    depths.clear()
    graph.shoot(camera, image, info, lambda: depths)


def test_what_is_read_at_configure_cannot_change_while_it_runs(graph):
    graph.start_node()
    (result,) = graph.set_parameters(depth__model='')
    assert not result.successful
    assert 'deactivate and cleanup' in result.reason


def test_a_live_parameter_out_of_range_is_refused(graph):
    graph.start_node()
    (result,) = graph.set_parameters(output__decimation=0)
    assert not result.successful
    assert 'output.decimation' in result.reason


@pytest.mark.parametrize(
    ('parameters', 'words'),
    [
        ({'depth__model': 'dpt_huge'}, "no model is called 'dpt_huge'"),
        ({'depth__model': 'dpt_hybrid_nyu'}, 'are not at'),
        (
            {'depth__max': '20'},
            "depth.max must be a number between 0.1 and 100000, got '20' (text)",
        ),
        ({'output__decimation': 99}, 'output.decimation must be between 1 and 16, got 99'),
        ({'depth__encoding': 'mono8'}, 'depth.encoding must be one of 32FC1, 16UC1'),
        ({'cameras': ['2nd']}, "cameras names '2nd', which no topic can begin with"),
        ({'cameras': 'front'}, "cameras must be a list of texts, got 'front'"),
        ({'device': 'abacus'}, "device must be 'auto', 'cpu'"),
        ({'depth__model': '', 'segmentation__model': ''}, 'nothing to do'),
    ],
    ids=lambda value: '-'.join(value) if isinstance(value, dict) else '',
)
def test_what_the_user_can_mend_is_one_line_and_the_node_lives(
    graph, tmp_path, capfd, parameters, words
):
    graph.start_node(weights_dir=str(tmp_path), **parameters)
    assert graph.state() == State.PRIMARY_STATE_UNCONFIGURED
    lines = [line for line in capfd.readouterr().err.splitlines() if '[ERROR]' in line]
    assert len(lines) == 1
    assert words in lines[0]


def test_a_refused_value_is_not_forgotten_when_another_parameter_is_set(graph):
    graph.start_node(depth__max='20')
    assert graph.set_parameters(depth__min=0.2)[0].successful
    assert not graph.change(Transition.TRANSITION_CONFIGURE)
    assert graph.set_parameters(depth__max=20.0)[0].successful
    assert graph.change(Transition.TRANSITION_CONFIGURE)


def test_after_a_mended_parameter_it_configures(graph):
    graph.start_node(depth__model='dpt_huge')
    assert graph.set_parameters(depth__model='dpt_tiny')[0].successful
    assert graph.change(Transition.TRANSITION_CONFIGURE)
    assert graph.change(Transition.TRANSITION_ACTIVATE)


def test_a_parameter_that_nothing_reads_is_told(graph, capfd):
    graph.start_node(autostart=False, depth__maximum=3.0)
    assert 'nothing reads the parameters depth.maximum' in capfd.readouterr().err


def test_arguments_that_ros_cannot_read_are_one_line():
    program = Path(sys.prefix, 'bin', 'dpt_node')
    command = [program, '--ros-args', '--log-level', 'loud']
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert 'cannot start' in done.stderr
    assert 'Traceback' not in done.stderr


def test_a_class_that_the_network_does_not_know_is_refused_and_a_known_one_taken(graph):
    graph.start_node()
    (refused,) = graph.set_parameters(points__exclude_classes='dragon')
    assert not refused.successful
    assert 'dragon' in refused.reason and 'floor' in refused.reason
    assert graph.set_parameters(points__exclude_classes='person, chair')[0].successful


def test_classes_of_points_without_labels_stop_the_configuration(graph):
    graph.start_node(segmentation__model='', points__only_classes='floor')
    assert graph.state() == State.PRIMARY_STATE_UNCONFIGURED
