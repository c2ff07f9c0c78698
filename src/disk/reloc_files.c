/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "reloc_files.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fut_error.h"

#define ZERO_CHUNK (1u << 20)

static int fd_of(const FutRelocIo *io, FutRelocFile file)
{
    const FutRelocFiles *files = (const FutRelocFiles *)io;
    return file == FUT_RELOC_CACHE ? files->cache_fd : files->bitmap_fd;
}

static int file_read(FutRelocIo *io, FutRelocFile file, void *buf, size_t length, uint64_t offset)
{
    int fd = fd_of(io, file);

    while (length > 0) {
        ssize_t got = pread(fd, buf, length, (off_t)offset);
        if (got < 0 && errno != EINTR) {
            return errno;
        }
        if (got == 0) {
            memset(buf, 0, length);
            return file == FUT_RELOC_BITMAP ? 0 : EIO; /* the cache has become shorter */
        }
        got = MAX(got, 0);
        buf = (uint8_t *)buf + got;
        offset += (uint64_t)got;
        length -= (size_t)got;
    }
    return 0;
}

static int file_write(FutRelocIo *io, FutRelocFile file, const void *buf, size_t length,
                      uint64_t offset)
{
    int fd = fd_of(io, file);

    while (length > 0) {
        ssize_t put = pwrite(fd, buf, length, (off_t)offset);
        if (put < 0 && errno != EINTR) {
            return errno;
        }
        put = MAX(put, 0);
        buf = (const uint8_t *)buf + put;
        offset += (uint64_t)put;
        length -= (size_t)put;
    }
    return 0;
}

static int write_zeroes(FutRelocIo *io, uint64_t offset, uint64_t length)
{
    static const uint8_t zeroes[ZERO_CHUNK];
    int error = 0;

    for (; length > 0 && error == 0; length -= MIN(length, ZERO_CHUNK), offset += ZERO_CHUNK) {
        error = file_write(io, FUT_RELOC_CACHE, zeroes, MIN(length, ZERO_CHUNK), offset);
    }
    return error;
}

static int file_zero(FutRelocIo *io, uint64_t offset, uint64_t length, bool trim)
{
    int fd = fd_of(io, FUT_RELOC_CACHE);
    int first = FALLOC_FL_KEEP_SIZE | (trim ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE);
    int second = FALLOC_FL_KEEP_SIZE | (trim ? FALLOC_FL_ZERO_RANGE : FALLOC_FL_PUNCH_HOLE);

    if (fallocate(fd, first, (off_t)offset, (off_t)length) == 0 ||
        fallocate(fd, second, (off_t)offset, (off_t)length) == 0) {
        return 0;
    }
    return write_zeroes(io, offset, length);
}

static int file_sync(FutRelocIo *io, FutRelocFile file)
{
    return fdatasync(fd_of(io, file)) == 0 ? 0 : errno;
}

static int file_extent(FutRelocIo *io, uint64_t offset, uint64_t length, uint64_t *ret_length,
                       bool *ret_hole)
{
    int fd = fd_of(io, FUT_RELOC_CACHE);
    off_t data = lseek(fd, (off_t)offset, SEEK_DATA);
    off_t end;

    *ret_hole = false;
    *ret_length = length;
    if (data < 0 && errno != ENXIO) {
        return 0; /* a device, say: all of it is data */
    }
    *ret_hole = data != (off_t)offset;
    if (*ret_hole) {
        end = data < 0 ? (off_t)(offset + length) : data;
    } else {
        end = lseek(fd, (off_t)offset, SEEK_HOLE);
    }
    if (end > (off_t)offset) {
        *ret_length = MIN(length, (uint64_t)end - offset);
    }
    return 0;
}

static const FutRelocIoOps file_ops = {
    .read = file_read,
    .write = file_write,
    .zero = file_zero,
    .sync = file_sync,
    .extent = file_extent,
};

/* -- opening -- */

static bool fail(const char *what, const char *path, const char *remedy, GError **error)
{
    int code = errno;

    g_set_error(error, FUT_ERROR, FUT_ERR_IO, "%s %s: %s%s", what, path, g_strerror(code), remedy);
    return false;
}

static bool fail_busy(const char *path, GError **error)
{
    g_set_error(error, FUT_ERROR, FUT_ERR_BUSY,
                "%s is in use by another process, or mounted: one server a cache", path);
    return false;
}

