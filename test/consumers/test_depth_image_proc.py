"""CONSUMERS 1.3: the cloud of depth_image_proc, field by field, and colors of depth's size."""

import importlib.util

import numpy as np
import pointcloud2
import pytest

XYZRGB = {'x': (0, 7), 'y': (4, 7), 'z': (8, 7), 'rgb': (16, 7)}  # offset; 7 is FLOAT32


def layout(cloud: object) -> dict[str, tuple[int, int]]:
    return {f.name: (f.offset, f.datatype) for f in cloud.fields if f.count == 1}


def test_the_fields_are_those_of_xyzrgb(published):
    cloud = published('')['points']
    assert layout(cloud) == XYZRGB
    assert (cloud.point_step, cloud.row_step) == (32, 32 * cloud.width)
    assert (cloud.is_bigendian, cloud.is_dense) == (False, False)
    assert len(cloud.data) == cloud.row_step * cloud.height


def test_label_and_confidence_lie_in_the_padding(published):
    cloud = published('', points__labels=True)['points']
    extra = {'label': (20, 6), 'confidence': (24, 7)}  # 6 is UINT32
    assert layout(cloud) == XYZRGB | extra
    assert cloud.point_step == 32


def test_the_cloud_is_organized_and_nan_where_depth_is_invalid(published, pixels, xyz):
    messages = published('')
    depth, cloud = messages['depth/image'], messages['points']
    assert (cloud.height, cloud.width) == (depth.height, depth.width)
    invalid = ~np.isfinite(pixels(depth)).ravel()
    assert invalid.any()
    assert np.isnan(xyz(cloud)[invalid]).all()
    assert np.isfinite(xyz(cloud)[~invalid]).all()


def test_rgb_is_packed_as_pcl_does(published, pixels):
    messages = published('')
    rgb = np.ascontiguousarray(pointcloud2.read_points(messages['points'])['rgb']).view(np.uint32)
    color = pixels(messages['color/image']).reshape(-1, 3).astype(np.uint32)
    packed = color[:, 0] << 16 | color[:, 1] << 8 | color[:, 2]
    np.testing.assert_array_equal(rgb.ravel(), packed)


def test_its_own_cloud_of_our_depth_is_ours(published, pixels, xyz):
    # depth_image_proc/conversions.hpp: P's focal lengths and center, one point a pixel.
    messages = published('nav2')
    depth, info = pixels(messages['depth/image']), messages['depth/camera_info']
    z = np.where(np.isfinite(depth), depth, np.nan)
    v, u = np.indices(depth.shape)
    x, y = (u - info.p[2]) * z / info.p[0], (v - info.p[6]) * z / info.p[5]
    cloud = published('nav2', points__clearing_distance=0.0)['points']
    np.testing.assert_allclose(xyz(cloud), np.stack([x, y, z], -1).reshape(-1, 3), rtol=1e-4)


@pytest.mark.parametrize('consumer', ['', 'nav2', 'rtabmap'])
def test_colors_have_the_size_of_depth_or_it_returns(published, consumer: str):
    messages = published(consumer)
    color, depth = messages['color/image'], messages['depth/image']
    assert (color.width, color.height) == (depth.width, depth.height)


@pytest.mark.skipif(
    importlib.util.find_spec('sensor_msgs_py') is None, reason='comes with ROS, not as a wheel'
)
@pytest.mark.parametrize('organized', [True, False])
def test_sensor_msgs_py_reads_the_same_points(published, xyz, organized: bool):
    from sensor_msgs_py import point_cloud2

    cloud = published('', points__labels=True, points__organized=organized)['points']
    points = point_cloud2.read_points(cloud)
    read = np.stack([points[name] for name in 'xyz'], axis=-1)
    np.testing.assert_array_equal(read.reshape(-1, 3), xyz(cloud))
    ours = pointcloud2.read_points(cloud)
    for name in ('rgb', 'label', 'confidence'):
        theirs = np.asarray(points[name]).ravel()
        np.testing.assert_array_equal(theirs, np.asarray(ours[name]).ravel())


@pytest.mark.skipif(
    importlib.util.find_spec('cv_bridge') is None, reason='comes with ROS, not as a wheel'
)
@pytest.mark.parametrize('encoding', ['32FC1', '16UC1'])
def test_cv_bridge_reads_the_same_images(published, pixels, encoding: str):
    from cv_bridge import CvBridge

    messages = published('', depth__encoding=encoding)
    for topic in ('depth/image', 'segmentation/mask', 'segmentation/confidence', 'color/image'):
        read = CvBridge().imgmsg_to_cv2(messages[topic], 'passthrough')
        np.testing.assert_array_equal(read, pixels(messages[topic]))
