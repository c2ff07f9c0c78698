# SPDX-License-Identifier: GPL-2.0-or-later
"""Writes to a guest's disk in an order that shows in any image of it."""
import struct
import threading

from .disks import DiskUser

BLOCK = 4096
WORD = (1 << 64) - 1


def pattern(at, seed):
    """As the guest's disk service writes it."""
    x = ((at + 1) * 0x9e3779b97f4a7c15 & WORD) ^ ((seed + 1) * 0xbf58476d1ce4e5b9 & WORD)
    return x ^ x >> 29


class Sequence(threading.Thread):
    """Writes block n % blocks with seed n, for n = 1, 2, ..., one after the other."""

    def __init__(self, client, disk, blocks):
        super().__init__(daemon=True)
        self.user, self.disk, self.blocks = DiskUser(client), disk, blocks
        self.count, self.ending, self.error = 0, False, None
        self.start()

    def run(self):
        try:
            while not self.ending:
                self.count += 1
                self.user.write(self.disk, self.count % self.blocks * BLOCK, BLOCK, self.count)
        except (OSError, RuntimeError) as error:
            self.error = error

    def end(self):
        self.ending = True
        self.join(30)
        assert not self.is_alive() and self.error is None, self.error

    def newest(self, content):
        """The number of the last write that a disk has; all before it must be there, and none after it."""
        newest = 0
        for block in range(self.blocks):
            words = struct.unpack_from(f"<{BLOCK // 8}Q", content, block * BLOCK)
            seeds = [n for n in range(block, self.count + 1, self.blocks) if pattern(block * BLOCK, n) == words[0] and n]
            assert seeds or not any(words), f"block {block} of {self.disk} holds something strange"
            if seeds:
                assert all(word == pattern(block * BLOCK + 8 * i, seeds[0]) for i, word in enumerate(words)), f"block {block} is torn"
            newest = max([newest] + seeds)
        for block in range(self.blocks):
            wanted = max((n for n in range(block, newest + 1, self.blocks) if n), default=None)
            first = struct.unpack_from("<Q", content, block * BLOCK)[0]
            assert first == (pattern(block * BLOCK, wanted) if wanted else 0), f"block {block}: not write {wanted} of {newest}"
        return newest
