# SPDX-License-Identifier: GPL-2.0-or-later
"""futago alone, without a VM: every wrong use gets one line that names the culprit, and the commands do the right thing with
what a VM answers. The VM here is a socket with a script."""
import json
import os
import pty
import re
import shlex
import signal
import socket
import subprocess
import threading
import time

import pytest
from lab import paths


@pytest.fixture
def rundir(tmp_path):
    return tmp_path / "run"


def start(rundir, *args, env=None, **kwargs):
    environment = {**os.environ, "FUTAGO_RUNDIR": str(rundir), **(env or {})}
    return subprocess.Popen([paths.FUTAGO, *map(str, args)], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, **kwargs)


def futago(rundir, *args, env=None, timeout=30):
    process = start(rundir, *args, env=env)
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    return subprocess.CompletedProcess(args, process.returncode, out.decode(), err.decode("utf-8", "replace"))


def check_refused(done, status, *culprits):
    lines = done.stderr.splitlines()
    assert done.returncode == status, done
    assert len(lines) == 1 and lines[0].startswith("futago: "), done
    assert ": " in lines[0][len("futago: "):], f"no remedy: {done}"
    for culprit in culprits:
        assert culprit in lines[0], done
    assert not done.stdout, done


@pytest.fixture
def module(tmp_path):
    """Any file will do as long as QEMU is not there."""
    path = tmp_path / "futago.so"
    path.write_bytes(b"")
    return {"FUTAGO_MODULE": str(path)}


# -- wrong words --

