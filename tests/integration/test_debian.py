# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian's own nginx and Redis outlive their host twice: nothing acknowledged is lost, no transfer breaks."""
import pytest
from lab.debian import MACHINE, make_disks
from lab.process import wait_for
from lab.servers import Reader, Writer, check_kept
from lab.vm import StockVm, address, primary, standby


def get_on(users):
    """Each gets a good number of further answers."""
    before = [user.progress() for user in users]
    for user, then in zip(users, before):
        wait_for(user.name, lambda: user.error or user.progress() > then + 40, 30)
        assert user.error is None, f"{user.name()}: {user.error!r}"


@pytest.mark.long
def test_nginx_and_redis(lab):
    make_disks(lab)
    backup = standby(lab.hosts[1], MACHINE)
    active = primary(lab.hosts[0], MACHINE)
    active.protect(address(lab.hosts[1]))
    active.wait_protected()
    writers = [lab.keep(Writer(lab.client, number)) for number in range(3)]
    users = writers + [lab.keep(Reader(lab.client, number, pieces=number > 11)) for number in range(10, 14)]
    get_on(users)
    active.kill_qemu()
    backup.wait_running()
    get_on(users)

    twin = standby(lab.hosts[2], MACHINE)
    backup.protect(address(lab.hosts[2]))
    backup.wait_protected()
    get_on(users)
    backup.kill_qemu()
    twin.wait_running()
    get_on(users)
    for user in users:
        user.stop()
    check_kept(lab.client, writers)

    # A power cut: the guest starts anew from the last twin's disk.
    twin.kill_qemu()
    StockVm(lab.hosts[2], MACHINE).wait_ready()
    check_kept(lab.client, writers)
