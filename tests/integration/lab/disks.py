# SPDX-License-Identifier: GPL-2.0-or-later
"""Disks of the guests: their images, one of its own on each host, and the guest's writing and reading."""
import dataclasses
import filecmp
import os
import random
import socket
import subprocess
import threading

from .load import Connection
from .process import PATIENCE, wait_for

DISK_PORT = 7005
MB = 1 << 20
ENOUGH = 20


@dataclasses.dataclass(frozen=True)
class Disk:
    bus: str = "virtio"    # virtio, scsi, ide
    format: str = "raw"    # raw, qcow2
    megabytes: int = 64
    options: str = ""      # further properties of the blockdev, with a leading comma
    device: str = ""       # further properties of the device, with a leading comma

    def args(self, number, folder, machine):
        node = f"disk{number}"
        image = os.path.join(folder, f"{node}.{self.format}")
        pci = machine != "microvm"
        devices = {"virtio": [f"virtio-blk-{'pci' if pci else 'device'},id={node},drive={node}{self.device}"],
                   "scsi": [f"virtio-scsi-{'pci' if pci else 'device'},id=scsi{number}",
                            f"scsi-hd,id={node},bus=scsi{number}.0,drive={node}{self.device}"],
                   "ide": [f"ide-hd,id={node},bus=ide.{number},drive={node}{self.device}"]}
        args = ["-blockdev", f"{self.format},node-name={node},file.driver=file,file.filename={image}{self.options}"]
        for device in devices[self.bus]:
            args += ["-device", device]
        return args


def image(host, number, disk):
    return os.path.join(host.folder, f"disk{number}.{disk.format}")


def make_images(host, disks):
    """New, empty images on that host."""
    for number, disk in enumerate(disks):
        path = image(host, number, disk)
        for old in (path, path + ".futago"):
            if os.path.exists(old):
                os.unlink(old)
        subprocess.run(["qemu-img", "create", "-q", "-f", disk.format, path, f"{disk.megabytes}M"], check=True)


def same_images(first, second, number, disk):
    """Compares what a guest would read; neither image may be in use."""
    paths = image(first, number, disk), image(second, number, disk)
    if disk.format == "raw":
        return filecmp.cmp(*paths, shallow=False)
    return subprocess.run(["qemu-img", "compare", "-q"] + list(paths), check=False).returncode == 0


def names(disks):
    """How the guest's kernel calls them."""
    letters = {"virtio": iter("abcdefgh"), "scsi": iter("abcdefgh")}
    letters["ide"] = letters["scsi"]
    return [("vd" if disk.bus == "virtio" else "sd") + next(letters[disk.bus]) for disk in disks]


class DiskUser:
    """A connection to the guest's disk service."""

    def __init__(self, client, timeout=90):
        self.connection = Connection(client, DISK_PORT, timeout=timeout)

    def order(self, *words):
        return self.connection.order(" ".join(map(str, words)))

    def must(self, *words):
        answer = self.order(*words)
        if not answer.startswith("OK"):
            raise RuntimeError(f"disk service: {' '.join(map(str, words))}: {answer}")
        return answer

    def write(self, disk, offset, length, seed):
        self.must("WRITE", disk, offset, length, seed)

    def verify(self, disk, offset, length, seed):
        self.must("VERIFY", disk, offset, length, seed)

    def close(self):
        self.connection.close()


class Writer:
    """Writes blocks of a disk again and again, and remembers what was acknowledged. `reads`: each block is read and compared
    before it is written anew, so that nothing lost goes unnoticed under a later write."""

    def __init__(self, client, disk, blocks, block_bytes=16384, first=0, reads=False):
        self.user, self.disk, self.block_bytes, self.reads = DiskUser(client), disk, block_bytes, reads
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
                if self.reads and block in self.done:
                    self.verify(block)
                self.user.write(self.disk, block * self.block_bytes, self.block_bytes, seed)
                self.done[block] = seed
                self.count += 1
        except (OSError, RuntimeError) as error:
            self.error = error

    def verify(self, block):
        self.user.verify(self.disk, block * self.block_bytes, self.block_bytes, self.done[block])

    def abandon(self):
        """The guest is gone for good: nobody waits for its answer."""
        self.stopping = True
        self.user.connection.socket.shutdown(socket.SHUT_RDWR)
        self.thread.join(5)

    def stop(self):
        """After enough writes to mean something, however slow they are."""
        wait_for(lambda: f"more than {ENOUGH} writes to {self.disk}, there are {self.count}", lambda: self.error or self.count > ENOUGH, 30)
        self.stopping = True
        self.thread.join(30 * PATIENCE)
        assert not self.thread.is_alive() and self.error is None, self.error

    def check(self):
        for block in sorted(self.done):
            self.verify(block)
