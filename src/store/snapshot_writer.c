/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Writes a snapshot: records into packs of its own, the nodes that change in memory, the manifest last. */
#include <string.h>
#include <xxhash.h>

#include "byteorder.h"
#include "fut_clock.h"
#include "fut_error.h"
#include "store_internal.h"

/* Lowest nodes in memory at a time (4 KiB each); then they are written, and read again if needed. */
#define NODES_MAX 8192
/* How often free space is looked at. */
#define LOOK_EVERY_BYTES (4u << 20)

struct FutSnapshotWriter {
    FutStore *store;
    FutSnapshotInfo *info;
    FutPackSet set; /* of the store, and of this snapshot as they are finished */
    FutRecordReader *reader;
    FutPackWriter *pack; /* NULL: none begun */
    GHashTable *nodes;   /* uint64_t key -> Node */
    unsigned lowest;     /* nodes of level 1 among them */
    FutWriteStats stats;
    uint64_t min_free, looked_at;
    uint64_t finished_bytes; /* of packs that are done */
    uint32_t first_pack;     /* numbers from here on are this snapshot's; 0: none yet */
    bool state_put, failed;
    bool parent_damaged; /* what it has of the parent cannot be read */
};

/* Level 1 is over units, level `height` is the root. */
typedef struct {
    uint64_t key;
    unsigned area, level;
    uint64_t index;
    uint64_t places[FUT_NODE_PLACES];
} Node;

/* A record that will be stored next. */
typedef struct {
    bool zero;
    XXH128_canonical_t hash; /* if not */
} Looked;

static bool spoil(FutSnapshotWriter *writer)
{
    writer->failed = true;
    return false;
}

static FutArea *area_of(const FutSnapshotWriter *writer, unsigned area)
{
    g_assert(area < writer->info->areas->len);
    return writer->info->areas->pdata[area];
}

/* -- records -- */

static bool check_room(FutSnapshotWriter *writer, GError **error)
{
    uint64_t is;

    if (writer->min_free == 0) {
        return true;
    }
    int code = writer->store->fs->ops->free_bytes(writer->store->fs, &is);
    if (code) {
        return fut_store_fs_fail(writer->store->fs, "look at", "", code, error);
    }
    if (is < writer->min_free) {
        g_set_error(error, FUT_ERROR, FUT_ERR_STATE,
                    "%s has %" G_GUINT64_FORMAT " MiB free, and %" G_GUINT64_FORMAT
                    " MiB have to stay: prune the store, or make room",
                    writer->store->fs->path, is >> 20, writer->min_free >> 20);
        return false;
    }
    return true;
}

static bool finish_pack(FutSnapshotWriter *writer, GError **error)
{
    uint64_t bytes = fut_pack_writer_bytes(writer->pack);
    FutPack *pack =
        fut_pack_writer_finish(g_steal_pointer(&writer->pack), &writer->store->identity, error);

    if (!pack) {
        return false;
    }
    writer->finished_bytes += MAX(bytes, pack->length);
    fut_pack_set_add(&writer->set, pack);
    return true;
}

/* A pack that has room for one record. */
static bool need_pack(FutSnapshotWriter *writer, GError **error)
{
    uint32_t number;

    if (writer->pack && fut_pack_writer_full(writer->pack) && !finish_pack(writer, error)) {
        return false;
    }
    if (writer->pack) {
        uint64_t at = writer->finished_bytes + fut_pack_writer_bytes(writer->pack);
        bool due = at - writer->looked_at > LOOK_EVERY_BYTES;
        writer->looked_at = due ? at : writer->looked_at;
        return !due || check_room(writer, error);
    }
    if (!fut_store_take_pack_number(writer->store, &number, error)) {
        return false;
    }
    writer->first_pack = writer->first_pack ? writer->first_pack : number;
    writer->pack =
        fut_pack_writer_new(writer->store->fs, &writer->store->identity, number, number, error);
    return writer->pack != NULL;
}

