# SPDX-License-Identifier: GPL-2.0-or-later
"""Snapshots of a running VM, and what a store holds of them."""
import os
import subprocess

from . import paths
from .process import wait_for

LOOK = os.path.join(paths.BUILD, "tests", "tools", "snapshot_look")


def finish(vm, number, timeout=60):
    """Waits for the end of that order; what became of it."""
    def ended():
        last = vm.call("snapshot-status").get("last", {})
        return last if last.get("number", 0) >= number else None
    return wait_for(lambda: f"snapshot {number} is done; {vm.call('snapshot-status')}", ended, timeout)


def order(vm, store, **options):
    return vm.call("snapshot-create", store=store, **options)["number"]


def take(vm, store, timeout=60, **options):
    """A snapshot with a hash of the memory at its cut; what is told of it."""
    last = finish(vm, order(vm, store, **{"hash": True, **options}), timeout)
    assert "error" not in last, last
    return last


def look(store):
    """Reads all of all snapshots: a list of (ID, parent, "same" | "OTHER" | "unhashed")."""
    result = subprocess.run([LOOK, store], capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    lines = [line.split() for line in result.stdout.splitlines()]
    assert not [line for line in lines if line[0] == "damaged"], result.stdout
    return [(int(line[0]), int(line[1]), line[4]) for line in lines]


def memory(store, snapshot):
    """All of the memory in a snapshot."""
    return subprocess.run([LOOK, store, str(snapshot)], capture_output=True, timeout=120, check=True).stdout


def disk(store, snapshot, name):
    """A disk's content in a snapshot."""
    return subprocess.run([LOOK, store, str(snapshot), name], capture_output=True, timeout=120, check=True).stdout
