/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The engine's own structure, shared by its core files (engine.c, primary.c, standby.c, engine_status.c).
 *
 * One lock guards the pair machine, the packet lists, pace and statistics. It is held for short computations only: never while an
 * operation of the VMM or the host is called, never while pages are copied. Actions of the pair machine are carried out by one
 * thread at a time, in order (fut_engine_act()). */
#ifndef FUT_ENGINE_INTERNAL_H
#define FUT_ENGINE_INTERNAL_H

#include "capture.h"
#include "disks.h"
#include "disks_shared.h"
#include "engine.h"
#include "flows.h"
#include "histogram.h"
#include "input_log.h"
#include "outputs.h"
#include "pace.h"
#include "resend.h"
#include "series.h"

/* Initial copy of a primary. `lock` unless said otherwise. */
typedef struct {
    bool active;
    bool collect_wanted; /* the next cut collects what was written instead of taking a checkpoint */
    bool collected;      /* it did: `next` is filled */
    uint64_t pass; /* 0: everything, by the cursor; then what was written meanwhile, by `set` */
    uint64_t total_pages; /* of this pass */
    uint64_t done_pages;
    unsigned block; /* cursor; copy thread only */
    uint64_t page;
    FutPageSet set;  /* copy thread only */
    FutPageSet next; /* filled by the cut while collect_wanted */
} FutCopy;

/* What a backup holds. Link thread only, unless said otherwise. */
typedef struct {
    FutMemory memory;     /* guest memory, and the device state image as last block */
    FutMemory guest;      /* guest memory alone: what an initial copy may touch */
    FutResident resident; /* of `guest` */
    FutBuf parts;         /* EPOCH_PART streams of the epoch coming in: u32 length, stream, ... */
    uint64_t parts_epoch;
    const uint8_t *last; /* stream of the CHECKPOINT being handled */
    size_t last_length;
    FutCheckpoint next; /* of the CHECKPOINT being handled: the pair machine may still refuse it */
    FutCheckpoint head; /* of the committed one */
    FutKept kept;       /* outputs of committed epochs that may not have left the primary */
    FutPacketList log;  /* inbound packets the guest saw in epochs not yet committed; `lock` */
} FutStandby;

typedef struct {
    uint64_t epoch;
    uint64_t begin_ns;
    uint64_t disk_bytes; /* sent when it ended */
    uint64_t bytes;      /* captured since the engine was made, with this one's */
} FutFlight;

typedef struct {
    FutHistogram pause_ns, commit_ns, part_ns[FUT_PAUSE_PARTS];
    uint64_t checkpoints, pages, bytes;
    uint64_t events[FUT_EVENT_KINDS];
    uint64_t sample_ns, sample_checkpoints, sample_bytes; /* for rates */
    double checkpoints_per_s, bytes_per_s;
} FutEngineStats;

/* A large checkpoint is sent by the copy thread, so that the vCPU's can go on. Until it was sent there is no other cut. */
typedef enum {
    FUT_ASIDE_NONE,
    FUT_ASIDE_WAITING, /* for the copy thread */
    FUT_ASIDE_SENDING
} FutAside;

#define FUT_FLIGHTS_MAX 64

/* Inbound packets on a primary, logged to the backup (inputs.c). `lock` unless said otherwise. */
typedef struct {
    FutInputLog log;       /* not sent yet; records are read without the lock by who sends them */
    uint64_t covered;      /* what stands before it is in the newest checkpoint that was cut */
    uint64_t epoch, bytes; /* of the newest epoch that had one */
} FutInputs;

/* The newest set of probes, on both hosts. Its lock is held while it is sent, so that an old one never comes after a new one. */
typedef struct {
    GMutex lock;
    FutBuf body;
    bool open; /* primary: a session is on that they are sent in */
    bool news; /* backup: not taken yet */
} FutSharedProbes;

struct FutEngine {
    FutVmm *vmm;
    FutEngineConfig config;
    const FutEngineHost *host;
    void *opaque;

    GMutex lock;
    GCond changed;    /* acting or cutting ended */
    unsigned waiting; /* for that */
    GThread *actor;   /* carries out actions now; NULL = nobody */
    bool
        cutting; /* between fut_engine_cut() and fut_engine_cut_done(), a checkpoint is being captured or sent */
    FutAside aside;
    bool cut_pending;   /* cut_request() was called, no cut came yet */
    uint64_t asked_ns;  /* when tick last asked again for a cut that does not come (guest paused) */
    bool final_wanted;  /* hand-over: keep asking for the cut until it comes */
    bool staying;       /* the guest was left stopped: until the commit (mode=stop) ... */
    bool staying_final; /* ... or for a hand-over: until that came to nothing */
    bool exiting;
    bool act_wanted; /* actions wait and the thread that caused them must not carry them out */
    char *broken;    /* capture failed: protection has to end; owned */
    uint64_t
        outputs_waiting; /* atomic, for cheap looks: packets held, events of the running epoch */

