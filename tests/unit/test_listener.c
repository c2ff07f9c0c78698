/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Listening and connecting, over tcp and unix sockets: what works, and the words otherwise. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "expect.h"
#include "fut_clock.h"
#include "link.h"
#include "test_tmp.h"

static FutAddress *parse(const char *text)
{
    g_autoptr(GError) error = NULL;
    FutAddress *address = fut_address_parse(text, &error);
    g_assert_no_error(error);
    return address;
}

/* Any free port of `host`; *ret_address becomes where it is. */
static FutListener *listen_tcp(const char *host, FutAddress **ret_address)
{
    FutAddress any = { .kind = FUT_ADDRESS_TCP, .host = (char *)host, .port = 0 };
    g_autoptr(GError) error = NULL;
    FutListener *listener = fut_listener_new(&any, &error);
    g_assert_no_error(error);
    struct sockaddr_in6 name; /* the port stands where sockaddr_in has it */
    socklen_t length = sizeof(name);
    g_assert_cmpint(getsockname(fut_listener_fd(listener), (struct sockaddr *)&name, &length), ==,
                    0);
    g_autofree char *text = g_strdup_printf("%s:%u", host, ntohs(name.sin6_port));
    *ret_address = parse(text);
    return listener;
}

static FutLink *connect_ok(const FutAddress *address)
{
    g_autoptr(GError) error = NULL;
    FutLink *link = fut_link_connect(address, 5000, &error);
    g_assert_no_error(error);
    return link;
}

static FutLink *accept_ok(FutListener *listener)
{
    g_autoptr(GError) error = NULL;
    struct pollfd wait = { .fd = fut_listener_fd(listener), .events = POLLIN };
    g_assert_cmpint(poll(&wait, 1, 5000), ==, 1);
    FutLink *link = fut_listener_accept(listener, &error);
    g_assert_no_error(error);
    g_assert_nonnull(link);
    return link;
}

static void expect_bytes(FutLink *from, FutLink *to)
{
    char got[8] = { 0 };
    g_autoptr(GError) error = NULL;
    struct iovec iov = { "hello", 5 };
    struct pollfd wait = { .fd = fut_link_fd(to), .events = POLLIN };
    g_assert_true(fut_link_send(from, &iov, 1, NULL, &error));
    g_assert_cmpint(poll(&wait, 1, 5000), ==, 1);
    g_assert_cmpint(fut_link_recv(to, got, sizeof(got), &error), ==, 5);
    g_assert_cmpstr(got, ==, "hello");
}

/* Connects and carries bytes both ways; returns the accepted end's name for the peer. */
static char *meet(FutListener *listener, const FutAddress *address)
{
    g_autoptr(FutLink) client = connect_ok(address);
    g_autoptr(FutLink) server = accept_ok(listener);
    g_autofree char *name = fut_address_text(address);
    g_assert_cmpstr(fut_link_name(client), ==, name);
    expect_bytes(client, server);
    expect_bytes(server, client);
    return g_strdup(fut_link_name(server));
}

static void test_tcp(void)
{
    g_autoptr(FutAddress) address = NULL;
    g_autoptr(FutListener) listener = listen_tcp("127.0.0.1", &address);
    g_autoptr(GError) error = NULL;
    g_assert_null(fut_listener_accept(listener, &error));
    g_assert_no_error(error);
    g_autofree char *name = meet(listener, address);
    g_assert_true(g_str_has_prefix(name, "tcp:127.0.0.1:"));
    g_autofree char *again = meet(listener, address);
    g_assert_cmpstr(again, !=, name);
}

static void test_tcp_by_name(void)
{
    g_autoptr(FutAddress) address = NULL;
    g_autoptr(FutListener) listener = listen_tcp("localhost", &address);
    g_autofree char *name = meet(listener, address);
    g_assert_true(g_str_has_prefix(name, "tcp:"));
}

