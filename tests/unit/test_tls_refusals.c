/* SPDX-License-Identifier: GPL-2.0-or-later */
/* TLS over links: wrong keys, ends that speak no TLS, and other programs that do. */
#include "tls_pair.h"

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

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    make_files();
    add_for_kinds("plain-client", test_plain_client);
    add_for_kinds("plain-server", test_plain_server);
    add_for_kinds("hang-up-in-greeting", test_hang_up_in_greeting);
    add_for_kinds("garbage", test_garbage);
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
