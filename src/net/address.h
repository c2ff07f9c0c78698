/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Where a peer listens: "tcp:HOST:PORT", "HOST:PORT", "tcp:[V6]:PORT" or "unix:PATH". */
#ifndef FUT_ADDRESS_H
#define FUT_ADDRESS_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

typedef enum {
    FUT_ADDRESS_TCP,
    FUT_ADDRESS_UNIX
} FutAddressKind;

typedef struct {
    FutAddressKind kind;
    char *host; /* owned; TCP: name or number, no brackets */
    uint16_t port;
    char *path; /* owned; UNIX */
} FutAddress;

/* FUT_ERR_ARG names the culprit and the accepted forms. */
FutAddress *fut_address_parse(const char *text, GError **error);
void fut_address_free(FutAddress *address);
/* Canonical text; caller frees. */
char *fut_address_text(const FutAddress *address);
/* True for unix sockets and 127.0.0.0/8, ::1, localhost. */
bool fut_address_is_local(const FutAddress *address);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FutAddress, fut_address_free)

#endif
