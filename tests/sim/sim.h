/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A simulated data centre for one VM: three hosts that run the real engine and pair machine, the links between them,
 * an arbiter, and the outside world that talks to the VM. One thread, simulated time; a seed repeats a run exactly.
 *
 *   sim_run.c      one schedule from start to end         sim_faults.c   what goes wrong, and when
 *   sim_events.c   what happens next                      sim_manager.c  an operator who restarts and protects again
 *   sim_host.c     a host's life and its link thread      sim_host_ops.c what the engine asks of its host
 *   sim_threads.c  who waits while others go on
 *   sim_vm.c       the VMM (vmm.h)                        sim_guest.c    the program in the VM
 *   sim_net.c      links                                  sim_strangers.c who else connects
 *   sim_arbiter.c  who may go on alone                    sim_world.c    the VM's clients
 *   sim_check.c    the four rules, and that life goes on
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
#define SIM_IMAGES 3 /* checkpoints of one protection remembered */
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
    SIM_EVENT_CONNECT,   /* host: its link thread connects */
    SIM_EVENT_CONNECTED, /* host, link */
    SIM_EVENT_REFUSED,   /* host: connecting failed */
    SIM_EVENT_ACCEPT,    /* host, link */
    SIM_EVENT_ANSWER,    /* host, number: generation, detail: FutAnswer */
    SIM_EVENT_PACKET,    /* host, number: request, detail: client */
    SIM_EVENT_UNPAUSE,   /* host */
    SIM_EVENT_COMMAND,   /* host, detail: SimCommand */
    /* from here on: not done by a host's own threads */
    SIM_EVENT_DELIVER, /* link, detail: sending end */
    SIM_EVENT_HANG_UP, /* link, detail: end (a stranger's) */
    SIM_EVENT_CLAIM,   /* host, number: generation: the question reaches the arbiter */
    SIM_EVENT_CLIENT,  /* detail: client, which sends or sends again */
    SIM_EVENT_FAULT,   /* detail: fault that begins */
    SIM_EVENT_HEAL,    /* detail: fault that ends; SIM_FAULTS_MAX: all, for good */
    SIM_EVENT_MANAGER,
} SimEventKind;

typedef enum {
    SIM_COMMAND_PROTECT,
    SIM_COMMAND_UNPROTECT,
    SIM_COMMAND_FAILOVER
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
} SimImage;

/* One time that a host was protected by another. */
typedef struct {
    unsigned number;     /* for the trace */
    unsigned host, life; /* the primary */
    uint64_t generation;
    uint64_t cuts;      /* checkpoints taken */
    uint64_t committed; /* of them, held by the backup */
    bool given_up;      /* somebody asked for the end of it, or it was made to fail */
    SimImage image[SIM_IMAGES];
} SimProtection;

/* -- sim_net.c -- */

typedef struct {
    uint64_t due_ns;
    uint32_t length;
    bool fin; /* the stream ends here */
    uint8_t *bytes;
} SimSegment;

/* One direction of a link. */
typedef struct {
    GQueue segments; /* SimSegment, owned */
    uint64_t last_due_ns;
    size_t waiting; /* bytes in segments */
    bool stalled;   /* the path was cut when something was due */
    FutBuf arrived; /* received and not read */
    bool fin;       /* received */
} SimPipe;

typedef struct {
    unsigned number;
    unsigned end[2], life[2]; /* hosts: [0] connected, [1] listens */
    bool closed[2];
    SimPipe pipe[2]; /* [i]: sent by end i */
    FutBuf record;   /* what end 0 said first, for those who replay it */
    SimProtection *protection;
} SimLink;

typedef enum {
    SIM_MANGLE_NONE,
    SIM_MANGLE_FLIP,
    SIM_MANGLE_GARBAGE,
    SIM_MANGLE_DOUBLE,
    SIM_MANGLE_SHORTEN,
    SIM_MANGLE_COUNT
} SimMangle;

/* The way from one host to another. */
typedef struct {
    unsigned cuts;    /* faults that cut it now */
    unsigned slow;    /* faults that make it slow now */
    SimMangle mangle; /* what happens to the next segment */
} SimPath;

SimLink *sim_link_new(Sim *sim, unsigned from, unsigned to);
void sim_link_free(SimLink *link);
void sim_link_send(Sim *sim, SimLink *link, unsigned end, const void *head, size_t head_length,
                   const void *body, size_t length);
