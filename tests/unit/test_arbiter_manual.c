/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Arbiter "manual:DIR": nothing goes without a person's grant, and a grant is for one generation,
 * one node and a short time. */
#include <string.h>

#include "arbiter.h"
#include "arbiter_check.h"
#include "fut_error.h"
#include "test_tmp.h"

typedef struct {
    char *tmp, *address, *grant;
    FutArbiter *arbiter;
} Fixture;

static void set_up(Fixture *fixture, gconstpointer unused)
{
    g_autoptr(GError) error = NULL;

    fixture->tmp = fut_test_tmp();
    fixture->address = g_strdup_printf("manual:%s/arbiter", fixture->tmp);
    fixture->grant = g_strdup_printf("%s/arbiter/vm.grant", fixture->tmp);
    fixture->arbiter = fut_arbiter_open(fixture->address, "vm", &error);
    g_assert_no_error(error);
}

static void tear_down(Fixture *fixture, gconstpointer unused)
{
    fut_arbiter_close(fixture->arbiter);
    fut_test_tmp_remove(fixture->tmp);
    g_free(fixture->tmp);
    g_free(fixture->address);
    g_free(fixture->grant);
}

static void grant(Fixture *fixture, uint64_t generation, const char *node)
{
    g_autoptr(GError) error = NULL;

    g_assert_true(fut_arbiter_grant(fixture->arbiter, generation, node, &error));
    g_assert_no_error(error);
}

static void check_waits(Fixture *fixture, uint64_t generation, const char *node)
{
    g_autofree char *words =
        g_strdup_printf("futago grant vm --generation %" G_GUINT64_FORMAT, generation);

    check_claim(fixture->arbiter, generation, node, FUT_CLAIM_UNKNOWN, words);
}

static void test_grants(Fixture *fixture, gconstpointer unused)
{
    FutArbiter *arbiter = fixture->arbiter;

    check_waits(fixture, 1, "hostA");
    check_record(arbiter, 0, "", false);
    grant(fixture, 1, "hostA");
    check_waits(fixture, 1, "hostB");
    check_waits(fixture, 2, "hostA");
    check_claim(arbiter, 1, "hostA", FUT_CLAIM_GRANTED, "");
    check_claim(arbiter, 1, "hostA", FUT_CLAIM_GRANTED, ""); /* the answer got lost */
    check_record(arbiter, 1, "hostA", false);
    check_waits(fixture, 2, "hostA"); /* a grant is used up */
}

/* The other host was granted 2 and 3, which this one's record does not know. */
static void test_gap(Fixture *fixture, gconstpointer unused)
{
    grant(fixture, 1, "hostA");
    check_claim(fixture->arbiter, 1, "hostA", FUT_CLAIM_GRANTED, "");
    check_waits(fixture, 4, "hostA");
    grant(fixture, 4, "hostA");
    check_claim(fixture->arbiter, 4, "hostA", FUT_CLAIM_GRANTED, "");
    check_record(fixture->arbiter, 4, "hostA", false);
}

/* Where both hosts have one folder, the record also counts. */
static void test_shared_folder(Fixture *fixture, gconstpointer unused)
{
    g_autoptr(GError) error = NULL;

    grant(fixture, 2, "hostB");
    check_claim(fixture->arbiter, 2, "hostB", FUT_CLAIM_GRANTED, "");
    check_claim(fixture->arbiter, 2, "hostA", FUT_CLAIM_REFUSED, "hostB runs the VM");
    g_assert_false(fut_arbiter_grant(fixture->arbiter, 2, "hostA", &error));
    g_assert_error(error, FUT_ERROR, FUT_ERR_STATE);
    g_assert_nonnull(strstr(error->message, "hostB was granted 2"));
    g_clear_error(&error);
    g_assert_true(fut_arbiter_release(fixture->arbiter, 2, "hostB", &error));
    check_record(fixture->arbiter, 3, "hostB", true);
    check_claim(fixture->arbiter, 2, "hostB", FUT_CLAIM_REFUSED, "ended");
}

/* Even a VM's first start, and one after an orderly end: the record is this host's alone. */
static void test_start(Fixture *fixture, gconstpointer unused)
{
    g_autoptr(GError) error = NULL;
    uint64_t generation = 7;

    g_assert_false(fut_arbiter_start(fixture->arbiter, "hostA", false, &generation, &error));
    g_assert_nonnull(strstr(error->message, "--node hostA --arbiter manual:/"));
    g_clear_error(&error);
    g_assert_false(fut_arbiter_start(fixture->arbiter, "hostA", true, &generation, NULL));
    g_assert_cmpuint(generation, ==, 7);
    grant(fixture, 1, "hostA");
    g_assert_true(fut_arbiter_start(fixture->arbiter, "hostA", false, &generation, &error));
    g_assert_cmpuint(generation, ==, 1);
    g_assert_true(fut_arbiter_release(fixture->arbiter, 1, "hostA", &error));
    g_assert_false(fut_arbiter_start(fixture->arbiter, "hostA", false, &generation, NULL));
}

static void test_last_grant_counts(Fixture *fixture, gconstpointer unused)
{
    grant(fixture, 1, "hostA");
    grant(fixture, 1, "hostB");
    check_waits(fixture, 1, "hostA");
    check_claim(fixture->arbiter, 1, "hostB", FUT_CLAIM_GRANTED, "");
}