static void test_tcp_options(void)
{
    g_autoptr(FutAddress) address = NULL;
    g_autoptr(FutListener) listener = listen_tcp("127.0.0.1", &address);
    FutLink *ends[2] = { connect_ok(address), NULL };
    ends[1] = accept_ok(listener);
    for (unsigned i = 0; i < 2; i++) {
        int on = 0;
        socklen_t length = sizeof(on);
        getsockopt(fut_link_fd(ends[i]), IPPROTO_TCP, TCP_NODELAY, &on, &length);
        g_assert_cmpint(on, !=, 0);
        fut_link_unref(ends[i]);
    }
}

static void test_tcp_busy(void)
{
    g_autoptr(FutAddress) address = NULL;
    g_autoptr(FutListener) listener = listen_tcp("127.0.0.1", &address);
    g_autoptr(GError) error = NULL;
    g_assert_null(fut_listener_new(address, &error));
    g_autofree char *wanted = g_strdup_printf(
        "cannot listen on tcp:127.0.0.1:%u: the port is in use; choose another port",
        address->port);
    expect_error(error, FUT_ERR_BUSY, wanted);
}

/* After a crash the port can be had again at once, although old connections linger. */
static void test_tcp_again(void)
{
    g_autoptr(FutAddress) address = NULL;
    FutListener *listener = listen_tcp("127.0.0.1", &address);
    FutLink *client = connect_ok(address), *server = accept_ok(listener);
    fut_link_unref(server); /* this end closes first: its address waits in TIME_WAIT */
    fut_link_unref(client);
    fut_listener_free(listener);
    g_autoptr(GError) error = NULL;
    g_autoptr(FutListener) again = fut_listener_new(address, &error);
    g_assert_no_error(error);
    g_autofree char *name = meet(again, address);
    g_assert_nonnull(name);
}

static void test_tcp_refused(void)
{
    g_autoptr(FutAddress) address = NULL;
    fut_listener_free(listen_tcp("127.0.0.1", &address));
    g_autoptr(GError) error = NULL;
    g_assert_null(fut_link_connect(address, 5000, &error));
    g_autofree char *wanted = g_strdup_printf(
        "cannot connect to tcp:127.0.0.1:%u: nobody listens there; start the peer first",
        address->port);
    expect_error(error, FUT_ERR_IO, wanted);
}

static void test_tcp_not_ours(void)
{
    g_autoptr(FutAddress) address = parse("tcp:192.0.2.1:4790");
    g_autoptr(GError) error = NULL;
    g_assert_null(fut_listener_new(address, &error));
    expect_error(error, FUT_ERR_IO,
                 "cannot listen on tcp:192.0.2.1:4790: Cannot assign requested address; give an "
                 "address of this host");
}

static void test_tcp_no_such_host(void)
{
    g_autoptr(FutAddress) address = parse("tcp:a..b:4790");
    g_autoptr(GError) error = NULL;
    g_assert_null(fut_link_connect(address, 1000, &error));
    g_assert_error(error, FUT_ERROR, FUT_ERR_IO);
    g_assert_true(g_str_has_prefix(error->message, "host \"a..b\" not found: "));
    g_assert_true(g_str_has_suffix(error->message, "; check the name or give its number"));
}

/* A listener whose queue is full lets new connections wait: like a host that does not answer. */
static void test_tcp_timeout(void)
{
    struct sockaddr_in name = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t length = sizeof(name);
    int deaf = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), fill[4];
    g_assert_cmpint(bind(deaf, (struct sockaddr *)&name, length), ==, 0);
    g_assert_cmpint(listen(deaf, 0), ==, 0);
    g_assert_cmpint(getsockname(deaf, (struct sockaddr *)&name, &length), ==, 0);
    for (unsigned i = 0; i < G_N_ELEMENTS(fill); i++) {
        fill[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        connect(fill[i], (struct sockaddr *)&name, length);
    }
    g_usleep(20000);
    FutAddress address = { .kind = FUT_ADDRESS_TCP,
                           .host = (char *)"127.0.0.1",
                           .port = ntohs(name.sin_port) };
    g_autoptr(GError) error = NULL;
    uint64_t start_ns = fut_now_ns();
    g_assert_null(fut_link_connect(&address, 300, &error));
    uint64_t took_ns = fut_now_ns() - start_ns;
    g_autofree char *wanted =
        g_strdup_printf("cannot connect to tcp:127.0.0.1:%u: no answer within "
                        "300 ms; check the host and the firewalls",
                        address.port);
    expect_error(error, FUT_ERR_TIMEOUT, wanted);
    g_assert_cmpuint(took_ns, >=, 290 * FUT_NS_PER_MS);
    for (unsigned i = 0; i < G_N_ELEMENTS(fill); i++) {
        close(fill[i]);
    }
    close(deaf);
}

