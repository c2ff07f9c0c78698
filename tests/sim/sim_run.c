/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One schedule: three hosts, one VM, some faults, then peace. */
#include "sim.h"

/* In peace all must be well within this. */
#define PATIENCE_NS (5 * FUT_NS_PER_S)
/* The VM is given up when nobody can have it for so long. */
#define LOST_NS (200 * FUT_NS_PER_MS)
/* No schedule needs more: something runs in circles. */
#define EVENTS_MAX 400000
/* Lines shown of a schedule that failed. */
#define TRACE_TAIL 300

void sim_trace(Sim *sim, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    g_autofree char *text = g_strdup_vprintf(format, args);
    va_end(args);
    g_autofree char *line =
        g_strdup_printf("%10.3f ms  %s\n", (double)sim->now_ns / FUT_NS_PER_MS, text);
    if (sim->wish.tracing == SIM_TRACING_ALL) {
        g_print("%s", line);
        return;
    }
    g_queue_push_tail(&sim->trace, g_steal_pointer(&line));
    if (sim->trace.length > TRACE_TAIL) {
        g_free(g_queue_pop_head(&sim->trace));
    }
}

static void print_tail(Sim *sim)
{
    for (GList *item = sim->trace.head; item; item = item->next) {
        g_print("%s", (const char *)item->data);
    }
    g_queue_clear_full(&sim->trace, g_free);
}

static void choose_profile(Sim *sim)
{
    SimRandom *random = &sim->random;
    SimProfile *profile = &sim->profile;
    bool large = sim_chance(random, 5);

    *profile = (SimProfile){
        .mode = sim_chance(random, 50) ? FUT_MODE_PIPELINE : FUT_MODE_STOP,
        .heartbeat_ms = (uint32_t)sim_between(random, 5, 10),
        .retry_ms = (uint32_t)sim_between(random, 10, 40),
        .epoch_max_us = (uint32_t)sim_between(random, 1000, 15000),
        .batch_max_us = (uint32_t)sim_between(random, 100, 2000),
        .verify_every = (uint32_t)sim_below(random, 4),
        .part_pages_max = (uint32_t)sim_between(random, 1, 8),
        .rest_pages_max = (uint32_t)sim_below(random, 6),
        .hold_max_bytes = sim_chance(random, 10) ? 200 : 1u << 20,
        .log_max_bytes = sim_chance(random, 10) ? 40 : 1u << 20,
        .log_wait_us = (uint32_t)sim_between(random, 0, 1) * 2000,
        .step_ns = sim_between(random, 100, 2000) * FUT_NS_PER_US,
        .delay_ns = sim_between(random, 10, 600) * FUT_NS_PER_US,
        .arbiter_ns = sim_between(random, 100, 10000) * FUT_NS_PER_US,
        .manager_ns = sim_between(random, 5, 20) * FUT_NS_PER_MS,
        .writes = (unsigned)sim_between(random, 1, 8),
        .choppy = (unsigned)(sim_chance(random, 30) ? 40 : 3),
        .timer = (unsigned)sim_below(random, 20),
        .broadcast = (unsigned)sim_below(random, 60),
        .waiting = (unsigned)(sim_chance(random, 50) ? sim_between(random, 1, 60) : 0),
        .faults = (unsigned)sim_between(random, 1, SIM_FAULTS_MAX),
    };
    profile->aside_min_bytes = profile->writes % 2 ? 0 : UINT32_MAX;
    profile->timeout_ms = profile->heartbeat_ms * (uint32_t)sim_between(random, 4, 6);
    for (unsigned i = 0; i < SIM_BLOCKS; i++) {
        profile->block_pages[i] = (unsigned)sim_between(random, 1, large ? 150 : 4);
        profile->pages += profile->block_pages[i];
    }
}

