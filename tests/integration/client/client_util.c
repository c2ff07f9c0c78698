/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the load clients share. */
#include "client_util.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "fut_clock.h"

int fut_client_connect(const char *address, const char *port)
{
    struct addrinfo hints = { .ai_family = AF_INET,
                              .ai_socktype = SOCK_STREAM,
                              .ai_flags = AI_NUMERICHOST };
    struct addrinfo *where = NULL;
    int on = 1;

    int failed = getaddrinfo(address, port, &hints, &where);
    if (failed) {
        fprintf(stderr, "%s:%s: %s\n", address, port, gai_strerror(failed));
        exit(EXIT_FAILURE);
    }
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, where->ai_addr, where->ai_addrlen) < 0) {
        fprintf(stderr, "%s:%s: %s\n", address, port, strerror(errno));
        exit(EXIT_FAILURE);
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    freeaddrinfo(where);
    return fd;
}

double fut_client_number(const char *text, const char *what, double max)
{
    char *end;
    double value = strtod(text, &end);

    if (end == text || *end || !(value > 0) || value > max) {
        fprintf(stderr, "%s: '%s' is not a number above 0 and up to %g\n", what, text, max);
        exit(2);
    }
    return value;
}

bool fut_client_read(int fd, void *data, size_t length)
{
    for (size_t done = 0; done < length;) {
        errno = 0;
        ssize_t got = read(fd, (char *)data + done, length - done);
        if (got <= 0) {
            return false;
        }
        done += (size_t)got;
    }
    return true;
}

bool fut_client_write(int fd, const void *data, size_t length)
{
    for (size_t done = 0; done < length;) {
        ssize_t put = send(fd, (const char *)data + done, length - done, MSG_NOSIGNAL);
        if (put < 0) {
            return false;
        }
        done += (size_t)put;
    }
    return true;
}

double fut_client_now_s(void)
{
    return (double)fut_now_ns() / (double)FUT_NS_PER_S;
}
