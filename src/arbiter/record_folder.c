/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Records kept as files in a folder. */
#include "record_folder.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fut_clock.h"
#include "fut_error.h"

/* A frozen or unreachable host may sit on the lock: then nobody can tell, and the caller asks
 * again. */
#define LOCK_WAIT_MS 3000
#define LOCK_RETRY_US 500

static bool fail_system(GError **error, const char *what, const char *path)
{
    int code = errno;

    g_set_error(error, FUT_ERROR, FUT_ERR_IO, "arbiter: cannot %s %s: %s", what, path,
                g_strerror(code));
    return false;
}

static bool make_folder(const char *kind, const char *dir, GError **error)
{
    struct stat status;

    if (mkdir(dir, 0700) < 0 && errno != EEXIST) {
        g_set_error(error, FUT_ERROR, FUT_ERR_ARG,
                    "arbiter '%s:%s': cannot create that folder (%s): name one whose parent "
                    "exists",
                    kind, dir, g_strerror(errno));
        return false;
    }
    if (stat(dir, &status) < 0 || !S_ISDIR(status.st_mode)) {
        g_set_error(error, FUT_ERROR, FUT_ERR_ARG, "arbiter '%s:%s': not a folder: name one", kind,
                    dir);
        return false;
    }
    return true;
}

bool fut_record_folder_init(FutRecordFolder *folder, const char *kind, const char *where,
                            const char *vm, GError **error)
{
    /* The process may change its folder later on. */
    g_autofree char *dir = g_canonicalize_filename(where, NULL);

    if (!make_folder(kind, dir, error)) {
        return false;
    }
    folder->record_path = g_strdup_printf("%s/%s.generation", dir, vm);
    folder->lock_path = g_strdup_printf("%s/%s.lock", dir, vm);
    folder->token_path = g_strdup_printf("%s/%s.token", dir, vm);
    folder->new_path = g_strdup_printf("%s/%s.new", dir, vm);
    folder->dir = g_steal_pointer(&dir);
    return true;
}

void fut_record_folder_done(FutRecordFolder *folder)
{
    g_free(folder->dir);
    g_free(folder->record_path);
    g_free(folder->lock_path);
    g_free(folder->token_path);
    g_free(folder->new_path);
}

int fut_record_folder_lock(const FutRecordFolder *folder, GError **error)
{
    struct flock whole = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
    uint64_t deadline_ns = fut_now_ns() + LOCK_WAIT_MS * FUT_NS_PER_MS;
    int fd = open(folder->lock_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

    if (fd < 0) {
        fail_system(error, "open", folder->lock_path);
        return -1;
    }
    while (fcntl(fd, F_OFD_SETLK, &whole) < 0) {
        if (errno != EAGAIN && errno != EACCES && errno != EINTR) {
            fail_system(error, "lock", folder->lock_path);
            close(fd);
            return -1;
        }
        if (fut_now_ns() >= deadline_ns) {
            g_set_error(error, FUT_ERROR, FUT_ERR_TIMEOUT,
                        "arbiter: somebody keeps %s locked: look which process does",
                        folder->lock_path);
            close(fd);
            return -1;
        }
        g_usleep(LOCK_RETRY_US);
    }
    return fd;
}

bool fut_record_folder_get(const char *path, char bytes[FUT_ARBITER_LINE_MAX + 1], bool *ret_found,
                           GError **error)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

    if (fd < 0 && errno == ENOENT) {
        *ret_found = false;
        return true;
    }
    ssize_t got = fd < 0 ? -1 : read(fd, bytes, FUT_ARBITER_LINE_MAX);
    if (got < 0) {
        fail_system(error, "read", path);
    } else {
        bytes[got] = '\0';
        if (strlen(bytes) != (size_t)got) {
            bytes[0] = '\0'; /* bytes behind a NUL must not go unseen */
        }
        *ret_found = true;
    }
    if (fd >= 0) {
        close(fd);
    }
    return got >= 0;
}

bool fut_record_folder_read(const FutRecordFolder *folder, FutArbiterRecord *ret, GError **error)
{
    char bytes[FUT_ARBITER_LINE_MAX + 1];
    bool found;

    if (!fut_record_folder_get(folder->record_path, bytes, &found, error)) {
        return false;
    }
    if (!found) {
        *ret = (FutArbiterRecord){ .holder = g_strdup("") };
        return true;
    }
    if (!fut_arbiter_line_parse(bytes, ret)) {
        g_set_error(error, FUT_ERROR, FUT_ERR_IO,
                    "arbiter: %s is damaged: correct it, or remove it once no host runs the VM",
                    folder->record_path);
        return false;
    }
    return true;
}

