/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The probe language: recursive descent over the text, one token ahead by looking at characters. */
#include "probe_text.h"

#include <signal.h>
#include <string.h>

#include "fut_error.h"

#define NAME_BYTES_MAX 128
#define EXPECTED_OPERAND "a number, a signal's name, \"text\" or a value to compare with"

typedef struct {
    const char *text; /* all of it */
    const char *at;
    GError **error;
} Parser;

static bool fail(Parser *parser, const char *expected)
{
    g_autofree char *there = g_strndup(parser->at, strcspn(parser->at, " \t\n"));

    if (strlen(there) > 24) {
        there[24] = '\0';
    }
    g_set_error(parser->error, FUT_ERROR, FUT_ERR_ARG,
                "probe, at character %d: expected %s, not %s%s%s",
                (int)(parser->at - parser->text) + 1, expected, *there ? "'" : "the end", there,
                *there ? "'" : "");
    return false;
}

static void skip_blanks(Parser *parser)
{
    parser->at += strspn(parser->at, " \t\r\n");
    while (*parser->at == '#') {
        parser->at += strcspn(parser->at, "\n");
        parser->at += strspn(parser->at, " \t\r\n");
    }
}

/* Takes `sign` if it is next. */
static bool take(Parser *parser, const char *sign)
{
    skip_blanks(parser);
    if (!g_str_has_prefix(parser->at, sign)) {
        return false;
    }
    parser->at += strlen(sign);
    return true;
}

