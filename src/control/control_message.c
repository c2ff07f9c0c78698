/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The four kinds of message as text, and back. */
#include "control.h"
#include "fut_error.h"

/* One line of a message that is taken over. The caller's text has been made valid UTF-8. */
static char *line_of(json_t *take_message)
{
    char *text = json_dumps(take_message, JSON_COMPACT | JSON_REAL_PRECISION(15));

    g_assert(text);
    char *line = g_strconcat(text, "\n", NULL);
    free(text);
    json_decref(take_message);
    return line;
}

static json_t *text_of(const char *text)
{
    g_autofree char *valid = g_utf8_make_valid(text, -1);
    return json_string(valid);
}

char *fut_control_request(uint64_t id, const char *verb, json_t *take_args)
{
    return line_of(json_pack("{s:I, s:o, s:o*}", "id", (json_int_t)id, "do", text_of(verb), "args",
                             take_args));
}

char *fut_control_ok(uint64_t id, json_t *take_result)
{
    return line_of(json_pack("{s:I, s:o}", "id", (json_int_t)id, "ok",
                             take_result ? take_result : json_object()));
}

char *fut_control_error(uint64_t id, const GError *error)
{
    FutErr code = error->domain == FUT_ERROR ? (FutErr)error->code : FUT_ERR_IO;

    return line_of(json_pack("{s:I, s:{s:s, s:o}}", "id", (json_int_t)id, "error", "code",
                             fut_err_name(code), "message", text_of(error->message)));
}

char *fut_control_event(const char *id, double time_s, const char *text)
{
    return line_of(
        json_pack("{s:o, s:f, s:o}", "event", text_of(id), "time", time_s, "text", text_of(text)));
}

bool fut_control_request_parse(const json_t *message, uint64_t *ret_id, const char **ret_verb,
                               json_t **ret_args, GError **error)
{
    json_t *id = json_object_get(message, "id");
    json_t *verb = json_object_get(message, "do");
    json_t *args = json_object_get(message, "args");

    *ret_id =
        json_is_integer(id) && json_integer_value(id) >= 0 ? (uint64_t)json_integer_value(id) : 0;
    if (!json_is_integer(id) || json_integer_value(id) < 0) {
        g_set_error(error, FUT_ERROR, FUT_ERR_PEER, "a request without a number: add \"id\"");
        return false;
    }
    if (!json_is_string(verb)) {
        g_set_error(error, FUT_ERROR, FUT_ERR_PEER, "a request without a verb: add \"do\"");
        return false;
    }
    if (args && !json_is_object(args)) {
        g_set_error(error, FUT_ERROR, FUT_ERR_PEER, "\"args\" of '%s' is not an object",
                    json_string_value(verb));
        return false;
    }
    *ret_verb = json_string_value(verb);
    *ret_args = args;
    return true;
}

json_t *fut_control_answer_parse(const json_t *message, GError **error)
{
    json_t *result = json_object_get(message, "ok");
    json_t *refusal = json_object_get(message, "error");

    if (json_is_object(result) && !refusal) {
        return result;
    }
    const char *code = json_string_value(json_object_get(refusal, "code"));
    const char *text = json_string_value(json_object_get(refusal, "message"));
    FutErr known = code ? fut_err_from_name(code) : FUT_ERR_COUNT;
    if (!text) {
        g_set_error(error, FUT_ERROR, FUT_ERR_PEER,
                    "an answer with neither a result nor a reason: is the VM's module of "
                    "another version?");
        return NULL;
    }
    g_set_error_literal(error, FUT_ERROR, known == FUT_ERR_COUNT ? FUT_ERR_PEER : known, text);
    return NULL;
}
