/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "guest_clock.h"

#include "byteorder.h"
#include "fut_error.h"

#define NSEC_PER_SEC INT64_C(1000000000)
#define YEAR_2000 INT64_C(946684800)
#define YEAR_2100 INT64_C(4102444800)
#define SHIFT_MAX 32
/* struct { seqcount_raw_spinlock_t seq; struct timekeeper timekeeper; } tk_core: it has no name to be found by. */
#define CORE_TIMEKEEPER 8
/* Numbers of clocks (uapi/linux/time.h), by which programs' data is sorted. */
#define STAMP_REALTIME 0
#define STAMP_REALTIME_COARSE 5
#define STAMP_TAI 11
#define STAMP_BYTES 16 /* struct vdso_timestamp: seconds, nanoseconds */

static const struct {
    const char *name, *within; /* NULL: it is the member itself */
    uint32_t length;
} members[FUT_TK_MEMBERS] = {
    [FUT_TK_XTIME_SEC] = { "xtime_sec", NULL, 8 },
    [FUT_TK_KTIME_SEC] = { "ktime_sec", NULL, 8 },
    [FUT_TK_WALL_SEC] = { "wall_to_monotonic", "tv_sec", 8 },
    [FUT_TK_WALL_NSEC] = { "wall_to_monotonic", "tv_nsec", 8 },
    [FUT_TK_OFFS_REAL] = { "offs_real", NULL, 8 },
    [FUT_TK_OFFS_TAI] = { "offs_tai", NULL, 8 },
    [FUT_TK_TAI_OFFSET] = { "tai_offset", NULL, 4 },
    [FUT_TK_SET_SEQ] = { "clock_was_set_seq", NULL, 4 },
    [FUT_TK_NEXT_LEAP] = { "next_leap_ktime", NULL, 8 },
    [FUT_TK_SHIFT] = { "tkr_mono", "shift", 4 },
    [FUT_TK_XTIME_NSEC] = { "tkr_mono", "xtime_nsec", 8 },
    [FUT_TK_BASE] = { "tkr_mono", "base", 8 },
    [FUT_TK_BASE_REAL] = { "tkr_mono", "base_real", 8 },
};

static bool fail(GError **error, const char *what)
{
    g_set_error(error, FUT_ERROR, FUT_ERR_UNSUPPORTED, "the guest's kernel %s", what);
    return false;
}

/* -- where it is -- */

static bool find_symbol(const FutGuestKernel *kernel, const char *name, uint64_t *ret,
                        GError **error)
{
    FutSymbol symbol;

    if (!fut_kallsyms_find(kernel->symbols, name, &symbol)) {
        g_set_error(error, FUT_ERROR, FUT_ERR_UNSUPPORTED, "the guest's kernel has no %s", name);
        return false;
    }
    *ret = symbol.address;
    return true;
}

static bool find_member(const FutGuestTypes *types, FutTkMember which, uint32_t *ret)
{
    FutShape timekeeper, member;
    uint32_t within = 0;

    if (!fut_guest_types_pointer_to(types, "timekeeper", &timekeeper) ||
        !fut_guest_types_member(types, &timekeeper, members[which].name, ret, &member)) {
        return false;
    }
    if (members[which].within) {
        FutShape outer = member;
        if (!fut_guest_types_member(types, &outer, members[which].within, &within, &member)) {
            return false;
        }
    }
    *ret += within;
    return member.length == members[which].length;
}

static bool find_members(const FutGuestTypes *types, FutGuestClock *clock, GError **error)
{
    for (FutTkMember i = 0; i < FUT_TK_MEMBERS; i++) {
        if (!find_member(types, i, &clock->at[i])) {
            g_set_error(error, FUT_ERROR, FUT_ERR_UNSUPPORTED,
                        "the guest's kernel has another struct timekeeper: no %s as it is known",
                        members[i].name);
            return false;
        }
    }
    return true;
}

