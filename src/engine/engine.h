/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The engine: joins pair protocol, page capture, network link, arbiter and control socket to one VM (vmm.h).
 *
 * Threads (all live in this folder): link (socket, protocol time), copy (initial copy), arbiter (may block), control (status, commands).
 * The core (engine.c, primary.c, standby.c) starts none: it reaches the outside through FutEngineHost, so that the simulator can run it.
 */
#ifndef FUT_ENGINE_H
#define FUT_ENGINE_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "identities.h"
#include "input_log.h"
#include "pair.h"
#include "vmm.h"

typedef enum {
    FUT_MODE_PIPELINE,
    FUT_MODE_STOP
} FutMode;

typedef struct {
    const char *vm, *node; /* copied */
    FutRole role;
    FutMode mode;
    uint64_t generation; /* primary */
    bool waiting;  /* primary: it has neither generation nor disks before fut_engine_granted() */
    bool restored; /* primary: its disks are overwritten before the guest runs */
    uint32_t epoch_max_us; /* longest epoch while protected */
    uint32_t
        gap_us; /* from one cut to the next over a long link, for each under way; 0: over any, at once */
    unsigned window;          /* checkpoints under way at most, 1..FUT_PAIR_WINDOW_MAX */
    uint32_t aside_min_bytes; /* checkpoints from that size on are sent by the copy thread */
    uint32_t batch_max_us;    /* longest wait of an output for company under load */
    uint32_t heartbeat_ms, timeout_ms, retry_ms;
    uint32_t commit_ms; /* longest wait for the acknowledgement of a checkpoint; 0 = for ever */
    uint32_t
        verify_every; /* hash all memory every n-th checkpoint and compare on the backup; 0 = never (debug, slow) */
    uint32_t
        state_check_every; /* compare the device state with a slower save every n-th checkpoint; 0 = never */
    FutEventSet events; /* that a checkpoint is cut for */
    FutTracker tracker;
    FutPanic on_panic;
    bool send_at_kick;            /* also while nothing is held: for comparisons */
    uint32_t tracker_check_every; /* compare the queue with a look at all of memory every n-th
                                     checkpoint; 0 = never */
    uint64_t hold_max_bytes;      /* held outputs; more are dropped, as a full queue would */
    uint32_t
        part_pages_max; /* pages in one frame of a checkpoint; 0 = as many as the wire allows */
    uint32_t
        rest_pages_max; /* the initial copy ends when a pass left no more: the first checkpoint takes the rest */
    uint64_t
        disk_unacked_max_bytes; /* primary: disk writes not committed; the guest's further writes wait */
    bool
        flush_both; /* backup: an epoch in which the guest flushed a disk is acknowledged when that is durable here, too */
    uint64_t disk_queue_max_bytes; /* backup: committed, not written yet; the link waits */
    uint64_t disk_batch_bytes;     /* backup: written in one go */
    uint64_t
        disk_mark_bytes; /* primary, copying: what may have to be copied again after a broken link, about */
    uint32_t
        disk_mark_ms; /* primary, protected: how often it asks what is safe on the backup's disks */
    unsigned disk_chunk_shift;   /* FUT_CHUNK_SHIFT, or what the VMM reads at a time */
    unsigned series_chunk_shift; /* snapshots: a disk is followed in pieces of 1 << this bytes */
    uint64_t
        series_side_max_bytes; /* snapshots: copied aside for the guest's writes and not stored yet */
    uint32_t
        series_copy_max_pages; /* snapshots: copied during the stop at most; more are protected */
    uint32_t series_early_max_pages; /* snapshots: copied before it at most, while the guest runs */
    uint64_t log_max_bytes; /* backup: inbound packets kept for re-injection; the oldest go first */
    uint32_t log_wait_us; /* primary, load: so an inbound packet waits for a covering checkpoint */
    bool moving; /* backup: of a VM that moves here with its disks, see fut_engine_move() */
    const FutIdentities *identities; /* borrowed; NULL: the guest's addresses are the network's */
} FutEngineConfig;

void fut_engine_config_defaults(FutEngineConfig *config);

