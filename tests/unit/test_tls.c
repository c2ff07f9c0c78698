/* SPDX-License-Identifier: GPL-2.0-or-later */
/* TLS over links: both kinds of proof, everything that must not get through, and the promises of a
 * link kept under it. What is wrong with files: test_tls_files.c. */
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "expect.h"
#include "link_tls.h"
#include "tls_fixture.h"

static struct {
    char *root;
    char *host_a, *host_b, *stranger; /* folders; the stranger's authority is another */
    char *key, *other_key;            /* key files */
    TestCert authority;
} files;

typedef struct {
    FutLink *client, *server;
    GError *client_error, *server_error;
} Pair;

static FutTls *x509_of(const char *folder, const char *names)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *spec = g_strconcat("x509:", folder, NULL);
    FutTls *tls = fut_tls_new(spec, names, &error);
    g_assert_no_error(error);
    return tls;
}

static FutTls *psk_of(const char *file, const char *user)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *spec = g_strconcat("psk:", file, NULL);
    FutTls *tls = fut_tls_new(spec, user, &error);
    g_assert_no_error(error);
    return tls;
}

/* A NULL end speaks no TLS. Takes over the credentials. */
static void pair_over(Pair *pair, int client_fd, int server_fd, FutTls *client, FutTls *server)
{
    *pair = (Pair){ fut_link_from_fd(client_fd, "server"), fut_link_from_fd(server_fd, "client"),
                    NULL, NULL };
    if (client) {
        fut_link_start_tls(pair->client, client, false);
    }
    if (server) {
        fut_link_start_tls(pair->server, server, true);
    }
    fut_tls_unref(client);
    fut_tls_unref(server);
}

static void pair_init(Pair *pair, FutTls *client, FutTls *server)
{
    int fds[2];
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), ==, 0);
    pair_over(pair, fds[0], fds[1], client, server);
}

static void pair_done(Pair *pair)
{
    g_clear_error(&pair->client_error);
    g_clear_error(&pair->server_error);
    fut_link_unref(pair->client);
    fut_link_unref(pair->server);
}

/* One end's turn; a failed end hangs up, as the link thread does. */
static int turn(FutLink *link, int state, GError **error)
{
    if (state != 0) {
        return state;
    }
    state = fut_link_handshake(link, error);
    if (state < 0) {
        fut_link_close(link);
    } else if (fut_link_pending(link) > 0) {
        g_assert_true(fut_link_flush(link, NULL));
    }
    return state;
}

/* Both ends greet; true when both are content. */
static bool greet(Pair *pair)
{
    int client = 0, server = 0;
    for (int i = 0; i < 100 && (client == 0 || server == 0); i++) {
        client = turn(pair->client, client, &pair->client_error);
        server = turn(pair->server, server, &pair->server_error);
    }
    g_assert_true(client != 0 && server != 0);
    return client == 1 && server == 1;
}

static void send_ok(FutLink *link, const void *bytes, size_t length)
{
    g_autoptr(GError) error = NULL;
    struct iovec iov = { (void *)bytes, length };
    fut_link_send(link, &iov, 1, NULL, &error);
    g_assert_no_error(error);
}

/* What recv says when it says something. */
static ssize_t wait_recv(FutLink *link, void *to, size_t length, GError **error)
{
    for (;;) {
        ssize_t got = fut_link_recv(link, to, length, error);
        if (got != 0) {
            return got;
        }
        struct pollfd wait = { .fd = fut_link_fd(link), .events = POLLIN };
        g_assert_false(fut_link_unread(link));
        g_assert_cmpint(poll(&wait, 1, 10000), ==, 1);
    }
}

static void expect_words(FutLink *from, FutLink *to, const char *words)
{
    g_autoptr(GError) error = NULL;
    char got[64] = { 0 };
    send_ok(from, words, strlen(words));
    g_assert_cmpint(wait_recv(to, got, sizeof(got), &error), ==, strlen(words));
    g_assert_no_error(error);
    g_assert_cmpstr(got, ==, words);
}

/* -- both kinds -- */

