"""
Training: from nothing on generated worlds, or further on a recording of one's own.

As the paper trains: two learning rates, warm-up, and the mean of the weights over time (EMA) is
what is kept. Everything follows from the plan: image i is seed i, and a run that is stopped
and resumed ends as one that ran through.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
import math
import os
from pathlib import Path
import time
from types import MappingProxyType
from typing import cast

from dpt_ros.model.dpt import DPT, Task
from dpt_ros.model.heads import SegmentationHead
from dpt_ros.perception.preprocess import prepare
from dpt_ros.perception.scale.metres import depth_of_weights
from dpt_ros.training import losses
from dpt_ros.training.data import Batch, Batches, batches, finish, Stage
from dpt_ros.training.furnishing import BOXES, LABELS
from dpt_ros.training.worlds import TRAINING
from dpt_ros.zoo import store
from dpt_ros.zoo.checkpoints import Checkpoint
from dpt_ros.zoo.labels import load_labels
import torch
from torch import nn, Tensor
from torch.utils.data import Dataset

CPU = torch.device('cpu')
SAVED = 50  # steps from one saving to the next
NOTHING: Mapping[str, str] = MappingProxyType({})

# Of depth: (depth as the weights mean it, truth in metres, where it is known) -> scalar.
LOSSES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    'log': losses.log_depth,  # metric, from nothing
    'silog': losses.silog,  # metric, fine-tuning
    'relative': lambda raw, truth, known: losses.scale_and_shift_invariant(raw, 1 / truth, known),
}


@dataclass(frozen=True)
class Plan:
    """All that a run depends on, besides the network."""

    stages: tuple[Stage, ...]
    backbone_rate: float = 1e-3  # learning rates at their height; the paper's, 1e-5 and 1e-4,
    decoder_rate: float = 1e-3  # are for a backbone that brings ImageNet with it
    weight_decay: float = 0.02  # of matrices and filters
    warm_up: int = 200  # steps
    decay: float = 0.3  # last share of the steps, over which the rates go to zero
    clip: float = 1.0  # norm of the gradient
    average: float = 0.99  # share of the mean weights that a step keeps
    loss: str = 'log'  # of depth, a key of LOSSES
    things: float = 2.0  # weight of the classes of things, of floor, walls and so on: 1
    seed: int = 0
    half: bool = True  # bfloat16 where autocast deems it safe
    norms: bool = True  # whether batch norms follow the data; not when there is little of it

    @property
    def steps(self) -> int:
        """Return the number of steps of all stages."""
        return sum(stage.steps for stage in self.stages)


def worlds_plan(steps: int, batch: int) -> Plan:
    """Lay out a training from nothing on worlds, half of the steps at half the size."""
    coarse = steps // 2
    return Plan((Stage(coarse, batch, (96, 128)), Stage(steps - coarse, batch, (192, 256))))


def tuning_plan(entry: Checkpoint, size: tuple[int, int], steps: int, batch: int) -> Plan:
    """
    Lay out a short training further from trained weights, with the paper's learning rates.

    As the paper does for NYU and KITTI: scale-invariant log error for metric depth (or the
    relative loss for relative depth). Of labels a recording knows only that what has depth is not
    the sky; the others drift with the backbone that they share.

    :param size: rows and columns of the network's input.
    """
    if entry.depth is None:
        raise ValueError('a recording has depth alone, and this network gives none')
    return Plan(
        stages=(Stage(steps, batch, size),),
        backbone_rate=1e-5,
        decoder_rate=1e-4,
        loss='silog' if entry.is_metric else 'relative',
        norms=False,
        warm_up=20,
        average=0.95,
    )


@dataclass
class State:
    """What changes while training; saved and restored whole."""

    network: DPT
    mean: DPT  # its weights averaged over time
    optimizer: torch.optim.Optimizer
    step: int = 0
    curves: list[dict[str, float]] = field(default_factory=list)  # one entry a step
    seconds: float = 0.0  # spent so far


def begin(
    entry: Checkpoint,
    plan: Plan,
    weights: Mapping[str, Tensor] | None = None,
    device: torch.device = CPU,
) -> State:
    """Build everything as it is before the first step, with these weights or random ones."""
    torch.manual_seed(plan.seed)
    network, mean = _network(entry), _network(entry)
    if weights is not None:
        missing, unexpected = network.load_state_dict(weights, strict=False)
        if unexpected or any('.auxiliary.' not in key for key in missing):
            raise ValueError('these are not the weights of this network')
    mean.load_state_dict(network.state_dict())
    network, mean = network.to(device), mean.to(device)
    optimizer = torch.optim.AdamW(_groups(network, plan), betas=(0.9, 0.98))
    for module in network.train().modules():
        if isinstance(module, nn.BatchNorm2d):
            module.train(plan.norms)
    return State(network, mean.eval().requires_grad_(False), optimizer)


def _network(entry: Checkpoint) -> DPT:
    """Build the network, with the auxiliary head of training if it has labels."""
    network = store.build(entry)
    if entry.labels is not None:
        task = tasks_of(network)['segmentation']
        classes = len(load_labels(entry.labels).names)
        task.head = SegmentationHead(task.decoder.width, classes, auxiliary=True)
    return network.to(memory_format=torch.channels_last)


def tasks_of(network: DPT) -> Mapping[str, Task]:
    """Return the tasks of a network by name."""
    return cast(Mapping[str, Task], network.tasks)


def _groups(network: DPT, plan: Plan) -> list[dict]:
    """Sort the parameters by learning rate and by whether they decay."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        rate = plan.backbone_rate if name.startswith('backbone') else plan.decoder_rate
        decays = parameter.ndim > 1 and 'pos_embed' not in name and 'cls_token' not in name
        groups.setdefault((rate, plan.weight_decay * decays), []).append(parameter)
    return [
        {'params': parameters, 'lr': rate, 'height': rate, 'weight_decay': decay}
        for (rate, decay), parameters in groups.items()
    ]


