# SPDX-License-Identifier: GPL-2.0-or-later
"""Case colo: QEMU's own fault tolerance on the same guest, network and load, from the installed package, as its documentation sets it up."""
import os
import statistics

import plots
import variants
from lab import load
from lab.machine import Machine
from lab.process import wait_for
from lab.qmp import Qmp
from lab.vm import StockVm, pair

NAME = "colo"
TITLE = "QEMU's COLO in the same run"
ABOUT = ("Request/response over one connection: stock QEMU, Futago, and COLO of the installed QEMU package (network comparison with "
         "colo-compare, checkpoints every second when outputs do not differ). Memory only, no disks. Where COLO does not get as far as to serve, "
         "colo.outcome says what it did instead (QEMU 7.2's COLO waits under TCG, at its first checkpoint, for a lock that it holds).")
MACHINES = variants.SMALL
CHECKPOINT_MS = 1000
ANSWER_S = 10.0      # for what normally takes milliseconds
MIGRATION_S = 30.0
MIRROR, COMPARE_SECONDARY, COMPARE_PRIMARY, COMPARE_OUT, INCOMING = 9003, 9004, 9001, 9005, 9998


def chardev(name, host, port, *more):
    return ["-chardev", ",".join([f"socket,id={name},host={host},port={port}", *more])]


def primary_args(host):
    listen = ("server=on", "wait=off")
    return (chardev("mirror0", host.rep_ip, MIRROR, *listen) + chardev("compare1", host.rep_ip, COMPARE_SECONDARY, *listen) +
            chardev("compare0", "127.0.0.1", COMPARE_PRIMARY, *listen) + chardev("compare0-0", "127.0.0.1", COMPARE_PRIMARY) +
            chardev("compare_out", "127.0.0.1", COMPARE_OUT, *listen) + chardev("compare_out0", "127.0.0.1", COMPARE_OUT) +
            ["-object", "filter-mirror,id=m0,netdev=net0,queue=tx,outdev=mirror0",
             "-object", "filter-redirector,netdev=net0,id=redire0,queue=rx,indev=compare_out",
             "-object", "filter-redirector,netdev=net0,id=redire1,queue=rx,outdev=compare0",
             "-object", "iothread,id=iothread1",
             "-object", "colo-compare,id=comp0,primary_in=compare0-0,secondary_in=compare1,outdev=compare_out0,iothread=iothread1"])


def secondary_args(host, active):
    return (chardev("red0", active.rep_ip, MIRROR, "reconnect=1") + chardev("red1", active.rep_ip, COMPARE_SECONDARY, "reconnect=1") +
            ["-object", "filter-redirector,id=f1,netdev=net0,queue=tx,indev=red0",
             "-object", "filter-redirector,id=f2,netdev=net0,queue=rx,outdev=red1",
             "-object", "filter-rewriter,id=rew0,netdev=net0,queue=all",
             "-incoming", f"tcp:{host.rep_ip}:{INCOMING}"])


def member(host, machine, name, args):
    """A QEMU of the pair and its control socket."""
    path = os.path.join(host.folder, f"{name}.qmp")
    whole = Machine(kind=machine.kind, memory_mb=machine.memory_mb, extra=tuple(args) + ("-qmp", f"unix:{path},server=on,wait=off"))
    vm = StockVm(host, whole, name)
    return vm, Qmp(path)


def must(qmp, command, **arguments):
    answer = qmp.command(command, **arguments)
    if "error" in answer:
        raise RuntimeError(f"{command}: {answer['error']['desc']}")
    return answer["return"]


def started(lab, machine):
    """A pair on its way to COLO: the active VM, and the two control sockets."""
    here, there = lab.hosts[0], lab.hosts[1]
    # the sockets of the comparison exist before the other side calls
    active, ours = member(here, machine, "colo-primary", primary_args(here))
    active.wait_ready()
    _, theirs = member(there, machine, "colo-secondary", secondary_args(there, here))
    for qmp in (theirs, ours):
        must(qmp, "migrate-set-capabilities", capabilities=[{"capability": "x-colo", "state": True}])
    must(ours, "migrate-set-parameters", **{"x-checkpoint-delay": CHECKPOINT_MS})
    must(ours, "migrate", uri=f"tcp:{there.rep_ip}:{INCOMING}")
    wait_for("the copy of memory", lambda: must(ours, "query-migrate")["status"] not in ("setup", "active"), MIGRATION_S)
    return active, ours, theirs


def silent(qmps):
    """Which of the two QEMUs no longer answer at their control sockets, and what the others say."""
    found = []
    for name, qmp in qmps.items():
        try:
            found.append(f"{name} in mode {must(qmp, 'query-colo-status')['mode']}")
        except (TimeoutError, OSError, ValueError, RuntimeError) as error:
            found.append(f"{name}'s control socket does not answer ({error or type(error).__name__})")
    return ", ".join(found)


def rate(lab, machine, effort):
    """(transactions a second, "served"), or (0, what happened)."""
    try:
        active, ours, theirs = started(lab, machine)
    except (TimeoutError, OSError, ValueError, RuntimeError) as error:
        return 0.0, f"not started: {error}"
    qmps = {"primary": ours, "secondary": theirs}
    try:
        found = load.rr(lab.client, 1, effort.seconds, patience=ANSWER_S)["tps"]
    except (TimeoutError, RuntimeError):
        return 0.0, f"the guest does not answer; {silent(qmps)}"
    return (found, "served") if active.alive else (0.0, "the primary ended")


def one(lab, machine, effort, say):
    """Figures of one configuration: lists are samples, one a round."""
    figures = {"colo.ratio_1conn": [], "colo.futago_ratio_1conn": []}
    outcomes = []
    for number in range(effort.repeats):
        rates = {}
        StockVm(lab.hosts[0], machine).wait_ready()
        rates["stock"] = load.rr(lab.client, 1, effort.seconds)["tps"]
        lab.reset()
        variants.check(pair(lab, machine)[0])
        rates["futago"] = load.rr(lab.client, 1, effort.seconds)["tps"]
        lab.reset()
        rates["colo"], outcome = rate(lab, machine, effort)
        lab.reset()
        outcomes.append(outcome)
        figures["colo.ratio_1conn"].append(rates["colo"] / rates["stock"])
        figures["colo.futago_ratio_1conn"].append(rates["futago"] / rates["stock"])
        say(f"{number + 1}/{effort.repeats}: " + ", ".join(f"{name} {value:.0f}/s" for name, value in rates.items()) + f"; colo {outcome}")
    figures["colo.outcome"] = statistics.mode(outcomes)
    return figures


def run(lab, effort, say):
    return variants.each(lab, MACHINES, effort, say, one)


def plot(folder, result):
    names = [name for name in result["configurations"] if "colo.ratio_1conn" in result[name]]
    return [plots.bars(folder, "colo", "Request/response over one connection, against stock QEMU", "ratio", names, {
        "Futago": [result[name]["colo.futago_ratio_1conn"] for name in names], "COLO": [result[name]["colo.ratio_1conn"] for name in names]})]
