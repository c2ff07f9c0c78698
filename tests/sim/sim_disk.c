/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Images of simulated disks, and the VMM's operations on them. */
#include "sim.h"

#include "disk_note.h"
#include "disk_queue.h"
#include "fut_error.h"

#define WRITE_DELAY_MAX_NS (300 * FUT_NS_PER_US)
#define SLOW_DELAY_MAX_NS (100 * FUT_NS_PER_MS)

/* -- images -- */

/* A disk that was never used is not empty; some of it is. */
void sim_disks_make(SimHost *host)
{
    SimRandom *random = &host->sim->random;

    for (unsigned disk = 0; disk < host->sim->profile.disks; disk++) {
        SimDisk *image = &host->disk[disk];
        for (unsigned chunk = 0; chunk < SIM_DISK_BYTES >> SIM_CHUNK_SHIFT; chunk++) {
            memset(image->now + (chunk << SIM_CHUNK_SHIFT),
                   sim_chance(random, 40) ? 0 : (int)sim_below(random, 256), 1 << SIM_CHUNK_SHIFT);
        }
        memcpy(image->safe, image->now, SIM_DISK_BYTES);
    }
}

/* The head is one sector; of the rest any byte may be the new one. */
static void lose_note(SimHost *host, SimDisk *image)
{
    unsigned step;

    for (unsigned at = 0; at < SIM_NOTE_BYTES; at += step) {
        step = at == 0 ? FUT_DISK_NOTE_HEAD : 1;
        if (sim_chance(&host->sim->random, 50)) {
            memcpy(image->note + at, image->note_safe + at, step);
        }
    }
    memcpy(image->note_safe, image->note, SIM_NOTE_BYTES);
}

/* Somebody has worked on the image while nobody used it. */
void sim_disks_touch(SimHost *host)
{
    for (unsigned disk = 0; disk < host->sim->profile.disks; disk++) {
        SimDisk *image = &host->disk[disk];
        memset(image->now, 0x77, SIM_DISK_BYTES / 2);
        memcpy(image->safe, image->now, SIM_DISK_BYTES);
        image->foreign = true;
    }
}

void sim_disks_lose_power(SimHost *host)
{
    for (unsigned disk = 0; disk < host->sim->profile.disks; disk++) {
        SimDisk *image = &host->disk[disk];
        for (unsigned at = 0; at < SIM_DISK_BYTES; at += SIM_SECTOR) {
            if (sim_chance(&host->sim->random, 50)) {
                memcpy(image->now + at, image->safe + at, SIM_SECTOR);
            }
        }
        lose_note(host, image);
        memcpy(image->safe, image->now, SIM_DISK_BYTES);
    }
}

/* data: NULL for zeroes. */
void sim_disk_put(SimDisk *image, uint64_t offset, uint64_t length, const uint8_t *data)
{
    if (data) {
        memcpy(image->now + offset, data, length);
    } else {
        memset(image->now + offset, 0, length);
    }
}

void sim_disk_flush(SimDisk *image)
{
    memcpy(image->safe, image->now, SIM_DISK_BYTES);
}

/* -- vmm.h -- */

void sim_vm_disks_init(SimVm *vm)
{
    static char *const names[SIM_DISKS] = { "vda", "vdb" };
    const SimProfile *profile = &vm->host->sim->profile;

    for (unsigned disk = 0; disk < profile->disks; disk++) {
        vm->disks.info[disk] = (FutDiskInfo){ names[disk], profile->disk_bytes[disk], false };
    }
}

const FutDiskInfo *sim_vm_disks(FutVmm *vmm, unsigned *ret_count)
{
    SimVm *vm = (SimVm *)vmm;

    *ret_count = vm->host->sim->profile.disks;
    return vm->disks.info;
}

static bool fails(unsigned *calls)
{
    if (*calls > 0 && *calls != UINT_MAX) {
        (*calls)--;
        return true;
    }
    return *calls > 0;
}

static bool is_zero(const uint8_t *at, uint64_t length)
{
    for (uint64_t i = 0; i < length; i++) {
        if (at[i] != 0) {
            return false;
        }
    }
    return true;
}

bool sim_vm_disk_read(FutVmm *vmm, unsigned disk, uint64_t offset, uint64_t *length,
                      uint8_t *buffer, bool *ret_zero, GError **error)
{
    SimHost *host = ((SimVm *)vmm)->host;
    const uint8_t *at = host->disk[disk].now + offset;
    uint64_t chunk = 1 << SIM_CHUNK_SHIFT, zeroes = 0;

    if (fails(&host->vm.disks.fail_read)) {
        if (host->protection) {
            host->protection->given_up = true;
        }
        g_set_error(error, FUT_ERROR, FUT_ERR_IO, "disk %s cannot be read",
                    host->vm.disks.info[disk].name);
        return false;
    }
    while (zeroes < *length && is_zero(at + zeroes, MIN(chunk, *length - zeroes))) {
        zeroes += MIN(chunk, *length - zeroes);
    }
    *ret_zero = zeroes > 0;
    *length = zeroes > 0 ? zeroes : MIN(chunk, *length);
    memcpy(buffer, at, zeroes > 0 ? 0 : *length);
    host->sim->count->disk_copied += zeroes > 0 ? 0 : *length;
    return true;
}

static void do_record(SimDisk *image, const FutDiskRecord *record)
{
    const FutDiskHead *head = &record->head;

    if (head->kind == FUT_DISK_FLUSH) {
        sim_disk_flush(image);
    } else {
        sim_disk_put(image, head->offset, head->length,
                     head->kind == FUT_DISK_WRITE ? record->data : NULL);
    }
}

bool sim_vm_disk_write(FutVmm *vmm, FutDiskRecord *take_list, GError **error)
{
    SimHost *host = ((SimVm *)vmm)->host;
    bool ok = true;

    for (const FutDiskRecord *r = take_list; r && ok && sim_gate(host); r = r->next) {
        ok = !fails(&host->vm.disks.fail_write);
        if (ok) {
            SIM_TRACE(host->sim,
                      "%s: disk %u: kind %d of epoch %" PRIu64 " at %" PRIu64 ", %" PRIu64 " bytes",
                      host->node, r->head.disk, (int)r->head.kind, r->head.epoch, r->head.offset,
                      r->head.length);
            sim_check_disk_write(host, &r->head);
            do_record(&host->disk[r->head.disk], r);
            host->sim->count->disk_writes++;
        }
    }
    if (!ok) {
        sim_disk_given_up(host);
        g_set_error_literal(error, FUT_ERROR, FUT_ERR_IO, "disk vda cannot be written");
    }
    fut_disk_records_free(take_list);
    return ok;
}

/* -- the disk thread -- */

void sim_disk_poke(SimHost *host)
{
    if (!host->disk_scheduled) {
        uint64_t most_ns = host->vm.disks.slow > 0 ? SLOW_DELAY_MAX_NS : WRITE_DELAY_MAX_NS;
        host->disk_scheduled = true;
        sim_push_host(host, sim_below(&host->sim->random, most_ns), SIM_EVENT_DISK);
    }
}

void sim_disk_some(SimHost *host)
{
    host->disk_scheduled = false;
    host->disk_steps++;
    if (fut_engine_disk_step(host->engine)) {
        sim_disk_poke(host);
    }
}
