/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The service's own structure and its threads: link_thread.c, copy_thread.c, disk_thread.c, ask_thread.c, control_thread.c, react_thread.c.
 */
#ifndef FUT_SERVICE_INTERNAL_H
#define FUT_SERVICE_INTERNAL_H

#include <jansson.h>

#include "arbiter.h"
#include "engine.h"
#include "fut_rate.h"
#include "greetings.h"
#include "link.h"
#include "link_tls.h"
#include "pack_choice.h"
#include "react.h"
#include "restore.h"
#include "service.h"
#include "watch.h"

/* What is sent in large messages. */
typedef enum {
    FUT_COMPRESS_NONE = FUT_PACK_NONE,
    FUT_COMPRESS_LZ4 = FUT_PACK_LZ4,
    FUT_COMPRESS_ZSTD = FUT_PACK_ZSTD,
    FUT_COMPRESS_AUTO, /* by the link's speed */
} FutCompress;

typedef struct {
    FutRole role;
    FutCompress compress;
    char *vm, *node, *arbiter; /* owned */
    char *tls, *tls_name;      /* owned; NULL: the link is plain, any name will do */
    FutAddress *listen, *to;   /* owned; may be NULL */
    char *restore;             /* owned: STORE@ID; NULL: the guest boots */
    bool restore_force;        /* over what its disks have */
    bool restore_lazy;         /* memory comes while the guest runs */
    bool restore_check;        /* memory is compared with its hash first */
    bool restore_clock;        /* the guest's wall clock is set */
    FutConnections restore_connections;
    FutIdentities identities; /* of a clone */
    char *restore_hook;       /* owned: program that is run with it; NULL: none */
    GPtrArray *shared;        /* owned: names of disks (char *, owned) */
    bool force_generation, insecure;
    FutEngineConfig engine; /* vm, node: borrowed from above */
} FutOptions;

/* By FutTracker, by FutCompress. */
extern const char *const fut_tracker_names[];
extern const char *const fut_compress_names[];

FutOptions *fut_options_parse(int argc, char **argv, GError **error);
void fut_options_free(FutOptions *options);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FutOptions, fut_options_free)
/* Without encryption, only local addresses unless the user insists. */
bool fut_options_address_allowed(const FutOptions *options, const FutAddress *address,
                                 GError **error);

#define FUT_EVENTS_KEPT 256
typedef struct {
    char *id, *text; /* owned */
    double time_s;
} FutEvent;

typedef struct FutSnapper FutSnapper;
typedef struct FutReady FutReady;

/* What is on its way into the link's socket, for whoever finds this process dead there (last_words.h). */
typedef struct {
    size_t bytes;            /* atomic; 0: nothing */
    uint64_t sent;           /* by this link before */
    uint64_t sequence, next; /* number of the next frame: before, and when all of it is in */
} FutSending;

struct FutService {
    FutVmm *vmm;
    FutOptions *options;
    FutEngine *engine;
    bool arbiter_private; /* set at start, cover.h */
    FutArbiter *arbiter;  /* ask thread; the main thread before and after it */
    uint64_t started_ns;
    uint64_t settling_ns; /* main thread; when the waiting for shared disks began, 0: it did not */

    /* link thread; `send_lock` guards what senders touch */
    GMutex send_lock;
    FutLink *link;    /* NULL: none */
    char *unsendable; /* why nothing can be sent on it any more; owned; NULL: it can */
    uint32_t session;
    uint64_t sequence;
    FutBuf gather;
    FutSending sending;
    FutPackChoice pack_choice;
    uint64_t pack_spared; /* bytes that compression kept off the links */
    int link_wake_fd;
    int connect_wanted;     /* atomic */
    FutListener *listener;  /* link thread */
    FutGreetings greetings; /* link thread */
    FutTls *tls;            /* link thread; NULL: plain */
    uint64_t tls_read_ns;   /* when its files were read last */
    char *tls_fault;        /* link thread; why they could not be read again, or NULL */
    GMutex peer_lock;
    FutAddress *peer; /* where a primary connects; peer_lock */

    /* copy thread */
    GMutex copy_lock;
    GCond copy_changed;
    bool copy_on, copy_stepping, copy_poked;

    /* disk thread */
    GMutex disk_lock;
    GCond disk_changed;
    bool disk_poked;

    /* ask thread: GAsyncQueue of generations (uint64_t *, owned) */
    GAsyncQueue *asks;
    int exiting; /* atomic */

    /* control thread */
    int control_fd, control_wake_fd;
    char *control_path;
    GMutex events_lock;
    FutEvent events[FUT_EVENTS_KEPT]; /* ring by number */
    uint64_t event_count;
    FutRate strangers;          /* events_lock; what they cause to be said */
    char *turned_away;          /* events_lock; the last connection that was, and why; or NULL */
    uint64_t turned_away_count; /* events_lock */

    GMutex restore_lock;
    FutRestore *
        restore; /* set at start; the restore thread clears it when all is there (restore_lock); NULL: none */
    FutReady *
        ready; /* set at start: the guest is let go by a command, and may be running by now; NULL: at once */
    FutWatch *watch; /* control thread; vCPUs at a hit; the watch thread takes records */
    FutReact *react;
    int react_wake_fd;
    char *records_path; /* of the records that other programs can map; NULL: there are none */
    bool watch_backup;  /* control thread; it was a backup in the round before */
    FutSnapper *snapper;
};

void *fut_link_thread(void *service);
void *fut_copy_thread(void *service);
void *fut_disk_thread(void *service);
void *fut_ask_thread(void *service);
void *fut_control_thread(void *service);
void *fut_react_thread(void *service);
/* Before the threads start. */
void fut_react_host_init(FutService *service);
void *fut_restore_thread(void *service);
void *fut_flows_thread(void *service);
/* FUT_ERR_BUSY while memory is still coming from a snapshot: nobody can say yet what was written. Any thread. */
bool fut_restore_over(FutService *service, GError **error);
/* What the status says of it; NULL when there is none, or it is over. New reference. */
json_t *fut_restore_status(FutService *service);
/* Log line and event: who runs here, as which generation. */
void fut_service_announce(FutService *service);

/* -- the host operations that belong to a thread -- */
bool fut_link_host_send(FutService *service, uint16_t type, uint16_t flags, const struct iovec *iov,
                        int count);
/* Sets *ret to a PACKED body for a message that is to be sent as one; it is the calling thread's until its
 * next call. False: send the message as it is. */
bool fut_link_pack(FutService *service, uint16_t type, uint16_t flags, const struct iovec *iov,
                   int count, struct iovec *ret);
void fut_link_host_session(FutService *service, uint32_t session);
void fut_link_host_close(FutService *service, const char *why);
size_t fut_link_host_pending(FutService *service);
/* Waits (bounded) until everything sent is with the operating system. */
void fut_link_host_drain(FutService *service, unsigned timeout_ms);
/* How links come up (link_meet.c); link thread. */
void fut_meet_init(FutService *service);
void fut_meet_connect(FutService *service);
void fut_meet_accept(FutService *service);
void fut_copy_host_copy(FutService *service, bool on);
void fut_disk_host_poke(FutService *service);
void fut_wake_fd(int fd);
void fut_wake_drain(int fd);

/* Log line and event in one. Any thread. */
void fut_service_report(FutService *service, const char *id, const char *text);
/* A connection that was turned away: report, and status. Any thread. */
void fut_service_turned_away(FutService *service, const char *id, const char *text);
/* Result of the "status" verb; new reference. */
json_t *fut_service_status(FutService *service);

#endif
