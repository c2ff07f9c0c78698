/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "hot_list.h"

#include "byteorder.h"
#include "pageset.h"

#define ENTRY_SIZE 8
#define BLOCK_SHIFT 48
#define GROUP_SHIFT 16

G_STATIC_ASSERT(FUT_HOT_NOTED *ENTRY_SIZE <= FUT_STORE_HOT_MAX);

void fut_hot_list_encode(FutBuf *buf, const uint64_t *keys, size_t count)
{
    g_autoptr(GHashTable) places = g_hash_table_new(g_int64_hash, g_int64_equal);
    g_autofree uint64_t *groups = g_new(uint64_t, count);
    size_t used = 0, begin = buf->len;

    g_assert(count <= FUT_HOT_NOTED);
    for (size_t i = 0; i < count; i++) {
        uint64_t page = fut_key_page(keys[i]);
        groups[used] = (uint64_t)fut_key_block(keys[i]) << BLOCK_SHIFT |
                       (page / FUT_HOT_GROUP & UINT32_MAX) << GROUP_SHIFT;
        size_t number = GPOINTER_TO_SIZE(g_hash_table_lookup(places, &groups[used]));
        if (number == 0) {
            fut_put_le64(fut_buf_extend(buf, ENTRY_SIZE), groups[used]);
            number = used + 1;
            g_hash_table_insert(places, &groups[used], GSIZE_TO_POINTER(number));
            used++;
        }
        uint8_t *entry = buf->data + begin + (number - 1) * ENTRY_SIZE;
        fut_put_le64(entry, fut_get_le64(entry) | 1ull << (page % FUT_HOT_GROUP));
    }
}

/* Numbers of the areas of memory, by block. */
static unsigned memory_areas(const FutSnapshotInfo *info, unsigned areas[FUT_STORE_AREAS_MAX])
{
    unsigned count = 0;

    for (unsigned i = 0; i < info->areas->len; i++) {
        if (fut_snapshot_info_nth(info, i)->kind == FUT_AREA_MEMORY) {
            areas[count++] = i;
        }
    }
    return count;
}

/* False: it cannot be. */
static bool take(const FutSnapshotInfo *info, const unsigned *areas, unsigned count, uint64_t entry,
                 FutHotGroup *ret)
{
    *ret = (FutHotGroup){ .block = (unsigned)(entry >> BLOCK_SHIFT),
                          .group = entry >> GROUP_SHIFT & UINT32_MAX,
                          .mask = (uint16_t)entry };
    if (ret->block >= count || ret->mask == 0) {
        return false;
    }
    ret->area = areas[ret->block];
    uint64_t last = ret->group * FUT_HOT_GROUP + (31 - (unsigned)__builtin_clz(ret->mask));
    return last < fut_snapshot_info_nth(info, ret->area)->length >> FUT_PAGE_SHIFT;
}

GArray *fut_hot_list_decode(const FutSnapshotInfo *info)
{
    GArray *groups = g_array_new(FALSE, FALSE, sizeof(FutHotGroup));
    g_autoptr(GHashTable) known = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
    unsigned areas[FUT_STORE_AREAS_MAX], count = memory_areas(info, areas), pages = 0;
    gsize length = 0;
    const uint8_t *bytes = info->hot ? g_bytes_get_data(info->hot, &length) : NULL;

    for (gsize at = 0; at + ENTRY_SIZE <= length; at += ENTRY_SIZE) {
        uint64_t entry = fut_get_le64(bytes + at), name = entry >> GROUP_SHIFT;
        FutHotGroup group;
        bool good = length % ENTRY_SIZE == 0 && take(info, areas, count, entry, &group) &&
                    g_hash_table_add(known, g_memdup2(&name, sizeof(name)));
        pages += good ? (unsigned)__builtin_popcount(group.mask) : 0;
        if (!good || pages > FUT_HOT_TAKEN) {
            g_array_set_size(groups, 0);
            break;
        }
        g_array_append_val(groups, group);
    }
    return groups;
}
