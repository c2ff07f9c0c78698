/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Definitions: the keys before a probe, and its alternatives. */
#include "probe_keys.h"

#include <string.h>

#include "fut_error.h"
#include "probe_text.h"

#define LIMIT_MAX_S 300
#define HOLDS_MAX_S (30 * 24 * 3600)
#define TEXT_MAX 400
#define NAME_CHARACTERS "abcdefghijklmnopqrstuvwxyz"
/* A key with its "=" is never longer. */
#define KEY_MAX 16

const char *const fut_severity_names[] = { "info", "warning", "error", "critical", NULL };
const char *const fut_scope_names[] = { "service", "system", "host", NULL };
const char *const fut_deed_names[] = { "report",   "failover", "failover-anyway",
                                       "snapshot", "stop",     "command",
                                       "ask",      NULL };

typedef struct {
    const char *text; /* all of it */
    const char *at;
    unsigned seen; /* keys, by bit */
    GError **error;
} Parser;

static bool fail(const Parser *parser, const char *at, const char *expected)
{
    g_set_error(parser->error, FUT_ERROR, FUT_ERR_ARG, "probe, at character %d: expected %s",
                (int)(at - parser->text) + 1, expected);
    return false;
}

static const char *skip_blanks(const char *at)
{
    at += strspn(at, " \t\r\n");
    while (*at == '#') {
        at += strcspn(at, "\n");
        at += strspn(at, " \t\r\n");
    }
    return at;
}

/* -- values -- */

static bool choose(const char *const *names, const char *word, unsigned *ret)
{
    for (unsigned i = 0; names[i]; i++) {
        if (strcmp(names[i], word) == 0) {
            *ret = i;
            return true;
        }
    }
    return false;
}

static bool set_severity(FutProbeKeys *keys, const char *value)
{
    unsigned number;
    bool ok = choose(fut_severity_names, value, &number);

    keys->severity = ok ? (FutSeverity)number : keys->severity;
    keys->has_consequences = true;
    return ok;
}

static bool set_scope(FutProbeKeys *keys, const char *value)
{
    unsigned number;
    bool ok = choose(fut_scope_names, value, &number);

    keys->scope = ok ? (FutScope)number : keys->scope;
    return ok;
}

static bool set_text(char **text, const char *value)
{
    g_free(*text);
    *text = g_strdup(value);
    return strlen(value) <= TEXT_MAX && g_utf8_validate(value, -1, NULL);
}

static bool set_says(FutProbeKeys *keys, const char *value)
{
    return set_text(&keys->says, value);
}

static bool set_means(FutProbeKeys *keys, const char *value)
{
    return set_text(&keys->means, value);
}

static bool set_about(FutProbeKeys *keys, const char *value)
{
    return set_text(&keys->about, value);
}

static bool add_action(FutProbeKeys *keys, const char *word)
{
    g_autofree char *name = g_strndup(word, strcspn(word, ":"));
    const char *path = strchr(word, ':');
    unsigned deed;

    if (keys->action_count == FUT_PROBE_ACTIONS_MAX || !choose(fut_deed_names, name, &deed)) {
        return false;
    }
    bool program = deed == FUT_DO_COMMAND || deed == FUT_DO_ASK;
    bool may = program || deed == FUT_DO_SNAPSHOT;
    if ((program && !path) || (path && (!may || path[1] != '/'))) {
        return false;
    }
    keys->actions[keys->action_count++] =
        (FutProbeAction){ (FutDeed)deed, path ? g_strdup(path + 1) : NULL };
    return true;
}

static bool set_on(FutProbeKeys *keys, const char *value)
{
    g_auto(GStrv) words = g_strsplit(value, ",", -1);
    bool ok = *value != '\0';

    for (char **word = words; *word; word++) {
        ok = ok && add_action(keys, *word);
    }
    keys->has_consequences = true;
    return ok;
}

static bool set_seconds(unsigned *ret, const char *value, unsigned max)
{
    guint64 number = 0;
    bool ok = g_ascii_string_to_unsigned(value, 10, 1, max, &number, NULL);

    *ret = (unsigned)number;
    return ok;
}

static bool set_limit(FutProbeKeys *keys, const char *value)
{
    return set_seconds(&keys->limit_s, value, LIMIT_MAX_S);
}

static bool set_holds(FutProbeKeys *keys, const char *value)
{
    return set_seconds(&keys->holds_s, value, HOLDS_MAX_S);
}

static const struct {
    const char *key;
    bool (*set)(FutProbeKeys *keys, const char *value);
    const char *expected;
} rules[] = {
    { "severity", set_severity, "severity=info, warning, error or critical" },
    { "scope", set_scope, "scope=service, system or host" },
    { "says", set_says, "says=\"TEXT\" of at most 400 bytes, UTF-8" },
    { "means", set_means, "means=\"TEXT\" of at most 400 bytes, UTF-8" },
    { "about", set_about, "about=\"WORDS\" of at most 400 bytes, UTF-8" },
    { "on", set_on,
      "on=report, failover, failover-anyway, snapshot[:/STORE], stop, command:/PATH or ask:/PATH, at most 8, with commas between them" },
    { "limit", set_limit, "limit=SECONDS from 1 to 300" },
    { "holds", set_holds, "holds=SECONDS from 1 to 2592000" },
};

