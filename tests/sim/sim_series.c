/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Snapshots of the running guest, at any time and in the middle of whatever goes wrong: each that comes about must be the guest at its
 * cut, memory, registers and disks, whatever was written meanwhile, and the pair must not notice. Chances of its own. */
#include "sim.h"

#include "engine_internal.h"
#include "fut_error.h"

#define STEP_DELAY_MAX_NS (100 * FUT_NS_PER_US)
#define NEXT_DELAY_MAX_NS (8 * FUT_NS_PER_MS)
#define WAIT_NS (10 * FUT_NS_PER_MS)

static uint64_t seed_of(const SimHost *host, uint64_t what)
{
    return sim_mix(host->sim->series_seed + what + host->life * SIM_HOSTS + host->index);
}

void sim_series_config(const SimHost *host, FutEngineConfig *config)
{
    SimRandom random = { seed_of(host, 1u << 20) };
    unsigned pages = host->sim->profile.pages;

    config->series_copy_max_pages = (uint32_t)sim_below(&random, pages);
    config->series_early_max_pages =
        sim_chance(&random, 30) ? 0 : (uint32_t)sim_between(&random, 1, 2 * pages);
}

void sim_series_init(SimHost *host)
{
    SimSeries *series = &host->series;
    const SimProfile *profile = &host->sim->profile;

    if (!host->sim->wish.series) {
        return;
    }
    size_t size = (size_t)profile->pages * FUT_PAGE_SIZE;
    *series = (SimSeries){ .on = true };
    series->random.state = seed_of(host, 0);
    series->no_guard = sim_chance(&series->random, 15);
    series->draft = g_malloc0(size);
    series->base = g_malloc0(size);
    series->truth = g_malloc0(size);
    sim_push_host(host, sim_below(&series->random, NEXT_DELAY_MAX_NS), SIM_EVENT_SERIES);
}

void sim_series_done(SimHost *host)
{
    g_free(host->series.draft);
    g_free(host->series.base);
    g_free(host->series.truth);
}

/* -- the truth -- */

void sim_series_remember(SimVm *vm, const FutStateImage *state)
{
    SimSeries *series = &vm->host->series;

    memcpy(series->truth, vm->ram, (size_t)vm->pages * FUT_PAGE_SIZE);
    for (unsigned i = 0; i < vm->host->sim->profile.disks; i++) {
        memcpy(series->disk_truth[i], vm->host->disk[i].now, SIM_DISK_BYTES);
    }
    memcpy(series->state_truth, state->data, state->length);
    series->state_length = state->length;
}

/* Of a backup: what the primary was when it ended the epoch that this image is of. */
static void remember_epoch(SimHost *host, uint64_t epoch)
{
    SimSeries *series = &host->series;
    const SimProtection *of = host->written_for; /* also while its image is about to go */
    const SimImage *image = of ? &of->image[epoch % SIM_IMAGES] : NULL;

    series->image_taken = true;
    SIM_TRACE(host->sim, "%s: the instant of a snapshot of epoch %" PRIu64, host->node, epoch);
    if (!image || image->epoch != epoch) {
        sim_violation(host->sim, "snapshot",
                      "%s: a snapshot of epoch %" PRIu64 ", which it does not hold", host->node,
                      epoch);
        return;
    }
    memcpy(series->truth, image->ram, (size_t)host->vm.pages * FUT_PAGE_SIZE);
    for (unsigned i = 0; i < host->sim->profile.disks; i++) {
        memcpy(series->disk_truth[i], image->disk[i].now, SIM_DISK_BYTES);
    }
    memcpy(series->state_truth, image->state, image->state_length);
    series->state_length = image->state_length;
}

/* -- where it goes -- */

static bool breaks(SimSeries *series, GError **error)
{
    if (series->breaks_in > 0 && --series->breaks_in == 0) {
        g_set_error_literal(error, FUT_ERROR, FUT_ERR_IO, "the store is full");
        return true;
    }
    return false;
}

static bool sink_pages(void *sink, unsigned block, uint64_t page, const uint8_t *data,
                       uint64_t count, GError **error)
{
    SimHost *host = sink;
    uint64_t at = page;

    for (unsigned i = 0; i < block; i++) {
        at += host->sim->profile.block_pages[i];
    }
    memcpy(host->series.draft + at * FUT_PAGE_SIZE, data, count * FUT_PAGE_SIZE);
    return !breaks(&host->series, error);
}

static bool sink_disk(void *sink, unsigned disk, uint64_t offset, const uint8_t *data,
                      uint64_t length, GError **error)
{
    SimHost *host = sink;

    if (data) {
        memcpy(host->series.disk_draft[disk] + offset, data, length);
    } else {
        memset(host->series.disk_draft[disk] + offset, 0, length);
    }
    return !breaks(&host->series, error);
}

static void compare(SimHost *host, const FutSeriesCut *cut)
{
    const SimSeries *series = &host->series;
    const SimProfile *profile = &host->sim->profile;

    for (unsigned page = 0; page < profile->pages; page++) {
        size_t at = (size_t)page * FUT_PAGE_SIZE;
        if (memcmp(series->draft + at, series->truth + at, FUT_PAGE_SIZE) != 0) {
            sim_violation(host->sim, "snapshot", "%s: page %u is not what it was at the cut",
                          host->node, page);
            return;
        }
    }
    for (unsigned i = 0; i < profile->disks; i++) {
        if (memcmp(series->disk_draft[i], series->disk_truth[i], profile->disk_bytes[i]) != 0) {
            sim_violation(host->sim, "snapshot", "%s: disk %u is not what it was at the cut",
                          host->node, i);
            return;
        }
    }
    if (cut->state_length != series->state_length ||
        memcmp(cut->state, series->state_truth, cut->state_length) != 0) {
        sim_violation(host->sim, "snapshot", "%s: the device state is not that of the cut",
                      host->node);
    }
}

