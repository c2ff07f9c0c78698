/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Definitions of probes, and their bytes. */
#include "probe_definition.h"

#include <string.h>

#include "byteorder.h"
#include "fut_error.h"
#include "probe_keys.h"
#include "probe_text.h"

#define HEAD_BYTES 32u
#define FLAG_WAIT 1u
#define FLAG_DISABLED 2u

static bool check_name(const char *name, GError **error)
{
    bool good = *name && !strchr(".-", *name) && strlen(name) <= FUT_PROBE_NAME_MAX;

    for (const char *at = name; good && *at; at++) {
        good = g_ascii_isalnum(*at) || strchr("._-", *at);
    }
    if (!good) {
        g_set_error(
            error, FUT_ERROR, FUT_ERR_ARG,
            "name '%.80s': give the probe one of at most %u letters, digits, '.', '_' and '-' (--name)",
            name, FUT_PROBE_NAME_MAX);
    }
    return good;
}

static bool check_path(const char *path, GError **error)
{
    if (!g_path_is_absolute(path) || strlen(path) > FUT_PROBE_PATH_MAX ||
        !g_utf8_validate(path, -1, NULL)) {
        g_set_error(error, FUT_ERROR, FUT_ERR_ARG,
                    "symbols '%.80s': give the file's whole path, at most %u bytes", path,
                    FUT_PROBE_PATH_MAX);
        return false;
    }
    return true;
}

/* Each alternative can be read, and takes the filter. Returns the first one (caller frees), or NULL. */
static FutProbeText *check_text(const char *text, const char *filter, GError **error)
{
    g_autoptr(FutProbeKeys) keys = fut_probe_keys_parse(text, error);
    g_autoptr(FutProbeText) first = NULL;

    for (unsigned i = 0; keys && i < keys->probe_count; i++) {
        g_autoptr(FutProbeText) parsed = fut_probe_text_parse(keys->probes[i], error);
        if (!parsed || (filter && !fut_probe_text_narrow(parsed, filter, error))) {
            return NULL;
        }
        first = first ? first : g_steal_pointer(&parsed);
    }
    return g_steal_pointer(&first);
}

FutProbeDefinition *fut_probe_definition_new(const FutProbeDefinition *from, GError **error)
{
    g_autoptr(FutProbeText) first = check_text(from->text, from->filter, error);

    if (!first || (from->symbols && !check_path(from->symbols, error))) {
        return NULL;
    }
    const char *name = from->name && *from->name ? from->name : first->function;
    if (!check_name(name, error)) {
        return NULL;
    }
    FutProbeDefinition *made = g_new0(FutProbeDefinition, 1);
    made->name = g_strdup(name);
    made->function = fut_probe_text_point(first);
    made->text = g_strdup(from->text);
    made->filter = g_strdup(from->filter);
    made->symbols = g_strdup(from->symbols);
    made->wait = from->wait;
    made->disabled = from->disabled;
    return made;
}

void fut_probe_definition_free(FutProbeDefinition *definition)
{
    if (definition) {
        g_free(definition->name);
        g_free(definition->function);
        g_free(definition->text);
        g_free(definition->filter);
        g_free(definition->symbols);
        g_free(definition);
    }
}

static void free_definition(gpointer data)
{
    fut_probe_definition_free(data);
}

FutProbeSet *fut_probe_set_new(void)
{
    FutProbeSet *set = g_new0(FutProbeSet, 1);

    set->definitions = g_ptr_array_new_with_free_func(free_definition);
    return set;
}

void fut_probe_set_free(FutProbeSet *set)
{
    if (set) {
        g_ptr_array_unref(set->definitions);
        g_free(set);
    }
}

/* -- to bytes -- */

static void put_text(FutBuf *out, const char *text)
{
    size_t length = text ? strlen(text) : 0;

    g_assert(length <= UINT16_MAX);
    fut_put_le16(fut_buf_extend(out, 2), (uint16_t)length);
    fut_buf_append(out, text, length);
}

