"""`dpt train`: from the command line to weights that everything else loads."""

from dataclasses import replace
import json
from pathlib import Path

import cv2
from dpt_ros.perception.runtime import choose_device
from dpt_ros.ros.parameters import read
from dpt_ros.tools.cli import main, parse
from dpt_ros.tools.train import How, split, train_on_worlds, tune
from dpt_ros.training.data import find_pairs
from dpt_ros.zoo import store
from dpt_ros.zoo.checkpoints import Architecture, BoundedDepth, Checkpoint, CHECKPOINTS, Resize
from dpt_ros.zoo.keys import OFFICIAL_DEPTH
import numpy as np
import pytest
from recordings import image, write_bag
from safetensors.torch import save_file
import torch

SHAPE = Architecture('vit_tiny_patch16_224', (0, 1, 2, 3), (8, 8, 8, 8), width=8)
SMALL = Checkpoint(SHAPE, Resize(64, 32), depth=BoundedDepth(maximum=10.0), labels='worlds_10')
HOW = How(choose_device('cpu'), workers=0)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Add a small network with random weights to the zoo, and return the file of these."""
    entry = replace(SMALL, file='small.safetensors', url='nowhere')
    monkeypatch.setitem(CHECKPOINTS, 'small', entry)
    torch.manual_seed(0)
    save_file(store.build(entry).state_dict(), tmp_path / 'begin.safetensors')
    return tmp_path / 'begin.safetensors'


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """Write five RGB-D images of a wall at 1.5 m."""
    rng = np.random.default_rng(0)
    folder = tmp_path / 'recording'
    folder.mkdir()
    for number in range(5):
        name = folder / f'frame-{number:06d}'
        cv2.imwrite(f'{name}.color.jpg', rng.integers(0, 255, (32, 64, 3), np.uint8))
        cv2.imwrite(f'{name}.depth.png', np.full((32, 64), 1500, np.uint16))
    return folder


def train(folder: Path, small: Path, *arguments: object) -> dict:
    main(
        [
            *('train', str(folder), '--model', 'small', '--weights', str(small)),
            *('--device', 'cpu', '--workers', '0', '--batch', '2', *map(str, arguments)),
        ]
    )
    return json.loads((folder / 'record.json').read_text())


def test_tuning_betters_the_depth_of_frames_not_trained_on(
    small: Path, recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture
):
    record = train(tmp_path / 'run', small, '--data', recording, '--frames', '0-2', '--steps', 30)
    before, after = record['evaluation']['before'], record['evaluation']['after']
    assert before['images'] == after['images'] == 2
    assert after['abs_rel'] < before['abs_rel']
    assert after['baselines']['fitted_on'] == '3 images'
    assert record['trained_on'] == 'frame-000000.color.jpg to frame-000002.color.jpg, 3 images'
    said = capsys.readouterr().out
    assert f'{before["abs_rel"]:.3f}' in said and f'{after["abs_rel"]:.3f}' in said
    picture = cv2.imread(str(tmp_path / 'run' / 'curves.png'))
    assert picture is not None and picture.std() > 0


def test_what_was_written_is_loaded_by_the_node_and_by_predict(
    small: Path, recording: Path, tmp_path: Path
):
    train(tmp_path / 'run', small, '--data', recording, '--steps', 1)
    file = tmp_path / 'run' / 'weights.safetensors'
    # The node: its parameters, and what it does with them.
    chosen = read({'depth.model': 'small', 'weights_dir': str(file)})
    loaded = store.build_with(chosen.depth_model, chosen.weights_dir).state_dict()
    for key, tensor in store.read(file).items():
        torch.testing.assert_close(loaded[key], tensor, check_dtype=False)
    color = str(recording / 'frame-000000.color.jpg')
    output = tmp_path / 'out'
    main(
        [
            *('predict', color, '--model', 'small', '--weights', str(file)),
            *('--device', 'cpu', '--output', str(output)),
        ]
    )
    assert np.load(output / 'frame-000000.color_depth.npy').shape == (32, 64)


def test_an_interrupted_run_goes_on(
    monkeypatch: pytest.MonkeyPatch, small: Path, recording: Path, tmp_path: Path
):
    monkeypatch.setattr('dpt_ros.training.train.SAVED', 2)

    def interrupt(state, plan):  # noqa: ARG001
        if state.step == 3:
            raise KeyboardInterrupt

    def files(folder: Path) -> dict:
        return store.read(folder / 'weights.safetensors')

    whole = {'source': recording, 'weights': str(small), 'steps': 4, 'batch': 2}
    tune('small', tmp_path / 'through', HOW, **whole)
    with pytest.raises(KeyboardInterrupt):
        tune('small', tmp_path / 'halves', replace(HOW, show=interrupt), **whole)
    seen: list[int] = []
    goes_on = replace(HOW, show=lambda state, plan: seen.append(state.step))  # noqa: ARG005
    tune('small', tmp_path / 'halves', goes_on, **whole)
    assert seen == [2, 3, 4]
    through, halves = files(tmp_path / 'through'), files(tmp_path / 'halves')
    assert all(torch.equal(through[key], halves[key]) for key in through)


def test_another_run_in_the_same_folder_is_refused(
    small: Path, recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture
):
    train(tmp_path / 'run', small, '--data', recording, '--steps', 1)
    with pytest.raises(SystemExit):
        train(tmp_path / 'run', small, '--data', recording, '--steps', 2)
    said = capsys.readouterr().err
    assert 'is of another run, which differs in samples, stages, steps: go on' in said


def test_a_bag_is_trained_on_like_a_folder(small: Path, tmp_path: Path):
    rng = np.random.default_rng(0)
    messages = []
    for stamp in range(0, 5 * 10**8, 10**8):
        rgb = rng.integers(0, 255, (32, 64, 3), np.uint8)
        depth = np.full((32, 64), 1.5, np.float32)
        messages += [('/color', stamp, image(rgb, 'rgb8', stamp))]
        messages += [('/depth', stamp, image(depth, '32FC1', stamp))]
    bag = write_bag(tmp_path / 'bag', *messages)
    topics = ('--image', '/color', '--depth', '/depth')
    record = train(tmp_path / 'run', small, '--bag', bag, *topics, '--steps', 1)
    assert record['evaluation']['after']['images'] == 1  # a fifth
    assert len(find_pairs(tmp_path / 'run' / 'recording')) == 5


@pytest.mark.usefixtures('small')
def test_a_network_is_trained_on_worlds_from_nothing(tmp_path: Path):
    # 96x128 and 192x256 as ever, but only two steps and worlds to score on
    outcome = train_on_worlds('small', tmp_path / 'run', HOW, steps=2, batch=1, limit=1)
    assert [f.name for f in outcome.files] == ['weights.safetensors', 'record.json', 'curves.png']
    record = json.loads(outcome.files[1].read_text())
    assert record['data'] == 'worlds, seeds range(0, 100000000)'
    assert record['plan']['steps'] == 2 and record['evaluation']['after']['images'] == 1
    assert record['sha256'] == store.checksum(outcome.files[0])


def test_weights_by_our_names_load_whatever_the_names_of_the_published_ones(
    monkeypatch: pytest.MonkeyPatch, small: Path
):
    entry = replace(SMALL, keys=OFFICIAL_DEPTH, labels=None)
    monkeypatch.setitem(CHECKPOINTS, 'foreign', replace(entry, file='x.pt', url='nowhere'))
    ours = store.build(entry).state_dict()
    save_file(ours, small.with_name('ours.safetensors'))
    loaded = store.load('foreign', str(small.with_name('ours.safetensors'))).network.state_dict()
    assert all(torch.equal(loaded[key], tensor) for key, tensor in ours.items())


@pytest.mark.parametrize(
    ('frames', 'counts'), [(None, (4, 1)), ((0, 1), (2, 3)), ((3, 90), (2, 3)), ((2, 2), (1, 4))]
)
def test_frames_are_chosen_by_their_numbers(recording: Path, frames, counts):
    pairs = find_pairs(recording)
    seen, unseen = split(pairs, frames)
    assert (len(seen), len(unseen)) == counts
    assert sorted(seen + unseen) == pairs


@pytest.mark.parametrize('frames', [(0, 4), (7, 9)])
def test_all_frames_or_none_cannot_be_trained_on(recording: Path, frames):
    with pytest.raises(ValueError, match='choose other --frames'):
        split(find_pairs(recording), frames)


@pytest.mark.parametrize(
    ('arguments', 'told'),
    [
        ('', 'one of the arguments --world --data --bag is required'),
        ('--world --data x', 'not allowed with'),
        ('--data x --frames 60', "'60' is not two numbers FIRST-LAST"),
        ('--data x --frames 6-0', "'6-0' is not two numbers FIRST-LAST"),
        ('--bag x', '--bag takes --image TOPIC and --depth TOPIC'),
        ('--world --frames 0-6', '--world starts anew'),
        ('--data nowhere', 'there is no RGB-D recording in nowhere'),
        ('--data x --model dpt_large_ade20k', 'no RGB-D recording'),
    ],
)
def test_what_the_user_can_mend_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture, arguments: str, told: str
):
    with pytest.raises(SystemExit) as end:
        main(['train', str(tmp_path / 'run'), *arguments.split()])
    assert end.value.code == 2
    assert told in capsys.readouterr().err.splitlines()[-1]


def test_a_network_without_depth_cannot_be_tuned(
    monkeypatch: pytest.MonkeyPatch, recording: Path, tmp_path: Path
):
    monkeypatch.setitem(CHECKPOINTS, 'classes', replace(SMALL, depth=None))
    with pytest.raises(ValueError, match='a recording has depth alone'):
        tune('classes', tmp_path / 'run', HOW, source=recording)


def test_the_embedded_network_is_the_default():
    chosen = parse(['train', 'out', '--world'])
    assert (chosen.model, chosen.steps, chosen.batch) == ('dpt_tiny', None, None)
    assert parse(['train', 'o', '--data', 'd', '--frames', '0-60']).frames == (0, 60)
