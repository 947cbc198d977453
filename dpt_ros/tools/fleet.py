"""
Many bags, each done by the same function: one after the other here, or by Ray on a cluster.

What runs the jobs is a function such as Python's own `map`; the pools of concurrent.futures fit
too.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
import os
from pathlib import Path
from typing import TypeVar

from dpt_ros.tools.bags import find_bags, is_bag
from dpt_ros.tools.label import is_done, label, Labelled, Order, Show

Job = TypeVar('Job')
Done = TypeVar('Done')


def orders_for(inputs: Sequence[Path], output: Path, like: Order) -> list[Order]:
    """
    Make an order for each bag of a fleet.

    :param inputs: bags, and folders of them.
    :param output: folder in which each finds its place: by its name or, out of a folder of bags,
        by its path in there.
    :param like: an order for all that is the same.
    :raises ValueError: for what is no bag, a folder without any, and bags of one name.
    """
    places: dict[Path, Path] = {}
    for path in inputs:
        if is_bag(path):
            found = {path: Path(path.resolve().name)}
        elif path.is_dir():
            if output.resolve().is_relative_to(path.resolve()):
                raise ValueError(f'{output} lies in {path}, whose bags are read: choose another')
            found = {bag: bag.relative_to(path) for bag in find_bags(path)}
        else:
            raise ValueError(f'there is no bag {path}')
        if not found:
            raise ValueError(f'there are no bags in {path}')
        for bag, place in found.items():
            place = output / place.with_suffix('') if bag.is_file() else output / place
            if place == output or place.name == '..':
                raise ValueError(f'{bag} has no name but dots: rename it')
            if (other := places.setdefault(place, bag)) != bag:
                raise ValueError(f'{other} and {bag} would both become {place}: do one by one')
    return [replace(like, bag=bag, output=place) for place, bag in places.items()]


def attempt(order: Order, show: Show | None = None) -> Labelled:
    """
    Do one bag of many; what goes wrong is told in the result and costs no other.

    One that the same order made before stays as it is.
    """
    try:
        if is_done(order):
            return Labelled(str(order.bag), str(order.output), notes=('done before',))
        return label(order, show)
    except Exception as error:
        return failure(order, error)


def failure(order: Order, error: Exception) -> Labelled:
    """Tell why an order came to nothing."""
    kind = '' if isinstance(error, (ValueError, OSError)) else f'{type(error).__name__}: '
    return Labelled(str(order.bag), str(order.output), error=f'{kind}{error}')


def ray_map(
    function: Callable[[Job], Done],
    jobs: Iterable[Job],
    *,
    lost: Callable[[Job, Exception], Done],
    address: str = '',
    cores: int = 1,
) -> Iterator[Done]:
    """
    Map a function over jobs with Ray, and yield the results as they come.

    On a cluster with GPUs each job has one, else it has `cores` CPU cores. A job whose process or
    machine is lost is done again elsewhere.

    :param lost: makes a result of a job that was lost again and again, and the reason.
    :param address: of the cluster, as ray.init takes it; empty: this machine alone.
    :raises ValueError: where Ray is not installed, cannot be reached or has not that many cores.
    """
    os.environ.setdefault('RAY_USAGE_STATS_ENABLED', '0')  # nothing is told to anyone
    try:
        import ray
    except ImportError:
        raise ValueError(
            'Ray is not installed: pip install -r requirements/cluster.txt, or leave --ray out'
        ) from None
    try:
        ray.init(address or 'local', include_dashboard=False, log_to_driver=False)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ValueError(
            f'Ray cannot be reached at {address or "this machine"}: {error}'
        ) from None
    try:
        needs = _needs(ray.cluster_resources(), cores)
        remote = ray.remote(function).options(**needs)
        waiting = {remote.remote(job): job for job in jobs}
        while waiting:
            (ready, *_), _ = ray.wait(list(waiting))
            job = waiting.pop(ready)
            try:
                done = ray.get(ready)
            except ray.exceptions.RayError as error:
                done = lost(job, error)
            yield done
    finally:
        ray.shutdown()


def _needs(there: Mapping[str, float], cores: int) -> dict[str, int]:
    """Tell Ray what a job takes of what is there."""
    if there.get('GPU'):
        return {'num_gpus': 1, 'num_cpus': 1}
    if there.get('CPU', 0) < cores:
        raise ValueError(
            f'a job takes {cores} CPU cores and Ray has {there.get("CPU", 0):g}: lower --threads'
        )
    return {'num_cpus': cores}


def table(results: Sequence[Labelled]) -> str:
    """Lay out what became of each bag."""
    rows = [('bag', 'images', 'left out', 'images/s', '')]
    for one in results:
        figures = (str(one.images), str(one.left_out), f'{one.images_per_second:.1f}')
        told = [f'failed: {one.error}'] if one.error else [one.output, *one.notes]
        rows.append((one.bag, *(figures if one.images else ('', '', '')), '; '.join(told)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return '\n'.join(
        f'{bag:<{widths[0]}}  '
        + '  '.join(f'{cell:>{width}}' for cell, width in zip(cells, widths[1:], strict=False))
        + f'  {end}'.rstrip()
        for bag, *cells, end in rows
    )


def sentence(one: Labelled) -> str:
    """Say what became of one bag."""
    if one.error:
        return f'failed: {one.error}'
    told = (
        f'wrote {one.output}: {one.images} images with {len(one.topics)} topics more, '
        f'{one.images_per_second:.1f} images/s'
    )
    return '; '.join((told, *one.notes))
