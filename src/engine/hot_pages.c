/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "hot_pages.h"

#include <sys/mman.h>

#define THREADS_MAX 4u

typedef struct {
    FutHotGroup is;
    uint8_t *data;
    uint16_t zero;
    int read; /* atomic: 0 until `is.mask` is of the pages that were read */
} Group;

typedef struct {
    FutHotPages *hot;
    FutSnapshot *snapshot; /* its own reader */
    GThread *thread;
} Reader;

struct FutHotPages {
    Group *groups;
    unsigned count, next;
    uint8_t *data;
    size_t bytes;
    int taken, end; /* atomic: groups that a reader has begun; no more of them */
    Reader readers[THREADS_MAX];
    unsigned threads;
};

static void read_group(Reader *reader, Group *group)
{
    uint8_t *at = group->data;
    uint16_t wanted = group->is.mask, got = 0;

    for (unsigned i = 0; i < FUT_HOT_GROUP; i++) {
        bool zero = false;
        if (wanted >> i & 1 &&
            fut_snapshot_read(reader->snapshot, group->is.area, group->is.group * FUT_HOT_GROUP + i,
                              at, &zero, NULL)) {
            got |= (uint16_t)(1u << i);
            group->zero |= (uint16_t)((unsigned)zero << i);
            at += FUT_UNIT_SIZE;
        }
    }
    group->is.mask = got;
    g_atomic_int_set(&group->read, 1);
}

static void *work(void *opaque)
{
    Reader *reader = opaque;
    FutHotPages *hot = reader->hot;

    while (!g_atomic_int_get(&hot->end)) {
        unsigned number = (unsigned)g_atomic_int_add(&hot->taken, 1);
        if (number >= hot->count) {
            break;
        }
        read_group(reader, &hot->groups[number]);
    }
    return NULL;
}

/* One processor is left to who makes the machine. */
static void start(FutHotPages *hot, const FutSnapshot *snapshot)
{
    hot->threads = CLAMP(g_get_num_processors() - 1, 1, THREADS_MAX);
    for (unsigned i = 0; i < hot->threads; i++) {
        Reader *reader = &hot->readers[i];
        *reader = (Reader){ hot, fut_snapshot_copy(snapshot), NULL };
        reader->thread = g_thread_new("futago-hot", work, reader);
    }
}

static bool make_room(FutHotPages *hot, const GArray *list)
{
    size_t pages = 0;

    for (guint i = 0; i < list->len; i++) {
        pages += (size_t)__builtin_popcount(g_array_index(list, FutHotGroup, i).mask);
    }
    hot->bytes = pages * FUT_UNIT_SIZE;
    hot->data = mmap(NULL, hot->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return hot->data != MAP_FAILED;
}

static void fill_groups(FutHotPages *hot, const GArray *list)
{
    uint8_t *at = hot->data;

    hot->count = list->len;
    hot->groups = g_new0(Group, hot->count);
    for (unsigned i = 0; i < hot->count; i++) {
        hot->groups[i].is = g_array_index(list, FutHotGroup, i);
        hot->groups[i].data = at;
        at += (size_t)__builtin_popcount(hot->groups[i].is.mask) * FUT_UNIT_SIZE;
    }
}

FutHotPages *fut_hot_pages_new(const FutSnapshot *snapshot)
{
    g_autoptr(GArray) list = fut_hot_list_decode(fut_snapshot_info(snapshot));
    FutHotPages *hot = g_new0(FutHotPages, 1);

    if (list->len == 0 || !make_room(hot, list)) {
        g_free(hot);
        return NULL;
    }
    fill_groups(hot, list);
    start(hot, snapshot);
    return hot;
}

FutHotNext fut_hot_pages_next(FutHotPages *hot, FutHotGroup *ret, uint16_t *ret_zero,
                              const uint8_t **ret_data)
{
    if (hot->next == hot->count) {
        return FUT_HOT_OVER;
    }
    const Group *group = &hot->groups[hot->next];
    if (!g_atomic_int_get(&group->read)) {
        return FUT_HOT_NOT_YET;
    }
    hot->next++;
    *ret = group->is;
    *ret_zero = group->zero;
    *ret_data = group->data;
    return FUT_HOT_READY;
}

void fut_hot_pages_free(FutHotPages *hot)
{
    if (!hot) {
        return;
    }
    g_atomic_int_set(&hot->end, TRUE);
    for (unsigned i = 0; i < hot->threads; i++) {
        g_thread_join(hot->readers[i].thread);
        fut_snapshot_close(hot->readers[i].snapshot);
    }
    munmap(hot->data, hot->bytes);
    g_free(hot->groups);
    g_free(hot);
}
