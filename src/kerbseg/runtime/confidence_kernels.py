"""Machine code behind the confidence of `upsample_argmax`: ids and how sure they are, without full-size logits.

Each source pixel's distances from its largest logit are interpolated, along the row first: what is common to all
classes changes no softmax, and small numbers keep their digits. The logarithm of a class's probability is concave in
the logits, so that a pixel is at least as sure as the least sure of the four around it where all have one class:
cells between four that are certain are filled, as those between four of one class are filled with ids.
"""

from __future__ import annotations

import numpy as np

from kerbseg.runtime.upsample_kernels import compiled, exp, fill_strip, mix, strip_scratch

BLOCK, ROWS = 128, 8  # columns in which a class is left out or not, and rows that are summed up at once
PART = 64  # columns that are interpolated from one row at once
FEW = 10  # cells between four that are certain: fewer in a row are computed like their neighbors
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
def fill_others(distances, tops, others):  # type: ignore[no-untyped-def]
    """The powers of all classes but the largest of each pixel, of which `1 / (1 + others)` is its probability."""
    width = len(others)
    for x in range(width):
        others[x] = 0
    for k in range(len(distances)):
        for x in range(width):
            power = exp(distances[k, x])
            others[x] += power if tops[x] != k else np.float32(0)


@compiled
def widen(distances, before, weights, start, end, wide):  # type: ignore[no-untyped-def]
    """Some columns of a row of the width of the logits, interpolated."""
    for column in range(start, end):
        x = np.uint32(before[column])
        wide[column] = mix(weights[column], distances[x], distances[x + np.uint32(1)])


@compiled
def next_end(cells, before, starts, start, across):  # type: ignore[no-untyped-def]
    """Where a run of columns ends whose cells are all certain, or of which no more than a few in a row are."""
    x, width = before[start], len(cells)
    if not cells[x]:
        while x < width and not cells[x]:
            x += 1
        return across if x == width else min(starts[x], across)
    certain = 0
    while x < width and certain < FEW and starts[x] < start + BLOCK:
        certain = 0 if cells[x] else certain + 1
        x += 1
    if certain == FEW:
        return starts[x - FEW]
    return min(starts[x], start + BLOCK, across)


@compiled
def lowest_best(upper, lower, near, far, cells, x0, x1):  # type: ignore[no-untyped-def]
    """At most the largest interpolated distance of any pixel of some cells: that of the mean of their corners' classes.

    A largest one is no less than the mean of any, and a mean of distances is interpolated as each of them is.
    """
    lowest = np.float32(0)
    for x in range(x0, x1 + 1):
        if not cells[x]:
            continue
        beside = min(x + 1, len(upper) - 1)
        four = upper[x], upper[beside], lower[x], lower[beside]
        if four[0] == four[1] and four[0] == four[2] and four[0] == four[3]:
            continue
        one, two, three, last = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
        for top in four:
            one += near[top, x]
            two += near[top, beside]
            three += far[top, x]
            last += far[top, beside]
        lowest = min(lowest, min(min(one, two), min(three, last)) / 4)
    return lowest


@compiled
def keep(near, far, x0, x1, least, kept):  # type: ignore[no-untyped-def]
    """How many classes are above the least anywhere in some columns of both rows; `kept` lists them."""
    count = 0
    for k in range(len(near)):
        one, other = near[k, x0], far[k, x0]
        for x in range(x0 + 1, x1 + 2):
            one, other = max(one, near[k, x]), max(other, far[k, x])
        kept[count] = k
        count += 1 if max(one, other) > least else 0
    return count


@compiled
def add_class(weights, near, far, measure, sums, best, more):  # type: ignore[no-untyped-def]
    """To the sums of some rows the powers of a class, to `best` if larger; `more` is what the measure needs besides.

    Sums are of all powers but the largest, beside which many small ones would be rounded away. `more` is the
    sum of powers times distances for entropy, and the second largest power for a margin.
    """
    for row in range(len(weights)):
        v = weights[row]
        if measure == PROBABILITY:
            for i in range(len(near)):
                power = exp(mix(v, near[i], far[i]))
                sums[row, i] += min(best[row, i], power)
                best[row, i] = max(best[row, i], power)
        elif measure == ENTROPY:
            for i in range(len(near)):
                distance = mix(v, near[i], far[i])
                power = exp(distance)
                sums[row, i] += min(best[row, i], power)
                best[row, i] = max(best[row, i], power)
                more[row, i] += power * max(distance, np.float32(-87))
        else:
            for i in range(len(near)):
                power = exp(mix(v, near[i], far[i]))
                sums[row, i] += min(best[row, i], power)
                more[row, i] = max(more[row, i], min(best[row, i], power))
                best[row, i] = max(best[row, i], power)


