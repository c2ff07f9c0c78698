/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The pieces of code that a VMM had translated for its guest, as a snapshot keeps them: compressed by Zstandard. For those of one page, at one address and
 * with the same flags, a head, followed by a number of 16 bits for each, its place in the page; all little-endian. It is a hint, and read as one: what is
 * wrong with it costs time at most. */
#ifndef FUT_CODE_LIST_H
#define FUT_CODE_LIST_H

#include "store.h"
#include "vmm.h"

#define FUT_CODES_NOTED 32768u /* pieces in a list that is written */
#define FUT_CODES_TAKEN 65536u /* pieces taken from a list that is read */

/* Replaces what is in `buf`, by nothing if there are none. The first come first, together with others of their page; what has no room is left out. */
void fut_code_list_encode(FutBuf *buf, const FutCode *codes, size_t count);
/* Of FutCode, in pages of this snapshot's memory; empty if there is no list, or none that can be. Caller unrefs. */
GArray *fut_code_list_decode(const FutSnapshotInfo *info);

#endif