@pytest.mark.parametrize("args, culprits", [
    (["frobnicate"], ["frobnicate"]),
    (["statsu"], ["statsu", "'status'"]),
    (["--frobnicate"], ["--frobnicate"]),
    (["help", "frobnicate"], ["frobnicate"]),
    (["status", "--frobnicate"], ["--frobnicate", "futago status --help"]),
    (["status", "vm", "other"], ["other"]),
    (["status", "a/b"], ["a/b"]),
    (["events"], ["events"]),
    (["stop"], ["stop"]),
    (["stop", "vm", "other"], ["other"]),
    (["failover", "../vm"], ["../vm"]),
    (["grant"], ["grant"]),
    (["grant", "vm"], ["--generation"]),
    (["grant", "vm", "--generation", "0"], ["--generation 0"]),
    (["grant", "vm", "--generation", "two"], ["two"]),
    (["grant", "vm", "--generation", "2", "--node", "a"], ["--node a", "--arbiter"]),
    (["grant", "vm", "--generation", "2", "--arbiter", "manual:"], ["manual:DIR"]),
    (["grant", "vm", "--generation", "2", "--arbiter", "manual:/none/such/folder"], ["/none/such/folder"]),
    (["grant", "vm", "--generation", "2", "--arbiter", "manual:/tmp", "--node", "a b"], ["--node", "a b"]),
    (["unprotect", "x" * 64], ["x" * 64]),
    (["unprotect", ""], ["''"]),
    (["protect"], ["protect"]),
    (["protect", "vm", "--to"], ["--to"]),
    (["protect", "vm", "--to", ""], ["--to"]),
    (["protect", "vm", "--to", "tcp:1.2.3.4:99999"], ["99999"]),
    (["protect", "vm", "--to", "tcp:nowhere"], ["nowhere"]),
    (["protect", "vm", "--to", "10.0.0.1:7", "--wait", "soon"], ["soon"]),
    (["protect", "vm", "--wait", "0"], ["0", "--wait"]),
    (["run"], ["--"]),
    (["run", "--name", "vm"], ["--"]),
    (["run", "--name", "vm", "qemu-system-x86_64", "-m", "256"], ["--"]),
    (["run", "--name", "vm", "--"], ["qemu-system-x86_64"]),
    (["run", "--name", "vm", "--", "-m", "256"], ["qemu-system-x86_64"]),
    (["run", "--", "qemu-system-x86_64"], ["--name"]),
    (["run", "--name", "vm", "stray", "--", "qemu-system-x86_64"], ["stray"]),
    (["run", "--name", "vm", "--frobnicate", "--", "qemu-system-x86_64"], ["--frobnicate"]),
    (["run", "--name", "vm", "--listen", "localhost:7", "--", "qemu-system-x86_64"], ["--listen"]),
    (["run", "--name", "a/b", "--", "qemu-system-x86_64"], ["a/b"]),
    (["run", "--name", "", "--", "qemu-system-x86_64"], ["--name"]),
    (["run", "--name", "vm", "--node", "a b", "--", "qemu-system-x86_64"], ["--node", "a b"]),
    (["run", "--name", "vm", "--mode", "sideways", "--", "qemu-system-x86_64"], ["sideways", "pipeline"]),
    (["run", "--name", "vm", "--arbiter", "oracle:delphi", "--", "qemu-system-x86_64"], ["oracle:delphi", "file:DIR"]),
    (["run", "--name", "vm", "--arbiter", "file:", "--", "qemu-system-x86_64"], ["file:"]),
    (["run", "--name", "vm", "--timeout-ms", "soon", "--", "qemu-system-x86_64"], ["--timeout-ms", "soon"]),
    (["run", "--name", "vm", "--verify", "-1", "--", "qemu-system-x86_64"], ["--verify", "-1"]),
    (["run", "--name", "vm", "--epoch-max-us", "9" * 30, "--", "qemu-system-x86_64"], ["--epoch-max-us"]),
    (["run", "--name", "vm", "--protect-to", "tcp:nowhere", "--", "qemu-system-x86_64"], ["--protect-to", "nowhere"]),
    (["run", "--name", "vm", "--protect-to", "10.0.0.1:7", "--", "qemu-system-x86_64"], ["10.0.0.1:7", "--insecure"]),
    (["run", "--name", "vm", "--print", "--protect-to", "10.0.0.1:7"], ["10.0.0.1:7", "--insecure"]),
    (["standby", "--name", "vm", "--", "qemu-system-x86_64"], ["--listen"]),
    (["standby", "--name", "vm", "--print"], ["--listen"]),
    (["standby", "--name", "vm", "--listen", "0.0.0.0:7", "--", "qemu-system-x86_64"], ["0.0.0.0:7", "--insecure"]),
    (["standby", "--name", "vm", "--listen", "[::]:7", "--", "qemu-system-x86_64"], ["[::]:7", "--insecure"]),
    (["standby", "--name", "vm", "--listen", "localhost", "--", "qemu-system-x86_64"], ["localhost"]),
    (["standby", "--name", "vm", "--listen", "localhost:7", "--", "qemu-system-x86_64"], ["--arbiter", "both hosts"]),
    (["run", "--name", "vm", "--protect-to", "localhost:7", "--", "qemu-system-x86_64"], ["--arbiter", "both hosts"]),
])
def test_wrong_words(rundir, module, args, culprits):
    check_refused(futago(rundir, *args, env=module), 2, *culprits)
    assert not rundir.exists()


def test_no_words(rundir):
    done = futago(rundir)
    assert done.returncode == 2 and "usage: futago" in done.stderr and not done.stdout


def test_help_and_version(rundir):
    for words in (["help"], ["--help"], ["-h"]):
        done = futago(rundir, *words)
        assert done.returncode == 0 and not done.stderr
        commands = [line.split()[0] for line in done.stdout.splitlines() if line.startswith("  ")]
    assert {"run", "standby", "protect", "unprotect", "failover", "grant", "status", "events", "probe", "stop"} < set(commands)
    for command in set(commands) - {"help"}:
        for words in (["help", command], [command, "--help"]):
            done = futago(rundir, *words)
            assert done.returncode == 0 and f"futago {command}" in done.stdout, done
    version = futago(rundir, "--version")
    assert version.returncode == 0 and version.stdout.startswith("futago ") and version.stdout.split()[1][0].isdigit()


# -- what is started --

def test_module_missing(rundir, tmp_path):
    done = futago(rundir, "run", "--name", "vm", "--", "true", env={"FUTAGO_MODULE": str(tmp_path / "none.so")})
    check_refused(done, 2, "none.so")
    done = futago(rundir, "run", "--name", "vm", "--", "true", env={"FUTAGO_MODULE": str(tmp_path)})
    check_refused(done, 2, str(tmp_path))


