# SPDX-License-Identifier: GPL-2.0-or-later
"""What is noted beside the disks' images: after an end of one process or of both, only what changed is copied again, and exactly that."""
import os
import time

import pytest
from lab.disks import MB, Disk, DiskUser, image, make_images, same_images
from lab.machine import Machine
from lab.vm import address, primary, standby
from test_disks import Writer, disks_pair, end_orderly

ALL = 40 * MB
FORMATS = ("raw", "qcow2")


def filled(lab, disk):
    """A protected pair whose disk has something on it that the backup has safely."""
    machine = Machine(disks=(disk,))
    active, backup = disks_pair(lab, machine)
    user = DiskUser(lab.client)
    user.write("vda", 0, ALL, 3)
    settle(active, backup)
    return machine, active, backup, user


def settle(active, backup):
    """Has all that was written so far handed over, there and back: a new copy ends with a mark."""
    active.host.futago("unprotect", "vm")
    active.wait_state("alone")
    active.protect(address(backup.host))
    active.wait_protected()


def copied(active):
    return active.status()["disk_copied_bytes"]


def kill_both(active, backup):
    """The backup first: it would take over."""
    backup.kill_qemu()
    active.kill_qemu()



def end_both(lab, active, backup, disk):
    """Hands over, ends both and compares."""
    active.host.futago("failover", "vm")
    backup.wait_running()
    end_orderly(active)
    end_orderly(backup)
    assert same_images(lab.hosts[0], lab.hosts[1], 0, disk)


@pytest.mark.parametrize("form", FORMATS)
def test_backup_started_again(lab, form):
    """A new process on the backup's host: what the old one had safely is not copied again."""
    disk = Disk(format=form)
    machine, active, backup, user = filled(lab, disk)
    backup.kill_qemu()
    active.wait_state("connecting")
    user.write("vda", 5 * MB, 2 * MB, 4)
    backup = standby(lab.hosts[1], machine)
    active.wait_protected()
    assert 2 * MB <= copied(active) <= 10 * MB, copied(active)
    user.write("vda", 20 * MB, 4096, 5)
    active.kill_qemu()
    backup.wait_running()
    for offset, length, seed in ((0, 5 * MB, 3), (5 * MB, 2 * MB, 4), (7 * MB, 13 * MB, 3), (20 * MB, 4096, 5)):
        user.verify("vda", offset, length, seed)


@pytest.mark.parametrize("form", FORMATS)
def test_both_killed_under_writes(lab, form):
    """Both processes end at some instant, twice: the images are alike again after copying a part of them."""
    disk = Disk(format=form)
    machine, active, backup, _ = filled(lab, disk)
    for pause in (0.7, 0.2):
        writer = Writer(lab.client, "vda", 40, first=80)
        time.sleep(pause)
        kill_both(active, backup)
        writer.abandon()
        backup = standby(lab.hosts[1], machine)
        active = primary(lab.hosts[0], machine)
        active.protect(address(lab.hosts[1]))
        active.wait_protected()
        assert copied(active) <= 12 * MB, copied(active)
    end_both(lab, active, backup, disk)


def test_touched_images_are_copied_whole(lab):
    """Somebody worked on the backup's image, and then on the primary's, while nobody used it."""
    disk = Disk()
    machine, active, backup, _ = filled(lab, disk)
    for host in (lab.hosts[1], lab.hosts[0]):
        kill_both(active, backup)
        time.sleep(2.5)  # a request may have been on its way: what it wrote is believed for two seconds
        with open(image(host, 0, disk), "r+b") as handle:
            handle.seek(30 * MB)
            handle.write(b"somebody else")
        backup = standby(lab.hosts[1], machine)
        active = primary(lab.hosts[0], machine)
        active.protect(address(lab.hosts[1]))
        active.wait_protected()
        assert copied(active) >= ALL, copied(active)
    end_both(lab, active, backup, disk)


def test_foreign_notes_are_not_believed(lab):
    """A note that belongs to another image, one of an earlier time, and one that is not whole: all is copied."""
    disk = Disk()
    machine, active, backup, user = filled(lab, disk)
    note = image(lab.hosts[1], 0, disk) + ".futago"
    with open(note, "rb") as handle:
        earlier = handle.read()
    for seed, damage in enumerate((lambda now: earlier, lambda now: now[:550], lambda now: bytes(len(now)))):
        user.write("vda", 3 * MB, MB, 20 + seed)
        settle(active, backup)
        settle(active, backup)
        backup.kill_qemu()
        active.wait_state("connecting")
        with open(note, "rb") as handle:
            damaged = damage(handle.read())
        os.unlink(note)
        with open(note, "wb") as handle:
            handle.write(damaged)
        backup = standby(lab.hosts[1], machine)
        active.wait_protected()
        assert copied(active) >= ALL, (seed, copied(active))
    end_both(lab, active, backup, disk)


def test_nothing_is_noted_where_it_cannot_be(lab):
    """An image that stands on another one has no note, and works as before."""
    disk = Disk(format="qcow2")
    machine = Machine(disks=(disk,))
    for host in lab.hosts[:2]:
        make_images(host, machine.disks)
        path = image(host, 0, disk)
        os.rename(path, path + ".base")
        host.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", path + ".base", "-F", "qcow2", path])
    standby(lab.hosts[1], machine)
    active = primary(lab.hosts[0], machine)
    active.protect(address(lab.hosts[1]))
    active.wait_protected()
    assert not os.path.exists(image(lab.hosts[0], 0, disk) + ".futago")
