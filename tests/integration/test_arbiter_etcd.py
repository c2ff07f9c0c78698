# SPDX-License-Identifier: GPL-2.0-or-later
"""The arbiter "etcd:": one member, three of which some die or freeze, servers that are no etcd, and TLS."""
import base64
import json
import os
import socket
import subprocess
import tempfile
import threading
import time

import pytest
from lab import paths, process
from lab.etcd import Cluster
from lab.network import REP_SWITCH_IP

ROUNDS = 300


@pytest.fixture(scope="module", autouse=True)
def built():
    missing = [path for path in (paths.ETCD, paths.FUT_ARBITER) if not os.path.exists(path)]
    assert not missing, f"{missing}: run ./dev test integration"


@pytest.fixture
def folder(whole_lab):
    """It goes when the laboratory goes: until then its logs may be wanted."""
    return tempfile.mkdtemp(prefix="etcd-", dir=whole_lab.folder)


@pytest.fixture
def single(lab, folder):
    return Cluster(lab, lab.switch, REP_SWITCH_IP, 1, folder)


@pytest.fixture
def three(lab, folder):
    return Cluster(lab, lab.switch, REP_SWITCH_IP, 3, folder)


def arbiter(lab, *words, timeout=60):
    return process.run(lab.hosts[0].ns, [paths.FUT_ARBITER] + [str(word) for word in words], timeout)


def claim(lab, address, generation, node, vm="vm"):
    """(answer, text)"""
    done = arbiter(lab, "claim", address, vm, generation, node)
    assert done.returncode in (0, 1, 2), done.stderr
    answer, _, text = done.stdout.strip().partition(" ")
    assert answer == ("granted", "refused", "unknown")[done.returncode]
    return answer, text


def record(lab, address, vm="vm"):
    done = arbiter(lab, "read", address, vm)
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\n")[0]


class Race:
    """Both hosts claim generation after generation."""

    def __init__(self, lab, address_a, address_b, first=1, count=ROUNDS):
        self.count = count
        self.process = lab.keep(process.Process(
            lab.hosts[0].ns, [paths.FUT_ARBITER, "race", address_a, address_b, "vm", str(first), str(count)],
            lab.hosts[0].log("race")))

    def position(self):
        marks = [line.split()[1] for line in self.process.output().splitlines() if line.startswith("at ")]
        return int(marks[-1]) if marks else -1

    def wait_position(self, position):
        process.wait_for(lambda: f"the race gets to {position}; it says {self.process.output()[-500:]}",
                         lambda: self.position() >= position, 120)

    def finish(self):
        assert self.process.wait(240) in (0, 1), self.process.output()
        result = json.loads(next(line for line in self.process.output().splitlines() if line.startswith("{")))
        assert (result["one"], result["both"], result["none"]) == (self.count, 0, 0), result
        return result


# -- one member --

def test_claims(lab, single):
    address = single.address()
    assert record(lab, address).split() == ["0", "active"]
    assert claim(lab, address, 1, "hostA") == ("granted", "")
    assert claim(lab, address, 1, "hostA") == ("granted", "")  # the answer got lost
    assert claim(lab, address, 1, "hostB") == ("refused", "hostA runs the VM in generation 1")
    assert claim(lab, address, 2, "hostB")[0] == "granted"
    assert claim(lab, address, 1, "hostA")[0] == "refused"
    answer, text = claim(lab, address, 9, "hostA")
    assert answer == "unknown" and "right cluster and prefix" in text
    assert record(lab, address) == "2 hostB active"
    for generation, node in ((1, "hostA"), (2, "hostA"), (3, "hostB")):
        assert arbiter(lab, "release", address, "vm", generation, node).returncode == 0
    assert record(lab, address) == "2 hostB active"
    assert arbiter(lab, "release", address, "vm", 2, "hostB").returncode == 0
    assert record(lab, address) == "3 hostB released"
    assert claim(lab, address, 2, "hostB")[0] == "refused"
    assert claim(lab, address, 3, "hostA")[0] == "refused"


