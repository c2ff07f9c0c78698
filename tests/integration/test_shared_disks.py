# SPDX-License-Identifier: GPL-2.0-or-later
"""One image that both hosts reach: it never holds what the twin has not seen, and the twin lacks nothing that anybody was told of."""
import os
import random
import shlex
import signal
import time

import pytest
from lab import load
from lab.disks import MB, Disk, DiskUser, Writer, make_images, names
from lab.machine import Machine
from lab.process import wait_for
from lab.shared import SharedDisk, check_image, lock_refused, make_shared_image, shared_image
from lab.vm import address, pair, primary, standby

SHARED = ("--shared-disk", "all")
VARIANTS = {
    "virtio-raw-microvm": ("microvm", SharedDisk()),
    "virtio-qcow2-q35": ("q35", SharedDisk(format="qcow2")),
    "scsi-raw-q35": ("q35", SharedDisk(bus="scsi")),
    "ide-qcow2-pc": ("pc", SharedDisk(bus="ide", format="qcow2")),
}


def shared_pair(lab, machine, options=SHARED):
    for number, disk in enumerate(machine.disks):
        if isinstance(disk, SharedDisk):
            make_shared_image(lab, number, disk)
    return pair(lab, machine, options=options, backup_options=options)


@pytest.mark.parametrize("variant", VARIANTS)
def test_kill_primary_under_writes(lab, variant):
    kind, disk = VARIANTS[variant]
    machine = Machine(kind=kind, disks=(disk,))
    path = make_shared_image(lab, 0, disk)
    backup = standby(lab.hosts[1], machine, options=SHARED)
    active = primary(lab.hosts[0], machine, options=SHARED)
    name = names(machine.disks)[0]
    user = DiskUser(lab.client)
    user.write(name, 3 * MB, 4 * MB, 7)
    writers = [Writer(lab.client, name, 200, first=600 * (half + 1)) for half in range(2)]
    active.protect(address(lab.hosts[1]))
    active.wait_protected()
    assert lock_refused(path, disk)
    time.sleep(1.0)
    active.kill_qemu()
    backup.wait_running()
    assert lock_refused(path, disk)
    time.sleep(1.0)
    for writer in writers:
        writer.stop()
        writer.check()
    user.must("FLUSH", name)
    user.verify(name, 3 * MB, 4 * MB, 7)
    backup.process.signal(signal.SIGTERM)
    assert backup.process.wait(20) is not None
    check_image(path, disk)


def faulty(lab, disk):
    """That disk, which cannot be written at 10 MB."""
    args = disk.args(0, lab.hosts[0].folder, "microvm")
    args[1] = (f"raw,node-name=disk0,file.driver=blkdebug,file.image.driver=file,file.image.filename={shared_image(lab, 0, disk)},"
               f"file.inject-error.0.event=none,file.inject-error.0.iotype=write,file.inject-error.0.errno=28,"
               f"file.inject-error.0.sector={10 * MB // 512}")
    return tuple(args)


def test_what_is_held_is_read_and_replayed(lab):
    """The primary cannot write to the image any more: its guest reads what it wrote, nobody hears of a flush, and the twin has it all."""
    disk = SharedDisk()
    path = make_shared_image(lab, 0, disk)
    backup = standby(lab.hosts[1], Machine(disks=(disk,)), options=SHARED)
    active = primary(lab.hosts[0], Machine(extra=faulty(lab, disk)), options=SHARED)
    user, flusher = DiskUser(lab.client), DiskUser(lab.client)
    user.write("vda", 0, 9 * MB, 1)
    user.write("vda", 11 * MB, 9 * MB, 1)
    active.protect(address(lab.hosts[1]))
    active.wait_protected()
    user.write("vda", 9 * MB, 2 * MB, 2)
    user.write("vda", 10 * MB + 512, 512, 3)
    user.must("ZERO", "vda", 10 * MB + 1024, 512)
    user.write("vda", 10 * MB + 1536, 4096, 4)
    expected = ((0, 9 * MB, 1), (9 * MB, MB, 2), (10 * MB, 512, 2), (10 * MB + 512, 512, 3), (10 * MB + 1536, 4096, 4),
                (10 * MB + 5632, MB - 5632, 2), (11 * MB, 9 * MB, 1))
    for offset, length, seed in expected:
        user.verify("vda", offset, length, seed)
    wait_for(lambda: "the failure is told", lambda: "FUT-195" in active.process.output(), 10)
    waiting = flusher.connection.socket
    waiting.sendall(b"FLUSH vda\n")
    waiting.settimeout(1)
    with pytest.raises(TimeoutError):
        waiting.recv(200)
    waiting.settimeout(30)
    assert active.status()["shared_held_bytes"] >= MB
    with open(path, "rb") as image:
        image.seek(10 * MB)
        before = image.read(512)
    active.kill_qemu()
    backup.wait_running()
    assert waiting.recv(200) == b"OK\n"
    for offset, length, seed in expected:
        user.verify("vda", offset, length, seed)
    with open(path, "rb") as image:
        image.seek(10 * MB)
        assert image.read(512) != before
    assert backup.status()["shared_held_bytes"] == 0


