/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A NIC that the network knows by other addresses than its guest does: so several clones of one guest, each of which believes to be the first, can
 * be on one network. Frames are changed in place on their way: hardware address and IPv4 addresses, in Ethernet, ARP, RARP, IPv4 and its
 * checksums. IPv6 does not pass, for its addresses are made of the hardware's and would be everybody's. What an application writes into its
 * data (DHCP among them) is not changed. Frames come from outside: what does not hold is changed as far as it does, and no further. */
#ifndef FUT_IDENTITY_H
#define FUT_IDENTITY_H

#include <glib.h>
#include <stddef.h>
#include <stdint.h>

#include "flow_frame.h"

#define FUT_IDENTITY_ADDRESSES_MAX 8

/* What the guest believes, and what others know; all in network order. */
typedef struct {
    uint8_t mac[2][6]; /* [0]: the guest's own, [1]: as the network knows it */
    unsigned count;
    uint8_t address[FUT_IDENTITY_ADDRESSES_MAX][2][4]; /* likewise; none twice */
} FutIdentity;

/* "MAC[,OLD=NEW...]": the network's hardware address and IPv4 addresses. The guest's own MAC is left as it is. FUT_ERR_ARG. */
bool fut_identity_parse(const char *text, FutIdentity *ret, GError **error);
/* A whole frame from the guest, or to it. `partial`: its checksum of TCP or UDP is yet to be completed by who sends it. False: it does not pass. */
bool fut_identity_change(const FutIdentity *identity, FutEnd from, uint8_t *frame, size_t length,
                         bool partial);

#endif
