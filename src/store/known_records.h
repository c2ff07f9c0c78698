/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Records that are in the store, by their hash: so that equal ones are stored once. A table of fixed size (12 MiB): it forgets, which costs
 * space and nothing else. */
#ifndef FUT_KNOWN_RECORDS_H
#define FUT_KNOWN_RECORDS_H

#include "pack.h"

typedef struct FutKnownRecords FutKnownRecords;

FutKnownRecords *fut_known_records_new(void);
void fut_known_records_free(FutKnownRecords *known);
/* Place of the record with that hash; 0: not known. It may have been removed since. */
/* It will be looked for in a moment: the table is large, and memory slow. */
void fut_known_records_expect(const FutKnownRecords *known, const uint8_t hash[FUT_HASH_SIZE]);
uint64_t fut_known_records_find(const FutKnownRecords *known, const uint8_t hash[FUT_HASH_SIZE]);
void fut_known_records_add(FutKnownRecords *known, const uint8_t hash[FUT_HASH_SIZE],
                           uint64_t place);
/* Adds what is in the packs, the newest, up to the table's size. Damaged hashes are left out. */
void fut_known_records_load(FutKnownRecords *known, const FutPackSet *set);

#endif
