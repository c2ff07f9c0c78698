/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The rules about disks, checked from outside:
 *   - nothing is written to a backup's disk before its epoch is committed, and nothing by us once the guest runs there
 *   - at a takeover the disk is exactly the primary's at the last committed checkpoint
 *   - with flush_both, what the guest flushed in an epoch is safe from a power cut before that epoch is acknowledged */
#include "sim.h"

/* As a checkpoint is taken. */
void sim_disks_remember(const SimVm *vm, SimImage *image)
{
    for (unsigned disk = 0; disk < vm->host->sim->profile.disks; disk++) {
        image->disk[disk] = vm->disks.view[disk];
        memcpy(image->disk[disk].now, vm->host->disk[disk].now, SIM_DISK_BYTES);
    }
}

/* As a protection begins: what was flushed before it is not its affair. */
void sim_disks_begin(SimVm *vm)
{
    for (unsigned disk = 0; disk < SIM_DISKS; disk++) {
        vm->disks.view[disk].flushed = false;
        memset(vm->disks.view[disk].epoch, 0, sizeof(vm->disks.view[disk].epoch));
    }
}

/* Its disk was made to fail: whose image it has cannot be kept. */
void sim_disk_given_up(SimHost *host)
{
    if (host->written_for) {
        host->written_for->given_up = true;
    }
    if (host->link && host->link->protection) {
        host->link->protection->given_up = true;
    }
}

void sim_check_disk_write(SimHost *host, const FutDiskHead *head)
{
    const SimProtection *from = host->written_for;

    if (host->vm.started && head->kind != FUT_DISK_FLUSH) {
        sim_violation(host->sim, "disk", "%s writes to the disk of a guest that runs", host->node);
    }
    if (head->epoch > (from ? from->committed : 0)) {
        sim_violation(host->sim, "disk",
                      "%s writes something of epoch %" PRIu64 " to its disk; %" PRIu64
                      " are committed",
                      host->node, head->epoch, from ? from->committed : 0);
    }
}

static bool same(const SimHost *host, unsigned disk, const uint8_t *as)
{
    return memcmp(host->disk[disk].now, as, host->sim->profile.disk_bytes[disk]) == 0;
}

void sim_check_disks(SimHost *host, const SimImage *image)
{
    for (unsigned disk = 0; disk < host->sim->profile.disks; disk++) {
        if (!same(host, disk, image->disk[disk].now)) {
            sim_violation(host->sim, "disk",
                          "%s: disk %u is not that of epoch %" PRIu64 " at takeover", host->node,
                          disk, image->epoch);
        }
    }
}

/* What a later epoch, which is committed too, wrote over it may be safe instead. */
static bool is_safe(const SimHost *host, unsigned disk, const SimImage *image,
                    const SimImage *newest)
{
    const SimDiskView *view = &image->disk[disk];

    for (uint64_t at = 0; at < host->sim->profile.disk_bytes[disk]; at += SIM_SECTOR) {
        if (!view->since[at / SIM_SECTOR] &&
            newest->disk[disk].epoch[at / SIM_SECTOR] <= image->epoch &&
            memcmp(host->disk[disk].safe + at, view->then + at, SIM_SECTOR) != 0) {
            return false;
        }
    }
    return true;
}

/* Before the acknowledgement of an epoch goes out. */
void sim_check_flushed(SimHost *host, uint64_t epoch)
{
    const SimProtection *protection = host->link->protection;

    if (!host->sim->profile.flush_both || !protection ||
        protection->image[epoch % SIM_IMAGES].epoch != epoch) {
        return;
    }
    const SimImage *image = &protection->image[epoch % SIM_IMAGES];
    const SimImage *newest = &protection->image[protection->committed % SIM_IMAGES];
    for (unsigned disk = 0; disk < host->sim->profile.disks; disk++) {
        if (image->disk[disk].flushed && !is_safe(host, disk, image, newest)) {
            sim_violation(host->sim, "disk",
                          "%s acknowledges epoch %" PRIu64
                          ", but what the guest flushed to disk %u would not survive a power cut",
                          host->node, epoch, disk);
        }
    }
}
