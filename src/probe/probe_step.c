/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A word holds, from its lowest byte on: length, kind, to, from; then 32 bits of a constant. */
#include "probe_step.h"

#include <glib.h>
#include <string.h>

#include "byteorder.h"
#include "insn_length.h"

typedef enum {
    STEP_NOTHING,
    STEP_MOVE64,
    STEP_MOVE32,
    STEP_LOAD32,          /* a constant; the upper half becomes zero */
    STEP_LOAD_EXTENDED32, /* a constant, its sign repeated in the upper half */
    STEP_CALL             /* so far from what comes next */
} StepKind;

/* Bits of the REX prefix. */
#define REX 0x40u
#define REX_WIDE 8u
#define REX_REGISTER 4u
#define REX_BASE 1u

#define PREFIX_SIZE 0x66u
#define PREFIX_CS 0x2eu

#define MOD_REGISTER 3u
#define RSP 4u

static FutProbeStep make(size_t length, StepKind kind, unsigned to, unsigned from, uint32_t value)
{
    return length | (uint64_t)kind << 8 | (uint64_t)to << 16 | (uint64_t)from << 24 |
           (uint64_t)value << 32;
}

unsigned fut_probe_step_length(FutProbeStep step)
{
    return step & 0xff;
}

/* nop, the long nops and endbr64. `at`: behind prefixes 66 and 2e. */
static FutProbeStep decode_nothing(const uint8_t *code, size_t length, size_t at)
{
    static const uint8_t endbr64[] = { 0xf3, 0x0f, 0x1e, 0xfa };

    if (length >= sizeof(endbr64) && memcmp(code, endbr64, sizeof(endbr64)) == 0) {
        return make(sizeof(endbr64), STEP_NOTHING, 0, 0, 0);
    }
    if (at < length && code[at] == 0x90) {
        return make(at + 1, STEP_NOTHING, 0, 0, 0);
    }
    if (at + 2 < length && code[at] == 0x0f && code[at + 1] == 0x1f && (code[at + 2] & 0x38) == 0) {
        size_t address = fut_insn_address_length(code + at + 2, length - at - 2);
        return address ? make(at + 2 + address, STEP_NOTHING, 0, 0, 0) : 0;
    }
    return 0;
}

/* mov between two registers, and of a constant to one. */
static FutProbeStep decode_move(const uint8_t *code, size_t length)
{
    uint8_t rex = length > 0 && (code[0] & 0xf0) == REX ? code[0] : 0;
    size_t at = rex ? 1 : 0;
    bool wide = rex & REX_WIDE;

    if (at + 1 >= length) {
        return 0;
    }
    uint8_t opcode = code[at], modrm = code[at + 1];
    unsigned high = rex & REX_BASE ? 8 : 0;
    unsigned rm = (modrm & 7) | high, reg = (modrm >> 3 & 7) | (rex & REX_REGISTER ? 8 : 0);
    if ((opcode == 0x89 || opcode == 0x8b) && modrm >> 6 == MOD_REGISTER) {
        return make(at + 2, wide ? STEP_MOVE64 : STEP_MOVE32, opcode == 0x89 ? rm : reg,
                    opcode == 0x89 ? reg : rm, 0);
    }
    if ((opcode & 0xf8) == 0xb8 && !wide && at + 5 <= length) {
        return make(at + 5, STEP_LOAD32, (opcode & 7) | high, 0, fut_get_le32(code + at + 1));
    }
    if (opcode == 0xc7 && modrm >> 3 == MOD_REGISTER << 3 && at + 6 <= length) {
        return make(at + 6, wide ? STEP_LOAD_EXTENDED32 : STEP_LOAD32, rm, 0,
                    fut_get_le32(code + at + 2));
    }
    return 0;
}

FutProbeStep fut_probe_step_decode(const uint8_t *code, size_t length)
{
    size_t prefixes = 0;

    length = MIN(length, FUT_INSN_BYTES_MAX);
    while (prefixes < length && (code[prefixes] == PREFIX_SIZE || code[prefixes] == PREFIX_CS)) {
        prefixes++;
    }
    FutProbeStep step = decode_nothing(code, length, prefixes);
    if (step || prefixes > 0) {
        return step;
    }
    if (length >= 5 && code[0] == 0xe8) {
        return make(5, STEP_CALL, RSP, 0, fut_get_le32(code + 1));
    }
    return decode_move(code, length);
}

uint64_t fut_probe_step_do(FutProbeStep step, uint64_t registers[16], uint64_t *instruction)
{
    uint64_t *to = &registers[step >> 16 & 15], from = registers[step >> 24 & 15];
    uint64_t next = *instruction + fut_probe_step_length(step);
    uint32_t value = (uint32_t)(step >> 32);
    uint64_t extended = (uint64_t)(int64_t)(int32_t)value;

    *instruction = next;
    switch ((StepKind)(step >> 8 & 0xff)) {
    case STEP_NOTHING:
        break;
    case STEP_MOVE64:
        *to = from;
        break;
    case STEP_MOVE32:
        *to = (uint32_t)from;
        break;
    case STEP_LOAD32:
        *to = value;
        break;
    case STEP_LOAD_EXTENDED32:
        *to = extended;
        break;
    case STEP_CALL:
        *to -= sizeof(next);
        *instruction = next + extended;
        return next;
    }
    return 0;
}
