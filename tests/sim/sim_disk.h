/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Simulated disks: small, with small chunks, so that everything happens to them within a schedule. Included by sim.h.
 *
 *   sim_disk.c        the images, and vmm.h's part of them    sim_disk_guest.c  what the guest does with its disks
 *   sim_disk_check.c  the rules                              sim_disk_note.c   the notes beside the images */
#ifndef SIM_DISK_H
#define SIM_DISK_H

#define SIM_DISKS 2
#define SIM_SECTOR 16
#define SIM_CHUNK_SHIFT 8
#define SIM_DISK_BYTES (10u << SIM_CHUNK_SHIFT) /* the largest */
#define SIM_DISK_SECTORS (SIM_DISK_BYTES / SIM_SECTOR)
#define SIM_IO_BYTES 384 /* the longest write */
#define SIM_NOTE_BYTES 128
#define SIM_IOS 4 /* requests of the guest at the same time */

/* A host's image of a disk: it outlives the VMM. */
typedef struct {
    uint8_t now[SIM_DISK_BYTES]; /* as it reads */
    /* As it was flushed last: a power cut may go back to this, sector by sector. */
    uint8_t safe[SIM_DISK_BYTES];
    /* Beside it: its note as the next process finds it, and as it would after a power cut. */
    uint8_t note[SIM_NOTE_BYTES], note_safe[SIM_NOTE_BYTES];
    bool foreign; /* somebody touched the image */
} SimDisk;

/* What a primary's disk must be on its twin, as of one moment. */
typedef struct {
    uint8_t now[SIM_DISK_BYTES];
    bool flushed; /* while protected; then, as it was at the last flush: */
    uint8_t then[SIM_DISK_BYTES];
    bool since[SIM_DISK_SECTORS]; /* written after it */
    uint64_t
        epoch[SIM_DISK_SECTORS]; /* of the protection, in which it was written last; 0: before */
} SimDiskView;

/* A request of the guest. */
typedef struct {
    uint64_t number; /* 0: none */
    FutDiskWrite write;
    unsigned disk;
    FutDiskKind kind;
    bool begun;
    uint64_t save_offset, save_length; /* for a snapshot, first; length 0: nothing */
    uint8_t data[SIM_IO_BYTES];
} SimIo;

/* A VM's disks. */
typedef struct {
    FutDiskInfo info[SIM_DISKS];
    SimIo io[SIM_IOS];
    uint64_t number; /* of the newest request */
    bool draining;   /* a cut waits for them; the guest is stopped */
    SimDiskView view[SIM_DISKS];
    unsigned fail_write, fail_read, fail_guest; /* calls that will fail */
    uint8_t note[SIM_DISKS][SIM_NOTE_BYTES];    /* in memory, the file itself to the process */
    bool noted, dropped[SIM_DISKS];
    unsigned fail_note; /* syncs that will fail */
    unsigned slow;      /* faults that make it slow now */
} SimVmDisks;

#endif
