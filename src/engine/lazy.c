/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lazy.h"

#include <errno.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fut_clock.h"
#include "fut_error.h"
#include "userfault.h"

/* What comes at once when one page is wanted: a frame of the store has as many, and they were neighbours when it was written. */
#define GROUP_PAGES 16u
/* Between two looks for somebody who waits; whole groups. */
#define STEP_PAGES 64u
#define AGAIN_MS 200
#define TELL_AGAIN_NS (60 * FUT_NS_PER_S)
#define NEEDED (1ull << _UFFDIO_COPY | 1ull << _UFFDIO_ZEROPAGE | 1ull << _UFFDIO_WAKE)

struct FutLazy {
    FutSnapshot *snapshot;
    const FutMemory *memory;
    const FutLazyHost *host;
    void *opaque;
    int fd;
    GThread *thread;
    int end, permille, faults; /* atomic */

    /* the thread's own */
    unsigned area[FUT_BLOCKS_MAX];  /* number in the snapshot, by block */
    uint64_t *done[FUT_BLOCKS_MAX]; /* a bit a group: its pages are there, or zeroes */
    uint64_t total, gone;           /* pages */
    uint64_t told_ns;               /* when trouble was, 0: never */
    unsigned block;                 /* the background's place */
    uint64_t page;
};

/* -- pages -- */

static bool is_done(const FutLazy *lazy, unsigned block, uint64_t group)
{
    return lazy->done[block][group / 64] >> (group % 64) & 1;
}

static void set_done(FutLazy *lazy, unsigned block, uint64_t group)
{
    lazy->done[block][group / 64] |= 1ull << (group % 64);
}

static uint64_t pages_of(const FutLazy *lazy, unsigned block)
{
    return lazy->memory->block[block].length >> FUT_PAGE_SHIFT;
}

static bool fail_put(GError **error)
{
    g_set_error(error, FUT_ERROR, FUT_ERR_IO, "a page cannot be put into the guest's memory: %s",
                g_strerror(errno));
    return false;
}

/* One that is there already stays as it is, and who waits for it goes on. `data` NULL: zeroes. */
static bool put_page(FutLazy *lazy, unsigned block, uint64_t page, const uint8_t *data,
                     GError **error)
{
    uint64_t at = (uintptr_t)lazy->memory->block[block].base + (page << FUT_PAGE_SHIFT);
    struct uffdio_range range = { at, FUT_PAGE_SIZE };
    int result;

    do {
        struct uffdio_copy copy = { .dst = at, .src = (uintptr_t)data, .len = FUT_PAGE_SIZE };
        struct uffdio_zeropage zero = { .range = range };
        result =
            data ? ioctl(lazy->fd, UFFDIO_COPY, &copy) : ioctl(lazy->fd, UFFDIO_ZEROPAGE, &zero);
    } while (result != 0 && (errno == EAGAIN || errno == EINTR));
    if (result != 0 && errno == EEXIST) {
        result = ioctl(lazy->fd, UFFDIO_WAKE, &range);
    }
    return result == 0 || fail_put(error);
}

static bool put_group(FutLazy *lazy, unsigned block, uint64_t group, GError **error)
{
    uint64_t first = group * GROUP_PAGES;
    uint64_t count = MIN(GROUP_PAGES, pages_of(lazy, block) - first);
    uint8_t data[FUT_UNIT_SIZE];
    bool zero;

    G_STATIC_ASSERT(FUT_UNIT_SIZE == FUT_PAGE_SIZE);
    for (uint64_t i = 0; i < count; i++) {
        if (!fut_snapshot_read(lazy->snapshot, lazy->area[block], first + i, data, &zero, error) ||
            !put_page(lazy, block, first + i, zero ? NULL : data, error)) {
            return false;
        }
    }
    set_done(lazy, block, group);
    return true;
}

static void tell(FutLazy *lazy, const GError *error, bool ends)
{
    uint64_t now_ns = fut_now_ns();

    if (ends || lazy->told_ns == 0 || now_ns - lazy->told_ns >= TELL_AGAIN_NS) {
        lazy->told_ns = now_ns;
        lazy->host->trouble(lazy->opaque, error->message, ends);
    }
}

