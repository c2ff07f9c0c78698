# SPDX-License-Identifier: GPL-2.0-or-later
"""Snapshots of a running guest: each holds what the guest was at its cut, whatever it writes meanwhile, and beside protection."""
import contextlib
import json
import os
import struct
import subprocess
import tempfile

import pytest
from lab import load, snapshots
from lab.disks import MB, Disk, DiskUser, make_images, names
from lab.machine import Machine
from lab.process import wait_for
from lab.sequence import Sequence, pattern
from lab.vm import pair, primary

SERIES = 4


def store_of(host):
    return tempfile.mkdtemp(prefix="store-", dir=host.folder)


def check_series(store, taken, full=(0,)):
    """All are there, each the difference to the one before or in full, with the memory of their cut."""
    ids = [last["id"] for last in taken]
    parents = [0 if place in full else ids[place - 1] for place in range(len(ids))]
    assert snapshots.look(store) == [(number, parent, "same") for number, parent in zip(ids, parents)]


@pytest.mark.parametrize("machine", (Machine(), Machine(kind="q35", vcpus=2, memory="memfd,share=on")),
                         ids=("microvm", "q35-2-vcpus-memfd"))
def test_series_is_the_memory_of_each_cut(lab, machine):
    vm = primary(lab.hosts[0], machine)
    store = store_of(lab.hosts[0])
    load.dirty(lab.client, 24, 200)
    counter = load.Counter(lab.client)
    taken = [snapshots.take(vm, store, soon=True)] + [snapshots.take(vm, store, full=place == 2) for place in range(1, SERIES)]
    counter.wait_counts(10)
    check_series(store, taken, full=(0, 2))
    assert taken[0]["guarded_pages"] > 1000, taken[0]
    assert taken[2]["early_pages"] > 1000 and taken[2]["early_pages"] > 9 * taken[2]["guarded_pages"], taken[2]
    assert any(taken[place]["early_pages"] > 0 for place in (1, 3)), taken
    assert all(taken[place]["pages"] < taken[0]["pages"] for place in (1, 3)), taken


def test_disks_are_of_the_same_instant(lab):
    """What is written while a snapshot is taken is not in it, and what was written before is, on a raw and on a qcow2 image."""
    disks = (Disk(), Disk(format="qcow2"))
    machine = Machine(disks=disks)
    make_images(lab.hosts[0], disks)
    vm = primary(lab.hosts[0], machine)
    store = store_of(lab.hosts[0])
    user = DiskUser(lab.client)
    for name in names(disks):
        user.write(name, 16 * MB, 8 * MB, 3)
    writers = [Sequence(lab.client, name, 600) for name in names(disks)]
    taken, before = [], []
    for _ in range(SERIES):
        wait_for("writes go on", lambda: all(w.count > 100 * (len(taken) + 1) for w in writers), 30)
        before.append([w.count - 1 for w in writers])
        taken.append(snapshots.take(vm, store))
    for writer in writers:
        writer.end()
    check_series(store, taken)
    assert taken[0]["disk_bytes"] > 16 * MB and all(last["disk_bytes"] < 12 * MB for last in taken[1:]), taken
    for last, least in zip(taken, before):
        for number, writer in enumerate(writers):
            content = snapshots.disk(store, last["id"], f"disk{number}")
            assert least[number] <= writer.newest(content) <= writer.count
            assert struct.unpack_from("<Q", content, 20 * MB)[0] == pattern(20 * MB, 3)


def test_beside_protection(lab):
    """Snapshots and checkpoints share what was written; the twin's memory is exact, and takes over."""
    active, backup = pair(lab, Machine(), options=("--verify", "5", "--timeout-ms", "3000"), backup_options=("--timeout-ms", "3000"))
    store = store_of(lab.hosts[0])
    load.dirty(lab.client, 12, 50)
    counter = load.Counter(lab.client)
    taken = [snapshots.take(active, store) for _ in range(SERIES)]
    check_series(store, taken)
    counter.wait_counts(10)
    status = backup.wait_status("verified", lambda s: s.get("verified", 0) > 5)
    assert status["verify_failed"] == 0 and active.status()["state"] == "protected", status
    active.kill_qemu()
    backup.wait_running()
    counter.wait_counts(10, timeout=40)
    assert snapshots.look(store)[-1][2] == "same"


def test_killed_in_the_middle(lab):
    """QEMU dies while a snapshot is taken: those before it are whole, and the next VM goes on with the store."""
    host = lab.hosts[0]
    vm = primary(host)
    store = store_of(host)
    load.dirty(lab.client, 60, 1000)
    taken = [snapshots.take(vm, store)]
    snapshots.order(vm, store)
    wait_for("pages are copied", lambda: 0.05 < vm.call("snapshot-status").get("share", 1), 20)
    vm.kill_qemu()
    left = snapshots.look(store)
    assert left[0] == (taken[0]["id"], 0, "same") and len(left) <= 2 and left[-1][2] in ("same", "unhashed"), left
    again = primary(host, name="again")
    last = snapshots.take(again, store)
    assert last["parent"] == 0 and snapshots.look(store)[-1] == (last["id"], 0, "same")


