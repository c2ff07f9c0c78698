/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Peer addresses: text to structure and back. */
#include "address.h"

#include <arpa/inet.h>
#include <string.h>
#include <sys/un.h>

#include "fut_error.h"

#define FORMS "write tcp:HOST:PORT, HOST:PORT, tcp:[IPV6]:PORT or unix:PATH"
#define HOST_MAX 255
#define PATH_LENGTH_MAX (sizeof(((struct sockaddr_un *)NULL)->sun_path) - 1)

static FutAddress *fail(const char *text, const char *why, GError **error)
{
    g_set_error(error, FUT_ERROR, FUT_ERR_ARG, "address \"%s\": %s; " FORMS, text, why);
    return NULL;
}

/* 0 when it is none: 1 to 65535, digits only. */
static uint16_t parse_port(const char *text)
{
    unsigned port = 0;
    size_t digits = strspn(text, "0123456789");
    if (digits == 0 || digits > 5 || text[digits]) {
        return 0;
    }
    for (size_t i = 0; i < digits; i++) {
        port = port * 10 + (unsigned)(text[i] - '0');
    }
    return port <= 65535 ? (uint16_t)port : 0;
}

static bool is_ipv6(const char *host)
{
    struct in6_addr number;
    g_autofree char *bare =
        g_strndup(host, strcspn(host, "%")); /* without the zone of fe80::1%eth0 */
    return inet_pton(AF_INET6, bare, &number) == 1;
}

static bool is_plain_host(const char *host)
{
    for (const char *c = host; *c; c++) {
        if (!g_ascii_isalnum(*c) && !strchr("-._", *c)) {
            return false;
        }
    }
    return true;
}

static FutAddress *parse_unix(const char *text, const char *path, GError **error)
{
    if (!*path) {
        return fail(text, "the path is empty", error);
    }
    if (strlen(path) > PATH_LENGTH_MAX) {
        g_autofree char *why =
            g_strdup_printf("the path is longer than %zu bytes", PATH_LENGTH_MAX);
        return fail(text, why, error);
    }
    FutAddress *address = g_new0(FutAddress, 1);
    address->kind = FUT_ADDRESS_UNIX;
    address->path = g_strdup(path);
    return address;
}

/* What is wrong with the host, or NULL. */
static const char *host_fault(const char *host, bool brackets)
{
    if (!*host) {
        return "the host is empty (0.0.0.0 listens everywhere)";
    }
    if (brackets) {
        return is_ipv6(host) ? NULL : "what stands in brackets is no IPv6 address";
    }
    if (strchr(host, ':')) {
        return "an IPv6 address needs brackets";
    }
    return strlen(host) <= HOST_MAX && is_plain_host(host)
               ? NULL
               : "the host is neither a name nor a number";
}

static FutAddress *parse_tcp(const char *text, const char *rest, GError **error)
{
    bool brackets = *rest == '[';
    const char *colon = brackets ? strstr(rest, "]:") : strrchr(rest, ':');
    if (!colon) {
        return fail(text, "the port is missing", error);
    }
    const char *start = rest + brackets;
    g_autofree char *host = g_strndup(start, (gsize)(colon - start));
    const char *fault = host_fault(host, brackets);
    if (fault) {
        return fail(text, fault, error);
    }
    uint16_t port = parse_port(colon + (brackets ? 2 : 1));
    if (port == 0) {
        return fail(text, "the port is not a number from 1 to 65535", error);
    }
    FutAddress *address = g_new0(FutAddress, 1);
    address->kind = FUT_ADDRESS_TCP;
    address->host = g_steal_pointer(&host);
    address->port = port;
    return address;
}

FutAddress *fut_address_parse(const char *text, GError **error)
{
    if (!*text) {
        return fail(text, "it is empty", error);
    }
    if (g_str_has_prefix(text, "unix:")) {
        return parse_unix(text, text + strlen("unix:"), error);
    }
    return parse_tcp(text, g_str_has_prefix(text, "tcp:") ? text + strlen("tcp:") : text, error);
}

void fut_address_free(FutAddress *address)
{
    if (address) {
        g_free(address->host);
        g_free(address->path);
        g_free(address);
    }
}

char *fut_address_text(const FutAddress *address)
{
    if (address->kind == FUT_ADDRESS_UNIX) {
        return g_strdup_printf("unix:%s", address->path);
    }
    bool v6 = strchr(address->host, ':') != NULL;
    return g_strdup_printf(v6 ? "tcp:[%s]:%u" : "tcp:%s:%u", address->host, address->port);
}

bool fut_address_is_local(const FutAddress *address)
{
    if (address->kind == FUT_ADDRESS_UNIX || g_ascii_strcasecmp(address->host, "localhost") == 0) {
        return true;
    }
    struct in_addr v4;
    struct in6_addr v6;
    if (inet_pton(AF_INET, address->host, &v4) == 1) {
        return ntohl(v4.s_addr) >> 24 == 127;
    }
    return inet_pton(AF_INET6, address->host, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}
