/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Runs a fuzz target without a fuzzing engine: all files of its corpus, then random mutations of
 * them.
 *
 *   TARGET CORPUS_FOLDER [--runs N | --seconds N] [--seed S]
 *
 * Mutation number i is made of seed S + i alone. S is a number or "random". FUTAGO_FUZZ_RUNS and
 * FUTAGO_FUZZ_SEED stand for options that are not given. The target runs in a child process, so that the
 * seed of an input that kills it can be told: the same with --seed THAT --runs 1 repeats it. */
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <glib.h>

#include "fuzz.h"

#define INPUT_MAX (256 * 1024)
#define MUTATIONS_MAX 6
#define INPUT_SECONDS_MAX 20

typedef struct {
    GPtrArray *files; /* GBytes */
    GPtrArray *names;
    uint32_t seed;
    unsigned runs;
    unsigned seconds; /* 0: as many as `runs` says */
} Replay;

/* Where the child is; shared with the parent. */
static volatile uint32_t *position;

static void run_input(const uint8_t *data, size_t size)
{
    uint8_t *exact = malloc(size ? size : 1); /* malloc: sanitizers watch its very end */
    g_assert(exact);
    if (size > 0) {
        memcpy(exact, data, size);
    }
    alarm(INPUT_SECONDS_MAX);
    LLVMFuzzerTestOneInput(exact, size);
    alarm(0);
    free(exact);
}

static gint by_name(gconstpointer a, gconstpointer b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void load_corpus(Replay *replay, const char *folder)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GDir) dir = g_dir_open(folder, 0, &error);
    g_assert_no_error(error);
    const char *name;
    while ((name = g_dir_read_name(dir))) {
        g_ptr_array_add(replay->names, g_build_filename(folder, name, NULL));
    }
    g_ptr_array_sort(replay->names, by_name);
}

static GBytes *pick(const Replay *replay, GRand *rand)
{
    return replay->files->pdata[g_rand_int_range(rand, 0, (gint32)replay->files->len)];
}

/* Somewhere in 0 .. limit - 1; limit may be 0. */
static guint any(GRand *rand, guint limit)
{
    return limit > 1 ? (guint)g_rand_int_range(rand, 0, (gint32)limit) : 0;
}

/* Numbers at which arithmetic goes wrong, in 1, 2, 4 or 8 bytes. */
static void put_number(GRand *rand, GByteArray *input, guint at)
{
    static const uint64_t numbers[] = {
        0,          1,          7,          8,           63,        64,         127,    128,
        255,        256,        4095,       4096,        4097,      0x7fff,     0xffff, 0x10000,
        0x7fffffff, 0x80000000, 0xffffffff, 0x100000000, INT64_MAX, UINT64_MAX,
    };
    uint64_t number = GUINT64_TO_LE(numbers[any(rand, G_N_ELEMENTS(numbers))]);
    guint width = 1u << any(rand, 4);
    memcpy(input->data + at, &number, MIN(width, input->len - at));
}

static void insert(GByteArray *input, guint at, const uint8_t *bytes, guint count)
{
    guint old = input->len;
    g_byte_array_set_size(input, old + count);
    memmove(input->data + at + count, input->data + at, old - at);
    memcpy(input->data + at, bytes, count);
}

/* A piece of another file, or of the input itself, into it. */
static void splice(const Replay *replay, GRand *rand, GByteArray *input, guint at)
{
    gsize length;
    const uint8_t *other = g_bytes_get_data(pick(replay, rand), &length);
    guint from = any(rand, (guint)length);
    guint count = 1 + any(rand, (guint)length - from);
    if (length > 0 && input->len + count <= INPUT_MAX) {
        insert(input, at, other + from, MIN(count, (guint)length - from));
    }
}

static void mutate(const Replay *replay, GRand *rand, GByteArray *input)
{
    guint at = any(rand, input->len);
    if (input->len == 0) {
        splice(replay, rand, input, 0);
        return;
    }
    switch (any(rand, 7)) {
    case 0:
        input->data[at] ^= (uint8_t)(1u << any(rand, 8));
        break;
    case 1:
        input->data[at] = (uint8_t)g_rand_int(rand);
        break;
    case 2:
        put_number(rand, input, at);
        break;
    case 3:
        put_number(rand, input, at & ~7u);
        break;
    case 4:
        g_byte_array_remove_range(input, at, 1 + any(rand, MIN(input->len - at, 64)));
        break;
    case 5:
        g_byte_array_set_size(input, at);
        break;
    default:
        splice(replay, rand, input, at);
        break;
    }
}