def test_keys(lab, single):
    """The key is PREFIX/VM, the value the record's line; VMs and prefixes are apart; a damaged record decides nothing."""
    claim(lab, single.address(), 1, "hostA")
    claim(lab, single.address(), 1, "hostB", vm="other")
    claim(lab, single.address(prefix="/site/one/"), 1, "hostC")
    kvs = single.members[0].ask("/v3/kv/range", {"key": "AA==", "range_end": "AA=="})["kvs"]
    content = {base64.b64decode(pair["key"]).decode(): base64.b64decode(pair["value"]).decode() for pair in kvs}
    assert content == {"/futago/vm": "futago-arbiter 1 generation=1 holder=hostA state=active\n",
                       "/futago/other": "futago-arbiter 1 generation=1 holder=hostB state=active\n",
                       "/site/one/vm": "futago-arbiter 1 generation=1 holder=hostC state=active\n"}
    for value in (b"", b"x", b"futago-arbiter 1 generation=1 holder=hostA state=active\n\0"):
        single.members[0].ask("/v3/kv/put", {"key": base64.b64encode(b"/futago/vm").decode(),
                                             "value": base64.b64encode(value).decode()})
        answer, text = claim(lab, single.address(), 2, "hostB")
        assert answer == "unknown" and "/futago/vm is damaged" in text


def test_identity(lab, single, folder):
    """Another prefix and another cluster are told apart, also one that was set up alike."""
    addresses = (single.address(), single.address(prefix="/site"))
    told = [arbiter(lab, "identify", address, "vm").stdout.strip() for address in addresses]
    assert len(set(told)) == 2 and all(text.startswith("etcd, token ") for text in told), told
    assert told == [arbiter(lab, "identify", address, "vm").stdout.strip() for address in addresses]
    single.members[0].kill()
    os.makedirs(f"{folder}/alike")
    alike = Cluster(lab, lab.switch, REP_SWITCH_IP, 1, f"{folder}/alike")
    assert arbiter(lab, "identify", alike.address(), "vm").stdout.strip() not in told
    alike.members[0].ask("/v3/kv/put", {"key": base64.b64encode(b"/futago/vm/token").decode(), "value": "eA=="})
    refused = arbiter(lab, "identify", alike.address(), "vm")
    assert refused.returncode == 3 and "/futago/vm/token is damaged" in refused.stderr


def test_race(lab, single):
    Race(lab, single.address(), single.address()).finish()
    assert record(lab, single.address()).split()[0] == str(ROUNDS)


def test_member_gone_and_back(lab, single):
    address = single.address()
    assert claim(lab, address, 1, "hostA")[0] == "granted"
    single.members[0].kill()
    answer, text = claim(lab, address, 2, "hostB")
    assert answer == "unknown" and "connect" in text and single.members[0].url in text, text
    single.members[0].start()
    single.wait()
    assert claim(lab, address, 2, "hostB")[0] == "granted"


# -- three members --

def test_race_while_a_member_dies(lab, three):
    """The leader is killed in the middle of the race; the hosts name the members in different orders."""
    race = Race(lab, three.address(), three.address([2, 1, 0]))
    race.wait_position(ROUNDS // 3)
    three.leader.kill()
    race.finish()
    assert record(lab, three.address()).split()[0] == str(ROUNDS)


def test_race_through_a_dead_member(lab, three):
    three.members[0].kill()
    three.wait(three.members[1:])
    Race(lab, three.address(), three.address()).finish()


def test_frozen_member(lab, three):
    """The first member answers nothing, but keeps its connections: the next one is asked in time."""
    frozen = three.leader
    others = [member.number for member in three.members if member is not frozen]
    frozen.freeze()
    three.wait([three.members[number] for number in others])
    started = time.monotonic()
    assert claim(lab, three.address([frozen.number] + others), 1, "hostA")[0] == "granted"
    assert time.monotonic() - started < 5
    frozen.thaw()


def test_majority_gone(lab, three):
    """Nobody is granted anything, in bounded time, until there is a majority again; then exactly one is."""
    addresses = {"hostA": three.address(), "hostB": three.address([2, 1, 0])}
    assert claim(lab, addresses["hostA"], 1, "hostA")[0] == "granted"
    for member in three.members[:2]:
        member.kill()
    for node in ("hostB", "hostA") * 3:
        started = time.monotonic()
        answer, text = claim(lab, addresses[node], 2, node)
        assert answer == "unknown" and text
        assert time.monotonic() - started < 8
    three.members[0].start()
    three.wait([three.members[0], three.members[2]])
    answers = sorted(claim(lab, addresses[node], 2, node)[0] for node in addresses)
    assert answers == ["granted", "refused"]
    holder = record(lab, addresses["hostA"]).split()[1]
    assert claim(lab, addresses[holder], 2, holder)[0] == "granted"


# -- answers that get lost, and what is no etcd --

class Server:
    """A server on the switch that does `serve(connection)` for each connection."""

    def __init__(self, lab, serve):
        with lab.switch.inside():
            self.socket = socket.create_server((REP_SWITCH_IP, 0))
        self.url = f"http://{REP_SWITCH_IP}:{self.socket.getsockname()[1]}"
        self.serve = serve
        self.count = 0
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()
        lab.keep(self)

    def _run(self):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            self.count += 1
            with connection:
                connection.settimeout(10)
                try:
                    self.serve(connection)
                except OSError:
                    pass

    def kill(self):
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.socket.close()
        self.thread.join(15)


def read_request(connection):
    """The whole request, or b"" """
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65536)
        if not more:
            return b""
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


