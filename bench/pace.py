# SPDX-License-Identifier: GPL-2.0-or-later
"""Case pace: does the epoch control converge? Load in steps, and what it does looked at twenty times a second."""
import statistics
import time

import plots
import variants
from lab import load, paths
from lab.vm import pair

NAME = "pace"
TITLE = "The epoch control under steps of load"
ABOUT = ("Request/response over one connection, then 32, then one again, and a pause; checkpoints a second and packets a checkpoint, twenty "
         "times a second. settle_ms is how long after a step the rate of checkpoints stays within a third of what it comes to; spread is the "
         "standard deviation over the mean after that.")
MACHINES = variants.SMALL[:1]
STEPS = (1, 32, 1)
EVERY_S = 0.05
CLOSE = 1 / 3
SMOOTH = 5  # looks: one alone is noise


def looks(active, seconds):
    """[(time, checkpoints a second, packets a checkpoint)]"""
    found, before, then = [], active.status(), time.monotonic()
    end = then + seconds
    while then < end:
        time.sleep(max(then + EVERY_S - time.monotonic(), 0))
        status, now = active.status(), time.monotonic()
        cut = status["checkpoints"] - before["checkpoints"]
        sent = status["outputs_released"] - before["outputs_released"]
        found.append((now, cut / (now - then), sent / cut if cut else 0.0))
        before, then = status, now
    return found


def smoothed(values):
    return [statistics.mean(values[max(0, i - SMOOTH + 1):i + 1]) for i in range(len(values))]


def settled(rates):
    """(looks until the rate stays near its end, spread after that)"""
    goal = statistics.mean(rates[len(rates) // 2:])
    smooth = smoothed(rates)
    far = [i for i, rate in enumerate(smooth) if abs(rate - goal) > CLOSE * goal]
    first = far[-1] + 1 if far else 0
    rest = rates[first:] or rates[-1:]
    return first, statistics.pstdev(rest) / statistics.mean(rest) if statistics.mean(rest) else 0.0


def one_round(lab, machine, effort):
    """The whole trace, and the figures of each step."""
    active, _ = pair(lab, machine)
    trace, figures = [], {}
    for number, connections in enumerate(STEPS):
        seconds = 2 * effort.seconds
        busy = lab.client.spawn([paths.FUT_RR, load.GUEST_IP, str(load.ECHO), str(connections), str(seconds + 2)], "rr")
        step = looks(active, seconds)
        busy.kill()
        first, spread = settled([rate for _, rate, _ in step])
        name = f"{number + 1}_{connections}conn"
        figures.update({f"pace.settle_ms_{name}": first * EVERY_S * 1e3, f"pace.spread_{name}": spread,
                        f"pace.packets_per_checkpoint_{name}": statistics.median(packets for *_, packets in step[first:] or step[-1:])})
        trace += step
    variants.check(active)
    lab.reset()
    return trace, figures


def one(lab, machine, effort, say):
    """Figures of one configuration: lists are samples, one a round; the trace is the last round's."""
    figures, trace = {}, []
    for number in range(effort.repeats):
        trace, found = one_round(lab, machine, effort)
        for key, value in found.items():
            figures.setdefault(key, []).append(value)
        say(f"{number + 1}/{effort.repeats}: " + ", ".join(f"{key.removeprefix('pace.')} {value:.3g}" for key, value in found.items()))
    began = trace[0][0]
    figures["pace.trace_s"] = [round(at - began, 3) for at, *_ in trace]
    figures["pace.trace_checkpoints_per_s"] = [rate for _, rate, _ in trace]
    figures["pace.trace_packets_per_checkpoint"] = [packets for *_, packets in trace]
    return figures


def run(lab, effort, say):
    return variants.each(lab, MACHINES, effort, say, one)


def plot(folder, result):
    samples = next(result["samples"][name] for name in result["configurations"] if "pace.trace_s" in result["samples"][name])
    steps = ", ".join(map(str, STEPS))
    return [plots.lines(folder, f"pace-{name}", f"{title}, {steps} connections in turn", "time, s", label, samples["pace.trace_s"],
                        {label: samples[f"pace.trace_{name}"]})
            for name, title, label in (("checkpoints_per_s", "Checkpoints", "checkpoints/s"),
                                       ("packets_per_checkpoint", "Packets that share a checkpoint", "packets/checkpoint"))]
