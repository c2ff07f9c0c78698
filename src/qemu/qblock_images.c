/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whose the image of a shared disk is. QEMU locks the images it writes to, and the lock is what keeps an old primary from writing
 * behind the twin's back: a twin's images are opened as those of an incoming migration are (-incoming defer), without locks and
 * without keeping anything of them in memory, and it gets hold of them only when the old primary let go, or is no more.
 */
#include "qblock.h"

#include "fut_clock.h"
#include "fut_error.h"

/* Both hosts' locks of a mark lie here and behind, far beyond every image and QEMU's own. */
#define MARK_FIRST (INT64_C(1) << 60)
/* Between looks at whether the disks are settled. */
#define SETTLE_US 1000

/* -- which they are -- */

/* Device, drive, or node: whatever the user calls it by. */
static bool has_name(BlockBackend *blk, const char *name)
{
    g_autofree char *id = blk_get_attached_dev_id(blk);
    g_auto(GStrv) path = g_strsplit(id, "/", 5); /* "", machine, peripheral, id, more */
    const BlockDriverState *node = blk_bs(blk);

    for (; node; node = node->file ? node->file->bs : NULL) {
        if (g_str_equal(bdrv_get_node_name(node), name)) {
            return true;
        }
    }
    bool peripheral = g_strv_length(path) > 3 && g_str_equal(path[2], "peripheral");
    return g_str_equal(id, name) || g_str_equal(blk_name(blk), name) ||
           (peripheral && g_str_equal(path[3], name));
}

bool fut_qblock_is_shared(BlockBackend *blk, char *const *names)
{
    for (; *names; names++) {
        if (g_str_equal(*names, "all") || has_name(blk, *names)) {
            return true;
        }
    }
    return false;
}

static bool any_has(const GPtrArray *disks, const char *name)
{
    for (guint i = 0; i < disks->len; i++) {
        if (has_name(g_ptr_array_index(disks, i), name)) {
            return true;
        }
    }
    return false;
}

bool fut_qblock_check_names(const GPtrArray *disks, char *const *names, GError **error)
{
    for (; *names; names++) {
        bool found = g_str_equal(*names, "all") ? disks->len > 0 : any_has(disks, *names);
        if (!found) {
            g_set_error(error, FUT_ERROR, FUT_ERR_ARG,
                        "shared disk \"%s\": there is no such writable disk: use the id of its "
                        "device, drive or node",
                        *names);
            return false;
        }
    }
    return true;
}

/* -- whether they can be -- */

static BlockDriverState *file_of(BlockDriverState *node)
{
    while (node->file) {
        node = node->file->bs;
    }
    return node;
}

/* Some node on the way to the file ignores flushes: nothing would ever be durable there. */
static bool ignores_flushes(BlockDriverState *node)
{
    for (; node; node = node->file ? node->file->bs : NULL) {
        if (node->open_flags & BDRV_O_NO_FLUSH) {
            return true;
        }
    }
    return false;
}

bool fut_qblock_check_shared(BlockBackend *blk, GError **error)
{
    g_autofree char *name = blk_get_attached_dev_id(blk);
    const BlockDriverState *file = file_of(blk_bs(blk));
    uint64_t needed, allowed;
    const char *fault = NULL;

    blk_get_perm(blk, &needed, &allowed);
    const char *locking = qdict_get_try_str(file->options, "locking");
    if (!file->drv || !g_str_equal(file->drv->format_name, "file")) {
        fault = "is no file: a lock on it would not reach the other host. Use a file on storage "
                "that both hosts mount";
    } else if (g_strcmp0(locking, "off") == 0) {
        fault = "has locking=off: leave it out, the lock keeps the hosts from writing both";
    } else if (ignores_flushes(blk_bs(blk))) {
        fault = "has cache.no-flush=on (cache=unsafe): leave it out, the backup forgets what was "
                "flushed";
    } else if (allowed & BLK_PERM_WRITE) {
        fault = "has share-rw=on: leave it out, only one of the hosts may write";
    }
    if (fault) {
        g_set_error(error, FUT_ERROR, FUT_ERR_UNSUPPORTED, "shared disk \"%s\" %s", name, fault);
    }
    return !fault;
}

/* -- opening without taking hold -- */

/* QEMU opens images before it loads the module: that they are to be left alone it must hear from its own option. */
bool fut_qblock_end_incoming(GError **error)
{
    if (!runstate_check(RUN_STATE_INMIGRATE)) {
        g_set_error(error, FUT_ERROR, FUT_ERR_ARG,
                    "a standby with shared disks, and a VM that is kept ready, must not lock their "
                    "images: start QEMU with -incoming defer");
        return false;
    }
    runstate_set(RUN_STATE_PRELAUNCH);
    return true;
}

/* -- getting hold, and letting go -- */

static bool activate(BlockBackend *blk, GError **error)
{
    AioContext *context = blk_get_aio_context(blk);
    Error *failure = NULL;

    fut_qemu_aio_acquire(context);
    FUT_QEMU_GRAPH_RDLOCK_GUARD();
    bdrv_activate(blk_bs(blk), &failure);
    fut_qemu_aio_release(context);
    if (failure) {
        g_autofree char *name = blk_get_attached_dev_id(blk);
        g_set_error(error, FUT_ERROR, FUT_ERR_IO, "disk \"%s\": %s: is another process using %s?",
                    name, error_get_pretty(failure), file_of(blk_bs(blk))->filename);
        error_free(failure);
    }
    return !failure;
}

