# SPDX-License-Identifier: GPL-2.0-or-later
"""Case rr: what protection costs a service that answers requests."""
import plots
import variants
from lab import load

NAME = "rr"
TITLE = "Request/response"
ABOUT = ("One byte there, one byte back, then the next. Stock QEMU without the module, the module loaded but without a twin (the same way of "
         "sending), and the protected pair, in turn.")
MACHINES = variants.SIZES
CONNECTIONS = {"1conn": 1, "32conn": 32}
NAMES = {variants.STOCK: "unprotected", variants.IDLE: "same_path", variants.PROTECTED: "protected"}


def one(lab, machine, effort, say):
    """Figures of one configuration: lists are samples, one a round."""
    found = variants.in_turn(lab, machine, effort, lambda vm: {
        load_name: load.rr(lab.client, n, effort.seconds)["tps"] for load_name, n in CONNECTIONS.items()}, say, "per s")
    figures = {f"rr.{name}_{what}": variants.ratios(found[what], below) for name, below in variants.RATIOS for what in CONNECTIONS}
    for variant, name in NAMES.items():
        for what in CONNECTIONS:
            figures[f"rr.{name}_tps" + ("" if what == "1conn" else f"_{what}")] = found[what][variant]
    return figures


def run(lab, effort, say):
    return variants.each(lab, MACHINES, effort, say, one)


def plot(folder, result):
    names = [name for name in result["configurations"] if "rr.ratio_1conn" in result[name]]
    return [plots.bars(folder, f"rr-{what}", f"Transactions per second, {n} connection{'s' if n > 1 else ''}", "transactions/s", names, {
        label: [result[name][f"rr.{label}_tps" + ("" if n == 1 else f"_{what}")] for name in names] for label in NAMES.values()})
        for what, n in CONNECTIONS.items()]
