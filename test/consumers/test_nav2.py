"""CONSUMERS 1.5 and 1.6: Nav2's voxel layer, and the semantic segmentation layer."""

import numpy as np
import pytest

LAYER = 'voxel_layer.{}.'


def kept(points: np.ndarray, source: dict) -> np.ndarray:
    """Buffer points of the body frame as ObservationBuffer does: what passes in z, (N,) bool."""
    z = points[:, 2]  # NaN fails both comparisons
    return (z <= source['max_obstacle_height']) & (z >= source['min_obstacle_height'])


@pytest.fixture
def source(settings):
    """Give the parameters of an observation source of the voxel layer."""
    layer = settings('nav2/costmap.yaml')

    def of(name: str) -> dict:
        prefix = f'voxel_layer.{name}.'
        return {k.removeprefix(prefix): v for k, v in layer.items() if k.startswith(prefix)}

    return of


def test_x_y_and_z_are_float32(published):
    fields = {f.name: f for f in published('nav2')['points'].fields}
    assert all(fields[name].datatype == 7 and fields[name].count == 1 for name in 'xyz')


def test_the_sources_are_told_to_be_clouds_with_a_height(source):
    for name in ('points', 'clearing'):
        assert source(name)['data_type'] == 'PointCloud2'  # the default is LaserScan
        assert source(name)['max_obstacle_height'] > 0  # the default, 0.0, keeps nothing
        assert source(name)['topic'] == '/dpt/points'


def test_the_voxel_grid_fits_its_limits(settings):
    layer = settings('nav2/costmap.yaml')
    assert layer['voxel_layer.z_voxels'] <= 16
    height = layer['voxel_layer.z_voxels'] * layer['voxel_layer.z_resolution']
    assert height >= layer['voxel_layer.points.max_obstacle_height']


def test_things_are_marked(published, xyz, in_body, source):
    points, marking = in_body(xyz(published('nav2')['points'])), source('points')
    near = np.linalg.norm(points, axis=1) < marking['obstacle_max_range']
    assert (kept(points, marking) & near).sum() > 20


def test_unknown_points_neither_mark_nor_clear(published, xyz, in_body, source):
    points = in_body(xyz(published('nav2', depth__min=2.0)['points']))
    unknown = np.isnan(points[:, 0])
    assert unknown.any()
    for name in ('points', 'clearing'):
        assert not kept(points, source(name))[unknown].any()


def test_navigation2_4297_where_nothing_is_in_range_the_costmap_clears(
    published, pixels, xyz, in_body, source, chosen
):
    messages, clearing = published('nav2'), source('clearing')
    points = in_body(xyz(messages['points']))
    nothing = np.isposinf(pixels(messages['depth/image'])).ravel()
    assert nothing.mean() > 0.05
    np.testing.assert_array_equal(points[nothing, 0], chosen('nav2').points_clearing_distance)
    assert clearing['clearing'] and not clearing['marking']
    assert kept(points, clearing)[nothing].all()
    assert (np.linalg.norm(points[nothing], axis=1) > clearing['raytrace_max_range']).all()


def test_what_stands_for_nothing_is_behind_all_that_marks(published, pixels, xyz, source):
    messages = published('nav2')
    nothing = np.isposinf(pixels(messages['depth/image'])).ravel()
    away = np.linalg.norm(xyz(messages['points'])[nothing], axis=1)
    assert (away > source('points')['obstacle_max_range']).all()


def test_semantic_layer_the_mask_is_mono8_with_steps_of_its_width(published):
    # It reads data[v * width + u].
    for topic in ('segmentation/mask', 'segmentation/confidence'):
        image = published('nav2')[topic]
        assert image.encoding == 'mono8'
        assert image.step == image.width
        assert len(image.data) == image.width * image.height


def test_semantic_layer_mask_confidence_and_cloud_have_as_many_pixels(published):
    messages = published('nav2')
    mask, cloud = messages['segmentation/mask'], messages['points']
    confidence = messages['segmentation/confidence']
    assert mask.width * mask.height == cloud.width * cloud.height
    assert (mask.width, mask.height) == (confidence.width, confidence.height)


def test_semantic_layer_pixel_and_point_of_one_index_are_one_ray(published, xyz):
    messages = published('nav2')
    info = messages['segmentation/camera_info']
    points = xyz(messages['points'])
    index = np.flatnonzero(np.isfinite(points[:, 2]))
    u = points[index, 0] / points[index, 2] * info.k[0] + info.k[2]
    v = points[index, 1] / points[index, 2] * info.k[4] + info.k[5]
    np.testing.assert_array_equal(np.round(v) * info.width + np.round(u), index)


def test_semantic_layer_stamps_are_exactly_equal(published):
    three = ('segmentation/mask', 'segmentation/confidence', 'points')
    headers = [published('nav2')[topic].header for topic in three]
    assert headers[0] == headers[1] == headers[2]


def test_semantic_layer_ids_are_those_of_its_classes_or_255(published, pixels):
    ids = set(
        np.unique(pixels(published('nav2', segmentation__min_confidence=0.6)['segmentation/mask']))
    )
    assert 255 in ids  # unlabelled: no class of label_info, so it is skipped
    assert ids - {255} <= set(range(10))


def test_semantic_layer_skips_what_stands_for_the_sky(published, pixels, xyz, settings):
    limit = settings('nav2/semantic.yaml')['semantic_layer.camera.max_obstacle_distance']
    messages = published('nav2')
    nothing = np.isposinf(pixels(messages['depth/image'])).ravel()
    away = np.linalg.norm(xyz(messages['points'])[nothing], axis=1)
    assert (away >= limit).all()


def test_semantic_layer_never_asks_for_the_cost_of_unlabelled(settings):
    # By cost it looks up the class of every pixel, also those that no class has.
    assert settings('nav2/semantic.yaml')['semantic_layer.camera.use_cost_selection'] is False
