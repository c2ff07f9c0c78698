/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Two ends of a link that speak TLS, or one that does, and their keys: for the tests of TLS. */
#ifndef FUT_TESTS_TLS_PAIR_H
#define FUT_TESTS_TLS_PAIR_H

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

static inline FutTls *x509_of(const char *folder, const char *names)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *spec = g_strconcat("x509:", folder, NULL);
    FutTls *tls = fut_tls_new(spec, names, &error);
    g_assert_no_error(error);
    return tls;
}

static inline FutTls *psk_of(const char *file, const char *user)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *spec = g_strconcat("psk:", file, NULL);
    FutTls *tls = fut_tls_new(spec, user, &error);
    g_assert_no_error(error);
    return tls;
}

/* A NULL end speaks no TLS. Takes over the credentials. */
static inline void pair_over(Pair *pair, int client_fd, int server_fd, FutTls *client,
                             FutTls *server)
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

static inline void pair_init(Pair *pair, FutTls *client, FutTls *server)
{
    int fds[2];
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), ==, 0);
    pair_over(pair, fds[0], fds[1], client, server);
}

static inline void pair_done(Pair *pair)
{
    g_clear_error(&pair->client_error);
    g_clear_error(&pair->server_error);
    fut_link_unref(pair->client);
    fut_link_unref(pair->server);
}

/* One end's turn; a failed end hangs up, as the link thread does. */
static inline int turn(FutLink *link, int state, GError **error)
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
static inline bool greet(Pair *pair)
{
    int client = 0, server = 0;
    for (int i = 0; i < 100 && (client == 0 || server == 0); i++) {
        client = turn(pair->client, client, &pair->client_error);
        server = turn(pair->server, server, &pair->server_error);
    }
    g_assert_true(client != 0 && server != 0);
    return client == 1 && server == 1;
}

static inline void send_ok(FutLink *link, const void *bytes, size_t length)
{
    g_autoptr(GError) error = NULL;
    struct iovec iov = { (void *)bytes, length };
    fut_link_send(link, &iov, 1, NULL, &error);
    g_assert_no_error(error);
}

/* What recv says when it says something. */
static inline ssize_t wait_recv(FutLink *link, void *to, size_t length, GError **error)
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

static inline void expect_words(FutLink *from, FutLink *to, const char *words)
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

static inline void pair_of_kind(Pair *pair, const char *kind)
{
    if (strcmp(kind, "x509") == 0) {
        pair_init(pair, x509_of(files.host_a, NULL), x509_of(files.host_b, NULL));
    } else {
        pair_init(pair, psk_of(files.key, NULL), psk_of(files.key, NULL));
    }
}

/* -- files of all tests -- */

static inline void make_files(void)
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

static inline void drop_files(void)
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

static inline void add_for_kinds(const char *name, GTestDataFunc test)
{
    for (size_t i = 0; i < G_N_ELEMENTS(kinds); i++) {
        g_autofree char *path = g_strdup_printf("/tls/%s/%s", kinds[i], name);
        g_test_add_data_func(path, kinds[i], test);
    }
}

#endif
