# SPDX-License-Identifier: GPL-2.0-or-later
"""Case links: protection over a long replication link. A proxy holds every byte up for half the round trip."""
import os

import plots
import variants
from lab import load, paths
from lab.network import REP_SWITCH_IP
from lab.process import Process, wait_for
from lab.vm import PORT, StockVm, pair

NAME = "links"
TITLE = "Long links"
ABOUT = ("The replication link made longer by a proxy. A lone request has to wait for one round trip; many requests and bulk transfers share "
         "checkpoints and hide it.")
MACHINES = variants.SMALL[:1]
ROUND_TRIPS_US = (0, 200, 1000, 5000)  # 0: no proxy
PROXY_PORT = 7200
WHAT = {"rr_1conn": "request/response, 1 connection", "rr_32conn": "request/response, 32 connections", "out": "bulk out of the guest",
        "in": "bulk into the guest"}


def wire(lab, round_trip_us):
    """Where the primary shall connect to: the backup itself, or a proxy before it."""
    if round_trip_us == 0:
        return None
    proxy = lab.keep(Process(lab.switch, [paths.FUT_DELAY, REP_SWITCH_IP, str(PROXY_PORT), lab.hosts[1].rep_ip, str(PORT),
                                          str(round_trip_us / 2)], os.path.join(lab.folder, "delay.log")))
    wait_for("the proxy listens", lambda: "ready" in proxy.output())
    return f"tcp:{REP_SWITCH_IP}:{PROXY_PORT}"


def measures(lab, effort):
    return {"rr_1conn": load.rr(lab.client, 1, effort.seconds)["tps"], "rr_32conn": load.rr(lab.client, 32, effort.seconds)["tps"],
            "out": load.bulk(lab.client, load.SOURCE, "receive", effort.seconds)["mbit_s"],
            "in": load.bulk(lab.client, load.SINK, "send", effort.seconds)["mbit_s"]}


def one_round(lab, machine, effort):
    """({what: stock}, {round trip: {what: protected}})"""
    StockVm(lab.hosts[0], machine).wait_ready()
    stock = measures(lab, effort)
    lab.reset()
    found = {}
    for round_trip_us in ROUND_TRIPS_US:
        active, _ = pair(lab, machine, to=wire(lab, round_trip_us))
        found[round_trip_us] = measures(lab, effort)
        variants.check(active)
        lab.reset()
    return stock, found


def one(lab, machine, effort, say):
    """Figures of one configuration: lists are samples, one a round."""
    figures = {}
    for number in range(effort.repeats):
        stock, found = one_round(lab, machine, effort)
        for round_trip_us, measured in found.items():
            for what, value in measured.items():
                figures.setdefault(f"links.{round_trip_us}us.ratio_{what}", []).append(value / stock[what])
        say(f"{number + 1}/{effort.repeats}: one connection, stock {stock['rr_1conn']:.0f}/s; " + ", ".join(
            f"{key} µs {measured['rr_1conn']:.0f}/s" for key, measured in found.items()))
    return figures


def run(lab, effort, say):
    return variants.each(lab, MACHINES, effort, say, one)


def plot(folder, result):
    figures = next(result[name] for name in result["configurations"] if "links.0us.ratio_out" in result[name])
    return [plots.lines(folder, "links", "Protected against stock, by the link's round trip", "round trip, µs", "ratio", list(ROUND_TRIPS_US), {
        label: [figures[f"links.{at}us.ratio_{what}"] for at in ROUND_TRIPS_US] for what, label in WHAT.items()})]