@pytest.mark.parametrize("end", ["wakes", "dies"])
def test_frozen_primary_keeps_the_image(lab, end):
    """As long as the old primary could write, the twin does not run: it says so, and runs when the old one let go."""
    machine = Machine(disks=(SharedDisk(format="qcow2"),))
    active, backup = shared_pair(lab, machine)
    user = DiskUser(lab.client, timeout=60)
    user.write("vda", 0, 4 * MB, 1)
    writer = Writer(lab.client, "vda", 200, first=600)
    time.sleep(0.5)
    active.freeze()
    wait_for(lambda: "the twin says that it waits", lambda: "FUT-193" in backup.process.output(), 20)
    status = backup.status()
    assert not status["running"] and "lock" in backup.process.output(), status
    if end == "wakes":
        active.thaw()
        active.wait_state("fenced")
    else:
        active.kill_qemu()
    backup.wait_running()
    time.sleep(0.5)
    writer.stop()
    writer.check()
    user.verify("vda", 0, 4 * MB, 1)


def test_hand_over_and_losses_in_turn(lab):
    """Handed over, protected again, backup lost, protected again, primary killed: beside a disk of each host's own."""
    machine = Machine(disks=(SharedDisk(format="qcow2"), Disk()))
    options = ("--shared-disk", "disk0")
    for host in lab.hosts:
        make_images(host, machine.disks)
    first, second = shared_pair(lab, machine, options)
    counter = load.Counter(lab.client)
    writers = [Writer(lab.client, name, 200) for name in names(machine.disks)]
    load.sleep_counting(counter, 0.5)
    first.host.futago("failover", "vm")
    second.wait_running()
    first.wait_state("fenced")
    first.kill()
    third = standby(lab.hosts[2], machine, options=options)
    second.protect(address(lab.hosts[2]))
    second.wait_protected()
    load.sleep_counting(counter, 0.5)
    third.kill_qemu()
    second.wait_status("alone", lambda s: s["state"] != "protected" and s["running"])
    load.sleep_counting(counter, 0.5)
    third = standby(lab.hosts[2], machine, options=options)
    second.wait_protected()
    load.sleep_counting(counter, 0.5)
    second.kill_qemu()
    third.wait_running()
    load.sleep_counting(counter, 0.5)
    for writer in writers:
        writer.stop()
        writer.check()
    load.check(counter.finish())
    third.process.signal(signal.SIGTERM)
    assert third.process.wait(20) == 0
    check_image(shared_image(lab, 0, machine.disks[0]), machine.disks[0])


@pytest.mark.long
def test_primary_freezes_in_a_hand_over(lab):
    """It gave the VM away, and hangs with the image in its hands for longer than a twin waits for one that could go on."""
    disk = SharedDisk()
    path = make_shared_image(lab, 0, disk)
    backup = standby(lab.hosts[1], Machine(disks=(disk,)), options=SHARED)
    slow = ("-object", "throttle-group,id=slow,x-bps-write=20000,x-bps-write-max=20000",
            "-blockdev", f"throttle,node-name=disk0,throttle-group=slow,file.driver=raw,file.file.driver=file,file.file.filename={path}",
            "-device", "virtio-blk-device,id=disk0,drive=disk0")
    active = primary(lab.hosts[0], Machine(extra=slow), options=SHARED)
    user = DiskUser(lab.client, timeout=60)
    active.protect(address(lab.hosts[1]))
    active.wait_protected()
    user.write("vda", 0, 2 * MB, 1)
    active.host.futago("failover", "vm", check=False)
    backup.wait_status("taking over", lambda s: s["state"] == "taking")
    active.freeze()
    time.sleep(14)
    assert backup.status()["state"] == "taking", backup.process.output()
    active.kill_qemu()
    backup.wait_running()
    user.verify("vda", 0, 2 * MB, 1)


@pytest.mark.long
def test_kill_twenty_five_in_turn(lab):
    """One qcow2 image, whoever runs the guest: each survivor is protected again and dies in turn at a random instant, under writes that are
    read and compared before they are written anew, some of them flushed."""
    machine, chance = Machine(disks=(SharedDisk(format="qcow2"),)), random.Random(25)
    here, there = shared_pair(lab, machine)
    user = DiskUser(lab.client, timeout=60)
    user.write("vda", 48 * MB, 4 * MB, 7)
    writers = [Writer(lab.client, "vda", 400, first=500 * part, reads=True) for part in range(4)]
    counter = load.Counter(lab.client)
    for number in range(25):
        time.sleep(chance.uniform(0.05, 1.0))
        if number % 2:
            user.must("FLUSH", "vda")
        here.kill_qemu()
        there.wait_running()
        counter.wait_counts(50)
        next_host = lab.hosts[(number + 2) % len(lab.hosts)]
        here, there = there, standby(next_host, machine, options=SHARED)
        here.protect(address(next_host))
        here.wait_protected()
    load.check(counter.finish())
    for writer in writers:
        writer.stop()
        writer.check()
    user.verify("vda", 48 * MB, 4 * MB, 7)
    here.process.signal(signal.SIGTERM)
    assert here.process.wait(20) == 0
    check_image(shared_image(lab, 0, machine.disks[0]), machine.disks[0])


