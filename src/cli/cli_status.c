/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A status as people read it: a row in a table, or a block of lines. */
#include "cli_status.h"

#include <string.h>

#include "cli.h"

#define COLUMNS 11

struct FutTable {
    GPtrArray *cells; /* char *, COLUMNS a row, the heading first */
};

/* -- numbers -- */

static char *text_of_scaled(double value, double step, const char *const *units, size_t count)
{
    size_t unit = 0;

    while (unit + 1 < count && value >= step) {
        value /= step;
        unit++;
    }
    int digits = unit == 0 || value >= 100 ? 0 : value >= 10 ? 1 : 2;
    return g_strdup_printf("%.*f %s", digits, value, units[unit]);
}

char *fut_text_of_us(double us)
{
    static const char *const units[] = { "us", "ms", "s" };

    return text_of_scaled(us, 1000, units, G_N_ELEMENTS(units));
}

char *fut_text_of_bytes(double bytes)
{
    static const char *const units[] = { "B", "KB", "MB", "GB", "TB" };

    return text_of_scaled(bytes, 1000, units, G_N_ELEMENTS(units));
}

/* Text, or "-" for what is not told. */
static char *text_of(const json_t *status, const char *key)
{
    const char *text = fut_cli_text(status, key);

    return g_strdup(*text ? text : "-");
}

static char *count_of(const json_t *status, const char *key)
{
    const json_t *value = json_object_get(status, key);

    return json_is_number(value) ? g_strdup_printf("%.0f", json_number_value(value))
                                 : g_strdup("-");
}

static char *scaled_of(const json_t *status, const char *key, char *(*scale)(double))
{
    const json_t *value = json_object_get(status, key);

    return json_is_number(value) ? scale(json_number_value(value)) : g_strdup("-");
}

/* p50 and p99 of a measure. */
static char *spread_of(const json_t *status, const char *key)
{
    const json_t *measure = json_object_get(status, key);

    if (!json_is_object(measure)) {
        return g_strdup("-");
    }
    g_autofree char *middle = scaled_of(measure, "p50", fut_text_of_us);
    g_autofree char *most = scaled_of(measure, "p99", fut_text_of_us);
    return g_strdup_printf("%s / %s", middle, most);
}

/* -- table -- */

static void add_cell(FutTable *table, char *take_text)
{
    g_ptr_array_add(table->cells, take_text);
}

FutTable *fut_table_new(void)
{
    static const char *const heading[COLUMNS] = {
        "VM",      "ROLE",          "STATE",          "GEN", "EPOCH", "CKPT/S",
        "BYTES/S", "PAUSE p50/p99", "COMMIT p50/p99", "LAG", "PEER",
    };
    FutTable *table = g_new0(FutTable, 1);

    table->cells = g_ptr_array_new_with_free_func(g_free);
    for (size_t i = 0; i < COLUMNS; i++) {
        add_cell(table, g_strdup(heading[i]));
    }
    return table;
}

void fut_table_add(FutTable *table, const json_t *status)
{
    add_cell(table, text_of(status, "vm"));
    add_cell(table, text_of(status, "role"));
    add_cell(table, text_of(status, "state"));
    add_cell(table, count_of(status, "generation"));
    add_cell(table, count_of(status, "epoch"));
    add_cell(table, count_of(status, "checkpoints_per_s"));
    add_cell(table, scaled_of(status, "bytes_per_s", fut_text_of_bytes));
    add_cell(table, spread_of(status, "pause_us"));
    add_cell(table, spread_of(status, "commit_us"));
    add_cell(table, scaled_of(status, "lag_us", fut_text_of_us));
    add_cell(table, text_of(status, "peer"));
}

void fut_table_add_silent(FutTable *table, const char *vm, const char *why)
{
    add_cell(table, g_strdup(vm));
    add_cell(table, g_strdup("-"));
    add_cell(table, g_strdup(why));
    for (size_t i = 3; i < COLUMNS; i++) {
        add_cell(table, g_strdup("-"));
    }
}

static const char *cell(const FutTable *table, size_t row, size_t column)
{
    return g_ptr_array_index(table->cells, row * COLUMNS + column);
}

char *fut_table_end(FutTable *take_table)
{
    GString *text = g_string_new(NULL);
    size_t rows = take_table->cells->len / COLUMNS;
    int widths[COLUMNS] = { 0 };

    for (size_t i = 0; i < rows * COLUMNS; i++) {
        widths[i % COLUMNS] = MAX(widths[i % COLUMNS], (int)strlen(cell(take_table, 0, i)));
    }
    for (size_t row = 0; row < rows; row++) {
        for (size_t column = 0; column + 1 < COLUMNS; column++) {
            g_string_append_printf(text, "%-*s  ", widths[column], cell(take_table, row, column));
        }
        g_string_append_printf(text, "%s\n", cell(take_table, row, COLUMNS - 1));
    }
    g_ptr_array_unref(take_table->cells);
    g_free(take_table);
    return g_string_free(text, FALSE);
}

