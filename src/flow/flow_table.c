/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "flow_table.h"

#include <glib.h>
#include <string.h>

#define BUCKETS 2048u
#define NONE UINT16_MAX

enum {
    BOTH_ENDS = 1 << FUT_END_GUEST | 1 << FUT_END_PEER
};

typedef struct {
    FutFlow flow;
    uint8_t ended;         /* bit by FutEnd: has sent a FIN */
    uint16_t chain;        /* next of the bucket */
    uint16_t newer, older; /* by use; NONE at the ends */
} Entry;

struct FutFlowTable {
    uint16_t bucket[BUCKETS];
    uint16_t newest, oldest;
    uint16_t used; /* of `entry`; from the beginning */
    uint64_t salt; /* nobody outside shall know which connections share a bucket */
    Entry entry[FUT_FLOWS_MAX];
};

FutFlowTable *fut_flow_table_new(void)
{
    FutFlowTable *table = g_new0(FutFlowTable, 1);

    memset(table->bucket, 0xff, sizeof(table->bucket));
    table->newest = table->oldest = NONE;
    table->salt = (uint64_t)g_random_int() << 32 | g_random_int();
    return table;
}

void fut_flow_table_free(FutFlowTable *table)
{
    g_free(table);
}

/* -- order of use -- */

static void take_out(FutFlowTable *table, uint16_t number)
{
    const Entry *entry = &table->entry[number];

    *(entry->newer == NONE ? &table->newest : &table->entry[entry->newer].older) = entry->older;
    *(entry->older == NONE ? &table->oldest : &table->entry[entry->older].newer) = entry->newer;
}

static void put_newest(FutFlowTable *table, uint16_t number)
{
    Entry *entry = &table->entry[number];

    entry->newer = NONE;
    entry->older = table->newest;
    *(table->newest == NONE ? &table->oldest : &table->entry[table->newest].newer) = number;
    table->newest = number;
}

static void put_oldest(FutFlowTable *table, uint16_t number)
{
    Entry *entry = &table->entry[number];

    entry->older = NONE;
    entry->newer = table->oldest;
    *(table->oldest == NONE ? &table->newest : &table->entry[table->oldest].older) = number;
    table->oldest = number;
}

/* -- finding -- */

static uint16_t *bucket_of(FutFlowTable *table, const FutFlowKey *key)
{
    uint64_t word, hash = table->salt;

    for (size_t i = 0; i + 8 <= sizeof(*key); i += 8) {
        memcpy(&word, (const uint8_t *)key + i, 8);
        hash = (hash ^ word) * 0x9e3779b97f4a7c15u;
        hash ^= hash >> 29;
    }
    return &table->bucket[hash >> 32 & (BUCKETS - 1)];
}

static uint16_t find(const FutFlowTable *table, uint16_t number, const FutFlowKey *key)
{
    while (number != NONE && memcmp(&table->entry[number].flow.key, key, sizeof(*key)) != 0) {
        number = table->entry[number].chain;
    }
    return number;
}

static void unchain(FutFlowTable *table, uint16_t number)
{
    uint16_t *at = bucket_of(table, &table->entry[number].flow.key);

    while (*at != number) {
        at = &table->entry[*at].chain;
    }
    *at = table->entry[number].chain;
}

/* A new entry, the newest; the one that was used least recently goes for it. */
static uint16_t insert(FutFlowTable *table, const FutFlow *flow, uint16_t *bucket)
{
    uint16_t number = table->used;

    if (number < FUT_FLOWS_MAX) {
        table->used++;
    } else {
        number = table->oldest;
        take_out(table, number);
        unchain(table, number);
    }
    table->entry[number] = (Entry){ .flow = *flow, .chain = *bucket };
    *bucket = number;
    put_newest(table, number);
    return number;
}

/* -- what passes -- */

static bool makes_entry(FutEnd from, const FutSegment *segment)
{
    return from == FUT_END_GUEST && (segment->flags & (FUT_TCP_ACK | FUT_TCP_SYN | FUT_TCP_FIN |
                                                       FUT_TCP_RST)) == FUT_TCP_ACK;
}

static void close_entry(FutFlowTable *table, uint16_t number)
{
    table->entry[number].ended = BOTH_ENDS;
    take_out(table, number);
    put_oldest(table, number); /* the next to go */
}

static void note_flags(FutFlowTable *table, uint16_t number, FutEnd from, uint8_t flags)
{
    Entry *entry = &table->entry[number];

    if (flags & FUT_TCP_SYN) {
        entry->ended = 0; /* the same ports again */
    }
    entry->ended |= flags & FUT_TCP_FIN ? 1 << from : 0;
    if (flags & FUT_TCP_RST || entry->ended == BOTH_ENDS) {
        close_entry(table, number);
    }
}

void fut_flow_table_see(FutFlowTable *table, FutEnd from, const FutFlow *flow,
                        const FutSegment *segment)
{
    uint16_t *bucket = bucket_of(table, &flow->key);
    uint16_t number = find(table, *bucket, &flow->key);

    if (number == NONE) {
        if (makes_entry(from, segment)) {
            insert(table, flow, bucket);
        }
        return;
    }
    Entry *entry = &table->entry[number];
    if (entry->ended == BOTH_ENDS && !(segment->flags & FUT_TCP_SYN)) {
        return; /* the last acknowledgements */
    }
    if (from == FUT_END_GUEST) {
        memcpy(entry->flow.mac, flow->mac, sizeof(flow->mac));
    }
    if (table->newest != number) {
        take_out(table, number);
        put_newest(table, number);
    }
    note_flags(table, number, from, segment->flags);
}

void fut_flow_table_add(FutFlowTable *table, const FutFlow *flow)
{
    uint16_t *bucket = bucket_of(table, &flow->key);
    uint16_t number = find(table, *bucket, &flow->key);

    if (number == NONE) {
        insert(table, flow, bucket);
    } else {
        table->entry[number].ended = 0;
    }
}

void fut_flow_table_remove(FutFlowTable *table, const FutFlowKey *key)
{
    uint16_t number = find(table, *bucket_of(table, key), key);

    if (number != NONE) {
        close_entry(table, number);
    }
}

unsigned fut_flow_table_list(const FutFlowTable *table, FutFlow ret[FUT_FLOWS_MAX])
{
    unsigned count = 0;

    for (uint16_t i = table->newest; i != NONE; i = table->entry[i].older) {
        if (table->entry[i].ended != BOTH_ENDS) {
            ret[count++] = table->entry[i].flow;
        }
    }
    return count;
}
