/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A relocating disk's status as people read it. Pure. */
#ifndef FUT_CLI_DISK_H
#define FUT_CLI_DISK_H

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

/* One fact a line. Caller frees. */
char *fut_disk_block(const json_t *status);
/* One line: name, bar, share, rate, time left, and the curve of the shares so far. Caller frees. */
char *fut_disk_line(const json_t *status, const double *shares, size_t count);
/* Bytes: a number with an optional K, M, G or T (powers of 1024). */
bool fut_disk_parse_size(const char *text, uint64_t *ret);

#endif