static void run_mutation(const Replay *replay, uint32_t seed)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(seed);
    gsize length;
    const uint8_t *bytes = g_bytes_get_data(pick(replay, rand), &length);
    g_autoptr(GByteArray) input = g_byte_array_new();
    g_byte_array_append(input, bytes, (guint)length);
    for (guint left = 1 + any(rand, MUTATIONS_MAX); left > 0; left--) {
        mutate(replay, rand, input);
    }
    run_input(input->data, input->len);
}

static void child_corpus(const Replay *replay)
{
    for (*position = 0; *position < replay->files->len; ++*position) {
        gsize length;
        const uint8_t *bytes = g_bytes_get_data(replay->files->pdata[*position], &length);
        run_input(bytes, length);
    }
}

static bool wants_more(const Replay *replay, gint64 began_us)
{
    if (replay->seconds == 0) {
        return *position < replay->runs;
    }
    return g_get_monotonic_time() - began_us < replay->seconds * G_USEC_PER_SEC;
}

static void child_mutations(const Replay *replay)
{
    gint64 began_us = g_get_monotonic_time();
    for (*position = 0; wants_more(replay, began_us); ++*position) {
        run_mutation(replay, replay->seed + *position);
    }
}

/* True when the child came to its end. */
static bool run_child(const Replay *replay, void (*work)(const Replay *))
{
    int status = 0;
    fflush(stdout);
    pid_t child = fork();
    g_assert(child >= 0);
    if (child == 0) {
        work(replay);
        exit(0);
    }
    g_assert(waitpid(child, &status, 0) == child);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static uint32_t parse_seed(const char *text)
{
    return strcmp(text, "random") == 0 ? g_random_int() : (uint32_t)strtoul(text, NULL, 0);
}

static void read_options(Replay *replay, int argc, char **argv)
{
    const char *runs = g_getenv("FUTAGO_FUZZ_RUNS"), *seed = g_getenv("FUTAGO_FUZZ_SEED");
    const char *seconds = "0";
    for (int i = 2; i + 1 < argc; i += 2) {
        runs = strcmp(argv[i], "--runs") == 0 ? argv[i + 1] : runs;
        seed = strcmp(argv[i], "--seed") == 0 ? argv[i + 1] : seed;
        seconds = strcmp(argv[i], "--seconds") == 0 ? argv[i + 1] : seconds;
    }
    replay->runs = runs ? (unsigned)strtoul(runs, NULL, 0) : 20000;
    replay->seconds = (unsigned)strtoul(seconds, NULL, 0);
    replay->seed = seed ? parse_seed(seed) : 1;
}

static void read_files(Replay *replay)
{
    for (guint i = 0; i < replay->names->len; i++) {
        g_autoptr(GError) error = NULL;
        char *text = NULL;
        gsize length;
        g_file_get_contents(replay->names->pdata[i], &text, &length, &error);
        g_assert_no_error(error);
        g_assert(length <= INPUT_MAX);
        g_ptr_array_add(replay->files, g_bytes_new_take(text, length));
    }
    g_assert(replay->files->len > 0);
}

static int run_all(Replay *replay)
{
    printf("TAP version 13\n1..2\n# seed %" PRIu32 "\n", replay->seed);
    bool corpus = run_child(replay, child_corpus);
    if (!corpus) {
        printf("# died of %s\n", (char *)replay->names->pdata[*position]);
    }
    printf("%s 1 - corpus, %u files\n", corpus ? "ok" : "not ok", replay->files->len);
    bool mutations = run_child(replay, child_mutations);
    if (!mutations) {
        printf("# died of --seed %" PRIu32 " --runs 1\n", replay->seed + *position);
    }
    printf("%s 2 - mutations, %u from seed %" PRIu32 "\n", mutations ? "ok" : "not ok", *position,
           replay->seed);
    return corpus && mutations ? 0 : 1;
}

int main(int argc, char **argv)
{
    if (argc < 2 || argc % 2 != 0) {
        fprintf(stderr, "usage: %s CORPUS_FOLDER [--runs N | --seconds N] [--seed S]\n", argv[0]);
        return 2;
    }
    Replay replay = { .files = g_ptr_array_new_with_free_func((GDestroyNotify)g_bytes_unref),
                      .names = g_ptr_array_new_with_free_func(g_free) };
    position =
        mmap(NULL, sizeof(*position), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    g_assert(position != MAP_FAILED);
    read_options(&replay, argc, argv);
    load_corpus(&replay, argv[1]);
    read_files(&replay);
    int status = run_all(&replay);
    g_ptr_array_unref(replay.files);
    g_ptr_array_unref(replay.names);
    return status;
}
