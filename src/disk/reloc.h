/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The relocating disk (after Hirofuchi et al., "A live storage migration mechanism over WAN", AIST 2008): a disk whose content is
 * still elsewhere. What is read and not here is fetched and kept; what is written is kept here and never asks the source; a
 * background copy fetches the rest; then the source is needed no more.
 *
 * Threads: every function may be called from any thread, the copy's by one thread at a time. Reads and writes of valid blocks take no
 * lock. No function holds a lock while it waits for the source. Data is in the cache before its block is called valid: in memory,
 * in the live image and, on a flush, in the bitmap's durable pages (bitmap_file.h). Errors are errno values; 0 is success. */
#ifndef FUT_RELOC_H
#define FUT_RELOC_H

#include "bitmap_file.h"
#include "copy_order.h"
#include "copy_pace.h"
#include "progress.h"
#include "reloc_io.h"

typedef struct FutReloc FutReloc;

typedef struct {
    FutRelocIo *io;         /* borrowed; outlives the disk */
    FutRelocSource *source; /* borrowed; NULL is fine where nothing is missing */
    FutBitmapIdentity identity;
    uint8_t boot_id[FUT_BOOT_ID_SIZE];
    bool plain; /* no bitmap: everything is here, an ordinary disk */
    bool fresh; /* there is no bitmap yet: make one */
    bool adopt; /* the bitmap's source or cache has another name now: believe it */
    FutCopyPolicy policy;
    bool adaptive;
    bool asleep;   /* see fut_reloc_wake(); of no effect where something is here already */
    uint64_t rate; /* bytes a second, 0: no limit */
} FutRelocSetup;

/* FUT_ERR_MISMATCH when the bitmap is of another disk, cache or source. */
FutReloc *fut_reloc_new(const FutRelocSetup *setup, GError **error);
/* Nobody uses it any more. Does not flush. */
void fut_reloc_free(FutReloc *reloc);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FutReloc, fut_reloc_free)

/* -- the VM's requests, within the disk's size; length > 0 -- */
int fut_reloc_read(FutReloc *reloc, void *buf, uint32_t length, uint64_t offset);
int fut_reloc_write(FutReloc *reloc, const void *buf, uint32_t length, uint64_t offset);
/* The range reads as zeroes afterwards. */
int fut_reloc_zero(FutReloc *reloc, uint64_t length, uint64_t offset, bool trim);
/* As zero with `trim`, of the whole blocks in the range only: what a discard does is free. */
int fut_reloc_trim(FutReloc *reloc, uint64_t length, uint64_t offset);
/* Fetches what is missing of the range. */
int fut_reloc_fetch(FutReloc *reloc, uint64_t length, uint64_t offset);
/* All that had returned is durable. */
int fut_reloc_flush(FutReloc *reloc);
/* How much from `offset` on, up to `length`, is alike, and whether that reads as zeroes. Not here counts as data. */
int fut_reloc_extent(FutReloc *reloc, uint64_t length, uint64_t offset, uint64_t *ret_length,
                     bool *ret_hole);

/* An owner of the disk at the source may still write to it: until this call, or the VM's first change here, reads are answered by the source
 * and nothing is kept. */
void fut_reloc_wake(FutReloc *reloc);
bool fut_reloc_asleep(const FutReloc *reloc);

/* -- the background copy -- */
typedef struct {
    uint64_t offset;
    uint32_t length;
    uint64_t first, end; /* blocks */
} FutCopyPiece;

/* Claims the next piece to fetch. False: none now; *ret_wait_ns says when to ask again (UINT64_MAX: something must happen first). */
bool fut_reloc_copy_next(FutReloc *reloc, uint64_t now_ns, FutCopyPiece *ret,
                         uint64_t *ret_wait_ns);
/* Its content has come after latency_ns. Keeps what is still missing. */
int fut_reloc_copy_store(FutReloc *reloc, const FutCopyPiece *piece, const void *data,
                         uint64_t latency_ns, uint64_t now_ns);
/* It could not be fetched. */
void fut_reloc_copy_drop(FutReloc *reloc, const FutCopyPiece *piece, uint64_t now_ns);
/* The source has a hole there: valid without being fetched. */
int fut_reloc_hole(FutReloc *reloc, uint64_t length, uint64_t offset);
/* Holes are known up to `offset`: the copy may go so far. UINT64_MAX: everywhere, or not to be known. */
void fut_reloc_holes_known(FutReloc *reloc, uint64_t offset);
/* Everything is valid: makes that durable and says so in the bitmap. From then on the source is not asked. */
int fut_reloc_complete(FutReloc *reloc);
bool fut_reloc_all_valid(FutReloc *reloc);
bool fut_reloc_is_complete(FutReloc *reloc);

/* -- control -- */
typedef struct {
    FutCopyPolicy policy;
    bool paused, adaptive, hurry;
    uint64_t rate; /* bytes a second */
} FutCopyControl;
FutCopyControl fut_reloc_control(FutReloc *reloc);
/* `hurry` fetches the rest whatever policy, pause and rate say. */
void fut_reloc_set_control(FutReloc *reloc, const FutCopyControl *control, uint64_t now_ns);

typedef struct {
    uint64_t size, blocks, valid_blocks, partial_blocks;
    bool complete;
    uint64_t reads, read_misses;        /* requests */
    uint64_t writes, flushes;           /* requests */
    uint64_t fetched, copied, holes;    /* bytes: on demand, by the copy, known to be zero */
    uint64_t window, under_way;         /* bytes of the copy */
    uint64_t fetch_ns_sum, fetch_count; /* fetches on demand */
    uint64_t store_errors;              /* fetched, but could not be kept */
    bool failed;                        /* the cache lost something: flushes fail from then on */
    FutProgressRates rates;             /* of the last seconds */
    uint64_t age_ns;                    /* since it was started */
} FutRelocStats;
void fut_reloc_stats(FutReloc *reloc, FutRelocStats *ret);
/* Takes note of what is here, for curve and rates; to be called some ten times a second while something is missing. */
void fut_reloc_note_progress(FutReloc *reloc);
/* What was here when, since the disk was started. Returns how many points. */
unsigned fut_reloc_curve(FutReloc *reloc, FutCurvePoint ret[FUT_CURVE_POINTS]);

#endif
