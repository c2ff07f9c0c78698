# SPDX-License-Identifier: GPL-2.0-or-later
"""Case tracker: what finding the written pages costs with little and much guest memory, by each tracker, under the same load. The
experiment of figure 2 in the paper on Kemari's memory management by Sato, Ito and Tsuru (Mitsubishi Electric), done again."""
import json

import plots
from lab import load
from lab.machine import Machine
from lab.vm import address, primary, standby

NAME = "tracker"
TITLE = "Finding the written pages"
ABOUT = ("The same load, one connection's requests, on guests whose memory differs in size and is mostly untouched. flags asks for each page, "
         "as Kemari did; words reads QEMU's marks many at a time; queue finds what was noted when it was written.")
IN_CORE = False  # a round boots twelve pairs
TRACKERS = ("queue", "words", "flags")
SIZES = {"512m": 512, "1g": 1024, "4g": 4096, "16g": 16384}  # MB
ENDS = ("512m", "16g")
FIGURES = {"collect_us": lambda s: s["collect_us"]["p50"], "pause_us": lambda s: s["pause_us"]["p50"], "pages": lambda s: s["pages_per_checkpoint"]}
RATIOS = {"ratio": "pause_us", "collect_ratio": "collect_us", "tps_ratio": "tps"}


def protected(lab, megabytes, tracker):
    """A protected pair; much memory takes a while to copy, even if it is untouched."""
    machine = Machine(memory_mb=megabytes)
    standby(lab.hosts[1], machine, options=("--tracker", tracker))
    active = primary(lab.hosts[0], machine, options=("--tracker", tracker))
    active.protect(address(lab.hosts[1]), wait=300)
    active.wait_protected(timeout=300)
    return active


def transactions(lab, seconds):
    """A second; with much memory and the slowest tracker there may be none."""
    done = lab.client.run([load.paths.FUT_RR, load.GUEST_IP, str(load.ECHO), "1", str(seconds), "1"], seconds + 30)
    if not done.stdout:
        raise RuntimeError(f"fut-rr: {done.stderr.strip()}")
    return json.loads(done.stdout)["tps"]


def window(lab, megabytes, tracker, seconds):
    """Request/response on one connection against a fresh pair: figures of its primary."""
    active = protected(lab, megabytes, tracker)
    active.call("reset-stats")
    tps = transactions(lab, seconds)
    status = active.status()
    if status["state"] != "protected" or status["tracker"] != tracker:
        raise RuntimeError(f"protected by {tracker} no more: {status['state']}, {status['tracker']}, {status['reason']}")
    lab.reset()
    return dict({key: figure(status) for key, figure in FIGURES.items()}, tps=tps)


def with_ratios(found):
    """16 GB over 512 MB, round by round; the goal is about the queue and the whole checkpoint."""
    for tracker in TRACKERS:
        for ratio, key in RATIOS.items():
            few, many = (found[f"{NAME}.{tracker}.{key}_{size}"] for size in ENDS)
            found[f"{NAME}.{tracker}.{ratio}_16g_512m"] = [a / b for a, b in zip(many, few)]
    return dict({f"{NAME}.ratio_16g_512m": found[f"{NAME}.queue.ratio_16g_512m"]}, **found)


def run(lab, effort, say):
    """All sizes and trackers in turn, each round anew."""
    found = {}
    for number in range(effort.repeats):
        for size in ENDS if effort.quick else SIZES:
            for tracker in TRACKERS:
                taken = window(lab, SIZES[size], tracker, effort.seconds)
                say(f"{number + 1}/{effort.repeats}: {size}, {tracker}: finding {taken['collect_us']:.1f} of {taken['pause_us']:.0f} µs, "
                    f"{taken['tps']:.0f}/s")
                for key, value in taken.items():
                    found.setdefault(f"{NAME}.{tracker}.{key}_{size}", []).append(value)
    return {"microvm": with_ratios(found)}


def plot(folder, result):
    """Answers a second, and the cost of finding the pages, over the guest's memory."""
    figures = result["microvm"]
    sizes = [size for size in SIZES if f"{NAME}.queue.tps_{size}" in figures]

    def lines(name, title, y_label, key, log_y):
        series = {tracker: [figures[f"{NAME}.{tracker}.{key}_{size}"] for size in sizes] for tracker in TRACKERS}
        return plots.lines(folder, name, title, "guest memory (GB)", y_label, [SIZES[size] / 1024 for size in sizes], series,
                           log_x=True, log_y=log_y)

    return [lines("tracker-rr", "Protected: requests on one connection", "transactions/s", "tps", False),
            lines("tracker-collect", "Finding the written pages of a checkpoint", "µs (median)", "collect_us", True)]
