/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A series of snapshots of the running guest. Beside the pair and as part of the engine: it shares cuts and the knowledge of what was
 * written with it, and starts no thread of its own.
 *
 * One snapshot goes so:
 * 0. ahead, only of a full one: all pages that are not untouched are copied and handed over while the guest runs, and what it writes from
 *    there on is followed. From then on it is a snapshot of what was written meanwhile: no more than that is in the stop, or protected.
 *    Not where the instant is to be soon: then all pages are what was written;
 * 1. arming: a short cut learns which pages were written since the snapshot before; are these few, then it is the cut of 3. already;
 * 2. guarding: these pages are protected against writing while the guest runs, which takes longer the more they are. Who writes one of
 *    them is let through at once, and the page counts as written again. Or, if they are not that many, they are copied (series_early.c):
 *    nobody is kept waiting then, and a page that is written again is copied again;
 * 3. the cut: device state; pages written during 2 are copied if they are few, else protected, too. So the stop depends neither on the
 *    size of memory nor on how much was written since the snapshot before;
 * 4. copying, while the guest runs: who writes a protected page waits until it was copied aside. Disks likewise, in chunks: before the guest's
 *    write reaches the image, what was there is read and kept.
 * On a backup the snapshot is of the image that it holds, between two epochs, and the guest has no part in it (series_image.c): what the link
 * brings is kept back for the moment of the instant, and before it overwrites a page or a chunk that is still to be copied that is copied aside.
 *
 * What could not be saved (a full store, a guest that writes faster than the store takes for too long) ends the snapshot, never the guest; its
 * pages belong to the next one then.
 *
 * Locks: series.lock, the last of all: taken with the VMM's big lock or the engine's lock held or without. While it is held nobody writes
 * guest memory, or calls the VMM. */
#ifndef FUT_SERIES_H
#define FUT_SERIES_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "flow_table.h"
#include "pagemap.h"
#include "vmm.h"

/* What the engine's configuration says if nothing else is. */
#define FUT_SERIES_COPY_MAX 512
#define FUT_SERIES_EARLY_MAX 8192 /* 32 MiB, that stay taken while snapshots are followed */
/* A disk's content is followed in pieces of 1 << this. */
#define FUT_SERIES_CHUNK_SHIFT 16

/* What is known of a snapshot's instant. */
typedef struct {
    const uint8_t *state; /* of the devices */
    size_t state_length;
    uint64_t time_us; /* microseconds since 1970 */
    uint64_t memory_hash;
    uint64_t stop_ns; /* the guest was stopped for it, both stops together */
    uint64_t longest_stop_ns;
    uint64_t took_ns; /* from the request until all was handed over, to be made durable */
    uint64_t pages;   /* handed over */
    uint64_t early; /* of these, copied before the cut while the guest ran, and not written after */
    uint64_t guarded; /* of these, under protection while the guest ran on */
    uint64_t faults;  /* the guest's writes that met the protection */
    uint64_t disk_bytes;
    const uint8_t *flows; /* the guest's connections (flow_list.h) */
    size_t flows_length;
    const uint8_t *hot; /* the pages that the guest used last (hot_list.h) */
    size_t hot_length;
    const uint8_t *code; /* the pieces of code that were translated for it (code_list.h) */
    size_t code_length;
    uint64_t epoch; /* of a backup's image: the newest in it; 0: of the running guest */
} FutSeriesCut;

/* Where a snapshot goes: called by the thread that makes the steps, without a lock. After false the snapshot is given up. */
typedef struct {
    bool (*pages)(void *sink, unsigned block, uint64_t page, const uint8_t *data, uint64_t count,
                  GError **error);
    /* data NULL: zeroes */
    bool (*disk)(void *sink, unsigned disk, uint64_t offset, const uint8_t *data, uint64_t length,
                 GError **error);
    bool (*commit)(void *sink, const FutSeriesCut *cut, GError **error);
} FutSeriesSinkOps;

