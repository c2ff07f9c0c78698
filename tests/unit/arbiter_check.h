/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the tests of all kinds of arbiters check, and a race between two processes. */
#ifndef FUT_TESTS_ARBITER_CHECK_H
#define FUT_TESTS_ARBITER_CHECK_H

#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "arbiter.h"

static inline void check_claim(FutArbiter *arbiter, uint64_t generation, const char *node,
                               FutClaim expected, const char *words)
{
    g_autofree char *text = NULL;

    g_assert_cmpint(fut_arbiter_claim(arbiter, generation, node, &text), ==, expected);
    g_assert_nonnull(text);
    if (!strstr(text, words)) {
        g_error("'%s' does not say '%s'", text, words);
    }
}

static inline void check_record(FutArbiter *arbiter, uint64_t generation, const char *holder,
                                bool released)
{
    g_autoptr(GError) error = NULL;
    FutArbiterRecord record = { 0 };

    g_assert_true(fut_arbiter_read(arbiter, &record, &error));
    g_assert_no_error(error);
    g_assert_cmpuint(record.generation, ==, generation);
    g_assert_cmpstr(record.holder, ==, holder);
    g_assert_cmpint(record.released, ==, released);
    fut_arbiter_record_clear(&record);
}

/* What it says of itself; caller frees. */
static inline char *arbiter_identity(const char *address)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(FutArbiter) arbiter = fut_arbiter_open(address, "vm", &error);
    char *identity = NULL;

    g_assert_no_error(error);
    g_assert_true(fut_arbiter_identify(arbiter, &identity, &error));
    g_assert_no_error(error);
    return identity;
}

/* -- races -- */

#define RACE_MAX 400

typedef struct {
    int granted[2][RACE_MAX + 1]; /* by claimant and generation */
    int unknown;
    int arrived; /* claimants at the start of a generation, all generations together */
} ArbiterTally;

/* Both wait here, so that they claim at the same instant. */
static inline void arbiter_race_meet(ArbiterTally *tally, uint64_t generation)
{
    g_atomic_int_inc(&tally->arrived);
    while ((uint64_t)g_atomic_int_get(&tally->arrived) < 2 * generation) {
        sched_yield();
    }
}

/* In a child: claims one generation after the other, whoever got the one before. */
static inline void arbiter_race_claimant(const char *address, int claimant, int generations,
                                         ArbiterTally *tally)
{
    g_autoptr(FutArbiter) arbiter = fut_arbiter_open(address, "vm", NULL);
    const char *node = claimant ? "hostB" : "hostA";

    for (uint64_t generation = 1; generation <= (uint64_t)generations; generation++) {
        g_autofree char *text = NULL;
        arbiter_race_meet(tally, generation);
        FutClaim claim = fut_arbiter_claim(arbiter, generation, node, &text);
        tally->granted[claimant][generation] = claim == FUT_CLAIM_GRANTED;
        if (claim == FUT_CLAIM_UNKNOWN) {
            g_atomic_int_inc(&tally->unknown);
        }
    }
    _exit(0);
}

static inline ArbiterTally *arbiter_tally_new(void)
{
    void *shared =
        mmap(NULL, sizeof(ArbiterTally), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    g_assert_true(shared != MAP_FAILED);
    return shared;
}

/* Both claimants have ended well, and each generation has gone to exactly one of them. */
static inline void arbiter_race_end(ArbiterTally *tally, const pid_t pids[2], int generations)
{
    int wins[2] = { 0 };

    for (int claimant = 0; claimant < 2; claimant++) {
        int status;
        g_assert_cmpint(waitpid(pids[claimant], &status, 0), ==, pids[claimant]);
        g_assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    for (int generation = 1; generation <= generations; generation++) {
        g_assert_cmpint(tally->granted[0][generation] + tally->granted[1][generation], ==, 1);
        wins[0] += tally->granted[0][generation];
        wins[1] += tally->granted[1][generation];
    }
    g_assert_cmpint(tally->unknown, ==, 0);
    g_test_message("hostA got %d, hostB %d of %d", wins[0], wins[1], generations);
}

/* Two processes claim the generations from 1 at the same instants. */
static inline void arbiter_race(const char *address, int generations)
{
    ArbiterTally *tally = arbiter_tally_new();
    pid_t pids[2];

    g_assert_cmpint(generations, <=, RACE_MAX);
    for (int claimant = 0; claimant < 2; claimant++) {
        pids[claimant] = fork();
        if (pids[claimant] == 0) {
            arbiter_race_claimant(address, claimant, generations, tally);
        }
    }
    arbiter_race_end(tally, pids, generations);
    munmap(tally, sizeof(*tally));
}

#endif
