/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Capture: turns a stopped guest into the frames of one epoch. The one mechanism behind checkpoints and the initial copy.
 *
 * Device state is treated as one more memory block (the last), so that the same delta codec makes it small. The shadow is what the
 * backup holds; encoding compares guest memory with it and brings it up to date in one pass.
 * Used by one thread at a time: the VMM's cut thread, or the copy thread while no checkpoint can be cut. */
#ifndef FUT_CAPTURE_H
#define FUT_CAPTURE_H

#include "delta.h"
#include "pair.h"
#include "vmm.h"

typedef struct {
    size_t offset; /* of the body in stream */
    uint32_t length;
    uint16_t type; /* FUT_MSG_EPOCH_PART or FUT_MSG_CHECKPOINT */
} FutCapturePart;

typedef struct {
    FutMemory live;   /* guest memory, and the device state as last block */
    FutMemory shadow; /* what the backup holds; count == 0 while closed */
    FutResident live_resident, shadow_resident; /* while open */
    FutStateImage state;                        /* the VMM's */
    bool state_encoded; /* all of it went into the epoch before: changes are enough for the next */
    bool state_whole;
    FutPageSet dirty; /* written since the last capture */
    FutBuf stream;    /* bodies of the epoch's frames, one after the other */
    GArray *parts;    /* FutCapturePart */
    size_t part_keys; /* in one part at most */
    FutCheckpoint head;
    FutDeltaStats stats;
} FutCapture;

/* part_pages_max: pages in one frame of an epoch; 0 = as many as the wire allows. */
void fut_capture_init(FutCapture *capture, const FutMemory *guest, size_t part_pages_max);
void fut_capture_done(FutCapture *capture);
/* Allocates an all-zero shadow (address space only; pages cost memory as they are copied). */
bool fut_capture_open(FutCapture *capture, GError **error);
void fut_capture_close(FutCapture *capture);

/* Guest stopped: saves the device state. FUT_ERR_UNSUPPORTED when it is larger than the wire allows. */
bool fut_capture_state(FutCapture *capture, FutVmm *vmm, GError **error);
/* Guest stopped, after fut_capture_state(): encodes everything in `dirty` and the device state into parts. */
void fut_capture_epoch(FutCapture *capture, uint64_t epoch, uint32_t flags);
/* After it: one of the epoch's outputs, for the twin to send again. False: no more of them. */
bool fut_capture_output(FutCapture *capture, const FutPacket *packet);
/* Last: the parts are ready to be sent. */
void fut_capture_finish(FutCapture *capture);
/* Guest running: body of a PAGES frame for `count` keys into capture->stream. Each page goes to the shadow first and is sent from
 * there, whole, so that the shadow is what the backup holds however the guest writes meanwhile. */
void fut_capture_pages(FutCapture *capture, const uint64_t *keys, size_t count);
/* Most keys for one fut_capture_pages(). */
#define FUT_CAPTURE_PAGES_MAX 256

#endif
