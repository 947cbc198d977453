"""What the node publishes for one camera, heard on a real graph."""

from dpt_ros.ros.outputs import OUTPUTS
from graph import BEST_EFFORT, FRAME, Graph, image_of, info_of, picture, RELIABLE
import numpy as np
import pointcloud2
import pytest
from sensor_msgs.msg import CameraInfo, Image, PointCloud2

pytestmark = pytest.mark.graph

WIDTH, HEIGHT, FOCAL = 64, 48, 60.0
PUBLISHED = [output for output in OUTPUTS if not output.topic.startswith('~/inverse_depth')]
ENCODINGS = {
    'color/image': ('rgb8', 3),
    'depth/image': ('32FC1', 4),
    'depth/color': ('rgb8', 3),
    'segmentation/mask': ('mono8', 1),
    'segmentation/confidence': ('mono8', 1),
    'segmentation/overlay': ('rgb8', 3),
}


def names(outputs):
    return [output.topic.removeprefix('~/') for output in outputs]


@pytest.fixture(scope='module')
def heard(new_domain):
    """Everything said about one image, to a reliable and to a best-effort subscriber."""
    graph = Graph(new_domain())
    try:
        graph.start_node(points__labels=True)
        inboxes = {
            (name, qos): graph.listen(f'dpt/{name}', output.message, profile)
            for output, name in zip(PUBLISHED, names(PUBLISHED), strict=True)
            for qos, profile in (('reliable', RELIABLE), ('best effort', BEST_EFFORT))
        }
        image = image_of(picture(HEIGHT, WIDTH))
        camera = graph.camera()
        graph.shoot(camera, image, info_of(WIDTH, HEIGHT, FOCAL), lambda: all(inboxes.values()))
        common = set.intersection(*(stamps(messages) for messages in inboxes.values()))
        graph.shoot(
            camera,
            image,
            info_of(WIDTH, HEIGHT, FOCAL),
            lambda: (
                common.update(
                    set.intersection(*(stamps(messages) for messages in inboxes.values()))
                )
                or common
            ),
        )
        stamp = max(common)
        yield {
            key: next(m for m in messages if m.header.stamp.sec == stamp)
            for key, messages in inboxes.items()
        }
    finally:
        graph.close()


def stamps(messages):
    return {message.header.stamp.sec for message in messages}


def array_of(image, kind):
    return np.frombuffer(image.data, kind).reshape(image.height, image.width, -1).squeeze()


@pytest.mark.parametrize('name', names(PUBLISHED))
def test_reliable_and_best_effort_subscribers_hear_the_same(heard, name):
    assert (
        heard[name, 'reliable'] == heard[name, 'best effort']
        or 'image' in name
        or (
            name == 'points'  # NaN is not equal to NaN
        )
    )
    if hasattr(heard[name, 'reliable'], 'data'):
        assert heard[name, 'reliable'].data == heard[name, 'best effort'].data


@pytest.mark.parametrize('name', names(PUBLISHED))
def test_the_header_is_the_image_s_bit_for_bit(heard, name):
    header = heard[name, 'reliable'].header
    assert header.frame_id == FRAME
    assert header.stamp.nanosec == 123456789


@pytest.mark.parametrize('name', names(PUBLISHED))
def test_every_output_has_the_size_of_the_image(heard, name):
    message = heard[name, 'reliable']
    assert (message.width, message.height) == (WIDTH, HEIGHT)


@pytest.mark.parametrize(('name', 'encoding', 'pixel'), [(n, *e) for n, e in ENCODINGS.items()])
def test_images_have_their_encoding_and_rows_without_padding(heard, name, encoding, pixel):
    image = heard[name, 'reliable']
    assert image.encoding == encoding
    assert image.step == WIDTH * pixel
    assert len(image.data) == image.step * HEIGHT
    assert not image.is_bigendian


def test_depth_is_within_what_the_weights_can_say(heard):
    depth = array_of(heard['depth/image', 'reliable'], np.float32)
    finite = depth[np.isfinite(depth)]
    assert finite.size
    assert (finite > 0).all()
    assert (finite < 20.01).all()  # the maximum of dpt_tiny


def test_labels_are_ids_of_classes(heard):
    assert array_of(heard['segmentation/mask', 'reliable'], np.uint8).max() < 10


@pytest.mark.parametrize('name', [n for n in names(PUBLISHED) if n.endswith('camera_info')])
def test_camera_info_of_the_full_size_is_the_camera_s(heard, name):
    info, given = heard[name, 'reliable'], info_of(WIDTH, HEIGHT, FOCAL)
    np.testing.assert_allclose(info.k, given.k, rtol=1e-12)
    np.testing.assert_allclose(info.p, given.p, rtol=1e-12)
    assert info.distortion_model == 'plumb_bob'


def test_the_cloud_is_depth_times_ray_to_an_independent_reader(heard):
    depth = array_of(heard['depth/image', 'reliable'], np.float32)
    cloud = pointcloud2.read_points(heard['points', 'reliable'])
    u, v = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
    z = np.where(np.isfinite(depth), depth, np.nan)
    x = (u - (WIDTH - 1) / 2) / FOCAL * z
    y = (v - (HEIGHT - 1) / 2) / FOCAL * z
    for field, truth in (('x', x), ('y', y), ('z', z)):
        np.testing.assert_allclose(cloud[field].reshape(HEIGHT, WIDTH), truth, rtol=1e-5)


def test_the_cloud_carries_color_label_and_confidence_of_its_pixel(heard):
    cloud = pointcloud2.read_points(heard['points', 'reliable'])
    packed = np.ascontiguousarray(cloud['rgb']).view(np.uint32).reshape(HEIGHT, WIDTH)
    rgb = np.stack([packed >> 16 & 255, packed >> 8 & 255, packed & 255], axis=-1)
    np.testing.assert_array_equal(rgb, picture(HEIGHT, WIDTH))
    mask = array_of(heard['segmentation/mask', 'reliable'], np.uint8)
    np.testing.assert_array_equal(cloud['label'].reshape(HEIGHT, WIDTH), mask)
    confidence = array_of(heard['segmentation/confidence', 'reliable'], np.uint8)
    shared = cloud['confidence'].reshape(HEIGHT, WIDTH) * 255
    np.testing.assert_allclose(shared, confidence, atol=0.51)


def test_topics_have_the_types_of_the_table(heard):
    kinds = {name: type(heard[name, 'reliable']) for name in names(PUBLISHED)}
    assert set(kinds.values()) == {Image, CameraInfo, PointCloud2}
