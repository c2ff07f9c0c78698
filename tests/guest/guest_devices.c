/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The test guest's other devices, port 7007, lines:
 *
 *   TIME    "OK <system time, s> <RTC, s> <monotonic, ms>", both since 1970
 *   RANDOM  "OK <32 hexadecimal digits>" from the machine's random number device
 *
 * And its consoles: a line typed on one is answered with "heard <line>" on the same.
 */
#include "guest_devices.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/rtc.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
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
    FILE *in = fdopen(dup(fd), "r");

    while (in && fgets(line, sizeof(line), in)) {
        if (strcmp(line, "TIME\n") == 0) {
            tell_time(fd);
        } else if (strcmp(line, "RANDOM\n") == 0) {
            tell_random(fd);
        } else {
            dprintf(fd, "ERR expected TIME or RANDOM\n");
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
