/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A host and the VM on it. Included by sim.h, after what it needs. */
#ifndef SIM_HOST_H
#define SIM_HOST_H

/* -- sim_vm.c, sim_guest.c -- */

/* The guest's registers: with its memory, all there is of it. */
typedef struct {
    uint64_t steps, outputs, sum;
} SimRegisters;

typedef struct {
    unsigned client;
    unsigned protection; /* of the guest that got it; number + 1 */
    uint64_t epoch;      /* likewise */
    uint64_t number;
} SimRequest;

typedef struct {
    FutVmm base;
    SimHost *host;
    FutMemory memory;
    uint8_t *ram; /* owned; all blocks one after the other */
    unsigned pages;
    uint8_t *dirty;   /* owned; a byte a page */
    uint8_t *guarded; /* likewise: protected against writing */
    unsigned logging; /* FutPurpose: for whom */
    SimRegisters registers;
    bool started, halted, paused, staying;
    bool stepping; /* a GUEST event is on its way */
    bool step_due; /* one came while the guest was stopped */
    bool cut_asked, cut_kept;
    uint8_t saved[SIM_STATE_PAGES * FUT_PAGE_SIZE]; /* the device state last saved */
    uint32_t saved_length;
    uint64_t saved_changed;
    GQueue arrived;    /* SimRequest, owned: in front of the VM's network card */
    SimBranch *branch; /* NULL: never ran */
    unsigned fail_save, fail_start, fail_load; /* calls that will fail */
    SimVmDisks disks;
} SimVm;

/* What the guest sends. */
typedef struct {
    uint64_t output; /* number, 1.. */
    uint64_t chain;  /* hash over all outputs so far and the state they came from */
    uint64_t acked;  /* request; 0: a timer's output */
    uint32_t client;
    uint32_t flags;
} SimPacket;

/* A host's snapshots. */
typedef struct {
    bool on, no_guard, under_way;
    bool image_taken; /* a backup's image has had its instant */
    SimRandom random;
    uint64_t number;       /* of the newest event */
    uint64_t breaks_in;    /* calls of the sink until one fails; 0: none */
    uint8_t *truth;        /* owned: memory at the cut */
    uint8_t *draft, *base; /* owned: the one that is made, the one before */
    uint8_t disk_truth[SIM_DISKS][SIM_DISK_BYTES];
    uint8_t disk_draft[SIM_DISKS][SIM_DISK_BYTES], disk_base[SIM_DISKS][SIM_DISK_BYTES];
    uint8_t state_truth[SIM_STATE_PAGES * FUT_PAGE_SIZE];
    size_t state_length;
} SimSeries;

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
void sim_guest_io_done(SimVm *vm); /* a disk request ended */

/* -- sim_disk.c, sim_disk_guest.c -- */

void sim_disks_make(SimHost *host);
void sim_disks_lose_power(SimHost *host);
void sim_disks_touch(SimHost *host);
void sim_disk_put(SimDisk *image, uint64_t offset, uint64_t length, const uint8_t *data);
void sim_disk_flush(SimDisk *image);
void sim_vm_disks_init(SimVm *vm);
const FutDiskInfo *sim_vm_disks(FutVmm *vmm, unsigned *ret_count);
bool sim_vm_disk_read(FutVmm *vmm, unsigned disk, uint64_t offset, uint64_t *length,
                      uint8_t *buffer, bool *ret_zero, GError **error);
bool sim_vm_disk_write(FutVmm *vmm, FutDiskRecord *take_list, GError **error);
uint8_t *sim_vm_disk_note(FutVmm *vmm, unsigned disk, size_t bytes, bool *ret_same);
bool sim_vm_disk_note_sync(FutVmm *vmm, unsigned disk);
void sim_vm_disk_note_drop(FutVmm *vmm, unsigned disk);
void sim_notes_keep(SimHost *host);
void sim_disk_poke(SimHost *host);
void sim_disk_some(SimHost *host);
void sim_disk_event(SimVm *vm, const SimEvent *event);
bool sim_disks_drain(SimVm *vm);
uint64_t sim_disk_request(SimVm *vm, uint64_t lot, uint64_t more);

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
    SIM_TRIP_DARK,
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
    SimSeries series;
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

    bool copy_on, copy_scheduled, in_copy, disk_scheduled;
    uint64_t disk_steps;     /* of its disk thread */
    SimDisk disk[SIM_DISKS]; /* outlive the host's lives */
    GQueue questions;        /* generations waiting to be asked, one at a time */
    bool asking;

    GArray *deferred; /* SimEvent: came while nobody could take them */
    unsigned depth;   /* calls into this host under way: one may be kept waiting */
    bool waking;      /* frozen in one of them, and may go on */
    bool link_busy;   /* its link thread is in one */
    bool in_link;     /* the innermost is the link thread's */
    SimTrip trip;     /* what happens at the trip_ops'th gate from now */
    unsigned trip_ops;
    bool ending;     /* the VM was ended on purpose: it asks for nothing more */
    bool end_told;   /* to the arbiter, or it was tried */
    SimLiving dying; /* how, at the end of the call under way; SIM_LIVE: not */

    SimProtection *protection;  /* as a primary: the last one */
    GQueue held;                /* SimHeld, owned: outputs the engine holds */
    SimProtection *backing;     /* as a backup: whose image it holds; NULL: none */
    SimProtection *written_for; /* whose epoch was committed here last */
    bool commit_unseen;         /* a commit whose image was not looked at yet */
    FutPairState last_state;
};

void sim_host_start(SimHost *host, FutRole role, uint64_t generation);
void sim_host_free(SimHost *host);
void sim_host_die(SimHost *host, SimLiving how);
void sim_host_freeze(SimHost *host);
void sim_host_thaw(SimHost *host);
void sim_host_catch_up(SimHost *host);
void sim_host_event(SimHost *host, const SimEvent *event);
uint64_t sim_host_now(const SimHost *host);
bool sim_host_up(const SimHost *host);

extern const FutEngineHost sim_host_ops;
bool sim_resends(const SimHost *host);
void sim_host_packets(SimHost *host, const FutPacket *list);
void sim_host_passes(SimHost *host, const SimPacket *packet);
void sim_host_announce(SimHost *host);

/* -- sim_link_thread.c -- */

void sim_link_round(SimHost *host);
void sim_link_connect(SimHost *host);
void sim_link_adopt(SimHost *host, SimLink *link, unsigned end);
void sim_link_accept(SimHost *host, SimLink *link);
void sim_host_look(SimHost *host); /* the link thread goes round once, soon */
void sim_host_detach(SimHost *host);

/* -- sim_threads.c -- */

/* A place where a thread of a host may be kept waiting, and the host freeze or die. False: it is dead, nothing it does has any
 * effect. No lock of the engine may be held. */
bool sim_gate(SimHost *host);
/* Its threads other than the one that calls go on for a while. False: it is dead. */
bool sim_wait(SimHost *host);
/* A call into the host, by its link thread or by another. enter: false when the event has to wait. */
bool sim_enter(SimHost *host, const SimEvent *event);
void sim_leave(SimHost *host, const SimEvent *event);

#endif
