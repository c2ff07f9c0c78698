# SPDX-License-Identifier: GPL-2.0-or-later
"""Case cpu: what protection costs a guest that only computes. Nothing goes out, so an epoch lasts as long as it may."""
import time

import variants
from lab import load

NAME = "cpu"
TITLE = "A guest that computes"
ABOUT = "The guest computes over 256 KiB of its memory and sends nothing, so epochs are as long as they may be: 25 ms."
MACHINES = variants.SMALL
OPTIONS = ("--epoch-max-us", "25000")
ROUNDS_FIRST = 300
GROWTH_MAX = 50


def spin(lab, seconds):
    """Rounds a second of the guest's computing, by the host's clock: as many rounds as take that long."""
    connection = load.Connection(lab.client, load.WRITER, timeout=120)
    rounds, taken = ROUNDS_FIRST, 0.0
    while taken < seconds:
        if taken:
            rounds = int(rounds * min(max(1.2 * seconds / taken, 1), GROWTH_MAX))
        began = time.monotonic()
        answer = connection.order(f"SPIN {rounds}")
        taken = time.monotonic() - began
        if answer != "OK":
            raise RuntimeError(f"the guest did not compute: {answer or 'connection closed'}")
    connection.close()
    return rounds / taken


def one(lab, machine, effort, say):
    """Figures of one configuration: lists are samples, one a round."""
    found = variants.in_turn(lab, machine, effort, lambda vm: {"rounds": spin(lab, effort.seconds)}, say, "per s", OPTIONS)["rounds"]
    figures = {f"cpu.{name}_25ms": variants.ratios(found, below) for name, below in variants.RATIOS}
    figures.update({f"cpu.{variant}_rounds_s": found[variant] for variant in variants.ALL})
    return figures


def run(lab, effort, say):
    return variants.each(lab, MACHINES, effort, say, one)
