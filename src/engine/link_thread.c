/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Link thread: owns the socket's reading side and the protocol's time. Sending is done by whoever has something to send. */
#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/uio.h>
#include <unistd.h>

#include "fut_clock.h"
#include "fut_error.h"
#include "keeper.h"
#include "last_words.h"
#include "service_internal.h"
#include "wire.h"

/* Socket reads before time gets its turn. */
#define READS_MAX 64

void fut_wake_fd(int fd)
{
    uint64_t one = 1;
    ssize_t written = write(fd, &one, sizeof(one));
    g_assert(written == sizeof(one) || errno == EAGAIN);
}

void fut_wake_drain(int fd)
{
    uint64_t count;
    ssize_t got = read(fd, &count, sizeof(count));
    g_assert(got == sizeof(count) || errno == EAGAIN);
}

/* -- sending -- */

static const void *one_piece(FutService *service, const struct iovec *iov, int count,
                             size_t *ret_length)
{
    if (count <= 1) {
        *ret_length = count ? iov[0].iov_len : 0;
        return count ? iov[0].iov_base : NULL;
    }
    fut_buf_clear(&service->gather);
    for (int i = 0; i < count; i++) {
        fut_buf_append(&service->gather, iov[i].iov_base, iov[i].iov_len);
    }
    *ret_length = service->gather.len;
    return service->gather.data;
}

/* One message. Send lock held. */
static bool send_message(FutService *service, uint16_t type, uint16_t flags, const void *body,
                         size_t length, size_t *ret_pending, GError **error)
{
    uint8_t head[FUT_FRAME_HEADER_SIZE];
    size_t all = sizeof(head) + length;
    uint64_t sequence = service->sequence;
    struct iovec out[2] = { { head, sizeof(head) }, { (void *)body, length } };

    fut_frame_header_encode(head, type, flags, service->session, sequence++, body,
                            (uint32_t)length);
    service->sending = (FutSending){ .sent = fut_link_bytes_sent(service->link),
                                     .sequence = service->sequence,
                                     .next = sequence };
    __atomic_store_n(&service->sending.bytes, all, __ATOMIC_RELEASE);
    bool sent = fut_link_send(service->link, out, length > 0 ? 2 : 1, ret_pending, error);
    service->sequence = sequence;
    __atomic_store_n(&service->sending.bytes, 0, __ATOMIC_RELEASE);
    return sent;
}

bool fut_link_host_send(FutService *service, uint16_t type, uint16_t flags, const struct iovec *iov,
                        int count)
{
    size_t length, pending = 0;
    struct iovec packed;
    if (fut_link_pack(service, type, flags, iov, count, &packed)) {
        type = FUT_MSG_PACKED;
        flags = 0;
        iov = &packed;
        count = 1;
    }
    g_mutex_lock(&service->send_lock);
    if (!service->link) {
        g_mutex_unlock(&service->send_lock);
        return false;
    }
    const void *body = one_piece(service, iov, count, &length);
    g_autoptr(GError) error = NULL;
    bool sent = send_message(service, type, flags, body, length, &pending, &error);
    if (!sent && !service->unsendable) {
        /* the link thread ends it */
        g_atomic_pointer_set(&service->unsendable, g_strdup(error->message));
    }
    g_mutex_unlock(&service->send_lock);
    if (pending > 0 || !sent) {
        fut_wake_fd(service->link_wake_fd);
    }
    return sent;
}

void fut_link_host_session(FutService *service, uint32_t session)
{
    FutEngineStatus status;
    fut_engine_status(service->engine, &status);
    g_mutex_lock(&service->send_lock);
    g_atomic_int_set((gint *)&service->session, (gint)session);
    g_mutex_unlock(&service->send_lock);
    if (status.role == FUT_ROLE_PRIMARY) {
        fut_last_words_arm(service);
    }
}

static FutLink *current_link(FutService *service)
{
    g_mutex_lock(&service->send_lock);
    FutLink *link = service->link ? fut_link_ref(service->link) : NULL;
    g_mutex_unlock(&service->send_lock);
    return link;
}

/*
 * The link thread looks at link, session and fault without the send lock. Who sends holds that lock in the system call that wakes the
 * peer; on a busy host the peer may take its processor there, and the answer would wait until it gets it back.
 */
static uint32_t current_session(FutService *service)
{
    return (uint32_t)g_atomic_int_get((gint *)&service->session);
}

