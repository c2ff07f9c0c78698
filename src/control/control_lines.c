/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Lines out of a stream of bytes: what is kept is capped, what is not JSON is an error with a
 * reason. */
#include <string.h>

#include "control.h"
#include "fut_error.h"

struct FutLines {
    GString *bytes; /* everything that was fed and not yet taken */
    size_t taken;   /* bytes at the front that next() has handed out */
    size_t last;    /* where the unfinished last line begins */
};

FutLines *fut_lines_new(void)
{
    FutLines *lines = g_new0(FutLines, 1);
    lines->bytes = g_string_new(NULL);
    return lines;
}

void fut_lines_free(FutLines *lines)
{
    if (lines) {
        g_string_free(lines->bytes, TRUE);
        g_free(lines);
    }
}

/* True if no line, counted from `open` bytes of an unfinished one, gets longer than the cap. */
static bool lines_fit(size_t open, const char *bytes, size_t length)
{
    while (length > 0) {
        const char *newline = memchr(bytes, '\n', length);
        size_t piece = newline ? (size_t)(newline - bytes) + 1 : length;

        if (open + piece > FUT_CONTROL_LINE_MAX) {
            return false;
        }
        open = newline ? 0 : open + piece;
        bytes += piece;
        length -= piece;
    }
    return true;
}

bool fut_lines_feed(FutLines *lines, const char *bytes, size_t length, GError **error)
{
    if (!lines_fit(lines->bytes->len - lines->last, bytes, length)) {
        g_set_error(error, FUT_ERROR, FUT_ERR_PEER,
                    "a line of more than %d bytes: send shorter ones", FUT_CONTROL_LINE_MAX);
        return false;
    }
    g_string_erase(lines->bytes, 0, lines->taken);
    lines->last -= lines->taken;
    lines->taken = 0;

    size_t at = lines->bytes->len;
    g_string_append_len(lines->bytes, bytes, length);
    const char *newline = memrchr(lines->bytes->str + at, '\n', length);
    if (newline) {
        lines->last = (size_t)(newline - lines->bytes->str) + 1;
    }
    return true;
}

json_t *fut_lines_next(FutLines *lines, GError **error)
{
    if (lines->taken == lines->last) {
        return NULL;
    }
    const char *line = lines->bytes->str + lines->taken;
    const char *newline = memchr(line, '\n', lines->last - lines->taken);
    size_t length = newline - line;
    json_error_t why;
    json_t *message = json_loadb(line, length, JSON_REJECT_DUPLICATES, &why);

    lines->taken += length + 1;
    if (json_is_object(message)) {
        return message;
    }
    g_set_error(error, FUT_ERROR, FUT_ERR_PEER,
                "a line that is not a JSON object (%s): send one object a line",
                message ? "another JSON value" : why.text);
    json_decref(message);
    return NULL;
}
