/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The answering side of a control socket: clients, their lines, the end of those that are slow or send junk. One thread. What the verbs
 * do is the owner's. */
#ifndef FUT_CONTROL_SERVER_H
#define FUT_CONTROL_SERVER_H

#include "control.h"

typedef struct {
    /* Result of a verb (new reference), or NULL with an error. `args` may be NULL. Sets *follow to the number (> 0) of a stream
     * of lines that the client wants from now on, in place of any other. */
    json_t *(*run)(void *opaque, const char *verb, json_t *args, unsigned *follow, GError **error);
    /* Appends a stream's lines from number *next on, and moves *next. True: there are more, for when these have gone. May be NULL. */
    bool (*lines)(void *opaque, unsigned stream, uint64_t *next, GString *out);
} FutControlServerOps;

typedef struct FutControlServer FutControlServer;
/* All borrowed. `listen_fd` is of fut_control_listen(); `wake_fd` is an eventfd. */
FutControlServer *fut_control_server_new(int listen_fd, int wake_fd, const FutControlServerOps *ops,
                                         void *opaque);
void fut_control_server_free(FutControlServer *server);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FutControlServer, fut_control_server_free)
/* Waits for clients or the eventfd, at most so long (-1: for ever), and serves. */
void fut_control_server_round(FutControlServer *server, int timeout_ms);

#endif
