/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "last_words.h"

#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
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
#define READS_MAX 16u

/* Set before the keeper has the descriptors, read by it when nobody else is left. */
static struct {
    FutService *service;
    FutInput inputs[INPUTS_MAX];
    uint8_t bytes[2 * (HEADS_SIZE + PACKET_MAX)];
    size_t length;
    unsigned packets;
} words;

/* -- in the keeper -- */

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
    fut_frame_header_encode(at, FUT_MSG_INBOUND, 0, service->session, service->sequence++, body,
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

    /* Whoever had the lock was sending: what the peer has of it, nobody knows. */
    if (epoch == 0 || !g_mutex_trylock(&service->send_lock) || !service->link ||
        !fut_link_is_clear(service->link)) {
        return;
    }
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
    unsigned found = vmm->ops->inputs(vmm, words.inputs, INPUTS_MAX);
    g_mutex_lock(&service->send_lock);
    FutLink *link = service->link ? fut_link_ref(service->link) : NULL;
    g_mutex_unlock(&service->send_lock);
    if (!link) {
        return;
    }
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
