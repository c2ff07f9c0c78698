/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Write protection of memory by userfaultfd. */
#include "guard.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "byteorder.h"
#include "userfault.h"

#ifndef UFFD_FEATURE_WP_HUGETLBFS_SHMEM
#define UFFD_FEATURE_WP_HUGETLBFS_SHMEM (1 << 12)
#endif
/* Not yet: asked again after this. */
#define AGAIN_US 100

struct FutGuard {
    const FutMemory *memory; /* borrowed */
    FutGuardFault fault;
    void *opaque;
    int fd, end_fd;
    GThread *thread;
};

/* -- the descriptor -- */

static void leave(const FutGuard *guard, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        struct uffdio_range range = { (uintptr_t)guard->memory->block[i].base,
                                      guard->memory->block[i].length };
        ioctl(guard->fd, UFFDIO_UNREGISTER, &range);
    }
}

/* Large pages (hugetlbfs) can only be let go as a whole, and who writes to a part of one would wait for the rest of it. */
static bool is_of_small_pages(FutGuard *guard, unsigned block)
{
    return guard->memory->block[block].length < 2 * FUT_PAGE_SIZE ||
           fut_guard_set(guard, guard->memory->block[block].base + FUT_PAGE_SIZE, FUT_PAGE_SIZE,
                         false);
}

static bool enter(FutGuard *guard)
{
    for (unsigned i = 0; i < guard->memory->count; i++) {
        struct uffdio_register call = { .range = { (uintptr_t)guard->memory->block[i].base,
                                                   guard->memory->block[i].length },
                                        .mode = UFFDIO_REGISTER_MODE_WP };
        if (ioctl(guard->fd, UFFDIO_REGISTER, &call) != 0 ||
            !(call.ioctls & (1ull << _UFFDIO_WRITEPROTECT)) || !is_of_small_pages(guard, i)) {
            leave(guard, i + 1);
            return false;
        }
    }
    return true;
}

/* -- the thread -- */

static void handle(FutGuard *guard, const struct uffd_msg *message)
{
    const uint8_t *address = (const uint8_t *)(uintptr_t)message->arg.pagefault.address;

    while (message->event == UFFD_EVENT_PAGEFAULT && !guard->fault(guard->opaque, address)) {
        g_usleep(AGAIN_US);
    }
}

static void *run(void *opaque)
{
    FutGuard *guard = opaque;
    struct pollfd polled[2] = { { .fd = guard->fd, .events = POLLIN },
                                { .fd = guard->end_fd, .events = POLLIN } };
    struct uffd_msg message;

    while (polled[1].revents == 0) {
        /* One at a time: by the time of the next, its cause may be gone. */
        if (read(guard->fd, &message, sizeof(message)) == sizeof(message)) {
            handle(guard, &message);
        } else {
            poll(polled, 2, -1);
        }
    }
    return NULL;
}

/* -- the guard -- */

FutGuard *fut_guard_new(const FutMemory *memory, FutGuardFault fault, void *opaque)
{
    FutGuard *guard = g_new0(FutGuard, 1);

    *guard = (FutGuard){ .memory = memory, .fault = fault, .opaque = opaque };
    guard->fd =
        fut_userfault_open(UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_WP_HUGETLBFS_SHMEM);
    if (guard->fd < 0) {
        guard->fd = fut_userfault_open(UFFD_FEATURE_PAGEFAULT_FLAG_WP);
    }
    if (guard->fd < 0 || !enter(guard)) {
        if (guard->fd >= 0) {
            close(guard->fd);
        }
        g_free(guard);
        return NULL;
    }
    guard->end_fd = eventfd(0, EFD_CLOEXEC);
    g_assert(guard->end_fd >= 0);
    guard->thread = g_thread_new("futago-guard", run, guard);
    return guard;
}

void fut_guard_free(FutGuard *guard)
{
    uint64_t one = 1;

    if (!guard) {
        return;
    }
    leave(guard, guard->memory->count);
    ssize_t written = write(guard->end_fd, &one, sizeof(one));
    g_assert(written == sizeof(one));
    g_thread_join(guard->thread);
    close(guard->fd);
    close(guard->end_fd);
    g_free(guard);
}

bool fut_guard_set(FutGuard *guard, uint8_t *at, size_t length, bool on)
{
    struct uffdio_writeprotect call = { .range = { (uintptr_t)at, length },
                                        .mode = on ? UFFDIO_WRITEPROTECT_MODE_WP : 0 };
    int result;

    do {
        result = ioctl(guard->fd, UFFDIO_WRITEPROTECT, &call);
    } while (result != 0 && (errno == EAGAIN || errno == EINTR));
    return result == 0;
}
