/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Records in memory that other programs can map: futago_records.h is its layout. */
#ifndef FUT_RECORD_SHARE_H
#define FUT_RECORD_SHARE_H

#include "futago_records.h"
#include "record_ring.h"

typedef struct FutRecordShare FutRecordShare;

/* Memory without a name that can neither shrink nor be written by others. FUT_ERR_IO. */
FutRecordShare *fut_record_share_new(GError **error);
void fut_record_share_free(FutRecordShare *share);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FutRecordShare, fut_record_share_free)
/* Its file, which stays the share's. */
int fut_record_share_fd(const FutRecordShare *share);
/* One thread at a time, records in sequence. No allocation, no lock. */
void fut_record_share_put(FutRecordShare *share, const FutProbeRecord *record);

#endif