void sim_link_close(Sim *sim, SimLink *link, unsigned end);
void sim_link_deliver(Sim *sim, SimLink *link, unsigned end);
uint64_t sim_path_delay(Sim *sim, unsigned from, unsigned to);
bool sim_path_cut(const Sim *sim, unsigned from, unsigned to);
void sim_path_healed(Sim *sim, unsigned from, unsigned to);

/* -- sim_vm.c, sim_guest.c -- */

/* The guest's registers: with its memory, all there is of it. */
typedef struct {
    uint64_t steps, outputs, sum;
} SimRegisters;

typedef struct {
    unsigned client;
    uint64_t number;
} SimRequest;

typedef struct {
    FutVmm base;
    SimHost *host;
    FutMemory memory;
    uint8_t *ram; /* owned; all blocks one after the other */
    unsigned pages;
    uint8_t *dirty; /* owned; a byte a page */
    bool logging;
    SimRegisters registers;
    bool started, halted, paused, staying;
    bool stepping; /* a GUEST event is on its way */
    bool step_due; /* one came while the guest was stopped */
    bool cut_asked, cut_kept;
    GQueue arrived;    /* SimRequest, owned: in front of the VM's network card */
    SimBranch *branch; /* NULL: never ran */
    unsigned fail_save, fail_start, fail_load; /* calls that will fail */
} SimVm;

/* What the guest sends. */
typedef struct {
    uint64_t output; /* number, 1.. */
    uint64_t chain;  /* hash over all outputs so far and the state they came from */
    uint64_t acked;  /* request; 0: a timer's output */
    uint32_t client;
    uint32_t flags;
} SimPacket;

extern const FutVmmOps sim_vm_ops;
void sim_vm_init(SimVm *vm, SimHost *host);
void sim_vm_done(SimVm *vm);
bool sim_vm_moving(const SimVm *vm);
void sim_vm_cut(SimVm *vm);
void sim_vm_wake(SimVm *vm);

SimBranch *sim_branch_new(Sim *sim, const SimBranch *from, uint64_t outputs);

void sim_guest_boot(SimVm *vm);
void sim_guest_step(SimVm *vm);
uint64_t sim_guest_done(const SimVm *vm, unsigned client);
uint32_t sim_guest_state(const SimVm *vm, uint8_t *at);
bool sim_guest_load(SimVm *vm, const uint8_t *state, size_t length);

/* -- sim_host.c, sim_host_ops.c -- */

typedef enum {
    SIM_LIVE,
    SIM_FROZEN,
    SIM_DEAD,
    SIM_DARK
} SimLiving; /* DARK: dead, and nothing answers for it */
typedef enum {
    SIM_TRIP_NONE,
    SIM_TRIP_DIE,
    SIM_TRIP_FREEZE
} SimTrip;

typedef struct {
    uint64_t output, epoch;
    SimProtection *protection;
} SimHeld;

struct SimHost {
    Sim *sim;
    unsigned index, life;
    SimLiving living;
    char node[8];
    uint64_t clock_offset_ns;
    SimVm vm;
    FutEngine *engine;
    bool listening;
    unsigned peer; /* where it connects */

    SimLink *link;
    unsigned end;
    uint32_t session;
    uint64_t sequence;
    FutFrameReader *reader;
    uint64_t tick_event_ns; /* earliest TICK on its way */
    bool loop_scheduled;

    bool copy_on, copy_scheduled;
    GQueue questions; /* generations waiting to be asked, one at a time */
    bool asking;

    GArray *deferred; /* SimEvent: came while nobody could take them */
    unsigned
        depth; /* calls into this host under way: events happen while one of them is kept waiting */
    bool waking;    /* frozen in one of them, and may go on */
    bool link_busy; /* its link thread is in one */
    bool in_link;   /* the innermost is the link thread's */
    SimTrip trip;   /* what happens at the trip_ops'th effect from now */
    unsigned trip_ops;
    SimLiving dying; /* how, at the end of the call under way; SIM_LIVE: not */

    SimProtection *protection; /* as a primary: the last one */
    GQueue held;               /* SimHeld, owned: outputs the engine holds */
    SimProtection *backing;    /* as a backup: whose image it holds; NULL: none */
    bool commit_unseen;        /* a commit whose image was not looked at yet */
    FutPairState last_state;
};

void sim_host_start(SimHost *host, FutRole role, uint64_t generation);
void sim_host_free(SimHost *host);
void sim_host_die(SimHost *host, SimLiving how);
void sim_host_freeze(SimHost *host);
void sim_host_thaw(SimHost *host);
void sim_host_catch_up(SimHost *host);
void sim_host_event(SimHost *host, const SimEvent *event);
void sim_host_look(SimHost *host); /* its link thread goes round once, soon */
uint64_t sim_host_now(const SimHost *host);
void sim_host_detach(SimHost *host);
bool sim_host_up(const SimHost *host);

