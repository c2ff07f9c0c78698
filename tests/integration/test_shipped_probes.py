# SPDX-License-Identifier: GPL-2.0-or-later
"""Each probe that comes with Futago sees its failure, in a real guest that really fails, and nothing else."""
import contextlib
import glob
import json
import os
import subprocess
import threading
import time

import pytest
from lab import load, paths
from lab.gdb import Gdb
from lab.machine import Machine
from lab.process import wait_for
from lab.qmp import Qmp
from lab.vm import primary

pytestmark = pytest.mark.long  # two minutes on a busy machine; test_probes has three of them in the ordinary run

CRASH = 7008
SHIPPED = sorted(os.path.basename(path)[:-len(".probe")] for path in glob.glob(os.path.join(paths.ROOT, "probes", "*.probe")))
BAD_SECTOR = 2048
ACCT = 163  # a system call that nobody in the guest makes
# What is written over its first instructions.
UNDEFINED = bytes.fromhex("0f0b")        # ud2
NULL_READ = bytes.fromhex("31c08b00")    # xor eax, eax; mov eax, [rax]
LOOP = bytes.fromhex("ebfe31c0c3")       # jmp to itself; xor eax, eax; ret
NOTHING = bytes.fromhex("9090")          # two nops over the jmp: it returns
OVERFLOW = bytes.fromhex("488d7c24c0be01000000")  # lea rdi, [rsp - 64]; mov esi, 1: a counter that has overflowed


class Seen:
    """The records of a VM's probes, as they come."""

    def __init__(self, vm):
        self.process = vm.host.spawn([paths.FUTAGO, "probe", "watch", vm.name, "--json"], "watch")
        self.taken = 0

    def records(self):
        lines = load.parsed(self.process.output().splitlines())
        return [line for line in lines if line.get("event") == "PROBE" and line["probe"] in SHIPPED]

    def take(self, *probes, timeout=60):
        """Waits until all of these have made records since the last call; there must be none of others. {probe: its first record}"""
        def new():
            return self.records()[self.taken:]
        wait_for(lambda: f"{probes}; there are {new()}", lambda: {record["probe"] for record in new()} >= set(probes), timeout)
        found = new()
        self.taken += len(found)
        assert {record["probe"] for record in found} == set(probes), found
        return {record["probe"]: record for record in reversed(found)}


def order(lab, line, timeout=60):
    """The numbers of the answer of the guest's service of failures."""
    connection = load.Connection(lab.client, CRASH, timeout=timeout)
    answer = connection.order(line)
    assert answer.startswith("OK"), (line, answer)
    connection.close()
    return [int(word) for word in answer.split()[1:]]


def shell(lab, command, status=0):
    assert order(lab, f"DO {command}")[1] == status, command


def send(lab, line):
    """An order whose answer never comes."""
    load.Connection(lab.client, CRASH).socket.sendall(line.encode() + b"\n")


def knock(lab, port):
    """Asks for a connection that is not to come."""
    with contextlib.suppress(OSError):
        load.Connection(lab.client, port, timeout=3)  # SYN comes twice


def machine(folder):
    """vda: ext4; vdb: a sector that cannot be read. Paused where it would end. Its kernel is in every page table, for Gdb."""
    image = os.path.join(folder, "ext4.raw")
    subprocess.run(["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", image, "16M"], check=True)
    bad = {"driver": "blkdebug", "node-name": "bad", "image": "nothing",
           "inject-error": [{"event": "none", "iotype": "read", "errno": 5, "sector": BAD_SECTOR, "once": False}]}
    extra = ("-action", "shutdown=pause", "-qmp", f"unix:{folder}/qmp,server=on,wait=off", "-gdb", f"unix:{folder}/gdb,server=on,wait=off",
             "-blockdev", f"raw,node-name=good,file.driver=file,file.filename={image}",
             "-device", "virtio-blk-device,drive=good",
             "-blockdev", json.dumps({"driver": "null-co", "node-name": "nothing", "size": 64 << 20, "read-zeroes": True}),
             "-blockdev", json.dumps(bad),
             "-device", "virtio-blk-device,drive=bad,rerror=report,werror=report")
    return Machine(memory_mb=128, vcpus=2, append="panic=0 nopti", extra=extra)


def address_of(vm, function):
    """Where a function of the guest's kernel is: a probe's answer tells."""
    done = vm.host.futago("probe", "add", vm.name, f"kprobe:{function}", "--name", "where", "--json")
    vm.host.futago("probe", "remove", vm.name, "where")
    return int(json.loads(done.stdout)["address"], 16)


def number(value):
    """Of a record's field: large ones are written as addresses."""
    return value if isinstance(value, int) else int(value, 16)


