"""
The SROS 2 policy of the node, written from the tables: `python scripts/policy.py > FILE`.

It allows what any choice of parameters can ask for, for one camera without a name.
"""

import sys
from xml.etree import ElementTree as xml

from dpt_ros.ros.inputs import INPUTS
from dpt_ros.ros.outputs import LABEL_INFO, OUTPUTS

OF_EVERY_NODE = ('/parameter_events', '/rosout')
PUBLISH = (
    *OF_EVERY_NODE,
    '/diagnostics',
    '~/transition_event',
    *(output.topic for output in OUTPUTS),
    LABEL_INFO,
)
SUBSCRIBE = (
    '/clock',  # with use_sim_time
    *(one.topic for one in INPUTS),
)
SERVICES = (  # all but the first are those of every managed node
    '~/enable',
    *(f'~/{name}' for name in ('change_state', 'get_state', 'get_transition_graph')),
    *(f'~/{name}' for name in ('get_available_states', 'get_available_transitions')),
    *(f'~/{name}' for name in ('describe_parameters', 'get_parameters', 'get_parameter_types')),
    *(f'~/{name}' for name in ('list_parameters', 'set_parameters', 'set_parameters_atomically')),
    '~/get_type_description',
)


def policy(name: str = 'dpt', namespace: str = '/') -> str:
    """Write the policy of a node of that name (XML, policy 0.2.0 of SROS 2)."""
    root = xml.Element('policy', version='0.2.0')
    enclave = xml.SubElement(xml.SubElement(root, 'enclaves'), 'enclave', path=f'/{name}')
    profiles = xml.SubElement(enclave, 'profiles')
    profile = xml.SubElement(profiles, 'profile', ns=namespace, node=name)
    for kind, verb, names in (
        ('topics', 'publish', PUBLISH),
        ('topics', 'subscribe', SUBSCRIBE),
        ('services', 'reply', SERVICES),
    ):
        group = xml.SubElement(profile, kind, {verb: 'ALLOW'})
        for one in sorted(names):
            xml.SubElement(group, kind.removesuffix('s')).text = one
    xml.indent(root)
    return xml.tostring(root, encoding='unicode', xml_declaration=True) + '\n'


if __name__ == '__main__':
    sys.stdout.write(policy())