static bool find_stamps(const FutGuestTypes *types, FutGuestClock *clock, GError **error)
{
    FutShape data, stamp, unused;
    uint32_t sequence, stamps, sec, nsec;

    bool good = fut_guest_types_pointer_to(types, "vdso_data", &data) &&
                fut_guest_types_pointer_to(types, "vdso_timestamp", &stamp) &&
                fut_guest_types_member(types, &data, "seq", &sequence, &unused) &&
                fut_guest_types_member(types, &data, "basetime", &stamps, &unused) &&
                fut_guest_types_member(types, &stamp, "sec", &sec, &unused) &&
                fut_guest_types_member(types, &stamp, "nsec", &nsec, &unused) && sec == 0 &&
                nsec == 8;
    if (!good) {
        return fail(error, "has another struct vdso_data");
    }
    clock->vdso_sequence = clock->vdso + sequence;
    clock->vdso_stamps = clock->vdso + stamps;
    return true;
}

bool fut_guest_clock_find(const FutGuestKernel *kernel, FutGuestClock *ret, GError **error)
{
    FutGuestClock clock = { .memory = kernel->memory };

    if (!kernel->types) {
        return fail(error, "has no types (BTF) in its memory");
    }
    if (!find_symbol(kernel, "tk_core", &clock.sequence, error) ||
        !find_symbol(kernel, "shadow_timekeeper", &clock.shadow, error) ||
        !find_symbol(kernel, "timekeeper_lock", &clock.lock, error) ||
        !find_symbol(kernel, "_vdso_data", &clock.vdso, error) ||
        !find_members(kernel->types, &clock, error) || !find_stamps(kernel->types, &clock, error)) {
        return false;
    }
    clock.timekeeper = clock.sequence + CORE_TIMEKEEPER;
    *ret = clock;
    return true;
}

/* -- what it says -- */

typedef struct {
    int64_t value[FUT_TK_MEMBERS];
} Timekeeper;

typedef struct {
    uint64_t sec, nsec;
} Stamp;

static bool read_number(const FutGuestClock *clock, uint64_t address, uint32_t length,
                        uint64_t *ret)
{
    uint8_t bytes[8] = { 0 };

    if (!fut_guest_read(&clock->memory, address, bytes, length)) {
        return false;
    }
    *ret = fut_get_le64(bytes);
    return true;
}

static bool read_timekeeper(const FutGuestClock *clock, uint64_t address, Timekeeper *ret)
{
    for (FutTkMember i = 0; i < FUT_TK_MEMBERS; i++) {
        uint64_t value;
        if (!read_number(clock, address + clock->at[i], members[i].length, &value)) {
            return false;
        }
        ret->value[i] = members[i].length == 8 ? (int64_t)value : (int32_t)value;
    }
    return true;
}

static bool read_stamp(const FutGuestClock *clock, unsigned which, Stamp *ret)
{
    uint64_t at = clock->vdso_stamps + (uint64_t)which * STAMP_BYTES;

    return read_number(clock, at, 8, &ret->sec) && read_number(clock, at + 8, 8, &ret->nsec);
}

static uint64_t second_of(const Timekeeper *tk)
{
    return (uint64_t)NSEC_PER_SEC << tk->value[FUT_TK_SHIFT];
}

static int64_t monotonic_base(const Timekeeper *tk)
{
    return (tk->value[FUT_TK_XTIME_SEC] + tk->value[FUT_TK_WALL_SEC]) * NSEC_PER_SEC +
           tk->value[FUT_TK_WALL_NSEC];
}

static int64_t monotonic_seconds(const Timekeeper *tk)
{
    uint64_t nsec = (uint64_t)tk->value[FUT_TK_WALL_NSEC] +
                    ((uint64_t)tk->value[FUT_TK_XTIME_NSEC] >> tk->value[FUT_TK_SHIFT]);

    return tk->value[FUT_TK_XTIME_SEC] + tk->value[FUT_TK_WALL_SEC] +
           (nsec >= (uint64_t)NSEC_PER_SEC);
}

static bool is_plausible(int64_t seconds)
{
    return seconds >= YEAR_2000 && seconds < YEAR_2100;
}

