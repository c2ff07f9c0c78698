/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The life of a probe, on a VMM that only notes what is put in: each step with its result. */
#include <elf.h>
#include <glib.h>
#include <string.h>

#include "fut_error.h"
#include "linux_fixture.h"
#include "watch.h"

typedef struct {
    FutVmm base;
    Guest guest;
    FutGuestLook look; /* what a vCPU shows */
    const FutProbe *in[FUT_PROBES_MAX];
    unsigned inserted, removed, woken, looks;
    bool ending, unable;
    FutWatch *watch;
} Vm;

static bool vm_look(FutVmm *vmm, FutGuestLook *ret, GError **error)
{
    Vm *vm = (Vm *)vmm;

    vm->looks++;
    if (vm->unable) {
        g_set_error_literal(error, FUT_ERROR, FUT_ERR_UNSUPPORTED, "no probes here");
    }
    *ret = vm->look;
    return !vm->unable;
}

static bool vm_insert(FutVmm *vmm, unsigned number, const FutProbe *probe, GError **error)
{
    Vm *vm = (Vm *)vmm;

    g_assert_null(vm->in[number]);
    if (vm->ending) {
        g_set_error_literal(error, FUT_ERROR, FUT_ERR_STATE, "the VM is about to end");
        return false;
    }
    vm->in[number] = probe;
    vm->inserted++;
    return true;
}

static bool vm_remove(FutVmm *vmm, unsigned number)
{
    Vm *vm = (Vm *)vmm;

    g_assert_nonnull(vm->in[number]);
    if (vm->ending) {
        return false;
    }
    vm->in[number] = NULL;
    vm->removed++;
    return true;
}

static const FutVmmOps vm_ops = {
    .guest_look = vm_look,
    .probe_insert = vm_insert,
    .probe_remove = vm_remove,
};

static void vm_wake(void *opaque)
{
    ((Vm *)opaque)->woken++;
}

static void vm_init(Vm *vm)
{
    *vm = (Vm){ .base.ops = &vm_ops };
    guest_init(&vm->guest, false, true);
    vm->look = vm->guest.look;
    vm->watch = fut_watch_new(&vm->base, vm_wake, vm);
}

static void vm_done(Vm *vm)
{
    fut_watch_free(vm->watch);
    guest_done(&vm->guest);
}

static const FutWatched *added(Vm *vm, const char *name, const char *text, bool wait)
{
    g_autoptr(GError) error = NULL;
    FutProbeDefinition from = { .name = (char *)name, .text = (char *)text, .wait = wait };
    const FutWatched *watched = fut_watch_add(vm->watch, &from, &error);

    g_assert_no_error(error);
    return watched;
}

/* Records that one hit of probe 0 makes. */
static unsigned hit(Vm *vm)
{
    static uint64_t place;
    FutProbeRecord record;
    uint64_t lost;
    unsigned count = 0;

    if (vm->in[0]) {
        g_assert_cmphex(fut_watch_hit(vm->watch, 0, &vm->guest.hit), ==, 0);
    }
    place = 0;
    while (fut_watch_next(vm->watch, &place, &record, &lost)) {
        g_assert_cmpint((gint64)record.values[0].number, ==, 11);
        fut_probe_unref(record.probe);
        count++;
    }
    return count;
}

/* Load, activate, probe in, read, probe out, deactivate, unload. */
static void test_life(void)
{
    g_autoptr(GError) error = NULL;
    Vm vm;

    vm_init(&vm);
    FutProbeDefinition from = { .name = (char *)"x",
                                .text = (char *)"kprobe:__send_signal_locked { sig }",
                                .disabled = true };
    const FutWatched *watched = fut_watch_add(vm.watch, &from, &error);
    g_assert_no_error(error);
    g_assert_cmpint(fut_watch_state(vm.watch, watched), ==, FUT_WATCHED_DISABLED);
    g_assert_cmpuint(vm.inserted, ==, 0);
    g_assert_cmpuint(hit(&vm), ==, 0);

    g_assert_true(fut_watch_enable(vm.watch, "x", true, &error));
    g_assert_true(fut_watch_enable(vm.watch, "x", true, &error));
    g_assert_cmpint(fut_watch_state(vm.watch, watched), ==, FUT_WATCHED_IN);
    g_assert_cmpuint(vm.inserted, ==, 1);
    g_assert_cmpuint(hit(&vm), ==, 1);
    g_assert_cmpuint(vm.woken, ==, 1);

    g_assert_true(fut_watch_enable(vm.watch, "x", false, &error));
    g_assert_true(fut_watch_enable(vm.watch, "x", false, &error));
    g_assert_cmpuint(vm.removed, ==, 1);
    g_assert_cmpuint(hit(&vm), ==, 1); /* what it saw before */
    g_assert_cmpuint(atomic_load(&watched->probe->hits), ==, 1);

    g_assert_true(fut_watch_remove(vm.watch, "x", &error));
    g_assert_null(fut_watch_at(vm.watch, 0));
    g_assert_cmpuint(vm.removed, ==, 1);
    g_assert_false(fut_watch_remove(vm.watch, "x", &error));
    g_assert_error(error, FUT_ERROR, FUT_ERR_ARG);
    g_clear_error(&error);
    g_assert_false(fut_watch_enable(vm.watch, "x", true, &error));
    g_assert_error(error, FUT_ERROR, FUT_ERR_ARG);
    vm_done(&vm);
}

