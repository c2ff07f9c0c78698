/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A store whose files hold anything: each is read, or refused with a reason; what could be read before a prune can be read after it.
 *
 * Input: a byte of flags, then files: kind ('s' store, 'm' manifest, 'p' pack), two numbers of its name u32, length u32, bytes.
 * SEALED: identity, versions, lengths and checksums are made to fit before the files are read, so that what they cover is reached. */
#include <glib.h>
#include <xxhash.h>

#include "byteorder.h"
#include "fut_error.h"
#include "fuzz.h"
#include "store_diff.h"
#include "store_internal.h"
#include "store_sim.h"
#include "store_verify.h"

#define SEALED 1
#define FILES_MAX 16
#define SMALL_UNITS (1u << 13) /* areas of so many units are read whole */

static const uint8_t store_id[16] = "a store's name.";

/* -- making checksums fit -- */

static void seal_store(uint8_t *bytes, size_t length)
{
    if (length < S_SIZE) {
        return;
    }
    memcpy(bytes + S_MAGIC, "FUTSTORE", 8);
    fut_put_le32(bytes + S_VERSION, FUT_STORE_VERSION);
    memcpy(bytes + S_ID, store_id, sizeof(store_id));
    fut_put_le64(bytes + S_CHECKSUM, XXH3_64bits(bytes, S_CHECKSUM));
}

static void seal_manifest(uint8_t *bytes, size_t length, uint32_t id)
{
    if (length < M_SIZE) {
        return;
    }
    memcpy(bytes + M_MAGIC, "FUTSNAP1", 8);
    fut_put_le32(bytes + M_VERSION, FUT_STORE_VERSION);
    fut_put_le32(bytes + M_LENGTH, (uint32_t)(length - M_SIZE));
    memcpy(bytes + M_ID, store_id, sizeof(store_id));
    fut_put_le64(bytes + M_SNAPSHOT, id);
    fut_put_le64(bytes + M_FIELDS_CHECK, XXH3_64bits(bytes + M_SIZE, length - M_SIZE));
    fut_put_le64(bytes + M_CHECKSUM, XXH3_64bits(bytes, M_CHECKSUM));
}

static void seal_frames(uint8_t *bytes, size_t length, const uint8_t *entries, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        uint64_t at = fut_get_le64(entries + i * E_SIZE + E_OFFSET);
        uint32_t stored = fut_get_le32(entries + i * E_SIZE + E_STORED);
        if (at <= length && length - at >= F_SIZE && length - at - F_SIZE >= stored) {
            fut_put_le64(bytes + at + F_CHECKSUM, fut_frame_check(bytes + at, stored));
        }
    }
}

static void seal_index(uint8_t *bytes, size_t length)
{
    uint8_t *footer = bytes + length - T_SIZE, both[T_CHECKSUM + P_SIZE];
    uint64_t at = fut_get_le64(footer + T_ENTRIES_AT), count = fut_get_le64(footer + T_ENTRIES);
    uint64_t hashes = fut_get_le64(footer + T_HASHES);

    if (at <= length && count <= (length - at) / E_SIZE &&
        hashes <= (length - at - count * E_SIZE) / FUT_HASH_SIZE) {
        seal_frames(bytes, length, bytes + at, count);
        fut_put_le64(footer + T_ENTRIES_CHECK, XXH3_64bits(bytes + at, count * E_SIZE));
    }
    memcpy(footer + T_MAGIC, "FUTINDEX", 8);
    fut_put_le64(footer + T_LENGTH, length);
    memcpy(both, footer, T_CHECKSUM);
    memcpy(both + T_CHECKSUM, bytes, P_SIZE);
    fut_put_le64(footer + T_CHECKSUM, XXH3_64bits(both, sizeof(both)));
}

static void seal_pack(uint8_t *bytes, size_t length, uint32_t first, uint32_t last)
{
    if (length < P_SIZE + T_SIZE) {
        return;
    }
    memcpy(bytes + P_MAGIC, "FUTPACK1", 8);
    fut_put_le32(bytes + P_VERSION, FUT_STORE_VERSION);
    fut_put_le32(bytes + P_FIRST, first);
    fut_put_le32(bytes + P_LAST, last);
    memcpy(bytes + P_ID, store_id, sizeof(store_id));
    fut_put_le64(bytes + P_CHECKSUM, XXH3_64bits(bytes, P_CHECKSUM));
    seal_index(bytes, length);
}

