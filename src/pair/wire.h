/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the two hosts of a pair say to each other: message types and bodies inside net's frames.
 * Little-endian; strings are u16 length + bytes, no NUL; reserved fields are zero and checked. */
#ifndef FUT_WIRE_H
#define FUT_WIRE_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "frame.h"
#include "fut_buf.h"

/* 3 has PROBES, 5 FLOWS, 6 tells in a CHECKPOINT what was released; a pair of which one host does not know them is refused. */
#define FUT_WIRE_VERSION_MIN 6
#define FUT_WIRE_VERSION 6
#define FUT_WIRE_NAME_MAX 63  /* VM and node names */
#define FUT_WIRE_TEXT_MAX 511 /* reasons */
#define FUT_WIRE_MACHINE_LINES_MAX 4096
#define FUT_WIRE_STATE_MAX (16u << 20) /* device state of one VM */
#define FUT_WIRE_PART_MAX (4u << 20)   /* delta stream in one frame */
#define FUT_WIRE_LINE_MAX 1023         /* one machine line */
#define FUT_WIRE_HELLO_MAX (1u << 20)  /* whole HELLO, all machine lines */
#define FUT_WIRE_PACKET_MAX (128u << 10)
#define FUT_WIRE_PROBES_MAX (512u << 10)
#define FUT_WIRE_FLOWS_MAX (64u << 10)
/* Key of the machine line that says which arbiter a host asks. */
#define FUT_WIRE_ARBITER_KEY "arbiter"

typedef enum {
    /* primary -> backup */
    FUT_MSG_HELLO = 1,      /* FutHello: first message of a connection, session 0 */
    FUT_MSG_PAGES = 2,      /* delta stream of the initial copy; applied at once */
    FUT_MSG_BARRIER = 3,    /* empty: "say when all of the copy is in" */
    FUT_MSG_EPOCH_PART = 4, /* u64 epoch, delta stream: part of an epoch too large for one frame */
    FUT_MSG_CHECKPOINT = 5, /* FutCheckpoint, delta stream: the last or only part; ends the epoch */
    FUT_MSG_INBOUND = 6,    /* FutInbound, packet: the guest saw this packet in that epoch */
    FUT_MSG_DISK = 7, /* FutDiskHead, data of a write: what happened to a disk (wire_disk.h) */
    /* FutDiskBase: whose image the primary thinks the backup has; before all else of a copy */
    FUT_MSG_DISK_BASE = 8,
    /* all probes of the guest's kernel, in place of those before (probe_definition.h) */
    FUT_MSG_PROBES = 9,
    /* the guest's connections when the first epoch begins (flow_list.h): of what passes from then on, the backup hears */
    FUT_MSG_FLOWS = 10,
    /* backup -> primary */
    /* FutWelcome: last message in session 0; both use its session from here on */
    FUT_MSG_WELCOME = 16,
    FUT_MSG_BARRIER_DONE = 17, /* empty */
    FUT_MSG_ACK = 18,          /* u64 epoch: the backup holds all of it */
    FUT_MSG_HANDOVER = 19,  /* empty: "give me the VM" (a person asked the backup to take over) */
    FUT_MSG_DISK_KEPT = 20, /* FutDiskKept: answer to DISK_BASE */
    FUT_MSG_DISK_SAFE = 21, /* u64: all before that mark is durable */
    /* either way */
    FUT_MSG_HEARTBEAT = 32, /* empty */
    FUT_MSG_BYE = 33,       /* text: why this end closes; FutByeCode in the frame's flags */
    FUT_MSG_PACKED = 34,    /* another message, compressed (wire_packed.h) */
} FutMsgType;

typedef enum {
    FUT_BYE_ERROR = 1, /* the text says what was wrong */
    /* hello not acceptable (mismatch, busy, ...): trying again will not help by itself */
    FUT_BYE_REFUSED = 2,
    FUT_BYE_BUSY = 3,      /* has a live peer already */
    FUT_BYE_UNPROTECT = 4, /* primary: protection ended on purpose, discard your image */
    FUT_BYE_TAKEN = 5,     /* backup: I run the VM now */
    /* backup, in a hand-over: granted, but could not start; the guest never ran here, take it
     * back */
    FUT_BYE_FAILED = 6,
} FutByeCode;

/* Cap of each type's body, as FutFrameCap. 0 says "unknown type" there, so types without a body
 * have a cap of 1 here; that they really are empty is checked with fut_wire_is_empty(). */
uint32_t fut_wire_cap(uint16_t type);
bool fut_wire_is_empty(uint16_t type);
const char *fut_wire_type_name(uint16_t type); /* "unknown" when it is */

