/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Processes that outlive the command that starts them. */
#ifndef FUT_CLI_PROCESS_H
#define FUT_CLI_PROCESS_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

typedef struct {
    int socket; /* a listening one that the program is handed as systemd would; -1: none */
    int image;  /* becomes its descriptor 4; -1: none */
    bool apart; /* no child of ours: it lives on whatever ends us */
} FutProcessHow;
#define FUT_PROCESS_CHILD ((FutProcessHow){ -1, -1, false })

/* Starts a program in a session of its own, with its output appended to file `log`. The descriptors stay the caller's. 0 on error (FUT_ERR_IO names the
 * program). The caller reaps it, unless it is apart: see fut_process_birth(). */
pid_t fut_process_start(char *const *argv, const char *log, const FutProcessHow *how,
                        GError **error);
/* Still there? Reaps it when it is not. */
bool fut_process_runs(pid_t pid);
/* SIGTERM; SIGKILL after that time. Returns when it is gone. 0 is fine. */
void fut_process_end(pid_t pid, unsigned patience_ms);
/* When it began, as the kernel counts: tells a process from a later one with its number. 0: there is none, or it is dead. */
uint64_t fut_process_birth(pid_t pid);
/* As fut_process_end(), of the process that began then, whoever started it. */
void fut_process_end_one(pid_t pid, uint64_t birth, unsigned patience_ms);
/* The log's last line, for an error. Caller frees; "" when there is none. */
char *fut_process_last_words(const char *log);
/* A file of ours: built beside this executable (`built`, relative to its folder), else `installed`. Caller frees. */
char *fut_process_find(const char *built, const char *installed);

#endif
