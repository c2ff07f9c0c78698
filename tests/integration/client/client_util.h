/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the load clients share: sockets that speak to a guest, and numbers from the command line. */
#ifndef FUT_CLIENT_UTIL_H
#define FUT_CLIENT_UTIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Connects without Nagle's delay. On failure prints one line and ends the program with status 1. */
int fut_client_connect(const char *address, const char *port);
/* A positive number from the command line; anything else ends the program with status 2. */
double fut_client_number(const char *text, const char *what, double max);
/* All bytes, or false (errno tells; 0 when the peer closed). */
bool fut_client_read(int fd, void *data, size_t length);
bool fut_client_write(int fd, const void *data, size_t length);
/* CLOCK_MONOTONIC in seconds, the clock of Python's time.monotonic(). */
double fut_client_now_s(void);

#endif