/* -- who waits -- */

/* A page of a group that is done was zeroes, or was given back since (a balloon): zeroes either way. */
static bool answer(FutLazy *lazy, unsigned block, uint64_t page, GError **error)
{
    return is_done(lazy, block, page / GROUP_PAGES)
               ? put_page(lazy, block, page, NULL, error)
               : put_group(lazy, block, page / GROUP_PAGES, error);
}

static void provide(FutLazy *lazy, unsigned block, uint64_t page)
{
    uint64_t begin_ns = fut_now_ns();
    bool told = false;

    while (!g_atomic_int_get(&lazy->end)) {
        g_autoptr(GError) error = NULL;
        if (answer(lazy, block, page, &error)) {
            return;
        }
        if (!told) {
            tell(lazy, error, true);
            told = true;
        }
        if (fut_now_ns() - begin_ns >= lazy->host->patience_ns) {
            lazy->host->lost(lazy->opaque, error->message);
            g_assert_not_reached();
        }
        g_usleep(AGAIN_MS * 1000);
    }
}

static void handle(FutLazy *lazy, const struct uffd_msg *message)
{
    const FutMemory *memory = lazy->memory;

    if (message->event != UFFD_EVENT_PAGEFAULT) {
        return;
    }
    for (unsigned i = 0; i < memory->count; i++) {
        uint64_t offset = message->arg.pagefault.address - (uintptr_t)memory->block[i].base;
        if (offset < memory->block[i].length) {
            g_atomic_int_inc(&lazy->faults);
            provide(lazy, i, offset >> FUT_PAGE_SHIFT);
            return;
        }
    }
}

static void serve(FutLazy *lazy)
{
    struct uffd_msg message;

    while (!g_atomic_int_get(&lazy->end) &&
           read(lazy->fd, &message, sizeof(message)) == sizeof(message)) {
        handle(lazy, &message);
    }
}

/* -- the rest, meanwhile -- */

static bool put_unit(void *opaque, uint64_t unit, const uint8_t *data, GError **error)
{
    FutLazy *lazy = opaque;

    return is_done(lazy, lazy->block, unit / GROUP_PAGES) ||
           put_page(lazy, lazy->block, unit, data, error);
}

/* Zeroes are not put anywhere: when all is over, untouched memory is that. */
static bool step(FutLazy *lazy, GError **error)
{
    uint64_t pages = pages_of(lazy, lazy->block);
    uint64_t count = MIN(STEP_PAGES, pages - lazy->page);

    if (!fut_snapshot_each(lazy->snapshot, lazy->area[lazy->block], lazy->page, count, put_unit,
                           lazy, error)) {
        return false;
    }
    for (uint64_t i = 0; i < count; i += GROUP_PAGES) {
        set_done(lazy, lazy->block, (lazy->page + i) / GROUP_PAGES);
    }
    lazy->page += count;
    lazy->gone += count;
    if (lazy->page >= pages) {
        lazy->page = 0;
        lazy->block++;
    }
    g_atomic_int_set(&lazy->permille, (int)(lazy->gone * 1000 / lazy->total));
    return true;
}

static void wait_for_fault(FutLazy *lazy)
{
    struct pollfd polled = { .fd = lazy->fd, .events = POLLIN };

    poll(&polled, 1, AGAIN_MS);
}

static void leave(const FutLazy *lazy, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        struct uffdio_range range = { (uintptr_t)lazy->memory->block[i].base,
                                      lazy->memory->block[i].length };
        ioctl(lazy->fd, UFFDIO_UNREGISTER, &range);
    }
}

static void *run(void *opaque)
{
    FutLazy *lazy = opaque;

    while (lazy->block < lazy->memory->count && !g_atomic_int_get(&lazy->end)) {
        g_autoptr(GError) error = NULL;
        serve(lazy);
        if (!step(lazy, &error)) {
            tell(lazy, error, false);
            wait_for_fault(lazy);
        }
    }
    /* Whoever waits is woken by this, and finds zeroes where nothing was put. */
    leave(lazy, lazy->memory->count);
    return NULL;
}

