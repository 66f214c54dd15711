"""Machine code behind the confidence of `upsample_argmax`: ids and how sure they are, without full-size logits.

Each source pixel's distances from its largest logit are interpolated, along the row first: what is common to all
classes changes no softmax, and small numbers keep their digits. The logarithm of a class's probability is concave in
the logits, so that a pixel is at least as sure as the least sure of the four around it where all have one class:
cells between four that are certain are filled, as those between four of one class are filled with ids.
"""

from __future__ import annotations

import numpy as np

from kerbseg.runtime.upsample_kernels import compiled, exp, fill_strip, mix, strip_scratch

BLOCK = 64  # columns, in which a class is left out or not
PROBABILITY, ENTROPY, MARGIN = 0, 1, 2


@compiled
def fill_distances(logits, planes, b, y, factor, tops, largest, distances):  # type: ignore[no-untyped-def]
    """How far each class [k w] is below the largest logit of its pixel, times the factor; and the first such class."""
    width = len(tops)
    for x in range(width):
        tops[x] = 0
        largest[x] = logits[b, 0, y, x] if planes else logits[b, y, x, 0]
    classes = len(distances)
    for k in range(classes):
        for x in range(width):
            value = np.float32(logits[b, k, y, x] if planes else logits[b, y, x, k])
            distances[k, x] = value
            above = value > largest[x]
            largest[x] = value if above else largest[x]
            tops[x] = np.uint8(k) if above else tops[x]
    for k in range(classes):
        for x in range(width):
            apart = factor * (np.float64(distances[k, x]) - np.float64(largest[x]))
            distances[k, x] = max(apart, -1e30)  # no infinite float32
        distances[k, width] = distances[k, width - 1]


@compiled
def fill_others(distances, others):  # type: ignore[no-untyped-def]
    """The powers of all classes but the largest of each pixel, of which `1 / (1 + others)` is its probability."""
    width = len(others)
    for x in range(width):
        others[x] = -1
    for k in range(len(distances)):
        for x in range(width):
            others[x] += exp(distances[k, x])


@compiled
def widen(distances, before, weights, start, end, wide):  # type: ignore[no-untyped-def]
    """Some columns of a row of the width of the logits, interpolated."""
    for k in range(len(distances)):
        for column in range(start, end):
            x = np.uint32(before[column])
            wide[k, column] = mix(weights[column], distances[k, x], distances[k, x + np.uint32(1)])