typedef struct {
    char *folder, *path;
    FutAddress *address;
} Place;

static void place_init(Place *place)
{
    place->folder = fut_test_tmp();
    place->path = g_build_filename(place->folder, "peer.sock", NULL);
    g_autofree char *text = g_strdup_printf("unix:%s", place->path);
    place->address = parse(text);
}

static void place_done(Place *place)
{
    fut_test_tmp_remove(place->folder);
    fut_address_free(place->address);
    g_free(place->folder);
    g_free(place->path);
}

static FutListener *listen_unix(const Place *place)
{
    g_autoptr(GError) error = NULL;
    FutListener *listener = fut_listener_new(place->address, &error);
    g_assert_no_error(error);
    return listener;
}

/* A socket file of a listener that died. */
static void leave_stale(const Place *place)
{
    struct sockaddr_un name = { .sun_family = AF_UNIX };
    g_strlcpy(name.sun_path, place->path, sizeof(name.sun_path));
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    g_assert_cmpint(bind(fd, (struct sockaddr *)&name, sizeof(name)), ==, 0);
    close(fd);
}

static void test_unix(void)
{
    Place place;
    struct stat st;
    place_init(&place);
    FutListener *listener = listen_unix(&place);
    g_assert_cmpint(stat(place.path, &st), ==, 0);
    g_assert_cmpuint(st.st_mode & 0777, ==, 0600);
    g_autofree char *name = meet(listener, place.address);
    g_autofree char *wanted = fut_address_text(place.address);
    g_assert_cmpstr(name, ==, wanted);
    fut_listener_free(listener);
    g_assert_cmpint(access(place.path, F_OK), ==, -1);
    place_done(&place);
}

static void test_unix_stale(void)
{
    Place place;
    place_init(&place);
    leave_stale(&place);
    FutListener *listener = listen_unix(&place);
    g_autofree char *name = meet(listener, place.address);
    g_assert_nonnull(name);
    fut_listener_free(listener);
    place_done(&place);
}

static void expect_busy(const Place *place, const char *why)
{
    g_autoptr(GError) error = NULL;
    g_assert_null(fut_listener_new(place->address, &error));
    g_autofree char *wanted =
        g_strdup_printf("cannot listen on unix:%s: %s; choose another path", place->path, why);
    expect_error(error, FUT_ERR_BUSY, wanted);
}

static void test_unix_live(void)
{
    Place place;
    place_init(&place);
    FutListener *listener = listen_unix(&place);
    expect_busy(&place, "somebody listens there");
    g_clear_pointer(&listener, fut_listener_free); /* the question itself waits in the queue */
    place_done(&place);
}

static void test_unix_other_file(void)
{
    Place place;
    g_autofree char *text = NULL;
    place_init(&place);
    g_assert_true(g_file_set_contents(place.path, "precious", -1, NULL));
    expect_busy(&place, "a file that is no socket is there");
    g_assert_true(g_file_get_contents(place.path, &text, NULL, NULL));
    g_assert_cmpstr(text, ==, "precious");
    place_done(&place);
}

static void test_unix_no_folder(void)
{
    g_autoptr(FutAddress) address = parse("unix:/nonexistent/peer.sock");
    g_autoptr(GError) error = NULL;
    g_assert_null(fut_listener_new(address, &error));
    expect_error(error, FUT_ERR_IO,
                 "cannot listen on unix:/nonexistent/peer.sock: No such file or directory; check "
                 "the directory");
}

/* Freed after somebody put another socket at its path: that one stays. */
static void test_unix_replaced(void)
{
    Place place;
    place_init(&place);
    FutListener *first = listen_unix(&place);
    unlink(place.path);
    FutListener *second = listen_unix(&place);
    fut_listener_free(first);
    g_autofree char *name = meet(second, place.address);
    g_assert_nonnull(name);
    fut_listener_free(second);
    place_done(&place);
}

