/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "known_records.h"

#include <string.h>

#include "byteorder.h"

#define SLOTS (1u << 19)
#define WAYS 2
#define CHUNK_HASHES 4096

typedef struct {
    uint64_t hash[2], place; /* place 0: empty */
} Slot;

struct FutKnownRecords {
    Slot *slots;
};

FutKnownRecords *fut_known_records_new(void)
{
    FutKnownRecords *known = g_new0(FutKnownRecords, 1);

    known->slots = g_new0(Slot, SLOTS);
    return known;
}

void fut_known_records_free(FutKnownRecords *known)
{
    if (known) {
        g_free(known->slots);
        g_free(known);
    }
}

static Slot *bucket(const FutKnownRecords *known, const uint8_t *hash)
{
    return &known->slots[(fut_get_le64(hash) % (SLOTS / WAYS)) * WAYS];
}

static bool is(const Slot *slot, const uint8_t *hash)
{
    return slot->place && slot->hash[0] == fut_get_le64(hash) &&
           slot->hash[1] == fut_get_le64(hash + 8);
}

void fut_known_records_expect(const FutKnownRecords *known, const uint8_t hash[FUT_HASH_SIZE])
{
    __builtin_prefetch(bucket(known, hash));
}

uint64_t fut_known_records_find(const FutKnownRecords *known, const uint8_t hash[FUT_HASH_SIZE])
{
    const Slot *slot = bucket(known, hash);

    for (unsigned i = 0; i < WAYS; i++) {
        if (is(&slot[i], hash)) {
            return slot[i].place;
        }
    }
    return 0;
}

/* The newest first; the oldest of a bucket is forgotten. */
void fut_known_records_add(FutKnownRecords *known, const uint8_t hash[FUT_HASH_SIZE],
                           uint64_t place)
{
    Slot *slot = bucket(known, hash);

    if (!is(&slot[0], hash)) {
        slot[1] = slot[0];
    }
    slot[0] = (Slot){ { fut_get_le64(hash), fut_get_le64(hash + 8) }, place };
}

typedef struct {
    FutKnownRecords *known;
    const FutPack *pack;
    uint8_t hashes[CHUNK_HASHES * FUT_HASH_SIZE];
    uint64_t first; /* number of the first hash in the buffer */
    size_t count;
} Loading;

static const uint8_t *hash_at(Loading *l, uint64_t number)
{
    if (number < l->first || number >= l->first + l->count) {
        l->first = number;
        l->count = (size_t)MIN(CHUNK_HASHES, l->pack->hash_count - number);
        if (!fut_pack_read_hashes(l->pack, number, l->count, l->hashes, NULL)) {
            l->count = 0;
            return NULL;
        }
    }
    return l->hashes + (number - l->first) * FUT_HASH_SIZE;
}

static bool load_entry(Loading *l, const FutPackEntry *entry)
{
    uint64_t number = entry->first_hash;

    for (unsigned i = 0; i < FUT_GROUP_RECORDS; i++) {
        if (entry->mask >> i & 1) {
            const uint8_t *hash = hash_at(l, number++);
            if (!hash) {
                return false;
            }
            fut_known_records_add(l->known, hash,
                                  FUT_PLACE(entry->pack, entry->group * FUT_GROUP_RECORDS + i));
        }
    }
    return true;
}

void fut_known_records_load(FutKnownRecords *known, const FutPackSet *set)
{
    g_autofree Loading *l = g_new(Loading, 1);
    uint64_t room = SLOTS;
    guint from = set->packs->len;

    l->known = known;
    while (from > 0 && room > 0) {
        const FutPack *pack = set->packs->pdata[--from];
        room -= MIN(room, pack->hash_count);
    }
    for (; from < set->packs->len; from++) {
        l->pack = set->packs->pdata[from];
        l->count = 0;
        l->first = 0;
        for (size_t i = 0; i < l->pack->count && load_entry(l, &l->pack->entries[i]); i++) {
        }
    }
}