/* How the core reaches the world. All calls come without the engine lock; send also from inside a cut. */
typedef struct {
    /* One frame: type, flags, body in pieces. Order of calls is order on the wire. False: the link is broken (link_down follows by itself). */
    bool (*send)(void *opaque, uint16_t type, uint16_t flags, const struct iovec *iov, int count);
    void (*session)(void *opaque, uint32_t session);
    void (*connect)(void *opaque); /* answered by fut_engine_link_up/_down */
    void (*close)(void *opaque, const char *why);
    void (*ask)(void *opaque, uint64_t generation); /* answered by fut_engine_answer */
    void (*copy)(
        void *opaque,
        bool
            on); /* call fut_engine_copy_step() until it says done / stop doing so; off waits until no step runs */
    void (*wake)(void *opaque); /* fut_engine_deadline() may have changed */
    void (*report)(void *opaque, const char *id, const char *text);
    /* Monotonic time. Every now_ns and every time of vmm.h that is handed in comes from this clock. */
    uint64_t (*now_ns)(void *opaque);
    void (*probes)(void *opaque); /* fut_engine_take_probes() has something new. Optional */
    /* -- disks only -- */
    size_t (*pending)(void *opaque); /* bytes that wait for the link */
    void (*disk)(void *opaque);      /* call fut_engine_disk_step() until it says false */
    /* Lock held: lets others have it until `changed` is signalled, or for a moment. False: this process is at its end, and nobody
     * will ever signal it. */
    bool (*wait)(void *opaque, GCond *changed, GMutex *lock);
    /* -- snapshots; NULL where there are none. Any thread, the guest may be stopped -- */
    void (*series)(void *opaque); /* call fut_series_step() again */
    /* Makes ready for guard(). False, or NULL: there is no such thing here. */
    bool (*guard_open)(void *opaque, const FutMemory *memory);
    void (*guard_close)(void *opaque);
    /* From its return on who writes there waits until fut_series_fault() was called for the page, or guarding ended for it. Series lock
     * held or not. */
    bool (*guard)(void *opaque, uint8_t *at, size_t length, bool on);
    /* What this thread, which makes the steps, does now can wait for whatever else wants a processor; or not any more. Optional. */
    void (*background)(void *opaque, bool on);
    /* While it can wait, now and then: lets go first who waits. Same thread; optional. */
    void (*give_way)(void *opaque);
    /* Sets the bits of pages that may hold anything but zeroes. Optional. */
    void (*resident)(void *opaque, const uint8_t *at, uint64_t pages, uint64_t *bits);
} FutEngineHost;

FutEngine *fut_engine_new(FutVmm *vmm, const FutEngineConfig *config, char *const *machine,
                          const FutEngineHost *host, void *opaque);
void fut_engine_free(FutEngine *engine);
/* One that was made `waiting` has its generation from the arbiter, and its disks' images are its own. Once, before the guest runs and before any
 * command; no lock. */
void fut_engine_granted(FutEngine *engine, uint64_t generation);

/* -- events; any thread, no big lock, except where said -- */
void fut_engine_link_up(FutEngine *engine, uint64_t nonce, uint64_t now_ns);
void fut_engine_link_down(FutEngine *engine, const char *why, uint64_t now_ns);
void fut_engine_frame(FutEngine *engine, const FutFrame *frame, uint64_t now_ns);
void fut_engine_bad_peer(FutEngine *engine, const char *why, uint64_t now_ns);
void fut_engine_alive(FutEngine *engine, uint64_t now_ns);
void fut_engine_tick(FutEngine *engine, uint64_t now_ns);
/* For one who finds this process dead, and takes no lock: the epoch an inbound packet would belong to, 0 if none would be logged. */
uint64_t fut_engine_last_epoch(const FutEngine *engine);
/* Likewise: packets that the backup was not told of. */
const FutInputLog *fut_engine_input_log(const FutEngine *engine);
uint64_t fut_engine_deadline(FutEngine *engine);
void fut_engine_answer(FutEngine *engine, FutAnswer answer, uint64_t generation, const char *text,
                       uint64_t now_ns);
/* Sends a checkpoint that was put aside, copies a bounded piece of memory. Returns bytes that were copied; 0 = nothing more to do now (all
 * passes done, or not copying). */
size_t fut_engine_copy_step(FutEngine *engine, uint64_t now_ns);

/* Writes what is ready, a bounded piece. False = nothing is. Backup; one thread of its own. */
bool fut_engine_disk_step(FutEngine *engine);

/* -- commands -- */
bool fut_engine_protect(FutEngine *engine, GError **error);
/* As protect, to a backup with `moving`: it takes the VM only when it is handed over, and no disk goes over the link. The guest writes to
 * its disks here as if it were alone until it is stopped for the last time; from then on nothing is written to them. */
