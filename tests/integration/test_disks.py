# SPDX-License-Identifier: GPL-2.0-or-later
"""Disks of each host's own: the twin has every write that was acknowledged to anybody, and its image is the committed one."""
import random
import threading
import time

import pytest
from lab import load
from lab.disks import MB, Disk, DiskUser, make_images, names, same_images
from lab.machine import Machine
from lab.vm import address, pair, primary, standby

VARIANTS = {
    "virtio-raw-microvm": ("microvm", (Disk(),)),
    "virtio-qcow2-q35": ("q35", (Disk(format="qcow2"),)),
    "scsi-raw-q35": ("q35", (Disk(bus="scsi"),)),
    "ide-raw-pc": ("pc", (Disk(bus="ide"),)),
    "virtio-and-scsi-qcow2-pc": ("pc", (Disk(format="qcow2", megabytes=48), Disk(bus="scsi", megabytes=33))),
}


def disks_pair(lab, machine):
    for host in lab.hosts[:2]:
        make_images(host, machine.disks)
    return pair(lab, machine)


class Writer:
    """Writes blocks of a disk again and again, and remembers what was acknowledged."""

    def __init__(self, client, disk, blocks, block_bytes=16384, first=0):
        self.user, self.disk, self.block_bytes = DiskUser(client), disk, block_bytes
        self.blocks = range(first, first + blocks)
        self.random = random.Random(first)
        self.done, self.last, self.count, self.error = {}, None, 0, None
        self.stopping = False
        self.thread = threading.Thread(target=self.work, daemon=True)
        self.thread.start()

    def work(self):
        try:
            while not self.stopping:
                block, seed = self.random.choice(self.blocks), self.count
                self.last = block
                self.user.write(self.disk, block * self.block_bytes, self.block_bytes, seed)
                self.done[block] = seed
                self.count += 1
        except (OSError, RuntimeError) as error:
            self.error = error

    def stop(self):
        self.stopping = True
        self.thread.join(30)
        assert not self.thread.is_alive() and self.error is None, self.error
        assert self.count > 20, f"only {self.count} writes to {self.disk}"

    def check(self):
        for block, seed in sorted(self.done.items()):
            self.user.verify(self.disk, block * self.block_bytes, self.block_bytes, seed)


def writers_on(lab, machine):
    return [Writer(lab.client, name, 200, first=600 * (half + 1))
            for name in names(machine.disks) for half in range(2)]


def end_orderly(vm):
    """As a person would: the guest's last writes are in the image."""
    vm.host.futago("stop", vm.name, check=False)
    vm.process.wait(20)


@pytest.mark.parametrize("variant", VARIANTS)
def test_kill_primary_under_writes(lab, variant):
    kind, disks = VARIANTS[variant]
    machine = Machine(kind=kind, disks=disks)
    for host in lab.hosts[:2]:
        make_images(host, disks)
    backup = standby(lab.hosts[1], machine)
    active = primary(lab.hosts[0], machine)
    user = DiskUser(lab.client)
    for name in names(disks):
        user.write(name, 3 * MB, 4 * MB, 7)
    before = writers_on(lab, machine)
    active.protect(address(lab.hosts[1]))
    active.wait_protected()
    assert active.status()["disk_share"] == 1.0
    time.sleep(1.0)
    active.kill_qemu()
    backup.wait_running()
    time.sleep(1.0)
    for writer in before:
        writer.stop()
        writer.check()
    for name in names(disks):
        user.verify(name, 3 * MB, 4 * MB, 7)
