"""Parameter files of ROS (YAML), read without ROS."""

from pathlib import Path
import re
from typing import Any

from dpt_ros.ros.parameters import FIELDS
import yaml

PARAMETERS = 'ros__parameters'
OF_EVERY_NODE = {'use_sim_time', 'start_type_description_service'}


def read_parameter_file(file: Path, node: str) -> dict[str, Any]:
    """
    Read what a parameter file gives to the node of this package.

    :param node: full name of the node, such as /camera/dpt; in the file `/*` stands for one name
        and `/**` for any number of them. What comes later in the file wins.
    :return: values by the name of the parameter; they are not checked.
    :raises ValueError: for a file that is no parameter file, or a parameter that nothing reads.
    """
    try:
        content = yaml.safe_load(file.read_text(encoding='utf-8'))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f'{file} is not YAML: {" ".join(str(error).split())}') from None
    values: dict[str, Any] = {}
    if not _collect(content, '', node, values):
        raise ValueError(
            f'{file} is no parameter file: it has no `{PARAMETERS}:` below the name of a node or '
            '`/**`, as config/dpt.yaml has'
        )
    if unknown := values.keys() - FIELDS.keys() - OF_EVERY_NODE:
        raise ValueError(
            f'nothing reads the parameters {", ".join(sorted(unknown))} of {file}: are they '
            'misspelled?'
        )
    return {name: value for name, value in values.items() if name in FIELDS}


def _collect(content: Any, path: str, node: str, values: dict[str, Any]) -> bool:
    """Collect what stands below names that fit the node; tell whether parameters stand at all."""
    found = False
    if isinstance(content, dict):
        for key, below in content.items():
            if key != PARAMETERS:
                found |= _collect(below, f'{path}/{str(key).strip("/")}', node, values)
            else:
                found = True
                if _fits(path, node):
                    values |= _flat(below, '')
    return found


def _fits(pattern: str, node: str) -> bool:
    """Tell whether a name with wildcards is the node's."""
    every = re.escape(pattern).replace(r'/\*\*', r'(/\w+)*').replace(r'/\*', r'/\w+')
    return re.fullmatch(every, node) is not None


def _flat(content: Any, prefix: str) -> dict[str, Any]:
    """Join nested names with dots."""
    if not isinstance(content, dict):
        return {prefix: content}
    flat: dict[str, Any] = {}
    for key, below in content.items():
        flat |= _flat(below, f'{prefix}.{key}' if prefix else str(key))
    return flat
