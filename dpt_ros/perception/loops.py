"""
Loops over pixels for a CPU (`perception.bands`).

Whole-array operations go through memory once each; these loops do everything to a row while it is
in the cache, several times faster. Each writes the rows `first` to `last` of its results, so that
threads can share them out, and computes what the PyTorch code beside its caller computes, which is
what a GPU runs, and a CPU without Numba.

The innermost loops stand in functions of their own: of arrays that are plain arguments LLVM knows
that it can take eight pixels at a time. It has to know how far apart they lie, too: so a row of
pixels of several bytes comes as one of bytes. An index that was looked up is made `_INDEX` first:
Numba asks of each signed one whether it is counted from the end, three times slower in such a
loop. What others call by the row makes no arrays, but has room given to it: so it can be `inner`.
"""

import sys

from dpt_ros.perception.native import banded, compiled, inner
from dpt_ros.perception.resample import BLOCK
import numpy as np

_SLICE = 640  # pixels of a row looked at together: 150 classes of them stay in the cache
_LINE = 64  # bytes that come from memory at once
_FLOAT, _INT = np.float32, np.int32
_INDEX = _WIDE = np.uint64
_LITTLE = sys.byteorder == 'little'
_ROUNDS = _FLOAT(3 << 22)  # added to a float, it leaves no bits for fractions


