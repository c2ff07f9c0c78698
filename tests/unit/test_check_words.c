/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "check_words.h"

#include <glib/gstdio.h>

typedef struct {
    const char *words; /* separated by blanks; the program is put before */
    const char *harmless;
    const char *problem; /* NULL: none */
} Case;

static void check(const Case *wanted)
{
    g_autofree char *line = g_strdup_printf("qemu %s", wanted->words);
    g_auto(GStrv) argv = g_strsplit(line, " ", -1);
    FutCheckWords made;
    fut_check_words_init(&made, argv);
    g_ptr_array_add(made.words, NULL);
    g_autofree char *text = g_strjoinv(" ", (char **)made.words->pdata + 1);
    g_assert_cmpstr(text, ==, wanted->harmless);
    g_assert_cmpuint(made.problems->len, ==, wanted->problem ? 1 : 0);
    if (wanted->problem) {
        g_assert_nonnull(strstr(made.problems->pdata[0], wanted->problem));
    }
    fut_check_words_done(&made);
}

static void check_all(const Case *cases, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        check(&cases[i]);
    }
}

static void test_net(void)
{
    static const Case cases[] = {
        { "-netdev tap,id=n0,ifname=t0", "-netdev user,restrict=on,id=n0", NULL },
        { "--netdev tap,id=n0", "-netdev user,restrict=on,id=n0", NULL },
        { "-netdev {\"type\":\"tap\",\"id\":\"n0\",\"vhost\":true}",
          "-netdev user,restrict=on,id=n0", "\"n0\" has vhost=on" },
        { "-netdev tap,id=n0,vhostforce=on", "-netdev user,restrict=on,id=n0", "vhost=off" },
        { "-netdev vhost-user,id=n0,chardev=c", "-netdev user,restrict=on,id=n0",
          "use -netdev tap" },
        { "-nic tap,model=e1000,mac=52:54:00:00:00:01",
          "-nic user,restrict=on,model=e1000,mac=52:54:00:00:00:01", NULL },
        { "-nic none", "-nic none", NULL },
        { "-net nic,model=e1000 -net tap", "-net nic,model=e1000 -net user,restrict=on", NULL },
    };
    check_all(cases, G_N_ELEMENTS(cases));
}

static void test_disks(void)
{
    static const Case cases[] = {
        { "-drive file=nbd:host:1,if=virtio,id=d,cache=none",
          "-drive id=d,if=virtio,format=raw,file.driver=null-co,file.size=1073741824", NULL },
        { "-drive if=none,id=empty", "-drive if=none,id=empty", NULL },
        { "-drive file=/no/such,if=virtio",
          "-drive if=virtio,format=raw,file.driver=null-co,file.size=1073741824", "/no/such" },
        { "-drive file=nbd:a,format=vmdk,id=old",
          "-drive id=old,format=raw,file.driver=null-co,file.size=1073741824", "vmdk" },
        { "-blockdev {\"driver\":\"qcow2\",\"node-name\":\"n\",\"read-only\":true,\"file\":\"f\"}",
          "-blockdev null-co,node-name=n,size=1073741824,read-only=on", NULL },
        { "-hda nbd:a -cdrom nbd:b",
          "-drive index=0,media=disk,format=raw,file.driver=null-co,file.size=1073741824 "
          "-drive index=2,media=cdrom,format=raw,file.driver=null-co,file.size=1073741824",
          NULL },
    };
    check_all(cases, G_N_ELEMENTS(cases));
}

/* Firmware must have the size of its image; a comma in a name is doubled. */
static void test_sizes(void)
{
    g_autofree char *folder = g_dir_make_tmp("futago-check-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(folder, "a,b", NULL);
    g_assert_true(g_file_set_contents(path, "1234", 4, NULL));
    g_autofree char *drive = g_strdup_printf("-drive if=pflash,file=%s/a,,b", folder);
    g_autofree char *nodes = g_strdup_printf(
        "-blockdev file,node-name=f,filename=%s/a,,b -blockdev raw,node-name=n,file=f", folder);
    const Case cases[] = {
        { drive, "-drive if=pflash,format=raw,file.driver=null-co,file.size=4", NULL },
        { nodes, "-blockdev null-co,node-name=f,size=4 -blockdev null-co,node-name=n,size=4",
          NULL },
    };
    check_all(cases, G_N_ELEMENTS(cases));
    g_unlink(path);
    g_rmdir(folder);
}

static void test_devices(void)
{
    static const Case cases[] = {
        { "-device vfio-pci,host=01:00.0,id=gpu -device e1000", "-device e1000", "\"gpu\"" },
        { "-device {\"driver\":\"usb-host\"}", "", "usb-host" },
        { "-object memory-backend-file,id=m,size=1G,mem-path=/x,share=on",
          "-object memory-backend-ram,id=m,size=1G", NULL },
        { "-object {\"qom-type\":\"memory-backend-memfd\",\"id\":\"m\",\"size\":4096}",
          "-object memory-backend-ram,id=m,size=4096", NULL },
        { "-object secret,id=s,file=/x -object iothread,id=i", "-object iothread,id=i", NULL },
    };
    check_all(cases, G_N_ELEMENTS(cases));
}

static void test_rest(void)
{
    static const Case cases[] = {
        { "-M q35 -m 4G -kernel x", "-M q35 -m 4G -kernel x", NULL },
        { "-chardev socket,id=c,path=/x,server=on -serial chardev:c -serial file:/y",
          "-chardev null,id=c -serial chardev:c -serial null", NULL },
        { "-daemonize -S -pidfile /p -vnc :1 -qmp unix:/q,server -nographic -m 1", "-m 1", NULL },
        { "-incoming tcp:0:1", "", "leave out -incoming" },
        { "-readconfig f", "", "command line" },
        { "-netdev", "-netdev", NULL }, /* QEMU says that something is missing */
    };
    check_all(cases, G_N_ELEMENTS(cases));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/check/net", test_net);
    g_test_add_func("/check/disks", test_disks);
    g_test_add_func("/check/sizes", test_sizes);
    g_test_add_func("/check/devices", test_devices);
    g_test_add_func("/check/rest", test_rest);
    return g_test_run();
}
