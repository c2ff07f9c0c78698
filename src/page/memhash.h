/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Hash of guest memory (XXH3, 64 bit): proves that two hosts hold the same image. Hashed are,
 * for each block in order, its length (u64, little-endian) and its bytes. The guest must not
 * run. */
#ifndef FUT_MEMHASH_H
#define FUT_MEMHASH_H

#include "pageset.h"

uint64_t fut_memory_hash(const FutMemory *memory);

#endif
