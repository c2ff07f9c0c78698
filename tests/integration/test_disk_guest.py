# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest that lives on a relocating disk: its file system while the disk comes here, its server is killed, and the source goes."""
import os
import re
import socket
import subprocess

import pytest
from lab import process
from lab.machine import Machine, serial_socket
from lab.nbd_disk import MB, Disks, run, wait_complete
from lab.vm import StockVm

FILES, FILE_BYTES = 24, MB
# Reads every old file against its checksum, writes new ones, and reads those again past the page cache.
INIT = """#!/bin/sh
export PATH=/bin
mount -t proc proc /proc
mount -t devtmpfs dev /dev
cd /data
round=0
while :; do
    round=$((round + 1))
    old=$((round % %FILES%))
    grep "file-$old\\$" sums | md5sum -c -s || echo "BAD old $old"
    new=/new/$((round % 8))
    cat file-$old > $new && echo $round >> $new
    md5sum $new > $new.sum
    sync
    echo 3 > /proc/sys/vm/drop_caches
    md5sum -c -s $new.sum || echo "BAD new $round"
    [ $((round % 3)) != 0 ] || rm -f $new $new.sum
    echo "round $round"
    read -t 0.05 line && [ "$line" = stop ] && break
done
sync
mount -o remount,ro / && echo "READ-ONLY"
poweroff -f
"""
APPLETS = ("sh", "mount", "md5sum", "grep", "cat", "sync", "rm", "poweroff")


def make_root(folder):
    """An ext4 file system of 96 MiB with a small system, files and their checksums."""
    root, image = os.path.join(folder, "root"), os.path.join(folder, "source.img")
    for name in ("bin", "sbin", "dev", "proc", "sys", "run", "data", "new"):
        os.makedirs(os.path.join(root, name))
    run("cp", "/bin/busybox", f"{root}/bin/busybox")
    for applet in APPLETS:
        os.symlink("busybox", f"{root}/bin/{applet}")
    for number in range(FILES):
        with open(f"{root}/data/file-{number}", "wb") as handle:
            handle.write(os.urandom(FILE_BYTES))
    with open(f"{root}/data/sums", "w", encoding="ascii") as handle:
        subprocess.run(["md5sum"] + [f"file-{number}" for number in range(FILES)], cwd=f"{root}/data", stdout=handle, check=True)
    with open(f"{root}/sbin/futago-init", "w", encoding="ascii") as handle:
        handle.write(INIT.replace("%FILES%", str(FILES)))
    os.chmod(f"{root}/sbin/futago-init", 0o755)
    with open(image, "wb") as handle:
        handle.truncate(96 * MB)
    run("mke2fs", "-q", "-t", "ext4", "-d", root, image)


def rounds(vm):
    found = re.findall(r"^round (\d+)\s*$", vm.console(), re.M)
    return int(found[-1]) if found else 0


def wait_rounds(vm, more):
    wanted = rounds(vm) + more
    process.wait_for(lambda: f"round {wanted}:\n{vm.console()[-2000:]}", lambda: rounds(vm) >= wanted, 120)
    assert "BAD" not in vm.console(), vm.console()[-2000:]


@pytest.fixture
def disks(tmp_path):
    disks = Disks(tmp_path)
    yield disks
    disks.close()


def guest_on(disk):
    return Machine(nics=1, typing=True, append="futroot=vda", extra=(
        "-blockdev", f"driver=nbd,node-name=root,server.type=unix,server.path={disk.socket},reconnect-delay=120,discard=unmap",
        "-device", "virtio-blk-device,drive=root"))


def stop(vm):
    """Typed until it is heard: the guest listens between two rounds."""
    with socket.socket(socket.AF_UNIX) as console:
        console.connect(serial_socket(os.path.dirname(vm.serial)))

        def ended():
            if vm.alive:
                console.sendall(b"stop\n")
            return not vm.alive
        process.wait_for(lambda: f"the guest stops:\n{vm.console()[-2000:]}", ended, 120, 0.5)
    assert "READ-ONLY" in vm.console() and "BAD" not in vm.console(), vm.console()[-2000:]


@pytest.mark.parametrize("end", ["orderly", pytest.param("killed", marks=pytest.mark.long)])
def test_ext4_under_load_while_the_disk_comes(lab, disks, end):
    """Its content is right at every instant, also over a SIGKILL of the server; then fsck finds nothing to mend."""
    make_root(disks.folder)
    source = disks.source("--filter=delay", "rdelay=5ms")
    disk = disks.disk(source, "rate=6M", "wait=120")
    vm = StockVm(lab.hosts[0], guest_on(disk))
    wait_rounds(vm, 3)
    disk.kill()
    disk.start()  # QEMU connects again, and the guest hears of nothing
    wait_rounds(vm, 3)
    wait_complete(disk, timeout=120)
    source.kill()
    wait_rounds(vm, 3)
    if end == "orderly":
        stop(vm)
    else:
        vm.kill()
    assert disk.end() == 0
    done = subprocess.run(["e2fsck", "-f", "-p" if end == "killed" else "-n", disks.cache], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode in ((0, 1) if end == "killed" else (0,)) and "INCONSISTENCY" not in done.stdout, done
    if end == "killed":  # its journal was played back; nothing else was amiss
        run("e2fsck", "-f", "-n", disks.cache)
