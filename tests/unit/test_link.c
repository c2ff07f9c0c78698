/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Links: order and completeness of what is sent, full sockets, ends of a stream, threads. */
#include "link.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "expect.h"
#include "fut_clock.h"

typedef struct {
    FutLink *near, *far;
} Pair;

static void pair_init(Pair *pair)
{
    int fds[2];
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), ==, 0);
    pair->near = fut_link_from_fd(fds[0], "far");
    pair->far = fut_link_from_fd(fds[1], "near");
}

static void pair_done(Pair *pair)
{
    fut_link_unref(pair->near);
    fut_link_unref(pair->far);
}

static void send_ok(FutLink *link, const void *bytes, size_t length)
{
    g_autoptr(GError) error = NULL;
    struct iovec iov = { (void *)bytes, length };
    bool ok = fut_link_send(link, &iov, 1, NULL, &error);
    g_assert_no_error(error);
    g_assert_true(ok);
}

/* Reads exactly `length` bytes; flushes `sender` (may be NULL) while nothing comes. */
static void receive(FutLink *link, FutLink *sender, uint8_t *to, size_t length)
{
    g_autoptr(GError) error = NULL;
    while (length > 0) {
        ssize_t got = fut_link_recv(link, to, length, &error);
        g_assert_no_error(error);
        if (got == 0) {
            struct pollfd wait = { .fd = fut_link_fd(link), .events = POLLIN };
            if (sender) {
                g_assert_true(fut_link_flush(sender, &error));
            }
            g_assert_cmpint(poll(&wait, 1, 10000), ==, 1);
        }
        to += got;
        length -= (size_t)got;
    }
}

static void test_pieces(void)
{
    Pair pair;
    g_autoptr(GError) error = NULL;
    size_t pending = 99;
    uint8_t got[16] = { 0 };
    pair_init(&pair);
    struct iovec iov[] = { { "ab", 2 }, { NULL, 0 }, { "cde", 3 }, { "", 0 }, { "f", 1 } };
    g_assert_true(fut_link_send(pair.near, iov, 5, &pending, &error));
    g_assert_no_error(error);
    g_assert_cmpuint(pending, ==, 0);
    g_assert_cmpint(fut_link_recv(pair.far, got, sizeof(got), &error), ==, 6);
    g_assert_cmpstr((char *)got, ==, "abcdef");
    g_assert_cmpint(fut_link_recv(pair.far, got, sizeof(got), &error), ==, 0);
    g_assert_no_error(error);
    g_assert_cmpuint(fut_link_bytes_sent(pair.near), ==, 6);
    g_assert_cmpuint(fut_link_bytes_received(pair.far), ==, 6);
    g_assert_cmpuint(fut_link_bytes_received(pair.near), ==, 0);
    g_assert_cmpstr(fut_link_name(pair.near), ==, "far");
    pair_done(&pair);
}

/* More pieces than the system takes at once (1024). */
static void test_many_pieces(void)
{
    Pair pair;
    struct iovec iov[3000];
    uint8_t bytes[3000], got[3000];
    pair_init(&pair);
    for (unsigned i = 0; i < 3000; i++) {
        bytes[i] = (uint8_t)(i * 7);
        iov[i] = (struct iovec){ &bytes[i], 1 };
    }
    size_t pending = 99;
    g_assert_true(fut_link_send(pair.near, iov, 3000, &pending, NULL));
    g_assert_cmpuint(pending, ==, 0);
    receive(pair.far, NULL, got, sizeof(got));
    g_assert_true(memcmp(got, bytes, sizeof(got)) == 0);
    pair_done(&pair);
}

static void test_full_socket(void)
{
    Pair pair;
    size_t length = 40u << 20, pending = 0;
    g_autofree uint8_t *bytes = g_malloc(length), *got = g_malloc(length);
    pair_init(&pair);
    for (size_t i = 0; i < length; i++) {
        bytes[i] = (uint8_t)(i * 2654435761u >> 20);
    }
    for (unsigned i = 0; i < 4; i++) {
        size_t part = length / 4;
        struct iovec iov[] = { { bytes + i * part, 100 }, { bytes + i * part + 100, part - 100 } };
        g_assert_true(fut_link_send(pair.near, iov, 2, &pending, NULL));
    }
    g_assert_cmpuint(pending, >, 0);
    g_assert_cmpuint(fut_link_pending(pair.near), ==, pending);
    g_assert_cmpuint(fut_link_bytes_sent(pair.near) + pending, ==, length);
    receive(pair.far, pair.near, got, length);
    g_assert_true(memcmp(got, bytes, length) == 0);
    g_assert_cmpuint(fut_link_pending(pair.near), ==, 0);
    g_assert_cmpuint(fut_link_bytes_sent(pair.near), ==, length);
    pair_done(&pair);
}

