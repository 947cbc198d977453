"""
The loops of `winograd` (`perception.bands` says how they compile).

A tile is 6x6 values that make 4x4 results. Some tiles go all the way together, so that what is
made of them on it stays in the cache. A map lies in memory as (h, w, C): what happens to all
channels alike is done to those side by side.
"""

from dpt_ros.perception.bands import compiled
from dpt_ros.perception.winograd import INWARD, OUT
import numpy as np

TOGETHER = 33  # tiles, a multiple of _ROWS: their buffers take half a megabyte where C = 64

_FLOAT = np.float32
_ROWS = 3  # of a matrix that stay in registers, see `_multiply`
_FROM_PRODUCT = OUT * TOGETHER  # to the next of the 36 of a tile: a constant, for LLVM
_SOME = 512  # numbers at a time, of rows that are longer than that


@compiled
def convolve(
    first,
    last,
    maps,
    channels,
    tops,
    down,
    lefts,
    across,
    weights,
    bias,
    lowest,
    projection,
    offset,
    depth,
    results,
):
    """
    Convolve tiles number `first` to `last`, counted along rows, then down, then through the batch.

    :param maps: (B, h, w C) float32, C = `channels`: a multiple of INWARD.
    :param tops: (rows of tiles,) int64, where what they are made of begins; `down` (..., 6, 6)
        float32 is what is made of 6 values down from there. `lefts` and `across` likewise.
    :param weights: (G, 36, C OUT) float32, transformed, of G groups of OUT channels.
    :param bias: (G OUT,) float32, added; what is below `lowest` becomes that.
    :param projection: (OUT,) float32: with these weights channels are summed up, and `offset`
        added; or empty: they stay.
    :param depth: D, how many channels stay.
    :param results: (B, H, W D) float32, written.
    """
    _, height, stride = maps.shape
    tall, wide = tops.shape[0], lefts.shape[0]
    rows, pitch = results.shape[1:]  # of the results
    columns = pitch // depth

    longest = (4 * min(TOGETHER, wide) + 2) * channels
    half = np.empty((6, longest), _FLOAT)  # of tiles side by side, transformed down
    tiles = np.zeros((36, TOGETHER * channels), _FLOAT)
    products = np.empty(36 * _FROM_PRODUCT, _FLOAT)
    narrow, square = np.empty(24 * OUT, _FLOAT), np.empty(16 * OUT, _FLOAT)
    lanes = np.empty(8, _FLOAT)
    flat_maps, flat_half, flat = maps.reshape(-1), half.reshape(-1), results.reshape(-1)

    for start in range(first, last, TOGETHER):
        count, t = min(TOGETHER, last - start), 0
        while t < count:
            row, x = (start + t) // wide, (start + t) % wide
            run, y = min(count - t, wide - x), row % tall
            left = lefts[x]
            begin = ((row // tall) * height + tops[y]) * stride + left * channels
            length = (lefts[x + run - 1] + 6 - left) * channels
            for at in range(0, length, _SOME):
                some = min(_SOME, length - at)
                _transform(down[y], flat_maps, begin + at, stride, half, 0, at, some)
            for k in range(run):
                at, begin = (t + k) * channels, (lefts[x + k] - left) * channels
                for n in range(6):
                    side, to = begin + n * longest, 6 * n
                    _transform(across[x + k], flat_half, side, channels, tiles, to, at, channels)
            t += run
        for group in range(weights.shape[0]):
            channel = group * OUT
            for n in range(36):
                at = n * _FROM_PRODUCT
                _multiply(tiles[n], channels, weights[group, n], products[at:], count)
            for t in range(count):
                row, x, at = (start + t) // wide, 4 * ((start + t) % wide), t * OUT
                y = 4 * (row % tall)
                _transform_back(products[at:], narrow, bias[channel:], lowest, square)
                high, broad = min(4, rows - y), min(4, columns - x)
                at = ((row // tall) * rows + y) * pitch + x * depth + channel
                if projection.size:
                    _project(square, projection, offset, lanes, flat[at:], pitch, high, broad)
                else:
                    wanted = min(OUT, depth - channel)
                    _place(square, flat[at:], pitch, depth, high, broad, wanted)


@compiled
def _transform(matrix, values, begin, step, results, first, at, count):
    """Make 6 rows of results, from `first`, of 6 rows of values; `matrix` (6, 6) says what."""
    middle = begin + 3 * step
    for n in range(6):
        a, b, c = matrix[n, 0], matrix[n, 1], matrix[n, 2]
        d, e, f = matrix[n, 3], matrix[n, 4], matrix[n, 5]
        u, x = values[begin:], values[middle:]
        v, y = u[step:], x[step:]
        w, z = v[step:], y[step:]
        result = results[first + n, at:]
        for i in range(count):
            result[i] = a * u[i] + b * v[i] + c * w[i] + d * x[i] + e * y[i] + f * z[i]


@compiled
def _multiply(one, inner, other, result, rows):
    """
    Multiply (rows, inner) and (inner, OUT).

    A block of 3x4 numbers stays in registers while it meets 4 rows of the other matrix. Rows
    beyond a multiple of three are whatever stands there.
    """
    for n in range(rows * OUT):
        result[n] = 0
    for k in range(0, inner, INWARD):
        at = k * OUT
        r = other[at:]
        for t in range(0, rows, _ROWS):
            at, to = t * inner + k, t * OUT
            v, sums = one[at:], result[to:]
            a, b, c, d = v[0], v[1], v[2], v[3]
            e, f, g, h = v[inner], v[inner + 1], v[inner + 2], v[inner + 3]
            p, q, u, w = v[2 * inner], v[2 * inner + 1], v[2 * inner + 2], v[2 * inner + 3]
            for n in range(OUT):
                i, j, x, y = r[n], r[OUT + n], r[2 * OUT + n], r[3 * OUT + n]
                first = sums[n] + a * i + b * j + c * x + d * y
                second = sums[OUT + n] + e * i + f * j + g * x + h * y
                third = sums[2 * OUT + n] + p * i + q * j + u * x + w * y
                sums[n], sums[OUT + n], sums[2 * OUT + n] = first, second, third


@compiled
def _transform_back(products, narrow, bias, lowest, square):
    """Make (4, 4, OUT) = `square` of a tile of products, by F(4x4, 3x3); `narrow` is between."""
    for column in range(6):
        at, to = column * _FROM_PRODUCT, column * OUT
        v, result = products[at:], narrow[to:]
        for n in range(OUT):
            a, b, c = v[n], v[n + 6 * _FROM_PRODUCT], v[n + 12 * _FROM_PRODUCT]
            d, e = v[n + 18 * _FROM_PRODUCT], v[n + 24 * _FROM_PRODUCT]
            f = v[n + 30 * _FROM_PRODUCT]
            even, odd, wide_even, wide_odd = b + c, b - c, d + e, d - e
            result[n] = a + even + wide_even
            result[n + 6 * OUT] = odd + _FLOAT(2) * wide_odd
            result[n + 12 * OUT] = even + _FLOAT(4) * wide_even
            result[n + 18 * OUT] = odd + _FLOAT(8) * wide_odd + f
    for row in range(4):
        at, to = row * 6 * OUT, row * 4 * OUT
        v, result = narrow[at:], square[to:]
        for n in range(OUT):
            a, b, c = v[n], v[n + OUT], v[n + 2 * OUT]
            d, e, f = v[n + 3 * OUT], v[n + 4 * OUT], v[n + 5 * OUT]
            even, odd, wide_even, wide_odd = b + c, b - c, d + e, d - e
            p, q = a + even + wide_even + bias[n], odd + _FLOAT(2) * wide_odd + bias[n]
            r = even + _FLOAT(4) * wide_even + bias[n]
            s = odd + _FLOAT(8) * wide_odd + f + bias[n]
            result[n] = lowest if p < lowest else p  # what is not a number stays that
            result[n + OUT] = lowest if q < lowest else q
            result[n + 2 * OUT] = lowest if r < lowest else r
            result[n + 3 * OUT] = lowest if s < lowest else s


@compiled
def _place(square, results, pitch, depth, rows, columns, channels):
    """Put what of a tile lies inside in the map."""
    for y in range(rows):
        for x in range(columns):
            at, to = (4 * y + x) * OUT, y * pitch + x * depth
            values, result = square[at:], results[to:]
            for n in range(channels):
                result[n] = values[n]


@compiled
def _project(square, weights, offset, lanes, results, pitch, rows, columns):
    """Sum the channels up, and put what of a tile lies inside in the map."""
    w = weights
    for y in range(rows):
        for x in range(columns):
            at = (4 * y + x) * OUT
            v = square[at:]
            for n in range(8):
                one = v[n] * w[n] + v[n + 8] * w[n + 8]
                lanes[n] = one + v[n + 16] * w[n + 16] + v[n + 24] * w[n + 24]
            one = (lanes[0] + lanes[1]) + (lanes[2] + lanes[3])
            other = (lanes[4] + lanes[5]) + (lanes[6] + lanes[7])
            results[y * pitch + x] = one + other + offset