static void fails(Vm *vm, const char *text, bool wait, FutErr code)
{
    g_autoptr(GError) error = NULL;
    FutProbeDefinition from = { .text = (char *)text, .wait = wait };

    g_assert_null(fut_watch_add(vm->watch, &from, &error));
    g_assert_error(error, FUT_ERROR, (int)code);
    g_assert_null(fut_watch_at(vm->watch, 1));
}

/* What cannot be put in leaves nothing behind, whichever step says no. */
static void test_nothing_half_in(void)
{
    Vm vm;

    vm_init(&vm);
    added(&vm, NULL, "kprobe:function_99", false);
    fails(&vm, "kprobe:function_99", false, FUT_ERR_BUSY);
    fails(&vm, "kprobe:no_such_thing", false, FUT_ERR_ARG);
    fails(&vm, "kprobe:no_such_thing", true, FUT_ERR_ARG);
    fails(&vm, "kprobe:function_98 {", true, FUT_ERR_ARG);
    vm.ending = true;
    fails(&vm, "kprobe:function_98", false, FUT_ERR_STATE);
    vm.ending = false;
    vm.look.syscall_entry = 0;
    fails(&vm, "kprobe:function_98", false, FUT_ERR_STATE);
    vm.unable = true;
    fails(&vm, "kprobe:function_98", true, FUT_ERR_UNSUPPORTED);
    vm.unable = false;
    g_assert_cmpuint(vm.inserted, ==, 1);
    g_assert_true(fut_watch_remove(vm.watch, "function_99", NULL));
    vm_done(&vm);
}

/* Put in when the kernel is up; and again when the guest has started anew. */
static void test_wait(void)
{
    Vm vm;

    vm_init(&vm);
    vm.look.syscall_entry = 0;
    const FutWatched *watched = added(&vm, "w", "kprobe:__send_signal_locked { sig }", true);
    g_assert_cmpint(fut_watch_state(vm.watch, watched), ==, FUT_WATCHED_WAITING);
    g_assert_nonnull(strstr(watched->reason, "no Linux kernel is up"));
    g_assert_cmpint(fut_watch_tend(vm.watch, true), >, 0);
    g_assert_cmpuint(vm.inserted, ==, 0);

    vm.look.syscall_entry = vm.guest.look.syscall_entry;
    g_assert_cmpint(fut_watch_tend(vm.watch, true), >, 0);
    g_assert_cmpint(fut_watch_state(vm.watch, watched), ==, FUT_WATCHED_IN);
    g_assert_cmpuint(hit(&vm), ==, 1);

    vm.look.syscall_entry += 0x10;
    g_assert_cmpint(fut_watch_state(vm.watch, watched), ==, FUT_WATCHED_STALE);
    vm.guest.hit.syscall_entry = vm.look.syscall_entry;
    fut_watch_tend(vm.watch, true);
    g_assert_cmpint(fut_watch_state(vm.watch, watched), ==, FUT_WATCHED_IN);
    g_assert_cmpuint(vm.removed, ==, 1);
    g_assert_cmpuint(hit(&vm), ==, 2);

    /* Without KASLR the next one is at the same address. */
    vm.guest.hit.boot = ++vm.look.boot;
    g_assert_cmpint(fut_watch_state(vm.watch, watched), ==, FUT_WATCHED_STALE);
    g_assert_cmpuint(hit(&vm), ==, 2);
    fut_watch_tend(vm.watch, true);
    g_assert_cmpint(fut_watch_state(vm.watch, watched), ==, FUT_WATCHED_IN);
    g_assert_cmpuint(vm.removed, ==, 2);
    g_assert_cmpuint(hit(&vm), ==, 3);
    g_assert_true(fut_watch_remove(vm.watch, "w", NULL));
    g_assert_cmpint(fut_watch_tend(vm.watch, true), ==, -1);
    vm_done(&vm);
}

static void set_clock(Vm *vm, uint64_t value)
{
    fut_put_le64(vm->guest.fixture.ram + PHYSICAL + 8 * 16, value);
}

