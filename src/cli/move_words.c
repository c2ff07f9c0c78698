/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "move_words.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "fut_error.h"

/* How long a request waits for a server that is started anew. */
#define RECONNECT_S "30"

/* -- key=value,key=value -- */

/* Owned. */
typedef struct {
    char *key; /* NULL: a value alone, as the first may be */
    char *value;
} Pair;

static void pair_clear(gpointer data)
{
    Pair *pair = data;

    g_free(pair->key);
    g_free(pair->value);
}

/* A comma that is doubled belongs to the value. */
static GArray *split(const char *text)
{
    GArray *pairs = g_array_new(FALSE, FALSE, sizeof(Pair));

    g_array_set_clear_func(pairs, pair_clear);
    while (*text) {
        g_autoptr(GString) word = g_string_new(NULL);
        for (; *text && (*text != ',' || text[1] == ','); text++) {
            g_string_append_c(word, *text);
            text += *text == ',';
        }
        text += *text == ',';
        char *equals = strchr(word->str, '=');
        Pair pair = { equals ? g_strndup(word->str, (gsize)(equals - word->str)) : NULL,
                      g_strdup(equals ? equals + 1 : word->str) };
        g_array_append_val(pairs, pair);
    }
    return pairs;
}

static void append_pair(GString *out, const char *key, const char *value)
{
    g_string_append_printf(out, "%s%s%s", out->len ? "," : "", key ? key : "", key ? "=" : "");
    for (const char *at = value; *at; at++) {
        g_string_append_len(out, ",,", *at == ',' ? 1 : 0); /* two stand for one */
        g_string_append_c(out, *at);
    }
}

static char *join(const GArray *pairs)
{
    GString *out = g_string_new(NULL);

    for (guint i = 0; i < pairs->len; i++) {
        const Pair *pair = &g_array_index(pairs, Pair, i);
        append_pair(out, pair->key, pair->value);
    }
    return g_string_free(out, FALSE);
}

/* -- the module's option -- */

static const char *word_at(GPtrArray *words, guint i)
{
    return i < words->len ? g_ptr_array_index(words, i) : "";
}

/* "-name" or "--name". */
static bool is_option(const char *word, const char *name)
{
    word += word[0] == '-' && word[1] == '-';
    return word[0] == '-' && strcmp(word + 1, name) == 0;
}

static bool is_module(GPtrArray *words, guint i)
{
    return is_option(word_at(words, i), "plugin") && strstr(word_at(words, i + 1), "futago");
}

static GArray *module_pairs(GPtrArray *words)
{
    for (guint i = 1; i < words->len; i++) {
        if (is_module(words, i)) {
            return split(word_at(words, i + 1));
        }
    }
    return split("");
}

char *fut_move_option(GPtrArray *words, const char *key)
{
    g_autoptr(GArray) pairs = module_pairs(words);
    char *value = NULL;

    for (guint i = 0; i < pairs->len; i++) {
        const Pair *pair = &g_array_index(pairs, Pair, i);
        if (g_strcmp0(pair->key, key) == 0) {
            g_free(value);
            value = g_strdup(pair->value);
        }
    }
    return value;
}

char *fut_move_plugin(GPtrArray *words, char *const *own)
{
    static const char *const of_place[] = {
        "file",     "role",    "node",          "to",     "listen",           "tls", "tls_name",
        "insecure", "restore", "restore_force", "moving", "force_generation", NULL
    };
    g_autoptr(GArray) pairs = module_pairs(words);
    GString *out = g_string_new(NULL);

    for (char *const *word = own; *word; word++) {
        const char *equals = strchr(*word, '=');
        g_autofree char *key = g_strndup(*word, (gsize)(equals - *word));
        append_pair(out, key, equals + 1);
    }
    for (guint i = 0; i < pairs->len; i++) {
        const Pair *pair = &g_array_index(pairs, Pair, i);
        if (pair->key && !g_strv_contains(of_place, pair->key)) {
            append_pair(out, pair->key, pair->value);
        }
    }
    return g_string_free(out, FALSE);
}

/* -- images -- */

/* What only a file has, and no NBD client. */
static bool is_of_files(const char *key, const char *prefix)
{
    static const char *const names[] = {
        "driver",     "filename",   "aio",           "locking",
        "pr-manager", "drop-cache", "aio-max-batch", "x-check-cache-dropped",
        NULL
    };
    size_t length = strlen(prefix);

    return strncmp(key, prefix, length) == 0 && g_strv_contains(names, key + length);
}

