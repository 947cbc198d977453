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
                _back_across(half[row:], bias[channel:], tile, count)
                for x in range(min(4, width - left)):
                    at = x * _SOME
                    _copy(tile[at:], values[top + y, left + x, channel:], count)


@compiled
def _copy(source, target, count):
    for c in range(count):
        target[c] = source[c]


# The transforms of F(4x4, 3x3), once with rows and once with columns apart: the distance must be a
# constant, or LLVM does not see that it may take eight channels at a time.


@compiled
def _forward_down(values, result, count):
    for c in range(count):
        a, b = values[c], values[c + _ROW]
        d, e = values[c + 2 * _ROW], values[c + 3 * _ROW]
        f, g = values[c + 4 * _ROW], values[c + 5 * _ROW]
        even, odd = f - _FLOAT(4) * d, e - _FLOAT(4) * b
        wide_even, wide_odd = f - d, _FLOAT(2) * (e - b)
        result[c] = _FLOAT(4) * a - _FLOAT(5) * d + f
        result[c + _ROW] = even + odd
        result[c + 2 * _ROW] = even - odd
        result[c + 3 * _ROW] = wide_even + wide_odd
        result[c + 4 * _ROW] = wide_even - wide_odd
        result[c + 5 * _ROW] = _FLOAT(4) * b - _FLOAT(5) * e + g


@compiled
def _forward_across(values, result, count):
    for c in range(count):
        a, b = values[c], values[c + _SOME]
        d, e = values[c + 2 * _SOME], values[c + 3 * _SOME]
        f, g = values[c + 4 * _SOME], values[c + 5 * _SOME]
        even, odd = f - _FLOAT(4) * d, e - _FLOAT(4) * b
        wide_even, wide_odd = f - d, _FLOAT(2) * (e - b)
        result[c] = _FLOAT(4) * a - _FLOAT(5) * d + f
        result[c + _SOME] = even + odd
        result[c + 2 * _SOME] = even - odd
        result[c + 3 * _SOME] = wide_even + wide_odd
        result[c + 4 * _SOME] = wide_even - wide_odd
        result[c + 5 * _SOME] = _FLOAT(4) * b - _FLOAT(5) * e + g


@compiled
def _back_down(values, result, count):
    for c in range(count):
        a, b = values[c], values[c + _ROW]
        d, e = values[c + 2 * _ROW], values[c + 3 * _ROW]
        f, g = values[c + 4 * _ROW], values[c + 5 * _ROW]
        even, odd, wide_even, wide_odd = b + d, b - d, e + f, e - f
        result[c] = a + even + wide_even
        result[c + _ROW] = odd + _FLOAT(2) * wide_odd
        result[c + 2 * _ROW] = even + _FLOAT(4) * wide_even
        result[c + 3 * _ROW] = odd + _FLOAT(8) * wide_odd + g


@compiled
def _back_across(values, bias, result, count):
    for c in range(count):
        a, b = values[c], values[c + _SOME]
        d, e = values[c + 2 * _SOME], values[c + 3 * _SOME]
        f, g = values[c + 4 * _SOME], values[c + 5 * _SOME]
        even, odd, wide_even, wide_odd = b + d, b - d, e + f, e - f
        result[c] = bias[c] + (a + even + wide_even)
        result[c + _SOME] = bias[c] + (odd + _FLOAT(2) * wide_odd)
        result[c + 2 * _SOME] = bias[c] + (even + _FLOAT(4) * wide_even)
        result[c + 3 * _SOME] = bias[c] + (odd + _FLOAT(8) * wide_odd + g)
