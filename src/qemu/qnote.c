/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The file beside a disk's image. No QEMU in here. */
#include "qnote.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define MAGIC UINT64_C(0x65746f6e6f677466)
#define SECOND_NS INT64_C(1000000000)
/* The kernel's clock for files goes in steps; what was under way when we died may have ended a little later. */
#define IDLE_SLACK_NS (SECOND_NS / 50)
#define BUSY_SLACK_NS (2 * SECOND_NS)
/* After a power cut our own time is the one that was synced last. */
#define POWER_SLACK_NS (6 * SECOND_NS)
/* A wall clock that was set back by more would make a later write by others look older than it is. */
#define CLOCK_SLACK_NS SECOND_NS
#define NOTES_MAX 64

static FutQnoteHead *head_of(const FutQnote *note)
{
    return (FutQnoteHead *)note->file;
}

static int64_t now_ns(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now);
    return now.tv_sec * SECOND_NS + now.tv_nsec;
}

static int64_t in_ns(struct timespec time)
{
    return time.tv_sec * SECOND_NS + time.tv_nsec;
}

static int64_t clock_ahead_ns(void)
{
    return now_ns(CLOCK_REALTIME) - now_ns(CLOCK_BOOTTIME);
}

static void touch(FutQnoteHead *head)
{
    __atomic_store_n(&head->touched_ns, now_ns(CLOCK_REALTIME), __ATOMIC_RELAXED);
    __atomic_store_n(&head->clock_ns, clock_ahead_ns(), __ATOMIC_RELAXED);
}

static void read_boot(char *ret, size_t size)
{
    g_autofree char *text = NULL;

    memset(ret, 0, size);
    if (g_file_get_contents("/proc/sys/kernel/random/boot_id", &text, NULL, NULL)) {
        g_strlcpy(ret, g_strchomp(text), size);
    }
}

/* -- is the image as we left it? -- */

static bool untouched(const FutQnoteHead *head, const struct stat *image)
{
    int64_t newest_ns = MAX(in_ns(image->st_mtim), in_ns(image->st_ctim));
    char boot[sizeof(head->boot)];

    read_boot(boot, sizeof(boot));
    if (*boot == 0 || head->magic != MAGIC || head->inode != image->st_ino) {
        return false;
    }
    if (memcmp(boot, head->boot, sizeof(boot)) == 0) {
        return clock_ahead_ns() >= head->clock_ns - CLOCK_SLACK_NS &&
               newest_ns <= head->touched_ns + (head->busy > 0 ? BUSY_SLACK_NS : IDLE_SLACK_NS);
    }
    return newest_ns <= head->touched_ns + POWER_SLACK_NS && newest_ns < clock_ahead_ns();
}

static void take_over(FutQnote *note, const struct stat *image)
{
    FutQnoteHead *head = head_of(note);

    *head = (FutQnoteHead){ .magic = MAGIC, .inode = image->st_ino };
    touch(head);
    read_boot(head->boot, sizeof(head->boot));
}

/* -- at an orderly end -- */

static FutQnote *open_notes[NOTES_MAX];
static unsigned open_count;

/* QEMU has closed its images by now: what it still wrote then was ours. */
static void leave_all(void)
{
    for (unsigned i = 0; i < open_count; i++) {
        if (open_notes[i]->path) {
            touch(head_of(open_notes[i]));
        }
    }
}

static void remember(FutQnote *note)
{
    if (open_count == 0) {
        atexit(leave_all);
    }
    g_assert(open_count < NOTES_MAX);
    open_notes[open_count++] = note;
}

/* -- open, sync, drop -- */

/* One of another length is of no use: it is made anew. */
static int open_file(const char *path, size_t bytes, bool *ret_new)
{
    /* Not flock(): that lives as long as the mapping, which the keeper (engine/keeper.h) shares with a process that is dead. */
    struct flock all = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
    struct stat status;
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

    if (fd < 0) {
        return -1;
    }
    if (fcntl(fd, F_SETLK, &all) < 0 || fstat(fd, &status) < 0 || !S_ISREG(status.st_mode)) {
        close(fd);
        return -1;
    }
    *ret_new = status.st_size != (off_t)bytes;
    /* All of it has room on the disk: a mapped page without would kill the process. */
    if ((*ret_new && ftruncate(fd, 0) < 0) || posix_fallocate(fd, 0, (off_t)bytes) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

bool fut_qnote_open(FutQnote *note, const char *image, size_t bytes, bool *ret_same)
{
    g_autofree char *path = g_strconcat(image, ".futago", NULL);
    size_t size = FUT_QNOTE_HEAD + bytes;
    struct stat status;
    bool is_new;

    if (stat(image, &status) < 0 || !S_ISREG(status.st_mode)) {
        return false;
    }
    int fd = open_file(path, size, &is_new); /* stays open: its lock ends with the process */
    if (fd < 0) {
        return false;
    }
    void *file = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (file == MAP_FAILED) {
        close(fd);
        return false;
    }
    *note = (FutQnote){ g_steal_pointer(&path), file, size };
    *ret_same = !is_new && untouched(head_of(note), &status);
    take_over(note, &status);
    remember(note);
    return true;
}

bool fut_qnote_sync(FutQnote *note)
{
    return note->path && msync(note->file, note->bytes, MS_SYNC) == 0;
}

void fut_qnote_drop(FutQnote *note)
{
    g_autofree char *path = g_steal_pointer(&note->path);

    if (!path) {
        return;
    }
    g_autofree char *folder = g_path_get_dirname(path);
    unlink(path);
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        fsync(fd);
        close(fd);
    }
}

/* -- touching the image -- */

void fut_qnote_begin(FutQnote *note)
{
    if (note->path) {
        touch(head_of(note));
        __atomic_add_fetch(&head_of(note)->busy, 1, __ATOMIC_RELAXED);
    }
}

void fut_qnote_end(FutQnote *note)
{
    if (note->path) {
        touch(head_of(note));
        __atomic_sub_fetch(&head_of(note)->busy, 1, __ATOMIC_RELAXED);
    }
}
