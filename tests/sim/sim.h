/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A simulated data centre for one VM: three hosts that run the real engine and pair machine, the links between them,
 * an arbiter, and the outside world that talks to the VM. One thread, simulated time; a seed repeats a run exactly.
 *
 *   sim_run.c      one schedule from start to end    sim_events.c      what happens next
 *   sim_plan.c     when something goes wrong         sim_faults.c      what can go wrong
 *   sim_manager.c  an operator, who restarts         sim_strangers.c   who else connects
 *   sim_host.c     a host's life and threads         sim_link_thread.c the most important of them
 *   sim_threads.c  who waits while others go on      sim_host_ops.c    what the engine asks of its host
 *   sim_vm.c       the VMM (vmm.h)                   sim_guest.c       the program in the VM
 *   sim_net.c      links                             sim_arbiter.c     who may go on alone
 *   sim_world.c    the VM's clients                  sim_check.c       the rules, and that life goes on
 *   sim_disk*.c    disks (sim_disk.h)
 *   sim_end.c      an end on purpose                 sim_series.c      snapshots
 */
#ifndef SIM_H
#define SIM_H

#include <glib.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>

#include "engine.h"
#include "fut_buf.h"
#include "fut_clock.h"
#include "pair.h"
#include "sim_random.h"

#define SIM_HOSTS 3
#define SIM_OUTSIDE SIM_HOSTS /* the far end of a stranger's link */
#define SIM_CLIENTS 2
#define SIM_BLOCKS 3
#define SIM_STATE_MAX 12000
#define SIM_STATE_PAGES 3
#define SIM_WINDOW_MAX 8
#define SIM_IMAGES (SIM_WINDOW_MAX + 2) /* checkpoints of one protection remembered */
#define SIM_NEVER UINT64_MAX

typedef struct Sim Sim;
typedef struct SimHost SimHost;

/* -- sim_events.c -- */

typedef enum {
    SIM_EVENT_TICK,      /* host: the engine's deadline */
    SIM_EVENT_LOOP,      /* host: its link thread has something to do */
    SIM_EVENT_GUEST,     /* host: next step of the guest */
    SIM_EVENT_CUT,       /* host: a cut that was asked for */
    SIM_EVENT_COPY,      /* host: next step of the copy */
    SIM_EVENT_DISK,      /* host: next step of the disk thread */
    SIM_EVENT_IO,        /* host: the guest's disk request number, in slot detail */
    SIM_EVENT_CONNECT,   /* host: its link thread connects */
    SIM_EVENT_CONNECTED, /* host, link */
    SIM_EVENT_REFUSED,   /* host: connecting failed */
    SIM_EVENT_ACCEPT,    /* host, link */
    SIM_EVENT_ANSWER,    /* host, number: generation, detail: FutAnswer */
    SIM_EVENT_PACKET,    /* host, number: request, detail: client */
    SIM_EVENT_UNPAUSE,   /* host */
    SIM_EVENT_COMMAND,   /* host, detail: SimCommand */
    SIM_EVENT_SERIES,    /* host: next step of its snapshots, number */
    /* from here on: not done by a host's own threads */
    SIM_EVENT_DELIVER, /* link, detail: sending end */
    SIM_EVENT_HANG_UP, /* link, detail: end (a stranger's) */
    SIM_EVENT_CLAIM,   /* host, number: generation: the question reaches the arbiter */
    SIM_EVENT_CLIENT,  /* detail: client, which sends or sends again */
    SIM_EVENT_FAULT,   /* detail: fault that begins */
    SIM_EVENT_HEAL,    /* detail: fault that ends; SIM_FAULTS_MAX: all, for good */
    SIM_EVENT_MANAGER,
    SIM_EVENT_END,
} SimEventKind;

typedef enum {
    SIM_COMMAND_PROTECT,
    SIM_COMMAND_UNPROTECT,
    SIM_COMMAND_FAILOVER,
    SIM_COMMAND_END,     /* of the VM, on purpose */
    SIM_COMMAND_FAREWELL /* some time after it */
} SimCommand;

