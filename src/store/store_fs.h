/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The file system under a store: one folder, flat. Two implementations: files of this machine, and a simulated one in the tests, which
 * fails, dies and loses power at will. */
#ifndef FUT_STORE_FS_H
#define FUT_STORE_FS_H

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct FutStoreFs FutStoreFs;

/* All operations that can fail return 0 or an errno value. `file` is a handle. */
typedef struct {
    int (*open)(FutStoreFs *fs, const char *name, int *ret_file);
    /* Empty, for writing; replaces one of that name. */
    int (*create)(FutStoreFs *fs, const char *name, int *ret_file);
    void (*close)(FutStoreFs *fs, int file);
    int (*size)(FutStoreFs *fs, int file, uint64_t *ret);
    /* ENODATA where the file ends before. */
    int (*read)(FutStoreFs *fs, int file, void *data, size_t length, uint64_t offset);
    int (*write)(FutStoreFs *fs, int file, const void *data, size_t length, uint64_t offset);
    /* A hint, may be NULL: these bytes will be synced soon, so that the disk may as well begin with them. Does not wait for it. One
     * file at a time: what goes wrong with it is told by its sync(). */
    void (*begin_sync)(FutStoreFs *fs, int file, uint64_t offset, uint64_t length);
    int (*sync)(FutStoreFs *fs, int file);
    int (*sync_folder)(FutStoreFs *fs); /* names: what was created, renamed, removed */
    int (*rename)(FutStoreFs *fs, const char *from, const char *to);
    int (*remove)(FutStoreFs *fs, const char *name);
    /* Adds the names of all files, each to be freed. */
    int (*list)(FutStoreFs *fs, GPtrArray *names);
    int (*free_bytes)(FutStoreFs *fs, uint64_t *ret);
    /* Against other processes that write. EAGAIN: somebody has it. */
    int (*lock)(FutStoreFs *fs);
    void (*unlock)(FutStoreFs *fs);
    /* Before pack files are removed or replaced. EAGAIN: somebody relies on their names, as he has more of them in use than he keeps open;
     * they have to stay. 0: nobody does, nor will until unclaim(). */
    int (*claim)(FutStoreFs *fs);
    void (*unclaim)(FutStoreFs *fs);
    void (*free)(FutStoreFs *fs);
} FutStoreFsOps;

/* Implementations put this first. */
struct FutStoreFs {
    const FutStoreFsOps *ops;
    char *path; /* for messages; owned */
};

/* Of the files that are open for reading so many are, at most; the others are opened again when they are read. */
#define FUT_STORE_FILES_MAX 128

/* Files of this machine. `create`: makes the folder if it is missing. FUT_ERR_ARG: no such folder. */
FutStoreFs *fut_store_fs_new(const char *path, bool create, GError **error);
static inline void fut_store_fs_free(FutStoreFs *fs)
{
    if (fs) {
        fs->ops->free(fs);
    }
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FutStoreFs, fut_store_fs_free)

/* FUT_ERR_IO "cannot VERB PATH/NAME: REASON"; a full disk gets its remedy. Always false. */
bool fut_store_fs_fail(const FutStoreFs *fs, const char *verb, const char *name, int code,
                       GError **error);

#endif
