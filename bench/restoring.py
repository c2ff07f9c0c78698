# SPDX-License-Identifier: GPL-2.0-or-later
"""Of case snapshot: how long from the command until a restored guest answers a client, by each way there is."""
import contextlib
import os
import select
import socket
import threading
import time

from lab import load, paths
from lab.machine import GUEST_IP, guest_mac
from lab.process import wait_for
from lab.qmp import Qmp
from lab.vm import FutagoVm, StockVm

KNOCK_S = 0.005   # between two attempts to connect
SOCKETS_MAX = 500
LIMIT_S = 120


class Restored(FutagoVm):
    """Started by futago restore."""

    def __init__(self, host, machine, source, *options):
        self.source, self.words = source, options
        super().__init__(host, machine)

    def command(self, qemu):
        return [paths.FUTAGO, "restore", self.source, "--name", self.name, "--node", self.host.name, "--arbiter",
                f"file:{self.host.lab.arbiter}", "--force-generation", *self.words, "--"] + qemu


class Ready(Restored):
    """Kept ready by futago restore --ready."""

    def __init__(self, host, machine, source, *options):
        super().__init__(host, machine, source, "--ready", *options)
        self.wait_state("ready", timeout=LIMIT_S)

    def go(self):
        """Returns without waiting; the VM."""
        self.host.spawn([paths.FUTAGO, "restore", "--go", self.name, "--force-generation"], "go")
        return self


class Started(StockVm):
    """Stock QEMU with some more words."""

    def __init__(self, host, machine, *words):
        self.words = list(words)
        super().__init__(host, machine)

    def command(self, qemu):
        return qemu + self.words


class Knocker:
    """Connects to the guest's echo service again and again, until one connection has had an answer. The address of the guest's card is known
    beforehand: nobody has to ask for it."""

    def __init__(self, client):
        client.ns.ip(f"neigh replace {GUEST_IP} lladdr {guest_mac(0)} dev eth0")
        self.client, self.poll, self.sockets, self.due = client, select.poll(), {}, 0.0

    def _knock(self):
        knock = socket.socket()
        knock.setblocking(False)
        knock.connect_ex((GUEST_IP, load.ECHO))
        self.sockets[knock.fileno()] = knock
        self.poll.register(knock, select.POLLOUT)

    def _look(self, number, what):
        """True if that one has its answer."""
        if what & (select.POLLERR | select.POLLHUP):
            self.poll.unregister(number)
            self.sockets.pop(number).close()
        elif what & select.POLLIN:
            return True
        else:
            self.sockets[number].send(b"?")
            self.poll.modify(number, select.POLLIN)
        return False

    def wait(self, vm):
        """Returns the monotonic time of the first answer."""
        end = time.monotonic() + LIMIT_S
        with self.client.ns.inside():
            while time.monotonic() < end:
                if time.monotonic() >= self.due and len(self.sockets) < SOCKETS_MAX:
                    self._knock()
                    self.due = time.monotonic() + KNOCK_S
                if any([self._look(number, what) for number, what in self.poll.poll(1)]):
                    return time.monotonic()
                if not vm.alive:
                    raise RuntimeError(f"the restored guest ended: {vm.process.output().strip()}")
        raise TimeoutError(f"the restored guest does not answer: {vm.process.output().strip()}")

    def close(self):
        for knock in self.sockets.values():
            knock.close()


def serving_ms(lab, start):
    """(from start() to an answer, the VM)."""
    with contextlib.closing(Knocker(lab.client)) as knocker:
        begin = time.monotonic()
        vm = start()
        return (knocker.wait(vm) - begin) * 1e3, vm


def qemu_start_ms(host, machine):
    """Stock QEMU alone, with the machine's command line: from starting it until its main loop answers. No restore can be sooner."""
    monitor = os.path.join(host.folder, "qmp-start")
    begin = time.monotonic()
    vm = Started(host, machine, "-S", "-qmp", f"unix:{monitor},server=on,wait=off")
    with socket.socket(socket.AF_UNIX) as client:
        while client.connect_ex(monitor) != 0:
            if time.monotonic() - begin > LIMIT_S or not vm.alive:
                raise RuntimeError(f"QEMU does not start: {vm.process.output().strip()}")
            time.sleep(0.001)
        client.settimeout(LIMIT_S)
        client.recv(1)
        took = (time.monotonic() - begin) * 1e3
    vm.kill()
    os.unlink(monitor)
    return took


def ready_ms(lab, machine, source, *options):
    """From the word to go to an answer, by a guest that was kept ready."""
    took, vm = serving_ms(lab, Ready(lab.hosts[0], machine, source, *options).go)
    vm.kill_qemu()
    return took


def futago(lab, machine, source):
    """All ways of Futago; the guest is ended after each."""
    host = lab.hosts[0]
    found = {"qemu_start_ms": qemu_start_ms(host, machine)}
    found["restore_ms"], vm = serving_ms(lab, lambda: Restored(host, machine, source, "--lazy"))
    begin = time.monotonic()
    found["restore_faults"] = vm.status().get("restore", {}).get("faults", 0)
    wait_for("all of the restored memory is there", lambda: "restore" not in vm.status(), LIMIT_S)
    found["restore_filled_ms"] = found["restore_ms"] + (time.monotonic() - begin) * 1e3
    vm.kill_qemu()
    found["restore_full_ms"], vm = serving_ms(lab, lambda: Restored(host, machine, source))
    vm.kill_qemu()
    found["restore_ready_ms"] = ready_ms(lab, machine, source)
    found["restore_ready_lazy_ms"] = ready_ms(lab, machine, source, "--lazy")
    return found


def go_on(monitor):
    """A guest that was stopped when it was saved is stopped when it has come back."""
    qmp = Qmp(monitor)
    wait_for("the guest has come back", lambda: qmp.command("query-status")["return"]["status"] in ("paused", "running"), LIMIT_S, 0.002)
    qmp.command("cont")
    qmp.close()


def from_file(lab, machine, path):
    """QEMU reads what its migration to a file has written."""
    monitor = os.path.join(lab.hosts[0].folder, "qmp-back")
    helper = threading.Thread(target=go_on, args=(monitor,), daemon=True)

    def start():
        vm = Started(lab.hosts[0], machine, "-incoming", f"exec:cat {path}", "-qmp", f"unix:{monitor},server=on,wait=off")
        helper.start()
        return vm
    took, vm = serving_ms(lab, start)
    helper.join(LIMIT_S)
    vm.kill()
    os.unlink(monitor)
    return took


def from_image(lab, machine, name, *drive):
    """QEMU's loadvm."""
    took, vm = serving_ms(lab, lambda: Started(lab.hosts[0], machine, *drive, "-loadvm", name))
    vm.kill()
    return took


def reboot(lab, machine):
    took, vm = serving_ms(lab, lambda: StockVm(lab.hosts[0], machine))
    vm.kill()
    return took


def empty_image(host, megabytes):
    """Where savevm puts memory: an image of its own, without a device."""
    path = os.path.join(host.folder, "savevm.qcow2")
    done = host.run(["qemu-img", "create", "-q", "-f", "qcow2", path, f"{megabytes}M"])
    if done.returncode != 0:
        raise RuntimeError(f"qemu-img: {done.stderr.strip()}")
    return path