typedef struct {
    const FutSeriesSinkOps *ops;
    void *sink;
    bool full; /* not only what changed since the snapshot before */
    bool hash; /* take a hash of all memory during the stop (slow: for tests) */
    bool soon; /* a full one's instant comes before its memory is copied, not after it */
} FutSeriesOrder;

typedef enum {
    FUT_SERIES_IDLE,
    FUT_SERIES_AHEAD,
    FUT_SERIES_ARMING,
    FUT_SERIES_GUARDING,
    FUT_SERIES_CUTTING,
    FUT_SERIES_COPYING,
    FUT_SERIES_GIVING_UP
} FutSeriesPhase;

typedef struct FutSeriesPage FutSeriesPage;
typedef struct FutSeriesPiece FutSeriesPiece;

/* Pages copied before the cut; thread of the steps, or the lock where it is said. */
typedef struct {
    bool on;         /* the round under way copies, and protects nothing; lock */
    FutPageMap good; /* copied, and not written since; lock, but for who copies */
    uint8_t *data;   /* room for the configured number of pages; NULL: there is none */
    size_t touched;  /* bytes of it */
    uint64_t *keys;  /* whose they are */
    uint64_t count, handed;
    uint64_t round; /* pages of the last round; lock */
} FutSeriesEarly;

typedef struct {
    GMutex lock;
    int tracking; /* what is written is followed; written with the lock held, looked at without */
    bool based;   /* there is a snapshot to which the next can be the difference */
    bool guard;   /* the host can protect pages */
    bool
        image; /* what is followed is a backup's image; the thread of the steps, and looked at by others while tracking */
    bool image_busy,
        image_wanted; /* engine lock: somebody changes it, or takes the instant; the instant is next */
    int phase;        /* FutSeriesPhase; written with the lock held, looked at without */
    int cut_due;      /* atomic: the next cut is for us, too */
    FutSeriesOrder order;
    GError *error;                    /* why it is given up */
    uint64_t asked_ns;                /* by begin() */
    uint64_t cut_asked_ns, nudged_ns; /* when the cut was asked for first, and last */

    FutPageMap written; /* since the last cut of a snapshot (that comes about) */
    FutPageMap set;     /* of the snapshot under way */
    FutPageMap todo;    /* of these, still to be protected before the cut */
    FutPageMap busy;   /* of a full one: written just before it, and soon again in all likelihood */
    bool busy_kept;    /* they were protected, and have not been let go together */
    FutPageMap taken;  /* of these, in hand or handed over */
    FutPageMap spill;  /* the pair has not been told of: cut thread only */
    bool spilt;        /* there are any */
    bool pair_follows; /* the pair has to be told of what was written */
    FutPageSet collected;               /* cut thread */
    FutSeriesPage *pages, **pages_tail; /* copied aside */
    FutSeriesPage *
        spare; /* for what is copied during a stop: a fault of memory new to us would lengthen it */
    unsigned spares;
    uint64_t side_bytes;
    uint64_t stalled_ns; /* since when somebody waits because that is too much; 0: nobody */
    unsigned rounds;     /* of protecting or copying, before the cut */
    bool ahead;          /* of the snapshot under way all pages are handed over before its cuts */
    FutSeriesEarly early;
    bool guarded;          /* something of the snapshot under way was protected */
    uint64_t cut_begin_ns; /* cut thread; 0: that cut is not ours */
    bool settled;          /* how long the guest was stopped is known */
    uint64_t cursor;       /* thread of the steps */
    uint8_t *bounce;

    unsigned disks;
    FutPageMap chunks_written, chunks_set, chunks_taken, chunks_claimed;
    FutSeriesPiece *pieces, **pieces_tail;
    uint64_t disk_cursor;
    uint64_t image_line; /* of a backup's disk_queue.h, at the instant */

    GByteArray *state;
    FutFlow *flows; /* room for FUT_FLOWS_MAX; cut thread until the cut */
    unsigned flow_count;
    FutBuf code;  /* the thread's that makes the steps: the list of pieces of code (code_list.h) */
    size_t codes; /* likewise: how many there were when it was made */
    FutSeriesCut cut;
} FutSeries;

