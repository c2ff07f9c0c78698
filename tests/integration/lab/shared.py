# SPDX-License-Identifier: GPL-2.0-or-later
"""Shared disks: one image that QEMUs on all hosts reach."""
import dataclasses
import os
import subprocess

from .disks import Disk


@dataclasses.dataclass(frozen=True)
class SharedDisk(Disk):
    """A disk whose image lies beside the hosts' folders, where all of them see it under the same path."""

    def args(self, number, folder, machine):
        return super().args(number, os.path.dirname(folder), machine)


def shared_image(lab, number, disk):
    return os.path.join(lab.folder, f"disk{number}.{disk.format}")


def make_shared_image(lab, number, disk):
    path = shared_image(lab, number, disk)
    if os.path.exists(path):
        os.unlink(path)
    subprocess.run(["qemu-img", "create", "-q", "-f", disk.format, path, f"{disk.megabytes}M"], check=True)
    return path


def check_image(path, disk):
    """What qemu-img finds wrong with an image that nobody uses; leaked clusters are no damage."""
    if disk.format == "raw":
        return
    result = subprocess.run(["qemu-img", "check", "-f", disk.format, path], capture_output=True, text=True, check=False)
    assert result.returncode in (0, 3), result.stdout + result.stderr


def lock_refused(path, disk):
    """A third QEMU asks for the image: is it refused?"""
    result = subprocess.run(["qemu-io", "-f", disk.format, "-c", "quit", path], capture_output=True, text=True, check=False)
    return "lock" in result.stdout + result.stderr
