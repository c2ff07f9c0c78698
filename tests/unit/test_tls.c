/* SPDX-License-Identifier: GPL-2.0-or-later */
/* TLS over links: both kinds of proof, and the promises of a link kept under it. Who must not get
 * through: test_tls_refusals.c; what is wrong with files: test_tls_files.c. */
#include "tls_pair.h"

static void test_exchange(const void *kind)
{
    Pair pair;
    bool certs = strcmp(kind, "x509") == 0;
    pair_of_kind(&pair, kind);
    g_assert_cmpstr(fut_link_peer(pair.client), ==, "");
    g_assert_true(greet(&pair));
    g_assert_cmpstr(fut_link_peer(pair.client), ==, certs ? "hostb" : "futago");
    g_assert_cmpstr(fut_link_peer(pair.server), ==, certs ? "hosta" : "futago");
    expect_words(pair.client, pair.server, "to the server");
    expect_words(pair.server, pair.client, "to the client");
    g_assert_cmpint(fut_link_handshake(pair.client, NULL), ==, 1);
    g_assert_cmpuint(fut_link_bytes_sent(pair.client), ==, strlen("to the server"));
    pair_done(&pair);
}

/* What came in the same packet as the end of the handshake is not left lying. */
static void test_first_words_with_the_handshake(const void *kind)
{
    Pair pair;
    char got[16] = { 0 };
    int client = 0;
    pair_of_kind(&pair, kind);
    while (client == 0) {
        client = turn(pair.client, 0, &pair.client_error);
        if (client == 0) {
            g_assert_cmpint(turn(pair.server, 0, &pair.server_error), ==, 0);
        }
    }
    send_ok(pair.client, "first", 5);
    g_assert_cmpint(turn(pair.server, 0, &pair.server_error), ==, 1);
    g_assert_true(fut_link_unread(pair.server));
    g_assert_cmpint(fut_link_recv(pair.server, got, sizeof(got), NULL), ==, 5);
    g_assert_cmpstr(got, ==, "first");
    g_assert_false(fut_link_unread(pair.server) &&
                   fut_link_recv(pair.server, got, sizeof(got), NULL) != 0);
    g_assert_false(fut_link_unread(pair.server));
    pair_done(&pair);
}

/* A reader with little room is told that there is more. */
static void test_small_room(const void *kind)
{
    Pair pair;
    uint8_t bytes[40000], got[40000];
    size_t done = 0;
    pair_of_kind(&pair, kind);
    g_assert_true(greet(&pair));
    for (size_t i = 0; i < sizeof(bytes); i++) {
        bytes[i] = (uint8_t)(i % 251);
    }
    send_ok(pair.client, bytes, sizeof(bytes));
    struct pollfd wait = { .fd = fut_link_fd(pair.server), .events = POLLIN };
    g_assert_cmpint(poll(&wait, 1, 10000), ==, 1);
    do {
        ssize_t part = fut_link_recv(pair.server, got + done, MIN(777, sizeof(got) - done), NULL);
        g_assert_cmpint(part, >, 0);
        done += (size_t)part;
    } while (done < sizeof(got) && fut_link_unread(pair.server));
    g_assert_cmpuint(done, ==, sizeof(got));
    g_assert_true(memcmp(bytes, got, sizeof(got)) == 0);
    pair_done(&pair);
}

/* -- large messages -- */

#define FLOOD_BYTES (24u << 20)

typedef struct {
    FutLink *link;
    unsigned seed;
} Flood;

/* Pieces of all sizes; what the socket does not take waits, and is flushed by the reader's side. */
static void *flood(void *opaque)
{
    const Flood *job = opaque;
    g_autoptr(GRand) rand = g_rand_new_with_seed(job->seed);
    g_autofree uint8_t *bytes = g_malloc(FLOOD_BYTES);
    for (size_t i = 0; i < FLOOD_BYTES; i++) {
        bytes[i] = (uint8_t)((i + job->seed) % 251);
    }
    for (size_t done = 0; done < FLOOD_BYTES;) {
        size_t length = MIN((size_t)g_rand_int_range(rand, 1, 3 << 20), FLOOD_BYTES - done);
        size_t head = MIN(length, 40);
        struct iovec iov[] = { { bytes + done, head },
                               { NULL, 0 },
                               { bytes + done + head, length - head } };
        g_autoptr(GError) error = NULL;
        fut_link_send(job->link, iov, 3, NULL, &error);
        g_assert_no_error(error);
        done += length;
    }
    return NULL;
}