static const char *const kinds[] = { "x509", "psk" };

static void pair_of_kind(Pair *pair, const char *kind)
{
    if (strcmp(kind, "x509") == 0) {
        pair_init(pair, x509_of(files.host_a, NULL), x509_of(files.host_b, NULL));
    } else {
        pair_init(pair, psk_of(files.key, NULL), psk_of(files.key, NULL));
    }
}

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

/* -- what must not get through -- */

/* Takes over the credentials. The client may be content before the server has looked at its
 * certificate: then it hears of it when it first reads. */
static void refused(FutTls *client, FutTls *server, const char *client_says,
                    const char *server_says)
{
    Pair pair;
    char got[16];
    pair_init(&pair, client, server);
    g_assert_false(greet(&pair));
    if (!pair.client_error) {
        g_assert_cmpint(wait_recv(pair.client, got, sizeof(got), &pair.client_error), ==, -1);
    }
    g_assert_cmpstr(pair.client_error->message, ==, client_says);
    if (server_says) {
        g_assert_error(pair.server_error, FUT_ERROR, FUT_ERR_PEER);
        g_assert_cmpstr(pair.server_error->message, ==, server_says);
    }
    g_assert_cmpstr(fut_link_peer(pair.server), ==, "");
    pair_done(&pair);
}

#define CERT_REFUSED(alert) "the peer refused our certificate (\"" alert "\"); its log says why"
#define KEY_REFUSED(alert) "the peer refused our key (\"" alert "\"); its log says why"
#define NO_COMMON_KIND "it offers no TLS 1.3 with our kind of key: give the same tls on both hosts"
#define TO_SERVER "no TLS with server: "
#define TO_CLIENT "no TLS with client: "

/* Nothing tells a wrong key from an unknown user. */
static void test_wrong_key(void)
{
    static const char client[] = TO_SERVER KEY_REFUSED("Illegal parameter");
    static const char server[] = TO_CLIENT "its key, or its name for it, is not ours";
    refused(psk_of(files.other_key, NULL), psk_of(files.key, NULL), client, server);
    refused(psk_of(files.key, "second"), psk_of(files.key, NULL), client, server);
    refused(psk_of(files.key, NULL), psk_of(files.key, "second"), client, server);
}

static void test_wrong_authority(void)
{
    refused(x509_of(files.stranger, NULL), x509_of(files.host_b, NULL),
            TO_SERVER "its certificate (hostb) was not signed by the authority in ca-cert.pem",
            TO_CLIENT CERT_REFUSED("Certificate is bad"));
}

static void test_other_kind(void)
{
    refused(psk_of(files.key, NULL), x509_of(files.host_b, NULL), TO_SERVER NO_COMMON_KIND,
            TO_CLIENT CERT_REFUSED("Handshake failed"));
    refused(x509_of(files.host_a, NULL), psk_of(files.key, NULL),
            TO_SERVER CERT_REFUSED("Handshake failed"), TO_CLIENT NO_COMMON_KIND);
}

static void test_names(void)
{
    Pair pair;
    refused(x509_of(files.host_a, NULL), x509_of(files.host_b, "hostc,hostd"),
            "connection to server lost: " CERT_REFUSED("Certificate is bad"),
            TO_CLIENT "its certificate is that of hosta, not of hostc,hostd");
    refused(x509_of(files.host_a, "hostc"), x509_of(files.host_b, NULL),
            TO_SERVER "its certificate is that of hostb, not of hostc",
            TO_CLIENT CERT_REFUSED("Certificate is bad"));
    pair_init(&pair, x509_of(files.host_a, "hostb"), x509_of(files.host_b, "hostc,hosta"));
    g_assert_true(greet(&pair));
    pair_done(&pair);
}

