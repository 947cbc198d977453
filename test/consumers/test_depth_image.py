"""CONSUMERS 1.1: depth images (REP 118, REP 117) and those who read them."""

from typing import Any

import numpy as np
import pytest


def test_rep_118_depth_is_32fc1_metres_along_the_optical_axis(published, pixels, xyz):
    messages = published('')
    depth = messages['depth/image']
    assert depth.encoding == '32FC1'
    z = xyz(messages['points'])[:, 2].reshape(depth.height, depth.width)
    known = np.isfinite(pixels(depth))
    np.testing.assert_array_equal(z[known], pixels(depth)[known])  # z, not the length of the ray
    assert 0.3 < np.median(pixels(depth)[known]) < 20  # metres, of a yard


def test_rep_117_the_sky_is_plus_inf_and_nothing_is_minus_inf(published, pixels):
    messages = published('')
    depth, labels = pixels(messages['depth/image']), pixels(messages['segmentation/mask'])
    sky = labels == 3  # of worlds_10
    assert sky.mean() > 0.05
    assert np.isposinf(depth[sky]).all()
    assert not np.isneginf(depth).any()


def test_depth_traits_whatever_is_finite_is_a_surface(published, pixels):
    # depth_image_proc takes every finite float for valid: 0.0 would be a point in the camera.
    depth = pixels(published('')['depth/image'])
    assert (depth[np.isfinite(depth)] >= 0.1).all()


@pytest.mark.parametrize('maximum', [5.0, 100.0])
def test_16uc1_is_millimetres_and_zero_where_unknown(published, pixels, maximum: float):
    metres = pixels(published('', depth__max=maximum)['depth/image'])
    image = published('', depth__max=maximum, depth__encoding='16UC1')['depth/image']
    assert image.encoding == '16UC1'
    millimetres = pixels(image)
    known = np.isfinite(metres)
    assert (millimetres[~known] == 0).all()
    np.testing.assert_allclose(millimetres[known] / 1000, metres[known], atol=0.00051)
    assert (millimetres < 65535).all()  # which RTAB-Map takes for unknown


def decompressed(depth: np.ndarray, depth_max: float, quantization: float = 100.0) -> np.ndarray:
    """Send depth through compressedDepth: inverse depth in 16 bits, by its codec's definition."""
    a = quantization * (quantization + 1)
    b = 1 - a / depth_max
    with np.errstate(divide='ignore', invalid='ignore'):
        stored = np.where(depth < depth_max, a / depth + b, 0).astype(np.uint16)
        return np.where(stored > 0, a / (stored.astype(float) - b), np.nan)


@pytest.mark.parametrize('consumer', ['nav2', 'rtabmap', 'octomap', 'laserscan'])
def test_compressed_depth_keeps_all_that_is_published_with_its_default_depth_max(
    published, pixels, consumer: str
):
    depth = pixels(published(consumer)['depth/image'])
    known = np.isfinite(depth)
    assert known.any()
    back = decompressed(depth, depth_max=10.0)
    np.testing.assert_allclose(back[known], depth[known], rtol=0.02)
    assert np.isnan(back[~known]).all()


def test_compressed_depth_loses_what_is_beyond_its_depth_max(published, pixels):
    # So it must be raised to depth.max outdoors, where 10 m is near.
    depth = pixels(published('')['depth/image'])
    far = np.isfinite(depth) & (depth > 2)
    assert far.any()
    assert np.isnan(decompressed(depth, depth_max=2.0)[far]).all()
    assert np.isfinite(decompressed(depth, depth_max=100.0)[far]).all()


def use_point(new: float, old: float, low: float, high: float) -> bool:
    """Decide as depthimage_to_laserscan does whether a range takes the place of another."""
    if not np.isfinite(new) and not np.isfinite(old):
        return not np.isnan(new)
    return low <= new <= high and (not np.isfinite(old) or new < old)


def test_laserscan_reads_the_encoding_and_ends_at_the_range_of_its_file(
    published, pixels, settings: Any
):
    scan = settings('laserscan/laserscan.yaml')
    image = published('laserscan')['depth/image']
    assert image.encoding in ('32FC1', '16UC1')
    depth = pixels(image)
    assert depth[np.isfinite(depth)].max() <= scan['range_max']


def test_laserscan_gets_the_nearest_thing_of_its_rows_or_plus_inf(
    published, pixels, settings: Any
):
    scan, messages = settings('laserscan/laserscan.yaml'), published('laserscan')
    depth, info = pixels(messages['depth/image']), messages['depth/camera_info']
    first = int(info.k[5] - scan['scan_height'] / 2)
    rows = depth[first:][: scan['scan_height']]
    assert len(rows) == scan['scan_height']  # within the image
    for column in rows.T:
        kept = np.nan
        for value in column:
            if use_point(value, kept, scan['range_min'], scan['range_max']):
                kept = value
        finite = column[np.isfinite(column)]
        beyond = np.inf if np.isposinf(column).any() else np.nan
        np.testing.assert_equal(kept, finite.min() if finite.size else beyond)