def test_qemu_missing(rundir, module, tmp_path):
    check_refused(futago(rundir, "run", "--name", "vm", "--", "no-such-qemu", env=module), 1, "no-such-qemu")
    plain = tmp_path / "not-a-program"
    plain.write_text("")
    check_refused(futago(rundir, "run", "--name", "vm", "--", plain, env=module), 1, "not-a-program")


def test_becomes_qemu(rundir, module):
    """The program after -- gets our words, then its own."""
    done = futago(rundir, "run", "--name", "vm", "--node", "n", "--", "echo", "-m", "a b", "--", "--name", env=module)
    plugin = f"file={module['FUTAGO_MODULE']},role=primary,name=vm,node=n"
    assert done.stdout == f"-plugin {plugin} -m a b -- --name\n", done
    done = futago(rundir, "standby", "--name", "vm", "--listen", "unix:/a,b", "--arbiter", "file:/a", "--", "echo", env=module)
    assert done.stdout == f"-S -plugin file={module['FUTAGO_MODULE']},role=backup,name=vm,arbiter=file:/a,listen=unix:/a,,b\n", done


def test_keeps_its_process(rundir, module, tmp_path):
    program = tmp_path / "qemu"
    program.write_text("#!/bin/sh\necho $$\nexit 7\n")
    program.chmod(0o755)
    process = start(rundir, "run", "--name", "vm", "--", program, env=module)
    out = process.communicate(timeout=30)[0]
    assert (int(out), process.returncode) == (process.pid, 7)


def test_print(rundir, module):
    done = futago(rundir, "run", "--name", "vm", "--arbiter", "file:/with blank", "--insecure", "--print", env=module)
    assert done.returncode == 0
    words = shlex.split(done.stdout)
    assert words == ["-plugin", f"file={module['FUTAGO_MODULE']},role=primary,name=vm,arbiter=file:/with blank,insecure=on"]
    done = futago(rundir, "standby", "--name", "vm", "--listen", "localhost:7", "--arbiter", "file:/a", "--print", env=module)
    assert shlex.split(done.stdout)[:2] == ["-S", "-plugin"]
    done = futago(rundir, "run", "--name", "vm", "--print", "--", "no-such-qemu", "-m", "5", env=module)
    assert done.returncode == 0 and "no-such-qemu" not in done.stdout and done.stdout.startswith("-plugin ")


def test_full_output(rundir):
    with open("/dev/full", "w", encoding="ascii") as full:
        done = subprocess.run([paths.FUTAGO, "--version"], stdout=full, stderr=subprocess.PIPE, check=False, text=True)
    assert done.returncode == 1 and "cannot write" in done.stderr


# -- without a VM --

COMMANDS = [["status", "vm"], ["events", "vm"], ["stop", "vm"], ["failover", "vm"], ["unprotect", "vm"],
            ["grant", "vm", "--generation", "2"], ["protect", "vm", "--to", "localhost:7"]]


@pytest.mark.parametrize("args", COMMANDS)
def test_no_such_vm(rundir, args):
    check_refused(futago(rundir, *args), 1, "'vm'", "vm.sock")


@pytest.mark.parametrize("args", COMMANDS)
def test_stale_socket(rundir, args):
    rundir.mkdir()
    with socket.socket(socket.AF_UNIX) as left_over:
        left_over.bind(str(rundir / "vm.sock"))
        left_over.listen()
    check_refused(futago(rundir, *args), 1, "'vm'", "left over")
    assert (rundir / "vm.sock").exists()


def test_list_without_vms(rundir):
    done = futago(rundir, "status")
    assert done.returncode == 0 and str(rundir) in done.stdout
    assert json.loads(futago(rundir, "status", "--json").stdout) == []


def test_rundir_too_long(tmp_path):
    check_refused(futago(tmp_path / ("x" * 120), "status", "vm"), 2, "FUTAGO_RUNDIR")


# -- with a VM that answers from a script --

