/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Probes as JSON, for the control socket.
 *   probe-add     {"probe": TEXT, "name": NAME, "filter": FILTER, "symbols": PATH, "wait": BOOL, "disabled": BOOL} (all but the first may
 *                 be missing) -> {"name", "function", "state", "address", "kernel"}; without the last two if it waits
 *   probe-list    -> {"kernel", "probes": [{"name", "probe", "filter", "function", "address", "state", "reason", "wait", "stale", "hits", "records", "skipped", "missed"}]}
 *                 "state" is in, disabled, waiting (then "reason" says why, and there is no "address") or stale
 *   probe-remove, probe-enable, probe-disable  {"name": NAME} -> {}
 *   probe-functions {"words": TEXT} -> {"kernel", "functions": [{"function", "parameters"}]}, the best first (function_search.h); without
 *                 "parameters" where the kernel does not tell them
 *   a record      {"event": "PROBE", "probe": NAME, "sequence": N, "time": SECONDS_SINCE_1970, "guest_time": SECONDS, "vcpu": N, "fields": {...}}
 *                 and with consequences "severity", "scope", "cause"
 *   lost records  {"event": "PROBE-LOST", "lost": N}
 * Addresses and pointers are text ("0x..."); a value whose memory was not there is null.
 */
#ifndef FUT_WATCH_VERBS_H
#define FUT_WATCH_VERBS_H

#include <jansson.h>

#include "watch.h"

/* Each: new reference, or NULL with an error. */
json_t *fut_watch_verb_add(FutWatch *watch, const json_t *args, GError **error);
json_t *fut_watch_verb_list(FutWatch *watch);
json_t *fut_watch_verb_remove(FutWatch *watch, const json_t *args, GError **error);
json_t *fut_watch_verb_enable(FutWatch *watch, const json_t *args, bool enabled, GError **error);
json_t *fut_watch_verb_functions(FutWatch *watch, const json_t *args, GError **error);
/* The next record's line, newline included, or one that says how many are lost; NULL: none yet. Caller frees. */
char *fut_watch_next_line(FutWatch *watch, uint64_t *place);

#endif
