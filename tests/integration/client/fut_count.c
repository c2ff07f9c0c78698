/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Counts up over ONE TCP connection and watches for anything lost or doubled.
 *
 *   fut-count ADDRESS PORT [SECONDS]
 *
 * The counter service accepts a number only if it is the last one plus one, and tells how many it ever accepted. So:
 *   lost     a count that was acknowledged to us is missing from the service's total, or it no longer knows our last number
 *   doubled  the service's total has more than we were told, or it answered with a number we did not just send
 * Prints a JSON line ten times a second, one for each gap between two answers that is over GAP_REPORT_S, and one at the end
 * ("end": true). Ends after SECONDS, on SIGTERM or SIGINT, or when the connection breaks. Exit status 0: the
 * connection lived and nothing was lost or doubled. Times are CLOCK_MONOTONIC seconds.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "byteorder.h"
#include "client_util.h"

#define PROGRESS_S 0.1
#define GAP_REPORT_S 0.02
#define ANSWER_SIZE 16

typedef struct {
    uint64_t done; /* counts sent and answered */
    uint64_t base; /* the service's total before our first */
    uint64_t lost, doubled;
    double started_s, last_s, progress_s;
    double longest_s, longest_at_s;
} Count;

static volatile sig_atomic_t stopping;

static void stop(int number)
{
    stopping = 1;
}

static void catch_signals(void)
{
    struct sigaction action = { .sa_handler = stop };

    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
}

static void note_gap(Count *count, double now_s)
{
    double gap_s = now_s - count->last_s;

    if (gap_s > count->longest_s) {
        count->longest_s = gap_s;
        count->longest_at_s = count->last_s;
    }
    if (gap_s > GAP_REPORT_S) {
        printf("{\"gap_ms\": %.1f, \"from\": %.6f, \"to\": %.6f, \"n\": %llu}\n", gap_s * 1e3,
               count->last_s, now_s, (unsigned long long)count->done);
    }
    count->last_s = now_s;
}

static void note_progress(Count *count, double now_s)
{
    if (now_s - count->progress_s >= PROGRESS_S) {
        count->progress_s = now_s;
        printf("{\"t\": %.6f, \"n\": %llu, \"lost\": %llu, \"doubled\": %llu}\n", now_s,
               (unsigned long long)count->done, (unsigned long long)count->lost,
               (unsigned long long)count->doubled);
    }
}

/* The total must be what it was when we began plus our own counts: nobody else may count meanwhile. */
static void judge(Count *count, uint64_t asked, const uint8_t answer[ANSWER_SIZE])
{
    uint64_t got = fut_get_le64(answer), total = fut_get_le64(answer + 8);

    if (count->done == 0) {
        count->base = total - 1;
    }
    uint64_t expected = count->base + asked;
    if (got != asked && got != UINT64_MAX) {
        count->doubled++;
    } else if (total > expected) {
        count->doubled += total - expected;
    } else if (total < expected || got != asked) {
        count->lost += total < expected ? expected - total : 1;
    }
}

/* One count. False when the connection broke, was stopped, or the service contradicts us (errno 0). */
static bool step(Count *count, int fd)
{
    uint8_t request[8], answer[ANSWER_SIZE];
    uint64_t asked = count->done + 1;

    fut_put_le64(request, asked);
    if (!fut_client_write(fd, request, sizeof(request)) ||
        !fut_client_read(fd, answer, sizeof(answer))) {
        return false;
    }
    judge(count, asked, answer);
    double now_s = fut_client_now_s();
    count->done = asked;
    note_gap(count, now_s);
    note_progress(count, now_s);
    return count->lost == 0 && count->doubled == 0;
}

static void print_end(const Count *count, bool alive)
{
    printf(
        "{\"end\": true, \"alive\": %s, \"transactions\": %llu, \"lost\": %llu, \"doubled\": %llu, "
        "\"longest_gap_ms\": %.1f, \"longest_gap_from\": %.6f, \"started\": %.6f, \"ended\": %.6f}\n",
        alive ? "true" : "false", (unsigned long long)count->done, (unsigned long long)count->lost,
        (unsigned long long)count->doubled, count->longest_s * 1e3, count->longest_at_s,
        count->started_s, fut_client_now_s());
}

/* Counts until told to stop; true while the connection lived. */
static bool run(Count *count, int fd, double end_s)
{
    while (!stopping && count->last_s < end_s) {
        if (!step(count, fd)) {
            bool told = stopping && errno == EINTR;
            if (!told) {
                fprintf(stderr, "fut-count: stopped at %llu: %s\n", (unsigned long long)count->done,
                        count->lost || count->doubled ? "lost or doubled"
                        : errno                       ? strerror(errno)
                                                      : "closed by the guest");
            }
            return told || count->lost || count->doubled;
        }
    }
    return true;
}

int main(int argc, char **argv)
{
    Count count = { 0 };

    if (argc != 3 && argc != 4) {
        fprintf(stderr, "usage: fut-count ADDRESS PORT [SECONDS]\n");
        return 2;
    }
    double seconds = argc == 4 ? fut_client_number(argv[3], "fut-count: seconds", 86400) : 86400;
    setvbuf(stdout, NULL, _IOLBF, 0);
    catch_signals();
    int fd = fut_client_connect(argv[1], argv[2]);
    count.started_s = count.last_s = count.progress_s = fut_client_now_s();
    bool alive = run(&count, fd, count.started_s + seconds);
    print_end(&count, alive);
    close(fd);
    return alive && !count.lost && !count.doubled ? EXIT_SUCCESS : EXIT_FAILURE;
}
