/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Bulk load over one connection, in one direction.
 *
 *   fut-bulk ADDRESS PORT send|receive SECONDS [WARM_UP_SECONDS]
 *
 * Prints one JSON object: what passed after the warm-up (default 0.5 s), in Mbit/s. When sending, what counts is what the
 * guest's TCP has acknowledged, not what lies in buffers here.
 */
#include <errno.h>
#include <linux/sockios.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "client_util.h"
#include "fut_clock.h"

#define CHUNK_BYTES (256 * 1024)
#define SLICE_MS 20

static char chunk[CHUNK_BYTES];

/* Bytes that neither compress nor repeat within a page. */
static void fill_chunk(void)
{
    uint64_t value = 1;

    for (size_t i = 0; i + sizeof(value) <= sizeof(chunk); i += sizeof(value)) {
        value = value * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        uint64_t mixed = value ^ value >> 29;
        memcpy(chunk + i, &mixed, sizeof(mixed));
    }
}

static void broken(void)
{
    fprintf(stderr, "fut-bulk: connection broken: %s\n", errno ? strerror(errno) : "closed");
    exit(EXIT_FAILURE);
}

/* Bytes passed by one call, 0 if none could for a while. */
static uint64_t move_some(int fd, bool send_it)
{
    struct pollfd ready = { .fd = fd, .events = send_it ? POLLOUT : POLLIN };

    if (poll(&ready, 1, SLICE_MS) < 1) {
        return 0;
    }
    ssize_t moved = send_it ? send(fd, chunk, sizeof(chunk), MSG_DONTWAIT | MSG_NOSIGNAL)
                            : recv(fd, chunk, sizeof(chunk), MSG_DONTWAIT);
    if (moved < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
        return 0;
    }
    if (moved <= 0) {
        errno = moved == 0 ? 0 : errno;
        broken();
    }
    return (uint64_t)moved;
}

static uint64_t still_here(int fd, bool send_it)
{
    int waiting = 0;

    if (send_it && ioctl(fd, SIOCOUTQ, &waiting) < 0) {
        broken();
    }
    return (uint64_t)waiting;
}

int main(int argc, char **argv)
{
    if ((argc != 5 && argc != 6) || (strcmp(argv[3], "send") && strcmp(argv[3], "receive"))) {
        fprintf(stderr, "usage: fut-bulk ADDRESS PORT send|receive SECONDS [WARM_UP_SECONDS]\n");
        return 2;
    }
    bool send_it = strcmp(argv[3], "send") == 0;
    double seconds = fut_client_number(argv[4], "fut-bulk: seconds", 3600);
    double warm_s = argc == 6 ? fut_client_number(argv[5], "fut-bulk: warm-up seconds", 3600) : 0.5;
    int fd = fut_client_connect(argv[1], argv[2]);

    fill_chunk();
    uint64_t moved = 0, from = 0;
    uint64_t warm_ns = fut_now_ns() + (uint64_t)(warm_s * FUT_NS_PER_S), now_ns;
    while ((now_ns = fut_now_ns()) < warm_ns) {
        moved += move_some(fd, send_it);
    }
    from = moved - still_here(fd, send_it);
    uint64_t began_ns = now_ns, end_ns = began_ns + (uint64_t)(seconds * FUT_NS_PER_S);
    while ((now_ns = fut_now_ns()) < end_ns) {
        moved += move_some(fd, send_it);
    }
    double mbits = (double)(moved - still_here(fd, send_it) - from) * 8 / 1e6;
    printf("{\"seconds\": %.3f, \"mbit_s\": %.1f}\n", seconds,
           mbits / ((double)(now_ns - began_ns) / FUT_NS_PER_S));
    return EXIT_SUCCESS;
}
