/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Who else connects to a standby: somebody who says nothing, or nonsense, or who greets for another VM or from the past, or does not greet, or who
 * repeats word by word what a primary said in an earlier connection. */
#include "sim.h"

#include "wire.h"

#define STAY_MAX_NS (60 * FUT_NS_PER_MS)

static void say_nonsense(Sim *sim, SimLink *link)
{
    uint8_t bytes[200];

    for (unsigned i = 0; i < sizeof(bytes); i++) {
        bytes[i] = (uint8_t)sim_next(&sim->random);
    }
    sim_link_send(sim, link, 0, bytes, sim_between(&sim->random, 1, sizeof(bytes)), NULL, 0);
}

static void greet(Sim *sim, SimLink *link, const char *vm, uint64_t generation)
{
    g_autofree char *pages = g_strdup_printf("pages=%u", sim->profile.pages);
    char *machine[] = { "machine=simulated", pages, NULL };
    uint8_t head[FUT_FRAME_HEADER_SIZE];
    FutBuf body = { 0 };
    FutHello hello = {
        .version_min = FUT_WIRE_VERSION_MIN,
        .version_max = FUT_WIRE_VERSION,
        .nonce = sim_next(&sim->random),
        .generation = generation,
        .heartbeat_ms = sim->profile.heartbeat_ms,
        .timeout_ms = sim->profile.timeout_ms,
        .vm = (char *)vm,
        .node = "stranger",
        .machine = machine,
    };

    fut_hello_encode(&body, &hello);
    fut_frame_header_encode(head, FUT_MSG_HELLO, 0, 0, 0, body.data, (uint32_t)body.len);
    sim_link_send(sim, link, 0, head, sizeof(head), body.data, body.len);
    fut_buf_done(&body);
}

/* Does not greet at all, but sends a checkpoint: nothing of it may reach the image. */
static void send_checkpoint(Sim *sim, SimLink *link)
{
    uint8_t head[FUT_FRAME_HEADER_SIZE], body[FUT_CHECKPOINT_SIZE];
    FutCheckpoint checkpoint = { .epoch = sim_between(&sim->random, 1, 50),
                                 .state_length = (uint32_t)sim_between(&sim->random, 1, 5000) };

    fut_checkpoint_encode(body, &checkpoint);
    fut_frame_header_encode(head, FUT_MSG_CHECKPOINT, 0, 0, 0, body, sizeof(body));
    sim_link_send(sim, link, 0, head, sizeof(head), body, sizeof(body));
}

static void replay(Sim *sim, SimLink *link)
{
    const SimLink *old = sim->links->pdata[sim_below(&sim->random, sim->links->len)];

    if (old->record.len > 0) {
        sim_link_send(sim, link, 0, old->record.data, old->record.len, NULL, 0);
    }
}

/* One who waits for the arbiter is open to everybody: that is where strangers may do harm. */
static SimHost *choose_victim(Sim *sim)
{
    for (unsigned i = 0; i < SIM_HOSTS; i++) {
        SimHost *host = &sim->host[i];
        if (sim_host_up(host) && sim_sight(host).pair.state == FUT_STATE_CLAIMING) {
            return host;
        }
    }
    return &sim->host[sim_below(&sim->random, SIM_HOSTS)];
}

void sim_stranger(Sim *sim, uint64_t within_ns)
{
    SimHost *host = choose_victim(sim);

    if (!sim_host_up(host) || !host->listening) {
        return;
    }
    SimLink *link = sim_link_new(sim, SIM_OUTSIDE, host->index);
    uint64_t after_ns =
        sim_below(&sim->random, within_ns + 1) + sim_path_delay(sim, SIM_OUTSIDE, host->index);
    sim_push(sim, after_ns,
             (SimEvent){ .kind = SIM_EVENT_ACCEPT,
                         .host = host->index,
                         .life = host->life,
                         .link = link->number });
    sim_push(sim, after_ns + sim_below(&sim->random, STAY_MAX_NS),
             (SimEvent){ .kind = SIM_EVENT_HANG_UP, .link = link->number });
    switch (sim_below(&sim->random, 6)) {
    case 0:
        break;
    case 1:
        say_nonsense(sim, link);
        break;
    case 2:
        greet(sim, link, "another", sim->arbiter.generation);
        break;
    case 3:
        greet(sim, link, "vm", sim_below(&sim->random, sim->arbiter.generation));
        break;
    case 4:
        send_checkpoint(sim, link);
        break;
    default:
        replay(sim, link);
        break;
    }
}
