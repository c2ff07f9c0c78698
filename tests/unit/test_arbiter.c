/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Arbiter "file:DIR": what a claim may get, what a damaged folder may not do, and races between
 * processes, some of which are killed on the way. */
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "arbiter.h"
#include "arbiter_check.h"
#include "fut_error.h"
#include "test_tmp.h"

typedef struct {
    char *tmp, *address, *record;
    FutArbiter *arbiter;
} Fixture;

static void set_up(Fixture *fixture, gconstpointer unused)
{
    g_autoptr(GError) error = NULL;

    fixture->tmp = fut_test_tmp();
    fixture->address = g_strdup_printf("file:%s/arbiter", fixture->tmp);
    fixture->record = g_strdup_printf("%s/arbiter/vm.generation", fixture->tmp);
    fixture->arbiter = fut_arbiter_open(fixture->address, "vm", &error);
    g_assert_no_error(error);
}

static void tear_down(Fixture *fixture, gconstpointer unused)
{
    fut_arbiter_close(fixture->arbiter);
    fut_test_tmp_remove(fixture->tmp);
    g_free(fixture->tmp);
    g_free(fixture->address);
    g_free(fixture->record);
}

static void write_record(Fixture *fixture, const char *text)
{
    g_assert_true(g_file_set_contents(fixture->record, text, -1, NULL));
}

/* -- what a claim gets -- */

static void test_claims(Fixture *fixture, gconstpointer unused)
{
    FutArbiter *arbiter = fixture->arbiter;

    check_record(arbiter, 0, "", false);
    check_claim(arbiter, 1, "hostA", FUT_CLAIM_GRANTED, "");
    check_record(arbiter, 1, "hostA", false);
    check_claim(arbiter, 1, "hostA", FUT_CLAIM_GRANTED, ""); /* the answer got lost */
    check_claim(arbiter, 1, "hostB", FUT_CLAIM_REFUSED, "hostA");
    check_claim(arbiter, 2, "hostB", FUT_CLAIM_GRANTED, "");
    check_claim(arbiter, 1, "hostA", FUT_CLAIM_REFUSED, "hostB");
    check_claim(arbiter, 2, "hostA", FUT_CLAIM_REFUSED, "hostB runs the VM in generation 2");
    check_claim(arbiter, 2, "hostBB", FUT_CLAIM_REFUSED, "hostB");
    check_record(arbiter, 2, "hostB", false);
}

/* An older record than there must be (share not mounted, copied back): no grant, no refusal. */
static void test_claim_of_the_future(Fixture *fixture, gconstpointer unused)
{
    check_claim(fixture->arbiter, 7, "hostA", FUT_CLAIM_UNKNOWN, "mounted");
    check_record(fixture->arbiter, 0, "", false);
    write_record(fixture, "futago-arbiter 1 generation=5 holder=hostA state=active\n");
    check_claim(fixture->arbiter, 7, "hostA", FUT_CLAIM_UNKNOWN, "generation 5");
    check_record(fixture->arbiter, 5, "hostA", false);
}

static void test_vms_apart(Fixture *fixture, gconstpointer unused)
{
    g_autoptr(FutArbiter) other = fut_arbiter_open(fixture->address, "vm2", NULL);

    check_claim(fixture->arbiter, 1, "hostA", FUT_CLAIM_GRANTED, "");
    check_claim(other, 1, "hostB", FUT_CLAIM_GRANTED, "");
    check_record(fixture->arbiter, 1, "hostA", false);
}

