# SPDX-License-Identifier: GPL-2.0-or-later
"""Strangers and garbage on a standby's port: dropped with a reason; never a crash, never in place of the live peer."""
import json
import os
import socket

import pytest
from lab import load, paths
from lab.network import REP_SWITCH_IP
from lab.proxy import Proxy
from lab.vm import PORT, address, primary, standby

# What a waiting standby tells each and shows as its reason. Those that hang up or say nothing cannot be told.
KINDS = {
    "garbage": "no Futago frame",
    "truncated": "closed",
    "half-body": "closed",
    "oversized": "allowed",
    "unknown-type": "unknown type 999",
    "wrong-first": "unexpected message",
    "turned-bit": "damaged",
    "wrong-session": "session",
    "wrong-sequence": "lost, doubled or replayed",
    "bad-hello": "version",
    "other-version": "version",
    "stranger": "differ",
    "silent": "no greeting",
}
UNTOLD = ("truncated", "half-body", "silent")
TIMEOUT = ("--timeout-ms", "2000")


def bad_peer(lab, kind, file=None):
    """Misbehaves towards host B from host C; returns what came back. It must have been closed."""
    done = lab.hosts[2].run([paths.FUT_BADPEER, lab.hosts[1].rep_ip, str(PORT), kind] + ([file] if file else []))
    assert done.returncode == 0, f"{kind}: not closed: {done.stdout} {done.stderr}"
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def waiting(pairs):
    """A standby nobody has spoken to yet."""
    pairs["backup"] = standby(pairs["lab"].hosts[1], options=TIMEOUT)
    return pairs["backup"]


@pytest.mark.parametrize("kind", KINDS)
def test_on_a_waiting_standby(pairs, waiting, kind):
    told = bad_peer(pairs["lab"], kind)["bye"]
    assert kind in UNTOLD or KINDS[kind] in told, told
    waiting.wait_status("the reason", lambda s: s["state"] == "waiting" and KINDS[kind] in s["reason"], timeout=5)


@pytest.fixture(scope="module")
def protected(pairs, waiting):
    """The same standby, now with a live primary, connected through a recording proxy."""
    lab = pairs["lab"]
    proxy = lab.keep(Proxy(lab.switch, REP_SWITCH_IP, (lab.hosts[1].rep_ip, PORT)))
    active = primary(lab.hosts[0], options=TIMEOUT)
    active.protect(proxy.address)
    active.wait_protected()
    recording = os.path.join(lab.folder, "recording")
    with open(recording, "wb") as handle:
        handle.write(proxy.recorded("up"))
    return {"active": active, "backup": waiting, "recording": recording, "counter": load.Counter(lab.client)}


@pytest.mark.parametrize("kind", list(KINDS) + ["file"])
def test_on_a_live_pair(pairs, protected, kind):
    """The pair does not even notice. ("file" is the very beginning of the live connection, replayed.)"""
    active, backup = protected["active"], protected["backup"]
    before = active.status()
    count = protected["counter"].count()
    bad_peer(pairs["lab"], kind, protected["recording"] if kind == "file" else None)
    protected["counter"].wait_counts(20)
    after, standby_status = active.status(), backup.status()
    assert after["state"] == "protected" and standby_status["state"] == "standby", (after, standby_status)
    assert after["generation"] == before["generation"] and after["committed"] > before["committed"]
    assert after["peer"] == "hostB" and standby_status["peer"] == "hostA"
    assert protected["counter"].count() > count


def test_many_silent_strangers(pairs, protected):
    """Forty connections that say nothing neither displace the peer nor keep the standby from working."""
    strangers = []
    with pairs["lab"].hosts[2].ns.inside():
        for _ in range(40):
            strangers.append(socket.create_connection((pairs["lab"].hosts[1].rep_ip, PORT), 5))
    protected["counter"].wait_counts(50)
    assert protected["active"].status()["state"] == "protected"
    for stranger in strangers:
        stranger.close()


def lines_about_strangers(vm):
    return sum(vm.process.output().count(code) for code in ("FUT-123", "FUT-180", "FUT-181"))


def test_crowd_is_told_of_in_few_lines(pairs, protected):
    """A hundred connections turned away are all counted, and told of in a few lines."""
    backup = protected["backup"]
    lines, count = lines_about_strangers(backup), backup.status()["turned_away_count"]
    with pairs["lab"].hosts[2].ns.inside():
        for _ in range(100):
            socket.create_connection((pairs["lab"].hosts[1].rep_ip, PORT), 5).close()
    backup.wait_status("all counted", lambda s: s["turned_away_count"] >= count + 100)
    assert lines_about_strangers(backup) - lines <= 20
    protected["counter"].wait_counts(20)


def test_replay_after_the_primary_is_gone(pairs, protected):
    """After all that the twin takes over, nothing was lost, and the survivor's image can be protected anew;
    a recorded beginning played to the new standby gets nowhere, and the standby stays usable."""
    lab = pairs["lab"]
    protected["active"].kill_qemu()
    survivor = protected["backup"]
    survivor.wait_running()
    protected["counter"].wait_counts(50)
    second = standby(lab.hosts[2], options=TIMEOUT)
    done = lab.hosts[0].run([paths.FUT_BADPEER, lab.hosts[2].rep_ip, str(PORT), "file", protected["recording"]])
    assert done.returncode == 0, done.stdout + done.stderr
    second.wait_state("waiting", timeout=5)
    survivor.protect(address(lab.hosts[2]))
    survivor.wait_protected()
    load.sleep_counting(protected["counter"], 0.3)
    load.check(protected["counter"].finish())
