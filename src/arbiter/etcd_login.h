/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A user of etcd: name and password in a file, and the token that etcd gave for them last. */
#ifndef FUT_ETCD_LOGIN_H
#define FUT_ETCD_LOGIN_H

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>

typedef struct FutEtcdLogin FutEtcdLogin;

/* The file has one line, USER:PASSWORD, and nobody but its owner (the user QEMU runs as, or root) has access to
 * it. It is read once here, to find fault with it, and again at each authentication. FUT_ERR_ARG. */
FutEtcdLogin *fut_etcd_login_new(const char *path, GError **error);
/* NULL is fine. */
void fut_etcd_login_free(FutEtcdLogin *login);

/* Any thread. */
/* Body of etcd's auth/authenticate; new reference. */
json_t *fut_etcd_login_request(const FutEtcdLogin *login, GError **error);
/* NULL: none yet. Caller frees. */
char *fut_etcd_login_token(FutEtcdLogin *login);
void fut_etcd_login_set_token(FutEtcdLogin *login, const char *token);

#endif
