# SPDX-License-Identifier: GPL-2.0-or-later
"""Written pages are found, all of them, by each tracker: the twins' memory is compared at every checkpoint, the queue with all marks."""
import pytest
from lab import disks, load
from lab.disks import Disk, DiskUser
from lab.machine import Machine
from lab.vm import pair

MB = disks.MB
EXACT = ("--verify", "1", "--tracker-check", "1", "--timeout-ms", "3000")


def judged(active, backup, tracker):
    """Both sides' status; nothing was missed so far."""
    ours, theirs = active.status(), backup.status()
    assert ours["state"] == "protected" and ours["tracker"] == tracker, ours
    assert ours["tracker_mismatches"] == 0 and theirs["verify_failed"] == 0, (ours, theirs)
    return ours, theirs


def read_into_memory(client, seconds_of_writes):
    """The guest's disk is written and read back: devices write the guest's memory."""
    user = DiskUser(client, timeout=60)
    for seed in range(seconds_of_writes):
        user.write("vda", 0, 4 * MB, seed)
        user.verify("vda", 0, 4 * MB, seed)
    user.close()


@pytest.mark.parametrize("tracker, vcpus, kind", [
    ("queue", 1, "microvm"), ("queue", 4, "microvm"), ("words", 2, "microvm"),
    pytest.param("queue", 2, "q35", marks=pytest.mark.long), pytest.param("flags", 1, "microvm", marks=pytest.mark.long)])
def test_all_written_pages(lab, tracker, vcpus, kind):
    """Memory written all over and in one hot spot, packets in and out, disk reads; then the primary dies and its image lives on."""
    machine = Machine(kind=kind, vcpus=vcpus, memory_mb=256, disks=(Disk(),))
    for host in lab.hosts[:2]:
        disks.make_images(host, machine.disks)
    active, backup = pair(lab, machine, ("--tracker", tracker) + EXACT, EXACT)
    load.dirty(lab.client, 24, 30)
    read_into_memory(lab.client, 3)
    load.dirty(lab.client, 1, 0)
    load.rr(lab.client, 4, 1)
    _, theirs = judged(active, backup, tracker)
    assert theirs["verified"] > 20, theirs
    load.rr(lab.client, 1, 3)  # all of memory is hashed at each checkpoint: on a busy machine an answer may take half a second
    ours, _ = judged(active, backup, tracker)
    if tracker == "queue":
        assert ours["tracker_checks"] > 20, ours
    active.kill_qemu()
    status = backup.wait_running()
    assert status["memory_hash"] == status["committed_hash"] != "0" * 16, status
