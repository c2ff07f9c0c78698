# SPDX-License-Identifier: GPL-2.0-or-later
"""Case pause: how long a checkpoint stops the guest, how long its outputs wait, how much is sent. Under request/response load."""
import time

import plots
import variants
from lab import load, paths
from lab.vm import pair

NAME = "pause"
TITLE = "Pause and commit"
ABOUT = ("How long a checkpoint stops the guest (pause), and how long from the cut until the twin has acknowledged it (commit), under "
         "request/response load. Read from the primary's own statistics.")
MACHINES = variants.SIZES
CONNECTIONS = (1, 32)
MARGIN_S = 0.5
FIGURES = {
    "pause_us.p50": lambda s: s["pause_us"]["p50"],
    "pause_us.p99": lambda s: s["pause_us"]["p99"],
    "commit_us.p50": lambda s: s["commit_us"]["p50"],
    "commit_us.p99": lambda s: s["commit_us"]["p99"],
    "pages_per_checkpoint": lambda s: s["pages_per_checkpoint"],
    "bytes_per_checkpoint": lambda s: s["bytes_per_checkpoint"],
    "checkpoints_per_s": lambda s: s["window_checkpoints"] / s["window_s"],
}
# What a checkpoint is made of. The last comes after the pause: other vCPUs run again, but the one that stopped for the cut sends it.
PARTS = ("stop", "save", "collect", "copy", "go_on", "send")
FIGURES.update({f"pause_part_us.{part}": lambda s, part=part: s["pause_parts_us"][part]["p50"] for part in PARTS})


def window(lab, active, connections, effort):
    """The primary's statistics over one window of load; the load runs before and after it too."""
    whole = effort.seconds + 3 * MARGIN_S
    busy = lab.client.spawn([paths.FUT_RR, load.GUEST_IP, str(load.ECHO), str(connections), str(whole)], "rr")
    time.sleep(2 * MARGIN_S)
    active.call("reset-stats")
    before, began = active.status()["checkpoints"], time.monotonic()
    time.sleep(effort.seconds)
    status = active.status()
    status["window_s"] = time.monotonic() - began
    status["window_checkpoints"] = status["checkpoints"] - before
    if busy.wait(30) != 0:
        raise RuntimeError(f"the load broke while measuring: {busy.output()}")
    variants.check(active)
    return status


def one(lab, machine, effort, say):
    """Figures of one configuration: lists are samples, one a round. Those of one connection have the plain names."""
    figures = {}
    for number in range(effort.repeats):
        active, _ = pair(lab, machine)
        for n in CONNECTIONS:
            status = window(lab, active, n, effort)
            for key, figure in FIGURES.items():
                figures.setdefault(key + ("" if n == 1 else f"_{n}conn"), []).append(figure(status))
        lab.reset()
        say(f"{number + 1}/{effort.repeats}: " + ", ".join(
            f"{what} {figures[what + '_us.p50'][-1]:.0f}/{figures[what + '_us.p99'][-1]:.0f} µs" for what in ("pause", "commit")))
    return figures


def run(lab, effort, say):
    return variants.each(lab, MACHINES, effort, say, one)


def plot(folder, result):
    names = [name for name in result["configurations"] if "pause_us.p50" in result[name]]
    title = "A checkpoint under one connection of request/response"
    return [plots.bars(folder, "pause", title, "µs", names, {
        f"{what} {level}": [result[name][f"{what}_us.{level}"] for name in names] for what in ("pause", "commit") for level in ("p50", "p99")}),
            plots.bars(folder, "pause-parts", title + ": medians of its parts", "µs", names, {
                part: [result[name][f"pause_part_us.{part}"] for name in names] for part in PARTS}, stacked=True)]