/* Reads and flushes one end until all of the other's bytes are there and all of its own are out. */
static void *serve(void *opaque)
{
    const Flood *job = opaque;
    g_autofree uint8_t *got = g_malloc(1 << 20);
    size_t done = 0;
    while (done < FLOOD_BYTES || fut_link_bytes_sent(job->link) < FLOOD_BYTES ||
           fut_link_pending(job->link) > 0) {
        struct pollfd wait = { .fd = fut_link_fd(job->link), .events = POLLIN };
        wait.events |= fut_link_pending(job->link) > 0 ? POLLOUT : 0;
        g_assert_cmpint(poll(&wait, 1, fut_link_unread(job->link) ? 0 : 5), >=, 0);
        g_assert_true(fut_link_flush(job->link, NULL));
        ssize_t part = fut_link_recv(job->link, got, 1 << 20, NULL);
        g_assert_cmpint(part, >=, 0);
        for (ssize_t i = 0; i < part; i++, done++) {
            g_assert_true(got[i] == (done + job->seed) % 251);
        }
    }
    return NULL;
}

/* Both directions at once, through a socket that takes little at a time. */
static void test_large_both_ways(const void *kind)
{
    Pair pair;
    int small = 20000;
    pair_of_kind(&pair, kind);
    g_assert_true(greet(&pair));
    for (int i = 0; i < 2; i++) {
        int fd = fut_link_fd(i ? pair.client : pair.server);
        g_assert_cmpint(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)), ==, 0);
    }
    Flood to_server = { pair.client, 1 }, to_client = { pair.server, 2 };
    Flood at_server = { pair.server, 1 }, at_client = { pair.client, 2 };
    GThread *threads[] = { g_thread_new("flood", flood, &to_server),
                           g_thread_new("flood", flood, &to_client),
                           g_thread_new("serve", serve, &at_server),
                           g_thread_new("serve", serve, &at_client) };
    for (unsigned i = 0; i < G_N_ELEMENTS(threads); i++) {
        g_thread_join(threads[i]);
    }
    pair_done(&pair);
}

/* -- the end -- */

static void test_farewell(const void *kind)
{
    Pair pair;
    g_autoptr(GError) error = NULL;
    char got[8] = { 0 };
    pair_of_kind(&pair, kind);
    g_assert_true(greet(&pair));
    send_ok(pair.client, "end", 3);
    fut_link_close(pair.client);
    g_assert_cmpint(wait_recv(pair.server, got, sizeof(got), &error), ==, 3);
    for (int i = 0; i < 2; i++) {
        g_assert_cmpint(wait_recv(pair.server, got, sizeof(got), &error), ==, -1);
        expect_error(error, FUT_ERR_IO, "client closed the connection");
    }
    pair_done(&pair);
}

/* Bytes before the cut count; the cut is not an orderly end. */
static void test_cut_off(const void *kind)
{
    Pair pair;
    g_autoptr(GError) error = NULL;
    char got[8] = { 0 };
    pair_of_kind(&pair, kind);
    g_assert_true(greet(&pair));
    send_ok(pair.client, "end", 3);
    shutdown(fut_link_fd(pair.client), SHUT_RDWR);
    g_assert_cmpint(wait_recv(pair.server, got, sizeof(got), &error), ==, 3);
    for (int i = 0; i < 2; i++) {
        g_assert_cmpint(wait_recv(pair.server, got, sizeof(got), &error), ==, -1);
        expect_error(error, FUT_ERR_IO,
                     "connection to client lost: it was cut off without TLS's farewell");
    }
    pair_done(&pair);
}

