/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The only program of the test guest: small TCP services that make the work which tests, demo and
 * benchmarks judge. Statically linked, one thread a connection, no state on disk. All numbers are
 * little-endian.
 *
 *   7000  echo: every byte comes back
 *   7001  counter: the client sends u64 n, which must be the connection's last number plus one; the
 *         answer is two u64: n (or all ones if it was out of sequence) and the number of counts
 *         taken over all connections
 *   7002  sink: reads and forgets
 *   7003  source: writes as fast as it is read, bytes that do not compress
 *   7004  memory writer, lines: "DIRTY <mb> <mb_per_s>" writes over a buffer of that size at that
 *         rate (0: no limit), "STOP" ends it; "POWEROFF" ends the guest; "SPIN <rounds>" computes
 *         over 256 KiB that many times; each line is answered with "OK" or "ERR <reason>" when done
 *   7005  disks, lines: see guest_disk.c
 *   7006  work for several vCPUs, lines: see guest_smp.c
 *   7007  clock and random numbers, lines: see guest_devices.c; and the consoles
 *   7008  processes that die, lines: see guest_crash.c
 */
#include <endian.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "guest_crash.h"
#include "guest_devices.h"
#include "guest_disk.h"
#include "guest_smp.h"

#define PAGE_BYTES 4096
#define PAGES_PER_MB ((1 << 20) / PAGE_BYTES)
#define CHUNK_BYTES 65536
#define THREAD_STACK_BYTES 131072
#define DIRTY_MAX_MB 65536
#define SPIN_WORDS (1 << 15)

typedef struct {
    uint16_t port;
    void (*serve)(int fd);
} Service;

typedef struct {
    const Service *service;
    int fd;
} Connection;

static atomic_uint_fast64_t counts_taken;
static atomic_uint_fast64_t spun; /* the result of computing, or the compiler would leave it out */

/*
 * The memory writer. The lock covers all of it; the writer thread holds it while it writes one
 * slice.
 */
static pthread_mutex_t dirty_lock = PTHREAD_MUTEX_INITIALIZER;
static uint8_t *dirty_memory;
static size_t dirty_pages;
static size_t dirty_next;
static uint64_t dirty_rate_mb;
static uint64_t dirty_value;

static bool read_all(int fd, void *data, size_t size)
{
    for (size_t done = 0; done < size;) {
        ssize_t got = read(fd, (char *)data + done, size - done);
        if (got <= 0) {
            return false;
        }
        done += (size_t)got;
    }
    return true;
}

static bool write_all(int fd, const void *data, size_t size)
{
    for (size_t done = 0; done < size;) {
        ssize_t put = write(fd, (const char *)data + done, size - done);
        if (put <= 0) {
            return false;
        }
        done += (size_t)put;
    }
    return true;
}

static void serve_echo(int fd)
{
    char data[CHUNK_BYTES / 2];
    ssize_t got;

    while ((got = read(fd, data, sizeof(data))) > 0) {
        if (!write_all(fd, data, (size_t)got)) {
            return;
        }
    }
}

static void serve_counter(int fd)
{
    uint64_t last = 0, asked;

    while (read_all(fd, &asked, sizeof(asked))) {
        bool in_sequence = le64toh(asked) == last + 1;
        uint64_t answer[2];

        if (in_sequence) {
            last++;
            atomic_fetch_add(&counts_taken, 1);
        }
        answer[0] = in_sequence ? asked : UINT64_MAX;
        answer[1] = htole64(atomic_load(&counts_taken));
        if (!write_all(fd, answer, sizeof(answer))) {
            return;
        }
    }
}

static void serve_sink(int fd)
{
    char data[CHUNK_BYTES / 2];

    while (read(fd, data, sizeof(data)) > 0) {
    }
}

static void serve_source(int fd)
{
    uint64_t *data = malloc(CHUNK_BYTES), value = 1;

    for (size_t i = 0; data && i < CHUNK_BYTES / sizeof(*data); i++) {
        value = value * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        data[i] = value ^ value >> 29;
    }
    while (data && write_all(fd, data, CHUNK_BYTES)) {
    }
    free(data);
}

static void write_page(uint8_t *page)
{
    uint64_t *word = (uint64_t *)page;

    for (size_t i = 0; i < PAGE_BYTES / sizeof(*word); i++) {
        word[i] = ++dirty_value * UINT64_C(0x9e3779b97f4a7c15);
    }
}

/* One slice of the writer's work: what its rate allows for a millisecond. The lock is held. */
static void write_slice(double *credit_pages)
{
    *credit_pages += dirty_rate_mb ? dirty_rate_mb * PAGES_PER_MB / 1000.0 : PAGES_PER_MB;
    while (dirty_pages && *credit_pages >= 1) {
        write_page(dirty_memory + dirty_next * PAGE_BYTES);
        dirty_next = (dirty_next + 1) % dirty_pages;
        *credit_pages -= 1;
    }
}

static void *writer_thread(void *unused)
{
    double credit_pages = 0;

    (void)unused;
    for (;;) {
        pthread_mutex_lock(&dirty_lock);
        bool pause = !dirty_pages || dirty_rate_mb;
        write_slice(&credit_pages);
        credit_pages = dirty_pages ? credit_pages : 0;
        pthread_mutex_unlock(&dirty_lock);
        if (pause) {
            nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
        }
    }
    return NULL;
}

