# SPDX-License-Identifier: GPL-2.0-or-later
"""Disks of each host's own: the twin has every write that was acknowledged to anybody, and its image is the committed one."""
import signal
import time

import pytest
from lab import load
from lab.disks import MB, Disk, DiskUser, Writer, image, make_images, names, same_images
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


def writers_on(lab, machine):
    return [Writer(lab.client, name, 200, first=600 * (half + 1))
            for name in names(machine.disks) for half in range(2)]


def end_orderly(vm):
    """So that what QEMU keeps of the image in memory, of qcow2 in particular, is written."""
    vm.process.signal(signal.SIGTERM)
    assert vm.process.wait(20) == 0, vm.process.output()


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


def test_images_are_equal_after_a_hand_over(lab):
    """Writes, zeroes, discards and flushes, during the copy and under protection: both images then read alike."""
    disks = (Disk(options=",discard=unmap"), Disk(format="qcow2", options=",discard=unmap,file.discard=unmap"))
    machine = Machine(disks=disks)
    active, backup = disks_pair(lab, machine)
    names_of = names(disks)
    user = DiskUser(lab.client)
    writers = writers_on(lab, machine)
    for name in names_of:
        user.write(name, 40 * MB, 8 * MB, 1)
        user.must("ZERO", name, 41 * MB + 4096, 1 * MB)
        user.must("TRIM", name, 43 * MB + 512, 3 * MB)
        user.write(name, 44 * MB, 4096, 2)
        user.must("FLUSH", name)
    time.sleep(0.5)
    for writer in writers:
        writer.stop()
    active.host.futago("failover", "vm")
    status = backup.wait_running()
    assert status["disk_queue_bytes"] == 0, status
    for name in names_of:
        user.verify(name, 40 * MB, 1 * MB, 1)
        user.verify(name, 44 * MB, 4096, 2)
    end_orderly(active)
    end_orderly(backup)
    for number, disk in enumerate(disks):
        assert same_images(lab.hosts[0], lab.hosts[1], number, disk), f"images of disk {number} differ"


def test_kill_both_in_turn(lab):
    """Each survivor copies its disk to the next twin while the guest writes; nothing acknowledged is ever lost."""
    machine = Machine(disks=(Disk(), Disk(bus="scsi", format="qcow2")))
    here, there = disks_pair(lab, machine)
    writers = writers_on(lab, machine)
    counter = load.Counter(lab.client)
    for next_host in (lab.hosts[2], lab.hosts[0]):
        load.sleep_counting(counter, 0.5)
        here.kill_qemu()
        there.wait_running()
        make_images(next_host, machine.disks)
        here, there = there, standby(next_host, machine)
        here.protect(address(next_host))
        here.wait_protected()
    load.sleep_counting(counter, 0.5)
    here.kill_qemu()
    there.wait_running()
    for writer in writers:
        writer.stop()
        writer.check()
    load.check(counter.finish())


def test_broken_link_copies_only_what_changed(lab):
    """A frozen backup that comes back holds its image still; what was written meanwhile, and no more, is copied."""
    machine = Machine(disks=(Disk(),))
    active, backup = disks_pair(lab, machine)
    user = DiskUser(lab.client)
    user.write("vda", 0, 32 * MB, 3)
    generation = active.status()["generation"]
    time.sleep(0.3)
    backup.freeze()
    active.wait_status("alone", lambda s: s["generation"] == generation + 1)
    user.write("vda", 5 * MB, 2 * MB, 4)
    backup.thaw()
    active.wait_protected()
    status = active.status()
    assert 2 * MB <= status["disk_copied_bytes"] <= 8 * MB, status["disk_copied_bytes"]
    user.write("vda", 20 * MB, 4096, 5)
    active.kill_qemu()
    backup.wait_running()
    for offset, length, seed in ((0, 5 * MB, 3), (5 * MB, 2 * MB, 4), (7 * MB, 13 * MB, 3), (20 * MB, 4096, 5)):
        user.verify("vda", offset, length, seed)


def failing(iotype, errno, at):
    """Properties that make an image's file fail at one place."""
    return (f",file.driver=blkdebug,file.inject-error.0.event=none,file.inject-error.0.iotype={iotype}"
            f",file.inject-error.0.errno={errno},file.inject-error.0.sector={at // 512}")


def faulty(disk, host, number, fault):
    """That disk with a faulty file."""
    args = disk.args(number, host.folder, "microvm")
    plain = f"file.driver=file,file.filename={host.folder}"
    assert plain in args[1], args
    args[1] = args[1].replace(plain, f"file.image.driver=file,file.image.filename={host.folder}") + fault
    return tuple(args)


