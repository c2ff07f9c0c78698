/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Log: the shape of a line, levels, sinks, lines of several threads. */
#include "fut_log.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

typedef struct {
    int saved; /* the real stderr */
    int file;
} Capture;

static void capture_start(Capture *capture)
{
    g_autofree char *path = NULL;
    g_autoptr(GError) error = NULL;
    capture->file = g_file_open_tmp("futago-log-XXXXXX", &path, &error);
    g_assert_no_error(error);
    unlink(path);
    capture->saved = dup(STDERR_FILENO);
    fcntl(capture->file, F_SETFL, O_APPEND);
    g_assert_cmpint(dup2(capture->file, STDERR_FILENO), ==, STDERR_FILENO);
}

/* What was written; caller frees. */
static char *capture_stop(Capture *capture)
{
    dup2(capture->saved, STDERR_FILENO);
    close(capture->saved);
    off_t length = lseek(capture->file, 0, SEEK_END);
    char *text = g_malloc0((gsize)length + 1);
    g_assert_cmpint(pread(capture->file, text, (size_t)length, 0), ==, length);
    close(capture->file);
    return text;
}

static void test_line(void)
{
    Capture capture;
    fut_log_setup(NULL, FUT_LOG_INFO);
    capture_start(&capture);
    fut_log(FUT_LOG_INFO, "FUT-101", "epoch %d", 7);
    fut_log_setup("web1", FUT_LOG_INFO);
    fut_log(FUT_LOG_ERROR, "FUT-102", "two\nlines\r\n");
    g_autofree char *text = capture_stop(&capture);
    g_assert_cmpstr(text, ==, "futago: FUT-101 epoch 7\nfutago[web1]: FUT-102 two lines  \n");
}

static void test_levels(void)
{
    Capture capture;
    fut_log_setup("v", FUT_LOG_WARN);
    capture_start(&capture);
    fut_log(FUT_LOG_DEBUG, "FUT-1", "no");
    fut_log(FUT_LOG_INFO, "FUT-2", "no");
    fut_log(FUT_LOG_WARN, "FUT-3", "yes");
    fut_log(FUT_LOG_ERROR, "FUT-4", "yes");
    g_autofree char *text = capture_stop(&capture);
    g_assert_cmpstr(text, ==, "futago[v]: FUT-3 yes\nfutago[v]: FUT-4 yes\n");
}

static void collect(FutLogLevel level, const char *id, const char *text, void *opaque)
{
    g_string_append_printf(opaque, "%d|%s|%s;", level, id, text);
}

static void test_sink(void)
{
    Capture capture;
    g_autoptr(GString) got = g_string_new(NULL);
    fut_log_setup("v", FUT_LOG_INFO);
    capture_start(&capture);
    fut_log_set_sink(collect, got);
    fut_log(FUT_LOG_DEBUG, "FUT-5", "dropped");
    fut_log(FUT_LOG_WARN, "FUT-6", "to %s", "sink");
    fut_log_set_sink(NULL, NULL);
    fut_log(FUT_LOG_WARN, "FUT-7", "to stderr");
    g_autofree char *text = capture_stop(&capture);
    g_assert_cmpstr(got->str, ==, "2|FUT-6|to sink;");
    g_assert_cmpstr(text, ==, "futago[v]: FUT-7 to stderr\n");
}

static void test_errno_is_kept(void)
{
    g_autoptr(GString) got = g_string_new(NULL);
    fut_log_set_sink(collect, got);
    errno = EXDEV;
    fut_log(FUT_LOG_WARN, "FUT-8", "text");
    int after = errno;
    fut_log_set_sink(NULL, NULL);
    g_assert_cmpint(after, ==, EXDEV);
}

#define THREADS 4
#define LINES 500

static void *talk(void *opaque)
{
    for (unsigned i = 0; i < LINES; i++) {
        fut_log(FUT_LOG_INFO, "FUT-9", "thread %u says %u", GPOINTER_TO_UINT(opaque), i);
    }
    return NULL;
}

/* Every line whole, and each thread's in their order. */
static void test_threads(void)
{
    Capture capture;
    fut_log_setup("t", FUT_LOG_INFO);
    capture_start(&capture);
    GThread *threads[THREADS];
    for (unsigned i = 0; i < THREADS; i++) {
        threads[i] = g_thread_new("talk", talk, GUINT_TO_POINTER(i));
    }
    for (unsigned i = 0; i < THREADS; i++) {
        g_thread_join(threads[i]);
    }
    g_autofree char *text = capture_stop(&capture);
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    g_assert_cmpuint(g_strv_length(lines), ==, THREADS * LINES + 1);
    unsigned next[THREADS] = { 0 };
    for (unsigned i = 0; i < THREADS * LINES; i++) {
        unsigned thread = (unsigned)(lines[i][strlen("futago[t]: FUT-9 thread ")] - '0');
        g_assert_cmpuint(thread, <, THREADS);
        g_autofree char *wanted =
            g_strdup_printf("futago[t]: FUT-9 thread %u says %u", thread, next[thread]++);
        g_assert_cmpstr(lines[i], ==, wanted);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/log/line", test_line);
    g_test_add_func("/log/levels", test_levels);
    g_test_add_func("/log/sink", test_sink);
    g_test_add_func("/log/errno-is-kept", test_errno_is_kept);
    g_test_add_func("/log/threads", test_threads);
    return g_test_run();
}
