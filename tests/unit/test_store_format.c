/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The bytes of each of a store's files: what this version writes, and that what it once wrote is read. Whoever has to change something
 * here makes a new version of the format (store_format.h), or nobody can read the stores that there are. */
#include <glib/gstdio.h>
#include <string.h>

#include "store_fixture.h"
#include "store_internal.h"

typedef struct {
    char *folder;
    FutStore *store;
} World;

/* ID 00 01 .. 0f, seed 1122334455667788, next pack 5, next snapshot 7. */
static const char store_hex[] =
    "46555453544f52450100000000000000000102030405060708090a0b0c0d0e0f887766554433221105000000"
    "000000000700000000000000641241b3b06beda9";

static char *to_hex(const void *bytes, gsize length)
{
    GString *text = g_string_new(NULL);

    for (gsize i = 0; i < length; i++) {
        g_string_append_printf(text, "%02x", ((const uint8_t *)bytes)[i]);
    }
    return g_string_free(text, FALSE);
}

static GByteArray *from_hex(const char *text)
{
    GByteArray *bytes = g_byte_array_new();

    for (; text[0] && text[1]; text += 2) {
        uint8_t byte =
            (uint8_t)(g_ascii_xdigit_value(text[0]) << 4 | g_ascii_xdigit_value(text[1]));
        g_byte_array_append(bytes, &byte, 1);
    }
    return bytes;
}

static void put_file(const World *w, const char *name, const char *hex)
{
    g_autoptr(GByteArray) bytes = from_hex(hex);

    fixture_save(w->folder, name, (const char *)bytes->data, bytes->len);
}

static void set_up(World *w, gconstpointer data)
{
    w->folder = fut_test_tmp();
    put_file(w, FUT_STORE_NAME, store_hex);
}

static void tear_down(World *w, gconstpointer data)
{
    fut_store_close(w->store);
    fut_test_tmp_remove(w->folder);
    g_free(w->folder);
}

static void open_store(World *w)
{
    GError *error = NULL;

    w->store = fut_store_open(w->folder, FUT_STORE_WRITE, &error);
    g_assert_no_error(error);
}

static FutSnapshotInfo *small_info(uint64_t ram_length)
{
    FutSnapshotInfo *info = fut_snapshot_info_new();
    const char *command[] = { "qemu-system-x86_64", "-m", "8K", NULL };
    const char *lines[] = { "qemu=7.2", "ram:ram=8192", NULL };

    info->id = 9;
    g_free(info->vm);
    info->vm = g_strdup("web");
    g_free(info->reason);
    info->reason = g_strdup("by hand");
    g_strfreev(info->command);
    info->command = g_strdupv((char **)command);
    g_strfreev(info->fingerprint);
    info->fingerprint = g_strdupv((char **)lines);
    fut_snapshot_info_add(info, FUT_AREA_MEMORY, "ram", ram_length);
    fut_snapshot_info_add(info, FUT_AREA_DISK, "virtio0", 512);
    return info;
}

/* Nothing packs it. */
static void fill_noise(uint8_t *bytes, size_t length, uint64_t seed)
{
    for (size_t i = 0; i < length; i++) {
        seed = seed * 6364136223846793005ull + 1442695040888963407ull;
        bytes[i] = (uint8_t)(seed >> 56);
    }
}

static void take(World *w, const uint8_t *ram, uint64_t ram_length, const uint8_t *state,
                 size_t state_length)
{
    GError *error = NULL;
    g_autoptr(FutSnapshotInfo) info = small_info(ram_length);
    FutSnapshotWriter *writer = fut_store_begin(w->store, info, 0, 0, &error);

    g_assert_no_error(error);
    g_assert_true(fut_snapshot_put(writer, 0, 0, ram, ram_length, &error));
    g_assert_true(fut_snapshot_put_state(writer, state, state_length, &error));
    fut_snapshot_note_times(writer, 1700000000123456, 1500000, 2500000, 0x0123456789abcdef);
    g_assert_true(fut_snapshot_commit(writer, NULL, &error));
    g_assert_no_error(error);
}

