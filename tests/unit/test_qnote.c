/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The file beside an image: when is the image believed to be as it was left? Each life of the VMM is a process of its own. */
#include <fcntl.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "qnote.h"

#define BYTES 4096

static char *folder, *image, *note;

/* The file stays the same one. */
static bool write_in_place(const char *text)
{
    int fd = open(image, O_WRONLY | O_TRUNC);
    bool written = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

    if (fd >= 0) {
        close(fd);
    }
    return written;
}

/* One life: opens the note, touches the image if asked to, and ends, in order or by a kill. Was the image as it was left? */
static bool life(bool write_image, bool killed)
{
    pid_t child = fork();
    int status;

    if (child == 0) {
        FutQnote mine = { 0 };
        bool same = false;
        if (!fut_qnote_open(&mine, image, BYTES, &same)) {
            _exit(77);
        }
        fut_qnote_begin(&mine);
        if (write_image && !write_in_place("written")) {
            _exit(77);
        }
        fut_qnote_end(&mine);
        if (killed) {
            _exit(same);
        }
        exit(same);
    }
    g_assert_cmpint(waitpid(child, &status, 0), ==, child);
    g_assert_true(WIFEXITED(status));
    g_assert_cmpint(WEXITSTATUS(status), !=, 77);
    return WEXITSTATUS(status) == 1;
}

static void edit(void (*change)(FutQnoteHead *head))
{
    FutQnoteHead head;
    int fd = open(note, O_RDWR);

    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(pread(fd, &head, sizeof(head), 0), ==, sizeof(head));
    change(&head);
    g_assert_cmpint(pwrite(fd, &head, sizeof(head), 0), ==, sizeof(head));
    close(fd);
}

static void clock_was_ahead(FutQnoteHead *head)
{
    head->clock_ns += INT64_C(10000000000); /* it has been set back by ten seconds since */
}

static void other_magic(FutQnoteHead *head)
{
    head->magic++;
}

static void other_boot(FutQnoteHead *head)
{
    head->boot[0] ^= 1;
}

static void fresh(void)
{
    g_assert_true(g_file_set_contents(image, "image", -1, NULL));
    g_unlink(note);
}

static void test_believed(void)
{
    fresh();
    g_assert_false(life(false, false)); /* no note yet */
    g_assert_true(life(true, false));
    g_assert_true(life(true, true));
    g_assert_true(life(false, false));
}

static void test_foreign_write(void)
{
    fresh();
    life(true, false);
    g_usleep(100000);
    g_assert_true(write_in_place("foreign"));
    g_assert_false(life(false, false));
    g_assert_true(life(false, false));
}

static void test_other_file(void)
{
    g_autofree char *copy = g_strconcat(image, ".copy", NULL);

    fresh();
    life(true, false);
    g_assert_true(g_file_set_contents(copy, "written", -1, NULL));
    g_assert_cmpint(g_rename(copy, image), ==, 0);
    g_assert_false(life(false, false));
}

static void test_doubtful(void)
{
    void (*const changes[])(FutQnoteHead *) = { clock_was_ahead, other_magic, other_boot };

    for (size_t i = 0; i < G_N_ELEMENTS(changes); i++) {
        fresh();
        life(true, false);
        edit(changes[i]);
        g_assert_false(life(false, false));
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    folder = g_dir_make_tmp("futago-qnote-XXXXXX", NULL);
    g_assert_nonnull(folder);
    image = g_build_filename(folder, "image", NULL);
    note = g_strconcat(image, ".futago", NULL);
    g_test_add_func("/qnote/believed", test_believed);
    g_test_add_func("/qnote/foreign-write", test_foreign_write);
    g_test_add_func("/qnote/other-file", test_other_file);
    g_test_add_func("/qnote/doubtful", test_doubtful);
    int result = g_test_run();
    g_unlink(note);
    g_unlink(image);
    g_rmdir(folder);
    return result;
}
