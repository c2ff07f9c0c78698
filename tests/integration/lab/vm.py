# SPDX-License-Identifier: GPL-2.0-or-later
"""Guests: stock ones, and the members of a pair."""
import os
import signal
import time

from . import paths
from .ctl import Control
from .machine import Machine
from .process import PATIENCE, wait_for

PORT = 7100
GOING_ON = ("alone", "connecting", "greeting", "copying", "settling", "protecting", "protected")
OUT = ("fenced", "waiting", "receiving")


class StockVm:
    """A guest in plain QEMU, without the module."""

    def __init__(self, host, machine=Machine(), name="stock", taps=None):
        self.host, self.machine, self.name = host, machine, name
        self.serial = host.log(f"{name}-console")
        self.process = host.spawn(self.command(machine.qemu(self.serial, taps or host.taps())), name)

    def command(self, qemu):
        return qemu

    def console(self):
        if not os.path.exists(self.serial):
            return ""
        with open(self.serial, "r", encoding="utf-8", errors="replace") as handle:
            return handle.read()

    def wait_ready(self, timeout=60):
        def ready():
            if not self.process.alive:
                raise RuntimeError(f"{self.name} ended: {self.process.output().strip()}")
            return "GUEST-READY\n" in self.console()
        wait_for(lambda: f"{self.name} boots; console: {self.console()[-300:]}", ready, timeout)
        return self

    def kill(self):
        return self.process.kill()

    @property
    def alive(self):
        return self.process.alive


class FutagoVm(StockVm):
    """A member of a pair, started by `futago run` or `futago standby`."""

    def __init__(self, host, machine=Machine(), name="vm", listen=None, protect_to=None, options=(), taps=None):
        self.listen, self.protect_to, self.options = listen, protect_to, list(options)
        super().__init__(host, machine, name, taps)

    def command(self, qemu):
        common = ["--name", self.name, "--node", self.host.name, "--arbiter", f"file:{self.host.lab.arbiter}"]
        if self.host.lab.silence_ms and "--timeout-ms" not in self.options:
            common += ["--timeout-ms", str(self.host.lab.silence_ms)]
        if "--tls" not in self.options:
            common.append("--insecure")
        if self.listen:
            own = ["standby", "--listen", self.listen]
        else:
            own = ["run"] + (["--protect-to", self.protect_to] if self.protect_to else [])
        return [paths.FUTAGO] + own + common + self.options + ["--"] + qemu

    @property
    def socket(self):
        return os.path.join(self.host.rundir, f"{self.name}.sock")

    def control(self, timeout=5.0):
        return Control(self.socket, timeout)

    def call(self, verb, **args):
        control = self.control()
        try:
            return control.call(verb, **args)
        finally:
            control.close()

    def status(self):
        return self.call("status")

    def try_status(self):
        """Status, or {} while nobody answers."""
        try:
            return self.status()
        except (OSError, ValueError):
            return {}

    def wait_status(self, what, condition, timeout=20.0):
        """Waits until condition(status) is true; returns that status."""
        last = {}

        def look():
            if not self.process.alive:
                raise RuntimeError(f"{self.name} on {self.host.name} ended: {self.process.output().strip()}")
            last.clear()
            last.update(self.try_status())
            return dict(last) if last and condition(last) else None
        return wait_for(lambda: f"{self.name} on {self.host.name}: {what}; status {brief(last)}; "
                                f"output: {self.process.output()[-500:]}", look, timeout)

    def wait_state(self, *states, timeout=20.0):
        return self.wait_status("state " + " or ".join(states), lambda s: s["state"] in states, timeout)

    def wait_protected(self, timeout=60.0):
        return self.wait_state("protected", timeout=timeout)

    def wait_running(self, timeout=20.0):
        """The VM runs here, as primary."""
        return self.wait_status("running as primary", lambda s: s["role"] == "primary" and s["running"], timeout)

    def protect(self, address, wait=60):
        return self.host.futago("protect", self.name, "--to", address, "--wait", wait, timeout=wait + 10)

    @property
    def qemu_pid(self):
        """The process that is QEMU: ours, or its child should futago stay in between."""
        for pid in [self.process.pid] + children(self.process.pid):
            if os.path.basename(os.readlink(f"/proc/{pid}/exe")).startswith("qemu-system"):
                return pid
        raise RuntimeError(f"{self.name} on {self.host.name}: no QEMU process")

    def kill_qemu(self):
        """kill -9, as a host's death would be. Returns the monotonic time of it."""
        pid = self.qemu_pid
        at = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        self.process.wait()
        return at

    def freeze(self):
        """Returns when none of its threads runs."""
        pid = self.qemu_pid
        os.kill(pid, signal.SIGSTOP)
        wait_for("all threads stopped", lambda: all(state_of(pid, thread) == "T" for thread in os.listdir(f"/proc/{pid}/task")))

    def thaw(self):
        os.kill(self.qemu_pid, signal.SIGCONT)


