"""
The loops of `winograd`: from maps to tiles and back (`perception.bands` says how they compile).

A tile is 6x6 values that make 4x4 results. All that happens to it happens to each channel alike,
so channels, which lie side by side in memory, are taken some at a time through a small buffer that
stays in the cache.
"""

from dpt_ros.perception.bands import compiled
import numpy as np

_FLOAT = np.float32
_SOME = 64  # channels at a time
_ROW = 6 * _SOME  # from one row of a tile to the next, in a buffer


@compiled
def split(first, last, values, across, start, tiles):
    """
    Cut a map into tiles and transform each, in both directions, by `_forward`.

    :param values: (H, W, C) float32; beside it are zeros.
    :param across: tiles in a row of them; `start` is the number of the first one here.
    :param tiles: (36, T, C) float32, written.
    """
    height, width, channels = values.shape
    tile, half = np.empty(6 * _ROW, _FLOAT), np.empty(6 * _ROW, _FLOAT)
    for t in range(first, last):
        top, left = 4 * ((start + t) // across) - 1, 4 * ((start + t) % across) - 1
        for channel in range(0, channels, _SOME):
            count = min(_SOME, channels - channel)
            for n in range(36):
                y, x, at = top + n // 6, left + n % 6, n * _SOME
                place = tile[at:]
                if 0 <= y < height and 0 <= x < width:
                    _copy(values[y, x, channel:], place, count)
                else:
                    place[:count] = 0
            for column in range(0, _ROW, _SOME):
                _forward_down(tile[column:], half[column:], count)
            for row in range(0, 6 * _ROW, _ROW):
                _forward_across(half[row:], tile[row:], count)
            for n in range(36):
                at = n * _SOME
                _copy(tile[at:], tiles[n, t, channel:], count)


@compiled
def join(first, last, tiles, across, start, bias, values):
    """
    Transform tiles back, in both directions, by `_back`, and put the map together.

    :param tiles: (36, T, C) float32.
    :param across: tiles in a row of them; `start` is the number of the first one here.
    :param bias: (C,) float32, added.
    :param values: (H, W, C) float32, written.
    """
    height, width, channels = values.shape
    tile, half = np.empty(6 * _ROW, _FLOAT), np.empty(4 * _ROW, _FLOAT)
    for t in range(first, last):
        top, left = 4 * ((start + t) // across), 4 * ((start + t) % across)
        for channel in range(0, channels, _SOME):
            count = min(_SOME, channels - channel)
            for n in range(36):
                at = n * _SOME
                _copy(tiles[n, t, channel:], tile[at:], count)
            for column in range(0, _ROW, _SOME):
                _back_down(tile[column:], half[column:], count)
            for y in range(min(4, height - top)):
                row = y * _ROW
                _back_across(half[row:], tile, count)
                for x in range(min(4, width - left)):
                    at, place = x * _SOME, values[top + y, left + x, channel:]
                    _add(bias[channel:], tile[at:], place, count)


@compiled
def _copy(source, target, count):
    for c in range(count):
        target[c] = source[c]


@compiled
def _add(one, other, target, count):
    for c in range(count):
        target[c] = one[c] + other[c]


# The transforms of F(4x4, 3x3). From one value of a tile to the next is a constant of the loop, or
# LLVM does not see that it may take eight channels at a time.


def _forward(step):
    """Return the transform of 6 values, `step` apart, to 6."""

    @compiled
    def transform(values, result, count):
        for c in range(count):
            a, b = values[c], values[c + step]
            d, e = values[c + 2 * step], values[c + 3 * step]
            f, g = values[c + 4 * step], values[c + 5 * step]
            even, odd = f - _FLOAT(4) * d, e - _FLOAT(4) * b
            wide_even, wide_odd = f - d, _FLOAT(2) * (e - b)
            result[c] = _FLOAT(4) * a - _FLOAT(5) * d + f
            result[c + step] = even + odd
            result[c + 2 * step] = even - odd
            result[c + 3 * step] = wide_even + wide_odd
            result[c + 4 * step] = wide_even - wide_odd
            result[c + 5 * step] = _FLOAT(4) * b - _FLOAT(5) * e + g

    return transform


def _back(step):
    """Return the transform of 6 values, `step` apart, to 4."""

    @compiled
    def transform(values, result, count):
        for c in range(count):
            a, b = values[c], values[c + step]
            d, e = values[c + 2 * step], values[c + 3 * step]
            f, g = values[c + 4 * step], values[c + 5 * step]
            even, odd, wide_even, wide_odd = b + d, b - d, e + f, e - f
            result[c] = a + even + wide_even
            result[c + step] = odd + _FLOAT(2) * wide_odd
            result[c + 2 * step] = even + _FLOAT(4) * wide_even
            result[c + 3 * step] = odd + _FLOAT(8) * wide_odd + g

    return transform


_forward_down, _forward_across = _forward(_ROW), _forward(_SOME)
_back_down, _back_across = _back(_ROW), _back(_SOME)
