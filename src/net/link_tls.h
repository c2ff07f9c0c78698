/* SPDX-License-Identifier: GPL-2.0-or-later */
/* TLS 1.3 over a link, in both directions with proof: certificates of one private authority, or a
 * key both ends hold (QEMU's file formats).
 *
 *   x509:DIR   ca-cert.pem, server-cert.pem, server-key.pem, client-cert.pem, client-key.pem, and
 *              ca-crl.pem if there is one: what QEMU's tls-creds-x509 reads. A host of a pair
 *              listens as a backup and calls as a primary, so that it needs both certificates.
 *   psk:FILE   lines USER:HEXKEY, as psktool writes and QEMU's tls-creds-psk reads (keys.psk).
 *
 * Paths are absolute. A key that anybody else may read is refused. */
#ifndef FUT_LINK_TLS_H
#define FUT_LINK_TLS_H

#include "link.h"

typedef struct FutTls FutTls; /* credentials; immutable, any thread */

/* The form of the text only; FUT_ERR_ARG. */
bool fut_tls_check(const char *spec, const char *names, GError **error);
/* Reads and judges the files. `names` may be NULL. x509: names parted by commas, one of which the
 * peer's certificate must carry (default: any certificate of the authority will do). psk: the user
 * whose key is used (default "futago"). FUT_ERR_ARG or FUT_ERR_IO, with file and remedy. */
FutTls *fut_tls_new(const char *spec, const char *names, GError **error);
FutTls *fut_tls_ref(FutTls *tls);
void fut_tls_unref(FutTls *tls);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FutTls, fut_tls_unref)
/* "x509" or "psk". */
const char *fut_tls_kind(const FutTls *tls);

/* From here on the link speaks TLS: fut_link_handshake() comes next. Who listens is the server.
 * Before the link is used or shared. */
void fut_link_start_tls(FutLink *link, FutTls *tls, bool server);

#endif
