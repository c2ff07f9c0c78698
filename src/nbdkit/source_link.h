/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A connection to the source that comes back when it is lost, with a thread of its own. Many requests may be under way; answers come in
 * any order. */
#ifndef FUT_SOURCE_LINK_H
#define FUT_SOURCE_LINK_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct FutSourceLink FutSourceLink;

/* A question to the source. The link calls done() exactly once, from any thread and with the link's locks held: do no more there than
 * passing it on. */
typedef struct FutSourceRequest FutSourceRequest;
struct FutSourceRequest {
    uint64_t offset;
    uint32_t length;
    uint8_t *data;   /* `length` bytes for a read; NULL: ask for extents */
    GArray *extents; /* of an answer about extents: FutSourceExtent */
    int error;       /* ENOTCONN: the connection was lost, or there was none */
    uint64_t sent_ns, done_ns;
    void (*done)(FutSourceRequest *request);
    void *owner;
};
typedef struct {
    uint64_t length;
    bool zero; /* reads as zeroes */
} FutSourceExtent;

/* Asks for the size of the source: connects once. FUT_ERR_IO with the reason. */
bool fut_source_size(const char *uri, uint64_t *ret_size, GError **error);

/* Starts to connect. A source that has another size than `size` is not talked to. `role` names the connection in log lines. */
FutSourceLink *fut_source_link_new(const char *uri, uint64_t size, const char *role);
/* Stops it first, if that was not done. NULL is fine. */
void fut_source_link_free(FutSourceLink *link);
/* Drops the connection for good: requests under way end with ENOTCONN. The thread ends. */
void fut_source_link_stop(FutSourceLink *link);
/* No new requests will come: says goodbye once none is under way. */
void fut_source_link_retire(FutSourceLink *link);

bool fut_source_link_up(FutSourceLink *link);
/* The source tells extents. False while there is no connection. */
bool fut_source_link_has_extents(FutSourceLink *link);
/* Why there is no connection: caller frees; NULL when there is one. */
char *fut_source_link_fault(FutSourceLink *link);
/* Times the connection was made. */
unsigned fut_source_link_connects(FutSourceLink *link);

/* The request is the link's until done(). */
void fut_source_link_submit(FutSourceLink *link, FutSourceRequest *request);
/* Reads, waiting for a connection and an answer until wait_ms have passed (ETIMEDOUT) or `cancelled` says so (ESHUTDOWN). Reads that the
 * source refuses are tried a few times. */
int fut_source_link_read(FutSourceLink *link, void *buf, uint32_t length, uint64_t offset,
                         unsigned wait_ms, bool (*cancelled)(void));

#endif
