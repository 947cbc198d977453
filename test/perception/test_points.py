"""Points: geometry by hand, and the bytes that depth_image_proc's consumers read."""

from dpt_ros.perception.camera import Camera
from dpt_ros.perception.points import choose, FIELDS, LABEL_FIELDS, pack_points, POINT_STEP
import numpy as np
import pytest
import torch

pytestmark = pytest.mark.usefixtures('each_way')

CAMERA = Camera(48, 36, 40.0, 42.0, 23.0, 18.5)
RAYS = torch.from_numpy(CAMERA.rays()).permute(2, 0, 1)
BLACK = torch.zeros(36, 48, 3, dtype=torch.uint8)


def one_point(color: tuple[int, int, int], *extra: torch.Tensor) -> bytes:
    """Pack a single point at 2 m straight ahead and return its bytes."""
    rays, colors = torch.zeros(2, 1, 1), torch.tensor(color, dtype=torch.uint8)[None, None]
    return pack_points(torch.full((1, 1), 2.0), rays, colors, *extra).numpy().tobytes()


def test_points_of_a_tilted_plane_lie_on_it():
    # A plane n . p = d is seen along ray r at depth d / (n . r): no rendering, no tolerance games.
    normal, distance = np.array([0.2, -0.3, 0.93]), 4.0
    v, u = np.indices((CAMERA.height, CAMERA.width))
    rays = np.stack([(u - 23.0) / 40.0, (v - 18.5) / 42.0, np.ones(u.shape)], axis=-1)
    depth = torch.from_numpy((distance / (rays @ normal)).astype(np.float32))
    points = pack_points(depth, RAYS, BLACK).numpy()[..., :3]
    np.testing.assert_allclose(points @ normal, distance, rtol=1e-6)


def test_z_is_the_depth_itself():
    depth = torch.rand(36, 48) + 1
    assert torch.equal(pack_points(depth, RAYS, BLACK)[..., 2], depth)


def test_a_point_projects_to_its_pixel():
    x, y, z = pack_points(torch.full((36, 48), 3.0), RAYS, BLACK)[7, 41, :3].tolist()
    np.testing.assert_allclose([40 * x / z + 23, 42 * y / z + 18.5], [41, 7], rtol=1e-6)


def test_what_is_not_finite_has_no_place():
    depth = torch.full((36, 48), 2.0)
    depth[0, 0], depth[0, 1], depth[0, 2] = torch.nan, torch.inf, -torch.inf
    places = pack_points(depth, RAYS, BLACK)[..., :3]
    assert places[0, :3].isnan().all()
    assert places[0, 3:].isfinite().all() and places[1:].isfinite().all()


def test_a_pixel_without_a_ray_has_no_place():
    rays = RAYS.clone()
    rays[0, 4, 5] = torch.nan
    assert pack_points(torch.full((36, 48), 2.0), rays, BLACK)[4, 5, :3].isnan().all()


def test_a_pixel_at_infinity_keeps_its_color():
    colors = torch.tensor([1, 2, 3], dtype=torch.uint8).expand(36, 48, 3)
    points = pack_points(torch.full((36, 48), torch.inf), RAYS, colors).numpy()
    assert points[0, 0].tobytes()[16:19] == bytes([3, 2, 1])


def test_a_point_has_32_bytes():
    assert len(one_point((0, 0, 0))) == POINT_STEP == 32


def test_bytes_16_to_18_are_blue_green_red():
    assert one_point((201, 102, 33))[16:20] == bytes([33, 102, 201, 0])


def test_every_color_survives_the_trip_through_a_float():
    # 0x7f800001 and its like are signalling NaN, but the first byte is 0 and no color is one.
    for color in ((0, 0, 0), (255, 255, 255), (127, 128, 1), (0, 0, 1), (128, 0, 0)):
        assert one_point(color)[16:19] == bytes(color[::-1])


def test_label_and_confidence_stand_in_the_padding():
    data = one_point((1, 2, 3), torch.tensor([[149]]), torch.tensor([[0.75]]))
    assert np.frombuffer(data, '<u4', 1, 20)[0] == 149
    assert np.frombuffer(data, '<f4', 1, 24)[0] == 0.75


def test_padding_that_nobody_asked_for_is_zero():
    data = one_point((1, 2, 3))
    assert data[12:16] == bytes(4)
    assert data[20:] == bytes(12)


def test_the_fields_are_those_of_depth_image_proc():
    assert FIELDS == {'x': (0, 'f4'), 'y': (4, 'f4'), 'z': (8, 'f4'), 'rgb': (16, 'f4')}
    assert LABEL_FIELDS == {'label': (20, 'u4'), 'confidence': (24, 'f4')}


def test_points_go_to_memory_that_is_spare_where_loops_write_them(request):
    spare = torch.zeros(36 * 48 * POINT_STEP, dtype=torch.uint8)
    points = pack_points(torch.full((36, 48), 2.0), RAYS, BLACK, spare=spare)
    there = points.data_ptr() == spare.data_ptr()
    assert there == ('compiled loops' in request.node.name)
    assert torch.equal(points, pack_points(torch.full((36, 48), 2.0), RAYS, BLACK))


def test_memory_of_another_size_is_left_alone():
    spare = torch.zeros(35 * 48 * POINT_STEP, dtype=torch.uint8)
    points = pack_points(torch.full((36, 48), 2.0), RAYS, BLACK, spare=spare)
    assert points.shape == (36, 48, 8) and not spare.any()


@pytest.mark.parametrize('clearing', [0.0, 8.0])
def test_pixels_are_chosen_by_class_and_clear_what_is_out_of_range(clearing: float):
    depth = torch.tensor([[1.0, 2.0, torch.inf, torch.inf, torch.nan]])
    labels = torch.tensor([[0, 1, 0, 1, 0]], dtype=torch.uint8)
    far = clearing or torch.inf
    wanted = [[1.0, 2.0, far, far, torch.nan]]
    torch.testing.assert_close(choose(depth, clearing), torch.tensor(wanted), equal_nan=True)
    wanted = [[1.0, torch.nan, far, torch.nan, torch.nan]]
    chosen = choose(depth, clearing, labels, torch.tensor([True, False]))
    torch.testing.assert_close(chosen, torch.tensor(wanted), equal_nan=True)
