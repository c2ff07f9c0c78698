/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a test's kernel has in its image: a symbol table, in either order of its parts. */
#ifndef FUT_KERNEL_FIXTURE_H
#define FUT_KERNEL_FIXTURE_H

#include <glib.h>
#include <string.h>

#include "byteorder.h"

#define KERNEL_BASE UINT64_C(0xffffffff81000000)
#define KERNEL_SYMBOLS 1500u
#define KERNEL_CURRENT 0x1fc00
#define KERNEL_BTF 0x400000 /* from the base */

static inline void align(GByteArray *image, unsigned bytes)
{
    static const uint8_t zeros[64];

    g_byte_array_append(image, zeros, (bytes - image->len % bytes) % bytes);
}

static inline void add_number(GByteArray *image, uint64_t number, unsigned bytes)
{
    uint8_t raw[8];

    fut_put_le64(raw, number);
    g_byte_array_append(image, raw, bytes);
}

/* A name of the table: its type, then itself. */
static inline char *symbol(unsigned number)
{
    switch (number) {
    case 0:
        return g_strdup("T_text");
    case 1:
        return g_strdup("Acurrent_task");
    case 2:
        return g_strdup("Dsome_data");
    case 3: /* a length of more than one byte */
        return g_strdup_printf("t%0200u", number);
    case 4:
        return g_strdup("D__start_BTF");
    case 5:
        return g_strdup("D__stop_BTF");
    case 6:
        return g_strdup("Dlinux_banner");
    case 7:
        return g_strdup("t__send_signal_locked");
    case 8:
        return g_strdup("Djiffies_64");
    case 9:
        return g_strdup("Dmodules");
    case 10:
        return g_strdup("Dbtf_modules");
    default:
        return g_strdup_printf("tfunction_%u", number);
    }
}

/* From the base. */
static inline int64_t symbol_offset(unsigned number, uint32_t btf_bytes)
{
    return number == 4   ? KERNEL_BTF
           : number == 5 ? KERNEL_BTF + (int64_t)btf_bytes
                         : (int64_t)number * 16;
}

static inline void add_offsets(GByteArray *image, uint32_t btf_bytes)
{
    for (unsigned i = 0; i < KERNEL_SYMBOLS; i++) {
        int64_t relative = -1 - symbol_offset(i, btf_bytes);
        add_number(image, i == 1 ? KERNEL_CURRENT : (uint64_t)relative, 4);
    }
    align(image, 8);
    add_number(image, KERNEL_BASE, 8);
}

/* Each character is a token; those that no name holds stand for two. */
static inline void add_tokens(GByteArray *image)
{
    uint8_t index[512];
    unsigned place = 0;

    align(image, 8);
    for (unsigned token = 0; token < 256; token++) {
        char text[3] = { (char)token, '\0', '\0' };
        if (!g_ascii_isgraph(token)) {
            strcpy(text, "zz");
        }
        fut_put_le16(index + 2 * token, (uint16_t)place);
        g_byte_array_append(image, (const uint8_t *)text, strlen(text) + 1);
        place += strlen(text) + 1;
    }
    align(image, 8);
    g_byte_array_append(image, index, sizeof(index));
}

static inline void add_names(GByteArray *image)
{
    uint32_t markers[KERNEL_SYMBOLS / 256 + 1];
    size_t begin;

    add_number(image, KERNEL_SYMBOLS, 8);
    begin = image->len;
    for (unsigned i = 0; i < KERNEL_SYMBOLS; i++) {
        g_autofree char *name = symbol(i);
        size_t length = strlen(name);
        if (i % 256 == 0) {
            markers[i / 256] = image->len - begin;
        }
        add_number(image, length < 128 ? length : (length & 0x7f) | 0x80 | length >> 7 << 8,
                   length < 128 ? 1 : 2);
        g_byte_array_append(image, (const uint8_t *)name, length);
    }
    align(image, 8);
    for (unsigned i = 0; i < G_N_ELEMENTS(markers); i++) {
        add_number(image, markers[i], 4);
    }
}

static inline GByteArray *kernel_image(bool since_6_4, uint32_t btf_bytes)
{
    GByteArray *image = g_byte_array_new();

    /* What the kernel has before, some of it like a table's beginning. */
    for (unsigned i = 0; i < 1000; i++) {
        add_number(image, i % 3 ? 2000 : UINT64_C(0x3130003000), 8);
    }
    if (!since_6_4) {
        add_offsets(image, btf_bytes);
    }
    add_names(image);
    add_tokens(image);
    if (since_6_4) {
        add_offsets(image, btf_bytes);
    }
    align(image, 64);
    g_byte_array_set_size(image, image->len + 4096);
    memset(image->data + image->len - 4096, 0xcc, 4096);
    return image;
}

#endif
