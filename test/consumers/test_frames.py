"""CONSUMERS 1.2: frames (REP 103) and camera_info beside each image."""

from posixpath import dirname

import numpy as np
import pytest
from sensor_msgs.msg import CameraInfo, Image

CONSUMERS = ['', 'nav2', 'rtabmap', 'octomap', 'nvblox', 'laserscan']


@pytest.mark.parametrize('consumer', CONSUMERS)
def test_rep_103_every_output_keeps_the_optical_frame_and_stamp_of_the_image(
    published, consumer: str
):
    for message in published(consumer).values():
        assert message.header.frame_id == 'camera_optical_frame'
        assert (message.header.stamp.sec, message.header.stamp.nanosec) == (1700000000, 123456789)


def test_rep_103_optical_x_is_right_y_down_z_forward(published, xyz):
    cloud = published('')['points']
    points = xyz(cloud).reshape(cloud.height, cloud.width, 3)
    assert (points[np.isfinite(points[..., 2])][:, 2] > 0).all()
    assert np.nanmax(points[:, :100, 0]) < 0 < np.nanmin(points[:, -100:, 0])
    assert np.nanmin(points[-60:, :, 1]) > 0


@pytest.mark.parametrize('consumer', CONSUMERS)
def test_the_info_of_an_image_is_its_sibling_of_the_same_size(published, consumer: str):
    # image_transport's getCameraInfoTopic: <ns>/depth/image -> <ns>/depth/camera_info.
    messages = published(consumer)
    images = {t: m for t, m in messages.items() if isinstance(m, Image)}
    assert images
    for topic, image in images.items():
        info = messages[f'{dirname(topic)}/camera_info']
        assert isinstance(info, CameraInfo)
        assert (info.width, info.height) == (image.width, image.height)


@pytest.mark.parametrize('consumer', CONSUMERS)
def test_an_output_of_another_size_than_the_image_carries_its_own_intrinsics(
    published, chosen, consumer: str
):
    full = published('', output__decimation=1)['depth/camera_info']
    info = published(consumer)['depth/camera_info']
    times = chosen(consumer).output_decimation if consumer else 1
    assert (full.width, full.height) == (info.width * times, info.height * times)
    assert info.k[0] * times == pytest.approx(full.k[0])
    assert (info.k[2] + 0.5) * times == pytest.approx(full.k[2] + 0.5)
    assert (info.binning_x, info.binning_y, info.roi.width) == (0, 0, 0)