static bool is_shared(BlockBackend *blk)
{
    BlockDriverState *node = blk_bs(blk);

    return node && fut_qblock_is_ours(node) && ((FutQblockNode *)node->opaque)->shared;
}

bool fut_qblock_activate_own(FutQvmm *qvmm, GError **error)
{
    if (qvmm->block.shared == 0 || !qvmm->standby) {
        return true;
    }
    qvmm->block.inactive = true;
    for (BlockBackend *blk = blk_all_next(NULL); blk; blk = blk_all_next(blk)) {
        if (blk_bs(blk) && !is_shared(blk) && !activate(blk, error)) {
            return false;
        }
    }
    return true;
}

void fut_qblock_stay_out(FutQvmm *qvmm)
{
    qvmm->block.inactive = true;
}

/* BQL held. */
static bool activate_all(FutQvmm *qvmm, GError **error)
{
    Error *failure = NULL;

    for (BlockBackend *blk = blk_all_next(NULL); blk; blk = blk_all_next(blk)) {
        if (blk_bs(blk) && !activate(blk, error)) {
            return false;
        }
    }
    /* Those that no device uses, too: QEMU lets go of all or none. */
    bdrv_activate_all(&failure);
    if (failure) {
        g_set_error(error, FUT_ERROR, FUT_ERR_IO, "%s", error_get_pretty(failure));
        error_free(failure);
        return false;
    }
    qvmm->block.inactive = false;
    return true;
}

bool fut_qblock_claim(FutVmm *vmm, GError **error)
{
    FutQvmm *qvmm = (FutQvmm *)vmm;
    bool taken = fut_qvmm_lock();
    bool ok = !qvmm->block.inactive || activate_all(qvmm, error);

    fut_qvmm_unlock(taken);
    return ok;
}

void fut_qblock_yield(FutVmm *vmm)
{
    FutQvmm *qvmm = (FutQvmm *)vmm;
    bool taken = fut_qvmm_lock();

    if (!qvmm->block.inactive) {
        bdrv_drain_all();
        int result = bdrv_inactivate_all();
        qvmm->block.inactive = result == 0;
        if (result < 0) {
            warn_report("futago: cannot let go of the disks' images: %s: the other host waits "
                        "until this QEMU ends",
                        strerror(-result));
        }
    }
    fut_qvmm_unlock(taken);
}

/* -- is it the same image? -- */

static int64_t mark_of(uint64_t token)
{
    return MARK_FIRST + (int64_t)(token >> 8);
}

static int open_file(const FutQvmm *qvmm, unsigned disk, GError **error)
{
    const char *name = file_of(fut_qblock_node(qvmm, disk))->filename;
    Error *failure = NULL;
    int fd = qemu_open(name, O_RDONLY, &failure);

    if (fd < 0) {
        g_set_error(error, FUT_ERROR, FUT_ERR_IO, "disk \"%s\": %s", qvmm->block.disks[disk].name,
                    error_get_pretty(failure));
        error_free(failure);
    }
    return fd;
}

bool fut_qblock_mark(FutVmm *vmm, unsigned disk, uint64_t token, GError **error)
{
    FutQvmm *qvmm = (FutQvmm *)vmm;
    int *mark = &qvmm->block.marks[disk];

    if (*mark >= 0) {
        close(*mark);
    }
    *mark = open_file(qvmm, disk, error);
    if (*mark < 0) {
        return false;
    }
    int result = qemu_lock_fd(*mark, mark_of(token), 1, false);
    if (result < 0) {
        g_set_error(error, FUT_ERROR, FUT_ERR_IO, "disk \"%s\" cannot be locked: %s",
                    qvmm->block.disks[disk].name, strerror(-result));
    }
    return result == 0;
}

bool fut_qblock_marked(FutVmm *vmm, unsigned disk, uint64_t token, GError **error)
{
    FutQvmm *qvmm = (FutQvmm *)vmm;
    int fd = open_file(qvmm, disk, error);

    if (fd < 0) {
        return false;
    }
    int result = qemu_lock_fd_test(fd, mark_of(token), 1, true);
    close(fd);
    if (result == -EAGAIN || result == -EACCES) {
        return true;
    }
    g_set_error(error, FUT_ERROR, FUT_ERR_MISMATCH,
                "shared disk \"%s\" is not the primary's image, or locks do not reach from host to "
                "host: use the same file, on storage that carries locks",
                qvmm->block.disks[disk].name);
    return false;
}

/* -- the end -- */

void fut_qblock_settle(FutQvmm *qvmm, bool (*settled)(void))
{
    if (qvmm->block.shared == 0) {
        return;
    }
    for (;;) {
        bql_unlock();
        bool done = settled();
        if (!done) {
            g_usleep(SETTLE_US);
        }
        bql_lock();
        if (done) {
            return;
        }
        while (aio_poll(qemu_get_aio_context(), false)) {
        }
    }
}