    FutPair *pair;
    FutPacketList held;
    FutPace pace;
    FutCapture capture; /* cut thread; copy thread while copying, and while `aside` is not NONE */
    FutCopy copy;
    FutStandby standby;
    FutDisks disks;
    FutShared shared;
    FutSeries series;
    FutFlows flows;
    FutSharedProbes probes;
    uint64_t nonce; /* of the newest link */
    FutInputs inputs;
    FutFlight flights[FUT_FLIGHTS_MAX]; /* by epoch modulo: checkpoints not yet acknowledged */
    uint64_t captured_bytes,
        acked_bytes;     /* of all checkpoints; of those acknowledged, or of earlier sessions */
    unsigned letting_go; /* threads with packets in their hands that may go */
    uint64_t let_go;     /* outputs of this session's epochs up to this one have left */
    uint64_t cut_begin_ns, cut_epoch;
    uint64_t cut_part_ns[FUT_PAUSE_PARTS]; /* cut thread: when each part of the pause was over */

    FutEngineStats stats;
    uint64_t panics;
    uint64_t released, dropped, applied, verified, verify_failed, reinjected, resent;
    FutTakeover takeover;
    uint64_t taken_hash, taken_committed_hash;
    bool standby_open;
    FutPairFault fault; /* deliberate; FUT_FAULT_NONE outside of tests */
    FutBuf act_body;    /* actor only */
};

static inline uint64_t fut_engine_now(const FutEngine *engine)
{
    return engine->host->now_ns(engine->opaque);
}

/* Engine lock held. Whoever waits looks again; if nobody does, this costs nothing. */
void fut_engine_changed(FutEngine *engine);

/* Engine lock held, given up meanwhile: until the next change, or for no reason. */
void fut_engine_wait(FutEngine *engine);

/* The same as the host waits: not for ever. What it says. */
bool fut_engine_host_wait(FutEngine *engine);

/* Carries out the pair machine's actions until none is left. No lock held, no big lock. Waits when another thread is at it. */
void fut_engine_act(FutEngine *engine);
/* Lock held, within an action that takes long and that no other waits for: as host->wait(), but others may carry out what came after
 * it. Else the link thread would wait for this action, and nobody would see the link end. */
bool fut_engine_act_wait(FutEngine *engine);

/* primary.c */
/* Something fails here that protection cannot do without. Copy or cut thread. */
void fut_primary_broken(FutEngine *engine, GError *take_error);
void fut_primary_start_copy(FutEngine *engine);
void fut_primary_stop_copy(FutEngine *engine);
void fut_primary_hold(FutEngine *engine);
/* Sends the checkpoint that was put aside, if there is one. Copy thread. */
void fut_primary_send_aside(FutEngine *engine);
void fut_primary_release(FutEngine *engine, uint64_t upto);
void fut_primary_release_all(FutEngine *engine);
void fut_primary_drop_all(FutEngine *engine);
void fut_primary_final_cut(FutEngine *engine);
void fut_primary_resume(FutEngine *engine);
/* With the lock held: may a checkpoint be taken now? */
bool fut_primary_may_cut(const FutEngine *engine);
/* With the lock held: when the next one is due by itself. */
uint64_t fut_primary_deadline(const FutEngine *engine);
/* Outputs go that the image of a shared disk kept waiting. Link thread. */
void fut_primary_let_go(FutEngine *engine);
/* With the lock held: is a checkpoint due? Marks it requested if so; the caller then calls cut_request() without the lock. */
bool fut_primary_want_cut(FutEngine *engine, bool idle, uint64_t now_ns);

/* inputs.c */
/* A session's outputs are held from now on: what is left of another one's packets is forgotten. */
void fut_inputs_start(FutEngine *engine);
/* Sends what waits, unless somebody is at it. No lock held. */
void fut_inputs_send(FutEngine *engine);

/* twin_probes.c */
void fut_probes_init(FutEngine *engine);
void fut_probes_done(FutEngine *engine);
/* Primary: a session begins; a session is over. */
void fut_probes_open(FutEngine *engine);
void fut_probes_close(FutEngine *engine);
/* Backup: a PROBES, checked and then kept; the image is gone and they with it. */
bool fut_probes_check(const FutFrame *frame, GError **error);
void fut_probes_keep(FutEngine *engine, const FutFrame *frame);
void fut_probes_discard(FutEngine *engine);

/* standby.c */
bool fut_standby_open(FutEngine *engine, GError **error);
void fut_standby_close(FutEngine *engine);
/* Looks at a frame before the pair machine sees it. False: the peer is at fault (error says how). */
bool fut_standby_check(FutEngine *engine, const FutFrame *frame, GError **error);
/* Memory for what fut_standby_keep() will keep of it. False: there is none, error says so. */
bool fut_standby_make_room(FutEngine *engine, const FutFrame *frame, GError **error);
/* After the pair machine accepted it: keeps what has to be kept. */
void fut_standby_keep(FutEngine *engine, const FutFrame *frame);
void fut_standby_apply(FutEngine *engine, uint64_t epoch);
void fut_standby_discard(FutEngine *engine);
/* Where the link thread works for long: tells the primary now and then that we are alive. */
void fut_standby_sign_of_life(FutEngine *engine, uint64_t *last_ns);
void fut_standby_take_over(FutEngine *engine);

/* engine_status.c; lock held */
void fut_stats_tick(FutEngineStats *stats, uint64_t now_ns);

#endif
