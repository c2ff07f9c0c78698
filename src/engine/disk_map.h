/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the twin's copy of one disk lacks, by chunks; and the guest's writes that are under way. Pure: no I/O, no clock, no lock
 * (the engine's lock covers it).
 *
 * A chunk is needed, claimed or synced. The copy claims needed chunks, waits until no write is under way in them, reads and sends
 * them; then they are synced. A write into a claimed chunk waits. A write into a needed chunk stays here: the copy will read it. A
 * write into a synced chunk is sent. So the copy needs one pass, whatever the guest does, and order on the wire is order on disk.
 *
 * What was sent is not yet what the twin holds: it is remembered until confirmed, and needed again when the twin is lost.
 *
 * What the twin holds is not yet safe there from the end of its process or of its host. Marks in the stream tell: what changed before a
 * mark is safe once the twin says so. A chunk that changed since (recent), or before a mark not yet answered (old), may differ from
 * what a twin finds when it starts again. Whoever keeps a note of that beside the disk takes care that a chunk is noted before it
 * changes. */
#ifndef FUT_DISK_MAP_H
#define FUT_DISK_MAP_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#define FUT_CHUNK_SHIFT 20
#define FUT_CHUNK_SIZE (1ull << FUT_CHUNK_SHIFT)

typedef enum {
    FUT_CHUNK_NEEDED,
    FUT_CHUNK_CLAIMED,
    FUT_CHUNK_SYNCED
} FutChunkState;

/* Flags beside the state. */
#define FUT_CHUNK_RECENT 1u /* changed since the newest mark */
#define FUT_CHUNK_OLD 2u    /* changed before it, and not known to be safe */
#define FUT_CHUNK_NOTED 4u  /* the note says that it may differ, and will after a power cut, too */

/* A guest's write while it is under way. Owned by whoever carries it out; listed by the map. */
typedef struct FutDiskWrite FutDiskWrite;
struct FutDiskWrite {
    uint64_t offset, length;    /* bytes, length > 0 */
    bool sending;               /* set by begin: some of it will have to be sent */
    FutDiskWrite *next, **link; /* the map's */
};

typedef struct {
    uint64_t length; /* of the disk, bytes */
    unsigned shift;  /* log2 of a chunk's bytes */
    uint64_t chunks;
    uint64_t synced; /* chunks */
    uint8_t *state;  /* FutChunkState */
    uint8_t *flags;  /* FUT_CHUNK_* above */
    GArray *unnoted; /* uint64_t: chunks waiting to be noted, some twice */
    uint64_t cursor; /* where the copy looks next */
    uint64_t claim_first, claim_count;
    FutDiskWrite *writes;
    GArray *unconfirmed; /* Span, by epoch */
    guint marked;        /* of these, sent before the newest mark */
} FutDiskMap;

/* Everything is needed. length > 0. Chunks of 1 << shift bytes. */
void fut_disk_map_init(FutDiskMap *map, uint64_t length, unsigned shift);
void fut_disk_map_done(FutDiskMap *map);
/* Everything is needed (again). */
void fut_disk_map_forget(FutDiskMap *map);

/* -- the guest's writes -- */
/* False: not now, because the copy or an overlapping write is at it; ask again a little later. */
bool fut_disk_map_begin(FutDiskMap *map, FutDiskWrite *write);
/* Next piece of the write, from *at on (start with write->offset), that lies in synced chunks. False: no more. */
bool fut_disk_map_piece(const FutDiskMap *map, const FutDiskWrite *write, uint64_t *at,
                        uint64_t *ret_offset, uint64_t *ret_length);
void fut_disk_map_end(FutDiskMap *map, FutDiskWrite *write);
/* A range in synced chunks was sent; needed again unless `epoch` (not less than at the call before) is confirmed. */
void fut_disk_map_sent(FutDiskMap *map, uint64_t epoch, uint64_t offset, uint64_t length);
/* A range was written that nobody sent. */
void fut_disk_map_missed(FutDiskMap *map, uint64_t offset, uint64_t length);

/* -- the twin -- */
/* It holds all that was sent in epochs <= epoch. */
void fut_disk_map_confirm(FutDiskMap *map, uint64_t epoch);
/* It is lost, and the claim with it: what it may not hold is needed. */
void fut_disk_map_lost(FutDiskMap *map);

/* -- what is safe -- */
/* A mark is about to be sent. All that was reported as sent is on its way. */
void fut_disk_map_mark(FutDiskMap *map);
/* The newest mark was answered: all that was sent before it is there. */
void fut_disk_map_safe(FutDiskMap *map);
/* Then: calls back for each chunk that cannot differ any more. */
void fut_disk_map_clean(FutDiskMap *map, void (*clean)(void *opaque, uint64_t chunk), void *opaque);
/* The twin is another process than the one that held all that was confirmed: what is not safe is needed. */
void fut_disk_map_unsafe(FutDiskMap *map);
/* Is each chunk of the range noted? If not, those missing wait in map->unnoted. */
bool fut_disk_map_noted(FutDiskMap *map, uint64_t offset, uint64_t length);
/* As a disk's note says, from a process before: chunks that may differ are needed, the others synced. */
void fut_disk_map_load(FutDiskMap *map, bool (*differs)(void *opaque, uint64_t chunk),
                       void *opaque);

/* -- the copy -- */
/* Claims up to max_chunks needed chunks in a row. False: none is needed. One claim at a time. */
bool fut_disk_map_claim(FutDiskMap *map, uint64_t max_chunks, uint64_t *ret_offset,
                        uint64_t *ret_length);
bool fut_disk_map_claimed(const FutDiskMap *map);
/* No write is under way in what is claimed. */
bool fut_disk_map_quiet(const FutDiskMap *map);
/* Whole chunks of the claim were sent, `length` bytes from its start (to the disk's end at most); the rest is needed again. */
void fut_disk_map_copied(FutDiskMap *map, uint64_t length);

#endif
