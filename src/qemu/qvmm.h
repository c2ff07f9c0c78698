/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A QEMU process as a FutVmm. One object a process; it is never freed, because QEMU's threads use
 * it until the process ends. Each qX.c file beside this one holds the operations of one subject and
 * the part of the object they need.
 *
 * Locks. "BQL" is QEMU's big lock: devices, memory maps, the run state. Operations are called by
 * the engine's threads without it and take it where they need it (fut_qvmm_lock). Order: BQL, then
 * the engine's lock, then FutQnet.lock.
 */
#ifndef FUT_QVMM_H
#define FUT_QVMM_H

#include "compat.h"

#include "fut_rate.h"
#include "vmm.h"
#include "qnote.h"

typedef struct FutQvmm FutQvmm;
typedef struct FutQfilter FutQfilter;

/* How a function is brought to run while no vCPU executes. */
typedef enum {
    FUT_QSTOP_THREAD,    /* in the one vCPU thread there is: it cannot execute meanwhile */
    FUT_QSTOP_EXCLUSIVE, /* in one vCPU thread, the others kept out of the guest */
    FUT_QSTOP_PAUSE,     /* in the main loop, all vCPU threads parked */
} FutQstopWay;

/* A call with the guest stopped; kept alive by the caller until it was made. */
typedef struct FutQstop FutQstop;
struct FutQstop {
    FutQvmm *qvmm;
    /*
     * BQL held, no vCPU executes. True: make after() as well; the call is not touched any more if
     * false.
     */
    bool (*run)(FutQstop *stop);
    /* BQL held, same thread; other vCPUs may execute again, or vCPUs were kept stopped. */
    void (*after)(FutQstop *stop);
    FutQstopWay way;
    uint64_t begin_ns; /* when the stopping began */
};

typedef enum {
    FUT_QCUT_IDLE,
    FUT_QCUT_ASKED,
    FUT_QCUT_RUNNING,
    FUT_QCUT_AGAIN
} FutQcutState;

/* Where the clocks stand against the host's while they run. */
typedef struct {
    int64_t ticks_offset, time_offset;
} FutQclock;

typedef struct {
    FutQstop stop;
    FutQclock clock;
    int state;    /* FutQcutState, atomic: at most one cut is under way */
    bool wanted;  /* BQL: asked for while the guest could not be cut; ask again when it goes on */
    bool staying; /* BQL: vCPUs are kept stopped for the engine */
    bool ending;  /* atomic: QEMU is about to exit */
} FutQcut;

typedef struct {
    unsigned queues;
    FutQfilter **filters; /* [queues]; NULL when that netdev is gone */
    const char *model;    /* QEMU's */
    char *mac;
} FutQnic;

typedef struct {
    GMutex lock;  /* for those who do not hold the BQL; the array itself is fixed once attached */
    GArray *nics; /* FutQnic */
    Notifier waits;
} FutQnet;

typedef struct {
    struct FutQstate *state; /* BQL; made at the first save */
} FutQdevices;

/* BQL. */
typedef struct {
    unsigned on; /* FutPurpose: for whom dirty logging is */
    FutDirtyStats stats;
} FutQdirty;

/* Fixed once attached. */
typedef struct {
    unsigned count;
    FutDiskInfo disks[FUT_DISKS_MAX];
    BlockDriverState *nodes[FUT_DISKS_MAX]; /* the filters */
    int marks[FUT_DISKS_MAX];               /* descriptors that carry a shared disk's mark, or -1 */
    Error *reason;                          /* why QEMU may not change them */
    unsigned shared;                        /* of the disks, those that are */
    bool inactive;                          /* BQL: images are another process's */
    FutQnote notes[FUT_DISKS_MAX];          /* their files may not be open */
} FutQblock;

typedef struct {
    GPtrArray *controllers; /* PCIIDEState, borrowed */
    uint64_t since_ns;      /* BQL: when a transfer was first seen told and not started; 0 = none */
} FutQide;

/* What is to be written to the guest's memory; one at a time. */
typedef struct {
    FutGuestMake make;
    void *opaque;
} FutQpatch;

