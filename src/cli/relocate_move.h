/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One move under way: what the process that moves a VM knows, and what all its steps need. Not thread-safe. */
#ifndef FUT_RELOCATE_MOVE_H
#define FUT_RELOCATE_MOVE_H

#include <sys/types.h>

#include "cli_talk.h"
#include "relocate_export.h"
#include "relocate_vm.h"

#define FUT_MOVE_CALL_MS 10000
#define FUT_MOVE_STATUS_MS 10000
#define FUT_MOVE_LOOK_EVERY_US 200000

typedef struct {
    const FutRelocate *how;
    const char *vm;
    int out_fd;
    FutTls *tls;       /* NULL: not encrypted */
    char *spec, *user; /* what `tls` was made of; may be NULL */
    FutTalk *talk;     /* with the receiver; NULL: lost, or not yet */
    FutExport *disks;  /* [count] */
    size_t count;
    GPtrArray *words;
    int record; /* -1: none */
    pid_t qemu; /* the VM's; 0: not known yet */
    uint64_t qemu_birth;
    char *twin;    /* where the VM's twin was before */
    bool prepared; /* the receiver waits for the VM */
    bool parted;   /* from its twin */
    bool bound;    /* to the receiver's QEMU: from here on it may be handed over, by whomever */
    bool seen;     /* there, with the VM running */
    uint64_t
        stuck_ns; /* since when both have ended, and something lies there that nobody looks after; 0: not so */
} FutMove;

void fut_move_done(FutMove *move);

/* Lines of relocate_vm.h. */
void fut_move_tell(const FutMove *move, const char *phase, double share, double rate,
                   const char *text);
void fut_move_tell_end(const FutMove *move, const char *outcome, const char *text);

/* The VM's answer (new reference); takes the arguments over, NULL for none. FUT_ERR_STATE: refused, or its QEMU has ended. */
json_t *fut_move_ask(const FutMove *move, const char *verb, json_t *take_args, GError **error);
bool fut_move_order(const FutMove *move, const char *verb, json_t *take_args, GError **error);
bool fut_move_state_is(const json_t *status, const char *state);
bool fut_move_await_alone(const FutMove *move, GError **error);

/* Calls the other host, anew where it was called before. */
bool fut_move_call(FutMove *move, GError **error);

/* Base64 of it, or null. New reference. */
json_t *fut_move_coded(const char *text);
/* Writes the record. */
bool fut_move_note(const FutMove *move, GError **error);

/* -- relocate_end.c -- */

/* What the disks' servers have got is in the images; what cannot be is told. */
void fut_move_sync(const FutMove *move);
/* Does not give up: somebody has to end the exports. Never FUT_OUTCOME_OPEN. */
int fut_move_await_outcome(FutMove *move);
/* The VM is there: follows its disks until they are, too. */
void fut_move_finish(FutMove *move);
/* Until it is decided where the VM is, and what is to be done for that is done. `why` it is not to move; NULL: it is. */
void fut_move_bring_to_end(FutMove *move, const char *why);

/* -- relocate_follow.c -- */

/* Goes on from a record's content. False: nothing was done, nor can be told. */
bool fut_move_follow(const char *vm, const json_t *content, int out_fd, GError **error);

#endif
