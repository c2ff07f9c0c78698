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

#include "early_flush.h"
#include "fut_error.h"
#include "store_format.h"

/* With so much more in a file it begins to be made durable: often enough that little is left, not so often that the disk has to stop for it. */
#define FLUSH_BYTES (3u << 20)

/* What a handle stands for. */
typedef struct {
    char *name;  /* owned; NULL: free */
    int fd;      /* -1: closed, and opened again when it is used */
    bool pinned; /* stays open: it is written to, or has its name no more */
    dev_t device;
    ino_t inode;
    uint64_t used;  /* when last */
    unsigned users; /* threads that are at it: it stays open */
} RealFile;

typedef struct {
    FutStoreFs fs;
    int folder, lock;
    GMutex mutex;            /* of what follows: readers of one snapshot are several threads */
    GArray *files;           /* RealFile, by handle */
    unsigned opened, closed; /* of these */
    uint64_t clock;
    FutEarlyFlush flush;  /* this and the next two: of who writes, who is one thread */
    int flushing;         /* whose; -1: nobody's */
    uint64_t flush_end;   /* up to there one was begun */
    bool shared, claimed; /* kinds of lock on the folder itself: shared while `closed` is not 0 */
} RealFs;

static int folder_of(const FutStoreFs *fs)
{
    return ((const RealFs *)fs)->folder;
}

static RealFile *nth(RealFs *real, int file)
{
    return &g_array_index(real->files, RealFile, (guint)file);
}

/* Nobody removes files, or gives their names to others, while one relies on names. */
static bool share_folder(RealFs *real)
{
    if (!real->shared && !real->claimed) {
        real->shared = flock(real->folder, LOCK_SH | LOCK_NB) == 0;
    }
    return real->shared || real->claimed;
}

static void unshare_folder(RealFs *real)
{
    if (real->shared && !real->claimed && real->closed == 0) {
        flock(real->folder, LOCK_UN);
        real->shared = false;
    }
}

/* Closes the file for a while. False: it has to stay open. */
static bool close_for_now(RealFs *real, RealFile *file)
{
    struct stat is;

    if (fstatat(real->folder, file->name, &is, AT_SYMLINK_NOFOLLOW) != 0 ||
        is.st_dev != file->device || is.st_ino != file->inode) {
        file->pinned = true;
        return false;
    }
    close(file->fd);
    file->fd = -1;
    real->opened--;
    real->closed++;
    return true;
}

static RealFile *longest_unused(RealFs *real)
{
    RealFile *found = NULL;

    for (guint i = 0; i < real->files->len; i++) {
        RealFile *file = nth(real, (int)i);
        if (file->name && file->fd >= 0 && !file->pinned && file->users == 0 &&
            (!found || file->used < found->used)) {
            found = file;
        }
    }
    return found;
}

/* While the names cannot be relied on more files are kept open. */
static void make_room(RealFs *real)
{
    RealFile *file;

    while (real->opened >= FUT_STORE_FILES_MAX && share_folder(real) &&
           (file = longest_unused(real))) {
        close_for_now(real, file);
    }
    unshare_folder(real);
}

static int add_file(RealFs *real, const char *name, int fd, const struct stat *status, bool pinned)
{
    guint at = 0;

    while (at < real->files->len && nth(real, (int)at)->name) {
        at++;
    }
    if (at == real->files->len) {
        g_array_set_size(real->files, at + 1);
    }
    *nth(real, (int)at) = (RealFile){ .name = g_strdup(name),
                                      .fd = fd,
                                      .pinned = pinned,
                                      .device = status->st_dev,
                                      .inode = status->st_ino,
                                      .used = ++real->clock };
    real->opened++;
    return (int)at;
}

