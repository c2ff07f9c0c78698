/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One thread connects, waits for the socket and lets libnbd work; others submit. libnbd calls back with its handle's lock held, and
 * submitting takes that lock under ours, so what is called back takes `done_lock` only. */
#include "source_link.h"

#include <errno.h>
#include <libnbd.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "fut_clock.h"
#include "fut_error.h"
#include "fut_log.h"

#define ALLOCATION LIBNBD_CONTEXT_BASE_ALLOCATION
#define CONNECT_MS 10000
#define STALLED_NS (10 * FUT_NS_PER_S) /* no answer for so long: another connection may do better */
#define BACKOFF_MIN_MS 50
#define BACKOFF_MAX_MS 500
#define LOOK_EVERY_MS 100
#define REFUSED_TIMES 4
#define REFUSED_PAUSE_US 50000

struct FutSourceLink {
    char *uri;
    const char *role;
    uint64_t size;
    GThread *thread;
    int wake_fd;

    GMutex lock;
    GCond changed;
    struct nbd_handle *nbd; /* NULL: not connected */
    bool has_extents;
    char *fault;
    unsigned connects;
    bool stopping, retiring;

    GMutex done_lock;
    unsigned under_way;
    uint64_t heard_ns; /* last answer, or first question after a silence */
};

static void wake(FutSourceLink *link)
{
    uint64_t one = 1;
    g_assert(write(link->wake_fd, &one, sizeof(one)) == sizeof(one) || errno == EAGAIN);
}

static bool is_stopping(FutSourceLink *link)
{
    g_mutex_lock(&link->lock);
    bool stopping = link->stopping;
    g_mutex_unlock(&link->lock);
    return stopping;
}

/* -- connecting -- */

static bool fail_nbd(GError **error)
{
    g_set_error_literal(error, FUT_ERROR, FUT_ERR_IO, nbd_get_error());
    return false;
}

/* Until the handle is ready. `link` may be NULL. */
static bool wait_ready(struct nbd_handle *nbd, FutSourceLink *link, GError **error)
{
    uint64_t deadline_ns = fut_now_ns() + CONNECT_MS * FUT_NS_PER_MS;

    while (nbd_aio_is_connecting(nbd) == 1) {
        if (nbd_poll(nbd, LOOK_EVERY_MS) < 0) {
            return fail_nbd(error);
        }
        if (fut_now_ns() > deadline_ns || (link && is_stopping(link))) {
            g_set_error_literal(error, FUT_ERROR, FUT_ERR_TIMEOUT, "no answer");
            return false;
        }
    }
    return nbd_aio_is_ready(nbd) == 1 || fail_nbd(error);
}

/* A handle that is ready, or NULL. */
static struct nbd_handle *connect_to(const char *uri, FutSourceLink *link, GError **error)
{
    struct nbd_handle *nbd = nbd_create();

    if (!nbd || nbd_set_uri_allow_local_file(nbd, true) < 0 ||
        nbd_add_meta_context(nbd, ALLOCATION) < 0 || nbd_aio_connect_uri(nbd, uri) < 0) {
        fail_nbd(error);
    } else if (wait_ready(nbd, link, error)) {
        return nbd;
    }
    nbd_close(nbd);
    return NULL;
}

/* Politely, but not for long. */
static void part_from(struct nbd_handle *nbd)
{
    if (nbd_aio_is_ready(nbd) == 1 && nbd_aio_disconnect(nbd, 0) == 0) {
        for (int i = 0; i < 10 && nbd_aio_is_dead(nbd) == 0 && nbd_aio_is_closed(nbd) == 0; i++) {
            nbd_poll(nbd, LOOK_EVERY_MS);
        }
    }
    nbd_close(nbd);
}

bool fut_source_size(const char *uri, uint64_t *ret_size, GError **error)
{
    struct nbd_handle *nbd = connect_to(uri, NULL, error);
    int64_t size = nbd ? nbd_get_size(nbd) : -1;

    if (nbd && size < 0) {
        fail_nbd(error);
    }
    if (nbd) {
        part_from(nbd);
    }
    if (size == 0) {
        g_set_error_literal(error, FUT_ERROR, FUT_ERR_MISMATCH, "the source is empty");
    }
    if (size <= 0) {
        g_prefix_error(error, "source %s: ", uri);
        return false;
    }
    *ret_size = (uint64_t)size;
    return true;
}

static struct nbd_handle *connect_checked(FutSourceLink *link, GError **error)
{
    struct nbd_handle *nbd = connect_to(link->uri, link, error);

