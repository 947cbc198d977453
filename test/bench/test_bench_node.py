"""The node is measured on a real graph."""

from dpt_ros.bench import node
from dpt_ros.ros.outputs import OUTPUTS
import pytest

pytestmark = pytest.mark.graph


def test_every_image_of_a_slow_camera_is_answered(new_domain, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv('ROS_DOMAIN_ID', str(new_domain()))
    few = [o for o in OUTPUTS if o.topic in ('~/depth/image', '~/depth/camera_info')]
    monkeypatch.setattr(node, 'OUTPUTS', few)
    steps = []
    graphs = [(1, 1), (2, 1)]
    runs, stages = node.bench_node([(64, 48)], [5.0], 1.0, lambda: steps.append(True), graphs)
    assert len(steps) == 3
    assert [(run.cameras, run.nodes, run.outputs) for run in runs] == [
        (1, 1, 'all'),
        (1, 1, '~/depth/image'),
        (2, 1, 'all'),
    ]
    for run in runs:
        assert isinstance(run, node.Latency)
        assert run.cameras <= run.answered <= run.sent <= 6 * run.cameras
        assert 0 < run.p50_ms <= run.p95_ms <= run.p99_ms
    (told,) = stages.values()
    assert {'decode', 'network', 'encode', 'publish', 'total'} <= told.keys()
    p50, p95, largest = told['total']
    assert 0 < p50 <= p95 <= largest
