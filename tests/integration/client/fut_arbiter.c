/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Arbiters from the command line.
 *
 *   fut-arbiter claim ADDRESS VM GENERATION NODE     prints granted, or refused or unknown and why
 *   fut-arbiter read ADDRESS VM                      prints generation, holder and state
 *   fut-arbiter release ADDRESS VM GENERATION NODE
 *   fut-arbiter identify ADDRESS VM                  prints what tells it from others
 *   fut-arbiter race ADDRESS-A ADDRESS-B VM FIRST COUNT
 *       two processes, hostA and hostB, claim COUNT generations from FIRST, each at the same instant;
 *       an unknown answer is asked for again. Prints "at N" now and then, and at the end what was
 *       granted to one, to both, to none, and how often the answer was unknown. Exit status 0 only
 *       if each generation went to exactly one.
 */
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "arbiter.h"
#include "fut_clock.h"

#define COUNT_MAX 5000
/* Without an answer for so long a race has failed. */
#define DECIDE_S 60

static G_GNUC_NORETURN void fail(const char *text)
{
    fprintf(stderr, "fut-arbiter: %s\n", text);
    exit(3);
}

static FutArbiter *open_or_fail(const char *address, const char *vm)
{
    g_autoptr(GError) error = NULL;
    FutArbiter *arbiter = fut_arbiter_open(address, vm, &error);

    if (!arbiter) {
        fail(error->message);
    }
    return arbiter;
}

static uint64_t number(const char *text)
{
    guint64 value = 0;

    if (!g_ascii_string_to_unsigned(text, 10, 1, G_MAXINT64, &value, NULL)) {
        fail("a number from 1 is wanted");
    }
    return value;
}

static int do_claim(char **words)
{
    static const char *const names[] = { "granted", "refused", "unknown" };
    g_autoptr(FutArbiter) arbiter = open_or_fail(words[0], words[1]);
    g_autofree char *text = NULL;
    FutClaim claim = fut_arbiter_claim(arbiter, number(words[2]), words[3], &text);

    printf("%s %s\n", names[claim], text);
    return (int)claim;
}

static int do_read(char **words)
{
    g_autoptr(FutArbiter) arbiter = open_or_fail(words[0], words[1]);
    g_autoptr(GError) error = NULL;
    FutArbiterRecord record = { 0 };

    if (!fut_arbiter_read(arbiter, &record, &error)) {
        fail(error->message);
    }
    printf("%" G_GUINT64_FORMAT " %s %s\n", record.generation, record.holder,
           record.released ? "released" : "active");
    fut_arbiter_record_clear(&record);
    return 0;
}

static int do_release(char **words)
{
    g_autoptr(FutArbiter) arbiter = open_or_fail(words[0], words[1]);
    g_autoptr(GError) error = NULL;

    if (!fut_arbiter_release(arbiter, number(words[2]), words[3], &error)) {
        fail(error->message);
    }
    return 0;
}

static int do_identify(char **words)
{
    g_autoptr(FutArbiter) arbiter = open_or_fail(words[0], words[1]);
    g_autoptr(GError) error = NULL;
    g_autofree char *identity = NULL;

    if (!fut_arbiter_identify(arbiter, &identity, &error)) {
        fail(error->message);
    }
    printf("%s\n", identity);
    return 0;
}

/* -- race -- */

typedef struct {
    int granted[2][COUNT_MAX];
    int unknown;
    int arrived; /* claimants at the start of a generation, all generations together */
} Tally;

typedef struct {
    const char *address, *vm;
    int who;
    uint64_t first;
    int count;
} Racer;

/* Both wait here, so that they claim at the same instant. */
static void meet(Tally *tally, int meeting)
{
    uint64_t deadline_ns = fut_now_ns() + 2 * DECIDE_S * FUT_NS_PER_S;

    g_atomic_int_inc(&tally->arrived);
    while (g_atomic_int_get(&tally->arrived) < 2 * meeting) {
        if (fut_now_ns() > deadline_ns) {
            fail("the other claimant does not come");
        }
        g_usleep(20);
    }
}

/* Claims until there is an answer. */
static FutClaim decide(FutArbiter *arbiter, uint64_t generation, const char *node, Tally *tally)
{
    uint64_t deadline_ns = fut_now_ns() + DECIDE_S * FUT_NS_PER_S;

    while (fut_now_ns() < deadline_ns) {
        g_autofree char *text = NULL;
        FutClaim claim = fut_arbiter_claim(arbiter, generation, node, &text);
        if (claim != FUT_CLAIM_UNKNOWN) {
            return claim;
        }
        g_atomic_int_inc(&tally->unknown);
        fprintf(stderr, "%s: %s\n", node, text);
        g_usleep(10000);
    }
    fail("no answer");
}

static void race_child(const Racer *racer, Tally *tally)
{
    g_autoptr(FutArbiter) arbiter = open_or_fail(racer->address, racer->vm);

    for (int i = 0; i < racer->count; i++) {
        meet(tally, i + 1);
        FutClaim claim =
            decide(arbiter, racer->first + (uint64_t)i, racer->who ? "hostB" : "hostA", tally);
        tally->granted[racer->who][i] = claim == FUT_CLAIM_GRANTED;
        if (racer->who == 0 && i % 20 == 0) {
            printf("at %d\n", i);
            fflush(stdout);
        }
    }
    _exit(0);
}

static int print_tally(const Tally *tally, int count)
{
    int one = 0, both = 0, none = 0, wins[2] = { 0 };

    for (int i = 0; i < count; i++) {
        int grants = tally->granted[0][i] + tally->granted[1][i];
        one += grants == 1;
        both += grants == 2;
        none += grants == 0;
        wins[0] += tally->granted[0][i];
        wins[1] += tally->granted[1][i];
    }
    printf("{\"one\": %d, \"both\": %d, \"none\": %d, \"unknown\": %d, \"wins\": [%d, %d]}\n", one,
           both, none, tally->unknown, wins[0], wins[1]);
    return one == count ? 0 : 1;
}

static int do_race(char **words)
{
    void *shared =
        mmap(NULL, sizeof(Tally), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    uint64_t count = number(words[4]);
    pid_t pids[2];

    if (shared == MAP_FAILED || count > COUNT_MAX) {
        fail("too many generations");
    }
    for (int who = 0; who < 2; who++) {
        Racer racer = { words[who], words[2], who, number(words[3]), (int)count };
        pids[who] = fork();
        if (pids[who] == 0) {
            race_child(&racer, shared);
        }
    }
    for (int who = 0; who < 2; who++) {
        int status;
        if (waitpid(pids[who], &status, 0) != pids[who] || status != 0) {
            fail("a claimant has ended badly");
        }
    }
    return print_tally(shared, (int)count);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        int words;
        int (*run)(char **words);
    } actions[] = {
        { "claim", 4, do_claim },       { "read", 2, do_read }, { "release", 4, do_release },
        { "identify", 2, do_identify }, { "race", 5, do_race },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(actions) && argc > 1; i++) {
        if (strcmp(actions[i].name, argv[1]) == 0 && argc == actions[i].words + 2) {
            return actions[i].run(argv + 2);
        }
    }
    fail("usage: claim|read|release|race, see the top of fut_arbiter.c");
}
