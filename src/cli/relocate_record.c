/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "relocate_record.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "control.h"
#include "fut_error.h"

#define SUFFIX ".move"
#define LENGTH_MAX (1 << 20)

static char *path_of(const char *vm)
{
    g_autofree char *rundir = fut_control_rundir();

    return g_strdup_printf("%s/%s" SUFFIX, rundir, vm);
}

/* It may have been removed between opening and locking. */
static bool is_at(int fd, const char *path)
{
    struct stat mine, there;

    return fstat(fd, &mine) == 0 && stat(path, &there) == 0 && mine.st_ino == there.st_ino &&
           mine.st_dev == there.st_dev;
}

static int open_locked(const char *path, int flags)
{
    for (;;) {
        int fd = open(path, O_RDWR | O_CLOEXEC | flags, 0600);
        bool locked = fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0;
        int code = errno;
        if (locked && is_at(fd, path)) {
            return fd;
        }
        if (fd >= 0) {
            close(fd);
        }
        errno = code;
        if (!locked) {
            return -1;
        }
    }
}

/* Behind the content may stand the end of an older, longer one. */
static json_t *content_of(int fd)
{
    struct stat about;
    bool ok = fstat(fd, &about) == 0 && about.st_size > 0 && about.st_size <= LENGTH_MAX;
    g_autofree char *text = ok ? g_malloc((gsize)about.st_size) : NULL;
    ssize_t length = ok ? pread(fd, text, (size_t)about.st_size, 0) : 0;

    return length > 0 ? json_loadb(text, (size_t)length, JSON_DISABLE_EOF_CHECK, NULL) : NULL;
}

int fut_record_open(const char *vm, json_t **ret_left, GError **error)
{
    g_autofree char *rundir = fut_control_rundir();
    g_autofree char *path = path_of(vm);

    g_mkdir_with_parents(rundir, 0700); /* where no VM has ever run */
    int fd = open_locked(path, O_CREAT);
    if (fd >= 0) {
        *ret_left = content_of(fd);
    } else if (errno == EWOULDBLOCK) {
        g_set_error(error, FUT_ERROR, FUT_ERR_BUSY,
                    "another futago relocate moves the VM: wait until it has ended");
    } else {
        g_set_error(error, FUT_ERROR, FUT_ERR_IO, "%s: %s", path, g_strerror(errno));
    }
    return fd;
}

bool fut_record_write(int fd, json_t *take_content, GError **error)
{
    char *text = json_dumps(take_content, JSON_COMPACT);
    size_t length = text ? strlen(text) : 0;
    bool ok = length > 0 && pwrite(fd, text, length, 0) == (ssize_t)length &&
              ftruncate(fd, (off_t)length) == 0;

    if (!ok) {
        g_set_error(error, FUT_ERROR, FUT_ERR_IO,
                    "what the move does cannot be noted in the folder of sockets: %s",
                    text ? g_strerror(errno) : "a name is no text");
    }
    free(text);
    json_decref(take_content);
    return ok;
}

void fut_record_remove(int fd, const char *vm)
{
    g_autofree char *path = path_of(vm);

    unlink(path);
    close(fd);
}

static bool is_left(const char *vm)
{
    g_autofree char *path = path_of(vm);
    int fd = open_locked(path, 0);

    if (fd >= 0) {
        close(fd);
    }
    return fd >= 0;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

char **fut_record_left(void)
{
    g_autofree char *rundir = fut_control_rundir();
    g_autoptr(GDir) dir = g_dir_open(rundir, 0, NULL);
    GPtrArray *names = g_ptr_array_new();
    const char *file;

    while (dir && (file = g_dir_read_name(dir))) {
        g_autofree char *vm =
            g_str_has_suffix(file, SUFFIX) ? g_strndup(file, strlen(file) - strlen(SUFFIX)) : NULL;
        if (vm && fut_control_name_check(vm, NULL) && is_left(vm)) {
            g_ptr_array_add(names, g_steal_pointer(&vm));
        }
    }
    g_ptr_array_sort(names, compare_names);
    g_ptr_array_add(names, NULL);
    return (char **)g_ptr_array_free(names, FALSE);
}
