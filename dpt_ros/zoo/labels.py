"""Class names and colors, one CSV file per set: index, name, red, green, blue."""

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files


@dataclass(frozen=True)
class Labels:
    """The classes of a segmentation network, in the order of its scores."""

    names: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...]  # RGB, 0 to 255

    @property
    def unlabelled(self) -> int:
        """The class id of pixels that no class is sure of, as vision_msgs reserves it."""
        return 255 if len(self.names) <= 255 else 65535

    def find(self, *names: str) -> tuple[int, ...]:
        """Return the indices of the classes named; names that this set lacks are left out."""
        return tuple(index for index, name in enumerate(self.names) if name in names)


@cache
def load_labels(name: str) -> Labels:
    """Read the set `name`, such as 'ade20k_150'."""
    text = (files('dpt_ros.zoo') / 'labels' / f'{name}.csv').read_text(encoding='utf-8')
    rows = list(csv.DictReader(text.splitlines()))
    return Labels(
        names=tuple(row['name'] for row in rows),
        colors=tuple((int(row['r']), int(row['g']), int(row['b'])) for row in rows),
    )
