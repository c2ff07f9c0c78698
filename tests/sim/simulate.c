/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Runs schedules of the simulator:
 *
 *   simulate [--schedules N] [--seed S] [--schedule I] [--end] [--snapshots] [--fault F] [--no-disks] [--window W] [--verbose] [--long]
 *
 * A schedule is told by the seed and its number, and is the same in every run. --fault has the engine do something wrong on
 * purpose (--help names what), or the arbiter (end-forgotten, with --end): then the program succeeds only if the checks notice.
 * With --end somebody ends the VM in each schedule. Without --schedules, FUTAGO_SIM_SCHEDULES in the environment says how many. */
#include <locale.h>
#include <stdlib.h>

#include "sim.h"

#define SCHEDULES 2000
#define SCHEDULES_LONG 20000
/* From here on a run must have reached what it is for. */
#define SCHEDULES_TELLING 1000

static struct {
    gint64 schedules, seed, only, window;
    char *fault;
    gboolean verbose, lengthy, no_disks, ends, series;
} options = { .seed = 1, .only = -1 };

#define FAULT_NAMES                                                                                \
    "none, release-early, release-ahead, no-arbiter, ack-part, keep-last, say-early, "             \
    "disk-early, disk-late, disk-trust or end-forgotten"

static const GOptionEntry entries[] = {
    { "schedules", 'n', 0, G_OPTION_ARG_INT64, &options.schedules,
      "how many (default: FUTAGO_SIM_SCHEDULES in the environment, or 2000)", "N" },
    { "seed", 's', 0, G_OPTION_ARG_INT64, &options.seed, "where chance begins", "S" },
    { "schedule", 'i', 0, G_OPTION_ARG_INT64, &options.only, "only this one", "I" },
    { "fault", 'f', 0, G_OPTION_ARG_STRING, &options.fault, FAULT_NAMES, "F" },
    { "no-disks", 'd', 0, G_OPTION_ARG_NONE, &options.no_disks, "VMs without disks only", NULL },
    { "window", 'w', 0, G_OPTION_ARG_INT64, &options.window,
      "checkpoints under way at most (default: differs from schedule to schedule)", "W" },
    { "snapshots", 0, 0, G_OPTION_ARG_NONE, &options.series, "snapshots of the guest are taken",
      NULL },
    { "end", 'e', 0, G_OPTION_ARG_NONE, &options.ends, "the VM is ended on purpose", NULL },
    { "long", 'l', 0, G_OPTION_ARG_NONE, &options.lengthy, "at least 20000 schedules", NULL },
    { "verbose", 'v', 0, G_OPTION_ARG_NONE, &options.verbose, "print every step", NULL },
    { NULL },
};

static bool parse_fault(const char *name, SimWish *wish)
{
    static const struct {
        const char *name;
        FutPairFault fault;
        bool end_forgotten;
    } faults[] = {
        { "none", FUT_FAULT_NONE, false },
        { "release-early", FUT_FAULT_RELEASE_EARLY, false },
        { "release-ahead", FUT_FAULT_RELEASE_AHEAD, false },
        { "no-arbiter", FUT_FAULT_NO_ARBITER, false },
        { "ack-part", FUT_FAULT_ACK_PART, false },
        { "keep-last", FUT_FAULT_KEEP_LAST, false },
        { "say-early", FUT_FAULT_SAY_EARLY, false },
        { "disk-early", FUT_FAULT_DISK_EARLY, false },
        { "disk-late", FUT_FAULT_DISK_LATE, false },
        { "disk-trust", FUT_FAULT_DISK_TRUST, false },
        { "end-forgotten", FUT_FAULT_NONE, true },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(faults); i++) {
        if (g_str_equal(name, faults[i].name)) {
            wish->wrong = faults[i].fault;
            wish->end_forgotten = faults[i].end_forgotten;
            return true;
        }
    }
    return false;
}

static uint64_t seed_of(gint64 schedule)
{
    return sim_mix((uint64_t)options.seed * UINT64_C(0x9e3779b97f4a7c15) + (uint64_t)schedule);
}

