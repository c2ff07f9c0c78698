/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Cache and bitmap as files of this machine: a regular file or a block device, and a regular file beside it. */
#ifndef FUT_RELOC_FILES_H
#define FUT_RELOC_FILES_H

#include "bitmap_file.h"

typedef struct {
    FutRelocIo io;           /* to be handed to the disk */
    int cache_fd, bitmap_fd; /* bitmap_fd is -1 without one */
    uint64_t cache_size;     /* as found; 0: made anew, or empty */
    uint64_t cache_id[2];
    bool cache_used; /* there is, or may be, something in the cache */
} FutRelocFiles;

/* Opens both, makes them where they are not there, and locks them: FUT_ERR_BUSY if another process has them. Without a bitmap (NULL)
 * the cache must be there. */
bool fut_reloc_files_open(FutRelocFiles *files, const char *cache, const char *bitmap,
                          GError **error);
/* Gives the cache its size (a fresh regular file; a device must have it) and the bitmap its room. */
bool fut_reloc_files_prepare(FutRelocFiles *files, uint64_t size, GError **error);
/* Empties the bitmap. */
bool fut_reloc_files_reset(FutRelocFiles *files, GError **error);
void fut_reloc_files_close(FutRelocFiles *files);
/* Of the running kernel's boot; random where it cannot be read, so that no live image is believed. */
void fut_reloc_boot_id(uint8_t ret[FUT_BOOT_ID_SIZE]);

#endif
