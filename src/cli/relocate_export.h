/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A disk of a VM that moves, as the other host gets to read it: an nbdkit that outlives us. */
#ifndef FUT_RELOCATE_EXPORT_H
#define FUT_RELOCATE_EXPORT_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

typedef struct {
    char *name, *given,
        *image; /* owned; `given`: as QEMU was given it, `image`: its absolute path */
    uint64_t length;
    pid_t pid;
    unsigned port;
} FutExport;

/* Read-only, at a free port of `host` (a number). `psk`: encrypted with the keys of that file; NULL: not. */
bool fut_export_start(FutExport *export, const char *host, const char *psk, const char *log,
                      GError **error);
void fut_export_stop(FutExport *export);
/* What QEMU wrote to the image survives a power cut. */
bool fut_export_sync(const FutExport *export, GError **error);
void fut_export_done(FutExport *export);

#endif