static void test_release(Fixture *fixture, gconstpointer unused)
{
    FutArbiter *arbiter = fixture->arbiter;

    g_assert_true(fut_arbiter_release(arbiter, 1, "hostA", NULL)); /* there is none */
    check_record(arbiter, 0, "", false);
    check_claim(arbiter, 1, "hostA", FUT_CLAIM_GRANTED, "");
    g_assert_true(fut_arbiter_release(arbiter, 1, "hostB", NULL));
    g_assert_true(fut_arbiter_release(arbiter, 2, "hostA", NULL));
    check_record(arbiter, 1, "hostA", false);
    g_assert_true(fut_arbiter_release(arbiter, 1, "hostA", NULL));
    check_record(arbiter, 2, "hostA", true);
    /* What was let go is not taken up again: by a late claim of its own, or by a twin. */
    check_claim(arbiter, 1, "hostA", FUT_CLAIM_REFUSED, "ended");
    check_claim(arbiter, 2, "hostA", FUT_CLAIM_REFUSED, "ended");
    check_claim(arbiter, 2, "hostB", FUT_CLAIM_REFUSED, "hostA has ended the VM");
    check_claim(arbiter, 3, "hostB", FUT_CLAIM_GRANTED, "");
    check_record(arbiter, 3, "hostB", false);
}

static void check_start(Fixture *fixture, const char *node, bool force, uint64_t expected)
{
    g_autoptr(GError) error = NULL;
    uint64_t generation = 0;

    g_assert_true(fut_arbiter_start(fixture->arbiter, node, force, &generation, &error));
    g_assert_no_error(error);
    g_assert_cmpuint(generation, ==, expected);
    check_record(fixture->arbiter, expected, node, false);
}

static void test_start(Fixture *fixture, gconstpointer unused)
{
    g_autoptr(GError) error = NULL;
    uint64_t generation = 77;

    check_start(fixture, "hostA", false, 1);
    check_start(fixture, "hostA", false, 2); /* its own host may start it again */
    g_assert_false(fut_arbiter_start(fixture->arbiter, "hostB", false, &generation, &error));
    g_assert_error(error, FUT_ERROR, FUT_ERR_REFUSED);
    g_assert_nonnull(strstr(error->message, "hostA"));
    g_assert_nonnull(strstr(error->message, "--force-generation"));
    g_assert_cmpuint(generation, ==, 77);
    check_start(fixture, "hostB", true, 3);
    g_assert_true(fut_arbiter_release(fixture->arbiter, 3, "hostB", NULL));
    check_start(fixture, "hostA", false, 5);
}

static void check_confirm(FutArbiter *arbiter, uint64_t generation, const char *node,
                          FutClaim expected, const char *words)
{
    g_autofree char *text = NULL;

    g_assert_cmpint(fut_arbiter_confirm(arbiter, generation, node, &text), ==, expected);
    g_assert_nonnull(strstr(text, words));
}

/* It looks and changes nothing. */
static void test_confirm(Fixture *fixture, gconstpointer unused)
{
    FutArbiter *arbiter = fixture->arbiter;

    check_confirm(arbiter, 1, "hostA", FUT_CLAIM_UNKNOWN, "older than generation 1");
    check_claim(arbiter, 1, "hostA", FUT_CLAIM_GRANTED, "");
    check_confirm(arbiter, 1, "hostA", FUT_CLAIM_GRANTED, "");
    check_confirm(arbiter, 1, "hostB", FUT_CLAIM_REFUSED, "hostA runs");
    check_confirm(arbiter, 2, "hostA", FUT_CLAIM_UNKNOWN, "older than generation 2");
    check_record(arbiter, 1, "hostA", false);
    write_record(fixture, "damaged");
    check_confirm(arbiter, 1, "hostA", FUT_CLAIM_UNKNOWN, "damaged");
}

