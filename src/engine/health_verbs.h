/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The health as JSON, for the control socket.
 *   health        -> {"health": NAME, "probes": N, "lost": N, "forgotten": N, "findings": [{"probe", "severity", "scope", "cause", "means",
 *                 "outcome", "first", "last" (seconds since 1970), "guest_time" (seconds), "vcpu", "sequence", "count", "counts"}]}
 *                 the newest last; "counts": whether it still makes the VM's health worse; without findings that do not fit
 *   health-clear  {"probe": NAME} (may be missing: all) -> {"cleared": N}
 */
#ifndef FUT_HEALTH_VERBS_H
#define FUT_HEALTH_VERBS_H

#include <jansson.h>

#include "react.h"
#include "watch.h"

/* Each: new reference. */
json_t *fut_health_verb(FutReact *react, const FutWatch *watch);
json_t *fut_health_verb_clear(FutReact *react, const json_t *args);

#endif
