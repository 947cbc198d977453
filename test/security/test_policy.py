"""The SROS 2 policy: what was written, what the tables say, and what a node has on the graph."""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from xml.etree import ElementTree as xml

import pytest

ROOT = Path(__file__).parents[2]
FILE = ROOT / 'config' / 'sros2' / 'dpt.policy.xml'


def allowed(kind: str, verb: str) -> set[str]:
    """Read what the file allows to the node /dpt, as names on the graph."""
    names = [e.text for e in xml.parse(FILE).iterfind(f".//{kind}[@{verb}='ALLOW']/")]
    return {name.replace('~', '/dpt') if name[0] in '~/' else f'/{name}' for name in names}


def test_the_file_is_what_the_tables_say():
    spec = spec_from_file_location('policy', ROOT / 'scripts' / 'policy.py')
    script = module_from_spec(spec)
    spec.loader.exec_module(script)
    assert FILE.read_text() == script.policy(), 'python scripts/policy.py > ' + str(FILE)


@pytest.mark.graph
@pytest.mark.parametrize(
    'parameters',
    [
        {},
        {'image_transport': 'compressed', 'scale__mode': 'reference'},
        {'scale__mode': 'ground', 'scale__gravity': 'imu', 'use_sim_time': True},
    ],
    ids=['default', 'compressed, reference', 'ground, imu, clock'],
)
def test_whatever_a_node_has_on_the_graph_is_allowed(graph, parameters):
    node = graph.start_node(**parameters)
    graph.until(lambda: node.count_subscribers('/camera_info'), 'the subscription')
    has = {  # as the node itself knows, so that nothing waits for discovery
        ('topics', 'publish'): node.get_publisher_names_and_types_by_node('dpt', '/'),
        ('topics', 'subscribe'): node.get_subscriber_names_and_types_by_node('dpt', '/'),
        ('services', 'reply'): node.get_service_names_and_types_by_node('dpt', '/'),
    }
    assert not node.get_client_names_and_types_by_node('dpt', '/')
    for (kind, verb), endpoints in has.items():
        names = {name for name, _ in endpoints}
        assert names
        assert names <= allowed(kind, verb)
    assert {name for name, _ in has['services', 'reply']} == allowed('services', 'reply')
