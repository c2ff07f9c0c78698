/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The door (futago.so) in a program that claims, through QEMU's own call, to be one QEMU or
 * another: the build it was made for is let in, every other gets one line and exit status 1.
 */
#include <dlfcn.h>
#include <glib.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "qemu-build.h"

#define EXPORT __attribute__((visibility("default")))

typedef struct {
    int64_t major;
    int64_t minor;
    int64_t micro;
} Triple;

typedef struct {
    Triple *triple;
    char *package;
} Report;

static const char *door;
static Triple claimed_triple;
static Report claimed = { .triple = &claimed_triple };
static gboolean claims_nothing;

EXPORT Report *qmp_query_version(void *errp);

Report *qmp_query_version(void *errp)
{
    return claims_nothing ? NULL : &claimed;
}

static void claim(const char *version, const char *package)
{
    int parts =
        sscanf(version, "%" G_GINT64_MODIFIER "d.%" G_GINT64_MODIFIER "d.%" G_GINT64_MODIFIER "d",
               &claimed_triple.major, &claimed_triple.minor, &claimed_triple.micro);

    g_assert_cmpint(parts, ==, 3);
    claimed.package = g_strdup(package);
}

/* In a child process: opens the door and says so. */
static void open_and_exit(void)
{
    void *handle = dlopen(door, RTLD_NOW | RTLD_LOCAL);

    g_assert_nonnull(handle);
    g_assert_nonnull(dlsym(handle, "qemu_plugin_install"));
    g_assert_cmpint(*(int *)dlsym(handle, "qemu_plugin_version"), ==, FUT_QEMU_PLUGIN_API);
    printf("the door is open\n");
    exit(EXIT_SUCCESS);
}

static void test_own_build(void)
{
    if (g_test_subprocess()) {
        claim(FUT_QEMU_VERSION, FUT_QEMU_PACKAGE);
        open_and_exit();
    }
    g_test_trap_subprocess(NULL, 0, 0);
    g_test_trap_assert_passed();
    g_test_trap_assert_stdout("*the door is open*");
    g_test_trap_assert_stderr_unmatched("*futago*");
}

static void expect_refusal(const char *running)
{
    g_autofree char *pattern = g_strdup_printf("futago: built for QEMU %s (%s), but this is %s: "
                                               "run ./dev setup && ./dev build on this machine\n",
                                               FUT_QEMU_VERSION, FUT_QEMU_PACKAGE, running);

    g_test_trap_subprocess(NULL, 0, 0);
    g_test_trap_assert_failed();
    g_test_trap_assert_stderr(pattern);
}

static void test_other_version(void)
{
    if (g_test_subprocess()) {
        claim("8.1.2", FUT_QEMU_PACKAGE);
        open_and_exit();
    }
    expect_refusal("QEMU 8.1.2 (" FUT_QEMU_PACKAGE ")");
}

static void test_other_package(void)
{
    if (g_test_subprocess()) {
        claim(FUT_QEMU_VERSION, FUT_QEMU_PACKAGE "+local1");
        open_and_exit();
    }
    expect_refusal("QEMU " FUT_QEMU_VERSION " (" FUT_QEMU_PACKAGE "+local1)");
}

static void test_no_qemu(void)
{
    if (g_test_subprocess()) {
        claims_nothing = TRUE;
        open_and_exit();
    }
    expect_refusal("a program that does not export QEMU's functions");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (int i = 1; i + 1 < argc; i++) {
        if (strcmp(argv[i], "--door") == 0) {
            g_setenv("FUT_TEST_DOOR", argv[i + 1], TRUE);
        }
    }
    /* Child processes get GLib's own arguments only. */
    door = g_getenv("FUT_TEST_DOOR");
    g_assert_nonnull(door);
    g_test_add_func("/loader/own-build", test_own_build);
    g_test_add_func("/loader/other-version", test_other_version);
    g_test_add_func("/loader/other-package", test_other_package);
    g_test_add_func("/loader/no-qemu", test_no_qemu);
    return g_test_run();
}
