# SPDX-License-Identifier: GPL-2.0-or-later
"""Case events: what it costs to synchronise at every event, and what choosing the events saves. The two experiments in Y. Tamura's talk on
Kemari (NTT, 2007), done again: throughput of the network and of files; how often is synchronised, and how long a transfer takes."""
import json
import os
import statistics
import time

import plots
import variants
from lab import debian, load, paths
from lab.machine import GUEST_IP
from lab.vm import FutagoVm, StockVm, pair

NAME = "events"
TITLE = "Which events are synchronised on"
ABOUT = ("A Debian guest with a disk of its own on each host: a TCP stream out of the guest, and fio's synchronous and buffered writes to a file. "
         "Unprotected; stopped at every event until the twin has all; stopped for packets that go out only; and for these without stopping.")
IN_CORE = False  # wants the Debian guest
CONFIGURATION = "q35-debian"

STOCK = "stock"
PROTECTED = {"all_stop": ("--events", "all", "--mode", "stop"),
             "selected_stop": ("--events", "net-tx", "--mode", "stop"),
             "selected_pipeline": ("--events", "net-tx", "--mode", "pipeline")}
ALL = (STOCK, *PROTECTED)
SAVED = ("selected_stop", "all_stop")  # the same mode

RATES = {"net": "mbit_s", "sync_write": "mb_s", "buffered_write": "mb_s"}
LABELS = {"net": "network", "sync_write": "synchronous writes", "buffered_write": "buffered writes"}
FILES = {"sync_write": (16, "sync=1"), "buffered_write": (64, "")}  # MB, and how fio writes it
STATISTICS = {
    "syncs_per_s": lambda s: s["window_checkpoints"] / s["window_s"],
    "commit_us": lambda s: s["commit_us"]["p50"],
    "bytes_per_checkpoint": lambda s: s["bytes_per_checkpoint"],
}
LEAD_S = 3.0  # so long after it is asked for, a load is mostly under way
TRIES = 3
PATIENCE_S = 60


def fio(lab, first, files):
    """What makes the guest's fio write these files; nothing more is said until it is done."""
    job = os.path.join(lab.folder, "job.fio")
    with open(job, "w", encoding="ascii") as handle:
        handle.write(f"[global]\ndirectory=/var/tmp\nrw=write\nbs=4k\nfallocate=none\n{first}\n")
        for name in files:
            megabytes, how = FILES[name]
            handle.write(f"[{name}]\nfilename={name}\nsize={megabytes}m\n{how}\n")
    return ["fio", f"--client={GUEST_IP}", "--eta=never", "--output-format=json", job]


def command(lab, what, seconds):
    if what == "net":
        return [paths.FUT_BULK, GUEST_IP, str(load.SOURCE), "receive", str(seconds)]
    return fio(lab, f"time_based\nruntime={seconds}", [what])


def rate(what, output):
    """Of what the client printed: its answer, after what else it had to say."""
    start = output.find("{")
    if start < 0:
        raise RuntimeError(f"{what}: {output.strip()[-300:]}")
    answer, _ = json.JSONDecoder().raw_decode(output[start:])
    if what == "net":
        return answer["mbit_s"]
    job = answer["client_stats"][0]
    if job["error"]:
        raise RuntimeError(f"{what}: fio in the guest: error {job['error']}")
    return job["write"]["bw_bytes"] / 1e6


def lay_out(lab):
    """The files are there, with all their blocks, before anything is measured."""
    done = lab.client.run(fio(lab, "create_only=1\noverwrite=1", FILES), PATIENCE_S)
    if done.returncode != 0:
        raise RuntimeError(f"fio: {(done.stderr or done.stdout).strip()[-300:]}")


def window(vm, seconds):
    """The primary's statistics of the time to come."""
    vm.call("reset-stats")
    before, began = vm.status()["checkpoints"], time.monotonic()
    time.sleep(seconds)
    status = vm.status()
    status["window_s"] = time.monotonic() - began
    status["window_checkpoints"] = status["checkpoints"] - before
    return {key: figure(status) for key, figure in STATISTICS.items()}