bool fut_engine_move(FutEngine *engine, GError **error);
bool fut_engine_unprotect(FutEngine *engine, GError **error);
bool fut_engine_failover(FutEngine *engine, GError **error);

/* -- probes in the guest's kernel, encoded (probe_definition.h); the control thread -- */
/* Those there are now: a backup is told, now and whenever it comes. */
void fut_engine_set_probes(FutEngine *engine, const uint8_t *body, size_t length);
/* Backup: what the primary has sent, if that is new since the last call, in place of what `out` holds. Nothing in it: forget them. */
bool fut_engine_take_probes(FutEngine *engine, FutBuf *out);

/* -- sight -- */
/* When the steps of a takeover were done, on the engine's clock in ns; 0 before. */
typedef struct {
    uint64_t lost_ns;    /* the primary counts as dead, the arbiter is asked */
    uint64_t granted_ns; /* the arbiter has answered */
    uint64_t loaded_ns;  /* disks settled, device state loaded */
    uint64_t running_ns; /* the guest goes on */
    uint64_t done_ns;    /* announced, outputs sent again, inbound packets given in */
} FutTakeover;

/* What a checkpoint's pause is made of, in this order. The last is not part of it: other vCPUs run again, but the one that stopped for the cut sends. */
typedef enum {
    FUT_PAUSE_STOP, /* until the engine has the guest stopped: clocks, disks' requests on their way */
    FUT_PAUSE_SAVE,    /* device state */
    FUT_PAUSE_COLLECT, /* which pages were written */
    FUT_PAUSE_COPY,    /* what has changed in them, against the copy of the epoch before */
    FUT_PAUSE_GO_ON,   /* clocks again, locks let go */
    FUT_PAUSE_SEND,
    FUT_PAUSE_PARTS
} FutPausePart;

typedef struct {
    FutRole role;
    FutPairState state;
    FutMode mode;
    bool linked, running;
    uint64_t generation, epoch, committed;
    unsigned in_flight;
    char peer_node[64];
    char reason[512];
    /* primary, since protection began */
    uint64_t checkpoints;
    double checkpoints_per_s; /* over the last seconds */
    double bytes_per_s;
    double pause_us_p50, pause_us_p99, commit_us_p50, commit_us_p99;
    struct {
        double p50, p99;
    } part_us[FUT_PAUSE_PARTS];
    double pages_per_checkpoint, bytes_per_checkpoint;
    uint64_t outputs_held, outputs_released,
        outputs_dropped;         /* packets: waiting now / ever / ever */
    uint64_t lag_us;             /* age of the oldest thing not yet committed */
    double copy_share;           /* 0..1 of the initial copy, disks and memory */
    double disk_share;           /* 0..1 of the disks' part of it */
    unsigned disks;              /* that the guest can write */
    bool moving;                 /* the pair is for a move */
    uint64_t disk_copied_bytes;  /* of data, by the newest copy */
    uint64_t disk_unacked_bytes; /* primary: written by the guest, not committed */
    uint64_t disk_queue_bytes;   /* backup: not yet on its disks */
    uint64_t shared_disks;       /* of the disks, those with one image for both hosts */
    uint64_t shared_held_bytes; /* the guest's writes to them that the images do not have durably */
    uint64_t copy_passes;
    uint64_t panics; /* of the guest, here */
    FutStateStats device_state;
    FutDirtyStats dirty;
    FutEventSet event_set; /* that a checkpoint is cut for */
    uint64_t
        events[FUT_EVENT_KINDS]; /* of these, so many came since the figures were set to zero */
    /* backup */
    uint64_t applied, verified, verify_failed, inbound_logged;
    /* takeover, once it happened */
    uint64_t reinjected;
    uint64_t resent;    /* outputs of committed epochs, sent again */
    double takeover_us; /* from the arbiter's grant to the running guest */
    FutTakeover takeover;
    uint64_t memory_hash; /* of the image taken over, when verify is on */
    uint64_t
        committed_hash; /* what the primary said it must be (last hashed epoch == last committed), else 0 */
} FutEngineStatus;
void fut_engine_status(FutEngine *engine, FutEngineStatus *ret);
/* Starts the histograms anew (benchmarks: one window a measurement). */
void fut_engine_status_reset(FutEngine *engine);

/* Body of the BYE for a stranger while no link can be taken; true when one can. */
bool fut_engine_accepts(FutEngine *engine, FutBuf *ret_bye);

/* See pair.h: deliberate faults for the simulator. */
void fut_engine_set_fault(FutEngine *engine, FutPairFault fault);

#endif
