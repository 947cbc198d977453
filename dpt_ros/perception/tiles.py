"""
The loops of `winograd` (`perception.bands` says how they compile).

A tile is 6x6 values that make 4x4 results. Some tiles go all the way together, and `LANES`
channels of them at a time, so that what is made of them on it stays in the cache. What lies in
buffers lies at constant distances, which LLVM has to know to take many numbers at once. Loops of
few turns, if it knows how many, it writes out before it looks for that: so they do two things in a
turn, which is too much to be written out.
"""

from collections.abc import Callable
from functools import partial

from dpt_ros.perception.loops import buffer
from dpt_ros.perception.native import banded, inner
from dpt_ros.perception.winograd import LANES, NARROW, WIDE
import numpy as np

TOGETHER = 35  # tiles of a band, a multiple of 5, see `_multiplier`

_FLOAT = np.float32
_COLUMN = 6 * LANES  # numbers of a column of a tile, or of a row of it, in one pass
_FROM_TILES = TOGETHER * _COLUMN  # from one of the six across to the next
_FROM_PRODUCT = TOGETHER * WIDE  # from one of the 36 products of a tile to the next
_PRODUCTS = 36 * _FROM_PRODUCT


@banded
def convolve(
    first,
    last,
    maps,
    channels,
    tops,
    down,
    lefts,
    across,
    between,
    rectified,
    weights,
    bias,
    lowest,
    projection,
    offset,
    depth,
    added,
    more,
    results,
):
    """
    Convolve up to TOGETHER tiles, counted along rows, then down, then through the batch.

    :param maps: (B, h, w C) float32, C = `channels`: a multiple of INWARD.
    :param tops: (4 rows of tiles + 2,) int64, the first of the two rows that each row of the
        padded map lies between, and `down` (2, likewise) float32 their weights. `lefts` and
        `across` likewise.
    :param between: whether it does: else it is the first, or where its weight is zero zeros.
    :param rectified: whether values below zero count as zero; not where it lies between.
    :param weights: (G, 36, C, OUT) float32, transformed, of G groups of OUT = WIDE or NARROW.
    :param bias: (G OUT,) float32, added; what is below `lowest` becomes that.
    :param projection: (NARROW,) float32: with these weights channels are summed up, and `offset`
        added; or empty: they stay.
    :param depth: D, how many channels stay.
    :param added: and `more`, (B, H, W D) float32, added to channels that stay; or empty.
    :param results: (B, H, W D) float32, written.
    """
    groups, _, _, out = weights.shape
    half = buffer((maps.shape[2] // channels if between else 0) * _COLUMN)
    strip = buffer((4 * TOGETHER + 2) * _COLUMN)  # columns of tiles side by side
    tiles, products = buffer(6 * _FROM_TILES), buffer(groups * _PRODUCTS)
    half_back, square = buffer(24 * NARROW), buffer(16 * NARROW)
    if channels % LANES:  # what stands where there are no channels is computed, too, but not used
        half[:], strip[:] = 0, 0
    axes = tops, down, lefts, across
    behind, sums = (bias, lowest, projection, offset), (added, more)

    count = last - first
    for channel in range(0, channels, LANES):
        lanes = min(LANES, channels - channel)
        part = maps, channels, channel, lanes
        _make(first, count, part, axes, between, rectified, half, strip, tiles)
        _multiply(tiles, channel, lanes, weights, products, count)
    _finish(first, count, products, out, axes, behind, sums, half_back, square, results, depth)


@inner
def _make(start, count, part, axes, between, rectified, half, strip, tiles):
    """Make tiles, transformed, of some channels of the maps."""
    maps, channels, channel, lanes = part
    tops, down, lefts, across = axes
    _, height, stride = maps.shape
    tall, wide = (len(tops) - 2) // 4, (len(lefts) - 2) // 4
    flat, t = maps.reshape(-1), 0
    while t < count:
        row, x = (start + t) // wide, (start + t) % wide
        run, top, left = min(count - t, wide - x), 4 * (row % tall), 4 * x
        at = (row // tall) * height * stride + channel
        values = flat[at:], stride, channels, lanes
        where = tops[top:], down[:, top:], lefts[left:], across[:, left:]
        if between:
            _upsample(*values, *where, half, strip, 4 * run + 2)
        else:
            _take(*values, *where, rectified, strip, 4 * run + 2)
        for k in range(run):
            at, to = 4 * k * _COLUMN, (t + k) * _COLUMN
            _transform_across(strip[at:], tiles[to:])
        t += run


@inner
def _multiply(tiles, channel, lanes, weights, products, count):
    """Multiply tiles by the weights of their channels, the first of which is `channel`."""
    groups, _, channels, out = weights.shape
    flat = weights.reshape(-1)
    for group in range(groups):
        for part in range(36):
            at = (part % 6) * _FROM_TILES + (part // 6) * LANES
            one, at = tiles[at:], ((group * 36 + part) * channels + channel) * out
            other, at = flat[at:], group * _PRODUCTS + part * _FROM_PRODUCT
            result = products[at:]
            if channel == 0:
                result[: count * out] = 0
            if out == WIDE:
                _multiply_wide(one, lanes, other, result, count)
            else:
                _multiply_narrow(one, lanes, other, result, count)


@inner
def _finish(start, count, products, out, axes, behind, sums, half_back, square, results, depth):
    """Transform products back, do what follows the convolution, and put them in their places."""
    bias, lowest, projection, offset = behind
    added, more = sums
    tall, wide = (len(axes[0]) - 2) // 4, (len(axes[2]) - 2) // 4
    _, rows, pitch = results.shape
    flat, flat_added, flat_more = results.reshape(-1), added.reshape(-1), more.reshape(-1)
    for t in range(count):
        row, x = (start + t) // wide, 4 * ((start + t) % wide)
        y = 4 * (row % tall)
        high, broad = min(4, rows - y), min(4, pitch // depth - x)
        for channel in range(0, len(bias), NARROW):
            wanted = min(NARROW, depth - channel)
            if wanted <= 0:
                break
            at = (channel // out) * _PRODUCTS + t * out + channel % out
            _transform_back_down(products[at:], half_back)
            at = ((row // tall) * rows + y) * pitch + x * depth + channel
            if projection.size:
                for n in range(high):
                    v, to = n * 6 * NARROW, at + n * pitch
                    v, result = half_back[v:], flat[to:]
                    _project(v, bias, lowest, projection, offset, result, broad)
                continue
            _transform_back_across(half_back, bias[channel:], square)
            if more.size:
                _add(flat_more[at:], square, pitch, depth, high, broad, wanted)
            if added.size:
                _add(flat_added[at:], square, pitch, depth, high, broad, wanted)
            _place(square, lowest, flat[at:], pitch, depth, high, broad, wanted)


@inner
def _take(values, stride, step, lanes, tops, down, lefts, across, rectified, strip, columns):
    """Put columns of six values there, zeros where they are beside the map, and transform them."""
    begin, end = 0, columns  # of those that are not
    while across[0, begin] == 0:
        begin += 1
    while across[0, end - 1] == 0:
        end -= 1
    at, to = begin * _COLUMN, end * _COLUMN
    within, stop = strip[at:to], columns * _COLUMN
    strip[:at] = 0
    strip[to:stop] = 0
    lowest = _FLOAT(0) if rectified else _FLOAT(-np.inf)
    for n in range(0, 6, 2):
        one, to = tops[n] * stride + lefts[begin] * step, n * LANES
        other = tops[n + 1] * stride + lefts[begin] * step
        weights, rows = down[0, n:], (values[one:], values[other:])
        _take_rows(*rows, weights, lowest, step, lanes, within[to:], end - begin)
    _transform_down(within, end - begin)


@inner
def _take_rows(one, other, weights, lowest, step, lanes, strip, columns):
    """Put `lanes` of each column of two rows there, of a row without weight zeros."""
    for x in range(columns):
        at, to = x * step, x * _COLUMN
        a, b, to = one[at:], other[at:], strip[to:]
        if lanes == LANES and weights[0] != 0 and weights[1] != 0:
            for n in range(LANES):
                to[n] = lowest if a[n] < lowest else a[n]  # what is not a number stays that
                to[n + LANES] = lowest if b[n] < lowest else b[n]
        else:
            _take_one(a, weights[0], lowest, lanes, to)
            _take_one(b, weights[1], lowest, lanes, to[LANES:])


@inner
def _take_one(values, weight, lowest, lanes, to):
    if weight == 0:
        for n in range(lanes):
            to[n] = _FLOAT(0)
    else:
        for n in range(lanes):
            to[n] = lowest if values[n] < lowest else values[n]


@inner
def _upsample(values, stride, step, lanes, tops, down, lefts, across, half, strip, columns):
    """Put columns of six values there, each between four of the map, and transform them."""
    begin = lefts[0]
    count = lefts[columns - 1] + 2 - begin
    for n in range(0, 6, 2):
        one, to = tops[n] * stride + begin * step, n * LANES
        other = tops[n + 1] * stride + begin * step
        rows = values[one:], values[other:]
        _lie_between(*rows, stride, down[:, n:], step, lanes, half[to:], count)
    _transform_down(half, count)
    for x in range(columns):
        at, to = (lefts[x] - begin) * _COLUMN, x * _COLUMN
        _mix(half[at:], across[0, x], across[1, x], strip[to:])


@inner
def _lie_between(one, other, stride, weights, step, lanes, strip, columns):
    """Put what lies between two rows there, twice."""
    p, q, u, w = weights[0, 0], weights[1, 0], weights[0, 1], weights[1, 1]
    for x in range(columns):
        at, to = x * step, x * _COLUMN
        a, c, to = one[at:], other[at:], strip[to:]
        b, d = a[stride:], c[stride:]
        if lanes == LANES:
            for n in range(LANES):
                to[n], to[n + LANES] = p * a[n] + q * b[n], u * c[n] + w * d[n]
        else:
            for n in range(lanes):
                to[n], to[n + LANES] = p * a[n] + q * b[n], u * c[n] + w * d[n]


@inner
def _mix(columns, of_one, of_other, mixed):
    """Make a column of two that stand side by side."""
    for n in range(_COLUMN):
        mixed[n] = of_one * columns[n] + of_other * columns[n + _COLUMN]


@inner
def _six(a, b, c, d, e, f):
    """Transform six values along an axis, by F(4x4, 3x3)."""
    even, odd = e - _FLOAT(4) * c, d - _FLOAT(4) * b
    wide_even, wide_odd = e - c, _FLOAT(2) * (d - b)
    first, last = _FLOAT(4) * a - _FLOAT(5) * c + e, _FLOAT(4) * b - _FLOAT(5) * d + f
    return first, even + odd, even - odd, wide_even + wide_odd, wide_even - wide_odd, last


@inner
def _transform_down(strip, columns):
    """Transform the six values of each column, in place."""
    for x in range(columns):
        v = x * _COLUMN
        v = strip[v:]
        for n in range(LANES):
            a, b, c = v[n], v[n + LANES], v[n + 2 * LANES]
            d, e, f = v[n + 3 * LANES], v[n + 4 * LANES], v[n + 5 * LANES]
            a, b, c, d, e, f = _six(a, b, c, d, e, f)
            v[n], v[n + LANES], v[n + 2 * LANES] = a, b, c
            v[n + 3 * LANES], v[n + 4 * LANES], v[n + 5 * LANES] = d, e, f


@inner
def _transform_across(v, tile):
    """Transform the six columns of a tile."""
    for n in range(_COLUMN):
        a, b, c = v[n], v[n + _COLUMN], v[n + 2 * _COLUMN]
        d, e, f = v[n + 3 * _COLUMN], v[n + 4 * _COLUMN], v[n + 5 * _COLUMN]
        a, b, c, d, e, f = _six(a, b, c, d, e, f)
        tile[n], tile[n + _FROM_TILES], tile[n + 2 * _FROM_TILES] = a, b, c
        tile[n + 3 * _FROM_TILES], tile[n + 4 * _FROM_TILES] = d, e
        tile[n + 5 * _FROM_TILES] = f


def _multiplier(out: int) -> Callable[..., None]:
    """Return the loop for OUT = `out`, which LLVM has to know."""

    @inner
    def multiply(one, lanes, other, result, rows):
        """
        Add the product of (rows, lanes) and (lanes, OUT) to the result.

        A block of 5x4 numbers stays in registers while it meets 4 rows of the other matrix. Rows
        beyond a multiple of five are whatever stands there.
        """
        for k in range(0, lanes, 4):
            at = k * out
            r = other[at:]
            for t in range(0, rows, 5):
                at, to = t * _COLUMN + k, t * out
                v, s = one[at:], result[to:]
                a0, a1, a2, a3 = v[0], v[1], v[2], v[3]
                v = v[_COLUMN:]
                b0, b1, b2, b3 = v[0], v[1], v[2], v[3]
                v = v[_COLUMN:]
                c0, c1, c2, c3 = v[0], v[1], v[2], v[3]
                v = v[_COLUMN:]
                d0, d1, d2, d3 = v[0], v[1], v[2], v[3]
                v = v[_COLUMN:]
                e0, e1, e2, e3 = v[0], v[1], v[2], v[3]
                for n in range(out):
                    w, x, y, z = r[n], r[n + out], r[n + 2 * out], r[n + 3 * out]
                    a = s[n] + a0 * w + a1 * x + a2 * y + a3 * z
                    b = s[n + out] + b0 * w + b1 * x + b2 * y + b3 * z
                    c = s[n + 2 * out] + c0 * w + c1 * x + c2 * y + c3 * z
                    d = s[n + 3 * out] + d0 * w + d1 * x + d2 * y + d3 * z
                    e = s[n + 4 * out] + e0 * w + e1 * x + e2 * y + e3 * z
                    s[n], s[n + out], s[n + 2 * out] = a, b, c
                    s[n + 3 * out], s[n + 4 * out] = d, e

    return multiply


_multiply_wide, _multiply_narrow = _multiplier(WIDE), _multiplier(NARROW)


@inner
def _four(a, b, c, d, e, f):
    """Transform six products along an axis back."""
    even, odd, wide_even, wide_odd = b + c, b - c, d + e, d - e
    first, second = a + even + wide_even, odd + _FLOAT(2) * wide_odd
    return first, second, even + _FLOAT(4) * wide_even, odd + _FLOAT(8) * wide_odd + f


@inner
def _transform_back_down(products, half):
    """Make (4, 6, NARROW) = `half` of a tile of products, by F(4x4, 3x3)."""
    for column in range(6):
        at, to = column * _FROM_PRODUCT, column * NARROW
        v, result = products[at:], half[to:]
        for n in range(NARROW):
            a, b, c = v[n], v[n + 6 * _FROM_PRODUCT], v[n + 12 * _FROM_PRODUCT]
            d, e = v[n + 18 * _FROM_PRODUCT], v[n + 24 * _FROM_PRODUCT]
            f = v[n + 30 * _FROM_PRODUCT]
            p, q, r, s = _four(a, b, c, d, e, f)
            result[n], result[n + 6 * NARROW] = p, q
            result[n + 12 * NARROW], result[n + 18 * NARROW] = r, s


@inner
def _transform_back_across(half, bias, square):
    """Make (4, 4, NARROW) = `square` of that."""
    for row in range(4):
        at, to = row * 6 * NARROW, row * 4 * NARROW
        v, result = half[at:], square[to:]
        for n in range(NARROW):
            a, b, c = v[n], v[n + NARROW], v[n + 2 * NARROW]
            d, e, f = v[n + 3 * NARROW], v[n + 4 * NARROW], v[n + 5 * NARROW]
            p, q, r, s = _four(a, b, c, d, e, f)
            result[n], result[n + NARROW] = p + bias[n], q + bias[n]
            result[n + 2 * NARROW], result[n + 3 * NARROW] = r + bias[n], s + bias[n]


@partial(inner, liberties=('contract', 'reassoc'))
def _project(v, bias, lowest, weights, offset, result, columns):
    """Do the same for one row, sum its channels up, and put what lies inside in the map."""
    of_first = of_second = of_third = of_fourth = _FLOAT(0)
    for n in range(NARROW):
        a, b, c = v[n], v[n + NARROW], v[n + 2 * NARROW]
        d, e, f = v[n + 3 * NARROW], v[n + 4 * NARROW], v[n + 5 * NARROW]
        p, q, r, s = _four(a, b, c, d, e, f)
        p, q, r, s = p + bias[n], q + bias[n], r + bias[n], s + bias[n]
        of_first += (lowest if p < lowest else p) * weights[n]
        of_second += (lowest if q < lowest else q) * weights[n]
        of_third += (lowest if r < lowest else r) * weights[n]
        of_fourth += (lowest if s < lowest else s) * weights[n]
    result[0] = of_first + offset
    if columns > 1:
        result[1] = of_second + offset
    if columns > 2:
        result[2] = of_third + offset
    if columns > 3:
        result[3] = of_fourth + offset


@inner
def _add(values, square, pitch, depth, rows, columns, channels):
    """Add what lies in a map where a tile is to be put."""
    for y in range(rows):
        if columns == 4 and channels == NARROW:
            for x in range(0, 4, 2):
                at, to = y * pitch + x * depth, (4 * y + x) * NARROW
                value, result = values[at:], square[to:]
                beside = value[depth:]
                for n in range(NARROW):
                    result[n] += value[n]
                    result[n + NARROW] += beside[n]
        else:
            for x in range(columns):
                at, to = y * pitch + x * depth, (4 * y + x) * NARROW
                value, result = values[at:], square[to:]
                for n in range(channels):
                    result[n] += value[n]


@inner
def _place(square, lowest, results, pitch, depth, rows, columns, channels):
    """Put what of a tile lies inside in the map, nothing below the lowest."""
    for y in range(rows):
        if columns == 4 and channels == NARROW:
            for x in range(0, 4, 2):
                at, to = (4 * y + x) * NARROW, y * pitch + x * depth
                value, result = square[at:], results[to:]
                beside = result[depth:]
                for n in range(NARROW):
                    a, b = value[n], value[n + NARROW]
                    result[n] = lowest if a < lowest else a  # what is not a number stays that
                    beside[n] = lowest if b < lowest else b
        else:
            for x in range(columns):
                at, to = (4 * y + x) * NARROW, y * pitch + x * depth
                value, result = square[at:], results[to:]
                for n in range(channels):
                    result[n] = lowest if value[n] < lowest else value[n]