/* Chance of its own: a schedule without disks is what it was before there were any. */
static void choose_disks(Sim *sim)
{
    SimProfile *profile = &sim->profile;
    SimRandom own = { sim->random.state ^ UINT64_C(0x6469736b) };
    SimRandom *random = &own;

    profile->disks = sim_chance(random, 60) ? (unsigned)sim_between(random, 1, SIM_DISKS) : 0;
    for (unsigned i = 0; i < SIM_DISKS; i++) {
        profile->disk_bytes[i] =
            SIM_SECTOR * sim_between(random, SIM_DISK_SECTORS / 8, SIM_DISK_SECTORS);
    }
    profile->disk_unacked_max_bytes = sim_chance(random, 30) ? 600 : 1u << 20;
    profile->disk_queue_max_bytes = sim_chance(random, 30) ? 600 : 1u << 20;
    profile->disk_batch_bytes = sim_chance(random, 50) ? 400 : 1u << 20;
    profile->io_ns = sim_between(random, 10, 1000) * FUT_NS_PER_US;
    profile->io_share = (unsigned)sim_between(random, 5, 80);
    profile->flush_both = sim_chance(random, 40);
    profile->no_notes = sim_chance(random, 15);
    profile->disk_mark_ms = (uint32_t)sim_below(random, 30);
    profile->disk_mark_bytes = sim_below(random, 4000);
}

/* Likewise. */
static void choose_window(Sim *sim)
{
    SimRandom own = { sim->random.state ^ UINT64_C(0x77696e646f77) };

    sim->profile.window = sim_chance(&own, 30) ? 1 : (unsigned)sim_between(&own, 2, SIM_WINDOW_MAX);
    if (sim->wish.window > 0) {
        sim->profile.window = sim->wish.window;
    }
    sim->profile.gap_us = (unsigned)(sim_chance(&own, 50) ? 0 : sim_below(&own, 500));
}

static void set_up(Sim *sim)
{
    sim->heap = g_array_new(FALSE, FALSE, sizeof(SimEvent));
    sim->links = g_ptr_array_new();
    sim->protections = g_ptr_array_new();
    sim->branches = g_ptr_array_new();
    for (unsigned i = 0; i < SIM_HOSTS; i++) {
        SimHost *host = &sim->host[i];
        host->sim = sim;
        host->index = i;
        host->node[0] = (char)('A' + i);
        host->peer = (i + 1) % SIM_HOSTS;
        sim_disks_make(host);
        sim_host_start(host, i == 0 ? FUT_ROLE_PRIMARY : FUT_ROLE_BACKUP, i == 0 ? 1 : 0);
    }
    sim->arbiter = (SimArbiter){ .generation = 1, .host = 0, .life = sim->host[0].life };
    sim_guest_boot(&sim->host[0].vm);
    sim->world.survivor = sim->host[0].vm.branch;
    sim_world_start(sim);
    sim_push(sim, 0,
             (SimEvent){ .kind = SIM_EVENT_COMMAND,
                         .life = sim->host[0].life,
                         .detail = SIM_COMMAND_PROTECT });
    sim_push(sim, sim->profile.manager_ns, (SimEvent){ .kind = SIM_EVENT_MANAGER });
    sim_faults_plan(sim);
    if (sim->wish.ends) {
        sim_end_plan(sim);
    }
    uint64_t troubles_ns = sim_between(&sim->random, 100, 250) * FUT_NS_PER_MS;
    sim_push(sim, troubles_ns, (SimEvent){ .kind = SIM_EVENT_HEAL, .detail = SIM_FAULTS_MAX });
}

static void tear_down(Sim *sim)
{
    for (unsigned i = 0; i < SIM_HOSTS; i++) {
        sim_host_free(&sim->host[i]);
    }
    for (unsigned i = 0; i < sim->links->len; i++) {
        sim_link_free(sim->links->pdata[i]);
    }
    for (unsigned i = 0; i < sim->protections->len; i++) {
        SimProtection *protection = sim->protections->pdata[i];
        for (unsigned k = 0; k < SIM_IMAGES; k++) {
            g_free(protection->image[k].ram);
        }
        g_array_unref(protection->held);
        g_free(protection);
    }
    for (unsigned i = 0; i < sim->branches->len; i++) {
        SimBranch *branch = sim->branches->pdata[i];
        g_array_unref(branch->chain);
        g_free(branch);
    }
    g_ptr_array_unref(sim->links);
    g_ptr_array_unref(sim->protections);
    g_ptr_array_unref(sim->branches);
    g_array_unref(sim->world.seen);
    g_hash_table_unref(sim->world.resent);
    g_array_unref(sim->heap);
}

