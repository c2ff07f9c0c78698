/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The engine's disks: on a primary what the twin lacks and what was sent (disks.c), on a backup what is still to be written
 * (disks_standby.c). A VMM without disks has none of all this. */
#ifndef FUT_DISKS_H
#define FUT_DISKS_H

#include "disk_map.h"
#include "disk_queue.h"
#include "frame.h"

/* `lock` unless said otherwise. */
typedef struct {
    unsigned count;
    const FutDiskInfo *info; /* [count], the VMM's */

    /* primary */
    FutDiskMap *map;                  /* [count] */
    bool sending;                     /* the twin takes what happens to synced chunks */
    bool agreed;                      /* it said which image it has */
    bool copy_waits;                  /* a claim waits for the guest's writes */
    uint64_t next;                    /* name of the image in the making */
    uint64_t copied_bytes;            /* of data, by the newest copy */
    uint8_t *buffer;                  /* one chunk; copy thread */
    uint64_t sent_bytes, acked_bytes; /* of the guest's writes since protection began */

    /* both: name of the image that the backup has; 0: none */
    uint64_t image;

    /* backup */
    FutDiskQueue queue;
    bool writing; /* the disk thread is at it, without the lock */
    char *failed; /* why the image cannot be kept; owned */
} FutDisks;

void fut_disks_open(FutEngine *engine);
void fut_disks_close(FutEngine *engine);

/* -- disks.c: primary -- */
void fut_disks_start(FutEngine *engine);
void fut_disks_stop(FutEngine *engine);
/* Copies a bounded piece. Returns bytes sent, 0 = nothing more to do now; *ret_done: there is nothing left. Copy thread. */
size_t fut_disks_copy_step(FutEngine *engine, bool *ret_done);
/* DISK_KEPT came. */
void fut_disks_kept(FutEngine *engine, const FutFrame *frame);
/* With the lock held: the twin holds everything of epochs <= epoch, which was acknowledged. An answer to a BARRIER does not say as much:
 * what the guest writes meanwhile may follow it on the wire. */
void fut_disks_confirm(FutEngine *engine, uint64_t epoch);
/* With the lock held: does a twin take what happens now? */
bool fut_disks_live(const FutEngine *engine);
/* To the twin; data: head->length bytes with FUT_DISK_WRITE, else NULL. */
void fut_disks_send(FutEngine *engine, const FutDiskHead *head, const uint8_t *data);
/* With the lock held: bytes of all disks that are copied, and those that the twin has. */
void fut_disks_share(const FutEngine *engine, uint64_t *ret_total, uint64_t *ret_synced);

/* -- disks_standby.c: backup; link thread -- */
bool fut_disks_check(FutEngine *engine, const FutFrame *frame, GError **error);
void fut_disks_keep(FutEngine *engine, const FutFrame *frame);
void fut_disks_keep_base(FutEngine *engine, const FutFrame *frame);
/* With the lock held, before the pair machine sees the CHECKPOINT: what the guest flushed in that epoch is to be on disk first. */
void fut_disks_before_commit(FutEngine *engine, uint64_t epoch);
void fut_disks_commit(FutEngine *engine, uint64_t epoch);
void fut_disks_discard(FutEngine *engine);
/* Before the guest starts here: waits until all that was committed is written. */
bool fut_disks_settle(FutEngine *engine, GError **error);

#endif