/* "file." of "file.filename"; NULL: that is no image's name. Caller frees. */
static char *prefix_of(const char *key, bool drive)
{
    static const char name[] = "filename";

    if (drive && key && strcmp(key, "file") == 0) {
        return g_strdup("file.");
    }
    if (!key || !g_str_has_suffix(key, name)) {
        return NULL;
    }
    size_t length = strlen(key) - strlen(name);
    return length == 0 || key[length - 1] == '.' ? g_strndup(key, length) : NULL;
}

static const char *const server_keys[][2] = { { "driver", "nbd" },
                                              { "server.type", "unix" },
                                              { "server.path", NULL },
                                              { "reconnect-delay", RECONNECT_S } };

static void serve_pairs(GArray *pairs, const char *prefix, const char *socket)
{
    for (guint i = 0; i < pairs->len;) {
        const Pair *pair = &g_array_index(pairs, Pair, i);
        /* the first word of -blockdev may be the driver's name alone */
        bool driver = !pair->key && i == 0 && !*prefix;
        bool file = strcmp(prefix, "file.") == 0 && pair->key && strcmp(pair->key, "file") == 0;
        if (driver || file || (pair->key && is_of_files(pair->key, prefix))) {
            g_array_remove_index(pairs, i);
        } else {
            i++;
        }
    }
    for (size_t i = 0; i < G_N_ELEMENTS(server_keys); i++) {
        const char *value = server_keys[i][1] ? server_keys[i][1] : socket;
        Pair pair = { g_strconcat(prefix, server_keys[i][0], NULL), g_strdup(value) };
        g_array_append_val(pairs, pair);
    }
}

/* "server.path" or "file.server.path". */
static bool is_server(const char *key)
{
    static const char name[] = "server.path";
    size_t length = key ? strlen(key) : 0, own = strlen(name);

    return key && g_str_has_suffix(key, name) && (length == own || key[length - own - 1] == '.');
}

/* The value with the image replaced, or NULL: it is not in there. */
static char *serve_keys(const char *value, bool drive, const FutMoveDisk *disk)
{
    g_autoptr(GArray) pairs = split(value);

    for (guint i = 0; i < pairs->len; i++) {
        Pair *pair = &g_array_index(pairs, Pair, i);
        if (is_server(pair->key) && strcmp(pair->value, disk->image) == 0) {
            g_free(
                pair->value); /* it has moved before: the server is another one, nothing else changes */
            pair->value = g_strdup(disk->socket);
            return join(pairs);
        }
        g_autofree char *prefix = prefix_of(pair->key, drive);
        if (prefix && strcmp(pair->value, disk->image) == 0) {
            serve_pairs(pairs, prefix, disk->socket);
            return join(pairs);
        }
    }
    return NULL;
}

static void serve_object(json_t *object, const char *socket)
{
    const char *key;
    json_t *value;
    void *next;

    json_object_foreach_safe(object, next, key, value)
    {
        if (is_of_files(key, "")) {
            json_object_del(object, key);
        }
    }
    json_object_set_new(object, "driver", json_string("nbd"));
    json_object_set_new(object, "server", json_pack("{s:s, s:s}", "type", "unix", "path", socket));
    json_object_set_new(object, "reconnect-delay", json_integer(atoi(RECONNECT_S)));
}

/* {"server": {"path"}} or {"server.path"}. */
static bool serve_again(json_t *object, const FutMoveDisk *disk)
{
    json_t *server = json_object_get(object, "server");
    bool nested = json_is_object(server);
    json_t *holder = nested ? server : object;
    const char *key = nested ? "path" : "server.path";
    const char *path = json_string_value(json_object_get(holder, key));

    if (!path || strcmp(path, disk->image) != 0) {
        return false;
    }
    json_object_set_new(holder, key, json_string(disk->socket));
    return true;
}

/* QEMU's JSON may be nested, and keys may have dots in them. */
static bool serve_json(json_t *object, const FutMoveDisk *disk)
{
    const char *name = json_string_value(json_object_get(object, "filename")), *key;
    json_t *value;

    if (name && strcmp(name, disk->image) == 0) {
        serve_object(object, disk->socket);
        return true;
    }
    if (serve_again(object, disk)) {
        return true;
    }
    json_object_foreach(object, key, value)
    {
        if (json_is_object(value) && serve_json(value, disk)) {
            return true;
        }
    }
    return false;
}

