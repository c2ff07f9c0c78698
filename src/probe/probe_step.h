/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where a probe takes an instruction's place (KVM), that instruction is carried out here: those with which the functions of a Linux kernel
 * begin (a nop, or a call of the kernel's own tracer), and a few that touch
 * registers only. Encodings: Intel SDM volume 2.
 */
#ifndef FUT_PROBE_STEP_H
#define FUT_PROBE_STEP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* An instruction; fits into one word, so that it can be exchanged while others read it. 0: none that is known. */
typedef uint64_t FutProbeStep;

/* 0: it is not one of those that can be carried out, or longer than `length`. */
FutProbeStep fut_probe_step_decode(const uint8_t *code, size_t length);
/* Bytes of the instruction. */
unsigned fut_probe_step_length(FutProbeStep step);
/*
 * Registers as x86 numbers them. `step` is not 0. Returns what is to be stored at the top of the stack, where the register points by
 * then; 0: nothing.
 */
uint64_t fut_probe_step_do(FutProbeStep step, uint64_t registers[16], uint64_t *instruction);

#endif
