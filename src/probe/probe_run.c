/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What happens at a hit, in the vCPU's own thread: short, bounded, no lock, no allocation. */
#include <string.h>

#include "byteorder.h"
#include "fut_clock.h"
#include "probe.h"

const uint8_t fut_probe_argument_registers[FUT_PROBE_ARGUMENTS] = { FUT_RDI, FUT_RSI, FUT_RDX,
                                                                    FUT_RCX, 8,       9 };

/* Of each window, all vCPUs together, this much may be spent on one probe. */
#define WINDOW_NS (100 * FUT_NS_PER_MS)
#define WINDOW_SPEND_NS (10 * FUT_NS_PER_MS)
/* A hit does not take longer itself: the host had taken the processor away, which is no reason to pass over the next one. */
#define HIT_SPEND_NS FUT_NS_PER_MS

bool fut_probe_is_there(const FutProbe *probe, const FutGuestMemory *memory)
{
    return !*probe->module || fut_guest_module_is_there(memory, probe->module_at, probe->module);
}

bool fut_probe_is_too_hot(FutProbe *probe, uint64_t now_ns)
{
    uint_fast64_t begun_ns = atomic_load(&probe->window_ns);

    if (now_ns - begun_ns >= WINDOW_NS &&
        atomic_compare_exchange_strong(&probe->window_ns, &begun_ns, now_ns)) {
        atomic_store(&probe->window_spent_ns, 0);
    }
    if (atomic_load(&probe->window_spent_ns) <= WINDOW_SPEND_NS) {
        return false;
    }
    atomic_fetch_add(&probe->skipped, 1);
    return true;
}

void fut_probe_spent(FutProbe *probe, uint64_t ns)
{
    atomic_fetch_add(&probe->window_spent_ns, MIN(ns, HIT_SPEND_NS));
}

static bool read_word(const FutProbeHit *hit, uint64_t address, uint64_t *ret)
{
    uint8_t bytes[8];

    if (!fut_guest_read(&hit->memory, address, bytes, sizeof(bytes))) {
        return false;
    }
    *ret = fut_get_le64(bytes);
    return true;
}

/* At the entry the return address is on top of the stack; when the function has returned, the stack ends above it. */
uint64_t fut_probe_enter(FutProbe *probe, const FutProbeHit *hit)
{
    uint64_t stack = hit->registers[FUT_RSP], back, arguments[FUT_PROBE_ARGUMENTS];

    for (unsigned i = 0; i < FUT_PROBE_ARGUMENTS; i++) {
        arguments[i] = hit->registers[fut_probe_argument_registers[i]];
    }
    if (!read_word(hit, stack, &back) || (int64_t)back >= 0) {
        atomic_fetch_add(&probe->missed, 1);
        return 0;
    }
    if (fut_open_calls_put(probe->calls, stack + sizeof(back), back, arguments)) {
        atomic_fetch_add(&probe->missed, 1);
    }
    return back;
}

void fut_probe_give_up(FutProbe *probe, const FutProbeHit *entry)
{
    uint64_t stack = entry->registers[FUT_RSP], back, unused[FUT_PROBE_ARGUMENTS];

    if (read_word(entry, stack, &back) &&
        fut_open_calls_take(probe->calls, stack + sizeof(back), back, unused)) {
        atomic_fetch_add(&probe->missed, 1);
    }
}

bool fut_probe_leave(FutProbe *probe, FutProbeHit *hit)
{
    return fut_open_calls_take(probe->calls, hit->registers[FUT_RSP], hit->instruction,
                               hit->arguments);
}

static uint64_t sized(const FutProbeFetch *fetch, uint64_t word)
{
    unsigned unused = 64 - 8 * fetch->length;

    return fetch->kind == FUT_SHAPE_SIGNED ? (uint64_t)((int64_t)(word << unused) >> unused)
                                           : word << unused >> unused;
}

static void fetch_text(const FutProbeHit *hit, uint64_t address, size_t size, FutProbeValue *ret)
{
    if (fut_guest_read_string(&hit->memory, address, ret->text, size)) {
        ret->kind = FUT_VALUE_TEXT;
    }
}

/* `word` is the value itself. */
static void take_word(const FutProbeFetch *fetch, const FutProbeHit *hit, uint64_t word,
                      FutProbeValue *ret)
{
    if (fetch->kind == FUT_SHAPE_TEXT_POINTER) {
        fetch_text(hit, word, sizeof(ret->text), ret);
        return;
    }
    ret->number = sized(fetch, word);
    ret->kind = fetch->kind == FUT_SHAPE_SIGNED    ? FUT_VALUE_SIGNED
                : fetch->kind == FUT_SHAPE_POINTER ? FUT_VALUE_POINTER
                                                   : FUT_VALUE_UNSIGNED;
}

