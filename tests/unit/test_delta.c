/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Delta codec: golden bytes, all implementations alike, round trips, refusal of bad streams. */
#include "delta.h"

#include <string.h>
#include <sys/mman.h>

#include "byteorder.h"
#include "expect.h"

#ifdef __SANITIZE_THREAD__
#define FUT_THREAD_SANITIZER 1
#else
#define FUT_THREAD_SANITIZER 0
#endif

#define PAGES 40

typedef struct {
    uint8_t *live, *copy, *peer; /* PAGES pages each, in two blocks */
    FutMemory memory, shadow, remote;
    FutBuf out;
} World;

static FutMemory two_blocks(uint8_t *bytes)
{
    size_t first = 7 * FUT_PAGE_SIZE;
    return (FutMemory){
        .count = 2, .block = { { bytes, first }, { bytes + first, PAGES * FUT_PAGE_SIZE - first } }
    };
}

static void world_init(World *w)
{
    *w = (World){ .live = g_malloc0(PAGES * FUT_PAGE_SIZE),
                  .copy = g_malloc0(PAGES * FUT_PAGE_SIZE),
                  .peer = g_malloc0(PAGES * FUT_PAGE_SIZE) };
    w->memory = two_blocks(w->live);
    w->shadow = two_blocks(w->copy);
    w->remote = two_blocks(w->peer);
}

static void world_done(World *w)
{
    fut_buf_done(&w->out);
    g_free(w->live);
    g_free(w->copy);
    g_free(w->peer);
}

static uint64_t nth_key(unsigned page)
{
    return page < 7 ? fut_key(0, page) : fut_key(1, page - 7);
}

/* A walk names each page that has a record, in the order of the keys, and no other. */
static void check_walk(const World *w, const uint64_t *keys, size_t count, size_t records)
{
    FutDeltaWalk walk = { .at = w->out.data, .end = w->out.data + w->out.len };
    uint64_t key;
    size_t seen = 0, at = 0;

    while (fut_delta_walk(&walk, &w->remote, &key)) {
        for (; at < count && keys[at] != key; at++) {
        }
        g_assert_cmpuint(at++, <, count);
        seen++;
    }
    g_assert_cmpuint(seen, ==, records);
}

/* Encodes what changed, carries it over, and compares all three. Returns the records sent. */
static size_t carry(World *w, const uint64_t *keys, size_t count, FutDeltaStats *stats)
{
    g_autoptr(GError) error = NULL;
    size_t records = 0;
    fut_buf_clear(&w->out);
    fut_delta_encode(&w->out, &w->memory, &w->shadow, keys, count, stats);
    g_assert_true(fut_delta_check(w->out.data, w->out.len, &w->remote, &records, &error));
    check_walk(w, keys, count, records);
    g_assert_no_error(error);
    fut_delta_apply(w->out.data, w->out.len, &w->remote, NULL);
    g_assert_true(memcmp(w->live, w->copy, PAGES * FUT_PAGE_SIZE) == 0);
    g_assert_true(memcmp(w->live, w->peer, PAGES * FUT_PAGE_SIZE) == 0);
    return records;
}

/* Words of which some bytes change, and words that the tables have. */
static void test_golden_dense(void)
{
    World w;
    world_init(&w);
    uint64_t keys[] = { fut_key(1, 2), fut_key(0, 3) };
    uint8_t *page = fut_memory_page(&w.memory, keys[0]);
    memset(fut_memory_page(&w.shadow, keys[0]) + 512, 0x55, 8);
    fut_put_le64(page + 8, 0x1122334455667788ull);
    fut_put_le64(page + 24, 0x1122334455667788ull);
    fut_put_le64(page + 40, 0x1122334455abcdefull);
    page[512 + 8 * 62 + 2] = 0xcc;
    page[512 + 8 * 62 + 4] = 0xee;
    page[FUT_PAGE_SIZE - 1] = 0xdd;
    fut_put_le64(fut_memory_page(&w.memory, keys[1]) + 4088, 0x1122334455667788ull);
    fut_delta_encode(&w.out, &w.memory, &w.shadow, keys, 2, NULL);
    const uint8_t wanted[] = {
        0x93, 0x80, 0x80, 0x80, 0x80, 0x80, 0x02, /* page 2 of block 1, DENSE: 2^43 + 16 + 3 */
        0x83,                                     /* lines 0 to 15 and 56 to 63 */
        0x01,                                     /* line 0 */
        0x2a,                                     /* words 1, 3 and 5 */
        0x87, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, /* 8 bytes from 0 on */
        0x3a,                                                 /* the same word again */
        0xe6, 0xef, 0xcd, 0xab,                               /* a word near it */
        0x81,                                                 /* lines 8 and 15 */
        0x01, 0x00,                               /* word 0 is zero now: as the table began */
        0x40,                                     /* word 6 */
        0x92, 0xcc, 0x00, 0xee,                   /* 3 bytes from 2 on */
        0x80, 0x80,                               /* line 63, word 7 */
        0xb8, 0xdd,                               /* a byte from 7 on */
        0xf7, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, /* page 3 of block 0 */
        0x80, 0x80, 0x80, 0x3a,                   /* that word in this page, too */
    };
    g_assert_cmpmem(w.out.data, w.out.len, wanted, sizeof(wanted));
    world_done(&w);
}

