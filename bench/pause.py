# SPDX-License-Identifier: GPL-2.0-or-later
"""Case pause: how long a checkpoint stops the guest, how long its outputs wait, how much is sent. Under request/response load."""
import statistics

from lab import load
from lab.vm import pair

NAME = "pause"
CONNECTIONS = (1, 32)
FIGURES = {
    "pause_us.p50": lambda s: s["pause_us"]["p50"],
    "pause_us.p99": lambda s: s["pause_us"]["p99"],
    "commit_us.p50": lambda s: s["commit_us"]["p50"],
    "commit_us.p99": lambda s: s["commit_us"]["p99"],
    "pages_per_checkpoint": lambda s: s["pages_per_checkpoint"],
    "bytes_per_checkpoint": lambda s: s["bytes_per_checkpoint"],
    "checkpoints_per_s": lambda s: s["window_checkpoints"] / s["window_s"],
}


def window(lab, active, connections, effort):
    """The primary's statistics over one window of load; the load runs before and after it too."""
    margin = 0.5
    whole = effort.seconds + 2 * margin
    busy = lab.client.spawn([load.paths.FUT_RR, load.GUEST_IP, str(load.ECHO), str(connections), str(whole)], "rr")
    load.time.sleep(2 * margin)
    active.call("reset-stats")
    before, began = active.status()["checkpoints"], load.time.monotonic()
    load.time.sleep(effort.seconds)
    status = active.status()
    status["window_s"] = load.time.monotonic() - began
    status["window_checkpoints"] = status["checkpoints"] - before
    if busy.wait(30) != 0 or status["state"] != "protected":
        raise RuntimeError(f"protection or load was lost while measuring: {status['reason']} {busy.output()}")
    return status


def run(lab, machine, effort, say):
    """Figures of one configuration. Those of one connection have the plain names."""
    windows = {n: [] for n in CONNECTIONS}
    for number in range(effort.repeats):
        active, _ = pair(lab, machine)
        for n in CONNECTIONS:
            windows[n].append(window(lab, active, n, effort))
        lab.reset()
        one = windows[1][-1]
        say(f"{NAME} {number + 1}/{effort.repeats}: pause {one['pause_us']['p50']:.0f}/{one['pause_us']['p99']:.0f} µs, "
            f"commit {one['commit_us']['p50']:.0f}/{one['commit_us']['p99']:.0f} µs")
    return {key + ("" if n == 1 else f"_{n}conn"): round(statistics.median(figure(s) for s in windows[n]), 1)
            for n in CONNECTIONS for key, figure in FIGURES.items()}
