"""`dpt models`: what it says of each network, held against counts made in another way."""

import json
from pathlib import Path

from dpt_ros.tools.cli import main
from dpt_ros.tools.models import list_models, Model, table
from dpt_ros.zoo import store
from dpt_ros.zoo.checkpoints import CHECKPOINTS
import pytest
import torch
from torch import nn


@pytest.fixture(scope='module')
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Model]:
    """List the models as they stand in a folder with files of some of them."""
    folder = tmp_path_factory.mktemp('weights')
    with (folder / CHECKPOINTS['dpt_large_midas'].file).open('wb') as file:
        file.truncate(CHECKPOINTS['dpt_large_midas'].size)  # takes no space
    (folder / CHECKPOINTS['dpt_hybrid_midas'].file).write_bytes(b'half of it')
    (folder / CHECKPOINTS['dpt_hybrid_nyu'].file).write_bytes(b'of a size that nobody told')
    return {model.name: model for model in list_models(str(folder))}


def test_every_checkpoint_is_listed(models: dict[str, Model]):
    assert list(models) == list(CHECKPOINTS)


def test_parameters_are_as_many_as_the_authors_say(models: dict[str, Model]):
    # Table 1 of the MiDaS 3.1 report (arXiv 2307.14460): 344 and 123 million, of which some, such
    # as those of the classifier, the decoder never sees.
    assert models['dpt_large_midas'].parameters == pytest.approx(344e6, rel=0.02)
    assert models['dpt_hybrid_midas'].parameters == pytest.approx(123e6, rel=0.02)


def test_work_is_what_the_layers_did_counted_one_by_one(models: dict[str, Model]):
    counted = 0

    def count(layer: nn.Module, _: object, output: torch.Tensor) -> None:
        nonlocal counted
        if isinstance(layer, nn.Linear):
            counted += 2 * output.numel() * layer.in_features
        elif isinstance(layer, nn.ConvTranspose2d):  # its kernel equals its stride
            counted += 2 * output.numel() * layer.in_channels
        elif isinstance(layer, nn.Conv2d):
            counted += 2 * output.numel() * layer.weight[0].numel()

    network = store.load('dpt_tiny').network
    for layer in network.modules():
        layer.register_forward_hook(count)
    width, height = models['dpt_tiny'].input_size
    with torch.inference_mode():
        network(torch.zeros(1, 3, height, width))
    tokens = width // 16 * (height // 16) + 1
    counted += 6 * 2 * 2 * tokens**2 * 192  # queries by keys, and by values, in each block
    counted += 2 * 2 * 2 * tokens * 192**2  # readouts: two decoders, two taps with one
    assert models['dpt_tiny'].gflops == pytest.approx(counted / 1e9, rel=0.01)


def test_the_input_is_the_size_that_the_authors_would_take(models: dict[str, Model]):
    assert models['dpt_large_midas'].input_size == (512, 384)
    assert models['dpt_hybrid_nyu'].input_size == (640, 480)
    assert models['dpt_dinov2_small_nyu'].input_size == (644, 490)


def test_weights_are_on_disk_or_of_the_wrong_size_or_missing(models: dict[str, Model]):
    said = {name: model.weights for name, model in models.items()}
    assert said.pop('dpt_large_midas') == 'on disk'
    assert said.pop('dpt_tiny') == 'on disk'  # it comes with the package
    assert said.pop('dpt_hybrid_midas') == 'wrong size'
    assert said.pop('dpt_hybrid_nyu') == 'on disk'
    assert set(said.values()) == {'missing'}


def test_the_table_is_aligned_and_tells_metres_from_relative_depth(models: dict[str, Model]):
    head, *lines = table(list(models.values())).splitlines()
    for line, name in zip(lines, models, strict=True):
        assert line.startswith(name)
        assert line.rindex(models[name].weights) == head.index('weights')
        assert line.index(models[name].spdx) == head.index('license')
        assert ('non-commercial' in line) == ('-NC-' in models[name].spdx)
    assert '1376 MB' in lines[list(models).index('dpt_large_midas')]
    assert ' ? ' in lines[list(models).index('dpt_hybrid_nyu')]
    assert 'relative depth' in lines[list(models).index('dpt_hybrid_midas')]
    assert 'metric depth, worlds_10 labels' in lines[list(models).index('dpt_tiny')]


def test_the_command_prints_json_for_machines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    for name in set(CHECKPOINTS) - {'dpt_tiny', 'dpt_hybrid_nyu'}:
        monkeypatch.delitem(CHECKPOINTS, name)
    main(['models', '--json', '--weights-dir', str(tmp_path)])
    tiny, nyu = json.loads(capsys.readouterr().out)
    assert (tiny['name'], tiny['tasks']) == ('dpt_tiny', ['depth', 'segmentation'])
    assert tiny['weights'] == 'on disk'
    assert tiny['file'].endswith('weights/dpt_tiny.safetensors')
    assert (nyu['spdx'], nyu['weights']) == ('MIT', 'missing')
    assert nyu['file'] == str(tmp_path / 'dpt_hybrid_nyu-2ce69ec7.pt')
    assert (nyu['metric'], nyu['labels'], nyu['input_size']) == (True, None, [640, 480])
    assert (tiny['size'], nyu['size'], nyu['non_commercial']) == (10_963_574, None, False)
    assert (tiny['focal'], nyu['focal']) == (None, 518.86)


def test_the_command_prints_a_table_for_people(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    for name in set(CHECKPOINTS) - {'dpt_tiny'}:
        monkeypatch.delitem(CHECKPOINTS, name)
    main(['models'])
    head, line = capsys.readouterr().out.splitlines()
    assert head.split()[:2] == ['name', 'tasks']
    assert line.split()[0] == 'dpt_tiny' and line.endswith('on disk')
