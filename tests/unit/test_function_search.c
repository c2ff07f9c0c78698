/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Functions by words: which fit, in which order, and only where a probe can stand. */
#include <glib.h>

#include "function_search.h"
#include "probe_fixture.h"

#define TEXT UINT64_C(0xffffffff81000000)

typedef struct {
    Fixture fixture;
    FutGuestKernel kernel;
} Kernel;

static void kernel_init(Kernel *kernel)
{
    static const struct {
        uint64_t address;
        char type;
        const char *name;
    } symbols[] = {
        { 0, 'T', "_text" },
        { 0x10, 't', "ext4_remount" },
        { 0x20, 'T', "ext4_error_inode" },
        { 0x30, 'T', "ext4_error_inode" },
        { 0x40, 't', "ext4_remount.cold" },
        { 0x50, 'D', "ext4_remount_count" },
        { 0x60, 'T', "__pfx_ext4_remount" },
        { 0x70, 'T', "next4_thing" },
        { 0x80, 'W', "Do_Remounting" },
        { 0x90, 'T', "ip_rcv" },
        { 0xa0, 'T', "skip_it" },
        { 0x400000, 'T', "ext4_not_there" }, /* no memory */
    };
    FutGuestMemory memory = fixture_memory(&kernel->fixture);

    fixture_map(&kernel->fixture, &memory, TEXT, 0x800000, 2);
    kernel->kernel = (FutGuestKernel){ .memory = memory, .symbols = fut_kallsyms_new() };
    for (size_t i = 0; i < G_N_ELEMENTS(symbols); i++) {
        fut_kallsyms_add(kernel->kernel.symbols, TEXT + symbols[i].address, symbols[i].type,
                         symbols[i].name);
    }
}

static void kernel_done(Kernel *kernel)
{
    fut_kallsyms_free(kernel->kernel.symbols);
    g_free(kernel->fixture.ram);
}

static void expect(const Kernel *kernel, const char *words, const char *names)
{
    const char *found[FUT_FUNCTIONS_FOUND_MAX];
    unsigned count = fut_function_search(&kernel->kernel, words, found);
    g_autoptr(GString) text = g_string_new("");

    for (unsigned i = 0; i < count; i++) {
        g_string_append_printf(text, "%s%s", i ? " " : "", found[i]);
    }
    g_assert_cmpstr(text->str, ==, names);
}

static void test_order(void)
{
    Kernel kernel;

    kernel_init(&kernel);
    expect(&kernel, "EXT4, remount!", "ext4_remount ext4_error_inode next4_thing Do_Remounting");
    expect(&kernel, "ext4_error_inode", "ext4_error_inode");
    expect(&kernel, "ip", "ip_rcv");
    expect(&kernel, "nothing of that", "");
    expect(&kernel, "", "");
    expect(&kernel, "\xc3\xa9 .. ?", "");
    kernel_done(&kernel);
}

/* The best of many, whatever their order. */
static void test_many(void)
{
    const char *found[FUT_FUNCTIONS_FOUND_MAX];
    Kernel kernel;

    kernel_init(&kernel);
    for (unsigned i = 0; i < 300; i++) {
        char name[64];
        g_snprintf(name, sizeof(name), "tcp_%0*u", 3 + (int)(i * 7 % 50), i);
        fut_kallsyms_add(kernel.kernel.symbols, TEXT + 0x1000 + i, 'T', name);
    }
    fut_kallsyms_add(kernel.kernel.symbols, TEXT + 0x2000, 'T', "tcp");
    g_assert_cmpuint(fut_function_search(&kernel.kernel, "tcp", found), ==,
                     FUT_FUNCTIONS_FOUND_MAX);
    g_assert_cmpstr(found[0], ==, "tcp");
    for (unsigned i = 2; i < FUT_FUNCTIONS_FOUND_MAX; i++) {
        g_assert_cmpuint(strlen(found[i - 1]), <=, strlen(found[i]));
    }
    g_assert_cmpstr(found[1], ==, "tcp_000");
    kernel_done(&kernel);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/function-search/order", test_order);
    g_test_add_func("/function-search/many", test_many);
    return g_test_run();
}
