/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The rules of a pair, checked from outside after each step:
 *   output    no output is released before its epoch is committed, or a grant that is newer than its protection
 *   active    never two hosts whose outputs go out freely; nobody acts in a generation that was not granted to him
 *   image     what the survivor holds is exactly the last committed epoch; it is not thrown away without reason
 *   world     what the outside saw never contradicts the survivor (also in sim_world.c)
 *   kept      what was committed and had not left the primary leaves the survivor, as soon as it runs
 *   ended     a VM that was ended on purpose, and the arbiter was told, is granted to nobody and runs nowhere
 *   liveness  when nothing goes wrong any more, there is soon one VM, it serves, and it is protected again */
#include "sim.h"

#include "engine_internal.h"

SimSight sim_sight(const SimHost *host)
{
    SimSight sight;

    fut_pair_status(host->engine->pair, &sight.pair);
    sight.output_epoch = fut_pair_output_epoch(host->engine->pair);
    return sight;
}

void sim_violation(Sim *sim, const char *rule, const char *format, ...)
{
    va_list args;

    if (sim->violation) {
        return;
    }
    va_start(args, format);
    g_autofree char *text = g_strdup_vprintf(format, args);
    va_end(args);
    sim->violation = g_strdup_printf("[%s] %s", rule, text);
    SIM_TRACE(sim, "VIOLATION %s", sim->violation);
}

bool sim_free(const SimHost *host)
{
    return sim_host_up(host) && host->vm.started && !host->vm.halted &&
           sim_sight(host).output_epoch == 0;
}

/* -- each step -- */

static void check_generation(SimHost *host, const SimSight *sight)
{
    const SimArbiter *arbiter = &host->sim->arbiter;
    uint64_t generation = sight->pair.generation;
    bool own = generation == arbiter->generation && sim_arbiter_held_last(host);

    if (generation > arbiter->generation) {
        sim_violation(host->sim, "active",
                      "%s acts in generation %" PRIu64 ", the last granted is %" PRIu64, host->node,
                      generation, arbiter->generation);
    } else if (sim_free(host) && !own) {
        sim_violation(host->sim, "active",
                      "%s runs freely in generation %" PRIu64 "; %" PRIu64
                      " was granted to host %u",
                      host->node, generation, arbiter->generation, arbiter->host);
    } else if (generation == arbiter->generation && !own) {
        sim_violation(host->sim, "active", "%s acts in generation %" PRIu64 ", which is another's",
                      host->node, generation);
    }
}

static bool holds_image(FutPairState state)
{
    return state == FUT_STATE_STANDBY || state == FUT_STATE_CLAIMING;
}

/* An image may go when its protection was ended, or when somebody else went on in a later generation. */
static void check_discard(SimHost *host, FutPairState state)
{
    const SimArbiter *arbiter = &host->sim->arbiter;
    const SimProtection *protection = host->backing;

    if (!protection || !holds_image(host->last_state) ||
        (state != FUT_STATE_WAITING && state != FUT_STATE_RECEIVING)) {
        return;
    }
    host->sim->count->discards++;
    host->backing = NULL;
    host->commit_unseen = false;
    bool outlived = arbiter->generation > protection->generation && !sim_arbiter_holds(host);
    if (!protection->given_up && !outlived) {
        sim_violation(host->sim, "image",
                      "%s throws away a committed image of generation %" PRIu64
                      " that may be needed",
                      host->node, protection->generation);
    }
}

void sim_check_step(Sim *sim)
{
    unsigned free_hosts = 0;

    for (unsigned i = 0; i < SIM_HOSTS; i++) {
        SimHost *host = &sim->host[i];
        if (!sim_host_up(host)) {
            continue;
        }
        SimSight sight = sim_sight(host);
        free_hosts += sim_free(host);
        if (sim_free(host) || sight.pair.state == FUT_STATE_PROTECTED ||
            sight.pair.state == FUT_STATE_PROTECTING) {
            check_generation(host, &sight);
        }
        check_discard(host, sight.pair.state);
        if (sight.pair.state == FUT_STATE_FENCED && !host->vm.halted && host->depth == 0) {
            sim_violation(sim, "active", "%s is fenced, but its guest was not stopped", host->node);
        }
        host->last_state = sight.pair.state;
    }
    if (sim->end.told && free_hosts > 0) {
        sim_violation(sim, "ended", "the VM was ended, and runs");
    }
    if (free_hosts > 1) {
        sim_violation(sim, "active", "%u hosts run the VM and release what it sends", free_hosts);
    }
}

/* -- outputs -- */

