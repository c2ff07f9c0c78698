/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Probes: putting them in and out, and what happens at a hit. */
#include "watch.h"

#include <string.h>

#include "fut_clock.h"
#include "fut_error.h"

/* The page tables that lead to the kernel may go while they are read: the process they belong to ended. */
#define READ_TRIES 3

struct FutWatch {
    FutVmm *vmm;
    void (*wake)(void *opaque);
    void *opaque;
    FutGuestKernel *kernel;
    /* Written by the control thread, read by vCPUs: set before the probe is put in, cleared after it was taken out. */
    FutProbe *_Atomic probes[FUT_PROBES_MAX];
    FutRecordRing *ring;
};

FutWatch *fut_watch_new(FutVmm *vmm, void (*wake)(void *opaque), void *opaque)
{
    FutWatch *watch = g_new0(FutWatch, 1);

    watch->vmm = vmm;
    watch->wake = wake;
    watch->opaque = opaque;
    watch->ring = fut_record_ring_new();
    return watch;
}

void fut_watch_free(FutWatch *watch)
{
    if (watch) {
        fut_record_ring_free(watch->ring);
        fut_guest_kernel_free(watch->kernel);
        g_free(watch);
    }
}

static bool check_supported(const FutWatch *watch, GError **error)
{
    if (!watch->vmm->ops->probe_insert) {
        g_set_error_literal(error, FUT_ERROR, FUT_ERR_UNSUPPORTED,
                            "this virtual machine monitor takes no probes");
        return false;
    }
    return true;
}

static bool read_kernel(FutWatch *watch, GError **error)
{
    g_autoptr(GError) fault = NULL;
    FutGuestLook look;

    for (int i = 0; i < READ_TRIES; i++) {
        g_clear_error(&fault);
        if (!watch->vmm->ops->guest_look(watch->vmm, &look, error)) {
            return false;
        }
        if (watch->kernel && watch->kernel->syscall_entry == look.syscall_entry) {
            return true;
        }
        FutGuestKernel *kernel = fut_guest_kernel_read(&look, &fault);
        if (kernel) {
            fut_guest_kernel_free(watch->kernel);
            watch->kernel = kernel;
            return true;
        }
    }
    g_propagate_error(error, g_steal_pointer(&fault));
    return false;
}

static int find(const FutWatch *watch, const char *name)
{
    for (unsigned i = 0; i < FUT_PROBES_MAX; i++) {
        const FutProbe *probe = fut_watch_probe(watch, i);
        if (probe && strcmp(probe->name, name) == 0) {
            return (int)i;
        }
    }
    return -1;
}

/* -1: none is free. */
static int free_number(const FutWatch *watch)
{
    for (unsigned i = 0; i < FUT_PROBES_MAX; i++) {
        if (!fut_watch_probe(watch, i)) {
            return (int)i;
        }
    }
    return -1;
}

/* Its number, or -1 with an error. */
static int room_for(const FutWatch *watch, const FutProbe *probe, GError **error)
{
    if (find(watch, probe->name) >= 0) {
        g_set_error(
            error, FUT_ERROR, FUT_ERR_BUSY,
            "there is a probe '%s' already: remove it, or give this one another name (--name)",
            probe->name);
        return -1;
    }
    int number = free_number(watch);
    if (number < 0) {
        g_set_error(error, FUT_ERROR, FUT_ERR_BUSY, "%d probes are in: remove one first",
                    FUT_PROBES_MAX);
    }
    return number;
}

const FutProbe *fut_watch_add(FutWatch *watch, const char *name, const char *text,
                              const char *filter, GError **error)
{
    FutVmm *vmm = watch->vmm;

    if (!check_supported(watch, error) || !read_kernel(watch, error)) {
        return NULL;
    }
    g_autoptr(FutProbe) probe = fut_probe_new(watch->kernel, name, text, filter, error);
    int number = probe ? room_for(watch, probe, error) : -1;
    if (number < 0) {
        return NULL;
    }
    /* A vCPU may come by before probe_insert() returns. */
    atomic_store(&watch->probes[number], probe);
    if (!vmm->ops->probe_insert(vmm, (unsigned)number, probe, error)) {
        atomic_store(&watch->probes[number], NULL);
        return NULL;
    }
    return g_steal_pointer(&probe);
}

