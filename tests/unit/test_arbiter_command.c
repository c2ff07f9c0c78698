/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Arbiter "command:PATH": how the program is run, which of its answers count, and the example that
 * is shipped, raced by two processes. The first argument is the example's path. */
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "arbiter.h"
#include "arbiter_check.h"
#include "fut_clock.h"
#include "fut_error.h"
#include "run_program.h"
#include "test_tmp.h"

static const char *example;

typedef struct {
    char *tmp, *script, *address;
    FutArbiter *arbiter;
} Fixture;

static void set_up(Fixture *fixture, gconstpointer unused)
{
    fixture->tmp = fut_test_tmp();
    fixture->script = g_strdup_printf("%s/program", fixture->tmp);
    fixture->address = g_strdup_printf("command:%s,limit=2", fixture->script);
    g_setenv("TEST_DIR", fixture->tmp, TRUE);
    g_setenv("FUTAGO_ARBITER_DIR", fixture->tmp, TRUE);
}

static void tear_down(Fixture *fixture, gconstpointer unused)
{
    fut_arbiter_close(fixture->arbiter);
    fut_test_tmp_remove(fixture->tmp);
    g_free(fixture->tmp);
    g_free(fixture->script);
    g_free(fixture->address);
}

static FutArbiter *open_script(Fixture *fixture, const char *text)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *whole = g_strdup_printf("#!/bin/sh\n%s\n", text);

    g_assert_true(g_file_set_contents(fixture->script, whole, -1, NULL));
    g_assert_cmpint(chmod(fixture->script, 0700), ==, 0);
    fut_arbiter_close(fixture->arbiter);
    fixture->arbiter = fut_arbiter_open(fixture->address, "vm", &error);
    g_assert_no_error(error);
    return fixture->arbiter;
}

static char *contents(Fixture *fixture, const char *name)
{
    g_autofree char *path = g_strdup_printf("%s/%s", fixture->tmp, name);
    char *text = NULL;

    g_file_get_contents(path, &text, NULL, NULL);
    return text;
}

/* -- how it is run -- */

static void test_words_of_claim(Fixture *fixture, gconstpointer unused)
{
    FutArbiter *arbiter =
        open_script(fixture, "exec >$TEST_DIR/seen 2>&1\n"
                             "echo $# \"$@\"\n"
                             "echo $FUTAGO_ACTION/$FUTAGO_VM/$FUTAGO_GENERATION/$FUTAGO_NODE\n"
                             "pwd\nexit 7");

    check_claim(arbiter, 3, "hostA", FUT_CLAIM_UNKNOWN, "exit status 7");
    g_autofree char *seen = contents(fixture, "seen");
    g_assert_cmpstr(seen, ==, "4 claim vm 3 hostA\nclaim/vm/3/hostA\n/\n");
}

/* Nothing of ours but what it needs: a guest's tap must not live on in a fencing program. */
static void test_files(Fixture *fixture, gconstpointer unused)
{
    FutArbiter *arbiter = open_script(fixture, "readlink /proc/self/fd/0 >$TEST_DIR/input\n"
                                               "exec ls /proc/self/fd >$TEST_DIR/seen");
    int fd = open("/dev/null", O_RDONLY); /* without O_CLOEXEC */

    check_claim(arbiter, 3, "hostA", FUT_CLAIM_UNKNOWN, "says granted");
    close(fd);
    g_autofree char *input = contents(fixture, "input");
    g_autofree char *seen = contents(fixture, "seen");
    g_assert_cmpstr(input, ==, "/dev/null\n");
    g_assert_cmpstr(seen, ==, "0\n1\n2\n3\n"); /* 3 is the folder that ls reads */
}

static uint64_t signals_seen(const char *seen, const char *key)
{
    const char *at = strstr(seen, key);

    g_assert_nonnull(at);
    return g_ascii_strtoull(at + strlen(key), NULL, 16) & 0x7fffffff; /* those with names */
}