static void put_grant(Fixture *fixture, const char *form, int64_t until_s)
{
    g_autofree char *until = g_strdup_printf("%" G_GINT64_FORMAT, until_s);
    g_auto(GStrv) parts = g_strsplit(form, "UNTIL", -1);
    g_autofree char *line = g_strjoinv(until, parts);

    g_assert_true(g_file_set_contents(fixture->grant, line, -1, NULL));
}

#define GRANT "futago-grant 1 generation=1 node=hostA until=UNTIL\n"

static void test_lapse(Fixture *fixture, gconstpointer unused)
{
    int64_t now_s = g_get_real_time() / G_USEC_PER_SEC;

    put_grant(fixture, GRANT, now_s - 1);
    check_waits(fixture, 1, "hostA");
    put_grant(fixture, GRANT, now_s + 700); /* the clock was set back */
    check_waits(fixture, 1, "hostA");
    put_grant(fixture, GRANT, now_s + 60);
    check_claim(fixture->arbiter, 1, "hostA", FUT_CLAIM_GRANTED, "");
}

static void test_damaged(Fixture *fixture, gconstpointer unused)
{
    static const char *const damaged[] = {
        "",
        "futago-grant 1 generation=1 node=hostA until=UNTIL",
        "futago-grant 1 generation=1 node=hostA until=UNTIL\n\n",
        "futago-grant 2 generation=1 node=hostA until=UNTIL\n",
        "futago-grant 1 generation=1 node=hostA until=\n",
        "futago-grant 1 generation=1 node=hostA until=0UNTIL\n",
        "futago-grant 1 generation=11 node=hostA until=UNTIL\n",
        "futago-grant 1 generation=1 node=hostAA until=UNTIL\n",
        "futago-grant 1 generation=1 node=hostA\n",
    };
    int64_t now_s = g_get_real_time() / G_USEC_PER_SEC;

    for (size_t i = 0; i < G_N_ELEMENTS(damaged); i++) {
        put_grant(fixture, damaged[i], now_s + 60);
        check_waits(fixture, 1, "hostA");
    }
    check_record(fixture->arbiter, 0, "", false);
}

static void test_bad_grants(Fixture *fixture, gconstpointer unused)
{
    static const struct {
        uint64_t generation;
        const char *node;
    } bad[] = { { 0, "hostA" }, { G_MAXUINT64, "hostA" }, { 1, "" }, { 1, "a b" }, { 1, "a\nb" } };

    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;
        g_assert_false(fut_arbiter_grant(fixture->arbiter, bad[i].generation, bad[i].node, &error));
        g_assert_error(error, FUT_ERROR, FUT_ERR_ARG);
    }
    g_assert_false(g_file_test(fixture->grant, G_FILE_TEST_EXISTS));
}

/* -- races -- */

#define GENERATIONS 200

/* In a child: asks for one generation after the other, each until it is decided. */
static void claim_in_turn(Fixture *fixture, int claimant, ArbiterTally *tally)
{
    for (int generation = 1; generation <= GENERATIONS;) {
        g_autofree char *text = NULL;
        FutClaim claim = fut_arbiter_claim(fixture->arbiter, (uint64_t)generation,
                                           claimant ? "hostB" : "hostA", &text);
        if (claim == FUT_CLAIM_UNKNOWN) {
            g_usleep(300);
            continue;
        }
        tally->granted[claimant][generation++] = claim == FUT_CLAIM_GRANTED;
    }
    _exit(0);
}

static void await_generation(Fixture *fixture, uint64_t generation)
{
    uint64_t seen;

    do {
        FutArbiterRecord record = { 0 };
        g_assert_true(fut_arbiter_read(fixture->arbiter, &record, NULL));
        seen = record.generation;
        fut_arbiter_record_clear(&record);
        g_usleep(100);
    } while (seen < generation);
}

/* A person grants each generation to one of the two, while both keep asking. */
static void test_race(Fixture *fixture, gconstpointer unused)
{
    ArbiterTally *tally = arbiter_tally_new();
    pid_t pids[2];

    for (int claimant = 0; claimant < 2; claimant++) {
        pids[claimant] = fork();
        if (pids[claimant] == 0) {
            claim_in_turn(fixture, claimant, tally);
        }
    }
    for (uint64_t generation = 1; generation <= GENERATIONS; generation++) {
        grant(fixture, generation, generation % 3 ? "hostA" : "hostB");
        await_generation(fixture, generation);
    }
    arbiter_race_end(tally, pids, GENERATIONS);
    for (int generation = 1; generation <= GENERATIONS; generation++) {
        g_assert_cmpint(tally->granted[0][generation], ==, generation % 3 != 0);
    }
    munmap(tally, sizeof(*tally));
}

#define ADD(path, test) g_test_add(path, Fixture, NULL, set_up, test, tear_down)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("/arbiter-manual/grants", test_grants);
    ADD("/arbiter-manual/gap", test_gap);
    ADD("/arbiter-manual/shared-folder", test_shared_folder);
    ADD("/arbiter-manual/start", test_start);
    ADD("/arbiter-manual/last-grant-counts", test_last_grant_counts);
    ADD("/arbiter-manual/lapse", test_lapse);
    ADD("/arbiter-manual/damaged", test_damaged);
    ADD("/arbiter-manual/bad-grants", test_bad_grants);
    ADD("/arbiter-manual/race", test_race);
    return g_test_run();
}
