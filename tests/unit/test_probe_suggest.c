/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Shipped probes by symptom. */
#include <glib.h>
#include <string.h>

#include "probe_suggest.h"
#include "test_tmp.h"

static void put(const char *folder, const char *file, const char *text)
{
    g_autofree char *path = g_build_filename(folder, file, NULL);

    g_assert_true(g_file_set_contents(path, text, -1, NULL));
}

/* Names in order, "a b". */
static char *suggested(const char *folder, const char *symptom)
{
    json_t *found = fut_probe_suggest(folder, symptom), *one;
    GString *names = g_string_new("");
    size_t i;

    json_array_foreach(found, i, one)
    {
        g_string_append_printf(names, "%s%s", i ? " " : "",
                               json_string_value(json_object_get(one, "name")));
    }
    json_decref(found);
    return g_string_free(names, FALSE);
}

static void check(const char *folder, const char *symptom, const char *expected)
{
    g_autofree char *names = suggested(folder, symptom);

    g_assert_cmpstr(names, ==, expected);
}

static void test_suggest(void)
{
    g_autofree char *folder = fut_test_tmp();

    put(folder, "oom.probe",
        "severity=error about=\"memory killer\" means=\"more memory\" kprobe:oom_kill_process");
    put(folder, "disk-full.probe",
        "about=\"disk space ENOSPC\" means=\"no memory for it\" kprobe:ext4_should_retry_alloc else kprobe:ext4_other");
    put(folder, "bad.probe", "severity=nonsense about=\"memory\" kprobe:x");
    put(folder, "poweroff.probe", "about=\"a soft end\" kprobe:kernel_power_off");
    put(folder, "notes.txt", "about=\"memory\" kprobe:x");
    check(folder, "Out of MEMORY!", "oom disk-full");
    check(folder, "no space on the disk", "disk-full");
    check(folder, "ext4_other", "disk-full");
    check(folder, "oom_kill", "oom");
    check(folder, "oom", "oom");
    check(folder, "power", "poweroff");
    check(folder, "ow", "");
    check(folder, "zebra", "");
    check(folder, "", "");
    json_t *found = fut_probe_suggest(folder, "space");
    json_t *functions = json_object_get(json_array_get(found, 0), "functions");
    g_assert_cmpuint(json_array_size(functions), ==, 2);
    g_assert_cmpstr(json_string_value(json_array_get(functions, 1)), ==, "ext4_other");
    json_decref(found);
    check("/no/such/folder", "memory", "");
    fut_test_tmp_remove(folder);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/probe-suggest/all", test_suggest);
    return g_test_run();
}