static bool is_own_pack(const FutSnapshotWriter *writer, uint32_t number)
{
    return writer->first_pack && number >= writer->first_pack;
}

/* In a file, and whole there: a snapshot in full repairs what it finds damaged by storing it anew. */
static bool is_there(const FutSnapshotWriter *writer, uint64_t place)
{
    FutPack *pack;
    size_t entry;

    return fut_pack_set_find(&writer->set, place, &pack, &entry) &&
           (is_own_pack(writer, pack->first) || fut_pack_frame_holds(pack, entry));
}

/* Known, and still there: in a file, or in the pack that is being written (whose number is above all files'). */
static uint64_t find_known(const FutSnapshotWriter *writer, const uint8_t *hash, uint32_t current)
{
    uint64_t place = fut_known_records_find(writer->store->known, hash);

    return place && ((current && fut_place_pack(place) == current) || is_there(writer, place))
               ? place
               : 0;
}

static bool is_zero(const uint8_t *record)
{
    return record[0] == 0 && memcmp(record, record + 1, FUT_RECORD_SIZE - 1) == 0;
}

static uint32_t current_pack(const FutSnapshotWriter *writer)
{
    return writer->pack ? fut_pack_writer_number(writer->pack) : 0;
}

static void look_at(const FutSnapshotWriter *writer, const uint8_t *record, Looked *ret)
{
    ret->zero = is_zero(record);
    if (!ret->zero) {
        XXH128_canonicalFromHash(&ret->hash, XXH3_128bits_withSeed(record, FUT_RECORD_SIZE,
                                                                   writer->store->identity.seed));
        fut_known_records_expect(writer->store->known, ret->hash.digest);
    }
}

static bool store_looked_at(FutSnapshotWriter *writer, const uint8_t *record, const Looked *looked,
                            uint64_t *ret_place, GError **error)
{
    const uint8_t *hash = looked->hash.digest;

    if (looked->zero) {
        writer->stats.zero++;
        *ret_place = 0;
        return true;
    }
    *ret_place = find_known(writer, hash, current_pack(writer));
    if (*ret_place) {
        writer->stats.known++;
        return true;
    }
    if (!need_pack(writer, error) ||
        !fut_pack_writer_add(writer->pack, record, hash, ret_place, error)) {
        return false;
    }
    fut_known_records_add(writer->store->known, hash, *ret_place);
    return true;
}

static bool store_record(FutSnapshotWriter *writer, const uint8_t *record, uint64_t *ret_place,
                         GError **error)
{
    Looked looked;

    look_at(writer, record, &looked);
    return store_looked_at(writer, record, &looked, ret_place, error);
}

static bool read_record(FutSnapshotWriter *writer, uint64_t place, uint8_t *record, GError **error)
{
    if (writer->pack && fut_place_pack(place) == current_pack(writer)) {
        return fut_pack_writer_read(writer->pack, place, record, error);
    }
    const uint8_t *found = fut_record_read(writer->reader, place, error);
    if (found) {
        memcpy(record, found, FUT_RECORD_SIZE);
    }
    return found != NULL;
}

/* -- nodes -- */

static uint64_t key_of(unsigned area, unsigned level, uint64_t index)
{
    return (uint64_t)area << 48 | (uint64_t)level << 44 | index;
}
G_STATIC_ASSERT(FUT_STORE_AREA_MAX >> (FUT_UNIT_SHIFT + FUT_NODE_SHIFT) <= 1ull << 44);

static Node *get_node(FutSnapshotWriter *writer, unsigned area, unsigned level, uint64_t index,
                      GError **error);

