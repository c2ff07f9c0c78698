/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What there is to say of a snapshot, in memory. */
#include <string.h>

#include "manifest.h"
#include "store.h"

static void area_free(gpointer opaque)
{
    FutArea *area = opaque;

    g_free(area->name);
    g_free(area);
}

FutSnapshotInfo *fut_snapshot_info_new(void)
{
    FutSnapshotInfo *info = g_new0(FutSnapshotInfo, 1);

    info->vm = g_strdup("");
    info->reason = g_strdup("");
    info->command = g_new0(char *, 1);
    info->fingerprint = g_new0(char *, 1);
    info->areas = g_ptr_array_new_with_free_func(area_free);
    return info;
}

FutSnapshotInfo *fut_snapshot_info_copy(const FutSnapshotInfo *info)
{
    FutSnapshotInfo *copy = g_memdup2(info, sizeof(*info));
    static char *none[] = { NULL };

    copy->vm = g_strdup(info->vm ? info->vm : "");
    copy->reason = g_strdup(info->reason ? info->reason : "");
    copy->command = g_strdupv(info->command ? info->command : none);
    copy->fingerprint = g_strdupv(info->fingerprint ? info->fingerprint : none);
    copy->areas = g_ptr_array_new_with_free_func(area_free);
    for (guint i = 0; i < info->areas->len; i++) {
        FutArea *area = g_memdup2(info->areas->pdata[i], sizeof(FutArea));
        area->name = g_strdup(area->name);
        g_ptr_array_add(copy->areas, area);
    }
    copy->flows = info->flows ? g_bytes_ref(info->flows) : NULL;
    copy->hot = info->hot ? g_bytes_ref(info->hot) : NULL;
    copy->code = info->code ? g_bytes_ref(info->code) : NULL;
    return copy;
}

void fut_snapshot_info_free(FutSnapshotInfo *info)
{
    if (info) {
        g_free(info->vm);
        g_free(info->reason);
        g_strfreev(info->command);
        g_strfreev(info->fingerprint);
        g_ptr_array_unref(info->areas);
        g_bytes_unref(info->flows);
        g_bytes_unref(info->hot);
        g_bytes_unref(info->code);
        g_free(info);
    }
}

unsigned fut_snapshot_info_add(FutSnapshotInfo *info, FutAreaKind kind, const char *name,
                               uint64_t length)
{
    FutArea *area = g_new0(FutArea, 1);

    area->kind = kind;
    area->name = g_strdup(name);
    area->length = length;
    g_ptr_array_add(info->areas, area);
    return info->areas->len - 1;
}

const FutArea *fut_snapshot_info_area(const FutSnapshotInfo *info, FutAreaKind kind,
                                      const char *name, unsigned *ret_number)
{
    for (guint i = 0; i < info->areas->len; i++) {
        const FutArea *area = info->areas->pdata[i];
        if (area->kind == kind && strcmp(area->name, name) == 0) {
            if (ret_number) {
                *ret_number = i;
            }
            return area;
        }
    }
    return NULL;
}

unsigned fut_area_height(uint64_t length)
{
    uint64_t units = fut_area_units(length);
    unsigned height = 0;

    while (units > 1) {
        units = (units + FUT_NODE_PLACES - 1) >> FUT_NODE_SHIFT;
        height++;
    }
    return height;
}
