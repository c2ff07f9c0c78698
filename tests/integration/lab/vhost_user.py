# SPDX-License-Identifier: GPL-2.0-or-later
"""The least a vhost-user backend must say for QEMU to accept it: enough to see such a NIC refused by us."""
import socket
import struct
import threading

GET_FEATURES = 1
REPLY = 0x5  # version 1, reply
FEATURE_VERSION_1 = 1 << 32


class VhostUserBackend:
    def __init__(self, path):
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(path)
        self.listener.listen(1)
        self.thread = threading.Thread(target=self._work, daemon=True)
        self.thread.start()

    def _work(self):
        try:
            peer, _ = self.listener.accept()
            with peer, peer.makefile("rb") as messages:
                while header := messages.read(12):
                    request, _, size = struct.unpack("<III", header)
                    messages.read(size)
                    if request == GET_FEATURES:
                        peer.sendall(struct.pack("<IIIQ", GET_FEATURES, REPLY, 8, FEATURE_VERSION_1))
        except (OSError, struct.error):
            pass  # QEMU ended, or kill() closed the listener

    def kill(self):
        try:
            self.listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.listener.close()
        self.thread.join(2)
