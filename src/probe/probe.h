/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A probe made ready for one kernel: each value is a register and a few offsets, so that a hit costs
 * some reads of guest memory and nothing else.
 */
#ifndef FUT_PROBE_H
#define FUT_PROBE_H

#include <stdatomic.h>

#include "fut_rate.h"
#include "guest_kernel.h"
#include "guest_modules.h"
#include "open_calls.h"
#include "probe_keys.h"
#include "probe_text.h"

#define FUT_PROBE_ARGUMENTS 6u

/* As x86 numbers them; r8 to r15 follow. */
enum {
    FUT_RAX,
    FUT_RCX,
    FUT_RDX,
    FUT_RBX,
    FUT_RSP,
    FUT_RBP,
    FUT_RSI,
    FUT_RDI,
    FUT_REGISTERS = 16
};
/* Of the function's arguments (System V ABI). */
extern const uint8_t fut_probe_argument_registers[FUT_PROBE_ARGUMENTS];

/* The vCPU at the probed instruction, mostly a function's first, or at the one to which it has returned. */
typedef struct {
    uint64_t registers[FUT_REGISTERS];
    uint64_t instruction;                    /* where it is */
    uint64_t arguments[FUT_PROBE_ARGUMENTS]; /* at a return: what they were at the entry */
    uint64_t gs_base;                        /* the kernel's */
    uint64_t syscall_entry;                  /* MSR LSTAR */
    uint32_t boot;                           /* how often the machine was reset */
    FutGuestMemory memory;
    uint64_t guest_time_ns; /* how long the guest has run */
    unsigned vcpu;
} FutProbeHit;

typedef enum {
    FUT_VALUE_NONE, /* its memory was not there */
    FUT_VALUE_UNSIGNED,
    FUT_VALUE_SIGNED,
    FUT_VALUE_POINTER,
    FUT_VALUE_TEXT
} FutProbeValueKind;

typedef struct {
    FutProbeValueKind kind;
    uint64_t number;
    char text[FUT_PROBE_STRING_MAX];
} FutProbeValue;

typedef enum {
    FUT_FROM_REGISTER,
    FUT_FROM_ENTRY, /* an argument, as it was when the function was entered */
    FUT_FROM_TASK   /* the current task */
} FutProbeSource;

/* How a value is fetched: from its source, through `steps` pointers. */
typedef struct {
    FutProbeSource source;
    unsigned number; /* of the register or the argument */
    unsigned steps;
    uint32_t offsets
        [FUT_PROBE_MEMBERS_MAX]; /* added, then what stands there is read; the last is the value */
    FutShapeKind kind;
    uint32_t length;
} FutProbeFetch;

typedef struct {
    FutProbeFetch fetch, other;
    FutProbeOp op;
    bool is_text, or_before;
    bool has_other; /* it is compared with that, not with a constant */
    int64_t number;
    char text[FUT_PROBE_STRING_MAX];
} FutProbeCondition;

typedef struct {
    char *name, *text, *filter; /* owned; filter may be NULL */
    char *point;                /* owned: where it stands, as fut_probe_text_point() says it */
    FutProbeKeys *keys;         /* owned: what its records mean */
    uint64_t address, physical; /* of the instruction */
    bool within;                /* that is not the function's first */
    bool passes;                /* the function, before the kernel ends */
    uint64_t syscall_entry;     /* of the kernel it is for */
    uint32_t boot;              /* the same */
    FutGuestMemory memory;      /* by the kernel's own table */
    /* Whose function it is, and where that name stands in the guest's memory as long as it is loaded; "": the kernel's own. */
    char module[FUT_MODULE_NAME_BYTES];
    uint64_t module_at;
    FutOpenCalls *calls; /* owned: those that have not returned yet; NULL: it is of entries */
    uint64_t current_task;
    FutProbeCondition conditions[FUT_PROBE_CONDITIONS_MAX];
    unsigned condition_count;
    FutProbeFetch fields[FUT_PROBE_FIELDS_MAX];
    char *labels[FUT_PROBE_FIELDS_MAX]; /* owned */
    unsigned field_count;

    atomic_bool gone;             /* the kernel is, though nothing that a vCPU shows tells */
    atomic_uint_fast64_t hits;    /* all */
    atomic_uint_fast64_t records; /* that passed the filter and were recorded */
    atomic_uint_fast64_t skipped; /* not looked at or not recorded: there were too many */
    atomic_uint_fast64_t missed;  /* calls whose return was not seen, and will not be */
    atomic_uint_fast64_t window_ns, window_spent_ns;
    FutRate rate;          /* of records; the ring's lock */
    uint64_t skipped_told; /* of `skipped`, by a record; the ring's lock */
} FutProbe;

/*
 * `text` is a definition (probe_keys.h), `filter` (may be NULL) narrows its own. FUT_ERR_ARG names the function (with names like it), parameter or
 * member that does not exist, or the value that cannot be recorded: of the first alternative, if there are several and none fits; FUT_ERR_STATE: its module is
 * not loaded. One reference is the caller's.
 */
FutProbe *fut_probe_new(const FutGuestKernel *kernel, const char *name, const char *text,
                        const char *filter, GError **error);
FutProbe *fut_probe_ref(FutProbe *probe);
void fut_probe_unref(FutProbe *probe);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FutProbe, fut_probe_unref)

/* Is what it is for still loaded? A module may go, and another come to its place. Any thread. */
bool fut_probe_is_there(const FutProbe *probe, const FutGuestMemory *memory);
/*
 * Has this probe spent its share of time in this tenth of a second (a tenth of it)? Then the hit is to be left alone: it was
 * counted as skipped. Any thread; now_ns of fut_now_ns().
 */
bool fut_probe_is_too_hot(FutProbe *probe, uint64_t now_ns);
/* What a hit has taken by the clock; beyond a millisecond it was not the probe that took it, and is not counted. */
void fut_probe_spent(FutProbe *probe, uint64_t ns);
/*
 * A function whose returns are probed is entered: notes the call, and returns the address to which it will return. 0: that is
 * unknown, or no kernel code; counted as missed. Any thread.
 */
uint64_t fut_probe_enter(FutProbe *probe, const FutProbeHit *hit);
/* The return from that entry will not be seen: counted as missed. */
void fut_probe_give_up(FutProbe *probe, const FutProbeHit *entry);
/* A vCPU is where a call may return to. True: it has returned from one that was noted, whose arguments are in hit->arguments now. */
bool fut_probe_leave(FutProbe *probe, FutProbeHit *hit);
/* Does the hit pass the filter? Then its fields are in ret_values. Any thread. */
bool fut_probe_evaluate(const FutProbe *probe, const FutProbeHit *hit,
                        FutProbeValue ret_values[FUT_PROBE_FIELDS_MAX]);

#endif