static bool fetch_source(const FutProbe *probe, const FutProbeFetch *fetch, const FutProbeHit *hit,
                         uint64_t *ret)
{
    switch (fetch->source) {
    case FUT_FROM_REGISTER:
        *ret = hit->registers[fetch->number];
        return true;
    case FUT_FROM_ENTRY:
        *ret = hit->arguments[fetch->number];
        return true;
    case FUT_FROM_TASK:
        return read_word(hit, hit->gs_base + probe->current_task, ret);
    }
    g_assert_not_reached();
}

static void fetch_value(const FutProbe *probe, const FutProbeFetch *fetch, const FutProbeHit *hit,
                        FutProbeValue *ret)
{
    uint64_t word;

    ret->kind = FUT_VALUE_NONE;
    ret->number = 0;
    if (!fetch_source(probe, fetch, hit, &word)) {
        return;
    }
    for (unsigned i = 0; i + 1 < fetch->steps; i++) {
        if (!read_word(hit, word + fetch->offsets[i], &word)) {
            return;
        }
    }
    if (fetch->steps == 0) {
        take_word(fetch, hit, word, ret);
        return;
    }
    uint64_t place = word + fetch->offsets[fetch->steps - 1];
    if (fetch->kind == FUT_SHAPE_TEXT) {
        /* The length is the guest's word, whatever it is. */
        fetch_text(hit, place, MIN(sizeof(ret->text), (size_t)fetch->length + 1), ret);
        return;
    }
    uint8_t bytes[8] = { 0 };
    if (fut_guest_read(&hit->memory, place, bytes, fetch->length)) {
        take_word(fetch, hit, fut_get_le64(bytes), ret);
    }
}

/* Below 0, 0 or above: as numbers, whatever their signs and sizes. */
static int order_of(const FutProbeValue *left, const FutProbeValue *right)
{
    bool left_minus = left->kind == FUT_VALUE_SIGNED && (int64_t)left->number < 0;
    bool right_minus = right->kind == FUT_VALUE_SIGNED && (int64_t)right->number < 0;

    if (left_minus != right_minus) {
        return left_minus ? -1 : 1;
    }
    return (left->number > right->number) - (left->number < right->number);
}

static bool compare_numbers(FutProbeOp op, const FutProbeValue *left, const FutProbeValue *right)
{
    int order = order_of(left, right);

    switch (op) {
    case FUT_OP_EQUAL:
        return order == 0;
    case FUT_OP_UNEQUAL:
        return order != 0;
    case FUT_OP_LESS:
        return order < 0;
    case FUT_OP_AT_MOST:
        return order <= 0;
    case FUT_OP_MORE:
        return order > 0;
    case FUT_OP_AT_LEAST:
        return order >= 0;
    case FUT_OP_BITS:
        return (left->number & right->number) != 0;
    }
    g_assert_not_reached();
}

/* What could not be read passes no condition. A constant is of its value's kind. */
static bool holds(const FutProbe *probe, const FutProbeCondition *condition, const FutProbeHit *hit)
{
    FutProbeValue value, other;

    fetch_value(probe, &condition->fetch, hit, &value);
    if (value.kind == FUT_VALUE_NONE) {
        return false;
    }
    if (condition->has_other) {
        fetch_value(probe, &condition->other, hit, &other);
        if (other.kind == FUT_VALUE_NONE) {
            return false;
        }
    } else {
        other.kind = value.kind;
        other.number = (uint64_t)condition->number;
    }
    if (condition->is_text) {
        const char *text = condition->has_other ? other.text : condition->text;
        return (strcmp(value.text, text) == 0) == (condition->op == FUT_OP_EQUAL);
    }
    return compare_numbers(condition->op, &value, &other);
}

static bool passes(const FutProbe *probe, const FutProbeHit *hit)
{
    bool group = true; /* of conditions joined by && */

    for (unsigned i = 0; i < probe->condition_count; i++) {
        if (probe->conditions[i].or_before) {
            if (group) {
                return true;
            }
            group = true;
        }
        group = group && holds(probe, &probe->conditions[i], hit);
    }
    return group;
}

bool fut_probe_evaluate(const FutProbe *probe, const FutProbeHit *hit,
                        FutProbeValue ret_values[FUT_PROBE_FIELDS_MAX])
{
    if (!passes(probe, hit)) {
        return false;
    }
    for (unsigned i = 0; i < probe->field_count; i++) {
        fetch_value(probe, &probe->fields[i], hit, &ret_values[i]);
    }
    return true;
}