static char *serve_json_word(const char *value, const FutMoveDisk *disk)
{
    json_t *object = json_loads(value, 0, NULL);
    char *text = object && serve_json(object, disk) ? json_dumps(object, JSON_COMPACT) : NULL;
    char *word = g_strdup(text);

    free(text);
    json_decref(object);
    return word;
}

/* -hda FILE is short for -drive. */
static bool serve_letter(GPtrArray *words, guint i, const FutMoveDisk *disk)
{
    const char *word = word_at(words, i), *at = strstr(word, "-hd");

    if (!at || !strchr("abcd", at[3]) || !at[3] || at[4] ||
        strcmp(word_at(words, i + 1), disk->image) != 0) {
        return false;
    }
    g_autoptr(GArray) pairs = split("");
    serve_pairs(pairs, "file.", disk->socket);
    g_autofree char *server = join(pairs);
    char *value = g_strdup_printf("%s,index=%d,media=disk", server, at[3] - 'a');
    g_free(words->pdata[i]);
    words->pdata[i] = g_strdup("-drive");
    g_free(words->pdata[i + 1]);
    words->pdata[i + 1] = value;
    return true;
}

static bool serve_word(GPtrArray *words, guint i, const FutMoveDisk *disk)
{
    const char *value = word_at(words, i + 1);
    bool drive = is_option(word_at(words, i), "drive");

    if (!drive && !is_option(word_at(words, i), "blockdev")) {
        return serve_letter(words, i, disk);
    }
    char *served = value[0] == '{' ? serve_json_word(value, disk) : serve_keys(value, drive, disk);
    if (served) {
        g_free(words->pdata[i + 1]);
        words->pdata[i + 1] = served;
    }
    return served != NULL;
}

static bool serve_disk(GPtrArray *words, const FutMoveDisk *disk, GError **error)
{
    for (guint i = 1; i + 1 < words->len; i++) {
        if (serve_word(words, i, disk)) {
            return true;
        }
    }
    g_set_error(error, FUT_ERROR, FUT_ERR_UNSUPPORTED,
                "disk %s: its image %s is not found in QEMU's command line: name it with -drive or "
                "-blockdev",
                disk->name, disk->image);
    return false;
}

/* -- the whole -- */

/* How many words from here on do not go along. */
static guint left_out(GPtrArray *words, guint i)
{
    static const char *const with_value[] = { "pidfile", "incoming" };

    for (size_t k = 0; k < G_N_ELEMENTS(with_value); k++) {
        if (is_option(word_at(words, i), with_value[k])) {
            return 2;
        }
    }
    if (is_module(words, i)) {
        return 2;
    }
    return is_option(word_at(words, i), "S") || is_option(word_at(words, i), "daemonize");
}

GPtrArray *fut_move_words(GPtrArray *words, const char *plugin, const FutMoveDisk *disks,
                          size_t count, GError **error)
{
    g_autoptr(GPtrArray) moved = g_ptr_array_new_with_free_func(g_free);

    g_ptr_array_add(moved, g_strdup(word_at(words, 0)));
    g_ptr_array_add(moved, g_strdup("-S"));
    g_ptr_array_add(moved, g_strdup("-plugin"));
    g_ptr_array_add(moved, g_strdup(plugin));
    for (guint i = 1; i < words->len;) {
        guint skip = left_out(words, i);
        if (skip == 0) {
            g_ptr_array_add(moved, g_strdup(word_at(words, i)));
        }
        i += MAX(skip, 1);
    }
    for (size_t i = 0; i < count; i++) {
        if (!serve_disk(moved, &disks[i], error)) {
            return NULL;
        }
    }
    return g_steal_pointer(&moved);
}

void fut_move_map(GPtrArray *words, char *const *rules)
{
    for (char *const *rule = rules; rule && *rule; rule++) {
        const char *equals = strchr(*rule, '=');
        g_autofree char *old = g_strndup(*rule, (gsize)(equals - *rule));
        for (guint i = 0; i < words->len; i++) {
            g_auto(GStrv) pieces = g_strsplit(words->pdata[i], old, -1);
            g_free(words->pdata[i]);
            words->pdata[i] = g_strjoinv(equals + 1, pieces);
        }
    }
}