/* -- beginning and end -- */

static bool fail_new(GError **error)
{
    g_set_error(error, FUT_ERROR, FUT_ERR_UNSUPPORTED,
                "memory cannot be fetched on demand: %s: run as root, with memory of 4 KiB pages "
                "that is not locked or a file, or restore without --lazy",
                g_strerror(errno));
    return false;
}

/* What is shared is taken out of its file, too: else it would come back from there. */
static bool discard(uint8_t *base, uint64_t length)
{
    return madvise(base, length, MADV_REMOVE) == 0 || madvise(base, length, MADV_DONTNEED) == 0;
}

/* First registered, then emptied: what somebody touches between is emptied, too. */
static bool enter(const FutLazy *lazy, GError **error)
{
    for (unsigned i = 0; i < lazy->memory->count; i++) {
        uint8_t *base = lazy->memory->block[i].base;
        uint64_t length = lazy->memory->block[i].length;
        struct uffdio_register call = { .range = { (uintptr_t)base, length },
                                        .mode = UFFDIO_REGISTER_MODE_MISSING };
        bool good = ioctl(lazy->fd, UFFDIO_REGISTER, &call) == 0;
        if (good && (call.ioctls & NEEDED) != NEEDED) {
            errno = ENOTSUP;
            good = false;
        }
        if (!good || !discard(base, length)) {
            fail_new(error);
            leave(lazy, i + 1);
            return false;
        }
    }
    return true;
}

static void prepare(FutLazy *lazy)
{
    const FutSnapshotInfo *info = fut_snapshot_info(lazy->snapshot);
    unsigned block = 0;

    for (unsigned i = 0; i < info->areas->len; i++) {
        if (fut_snapshot_info_nth(info, i)->kind == FUT_AREA_MEMORY) {
            g_assert(block < lazy->memory->count);
            lazy->area[block++] = i;
        }
    }
    g_assert(block == lazy->memory->count);
    for (block = 0; block < lazy->memory->count; block++) {
        lazy->done[block] = g_new0(uint64_t, pages_of(lazy, block) / GROUP_PAGES / 64 + 1);
        lazy->total += pages_of(lazy, block);
    }
}

FutLazy *fut_lazy_new(FutSnapshot *snapshot, const FutMemory *memory, const FutLazyHost *host,
                      void *opaque, GError **error)
{
    g_autoptr(FutLazy) lazy = g_new0(FutLazy, 1);

    *lazy = (FutLazy){ .snapshot = snapshot, .memory = memory, .host = host, .opaque = opaque };
    prepare(lazy);
    lazy->fd = fut_userfault_open(0);
    if (lazy->fd < 0) {
        fail_new(error);
        return NULL;
    }
    if (!enter(lazy, error)) {
        return NULL;
    }
    lazy->thread = g_thread_new("futago-lazy", run, lazy);
    return g_steal_pointer(&lazy);
}

unsigned fut_lazy_permille(const FutLazy *lazy)
{
    return (unsigned)g_atomic_int_get(&lazy->permille);
}

unsigned fut_lazy_faults(const FutLazy *lazy)
{
    return (unsigned)g_atomic_int_get(&lazy->faults);
}

void fut_lazy_wait(FutLazy *lazy)
{
    g_thread_join(g_steal_pointer(&lazy->thread));
}

void fut_lazy_free(FutLazy *lazy)
{
    if (!lazy) {
        return;
    }
    if (lazy->thread) {
        g_atomic_int_set(&lazy->end, TRUE);
        fut_lazy_wait(lazy);
    }
    for (unsigned i = 0; i < lazy->memory->count; i++) {
        g_free(lazy->done[i]);
    }
    if (lazy->fd >= 0) {
        close(lazy->fd);
    }
    g_free(lazy);
}