@compiled
def confident(  # type: ignore[no-untyped-def]
    logits,
    planes,
    row_starts,
    row_weights,
    starts,
    before,
    column_weights,
    factor,
    measure,
    certain,
    negligible,
    coarse,
    scale,
    ids,
    confidence,
    first,
    last,
):
    """Fills the ids and their confidence [b H W] below source rows `first` to `last`, of logits times the factor.

    Where all other classes together have less than `certain` of the power of the largest, a pixel has the confidence
    1. Classes whose powers are below `e ** negligible` in a whole block are left out. Where a pixel's best distance is below
    `coarse`, in which float32 has too few digits, it is computed in float64. The confidence is written times `scale`:
    255 is for bytes, which are rounded.
    """
    pixels = logits.transpose(0, 2, 3, 1) if planes else logits.transpose(0, 1, 2, 3)
    batch, height, width, classes = pixels.shape
    across = ids.shape[2]
    blocks = (across + BLOCK - 1) // BLOCK
    half = np.float32(0.5 if scale > 1 else 0)
    upper, lower = np.empty(width, np.uint8), np.empty(width, np.uint8)
    near, far = np.empty((classes, width + 1), np.float32), np.empty((classes, width + 1), np.float32)
    others, unsure = np.empty(width, np.float32), np.empty((2, width), np.bool_)
    wide_near, wide_far = np.empty((classes, across), np.float32), np.empty((classes, across), np.float32)
    made_near, made_far = np.zeros(blocks, np.bool_), np.zeros(blocks, np.bool_)
    cells, scratch = np.empty(width, np.bool_), strip_scratch(width, classes)
    largest, most = np.empty(width, np.float32), np.empty(classes, np.float32)
    best, second = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    sums, slopes = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    for b in range(batch):
        known = -1  # the source row that `lower` and `far` are of
        for y in range(first, last):
            rows = row_starts[y], row_starts[y + 1]
            if rows[0] == rows[1]:
                continue
            below = min(y + 1, height - 1)
            if known == y:
                upper, lower, near, far = lower, upper, far, near
                wide_near, wide_far, made_near, made_far = wide_far, wide_near, made_far, made_near
                unsure[0] = unsure[1]
            else:
                fill_distances(logits, planes, b, y, factor, upper, largest, near)
                fill_others(near, others)
                unsure[0] = others > certain
                made_near[:] = False
            fill_distances(logits, planes, b, below, factor, lower, largest, far)
            fill_others(far, others)
            unsure[1] = others > certain
            made_far[:] = False
            known = below
            fill_strip(pixels[b], y, upper, lower, rows, row_weights, starts, column_weights, ids[b], scratch)
            for x in range(width):
                beside = min(x + 1, width - 1)
                differ = upper[x] != upper[beside] or upper[x] != lower[x] or upper[x] != lower[beside]
                doubt = unsure[0, x] or unsure[0, beside] or unsure[1, x] or unsure[1, beside]
                cells[x] = differ or doubt
            for block in range(blocks):
                start, end = block * BLOCK, min(block * BLOCK + BLOCK, across)
                if not cells[before[start] : before[end - 1] + 1].any():
                    for row in range(rows[0], rows[1]):
                        confidence[b, row, start:end] = scale
                    continue
                if not made_near[block]:
                    widen(near, before, column_weights, start, end, wide_near)
                    made_near[block] = True
                if not made_far[block]:
                    widen(far, before, column_weights, start, end, wide_far)
                    made_far[block] = True
                for k in range(classes):
                    most[k] = max(wide_near[k, start:end].max(), wide_far[k, start:end].max())
                size = end - start
                for row in range(rows[0], rows[1]):
                    v = row_weights[row]
                    for i in range(size):
                        best[i], second[i] = -np.inf, -np.inf
                        sums[i], slopes[i] = 0, 0
                    for k in range(classes):
                        one, other = wide_near[k, start:end], wide_far[k, start:end]
                        if measure == MARGIN:
                            for i in range(size):
                                value = mix(v, one[i], other[i])
                                second[i] = max(second[i], min(best[i], value))
                                best[i] = max(best[i], value)
                        else:
                            for i in range(size):
                                best[i] = max(best[i], mix(v, one[i], other[i]))
                    lowest = best[:size].min()
                    for k in range(classes):
                        if most[k] <= lowest + negligible:
                            continue
                        one, other = wide_near[k, start:end], wide_far[k, start:end]
                        if measure == ENTROPY:
                            for i in range(size):
                                apart = mix(v, one[i], other[i]) - best[i]
                                power = exp(apart)
                                sums[i] += power
                                slopes[i] += power * max(apart, np.float32(-87))
                        else:
                            for i in range(size):
                                sums[i] += exp(mix(v, one[i], other[i]) - best[i])
                    line = confidence[b, row, start:end]
                    if measure == PROBABILITY:
                        for i in range(size):
                            line[i] = scale / sums[i] + half
                    elif measure == MARGIN:
                        for i in range(size):
                            line[i] = scale * (1 - exp(second[i] - best[i])) / sums[i] + half
                    else:
                        for i in range(size):
                            entropy = np.log(sums[i]) - slopes[i] / sums[i]
                            line[i] = scale * max(1 - entropy / np.float32(np.log(classes)), np.float32(0)) + half
                    if lowest >= coarse:
                        continue
                    for i in range(size):
                        if best[i] < coarse:
                            x = before[start + i]
                            around = y, below, x, min(x + 1, width - 1)
                            exact = exactly(
                                pixels[b], *around, v, column_weights[start + i], factor, measure, ids[b, row, start + i]
                            )
                            line[i] = scale * np.float32(exact) + half


@compiled
def exactly(pixels, y, below, x, beside, v, u, factor, measure, own):  # type: ignore[no-untyped-def]
    """The confidence in one pixel's id, in float64."""
    v, u = np.float64(v), np.float64(u)
    total, slope, nearest = 0.0, 0.0, -np.inf
    for k in range(pixels.shape[2]):
        above = (1 - u) * (np.float64(pixels[y, x, k]) - np.float64(pixels[y, x, own]))
        above += u * (np.float64(pixels[y, beside, k]) - np.float64(pixels[y, beside, own]))
        under = (1 - u) * (np.float64(pixels[below, x, k]) - np.float64(pixels[below, x, own]))
        under += u * (np.float64(pixels[below, beside, k]) - np.float64(pixels[below, beside, own]))
        apart = factor * ((1 - v) * above + v * under)
        power = np.exp(apart)
        total += power
        slope += power * max(apart, -700.0)
        if k != own:
            nearest = max(nearest, apart)
    if measure == PROBABILITY:
        return 1 / total
    if measure == MARGIN:
        return (1 - np.exp(min(nearest, 0.0))) / total
    return max(1 - (np.log(total) - slope / total) / np.log(pixels.shape[2]), 0.0)
