/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What may happen in a guest that a checkpoint is cut for. From Y. Tamura et al., "Kemari" (NTT): what changes state outside of the
 * VM; which of them are worth a synchronisation is a choice.
 */
#ifndef FUT_EVENT_SET_H
#define FUT_EVENT_SET_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

typedef enum {
    FUT_EVENT_NET_TX,
    FUT_EVENT_NET_RX,
    FUT_EVENT_DISK_WRITE,
    FUT_EVENT_DISK_READ,
    FUT_EVENT_CONSOLE,
    FUT_EVENT_TIMER,
    FUT_EVENT_KINDS
} FutEventKind;

/* A set: bit FutEventKind. */
typedef uint32_t FutEventSet;
#define FUT_EVENT_SET(event) (1u << (event))
#define FUT_EVENTS_ALL (FUT_EVENT_SET(FUT_EVENT_KINDS) - 1)
#define FUT_EVENTS_DEFAULT FUT_EVENT_SET(FUT_EVENT_NET_TX)

/* "net-tx" and so on. */
const char *fut_event_name(FutEventKind event);
/* "all", "none", or names with commas in between. FUT_ERR_ARG. */
bool fut_event_set_parse(const char *text, FutEventSet *ret, GError **error);
/* The same back; caller frees. */
char *fut_event_set_text(FutEventSet set);

#endif
