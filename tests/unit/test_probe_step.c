/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Instructions that a probe stands for: which are known, how long they are, what they do. */
#include <glib.h>
#include <string.h>

#include "probe_step.h"

#define PLACE UINT64_C(0xffffffff81001230)

typedef struct {
    unsigned length; /* of the instruction; 0: it is not known */
    uint8_t code[16];
} Known;

static const Known known[] = {
    { 5, { 0x0f, 0x1f, 0x44, 0x00, 0x00 } },       /* the tracer's place */
    { 4, { 0xf3, 0x0f, 0x1e, 0xfa } },             /* endbr64 */
    { 4, { 0x0f, 0x1f, 0x40, 0xd6 } },             /* what a kernel makes of it */
    { 1, { 0x90 } },                               /* nop */
    { 2, { 0x66, 0x90 } },                         /* with a prefix */
    { 3, { 0x0f, 0x1f, 0x00 } },                   /* nopl (%rax) */
    { 7, { 0x0f, 0x1f, 0x80, 1, 2, 3, 4 } },       /* with 4 bytes */
    { 8, { 0x0f, 0x1f, 0x84, 0x00, 1, 2, 3, 4 } }, /* and two registers */
    { 8, { 0x0f, 0x1f, 0x04, 0x25, 1, 2, 3, 4 } }, /* and none */
    { 11, { 0x66, 0x66, 0x2e, 0x0f, 0x1f, 0x84, 0x00, 1, 2, 3, 4 } } /* the longest in use */,
    { 7, { 0x0f, 0x1f, 0x05, 1, 2, 3, 4 } },             /* relative to the place */
    { 3, { 0x48, 0x89, 0xe5 } },                         /* mov %rsp,%rbp */
    { 3, { 0x49, 0x8b, 0xfc } },                         /* mov %r12,%rdi */
    { 2, { 0x89, 0xf8 } },                               /* mov %edi,%eax */
    { 5, { 0xb8, 1, 0, 0, 0 } },                         /* mov $1,%eax */
    { 6, { 0x41, 0xb8, 1, 0, 0, 0 } },                   /* mov $1,%r8d */
    { 7, { 0x48, 0xc7, 0xc0, 0xfe, 0xff, 0xff, 0xff } }, /* mov $-2,%rax */
    { 5, { 0xe8, 1, 2, 3, 4 } },                         /* call */
    { 0, { 0x55 } },                                     /* push %rbp */
    { 0, { 0xcc } },                                     /* int3 */
    { 0, { 0xc3 } },                                     /* ret */
    { 0, { 0x0f, 0x0b } },                               /* ud2 */
    { 0, { 0x0f, 0x1f, 0x48, 0x00 } },                   /* not /0 */
    { 0, { 0x48, 0x89, 0x07 } },                         /* mov %rax,(%rdi) */
    { 0, { 0x66, 0x89, 0xf8 } },                         /* mov %di,%ax */
    { 0, { 0x48, 0xb8, 1, 2, 3, 4, 5, 6, 7, 8 } },       /* mov $...,%rax */
    { 0, { 0xc7, 0x00, 1, 2, 3, 4 } },                   /* movl $...,(%rax) */
    { 0, { 0xf3, 0x0f, 0x1e, 0xfb } },                   /* endbr32 */
    { 0,
      { 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66,
        0x90 } }, /* too long */
};

static void test_known(void)
{
    for (size_t i = 0; i < G_N_ELEMENTS(known); i++) {
        FutProbeStep step = fut_probe_step_decode(known[i].code, sizeof(known[i].code));
        g_test_message("%zu", i);
        g_assert_cmpuint(fut_probe_step_length(step), ==, known[i].length);
        g_assert_true((step == 0) == (known[i].length == 0));
    }
}

/* An instruction that is not all there is not one. */
static void test_cut(void)
{
    for (size_t i = 0; i < G_N_ELEMENTS(known); i++) {
        for (unsigned length = 0; length < known[i].length; length++) {
            g_autofree uint8_t *code = g_malloc(length + 1); /* of its size, for the sanitizer */
            memcpy(code, known[i].code, length);
            FutProbeStep step = fut_probe_step_decode(code, length);
            g_assert_cmpuint(fut_probe_step_length(step), <=, length);
        }
    }
}

/* Carries it out with registers 0x8000000000000000 + number; returns what is pushed. */
static uint64_t do_code(const char *code, size_t length, uint64_t registers[16], uint64_t *next)
{
    for (unsigned i = 0; i < 16; i++) {
        registers[i] = (UINT64_C(1) << 63) + i;
    }
    *next = PLACE;
    FutProbeStep step = fut_probe_step_decode((const uint8_t *)code, length);
    g_assert_true(step != 0);
    return fut_probe_step_do(step, registers, next);
}

static void test_effects(void)
{
    uint64_t registers[16], next;

    g_assert_cmpuint(do_code("\x0f\x1f\x44\0\0", 5, registers, &next), ==, 0);
    g_assert_cmphex(next, ==, PLACE + 5);
    for (unsigned i = 0; i < 16; i++) {
        g_assert_cmphex(registers[i], ==, (UINT64_C(1) << 63) + i);
    }
    do_code("\x48\x89\xe5", 3, registers, &next); /* mov %rsp,%rbp */
    g_assert_cmphex(registers[5], ==, registers[4]);
    do_code("\x49\x8b\xfc", 3, registers, &next); /* mov %r12,%rdi */
    g_assert_cmphex(registers[7], ==, (UINT64_C(1) << 63) + 12);
    do_code("\x44\x89\xc1", 3, registers, &next); /* mov %r8d,%ecx */
    g_assert_cmphex(registers[1], ==, 8);
    do_code("\x41\xb8\xff\xff\xff\xff", 6, registers, &next); /* mov $-1,%r8d */
    g_assert_cmphex(registers[8], ==, 0xffffffff);
    do_code("\x48\xc7\xc0\xfe\xff\xff\xff", 7, registers, &next); /* mov $-2,%rax */
    g_assert_cmphex(registers[0], ==, UINT64_MAX - 1);
    g_assert_cmphex(next, ==, PLACE + 7);
    g_assert_cmphex(do_code("\xe8\xf0\xff\xff\xff", 5, registers, &next), ==, PLACE + 5);
    g_assert_cmphex(next, ==, PLACE + 5 - 16);
    g_assert_cmphex(registers[4], ==, (UINT64_C(1) << 63) + 4 - 8);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/probe-step/known", test_known);
    g_test_add_func("/probe-step/cut", test_cut);
    g_test_add_func("/probe-step/effects", test_effects);
    return g_test_run();
}