/* -- block -- */

static void add_line(GString *block, const char *label, char *take_text)
{
    g_string_append_printf(block, "%-20s %s\n", label, take_text);
    g_free(take_text);
}

/* What the state means for whoever relies on the twin. */
static const struct {
    const char *state, *protects, *text;
} meanings[] = {
    { "alone", "no", "no backup is wanted: futago protect names one" },
    { "connecting", "no", "the backup cannot be reached; keeps trying" },
    { "greeting", "no", "the backup has not answered yet" },
    { "copying", "no", "memory is still being copied" },
    { "settling", "no", "memory is still being copied" },
    { "protecting", "no", "the first checkpoint is not committed yet" },
    { "protected", "yes", "the twin holds every instant that has been seen outside" },
    { "asking", "no", "the backup is lost; waits for the arbiter before going on alone" },
    { "handing", "no", "the VM is being handed over" },
    { "fenced", "no", "the twin has the VM; this one is stopped for good" },
    { "waiting", "no", "holds no image: waits for a primary" },
    { "receiving", "no", "memory is still coming in" },
    { "standby", "yes",
      "holds the last committed instant, and takes over when the primary is lost" },
    { "claiming", "no", "the primary is lost; waits for the arbiter's answer" },
    { "taking", "no", "takes over" },
    { "failed", "no", "the VM could not be started here" },
    { "preparing", "no", "is made ready from a snapshot" },
    { "ready", "no", "made from a snapshot, waits: futago restore --go lets its guest run" },
    { "going", "no", "its guest is being let go" },
};

static void add_meaning(GString *block, const json_t *status)
{
    const char *state = fut_cli_text(status, "state");

    for (size_t i = 0; i < G_N_ELEMENTS(meanings); i++) {
        if (strcmp(meanings[i].state, state) == 0) {
            add_line(block, "protects",
                     g_strdup_printf("%s: %s", meanings[i].protects, meanings[i].text));
            return;
        }
    }
    add_line(block, "protects", g_strdup_printf("no: state '%s' is unknown to this futago", state));
}

/* What the twin helps against, and what it does not: one a line. */
static void add_cover(GString *block, const json_t *status)
{
    const json_t *against = json_object_get(status, "protects_against");
    const json_t *gaps = json_object_get(status, "not_against"), *gap;
    g_autoptr(GString) list = g_string_new(NULL);
    size_t i;

    for (i = 0; i < json_array_size(against); i++) {
        const char *what = json_string_value(json_array_get(against, i));
        g_string_append_printf(list, "%s%s", list->len ? ", " : "", what ? what : "?");
    }
    if (list->len == 0) {
        return;
    }
    add_line(block, "  against", g_strdup(list->str));
    json_array_foreach(gaps, i, gap)
    {
        const char *remedy = fut_cli_text(gap, "remedy");
        g_autofree char *bracket = *remedy ? g_strdup_printf(" (%s)", remedy) : g_strdup("");
        add_line(block, i == 0 ? "  not against" : "",
                 g_strdup_printf("%s%s", fut_cli_text(gap, "what"), bracket));
    }
}

/* A twin is no help against it: it would do the same. */
static void add_panics(GString *block, const json_t *status)
{
    json_int_t panics = json_integer_value(json_object_get(status, "panics"));

    if (panics > 0) {
        add_line(block, "guest panics", g_strdup_printf("%" JSON_INTEGER_FORMAT, panics));
    }
}

/* What protects the link, and who the other host has proved to be. */
static void add_link(GString *block, const json_t *status)
{
    const char *kind = fut_cli_text(status, "tls"), *proved = fut_cli_text(status, "tls_peer");
    const char *away = fut_cli_text(status, "turned_away");

    if (*kind && strcmp(kind, "none") != 0) {
        add_line(block, "link",
                 g_strdup_printf("encrypted (%s)%s%s", kind, *proved ? ", with " : "", proved));
    } else if (*kind) {
        add_line(block, "link", g_strdup("not encrypted"));
    }
    if (*away) {
        add_line(block, "turned away", g_strdup(away));
    }
}

