# SPDX-License-Identifier: GPL-2.0-or-later
"""An etcd cluster of one or more members, on one address of a namespace. Its data is gone with its folder."""
import http.client
import json
import os
import signal
import ssl

from . import paths, process

CLIENT_PORT, PEER_PORT = 2379, 2479  # of the first member; the next ones count up


class Member:
    def __init__(self, cluster, number):
        self.cluster, self.number = cluster, number
        self.name = f"m{number}"
        self.url = f"{cluster.scheme}://{cluster.ip}:{CLIENT_PORT + number}"
        self.peer_url = f"http://{cluster.ip}:{PEER_PORT + number}"
        self.starts = 0
        self.process = None

    def start(self):
        cluster = self.cluster
        everybody = ",".join(f"{member.name}={member.peer_url}" for member in cluster.members)
        args = [paths.ETCD, "--name", self.name, "--data-dir", os.path.join(cluster.folder, self.name),
                "--listen-client-urls", self.url, "--advertise-client-urls", self.url,
                "--listen-peer-urls", self.peer_url, "--initial-advertise-peer-urls", self.peer_url,
                "--initial-cluster", everybody, "--heartbeat-interval", "50", "--election-timeout", "500",
                "--log-level", "warn"] + cluster.tls_args
        self.starts += 1
        log = os.path.join(cluster.folder, f"{self.name}-{self.starts}.log")
        self.process = cluster.lab.keep(process.Process(cluster.ns, args, log))
        return self

    def kill(self):
        self.process.kill()

    def freeze(self):
        self.process.signal(signal.SIGSTOP)

    def thaw(self):
        self.process.signal(signal.SIGCONT)

    def ask(self, path, body=None, timeout=2.0):
        """One request to this member; the answer as an object, or None."""
        with self.cluster.ns.inside():
            port = CLIENT_PORT + self.number
            if self.cluster.client_tls:
                connection = http.client.HTTPSConnection(self.cluster.ip, port, timeout=timeout,
                                                         context=self.cluster.client_tls)
            else:
                connection = http.client.HTTPConnection(self.cluster.ip, port, timeout=timeout)
            try:
                connection.request("POST", path, json.dumps(body or {}))
                answer = connection.getresponse()
                data = answer.read()
                return json.loads(data) if answer.status == 200 else None
            except (OSError, ValueError, ssl.SSLError, http.client.HTTPException):
                return None
            finally:
                connection.close()

    @property
    def leads(self):
        status = self.ask("/v3/maintenance/status") or {}
        return status.get("leader") == status.get("header", {}).get("member_id", "")

    def serves(self):
        """The majority answers through this member."""
        return self.ask("/v3/kv/range", {"key": "Zm9v"}) is not None


class Cluster:
    """`tls`: a dictionary of files ca, server_cert, server_key and, if clients need certificates, client_cert, client_key."""

    def __init__(self, lab, ns, ip, size, folder, tls=None):
        self.lab, self.ns, self.ip, self.folder = lab, ns, ip, str(folder)
        self.scheme, self.tls_args, self.client_tls = "http", [], None
        if tls:
            self.scheme = "https"
            self.tls_args = ["--cert-file", tls["server_cert"], "--key-file", tls["server_key"]]
            self.client_tls = ssl.create_default_context(cafile=tls["ca"])
            if "client_cert" in tls:
                self.tls_args += ["--trusted-ca-file", tls["ca"], "--client-cert-auth"]
                self.client_tls.load_cert_chain(tls["client_cert"], tls["client_key"])
        self.members = [Member(self, number) for number in range(size)]
        for member in self.members:
            member.start()
        self.wait()

    def wait(self, members=None):
        for member in members or self.members:
            process.wait_for(lambda: f"etcd {member.name} serves; it says: {member.process.output()[-500:]}",
                             member.serves, 60, 0.1)

    @property
    def leader(self):
        return process.wait_for("a leader", lambda: next((m for m in self.members if m.process.alive and m.leads), None))

    def address(self, order=None, prefix=""):
        """The arbiter's address; `order`: which members it names, and in which order."""
        numbers = order if order is not None else range(len(self.members))
        return "etcd:" + ",".join(self.members[number].url for number in numbers) + prefix