static void expect_bytes(const char *what, const void *bytes, gsize length, const char *wanted)
{
    g_autofree char *is = to_hex(bytes, length);

    g_test_message("%s %s", what, is);
    g_assert_cmpstr(is, ==, wanted);
}

/* What it writes, byte for byte. Areas of one unit have no nodes, and noise is stored as it is: another zstd changes nothing. */
static void test_written(World *w, gconstpointer data)
{
    uint8_t ram[FUT_UNIT_SIZE], state[FUT_UNIT_SIZE];
    const gsize frame = P_SIZE + F_SIZE, index = frame + 2 * FUT_RECORD_SIZE;

    fill_noise(ram, sizeof(ram), 1);
    fill_noise(state, sizeof(state), 2);
    open_store(w);
    take(w, ram, sizeof(ram), state, sizeof(state));
    Content store = fixture_load(w->folder, "store");
    Content snap = fixture_load(w->folder, "0000000009.snap");
    Content pack = fixture_load(w->folder, "00000005-00000005.pack");
    expect_bytes(
        "store", store.bytes, store.length,
        "46555453544f52450100000000000000000102030405060708090a0b0c0d0e0f887766554433221115000000"
        "000000000700000000000000cf25c63eac52f516");
    expect_bytes(
        "manifest", snap.bytes, snap.length,
        "465554534e415031010000004e010000000102030405060708090a0b0c0d0e0f09000000000000000e444091"
        "730bb53ee5bb6ed9cecec76001000000080000000000000000000000020000000800000040222018240a0600"
        "030000000800000060e31600000000000400000008000000a0252600000000000500000008000000efcdab89"
        "674523010600000008000000d020000000000000070000000300000077656208000000070000006279206861"
        "6e64090000001200000071656d752d73797374656d2d7838365f363409000000020000002d6d090000000200"
        "0000384b0a0000000800000071656d753d372e320a0000000c00000072616d3a72616d3d3831393240000080"
        "23000000000000000000000000100000000000000000000005000000010000000000000072616d4000008027"
        "000000010000000000000000020000000000000000000000000000000000000000000076697274696f304000"
        "0080200000000200000000000000001000000000000001000000050000000100000000000000");
    g_assert_cmpuint(pack.length, >, index);
    expect_bytes(
        "pack", pack.bytes, frame,
        "4655545041434b3101000000050000000500000000000000000102030405060708090a0b0c0d0e0fa16d7aab"
        "ba600a034646524d050000000000000003000000002000000000000007ac054613077b7d");
    g_assert_cmpmem(pack.bytes + frame, FUT_RECORD_SIZE, ram, sizeof(ram));
    g_assert_cmpmem(pack.bytes + frame + FUT_RECORD_SIZE, FUT_RECORD_SIZE, state, sizeof(state));
    expect_bytes(
        "index", pack.bytes + index, pack.length - index,
        "30000000000000000500000000000000030000000020000000000000000000009af38489bb69e019d0c5c66c"
        "942d0f60e781595c9498919386360a5036c9637b465554494e44455850200000000000000100000000000000"
        "02000000000000003185bf3864a96300efb3a597730925d0d020000000000000721ccdf8648fb15b");
    g_free(store.bytes);
    g_free(snap.bytes);
    g_free(pack.bytes);
}

/* -- what was written once: a page of words, a page of zeroes, a node over both, packed -- */