static bool sink_commit(void *sink, const FutSeriesCut *cut, GError **error)
{
    SimHost *host = sink;
    SimSeries *series = &host->series;

    compare(host, cut);
    if (breaks(series, error)) {
        return false;
    }
    memcpy(series->base, series->draft, (size_t)host->sim->profile.pages * FUT_PAGE_SIZE);
    memcpy(series->disk_base, series->disk_draft, sizeof(series->disk_base));
    host->sim->count->snapshots++;
    host->sim->count->image_snapshots += cut->epoch > 0;
    host->sim->count->snapshot_faults += cut->faults;
    host->sim->count->snapshot_early += cut->early;
    return true;
}

static const FutSeriesSinkOps sink_ops = { .pages = sink_pages,
                                           .disk = sink_disk,
                                           .commit = sink_commit };

/* -- the thread -- */

static void begin(SimHost *host)
{
    SimSeries *series = &host->series;
    bool full = !fut_series_based(host->engine) || sim_chance(&series->random, 10);
    FutSeriesOrder order = { &sink_ops, host, full, false, sim_chance(&series->random, 30) };

    series->breaks_in = sim_chance(&series->random, 20) ? 1 + sim_below(&series->random, 60) : 0;
    series->image_taken = false;
    series->under_way = fut_series_begin(host->engine, &order, NULL);
    if (full) {
        memset(series->draft, 0, (size_t)host->sim->profile.pages * FUT_PAGE_SIZE);
        memset(series->disk_draft, 0, sizeof(series->disk_draft));
    } else {
        memcpy(series->draft, series->base, (size_t)host->sim->profile.pages * FUT_PAGE_SIZE);
        memcpy(series->disk_draft, series->disk_base, sizeof(series->disk_draft));
    }
}

/* How long until the next step. */
static uint64_t step(SimHost *host)
{
    SimSeries *series = &host->series;
    FutSeriesCut cut;

    FutStep step = fut_series_step(host->engine, &cut, NULL);
    if (!series->image_taken && host->engine->series.phase == FUT_SERIES_COPYING &&
        host->engine->series.cut.epoch > 0) {
        remember_epoch(host, host->engine->series.cut.epoch);
    }
    switch (step) {
    case FUT_STEP_MORE:
        return sim_below(&series->random, STEP_DELAY_MAX_NS);
    case FUT_STEP_WAIT:
        return WAIT_NS;
    case FUT_STEP_FAILED:
        host->sim->count->snapshots_failed++;
        break;
    case FUT_STEP_DONE:
        break;
    }
    series->under_way = false;
    if (sim_chance(&series->random, 10)) {
        fut_series_end(host->engine);
    }
    return sim_below(&series->random, NEXT_DELAY_MAX_NS);
}

void sim_series_event(SimHost *host, const SimEvent *event)
{
    SimSeries *series = &host->series;
    uint64_t after_ns = 0;

    if (event->number != series->number) {
        return; /* it was woken before */
    }
    if (!series->under_way) {
        begin(host);
        after_ns = series->under_way ? 0 : sim_below(&series->random, NEXT_DELAY_MAX_NS);
    } else {
        after_ns = step(host);
    }
    sim_series_wake(host, after_ns);
}

void sim_series_wake(SimHost *host, uint64_t after_ns)
{
    if (host->series.on) {
        sim_push(host->sim, after_ns,
                 (SimEvent){ .kind = SIM_EVENT_SERIES,
                             .host = host->index,
                             .life = host->life,
                             .number = ++host->series.number });
    }
}

/* -- protected pages -- */

bool sim_series_guard_open(SimHost *host)
{
    return host->series.on && !host->series.no_guard;
}

void sim_series_guard(SimHost *host, const uint8_t *at, size_t length, bool on)
{
    uint64_t first = (uint64_t)(at - host->vm.ram) / FUT_PAGE_SIZE;

    memset(host->vm.guarded + first, on, length / FUT_PAGE_SIZE);
}

/* Pages that hold something, and some others. */
void sim_series_resident(SimHost *host, const uint8_t *at, uint64_t pages, uint64_t *bits)
{
    static const uint8_t zeroes[FUT_PAGE_SIZE];

    for (uint64_t page = 0; page < pages; page++) {
        if (memcmp(at + page * FUT_PAGE_SIZE, zeroes, FUT_PAGE_SIZE) != 0 ||
            sim_chance(&host->series.random, 20)) {
            bits[page / 64] |= 1ull << (page % 64);
        }
    }
}

void sim_series_touch(SimVm *vm, unsigned page)
{
    while (vm->guarded[page]) {
        const uint8_t *address = vm->ram + (size_t)page * FUT_PAGE_SIZE + page % FUT_PAGE_SIZE;
        if (fut_series_fault(vm->base.engine, address)) {
            g_assert(!vm->guarded[page]);
        } else {
            step(vm->host); /* the other thread makes room */
        }
    }
}
