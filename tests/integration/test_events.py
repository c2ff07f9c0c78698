# SPDX-License-Identifier: GPL-2.0-or-later
"""Checkpoints are cut for the events that were chosen, and for no others; what is held is held all the same."""
import os
import time

import pytest
from lab import disks, load
from lab.console import Console
from lab.disks import Disk, DiskUser
from lab.machine import Machine
from lab.vm import FutagoVm, address, pair, standby

LONG = ("--epoch-max-us", "10000000")  # whatever cuts, it is not the epoch's length
KINDS = ["net-tx", "net-rx", "disk-write", "disk-read", "console", "timer"]


def machine_on(host):
    """A guest with a disk, and its serial console at a socket."""
    path = os.path.join(host.folder, "typed")
    disk = Disk()
    disks.make_images(host, (disk,))
    return Machine(kind="q35", disks=(disk,), extra=(
        "-device", "virtio-serial-pci", "-chardev", f"socket,id=typed,path={path},server=on,wait=off",
        "-device", "virtconsole,chardev=typed")), path


def work(lab, console_path):
    """A little of everything: packets, a disk written and read, a line typed at the console."""
    load.rr(lab.client, 1, 0.3, 0.1)
    user = DiskUser(lab.client, timeout=60)
    user.write("vda", 0, 65536, 1)
    user.verify("vda", 0, 65536, 1)
    user.close()
    console = Console(console_path)
    console.type("hello")
    console.close()


def protected(lab, options):
    ours, console_path = machine_on(lab.hosts[0])
    theirs, _ = machine_on(lab.hosts[1])
    backup = standby(lab.hosts[1], theirs, options=options)
    active = FutagoVm(lab.hosts[0], ours, options=options).wait_ready()
    active.protect(address(backup.host))
    active.wait_protected()
    return active, backup, console_path


@pytest.mark.parametrize("mode", ["pipeline", "stop"])
def test_all(lab, mode):
    """Every kind of event is seen, and nothing is lost when the primary dies of it."""
    active, backup, console_path = protected(lab, ("--events", "all", "--mode", mode))
    work(lab, console_path)
    status = active.status()
    assert status["events"] == "all" and status["state"] == "protected", status
    counts = status["event_counts"]
    assert sorted(counts) == sorted(KINDS) and all(counts.values()), counts
    counter = load.Counter(lab.client)
    load.sleep_counting(counter, 0.5)
    active.kill_qemu()
    backup.wait_running()
    counter.wait_counts(20)
    load.check(counter.finish())


def test_some(lab):
    """Timers alone: they cut, and a packet waits for one of them."""
    active, _ = pair(lab, options=("--events", "timer") + LONG)
    before = active.status()["checkpoints"]
    load.rr(lab.client, 1, 0.5, 0.1)
    status = active.status()
    assert list(status["event_counts"]) == ["timer"] and status["event_counts"]["timer"] > 0, status
    assert status["checkpoints"] > before, status


def test_none(lab):
    """Nothing cuts but the epoch's length; outputs are held until then."""
    active, _ = pair(lab, options=("--events", "none", "--epoch-max-us", "200000"))
    connection = load.Connection(lab.client, load.ECHO)
    began = time.monotonic()
    for _ in range(5):
        connection.echo()
    taken, status = time.monotonic() - began, active.status()
    assert status["event_counts"] == {} and status["state"] == "protected", status
    assert taken > 4 * 0.2 * 0.9, f"5 answers came within {taken} s: something cut before the epoch was over"
    connection.close()
