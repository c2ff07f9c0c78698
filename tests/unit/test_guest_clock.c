/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The wall clock in a made-up kernel's memory: found by symbols and types, moved as the kernel would, and left alone where it is not what it is taken for. */
#include <bpf/btf.h>
#include <glib.h>

#include "expect.h"
#include "fut_error.h"
#include "guest_clock.h"
#include "probe_fixture.h"

#define BASE UINT64_C(0xffffffff82000000)
#define PHYSICAL 0x400000u
#define CORE 0x1000u
#define SHADOW 0x1800u
#define LOCK 0x2000u
#define VDSO 0x3080u
#define STAMPS 0x30u /* in struct vdso_data */
#define SHIFT 23u
#define SECOND INT64_C(1000000000)

/* Where this kernel has its members; not as any real one. */
enum {
    TK_CLOCK = 0,
    TK_SHIFT = 12,
    TK_XTIME_NSEC = 16,
    TK_BASE = 24,
    TK_BASE_REAL = 32,
    TK_XTIME_SEC = 40,
    TK_KTIME_SEC = 48,
    TK_WALL = 56,
    TK_OFFS_REAL = 72,
    TK_OFFS_TAI = 80,
    TK_TAI_OFFSET = 88,
    TK_SET_SEQ = 92,
    TK_NEXT_LEAP = 96,
    TK_SIZE = 104
};

typedef struct {
    Fixture fixture;
    FutGuestKernel kernel;
    FutGuestClock clock;
} World;

static struct btf *make_btf(void)
{
    struct btf *btf = btf__new_empty();
    int s64 = btf__add_int(btf, "long long", 8, BTF_INT_SIGNED);
    int u64 = btf__add_int(btf, "unsigned long long", 8, 0);
    int s32 = btf__add_int(btf, "int", 4, BTF_INT_SIGNED);
    int u32 = btf__add_int(btf, "unsigned int", 4, 0);
    int ktime = btf__add_typedef(btf, "ktime_t", s64);
    int read_base = btf__add_struct(btf, "tk_read_base", 40);
    btf__add_field(btf, "clock", u64, 0, 0);
    btf__add_field(btf, "mult", u32, 64, 0);
    btf__add_field(btf, "shift", u32, TK_SHIFT * 8, 0);
    btf__add_field(btf, "xtime_nsec", u64, TK_XTIME_NSEC * 8, 0);
    btf__add_field(btf, "base", ktime, TK_BASE * 8, 0);
    btf__add_field(btf, "base_real", u64, TK_BASE_REAL * 8, 0);
    int timespec = btf__add_struct(btf, "timespec64", 16);
    btf__add_field(btf, "tv_sec", s64, 0, 0);
    btf__add_field(btf, "tv_nsec", s64, 64, 0);
    btf__add_struct(btf, "timekeeper", TK_SIZE);
    btf__add_field(btf, "tkr_mono", read_base, 0, 0);
    btf__add_field(btf, "xtime_sec", u64, TK_XTIME_SEC * 8, 0);
    btf__add_field(btf, "ktime_sec", u64, TK_KTIME_SEC * 8, 0);
    btf__add_field(btf, "wall_to_monotonic", timespec, TK_WALL * 8, 0);
    btf__add_field(btf, "offs_real", ktime, TK_OFFS_REAL * 8, 0);
    btf__add_field(btf, "offs_tai", ktime, TK_OFFS_TAI * 8, 0);
    btf__add_field(btf, "tai_offset", s32, TK_TAI_OFFSET * 8, 0);
    btf__add_field(btf, "clock_was_set_seq", u32, TK_SET_SEQ * 8, 0);
    btf__add_field(btf, "next_leap_ktime", ktime, TK_NEXT_LEAP * 8, 0);
    int stamp = btf__add_struct(btf, "vdso_timestamp", 16);
    btf__add_field(btf, "sec", u64, 0, 0);
    btf__add_field(btf, "nsec", u64, 64, 0);
    int stamps = btf__add_array(btf, u64, stamp, 12);
    int unnamed = btf__add_union(btf, NULL, 12 * 16);
    btf__add_field(btf, "basetime", stamps, 0, 0);
    btf__add_struct(btf, "vdso_data", STAMPS + 12 * 16);
    btf__add_field(btf, "seq", u32, 0, 0);
    btf__add_field(btf, NULL, unnamed, STAMPS * 8, 0);
    return btf;
}

static uint8_t *at(World *w, uint32_t offset)
{
    return w->fixture.ram + PHYSICAL + offset;
}

