# SPDX-License-Identifier: GPL-2.0-or-later
"""TLS between the hosts: protection, takeover and a new twin over it; wrong keys get nothing; nothing shows on the wire."""
import json
import os
import shutil
import socket

import pytest
from lab import load, paths
from lab.certificates import make_authority, make_certificate, make_host, tool
from lab.sniffer import WireTap
from lab.vm import PORT, FutagoVm, address, active_of, primary, standby

PATTERN = b"a secret in the guest's memory: "
GREETING = b"FUT2"  # what every frame of ours begins with


@pytest.fixture(scope="module")
def keys(whole_lab):
    """Folders and files: hosta, hostb, hostc, stranger; keys.psk, wrong.psk."""
    root = os.path.join(whole_lab.folder, "keys")
    ours, others = os.path.join(root, "ca"), os.path.join(root, "other-ca")
    make_authority(ours)
    make_authority(others)
    for name in ("hostA", "hostB", "hostC"):
        make_host(ours, os.path.join(root, name), name.lower())
    make_host(others, os.path.join(root, "stranger"), "stranger")
    for name in ("keys.psk", "wrong.psk"):
        tool("psktool", "--username", "futago", "--pskfile", os.path.join(root, name), "--keysize", "32")
    yield root
    shutil.rmtree(root)


def tls(keys, kind, host, *more):
    """Options for a host."""
    spec = f"x509:{keys}/{host.name}" if kind == "x509" else f"psk:{keys}/keys.psk"
    return ("--tls", spec, "--retry-ms", "200", "--timeout-ms", "2000") + more


def tell_secret(lab):
    """Puts the pattern into the guest's memory, by way of its network."""
    connection = load.Connection(lab.client, load.ECHO)
    secret = PATTERN * 30
    for _ in range(20):
        assert connection.echo(secret) == secret
    connection.close()


def test_plain_link_shows_everything(lab):
    """What the next test does not find is there to be found without TLS."""
    backup = standby(lab.hosts[1])
    active = primary(lab.hosts[0])
    tap = lab.keep(WireTap(lab.hosts[1].ns, "rep0", PATTERN, GREETING))
    active.protect(backup.listen)
    active.wait_protected()
    tell_secret(lab)
    assert tap.found[PATTERN] > 0 and tap.found[GREETING] > 0
    assert active.status()["tls"] == "none" and active.status()["tls_peer"] == ""


@pytest.mark.parametrize("kind", ["x509", "psk"])
def test_kill_primary_then_reprotect(lab, keys, kind):
    """Nothing lost, and nothing seen: neither the guest's memory nor that it is Futago."""
    names = {host.name: host.name.lower() if kind == "x509" else "futago" for host in lab.hosts}
    tap = lab.keep(WireTap(lab.hosts[1].ns, "rep0", PATTERN, GREETING))
    backup = standby(lab.hosts[1], options=tls(keys, kind, lab.hosts[1]))
    more = ("--tls-name", "hostb,hostc") if kind == "x509" else ()
    active = primary(lab.hosts[0], options=tls(keys, kind, lab.hosts[0], *more))
    active.protect(backup.listen)
    active.wait_protected()
    assert active.status()["tls"] == kind and active.status()["tls_peer"] == names["hostB"]
    assert backup.status()["tls"] == kind and backup.status()["tls_peer"] == names["hostA"]
    assert f"encrypted ({kind})" in lab.hosts[0].futago("status", "vm").stdout
    load.dirty(lab.client, 24, 20)
    counter = load.Counter(lab.client)
    load.sleep_counting(counter, 1.0)
    tell_secret(lab)
    active.kill_qemu()
    backup.wait_running()
    counter.wait_counts(200)
    second = standby(lab.hosts[2], options=tls(keys, kind, lab.hosts[2]))
    backup.protect(second.listen)
    backup.wait_protected()
    assert backup.status()["tls_peer"] == names["hostC"]
    tell_secret(lab)
    load.check(counter.finish())
    assert tap.bytes > 1 << 20 and tap.found[PATTERN] == 0, (tap.bytes, tap.found)
    # Any four bytes stand somewhere in 4 GB of noise; unencrypted there would be one greeting a frame, thousands of them.
    assert tap.found[GREETING] <= 3, (tap.bytes, tap.found)


def test_planned_failover(lab, keys):
    """An orderly end is one for TLS, too."""
    backup = standby(lab.hosts[1], options=tls(keys, "psk", lab.hosts[1]))
    active = primary(lab.hosts[0], options=tls(keys, "psk", lab.hosts[0]))
    active.protect(backup.listen)
    active.wait_protected()
    counter = load.Counter(lab.client)
    load.sleep_counting(counter, 0.5)
    lab.hosts[0].futago("failover", "vm")
    assert active_of(active, backup)[0] is backup
    counter.wait_counts(100)
    load.check(counter.finish())


