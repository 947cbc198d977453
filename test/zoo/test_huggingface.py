"""
The rules of Hugging Face: images go in and maps come out as with transformers' own processors.

The processors are built with what the repositories' `preprocessor_config.json` say (MODEL_FACTS
B.4). Where the released file and the picture are at hand, the known answers are compared too.
"""

from dataclasses import replace
from typing import Any

from dpt_ros.bench.twins import build_twins
from dpt_ros.evaluation.evaluate import OPTIONS
from dpt_ros.perception.pipeline import Frame, Perception
from dpt_ros.perception.preprocess import feed
from dpt_ros.perception.resample import antialiased
from dpt_ros.zoo import store
from dpt_ros.zoo.checkpoints import (
    Architecture,
    BoundedDepth,
    Checkpoint,
    CHECKPOINTS,
    RelativeDepth,
)
from dpt_ros.zoo.huggingface import HUGGINGFACE
from dpt_ros.zoo.keys import rename
import numpy as np
from PIL import Image
import pytest
import torch
from torch.nn import functional as F
from transformers import DPTImageProcessor

HALF = {'image_mean': [0.5] * 3, 'image_std': [0.5] * 3}
SQUARE = {'size': {'height': 384, 'width': 384}, 'resample': 2, **HALF}
DEPTH_ANYTHING = {
    'size': {'height': 518, 'width': 518},
    'resample': 3,
    'keep_aspect_ratio': True,
    'ensure_multiple_of': 14,
    'image_mean': [0.485, 0.456, 0.406],
    'image_std': [0.229, 0.224, 0.225],
}
DINOV2 = {
    'do_resize': False,
    'do_rescale': False,
    'do_pad': True,
    'size_divisor': 14,
    'image_mean': [123.675, 116.28, 103.53],
    'image_std': [58.395, 57.12, 57.375],
}
PROCESSORS: dict[str, dict[str, Any]] = {
    name: DEPTH_ANYTHING for name in HUGGINGFACE if name.startswith('depth_anything')
} | {
    'dpt_large_midas_hf': SQUARE,
    'dpt_hybrid_midas_hf': SQUARE,
    'dpt_large_ade20k_hf': SQUARE | {'size': {'height': 480, 'width': 480}},
    'dpt_beit_base_384_hf': SQUARE | {'ensure_multiple_of': 32},
    'dpt_swin2_tiny_256_hf': SQUARE | {'size': {'height': 256, 'width': 256}},
    'dpt_dinov2_small_kitti_hf': DINOV2,
}
SIZES = [(640, 480), (640, 360), (300, 700), (37, 51), (384, 384)]

# Of the picture 000000039769 of COCO val2017: the first values of the networks' own map, as the
# tests and converters of transformers have them (MODEL_FACTS B.6).
PICTURE = '000000039769.jpg'
KNOWN = {
    'dpt_large_midas_hf': [[6.3199, 6.3629, 6.4148], [6.3850, 6.3615, 6.4166]],
    'dpt_large_ade20k_hf': [[4.0480, 4.2420, 4.4360], [4.3124, 4.5693, 4.8261]],
    'dpt_hybrid_midas_hf': [[564.37, 561.46, 565.11], [543.71, 556.49, 559.58]],
    'dpt_beit_base_384_hf': [[2669.7061, 2663.7144, 2674.9399], [2633.9326, 2650.9092, 2665.4270]],
    'dpt_swin2_tiny_256_hf': [
        [1032.7719, 1025.1886, 1030.2661],
        [1023.7619, 1021.0075, 1024.9121],
    ],
    'dpt_dinov2_small_kitti_hf': [[6.0336, 7.1502, 7.4130], [6.8977, 7.2383, 7.2268]],
    'depth_anything_v1_small_hf': [[8.8223, 8.6483, 8.6216], [8.3332, 8.6047, 8.7545]],
    'depth_anything_v2_small_hf': [[2.6751, 2.6211, 2.6571], [2.5820, 2.6138, 2.6271]],
    'depth_anything_v2_base_hf': [[4.3576, 4.3723, 4.3908], [4.3231, 4.3146, 4.3611]],
    'depth_anything_v2_large_hf': [[162.2751, 161.8504, 162.8788], [160.3138, 160.8050, 161.9835]],
    'depth_anything_v2_indoor_small_hf': [[1.3349, 1.2946, 1.2801]],
    'depth_anything_v2_indoor_base_hf': [[1.4601, 1.3824, 1.4904]],
    'depth_anything_v2_indoor_large_hf': [[1.5040, 1.5019, 1.5218]],
    'depth_anything_v2_outdoor_small_hf': [[9.5804, 8.0339, 7.7386]],
    'depth_anything_v2_outdoor_base_hf': [[10.2916, 9.0933, 8.8622]],
    'depth_anything_v2_outdoor_large_hf': [[14.0137, 13.3627, 13.1080]],
}


