# SPDX-License-Identifier: GPL-2.0-or-later
"""A restored guest that is kept ready: nobody notices it before it is let go, and then it runs at once as the snapshot has it."""
import json
import os
import re
import shutil
import signal
import struct
import tempfile
import time

import pytest
from lab import load, paths
from lab import snapshots as stores
from lab.ctl import ControlError
from lab.disks import MB, Disk, DiskUser, make_images, names
from lab.machine import Machine
from lab.process import wait_for
from lab.restored import RestoredVm
from lab.shared import SharedDisk, lock_refused, make_shared_image
from lab.vm import FutagoVm, primary

DISK = SharedDisk()
ONE = Machine(memory_mb=192, disks=(DISK,))
TWO = Machine(kind="q35", memory_mb=192, vcpus=2, memory="memfd,share=on")
DEVICES = 7007
HOURS = 3 * 3600
S = 10 ** 9


class Spare(RestoredVm):
    """Kept ready; the arbiter is heeded."""

    def command(self, qemu):
        return [word for word in super().command(qemu) if word != "--force-generation"]

    def wait_ready_state(self):
        return self.wait_state("ready", timeout=60)

    def go(self, *words, at=""):
        """What futago restore --go says; "" if it runs."""
        return self.host.futago("restore", "--go", self.name + at, *words, check=False).stderr


def spare(host, store, *options, machine, **more):
    vm = Spare(host, store, "--ready", *options, machine=machine, **more)
    vm.wait_ready_state()
    return vm


def running(vm):
    status = vm.status()
    assert status["role"] == "primary" and status["state"] == "alone" and status["running"], status
    return vm


def expect_waiting(vm):
    status = vm.status()
    assert (status["role"], status["state"], status["running"], status["generation"]) == ("spare", "ready", False, 0), status
    return status


def folder(lab):
    return tempfile.mkdtemp(prefix="store-", dir=lab.folder)


def modified(path):
    return os.stat(path).st_mtime_ns


def sent(host):
    """Packets that came out of QEMU there."""
    return json.loads(host.run(["ip", "-j", "-s", "link", "show", "tap0"]).stdout)[0]["stats64"]["rx"]["packets"]