/* One folder by two ways is one arbiter; another folder is another. */
static void test_identity(Fixture *fixture, gconstpointer unused)
{
    g_autofree char *path = g_strdup_printf("%s/way", fixture->tmp);
    g_autofree char *way = g_strdup_printf("file:%s", path);
    g_autofree char *folder = g_strdup_printf("%s/other", fixture->tmp);
    g_autofree char *other = g_strdup_printf("file:%s", folder);
    g_autofree char *token = g_strdup_printf("%s/vm.token", folder);
    g_autoptr(GError) error = NULL;
    char *identity = NULL;

    g_assert_cmpint(symlink("arbiter", path), ==, 0);
    g_autofree char *first = arbiter_identity(fixture->address);
    g_autofree char *same = arbiter_identity(way);
    g_autofree char *different = arbiter_identity(other);
    g_assert_cmpstr(first, ==, same);
    g_assert_cmpstr(first, !=, different);
    g_assert_true(g_str_has_prefix(first, "file, token "));
    g_assert_true(g_file_set_contents(token, "no token\n", -1, NULL));
    g_autoptr(FutArbiter) damaged = fut_arbiter_open(other, "vm", NULL);
    g_assert_false(fut_arbiter_identify(damaged, &identity, &error));
    g_assert_nonnull(strstr(error->message, "vm.token is damaged"));
    g_assert_null(identity);
}

/* -- what is wrong with the folder -- */

static void test_addresses(Fixture *fixture, gconstpointer unused)
{
    static const char *const bad[] = { "", "file", "file:", "oracle:x", "FILE:x", ":x", "filex:y" };

    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;
        g_assert_false(fut_arbiter_check(bad[i], &error));
        g_assert_error(error, FUT_ERROR, FUT_ERR_ARG);
        g_assert_nonnull(strstr(error->message, "file:DIR"));
        g_clear_error(&error);
        g_assert_null(fut_arbiter_open(bad[i], "vm", &error));
        g_assert_error(error, FUT_ERROR, FUT_ERR_ARG);
    }
    g_assert_true(fut_arbiter_check(fixture->address, NULL));
}

static void test_folders(Fixture *fixture, gconstpointer unused)
{
    g_autofree char *folder = g_strdup_printf("%s/arbiter", fixture->tmp);
    g_autofree char *orphan = g_strdup_printf("file:%s/no/arbiter", fixture->tmp);
    g_autofree char *file = g_strdup_printf("file:%s", fixture->record);
    g_autoptr(GError) error = NULL;
    struct stat status;

    g_assert_cmpint(stat(folder, &status), ==, 0);
    g_assert_cmpint(status.st_mode & 07777, ==, 0700);
    g_assert_null(fut_arbiter_open(orphan, "vm", &error));
    g_assert_error(error, FUT_ERROR, FUT_ERR_ARG);
    g_clear_error(&error);
    write_record(fixture, "x");
    g_assert_null(fut_arbiter_open(file, "vm", &error));
    g_assert_error(error, FUT_ERROR, FUT_ERR_ARG);
    g_clear_error(&error);
    g_assert_null(fut_arbiter_open(fixture->address, "../vm", &error));
    g_assert_error(error, FUT_ERROR, FUT_ERR_ARG);
}

static void test_damaged(Fixture *fixture, gconstpointer unused)
{
    static const char *const damaged[] = {
        "",
        "\n",
        "futago-arbiter 1 generation=1 holder=hostA state=active",
        "futago-arbiter 1 generation=1 holder=hostA state=active\n\n",
        "futago-arbiter 1 generation=1 holder=hostA state=active\nfutago-arbiter 1\n",
        "futago-arbiter 2 generation=1 holder=hostA state=active\n",
        "futago-arbiter 1 generation=0 holder=hostA state=active\n",
        "futago-arbiter 1 generation=01 holder=hostA state=active\n",
        "futago-arbiter 1 generation=-1 holder=hostA state=active\n",
        "futago-arbiter 1 generation=18446744073709551615 holder=hostA state=active\n",
        "futago-arbiter 1 generation=99999999999999999999 holder=hostA state=active\n",
        "futago-arbiter 1 generation=1 holder= state=active\n",
        "futago-arbiter 1 generation=1 holder=a/b state=active\n",
        "futago-arbiter 1 generation=1 holder=hostA state=dead\n",
        "futago-arbiter 1 generation=1  holder=hostA state=active\n",
        "futago-arbiter 1 holder=hostA generation=1 state=active\n",
        "FUTAGO-ARBITER 1 generation=1 holder=hostA state=active\n",
    };

    for (size_t i = 0; i < G_N_ELEMENTS(damaged); i++) {
        g_autoptr(GError) error = NULL;
        FutArbiterRecord record = { 0 };
        uint64_t generation;
        write_record(fixture, damaged[i]);
        check_claim(fixture->arbiter, 1, "hostA", FUT_CLAIM_UNKNOWN, "damaged");
        check_claim(fixture->arbiter, 2, "hostA", FUT_CLAIM_UNKNOWN, "vm.generation");
        g_assert_false(fut_arbiter_read(fixture->arbiter, &record, &error));
        g_assert_error(error, FUT_ERROR, FUT_ERR_IO);
        g_assert_false(fut_arbiter_start(fixture->arbiter, "hostA", true, &generation, NULL));
        g_assert_false(fut_arbiter_release(fixture->arbiter, 1, "hostA", NULL));
        g_autofree char *after = NULL;
        g_assert_true(g_file_get_contents(fixture->record, &after, NULL, NULL));
        g_assert_cmpstr(after, ==, damaged[i]);
    }
}

