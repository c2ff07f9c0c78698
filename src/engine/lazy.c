/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lazy.h"

#include <errno.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fut_clock.h"
#include "fut_error.h"
#include "userfault.h"

/* What comes at once when one page is wanted: a frame of the store has as many, and they were neighbours when it was written. */
#define GROUP_PAGES 16u
/* What comes at once when a page is wanted that is zeroes. */
#define ZERO_PAGES 64u
/* Between two looks for somebody who waits; whole groups. */
#define STEP_PAGES 64u
#define AGAIN_MS 200
/* Between looks for a hot page that is still being read. */
#define HOT_MS 1
/* What lies round the page that was wanted last will probably be wanted next: so many groups on either side come before the rest (the "bubble"
 * of Hines and Gopalan). */
#define NEAR_GROUPS 64u
#define TELL_AGAIN_NS (60 * FUT_NS_PER_S)
#define NEEDED (1ull << _UFFDIO_COPY | 1ull << _UFFDIO_ZEROPAGE | 1ull << _UFFDIO_WAKE)

struct FutLazy {
    FutSnapshot *snapshot;
    const FutMemory *memory;
    FutHotPages *hot; /* NULL: none, or none left */
    const FutLazyHost *host;
    void *opaque;
    int fd, wake_fd; /* eventfd: `end` or `held` has changed */
    GThread *thread;
    int end, permille, faults; /* atomic */
    int held;                  /* atomic: only what somebody waits for, and hot pages */
    GMutex lock;               /* of what follows */
    GCond settled;
    bool has_hot; /* all of them are there */

