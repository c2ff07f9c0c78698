# SPDX-License-Identifier: GPL-2.0-or-later
"""./dev bench compare A.json B.json: which figures moved from one run to another, by a rank test over their samples."""
import math
import statistics
import sys

import results

SAMPLES_MIN = 30
SURE = 0.01  # the chance to call a difference what is none, for each figure


def ranks(values):
    """Ranks from 1; equal values share the mean of theirs. Also the sizes of the groups of equals."""
    order = sorted(range(len(values)), key=values.__getitem__)
    ranked, ties, at = [0.0] * len(values), [], 0
    while at < len(order):
        end = at
        while end < len(order) and values[order[end]] == values[order[at]]:
            end += 1
        for position in order[at:end]:
            ranked[position] = (at + 1 + end) / 2
        ties.append(end - at)
        at = end
    return ranked, ties


def rank_test(a, b):
    """Mann and Whitney's U, two-sided, by the normal approximation with ties (fine from 20 samples a side): the probability that
    two equal sources differ as much."""
    n, m = len(a), len(b)
    ranked, ties = ranks(a + b)
    u = sum(ranked[:n]) - n * (n + 1) / 2
    spread = n * m / 12 * (n + m + 1 - sum(t ** 3 - t for t in ties) / ((n + m) * (n + m - 1)))
    if spread <= 0:
        return 1.0
    z = max(abs(u - n * m / 2) - 0.5, 0) / math.sqrt(spread)
    return math.erfc(z / math.sqrt(2))


def rows(first, second):
    """(configuration, figure, median, median, p or None when there are too few samples)"""
    for name, figures in first["samples"].items():
        for key, before in figures.items():
            after = second["samples"].get(name, {}).get(key)
            if after:
                enough = min(len(before), len(after)) >= SAMPLES_MIN
                yield name, key, statistics.median(before), statistics.median(after), rank_test(before, after) if enough else None


def verdict(p, before, after):
    if p is None:
        return f"fewer than {SAMPLES_MIN} samples"
    if p >= SURE:
        return "no difference shown"
    return f"{'higher' if after > before else 'lower'} (p = {p:.1g})"


def main(first_path, second_path):
    """Prints the table. Exit status: 0 nothing moved, 1 something did, 2 the files cannot be compared."""
    try:
        first, second = results.read_json(first_path), results.read_json(second_path)
    except ValueError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    found = list(rows(first, second))
    if not found:
        print("bench: the two files have no figure in common", file=sys.stderr)
        return 2
    lines = [(f"{name} {key}", f"{before:g}", f"{after:g}", f"{100 * (after / before - 1):+.1f} %" if before else "", verdict(p, before, after))
             for name, key, before, after, p in found]
    widths = [max(len(line[i]) for line in lines) for i in range(4)]
    for line in lines:
        print("  ".join([line[0].ljust(widths[0])] + [cell.rjust(width) for cell, width in zip(line[1:4], widths[1:])] + [line[4]]))
    return 1 if any(p is not None and p < SURE for *_, p in found) else 0