/* Takes the buffer to @mb megabytes (0: none). NULL if that was possible, else the reason. */
static const char *set_writer(size_t mb, uint64_t rate_mb)
{
    const char *reason = NULL;

    pthread_mutex_lock(&dirty_lock);
    if (mb * PAGES_PER_MB != dirty_pages) {
        free(dirty_memory);
        dirty_memory = mb ? aligned_alloc(PAGE_BYTES, mb << 20) : NULL;
        reason = mb && !dirty_memory ? "no memory" : NULL;
        dirty_pages = dirty_memory ? mb * PAGES_PER_MB : 0;
        dirty_next = 0;
    }
    dirty_rate_mb = rate_mb;
    pthread_mutex_unlock(&dirty_lock);
    return reason;
}

/* A fixed amount of computing that stays within a processor's cache, and writes what it computes. */
static const char *spin(unsigned long rounds)
{
    uint64_t *words = calloc(SPIN_WORDS, sizeof(*words)), value = 1;

    if (!words) {
        return "no memory";
    }
    for (unsigned long round = 0; round < rounds; round++) {
        for (size_t i = 0; i < SPIN_WORDS; i++) {
            value = (value ^ words[i]) * UINT64_C(0x9e3779b97f4a7c15) + i;
            words[i] = value;
        }
    }
    atomic_store(&spun, value);
    free(words);
    return NULL;
}

static const char *obey(const char *line)
{
    unsigned long mb, rate_mb, rounds;

    if (strcmp(line, "STOP\n") == 0) {
        return set_writer(0, 0);
    }
    if (strcmp(line, "POWEROFF\n") == 0) {
        exit(EXIT_SUCCESS); /* init does the rest */
    }
    if (sscanf(line, "SPIN %lu", &rounds) == 1) {
        return spin(rounds);
    }
    if (sscanf(line, "DIRTY %lu %lu", &mb, &rate_mb) != 2 || mb > DIRTY_MAX_MB) {
        return "expected DIRTY <mb> <mb_per_s>, SPIN <rounds> or STOP";
    }
    return set_writer(mb, rate_mb);
}

static void serve_writer(int fd)
{
    char line[128];
    FILE *in = fdopen(dup(fd), "r");

    while (in && fgets(line, sizeof(line), in)) {
        const char *reason = obey(line);
        if (dprintf(fd, reason ? "ERR %s\n" : "OK\n", reason) < 0) {
            break;
        }
    }
    if (in) {
        fclose(in);
    }
}

static void start_thread(void *(*run)(void *), void *argument)
{
    pthread_attr_t attributes;
    pthread_t thread;

    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, THREAD_STACK_BYTES);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    if (pthread_create(&thread, &attributes, run, argument) != 0) {
        fprintf(stderr, "guestd: cannot start a thread\n");
        exit(EXIT_FAILURE);
    }
    pthread_attr_destroy(&attributes);
}

static void *connection_thread(void *argument)
{
    Connection *connection = argument;

    connection->service->serve(connection->fd);
    close(connection->fd);
    free(connection);
    return NULL;
}

static int listen_on(uint16_t port)
{
    /* Over IPv4, too. */
    int fd = socket(AF_INET6, SOCK_STREAM, 0), on = 1;
    struct sockaddr_in6 address = { .sin6_family = AF_INET6, .sin6_port = htons(port) };

    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
        listen(fd, 128) < 0) {
        fprintf(stderr, "guestd: port %u: %s\n", port, strerror(errno));
        exit(EXIT_FAILURE);
    }
    return fd;
}

/* Accepts for one service, forever; argument is a Connection whose socket is the listening one. */
static void *listener_thread(void *argument)
{
    const Connection *listener = argument;
    int on = 1;

    for (;;) {
        int fd = accept(listener->fd, NULL, NULL);
        Connection *connection = fd >= 0 ? malloc(sizeof(*connection)) : NULL;
        if (!connection) {
            continue;
        }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        *connection = (Connection){ .service = listener->service, .fd = fd };
        start_thread(connection_thread, connection);
    }
    return NULL;
}

int main(void)
{
    static const Service services[] = {
        { 7000, serve_echo },   { 7001, serve_counter }, { 7002, serve_sink },
        { 7003, serve_source }, { 7004, serve_writer },  { 7005, serve_disk },
        { 7006, serve_smp },    { 7007, serve_devices }, { 7008, serve_crash },
    };
    static char *const consoles[] = { "/dev/ttyS0", "/dev/hvc0" };
    static Connection listeners[sizeof(services) / sizeof(services[0])];

    signal(SIGPIPE, SIG_IGN);
    start_thread(writer_thread, NULL);
    for (size_t i = 0; i < sizeof(services) / sizeof(services[0]); i++) {
        listeners[i] = (Connection){ .service = &services[i], .fd = listen_on(services[i].port) };
        start_thread(listener_thread, &listeners[i]);
    }
    for (size_t i = 0; i < sizeof(consoles) / sizeof(consoles[0]); i++) {
        start_thread(console_thread, consoles[i]);
    }
    printf("GUEST-READY\n");
    fflush(stdout);
    for (;;) {
        pause();
    }
}