static const char old_snap_hex[] =
    "465554534e415031010000004e010000000102030405060708090a0b0c0d0e0f09000000000000006663e30f"
    "8f33dce2a435273921bfafa701000000080000000000000000000000020000000800000040222018240a0600"
    "030000000800000060e31600000000000400000008000000a0252600000000000500000008000000efcdab89"
    "6745230106000000080000000c02000000000000070000000300000077656208000000070000006279206861"
    "6e64090000001200000071656d752d73797374656d2d7838365f363409000000020000002d6d090000000200"
    "0000384b0a0000000800000071656d753d372e320a0000000c00000072616d3a72616d3d3831393240000080"
    "23000000000000000000000000200000000000000200000005000000010000000000000072616d4000008027"
    "000000010000000000000000020000000000000000000000000000000000000000000076697274696f304000"
    "0080200000000200000000000000640000000000000001000000050000000100000000000000";
static const char old_pack_hex[] =
    "4655545041434b3101000000050000000500000000000000000102030405060708090a0b0c0d0e0fa16d7aab"
    "ba600a034646524d0500000000000000070001002c01000000000000dea46b83312cf32328b52ffd60002f15"
    "0900541000000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20212223242526"
    "2728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f404142434445464748494a4b4c4d4e4f505152"
    "535455565758595a5b5c5d5e5f606162636465666768696a6b6c6d6e6f707172737475767778797a7b7c7d7e"
    "7f808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9fa0a1a2a3a4a5a6a7a8a9aa"
    "abacadaeafb0b1b2b3b4b5b6b7b8b9babbbcbdbebfc0c1c2c3c4c5c6c7c8c9cacbcccdcecfd0d1d2d3d4d5d6"
    "d7d8d9dadbdcdddedfe0e1e2e3e4e5e6e7e8e9eaebecedeeeff0f1f2f3f4f5f6f7f8f9fafbfcfdfeff780005"
    "0081039811e01f0012f813f8fbff3f9b01f76f71be0514007a1ea00a30000000000000000500000000000000"
    "070001002c0100000000000000000000266a0dcf062938e58a6817d89891a02a0aaf3841fac3d7967ff2918c"
    "dfd0b5b1c68ef3c9598dff0e22afd61629cf4fe5465554494e4445587c010000000000000100000000000000"
    "0300000000000000d5c4d2290eaed71a0e40717b470af3880c020000000000001f9eee9d13c1e985";

static void fill_old(uint8_t ram[2 * FUT_UNIT_SIZE], uint8_t state[100])
{
    memset(ram, 0, 2 * FUT_UNIT_SIZE);
    for (unsigned i = 0; i < FUT_UNIT_SIZE; i++) {
        ram[i] = (uint8_t)(i / 16);
    }
    memset(state, 'x', 100);
}

static void test_read(World *w, gconstpointer data)
{
    uint8_t ram[2 * FUT_UNIT_SIZE], state[100], unit[FUT_UNIT_SIZE];
    GError *error = NULL;
    FutVerifyReport report;
    size_t length;

    put_file(w, "0000000009.snap", old_snap_hex);
    put_file(w, "00000005-00000005.pack", old_pack_hex);
    open_store(w);
    g_autoptr(FutSnapshot) snapshot = fut_snapshot_open(w->store, 9, &error);
    g_assert_no_error(error);
    const FutSnapshotInfo *info = fut_snapshot_info(snapshot);
    g_assert_cmpuint(info->time_us, ==, 1700000000123456);
    g_assert_cmpuint(info->stop_ns, ==, 1500000);
    g_assert_cmpuint(info->took_ns, ==, 2500000);
    g_assert_cmpuint(info->memory_hash, ==, 0x0123456789abcdef);
    g_assert_cmpstr(info->vm, ==, "web");
    g_assert_cmpstr(info->reason, ==, "by hand");
    g_assert_cmpstr(info->command[2], ==, "8K");
    g_assert_cmpstr(info->fingerprint[1], ==, "ram:ram=8192");
    g_assert_cmpuint(fut_snapshot_info_area(info, FUT_AREA_DISK, "virtio0", NULL)->length, ==, 512);
    fill_old(ram, state);
    for (unsigned i = 0; i < 2; i++) {
        g_assert_true(fut_snapshot_read(snapshot, 0, i, unit, NULL, &error));
        g_assert_cmpmem(unit, FUT_UNIT_SIZE, ram + i * FUT_UNIT_SIZE, FUT_UNIT_SIZE);
    }
    g_autofree uint8_t *is = fut_snapshot_state(snapshot, &length, &error);
    g_assert_cmpmem(is, length, state, sizeof(state));
    g_assert_true(fut_store_verify(w->store, false, NULL, NULL, &report, &error));
    g_assert_cmpuint(report.damages->len, ==, 0);
    fut_verify_report_done(&report);
}