static void add_identity(GString *block, const json_t *status)
{
    g_autofree char *role = text_of(status, "role");
    g_autofree char *node = text_of(status, "node");
    const char *running = json_is_true(json_object_get(status, "running")) ? "runs" : "stopped";
    const char *address = fut_cli_text(status, "peer_address");

    add_line(block, "vm", text_of(status, "vm"));
    add_line(block, "role", g_strdup_printf("%s on %s, guest %s", role, node, running));
    add_line(block, "state", text_of(status, "state"));
    add_meaning(block, status);
    add_cover(block, status);
    if (*fut_cli_text(status, "reason")) {
        add_line(block, "reason", text_of(status, "reason"));
    }
    g_autofree char *peer = text_of(status, "peer");
    const char *linked = json_is_true(json_object_get(status, "linked")) ? "" : ", no link";
    add_line(block, "peer",
             g_strdup_printf("%s%s%s%s", peer, *address ? " at " : "", address, linked));
    add_link(block, status);
    add_panics(block, status);
    add_line(block, "mode", text_of(status, "mode"));
    add_line(block, "arbiter", text_of(status, "arbiter"));
    add_line(block, "generation", count_of(status, "generation"));
}

/* How written pages are found, and what that takes of the pause. */
static char *tracker_of(const json_t *status)
{
    g_autofree char *tracker = text_of(status, "tracker");
    g_autofree char *spread = spread_of(status, "collect_us");

    return g_strdup_printf("by %s, %s", tracker, spread);
}

static void add_primary(GString *block, const json_t *status)
{
    g_autofree char *pages = count_of(status, "pages_per_checkpoint");
    g_autofree char *bytes = scaled_of(status, "bytes_per_checkpoint", fut_text_of_bytes);
    g_autofree char *total = count_of(status, "checkpoints");
    g_autofree char *rate = count_of(status, "checkpoints_per_s");
    g_autofree char *held = count_of(status, "outputs_held");
    g_autofree char *released = count_of(status, "outputs_released");
    g_autofree char *dropped = count_of(status, "outputs_dropped");

    add_line(block, "copied",
             g_strdup_printf("%.0f %%", 100 * fut_cli_value(status, "copy_share")));
    add_line(block, "checkpoints", g_strdup_printf("%s/s, %s in all", rate, total));
    add_line(block, "pause p50 / p99", spread_of(status, "pause_us"));
    add_line(block, "written pages", tracker_of(status));
    add_line(block, "commit p50 / p99", spread_of(status, "commit_us"));
    add_line(block, "per checkpoint", g_strdup_printf("%s pages, %s", pages, bytes));
    add_line(block, "bytes/s", scaled_of(status, "bytes_per_s", fut_text_of_bytes));
    add_line(block, "lag", scaled_of(status, "lag_us", fut_text_of_us));
    add_line(block, "outputs held",
             g_strdup_printf("%s (%s released, %s dropped)", held, released, dropped));
}

/* While memory comes from a snapshot. */
static void add_restore(GString *block, const json_t *status)
{
    const json_t *restore = json_object_get(status, "restore");

    if (restore && *fut_cli_text(restore, "from")) {
        add_line(block, "from snapshot",
                 g_strdup_printf("%s, %s", fut_cli_text(restore, "from"),
                                 fut_cli_value(restore, "share") >= 1
                                     ? "all of its memory is in place"
                                     : "what its guest used last is in memory"));
    } else if (restore) {
        g_autofree char *faults = count_of(restore, "faults");
        add_line(block, "from snapshot",
                 g_strdup_printf("%.1f %% of memory is there, %s accesses had to wait",
                                 100 * fut_cli_value(restore, "share"), faults));
    }
}

char *fut_status_block(const json_t *status)
{
    GString *block = g_string_new(NULL);

    add_identity(block, status);
    add_restore(block, status);
    if (strcmp(fut_cli_text(status, "role"), "spare") == 0) {
        return g_string_free(block, FALSE);
    }
    add_line(block, "epoch", count_of(status, "epoch"));
    add_line(block, "committed", count_of(status, "committed"));
    if (strcmp(fut_cli_text(status, "role"), "backup") == 0) {
        add_line(block, "applied", count_of(status, "applied"));
        add_line(block, "inbound logged", count_of(status, "inbound_logged"));
    } else {
        add_primary(block, status);
    }
    if (fut_cli_value(status, "takeover_us") > 0) {
        add_line(block, "took over in", scaled_of(status, "takeover_us", fut_text_of_us));
    }
    if (fut_cli_value(status, "verified") > 0 || fut_cli_value(status, "verify_failed") > 0) {
        g_autofree char *good = count_of(status, "verified");
        g_autofree char *bad = count_of(status, "verify_failed");
        add_line(block, "memory compared", g_strdup_printf("%s equal, %s different", good, bad));
    }
    return g_string_free(block, FALSE);
}
