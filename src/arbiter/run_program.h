/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Runs a program to its end, from a process with many threads and much memory: posix_spawn copies
 * no page tables. The program gets a process group of its own, "/" as its folder, the default
 * signals, nothing on its input and no other file of ours. Never a shell. Any thread. */
#ifndef FUT_RUN_PROGRAM_H
#define FUT_RUN_PROGRAM_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#define FUT_RUN_TEXT_MAX 4096

typedef struct {
    bool late;                         /* killed at the deadline; the rest then means little */
    int status;                        /* exit status; -1: ended by a signal */
    char output[FUT_RUN_TEXT_MAX + 1]; /* what it wrote, NUL bytes as blanks; the rest is dropped */
    char errors[FUT_RUN_TEXT_MAX + 1];
} FutRunResult;

/* argv[0] is the program's absolute path. At its end, or at the deadline, what is left of its
 * process group is killed. FUT_ERR_IO if it could not be run. */
bool fut_run_program(char *const *argv, char *const *env, uint64_t deadline_ns, FutRunResult *ret,
                     GError **error);

#endif