class RestoredVm(FutagoVm):
    """Started by futago restore."""

    def __init__(self, host, source, *options, machine):
        self.source, self.own = source, options
        super().__init__(host, machine)

    def command(self, qemu):
        return [paths.FUTAGO, "restore", self.source, "--name", self.name, "--node", self.host.name, "--arbiter",
                f"file:{self.host.lab.arbiter}", "--force-generation", *self.own, "--"] + qemu


def state_of(pid, thread):
    with open(f"/proc/{pid}/task/{thread}/stat", encoding="utf-8", errors="replace") as handle:
        return handle.read().rsplit(")", 1)[1].split()[0]


def children(pid):
    try:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as handle:
            return [int(word) for word in handle.read().split()]
    except OSError:
        return []


def brief(status):
    keys = ("role", "state", "running", "generation", "epoch", "committed", "peer", "reason")
    return {key: status[key] for key in keys if key in status}


def address(host, port=PORT):
    return f"tcp:{host.rep_ip}:{port}"


# QEMU 7.2 with KVM's dirty rings: the thread that empties them looks at a processor that is not there yet, where it takes
# QEMU a second to come so far. Nothing of ours runs by then.
NOT_OURS = "kvm_dirty_ring_reap_one: Assertion `dirty_gfns && ring_size' failed"
TRIES = 10


def begun(begin, wait):
    """begin() makes a VM, wait(vm) waits for it; again if QEMU has ended as QEMU does."""
    for _ in range(TRIES):
        vm = begin()
        try:
            wait(vm)
            return vm
        except RuntimeError as error:
            if NOT_OURS not in str(error):
                raise
    raise RuntimeError(f"{vm.name} on {vm.host.name}: QEMU ended {TRIES} times with {NOT_OURS}")


def standby(host, machine=Machine(), name="vm", options=(), port=PORT, wait=True, taps=None):
    """A standby that listens on its host."""
    def begin():
        return FutagoVm(host, machine, name, listen=address(host, port), options=options, taps=taps)
    return begun(begin, lambda vm: vm.wait_state("waiting")) if wait else begin()


def primary(host, machine=Machine(), name="vm", options=(), protect_to=None, wait=True):
    def begin():
        return FutagoVm(host, machine, name, protect_to=protect_to, options=options)
    return begun(begin, FutagoVm.wait_ready) if wait else begin()


def pair(lab, machine=Machine(), options=(), backup_options=(), to=None):
    """A protected guest on host A with its twin on host B. `to`: connect there instead (a proxy)."""
    backup = standby(lab.hosts[1], machine, options=backup_options)
    active = primary(lab.hosts[0], machine, options=options)
    active.protect(to or address(lab.hosts[1]))
    active.wait_protected()
    return active, backup


def active_of(first, second, timeout=15):
    """Waits until one of the two runs the VM and the other is out; returns (active, other)."""
    def look(vm):
        return vm.try_status() if vm.alive else {"state": "fenced", "running": False}

    def goes_on(status):
        return status.get("running") and status["state"] in GOING_ON and status["role"] == "primary"

    end = time.monotonic() + timeout * PATIENCE
    while True:
        states = [look(first), look(second)]
        going = [goes_on(status) for status in states]
        if all(going):  # the first may have been fenced before the second was looked at
            again = look(first)
            assert not goes_on(again), f"both are active: {states}, then {again}"
            continue
        out = [s.get("state") in OUT for s in states]
        for winner in (0, 1):
            if going[winner] and out[1 - winner]:
                return ((first, second), (second, first))[winner]
        assert time.monotonic() < end, f"nobody, or not one, goes on: {states}"
        time.sleep(0.05)
