# SPDX-License-Identifier: GPL-2.0-or-later
"""A survivor goes on alone, and gets a new twin while it runs."""
import random
import time

import pytest
from lab import load
from lab.machine import Machine
from lab.vm import address, pair, primary, standby


def test_kill_backup_then_reprotect(lab):
    """The primary goes on alone; a new standby on the same address is taken; that one can take over."""
    active, backup = pair(lab)
    generation = active.status()["generation"]
    for vm in (active, backup):
        status = vm.status()
        assert status["protects_against"] and any("not encrypted" in gap["what"] for gap in status["not_against"]), status
    counter = load.Counter(lab.client)
    load.sleep_counting(counter, 0.5)
    backup.kill_qemu()
    alone = active.wait_status("going on without its twin",
                               lambda s: s["running"] and s["state"] in ("alone", "connecting"), 10)
    assert alone["role"] == "primary" and alone["generation"] == generation + 1, alone
    assert alone["reason"] and not alone["protects_against"], alone
    counter.wait_counts(200)
    second = standby(lab.hosts[1])
    if alone["state"] == "alone":
        active.protect(address(lab.hosts[1]))
    active.wait_protected()
    load.sleep_counting(counter, 0.5)
    active.kill_qemu()
    second.wait_running()
    counter.wait_counts(200)
    load.check(counter.finish())


def test_kill_both_in_turn(lab):
    """A dies, B goes on and is given C; B dies, C goes on and is given A; one connection all the way."""
    here, there = pair(lab, options=("--verify", "10"), backup_options=("--verify", "10"))
    counter = load.Counter(lab.client)
    generation = here.status()["generation"]
    for next_host in (lab.hosts[2], lab.hosts[0], lab.hosts[1]):
        load.sleep_counting(counter, 0.5)
        here.kill_qemu()
        status = there.wait_running()
        assert status["verify_failed"] == 0, status
        counter.wait_counts(100)
        here, there = there, standby(next_host, options=("--verify", "10"))
        here.protect(address(next_host))
        here.wait_protected()
    load.sleep_counting(counter, 0.5)
    assert here.status()["generation"] >= generation + 3
    load.check(counter.finish())


@pytest.mark.long
@pytest.mark.parametrize("kind", ["microvm", "q35"])
def test_kill_twenty_in_turn(lab, kind):
    """Each survivor is protected again and dies in turn at a random instant; four connections live through all of it."""
    machine, chance = Machine(kind=kind), random.Random(kind)
    here, there = pair(lab, machine)
    load.dirty(lab.client, 16, 10)
    counter = load.Counter(lab.client, connections=4)
    for number in range(20):
        time.sleep(chance.uniform(0.05, 1.0))
        here.kill_qemu()
        there.wait_running()
        counter.wait_counts(50)
        next_host = lab.hosts[(number + 2) % len(lab.hosts)]
        here, there = there, standby(next_host, machine)
        here.protect(address(next_host))
        here.wait_protected()
    load.check(counter.finish())


def test_backup_that_comes_late(lab):
    """Peer unreachable: the guest runs unprotected and says so; when the standby appears it is taken by itself."""
    active = primary(lab.hosts[0], protect_to=address(lab.hosts[1]))
    counter = load.Counter(lab.client)
    status = active.wait_state("connecting")
    assert status["running"] and not status["linked"], status
    assert "10.77.1.2" in status["reason"], status
    human = lab.hosts[0].futago("status", "vm").stdout
    assert "connecting" in human, human
    load.sleep_counting(counter, 0.5)
    backup = standby(lab.hosts[1], wait=False)
    active.wait_protected()
    active.kill_qemu()
    backup.wait_running()
    counter.wait_counts(100)
    load.check(counter.finish())
