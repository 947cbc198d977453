"""The training loop, on a network and worlds as small as they get."""

from dataclasses import replace

import cv2
from dpt_ros.training import worlds
from dpt_ros.training.data import (
    Batches,
    batches,
    draw,
    find_pairs,
    finish,
    read_pair,
    Recording,
    Stage,
)
from dpt_ros.training.record import draw_curves
from dpt_ros.training.train import (
    advance,
    begin,
    Plan,
    recent,
    schedule,
    train,
    trained,
    tuning_plan,
    worlds_plan,
)
from dpt_ros.training.worlds import HELD_OUT, render, TRAINING
from dpt_ros.zoo import store
from dpt_ros.zoo.checkpoints import Architecture, BoundedDepth, Checkpoint, RelativeDepth, Resize
import numpy as np
import pytest
from safetensors.torch import save_file
import torch

SHAPE = Architecture('vit_tiny_patch16_224', (0, 1, 2, 3), (8, 8, 8, 8), width=8)
ENTRY = Checkpoint(SHAPE, Resize(64, 48), depth=BoundedDepth(maximum=20.0), labels='worlds_10')
STAGES = (Stage(2, 2, (32, 32)), Stage(2, 2, (48, 64)))
PLAN = Plan(STAGES, warm_up=1, half=False)


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def test_the_loss_of_one_batch_falls_when_trained_on_it():
    plan = replace(PLAN, stages=(Stage(20, 2, (48, 64)),), decay=0.0)
    state, batch = begin(ENTRY, plan), draw(range(2), (48, 64))
    losses = [advance(state, batch, ENTRY, plan) for _ in range(20)]
    for task in ('depth', 'segmentation'):
        assert losses[-1][task] < 0.9 * losses[0][task]  # 0.43 to 0.88 with other first weights


def test_a_run_resumed_is_a_run_through(tmp_path):
    through = train(ENTRY, PLAN, tmp_path / 'through', workers=0)
    train(ENTRY, PLAN, tmp_path / 'halves', workers=0, until=1)
    train(ENTRY, PLAN, tmp_path / 'halves', workers=0, until=3)
    resumed = train(ENTRY, PLAN, tmp_path / 'halves', workers=0)
    assert resumed.step == through.step == 4
    assert resumed.curves == through.curves
    assert same(resumed.network.state_dict(), through.network.state_dict())
    assert same(resumed.mean.state_dict(), through.mean.state_dict())


def test_every_image_is_used_once_in_order():
    data = Batches(STAGES, range(100, 108))
    expected = [render(seed, (32, 32)).rgb for seed in (102, 103)]
    np.testing.assert_array_equal(data[1].rgb, expected)
    expected = [render(seed, (48, 64)).rgb for seed in (106, 107)]
    np.testing.assert_array_equal(data[3].rgb, expected)
    assert len(data) == 4


def test_what_is_planned_for_a_gpu_becomes_the_same_batch():
    drawn, planned = (
        Batches(STAGES, range(100, 108)),
        Batches(STAGES, range(100, 108), planned=True),
    )
    assert isinstance(planned[1], worlds.Plan)
    for part, same in zip(finish(planned[1], torch.device('cpu')), drawn[1], strict=True):
        assert torch.equal(part, same)
    for part, same in zip(finish(drawn[1], torch.device('cpu')), drawn[1], strict=True):
        assert torch.equal(part, same)


def test_training_cannot_run_into_the_held_out_worlds():
    assert set(TRAINING[:1000]).isdisjoint(HELD_OUT) and TRAINING[-1] < HELD_OUT[0]
    with pytest.raises(ValueError, match='8 images are wanted and there are only 7 seeds'):
        Batches(STAGES, range(7))


def test_rates_rise_stay_and_fall_to_zero():
    plan = Plan((Stage(100, 1, (32, 32)),), warm_up=10, decay=0.2)
    assert schedule(0, plan) == pytest.approx(0.1)
    assert schedule(9, plan) == schedule(50, plan) == schedule(80, plan) == 1
    assert schedule(90, plan) == pytest.approx(0.5)
    assert schedule(99, plan) == pytest.approx(0.05)


def test_backbone_and_decoder_have_rates_of_their_own():
    plan = replace(PLAN, backbone_rate=1e-5, decoder_rate=1e-4)
    state = begin(ENTRY, plan)
    rates = {
        id(parameter): group['lr']
        for group in state.optimizer.param_groups
        for parameter in group['params']
    }
    for name, parameter in state.network.named_parameters():
        assert rates[id(parameter)] == (1e-5 if name.startswith('backbone') else 1e-4)


def test_what_is_shipped_is_the_network_of_the_zoo_in_half_precision(tmp_path):
    save_file(trained(begin(ENTRY, PLAN)), tmp_path / 'small.safetensors')
    weights = store.read(tmp_path / 'small.safetensors')
    network = store.build(ENTRY)
    network.load_state_dict(weights, strict=True)
    floats = [t for t in weights.values() if t.is_floating_point()]
    assert all(t.dtype == torch.float16 for t in floats)


def test_a_network_without_metres_is_refused(tmp_path):
    with pytest.raises(ValueError, match='metric depth and the labels'):
        train(replace(ENTRY, depth=None), PLAN, tmp_path)