typedef struct {
    uint64_t at_ns;
    uint64_t order; /* of two at the same time, the one that was put first */
    SimEventKind kind;
    unsigned host, life; /* of a host's event; ignored when that life is over */
    unsigned link;
    unsigned detail;
    uint64_t number;
} SimEvent;

void sim_push(Sim *sim, uint64_t after_ns, SimEvent event);
void sim_push_host(SimHost *host, uint64_t after_ns, SimEventKind kind);
bool sim_pop(Sim *sim, SimEvent *ret);
void sim_push_again(Sim *sim, const SimEvent *event);

#include "sim_disk.h"

/* -- what checkers compare with -- */

/* One history of the guest: the hash chain after each output it ever made. A takeover begins a new one with what the
 * survivor remembers. */
typedef struct {
    GArray *chain; /* uint64_t; output number - 1 */
} SimBranch;

typedef struct {
    uint64_t epoch; /* 0: none */
    uint8_t *ram;   /* owned */
    SimBranch *branch;
    uint8_t state[SIM_STATE_MAX];
    uint32_t state_length;
    SimDiskView disk[SIM_DISKS];
} SimImage;

/* One time that a host was protected by another. */
typedef struct {
    unsigned number;     /* for the trace */
    unsigned host, life; /* the primary */
    uint64_t generation;
    uint64_t cuts;          /* checkpoints taken */
    uint64_t committed;     /* of them, held by the backup */
    bool given_up;          /* somebody asked for the end of it, or it was made to fail */
    unsigned given_up_said; /* times that the engine reported so */
    GArray *held;           /* SimHeld: all outputs that waited for a commit */
    SimImage image[SIM_IMAGES];
} SimProtection;

#include "sim_net.h"

#include "sim_host.h"

/* -- sim_arbiter.c -- */

typedef struct {
    uint64_t generation;
    unsigned host, life;      /* holder */
    unsigned down[SIM_HOSTS]; /* faults that keep a host from it */
    unsigned slow;
    unsigned lose_answers;
    bool released; /* the holder ended the VM on purpose */
} SimArbiter;

void sim_arbiter_ask(SimHost *host, uint64_t generation);
void sim_arbiter_claim(Sim *sim, const SimEvent *event);
void sim_arbiter_answered(SimHost *host);
bool sim_arbiter_holds(const SimHost *host);
/* Holds it, or did until it ended the VM. */
bool sim_arbiter_held_last(const SimHost *host);
void sim_arbiter_release(SimHost *host, uint64_t generation);

/* -- sim_world.c -- */

typedef struct {
    uint64_t sent, acked;
    uint64_t gap_ns;
} SimClient;

typedef struct {
    SimClient client[SIM_CLIENTS];
    GArray *seen;        /* uint64_t chain; output number - 1; 0: not seen */
    GHashTable *resent;  /* numbers of outputs a twin sent again: those may be seen twice */
    SimBranch *survivor; /* history of who took over last */
    unsigned survivor_host, survivor_life;
    unsigned where; /* host that announced itself last */
} SimWorld;

void sim_world_start(Sim *sim);
void sim_world_client(Sim *sim, unsigned client);
void sim_world_packet(SimHost *host, const SimEvent *event);
void sim_world_sees(SimHost *host, const SimPacket *packet);
void sim_world_takeover(SimHost *host);

/* -- sim_check.c -- */

typedef struct {
    FutPairStatus pair;
    uint64_t output_epoch;
} SimSight;

