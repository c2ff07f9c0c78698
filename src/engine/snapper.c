/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The snapshot thread. */
#include <string.h>
#include <time.h>

#include "fut_clock.h"
#include "fut_error.h"
#include "snapper_internal.h"

/* Longest wait for a cut or a write before the next look. */
#define STEP_WAIT_US 10000
/* How often the use of the vCPUs is looked at. */
#define SAMPLE_US 500000

void fut_snap_order_clear(FutSnapOrder *order)
{
    g_free(order->store);
    g_free(order->reason);
    *order = (FutSnapOrder){ 0 };
}

FutSnapper *fut_snapper_new(FutService *service)
{
    FutSnapper *snapper = g_new0(FutSnapper, 1);

    snapper->service = service;
    g_mutex_init(&snapper->lock);
    g_cond_init(&snapper->changed);
    g_cond_init(&snapper->ended);
    return snapper;
}

void fut_snapper_free(FutSnapper *snapper)
{
    if (snapper) {
        g_mutex_clear(&snapper->lock);
        g_cond_clear(&snapper->changed);
        g_cond_clear(&snapper->ended);
        g_free(snapper);
    }
}

/* -- host operations -- */

void fut_snapper_poke(FutSnapper *snapper)
{
    g_mutex_lock(&snapper->lock);
    snapper->poked = true;
    g_cond_signal(&snapper->changed);
    g_mutex_unlock(&snapper->lock);
}

static bool fault(void *opaque, const uint8_t *address)
{
    const FutSnapper *snapper = opaque;

    return fut_series_fault(snapper->service->engine, address);
}

bool fut_snapper_guard_open(FutSnapper *snapper, const FutMemory *memory)
{
    snapper->guard = fut_guard_new(memory, fault, snapper);
    return snapper->guard != NULL;
}

void fut_snapper_guard_close(FutSnapper *snapper)
{
    /* Its thread may be letting somebody go, who came at the very end: it uses the pointer until it has ended. */
    fut_guard_free(snapper->guard);
    snapper->guard = NULL;
}

void fut_snapper_background(FutSnapper *snapper, bool on)
{
    fut_background_set(&snapper->background, on);
}

void fut_snapper_give_way(FutSnapper *snapper)
{
    fut_background_give_way(&snapper->background);
}

bool fut_snapper_guard(FutSnapper *snapper, uint8_t *at, size_t length, bool on)
{
    return fut_guard_set(snapper->guard, at, length, on);
}

/* -- one snapshot -- */

static bool use_store(FutSnapper *snapper, const char *path, GError **error)
{
    if (snapper->store && strcmp(snapper->store_path, path) == 0) {
        return true;
    }
    FutSnapStore *store = fut_snap_store_open(path, error);
    if (!store) {
        return false;
    }
    fut_snap_store_close(snapper->store);
    g_free(snapper->store_path);
    snapper->store = store;
    snapper->store_path = g_strdup(path);
    snapper->parent = 0;
    return true;
}

static void wait_for_poke(FutSnapper *snapper)
{
    g_mutex_lock(&snapper->lock);
    if (!snapper->poked) {
        g_cond_wait_until(&snapper->changed, &snapper->lock, g_get_monotonic_time() + STEP_WAIT_US);
    }
    snapper->poked = false;
    g_mutex_unlock(&snapper->lock);
}

static bool make_steps(FutSnapper *snapper, FutSeriesCut *ret, GError **error)
{
    FutStep step;

    do {
        step = fut_series_step(snapper->service->engine, ret, error);
        if (step == FUT_STEP_WAIT) {
            wait_for_poke(snapper);
        }
    } while (step == FUT_STEP_MORE || step == FUT_STEP_WAIT);
    return step == FUT_STEP_DONE;
}

static void tell_damaged(FutSnapper *snapper, uint64_t parent)
{
    g_autofree char *text = g_strdup_printf(
        "snapshot %" G_GUINT64_FORMAT
        " in %s is damaged (%s): this one is taken in full; futago snapshot verify %s says what "
        "else that costs",
        parent, snapper->store_path, fut_snap_store_damage(snapper->store), snapper->store_path);
    fut_service_report(snapper->service, "FUT-246", text);
}

static bool take_once(FutSnapper *snapper, const FutSnapOrder *order, FutSnapOutcome *outcome,
                      GError **error)
{
    FutService *service = snapper->service;
    uint64_t parent = fut_series_based(service->engine) && !order->full ? snapper->parent : 0;
    uint64_t wanted = parent;
    if (!fut_snap_store_begin(snapper->store, service->vmm, service->options->vm, order->reason,
                              &parent, order->min_free, error)) {
        return false;
    }
    if (fut_snap_store_damage(snapper->store)) {
        tell_damaged(snapper, wanted);
        snapper->parent = 0;
    }
    FutSeriesOrder series = { &fut_snap_store_ops, snapper->store, parent == 0, order->hash,
                              order->soon };
    if (!fut_series_begin(service->engine, &series, error) ||
        !make_steps(snapper, &outcome->cut, error)) {
        fut_snap_store_abort(snapper->store);
        return false;
    }
    const FutSnapshotInfo *info = fut_snap_store_info(snapper->store);
    outcome->id = snapper->parent = info->id;
    outcome->parent = info->parent;
    outcome->stored = info->stored;
    outcome->total_ns = fut_now_ns() - order->asked_ns;
    return true;
}