def test_lost_answer(lab, single):
    """A transaction is carried out but its answer is lost: asked again, through another member, it is granted."""
    member = single.members[0]
    lost = []

    def serve(connection):
        request = read_request(connection)
        path = request.split(b" ")[1].decode()
        answer = member.ask(path, json.loads(request.partition(b"\r\n\r\n")[2]))
        if path.endswith("/txn"):
            lost.append(answer)
            return
        body = json.dumps(answer).encode()
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n"
                           b"Content-Length: %d\r\n\r\n%s" % (len(body), body))

    url = Server(lab, serve).url
    assert claim(lab, f"etcd:{url}", 1, "hostA")[0] == "unknown"
    assert lost[0]["succeeded"] is True
    assert claim(lab, f"etcd:{url}", 1, "hostA")[0] == "granted"
    assert claim(lab, f"etcd:{url}", 1, "hostB")[0] == "refused"
    assert len(lost) == 1
    assert claim(lab, f"etcd:{url},{member.url}", 2, "hostB")[0] == "granted"
    assert len(lost) == 2 and record(lab, single.address()) == "2 hostB active"


KEY = base64.b64encode(b"/futago/vm").decode()
LINE = base64.b64encode(b"futago-arbiter 1 generation=1 holder=hostA state=active\n").decode()


def pair_answer(**changes):
    pair = dict({"key": KEY, "mod_revision": "5", "value": LINE}, **changes)
    return json.dumps({"header": {"revision": "5"}, "kvs": [pair]}).encode()


def ok(body, status=b"200 OK"):
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body)


STRANGE = {
    "html": ok(b"<html>welcome</html>"),
    "not found": ok(b"404 page not found", b"404 Not Found"),
    "no leader": ok(b'{"error": "etcdserver: no leader", "code": 14}', b"503 Service Unavailable"),
    "error with 200": ok(b'{"error": "no"}'),
    "empty object": ok(b"{}"),
    "array": ok(b"[]"),
    "moved": b"HTTP/1.1 301 Moved\r\nLocation: http://10.77.1.254:1/\r\nContent-Length: 0\r\n\r\n",
    "nothing": b"",
    "no http": b"SSH-2.0-OpenSSH_9\r\n",
    "huge": ok(b'{"header": {}, "x": "' + b"y" * 3000000 + b'"}'),
    "endless header": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 300000,
    "deep": ok(b'{"header":' + b"[" * 60000),
    "cut": b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{\"header\": {}",
    "other key": ok(pair_answer(key="eA==")),
    "revision is text": ok(pair_answer(mod_revision="x")),
    "revision is a number": ok(pair_answer(mod_revision=5)),
    "revision is below 1": ok(pair_answer(mod_revision="0")),
    "value is no base64": ok(pair_answer(value="%%%")),
    "value is a number": ok(pair_answer(value=1)),
    "value is cut": ok(pair_answer(value=LINE[:-8])),
    "pair is a string": ok(b'{"header": {}, "kvs": ["x"]}'),
}


@pytest.mark.parametrize("what", STRANGE)
def test_no_etcd(lab, what):
    """Whatever answers: nothing is granted or refused, the text says who, and it takes seconds at most."""
    def serve(connection):
        if read_request(connection):
            connection.sendall(STRANGE[what])

    server = Server(lab, serve)
    started = time.monotonic()
    answer, text = claim(lab, f"etcd:{server.url}", 2, "hostB")
    assert answer == "unknown" and (server.url in text or "/futago/vm is damaged" in text), text
    assert len(text) < 600
    assert time.monotonic() - started < 6
    assert server.count >= 1


def test_never_done(lab):
    """Transactions that never succeed: neither granted nor refused, after a bounded number of tries."""
    def serve(connection):
        read_request(connection)
        connection.sendall(ok(pair_answer()))

    server = Server(lab, serve)
    answer, text = claim(lab, f"etcd:{server.url}", 2, "hostB")
    assert answer == "unknown" and "changes all the time" in text
    assert server.count <= 12


def test_trickle(lab, single):
    """A server that sends a byte now and then is left after a while, and the next one asked."""
    def serve(connection):
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
        for _ in range(100):
            connection.sendall(b" ")
            time.sleep(0.1)

    server = Server(lab, serve)
    started = time.monotonic()
    assert claim(lab, f"etcd:{server.url},{single.members[0].url}", 1, "hostA")[0] == "granted"
    assert time.monotonic() - started < 5


# -- TLS --

def make_certificates(folder):
    def openssl(*words):
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    extensions = os.path.join(folder, "extensions")
    with open(extensions, "w", encoding="ascii") as handle:
        handle.write(f"subjectAltName=IP:{REP_SWITCH_IP}\nextendedKeyUsage=serverAuth,clientAuth\n"
                     "subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n")
    for authority in ("ca", "other-ca"):
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                "-subj", f"/CN={authority}", "-addext", "keyUsage=critical,keyCertSign",
                "-keyout", f"{authority}.key", "-out", f"{authority}.pem")
    for name in ("server", "client"):
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}",
                "-keyout", f"{name}.key", "-out", f"{name}.csr")
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2",
                "-extfile", extensions, "-out", f"{name}.pem")
    path = {name: os.path.join(folder, name) for name in os.listdir(folder)}
    return {"ca": path["ca.pem"], "other_ca": path["other-ca.pem"], "server_cert": path["server.pem"],
            "server_key": path["server.key"], "client_cert": path["client.pem"], "client_key": path["client.key"]}


