# SPDX-License-Identifier: GPL-2.0-or-later
"""Three hosts and a client as network namespaces.

    client 10.77.0.1 ──┐                     ┌── hostA: bridge br0 with the guests' taps
                       ├── switch: bridge vm ┼── hostB
                       │                     └── hostC
    switch: bridge rep 10.77.1.254 (where faulty proxies listen) ── hostA 10.77.1.1, hostB 10.77.1.2, hostC 10.77.1.3
"""
import atexit
import os
import shutil
import signal
import tempfile

from . import paths, process
from .netns import NetNs

TAPS = 4  # for each VM that may run on a host at a time
BRIDGE = "type bridge stp_state 0 forward_delay 0 mcast_snooping 0"
REP_SWITCH_IP = "10.77.1.254"
CLIENT_IPS = ("10.77.0.1", "10.77.2.1", "10.77.3.1", "10.77.4.1")
CLIENT_IP = CLIENT_IPS[0]


class Host:
    """One host: its namespace, its folder of control sockets, its taps."""

    def __init__(self, lab, name, number):
        self.lab, self.name, self.number = lab, name, number
        self.ns = NetNs(name)
        self.rep_ip = f"10.77.1.{number}"
        self.folder = os.path.join(lab.folder, name)
        self.rundir = os.path.join(self.folder, "run")
        os.makedirs(self.folder)
        self._logs = 0
        self._wire()

    def _wire(self):
        switch = self.lab.switch
        for bridge, end in (("vm", "vm0"), ("rep", "rep0")):
            cable = f"{bridge}{self.number}"
            switch.ip(f"link add {cable} type veth peer name {end} netns {self.ns.path}")
            switch.ip(f"link set {cable} master {bridge} up")
        self.ns.ip(f"link add br0 {BRIDGE}")
        self.ns.ip("link set br0 up")
        self.ns.ip("link set vm0 master br0 up")
        self.ns.ip(f"address add {self.rep_ip}/24 dev rep0")
        self.ns.ip("link set rep0 up")
        for tap in self.taps():
            self.ns.ip(f"tuntap add {tap} mode tap")
            self.ns.ip(f"link set {tap} master br0 up")

    def taps(self):
        return [f"tap{number}" for number in range(TAPS)]

    def link_rep(self, up):
        """The replication network's cable on this host."""
        self.ns.ip(f"link set rep0 {'up' if up else 'down'}")

    def log(self, what):
        self._logs += 1
        return os.path.join(self.folder, f"{self._logs:03d}-{what}.log")

    def env(self):
        return {"FUTAGO_RUNDIR": self.rundir}

    def spawn(self, args, what="process"):
        return self.lab.keep(process.Process(self.ns, args, self.log(what), self.env()))

    def run(self, args, timeout=30):
        return process.run(self.ns, args, timeout, self.env())

    def futago(self, *args, timeout=70, check=True):
        """One futago command on this host."""
        done = self.run([paths.FUTAGO] + [str(a) for a in args], timeout)
        if check and done.returncode != 0:
            raise RuntimeError(f"{self.name}: futago {' '.join(map(str, args))}: {done.stderr.strip()}")
        return done


class Client:
    """Where the guests' users are."""

    def __init__(self, lab):
        self.lab, self.name = lab, "client"
        self.ns = NetNs("client")
        self.folder = os.path.join(lab.folder, "client")
        os.makedirs(self.folder)
        self._logs = 0
        lab.switch.ip(f"link add vmc type veth peer name eth0 netns {self.ns.path}")
        lab.switch.ip("link set vmc master vm up")
        for address in CLIENT_IPS:
            self.ns.ip(f"address add {address}/24 dev eth0")
        self.ns.ip("link set eth0 up")

    def spawn(self, args, what="client"):
        self._logs += 1
        return self.lab.keep(process.Process(self.ns, args, os.path.join(self.folder, f"{self._logs:03d}-{what}.log")))

    def run(self, args, timeout=60):
        return process.run(self.ns, args, timeout)


class Lab:
    """All of it. close() leaves nothing behind; it is called at exit in any case."""

    def __init__(self):
        self.closed = False
        self.silence_ms = None  # a VM's --timeout-ms where its options name none; None: futago's own default
        self.processes = []
        self.finalizers = []
        self.folder = tempfile.mkdtemp(prefix=f"futago-lab-{os.getpid()}-")
        atexit.register(self.close)
        self.switch = NetNs("switch")
        self.namespaces = [self.switch]
        for bridge in ("vm", "rep"):
            self.switch.ip(f"link add {bridge} {BRIDGE}")
            self.switch.ip(f"link set {bridge} up")
        self.switch.ip(f"address add {REP_SWITCH_IP}/24 dev rep")
        self.hosts = [Host(self, f"host{letter}", number) for number, letter in enumerate("ABC", 1)]
        self.client = Client(self)
        self.namespaces += [host.ns for host in self.hosts] + [self.client.ns]
        self.arbiter = os.path.join(self.folder, "arbiter")
        os.makedirs(self.arbiter)

    def keep(self, thing):
        """Registers a process (or anything with kill()) to be ended by reset() and close()."""
        self.processes.append(thing)
        return thing

    def reset(self):
        """Ends all processes and forgets all generations; the network stays, healed."""
        for thing in reversed(self.processes):
            try:
                thing.kill()
            except (OSError, TimeoutError):
                pass
        self.processes.clear()
        process.kill_strays()
        shutil.rmtree(self.arbiter, ignore_errors=True)
        os.makedirs(self.arbiter, exist_ok=True)
        for host in self.hosts:
            shutil.rmtree(host.rundir, ignore_errors=True)
            host.link_rep(True)

    def close(self):
        if self.closed:
            return
        self.closed = True
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must not stop the cleaning up
        for thing in reversed(self.processes):
            try:
                thing.kill()
            except (OSError, TimeoutError):
                pass
        process.kill_strays()
        for ns in self.namespaces:
            ns.close()
        shutil.rmtree(self.folder, ignore_errors=True)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        atexit.unregister(self.close)


def end_on_signals(ending=SystemExit):
    """SIGTERM and SIGHUP end us in an orderly way, as Ctrl-C does: that as well where a shell put us into the background,
    which has it ignored."""
    def leave(number, _frame):
        raise ending(128 + number)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, leave)
