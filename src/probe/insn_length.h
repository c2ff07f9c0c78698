/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Where x86 instructions end, in 64-bit mode. Encodings: Intel SDM volume 2, appendix A. */
#ifndef FUT_INSN_LENGTH_H
#define FUT_INSN_LENGTH_H

#include <stddef.h>
#include <stdint.h>

/* The longest an x86 instruction can be. */
#define FUT_INSN_BYTES_MAX 15u

/* Of the instruction that begins at `code`. 0: it is none, is longer than `length`, or is not one that kernels are compiled to. */
size_t fut_insn_length(const uint8_t *code, size_t length);
/* Of ModRM, SIB and displacement. 0: they are longer than `length`. */
size_t fut_insn_address_length(const uint8_t *code, size_t length);

#endif