/* Larger than any record, and with a NUL where a check might stop reading. */
static void test_damaged_binary(Fixture *fixture, gconstpointer unused)
{
    static const char nul[] = "futago-arbiter 1 generation=1 holder=hostA state=active\n\0more\n";
    g_autofree char *large = g_strnfill(100000, 'x');

    write_record(fixture, large);
    check_claim(fixture->arbiter, 1, "hostA", FUT_CLAIM_UNKNOWN, "damaged");
    g_assert_true(g_file_set_contents(fixture->record, nul, sizeof(nul) - 1, NULL));
    check_claim(fixture->arbiter, 2, "hostA", FUT_CLAIM_UNKNOWN, "damaged");
}

static void test_folder_gone(Fixture *fixture, gconstpointer unused)
{
    g_autofree char *folder = g_strdup_printf("%s/arbiter", fixture->tmp);

    check_claim(fixture->arbiter, 1, "hostA", FUT_CLAIM_GRANTED, "");
    fut_test_tmp_remove(folder);
    check_claim(fixture->arbiter, 2, "hostA", FUT_CLAIM_UNKNOWN, "vm.lock");
}

static void test_bad_node(Fixture *fixture, gconstpointer unused)
{
    static const char *const bad[] = { "", "a b", "a\n", "a=b/c" };

    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        check_claim(fixture->arbiter, 1, bad[i], FUT_CLAIM_UNKNOWN, "node name");
    }
    check_record(fixture->arbiter, 0, "", false);
}

/* Somebody froze while holding the lock: nobody can tell, in bounded time. */
static void test_lock_held(Fixture *fixture, gconstpointer unused)
{
    g_autofree char *path = g_strdup_printf("%s/arbiter/vm.lock", fixture->tmp);
    struct flock whole = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

    check_claim(fixture->arbiter, 1, "hostA", FUT_CLAIM_GRANTED, "");
    int fd = open(path, O_RDWR | O_CLOEXEC);
    g_assert_cmpint(fcntl(fd, F_OFD_SETLK, &whole), ==, 0);
    check_claim(fixture->arbiter, 2, "hostB", FUT_CLAIM_UNKNOWN, "locked");
    close(fd);
    check_claim(fixture->arbiter, 2, "hostB", FUT_CLAIM_GRANTED, "");
}

/* -- races -- */

#define GENERATIONS 400

static void test_race(Fixture *fixture, gconstpointer unused)
{
    arbiter_race(fixture->address, GENERATIONS);
}

/* Two arbiters in one process exclude each other as two processes do. */
typedef struct {
    const char *address;
    const char *node;
    ArbiterTally
        *tally; /* both meet there: one alone would keep the lock from the other for seconds */
    int granted[GENERATIONS + 1];
} ThreadClaims;

