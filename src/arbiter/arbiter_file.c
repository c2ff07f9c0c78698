/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Arbiter "file:DIR": one record a VM in a folder that both hosts see (or, on one machine, in any).
 *
 *   DIR/VM.generation   one line: futago-arbiter 1 generation=7 holder=hostA state=active
 *   DIR/VM.lock         locked (fcntl, so that it works over NFS too) while the record is looked at
 *                       and replaced; never removed
 *   DIR/VM.new          the next record on its way; left over by a crash it means nothing
 *
 * A record is replaced by rename() after fsync(), so a crash leaves the old one or the new one. A
 * record that does not read exactly like that is nobody's grant: UNKNOWN until a person looks at
 * it.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "arbiter.h"
#include "arbiter_kinds.h"
#include "fut_clock.h"
#include "fut_error.h"

#define FORMAT_PREFIX "futago-arbiter 1"
#define RECORD_BYTES_MAX 512
/* A frozen or unreachable host may sit on the lock: then nobody can tell, and the caller asks
 * again. */
#define LOCK_WAIT_MS 3000
#define LOCK_RETRY_US 500

typedef struct {
    FutArbiter arbiter;
    char *dir, *record_path, *lock_path, *new_path;
} FileArbiter;

static bool fail_system(GError **error, const char *what, const char *path)
{
    int code = errno;

    g_set_error(error, FUT_ERROR, FUT_ERR_IO, "arbiter: cannot %s %s: %s", what, path,
                g_strerror(code));
    return false;
}

/* Names go into file names and into the record's line. */
static bool is_word(const char *name)
{
    for (const char *at = name; *at; at++) {
        if (!g_ascii_isalnum(*at) && (at == name || !strchr("._-", *at))) {
            return false;
        }
    }
    return *name && strlen(name) < 128;
}

static bool make_folder(const char *dir, GError **error)
{
    struct stat status;

    if (mkdir(dir, 0700) < 0 && errno != EEXIST) {
        g_set_error(error, FUT_ERROR, FUT_ERR_ARG,
                    "arbiter 'file:%s': cannot create that folder (%s): name one whose parent "
                    "exists",
                    dir, g_strerror(errno));
        return false;
    }
    if (stat(dir, &status) < 0 || !S_ISDIR(status.st_mode)) {
        g_set_error(error, FUT_ERROR, FUT_ERR_ARG, "arbiter 'file:%s': not a folder: name one",
                    dir);
        return false;
    }
    return true;
}

static FutArbiter *file_open(const char *where, const char *vm, GError **error)
{
    /* The process may change its folder later on. */
    g_autofree char *dir = g_canonicalize_filename(where, NULL);

    if (!is_word(vm)) {
        g_set_error(error, FUT_ERROR, FUT_ERR_ARG,
                    "VM name '%s': use letters, digits, '.', '_' and '-'", vm);
        return NULL;
    }
    if (!make_folder(dir, error)) {
        return NULL;
    }
    FileArbiter *file = g_new0(FileArbiter, 1);
    file->arbiter.ops = &fut_arbiter_file;
    file->record_path = g_strdup_printf("%s/%s.generation", dir, vm);
    file->lock_path = g_strdup_printf("%s/%s.lock", dir, vm);
    file->new_path = g_strdup_printf("%s/%s.new", dir, vm);
    file->dir = g_steal_pointer(&dir);
    return &file->arbiter;
}

static void file_close(FutArbiter *arbiter)
{
    FileArbiter *file = (FileArbiter *)arbiter;

    g_free(file->dir);
    g_free(file->record_path);
    g_free(file->lock_path);
    g_free(file->new_path);
    g_free(file);
}

/* Returns the open lock file, closing which unlocks; -1 on error. The lock belongs to the open
 * file, not to the process: two arbiters in one process exclude each other as well. */
