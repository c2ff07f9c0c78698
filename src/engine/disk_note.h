/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The note that is kept beside a disk's image: which image of the twin's it knows of, and on a primary the chunks in which the two may
 * differ. Layout, little-endian: 0 magic, 8 length, 16 u32 shift, 20 u32 disk, 24 u32 role + 1, 28 u32 reserved, 32 image, 40 mark,
 * 48 checksum of all before it, 56 reserved; from 64 on a bit for each chunk. */
#ifndef FUT_DISK_NOTE_H
#define FUT_DISK_NOTE_H

#include "disk_map.h"
#include "pair.h"

#define FUT_DISK_NOTE_HEAD 64

typedef struct {
    uint64_t length; /* of the disk, bytes */
    uint32_t shift;  /* log2 of a chunk's bytes */
    uint32_t disk;   /* number */
    FutRole role;    /* whose note it is: of who runs the guest, or of who follows */
    uint64_t image;  /* name of the backup's image; 0: nothing is known */
    uint64_t mark;   /* primary: the last one known to be safe. Backup: the last one that is */
} FutDiskNote;

size_t fut_disk_note_size(const FutDiskMap *map);
void fut_disk_note_put(uint8_t *at, const FutDiskNote *note);
/* False: there is none, or it is not whole. */
bool fut_disk_note_get(const uint8_t *at, FutDiskNote *ret);
bool fut_disk_note_differs(const uint8_t *at, uint64_t chunk);
void fut_disk_note_set(uint8_t *at, uint64_t chunk, bool differs);
void fut_disk_note_set_all(uint8_t *at, const FutDiskMap *map);

#endif