    if (nbd && nbd_get_size(nbd) != (int64_t)link->size) {
        g_set_error(error, FUT_ERROR, FUT_ERR_MISMATCH,
                    "it has %" G_GINT64_FORMAT " bytes now, and had %" G_GUINT64_FORMAT,
                    nbd_get_size(nbd), link->size);
        part_from(nbd);
        nbd = NULL;
    }
    return nbd;
}

static void set_down(FutSourceLink *link, const char *reason)
{
    g_mutex_lock(&link->lock);
    struct nbd_handle *nbd = g_steal_pointer(&link->nbd);
    bool news = g_strcmp0(link->fault, reason) != 0 && !link->stopping && !link->retiring;
    g_free(link->fault);
    link->fault = g_strdup(reason);
    bool polite = link->retiring && !link->stopping;
    g_mutex_unlock(&link->lock);
    if (news) {
        fut_log(FUT_LOG_WARN, "FUT-301", "no connection to the source (%s): %s", link->role,
                reason);
    }
    if (nbd && polite) {
        part_from(nbd);
    } else {
        nbd_close(nbd); /* requests under way end here */
    }
}

static void set_up(FutSourceLink *link, struct nbd_handle *nbd)
{
    g_mutex_lock(&link->done_lock);
    link->heard_ns = fut_now_ns();
    g_mutex_unlock(&link->done_lock);
    g_mutex_lock(&link->lock);
    link->nbd = nbd;
    link->has_extents = nbd_can_meta_context(nbd, ALLOCATION) == 1;
    link->connects++;
    g_clear_pointer(&link->fault, g_free);
    g_cond_broadcast(&link->changed);
    g_mutex_unlock(&link->lock);
    fut_log(FUT_LOG_INFO, "FUT-302", "connected to the source (%s)", link->role);
}

/* -- the thread -- */

static bool has_stalled(FutSourceLink *link)
{
    g_mutex_lock(&link->done_lock);
    bool stalled = link->under_way > 0 && fut_now_ns() - link->heard_ns > STALLED_NS;
    g_mutex_unlock(&link->done_lock);
    return stalled;
}

static bool wants_to_end(FutSourceLink *link)
{
    g_mutex_lock(&link->lock);
    g_mutex_lock(&link->done_lock);
    bool end = link->stopping || (link->retiring && link->under_way == 0);
    g_mutex_unlock(&link->done_lock);
    g_mutex_unlock(&link->lock);
    return end;
}

/* One wait for the socket. Only this thread closes the handle, so it may be used without our lock. */
static void work(FutSourceLink *link, struct nbd_handle *nbd)
{
    unsigned direction = nbd_aio_get_direction(nbd);
    struct pollfd fds[2] = { { .fd = nbd_aio_get_fd(nbd) },
                             { .fd = link->wake_fd, .events = POLLIN } };
    uint64_t count;

    fds[0].events = (short)((direction & LIBNBD_AIO_DIRECTION_READ ? POLLIN : 0) |
                            (direction & LIBNBD_AIO_DIRECTION_WRITE ? POLLOUT : 0));
    if (poll(fds, 2, LOOK_EVERY_MS) < 0) {
        return;
    }
    if (fds[1].revents) {
        g_assert(read(link->wake_fd, &count, sizeof(count)) == sizeof(count) || errno == EAGAIN);
    }
    /* Another thread may have moved the state on: what it wants now counts. */
    direction = nbd_aio_get_direction(nbd);
    if (fds[0].revents & (POLLIN | POLLHUP | POLLERR) && direction & LIBNBD_AIO_DIRECTION_READ) {
        nbd_aio_notify_read(nbd);
    } else if (fds[0].revents & POLLOUT && direction & LIBNBD_AIO_DIRECTION_WRITE) {
        nbd_aio_notify_write(nbd);
    }
}

static void serve(FutSourceLink *link, struct nbd_handle *nbd)
{
    const char *reason = "the connection was closed";

    while (!wants_to_end(link) && nbd_aio_is_dead(nbd) == 0 && nbd_aio_is_closed(nbd) == 0) {
        if (has_stalled(link)) {
            reason = "it does not answer";
            break;
        }
        work(link, nbd);
    }
    set_down(link, reason);
}

static void pause_before_retry(FutSourceLink *link, unsigned pause_ms)
{
    gint64 until_us = g_get_monotonic_time() + pause_ms * 1000;

    g_mutex_lock(&link->lock);
    while (!link->stopping && !link->retiring &&
           g_cond_wait_until(&link->changed, &link->lock, until_us)) {
    }
    g_mutex_unlock(&link->lock);
}

