/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The test guest's other devices, port 7007, lines:
 *
 *   TIME    "OK <system time, s> <RTC, s> <monotonic, ms>", both since 1970
 *   CLOCKS  "OK <realtime> <realtime, asked of the kernel> <realtime, coarse> <TAI> <monotonic> <boottime> <frequency>", ns, and what
 *           ADJUST has set
 *   ADJUST <frequency>  as an NTP daemon does it: units of adjtimex(2); TAI is 37 s ahead from then on
 *   WAKE <s>            a thread sleeps until that second since 1970
 *   WOKEN   "OK <realtime, ns>" when it woke up; 0 until then
 *   RANDOM  "OK <32 hexadecimal digits>" from the machine's random number device
 *
 * And its consoles: a line typed on one is answered with "heard <line>" on the same.
 */
#include "guest_devices.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/rtc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/timex.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define RANDOM_BYTES 16

static int read_rtc(time_t *ret)
{
    struct rtc_time now = { 0 };
    int fd = open("/dev/rtc0", O_RDONLY);
    int failed = fd < 0 || ioctl(fd, RTC_RD_TIME, &now) < 0;

    if (!failed) {
        struct tm broken = { .tm_sec = now.tm_sec,
                             .tm_min = now.tm_min,
                             .tm_hour = now.tm_hour,
                             .tm_mday = now.tm_mday,
                             .tm_mon = now.tm_mon,
                             .tm_year = now.tm_year };
        *ret = timegm(&broken);
    }
    if (fd >= 0) {
        close(fd);
    }
    return failed ? -1 : 0;
}

static void tell_time(int fd)
{
    struct timespec monotonic;
    time_t rtc;

    if (read_rtc(&rtc) < 0) {
        dprintf(fd, "ERR RTC: %s\n", strerror(errno));
        return;
    }
    clock_gettime(CLOCK_MONOTONIC, &monotonic);
    dprintf(fd, "OK %lld %lld %lld\n", (long long)time(NULL), (long long)rtc,
            (long long)monotonic.tv_sec * 1000 + monotonic.tv_nsec / 1000000);
}

static long long in_ns(const struct timespec *time)
{
    return time->tv_sec * 1000000000LL + time->tv_nsec;
}

static long long clock_ns(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now);
    return in_ns(&now);
}

/* Past what programs read without the kernel. */
static long long asked_ns(clockid_t clock)
{
    struct timespec now;

    syscall(SYS_clock_gettime, clock, &now);
    return in_ns(&now);
}

static void tell_clocks(int fd)
{
    struct timex state = { 0 };

    adjtimex(&state);
    long long realtime = clock_ns(CLOCK_REALTIME), asked = asked_ns(CLOCK_REALTIME);
    long long coarse = clock_ns(CLOCK_REALTIME_COARSE), tai = clock_ns(CLOCK_TAI);
    long long monotonic = clock_ns(CLOCK_MONOTONIC), boottime = clock_ns(CLOCK_BOOTTIME);
    dprintf(fd, "OK %lld %lld %lld %lld %lld %lld %ld\n", realtime, asked, coarse, tai, monotonic,
            boottime, state.freq);
}

static void adjust(int fd, long frequency)
{
    struct timex state = { .modes = ADJ_FREQUENCY, .freq = frequency };
    struct timex tai = { .modes = ADJ_TAI, .constant = 37 };

    if (adjtimex(&state) < 0 || adjtimex(&tai) < 0) {
        dprintf(fd, "ERR adjtimex: %s\n", strerror(errno));
    } else {
        dprintf(fd, "OK\n");
    }
}

static _Atomic long long wake_s, woken_ns;

static void *wake_thread(void *opaque)
{
    const _Atomic long long *second = opaque;
    struct timespec until = { .tv_sec = *second };

    while (clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &until, NULL) != 0) {
    }
    woken_ns = clock_ns(CLOCK_REALTIME);
    return NULL;
}

static void wake(int fd, long long second)
{
    pthread_t thread;

    wake_s = second;
    woken_ns = 0;
    if (pthread_create(&thread, NULL, wake_thread, &wake_s) == 0) {
        pthread_detach(thread);
        dprintf(fd, "OK\n");
    } else {
        dprintf(fd, "ERR no thread\n");
    }
}

static void tell_random(int fd)
{
    uint8_t bytes[RANDOM_BYTES];
    char text[2 * RANDOM_BYTES + 1];
    int device = open("/dev/hwrng", O_RDONLY);
    ssize_t got = device < 0 ? -1 : read(device, bytes, sizeof(bytes));

    if (got != (ssize_t)sizeof(bytes)) {
        dprintf(fd, "ERR random numbers: %s\n", got < 0 ? strerror(errno) : "too few");
    } else {
        for (size_t i = 0; i < sizeof(bytes); i++) {
            sprintf(text + 2 * i, "%02x", bytes[i]);
        }
        dprintf(fd, "OK %s\n", text);
    }
    if (device >= 0) {
        close(device);
    }
}

void serve_devices(int fd)
{
    char line[64];
    long long number;
    FILE *in = fdopen(dup(fd), "r");

    while (in && fgets(line, sizeof(line), in)) {
        if (strcmp(line, "TIME\n") == 0) {
            tell_time(fd);
        } else if (strcmp(line, "RANDOM\n") == 0) {
            tell_random(fd);
        } else if (strcmp(line, "CLOCKS\n") == 0) {
            tell_clocks(fd);
        } else if (sscanf(line, "ADJUST %lld", &number) == 1) {
            adjust(fd, (long)number);
        } else if (sscanf(line, "WAKE %lld", &number) == 1) {
            wake(fd, number);
        } else if (strcmp(line, "WOKEN\n") == 0) {
            dprintf(fd, "OK %lld\n", woken_ns);
        } else {
            dprintf(fd, "ERR expected TIME, CLOCKS, ADJUST, WAKE, WOKEN or RANDOM\n");
        }
    }
    if (in) {
        fclose(in);
    }
}

void *console_thread(void *path)
{
    char line[128];
    struct termios mode;
    int fd = open(path, O_RDWR | O_NOCTTY);
    FILE *in = fd >= 0 ? fdopen(fd, "r") : NULL;

    if (!in) {
        return NULL; /* this machine has no such console */
    }
    if (tcgetattr(fd, &mode) == 0) {
        mode.c_lflag &= (tcflag_t)~ECHO;
        tcsetattr(fd, TCSANOW, &mode);
    }
    for (;;) {
        if (fgets(line, sizeof(line), in)) {
            dprintf(fd, "heard %s", line);
            continue;
        }
        clearerr(in); /* nobody is at the other end: somebody may come */
        nanosleep(&(struct timespec){ .tv_nsec = 100000000 }, NULL);
    }
}