extern const FutEngineHost sim_host_ops;
void sim_host_packets(SimHost *host, const FutPacket *list);
void sim_host_passes(SimHost *host, const SimPacket *packet);
void sim_host_announce(SimHost *host);

/* -- sim_threads.c -- */

/* A place where a thread of a host may be kept waiting, and the host freeze or die. False: it is dead, nothing it does has any
 * effect. No lock of the engine may be held. */
bool sim_gate(SimHost *host);
/* A call into the host, by its link thread or by another. enter: false when the event has to wait. */
bool sim_enter(SimHost *host, const SimEvent *event);
void sim_leave(SimHost *host, const SimEvent *event);

/* -- sim_arbiter.c -- */

typedef struct {
    uint64_t generation;
    unsigned host, life;      /* holder */
    unsigned down[SIM_HOSTS]; /* faults that keep a host from it */
    unsigned slow;
    unsigned lose_answers;
} SimArbiter;

void sim_arbiter_ask(SimHost *host, uint64_t generation);
void sim_arbiter_claim(Sim *sim, const SimEvent *event);
void sim_arbiter_answered(SimHost *host);
bool sim_arbiter_holds(const SimHost *host);

/* -- sim_world.c -- */

typedef struct {
    uint64_t sent, acked;
    uint64_t gap_ns;
} SimClient;

typedef struct {
    SimClient client[SIM_CLIENTS];
    GArray *seen;        /* uint64_t chain; output number - 1; 0: not seen */
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
void sim_check_takeover(SimHost *host, const uint8_t *state, size_t length);
/* Is all as it should be when nothing goes wrong? Or is the VM gone, and that nobody's mistake? */
bool sim_check_well(Sim *sim);
bool sim_check_lost(Sim *sim);
void sim_check_late(Sim *sim); /* it should be well by now */

/* -- sim_faults.c, sim_strangers.c, sim_manager.c -- */

#define SIM_FAULTS_MAX 8
void sim_faults_plan(Sim *sim);
void sim_fault_begin(Sim *sim, unsigned number);
void sim_fault_end(Sim *sim, unsigned number);
/* Nothing is wrong any more, and nothing goes wrong again. */
void sim_faults_heal(Sim *sim);
const char *sim_fault_name(unsigned kind);
unsigned sim_fault_kinds(void);
void sim_stranger(Sim *sim, unsigned to);
void sim_manager(Sim *sim);
SimHost *sim_active(Sim *sim);

/* -- sim_run.c -- */

/* What differs from schedule to schedule. */
typedef struct {
    FutMode mode;
    uint32_t heartbeat_ms, timeout_ms, retry_ms, epoch_max_us, batch_max_us, verify_every,
        part_pages_max, rest_pages_max;
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
} SimProfile;

typedef struct {
    unsigned kind;
    unsigned a, b; /* hosts */
    uint64_t after_ns, last_ns;
    bool on;
    unsigned life; /* of host a when it began */
} SimFault;

/* What happened; summed up over schedules to show that they reach what they are for. */
typedef struct {
    uint64_t events, outputs, cuts, commits, released, takeovers, handovers, grants, refusals,
        fenced, protected, discards, bad_streams, reinjected, lost, faults[64];
} SimCount;

typedef enum {
    SIM_TRACING_NOT,
    SIM_TRACING_TAIL,
    SIM_TRACING_ALL
} SimTracing;

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
    bool healing;                 /* nothing goes wrong any more */
    uint64_t healing_ns, lost_ns; /* since when; lost_ns 0: not lost */
    bool over;
    unsigned events;
    uint64_t healed_acks[SIM_CLIENTS];
    FutPairFault wrong; /* fault that the engine was told to have */
    SimTracing tracing;
    GQueue trace;    /* char *, owned */
    char *violation; /* owned; NULL: all well */
    SimCount *count;
};

/* Runs one schedule. Returns NULL, or what went wrong (caller frees). */
char *sim_run(uint64_t seed, FutPairFault wrong, SimTracing tracing, SimCount *count);
/* Lets the next thing happen. */
void sim_step(Sim *sim);
void sim_trace(Sim *sim, const char *format, ...) G_GNUC_PRINTF(2, 3);
#define SIM_TRACE(sim, ...)                                                                        \
    do {                                                                                           \
        if ((sim)->tracing) {                                                                      \
            sim_trace((sim), __VA_ARGS__);                                                         \
        }                                                                                          \
    } while (0)

#endif
