"""
The networks of a node, and the way from an image to their own maps, at the size of the outputs.

Three steps: `preprocess`, `network`, `postprocess`. Each is a pure function of tensors that never
waits for the device, so whoever runs them (`runtime`) may capture or compile them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from dpt_ros.model.dpt import DPT, join
from dpt_ros.perception.bands import catch_up, in_bands, loops_for, one_by_one
from dpt_ros.perception.classify import among, classify
from dpt_ros.perception.preprocess import feed, network_size
from dpt_ros.perception.program import Program, Tensors
from dpt_ros.perception.runtime import Network, NetworkError, Runtime
from dpt_ros.perception.scale.metres import depth_of_weights
from dpt_ros.zoo.checkpoints import Checkpoint, Resize
from dpt_ros.zoo.labels import Labels, load_labels
from dpt_ros.zoo.store import Trained
import torch
from torch import Tensor

BELIEVABLE = ' believable'  # how the names of flags end


@dataclass(frozen=True)
class Look:
    """What is wanted of the networks."""

    tasks: frozenset[str]  # out of 'depth' and 'segmentation'
    size: tuple[int, int]  # (H, W) of the maps
    min_confidence: float  # below which a pixel is unlabelled


@dataclass(frozen=True)
class _Pass:
    """One run of a backbone: how an image is brought to it, and the tasks that come of it."""

    network: Network
    entry: Checkpoint  # for its colors
    resize: Resize
    tasks: frozenset[str]


class Networks:
    """One or two networks on one device; a backbone that both have runs once."""

    def __init__(
        self,
        depth: Trained | None,
        segmentation: Trained | None,
        *,
        device: torch.device,
        dtype: torch.dtype,
        side: int,
        runtime: Runtime,
    ):
        """Put them on the device; for the arguments see `pipeline.Perception`."""
        self._runtime = runtime
        self.passes = [
            _Pass(
                Network(network, device, dtype, runtime), entry, _fit(network, entry, side), tasks
            )
            for network, entry, tasks in _networks(depth, segmentation, side)
        ]
        self._depth = depth.checkpoint if depth is not None else None
        self.labels: Labels | None = None
        self._sky: tuple[int, ...] = ()
        if segmentation is not None and segmentation.checkpoint.labels is not None:
            self.labels = load_labels(segmentation.checkpoint.labels)
            self._sky = self.labels.find('sky')
            self._restore_scores = segmentation.checkpoint.restore

    @property
    def knows_sky(self) -> bool:
        """Whether the labels have a class of pixels that see no surface."""
        return bool(self._sky)

    def resize_of(self, task: str) -> Resize:
        """Return how images come to the network of a task."""
        return next(one.resize for one in self.passes if task in one.tasks)

    def program(self, look: Look) -> Program:
        """
        Return the way from `pixels`, (B, h, w, 3) uint8, to the maps wanted, (B, H, W) each.

        They are called 'own' (what `depth_of_weights` gives), 'labels', 'confidence' and, if the
        labels have it, 'sky'; for each task there is 'TASK believable', (B, N) bool, all of it
        set where an image is. What is given stands beside them. The labels of a single image may
        be written to '/0 spare labels', see `products.Finisher.program`.
        """
        passes = [one for one in self.passes if one.tasks & look.tasks]
        steps = {
            'preprocess': partial(_preprocess, passes),
            'network': partial(self._run, passes, look.tasks),
            'postprocess': partial(self._postprocess, look),
        }
        return Program('see', look, steps, frozenset({'postprocess'}))

    def scores(self, images: Tensor) -> Tensor:
        """Score every class; see `pipeline.Perception.scores`."""
        (one,) = (each for each in self.passes if 'segmentation' in each.tasks)
        rows, columns = images.shape[2:]
        prepared = feed(images.permute(0, 2, 3, 1), one.entry, Resize(columns, rows, multiple=1))
        return one.network(prepared, {'segmentation'})['segmentation'].float()

    def _run(self, passes: Sequence[_Pass], tasks: frozenset[str], given: Tensors) -> Tensors:
        """Run each backbone once, all of its tasks in one pass: 'raw TASK'."""
        rest = dict(given)
        images = [rest.pop(f'input {number}') for number in range(len(passes))]

        def run(share: slice) -> Tensors:
            raw: Tensors = {}
            for image, one in zip(images, passes, strict=True):
                raw |= one.network(image[share], one.tasks & tasks)
            return raw

        kind = tasks, *(tuple(image.shape[2:]) for image in images)
        shares = self._runtime.share(run, len(images[0]), kind)
        for task, raw in shares[0].items():
            parts = [share[task] for share in shares]
            rest[f'raw {task}'] = torch.cat(parts) if len(parts) > 1 else raw
        return rest

    def _postprocess(self, look: Look, given: Tensors) -> Tensors:
        """Bring what the networks gave to the size of the outputs."""
        maps = dict(given)
        raw = {task: maps.pop(f'raw {task}') for task in look.tasks}
        if 'segmentation' in raw:
            scores = raw['segmentation']
            # Of a pixel with a score that is no number nobody can tell the class.
            rows = scores.permute(0, 2, 3, 1).flatten(2)
            maps[f'segmentation{BELIEVABLE}'] = _find_finite(rows, every=True)
            spare = given.get('/0 spare labels') if len(scores) == 1 else None
            labels, confidence = classify(scores, look.size, self._restore_scores, spare)
            maps |= {'labels': labels, 'confidence': confidence}
            if self._sky:
                maps['sky'] = among(labels, self._sky)
        if 'depth' in raw and self._depth is not None:
            whole = raw['depth'].flatten(1)[:, None]
            maps[f'depth{BELIEVABLE}'] = _find_finite(whole, every=False)
            maps['own'] = depth_of_weights(raw['depth'], self._depth, look.size)
        if 'labels' in maps and look.min_confidence > 0 and self.labels is not None:
            catch_up()
            sure = maps['confidence'] >= look.min_confidence
            maps['labels'].masked_fill_(~sure, self.labels.unlabelled)
        return maps


def _find_finite(rows: Tensor, *, every: bool) -> Tensor:
    """
    Look whether `every` number of each row of (B, h, N) is finite, or any.

    :return: (B, h) bool.
    """
    loops = loops_for(rows)
    if loops is None:
        finite = rows.isfinite()
        return finite.all(dim=2) if every else finite.any(dim=2)
    found = torch.empty(rows.shape[:2], dtype=torch.bool)
    for image, target in one_by_one(rows.float(), found):
        in_bands(loops.find_finite, len(image), image, every, target)
    return found


def check_believable(maps: Tensors) -> None:
    """Refuse images where not all of a flag 'TASK believable' is set; waits for it."""
    for name, flags in maps.items():
        task = name.removesuffix(BELIEVABLE)
        if task != name and False in flags.flatten().tolist():
            raise NetworkError(
                f'the network for {task} gave no finite number: with precision float16 set '
                'float32 or bfloat16; else its weights are damaged, fetch them again'
            )


def resize_rule(entry: Checkpoint, side: int) -> Resize:
    """Return how images come to a network whose shorter side may be set, 0: as trained."""
    if not side:
        return entry.resize
    rule = 'stretch' if entry.resize.rule == 'stretch' else 'lower_bound'
    return replace(entry.resize, width=side, height=side, rule=rule)


def _preprocess(passes: Sequence[_Pass], given: Tensors) -> Tensors:
    """Make of `pixels` the input of each pass."""
    images = {
        f'input {number}': feed(given['pixels'], one.entry, one.resize)
        for number, one in enumerate(passes)
    }
    return given | images


def _networks(
    depth: Trained | None, segmentation: Trained | None, side: int
) -> Iterator[tuple[DPT, Checkpoint, frozenset[str]]]:
    """Yield the networks to run, how each is fed, and its tasks: two if they cannot be one."""
    if depth is not None and segmentation is not None and _is_shared(depth, segmentation, side):
        joined = join({'depth': depth.network, 'segmentation': segmentation.network})
        yield joined, depth.checkpoint, joined.provides
        return
    for task, trained in (('depth', depth), ('segmentation', segmentation)):
        if trained is not None:
            yield trained.network, trained.checkpoint, frozenset({task})


def _is_shared(one: Trained, other: Trained, side: int) -> bool:
    """Return whether two networks make the same of an image as far as their backbones go."""
    if one is other:
        return True
    a, b = one.checkpoint, other.checkpoint
    fed = [(resize_rule(e, side), e.mean, e.std, e.color_max) for e in (a, b)]
    built = [
        replace(e.architecture, widths=(0,) * 4, width=0, readout='ignore', decoder='dpt')
        for e in (a, b)
    ]
    if fed[0] != fed[1] or built[0] != built[1]:  # the decoders may differ
        return False
    # In order, for in a network that runs others took the place of modules, with their weights.
    mine, theirs = (list(t.network.backbone.state_dict().values()) for t in (one, other))
    return len(mine) == len(theirs) and all(map(torch.equal, mine, theirs))


def _fit(network: DPT, entry: Checkpoint, side: int) -> Resize:
    """Return how images come to a network, refusing what it could take of no image."""
    resize = resize_rule(entry, side)
    if resize.rule == 'stretch':  # one size for them all
        network.backbone.check_size(*network_size(1, 1, resize))
    return resize