/* -- keys -- */

/* A text in quotes, or a word; NULL with an error. Caller frees. */
static char *take_value(Parser *parser)
{
    bool quoted = *parser->at == '"';
    const char *begin = parser->at + (quoted ? 1 : 0);
    size_t length = strcspn(begin, quoted ? "\"\n" : " \t\r\n");

    if (quoted && begin[length] != '"') {
        fail(parser, parser->at, "a closing \" on the line");
        return NULL;
    }
    parser->at = begin + length + (quoted ? 1 : 0);
    return g_strndup(begin, length);
}

static bool parse_key(Parser *parser, FutProbeKeys *keys, size_t length)
{
    const char *begin = parser->at;

    for (size_t i = 0; i < G_N_ELEMENTS(rules); i++) {
        if (strlen(rules[i].key) != length || strncmp(rules[i].key, begin, length) != 0) {
            continue;
        }
        parser->at += length + 1;
        g_autofree char *value = take_value(parser);
        if (!value) {
            return false;
        }
        bool again = (parser->seen & 1u << i) != 0;
        parser->seen |= 1u << i;
        return again || rules[i].set(keys, value) || fail(parser, begin, rules[i].expected);
    }
    return fail(parser, begin,
                "severity=, scope=, says=, means=, about=, on=, limit=, holds=, or the probe");
}

static bool parse_keys(Parser *parser, FutProbeKeys *keys)
{
    for (;;) {
        parser->at = skip_blanks(parser->at);
        size_t length = strspn(parser->at, NAME_CHARACTERS);
        if (length == 0 || length > KEY_MAX || parser->at[length] != '=') {
            return true;
        }
        if (!parse_key(parser, keys, length)) {
            return false;
        }
    }
}

/* -- alternatives -- */

static bool is_word(const char *at, const char *text)
{
    return g_str_has_prefix(at, "else") && g_ascii_isspace(at[4]) &&
           (at == text || g_ascii_isspace(at[-1]) || at[-1] == '}' || at[-1] == '/');
}

/* The next "else" from `at` on that is neither in a comment nor in a text, or the end. */
static const char *find_else(const char *at, const char *text)
{
    while (*at && !is_word(at, text)) {
        if (*at == '#') {
            at += strcspn(at, "\n");
        } else if (*at == '"') {
            size_t length = strcspn(at + 1, "\"\n");
            at += 1 + length + (at[1 + length] ? 1 : 0);
        } else {
            at++;
        }
    }
    return at;
}

/* The definition with everything but what is from `begin` to `end` blanked. Caller frees. */
static char *only(const char *text, const char *begin, const char *end)
{
    char *copy = g_strndup(text, (gsize)(end - text));

    for (char *at = copy; at < copy + (begin - text); at++) {
        *at = *at == '\n' ? '\n' : ' ';
    }
    return copy;
}

static bool split(Parser *parser, FutProbeKeys *keys)
{
    const char *begin = parser->at;

    for (;;) {
        const char *end = find_else(begin, parser->text);
        if (keys->probe_count == FUT_PROBE_ALTERNATIVES_MAX) {
            return fail(parser, begin, "at most 4 probes with else between them");
        }
        keys->probes[keys->probe_count++] = only(parser->text, begin, end);
        if (!*end) {
            return true;
        }
        begin = end + strlen("else");
    }
}

/* -- the whole -- */

static FutProbeKeys *keys_new(void)
{
    FutProbeKeys *keys = g_new0(FutProbeKeys, 1);

    keys->says = g_strdup("");
    keys->means = g_strdup("");
    keys->about = g_strdup("");
    keys->limit_s = FUT_PROBE_LIMIT_S;
    return keys;
}

FutProbeKeys *fut_probe_keys_parse(const char *definition, GError **error)
{
    Parser parser = { .text = definition, .at = definition, .error = error };
    g_autoptr(FutProbeKeys) keys = keys_new();

    if (strlen(definition) > FUT_PROBE_TEXT_MAX) {
        g_set_error(error, FUT_ERROR, FUT_ERR_ARG, "probe: longer than %u characters",
                    FUT_PROBE_TEXT_MAX);
        return NULL;
    }
    if (!parse_keys(&parser, keys) || !split(&parser, keys)) {
        return NULL;
    }
    if (keys->action_count == 0) {
        add_action(keys, fut_deed_names[FUT_DO_REPORT]);
    }
    return g_steal_pointer(&keys);
}

void fut_probe_keys_free(FutProbeKeys *keys)
{
    if (!keys) {
        return;
    }
    for (unsigned i = 0; i < keys->action_count; i++) {
        g_free(keys->actions[i].path);
    }
    for (unsigned i = 0; i < keys->probe_count; i++) {
        g_free(keys->probes[i]);
    }
    g_free(keys->says);
    g_free(keys->means);
    g_free(keys->about);
    g_free(keys);
}