def ticks(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        return sum(map(int, file.read().rsplit(")", 1)[1].split()[11:13]))


def test_beside_the_first(lab):
    """The first guest runs on while two wait with its very disk and name; they go one after the other once it is dead, and only one of them."""
    store, name = folder(lab), names(ONE.disks)[0]
    path = make_shared_image(lab, 0, DISK)
    vm = primary(lab.hosts[0], ONE)
    user = DiskUser(lab.client)
    user.write(name, 3 * MB, 2 * MB, 7)
    load.dirty(lab.client, 16, 100)
    stores.take(vm, store)
    user.write(name, 3 * MB, 2 * MB, 8)
    user.close()
    counter = load.Counter(lab.client)
    before, before_it = modified(path), sent(lab.hosts[1])
    first = spare(lab.hosts[1], store, "--lazy", "--force", "--check-hash", machine=ONE)
    assert expect_waiting(first)["restore"]["snapshot"] == 1
    assert "waits: futago restore --go" in lab.hosts[1].futago("status", "vm").stdout
    assert "is another process using" in first.go("--force-generation")
    assert "is snapshot 1, not 2" in first.go(at="@2")
    with pytest.raises(ControlError) as caught:
        first.call("protect", to="tcp:127.0.0.1:1")
    assert caught.value.code == "state" and "it is kept ready" in str(caught.value)
    expect_waiting(first)
    counter.wait_counts(10)
    load.check(counter.finish())
    assert modified(path) == before
    assert sent(lab.hosts[1]) == before_it
    assert os.path.getsize(first.serial) == 0
    vm.kill_qemu()
    second = spare(lab.hosts[2], store, "--force", machine=ONE)
    assert "hostA runs this VM" in first.go() and not lock_refused(path, DISK)
    assert "hostA runs this VM" in expect_waiting(first)["reason"]
    assert modified(path) == before
    assert first.go("--force-generation", at="@1") == ""
    running(first)
    first.said("which has the hash of the cut")
    assert "is another process using" in second.go("--force-generation")
    expect_waiting(second)
    assert "runs already" in first.go()
    user = DiskUser(lab.client)
    user.verify(name, 3 * MB, 2 * MB, 7)
    user.write(name, 9 * MB, 1 * MB, 3)
    user.verify(name, 9 * MB, 1 * MB, 3)
    user.close()
    first.said("all of its memory is there")
    assert lab.hosts[2].futago("stop", "vm").returncode == 0 and second.process.wait(20) == 0
    assert running(first).status()["generation"] == 2


def translated(vm):
    """Pieces of code, ahead."""
    return int(re.search(r"(\d+) pieces of its code are translated", vm.process.output()).group(1))


def wait_and_go(lab, host, store, option):
    """Hours pass, and the store is gone, when it is let go."""
    clocks = os.path.join(lab.folder, "clocks")
    with open(clocks, "wb") as file:
        file.write(struct.pack("<qq", 0, 0))
    later = spare(host, store, option, machine=TWO,
                  before=["env", f"LD_PRELOAD={paths.FUT_CLOCK_SHIM}", f"FUT_CLOCK_FILE={clocks}"])
    assert translated(later) > 1000 or TWO.accel != "tcg"
    shutil.rmtree(store)
    pid, begin = later.qemu_pid, time.monotonic()
    used = ticks(pid)
    time.sleep(1)
    with open(clocks, "r+b") as file:
        file.write(struct.pack("<qq", HOURS, 0))
    assert ticks(pid) - used < 20 * (time.monotonic() - begin), "hundredths of a second in which it had nothing to do"
    assert later.go() == ""
    return running(later)


def test_later(lab):
    """It is as it was at the cut, all of its memory in place or on demand, and its clock as right as it was: by the time when it goes."""
    store = folder(lab)
    vm = primary(lab.hosts[0], TWO)
    load.dirty(lab.client, 16, 100)
    stores.take(vm, store)
    vm.process.signal(signal.SIGTERM)
    assert vm.process.wait(20) == 0
    for host, option in ((lab.hosts[1], "--check-hash"), (lab.hosts[2], "--lazy")):
        copy = os.path.join(lab.folder, f"copy-{host.name}")
        shutil.copytree(store, copy)
        later = wait_and_go(lab, host, copy, option)
        later.said("which has the hash of the cut" if option == "--check-hash" else "all of its memory is there")
        later.said("s late, and is set")
        connection = load.Connection(lab.client, DEVICES)
        guest_ns = int(connection.order("CLOCKS").split()[1])
        connection.close()
        assert abs(guest_ns / S - HOURS - time.time()) < 20, guest_ns
        counter = load.Counter(lab.client)
        counter.wait_counts(10)
        load.check(counter.finish())
        later.process.signal(signal.SIGTERM)
        assert later.process.wait(20) == 0


def stop(vm):
    vm.host.futago("stop", vm.name)
    assert vm.process.wait(20) == 0


def test_ends_while_it_waits(lab):
    """Killed or told to end: nothing of it is left. A cluster manager lets one go, when the first is not there any more. Its disk has a format."""
    store, machine = folder(lab), Machine(memory_mb=192, disks=(Disk(format="qcow2"),))
    name = names(machine.disks)[0]
    for host in lab.hosts[:2]:
        make_images(host, machine.disks)
    vm = primary(lab.hosts[0], machine)
    user = DiskUser(lab.client)
    user.write(name, 5 * MB, 2 * MB, 7)
    user.close()
    stores.take(vm, store, hash=False)
    host = lab.hosts[1]
    records = sorted(os.listdir(lab.arbiter))
    for end in (FutagoVm.kill_qemu, stop):
        end(spare(host, store, "--lazy", machine=machine))
        wait_for(lambda: f"nothing is left: {os.listdir(host.rundir)}", lambda: not os.listdir(host.rundir))
    assert sorted(os.listdir(lab.arbiter)) == records
    assert vm.status()["running"]
    again = spare(host, store, machine=machine)
    start = ["env", "OCF_RESKEY_vm=vm", f"OCF_RESKEY_futago={paths.FUTAGO}", os.path.join(paths.ROOT, "agents", "futago-vm"), "start"]
    refused = host.run(start)
    assert refused.returncode == 1 and "hostA runs this VM" in refused.stderr
    vm.process.signal(signal.SIGTERM)
    assert vm.process.wait(20) == 0
    assert host.run(start).returncode == 0
    running(again)
    user = DiskUser(lab.client)
    user.verify(name, 5 * MB, 2 * MB, 7)
    user.close()