/* A damaged parent costs a full snapshot, not all that would follow. */
static bool take(FutSnapper *snapper, const FutSnapOrder *order, FutSnapOutcome *outcome,
                 GError **error)
{
    GError *failure = NULL;

    if (!use_store(snapper, order->store, error)) {
        return false;
    }
    bool good = take_once(snapper, order, outcome, &failure);
    if (!good && fut_snap_store_damage(snapper->store) && snapper->parent != 0) {
        tell_damaged(snapper, snapper->parent);
        g_clear_error(&failure);
        snapper->parent = 0;
        good = take_once(snapper, order, outcome, &failure);
    }
    if (g_error_matches(failure, FUT_ERROR, FUT_ERR_MISMATCH)) {
        g_clear_error(&failure); /* the backup took over just now */
        good = take_once(snapper, order, outcome, &failure);
    }
    if (failure) {
        g_propagate_error(error, failure);
    }
    return good;
}

/* -- telling of it -- */

static void tell_done(FutService *service, const FutSnapOrder *order, const FutSnapOutcome *outcome)
{
    const FutSeriesCut *cut = &outcome->cut;
    g_autofree char *of = outcome->parent
                              ? g_strdup_printf("since %" G_GUINT64_FORMAT, outcome->parent)
                              : g_strdup("in full");
    g_autofree char *cost =
        cut->epoch ? g_strdup_printf("the backup's image of epoch %" G_GUINT64_FORMAT, cut->epoch)
                   : g_strdup_printf("guest stopped %.2f ms", (double)cut->stop_ns / 1e6);
    g_autofree char *text =
        g_strdup_printf("snapshot %" G_GUINT64_FORMAT
                        " in %s, %s (%s): %.1f MB of memory and %.1f MB of disks read, "
                        "%.1f MB stored; %s, %.0f ms in all",
                        outcome->id, order->store, of, order->reason,
                        (double)cut->pages * FUT_PAGE_SIZE / 1e6, (double)cut->disk_bytes / 1e6,
                        (double)outcome->stored / 1e6, cost, (double)outcome->total_ns / 1e6);
    fut_service_report(service, "FUT-240", text);
}

static void tell_failed(FutService *service, const FutSnapOrder *order, const GError *error)
{
    g_autofree char *text = g_strdup_printf("no snapshot (%s) into %s: %s", order->reason,
                                            order->store, error->message);
    fut_service_report(service, "FUT-241", text);
}

/* Lock held. */
static void answer_waiter(FutSnapper *snapper, const FutSnapOutcome *outcome)
{
    FutSnapWaiter *waiter = snapper->waiter;

    if (waiter && waiter->number == outcome->number) {
        waiter->done = true;
        waiter->id = outcome->id;
        waiter->error = outcome->error
                            ? g_error_new_literal(FUT_ERROR, (int)outcome->code, outcome->error)
                            : NULL;
    }
    g_cond_broadcast(&snapper->ended);
}

static void note_outcome(FutSnapper *snapper, FutSnapOutcome *take_outcome)
{
    g_mutex_lock(&snapper->lock);
    g_free(snapper->last.error);
    snapper->last = *take_outcome;
    snapper->running = false;
    answer_waiter(snapper, take_outcome);
    if (snapper->automatic && take_outcome->error) {
        fut_snap_clock_failed(&snapper->clock);
    } else if (snapper->automatic) {
        fut_snap_clock_done(&snapper->clock, take_outcome->cut.stop_ns, take_outcome->cut.faults);
    }
    g_mutex_unlock(&snapper->lock);
}

/* Nobody waits for it; and who orders the next one waits for a piece of it at most. */
static void prepare_next(FutSnapper *snapper)
{
    bool more = true;

    while (more) {
        more = fut_series_prepare(snapper->service->engine);
        g_mutex_lock(&snapper->lock);
        more = more && !snapper->wanted && !snapper->end_wanted;
        g_mutex_unlock(&snapper->lock);
    }
}

static void carry_out(FutSnapper *snapper, const FutSnapOrder *order, uint64_t number)
{
    FutSnapOutcome outcome = { .number = number };
    g_autoptr(GError) error = NULL;

    if (take(snapper, order, &outcome, &error)) {
        tell_done(snapper->service, order, &outcome);
    } else {
        tell_failed(snapper->service, order, error);
        outcome.error = g_strdup(error->message);
        outcome.code = error->domain == FUT_ERROR ? (FutErr)error->code : FUT_ERR_IO;
    }
    note_outcome(snapper, &outcome);
    prepare_next(snapper);
    if (order->automatic) {
        fut_snapper_prune(snapper, order);
    }
}

