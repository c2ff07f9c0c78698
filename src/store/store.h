/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A store: a folder of snapshots of VMs, as files. What each file holds is in store_format.h.
 *
 * A snapshot is a set of areas (memory blocks, disks, the device state), each an array of units of 4096 bytes. A unit of zeroes is not
 * stored, equal units are stored once, whichever area or snapshot they are of. Each snapshot has a tree of its own over each area, and
 * shares with its parent those parts of it that did not change: a differential snapshot costs what changed, and is read like a full one,
 * in as many steps; there is no chain to walk.
 *
 * Written so that a process or host which dies at any instant leaves whole snapshots only: data, then index, then manifest, each
 * durable before the next. One process writes at a time (a lock on the folder); readers take no lock.
 *
 * Locks: a FutStore and what was made from it belong to one thread at a time. Different threads open the store twice. */
#ifndef FUT_STORE_H
#define FUT_STORE_H

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store_fs.h"

#define FUT_UNIT_SHIFT 12
#define FUT_UNIT_SIZE (1u << FUT_UNIT_SHIFT)
#define FUT_STORE_AREAS_MAX 320         /* of a snapshot: memory blocks, disks, state */
#define FUT_STORE_AREA_MAX (1ull << 50) /* bytes of one area */
#define FUT_STORE_ID_SIZE 16
#define FUT_STORE_FLOWS_MAX (256u << 10)
#define FUT_STORE_HOT_MAX (32u << 10)
#define FUT_STORE_CODE_MAX (320u << 10)

typedef struct FutStore FutStore;
typedef struct FutSnapshotWriter FutSnapshotWriter;
typedef struct FutSnapshot FutSnapshot;

typedef enum {
    FUT_AREA_MEMORY,
    FUT_AREA_DISK,
    FUT_AREA_STATE /* of devices and vCPUs: one at most, added by fut_snapshot_put_state() */
} FutAreaKind;

typedef struct {
    FutAreaKind kind;
    char *name;         /* as the VMM's describe() calls it; "" for the state */
    uint64_t length;    /* bytes */
    uint64_t root;      /* place of the tree's root; the store's own */
    uint64_t put_units; /* that were written and differ from the parent's */
} FutArea;

/* What there is to say of a snapshot. All texts are UTF-8 or bytes without a zero; NULL counts as empty. */
typedef struct {
    uint64_t id; /* from 1, never used again; given by fut_store_begin() unless it is not 0 */
    uint64_t
        parent; /* the snapshot whose content stands where nothing is put; 0: zeroes stand there */
    uint64_t time_us;     /* of the cut: microseconds since 1970, UTC */
    uint64_t stop_ns;     /* how long the guest was stopped for it */
    uint64_t took_ns;     /* from the cut until all was read */
    uint64_t memory_hash; /* fut_memory_hash() at the cut; 0: not taken */
    uint64_t stored;      /* bytes that it added to the store; set by the commit */
    char *vm;             /* its name */
    char *reason;         /* why it was taken, for people */
    char **command;       /* QEMU's command line; NULL-terminated */
    char **fingerprint;   /* describe()'s lines; NULL-terminated */
    GPtrArray *areas;     /* of FutArea */
    GBytes
        *flows; /* the guest's connections at the cut, as who took it wrote them; NULL: not known */
    GBytes *hot;  /* likewise: the pages that the guest used last */
    GBytes *code; /* likewise: the pieces of code that were translated for it */
} FutSnapshotInfo;

FutSnapshotInfo *fut_snapshot_info_new(void);
FutSnapshotInfo *fut_snapshot_info_copy(const FutSnapshotInfo *info);
void fut_snapshot_info_free(FutSnapshotInfo *info);
/* Number of the new area, 0.. */
unsigned fut_snapshot_info_add(FutSnapshotInfo *info, FutAreaKind kind, const char *name,
                               uint64_t length);
/* The area of that kind and name; NULL if there is none. */
const FutArea *fut_snapshot_info_area(const FutSnapshotInfo *info, FutAreaKind kind,
                                      const char *name, unsigned *ret_number);
static inline const FutArea *fut_snapshot_info_nth(const FutSnapshotInfo *info, unsigned area)
{
    return (const FutArea *)info->areas->pdata[area];
}

/* -- the store -- */

typedef enum {
    FUT_STORE_READ,
    FUT_STORE_WRITE,
    FUT_STORE_CREATE /* likewise, and makes it where there is none (an empty folder, or no folder) */
} FutStoreMode;

/* FUT_ERR_ARG: no store there; FUT_ERR_UNSUPPORTED: of a later version; FUT_ERR_IO. */
FutStore *fut_store_open(const char *path, FutStoreMode mode, GError **error);
/* Likewise over any file system; takes it over, also when it fails. */
FutStore *fut_store_open_fs(FutStoreFs *take_fs, FutStoreMode mode, GError **error);
void fut_store_close(FutStore *store);
const char *fut_store_path(const FutStore *store);

typedef struct {
    uint64_t id;
    char *what; /* one line, names the file */
} FutDamagedSnapshot;

/* All whole snapshots, oldest first: GPtrArray of FutSnapshotInfo, caller unrefs. *ret_damaged (if not NULL) gets a FutDamagedSnapshot for each
 * manifest that cannot be read; such a snapshot is left out. Takes no lock: also while somebody writes. */
