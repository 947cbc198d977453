"""
A network on a data set: scores beside two baselines and what was published.

The network is asked through `Perception`, as the node asks it, so what is measured is what the
node publishes: depth with the sky at infinity (clamped to the protocol's cap), labels of any
confidence, both at the size of the image.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
import math
from time import perf_counter

from dpt_ros.conditions import conditions
from dpt_ros.evaluation.baselines import fit_baselines, Rows
from dpt_ros.evaluation.datasets import DataSet, Sample, worlds
from dpt_ros.evaluation.metrics import Confusion, DEPTH, LABELS, mean_scores
from dpt_ros.evaluation.multiscale import multiscale_labels
from dpt_ros.evaluation.protocols import METRIC, Protocol, RELATIVE, whole
from dpt_ros.evaluation.published import PUBLISHED
from dpt_ros.perception.pipeline import Frame, Perception
from dpt_ros.perception.products import Options
from dpt_ros.perception.runtime import choose_precision
from dpt_ros.training.worlds import TRAINING
from dpt_ros.zoo.checkpoints import Checkpoint, Restore
from dpt_ros.zoo.labels import load_labels
from dpt_ros.zoo.store import Trained
import numpy as np
import torch

Progress = Callable[[Sequence, str], Iterable]  # passes items on, under a title
# Nothing is out of range, no pixel unknown or without a class: what counts is the protocol's.
OPTIONS = Options(
    output_decimation=1,
    depth_encoding='32FC1',
    depth_invalid_value=math.nan,
    depth_min=0.0,
    depth_max=math.inf,
    depth_edge_angle=0.0,
    depth_steadiness=0.0,
    depth_color_max=10.0,
    segmentation_min_confidence=0.0,
    segmentation_overlay_opacity=0.0,
    points_organized=True,
    points_labels=False,
    points_exclude_classes='',
    points_only_classes='',
    points_clearing_distance=0.0,
    scale_mode='model',
    scale_factor=1.0,
    scale_offset=0.0,
    scale_smoothing_seconds=0.0,
    scale_hold_seconds=1.0,
    scale_jump=0.2,
    scale_min_points=50,
    scale_reference_tolerance=0.05,
    scale_ground_classes='',
    scale_ground_share=0.03,
    scale_camera_height=0.5,
    scale_camera_pitch=0.0,
    scale_camera_roll=0.0,
    scale_gravity='fixed',
)


@dataclass(frozen=True)
class Answer:
    """What is said of one image, by a network or a baseline."""

    depth: np.ndarray | None = None  # (H, W) metres
    inverse_depth: np.ndarray | None = None  # (H, W), in any unit
    labels: np.ndarray | None = None  # (H, W) class ids


def evaluate(
    trained: Trained,
    dataset: DataSet,
    device: torch.device,
    *,
    fitted_on: DataSet | None = None,
    progress: Progress | None = None,
) -> dict:
    """
    Score a network and the baselines, image by image.

    :param fitted_on: what the baselines are fitted to. None: of worlds, as many as there are
        images, out of those for training; else the images scored, which favors the baselines.
    :return: what `dpt evaluate --json` prints; docs/evaluation.md names every key.
    :raises ValueError: for a network that gives nothing of what the data set knows, and for images
        that are not what they ought to be.
    """
    entry, began = trained.checkpoint, perf_counter()
    protocols = protocols_of(dataset, entry)
    classes = classes_of(dataset, entry)
    if not protocols and not classes:
        raise ValueError(
            f'{trained.name} gives neither depth nor labels that {dataset.name} has the truth of'
        )
    if fitted_on is None:
        count = len(dataset.items)
        fitted_on = worlds(TRAINING[:count]) if dataset.name == 'worlds' else dataset
    progress = progress or (lambda items, title: items)  # noqa: ARG005
    main = next(iter(protocols.values()), None)
    baselines = fit_baselines(
        map(fitted_on.read, progress(fitted_on.items, 'baselines')),
        main.counts if main else None,
        len(classes),
    )
    network = Network(trained, device, protocols, multiscale=dataset.multiscale)
    answers: dict[str, Callable[[Sample], Answer]] = {
        **{name: partial(_answer_of, rows, bool(classes)) for name, rows in baselines.items()},
        trained.name: network,
    }
    tallies = {name: Tally(protocols, classes) for name in answers}
    for sample in map(dataset.read, progress(dataset.items, trained.name)):
        for name, answer in answers.items():
            tallies[name].add(answer(sample), sample)
    return _result(trained.name, dataset, fitted_on, tallies) | {
        'conditions': {
            **conditions(),
            'device': str(device),
            'precision': str(network.dtype).removeprefix('torch.'),
            'seconds': round(perf_counter() - began, 1),
        }
    }


def _result(
    name: str, dataset: DataSet, fitted_on: DataSet, tallies: Mapping[str, 'Tally']
) -> dict:
    """Put the scores of all together, those of the network called `name` first."""
    scores = {who: tally.result() for who, tally in tallies.items()}
    same = ', those scored' if fitted_on is dataset else ''
    return {
        'model': name,
        'dataset': dataset.name,
        'images': len(dataset.items),
        'limited_from': dataset.limited_from,
        'without_truth': dataset.without_truth,
        'protocol': next(iter(tallies[name].protocols), None),
        'multiscale': dataset.multiscale,
        **scores.pop(name),
        'baselines': {'fitted_on': f'{len(fitted_on.items)} images{same}', **scores},
        'published': [
            {'source': source, **values}
            for source, values in PUBLISHED.get((name, dataset.name), ())
        ],
    }


def protocols_of(dataset: DataSet, entry: Checkpoint) -> Mapping[str, Protocol]:
    """Return how the depth of this network is scored on this data set, the main way first."""
    if not dataset.has_depth or entry.depth is None:
        return {}
    return (METRIC if entry.is_metric else RELATIVE)[dataset.name]


def classes_of(dataset: DataSet, entry: Checkpoint) -> Sequence[str]:
    """Return the names of the classes to score: none unless both have the same."""
    if entry.labels is None or entry.labels != dataset.labels:
        return ()
    return load_labels(entry.labels).names


class Network:
    """A network as the node runs it."""

    def __init__(
        self,
        trained: Trained,
        device: torch.device,
        protocols: Mapping[str, Protocol],
        *,
        multiscale: bool = False,
    ):
        """
        Put it on the device.

        :param protocols: of depth; the images are cropped as the first one has it. Inverse depth
            up to scale and offset comes to the size of the image as Table 1 has it: bilinear.
        :param multiscale: see `multiscale.multiscale_labels`.
        """
        entry = trained.checkpoint
        relative = entry.depth is not None and not entry.is_metric
        if relative:
            restored = replace(entry, restore=Restore('bilinear', align_corners=False))
            trained = replace(trained, checkpoint=restored)
        self._device, self.dtype = device, choose_precision('auto', device)
        self._perception = Perception(
            trained if 'depth' in entry.tasks else None,
            trained if 'segmentation' in entry.tasks else None,
            device=device,
            dtype=self.dtype,
        )
        self._options = replace(OPTIONS, scale_mode='none') if relative else OPTIONS
        self._given = next(iter(protocols.values())).given if protocols else whole
        self._multiscale = multiscale
        wanted = {'depth', 'inverse_depth'} if protocols else set()
        wanted |= set() if multiscale else {'labels'}
        self._wanted = wanted & self._perception.available(self._options)

    def __call__(self, sample: Sample) -> Answer:
        """Answer for the pixels that the protocol gives; NaN beside them."""
        rows, columns = sample.rgb.shape[:2]
        window = self._given(rows, columns)
        frame = Frame('', None, np.ascontiguousarray(sample.rgb[window]), None)
        (result,) = self._perception([frame], self._wanted, self._options)
        found = dict(result.products)
        if self._multiscale:
            found['labels'] = multiscale_labels(self._perception.scores, sample.rgb, self._device)
        for kind in found.keys() & {'depth', 'inverse_depth'}:
            full = np.full((rows, columns), np.nan, np.float32)
            full[window] = found[kind]
            found[kind] = full
        return _complete(Answer(**found))


def _answer_of(baseline: Rows, labelled: bool, sample: Sample) -> Answer:
    """Let a baseline answer, which sees no more of an image than its size."""
    size = sample.rgb.shape[:2]
    return _complete(
        Answer(baseline.depth(*size), None, baseline.labels(*size) if labelled else None)
    )


def _complete(answer: Answer) -> Answer:
    """Add inverse depth where there are metres."""
    if answer.depth is None:
        return answer
    return replace(answer, inverse_depth=1 / np.maximum(answer.depth, 1e-6))


class Tally:
    """The scores of whoever answers, image by image."""

    def __init__(self, protocols: Mapping[str, Protocol], classes: Sequence[str]):
        """Begin without images; `classes` are none where no labels are scored."""
        self.protocols = protocols
        self._depth: dict[str, list[dict[str, float]]] = {name: [] for name in protocols}
        self._confusion = Confusion(classes) if classes else None

    def add(self, answer: Answer, sample: Sample) -> None:
        """Score one image."""
        for name, protocol in self.protocols.items():
            prediction = answer.inverse_depth if protocol.aligned else answer.depth
            if prediction is not None and sample.depth is not None:
                self._depth[name].append(protocol.score(prediction, sample.depth))
        if self._confusion is not None and answer.labels is not None and sample.labels is not None:
            self._confusion.add(answer.labels, sample.labels)

    def result(self) -> dict:
        """Return the scores: those of the first protocol flat, others by its name."""
        means = {name: mean_scores(filter(None, each)) for name, each in self._depth.items()}
        main = next(iter(means), None)
        if main and not means[main]:
            raise ValueError('no image has a pixel whose depth counts: is the truth in metres?')
        found: dict = dict(means.pop(main)) if main else {}
        if self._confusion is not None:
            found |= {**self._confusion.scores(), 'iou': self._confusion.iou()}
        return found | means


def table(result: dict) -> str:
    """Lay the result of `evaluate` out for people."""
    dataset, where = result['dataset'], result['conditions']
    how = {'metric': 'metres as they are', 'aligned': 'scale and offset fitted to each image'}
    way = how.get(result['protocol'], 'multi-scale' if result['multiscale'] else 'single scale')
    part = f', the first of {result["limited_from"]}' * bool(result['limited_from'])
    lines = [
        f'{result["model"]} on {dataset}: {result["images"]} images{part}, {way}',
        f'{where["date"]}, {where["cpu"]}, {where["device"]}, {where["precision"]}, '
        f'{where["threads"]} thread(s), torch {where["torch"]}; {where["seconds"]:.0f} s',
    ]
    if result['without_truth']:
        lines.append(f'{result["without_truth"]} images have no truth and are left out')
    baselines = {k: v for k, v in result['baselines'].items() if k != 'fitted_on'}
    rows = {result['model']: result, **baselines}
    rows |= {f'published ({line["source"]})': line for line in result['published']}
    lines += _grid(rows)
    if not result['published']:
        lines.append(f'not published: {result["model"]} on {dataset}')
    if 'aligned' in result:
        lines += ['', how['aligned']]
        own = {name: row['aligned'] for name, row in rows.items() if 'aligned' in row}
        lines += _grid(own)
    lines.append(f'baselines: fitted to {result["baselines"]["fitted_on"]}')
    return '\n'.join(lines)


def _grid(rows: Mapping[str, Mapping]) -> list[str]:
    """Lay rows of scores out, those columns that any of them has."""
    metrics = [m for m in (*DEPTH, *LABELS) if any(m in row for row in rows.values())]
    left = max(map(len, rows))
    lines = [' ' * left + ''.join(f'  {m:>8}' for m in metrics)]
    for name, row in rows.items():
        cells = [f'{row[m]:.3f}' if m in row else '' for m in metrics]
        widths = [max(8, len(m)) for m in metrics]
        text = ''.join(f'  {c:>{w}}' for c, w in zip(cells, widths, strict=True))
        lines.append(f'{name:<{left}}{text}'.rstrip())
    return lines
