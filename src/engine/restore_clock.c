/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "restore_clock.h"

#include "fut_clock.h"
#include "fut_error.h"
#include "guest_clock.h"

/* What a guest is not told by a clock that is set to the network's either. */
#define LATE_US 10000
/* The kernel is at its clock for a microsecond in each tick: twice in a row would be bad luck. */
#define TRIES 50
#define BETWEEN_US 2000
/* The vCPU may be in a process whose table lacks the kernel while it is looked at. */
#define LOOKS 3

G_STATIC_ASSERT(FUT_GUEST_CLOCK_WRITES <= FUT_GUEST_WRITES_MAX);

/* Kept for good if the VMM ends meanwhile: it may still use it. */
typedef struct {
    FutGuestClock clock;
    uint64_t by_ns;
    GError *error; /* of the last try */
} Step;

static unsigned make_step(void *opaque, FutGuestWrite writes[FUT_GUEST_WRITES_MAX])
{
    Step *step = opaque;
    unsigned count;

    g_clear_error(&step->error);
    return fut_guest_clock_step(&step->clock, step->by_ns, writes, &count, &step->error) ? count
                                                                                         : 0;
}

static FutGuestKernel *read_kernel(FutVmm *vmm, GError **error)
{
    FutGuestKernel *kernel = NULL;
    FutGuestLook look;

    for (int i = 0; i < LOOKS && !kernel; i++) {
        g_clear_error(error);
        if (!vmm->ops->guest_look(vmm, &look, error)) {
            return NULL;
        }
        kernel = fut_guest_kernel_read(&look, NULL, error);
    }
    return kernel;
}

/* False with an error; without one when the VMM ends, and then `step` is not the caller's any more. */
static bool take_step(FutVmm *vmm, Step *step, GError **error)
{
    for (int i = 0; i < TRIES; i++) {
        if (!vmm->ops->guest_write(vmm, make_step, step)) {
            return false;
        }
        if (!g_error_matches(step->error, FUT_ERROR, FUT_ERR_BUSY)) {
            break;
        }
        g_usleep(BETWEEN_US);
    }
    if (step->error) {
        g_propagate_error(error, g_steal_pointer(&step->error));
        return false;
    }
    return true;
}

static bool set_clock(FutVmm *vmm, uint64_t by_ns, GError **error)
{
    g_autoptr(FutGuestKernel) kernel = read_kernel(vmm, error);
    FutGuestClock clock;

    if (!kernel || !fut_guest_clock_find(kernel, &clock, error)) {
        return false;
    }
    Step *step = g_new(Step, 1);
    *step = (Step){ clock, by_ns, NULL };
    bool good = take_step(vmm, step, error);
    if (good || *error) {
        g_free(step);
    }
    return good;
}

static void tell(FutService *service, double late_s, double after_ms, const GError *error)
{
    g_autofree char *text =
        error ? g_strdup_printf("the guest's clock is %.1f s late, as the snapshot is old: %s: set "
                                "it in the guest, or let its time daemon do that",
                                late_s, error->message)
              : g_strdup_printf("the guest's clock was %.1f s late, and is set, %.0f ms after the "
                                "guest began to run",
                                late_s, after_ms);

    fut_service_report(service, "FUT-229", text);
}

void fut_restore_clock(FutService *service, const FutRestoreTimes *times)
{
    int64_t late_us = (int64_t)(times->run_us - times->time_us);
    g_autoptr(GError) error = NULL;

    if (!service->options->restore_clock || late_us < LATE_US || !service->vmm->ops->guest_write) {
        return;
    }
    bool good = set_clock(service->vmm, (uint64_t)late_us * 1000, &error);
    if (good || error) {
        tell(service, (double)late_us / G_USEC_PER_SEC,
             (double)(g_get_real_time() - (int64_t)times->run_us) / 1000, error);
    }
}
