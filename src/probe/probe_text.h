/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a person writes to say what a probe is to see, close to bpftrace's one-liners:
 *
 *   kprobe:FUNCTION [/FILTER/] [{ FIELD, FIELD... }]      when the function is entered
 *   kprobe:FUNCTION+OFFSET ...                            when the instruction so far behind its beginning is come to
 *   kretprobe:FUNCTION [/FILTER/] [{ FIELD, FIELD... }]   when it has returned
 *
 *   FUNCTION  its name, or MODULE:NAME
 *   FIELD   [LABEL=]VALUE
 *   FILTER  VALUE OP CONSTANT or VALUE OP VALUE, joined by && and || (&& binds closer)
 *   VALUE   a parameter of FUNCTION, arg0..arg5, retval (of a kretprobe), comm, pid, tid or curtask, a register (rax, rdi...),
 *           then ->MEMBER or .MEMBER, repeated
 *   OP      == != < <= > >= &
 *   CONSTANT  a number (decimal or 0x...), a signal's name (SIGSEGV) or "text"
 *
 * "#" begins a comment that ends with the line. What the names mean is looked up later (probe.h).
 */
#ifndef FUT_PROBE_TEXT_H
#define FUT_PROBE_TEXT_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#define FUT_PROBE_TEXT_MAX 4096u
#define FUT_PROBE_FIELDS_MAX 16u
#define FUT_PROBE_CONDITIONS_MAX 16u
#define FUT_PROBE_STRING_MAX 64u /* with its end */
#define FUT_PROBE_MEMBERS_MAX 8u
#define FUT_PROBE_OFFSET_MAX 65535u

typedef struct {
    char *label;                            /* as written, or the value's own text */
    char *names[1 + FUT_PROBE_MEMBERS_MAX]; /* the first name, then members */
    unsigned count;                         /* of names, > 0 */
} FutProbeValueText;

typedef enum {
    FUT_OP_EQUAL,
    FUT_OP_UNEQUAL,
    FUT_OP_LESS,
    FUT_OP_AT_MOST,
    FUT_OP_MORE,
    FUT_OP_AT_LEAST,
    FUT_OP_BITS /* any of these bits */
} FutProbeOp;

typedef struct {
    FutProbeValueText value;
    FutProbeOp op;
    FutProbeValueText other; /* what it is compared with; no names: a constant */
    char *text;              /* NULL: a number */
    int64_t number;
    bool or_before; /* || stands before it; the first has neither */
} FutProbeConditionText;

/* A parsed probe; all strings owned. */
typedef struct {
    char *module; /* NULL: not said */
    char *function;
    uint32_t offset; /* at most FUT_PROBE_OFFSET_MAX; 0: its entry */
    bool is_return;  /* kretprobe; the offset is 0 then */
    FutProbeConditionText conditions[FUT_PROBE_CONDITIONS_MAX];
    unsigned condition_count;
    FutProbeValueText fields[FUT_PROBE_FIELDS_MAX];
    unsigned field_count;
} FutProbeText;

/* FUT_ERR_ARG with the position (characters from 1) and what is expected there. */
FutProbeText *fut_probe_text_parse(const char *text, GError **error);
/*
 * A FILTER alone that a hit has to pass as well; the probe's own must have no || then (FUT_ERR_ARG),
 * nor may this one if the probe has a filter.
 */
bool fut_probe_text_narrow(FutProbeText *probe, const char *filter, GError **error);
/* Where it stands, as it is written: "function", "module:function+0x12". Caller frees. */
char *fut_probe_text_point(const FutProbeText *probe);
void fut_probe_text_free(FutProbeText *probe);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FutProbeText, fut_probe_text_free)

#endif
