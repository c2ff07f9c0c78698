/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A command line as another host has to start it. */
#include "expect.h"
#include "move_words.h"

static GPtrArray *words_of(const char *const *list)
{
    GPtrArray *words = g_ptr_array_new_with_free_func(g_free);

    for (; *list; list++) {
        g_ptr_array_add(words, g_strdup(*list));
    }
    return words;
}

/* `take_words` moved, with one disk "d0" at IMAGE; in one text, words parted by spaces. */
static char *moved_text(const char *const *list, const char *image)
{
    FutMoveDisk disk = { (char *)"d0", (char *)image, (char *)"/run/a b,c.nbd" };
    g_autoptr(GPtrArray) words = words_of(list);
    GError *error = NULL;
    g_autoptr(GPtrArray) moved = fut_move_words(words, "PLUGIN", &disk, 1, &error);

    g_assert_no_error(error);
    g_ptr_array_add(moved, NULL);
    return g_strjoinv(" ", (char **)moved->pdata);
}

static void check(const char *option, const char *value, const char *image, const char *wanted)
{
    const char *const list[] = { "qemu", option, value, "-m", "1G", NULL };
    g_autofree char *text = moved_text(list, image);
    g_autofree char *whole = g_strdup_printf("qemu -S -plugin PLUGIN %s -m 1G", wanted);

    g_assert_cmpstr(text, ==, whole);
}

static void test_disks(void)
{
    check("-drive", "file=/i.img,format=raw,if=virtio", "/i.img",
          "-drive format=raw,if=virtio,file.driver=nbd,file.server.type=unix,"
          "file.server.path=/run/a b,,c.nbd,file.reconnect-delay=30");
    check("-drive", "file=/i,,j.img,id=x", "/i,j.img",
          "-drive id=x,file.driver=nbd,file.server.type=unix,file.server.path=/run/a b,,c.nbd,"
          "file.reconnect-delay=30");
    check("--blockdev", "raw,node-name=d,file.driver=file,file.filename=/i,file.aio=native", "/i",
          "--blockdev raw,node-name=d,file.driver=nbd,file.server.type=unix,"
          "file.server.path=/run/a b,,c.nbd,file.reconnect-delay=30");
    check("-blockdev", "file,node-name=d,filename=/i,cache.direct=on", "/i",
          "-blockdev node-name=d,cache.direct=on,driver=nbd,server.type=unix,"
          "server.path=/run/a b,,c.nbd,reconnect-delay=30");
    check(
        "-blockdev",
        "{\"node-name\":\"d\",\"driver\":\"raw\",\"file\":{\"driver\":\"file\",\"filename\":\"/i\",\"aio\":\"native\"}}",
        "/i",
        "-blockdev {\"node-name\":\"d\",\"driver\":\"raw\",\"file\":{\"driver\":\"nbd\",\"server\":"
        "{\"type\":\"unix\",\"path\":\"/run/a b,c.nbd\"},\"reconnect-delay\":30}}");
    check("-hdb", "/i", "/i",
          "-drive file.driver=nbd,file.server.type=unix,file.server.path=/run/a b,,c.nbd,"
          "file.reconnect-delay=30,index=1,media=disk");
}

/* It has moved before, and is on a server: that is replaced, all else stays. */
static void test_disks_again(void)
{
    check("-drive",
          "format=raw,file.driver=nbd,file.server.type=unix,file.server.path=/r/vm-0.nbd,"
          "file.reconnect-delay=30",
          "/r/vm-0.nbd",
          "-drive format=raw,file.driver=nbd,file.server.type=unix,"
          "file.server.path=/run/a b,,c.nbd,file.reconnect-delay=30");
    check("-blockdev", "node-name=d,driver=nbd,server.type=unix,server.path=/s", "/s",
          "-blockdev node-name=d,driver=nbd,server.type=unix,server.path=/run/a b,,c.nbd");
    check("-blockdev",
          "{\"driver\":\"raw\",\"file\":{\"driver\":\"nbd\",\"server\":{\"type\":\"unix\","
          "\"path\":\"/s\"}}}",
          "/s",
          "-blockdev {\"driver\":\"raw\",\"file\":{\"driver\":\"nbd\",\"server\":{\"type\":"
          "\"unix\",\"path\":\"/run/a b,c.nbd\"}}}");
    check("-blockdev", "{\"driver\":\"nbd\",\"server.type\":\"unix\",\"server.path\":\"/s\"}", "/s",
          "-blockdev {\"driver\":\"nbd\",\"server.type\":\"unix\",\"server.path\":\"/run/a "
          "b,c.nbd\"}");
}

