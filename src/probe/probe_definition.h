/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a person has asked for: probes as text, apart from any kernel; and all of them as bytes, as they travel to the backup
 * (the body of a PROBES message). Little-endian:
 *
 *   0 u64 syscall_entry, 8 u64 table, 16 u32 five_levels (0 or 1), 20 u32 count, 24 u64 reserved; then each definition:
 *   u32 flags; name, text, filter, symbols: u16 length and that many bytes, no NUL (filter, symbols: 0 = none)
 */
#ifndef FUT_PROBE_DEFINITION_H
#define FUT_PROBE_DEFINITION_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "fut_buf.h"

#define FUT_PROBE_SET_MAX 32u              /* definitions in a set */
#define FUT_PROBE_SET_BYTES_MAX (1u << 19) /* encoded */
#define FUT_PROBE_PATH_MAX 1023u
#define FUT_PROBE_NAME_MAX 63u

typedef struct {
    char *name, *text; /* never NULL */
    char *
        function; /* that the text names, as fut_probe_text_point() says it; NULL in what is handed to fut_probe_definition_new() */
    char *filter, *symbols; /* NULL: none; symbols: an absolute path */
    bool wait;              /* for the kernel (or its module) to be there */
    bool disabled;
} FutProbeDefinition;

/* Copies; name NULL: that of the function. FUT_ERR_ARG: the text or the filter cannot be read, or the name or path cannot be one. */
FutProbeDefinition *fut_probe_definition_new(const FutProbeDefinition *from, GError **error);
void fut_probe_definition_free(FutProbeDefinition *definition);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FutProbeDefinition, fut_probe_definition_free)

typedef struct {
    /* Where the kernel is that they were put into; 0: they were not. */
    uint64_t syscall_entry;
    uint64_t table; /* guest-physical, the kernel's own */
    bool five_levels;
    GPtrArray *definitions; /* owned, of owned FutProbeDefinition */
} FutProbeSet;

FutProbeSet *fut_probe_set_new(void);
void fut_probe_set_free(FutProbeSet *set);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FutProbeSet, fut_probe_set_free)
/* Appends it. At most FUT_PROBE_SET_MAX definitions (assertion). */
void fut_probe_set_encode(FutBuf *out, const FutProbeSet *set);
/* FUT_ERR_PEER: these bytes are none; each definition is checked as fut_probe_definition_new() does, and no name is there twice. */
FutProbeSet *fut_probe_set_decode(const uint8_t *body, size_t length, GError **error);

#endif