def test_tls(lab, folder):
    """With the right certificates it works; with another authority, without our certificate, or in clear it does not."""
    tls = make_certificates(folder)
    address = Cluster(lab, lab.switch, REP_SWITCH_IP, 1, folder, tls).address()
    ours = f",cert={tls['client_cert']},key={tls['client_key']}"
    assert claim(lab, f"{address},cacert={tls['ca']}{ours}", 1, "hostA")[0] == "granted"
    assert record(lab, f"{address}/,cacert={tls['ca']}{ours}") == "1 hostA active"
    wrong = [f"{address},cacert={tls['other_ca']}{ours}", f"{address}{ours}", f"{address},cacert={tls['ca']}",
             address.replace("https:", "http:")]
    for bad in wrong:
        answer, text = claim(lab, bad, 2, "hostB")
        assert answer == "unknown" and text, bad
    assert record(lab, f"{address},cacert={tls['ca']}{ours}") == "1 hostA active"


def test_login(lab, folder):
    """etcd with users: the right password from a file, also after etcd forgot its token; a wrong one is unknown, and not shown."""
    tls = make_certificates(folder)
    cluster = Cluster(lab, lab.switch, REP_SWITCH_IP, 1, folder,
                      {key: tls[key] for key in ("ca", "server_cert", "server_key")})
    member = cluster.members[0]
    ours = {"permType": 2, "key": base64.b64encode(b"/futago/").decode(), "range_end": base64.b64encode(b"/futago0").decode()}
    for path, body in (("user/add", {"name": "root", "password": "r00t"}), ("user/grant", {"user": "root", "role": "root"}),
                       ("user/add", {"name": "futago", "password": "pass:word"}), ("role/add", {"name": "records"}),
                       ("role/grant", {"name": "records", "perm": ours}),
                       ("user/grant", {"user": "futago", "role": "records"}), ("enable", {})):
        assert member.ask(f"/v3/auth/{path}", body) is not None, path
    secret = os.path.join(folder, "login")

    def login(text):
        with open(secret, "w", encoding="ascii") as handle:
            os.fchmod(handle.fileno(), 0o600)
            handle.write(text)
        return f"{cluster.address()},cacert={tls['ca']},login={secret}"

    address = login("futago:pass:word\n")
    assert claim(lab, address, 1, "hostA") == ("granted", "")
    assert arbiter(lab, "identify", address, "vm").stdout.startswith("etcd, token ")
    race = Race(lab, address, address, 2, 60)
    race.wait_position(20)
    member.kill()
    member.start()
    race.finish()
    assert record(lab, address).split()[0] == "61"
    answer, text = claim(lab, address.rsplit(",login", 1)[0], 62, "hostB")
    assert answer == "unknown" and "user name is empty" in text, text
    answer, text = claim(lab, login("futago:wrong-one\n"), 62, "hostB")
    assert answer == "unknown" and "authentication failed" in text and "wrong-one" not in text, text
    answer, text = claim(lab, login("futago:pass:word\n").replace(",cacert", "/elsewhere,cacert"), 62, "hostB")
    assert answer == "unknown" and "permission denied" in text, text