def test_backup_without_room(lab):
    """The backup's disk fails: protection ends, both sides say why, nobody takes the VM from anybody."""
    machine = Machine(disks=(Disk(),))
    for host in lab.hosts[:2]:
        make_images(host, machine.disks)
    full = Machine(extra=faulty(Disk(), lab.hosts[1], 0, failing("write", 28, 10 * MB)))
    backup = standby(lab.hosts[1], full)
    active = primary(lab.hosts[0], machine, options=("--retry-ms", "60000"))
    active.protect(address(lab.hosts[1]))
    active.wait_protected()
    user = DiskUser(lab.client)
    user.write("vda", 10 * MB, 4096, 1)
    status = active.wait_status("protection ends", lambda s: "No space left" in s["reason"])
    assert "disk0" in status["reason"] and status["running"] and status["role"] == "primary", status
    away = backup.wait_state("waiting")
    assert "No space left" in away["reason"] and not away["running"], away
    user.verify("vda", 10 * MB, 4096, 1)
    user.write("vda", 12 * MB, 4096, 2)


def test_primary_that_cannot_read(lab):
    """The copy cannot be made: said so, with the disk's name; the guest goes on."""
    machine = Machine(extra=faulty(Disk(), lab.hosts[0], 0, failing("read", 5, 30 * MB)))
    for host in lab.hosts[:2]:
        make_images(host, [Disk()])
    standby(lab.hosts[1], Machine(disks=(Disk(),)))
    active = primary(lab.hosts[0], machine)
    DiskUser(lab.client).write("vda", 30 * MB, 4096, 1)
    lab.hosts[0].futago("protect", "vm", "--to", address(lab.hosts[1]), "--wait", 10, check=False)
    status = active.wait_state("alone")
    assert status["running"], status
    assert "disk disk0 cannot be read: Input/output error" in active.process.output()


def test_disks_that_differ(lab):
    """A twin with a smaller disk, or without it, is refused with the disk's name."""
    for host in lab.hosts[:2]:
        make_images(host, (Disk(),))
    active = primary(lab.hosts[0], Machine(disks=(Disk(),)), options=("--retry-ms", "200"))
    active.call("protect", to=address(lab.hosts[1]))
    make_images(lab.hosts[1], (Disk(megabytes=32),))
    other = standby(lab.hosts[1], Machine(disks=(Disk(),)))
    status = active.wait_status("refused", lambda s: "disk:disk0" in s["reason"])
    assert str(64 * MB) in status["reason"] and str(32 * MB) in status["reason"], status
    other.kill()


def test_fast_writer_is_bounded(lab):
    """More than the cap of unacknowledged writes makes the guest wait, and it gets on."""
    machine = Machine(disks=(Disk(megabytes=256),))
    active, backup = disks_pair(lab, machine)
    writers = [Writer(lab.client, "vda", 40, MB, first=60 * part) for part in range(4)]
    most = 0
    for _ in range(30):
        most = max(most, active.status()["disk_unacked_bytes"])
        time.sleep(0.1)
    for writer in writers:
        writer.stop()
    assert 0 < most <= 40 * MB, most
    active.kill_qemu()
    backup.wait_running()
    for writer in writers:
        writer.check()


def slow(host, bytes_per_s):
    """A disk that takes no more than that."""
    path = image(host, 0, Disk())
    return ("-object", f"throttle-group,id=slow,x-bps-write={bytes_per_s}",
            "-blockdev", f"throttle,throttle-group=slow,node-name=disk0,file.driver=raw,file.file.driver=file,file.file.filename={path}",
            "-device", "virtio-blk-device,id=disk0,drive=disk0")


def test_flush_on_both(lab):
    """With --flush both, whoever hears of a flush can rely on the backup's image, should both hosts die at once."""
    machine = Machine(disks=(Disk(),))
    for host in lab.hosts[:2]:
        make_images(host, machine.disks)
    backup = standby(lab.hosts[1], Machine(extra=slow(lab.hosts[1], 8 * MB)), options=("--flush", "both"))
    active = primary(lab.hosts[0], machine)
    active.protect(address(lab.hosts[1]))
    active.wait_protected()
    user = DiskUser(lab.client)
    for number in range(24):
        user.write("vda", number * MB, MB, number)
    user.must("FLUSH", "vda")
    backup.kill_qemu()
    active.kill_qemu()
    assert same_images(lab.hosts[0], lab.hosts[1], 0, machine.disks[0])


def test_slow_backup_is_waited_for(lab):
    """Commits do not wait for the backup's disk, but a takeover waits until all that was committed is there."""
    for host in lab.hosts[:2]:
        make_images(host, (Disk(),))
    backup = standby(lab.hosts[1], Machine(extra=slow(lab.hosts[1], 8 * MB)))
    active = primary(lab.hosts[0], Machine(disks=(Disk(),)))
    active.protect(address(lab.hosts[1]))
    active.wait_protected()
    user = DiskUser(lab.client)
    for number in range(24):
        user.write("vda", number * MB, MB, number)
    waiting = backup.status()["disk_queue_bytes"]
    active.kill_qemu()
    status = backup.wait_running()
    assert waiting > 4 * MB and status["disk_queue_bytes"] == 0, (waiting, status)
    for number in range(24):
        user.verify("vda", number * MB, MB, number)
