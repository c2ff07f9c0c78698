/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The pair protocol as a pure state machine: messages, events and time go in, actions come out.
 * It holds no memory pages, no packets, no socket, no lock and no clock; whoever drives it (the
 * engine on real threads, the simulator on one) serialises all calls. After every call the
 * driver takes the actions with fut_pair_next_action() and carries them out in order.
 *
 * Rules kept here (ARCHITECTURE.md, "The rules of a pair"):
 *  - an epoch's outputs are released only by its ACK, or after the arbiter granted going on
 *    alone;
 *  - a host goes on alone or takes over only with the arbiter's grant of generation + 1;
 *  - a backup takes over only what it holds completely: the last committed epoch.
 */
#ifndef FUT_PAIR_H
#define FUT_PAIR_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "frame.h"
#include "fut_buf.h"
#include "wire.h"

typedef enum {
    FUT_ROLE_PRIMARY,
    FUT_ROLE_BACKUP
} FutRole;

typedef enum {
    /* primary */
    FUT_STATE_ALONE,      /* runs unprotected; no backup wanted */
    FUT_STATE_CONNECTING, /* runs unprotected; a backup is wanted, no link yet */
    FUT_STATE_GREETING,   /* link up, HELLO sent */
    FUT_STATE_COPYING,    /* the engine copies memory while the guest runs */
    FUT_STATE_SETTLING,   /* BARRIER sent */
    FUT_STATE_PROTECTING, /* outputs are held, first checkpoint not yet acknowledged */
    FUT_STATE_PROTECTED,
    /* peer lost after a checkpoint was sent; outputs stay held; the arbiter was asked */
    FUT_STATE_ASKING,
    FUT_STATE_HANDING, /* the arbiter was asked whether it is there; then final checkpoint wanted or sent,
                          the guest stopped from it on */
    FUT_STATE_FENCED, /* the twin runs the VM (or may): never run or release again */
    /* backup */
    FUT_STATE_WAITING,   /* no usable image */
    FUT_STATE_RECEIVING, /* link up, initial copy coming in */
    FUT_STATE_STANDBY,   /* holds a committed epoch, the primary is alive */
    FUT_STATE_CLAIMING,  /* primary lost (or handed over); the arbiter was asked */
    FUT_STATE_TAKING,    /* granted; the engine loads the image. Then ALONE as primary, or FAILED */
    FUT_STATE_FAILED,    /* the image could not be started */
    FUT_STATE_COUNT
} FutPairState;

const char *fut_role_name(FutRole role);
const char *fut_state_name(FutPairState state);

typedef enum {
    FUT_ACT_SEND,    /* type, flags, body */
    FUT_ACT_SESSION, /* number: use this session for all frames from here on, both directions */
    /* primary: connect to the configured backup (now; the driver answers link_up or link_down) */
    FUT_ACT_CONNECT,
    FUT_ACT_CLOSE, /* close the link; text says why. No link_down call is expected for it. */
    /* primary: start dirty logging and copy everything; call fut_pair_copied() when little is
     * left */
    FUT_ACT_START_COPY,
    FUT_ACT_STOP_COPY, /* primary: stop copying and dirty logging, forget the shadow */
    /* primary: from now on hold outputs (fut_pair_output_epoch() != 0); cut soon */
    FUT_ACT_HOLD,
    FUT_ACT_RELEASE,     /* primary: release outputs of epochs <= number */
    FUT_ACT_RELEASE_ALL, /* primary: stop holding; release everything in order */
    FUT_ACT_DROP_ALL,    /* primary: fenced; throw held outputs away */
    /* primary: cut now (final checkpoint of a hand-over: stay stopped after it) */
    FUT_ACT_CUT,
    FUT_ACT_HALT,   /* primary: stop the guest for good */
    FUT_ACT_RESUME, /* primary: hand-over came to nothing; let the guest run again */
    /* ask the arbiter for generation `number` (from number - 1), or to confirm the one this host has;
     * answer with fut_pair_answer() */
    FUT_ACT_ASK,
    /* backup: epoch `number` is complete: apply it. ACK was put before it on purpose. */
    FUT_ACT_APPLY,
    FUT_ACT_BARRIER_IN, /* backup: nothing to do but note that the copy is complete */
    FUT_ACT_DISCARD,    /* backup: image and logged packets are worthless now; forget them */
    /* backup: load the device state, run, announce, re-inject; then fut_pair_taken() */
    FUT_ACT_TAKE_OVER,
    /* text: something a person wants to know; id: stable message id "FUT-1xx" */
    FUT_ACT_REPORT,
} FutActionKind;

