/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The control socket of a relocating disk: a thread that answers `futago disk`. Verbs: status, curve, rate {rate, adaptive}, policy {policy},
 * pause, resume, detach, wake; image: {"pid", "image" (the cache's absolute path, base64), "state", "share"}. */
#ifndef FUT_DISK_CONTROL_H
#define FUT_DISK_CONTROL_H

#include <jansson.h>

#include "reloc.h"

typedef struct {
    const char *name;
    const char *source; /* URI, or "" */
    const char *cache;
    FutReloc *reloc;
    /* Why there is no connection to the source: caller frees; NULL when there is one or none is needed. */
    char *(*fault)(void *opaque);
    /* The copy's control was changed. */
    void (*changed)(void *opaque);
    void *opaque;
} FutDiskControlSetup; /* all borrowed */

typedef struct FutDiskControl FutDiskControl;
/* FUT_ERR_BUSY when another disk of that name runs here. */
FutDiskControl *fut_disk_control_new(const FutDiskControlSetup *setup, GError **error);
/* Removes the socket. NULL is fine. */
void fut_disk_control_free(FutDiskControl *control);

#endif
