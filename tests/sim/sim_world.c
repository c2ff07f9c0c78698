/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The VM's clients, and everything the outside world ever saw of it. */
#include "sim.h"

#define PACKETS_MAX 64

void sim_world_start(Sim *sim)
{
    SimWorld *world = &sim->world;

    world->seen = g_array_new(FALSE, TRUE, sizeof(uint64_t));
    world->resent = g_hash_table_new(g_direct_hash, g_direct_equal);
    for (unsigned i = 0; i < SIM_CLIENTS; i++) {
        world->client[i].gap_ns = sim_between(&sim->random, FUT_NS_PER_MS, 12 * FUT_NS_PER_MS);
        sim_push(sim, world->client[i].gap_ns, (SimEvent){ .kind = SIM_EVENT_CLIENT, .detail = i });
    }
}

static void send_request(Sim *sim, unsigned client, unsigned to)
{
    if (!sim_path_cut(sim, SIM_OUTSIDE, to)) {
        sim_push(sim, sim_path_delay(sim, SIM_OUTSIDE, to),
                 (SimEvent){ .kind = SIM_EVENT_PACKET,
                             .host = to,
                             .life = sim->host[to].life,
                             .detail = client,
                             .number = sim->world.client[client].sent });
    }
}

/* Some requests reach everybody who runs the VM: switches learn slowly. */
void sim_world_client(Sim *sim, unsigned number)
{
    SimClient *client = &sim->world.client[number];

    if (client->acked == client->sent) {
        client->sent++;
    }
    if (sim_chance(&sim->random, sim->profile.broadcast)) {
        for (unsigned i = 0; i < SIM_HOSTS; i++) {
            send_request(sim, number, i);
        }
    } else {
        send_request(sim, number, sim->world.where);
    }
    sim_push(sim, client->gap_ns, (SimEvent){ .kind = SIM_EVENT_CLIENT, .detail = number });
}

void sim_world_packet(SimHost *host, const SimEvent *event)
{
    SimVm *vm = &host->vm;
    SimRequest request = { .client = event->detail, .number = event->number };

    if (vm->started && !vm->halted && vm->arrived.length < PACKETS_MAX) {
        g_queue_push_tail(&vm->arrived, g_memdup2(&request, sizeof(request)));
    }
}

void sim_world_sees(SimHost *host, const SimPacket *packet)
{
    Sim *sim = host->sim;
    SimWorld *world = &sim->world;
    SimClient *client = &world->client[packet->client];

    SIM_TRACE(sim, "world: sees output %" PRIu64 " of %s, request %" PRIu64 " of client %u",
              packet->output, host->node, packet->acked, packet->client);
    sim_check_seen(host, packet);
    sim->count->released++;
    if (world->seen->len < packet->output) {
        g_array_set_size(world->seen, (guint)packet->output);
    }
    g_array_index(world->seen, uint64_t, packet->output - 1) = packet->chain;
    if (packet->acked > client->acked) {
        client->acked = packet->acked;
        sim->healed_acks[packet->client] += sim->healing;
    }
}

/* The survivor's history must have all that was seen. */
void sim_world_takeover(SimHost *host)
{
    Sim *sim = host->sim;
    SimWorld *world = &sim->world;
    SimVm *vm = &host->vm;

    if (!host->backing) {
        return; /* noticed already */
    }
    const SimImage *image = &host->backing->image[host->backing->committed % SIM_IMAGES];

    vm->branch = sim_branch_new(sim, image->branch, vm->registers.outputs);
    world->survivor = vm->branch;
    world->survivor_host = host->index;
    world->survivor_life = host->life;
    for (guint i = 0; i < world->seen->len; i++) {
        uint64_t seen = g_array_index(world->seen, uint64_t, i);
        bool known =
            i < vm->branch->chain->len && g_array_index(vm->branch->chain, uint64_t, i) == seen;
        if (seen != 0 && !known) {
            sim_violation(sim, "world",
                          "%s takes over from output %u on, but output %u was seen already",
                          host->node, vm->branch->chain->len + 1, i + 1);
            return;
        }
    }
    for (unsigned i = 0; i < SIM_CLIENTS; i++) {
        if (sim_guest_done(vm, i) < world->client[i].acked) {
            sim_violation(sim, "world",
                          "%s takes over having done request %" PRIu64 " of client %u; %" PRIu64
                          " was acknowledged",
                          host->node, sim_guest_done(vm, i), i, world->client[i].acked);
        }
    }
}
