# SPDX-License-Identifier: GPL-2.0-or-later
"""Case snapshot: what a snapshot of a running guest costs it, the first one and one with 10 MB dirtied since, and how long a restore takes, over
the guest's memory; and QEMU's own ways in the same run."""
import math
import os
import tempfile
import threading
import time

import plots
import restoring
from lab import load, snapshots
from lab.machine import Machine
from lab.process import wait_for
from lab.qmp import Qmp
from lab.vm import primary

NAME = "snapshot"
TITLE = "Snapshots of a running guest, and restores"
ABOUT = ("A guest whose memory is half written, under requests on one connection: a first (full) snapshot, then one of a guest that writes 10 MB again "
         "and again. Stop: both stops together, as the module measures. Gap: the longest answer time of a client while it is taken; quiet_gap_ms "
         "is the same without a snapshot. qemu_file: stop, then migrate to a file; qemu_background: its background snapshot to a file; qemu_savevm: "
         "savevm into a qcow2 image. Restore: from the command to the first answer that a client gets over a new connection; restore_ready_ms: from "
         "the word to go, of one that was kept ready; reboot_ms: "
         "a guest that boots instead.")
IN_CORE = False
SIZES = {"256m": 256, "1g": 1024, "4g": 4096}  # MB
QUICK = ("256m",)
NO_BACKGROUND = ("1g", "4g")  # QEMU's background snapshot would take half a minute and more
ROUNDS_S = 330  # no round begins that would end after it
NEXT_MB = 10
SETTLE_S = 0.5
FILL_S = 90
STILL = 15  # looks, ten a second
PLAIN = ("first_stop_ms", "next_stop_ms", "next_total_ms", "client_gap_ms")  # also without a size: those of the first


class Client(threading.Thread):
    """Requests on one connection until the end; the longest answer time in ms."""

    def __init__(self, lab):
        super().__init__(daemon=True)
        self.connection = load.Connection(lab.client, load.ECHO, timeout=120)
        self.ending, self.longest_s, self.trouble = False, 0.0, None
        self.start()

    def run(self):
        try:
            while not self.ending:
                begin = time.perf_counter()
                self.connection.echo(b"?")
                self.longest_s = max(self.longest_s, time.perf_counter() - begin)
        except OSError as error:
            self.trouble = error

    def end(self):
        self.ending = True
        self.join(130)
        self.connection.close()
        if self.trouble or self.is_alive():
            raise RuntimeError(f"the client broke: {self.trouble}")
        return self.longest_s * 1e3


def watched(lab, work):
    """(what work() returns, the client's longest answer time)."""
    client = Client(lab)
    time.sleep(SETTLE_S)
    client.longest_s = 0.0
    found = work()
    time.sleep(SETTLE_S)
    return found, client.end()


