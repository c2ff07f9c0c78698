# SPDX-License-Identifier: GPL-2.0-or-later
"""A QEMU's own control socket, as a person or a manager would use it beside Futago."""
import json
import socket

from .process import wait_for


class Qmp:
    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(10)

        def connected():
            try:
                self.socket.connect(path)
                return True
            except OSError:
                return False
        wait_for(f"QMP at {path}", connected)
        self.lines = self.socket.makefile("rb")
        json.loads(self.lines.readline())
        self.command("qmp_capabilities")

    def command(self, name, **arguments):
        """The whole answer: {"return": …} or {"error": …}."""
        self.socket.sendall(json.dumps({"execute": name, "arguments": arguments}).encode() + b"\n")
        while True:
            answer = json.loads(self.lines.readline())
            if "return" in answer or "error" in answer:
                return answer

    def close(self):
        self.lines.close()
        self.socket.close()