/* Where the node's (or unit's) place is kept: in the node above, or as the root. */
static uint64_t *home_of(FutSnapshotWriter *writer, unsigned area, unsigned level, uint64_t index,
                         GError **error)
{
    FutArea *is = area_of(writer, area);

    if (level == fut_area_height(is->length)) {
        return &is->root;
    }
    Node *above = get_node(writer, area, level + 1, index >> FUT_NODE_SHIFT, error);
    return above ? &above->places[index % FUT_NODE_PLACES] : NULL;
}

static bool load_node(FutSnapshotWriter *writer, Node *node, uint64_t place, GError **error)
{
    uint8_t record[FUT_RECORD_SIZE];

    if (place == 0) {
        return true;
    }
    if (!read_record(writer, place, record, error)) {
        writer->parent_damaged |= !is_own_pack(writer, fut_place_pack(place));
        return false;
    }
    for (unsigned i = 0; i < FUT_NODE_PLACES; i++) {
        node->places[i] = fut_get_le64(record + i * 8);
    }
    return true;
}

static Node *get_node(FutSnapshotWriter *writer, unsigned area, unsigned level, uint64_t index,
                      GError **error)
{
    uint64_t key = key_of(area, level, index);
    Node *node = g_hash_table_lookup(writer->nodes, &key);

    if (node) {
        return node;
    }
    uint64_t *home = home_of(writer, area, level, index, error);
    if (!home) {
        return NULL;
    }
    node = g_new0(Node, 1);
    *node = (Node){ .key = key, .area = area, .level = level, .index = index };
    if (!load_node(writer, node, *home, error)) {
        g_free(node);
        return NULL;
    }
    g_hash_table_insert(writer->nodes, &node->key, node);
    writer->lowest += level == 1;
    return node;
}

static gint by_key(gconstpointer a, gconstpointer b)
{
    const Node *x = *(Node *const *)a, *y = *(Node *const *)b;

    return x->key < y->key ? -1 : x->key > y->key;
}

static bool write_node(FutSnapshotWriter *writer, Node *node, GError **error)
{
    uint8_t record[FUT_RECORD_SIZE];
    uint64_t *home = home_of(writer, node->area, node->level, node->index, error);
    FutWriteStats stats = writer->stats; /* is about units */

    for (unsigned i = 0; i < FUT_NODE_PLACES; i++) {
        fut_put_le64(record + i * 8, node->places[i]);
    }
    bool good = home && store_record(writer, record, home, error);
    writer->stats = stats;
    return good;
}

/* Writes all nodes of a level and forgets them. */
static bool flush_level(FutSnapshotWriter *writer, unsigned level, GError **error)
{
    g_autoptr(GPtrArray) nodes = g_ptr_array_new();
    GHashTableIter iter;
    gpointer value;

    g_hash_table_iter_init(&iter, writer->nodes);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        if (((Node *)value)->level == level) {
            g_ptr_array_add(nodes, value);
        }
    }
    g_ptr_array_sort(nodes, by_key);
    for (guint i = 0; i < nodes->len; i++) {
        Node *node = nodes->pdata[i];
        if (!write_node(writer, node, error)) {
            return false;
        }
        g_hash_table_remove(writer->nodes, &node->key);
    }
    writer->lowest = level == 1 ? 0 : writer->lowest;
    return true;
}

static bool set_place(FutSnapshotWriter *writer, unsigned area, uint64_t unit, uint64_t place,
                      GError **error)
{
    uint64_t *home = home_of(writer, area, 0, unit, error);

    if (!home) {
        return false;
    }
    area_of(writer, area)->put_units += *home != place;
    *home = place;
    return writer->lowest <= NODES_MAX || flush_level(writer, 1, error);
}

/* -- begin -- */

