"""`dpt evaluate`: what is typed, and what is said back."""

import json
from pathlib import Path

import cv2
from dpt_ros.tools.cli import main, parse
from dpt_ros.zoo import store
import numpy as np
import pytest
import torch


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write three RGB-D images of a wall at 2 m."""
    rng = np.random.default_rng(0)
    for number in range(3):
        name = tmp_path / f'frame-{number}'
        cv2.imwrite(f'{name}.color.jpg', rng.integers(0, 255, (48, 64, 3), np.uint8))
        cv2.imwrite(f'{name}.depth.png', np.full((48, 64), 2000, np.uint16))
    return tmp_path


def run(capsys: pytest.CaptureFixture, *arguments: object) -> str:
    main(['evaluate', '--device', 'cpu', '--model', 'dpt_tiny', *map(str, arguments)])
    return capsys.readouterr().out


def test_json_is_flat_and_alone_on_stdout(folder: Path, capsys: pytest.CaptureFixture):
    said = run(capsys, '--dataset', 'folder', '--root', folder, '--limit', 2, '--json')
    result = json.loads(said)
    assert (result['model'], result['dataset'], result['images']) == ('dpt_tiny', 'folder', 2)
    assert (result['root'], result['weights']) == (str(folder), '')
    assert result['abs_rel'] > 0 and result['aligned']['abs_rel'] == pytest.approx(0, abs=1e-5)
    assert result['baselines']['constant']['abs_rel'] == pytest.approx(0, abs=1e-6)


def test_the_table_tells_the_number_of_images(folder: Path, capsys: pytest.CaptureFixture):
    said = run(capsys, '--dataset', 'folder', '--root', folder)
    assert said.startswith('dpt_tiny on folder: 3 images, metres as they are')


def test_weights_of_ones_own_are_scored(
    folder: Path, capsys: pytest.CaptureFixture, tmp_path: Path
):
    state = store.read(store.weights_path('dpt_tiny'))
    state['tasks.depth.head.out.weight'] *= 0
    state['tasks.depth.head.out.bias'].fill_(torch.tensor(0.1).logit())  # a tenth of 20 m
    torch.save(state, tmp_path / 'own.pt')
    of_folder = ('--dataset', 'folder', '--root', folder)
    result = json.loads(run(capsys, *of_folder, '--json', '--weights', tmp_path / 'own.pt'))
    assert result['delta1'] > 0.5  # 2 m, but for what it takes for sky


def test_options_are_understood():
    chosen = parse(
        [
            *('evaluate', '--dataset', 'kitti', '--root', 'r', '--split', 's', '--model', 'm'),
            *('--single-scale', '--threads', '2'),
        ]
    )
    assert (chosen.root, chosen.split, chosen.limit) == (Path('r'), Path('s'), None)
    assert chosen.single_scale and chosen.threads == 2 and chosen.weights == ''


@pytest.mark.parametrize(
    ('arguments', 'told'),
    [
        (['--dataset', 'moon'], "no data set is called 'moon'"),
        (['--dataset', 'nyu'], 'nyu takes --root DIR'),
        (['--dataset', 'folder', '--root', 'nowhere'], 'there is no folder nowhere'),
        (['--dataset', 'worlds', '--limit', '0'], "'0' is not a whole number from 1"),
    ],
)
def test_what_the_user_can_mend_is_one_line(
    capsys: pytest.CaptureFixture, arguments: list[str], told: str
):
    with pytest.raises(SystemExit) as end:
        run(capsys, *arguments)
    assert end.value.code == 2
    assert told in capsys.readouterr().err.splitlines()[-1]


def test_missing_weights_name_the_command_that_brings_them(
    capsys: pytest.CaptureFixture, tmp_path: Path
):
    with pytest.raises(SystemExit):
        main(
            [
                *('evaluate', '--dataset', 'worlds', '--model', 'dpt_hybrid_nyu'),
                *('--weights', str(tmp_path)),
            ]
        )
    assert 'dpt fetch dpt_hybrid_nyu' in capsys.readouterr().err