def one(lab, vm, what, seconds):
    """Figures of one load. It lasts for longer than the window, and the window is good if the load began before it."""
    whole = round(seconds + LEAD_S)
    for _ in range(TRIES):
        began = time.monotonic()
        busy = lab.client.spawn(command(lab, what, whole), what)
        figures = {}
        if isinstance(vm, FutagoVm):
            time.sleep(LEAD_S)
            figures = window(vm, seconds)
        if busy.wait(whole + PATIENCE_S) != 0:
            raise RuntimeError(f"{what}: {busy.output().strip()[-300:]}")
        if time.monotonic() - began <= whole + LEAD_S:
            return dict(figures, **{RATES[what]: rate(what, busy.output())})
    raise RuntimeError(f"{what}: the load took more than {LEAD_S} s to begin, {TRIES} times")


def started(lab, variant):
    debian.make_disks(lab)
    if variant == STOCK:
        return StockVm(lab.hosts[0], debian.MACHINE).wait_ready()
    return pair(lab, debian.MACHINE, options=PROTECTED[variant])[0]


def measured_once(lab, variant, seconds):
    """{load_figure: value} of a fresh guest."""
    vm = started(lab, variant)
    lay_out(lab)
    found = {}
    for what in RATES:
        found.update({f"{what}_{key}": value for key, value in one(lab, vm, what, seconds).items()})
        if variant != STOCK:
            variants.check(vm)
    lab.reset()
    return found


def measured(lab, variant, seconds, say):
    """The same. Where other work silences a host for longer than a pair bears, nothing was measured: once more."""
    for _ in range(TRIES - 1):
        try:
            return measured_once(lab, variant, seconds)
        except variants.ProtectionLost as error:
            say(f"{variant} once more: {error}")
            lab.reset()
    return measured_once(lab, variant, seconds)


def with_ratios(samples):
    """Adds what comes of several figures of a round. samples: {variant: {load_figure: [value of each round]}}."""
    found = {f"{NAME}.{variant}.{key}": values for variant in ALL for key, values in samples[variant].items()}
    for variant in PROTECTED:
        for what, unit in RATES.items():
            found[f"{NAME}.{variant}.{what}_ratio"] = [
                a / b for a, b in zip(samples[variant][f"{what}_{unit}"], samples[STOCK][f"{what}_{unit}"])]
        found[f"{NAME}.{variant}.syncs_per_s"] = means([samples[variant][f"{what}_syncs_per_s"] for what in RATES])
    chosen, every = (samples[variant] for variant in SAVED)
    for what, unit in RATES.items():
        found[f"{NAME}.saved_syncs_{what}"] = saved(*(each[f"{what}_{key}"] for each in (chosen, every) for key in ("syncs_per_s", unit)))
    found[f"{NAME}.saved_syncs"] = means([found[f"{NAME}.saved_syncs_{what}"] for what in RATES])
    return found


def means(columns):
    """Round by round."""
    return [statistics.mean(row) for row in zip(*columns)]


def saved(chosen_syncs, chosen_rate, all_syncs, all_rate):
    """Share of the synchronisations for the same work, round by round."""
    return [1 - (few / done) / (many / done_all) for few, done, many, done_all in zip(chosen_syncs, chosen_rate, all_syncs, all_rate)]


def run(lab, effort, say):
    """All variants in turn, each round anew."""
    if not os.path.exists(paths.DEBIAN_DISK):
        raise RuntimeError(f"no Debian guest: ./dev bench {NAME} makes it")
    samples = {variant: {} for variant in ALL}
    for number in range(effort.repeats):
        for variant in ALL:
            found = measured(lab, variant, effort.seconds, say)
            for key, value in found.items():
                samples[variant].setdefault(key, []).append(value)
            say(f"{number + 1}/{effort.repeats}: {variant}: " + ", ".join(
                f"{what} {found[f'{what}_{unit}']:.1f} {unit}" for what, unit in RATES.items()))
    return {CONFIGURATION: with_ratios(samples)}


def plot(folder, result):
    """Both tables: throughput, and number and length of the synchronisations."""
    figures = result[CONFIGURATION]

    def bars(name, title, y_label, key):
        return plots.bars(folder, name, title, y_label, list(LABELS.values()), {
            variant.replace("_", ", "): [figures[f"{NAME}.{variant}.{what}_{key}"] for what in LABELS] for variant in PROTECTED})

    return [bars("events-throughput", "Throughput, protected", "share of unprotected", "ratio"),
            bars("events-syncs", "Synchronisations", "per second", "syncs_per_s"),
            bars("events-commit", "Transfer of a synchronisation, until it is acknowledged", "µs (median)", "commit_us"),
            bars("events-bytes", "Size of a synchronisation", "bytes (mean)", "bytes_per_checkpoint")]
