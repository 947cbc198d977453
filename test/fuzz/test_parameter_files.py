"""Parameter files from outside: whatever they say is a set of parameters, or refused."""

from pathlib import Path
import tempfile
from typing import Any

from damage import check_refusal, damaged, FEW, NUMBERS
from dpt_ros.ros.parameters import FIELDS, Parameters, read
from dpt_ros.tools.parameter_file import read_parameter_file
from hypothesis import example, given
from hypothesis import strategies as st
import yaml

FILES = [
    b"""/**:
  ros__parameters:
    cameras: ['front', 'rear']
    depth: {model: dpt_tiny, max: 20.0, invalid_value: .nan}
    limits.max_pixels: 1000000
    autostart: false
""",
    b"""camera:
  dpt:
    ros__parameters: {points: {labels: true, only_classes: 'floor, road'}, scale.offset: -1e-3}
/other: {ros__parameters: {rate: 30}}
""",
]
values = st.recursive(
    st.none()
    | st.booleans()
    | st.sampled_from(NUMBERS)
    | st.integers()
    | st.floats()
    | st.text(max_size=40)
    | st.binary(max_size=20)
    | st.dates()
    | st.sampled_from(['auto', 'cpu', 'fixed', 'ground', '', 'front']),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)
names = st.sampled_from(list(FIELDS)) | st.text(max_size=20)


def document(content: dict[str, Any]) -> bytes:
    """Write parameters as the file of every node."""
    return yaml.safe_dump({'/**': {'ros__parameters': content}}, allow_unicode=True).encode()


written = st.dictionaries(names, values, max_size=4).map(document)


@given(written | damaged(FILES) | st.binary(max_size=64))
@FEW
@example(b'/**: {ros__parameters: {depth: {max: !!float ""}}}')
@example(b'/**: {ros__parameters: {depth.max: ' + b'9' * 5000 + b'}}')
@example(b'/**: {ros__parameters: {device: "\\e[2J\\n"}}')
def test_any_parameter_file_gives_parameters_or_is_refused(data: bytes):
    with tempfile.NamedTemporaryFile(suffix='.yaml') as file:
        Path(file.name).write_bytes(data)
        try:
            chosen = read(read_parameter_file(Path(file.name), '/dpt'))
        except ValueError as error:
            check_refusal(error)
        else:
            assert isinstance(chosen, Parameters)
