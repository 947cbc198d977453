"""From a file to a network: every format that is published, and every way a file can be bad."""

from collections import OrderedDict
from contextlib import contextmanager
from dataclasses import replace
import hashlib
import os
from pathlib import Path
import pickle
from random import Random
import re
from tempfile import TemporaryDirectory

from dpt_reference import decoder_shapes, forward, LAYOUTS, random_image, random_weights, shapes
from dpt_ros.model.dpt import freeze
from dpt_ros.zoo import store
from dpt_ros.zoo.checkpoints import Architecture, Checkpoint, CHECKPOINTS, RelativeDepth, Resize
from dpt_ros.zoo.keys import OFFICIAL_DEPTH, OFFICIAL_SEGMENTATION, rename
import pytest
from safetensors.torch import save_file
import torch

LAYOUT = LAYOUTS['tiny']
ENTRY = Checkpoint(
    Architecture(LAYOUT.timm, LAYOUT.taps, LAYOUT.widths, width=LAYOUT.features),
    Resize(224, 224),
    depth=RelativeDepth(),
    keys=OFFICIAL_DEPTH,
    file='small.pt',
    url='https://example.org/weights',
)


def save_as_before_pytorch_1_6(state, path):
    torch.save(state, path, _use_new_zipfile_serialization=False)


FORMATS = {'zip': torch.save, 'legacy': save_as_before_pytorch_1_6}