static void print_count(const SimCount *count, gint64 schedules, double seconds)
{
    g_print("%" G_GINT64_FORMAT " schedules in %.1f s (%.0f a second), %" PRIu64 " events\n",
            schedules, seconds, (double)schedules / seconds, count->events);
    g_print("  %" PRIu64 " cuts (%" PRIu64 " sent aside, %" PRIu64
            " with others under way), %" PRIu64 " commits, %" PRIu64 " outputs, %" PRIu64
            " seen outside\n",
            count->cuts, count->aside, count->overtaking, count->commits, count->outputs,
            count->released);
    g_print("  %" PRIu64 " times protected, %" PRIu64 " takeovers, %" PRIu64
            " handed over, %" PRIu64 " fenced, %" PRIu64 " images discarded, %" PRIu64
            " packets re-injected, %" PRIu64 " sent again\n",
            count->protected, count->takeovers, count->handovers, count->fenced, count->discards,
            count->reinjected, count->resent);
    g_print("  %" PRIu64 " grants, %" PRIu64 " refusals, %" PRIu64 " bad streams, %" PRIu64
            " VMs lost to several faults, %" PRIu64 " ended (%" PRIu64
            " claims of them refused)\n ",
            count->grants, count->refusals, count->bad_streams, count->lost, count->ended,
            count->ended_refusals);
    g_print(" disks: %" PRIu64 " bytes copied, %" PRIu64 " records written, %" PRIu64
            " flushes, %" PRIu64 " takeovers, %" PRIu64 " waits,"
            " %" PRIu64 " images kept, %" PRIu64 " notes synced, %" PRIu64
            " chunks believed to be alike\n ",
            count->disk_copied, count->disk_writes, count->disk_flushes, count->disk_takeovers,
            count->disk_waits, count->disk_kept, count->note_syncs, count->note_chunks);
    g_print(" snapshots: %" PRIu64 " as the guest was, %" PRIu64 " given up, %" PRIu64
            " writes met their protection, %" PRIu64 " pages copied before the cut, %" PRIu64
            " of a backup's image\n ",
            count->snapshots, count->snapshots_failed, count->snapshot_faults,
            count->snapshot_early, count->image_snapshots);
    for (unsigned i = 0; i < SIM_FAULT_KINDS; i++) {
        g_print(" %s %" PRIu64 ";", sim_fault_kinds[i].name, count->faults[i]);
    }
    g_print("\n");
}

/* A run that never came to what it is about proves nothing. */
static bool telling(const SimCount *count)
{
    bool all = count->takeovers && count->handovers && count->fenced && count->discards &&
               count->bad_streams && count->reinjected && count->resent && count->refusals &&
               count->protected && count->aside && (count->overtaking || options.window == 1);

    if (options.ends) {
        return count->ended && count->ended_refusals;
    }
    if (!options.no_disks) {
        all = all && count->disk_copied && count->disk_writes && count->disk_flushes &&
              count->disk_takeovers && count->disk_waits && count->disk_kept && count->note_syncs &&
              count->note_chunks;
    }
    if (options.series) {
        all = all && count->snapshots && count->snapshots_failed && count->snapshot_faults &&
              count->snapshot_early && count->image_snapshots;
    }
    for (unsigned i = 0; i < SIM_FAULT_KINDS; i++) {
        all = all && (count->faults[i] > 0 || (options.no_disks && i >= SIM_FAULT_DISKS));
    }
    return all;
}

static void print_violation(const char *violation, gint64 schedule, const SimWish *wish)
{
    SimCount ignored = { 0 };
    SimWish tail = *wish;

    if (!options.verbose) {
        g_print("-- trace of schedule %" G_GINT64_FORMAT "\n", schedule);
        tail.tracing = SIM_TRACING_TAIL;
        g_free(sim_run(seed_of(schedule), &tail, &ignored));
    }
    g_print("schedule %" G_GINT64_FORMAT " of seed %" G_GINT64_FORMAT ": %s\n", schedule,
            options.seed, violation);
    g_print("again: simulate --seed %" G_GINT64_FORMAT " --schedule %" G_GINT64_FORMAT
            " --fault %s%s%s%s --window %" G_GINT64_FORMAT " --verbose\n",
            options.seed, schedule, options.fault ? options.fault : "none",
            options.no_disks ? " --no-disks" : "", options.ends ? " --end" : "",
            options.series ? " --snapshots" : "", options.window);
}

