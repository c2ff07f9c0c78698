/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cli_snapshot.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BAR_WIDTH 30

void fut_snapshot_split(const char *word, char **ret_store, char **ret_which)
{
    const char *at = strrchr(word, '@');

    if (!at || g_file_test(word, G_FILE_TEST_IS_DIR)) {
        *ret_store = g_strdup(word);
        *ret_which = NULL;
    } else {
        *ret_store = g_strndup(word, (gsize)(at - word));
        *ret_which = g_strdup(at + 1);
    }
}

void fut_snapshot_print_json(json_t *take_value)
{
    char *text = json_dumps(take_value, JSON_INDENT(2));

    printf("%s\n", text);
    free(text);
    json_decref(take_value);
}

bool fut_snapshot_progress(void *opaque, uint64_t done, uint64_t all)
{
    unsigned share = all ? (unsigned)(done * 100 / all) : 100;
    char bar[BAR_WIDTH + 1] = { 0 };
    static unsigned shown = 101;

    if (share != shown && isatty(STDERR_FILENO)) {
        shown = share;
        for (unsigned i = 0; i < BAR_WIDTH; i++) {
            bar[i] = i * 100 < share * BAR_WIDTH ? '#' : '.';
        }
        fprintf(stderr, "\r\033[K%s [%s] %3u %%", (const char *)opaque, bar, share);
    }
    return true;
}

void fut_snapshot_progress_end(void)
{
    if (isatty(STDERR_FILENO)) {
        fprintf(stderr, "\r\033[K");
    }
}

/* -- texts -- */

static bool is_printed(gunichar character)
{
    switch (g_unichar_type(character)) {
    case G_UNICODE_CONTROL:
    case G_UNICODE_FORMAT:
    case G_UNICODE_UNASSIGNED:
    case G_UNICODE_PRIVATE_USE:
    case G_UNICODE_SURROGATE:
    case G_UNICODE_LINE_SEPARATOR:
    case G_UNICODE_PARAGRAPH_SEPARATOR:
        return false;
    default:
        return true;
    }
}

char *fut_snapshot_shown(const char *text)
{
    GString *shown = g_string_new(NULL);

    while (*text) {
        gunichar character = g_utf8_get_char_validated(text, -1);
        if (character >= (gunichar)-2) {
            g_string_append_printf(shown, "\\x%02x", (unsigned char)*text++);
            continue;
        }
        if (is_printed(character)) {
            g_string_append_unichar(shown, character);
        } else {
            g_string_append_printf(shown, "\\u%04x", character);
        }
        text = g_utf8_next_char(text);
    }
    return g_string_free(shown, FALSE);
}

char *fut_snapshot_size(uint64_t bytes)
{
    static const char units[] = "KMGTPE";
    double value = (double)bytes;
    int unit = -1;

    if (bytes < 1024) {
        return g_strdup_printf("%u", (unsigned)bytes);
    }
    while (value >= 1023.5) {
        value /= 1024;
        unit++;
    }
    return g_strdup_printf(value < 9.95 ? "%.1f%c" : "%.0f%c", value, units[unit]);
}

char *fut_snapshot_duration(uint64_t ns)
{
    double ms = (double)ns / 1e6;

    return ms < 9.995   ? g_strdup_printf("%.2f ms", ms)
           : ms < 999.5 ? g_strdup_printf("%.0f ms", ms)
                        : g_strdup_printf("%.1f s", ms / 1e3);
}

char *fut_snapshot_time(uint64_t time_us)
{
    g_autoptr(GDateTime) time = g_date_time_new_from_unix_local((gint64)(time_us / G_USEC_PER_SEC));

    return time ? g_date_time_format(time, "%Y-%m-%d %H:%M:%S") : g_strdup("-");
}

typedef struct {
    uint64_t bytes, put_bytes;
    unsigned count;
} Sum;

static Sum sum_of(const FutSnapshotInfo *info, FutAreaKind kind)
{
    Sum sum = { 0 };

    for (unsigned i = 0; i < info->areas->len; i++) {
        const FutArea *area = fut_snapshot_info_nth(info, i);
        if (area->kind == kind) {
            sum.bytes += area->length;
            sum.put_bytes += area->put_units << FUT_UNIT_SHIFT;
            sum.count++;
        }
    }
    return sum;
}

static void add_row(GString *text, const FutSnapshotInfo *info)
{
    g_autofree char *time = fut_snapshot_time(info->time_us);
    g_autofree char *memory = fut_snapshot_size(sum_of(info, FUT_AREA_MEMORY).put_bytes);
    g_autofree char *disks = fut_snapshot_size(sum_of(info, FUT_AREA_DISK).put_bytes);
    g_autofree char *stored = fut_snapshot_size(info->stored);
    g_autofree char *stop = fut_snapshot_duration(info->stop_ns);
    g_autofree char *parent =
        info->parent ? g_strdup_printf("%" G_GUINT64_FORMAT, info->parent) : g_strdup("full");

    g_autofree char *vm = fut_snapshot_shown(info->vm);
    g_autofree char *reason = fut_snapshot_shown(info->reason);

    g_string_append_printf(text, "%6" G_GUINT64_FORMAT "  %-19s  %-12s %6s %7s %7s %7s %8s  %s\n",
                           info->id, time, vm, parent, memory, disks, stored, stop, reason);
}