def schedule(step: int, plan: Plan) -> float:
    """Return the share of the learning rates at a step: up, along, and down to zero at the end."""
    left = (plan.steps - step) / max(1, round(plan.decay * plan.steps))
    return min(1.0, (step + 1) / max(1, plan.warm_up), left)


def train(
    entry: Checkpoint,
    plan: Plan,
    folder: Path,
    *,
    data: Dataset[Batch] | None = None,
    weights: Mapping[str, Tensor] | None = None,
    device: torch.device = CPU,
    about: Mapping[str, str] = NOTHING,
    show: Callable[[State, Plan], None] | None = None,
    workers: int = 1,
    until: int | None = None,
) -> State:
    """
    Train, or go on with what `folder` holds.

    :param entry: of the network; nothing is loaded from its file.
    :param folder: gets state.pt every so often.
    :param data: the batch of each step; None: worlds, which takes metric depth and their labels.
    :param weights: to begin with; None: random ones.
    :param about: what the run is of besides the plan, such as the model and the data.
    :param show: is called before the first step and after each.
    :param workers: processes that make batches ahead; 0 makes them in this one.
    :param until: step to stop at, as if interrupted.
    :raises ValueError: for a network that cannot be trained so, and a folder with another run.
    """
    if data is None and not (entry.is_metric and entry.labels == LABELS):
        raise ValueError(f'worlds train a network with metric depth and the labels {LABELS}')
    if (plan.loss == 'relative') == entry.is_metric:
        raise ValueError(f"the loss '{plan.loss}' is not for depth of this kind")
    folder.mkdir(parents=True, exist_ok=True)
    saved, told = folder / 'state.pt', {**about, **describe(plan)}
    state = begin(entry, plan, weights, device)
    resume(state, saved, told)
    last = plan.steps if until is None else min(until, plan.steps)
    began, before = time.monotonic(), state.seconds
    if data is None:
        data = Batches(plan.stages, TRAINING, planned=device.type != 'cpu')
    source = iter(batches(data, state.step, last, workers))
    show = show or (lambda state, plan: None)  # noqa: ARG005
    show(state, plan)
    while state.step < last:
        batch = finish(next(source), device)
        state.curves.append(advance(state, batch, entry, plan))
        state.seconds = before + time.monotonic() - began
        show(state, plan)
        if state.step % SAVED == 0 or state.step == last:
            save(state, saved, told)
    return state


def advance(state: State, batch: Batch, entry: Checkpoint, plan: Plan) -> dict[str, float]:
    """Make one step and return its losses."""
    share = schedule(state.step, plan)
    for group in state.optimizer.param_groups:
        group['lr'] = group['height'] * share
    parts = losses_of(state.network, batch, entry, plan)
    state.optimizer.zero_grad()
    torch.stack(list(parts.values())).sum().backward()
    norm = nn.utils.clip_grad_norm_(state.network.parameters(), plan.clip)
    if not torch.isfinite(norm):
        raise RuntimeError(f'the gradient of step {state.step} is not finite: lower the rates')
    state.optimizer.step()
    state.step += 1
    _average(state, min(plan.average, state.step / (state.step + 10)))
    return {name: part.item() for name, part in parts.items()}


