/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Addresses of the arbiter "etcd:". What it does with a server is tested with real ones:
 * tests/integration/test_arbiter_etcd.py. */
#include <string.h>
#include <sys/stat.h>

#include "arbiter.h"
#include "arbiter_check.h"
#include "etcd_call.h"
#include "fut_clock.h"
#include "fut_error.h"
#include "test_tmp.h"

static void test_good(void)
{
    static const struct {
        const char *where, *servers, *prefix;
    } good[] = {
        { "http://10.0.0.1:2379", "http://10.0.0.1:2379", "/futago" },
        { "http://10.0.0.1", "http://10.0.0.1:2379", "/futago" },
        { "https://h1:1,https://h2:2,https://h3:3", "https://h1:1 https://h2:2 https://h3:3",
          "/futago" },
        { "http://h1:1/,http://h2:2/a/b-c_d.e/", "http://h1:1 http://h2:2", "/a/b-c_d.e" },
        { "http://[fd00::1]:2379/x", "http://[fd00::1]:2379", "/x" },
        { "HTTP://h:1", "http://h:1", "/futago" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(good); i++) {
        g_autoptr(GError) error = NULL;
        FutEtcd etcd;
        g_assert_true(fut_etcd_init(&etcd, good[i].where, &error));
        g_assert_no_error(error);
        g_ptr_array_add(etcd.servers, NULL);
        g_autofree char *servers = g_strjoinv(" ", (char **)etcd.servers->pdata);
        g_assert_cmpstr(servers, ==, good[i].servers);
        g_assert_cmpstr(etcd.prefix, ==, good[i].prefix);
        fut_etcd_done(&etcd);
    }
}

static void test_bad(void)
{
    static const struct {
        const char *where, *words;
    } bad[] = {
        { "10.0.0.1:2379", "there are URLs" },
        { "http://", "use http://HOST:PORT" },
        { "http://h:x", "use http://HOST:PORT" },
        { "http://h:99999", "use http://HOST:PORT" },
        { "ftp://h:1", "use http://HOST:PORT" },
        { "http://user:secret@h:1", "HOST:PORT" },
        { "http://h:1/x?y", "/PREFIX only" },
        { "http://h:1/x#y", "/PREFIX only" },
        { "http://h:1/x%20y", "a prefix has letters" },
        { "http://h:1/x,http://h:2/y", "ends the list" },
        { "http://h:1/x,http://h:2", "ends the list" },
        { "http://h:1,", "there are URLs" },
        { ",http://h:1", "there are URLs" },
        { "http://h:1,user=x", "there are URLs" },
        { "https://h:1,cacert=/none/such", "cannot be read" },
        { "https://h:1,cacert=", "cannot be read" },
        { "https://h:1,cert=/etc/hostname", "go together" },
        { "https://h:1,key=/etc/hostname", "go together" },
        { "http://h:1,cacert=/etc/hostname", "need https" },
        { "cacert=/etc/hostname", "name a member" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;
        g_autofree char *address = g_strdup_printf("etcd:%s", bad[i].where);
        g_test_message("%s", address);
        g_assert_null(fut_arbiter_open(address, "vm", &error));
        g_assert_error(error, FUT_ERROR, FUT_ERR_ARG);
        if (!strstr(error->message, bad[i].words)) {
            g_error("%s: '%s' does not say '%s'", bad[i].where, error->message, bad[i].words);
        }
    }
}

/* A file with a password: what is wrong with it is said, and never what is in it. */
static void test_login_files(void)
{
    static const struct {
        const char *text;
        mode_t mode;
        const char *server, *words;
    } bad[] = {
        { "user:secret\n", 0644, "https://h:1", "chmod 600" },
        { "secret\n", 0600, "https://h:1", "one line, USER:PASSWORD" },
        { ":secret\n", 0600, "https://h:1", "one line, USER:PASSWORD" },
        { "user:\n", 0600, "https://h:1", "one line, USER:PASSWORD" },
        { "user:secret\nmore\n", 0600, "https://h:1", "one line, USER:PASSWORD" },
        { "", 0600, "https://h:1", "one line, USER:PASSWORD" },
        { "user:secret\n", 0600, "http://h:1", "by https:// only" },
        { "user:secret\n", 0600, "http://127.0.0.1.example.org:1", "by https:// only" },
        { "user:secret\n", 0600, "https://h:1,http://localhost.example.org:1", "by https:// only" },
    };
    g_autofree char *folder = fut_test_tmp();
    g_autofree char *path = g_strdup_printf("%s/login", folder);
    g_autofree char *good = g_strdup_printf("etcd:http://127.0.0.1:1,login=%s", path);
    g_autofree char *missing = g_strdup_printf("etcd:https://h:1,login=%s/none", folder);
    g_autoptr(GError) error = NULL;

    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autofree char *address = g_strdup_printf("etcd:%s,login=%s", bad[i].server, path);
        g_assert_true(g_file_set_contents(path, bad[i].text, -1, NULL));
        g_assert_cmpint(chmod(path, bad[i].mode), ==, 0);
        g_assert_null(fut_arbiter_open(address, "vm", &error));
        g_assert_error(error, FUT_ERROR, FUT_ERR_ARG);
        g_assert_nonnull(strstr(error->message, bad[i].words));
        g_assert_null(strstr(error->message, "secret"));
        g_clear_error(&error);
    }
    g_autoptr(FutArbiter) arbiter = fut_arbiter_open(good, "vm", &error);
    g_assert_no_error(error);
    g_assert_null(fut_arbiter_open(missing, "vm", &error));
    g_assert_nonnull(strstr(error->message, "No such file"));
    fut_test_tmp_remove(folder);
}

static void test_too_many(void)
{
    GString *where = g_string_new("etcd:http://h:1");
    g_autoptr(GError) error = NULL;

    for (int i = 0; i < 15; i++) {
        g_string_append(where, ",http://h:1");
    }
    g_autoptr(FutArbiter) most = fut_arbiter_open(where->str, "vm", &error);
    g_assert_no_error(error);
    g_string_append(where, ",http://h:1");
    g_assert_null(fut_arbiter_open(where->str, "vm", &error));
    g_assert_error(error, FUT_ERROR, FUT_ERR_ARG);
    g_string_free(where, TRUE);
}

/* Nobody listens on port 1: no answer, at once; and the environment's proxy is not asked. */
static void test_nobody(void)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(FutArbiter) arbiter =
        fut_arbiter_open("etcd:http://127.0.0.1:1,http://127.0.0.2:1", "vm", &error);
    uint64_t begin_ns = fut_now_ns(), generation = 7;
    FutArbiterRecord record = { 0 };

    g_assert_no_error(error);
    g_setenv("http_proxy", "http://127.0.0.3:1", TRUE);
    check_claim(arbiter, 1, "hostA", FUT_CLAIM_UNKNOWN, "http://127.0.0.1:1: ");
    check_claim(arbiter, 1, "hostA", FUT_CLAIM_UNKNOWN, "http://127.0.0.2:1: ");
    g_autofree char *text = NULL;
    fut_arbiter_claim(arbiter, 1, "hostA", &text);
    g_assert_null(strstr(text, "127.0.0.3"));
    g_assert_false(fut_arbiter_read(arbiter, &record, &error));
    g_assert_error(error, FUT_ERROR, FUT_ERR_IO);
    g_clear_error(&error);
    g_assert_false(fut_arbiter_release(arbiter, 1, "hostA", NULL));
    g_assert_false(fut_arbiter_start(arbiter, "hostA", true, &generation, NULL));
    g_assert_cmpuint(generation, ==, 7);
    g_assert_cmpuint(fut_now_ns() - begin_ns, <, 20 * FUT_NS_PER_S);
    g_unsetenv("http_proxy");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/arbiter-etcd/good", test_good);
    g_test_add_func("/arbiter-etcd/bad", test_bad);
    g_test_add_func("/arbiter-etcd/login-files", test_login_files);
    g_test_add_func("/arbiter-etcd/too-many", test_too_many);
    g_test_add_func("/arbiter-etcd/nobody", test_nobody);
    return g_test_run();
}
