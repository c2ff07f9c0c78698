/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Hits in a guest whose memory, page tables included, and whose registers are the input: values or none, in a bounded number of reads. */
#include <glib.h>
#include <string.h>

#include "byteorder.h"
#include "fuzz.h"
#include "probe.h"

/* A page crossed, five levels twice, for each pointer of each value. */
#define READS_MAX                                                                                  \
    ((FUT_PROBE_FIELDS_MAX + FUT_PROBE_CONDITIONS_MAX) * (FUT_PROBE_MEMBERS_MAX + 2) * 12)

typedef struct {
    const uint8_t *data;
    size_t size;
    unsigned reads;
} Ram;

static bool read_ram(void *opaque, uint64_t physical, void *ret, size_t length)
{
    Ram *ram = opaque;

    ram->reads++;
    g_assert_cmpuint(physical % FUT_GUEST_PAGE_BYTES + length, <=, FUT_GUEST_PAGE_BYTES);
    /* Small memories are there again and again, so that tables lead somewhere. */
    physical %= 8 * FUT_GUEST_PAGE_BYTES;
    if (physical >= ram->size || ram->size - physical < length) {
        return false;
    }
    memcpy(ret, ram->data + physical, length);
    return true;
}

/* Each kind of value, through as many pointers as there may be. */
static void make_probe(FutProbe *probe)
{
    probe->field_count = FUT_PROBE_FIELDS_MAX;
    probe->condition_count = 4;
    probe->current_task = 0x40;
    probe->calls = fut_open_calls_new();
    for (unsigned i = 0; i < FUT_PROBE_FIELDS_MAX; i++) {
        FutProbeFetch *fetch = &probe->fields[i];
        fetch->source = (FutProbeSource)(i % 3);
        fetch->number = i % FUT_PROBE_ARGUMENTS;
        fetch->steps = i % (FUT_PROBE_MEMBERS_MAX + 1);
        fetch->kind = (FutShapeKind)(i % (FUT_SHAPE_TEXT + 1));
        fetch->length = fetch->kind == FUT_SHAPE_TEXT ? 5 * i : 1u << i % 4;
        for (unsigned j = 0; j < FUT_PROBE_MEMBERS_MAX; j++) {
            fetch->offsets[j] = j == 7 ? UINT32_MAX : 8 * j;
        }
        if (fetch->kind == FUT_SHAPE_TEXT && fetch->steps == 0) {
            fetch->steps = 1;
        }
        if (fetch->kind == FUT_SHAPE_POINTER || fetch->kind == FUT_SHAPE_TEXT_POINTER) {
            fetch->length = 8;
        }
    }
    for (unsigned i = 0; i < probe->condition_count; i++) {
        probe->conditions[i].fetch = probe->fields[i + 4];
        probe->conditions[i].is_text = probe->fields[i + 4].kind >= FUT_SHAPE_TEXT_POINTER;
        probe->conditions[i].op = FUT_OP_UNEQUAL;
        probe->conditions[i].or_before = i % 2;
    }
}

static void check_values(const FutProbeValue *values)
{
    for (unsigned i = 0; i < FUT_PROBE_FIELDS_MAX; i++) {
        g_assert_cmpint(values[i].kind, <=, FUT_VALUE_TEXT);
        if (values[i].kind == FUT_VALUE_TEXT) {
            g_assert_nonnull(memchr(values[i].text, '\0', sizeof(values[i].text)));
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    FutProbe probe = { 0 };
    FutProbeValue values[FUT_PROBE_FIELDS_MAX] = { 0 };
    Ram ram = { data, size, 0 };
    FutProbeHit hit = { .memory = { read_ram, &ram, 0, size % 2 == 1 } };

    if (size < 8 * FUT_REGISTERS) {
        return 0;
    }
    make_probe(&probe);
    for (unsigned i = 0; i < FUT_REGISTERS; i++) {
        hit.registers[i] = fut_get_le64(data + size - 8 * (i + 1));
    }
    hit.gs_base = hit.registers[15];
    hit.instruction = hit.registers[14];
    if (fut_probe_evaluate(&probe, &hit, values)) {
        check_values(values);
    }
    g_assert_cmpuint(ram.reads, <=, READS_MAX);
    uint64_t back = fut_probe_enter(&probe, &hit);
    if (back != 0) {
        hit.instruction = back;
        hit.registers[FUT_RSP] += 8;
        g_assert_true(hit.registers[FUT_RSP] < 2 || fut_probe_leave(&probe, &hit));
    }
    fut_open_calls_free(probe.calls);
    return 0;
}