static void test_no_disk(void)
{
    const char *const list[] = { "qemu", "-drive", "file=/other,if=none", "-kernel", "/i", NULL };
    FutMoveDisk disk = { (char *)"d0", (char *)"/i", (char *)"/s" };
    g_autoptr(GPtrArray) words = words_of(list);
    GError *error = NULL;

    g_assert_null(fut_move_words(words, "PLUGIN", &disk, 1, &error));
    expect_error(
        error, FUT_ERR_UNSUPPORTED,
        "disk d0: its image /i is not found in QEMU's command line: name it with -drive or "
        "-blockdev");
}

/* What belongs to a place or a life stays; bytes of any encoding go along. */
static void test_words(void)
{
    const char *const list[] = { "qemu",        "-S",      "-daemonize",
                                 "-pidfile",    "/p",      "-name",
                                 "caf\xe9",     "-plugin", "/x/futago.so,name=vm",
                                 "-incoming",   "defer",   "-plugin",
                                 "/y/other.so", "-append", "",
                                 "-hda",        "/i",      NULL };
    g_autofree char *text = moved_text(list, "/i");

    g_assert_true(g_str_has_prefix(text, "qemu -S -plugin PLUGIN -name caf\xe9 -plugin /y/other.so "
                                         "-append  -drive file.driver=nbd,"));
}

static void test_plugin(void)
{
    const char *const list[] = {
        "qemu", "-plugin",
        "file=/lib/futago.so,role=primary,name=vm,node=a,arbiter=file:/x,,y,"
        "to=tcp:b:1,tls=psk:/k,insecure=on,timeout_ms=700,force_generation=on,restore=/s@1,"
        "restore_force=on",
        NULL
    };
    const char *const own[] = { "file=/n/futago.so", "role=backup", "tls=psk:/a,b", NULL };
    g_autoptr(GPtrArray) words = words_of(list);
    g_autofree char *plugin = fut_move_plugin(words, (char *const *)own);
    g_autofree char *arbiter = fut_move_option(words, "arbiter");

    g_assert_cmpstr(plugin, ==,
                    "file=/n/futago.so,role=backup,tls=psk:/a,,b,name=vm,arbiter=file:/x,,y,"
                    "timeout_ms=700");
    g_assert_cmpstr(arbiter, ==, "file:/x,y");
    g_assert_null(fut_move_option(words, "mode"));
}

static void test_map(void)
{
    const char *const list[] = { "tap0,br-tap0", "/a/a", "\xff/a", NULL };
    const char *const rules[] = { "tap0=t1", "/a=/b=c", NULL };
    g_autoptr(GPtrArray) words = words_of(list);

    fut_move_map(words, (char *const *)rules);
    g_assert_cmpstr(words->pdata[0], ==, "t1,br-t1");
    g_assert_cmpstr(words->pdata[1], ==, "/b=c/b=c");
    g_assert_cmpstr(words->pdata[2], ==, "\xff/b=c");
    fut_move_map(words, NULL);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/move-words/disks", test_disks);
    g_test_add_func("/move-words/disks-again", test_disks_again);
    g_test_add_func("/move-words/no-disk", test_no_disk);
    g_test_add_func("/move-words/words", test_words);
    g_test_add_func("/move-words/plugin", test_plugin);
    g_test_add_func("/move-words/map", test_map);
    return g_test_run();
}
