/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Little-endian loads and stores at any alignment: the byte order of all Futago formats. */
#ifndef FUT_BYTEORDER_H
#define FUT_BYTEORDER_H

#include <endian.h>
#include <stdint.h>
#include <string.h>

#define FUT_LE_ACCESS(bits)                                                                        \
    static inline void fut_put_le##bits(void *at, uint##bits##_t value)                            \
    {                                                                                              \
        value = htole##bits(value);                                                                \
        memcpy(at, &value, sizeof(value));                                                         \
    }                                                                                              \
    static inline uint##bits##_t fut_get_le##bits(const void *at)                                  \
    {                                                                                              \
        uint##bits##_t value;                                                                      \
        memcpy(&value, at, sizeof(value));                                                         \
        return le##bits##toh(value);                                                               \
    }

FUT_LE_ACCESS(16)
FUT_LE_ACCESS(32)
FUT_LE_ACCESS(64)

#undef FUT_LE_ACCESS

#endif
