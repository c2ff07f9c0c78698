/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The guest's disk requests, several at a time, and the host's side of them: the same calls in the same order as the block filter in
 * src/qemu makes. What the guest reads goes into its sum, so that a wrong disk soon shows in what it says. */
#include "sim.h"

/* A write that has to wait asks again after this. */
#define ASK_AGAIN_NS FUT_NS_PER_MS

static SimDisk *image_of(SimVm *vm, const SimIo *io)
{
    return &vm->host->disk[io->disk];
}

/* -- a request's life -- */

/* What a snapshot wants to have first is read later, or at once if somebody waits. False: not yet. */
static bool snapshot_lets(SimVm *vm, SimIo *io, bool hurry)
{
    FutEngine *engine = vm->base.engine;
    FutSeriesVerdict verdict;

    do {
        if (io->save_length > 0) {
            fut_engine_series_saved(engine, io->disk, io->save_offset, io->save_length,
                                    image_of(vm, io)->now + io->save_offset);
            io->save_length = 0;
        }
        uint64_t offset = 0, length = 0;
        verdict = fut_engine_series_before(engine, io->disk, io->write.offset, io->write.length,
                                           hurry, &offset, &length);
        io->save_offset = offset;
        io->save_length = verdict == FUT_SERIES_SAVE ? length : 0;
    } while (verdict == FUT_SERIES_SAVE && hurry);
    return verdict == FUT_SERIES_PASS;
}

static bool try_begin(SimVm *vm, SimIo *io, bool hurry)
{
    if (!io->begun) {
        io->begun = io->kind == FUT_DISK_FLUSH ||
                    (snapshot_lets(vm, io, hurry) &&
                     fut_engine_disk_begin(vm->base.engine, io->disk, &io->write, hurry));
    }
    return io->begun;
}

static void note_write(SimVm *vm, const SimIo *io)
{
    SimDiskView *view = &vm->disks.view[io->disk];
    const SimProtection *protection = vm->host->protection;

    for (uint64_t at = 0; at < io->write.length; at += SIM_SECTOR) {
        view->since[(io->write.offset + at) / SIM_SECTOR] = true;
        view->epoch[(io->write.offset + at) / SIM_SECTOR] = protection ? protection->cuts + 1 : 0;
    }
}

static void end_write(SimVm *vm, SimIo *io)
{
    bool ok = vm->disks.fail_guest == 0;

    vm->disks.fail_guest -= !ok;
    if (ok && vm->host->dying == SIM_LIVE) {
        sim_disk_put(image_of(vm, io), io->write.offset, io->write.length,
                     io->kind == FUT_DISK_WRITE ? io->data : NULL);
        note_write(vm, io);
    }
    fut_engine_disk_end(vm->base.engine, io->disk, &io->write, io->kind,
                        io->kind == FUT_DISK_WRITE ? io->data : NULL, ok);
}

static void end_flush(SimVm *vm, SimIo *io)
{
    SimDiskView *view = &vm->disks.view[io->disk];

    sim_disk_flush(image_of(vm, io));
    view->flushed = sim_sight(vm->host).output_epoch != 0;
    memcpy(view->then, image_of(vm, io)->now, SIM_DISK_BYTES);
    memset(view->since, 0, sizeof(view->since));
    vm->host->sim->count->disk_flushes++;
    fut_engine_disk_flushed(vm->base.engine, io->disk);
}

static void end(SimVm *vm, SimIo *io)
{
    if (io->kind == FUT_DISK_FLUSH) {
        end_flush(vm, io);
    } else {
        end_write(vm, io);
    }
    SIM_TRACE(vm->host->sim, "%s: guest's request %" PRIu64 " of kind %d to disk %u is done",
              vm->host->node, io->number, (int)io->kind, io->disk);
    io->number = 0;
    sim_guest_io_done(vm);
}

static void push_io(SimVm *vm, unsigned slot, uint64_t after_ns)
{
    SimHost *host = vm->host;

    sim_push(host->sim, after_ns,
             (SimEvent){ .kind = SIM_EVENT_IO,
                         .host = host->index,
                         .life = host->life,
                         .detail = slot,
                         .number = vm->disks.io[slot].number });
}

static void push_end(SimVm *vm, unsigned slot)
{
    push_io(vm, slot, sim_below(&vm->host->sim->random, vm->host->sim->profile.io_ns));
}

void sim_disk_event(SimVm *vm, const SimEvent *event)
{
    SimIo *io = &vm->disks.io[event->detail];

    if (io->number != event->number) {
        return; /* a cut did not wait for it */
    }
    if (io->begun) {
        end(vm, io);
    } else if (try_begin(vm, io, vm->disks.draining)) {
        push_end(vm, event->detail);
    } else {
        push_io(vm, event->detail, ASK_AGAIN_NS);
    }
}

/* Ends what is under way. False: something cannot yet. */
bool sim_disks_drain(SimVm *vm)
{
    bool quiet = true;

    for (unsigned i = 0; i < SIM_IOS; i++) {
        if (vm->disks.io[i].number != 0 && vm->disks.io[i].begun) {
            end(vm, &vm->disks.io[i]);
        }
    }
    for (unsigned i = 0; i < SIM_IOS; i++) {
        SimIo *io = &vm->disks.io[i];
        if (io->number != 0 && try_begin(vm, io, true)) {
            end(vm, io);
        }
        quiet &= io->number == 0;
    }
    return quiet;
}

/* -- what the guest asks for -- */

static FutDiskKind choose_kind(uint64_t lot)
{
    lot %= 100;
    return lot < 60 ? FUT_DISK_WRITE
                    : (lot < 70 ? FUT_DISK_ZEROES : (lot < 78 ? FUT_DISK_DISCARD : FUT_DISK_FLUSH));
}

static void choose_range(SimVm *vm, SimIo *io, uint64_t lot)
{
    uint64_t sectors = vm->disks.info[io->disk].length / SIM_SECTOR;
    uint64_t first = lot % sectors;
    uint64_t count = MIN(1 + (lot >> 20) % (SIM_IO_BYTES / SIM_SECTOR), sectors - first);

    io->write = (FutDiskWrite){ .offset = first * SIM_SECTOR, .length = count * SIM_SECTOR };
    for (uint64_t i = 0; i < io->write.length / sizeof(uint64_t); i++) {
        uint64_t value = sim_mix(lot + i);
        memcpy(io->data + i * sizeof(value), &value, sizeof(value));
    }
}

/* lot, more: random. Returns what the guest read. */
uint64_t sim_disk_request(SimVm *vm, uint64_t lot, uint64_t more)
{
    unsigned disk = (unsigned)(lot >> 8) % vm->host->sim->profile.disks, slot = 0;
    uint64_t read;

    memcpy(&read,
           vm->host->disk[disk].now +
               (lot >> 16) % (vm->disks.info[disk].length / sizeof(read)) * sizeof(read),
           sizeof(read));
    while (slot < SIM_IOS && vm->disks.io[slot].number != 0) {
        slot++;
    }
    if (slot < SIM_IOS && lot % 100 < vm->host->sim->profile.io_share) {
        SimIo *io = &vm->disks.io[slot];
        *io = (SimIo){ .number = ++vm->disks.number, .disk = disk, .kind = choose_kind(lot >> 40) };
        choose_range(vm, io, more);
        push_io(vm, slot, 0);
    }
    return read;
}