/* A certificate that expires while the host runs. */
static void test_expired_meanwhile(void)
{
    g_autofree char *folder = g_build_filename(files.root, "soon", NULL);
    TestCert cert = test_cert_new(&files.authority, "soon", GNUTLS_KP_TLS_WWW_CLIENT, 0);
    g_assert_cmpint(mkdir(folder, 0700), ==, 0);
    test_cert_write(&files.authority, folder, "ca", false);
    test_host_cert(&files.authority, folder, "server", "soon", 0);
    GNUTLS_OK(gnutls_x509_crt_set_expiration_time(cert.crt, time(NULL) + 2));
    GNUTLS_OK(gnutls_x509_crt_sign2(cert.crt, files.authority.crt, files.authority.key,
                                    GNUTLS_DIG_SHA256, 0));
    test_cert_write(&cert, folder, "client", true);
    FutTls *tls = x509_of(folder, NULL);
    g_usleep(3100000);
    refused(tls, x509_of(files.host_b, NULL),
            "connection to server lost: " CERT_REFUSED("Certificate is bad"),
            TO_CLIENT "its certificate (soon) has expired");
    test_cert_done(&cert);
}

/* -- ends that speak no TLS -- */

/* The plain client learns nothing but TLS's own refusal; nothing was read from it. */
static void test_plain_client(const void *kind)
{
    Pair pair;
    uint8_t got[64];
    bool certs = strcmp(kind, "x509") == 0;
    pair_init(&pair, NULL, certs ? x509_of(files.host_b, NULL) : psk_of(files.key, NULL));
    send_ok(pair.client, "FUT2 and whatever comes after it in a header", 44);
    g_assert_cmpint(turn(pair.server, 0, &pair.server_error), ==, -1);
    expect_error(pair.server_error, FUT_ERR_PEER,
                 "no TLS with client: it does not speak TLS 1.3: is tls given on both hosts?");
    ssize_t length = fut_link_recv(pair.client, got, sizeof(got), NULL);
    g_assert_cmpint(length, ==, 7); /* one alert */
    g_assert_cmphex(got[0], ==, 21);
    g_assert_cmpint(fut_link_handshake(pair.server, &pair.server_error), ==, -1);
    g_assert_error(pair.server_error, FUT_ERROR, FUT_ERR_PEER);
    pair_done(&pair);
}

static void test_plain_server(const void *kind)
{
    Pair pair;
    bool certs = strcmp(kind, "x509") == 0;
    pair_init(&pair, certs ? x509_of(files.host_a, NULL) : psk_of(files.key, NULL), NULL);
    g_assert_cmpint(turn(pair.client, 0, &pair.client_error), ==, 0);
    send_ok(pair.server, "FUT2 goodbye, I do not know you, whoever you are", 48);
    g_assert_cmpint(turn(pair.client, 0, &pair.client_error), ==, -1);
    expect_error(pair.client_error, FUT_ERR_PEER,
                 "no TLS with server: it does not speak TLS 1.3: is tls given on both hosts?");
    pair_done(&pair);
}

static void test_hang_up_in_greeting(const void *kind)
{
    Pair pair;
    pair_of_kind(&pair, kind);
    g_assert_cmpint(turn(pair.server, 0, &pair.server_error), ==, 0);
    shutdown(fut_link_fd(pair.client), SHUT_RDWR);
    g_assert_cmpint(turn(pair.server, 0, &pair.server_error), ==, -1);
    expect_error(pair.server_error, FUT_ERR_PEER,
                 "no TLS with client: it hung up during TLS's greeting: is tls given on both "
                 "hosts?");
    pair_done(&pair);
}

/* Any bytes at all: an error or patience, never a crash, never success. */
static void test_garbage(const void *kind)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(11);
    for (unsigned round = 0; round < 300; round++) {
        Pair pair;
        uint8_t bytes[600];
        bool certs = strcmp(kind, "x509") == 0;
        pair_init(&pair, NULL, certs ? x509_of(files.host_b, NULL) : psk_of(files.key, NULL));
        for (size_t i = 0; i < sizeof(bytes); i++) {
            bytes[i] = (uint8_t)g_rand_int(rand);
        }
        if (round % 2) { /* a record of a handshake, as far as its header goes */
            memcpy(bytes, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11);
        }
        send_ok(pair.client, bytes, sizeof(bytes));
        g_assert_cmpint(turn(pair.server, 0, &pair.server_error), <=, 0);
        shutdown(fut_link_fd(pair.client), SHUT_WR);
        if (!pair.server_error) {
            g_assert_cmpint(turn(pair.server, 0, &pair.server_error), ==, -1);
        }
        g_assert_error(pair.server_error, FUT_ERROR, FUT_ERR_PEER);
        pair_done(&pair);
    }
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

