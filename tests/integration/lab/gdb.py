# SPDX-License-Identifier: GPL-2.0-or-later
"""QEMU's gdb stub: writes a guest's memory from outside, to give its kernel a fault that nothing else would."""
import socket

from .process import wait_for


class Gdb:
    """The guest stands still from here to close()."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(20)

        def connected():
            try:
                self.socket.connect(path)
                return True
            except OSError:
                return False
        wait_for(f"the gdb stub at {path}", connected)
        self.bytes = b""

    def _read(self):
        """The next packet's text; acknowledgements are passed over."""
        while True:
            begin, end = self.bytes.find(b"$"), self.bytes.find(b"#")
            if 0 <= begin < end and len(self.bytes) >= end + 3:
                text = self.bytes[begin + 1:end].decode()
                self.bytes = self.bytes[end + 3:]
                self.socket.sendall(b"+")
                return text
            got = self.socket.recv(4096)
            assert got, "the gdb stub is gone"
            self.bytes += got

    def order(self, text):
        self.socket.sendall(f"${text}#{sum(text.encode()) & 255:02x}".encode())
        while True:
            answer = self._read()
            if not answer.startswith("T"):  # said by itself: that the guest stands still
                return answer

    def read(self, address, length):
        return bytes.fromhex(self.order(f"m{address:x},{length:x}"))

    def write(self, address, data):
        """At a virtual address of what the first vCPU runs; also where the guest itself may not write."""
        answer = self.order(f"M{address:x},{len(data):x}:{data.hex()}")
        assert answer == "OK", answer

    def close(self):
        """The guest goes on."""
        assert self.order("D") == "OK"
        self.socket.close()
