# SPDX-License-Identifier: GPL-2.0-or-later
"""Case snapshot: what a snapshot of a running guest costs it, the first one and one with 10 MB dirtied since, over the guest's memory; and
QEMU's own ways in the same run."""
import json
import os
import tempfile
import time

import plots
from lab import load, snapshots
from lab.machine import Machine
from lab.process import wait_for
from lab.qmp import Qmp
from lab.vm import StockVm, primary

NAME = "snapshot"
TITLE = "Snapshots of a running guest"
ABOUT = ("A guest whose memory is half written, under requests on one connection: a first (full) snapshot, then one of a guest that writes 10 MB again "
         "and again. Stop: both stops together, as the module measures. Gap: the longest answer time of a client while it is taken; quiet_gap_ms "
         "is the same without a snapshot. qemu_file: stop, then migrate to a file; qemu_background: its background snapshot to a file; both to "
         "the same file system. Restoring is not measured here.")
IN_CORE = False
SIZES = {"256m": 256, "1g": 1024, "2g": 2048}  # MB
QUICK = ("256m",)
NEXT_MB = 10
WARM_UP_S = 0.5
SETTLE_S = 0.5


class Client:
    """Requests on one connection while something is done; the longest answer time in ms."""

    def __init__(self, lab, seconds):
        self.process = lab.client.spawn([load.paths.FUT_RR, load.GUEST_IP, str(load.ECHO), "1", str(seconds), str(WARM_UP_S)], "rr")

    def longest_ms(self):
        if self.process.wait(120) != 0:
            raise RuntimeError(f"the client broke: {self.process.output()}")
        return json.loads(self.process.output())["latency_us"]["max"] / 1e3


def watched(lab, seconds, work):
    client = Client(lab, seconds + SETTLE_S)
    time.sleep(WARM_UP_S + SETTLE_S)  # the client does not count its first answers
    found = work()
    return found, client.longest_ms()


def fill(lab, megabytes):
    """The guest has written so much, and rests."""
    load.dirty(lab.client, megabytes, 0)
    load.rr(lab.client, 1, 3)
    connection = load.Connection(lab.client, load.WRITER)
    connection.order("STOP")
    connection.close()


def futago(lab, megabytes, effort):
    host = lab.hosts[0]
    vm = primary(host, Machine(memory_mb=megabytes))
    store = tempfile.mkdtemp(prefix="store-", dir=host.folder)
    fill(lab, megabytes // 2)
    _, quiet = watched(lab, effort.seconds, lambda: None)
    first, first_gap = watched(lab, effort.seconds, lambda: snapshots.take(vm, store, timeout=300, hash=False))
    load.dirty(lab.client, NEXT_MB, 200)
    snapshots.take(vm, store, hash=False)
    later, later_gap = watched(lab, effort.seconds, lambda: snapshots.take(vm, store, hash=False))
    lab.reset()
    return {"quiet_gap_ms": quiet, "first_stop_ms": first["stop_ms"], "first_total_ms": first["total_ms"], "client_gap_ms": first_gap,
            "first_stored_mb": first["stored_bytes"] / 1e6, "next_stop_ms": later["stop_ms"], "next_total_ms": later["total_ms"],
            "next_client_gap_ms": later_gap, "next_pages": later["pages"]}


def qemu(lab, megabytes, effort, background):
    """Total time and the client's gap of QEMU's own snapshot into a file."""
    host = lab.hosts[0]
    monitor, target = os.path.join(host.folder, "qmp"), os.path.join(host.folder, "state")
    StockVm(host, Machine(memory_mb=megabytes, extra=("-qmp", f"unix:{monitor},server=on,wait=off"))).wait_ready(120)
    fill(lab, megabytes // 2)
    qmp = Qmp(monitor)
    qmp.command("migrate-set-parameters", **{"max-bandwidth": 1 << 40})
    last = {}

    def completed():
        last.update(qmp.command("query-migrate").get("return", {}))
        if last.get("status") == "failed":
            raise RuntimeError(f"QEMU's snapshot failed: {last}")
        return last.get("status") == "completed"

    def work():
        if background:
            qmp.command("migrate-set-capabilities", capabilities=[{"capability": "background-snapshot", "state": True}])
        else:
            qmp.command("stop")
        qmp.command("migrate", uri=f"exec:cat >{target}")
        wait_for(lambda: f"QEMU's snapshot ends: {last}", completed, 300, 0.01)
        if not background:
            qmp.command("cont")
        return last["total-time"]
    total, gap = watched(lab, effort.seconds + megabytes / 100, work)
    qmp.close()
    lab.reset()
    return {"total_ms": total, "client_gap_ms": gap}


def run(lab, effort, say):
    found = {}
    for number in range(effort.repeats):
        for size in QUICK if effort.quick else SIZES:
            taken = {"": futago(lab, SIZES[size], effort), "qemu_file.": qemu(lab, SIZES[size], effort, False),
                     "qemu_background.": qemu(lab, SIZES[size], effort, True)}
            for way, values in taken.items():
                say(f"{number + 1}/{effort.repeats}: {size}, {way or 'futago.'} " + ", ".join(f"{key} {value:.1f}" for key, value in values.items()))
                for key, value in values.items():
                    found.setdefault(f"{NAME}.{way}{key}_{size}", []).append(value)
    for key in ("first_stop_ms", "next_stop_ms", "next_total_ms", "client_gap_ms"):
        found[f"{NAME}.{key}"] = found[f"{NAME}.{key}_256m"]
    return {"microvm": found}


def plot(folder, result):
    """Client's gap and total time over the guest's memory."""
    figures = result["microvm"]
    sizes = [size for size in SIZES if f"{NAME}.first_stop_ms_{size}" in figures]
    x = [SIZES[size] / 1024 for size in sizes]
    ways = {"Futago, first": "client_gap_ms", "Futago, next": "next_client_gap_ms", "QEMU, stop and migrate": "qemu_file.client_gap_ms",
            "QEMU, background": "qemu_background.client_gap_ms", "no snapshot": "quiet_gap_ms"}
    totals = {"Futago, first": "first_total_ms", "Futago, next": "next_total_ms", "QEMU, stop and migrate": "qemu_file.total_ms",
              "QEMU, background": "qemu_background.total_ms"}

    def lines(name, title, labels):
        series = {label: [figures[f"{NAME}.{key}_{size}"] for size in sizes] for label, key in labels.items()}
        return plots.lines(folder, name, title, "guest memory (GB)", "ms", x, series, log_x=True, log_y=True)
    return [lines("snapshot-gap", "Longest answer time while a snapshot is taken", ways), lines("snapshot-total", "A snapshot from order to end", totals)]
