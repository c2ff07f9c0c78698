/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One relocating disk as a process serves it: options, files, connections, threads. */
#ifndef FUT_DISK_SERVER_H
#define FUT_DISK_SERVER_H

#include "reloc.h"

typedef struct {
    char *source;         /* NBD URI, or NULL */
    char *cache, *bitmap; /* absolute paths; bitmap NULL: CACHE.bitmap */
    char *name;           /* of the control socket, or NULL: none */
    FutCopyPolicy policy;
    bool adaptive;
    uint64_t rate;    /* bytes a second; 0: no limit */
    unsigned wait_ms; /* how long a read waits for a source that is away */
    bool overwrite, adopt, asleep;
} FutDiskOptions;

typedef struct FutDiskServer FutDiskServer;

/* Opens everything; asks the source for its size if that is not known yet. No threads yet: the process may fork after this. */
FutDiskServer *fut_disk_server_open(const FutDiskOptions *options, GError **error);
/* Threads and control socket. `cancelled` is asked by requests that wait. */
bool fut_disk_server_start(FutDiskServer *server, bool (*cancelled)(void), GError **error);
/* Ends the threads, saves what is here, closes. NULL is fine. */
void fut_disk_server_free(FutDiskServer *server);
FutReloc *fut_disk_server_disk(FutDiskServer *server);
uint64_t fut_disk_server_size(const FutDiskServer *server);

#endif
