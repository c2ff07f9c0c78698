/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Links between hosts (sim_net.c). Included by sim.h, after what it needs. */
#ifndef SIM_NET_H
#define SIM_NET_H

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

#endif