    /* the thread's own */
    unsigned area[FUT_BLOCKS_MAX];  /* number in the snapshot, by block */
    uint64_t *done[FUT_BLOCKS_MAX]; /* a bit a group: its pages are there, or zeroes */
    uint16_t *here[FUT_BLOCKS_MAX]; /* of a group that is not: a bit for each page that is */
    uint64_t total, gone;           /* pages */
    unsigned came_hot;
    uint64_t told_ns; /* when trouble was, 0: never */
    unsigned block;   /* the background's place */
    uint64_t page;
    unsigned pivot_block; /* where somebody waited last */
    uint64_t pivot;       /* group */
    unsigned distance;    /* from there, of the next to fetch; above 2 * NEAR_GROUPS: none */
    uint64_t first;       /* page of a step */
    uint64_t stored;      /* a bit a page of a step: it is in `data`, and not put yet */
    uint8_t data[STEP_PAGES][FUT_PAGE_SIZE];
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

/* Bytes that were put, or a negative error: what is there already is -EEXIST. `data` NULL: zeroes. */
static int64_t try_put(const FutLazy *lazy, uint64_t at, uint64_t length, const uint8_t *data)
{
    struct uffdio_copy copy = { .dst = at, .src = (uintptr_t)data, .len = length };
    struct uffdio_zeropage zero = { .range = { at, length } };
    int result =
        data ? ioctl(lazy->fd, UFFDIO_COPY, &copy) : ioctl(lazy->fd, UFFDIO_ZEROPAGE, &zero);
    int64_t done = data ? copy.copy : zero.zeropage;

    return result == 0 ? (int64_t)length : done != 0 ? done : -errno;
}

/* Pages in a row. One that is there already stays as it is, and who waits for any goes on. */
static bool put_pages(const FutLazy *lazy, unsigned block, uint64_t page, uint64_t count,
                      const uint8_t *data, GError **error)
{
    uint64_t at = (uintptr_t)lazy->memory->block[block].base + (page << FUT_PAGE_SHIFT);
    uint64_t end = at + (count << FUT_PAGE_SHIFT);

    while (at < end) {
        int64_t done = try_put(lazy, at, end - at, data);
        if (done == -EEXIST) {
            struct uffdio_range range = { at, FUT_PAGE_SIZE };
            done = ioctl(lazy->fd, UFFDIO_WAKE, &range) == 0 ? (int64_t)FUT_PAGE_SIZE : -errno;
        }
        if (done < 0 && done != -EAGAIN && done != -EINTR) {
            errno = (int)-done;
            return fail_put(error);
        }
        done = MAX(done, 0);
        at += (uint64_t)done;
        data = data ? data + done : NULL;
    }
    return true;
}

/* Those whose bit is `on`, run by run; `data` NULL: zeroes. */
static bool put_runs(const FutLazy *lazy, unsigned block, uint64_t page, uint64_t count,
                     uint64_t bits, bool on, const uint8_t *data, GError **error)
{
    for (uint64_t i = 0, end; i < count; i = end) {
        bool is = bits >> i & 1;
        for (end = i + 1; end < count && (bits >> end & 1) == is; end++) {
        }
        if (is == on && !put_pages(lazy, block, page + i, end - i,
                                   data ? data + (i << FUT_PAGE_SHIFT) : NULL, error)) {
            return false;
        }
    }
    return true;
}

/* The rest of a page's group. Not that page again, nor what was there before: it may have been given back since. */
static bool put_neighbours(FutLazy *lazy, unsigned block, uint64_t wanted, GError **error)
{
    uint64_t first = wanted - wanted % GROUP_PAGES, stored = 0;
    uint64_t here = lazy->here[block][wanted / GROUP_PAGES] | 1ull << (wanted - first);
    uint64_t count = MIN(GROUP_PAGES, pages_of(lazy, block) - first);

    for (uint64_t i = 0; i < count; i++) {
        bool zero = true;
        if (!(here >> i & 1) && !fut_snapshot_read(lazy->snapshot, lazy->area[block], first + i,
                                                   lazy->data[i], &zero, error)) {
            return false;
        }
        stored |= (uint64_t)!zero << i;
    }
    if (!put_runs(lazy, block, first, count, stored, true, lazy->data[0], error) ||
        !put_runs(lazy, block, first, count, stored | here, false, NULL, error)) {
        return false;
    }
    set_done(lazy, block, wanted / GROUP_PAGES);
    return true;
}

/* The page that is waited for, then the rest of its group: who has its page does not wait for others that cannot be read; these are tried again. */
static bool put_group(FutLazy *lazy, unsigned block, uint64_t wanted, GError **error)
{
    bool zero;

    G_STATIC_ASSERT(FUT_UNIT_SIZE == FUT_PAGE_SIZE && GROUP_PAGES <= STEP_PAGES &&
                    STEP_PAGES <= 64);
    if (!fut_snapshot_read(lazy->snapshot, lazy->area[block], wanted, lazy->data[0], &zero,
                           error) ||
        !put_pages(lazy, block, wanted, 1, zero ? NULL : lazy->data[0], error)) {
        return false;
    }
    put_neighbours(lazy, block, wanted, NULL);
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

/* A page that was put is there, or was given back since (a balloon). One of a group that is done may have been zeroes. */
static bool is_put(const FutLazy *lazy, unsigned block, uint64_t page)
{
    uint64_t group = page / GROUP_PAGES;

    return is_done(lazy, block, group) || lazy->here[block][group] >> (page % GROUP_PAGES) & 1;
}

/* Zeroes, and all that follow up to the next page that is there: who takes one page that was free mostly takes the next one soon. */
static bool put_zeroes(const FutLazy *lazy, unsigned block, uint64_t page, GError **error)
{
    uint64_t end = page + 1, limit = MIN(page + ZERO_PAGES, pages_of(lazy, block));
    uint64_t at = (uintptr_t)lazy->memory->block[block].base + (page << FUT_PAGE_SHIFT);

    while (end < limit && is_done(lazy, block, end / GROUP_PAGES)) {
        end++;
    }
    return try_put(lazy, at, (end - page) << FUT_PAGE_SHIFT, NULL) > 0 ||
           put_pages(lazy, block, page, 1, NULL, error);
}

static bool answer(FutLazy *lazy, unsigned block, uint64_t page, GError **error)
{
    return is_put(lazy, block, page) ? put_zeroes(lazy, block, page, error)
                                     : put_group(lazy, block, page, error);
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
            lazy->pivot_block = i;
            lazy->pivot = (offset >> FUT_PAGE_SHIFT) / GROUP_PAGES;
            lazy->distance = 2;
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

/* -- what the guest used last -- */

/* Pages of a group, with their contents one after the other. */
static bool put_some(FutLazy *lazy, const FutHotGroup *group, uint16_t zero, const uint8_t *data,
                     GError **error)
{
    unsigned mask = group->mask;

    for (unsigned i = 0, end; i < GROUP_PAGES; i = end) {
        end = i + 1;
        if (!(mask >> i & 1)) {
            continue;
        }
        while (end < GROUP_PAGES && mask >> end & 1 && (zero >> end & 1) == (zero >> i & 1)) {
            end++;
        }
        if (!put_pages(lazy, group->block, group->group * GROUP_PAGES + i, end - i,
                       zero >> i & 1 ? NULL : data, error)) {
            return false;
        }
        data += (size_t)(end - i) << FUT_PAGE_SHIFT;
    }
    return true;
}

/* *ret_some false: there is nothing just now. */
static bool put_hot(FutLazy *lazy, bool *ret_some, GError **error)
{
    FutHotGroup group;
    uint16_t zero;
    const uint8_t *data;

    G_STATIC_ASSERT(FUT_HOT_GROUP == GROUP_PAGES);
    FutHotNext next =
        lazy->hot ? fut_hot_pages_next(lazy->hot, &group, &zero, &data) : FUT_HOT_OVER;
    *ret_some = next == FUT_HOT_READY;
    if (next == FUT_HOT_OVER) {
        lazy->hot = NULL;
    }
    if (!*ret_some || is_done(lazy, group.block, group.group)) {
        return true;
    }
    if (!put_some(lazy, &group, zero, data, error)) {
        return false;
    }
    lazy->here[group.block][group.group] |= group.mask;
    lazy->came_hot += (unsigned)__builtin_popcount(group.mask);
    return true;
}

/* -- the rest, meanwhile -- */

static bool keep_page(void *opaque, uint64_t unit, const uint8_t *data, GError **error)
{
    FutLazy *lazy = opaque;

    memcpy(lazy->data[unit - lazy->first], data, FUT_PAGE_SIZE);
    lazy->stored |= 1ull << (unit - lazy->first);
    return true;
}

/* Of whole groups. Zeroes are not put anywhere: when all is over, untouched memory is that. */
static bool fetch(FutLazy *lazy, unsigned block, uint64_t first, uint64_t count, GError **error)
{
    lazy->first = first;
    lazy->stored = 0;
    if (!fut_snapshot_each(lazy->snapshot, lazy->area[block], first, count, keep_page, lazy,
                           error)) {
        return false;
    }
    for (uint64_t i = 0; i < count; i += GROUP_PAGES) {
        uint64_t group = (first + i) / GROUP_PAGES;
        uint64_t here = is_done(lazy, block, group) ? UINT16_MAX : lazy->here[block][group];
        lazy->stored &= ~(here << i);
    }
    if (!put_runs(lazy, block, first, count, lazy->stored, true, lazy->data[0], error)) {
        return false;
    }
    for (uint64_t i = 0; i < count; i += GROUP_PAGES) {
        set_done(lazy, block, (first + i) / GROUP_PAGES);
    }
    return true;
}

/* One group near the pivot: +1, -1, +2, -2, … *ret_some false: there is none left. */
static bool fetch_near(FutLazy *lazy, bool *ret_some, GError **error)
{
    uint64_t pages = pages_of(lazy, lazy->pivot_block);

    for (*ret_some = false; lazy->distance <= 2 * NEAR_GROUPS; lazy->distance++) {
        uint64_t by = lazy->distance / 2;
        /* Below the beginning it is a very large number. */
        uint64_t group = lazy->distance % 2 ? lazy->pivot - by : lazy->pivot + by;
        uint64_t first = group * GROUP_PAGES;
        if (group <= pages / GROUP_PAGES && first < pages &&
            !is_done(lazy, lazy->pivot_block, group)) {
            *ret_some = true;
            return fetch(lazy, lazy->pivot_block, first, MIN(GROUP_PAGES, pages - first), error);
        }
    }
    return true;
}

static bool is_all_done(const FutLazy *lazy, uint64_t count)
{
    for (uint64_t i = 0; i < count; i += GROUP_PAGES) {
        if (!is_done(lazy, lazy->block, (lazy->page + i) / GROUP_PAGES)) {
            return false;
        }
    }
    return true;
}

/* The next pages in order. */
static bool fetch_next(FutLazy *lazy, GError **error)
{
    uint64_t pages = pages_of(lazy, lazy->block);
    uint64_t count = MIN(STEP_PAGES, pages - lazy->page);

    if (!is_all_done(lazy, count) && !fetch(lazy, lazy->block, lazy->page, count, error)) {
        return false;
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

static bool step(FutLazy *lazy, GError **error)
{
    bool some;

    return put_hot(lazy, &some, error) && (some || fetch_near(lazy, &some, error)) &&
           (some || fetch_next(lazy, error));
}

/* What could not be read near the pivot must not keep the rest from coming. */
static void pause_for_fault(FutLazy *lazy)
{
    struct pollfd polled = { .fd = lazy->fd, .events = POLLIN };

    lazy->distance = 2 * NEAR_GROUPS + 1;
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

/* -- held back -- */

static void tell_hot(FutLazy *lazy)
{
    g_mutex_lock(&lazy->lock);
    lazy->has_hot = true;
    g_cond_broadcast(&lazy->settled);
    g_mutex_unlock(&lazy->lock);
}

/* Sleeps until somebody needs a page, or it is to go on; not for long while hot pages are still being read. */
static void sleep_held(const FutLazy *lazy)
{
    struct pollfd polled[] = { { .fd = lazy->fd, .events = POLLIN },
                               { .fd = lazy->wake_fd, .events = POLLIN } };

    poll(polled, G_N_ELEMENTS(polled), lazy->hot ? HOT_MS : -1);
}

static bool step_held(FutLazy *lazy, GError **error)
{
    bool some;

    if (!put_hot(lazy, &some, error)) {
        return false;
    }
    if (!lazy->hot && !lazy->has_hot) {
        tell_hot(lazy);
    }
    if (!some) {
        sleep_held(lazy);
    }
    return true;
}

static void *run(void *opaque)
{
    FutLazy *lazy = opaque;

    while (lazy->block < lazy->memory->count && !g_atomic_int_get(&lazy->end)) {
        g_autoptr(GError) error = NULL;
        bool held = g_atomic_int_get(&lazy->held);
        serve(lazy);
        if (held ? !step_held(lazy, &error) : !step(lazy, &error)) {
            tell(lazy, error, false);
            pause_for_fault(lazy);
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
        lazy->here[block] = g_new0(uint16_t, pages_of(lazy, block) / GROUP_PAGES + 1);
        lazy->total += pages_of(lazy, block);
    }
}

static FutLazy *begin(FutSnapshot *snapshot, const FutMemory *memory, FutHotPages *hot, bool held,
                      const FutLazyHost *host, void *opaque, GError **error)
{
    g_autoptr(FutLazy) lazy = g_new0(FutLazy, 1);

    *lazy = (FutLazy){ .snapshot = snapshot,
                       .memory = memory,
                       .hot = hot,
                       .host = host,
                       .opaque = opaque,
                       .held = held,
                       .wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) };
    g_assert(lazy->wake_fd >= 0);
    g_mutex_init(&lazy->lock);
    g_cond_init(&lazy->settled);
    lazy->distance = 2 * NEAR_GROUPS + 1;
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

FutLazy *fut_lazy_new(FutSnapshot *snapshot, const FutMemory *memory, FutHotPages *hot,
                      const FutLazyHost *host, void *opaque, GError **error)
{
    return begin(snapshot, memory, hot, false, host, opaque, error);
}

FutLazy *fut_lazy_new_held(FutSnapshot *snapshot, const FutMemory *memory, FutHotPages *hot,
                           const FutLazyHost *host, void *opaque, GError **error)
{
    return begin(snapshot, memory, hot, true, host, opaque, error);
}

void fut_lazy_wait_hot(FutLazy *lazy)
{
    g_mutex_lock(&lazy->lock);
    while (!lazy->has_hot) {
        g_cond_wait(&lazy->settled, &lazy->lock);
    }
    g_mutex_unlock(&lazy->lock);
}

static void wake(const FutLazy *lazy)
{
    uint64_t one = 1;

    g_assert(write(lazy->wake_fd, &one, sizeof(one)) == sizeof(one));
}

void fut_lazy_go(FutLazy *lazy)
{
    g_atomic_int_set(&lazy->held, FALSE);
    wake(lazy);
}

unsigned fut_lazy_permille(const FutLazy *lazy)
{
    return (unsigned)g_atomic_int_get(&lazy->permille);
}

unsigned fut_lazy_faults(const FutLazy *lazy)
{
    return (unsigned)g_atomic_int_get(&lazy->faults);
}

unsigned fut_lazy_hot(const FutLazy *lazy)
{
    return lazy->came_hot;
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
        wake(lazy);
        fut_lazy_wait(lazy);
    }
    for (unsigned i = 0; i < lazy->memory->count; i++) {
        g_free(lazy->done[i]);
        g_free(lazy->here[i]);
    }
    if (lazy->fd >= 0) {
        close(lazy->fd);
    }
    close(lazy->wake_fd);
    g_mutex_clear(&lazy->lock);
    g_cond_clear(&lazy->settled);
    g_free(lazy);
}
