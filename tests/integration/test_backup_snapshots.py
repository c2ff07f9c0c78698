# SPDX-License-Identifier: GPL-2.0-or-later
"""Snapshots of the image that a backup holds: the guest on the primary has no part in them."""
import tempfile

import pytest
from lab import load, snapshots
from lab.ctl import ControlError
from lab.disks import MB, Disk, DiskUser, make_images, names
from lab.machine import Machine
from lab.process import wait_for
from lab.sequence import Sequence
from lab.vm import RestoredVm, address, pair, primary, standby

DISKS = (Disk(megabytes=24), Disk(format="qcow2", megabytes=24))
SERIES = 3
OPTIONS = ("--verify", "20", "--timeout-ms", "4000")


def refused(vm, verb, text, **args):
    """That verb is refused for that reason, at once or when the snapshot has ended."""
    try:
        answer = vm.call(verb, **args)
        last = snapshots.finish(vm, answer["number"])
        assert text in last.get("error", ""), last
    except ControlError as error:
        assert text in str(error), error


def wait_commits(vm, more):
    goal = vm.status()["committed"] + more
    vm.wait_status(f"commits epoch {goal}", lambda s: s["committed"] >= goal, 60)


def wait_newer(vm, snapshot):
    wait_for(lambda: f"snapshot {snapshot}; {vm.call('snapshot-status')}", lambda: vm.call("snapshot-status")["last"].get("id", 0) >= snapshot, 60)


def check_writes(store, taken, writers):
    """What the disks of each snapshot hold is a beginning of what was written, and each has more than the one before."""
    newest = [[writer.newest(snapshots.disk(store, last["id"], f"disk{number}")) for last in taken]
              for number, writer in enumerate(writers)]
    assert all(one == sorted(one) and one[-1] > one[0] > 0 for one in newest), newest


def test_series_of_a_backup(lab):
    """Memory and disks of one epoch, while the guest writes; then the primary and the twin that took over go on in the same store."""
    machine = Machine(memory_mb=192, disks=DISKS)
    store = tempfile.mkdtemp(prefix="store-", dir=lab.folder)
    for host in lab.hosts:
        make_images(host, DISKS)
    backup = standby(lab.hosts[1], machine, options=OPTIONS)
    refused(backup, "snapshot-create", "does not hold a whole VM yet", store=store)
    refused(backup, "snapshot-auto", "how busy the guest's vCPUs are", store=store, by="cpu")
    active = primary(lab.hosts[0], machine, options=OPTIONS)
    active.protect(address(lab.hosts[1]))
    active.wait_protected()
    user = DiskUser(lab.client)
    user.write(names(DISKS)[0], 16 * MB, 4 * MB, 3)
    user.close()
    load.dirty(lab.client, 12, 50)
    writers = [Sequence(lab.client, name, 600) for name in names(DISKS)]
    taken = []
    for number in range(SERIES):
        wait_for("writes go on", lambda n=number: all(w.count > 30 * (n + 1) for w in writers), 60)
        wait_commits(backup, 2)
        taken.append(snapshots.take(backup, store))
    epochs = [last["epoch"] for last in taken]
    assert epochs == sorted(set(epochs)) and all(last["stop_ms"] == 0 for last in taken), taken
    assert all(last["pages"] < taken[0]["pages"] and last["disk_bytes"] < taken[0]["disk_bytes"] for last in taken[1:]), taken
    assert "last" not in active.call("snapshot-status")
    own = snapshots.take(active, store)  # the primary's, and a full one: it does not know what was written before
    assert "epoch" not in own and own["parent"] == 0
    for writer in writers:
        writer.end()
    check_writes(store, taken, writers)

    backup.call("snapshot-auto", store=store, min_ms=100, max_ms=1000)  # one is under way when the primary dies: whole or absent
    wait_newer(backup, own["id"] + 1)
    active.kill_qemu()
    backup.wait_running()
    assert backup.status()["verify_failed"] == 0
    seen = backup.call("snapshot-status")["last"].get("id", 0)
    wait_newer(backup, seen + 1)  # the schedule goes on
    backup.call("snapshot-stop")
    wait_for("none is under way", lambda: not backup.call("snapshot-status")["running"], 60)
    last = snapshots.take(backup, store)
    assert "epoch" not in last
    listed = snapshots.look(store)
    assert [(one[0], one[1]) for one in listed[:4]] == [(1, 0), (2, 1), (3, 2), (4, 0)], listed
    assert [one[1] for one in listed].count(0) in (3, 4), listed  # of the backup, the primary, after the takeover, perhaps after the stop
    assert all(one[2] == ("same" if one[0] in (1, 2, 3, 4, last["id"]) else "unhashed") for one in listed), listed
    backup.kill_qemu()

    again = RestoredVm(lab.hosts[2], f"{store}@{taken[1]['id']}", "--check-hash", machine=machine)
    again.wait_running(60)
    wait_for(lambda: f"the hash is told: {again.process.output()}", lambda: "which has the hash of the cut" in again.process.output(), 60)
    user = DiskUser(lab.client)
    user.verify(names(DISKS)[0], 16 * MB, 4 * MB, 3)
    user.close()


@pytest.mark.long
def test_backup_killed_in_the_middle(lab):
    """The snapshots before it are whole; the guest does not notice."""
    active, backup = pair(lab, Machine(memory_mb=192), options=OPTIONS, backup_options=OPTIONS)
    store = tempfile.mkdtemp(prefix="store-", dir=lab.folder)
    load.dirty(lab.client, 40, 200)
    counter = load.Counter(lab.client)
    taken = snapshots.take(backup, store)
    snapshots.order(backup, store, full=True)
    wait_for("pages are copied", lambda: 0.05 < backup.call("snapshot-status").get("share", 1), 20)
    backup.kill_qemu()
    left = snapshots.look(store)
    assert left[0] == (taken["id"], 0, "same") and len(left) <= 2 and left[-1][2] in ("same", "unhashed"), left
    active.wait_running()
    counter.wait_counts(10)
