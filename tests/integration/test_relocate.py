# SPDX-License-Identifier: GPL-2.0-or-later
"""A VM moves with its disk: at every instant it is at one of the two places, whole, and so is each of its writes."""
import pytest
from lab import load
from lab.disks import MB, Disk, DiskUser, Writer, make_images
from lab.machine import Machine
from lab.relocation import Arrived, image_files, outcome, receiver, start_relocating
from lab.vm import primary

PATIENT = ("--timeout-ms", "5000", "--retry-ms", "200")  # a busy machine is no failure


def vm_with_disk(lab, disks=(Disk(),), options=(), **machine):
    make_images(lab.hosts[0], disks)
    return primary(lab.hosts[0], Machine(disks=disks, **machine), options=PATIENT + options)


def test_move(lab):
    here, there = lab.hosts[:2]
    vm = vm_with_disk(lab)
    user = DiskUser(lab.client)
    user.write("vda", 0, 24 * MB, 1)
    receiver(there, here)
    counter = load.Counter(lab.client)
    writers = [Writer(lab.client, "vda", 200, first=1600 + 400 * part) for part in range(2)]
    moving = start_relocating(here, there, "vm")
    assert outcome(moving) == "moved", moving.output()
    status = Arrived(there).wait_running()
    assert status["state"] == "alone" and status["node"] == "hostB", status
    for writer in writers:
        writer.stop()
        writer.check()
    user.verify("vda", 0, 24 * MB, 1)
    load.check(counter.finish())
    vm.process.wait(20)
    assert image_files(there) == ["vm-0.img", "vm-0.img.bitmap"]
