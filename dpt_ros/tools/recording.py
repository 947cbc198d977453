"""A bag with images and depth, unpacked into the files that training reads."""

from collections import deque
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
import shutil
from typing import Any

import cv2
from dpt_ros.perception.paint import millimetres
from dpt_ros.ros.messages import decode_compressed, decode_depth, decode_image
import numpy as np
import torch

APART = 20_000_000  # nanoseconds at most between an image and its depth
WAITING = 8  # messages of a topic that are kept until their partner comes


def unpack(
    bag: Path, image: str, depth: str, folder: Path, show: Callable[[int], None] | None = None
) -> None:
    """
    Write frame-N.color.png and frame-N.depth.png of each image that has depth.

    :param bag: MCAP or SQLite, a folder or a file.
    :param image: topic of the images, raw or compressed.
    :param depth: topic of their depth, 32FC1 or 16UC1, in the view of the same camera; at most
        20 ms apart.
    :param folder: made here; taken as it is if it is there, so that a run can go on.
    :param show: is given how many images were written.
    :raises ValueError: for a bag or topics that have no such pairs.
    """
    if folder.is_dir():
        return
    partial = folder.with_name(folder.name + '.partial')
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    numbers = count()
    for rgb, metres in _pairs(bag, image, depth):
        name = partial / f'frame-{next(numbers):06d}'
        cv2.imwrite(f'{name}.color.png', cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
        narrow = millimetres(torch.from_numpy(metres)).numpy()
        cv2.imwrite(f'{name}.depth.png', narrow)
        if show is not None:
            show(1)
    if next(numbers) == 0:
        raise ValueError(
            f'{bag} has no image on {image} with depth on {depth} within {APART // 1_000_000} ms'
        )
    partial.rename(folder)


def _pairs(bag: Path, image: str, depth: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield color (H, W, 3) uint8 and depth (H, W) float32 metres that belong together."""
    from dpt_ros.tools.bags import open_bag, read_messages

    waiting: dict[str, deque[tuple[int, Any]]] = {
        image: deque(maxlen=WAITING),
        depth: deque(maxlen=WAITING),
    }
    other = {image: depth, depth: image}
    with open_bag(bag) as reader:
        kinds = {c.topic: c.msgtype for c in reader.connections}
        if missing := sorted(waiting.keys() - kinds.keys()):
            raise ValueError(
                f'{bag} has no {" and no ".join(missing)}; it has {", ".join(sorted(kinds))}'
            )
        compressed = kinds[image] == 'sensor_msgs/msg/CompressedImage'
        read = decode_compressed if compressed else decode_image
        chosen = [c for c in reader.connections if c.topic in waiting]
        for connection, _, data in read_messages(reader, chosen):
            topic = connection.topic
            message: Any = reader.deserialize(data, connection.msgtype)
            time = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
            near = [m for t, m in waiting[other[topic]] if abs(t - time) <= APART]
            if not near:
                waiting[topic].append((time, message))
                continue
            found = {topic: message, other[topic]: near[-1]}
            for queue in waiting.values():  # each is used once
                queue.clear()
            yield read(found[image]), decode_depth(found[depth])
