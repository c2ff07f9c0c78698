/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "input_log.h"

#include <glib.h>
#include <string.h>
#include <sys/uio.h>

/* Before each record. */
typedef struct {
    uint64_t at_ns;
    uint64_t length;
} Head;

void fut_input_log_init(FutInputLog *log)
{
    *log = (FutInputLog){ .data = g_malloc(FUT_INPUT_LOG_SIZE) };
}

void fut_input_log_done(FutInputLog *log)
{
    g_clear_pointer(&log->data, g_free);
}

/* Nothing before it comes later. */
static void publish(uint64_t *at, uint64_t value)
{
    __atomic_store_n(at, value, __ATOMIC_RELEASE);
}

static uint64_t look(const uint64_t *at)
{
    return __atomic_load_n(at, __ATOMIC_ACQUIRE);
}

bool fut_input_log_empty(const FutInputLog *log)
{
    return look(&log->begin) == look(&log->end);
}

bool fut_input_log_put(FutInputLog *log, uint64_t now_ns, const FutInbound *inbound,
                       const struct iovec *iov, int count, size_t length)
{
    Head head = { now_ns, FUT_INBOUND_SIZE + length };

    if (fut_input_log_empty(log) && !log->reading) {
        log->base = log->end;
    }
    size_t used = log->end - log->base;
    if (FUT_INPUT_LOG_SIZE - used < sizeof(head) + FUT_INBOUND_SIZE ||
        FUT_INPUT_LOG_SIZE - used - sizeof(head) - FUT_INBOUND_SIZE < length) {
        return false;
    }
    uint8_t *at = log->data + used;
    memcpy(at, &head, sizeof(head));
    fut_inbound_encode(at + sizeof(head), inbound);
    at += sizeof(head) + FUT_INBOUND_SIZE;
    for (int i = 0; i < count; i++) {
        if (iov[i].iov_len > 0) {
            memcpy(at, iov[i].iov_base, iov[i].iov_len);
            at += iov[i].iov_len;
        }
    }
    publish(&log->end, log->end + sizeof(head) + head.length);
    return true;
}

bool fut_input_log_get(const FutInputLog *log, uint64_t place, FutInputRecord *ret)
{
    Head head;
    uint64_t end = look(&log->end);

    place = MAX(place, look(&log->begin));
    if (place >= end) {
        return false;
    }
    const uint8_t *at = log->data + (place - log->base);
    memcpy(&head, at, sizeof(head));
    *ret = (FutInputRecord){ .at_ns = head.at_ns,
                             .body = at + sizeof(head),
                             .length = (uint32_t)head.length,
                             .next = place + sizeof(head) + head.length };
    return true;
}

void fut_input_log_drop(FutInputLog *log, uint64_t place)
{
    if (place > log->begin) {
        publish(&log->begin, MIN(place, log->end));
    }
}