def losses_of(network: DPT, batch: Batch, entry: Checkpoint, plan: Plan) -> dict[str, Tensor]:
    """Compute the loss of each task for a batch."""
    size = (batch.rgb.shape[1], batch.rgb.shape[2])
    image = prepare(batch.rgb, size[::-1], entry.mean, entry.std, color_max=entry.color_max)
    image = image.contiguous(memory_format=torch.channels_last)
    tasks = tasks_of(network)
    with torch.autocast(image.device.type, torch.bfloat16, enabled=plan.half):
        taps = network.backbone(image)
        fused = {name: task.decoder(taps) for name, task in tasks.items()}
        read = {name: task.head(fused[name], size) for name, task in tasks.items()}
        if 'segmentation' in tasks:
            head = cast(SegmentationHead, tasks['segmentation'].head)
            auxiliary = head.auxiliary_scores(fused['segmentation'])
    parts = {}
    if entry.depth is not None:
        depth = depth_of_weights(read['depth'], entry, size)
        parts['depth'] = LOSSES[plan.loss](depth, batch.depth, batch.depth.isfinite())
    if entry.labels is not None:
        scores, labels = read['segmentation'], batch.labels.long()
        weights = scores.new_ones(scores.shape[1], dtype=torch.float32)
        if entry.labels == LABELS:
            weights[BOXES:] = plan.things
        sky = load_labels(entry.labels).find('sky')
        not_sky = (labels == 255) & batch.depth.isfinite()  # whatever has depth
        parts['segmentation'] = losses.segmentation(
            scores, auxiliary, labels, weights
        ) + losses.absent(scores, not_sky, sky)
    return parts


@torch.no_grad()
def _average(state: State, keep: float) -> None:
    """Move the mean weights toward the present ones; counters and statistics are copied."""
    ours: list[Tensor] = list(state.mean.parameters())
    theirs: list[Tensor] = list(state.network.parameters())
    torch._foreach_lerp_(ours, theirs, 1 - keep)
    for mine, other in zip(state.mean.buffers(), state.network.buffers(), strict=True):
        mine.copy_(other)


def recent(state: State, steps: int = 50) -> dict[str, float]:
    """Return the mean of each loss over the last steps; of no steps there is none."""
    last = state.curves[-steps:]
    return {name: sum(step[name] for step in last) / len(last) for name in (last or [{}])[0]}


def save(state: State, path: Path, told: Mapping) -> None:
    """Write everything that `resume` needs, whole or not at all; `told` is what the run is of."""
    partial = path.with_suffix('.partial')
    torch.save(
        {
            'told': dict(told),
            'network': state.network.state_dict(),
            'mean': state.mean.state_dict(),
            'optimizer': state.optimizer.state_dict(),
            'step': state.step,
            'curves': state.curves,
            'seconds': state.seconds,
            'random': torch.get_rng_state(),
        },
        partial,
    )
    os.replace(partial, path)


def resume(state: State, path: Path, told: Mapping) -> None:
    """Take up what `save` wrote, if there is anything; refuse what is of another run."""
    if not path.is_file():
        return
    saved = torch.load(path, map_location='cpu', weights_only=True)
    if saved['told'] != told:
        keys = saved['told'].keys() | told.keys()
        other = sorted(k for k in keys if saved['told'].get(k) != told.get(k))
        raise ValueError(
            f'{path} is of another run, which differs in {", ".join(other)}: go on with the same '
            'options, or choose another folder'
        )
    state.network.load_state_dict(saved['network'])
    state.mean.load_state_dict(saved['mean'])
    state.optimizer.load_state_dict(saved['optimizer'])
    state.step, state.curves, state.seconds = saved['step'], saved['curves'], saved['seconds']
    torch.set_rng_state(saved['random'])


def trained(state: State) -> dict[str, Tensor]:
    """Return the averaged weights in half precision, without the auxiliary head."""
    return {
        key: (tensor.half() if tensor.is_floating_point() else tensor).cpu().contiguous()
        for key, tensor in state.mean.state_dict().items()
        if '.auxiliary.' not in key
    }


def describe(plan: Plan) -> dict:
    """Return the plan for the record, with what follows from it."""
    samples = sum(stage.steps * stage.batch for stage in plan.stages)
    return {**asdict(plan), 'steps': plan.steps, 'samples': samples}


def smooth(values: list[float], reach: float) -> list[float]:
    """Return the running mean of a curve, over about `reach` steps."""
    result, mean = [], 0.0
    for step, value in enumerate(values):
        mean += (value - mean) * max(1 / reach, 1 / (step + 1))
        result.append(mean)
    return result if all(map(math.isfinite, result)) else []