/* A kernel started by kexec at the same address: vCPUs look as before, its clock or its banner do not. */
static void test_kexec(void)
{
    Vm vm;

    vm_init(&vm);
    set_clock(&vm, 1000);
    const FutWatched *kept = added(&vm, "kept", "kprobe:__send_signal_locked { sig }", false);
    const FutWatched *waits = added(&vm, "waits", "kprobe:function_99", true);
    set_clock(&vm, 2000);
    fut_watch_notice(vm.watch);
    g_assert_cmpuint(fut_watch_seeing(vm.watch), ==, 2);
    g_assert_cmpuint(hit(&vm), ==, 1);

    set_clock(&vm, 1999);
    fut_watch_notice(vm.watch);
    g_assert_cmpint(fut_watch_state(vm.watch, kept), ==, FUT_WATCHED_STALE);
    g_assert_cmpuint(fut_watch_seeing(vm.watch), ==, 0);
    g_assert_cmpuint(hit(&vm), ==, 1);
    fut_watch_tend(vm.watch, true);
    g_assert_cmpint(fut_watch_state(vm.watch, waits), ==, FUT_WATCHED_IN);
    g_assert_cmpint(fut_watch_state(vm.watch, kept), ==, FUT_WATCHED_STALE);

    /* By itself, as one waits. */
    memcpy(vm.guest.fixture.ram + PHYSICAL + 6 * 16, "Linux version 7", 16);
    fut_watch_tend(vm.watch, true);
    g_assert_cmpuint(vm.removed, ==, 2);
    g_assert_cmpint(fut_watch_state(vm.watch, waits), ==, FUT_WATCHED_IN);
    g_assert_cmpstr(fut_watch_kernel(vm.watch)->banner, ==, "Linux version 7");

    g_assert_true(fut_watch_remove(vm.watch, "kept", NULL));
    added(&vm, "kept", "kprobe:__send_signal_locked { sig }", false);
    g_assert_cmpuint(fut_watch_seeing(vm.watch), ==, 2);
    g_assert_cmpuint(hit(&vm), ==, 2);
    g_assert_true(fut_watch_remove(vm.watch, "kept", NULL));
    g_assert_true(fut_watch_remove(vm.watch, "waits", NULL));
    vm_done(&vm);
}

/* A module of one function; its name or another's stands there. */
static void load_module(Vm *vm, const char *name)
{
    uint8_t *at = vm->guest.fixture.ram + AREA_PHYSICAL;
    Elf64_Sym symbol = {
        .st_name = 1, .st_info = STT_FUNC, .st_shndx = 1, .st_value = AREA + 0x800, .st_size = 16
    };

    fut_put_le64(at + 0x400 + MODULE_LIST, MODULE_LIST_HEAD);
    strcpy((char *)at + 0x400 + MODULE_NAME, name);
    fut_put_le64(at + 0x400 + MODULE_KALLSYMS, AREA + 0x500);
    fut_put_le64(at + 0x500, AREA + 0x600);
    fut_put_le32(at + 0x508, 1);
    fut_put_le64(at + 0x510, AREA + 0x700);
    memcpy(at + 0x600, &symbol, sizeof(symbol));
    strcpy((char *)at + 0x701, "send");
    fut_put_le64(vm->guest.fixture.ram + PHYSICAL + 9 * 16, AREA + 0x400 + MODULE_LIST);
}

/* One that may wait waits for its module, at first and again; one that may not is refused, and stale when the module goes. */
static void test_module(void)
{
    FutProbeDefinition from = { .name = (char *)"kept",
                                .text = (char *)"kprobe:net:send { sig=rdi }" };
    g_autoptr(GError) error = NULL;
    Vm vm;

    vm_init(&vm);
    vm.guest.hit.registers[FUT_RDI] = 11;
    g_assert_null(fut_watch_add(vm.watch, &from, &error));
    g_assert_error(error, FUT_ERROR, FUT_ERR_STATE);
    const FutWatched *waits = added(&vm, "waits", from.text, true);
    g_assert_cmpint(fut_watch_state(vm.watch, waits), ==, FUT_WATCHED_WAITING);
    g_assert_nonnull(strstr(waits->reason, "no module 'net' loaded"));

    load_module(&vm, "net");
    fut_watch_touch(vm.watch);
    fut_watch_tend(vm.watch, true);
    const FutWatched *kept = added(&vm, "kept", from.text, false);
    g_assert_cmpint(fut_watch_state(vm.watch, waits), ==, FUT_WATCHED_IN);
    g_assert_cmpuint(hit(&vm), ==, 1);

    load_module(&vm, "other");
    g_assert_cmpuint(hit(&vm), ==, 1);
    fut_watch_tend(vm.watch, true);
    g_assert_cmpint(fut_watch_state(vm.watch, waits), ==, FUT_WATCHED_WAITING);
    g_assert_cmpint(fut_watch_state(vm.watch, kept), ==, FUT_WATCHED_STALE);
    load_module(&vm, "net");
    fut_watch_touch(vm.watch);
    fut_watch_tend(vm.watch, true);
    g_assert_cmpint(fut_watch_state(vm.watch, waits), ==, FUT_WATCHED_IN);
    g_assert_cmpuint(hit(&vm), ==, 2);
    g_assert_true(fut_watch_remove(vm.watch, "kept", NULL));
    g_assert_true(fut_watch_remove(vm.watch, "waits", NULL));
    vm_done(&vm);
}

