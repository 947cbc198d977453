"""One backbone for several tasks, and which inputs are refused."""

from dpt_ros.model.backbone import check_multiples, Hybrid, StandardizedConv2d, ViT
from dpt_ros.model.decoder import Decoder
from dpt_ros.model.dpt import DPT, freeze, Task
from dpt_ros.model.heads import DepthHead, SegmentationHead
import pytest
import timm
import torch


def build(*heads):
    torch.manual_seed(0)
    backbone = ViT(timm.create_model('vit_tiny_patch16_224', depth=4), (0, 1, 2, 3))
    tasks = [Task(Decoder(backbone.channels, (8, 8, 8, 8), 8), head) for head in heads]
    return DPT(backbone, tasks)


def calls(module):
    """Return a list that grows by one with every call of `module`."""
    seen = []
    module.register_forward_hook(lambda *_: seen.append(module))
    return seen


@pytest.fixture(scope='module')
def image():
    return torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def network():
    return freeze(build(DepthHead(8), SegmentationHead(8, 11)))


def test_both_tasks_come_from_one_pass_of_the_backbone(network, image):
    seen = calls(network.backbone)
    result = network(image)
    assert {name: tuple(x.shape) for name, x in result.items()} == {
        'depth': (2, 64, 96),
        'segmentation': (2, 11, 32, 48),
    }
    assert len(seen) == 1


@pytest.mark.parametrize(
    ('wanted', 'other'), [('depth', 'segmentation'), ('segmentation', 'depth')]
)
def test_only_the_task_wanted_is_computed(network, image, wanted, other):
    computed, idle = calls(network.tasks[wanted]), calls(network.tasks[other])
    assert set(network(image, [wanted])) == {wanted}
    assert (len(computed), len(idle)) == (1, 0)


@pytest.mark.parametrize('name', ['depth', 'segmentation'])
def test_a_task_yields_the_same_alone_and_in_company(network, image, name):
    assert torch.equal(network(image, {name})[name], network(image)[name])


@pytest.mark.parametrize('name', ['depth', 'segmentation'])
def test_an_image_yields_the_same_alone_and_in_a_batch(network, image, name):
    together, alone = network(image)[name], network(image[1:])[name]
    torch.testing.assert_close(together[1:], alone, rtol=1e-4, atol=1e-5)


def test_a_network_provides_what_its_heads_do():
    assert build(DepthHead(8)).provides == {'depth'}
    assert build(DepthHead(8), SegmentationHead(8, 11)).provides == {'depth', 'segmentation'}


def test_two_heads_of_a_kind_are_refused():
    with pytest.raises(ValueError, match=r"may stand once, got \['depth', 'depth'\]"):
        build(DepthHead(8), DepthHead(8))


@pytest.mark.parametrize('size', [(16, 16), (48, 80), (16, 176)])
def test_sides_of_an_odd_number_of_patches_keep_their_size(network, size):
    result = network(torch.zeros(1, 3, *size))
    assert result['depth'].shape == (1, *size)
    assert result['segmentation'].shape == (1, 11, size[0] // 2, size[1] // 2)


@pytest.mark.parametrize(
    ('width', 'height', 'multiple', 'nearest'),
    [
        (100, 64, 16, '96x64'),
        (640, 470, 16, '640x464'),
        (647, 479, 32, '640x480'),
        (520, 392, 14, '518x392'),
        (5, 5, 16, '16x16'),
        (0, 32, 16, '16x32'),
    ],
)
def test_a_size_refused_comes_with_the_nearest_that_is_not(width, height, multiple, nearest):
    message = (
        f'network input of {width}x{height} pixels cannot be cut into patches: width and height '
        f'must be multiples of {multiple}; use {nearest}$'
    )
    with pytest.raises(ValueError, match=message):
        check_multiples(width, height, multiple)
    check_multiples(*map(int, nearest.split('x')), multiple)  # and that one passes


def test_an_image_of_a_wrong_size_never_reaches_the_backbone(network):
    seen = calls(network.backbone)
    with pytest.raises(ValueError, match=r'100x64 pixels .* use 96x64'):
        network(torch.zeros(1, 3, 64, 100))
    assert not seen


def test_a_frozen_network_is_for_inference_only():
    network = freeze(build(SegmentationHead(8, 11)))
    assert not any(module.training for module in network.modules())
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_a_frozen_network_computes_the_same_without_batch_norms(image):
    backbone = ViT(timm.create_model('vit_tiny_patch16_224', depth=4), (0, 1, 2, 3))
    decoder = Decoder(backbone.channels, (8, 8, 8, 8), 8, batch_norm=True)
    network = DPT(backbone, [Task(decoder, SegmentationHead(8, 11, auxiliary=True))]).eval()
    norms = [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for index, norm in enumerate(norms):
        generator = torch.Generator().manual_seed(index)
        for tensor in (norm.running_mean, norm.running_var, norm.weight, norm.bias):
            tensor.data = 0.5 + torch.rand(8, generator=generator)
    with torch.inference_mode():
        wanted = network(image)['segmentation']
    for _ in range(2):  # once more changes nothing
        given = freeze(network)(image)['segmentation']
        torch.testing.assert_close(given, wanted, rtol=0, atol=2e-5 * wanted.std().item())
    assert len(norms) == 16
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in network.modules())


def test_a_frozen_hybrid_has_no_weights_left_to_standardize():
    backbone = Hybrid(timm.create_model('vit_base_r50_s16_384', depth=2), (0, 1), 'dpt')
    decoder = Decoder(backbone.channels, (256, 512, 8, 8), 8, kept=2)
    network = freeze(DPT(backbone, [Task(decoder, DepthHead(8))]))
    convolutions = [m for m in network.modules() if isinstance(m, StandardizedConv2d)]
    assert convolutions
    assert all(conv.frozen for conv in convolutions)