@compiled
def buffer(count):
    """Make room for numbers that begins where a line of memory does."""
    room = np.empty(count + _LINE // 4, _FLOAT)
    skipped = (-room.ctypes.data % _LINE) // 4
    stop = skipped + count
    return room[skipped:stop]


@banded
def classify(first, last, scores, across, blocks, down, of_rows, labels, confidence):
    """
    Resample class scores, and find the best class of each pixel.

    :param scores: (h, w, K) float32.
    :param across: and `blocks`: how columns are resampled, `resample.Blocks`.
    :param down: and `of_rows`: how rows are, `resample.Taps`.
    :param labels: (H, W) integer, written: the first of equal winners.
    :param confidence: (H, W) float32, written: the softmax probability of the winner.
    """
    classes, columns = scores.shape[2], scores.shape[1]
    ring, wide = len(of_rows) + 1, len(across) * BLOCK
    room = (
        np.empty((2, classes, columns), _FLOAT),  # two rows of scores, class by class
        # Such rows in turn, as wide as pixels.
        buffer(classes * ring * wide).reshape(classes, ring, wide),
        buffer(2 * classes * _SLICE).reshape(2, classes, _SLICE),  # of two rows of pixels
        buffer(_SLICE),
        buffer(_SLICE),
        np.empty(_SLICE, _INT),
    )
    _classify(first, last, scores, across, blocks, down, of_rows, room, labels, confidence)


@inner
def _classify(first, last, scores, across, blocks, down, of_rows, room, labels, confidence):
    planes, wide, fine, best, total, label = room
    classes, width, taps = scores.shape[2], labels.shape[1], len(of_rows)
    done, y = 0, first
    while y < last:
        rows = 2 if taps == 4 and y + 1 < last and down[y + 1] == down[y] else 1
        done = max(done, down[y])
        while done < down[y] + taps:
            after = min(done + 1, len(scores) - 1)
            _turn(scores[done], planes[0])
            _turn(scores[after], planes[1])
            for k in range(classes):
                _widen(planes[0, k], planes[1, k], across, blocks, wide[k], done)
            done += 2
        for left in range(0, width, _SLICE):
            count = min(_SLICE, width - left)
            given = wide, down[y], of_rows[:, y], left, count, fine[0]
            if rows == 2:
                _sum_rows_twice(*given, of_rows[:, y + 1], fine[1])
            else:
                _sum_rows(*given)
            for row in range(rows):
                _compare(fine[row], best, label, total, count)
                at = y + row
                _conclude(label, total, labels[at][left:], confidence[at][left:], count)
        y += rows


@banded
def resample(first, last, values, across, blocks, down, of_rows, resampled):
    """
    Resample a map: `resample.resample`.

    :param values: (h, w) float32.
    :param across: and `blocks`, `down` and `of_rows`: see `classify`.
    :param resampled: (H, W) float32, written.
    """
    taps, width, done = len(of_rows), resampled.shape[1], 0
    wide = buffer((taps + 1) * len(across) * BLOCK).reshape(1, taps + 1, -1)
    for y in range(first, last):
        done = max(done, down[y])
        while done < down[y] + taps:
            after = min(done + 1, len(values) - 1)
            _widen(values[done], values[after], across, blocks, wide[0], done)
            done += 2
        _sum_rows(wide, down[y], of_rows[:, y], 0, width, resampled[y:])


@banded
def feed(first, last, image, across, of_columns, down, of_rows, offset, factor, fed):
    """
    Resample an image and normalize its colors: `preprocess.prepare`.

    :param image: (h, 3 w) uint8: R, G, B of each pixel.
    :param across: and `of_columns`, `down` and `of_rows`: two `resample.Taps`, T is 4.
    :param offset: (3,) float32, added to colors that were multiplied by `factor`.
    :param fed: (H, W, 3) float32, written.
    """
    colors = buffer(image.shape[1])
    for y in range(first, last):
        at = down[y]
        four = image[at], image[at + 1], image[at + 2], image[at + 3]
        _add_rows(*four, of_rows[:, y], True, colors, len(colors))
        _normalize(colors, across, of_columns, offset, factor, fed[y].reshape(-1))


@inner
def _normalize(colors, starts, taps, offset, factor, fed):
    """Add four neighbors, weighted, and bring what they are to the range of the network."""
    of_red, of_green, of_blue = factor[0], factor[1], factor[2]
    red, green, blue = offset[0], offset[1], offset[2]
    for x in range(len(starts)):
        a, to = _INDEX(3) * _INDEX(starts[x]), 3 * x
        weights = taps[0, x], taps[1, x], taps[2, x], taps[3, x]
        fed[to] = red + of_red * _weighted(colors, a, weights)
        fed[to + 1] = green + of_green * _weighted(colors, a + _INDEX(1), weights)
        fed[to + 2] = blue + of_blue * _weighted(colors, a + _INDEX(2), weights)


@inner
def _weighted(colors, a, weights):
    """Add a color of four pixels in a row."""
    of_a, of_b, of_c, of_d = weights
    b, c, d = a + _INDEX(3), a + _INDEX(6), a + _INDEX(9)
    return (of_a * colors[a] + of_b * colors[b]) + (of_c * colors[c] + of_d * colors[d])


@inner
def _turn(pixels, planes):
    for k in range(planes.shape[0]):
        for x in range(planes.shape[1]):
            planes[k, x] = pixels[x, k]


@inner
def _widen(one, other, starts, blocks, ring, row):
    """Resample `one` to a row of the ring, `other` to the next, a block after the other."""
    rows, reach, flat = len(ring), blocks.shape[1], blocks.reshape(-1)
    wide, next_wide = ring[row % rows], ring[(row + 1) % rows]
    for block in range(len(starts)):
        to = block * BLOCK
        for r in range(0, reach, 4):
            at, weights = starts[block] + r, (block * reach + r) * BLOCK
            given = one[at:], other[at:], flat[weights:], wide[to:], next_wide[to:]
            if r == 0:
                _begin_block(*given)
            else:
                _add_to_block(*given)


@inner
def _begin_block(one, other, weights, wide, next_wide):
    """Write a block of two rows: four values, weighted."""
    a, b, c, d = one[0], one[1], one[2], one[3]
    e, f, g, h = other[0], other[1], other[2], other[3]
    for n in range(BLOCK):
        four = weights[n], weights[n + BLOCK], weights[n + 2 * BLOCK], weights[n + 3 * BLOCK]
        wide[n] = _dot(a, b, c, d, four)
        next_wide[n] = _dot(e, f, g, h, four)


@inner
def _add_to_block(one, other, weights, wide, next_wide):
    """Add four values, weighted, to a block of two rows; a choice in that one takes longer."""
    a, b, c, d = one[0], one[1], one[2], one[3]
    e, f, g, h = other[0], other[1], other[2], other[3]
    for n in range(BLOCK):
        four = weights[n], weights[n + BLOCK], weights[n + 2 * BLOCK], weights[n + 3 * BLOCK]
        wide[n] += _dot(a, b, c, d, four)
        next_wide[n] += _dot(e, f, g, h, four)


@inner
def _dot(a, b, c, d, weights):
    return a * weights[0] + b * weights[1] + c * weights[2] + d * weights[3]


@inner
def _sum_rows(rings, first, taps, left, count, fine):
    """Make a row of pixels of T rows of each ring from `first` on, weighted, from `left` on."""
    rows = rings.shape[1]
    for t in range(0, len(taps), 4):
        row = first + t
        a, b, c, d = row % rows, (row + 1) % rows, (row + 2) % rows, (row + 3) % rows
        for k in range(len(rings)):
            ring = rings[k]
            four = ring[a][left:], ring[b][left:], ring[c][left:], ring[d][left:]
            _add_rows(*four, taps[t:], t == 0, fine[k], count)


@inner
def _sum_rows_twice(rings, first, taps, left, count, fine, next_taps, next_fine):
    """Make a row of 4 of each ring, and the next of the same with other weights."""
    rows = rings.shape[1]
    a, b, c, d = first % rows, (first + 1) % rows, (first + 2) % rows, (first + 3) % rows
    for k in range(len(rings)):
        ring = rings[k]
        four = ring[a][left:], ring[b][left:], ring[c][left:], ring[d][left:]
        _weigh_rows_twice(*four, taps, next_taps, fine[k], next_fine[k], count)


@inner
def _add_rows(a, b, c, d, taps, begin, fine, count):
    """Add four rows, weighted, to `fine`, of which nothing counts at the begin."""
    of_a, of_b, of_c, of_d = taps[0], taps[1], taps[2], taps[3]
    for x in range(count):
        left = of_a * _FLOAT(a[x]) + of_b * _FLOAT(b[x])
        value = left + of_c * _FLOAT(c[x]) + of_d * _FLOAT(d[x])
        fine[x] = value if begin else fine[x] + value


@inner
def _weigh_rows_twice(a, b, c, d, taps, next_taps, fine, next_fine, count):
    """Make `fine` of four rows, weighted, and `next_fine` of the same with other weights."""
    of_a, of_b, of_c, of_d = taps[0], taps[1], taps[2], taps[3]
    e, f, g, h = next_taps[0], next_taps[1], next_taps[2], next_taps[3]
    for x in range(count):
        p, q, r, s = a[x], b[x], c[x], d[x]
        fine[x] = of_a * p + of_b * q + of_c * r + of_d * s
        next_fine[x] = e * p + f * q + g * r + h * s


@inner
def _compare(scores, best, label, total, count):
    """Find the best class of pixels by scores (K, ...), and the sum of all by exp, best is 1."""
    classes = len(scores)
    for k in range(0, classes, 2):
        twin = min(k + 1, classes - 1)  # of the last of an odd number itself
        _race(scores[k], scores[twin], best, label, k, count)
    for k in range(0, classes, 2):
        twin = min(k + 1, classes - 1)
        _add_exponentials(scores[k], scores[twin], twin > k, best, k == 0, total, count)


@inner
def _race(one, other, best, label, k, count):
    """Let class `k` or the next win where its score is the best so far, the first anywhere."""
    if k == 0:
        for x in range(count):
            a, b = one[x], other[x]
            best[x] = b if b > a else a
            label[x] = _INT(b > a)
    else:
        for x in range(count):
            a, b, before = one[x], other[x], best[x]
            better, winner = (b, _INT(k + 1)) if b > a else (a, _INT(k))
            label[x] = winner if better > before else label[x]
            best[x] = better if better > before else before


@inner
def _add_exponentials(one, other, two, best, begin, total, count):
    """Add exp(score - best), which is at most 1, of one class or `two` to `total`, within 3e-6."""
    share = _FLOAT(1) if two else _FLOAT(0)
    for x in range(count):
        value = _exponential(one[x] - best[x]) + share * _exponential(other[x] - best[x])
        total[x] = value if begin else total[x] + value


@inner
def _exponential(score):
    power = max(_FLOAT(-99), score * _FLOAT(1.44269504))  # of two
    rounded = _FLOAT(power + _ROUNDS)  # its last bits are the nearest integer
    part = power - (rounded - _ROUNDS)  # whose power of two is a polynomial
    value = _FLOAT(9.5701e-3)
    value = value * part + _FLOAT(5.591786e-2)
    value = value * part + _FLOAT(2.4024745e-1)
    value = value * part + _FLOAT(6.9312181e-1)
    value = value * part + _FLOAT(9.9999926e-1)
    exponent = _INT(rounded.view(_INT) << _INT(23))  # times two to the rest: it is added there
    return _INT(_FLOAT(value).view(_INT) + exponent).view(_FLOAT)


@inner
def _conclude(label, total, labels, confidence, count):
    for x in range(count):
        labels[x] = label[x]
        confidence[x] = _FLOAT(1) / total[x]


@banded
def among(first, last, labels, classes, found):
    """Find labels, (H, W) integer, that are among `classes`, (N,): (H, W) bool, written."""
    for y in range(first, last):
        found[y] = False
        for one in classes:
            _mark(labels[y], one, found[y])


@inner
def _mark(labels, one, found):
    for x in range(len(labels)):
        found[x] |= labels[x] == one


@banded
def find_finite(first, last, values, every, found):
    """Look whether `every` number of each row of (H, N) float32 is finite, or any: (H,) bool."""
    for y in range(first, last):
        count = _count_finite(values[y])
        found[y] = count == values.shape[1] if every else count > 0


@inner
def _count_finite(values):
    count = _INT(0)
    for x in range(len(values)):
        count += _INT(abs(values[x]) < _FLOAT(np.inf))
    return count


@banded
def convert(first, last, raw, factor, offset, lowest, highest, inverted, metres):
    """Read metres, (H, W) float32, written, of `raw`: `scale.metres.metres_of_weights`."""
    for y in range(first, last):
        _convert_row(raw[y], factor, offset, lowest, highest, inverted, metres[y])


@inner
def _convert_row(raw, factor, offset, lowest, highest, inverted, metres):
    for x in range(len(raw)):
        line = min(max(raw[x] * factor + offset, lowest), highest)
        found = _FLOAT(1) / line if inverted else line
        metres[x] = found + _FLOAT(0) * raw[x]  # NaN where that is not finite


@banded
def clean(first, last, depth, sky, cleaned, below, far):
    """
    Mark what is out of range: `cleanup.clean`.

    :param depth: (H, W) float32, metres; `sky` (H, W) bool, or None.
    :param below: the farthest that is too near; `far` is the farthest that is not too far.
    :param cleaned: (H, W) float32, written.
    """
    for y in range(first, last):
        for x in range(depth.shape[1]):
            metres = depth[y, x]
            within = metres if metres > below else _FLOAT(np.nan)
            cleaned[y, x] = _FLOAT(np.inf) if metres > far else within
        if sky is not None:
            for x in range(depth.shape[1]):
                cleaned[y, x] = _FLOAT(np.inf) if sky[y, x] else cleaned[y, x]


@banded
def cut_flying(first, last, depth, rays, tangent, reach, straight, kept):
    """
    Take out pixels that float between a near surface and a far one: `cleanup.cut_flying`.

    :param depth: (H, W) float32, metres.
    :param rays: (2, H, W) float32.
    :param tangent: of the smallest angle between ray and surface.
    :param straight: how far off its neighbors' line a pixel still is on it, of its inverse depth.
    :param kept: (H, W) float32, written.
    """
    width, rows = depth.shape[1], 8 * reach + 1
    room = (
        np.empty((3, width), np.uint8),
        np.empty((3, width), _INT),
        buffer(rows * width).reshape(rows, width),  # of rows in turn: those around a row
    )
    _cut_flying(first, last, depth, rays, tangent, reach, straight, room, kept)


@inner
def _cut_flying(first, last, depth, rays, tangent, reach, straight, room, kept):
    height, width = depth.shape
    marks, slopes, inverse = room
    found, ramp, line = marks[0], marks[1], marks[2]
    slope, above, below = slopes[0], slopes[1], slopes[2]
    rows, done = len(inverse), max(0, first - 4 * reach)
    if 0 < first < height:
        _slopes(
            depth[first - 1],
            depth[first],
            rays[1, first - 1],
            rays[1, first],
            tangent,
            above,
            width,
        )
    for y in range(first, last):
        while done < min(height, y + 4 * reach + 1):
            _invert(depth[done], inverse[done % rows])
            done += 1
        here = inverse[y % rows]
        found[:] = 0
        if width > 2:
            _slopes(depth[y], depth[y][1:], rays[0, y], rays[0, y][1:], tangent, slope, width - 1)
            ramp[0] = ramp[width - 1] = 0
            if _steep(slope, slope[1:], ramp[1:], width - 2):
                for step in (reach, 2 * reach):
                    line[:] = 0
                    twice = 2 * step
                    inner = width - twice
                    if inner > 0:
                        _in_line(here, here[step:], here[twice:], straight, line, inner)
                        _in_line(here[twice:], here[step:], here, straight, line[twice:], inner)
                    _add_bent(ramp, line, found)
        if y + 1 < height:
            _slopes(depth[y], depth[y + 1], rays[1, y], rays[1, y + 1], tangent, below, width)
        if 0 < y < height - 1 and _steep(above, below, ramp, width):
            for step in (reach, 2 * reach):
                line[:] = 0
                if y + 2 * step < height:
                    next_one, last_one = inverse[(y + step) % rows], inverse[(y + 2 * step) % rows]
                    _in_line(here, next_one, last_one, straight, line, width)
                if y >= 2 * step:
                    next_one, last_one = inverse[(y - step) % rows], inverse[(y - 2 * step) % rows]
                    _in_line(here, next_one, last_one, straight, line, width)
                _add_bent(ramp, line, found)
        above, below = below, above
        for x in range(width):
            kept[y, x] = _FLOAT(np.nan) if found[x] else depth[y, x]


@inner
def _invert(values, inverse):
    for x in range(len(values)):
        inverse[x] = _FLOAT(1) / values[x]


@inner
def _slopes(one, other, ray, next_ray, tangent, slope, count):
    """Mark where the surface is too steep to be seen: 1 where it climbs, 2 where it falls."""
    for x in range(count):
        a, b = one[x], other[x]
        nearer = a if a < b else b
        limit, step = nearer * abs(next_ray[x] - ray[x]), (b - a) * tangent
        slope[x] = _INT(step > limit) + _INT(2) * _INT(step < -limit)


@inner
def _steep(before, after, ramp, count):
    """Mark pixels beyond the smallest angle on both sides, to the same side: are there any."""
    some = _INT(0)
    for x in range(count):
        both = before[x] & after[x]
        some |= both
        ramp[x] = both != 0
    return some != 0


@inner
def _in_line(one, middle, other, straight, line, count):
    """Mark pixels on the line that the two next to them make."""
    for x in range(count):
        bend = abs((one[x] - _FLOAT(2) * middle[x]) + other[x])
        line[x] |= bend * straight <= one[x]


@inner
def _add_bent(ramp, line, found):
    """Add the ramps that are not in line."""
    for x in range(len(found)):
        found[x] |= ramp[x] & (1 - line[x])


@banded
def shade(first, last, depth, table, per_metre, painted):
    """
    Look up the color of each depth; what is not finite is black.

    :param depth: (H, W) float32, metres.
    :param table: (256, 3) uint8; `per_metre` is how many of its rows a metre has.
    :param painted: (H, W, 3) uint8, written.
    """
    with_black = np.zeros((257, 3), np.uint8)
    with_black[:256] = table
    rows = np.empty(depth.shape[1], _INT)
    for y in range(first, last):
        _rows_of(depth[y], per_metre, rows)
        _paint(rows, with_black.reshape(-1), painted[y].reshape(-1))


@inner
def _paint(rows, table, painted):
    for x in range(len(rows)):
        row, to = _INDEX(3) * _INDEX(rows[x]), 3 * x
        painted[to], painted[to + 1] = table[row], table[row + _INDEX(1)]
        painted[to + 2] = table[row + _INDEX(2)]


@inner
def _rows_of(depth, per_metre, rows):
    for x in range(len(rows)):
        step = depth[x] * per_metre
        within = min(max(step, _FLOAT(0)), _FLOAT(255))
        rows[x] = _INT(within) if abs(step) < _FLOAT(np.inf) else _INT(256)


@banded
def tint(first, last, image, labels, added, kept, tinted):
    """
    Mix the color of its class into each pixel: `paint.tint`.

    :param image: (H, W, 3) uint8; `labels` (H, W) integer.
    :param added: (N,) uint64, for each label what it adds, 8192 times R, G and B, 21 bits each
        from the lowest; `kept` (N,) uint64, what it leaves of the image, in steps of 1 / 8192.
    :param tinted: (H, W, 3) uint8, written.
    """
    for y in range(first, last):
        _tint_row(image[y].reshape(-1), labels[y], added, kept, tinted[y].reshape(-1))


@inner
def _tint_row(image, labels, added, kept, tinted):
    for x in range(len(labels)):
        label, at = _INDEX(labels[x]), 3 * x
        red, green, blue = _WIDE(image[at]), _WIDE(image[at + 1]), _WIDE(image[at + 2])
        color = red | green << _WIDE(21) | blue << _WIDE(42)
        mixed = color * kept[label] + added[label]  # no part of it carries into the next
        tinted[at], tinted[at + 1] = mixed >> _WIDE(13), mixed >> _WIDE(34)
        tinted[at + 2] = mixed >> _WIDE(55)


@banded
def quantize(first, last, share, steps):
    """Bring (H, W) float32 from 0 to 1 to whole steps from 0 to 255, (H, W) uint8, written."""
    for y in range(first, last):
        for x in range(share.shape[1]):
            steps[y, x] = _INT(share[y, x] * _FLOAT(255) + _FLOAT(0.5))


@banded
def round_millimetres(first, last, depth, whole):
    """Convert (H, W) float32 metres to whole millimetres, uint16, written: `paint.millimetres`."""
    for y in range(first, last):
        _round_row(depth[y], whole[y])


@inner
def _round_row(depth, whole):
    for x in range(len(depth)):
        rounded = depth[x] * _FLOAT(1000) + _ROUNDS - _ROUNDS  # half to even
        within = (rounded > _FLOAT(0)) & (rounded < _FLOAT(65535))
        whole[x] = _INT(rounded if within else _FLOAT(0))


@banded
def fill(first, last, depth, value, filled):
    """Write (H, W) float32 `depth`, and `value` where it is not finite."""
    for y in range(first, last):
        for x in range(depth.shape[1]):
            filled[y, x] = depth[y, x] if abs(depth[y, x]) < _FLOAT(np.inf) else value


@banded
def choose(first, last, depth, clearing, labels, chosen, solid):
    """
    Choose what becomes points: `points.choose`.

    :param clearing: what +Inf becomes.
    :param labels: (H, W) integer, the rows of `chosen` (N,) bool; or both None.
    :param solid: (H, W) float32, written, NaN where not chosen.
    """
    for y in range(first, last):
        for x in range(depth.shape[1]):
            solid[y, x] = clearing if depth[y, x] == _FLOAT(np.inf) else depth[y, x]
        if chosen is not None:
            for x in range(depth.shape[1]):
                solid[y, x] = solid[y, x] if chosen[_INDEX(labels[y, x])] else _FLOAT(np.nan)


@banded
def lift(first, last, depth, rays, colors, labels, confidence, labelled, points):
    """
    Pack points: `points.pack_points`.

    :param labelled: whether `labels` (H, W) and `confidence` (H, W) go into the padding.
    :param points: (H, W, 4) int64, two numbers of 32 bits each, written.
    """
    for y in range(first, last):
        for x in range(depth.shape[1]):
            # NaN where either is not finite
            point, z = points[y, x], depth[y, x] + _FLOAT(0) * (depth[y, x] + rays[0, y, x])
            red, green, blue = _INT(colors[y, x, 0]), _INT(colors[y, x, 1]), _INT(colors[y, x, 2])
            color = _INT(red << _INT(16) | green << _INT(8) | blue)
            point[0] = _pair(_bits(rays[0, y, x] * z), _bits(rays[1, y, x] * z))
            point[1] = _pair(_bits(z), _INT(0))
            if labelled:
                point[2] = _pair(color, _INT(labels[y, x]))
                point[3] = _pair(_bits(confidence[y, x]), _INT(0))
            else:
                point[2], point[3] = _pair(color, _INT(0)), 0


@inner
def _bits(number):
    return _FLOAT(number).view(_INT)


@inner
def _pair(one, other):
    """Put two numbers where one of twice the size goes, as memory of this machine has them."""
    if _LITTLE:
        return _WIDE(np.uint32(one)) | _WIDE(np.uint32(other)) << _WIDE(32)
    return _WIDE(np.uint32(other)) | _WIDE(np.uint32(one)) << _WIDE(32)