/* A guest whose kernel cannot be read is not read each time somebody says something; one that sees nothing is not waited for by monitors. */
static void test_unreadable(void)
{
    Vm vm;

    vm_init(&vm);
    fut_watch_tend(vm.watch, true);
    g_assert_cmpuint(vm.looks, ==, 0);
    memset(vm.guest.fixture.ram + PHYSICAL, 0, 0x400000);
    vm.look.syscall_entry = 0;
    added(&vm, "a", "kprobe:function_99", true);
    const FutWatched *watched = added(&vm, "b", "kprobe:function_98", true);
    vm.look.syscall_entry = vm.guest.look.syscall_entry;
    vm.looks = 0;
    for (unsigned i = 0; i < 100; i++) {
        g_assert_cmpint(fut_watch_tend(vm.watch, true), >, 0);
    }
    g_assert_cmpuint(vm.looks, >=, 100);
    g_assert_cmpuint(vm.looks, <,
                     150); /* one each time, and a few tries within the time that this took */
    g_assert_cmpint(fut_watch_state(vm.watch, watched), ==, FUT_WATCHED_WAITING);
    g_assert_cmpuint(fut_watch_seeing(vm.watch), ==, 0);

    put_image(&vm.guest, false, true);
    fut_watch_touch(vm.watch);
    fut_watch_tend(vm.watch, true);
    g_assert_cmpuint(fut_watch_seeing(vm.watch), ==, 2);
    g_assert_true(fut_watch_enable(vm.watch, "a", false, NULL));
    g_assert_cmpuint(fut_watch_seeing(vm.watch), ==, 1);
    vm.look.syscall_entry += 0x10;
    g_assert_cmpuint(fut_watch_seeing(vm.watch), ==, 0);
    g_assert_true(fut_watch_remove(vm.watch, "a", NULL));
    g_assert_true(fut_watch_remove(vm.watch, "b", NULL));
    vm_done(&vm);
}

static FutProbeSet *sent(Vm *vm)
{
    FutBuf bytes = { 0 };
    g_autoptr(GError) error = NULL;

    g_assert_true(fut_watch_changed(vm->watch, &bytes));
    FutProbeSet *set = fut_probe_set_decode(bytes.data, bytes.len, &error);
    g_assert_no_error(error);
    g_assert_false(fut_watch_changed(vm->watch, &bytes));
    fut_buf_done(&bytes);
    return set;
}

/* A backup has the guest's memory, and no vCPU that shows anything: it puts the primary's probes in all the same. */
static void test_twin(void)
{
    Vm vm, twin;

    vm_init(&vm);
    vm_init(&twin);
    twin.look.syscall_entry = 0;
    twin.look.memory.cr3 = 0;
    added(&vm, "in", "kprobe:__send_signal_locked { sig }", false);
    added(&vm, "out", "kretprobe:function_99", false);
    g_assert_true(fut_watch_enable(vm.watch, "out", false, NULL));
    fut_watch_replace(twin.watch, sent(&vm));
    g_assert_cmpint(fut_watch_tend(twin.watch, false), >, 0);
    g_assert_cmpuint(twin.inserted, ==, 0);
    g_assert_cmpint(fut_watch_tend(twin.watch, true), ==, -1);
    g_assert_cmpuint(twin.inserted, ==, 1);
    g_assert_cmpuint(hit(&twin), ==, 1);
    g_assert_cmpint(fut_watch_state(twin.watch, fut_watch_at(twin.watch, 1)), ==,
                    FUT_WATCHED_DISABLED);

    g_assert_true(fut_watch_remove(vm.watch, "in", NULL));
    g_assert_true(fut_watch_remove(vm.watch, "out", NULL));
    fut_watch_replace(twin.watch, sent(&vm));
    g_assert_null(fut_watch_at(twin.watch, 0));
    g_assert_cmpuint(twin.removed, ==, 1);
    vm_done(&vm);
    vm_done(&twin);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/watch/life", test_life);
    g_test_add_func("/watch/nothing-half-in", test_nothing_half_in);
    g_test_add_func("/watch/wait", test_wait);
    g_test_add_func("/watch/kexec", test_kexec);
    g_test_add_func("/watch/module", test_module);
    g_test_add_func("/watch/unreadable", test_unreadable);
    g_test_add_func("/watch/twin", test_twin);
    return g_test_run();
}
