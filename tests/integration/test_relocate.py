# SPDX-License-Identifier: GPL-2.0-or-later
"""A VM moves with its disk: at every instant it is at one of the two places, whole, and so is each of its writes."""
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading

import pytest
from lab import load, paths
from lab.certificates import make_authority, make_host
from lab.ctl import ControlError
from lab.disks import Disk, DiskUser, Writer, image, make_images
from lab.machine import Machine
from lab.process import wait_for
from lab.relocation import (Arrived, Caller, arbiter_away, arbiter_locked, at_work, command_of, disk_call, image_files, images, outcome, read,
                            receiver, start_relocating, switch, told, wait_disk, wait_phase)
from lab.vm import FutagoVm, address, pair, primary, standby
from test_disk_guest import make_root

PATIENT = ("--timeout-ms", "5000", "--retry-ms", "200")  # a busy machine is no failure
BLOCK = 4096
ONE_DISK = Machine(disks=(Disk(),))


def vm_with_disk(lab):
    make_images(lab.hosts[0], ONE_DISK.disks)
    return primary(lab.hosts[0], ONE_DISK, options=PATIENT)


class Sequence:
    """Writes block after block of a part of the disk, one at a time, past the guest's cache."""

    def __init__(self, lab, first):
        self.user, self.first, self.count, self.error, self.stopping = DiskUser(lab.client), first, 0, None, False
        self.thread = threading.Thread(target=self.work, daemon=True)
        self.thread.start()

    def work(self):
        try:
            while not self.stopping and self.count < 4000:
                self.user.write("vda", (self.first + self.count) * BLOCK, BLOCK, self.count)
                self.count += 1
        except (OSError, RuntimeError) as error:
            self.error = error

    def stop(self):
        self.stopping = True
        self.thread.join(30)
        assert not self.thread.is_alive() and self.error is None, self.error

    def written(self, path):
        """Which of its blocks an image has, by number."""
        with open(path, "rb") as handle:
            handle.seek(self.first * BLOCK)
            data = handle.read(self.count * BLOCK)
        return {at // BLOCK for at in range(0, len(data), BLOCK) if data[at:at + BLOCK].strip(b"\0")}


def test_order_of_writes(lab):
    """Each write is at one of the two places: all up to some instant at the source, all after it at the destination."""
    here, there, third = lab.hosts
    vm = vm_with_disk(lab)
    receiver(there, here)
    counter = load.Counter(lab.client)
    vm.call("probe-add", probe="kprobe:virtio_blk:virtio_queue_rq", name="blocks")
    sequences = [Sequence(lab, 4000 * part) for part in range(3)]
    moving = start_relocating(here, there, "vm", "--hold")
    wait_phase(moving, "held")
    assert disk_call(there, "vm-0", "status")["state"] == "asleep"
    disk_call(there, "vm-0", "pause")
    switch(moving)
    wait_phase(moving, "disks")
    before = [sequence.count for sequence in sequences]
    wait_for("further writes", lambda: all(s.count > n + 20 or s.error for s, n in zip(sequences, before)), 30)
    for sequence in sequences:
        sequence.stop()
        at_source = sequence.written(image(here, 0, Disk()))
        assert at_source == set(range(len(at_source))) and 0 < len(at_source) < sequence.count
        assert sequence.written(os.path.join(images(there), "vm-0.img")) == set(range(len(at_source), sequence.count))
    disk_call(there, "vm-0", "resume")
    assert outcome(moving) == "moved", moving.output()
    load.check(counter.finish())
    vm.process.wait(20)
    assert image_files(there) == ["vm-0.img", "vm-0.img.bitmap"]
    user = DiskUser(lab.client)
    for sequence in sequences:
        for number in range(0, sequence.count, 7):
            user.verify("vda", (sequence.first + number) * BLOCK, BLOCK, number)

    # An ordinary VM at its new place: its probes see, it gets a twin, and outlives its host.
    arrived = Arrived(there)
    blocks, = arrived.call("probe-list")["probes"]
    assert blocks["state"] == "in" and blocks["hits"] > 0, blocks
    with pytest.raises(ControlError, match="is on that host already"):
        Caller(here, there).prepare("vm")
    assert os.path.exists(os.path.join(there.rundir, "disks", "vm-0.nbd")), "the VM that is there has lost its disk's server"
    make_images(third, ONE_DISK.disks)
    twin = standby(third, ONE_DISK, options=PATIENT)
    arrived.protect(address(third))
    arrived.kill_qemu()
    twin.wait_running()
    user.verify("vda", 0, BLOCK, 0)


def check_stayed(lab, moving, writer, *left):
    """It runs at the source, and nothing is at the destination but these images."""
    assert outcome(moving) == "stayed", moving.output()
    there = lab.hosts[1]
    Arrived(there).wait_ended()
    wait_for(lambda: f"images go: {image_files(there)}", lambda: image_files(there) == list(left), 40)
    count = writer.count
    wait_for("the guest goes on writing", lambda: writer.error or writer.count > count + 3, 30)
    assert writer.error is None, writer.error
    wait_for("relocate ends", lambda: not at_work("relocate"), 40)


def refused(lab, writer, name, size, reason):
    """The receiver refuses because of a file, and leaves it alone."""
    path = os.path.join(images(lab.hosts[1]), name)
    with open(path, "wb") as handle:
        handle.truncate(size)
    moving = start_relocating(*lab.hosts[:2], "vm")
    check_stayed(lab, moving, writer, name)
    assert reason in told(moving)[-1]["text"], told(moving)[-1]
    assert os.path.getsize(path) == size
    os.unlink(path)


def refuse_another_file(lab, writer):
    """What has the image's name is not what QEMU has open."""
    path = image(lab.hosts[0], 0, Disk())
    os.rename(path, path + ".old")
    shutil.copyfile(path + ".old", path)
    moving = start_relocating(*lab.hosts[:2], "vm")
    check_stayed(lab, moving, writer)
    assert "is not the file that the VM has open" in told(moving)[-1]["text"], told(moving)[-1]
    os.rename(path + ".old", path)


def test_failures_before_the_switch(lab):
    here, there = lab.hosts[:2]
    vm = vm_with_disk(lab)
    process = receiver(there, here)
    writer = Writer(lab.client, "vda", 200, reads=True)
    refused(lab, writer, "vm-0.img", 1 << 20, "it may be another VM's disk")
    refused(lab, writer, "other.img", 1 << 43, "may still grow")
    refuse_another_file(lab, writer)

    for fault in ("arbiter", "cancel", "server", "qemu", "receiver"):
        moving = start_relocating(here, there, "vm", "--hold")
        wait_phase(moving, "held")
        if fault == "arbiter":
            with arbiter_away(lab):
                switch(moving)
                assert outcome(moving) == "stayed", moving.output()
        elif fault in ("cancel", "server"):
            if fault == "server":
                os.kill(servers()[0], signal.SIGKILL)
            moving.signal(signal.SIGTERM)
        elif fault == "qemu":
            Arrived(there).kill_qemu()
        else:
            for child in set(at_work("receive")) - {process.pid}:
                os.kill(child, signal.SIGKILL)
            assert outcome(moving) == "stayed", moving.output()
            clear_up(there)  # who would have done it was killed
        check_stayed(lab, moving, writer)
    vm.wait_state("alone")
    writer.stop()
    writer.check()

    moving = start_relocating(here, there, "vm", "--hold")
    wait_phase(moving, "held")
    vm.kill_qemu()
    assert outcome(moving) == "ended", moving.output()
    assert "whole here" in told(moving)[-1]["text"]
    Arrived(there).wait_ended()
    wait_for("images go", lambda: not image_files(there), 40)


def clear_up(host):
    for pid in [Arrived(host).pid] + [pid for pid in at_work("--foreground") if images(host).encode() in command_of(pid)]:
        os.kill(pid, signal.SIGKILL)
    for name in image_files(host):
        os.unlink(os.path.join(images(host), name))


def test_failures_after_the_switch(lab):
    """Somebody else has ordered the hand-over; the old QEMU, who looks on, and the disk's server die; the VM goes on and its disk comes."""
    here, there = lab.hosts[:2]
    vm = vm_with_disk(lab)
    receiver(there, here)
    writer = Writer(lab.client, "vda", 1000, reads=True)
    wait_for("some writes", lambda: writer.count > 100 or writer.error, 30)
    moving = start_relocating(here, there, "vm", "--hold")
    wait_phase(moving, "held")
    disk_call(there, "vm-0", "pause")
    movers = set(at_work("relocate")) - {moving.pid}
    assert movers and all(os.readlink(f"/proc/{pid}/fd/1") == "/dev/null" for pid in movers), "who reads us would wait for them"
    vm.call("failover")
    wait_phase(moving, "disks")
    vm.kill_qemu()
    moving.kill()
    os.kill(servers()[0], signal.SIGKILL)
    count = writer.count
    wait_for("writes go on", lambda: writer.count > count + 20 or writer.error, 60)
    writer.stop()
    wait_disk(there, "vm-0")
    wait_for("the disk is complete", lambda: wait_disk(there, "vm-0")["state"] == "complete", 60)
    wait_for("exports and relocate end", lambda: not at_work("relocate") and not exports(), 40)
    writer.check()
    Arrived(there).call("stop")
    wait_for("the disk's server ends with its VM", lambda: not at_work("--foreground"), 40)
    assert image_files(there) == ["vm-0.img", "vm-0.img.bitmap"]


def servers():
    return [pid for pid in at_work("--foreground") if b"asleep=true" in command_of(pid)]


def exports():
    return [pid for pid in at_work("--foreground") if b"--readonly" in command_of(pid)]


def kill_movers():
    for pid in at_work("relocate"):
        os.kill(pid, signal.SIGKILL)
    wait_for("they are gone", lambda: not at_work("relocate"), 30)


def follow(host):
    return host.spawn([paths.FUTAGO, "relocate", "--json", "--follow"], "follow")


def test_relocate_is_killed(lab):
    """Before the switch and after it: whoever comes next finds what it was about, and brings it to its end."""
    here, there = lab.hosts[:2]
    vm = vm_with_disk(lab)
    receiver(there, here)
    writer = Writer(lab.client, "vda", 1000, reads=True)
    wait_phase(start_relocating(here, there, "vm", "--hold"), "held")
    kill_movers()
    assert len(exports()) == 1
    following = follow(here)
    check_stayed(lab, following, writer)
    assert following.wait() == 0 and not exports()
    vm.wait_state("alone")

    moving = start_relocating(here, there, "vm", "--hold")
    wait_phase(moving, "held")
    busy = start_relocating(here, there, "vm")
    assert outcome(busy) == "stayed" and "another futago relocate moves" in told(busy)[-1]["text"], busy.output()
    disk_call(there, "vm-0", "pause")
    switch(moving)
    wait_phase(moving, "disks")
    kill_movers()
    assert len(exports()) == 1
    count = writer.count
    wait_for("the guest goes on writing", lambda: writer.error or writer.count > count + 3, 30)
    other = start_relocating(here, there, "other")  # looks after it, too
    assert outcome(other, "other") == "ended", other.output()
    disk_call(there, "vm-0", "resume")
    wait_for("exports and relocate end", lambda: not at_work("relocate") and not exports(), 60)
    vm.process.wait(20)
    writer.stop()
    writer.check()
    assert not [name for name in os.listdir(here.rundir) if name.endswith(".move")]


def test_both_end_in_the_switch(lab):
    """The source has let go, nobody was granted the VM, and both QEMUs die: it has ended, and its disk is whole at the source."""
    here, there = lab.hosts[:2]
    vm = vm_with_disk(lab)
    receiver(there, here)
    user = DiskUser(lab.client)
    user.write("vda", 0, BLOCK, 7)
    moving = start_relocating(here, there, "vm", "--hold")
    wait_phase(moving, "held")
    with arbiter_locked(lab):
        switch(moving)
        wait_for("the destination asks for it", lambda: Arrived(there).status()["state"] == "claiming", 30)
        vm.kill_qemu()
        Arrived(there).kill_qemu()
        assert outcome(moving) == "ended", moving.output()
    assert "its disks are whole here" in told(moving)[-1]["text"], told(moving)[-1]
    wait_for("nothing is left", lambda: not image_files(there) and not exports() and not at_work("relocate"), 40)
    primary(here, ONE_DISK, options=PATIENT)
    DiskUser(lab.client).verify("vda", 0, BLOCK, 7)


def certificates(lab, *hosts):
    """The option for each host; its certificate has its address, which who reads its disks asks for."""
    authority = os.path.join(tempfile.mkdtemp(dir=lab.folder), "authority")
    make_authority(authority)
    secure = {}
    for host in hosts:
        folder = os.path.join(os.path.dirname(authority), f"{host.name} certificates")
        make_host(authority, folder, host.name.lower(), ip=host.rep_ip)
        secure[host] = ("--tls", f"x509:{folder}")
    return secure


def test_moves_on(lab):
    """There and back again, with certificates; only when the disk is complete."""
    here, there = lab.hosts[:2]
    secure = certificates(lab, here, there)
    make_images(here, ONE_DISK.disks)
    vm = primary(here, ONE_DISK, options=PATIENT + secure[here])
    receiver(there, here, *secure[there])
    writer = Writer(lab.client, "vda", 2000, reads=True)
    moving = start_relocating(here, there, "vm", "--hold")
    wait_phase(moving, "held")
    disk_call(there, "vm-0", "pause")
    switch(moving)
    wait_phase(moving, "disks")
    receiver(here, there, *secure[here])
    early = start_relocating(there, here, "vm")
    assert outcome(early) == "stayed" and "is still coming" in told(early)[-1]["text"], early.output()
    disk_call(there, "vm-0", "resume")
    assert outcome(moving) == "moved", moving.output()
    vm.process.wait(20)

    counter = load.Counter(lab.client)
    back = start_relocating(there, here, "vm")
    assert outcome(back) == "moved", back.output()
    load.check(counter.finish())
    Arrived(there).wait_ended()
    assert Arrived(here).status()["running"] and Arrived(here).status()["tls"] == "x509"
    writer.stop()
    writer.check()
    wait_for("the servers there end", lambda: len(at_work("--foreground")) == 1, 40)
    assert image_files(here) == image_files(there) == ["vm-0.img", "vm-0.img.bitmap"]


def small_vm(host, name):
    """No network; a disk of its own."""
    path = os.path.join(host.folder, f"{name}.raw")
    subprocess.run(["qemu-img", "create", "-q", "-f", "raw", path, "16M"], check=True)
    disk = ("-drive", f"file={path},format=raw,if=none,id=d", "-device", "virtio-blk-device,drive=d")
    vm = FutagoVm(host, Machine(memory_mb=128, nics=0, extra=disk), name, options=PATIENT)
    return vm


def link_local(host, number):
    with host.ns.inside(), open("/proc/sys/net/ipv6/conf/rep0/disable_ipv6", "w", encoding="ascii") as handle:
        handle.write("0")
    host.ns.ip(f"-6 address add fe80::{number}/64 dev rep0 nodad")


def test_several_at_once(lab):
    """Over addresses that mean something on one link only."""
    here, there = lab.hosts[:2]
    names = ("one", "two", "three")
    vms = [small_vm(here, name) for name in names]
    for vm in vms:
        vm.wait_ready()
    for host, number in ((here, 1), (there, 2)):
        link_local(host, number)
    receiver(there, here, at="[fe80::2%rep0]:7190")
    moving = start_relocating(here, there, *names, "missing", "--parallel", "2", at="[fe80::2%rep0]")
    wait_for(lambda: f"relocate ends: {moving.output()[-500:]}", lambda: not moving.alive, 120)
    assert moving.wait() == 1
    assert "not moved: missing (" in moving.output(), moving.output()
    most = busy = 0
    for line in moving.output().splitlines():
        busy += '"phase":"preparing"' in line
        busy -= '"phase":"end"' in line
        most = max(most, busy)  # what has ended may still be clearing up
    assert most == 2, moving.output()
    for vm in vms:
        assert told(moving, vm.name)[-1]["outcome"] == "moved"
        assert Arrived(there, vm.name).status()["running"]
        vm.process.wait(20)


@pytest.mark.parametrize("killed", [False, True])
def test_protected_pair_over_tls(lab, killed):
    """A pair's primary moves to a third host, encrypted, and is protected there by its twin; the key's path has a space in it. So it is if relocate
    is killed, somebody else orders the switch, and --follow brings it to its end."""
    here, twin_host, there = lab.hosts
    folder = os.path.join(lab.folder, "with space")
    os.makedirs(folder, exist_ok=True)
    key = os.path.join(folder, "keys.psk")
    subprocess.run(["psktool", "--username", "futago", "--pskfile", key, "--keysize", "32"], check=True, capture_output=True)
    secure = ("--tls", f"psk:{key}")
    for host in (here, twin_host):
        make_images(host, ONE_DISK.disks)
    vm, twin = pair(lab, ONE_DISK, options=PATIENT + secure, backup_options=PATIENT + secure)
    receiver(there, here, *secure)
    writer = Writer(lab.client, "vda", 200, reads=True)
    moving = start_relocating(here, there, "vm", "--protect-to", address(twin_host), *(["--hold"] if killed else []))
    if killed:
        wait_phase(moving, "held")
        kill_movers()
        here.futago("failover", "vm")
        moving = follow(here)
    assert outcome(moving) == "moved", moving.output()
    vm.process.wait(20)
    arrived = Arrived(there)
    arrived.wait_protected()
    assert arrived.status()["tls"] == "psk"
    arrived.kill_qemu()
    twin.wait_running()
    writer.stop()
    writer.check()


@pytest.mark.long
def test_link_cut_before_the_switch(lab):
    """Nobody can tell the receiver that the VM stays: it gives up by itself."""
    here, there = lab.hosts[:2]
    vm_with_disk(lab)
    receiver(there, here)
    writer = Writer(lab.client, "vda", 200, reads=True)
    moving = start_relocating(here, there, "vm", "--hold")
    wait_phase(moving, "held")
    there.link_rep(False)
    assert outcome(moving) == "stayed", moving.output()
    wait_for("the receiver gives up", lambda: not image_files(there), 120)
    there.link_rep(True)
    check_stayed(lab, moving, writer)
    writer.stop()
    writer.check()


@pytest.mark.long
def test_outcome_unknown(lab):
    """The source has let go, and the arbiter does not grant: said so, until it does."""
    here, there = lab.hosts[:2]
    vm = vm_with_disk(lab)
    receiver(there, here)
    writer = Writer(lab.client, "vda", 200, reads=True)
    moving = start_relocating(here, there, "vm", "--hold")
    wait_phase(moving, "held")
    with arbiter_locked(lab):
        switch(moving)
        assert outcome(moving) == "unknown", moving.output()
        assert len(exports()) == 1
    Arrived(there).wait_running(60)
    vm.process.wait(60)
    wait_for("exports and relocate end", lambda: not at_work("relocate") and not exports(), 40)
    writer.stop()
    writer.check()


@pytest.mark.long
def test_ext4(lab):
    """A guest that lives on ext4 moves while it writes files and checks them; then its QEMU is killed, and fsck finds nothing."""
    here, there = lab.hosts[:2]
    folder = tempfile.mkdtemp(dir=lab.folder)
    make_root(folder)
    shutil.move(os.path.join(folder, "source.img"), image(here, 0, Disk()))
    machine = Machine(disks=(Disk(),), nics=0, append="futroot=vda")
    vm = FutagoVm(here, machine, options=PATIENT)
    wait_for(lambda: f"rounds: {vm.console()[-500:]}", lambda: "round 3" in vm.console(), 120)
    receiver(there, here)
    moving = start_relocating(here, there, "vm")
    assert outcome(moving) == "moved", moving.output()
    console = vm.serial.replace(here.folder, there.folder)
    wait_for(lambda: f"further rounds: {read(console)[-500:]}", lambda: len(re.findall(r"^round \d+", read(console), re.M)) > 6, 120)
    assert "BAD" not in vm.console() + read(console), read(console)[-2000:]
    Arrived(there).kill_qemu()
    wait_for("the disk's server ends with its VM", lambda: not at_work("--foreground"), 60)
    path = os.path.join(images(there), "vm-0.img")
    subprocess.run(["e2fsck", "-E", "journal_only", "-p", path], check=False, capture_output=True)
    done = subprocess.run(["e2fsck", "-f", "-n", path], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