/* Sends and reads of all sizes, mixed: the order stays although the queue empties only in part. */
static void test_order_in_queue(void)
{
    Pair pair;
    g_autoptr(GRand) rand = g_rand_new_with_seed(5);
    g_autofree uint8_t *bytes = g_malloc(1 << 20), *got = g_malloc(1 << 20);
    uint64_t sent = 0, checked = 0;
    pair_init(&pair);
    while (checked < 60u << 20) {
        size_t length = (size_t)g_rand_int_range(rand, 1, 1 << 20);
        for (size_t i = 0; i < length; i++, sent++) {
            bytes[i] = (uint8_t)(sent % 251);
        }
        send_ok(pair.near, bytes, length);
        size_t wish = (size_t)g_rand_int_range(rand, 1, 1 << 20);
        ssize_t have = fut_link_recv(pair.far, got, wish, NULL);
        g_assert_cmpint(have, >=, 0);
        for (ssize_t i = 0; i < have; i++, checked++) {
            g_assert_true(got[i] == checked % 251);
        }
        if (g_rand_boolean(rand)) {
            g_assert_true(fut_link_flush(pair.near, NULL));
        }
    }
    pair_done(&pair);
}

static void test_queue_limit(void)
{
    Pair pair;
    g_autoptr(GError) error = NULL;
    size_t length = 32u << 20, pending = 0;
    g_autofree uint8_t *bytes = g_malloc0(length);
    pair_init(&pair);
    fut_link_set_queue_max(pair.near, 1 << 20);
    struct iovec iov = { bytes, length };
    g_assert_true(fut_link_send(pair.near, &iov, 1, &pending, NULL));
    g_assert_cmpuint(pending, >, 1 << 20);
    uint64_t sent = fut_link_bytes_sent(pair.near);
    size_t untouched = 77;
    g_assert_false(fut_link_send(pair.near, &iov, 1, &untouched, &error));
    g_autofree char *wanted =
        g_strdup_printf("far does not read: %zu MiB wait for it; check the peer and the network",
                        pending >> 20);
    expect_error(error, FUT_ERR_IO, wanted);
    g_assert_cmpuint(untouched, ==, 77);
    g_assert_cmpuint(fut_link_pending(pair.near), ==, pending);
    g_assert_cmpuint(fut_link_bytes_sent(pair.near), ==, sent);
    receive(pair.far, pair.near, bytes, length); /* the stream itself is still sound */
    send_ok(pair.near, "x", 1);
    pair_done(&pair);
}

static void test_peer_closed(void)
{
    Pair pair;
    g_autoptr(GError) error = NULL;
    uint8_t got[4];
    pair_init(&pair);
    send_ok(pair.far, "bye", 3);
    g_clear_pointer(&pair.far, fut_link_unref);
    struct iovec iov = { "x", 1 };
    for (unsigned i = 0; i < 2; i++) {
        g_assert_false(fut_link_send(pair.near, &iov, 1, NULL, &error));
        expect_error(error, FUT_ERR_IO, "connection to far lost: Broken pipe");
    }
    g_assert_false(fut_link_flush(pair.near, &error));
    expect_error(error, FUT_ERR_IO, "connection to far lost: Broken pipe");
    /* Its last words are still there. */
    g_assert_cmpint(fut_link_recv(pair.near, got, sizeof(got), &error), ==, 3);
    g_assert_cmpint(fut_link_recv(pair.near, got, sizeof(got), &error), ==, -1);
    expect_error(error, FUT_ERR_IO, "far closed the connection");
    pair_done(&pair);
}

static void test_reset(void)
{
    Pair pair;
    g_autoptr(GError) error = NULL;
    uint8_t got[4];
    pair_init(&pair);
    send_ok(pair.near, "unread", 6);
    g_clear_pointer(&pair.far, fut_link_unref); /* with bytes unread: the other end sees a reset */
    g_assert_cmpint(fut_link_recv(pair.near, got, sizeof(got), &error), ==, -1);
    expect_error(error, FUT_ERR_IO, "connection to far lost: Connection reset by peer");
    pair_done(&pair);
}

static void test_closed_here(void)
{
    Pair pair;
    g_autoptr(GError) error = NULL;
    uint8_t got[4];
    struct iovec iov = { "x", 1 };
    static const char text[] = "connection to far was closed by this side";
    pair_init(&pair);
    fut_link_close(pair.near);
    fut_link_close(pair.near);
    g_assert_false(fut_link_send(pair.near, &iov, 1, NULL, &error));
    expect_error(error, FUT_ERR_IO, text);
    g_assert_false(fut_link_flush(pair.near, &error));
    expect_error(error, FUT_ERR_IO, text);
    g_assert_cmpint(fut_link_recv(pair.near, got, sizeof(got), &error), ==, -1);
    expect_error(error, FUT_ERR_IO, text);
    g_assert_cmpint(fut_link_recv(pair.far, got, sizeof(got), &error), ==, -1);
    expect_error(error, FUT_ERR_IO, "near closed the connection");
    pair_done(&pair);
}

