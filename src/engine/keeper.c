/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The keeper: a process that shares the VMM's memory so that a killed VMM closes its sockets first.
 *
 * It runs on the parent's thread-local storage, so it makes plain system calls only, none of which can fail in a way
 * that would write errno, and no signal can reach it. */
#include "keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "plain_syscall.h"

#define STACK_SIZE 16384
/* After the end of the parent's last thread; nobody waits for the memory. */
#define LINGER_MS 200
/* Between two looks whether the parent is there, should one of its children have the other end of our socket. */
#define LOOK_S 10

/* What the two processes share. The socket's end tells of the parent's: it closes with its last thread. */
static struct {
    GMutex lock; /* over giving */
    int fd;      /* the parent's end; 0: no keeper */
    int theirs;  /* the keeper's, as numbered before it has files of its own */
    pid_t parent;
    FutKeeperLast last; /* atomic; NULL: nothing to do */
} keeper;

/* The keeper's own. */
typedef struct {
    int fds[FUT_KEEPER_FDS_MAX];
    unsigned count;
} Held;

/* -- the other process -- */

static void let_go(Held *held)
{
    for (unsigned i = 0; i < held->count; i++) {
        fut_plain_syscall(SYS_close, held->fds[i], 0, 0, 0);
    }
    held->count = 0;
}

/* Waits for descriptors. False: there will be no more; *ret_dead whether all of the parent is gone. */
static bool receive(Held *held, bool *ret_dead)
{
    union {
        char bytes[CMSG_SPACE(sizeof(held->fds))];
        struct cmsghdr align;
    } control;
    char byte;
    struct iovec piece = { &byte, 1 };
    struct msghdr message = { .msg_iov = &piece,
                              .msg_iovlen = 1,
                              .msg_control = control.bytes,
                              .msg_controllen = sizeof(control.bytes) };
    long got = fut_plain_syscall(SYS_recvmsg, 0, (long)&message, MSG_CMSG_CLOEXEC, 0);

    *ret_dead = got == 0;
    if (got <= 0) {
        return (got == -EAGAIN || got == -EINTR) &&
               fut_plain_syscall(SYS_getppid, 0, 0, 0, 0) == keeper.parent;
    }
    let_go(held);
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    if (head && head->cmsg_level == SOL_SOCKET && head->cmsg_type == SCM_RIGHTS) {
        const int *fds = (const int *)CMSG_DATA(head);
        held->count = (unsigned)((head->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        for (unsigned i = 0; i < held->count; i++) {
            held->fds[i] = fds[i];
        }
    }
    return true;
}

static int keep(void *opaque)
{
    struct timespec linger = { 0, LINGER_MS * 1000000l };
    Held held = { .count = 0 };
    bool dead = false;

    fut_plain_syscall(SYS_dup3, keeper.theirs, 0, O_CLOEXEC, 0);
    fut_plain_syscall(SYS_close_range, 1, UINT32_MAX, 0, 0);
    fut_plain_syscall(SYS_prctl, PR_SET_NAME, (long)"futago-keeper", 0, 0);
    while (receive(&held, &dead)) {
    }
    FutKeeperLast last = g_atomic_pointer_get(&keeper.last);
    if (dead && last) {
        last(held.fds, held.count);
    }
    let_go(&held);
    fut_plain_syscall(SYS_nanosleep, (long)&linger, 0, 0, 0);
    fut_plain_syscall(SYS_exit_group, 0, 0, 0, 0);
    return 0;
}

/* -- this one -- */

/* Keeper's lock held. */
static bool send_fds(const int *fds, unsigned count)
{
    union {
        char bytes[CMSG_SPACE(sizeof(int) * FUT_KEEPER_FDS_MAX)];
        struct cmsghdr align;
    } control = { { 0 } };
    struct iovec piece = { "f", 1 };
    struct msghdr message = { .msg_iov = &piece, .msg_iovlen = 1 };

    if (count > 0) {
        message.msg_control = control.bytes;
        message.msg_controllen = CMSG_SPACE(count * sizeof(int));
        struct cmsghdr *head = CMSG_FIRSTHDR(&message);
        head->cmsg_level = SOL_SOCKET;
        head->cmsg_type = SCM_RIGHTS;
        head->cmsg_len = CMSG_LEN(count * sizeof(int));
        memcpy(CMSG_DATA(head), fds, count * sizeof(int));
    }
    return sendmsg(keeper.fd, &message, MSG_NOSIGNAL) == 1;
}

void fut_keeper_give(const int *fds, unsigned count, FutKeeperLast last)
{
    g_assert(count <= FUT_KEEPER_FDS_MAX);
    g_mutex_lock(&keeper.lock);
    if (keeper.fd > 0) {
        g_atomic_pointer_set(&keeper.last, NULL);
        if (send_fds(fds, count)) {
            g_atomic_pointer_set(&keeper.last, last);
        }
    }
    g_mutex_unlock(&keeper.lock);
}

void fut_keeper_take_back(void)
{
    fut_keeper_give(NULL, 0, NULL);
}

/* A sandboxed VMM (libvirt's default) would be killed for starting a process. */
static bool sandboxed(void)
{
    g_autofree char *status = NULL;

    return !g_file_get_contents("/proc/self/status", &status, NULL, NULL) ||
           !strstr(status, "\nSeccomp:\t0\n");
}

/* Both ends of the socket between the two; false: none. */
static bool open_socket(void)
{
    struct timeval look = { .tv_sec = LOOK_S };
    int fds[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0) {
        return false;
    }
    setsockopt(fds[1], SOL_SOCKET, SO_RCVTIMEO, &look, sizeof(look));
    keeper.fd = fds[0];
    keeper.theirs = fds[1];
    return true;
}

void fut_keeper_start(void)
{
    sigset_t all, before;

    if (sandboxed() || !open_socket()) {
        return;
    }
    uint8_t *stack = mmap(NULL, STACK_SIZE, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    pid_t pid = -1;

    if (stack != MAP_FAILED) {
        keeper.parent = getpid();
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        pid = clone(keep, stack + STACK_SIZE, CLONE_VM, NULL);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        if (pid < 0) {
            munmap(stack, STACK_SIZE);
        }
    }
    close(keeper.theirs); /* the keeper has it in a table of its own */
    if (pid < 0) {
        close(keeper.fd);
        keeper.fd = 0;
    }
}
