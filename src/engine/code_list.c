/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "code_list.h"

#include <string.h>
#include <zstd.h>

#include "byteorder.h"

/* A head. */
enum {
    C_PAGE = 0,     /* u64: where they begin: the memory block's number, 16 bits, and the page's */
    C_NEXT = 8,     /* u64: likewise where they go on; FUT_CODE_NONE: they do not */
    C_ADDRESS = 16, /* u64: of the page, as the guest sees it */
    C_FLAGS = 24,   /* u32: the VMM's own */
    C_COUNT = 28,   /* u16: how many; not 0 */
    C_RESERVED = 30,
    C_SIZE = 32
};
#define PLACE_SIZE 2
#define PLACE_MASK (FUT_PAGE_SIZE - 1)

/* Bytes before they are compressed. */
#define PLAIN_MAX (256u << 10)
#define LEVEL 3

G_STATIC_ASSERT(FUT_CODES_NOTED <= UINT16_MAX);
G_STATIC_ASSERT(ZSTD_COMPRESSBOUND(PLAIN_MAX) <= FUT_STORE_CODE_MAX);

/* -- writing -- */

typedef struct {
    FutCode first; /* of those that have page, address and flags in common */
    unsigned count;
    size_t at; /* of its next place in what is written */
} Group;

static guint hash_group(gconstpointer opaque)
{
    const FutCode *code = opaque;
    uint64_t mixed = (code->page ^ code->flags * 0x9e3779b97f4a7c15u) +
                     (code->address >> FUT_PAGE_SHIFT) * 0xff51afd7ed558ccdu;

    return (guint)(mixed ^ mixed >> 32);
}

static gboolean is_same_group(gconstpointer a, gconstpointer b)
{
    const FutCode *x = a, *y = b;

    return x->page == y->page && x->next == y->next && x->flags == y->flags &&
           (x->address ^ y->address) < FUT_PAGE_SIZE;
}

/* Returns how many of the codes have room. */
static size_t make_groups(const FutCode *codes, size_t count, Group *groups, GHashTable *known)
{
    size_t bytes = 0, used = 0, i;

    for (i = 0; i < count; i++) {
        Group *group = g_hash_table_lookup(known, &codes[i]);
        bytes += PLACE_SIZE + (group ? 0 : C_SIZE);
        if (bytes > PLAIN_MAX) {
            break;
        }
        if (!group) {
            group = &groups[used++];
            *group = (Group){ .first = codes[i] };
            g_hash_table_insert(known, &group->first, group);
        }
        group->count++;
    }
    return i;
}

static void put_head(FutBuf *buf, Group *group)
{
    uint8_t *head = fut_buf_extend(buf, C_SIZE + group->count * PLACE_SIZE);

    memset(head, 0, C_SIZE);
    fut_put_le64(head + C_PAGE, group->first.page);
    fut_put_le64(head + C_NEXT, group->first.next);
    fut_put_le64(head + C_ADDRESS, group->first.address & ~(uint64_t)PLACE_MASK);
    fut_put_le32(head + C_FLAGS, group->first.flags);
    fut_put_le16(head + C_COUNT, (uint16_t)group->count);
    group->at = (size_t)(head - buf->data) + C_SIZE;
}

static void put_all(FutBuf *plain, const FutCode *codes, size_t count)
{
    g_autofree Group *groups = g_new(Group, MAX(count, 1));
    g_autoptr(GHashTable) known = g_hash_table_new(hash_group, is_same_group);
    size_t fit = make_groups(codes, count, groups, known);

    for (guint i = 0; i < g_hash_table_size(known); i++) {
        put_head(plain, &groups[i]);
    }
    for (size_t i = 0; i < fit; i++) {
        Group *group = g_hash_table_lookup(known, &codes[i]);
        fut_put_le16(plain->data + group->at, (uint16_t)(codes[i].address & PLACE_MASK));
        group->at += PLACE_SIZE;
    }
}