static void test_signals(Fixture *fixture, gconstpointer unused)
{
    FutArbiter *arbiter = open_script(fixture, "exec grep ^Sig /proc/self/status >$TEST_DIR/seen");
    sigset_t usr1, before;

    sigemptyset(&usr1);
    sigaddset(&usr1, SIGUSR1);
    sigprocmask(SIG_BLOCK, &usr1, &before);
    void (*handler)(int) = signal(SIGPIPE, SIG_IGN);
    check_claim(arbiter, 3, "hostA", FUT_CLAIM_UNKNOWN, "says granted");
    signal(SIGPIPE, handler);
    sigprocmask(SIG_SETMASK, &before, NULL);
    g_autofree char *seen = contents(fixture, "seen");
    g_assert_cmphex(signals_seen(seen, "SigBlk:\t"), ==, 0);
    g_assert_cmphex(signals_seen(seen, "SigIgn:\t"), ==, 0);
}

static void test_words_of_read_and_release(Fixture *fixture, gconstpointer unused)
{
    FutArbiter *arbiter =
        open_script(fixture, "echo \"$*/$FUTAGO_ACTION/$FUTAGO_GENERATION/$FUTAGO_NODE\" "
                             ">>$TEST_DIR/seen");
    FutArbiterRecord record = { 0 };

    g_assert_true(fut_arbiter_read(arbiter, &record, NULL));
    g_assert_cmpuint(record.generation, ==, 0);
    fut_arbiter_record_clear(&record);
    g_assert_true(fut_arbiter_release(arbiter, 4, "hostA", NULL));
    g_autofree char *seen = contents(fixture, "seen");
    g_assert_cmpstr(seen, ==,
                    "read vm/read//\nrelease vm 4 hostA/release/4/hostA\nread vm/read//\n");
}

/* It ends with 0 and does nothing: a twin could have the next generation still. */
static void test_release_without_effect(Fixture *fixture, gconstpointer unused)
{
    FutArbiter *arbiter = open_script(fixture, "[ $1 = release ] || echo 'futago-arbiter 1 "
                                               "generation=4 holder=hostA state=released'");
    g_autoptr(GError) error = NULL;

    g_assert_false(fut_arbiter_release(arbiter, 4, "hostA", &error));
    g_assert_error(error, FUT_ERROR, FUT_ERR_IO);
    g_assert_nonnull(strstr(error->message, "still says generation 4: correct the program"));
}

/* Two programs are one if they have the same text, or were given the same name. */
static void test_identity(Fixture *fixture, gconstpointer unused)
{
    g_autofree char *plain = g_strdup_printf("command:%s", fixture->script);
    g_autofree char *named = g_strdup_printf("%s,id=site-one,limit=9", plain);
    g_autofree char *bad = g_strdup_printf("%s,limit=9,id=site one", plain);
    g_autoptr(GError) error = NULL;

    open_script(fixture, "exit 0");
    g_autofree char *first = arbiter_identity(plain);
    g_assert_true(g_str_has_prefix(first, "command, sha256 "));
    open_script(fixture, "exit 1");
    g_autofree char *second = arbiter_identity(plain);
    g_assert_cmpstr(first, !=, second);
    g_autofree char *name = arbiter_identity(named);
    g_assert_cmpstr(name, ==, "command, id site-one");
    g_assert_null(fut_arbiter_open(bad, "vm", &error));
    g_assert_error(error, FUT_ERROR, FUT_ERR_ARG);
    g_assert_nonnull(strstr(error->message, "id is a name"));
}

static void test_many_words(Fixture *fixture, gconstpointer unused)
{
    FutArbiter *arbiter = open_script(fixture, "head -c 1000000 /dev/zero | tr '\\0' x\n"
                                               "printf 'a\\000b\\377\\033[1mc\\nmore' >&2; exit 3");
    g_autofree char *text = NULL;

    g_assert_cmpint(fut_arbiter_claim(arbiter, 1, "hostA", &text), ==, FUT_CLAIM_UNKNOWN);
    g_assert_true(g_utf8_validate(text, -1, NULL));
    g_assert_nonnull(strstr(text, "exit status 3: a b"));
    g_assert_null(strstr(text, "more"));
    g_assert_null(strchr(text, '\033'));
    g_assert_cmpuint(strlen(text), <, 600);
}

