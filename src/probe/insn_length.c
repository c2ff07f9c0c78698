/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Lengths of x86 instructions: prefixes, opcode, address, immediate. */
#include "insn_length.h"

#include <glib.h>
#include <stdbool.h>
#include <string.h>

#define REX 0x40u
#define REX_WIDE 8u
#define MOD_REGISTER 3u

/*
 * What follows an opcode, sixteen in a row:
 *
 *   .  nothing             m  an address                 x  no instruction
 *   1  8 bits              b  an address, 8 bits         g  an address, 8 bits if it is "test"
 *   2  16 bits             z  an address, an operand     G  an address, an operand if it is "test"
 *   3  24 bits             4  an operand (16 or 32 bits) 8  an operand or 64 bits
 *   r  32 bits             a  a whole address (64 or 32 bits)
 */
static const char one_byte[] = "mmmm14xxmmmm14xx"
                               "mmmm14xxmmmm14xx"
                               "mmmm14xxmmmm14xx"
                               "mmmm14xxmmmm14xx"
                               "xxxxxxxxxxxxxxxx"
                               "................"
                               "xxxmxxxx4z1b...."
                               "1111111111111111"
                               "bzxbmmmmmmmmmmmm"
                               "..........x....."
                               "aaaa....14......"
                               "1111111188888888"
                               "bb2.xxbz3.2..1x."
                               "mmmmxxx.mmmmmmmm"
                               "11111111rrx1...."
                               "x.xx..gG......mm";

static const char two_bytes[] = "mmmmx.....x.xm.b"
                                "mmmmmmmmmmmmmmmm"
                                "mmmmxxxxmmmmmmmm"
                                "......x.xxxxxxxx"
                                "mmmmmmmmmmmmmmmm"
                                "mmmmmmmmmmmmmmmm"
                                "mmmmmmmmmmmmmmmm"
                                "bbbbmmm.mmxxmmmm"
                                "rrrrrrrrrrrrrrrr"
                                "mmmmmmmmmmmmmmmm"
                                "...mbmmm...mbmmm"
                                "mmmmmmmmmmbmmmmm"
                                "mmbmbbbm........"
                                "mmmmmmmmmmmmmmmm"
                                "mmmmmmmmmmmmmmmm"
                                "mmmmmmmmmmmmmmmm";

typedef struct {
    const uint8_t *code;
    size_t length, at;
    bool wide, small, short_address; /* REX.W, 66, 67 */
} Reader;

size_t fut_insn_address_length(const uint8_t *code, size_t length)
{
    if (length < 1) {
        return 0;
    }
    unsigned mod = code[0] >> 6, base = code[0] & 7;
    size_t need = 1;

    if (mod == MOD_REGISTER) {
        return need;
    }
    if (base == 4) {
        if (length < 2) {
            return 0;
        }
        base = code[1] & 7;
        need++;
    }
    if (mod == 2 || (mod == 0 && base == 5)) {
        need += 4;
    } else if (mod == 1) {
        need++;
    }
    return need <= length ? need : 0;
}

static void skip_prefixes(Reader *in)
{
    for (; in->at < in->length &&
           memchr("\x66\x67\x2e\x36\x3e\x26\x64\x65\xf0\xf2\xf3", in->code[in->at], 11);
         in->at++) {
        in->small |= in->code[in->at] == 0x66;
        in->short_address |= in->code[in->at] == 0x67;
    }
    if (in->at < in->length && (in->code[in->at] & 0xf0) == REX) {
        in->wide = in->code[in->at++] & REX_WIDE;
    }
}

/* Bytes of an immediate of that kind. */
static size_t immediate(const Reader *in, char kind, bool is_test)
{
    size_t operand = in->small && !in->wide ? 2 : 4;

    switch (kind) {
    case '1':
    case 'b':
        return 1;
    case '2':
        return 2;
    case '3':
        return 3;
    case 'r':
        return 4;
    case '4':
    case 'z':
        return operand;
    case '8':
        return in->wide ? 8 : operand;
    case 'a':
        return in->short_address ? 4 : 8;
    case 'g':
        return is_test ? 1 : 0;
    case 'G':
        return is_test ? operand : 0;
    default:
        return 0;
    }
}

/* Of what follows the opcode, `kind` as above. 0: it is not all there. */
static size_t finish(Reader *in, char kind)
{
    bool is_test = false;

    if (kind == 'x') {
        return 0;
    }
    if (strchr("mbzgG", kind)) {
        size_t address = fut_insn_address_length(in->code + in->at, in->length - in->at);
        if (address == 0) {
            return 0;
        }
        is_test = (in->code[in->at] >> 3 & 7) < 2;
        in->at += address;
    }
    in->at += immediate(in, kind, is_test);
    return in->at <= in->length ? in->at : 0;
}

/* The opcode stands at in->at, in the map of that number. */
static size_t finish_in_map(Reader *in, unsigned map, bool is_vector)
{
    if (in->at >= in->length) {
        return 0;
    }
    uint8_t opcode = in->code[in->at++];
    /* mov from and to control and debug registers: no memory, whatever the address says. */
    if (map == 1 && !is_vector && opcode >= 0x20 && opcode <= 0x23) {
        return in->at < in->length ? in->at + 1 : 0;
    }
    char kind = map == 1   ? two_bytes[opcode]
                : map == 3 ? 'b'
                           : 'm'; /* 0f 38, and those of half precision */
    /* A vector's opcodes take an address, but for vzeroupper. */
    if (is_vector && map == 1 && kind != 'b' && opcode != 0x77) {
        kind = 'm';
    }
    return finish(in, kind);
}

/* c5 and one byte, c4 and two, 62 and three: then the opcode. */
static size_t finish_vector(Reader *in)
{
    const uint8_t *code = in->code + in->at;
    size_t prefix = code[0] == 0xc5 ? 2 : code[0] == 0xc4 ? 3 : 4;

    if (in->length - in->at <= prefix) {
        return 0;
    }
    unsigned map = code[0] == 0xc5 ? 1 : code[1] & (code[0] == 0xc4 ? 0x1f : 7);
    in->at += prefix;
    return map >= 1 && map <= 6 && map != 4 ? finish_in_map(in, map, true) : 0;
}

size_t fut_insn_length(const uint8_t *code, size_t length)
{
    Reader in = { .code = code, .length = MIN(length, FUT_INSN_BYTES_MAX) };

    G_STATIC_ASSERT(sizeof(one_byte) == 257 && sizeof(two_bytes) == 257);
    skip_prefixes(&in);
    if (in.at >= in.length) {
        return 0;
    }
    uint8_t opcode = code[in.at];
    if (opcode == 0xc4 || opcode == 0xc5 || opcode == 0x62) {
        return finish_vector(&in);
    }
    in.at++;
    if (opcode != 0x0f) {
        return finish(&in, one_byte[opcode]);
    }
    if (in.at < in.length && (code[in.at] == 0x38 || code[in.at] == 0x3a)) {
        unsigned map = code[in.at++] == 0x38 ? 2 : 3;
        return finish_in_map(&in, map, false);
    }
    return finish_in_map(&in, 1, false);
}