/* -- commands and steps; one thread without a lock -- */
/* Can there ever be one of this VM? Any thread. FUT_ERR_UNSUPPORTED: a disk is shared by both hosts. */
bool fut_series_possible(const FutEngine *engine, GError **error);
/* Begins a snapshot. FUT_ERR_STATE, FUT_ERR_UNSUPPORTED say why not; FUT_ERR_MISMATCH: it has to be a full one. The order's sink lives until a step says DONE or FAILED. */
bool fut_series_begin(FutEngine *engine, const FutSeriesOrder *order, GError **error);
/* None is under way: makes some of that ready for which the next one would have to wait. False: nothing is left. Same thread. */
bool fut_series_prepare(FutEngine *engine);
/* The next can be the difference to the one before. */
bool fut_series_based(FutEngine *engine);
typedef enum {
    FUT_STEP_MORE,
    FUT_STEP_WAIT, /* for host->series(), or for 10 ms */
    FUT_STEP_DONE, /* committed: ret tells of it (state is NULL) */
    FUT_STEP_FAILED
} FutStep;
FutStep fut_series_step(FutEngine *engine, FutSeriesCut *ret, GError **error);
/* Share of the pages and chunks that were handed over, 0..1. */
double fut_series_share(FutEngine *engine);
/* Gives up what is under way: a step will say so. Any thread. */
void fut_series_cancel(FutEngine *engine, const char *why);
/* No further snapshot is to be the difference to the last one: nothing is followed any more. Nothing is under way. */
void fut_series_end(FutEngine *engine);

/* Somebody writes to a protected page, and waits: lets him go on. False: not yet, try again in a fraction of a millisecond. The host's
 * own thread. */
bool fut_series_fault(FutEngine *engine, const uint8_t *address);

/* -- parts of the engine -- */
void fut_series_init(FutEngine *engine);
void fut_series_done(FutEngine *engine);
/* Guest stopped, in fut_engine_cut(), before all else. */
void fut_series_cut(FutEngine *engine, uint64_t begin_ns);
/* After it, in fut_engine_cut_done(): the guest goes on. */
void fut_series_cut_done(FutEngine *engine);
/* The pair wants to know of all that is written from here on, or no more. */
void fut_series_pair_follows(FutEngine *engine, bool follows);
/* Guest stopped: what was written, for the pair; keeps it in mind for the next snapshot. */
void fut_series_collect_for_pair(FutEngine *engine, FutPageSet *set);

/* series_image.c: a backup's image. Who changes it does so between these two calls, with all that he will overwrite of memory in `streams`
 * (delta.h); meanwhile no snapshot's instant comes. Link thread, or whoever carries out the pair's actions; no lock. */
void fut_series_image_enter(FutEngine *engine, const struct iovec *streams, size_t count);
void fut_series_image_leave(FutEngine *engine);
/* Engine lock held, within the two: this is to be done to a disk. */
void fut_series_image_record(FutEngine *engine, const FutDiskHead *head);
/* The image is no more what the snapshot under way takes it for (the guest begins to run in it, a disk fails). Any thread, no lock. */
void fut_series_image_over(FutEngine *engine, const char *why);
/* Disk thread, no lock: saves what these records will overwrite, if they are of after the instant. `first`: so many became ready before them. */
void fut_series_disks_overwrite(FutEngine *engine, const FutDiskRecord *records, uint64_t first);

/* series_disks.c. With the lock: */
void fut_series_disks_cut(FutSeries *series);
void fut_series_disks_restore(FutSeries *series);
void fut_series_disks_drop(FutSeries *series);
/* Thread of the steps, no lock: hands over what was read by who wrote; reads the rest, WAIT with *ret_over when there is none. */
bool fut_series_disks_hand(FutEngine *engine, bool *ret_any, GError **error);
FutStep fut_series_disks_step(FutEngine *engine, bool *ret_over, GError **error);

#endif