/* NULL: no name is next. Caller frees. */
static char *take_name(Parser *parser)
{
    skip_blanks(parser);
    size_t length =
        g_ascii_isdigit(*parser->at)
            ? 0
            : strspn(parser->at, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_");
    if (length == 0 || length > NAME_BYTES_MAX) {
        return NULL;
    }
    char *name = g_strndup(parser->at, length);
    parser->at += length;
    return name;
}

/* The value's own text, blanks left out. */
static char *value_label(const FutProbeValueText *value)
{
    GString *label = g_string_new(value->names[0]);

    for (unsigned i = 1; i < value->count; i++) {
        g_string_append_printf(label, "->%s", value->names[i]);
    }
    return g_string_free(label, FALSE);
}

/* What is read so far stays in *ret, for its owner to free. */
static bool parse_value(Parser *parser, FutProbeValueText *ret)
{
    const char *expected =
        "a parameter's name, arg0 to arg5, retval, comm, pid, tid, curtask or a register";

    do {
        if (ret->count == G_N_ELEMENTS(ret->names)) {
            return fail(parser, "no more members");
        }
        ret->names[ret->count] = take_name(parser);
        if (!ret->names[ret->count]) {
            return fail(parser, expected);
        }
        ret->count++;
        expected = "a member's name";
    } while (take(parser, "->") || take(parser, "."));
    if (!ret->label) {
        ret->label = value_label(ret);
    }
    return true;
}

static bool parse_op(Parser *parser, FutProbeOp *ret)
{
    static const struct {
        const char *sign;
        FutProbeOp op;
    } signs[] = {
        { "==", FUT_OP_EQUAL }, { "!=", FUT_OP_UNEQUAL },  { "<=", FUT_OP_AT_MOST },
        { "<", FUT_OP_LESS },   { ">=", FUT_OP_AT_LEAST }, { ">", FUT_OP_MORE },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(signs); i++) {
        if (take(parser, signs[i].sign)) {
            *ret = signs[i].op;
            return true;
        }
    }
    if (parser->at[0] == '&' && parser->at[1] != '&') {
        parser->at++;
        *ret = FUT_OP_BITS;
        return true;
    }
    return fail(parser, "one of == != < <= > >= &");
}

/* 0: no signal's name. x86 has the same numbers everywhere. */
static int signal_number(const char *name)
{
    for (int number = 1; number < NSIG; number++) {
        const char *own = sigabbrev_np(number);
        if (own && g_str_has_prefix(name, "SIG") && strcmp(name + 3, own) == 0) {
            return number;
        }
    }
    return 0;
}

static bool parse_text(Parser *parser, FutProbeConditionText *ret)
{
    size_t length = strcspn(parser->at, "\"\n");

    if (parser->at[length] != '"') {
        return fail(parser, "a closing \" on the line");
    }
    if (length >= FUT_PROBE_STRING_MAX) {
        return fail(parser, "a text of at most 63 characters");
    }
    if (ret->op != FUT_OP_EQUAL && ret->op != FUT_OP_UNEQUAL) {
        return fail(parser, "a number: a text can be compared by == and != only");
    }
    ret->text = g_strndup(parser->at, length);
    parser->at += length + 1;
    return true;
}

/* Takes a number, 0x... or decimal, up to `max`; false: none is next. */
static bool take_number(Parser *parser, guint64 max, guint64 *ret)
{
    bool hex = g_str_has_prefix(parser->at, "0x");
    const char *digits = parser->at + (hex ? 2 : 0);
    size_t length = strspn(digits, hex ? "0123456789abcdefABCDEF" : "0123456789");
    g_autofree char *text = g_strndup(digits, length);

    if (!g_ascii_string_to_unsigned(text, hex ? 16 : 10, 0, max, ret, NULL)) {
        return false;
    }
    parser->at = digits + length;
    return true;
}

static bool parse_number(Parser *parser, int64_t *ret)
{
    bool minus = take(parser, "-");
    guint64 number;

    if (!take_number(parser, UINT64_MAX, &number)) {
        return fail(parser, EXPECTED_OPERAND);
    }
    *ret = (int64_t)(minus ? 0 - number : number);
    return true;
}

/* A constant or another value. */
static bool parse_operand(Parser *parser, FutProbeConditionText *ret)
{
    const char *begin = parser->at;

    if (take(parser, "\"")) {
        return parse_text(parser, ret);
    }
    g_autofree char *name = take_name(parser);
    if (!name) {
        return parse_number(parser, &ret->number);
    }
    ret->number = signal_number(name);
    if (ret->number != 0) {
        return true;
    }
    parser->at = begin;
    if (g_str_has_prefix(name, "SIG")) {
        skip_blanks(parser);
        return fail(parser, EXPECTED_OPERAND);
    }
    return parse_value(parser, &ret->other);
}

/* Adds to the probe's conditions. */
static bool parse_filter(Parser *parser, FutProbeText *probe)
{
    bool or_before = false;

    do {
        if (probe->condition_count == FUT_PROBE_CONDITIONS_MAX) {
            return fail(parser, "at most 16 conditions");
        }
        FutProbeConditionText *condition = &probe->conditions[probe->condition_count++];
        condition->or_before = or_before;
        if (!parse_value(parser, &condition->value) || !parse_op(parser, &condition->op) ||
            !parse_operand(parser, condition)) {
            return false;
        }
        or_before = take(parser, "||");
    } while (or_before || take(parser, "&&"));
    return true;
}

static bool parse_field(Parser *parser, FutProbeText *probe)
{
    if (probe->field_count == FUT_PROBE_FIELDS_MAX) {
        return fail(parser, "at most 16 fields");
    }
    FutProbeValueText *field = &probe->fields[probe->field_count++];
    const char *begin = parser->at;
    g_autofree char *label = take_name(parser);

    if (label && take(parser, "=")) {
        field->label = g_steal_pointer(&label);
    } else {
        parser->at = begin;
    }
    return parse_value(parser, field);
}

static bool labels_differ(Parser *parser, const FutProbeText *probe)
{
    for (unsigned i = 0; i < probe->field_count; i++) {
        for (unsigned j = 0; j < i; j++) {
            if (strcmp(probe->fields[i].label, probe->fields[j].label) == 0) {
                g_set_error(
                    parser->error, FUT_ERROR, FUT_ERR_ARG,
                    "probe: two fields are called '%s': give one a name of its own (NAME=%s)",
                    probe->fields[i].label, probe->fields[i].label);
                return false;
            }
        }
    }
    return true;
}

static bool parse_fields(Parser *parser, FutProbeText *probe)
{
    do {
        if (!parse_field(parser, probe)) {
            return false;
        }
    } while (take(parser, ","));
    return take(parser, "}") ? labels_differ(parser, probe) : fail(parser, "',' or '}'");
}

static bool parse_end(Parser *parser, const char *expected)
{
    skip_blanks(parser);
    return *parser->at == '\0' || fail(parser, expected);
}

/* Behind the plus sign. */
static bool parse_offset(Parser *parser, FutProbeText *probe)
{
    guint64 offset;

    if (probe->is_return) {
        return fail(parser, "no offset: a kretprobe stands at all returns of the function");
    }
    skip_blanks(parser);
    if (!take_number(parser, FUT_PROBE_OFFSET_MAX, &offset)) {
        return fail(parser, "how many bytes behind the function's beginning (at most 65535)");
    }
    probe->offset = (uint32_t)offset;
    return true;
}

/* [MODULE:]FUNCTION[+OFFSET] */
static bool parse_point(Parser *parser, FutProbeText *probe)
{
    probe->function = take_name(parser);
    if (!probe->function) {
        return fail(parser, "a function's name");
    }
    if (take(parser, ":")) {
        probe->module = g_steal_pointer(&probe->function);
        probe->function = take_name(parser);
    }
    if (!probe->function) {
        return fail(parser, "a function's name");
    }
    return !take(parser, "+") || parse_offset(parser, probe);
}

static bool parse_probe(Parser *parser, FutProbeText *probe)
{
    probe->is_return = take(parser, "kretprobe:");
    if (!probe->is_return && !take(parser, "kprobe:")) {
        return fail(parser, "kprobe:FUNCTION or kretprobe:FUNCTION");
    }
    if (!parse_point(parser, probe)) {
        return false;
    }
    if (take(parser, "/")) {
        if (!parse_filter(parser, probe)) {
            return false;
        }
        if (!take(parser, "/")) {
            return fail(parser, "&&, || or the filter's closing /");
        }
    }
    if (take(parser, "{") && !parse_fields(parser, probe)) {
        return false;
    }
    return parse_end(parser, "/FILTER/, { FIELDS } or the end");
}

FutProbeText *fut_probe_text_parse(const char *text, GError **error)
{
    Parser parser = { .text = text, .at = text, .error = error };
    g_autoptr(FutProbeText) probe = g_new0(FutProbeText, 1);

    if (strlen(text) > FUT_PROBE_TEXT_MAX) {
        g_set_error(error, FUT_ERROR, FUT_ERR_ARG, "probe: longer than %u characters",
                    FUT_PROBE_TEXT_MAX);
        return NULL;
    }
    return parse_probe(&parser, probe) ? g_steal_pointer(&probe) : NULL;
}

char *fut_probe_text_point(const FutProbeText *probe)
{
    g_autofree char *offset = probe->offset ? g_strdup_printf("+0x%x", probe->offset) : NULL;

    return g_strconcat(probe->module ? probe->module : "", probe->module ? ":" : "",
                       probe->function, offset, NULL);
}

static bool has_or(const FutProbeText *probe, unsigned from, unsigned to)
{
    for (unsigned i = from; i < to; i++) {
        if (probe->conditions[i].or_before) {
            return true;
        }
    }
    return false;
}

bool fut_probe_text_narrow(FutProbeText *probe, const char *filter, GError **error)
{
    Parser parser = { .text = filter, .at = filter, .error = error };
    unsigned before = probe->condition_count;

    if (strlen(filter) > FUT_PROBE_TEXT_MAX) {
        g_set_error(error, FUT_ERROR, FUT_ERR_ARG, "filter: longer than %u characters",
                    FUT_PROBE_TEXT_MAX);
        return false;
    }
    if (!parse_filter(&parser, probe) || !parse_end(&parser, "&&, || or the end")) {
        g_prefix_error(error, "filter: ");
        return false;
    }
    if (before > 0 && has_or(probe, 0, probe->condition_count)) {
        g_set_error_literal(
            error, FUT_ERROR, FUT_ERR_ARG,
            "filter: cannot be added where || is used: write it into the probe's own /FILTER/");
        return false;
    }
    return true;
}

static void value_clear(FutProbeValueText *value)
{
    g_free(value->label);
    for (unsigned i = 0; i < value->count; i++) {
        g_free(value->names[i]);
    }
}

void fut_probe_text_free(FutProbeText *probe)
{
    if (!probe) {
        return;
    }
    for (unsigned i = 0; i < probe->condition_count; i++) {
        value_clear(&probe->conditions[i].value);
        value_clear(&probe->conditions[i].other);
        g_free(probe->conditions[i].text);
    }
    for (unsigned i = 0; i < probe->field_count; i++) {
        value_clear(&probe->fields[i]);
    }
    g_free(probe->module);
    g_free(probe->function);
    g_free(probe);
}
