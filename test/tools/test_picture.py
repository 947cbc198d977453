"""The picture of the demo: known colors come out where they belong."""

from dataclasses import replace

from dpt_ros.tools.picture import draw, PANEL, RANGE, Views
from dpt_ros.zoo.labels import load_labels
import numpy as np
import pytest

LABELS = load_labels('worlds_10')
WIDTH, HEIGHT = PANEL
RED, GREEN, BLUE = (250, 10, 20), (10, 240, 20), (20, 30, 230)


def plain(color: tuple[int, int, int], width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    return np.full((height, width, 3), color, np.uint8)


def points(*places: tuple[float, float, float]) -> np.ndarray:
    return np.array(places, np.float32).reshape(-1, 3)


VIEWS = Views(
    image=plain(RED),
    depth_color=plain(GREEN),
    mask=np.full((HEIGHT, WIDTH), LABELS.names.index('chair'), np.uint8),
    overlay=plain(BLUE),
    points=points((1, 0, 5)),
    point_colors=np.array([RED], np.uint8),
)


def panel(pixels: np.ndarray, row: int, column: int) -> np.ndarray:
    """Cut one panel out of the picture: three by two cells below the head, right of a margin."""
    cell_height, cell_width = HEIGHT + 30, WIDTH + 8
    top = pixels.shape[0] - (2 - row) * cell_height + 28
    left = column * cell_width + 4
    return pixels[top:, left:][:HEIGHT, :WIDTH]


def drawn(row: int, column: int, labels: object = LABELS, **changes: object) -> np.ndarray:
    return panel(draw(replace(VIEWS, **changes), labels, 'title', ['note']), row, column)


def from_above(places: np.ndarray, *colors: tuple[int, int, int]) -> np.ndarray:
    return drawn(1, 1, points=places, point_colors=np.array(colors, np.uint8).reshape(-1, 3))


@pytest.mark.parametrize(
    ('row', 'column', 'color'),
    [(0, 0, RED), (0, 1, GREEN), (0, 2, LABELS.colors[LABELS.names.index('chair')]), (1, 0, BLUE)],
    ids=['image', 'depth', 'labels', 'overlay'],
)
def test_a_panel_shows_its_view(row: int, column: int, color: tuple[int, int, int]):
    np.testing.assert_array_equal(drawn(row, column), plain(color))


@pytest.mark.parametrize('notes', [[], ['one'], ['one', 'two', 'three']])
def test_the_picture_is_three_by_two_panels_below_a_head(notes: list[str]):
    pixels = draw(VIEWS, LABELS, 'title', notes)
    assert pixels.dtype == np.uint8
    assert pixels.shape[1:] == (3 * (WIDTH + 8), 3)
    assert pixels.shape[0] > 2 * (HEIGHT + 30)
    np.testing.assert_array_equal(panel(pixels, 0, 0), plain(RED))


def test_notes_take_room_of_their_own():
    one = draw(VIEWS, LABELS, 'title', ['note'])
    two = draw(VIEWS, LABELS, 'title', ['note', 'note'])
    assert two.shape[0] > one.shape[0]


def test_a_small_view_is_enlarged_and_keeps_its_shape():
    shown = drawn(0, 0, image=plain(RED, 64, 24))  # 480 x 180
    np.testing.assert_array_equal(shown[:178], plain(RED, WIDTH, 178))
    assert (shown[182:] == 255).all()


def test_a_tall_view_fits_the_height():
    shown = drawn(0, 0, image=plain(RED, 240, 720))  # 120 x 360
    np.testing.assert_array_equal(shown[:, :119], plain(RED, 119))
    assert (shown[:, 121:] == 255).all()


def test_unlabelled_pixels_are_black():
    assert not drawn(0, 2, mask=np.full((HEIGHT, WIDTH), 255, np.uint8)).any()


def test_the_legend_names_the_color_of_a_class_that_is_seen():
    legend = drawn(1, 2)
    chair = LABELS.colors[LABELS.names.index('chair')]
    assert legend[20, 25].tolist() == list(chair)
    assert (legend[48, 25] == 255).all()  # there is no second class


def test_the_legend_begins_with_the_largest_class():
    mask = np.full((HEIGHT, WIDTH), LABELS.names.index('wall'), np.uint8)
    mask[:100] = LABELS.names.index('floor')
    legend = drawn(1, 2, mask=mask)
    assert legend[20, 25].tolist() == list(LABELS.colors[LABELS.names.index('wall')])
    assert legend[48, 25].tolist() == list(LABELS.colors[LABELS.names.index('floor')])


def test_views_that_are_missing_leave_their_panels_blank():
    missing = dict.fromkeys(('depth_color', 'mask', 'overlay', 'points', 'point_colors'))
    for row, column in ((0, 1), (0, 2), (1, 0), (1, 1)):
        assert (drawn(row, column, **missing) == 255).all()


def test_without_labels_there_is_neither_mask_nor_legend():
    for row, column in ((0, 2), (1, 2)):
        assert (drawn(row, column, labels=None) == 255).all()


def test_a_point_five_metres_ahead_and_one_to_the_right_is_where_it_is():
    # The robot is at the middle of the lower edge, and ten metres are the height of the panel.
    shown = from_above(points((1, 0, 5)), RED)
    (where,) = np.argwhere((shown == RED).all(axis=-1))
    assert where.tolist() == [HEIGHT / 2, WIDTH / 2 + HEIGHT / RANGE]


def test_left_is_left():
    shown = from_above(points((-2, 0, 5)), RED)
    (where,) = np.argwhere((shown == RED).all(axis=-1))
    assert where.tolist() == [180, 240 - 72]


@pytest.mark.parametrize('order', [1, -1])
def test_what_stands_higher_hides_what_lies_below(order: int):
    places = points((1, 0.6, 5), (1, -0.4, 5))  # y points down: the floor, and something above
    shown = from_above(places[::order], *[GREEN, RED][::order])
    assert shown[180, 276].tolist() == list(RED)


@pytest.mark.parametrize('place', [(0, 0, 10.1), (7, 0, 5), (-7, 0, 5), (0, 0, -1)])
def test_what_is_out_of_the_panel_is_left_out(place: tuple[float, float, float]):
    assert not (from_above(points(place), RED) == RED).all(axis=-1).any()


def test_a_cloud_may_be_empty():
    assert from_above(points()).shape == (HEIGHT, WIDTH, 3)


def test_the_views_are_not_drawn_on():
    before = VIEWS.image.copy()
    draw(VIEWS, LABELS, 'title', [])
    np.testing.assert_array_equal(VIEWS.image, before)
