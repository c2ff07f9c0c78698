# SPDX-License-Identifier: GPL-2.0-or-later
"""Network namespaces without names: one lives as long as our descriptor or a process in it, so that none can be left behind."""
import contextlib
import ctypes
import os
import subprocess

CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def _check(result, what):
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


class NetNs:
    def __init__(self, name):
        self.name = name
        before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            _check(_libc.unshare(CLONE_NEWNET), "new network namespace (root is needed)")
            self.fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
            self._settle()
        finally:
            _check(_libc.setns(before, CLONE_NEWNET), "back to our network namespace")
            os.close(before)
        self.inode = os.fstat(self.fd).st_ino

    def _settle(self):
        """Inside: no IPv6, whose chatter would disturb the tests; loopback up."""
        for scope in ("all", "default"):
            path = f"/proc/sys/net/ipv6/conf/{scope}/disable_ipv6"
            if os.path.exists(path):
                with open(path, "w", encoding="ascii") as handle:
                    handle.write("1")
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)

    @property
    def path(self):
        return f"/proc/{os.getpid()}/fd/{self.fd}"

    @contextlib.contextmanager
    def inside(self):
        """The calling thread is in the namespace; sockets and processes made there stay in it."""
        before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            _check(_libc.setns(self.fd, CLONE_NEWNET), f"network namespace {self.name}")
            yield
        finally:
            _check(_libc.setns(before, CLONE_NEWNET), "back to our network namespace")
            os.close(before)

    def ip(self, command):
        """Runs one ip(8) command, given as one string, inside."""
        with self.inside():
            done = subprocess.run(["ip"] + command.split(), capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"{self.name}: ip {command}: {done.stderr.strip()}")
        return done.stdout

    def close(self):
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
