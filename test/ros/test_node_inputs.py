"""What the node makes of cameras as they are: compressed, uncalibrated, wrong, or silent."""

from array import array

import cv2
from diagnostic_msgs.msg import DiagnosticArray
from dpt_ros.model.dpt import DPT
from dpt_ros.perception.camera import Camera
from graph import image_of, info_of, picture
import numpy as np
import pytest
from rclpy.parameter import Parameter
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2

pytestmark = pytest.mark.graph

SIZE = (64, 48)


@pytest.fixture
def passes(monkeypatch):
    """Count the passes through a network, with the tasks of each."""
    seen, forward = [], DPT.forward

    def counting(self, image, wanted=None):
        seen.append(frozenset(wanted))
        return forward(self, image, wanted)

    monkeypatch.setattr(DPT, 'forward', counting)
    return seen


def diagnosed(inbox):
    """Return the values of the newest diagnostics."""
    return {pair.key: pair.value for pair in inbox[-1].status[0].values} if inbox else {}


def test_a_compressed_image_is_read_as_the_raw_one(graph):
    graph.start_node(image_transport='compressed', segmentation__overlay_opacity=0.0)
    overlays = graph.listen('dpt/segmentation/overlay', Image)
    camera = graph.camera(CompressedImage, 'image/compressed')
    pixels = picture()
    png = cv2.imencode('.png', pixels[..., ::-1])[1]
    image = CompressedImage(format='rgb8; png compressed bgr8', data=array('B', png.tobytes()))
    graph.shoot(camera, image, info_of(*SIZE), lambda: overlays)
    overlay = np.frombuffer(overlays[0].data, np.uint8).reshape(48, 64, 3)
    np.testing.assert_array_equal(overlay, pixels)


@pytest.mark.parametrize('info', [None, CameraInfo(width=64, height=48)], ids=['none', 'zeros'])
def test_without_calibration_depth_flows_and_points_wait(graph, info):
    graph.start_node()
    depths, clouds = (
        graph.listen('dpt/depth/image', Image),
        graph.listen('dpt/points', PointCloud2),
    )
    camera, image = graph.camera(), image_of(picture())
    graph.shoot(camera, image, info, lambda: len(depths) >= 3)
    assert not clouds
    graph.shoot(camera, image, info_of(*SIZE), lambda: clouds)


def test_a_camera_info_of_another_size_costs_the_points_only(graph):
    graph.start_node()
    depths, clouds = (
        graph.listen('dpt/depth/image', Image),
        graph.listen('dpt/points', PointCloud2),
    )
    infos = graph.listen('dpt/depth/camera_info', CameraInfo)
    camera, image = graph.camera(), image_of(picture())
    graph.shoot(camera, image, info_of(640, 480), lambda: len(depths) >= 3)
    assert not clouds
    assert not infos


def test_a_bad_image_costs_itself_and_is_counted(graph):
    graph.start_node()
    depths = graph.listen('dpt/depth/image', Image)
    told = graph.listen('/diagnostics', DiagnosticArray)
    camera = graph.camera()
    good = image_of(picture())
    graph.shoot(camera, good, None, lambda: depths)
    bad = [image_of(picture(), 'kodachrome'), image_of(picture())]
    bad[1].data = bad[1].data[:-1]
    for image in bad:
        camera[0].publish(image)
    graph.until(lambda: int(diagnosed(told).get('faults: image', 0)) >= 1, 'the fault')
    count = len(depths)
    graph.shoot(camera, good, None, lambda: len(depths) > count)


def test_a_stamp_from_before_time_began_costs_nothing(graph):
    graph.start_node()
    depths = graph.listen('dpt/depth/image', Image)
    told = graph.listen('/diagnostics', DiagnosticArray)
    graph._stamp = -(2**31) - 1000
    graph.shoot(graph.camera(), image_of(picture()), None, lambda: depths and diagnosed(told))
    graph.until(lambda: int(diagnosed(told).get('frames out', 0)), 'the count')
    assert depths[0].header.stamp.sec < -(10**9)
    assert not [name for name in diagnosed(told) if name.startswith('faults')]


