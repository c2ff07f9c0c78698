/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Lengths of instructions: one of each way to be long, checked against binutils' disassembler when they were written. */
#include <glib.h>
#include <string.h>

#include "insn_length.h"

static const struct {
    const char *bytes; /* of one instruction */
    size_t length;
    const char *what;
} cases[] = {
    { "\x90", 1, "nop" },
    { "\x55", 1, "push %rbp" },
    { "\x0f\x1f\x44\x00\x00", 5, "nopl 0(%rax,%rax,1)" },
    { "\x66\x2e\x0f\x1f\x84\x00\x00\x00\x00\x00", 10, "cs nopw 0(%rax,%rax,1)" },
    { "\xf3\x0f\x1e\xfa", 4, "endbr64" },
    { "\x48\x89\xe5", 3, "mov %rsp,%rbp" },
    { "\xe8\x01\x02\x03\x04", 5, "call" },
    { "\x0f\x84\x01\x02\x03\x04", 6, "je" },
    { "\x74\x10", 2, "je" },
    { "\x65\x48\x8b\x04\x25\x00\xfc\x01\x00", 9, "mov %gs:0x1fc00,%rax" },
    { "\x48\x8b\x05\x01\x02\x03\x04", 7, "mov 0x4030201(%rip),%rax" },
    { "\x48\x8b\x44\x24\x08", 5, "mov 8(%rsp),%rax" },
    { "\x48\x8b\x84\x24\x01\x02\x00\x00", 8, "mov 0x201(%rsp),%rax" },
    { "\x8b\x04\xcd\x01\x02\x03\x04", 7, "mov 0x4030201(,%rcx,8),%eax" },
    { "\x48\xb8\x01\x02\x03\x04\x05\x06\x07\x08", 10, "movabs $..., %rax" },
    { "\x48\xa1\x01\x02\x03\x04\x05\x06\x07\x08", 10, "movabs ..., %rax" },
    { "\xb8\x01\x02\x03\x04", 5, "mov $..., %eax" },
    { "\x66\xb8\x01\x02", 4, "mov $0x201,%ax" },
    { "\x66\x81\xf9\x01\x02", 5, "cmp $0x201,%cx" },
    { "\x48\x81\xec\x01\x02\x00\x00", 7, "sub $0x201,%rsp" },
    { "\x48\xc7\x45\xf8\x01\x02\x03\x04", 8, "movq $...,-8(%rbp)" },
    { "\xf6\x47\x10\x04", 4, "testb $4,0x10(%rdi)" },
    { "\xf7\x47\x10\x01\x02\x03\x04", 7, "testl $...,0x10(%rdi)" },
    { "\xf7\xd8", 2, "neg %eax" },
    { "\xf0\x0f\xb1\x17", 4, "lock cmpxchg %edx,(%rdi)" },
    { "\x0f\xba\x27\x03", 4, "btl $3,(%rdi)" },
    { "\x0f\x0b", 2, "ud2" },
    { "\x0f\xb9\x40\x10", 4, "ud1 0x10(%rax),%eax" },
    { "\x0f\x20\xd8", 3, "mov %cr3,%rax" },
    { "\x0f\x01\xf8", 3, "swapgs" },
    { "\xc8\x01\x02\x03", 4, "enter" },
    { "\xc2\x08\x00", 3, "ret $8" },
    { "\x66\x0f\x3a\x0f\xc1\x08", 6, "palignr $8,%xmm1,%xmm0" },
    { "\x66\x0f\x38\xdc\xc1", 5, "aesenc %xmm1,%xmm0" },
    { "\xc5\xf8\x77", 3, "vzeroupper" },
    { "\xc5\xfd\x70\xc1\x4e", 5, "vpshufd $0x4e,%ymm1,%ymm0" },
    { "\xc4\xe3\x7d\x46\xc1\x31", 6, "vperm2i128 $0x31,%ymm1,%ymm0,%ymm0" },
    { "\x62\xf1\x7d\x48\x6f\x47\x01", 7, "vmovdqa32 0x40(%rdi),%zmm0" },
};

static void test_cases(void)
{
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        uint8_t code[FUT_INSN_BYTES_MAX];
        memset(code, 0x90, sizeof(code));
        memcpy(code, cases[i].bytes, cases[i].length);
        g_test_message("%s", cases[i].what);
        g_assert_cmpuint(fut_insn_length(code, sizeof(code)), ==, cases[i].length);
        for (size_t length = 0; length < cases[i].length; length++) {
            g_autofree uint8_t *cut =
                g_memdup2(code, length); /* reading past it shows where memory is checked */
            g_assert_cmpuint(fut_insn_length(cut, length), ==, 0);
        }
    }
}

static void test_none(void)
{
    static const uint8_t prefixes[20] = { [0 ... 19] = 0x66 };

    g_assert_cmpuint(fut_insn_length(prefixes, sizeof(prefixes)), ==, 0);
    g_assert_cmpuint(fut_insn_length((const uint8_t *)"\x06\x90\x90", 3), ==, 0);
    g_assert_cmpuint(fut_insn_length((const uint8_t *)"\x0f\x04\x90\x90", 4), ==, 0);
    /* Too long by its prefixes. */
    g_assert_cmpuint(fut_insn_length((const uint8_t *)"\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66"
                                                      "\x48\xb8\x01\x02\x03\x04\x05\x06\x07\x08",
                                     21),
                     ==, 0);
}

static void test_any(void)
{
    g_autoptr(GRand) random = g_rand_new_with_seed(3);

    for (unsigned round = 0; round < 200000; round++) {
        uint8_t bytes[FUT_INSN_BYTES_MAX];
        size_t length = (size_t)g_rand_int_range(random, 0, sizeof(bytes) + 1);
        for (size_t i = 0; i < sizeof(bytes); i++) {
            bytes[i] = (uint8_t)g_rand_int(random);
        }
        g_assert_cmpuint(fut_insn_length(bytes, length), <=, length);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/insn-length/cases", test_cases);
    g_test_add_func("/insn-length/none", test_none);
    g_test_add_func("/insn-length/any", test_any);
    return g_test_run();
}