/* A move: the primary's disks do not go over this link, and the backup takes the VM when it is handed
 * over and never otherwise. A backup wants what it was started for: a move, or not. */
#define FUT_FEATURE_MOVE 1u
/* Layout:  0 u16 version_min, 2 u16 version_max, 4 u32 features, 8 u64 nonce, 16 u64 generation,
 * 24 u32 heartbeat_ms, 28 u32 timeout_ms, 32 u64 reserved, 40 string vm, string node, u32 count
 * of machine lines, the lines as strings. The first four bytes keep their place in all versions. */
typedef struct {
    uint16_t version_min, version_max;
    uint32_t features; /* FUT_FEATURE_…; bits unknown to the receiver are ignored */
    uint64_t nonce;
    uint64_t generation;
    uint32_t heartbeat_ms; /* the primary's settings rule for both */
    uint32_t timeout_ms;
    char *vm;   /* owned */
    char *node; /* owned: the sender's host */
    /* owned, NULL-terminated: "key=value" lines; equal on both sides or refused */
    char **machine;
} FutHello;

/* Layout: 0 u16 version, 2 u16 reserved, 4 u32 session, 8 u64 generation, 16 u64 reserved, 24
 * string node. */
typedef struct {
    uint16_t version;    /* chosen */
    uint32_t session;    /* never 0 */
    uint64_t generation; /* the one accepted */
    char *node;          /* owned */
} FutWelcome;

#define FUT_CHECKPOINT_FINAL 1u  /* the VM is stopped after this one: hand-over */
#define FUT_CHECKPOINT_HASHED 2u /* memory_hash is set: compare */
#define FUT_CHECKPOINT_SIZE 48
/* Layout: 0 epoch, 8 memory_hash, 16 stream_length, 24 state_length, 28 flags, 32 parts, 36
 * outputs_length, 40 released. */
typedef struct {
    uint64_t epoch;
    uint64_t memory_hash;
    uint64_t stream_length; /* of the whole epoch, all parts, bytes */
    uint32_t state_length;  /* device state image, bytes */
    uint32_t flags;
    uint32_t parts;          /* EPOCH_PART frames before this one */
    uint32_t outputs_length; /* of the body's last bytes: the epoch's outputs (engine/resend.h);
                                counted in stream_length */
    uint64_t released; /* outputs of epochs up to this one have left the primary; less than epoch */
} FutCheckpoint;

#define FUT_INBOUND_SIZE 24
/* Layout: 0 epoch, 8 nic, 12 flags, 16 u64 reserved; the packet follows, at least one byte. */
typedef struct {
    uint64_t epoch;
    uint32_t nic;
    uint32_t flags;
} FutInbound;

/* Encoders append to `out`. What is encoded must keep the limits above (assertion); decoders
 * check them (FUT_ERR_PEER) and copy nothing that is longer than the body itself. Names and
 * lines must be printable UTF-8, lines have a "=". */
void fut_hello_encode(FutBuf *out, const FutHello *hello);
/* FUT_ERR_MISMATCH when the version ranges do not meet: the rest of the body is not looked at
 * then. */
FutHello *fut_hello_decode(const uint8_t *body, size_t length, GError **error);
void fut_hello_free(FutHello *hello);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FutHello, fut_hello_free)
void fut_welcome_encode(FutBuf *out, const FutWelcome *welcome);
FutWelcome *fut_welcome_decode(const uint8_t *body, size_t length, GError **error);
void fut_welcome_free(FutWelcome *welcome);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FutWelcome, fut_welcome_free)
void fut_checkpoint_encode(uint8_t at[FUT_CHECKPOINT_SIZE], const FutCheckpoint *checkpoint);
bool fut_checkpoint_decode(const uint8_t *body, size_t length, FutCheckpoint *ret, GError **error);
void fut_inbound_encode(uint8_t at[FUT_INBOUND_SIZE], const FutInbound *inbound);
bool fut_inbound_decode(const uint8_t *body, size_t length, FutInbound *ret, GError **error);
/* Text of a BYE, cut at FUT_WIRE_TEXT_MAX bytes and never inside a character. */
void fut_bye_encode(FutBuf *out, const char *text);
/* Text of a BYE made printable (control characters replaced), capped; caller frees. */
char *fut_bye_decode(const uint8_t *body, size_t length);

/* May this be a VM or node name (1 to FUT_WIRE_NAME_MAX bytes, printable)? */
bool fut_wire_name_ok(const char *name);
/* May this be a machine line? */
bool fut_wire_line_ok(const char *line);

/* First line in which two machines differ, as "what: here X, there Y"; NULL when equal. Caller
 * frees. */
char *fut_machine_difference(char *const *here, char *const *there);

#endif
