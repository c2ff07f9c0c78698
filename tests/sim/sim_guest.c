/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The program in the VM. All it knows is in its memory and its registers, and it does nothing that does not follow from them
 * and from what it receives. It scribbles over its memory, answers requests, and says something of its own now and then.
 *
 * A request n of a client is done when request n - 1 was; its acknowledgement says so to the outside. So whoever runs this
 * program later must have done at least what was acknowledged. Each output carries a hash over all outputs before it and
 * over memory read at random: two histories that differ anywhere soon differ in that. */
#include "sim.h"

#include <sys/uio.h>

#define PAGE_WORDS (FUT_PAGE_SIZE / sizeof(uint64_t))
/* Words of page 0. */
enum {
    WORD_CHANCE,
    WORD_CHAIN,
    WORD_DONE,
    WORD_IO = WORD_DONE + SIM_CLIENTS
};
#define STATE_LONG 8000

static uint64_t word(const SimVm *vm, unsigned page, unsigned number)
{
    return ((const uint64_t *)vm->ram)[page * PAGE_WORDS + number];
}

static void put_word(SimVm *vm, unsigned page, unsigned number, uint64_t value)
{
    if (vm->guarded[page]) {
        sim_series_touch(vm, page);
    }
    ((uint64_t *)vm->ram)[page * PAGE_WORDS + number] = value;
    if (vm->logging) {
        vm->dirty[page] = 1;
    }
}

static uint64_t chance(SimVm *vm)
{
    SimRandom random = { word(vm, 0, WORD_CHANCE) };
    uint64_t value = sim_next(&random);

    put_word(vm, 0, WORD_CHANCE, random.state);
    return value;
}

void sim_guest_boot(SimVm *vm)
{
    memset(vm->ram, 0, (size_t)vm->pages * FUT_PAGE_SIZE);
    put_word(vm, 0, WORD_CHANCE, sim_next(&vm->host->sim->random));
    vm->branch = sim_branch_new(vm->host->sim, NULL, 0);
    vm->started = true;
    sim_vm_wake(vm);
}

uint64_t sim_guest_done(const SimVm *vm, unsigned client)
{
    return word(vm, 0, WORD_DONE + client);
}

/* -- memory -- */

static void fill_page(SimVm *vm, unsigned page, uint64_t value)
{
    for (unsigned i = 0; i < PAGE_WORDS; i++) {
        put_word(vm, page, i, value ? value * (i + 1) : 0);
    }
}

/* Page 0 keeps what the program must know. */
static void scribble(SimVm *vm)
{
    uint64_t value = chance(vm);
    unsigned count = (unsigned)(value % (vm->host->sim->profile.writes + 1));

    for (unsigned i = 0; i < count; i++) {
        value = chance(vm);
        unsigned page = 1 + (unsigned)(value % (vm->pages - 1));
        put_word(vm, page, (unsigned)(value >> 32) % PAGE_WORDS, value);
    }
    value = chance(vm);
    if (value % 16 == 0) {
        fill_page(vm, 1 + (unsigned)((value >> 8) % (vm->pages - 1)),
                  value & (1u << 30) ? value : 0);
    }
    unsigned page = (unsigned)((value >> 16) % vm->pages);
    vm->registers.sum =
        sim_mix(vm->registers.sum + word(vm, page, (unsigned)(value >> 40) % PAGE_WORDS));
}

/* -- disks -- */

void sim_guest_io_done(SimVm *vm)
{
    put_word(vm, 0, WORD_IO, word(vm, 0, WORD_IO) + 1);
}

static void use_disks(SimVm *vm)
{
    uint64_t lot = chance(vm);
    uint64_t read = sim_disk_request(vm, lot, chance(vm));

    vm->registers.sum = sim_mix(vm->registers.sum + read + word(vm, 0, WORD_IO));
}

/* -- outputs -- */

static void note_held(SimHost *host, const SimHeld *held)
{
    g_queue_push_tail(&host->held, g_memdup2(held, sizeof(*held)));
    g_array_append_vals(held->protection->held, held, 1);
}