/* A device may have several names, each with locks of its own: O_EXCL is about the device, and heeds mounts. */
static int open_locked(const char *path, int flags, GError **error)
{
    struct stat status;
    bool device = stat(path, &status) == 0 && S_ISBLK(status.st_mode);
    int fd = open(path, O_RDWR | O_CLOEXEC | (device ? O_EXCL : flags), 0600);

    if (fd < 0 && device && errno == EBUSY) {
        fail_busy(path, error);
        return -1;
    }
    if (fd < 0) {
        fail("cannot open", path,
             errno == EROFS || errno == EACCES || errno == EPERM ? ": it must be writable" : "",
             error);
        return -1;
    }
    if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        fail_busy(path, error);
        close(fd);
        return -1;
    }
    return fd;
}

/* A regular file is told apart by its inode, a device by its number. */
static bool look_at_cache(FutRelocFiles *files, const char *path, GError **error)
{
    struct stat status;

    if (fstat(files->cache_fd, &status) < 0) {
        return fail("cannot look at", path, "", error);
    }
    if (S_ISREG(status.st_mode)) {
        files->cache_size = (uint64_t)status.st_size;
        files->cache_id[0] = 1;
        files->cache_id[1] = status.st_ino;
        files->cache_used = status.st_blocks > 0;
        return true;
    }
    if (S_ISBLK(status.st_mode)) {
        files->cache_id[0] = 2;
        files->cache_id[1] = status.st_rdev;
        files->cache_used = true;
        return ioctl(files->cache_fd, BLKGETSIZE64, &files->cache_size) == 0 ||
               fail("cannot tell the size of", path, "", error);
    }
    g_set_error(error, FUT_ERROR, FUT_ERR_ARG,
                "%s is neither a regular file nor a block device: give one of these", path);
    return false;
}

bool fut_reloc_files_open(FutRelocFiles *files, const char *cache, const char *bitmap,
                          GError **error)
{
    memset(files, 0, sizeof(*files));
    files->io.ops = &file_ops;
    files->bitmap_fd = -1;
    files->cache_fd = open_locked(cache, bitmap ? O_CREAT : 0, error);
    bool good = files->cache_fd >= 0 && look_at_cache(files, cache, error);
    if (good && bitmap) {
        files->bitmap_fd = open_locked(bitmap, O_CREAT, error);
        good = files->bitmap_fd >= 0;
    }
    if (!good) {
        fut_reloc_files_close(files);
    }
    return good;
}

bool fut_reloc_files_reset(FutRelocFiles *files, GError **error)
{
    return ftruncate(files->bitmap_fd, 0) == 0 || fail("cannot empty", "the bitmap", "", error);
}

bool fut_reloc_files_prepare(FutRelocFiles *files, uint64_t size, GError **error)
{
    uint64_t room = fut_bitmap_file_length(size);
    int code = 0;

    if (files->cache_size == 0) {
        if (ftruncate(files->cache_fd, (off_t)size) < 0) {
            return fail("cannot make", "the cache as large as the source", "", error);
        }
        files->cache_size = size;
    }
    if (files->cache_size != size) {
        g_set_error(error, FUT_ERROR, FUT_ERR_MISMATCH,
                    "the cache has %" G_GUINT64_FORMAT " bytes, the source %" G_GUINT64_FORMAT
                    ": they must be alike",
                    files->cache_size, size);
        return false;
    }
    /* All its room now: later, a full disk must not keep what is here from being written down. */
    code = posix_fallocate(files->bitmap_fd, 0, (off_t)room);
    if (code || fsync(files->bitmap_fd) < 0) {
        errno = code ? code : errno;
        return fail("cannot make room for", "the bitmap", "", error);
    }
    return true;
}

void fut_reloc_files_close(FutRelocFiles *files)
{
    if (files->cache_fd >= 0) {
        close(files->cache_fd);
    }
    if (files->bitmap_fd >= 0) {
        close(files->bitmap_fd);
    }
    files->cache_fd = files->bitmap_fd = -1;
}

/* -- boot -- */

void fut_reloc_boot_id(uint8_t ret[FUT_BOOT_ID_SIZE])
{
    g_autofree char *text = NULL;
    unsigned nibbles = 0;

    memset(ret, 0, FUT_BOOT_ID_SIZE);
    if (g_file_get_contents("/proc/sys/kernel/random/boot_id", &text, NULL, NULL)) {
        for (const char *at = text; *at && nibbles < 2 * FUT_BOOT_ID_SIZE; at++) {
            if (g_ascii_isxdigit(*at)) {
                ret[nibbles / 2] = (uint8_t)(ret[nibbles / 2] << 4 | g_ascii_xdigit_value(*at));
                nibbles++;
            }
        }
    }
    if (nibbles != 2 * FUT_BOOT_ID_SIZE) {
        g_assert(getrandom(ret, FUT_BOOT_ID_SIZE, 0) == FUT_BOOT_ID_SIZE);
    }
}