static uint64_t get(World *w, uint32_t offset)
{
    return fut_get_le64(at(w, offset));
}

/* As a kernel has it whose clock is at `real_ns` since 1970, `up_ns` after its boot. */
static void put_timekeeper(World *w, uint32_t offset, int64_t real_ns, int64_t up_ns)
{
    uint8_t *tk = at(w, offset);
    int64_t offs_real = real_ns - up_ns, xtime_sec = real_ns / SECOND;
    uint64_t nsec = (uint64_t)(real_ns % SECOND) << SHIFT | 12345; /* and a fraction */
    int64_t wall_sec = -offs_real / SECOND - (offs_real % SECOND > 0);
    int64_t wall_nsec = -offs_real - wall_sec * SECOND;

    memset(tk, 0xa5, TK_SIZE);
    fut_put_le32(tk + TK_SHIFT, SHIFT);
    fut_put_le64(tk + TK_XTIME_NSEC, nsec);
    fut_put_le64(tk + TK_BASE, (uint64_t)((xtime_sec + wall_sec) * SECOND + wall_nsec));
    fut_put_le64(tk + TK_BASE_REAL,
                 (uint64_t)((xtime_sec + wall_sec) * SECOND + wall_nsec + offs_real));
    fut_put_le64(tk + TK_XTIME_SEC, (uint64_t)xtime_sec);
    fut_put_le64(tk + TK_KTIME_SEC, (uint64_t)(up_ns / SECOND));
    fut_put_le64(tk + TK_WALL, (uint64_t)wall_sec);
    fut_put_le64(tk + TK_WALL + 8, (uint64_t)wall_nsec);
    fut_put_le64(tk + TK_OFFS_REAL, (uint64_t)offs_real);
    fut_put_le64(tk + TK_OFFS_TAI, (uint64_t)(offs_real + 37 * SECOND));
    fut_put_le32(tk + TK_TAI_OFFSET, 37);
    fut_put_le32(tk + TK_SET_SEQ, 5);
    fut_put_le64(tk + TK_NEXT_LEAP, INT64_MAX);
}

static void put_stamp(World *w, unsigned clock, uint64_t sec, uint64_t nsec)
{
    uint8_t *stamp = at(w, VDSO + STAMPS + clock * 16);

    fut_put_le64(stamp, sec);
    fut_put_le64(stamp + 8, nsec);
}

static void put_clock(World *w, int64_t real_ns, int64_t up_ns)
{
    memset(at(w, 0), 0, 0x8000);
    put_timekeeper(w, CORE + 8, real_ns, up_ns);
    put_timekeeper(w, SHADOW, real_ns, up_ns);
    fut_put_le32(at(w, CORE), 40);
    fut_put_le32(at(w, VDSO), 80);
    uint64_t sec = (uint64_t)(real_ns / SECOND), nsec = get(w, CORE + 8 + TK_XTIME_NSEC);
    put_stamp(w, 0, sec, nsec);
    put_stamp(w, 1, 77, 78); /* CLOCK_MONOTONIC: nobody has to touch it */
    put_stamp(w, 5, sec, nsec >> SHIFT);
    put_stamp(w, 11, sec + 37, nsec);
}

static void set_up(World *w, gconstpointer data)
{
    struct btf *btf = make_btf();
    uint32_t bytes;
    const void *raw = btf__raw_data(btf, &bytes);
    GError *error = NULL;

    memset(w, 0, sizeof(*w));
    w->kernel.memory = fixture_memory(&w->fixture);
    fixture_map(&w->fixture, &w->kernel.memory, BASE, PHYSICAL, 2);
    w->kernel.types = fut_guest_types_new(raw, bytes, &error);
    g_assert_no_error(error);
    btf__free(btf);
    w->kernel.symbols = fut_kallsyms_new();
    fut_kallsyms_add(w->kernel.symbols, BASE + CORE, 'd', "tk_core");
    fut_kallsyms_add(w->kernel.symbols, BASE + SHADOW, 'b', "shadow_timekeeper");
    fut_kallsyms_add(w->kernel.symbols, BASE + LOCK, 'd', "timekeeper_lock");
    fut_kallsyms_add(w->kernel.symbols, BASE + VDSO, 'D', "_vdso_data");
    g_assert_true(fut_guest_clock_find(&w->kernel, &w->clock, &error));
    g_assert_no_error(error);
}

static void tear_down(World *w, gconstpointer data)
{
    fut_kallsyms_free(w->kernel.symbols);
    fut_guest_types_free(w->kernel.types);
    g_free(w->fixture.ram);
}