REFUSED = {
    "wrong-key": (("psk", "wrong.psk"), ("psk", "keys.psk"), "refused our key", "its key, or its name for it, is not ours"),
    "wrong-authority": (("x509", "stranger"), ("x509", "hostB"), "hostb) was not signed by the authority",
                        "refused our certificate"),
    "other-kind": (("psk", "keys.psk"), ("x509", "hostB"), "kind of key", "refused our certificate"),
    "plain-primary": (None, ("psk", "keys.psk"), "the peer speaks TLS", "does not speak TLS 1.3"),
    "plain-standby": (("psk", "keys.psk"), None, "does not speak TLS 1.3", None),
}


def options_of(keys, which):
    return ("--retry-ms", "200") + (("--tls", f"{which[0]}:{keys}/{which[1]}") if which else ())


@pytest.mark.parametrize("what", REFUSED)
def test_refused(lab, keys, what):
    """The VM runs on unprotected and keeps trying; both sides say what they know."""
    callers, listeners, at_primary, at_standby = REFUSED[what]
    backup = standby(lab.hosts[1], options=options_of(keys, listeners))
    active = primary(lab.hosts[0], options=options_of(keys, callers), protect_to=backup.listen)
    status = active.wait_status("the reason", lambda s: at_primary in s["reason"], timeout=10)
    assert status["running"] and status["role"] == "primary" and status["peer"] == "", status
    if at_standby:
        backup.wait_status("the reason", lambda s: at_standby in s["turned_away"], timeout=5)
    assert backup.status()["state"] == "waiting" and not backup.status()["running"]
    counter = load.Counter(lab.client)
    load.sleep_counting(counter, 0.5)
    load.check(counter.finish())


def test_key_put_right_while_both_run(lab, keys):
    """Files are read again: a renewed key needs no new start."""
    file = os.path.join(keys, "changing.psk")
    shutil.copy(os.path.join(keys, "wrong.psk"), file)
    backup = standby(lab.hosts[1], options=options_of(keys, ("psk", "keys.psk")))
    active = primary(lab.hosts[0], options=options_of(keys, ("psk", "changing.psk")), protect_to=backup.listen)
    active.wait_status("the refusal", lambda s: "refused our key" in s["reason"], timeout=10)
    shutil.copy(os.path.join(keys, "keys.psk"), file)
    active.wait_protected()


def test_strangers(lab, keys):
    """Silent ones hold up nobody; those that talk are told nothing."""
    backup = standby(lab.hosts[1], options=tls(keys, "x509", lab.hosts[1]))
    for kind in ("garbage", "oversized", "stranger"):
        done = lab.hosts[2].run([paths.FUT_BADPEER, lab.hosts[1].rep_ip, str(PORT), kind])
        assert done.returncode == 0 and json.loads(done.stdout)["bye"] is None, done.stdout + done.stderr
    backup.wait_status("a reason", lambda s: "TLS" in s["turned_away"], timeout=5)
    strangers = []
    with lab.hosts[2].ns.inside():
        for _ in range(60):
            strangers.append(socket.create_connection((lab.hosts[1].rep_ip, PORT), 5))
    active = primary(lab.hosts[0], options=tls(keys, "x509", lab.hosts[0]))
    active.protect(address(lab.hosts[1]))
    active.wait_protected()
    counter = load.Counter(lab.client)
    with lab.hosts[2].ns.inside():
        for _ in range(60):
            strangers.append(socket.create_connection((lab.hosts[1].rep_ip, PORT), 5))
    load.sleep_counting(counter, 4.0)  # longer than the patience with each of them
    assert active.status()["state"] == "protected" and backup.status()["state"] == "standby"
    for stranger in strangers:
        stranger.close()
    load.check(counter.finish())


def test_files_that_are_no_good(lab, keys):
    """One line that says what to do, before anything runs."""
    readable = os.path.join(keys, "readable.psk")
    shutil.copy(os.path.join(keys, "keys.psk"), readable)
    os.chmod(readable, 0o644)
    expired = os.path.join(keys, "expired")
    shutil.copytree(os.path.join(keys, "hostA"), expired)
    ours = os.path.join(keys, "ca")
    make_certificate(expired, "client", ['cn = "hosta"', 'activation_date = "2020-01-01 00:00:00"',
                                         'expiration_date = "2021-01-01 00:00:00"', "tls_www_client"],
                     "--load-ca-certificate", f"{ours}/ca-cert.pem", "--load-ca-privkey", f"{ours}/ca-key.pem")
    cases = {f"psk:{readable}": "chmod 600", f"x509:{expired}": "client-cert.pem has expired", f"psk:{keys}/none": "none"}
    for spec, words in cases.items():
        vm = FutagoVm(lab.hosts[1], listen=address(lab.hosts[1]), options=("--tls", spec))
        assert vm.process.wait(10) != 0
        lines = [line for line in vm.process.output().splitlines() if words in line]
        assert len(lines) == 1, vm.process.output()
