/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Probes and the pair. Control thread. */
#ifndef FUT_WATCH_SERVICE_H
#define FUT_WATCH_SERVICE_H

#include <glib.h>
#include <stdbool.h>

#include "service.h"

/*
 * Tries the probes that wait; a primary tells its backup what has changed, a backup takes what has come. Returns in how many ms to call it
 * again; -1: when something has happened.
 */
int fut_watch_service_round(FutService *service);
/* FUT_ERR_STATE on a backup: its probes are the primary's. */
bool fut_watch_service_check(FutService *service, GError **error);

#endif
