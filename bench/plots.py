# SPDX-License-Identifier: GPL-2.0-or-later
"""Plots of the benchmarks: one look for all, each as SVG and as PNG."""
import math
import os

# Told apart by people who do not see all colours, too (Okabe and Ito).
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
LOOK = {"font.size": 10, "axes.titlesize": 11, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
        "axes.grid.axis": "y", "grid.color": "#dddddd", "axes.axisbelow": True, "legend.frameon": False,
        "svg.hashsalt": "futago"}


def pyplot():
    """Loaded only when something is drawn."""
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    return plt


def new(title, x_label, y_label):
    """Empty axes in the common look."""
    plt = pyplot()
    plt.rcParams.update(LOOK)
    figure, axes = plt.subplots(figsize=(8, 4.2), layout="constrained")
    axes.set_prop_cycle(color=COLOURS)
    axes.set_title(title, loc="left")
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    return figure, axes


def save(figure, folder, name):
    """NAME.svg and NAME.png in the folder; returns the former's name."""
    os.makedirs(folder, exist_ok=True)
    for kind, metadata in (("svg", {"Date": None}), ("png", None)):
        figure.savefig(os.path.join(folder, f"{name}.{kind}"), dpi=150, metadata=metadata)
    pyplot().close(figure)
    return f"{name}.svg"


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


def bars(folder, name, title, y_label, groups, series, stacked=False):
    """For each group a bar of each series ({label: value of each group}), side by side or on top of one another."""
    figure, axes = new(title, "", y_label)
    at = range(len(groups))
    width = 0.6 if stacked else 0.8 / len(series)
    floor = [0.0] * len(groups)
    for number, (label, values) in enumerate(series.items()):
        places = list(at) if stacked else [x + (number - (len(series) - 1) / 2) * width for x in at]
        drawn = axes.bar(places, values, width, bottom=floor if stacked else None, label=label, color=COLOURS[number % len(COLOURS)])
        if stacked:
            floor = [low + value for low, value in zip(floor, values)]
        else:
            axes.bar_label(drawn, fmt="%.4g", fontsize=7)
    axes.set_xticks(list(at), groups)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return save(figure, folder, name)


def lines(folder, name, title, x_label, y_label, x_values, series, log_x=False, log_y=False):
    """One line for each series ({label: value at each x}), from 0 unless log_y."""
    figure, axes = new(title, x_label, y_label)
    for number, (label, values) in enumerate(series.items()):
        axes.plot(x_values, values, marker="o", markersize=4, label=label, color=COLOURS[number % len(COLOURS)])
    if log_x:
        axes.set_xscale("log", base=2)
        axes.set_xticks(x_values, [f"{x:g}" for x in x_values])
    if log_y:
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return save(figure, folder, name)
