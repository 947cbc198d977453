"""The label sets: complete, in order, and with the colors that everybody uses."""

import csv
from importlib.resources import files

from dpt_ros.zoo.labels import load_labels
import pytest

SETS = {'ade20k_150': 150, 'worlds_10': 10}


def test_every_set_there_is_is_tested():
    found = files('dpt_ros.zoo').joinpath('labels').iterdir()
    assert {file.name for file in found} == {f'{name}.csv' for name in SETS}


@pytest.mark.parametrize('name', SETS)
def test_a_set_has_all_its_classes_once(name):
    names = load_labels(name).names
    assert len(names) == len(set(names)) == SETS[name]
    assert all(n and n == n.strip() for n in names)


@pytest.mark.parametrize('name', SETS)
def test_indices_count_from_zero_without_a_gap(name):
    text = files('dpt_ros.zoo').joinpath('labels', f'{name}.csv').read_text(encoding='utf-8')
    indices = [int(row['index']) for row in csv.DictReader(text.splitlines())]
    assert indices == list(range(SETS[name]))


@pytest.mark.parametrize('name', SETS)
def test_each_class_has_a_color(name):
    colors = load_labels(name).colors
    assert len(colors) == SETS[name]
    assert all(len(color) == 3 and 0 <= min(color) <= max(color) <= 255 for color in colors)


@pytest.mark.parametrize(
    ('index', 'name', 'color'),
    [  # from the palette of the challenge, https://github.com/CSAILVision
        (0, 'wall', (120, 120, 120)),
        (2, 'sky', (6, 230, 230)),
        (6, 'road', (140, 140, 140)),
        (12, 'person', (150, 5, 61)),
        (20, 'car', (0, 102, 200)),
        (149, 'flag', (92, 0, 255)),
    ],
)
def test_classes_of_ade20k_stand_where_the_weights_expect_them(index, name, color):
    labels = load_labels('ade20k_150')
    assert (labels.names[index], labels.colors[index]) == (name, color)


def test_road_and_skyscraper_share_a_color():
    # A flaw of the published palette, kept: color images cannot be turned back into classes.
    labels = load_labels('ade20k_150')
    (road,), (skyscraper,) = labels.find('road'), labels.find('skyscraper')
    assert labels.colors[road] == labels.colors[skyscraper]
    assert len(set(labels.colors)) == 149


def test_classes_are_found_by_name_and_unknown_ones_left_out():
    assert load_labels('ade20k_150').find('person', 'no such thing', 'sky') == (2, 12)


def test_no_name_finds_no_class():
    assert load_labels('ade20k_150').find() == ()
