"""Parameter files of ROS (YAML), read without ROS."""

from pathlib import Path
import re
from typing import Any

from dpt_ros.ros.parameters import brief, FIELDS
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
        content = yaml.load(file.read_text(encoding='utf-8'), _Loader)
    except OSError:
        raise
    except Exception as error:  # PyYAML lets through whatever its constructors stumble over
        reason = ' '.join(str(error).split()) or type(error).__name__
        printable = ''.join(c if c.isprintable() else '?' for c in reason[:400])
        raise ValueError(f'{file} is not YAML that ROS reads: {printable}') from None
    values: dict[str, Any] = {}
    if not _collect(content, '', node, values):
        raise ValueError(
            f'{file} is no parameter file: it has no `{PARAMETERS}:` below the name of a node or '
            '`/**`, as config/dpt.yaml has'
        )
    if unknown := values.keys() - FIELDS.keys() - OF_EVERY_NODE:
        raise ValueError(
            f'nothing reads the parameters {", ".join(map(brief, sorted(unknown)[:9]))} of '
            f'{file}: are they misspelled?'
        )
    return {name: value for name, value in values.items() if name in FIELDS}


class _Loader(yaml.SafeLoader):
    """Reads YAML as ROS does: without aliases, by which few lines could stand for billions."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Refuse an alias."""
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.MarkedYAMLError(None, None, 'no aliases, write it out', event.start_mark)
        return super().compose_node(parent, index)


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