/* The areas' trees begin as the parent's. */
static bool adopt_parent(FutSnapshotWriter *writer, GError **error)
{
    FutSnapshotInfo *info = writer->info;
    g_autoptr(FutSnapshotInfo) parent =
        fut_manifest_read(writer->store->fs, info->parent, &writer->store->identity, error);

    for (guint i = 0; parent && i < info->areas->len; i++) {
        FutArea *area = info->areas->pdata[i];
        const FutArea *was = fut_snapshot_info_area(parent, area->kind, area->name, NULL);
        if (!was || was->length != area->length) {
            g_set_error(error, FUT_ERROR, FUT_ERR_MISMATCH,
                        "snapshot %" G_GUINT64_FORMAT " has no area '%s' of %" G_GUINT64_FORMAT
                        " bytes: take a full one",
                        info->parent, area->name, area->length);
            return false;
        }
        area->root = was->root;
    }
    return parent != NULL;
}

static bool choose_id(FutSnapshotWriter *writer, GError **error)
{
    FutStore *store = writer->store;
    g_autoptr(GPtrArray) names = fut_store_names(store, error);
    uint64_t id, highest = 0, wanted = writer->info->id;
    bool taken = false;

    if (!names || !fut_store_raise_snapshot(store, 1, error)) {
        return false;
    }
    for (guint i = 0; i < names->len; i++) {
        if (fut_manifest_parse_name(names->pdata[i], &id)) {
            highest = MAX(highest, id);
            taken = taken || id == wanted;
        }
    }
    highest = MAX(highest, store->last_id);
    writer->info->id = wanted ? wanted : MAX(highest + 1, store->next_snapshot);
    if (taken) {
        g_set_error(error, FUT_ERROR, FUT_ERR_BUSY,
                    "%s has a snapshot %" G_GUINT64_FORMAT " already", store->fs->path, wanted);
    }
    return !taken;
}

static void reset_areas(FutSnapshotInfo *info)
{
    g_assert(info->areas->len < FUT_STORE_AREAS_MAX);
    for (guint i = 0; i < info->areas->len; i++) {
        FutArea *area = info->areas->pdata[i];
        g_assert(area->kind != FUT_AREA_STATE && area->length <= FUT_STORE_AREA_MAX);
        area->root = area->put_units = 0;
    }
}

static void writer_free(FutSnapshotWriter *writer)
{
    fut_pack_writer_free(writer->pack);
    fut_record_reader_free(writer->reader);
    fut_pack_set_done(&writer->set);
    g_hash_table_unref(writer->nodes);
    g_clear_pointer(&writer->info, fut_snapshot_info_free);
    fut_store_unlock(writer->store);
    g_free(writer);
}

static bool prepare(FutSnapshotWriter *writer, GError **error)
{
    FutStore *store = writer->store;

    if (!fut_store_packs(store, &writer->set, error)) {
        return false;
    }
    writer->reader = fut_record_reader_new(&writer->set);
    if (!store->known) {
        store->known = fut_known_records_new();
        fut_known_records_load(store->known, &writer->set);
    }
    return choose_id(writer, error) && (!writer->info->parent || adopt_parent(writer, error)) &&
           check_room(writer, error);
}

FutSnapshotWriter *fut_store_begin(FutStore *store, const FutSnapshotInfo *info, uint64_t min_free,
                                   unsigned wait_ms, GError **error)
{
    if (!fut_store_lock(store, wait_ms, error)) {
        return NULL;
    }
    FutSnapshotWriter *writer = g_new0(FutSnapshotWriter, 1);
    writer->store = store;
    writer->min_free = min_free;
    writer->nodes = g_hash_table_new_full(g_int64_hash, g_int64_equal, NULL, g_free);
    writer->info = fut_snapshot_info_copy(info);
    reset_areas(writer->info);
    if (!prepare(writer, error)) {
        writer_free(writer);
        return NULL;
    }
    return writer;
}

/* -- put -- */

static bool put_unit(FutSnapshotWriter *writer, unsigned area, uint64_t unit, const uint8_t *data,
                     const Looked *looked, GError **error)
{
    uint64_t place;

    writer->stats.put++;
    return store_looked_at(writer, data, looked, &place, error) &&
           set_place(writer, area, unit, place, error);
}

