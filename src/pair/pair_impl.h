/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Inside of the pair state machine; nothing outside src/pair includes this.
 *
 * Every event is looked up in a table of rules, state x event. A missing rule means: a message
 * is the peer's fault, a command is refused, anything else is no longer of interest. pair.c
 * finds the event and the rule, pair_primary.c and pair_backup.c have the rules. */
#ifndef FUT_PAIR_IMPL_H
#define FUT_PAIR_IMPL_H

#include <inttypes.h>

#include "pair.h"

#include "byteorder.h"
#include "fut_clock.h"
#include "fut_error.h"

#define FUT_NEVER UINT64_MAX
/* A backup that refused will hardly change its mind: ask it less often. */
#define FUT_REFUSED_SLOWDOWN 10
/* A message must be whole after so many time-outs of bytes trickling in. */
#define FUT_MESSAGE_PATIENCE 20
/* Above this no generation is sane; keeps generation + 1 from wrapping. */
#define FUT_GENERATION_MAX (UINT64_C(1) << 62)

typedef enum {
    EV_LINK_UP,
    EV_LOST,   /* the link is gone, whoever ended it; or connecting failed */
    EV_TIMER,  /* retry_at_ns has come */
    EV_ANSWER, /* the arbiter's answer to the open question */
    EV_PROBED, /* likewise, to whether it answers at all */
    EV_PROTECT,
    EV_UNPROTECT,
    EV_FAILOVER,
    EV_COPIED,
    EV_TAKEN,
    EV_IMAGE_BAD, /* the backup cannot keep its disks up to date */
    EV_HELLO,     /* from here on: messages */
    EV_PAGES,
    EV_BARRIER,
    EV_EPOCH_PART,
    EV_CHECKPOINT,
    EV_INBOUND,
    EV_DISK,
    EV_DISK_BASE,
    EV_PROBES,
    EV_FLOWS,
    EV_WELCOME,
    EV_BARRIER_DONE,
    EV_ACK,
    EV_HANDOVER,
    EV_DISK_KEPT,
    EV_DISK_SAFE,
    EV_COUNT
} FutPairEvent;

/* What an event brings; only the members that belong to it are set. */
typedef struct {
    const FutFrame *frame; /* messages */
    const char *why;       /* LOST, ANSWER, TAKEN */
    uint16_t bye;          /* LOST: FutByeCode if the peer said BYE, else 0 */
    uint64_t nonce;        /* LINK_UP */
    FutAnswer answer;
    uint64_t generation; /* ANSWER: granted */
    bool ok;             /* TAKEN */
} FutPairInput;

typedef void (*FutPairRule)(FutPair *pair, const FutPairInput *in);
typedef FutPairRule FutPairRules[EV_COUNT];

extern const FutPairRules fut_primary_rules[FUT_STATE_COUNT];
extern const FutPairRules fut_backup_rules[FUT_STATE_COUNT];

/* One queued action with the memory its pointers need. */
typedef struct {
    FutAction action;
    uint8_t small[8]; /* body of the messages of the hot path */
    uint8_t *body;    /* owned; larger ones */
    char *text;       /* owned */
} FutQueued;

struct FutPair {
    /* configuration; strings owned */
    FutRole role;
    char *vm, *node;
    char **machine;
    uint32_t own_heartbeat_ms, own_timeout_ms, retry_ms, commit_ms;
    unsigned window;
    FutPairFault fault;

    FutPairState state;
    uint64_t generation;
    uint64_t now_ns;      /* time of the event under way; never goes back */
    uint64_t retry_at_ns; /* EV_TIMER; FUT_NEVER: none */

    /* the link */
    bool linked;
    bool session_on;   /* both ends agreed on a session: heartbeats are expected */
    bool connect_open; /* primary: CONNECT was not answered yet */
    uint64_t nonce;
    uint64_t heard_ns, sent_ns;
    uint64_t partial_since_ns; /* bytes came that are no whole message yet; FUT_NEVER: none */
    uint32_t heartbeat_ms, timeout_ms; /* in force: own, or the primary's on a backup */
    char *peer_node;                   /* owned, never NULL */
    char *last_reason;                 /* owned, never NULL */
    char *doubt; /* owned; why the arbiter cannot answer the open question, NULL: it did not say */
    char *said;  /* owned; last text of fut_pair_report_change(), NULL: none */

    /* primary */
    bool wanted;                 /* protection is wanted */
    bool moving;                 /* both: FUT_FEATURE_MOVE */
    bool copying;                /* START_COPY without STOP_COPY */
    bool holding;                /* HOLD without RELEASE_ALL or DROP_ALL */
    bool final_cut, final_acked; /* hand-over */
    bool probing; /* hand-over: the arbiter was asked whether it is there; nothing else has begun */
    uint64_t unacked_since_ns; /* since when the oldest epoch under way is; while in flight */
    uint64_t epoch;            /* the running one; 0 before HOLD */
    /* both: last epoch acknowledged. Of this session. */
    uint64_t committed;