struct FutQvmm {
    FutVmm vmm;
    FutMemory memory;
    RAMBlock *blocks[FUT_BLOCKS_MAX];
    FutQdirty dirty;
    FutQcut cut;
    FutQnet net;
    FutQdevices devices;
    FutQblock block;
    FutQide ide;
    GPtrArray *kept; /* BQL: FutHeap of each vCPU's thread, until the guest is to run; NULL: none */
    GPtrArray *virtio; /* the machine's virtio devices; fixed once attached */
    GPtrArray *nets;   /* those of them that send packets */
    bool closed;       /* BQL: QEMU takes no changes of the machine any more: no second check */
    bool halted;       /* BQL: never to run again in this process */
    bool standby;      /* BQL: not to run before run() */
    FutRate restarts;  /* BQL: of a guest that panicked */
    uint32_t boots;    /* atomic: how often the machine was reset */
    FutQpatch patch;
    unsigned translated; /* BQL: pieces of code, ahead */
};

/* Machine is complete, guest not started, BQL held. Refuses nothing: describe() does. */
FutQvmm *fut_qvmm_new(bool standby);

/*
 * Takes the BQL unless this thread has it; returns what fut_qvmm_unlock() wants to know. Registers
 * the thread with QEMU's RCU.
 */
bool fut_qvmm_lock(void);
/* This thread may read guest memory; of no effect where it is one of QEMU's own, or was registered before. */
void fut_qvmm_register_thread(void);
void fut_qvmm_unlock(bool taken);

/* -- qmemory.c -- */
void fut_qmemory_init(FutQvmm *qvmm);
const FutMemory *fut_qmemory_get(FutVmm *vmm);
bool fut_qmemory_start(FutVmm *vmm, FutPurpose purpose, GError **error);
void fut_qmemory_stop(FutVmm *vmm, FutPurpose purpose);
void fut_qmemory_collect(FutVmm *vmm, FutPageSet *set);
void fut_qmemory_stats(FutVmm *vmm, FutDirtyStats *ret);

/* -- qhot.c -- */
/* From here on it is known which pages the guest uses, where that can be; or no more. One thread at a time, while the guest runs. */
void fut_qhot_follow(FutQvmm *qvmm, bool on);
/* Of all times in which they were followed. The same thread. */
size_t fut_qhot_pages(FutVmm *vmm, uint64_t *ret_keys, size_t max);

/* How many moments ago (recency.h) code of that page was executed, as far as that was followed. Any thread. */
uint32_t fut_qhot_code_age(unsigned block, uint64_t page);

/* -- qahead.c -- */
size_t fut_qahead_count(FutVmm *vmm);
size_t fut_qahead_pieces(FutVmm *vmm, FutCode *ret, size_t max);
size_t fut_qahead_prepare(FutVmm *vmm, const FutCode *codes, size_t count);
/* The device state was loaded: what was translated ahead is to stay. The same holding of the BQL as the load. */
void fut_qahead_keep(const FutQvmm *qvmm);

/* -- qstop.c -- */
/* Queues the call; it is made soon, whether the VM runs or not. BQL held. */
void fut_qstop_post(FutQstop *stop);
/*
 * Makes the call and waits for it. No BQL. False: QEMU ends, the call was not made and never will
 * be.
 */
bool fut_qstop_call(FutQvmm *qvmm, void (*run)(FutQvmm *qvmm));

/* -- qclock.c; BQL held -- */
void fut_qclock_stop(FutQclock *clock);
void fut_qclock_go_on(const FutQclock *clock);

/* -- qcut.c -- */
void fut_qcut_init(FutQvmm *qvmm);
void fut_qcut_request(FutVmm *vmm);
void fut_qcut_resume(FutVmm *vmm);
/* The guest runs again after a pause. BQL held. */
void fut_qcut_running(FutQvmm *qvmm);
/* No vCPU has anything to do. BQL held. */
bool fut_qcut_asleep(void);
/* A vCPU is about to sleep. Its thread, BQL held. */
void fut_qcut_idle(FutQvmm *qvmm);

