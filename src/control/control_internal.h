/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of this folder share: socket addresses of paths. */
#ifndef FUT_CONTROL_INTERNAL_H
#define FUT_CONTROL_INTERNAL_H

#include <glib.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/un.h>

/* FUT_ERR_ARG when the path does not fit into a socket address. */
bool fut_control_address(const char *path, struct sockaddr_un *ret, GError **error);

#endif
