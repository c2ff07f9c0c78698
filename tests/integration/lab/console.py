# SPDX-License-Identifier: GPL-2.0-or-later
"""Typing on a guest's console: a socket of its QEMU's, whose other end answers each line with "heard <line>"."""
import os
import socket

from .process import wait_for


class Console:
    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        wait_for(f"a console at {path}", lambda: os.path.exists(path))
        self.socket.connect(path)
        self.socket.settimeout(0.2)
        self.seen = b""

    def read(self):
        try:
            self.seen += self.socket.recv(4096)
        except TimeoutError:
            pass
        return self.seen

    def type(self, line, timeout=10):
        """One line; waits until the guest has answered it."""
        self.socket.sendall(line.encode() + b"\n")
        answer = b"heard " + line.encode()
        wait_for(lambda: f"\"{answer.decode()}\" on the console, seen {self.seen!r}", lambda: answer in self.read(), timeout)

    def close(self):
        self.socket.close()
