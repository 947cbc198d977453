"""CONSUMERS 1.7: nvblox."""

import numpy as np


def test_the_encodings_are_the_few_it_takes(published):
    messages = published('nvblox')
    assert messages['color/image'].encoding in ('rgb8', 'bgra8')  # not bgr8
    assert messages['depth/image'].encoding in ('32FC1', '16UC1')
    assert messages['segmentation/mask'].encoding == 'mono8'


def test_invalid_depth_is_not_above_zero_and_never_nan(published, pixels):
    # view_calculator.cu skips depth <= 0; NaN is not.
    depth = pixels(published('nvblox')['depth/image'])
    plain = pixels(published('nvblox', depth__invalid_value=np.nan)['depth/image'])
    unknown = ~np.isfinite(plain)
    assert unknown.any()
    np.testing.assert_array_equal(depth <= 0, unknown)
    assert np.isfinite(depth).all()


def test_depth_and_info_have_one_stamp(published):
    for group in ('depth', 'color'):
        messages = published('nvblox')
        assert messages[f'{group}/image'].header == messages[f'{group}/camera_info'].header


def test_k_alone_places_the_depth(published, pixels, xyz):
    messages = published('nvblox')
    depth, k = pixels(messages['depth/image']), messages['depth/camera_info'].k
    v, u = np.nonzero(depth > 0)
    z = depth[v, u]
    placed = np.stack([(u - k[2]) / k[0] * z, (v - k[5]) / k[4] * z, z], axis=-1)
    points = xyz(messages['points']).reshape(*depth.shape, 3)
    np.testing.assert_allclose(points[v, u], placed, rtol=1e-4, atol=1e-5)
