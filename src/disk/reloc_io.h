/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a relocating disk stands on: two local files, and the source. Tables of functions, so that tests can put faults, crashes
 * and power cuts in their place. All return 0 or an errno value; any thread may call any of them at any time. */
#ifndef FUT_RELOC_IO_H
#define FUT_RELOC_IO_H

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum {
    FUT_RELOC_CACHE, /* the disk's content, block n at n * FUT_BLOCK_SIZE */
    FUT_RELOC_BITMAP /* which of it is valid */
} FutRelocFile;

typedef struct FutRelocIo FutRelocIo;
/* All mandatory. */
typedef struct {
    /* All `length` bytes; what lies beyond the end of the bitmap's file reads as zeroes. */
    int (*read)(FutRelocIo *io, FutRelocFile file, void *buf, size_t length, uint64_t offset);
    int (*write)(FutRelocIo *io, FutRelocFile file, const void *buf, size_t length,
                 uint64_t offset);
    /* The range of the cache reads as zeroes afterwards. `trim`: its room may be given back. */
    int (*zero)(FutRelocIo *io, uint64_t offset, uint64_t length, bool trim);
    /* All writes that had returned are durable. */
    int (*sync)(FutRelocIo *io, FutRelocFile file);
    /* Length of what is alike at `offset` of the cache, up to `length`, and whether it is a hole (reads as zeroes, takes no room). */
    int (*extent)(FutRelocIo *io, uint64_t offset, uint64_t length, uint64_t *ret_length,
                  bool *ret_hole);
} FutRelocIoOps;
struct FutRelocIo {
    const FutRelocIoOps *ops;
};

typedef struct FutRelocSource FutRelocSource;
typedef struct {
    /* Reads from the source, waiting as long as is allowed (then ETIMEDOUT or EIO). */
    int (*read)(FutRelocSource *source, void *buf, uint32_t length, uint64_t offset);
    /* Whoever waits should give up, because nobody is left to answer to. */
    bool (*cancelled)(FutRelocSource *source);
} FutRelocSourceOps;
struct FutRelocSource {
    const FutRelocSourceOps *ops;
};

#endif