def noise(width: int, height: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def processor(name: str) -> DPTImageProcessor:
    return DPTImageProcessor(**PROCESSORS[name])


def test_there_is_one_for_every_known_answer():
    assert HUGGINGFACE.keys() == PROCESSORS.keys() == KNOWN.keys()


@pytest.mark.parametrize('name', HUGGINGFACE)
def test_the_file_and_the_license_are_those_of_the_authors(name: str):
    entry, authors = store.checkpoint(name), CHECKPOINTS[name.removesuffix('_hf')]
    for fact in ('file', 'sha256', 'size', 'keys', 'labels', 'spdx', 'mean', 'std'):
        assert getattr(entry, fact) == getattr(authors, fact)


@pytest.mark.parametrize('size', SIZES, ids=str)
@pytest.mark.parametrize('name', HUGGINGFACE)
def test_images_go_in_as_with_transformers(name: str, size: tuple[int, int]):
    image = noise(*size)
    wanted = processor(name)(images=image, return_tensors='pt')['pixel_values']
    ours = feed(torch.from_numpy(image)[None], HUGGINGFACE[name])
    torch.testing.assert_close(ours, wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize('name', HUGGINGFACE)
def test_the_rules_of_the_authors_are_others(name: str):
    image = torch.from_numpy(noise(640, 360))[None]
    theirs, authors = (
        feed(image, entry) for entry in (HUGGINGFACE[name], CHECKPOINTS[name.removesuffix('_hf')])
    )
    positions = HUGGINGFACE[name].architecture.positions
    if theirs.shape == authors.shape and positions != 'huggingface':
        assert (theirs - authors).abs().max() > 0.1  # filtered otherwise


@pytest.mark.parametrize('mode', ['bilinear', 'bicubic'])
@pytest.mark.parametrize('size', [(20, 13), (90, 70), (48, 64)], ids=str)
def test_antialiased_resampling_is_that_of_pillow(mode: str, size: tuple[int, int]):
    image = noise(64, 48)
    ours = antialiased(torch.from_numpy(image).permute(2, 0, 1)[None], size, mode)
    how = {'bilinear': Image.Resampling.BILINEAR, 'bicubic': Image.Resampling.BICUBIC}[mode]
    theirs = np.asarray(Image.fromarray(image).resize(size[::-1], how))
    off = np.abs(ours[0].permute(1, 2, 0).numpy().astype(int) - theirs)
    assert off.max() <= 2
    assert off.mean() < 0.02


def small(entry: Checkpoint, theirs: torch.nn.Module, **changes: Any) -> store.Trained:
    """Give a ViT-Tiny with transformers' weights the rules of an entry."""
    shape = Architecture('vit_tiny_patch16_384', (2, 5, 8, 11), (24, 48, 96, 192), width=64)
    entry = replace(entry, architecture=shape, **changes)
    network = store.build(entry)
    network.load_state_dict(rename(theirs.state_dict(), entry.keys, entry.tasks[0]))
    return store.Trained('small', entry, store.freeze(network))


def test_maps_come_out_as_with_transformers():
    of_depth, of_labels = build_twins()
    image = noise(24, 18).repeat(10, 0).repeat(10, 1)  # 240x180, squeezed to a square
    depth = small(HUGGINGFACE['dpt_large_midas_hf'], of_depth)
    labels = small(HUGGINGFACE['dpt_large_ade20k_hf'], of_labels, labels='worlds_10')
    perception = Perception(depth, labels, device=torch.device('cpu'), dtype=torch.float32)
    frame = Frame('', None, image, None)
    (ours,) = perception([frame], {'inverse_depth', 'labels'}, OPTIONS)

    use = processor('dpt_large_midas_hf')
    with torch.inference_mode():
        outputs = of_depth(**use(images=image, return_tensors='pt'))
    (wanted,) = use.post_process_depth_estimation(outputs, target_sizes=[image.shape[:2]])
    assert isinstance(depth.checkpoint.depth, RelativeDepth)
    found, raw = ours.products['inverse_depth'], wanted['predicted_depth'].numpy()
    assert np.abs(found - raw).max() < 1e-3 * raw.std()

    use = processor('dpt_large_ade20k_hf')
    with torch.inference_mode():
        outputs = of_labels(**use(images=image, return_tensors='pt'))
    (classes,) = use.post_process_semantic_segmentation(outputs, target_sizes=[image.shape[:2]])
    assert len(classes.unique()) > 2
    assert (classes.numpy() == ours.products['labels']).mean() > 0.999


def test_the_known_answers_come_out_where_the_files_are():
    picture = store.weights_folder() / PICTURE
    here = [name for name in KNOWN if store.weights_path(name).is_file()]
    if not picture.is_file() or not here:
        pytest.skip(f'{PICTURE} and released weights are not in {store.weights_folder()}')
    image = torch.from_numpy(np.asarray(Image.open(picture).convert('RGB')))[None]
    for name in here:
        trained = store.load(name)
        depth, raw = trained.checkpoint.depth, trained.network(feed(image, trained.checkpoint))
        if depth is not None:
            found = raw['depth'][0]
            found = found * depth.maximum if isinstance(depth, BoundedDepth) else found
        else:
            scores = raw['segmentation'][:, :1]
            found = F.interpolate(scores, scale_factor=2, mode='bilinear', align_corners=True)
            found = found[0, 0]
        answers = torch.tensor(KNOWN[name])
        torch.testing.assert_close(found[: len(answers), :3], answers, rtol=1e-3, atol=1e-3)
