# SPDX-License-Identifier: GPL-2.0-or-later
"""futago snapshot on a store, without a VM: what the words print, what they refuse, and that no damage to a file goes unnoticed."""
import fcntl
import json
import os
import re
import shutil
import subprocess

import pytest
from lab import paths, snapshots

MAKE = os.path.join(paths.BUILD, "tests", "tools", "store_make")
COUNT = 3
AREAS = ["pc.ram", "pc.rom", "virtio0"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "store"
    subprocess.run([MAKE, folder, str(COUNT)], check=True)
    return folder


@pytest.fixture
def store(made, tmp_path):
    return shutil.copytree(made, tmp_path / "store")


def snapshot(*args, status=0):
    """Output of the command, and what it says on standard error."""
    done = subprocess.run([paths.FUTAGO, "snapshot", *map(str, args)], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          env={**os.environ, "TZ": "UTC"}, timeout=60, check=False)
    assert done.returncode == status, (args, done)
    return done.stdout, done.stderr


def as_json(*args, status=0):
    return json.loads(snapshot(*args, "--json", status=status)[0])


def ids(store):
    return [one["id"] for one in as_json("list", store)]


# -- what they print --

def test_list_and_show(store):
    lines = snapshot("list", store)[0].splitlines()
    assert lines[0].split() == ["ID", "TIME", "VM", "SINCE", "MEMORY", "DISKS", "STORED", "STOPPED", "REASON"]
    assert [line.split()[:5] for line in lines[1:]] == [
        ["1", "2023-11-14", "22:13:20", "web", "full"], ["2", "2023-11-14", "23:13:20", "web", "1"], ["3", "2023-11-15", "00:13:20", "web", "2"]]
    listed = as_json("list", store)
    assert [(one["id"], one["parent"], one["vm"], one["time"]) for one in listed] == [
        (n + 1, n, "web", 1700000000.0 + 3600 * n) for n in range(COUNT)]
    assert all(one["memory_written"] == one["disk_written"] == 30 * 4096 for one in listed[1:]), listed
    assert snapshot("list", store, "--vm", "other")[0] == f"no snapshot in {store}\n"
    assert as_json("list", store, "--vm", "other") == []

    text = snapshot("show", f"{store}@2")[0]
    assert re.search(r"^snapshot +2\nvm +web\ntime +2023-11-14 23:13:20\nsince +1\n", text), text
    assert re.search(r"^command +qemu-system-x86_64 -m 5M$", text, re.M), text
    shown = as_json("show", f"{store}@2")
    assert {key: shown[key] for key in listed[1]} == listed[1]
    assert [area["name"] for area in shown["areas"]] == AREAS + [""] and shown["machine"] == ["qemu=7.2", "machine=microvm"]
    assert as_json("show", store)["id"] == COUNT and as_json("show", f"{store}@2023-11-14T23:59")["id"] == 2


def test_diff(store):
    difference = as_json("diff", store, 1, 2)
    assert (difference["a"], difference["b"]) == (1, 2)
    assert sum(one["length"] for one in difference["ranges"] if one["area"] == "pc.ram") == difference["bytes"]["pc.ram"] == 30 * 4096
    assert [one for one in difference["ranges"] if one["area"] == "virtio0"] == [
        {"area": "virtio0", "offset": 3 * 4096, "length": 30 * 4096}] and difference["bytes"]["pc.rom"] == 0, difference
    text = snapshot("diff", store, 1, 2)[0]
    assert "pc.ram: 120K of 5.1M differ\n" in text and re.search(r"^virtio0 +0x3000 +120K$", text, re.M), text
    assert snapshot("diff", store, 2, 2)[0].count(": 0 of") == 3


def test_export(store, tmp_path):
    text = snapshot("export", f"{store}@2", tmp_path / "text")[0]
    assert text == f"snapshot 2 is in {tmp_path / 'text'}\n"
    assert as_json("export", f"{store}@2", tmp_path / "json") == {"id": 2, "to": str(tmp_path / "json")}
    for copy in ("text", "json"):
        assert ids(tmp_path / copy) == [2] and as_json("verify", tmp_path / copy)["good"]
        assert snapshots.memory(tmp_path / copy, 2) == snapshots.memory(store, 2)
        assert snapshots.disk(tmp_path / copy, 2, "virtio0") == snapshots.disk(store, 2, "virtio0")


def test_prune_and_delete(store):
    before = {number: snapshots.memory(store, number) for number in ids(store)}
    assert snapshot("prune", store, "--keep", 1, "--dry-run")[0] == "would remove 2 snapshots: 1, 2\n"
    assert as_json("prune", store, "--keep", 2, "--dry-run")["removed"] == [1] and ids(store) == [1, 2, 3]
    assert re.fullmatch(r"removed 1 snapshots: 1\n[\d.]+K in \d files, was [\d.]+K in 3\n", snapshot("prune", store, "--hourly", 2)[0])
    snapshot("delete", store, 2)
    assert ids(store) == [3] and snapshots.memory(store, 3) == before[3]
    pruned = as_json("prune", store)
    assert pruned["removed"] == [] and pruned["bytes_after"] <= pruned["bytes_before"] and not pruned["short_of_room"], pruned
    assert snapshots.memory(store, 3) == before[3] and as_json("verify", store)["good"]
    out, err = snapshot("prune", store, "--max-bytes", 1)
    assert out.startswith("removed 0 snapshots") and "by what has to stay: raise it, or delete snapshots" in err


@pytest.mark.parametrize("args, status, culprits", [
    (["list"], 2, ["list", "give STORE"]),
    (["list", "/none/such"], 2, ["/none/such"]),
    (["list", "{empty}"], 2, ["{empty}", "no store"]),
    (["show", "{store}@9"], 2, ["'9'", "it has 3, from 1 to 3"]),
    (["show", "{store}@soon"], 2, ["'soon'", "give its ID"]),
    (["show", "{store}@1", "--vm", "other"], 2, ["'1'"]),
    (["verify", "{store}", "more"], 2, ["verify", "give STORE"]),
    (["verify", "{store}", "--deep"], 2, ["--deep"]),
    (["delete", "{store}"], 2, ["delete", "give STORE ID..."]),
    (["delete", "{store}", "two"], 2, ["'two'", "no ID"]),
    (["delete", "{store}", "9"], 1, ["no snapshot 9", "{store}"]),
    (["prune", "{store}", "--keep", "0"], 2, ["--keep"]),
    (["prune", "{store}", "--max-bytes", "much"], 2, ["--max-bytes", "much"]),
    (["prune", "{store}", "--min-free", "0"], 2, ["--min-free"]),
    (["export", "{store}"], 2, ["export", "give STORE[@WHICH] FOLDER"]),
    (["export", "{store}@1", "{store}"], 2, ["{store}", "has snapshots already"]),
    (["export", "{store}@1", "{full}"], 2, ["{full}", "not empty"]),
    (["diff", "{store}", "1"], 2, ["diff", "give STORE A B"]),
    (["diff", "{store}", "1", "9"], 2, ["'9'"]),
    (["dif", "{store}", "1", "2"], 2, ["did you mean 'diff'"]),
], ids=lambda value: "-".join(value) if isinstance(value, list) else None)
def test_refused(store, tmp_path, args, status, culprits):
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter").write_text("dear reader")
    names = {"store": store, "empty": tmp_path / "empty", "full": tmp_path / "full"}
    out, err = snapshot(*[word.format(**names) for word in args], status=status)
    assert not out and err.startswith("futago: ") and err.count("\n") == 1, (out, err)
    assert all(culprit.format(**names) in err for culprit in culprits), err
    assert ids(store) == [1, 2, 3]


def test_a_store_that_is_written_to_is_read(store, tmp_path):
    """Whoever takes a snapshot holds the lock all the time; who only reads does not wait for it."""
    with open(store / "lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert ids(store) == [1, 2, 3] and as_json("show", store)["id"] == 3
        assert as_json("verify", store)["good"] and as_json("diff", store, 1, 3)["b"] == 3
        snapshot("export", f"{store}@1", tmp_path / "copy")
        err = snapshot("delete", store, 1, status=1)[1]
    assert f"another process writes to {store}: try again when it is done" in err
    snapshot("delete", store, 1)


# -- damage --

def flips(content):
    for at in (9, len(content) // 2, len(content) - 9):
        yield f"bit at {at}", content[:at] + bytes([content[at] ^ 4]) + content[at + 1:]


def cuts(content):
    for length in (0, len(content) // 2, len(content) - 1):
        yield f"cut at {length}", content[:length]


def damages(store, name):
    """(what, content) of each damage to a file. Every bit of a file is the concern of test_store_verify."""
    content = (store / name).read_bytes()
    others = [other for other in sorted(os.listdir(store)) if other != name and os.path.splitext(other)[1] == os.path.splitext(name)[1]]
    yield from flips(content)
    yield from cuts(content)
    yield "longer", content + bytes(64)
    for other in others[:1]:
        yield f"swapped with {other}", (store / other).read_bytes()


def lost(store, name, tmp_path):
    """Which snapshots cannot be copied out. The message names the file."""
    numbers = []
    for number in range(1, COUNT + 1):
        to = tmp_path / "copy"
        done = subprocess.run([paths.FUTAGO, "snapshot", "export", f"{store}@{number}", to], capture_output=True, text=True, timeout=60,
                              check=False)
        if done.returncode:
            assert done.returncode == 1 and f"{store}/{name}" in done.stderr, done
            numbers.append(number)
        shutil.rmtree(to, ignore_errors=True)
    return numbers


FILES = [f"{n:010}.snap" for n in range(1, COUNT + 1)] + [f"{n:08x}-{n:08x}.pack" for n in range(1, COUNT + 1)]


@pytest.mark.parametrize("name", FILES)
def test_damage_is_found(store, tmp_path, name):
    """verify finds it, names the file and the snapshots that it costs, and reading them says the same."""
    intact = (store / name).read_bytes()
    for what, content in damages(store, name):
        (store / name).write_bytes(content)
        out, err = snapshot("verify", store, "--json", status=1)
        report = json.loads(out)
        assert not report["good"] and report["damages"], (what, report)
        assert all(f"{store}/{name}" in one["what"] for one in report["damages"]), (what, report)
        assert err == f"futago: {store} is damaged: delete the snapshots that cannot be restored, then prune\n"
        costs = sorted({number for one in report["damages"] for number in one["snapshots"]})
        assert costs == lost(store, name, tmp_path), (what, report)
        assert report["unread"] == (1 if name.endswith(".snap") else 0), (what, report)
    (store / name).write_bytes(intact)
    assert as_json("verify", store)["good"]


def test_prune_goes_past_damage(store):
    """Two are damaged by the file of the newer one, which stays as it is until it is mended; beside it what is whole stays."""
    intact = (store / FILES[-1]).read_bytes()
    (store / FILES[-1]).write_bytes(bytes([intact[0] ^ 1]) + intact[1:])
    pruned = as_json("prune", store, "--keep", 1, status=1)
    assert pruned["removed"] == [1] and pruned["damages"] == [f"{store}/{FILES[-1]} is damaged: its header does not hold"], pruned
    out, err = snapshot("prune", store, "--keep", 1, status=1)
    assert out.startswith("removed 0 snapshots\n") and ids(store) == [2, 3]
    assert err.splitlines() == [f"futago: {pruned['damages'][0]}", f"futago: {store} is damaged, and what that may have to do with was left as it is: "
                                "mend it from a copy, or delete the snapshots that futago snapshot verify names, then prune again"]
    (store / FILES[-1]).write_bytes(intact)
    assert as_json("verify", store)["good"] and as_json("prune", store, "--keep", 1)["removed"] == [2]
    assert as_json("verify", store)["good"] and ids(store) == [3]


def test_missing_files(store):
    """A manifest that is gone is a snapshot that was deleted; a pack that is gone is damage."""
    os.remove(store / FILES[0])
    assert as_json("verify", store)["good"] and ids(store) == [2, 3]
    os.remove(store / FILES[COUNT])
    report = as_json("verify", store, status=1)
    assert {number for one in report["damages"] for number in one["snapshots"]} == {2, 3}
    assert all(f"{store}: the file of pack 00000001 is missing" == one["what"] for one in report["damages"])


def test_the_store_file(store):
    for what, content in damages(store, "store"):
        if what == "longer":
            continue
        (store / "store").write_bytes(content)
        for word in (["list", store], ["prune", store]):
            err = snapshot(*word, status=1)[1]
            assert f"{store}/store" in err, (what, err)


def test_what_a_damaged_manifest_needs_is_not_called_needless(store):
    """Two damages: a manifest, and a pack that only its snapshot needs."""
    for name, at in ((FILES[COUNT - 1], -10), (FILES[-1], 60)):
        content = bytearray((store / name).read_bytes())
        content[at] ^= 1
        (store / name).write_bytes(content)
    text = snapshot("verify", store, status=1)[0]
    assert "no snapshot needs it" not in text and "perhaps, those whose manifest is damaged" in text, text
    assert re.search(r"0000000003.snap is damaged.*\n  cannot be restored: 3\n", text), text
    assert "it may be the one that is meant" in snapshot("show", store, status=1)[1]
    err = snapshot("prune", store, "--keep", 1, status=1)[1]
    assert FILES[COUNT - 1] in err and "delete that snapshot first" in err, err
    snapshot("delete", store, 3)
    assert "no snapshot needs it" in snapshot("verify", store, status=1)[0]
    snapshot("prune", store)
    assert as_json("verify", store)["good"] and ids(store) == [1, 2]
