"""The node is measured on a real graph."""

from dpt_ros.bench import node
from dpt_ros.ros.outputs import OUTPUTS
import pytest

pytestmark = pytest.mark.graph


def test_every_image_of_a_slow_camera_is_answered(new_domain, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv('ROS_DOMAIN_ID', str(new_domain()))
    monkeypatch.setattr(node, 'OUTPUTS', OUTPUTS[:2])  # depth and its camera_info
    steps = []
    runs = node.bench_node([(64, 48)], [5.0], 1.0, lambda: steps.append(True))
    assert len(steps) == 2
    assert [run.outputs for run in runs] == ['all', '~/depth/image']
    for run in runs:
        assert isinstance(run, node.Latency)
        assert run.sent in (5, 6)
        assert 1 <= run.answered <= run.sent
        assert 0 < run.p50_ms <= run.p95_ms <= run.p99_ms