class Trap:
    """An object whose unpickling makes a folder."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


@pytest.fixture(scope='module')
def state():
    return OrderedDict(random_weights(shapes(LAYOUT, 'depth')))


@pytest.fixture
def path(tmp_path, monkeypatch):
    """Return where the weights of the model 'small' are looked for."""
    monkeypatch.setitem(CHECKPOINTS, 'small', ENTRY)
    monkeypatch.setenv('DPT_ROS_WEIGHTS', str(tmp_path))
    return tmp_path / ENTRY.file


def direct(state):
    """Give the weights to the network without any file."""
    network = store.build(ENTRY)
    network.load_state_dict(rename(state, ENTRY.keys, 'depth'))
    return freeze(network)


def expect(monkeypatch, **facts):
    monkeypatch.setitem(CHECKPOINTS, 'small', replace(ENTRY, **facts))


@pytest.mark.parametrize('save', FORMATS.values(), ids=FORMATS)
def test_a_file_becomes_the_network_that_was_published(path, state, save):
    save(state, path)
    image = random_image(64, 96)
    depth, wanted = store.load('small').network(image)['depth'], forward(state, image, LAYOUT)
    assert (depth - wanted).abs().max() < 1e-4 * wanted.std()


@pytest.mark.parametrize('save', FORMATS.values(), ids=FORMATS)
def test_a_file_becomes_what_its_tensors_do(path, state, save):
    save(state, path)
    loaded, wanted = store.load('small').network.state_dict(), direct(state).state_dict()
    assert loaded.keys() == wanted.keys()
    assert all(torch.equal(loaded[key], wanted[key]) for key in wanted)


@pytest.mark.parametrize('save', FORMATS.values(), ids=FORMATS)
def test_of_a_file_of_training_only_the_model_is_taken(path, state, save):
    save({'optimizer': {'state': {}, 'param_groups': []}, 'model': state, 'epoch': 3}, path)
    loaded = store.load('small').network.state_dict()
    assert torch.equal(loaded['backbone.cls_token'], state['pretrained.model.cls_token'])


def test_safetensors_are_read_as_well(path, state, monkeypatch):
    expect(monkeypatch, file='small.safetensors')
    save_file(dict(state), path.with_suffix('.safetensors'))
    loaded = store.load('small').network.state_dict()
    assert torch.equal(loaded['backbone.cls_token'], state['pretrained.model.cls_token'])


def test_weights_stored_in_half_precision_become_float32(path, state):
    torch.save({k: v.half() if v.is_floating_point() else v for k, v in state.items()}, path)
    parameters = store.load('small').network.parameters()
    assert {parameter.dtype for parameter in parameters} == {torch.float32}


def test_a_loaded_network_is_for_inference_on_the_cpu(path, state):
    torch.save(state, path)
    trained = store.load('small')
    assert (trained.name, trained.checkpoint) == ('small', ENTRY)
    assert not trained.network.training
    assert {(p.device.type, p.requires_grad) for p in trained.network.parameters()} == {
        ('cpu', False)
    }


@pytest.mark.parametrize('digits', [8, 64])
def test_a_checksum_is_compared_as_far_as_it_is_known(path, state, monkeypatch, digits):
    torch.save(state, path)
    expect(monkeypatch, sha256=hashlib.sha256(path.read_bytes()).hexdigest()[:digits])
    assert store.load('small').name == 'small'


def test_a_wrong_checksum_is_refused_before_the_file_is_read(path, monkeypatch):
    path.write_bytes(b'not weights at all')
    expect(monkeypatch, sha256='2f21e586')
    found = hashlib.sha256(b'not weights at all').hexdigest()
    message = f'{path} has sha256 {found} where 2f21e586 is wanted: .* delete it and download it'
    with pytest.raises(ValueError, match=message):
        store.load('small')


def test_a_wrong_size_is_refused_before_the_sum_is_made(path, monkeypatch):
    path.write_bytes(b'half')
    expect(monkeypatch, size=8, sha256=hashlib.sha256(b'half').hexdigest())
    message = f'{path} has 4 bytes where 8 are wanted: it is truncated or another file; delete it'
    with pytest.raises(ValueError, match=message):
        store.load('small')


def test_a_missing_file_is_named_with_where_to_get_it(path):
    message = (
        f'weights of small are not at {path}: run `dpt fetch small`, or bring '
        'https://example.org/weights/small.pt'
    )
    with pytest.raises(FileNotFoundError, match=message):
        store.load('small')


@contextmanager
def ordinary_user():
    """Be somebody whom permissions stop."""
    mine = os.getresuid()
    if mine[0] == 0:
        os.setresuid(65534, 65534, 0)
    try:
        yield
    finally:
        os.setresuid(*mine)


@pytest.mark.parametrize('closed', ['small.pt', ''], ids=['file', 'folder'])
def test_what_may_not_be_read_is_named(closed, monkeypatch):
    monkeypatch.setitem(CHECKPOINTS, 'small', ENTRY)
    with TemporaryDirectory() as folder:
        file = Path(folder) / ENTRY.file
        file.touch()
        Path(folder).chmod(0o755)
        (Path(folder) / closed).chmod(0)
        message = re.escape(f'this user may not open {Path(folder) / closed}: change its perm')
        with ordinary_user(), pytest.raises(PermissionError, match=message):
            store.load('small', folder)
        Path(folder).chmod(0o755)


def test_a_file_given_itself_is_taken_whatever_its_name_and_checksum(path, state, monkeypatch):
    expect(monkeypatch, sha256='00000000')
    mine = path.with_name('mine.pt')
    torch.save(state, mine)
    loaded = store.load('small', str(mine)).network.state_dict()
    assert torch.equal(loaded['backbone.cls_token'], state['pretrained.model.cls_token'])


def test_a_file_given_itself_by_its_published_name_must_be_that(path, state, monkeypatch):
    expect(monkeypatch, sha256='00000000')
    torch.save(state, path)
    with pytest.raises(ValueError, match=f'{path} has sha256 .* where 00000000 is wanted'):
        store.load('small', str(path))


def test_a_file_of_ones_own_takes_the_place_of_the_published_one(tmp_path):
    state = store.build_with('dpt_tiny').state_dict()
    state['backbone.cls_token'] = torch.full_like(state['backbone.cls_token'], 7.0)
    save_file(state, tmp_path / 'mine.safetensors')
    loaded = store.load('dpt_tiny', str(tmp_path / 'mine.safetensors')).network.state_dict()
    assert (loaded['backbone.cls_token'] == 7).all()


@pytest.mark.parametrize('share', [0.0, 0.001, 0.2, 0.7, 0.999])
@pytest.mark.parametrize('save', FORMATS.values(), ids=FORMATS)
def test_a_truncated_file_is_refused_by_its_path(path, state, save, share):
    save(state, path)
    with path.open('r+b') as file:
        file.truncate(int(path.stat().st_size * share))
    with pytest.raises(ValueError, match=f'{path} is not a file of weights that can be read'):
        store.load('small')


@pytest.mark.filterwarnings('ignore:Detected pickle protocol')
@pytest.mark.parametrize('save', FORMATS.values(), ids=FORMATS)
def test_a_file_cut_or_damaged_anywhere_in_its_head_is_refused_by_its_path(path, save):
    save(OrderedDict(random_weights(decoder_shapes(LAYOUT, 'depth'))), path)
    whole, random = path.read_bytes(), Random(0)
    cut = [whole[: random.randrange(4000)] for _ in range(150)]
    damaged = [
        whole[:start] + random.randbytes(8) + whole[start:][8:]
        for start in (random.randrange(4000) for _ in range(150))
    ]
    for content in (*cut, *damaged):
        path.write_bytes(content)
        try:
            store.read(path)  # a wrong number is only found by the checksum
        except Exception as error:
            assert isinstance(error, ValueError), repr(error)
            assert str(path) in str(error)


@pytest.mark.parametrize('content', [b'<!DOCTYPE html><html></html>', b'version https://git-lfs'])
@pytest.mark.parametrize('name', ['small.pt', 'small.safetensors'])
def test_a_page_downloaded_in_place_of_the_weights_is_refused(path, monkeypatch, name, content):
    expect(monkeypatch, file=name)
    path.with_name(name).write_bytes(content)
    with pytest.raises(ValueError, match=f'{path.with_name(name)} is not a file of weights'):
        store.load('small')


def save_as_plain_pickle(thing, path):
    path.write_bytes(pickle.dumps(thing))


@pytest.mark.filterwarnings('ignore:Detected pickle protocol')
@pytest.mark.parametrize(
    'save', [*FORMATS.values(), save_as_plain_pickle], ids=[*FORMATS, 'plain']
)
def test_code_in_a_file_is_not_run(path, tmp_path, save):
    folder = tmp_path / 'made by the file'
    save({'trap': Trap(folder)}, path)
    with pytest.raises(ValueError, match=f'{path} is not a file of weights that can be read saf'):
        store.load('small')
    assert not folder.exists()


def test_the_trap_of_the_test_above_works(tmp_path):
    folder = tmp_path / 'made by the file'
    pickle.loads(pickle.dumps(Trap(folder)))
    assert folder.exists()


@pytest.mark.parametrize(
    'content',
    [torch.zeros(3), [torch.zeros(3)], {'state': {'a': torch.zeros(3)}}, 5, {}, {'optimizer': {}}],
    ids=['tensor', 'list', 'nested', 'number', 'nothing', 'optimizer only'],
)
def test_a_file_of_something_else_is_refused_by_its_path(path, content):
    torch.save(content, path)
    with pytest.raises(ValueError, match=str(path)):
        store.load('small')


def test_weights_of_another_size_are_refused(path):
    torch.save(random_weights(shapes(replace(LAYOUT, features=32), 'depth')), path)
    with pytest.raises(ValueError, match=f'{path} does not hold the weights of small: .*shape'):
        store.load('small')


def test_weights_of_a_deeper_network_are_refused(path):
    torch.save(random_weights(shapes(replace(LAYOUT, depth=13), 'depth')), path)
    with pytest.raises(ValueError, match=rf'{path} does not hold the weights .*blocks\.12\.'):
        store.load('small')


def test_weights_of_another_task_are_refused(path):
    torch.save(random_weights(shapes(LAYOUT, 'segmentation')), path)
    with pytest.raises(ValueError, match=str(path)):
        store.load('small')


def test_weights_of_depth_are_refused_for_segmentation(path, state, monkeypatch):
    expect(monkeypatch, depth=None, labels='ade20k_150', keys=OFFICIAL_SEGMENTATION)
    torch.save(state, path)
    with pytest.raises(ValueError, match=f'{path} does not hold the weights of small'):
        store.load('small')


def test_a_tensor_missing_is_named(path, state):
    kept = {key: tensor for key, tensor in state.items() if not key.endswith('cls_token')}
    torch.save(kept, path)
    with pytest.raises(ValueError, match=rf'{path} does not .*"backbone\.cls_token"'):
        store.load('small')


def test_a_tensor_too_many_is_named_with_the_file(path, state):
    torch.save({**state, 'module.extra': torch.zeros(1)}, path)
    with pytest.raises(ValueError, match=r'module\.extra') as caught:
        store.load('small')
    assert str(path) in str(caught.value)


def test_a_model_nobody_knows_is_refused_with_those_there_are():
    message = f"no model is called 'dpt_huge'; there are {', '.join(CHECKPOINTS)}"
    with pytest.raises(ValueError, match=re.escape(message)):
        store.load('dpt_huge')


def test_the_folder_given_comes_before_the_environment(monkeypatch):
    monkeypatch.setenv('DPT_ROS_WEIGHTS', '/from/environment')
    assert store.weights_folder('/given') == Path('/given')
    assert store.weights_folder() == Path('/from/environment')


def test_weights_are_kept_in_the_cache_unless_told(monkeypatch):
    monkeypatch.delenv('DPT_ROS_WEIGHTS', raising=False)
    monkeypatch.setenv('HOME', '/home/robot')
    assert store.weights_folder() == Path('/home/robot/.cache/dpt_ros')


def test_a_folder_may_start_at_home(monkeypatch):
    monkeypatch.setenv('HOME', '/home/robot')
    assert store.weights_folder('~/weights') == Path('/home/robot/weights')


def test_the_embedded_network_needs_no_folder(tmp_path):
    result = store.load('dpt_tiny', str(tmp_path / 'nowhere')).network(random_image(64, 96))
    assert result['depth'].shape == (1, 64, 96)
    assert result['segmentation'].shape == (1, 10, 32, 48)
    assert result['depth'].min() > 0  # a share of the farthest
    assert result['depth'].max() < 1


def test_the_embedded_weights_are_small():
    assert (store.EMBEDDED / 'dpt_tiny.safetensors').stat().st_size <= 16e6


def test_a_network_without_a_file_is_refused(monkeypatch):
    expect(monkeypatch, file=None)
    with pytest.raises(ValueError, match='small has no weights'):
        store.load('small')


def test_a_segmentation_network_has_no_weights_of_training():
    keys = store.build_with('dpt_tiny').state_dict()
    assert not [key for key in keys if 'auxiliary' in key]