/* Number of the schedule with the violation, or -1. */
static gint64 run_all(const SimWish *wish, SimCount *count, char **ret_violation)
{
    gint64 first = options.only >= 0 ? options.only : 0;
    gint64 end = options.only >= 0 ? options.only + 1 : options.schedules;

    for (gint64 i = first; i < end; i++) {
        *ret_violation = sim_run(seed_of(i), wish, count);
        if (*ret_violation) {
            return i;
        }
    }
    return -1;
}

static int judge(const SimWish *wish, gint64 schedule, const char *violation, const SimCount *count)
{
    if (wish->wrong != FUT_FAULT_NONE || wish->end_forgotten) {
        if (violation) {
            g_print("noticed in schedule %" G_GINT64_FORMAT ": %s\n", schedule, violation);
            return EXIT_SUCCESS;
        }
        g_print("the fault %s was not noticed\n", options.fault);
        return EXIT_FAILURE;
    }
    if (violation) {
        print_violation(violation, schedule, wish);
        return EXIT_FAILURE;
    }
    if (options.only < 0 && options.schedules >= SCHEDULES_TELLING && !telling(count)) {
        g_print(
            "some fault or some reaction to one never came up: these schedules prove nothing\n");
        return EXIT_FAILURE;
    }
    return EXIT_SUCCESS;
}

/* The environment is for those who start all tests at once. */
static bool choose_schedules(void)
{
    const char *text = g_getenv("FUTAGO_SIM_SCHEDULES");
    guint64 wanted = SCHEDULES;

    if (text && !g_ascii_string_to_unsigned(text, 10, 1, G_MAXINT32, &wanted, NULL)) {
        g_printerr("simulate: FUTAGO_SIM_SCHEDULES=%s is not a number of schedules\n", text);
        return false;
    }
    if (options.schedules == 0) {
        options.schedules = (gint64)wanted;
    }
    options.schedules =
        options.lengthy ? MAX(options.schedules, SCHEDULES_LONG) : options.schedules;
    return true;
}

int main(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GOptionContext) context =
        g_option_context_new("- crashes, partitions and delays, thousands of times");
    g_autofree char *violation = NULL;
    SimCount count = { 0 };
    SimWish wish = { 0 };

    setlocale(LC_ALL, "C");
    g_option_context_add_main_entries(context, entries, NULL);
    if (!g_option_context_parse(context, &argc, &argv, &error)) {
        g_printerr("simulate: %s\n", error->message);
        return 2;
    }
    if (options.fault && !parse_fault(options.fault, &wish)) {
        g_printerr("simulate: unknown fault %s: " FAULT_NAMES "\n", options.fault);
        return 2;
    }
    if (options.window < 0 || options.window > SIM_WINDOW_MAX) {
        g_printerr("simulate: --window wants 1 to %u\n", SIM_WINDOW_MAX);
        return 2;
    }
    if (!choose_schedules()) {
        return 2;
    }
    g_print("seed %" G_GINT64_FORMAT "\n", options.seed);
    wish.tracing = options.verbose ? SIM_TRACING_ALL : SIM_TRACING_NOT;
    wish.window = (unsigned)options.window;
    wish.ends = options.ends;
    wish.series = options.series;
    wish.disks = !options.no_disks;
    gint64 begin_us = g_get_monotonic_time();
    gint64 schedule = run_all(&wish, &count, &violation);
    double seconds = (double)(g_get_monotonic_time() - begin_us) / G_USEC_PER_SEC;
    gint64 made = options.only >= 0 ? 1 : schedule >= 0 ? schedule + 1 : options.schedules;
    print_count(&count, made, MAX(seconds, 1e-6));
    return judge(&wish, schedule, violation, &count);
}
