/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Control sockets: listening, stale and busy ones, and the client against a server that answers
 * from a script. */
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "control.h"
#include "fut_error.h"
#include "test_tmp.h"

typedef struct {
    char *tmp, *path;
    int listener;
    GThread *server;
} Fixture;

static void set_up(Fixture *fixture, gconstpointer unused)
{
    fixture->tmp = fut_test_tmp();
    g_autofree char *rundir = g_build_filename(fixture->tmp, "deep", "run", NULL);
    g_setenv("FUTAGO_RUNDIR", rundir, TRUE);
    fixture->path = fut_control_path("vm", NULL);
    fixture->listener = -1;
}

static void tear_down(Fixture *fixture, gconstpointer unused)
{
    if (fixture->listener >= 0) {
        close(fixture->listener);
    }
    fut_test_tmp_remove(fixture->tmp);
    g_free(fixture->tmp);
    g_free(fixture->path);
}

static void start_listening(Fixture *fixture)
{
    g_autoptr(GError) error = NULL;

    fixture->listener = fut_control_listen(fixture->path, &error);
    g_assert_no_error(error);
    g_assert_cmpint(fixture->listener, >=, 0);
}

/* -- listening -- */

static void test_modes(Fixture *fixture, gconstpointer unused)
{
    g_autofree char *rundir = fut_control_rundir();
    struct stat status;

    start_listening(fixture);
    g_assert_cmpint(stat(fixture->path, &status), ==, 0);
    g_assert_cmpint(status.st_mode & 07777, ==, 0600);
    g_assert_cmpint(stat(rundir, &status), ==, 0);
    g_assert_cmpint(status.st_mode & 07777, ==, 0700);
}

static void test_busy_and_stale(Fixture *fixture, gconstpointer unused)
{
    g_autoptr(GError) error = NULL;

    start_listening(fixture);
    g_assert_cmpint(fut_control_listen(fixture->path, &error), ==, -1);
    g_assert_error(error, FUT_ERROR, FUT_ERR_BUSY);
    close(fixture->listener); /* its file stays, as after kill -9 */
    start_listening(fixture);
}

/* A listener that takes no connections any more (a frozen VM) is alive all the same. */
static void test_busy_when_full(Fixture *fixture, gconstpointer unused)
{
    g_autoptr(GPtrArray) clients =
        g_ptr_array_new_with_free_func((GDestroyNotify)fut_control_client_free);
    g_autoptr(GError) error = NULL;
    FutControlClient *client;

    start_listening(fixture);
    while ((client = fut_control_connect("vm", &error))) {
        g_ptr_array_add(clients, client);
        g_assert_cmpuint(clients->len, <, 1000);
    }
    g_assert_error(error, FUT_ERROR, FUT_ERR_BUSY);
    g_clear_error(&error);
    g_assert_cmpint(fut_control_listen(fixture->path, &error), ==, -1);
    g_assert_error(error, FUT_ERROR, FUT_ERR_BUSY);
}

static void test_not_a_socket(Fixture *fixture, gconstpointer unused)
{
    g_autofree char *rundir = fut_control_rundir();
    g_autoptr(GError) error = NULL;

    g_mkdir_with_parents(rundir, 0700);
    g_assert_true(g_file_set_contents(fixture->path, "mine", -1, NULL));
    g_assert_cmpint(fut_control_listen(fixture->path, &error), ==, -1);
    g_assert_error(error, FUT_ERROR, FUT_ERR_BUSY);
    g_assert_true(g_file_test(fixture->path, G_FILE_TEST_IS_REGULAR));
}

static void test_no_folder(Fixture *fixture, gconstpointer unused)
{
    g_autoptr(GError) error = NULL;

    g_assert_cmpint(fut_control_listen("/proc/none/vm.sock", &error), ==, -1);
    g_assert_error(error, FUT_ERROR, FUT_ERR_IO);
    g_clear_error(&error);
    g_autofree char *longer = g_strnfill(120, 'x');
    g_autofree char *path = g_strdup_printf("/tmp/%s.sock", longer);
    g_assert_cmpint(fut_control_listen(path, &error), ==, -1);
    g_assert_error(error, FUT_ERROR, FUT_ERR_ARG);
}

