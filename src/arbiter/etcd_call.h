/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The members of an etcd cluster, and one request to one of them through etcd's JSON gateway. */
#ifndef FUT_ETCD_CALL_H
#define FUT_ETCD_CALL_H

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "etcd_login.h"

/* An answer is a record and little around it. */
#define FUT_ETCD_ANSWER_MAX 65536

typedef struct {
    GPtrArray *servers;        /* char *, "http://host:port" */
    char *prefix;              /* of keys; "/futago" unless the address has another */
    char *cacert, *cert, *key; /* files; NULL: none */
    FutEtcdLogin *login;       /* NULL: none */
} FutEtcd;

/* "URL[,URL...][/PREFIX][,cacert=FILE][,cert=FILE,key=FILE][,login=FILE]". FUT_ERR_ARG names what is wrong. */
bool fut_etcd_init(FutEtcd *etcd, const char *where, GError **error);
void fut_etcd_done(FutEtcd *etcd);

/* POSTs to /v3/`verb` of that server; returns the answer, an object; new reference. NULL: no
 * answer within REQUEST_MS or until the deadline, or one that etcd would not give; the text names
 * the server. With a login it authenticates first, if it has to. Any thread. */
json_t *fut_etcd_call(const FutEtcd *etcd, guint server, const char *verb, json_t *take_request,
                      uint64_t deadline_ns, GError **error);

#endif