class Patched:
    """While it lasts the guest's system call `acct` is other code."""

    def __init__(self, vm, at, code):
        self.path, self.at, self.code = f"{vm.host.folder}/gdb", at, code

    def write(self, code):
        gdb = Gdb(self.path)
        old = gdb.read(self.at, len(code))
        gdb.write(self.at, code)
        gdb.close()
        return old

    def __enter__(self):
        self.old = self.write(self.code)
        return self

    def __exit__(self, *_):
        self.write(self.old)


@pytest.fixture(scope="module")
def guest(module_lab):
    """A guest with all probes in, what they see, and the laboratory."""
    vm = primary(module_lab.hosts[0], machine(module_lab.hosts[0].folder))
    for name in SHIPPED:
        vm.host.futago("probe", "add", vm.name, name)
    yield module_lab, vm, Seen(vm)


def test_processes(guest):
    """A process that dies by a signal, and why; one that ends by itself is none."""
    lab, _, seen = guest
    begin = time.time()
    order(lab, "EXIT gentle")
    pid, _ = order(lab, "KILL ended 15")
    died = seen.take("died")["died"]
    assert died["fields"] == {"exit_code": 15, "comm": "ended", "pid": pid} and died["cause"] == f"ended/{pid} was ended by SIGTERM", died
    assert (died["severity"], died["scope"]) == ("error", "service")

    pid, signal = order(lab, "SEGV webserver 0x1230")
    assert signal == 11
    found = seen.take("segv", "died")
    segv = found["segv"]
    assert begin - 1 < segv["time"] < time.time() + 1 and segv["guest_time"] > 0, segv
    assert segv["fields"] == {"signal": 11, "code": 1, "address": "0x1230", "comm": "webserver", "pid": pid, "thread": pid,
                              "sender": pid, "sender_comm": "webserver"}
    assert segv["cause"] == f"webserver/{pid} gets SIGSEGV at 0x1230, sent by the kernel"
    assert found["died"]["fields"]["pid"] == pid

    pid, _ = order(lab, "KILL victim 11")
    segv = seen.take("segv", "died")["segv"]
    assert segv["fields"]["comm"] == "victim" and segv["fields"]["sender_comm"] == "guestd" and segv["fields"]["sender"] != pid, segv
    assert segv["cause"].endswith(f"sent by guestd/{segv['fields']['sender']}"), segv


def test_memory(guest):
    lab, _, seen = guest
    pid, signal = order(lab, "EAT glutton")
    assert signal == 9
    oom = seen.take("oom", "died")["oom"]
    assert oom["fields"]["victim"] == "glutton" and oom["fields"]["victim_pid"] == pid, oom
    assert oom["cause"].startswith(f"Out of memory: glutton/{pid} will be killed"), oom


def test_listen_overflow(guest):
    """A service that accepts nothing: the first connection finds room, the second does not."""
    lab, _, seen = guest
    order(lab, "LISTEN sleeper 7995")
    first = load.Connection(lab.client, 7995)
    knocker = threading.Thread(target=knock, args=(lab, 7995), daemon=True)  # its answer never comes
    knocker.start()
    overflow = seen.take("listen-overflow")["listen-overflow"]
    assert overflow["fields"]["port"] == 7995 and overflow["fields"]["waiting"] > overflow["fields"]["room"] == 0, overflow
    assert "port 7995" in overflow["cause"] and (overflow["severity"], overflow["scope"]) == ("warning", "service"), overflow
    knocker.join()
    first.close()
    seen.taken = len(seen.records())  # asked for again and again


def test_disks(guest):
    """No space, a hung task, a damaged file system, an I/O error."""
    lab, _, seen = guest
    shell(lab, "mkdir -p /mnt && mount -t ext4 -o errors=remount-ro /dev/vda /mnt && echo hello > /mnt/file")
    shell(lab, "busybox dd if=/dev/zero of=/mnt/fill bs=64k 2>/dev/null", 1)
    full = seen.take("disk-full")["disk-full"]
    assert full["fields"]["disk"] == "vda" and "vda is full" in full["cause"], full

    shell(lab, "busybox rm /mnt/fill && busybox sync && echo 1 > /proc/sys/kernel/hung_task_timeout_secs && busybox fsfreeze --freeze /mnt")
    order(lab, "START echo x > /mnt/late")
    hung = seen.take("hung-task")["hung-task"]
    assert hung["fields"]["comm"] == "sh" and "cannot be interrupted" in hung["cause"], hung
    shell(lab, "echo 0 > /proc/sys/kernel/hung_task_timeout_secs; busybox fsfreeze --unfreeze /mnt && busybox cat /mnt/file > /dev/null")
    seen.taken = len(seen.records())  # it may have been found again meanwhile

    shell(lab, "echo broken > /sys/fs/ext4/vda/trigger_fs_error")
    found = seen.take("ext4-error", "ext4-readonly")
    assert found["ext4-error"]["fields"]["disk"] == found["ext4-readonly"]["fields"]["disk"] == "vda", found
    shell(lab, "umount /mnt")

    shell(lab, "busybox dd if=/dev/vdb of=/dev/null bs=4096 count=1 2>/dev/null")
    shell(lab, f"busybox dd if=/dev/vdb of=/dev/null bs=512 count=1 skip={BAD_SECTOR} 2>/dev/null", 1)
    error = seen.take("io-error")["io-error"]
    assert error["fields"]["disk"] == "vdb" and error["fields"]["status"] == 10 and error["scope"] == "host", error