/* What was sent before the close arrives; the descriptor lives on until the last reference. */
static void test_close_keeps_what_was_sent(void)
{
    Pair pair;
    uint8_t got[4] = { 0 };
    pair_init(&pair);
    FutLink *other = fut_link_ref(pair.near);
    send_ok(pair.near, "end", 3);
    fut_link_close(pair.near);
    fut_link_unref(pair.near);
    struct pollfd wait = { .fd = fut_link_fd(other), .events = POLLIN };
    g_assert_cmpint(poll(&wait, 1, 0), ==, 1);
    g_assert_cmpint(wait.revents & POLLNVAL, ==, 0);
    fut_link_unref(other);
    g_assert_cmpint(poll(&wait, 1, 0), ==, 1);
    g_assert_cmpint(wait.revents, ==, POLLNVAL);
    g_assert_cmpint(fut_link_recv(pair.far, got, sizeof(got), NULL), ==, 3);
    g_assert_cmpstr((char *)got, ==, "end");
    fut_link_unref(pair.far);
}

#define SENDERS 3
#define MESSAGES 2000
#define MESSAGE_WORDS 300

typedef struct {
    FutLink *link;
    uint32_t number;
} Sender;

static void *send_many(void *opaque)
{
    Sender *sender = opaque;
    uint32_t words[MESSAGE_WORDS];
    for (uint32_t i = 0; i < MESSAGES; i++) {
        for (unsigned j = 0; j < MESSAGE_WORDS; j++) {
            words[j] = sender->number << 24 | i;
        }
        struct iovec iov[] = { { words, 12 }, { words + 3, sizeof(words) - 12 } };
        g_assert_true(fut_link_send(sender->link, iov, 2, NULL, NULL));
    }
    fut_link_unref(sender->link);
    return NULL;
}

/* Messages of several threads never mix, and each thread's stay in their order. */
static void test_threads(void)
{
    Pair pair;
    GThread *threads[SENDERS];
    Sender senders[SENDERS];
    uint32_t next[SENDERS] = { 0 }, words[MESSAGE_WORDS];
    pair_init(&pair);
    for (uint32_t i = 0; i < SENDERS; i++) {
        senders[i] = (Sender){ fut_link_ref(pair.near), i };
        threads[i] = g_thread_new("sender", send_many, &senders[i]);
    }
    for (unsigned i = 0; i < SENDERS * MESSAGES; i++) {
        receive(pair.far, pair.near, (uint8_t *)words, sizeof(words));
        unsigned thread = words[0] >> 24;
        g_assert_cmpuint(thread, <, SENDERS);
        g_assert_cmpuint(words[0] & 0xffffff, ==, next[thread]++);
        for (unsigned j = 1; j < MESSAGE_WORDS; j++) {
            g_assert_true(words[j] == words[0]);
        }
    }
    for (unsigned i = 0; i < SENDERS; i++) {
        g_thread_join(threads[i]);
    }
    pair_done(&pair);
}

static void *close_soon(void *opaque)
{
    g_usleep(20000);
    fut_link_close(opaque);
    return NULL;
}

/* A close from another thread ends a waiting reader at once. */
static void test_close_wakes_reader(void)
{
    Pair pair;
    pair_init(&pair);
    GThread *thread = g_thread_new("closer", close_soon, pair.near);
    struct pollfd wait = { .fd = fut_link_fd(pair.near), .events = POLLIN };
    g_assert_cmpint(poll(&wait, 1, 10000), ==, 1);
    g_thread_join(thread);
    pair_done(&pair);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/link/pieces", test_pieces);
    g_test_add_func("/link/many-pieces", test_many_pieces);
    g_test_add_func("/link/full-socket", test_full_socket);
    g_test_add_func("/link/order-in-queue", test_order_in_queue);
    g_test_add_func("/link/queue-limit", test_queue_limit);
    g_test_add_func("/link/peer-closed", test_peer_closed);
    g_test_add_func("/link/reset", test_reset);
    g_test_add_func("/link/closed-here", test_closed_here);
    g_test_add_func("/link/close-keeps-what-was-sent", test_close_keeps_what_was_sent);
    g_test_add_func("/link/threads", test_threads);
    g_test_add_func("/link/close-wakes-reader", test_close_wakes_reader);
    return g_test_run();
}