/* Word 0 of each of 49 lines and the last word: too many lines for DENSE. */
static void test_golden_diff(void)
{
    World w;
    world_init(&w);
    uint64_t key = fut_key(1, 2);
    uint8_t *page = fut_memory_page(&w.memory, key);
    uint8_t wanted[7 + 8 + 49 * 9] = {
        0x90, 0x80, 0x80, 0x80, 0x80, 0x80, 0x02,       /* page 2 of block 1, DIFF */
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0,    0x80, /* lines 0 to 47 and 63 */
    };
    for (unsigned i = 0; i < 49; i++) {
        unsigned line = i < 48 ? i : 63, word = i < 48 ? 0 : 7;
        fut_put_le64(page + 64 * line + 8 * word, 0x1122334455667788ull + i);
        wanted[15 + 9 * i] = (uint8_t)(1u << word);
        fut_put_le64(wanted + 15 + 9 * i + 1, 0x1122334455667788ull + i);
    }
    fut_delta_encode(&w.out, &w.memory, &w.shadow, &key, 1, NULL);
    g_assert_cmpmem(w.out.data, w.out.len, wanted, sizeof(wanted));
    world_done(&w);
}

static void test_golden_zero(void)
{
    World w;
    world_init(&w);
    uint64_t key = fut_key(0, 3);
    memset(fut_memory_page(&w.shadow, key), 0x55, FUT_PAGE_SIZE);
    fut_delta_encode(&w.out, &w.memory, &w.shadow, &key, 1, NULL);
    const uint8_t wanted[] = { 3 << 3 | 1 };
    g_assert_cmpmem(w.out.data, w.out.len, wanted, sizeof(wanted));
    world_done(&w);
}

static void test_golden_raw(void)
{
    World w;
    world_init(&w);
    uint64_t key = fut_key(1, 0);
    uint8_t wanted[7 + FUT_PAGE_SIZE] = { 0x82, 0x80, 0x80, 0x80, 0x80, 0x80, 0x02 };
    for (unsigned i = 0; i < FUT_PAGE_SIZE; i++) {
        wanted[7 + i] = (uint8_t)(i % 251 + 1);
    }
    memcpy(fut_memory_page(&w.memory, key), wanted + 7, FUT_PAGE_SIZE);
    fut_delta_encode(&w.out, &w.memory, &w.shadow, &key, 1, NULL);
    g_assert_cmpmem(w.out.data, w.out.len, wanted, sizeof(wanted));
    world_done(&w);
}

static void test_unchanged(void)
{
    World w;
    world_init(&w);
    uint64_t keys[] = { nth_key(0), nth_key(9), nth_key(39) };
    FutDeltaStats stats = { 0 };
    memset(w.live, 0x77, PAGES * FUT_PAGE_SIZE);
    memcpy(w.copy, w.live, PAGES * FUT_PAGE_SIZE);
    fut_delta_encode(&w.out, &w.memory, &w.shadow, keys, 3, &stats);
    g_assert_cmpuint(w.out.len, ==, 0);
    g_assert_cmpuint(stats.pages, ==, 3);
    g_assert_cmpuint(stats.unchanged, ==, 3);
    fut_delta_encode(&w.out, &w.memory, &w.shadow, NULL, 0, &stats);
    g_assert_cmpuint(stats.pages, ==, 3);
    world_done(&w);
}