bool fut_watch_remove(FutWatch *watch, const char *name, GError **error)
{
    int number = find(watch, name);

    if (number < 0) {
        g_set_error(error, FUT_ERROR, FUT_ERR_ARG,
                    "there is no probe '%s': futago probe list shows those that are in", name);
        return false;
    }
    if (!watch->vmm->ops->probe_remove(watch->vmm, (unsigned)number)) {
        g_set_error_literal(error, FUT_ERROR, FUT_ERR_STATE, "the VM is about to end");
        return false;
    }
    fut_probe_unref(atomic_exchange(&watch->probes[number], NULL));
    return true;
}

const FutProbe *fut_watch_probe(const FutWatch *watch, unsigned number)
{
    return atomic_load(&watch->probes[number]);
}

const FutGuestKernel *fut_watch_kernel(const FutWatch *watch)
{
    return watch->kernel;
}

bool fut_watch_is_stale(const FutWatch *watch, const FutProbe *probe)
{
    FutGuestLook look;

    return !watch->vmm->ops->guest_look(watch->vmm, &look, NULL) ||
           look.syscall_entry != probe->syscall_entry;
}

int fut_watch_share(FutWatch *watch, GError **error)
{
    return fut_record_ring_share(watch->ring, error);
}

bool fut_watch_next(FutWatch *watch, uint64_t *place, FutProbeRecord *ret, uint64_t *ret_lost)
{
    return fut_record_ring_next(watch->ring, place, ret, ret_lost);
}

/* NULL: there is none, or it is not for the kernel that runs: after a restart something else may stand at that address. */
static FutProbe *probe_of(FutWatch *watch, unsigned number, const FutProbeHit *hit)
{
    FutProbe *probe = atomic_load(&watch->probes[number]);

    return probe && hit->syscall_entry == probe->syscall_entry ? probe : NULL;
}

static void look(FutWatch *watch, FutProbe *probe, const FutProbeHit *hit, uint64_t now_ns)
{
    FutProbeValue values[FUT_PROBE_FIELDS_MAX];

    if (fut_probe_evaluate(probe, hit, values) &&
        fut_record_ring_put(watch->ring, probe, hit, values, now_ns)) {
        watch->wake(watch->opaque);
    }
}

uint64_t fut_watch_hit(FutWatch *watch, unsigned number, const FutProbeHit *hit)
{
    FutProbe *probe = probe_of(watch, number, hit);
    uint64_t begin_ns = fut_now_ns(), back = 0;

    if (!probe) {
        return 0;
    }
    atomic_fetch_add(&probe->hits, 1);
    if (fut_probe_is_too_hot(probe, begin_ns)) {
        return 0;
    }
    if (probe->calls) {
        back = fut_probe_enter(probe, hit);
    } else {
        look(watch, probe, hit, begin_ns);
    }
    fut_probe_spent(probe, fut_now_ns() - begin_ns);
    return back;
}

void fut_watch_returned(FutWatch *watch, unsigned number, const FutProbeHit *hit)
{
    FutProbe *probe = probe_of(watch, number, hit);
    FutProbeHit whole = *hit;
    uint64_t begin_ns = fut_now_ns();

    if (!probe || !fut_probe_leave(probe, &whole) || fut_probe_is_too_hot(probe, begin_ns)) {
        return;
    }
    look(watch, probe, &whole, begin_ns);
    fut_probe_spent(probe, fut_now_ns() - begin_ns);
}

void fut_watch_unreturned(FutWatch *watch, unsigned number, const FutProbeHit *hit)
{
    FutProbe *probe = probe_of(watch, number, hit);

    if (probe) {
        fut_probe_give_up(probe, hit);
    }
}
