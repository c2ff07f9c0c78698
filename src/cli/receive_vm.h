/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A VM that moves to this host: its disks' servers, its QEMU, and what becomes of them. One process for each VM. */
#ifndef FUT_RECEIVE_VM_H
#define FUT_RECEIVE_VM_H

#include <jansson.h>
#include <sys/types.h>

#include "address.h"
#include "cli.h"

/* What `futago receive` was told. */
typedef struct {
    FutAddress *listen;
    char *images; /* folder */
    char *node;
    char *tls, *tls_name; /* NULL: not encrypted */
    char **maps;          /* of fut_move_map(); may be NULL */
    bool insecure;
} FutReceiver;

#define FUT_RECEIVE_PORT 7190
/* HOST, HOST:PORT or tcp:HOST:PORT; FUT_ERR_ARG. */
FutAddress *fut_receive_address(const char *text, GError **error);
/* Between them: version of the conversation. */
#define FUT_RECEIVE_VERSION 1
#define FUT_RECEIVE_DISKS_MAX 32

typedef struct FutIncoming FutIncoming;
/* Starts everything that "prepare" asks for: servers whose sources are at `their_host`, a QEMU that waits for the VM at `our_host`.
 * *ret_to: where. On error nothing is left behind. */
FutIncoming *fut_incoming_new(const FutReceiver *receiver, const json_t *args,
                              const char *their_host, const char *our_host, char **ret_to,
                              GError **error);
/* Looks after it; call now and then. `connected`: the source's futago can be spoken to. False: it is over, and all was put away. */
bool fut_incoming_tick(FutIncoming *incoming, bool connected);
/* The source says that the VM stays there. False: it runs here or may be about to, and goes on. */
bool fut_incoming_abandon(FutIncoming *incoming);
/* It ran here, has ended, and all of its disks had come. */
bool fut_incoming_complete(const FutIncoming *incoming);
void fut_incoming_free(FutIncoming *incoming);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FutIncoming, fut_incoming_free)

/* "vm" (its status; null: it is not here; empty: it does not answer) and "disks" (theirs, up to one that is not there or does not answer) of any VM
 * of this host. */
json_t *fut_incoming_status(const char *vm);
/* Adds to that, where the VM is not here: "images", how many of its `count` disks' images lie here, and "whole", how many of these are complete. */
void fut_incoming_left(const FutReceiver *receiver, const char *vm, json_int_t count,
                       json_t *status);

/* Whoever is in here keeps others of this folder out. -1 on error; close it. */
int fut_receive_lock(const char *images, GError **error);
/* Is there room for `bytes` more, beside what the images that are there may still grow by? */
bool fut_receive_room(const char *images, uint64_t bytes, GError **error);

#endif