GPtrArray *fut_store_list(FutStore *store, GPtrArray **ret_damaged, GError **error);
/* The newest that fits: "" or NULL any; "12" the one with that ID; "2026-11-30T02:10" or "02:10:30" (today, local time), or "-90s", "-5m",
 * "-2h", "-1d": the newest that is not younger. `vm`: of that VM only, NULL any. FUT_ERR_ARG says what there is;
 * FUT_ERR_IO names the manifest that cannot be read and may be the one that is meant. */
FutSnapshotInfo *fut_store_find(FutStore *store, const char *which, const char *vm, GError **error);
bool fut_store_delete(FutStore *store, uint64_t id, GError **error);

/* -- writing -- */

#define FUT_STORE_LOCK_WAIT_MS 10000

/* Begins a snapshot: takes the store's lock (FUT_ERR_BUSY after `wait_ms`). With a parent, each area must be one of the parent's, with the
 * same length (FUT_ERR_MISMATCH), and the parent must be there (FUT_ERR_STATE): take a full one then. `min_free`: bytes that have to stay
 * free in the file system, FUT_ERR_STATE when that cannot be, now or in any call that follows. */
FutSnapshotWriter *fut_store_begin(FutStore *store, const FutSnapshotInfo *info, uint64_t min_free,
                                   unsigned wait_ms, GError **error);
/* Content from `offset` (a multiple of 4096) on; `length` a multiple of 4096, or up to the area's end. In any order; put twice, the later
 * counts. After an error the snapshot can only be aborted. */
bool fut_snapshot_put(FutSnapshotWriter *writer, unsigned area, uint64_t offset,
                      const uint8_t *data, uint64_t length, GError **error);
/* Likewise zeroes. */
bool fut_snapshot_put_zeroes(FutSnapshotWriter *writer, unsigned area, uint64_t offset,
                             uint64_t length, GError **error);
/* The device state, once. */
bool fut_snapshot_put_state(FutSnapshotWriter *writer, const uint8_t *state, size_t length,
                            GError **error);
/* What is not known at the beginning. */
void fut_snapshot_note_times(FutSnapshotWriter *writer, uint64_t time_us, uint64_t stop_ns,
                             uint64_t took_ns, uint64_t memory_hash);
/* The guest's connections at the cut; of the bytes the store knows nothing. At most FUT_STORE_FLOWS_MAX. */
void fut_snapshot_note_flows(FutSnapshotWriter *writer, const uint8_t *bytes, size_t length);
/* Likewise the pages it used last, at most FUT_STORE_HOT_MAX. */
void fut_snapshot_note_hot(FutSnapshotWriter *writer, const uint8_t *bytes, size_t length);
/* Likewise the pieces of its code, at most FUT_STORE_CODE_MAX. */
void fut_snapshot_note_code(FutSnapshotWriter *writer, const uint8_t *bytes, size_t length);
/* After an error of put or put_zeroes: it is the parent's files, and not this snapshot's, that cannot be read. A full one would do. */
bool fut_snapshot_parent_damaged(const FutSnapshotWriter *writer);
uint64_t fut_snapshot_writer_id(const FutSnapshotWriter *writer);
/* Stored so far: units put, of these new ones, bytes written. */
typedef struct {
    uint64_t put, zero, known, bytes;
} FutWriteStats;
FutWriteStats fut_snapshot_write_stats(const FutSnapshotWriter *writer);
/* Durable when it returns true; the info as it is now in *ret_info (if not NULL). Frees the writer either way and gives the lock back; false:
 * the snapshot is not there, and what it had written neither. */
bool fut_snapshot_commit(FutSnapshotWriter *take_writer, FutSnapshotInfo **ret_info,
                         GError **error);
void fut_snapshot_abort(FutSnapshotWriter *take_writer);

/* -- reading -- */

/* Has all files it needs: what is pruned or merged later does not touch it, as they are open, or (when they are many, FUT_STORE_FILES_MAX)
 * stay until it is closed. FUT_ERR_IO names the file that is damaged or missing. */
FutSnapshot *fut_snapshot_open(FutStore *store, uint64_t id, GError **error);
/* Another reader of the same, for another thread: one reader is one thread's at a time. Of the same open files, cannot fail. */
FutSnapshot *fut_snapshot_copy(const FutSnapshot *snapshot);
void fut_snapshot_close(FutSnapshot *snapshot);
/* Can all its files still be read, also those that are not open just now? FUT_ERR_IO names one that cannot. Of what is in them nothing is checked. */
bool fut_snapshot_reachable(const FutSnapshot *snapshot, GError **error);
const FutSnapshotInfo *fut_snapshot_info(const FutSnapshot *snapshot);
/* One unit, anywhere: FUT_UNIT_SIZE bytes; what lies behind the area's end is zeroes. *ret_zero (if not NULL): all of it is. A few
 * microseconds where its neighbours were read before, else some tens and a read of up to 64 KiB. */
bool fut_snapshot_read(FutSnapshot *snapshot, unsigned area, uint64_t unit, uint8_t *buffer,
                       bool *ret_zero, GError **error);
/* Called for each stored unit of a range, 512 units at a time in order and in any order within; false ends it (the error is the callback's). */
typedef bool (*FutUnitSink)(void *opaque, uint64_t unit, const uint8_t *data, GError **error);
bool fut_snapshot_each(FutSnapshot *snapshot, unsigned area, uint64_t first, uint64_t count,
                       FutUnitSink sink, void *opaque, GError **error);
/* The device state, all of it. Caller frees. */
uint8_t *fut_snapshot_state(FutSnapshot *snapshot, size_t *ret_length, GError **error);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(FutStore, fut_store_close)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FutSnapshotInfo, fut_snapshot_info_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FutSnapshot, fut_snapshot_close)

#endif
