/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Inside TLS: credentials and what they do for a session. */
#ifndef FUT_TLS_INTERNAL_H
#define FUT_TLS_INTERNAL_H

#include <gnutls/gnutls.h>
#include <gnutls/x509.h>

#include "link_internal.h"
#include "link_tls.h"

typedef struct {
    const char *name;     /* before the colon of a specification */
    const char *priority; /* GnuTLS's string of what may be spoken */
    bool (*check_names)(const char *names, GError **error);
    /* Fills in its members of `tls`. */
    bool (*load)(FutTls *tls, const char *path, const char *names, GError **error);
    void (*unload)(FutTls *tls);
    /* Credentials into a session. */
    void (*use)(FutTls *tls, gnutls_session_t session, bool server);
    /* Who the peer has proved to be; NULL and the reason when it has not. Caller frees. */
    char *(*judge)(FutTls *tls, gnutls_session_t session, bool server, char **ret_why);
} FutTlsKind;

extern const FutTlsKind fut_tls_x509;
extern const FutTlsKind fut_tls_psk;

struct FutTls {
    gatomicrefcount refs;
    const FutTlsKind *kind;
    union {
        struct {
            gnutls_certificate_credentials_t server, client;
            char **names; /* owned; NULL: any */
        } x509;
        struct {
            gnutls_psk_server_credentials_t server;
            gnutls_psk_client_credentials_t client;
            char *user;         /* owned */
            gnutls_datum_t key; /* owned */
        } psk;
    };
};

/* -- files -- */

/* Whole file with a NUL behind it. A secret must be a regular file of ours or root's that nobody
 * else may read or write. Free with fut_tls_forget(). */
bool fut_tls_read(const char *path, bool secret, gnutls_datum_t *ret_data, GError **error);
/* Wipes and frees. */
void fut_tls_forget(gnutls_datum_t *data);

/* The stream over a descriptor; keeps a reference to the credentials. */
FutStream *fut_stream_tls_new(int fd, FutTls *tls, bool server);

#endif
