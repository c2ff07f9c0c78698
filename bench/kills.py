# SPDX-License-Identifier: GPL-2.0-or-later
"""Case kills: kill -9 of primaries at random instants under load, again and again. What did their clients see?"""
import dataclasses
import glob
import itertools
import math
import os
import random
import shutil
import time

import plots
from lab import load, paths
from lab.disks import Disk, Writer, make_images, names
from lab.machine import Machine
from lab.vm import address, primary, standby

NAME = "kills"
TITLE = "Kills"
ABOUT = ("Primaries killed at random instants under load. Lost, doubled and broken must be 0. gap_ms is the longest wait of any of the clients' "
         "connections around a kill.")
IN_CORE = False
DEFAULT_COUNT = 200
COUNT_IN_ALL = 24
CHAIN_KILLS = 8          # kills of one guest before a new one is booted
WAIT_MAX_S = 1.0         # from "protected" to the kill: evenly distributed
CONNECTIONS = 8
FAILURES_MAX = 5         # give up when so many pairs could not even be set up
TROUBLE = (RuntimeError, TimeoutError, OSError, AssertionError)


@dataclasses.dataclass(frozen=True)
class Variant:
    name: str
    machine: Machine
    options: tuple = ()


STOP = ("--mode", "stop")
VARIANTS = (
    Variant("microvm", Machine()),
    Variant("q35-disk", Machine(kind="q35", disks=(Disk(format="qcow2", megabytes=32),))),
    Variant("microvm-stop", Machine(), STOP),
    Variant("q35", Machine(kind="q35")),
    Variant("microvm-disk", Machine(disks=(Disk(megabytes=32),))),
    Variant("q35-stop-2vcpus", Machine(kind="q35", vcpus=2), STOP),
)


@dataclasses.dataclass
class Kill:
    """One kill and what came of it."""
    variant: str
    at: float = 0.0          # monotonic time
    back: float = 0.0        # every connection had been answered by the survivor
    gap_ms: float = 0.0      # the longest that any connection waited
    lost: int = 0
    doubled: int = 0
    broken: int = 0          # connections
    trouble: str = ""        # what went wrong, if the VM was not simply there again

    @property
    def survived(self):
        return not (self.trouble or self.lost or self.doubled or self.broken)


class Chain:
    """One guest that is killed on host after host. A spare standby is always booted ahead."""

    def __init__(self, lab, variant, chance):
        self.lab, self.variant, self.chance = lab, variant, chance
        self.began = time.time()
        self.kills, self.writers, self.counter = [], [], None
        self.backup, self.spare = self.new_standby(lab.hosts[1]), self.new_standby(lab.hosts[2])
        make_images(lab.hosts[0], variant.machine.disks)
        self.active = primary(lab.hosts[0], variant.machine, options=variant.options)
        self.start_load()

    def new_standby(self, host):
        make_images(host, self.variant.machine.disks)
        return standby(host, self.variant.machine, options=self.variant.options, wait=False)

    def start_load(self):
        load.dirty(self.lab.client, 16, 10)
        self.counter = load.Counter(self.lab.client, connections=CONNECTIONS)
        self.writers = [Writer(self.lab.client, name, 100, first=200 * half, reads=True)
                        for name in names(self.variant.machine.disks) for half in range(2)]

    def protect(self):
        self.backup.wait_state("waiting")
        self.active.protect(address(self.backup.host))
        self.active.wait_protected()

    def kill(self):
        """Kills the protected primary; the survivor is then without a twin, and a spare is being booted."""
        kill = Kill(self.variant.name)
        self.kills.append(kill)
        time.sleep(self.chance.uniform(0, WAIT_MAX_S))
        try:
            kill.at = self.active.kill_qemu()
            self.backup.wait_running()
            self.counter.wait_answers(time.monotonic())
            kill.back = time.monotonic()
        except TROUBLE as error:
            kill.trouble = str(error)
        self.judge(kill)
        if kill.survived:
            freed = self.active.host
            self.active, self.backup = self.backup, self.spare
            self.spare = self.new_standby(freed)
        return kill

    def judge(self, kill):
        """What is known at once. The counter tells of losses itself; a writer reads what it wrote before it writes again."""
        ends = [line for line in self.counter.lines() if line.get("end")]
        seen = ends[-1] if ends else self.counter.progress()
        kill.lost, kill.doubled, kill.broken = (seen.get(key, 0) for key in ("lost", "doubled", "broken"))
        for writer in self.writers:
            self.judge_writer(kill, writer.error)
        kill.gap_ms = max((gap["gap_ms"] for gap in self.counter.gaps()
                           if gap["to"] > kill.at and gap["from"] < (kill.back or time.monotonic())), default=0.0)

    @staticmethod
    def judge_writer(kill, error):
        """The disk service contradicts us, or no longer answers."""
        if error:
            kill.lost += isinstance(error, RuntimeError)
            kill.broken += isinstance(error, OSError)
            kill.trouble = kill.trouble or str(error)

    def finish(self):
        """The exact totals, and every block of the disks; what is wrong now counts against the last kill."""
        last = self.kills[-1]
        try:
            for writer in self.writers:
                writer.stop()
                writer.check()
        except TROUBLE as error:
            self.judge_writer(last, error if isinstance(error, (RuntimeError, OSError)) else RuntimeError(str(error)))
        result = self.counter.finish()
        last.lost, last.doubled = last.lost + result["lost"], last.doubled + result["doubled"]
        last.broken += result["broken"]

    def keep_logs(self, why):
        """Copies what all processes of this guest said; returns where it lies."""
        folder = os.path.join(paths.BUILD, "bench", f"kills-{time.strftime('%Y%m%d-%H%M%S')}-{self.variant.name}")
        os.makedirs(folder, exist_ok=True)
        for path in glob.glob(os.path.join(self.lab.folder, "*", "*.log")):
            if os.path.getmtime(path) >= self.began - 1:
                shutil.copy(path, os.path.join(folder, "-".join(path.split("/")[-2:])))
        with open(os.path.join(folder, "why.txt"), "w", encoding="utf-8") as handle:
            handle.write(f"{why}\n\n" + "".join(f"{kill}\n" for kill in self.kills))
        return folder