    /* backup */
    bool image; /* memory was touched since the last DISCARD */
    bool barrier_in;
    uint64_t disk_epoch; /* of the last DISK */
    bool ack_late;       /* the next ACK has to wait */
    uint64_t ack_hold;   /* no ACK before this epoch is written; 0: none waits */
    uint64_t acked;      /* last epoch whose ACK was sent */
    bool acked_early;    /* FUT_FAULT_ACK_PART */
    uint32_t parts;      /* EPOCH_PARTs of committed + 1 so far */
    uint64_t part_bytes; /* their delta streams */

    /* actions: ring of `ring_size` places, `queued` of them in use from `first` on */
    FutQueued *ring;
    unsigned ring_size, first, queued;
    FutQueued taken; /* the one the driver looks at */
};

/* -- pair_actions.c -- */
void fut_act(FutPair *pair, FutActionKind kind);
void fut_act_number(FutPair *pair, FutActionKind kind, uint64_t number);
void fut_act_text(FutPair *pair, FutActionKind kind, const char *id, const char *text);
void fut_act_send(FutPair *pair, FutMsgType type, uint16_t flags, const void *body, size_t length);
void fut_act_send_epoch(FutPair *pair, FutMsgType type, uint64_t epoch);
void fut_act_bye(FutPair *pair, FutByeCode code, const char *text);
void fut_actions_done(FutPair *pair);

/* -- pair_report.c -- */
typedef enum {
    FUT_REPORT_COPYING,
    FUT_REPORT_PROTECTED,
    FUT_REPORT_UNREACHABLE,
    FUT_REPORT_REFUSED,
    FUT_REPORT_LOST,
    FUT_REPORT_NO_ANSWER,
    FUT_REPORT_ALONE,
    FUT_REPORT_FENCED,
    FUT_REPORT_HANDING,
    FUT_REPORT_HANDED,
    FUT_REPORT_TAKEN_BACK,
    FUT_REPORT_ENDED,
    FUT_REPORT_NOT_HANDING,
    FUT_REPORT_RECEIVING,
    FUT_REPORT_STANDBY,
    FUT_REPORT_REFUSING,
    FUT_REPORT_PRIMARY_LOST,
    FUT_REPORT_NO_CLAIM,
    FUT_REPORT_TAKING,
    FUT_REPORT_TAKEN,
    FUT_REPORT_FAILED,
    FUT_REPORT_DISCARDED,
    FUT_REPORT_ASKED_HANDOVER,
    FUT_REPORT_HANDED_US,
    FUT_REPORT_COUNT
} FutPairReport;

/* who, why: for {who} and {why} in the report's text (NULL: it has none); number for {n}. */
void fut_pair_report(FutPair *pair, FutPairReport report, const char *who, const char *why,
                     uint64_t number);
/* For things that are tried again and again: silent if the text is that of the last such report. */
void fut_pair_report_change(FutPair *pair, FutPairReport report, const char *who, const char *why,
                            uint64_t number);
/* Why a command is not possible in this state. */
const char *fut_state_explanation(FutPairState state);

/* -- pair.c -- */
FutPairRule fut_pair_rule(const FutPair *pair, FutPairEvent event);
/* False: the state has no rule for it, nothing happened. */
bool fut_pair_dispatch(FutPair *pair, FutPairEvent event, const FutPairInput *in);
/* Clears the retry timer. */
void fut_pair_set_state(FutPair *pair, FutPairState state);
void fut_pair_set_string(char **at, const char *text);
/* Protection is up: what went wrong before is of the past. */
void fut_pair_forget_reasons(FutPair *pair);
/* Asks the arbiter for generation + 1 and waits in `state` (ASKING, CLAIMING). */
void fut_pair_ask(FutPair *pair, FutPairState state);
/* Rule for EV_TIMER in those states: ask again. */
void fut_pair_ask_again(FutPair *pair, const FutPairInput *in);

/* -- pair_link.c -- */
/* First thing in an event: sets the time and ends a link that has been silent for too long. */
void fut_pair_enter(FutPair *pair, uint64_t now_ns);
/* The session is agreed on: tells the driver, starts heartbeats. */
void fut_pair_start_session(FutPair *pair, uint32_t session, const char *peer_node);
/* CLOSE, without the state's rule for a lost link: for rules that change the state themselves.
 * Nothing when not linked. */
void fut_pair_hang_up(FutPair *pair, const char *why);
/* The peer sent something wrong: BYE, CLOSE, and the state's rule for a lost link. */
void fut_pair_blame(FutPair *pair, const char *format, ...) G_GNUC_PRINTF(2, 3);
void fut_pair_retry_after(FutPair *pair, unsigned times);
/* Rule for EV_LINK_UP where no link has any use. */
void fut_pair_turn_away(FutPair *pair, const FutPairInput *in);

#endif