/* -- the files -- */

static void put_file(SimFs *fs, const char *name, const uint8_t *bytes, size_t length)
{
    int file = -1;

    g_assert_cmpint(sim_create(&fs->fs, name, &file), ==, 0);
    g_assert_cmpint(sim_write(&fs->fs, file, bytes, length, 0), ==, 0);
}

static void make_file(SimFs *fs, const uint8_t *head, const uint8_t *data, size_t length,
                      bool sealed)
{
    uint32_t first = fut_get_le32(head + 1), last = fut_get_le32(head + 5);
    g_autofree uint8_t *bytes = g_malloc(length + 1);
    g_autofree char *name = NULL;

    memcpy(bytes, data, length);
    if (head[0] == 's') {
        name = g_strdup(FUT_STORE_NAME);
    } else {
        name = head[0] == 'm' ? fut_manifest_name(first) : fut_pack_file_name(first, last);
    }
    if (sealed && head[0] == 's') {
        seal_store(bytes, length);
    } else if (sealed && head[0] == 'm') {
        seal_manifest(bytes, length, first);
    } else if (sealed) {
        seal_pack(bytes, length, first, last);
    }
    put_file(fs, name, bytes, length);
}

static void make_files(SimFs *fs, const uint8_t *data, size_t size)
{
    enum {
        HEAD = 13
    };
    bool sealed = size > 0 && data[0] & SEALED;
    size_t at = 1;

    for (unsigned i = 0; i < FILES_MAX && size >= at + HEAD; i++) {
        const uint8_t *head = data + at;
        size_t length = MIN(fut_get_le32(head + 9), size - at - HEAD);
        make_file(fs, head, head + HEAD, length, sealed);
        at += HEAD + length;
    }
}

/* -- reading -- */

typedef struct {
    uint64_t first, end;
    XXH3_state_t *hash;
} Reading;

static bool take_unit(void *opaque, uint64_t unit, const uint8_t *data, GError **error)
{
    const Reading *reading = opaque;

    g_assert_cmpuint(unit, >=, reading->first);
    g_assert_cmpuint(unit, <, reading->end);
    XXH3_64bits_update(reading->hash, &unit, sizeof(unit));
    XXH3_64bits_update(reading->hash, data, FUT_UNIT_SIZE);
    return true;
}

static bool is_small(const FutSnapshotInfo *info)
{
    bool small = true;

    for (unsigned i = 0; i < info->areas->len; i++) {
        small = small && fut_area_units(fut_snapshot_info_nth(info, i)->length) <= SMALL_UNITS;
    }
    return small && info->areas->len <= 8;
}

/* Here and there; what comes is not looked at. */
static void read_some(FutSnapshot *snapshot)
{
    const FutSnapshotInfo *info = fut_snapshot_info(snapshot);
    uint8_t unit[FUT_UNIT_SIZE];

    for (unsigned i = 0; i < info->areas->len; i++) {
        uint64_t units = fut_area_units(fut_snapshot_info_nth(info, i)->length);
        const uint64_t at[] = { 0, 1, 511, 512, units / 2, units - 1, units };
        for (unsigned n = 0; n < G_N_ELEMENTS(at); n++) {
            g_autoptr(GError) error = NULL;
            bool good = fut_snapshot_read(snapshot, i, at[n], unit, NULL, &error);
            g_assert_true(good == (error == NULL));
        }
    }
}