static void apply(World *w, const FutGuestWrite *writes, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        g_assert_cmpuint(writes[i].physical % writes[i].length, ==, 0);
        memcpy(w->fixture.ram + writes[i].physical, writes[i].bytes, writes[i].length);
    }
}

static void expect_step(World *w, uint64_t by_ns)
{
    FutGuestWrite writes[FUT_GUEST_CLOCK_WRITES];
    GError *error = NULL;
    unsigned count = 0;

    g_assert_true(fut_guest_clock_step(&w->clock, by_ns, writes, &count, &error));
    g_assert_no_error(error);
    apply(w, writes, count);
}

/* All the memory is afterwards as if the kernel's clock had been that much later all the time, but for what tells others that it was set. */
static void expect_moved(World *w, int64_t real_ns, int64_t up_ns, uint64_t by_ns)
{
    g_autofree uint8_t *is = NULL;

    put_clock(w, real_ns, up_ns);
    expect_step(w, by_ns);
    is = g_memdup2(at(w, 0), 0x8000);
    put_clock(w, real_ns + (int64_t)by_ns, up_ns);
    fut_put_le32(at(w, CORE), 42);
    fut_put_le32(at(w, VDSO), 82);
    fut_put_le32(at(w, CORE + 8 + TK_SET_SEQ), 6);
    fut_put_le32(at(w, SHADOW + TK_SET_SEQ), 6);
    g_assert_cmpmem(is, 0x8000, at(w, 0), 0x8000);
}

static void test_moved(World *w, gconstpointer data)
{
    static const int64_t fractions[] = { 0, 1, 499999999, 500000000, 999999999 };
    const int64_t *f = fractions;

    for (unsigned i = 0; i < 5 * 5 * 5; i++) {
        int64_t real_ns = 1790000000 * SECOND + f[i % 5];
        expect_moved(w, real_ns, 86400 * SECOND + f[i / 5 % 5], (uint64_t)f[i / 25]);
        expect_moved(w, real_ns, 3 * SECOND + f[i / 5 % 5], (uint64_t)(86400 * SECOND + f[i / 25]));
    }
    /* Again and again: nothing is lost on the way. */
    put_clock(w, 1790000000 * SECOND + 7, 5 * SECOND);
    for (unsigned i = 0; i < 1000; i++) {
        expect_step(w, 333333333);
    }
    int64_t now = 1790000000 * SECOND + 7 + INT64_C(333333333000);
    g_assert_cmpuint(get(w, CORE + 8 + TK_XTIME_SEC), ==, now / SECOND);
    g_assert_cmpuint(get(w, CORE + 8 + TK_XTIME_NSEC) >> SHIFT, ==, now % SECOND);
    g_assert_cmpuint(get(w, CORE + 8 + TK_OFFS_REAL), ==, now - 5 * SECOND);
    g_assert_cmpuint(get(w, CORE + 8 + TK_XTIME_NSEC) & ((1u << SHIFT) - 1), ==, 12345);
}

static void refused(World *w, int code, const char *why)
{
    FutGuestWrite writes[FUT_GUEST_CLOCK_WRITES];
    GError *error = NULL;
    unsigned count = 99;

    g_assert_false(fut_guest_clock_step(&w->clock, SECOND, writes, &count, &error));
    g_assert_error(error, FUT_ERROR, code);
    g_assert_nonnull(strstr(error->message, why));
    g_assert_cmpuint(count, ==, 99);
    g_clear_error(&error);
}

/* The kernel itself is at it: a writer, or one who has the lock and works on the shadow. */
static void test_busy(World *w, gconstpointer data)
{
    static const uint32_t places[] = { CORE, VDSO, LOCK };

    put_clock(w, 1790000000 * SECOND, SECOND);
    for (unsigned i = 0; i < G_N_ELEMENTS(places); i++) {
        at(w, places[i])[0] ^= 1;
        refused(w, FUT_ERR_BUSY, "is at its clock");
        at(w, places[i])[0] ^= 1;
    }
    expect_step(w, SECOND);
}