SimSight sim_sight(const SimHost *host);
bool sim_free(const SimHost *host); /* what its guest sends goes out at once */
void sim_violation(Sim *sim, const char *rule, const char *format, ...) G_GNUC_PRINTF(3, 4);
void sim_check_step(Sim *sim);
void sim_check_pass(SimHost *host, const SimPacket *packet);
void sim_check_release(SimHost *host, const SimPacket *packet);
void sim_check_seen(SimHost *host, const SimPacket *packet);
void sim_note_commit(SimHost *host);
void sim_check_commit(SimHost *host);
void sim_check_reinjected(SimHost *host, const SimRequest *request);
void sim_check_takeover(SimHost *host, const uint8_t *state, size_t length);
void sim_check_taken(SimHost *host);
/* Is all as it should be when nothing goes wrong? Or is the VM gone, and that nobody's mistake? */
bool sim_check_well(Sim *sim);
bool sim_check_lost(Sim *sim);
/* The VM was ended, and nobody thinks of bringing it back any more. */
bool sim_check_ended(Sim *sim);
void sim_check_late(Sim *sim); /* it should be well by now */

/* -- sim_disk_check.c -- */

void sim_disks_remember(const SimVm *vm, SimImage *image);
void sim_disks_begin(SimVm *vm);
void sim_disk_given_up(SimHost *host);
void sim_check_disk_write(SimHost *host, const FutDiskHead *head);
void sim_check_disks(SimHost *host, const SimImage *image);
void sim_check_flushed(SimHost *host, uint64_t epoch);

/* -- sim_disk_note.c -- */

void sim_check_notes(Sim *sim);

/* -- sim_plan.c, sim_faults.c, sim_strangers.c, sim_manager.c -- */

#define SIM_FAULTS_MAX 8
typedef struct {
    unsigned kind;
    unsigned a, b; /* hosts */
    uint64_t after_ns, last_ns;
    bool on;
    unsigned life; /* of host a when it began */
} SimFault;

void sim_faults_plan(Sim *sim);
void sim_fault_begin(Sim *sim, unsigned number);
void sim_fault_end(Sim *sim, unsigned number);
/* Nothing is wrong any more, and nothing goes wrong again. */
void sim_faults_heal(Sim *sim);
#define SIM_FAULT_KINDS 29
#define SIM_FAULT_DISKS 22 /* from here on: only where there are disks */
typedef struct {
    const char *name;
    unsigned weight;
    void (*begin)(Sim *sim, SimFault *fault);
    void (*end)(Sim *sim, SimFault *fault); /* NULL: nothing to mend */
} SimFaultKind;
extern const SimFaultKind sim_fault_kinds[SIM_FAULT_KINDS];
/* Somebody connects to a standby, some time within within_ns. */
void sim_stranger(Sim *sim, uint64_t within_ns);
void sim_manager(Sim *sim);

/* -- sim_end.c -- */

void sim_end_plan(Sim *sim);
void sim_end_order(Sim *sim);
void sim_end_begin(SimHost *host);
void sim_end_farewell(SimHost *host);
SimHost *sim_active(Sim *sim);

/* -- sim_series.c -- */

/* How many pages are copied when. */
void sim_series_config(const SimHost *host, FutEngineConfig *config);
void sim_series_init(SimHost *host);
void sim_series_done(SimHost *host);
void sim_series_remember(SimVm *vm, const FutStateImage *state);
void sim_series_event(SimHost *host, const SimEvent *event);
void sim_series_wake(SimHost *host, uint64_t after_ns);
bool sim_series_guard_open(SimHost *host);
void sim_series_guard(SimHost *host, const uint8_t *at, size_t length, bool on);
void sim_series_resident(SimHost *host, const uint8_t *at, uint64_t pages, uint64_t *bits);
/* The guest is about to write to a page. */
void sim_series_touch(SimVm *vm, unsigned page);

/* -- sim_run.c -- */