static void handle(Sim *sim, const SimEvent *event)
{
    SimLink *link = event->link < sim->links->len ? sim->links->pdata[event->link] : NULL;

    switch (event->kind) {
    case SIM_EVENT_DELIVER:
        sim_link_deliver(sim, link, event->detail);
        break;
    case SIM_EVENT_HANG_UP:
        sim_link_close(sim, link, event->detail);
        break;
    case SIM_EVENT_CLAIM:
        sim_arbiter_claim(sim, event);
        break;
    case SIM_EVENT_CLIENT:
        sim_world_client(sim, event->detail);
        break;
    case SIM_EVENT_FAULT:
        sim_fault_begin(sim, event->detail);
        break;
    case SIM_EVENT_HEAL:
        if (event->detail == SIM_FAULTS_MAX) {
            sim_faults_heal(sim);
        } else {
            sim_fault_end(sim, event->detail);
        }
        break;
    case SIM_EVENT_MANAGER:
        sim_manager(sim);
        break;
    case SIM_EVENT_END:
        sim_end_order(sim);
        break;
    default:
        sim_host_event(&sim->host[event->host], event);
        break;
    }
}

/* Is the schedule over? */
static bool at_end(Sim *sim, const SimEvent *event)
{
    if (sim->violation || sim->over) {
        return true;
    }
    if (!sim->healing || event->kind != SIM_EVENT_MANAGER) {
        return false;
    }
    if (sim->end.told ? sim_check_ended(sim) : sim_check_well(sim)) {
        return true;
    }
    if (!sim_check_lost(sim)) {
        sim->lost_ns = 0;
    } else if (sim->lost_ns == 0) {
        sim->lost_ns = sim->now_ns;
    } else if (sim->now_ns - sim->lost_ns > LOST_NS && !sim->end.told) {
        SIM_TRACE(sim, "the VM is lost");
        sim->count->lost++;
        if (sim->faults_begun == 1 && sim->was_protected && sim->profile.waiting == 0 &&
            !sim->end.begun) {
            sim_violation(sim, "liveness", "a single fault was enough to lose the VM");
        }
        return true;
    }
    if (sim->now_ns - sim->healing_ns > PATIENCE_NS) {
        sim_check_late(sim);
    }
    return sim->violation != NULL;
}

void sim_step(Sim *sim)
{
    SimEvent event;
    bool some = sim_pop(sim, &event);

    g_assert(some && event.at_ns >= sim->now_ns);
    sim->now_ns = event.at_ns;
    handle(sim, &event);
    sim_check_step(sim);
    if (++sim->events > EVENTS_MAX) {
        sim_violation(sim, "liveness", "%u events and no end: something runs in circles",
                      sim->events);
    }
    sim->over = at_end(sim, &event);
}

char *sim_run(uint64_t seed, const SimWish *wish, SimCount *count)
{
    Sim *sim = g_new0(Sim, 1);

    g_queue_init(&sim->trace);
    sim->random.state = seed;
    sim->wish = *wish;
    sim->end.random.state = ~seed;
    sim->series_seed = sim_mix(seed + 1);
    sim->count = count;
    choose_profile(sim);
    choose_window(sim);
    if (wish->disks) {
        choose_disks(sim);
    }
    set_up(sim);
    while (!sim->over) {
        sim_step(sim);
    }
    count->events += sim->events;
    char *violation = sim->violation;
    print_tail(sim);
    tear_down(sim);
    g_free(sim);
    return violation;
}