/* All of it as one number; 0: it cannot be read, or is too much. */
static uint64_t content_of(FutStore *store, uint64_t id)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(FutSnapshot) snapshot = fut_snapshot_open(store, id, &error);
    Reading reading = { .hash = XXH3_createState() };

    g_assert_true((snapshot == NULL) == (error != NULL));
    XXH3_64bits_reset(reading.hash);
    if (snapshot) {
        read_some(snapshot);
    }
    bool good = snapshot && is_small(fut_snapshot_info(snapshot));
    for (unsigned i = 0; good && i < fut_snapshot_info(snapshot)->areas->len; i++) {
        reading.end = fut_area_units(fut_snapshot_info_nth(fut_snapshot_info(snapshot), i)->length);
        good = fut_snapshot_each(snapshot, i, 0, UINT64_MAX, take_unit, &reading, &error);
        g_assert_true(good == (error == NULL));
    }
    uint64_t hash = good ? XXH3_64bits_digest(reading.hash) | 1 : 0;
    XXH3_freeState(reading.hash);
    return hash;
}

static void ignore_range(void *opaque, unsigned area, uint64_t first, uint64_t count)
{
    g_assert_cmpuint(count, >, 0);
}

static void compare_and_copy(FutStore *store, const FutSnapshotInfo *a, const FutSnapshotInfo *b)
{
    g_autoptr(GError) error = NULL;

    if (is_small(a) && is_small(b)) {
        bool good = fut_store_diff(store, a->id, b->id, ignore_range, NULL, &error);
        g_assert_true(good == (error == NULL));
    }
}

/* What is said of it comes out again when it is written. */
static void encode_again(FutStore *store, const FutSnapshotInfo *info)
{
    FutBuf once = { 0 }, twice = { 0 };

    fut_manifest_encode(&once, info, &store->identity);
    g_autoptr(FutSnapshotInfo) again =
        fut_manifest_decode(once.data, once.len, info->id, &store->identity, NULL);
    g_assert_nonnull(again);
    fut_manifest_encode(&twice, again, &store->identity);
    g_assert_cmpmem(once.data, once.len, twice.data, twice.len);
    fut_buf_done(&once);
    fut_buf_done(&twice);
}

/* True: nothing is damaged. */
static bool verify(FutStore *store)
{
    g_autoptr(GError) error = NULL;
    FutVerifyReport report;

    if (!fut_store_verify(store, false, NULL, NULL, &report, &error)) {
        g_assert_nonnull(error);
        return false;
    }
    bool good = report.damages->len == 0;
    fut_verify_report_done(&report);
    return good;
}

/* What was whole and stays is as it was; from what was whole nothing is lost. */
static void prune(FutStore *store, const FutSnapshotInfo *newest)
{
    const FutPrunePolicy policy = { .keep = 1, .max_bytes = 1 };
    uint64_t before = content_of(store, newest->id);
    bool whole = verify(store);
    g_autoptr(GError) error = NULL;
    FutPruneReport report;

    if (!fut_store_prune(store, &policy, false, 0, NULL, NULL, &report, &error)) {
        g_assert_nonnull(error);
        g_assert_false(whole && error->code == FUT_ERR_IO);
    } else {
        fut_prune_report_done(&report);
        g_assert_true(!whole || verify(store));
    }
    g_assert_cmpuint(content_of(store, newest->id), ==, before);
}

static void use(FutStore *store)
{
    g_autoptr(GPtrArray) damaged = NULL;
    g_autoptr(GPtrArray) all = fut_store_list(store, &damaged, NULL);

    g_assert_nonnull(all);
    for (guint i = 0; i < all->len; i++) {
        const FutSnapshotInfo *info = all->pdata[i];
        content_of(store, info->id);
        encode_again(store, info);
        compare_and_copy(store, all->pdata[0], info);
    }
    for (guint i = 0; i < damaged->len; i++) {
        g_assert_nonnull(strstr(((FutDamagedSnapshot *)damaged->pdata[i])->what, ".snap"));
    }
    if (all->len > 0) {
        prune(store, all->pdata[all->len - 1]);
    } else {
        verify(store);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GRand) rand = g_rand_new_with_seed(1);
    SimFs fs;

    sim_fs_init(&fs, rand);
    make_files(&fs, data, size);
    FutStore *store = fut_store_open_fs(&fs.fs, FUT_STORE_WRITE, &error);
    g_assert_true((store == NULL) == (error != NULL));
    if (store) {
        use(store);
        fut_store_close(store);
    }
    sim_fs_done(&fs);
    return 0;
}
