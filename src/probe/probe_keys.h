/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A whole definition, as the files in probes/ hold it: what a record of the probe means, before the probe itself.
 *
 *   [KEY=VALUE]... PROBE [else PROBE]...
 *
 *   severity=info|warning|error|critical   default info
 *   scope=service|system|host              what has failed; default service. host: something beneath the guest, such as its disk
 *   says="TEXT"                            the cause in one line; {LABEL} stands for a field (probe_says.h)
 *   means="TEXT"                           for people: what it is, and what to do
 *   about="WORDS"                          what it is found by: subsystem, symptoms
 *   on=ACTION[,ACTION...]                  report, failover, failover-anyway, snapshot[:STORE], stop, command:PATH, ask:PATH; default report
 *   (without severity= and on= a probe only records)
 *   limit=SECONDS                          for a program, 1 to 300; default 30
 *   holds=SECONDS                          how long it counts for the VM's health; default: until somebody clears it
 *
 * VALUE is a word or, in double quotes, a text on one line. Of a key that stands there twice the first counts, so that what is put before a
 * definition changes it. Of several PROBEs the first that this kernel has the functions and members for is used.
 */
#ifndef FUT_PROBE_KEYS_H
#define FUT_PROBE_KEYS_H

#include <glib.h>
#include <stdbool.h>

#define FUT_PROBE_ALTERNATIVES_MAX 4u
#define FUT_PROBE_ACTIONS_MAX 8u
#define FUT_PROBE_LIMIT_S 30u

typedef enum {
    FUT_SEVERITY_INFO,
    FUT_SEVERITY_WARNING,
    FUT_SEVERITY_ERROR,
    FUT_SEVERITY_CRITICAL
} FutSeverity;
extern const char *const fut_severity_names[];

typedef enum {
    FUT_SCOPE_SERVICE,
    FUT_SCOPE_SYSTEM,
    FUT_SCOPE_HOST
} FutScope;
extern const char *const fut_scope_names[];

typedef enum {
    FUT_DO_REPORT,
    FUT_DO_FAILOVER,
    FUT_DO_FAILOVER_ANYWAY, /* also where the twin has the same failure in it */
    FUT_DO_SNAPSHOT,
    FUT_DO_STOP,
    FUT_DO_COMMAND,
    FUT_DO_ASK /* a program, whose exit status says what is to be done */
} FutDeed;
extern const char *const fut_deed_names[];

typedef struct {
    FutDeed deed;
    char *path; /* of the program or the store, absolute; NULL: none was named */
} FutProbeAction;

/* All strings owned; "" where nothing was said. */
typedef struct {
    FutSeverity severity;
    FutScope scope;
    char *says, *means, *about;
    FutProbeAction actions[FUT_PROBE_ACTIONS_MAX];
    unsigned action_count;
    bool has_consequences; /* severity= or on= was said; else it only records */
    unsigned limit_s;
    unsigned holds_s; /* 0: until cleared */
    /* Each as long as the definition, with blanks where the rest stood: positions in them are the definition's. */
    char *probes[FUT_PROBE_ALTERNATIVES_MAX];
    unsigned probe_count; /* > 0 */
} FutProbeKeys;

/* FUT_ERR_ARG with the position (characters from 1) and what is expected there. The probes' own text is not looked at. */
FutProbeKeys *fut_probe_keys_parse(const char *definition, GError **error);
void fut_probe_keys_free(FutProbeKeys *keys);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FutProbeKeys, fut_probe_keys_free)

#endif
