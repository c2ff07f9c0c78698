/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The file that remembers which blocks of a relocating disk are here. Little-endian, all offsets multiples of 4096:
 *
 *      0  header, slot 0                     identity of disk, cache and source; whether everything is here
 *   4096  header, slot 1
 *   8192  live header                        the boot in which the live image was written
 *  12288  live image                         the image's words as they are, written with every change
 *      .  page 0 slot 0, page 0 slot 1, page 1 slot 0, …   the image in pages, each with sequence number and checksum
 *
 * Two copies of the image, because two things can happen. When the process is killed, all it had written is still there: then the
 * live image is right to the last change. When the host goes down, the kernel may have written any part of it to the disk, and the
 * data it speaks of or not: then the live image is worth nothing (its boot is over), and the pages count. They are written by a flush,
 * after the data is durable, and made durable in turn; always into the slot that does not hold the last durable one, so that a page torn
 * by a power cut leaves the one before.
 *
 * No lock: the caller has one flush at a time, and writes the live image under the map's lock. */
#ifndef FUT_BITMAP_FILE_H
#define FUT_BITMAP_FILE_H

#include "block_map.h"
#include "reloc_io.h"

#define FUT_BITMAP_VERSION 1
#define FUT_BITMAP_PAGE 4096
#define FUT_BITMAP_URI_MAX 1024
#define FUT_BOOT_ID_SIZE 16

/* What a bitmap is of. */
typedef struct {
    uint64_t size;        /* of the disk, bytes */
    uint64_t cache_id[2]; /* tells one cache from another */
    char source[FUT_BITMAP_URI_MAX];
} FutBitmapIdentity;

typedef struct {
    uint64_t sequence; /* of the last durable one; 0: none yet */
    unsigned slot;     /* that holds it */
} FutBitmapSlot;

typedef struct {
    FutRelocIo *io; /* borrowed */
    FutBitmapIdentity identity;
    bool complete;
    FutBitmapSlot header;
    uint64_t live_at, pages_at; /* offsets */
    FutBitmapSlot *pages;
} FutBitmapFile;

/* Length of the file for a disk of that size. */
uint64_t fut_bitmap_file_length(uint64_t size);
/* Reads identity and `complete`. False without error: the file is empty or its making was cut short. FUT_ERR_UNSUPPORTED: a later
 * version; FUT_ERR_IO: not a bitmap, or damaged. */
bool fut_bitmap_file_look(FutRelocIo *io, FutBitmapIdentity *ret_identity, bool *ret_complete,
                          GError **error);
/* Makes a new one, durable when it returns. The file's old content must be gone. */
bool fut_bitmap_file_create(FutBitmapFile *file, FutRelocIo *io, const FutBitmapIdentity *identity,
                            GError **error);
/* Opens one that was looked at, and fills the map's image. *ret_live: it came from the live image, which is newer than the pages, so
 * that all pages are dirty now. */
bool fut_bitmap_file_open(FutBitmapFile *file, FutRelocIo *io, FutBlockMap *map,
                          const uint8_t boot_id[FUT_BOOT_ID_SIZE], bool *ret_live, GError **error);
void fut_bitmap_file_done(FutBitmapFile *file);

/* The live image becomes this boot's: written as a whole, then declared. 0 or errno. */
int fut_bitmap_file_live_start(FutBitmapFile *file, const FutBlockMap *map,
                               const uint8_t boot_id[FUT_BOOT_ID_SIZE]);
/* It is not to be believed any more (the cache lost something). */
int fut_bitmap_file_live_stop(FutBitmapFile *file);
int fut_bitmap_file_live_write(FutBitmapFile *file, const FutImageChange *change);

/* Writes a page into its other slot; fut_bitmap_file_page_durable() after the sync. */
int fut_bitmap_file_page_write(FutBitmapFile *file, uint64_t page,
                               const uint64_t words[FUT_IMAGE_PAGE_WORDS]);
void fut_bitmap_file_page_durable(FutBitmapFile *file, uint64_t page);
/* Writes the header anew (identity, complete) and makes it durable. */
int fut_bitmap_file_header_write(FutBitmapFile *file);

#endif