def pattern(offset, length, seed):
    """What the guest's disk service writes."""
    mask = (1 << 64) - 1
    words = []
    for at in range(offset, offset + length, 8):
        x = ((at + 1) * 0x9e3779b97f4a7c15 ^ (seed + 1) * 0xbf58476d1ce4e5b9) & mask
        words.append((x ^ x >> 29).to_bytes(8, "little"))
    return b"".join(words)


def expect_no_snapshots(lab, *vms):
    """What is held back is in no image: neither at the primary nor at the backup, neither once nor by schedule; and nothing is left of the try."""
    store = os.path.join(lab.folder, "store")
    for vm in vms:
        for words in (("create",), ("auto", "--min", "5s", "--max", "60s")):
            done = vm.host.futago("snapshot", words[0], "vm", "--store", store, *words[1:], check=False)
            assert done.returncode == 1 and "a disk is shared by both hosts" in done.stderr, done
        assert "schedule" not in vm.host.futago("snapshot", "status", "vm").stdout
    assert not os.path.exists(store)


def test_orderly_end(lab):
    """What the guest wrote last is on the image when its QEMU has ended, and the backup stands down."""
    machine = Machine(disks=(SharedDisk(),))
    active, backup = shared_pair(lab, machine, SHARED + ("--epoch-max-us", "2000000"))
    user = DiskUser(lab.client)
    for number in range(64):
        user.write("vda", number * 65536, 65536, number)
    expect_no_snapshots(lab, active, backup)
    active.host.futago("stop", "vm")
    assert active.process.wait(30) == 0, active.process.output()
    assert "FUT-194" not in active.process.output()
    with open(shared_image(lab, 0, machine.disks[0]), "rb") as image:
        for number in range(64):
            assert image.read(65536)[:4096] == pattern(number * 65536, 4096, number), number
    assert not backup.wait_state("waiting")["running"]


def test_refused(lab):
    """What is no shared disk, or not the same one, is refused by name."""
    disk = SharedDisk()
    path = make_shared_image(lab, 0, disk)
    plain = ("qemu-system-x86_64", "-M", "microvm", "-display", "none", "-nodefaults")
    device = ("-device", "virtio-blk-device,id=disk0,drive=node")
    file = f"raw,node-name=node,file.driver=file,file.filename={path}"
    for args, said in (
            (("-blockdev", file) + device, "shared disk \"other\": there is no such writable disk"),
            (("-blockdev", file + ",file.locking=off") + device, "shared disk \"disk0\" has locking=off"),
            (("-blockdev", file + ",cache.no-flush=on") + device, "shared disk \"disk0\" has cache.no-flush=on"),
            (("-blockdev", file, "-device", device[1] + ",share-rw=on"), "shared disk \"disk0\" has share-rw=on"),
            (("-blockdev", "null-co,node-name=node,size=1048576,read-zeroes=on") + device, "shared disk \"disk0\" is no file")):
        name = "other" if "other" in said else "disk0"
        done = lab.hosts[0].futago("run", "--name", "vm", "--shared-disk", name, "--", *plain, *args, check=False)
        assert done.returncode != 0 and said in done.stderr, done
    done = lab.hosts[0].futago("run", "--name", "vm", "--shared-disk", "disk0", "--print", "--", *plain, "-blockdev", file, *device)
    words = shlex.split(done.stdout)
    plugin = words[words.index("-plugin") + 1] + f",restore={lab.folder}/store@1"
    done = lab.hosts[0].run([*plain, "-blockdev", file, *device, "-plugin", plugin])
    assert done.returncode != 0 and "restore and shared_disk exclude each other" in done.stderr, done
    machine = Machine(disks=(disk,))
    active = primary(lab.hosts[0], machine, options=SHARED + ("--retry-ms", "200"))
    active.call("protect", to=address(lab.hosts[1]))
    make_images(lab.hosts[1], machine.disks)
    other = standby(lab.hosts[1], Machine(disks=(Disk(),)))
    status = active.wait_status("one-sided", lambda s: "disk:disk0" in s["reason"])
    assert "shared" in status["reason"], status
    other.kill()
    other = standby(lab.hosts[1], Machine(disks=(Disk(),)), options=SHARED)
    status = active.wait_status("another image", lambda s: "not the primary's image" in s["reason"])
    assert "disk0" in status["reason"] and status["running"], status