@compiled
def write(measure, scale, log_classes, sums, best, more, line):  # type: ignore[no-untyped-def]
    """The confidence of some pixels times `scale`, from what `add_class` has made; it ends in `best`."""
    if measure == PROBABILITY:
        for i in range(len(line)):
            best[i] = best[i] / (best[i] + sums[i])
    elif measure == MARGIN:
        for i in range(len(line)):
            best[i] = (best[i] - more[i]) / (best[i] + sums[i])
    else:
        for i in range(len(line)):
            total = best[i] + sums[i]
            entropy = max(np.log(total) - more[i] / total, np.float32(0))
            best[i] = max(1 - entropy / log_classes, np.float32(0))
    if scale > 1:
        for i in range(len(line)):
            line[i] = np.int32(scale * best[i] + np.float32(0.5))  # of 32 bits, which fit wide registers
    else:
        for i in range(len(line)):
            line[i] = best[i]


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
    1. Classes that are below the largest by `negligible` in a whole block are left out. Where a pixel's largest
    distance is below `coarse`, in which float32 has too few digits, it is computed in float64.
    """
    pixels = logits.transpose(0, 2, 3, 1) if planes else logits.transpose(0, 1, 2, 3)
    batch, height, width, classes = pixels.shape
    across = ids.shape[2]
    upper, lower = np.empty(width, np.uint8), np.empty(width, np.uint8)
    near, far = np.empty((classes, width + 1), np.float32), np.empty((classes, width + 1), np.float32)
    wide_near, wide_far = np.empty((classes, across), np.float32), np.empty((classes, across), np.float32)
    parts = (across + PART - 1) // PART
    made_near, made_far = np.empty((parts, classes), np.bool_), np.empty((parts, classes), np.bool_)
    others, unsure = np.empty(width, np.float32), np.empty((2, width), np.bool_)
    cells, kept, scratch = np.empty(width, np.bool_), np.empty(classes + 1, np.int64), strip_scratch(width, classes)
    largest = np.empty(width, np.float32)
    sums, best = np.empty((ROWS, BLOCK), np.float32), np.empty((ROWS, BLOCK), np.float32)
    more = np.empty((ROWS, BLOCK), np.float32)
    dims = np.zeros(BLOCK, np.bool_)
    dim, log_classes = exp(np.float32(coarse)), np.float32(np.log(classes))
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
                fill_others(near, upper, others)
                unsure[0] = others > certain
                made_near[:] = False
            fill_distances(logits, planes, b, below, factor, lower, largest, far)
            fill_others(far, lower, others)
            unsure[1] = others > certain
            made_far[:] = False
            known = below
            fill_strip(pixels[b], y, upper, lower, rows, row_weights, starts, column_weights, ids[b], scratch)
            for x in range(width):
                beside = min(x + 1, width - 1)
                differ = (upper[x] != upper[beside]) | (upper[x] != lower[x]) | (upper[x] != lower[beside])
                cells[x] = differ | unsure[0, x] | unsure[0, beside] | unsure[1, x] | unsure[1, beside]
            start = 0
            while start < across:
                end = next_end(cells, before, starts, start, across)
                x0, x1 = before[start], before[end - 1]
                if not cells[x0 : x1 + 1].any():
                    for row in range(rows[0], rows[1]):
                        confidence[b, row, start:end] = scale
                    start = end
                    continue
                lowest = lowest_best(upper, lower, near, far, cells, x0, x1)
                count = keep(near, far, x0, x1, lowest + negligible, kept)
                for part in range(start // PART, (end - 1) // PART + 1):
                    here = part * PART, min(part * PART + PART, across)
                    for n in range(count):
                        k = kept[n]
                        if not made_near[part, k]:
                            widen(near[k], before, column_weights, here[0], here[1], wide_near[k])
                            made_near[part, k] = True
                        if not made_far[part, k]:
                            widen(far[k], before, column_weights, here[0], here[1], wide_far[k])
                            made_far[part, k] = True
                for top in range(rows[0], rows[1], ROWS):
                    bottom = min(top + ROWS, rows[1])
                    for each in (sums, best, more):
                        for row in range(bottom - top):
                            each[row, : end - start] = 0
                    for n in range(count):
                        one, other = wide_near[kept[n], start:end], wide_far[kept[n], start:end]
                        add_class(row_weights[top:bottom], one, other, measure, sums, best, more)
                    for row in range(top, bottom):
                        line, r = confidence[b, row, start:end], row - top
                        if lowest < coarse:
                            dims = best[r] < dim
                        write(measure, scale, log_classes, sums[r], best[r], more[r], line)
                        if lowest >= coarse:
                            continue
                        for i in range(end - start):
                            if dims[i]:
                                x, weights = before[start + i], (row_weights[row], column_weights[start + i])
                                around = y, below, x, min(x + 1, width - 1)
                                own = ids[b, row, start + i]
                                sure = exactly(pixels[b], around, weights, factor, measure, own)
                                line[i] = scale * np.float32(sure) + np.float32(0.5 if scale > 1 else 0)
                start = end


@compiled
def exactly(pixels, around, weights, factor, measure, own):  # type: ignore[no-untyped-def]
    """The confidence in one pixel's id, in float64."""
    y, below, x, beside = around
    v, u = np.float64(weights[0]), np.float64(weights[1])
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
    entropy = max(np.log(total) - slope / total, 0.0)
    return max(1 - entropy / np.log(pixels.shape[2]), 0.0)
