/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the twin's copy of one disk lacks. */
#include "disk_map.h"

typedef struct {
    uint64_t epoch;
    uint64_t first, last; /* chunks */
} Span;

static uint64_t first_chunk(const FutDiskMap *map, uint64_t offset)
{
    return offset >> map->shift;
}

static uint64_t last_chunk(const FutDiskMap *map, uint64_t offset, uint64_t length)
{
    return (offset + length - 1) >> map->shift;
}

void fut_disk_map_init(FutDiskMap *map, uint64_t length, unsigned shift)
{
    g_assert(length > 0);
    *map = (FutDiskMap){ .length = length, .shift = shift };
    map->chunks = last_chunk(map, 0, length) + 1;
    map->state = g_malloc0(map->chunks);
    map->flags = g_malloc0(map->chunks);
    map->unnoted = g_array_new(FALSE, FALSE, sizeof(uint64_t));
    map->unconfirmed = g_array_new(FALSE, FALSE, sizeof(Span));
}

void fut_disk_map_done(FutDiskMap *map)
{
    g_clear_pointer(&map->state, g_free);
    g_clear_pointer(&map->flags, g_free);
    g_clear_pointer(&map->unnoted, g_array_unref);
    g_clear_pointer(&map->unconfirmed, g_array_unref);
}

void fut_disk_map_forget(FutDiskMap *map)
{
    memset(map->state, FUT_CHUNK_NEEDED, map->chunks);
    map->synced = 0;
    map->cursor = 0;
    map->claim_count = 0;
    g_array_set_size(map->unconfirmed, 0);
    map->marked = 0;
}

static void set_flag(FutDiskMap *map, unsigned flag, uint64_t offset, uint64_t length)
{
    uint64_t last = last_chunk(map, offset, length);
    for (uint64_t i = first_chunk(map, offset); i <= last; i++) {
        map->flags[i] |= flag;
    }
}

static void need(FutDiskMap *map, uint64_t first, uint64_t last)
{
    for (uint64_t i = first; i <= last; i++) {
        if (map->state[i] == FUT_CHUNK_SYNCED) {
            map->state[i] = FUT_CHUNK_NEEDED;
            map->synced--;
        }
    }
}

/* -- the guest's writes -- */

static bool overlap(uint64_t a, uint64_t a_length, uint64_t b, uint64_t b_length)
{
    return a < b + b_length && b < a + a_length;
}

bool fut_disk_map_begin(FutDiskMap *map, FutDiskWrite *write)
{
    g_assert(write->length > 0 && write->offset < map->length &&
             write->length <= map->length - write->offset);
    for (const FutDiskWrite *other = map->writes; other; other = other->next) {
        if (overlap(write->offset, write->length, other->offset, other->length)) {
            return false;
        }
    }
    write->sending = false;
    uint64_t last = last_chunk(map, write->offset, write->length);
    for (uint64_t i = first_chunk(map, write->offset); i <= last; i++) {
        if (map->state[i] == FUT_CHUNK_CLAIMED) {
            return false;
        }
        write->sending |= map->state[i] == FUT_CHUNK_SYNCED;
    }
    set_flag(map, FUT_CHUNK_RECENT, write->offset, write->length);
    write->next = map->writes;
    write->link = &map->writes;
    if (write->next) {
        write->next->link = &write->next;
    }
    map->writes = write;
    return true;
}

bool fut_disk_map_piece(const FutDiskMap *map, const FutDiskWrite *write, uint64_t *at,
                        uint64_t *ret_offset, uint64_t *ret_length)
{
    uint64_t end = write->offset + write->length;
    uint64_t from = *at;
    while (from < end && map->state[first_chunk(map, from)] != FUT_CHUNK_SYNCED) {
        from = (first_chunk(map, from) + 1) << map->shift;
    }
    if (from >= end) {
        return false;
    }
    uint64_t to = from;
    while (to < end && map->state[first_chunk(map, to)] == FUT_CHUNK_SYNCED) {
        to = (first_chunk(map, to) + 1) << map->shift;
    }
    *ret_offset = from;
    *ret_length = MIN(to, end) - from;
    *at = to;
    return true;
}

void fut_disk_map_end(FutDiskMap *map, FutDiskWrite *write)
{
    *write->link = write->next;
    if (write->next) {
        write->next->link = write->link;
    }
}

void fut_disk_map_sent(FutDiskMap *map, uint64_t epoch, uint64_t offset, uint64_t length)
{
    Span span = { epoch, first_chunk(map, offset), last_chunk(map, offset, length) };
    GArray *spans = map->unconfirmed;
    set_flag(map, FUT_CHUNK_RECENT, offset, length);
    if (spans->len > map->marked) {
        Span *last = &g_array_index(spans, Span, spans->len - 1);
        g_assert(epoch >= last->epoch);
        if (last->epoch == epoch && span.first <= last->last + 1 && last->first <= span.last + 1) {
            last->first = MIN(last->first, span.first);
            last->last = MAX(last->last, span.last);
            return;
        }
    }
    g_array_append_val(spans, span);
}

void fut_disk_map_missed(FutDiskMap *map, uint64_t offset, uint64_t length)
{
    need(map, first_chunk(map, offset), last_chunk(map, offset, length));
}

/* -- the twin -- */

