# SPDX-License-Identifier: GPL-2.0-or-later
"""Plots of the benchmarks: one look for all, each as SVG and as PNG."""
import math
import os

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

# Told apart by people who do not see all colours, too (Okabe and Ito).
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
LOOK = {"font.size": 10, "axes.titlesize": 11, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
        "axes.grid.axis": "y", "grid.color": "#dddddd", "axes.axisbelow": True, "legend.frameon": False,
        "svg.hashsalt": "futago"}


def new(title, x_label, y_label):
    """Empty axes in the common look."""
    plt.rcParams.update(LOOK)
    figure, axes = plt.subplots(figsize=(8, 4.2), layout="constrained")
    axes.set_prop_cycle(color=COLOURS)
    axes.set_title(title, loc="left")
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    return figure, axes


def save(figure, folder, name):
    """NAME.svg and NAME.png in the folder; returns their paths."""
    os.makedirs(folder, exist_ok=True)
    files = [os.path.join(folder, f"{name}.{kind}") for kind in ("svg", "png")]
    for path in files:
        figure.savefig(path, dpi=150, metadata={"Date": None} if path.endswith("svg") else None)
    plt.close(figure)
    return files


def bin_width(highest, bins_wanted=40):
    """A round width (1, 2 or 5 times a power of ten) for about so many bins from 0."""
    least = max(highest, 1e-9) / bins_wanted
    power = 10 ** math.floor(math.log10(least))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= least)


def histogram(folder, name, title, x_label, y_label, groups, marks):
    """Values of each group ({label: values}), stacked; a line at each mark ({label: value}). At least one value."""
    highest = max(value for group in groups.values() for value in group)
    figure, axes = new(title, x_label, y_label)
    width = bin_width(highest)
    edges = [width * i for i in range(int(highest / width) + 2)]
    axes.hist(list(groups.values()), bins=edges, stacked=True, label=list(groups), color=COLOURS[:len(groups)],
              edgecolor="white", linewidth=0.4)
    for (label, value), style in zip(marks.items(), ("--", ":", "-.")):
        axes.axvline(value, color="#444444", linestyle=style, linewidth=1.2, label=f"{label}: {value:.0f}")
    axes.set_xlim(left=0)
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return save(figure, folder, name)
