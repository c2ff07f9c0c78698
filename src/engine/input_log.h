/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Inbound packets that the guest was given and the backup was not told of yet: records in a buffer of fixed size, in order. A place is
 * counted from the log's beginning, never again. Not locked: whose it is says so. A record stays where it is until it is dropped and
 * another one put. Whoever reads this when the process has died in the middle of a call (last_words.h) finds whole records. */
#ifndef FUT_INPUT_LOG_H
#define FUT_INPUT_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wire.h"

#define FUT_INPUT_LOG_SIZE 65536u

struct iovec;

typedef struct {
    uint8_t *data;  /* owned */
    uint64_t base;  /* place of the first byte of `data` */
    uint64_t begin; /* the oldest record's place; atomic */
    uint64_t end;   /* behind the newest one; atomic */
    bool reading;   /* somebody reads a record: none is written over */
} FutInputLog;

typedef struct {
    uint64_t at_ns;      /* when it was put there */
    const uint8_t *body; /* of an INBOUND message; the log's */
    uint32_t length;
    uint64_t next; /* place of the record after it */
} FutInputRecord;

void fut_input_log_init(FutInputLog *log);
void fut_input_log_done(FutInputLog *log);
bool fut_input_log_empty(const FutInputLog *log);
/* `length`: of the pieces together. False: no room. */
bool fut_input_log_put(FutInputLog *log, uint64_t now_ns, const FutInbound *inbound,
                       const struct iovec *iov, int count, size_t length);
/* The first record at or after `place`; false: there is none. */
bool fut_input_log_get(const FutInputLog *log, uint64_t place, FutInputRecord *ret);
/* All records before `place`. */
void fut_input_log_drop(FutInputLog *log, uint64_t place);

#endif