/* The same inside of a record. */
static void test_cut_in_two(const void *kind)
{
    Pair pair;
    uint8_t bytes[8192];
    int far[2];
    g_autoptr(GError) error = NULL;
    pair_of_kind(&pair, kind);
    g_assert_true(greet(&pair));
    send_ok(pair.client, "a message that will not arrive as a whole", 41);
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM, 0, far), ==, 0);
    ssize_t length = recv(fut_link_fd(pair.server), bytes, sizeof(bytes), MSG_DONTWAIT);
    g_assert_cmpint(length, >, 41);
    g_assert_cmpint(send(far[1], bytes, (size_t)length - 1, 0), ==, length - 1);
    g_assert_cmpint(dup2(far[0], fut_link_fd(pair.server)), >=, 0);
    g_assert_cmpint(fut_link_recv(pair.server, bytes, sizeof(bytes), &error), ==, 0);
    close(far[0]);
    close(far[1]);
    g_assert_cmpint(wait_recv(pair.server, bytes, sizeof(bytes), &error), ==, -1);
    expect_error(error, FUT_ERR_IO,
                 "connection to client lost: it was cut off without TLS's farewell");
    pair_done(&pair);
}

/* -- somebody in between -- */

/* Hands on what one descriptor has to another; the bytes for a closer look. */
static size_t relay(int from, int to, uint8_t *bytes, size_t room, int turn_at)
{
    ssize_t got = recv(from, bytes, room, MSG_DONTWAIT);
    if (got <= 0) {
        return 0;
    }
    if (turn_at >= 0) {
        bytes[turn_at] ^= 1;
    }
    g_assert_cmpint(send(to, bytes, (size_t)got, 0), ==, got);
    return (size_t)got;
}

/* What is sent cannot be seen on the way, and a turned bit breaks the link. */
static void test_in_between(const void *kind)
{
    static const char secret[] = "a pattern of guest memory, guest memory, guest memory";
    int near[2], far[2], client = 0, server = 0;
    bool certs = strcmp(kind, "x509") == 0;
    uint8_t bytes[8192];
    Pair pair;
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM, 0, near), ==, 0);
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM, 0, far), ==, 0);
    pair_over(&pair, near[0], far[0], certs ? x509_of(files.host_a, NULL) : psk_of(files.key, NULL),
              certs ? x509_of(files.host_b, NULL) : psk_of(files.key, NULL));
    while (client == 0 || server == 0) {
        client = turn(pair.client, client, &pair.client_error);
        relay(near[1], far[1], bytes, sizeof(bytes), -1);
        server = turn(pair.server, server, &pair.server_error);
        relay(far[1], near[1], bytes, sizeof(bytes), -1);
    }
    g_assert_cmpint(client, ==, 1);
    g_assert_cmpint(server, ==, 1);
    for (int i = 0; i < 2; i++) {
        char got[sizeof(secret)] = { 0 };
        send_ok(pair.client, secret, sizeof(secret));
        size_t length = relay(near[1], far[1], bytes, sizeof(bytes), i ? 20 : -1);
        g_assert_cmpuint(length, >, sizeof(secret));
        g_assert_null(memmem(bytes, length, "guest", 5));
        ssize_t have = wait_recv(pair.server, got, sizeof(got), &pair.server_error);
        g_assert_cmpint(have, ==, i ? -1 : (int)sizeof(secret));
        g_assert_cmpint(memcmp(got, secret, sizeof(got)) == 0, ==, i == 0);
    }
    expect_error(pair.server_error, FUT_ERR_IO,
                 "connection to client lost: Decryption has failed.");
    pair_done(&pair);
    close(near[1]);
    close(far[1]);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    make_files();
    add_for_kinds("exchange", test_exchange);
    add_for_kinds("first-words-with-the-handshake", test_first_words_with_the_handshake);
    add_for_kinds("small-room", test_small_room);
    add_for_kinds("large-both-ways", test_large_both_ways);
    add_for_kinds("farewell", test_farewell);
    add_for_kinds("cut-off", test_cut_off);
    add_for_kinds("cut-in-two", test_cut_in_two);
    add_for_kinds("in-between", test_in_between);
    int status = g_test_run();
    drop_files();
    return status;
}