/* Each is known twice and more: a structure that is not what it is taken for does not agree with itself. */
static bool agrees(const Timekeeper *tk)
{
    const int64_t *v = tk->value;

    return is_plausible(v[FUT_TK_XTIME_SEC]) && v[FUT_TK_SHIFT] >= 0 &&
           v[FUT_TK_SHIFT] <= SHIFT_MAX && (uint64_t)v[FUT_TK_XTIME_NSEC] < 2 * second_of(tk) &&
           v[FUT_TK_WALL_NSEC] >= 0 && v[FUT_TK_WALL_NSEC] < NSEC_PER_SEC &&
           v[FUT_TK_WALL_SEC] <= 0 && v[FUT_TK_WALL_SEC] > -YEAR_2100 &&
           v[FUT_TK_OFFS_REAL] == -v[FUT_TK_WALL_SEC] * NSEC_PER_SEC - v[FUT_TK_WALL_NSEC] &&
           v[FUT_TK_OFFS_TAI] == v[FUT_TK_OFFS_REAL] + v[FUT_TK_TAI_OFFSET] * NSEC_PER_SEC &&
           v[FUT_TK_BASE] == monotonic_base(tk) &&
           v[FUT_TK_BASE_REAL] == v[FUT_TK_BASE] + v[FUT_TK_OFFS_REAL] &&
           v[FUT_TK_KTIME_SEC] == monotonic_seconds(tk);
}

static bool is_same(const Timekeeper *a, const Timekeeper *b)
{
    for (FutTkMember i = 0; i < FUT_TK_MEMBERS; i++) {
        /* Whether a leap second is due is noted in the one first. */
        if (i != FUT_TK_NEXT_LEAP && a->value[i] != b->value[i]) {
            return false;
        }
    }
    return true;
}

/* *ret_tai: TAI, too, which the kernel leaves as it is while its clock source cannot be read by programs. */
static bool stamps_agree(const FutGuestClock *clock, const Timekeeper *tk, bool *ret_tai)
{
    uint64_t nsec = (uint64_t)tk->value[FUT_TK_XTIME_NSEC];
    uint64_t sec = (uint64_t)tk->value[FUT_TK_XTIME_SEC];
    Stamp real, coarse, tai;

    if (!read_stamp(clock, STAMP_REALTIME, &real) ||
        !read_stamp(clock, STAMP_REALTIME_COARSE, &coarse) || !read_stamp(clock, STAMP_TAI, &tai)) {
        return false;
    }
    *ret_tai = tai.sec == sec + (uint64_t)tk->value[FUT_TK_TAI_OFFSET] && tai.nsec == nsec;
    return real.sec == sec && real.nsec == nsec && coarse.sec == sec &&
           coarse.nsec == nsec >> tk->value[FUT_TK_SHIFT];
}

/* -- moving it -- */

typedef struct {
    const FutGuestClock *clock;
    FutGuestWrite *writes;
    unsigned count;
    bool good;
} Writing;

static void put(Writing *w, uint64_t address, uint32_t length, uint64_t value)
{
    FutGuestWrite *write = &w->writes[w->count];

    g_assert(w->count < FUT_GUEST_CLOCK_WRITES);
    w->good = w->good && address % length == 0 &&
              fut_guest_translate(&w->clock->memory, address, &write->physical);
    write->length = length;
    fut_put_le64(write->bytes, value);
    w->count++;
}

static void put_timekeeper(Writing *w, uint64_t address, const Timekeeper *tk)
{
    for (FutTkMember i = 0; i < FUT_TK_MEMBERS; i++) {
        if (i != FUT_TK_TAI_OFFSET && i != FUT_TK_NEXT_LEAP && i != FUT_TK_SHIFT) {
            put(w, address + w->clock->at[i], members[i].length, (uint64_t)tk->value[i]);
        }
    }
}

static void put_stamp(Writing *w, unsigned which, int64_t sec, uint64_t nsec)
{
    uint64_t at = w->clock->vdso_stamps + (uint64_t)which * STAMP_BYTES;

    put(w, at, 8, (uint64_t)sec);
    put(w, at + 8, 8, nsec);
}