static void emit(SimVm *vm, unsigned client, uint64_t acked)
{
    SimHost *host = vm->host;
    uint64_t output = ++vm->registers.outputs;
    uint64_t chain = sim_mix(word(vm, 0, WORD_CHAIN) ^ sim_mix(vm->registers.sum + output));
    SimPacket packet = {
        .output = output, .chain = chain, .acked = acked, .client = client, .flags = (uint32_t)chain
    };
    struct iovec iov[2] = { { &packet, 8 }, { (uint8_t *)&packet + 8, sizeof(packet) - 8 } };

    put_word(vm, 0, WORD_CHAIN, chain);
    g_assert(vm->branch->chain->len == output - 1);
    g_array_append_val(vm->branch->chain, chain);
    host->sim->count->outputs++;
    switch (fut_engine_output(host->engine, 0, packet.flags, iov, 2)) {
    case FUT_OUTPUT_PASS:
        sim_host_passes(host, &packet);
        break;
    case FUT_OUTPUT_HELD:
        note_held(host, &(SimHeld){ output, host->protection->cuts + 1, host->protection });
        break;
    case FUT_OUTPUT_DROP:
        break;
    }
}

static void serve(SimVm *vm, SimRequest *request)
{
    const SimProtection *protection = vm->host->protection;
    struct iovec iov = { request, sizeof(*request) };
    uint64_t done = word(vm, 0, WORD_DONE + request->client);

    request->protection = protection ? protection->number + 1 : 0;
    request->epoch = protection ? protection->cuts + 1 : 0;
    fut_engine_input(vm->host->engine, 0, request->client, &iov, 1);
    if (request->number == done + 1) {
        put_word(vm, 0, WORD_DONE + request->client, ++done);
        vm->registers.sum = sim_mix(vm->registers.sum + request->client);
    }
    if (request->number <= done) {
        emit(vm, request->client, done);
    }
    if (sim_chance(&vm->host->sim->random, 70)) {
        fut_engine_inputs_given(vm->host->engine);
    }
}

void sim_guest_step(SimVm *vm)
{
    SimHost *host = vm->host;

    scribble(vm);
    if (host->sim->profile.disks > 0) {
        use_disks(vm);
    }
    SimRequest *request = g_queue_pop_head(&vm->arrived);
    if (request) {
        serve(vm, request);
        g_free(request);
    }
    if (chance(vm) % 100 < host->sim->profile.timer) {
        emit(vm, 0, 0);
    }
    vm->registers.steps++;
    if (vm->arrived.length == 0 && sim_chance(&host->sim->random, 50)) {
        fut_engine_idle(host->engine);
    }
}

/* -- registers -- */

/* The state's length changes from step to step, sometimes by pages; its filling, half of it zeroes, follows from the registers. */
uint32_t sim_guest_state(const SimVm *vm, uint8_t *at)
{
    uint64_t lot = sim_mix(vm->registers.steps);
    uint32_t words = (uint32_t)(lot % 5 == 0 ? STATE_LONG / 8 + lot % 300 : lot % 30);

    memcpy(at, &vm->registers, sizeof(vm->registers));
    at += sizeof(vm->registers);
    for (uint32_t i = 0; i < words; i++, at += sizeof(uint64_t)) {
        uint64_t value = vm->registers.sum >> i % 64 & 1 ? vm->registers.sum + i : 0;
        memcpy(at, &value, sizeof(value));
    }
    return (uint32_t)sizeof(vm->registers) + words * 8;
}

bool sim_guest_load(SimVm *vm, const uint8_t *state, size_t length)
{
    uint8_t expected[SIM_STATE_MAX];

    if (length < sizeof(vm->registers)) {
        return false;
    }
    memcpy(&vm->registers, state, sizeof(vm->registers));
    return sim_guest_state(vm, expected) == length && memcmp(expected, state, length) == 0;
}
