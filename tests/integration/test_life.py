# SPDX-License-Identifier: GPL-2.0-or-later
"""The ordinary life of a protected VM: stopped on purpose, powered off, looked at, told nonsense."""
import contextlib
import json
import os
import socket
import stat
import time

import pytest
from lab import load, paths
from lab.ctl import Control
from lab.machine import Machine
from lab.process import wait_for
from lab.vm import PORT, FutagoVm, address, pair, primary, standby


def stays_out(vm, seconds):
    """The standby never runs the guest during that time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        status = vm.try_status()
        assert status.get("role", "backup") == "backup" and not status.get("running"), status
        time.sleep(0.05)


def test_stop(lab):
    """`futago stop` on the primary ends the VM: the twin stands down, and the VM may be started anew elsewhere."""
    active, backup = pair(lab)
    lab.hosts[0].futago("stop", "vm")
    assert active.process.wait(10) == 0, active.process.output()
    stays_out(backup, 1.5)
    assert backup.status()["state"] == "waiting"
    again = primary(lab.hosts[2], wait=False)
    again.wait_running()


@pytest.mark.parametrize("kind", ["microvm", "q35"])
def test_guest_powers_off(lab, kind):
    """A guest that powers off is over: its twin must not resurrect it."""
    active, backup = pair(lab, Machine(kind=kind))
    connection = load.Connection(lab.client, load.WRITER)
    connection.socket.sendall(b"POWEROFF\n")
    assert active.process.wait(15) == 0, active.process.output()
    stays_out(backup, 1.5)
    assert backup.status()["state"] == "waiting"


def test_stop_of_the_backup(lab):
    """The standby is ended on purpose: the primary goes on alone, and the same address may be used again."""
    active, backup = pair(lab)
    counter = load.Counter(lab.client)
    lab.hosts[1].futago("stop", "vm")
    assert backup.process.wait(10) == 0, backup.process.output()
    active.wait_status("going on alone", lambda s: s["running"] and s["state"] in ("alone", "connecting"), 10)
    counter.wait_counts(100)
    load.check(counter.finish())


def test_second_primary_is_refused(lab):
    """While A runs the VM nobody else may start it: neither on A (name in use) nor on C (the arbiter says who has it)."""
    primary(lab.hosts[0], wait=False).wait_running()
    same_host = FutagoVm(lab.hosts[0], taps=["spare0", "spare1"])
    assert same_host.process.wait(10) != 0
    assert "vm" in same_host.process.output()
    elsewhere = FutagoVm(lab.hosts[2])
    assert elsewhere.process.wait(10) != 0
    assert "hostA" in elsewhere.process.output(), elsewhere.process.output()
    assert lab.hosts[0].futago("status", "vm").returncode == 0


def test_control_socket(lab):
    """Only its owner may use it, and junk on it hurts nobody."""
    vm = primary(lab.hosts[0], wait=False)
    vm.wait_running()
    assert stat.S_IMODE(os.stat(vm.socket).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(lab.hosts[0].rundir).st_mode) == 0o700
    for junk in (b"nonsense\n", b"{}\n", b'{"id": 1}\n', b'{"id": 1, "do": 7}\n', b"[1, 2]\n", b"\x00\xff\xfe\n", b"{" * 70000 + b"\n",
                 b'{"id": 1, "do": "protect", "args": {"to": 5}}\n', b'{"id":1,"do":"explode"}\n'):
        control = Control(vm.socket)
        control.send_raw(junk)
        try:
            assert "error" in control.read(), junk
        except (ConnectionError, ValueError):
            pass  # hung up on: as good
        control.close()
    assert vm.status()["running"]
    idle = []
    with contextlib.suppress(OSError):  # some of them may be turned away
        for _ in range(40):
            idle.append(Control(vm.socket))
    assert len(idle) > 5
    for control in idle:
        control.close()
    assert wait_for("the control socket recovers", vm.try_status)["running"]


def test_cli_shows_a_pair(lab):
    """What a person sees: status in words and as JSON, events, protect that waits, and errors that say what to do."""
    active, _ = pair(lab)
    told = json.loads(lab.hosts[0].futago("status", "vm", "--json").stdout)
    for key in ("vm", "node", "role", "state", "mode", "running", "generation", "epoch", "committed", "peer", "checkpoints_per_s",
                "bytes_per_s", "pause_us", "commit_us", "lag_us"):
        assert key in told, key
    assert (told["vm"], told["node"], told["role"], told["state"], told["peer"]) == ("vm", "hostA", "primary", "protected", "hostB")
    words = lab.hosts[1].futago("status", "vm").stdout
    assert "backup" in words and "standby" in words and "hostA" in words, words
    events = [json.loads(line) for line in lab.hosts[0].run(
        ["timeout", "2", paths.FUTAGO, "events", "vm", "--json"]).stdout.splitlines()]
    assert events and all(event["event"].startswith("FUT-") and event["text"] for event in events), events
    nobody = lab.hosts[2].futago("status", "vm", check=False)
    assert nobody.returncode != 0 and len(nobody.stderr.strip().splitlines()) == 1, nobody
    assert active.status()["state"] == "protected"


@pytest.mark.parametrize("args, culprit", [
    (["status", "--frobnicate"], "frobnicate"),
    (["frobnicate"], "frobnicate"),
    (["run", "--name", "a/b", "--", "qemu-system-x86_64"], "a/b"),
    (["run", "--name", "vm", "--mode", "sideways", "--", "qemu-system-x86_64"], "sideways"),
    (["run", "--name", "vm", "--timeout-ms", "soon", "--", "qemu-system-x86_64"], "soon"),
    (["run", "--name", "vm", "--protect-to", "tcp:nowhere", "--", "qemu-system-x86_64"], "nowhere"),
    (["run", "--name", "vm", "--arbiter", "oracle:delphi", "--insecure", "--", "qemu-system-x86_64", "-M", "none"], "oracle"),
    (["standby", "--name", "vm", "--", "qemu-system-x86_64"], "listen"),
    (["run", "--name", "vm"], "--"),
    (["protect", "vm", "--to", "tcp:1.2.3.4:99999"], "99999"),
])
def test_wrong_use(lab, args, culprit):
    """One line that names the culprit, exit status not 0, nothing started."""
    done = lab.hosts[0].run([paths.FUTAGO] + args, timeout=10)
    assert done.returncode != 0
    assert culprit in done.stderr, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_port_in_use(lab):
    first = standby(lab.hosts[1])
    second = FutagoVm(lab.hosts[1], name="other", listen=address(lab.hosts[1]), taps=["spare0", "spare1"])
    assert second.process.wait(10) != 0
    assert "7100" in second.process.output() and "use" in second.process.output(), second.process.output()
    assert first.status()["state"] == "waiting"


def test_silent_stranger_first(lab):
    """Somebody who connects before the primary and says nothing is given up; then the primary gets in by itself."""
    backup = standby(lab.hosts[1], options=("--timeout-ms", "1000"))
    with lab.hosts[2].ns.inside():
        stranger = socket.create_connection((lab.hosts[1].rep_ip, PORT), 5)
    active = primary(lab.hosts[0], options=("--timeout-ms", "1000"), protect_to=address(lab.hosts[1]))
    started = time.monotonic()
    active.wait_protected()
    assert time.monotonic() - started < 20
    assert backup.status()["state"] == "standby"
    stranger.close()
