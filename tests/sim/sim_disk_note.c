/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The notes beside simulated images: the VMM's part, and the rule that they must keep:
 *
 *   Whatever ends at this moment, processes or power: if what is left of a primary's note and of a backup's would be believed, then the
 *   two images are alike in all chunks that the primary's note does not name. */
#include "sim.h"

#include "disk_note.h"

/* -- vmm.h -- */

uint8_t *sim_vm_disk_note(FutVmm *vmm, unsigned disk, size_t bytes, bool *ret_same)
{
    SimVm *vm = (SimVm *)vmm;
    SimDisk *image = &vm->host->disk[disk];

    g_assert(bytes <= SIM_NOTE_BYTES);
    if (vm->host->sim->profile.no_notes) {
        return NULL;
    }
    memcpy(vm->disks.note[disk], image->note, SIM_NOTE_BYTES);
    vm->disks.noted = true;
    *ret_same = !image->foreign || vm->host->sim->wish.wrong == FUT_FAULT_DISK_TRUST;
    image->foreign = false;
    return vm->disks.note[disk];
}

bool sim_vm_disk_note_sync(FutVmm *vmm, unsigned disk)
{
    SimVm *vm = (SimVm *)vmm;

    if (sim_gate(vm->host)) {
        if (vm->disks.fail_note > 0) {
            vm->disks.fail_note--;
            return false;
        }
        memcpy(vm->host->disk[disk].note_safe, vm->disks.note[disk], SIM_NOTE_BYTES);
        vm->host->sim->count->note_syncs++;
    }
    return true;
}

void sim_vm_disk_note_drop(FutVmm *vmm, unsigned disk)
{
    SimVm *vm = (SimVm *)vmm;

    if (sim_gate(vm->host)) {
        memset(vm->host->disk[disk].note_safe, 0, SIM_NOTE_BYTES);
        vm->disks.dropped[disk] = true;
    }
}

/* The process ends here: what it stored is in the file. */
void sim_notes_keep(SimHost *host)
{
    for (unsigned disk = 0; disk < host->sim->profile.disks && host->vm.disks.noted; disk++) {
        if (host->vm.disks.dropped[disk]) {
            memset(host->disk[disk].note, 0, SIM_NOTE_BYTES);
        } else {
            memcpy(host->disk[disk].note, host->vm.disks.note[disk], SIM_NOTE_BYTES);
        }
    }
}

/* -- the rule -- */

/* What would be found of a disk's note: by who starts after the process ended, or after a power cut. */
static const uint8_t *found(const SimHost *host, unsigned disk, bool power_cut)
{
    static const uint8_t nothing[SIM_NOTE_BYTES];
    const SimVmDisks *live = &host->vm.disks;

    if (power_cut) {
        return host->disk[disk].note_safe;
    }
    if (sim_host_up(host) && host->dying == SIM_LIVE && live->noted) {
        return live->dropped[disk] ? nothing : live->note[disk];
    }
    return host->disk[disk].note;
}

static bool read_notes(const SimHost *host, FutRole role, bool power_cut, FutDiskNote *ret)
{
    FutDiskNote note;

    for (unsigned disk = 0; disk < host->sim->profile.disks; disk++) {
        if (!fut_disk_note_get(found(host, disk, power_cut), &note) || note.role != role ||
            note.image == 0 || host->disk[disk].foreign || (disk > 0 && note.image != ret->image)) {
            return false;
        }
        bool first =
            disk == 0 || (role == FUT_ROLE_PRIMARY ? note.mark > ret->mark : note.mark < ret->mark);
        *ret = first ? note : *ret;
    }
    return true;
}

static bool chunk_alike(const SimHost *primary, bool cut_here, const SimHost *backup,
                        bool cut_there, unsigned disk, uint64_t chunk)
{
    const SimDisk *a = &primary->disk[disk], *b = &backup->disk[disk];
    uint64_t at = chunk << SIM_CHUNK_SHIFT;
    uint64_t length = MIN(1u << SIM_CHUNK_SHIFT, primary->sim->profile.disk_bytes[disk] - at);

    return memcmp(a->now + at, b->now + at, length) == 0 &&
           (!cut_here || memcmp(a->safe + at, b->now + at, length) == 0) &&
           (!cut_there || memcmp(b->safe + at, b->now + at, length) == 0);
}

static void check_disk(SimHost *primary, bool cut_here, const SimHost *backup, bool cut_there,
                       unsigned disk)
{
    const uint8_t *note = found(primary, disk, cut_here);
    Sim *sim = primary->sim;

    for (uint64_t chunk = 0; chunk << SIM_CHUNK_SHIFT < sim->profile.disk_bytes[disk]; chunk++) {
        if (fut_disk_note_differs(note, chunk)) {
            continue;
        }
        sim->count->note_chunks++;
        if (!chunk_alike(primary, cut_here, backup, cut_there, disk, chunk)) {
            sim_violation(
                sim, "note",
                "%s and %s would be believed after the end of both (%s, %s), but chunk %" PRIu64
                " of disk %u differs",
                primary->node, backup->node, cut_here ? "power" : "process",
                cut_there ? "power" : "process", chunk, disk);
        }
    }
}

static void check_pair(SimHost *primary, bool cut_here, const SimHost *backup, bool cut_there)
{
    FutDiskNote here = { 0 }, there = { 0 };

    if (!read_notes(primary, FUT_ROLE_PRIMARY, cut_here, &here) ||
        !read_notes(backup, FUT_ROLE_BACKUP, cut_there, &there) || here.image != there.image ||
        (there.mark != here.mark && there.mark != here.mark + 1)) {
        return;
    }
    for (unsigned disk = 0; disk < primary->sim->profile.disks; disk++) {
        check_disk(primary, cut_here, backup, cut_there, disk);
    }
}

void sim_check_notes(Sim *sim)
{
    for (unsigned i = 0; i < SIM_HOSTS * SIM_HOSTS && sim->profile.disks > 0; i++) {
        unsigned primary = i / SIM_HOSTS, backup = i % SIM_HOSTS;
        for (unsigned cut = 0; cut < 4 && primary != backup; cut++) {
            check_pair(&sim->host[primary], cut & 1, &sim->host[backup], cut & 2);
        }
    }
}
