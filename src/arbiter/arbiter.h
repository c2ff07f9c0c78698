/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Who may go on alone. An arbiter keeps one record a VM: generation, holder, and whether the holder
 * let go in an orderly way. A claim moves the generation from g - 1 to g for exactly one claimant,
 * whatever the race. Two hosts are told apart by their node names alone: these must differ.
 * Calls may block for some seconds: own thread. An arbiter object is not changed after it was
 * opened: any thread, also several at a time.
 */
#ifndef FUT_ARBITER_H
#define FUT_ARBITER_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

typedef enum {
    FUT_CLAIM_GRANTED,
    FUT_CLAIM_REFUSED,
    FUT_CLAIM_UNKNOWN
} FutClaim;

typedef struct {
    uint64_t generation; /* 0: no record yet */
    char *holder;        /* owned; node name, "" when none */
    bool
        released; /* the holder ended its VM on purpose in the generation before: anybody may start it
                      anew, nobody may take it over */
} FutArbiterRecord;
void fut_arbiter_record_clear(FutArbiterRecord *record);

typedef struct FutArbiter FutArbiter;
/* All members are mandatory, except where said. */
typedef struct {
    const char *kind;  /* prefix of the address: "file" */
    const char *usage; /* one line: form of the address */
    FutArbiter *(*open)(const char *where, const char *vm, GError **error);
    /* Compare and swap: record.generation == generation - 1 -> generation, held by node. GRANTED
     * also when the record already says (generation, node): an answer that got lost may be asked
     * for again. REFUSED: the record says that generation or a later one for somebody else;
     * *ret_text says who. UNKNOWN: nobody can tell (no access, a damaged record, or one that is older than
     * generation - 1, as an unmounted share has); *ret_text says why. Caller frees the text. */
    FutClaim (*claim)(FutArbiter *arbiter, uint64_t generation, const char *node, char **ret_text);
    bool (*read)(FutArbiter *arbiter, FutArbiterRecord *ret, GError **error);
    /* (generation, node) becomes (generation + 1, node, released), so that nobody is granted generation
     * + 1 any more; nothing happens when the record has moved on. */
    bool (*release)(FutArbiter *arbiter, uint64_t generation, const char *node, GError **error);
    /* What two arbiters must agree in to be one: kind and record, printable, one line. May ask the
     * arbiter. Caller frees. */
    bool (*identify)(FutArbiter *arbiter, char **ret_identity, GError **error);
    /* Optional. A person's word: the claim of (generation, node) is to be granted. */
    bool (*grant)(FutArbiter *arbiter, uint64_t generation, const char *node, GError **error);
    void (*close)(FutArbiter *arbiter);
} FutArbiterOps;

struct FutArbiter {
    const FutArbiterOps *ops;
};

/* "file:DIR" (one file a VM in it). FUT_ERR_ARG lists the kinds there are. */
FutArbiter *fut_arbiter_open(const char *address, const char *vm, GError **error);
/* NULL is fine. */
void fut_arbiter_close(FutArbiter *arbiter);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FutArbiter, fut_arbiter_close)
/* *ret_text is set, to "" when granted. */
FutClaim fut_arbiter_claim(FutArbiter *arbiter, uint64_t generation, const char *node,
                           char **ret_text);
/* Does the record say (generation, node)? Changes nothing. As claim, but UNKNOWN also where a claim
 * would be granted. */
FutClaim fut_arbiter_confirm(FutArbiter *arbiter, uint64_t generation, const char *node,
                             char **ret_text);
bool fut_arbiter_read(FutArbiter *arbiter, FutArbiterRecord *ret, GError **error);
bool fut_arbiter_release(FutArbiter *arbiter, uint64_t generation, const char *node,
                         GError **error);
/* Equal on two hosts whose arbiters keep the same record, else different. */
bool fut_arbiter_identify(FutArbiter *arbiter, char **ret_identity, GError **error);
/* FUT_ERR_UNSUPPORTED for the kinds that ask nobody. */
bool fut_arbiter_grant(FutArbiter *arbiter, uint64_t generation, const char *node, GError **error);
/* Whether the address has a known form: for those that only hand it on. Touches nothing. */
bool fut_arbiter_check(const char *address, GError **error);

/* For a VM started as primary: claims the next generation when nobody holds the VM, the holder let
 * go, or the holder is this node. FUT_ERR_REFUSED names the other holder and the remedy
 * (--force-generation after making sure that VM is dead: `force`). */
bool fut_arbiter_start(FutArbiter *arbiter, const char *node, bool force, uint64_t *ret_generation,
                       GError **error);

#endif
