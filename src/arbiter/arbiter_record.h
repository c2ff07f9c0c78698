/* SPDX-License-Identifier: GPL-2.0-or-later */
/* An arbiter's record as a line of text, and what it says about a claim: the same for all kinds.
 *
 *   futago-arbiter 1 generation=7 holder=hostA state=active      (or state=released), and a newline
 *
 * An orderly end takes a generation of its own: (7, hostA, active) becomes (8, hostA, released). So a
 * twin that did not hear of it and claims 8 is refused as if another had it; a new start claims 9.
 */
#ifndef FUT_ARBITER_RECORD_H
#define FUT_ARBITER_RECORD_H

#include "arbiter.h"

/* Names of VMs and nodes go into the line, into file names and into keys. */
bool fut_arbiter_name_ok(const char *name);

#define FUT_ARBITER_LINE_MAX 512
char *fut_arbiter_line(uint64_t generation, const char *holder, bool released);
/* Only what fut_arbiter_line() writes is understood, byte for byte. */
bool fut_arbiter_line_parse(const char *line, FutArbiterRecord *ret);

/* The record says (generation, node), and the VM has not been ended since. */
bool fut_arbiter_record_is(const FutArbiterRecord *record, uint64_t generation, const char *node);
/* GRANTED: the record may be written, or says so already. `where` the record is and `doubt`, a
 * question to a person, go into the text when the record is older than a claim supposes. */
FutClaim fut_arbiter_judge(const FutArbiterRecord *record, uint64_t generation, const char *node,
                           const char *where, const char *doubt, char **ret_text);

#endif
