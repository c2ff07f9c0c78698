# SPDX-License-Identifier: GPL-2.0-or-later
"""What lives on a guest's disk is whole in every snapshot: of a file system, as after a power cut; of the guest restored, as if nothing had been."""
import json
import os
import re
import shutil
import subprocess
import tempfile

import pytest
from lab import debian, snapshots
from lab.disks import Disk, image, make_images
from lab.machine import Machine
from lab.process import wait_for
from lab.servers import Writer, check_kept_since
from lab.vm import RestoredVm, StockVm, primary
from test_disk_guest import make_root

ON_EXT4 = Machine(disks=(Disk(megabytes=96),), nics=0, append="futroot=vda")


def rounds(vm):
    return [int(number) for number in re.findall(r"^round (\d+)\s*$", vm.console(), re.M)]


def wait_rounds(vm, more):
    wanted = len(rounds(vm)) + more

    def enough():
        assert vm.alive, vm.process.output()
        return len(rounds(vm)) >= wanted
    wait_for(lambda: f"further rounds: {vm.console()[-1000:]}", enough, 40)
    assert "BAD" not in vm.console(), vm.console()[-2000:]


def disk_file(host, folder, store, number):
    """The snapshot's one disk, as a file."""
    path = os.path.join(folder, f"{number}.img")
    shown = json.loads(host.futago("snapshot", "show", f"{store}@{number}", "--json").stdout)
    name, = [area["name"] for area in shown["areas"] if area["kind"] == "disk"]
    with open(path, "wb") as handle:
        handle.write(snapshots.disk(store, number, name))
    return path


def check_file_system(path):
    """Its journal is played back, as a kernel does at the mount after a power cut; then nothing is amiss."""
    subprocess.run(["e2fsck", "-E", "journal_only", "-p", path], check=False, capture_output=True, timeout=60)
    done = subprocess.run(["e2fsck", "-f", "-n", path], check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout


def test_ext4(lab):
    """Writes, renames and removes files all the time, and checks them; what each snapshot has of it goes on on another host."""
    here, there = lab.hosts[:2]
    folder = tempfile.mkdtemp(dir=lab.folder)
    store = os.path.join(folder, "store")
    make_root(folder)
    shutil.move(os.path.join(folder, "source.img"), image(here, 0, ON_EXT4.disks[0]))
    make_images(there, ON_EXT4.disks)
    vm = primary(here, ON_EXT4, wait=False)
    taken = []
    for _ in range(3):
        wait_rounds(vm, 2)
        before = rounds(vm)[-1]
        taken.append((snapshots.take(vm, store)["id"], before, rounds(vm)[-1]))
    vm.kill_qemu()
    for number, *_ in taken:
        check_file_system(disk_file(lab.hosts[0], folder, store, number))
    for number, before, after in taken[::2]:
        again = RestoredVm(there, f"{store}@{number}", "--force", "--check-hash", machine=ON_EXT4)
        wait_rounds(again, 3)
        assert before <= rounds(again)[0] <= after + 1, (rounds(again), before, after)
        again.kill_qemu()
        check_file_system(image(there, 0, ON_EXT4.disks[0]))


@pytest.mark.long
def test_redis(lab):
    """Debian's Redis has in each snapshot, and on its disk alone after a power cut, all that was acknowledged before it."""
    folder = tempfile.mkdtemp(dir=lab.folder)
    store = os.path.join(folder, "store")
    debian.make_disks(lab)
    vm = primary(lab.hosts[0], debian.MACHINE)
    writers = [lab.keep(Writer(lab.client, number)) for number in range(3)]
    taken = []
    for _ in range(4):
        before = [writer.progress() for writer in writers]
        wait_for("each gets on", lambda: all(w.error or w.progress() > then + 40 for w, then in zip(writers, before)), 60)
        known = [writer.known() for writer in writers]
        taken.append((snapshots.take(vm, store)["id"], known))
    for writer in writers:
        writer.stop()
    vm.kill_qemu()
    for number, known in taken:
        again = RestoredVm(lab.hosts[1], f"{store}@{number}", "--force", "--check-hash", machine=debian.MACHINE)
        again.wait_running()
        check_kept_since(lab.client, writers, known)
        again.kill_qemu()
    for number, known in taken[::3]:
        shutil.move(disk_file(lab.hosts[0], folder, store, number), image(lab.hosts[2], 0, debian.MACHINE.disks[0]))
        cut = StockVm(lab.hosts[2], debian.MACHINE)
        cut.wait_ready()
        check_kept_since(lab.client, writers, known)
        cut.kill()
