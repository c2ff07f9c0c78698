/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The test guest's work for several vCPUs, port 7006, lines:
 *
 *   WORK <threads> <mb>   starts threads that write <mb> megabytes each and watch each other
 *   REST                  ends them; "OK <rounds>", or "ERR <what was wrong>"
 *   CPUS                  "OK <vCPUs that run>"
 *
 * What the threads check holds only if all vCPUs and all memory are of one instant, before and after a takeover: what one
 * writes before it tells its round is seen by who reads the round; no addition to a common sum is lost or made twice; each
 * page holds what its thread wrote last.
 */
#include "guest_smp.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define THREADS_MAX 32
#define MB_MAX 4096
#define PAGE_WORDS 512
#define PAGES_PER_MB 256
#define LINE 64

/* One worker. What others read stands in lines of their own. */
typedef struct {
    _Alignas(LINE) atomic_uint_fast64_t payload;
    _Alignas(LINE) atomic_uint_fast64_t round; /* told after payload */
    _Alignas(LINE) uint64_t added;
    uint64_t seen; /* of the next worker's rounds */
    uint64_t *memory;
    uint64_t *written; /* for each page, what it was filled with last */
    uint64_t pages;
    const char *wrong;
    pthread_t thread;
} Worker;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* commands, one at a time */
static Worker workers[THREADS_MAX];
static unsigned count;
static atomic_bool stopping;
static atomic_uint_fast64_t sum;

static uint64_t filling(uint64_t value, uint64_t word)
{
    return (value + word) * UINT64_C(0x9e3779b97f4a7c15);
}

/* Checks what the page of this round held, and fills it anew. */
static bool use_page(Worker *worker, uint64_t round)
{
    uint64_t page = round * 7 % worker->pages;
    uint64_t *words = worker->memory + page * PAGE_WORDS;
    uint64_t old = worker->written[page];

    for (uint64_t i = 0; i < PAGE_WORDS; i++) {
        if (words[i] != (old ? filling(old, i) : 0)) {
            return false;
        }
        words[i] = filling(round, i);
    }
    worker->written[page] = round;
    return true;
}

/* The next worker's rounds never go back, and what it wrote before telling one is there. */
static const char *watch(Worker *worker, const Worker *next)
{
    uint64_t round = atomic_load_explicit(&next->round, memory_order_acquire);
    uint64_t payload = atomic_load_explicit(&next->payload, memory_order_relaxed);

    if (payload < round) {
        return "a thread's round is known before what it wrote in it";
    }
    if (round < worker->seen) {
        return "a thread's rounds went back";
    }
    worker->seen = round;
    return NULL;
}

static void *work(void *argument)
{
    Worker *worker = argument;
    const Worker *next = &workers[(size_t)(worker - workers + 1) % count];

    for (uint64_t round = 1; !worker->wrong && !atomic_load(&stopping); round++) {
        if (!use_page(worker, round)) {
            worker->wrong = "a page does not hold what was written";
        }
        atomic_fetch_add(&sum, round);
        worker->added += round;
        atomic_store_explicit(&worker->payload, round, memory_order_relaxed);
        atomic_store_explicit(&worker->round, round, memory_order_release);
        const char *wrong = watch(worker, next);
        worker->wrong = worker->wrong ? worker->wrong : wrong;
    }
    return NULL;
}

/* A multiple of a page, in memory that is there already: page faults of several vCPUs at once would be all that an emulated machine gets done. */
static uint64_t *zeroed(uint64_t words)
{
    uint64_t *memory = aligned_alloc(PAGE_WORDS * sizeof(uint64_t), words * sizeof(uint64_t));

    return memory ? memset(memory, 0, words * sizeof(uint64_t)) : NULL;
}

static bool prepare(Worker *worker, uint64_t mb)
{
    *worker = (Worker){ .pages = mb * PAGES_PER_MB };
    worker->memory = zeroed(worker->pages * PAGE_WORDS);
    worker->written = zeroed(worker->pages * 2); /* whole pages of it */
    return worker->memory && worker->written;
}

static void release(Worker *worker)
{
    free(worker->memory);
    free(worker->written);
    worker->memory = worker->written = NULL;
}

static const char *start(unsigned threads, uint64_t mb)
{
    unsigned ready = 0;

    if (count) {
        return "they work already";
    }
    while (ready < threads && prepare(&workers[ready], mb)) {
        ready++;
    }
    if (ready < threads) {
        for (unsigned i = 0; i <= ready; i++) {
            release(&workers[i]);
        }
        return "no memory";
    }
    atomic_store(&stopping, false);
    atomic_store(&sum, 0);
    count = threads;
    for (unsigned i = 0; i < threads; i++) {
        if (pthread_create(&workers[i].thread, NULL, work, &workers[i]) != 0) {
            fprintf(stderr, "guestd: cannot start a thread\n");
            exit(EXIT_FAILURE);
        }
    }
    return NULL;
}

/* Ends the workers; *ret_rounds is what they did together. The reason if something was wrong. */
static const char *rest(uint64_t *ret_rounds)
{
    const char *wrong = count ? NULL : "nobody works";
    uint64_t added = 0;

    atomic_store(&stopping, true);
    *ret_rounds = 0;
    for (unsigned i = 0; i < count; i++) {
        pthread_join(workers[i].thread, NULL);
        wrong = wrong ? wrong : workers[i].wrong;
        added += workers[i].added;
        *ret_rounds += atomic_load(&workers[i].round);
        release(&workers[i]);
    }
    count = 0;
    return !wrong && added != atomic_load(&sum) ? "the common sum is not what was added" : wrong;
}

static void obey(const char *line, int fd)
{
    unsigned threads;
    unsigned long mb;
    uint64_t number = 0;
    const char *wrong = "expected WORK <threads> <mb>, REST or CPUS";

    if (sscanf(line, "WORK %u %lu", &threads, &mb) == 2) {
        bool fits = threads > 0 && threads <= THREADS_MAX && mb > 0 && mb <= MB_MAX;
        wrong = fits ? start(threads, mb) : "too many, or none";
    } else if (strcmp(line, "REST\n") == 0) {
        wrong = rest(&number);
    } else if (strcmp(line, "CPUS\n") == 0) {
        number = (uint64_t)sysconf(_SC_NPROCESSORS_ONLN);
        wrong = NULL;
    }
    if (wrong) {
        dprintf(fd, "ERR %s\n", wrong);
    } else {
        dprintf(fd, "OK %llu\n", (unsigned long long)number);
    }
}

void serve_smp(int fd)
{
    char line[128];
    FILE *in = fdopen(dup(fd), "r");

    while (in && fgets(line, sizeof(line), in)) {
        pthread_mutex_lock(&lock);
        obey(line, fd);
        pthread_mutex_unlock(&lock);
    }
    if (in) {
        fclose(in);
    }
}
