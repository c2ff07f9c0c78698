# SPDX-License-Identifier: GPL-2.0-or-later
"""A destination for VMs that move, and what is to be seen of them."""
import base64
import contextlib
import fcntl
import json
import os
import shutil
import signal
import socket

from . import paths
from .ctl import Control
from .process import strays, wait_for
from .vm import FutagoVm

RECEIVE_PORT = 7190


class Arrived(FutagoVm):
    """A VM at its new place. Its QEMU is the receiver's child."""

    def __init__(self, host, name="vm"):  # pylint: disable=super-init-not-called
        self.host, self.name = host, name

    @property
    def process(self):
        return self

    @property
    def alive(self):
        return self.pid is not None

    @property
    def pid(self):
        """Of QEMU with that name on that host; None: there is none."""
        for pid in strays():
            if f"node={self.host.name},".encode() in command_of(pid) and f",name={self.name},".encode() in command_of(pid):
                return pid
        return None

    @property
    def qemu_pid(self):
        return self.pid

    def output(self):
        path = os.path.join(images(self.host), f"{self.name}.log")
        return read(path) if os.path.exists(path) else ""

    def wait(self):
        self.wait_ended()

    def wait_ended(self):
        wait_for(f"{self.name} on {self.host.name} ends", lambda: self.pid is None, 30)


def read(path):
    with open(path, encoding="utf-8", errors="replace") as handle:
        return handle.read()


def command_of(pid):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as handle:
            return handle.read()
    except OSError:
        return b""


def images(host):
    return os.path.join(host.folder, "images")


def image_files(host):
    return sorted(name for name in os.listdir(images(host)) if name.endswith((".img", ".bitmap")))


def receiver(host, source, *options, wait=True, at=None):
    """futago receive on a host, with an empty folder. The source's folder is its own one's name there."""
    shutil.rmtree(images(host), ignore_errors=True)
    os.makedirs(images(host))
    secure = [] if "--tls" in options else ["--insecure"]
    process = host.spawn([paths.FUTAGO, "receive", "--listen", at or f"{host.rep_ip}:{RECEIVE_PORT}", "--images", images(host),
                          "--node", host.name, "--map", f"{source.folder}={host.folder}", *secure, *options], "receive")
    if wait:
        wait_for(lambda: f"futago receive: {process.output()}", lambda: "waiting for VMs" in process.output())
    return process


class Caller(Control):
    """Speaks to a receiver as futago relocate does, from another host."""

    def __init__(self, source, host):  # pylint: disable=super-init-not-called
        with source.ns.inside():
            self.socket = socket.create_connection((host.rep_ip, RECEIVE_PORT), 30)
        self.lines = self.socket.makefile("rb")
        self.next_id = 0

    def prepare(self, vm):
        """A VM with one disk; nobody serves that."""
        def coded(text):
            return base64.b64encode(text.encode()).decode()
        disk = {"name": "d", "length": 1 << 20, "port": 1, "image": coded("/d.img")}
        return self.call("prepare", version=1, vm=vm, words=[coded("qemu-system-none")], disks=[disk])


def start_relocating(host, to, *words, at=None):
    """futago relocate --json, at work."""
    return host.spawn([paths.FUTAGO, "relocate", "--json", "--to", at or f"{to.rep_ip}:{RECEIVE_PORT}", *words], "relocate")


def switch(process):
    """What is held may switch over."""
    process.signal(signal.SIGUSR1)


def told(process, vm="vm"):
    """What it has said of that VM so far."""
    lines = []
    for line in process.output().splitlines():
        try:
            lines.append(json.loads(line))
        except ValueError:
            pass
    return [line for line in lines if line.get("vm") == vm]


def wait_phase(process, phase, vm="vm", timeout=60):
    """Waits until it is in that phase; returns the newest thing said."""
    def look():
        lines = told(process, vm)
        assert phase == "end" or not lines or lines[-1]["phase"] != "end", lines[-1]
        return lines[-1] if lines and lines[-1]["phase"] == phase else None
    return wait_for(lambda: f"relocate comes to '{phase}': {process.output()[-600:]}", look, timeout)


def outcome(process, vm="vm", timeout=90):
    return wait_phase(process, "end", vm, timeout)["outcome"]


def disk_call(host, name, verb, **args):
    control = Control(os.path.join(host.rundir, "disks", f"{name}.sock"))
    try:
        return control.call(verb, **args)
    finally:
        control.close()


@contextlib.contextmanager
def arbiter_locked(lab, name="vm"):
    """Nobody is granted anything meanwhile; what is on record can be read."""
    with open(os.path.join(lab.arbiter, f"{name}.lock"), "r+b") as handle:
        fcntl.lockf(handle, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def arbiter_away(lab):
    """Its folder is not there."""
    os.rename(lab.arbiter, lab.arbiter + ".away")
    try:
        yield
    finally:
        os.rename(lab.arbiter + ".away", lab.arbiter)


def wait_disk(host, name):
    """The server of a disk that moves there answers; returns its status."""
    def look():
        try:
            return disk_call(host, name, "status")
        except OSError:
            return None
    return wait_for(f"disk {name} on {host.name}", look, 60)


def at_work(verb):
    """Process ids of the commands with that first word, children included."""
    return [pid for pid in strays() if command_of(pid).split(b"\0")[1:2] == [verb.encode()]]