/* -- qdevices.c -- */
void fut_qdevices_prepare(FutVmm *vmm);
bool fut_qdevices_save(FutVmm *vmm, FutPurpose purpose, FutStateImage *ret, GError **error);
bool fut_qdevices_load(FutVmm *vmm, const uint8_t *state, size_t length, GError **error);
void fut_qdevices_stats(FutVmm *vmm, FutStateStats *ret);
/* Guest stopped, BQL held: part of a load, done ahead. */
void fut_qdevices_open(FutQvmm *qvmm);

/* -- qnet.c -- */
/* Registers the filter's type: before the machine exists. */
void fut_qnet_register(void);
/* Puts a filter on each queue of each NIC. BQL held, guest not started. */
void fut_qnet_attach(FutQvmm *qvmm);
/* The netdev wants a header before each packet. BQL held. */
bool fut_qnet_has_header(FutQfilter *filter);
/* The guest's own announcements wait a little. After loading, before the guest runs; BQL held. */
void fut_qnet_quieten(FutQvmm *qvmm);
void fut_qnet_out(FutVmm *vmm, const FutPacket *list);
unsigned fut_qnet_inputs(FutVmm *vmm, FutInput *ret, unsigned max);
void fut_qnet_in(FutVmm *vmm, const FutPacket *packet);
size_t fut_qnet_head(FutVmm *vmm, uint32_t nic);

/* -- qblock.c, qblock_filter.c, qblock_io.c -- */
/* Registers the filter: before the machine exists. */
void fut_qblock_register(void);
/* Adds the disks that cannot be protected, one line each (owned). BQL held. */
void fut_qblock_check(GPtrArray *problems);
/* Puts a filter above each writable disk; `shared` names those that are. BQL held, guest not started, disks were checked. */
bool fut_qblock_attach(FutQvmm *qvmm, char *const *shared, GError **error);
/* QEMU is about to take the disks down: it wants nobody to object. BQL held. */
void fut_qblock_ending(FutQvmm *qvmm);
const FutDiskInfo *fut_qblock_disks(FutVmm *vmm, unsigned *ret_count);
void fut_qblock_describe(const FutQvmm *qvmm, GPtrArray *lines);
/* Waits until no request is under way. BQL held, guest stopped. */
void fut_qblock_drain(const FutQvmm *qvmm);
bool fut_qblock_read(FutVmm *vmm, unsigned disk, uint64_t offset, uint64_t *length, uint8_t *buffer,
                     bool *ret_zero, GError **error);
bool fut_qblock_write(FutVmm *vmm, FutDiskRecord *take_list, GError **error);
char *fut_qblock_image(FutVmm *vmm, unsigned disk, GError **error);
uint8_t *fut_qblock_note(FutVmm *vmm, unsigned disk, size_t bytes, bool *ret_same);
bool fut_qblock_note_sync(FutVmm *vmm, unsigned disk);
void fut_qblock_note_drop(FutVmm *vmm, unsigned disk);

/* -- qblock_images.c -- */
/* A standby's machine exists, its images were opened without taking hold of them. False: they were not. BQL held. */
bool fut_qblock_end_incoming(GError **error);
/* All images were opened so, and stay another's until fut_qblock_claim(). */
void fut_qblock_stay_out(FutQvmm *qvmm);
bool fut_qblock_mark(FutVmm *vmm, unsigned disk, uint64_t token, GError **error);
bool fut_qblock_marked(FutVmm *vmm, unsigned disk, uint64_t token, GError **error);
bool fut_qblock_claim(FutVmm *vmm, GError **error);
void fut_qblock_yield(FutVmm *vmm);
/* Lets QEMU work on its disks until settled() says true. Main thread, BQL held; settled() is called without. */
void fut_qblock_settle(FutQvmm *qvmm, bool (*settled)(void));