/* Something leaves that is committed nowhere else: only who has the newest grant may do that. */
static void check_right(SimHost *host, const SimPacket *packet, uint64_t after)
{
    const SimArbiter *arbiter = &host->sim->arbiter;

    if (!sim_arbiter_held_last(host) || arbiter->generation <= after) {
        sim_violation(host->sim, "output",
                      "%s releases output %" PRIu64 " that no backup holds; generation %" PRIu64
                      " was granted to host %u",
                      host->node, packet->output, arbiter->generation, arbiter->host);
    }
}

void sim_check_pass(SimHost *host, const SimPacket *packet)
{
    check_right(host, packet, 0);
}

void sim_check_release(SimHost *host, const SimPacket *packet)
{
    g_autofree SimHeld *held = NULL;

    do {
        g_free(held);
        held = g_queue_pop_head(&host->held);
    } while (held && held->output < packet->output);
    if (!held || held->output != packet->output) {
        sim_violation(host->sim, "output", "%s releases output %" PRIu64 " out of order or twice",
                      host->node, packet->output);
    } else if (held->epoch > held->protection->committed && held->protection->cuts > 0) {
        check_right(host, packet, held->protection->generation);
    }
}

void sim_check_seen(SimHost *host, const SimPacket *packet)
{
    const SimWorld *world = &host->sim->world;
    const GArray *survivor = world->survivor->chain;
    guint i = (guint)packet->output - 1;

    bool seen = i < world->seen->len && g_array_index(world->seen, uint64_t, i) != 0;
    if (seen && !g_hash_table_contains(world->resent, GUINT_TO_POINTER((guint)packet->output))) {
        sim_violation(host->sim, "world", "output %" PRIu64 " is seen a second time, from %s",
                      packet->output, host->node);
    } else if (i >= survivor->len || g_array_index(survivor, uint64_t, i) != packet->chain) {
        sim_violation(host->sim, "world",
                      "output %" PRIu64 " of %s is not part of the survivor's history",
                      packet->output, host->node);
    }
}

/* -- images -- */

static const SimImage *committed_image(const SimProtection *protection)
{
    const SimImage *image = &protection->image[protection->committed % SIM_IMAGES];
    return image->epoch == protection->committed ? image : NULL;
}

static void check_memory(SimHost *host, const char *when)
{
    const SimImage *image = committed_image(host->backing);

    if (!image || memcmp(image->ram, host->vm.ram, (size_t)host->vm.pages * FUT_PAGE_SIZE) != 0) {
        sim_violation(host->sim, "image", "%s: memory is not that of epoch %" PRIu64 " %s",
                      host->node, host->backing->committed, when);
    }
}

/* The backup's machine has all of an epoch. Its memory follows when the engine has applied it. */
void sim_note_commit(SimHost *host)
{
    SimSight sight = sim_sight(host);
    SimProtection *protection = host->link ? host->link->protection : NULL;

    if (sight.pair.role != FUT_ROLE_BACKUP || sight.pair.committed == 0 || !protection ||
        sight.pair.committed == protection->committed) {
        return;
    }
    if (sight.pair.committed != protection->committed + 1 ||
        sight.pair.committed > protection->cuts) {
        sim_violation(host->sim, "image",
                      "%s commits epoch %" PRIu64 " after %" PRIu64 "; %" PRIu64 " were cut",
                      host->node, sight.pair.committed, protection->committed, protection->cuts);
        return;
    }
    protection->committed = sight.pair.committed;
    host->backing = host->written_for = protection;
    host->commit_unseen = true;
    host->sim->count->commits++;
}

/* Between two frames: what was committed is in place. */
void sim_check_commit(SimHost *host)
{
    sim_note_commit(host);
    if (host->commit_unseen) {
        host->commit_unseen = false;
        if (!host->vm.started) { /* else it was looked at when it was taken over */
            check_memory(host, "at its commit");
        }
    }
}

void sim_check_takeover(SimHost *host, const uint8_t *state, size_t length)
{
    Sim *sim = host->sim;
    const SimImage *image = host->backing ? committed_image(host->backing) : NULL;

    if (!image) {
        sim_violation(sim, "image", "%s takes over without a committed image", host->node);
        return;
    }
    SIM_TRACE(sim, "%s: takes over epoch %" PRIu64 " of protection %u", host->node,
              host->backing->committed, host->backing->number);
    check_memory(host, "at takeover");
    sim_check_disks(host, image);
    sim->count->disk_takeovers += sim->profile.disks > 0;
    if (length != image->state_length || memcmp(state, image->state, length) != 0) {
        sim_violation(sim, "image", "%s: device state is not that of epoch %" PRIu64 " at takeover",
                      host->node, host->backing->committed);
    }
}

