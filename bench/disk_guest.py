# SPDX-License-Identifier: GPL-2.0-or-later
"""Part of case disk: a guest that compiles on a disk that is still elsewhere (the experiment of the AIST paper), and what clients see
of `futago relocate`."""
import os
import random
import re
import shutil
import subprocess
import time

from lab import load, paths, process
from lab.disks import Disk, DiskUser, make_images
from lab.machine import Machine
from lab.relocation import Arrived, outcome, receiver, start_relocating
from lab.vm import StockVm, primary

MB = 1 << 20
SOURCES, FUNCTIONS = 48, 100  # C files, and functions in each
BALLAST_MB, DISK_MB = 256, 448
GIVE_UP_S = 120
# What was read of the disk so far is no part of the job: it begins with empty caches.
INIT = """#!/bin/sh
export PATH=/bin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
cd /src
echo 3 > /proc/sys/vm/drop_caches
echo "JOB-BEGINS"
for file in *.c; do
    tcc -c $file -o /out/${file%.c}.o || echo "JOB-FAILED $file"
done
sync
echo "JOB-ENDS"
poweroff -f
"""


def c_source(rand):
    """Functions without a header that call each other."""
    lines = []
    for number in range(FUNCTIONS):
        callee = f"f{rand.randrange(number)}(x)" if number else "x"
        lines.append(f"static int f{number}(int x) {{ int i, s = {rand.randrange(1000)}; for (i = 0; i < x % 17; i++) "
                     f"{{ s += (i * {rand.randrange(1, 99)}) ^ (s >> 3); if (s & {1 << rand.randrange(8)}) s -= {callee}; }} "
                     f"switch (s & 3) {{ case 0: return s + x; case 1: return s - x; default: return s * {rand.randrange(9)}; }} }}")
    return "\n".join(lines + [f"int entry(int x) {{ return f{FUNCTIONS - 1}(x); }}", ""])


def libraries(program):
    """Files that a program of this machine needs to run elsewhere, itself included."""
    told = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    return [program] + re.findall(r"(/\S+) \(0x", told)


def make_disk(folder):
    """An ext4 disk with tcc, what it is to compile, and ballast that the copy has to bring as well."""
    root, image, rand = os.path.join(folder, "root"), os.path.join(folder, "job.img"), random.Random(1)
    for name in ("bin", "sbin", "dev", "proc", "sys", "run", "src", "out"):
        os.makedirs(os.path.join(root, name))
    shutil.copy("/bin/busybox", f"{root}/bin/busybox")
    for applet in ("sh", "mount", "sync", "poweroff"):
        os.symlink("busybox", f"{root}/bin/{applet}")
    for path in libraries(shutil.which("tcc")):
        target = f"{root}/bin/tcc" if path.endswith("/tcc") else root + path
        os.makedirs(os.path.dirname(target), exist_ok=True)
        shutil.copy(path, target)
    for number in range(SOURCES):
        with open(f"{root}/src/s{number:03}.c", "w", encoding="ascii") as handle:
            handle.write(c_source(rand))
    with open(f"{root}/ballast", "wb") as handle:
        for _ in range(BALLAST_MB):
            handle.write(os.urandom(MB))
    with open(f"{root}/sbin/futago-init", "w", encoding="ascii") as handle:
        handle.write(INIT)
    os.chmod(f"{root}/sbin/futago-init", 0o755)
    with open(image, "wb") as handle:
        handle.truncate(DISK_MB * MB)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", root, image], check=True)
    shutil.rmtree(root)
    return image


def compile_on(lab, socket):
    """Seconds that the job takes on the disk behind that NBD socket."""
    vm = StockVm(lab.hosts[0], Machine(append="futroot=vda", extra=(
        "-blockdev", f"driver=nbd,node-name=root,server.type=unix,server.path={socket}", "-device", "virtio-blk-device,drive=root")))

    def seen(word):
        return process.wait_for(lambda: f"{word}: {vm.console()[-500:]}", lambda: word in vm.console(), GIVE_UP_S, 0.01) and time.monotonic()
    took = -seen("JOB-BEGINS") + seen("JOB-ENDS")
    if "JOB-FAILED" in vm.console():
        raise RuntimeError(f"the compile job failed: {vm.console()[-500:]}")
    vm.process.wait(60)
    lab.reset()
    return took


def move(lab):
    """Milliseconds that a client's longest wait lasts while `futago relocate` moves the VM and 24 MB of its disk."""
    here, there = lab.hosts[:2]
    machine = Machine(disks=(Disk(),))
    make_images(here, machine.disks)
    primary(here, machine)
    DiskUser(lab.client).write("vda", 0, 24 * MB, 1)
    receiver(there, here)
    counter = load.Counter(lab.client)
    load.sleep_counting(counter, 1.0)
    started = time.monotonic()
    moving = start_relocating(here, there, "vm")
    if outcome(moving) != "moved":
        raise RuntimeError(f"futago relocate: {moving.output()[-500:]}")
    took = time.monotonic() - started
    Arrived(there).wait_running()
    counter.wait_counts(50)
    result = counter.finish()
    load.check(result)
    lab.reset()
    return max([gap["gap_ms"] for gap in result["gaps"]], default=0.0), took


def missing():
    """Why the compile job cannot be run here, or ""."""
    return "" if shutil.which("tcc") and os.path.exists(paths.KERNEL) else "tcc is not installed"