STATUS = {"vm": "vm", "node": "hostA", "role": "primary", "state": "protected", "mode": "pipeline", "linked": True, "running": True,
          "generation": 3, "epoch": 17, "committed": 16, "peer": "hostB", "reason": "", "checkpoints_per_s": 40.0,
          "pause_us": {"p50": 90.0, "p99": 250.0}, "commit_us": {"p50": 200.0, "p99": 1250.0}, "lag_us": 300, "copy_share": 1.0}


class FakeVm:
    """Listens as a VM does. `answer(verb, args, count)` gives the lines to send, or None to hang up; count: calls of that verb."""

    def __init__(self, rundir, answer, name="vm"):
        rundir.mkdir(exist_ok=True)
        self.answer, self.calls = answer, []
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(rundir / f"{name}.sock"))
        self.listener.listen()
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                client = self.listener.accept()[0]
            except OSError:
                return
            with client, client.makefile("rwb") as stream:
                self.converse(stream)

    def converse(self, stream):
        for line in stream:
            request = json.loads(line)
            self.calls.append((request["do"], request.get("args")))
            count = sum(1 for verb, _ in self.calls if verb == request["do"])
            lines = self.answer(request["do"], request.get("args"), count)
            if lines is None:
                return
            for message in lines:
                raw = message if isinstance(message, bytes) else json.dumps({"id": request["id"], **message}).encode()
                try:
                    stream.write(raw + b"\n")
                    stream.flush()
                except BrokenPipeError:
                    return

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


@pytest.fixture
def fake(rundir):
    """fake(answer, name): a VM; fake(**status members): one that only tells its status."""
    vms = []

    def make(answer=None, name="vm", **members):
        vms.append(FakeVm(rundir, answer or (lambda verb, args, count: [{"ok": {**STATUS, **members} if verb == "status" else {}}]),
                          name))
        return vms[-1]
    yield make
    for vm in vms:
        vm.close()


def refusal(code, message):
    return [{"error": {"code": code, "message": message}}]


def test_status_of_one(rundir, fake):
    fake()
    done = futago(rundir, "status", "vm")
    facts = dict(line.split(None, 1) for line in done.stdout.splitlines())
    assert done.returncode == 0
    assert facts["state"] == "protected" and facts["generation"] == "3" and facts["committed"] == "16"
    assert facts["protects"].startswith("yes") and facts["peer"].startswith("hostB") and facts["role"].startswith("primary on hostA")
    assert json.loads(futago(rundir, "status", "vm", "--json").stdout) == STATUS


def test_status_tells_why_not(rundir, fake):
    fake(state="connecting", linked=False, reason="tcp:10.0.0.2:7100: connection refused")
    words = futago(rundir, "status", "vm").stdout
    assert "connection refused" in words and "protects             no" in words


def test_status_of_all(rundir, fake):
    fake(name="vm")
    fake(name="a-vm", state="alone", peer="")
    fake(lambda verb, args, count: None, name="mute")
    with socket.socket(socket.AF_UNIX) as left_over:
        left_over.bind(str(rundir / "old.sock"))
    done = futago(rundir, "status")
    rows = [line.split() for line in done.stdout.splitlines()]
    assert done.returncode == 0 and rows[0][:3] == ["VM", "ROLE", "STATE"]
    # The name in a row is the VM's own word.
    assert [row[2] for row in rows[1:]] == ["alone", "no", "ended", "protected"], done.stdout
    told = json.loads(futago(rundir, "status", "--json").stdout)
    assert [vm.get("state") or vm["error"] for vm in told] == ["alone", "no answer", "ended", "protected"]


def test_status_watched(rundir, fake):
    fake()
    process = start(rundir, "status", "vm", "--watch", "--json")
    looks = [json.loads(process.stdout.readline()) for _ in range(2)]
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=10)
    assert looks == [STATUS, STATUS] and process.returncode == -signal.SIGINT


def test_watch_ends_with_the_vm(rundir, fake):
    fake(lambda verb, args, count: [{"ok": STATUS}] if count == 1 else None)
    done = futago(rundir, "status", "vm", "--watch")
    assert done.returncode == 1 and "protected" in done.stdout and len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("lines", [[b"nonsense"], [b"[]"], [b"x" * 70000], [{}], [{"ok": 5}], [{"error": "x"}], [b"\xff\x00"]])
