/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The test guest's disk service, port 7005, lines; offsets and lengths are multiples of 512 bytes:
 *
 *   WRITE <dev> <offset> <length> <seed>    a pattern that depends on place and seed; answered when the disk has it
 *   CHURN <dev> <offset> <length> <seed>    the same, 4 KiB at a time, each flushed: one request after the other
 *   VERIFY <dev> <offset> <length> <seed>   is it there? "ERR <offset>" names the first wrong place
 *   ZERO <dev> <offset> <length>            write-zeroes
 *   TRIM <dev> <offset> <length>            discard
 *   FLUSH <dev>
 *   SIZE <dev>                              "OK <bytes>"
 *
 * Past the page cache, one command at a time on each connection. Answers: "OK" or "ERR <reason>".
 */
#include "guest_disk.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define PIECE_BYTES (1 << 20)
#define SMALL_PIECE_BYTES 4096
#define DISKS_MAX 8

typedef struct {
    char name[32];
    int fd;
} Disk;

typedef struct {
    Disk disk[DISKS_MAX];
    uint8_t *piece;
    char answer[128];
} Session;

typedef struct {
    char verb[16], name[32];
    uint64_t offset, length, seed;
    int words;
} Command;

static uint64_t pattern(uint64_t at, uint64_t seed)
{
    uint64_t x =
        (at + 1) * UINT64_C(0x9e3779b97f4a7c15) ^ (seed + 1) * UINT64_C(0xbf58476d1ce4e5b9);

    return x ^ (x >> 29);
}

static int open_disk(Session *session, const char *name)
{
    char path[64];

    for (Disk *disk = session->disk; disk < session->disk + DISKS_MAX; disk++) {
        if (strcmp(disk->name, name) == 0) {
            return disk->fd;
        }
        if (!disk->name[0]) {
            snprintf(path, sizeof(path), "/dev/%s", name);
            disk->fd = open(path, O_RDWR | O_DIRECT);
            if (disk->fd >= 0) {
                snprintf(disk->name, sizeof(disk->name), "%s", name);
            }
            return disk->fd;
        }
    }
    errno = EMFILE;
    return -1;
}

static void fail(Session *session)
{
    snprintf(session->answer, sizeof(session->answer), "ERR %s", strerror(errno));
}

static bool transfer(int fd, bool writing, uint8_t *data, size_t length, uint64_t offset)
{
    ssize_t done =
        writing ? pwrite(fd, data, length, (off_t)offset) : pread(fd, data, length, (off_t)offset);

    if (done >= 0 && (size_t)done != length) {
        errno = EIO;
    }
    return done == (ssize_t)length;
}

static void do_write(Session *session, int fd, const Command *command, size_t piece)
{
    for (uint64_t done = 0; done < command->length;) {
        size_t size = command->length - done < piece ? command->length - done : piece;
        uint64_t offset = command->offset + done;

        for (size_t i = 0; i < size / 8; i++) {
            ((uint64_t *)session->piece)[i] = pattern(offset + i * 8, command->seed);
        }
        if (!transfer(fd, true, session->piece, size, offset) ||
            (piece == SMALL_PIECE_BYTES && fdatasync(fd) < 0)) {
            fail(session);
            return;
        }
        done += size;
    }
}

static void do_verify(Session *session, int fd, const Command *command)
{
    for (uint64_t done = 0; done < command->length;) {
        size_t size = command->length - done < PIECE_BYTES ? command->length - done : PIECE_BYTES;
        uint64_t offset = command->offset + done;

        if (!transfer(fd, false, session->piece, size, offset)) {
            fail(session);
            return;
        }
        for (size_t i = 0; i < size / 8; i++) {
            if (((uint64_t *)session->piece)[i] != pattern(offset + i * 8, command->seed)) {
                snprintf(session->answer, sizeof(session->answer), "ERR %" PRIu64, offset + i * 8);
                return;
            }
        }
        done += size;
    }
}

static void do_range(Session *session, int fd, const Command *command, unsigned long request)
{
    uint64_t range[2] = { command->offset, command->length };

    if (ioctl(fd, request, range) < 0) {
        fail(session);
    }
}

static void do_size(Session *session, int fd)
{
    uint64_t bytes;

    if (ioctl(fd, BLKGETSIZE64, &bytes) < 0) {
        fail(session);
    } else {
        snprintf(session->answer, sizeof(session->answer), "OK %" PRIu64, bytes);
    }
}

static void obey(Session *session, const Command *command)
{
    int fd = open_disk(session, command->name);

    strcpy(session->answer, "OK");
    if (fd < 0) {
        fail(session);
    } else if (strcmp(command->verb, "WRITE") == 0 && command->words == 5) {
        do_write(session, fd, command, PIECE_BYTES);
    } else if (strcmp(command->verb, "CHURN") == 0 && command->words == 5) {
        do_write(session, fd, command, SMALL_PIECE_BYTES);
    } else if (strcmp(command->verb, "VERIFY") == 0 && command->words == 5) {
        do_verify(session, fd, command);
    } else if (strcmp(command->verb, "ZERO") == 0 && command->words == 4) {
        do_range(session, fd, command, BLKZEROOUT);
    } else if (strcmp(command->verb, "TRIM") == 0 && command->words == 4) {
        do_range(session, fd, command, BLKDISCARD);
    } else if (strcmp(command->verb, "SIZE") == 0) {
        do_size(session, fd);
    } else if (strcmp(command->verb, "FLUSH") != 0) {
        strcpy(session->answer, "ERR unknown command");
    } else if (fsync(fd) < 0) {
        fail(session);
    }
}

static void session_end(Session *session)
{
    for (Disk *disk = session->disk; disk < session->disk + DISKS_MAX; disk++) {
        if (disk->name[0]) {
            close(disk->fd);
        }
    }
    free(session->piece);
}

void serve_disk(int fd)
{
    Session session = { .piece = aligned_alloc(4096, PIECE_BYTES) };
    FILE *in = session.piece ? fdopen(dup(fd), "r") : NULL;
    char line[160];

    while (in && fgets(line, sizeof(line), in)) {
        Command command = { 0 };
        command.words = sscanf(line, "%15s %31s %" SCNu64 " %" SCNu64 " %" SCNu64, command.verb,
                               command.name, &command.offset, &command.length, &command.seed);
        obey(&session, &command);
        if (dprintf(fd, "%s\n", session.answer) < 0) {
            break;
        }
    }
    if (in) {
        fclose(in);
    }
    session_end(&session);
}
