# SPDX-License-Identifier: GPL-2.0-or-later
"""Fixtures of the integration tests. One laboratory serves a whole run of pytest; each test leaves it empty."""
import glob
import os
import shutil

import pytest
from lab import paths, process
from lab.network import Lab, end_on_signals


def pytest_configure(config):
    """A run without -m leaves the long tests out: they are not collected, so that none counts as skipped."""
    config.addinivalue_line("markers", "long: minutes of repetition, for ./dev test long")
    if not config.option.markexpr:
        config.option.markexpr = "not long"
    end_on_signals(KeyboardInterrupt)  # a SystemExit would be the failure of one test, and the next would begin


def usable(*devices):
    return all(os.access(path, os.R_OK | os.W_OK) for path in devices)


# Not skipped, but no part of the run: a machine that lacks these devices cannot run the file at all.
NEEDED = {"test_kvm.py": ("/dev/kvm",), "test_kvm_probes.py": ("/dev/kvm",),
          "test_disk_devices.py": ("/dev/loop-control", "/dev/loop0", "/dev/fuse")}
LEFT_OUT = {name: devices for name, devices in NEEDED.items() if not usable(*devices)}


def pytest_collection_modifyitems(config, items):
    """Not collect_ignore: that does not hold for a file that is named on the command line, as tools/run_integration.py does."""
    out = [item for item in items if item.path.name in LEFT_OUT]
    items[:] = [item for item in items if item.path.name not in LEFT_OUT]
    config.hook.pytest_deselected(items=out)


def pytest_report_header():
    return [f"no {' or no '.join(devices)} that can be used here: {name} is left out" for name, devices in LEFT_OUT.items()]


def leftovers(lab):
    """What is left of a closed laboratory: there must be nothing."""
    inodes = {ns.inode for ns in lab.namespaces}
    return [f"process {pid}" for pid in process.strays()] + [path for path in [lab.folder] if os.path.exists(path)] + \
        [f"namespace of process {pid}" for pid, inode in process.network_namespaces() if inode in inodes]


@pytest.fixture(scope="session")
def whole_lab():
    missing = paths.missing()
    if missing:
        pytest.exit(f"not built: {', '.join(missing)} (run ./dev build)", returncode=3)
    lab = Lab()
    lab.silence_ms = 4000  # a machine that is busy for a moment is no lost peer
    yield lab
    lab.close()
    process.wait_for(lambda: f"nothing is left of the laboratory; left is {leftovers(lab)}", lambda: not leftovers(lab))


@pytest.fixture
def lab(whole_lab, request):
    """The laboratory, empty before and after the test."""
    yield whole_lab
    keep_logs_of_failure(whole_lab, request)
    whole_lab.reset()


@pytest.fixture(scope="module")
def module_lab(whole_lab):
    """The laboratory for a module whose tests share guests; empty after the module."""
    yield whole_lab
    whole_lab.reset()


@pytest.fixture(scope="module")
def pairs(module_lab):
    """What the tests of a module share: a dictionary they fill."""
    return {"lab": module_lab}


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    setattr(item, f"report_{report.when}", report)


def keep_logs_of_failure(lab, request):
    """Prints what the processes of a failed test said, so that the report shows it."""
    report = getattr(request.node, "report_call", None)
    if not report or not report.failed:
        return
    for thing in lab.processes:
        if isinstance(thing, process.Process):
            print(f"--- {os.path.basename(thing.log)} ({'alive' if thing.alive else thing.popen.returncode})\n"
                  f"{thing.output()[-3000:]}")
    keep = os.environ.get("FUTAGO_KEEP_LOGS")
    if keep:
        target = os.path.join(keep, request.node.name.replace("/", "_"))
        shutil.rmtree(target, ignore_errors=True)
        for path in glob.glob(os.path.join(lab.folder, "*", "*.log")):
            os.makedirs(target, exist_ok=True)
            shutil.copy(path, os.path.join(target, f"{path.split('/')[-2]}-{os.path.basename(path)}"))
