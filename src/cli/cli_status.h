/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A status as people read it. Pure: JSON in, text out; what a VM does not tell shows as "-". */
#ifndef FUT_CLI_STATUS_H
#define FUT_CLI_STATUS_H

#include <glib.h>
#include <jansson.h>

/* Rows of one line a VM, under a heading. NULL ends it with the text; caller frees. */
typedef struct FutTable FutTable;
FutTable *fut_table_new(void);
void fut_table_add(FutTable *table, const json_t *status);
/* A VM that could not be asked: its name, and what is wrong. */
void fut_table_add_silent(FutTable *table, const char *vm, const char *why);
/* The text, columns aligned; frees the table. */
char *fut_table_end(FutTable *take_table);

/* One VM, one line a fact. */
char *fut_status_block(const json_t *status);

/* Two or three significant digits with the unit that fits; caller frees. */
char *fut_text_of_us(double us);
char *fut_text_of_bytes(double bytes);

#endif
