/* SPDX-License-Identifier: GPL-2.0-or-later */
/* futago snapshot: the verbs that go through a whole store. */
#include <stdio.h>

#include "cli_disk.h"
#include "cli_snapshot.h"
#include "fut_error.h"
#include "store_diff.h"
#include "store_verify.h"

/* -- verify -- */

static json_t *damages_json(const FutVerifyReport *report)
{
    json_t *list = json_array();

    for (guint i = 0; i < report->damages->len; i++) {
        const FutDamage *damage = report->damages->pdata[i];
        json_t *ids = json_array();
        for (guint s = 0; s < damage->snapshots->len; s++) {
            json_array_append_new(ids, json_integer((json_int_t)g_array_index(damage->snapshots,
                                                                              uint64_t, s)));
        }
        json_array_append_new(list,
                              json_pack("{s:s, s:o}", "what", damage->what, "snapshots", ids));
    }
    return list;
}

static void print_damage(const FutDamage *damage, bool all_known)
{
    printf("%s", damage->what);
    for (guint s = 0; s < damage->snapshots->len; s++) {
        printf("%s %" G_GUINT64_FORMAT,
               s ? "," : "\n  cannot be restored:", g_array_index(damage->snapshots, uint64_t, s));
    }
    printf("%s\n", damage->snapshots->len ? ""
                   : all_known            ? "\n  no snapshot needs it"
                                          : "\n  needed by no other snapshot than, perhaps, those "
                                            "whose manifest is damaged");
}

static void print_verify(const FutVerifyReport *report, bool json)
{
    g_autofree char *size = fut_snapshot_size(report->bytes);

    if (json) {
        fut_snapshot_print_json(
            json_pack("{s:b, s:i, s:i, s:i, s:I, s:I, s:o}", "good", report->damages->len == 0,
                      "snapshots", (int)report->snapshots, "unread", (int)report->unread, "files",
                      (int)report->files, "records", (json_int_t)report->records, "bytes",
                      (json_int_t)report->bytes, "damages", damages_json(report)));
        return;
    }
    for (guint i = 0; i < report->damages->len; i++) {
        print_damage(report->damages->pdata[i], report->unread == 0);
    }
    printf("%u snapshots, %u pack files, %" G_GUINT64_FORMAT " records, %s read: %s\n",
           report->snapshots, report->files, report->records, size,
           report->damages->len ? "damaged" : "whole");
}

bool fut_snapshot_verify(int argc, char **argv, const FutSnapshotOptions *options, GError **error)
{
    g_autoptr(FutStore) store = fut_store_open(argv[0], FUT_STORE_READ, error);
    FutVerifyReport report;

    bool good = store && fut_store_verify(store, options->contents, fut_snapshot_progress,
                                          (void *)"verify", &report, error);
    fut_snapshot_progress_end();
    if (!good) {
        return false;
    }
    print_verify(&report, options->json);
    if (report.damages->len > 0) {
        g_set_error(error, FUT_ERROR, FUT_ERR_IO,
                    "%s is damaged: delete the snapshots that cannot be restored, then prune",
                    argv[0]);
        good = false;
    }
    fut_verify_report_done(&report);
    return good;
}

/* -- prune -- */

static bool parse_count(const char *option, const char *text, unsigned *ret, GError **error)
{
    return !text || fut_cli_number(option, text, 1, 1000000, ret, error);
}

static bool parse_bytes(const char *option, const char *text, uint64_t *ret, GError **error)
{
    if (text && (!fut_disk_parse_size(text, ret) || *ret == 0)) {
        g_set_error(error, FUT_ERROR, FUT_ERR_ARG, "--%s %s: give bytes such as 500M or 20G",
                    option, text);
        return false;
    }
    return true;
}

static bool parse_policy(const FutSnapshotOptions *options, FutPrunePolicy *ret, GError **error)
{
    *ret = (FutPrunePolicy){ 0 };
    return parse_count("keep", options->keep, &ret->keep, error) &&
           parse_count("hourly", options->hourly, &ret->hourly, error) &&
           parse_count("daily", options->daily, &ret->daily, error) &&
           parse_bytes("max-bytes", options->max_bytes, &ret->max_bytes, error) &&
           parse_bytes("min-free", options->min_free, &ret->min_free, error);
}

static json_t *prune_damages_json(const FutPruneReport *report)
{
    json_t *list = json_array();

    for (guint i = 0; i < report->damages->len; i++) {
        json_array_append_new(list, json_string(report->damages->pdata[i]));
    }
    return list;
}

static void print_prune(const FutPruneReport *report, const FutSnapshotOptions *options)
{
    g_autofree char *before = fut_snapshot_size(report->bytes_before);
    g_autofree char *after = fut_snapshot_size(report->bytes_after);
    json_t *ids = json_array();

    for (guint i = 0; i < report->removed->len; i++) {
        json_array_append_new(ids, json_integer(
                                       (json_int_t)g_array_index(report->removed, uint64_t, i)));
    }
    if (options->json) {
        fut_snapshot_print_json(json_pack("{s:o, s:I, s:I, s:i, s:i, s:b, s:b, s:o}", "removed",
                                          ids, "bytes_before", (json_int_t)report->bytes_before,
                                          "bytes_after", (json_int_t)report->bytes_after,
                                          "files_before", (int)report->files_before, "files_after",
                                          (int)report->files_after, "readers", report->readers,
                                          "short_of_room", report->short_of_room, "damages",
                                          prune_damages_json(report)));
        return;
    }
    json_decref(ids);
    printf("%s %u snapshots", options->dry_run ? "would remove" : "removed", report->removed->len);
    for (guint i = 0; i < report->removed->len; i++) {
        printf("%s%" G_GUINT64_FORMAT, i ? ", " : ": ",
               g_array_index(report->removed, uint64_t, i));
    }
    if (options->dry_run) {
        printf("\n");
    } else {
        printf("\n%s in %u files, was %s in %u\n", after, report->files_after, before,
               report->files_before);
    }
}