void fut_probe_set_encode(FutBuf *out, const FutProbeSet *set)
{
    uint8_t *head = fut_buf_extend(out, HEAD_BYTES);

    g_assert(set->definitions->len <= FUT_PROBE_SET_MAX);
    fut_put_le64(head, set->syscall_entry);
    fut_put_le64(head + 8, set->table);
    fut_put_le32(head + 16, set->five_levels);
    fut_put_le32(head + 20, set->definitions->len);
    fut_put_le64(head + 24, 0);
    for (guint i = 0; i < set->definitions->len; i++) {
        const FutProbeDefinition *one = g_ptr_array_index(set->definitions, i);
        fut_put_le32(fut_buf_extend(out, 4),
                     (one->wait ? FLAG_WAIT : 0) | (one->disabled ? FLAG_DISABLED : 0));
        put_text(out, one->name);
        put_text(out, one->text);
        put_text(out, one->filter);
        put_text(out, one->symbols);
    }
}

/* -- from bytes -- */

typedef struct {
    const uint8_t *at;
    size_t left;
} Reader;

/* NULL: not there, or with a NUL within. Caller frees. */
static char *get_text(Reader *in)
{
    size_t length = in->left >= 2 ? fut_get_le16(in->at) : 0;

    if (in->left < 2 || length > in->left - 2 || memchr(in->at + 2, '\0', length)) {
        return NULL;
    }
    char *text = g_strndup((const char *)in->at + 2, length);
    in->at += 2 + length;
    in->left -= 2 + length;
    return text;
}

static bool bad(GError **error, const char *what)
{
    g_set_error(error, FUT_ERROR, FUT_ERR_PEER, "bad PROBES from the peer: %s", what);
    return false;
}

static bool is_there(const FutProbeSet *set, const char *name)
{
    for (guint i = 0; i < set->definitions->len; i++) {
        const FutProbeDefinition *one = g_ptr_array_index(set->definitions, i);
        if (strcmp(one->name, name) == 0) {
            return true;
        }
    }
    return false;
}

static bool get_definition(Reader *in, FutProbeSet *set, GError **error)
{
    uint32_t flags = in->left >= 4 ? fut_get_le32(in->at) : UINT32_MAX;

    if (flags & ~(FLAG_WAIT | FLAG_DISABLED)) {
        return bad(error, "unknown flags, or too short");
    }
    in->at += 4;
    in->left -= 4;
    g_autofree char *name = get_text(in);
    g_autofree char *text = name ? get_text(in) : NULL;
    g_autofree char *filter = text ? get_text(in) : NULL;
    g_autofree char *symbols = filter ? get_text(in) : NULL;
    if (!symbols || !*name) {
        return bad(error, "a text is cut off, has a zero in it, or is missing");
    }
    FutProbeDefinition from = { .name = name,
                                .text = text,
                                .filter = *filter ? filter : NULL,
                                .symbols = *symbols ? symbols : NULL,
                                .wait = (flags & FLAG_WAIT) != 0,
                                .disabled = (flags & FLAG_DISABLED) != 0 };
    g_autoptr(GError) fault = NULL;
    g_autoptr(FutProbeDefinition) made = fut_probe_definition_new(&from, &fault);
    if (!made) {
        return bad(error, fault->message);
    }
    if (is_there(set, made->name)) {
        return bad(error, "a name is there twice");
    }
    g_ptr_array_add(set->definitions, g_steal_pointer(&made));
    return true;
}

FutProbeSet *fut_probe_set_decode(const uint8_t *body, size_t length, GError **error)
{
    g_autoptr(FutProbeSet) set = fut_probe_set_new();

    if (length < HEAD_BYTES || length > FUT_PROBE_SET_BYTES_MAX) {
        bad(error, "too short or too long");
        return NULL;
    }
    uint32_t count = fut_get_le32(body + 20);
    if (fut_get_le32(body + 16) > 1 || count > FUT_PROBE_SET_MAX || fut_get_le64(body + 24) != 0) {
        bad(error, "reserved fields are not zero, or too many probes");
        return NULL;
    }
    set->syscall_entry = fut_get_le64(body);
    set->table = fut_get_le64(body + 8);
    set->five_levels = fut_get_le32(body + 16) == 1;
    Reader in = { body + HEAD_BYTES, length - HEAD_BYTES };
    for (uint32_t i = 0; i < count; i++) {
        if (!get_definition(&in, set, error)) {
            return NULL;
        }
    }
    if (in.left > 0) {
        bad(error, "bytes after the end");
        return NULL;
    }
    return g_steal_pointer(&set);
}