class Progress:
    def __init__(self, count, say):
        self.count, self.say, self.done = count, say, 0
        self.began = time.monotonic()

    def tell(self, kill):
        self.done += 1
        left_s = (time.monotonic() - self.began) / self.done * (self.count - self.done)
        what = f"gap {kill.gap_ms:.0f} ms" if kill.survived else \
            f"NOT SURVIVED: {kill.lost} lost, {kill.doubled} doubled, {kill.broken} broken; {kill.trouble[-300:]}"
        self.say(f"{self.done}/{self.count} ({kill.variant}): {what}; {left_s // 60:.0f} min {left_s % 60:.0f} s left")


def run_chain(lab, variant, chance, most, progress):
    """Up to `most` kills of one guest. Returns them, and why it ended early or ""."""
    lab.reset()
    chain, why = None, ""
    try:
        chain = Chain(lab, variant, chance)
        while len(chain.kills) < most and all(kill.survived for kill in chain.kills):
            chain.protect()
            progress.tell(chain.kill())
    except TROUBLE as error:
        why = f"{variant.name}: could not be protected: {error}"
    kills = chain.kills if chain else []
    if kills and kills[-1].survived:
        chain.finish()
    bad = [kill for kill in kills if not kill.survived]
    if chain and (why or bad):
        progress.say(f"logs: {chain.keep_logs(why or bad[0].trouble)}")
    return kills, why


def percentile(values, share):
    """Of the values themselves: the smallest that at least that share of them does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * share) - 1)]


def figures(kills, troubles):
    gaps = [kill.gap_ms for kill in kills if kill.survived]
    found = {"kills.count": len(kills), "kills.survived": sum(kill.survived for kill in kills),
             "kills.lost": sum(kill.lost for kill in kills), "kills.doubled": sum(kill.doubled for kill in kills),
             "kills.broken_connections": sum(kill.broken for kill in kills), "kills.not_protected": troubles}
    if gaps:
        found.update({"gap_ms.p50": percentile(gaps, 0.5), "gap_ms.p99": percentile(gaps, 0.99), "gap_ms.max": max(gaps), "gap_ms.each": gaps})
    return found


def arguments(parser):
    parser.add_argument("--count", type=int, metavar="N", help=f"kills: how many (default {DEFAULT_COUNT}, in all {COUNT_IN_ALL})")
    parser.add_argument("--seed", type=int, metavar="S", help="kills: where chance begins (default: another one each time)")


def run(lab, effort, say):
    """{"all": figures, variant: figures, ...}"""
    options = effort.options
    count = options.count or (6 if effort.quick else COUNT_IN_ALL if options.case == "all" else DEFAULT_COUNT)
    seed = options.seed if options.seed is not None else int(time.time())
    say(f"seed {seed}")
    chance, progress = random.Random(seed), Progress(count, say)
    kills, troubles = [], []
    turns = itertools.cycle(VARIANTS)
    per_chain = max(1, min(CHAIN_KILLS, count // len(VARIANTS)))
    while len(kills) < count:
        done, why = run_chain(lab, next(turns), chance, min(per_chain, count - len(kills)), progress)
        kills += done
        if why:
            say(why)
            troubles.append(why)
        if len(troubles) > FAILURES_MAX:
            raise RuntimeError(f"gave up after {len(troubles)} pairs that could not be protected; the last: {troubles[-1]}")
    found = {"all": dict(figures(kills, len(troubles)), **{"kills.seed": seed})}
    for variant in VARIANTS:
        of_it = [kill for kill in kills if kill.variant == variant.name]
        if of_it:
            found[variant.name] = figures(of_it, sum(why.startswith(variant.name + ":") for why in troubles))
    return found


def verdict(found):
    survived, count = found["all"]["kills.survived"], found["all"]["kills.count"]
    return "" if survived == count else f"{count - survived} kills were not survived: see above where their logs are"


def plot(folder, result):
    groups = {name: result["samples"][name]["gap_ms.each"] for name in result["configurations"]
              if name != "all" and "gap_ms.each" in result["samples"].get(name, {})}
    if not groups:
        return []
    figures = result["all"]
    return [plots.histogram(folder, "kill-gaps", f"Longest wait of a client when its VM's primary was killed ({figures['kills.count']} kills)",
                            "longest gap between two answers on any connection (ms)", "kills", groups,
                            {"median (ms)": figures["gap_ms.p50"], "99 % (ms)": figures["gap_ms.p99"]})]
