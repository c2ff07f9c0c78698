/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The one table between Futago and a virtual machine monitor. Two implementations: src/qemu (QEMU) and tests/sim (a simulated VM).
 *
 * Locks. The engine never holds its own lock while it calls an operation, except where "engine lock held" is said. An
 * implementation may hold its own big lock (QEMU's BQL) while it calls fut_engine_*(): order is big lock, then engine lock.
 */
#ifndef FUT_VMM_H
#define FUT_VMM_H

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "disk_map.h"
#include "event_set.h"
#include "fut_buf.h"
#include "identity.h"
#include "pageset.h"
#include "probe.h"
#include "wire_disk.h"

typedef struct FutEngine FutEngine;
typedef struct FutVmm FutVmm;
typedef struct FutWatch FutWatch;

/* Probes in place at a time. */
#define FUT_PROBES_MAX 32

/* A packet on its way out (held until its epoch is committed) or a copy of one that came in (logged to the backup). */
typedef struct FutPacket FutPacket;
struct FutPacket {
    FutPacket *next;
    uint64_t epoch;
    uint32_t nic;    /* number of the NIC, 0.. in the order of describe() */
    uint32_t flags;  /* the implementation's own, carried along */
    uint32_t length; /* bytes of data */
    uint8_t data[];
};

/* A writable disk of the guest. */
typedef struct {
    char *name;      /* as describe() calls it */
    uint64_t length; /* bytes, > 0; never changes */
    bool shared;     /* both hosts reach the one image */
} FutDiskInfo;
#define FUT_DISKS_MAX 32

/* Something to be done to a backup's disk. */
typedef struct FutDiskRecord FutDiskRecord;
struct FutDiskRecord {
    FutDiskRecord *next;
    FutDiskHead head;
    uint8_t data[]; /* head.length bytes with FUT_DISK_WRITE */
};

/* The device state of one moment. */
typedef struct {
    uint8_t *data; /* the VMM's, until the next save; zeros follow up to the end of the page */
    size_t length;
    /* Pages that may differ from the save before, or were no part of it: bit n % 64 of word n / 64. NULL: any. */
    const uint64_t *changed;
} FutStateImage;

/* How the device state is saved; all zero where there is nothing to tell. */
typedef struct {
    uint32_t sections;   /* that the state consists of */
    uint32_t stock;      /* of these written by the VMM's own functions, which is slower */
    uint64_t checks;     /* comparisons with a save by the VMM's own functions alone */
    uint64_t mismatches; /* of these that found a difference */
} FutStateStats;

/* Who wants to know what the guest was at an instant, and what it wrote since. */
typedef enum {
    FUT_FOR_PAIR = 1,
    FUT_FOR_SNAPSHOTS = 2
} FutPurpose;

/* How written pages are found; what each costs is in qemu/qdirty.h. */
typedef enum {
    FUT_TRACKER_QUEUE,
    FUT_TRACKER_WORDS,
    FUT_TRACKER_FLAGS,
    FUT_TRACKER_ALL /* cannot be asked for: nothing is known, every page is compared */
} FutTracker;

#define FUT_GUEST_WRITES_MAX 32
/* Returns how many there are. */
typedef unsigned (*FutGuestMake)(void *opaque, FutGuestWrite writes[FUT_GUEST_WRITES_MAX]);

/* What becomes of a guest that has panicked. */
typedef enum {
    FUT_PANIC_VMM,     /* what the VMM was told */
    FUT_PANIC_REPORT,  /* it stays as it is, stopped */
    FUT_PANIC_RESTART, /* it starts anew, some times */
    FUT_PANIC_STOP     /* the VM ends */
} FutPanic;

/* Since finding written pages began. */
typedef struct {
    FutTracker tracker;   /* at work: the one asked for, or what is possible instead */
    uint64_t collections; /* by the queue */
    uint64_t scans;       /* looks at all of memory: of the queue only when it could not tell */
    uint64_t checks;      /* comparisons of the queue with such a look */
    uint64_t mismatches;  /* of these that found a page that was not in the queue */
} FutDirtyStats;

/* A piece of the guest's code as the VMM translates it: from an address on, in one mode of the processor. Keys as in pageset.h. */
#define FUT_CODE_NONE UINT64_MAX
typedef struct {
    uint64_t page;    /* key of the page where it begins */
    uint64_t next;    /* key of the page in which it goes on; FUT_CODE_NONE: it does not */
    uint64_t address; /* as the guest sees it, or only its place in the page */
    uint32_t flags;   /* the VMM's own: the mode */
} FutCode;

/* Where packets for one of the guest's NICs come from. */
typedef struct {
    int fd; /* not blocking; each read is one packet, as fut_engine_input() sees it */
    uint32_t nic, flags;
} FutInput;

typedef struct {
    /* Fills *ret_lines (NULL-terminated, caller frees with g_strfreev) with "key=value" lines that must be equal on both hosts of a pair:
     * VMM build, machine, CPU model, vCPUs, each memory block with its length, each device section with its version.
     * FUT_ERR_UNSUPPORTED names what cannot be protected and what to do instead. Mandatory. */
    bool (*describe)(FutVmm *vmm, char ***ret_lines, GError **error);
    /* Guest memory; blocks in describe()'s order; addresses stay valid as long as the VM lives. Leaves room for one more block
     * (count < FUT_BLOCKS_MAX): the engine adds the device state as the last. Mandatory. */
    const FutMemory *(*memory)(FutVmm *vmm);

    /* -- finding what was written; mandatory -- */
    /* Everything written after it returns will be reported, until all who started it have stopped it. */
    bool (*dirty_start)(FutVmm *vmm, FutPurpose purpose, GError **error);
    void (*dirty_stop)(FutVmm *vmm, FutPurpose purpose);
    /* Guest stopped (inside fut_engine_cut()): adds the pages written since the last call and forgets them. */
    void (*dirty_collect)(FutVmm *vmm, FutPageSet *set);
    /* Any thread, no lock; figures may be a moment old. Optional. */
    void (*dirty_stats)(FutVmm *vmm, FutDirtyStats *ret);
    /* Keys of the pages that the guest has used last, the newest first; returns how many, at most `max`; 0: it is not known. Any thread, no lock. Optional. */
    size_t (*hot_pages)(FutVmm *vmm, uint64_t *ret_keys, size_t max);

    /* -- translated code; all or none: of a VMM that translates what the guest executes -- */
    /* How many pieces there are. Any thread, no lock. */
    size_t (*code_count)(FutVmm *vmm);
    /* Those of pages that the guest has executed last come first; returns how many. Any thread, no lock. */
    size_t (*code_pieces)(FutVmm *vmm, FutCode *ret, size_t max);
    /* Translates ahead what a guest that waits for its device state will execute. From here on its memory changes by nobody but its devices. Any page, place
     * and flags will do: it is a hint. Returns how many were translated. A thread of
     * its own, no lock. */
    size_t (*code_prepare)(FutVmm *vmm, const FutCode *codes, size_t count);

    /* -- checkpoints; mandatory -- */
    /* Asks for a cut: soon, in a thread of the VMM, with all vCPUs stopped and devices quiet, it calls fut_engine_cut(), then lets the guest go on
     * (unless told to stay), then calls fut_engine_cut_done(). Any thread, any time; requests while one is pending are merged.
     * When the guest is not running (paused by a person) nothing happens; when it was left stopped (FUT_CUT_STAY) the request
     * is kept until cut_resume(). */
    void (*cut_request)(FutVmm *vmm);
    /* Ends a stop that fut_engine_cut() asked for with FUT_CUT_STAY. Any thread. */
    void (*cut_resume)(FutVmm *vmm);
    /* A thread of its own, guest running, no lock: what the first save would otherwise have to search for with the guest stopped. Optional. */
    void (*state_prepare)(FutVmm *vmm);
    /* Guest stopped: the state of all devices and vCPUs. */
    bool (*state_save)(FutVmm *vmm, FutPurpose purpose, FutStateImage *ret, GError **error);

    /* Any thread, no lock; figures may be a moment old. Optional. */
    void (*state_stats)(FutVmm *vmm, FutStateStats *ret);

    /* -- life of the VM; mandatory; any thread without the big lock -- */
    bool (*state_load)(FutVmm *vmm, const uint8_t *state, size_t length,
                       GError **error); /* memory is in place already */
    bool (*run)(FutVmm *vmm, GError **error);
    void (*announce)(
        FutVmm *vmm); /* tell the network where the VM is now (gratuitous ARP and the like) */
    /* Returns when all that changes memory at the machine's start is over. Mandatory where a VM is restored. */
    void (*settle)(FutVmm *vmm);
    void (*halt)(FutVmm *vmm); /* stop the guest and never let it run again in this process */
    /* end the process in an orderly way; `failed`: its exit status is 1 */
    void (*quit)(FutVmm *vmm, bool failed);
    bool (*running)(FutVmm *vmm); /* guest not paused; engine lock may be held */

    /* -- network; mandatory -- */
    /* Lets a list of held packets go, in order. The list stays the engine's. Any thread without the big lock. */
    void (*packets_out)(FutVmm *vmm, const FutPacket *list);
    /* Gives the guest a packet that came in earlier. Any thread without the big lock. */
    void (*packet_in)(FutVmm *vmm, const FutPacket *packet);
    /* Those that the VMM would read from next; returns how many. Copies of descriptors: the caller closes them. Optional. Any thread
     * without the big lock. */
    unsigned (*inputs)(FutVmm *vmm, FutInput *ret, unsigned max);
    /* Bytes that stand before the frame in each of that NIC's packets; all zero, they say nothing of it. May be missing: none. Any thread. */
    size_t (*packet_head)(FutVmm *vmm, uint32_t nic);

    /* -- disks of each host's own; all or none. They may block as long as the disk does: any thread without the big lock -- */
    /* At most FUT_DISKS_MAX; valid as long as the VM lives. */
    const FutDiskInfo *(*disks)(FutVmm *vmm, unsigned *ret_count);
    /* Primary, guest running: reads from a chunk's start on. *length (whole chunks, or up to the disk's end) becomes what was read,
     * again whole chunks or up to the end: one chunk of data, or with *ret_zero any number of chunks that are zeroes. Less than a chunk, at
     * any multiple of 4096, is read as it was asked for. */
    bool (*disk_read)(FutVmm *vmm, unsigned disk, uint64_t offset, uint64_t *length,
                      uint8_t *buffer, bool *ret_zero, GError **error);
    /* Backup, and flushes on a primary: does what the list says, in order; frees it with fut_disk_records_free(). The error names the disk. */
    bool (*disk_write)(FutVmm *vmm, FutDiskRecord *take_list, GError **error);

    /* The file or block device that has the disk's content byte for byte, and nothing else. FUT_ERR_UNSUPPORTED: there is none (a format, say). May be
     * missing. Caller frees. */
    char *(*disk_image)(FutVmm *vmm, unsigned disk, GError **error);

    /* -- shared disks; mandatory where a disk is one. Any thread without the big lock -- */
    /* Primary: marks the image with that token until the next call, so that who has the same image can tell. */
    bool (*disk_mark)(FutVmm *vmm, unsigned disk, uint64_t token, GError **error);
    /* Backup: false with FUT_ERR_MISMATCH when this host's image does not have that mark. */
    bool (*disk_marked)(FutVmm *vmm, unsigned disk, uint64_t token, GError **error);
    /* Takes hold of all disks' images, so that no other process can; of no effect when they are held. */
    bool (*disks_claim)(FutVmm *vmm, GError **error);
    /* Guest not running: leaves all disks' images to others, keeping nothing of them in memory. */
    void (*disks_yield)(FutVmm *vmm);

    /* -- notes; all or none -- */
    /* Memory that is kept in a file beside the disk's image, zeroed when new: `bytes` of it, valid as long as the VM lives. What is
     * stored there survives the process, and the host once it was synced. *ret_same: it is what was stored last, and nobody but this
     * VMM has touched the image since. NULL: this disk can have none. Called once for each disk. */
    uint8_t *(*disk_note)(FutVmm *vmm, unsigned disk, size_t bytes, bool *ret_same);
    bool (*disk_note_sync)(FutVmm *vmm, unsigned disk);
    /* Removes the file: nobody will find it after this process. */
    void (*disk_note_drop)(FutVmm *vmm, unsigned disk);

    /* -- probes in the guest's kernel; all or none; the control thread without the big lock -- */
    /* The first vCPU as it is now, without the big lock, which may be taken for long; the memory may be read by this thread from then on.
     * FUT_ERR_UNSUPPORTED where there can be no probes. */
    bool (*guest_look)(FutVmm *vmm, FutGuestLook *ret, GError **error);
    /* From its return on each vCPU that comes to the probe's instruction calls fut_watch_hit() before it. The guest's memory is not written. Numbers
     * are below FUT_PROBES_MAX. FUT_ERR_STATE when the VMM ends; FUT_ERR_BUSY: no room for one more; FUT_ERR_UNSUPPORTED. */
    bool (*probe_insert)(FutVmm *vmm, unsigned number, const FutProbe *probe, GError **error);
    /* From its return on no vCPU is in fut_watch_hit() or fut_watch_returned() with that number. False: the VMM ends, and that cannot be said. */
    bool (*probe_remove)(FutVmm *vmm, unsigned number);
    /* One call at a time, any thread without the big lock. Calls `make` once, with the big lock, while no vCPU executes; what it puts into `writes` (as many as it
     * says) is written before one executes again. False: the VMM ends; `make` was not called, or is being called, and `opaque` must stay. */
    bool (*guest_write)(FutVmm *vmm, FutGuestMake make, void *opaque);
} FutVmmOps;

/* Implementations put this first into their own structure. */
struct FutVmm {
    const FutVmmOps *ops;
    FutEngine *engine; /* set by fut_engine_new() */
    FutWatch *watch;   /* set by fut_service_start() */
};

/* -- what an implementation calls -- */

typedef enum {
    FUT_CUT_RESUME,
    FUT_CUT_STAY
} FutCutVerdict;
/* Guest stopped, big lock held: takes the checkpoint (or declines). STAY: leave the guest stopped until cut_resume().
 * stop_begin_ns: time when the VMM began to stop the guest; the pause is counted from there. fut_now_ns() in QEMU. */
FutCutVerdict fut_engine_cut(FutEngine *engine, uint64_t stop_begin_ns);
/* Same thread, after the guest was let go (or left stopped): sends what was captured. Big lock may be held. */
void fut_engine_cut_done(FutEngine *engine);

typedef enum {
    FUT_OUTPUT_PASS,
    FUT_OUTPUT_HELD,
    FUT_OUTPUT_DROP
} FutOutput;
struct iovec;
/* A packet of that NIC passes, out of the guest or into it; the frame begins after `head` bytes. Before the two that follow. True: it must not
 * arrive, and nobody else sees it. Big lock may be held. */
bool fut_engine_flow(FutEngine *engine, uint32_t nic, bool out, size_t head,
                     const struct iovec *iov, int count);
/* The guest sends a packet. HELD: copied, comes back through packets_out(). Big lock may be held. */
FutOutput fut_engine_output(FutEngine *engine, uint32_t nic, uint32_t flags,
                            const struct iovec *iov, int count);
/* A NIC sends at once when the guest tells it to, in the vCPU's thread, so that the cut can follow there: outputs are held now, and
 * are rare. Where many share a checkpoint the vCPU's time is worth more than their way's length. */
bool fut_engine_send_at_kick(FutEngine *engine);
/* How the network knows that NIC, if not by the guest's own addresses; NULL: by these. Valid as long as the VM lives. */
const FutIdentity *fut_engine_identity(const FutEngine *engine, uint32_t nic);
/* The guest is about to receive a packet: it is noted for the backup when protected. Big lock may be held. */
void fut_engine_input(FutEngine *engine, uint32_t nic, uint32_t flags, const struct iovec *iov,
                      int count);
/* In how many milliseconds fut_engine_inputs_given() should be called; 0: now; -1: nothing is noted. Big lock may be held. */
int fut_engine_inputs_wait_ms(FutEngine *engine);
/* Sends the backup what was noted, if it has waited for long. Without the big lock. */
void fut_engine_inputs_given(FutEngine *engine);
/* The guest is about to write to a disk (or zeroes, or discards). False: not yet, try again in a millisecond, with `hurry` if
 * something waits for the disk to be quiet. `write` stays where it is until fut_engine_disk_end(). Both calls with the big lock. */
bool fut_engine_disk_begin(FutEngine *engine, unsigned disk, FutDiskWrite *write, bool hurry);
/* It was done (or failed: !ok), before the guest hears of it. With FUT_DISK_WRITE, data is what reached the disk, byte for byte; it
 * may be NULL if begin did not set write->sending. No cut may come while this runs. */
void fut_engine_disk_end(FutEngine *engine, unsigned disk, FutDiskWrite *write, FutDiskKind kind,
                         const uint8_t *data, bool ok);
/* The guest's flush of a disk succeeded. Big lock held. */
void fut_engine_disk_flushed(FutEngine *engine, unsigned disk);
typedef enum {
    FUT_SERIES_PASS, /* nothing more is to be saved: write */
    FUT_SERIES_SAVE, /* read that first, and say fut_engine_series_saved(); then ask again */
    FUT_SERIES_WAIT  /* ask again in a millisecond */
} FutSeriesVerdict;
/* Before fut_engine_disk_begin(), for the same writes: may it change what is there, for the snapshots' sake? Both with the big lock. */
FutSeriesVerdict fut_engine_series_before(FutEngine *engine, unsigned disk, uint64_t offset,
                                          uint64_t length, bool hurry, uint64_t *ret_offset,
                                          uint64_t *ret_length);
/* data NULL: it could not be read. */
void fut_engine_series_saved(FutEngine *engine, unsigned disk, uint64_t offset, uint64_t length,
                             const uint8_t *data);
/* -- the guest and a disk that is shared; instead of the three calls above, all with the big lock held -- */
typedef enum {
    FUT_SHARED_PASS, /* nothing is held back: do it */
    FUT_SHARED_HOLD, /* it counts as done when the engine has it */
    FUT_SHARED_WAIT, /* ask again in a millisecond */
    FUT_SHARED_DROP, /* nothing is to be done: it is, or this guest never learns what came of it */
    FUT_SHARED_FAIL  /* the image cannot be written */
} FutSharedVerdict;
/* Before a write. PASS: fut_engine_shared_passed() follows. HOLD: fut_engine_shared_hold() follows, before the lock is let go;
 * the image gets it through disk_write(). `hurry` if something waits for the disk to be quiet. */
FutSharedVerdict fut_engine_shared_write(FutEngine *engine, bool hurry);
void fut_engine_shared_passed(FutEngine *engine);
/* Before a flush. HOLD: fut_engine_shared_hold() with a record of it follows, likewise. */
FutSharedVerdict fut_engine_shared_flush(FutEngine *engine);
void fut_engine_shared_hold(FutEngine *engine, FutDiskRecord *take_record);
/* Before a read: what is to be laid over that which the image has, in order; the caller frees it. NULL: nothing. */
FutDiskRecord *fut_engine_shared_read(FutEngine *engine, unsigned disk, uint64_t offset,
                                      uint64_t length);

/* Something of that kind happens, of those that fut_engine_events() names (packets going out apart: fut_engine_output() knows
 * of them). Big lock may be held. */
void fut_engine_event(FutEngine *engine, FutEventKind event);
/* What a checkpoint is to be cut for; never changes. */
FutEventSet fut_engine_events(const FutEngine *engine);
/* The guest has nothing to do (a vCPU went idle): outputs that waited for company are cut now. */
void fut_engine_idle(FutEngine *engine);
FutPanic fut_engine_on_panic(const FutEngine *engine);
/* The guest's kernel says that it cannot go on; `outcome` is what comes of it, for people. Big lock may be held. */
void fut_engine_panicked(FutEngine *engine, const char *outcome);
/* From state_save(): compare with a save by the VMM's own functions at every n-th, if there is a faster way. 0 = never. */
unsigned fut_engine_state_check_every(const FutEngine *engine);
/* From dirty_start(): the way asked for. */
FutTracker fut_engine_tracker(const FutEngine *engine);
/* From dirty_collect(): compare the queue with a look at all of memory at every n-th. 0 = never. */
unsigned fut_engine_tracker_check_every(const FutEngine *engine);
/*
 * A vCPU is at a probe's instruction: its thread, the guest's other vCPUs run on; the big lock may be held. Returns an address, or 0: from then
 * on, until the probe is removed, each vCPU that comes there calls fut_watch_returned(), this one's return included; if that cannot
 * be, fut_watch_unreturned() follows.
 */
uint64_t fut_watch_hit(FutWatch *watch, unsigned number, const FutProbeHit *hit);
void fut_watch_returned(FutWatch *watch, unsigned number, const FutProbeHit *hit);
void fut_watch_unreturned(FutWatch *watch, unsigned number, const FutProbeHit *hit);
/* The VMM is about to exit on its own (guest powered off, quit): tells the backup to stand down. The guest is stopped. */
void fut_engine_exiting(FutEngine *engine);
/* Before that, until it says true: writes of the guest that are held back reach the image, now that there is to be no twin. */
bool fut_engine_settled(FutEngine *engine);

#endif
