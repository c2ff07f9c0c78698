/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Packets that come in, on a primary: the backup is told of them, so that their senders need not wait for their retransmission timers
 * after a takeover.
 *
 * Not at once: whoever waits for the guest's answer would wait for that, too, and the answer's checkpoint covers the packet. What is
 * covered before it was sent is not sent any more; under load that is most of them. A lone request's is sent as soon as the guest has
 * it: a processor is to spare then, and a backup that was just woken takes the answer's checkpoint sooner (a cut's send took 23 us,
 * without it 60). The keeper sends what is left when the process dies. */
#include <string.h>
#include <sys/uio.h>

#include "engine_internal.h"
#include "fut_clock.h"

/* For that the first of a burst of data are enough: of what is missing after them the guest's answers tell. So large packets are
 * logged up to this many bytes an epoch; small ones, requests and acknowledgements, always. */
#define LOG_LARGE 512
#define LOG_EPOCH_BYTES (32u << 10)
/* Pieces of a packet. */
#define PIECES_MAX 62

/* Engine lock held. */
static bool worth_logging(FutInputs *inputs, uint64_t epoch, size_t length)
{
    if (inputs->epoch != epoch) {
        inputs->epoch = epoch;
        inputs->bytes = 0;
    }
    inputs->bytes += length;
    return length <= LOG_LARGE || inputs->bytes <= LOG_EPOCH_BYTES;
}

uint64_t fut_engine_last_epoch(const FutEngine *engine)
{
    uint64_t epoch = fut_pair_output_epoch(engine->pair);
    return epoch == UINT64_MAX ? 0 : epoch;
}

const FutInputLog *fut_engine_input_log(const FutEngine *engine)
{
    return &engine->inputs.log;
}

void fut_inputs_start(FutEngine *engine)
{
    g_mutex_lock(&engine->lock);
    fut_input_log_drop(&engine->inputs.log, engine->inputs.log.end);
    g_mutex_unlock(&engine->lock);
}

/* What finds no room in the log. */
static void send_packet(FutEngine *engine, const FutInbound *inbound, const struct iovec *iov,
                        int count)
{
    uint8_t head[FUT_INBOUND_SIZE];
    struct iovec pieces[PIECES_MAX + 1] = { { head, sizeof(head) } };

    fut_inbound_encode(head, inbound);
    memcpy(pieces + 1, iov, (size_t)count * sizeof(*iov));
    engine->host->send(engine->opaque, FUT_MSG_INBOUND, 0, pieces, count + 1);
}

void fut_engine_input(FutEngine *engine, uint32_t nic, uint32_t flags, const struct iovec *iov,
                      int count)
{
    size_t length = 0;
    for (int i = 0; i < count; i++) {
        length += iov[i].iov_len;
    }
    FutInputs *inputs = &engine->inputs;
    uint64_t now_ns = fut_engine_now(engine);
    g_mutex_lock(&engine->lock);
    FutInbound inbound = { .epoch = fut_engine_last_epoch(engine), .nic = nic, .flags = flags };
    fut_pace_input(&engine->pace, length);
    bool log =
        inbound.epoch != 0 && worth_logging(inputs, inbound.epoch, length) && count <= PIECES_MAX;
    bool put = log && fut_input_log_put(&inputs->log, now_ns, &inbound, iov, count, length);
    g_mutex_unlock(&engine->lock);
    if (log && !put) {
        fut_inputs_send(engine);
        send_packet(engine, &inbound, iov, count);
    }
}

/* Engine lock held. The next to be sent of those before `end`. */
static bool next_record(const FutEngine *engine, uint64_t end, FutInputRecord *ret)
{
    return fut_input_log_get(&engine->inputs.log, 0, ret) && ret->next <= end;
}

void fut_inputs_send(FutEngine *engine)
{
    FutInputLog *log = &engine->inputs.log;
    FutInputRecord record;

    g_mutex_lock(&engine->lock);
    if (log->reading) {
        g_mutex_unlock(&engine->lock);
        return;
    }
    if (fut_engine_last_epoch(engine) == 0) {
        fut_input_log_drop(log, log->end); /* nobody is there to be told */
    }
    log->reading = true;
    uint64_t end = log->end;
    while (next_record(engine, end, &record)) {
        struct iovec iov = { (void *)record.body, record.length };
        g_mutex_unlock(&engine->lock);
        engine->host->send(engine->opaque, FUT_MSG_INBOUND, 0, &iov, 1);
        g_mutex_lock(&engine->lock);
        fut_input_log_drop(log, record.next);
    }
    log->reading = false;
    g_mutex_unlock(&engine->lock);
}

int fut_engine_inputs_wait_ms(FutEngine *engine)
{
    FutInputRecord oldest;

    if (fut_input_log_empty(&engine->inputs.log)) {
        return -1;
    }
    uint64_t now_ns = fut_engine_now(engine);
    g_mutex_lock(&engine->lock);
    bool noted = fut_input_log_get(&engine->inputs.log, 0, &oldest);
    uint64_t wait_us = fut_pace_alone(&engine->pace) ? 0 : engine->config.log_wait_us;
    g_mutex_unlock(&engine->lock);
    if (!noted) {
        return -1;
    }
    uint64_t due_ns = oldest.at_ns + wait_us * FUT_NS_PER_US;
    return now_ns >= due_ns ? 0 : (int)((due_ns - now_ns) / FUT_NS_PER_MS) + 1;
}

void fut_engine_inputs_given(FutEngine *engine)
{
    if (fut_engine_inputs_wait_ms(engine) == 0) {
        fut_inputs_send(engine);
    }
}
