/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Message bodies about disks. A DISK says what was done to one disk: by the initial copy (epoch 0,
 * done on the backup at once), or by the guest in an epoch (done when that epoch is committed). */
#ifndef FUT_WIRE_DISK_H
#define FUT_WIRE_DISK_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#define FUT_WIRE_DISK_MAX (1u << 20) /* data in one DISK */

typedef enum {
    FUT_DISK_WRITE = 1,   /* the data follows the head */
    FUT_DISK_ZEROES = 2,  /* the range reads as zeroes; no data */
    FUT_DISK_DISCARD = 3, /* likewise, and should cost no space */
    FUT_DISK_FLUSH = 4,   /* what was written before is made durable; no range, no data */
    /* all that was done to shared disks in this epoch and before is durably on them; no range, no
     * data */
    FUT_DISK_STORED = 5,
    /* offset is a number: when all that came before, on all disks, is durable, DISK_SAFE says so */
    FUT_DISK_MARK = 6,
} FutDiskKind;

/* Does it change what the disk holds? */
static inline bool fut_disk_kind_changes(FutDiskKind kind)
{
    return kind == FUT_DISK_WRITE || kind == FUT_DISK_ZEROES || kind == FUT_DISK_DISCARD;
}

#define FUT_DISK_HEAD_SIZE 40
/* Layout: 0 epoch, 8 offset, 16 length, 24 disk, 28 kind, 32 u64 reserved. */
typedef struct {
    uint64_t epoch;
    uint64_t offset, length; /* bytes; 0, 0 with FLUSH and STORED; number > 0, 0 with MARK */
    uint32_t disk;           /* number, in the order of the machine lines; 0 with STORED */
    FutDiskKind kind;
} FutDiskHead;

#define FUT_DISK_BASE_SIZE 24
/* Layout: 0 base, 8 next, 16 mark. A backup that still holds the image called `base`, with that mark or the one after it, needs only
 * what changed since, and its image keeps its name. Otherwise it is called `next` from here on. */
typedef struct {
    uint64_t base; /* 0: none is known */
    uint64_t next; /* never 0 */
    uint64_t mark;
} FutDiskBase;

#define FUT_DISK_KEPT_SIZE 24
/* Layout: 0 base, 8 mark, 16 life. The backup's answer. */
typedef struct {
    uint64_t base; /* the image is that one; 0: it is not */
    uint64_t mark; /* the last one that is durable */
    /* of the backup's process, random, never 0: the same one as before holds all that it acknowledged, another one what is durable */
    uint64_t life;
} FutDiskKept;

/* As in wire.h: what is encoded keeps the limits (assertion), decoders check them (FUT_ERR_PEER).
 * The length of a DISK's body is that of head and data together. */
void fut_disk_head_encode(uint8_t at[FUT_DISK_HEAD_SIZE], const FutDiskHead *head);
bool fut_disk_head_decode(const uint8_t *body, size_t length, FutDiskHead *ret, GError **error);
void fut_disk_base_encode(uint8_t at[FUT_DISK_BASE_SIZE], const FutDiskBase *base);
bool fut_disk_base_decode(const uint8_t *body, size_t length, FutDiskBase *ret, GError **error);
void fut_disk_kept_encode(uint8_t at[FUT_DISK_KEPT_SIZE], const FutDiskKept *kept);
bool fut_disk_kept_decode(const uint8_t *body, size_t length, FutDiskKept *ret, GError **error);

#endif
