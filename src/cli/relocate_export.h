/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A disk of a VM that moves, as the other host gets to read it: an nbdkit that outlives us. */
#ifndef FUT_RELOCATE_EXPORT_H
#define FUT_RELOCATE_EXPORT_H

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

typedef struct {
    char *name, *given,
        *image; /* owned; `given`: as QEMU was given it, a path or its server's socket; `image`: the file's absolute path */
    uint64_t length;
    int fd; /* the file; -1: not open */
    pid_t pid;
    uint64_t birth; /* of that process */
    unsigned port;
} FutExport;

/* What a VM's module says of a disk (control verb "disks"), and the file that QEMU has open: FUT_ERR_MISMATCH when its path leads elsewhere by now.
 * A disk that is served by one of our own servers, since the VM has moved before, is that server's file: FUT_ERR_STATE while that is not
 * complete. To be done also after an error. */
bool fut_export_take(FutExport *export, const json_t *said, pid_t qemu, GError **error);
/* Read-only, at a free port of `host` (a number). `tls`: "x509:DIR" or "psk:FILE"; NULL: not encrypted. */
bool fut_export_start(FutExport *export, const char *host, const char *tls, const char *log,
                      GError **error);
void fut_export_stop(FutExport *export);
/* What QEMU wrote to the image survives a power cut. */
bool fut_export_sync(const FutExport *export, GError **error);
void fut_export_done(FutExport *export);

#endif
