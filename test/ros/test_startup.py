"""What a start of the node does without."""

import json
import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.graph

# Each takes from a tenth of a second to several, and none is needed by the network in the package.
LEFT_OUT = {
    'matplotlib',
    'pandas',
    'PIL',
    'rosbags',
    'scipy.optimize',  # Numba looks at the version of scipy where there is one
    'scipy.stats',
    'sympy',
    'timm',
    'torch._dynamo',
    'torch._inductor',
    'torch.distributed.tensor',
    'torchvision',
    'transformers',
    'triton',
}
START = """
import json, sys
import rclpy
rclpy.init()
from dpt_ros.ros.node import DptNode
node = DptNode()
node.start()
assert node._worker is not None, 'it is not active'
node.stop()
print(json.dumps(sorted(sys.modules)))
"""


def test_a_node_that_is_active_has_imported_nothing_that_it_does_not_need(new_domain, tmp_path):
    done = subprocess.run(
        [sys.executable, '-c', START],
        cwd=tmp_path,  # where the installed package is found, not the sources
        env=os.environ | {'ROS_DOMAIN_ID': str(new_domain())},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    imported = set(json.loads(done.stdout.splitlines()[-1]))
    assert 'torch' in imported
    assert not LEFT_OUT & imported
