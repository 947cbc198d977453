"""The plain transformer against timm's: equal parts, and equal numbers from equal weights."""

from dataclasses import replace

from dpt_ros.model.transformer import Shape, SHAPES, Transformer
import pytest
import timm
import torch

FEW = 2  # blocks, where numbers are compared


def shapes_of(vit: torch.nn.Module) -> dict[str, torch.Size]:
    """Return the sizes of all tensors but the classifier's."""
    state = vit.state_dict()
    return {key: state[key].shape for key in state if not key.startswith('head.')}


@pytest.mark.parametrize('name', SHAPES)
def test_parts_are_called_and_sized_as_those_of_timm(name: str):
    with torch.device('meta'):
        ours, theirs = Transformer(SHAPES[name]), timm.create_model(name)
    assert shapes_of(ours) == shapes_of(theirs)
    assert ours.patch_embed.feat_ratio() == theirs.patch_embed.feat_ratio()
    assert ours.embed_dim == theirs.embed_dim


@pytest.mark.parametrize('name', ['vit_tiny_patch16_224', 'vit_small_patch14_dinov2'])
def test_blocks_compute_what_those_of_timm_do(name: str):
    theirs = timm.create_model(name, depth=FEW, num_classes=0).eval()
    for number, parameter in enumerate(theirs.parameters()):  # scales of 1e-5 would hide a block
        torch.nn.init.normal_(parameter, std=0.05, generator=torch.Generator().manual_seed(number))
    ours = Transformer(replace(SHAPES[name], depth=FEW)).eval()
    ours.load_state_dict(theirs.state_dict())
    image = torch.rand((2, 3, 56, 56) if 'patch14' in name else (2, 3, 64, 32))
    with torch.inference_mode():
        patches = ours.patch_embed.proj(image)
        tokens = torch.randn(2, 7, ours.embed_dim)
        found = ours.norm(ours.blocks(tokens))
        torch.testing.assert_close(found, theirs.norm(theirs.blocks(tokens)))
        torch.testing.assert_close(patches, theirs.patch_embed.proj(image))


def test_training_begins_with_weights_as_those_of_timm():
    torch.manual_seed(0)
    theirs = timm.create_model('vit_tiny_patch16_224', depth=FEW).state_dict()
    ours = Transformer(Shape(192, 3, depth=FEW, side=224)).state_dict()
    for name, tensor in ours.items():
        if tensor.unique().numel() > 1:
            assert tensor.std().item() == pytest.approx(theirs[name].std().item(), rel=0.2), name
        else:
            torch.testing.assert_close(tensor, theirs[name])
