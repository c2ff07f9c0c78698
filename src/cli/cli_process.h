/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Processes that outlive the command that starts them. */
#ifndef FUT_CLI_PROCESS_H
#define FUT_CLI_PROCESS_H

#include <glib.h>
#include <stdbool.h>
#include <sys/types.h>

/* Starts a program in a session of its own, with its output appended to file `log`. `take_socket` >= 0: a listening socket that the program is handed as
 * systemd would. 0 on error (FUT_ERR_IO names the program). The caller reaps it. */
pid_t fut_process_start(char *const *argv, const char *log, int take_socket, GError **error);
/* Still there? Reaps it when it is not. */
bool fut_process_runs(pid_t pid);
/* SIGTERM; SIGKILL after that time. Returns when it is gone. 0 is fine. */
void fut_process_end(pid_t pid, unsigned patience_ms);
/* The log's last line, for an error. Caller frees; "" when there is none. */
char *fut_process_last_words(const char *log);
/* A file of ours: built beside this executable (`built`, relative to its folder), else `installed`. Caller frees. */
char *fut_process_find(const char *built, const char *installed);

#endif