static bool is_alive(const char *pid_text)
{
    return pid_text && kill((pid_t)g_ascii_strtoll(pid_text, NULL, 10), 0) == 0;
}

/* It is killed at its limit, with the sleeper that it has started. */
static void test_too_slow(Fixture *fixture, gconstpointer unused)
{
    FutArbiter *arbiter =
        open_script(fixture, "trap '' TERM; sleep 60 & echo $! >$TEST_DIR/sleeper; wait");
    uint64_t begin_ns = fut_now_ns();

    check_claim(arbiter, 1, "hostA", FUT_CLAIM_UNKNOWN, "no end within 2 s");
    uint64_t took_ns = fut_now_ns() - begin_ns;
    g_assert_cmpuint(took_ns, >=, 1900 * FUT_NS_PER_MS);
    g_assert_cmpuint(took_ns, <, 10 * FUT_NS_PER_S);
    g_autofree char *pid = contents(fixture, "sleeper");
    g_assert_nonnull(pid);
    for (int i = 0; i < 500 && is_alive(pid); i++) {
        g_usleep(10000);
    }
    g_assert_false(is_alive(pid));
}

/* What stays in the background holds the output open, but nobody waits for it. */
static void test_background(Fixture *fixture, gconstpointer unused)
{
    FutArbiter *arbiter = open_script(fixture, "sleep 60 & exit 5");
    uint64_t begin_ns = fut_now_ns();

    check_claim(arbiter, 1, "hostA", FUT_CLAIM_UNKNOWN, "exit status 5");
    g_assert_cmpuint(fut_now_ns() - begin_ns, <, 1500 * FUT_NS_PER_MS);
}

static void test_cannot_run(Fixture *fixture, gconstpointer unused)
{
    FutArbiter *arbiter = open_script(fixture, "exit 0");

    check_claim(arbiter, 1, "hostA", FUT_CLAIM_UNKNOWN, "says granted, but the record");
    g_assert_cmpint(chmod(fixture->script, 0600), ==, 0);
    g_assert_cmpint(unlink(fixture->script), ==, 0);
    check_claim(arbiter, 1, "hostA", FUT_CLAIM_UNKNOWN, "cannot run");
    open_script(fixture, "kill -9 $$");
    check_claim(fixture->arbiter, 1, "hostA", FUT_CLAIM_UNKNOWN, "ended by a signal");
}

/* -- which answers count -- */

#define RECORD(generation, node, state)                                                            \
    "futago-arbiter 1 generation=" generation " holder=" node " state=" state

typedef struct {
    const char *record;
    int status; /* of claim */
    FutClaim expected;
    const char *words;
} Answer;

