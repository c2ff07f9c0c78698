/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Fuzz targets: one function each, called by replay.c or by a fuzzing engine that knows its name. */
#ifndef FUT_TESTS_FUZZ_H
#define FUT_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>

/* `data` has exactly `size` bytes of memory. Returns 0; anything wrong is an assertion. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
