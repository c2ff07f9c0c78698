# SPDX-License-Identifier: GPL-2.0-or-later
"""Case gap: what a client waits when its VM's host dies, and where that time goes."""
import statistics

import plots
import variants
from lab import load
from lab.vm import pair

NAME = "gap"
TITLE = "The gap at a takeover"
ABOUT = ("kill -9 of the primary's QEMU while a client counts over one connection. The steps: detect (the twin hears of it), grant (the arbiter "
         "answers), load (disks settled, device state loaded), start (the guest runs), resend (announced, outputs sent again, inbound packets given "
         "in), answer (the rest: cold translations of the guest's code, retransmission timers).")
MACHINES = variants.SMALL
KILLS_A_REPEAT = 2
SETTLE_S = 1.0
STEPS = ("detect", "grant", "load", "start", "resend", "answer")


def steps_of(at, takeover, gap):
    """Milliseconds of each step from the kill to the first answer after it."""
    times = [at] + [takeover[key] for key in ("lost", "granted", "loaded", "running", "done")] + [gap["to"]]
    return {name: max(1e3 * (after - before), 0.0) for name, before, after in zip(STEPS, times, times[1:])}


def sent_again(ns):
    """TCP segments that were sent a second time in the namespace, up to now."""
    with ns.inside(), open("/proc/thread-self/net/snmp", encoding="ascii") as handle:
        names, values = (line.split() for line in handle if line.startswith("Tcp:"))
    return int(dict(zip(names, values))["RetransSegs"])


def kill_once(lab, machine):
    """One fresh pair and a client that counts over one connection; the longest gap after the kill, its steps in ms, and whether the
    client sent something again. A gap too short for the client to report has no steps."""
    active, backup = pair(lab, machine)
    counter = load.Counter(lab.client)
    load.sleep_counting(counter, SETTLE_S)
    before = sent_again(lab.client.ns)
    at = active.kill_qemu()
    takeover = backup.wait_running()["takeover"]
    counter.wait_counts(10)
    again = sent_again(lab.client.ns) > before
    result = counter.finish()
    load.check(result)
    lab.reset()
    open_then = [gap for gap in result["gaps"] if gap["to"] > at and gap["from"] < at + 2]
    if not open_then:
        return {"gap": 0.0, "again": again}
    longest = max(open_then, key=lambda gap: gap["gap_ms"])
    return dict(steps_of(at, takeover, longest), gap=longest["gap_ms"], again=again)


def one(lab, machine, effort, say):
    """Figures of one configuration: lists are samples, one a kill."""
    kills = effort.repeats * KILLS_A_REPEAT
    found = []
    for number in range(kills):
        found.append(kill_once(lab, machine))
        say(f"{number + 1}/{kills}: " + ", ".join(f"{name} {value:.1f}" for name, value in found[-1].items() if name != "again") + " ms"
            + ("; sent again" if found[-1]["again"] else ""))
    gaps = [each["gap"] for each in found]
    figures = {"gap.kill_ms": gaps, "gap.kill_max_ms": max(gaps), "gap.sent_again": sum(each["again"] for each in found),
               "gap.logged_ms": [each["gap"] for each in found if not each["again"]] or 0.0}
    figures.update({f"gap.{step}_ms": [each[step] for each in found if step in each] or 0.0 for step in STEPS})
    return figures


def run(lab, effort, say):
    return variants.each(lab, MACHINES, effort, say, one)


def plot(folder, result):
    names = [name for name in result["configurations"] if "gap.kill_ms" in result[name]]
    return [plots.bars(folder, "gap", "From the kill to the first answer, medians of each step", "ms", names, {
        step: [result[name][f"gap.{step}_ms"] for name in names] for step in STEPS}, stacked=True)]
