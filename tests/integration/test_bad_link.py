# SPDX-License-Identifier: GPL-2.0-or-later
"""A link that corrupts, loses, doubles or delays: the connection is dropped with a reason, one host goes on, nothing is lost."""
from lab import load
from lab.network import REP_SWITCH_IP
from lab.process import wait_for
from lab.proxy import Proxy
from lab.vm import PORT, active_of, primary, standby

FAULTS = [("corrupt", "up"), ("corrupt", "down"), ("double", "up"), ("drop", "up"), ("truncate", "up"),
          ("replay_start", "up"), ("double", "down")]


def reason_of(*vms):
    return [vm.try_status().get("reason", "") for vm in vms if vm.alive]


def test_faulty_link(lab):
    """Each fault in turn on the same guest; after each the pair is made anew, the other way round or not."""
    hosts = lab.hosts[:2]
    backup = standby(hosts[1])
    active = primary(hosts[0])
    counter = load.Counter(lab.client)
    for number, (fault, direction) in enumerate(FAULTS):
        proxy = lab.keep(Proxy(lab.switch, REP_SWITCH_IP, (backup.host.rep_ip, PORT), 7200 + number))
        active.protect(proxy.address)
        load.sleep_counting(counter, 0.2)
        proxy.refuse = True
        getattr(proxy, fault)(direction)
        wait_for(f"{fault} {direction} happens", lambda: proxy.fault_done)
        winner, loser = active_of(active, backup)
        counter.wait_counts(50)
        assert any(reason_of(winner, loser)), (fault, direction)
        loser.kill()
        proxy.kill()
        if winner.status()["state"] != "alone":
            winner.call("unprotect")
            winner.wait_state("alone")
        active, backup = winner, standby(loser.host)
    load.check(counter.finish())


def test_slow_link(lab):
    """20 ms each way: protected all the same, and the reported commit time is honest about it."""
    proxy = lab.keep(Proxy(lab.switch, REP_SWITCH_IP, (lab.hosts[1].rep_ip, PORT)))
    backup = standby(lab.hosts[1])
    active = primary(lab.hosts[0])
    proxy.delay_s = 0.02
    active.protect(proxy.address)
    active.wait_protected()
    active.call("reset-stats")
    counter = load.Counter(lab.client)
    counter.wait_counts(20)
    status = active.status()
    assert status["commit_us"]["p50"] >= 40000, status
    active.kill_qemu()
    proxy.cut()
    backup.wait_running()
    counter.wait_counts(100)
    load.check(counter.finish())