char *fut_snapshot_table(const GPtrArray *all)
{
    GString *text = g_string_new(NULL);

    g_string_append_printf(text, "%6s  %-19s  %-12s %6s %7s %7s %7s %8s  %s\n", "ID", "TIME", "VM",
                           "SINCE", "MEMORY", "DISKS", "STORED", "STOPPED", "REASON");
    for (guint i = 0; i < all->len; i++) {
        add_row(text, all->pdata[i]);
    }
    return g_string_free(text, FALSE);
}

static void add_areas(GString *text, const FutSnapshotInfo *info)
{
    static const char *const kinds[] = { "memory", "disk", "state" };

    for (unsigned i = 0; i < info->areas->len; i++) {
        const FutArea *area = fut_snapshot_info_nth(info, i);
        g_autofree char *length = fut_snapshot_size(area->length);
        g_autofree char *put = fut_snapshot_size(area->put_units << FUT_UNIT_SHIFT);
        g_autofree char *name = fut_snapshot_shown(area->name);
        g_string_append_printf(text, "%-12s %s: %s, of it written here %s\n", kinds[area->kind],
                               area->kind == FUT_AREA_STATE ? "devices" : name, length, put);
    }
}

/* As it can be given to a shell again, if all of it is printed. */
static char *command_text(const FutSnapshotInfo *info)
{
    GString *text = g_string_new(NULL);

    for (char **word = info->command; *word; word++) {
        bool plain = **word && !strpbrk(*word, " \t\n'\"\\$`&|;<>()*?[]#~!{}");
        g_autofree char *quoted = plain ? g_strdup(*word) : g_shell_quote(*word);
        g_string_append_printf(text, "%s%s", text->len ? " " : "", quoted);
    }
    char *shown = fut_snapshot_shown(text->str);
    g_string_free(text, TRUE);
    return shown;
}

char *fut_snapshot_block(const FutSnapshotInfo *info)
{
    GString *text = g_string_new(NULL);
    g_autofree char *time = fut_snapshot_time(info->time_us);
    g_autofree char *stored = fut_snapshot_size(info->stored);
    g_autofree char *stop = fut_snapshot_duration(info->stop_ns);
    g_autofree char *took = fut_snapshot_duration(info->took_ns);
    g_autofree char *command = command_text(info);
    g_autofree char *vm = fut_snapshot_shown(info->vm);
    g_autofree char *reason = fut_snapshot_shown(info->reason);

    g_string_append_printf(text, "%-12s %" G_GUINT64_FORMAT "\n%-12s %s\n%-12s %s\n", "snapshot",
                           info->id, "vm", vm, "time", time);
    if (info->parent) {
        g_string_append_printf(text, "%-12s %" G_GUINT64_FORMAT "\n", "since", info->parent);
    }
    if (*info->reason) {
        g_string_append_printf(text, "%-12s %s\n", "reason", reason);
    }
    g_string_append_printf(text, "%-12s %s\n%-12s %s\n%-12s %s\n", "stopped", stop, "took", took,
                           "stored", stored);
    add_areas(text, info);
    for (char **line = info->fingerprint; *line; line++) {
        g_autofree char *shown = fut_snapshot_shown(*line);
        g_string_append_printf(text, "%-12s %s\n", line == info->fingerprint ? "machine" : "",
                               shown);
    }
    g_string_append_printf(text, "%-12s %s\n", "command", command);
    return g_string_free(text, FALSE);
}

/* -- JSON -- */

static json_t *text_json(const char *text)
{
    json_t *value = json_string(text); /* NULL: no UTF-8 */

    return value ? value : json_string("?");
}

static json_t *areas_json(const FutSnapshotInfo *info)
{
    static const char *const kinds[] = { "memory", "disk", "state" };
    json_t *areas = json_array();

    for (unsigned i = 0; i < info->areas->len; i++) {
        const FutArea *area = fut_snapshot_info_nth(info, i);
        json_array_append_new(areas, json_pack("{s:s, s:o, s:I, s:I}", "kind", kinds[area->kind],
                                               "name", text_json(area->name), "length",
                                               (json_int_t)area->length, "written",
                                               (json_int_t)(area->put_units << FUT_UNIT_SHIFT)));
    }
    return areas;
}

static json_t *texts_json(char **texts)
{
    json_t *list = json_array();

    for (; *texts; texts++) {
        json_array_append_new(list, text_json(*texts));
    }
    return list;
}

json_t *fut_snapshot_json(const FutSnapshotInfo *info, bool whole)
{
    json_t *object =
        json_pack("{s:I, s:o, s:f, s:I, s:o, s:f, s:f, s:I, s:I, s:I}", "id", (json_int_t)info->id,
                  "vm", text_json(info->vm), "time", (double)info->time_us / 1e6, "parent",
                  (json_int_t)info->parent, "reason", text_json(info->reason), "stop_ms",
                  (double)info->stop_ns / 1e6, "took_ms", (double)info->took_ns / 1e6, "stored",
                  (json_int_t)info->stored, "memory_written",
                  (json_int_t)sum_of(info, FUT_AREA_MEMORY).put_bytes, "disk_written",
                  (json_int_t)sum_of(info, FUT_AREA_DISK).put_bytes);

    if (whole) {
        json_object_set_new(object, "areas", areas_json(info));
        json_object_set_new(object, "machine", texts_json(info->fingerprint));
        json_object_set_new(object, "command", texts_json(info->command));
    }
    return object;
}