/* Changes the first `words` words in the order: first one in each line, then a second in each ... */
static void expect_kind(unsigned words, FutDeltaKind kind, size_t length)
{
    World w;
    world_init(&w);
    uint64_t key = nth_key(0);
    for (unsigned i = 0; i < words; i++) {
        unsigned word = i * 8 % 512 + i / 64;
        fut_put_le64(w.live + word * 8, 0xabcdef0123456789 + i);
    }
    g_assert_cmpuint(carry(&w, &key, 1, NULL), ==, 1);
    g_assert_cmpuint(w.out.len, ==, length);
    g_assert_cmpuint(w.out.data[0], ==, kind);
    world_done(&w);
}

/* DENSE up to the last number of lines; then DIFF up to the last length that is shorter than RAW: 8 +
 * lines + 8 x words against 4096. */
static void test_kinds(void)
{
    expect_kind(1, FUT_DELTA_DENSE, 1 + 3 + 9);
    expect_kind(48, FUT_DELTA_DENSE, 1 + 1 + 6 + 48 + 9 + 47 * 4); /* words near the first */
    expect_kind(49, FUT_DELTA_DIFF, 1 + 8 + 49 * 9);
    expect_kind(64, FUT_DELTA_DIFF, 1 + 8 + 64 * 9);
    expect_kind(502, FUT_DELTA_DIFF, 1 + 8 + 64 + 502 * 8);
    expect_kind(503, FUT_DELTA_RAW, 1 + FUT_PAGE_SIZE);
    expect_kind(512, FUT_DELTA_RAW, 1 + FUT_PAGE_SIZE);
}

/* Only so many words of a stream are DENSE, and the next stream begins anew. */
static void test_dense_ends(void)
{
    World w;
    world_init(&w);
    uint64_t keys[20];
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned page = 0; page < 20; page++) {
            keys[page] = nth_key(page);
            for (unsigned word = 0; word < 128; word++) {
                w.live[page * FUT_PAGE_SIZE + word * 8]++;
            }
        }
        carry(&w, keys, 20, NULL);
        /* 16 lines in 2 groups; the same word everywhere */
        size_t dense = FUT_DELTA_DENSE_WORDS / 128 * (3 + 16 + 128) + 1;
        size_t diff = (20 - FUT_DELTA_DENSE_WORDS / 128) * (8 + 16 + 128 * 8);
        g_assert_cmpuint(w.out.len, ==, dense + diff + 20 + 6); /* the key of page 7 is long */
    }
    world_done(&w);
}

/* Changes about `words` words of a page; now and then all of it. */
static void scribble(GRand *rand, uint8_t *page, unsigned words)
{
    if (g_rand_int_range(rand, 0, 20) == 0) {
        memset(page, g_rand_int_range(rand, 0, 2) ? 0 : g_rand_int_range(rand, 1, 256),
               FUT_PAGE_SIZE);
    }
    for (unsigned i = 0; i < words; i++) {
        page[g_rand_int_range(rand, 0, FUT_PAGE_SIZE)] = (uint8_t)g_rand_int(rand);
    }
    /* values that stand in several places, and others near them */
    for (unsigned i = 0; i < words / 4; i++) {
        uint64_t value = 0xffff888000000000 + 0x1240 * (uint64_t)g_rand_int_range(rand, 0, 30);
        fut_put_le64(page + 8 * g_rand_int_range(rand, 0, FUT_PAGE_SIZE / 8), value);
    }
}

/* Random pages are changed by random amounts, again and again. Returns a hash of all streams. */
static uint64_t random_rounds(World *w, uint32_t seed)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(seed);
    uint64_t hash = 14695981039346656037ull;
    for (unsigned round = 0; round < 60; round++) {
        uint64_t keys[PAGES];
        size_t count = 0;
        FutDeltaStats stats = { 0 };
        for (unsigned page = 0; page < PAGES; page++) {
            if (g_rand_int_range(rand, 0, 3) > 0) {
                unsigned words = 1u << g_rand_int_range(rand, 0, 13);
                scribble(rand, fut_memory_page(&w->memory, nth_key(page)), words / 2);
                keys[count++] = nth_key(page);
            }
        }
        size_t records = carry(w, keys, count, &stats);
        g_assert_cmpuint(stats.pages, ==, count);
        g_assert_cmpuint(records, ==, count - stats.unchanged);
        for (size_t i = 0; i < w->out.len; i++) {
            hash = (hash ^ w->out.data[i]) * 1099511628211ull;
        }
    }
    return hash;
}

