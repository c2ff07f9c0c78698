# SPDX-License-Identifier: GPL-2.0-or-later
"""What follows from a probe's record: health, programs, a hand-over where it helps."""
import contextlib
import json
import mmap
import os
import struct
import threading

from lab import load, snapshots
from lab.machine import Machine
from lab.process import wait_for
from lab.qmp import Qmp
from lab.vm import pair, primary

CRASH = 7008
GETPGID = "kprobe:__x64_sys_getppid { pid, comm }"


def order(lab, line):
    answer = load.Connection(lab.client, CRASH, timeout=60).order(line)
    assert answer.startswith("OK"), answer


def health(vm):
    """(exit status, the whole answer)"""
    done = vm.host.futago("health", vm.name, "--json", check=False)
    return done.returncode, json.loads(done.stdout)


def wait_outcome(vm, probe, words):
    def said():
        return [finding["outcome"] for finding in health(vm)[1]["findings"] if finding["probe"] == probe]
    wait_for(lambda: f"'{words}' after {probe}; there are {said()}", lambda: any(words in outcome for outcome in said()))


def mapped(vm):
    """The probes of the records that any program can map, as futago_records.h has them."""
    fd = os.open(os.path.join(vm.host.rundir, f"{vm.name}.probes"), os.O_RDONLY)
    memory = mmap.mmap(fd, 0, prot=mmap.PROT_READ)
    os.close(fd)
    magic, version, head, slot, slots, count = struct.unpack_from("<8sIIIIQ", memory)
    assert (magic, version) == (b"FUTREC1\0", 1) and count <= slots
    return [memory[at + 32:at + 96].split(b"\0")[0].decode() for at in range(head, head + count * slot, slot)]


def program(host, name, text):
    path = os.path.join(host.folder, name)
    with open(path, "w", encoding="ascii") as handle:
        handle.write(f"#!/bin/sh\n{text}\n")
    os.chmod(path, 0o755)
    return path


def test_consequences(lab):
    """A service dies: health says so with the cause, a program is run and one is asked, and no hand-over pretends to help; a host that
    fails is left."""
    vm, backup = pair(lab, Machine(memory_mb=128))
    counter = load.Counter(lab.client)
    assert health(vm)[0] == 3
    told = os.path.join(vm.host.folder, "told")
    run = program(vm.host, "tell-it", f'echo "$FUTAGO_CAUSE" > {told}.part && mv {told}.part {told}')
    ask = program(vm.host, "ask-it", "exit 10")

    def add(*words, status=0):
        done = vm.host.futago("probe", "add", vm.name, *words, check=False)
        assert done.returncode == status, done
        return done.stderr

    add("segv", "--filter", 't->comm == "webserver"', "--on", f"report,command:{run}")
    add("segv", "--name", "asked", "--filter", 't->comm == "webserver"', "--on", f"ask:{ask}")
    add(GETPGID, "--name", "quiet")
    assert "no program that can be run" in add("segv", "--name", "x", "--on", "command:/no/such", status=2)
    assert "severity=info, warning" in add("segv", "--name", "x", "--severity", "bad", status=2)
    assert health(vm)[0] == 0

    order(lab, "SEGV other 0x10")
    order(lab, "GETPPID 3")
    assert health(vm) == (0, {"vm": "vm", "health": "good", "probes": 3, "lost": 0, "forgotten": 0, "findings": []})
    order(lab, "SEGV webserver 0x1230")
    wait_outcome(vm, "segv", "exit status 0")
    wait_outcome(vm, "asked", "the twin holds the same failed service")
    with open(told, encoding="ascii") as handle:
        cause = handle.read().strip()
    assert cause.startswith("webserver/") and cause.endswith("gets SIGSEGV at 0x1230, sent by the kernel"), cause
    status, whole = health(vm)
    assert status == 5 and whole["health"] == "service-failed" and whole["findings"][0]["cause"] == cause, whole
    records = mapped(vm)
    assert records[:3] == 3 * ["quiet"] and sorted(records[3:]) == ["asked", "segv"], records
    shown = vm.host.futago("health", vm.name, check=False)
    assert shown.returncode == 5 and cause in shown.stdout and not shown.stderr, shown
    vm.host.futago("health", vm.name, "--clear-probe", "segv")
    assert health(vm)[0] == 5
    assert "has found nothing" in vm.host.futago("health", vm.name, "--clear-probe", "segv", check=False).stderr
    vm.host.futago("health", vm.name, "--clear")
    assert health(vm)[0] == 0
    assert vm.status()["state"] == "protected"

    add('scope=host on=failover says="the host is at fault" kprobe:__send_signal_locked /sig == SIGSEGV/', "--name", "host")
    order(lab, "SEGV other 0x10")
    backup.wait_running()
    counter.wait_counts(20)
    load.check(counter.finish())


def test_snapshot_then_stop(lab):
    """Health is told while QEMU's main loop stands still; the VM is not ended before the snapshot that was asked for first is whole."""
    host = lab.hosts[0]
    path, pipe, store = (os.path.join(host.folder, name) for name in ("qmp", "pipe", "store"))
    vm = primary(host, Machine(memory_mb=128, extra=("-qmp", f"unix:{path},server=on,wait=off")))
    os.mkdir(store)
    host.futago("probe", "add", vm.name, "segv", "--on", f"snapshot:{store},stop")

    # QEMU writes its dump with its big lock held, and nobody reads yet.
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)

    def first_bytes():
        with contextlib.suppress(BlockingIOError):
            return os.read(reader, 4)
    qmp = Qmp(path)
    qmp.socket.settimeout(None)
    dump = threading.Thread(target=qmp.command, args=("dump-guest-memory",), kwargs={"paging": False, "protocol": f"file:{pipe}"}, daemon=True)
    dump.start()
    assert wait_for("QEMU writes its dump", first_bytes) == b"\x7fELF"
    assert health(vm) == (0, {"vm": "vm", "health": "good", "probes": 1, "lost": 0, "forgotten": 0, "findings": []})
    assert "segv" in host.futago("probe", "list", vm.name).stdout
    os.set_blocking(reader, True)
    while os.read(reader, 1 << 20):
        pass
    os.close(reader)
    dump.join()

    order(lab, "SEGV webserver 0x1230")
    vm.process.wait(60)
    taken, = snapshots.look(store)
    assert taken[2] == "unhashed", taken
    said = vm.process.output()
    assert 0 < said.index("snapshot 1 in ") < said.index("snapshot after segv: snapshot 1 is taken") < said.index("stop after segv: ending the VM"), said
