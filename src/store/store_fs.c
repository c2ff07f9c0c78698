/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "store_fs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "fut_error.h"
#include "store_format.h"

typedef struct {
    FutStoreFs fs;
    int folder, lock;
} RealFs;

static int folder_of(const FutStoreFs *fs)
{
    return ((const RealFs *)fs)->folder;
}

static int real_open(FutStoreFs *fs, const char *name, int *ret_file)
{
    int fd = openat(folder_of(fs), name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    struct stat status;

    if (fd < 0) {
        return errno;
    }
    if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) {
        close(fd);
        return EINVAL;
    }
    *ret_file = fd;
    return 0;
}

static int real_create(FutStoreFs *fs, const char *name, int *ret_file)
{
    int fd = openat(folder_of(fs), name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);

    if (fd < 0) {
        return errno;
    }
    *ret_file = fd;
    return 0;
}

static void real_close(FutStoreFs *fs, int file)
{
    close(file);
}

static int real_size(FutStoreFs *fs, int file, uint64_t *ret)
{
    struct stat status;

    if (fstat(file, &status) != 0) {
        return errno;
    }
    *ret = (uint64_t)status.st_size;
    return 0;
}

static int real_read(FutStoreFs *fs, int file, void *data, size_t length, uint64_t offset)
{
    uint8_t *at = data;

    while (length > 0) {
        ssize_t got = pread(file, at, length, (off_t)offset);
        if (got < 0 && errno != EINTR) {
            return errno;
        }
        if (got == 0) {
            return ENODATA;
        }
        got = MAX(got, 0);
        at += got;
        offset += (uint64_t)got;
        length -= (size_t)got;
    }
    return 0;
}

static int real_write(FutStoreFs *fs, int file, const void *data, size_t length, uint64_t offset)
{
    const uint8_t *at = data;

    while (length > 0) {
        ssize_t put = pwrite(file, at, length, (off_t)offset);
        if (put < 0 && errno != EINTR) {
            return errno;
        }
        put = MAX(put, 0);
        at += put;
        offset += (uint64_t)put;
        length -= (size_t)put;
    }
    return 0;
}

static int real_sync(FutStoreFs *fs, int file)
{
    return fdatasync(file) == 0 ? 0 : errno;
}

static int real_sync_folder(FutStoreFs *fs)
{
    return fsync(folder_of(fs)) == 0 ? 0 : errno;
}

static int real_rename(FutStoreFs *fs, const char *from, const char *to)
{
    return renameat(folder_of(fs), from, folder_of(fs), to) == 0 ? 0 : errno;
}

static int real_remove(FutStoreFs *fs, const char *name)
{
    return unlinkat(folder_of(fs), name, 0) == 0 ? 0 : errno;
}

static int real_list(FutStoreFs *fs, GPtrArray *names)
{
    int fd = openat(folder_of(fs), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *entry;

    if (!dir) {
        int code = errno;
        if (fd >= 0) {
            close(fd);
        }
        return code;
    }
    errno = 0;
    while ((entry = readdir(dir))) {
        if (entry->d_name[0] != '.') {
            g_ptr_array_add(names, g_strdup(entry->d_name));
        }
        errno = 0;
    }
    int code = errno;
    closedir(dir);
    return code;
}

static int real_free_bytes(FutStoreFs *fs, uint64_t *ret)
{
    struct statvfs status;

    if (fstatvfs(folder_of(fs), &status) != 0) {
        return errno;
    }
    *ret = (uint64_t)status.f_bavail * status.f_frsize;
    return 0;
}

static int real_lock(FutStoreFs *fs)
{
    RealFs *real = (RealFs *)fs;

    int fd = openat(real->folder, FUT_STORE_LOCK, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        return errno;
    }
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        int code = errno == EWOULDBLOCK ? EAGAIN : errno;
        close(fd);
        return code;
    }
    real->lock = fd;
    return 0;
}

static void real_unlock(FutStoreFs *fs)
{
    RealFs *real = (RealFs *)fs;

    if (real->lock >= 0) {
        close(real->lock);
        real->lock = -1;
    }
}

static void real_free(FutStoreFs *fs)
{
    real_unlock(fs);
    close(folder_of(fs));
    g_free(fs->path);
    g_free(fs);
}

static const FutStoreFsOps real_ops = {
    .open = real_open,
    .create = real_create,
    .close = real_close,
    .size = real_size,
    .read = real_read,
    .write = real_write,
    .sync = real_sync,
    .sync_folder = real_sync_folder,
    .rename = real_rename,
    .remove = real_remove,
    .list = real_list,
    .free_bytes = real_free_bytes,
    .lock = real_lock,
    .unlock = real_unlock,
    .free = real_free,
};

FutStoreFs *fut_store_fs_new(const char *path, bool create, GError **error)
{
    if (create && g_mkdir_with_parents(path, 0700) != 0) {
        g_set_error(error, FUT_ERROR, FUT_ERR_IO, "cannot make the folder %s: %s", path,
                    g_strerror(errno));
        return NULL;
    }
    int folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0) {
        g_set_error(error, FUT_ERROR, FUT_ERR_ARG, "store %s: %s", path, g_strerror(errno));
        return NULL;
    }
    RealFs *real = g_new0(RealFs, 1);
    real->fs.ops = &real_ops;
    real->fs.path = g_strdup(path);
    real->folder = folder;
    real->lock = -1;
    return &real->fs;
}

bool fut_store_fs_fail(const FutStoreFs *fs, const char *verb, const char *name, int code,
                       GError **error)
{
    const char *remedy = "";

    if (code == ENOSPC || code == EDQUOT) {
        remedy = ": make room, or prune the store";
    }
    g_set_error(error, FUT_ERROR, FUT_ERR_IO, "cannot %s %s/%s: %s%s", verb, fs->path, name,
                code == ENODATA ? "it ends too early" : g_strerror(code), remedy);
    return false;
}
