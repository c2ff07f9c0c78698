/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Control messages: lines out of bytes, the four kinds of message, names and paths. */
#include <string.h>

#include "control.h"
#include "fut_error.h"

static json_t *next_good(FutLines *lines)
{
    g_autoptr(GError) error = NULL;
    json_t *message = fut_lines_next(lines, &error);

    g_assert_no_error(error);
    return message;
}

static void feed_good(FutLines *lines, const char *bytes, size_t length)
{
    g_autoptr(GError) error = NULL;

    g_assert_true(fut_lines_feed(lines, bytes, length, &error));
    g_assert_no_error(error);
}

static json_t *parse_line(const char *line)
{
    g_autoptr(FutLines) lines = fut_lines_new();

    g_assert_cmpint(line[strlen(line) - 1], ==, '\n');
    feed_good(lines, line, strlen(line));
    return next_good(lines);
}

/* The same bytes in pieces of every size give the same messages. */
static void test_lines_pieces(void)
{
    const char *bytes = "{\"a\":1}\n{\"a\":2}\n{\"a\":3}\n{\"a\":";

    for (size_t piece = 1; piece <= strlen(bytes); piece++) {
        g_autoptr(FutLines) lines = fut_lines_new();
        int expected = 1;
        for (size_t at = 0; at < strlen(bytes); at += piece) {
            json_t *message;
            feed_good(lines, bytes + at, MIN(piece, strlen(bytes) - at));
            while ((message = next_good(lines))) {
                g_assert_cmpint(json_integer_value(json_object_get(message, "a")), ==, expected);
                expected++;
                json_decref(message);
            }
        }
        g_assert_cmpint(expected, ==, 4);
    }
}

/* Lines that pile up before they are taken, taken in part, then more. */
static void test_lines_taken_in_part(void)
{
    g_autoptr(FutLines) lines = fut_lines_new();

    feed_good(lines, "{\"a\":1}\n{\"a\":2}\n{\"a\"", 20);
    json_decref(next_good(lines));
    feed_good(lines, ":3}\n", 4);
    for (int expected = 2; expected <= 3; expected++) {
        json_t *message = next_good(lines);
        g_assert_cmpint(json_integer_value(json_object_get(message, "a")), ==, expected);
        json_decref(message);
    }
    g_assert_null(next_good(lines));
}

static void test_lines_cap(void)
{
    g_autoptr(FutLines) lines = fut_lines_new();
    g_autofree char *blanks = g_strnfill(FUT_CONTROL_LINE_MAX, ' ');
    g_autoptr(GError) error = NULL;

    feed_good(lines, "{}", 2);
    feed_good(lines, blanks, FUT_CONTROL_LINE_MAX - 3);
    g_assert_false(fut_lines_feed(lines, "  ", 2, &error));
    g_assert_error(error, FUT_ERROR, FUT_ERR_PEER);
    feed_good(lines, "\n", 1);
    json_t *message = next_good(lines);
    g_assert_true(json_is_object(message));
    json_decref(message);
    /* Many lines at once may be more than one line may. */
    for (int i = 0; i < 3; i++) {
        blanks[FUT_CONTROL_LINE_MAX - 1] = '\n';
        feed_good(lines, blanks, FUT_CONTROL_LINE_MAX);
    }
}

/* What is not an object is an error, and the next line is read all the same. */
static void test_lines_junk(void)
{
    static const char *const junk[] = {
        "nonsense",         "", "[1]", "7", "\"x\"", "null", "{", "{\"a\":1}}", "{\"a\":1,\"a\":2}",
        "{\"a\":\"\xff\"}",
    };

    for (size_t i = 0; i < G_N_ELEMENTS(junk); i++) {
        g_autoptr(FutLines) lines = fut_lines_new();
        g_autoptr(GError) error = NULL;
        feed_good(lines, junk[i], strlen(junk[i]));
        feed_good(lines, "\n{}\n", 4);
        g_assert_null(fut_lines_next(lines, &error));
        g_assert_error(error, FUT_ERROR, FUT_ERR_PEER);
        json_t *message = next_good(lines);
        g_assert_nonnull(message);
        json_decref(message);
    }
}

