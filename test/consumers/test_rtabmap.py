"""CONSUMERS 1.4: RTAB-Map."""

import numpy as np
import pytest

COLORS = {'mono8', 'mono16', 'bgr8', 'rgb8', 'bgra8', 'rgba8'}
DEPTHS = {'32FC1', '16UC1', 'mono16'}


def test_the_encodings_are_among_those_it_takes(published):
    messages = published('rtabmap')
    assert messages['color/image'].encoding in COLORS
    assert messages['depth/image'].encoding in DEPTHS


@pytest.mark.parametrize('decimation', [1, 2, 3, 7])  # 320x240 does not divide by 7
def test_rgb_is_the_same_integer_multiple_of_depth_in_both_axes(published, decimation: int):
    messages = published('rtabmap', output__decimation=decimation)
    rgb, depth = messages['color/image'], messages['depth/image']
    assert rgb.width % depth.width == rgb.height % depth.height == 0
    assert rgb.width // depth.width == rgb.height // depth.height


def test_the_camera_s_own_image_is_a_multiple_too_where_the_decimation_divides(published, chosen):
    depth, times = published('rtabmap')['depth/image'], chosen('rtabmap').output_decimation
    assert (depth.width * times, depth.height * times) == (320, 240)


def test_stamps_are_equal_so_exact_pairing_works(published, settings):
    assert settings('rtabmap/rtabmap.yaml')['approx_sync'] is False
    messages = published('rtabmap')
    three = ('color/image', 'color/camera_info', 'depth/image')
    assert (
        len({(m.header.stamp.sec, m.header.stamp.nanosec) for m in map(messages.get, three)}) == 1
    )


def test_the_info_of_the_colors_is_of_their_size_and_calibrated(published):
    messages = published('rtabmap')
    info, color = messages['color/camera_info'], messages['color/image']
    assert (info.width, info.height) == (color.width, color.height)
    assert info.k[0] > 0 and info.p[0] > 0


def test_what_it_takes_for_unknown_is_what_is_unknown(published, pixels):
    # util2d::getDepth: a float is unknown if 0 or not finite, 16 bits if 0 or 65535.
    metres = pixels(published('rtabmap')['depth/image'])
    millimetres = pixels(published('rtabmap', depth__encoding='16UC1')['depth/image'])
    unknown = ~np.isfinite(metres) | (metres == 0)
    assert unknown.any()
    np.testing.assert_array_equal(np.isin(millimetres, (0, 65535)), unknown)


def test_the_map_looks_no_farther_than_depth_goes(chosen, settings):
    theirs = settings('rtabmap/rtabmap.yaml')
    assert float(theirs['Grid/RangeMax']) <= chosen('rtabmap').depth_max
    assert float(theirs['Vis/MaxDepth']) <= chosen('rtabmap').depth_max
