/* SPDX-License-Identifier: GPL-2.0-or-later */
/* HELLO and WELCOME: the two messages with strings in them. */
#include "wire.h"

#include "byteorder.h"
#include "fut_error.h"

#define HELLO_FIXED 40
#define WELCOME_FIXED 24

static bool printable(const char *text, size_t length)
{
    const char *end = text + length;

    if (!g_utf8_validate_len(text, length, NULL)) {
        return false;
    }
    for (const char *at = text; at < end; at = g_utf8_next_char(at)) {
        if (!g_unichar_isprint(g_utf8_get_char(at))) {
            return false;
        }
    }
    return true;
}

static bool name_ok(const char *name, size_t length)
{
    return length >= 1 && length <= FUT_WIRE_NAME_MAX && printable(name, length);
}

static bool line_ok(const char *line, size_t length)
{
    const char *equals = memchr(line, '=', length);
    return length <= FUT_WIRE_LINE_MAX && equals && equals > line && printable(line, length);
}

bool fut_wire_name_ok(const char *name)
{
    return name_ok(name, strlen(name));
}

bool fut_wire_line_ok(const char *line)
{
    return line_ok(line, strlen(line));
}

static void put_string(FutBuf *out, const char *text)
{
    size_t length = strlen(text);

    fut_put_le16(fut_buf_extend(out, 2), (uint16_t)length);
    fut_buf_append(out, text, length);
}

/* What is left to read of a body. */
typedef struct {
    const uint8_t *at;
    size_t left;
} Reader;

/* NULL when the body ends too early or `ok` does not like the string. */
static char *get_string(Reader *in, bool (*ok)(const char *, size_t))
{
    if (in->left < 2) {
        return NULL;
    }
    size_t length = fut_get_le16(in->at);
    const char *text = (const char *)in->at + 2;

    if (length > in->left - 2 || !ok(text, length)) {
        return NULL;
    }
    in->at += 2 + length;
    in->left -= 2 + length;
    return g_strndup(text, length);
}

static void *bad(const char *type, const char *what, GError **error)
{
    g_set_error(error, FUT_ERROR, FUT_ERR_PEER, "bad %s from the peer: %s", type, what);
    return NULL;
}

void fut_hello_encode(FutBuf *out, const FutHello *hello)
{
    uint32_t count = g_strv_length(hello->machine);
    size_t start = out->len;
    uint8_t *at = fut_buf_extend(out, HELLO_FIXED);

    g_assert(fut_wire_name_ok(hello->vm) && fut_wire_name_ok(hello->node));
    g_assert(count <= FUT_WIRE_MACHINE_LINES_MAX);
    fut_put_le16(at, hello->version_min);
    fut_put_le16(at + 2, hello->version_max);
    fut_put_le32(at + 4, hello->features);
    fut_put_le64(at + 8, hello->nonce);
    fut_put_le64(at + 16, hello->generation);
    fut_put_le32(at + 24, hello->heartbeat_ms);
    fut_put_le32(at + 28, hello->timeout_ms);
    fut_put_le64(at + 32, 0);
    put_string(out, hello->vm);
    put_string(out, hello->node);
    fut_put_le32(fut_buf_extend(out, 4), count);
    for (uint32_t i = 0; i < count; i++) {
        g_assert(fut_wire_line_ok(hello->machine[i]));
        put_string(out, hello->machine[i]);
    }
    g_assert(out->len - start <= FUT_WIRE_HELLO_MAX);
}

static bool versions_meet(uint16_t min, uint16_t max, GError **error)
{
    if (min == 0 || min > max) {
        bad("HELLO", "the version range is empty", error);
        return false;
    }
    if (min > FUT_WIRE_VERSION || max < FUT_WIRE_VERSION_MIN) {
        g_set_error(
            error, FUT_ERROR, FUT_ERR_MISMATCH,
            "pair protocol: one host speaks versions %u to %u, the other %u to %u; install the same Futago on both",
            min, max, FUT_WIRE_VERSION_MIN, FUT_WIRE_VERSION);
        return false;
    }
    return true;
}