static bool write_new(const FutRecordFolder *folder, const char *line, GError **error)
{
    int fd = open(folder->new_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    size_t length = strlen(line);

    if (fd < 0) {
        return fail_system(error, "create", folder->new_path);
    }
    errno = ENOSPC; /* what a short write means */
    bool ok = write(fd, line, length) == (ssize_t)length && fsync(fd) == 0;
    if (!ok) {
        fail_system(error, "write", folder->new_path);
    }
    if (close(fd) < 0 && ok) {
        ok = fail_system(error, "write", folder->new_path);
    }
    return ok;
}

static bool sync_folder(const FutRecordFolder *folder, GError **error)
{
    int fd = open(folder->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    /* A file system that cannot sync a folder says EINVAL. */
    bool ok = fd >= 0 && (fsync(fd) == 0 || errno == EINVAL);

    if (!ok) {
        fail_system(error, "sync", folder->dir);
    }
    if (fd >= 0) {
        close(fd);
    }
    return ok;
}

bool fut_record_folder_put(const FutRecordFolder *folder, const char *path, const char *line,
                           GError **error)
{
    if (!write_new(folder, line, error)) {
        return false;
    }
    if (rename(folder->new_path, path) < 0) {
        return fail_system(error, "replace", path);
    }
    return sync_folder(folder, error);
}

bool fut_record_folder_remove(const FutRecordFolder *folder, const char *path, GError **error)
{
    if (unlink(path) < 0 && errno != ENOENT) {
        return fail_system(error, "remove", path);
    }
    return sync_folder(folder, error);
}

static bool replace_record(const FutRecordFolder *folder, uint64_t generation, const char *holder,
                           bool released, GError **error)
{
    g_autofree char *line = fut_arbiter_line(generation, holder, released);

    return fut_record_folder_put(folder, folder->record_path, line, error);
}

bool fut_record_folder_hold(const FutRecordFolder *folder, const FutArbiterRecord *record,
                            uint64_t generation, const char *node, GError **error)
{
    /* Written, but perhaps by a claim that could not sync the folder any more. */
    if (fut_arbiter_record_is(record, generation, node)) {
        return sync_folder(folder, error);
    }
    return replace_record(folder, generation, node, false, error);
}

bool fut_record_folder_release(const FutRecordFolder *folder, uint64_t generation, const char *node,
                               GError **error)
{
    FutArbiterRecord record = { 0 };
    int lock = fut_record_folder_lock(folder, error);

    if (lock < 0) {
        return false;
    }
    bool ok = fut_record_folder_read(folder, &record, error);
    if (ok && fut_arbiter_record_is(&record, generation, node)) {
        ok = replace_record(folder, generation + 1, node, true, error);
    }
    fut_arbiter_record_clear(&record);
    close(lock);
    return ok;
}

/* -- the token -- */

/* With the lock. */
static bool read_token(const FutRecordFolder *folder, char **ret_token, GError **error)
{
    char bytes[FUT_ARBITER_LINE_MAX + 1];
    bool found;

    *ret_token = NULL;
    if (!fut_record_folder_get(folder->token_path, bytes, &found, error)) {
        return false;
    }
    g_autofree char *token = g_strndup(bytes, strcspn(bytes, "\n"));
    if (found && !g_uuid_string_is_valid(token)) {
        g_set_error(error, FUT_ERROR, FUT_ERR_IO,
                    "arbiter: %s is damaged: remove it while no host runs the VM",
                    folder->token_path);
        return false;
    }
    *ret_token = found ? g_steal_pointer(&token) : NULL;
    return true;
}

/* With the lock. */
static bool make_token(const FutRecordFolder *folder, char **ret_token, GError **error)
{
    g_autofree char *token = g_uuid_string_random();
    g_autofree char *line = g_strdup_printf("%s\n", token);

    if (!fut_record_folder_put(folder, folder->token_path, line, error)) {
        return false;
    }
    *ret_token = g_steal_pointer(&token);
    return true;
}

bool fut_record_folder_token(const FutRecordFolder *folder, char **ret_token, GError **error)
{
    int lock = fut_record_folder_lock(folder, error);

    if (lock < 0) {
        return false;
    }
    bool ok = read_token(folder, ret_token, error) &&
              (*ret_token || make_token(folder, ret_token, error));
    close(lock);
    return ok;
}
