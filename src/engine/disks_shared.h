/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Disks whose one image both hosts reach. A write of the guest is not an output that anybody waits for: the guest is told at once
 * that it is done, reads see it, and the image gets it when its epoch is committed, in order. The backup keeps a copy of it until the
 * image has it durably; a takeover writes what is left before the guest runs. So the image never holds what the twin has not seen, and
 * the twin lacks nothing that the outside was told of.
 *
 * A flush is what the outside may rely on: outputs of its epoch, and all after them, wait until the image is durable up to it. */
#ifndef FUT_DISKS_SHARED_H
#define FUT_DISKS_SHARED_H

#include "disk_queue.h"

/* `lock` unless said otherwise. */
typedef struct {
    unsigned count;      /* of the disks, those that are shared */
    FutDiskQueue writes; /* that the image does not have durably yet, as far as this host knows */

    /* primary */
    unsigned flushes; /* among `writes` */
    unsigned direct;  /* writes of an unprotected guest on their way to the image */
    bool storing;     /* the disk thread is at it, without the lock */
    bool settling; /* what went to the image before has to be durable before the first checkpoint */
    bool settles;  /* what is being stored now makes it so */
    bool yielded;  /* the image is left to the twin */
    bool failing;  /* the image could not be written, and it was said */
    bool let_go;   /* outputs may go that had to wait for the image */
    uint64_t flushed; /* epoch whose newest request that writes is a flush; 0: none */
    uint64_t granted; /* outputs of epochs up to this one may go, were it not for flushes */
} FutShared;

void fut_shared_open(FutEngine *engine);

/* -- primary -- */
/* A link is up: the twin can find out whether its image is this one. False: it could not. */
bool fut_shared_mark(FutEngine *engine, uint64_t token, GError **error);
/* From now on writes are held. False: the first checkpoint has to wait; it will be asked for. */
bool fut_shared_hold(FutEngine *engine);
/* With the lock held: they are, and a checkpoint may be taken. */
bool fut_shared_may_cut(const FutEngine *engine);
/* With the lock held: the epoch is committed. Returns the epoch up to which outputs may go. */
uint64_t fut_shared_commit(FutEngine *engine, uint64_t epoch);
/* With the lock held: there is no twin any more; else as before. */
uint64_t fut_shared_commit_all(FutEngine *engine);
/* With the lock held: up to which epoch outputs may go now; clears `let_go`. */
uint64_t fut_shared_let_go(FutEngine *engine);
/* With the lock held: outputs that need no commit have to wait for the image all the same. */
bool fut_shared_gates(const FutEngine *engine);
/* The disk thread has something to do. */
void fut_shared_poke(FutEngine *engine);
/* Writes what is ready. False: nothing is. Disk thread. */
bool fut_shared_step(FutEngine *engine);
/* Leaves the image to the twin. */
void fut_shared_yield(FutEngine *engine);
/* Likewise, for good: what the guest wrote last is the twin's affair. */
void fut_shared_fence(FutEngine *engine);
/* The hand-over came to nothing: the guest goes on here. */
void fut_shared_take_back(FutEngine *engine);

/* -- both -- */
/* A flush of every shared disk behind the records. */
FutDiskRecord *fut_shared_flush_behind(const FutEngine *engine, FutDiskRecord *take_records);
/* Waits until the images are this process's. False: the process ends. */
bool fut_shared_claim(FutEngine *engine);

/* -- backup; link thread -- */
/* Is each image the one that the primary has marked? */
bool fut_shared_marked(FutEngine *engine, uint64_t token, GError **error);
void fut_shared_keep(FutEngine *engine, const FutDiskHead *head, const uint8_t *data);
/* Before the guest starts here: waits for the images and writes what was committed. `handed`: the primary gave the VM away and
 * could go on with it, so do not wait for ever while it is there. */
bool fut_shared_take(FutEngine *engine, bool handed, GError **error);
/* It came to nothing. */
void fut_shared_give_back(FutEngine *engine);

#endif