/* In a child: listens once `go` is closed, says so on `told`, and lives until `end` is closed. */
static void race(const char *path, int go, int told, int end)
{
    char byte;

    (void)!read(go, &byte, 1);
    byte = fut_control_listen(path, NULL) >= 0 ? '1' : '0';
    (void)!write(told, &byte, 1);
    (void)!read(end, &byte, 1);
    _exit(0);
}

/* Processes that start the same VM at once over a stale socket: exactly one gets it. */
static void test_listen_race(Fixture *fixture, gconstpointer unused)
{
    enum {
        RACERS = 4
    };

    for (int round = 0; round < 100; round++) {
        int go[2], told[2], end[2], won = 0;
        pid_t pids[RACERS];
        g_assert_cmpint(pipe(go) | pipe(told) | pipe(end), ==, 0);
        for (int i = 0; i < RACERS; i++) {
            pids[i] = fork();
            if (pids[i] == 0) {
                close(go[1]);
                close(end[1]);
                race(fixture->path, go[0], told[1], end[0]);
            }
        }
        close(go[1]);
        for (int i = 0; i < RACERS; i++) {
            char byte;
            g_assert_cmpint(read(told[0], &byte, 1), ==, 1);
            won += byte == '1';
        }
        g_assert_cmpint(won, ==, 1);
        close(end[1]);
        for (int i = 0; i < RACERS; i++) {
            g_assert_cmpint(waitpid(pids[i], NULL, 0), ==, pids[i]);
        }
        close(go[0]);
        close(told[0]);
        close(told[1]);
        close(end[0]);
    }
}

static void test_list(Fixture *fixture, gconstpointer unused)
{
    g_autoptr(GPtrArray) none = fut_control_list();
    g_assert_cmpuint(none->len, ==, 0);

    g_autofree char *other = fut_control_path("a-vm", NULL);
    start_listening(fixture);
    int second = fut_control_listen(other, NULL);
    g_assert_cmpint(second, >=, 0);
    close(second); /* left over: listed as well */
    g_autofree char *rundir = fut_control_rundir();
    g_autofree char *stray = g_build_filename(rundir, ".odd.sock", NULL);
    g_assert_true(g_file_set_contents(stray, "", 0, NULL));

    g_autoptr(GPtrArray) names = fut_control_list();
    g_assert_cmpuint(names->len, ==, 2);
    g_assert_cmpstr(g_ptr_array_index(names, 0), ==, "a-vm");
    g_assert_cmpstr(g_ptr_array_index(names, 1), ==, "vm");
}

/* -- client -- */

static void test_connect_errors(Fixture *fixture, gconstpointer unused)
{
    g_autoptr(GError) error = NULL;

    g_assert_null(fut_control_connect("vm", &error));
    g_assert_error(error, FUT_ERROR, FUT_ERR_STATE);
    g_assert_nonnull(strstr(error->message, "vm.sock"));
    g_clear_error(&error);
    start_listening(fixture);
    close(fixture->listener);
    fixture->listener = -1;
    g_assert_null(fut_control_connect("vm", &error));
    g_assert_error(error, FUT_ERROR, FUT_ERR_STATE);
    g_assert_nonnull(strstr(error->message, "left over"));
    g_clear_error(&error);
    g_assert_null(fut_control_connect("../vm", &error));
    g_assert_error(error, FUT_ERROR, FUT_ERR_ARG);
}

/* Takes one connection, reads one line, says `text`, and hangs up when the other side does. */
typedef struct {
    int listener;
    const char *text;
} Script;

static void *serve(void *opaque)
{
    g_autofree Script *script = opaque;
    struct pollfd ready = { .fd = script->listener, .events = POLLIN };
    char bytes[4096];

    g_assert_cmpint(poll(&ready, 1, 10000), ==, 1);
    int fd = accept(script->listener, NULL, NULL);
    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(recv(fd, bytes, sizeof(bytes), 0), >, 0);
    size_t length = strlen(script->text);
    bool hang_up = length > 0 && script->text[length - 1] != '\n';
    g_assert_cmpint(send(fd, script->text, length, MSG_NOSIGNAL), ==, length);
    while (!hang_up && recv(fd, bytes, sizeof(bytes), 0) > 0) {
    }
    close(fd);
    return NULL;
}