static void test_lines_nul_and_depth(void)
{
    g_autoptr(FutLines) lines = fut_lines_new();
    g_autoptr(GError) error = NULL;
    g_autofree char *deep = g_strnfill(60000, '[');

    feed_good(lines, "{\"a\":\"\0\"}\n", 11);
    g_assert_null(fut_lines_next(lines, &error));
    g_assert_error(error, FUT_ERROR, FUT_ERR_PEER);
    g_clear_error(&error);
    feed_good(lines, deep, 60000);
    feed_good(lines, "\n", 1);
    g_assert_null(fut_lines_next(lines, &error));
    g_assert_error(error, FUT_ERROR, FUT_ERR_PEER);
}

static void test_request(void)
{
    g_autofree char *line = fut_control_request(7, "protect", json_pack("{s:s}", "to", "x:1"));
    g_autoptr(GError) error = NULL;
    json_t *message = parse_line(line);
    json_t *args = NULL;
    const char *verb = NULL;
    uint64_t id = 0;

    g_assert_true(fut_control_request_parse(message, &id, &verb, &args, &error));
    g_assert_cmpuint(id, ==, 7);
    g_assert_cmpstr(verb, ==, "protect");
    g_assert_cmpstr(json_string_value(json_object_get(args, "to")), ==, "x:1");
    json_decref(message);

    g_autofree char *bare = fut_control_request(8, "status", NULL);
    message = parse_line(bare);
    g_assert_true(fut_control_request_parse(message, &id, &verb, &args, &error));
    g_assert_null(args);
    json_decref(message);
}

static void test_request_junk(void)
{
    static const struct {
        const char *line;
        uint64_t id; /* to which the refusal goes */
    } junk[] = {
        { "{}\n", 0 },
        { "{\"id\":3}\n", 3 },
        { "{\"id\":-3,\"do\":\"x\"}\n", 0 },
        { "{\"id\":1.5,\"do\":\"x\"}\n", 0 },
        { "{\"id\":\"1\",\"do\":\"x\"}\n", 0 },
        { "{\"id\":4,\"do\":7}\n", 4 },
        { "{\"id\":5,\"do\":\"x\",\"args\":[]}\n", 5 },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(junk); i++) {
        g_autoptr(GError) error = NULL;
        json_t *message = parse_line(junk[i].line);
        json_t *args = NULL;
        const char *verb = NULL;
        uint64_t id = 99;
        g_assert_false(fut_control_request_parse(message, &id, &verb, &args, &error));
        g_assert_error(error, FUT_ERROR, FUT_ERR_PEER);
        g_assert_cmpuint(id, ==, junk[i].id);
        json_decref(message);
    }
}

static void test_answer(void)
{
    g_autofree char *line = fut_control_ok(3, json_pack("{s:i}", "x", 5));
    g_autofree char *empty = fut_control_ok(4, NULL);
    g_autoptr(GError) error = NULL;
    json_t *message = parse_line(line);

    g_assert_cmpint(json_integer_value(json_object_get(message, "id")), ==, 3);
    json_t *result = fut_control_answer_parse(message, &error);
    g_assert_no_error(error);
    g_assert_cmpint(json_integer_value(json_object_get(result, "x")), ==, 5);
    json_decref(message);
    message = parse_line(empty);
    g_assert_nonnull(fut_control_answer_parse(message, &error));
    json_decref(message);
}

/* Every code gets through with its text; bytes that are not UTF-8 do not break the line. */
static void test_refusal(void)
{
    for (int code = 0; code < FUT_ERR_COUNT; code++) {
        g_autoptr(GError) sent = g_error_new(FUT_ERROR, code, "no\nbecause \xff %d", code);
        g_autofree char *line = fut_control_error(9, sent);
        g_autoptr(GError) got = NULL;
        json_t *message = parse_line(line);
        g_assert_null(fut_control_answer_parse(message, &got));
        g_assert_error(got, FUT_ERROR, code);
        g_assert_true(g_str_has_prefix(got->message, "no\nbecause "));
        json_decref(message);
    }
    g_autoptr(GError) foreign = g_error_new(G_FILE_ERROR, 1, "other");
    g_autofree char *line = fut_control_error(9, foreign);
    g_autoptr(GError) got = NULL;
    json_t *message = parse_line(line);
    g_assert_null(fut_control_answer_parse(message, &got));
    g_assert_error(got, FUT_ERROR, FUT_ERR_IO);
    json_decref(message);
}

