/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "sweep.h"

#include <fcntl.h>
#include <glib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "keeper.h"
#include "plain_syscall.h"

/* Set before the keeper has the folder, read by it when nobody else is left. */
static struct {
    unsigned count;
    struct {
        char name[256];
        struct stat status;
    } file[FUT_SWEEP_MAX];
} promised;

/* In the keeper. The lock is the one under which a new process takes these names (control_listen.c). */
static void sweep(const int *fds, unsigned count)
{
    struct stat now;

    fut_plain_syscall(SYS_flock, fds[0], LOCK_EX, 0, 0);
    for (unsigned i = 0; i < promised.count; i++) {
        long name = (long)promised.file[i].name;
        if (fut_plain_syscall(SYS_newfstatat, fds[0], name, (long)&now, AT_SYMLINK_NOFOLLOW) == 0 &&
            now.st_ino == promised.file[i].status.st_ino &&
            now.st_dev == promised.file[i].status.st_dev) {
            fut_plain_syscall(SYS_unlinkat, fds[0], name, 0, 0);
        }
    }
}

void fut_sweep_promise(const char *const *paths)
{
    g_autofree char *folder = g_path_get_dirname(paths[0]);

    for (; *paths && promised.count < FUT_SWEEP_MAX; paths++) {
        g_autofree char *name = g_path_get_basename(*paths);
        if (lstat(*paths, &promised.file[promised.count].status) == 0) {
            g_strlcpy(promised.file[promised.count].name, name, sizeof(promised.file->name));
            promised.count++;
        }
    }
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        fut_keeper_give(&fd, 1, sweep);
        close(fd);
    }
}