def resident_mb(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as handle:
        return next(int(line.split()[1]) for line in handle if line.startswith("VmRSS")) / 1024


def fill(lab, pid, megabytes):
    """The guest writes so much, again and again until no memory is touched for the first time any more, then rests."""
    load.dirty(lab.client, megabytes, 0)
    seen = [0.0] * STILL
    wait_for("the guest has written its memory", lambda: seen.append(resident_mb(pid)) or seen[-1] - seen[-STILL] < 1, FILL_S, 0.1)
    connection = load.Connection(lab.client, load.WRITER)
    connection.order("STOP")
    connection.close()


def futago(lab, machine):
    host = lab.hosts[0]
    vm = primary(host, machine)
    store = tempfile.mkdtemp(prefix="store-", dir=host.folder)
    fill(lab, vm.qemu_pid, machine.memory_mb // 2)
    _, quiet = watched(lab, lambda: time.sleep(1))
    first, first_gap = watched(lab, lambda: snapshots.take(vm, store, timeout=300, hash=False))
    if first["pages"] * 4096 < machine.memory_mb << 19:
        raise RuntimeError(f"only {first['pages']} pages were written when the first snapshot was taken")
    load.dirty(lab.client, NEXT_MB, 200)
    snapshots.take(vm, store, hash=False)
    later, later_gap = watched(lab, lambda: snapshots.take(vm, store, hash=False))
    vm.kill_qemu()
    found = {"first_stop_ms": first["stop_ms"], "first_total_ms": first["total_ms"], "client_gap_ms": first_gap, "quiet_gap_ms": quiet,
             "first_stored_mb": first["stored_bytes"] / 1e6, "next_stop_ms": later["stop_ms"], "next_total_ms": later["total_ms"],
             "next_client_gap_ms": later_gap, "next_pages": later["pages"]}
    found.update(restoring.futago(lab, machine, f"{store}@{later['id']}"))
    lab.reset()
    return found


class Stock:
    """A filled guest of stock QEMU with its monitor."""

    def __init__(self, lab, machine, *extra):
        self.lab, self.host = lab, lab.hosts[0]
        monitor = os.path.join(self.host.folder, "qmp")
        self.vm = restoring.Started(self.host, machine, "-qmp", f"unix:{monitor},server=on,wait=off", *extra)
        self.vm.wait_ready(120)
        fill(lab, self.vm.process.pid, machine.memory_mb // 2)
        self.qmp = Qmp(monitor)
        self.qmp.socket.settimeout(300)

    def ask(self, command, **arguments):
        answer = self.qmp.command(command, **arguments)
        if "error" in answer or isinstance(answer.get("return"), str) and answer["return"].startswith("Error"):
            raise RuntimeError(f"QEMU: {command}: {answer}")
        return answer["return"]

    def end(self):
        self.qmp.close()
        self.vm.kill()


def to_file(lab, machine, background):
    """QEMU migrates to a file: stopped, or as its background snapshot."""
    stock = Stock(lab, machine)
    target = os.path.join(stock.host.folder, "state")
    stock.ask("migrate-set-parameters", **{"max-bandwidth": 1 << 40})
    last = {}

    def completed():
        last.update(stock.ask("query-migrate"))
        if last.get("status") == "failed":
            raise RuntimeError(f"QEMU's snapshot failed: {last}")
        return last.get("status") == "completed"

    def work():
        if background:
            stock.ask("migrate-set-capabilities", capabilities=[{"capability": "background-snapshot", "state": True}])
        else:
            stock.ask("stop")
        begin = time.monotonic()
        stock.ask("migrate", uri=f"exec:cat >{target}")
        wait_for(lambda: f"QEMU's snapshot ends: {last}", completed, 300, 0.005)
        took = (time.monotonic() - begin) * 1e3
        if not background:
            stock.ask("cont")
        return took
    total, gap = watched(lab, work)
    stock.end()
    found = {"total_ms": total, "client_gap_ms": gap, "restore_ms": restoring.from_file(lab, machine, target)}
    os.unlink(target)
    lab.reset()
    return found


def savevm(lab, machine):
    """QEMU's savevm and loadvm."""
    image = restoring.empty_image(lab.hosts[0], 64)
    drive = ("-drive", f"if=none,id=saved,file={image},format=qcow2,cache=writeback")
    stock = Stock(lab, machine, *drive)

    def work():
        begin = time.monotonic()
        stock.ask("human-monitor-command", **{"command-line": "savevm first"})
        return (time.monotonic() - begin) * 1e3
    total, gap = watched(lab, work)
    stock.end()
    found = {"total_ms": total, "client_gap_ms": gap, "restore_ms": restoring.from_image(lab, machine, "first", *drive)}
    os.unlink(image)
    lab.reset()
    return found


def measure(lab, size, say):
    """All ways at one size."""
    machine = Machine(memory_mb=SIZES[size])
    ways = {"": lambda: futago(lab, machine), "qemu_file.": lambda: to_file(lab, machine, False),
            "qemu_background.": lambda: to_file(lab, machine, True), "qemu_savevm.": lambda: savevm(lab, machine),
            "reboot": lambda: {"_ms": restoring.reboot(lab, machine)}}
    if size in NO_BACKGROUND:
        del ways["qemu_background."]
    found = {}
    for way, work in ways.items():
        values = work()
        lab.reset()
        say(f"{size}, {way.rstrip('.') or 'futago'}: " + ", ".join(f"{key.lstrip('_')} {value:.1f}" for key, value in values.items()))
        found.update({f"{NAME}.{way}{key}_{size}": value for key, value in values.items()})
    return found


def run(lab, effort, say):
    found, began, longest = {}, time.monotonic(), 0.0
    for number in range(effort.repeats):
        round_began = time.monotonic()
        if round_began - began + longest > ROUNDS_S:
            say(f"{number} of {effort.repeats} rounds: another would take too long")
            break
        for size in QUICK if effort.quick else SIZES:
            for key, value in measure(lab, size, lambda text, number=number: say(f"{number + 1}/{effort.repeats}: {text}")).items():
                found.setdefault(key, []).append(value)
        longest = max(longest, time.monotonic() - round_began)
    for key in PLAIN:
        found[f"{NAME}.{key}"] = found[f"{NAME}.{key}_256m"]
    return {"microvm": found}


def plot(folder, result):
    """Client's gap, total time and restore over the guest's memory."""
    figures = result["microvm"]
    sizes = [size for size in SIZES if f"{NAME}.first_stop_ms_{size}" in figures]
    x = [SIZES[size] / 1024 for size in sizes]
    qemu = {"QEMU, stop and migrate": "qemu_file.", "QEMU, background": "qemu_background.", "QEMU, savevm": "qemu_savevm."}

    def lines(name, title, own, of_qemu):
        keys = dict(own, **{label: way + of_qemu for label, way in qemu.items()})
        series = {label: [figures.get(f"{NAME}.{key}_{size}", math.nan) for size in sizes] for label, key in keys.items()}
        return plots.lines(folder, name, title, "guest memory, half of it written (GB)", "ms", x, series, log_x=True, log_y=True)
    gaps = {"Futago, first": "client_gap_ms", "Futago, next": "next_client_gap_ms", "no snapshot": "quiet_gap_ms"}
    totals = {"Futago, first": "first_total_ms", "Futago, next": "next_total_ms"}
    restores = {"Futago, kept ready": "restore_ready_ms", "Futago, --lazy": "restore_ms", "Futago, all memory first": "restore_full_ms",
                "reboot": "reboot_ms"}
    return [lines("snapshot-gap", "Longest answer time while a snapshot is taken", gaps, "client_gap_ms"),
            lines("snapshot-total", "A snapshot from order to end", totals, "total_ms"),
            lines("snapshot-restore", "A restore, from the command to a client's first answer", restores, "restore_ms")]
