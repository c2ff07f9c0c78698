/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which disks the guest has, what of them can be protected, and the filters above them. */
#include "qblock.h"

#include "fut_error.h"

/* Drives without a device, or without a medium, are nothing to the guest. */
static bool is_disk(BlockBackend *blk)
{
    return blk_bs(blk) && blk_get_attached_dev(blk);
}

static bool is_writable(BlockBackend *blk)
{
    return is_disk(blk) && blk_supports_write_perm(blk);
}

/* -- what cannot be protected -- */

static void check_disk(GPtrArray *problems, BlockBackend *blk)
{
    g_autofree char *name = blk_get_attached_dev_id(blk);

    if (blk_get_aio_context(blk) != qemu_get_aio_context()) {
        fut_qrefuse_add(problems,
                        "disk \"%s\" runs in an iothread, which is not supported yet: leave out "
                        "iothread=",
                        name);
    } else if (blk_dev_has_removable_media(blk)) {
        fut_qrefuse_add(problems, "disk \"%s\" is writable and can be taken out: use readonly=on",
                        name);
    } else if (blk_getlength(blk) <= 0) {
        fut_qrefuse_add(problems, "disk \"%s\" is empty: make its image larger", name);
    }
}

void fut_qblock_check(GPtrArray *problems)
{
    unsigned count = 0;

    for (BlockBackend *blk = blk_all_next(NULL); blk; blk = blk_all_next(blk)) {
        if (is_writable(blk)) {
            check_disk(problems, blk);
            count++;
        }
    }
    if (count > FUT_DISKS_MAX) {
        fut_qrefuse_add(problems, "%u writable disks: at most %d can be protected", count,
                        FUT_DISKS_MAX);
    }
}

/* -- the filters -- */

static int compare_names(const void *a, const void *b)
{
    g_autofree char *one = blk_get_attached_dev_id(*(BlockBackend *const *)a);
    g_autofree char *other = blk_get_attached_dev_id(*(BlockBackend *const *)b);

    return strcmp(one, other);
}

/* By name: the order of the command line says nothing. */
static GPtrArray *writable_disks(void)
{
    GPtrArray *disks = g_ptr_array_new();

    for (BlockBackend *blk = blk_all_next(NULL); blk; blk = blk_all_next(blk)) {
        if (is_writable(blk)) {
            g_ptr_array_add(disks, blk);
        }
    }
    g_ptr_array_sort(disks, compare_names);
    return disks;
}

/* Nobody may put a node between device and filter, or change the size of what is below. */
static void forbid_changes(FutQblock *block, BlockDriverState *node)
{
    if (!block->reason) {
        error_setg(&block->reason, "futago: a protected VM keeps its disks as they are");
    }
    bdrv_op_block_all(node, block->reason);
}

void fut_qblock_ending(FutQvmm *qvmm)
{
    for (unsigned i = 0; i < qvmm->block.count; i++) {
        bdrv_op_unblock_all(qvmm->block.nodes[i], qvmm->block.reason);
    }
}

static bool attach_disk(FutQvmm *qvmm, BlockBackend *blk, bool shared, GError **error)
{
    FutQblock *block = &qvmm->block;
    unsigned disk = block->count;

    if (fut_qblock_is_ours(blk_bs(blk))) {
        return true; /* a second device on the same disk */
    }
    if (shared && !fut_qblock_check_shared(blk, error)) {
        return false;
    }
    block->disks[disk] =
        (FutDiskInfo){ blk_get_attached_dev_id(blk), (uint64_t)blk_getlength(blk), shared };
    block->marks[disk] = -1;
    block->nodes[disk] = fut_qblock_insert(qvmm, disk, blk_bs(blk), error);
    if (!block->nodes[disk]) {
        return false;
    }
    forbid_changes(block, block->nodes[disk]);
    block->shared += shared;
    block->count++;
    return true;
}

bool fut_qblock_attach(FutQvmm *qvmm, char *const *shared, GError **error)
{
    g_autoptr(GPtrArray) disks = writable_disks();

    if (!fut_qblock_check_names(disks, shared, error)) {
        return false;
    }
    for (guint i = 0; i < disks->len; i++) {
        BlockBackend *blk = g_ptr_array_index(disks, i);
        if (!attach_disk(qvmm, blk, fut_qblock_is_shared(blk, shared), error)) {
            return false;
        }
    }
    return fut_qblock_activate_own(qvmm, error);
}

BlockDriverState *fut_qblock_node(const FutQvmm *qvmm, unsigned disk)
{
    return qvmm->block.nodes[disk];
}

const FutDiskInfo *fut_qblock_disks(FutVmm *vmm, unsigned *ret_count)
{
    const FutQblock *block = &((FutQvmm *)vmm)->block;

    *ret_count = block->count;
    return block->disks;
}