static void test_answers(Fixture *fixture, gconstpointer unused)
{
    static const Answer answers[] = {
        { RECORD("3", "hostA", "active"), 0, FUT_CLAIM_GRANTED, "" },
        { RECORD("3", "hostB", "active"), 0, FUT_CLAIM_UNKNOWN, "says granted" },
        { RECORD("2", "hostA", "active"), 0, FUT_CLAIM_UNKNOWN, "generation 2" },
        { RECORD("4", "hostA", "active"), 0, FUT_CLAIM_UNKNOWN, "says granted" },
        { RECORD("3", "hostA", "released"), 0, FUT_CLAIM_UNKNOWN, "says granted" },
        { RECORD("3", "hostB", "active"), 1, FUT_CLAIM_REFUSED, "somebody" },
        { RECORD("9", "hostA", "active"), 1, FUT_CLAIM_REFUSED, "somebody" },
        { RECORD("3", "hostA", "active"), 1, FUT_CLAIM_UNKNOWN, "says refused" },
        { RECORD("2", "hostB", "active"), 1, FUT_CLAIM_UNKNOWN, "says refused" },
        { "", 1, FUT_CLAIM_UNKNOWN, "says refused" },
        { "", 0, FUT_CLAIM_UNKNOWN, "says granted" },
        { "yes", 0, FUT_CLAIM_UNKNOWN, "'yes' is no record" },
        { RECORD("3", "hostA", "active") "\nmore", 0, FUT_CLAIM_UNKNOWN, "no record" },
        { RECORD("3", "hostA", "active"), 2, FUT_CLAIM_UNKNOWN, "exit status 2" },
        { RECORD("3", "hostA", "active"), 126, FUT_CLAIM_UNKNOWN, "exit status 126" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(answers); i++) {
        g_autofree char *script =
            g_strdup_printf("[ $1 = claim ] && { echo somebody; exit %d; }\n"
                            "[ -z '%s' ] || echo '%s'",
                            answers[i].status, answers[i].record, answers[i].record);
        check_claim(open_script(fixture, script), 3, "hostA", answers[i].expected,
                    answers[i].words);
    }
}

static void test_read_fails(Fixture *fixture, gconstpointer unused)
{
    FutArbiter *arbiter = open_script(fixture, "[ $1 = claim ] || { echo no disk >&2; exit 1; }");
    g_autoptr(GError) error = NULL;
    FutArbiterRecord record = { 0 };
    uint64_t generation = 7;

    check_claim(arbiter, 1, "hostA", FUT_CLAIM_UNKNOWN, "read: exit status 1: no disk");
    g_assert_false(fut_arbiter_read(arbiter, &record, &error));
    g_assert_error(error, FUT_ERROR, FUT_ERR_IO);
    g_clear_error(&error);
    g_assert_false(fut_arbiter_release(arbiter, 1, "hostA", &error));
    g_assert_nonnull(strstr(error->message, "release: exit status 1: no disk"));
    g_clear_error(&error);
    g_assert_false(fut_arbiter_start(arbiter, "hostA", true, &generation, &error));
    g_assert_cmpuint(generation, ==, 7);
}

static void test_addresses(Fixture *fixture, gconstpointer unused)
{
    static const char *const limits[] = { "0", "301", "x", "", "-1", "5s" };
    g_autofree char *missing = g_strdup_printf("command:%s/none", fixture->tmp);
    g_autofree char *folder = g_strdup_printf("command:%s", fixture->tmp);
    g_autoptr(GError) error = NULL;

    open_script(fixture, "exit 0");
    for (size_t i = 0; i < G_N_ELEMENTS(limits); i++) {
        g_autofree char *address =
            g_strdup_printf("command:%s,limit=%s", fixture->script, limits[i]);
        g_assert_null(fut_arbiter_open(address, "vm", &error));
        g_assert_error(error, FUT_ERROR, FUT_ERR_ARG);
        g_assert_nonnull(strstr(error->message, "from 1 to 300"));
        g_clear_error(&error);
    }
    g_assert_null(fut_arbiter_open(missing, "vm", &error));
    g_assert_nonnull(strstr(error->message, "No such file"));
    g_clear_error(&error);
    g_assert_null(fut_arbiter_open(folder, "vm", &error));
    g_assert_nonnull(strstr(error->message, "not a file"));
    g_clear_error(&error);
    g_assert_false(fut_arbiter_grant(fixture->arbiter, 1, "hostA", &error));
    g_assert_error(error, FUT_ERROR, FUT_ERR_UNSUPPORTED);
}

/* -- the example -- */

static char *example_address(void)
{
    return g_strdup_printf("command:%s,limit=60", example);
}

static void test_example(Fixture *fixture, gconstpointer unused)
{
    g_autofree char *address = example_address();
    g_autoptr(FutArbiter) arbiter = fut_arbiter_open(address, "vm", NULL);
    uint64_t generation;

    check_record(arbiter, 0, "", false);
    check_claim(arbiter, 2, "hostA", FUT_CLAIM_UNKNOWN, "mounted");
    check_claim(arbiter, 1, "hostA", FUT_CLAIM_GRANTED, "");
    check_claim(arbiter, 1, "hostA", FUT_CLAIM_GRANTED, ""); /* the answer got lost */
    check_claim(arbiter, 1, "hostB", FUT_CLAIM_REFUSED, "hostA has generation 1");
    check_claim(arbiter, 2, "hostB", FUT_CLAIM_GRANTED, "");
    check_claim(arbiter, 2, "hostA", FUT_CLAIM_REFUSED, "hostB has generation 2");
    check_record(arbiter, 2, "hostB", false);
    g_assert_true(fut_arbiter_release(arbiter, 1, "hostA", NULL));
    g_assert_true(fut_arbiter_release(arbiter, 2, "hostA", NULL));
    check_record(arbiter, 2, "hostB", false);
    g_assert_true(fut_arbiter_release(arbiter, 2, "hostB", NULL));
    check_record(arbiter, 3, "hostB", true);
    check_claim(arbiter, 2, "hostB", FUT_CLAIM_REFUSED, "");
    check_claim(arbiter, 3, "hostA", FUT_CLAIM_REFUSED, "");
    g_assert_true(fut_arbiter_start(arbiter, "hostA", false, &generation, NULL));
    check_record(arbiter, 4, "hostA", false);
}

static void test_example_damaged(Fixture *fixture, gconstpointer unused)
{
    static const char *const damaged[] = {
        "",
        "futago-arbiter 2 generation=1 holder=hostA state=active\n",
        "futago-arbiter 1 generation= holder=hostA state=active\n",
        "futago-arbiter 1 generation=1x1 holder=hostA state=active\n",
        "futago-arbiter 1 generation=x holder=hostA state=active\n",
        "futago-arbiter 1 generation=1 holder=hostA state=active",
    };
    g_autofree char *address = example_address();
    g_autofree char *path = g_strdup_printf("%s/vm.generation", fixture->tmp);
    g_autoptr(FutArbiter) arbiter = fut_arbiter_open(address, "vm", NULL);

    for (size_t i = 0; i < G_N_ELEMENTS(damaged); i++) {
        g_autofree char *after = NULL;
        g_assert_true(g_file_set_contents(path, damaged[i], -1, NULL));
        check_claim(arbiter, 2, "hostB", FUT_CLAIM_UNKNOWN, "");
        g_assert_true(g_file_get_contents(path, &after, NULL, NULL));
        g_assert_cmpstr(after, ==, damaged[i]);
    }
}

static void test_example_race(Fixture *fixture, gconstpointer unused)
{
    g_autofree char *address = example_address();

    arbiter_race(address, 60);
}

#define ADD(path, test) g_test_add(path, Fixture, NULL, set_up, test, tear_down)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_assert_cmpint(argc, ==, 2);
    example = argv[1];
    ADD("/arbiter-command/words-of-claim", test_words_of_claim);
    ADD("/arbiter-command/files", test_files);
    ADD("/arbiter-command/signals", test_signals);
    ADD("/arbiter-command/words-of-read-and-release", test_words_of_read_and_release);
    ADD("/arbiter-command/release-without-effect", test_release_without_effect);
    ADD("/arbiter-command/identity", test_identity);
    ADD("/arbiter-command/many-words", test_many_words);
    ADD("/arbiter-command/too-slow", test_too_slow);
    ADD("/arbiter-command/background", test_background);
    ADD("/arbiter-command/cannot-run", test_cannot_run);
    ADD("/arbiter-command/answers", test_answers);
    ADD("/arbiter-command/read-fails", test_read_fails);
    ADD("/arbiter-command/addresses", test_addresses);
    ADD("/arbiter-command/example", test_example);
    ADD("/arbiter-command/example-damaged", test_example_damaged);
    ADD("/arbiter-command/example-race", test_example_race);
    return g_test_run();
}