@contextlib.contextmanager
def small_folder(host, megabytes):
    folder = store_of(host)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def test_full_store_costs_the_snapshot_not_the_guest(lab):
    host = lab.hosts[0]
    vm = primary(host)
    counter = load.Counter(lab.client)
    with small_folder(host, 1024) as store:
        taken = [snapshots.take(vm, store, min_free=0)]
        load.dirty(lab.client, 48, 1000)
        used = int(subprocess.run(["df", "--output=used", "-BM", store], capture_output=True, text=True, check=True)
                   .stdout.split()[-1].rstrip("M"))
        subprocess.run(["mount", "-o", f"remount,size={used}m", store], check=True)
        for _ in range(20):  # a guest that has hardly begun to write may leave so little that it fits
            last = snapshots.finish(vm, snapshots.order(vm, store, min_free=0, hash=True))
            if "error" in last:
                break
            taken.append(last)
        assert "error" in last, last
        counter.wait_counts(10)
        subprocess.run(["mount", "-o", "remount,size=1024m", store], check=True)
        taken.append(snapshots.take(vm, store, min_free=0))
        check_series(store, taken)


def test_command_and_schedule(lab):
    host = lab.hosts[0]
    vm = primary(host)
    store = store_of(host)
    made = json.loads(host.futago("snapshot", "create", vm.name, "--store", store, "--reason", "before the update", "--json").stdout)
    assert made["id"] == 1 and made["parent"] == 0, made
    host.futago("snapshot", "auto", vm.name, "--min", "200ms", "--max", "1s")
    wait_for("snapshots by schedule", lambda: vm.call("snapshot-status")["last"].get("id", 0) >= 3, 60)
    host.futago("snapshot", "auto", vm.name, "--stop")
    wait_for("the schedule ends", lambda: not vm.call("snapshot-status")["running"], 20)
    status = vm.call("snapshot-status")
    assert "auto" not in status and "error" not in status["last"], status
    assert f"snapshot {status['last']['id']}, what changed since" in host.futago("snapshot", "status", vm.name).stdout
    last = snapshots.take(vm, store)
    assert last["id"] == status["last"]["id"] + 1 and last["parent"] == 0, "nothing is followed any more after the schedule's end"


def flip_last(store, ending):
    """A bit of the newest file of that kind: of a manifest's fields, or of a pack's footer, so that nothing in it can be read."""
    path = os.path.join(store, sorted(name for name in os.listdir(store) if name.endswith(ending))[-1])
    with open(path, "r+b") as file:
        file.seek(-10, os.SEEK_END)
        byte = file.read(1)[0]
        file.seek(-10, os.SEEK_END)
        file.write(bytes([byte ^ 1]))


def test_a_damaged_parent_costs_a_full_one(lab):
    """What the next one would be the difference to cannot be read: it is taken in full, that is told, and the series goes on."""
    vm = primary(lab.hosts[0])
    store = store_of(lab.hosts[0])
    load.dirty(lab.client, 4, 50)
    snapshots.take(vm, store)
    for ending in (".snap", ".pack"):
        flip_last(store, ending)
        full = snapshots.take(vm, store)
        assert full["parent"] == 0, (ending, full)
        assert snapshots.take(vm, store)["parent"] == full["id"], ending
    told = [line for line in vm.process.output().splitlines() if "FUT-246" in line]
    assert len(told) == 2 and "is damaged" in told[0] and ".pack" in told[1], told


def listed(host, store):
    return json.loads(host.futago("snapshot", "list", store, "--json").stdout)


def test_schedule_keeps_its_store_within_bounds(lab):
    """The newest of the schedule's own stay; others' stay too; below the floor it takes none and says so."""
    host = lab.hosts[0]
    vm = primary(host)
    load.dirty(lab.client, 4, 50)
    with small_folder(host, 1024) as store:
        first = snapshots.take(vm, store)
        host.futago("snapshot", "auto", vm.name, "--min", "100ms", "--max", "300ms", "--keep", "2")

        def schedule():
            return vm.call("snapshot-status")["auto"]
        wait_for("old ones are removed", lambda: schedule()["removed"] >= 3, 60)
        assert f"{vm.name}: by schedule into {store}" in host.futago("snapshot", "status", vm.name).stdout
        host.futago("snapshot", "auto", vm.name, "--min", "100ms", "--max", "300ms", "--min-free", "2G")
        wait_for("the floor is told", lambda: schedule()["short_of_room"], 60)
        wait_for("none is taken any more", lambda: "have to stay" in vm.call("snapshot-status")["last"].get("error", ""), 60)
        host.futago("snapshot", "auto", vm.name, "--stop")
        wait_for("the schedule ends", lambda: not vm.call("snapshot-status")["running"], 20)
        left = listed(host, store)
        assert [one["id"] for one in left][0] == first["id"], left
        assert [one["reason"] for one in left] == ["by hand", "by schedule"], "below the floor only the newest stays, and what is not ours"
        assert all(state == "same" or state == "unhashed" for _, _, state in snapshots.look(store))
