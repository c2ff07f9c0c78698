# SPDX-License-Identifier: GPL-2.0-or-later
"""VMs that begin as a snapshot, and connections to a guest's counter."""
import socket
import struct

import pytest

from . import load, paths
from .machine import GUEST_IP
from .process import wait_for
from .vm import FutagoVm


class RestoredVm(FutagoVm):
    """Started by futago restore."""

    def __init__(self, host, source, *options, machine, before=(), **more):
        self.source, self.own, self.before = source, options, list(before)
        super().__init__(host, machine, **more)

    def command(self, qemu):
        return self.before + [paths.FUTAGO, "restore", self.source, "--name", self.name, "--node", self.host.name, "--arbiter",
                              f"file:{self.host.lab.arbiter}", "--force-generation", *self.own, "--"] + qemu

    def said(self, text, timeout=60):
        wait_for(lambda: f"{self.name} says {text!r}: {self.process.output()[-800:]}", lambda: text in self.process.output(), timeout)


class Count:
    """A connection to the guest's counter."""

    def __init__(self, client, guest=GUEST_IP, local=None):
        def connected():
            try:
                with client.ns.inside():
                    return socket.create_connection((guest, load.COUNTER), 5, local)
            except OSError:  # an address that is not yet there
                return None
        self.socket = wait_for(f"a connection to {guest}", connected)
        self.socket.settimeout(30)
        self.ends = self.socket.getsockname()[:2], self.socket.getpeername()[:2]
        self.number = 0

    def count(self, times=1):
        for _ in range(times):
            self.send()
            self.answer()

    def send(self):
        self.number += 1
        self.socket.sendall(struct.pack("<Q", self.number))

    def answer(self):
        got = b""
        while len(got) < 16:
            piece = self.socket.recv(16 - len(got))
            assert piece, "closed by the guest"
            got += piece
        assert struct.unpack("<Q", got[:8])[0] == self.number, got

    def expect_reset(self):
        with pytest.raises(ConnectionResetError):
            self.answer()