/* True: there are none. */
static bool tell_damages(const FutPruneReport *report, const char *store, GError **error)
{
    for (guint i = 0; i < report->damages->len; i++) {
        fprintf(stderr, "futago: %s\n", (const char *)report->damages->pdata[i]);
    }
    if (report->damages->len > 0) {
        g_set_error(error, FUT_ERROR, FUT_ERR_IO,
                    "%s is damaged, and what that may have to do with was left as it is: mend it "
                    "from a copy, or delete the snapshots that futago snapshot verify names, then "
                    "prune again",
                    store);
    }
    return report->damages->len == 0;
}

bool fut_snapshot_prune(int argc, char **argv, const FutSnapshotOptions *options, GError **error)
{
    FutPrunePolicy policy;
    FutPruneReport report;

    if (!parse_policy(options, &policy, error)) {
        return false;
    }
    g_autoptr(FutStore) store = fut_store_open(argv[0], FUT_STORE_WRITE, error);
    bool good = store && fut_store_prune(store, &policy, options->dry_run, 0, fut_snapshot_progress,
                                         (void *)"prune", &report, error);
    fut_snapshot_progress_end();
    if (!good) {
        return false;
    }
    print_prune(&report, options);
    if (report.readers) {
        fprintf(stderr,
                "futago: somebody reads the store: what is not needed any more stays in its "
                "files until the next prune\n");
    }
    if (report.short_of_room) {
        fprintf(stderr, "futago: the bound is exceeded by what has to stay: raise it, or delete "
                        "snapshots\n");
    }
    good = tell_damages(&report, argv[0], error);
    fut_prune_report_done(&report);
    return good;
}

/* -- export -- */

bool fut_snapshot_export(int argc, char **argv, const FutSnapshotOptions *options, GError **error)
{
    g_autofree char *path = NULL, *which = NULL;

    fut_snapshot_split(argv[0], &path, &which);
    g_autoptr(FutStore) store = fut_store_open(path, FUT_STORE_READ, error);
    g_autoptr(FutSnapshotInfo) info =
        store ? fut_store_find(store, which, options->vm, error) : NULL;
    bool good = info && fut_store_export(store, info->id, argv[1], fut_snapshot_progress,
                                         (void *)"export", error);
    fut_snapshot_progress_end();
    if (good && options->json) {
        fut_snapshot_print_json(json_pack("{s:I, s:s}", "id", (json_int_t)info->id, "to", argv[1]));
    } else if (good) {
        printf("snapshot %" G_GUINT64_FORMAT " is in %s\n", info->id, argv[1]);
    }
    return good;
}

/* -- diff -- */

typedef struct {
    const FutSnapshotInfo *info;
    json_t *ranges; /* NULL: as text */
    uint64_t units[FUT_STORE_AREAS_MAX];
} Differences;

static void note_range(void *opaque, unsigned area, uint64_t first, uint64_t count)
{
    Differences *d = opaque;
    const char *name = fut_snapshot_info_nth(d->info, area)->name;
    uint64_t from = first << FUT_UNIT_SHIFT, bytes = count << FUT_UNIT_SHIFT;

    d->units[area] += count;
    if (d->ranges) {
        json_array_append_new(d->ranges, json_pack("{s:s, s:I, s:I}", "area", name, "offset",
                                                   (json_int_t)from, "length", (json_int_t)bytes));
    } else {
        g_autofree char *size = fut_snapshot_size(bytes);
        g_autofree char *shown = fut_snapshot_shown(name);
        printf("%-24s %#14" G_GINT64_MODIFIER "x  %7s\n", shown, from, size);
    }
}

static void print_sums(Differences *d, const FutSnapshotInfo *a)
{
    json_t *sums = json_object();

    for (unsigned i = 0; i < d->info->areas->len; i++) {
        const FutArea *area = fut_snapshot_info_nth(d->info, i);
        g_autofree char *size = fut_snapshot_size(d->units[i] << FUT_UNIT_SHIFT);
        g_autofree char *length = fut_snapshot_size(area->length);
        if (area->kind == FUT_AREA_STATE) {
            continue;
        }
        json_object_set_new(sums, area->name,
                            json_integer((json_int_t)(d->units[i] << FUT_UNIT_SHIFT)));
        if (!d->ranges) {
            g_autofree char *shown = fut_snapshot_shown(area->name);
            printf("%s: %s of %s differ\n", shown, size, length);
        }
    }
    if (d->ranges) {
        fut_snapshot_print_json(json_pack("{s:I, s:I, s:o, s:o}", "a", (json_int_t)a->id, "b",
                                          (json_int_t)d->info->id, "bytes", sums, "ranges",
                                          d->ranges));
    } else {
        json_decref(sums);
    }
}

bool fut_snapshot_diff(int argc, char **argv, const FutSnapshotOptions *options, GError **error)
{
    g_autoptr(FutStore) store = fut_store_open(argv[0], FUT_STORE_READ, error);
    g_autoptr(FutSnapshotInfo) a =
        store ? fut_store_find(store, argv[1], options->vm, error) : NULL;
    g_autoptr(FutSnapshotInfo) b = a ? fut_store_find(store, argv[2], options->vm, error) : NULL;
    Differences d = { .info = b, .ranges = options->json ? json_array() : NULL };

    if (!b || !fut_store_diff(store, a->id, b->id, note_range, &d, error)) {
        json_decref(d.ranges);
        return false;
    }
    print_sums(&d, a);
    return true;
}