static void move(Timekeeper *tk, uint64_t by_ns)
{
    int64_t *v = tk->value, sec = (int64_t)(by_ns / (uint64_t)NSEC_PER_SEC),
            nsec = (int64_t)(by_ns % (uint64_t)NSEC_PER_SEC);
    uint64_t fraction = (uint64_t)v[FUT_TK_XTIME_NSEC] + ((uint64_t)nsec << v[FUT_TK_SHIFT]);

    v[FUT_TK_XTIME_SEC] += sec;
    for (; fraction >= second_of(tk); fraction -= second_of(tk)) {
        v[FUT_TK_XTIME_SEC]++;
    }
    v[FUT_TK_XTIME_NSEC] = (int64_t)fraction;
    v[FUT_TK_WALL_SEC] -= sec + (v[FUT_TK_WALL_NSEC] < nsec);
    v[FUT_TK_WALL_NSEC] += (v[FUT_TK_WALL_NSEC] < nsec ? NSEC_PER_SEC : 0) - nsec;
    v[FUT_TK_OFFS_REAL] += (int64_t)by_ns;
    v[FUT_TK_OFFS_TAI] += (int64_t)by_ns;
    v[FUT_TK_BASE] = monotonic_base(tk);
    v[FUT_TK_BASE_REAL] = v[FUT_TK_BASE] + v[FUT_TK_OFFS_REAL];
    v[FUT_TK_KTIME_SEC] = monotonic_seconds(tk);
    v[FUT_TK_SET_SEQ]++; /* by this each processor's timers learn of it */
}

/* *ret_sequence, *ret_vdso: those of readers, who read again if they have changed. */
static bool check_idle(const FutGuestClock *clock, uint64_t *ret_sequence, uint64_t *ret_vdso,
                       GError **error)
{
    uint64_t lock;

    if (!read_number(clock, clock->sequence, 4, ret_sequence) ||
        !read_number(clock, clock->vdso_sequence, 4, ret_vdso) ||
        !read_number(clock, clock->lock, 4, &lock)) {
        return fail(error, "has no clock where its symbols say");
    }
    if (lock || *ret_sequence & 1 || *ret_vdso & 1) {
        g_set_error_literal(error, FUT_ERROR, FUT_ERR_BUSY, "the guest's kernel is at its clock");
        return false;
    }
    return true;
}

static bool check_clock(const FutGuestClock *clock, Timekeeper *ret, bool *ret_tai, GError **error)
{
    Timekeeper shadow;

    if (!read_timekeeper(clock, clock->timekeeper, ret) ||
        !read_timekeeper(clock, clock->shadow, &shadow) || !agrees(ret) || !is_same(ret, &shadow) ||
        !stamps_agree(clock, ret, ret_tai)) {
        return fail(error, "keeps its clock in another way than is known");
    }
    if (ret->value[FUT_TK_NEXT_LEAP] != G_MAXINT64) {
        return fail(error, "expects a leap second");
    }
    return true;
}

bool fut_guest_clock_step(const FutGuestClock *clock, uint64_t by_ns,
                          FutGuestWrite writes[FUT_GUEST_CLOCK_WRITES], unsigned *ret_count,
                          GError **error)
{
    Writing w = { clock, writes, 0, true };
    uint64_t sequence, vdso;
    Timekeeper tk;
    bool tai;

    if (!check_idle(clock, &sequence, &vdso, error) || !check_clock(clock, &tk, &tai, error)) {
        return false;
    }
    if (by_ns / (uint64_t)NSEC_PER_SEC >= (uint64_t)(YEAR_2100 - tk.value[FUT_TK_XTIME_SEC])) {
        return fail(error, "would be beyond the year 2100");
    }
    move(&tk, by_ns);
    uint64_t nsec = (uint64_t)tk.value[FUT_TK_XTIME_NSEC];
    int64_t sec = tk.value[FUT_TK_XTIME_SEC];
    put(&w, clock->sequence, 4, sequence + 2);
    put_timekeeper(&w, clock->timekeeper, &tk);
    put_timekeeper(&w, clock->shadow, &tk);
    put(&w, clock->vdso_sequence, 4, vdso + 2);
    put_stamp(&w, STAMP_REALTIME, sec, nsec);
    put_stamp(&w, STAMP_REALTIME_COARSE, sec, nsec >> tk.value[FUT_TK_SHIFT]);
    if (tai) {
        put_stamp(&w, STAMP_TAI, sec + tk.value[FUT_TK_TAI_OFFSET], nsec);
    }
    if (!w.good) {
        return fail(error, "has its clock at an odd place");
    }
    *ret_count = w.count;
    return true;
}