void fut_disk_map_confirm(FutDiskMap *map, uint64_t epoch)
{
    guint count = 0;
    while (count < map->unconfirmed->len &&
           g_array_index(map->unconfirmed, Span, count).epoch <= epoch) {
        count++;
    }
    g_array_remove_range(map->unconfirmed, 0, count);
    map->marked -= MIN(map->marked, count);
}

void fut_disk_map_lost(FutDiskMap *map)
{
    for (guint i = 0; i < map->unconfirmed->len; i++) {
        const Span *span = &g_array_index(map->unconfirmed, Span, i);
        need(map, span->first, span->last);
    }
    g_array_set_size(map->unconfirmed, 0);
    map->marked = 0;
    fut_disk_map_copied(map, 0);
    map->cursor = 0;
}

/* -- what is safe -- */

void fut_disk_map_mark(FutDiskMap *map)
{
    for (uint64_t i = 0; i < map->chunks; i++) {
        if (map->flags[i] & FUT_CHUNK_RECENT) {
            map->flags[i] = (map->flags[i] & ~FUT_CHUNK_RECENT) | FUT_CHUNK_OLD;
        }
    }
    for (const FutDiskWrite *write = map->writes; write; write = write->next) {
        set_flag(map, FUT_CHUNK_RECENT, write->offset, write->length);
    }
    map->marked = map->unconfirmed->len;
}

void fut_disk_map_safe(FutDiskMap *map)
{
    g_array_remove_range(map->unconfirmed, 0, map->marked);
    map->marked = 0;
}

void fut_disk_map_clean(FutDiskMap *map, void (*clean)(void *opaque, uint64_t chunk), void *opaque)
{
    for (uint64_t i = 0; i < map->chunks; i++) {
        if (!(map->flags[i] & FUT_CHUNK_OLD)) {
            continue;
        }
        map->flags[i] &= ~FUT_CHUNK_OLD;
        if (map->state[i] == FUT_CHUNK_SYNCED && !(map->flags[i] & FUT_CHUNK_RECENT)) {
            map->flags[i] &= ~FUT_CHUNK_NOTED;
            clean(opaque, i);
        }
    }
}

void fut_disk_map_unsafe(FutDiskMap *map)
{
    for (uint64_t i = 0; i < map->chunks; i++) {
        if (map->flags[i] & (FUT_CHUNK_OLD | FUT_CHUNK_RECENT)) {
            need(map, i, i);
        }
    }
    map->cursor = 0;
}

bool fut_disk_map_noted(FutDiskMap *map, uint64_t offset, uint64_t length)
{
    uint64_t last = last_chunk(map, offset, length);
    bool noted = true;
    for (uint64_t i = first_chunk(map, offset); i <= last; i++) {
        if (!(map->flags[i] & FUT_CHUNK_NOTED)) {
            g_array_append_val(map->unnoted, i);
            noted = false;
        }
    }
    return noted;
}

void fut_disk_map_load(FutDiskMap *map, bool (*differs)(void *opaque, uint64_t chunk), void *opaque)
{
    for (uint64_t i = 0; i < map->chunks; i++) {
        bool needed = differs(opaque, i);
        map->state[i] = needed ? FUT_CHUNK_NEEDED : FUT_CHUNK_SYNCED;
        map->flags[i] = needed ? FUT_CHUNK_NOTED : 0;
        map->synced += !needed;
    }
}

/* -- the copy -- */

bool fut_disk_map_claim(FutDiskMap *map, uint64_t max_chunks, uint64_t *ret_offset,
                        uint64_t *ret_length)
{
    g_assert(map->claim_count == 0 && max_chunks > 0);
    if (map->synced == map->chunks) {
        return false;
    }
    while (map->cursor >= map->chunks || map->state[map->cursor] != FUT_CHUNK_NEEDED) {
        map->cursor = map->cursor + 1 < map->chunks ? map->cursor + 1 : 0;
    }
    map->claim_first = map->cursor;
    while (map->claim_count < max_chunks && map->cursor < map->chunks &&
           map->state[map->cursor] == FUT_CHUNK_NEEDED) {
        map->state[map->cursor++] = FUT_CHUNK_CLAIMED;
        map->claim_count++;
    }
    *ret_offset = map->claim_first << map->shift;
    *ret_length = MIN(map->cursor << map->shift, map->length) - *ret_offset;
    return true;
}

bool fut_disk_map_claimed(const FutDiskMap *map)
{
    return map->claim_count > 0;
}

bool fut_disk_map_quiet(const FutDiskMap *map)
{
    uint64_t offset = map->claim_first << map->shift;
    uint64_t length = map->claim_count << map->shift;
    for (const FutDiskWrite *write = map->writes; write; write = write->next) {
        if (overlap(offset, length, write->offset, write->length)) {
            return false;
        }
    }
    return true;
}

void fut_disk_map_copied(FutDiskMap *map, uint64_t length)
{
    uint64_t sent = length > 0 ? last_chunk(map, 0, length) + 1 : 0;
    g_assert(sent <= map->claim_count);
    for (uint64_t i = 0; i < map->claim_count; i++) {
        map->state[map->claim_first + i] = i < sent ? FUT_CHUNK_SYNCED : FUT_CHUNK_NEEDED;
    }
    map->synced += sent;
    map->cursor = map->claim_first + sent;
    map->claim_count = 0;
}
