# SPDX-License-Identifier: GPL-2.0-or-later
"""The resource agent for Pacemaker: what each action answers, without a cluster manager."""
import os
import xml.etree.ElementTree

from lab import load, paths
from lab.machine import Machine
from lab.process import wait_for
from lab.vm import primary

AGENT = os.path.join(paths.ROOT, "agents", "futago-vm")
CRASH = 7008
SUCCESS, GENERIC, UNIMPLEMENTED, INSTALLED, CONFIGURED, NOT_RUNNING = 0, 1, 3, 5, 6, 7


def words(action, **parameters):
    parameters = {"vm": "vm", "futago": paths.FUTAGO, **parameters}
    return ["env"] + [f"OCF_RESKEY_{key}={value}" for key, value in parameters.items()] + [AGENT, action]


def test_actions(lab):
    """Start, monitor with the guest's health, stop; each twice; and what is wrongly configured."""
    host = lab.hosts[0]

    def act(action, status, **parameters):
        done = host.run(words(action, **parameters), 60)
        assert done.returncode == status, (action, parameters, done)
        return done

    actions = xml.etree.ElementTree.fromstring(act("meta-data", SUCCESS).stdout).iter("action")
    assert {action.get("name") for action in actions} == {"start", "stop", "monitor", "validate-all", "meta-data"}
    act("validate-all", SUCCESS)
    act("validate-all", CONFIGURED, vm="a b")
    act("validate-all", CONFIGURED, fail_on="all")
    act("validate-all", INSTALLED, futago="/no/such")
    act("promote", UNIMPLEMENTED)
    act("monitor", NOT_RUNNING)
    act("stop", SUCCESS)
    assert "exit status 1" in act("start", GENERIC, start="false").stderr

    asked = os.path.join(host.folder, "asked")
    starting = host.spawn(words("start", start=f"touch {asked}"), "start")
    wait_for("the agent starts the VM", lambda: os.path.exists(asked))
    vm = primary(host, Machine())
    assert starting.wait(60) == SUCCESS
    os.remove(asked)
    act("start", SUCCESS, start=f"touch {asked}")
    assert not os.path.exists(asked)
    act("monitor", SUCCESS)
    host.futago("probe", "add", vm.name, "segv")
    act("monitor", SUCCESS)
    assert load.Connection(lab.client, CRASH, timeout=60).order("SEGV webserver 0x1230").startswith("OK")
    wait_for("health", lambda: host.futago("health", vm.name, check=False).returncode == 5)
    act("monitor", SUCCESS)
    act("monitor", SUCCESS, fail_on="never")
    assert "webserver/" in act("monitor", GENERIC, fail_on="service").stderr
    host.futago("probe", "add", vm.name, 'scope=system severity=error says="it is over" kprobe:__x64_sys_getppid', "--name", "over")
    assert load.Connection(lab.client, CRASH, timeout=60).order("GETPPID 1").startswith("OK")
    wait_for("health", lambda: host.futago("health", vm.name, check=False).returncode == 6)
    assert "it is over" in act("monitor", GENERIC).stderr
    act("monitor", SUCCESS, fail_on="never")
    act("stop", SUCCESS)
    vm.process.wait(20)
    act("monitor", NOT_RUNNING)
    act("stop", SUCCESS)