typedef struct {
    FutActionKind kind;
    uint64_t number;
    uint16_t type;       /* SEND */
    uint16_t flags;      /* SEND */
    const uint8_t *body; /* SEND: borrowed until the next fut_pair_next_action() call */
    uint32_t length;
    const char *text; /* REPORT, CLOSE: borrowed likewise */
    const char *id;
} FutAction;

typedef struct {
    FutRole role;
    const char *vm, *node; /* copied */
    char *const *machine;  /* copied */
    uint64_t
        generation; /* primary: the one it runs in, from the arbiter; 0: fut_pair_begin() tells */
    uint32_t heartbeat_ms; /* send something at least this often */
    uint32_t timeout_ms;   /* silence after which the peer is lost */
    uint32_t retry_ms;     /* between attempts to reach backup or arbiter */
    uint32_t commit_ms;    /* an epoch not acknowledged for this long: the backup is lost, alive or
                           not; 0 = never */
    unsigned window;       /* checkpoints under way at most; 1 or more */
    bool
        moving; /* backup: takes a VM that moves here, and only in a hand-over (FUT_FEATURE_MOVE) */
} FutPairConfig;

#define FUT_PAIR_WINDOW_MAX 64
/* What a HELLO may ask for; a backup refuses other values, timeout_ms must be the larger of the
 * two. */
#define FUT_PAIR_HEARTBEAT_MIN_MS 5
#define FUT_PAIR_HEARTBEAT_MAX_MS 10000
#define FUT_PAIR_TIMEOUT_MIN_MS 20
#define FUT_PAIR_TIMEOUT_MAX_MS 120000

typedef struct FutPair FutPair;
/* Names and machine lines must keep wire.h's limits, window 1..FUT_PAIR_WINDOW_MAX, times not 0
 * (assertions). The two hosts of a pair must have different node names: the arbiter knows them
 * by these (a backup refuses its own). */
FutPair *fut_pair_new(const FutPairConfig *config, uint64_t now_ns);
/* A primary made with generation 0 has got that one from the arbiter. Before anything else happens to it. */
void fut_pair_begin(FutPair *pair, uint64_t generation);
void fut_pair_free(FutPair *pair);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FutPair, fut_pair_free)

/* -- actions -- */
bool fut_pair_next_action(FutPair *pair, FutAction *ret);

/* -- events from below -- */
/* A link is up. nonce: random, handed in so that runs can be repeated. Primary: HELLO goes out.
 * Backup: HELLO is awaited, timeout_ms at most. A backup that has a link already must not call
 * this: it refuses strangers with fut_pair_busy_bye(). */
void fut_pair_link_up(FutPair *pair, uint64_t nonce, uint64_t now_ns);
/* Connecting failed, or the link is gone. */
void fut_pair_link_down(FutPair *pair, const char *why, uint64_t now_ns);
/* A frame whose checksums, session and sequence are right, and whose delta stream (if any)
 * passed fut_delta_check(). */
void fut_pair_frame(FutPair *pair, const FutFrame *frame, uint64_t now_ns);
/* The driver found fault with what the peer sent: BYE, close, and as if the link were lost. */
void fut_pair_bad_peer(FutPair *pair, const char *why, uint64_t now_ns);
/* Bytes arrived. A long frame under way counts as life, for 20 time-outs at most. On a primary it
 * counts not when the silence before was too long already: the link is lost then, whatever lay in
 * the socket. */
void fut_pair_alive(FutPair *pair, uint64_t now_ns);
/* Something was sent by the driver itself (pages, checkpoint): no heartbeat is due for a while. */
void fut_pair_sent(FutPair *pair, uint64_t now_ns);
/* Time passes; call at fut_pair_deadline() or later. */
void fut_pair_tick(FutPair *pair, uint64_t now_ns);
uint64_t fut_pair_deadline(const FutPair *pair); /* UINT64_MAX: none */

typedef enum {
    FUT_ANSWER_GRANTED,
    FUT_ANSWER_REFUSED,
    FUT_ANSWER_UNKNOWN
} FutAnswer;
/* The arbiter's answer to ASK of that generation; late answers to questions no longer open are
 * ignored... except that a late GRANTED is never lost: it is remembered as this host's
 * generation. text: who has it, or why nobody knows. */
void fut_pair_answer(FutPair *pair, FutAnswer answer, uint64_t generation, const char *text,
                     uint64_t now_ns);

