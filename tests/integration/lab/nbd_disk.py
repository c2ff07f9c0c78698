# SPDX-License-Identifier: GPL-2.0-or-later
"""A relocating disk and its source as processes, and clients for them. No network and no guest: unix sockets in a folder."""
import glob
import json
import os
import random
import signal
import socket
import subprocess
import time

import nbd

from lab import paths, process

PLUGIN = os.path.join(paths.BUILD, "src", "nbdkit", "nbdkit-futago-plugin.so")
MB = 1 << 20


class Server:
    """An nbdkit on a unix socket, or with `tcp` ("IP:PORT") where `words` say. `words` come after nbdkit's own options: filters, plugin,
    parameters."""

    def __init__(self, folder, name, *words, threads=64, env=None, tcp=None):
        self.socket, self.log = os.path.join(folder, name + ".sock"), os.path.join(folder, name + ".log")
        self.command = ["nbdkit", "--foreground", "--threads", str(threads), *([] if tcp else ["--unix", self.socket]), *words]
        self.tcp = tcp
        self.env, self.popen = env, None
        self.start()

    def start(self):
        if os.path.exists(self.socket):
            os.unlink(self.socket)
        with open(self.log, "ab") as out:
            self.popen = subprocess.Popen(["setpriv", "--pdeathsig", "KILL"] + self.command, stdout=out, stderr=subprocess.STDOUT,
                                          stdin=subprocess.DEVNULL, env=process.environment(self.env))
        process.wait_for(lambda: f"{self.command}:\n{self.output()}", self.is_up)

    def is_up(self):
        assert self.popen.poll() is None, self.output()
        if self.tcp:
            ip, port = self.tcp.split(":")
            with socket.socket() as probe:
                return probe.connect_ex((ip, int(port))) == 0
        return os.path.exists(self.socket) and client_of(self)

    @property
    def uri(self):
        return f"nbd+unix:///?socket={self.socket}"

    def output(self):
        with open(self.log, encoding="utf-8", errors="replace") as handle:
            return handle.read()

    def kill(self):
        self.popen.send_signal(signal.SIGKILL)
        self.popen.wait()

    def end(self, timeout=60):
        """SIGTERM; a server that does not heed it is an error."""
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGTERM)
        try:
            return self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def freeze(self):
        """On a busy machine it may be a while until the last of its threads stands."""
        self.popen.send_signal(signal.SIGSTOP)
        process.wait_for("the server stands", lambda: self.thread_states() == {"T"})

    def thread_states(self):
        found = set()
        for path in glob.glob(f"/proc/{self.popen.pid}/task/*/stat"):
            with open(path, encoding="ascii", errors="replace") as handle:
                found.add(handle.read().rsplit(")", 1)[1].split()[0])
        return found

    def thaw(self):
        self.popen.send_signal(signal.SIGCONT)


def client_of(server):
    """A connection, or None while nobody listens."""
    handle = nbd.NBD()
    handle.add_meta_context("base:allocation")
    handle.set_strict_mode(0)
    try:
        handle.connect_uri(server.uri)
    except nbd.Error:
        return None
    return handle


class Disks:
    """Sources and relocating disks in one folder; close() ends what still runs."""

    def __init__(self, folder):
        self.folder, self.servers = str(folder), []
        self.rundir = os.path.join(self.folder, "run")
        self.image, self.cache = os.path.join(self.folder, "source.img"), os.path.join(self.folder, "cache")

    def make_image(self, content):
        """The source's content; runs of zeroes become holes."""
        with open(self.image, "wb") as handle:
            handle.truncate(len(content))
            for at in range(0, len(content), 4096):
                if content[at:at + 4096].strip(b"\0"):
                    handle.seek(at)
                    handle.write(content[at:at + 4096])
        return content

    def add(self, name, *words, **keys):
        server = Server(self.folder, name, *words, **keys)
        self.servers.append(server)
        return server

    def source(self, *filters, name="source", **keys):
        parameters = [word for word in filters if not word.startswith("--")]
        flags = [word for word in filters if word.startswith("--")]
        return self.add(name, "--readonly", *flags, "file", self.image, *parameters, **keys)

    def disk(self, source, *parameters, name="disk", **keys):
        words = [f"cache={self.cache}", *parameters] + ([f"source={source if isinstance(source, str) else source.uri}"] if source else [])
        return self.add(name, PLUGIN, *words, env={"FUTAGO_RUNDIR": self.rundir}, **keys)

    def refused(self, *parameters):
        """What a disk that must not start says."""
        done = subprocess.run(["nbdkit", "--foreground", "--unix", os.path.join(self.folder, "refused.sock"), PLUGIN, *parameters],
                              capture_output=True, text=True, timeout=30, env=process.environment({"FUTAGO_RUNDIR": self.rundir}), stdin=subprocess.DEVNULL)
        lines = [line for line in done.stderr.splitlines() if line.startswith("nbdkit: error:")]
        assert done.returncode == 1 and len(lines) == 1, done
        return lines[0]

    def read_log(self, server):
        """(offset, bytes) of the reads that a source with --filter=log has seen."""
        with open(os.path.join(self.folder, server), encoding="utf-8") as handle:
            words = [line.split() for line in handle if " Read " in line and "offset=" in line]
        pairs = [{key: value for key, _, value in (word.partition("=") for word in line)} for line in words]
        return [(int(pair["offset"], 16), int(pair["count"], 16)) for pair in pairs]

    def close(self):
        for server in self.servers:
            if server.popen.poll() is None:
                server.thaw()
                server.kill()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def run(*words, timeout=60):
    """Another program, which must succeed; what it said."""
    done = subprocess.run(words, capture_output=True, text=True, timeout=timeout, check=False, env=process.environment(), stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done
    return done.stdout


def content_of(seed, megabytes=4, holes=True):
    """Random pages, and pages of zeroes in runs."""
    rand = random.Random(seed)
    pieces = [bytes(64 << 10) if holes and rand.random() < 0.5 else rand.randbytes(64 << 10) for _ in range(16 * megabytes)]
    return b"".join(pieces)


def futago(disks, *words):
    return subprocess.run([paths.FUTAGO, "disk", *words], capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL,
                          env={**process.environment(), "FUTAGO_RUNDIR": disks.rundir})


def status_of(disks):
    done = futago(disks, "status", "web", "--json")
    assert done.returncode == 0, done
    return json.loads(done.stdout)


def read_all(handle):
    size = handle.get_size()
    return b"".join(bytes(handle.pread(min(MB, size - at), at)) for at in range(0, size, MB))


def wait_complete(server, timeout=30):
    process.wait_for(lambda: f"everything is here:\n{server.output()}", lambda: "FUT-304" in server.output(), timeout=timeout)


def timed(call, *args):
    start = time.monotonic()
    result = call(*args)
    return result, time.monotonic() - start
