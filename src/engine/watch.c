/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Probes: putting them in and out. */
#include "watch.h"

#include <string.h>

#include "fut_clock.h"
#include "fut_error.h"
#include "watch_internal.h"

/* The page tables that lead to the kernel may go while they are read: the process they belong to ended. */
#define READ_TRIES 3
/* Between two looks: at a guest that does not boot yet, and at one whose kernel is no Linux, or the same as before. */
#define BOOT_POLL_MS 50
#define KERNEL_POLL_MS 500
/* Each try may read a whole kernel: what fails is tried less and less often. */
#define TRY_MAX_MS 16000u

FutWatch *fut_watch_new(FutVmm *vmm, void (*wake)(void *opaque), void *opaque)
{
    FutWatch *watch = g_new0(FutWatch, 1);

    watch->vmm = vmm;
    watch->wake = wake;
    watch->opaque = opaque;
    watch->ring = fut_record_ring_new();
    return watch;
}

static void clear_entry(FutWatch *watch, unsigned number)
{
    FutWatched *watched = &watch->watched[number];

    fut_probe_unref(watched->probe);
    fut_probe_definition_free(watched->definition);
    g_free(watched->reason);
    *watched = (FutWatched){ 0 };
}

void fut_watch_free(FutWatch *watch)
{
    if (watch) {
        for (unsigned i = 0; i < FUT_PROBES_MAX; i++) {
            g_assert(!watch->watched[i].in);
            clear_entry(watch, i);
        }
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

/* -- the kernel -- */

/* The vCPU as it is; on a backup, whose vCPUs have no state yet, as the primary says. */
static bool look_at(const FutWatch *watch, FutGuestLook *ret, GError **error)
{
    if (!watch->vmm->ops->guest_look(watch->vmm, ret, error)) {
        return false;
    }
    if (ret->syscall_entry == 0 && watch->hint.syscall_entry != 0) {
        ret->syscall_entry = watch->hint.syscall_entry;
        ret->memory.cr3 = watch->hint.table;
        ret->memory.five_levels = watch->hint.five_levels;
    }
    return true;
}

/* Is the kernel that was read the one that runs, and are its symbols those that are wanted? */
static bool is_read(const FutWatch *watch, const FutGuestLook *look, const char *symbols)
{
    return watch->kernel && watch->kernel->boot == look->boot &&
           watch->kernel->syscall_entry == look->syscall_entry &&
           (!symbols || g_strcmp0(symbols, watch->kernel->symbol_file) == 0);
}

/* Another kernel was started in the place of the one that was read, and vCPUs look as before: its probes are told. */
static void notice_other(FutWatch *watch, const FutGuestLook *look)
{
    if (!is_read(watch, look, NULL) || fut_guest_kernel_runs(watch->kernel, look)) {
        return;
    }
    for (unsigned i = 0; i < FUT_PROBES_MAX; i++) {
        if (watch->watched[i].probe) {
            atomic_store(&watch->watched[i].probe->gone, true);
        }
    }
    fut_guest_kernel_free(g_steal_pointer(&watch->kernel));
}

static bool read_kernel(FutWatch *watch, const char *symbols, GError **error)
{
    g_autoptr(GError) fault = NULL;
    FutGuestLook look;

    for (int i = 0; i < READ_TRIES; i++) {
        g_clear_error(&fault);
        if (!look_at(watch, &look, error)) {
            return false;
        }
        notice_other(watch, &look);
        if (is_read(watch, &look, symbols)) {
            return true;
        }
        FutGuestKernel *kernel = fut_guest_kernel_read(&look, symbols, &fault);
        if (kernel) {
            fut_guest_kernel_free(watch->kernel);
            watch->kernel = kernel;
            return true;
        }
    }
    g_propagate_error(error, g_steal_pointer(&fault));
    return false;
}

/* Is it another kernel than the probe was made for, or another start of the same? Or has its module gone? */
static bool is_stale(const FutProbe *probe, const FutGuestLook *look)
{
    return look->boot != probe->boot || look->syscall_entry != probe->syscall_entry ||
           atomic_load(&probe->gone) || !fut_probe_is_there(probe, &probe->memory);
}

/* -- one probe -- */

static bool put_in(FutWatch *watch, unsigned number, GError **error)
{
    FutWatched *watched = &watch->watched[number];
    FutVmm *vmm = watch->vmm;

    /* A vCPU may come by before probe_insert() returns. */
    atomic_store(&watch->probes[number], watched->probe);
    if (!vmm->ops->probe_insert(vmm, number, watched->probe, error)) {
        atomic_store(&watch->probes[number], NULL);
        return false;
    }
    watched->in = true;
    return true;
}

static bool take_out(FutWatch *watch, unsigned number, GError **error)
{
    FutWatched *watched = &watch->watched[number];

    if (watched->in && !watch->vmm->ops->probe_remove(watch->vmm, number)) {
        g_set_error_literal(error, FUT_ERROR, FUT_ERR_STATE, "the VM is about to end");
        return false;
    }
    atomic_store(&watch->probes[number], NULL);
    watched->in = false;
    return true;
}

/* What a probe can wait for. */
typedef enum {
    MISSING_NOTHING,
    MISSING_KERNEL,
    MISSING_MODULE
} Missing;

/* Makes it ready for the kernel that runs, and puts it in. */
static bool resolve(FutWatch *watch, unsigned number, Missing *ret_missing, GError **error)
{
    FutWatched *watched = &watch->watched[number];
    const FutProbeDefinition *wanted = watched->definition;
    GError *fault = NULL;

    *ret_missing = MISSING_KERNEL;
    if (!read_kernel(watch, wanted->symbols, error)) {
        return false;
    }
    watched->probe =
        fut_probe_new(watch->kernel, wanted->name, wanted->text, wanted->filter, &fault);
    *ret_missing =
        g_error_matches(fault, FUT_ERROR, FUT_ERR_STATE) ? MISSING_MODULE : MISSING_NOTHING;
    if (!watched->probe) {
        g_propagate_error(error, fault);
        return false;
    }
    if (!wanted->disabled && !put_in(watch, number, error)) {
        fut_probe_unref(g_steal_pointer(&watched->probe));
        return false;
    }
    g_clear_pointer(&watched->reason, g_free);
    return true;
}

static void let_wait(FutWatched *watched, const GError *why)
{
    g_free(watched->reason);
    watched->reason = g_strdup(why->message);
}

/* -- all of them -- */

static int find(const FutWatch *watch, const char *name)
{
    for (unsigned i = 0; i < FUT_PROBES_MAX; i++) {
        const FutWatched *watched = fut_watch_at(watch, i);
        if (watched && strcmp(watched->definition->name, name) == 0) {
            return (int)i;
        }
    }
    return -1;
}

static int find_or_fail(const FutWatch *watch, const char *name, GError **error)
{
    int number = find(watch, name);

    if (number < 0) {
        g_set_error(error, FUT_ERROR, FUT_ERR_ARG,
                    "there is no probe '%s': futago probe list shows those that are in", name);
    }
    return number;
}

/* -1: none is free. */
static int free_number(const FutWatch *watch)
{
    for (unsigned i = 0; i < FUT_PROBES_MAX; i++) {
        if (!fut_watch_at(watch, i)) {
            return (int)i;
        }
    }
    return -1;
}

/* Its number, or -1 with an error. */
static int room_for(const FutWatch *watch, const char *name, GError **error)
{
    if (find(watch, name) >= 0) {
        g_set_error(
            error, FUT_ERROR, FUT_ERR_BUSY,
            "there is a probe '%s' already: remove it, or give this one another name (--name)",
            name);
        return -1;
    }
    int number = free_number(watch);
    if (number < 0) {
        g_set_error(error, FUT_ERROR, FUT_ERR_BUSY, "%d probes are in: remove one first",
                    FUT_PROBES_MAX);
    }
    return number;
}

const FutWatched *fut_watch_add(FutWatch *watch, const FutProbeDefinition *from, GError **error)
{
    g_autoptr(FutProbeDefinition) definition =
        check_supported(watch, error) ? fut_probe_definition_new(from, error) : NULL;
    FutGuestLook unused;

    /* Where no probe can ever be put in there is nothing to wait for. */
    if (!definition || !watch->vmm->ops->guest_look(watch->vmm, &unused, error)) {
        return NULL;
    }
    int number = room_for(watch, definition->name, error);
    if (number < 0) {
        return NULL;
    }
    g_autoptr(GError) fault = NULL;
    FutWatched *watched = &watch->watched[number];
    Missing missing;
    watched->definition = g_steal_pointer(&definition);
    if (!resolve(watch, (unsigned)number, &missing, &fault)) {
        if (missing == MISSING_NOTHING || !from->wait) {
            clear_entry(watch, (unsigned)number);
            g_propagate_error(error, g_steal_pointer(&fault));
            return NULL;
        }
        let_wait(watched, fault);
    }
    watch->changed = true;
    return watched;
}

bool fut_watch_remove(FutWatch *watch, const char *name, GError **error)
{
    int number = find_or_fail(watch, name, error);

    if (number < 0 || !take_out(watch, (unsigned)number, error)) {
        return false;
    }
    clear_entry(watch, (unsigned)number);
    watch->changed = true;
    return true;
}

bool fut_watch_enable(FutWatch *watch, const char *name, bool enabled, GError **error)
{
    int number = find_or_fail(watch, name, error);

    if (number < 0) {
        return false;
    }
    FutWatched *watched = &watch->watched[number];
    bool done = !enabled                         ? take_out(watch, (unsigned)number, error)
                : watched->probe && !watched->in ? put_in(watch, (unsigned)number, error)
                                                 : true;
    if (done) {
        watched->definition->disabled = !enabled;
        watch->changed = true;
    }
    return done;
}

const FutWatched *fut_watch_at(const FutWatch *watch, unsigned number)
{
    const FutWatched *watched = &watch->watched[number];

    return watched->definition ? watched : NULL;
}

FutWatchedState fut_watch_state(const FutWatch *watch, const FutWatched *watched)
{
    FutGuestLook look;

    if (!watched->probe) {
        return watched->definition->disabled ? FUT_WATCHED_DISABLED : FUT_WATCHED_WAITING;
    }
    if (!look_at(watch, &look, NULL) || is_stale(watched->probe, &look)) {
        return FUT_WATCHED_STALE;
    }
    return watched->in ? FUT_WATCHED_IN : FUT_WATCHED_DISABLED;
}

void fut_watch_notice(FutWatch *watch)
{
    FutGuestLook look;

    if (watch->kernel && look_at(watch, &look, NULL)) {
        notice_other(watch, &look);
    }
}

unsigned fut_watch_seeing(const FutWatch *watch)
{
    unsigned count = 0;

    for (unsigned i = 0; i < FUT_PROBES_MAX; i++) {
        const FutWatched *watched = fut_watch_at(watch, i);
        count += watched && watched->in && fut_watch_state(watch, watched) == FUT_WATCHED_IN;
    }
    return count;
}

const FutGuestKernel *fut_watch_kernel(const FutWatch *watch)
{
    return watch->kernel;
}

const FutGuestKernel *fut_watch_read_kernel(FutWatch *watch, GError **error)
{
    return check_supported(watch, error) && read_kernel(watch, NULL, error) ? watch->kernel : NULL;
}

int fut_watch_share(FutWatch *watch, GError **error)
{
    return fut_record_ring_share(watch->ring, error);
}

bool fut_watch_next(FutWatch *watch, uint64_t *place, FutProbeRecord *ret, uint64_t *ret_lost)
{
    return fut_record_ring_next(watch->ring, place, ret, ret_lost);
}

/* -- those that wait -- */

/* The guest runs another kernel now: one that may wait is made ready for that. */
static void drop_stale(FutWatch *watch, unsigned number, const FutGuestLook *look)
{
    FutWatched *watched = &watch->watched[number];

    if (watched->definition && watched->definition->wait && watched->probe &&
        is_stale(watched->probe, look) && take_out(watch, number, NULL)) {
        fut_probe_unref(g_steal_pointer(&watched->probe));
        watched->reason = g_strdup("the guest starts anew");
    }
}

/* False: there is no kernel to be read, so that others of the same symbols need not be tried now. */
static bool try_again(FutWatch *watch, unsigned number)
{
    g_autoptr(GError) fault = NULL;
    Missing missing;

    if (resolve(watch, number, &missing, &fault)) {
        watch->changed = true;
    } else {
        let_wait(&watch->watched[number], fault);
    }
    return missing != MISSING_KERNEL;
}

static bool is_tended(const FutWatched *watched)
{
    return watched->definition && (!watched->probe || watched->definition->wait);
}

static unsigned count_tended(const FutWatch *watch, bool waiting)
{
    unsigned count = 0;

    for (unsigned i = 0; i < FUT_PROBES_MAX; i++) {
        const FutWatched *watched = &watch->watched[i];
        count += is_tended(watched) && (!waiting || !watched->probe);
    }
    return count;
}

static void try_all(FutWatch *watch, const FutGuestLook *look, uint64_t now_ns)
{
    const FutWatched *unread = NULL;

    if (watch->tries.syscall_entry != look->syscall_entry) {
        watch->tries.wait_ms = 0;
    } else if (now_ns < watch->tries.next_ns) {
        return;
    }
    for (unsigned i = 0; i < FUT_PROBES_MAX; i++) {
        const FutWatched *watched = &watch->watched[i];
        if (!watched->definition || watched->probe ||
            (unread && g_strcmp0(unread->definition->symbols, watched->definition->symbols) == 0)) {
            continue;
        }
        if (!try_again(watch, i)) {
            unread = watched;
        }
    }
    watch->tries.syscall_entry = look->syscall_entry;
    watch->tries.wait_ms = count_tended(watch, true) == 0
                               ? 0
                               : CLAMP(2 * watch->tries.wait_ms, KERNEL_POLL_MS, TRY_MAX_MS);
    watch->tries.next_ns = fut_now_ns() + watch->tries.wait_ms * FUT_NS_PER_MS;
}

int fut_watch_tend(FutWatch *watch, bool image)
{
    FutGuestLook look;

    if (count_tended(watch, false) == 0 || !watch->vmm->ops->guest_look ||
        !look_at(watch, &look, NULL)) {
        return -1;
    }
    notice_other(watch, &look);
    for (unsigned i = 0; i < FUT_PROBES_MAX; i++) {
        drop_stale(watch, i, &look);
    }
    if (look.syscall_entry == 0 || !image) {
        return BOOT_POLL_MS;
    }
    try_all(watch, &look, fut_now_ns());
    return count_tended(watch, false) > 0 ? KERNEL_POLL_MS : -1;
}

/* -- the pair -- */

void fut_watch_touch(FutWatch *watch)
{
    watch->tries.next_ns = 0;
    memset(&watch->hint, 0, sizeof(watch->hint)); /* the vCPUs have a state now */
    watch->changed = true;
}

bool fut_watch_changed(FutWatch *watch, FutBuf *out)
{
    g_autoptr(FutProbeSet) set = fut_probe_set_new();

    if (!watch->changed) {
        return false;
    }
    watch->changed = false;
    if (watch->kernel) {
        set->syscall_entry = watch->kernel->syscall_entry;
        set->table = watch->kernel->memory.cr3;
        set->five_levels = watch->kernel->memory.five_levels;
    }
    for (unsigned i = 0; i < FUT_PROBES_MAX; i++) {
        const FutWatched *watched = fut_watch_at(watch, i);
        if (watched) {
            /* They are copied when they are encoded. */
            g_ptr_array_add(set->definitions, watched->definition);
        }
    }
    fut_probe_set_encode(out, set);
    g_ptr_array_set_free_func(set->definitions, NULL);
    return true;
}

void fut_watch_replace(FutWatch *watch, FutProbeSet *take_set)
{
    g_autoptr(FutProbeSet) set = take_set;

    for (unsigned i = 0; i < FUT_PROBES_MAX; i++) {
        if (take_out(watch, i, NULL)) {
            clear_entry(watch, i);
        }
    }
    fut_guest_kernel_free(g_steal_pointer(&watch->kernel));
    watch->tries.syscall_entry = 0;
    watch->hint.syscall_entry = set->syscall_entry;
    watch->hint.table = set->table;
    watch->hint.five_levels = set->five_levels;
    while (set->definitions->len > 0) {
        int number = free_number(watch);
        g_autoptr(FutProbeDefinition) definition = g_ptr_array_steal_index(set->definitions, 0);
        if (number >= 0) {
            watch->watched[number].reason = g_strdup("the image of the guest is not complete");
            watch->watched[number].definition = g_steal_pointer(&definition);
        }
    }
}