/* The client, after a call of "status" with that script. */
static FutControlClient *call_against(Fixture *fixture, const char *text, unsigned timeout_ms,
                                      json_t **ret_result, GError **error)
{
    Script *script = g_new(Script, 1);

    start_listening(fixture);
    *script = (Script){ fixture->listener, text };
    fixture->server = g_thread_new("server", serve, script);
    FutControlClient *client = fut_control_connect("vm", NULL);
    g_assert_nonnull(client);
    *ret_result = fut_control_call(client, "status", NULL, timeout_ms, error);
    return client;
}

static void end_client(Fixture *fixture, FutControlClient *client)
{
    fut_control_client_free(client);
    g_thread_join(fixture->server);
}

/* Events before the answer are kept in order, late answers to other calls are passed over. */
static void test_call(Fixture *fixture, gconstpointer unused)
{
    g_autoptr(GError) error = NULL;
    json_t *result;
    FutControlClient *client = call_against(fixture,
                                            "{\"event\":\"FUT-1\",\"time\":1,\"text\":\"a\"}\n"
                                            "{\"id\":99,\"ok\":{\"x\":1}}\n"
                                            "{\"event\":\"FUT-2\",\"time\":2,\"text\":\"b\"}\n"
                                            "{\"id\":1,\"ok\":{\"x\":2}}\n"
                                            "{\"event\":\"FUT-3\",\"time\":3,\"text\":\"c\"}\n",
                                            5000, &result, &error);

    g_assert_no_error(error);
    g_assert_cmpint(json_integer_value(json_object_get(result, "x")), ==, 2);
    json_decref(result);
    for (int i = 1; i <= 3; i++) {
        json_t *event = fut_control_next_event(client, 5000, &error);
        g_assert_no_error(error);
        g_assert_cmpint(json_integer_value(json_object_get(event, "time")), ==, i);
        json_decref(event);
    }
    g_assert_null(fut_control_next_event(client, 20, &error));
    g_assert_no_error(error);
    end_client(fixture, client);
}

static void test_call_fails(Fixture *fixture, gconstpointer unused)
{
    static const struct {
        const char *text;
        int code; /* FutErr */
    } cases[] = {
        { "{\"id\":1,\"error\":{\"code\":\"state\",\"message\":\"m\"}}\n", FUT_ERR_STATE },
        { "junk\n", FUT_ERR_PEER },
        { "{\"id\":1}\n", FUT_ERR_PEER },
        { "{\"id\":1,\"o", FUT_ERR_IO },
        { "{\"id\":2,\"ok\":{}}\n", FUT_ERR_TIMEOUT },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;
        json_t *result;
        FutControlClient *client = call_against(fixture, cases[i].text, 300, &result, &error);
        g_assert_null(result);
        g_assert_error(error, FUT_ERROR, cases[i].code);
        end_client(fixture, client);
        close(fixture->listener);
        fixture->listener = -1;
    }
}

static void test_event_when_gone(Fixture *fixture, gconstpointer unused)
{
    g_autoptr(GError) error = NULL;
    json_t *result;
    FutControlClient *client =
        call_against(fixture, "{\"id\":1,\"ok\":{}}\n{\"ev", 5000, &result, &error);

    g_assert_no_error(error);
    json_decref(result);
    g_assert_null(fut_control_next_event(client, -1, &error));
    g_assert_error(error, FUT_ERROR, FUT_ERR_IO);
    end_client(fixture, client);
}

#define ADD(path, test) g_test_add(path, Fixture, NULL, set_up, test, tear_down)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("/control/listen/modes", test_modes);
    ADD("/control/listen/busy-and-stale", test_busy_and_stale);
    ADD("/control/listen/busy-when-full", test_busy_when_full);
    ADD("/control/listen/not-a-socket", test_not_a_socket);
    ADD("/control/listen/no-folder", test_no_folder);
    ADD("/control/listen/race", test_listen_race);
    ADD("/control/list", test_list);
    ADD("/control/client/connect-errors", test_connect_errors);
    ADD("/control/client/call", test_call);
    ADD("/control/client/call-fails", test_call_fails);
    ADD("/control/client/event-when-gone", test_event_when_gone);
    return g_test_run();
}
