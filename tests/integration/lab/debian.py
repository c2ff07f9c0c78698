# SPDX-License-Identifier: GPL-2.0-or-later
"""The Debian guest with nginx, Redis and fio: its machine, and its disk, one of its own on each host."""
import os
import subprocess

from . import paths
from .disks import Disk, image
from .machine import Machine

MACHINE = Machine(kind="q35", memory_mb=384, disks=(Disk(megabytes=512),), append="futroot=vda")


def make_disks(lab):
    """The guest's disk on the first host; room for it on the others."""
    for host in lab.hosts:
        path = image(host, 0, MACHINE.disks[0])
        for old in (path, path + ".futago"):
            if os.path.exists(old):
                os.unlink(old)
        if host is lab.hosts[0]:
            subprocess.run(["cp", "--sparse=always", paths.DEBIAN_DISK, path], check=True)
        else:
            with open(path, "wb") as handle:
                handle.truncate(MACHINE.disks[0].megabytes << 20)
