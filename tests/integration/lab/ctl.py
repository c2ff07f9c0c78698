# SPDX-License-Identifier: GPL-2.0-or-later
"""A VM's control socket: JSON lines, as src/control/control.h has them."""
import json
import socket


class ControlError(Exception):
    def __init__(self, code, message):
        super().__init__(f"{code}: {message}")
        self.code, self.message = code, message


class Control:
    def __init__(self, path, timeout=5.0):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(timeout)
        self.socket.connect(path)
        self.lines = self.socket.makefile("rb")
        self.next_id = 0

    def send_raw(self, data):
        self.socket.sendall(data)

    def read(self):
        line = self.lines.readline()
        if not line:
            raise ConnectionError("the control socket was closed")
        return json.loads(line)

    def call(self, verb, **args):
        self.next_id += 1
        self.send_raw(json.dumps({"id": self.next_id, "do": verb, "args": args}).encode() + b"\n")
        while True:
            answer = self.read()
            if answer.get("id") == self.next_id:
                break
        if "error" in answer:
            raise ControlError(answer["error"]["code"], answer["error"]["message"])
        return answer["ok"]

    def close(self):
        self.lines.close()
        self.socket.close()