/* -- other programs that speak TLS -- */

typedef struct {
    int fd;
    const char *priority;
    const char *cert_folder; /* NULL: shows none */
    const char *cert_role;
    void (*talk)(gnutls_session_t session);
} Other;

static void *other_client(void *opaque)
{
    const Other *job = opaque;
    gnutls_session_t session;
    gnutls_certificate_credentials_t certs;
    GNUTLS_OK(gnutls_certificate_allocate_credentials(&certs));
    if (job->cert_folder) {
        g_autofree char *cert = g_strdup_printf("%s/%s-cert.pem", job->cert_folder, job->cert_role);
        g_autofree char *key = g_strdup_printf("%s/%s-key.pem", job->cert_folder, job->cert_role);
        GNUTLS_OK(gnutls_certificate_set_x509_key_file(certs, cert, key, GNUTLS_X509_FMT_PEM));
    }
    GNUTLS_OK(gnutls_init(&session, GNUTLS_CLIENT));
    GNUTLS_OK(gnutls_priority_set_direct(session, job->priority, NULL));
    GNUTLS_OK(gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, certs));
    gnutls_transport_set_int(session, job->fd);
    if (gnutls_handshake(session) == 0 && job->talk) {
        job->talk(session);
    }
    gnutls_deinit(session);
    gnutls_certificate_free_credentials(certs);
    shutdown(job->fd, SHUT_RDWR);
    return NULL;
}

/* The server's side: 1 or -1, as fut_link_handshake(). */
static int serve_other(FutLink *link, GError **error)
{
    int state = 0;
    while ((state = turn(link, state, error)) == 0) {
        struct pollfd wait = { .fd = fut_link_fd(link), .events = POLLIN };
        g_assert_cmpint(poll(&wait, 1, 10000), ==, 1);
    }
    return state;
}

static void other_refused(Other other, const char *why)
{
    int fds[2];
    g_autoptr(GError) error = NULL;
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), ==, 0);
    g_autoptr(FutLink) link = fut_link_from_fd(fds[1], "client");
    g_autoptr(FutTls) tls = x509_of(files.host_b, NULL);
    fut_link_start_tls(link, tls, true);
    other.fd = fds[0];
    GThread *thread = g_thread_new("other", other_client, &other);
    g_assert_cmpint(serve_other(link, &error), ==, -1);
    g_thread_join(thread);
    g_autofree char *wanted = g_strconcat(TO_CLIENT, why, NULL);
    expect_error(error, FUT_ERR_PEER, wanted);
    close(fds[0]);
}

static void test_other_clients(void)
{
    other_refused((Other){ .priority = "NORMAL" }, "it showed no certificate");
    other_refused((Other){ .priority = "NORMAL:-VERS-ALL:+VERS-TLS1.2",
                           .cert_folder = files.host_a,
                           .cert_role = "client" },
                  NO_COMMON_KIND);
    other_refused((Other){ .priority = "NORMAL",
                           .cert_folder = files.host_a,
                           .cert_role = "server" },
                  "its certificate (hosta) was made for another purpose");
}

#define REKEYS 7 /* GnuTLS takes eight a second at most */
#define REKEY_BYTES 20000

static void talk_and_rekey(gnutls_session_t session)
{
    uint8_t bytes[REKEY_BYTES], echo[REKEY_BYTES];
    for (unsigned i = 0; i < REKEYS; i++) {
        memset(bytes, (int)i, sizeof(bytes));
        GNUTLS_OK(gnutls_session_key_update(session, GNUTLS_KU_PEER));
        for (size_t done = 0; done < sizeof(bytes);) {
            ssize_t sent = gnutls_record_send(session, bytes + done, sizeof(bytes) - done);
            g_assert_cmpint(sent, >, 0);
            done += (size_t)sent;
        }
        for (size_t done = 0; done < sizeof(echo);) {
            ssize_t got = gnutls_record_recv(session, echo + done, sizeof(echo) - done);
            if (got > 0) {
                done += (size_t)got;
            } else {
                g_assert_cmpint(got, ==, GNUTLS_E_AGAIN);
            }
        }
        g_assert_true(memcmp(bytes, echo, sizeof(echo)) == 0);
    }
}

