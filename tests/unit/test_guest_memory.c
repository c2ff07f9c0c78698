/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A guest's memory through its page tables. */
#include <glib.h>

#include "probe_fixture.h"

#define KERNEL UINT64_C(0xffffffff81000000)

static uint64_t translated(const FutGuestMemory *memory, uint64_t address)
{
    uint64_t physical = 1;

    g_assert_true(fut_guest_translate(memory, address, &physical));
    return physical;
}

static void assert_absent(const FutGuestMemory *memory, uint64_t address)
{
    uint64_t physical = 77;

    g_assert_false(fut_guest_translate(memory, address, &physical));
    g_assert_cmpuint(physical, ==, 77);
}

static void test_page_sizes(void)
{
    for (int five = 0; five <= 1; five++) {
        Fixture fixture;
        FutGuestMemory memory = fixture_memory(&fixture);

        memory.five_levels = five;
        fixture_map(&fixture, &memory, KERNEL, 0x200000, 2);
        fixture_map(&fixture, &memory, 0x7f0000001000, 0x5000, 1);
        fixture_map(&fixture, &memory, UINT64_C(0xffff888040000000), 0x40000000, 3);
        g_assert_cmphex(translated(&memory, KERNEL + 0x12345), ==, 0x212345);
        g_assert_cmphex(translated(&memory, 0x7f0000001fff), ==, 0x5fff);
        g_assert_cmphex(translated(&memory, UINT64_C(0xffff88804abcdef1)), ==, 0x4abcdef1);
        assert_absent(&memory, KERNEL + 0x200000);
        assert_absent(&memory, 0x7f0000002000);
        assert_absent(&memory, UINT64_C(0x8000000000000000));
        /* The bits that tell processes apart are no address. */
        memory.cr3 |= UINT64_C(1) << 63 | 5;
        g_assert_cmphex(translated(&memory, KERNEL), ==, 0x200000);
        g_free(fixture.ram);
    }
}

static void test_read_across_pages(void)
{
    Fixture fixture;
    FutGuestMemory memory = fixture_memory(&fixture);
    char text[64], small[4];

    fixture_map(&fixture, &memory, KERNEL, 0x100000, 1);
    fixture_map(&fixture, &memory, KERNEL + 4096, 0x300000, 1);
    memcpy(fixture.ram + 0x100ffc, "abcd", 4);
    memcpy(fixture.ram + 0x300000, "efgh\n\0", 6);
    g_assert_true(fut_guest_read(&memory, KERNEL + 4092, text, 8));
    g_assert_cmpint(memcmp(text, "abcdefgh", 8), ==, 0);
    g_assert_false(fut_guest_read(&memory, KERNEL + 8190, text, 4));

    g_assert_true(fut_guest_read_string(&memory, KERNEL + 4092, text, sizeof(text)));
    g_assert_cmpstr(text, ==, "abcdefgh");
    g_assert_true(fut_guest_read_string(&memory, KERNEL + 4092, small, sizeof(small)));
    g_assert_cmpstr(small, ==, "abc");
    /* It ends where memory does. */
    memcpy(fixture.ram + 0x300ffe, "x\x01", 2);
    g_assert_true(fut_guest_read_string(&memory, KERNEL + 8190, text, sizeof(text)));
    g_assert_cmpstr(text, ==, "x?");
    g_assert_false(fut_guest_read_string(&memory, KERNEL + 8192, text, sizeof(text)));
    g_free(fixture.ram);
}

/* Tables that point to themselves or anywhere: each call ends after a few reads. */
static void test_hostile_tables(void)
{
    Fixture fixture;
    FutGuestMemory memory = fixture_memory(&fixture);
    g_autoptr(GRand) random = g_rand_new_with_seed(7);

    for (unsigned round = 0; round < 20000; round++) {
        uint64_t physical;
        for (unsigned i = 0; i < 8; i++) {
            uint64_t entry = (uint64_t)g_rand_int_range(random, 0, 4096) << 12 |
                             (uint64_t)g_rand_int_range(random, 0, 256);
            fut_put_le64(fixture.ram + 8 * (uint64_t)g_rand_int_range(random, 0, FIXTURE_BYTES / 8),
                         entry);
            fut_put_le64(fixture.ram + FIXTURE_CR3 + 8 * (uint64_t)g_rand_int_range(random, 0, 512),
                         FIXTURE_CR3 | 1);
        }
        fixture.reads = 0;
        fut_guest_translate(&memory, (uint64_t)g_rand_int(random) << 32 | g_rand_int(random),
                            &physical);
        fut_guest_translate(&memory, (uint64_t)g_rand_int(random) << 12, &physical);
        g_assert_cmpuint(fixture.reads, <=, 8);
    }
    g_free(fixture.ram);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/guest-memory/page-sizes", test_page_sizes);
    g_test_add_func("/guest-memory/read-across-pages", test_read_across_pages);
    g_test_add_func("/guest-memory/hostile-tables", test_hostile_tables);
    return g_test_run();
}
