/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is told of moves, as people read it. Pure. */
#ifndef FUT_RELOCATE_SHOW_H
#define FUT_RELOCATE_SHOW_H

#include <jansson.h>

/* One line, without a newline: VM, phase, bar, share, rate; or what came of it. `width`: of the longest VM's name. Caller frees. */
char *fut_relocate_line(const json_t *told, int width);

#endif