static void *link_main(void *opaque)
{
    FutSourceLink *link = opaque;
    unsigned pause_ms = BACKOFF_MIN_MS;

    while (!wants_to_end(link)) {
        g_autoptr(GError) error = NULL;
        uint64_t start_ns = fut_now_ns();
        struct nbd_handle *nbd = connect_checked(link, &error);
        if (nbd) {
            set_up(link, nbd);
            serve(link, nbd);
        } else {
            set_down(link, error->message);
        }
        bool lasted = fut_now_ns() - start_ns > FUT_NS_PER_S;
        pause_ms = lasted ? BACKOFF_MIN_MS : MIN(2 * pause_ms, BACKOFF_MAX_MS);
        pause_before_retry(link, pause_ms);
    }
    return NULL;
}

FutSourceLink *fut_source_link_new(const char *uri, uint64_t size, const char *role)
{
    FutSourceLink *link = g_new0(FutSourceLink, 1);

    link->uri = g_strdup(uri);
    link->role = role;
    link->size = size;
    link->fault = g_strdup("not connected yet");
    link->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    g_assert(link->wake_fd >= 0);
    g_mutex_init(&link->lock);
    g_mutex_init(&link->done_lock);
    g_cond_init(&link->changed);
    link->thread = g_thread_new("source", link_main, link);
    return link;
}

void fut_source_link_retire(FutSourceLink *link)
{
    g_mutex_lock(&link->lock);
    link->retiring = true;
    g_cond_broadcast(&link->changed);
    g_mutex_unlock(&link->lock);
    wake(link);
}

void fut_source_link_stop(FutSourceLink *link)
{
    g_mutex_lock(&link->lock);
    link->stopping = true;
    g_cond_broadcast(&link->changed);
    g_mutex_unlock(&link->lock);
    wake(link);
}

void fut_source_link_free(FutSourceLink *link)
{
    if (!link) {
        return;
    }
    fut_source_link_stop(link);
    g_thread_join(link->thread);
    close(link->wake_fd);
    g_cond_clear(&link->changed);
    g_mutex_clear(&link->done_lock);
    g_mutex_clear(&link->lock);
    g_free(link->fault);
    g_free(link->uri);
    g_free(link);
}

bool fut_source_link_up(FutSourceLink *link)
{
    g_mutex_lock(&link->lock);
    bool up = link->nbd != NULL;
    g_mutex_unlock(&link->lock);
    return up;
}

bool fut_source_link_has_extents(FutSourceLink *link)
{
    g_mutex_lock(&link->lock);
    bool has = link->nbd && link->has_extents;
    g_mutex_unlock(&link->lock);
    return has;
}

char *fut_source_link_fault(FutSourceLink *link)
{
    g_mutex_lock(&link->lock);
    char *fault = link->nbd ? NULL : g_strdup(link->fault);
    g_mutex_unlock(&link->lock);
    return fault;
}

unsigned fut_source_link_connects(FutSourceLink *link)
{
    g_mutex_lock(&link->lock);
    unsigned connects = link->connects;
    g_mutex_unlock(&link->lock);
    return connects;
}

/* -- requests -- */

/* A request with the link it went to, while libnbd has it. */
typedef struct {
    FutSourceLink *link;
    FutSourceRequest *request;
} Sent;

static int on_answer(void *opaque, int *error)
{
    Sent *sent = opaque;

    sent->request->error = *error;
    return 1;
}

/* libnbd is done with it, answered or not. */
static void on_end(void *opaque)
{
    Sent *sent = opaque;
    FutSourceLink *link = sent->link;
    FutSourceRequest *request = sent->request;

    request->done_ns = fut_now_ns();
    g_mutex_lock(&link->done_lock);
    link->under_way--;
    link->heard_ns = request->done_ns;
    request->done(request);
    g_mutex_unlock(&link->done_lock);
    g_free(sent);
}

static int on_extents(void *opaque, const char *context, uint64_t offset, uint32_t *entries,
                      size_t count, int *error)
{
    FutSourceRequest *request = opaque;

    for (size_t i = 0; i + 1 < count && strcmp(context, ALLOCATION) == 0; i += 2) {
        FutSourceExtent extent = { entries[i], entries[i + 1] & LIBNBD_STATE_ZERO };
        g_array_append_val(request->extents, extent);
    }
    return 0;
}