/* -- the guest's use of its vCPUs -- */

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec time;

    clock_gettime(clock, &time);
    return (uint64_t)time.tv_sec * FUT_NS_PER_S + (uint64_t)time.tv_nsec;
}

static unsigned count_vcpus(FutVmm *vmm)
{
    g_auto(GStrv) lines = NULL;
    unsigned count = 1;

    if (vmm->ops->describe(vmm, &lines, NULL)) {
        for (char **line = lines; *line; line++) {
            if (g_str_has_prefix(*line, "vcpus=")) {
                count = MAX(1u, (unsigned)g_ascii_strtoull(*line + 6, NULL, 10));
            }
        }
    }
    return count;
}

/* What the process used and this thread did not: the guest, as good as. */
static void sample_cpu(FutSnapper *snapper)
{
    uint64_t now_ns = fut_now_ns();
    uint64_t cpu_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - clock_ns(CLOCK_THREAD_CPUTIME_ID);
    uint64_t since_ns = now_ns - snapper->sampled_ns;

    if (snapper->sampled_ns != 0 && since_ns < SAMPLE_US / 2 * FUT_NS_PER_US) {
        return;
    }
    snapper->vcpus = snapper->vcpus ? snapper->vcpus : count_vcpus(snapper->service->vmm);
    if (snapper->sampled_ns != 0) {
        double busy = (double)(cpu_ns - snapper->sampled_cpu_ns) / (double)since_ns;
        g_mutex_lock(&snapper->lock);
        fut_snap_clock_busy(&snapper->clock, busy / snapper->vcpus);
        g_mutex_unlock(&snapper->lock);
    }
    snapper->sampled_ns = now_ns;
    snapper->sampled_cpu_ns = cpu_ns;
}

/* -- the thread -- */

/* Lock held: what is to be done now. */
static bool next_order(FutSnapper *snapper, FutSnapOrder *ret, uint64_t *ret_number)
{
    uint64_t now_ns = fut_now_ns();
    bool due = snapper->automatic && now_ns >= fut_snap_clock_due(&snapper->clock);

    if (snapper->wanted) {
        *ret = snapper->order;
        snapper->order = (FutSnapOrder){ 0 };
        snapper->wanted = false;
        *ret_number = snapper->ordered;
    } else if (due) {
        *ret = (FutSnapOrder){ .store = g_strdup(snapper->auto_store),
                               .reason = g_strdup(FUT_SNAPPER_BY_SCHEDULE),
                               .asked_ns = now_ns,
                               .min_free = snapper->bounds.min_free,
                               .bounds = snapper->bounds,
                               .automatic = true };
        *ret_number = 0;
    } else {
        return false;
    }
    fut_snap_clock_began(&snapper->clock, now_ns);
    snapper->running = true;
    return true;
}

/* Lock held. */
static void wait_for_order(FutSnapper *snapper)
{
    uint64_t wait_us = G_USEC_PER_SEC * 3600ull;

    if (snapper->automatic) {
        uint64_t now_ns = fut_now_ns(), due_ns = fut_snap_clock_due(&snapper->clock);
        wait_us = MIN(SAMPLE_US, due_ns > now_ns ? (due_ns - now_ns) / FUT_NS_PER_US + 1 : 0);
    }
    if (wait_us > 0) {
        g_cond_wait_until(&snapper->changed, &snapper->lock,
                          g_get_monotonic_time() + (gint64)wait_us);
    }
    snapper->poked = false;
}

static void end_series(FutSnapper *snapper)
{
    fut_series_end(snapper->service->engine);
    fut_snap_store_close(g_steal_pointer(&snapper->store));
    g_clear_pointer(&snapper->store_path, g_free);
    snapper->parent = 0;
}

void *fut_snapper_thread(void *opaque)
{
    FutSnapper *snapper = ((FutService *)opaque)->snapper;

    fut_background_init(&snapper->background);
    g_mutex_lock(&snapper->lock);
    for (;;) {
        FutSnapOrder order = { 0 };
        uint64_t number;
        bool sample = snapper->automatic, found = next_order(snapper, &order, &number);
        bool end = !found && snapper->end_wanted;
        snapper->end_wanted &= !end;
        if (!found && !end && !sample) {
            wait_for_order(snapper);
            continue;
        }
        g_mutex_unlock(&snapper->lock);
        if (found) {
            carry_out(snapper, &order, number);
            fut_snap_order_clear(&order);
        } else if (end) {
            end_series(snapper);
        } else {
            sample_cpu(snapper);
        }
        g_mutex_lock(&snapper->lock);
        if (!found && !end && !snapper->wanted && !snapper->end_wanted) {
            wait_for_order(snapper);
        }
    }
    return NULL;
}