def test_kernel_faults(guest):
    """A warning, an invalid instruction, a bad pointer: given to the guest's kernel from outside."""
    lab, vm, seen = guest
    at, warn = address_of(vm, "__x64_sys_acct"), address_of(vm, "refcount_warn_saturate")
    jump = b"\xe9" + (warn - (at + len(OVERFLOW) + 5)).to_bytes(4, "little", signed=True)
    with Patched(vm, at, OVERFLOW + jump):
        order(lab, f"CALL caller {ACCT}")
    warning = seen.take("warning")["warning"]
    assert warning["fields"]["comm"] == "caller" and "refcount" in warning["fields"]["file"] and warning["severity"] == "warning", warning
    with Patched(vm, at, UNDEFINED):
        order(lab, f"CALL faulty {ACCT}")
    oops = seen.take("oops", "died")["oops"]
    assert oops["fields"]["what"] == "invalid opcode" and oops["fields"]["comm"] == "faulty" and number(oops["fields"]["ip"]) == at, oops
    with Patched(vm, at, NULL_READ):
        order(lab, f"CALL faulty {ACCT}")
    found = seen.take("kernel-fault", "oops", "died")
    assert number(found["kernel-fault"]["fields"]["address"]) == 0 and number(found["kernel-fault"]["fields"]["ip"]) == at + 2, found
    assert found["oops"]["fields"]["what"] == "Oops"


def test_hangs(guest):
    """A processor that does not come out of the kernel."""
    lab, vm, seen = guest
    at = address_of(vm, "__x64_sys_acct")
    shell(lab, "echo 1 > /proc/sys/kernel/watchdog_thresh && echo 3 > /sys/module/rcupdate/parameters/rcu_cpu_stall_timeout")
    with Patched(vm, at, LOOP) as patched:
        looper = load.Connection(lab.client, CRASH, timeout=60)
        looper.socket.sendall(f"CALL looper {ACCT}\n".encode())
        found = seen.take("soft-lockup", "rcu-stall")
        patched.write(NOTHING)
        assert looper.socket.recv(200).startswith(b"OK")
    assert found["soft-lockup"]["fields"]["comm"] == "looper" and found["rcu-stall"]["fields"]["cpu"] in (0, 1), found


def test_power_off(guest):
    lab, vm, seen = guest
    seen.taken = len(seen.records())
    send(lab, "START poweroff -f")
    off = seen.take("poweroff")["poweroff"]
    assert off["fields"]["comm"] == "poweroff" and off["cause"].startswith("the guest powers off, asked by poweroff/"), off
    health = json.loads(vm.host.futago("health", vm.name, "--json", check=False).stdout)
    assert health["health"] == "system-failed" and {finding["probe"] for finding in health["findings"]} > {"oops", "poweroff"}, health


def test_restart_and_panic(module_lab):
    lab, host = module_lab, module_lab.hosts[1]
    lab.reset()
    vm = primary(host, Machine(memory_mb=128, append="panic=0 reboot=t", extra=("-action", "reboot=reset")))
    for name in ("reboot", "panic"):
        vm.host.futago("probe", "add", vm.name, name)
    seen = Seen(vm)
    send(lab, "START busybox reboot -f")
    assert seen.take("reboot")["reboot"]["fields"]["comm"] == "busybox"
    wait_for("the guest boots again", lambda: vm.console().count("GUEST-READY") == 2, 60)
    vm.host.futago("probe", "remove", vm.name, "panic")
    vm.host.futago("probe", "add", vm.name, "panic")
    send(lab, "PANIC")
    panic = seen.take("panic")["panic"]
    assert panic["fields"]["comm"] == "guestd" and panic["cause"].startswith("kernel panic: sysrq triggered crash"), panic
    done = vm.host.futago("health", vm.name, check=False)
    assert done.returncode == 6 and "the system has failed" in done.stdout and "kernel panic" in done.stdout, done
