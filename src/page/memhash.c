/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Hash of guest memory. */
#include "memhash.h"

#include <glib.h>
#include <xxhash.h>

#include "byteorder.h"

uint64_t fut_memory_hash(const FutMemory *memory)
{
    XXH3_state_t *state = XXH3_createState();
    g_assert(state);
    XXH3_64bits_reset(state);
    for (unsigned i = 0; i < memory->count; i++) {
        uint8_t length[8];
        fut_put_le64(length, memory->block[i].length);
        XXH3_64bits_update(state, length, sizeof(length));
        XXH3_64bits_update(state, memory->block[i].base, memory->block[i].length);
    }
    uint64_t hash = XXH3_64bits_digest(state);
    XXH3_freeState(state);
    return hash;
}
