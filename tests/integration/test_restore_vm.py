# SPDX-License-Identifier: GPL-2.0-or-later
"""A VM that died is started as a snapshot has it, on another host."""
import json
import os
import signal
import tempfile

import pytest
from lab import load, paths
from lab import snapshots as stores
from lab.ctl import ControlError
from lab.disks import MB, Disk, DiskUser, make_images, names
from lab.machine import Machine
from lab.process import wait_for
from lab.vm import FutagoVm, primary

MACHINE = Machine(disks=(Disk(),))


class RestoredVm(FutagoVm):
    """Started by futago restore."""

    def __init__(self, host, source, *options, machine=MACHINE):
        self.source, self.own = source, options
        super().__init__(host, machine)

    def command(self, qemu):
        return [paths.FUTAGO, "restore", self.source, "--name", self.name, "--node", self.host.name, "--arbiter",
                f"file:{self.host.lab.arbiter}", "--force-generation", *self.own, "--"] + qemu


def futago_json(host, *words):
    return json.loads(host.futago(*words, "--json").stdout)


def snapshots(host, store):
    if not os.path.exists(os.path.join(store, "store")):
        return []
    return [one["id"] for one in futago_json(host, "snapshot", "list", store)]


def take(vm, store):
    """A snapshot with a hash of memory; returns its ID."""
    known = snapshots(vm.host, store)

    def ordered():
        try:
            return vm.call("snapshot-create", store=store, hash=True)
        except ControlError as error:  # the one before is in the store, and not quite over
            assert error.code == "busy", error
            return None
    wait_for("snapshot-create is taken", ordered)
    return wait_for("a new snapshot in the store",
                    lambda: next((one for one in snapshots(vm.host, store) if one not in known), None))


def expect_end(vm, text):
    assert vm.process.wait(60) == 1
    assert text in vm.process.output(), vm.process.output()


def test_restore(lab):
    store = os.path.join(lab.folder, "store")
    name = names(MACHINE.disks)[0]
    for host in lab.hosts[:2]:
        make_images(host, MACHINE.disks)
    vm = primary(lab.hosts[0], MACHINE)
    user = DiskUser(lab.client)
    user.write(name, 3 * MB, 4 * MB, 7)
    first = take(vm, store)
    user.write(name, 5 * MB, 1 * MB, 8)
    second = take(vm, store)
    user.write(name, 5 * MB, 1 * MB, 9)
    user.close()
    vm.kill_qemu()
    assert "whole" in lab.hosts[1].futago("snapshot", "verify", store, "--contents").stdout

    other = RestoredVm(lab.hosts[1], f"{store}@{first}", machine=Machine(disks=MACHINE.disks, memory_mb=160))
    expect_end(other, "cannot run here")
    old = RestoredVm(lab.hosts[1], f"{store}@{first}")
    old.wait_running()
    user = DiskUser(lab.client)
    user.verify(name, 3 * MB, 4 * MB, 7)
    user.close()
    old.process.signal(signal.SIGTERM)
    assert old.process.wait(20) == 0

    refused = RestoredVm(lab.hosts[1], f"{store}@{second}")
    expect_end(refused, "its image has content, which a restore would overwrite")
    newer = RestoredVm(lab.hosts[1], f"{store}@{second}", "--force")
    newer.wait_running()
    user = DiskUser(lab.client)
    user.verify(name, 3 * MB, 2 * MB, 7)
    user.verify(name, 5 * MB, 1 * MB, 8)
    user.write(name, 9 * MB, 1 * MB, 3)
    user.verify(name, 9 * MB, 1 * MB, 3)
    assert "runs from snapshot" in newer.process.output()
    user.close()


def wait_said(vm, text, timeout=60):
    wait_for(lambda: f"{vm.name} says {text!r}: {vm.process.output()[-800:]}", lambda: text in vm.process.output(), timeout)


def echo(lab):
    connection = load.Connection(lab.client, load.ECHO)
    connection.echo()
    connection.close()


SMALL = Machine(memory_mb=192)
LARGER = Machine(kind="q35", memory_mb=192, vcpus=2, memory="memfd,share=on")


@pytest.mark.parametrize("machine, numbers", ((SMALL, (1, 2, 3, 4)), (LARGER, (1, 4))), ids=("microvm", "q35-2-vcpus-memfd"))
def test_series_comes_back(lab, machine, numbers):
    """Each of a series, all memory first and on demand, has the memory of its cut; a snapshot whose memory is another does not run."""
    store = tempfile.mkdtemp(prefix="store-", dir=lab.folder)
    vm = primary(lab.hosts[0], machine)
    load.dirty(lab.client, 24, 100)
    taken = [stores.take(vm, store) for _ in range(4)]
    assert [one["id"] for one in taken] == [1, 2, 3, 4]
    unhashed = stores.take(vm, store, hash=False)
    vm.kill_qemu()
    for number in numbers:
        for words in ((), ("--lazy",)):
            again = RestoredVm(lab.hosts[1], f"{store}@{number}", "--check-hash", *words, machine=machine)
            wait_said(again, "which has the hash of the cut")
            if number == numbers[-1]:
                echo(lab)
            again.kill_qemu()
    expect_end(RestoredVm(lab.hosts[1], f"{store}@{unhashed['id']}", "--check-hash", machine=machine), "has no hash of its memory")
