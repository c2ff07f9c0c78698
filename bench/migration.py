# SPDX-License-Identifier: GPL-2.0-or-later
"""Case migration: what an ordinary live migration's last stop spends on finding the written pages, with little and much guest memory. Stock
QEMU without the module: nothing of ours takes part."""
import os
import re

import plots
from lab import load
from lab.machine import Machine
from lab.process import wait_for
from lab.qmp import Qmp
from lab.vm import StockVm

NAME = "migration"
TITLE = "The last stop of an ordinary live migration"
ABOUT = ("Stock QEMU migrates a guest under request load to a program that throws it away. Times are those of QEMU's own trace: from the "
         "stop to the end, and of that the search of all memory's marks.")
IN_CORE = False
SIZES = {"512m": 512, "1g": 1024, "4g": 4096, "16g": 16384}  # MB
ENDS = ("512m", "16g")
EVENTS = ("migration_bitmap_sync_start", "migration_bitmap_sync_end", "runstate_set", "migrate_set_state")
LINE = re.compile(r"^\d+@(\d+\.\d+):(\w+) ?(.*)$", re.M)


def trace_args(log):
    return ("-msg", "timestamp=on", "-D", log) + tuple(word for event in EVENTS for word in ("-trace", event))


def last_stop(trace):
    """Microseconds: (whole stop, search in it)."""
    events = [(float(at), name, rest) for at, name, rest in LINE.findall(trace)]
    stopped = next(at for at, name, rest in events if name == "runstate_set" and "finish-migrate" in rest.split("new_state", 1)[-1])
    ended = next(at for at, name, rest in events if name == "migrate_set_state" and "completed" in rest and at > stopped)
    begun = [at for at, name, _ in events if name == "migration_bitmap_sync_start" and stopped < at < ended]
    done = [at for at, name, _ in events if name == "migration_bitmap_sync_end" and stopped < at < ended]
    return (ended - stopped) * 1e6, sum(b - a for a, b in zip(begun, done)) * 1e6


def migrate(lab, megabytes):
    host = lab.hosts[0]
    monitor, log = os.path.join(host.folder, "qmp"), host.log("trace")
    extra = ("-qmp", f"unix:{monitor},server=on,wait=off") + trace_args(log)
    StockVm(host, Machine(memory_mb=megabytes, extra=extra)).wait_ready(120)
    busy = lab.client.spawn([load.paths.FUT_RR, load.GUEST_IP, str(load.ECHO), "1", "600"], "rr")
    qmp = Qmp(monitor)
    qmp.command("migrate-set-parameters", **{"max-bandwidth": 1 << 40})
    qmp.command("migrate", uri="exec:cat >/dev/null")
    last = {}

    def completed():
        last.update(qmp.command("query-migrate").get("return", {}))
        return last.get("status") == "completed"
    wait_for(lambda: f"the migration ends: {last}", completed, 300, 0.2)
    qmp.close()
    busy.kill()
    with open(log, encoding="ascii", errors="replace") as handle:
        found = last_stop(handle.read())
    lab.reset()
    return found


def run(lab, effort, say):
    found = {}
    for number in range(effort.repeats):
        for size in ENDS if effort.quick else SIZES:
            stop_us, search_us = migrate(lab, SIZES[size])
            say(f"{number + 1}/{effort.repeats}: {size}: {search_us:.0f} of {stop_us:.0f} µs")
            for key, value in (("stop_us", stop_us), ("search_us", search_us), ("search_share", search_us / stop_us)):
                found.setdefault(f"{NAME}.{key}_{size}", []).append(value)
    return {"microvm": found}


def plot(folder, result):
    """Both times over the guest's memory."""
    figures = result["microvm"]
    sizes = [size for size in SIZES if f"{NAME}.stop_us_{size}" in figures]
    series = {label: [figures[f"{NAME}.{key}_{size}"] for size in sizes] for label, key in (("last stop", "stop_us"), ("search", "search_us"))}
    return [plots.lines(folder, "migration", TITLE, "guest memory (GB)", "µs", [SIZES[size] / 1024 for size in sizes], series, log_x=True)]
