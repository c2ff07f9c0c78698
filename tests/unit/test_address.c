/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Addresses: what is accepted, what is refused and with which words. */
#include "address.h"

#include <string.h>

#include "expect.h"

#define FORMS "; write tcp:HOST:PORT, HOST:PORT, tcp:[IPV6]:PORT or unix:PATH"

static void accept(const char *text, const char *canonical, const char *host, unsigned port)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(FutAddress) address = fut_address_parse(text, &error);
    g_assert_no_error(error);
    g_assert_cmpint(address->kind, ==, FUT_ADDRESS_TCP);
    g_assert_cmpstr(address->host, ==, host);
    g_assert_cmpuint(address->port, ==, port);
    g_assert_null(address->path);
    g_autofree char *back = fut_address_text(address);
    g_assert_cmpstr(back, ==, canonical);
    g_autoptr(FutAddress) again = fut_address_parse(back, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(again->host, ==, host);
}

static void test_tcp(void)
{
    accept("tcp:host-b.example:4790", "tcp:host-b.example:4790", "host-b.example", 4790);
    accept("10.0.0.2:1", "tcp:10.0.0.2:1", "10.0.0.2", 1);
    accept("host_b:65535", "tcp:host_b:65535", "host_b", 65535);
    accept("tcp:[::1]:4790", "tcp:[::1]:4790", "::1", 4790);
    accept("[fe80::1%eth0]:4790", "tcp:[fe80::1%eth0]:4790", "fe80::1%eth0", 4790);
    accept("h:00080", "tcp:h:80", "h", 80);
}

static void test_unix(void)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(FutAddress) address = fut_address_parse("unix:/run/a b:c", &error);
    g_assert_no_error(error);
    g_assert_cmpint(address->kind, ==, FUT_ADDRESS_UNIX);
    g_assert_cmpstr(address->path, ==, "/run/a b:c");
    g_assert_null(address->host);
    g_autofree char *back = fut_address_text(address);
    g_assert_cmpstr(back, ==, "unix:/run/a b:c");
}

static void refuse(const char *text, const char *why)
{
    g_autoptr(GError) error = NULL;
    g_assert_null(fut_address_parse(text, &error));
    g_autofree char *wanted = g_strdup_printf("address \"%s\": %s" FORMS, text, why);
    expect_error(error, FUT_ERR_ARG, wanted);
}

static void test_refused(void)
{
    refuse("", "it is empty");
    refuse("host", "the port is missing");
    refuse("tcp:4790", "the port is missing");
    refuse("tcp:[::1]", "the port is missing");
    refuse("tcp:[::1]4790", "the port is missing");
    refuse(":4790", "the host is empty (0.0.0.0 listens everywhere)");
    refuse("tcp::4790", "the host is empty (0.0.0.0 listens everywhere)");
    refuse("[]:4790", "the host is empty (0.0.0.0 listens everywhere)");
    refuse("::1:4790", "an IPv6 address needs brackets");
    refuse("[::g]:4790", "what stands in brackets is no IPv6 address");
    refuse("[10.0.0.1]:4790", "what stands in brackets is no IPv6 address");
    refuse("ho st:4790", "the host is neither a name nor a number");
    refuse("ho/st:4790", "the host is neither a name nor a number");
    refuse("unix:", "the path is empty");
}

static void test_refused_ports(void)
{
    static const char *const bad[] = { "h:",    "h:0",  "h:65536", "h:99999", "h:123456",
                                       "h:12x", "h:-1", "h: 1",    "h:+1",    "h:0x10" };
    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        refuse(bad[i], "the port is not a number from 1 to 65535");
    }
}

static void test_lengths(void)
{
    g_autofree char *fill = g_strnfill(300, 'a');
    g_autofree char *host = g_strdup_printf("%s:1", fill);
    refuse(host, "the host is neither a name nor a number");
    g_autofree char *path = g_strdup_printf("unix:%.108s", fill);
    refuse(path, "the path is longer than 107 bytes");
    path[strlen(path) - 1] = '\0';
    g_autoptr(FutAddress) longest = fut_address_parse(path, NULL);
    g_assert_nonnull(longest);
}

static bool is_local(const char *text)
{
    g_autoptr(FutAddress) address = fut_address_parse(text, NULL);
    g_assert_nonnull(address);
    return fut_address_is_local(address);
}

static void test_local(void)
{
    g_assert_true(is_local("unix:/x"));
    g_assert_true(is_local("127.0.0.1:1"));
    g_assert_true(is_local("127.9.8.7:1"));
    g_assert_true(is_local("[::1]:1"));
    g_assert_true(is_local("LocalHost:1"));
    g_assert_false(is_local("0.0.0.0:1"));
    g_assert_false(is_local("128.0.0.1:1"));
    g_assert_false(is_local("[::]:1"));
    g_assert_false(is_local("127.example:1"));
    g_assert_false(is_local("localhost.example:1"));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/address/tcp", test_tcp);
    g_test_add_func("/address/unix", test_unix);
    g_test_add_func("/address/refused", test_refused);
    g_test_add_func("/address/refused-ports", test_refused_ports);
    g_test_add_func("/address/lengths", test_lengths);
    g_test_add_func("/address/local", test_local);
    return g_test_run();
}
