"""CONSUMERS 1.8: octomap_server."""

import numpy as np


def test_its_maximum_range_is_set(settings):
    assert settings('octomap/octomap.yaml')['sensor_model.max_range'] > 0  # the default is -1


def test_no_point_of_the_sky_becomes_an_occupied_voxel(published, xyz, settings, chosen):
    # Within max_range the end of a ray is occupied; beyond, the ray is cut there and only clears.
    limit = settings('octomap/octomap.yaml')['sensor_model.max_range']
    points = xyz(published('octomap')['points'])
    standing_for_nothing = points[:, 2] == chosen('octomap').points_clearing_distance
    assert standing_for_nothing.any()
    assert (np.linalg.norm(points[standing_for_nothing], axis=1) > limit).all()
    assert (np.linalg.norm(points, axis=1) <= limit).any()


def test_no_nan_reaches_its_filters(published, xyz):
    cloud = published('octomap')['points']
    assert np.isfinite(xyz(cloud)).all()
    assert cloud.is_dense and cloud.height == 1


def test_the_color_server_finds_rgb(published):
    assert 'rgb' in {field.name for field in published('octomap')['points'].fields}


def test_people_are_no_part_of_the_map(published, pixels, chosen):
    assert chosen('octomap').points_exclude_classes == 'person'
    only = published('octomap', points__only_classes='person', points__exclude_classes='')
    mask = pixels(only['segmentation/mask'])
    depth = pixels(only['depth/image'])
    people = (mask == 9) & (np.isfinite(depth) | np.isposinf(depth))
    assert only['points'].width == people.sum()
