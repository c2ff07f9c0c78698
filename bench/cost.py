# SPDX-License-Identifier: GPL-2.0-or-later
"""Case cost: what several vCPUs and disks add to a checkpoint's pause. Variants of one machine in turn, under request/response load."""
import dataclasses

import pause
import plots
import variants
from lab.disks import Disk, Writer, make_images, names
from lab.vm import pair

NAME = "cost"
TITLE = "What vCPUs and disks cost"
ABOUT = ("One connection of request/response against a protected guest with one vCPU and no disk, and with more of either: how long a checkpoint "
         "stops it. More vCPUs have to be kept out of the guest; disks have to be drained, and are saved. In \"written\" the guest writes 16 KiB "
         "blocks to its one disk meanwhile, past its cache.")
MACHINES = variants.SMALL
DISK = Disk(megabytes=32)
VARIANTS = {"plain": {}, "2vcpus": {"vcpus": 2}, "4vcpus": {"vcpus": 4}, "1disk": {"disks": (DISK,)}, "4disks": {"disks": (DISK,) * 4},
            "written": {"disks": (DISK,)}}
FIGURES = {
    "pause_us_p50": lambda s: s["pause_us"]["p50"],
    "pause_us_p99": lambda s: s["pause_us"]["p99"],
    "commit_us_p50": lambda s: s["commit_us"]["p50"],
    "bytes_per_checkpoint": lambda s: s["bytes_per_checkpoint"],
}


def measured(lab, machine, name, effort):
    """The primary's statistics of one window."""
    for host in lab.hosts[:2]:
        make_images(host, machine.disks)
    active, _ = pair(lab, machine)
    writer = Writer(lab.client, names(machine.disks)[0], 100) if name == "written" else None
    status = pause.window(lab, active, 1, effort)
    if writer:
        writer.stop()
    return status


def one(lab, machine, effort, say):
    """Figures of one configuration: lists are samples, one a round."""
    figures = {}
    for number in range(effort.repeats):
        plain = None
        for name, more in VARIANTS.items():
            status = measured(lab, dataclasses.replace(machine, **more), name, effort)
            lab.reset()
            plain = plain or status
            for key, figure in FIGURES.items():
                figures.setdefault(f"cost.{name}.{key}", []).append(figure(status))
            figures.setdefault(f"cost.{name}.more_us", []).append(status["pause_us"]["p50"] - plain["pause_us"]["p50"])
        say(f"{number + 1}/{effort.repeats}: pause " + ", ".join(f"{name} {figures[f'cost.{name}.pause_us_p50'][-1]:.0f}" for name in VARIANTS) +
            " µs")
    return figures


def run(lab, effort, say):
    return variants.each(lab, MACHINES, effort, say, one)


def plot(folder, result):
    names_of = [name for name in result["configurations"] if "cost.plain.pause_us_p50" in result[name]]
    groups = [f"{name} {variant}" for name in names_of for variant in VARIANTS]
    return [plots.bars(folder, "cost", "A checkpoint's pause with more vCPUs and disks", "µs", groups, {
        level: [result[name][f"cost.{variant}.pause_us_{level}"] for name in names_of for variant in VARIANTS] for level in ("p50", "p99")})]