void fut_code_list_encode(FutBuf *buf, const FutCode *codes, size_t count)
{
    FutBuf plain = { 0 };

    g_assert(count <= FUT_CODES_NOTED);
    fut_buf_clear(buf);
    put_all(&plain, codes, count);
    if (plain.len > 0) {
        size_t room = ZSTD_compressBound(plain.len);
        size_t length =
            ZSTD_compress(fut_buf_extend(buf, room), room, plain.data, plain.len, LEVEL);
        g_assert(!ZSTD_isError(length));
        buf->len = length;
    }
    fut_buf_done(&plain);
}

/* -- reading -- */

typedef struct {
    uint64_t pages[FUT_BLOCKS_MAX]; /* of each memory block */
    unsigned blocks;
} Memory;

static Memory memory_of(const FutSnapshotInfo *info)
{
    Memory memory = { .blocks = 0 };

    for (unsigned i = 0; i < info->areas->len && memory.blocks < FUT_BLOCKS_MAX; i++) {
        const FutArea *area = fut_snapshot_info_nth(info, i);
        if (area->kind == FUT_AREA_MEMORY) {
            memory.pages[memory.blocks++] = area->length >> FUT_PAGE_SHIFT;
        }
    }
    return memory;
}

static bool is_page(const Memory *memory, uint64_t key)
{
    unsigned block = fut_key_block(key);

    return block < memory->blocks && fut_key_page(key) < memory->pages[block];
}

/* False: it cannot be. */
static bool take_head(const Memory *memory, const uint8_t *head, FutCode *ret, unsigned *ret_count)
{
    *ret = (FutCode){ .page = fut_get_le64(head + C_PAGE),
                      .next = fut_get_le64(head + C_NEXT),
                      .address = fut_get_le64(head + C_ADDRESS),
                      .flags = fut_get_le32(head + C_FLAGS) };
    *ret_count = fut_get_le16(head + C_COUNT);
    return is_page(memory, ret->page) &&
           (ret->next == FUT_CODE_NONE || is_page(memory, ret->next)) &&
           (ret->address & PLACE_MASK) == 0 && *ret_count > 0 &&
           fut_get_le16(head + C_RESERVED) == 0;
}

static bool take_places(const uint8_t *places, unsigned count, FutCode code, GArray *codes)
{
    uint64_t page = code.address;

    for (unsigned i = 0; i < count; i++) {
        uint64_t place = fut_get_le16(places + i * PLACE_SIZE);
        if (place >= FUT_PAGE_SIZE || codes->len == FUT_CODES_TAKEN) {
            return false;
        }
        code.address = page | place;
        g_array_append_val(codes, code);
    }
    return true;
}

static bool take_all(const Memory *memory, const uint8_t *bytes, size_t length, GArray *codes)
{
    FutCode code;
    unsigned count;

    for (size_t at = 0; at < length; at += C_SIZE + count * PLACE_SIZE) {
        if (length - at < C_SIZE || !take_head(memory, bytes + at, &code, &count) ||
            length - at - C_SIZE < count * PLACE_SIZE ||
            !take_places(bytes + at + C_SIZE, count, code, codes)) {
            return false;
        }
    }
    return true;
}

/* NULL: that cannot be. */
static uint8_t *unpack(GBytes *packed, size_t *ret_length)
{
    gsize length;
    const void *bytes = g_bytes_get_data(packed, &length);
    unsigned long long plain = ZSTD_getFrameContentSize(bytes, length);

    if (plain == 0 || plain > PLAIN_MAX) { /* errors are large numbers */
        return NULL;
    }
    g_autofree uint8_t *data = g_malloc(plain);
    if (ZSTD_decompress(data, plain, bytes, length) != plain) {
        return NULL;
    }
    *ret_length = plain;
    return g_steal_pointer(&data);
}

GArray *fut_code_list_decode(const FutSnapshotInfo *info)
{
    GArray *codes = g_array_new(FALSE, FALSE, sizeof(FutCode));
    Memory memory = memory_of(info);
    size_t length = 0;
    g_autofree uint8_t *bytes = info->code ? unpack(info->code, &length) : NULL;

    if (!take_all(&memory, bytes, length, codes)) {
        g_array_set_size(codes, 0);
    }
    return codes;
}
