# SPDX-License-Identifier: GPL-2.0-or-later
"""Case wire: what a slow link carries, by compression. A proxy passes on so many bits a second."""
import os
import time

import variants
from lab import load, paths
from lab.machine import Machine
from lab.network import REP_SWITCH_IP
from lab.process import Process, wait_for
from lab.vm import PORT, primary, standby

NAME = "wire"
TITLE = "Bytes on a slow link"
ABOUT = ("The initial copy of 256 MB and a guest that writes memory over a replication link of 200 Mbit/s, with each kind of compression. "
         "Bytes are those given to the link.")
IN_CORE = False
MACHINES = [Machine(kind="microvm", memory_mb=256)]
KINDS = ("none", "lz4", "zstd", "auto")
LINK_MBIT_S = 200
ONE_WAY_US = 100
PROXY_PORT = 7201
WRITTEN_MB = 8
MARGIN_S = 1.0


def proxy(lab):
    """Where the primary shall connect to: the line before the backup."""
    process = lab.keep(Process(lab.switch, [paths.FUT_DELAY, REP_SWITCH_IP, str(PROXY_PORT), lab.hosts[1].rep_ip, str(PORT),
                                            str(ONE_WAY_US), str(LINK_MBIT_S)], os.path.join(lab.folder, "line.log")))
    wait_for("the proxy listens", lambda: "ready" in process.output())
    return f"tcp:{REP_SWITCH_IP}:{PROXY_PORT}"


def cpu_s(vm):
    """Processor time that QEMU's process has used."""
    with open(f"/proc/{vm.qemu_pid}/stat", encoding="ascii") as handle:
        fields = handle.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measures(lab, machine, kind, effort):
    standby(lab.hosts[1], machine)
    active = primary(lab.hosts[0], machine, options=["--compress", kind])
    began, used = time.monotonic(), cpu_s(active)
    active.protect(proxy(lab))
    active.wait_protected()
    found = {"copy_s": time.monotonic() - began, "copy_cpu_s": cpu_s(active) - used,
             "copy_mb": active.status()["link_sent_bytes"] / 1e6}
    load.dirty(lab.client, WRITTEN_MB, 0)
    time.sleep(MARGIN_S)
    before, began = active.status(), time.monotonic()
    time.sleep(effort.seconds)
    after = active.status()
    checkpoints = after["checkpoints"] - before["checkpoints"]
    found["writer_checkpoints_per_s"] = checkpoints / (time.monotonic() - began)
    found["writer_kb_per_checkpoint"] = (after["link_sent_bytes"] - before["link_sent_bytes"]) / 1e3 / max(checkpoints, 1)
    variants.check(active)
    lab.reset()
    return found


def one(lab, machine, effort, say):
    """Figures of one configuration: lists are samples, one a round."""
    figures = {}
    for number in range(effort.repeats):
        for kind in KINDS:
            found = measures(lab, machine, kind, effort)
            for what, value in found.items():
                figures.setdefault(f"wire.{kind}.{what}", []).append(value)
            say(f"{number + 1}/{effort.repeats} {kind}: " + ", ".join(f"{what} {value:.3g}" for what, value in found.items()))
    return figures


def run(lab, effort, say):
    return variants.each(lab, MACHINES, effort, say, one)
