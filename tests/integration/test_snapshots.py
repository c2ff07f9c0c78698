# SPDX-License-Identifier: GPL-2.0-or-later
"""Snapshots of a running guest: each holds what the guest was at its cut, whatever it writes meanwhile, and beside protection."""
import tempfile

import pytest
from lab import load, snapshots
from lab.machine import Machine
from lab.vm import primary

SERIES = 4


def store_of(host):
    return tempfile.mkdtemp(prefix="store-", dir=host.folder)


def check_series(store, taken):
    """All are there, each the difference to the one before, with the memory of their cut."""
    ids = [last["id"] for last in taken]
    parents = [0] + ids[:-1]
    assert snapshots.look(store) == [(number, parent, "same") for number, parent in zip(ids, parents)]


@pytest.mark.parametrize("machine", (Machine(), Machine(kind="q35", vcpus=2), Machine(memory="memfd,share=on")),
                         ids=("microvm", "q35-2-vcpus", "memfd"))
def test_series_is_the_memory_of_each_cut(lab, machine):
    vm = primary(lab.hosts[0], machine)
    store = store_of(lab.hosts[0])
    load.dirty(lab.client, 24, 200)
    counter = load.Counter(lab.client)
    taken = [snapshots.take(vm, store) for _ in range(SERIES)]
    counter.wait_counts(10)
    check_series(store, taken)
    assert taken[0]["guarded_pages"] > 1000, taken[0]
    assert all(last["pages"] < taken[0]["pages"] for last in taken[1:]), taken