static void test_implementations_agree(void)
{
    static const struct {
        FutDeltaImpl impl;
        const char *name;
    } all[] = { { FUT_DELTA_PLAIN, "plain" },
                { FUT_DELTA_AVX2, "avx2" },
                { FUT_DELTA_AVX512, "avx512" } };
    uint64_t wanted = 0;
    for (unsigned i = 0; i < G_N_ELEMENTS(all); i++) {
        World w;
        if (!fut_delta_select(all[i].impl)) {
            g_test_message("this processor has no %s", all[i].name);
            continue;
        }
        g_assert_cmpstr(fut_delta_impl_name(), ==, all[i].name);
        world_init(&w);
        uint64_t found = random_rounds(&w, 20240607);
        wanted = i == 0 ? found : wanted;
        g_assert_cmphex(found, ==, wanted);
        world_done(&w);
    }
    g_assert_true(fut_delta_select(FUT_DELTA_AUTO));
}

/* Each single word of a page, in each implementation. */
static void test_every_word(void)
{
    for (int impl = FUT_DELTA_PLAIN; impl <= FUT_DELTA_AVX512; impl++) {
        World w;
        uint64_t key = nth_key(8);
        if (!fut_delta_select(impl)) {
            continue;
        }
        world_init(&w);
        for (unsigned word = 0; word < 512; word++) {
            fut_memory_page(&w.memory, key)[word * 8 + word % 8] ^= 0x40;
            g_assert_cmpuint(carry(&w, &key, 1, NULL), ==, 1);
            g_assert_cmpuint(w.out.len, ==, 7 + 3 + 2);
        }
        world_done(&w);
    }
    fut_delta_select(FUT_DELTA_AUTO);
}

static void test_full(void)
{
    World w;
    world_init(&w);
    uint64_t keys[] = { nth_key(0), nth_key(1), nth_key(2) };
    FutDeltaStats stats = { 0 };
    memset(w.live, 0x11, FUT_PAGE_SIZE);
    memset(w.copy, 0x11, 3 * FUT_PAGE_SIZE); /* page 0 equals its shadow and is sent all the same */
    memset(w.peer, 0x99, 3 * FUT_PAGE_SIZE);
    fut_delta_encode_full(&w.out, &w.memory, &w.shadow, keys, 3, NULL, &stats);
    g_assert_cmpuint(w.out.len, ==, 3 + FUT_PAGE_SIZE);
    g_assert_cmpuint(stats.pages, ==, 3);
    g_assert_cmpuint(stats.raw, ==, 1);
    g_assert_cmpuint(stats.zero, ==, 2);
    g_assert_true(fut_delta_check(w.out.data, w.out.len, &w.remote, NULL, NULL));
    fut_delta_apply(w.out.data, w.out.len, &w.remote, NULL);
    g_assert_true(memcmp(w.live, w.copy, PAGES * FUT_PAGE_SIZE) == 0);
    g_assert_true(memcmp(w.live, w.peer, PAGES * FUT_PAGE_SIZE) == 0);
    world_done(&w);
}