@pytest.fixture
def recording(tmp_path):
    """Write two frames of a tilted plane, half of the first without depth."""
    folder = tmp_path / 'recording'
    folder.mkdir()
    rng = np.random.default_rng(0)
    for n in range(2):
        depth = np.tile(np.linspace(1000, 3000, 64, dtype=np.uint16), (48, 1))
        depth[:, : 32 * (n == 0)] = 0
        rgb = rng.integers(0, 255, (48, 64, 3), np.uint8)
        cv2.imwrite(str(folder / f'frame-{n}.color.jpg'), rgb)
        cv2.imwrite(str(folder / f'frame-{n}.depth.png'), depth)
    return folder


def test_a_recording_is_read_in_metres_with_gaps(recording):
    rgb, depth = read_pair(find_pairs(recording)[0])
    assert rgb.shape == (48, 64, 3)
    assert np.isinf(depth[:, :32]).all() and depth[0, 63] == 3


def test_batches_of_a_recording_follow_from_the_step(recording):
    data = Recording(STAGES, find_pairs(recording), seed=1)
    batch, again = data[2], data[2]
    assert batch.rgb.shape == (2, 48, 64, 3) and batch.depth.shape == (2, 48, 64)
    assert torch.equal(batch.rgb, again.rgb) and not torch.equal(batch.rgb, data[3].rgb)
    assert (batch.labels == 255).all()


@pytest.mark.parametrize('loss', ['silog', 'relative'])
def test_weights_are_tuned_further_on_a_recording(recording, tmp_path, loss):
    entry = ENTRY if loss == 'silog' else replace(ENTRY, depth=RelativeDepth(), labels=None)
    plan = replace(PLAN, loss=loss, norms=False, stages=(Stage(6, 2, (48, 64)),), decay=0.0)
    weights = store.build(entry).state_dict()
    data = Recording(plan.stages, find_pairs(recording), seed=0)
    state = train(entry, plan, tmp_path / 'run', workers=0, data=data, weights=weights)
    assert state.curves[-1]['depth'] < state.curves[0]['depth']
    if entry.labels:  # known is only that what has depth is not the sky
        assert 0 < state.curves[-1]['segmentation'] < state.curves[0]['segmentation']
    statistics = [key for key in weights if 'running_mean' in key]
    assert all(torch.equal(state.network.state_dict()[key], weights[key]) for key in statistics)


def test_weights_of_another_network_are_refused():
    with pytest.raises(ValueError, match='not the weights of this network'):
        begin(ENTRY, PLAN, {'backbone.nothing': torch.zeros(1)})


def test_a_relative_loss_is_not_for_metres(tmp_path):
    with pytest.raises(ValueError, match="'relative' is not for depth of this kind"):
        train(ENTRY, replace(PLAN, loss='relative'), tmp_path)


def test_a_worker_process_draws_the_same_batches():
    data = Batches(STAGES, range(100, 108))
    drawn = list(batches(data, 1, 3, workers=1))
    assert [batch.rgb.shape[1] for batch in drawn] == [32, 48]
    assert all(torch.equal(batch.rgb, data[step].rgb) for step, batch in enumerate(drawn, 1))


def test_curves_are_drawn_one_panel_a_loss():
    curves = [{'depth': 2.0 / (n + 1), 'segmentation': 1.0} for n in range(60)]
    picture = draw_curves(curves)
    assert picture.shape[0] == 2 * draw_curves([{'depth': 1.0}] * 60).shape[0]
    assert picture.dtype == np.uint8 and (picture < 255).any()


def test_a_run_of_something_else_is_not_gone_on_with(tmp_path):
    train(ENTRY, PLAN, tmp_path, workers=0, until=1, about={'model': 'a'})
    with pytest.raises(ValueError, match='differs in model, seed: go on with the same options'):
        train(ENTRY, replace(PLAN, seed=1), tmp_path, workers=0, about={'model': 'b'})


def test_progress_is_shown_from_where_a_run_begins(tmp_path):
    seen = []

    def show(state, plan):
        seen.append((state.step, plan.steps, sorted(recent(state))))

    train(ENTRY, PLAN, tmp_path, workers=0, until=1, show=show)
    train(ENTRY, PLAN, tmp_path, workers=0, until=2, show=show)
    losses = ['depth', 'segmentation']
    assert seen == [(0, 4, []), (1, 4, losses), (1, 4, losses), (2, 4, losses)]


def test_recent_losses_are_the_mean_of_the_last_steps():
    state = begin(ENTRY, PLAN)
    state.curves = [{'depth': 100.0}, {'depth': 1.0}, {'depth': 3.0}]
    assert recent(state, steps=2) == {'depth': 2.0}


def test_tuning_has_the_learning_rates_of_the_paper():
    plan = tuning_plan(ENTRY, (32, 64), steps=7, batch=3)
    assert (plan.backbone_rate, plan.decoder_rate, plan.loss) == (1e-5, 1e-4, 'silog')
    assert plan.stages == (Stage(7, 3, (32, 64)),) and not plan.norms
    relative = replace(ENTRY, depth=RelativeDepth())
    assert tuning_plan(relative, (32, 64), 1, 1).loss == 'relative'


def test_half_of_the_steps_on_worlds_are_at_half_the_size():
    coarse, fine = worlds_plan(5, 4).stages
    assert (coarse, fine) == (Stage(2, 4, (96, 128)), Stage(3, 4, (192, 256)))


def test_a_curve_of_zeros_is_drawn():
    assert draw_curves([{'depth': 0.0}] * 60).std() > 0
