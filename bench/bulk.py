# SPDX-License-Identifier: GPL-2.0-or-later
"""Case bulk: what protection costs a long transfer over one connection, out of the guest and into it."""
import plots
import variants
from lab import load

NAME = "bulk"
TITLE = "Bulk transfer"
ABOUT = "One TCP connection, bytes that do not compress, out of the guest and into it. Counted is what the receiver has acknowledged."
MACHINES = variants.SMALL
WAYS = {"out": (load.SOURCE, "receive"), "in": (load.SINK, "send")}


def one(lab, machine, effort, say):
    """Figures of one configuration: lists are samples, one a round."""
    found = variants.in_turn(lab, machine, effort, lambda vm: {
        way: load.bulk(lab.client, *how, effort.seconds)["mbit_s"] for way, how in WAYS.items()}, say, "Mbit/s")
    figures = {f"bulk.{name}_{way}": variants.ratios(found[way], below) for name, below in variants.RATIOS for way in WAYS}
    for way in WAYS:
        figures.update({f"bulk.{variant}_{way}_mbit_s": found[way][variant] for variant in variants.ALL})
    return figures


def run(lab, effort, say):
    return variants.each(lab, MACHINES, effort, say, one)


def plot(folder, result):
    names = [name for name in result["configurations"] if "bulk.ratio_out" in result[name]]
    groups = [f"{name} {way}" for name in names for way in WAYS]
    return [plots.bars(folder, "bulk", "One bulk transfer", "Mbit/s", groups, {
        variant: [result[name][f"bulk.{variant}_{way}_mbit_s"] for name in names for way in WAYS] for variant in variants.ALL})]