/* -- notes -- */

/*
 * The file with all of an image's content: what is below must be a chain of nodes with one child each, with a file at its end. Not so
 * with a backing file, for one: that may change behind the image's back.
 */
static const char *image_file(const BlockDriverState *node)
{
    while (node->file) {
        const BdrvChild *child = QLIST_FIRST(&node->children);
        if (child != node->file || QLIST_NEXT(child, next)) {
            return NULL;
        }
        node = child->bs;
    }
    return node->drv && g_str_equal(node->drv->format_name, "file") ? node->filename : NULL;
}

static bool is_kind(const BlockDriverState *node, const char *kind)
{
    return node->drv && g_str_equal(node->drv->format_name, kind);
}

/* Ours, "raw" over the whole of its file, and the file; or an NBD server, by its URI. */
static const char *raw_image(const BlockDriverState *node, uint64_t length)
{
    node = node->file ? node->file->bs : node;
    if (node->file && is_kind(node, "raw")) {
        node = node->file->bs;
    }
    bool end = !node->file &&
               (is_kind(node, "file") || is_kind(node, "host_device") || is_kind(node, "nbd"));

    return end && (uint64_t)node->total_sectors * BDRV_SECTOR_SIZE == length ? node->filename
                                                                             : NULL;
}

char *fut_qblock_image(FutVmm *vmm, unsigned disk, GError **error)
{
    FutQblock *block = &((FutQvmm *)vmm)->block;
    bool taken = fut_qvmm_lock();
    char *image = g_strdup(raw_image(block->nodes[disk], block->disks[disk].length));

    fut_qvmm_unlock(taken);
    if (!image) {
        g_set_error(
            error, FUT_ERROR, FUT_ERR_UNSUPPORTED,
            "disk %s is no raw image in a file or block device: convert it (qemu-img convert -O raw)",
            block->disks[disk].name);
    }
    return image;
}

uint8_t *fut_qblock_note(FutVmm *vmm, unsigned disk, size_t bytes, bool *ret_same)
{
    FutQblock *block = &((FutQvmm *)vmm)->block;
    const char *image = image_file(block->nodes[disk]);

    if (!image || !fut_qnote_open(&block->notes[disk], image, bytes, ret_same)) {
        return NULL;
    }
    return block->notes[disk].file + FUT_QNOTE_HEAD;
}

bool fut_qblock_note_sync(FutVmm *vmm, unsigned disk)
{
    return fut_qnote_sync(&((FutQvmm *)vmm)->block.notes[disk]);
}

void fut_qblock_note_drop(FutVmm *vmm, unsigned disk)
{
    fut_qnote_drop(&((FutQvmm *)vmm)->block.notes[disk]);
}

/* -- in words -- */

void fut_qblock_describe(const FutQvmm *qvmm, GPtrArray *lines)
{
    for (unsigned i = 0; i < qvmm->block.count; i++) {
        const FutDiskInfo *disk = &qvmm->block.disks[i];
        g_ptr_array_add(lines, g_strdup_printf("disk:%s=%" PRIu64 "%s", disk->name, disk->length,
                                               disk->shared ? ",shared" : ""));
    }
    for (BlockBackend *blk = blk_all_next(NULL); blk; blk = blk_all_next(blk)) {
        if (is_disk(blk) && !is_writable(blk)) {
            g_autofree char *name = blk_get_attached_dev_id(blk);
            g_ptr_array_add(lines, g_strdup_printf("disk:%s=%" PRId64 ",readonly", name,
                                                   blk_getlength(blk)));
        }
    }
}

/* -- the end of an epoch -- */

/*
 * bdrv_drain_all() also waits for what the images do. With shared disks that is much: what was committed is being written, and
 * made durable.
 */
static void drain_devices(void)
{
    for (BlockBackend *blk = blk_all_next(NULL); blk; blk = blk_all_next(blk)) {
        AioContext *context = blk_get_aio_context(blk);
        fut_qemu_aio_acquire(context);
        blk_drain(blk);
        fut_qemu_aio_release(context);
    }
}

void fut_qblock_drain(const FutQvmm *qvmm)
{
    bool busy;

    if (!blk_all_next(NULL)) {
        return;
    }
    do {
        /* What was held back while draining is on its way afterwards: the parts of a long transfer, one by one. */
        if (qvmm->block.shared > 0) {
            drain_devices();
        } else {
            bdrv_drain_all();
        }
        busy = false;
        for (unsigned i = 0; i < qvmm->block.count; i++) {
            busy |= qatomic_read(&qvmm->block.nodes[i]->in_flight) > 0;
        }
    } while (busy);
}