static void hand_to_libnbd(FutSourceLink *link, FutSourceRequest *request)
{
    Sent *sent = g_new(Sent, 1);
    nbd_completion_callback end = { .callback = on_answer, .user_data = sent, .free = on_end };

    *sent = (Sent){ link, request };
    if (request->data) {
        nbd_aio_pread(link->nbd, request->data, request->length, request->offset, end, 0);
    } else {
        nbd_extent_callback extents = { .callback = on_extents, .user_data = request };
        nbd_aio_block_status(link->nbd, request->length, request->offset, extents, end, 0);
    }
}

void fut_source_link_submit(FutSourceLink *link, FutSourceRequest *request)
{
    request->error = ENOTCONN;
    request->sent_ns = fut_now_ns();
    g_mutex_lock(&link->lock);
    bool up = link->nbd != NULL;
    g_mutex_lock(&link->done_lock);
    if (up && link->under_way++ == 0) {
        link->heard_ns = request->sent_ns;
    }
    if (!up) {
        request->done(request);
    }
    g_mutex_unlock(&link->done_lock);
    if (up) {
        hand_to_libnbd(link, request);
    }
    g_mutex_unlock(&link->lock);
    if (up) {
        wake(link);
    }
}

/* -- reading and waiting -- */

/* Two may hold it: who waits, and libnbd. The last one frees it. */
typedef struct {
    FutSourceRequest request;
    GCond answered;        /* one each: an answer wakes nobody else */
    bool ended, abandoned; /* with the link's done_lock */
} Waited;

static void waited_free(Waited *waited)
{
    g_cond_clear(&waited->answered);
    g_free(waited->request.data);
    g_free(waited);
}

static void on_waited(FutSourceRequest *request)
{
    Waited *waited = request->owner;

    waited->ended = true;
    if (waited->abandoned) {
        waited_free(waited);
    } else {
        g_cond_signal(&waited->answered);
    }
}

static bool is_over(uint64_t deadline_ns, bool (*cancelled)(void), int *ret_error)
{
    *ret_error = cancelled() ? ESHUTDOWN : fut_now_ns() > deadline_ns ? ETIMEDOUT : 0;
    return *ret_error != 0;
}

static gint64 soon_us(void)
{
    return g_get_monotonic_time() + LOOK_EVERY_MS * 1000;
}

static int wait_for_connection(FutSourceLink *link, uint64_t deadline_ns, bool (*cancelled)(void))
{
    int error = 0;

    g_mutex_lock(&link->lock);
    while (!link->nbd && !is_over(deadline_ns, cancelled, &error)) {
        g_cond_wait_until(&link->changed, &link->lock, soon_us());
    }
    g_mutex_unlock(&link->lock);
    return error;
}

static int ask_once(FutSourceLink *link, void *buf, uint32_t length, uint64_t offset,
                    uint64_t deadline_ns, bool (*cancelled)(void))
{
    Waited *waited = g_new0(Waited, 1);
    int error = 0;

    g_cond_init(&waited->answered);
    waited->request = (FutSourceRequest){ .offset = offset,
                                          .length = length,
                                          .data = g_malloc(length),
                                          .done = on_waited,
                                          .owner = waited };
    fut_source_link_submit(link, &waited->request);
    g_mutex_lock(&link->done_lock);
    while (!waited->ended && !is_over(deadline_ns, cancelled, &error)) {
        g_cond_wait_until(&waited->answered, &link->done_lock, soon_us());
    }
    bool ended = waited->ended;
    waited->abandoned = !ended;
    g_mutex_unlock(&link->done_lock);
    if (!ended) {
        return error;
    }
    error = waited->request.error;
    if (error == 0) {
        memcpy(buf, waited->request.data, length);
    }
    waited_free(waited);
    return error;
}

int fut_source_link_read(FutSourceLink *link, void *buf, uint32_t length, uint64_t offset,
                         unsigned wait_ms, bool (*cancelled)(void))
{
    uint64_t deadline_ns = fut_now_ns() + wait_ms * FUT_NS_PER_MS;
    unsigned refused = 0;

    for (;;) {
        int error = wait_for_connection(link, deadline_ns, cancelled);
        if (error) {
            return error;
        }
        error = ask_once(link, buf, length, offset, deadline_ns, cancelled);
        if (error == 0 || error == ETIMEDOUT || error == ESHUTDOWN) {
            return error;
        }
        if (fut_source_link_up(link)) {
            if (++refused >= REFUSED_TIMES) {
                return error;
            }
            g_usleep(REFUSED_PAUSE_US);
        }
    }
}
