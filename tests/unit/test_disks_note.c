/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a primary believes, at its start, of the note beside its disk's image. */
#include "disk_note.h"
#include "engine_internal.h"
#include "fut_clock.h"

typedef struct {
    FutVmm base;
    FutMemory memory;
    FutDiskInfo disk;
    unsigned opened; /* how often the note was asked for */
    uint8_t note[4096];
} Vm;

static const FutMemory *vm_memory(FutVmm *vmm)
{
    return &((Vm *)vmm)->memory;
}

static const FutDiskInfo *vm_disks(FutVmm *vmm, unsigned *ret_count)
{
    *ret_count = 1;
    return &((Vm *)vmm)->disk;
}

static uint8_t *vm_note(FutVmm *vmm, unsigned disk, size_t bytes, bool *ret_same)
{
    Vm *vm = (Vm *)vmm;

    g_assert_cmpuint(bytes, <=, sizeof(vm->note));
    vm->opened++;
    *ret_same = true;
    return vm->note;
}

static bool vm_note_sync(FutVmm *vmm, unsigned disk)
{
    return true;
}

static const FutVmmOps vm_ops = {
    .memory = vm_memory,
    .disks = vm_disks,
    .disk_note = vm_note,
    .disk_note_sync = vm_note_sync,
};

static uint64_t now(void *opaque)
{
    return FUT_NS_PER_S;
}

static const FutEngineHost host = { .now_ns = now };

/* The engine of a VM whose note knows of the twin's image 77. */
static FutEngine *begin(Vm *vm, bool restored, bool waiting)
{
    char *machine[] = { (char *)"m=1", NULL };
    FutEngineConfig config;

    *vm = (Vm){ .base.ops = &vm_ops, .disk = { (char *)"d", 1u << 20, false } };
    fut_engine_config_defaults(&config);
    config.role = FUT_ROLE_PRIMARY;
    config.vm = "vm";
    config.node = "a";
    config.generation = waiting ? 0 : 5;
    config.restored = restored;
    config.waiting = waiting;
    FutDiskNote note = { vm->disk.length, config.disk_chunk_shift, 0, FUT_ROLE_PRIMARY, 77, 3 };
    fut_disk_note_put(vm->note, &note);
    return fut_engine_new(&vm->base, &config, machine, &host, vm);
}

static uint64_t noted(const Vm *vm)
{
    FutDiskNote note;

    return fut_disk_note_get(vm->note, &note) ? note.image : 0;
}

static void test_believed(void)
{
    Vm vm;
    FutEngine *engine = begin(&vm, false, false);

    g_assert_cmpuint(engine->disks.image, ==, 77);
    g_assert_true(engine->disks.noting && noted(&vm) == 77);
    fut_engine_free(engine);
}

/* The image becomes another, and no twin has that. */
static void test_restored(void)
{
    Vm vm;
    FutEngine *engine = begin(&vm, true, false);

    g_assert_cmpuint(engine->disks.image, ==, 0);
    g_assert_true(engine->disks.has_notes && !engine->disks.noting && noted(&vm) == 0);
    fut_engine_free(engine);
}

/* The note is whoever's who runs the guest now, until that is us. */
static void test_waiting(void)
{
    Vm vm;
    FutEngine *engine = begin(&vm, true, true);
    FutPairStatus status;

    g_assert_true(vm.opened == 0 && noted(&vm) == 77);
    fut_engine_granted(engine, 6);
    g_assert_true(vm.opened == 1 && noted(&vm) == 0 && engine->disks.has_notes);
    fut_pair_status(engine->pair, &status);
    g_assert_cmpuint(status.generation, ==, 6);
    fut_engine_free(engine);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/disks-note/believed", test_believed);
    g_test_add_func("/disks-note/restored", test_restored);
    g_test_add_func("/disks-note/waiting", test_waiting);
    return g_test_run();
}