def test_vm_that_talks_nonsense(rundir, fake, lines):
    fake(lambda verb, args, count: lines)
    check_refused(futago(rundir, "status", "vm"), 1, "VM")


def test_vm_that_does_not_answer(rundir, fake):
    fake(lambda verb, args, count: [])
    check_refused(futago(rundir, "status", "vm"), 1, "'vm'", "does not answer")


def test_vm_that_hangs_up(rundir, fake):
    fake(lambda verb, args, count: None)
    check_refused(futago(rundir, "unprotect", "vm"), 1, "'vm'", "ended")


@pytest.mark.parametrize("code, status", [("state", 1), ("arg", 2), ("refused", 1), ("of another version", 1)])
def test_refusals_of_the_vm(rundir, fake, code, status):
    fake(lambda verb, args, count: refusal(code, "culprit\nin two lines: remedy"))
    for words in COMMANDS:
        check_refused(futago(rundir, *words), status, "culprit in two lines: remedy")


def test_protect(rundir, fake):
    vm = fake()
    assert futago(rundir, "protect", "vm", "--to", "10.0.0.2:7100").returncode == 0
    assert vm.calls == [("protect", {"to": "tcp:10.0.0.2:7100"})]
    assert futago(rundir, "protect", "vm").returncode == 0
    assert vm.calls[-1] == ("protect", {})


def states(*names, **members):
    """A VM that goes from state to state, one a look, and stays in the last one."""
    def answer(verb, args, count):
        if verb != "status":
            return [{"ok": {}}]
        return [{"ok": {**STATUS, "state": names[min(count, len(names)) - 1], **members}}]
    return answer


def test_protect_waits(rundir, fake):
    fake(states("connecting", "greeting", "copying", "settling", "protecting", "protected"))
    done = futago(rundir, "protect", "vm", "--wait", "20")
    assert (done.returncode, done.stdout) == (0, "vm: protected\n"), done


def test_protect_shows_progress(rundir, fake):
    """On a terminal: one line that is written over."""
    fake(states("copying", "copying", "protected", copy_share=0.42))
    ours, theirs = pty.openpty()
    environment = {**os.environ, "FUTAGO_RUNDIR": str(rundir)}
    done = subprocess.run([paths.FUTAGO, "protect", "vm", "--wait", "20"], env=environment, stdout=theirs, check=False, timeout=30)
    os.close(theirs)
    shown = os.read(ours, 65536).decode()
    os.close(ours)
    assert done.returncode == 0
    assert "vm: copying, 42 % copied" in shown and shown.count("\n") == 1 and shown.endswith("vm: protected\r\n"), shown


def test_protect_fails(rundir, fake):
    fake(states("connecting", "alone", reason="the backup's machine differs: start it with -M q35"))
    check_refused(futago(rundir, "protect", "vm", "--wait", "20"), 1, "not protected", "-M q35")


def test_protect_takes_too_long(rundir, fake):
    fake(states("connecting", reason="connection refused"))
    before = time.monotonic()
    done = futago(rundir, "protect", "vm", "--wait", "1")
    check_refused(done, 1, "after 1 s", "connecting", "connection refused")
    assert 1 <= time.monotonic() - before < 5


def test_failover_waits(rundir, fake):
    fake(states("protected", "handing", "handing", "fenced"))
    assert futago(rundir, "failover", "vm", "--wait").returncode == 0


def test_failover_comes_to_nothing(rundir, fake):
    fake(states("protected", "handing", "alone", reason="the backup was lost"))
    check_refused(futago(rundir, "failover", "vm", "--wait"), 1, "not handed over", "the backup was lost")


def test_failover_asked_of_the_backup(rundir, fake):
    looks = [("backup", "standby", False)] * 3 + [("backup", "claiming", False), ("backup", "taking", False), ("primary", "alone", True)]

    def answer(verb, args, count):
        role, state, running = looks[min(count, len(looks)) - 1]
        return [{"ok": {**STATUS, "role": role, "state": state, "running": running} if verb == "status" else {}}]
    vm = fake(answer)
    assert futago(rundir, "failover", "vm", "--wait").returncode == 0
    assert ("failover", None) in vm.calls and len(vm.calls) == len(looks) + 1


