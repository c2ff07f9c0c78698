/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The engine's disks: on a primary what the twin lacks and what was sent (disks.c), on a backup what is still to be written
 * (disks_standby.c). A VMM without disks has none of all this. */
#ifndef FUT_DISKS_H
#define FUT_DISKS_H

#include "disk_map.h"
#include "disk_queue.h"
#include "frame.h"
#include "pair.h"

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
    uint64_t unmarked_bytes;          /* sent since the newest mark */
    unsigned on_the_way;              /* writes reported as sent to the map and not sent yet */
    bool mark_out; /* the newest mark waits for its answer, or for what follows from it */
    uint64_t mark_sent, mark_ns; /* the newest, and when */
    uint64_t twin_life;          /* process of the twin that holds what is confirmed */
    bool safe_due, reset_due;    /* for the disk thread: the answer to a mark; a new image */
    bool noting;                 /* a chunk is noted before it changes */

    /* both: name of the image that the backup has; 0: none */
    uint64_t image;
    uint64_t mark;  /* the last one that is safe there, as far as this side knows */
    uint8_t **note; /* [count], the VMM's; disk thread, and whoever knows that it rests */
    bool has_notes;

    /* backup */
    FutDiskQueue queue;
    bool writing;  /* the disk thread is at it, without the lock */
    char *failed;  /* why the image cannot be kept; owned */
    bool void_due; /* for the disk thread: the notes name an image that this is no more */
    uint64_t life; /* of this process, random; 0 until it is needed */
} FutDisks;

void fut_disks_open(FutEngine *engine);
void fut_disks_close(FutEngine *engine);
/* What the images have is safe from a power cut. The disk thread. */
bool fut_disks_flush(FutEngine *engine, GError **error);

/* -- disks.c: primary -- */
void fut_disks_start(FutEngine *engine);
void fut_disks_stop(FutEngine *engine);
/* Copies a bounded piece. Returns bytes sent, 0 = nothing more to do now; *ret_done: there is nothing left. Copy thread. */
size_t fut_disks_copy_step(FutEngine *engine, bool *ret_done);
/* Guest stopped, its epoch ended: sends a mark if one is due. */
void fut_disks_cut(FutEngine *engine, uint64_t epoch, uint64_t now_ns);
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

/* -- disks_note.c -- */
void fut_disks_note_open(FutEngine *engine);
/* Writes the heads of all notes. False: there are none (any more). The disk thread, or nobody is in it. */
bool fut_disks_note_all(FutEngine *engine, FutRole role, uint64_t image, uint64_t mark);
/* A primary's part of the disk thread. False: nothing to do. */
bool fut_disks_note_step(FutEngine *engine);
/* With the lock held, once all that was sent in `epoch` is on its way: fills in the next mark, if it is time for one. */
bool fut_disks_mark(FutEngine *engine, uint64_t epoch, FutDiskHead *ret);
void fut_disks_mark_safe(FutEngine *engine);
/* DISK_SAFE came. */
void fut_disks_safe(FutEngine *engine, const FutFrame *frame);

/* -- disks_standby.c: backup; link thread -- */
bool fut_disks_check(FutEngine *engine, const FutFrame *frame, GError **error);
void fut_disks_keep(FutEngine *engine, const FutFrame *frame);
void fut_disks_keep_base(FutEngine *engine, const FutFrame *frame);
/* With the lock held, before the pair machine sees the CHECKPOINT: what the guest flushed in that epoch is to be on disk first. */
void fut_disks_before_commit(FutEngine *engine, uint64_t epoch);
void fut_disks_commit(FutEngine *engine, uint64_t epoch);
void fut_disks_discard(FutEngine *engine);
/* All is written, and no write has failed, that was committed when the newest snapshot of the image had its instant. Any thread, no lock. */
bool fut_disks_at_line(FutEngine *engine);
/* Before the guest starts here: waits until all that was committed is written. */
bool fut_disks_settle(FutEngine *engine, GError **error);

#endif
