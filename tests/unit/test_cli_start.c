/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Words of a command line: into QEMU's argument, and what is wrong with them. */
#include <string.h>

#include "cli_start.h"
#include "fut_error.h"

#define WORDS_MAX 32

/* The argument that "futago WORD..." hands to QEMU; NULL with the error. `line` has words separated
 * by blanks. */
static char *plugin_of(const char *line, GError **error)
{
    g_auto(GStrv) words = g_strsplit(line, " ", WORDS_MAX);
    bool backup = strcmp(words[0], "standby") == 0;
    FutStart start;
    bool ok = fut_start_parse(&start, backup ? &fut_cmd_standby : &fut_cmd_run, backup,
                              (int)g_strv_length(words), words, error);
    char *plugin = ok ? fut_start_plugin(&start, "/m.so") : NULL;

    fut_start_done(&start);
    return plugin;
}

static void test_plugin(void)
{
    static const struct {
        const char *line, *plugin;
    } cases[] = {
        { "run --name vm -- qemu", "file=/m.so,role=primary,name=vm" },
        { "run --name=vm -- qemu --name other", "file=/m.so,role=primary,name=vm" },
        { "run --name vm --protect-to 127.0.0.1:7 --arbiter file:/a -- qemu",
          "file=/m.so,role=primary,name=vm,arbiter=file:/a,to=127.0.0.1:7" },
        { "run --name vm --protect-to 10.0.0.1:7 --insecure --arbiter file:/a -- qemu",
          "file=/m.so,role=primary,name=vm,arbiter=file:/a,to=10.0.0.1:7,insecure=on" },
        { "run --name vm --protect-to 10.0.0.1:7 --tls psk:/k,1 --arbiter file:/a -- qemu",
          "file=/m.so,role=primary,name=vm,arbiter=file:/a,to=10.0.0.1:7,tls=psk:/k,,1" },
        { "standby --name vm --listen 0.0.0.0:7 --tls x509:/pki --tls-name a,b --arbiter file:/a "
          "-- qemu",
          "file=/m.so,role=backup,name=vm,arbiter=file:/a,listen=0.0.0.0:7,tls=x509:/pki,"
          "tls_name=a,,b" },
        { "standby --name vm --listen unix:/a,b --arbiter file:/a -- qemu",
          "file=/m.so,role=backup,name=vm,arbiter=file:/a,listen=unix:/a,,b" },
        { "run --name vm --node n1 --arbiter file:/x,,y --mode stop --print",
          "file=/m.so,role=primary,name=vm,node=n1,arbiter=file:/x,,,,y,mode=stop" },
        { "standby --name vm --listen unix:/a --arbiter file:/a --events timer,net-rx --send-at-kick -- qemu",
          "file=/m.so,role=backup,name=vm,arbiter=file:/a,listen=unix:/a,events=timer,,net-rx,send_at_kick=on" },
        { "run --name vm --epoch-max-us 1 --batch-max-us 2 --heartbeat-ms 3 --timeout-ms 4 "
          "--retry-ms 5 --commit-ms 8 --verify 6 --state-check 7 --tracker flags --compress zstd "
          "--on-panic restart --tracker-check 9 --force-generation -- qemu",
          "file=/m.so,role=primary,name=vm,tracker=flags,compress=zstd,on_panic=restart,epoch_max_us=1,batch_max_us=2,heartbeat_ms=3,"
          "timeout_ms=4,retry_ms=5,commit_ms=8,verify=6,state_check=7,tracker_check=9,"
          "force_generation=on" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;
        g_autofree char *plugin = plugin_of(cases[i].line, &error);
        g_assert_no_error(error);
        g_assert_cmpstr(plugin, ==, cases[i].plugin);
    }
}

static void test_bad_words(void)
{
    static const struct {
        const char *line, *culprit;
    } cases[] = {
        { "run -- qemu", "--name" },
        { "run --name vm", "--" },
        { "run --name vm qemu -m 5", "--" },
        { "run --name vm --", "qemu" },
        { "run --name vm -- -m", "qemu" },
        { "run --name vm stray -- qemu", "stray" },
        { "run --name vm --bogus -- qemu", "--bogus" },
        { "run --name vm --listen 127.0.0.1:1 -- qemu", "--listen" },
        { "standby --name vm --listen 127.0.0.1:1 --protect-to 127.0.0.1:1 -- qemu",
          "--protect-to" },
        { "run --name -- qemu", "--name" },
        { "run --name a/b -- qemu", "a/b" },
        { "run --name vm --node a,b -- qemu", "a,b" },
        { "run --name vm --mode sideways -- qemu", "sideways" },
        { "run --name vm --flush never -- qemu", "never" },
        { "run --name vm --tracker guess -- qemu", "queue or words or flags" },
        { "run --name vm --events net-tx,sunrise -- qemu", "sunrise" },
        { "run --name vm --arbiter oracle:delphi -- qemu", "oracle:delphi" },
        { "run --name vm --verify -1 -- qemu", "-1" },
        { "run --name vm --verify 1.5 -- qemu", "1.5" },
        { "run --name vm --retry-ms 99999999999 -- qemu", "99999999999" },
        { "run --name vm --timeout-ms soon -- qemu", "soon" },
        { "run --name vm --protect-to tcp:nowhere -- qemu", "nowhere" },
        { "run --name vm --protect-to 10.0.0.1:7 -- qemu", "--insecure" },
        { "run --name vm --protect-to 10.0.0.1:7 -- qemu", "--tls" },
        { "run --name vm --tls on -- qemu", "--tls: TLS \"on\"" },
        { "run --name vm --tls psk:keys.psk -- qemu", "psk:keys.psk" },
        { "run --name vm --tls psk:/k --tls-name a:b -- qemu", "a:b" },
        { "run --name vm --tls x509:/d --tls-name a,,b -- qemu", "a,,b" },
        { "run --name vm --tls-name a -- qemu", "--tls-name" },
        { "standby --name vm -- qemu", "--listen" },
        { "standby --name vm --listen localhost:7 -- qemu", "--arbiter" },
        { "run --name vm --protect-to localhost:7 -- qemu", "--arbiter" },
        { "standby --name vm --listen 0.0.0.0:7 -- qemu", "--insecure" },
        { "standby --name vm --listen 127.0.0.1:99999 -- qemu", "99999" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;
        g_assert_null(plugin_of(cases[i].line, &error));
        g_assert_error(error, FUT_ERROR, FUT_ERR_ARG);
        if (!strstr(error->message, cases[i].culprit)) {
            g_error("%s: '%s' does not say '%s'", cases[i].line, error->message, cases[i].culprit);
        }
    }
}

static void check_command(const char *line, const char *expected)
{
    g_auto(GStrv) words = g_strsplit(line, " ", WORDS_MAX);
    bool backup = strcmp(words[0], "standby") == 0;
    FutStart start;
    g_assert_true(fut_start_parse(&start, backup ? &fut_cmd_standby : &fut_cmd_run, backup,
                                  (int)g_strv_length(words), words, NULL));
    g_autoptr(GPtrArray) command = fut_start_command(&start, "M");
    g_autofree char *joined = g_strjoinv(" ", (char **)command->pdata);

    g_assert_cmpstr(joined, ==, expected);
    fut_start_done(&start);
}

static void test_command(void)
{
    check_command("run --name vm -- qemu", "qemu -plugin file=M,role=primary,name=vm");
    check_command("run --name vm -- qemu -m 5 -- x",
                  "qemu -plugin file=M,role=primary,name=vm -m 5 -- x");
    check_command(
        "standby --name vm --listen localhost:7 --arbiter file:/a -- qemu -m 5",
        "qemu -S -plugin file=M,role=backup,name=vm,arbiter=file:/a,listen=localhost:7 -m 5");
    check_command("run --name vm --shared-disk a --shared-disk b -- qemu",
                  "qemu -plugin file=M,role=primary,name=vm,shared_disk=a,shared_disk=b");
    check_command("standby --name vm --listen localhost:7 --arbiter file:/a --shared-disk all -- q",
                  "q -S -incoming defer -plugin file=M,role=backup,name=vm,arbiter=file:/a,"
                  "listen=localhost:7,shared_disk=all");
}

static void test_module(void)
{
    g_autoptr(GError) error = NULL;

    g_setenv("FUTAGO_MODULE", "/no/futago.so", TRUE);
    g_assert_null(fut_start_module(&error));
    g_assert_error(error, FUT_ERROR, FUT_ERR_ARG);
    g_clear_error(&error);
    g_setenv("FUTAGO_MODULE", "/", TRUE);
    g_assert_null(fut_start_module(&error));
    g_assert_error(error, FUT_ERROR, FUT_ERR_ARG);
    g_clear_error(&error);
    g_setenv("FUTAGO_MODULE", "/proc/self/exe", TRUE);
    g_autofree char *module = fut_start_module(&error);
    g_assert_no_error(error);
    g_assert_cmpstr(module, ==, "/proc/self/exe");
    g_unsetenv("FUTAGO_MODULE");
}

static void test_tunables(void)
{
    static const struct {
        const char *own, *all;
    } cases[] = {
        { NULL, "glibc.malloc.hugetlb=1" },
        { "", "glibc.malloc.hugetlb=1" },
        { "glibc.malloc.hugetlb=0", "glibc.malloc.hugetlb=0" },
        { "glibc.malloc.top_pad=0:glibc.malloc.hugetlb=2",
          "glibc.malloc.top_pad=0:glibc.malloc.hugetlb=2" },
        { "glibc.malloc.check=1", "glibc.malloc.check=1:glibc.malloc.hugetlb=1" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *all = fut_start_tunables(cases[i].own);
        g_assert_cmpstr(all, ==, cases[i].all);
    }
}

static void test_nearest(void)
{
    static const char *const names[] = { "run", "standby", "status", "stop" };
    static const struct {
        const char *word, *nearest;
    } cases[] = {
        { "statsu", "status" }, { "stauts", "status" }, { "standbye", "standby" },
        { "rnu", "run" },       { "stpo", "stop" },     { "frobnicate", NULL },
        { "", NULL },           { "xyz", NULL },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_assert_cmpstr(fut_cli_nearest(cases[i].word, names, G_N_ELEMENTS(names)), ==,
                        cases[i].nearest);
    }
    g_autofree char *endless = g_strnfill(100000, 'r');
    g_assert_null(fut_cli_nearest(endless, names, G_N_ELEMENTS(names)));
}

static void test_vm(void)
{
    char *argv[] = { "stop", "vm", "x", NULL };
    g_autoptr(GError) error = NULL;

    g_assert_cmpstr(fut_cli_vm(&fut_cmd_stop, 2, argv, false, &error), ==, "vm");
    g_assert_null(fut_cli_vm(&fut_cmd_stop, 1, argv, true, &error));
    g_assert_no_error(error);
    g_assert_null(fut_cli_vm(&fut_cmd_stop, 1, argv, false, &error));
    g_assert_error(error, FUT_ERROR, FUT_ERR_ARG);
    g_clear_error(&error);
    g_assert_null(fut_cli_vm(&fut_cmd_stop, 3, argv, true, &error));
    g_assert_error(error, FUT_ERROR, FUT_ERR_ARG);
    g_clear_error(&error);
    argv[1] = "a/b";
    g_assert_null(fut_cli_vm(&fut_cmd_stop, 2, argv, false, &error));
    g_assert_error(error, FUT_ERROR, FUT_ERR_ARG);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/cli/start/plugin", test_plugin);
    g_test_add_func("/cli/start/bad-words", test_bad_words);
    g_test_add_func("/cli/start/command", test_command);
    g_test_add_func("/cli/start/module", test_module);
    g_test_add_func("/cli/start/tunables", test_tunables);
    g_test_add_func("/cli/words/nearest", test_nearest);
    g_test_add_func("/cli/words/vm", test_vm);
    return g_test_run();
}
