/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which snapshot is meant: by its number, or by a time. */
#include <string.h>

#include "fut_error.h"
#include "store_internal.h"

typedef struct {
    uint64_t id;      /* 0: by time */
    uint64_t time_us; /* not younger than this */
} Wanted;

/* "-90s", "-5m", "-2h", "-1d". */
static bool parse_ago(const char *which, uint64_t now_us, uint64_t *ret_us)
{
    static const struct {
        char unit;
        uint64_t seconds;
    } units[] = { { 's', 1 }, { 'm', 60 }, { 'h', 3600 }, { 'd', 86400 } };
    char *end;

    if (which[0] != '-' || !g_ascii_isdigit(which[1])) {
        return false;
    }
    uint64_t number = g_ascii_strtoull(which + 1, &end, 10);
    for (size_t i = 0; i < G_N_ELEMENTS(units) && number < 1u << 30; i++) {
        if (end[0] == units[i].unit && end[1] == 0) {
            uint64_t ago_us = number * units[i].seconds * G_USEC_PER_SEC;
            *ret_us = now_us > ago_us ? now_us - ago_us : 0;
            return true;
        }
    }
    return false;
}

/* A date with a time, or a time of today, in local time where no zone is said. A second that is named is meant as a whole. */
static bool parse_clock(const char *which, uint64_t now_us, uint64_t *ret_us)
{
    g_autoptr(GTimeZone) zone = g_time_zone_new_local();
    g_autoptr(GDateTime) now = g_date_time_new_from_unix_local((gint64)(now_us / G_USEC_PER_SEC));
    g_autofree char *today = now ? g_date_time_format(now, "%Y-%m-%d") : NULL;
    bool has_date = strchr(which, '-') != NULL;
    const char *clock = has_date ? strpbrk(which, "T ") : which;

    if (!today || !clock) {
        return false;
    }
    clock += has_date;
    bool no_seconds = strlen(clock) == 5 && clock[2] == ':';
    g_autofree char *text = g_strdup_printf("%s%s%s%s", has_date ? "" : today, has_date ? "" : "T",
                                            which, no_seconds ? ":00" : "");
    g_autoptr(GDateTime) time = g_date_time_new_from_iso8601(text, zone);
    if (!time || g_date_time_to_unix(time) < 0) {
        return false;
    }
    *ret_us = (uint64_t)g_date_time_to_unix(time) * G_USEC_PER_SEC +
              (uint64_t)g_date_time_get_microsecond(time) + (strchr(clock, '.') ? 0 : 999999);
    return true;
}

static bool parse(const char *which, uint64_t now_us, Wanted *ret, GError **error)
{
    char *end;

    *ret = (Wanted){ 0, UINT64_MAX };
    if (!which || !*which) {
        return true;
    }
    uint64_t id = g_ascii_strtoull(which, &end, 10);
    if (g_ascii_isdigit(*which) && *end == 0 && id > 0) {
        ret->id = id;
        return true;
    }
    if (parse_ago(which, now_us, &ret->time_us) || parse_clock(which, now_us, &ret->time_us)) {
        return true;
    }
    g_set_error(
        error, FUT_ERROR, FUT_ERR_ARG,
        "snapshot '%s': give its ID, a time such as 14:05 or 2026-11-30T14:05, or an age such "
        "as -10m",
        which);
    return false;
}

static bool fits(const FutSnapshotInfo *info, const Wanted *wanted, const char *vm)
{
    return (!vm || strcmp(info->vm, vm) == 0) &&
           (wanted->id ? info->id == wanted->id : info->time_us <= wanted->time_us);
}

/* One whose manifest cannot be read and that can be the one that is meant: that very ID, or the newest, if newer than `found`. NULL: none. */
static const FutDamagedSnapshot *may_be_meant(const GPtrArray *damaged, const Wanted *wanted,
                                              const FutSnapshotInfo *found)
{
    uint64_t above = found && !wanted->id ? found->id : 0;
    const FutDamagedSnapshot *meant = NULL;

    for (guint i = 0; i < damaged->len; i++) {
        const FutDamagedSnapshot *is = damaged->pdata[i];
        if (wanted->id ? wanted->id == is->id : is->id > above) {
            above = is->id;
            meant = is;
        }
    }
    return meant;
}

static void set_missing(const FutStore *store, GPtrArray *all, const char *which, GError **error)
{
    if (all->len == 0) {
        g_set_error(error, FUT_ERROR, FUT_ERR_ARG, "%s has no snapshot", fut_store_path(store));
        return;
    }
    const FutSnapshotInfo *first = all->pdata[0], *last = all->pdata[all->len - 1];
    g_set_error(error, FUT_ERROR, FUT_ERR_ARG,
                "no snapshot '%s' in %s: it has %u, from %" G_GUINT64_FORMAT
                " to %" G_GUINT64_FORMAT " (futago snapshot list shows them)",
                which, fut_store_path(store), all->len, first->id, last->id);
}

static const FutSnapshotInfo *newest_that_fits(const GPtrArray *all, const Wanted *wanted,
                                               const char *vm)
{
    for (guint i = all->len; i-- > 0;) {
        if (fits(all->pdata[i], wanted, vm)) {
            return all->pdata[i];
        }
    }
    return NULL;
}

FutSnapshotInfo *fut_store_find(FutStore *store, const char *which, const char *vm, GError **error)
{
    g_autoptr(GPtrArray) damaged = NULL;
    Wanted wanted;

    if (!parse(which, (uint64_t)g_get_real_time(), &wanted, error)) {
        return NULL;
    }
    g_autoptr(GPtrArray) all = fut_store_list(store, &damaged, error);
    if (!all) {
        return NULL;
    }
    const FutSnapshotInfo *found = newest_that_fits(all, &wanted, vm);
    const FutDamagedSnapshot *other = may_be_meant(damaged, &wanted, found);
    if (other) {
        g_set_error(error, FUT_ERROR, FUT_ERR_IO, "%s%s", other->what,
                    wanted.id ? "" : "; it may be the one that is meant: name another by its ID");
        return NULL;
    }
    if (!found) {
        set_missing(store, all, which ? which : "", error);
    }
    return found ? fut_snapshot_info_copy(found) : NULL;
}
