/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A kernel's symbols from a file: System.map (or /proc/kallsyms as text), or vmlinux with its symbol table. */
#ifndef FUT_SYMBOL_FILE_H
#define FUT_SYMBOL_FILE_H

#include "kallsyms.h"

/* Addresses are those that the kernel was linked for. FUT_ERR_ARG: it cannot be read, or holds no symbols. */
FutKallsyms *fut_symbol_file_read(const char *path, GError **error);

#endif