/* What differs from schedule to schedule. */
typedef struct {
    FutMode mode;
    uint32_t heartbeat_ms, timeout_ms, retry_ms, epoch_max_us, batch_max_us, verify_every,
        part_pages_max, rest_pages_max, aside_min_bytes;
    unsigned window, gap_us, log_wait_us;
    uint64_t hold_max_bytes, log_max_bytes;
    unsigned block_pages[SIM_BLOCKS];
    unsigned pages;
    uint64_t step_ns, delay_ns, arbiter_ns, manager_ns, faults_until_ns;
    unsigned writes;
    unsigned choppy;    /* percent of messages that arrive in pieces */
    unsigned timer;     /* percent of steps with an output of their own */
    unsigned broadcast; /* percent of requests that reach all who run the VM */
    unsigned waiting;   /* percent of gates where the link thread is kept waiting, times ten */
    unsigned faults;
    unsigned disks; /* all below: only if there are any */
    uint64_t disk_bytes[SIM_DISKS];
    uint64_t disk_unacked_max_bytes, disk_queue_max_bytes, disk_batch_bytes, io_ns;
    unsigned io_share; /* percent of steps with a disk request */
    bool flush_both, no_notes;
    uint32_t disk_mark_ms;
    uint64_t disk_mark_bytes;
} SimProfile;

/* What happened; summed up over schedules to show that they reach what they are for. */
typedef struct {
    uint64_t events, outputs, cuts, commits, released, takeovers, handovers, grants, refusals,
        fenced, protected, discards, bad_streams, reinjected, resent, lost, ended, ended_refusals,
        faults[SIM_FAULT_KINDS];
    uint64_t aside;      /* checkpoints that the copy thread sent */
    uint64_t overtaking; /* cut while others were under way */
    uint64_t disk_copied, disk_writes, disk_flushes, disk_takeovers, disk_waits, disk_kept,
        note_syncs, note_chunks, snapshots, snapshots_failed, snapshot_faults, snapshot_early,
        image_snapshots;
} SimCount;

typedef enum {
    SIM_TRACING_NOT,
    SIM_TRACING_TAIL,
    SIM_TRACING_ALL
} SimTracing;

/* What a run is to be like. */
typedef struct {
    FutPairFault wrong; /* fault that the engine is told to have */
    unsigned window;    /* checkpoints under way at most; 0: by chance */
    bool disks;         /* some VMs have disks */
    bool series;        /* snapshots are taken */
    bool ends;          /* the VM is ended on purpose some time */
    bool end_forgotten; /* wrong on purpose: the arbiter grants the next generation all the same */
    SimTracing tracing;
} SimWish;

/* An end on purpose has chances of its own: the rest of a schedule stays what it is without. */
typedef struct {
    SimRandom random;
    bool begun, told; /* told: to the arbiter */
} SimEnd;

struct Sim {
    uint64_t now_ns;
    uint64_t order;
    GArray *heap;
    SimRandom random;
    SimProfile profile;
    SimHost host[SIM_HOSTS];
    SimPath path[SIM_HOSTS + 1][SIM_HOSTS + 1];
    GPtrArray *links, *protections, *branches;
    SimArbiter arbiter;
    SimWorld world;
    SimFault fault[SIM_FAULTS_MAX];
    unsigned faults_begun;
    bool was_protected;           /* when the first fault began */
    bool healing;                 /* nothing goes wrong any more */
    uint64_t healing_ns, lost_ns; /* since when; lost_ns 0: not lost */
    bool over;
    unsigned events;
    uint64_t healed_acks[SIM_CLIENTS];
    SimWish wish;
    SimEnd end;
    uint64_t series_seed;
    GQueue trace;    /* char *, owned */
    char *violation; /* owned; NULL: all well */
    SimCount *count;
};

/* Runs one schedule, told by its seed. Returns NULL, or what went wrong (caller frees). */
char *sim_run(uint64_t seed, const SimWish *wish, SimCount *count);
/* Lets the next thing happen. */
void sim_step(Sim *sim);
void sim_trace(Sim *sim, const char *format, ...) G_GNUC_PRINTF(2, 3);
#define SIM_TRACE(sim, ...)                                                                        \
    do {                                                                                           \
        if ((sim)->wish.tracing) {                                                                 \
            sim_trace((sim), __VA_ARGS__);                                                         \
        }                                                                                          \
    } while (0)

#endif