/* The guest's connections: another field of the manifest, which who does not know it leaves out. */
static void test_flows(World *w, gconstpointer data)
{
    g_autoptr(FutSnapshotInfo) info = small_info(FUT_UNIT_SIZE);
    FutBuf without = { 0 }, with = { 0 };
    FutStoreIdentity identity = { .seed = 0 };
    static const char field[] = "0b00000003000000010203";

    fut_manifest_encode(&without, info, &identity);
    info->id = 1;
    info->flows = g_bytes_new("\1\2\3", 3);
    g_autoptr(FutSnapshotInfo) copy = fut_snapshot_info_copy(info);
    fut_manifest_encode(&with, copy, &identity);
    g_assert_cmpuint(with.len, ==, without.len + 11);
    g_autofree char *hex = to_hex(with.data, with.len);
    g_assert_nonnull(strstr(hex, field));
    g_autoptr(FutSnapshotInfo) again = fut_manifest_decode(with.data, with.len, 1, &identity, NULL);
    g_assert_true(g_bytes_equal(again->flows, info->flows));
    fut_buf_done(&without);
    fut_buf_done(&with);
}

/* Likewise what tells which pages and code it used last; a list that is too long is a hint less, and no fault. */
static void check_hint(GBytes **where, FutSnapshotInfo *info, size_t max, const char *field,
                       size_t offset)
{
    FutBuf buf = { 0 };
    FutStoreIdentity identity = { .seed = 0 };
    g_autofree uint8_t *much = g_malloc0(max + 1);

    *where = g_bytes_new("\1\2\3", 3);
    g_autoptr(FutSnapshotInfo) copy = fut_snapshot_info_copy(info);
    fut_manifest_encode(&buf, copy, &identity);
    g_autofree char *hex = to_hex(buf.data, buf.len);
    g_assert_nonnull(strstr(hex, field));
    g_autoptr(FutSnapshotInfo) again = fut_manifest_decode(buf.data, buf.len, 1, &identity, NULL);
    g_assert_true(g_bytes_equal(G_STRUCT_MEMBER(GBytes *, again, offset), *where));
    g_bytes_unref(*where);
    *where = g_bytes_new(much, max + 1);
    fut_buf_clear(&buf);
    fut_manifest_encode(&buf, info, &identity);
    g_autoptr(FutSnapshotInfo) without = fut_manifest_decode(buf.data, buf.len, 1, &identity, NULL);
    g_assert_nonnull(without);
    g_assert_null(G_STRUCT_MEMBER(GBytes *, without, offset));
    fut_buf_done(&buf);
}

static void test_hints(World *w, gconstpointer data)
{
    g_autoptr(FutSnapshotInfo) info = small_info(FUT_UNIT_SIZE);

    info->id = 1;
    check_hint(&info->hot, info, FUT_STORE_HOT_MAX, "0c00000003000000010203",
               G_STRUCT_OFFSET(FutSnapshotInfo, hot));
    check_hint(&info->code, info, FUT_STORE_CODE_MAX, "0d00000003000000010203",
               G_STRUCT_OFFSET(FutSnapshotInfo, code));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add("/store-format/flows", World, NULL, set_up, test_flows, tear_down);
    g_test_add("/store-format/hints", World, NULL, set_up, test_hints, tear_down);
    g_test_add("/store-format/written", World, NULL, set_up, test_written, tear_down);
    g_test_add("/store-format/read", World, NULL, set_up, test_read, tear_down);
    return g_test_run();
}