/* -- qide.c; BQL held -- */
/* Machine complete, guest not started. */
void fut_qide_attach(FutQide *ide);
/* Guest stopped: an IDE transfer is between being told and being started. Not for long. */
bool fut_qide_in_gap(FutQide *ide, uint64_t now_ns);

/* -- qnotify.c; BQL held -- */
/* Machine complete, guest not started. */
void fut_qnotify_attach(FutQvmm *qvmm);
/* Guest stopped, no disk request under way: interrupts that are on their way reach the interrupt controller. */
void fut_qnotify_deliver(const FutQvmm *qvmm);

/* -- qtx.c -- */
/* Lets virtio-net send at the guest's kick while outputs are held. BQL held, guest not started. */
void fut_qtx_attach(FutQvmm *qvmm);
/* A vCPU is about to sleep: packets that wait though nobody was told of them are sent. BQL held. */
void fut_qtx_asleep(FutQvmm *qvmm);

/* -- qevents.c -- */
/*
 * From here on consoles and timers tell the engine (those of them that are in the set). Once a process; BQL held, guest not
 * started. FUT_ERR_UNSUPPORTED: a timer is out of sight.
 */
bool fut_qevents_attach(FutQvmm *qvmm, FutEventSet events, GError **error);
/* Tells the engine of an event, if it wants to hear of those. qvmm may be NULL. */
static inline void fut_qevent(const FutQvmm *qvmm, FutEventKind event)
{
    FutEngine *engine = qvmm ? qvmm->vmm.engine : NULL;

    if (engine && (fut_engine_events(engine) & FUT_EVENT_SET(event))) {
        fut_engine_event(engine, event);
    }
}

/* -- qcheck.c, qrefuse.c -- */
bool fut_qcheck_describe(FutVmm *vmm, char ***ret_lines, GError **error);
void fut_qrefuse_add(GPtrArray *problems, const char *format, ...) G_GNUC_PRINTF(2, 3);
/* Adds what cannot be protected, one line each: culprit and remedy (owned). BQL held. */
void fut_qrefuse_list(GPtrArray *problems);
/* False and FUT_ERR_UNSUPPORTED, with the first of them. BQL held. */
bool fut_qrefuse_machine(FutQvmm *qvmm, GError **error);
/*
 * From here on QEMU itself refuses hot-plug, migration and devices that come to be unmigratable.
 * BQL held, after fut_qrefuse_machine().
 */
bool fut_qrefuse_changes(FutQvmm *qvmm, GError **error);

/* -- qpanic.c; BQL held -- */
/* When the engine is there. */
void fut_qpanic_init(FutQvmm *qvmm);
/* QEMU has stopped the guest because it panicked. */
void fut_qpanic_seen(FutQvmm *qvmm);

/* -- qprobe.c -- */
/* The machine is complete, the guest not started. */
void fut_qprobe_init(FutQvmm *qvmm, qemu_plugin_id_t id);
bool fut_qprobe_look(FutVmm *vmm, FutGuestLook *ret, GError **error);
bool fut_qprobe_insert(FutVmm *vmm, unsigned number, const FutProbe *probe, GError **error);
bool fut_qprobe_remove(FutVmm *vmm, unsigned number);
bool fut_qprobe_write(FutVmm *vmm, FutGuestMake make, void *opaque);

/* -- qready.c -- */
/* A standby, or a restore that is kept ready, once the machine is complete: what can be done before the guest is to run. */
void fut_qready_init(FutQvmm *qvmm);
/* The guest is to run now. BQL held. */
void fut_qready_go(FutQvmm *qvmm);

/* -- qlife.c -- */
void fut_qlife_init(FutQvmm *qvmm);
bool fut_qlife_run(FutVmm *vmm, GError **error);
void fut_qlife_announce(FutVmm *vmm);
void fut_qlife_settle(FutVmm *vmm);
void fut_qlife_halt(FutVmm *vmm);
void fut_qlife_quit(FutVmm *vmm, bool failed);
/* At the process's end, behind all others who are called then: the exit status of a quit that was a failure. */
void fut_qlife_exit_status(void);
bool fut_qlife_running(FutVmm *vmm);

#endif
