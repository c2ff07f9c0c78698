# SPDX-License-Identifier: GPL-2.0-or-later
"""Disks of the guests: their images, one of its own on each host, and the guest's writing and reading."""
import dataclasses
import filecmp
import os
import subprocess

from .load import Connection

DISK_PORT = 7005
MB = 1 << 20


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
        if os.path.exists(path):
            os.unlink(path)
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

    def __init__(self, client, timeout=30):
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
