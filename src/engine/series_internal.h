/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Shared by series*.c. */
#ifndef FUT_SERIES_INTERNAL_H
#define FUT_SERIES_INTERNAL_H

#include "engine_internal.h"

/* Who writes waits while there is no room to copy aside what was there, but not longer than this in one go: then the snapshot
 * is given up. */
#define FUT_SERIES_STALL_NS (100 * FUT_NS_PER_MS)
/* Pages that are handed over, and let go, at a time: a large page of the host's. */
#define FUT_SERIES_GROUP 512

struct FutSeriesPage {
    FutSeriesPage *next;
    uint64_t key;
    uint8_t data[FUT_PAGE_SIZE];
};

/* Of a disk. */
struct FutSeriesPiece {
    FutSeriesPiece *next;
    unsigned disk;
    uint64_t offset, length;
    uint8_t data[];
};

/* The round that begins is of all pages: the first of a full one that is not copied ahead. */
static inline bool fut_series_takes_all(const FutSeries *series)
{
    return series->order.full && !series->ahead && series->rounds == 0;
}
/* Lock held: this snapshot does not come about. */
void fut_series_give_up(FutEngine *engine, GError *take_error);
/* Lock held: is there room to copy something aside? Gives up when there was none for too long. */
bool fut_series_has_room(FutEngine *engine, uint64_t now_ns);
/* Thread of the steps, no lock: nobody waits for what follows (on), or somebody may again. */
void fut_series_background(FutEngine *engine, bool on);
/* Lock held: keeps a page of the set as it is. */
void fut_series_copy_aside(FutEngine *engine, uint64_t key);
/* Adds all pages that may hold other than zeroes. */
void fut_series_add_resident(FutEngine *engine, FutPageMap *map);
/* One thread, no lock. False: copies go on being made in the stop alone. */
void fut_series_early_init(FutEngine *engine);
void fut_series_early_done(FutEngine *engine);
/* Makes some of the room ready that copies need. False: it is. */
bool fut_series_prepare_some(FutEngine *engine);
/* While nobody waits: touches some of the room, so that the next one does not meet memory new to this process. False: that was all. */
bool fut_series_early_touch(FutEngine *engine);
/* Lock held: can that many written pages be copied, rather than protected, in the next round? */
bool fut_series_early_fits(const FutEngine *engine, uint64_t count);
/* Lock held, at a cut: what was written since the copies were made is not good any more, nor what was handed over ahead. */
void fut_series_early_cut(FutSeries *series);
/* Thread of the steps, no lock: copies what is to be done. */
void fut_series_early_copy(FutEngine *engine);
/* Thread of the steps: hands over some of what is good. *ret_any: there was some. */
bool fut_series_early_hand(FutEngine *engine, bool *ret_any, GError **error);
/* Lock held: of the snapshot that is over. */
void fut_series_early_forget(FutSeries *series);
/* To the order's sink. */
bool fut_series_hand_pages(FutEngine *engine, uint64_t key, const uint8_t *data, uint64_t count,
                           GError **error);
/* A backup's way to the instant: ARMING, GUARDING, CUTTING. */
FutStep fut_series_image_step(FutEngine *engine);
/* Nobody waits for the instant any more. */
void fut_series_image_unwanted(FutEngine *engine);

#endif