static int open_named(const RealFs *real, const char *name, int *ret_fd, struct stat *status)
{
    int fd = openat(real->folder, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

    if (fd < 0) {
        return errno;
    }
    if (fstat(fd, status) != 0 || !S_ISREG(status->st_mode)) {
        close(fd);
        return EINVAL;
    }
    *ret_fd = fd;
    return 0;
}

/* Opens it again if it is closed. ESTALE: that name is another file's by now. */
static int open_again(RealFs *real, int handle)
{
    struct stat status;
    int fd;

    int code = open_named(real, nth(real, handle)->name, &fd, &status);
    if (code) {
        return code;
    }
    RealFile *file = nth(real, handle);
    if (status.st_dev != file->device || status.st_ino != file->inode) {
        close(fd);
        return ESTALE;
    }
    make_room(real);
    file->fd = fd;
    real->opened++;
    real->closed--;
    unshare_folder(real);
    return 0;
}

/* The descriptor, open until leave_file(); not if it returns an error. */
static int use_file(FutStoreFs *fs, int handle, int *ret_fd)
{
    RealFs *real = (RealFs *)fs;

    g_mutex_lock(&real->mutex);
    int code = nth(real, handle)->fd < 0 ? open_again(real, handle) : 0;
    if (code == 0) {
        RealFile *file = nth(real, handle);
        file->used = ++real->clock;
        file->users++;
        *ret_fd = file->fd;
    }
    g_mutex_unlock(&real->mutex);
    return code;
}

static void leave_file(FutStoreFs *fs, int handle)
{
    RealFs *real = (RealFs *)fs;

    g_mutex_lock(&real->mutex);
    nth(real, handle)->users--;
    g_mutex_unlock(&real->mutex);
}

static int real_open(FutStoreFs *fs, const char *name, int *ret_file)
{
    RealFs *real = (RealFs *)fs;
    struct stat status;
    int fd;

    int code = open_named(real, name, &fd, &status);
    if (code == 0) {
        g_mutex_lock(&real->mutex);
        make_room(real);
        *ret_file = add_file(real, name, fd, &status, false);
        g_mutex_unlock(&real->mutex);
    }
    return code;
}

static int real_create(FutStoreFs *fs, const char *name, int *ret_file)
{
    RealFs *real = (RealFs *)fs;
    int fd = openat(real->folder, name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    const struct stat unknown = { 0 };

    if (fd < 0) {
        return errno;
    }
    g_mutex_lock(&real->mutex);
    *ret_file = add_file(real, name, fd, &unknown, true);
    g_mutex_unlock(&real->mutex);
    return 0;
}

/* What was begun of that file, if anything: its end. */
static int end_flush(RealFs *real, int file)
{
    if (g_atomic_int_get(&real->flushing) != file) {
        return 0;
    }
    g_atomic_int_set(&real->flushing, -1);
    return fut_early_flush_end(&real->flush);
}

static void begin_flush(RealFs *real, int file, int fd, uint64_t end)
{
    int of = g_atomic_int_get(&real->flushing);

    if (of != file && of >= 0) {
        return;
    }
    if (of < 0) {
        g_atomic_int_set(&real->flushing, file);
        real->flush_end = 0;
    }
    if (end - real->flush_end >= FLUSH_BYTES && fut_early_flush_begin(&real->flush, fd)) {
        real->flush_end = end;
    }
}

static void real_close(FutStoreFs *fs, int handle)
{
    RealFs *real = (RealFs *)fs;

    end_flush(real, handle);
    g_mutex_lock(&real->mutex);
    RealFile *file = nth(real, handle);
    g_assert(file->users == 0);
    if (file->fd >= 0) {
        close(file->fd);
        real->opened--;
    } else {
        real->closed--;
    }
    g_clear_pointer(&file->name, g_free);
    unshare_folder(real);
    g_mutex_unlock(&real->mutex);
}

static int real_size(FutStoreFs *fs, int file, uint64_t *ret)
{
    struct stat status;
    int fd;

    int code = use_file(fs, file, &fd);
    if (code) {
        return code;
    }
    code = fstat(fd, &status) == 0 ? 0 : errno;
    leave_file(fs, file);
    if (code == 0) {
        *ret = (uint64_t)status.st_size;
    }
    return code;
}

static int read_fd(int fd, uint8_t *at, size_t length, uint64_t offset)
{
    while (length > 0) {
        ssize_t got = pread(fd, at, length, (off_t)offset);
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

static int real_read(FutStoreFs *fs, int file, void *data, size_t length, uint64_t offset)
{
    int fd;

    int code = use_file(fs, file, &fd);
    if (code == 0) {
        code = read_fd(fd, data, length, offset);
        leave_file(fs, file);
    }
    return code;
}

static int write_fd(int fd, const uint8_t *at, size_t length, uint64_t offset)
{
    while (length > 0) {
        ssize_t put = pwrite(fd, at, length, (off_t)offset);
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

static int real_write(FutStoreFs *fs, int file, const void *data, size_t length, uint64_t offset)
{
    int fd;

    int code = use_file(fs, file, &fd);
    if (code == 0) {
        code = write_fd(fd, data, length, offset);
        leave_file(fs, file);
    }
    return code;
}

static void real_begin_sync(FutStoreFs *fs, int file, uint64_t offset, uint64_t length)
{
    int fd;

    if (use_file(fs, file, &fd) == 0) {
        sync_file_range(fd, (off_t)offset, (off_t)length, SYNC_FILE_RANGE_WRITE);
        begin_flush((RealFs *)fs, file, fd, offset + length);
        leave_file(fs, file);
    }
}

static int real_sync(FutStoreFs *fs, int file)
{
    int fd;

    int code = use_file(fs, file, &fd);
    if (code == 0) {
        code = end_flush((RealFs *)fs, file);
        code = fdatasync(fd) == 0 || code ? code : errno;
        leave_file(fs, file);
    }
    return code;
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

/* A file system without such locks has nobody who relies on them. */
static int real_claim(FutStoreFs *fs)
{
    RealFs *real = (RealFs *)fs;

    g_mutex_lock(&real->mutex);
    g_assert(!real->claimed);
    bool taken = flock(real->folder, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
    if (taken) {
        real->shared = false; /* an attempt in vain may cost the lock that there was */
        if (real->closed > 0) {
            share_folder(real);
        }
    }
    real->claimed = !taken;
    g_mutex_unlock(&real->mutex);
    return taken ? EAGAIN : 0;
}

static void real_unclaim(FutStoreFs *fs)
{
    RealFs *real = (RealFs *)fs;

    g_mutex_lock(&real->mutex);
    real->claimed = false;
    real->shared = flock(real->folder, LOCK_SH | LOCK_NB) == 0;
    unshare_folder(real);
    g_mutex_unlock(&real->mutex);
}

static void real_free(FutStoreFs *fs)
{
    real_unlock(fs);
    fut_early_flush_done(&((RealFs *)fs)->flush);
    for (guint i = 0; i < ((RealFs *)fs)->files->len; i++) {
        g_assert(!nth((RealFs *)fs, (int)i)->name); /* all that were opened were closed */
    }
    g_array_unref(((RealFs *)fs)->files);
    g_mutex_clear(&((RealFs *)fs)->mutex);
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
    .begin_sync = real_begin_sync,
    .sync = real_sync,
    .sync_folder = real_sync_folder,
    .rename = real_rename,
    .remove = real_remove,
    .list = real_list,
    .free_bytes = real_free_bytes,
    .lock = real_lock,
    .unlock = real_unlock,
    .claim = real_claim,
    .unclaim = real_unclaim,
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
    real->lock = real->flushing = -1;
    g_mutex_init(&real->mutex);
    real->files = g_array_new(FALSE, TRUE, sizeof(RealFile));
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
