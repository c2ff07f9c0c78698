/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "last_words.h"

#include <fcntl.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "keeper.h"
#include "plain_syscall.h"
#include "service_internal.h"
#include "wire.h"

#define INPUTS_MAX (FUT_KEEPER_FDS_MAX - 1) /* the first is the link's */
#define HEADS_SIZE (FUT_FRAME_HEADER_SIZE + FUT_INBOUND_SIZE)
/* The largest that a tap hands over: 64 KiB of segments to be, with their headers. */
#define PACKET_MAX 69632u
#define PACKETS_MAX 64u
/* Room for what was read and not told of: as frames, whose headers are longer than the log's. */
#define NOTED_MAX (2 * FUT_INPUT_LOG_SIZE)
#define READS_MAX 16u
/* Acknowledgements may come between two looks. */
#define COUNTS_MAX 8u

/* Set before the keeper has the descriptors, read by it when nobody else is left. */
static struct {
    FutService *service;
    FutInput inputs[INPUTS_MAX];
    bool counts;   /* the kernel counts what the link's socket has taken */
    uint64_t base; /* from where it counts */
    uint8_t bytes[NOTED_MAX + 2 * (HEADS_SIZE + PACKET_MAX)];
    size_t length;
    unsigned packets;
    uint64_t sequence; /* of the next frame */
} words;

/* -- in the keeper -- */

/* How much the socket has taken, ever, from a base of its own; false: it does not say. */
static bool count_taken(int fd, uint64_t *ret)
{
    struct tcp_info info, again;
    int waiting;

    for (unsigned i = 0; i < COUNTS_MAX; i++) {
        socklen_t length = sizeof(info), same = sizeof(again);
        if (fut_plain_syscall5(SYS_getsockopt, fd, IPPROTO_TCP, TCP_INFO, (long)&info,
                               (long)&length) != 0 ||
            fut_plain_syscall(SYS_ioctl, fd, SIOCOUTQ, (long)&waiting, 0) != 0 ||
            fut_plain_syscall5(SYS_getsockopt, fd, IPPROTO_TCP, TCP_INFO, (long)&again,
                               (long)&same) != 0 ||
            length < offsetof(struct tcp_info, tcpi_bytes_received)) {
            return false;
        }
        if (info.tcpi_bytes_acked == again.tcpi_bytes_acked) {
            *ret = info.tcpi_bytes_acked + (uint64_t)waiting;
            return true;
        }
    }
    return false;
}

/*
 * Number of the frame that the peer expects next; false: it may have part of one. Somebody may have died while sending: the kernel
 * knows whether all of that is in the socket, or nothing.
 */
static bool find_place(FutService *service, int fd, uint64_t *ret_sequence)
{
    const FutSending *sending = &service->sending;
    uint64_t taken;

    if (!service->link || !fut_link_is_clear(service->link)) {
        return false;
    }
    *ret_sequence = service->sequence;
    if (!words.counts) {
        return g_mutex_trylock(&service->send_lock);
    }
    if (!count_taken(fd, &taken)) {
        return false;
    }
    taken -= words.base;
    if (sending->bytes == 0) {
        return taken == fut_link_bytes_sent(service->link);
    }
    bool whole = taken == sending->sent + sending->bytes;
    *ret_sequence = whole ? sending->next : sending->sequence;
    return whole || taken == sending->sent;
}

/* The packets that had been read and that the backup was not told of. */
static void take_noted(FutService *service)
{
    const FutInputLog *log = fut_engine_input_log(service->engine);
    FutInputRecord record;

    for (uint64_t place = 0; fut_input_log_get(log, place, &record); place = record.next) {
        uint8_t *at = words.bytes + words.length;
        size_t all = FUT_FRAME_HEADER_SIZE + record.length;
        if (all > NOTED_MAX - words.length) {
            return;
        }
        fut_frame_header_encode(at, FUT_MSG_INBOUND, 0, service->session, words.sequence++,
                                record.body, record.length);
        memcpy(at + FUT_FRAME_HEADER_SIZE, record.body, record.length);
        words.length += all;
    }
}

/* False: none is left, or no room. */
static bool take_packet(FutService *service, const FutInput *input, int fd, uint64_t epoch)
{
    uint8_t *at = words.bytes + words.length;
    uint8_t *body = at + FUT_FRAME_HEADER_SIZE;

    if (words.packets >= PACKETS_MAX ||
        sizeof(words.bytes) - words.length < HEADS_SIZE + PACKET_MAX) {
        return false;
    }
    long got = fut_plain_syscall(SYS_read, fd, (long)(body + FUT_INBOUND_SIZE), PACKET_MAX, 0);
    if (got <= 0) {
        return false;
    }
    fut_inbound_encode(body,
                       &(FutInbound){ .epoch = epoch, .nic = input->nic, .flags = input->flags });
    fut_frame_header_encode(at, FUT_MSG_INBOUND, 0, service->session, words.sequence++, body,
                            FUT_INBOUND_SIZE + (uint32_t)got);
    words.length += HEADS_SIZE + (size_t)got;
    words.packets++;
    return true;
}

/* A socket that closes with something unread in it resets the connection, and what was sent last may be lost. */
static void hear_out(int fd)
{
    for (unsigned i = 0; i < READS_MAX; i++) {
        if (fut_plain_syscall(SYS_read, fd, (long)words.bytes, sizeof(words.bytes), 0) <= 0) {
            return;
        }
    }
}

static void speak(const int *fds, unsigned count)
{
    FutService *service = words.service;
    uint64_t epoch = fut_engine_last_epoch(service->engine);

    if (epoch == 0 || !find_place(service, fds[0], &words.sequence)) {
        return;
    }
    take_noted(service);
    for (unsigned i = 1; i < count; i++) {
        while (take_packet(service, &words.inputs[i - 1], fds[i], epoch)) {
        }
    }
    struct iovec piece = { words.bytes, words.length };
    struct msghdr message = { .msg_iov = &piece, .msg_iovlen = 1 };
    if (words.length > 0) {
        fut_plain_syscall(SYS_sendmsg, fds[0], (long)&message, MSG_DONTWAIT | MSG_NOSIGNAL, 0);
    }
    hear_out(fds[0]);
}

/* -- before -- */

void fut_last_words_arm(FutService *service)
{
    FutVmm *vmm = service->vmm;
    int fds[FUT_KEEPER_FDS_MAX];
    unsigned count = 0;

    fut_keeper_take_back();
    if (service->tls || !vmm->ops->inputs) {
        return;
    }
    g_mutex_lock(&service->send_lock);
    FutLink *link = service->link ? fut_link_ref(service->link) : NULL;
    words.counts =
        link && fut_link_pending(link) == 0 && count_taken(fut_link_fd(link), &words.base);
    words.base -= words.counts ? fut_link_bytes_sent(link) : 0;
    g_mutex_unlock(&service->send_lock);
    if (!link) {
        return;
    }
    unsigned found = vmm->ops->inputs(vmm, words.inputs, INPUTS_MAX);
    words.service = service;
    fds[count++] = fut_link_fd(link);
    for (unsigned i = 0; i < found; i++) {
        fds[count++] = words.inputs[i].fd;
    }
    fut_keeper_give(fds, count, speak);
    for (unsigned i = 0; i < found; i++) {
        close(words.inputs[i].fd);
    }
    fut_link_unref(link);
}