void fut_link_host_close(FutService *service, const char *why)
{
    g_mutex_lock(&service->send_lock);
    FutLink *link = service->link;
    g_atomic_pointer_set(&service->link, NULL);
    g_autofree char *fault = service->unsendable;
    g_atomic_pointer_set(&service->unsendable, NULL);
    g_mutex_unlock(&service->send_lock);
    if (link) {
        fut_keeper_take_back();
        fut_link_flush(link, NULL);
        fut_link_close(link);
        fut_link_unref(link);
        fut_wake_fd(service->link_wake_fd);
    }
}

size_t fut_link_host_pending(FutService *service)
{
    g_autoptr(FutLink) link = current_link(service);
    return link ? fut_link_pending(link) : 0;
}

void fut_link_host_drain(FutService *service, unsigned timeout_ms)
{
    uint64_t end_ns = fut_now_ns() + timeout_ms * FUT_NS_PER_MS;
    while (fut_link_host_pending(service) > 0 && fut_now_ns() < end_ns) {
        g_usleep(1000);
    }
}

/* -- reading -- */

typedef struct {
    FutLink *link; /* owned reference; the one being read */
    FutFrameReader *reader;
    FutBuf unpacked; /* the message that came PACKED */
} Reading;

static void reading_end(Reading *reading)
{
    g_clear_pointer(&reading->link, fut_link_unref);
    g_clear_pointer(&reading->reader, fut_frame_reader_free);
    fut_buf_done(&reading->unpacked);
}

static bool still_current(FutService *service, const Reading *reading)
{
    /* ours is referenced: no other has its address */
    return g_atomic_pointer_get(&service->link) == reading->link;
}

/* The engine may have closed the link or put another in its place. */
static void reading_follow(FutService *service, Reading *reading)
{
    if (still_current(service, reading)) {
        return;
    }
    FutLink *link = current_link(service);
    reading_end(reading);
    if (link) {
        reading->link = link;
        reading->reader = fut_frame_reader_new(fut_wire_cap);
    }
}

static void link_ended(FutService *service, Reading *reading, const char *why, bool peers_fault)
{
    if (still_current(service, reading)) {
        if (peers_fault) {
            fut_engine_bad_peer(service->engine, why, fut_now_ns());
        } else {
            fut_link_host_close(service, why);
            fut_engine_link_down(service->engine, why, fut_now_ns());
        }
    }
    reading_end(reading);
}

/* The frame is as it was sent, if it was not packed. Nobody packs before the greeting is over. */
static bool unpack(Reading *reading, uint32_t session, FutFrame *frame, GError **error)
{
    if (frame->type != FUT_MSG_PACKED) {
        return true;
    }
    if (session == 0) {
        g_set_error(error, FUT_ERROR, FUT_ERR_PEER,
                    "packed message from a peer that has not greeted");
        return false;
    }
    return fut_unpack(&reading->unpacked, frame, error);
}

/* Hands on all whole frames. False when the link is not to be read any more. */
static bool read_frames(FutService *service, Reading *reading)
{
    g_autoptr(GError) error = NULL;
    FutFrame frame;
    int got;
    uint32_t session = current_session(service);
    if (session != 0) {
        fut_frame_reader_set_session(reading->reader, session);
    }
    while ((got = fut_frame_reader_next(reading->reader, &frame, &error)) > 0) {
        if (!unpack(reading, session, &frame, &error)) {
            got = -1;
            break;
        }
        fut_engine_frame(service->engine, &frame, fut_now_ns());
        if (!still_current(service, reading)) {
            return false;
        }
        if (session == 0 && (session = current_session(service)) != 0) {
            fut_frame_reader_set_session(reading->reader, session);
        }
    }
    if (got < 0) {
        link_ended(service, reading, error->message, true);
        return false;
    }
    return true;
}

static void read_link(FutService *service, Reading *reading)
{
    g_autoptr(GError) error = NULL;
    for (int i = 0; i < READS_MAX; i++) {
        size_t room;
        uint8_t *at = fut_frame_reader_space(reading->reader, &room);
        ssize_t got = fut_link_recv(reading->link, at, room, &error);
        if (got < 0) {
            link_ended(service, reading, error->message, false);
            return;
        }
        if (got == 0) {
            return;
        }
        fut_engine_alive(service->engine, fut_now_ns());
        fut_frame_reader_filled(reading->reader, (size_t)got);
        if (!read_frames(service, reading)) {
            return;
        }
        if ((size_t)got < room) {
            return;
        }
    }
}

/* Nothing can be sent any more. What the peer said last, and why it left, may still be there to read. */
static void link_unsendable(FutService *service, Reading *reading, const char *why)
{
    read_link(service, reading);
    if (reading->link) {
        link_ended(service, reading, why, false);
    }
}

