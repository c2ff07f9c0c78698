# SPDX-License-Identifier: GPL-2.0-or-later
"""The check that conftest.py makes after each file, of a laboratory that was closed: it finds what is left, and nothing is."""
import subprocess

from conftest import leftovers
from lab.network import Lab
from lab.process import environment, wait_for


def test_nothing_remains():
    lab = Lab()
    sleeper = lab.hosts[0].spawn(["sleep", "60"])
    assert {f"process {sleeper.pid}", f"namespace of process {sleeper.pid}", lab.folder} <= set(leftovers(lab))
    lab.close()
    wait_for("nothing is left", lambda: not leftovers(lab))


def test_stray_is_noticed():
    """Started in the run's name, but in none of the laboratory's namespaces and not known to it."""
    lab = Lab()
    lab.close()
    with subprocess.Popen(["sleep", "60"], env=environment(), start_new_session=True) as stray:
        try:
            wait_for("the stray is found, and nothing else", lambda: leftovers(lab) == [f"process {stray.pid}"])
        finally:
            stray.kill()