def test_failover_fails_on_the_backup(rundir, fake):
    fake(states("standby", "taking", "failed", role="backup", running=False, reason="device state: virtio-net"))
    check_refused(futago(rundir, "failover", "vm", "--wait"), 1, "not taken over", "virtio-net")


def test_grant(rundir, fake):
    vm = fake(lambda verb, args, count: [{"ok": {}}])
    assert futago(rundir, "grant", "vm", "--generation", "7").returncode == 0
    assert vm.calls == [("grant", {"generation": 7})]


def test_grant_before_the_start(rundir, tmp_path):
    """It goes into the arbiter's folder, for this host unless said; other arbiters ask nobody."""
    arbiter = f"manual:{tmp_path}/arbiter"
    for words, node in (((), socket.gethostname()), (("--node", "hostA"), "hostA")):
        done = futago(rundir, "grant", "vm", "--generation", "3", "--arbiter", arbiter, *words)
        assert done.returncode == 0 and not done.stdout and not done.stderr
        grant = (tmp_path / "arbiter" / "vm.grant").read_text(encoding="ascii")
        assert grant.startswith(f"futago-grant 1 generation=3 node={node} until=")
    check_refused(futago(rundir, "grant", "vm", "--generation", "3", "--arbiter", f"file:{tmp_path}/arbiter"), 1, "file:", "decides")


def test_stop_waits_for_the_end(rundir, fake):
    def answer(verb, args, count):
        time.sleep(0.3)
        return None
    vm = fake(answer)
    before = time.monotonic()
    assert futago(rundir, "stop", "vm").returncode == 0
    assert time.monotonic() - before >= 0.3 and vm.calls == [("stop", None)]


def test_stop_after_an_answer(rundir, fake):
    """The answer comes, the end later."""
    rundir.mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(rundir / "vm.sock"))
        listener.listen()
        process = start(rundir, "stop", "vm")
        client = listener.accept()[0]
        request = json.loads(client.recv(4096))
        client.sendall(json.dumps({"id": request["id"], "ok": {}}).encode() + b"\n")
        time.sleep(0.5)
        assert process.poll() is None
        client.close()
        assert process.wait(10) == 0


def test_events(rundir, fake):
    told = [{"event": "FUT-101", "time": 1700000000.25, "text": "connected to hostB: copying memory"},
            {"event": "FUT-102", "time": 1700000001.5, "text": "protected"}]

    def answer(verb, args, count):
        return [{"ok": {}}] + [json.dumps(event).encode() for event in told] + [b'{"id":99,"ok":{}}']
    fake(answer)
    process = start(rundir, "events", "vm", env={"TZ": "UTC"})
    lines = [process.stdout.readline().decode() for _ in told]
    process.terminate()
    process.communicate(timeout=10)
    assert lines == ["2023-11-14 22:13:20.250 FUT-101 connected to hostB: copying memory\n",
                     "2023-11-14 22:13:21.500 FUT-102 protected\n"]
    process = start(rundir, "events", "vm", "--json")
    lines = [json.loads(process.stdout.readline()) for _ in told]
    process.terminate()
    process.communicate(timeout=10)
    assert lines == told


def test_events_end_with_the_vm(rundir):
    rundir.mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(rundir / "vm.sock"))
        listener.listen()
        process = start(rundir, "events", "vm")
        client = listener.accept()[0]
        request = json.loads(client.recv(4096))
        client.sendall(json.dumps({"id": request["id"], "ok": {}}).encode() + b'\n{"event":"FUT-1","time":1,"text":"last words"}\n')
        client.close()
        out, err = process.communicate(timeout=10)
    assert process.returncode == 1 and out.decode().endswith("FUT-1 last words\n")
    assert err.decode().startswith("futago: VM 'vm' has ended")


# -- what is written about it --