static void test_answer_junk(void)
{
    static const char *const junk[] = {
        "{}\n",
        "{\"id\":1,\"ok\":5}\n",
        "{\"id\":1,\"error\":\"x\"}\n",
        "{\"id\":1,\"error\":{\"code\":\"io\"}}\n",
        "{\"id\":1,\"error\":{\"code\":\"quux\",\"message\":\"m\"}}\n",
        "{\"id\":1,\"error\":{\"code\":7,\"message\":\"m\"}}\n",
    };

    for (size_t i = 0; i < G_N_ELEMENTS(junk); i++) {
        g_autoptr(GError) error = NULL;
        json_t *message = parse_line(junk[i]);
        g_assert_null(fut_control_answer_parse(message, &error));
        g_assert_error(error, FUT_ERROR, FUT_ERR_PEER);
        json_decref(message);
    }
}

static void test_event(void)
{
    g_autofree char *line = fut_control_event("FUT-110", 1700000000.125, "a \"b\"\n\xfe");
    json_t *message = parse_line(line);

    g_assert_cmpstr(json_string_value(json_object_get(message, "event")), ==, "FUT-110");
    g_assert_cmpfloat(json_number_value(json_object_get(message, "time")), ==, 1700000000.125);
    g_assert_true(g_str_has_prefix(json_string_value(json_object_get(message, "text")), "a \"b\""));
    json_decref(message);
}

static void test_names(void)
{
    static const char *const good[] = { "a", "vm-1", "A.b_c", "0" };
    static const char *const bad[] = {
        "", "a/b", "..", ".a", "-a", "_a", "a b", "a\n", "\xc3\xa4"
    };
    g_autofree char *longest = g_strnfill(FUT_CONTROL_NAME_MAX, 'x');
    g_autofree char *longer = g_strnfill(FUT_CONTROL_NAME_MAX + 1, 'x');

    for (size_t i = 0; i < G_N_ELEMENTS(good); i++) {
        g_assert_true(fut_control_name_check(good[i], NULL));
    }
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;
        g_assert_false(fut_control_name_check(bad[i], &error));
        g_assert_error(error, FUT_ERROR, FUT_ERR_ARG);
        g_assert_null(fut_control_path(bad[i], NULL));
    }
    g_assert_true(fut_control_name_check(longest, NULL));
    g_assert_false(fut_control_name_check(longer, NULL));
}

static void test_rundir(void)
{
    g_setenv("FUTAGO_RUNDIR", "/some/where", TRUE);
    g_autofree char *path = fut_control_path("vm", NULL);
    g_assert_cmpstr(path, ==, "/some/where/vm.sock");
    g_unsetenv("FUTAGO_RUNDIR");
    g_autofree char *rundir = fut_control_rundir();
    g_assert_true(g_path_is_absolute(rundir));
    g_assert_nonnull(strstr(rundir, "futago"));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/control/lines/pieces", test_lines_pieces);
    g_test_add_func("/control/lines/taken-in-part", test_lines_taken_in_part);
    g_test_add_func("/control/lines/cap", test_lines_cap);
    g_test_add_func("/control/lines/junk", test_lines_junk);
    g_test_add_func("/control/lines/nul-and-depth", test_lines_nul_and_depth);
    g_test_add_func("/control/message/request", test_request);
    g_test_add_func("/control/message/request-junk", test_request_junk);
    g_test_add_func("/control/message/answer", test_answer);
    g_test_add_func("/control/message/refusal", test_refusal);
    g_test_add_func("/control/message/answer-junk", test_answer_junk);
    g_test_add_func("/control/message/event", test_event);
    g_test_add_func("/control/names", test_names);
    g_test_add_func("/control/rundir", test_rundir);
    return g_test_run();
}
