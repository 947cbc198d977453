"""`dpt train`: from nothing on drawn worlds, or further on a recording of one's own."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dpt_ros.evaluation.datasets import DataSet, recording, worlds
from dpt_ros.evaluation.evaluate import evaluate, Progress
from dpt_ros.perception.preprocess import network_size
from dpt_ros.training.data import find_pairs, number_of, Pair, read_color, Recording
from dpt_ros.training.record import write_record, write_weights
from dpt_ros.training.train import Plan, State, train, tuning_plan, worlds_plan
from dpt_ros.training.worlds import TRAINING
from dpt_ros.zoo.store import build_with, checkpoint, load, Trained
import torch


@dataclass(frozen=True)
class Outcome:
    """What a training came to."""

    files: list[Path]  # weights, record and curves
    scores: dict[str, dict]  # see `evaluation.evaluate`: 'after', and 'before' if tuned


@dataclass(frozen=True)
class How:
    """Where and how to train, and whom to tell."""

    device: torch.device
    workers: int = 1
    show: Callable[[State, Plan], None] | None = None  # see `training.train`
    progress: Progress | None = None  # see `evaluation.evaluate`


def train_on_worlds(
    name: str,
    folder: Path,
    how: How,
    *,
    steps: int = 4000,
    batch: int = 16,
    limit: int | None = None,
) -> Outcome:
    """
    Train the network called `name` from nothing, and score it on worlds it never saw.

    :param folder: gets state.pt, and in the end the files of the outcome; a run that was stopped
        goes on.
    :param steps: half of them at half the size.
    :param batch: images a step.
    :param limit: of the worlds to score on; None: all.
    """
    entry, plan = checkpoint(name), worlds_plan(steps, batch)
    about = {'model': name, 'data': f'worlds, seeds {TRAINING}'}
    state = train(
        entry, plan, folder, device=how.device, about=about, show=how.show, workers=how.workers
    )
    weights = write_weights(state, folder)
    scores = {'after': _score(load(name, str(weights)), worlds().first(limit), how)}
    return Outcome([weights, *write_record(state, weights, about, entry, plan, scores)], scores)


def tune(
    name: str,
    folder: Path,
    how: How,
    *,
    source: Path,
    frames: tuple[int, int] | None = None,
    weights: str = '',
    steps: int = 150,
    batch: int = 8,
) -> Outcome:
    """
    Train the network called `name` further, and score it before and after on what it never saw.

    :param folder: see `train_on_worlds`.
    :param source: RGB-D recording, see `training.data.find_pairs`.
    :param frames: first and last number of the frames to train on, the others are scored; None:
        the first four fifths.
    :param weights: to begin with: folder or file, see `store.load`.
    """
    entry = checkpoint(name)
    seen, unseen = split(find_pairs(source), frames)
    rows, columns = read_color(seen[0].color).shape[:2]
    width, height = network_size(columns, rows, entry.resize)
    plan = tuning_plan(entry, (height, width), steps, batch)
    about = {
        'model': name,
        'data': str(source.resolve()),
        'trained_on': f'{seen[0].color.name} to {seen[-1].color.name}, {len(seen)} images',
        'weights': weights or 'as published',
    }
    test, fitted_on = recording(unseen), recording(seen)
    before = _score(load(name, weights), test, how, fitted_on)
    state = train(
        entry,
        plan,
        folder,
        data=Recording(plan.stages, seen, plan.seed),
        weights=build_with(name, weights).state_dict(),
        device=how.device,
        about=about,
        show=how.show,
        workers=how.workers,
    )
    file = write_weights(state, folder)
    after = _score(load(name, str(file)), test, how, fitted_on)
    scores = {'before': before, 'after': after}
    return Outcome([file, *write_record(state, file, about, entry, plan, scores)], scores)


def split(pairs: Sequence[Pair], frames: tuple[int, int] | None) -> tuple[list[Pair], list[Pair]]:
    """Part a recording into what is trained on and what is not, neither of them empty."""
    if frames is None:
        cut = round(len(pairs) * 0.8)
        seen, unseen = list(pairs[:cut]), list(pairs[cut:])
    else:
        first, last = frames
        seen = [pair for pair in pairs if first <= number_of(pair) <= last]
        unseen = [pair for pair in pairs if not first <= number_of(pair) <= last]
    if not seen or not unseen:
        raise ValueError(
            f'of {len(pairs)} images {len(seen)} would be trained on and {len(unseen)} scored: '
            'both take some, so choose other --frames'
        )
    return seen, unseen


def _score(trained: Trained, test: DataSet, how: How, fitted_on: DataSet | None = None) -> dict:
    return evaluate(trained, test, how.device, fitted_on=fitted_on, progress=how.progress)