/* The last one of an area that does not end with a unit. */
static bool put_end(FutSnapshotWriter *writer, unsigned area, uint64_t unit, const uint8_t *data,
                    uint64_t length, GError **error)
{
    uint8_t whole[FUT_RECORD_SIZE] = { 0 };
    Looked looked;

    memcpy(whole, data, length);
    look_at(writer, whole, &looked);
    return put_unit(writer, area, unit, whole, &looked, error);
}

static void check_range(const FutSnapshotWriter *writer, unsigned area, uint64_t offset,
                        uint64_t length)
{
    const FutArea *is = area_of(writer, area);

    g_assert(offset % FUT_UNIT_SIZE == 0 && offset <= is->length && length <= is->length - offset);
    g_assert(length % FUT_UNIT_SIZE == 0 || offset + length == is->length);
}

bool fut_snapshot_put(FutSnapshotWriter *writer, unsigned area, uint64_t offset,
                      const uint8_t *data, uint64_t length, GError **error)
{
    uint64_t unit = offset >> FUT_UNIT_SHIFT;
    Looked
        looked[2]; /* one ahead: what is known of the next is on its way while this one is stored */

    check_range(writer, area, offset, length);
    g_assert(!writer->failed);
    if (length >= FUT_UNIT_SIZE) {
        look_at(writer, data, &looked[unit % 2]);
    }
    for (; length >= FUT_UNIT_SIZE; unit++, data += FUT_UNIT_SIZE, length -= FUT_UNIT_SIZE) {
        if (length >= 2 * FUT_UNIT_SIZE) {
            look_at(writer, data + FUT_UNIT_SIZE, &looked[(unit + 1) % 2]);
        }
        if (!put_unit(writer, area, unit, data, &looked[unit % 2], error)) {
            return spoil(writer);
        }
    }
    return length == 0 || put_end(writer, area, unit, data, length, error) || spoil(writer);
}

/* The units from `unit` up to `end`, all under one lowest node. What is zeroes already costs a look. */
static bool zero_under_node(FutSnapshotWriter *writer, unsigned area, uint64_t unit, uint64_t end,
                            GError **error)
{
    uint64_t index = unit >> FUT_NODE_SHIFT;
    uint64_t key = key_of(area, 1, index);
    uint64_t *home = home_of(writer, area, 1, index, error);

    if (!home || (*home == 0 && !g_hash_table_contains(writer->nodes, &key))) {
        return home != NULL;
    }
    for (; unit < end; unit++) {
        if (!set_place(writer, area, unit, 0, error)) {
            return false;
        }
    }
    return true;
}

bool fut_snapshot_put_zeroes(FutSnapshotWriter *writer, unsigned area, uint64_t offset,
                             uint64_t length, GError **error)
{
    uint64_t unit = offset >> FUT_UNIT_SHIFT;
    uint64_t end = unit + fut_area_units(length);

    check_range(writer, area, offset, length);
    g_assert(!writer->failed);
    writer->stats.put += end - unit;
    writer->stats.zero += end - unit;
    if (fut_area_height(area_of(writer, area)->length) == 0) {
        return end == unit || set_place(writer, area, 0, 0, error) || spoil(writer);
    }
    while (unit < end) {
        uint64_t next = MIN(end, (unit | (FUT_NODE_PLACES - 1)) + 1);
        if (!zero_under_node(writer, area, unit, next, error)) {
            return spoil(writer);
        }
        unit = next;
    }
    return true;
}

bool fut_snapshot_put_state(FutSnapshotWriter *writer, const uint8_t *state, size_t length,
                            GError **error)
{
    g_assert(!writer->state_put);
    writer->state_put = true;
    unsigned area = fut_snapshot_info_add(writer->info, FUT_AREA_STATE, "", length);
    return fut_snapshot_put(writer, area, 0, state, length, error);
}

