# SPDX-License-Identifier: GPL-2.0-or-later
"""Both hosts live but do not hear each other: exactly one goes on, and the other releases nothing."""
import time

import pytest
from lab import load
from lab.machine import guest_mac
from lab.network import REP_SWITCH_IP
from lab.proxy import Proxy
from lab.sniffer import Sniffer
from lab.vm import PORT, active_of, address, pair, standby

TIMEOUT = ("--timeout-ms", "2000")


def watch(lab, vm):
    return lab.keep(Sniffer(vm.host.ns, "tap0", guest_mac(0)))


def test_frozen_primary_wakes_after_the_takeover(lab):
    """SIGSTOP, takeover, SIGCONT: the old primary lets not one frame out and ends up fenced."""
    active, backup = pair(lab, options=TIMEOUT)
    sniffer = watch(lab, active)
    counter = load.Counter(lab.client)
    load.sleep_counting(counter, 0.5)
    assert sniffer.since(0) > 0, "the sniffer sees nothing: the test would prove nothing"
    frozen_at = time.monotonic()
    active.freeze()
    backup.wait_running()
    counter.wait_counts(200)
    woken_at = time.monotonic()
    active.thaw()
    deadline = time.monotonic() + 15
    while active.alive and active.try_status().get("state") != "fenced":
        assert time.monotonic() < deadline, active.try_status()
        time.sleep(0.05)
    time.sleep(0.5)
    assert sniffer.since(woken_at) == 0, f"{sniffer.since(woken_at)} frames escaped from the fenced primary"
    if active.alive:
        assert not active.status()["running"]
    counter.wait_counts(200)
    result = counter.finish()
    load.check(result)
    assert load.gap_after(result, frozen_at) < 10000, result


def test_frozen_backup_wakes(lab):
    """SIGSTOP of the backup: the primary goes on alone. When it wakes it never runs the guest by itself."""
    active, backup = pair(lab, options=TIMEOUT)
    counter = load.Counter(lab.client)
    backup.freeze()
    active.wait_status("going on alone", lambda s: s["running"] and s["state"] in ("alone", "connecting", "greeting"), 10)
    counter.wait_counts(200)
    backup.thaw()
    end = time.monotonic() + 3
    while time.monotonic() < end:
        status = backup.try_status()
        assert status.get("role", "backup") == "backup" and not status.get("running"), status
        time.sleep(0.05)
    assert active.status()["running"]
    counter.wait_counts(200)
    load.check(counter.finish())


@pytest.mark.parametrize("how", ["closed", "silent"])
def test_link_cut_with_both_alive(lab, how):
    """The replication link alone is cut (connection closed, or silently): one goes on, then gets the other host as its new twin."""
    proxy = lab.keep(Proxy(lab.switch, REP_SWITCH_IP, (lab.hosts[1].rep_ip, PORT)))
    active, backup = pair(lab, options=TIMEOUT, to=proxy.address)
    sniffers = {vm: watch(lab, vm) for vm in (active, backup)}
    counter = load.Counter(lab.client)
    load.sleep_counting(counter, 0.5)
    if how == "closed":
        proxy.refuse = True
        proxy.cut()
    else:
        proxy.blackhole = True
        proxy.refuse = True
    winner, loser = active_of(active, backup)
    settled_at = time.monotonic()
    counter.wait_counts(200)
    time.sleep(0.5)
    assert sniffers[loser].since(settled_at) == 0, "the one that is out sent frames"
    assert sniffers[winner].since(settled_at) > 0
    loser.kill()
    new = standby(loser.host)
    status = winner.status()
    if status["state"] != "alone":
        proxy.refuse = proxy.blackhole = False
        proxy.cut()
    else:
        winner.protect(address(loser.host))
    winner.wait_protected()
    load.sleep_counting(counter, 0.3)
    winner.kill_qemu()
    new.wait_running()
    counter.wait_counts(100)
    load.check(counter.finish())


def test_planned_failover(lab):
    """A person hands the VM over and back: nothing is lost, each time the old host is out."""
    active, backup = pair(lab)
    counter = load.Counter(lab.client)
    load.sleep_counting(counter, 0.5)
    lab.hosts[0].futago("failover", "vm")
    winner, loser = active_of(active, backup)
    assert winner is backup
    counter.wait_counts(200)
    loser.kill()
    new = standby(lab.hosts[0])
    backup.protect(address(lab.hosts[0]))
    backup.wait_protected()
    lab.hosts[0].futago("failover", "vm")  # this time asked of the backup
    winner, _ = active_of(backup, new)
    assert winner is new
    counter.wait_counts(200)
    result = counter.finish()
    load.check(result)
    assert max((gap["gap_ms"] for gap in result["gaps"]), default=0) < 3000, result
