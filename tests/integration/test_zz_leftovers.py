# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs last: after the laboratory is closed nothing of it is left."""
import os

from lab import process
from lab.network import Lab


def namespaces_in_use():
    found = set()
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                found.add(os.stat(f"/proc/{name}/ns/net").st_ino)
            except OSError:
                pass
    return found


def test_nothing_remains(whole_lab):
    inodes = {ns.inode for ns in whole_lab.namespaces}
    folder = whole_lab.folder
    whole_lab.close()
    assert process.strays() == []
    assert not os.path.exists(folder)
    assert not inodes & namespaces_in_use()


def test_strays_would_be_noticed():
    """A process left running in a host's namespace is found, and gone after close()."""
    lab = Lab()
    inode = lab.hosts[0].ns.inode
    sleeper = lab.hosts[0].spawn(["sleep", "60"])
    assert sleeper.pid in process.strays() and inode in namespaces_in_use()
    lab.close()
    assert process.strays() == [] and inode not in namespaces_in_use()
    assert not os.path.exists(lab.folder)