void fut_snapshot_note_times(FutSnapshotWriter *writer, uint64_t time_us, uint64_t stop_ns,
                             uint64_t took_ns, uint64_t memory_hash)
{
    writer->info->time_us = time_us;
    writer->info->stop_ns = stop_ns;
    writer->info->took_ns = took_ns;
    writer->info->memory_hash = memory_hash;
}

void fut_snapshot_note_flows(FutSnapshotWriter *writer, const uint8_t *bytes, size_t length)
{
    g_assert(length <= FUT_STORE_FLOWS_MAX);
    g_bytes_unref(writer->info->flows);
    writer->info->flows = g_bytes_new(bytes, length);
}

void fut_snapshot_note_hot(FutSnapshotWriter *writer, const uint8_t *bytes, size_t length)
{
    g_assert(length <= FUT_STORE_HOT_MAX);
    g_bytes_unref(writer->info->hot);
    writer->info->hot = length > 0 ? g_bytes_new(bytes, length) : NULL;
}

void fut_snapshot_note_code(FutSnapshotWriter *writer, const uint8_t *bytes, size_t length)
{
    g_assert(length <= FUT_STORE_CODE_MAX);
    g_bytes_unref(writer->info->code);
    writer->info->code = length > 0 ? g_bytes_new(bytes, length) : NULL;
}

uint64_t fut_snapshot_writer_id(const FutSnapshotWriter *writer)
{
    return writer->info->id;
}

bool fut_snapshot_parent_damaged(const FutSnapshotWriter *writer)
{
    return writer->parent_damaged;
}

FutWriteStats fut_snapshot_write_stats(const FutSnapshotWriter *writer)
{
    FutWriteStats stats = writer->stats;

    stats.bytes = writer->finished_bytes + (writer->pack ? fut_pack_writer_bytes(writer->pack) : 0);
    return stats;
}

/* -- the end -- */

static unsigned highest_level(const FutSnapshotInfo *info)
{
    unsigned highest = 0;

    for (guint i = 0; i < info->areas->len; i++) {
        highest = MAX(highest, fut_area_height(((FutArea *)info->areas->pdata[i])->length));
    }
    return highest;
}

static bool write_all(FutSnapshotWriter *writer, GError **error)
{
    FutStoreFs *fs = writer->store->fs;
    unsigned levels = highest_level(writer->info);

    for (unsigned level = 1; level <= levels; level++) {
        if (!flush_level(writer, level, error)) {
            return false;
        }
    }
    if (writer->pack && !finish_pack(writer, error)) {
        return false;
    }
    writer->info->stored = writer->finished_bytes;
    int code = fs->ops->sync_folder(fs); /* also for packs of who died before */
    if (code) {
        return fut_store_fs_fail(fs, "write", "", code, error);
    }
    return fut_manifest_write(fs, writer->info, &writer->store->identity, error);
}

bool fut_snapshot_commit(FutSnapshotWriter *take_writer, FutSnapshotInfo **ret_info, GError **error)
{
    g_assert(!take_writer->failed);
    take_writer->store->last_id = MAX(take_writer->store->last_id, take_writer->info->id);
    if (!write_all(take_writer, error)) {
        fut_snapshot_abort(take_writer);
        return false;
    }
    if (ret_info) {
        *ret_info = g_steal_pointer(&take_writer->info);
    }
    writer_free(take_writer);
    return true;
}

/* The packs that are done already are known by no manifest. */
void fut_snapshot_abort(FutSnapshotWriter *take_writer)
{
    FutStoreFs *fs = take_writer->store->fs;

    for (guint i = 0; i < take_writer->set.packs->len; i++) {
        const FutPack *pack = take_writer->set.packs->pdata[i];
        if (take_writer->first_pack && pack->first >= take_writer->first_pack) {
            fs->ops->remove(fs, pack->name);
        }
    }
    writer_free(take_writer);
}