def commands_and_options(rundir):
    listed = [line.split()[0] for line in futago(rundir, "help").stdout.splitlines() if line.startswith("  ")]
    for command in listed:
        if command != "help":
            text = futago(rundir, command, "--help").stdout
            for word in re.findall(rf"futago {command} ([a-z]+) --help", text):
                text += futago(rundir, command, word, "--help").stdout
            yield command, sorted(set(re.findall(r"--[a-z][a-z-]+", text)) - {"--help"})


# Named in a command's page, but another command's.
OPTIONS_OF_OTHERS = {"status": {"--go", "--ready"}, "health": {"--filter"}, "relocate": {"--port", "--readonly"}, "restore": {"--hash", "--hctosys"}}


def test_manual_has_every_option(rundir):
    pages = os.path.join(paths.ROOT, "docs", "man")
    for command, options in commands_and_options(rundir):
        with open(os.path.join(pages, f"futago-{command}.1"), encoding="ascii") as handle:
            page = handle.read()
        sections = re.findall(r"^\.SH (.+)$", page, re.M)
        if "FILES" in sections:
            sections.remove("FILES")
        assert sections == ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXIT STATUS", "EXAMPLES", "SEE ALSO"], command
        known = set(re.findall(r"--[a-z][a-z-]+", page.replace("\\-", "-"))) - {"--help"}
        assert known >= set(options), command
        others = known - set(options) - {"--protect-to", "--tls", "--insecure", "--shared-disk"}
        assert others <= OPTIONS_OF_OTHERS.get(command, set()), f"{command}: options it does not have"


def complete(rundir, *words):
    """What bash offers for the last word."""
    script = os.path.join(paths.ROOT, "packaging", "completion", "futago.bash")
    program = 'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _futago; printf "%s\n" "${COMPREPLY[@]}"'
    done = subprocess.run(["bash", "-c", program, "bash", script, *words], env={**os.environ, "FUTAGO_RUNDIR": str(rundir)},
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=True, text=True, timeout=10)
    assert not done.stderr, done
    return done.stdout.split()


def test_completion(rundir, fake):
    fake(name="web")
    for command, options in commands_and_options(rundir):
        assert command in complete(rundir, "futago", "")
        assert sorted(complete(rundir, "futago", command, "--")) == sorted(options + ["--help"]), command
    assert complete(rundir, "futago", "st") == ["standby", "status", "stop"]
    assert complete(rundir, "futago", "status", "") == ["web"]
    assert complete(rundir, "futago", "protect", "web", "--to", "") == []
    assert complete(rundir, "futago", "run", "--mode", "p") == ["pipeline"]
    assert complete(rundir, "futago", "probe", "") == ["add", "disable", "enable", "list", "remove", "suggest", "watch"]
    assert complete(rundir, "futago", "probe", "watch", "") == ["web"]
    assert complete(rundir, "futago", "probe", "add", "web", "oo") == ["oom", "oops"]
    assert complete(rundir, "futago", "help", "sto") == ["stop"]
    assert complete(rundir, "futago", "disk", "re") == ["resume"]
    assert complete(rundir, "futago", "disk", "policy", "x", "s") == ["sequential"]
    assert paths.FUTAGO in complete(rundir, "futago", "run", "--", "true", paths.FUTAGO[:-1])


def test_probe_suggest(rundir):
    """Shipped probes by symptom, the best first, for people and programs; a symptom that nothing fits is an error that says what to ask."""
    done = futago(rundir, "probe", "suggest", "out", "of", "memory", "--json")
    assert done.returncode == 0 and not done.stderr, done
    found = json.loads(done.stdout)
    assert found[0]["name"] == "oom" and found[0]["functions"] == ["oom_kill_process"] and found[0]["severity"] == "error", found
    done = futago(rundir, "probe", "suggest", "disk full")
    assert done.returncode == 0 and done.stdout.startswith("disk-full "), done
    done = futago(rundir, "probe", "suggest", "xyzzy")
    assert done.returncode == 1 and not done.stdout, done
    assert done.stderr.startswith("futago: no probe in ") and "fits 'xyzzy': name what fails" in done.stderr and done.stderr.count("\n") == 1, done
    done = futago(rundir, "probe", "suggest")
    assert done.returncode == 2 and done.stderr.startswith("futago: ") and done.stderr.count("\n") == 1, done
