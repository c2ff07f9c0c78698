/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The file beside a disk's image in which the engine keeps its note (vmm.h), mapped into memory. A head of ours tells whether the
 * image is as this VMM left it: nobody may have written to it later than we did.
 *
 * Layout, in the host's byte order (the file never leaves it): FutQnoteHead, then from FUT_QNOTE_HEAD on what is the engine's.
 */
#ifndef FUT_QNOTE_H
#define FUT_QNOTE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A sector: the engine's own head has the next one to itself. */
#define FUT_QNOTE_HEAD 512

typedef struct {
    uint64_t magic;
    uint64_t inode;     /* of the image */
    int64_t touched_ns; /* real time: when we last began or ended something that may write to it */
    int64_t clock_ns;   /* by how much real time was ahead of the time since boot then */
    uint32_t busy;      /* of these, under way */
    uint32_t reserved;
    char boot[40]; /* the host's boot, when touched_ns was set first */
} FutQnoteHead;

typedef struct {
    char *path;    /* NULL: closed */
    uint8_t *file; /* mapped */
    size_t bytes;
} FutQnote;

/* image: a regular file. False: it can have no note. *ret_same: as vmm.h says. Main thread, before the guest runs. */
bool fut_qnote_open(FutQnote *note, const char *image, size_t bytes, bool *ret_same);
bool fut_qnote_sync(FutQnote *note);
/* Removes the file; what is stored from here on reaches nobody. */
void fut_qnote_drop(FutQnote *note);

/* Around everything that may write to the image; closed notes take no notice. Any thread. */
void fut_qnote_begin(FutQnote *note);
void fut_qnote_end(FutQnote *note);

#endif