static int lock_record(const FileArbiter *file, GError **error)
{
    struct flock whole = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
    uint64_t deadline_ns = fut_now_ns() + LOCK_WAIT_MS * FUT_NS_PER_MS;
    int fd = open(file->lock_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

    if (fd < 0) {
        fail_system(error, "open", file->lock_path);
        return -1;
    }
    while (fcntl(fd, F_OFD_SETLK, &whole) < 0) {
        if (errno != EAGAIN && errno != EACCES && errno != EINTR) {
            fail_system(error, "lock", file->lock_path);
            close(fd);
            return -1;
        }
        if (fut_now_ns() >= deadline_ns) {
            g_set_error(error, FUT_ERROR, FUT_ERR_TIMEOUT,
                        "arbiter: somebody keeps %s locked: look which process does",
                        file->lock_path);
            close(fd);
            return -1;
        }
        g_usleep(LOCK_RETRY_US);
    }
    return fd;
}

static char *record_line(uint64_t generation, const char *holder, bool released)
{
    return g_strdup_printf(FORMAT_PREFIX " generation=%" G_GUINT64_FORMAT " holder=%s state=%s\n",
                           generation, holder, released ? "released" : "active");
}

/* Value of "key=value", NULL if the word has another key. */
static const char *value_of(const char *word, const char *key)
{
    size_t length = strlen(key);

    return strncmp(word, key, length) == 0 && word[length] == '=' ? word + length + 1 : NULL;
}

/* Only what record_line() writes is understood, byte for byte. */
static bool parse_record(const char *line, FutArbiterRecord *ret)
{
    g_auto(GStrv) words = g_strsplit_set(line, " \n", -1);

    if (g_strv_length(words) != 6) {
        return false;
    }
    const char *number = value_of(words[2], "generation");
    const char *holder = value_of(words[3], "holder");
    const char *state = value_of(words[4], "state");
    guint64 generation = 0;
    if (!number || !holder || !state || !is_word(holder) ||
        !g_ascii_string_to_unsigned(number, 10, 1, G_MAXUINT64 - 1, &generation, NULL)) {
        return false;
    }
    bool released = strcmp(state, "released") == 0;
    g_autofree char *again = record_line(generation, holder, released);
    if (strcmp(again, line) != 0) {
        return false;
    }
    ret->generation = generation;
    ret->holder = g_strdup(holder);
    ret->released = released;
    return true;
}

/* At most RECORD_BYTES_MAX bytes of the record as a string, "" if it is none; -1 on error, 0 when
 * there is no file. */
static int read_line(const FileArbiter *file, char bytes[RECORD_BYTES_MAX + 1], GError **error)
{
    int fd = open(file->record_path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

    if (fd < 0 && errno == ENOENT) {
        return 0;
    }
    ssize_t got = fd < 0 ? -1 : read(fd, bytes, RECORD_BYTES_MAX);
    if (got < 0) {
        fail_system(error, "read", file->record_path);
    } else {
        bytes[got] = '\0';
        if (strlen(bytes) != (size_t)got) {
            bytes[0] = '\0'; /* bytes behind a NUL must not go unseen: that is no record */
        }
    }
    if (fd >= 0) {
        close(fd);
    }
    return got < 0 ? -1 : 1;
}

static bool read_record(const FileArbiter *file, FutArbiterRecord *ret, GError **error)
{
    char bytes[RECORD_BYTES_MAX + 1];
    int found = read_line(file, bytes, error);

    if (found < 0) {
        return false;
    }
    if (found == 0) {
        *ret = (FutArbiterRecord){ .holder = g_strdup("") };
        return true;
    }
    if (!parse_record(bytes, ret)) {
        g_set_error(error, FUT_ERROR, FUT_ERR_IO,
                    "arbiter: %s is damaged: correct it, or remove it once no host runs the VM",
                    file->record_path);
        return false;
    }
    return true;
}

static bool write_new(const FileArbiter *file, const char *line, GError **error)
{
    int fd = open(file->new_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    size_t length = strlen(line);

    if (fd < 0) {
        return fail_system(error, "create", file->new_path);
    }
    errno = ENOSPC; /* what a short write means */
    bool ok = write(fd, line, length) == (ssize_t)length && fsync(fd) == 0;
    if (!ok) {
        fail_system(error, "write", file->new_path);
    }
    if (close(fd) < 0 && ok) {
        ok = fail_system(error, "write", file->new_path);
    }
    return ok;
}

static bool sync_folder(const FileArbiter *file, GError **error)
{
    int fd = open(file->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    /* A file system that cannot sync a folder says EINVAL. */
    bool ok = fd >= 0 && (fsync(fd) == 0 || errno == EINVAL);

    if (!ok) {
        fail_system(error, "sync", file->dir);
    }
    if (fd >= 0) {
        close(fd);
    }
    return ok;
}

/* With the lock. */
static bool replace_record(const FileArbiter *file, uint64_t generation, const char *holder,
                           bool released, GError **error)
{
    g_autofree char *line = record_line(generation, holder, released);

    if (!write_new(file, line, error)) {
        return false;
    }
    if (rename(file->new_path, file->record_path) < 0) {
        return fail_system(error, "replace", file->record_path);
    }
    return sync_folder(file, error);
}

/* With the lock: what the record says about a claim; GRANTED means that it may be written. */
static FutClaim judge(const FileArbiter *file, const FutArbiterRecord *record, uint64_t generation,
                      const char *node, char **ret_text)
{
    bool own = record->generation == generation && strcmp(record->holder, node) == 0;

    if (record->generation == generation - 1 || (own && !record->released)) {
        return FUT_CLAIM_GRANTED;
    }
    if (record->generation < generation) {
        *ret_text = g_strdup_printf("arbiter: %s says generation %" G_GUINT64_FORMAT
                                    " where %" G_GUINT64_FORMAT
                                    " was before: is the shared folder mounted?",
                                    file->record_path, record->generation, generation - 1);
        return FUT_CLAIM_UNKNOWN;
    }
    *ret_text = g_strdup_printf("%s %s generation %" G_GUINT64_FORMAT, record->holder,
                                record->released ? "has ended the VM in" : "runs the VM in",
                                record->generation);
    return FUT_CLAIM_REFUSED;
}

/* With the lock. */
static FutClaim claim_locked(const FileArbiter *file, uint64_t generation, const char *node,
                             char **ret_text, GError **error)
{
    FutArbiterRecord record = { 0 };

    if (!read_record(file, &record, error)) {
        return FUT_CLAIM_UNKNOWN;
    }
    FutClaim claim = judge(file, &record, generation, node, ret_text);
    bool written = record.generation == generation;
    fut_arbiter_record_clear(&record);
    if (claim == FUT_CLAIM_GRANTED && !written &&
        !replace_record(file, generation, node, false, error)) {
        return FUT_CLAIM_UNKNOWN;
    }
    /* Written, but perhaps by a claim that could not sync the folder any more. */
    if (claim == FUT_CLAIM_GRANTED && written && !sync_folder(file, error)) {
        return FUT_CLAIM_UNKNOWN;
    }
    return claim;
}

static FutClaim file_claim(FutArbiter *arbiter, uint64_t generation, const char *node,
                           char **ret_text)
{
    const FileArbiter *file = (const FileArbiter *)arbiter;
    g_autoptr(GError) error = NULL;
    FutClaim claim = FUT_CLAIM_UNKNOWN;

    if (!is_word(node)) {
        *ret_text = g_strdup_printf("node name '%s': use letters, digits, '.', '_' and '-'", node);
        return FUT_CLAIM_UNKNOWN;
    }
    int lock = lock_record(file, &error);
    if (lock >= 0) {
        claim = claim_locked(file, generation, node, ret_text, &error);
        close(lock);
    }
    if (error) {
        *ret_text = g_strdup(error->message);
    }
    return claim;
}

static bool file_read(FutArbiter *arbiter, FutArbiterRecord *ret, GError **error)
{
    /* No lock: a record is replaced whole. */
    return read_record((const FileArbiter *)arbiter, ret, error);
}

static bool file_release(FutArbiter *arbiter, uint64_t generation, const char *node, GError **error)
{
    const FileArbiter *file = (const FileArbiter *)arbiter;
    FutArbiterRecord record = { 0 };
    int lock = lock_record(file, error);

    if (lock < 0) {
        return false;
    }
    bool ok = read_record(file, &record, error);
    if (ok && record.generation == generation && strcmp(record.holder, node) == 0 &&
        !record.released) {
        ok = replace_record(file, generation, node, true, error);
    }
    fut_arbiter_record_clear(&record);
    close(lock);
    return ok;
}

const FutArbiterOps fut_arbiter_file = {
    .kind = "file",
    .usage = "file:DIR",
    .open = file_open,
    .claim = file_claim,
    .read = file_read,
    .release = file_release,
    .close = file_close,
};
