/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The snapshot thread of a service: takes snapshots of the guest into a store, when it is asked to and by a schedule. Also what the
 * control socket can ask for:
 *   snapshot-create  {"store": DIR, "full": BOOL, "hash": BOOL, "reason": TEXT, "min_free": BYTES,
 *                    "soon": BOOL (series.h)}, all optional: {"number": N}
 *   snapshot-auto    {"store": DIR, "min_ms": N, "max_ms": N, "cost": SHARE, "by": "cpu"|"dirty", and as bounds (snapper_verbs.c has the defaults)
 *                    "keep": N, "hourly": N, "daily": N, "max_bytes": BYTES, "min_free": BYTES}
 *   snapshot-stop    {}: ends the schedule, and follows what is written no more
 *   snapshot-status  {}: what is under way, the last one, the schedule
 * On a backup the snapshots are of its image.
 * Without "store" the one used last. A folder is named with its whole path. */
#ifndef FUT_SNAPPER_H
#define FUT_SNAPPER_H

#include <jansson.h>

#include "service_internal.h"

FutSnapper *fut_snapper_new(FutService *service);
/* Its thread was not started. Takes NULL. */
void fut_snapper_free(FutSnapper *snapper);
void *fut_snapper_thread(void *service);

/* -- host operations of the engine -- */
void fut_snapper_poke(FutSnapper *snapper);
bool fut_snapper_guard_open(FutSnapper *snapper, const FutMemory *memory);
void fut_snapper_guard_close(FutSnapper *snapper);
void fut_snapper_background(FutSnapper *snapper, bool on);
void fut_snapper_give_way(FutSnapper *snapper);
bool fut_snapper_guard(FutSnapper *snapper, uint8_t *at, size_t length, bool on);

/* -- verbs; control thread -- */
json_t *fut_snapper_create(FutSnapper *snapper, json_t *args, GError **error);
/* The same, and waits until it has ended, up to limit_s; before that, for one that is under way already. One thread at a time, not the
 * control thread. FUT_ERR_BUSY: it has not ended by then, and goes on. */
bool fut_snapper_take(FutSnapper *snapper, const json_t *args, unsigned limit_s, uint64_t *ret_id,
                      GError **error);
json_t *fut_snapper_auto(FutSnapper *snapper, json_t *args, GError **error);
json_t *fut_snapper_stop(FutSnapper *snapper, GError **error);
json_t *fut_snapper_status(FutSnapper *snapper);

#endif
