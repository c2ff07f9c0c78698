# SPDX-License-Identifier: GPL-2.0-or-later
"""A VM that died is started as a snapshot has it, on another host."""
import json
import os
import re
import signal
import struct
import tempfile

import pytest
from lab import load
from lab import snapshots as stores
from lab.ctl import ControlError
from lab.disks import MB, Disk, DiskUser, make_images, names
from lab.machine import Machine
from lab.process import wait_for
from lab.vm import RestoredVm, primary

MACHINE = Machine(disks=(Disk(),))


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
    old = RestoredVm(lab.hosts[1], f"{store}@{first}", machine=MACHINE)
    old.wait_running()
    user = DiskUser(lab.client)
    user.verify(name, 3 * MB, 4 * MB, 7)
    user.close()
    old.process.signal(signal.SIGTERM)
    assert old.process.wait(20) == 0

    refused = RestoredVm(lab.hosts[1], f"{store}@{second}", machine=MACHINE)
    expect_end(refused, "its image has content, which a restore would overwrite")
    newer = RestoredVm(lab.hosts[1], f"{store}@{second}", "--force", machine=MACHINE)
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


FRAME, FRAME_HEAD, PACK_HEAD, PAGE = 0x4d524646, 32, 48, 4096
STEP = 0x9e3779b97f4a7c15  # between two words that the guest's memory writer writes
UNSTEP = pow(STEP, -1, 1 << 64)


def last_written(pack):
    """Place in a pack file of the frame that holds what the memory writer has written last: it comes to these pages again after all others."""
    at, found = PACK_HEAD, []
    while struct.unpack_from("<I", pack, at)[0] == FRAME:
        stored = struct.unpack_from("<I", pack, at + 16)[0]
        records = range(at + FRAME_HEAD, at + FRAME_HEAD + stored, PAGE)
        words = [struct.unpack_from("<QQ", pack, record) for record in records] if stored == 16 * PAGE else []
        if words and all((second - first) % (1 << 64) == STEP for first, second in words):
            found.append((min(first * UNSTEP % (1 << 64) for first, _ in words), at))
        at += FRAME_HEAD + stored
    assert len(found) > 10, "frames of the memory writer's pages, which do not compress"
    return max(found)[1]


class Damage:
    """A page's content in a store that cannot be read, until it is mended; the guest does without it for long."""

    def __init__(self, store):
        self.path = os.path.join(store, "00000001-00000001.pack")
        with open(self.path, "rb") as file:
            pack = file.read()
        self.at = last_written(pack) + FRAME_HEAD
        self.byte = pack[self.at]
        self.put(self.byte ^ 0xff)

    def put(self, byte):
        with open(self.path, "r+b") as file:
            file.seek(self.at)
            file.write(bytes([byte]))

    def mend(self):
        self.put(self.byte)


def expect_busy(vm, verb, **args):
    with pytest.raises(ControlError) as caught:
        vm.call(verb, **args)
    assert caught.value.code == "busy" and "still coming from a snapshot" in str(caught.value), caught.value


@pytest.mark.parametrize("machine", (SMALL, LARGER), ids=("microvm", "q35-2-vcpus-memfd"))
def test_lazy(lab, machine):
    """A store that cannot be read for a while keeps the memory from being complete: the guest runs meanwhile, and nothing begins that needs all of it."""
    store = tempfile.mkdtemp(prefix="store-", dir=lab.folder)
    vm = primary(lab.hosts[0], machine)
    load.dirty(lab.client, 16, 50)
    stores.take(vm, tempfile.mkdtemp(prefix="other-", dir=lab.folder))  # so long it writes
    load.dirty(lab.client, 16, 1)
    first = stores.take(vm, store)
    vm.kill_qemu()

    damage = Damage(store)
    lazy = RestoredVm(lab.hosts[1], f"{store}@{first['id']}", "--lazy", machine=machine)
    wait_said(lazy, "cannot be read from the snapshot")
    echo(lab)
    assert 0 < lazy.status()["restore"]["share"] < 1
    assert "of memory is there" in lab.hosts[1].futago("status", "vm").stdout
    expect_busy(lazy, "protect", to="tcp:127.0.0.1:1")
    expect_busy(lazy, "snapshot-create", store=store)
    expect_busy(lazy, "snapshot-auto", store=store)
    damage.mend()
    wait_said(lazy, "all of its memory is there")
    assert "restore" not in lazy.status()
    hot = re.search(r"(\d+) pages that it had used last", lazy.process.output())
    assert (int(hot[1]) > 0) == (machine.accel == "tcg"), lazy.process.output()
    counter = load.Counter(lab.client)
    second = stores.take(lazy, store)
    counter.wait_counts(10)
    load.check(counter.finish())
    assert [state for _, _, state in stores.look(store)] == ["same", "same"] and second["parent"] == 0