/* Zero pages are copied without writing to what is zero: here that cannot be written. */
static void test_untouched_stays_untouched(void)
{
    uint64_t key = fut_key(0, 0);
    void *zero = mmap(NULL, FUT_PAGE_SIZE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    g_assert_true(zero != MAP_FAILED);
    FutMemory memory = { .count = 1, .block = { { zero, FUT_PAGE_SIZE } } };
    FutBuf out = { 0 };

    fut_delta_encode_full(&out, &memory, &memory, &key, 1, NULL, NULL);
    g_assert_cmpuint(out.len, ==, 1);
    fut_delta_apply(out.data, out.len, &memory, NULL);
    fut_buf_done(&out);
    munmap(zero, FUT_PAGE_SIZE);
}

/* A run of pages of which some were touched: the others are neither read nor written. */
static void test_untouched_run(void)
{
    enum {
        RUN = 200
    };
    void *base =
        mmap(NULL, RUN * FUT_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    g_assert_true(base != MAP_FAILED);
    madvise(base, RUN * FUT_PAGE_SIZE, MADV_NOHUGEPAGE);
    FutMemory memory = { .count = 1, .block = { { base, RUN * FUT_PAGE_SIZE } } };
    FutResident resident;
    FutBuf out = { 0 };
    uint64_t keys[RUN], touched[(RUN + 63) / 64] = { 0 }, bits[(RUN + 63) / 64] = { 0 };

    for (unsigned i = 0; i < RUN; i++) {
        keys[i] = fut_key(0, i);
    }
    memset(fut_memory_page(&memory, 70), 0x77, FUT_PAGE_SIZE);
    memset(fut_memory_page(&memory, 199), 0x77, FUT_PAGE_SIZE);
    fut_resident_init(&resident, &memory);
    fut_delta_encode_full(&out, &memory, &memory, keys, RUN, touched, NULL);
    g_assert_cmpuint(out.len, ==, RUN);
    g_assert_true(fut_delta_check(out.data, out.len, &memory, NULL, NULL));
    fut_delta_apply(out.data, out.len, &memory, &resident);
    fut_resident_look(&resident, &memory, 0, RUN, bits);
    for (unsigned i = 0; i < RUN; i++) {
        g_assert_cmpint(bits[i / 64] >> (i % 64) & 1, ==, i == 70 || i == 199);
    }
    g_assert_true(fut_memory_page(&memory, 70)[FUT_PAGE_SIZE - 1] == 0);
    g_assert_true(fut_memory_page(&memory, 199)[FUT_PAGE_SIZE - 1] == 0);
    fut_resident_done(&resident);
    fut_buf_done(&out);
    munmap(base, RUN * FUT_PAGE_SIZE);
}

typedef struct {
    volatile uint64_t *page;
    int stop; /* atomic */
} Writer;

static void *write_all_the_time(void *opaque)
{
    Writer *writer = opaque;
    for (uint64_t i = 0; !g_atomic_int_get(&writer->stop); i++) {
        writer->page[i * 37 % 512] = i / 1000 % 4 ? i : 0;
    }
    return NULL;
}

/* What is sent is what the shadow holds, whatever the guest does meanwhile: a race on purpose, which
 * the thread sanitizer would report. */
static void test_full_while_written(void)
{
    World w;
    world_init(&w);
    uint64_t key = nth_key(0);
    Writer writer = { .page = (volatile uint64_t *)w.live };
    GThread *thread = g_thread_new("guest", write_all_the_time, &writer);
    for (unsigned i = 0; i < 3000; i++) {
        fut_buf_clear(&w.out);
        fut_delta_encode_full(&w.out, &w.memory, &w.shadow, &key, 1, NULL, NULL);
        g_assert_true(fut_delta_check(w.out.data, w.out.len, &w.remote, NULL, NULL));
        fut_delta_apply(w.out.data, w.out.len, &w.remote, NULL);
        g_assert_true(memcmp(w.copy, w.peer, FUT_PAGE_SIZE) == 0);
    }
    g_atomic_int_set(&writer.stop, 1);
    g_thread_join(thread);
    world_done(&w);
}

/* No allocation when there is room; a large set does not reserve for all of it. */
static void test_allocation(void)
{
    World w;
    world_init(&w);
    uint64_t keys[20000];
    for (unsigned i = 0; i < G_N_ELEMENTS(keys); i++) {
        keys[i] = nth_key(i % PAGES);
    }
    fut_delta_encode(&w.out, &w.memory, &w.shadow, keys, G_N_ELEMENTS(keys), NULL);
    g_assert_cmpuint(w.out.len, ==, 0);
    g_assert_cmpuint(w.out.cap, <=, 1 << 20);
    const uint8_t *data = w.out.data;
    for (unsigned i = 0; i < 20; i++) {
        fut_buf_clear(&w.out);
        memset(w.live, (int)i + 1, 16 * FUT_PAGE_SIZE);
        fut_delta_encode(&w.out, &w.memory, &w.shadow, keys, 16, NULL);
        g_assert_cmpuint(w.out.len, ==, 16 * (1 + FUT_PAGE_SIZE) + 6);
        g_assert_true(w.out.data == data);
    }
    world_done(&w);
}

static void test_appends(void)
{
    World w;
    world_init(&w);
    uint64_t key = nth_key(0);
    fut_buf_append(&w.out, "head", 4);
    w.live[0] = 1;
    fut_delta_encode(&w.out, &w.memory, &w.shadow, &key, 1, NULL);
    g_assert_cmpuint(w.out.len, ==, 4 + 1 + 3 + 2);
    g_assert_cmpmem(w.out.data, 4, "head", 4);
    world_done(&w);
}

static void test_key_outside_is_our_fault(void)
{
    if (g_test_subprocess()) {
        World w;
        world_init(&w);
        uint64_t key = fut_key(0, 7);
        fut_delta_encode(&w.out, &w.memory, &w.shadow, &key, 1, NULL);
        return;
    }
    g_test_trap_subprocess(NULL, 0, 0);
    g_test_trap_assert_failed();
    g_test_trap_assert_stderr("*assertion failed: (p.page && p.copy)*");
}

/* A stream of a sound ZERO record and then `count` bytes. */
static void refuse(const uint8_t *bytes, unsigned count, const char *why)
{
    World w;
    g_autoptr(GError) error = NULL;
    size_t records = 77;
    world_init(&w);
    *(uint8_t *)fut_buf_extend(&w.out, 1) = FUT_DELTA_ZERO;
    fut_buf_append(&w.out, bytes, count);
    g_autofree uint8_t *exact = g_memdup2(w.out.data, w.out.len);
    g_assert_false(fut_delta_check(exact, w.out.len, &w.remote, &records, &error));
    g_autofree char *wanted =
        g_strdup_printf("page stream from the peer %s (record 1, byte 1 of %zu)", why, w.out.len);
    expect_error(error, FUT_ERR_PEER, wanted);
    g_assert_cmpuint(records, ==, 77);
    world_done(&w);
}

#define REFUSE(why, ...)                                                                           \
    refuse((const uint8_t[]){ __VA_ARGS__ }, sizeof((uint8_t[]){ __VA_ARGS__ }), why)

static void test_bad_heads(void)
{
    REFUSE("ends inside a record's head", 0x80);
    REFUSE("ends inside a record's head", 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80);
    REFUSE("has a record whose head is too long", 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80,
           0);
    REFUSE("names a page outside the memory", 7 << 3 | FUT_DELTA_ZERO);
    REFUSE("names a page outside the memory", 1 << 2 | FUT_DELTA_ZERO); /* one before the first */
    REFUSE("names a page outside the memory", 0x81, 0x80, 0x80, 0x80, 0x80, 0x80,
           0x04); /* block 2 */
    REFUSE("names a page outside the memory", 0xfd, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f);
    REFUSE("ends inside a RAW record", FUT_DELTA_RAW, 1, 2, 3);
}

static void test_bad_diffs(void)
{
    REFUSE("ends inside a DIFF record", FUT_DELTA_DIFF);
    REFUSE("ends inside a DIFF record", FUT_DELTA_DIFF, 1, 0, 0, 0, 0, 0, 0);
    REFUSE("ends inside a DIFF record", FUT_DELTA_DIFF, 1, 0, 0, 0, 0, 0, 0, 0);
    REFUSE("has a DIFF record without lines", FUT_DELTA_DIFF, 0, 0, 0, 0, 0, 0, 0, 0, 1);
    REFUSE("has a DIFF record with a line without words", FUT_DELTA_DIFF, 1, 0, 0, 0, 0, 0, 0, 0,
           0);
    REFUSE("ends inside a DIFF record", FUT_DELTA_DIFF, 1, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7,
           8);
    REFUSE("ends inside a DIFF record", FUT_DELTA_DIFF, 3, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7,
           8, 9);
}

static void test_bad_dense(void)
{
    const char *ends = "ends inside a DENSE record",
               *empty = "has a DENSE record with an empty part";
    REFUSE(ends, FUT_DELTA_DENSE);
    REFUSE(ends, FUT_DELTA_DENSE, 1);
    REFUSE(ends, FUT_DELTA_DENSE, 1, 1);
    REFUSE(ends, FUT_DELTA_DENSE, 1, 1, 1);
    REFUSE(ends, FUT_DELTA_DENSE, 1, 1, 1, 0x80);
    REFUSE(ends, FUT_DELTA_DENSE, 1, 1, 3, 0);
    REFUSE(ends, FUT_DELTA_DENSE, 1, 3, 1, 0);
    REFUSE(ends, FUT_DELTA_DENSE, 3, 1, 1, 0);
    REFUSE(ends, FUT_DELTA_DENSE, 1, 1, 1, 0x87, 1, 2, 3, 4, 5, 6, 7);
    REFUSE(empty, FUT_DELTA_DENSE, 0, 1, 1, 0);
    REFUSE(empty, FUT_DELTA_DENSE, 1, 0, 1, 0);
    REFUSE(empty, FUT_DELTA_DENSE, 1, 1, 0, 0);
    REFUSE(ends, FUT_DELTA_DENSE, 1, 1, 1, 0xff, 1, 2);
    for (unsigned code = 0x80; code < 0xc0; code++) {
        if ((code >> 3 & 7) + (code & 7) > 7) {
            REFUSE("has a DENSE record with an unknown code", FUT_DELTA_DENSE, 1, 1, 1,
                   (uint8_t)code, 0, 0, 0, 0, 0, 0, 0, 0);
        }
    }
}

/* A good stream cut at any byte is either good up to a record's end or refused. */
static void test_cut_anywhere(void)
{
    World w;
    world_init(&w);
    uint64_t keys[] = { nth_key(0), nth_key(1), nth_key(2), nth_key(3) };
    w.live[0] = w.live[100] = w.live[4000] = 1;
    memset(w.live + FUT_PAGE_SIZE, 2, FUT_PAGE_SIZE);
    memset(w.copy + 2 * FUT_PAGE_SIZE, 3, FUT_PAGE_SIZE);
    for (unsigned i = 0; i < 64; i++) {
        w.live[3 * FUT_PAGE_SIZE + 64 * i] = 4;
    }
    fut_delta_encode(&w.out, &w.memory, &w.shadow, keys, 4, NULL);
    size_t first = 1 + 3 + 3 + 3 + 2, second = first + 1 + FUT_PAGE_SIZE, third = second + 1;
    g_assert_cmpuint(w.out.len, ==, third + 1 + 8 + 64 * 9);
    for (size_t length = 0; length <= w.out.len; length++) {
        g_autofree uint8_t *exact = g_memdup2(w.out.data, length);
        bool whole = length == 0 || length == first || length == second || length == third ||
                     length == w.out.len;
        g_assert_cmpint(fut_delta_check(exact, length, &w.remote, NULL, NULL), ==, whole);
    }
    world_done(&w);
}

static void test_apply_unchecked_is_our_fault(void)
{
    if (g_test_subprocess()) {
        World w;
        world_init(&w);
        *(uint8_t *)fut_buf_extend(&w.out, 1) = 7 << 3 | FUT_DELTA_ZERO;
        fut_delta_apply(w.out.data, w.out.len, &w.remote, NULL);
        return;
    }
    g_test_trap_subprocess(NULL, 0, 0);
    g_test_trap_assert_failed();
    g_test_trap_assert_stderr("*assertion failed: (page)*");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/delta/golden-dense", test_golden_dense);
    g_test_add_func("/delta/golden-diff", test_golden_diff);
    g_test_add_func("/delta/golden-zero", test_golden_zero);
    g_test_add_func("/delta/golden-raw", test_golden_raw);
    g_test_add_func("/delta/unchanged", test_unchanged);
    g_test_add_func("/delta/kinds", test_kinds);
    g_test_add_func("/delta/dense-ends", test_dense_ends);
    g_test_add_func("/delta/implementations-agree", test_implementations_agree);
    g_test_add_func("/delta/every-word", test_every_word);
    g_test_add_func("/delta/full", test_full);
    g_test_add_func("/delta/untouched-run", test_untouched_run);
    g_test_add_func("/delta/untouched-stays-untouched", test_untouched_stays_untouched);
    if (!FUT_THREAD_SANITIZER) {
        g_test_add_func("/delta/full-while-written", test_full_while_written);
    }
    g_test_add_func("/delta/allocation", test_allocation);
    g_test_add_func("/delta/appends", test_appends);
    g_test_add_func("/delta/key-outside-is-our-fault", test_key_outside_is_our_fault);
    g_test_add_func("/delta/bad-heads", test_bad_heads);
    g_test_add_func("/delta/bad-diffs", test_bad_diffs);
    g_test_add_func("/delta/bad-dense", test_bad_dense);
    g_test_add_func("/delta/cut-anywhere", test_cut_anywhere);
    g_test_add_func("/delta/apply-unchecked-is-our-fault", test_apply_unchecked_is_our_fault);
    return g_test_run();
}