/* -- events from the engine -- */
/* A backup is wanted (primary in ALONE). False with FUT_ERR_STATE in other states. */
bool fut_pair_protect(FutPair *pair, uint64_t now_ns, GError **error);
/* The same for a backup that only ever takes the VM in a hand-over, with disks that follow by other ways. */
bool fut_pair_move(FutPair *pair, uint64_t now_ns, GError **error);
/* This pair is for a move. */
bool fut_pair_moving(const FutPair *pair);
/* Ends protection on purpose (in a hand-over: until its final checkpoint); the backup is told to
 * discard. Outputs are released only after BYE was queued and the arbiter granted generation + 1
 * (the backup might not hear us). */
bool fut_pair_unprotect(FutPair *pair, uint64_t now_ns, GError **error);
/* Primary: hand the VM over. Backup: ask the primary for it; without a primary: claim. */
bool fut_pair_failover(FutPair *pair, uint64_t now_ns, GError **error);
void fut_pair_copied(FutPair *pair, uint64_t now_ns);
/* Primary: checkpoints cut and not acknowledged. */
uint64_t fut_pair_under_way(const FutPair *pair);
/* May a checkpoint be taken now (window not full, state right)? */
bool fut_pair_may_cut(const FutPair *pair);
/* The epoch ends here; returns its number; *ret_flags gets FUT_CHECKPOINT_FINAL in a hand-over.
 * Needs fut_pair_may_cut(). */
uint64_t fut_pair_cut(FutPair *pair, uint32_t *ret_flags, uint64_t now_ns);
/* Epoch that an output made now belongs to; 0 = do not hold, let it pass. UINT64_MAX = fenced:
 * drop it. */
uint64_t fut_pair_output_epoch(const FutPair *pair);
/* Result of TAKE_OVER (only then, once): on success the machine is a primary in ALONE at the new
 * generation. False only if the guest never ran here: in a hand-over the old primary then takes
 * it back. */
void fut_pair_taken(FutPair *pair, bool ok, const char *why, uint64_t now_ns);

/* Backup, before the frame of a CHECKPOINT: the ACK of it, and of all after it, waits for
 * fut_pair_written(). The epoch is committed all the same. */
void fut_pair_ack_late(FutPair *pair);
/* Backup: what was committed is on its disks, up to that epoch. */
void fut_pair_written(FutPair *pair, uint64_t epoch, uint64_t now_ns);
/* Backup: all before that mark is durable on its disks; tells the primary. */
void fut_pair_disk_safe(FutPair *pair, uint64_t mark, uint64_t now_ns);
/* Backup: its disks cannot follow the primary's, or its memory does not suffice. It gives its image up, tells the primary why and
 * claims nothing. Of no effect while the VM is being claimed or taken over: fut_pair_taken() says
 * what came of it then. */
void fut_pair_image_bad(FutPair *pair, const char *why, uint64_t now_ns);

/* Body of the BYE for a stranger while a live peer is connected. */
void fut_pair_busy_bye(const FutPair *pair, FutBuf *out);

/* -- sight -- */
typedef struct {
    FutRole role;
    FutPairState state;
    uint64_t generation;
    uint64_t epoch;     /* running (primary) or committed (backup) */
    uint64_t committed; /* last epoch acknowledged / acknowledgeable */
    unsigned in_flight;
    const char *peer_node; /* "" when none; borrowed */
    /* why the last link ended or protection failed; while a question to the arbiter is open and it
     * cannot answer, why that is; "" */
    const char *last_reason;
    bool linked;
} FutPairStatus;
void fut_pair_status(const FutPair *pair, FutPairStatus *ret);

/* Deliberate faults, for the simulator's proof that it would notice. Never set elsewhere. */
typedef enum {
    FUT_FAULT_NONE,
    /* outputs are released when the checkpoint is cut, not when acknowledged */
    FUT_FAULT_RELEASE_EARLY,
    FUT_FAULT_RELEASE_AHEAD, /* an acknowledgement releases all that was cut */
    FUT_FAULT_NO_ARBITER,    /* goes on alone without asking */
    FUT_FAULT_ACK_PART,      /* the backup acknowledges before the whole epoch is in */
    /* the engine's: a backup writes to its disks what was not committed; starts the guest before they have all that was */
    FUT_FAULT_DISK_EARLY,
    FUT_FAULT_DISK_LATE,
    /* the engine's: a twin keeps the outputs of its last epoch alone; a primary says of outputs that they left when they are about to */
    FUT_FAULT_KEEP_LAST,
    FUT_FAULT_SAY_EARLY,
    FUT_FAULT_DISK_TRUST, /* the VMM's: says that nobody touched an image, whoever did */
} FutPairFault;
void fut_pair_set_fault(FutPair *pair, FutPairFault fault);

#endif
