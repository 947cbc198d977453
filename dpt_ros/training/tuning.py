"""
Fine-tuning on a recording of one's own, scored on frames that it was not trained on.

As the paper does for NYU and KITTI: scale-invariant log error for metric depth (or the relative
loss for relative depth), a small learning rate for the backbone, ten times that for the decoder.
Labels are not trained on; a segmentation head that shares the backbone drifts with it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from dpt_ros.model.dpt import freeze
from dpt_ros.training.data import Recording, Stage
from dpt_ros.training.evaluate import evaluate_recording, network_predictor, table
from dpt_ros.training.train import Plan, Say, train, trained
from dpt_ros.zoo import store
from dpt_ros.zoo.checkpoints import Checkpoint
from safetensors.torch import save_file
from torch import Tensor


def tuning_plan(entry: Checkpoint, steps: int = 150, batch: int = 8) -> Plan:
    """Lay out a short training with the paper's learning rates, at the size of use."""
    return Plan(
        stages=(Stage(steps, batch, (entry.resize.height, entry.resize.width)),),
        backbone_rate=1e-5,
        decoder_rate=1e-4,
        loss='silog' if entry.is_metric else 'relative',
        norms=False,
        warm_up=20,
        average=0.95,
    )


def tune(
    entry: Checkpoint,
    weights: Mapping[str, Tensor],
    plan: Plan,
    frames: Sequence[Path],
    unseen: Sequence[Path],
    folder: Path,
    say: Say,
    *,
    workers: int = 1,
) -> dict[str, dict[str, dict[str, float]]]:
    """
    Train on `frames` and score on `unseen`, before and after; write FOLDER/tuned.safetensors.

    :param weights: to begin with, by our names.
    :param frames: color images of a recording, see `data.find_frames`; `unseen` likewise.
    :return: recording -> before or after -> metric -> value; in metres where depth is metric.
    """
    if set(frames) & set(unseen):
        raise ValueError('frames to train on and frames to score on must not overlap')
    before = _score(entry, weights, unseen)
    data = Recording(plan.stages, frames, plan.seed)
    state = train(entry, plan, folder, say, workers=workers, data=data, weights=weights)
    after = _score(entry, trained(state), unseen)
    save_file(trained(state), folder / 'tuned.safetensors')
    name = 'unseen frames' if entry.is_metric else 'unseen, aligned'
    results = {name: {'before tuning': before, 'after tuning': after}}
    say(table(results))
    return results


def _score(
    entry: Checkpoint, weights: Mapping[str, Tensor], frames: Sequence[Path]
) -> dict[str, float]:
    network = store.build(entry)
    network.load_state_dict(weights)
    predict = network_predictor(freeze(network.float()), entry)
    return evaluate_recording(predict, frames, aligned=not entry.is_metric)