def test_nothing_is_computed_that_nobody_subscribed_to(graph, passes):
    graph.start_node()
    passes.clear()  # of the warm-up
    told = graph.listen('/diagnostics', DiagnosticArray)
    camera, image = graph.camera(), image_of(picture())
    graph.shoot(
        camera, image, info_of(*SIZE), lambda: int(diagnosed(told).get('frames in', 0)) > 2
    )
    assert not passes
    infos = graph.listen('dpt/depth/camera_info', CameraInfo)
    graph.shoot(camera, image, info_of(*SIZE), lambda: infos)
    assert not passes
    masks = graph.listen('dpt/segmentation/mask', Image)
    graph.shoot(camera, image, info_of(*SIZE), lambda: masks)
    assert set(passes) == {frozenset({'segmentation'})}


def test_a_rectified_image_obeys_p(graph):
    graph.start_node(arguments=['-r', 'image:=image_rect'])
    clouds = graph.listen('dpt/points', PointCloud2)
    info = info_of(*SIZE, focal=60.0)
    info.p[0] = info.p[5] = 30.0
    graph.shoot(graph.camera(topic='image_rect'), image_of(picture()), info, lambda: clouds)
    cloud = np.frombuffer(clouds[0].data, np.float32).reshape(48, 64, 8)
    np.testing.assert_allclose(cloud[0, 0, 0] / cloud[0, 0, 2], -31.5 / 30.0, rtol=1e-5)
    # nvblox and others look at K alone.
    infos = graph.listen('dpt/depth/camera_info', CameraInfo)
    graph.shoot(graph.camera(topic='image_rect'), image_of(picture()), info, lambda: infos)
    assert (infos[0].k[0], infos[0].p[0]) == (30.0, 30.0)


def test_decimation_shrinks_every_output_alike_at_once(graph):
    node = graph.start_node()
    clouds = graph.listen('dpt/points', PointCloud2)
    infos = graph.listen('dpt/depth/camera_info', CameraInfo)
    camera, image = graph.camera(), image_of(picture())
    graph.shoot(camera, image, info_of(*SIZE), lambda: clouds)
    (result,) = node.set_parameters([Parameter('output.decimation', value=2)])
    assert result.successful, result.reason
    graph.shoot(camera, image, info_of(*SIZE), lambda: clouds[-1].width == 32 == infos[-1].width)
    assert clouds[-1].height == 24
    # The left edge of the image stays its left edge: (u + 1/2) halves.
    np.testing.assert_allclose(infos[-1].k[2] + 0.5, (31.5 + 0.5) / 2)


def test_a_camera_that_zooms_is_followed_and_one_that_stays_is_computed_once(graph, monkeypatch):
    computed, rays = [], Camera.rays
    monkeypatch.setattr(Camera, 'rays', lambda camera: computed.append(camera.fx) or rays(camera))
    graph.start_node()
    computed.clear()  # of the warm-up
    clouds = graph.listen('dpt/points', PointCloud2)
    infos = graph.listen('dpt/depth/camera_info', CameraInfo)
    camera, image = graph.camera(), image_of(picture())
    for focal in (60.0, 40.0, 60.0):
        info, seen = info_of(*SIZE, focal=focal), len(clouds)

        def followed(wanted=-31.5 / focal, focal=focal, seen=seen):
            points = [np.frombuffer(c.data, np.float32)[:3] for c in clouds[seen:]]
            fit = [np.isclose(p[0] / p[2], wanted) for p in points]
            return sum(fit) >= 2 and infos and infos[-1].k[0] == focal

        graph.shoot(camera, image, info, followed)
    assert computed == [60.0, 40.0]


def test_diagnostics_tell_what_goes_on(graph):
    graph.start_node()
    told = graph.listen('/diagnostics', DiagnosticArray)
    camera, image = graph.camera(), image_of(picture())
    graph.listen('dpt/depth/image', Image)
    graph.shoot(camera, image, None, lambda: told and 'frames out' in told[-1].status[0].message)
    status = told[-1].status[0]
    assert status.name == '/dpt: perception'
    assert status.hardware_id == 'cpu'
    values = diagnosed(told)
    assert int(values['frames out']) >= 1
    assert float(values['device memory [MB]']) > 0
    for stage in ('decode', 'network', 'publish', 'total', 'age'):
        p50, p95, largest = map(float, values[f'{stage} [ms] p50, p95, max'].split(','))
        assert p50 <= p95 <= largest