/* Any number that is not explained by the others: it is not a clock as it is known. */
static void test_another_kernel(World *w, gconstpointer data)
{
    static const uint32_t places[] = { TK_SHIFT,     TK_XTIME_NSEC + 3, TK_BASE,       TK_BASE_REAL,
                                       TK_XTIME_SEC, TK_KTIME_SEC,      TK_WALL,       TK_WALL + 8,
                                       TK_OFFS_REAL, TK_OFFS_TAI,       TK_TAI_OFFSET, TK_SET_SEQ };
    static const uint32_t stamps[] = { 0, 8, 5 * 16, 5 * 16 + 8 };

    put_clock(w, 1790000000 * SECOND + 1, SECOND);
    for (unsigned i = 0; i < G_N_ELEMENTS(places); i++) {
        for (unsigned both = 0; both < (places[i] == TK_SET_SEQ ? 1u : 2u); both++) {
            at(w, CORE + 8 + places[i])[0] ^= 1;
            at(w, SHADOW + places[i])[0] ^= both;
            refused(w, FUT_ERR_UNSUPPORTED, "keeps its clock in another way");
            at(w, CORE + 8 + places[i])[0] ^= 1;
            at(w, SHADOW + places[i])[0] ^= both;
        }
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(stamps); i++) {
        at(w, VDSO + STAMPS + stamps[i])[0] ^= 1;
        refused(w, FUT_ERR_UNSUPPORTED, "keeps its clock in another way");
        at(w, VDSO + STAMPS + stamps[i])[0] ^= 1;
    }
    put_clock(w, 86400 * SECOND, SECOND); /* 1970 */
    refused(w, FUT_ERR_UNSUPPORTED, "keeps its clock in another way");
    put_clock(w, 1790000000 * SECOND, SECOND);
    fut_put_le64(at(w, CORE + 8 + TK_NEXT_LEAP), 5);
    refused(w, FUT_ERR_UNSUPPORTED, "expects a leap second");
    put_clock(w, INT64_C(4102444799) * SECOND, SECOND);
    refused(w, FUT_ERR_UNSUPPORTED, "beyond the year 2100");
    w->clock.lock = 0x1000;
    refused(w, FUT_ERR_UNSUPPORTED, "has no clock where its symbols say");
}

/* A clock source that programs cannot read: the kernel leaves TAI as it was, which nobody reads then. */
static void test_old_tai(World *w, gconstpointer data)
{
    put_clock(w, 1790000000 * SECOND + 1, SECOND);
    put_stamp(w, 11, 5, 6);
    expect_step(w, 3 * SECOND);
    g_assert_cmpuint(get(w, VDSO + STAMPS), ==, 1790000003);
    g_assert_cmpuint(get(w, VDSO + STAMPS + 5 * 16), ==, 1790000003);
    g_assert_cmpuint(get(w, VDSO + STAMPS + 11 * 16), ==, 5);
    g_assert_cmpuint(get(w, VDSO + STAMPS + 11 * 16 + 8), ==, 6);
}

static void not_found(World *w, const char *why)
{
    FutGuestClock unused;
    GError *error = NULL;

    g_assert_false(fut_guest_clock_find(&w->kernel, &unused, &error));
    g_assert_error(error, FUT_ERROR, FUT_ERR_UNSUPPORTED);
    g_assert_nonnull(strstr(error->message, why));
    g_clear_error(&error);
}

static void test_not_found(World *w, gconstpointer data)
{
    struct btf *btf = btf__new_empty();
    uint32_t bytes;
    int u64 = btf__add_int(btf, "unsigned long long", 8, 0);

    btf__add_struct(btf, "timekeeper", 8);
    btf__add_field(btf, "xtime_sec", u64, 0, 0);
    const void *raw = btf__raw_data(btf, &bytes);
    fut_guest_types_free(w->kernel.types);
    w->kernel.types = fut_guest_types_new(raw, bytes, NULL);
    btf__free(btf);
    not_found(w, "another struct timekeeper: no ktime_sec");
    fut_guest_types_free(g_steal_pointer(&w->kernel.types));
    not_found(w, "has no types (BTF)");
    fut_kallsyms_free(w->kernel.symbols);
    w->kernel.symbols = fut_kallsyms_new();
    struct btf *whole = make_btf();
    raw = btf__raw_data(whole, &bytes);
    w->kernel.types = fut_guest_types_new(raw, bytes, NULL);
    btf__free(whole);
    not_found(w, "has no tk_core");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add("/guest-clock/moved", World, NULL, set_up, test_moved, tear_down);
    g_test_add("/guest-clock/busy", World, NULL, set_up, test_busy, tear_down);
    g_test_add("/guest-clock/another-kernel", World, NULL, set_up, test_another_kernel, tear_down);
    g_test_add("/guest-clock/old-tai", World, NULL, set_up, test_old_tai, tear_down);
    g_test_add("/guest-clock/not-found", World, NULL, set_up, test_not_found, tear_down);
    return g_test_run();
}