static void *claim_in_thread(void *opaque)
{
    ThreadClaims *claims = opaque;
    g_autoptr(FutArbiter) arbiter = fut_arbiter_open(claims->address, "vm", NULL);

    for (uint64_t generation = 1; generation <= GENERATIONS; generation++) {
        g_autofree char *text = NULL;
        arbiter_race_meet(claims->tally, generation);
        FutClaim claim = fut_arbiter_claim(arbiter, generation, claims->node, &text);
        claims->granted[generation] = claim == FUT_CLAIM_GRANTED;
        if (claim == FUT_CLAIM_UNKNOWN) {
            g_error("%s, generation %d: %s", claims->node, (int)generation, text);
        }
    }
    return NULL;
}

static void test_race_of_threads(Fixture *fixture, gconstpointer unused)
{
    ArbiterTally tally = { 0 };
    ThreadClaims a = { fixture->address, "hostA", &tally, { 0 } };
    ThreadClaims b = { fixture->address, "hostB", &tally, { 0 } };
    GThread *thread = g_thread_new("claims", claim_in_thread, &a);

    claim_in_thread(&b);
    g_thread_join(thread);
    for (int generation = 1; generation <= GENERATIONS; generation++) {
        g_assert_cmpint(a.granted[generation] + b.granted[generation], ==, 1);
    }
}

/* In a child: takes every generation there is until it is killed. */
static void claim_for_ever(const char *address)
{
    g_autoptr(FutArbiter) arbiter = fut_arbiter_open(address, "vm", NULL);
    FutArbiterRecord record = { 0 };

    for (;;) {
        g_autofree char *text = NULL;
        if (!fut_arbiter_read(arbiter, &record, NULL)) {
            _exit(1);
        }
        fut_arbiter_claim(arbiter, record.generation + 1, "hostA", &text);
        fut_arbiter_record_clear(&record);
    }
}

static uint64_t read_generation(FutArbiter *arbiter)
{
    g_autoptr(GError) error = NULL;
    FutArbiterRecord record = { 0 };

    g_assert_true(fut_arbiter_read(arbiter, &record, &error));
    g_assert_no_error(error);
    uint64_t generation = record.generation;
    fut_arbiter_record_clear(&record);
    return generation;
}

/* Killed at any instant, a claimant leaves a record that reads and a lock that can be had. */
static void test_kill(Fixture *fixture, gconstpointer unused)
{
    uint64_t last = 0;

    for (int round = 0; round < 150; round++) {
        int status;
        pid_t pid = fork();
        if (pid == 0) {
            claim_for_ever(fixture->address);
        }
        while (read_generation(fixture->arbiter) == last) { /* until it is at it */
            g_usleep(100);
        }
        g_usleep(g_test_rand_int_range(0, 3000));
        kill(pid, SIGKILL);
        g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
        g_assert_true(WIFSIGNALED(status));
        last = read_generation(fixture->arbiter) + 1;
        check_claim(fixture->arbiter, last, "hostB", FUT_CLAIM_GRANTED, "");
    }
}

#define ADD(path, test) g_test_add(path, Fixture, NULL, set_up, test, tear_down)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("/arbiter/claims", test_claims);
    ADD("/arbiter/claim-of-the-future", test_claim_of_the_future);
    ADD("/arbiter/vms-apart", test_vms_apart);
    ADD("/arbiter/release", test_release);
    ADD("/arbiter/identity", test_identity);
    ADD("/arbiter/confirm", test_confirm);
    ADD("/arbiter/start", test_start);
    ADD("/arbiter/addresses", test_addresses);
    ADD("/arbiter/folders", test_folders);
    ADD("/arbiter/damaged", test_damaged);
    ADD("/arbiter/damaged-binary", test_damaged_binary);
    ADD("/arbiter/folder-gone", test_folder_gone);
    ADD("/arbiter/bad-node", test_bad_node);
    ADD("/arbiter/lock-held", test_lock_held);
    ADD("/arbiter/race", test_race);
    ADD("/arbiter/race-of-threads", test_race_of_threads);
    ADD("/arbiter/kill", test_kill);
    return g_test_run();
}