static void test_unix_refused(void)
{
    Place place;
    place_init(&place);
    g_autofree char *wanted =
        g_strdup_printf("cannot connect to unix:%s: nobody listens there; start the peer first",
                        place.path);
    for (unsigned i = 0; i < 2; i++) {
        g_autoptr(GError) error = NULL;
        g_assert_null(fut_link_connect(place.address, 1000, &error));
        expect_error(error, FUT_ERR_IO, wanted);
        if (i == 0) {
            leave_stale(&place);
        }
    }
    place_done(&place);
}

static void test_unix_timeout(void)
{
    Place place;
    FutLink *waiting[64];
    unsigned count = 0;
    g_autoptr(GError) error = NULL;
    place_init(&place);
    FutListener *listener = listen_unix(&place);
    while (count < G_N_ELEMENTS(waiting) &&
           (waiting[count] = fut_link_connect(place.address, 50, &error))) {
        count++;
    }
    g_autofree char *wanted =
        g_strdup_printf("cannot connect to unix:%s: no answer in time; is the peer stuck?",
                        place.path);
    expect_error(error, FUT_ERR_TIMEOUT, wanted);
    while (count > 0) {
        fut_link_unref(waiting[--count]);
    }
    fut_listener_free(listener);
    place_done(&place);
}

static void *try_to_listen(void *opaque)
{
    const Place *place = opaque;
    GError *error = NULL;
    FutListener *listener = fut_listener_new(place->address, &error);
    if (!listener) {
        g_assert_error(error, FUT_ERROR, FUT_ERR_BUSY);
        g_clear_error(&error);
    }
    return listener;
}

/* Several find the same stale socket: one gets the path, and is the one who is reached there. */
static void test_unix_stale_race(void)
{
    for (unsigned round = 0; round < 30; round++) {
        Place place;
        GThread *threads[4];
        FutListener *winner = NULL;
        place_init(&place);
        leave_stale(&place);
        for (unsigned i = 0; i < G_N_ELEMENTS(threads); i++) {
            threads[i] = g_thread_new("listener", try_to_listen, &place);
        }
        for (unsigned i = 0; i < G_N_ELEMENTS(threads); i++) {
            FutListener *listener = g_thread_join(threads[i]);
            g_assert_true(!listener || !winner);
            winner = listener ? listener : winner;
        }
        g_assert_nonnull(winner);
        g_autoptr(FutLink) client = connect_ok(place.address);
        g_assert_nonnull(client);
        fut_listener_free(winner);
        place_done(&place);
    }
}

static void test_free_null(void)
{
    fut_listener_free(NULL);
    fut_link_unref(NULL);
    fut_address_free(NULL);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/listener/tcp", test_tcp);
    g_test_add_func("/listener/tcp-by-name", test_tcp_by_name);
    g_test_add_func("/listener/tcp-options", test_tcp_options);
    g_test_add_func("/listener/tcp-busy", test_tcp_busy);
    g_test_add_func("/listener/tcp-again", test_tcp_again);
    g_test_add_func("/listener/tcp-refused", test_tcp_refused);
    g_test_add_func("/listener/tcp-not-ours", test_tcp_not_ours);
    g_test_add_func("/listener/tcp-no-such-host", test_tcp_no_such_host);
    g_test_add_func("/listener/tcp-timeout", test_tcp_timeout);
    g_test_add_func("/listener/unix", test_unix);
    g_test_add_func("/listener/unix-stale", test_unix_stale);
    g_test_add_func("/listener/unix-live", test_unix_live);
    g_test_add_func("/listener/unix-other-file", test_unix_other_file);
    g_test_add_func("/listener/unix-no-folder", test_unix_no_folder);
    g_test_add_func("/listener/unix-replaced", test_unix_replaced);
    g_test_add_func("/listener/unix-refused", test_unix_refused);
    g_test_add_func("/listener/unix-timeout", test_unix_timeout);
    g_test_add_func("/listener/unix-stale-race", test_unix_stale_race);
    g_test_add_func("/listener/free-null", test_free_null);
    return g_test_run();
}