static char **get_machine(Reader *in)
{
    if (in->left < 4 || fut_get_le32(in->at) > FUT_WIRE_MACHINE_LINES_MAX) {
        return NULL;
    }
    uint32_t count = fut_get_le32(in->at);
    g_autoptr(GPtrArray) lines = g_ptr_array_new_with_free_func(g_free);

    in->at += 4;
    in->left -= 4;
    for (uint32_t i = 0; i < count; i++) {
        char *line = get_string(in, line_ok);
        if (!line) {
            return NULL;
        }
        g_ptr_array_add(lines, line);
    }
    g_ptr_array_add(lines, NULL);
    return (char **)g_ptr_array_free(g_steal_pointer(&lines), FALSE);
}

static void get_hello_numbers(FutHello *hello, const uint8_t *body)
{
    hello->version_min = fut_get_le16(body);
    hello->version_max = fut_get_le16(body + 2);
    hello->features = fut_get_le32(body + 4);
    hello->nonce = fut_get_le64(body + 8);
    hello->generation = fut_get_le64(body + 16);
    hello->heartbeat_ms = fut_get_le32(body + 24);
    hello->timeout_ms = fut_get_le32(body + 28);
}

FutHello *fut_hello_decode(const uint8_t *body, size_t length, GError **error)
{
    if (length < 4) {
        return bad("HELLO", "too short", error);
    }
    if (!versions_meet(fut_get_le16(body), fut_get_le16(body + 2), error)) {
        return NULL;
    }
    if (length < HELLO_FIXED || length > FUT_WIRE_HELLO_MAX) {
        return bad("HELLO", "wrong length", error);
    }
    if (fut_get_le64(body + 32) != 0) {
        return bad("HELLO", "reserved fields are not zero", error);
    }
    g_autoptr(FutHello) hello = g_new0(FutHello, 1);
    Reader in = { body + HELLO_FIXED, length - HELLO_FIXED };

    get_hello_numbers(hello, body);
    hello->vm = get_string(&in, name_ok);
    hello->node = hello->vm ? get_string(&in, name_ok) : NULL;
    if (!hello->node) {
        return bad("HELLO", "not a name", error);
    }
    hello->machine = get_machine(&in);
    if (!hello->machine) {
        return bad("HELLO", "not a description of a machine", error);
    }
    if (in.left > 0) {
        return bad("HELLO", "bytes after the end", error);
    }
    return g_steal_pointer(&hello);
}

void fut_hello_free(FutHello *hello)
{
    if (hello) {
        g_free(hello->vm);
        g_free(hello->node);
        g_strfreev(hello->machine);
        g_free(hello);
    }
}

void fut_welcome_encode(FutBuf *out, const FutWelcome *welcome)
{
    uint8_t *at = fut_buf_extend(out, WELCOME_FIXED);

    g_assert(welcome->session != 0 && fut_wire_name_ok(welcome->node));
    fut_put_le16(at, welcome->version);
    fut_put_le16(at + 2, 0);
    fut_put_le32(at + 4, welcome->session);
    fut_put_le64(at + 8, welcome->generation);
    fut_put_le64(at + 16, 0);
    put_string(out, welcome->node);
}

FutWelcome *fut_welcome_decode(const uint8_t *body, size_t length, GError **error)
{
    if (length < WELCOME_FIXED) {
        return bad("WELCOME", "too short", error);
    }
    if (fut_get_le16(body + 2) != 0 || fut_get_le64(body + 16) != 0) {
        return bad("WELCOME", "reserved fields are not zero", error);
    }
    if (fut_get_le32(body + 4) == 0) {
        return bad("WELCOME", "session 0", error);
    }
    g_autoptr(FutWelcome) welcome = g_new0(FutWelcome, 1);
    Reader in = { body + WELCOME_FIXED, length - WELCOME_FIXED };

    welcome->version = fut_get_le16(body);
    welcome->session = fut_get_le32(body + 4);
    welcome->generation = fut_get_le64(body + 8);
    welcome->node = get_string(&in, name_ok);
    if (!welcome->node) {
        return bad("WELCOME", "not a name", error);
    }
    if (in.left > 0) {
        return bad("WELCOME", "bytes after the end", error);
    }
    return g_steal_pointer(&welcome);
}

void fut_welcome_free(FutWelcome *welcome)
{
    if (welcome) {
        g_free(welcome->node);
        g_free(welcome);
    }
}