/* New keys in both directions while data flow: what long-lived links meet after many bytes. */
static void test_new_keys(void)
{
    int fds[2];
    g_autoptr(GError) error = NULL;
    uint8_t bytes[REKEY_BYTES];
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), ==, 0);
    g_autoptr(FutLink) link = fut_link_from_fd(fds[1], "client");
    g_autoptr(FutTls) tls = x509_of(files.host_b, NULL);
    Other other = { fds[0], "NORMAL", files.host_a, "client", talk_and_rekey };
    fut_link_start_tls(link, tls, true);
    GThread *thread = g_thread_new("other", other_client, &other);
    serve_other(link, &error);
    g_assert_no_error(error);
    for (;;) {
        ssize_t got = wait_recv(link, bytes, sizeof(bytes), &error);
        if (got < 0) {
            break;
        }
        send_ok(link, bytes, (size_t)got);
    }
    g_thread_join(thread);
    g_assert_cmpuint(fut_link_bytes_sent(link), ==, REKEYS * REKEY_BYTES);
    close(fds[0]);
}

/* -- files of all tests -- */

static void make_files(void)
{
    static const char keys[] = "second:00112233445566778899aabbccddeeff\n"
                               "futago:ffeeddccbbaa99887766554433221100\n";
    static const char other[] = "futago:0123456789abcdef0123456789abcdef\n";
    files.authority = test_cert_new(NULL, "our authority", NULL, 0);
    TestCert other_authority = test_cert_new(NULL, "another", NULL, 0);
    g_autofree char *relative = fut_test_tmp();
    files.root = g_canonicalize_filename(relative, NULL);
    files.host_a = test_host(&files.authority, files.root, "hosta");
    files.host_b = test_host(&files.authority, files.root, "hostb");
    files.stranger = test_host(&other_authority, files.root, "stranger");
    test_write(files.root, "keys.psk", keys, strlen(keys), 0600);
    test_write(files.root, "other.psk", other, strlen(other), 0600);
    files.key = g_build_filename(files.root, "keys.psk", NULL);
    files.other_key = g_build_filename(files.root, "other.psk", NULL);
    test_cert_done(&other_authority);
}

static void drop_files(void)
{
    fut_test_tmp_remove(files.root);
    test_cert_done(&files.authority);
    g_free(files.root);
    g_free(files.host_a);
    g_free(files.host_b);
    g_free(files.stranger);
    g_free(files.key);
    g_free(files.other_key);
}

static void add_for_kinds(const char *name, GTestDataFunc test)
{
    for (size_t i = 0; i < G_N_ELEMENTS(kinds); i++) {
        g_autofree char *path = g_strdup_printf("/tls/%s/%s", kinds[i], name);
        g_test_add_data_func(path, kinds[i], test);
    }
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
    add_for_kinds("plain-client", test_plain_client);
    add_for_kinds("plain-server", test_plain_server);
    add_for_kinds("hang-up-in-greeting", test_hang_up_in_greeting);
    add_for_kinds("garbage", test_garbage);
    add_for_kinds("in-between", test_in_between);
    g_test_add_func("/tls/wrong-key", test_wrong_key);
    g_test_add_func("/tls/wrong-authority", test_wrong_authority);
    g_test_add_func("/tls/other-kind", test_other_kind);
    g_test_add_func("/tls/names", test_names);
    g_test_add_func("/tls/expired-meanwhile", test_expired_meanwhile);
    g_test_add_func("/tls/other-clients", test_other_clients);
    g_test_add_func("/tls/new-keys", test_new_keys);
    int status = g_test_run();
    drop_files();
    return status;
}