/* It has sent again what it kept. */
void sim_check_taken(SimHost *host)
{
    const SimProtection *backing = host->backing;
    const GArray *seen = host->sim->world.seen;

    for (guint i = 0; backing && host->dying == SIM_LIVE && i < backing->held->len; i++) {
        const SimHeld *held = &g_array_index(backing->held, SimHeld, i);
        guint at = (guint)held->output - 1;
        if (held->epoch > backing->committed) {
            return;
        }
        if (at >= seen->len || g_array_index(seen, uint64_t, at) == 0) {
            sim_violation(host->sim, "kept",
                          "output %" PRIu64 " of epoch %" PRIu64
                          ", which was committed, left neither its host nor %s",
                          held->output, held->epoch, host->node);
            return;
        }
    }
}

/* Only what the image has not seen is given to it again. */
void sim_check_reinjected(SimHost *host, const SimRequest *request)
{
    const SimProtection *backing = host->backing;

    if (backing &&
        (request->protection != backing->number + 1 || request->epoch <= backing->committed)) {
        sim_violation(host->sim, "image",
                      "%s re-injects a packet of epoch %" PRIu64
                      " of protection %u, its image is epoch %" PRIu64 " of protection %u",
                      host->node, request->epoch, request->protection - 1, backing->committed,
                      backing->number);
    }
}

/* -- that life goes on -- */

bool sim_check_well(Sim *sim)
{
    SimHost *active = sim_active(sim);
    unsigned running = 0;

    for (unsigned i = 0; i < SIM_HOSTS; i++) {
        running += sim_host_up(&sim->host[i]) && sim->host[i].vm.started && !sim->host[i].vm.halted;
    }
    for (unsigned i = 0; i < SIM_CLIENTS; i++) {
        if (sim->healed_acks[i] < 2) {
            return false;
        }
    }
    return active && running == 1 && sim_sight(active).pair.state == FUT_STATE_PROTECTED;
}

bool sim_check_ended(Sim *sim)
{
    for (unsigned i = 0; i < SIM_HOSTS; i++) {
        const SimHost *host = &sim->host[i];
        if (sim_host_up(host) &&
            (host->ending || holds_image(sim_sight(host).pair.state) || sim_vm_moving(&host->vm))) {
            return false;
        }
    }
    return true;
}

/* Can this host still get the VM, or go on with it? */
static bool hopeful(const SimHost *host)
{
    const SimArbiter *arbiter = &host->sim->arbiter;

    if (!sim_host_up(host)) {
        return false;
    }
    SimSight sight = sim_sight(host);
    if (sight.pair.role == FUT_ROLE_BACKUP) {
        bool waits = holds_image(sight.pair.state) || sight.pair.state == FUT_STATE_TAKING;
        bool granted = sim_arbiter_holds(host) && sight.pair.state == FUT_STATE_CLAIMING;
        return granted ||
               (waits && host->backing && host->backing->generation == arbiter->generation);
    }
    return !host->vm.halted &&
           (sim_arbiter_holds(host) || sight.pair.generation == arbiter->generation);
}

bool sim_check_lost(Sim *sim)
{
    const SimHost *holder = &sim->host[sim->arbiter.host];

    for (unsigned i = 0; i < SIM_HOSTS; i++) {
        if (hopeful(&sim->host[i])) {
            return false;
        }
    }
    return !sim_arbiter_holds(holder) || sim_sight(holder).pair.state == FUT_STATE_FAILED;
}

void sim_check_late(Sim *sim)
{
    GString *text = g_string_new("nothing goes wrong any more, but:");

    for (unsigned i = 0; i < SIM_HOSTS; i++) {
        const SimHost *host = &sim->host[i];
        if (!sim_host_up(host)) {
            g_string_append_printf(text, " %s is down,", host->node);
            continue;
        }
        SimSight sight = sim_sight(host);
        g_string_append_printf(text, " %s is %s, generation %" PRIu64 "%s,", host->node,
                               fut_state_name(sight.pair.state), sight.pair.generation,
                               sim_vm_moving(&host->vm) ? ", runs" : "");
    }
    g_string_append_printf(text,
                           " generation %" PRIu64
                           " is granted to host %u, acknowledged since: %" PRIu64 " and %" PRIu64,
                           sim->arbiter.generation, sim->arbiter.host, sim->healed_acks[0],
                           sim->healed_acks[1]);
    sim_violation(sim, "liveness", "%s", text->str);
    g_string_free(text, TRUE);
}