static void end_unsendable(FutService *service, Reading *reading)
{
    if (!g_atomic_pointer_get(&service->unsendable)) {
        return;
    }
    g_mutex_lock(&service->send_lock);
    bool current = reading->link && service->link == reading->link;
    g_autofree char *why = current ? service->unsendable : NULL;
    if (current) {
        g_atomic_pointer_set(&service->unsendable, NULL);
    }
    g_mutex_unlock(&service->send_lock);
    if (why) {
        link_unsendable(service, reading, why);
    }
}

/* -- the loop -- */

static void close_listener_when_done(FutService *service)
{
    if (!service->listener) {
        return;
    }
    FutEngineStatus status;
    fut_engine_status(service->engine, &status);
    if (status.role == FUT_ROLE_PRIMARY) {
        g_clear_pointer(&service->listener, fut_listener_free);
    }
}

/* What the thread waits for; those that greet stand from FD_GREETINGS on. */
enum {
    FD_WAKE,
    FD_LISTENER,
    FD_LINK,
    FD_GREETINGS,
    FD_MAX = FD_GREETINGS + FUT_GREETINGS_MAX
};

static uint64_t time_left(FutService *service)
{
    uint64_t deadline_ns =
        MIN(fut_engine_deadline(service->engine), fut_greetings_deadline(&service->greetings));
    uint64_t now_ns = fut_now_ns();
    return deadline_ns > now_ns ? MIN(deadline_ns - now_ns, FUT_NS_PER_S) : 0;
}

/* Returns how many descriptors were looked at. */
static nfds_t wait_for_something(FutService *service, const Reading *reading, struct pollfd *fds)
{
    FutListener *listener = service->listener;
    bool unread = false;
    fds[FD_WAKE] = (struct pollfd){ service->link_wake_fd, POLLIN, 0 };
    fds[FD_LISTENER] = (struct pollfd){ listener ? fut_listener_fd(listener) : -1, POLLIN, 0 };
    fds[FD_LINK] = (struct pollfd){ -1, POLLIN, 0 };
    if (reading->link) {
        fds[FD_LINK].fd = fut_link_fd(reading->link);
        fds[FD_LINK].events |= fut_link_pending(reading->link) > 0 ? POLLOUT : 0;
        unread = fut_link_unread(reading->link);
    }
    nfds_t count = FD_GREETINGS + fut_greetings_poll(&service->greetings, fds + FD_GREETINGS);
    uint64_t left_ns = unread ? 0 : time_left(service);
    struct timespec timeout = { (time_t)(left_ns / FUT_NS_PER_S), (long)(left_ns % FUT_NS_PER_S) };
    if (ppoll(fds, count, &timeout, NULL) < 0) {
        g_assert(errno == EINTR);
        for (nfds_t i = 0; i < count; i++) {
            fds[i].revents = 0;
        }
    }
    fds[FD_LINK].revents |= unread ? POLLIN : 0;
    return count;
}

static void handle_link(FutService *service, Reading *reading, short events)
{
    g_autoptr(GError) error = NULL;
    if ((events & POLLOUT) && !fut_link_flush(reading->link, &error)) {
        link_unsendable(service, reading, error->message);
        return;
    }
    if (events & (POLLIN | POLLHUP | POLLERR)) {
        read_link(service, reading);
    }
}

void *fut_link_thread(void *opaque)
{
    FutService *service = opaque;
    Reading reading = { 0 };
    struct pollfd fds[FD_MAX];
    fut_meet_init(service);
    for (;;) {
        reading_follow(service, &reading);
        nfds_t count = wait_for_something(service, &reading, fds);
        if (fds[FD_WAKE].revents) {
            fut_wake_drain(service->link_wake_fd);
        }
        /* Time first: a process that was frozen past the time-out must not act on acknowledgements
         * that were left in the socket. That something waits there is told even before: whether it
         * counts as life is for the pair machine to say. */
        uint64_t now_ns = fut_now_ns();
        if (reading.link && (fds[FD_LINK].revents & POLLIN)) {
            fut_engine_alive(service->engine, now_ns);
        }
        if (now_ns >= fut_engine_deadline(service->engine)) {
            fut_engine_tick(service->engine, now_ns);
            close_listener_when_done(service);
        }
        if (reading.link && fds[FD_LINK].revents && still_current(service, &reading)) {
            handle_link(service, &reading, fds[FD_LINK].revents);
        }
        end_unsendable(service, &reading);
        fut_greetings_run(&service->greetings, fds + FD_GREETINGS, count - FD_GREETINGS,
                          fut_now_ns());
        if (g_atomic_int_compare_and_exchange(&service->connect_wanted, TRUE, FALSE)) {
            fut_meet_connect(service);
        }
        if (service->listener && fds[FD_LISTENER].revents) {
            fut_meet_accept(service);
        }
    }
    return NULL;
}
