/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The addresses by which the network knows a clone's NICs (flow/identity.h). They never change once the VM runs. */
#ifndef FUT_IDENTITIES_H
#define FUT_IDENTITIES_H

#include "identity.h"

#define FUT_IDENTITIES_MAX 32

typedef struct {
    unsigned count; /* of NICs; 0: the guest's own addresses are the network's */
    uint32_t given; /* bit by NIC */
    FutIdentity nic[FUT_IDENTITIES_MAX];
} FutIdentities;

/* "NIC=MAC[,OLD=NEW...]", once for each NIC. FUT_ERR_ARG. */
bool fut_identities_add(FutIdentities *identities, const char *text, GError **error);
/* The guest's own addresses are those of the machine (describe()'s lines). FUT_ERR_ARG: a NIC has none, or there is no such NIC. */
bool fut_identities_complete(FutIdentities *identities, char *const *machine, GError **error);
/* "NIC 0 is 52:54:00:12:34:56, and 10.0.0.5 is 10.0.0.6; NIC 1 ...". Caller frees. */
char *fut_identities_text(const FutIdentities *identities);

#endif
