/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "relocate_export.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cli_process.h"
#include "fut_error.h"

#define END_MS 5000
/* A program that cannot begin says so at once. */
#define BEGIN_US 100000

static int listen_at(const char *host, unsigned *ret_port, GError **error)
{
    const struct addrinfo hints = { .ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_STREAM };
    struct addrinfo *at = NULL;
    struct sockaddr_storage bound;
    socklen_t length = sizeof(bound);
    char port[NI_MAXSERV];
    int fd = -1;

    if (getaddrinfo(host, "0", &hints, &at) == 0) {
        fd = socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd >= 0 && (bind(fd, at->ai_addr, at->ai_addrlen) < 0 || listen(fd, 16) < 0)) {
            close(fd);
            fd = -1;
        }
        freeaddrinfo(at);
    }
    if (fd < 0 || getsockname(fd, (struct sockaddr *)&bound, &length) < 0 ||
        getnameinfo((struct sockaddr *)&bound, length, NULL, 0, port, sizeof(port),
                    NI_NUMERICSERV) != 0) {
        g_set_error(error, FUT_ERROR, FUT_ERR_IO, "cannot listen on %s for the disks: %s", host,
                    g_strerror(errno));
        return -1;
    }
    *ret_port = (unsigned)g_ascii_strtoull(port, NULL, 10);
    return fd;
}

bool fut_export_start(FutExport *export, const char *host, const char *psk, const char *log,
                      GError **error)
{
    int socket = listen_at(host, &export->port, error);
    g_autofree char *file = g_strdup_printf("file=%s", export->image);
    g_autofree char *keys = g_strdup_printf("--tls-psk=%s", psk ? psk : "");
    g_autoptr(GPtrArray) words = g_ptr_array_new();
    const char *const begin[] = { "nbdkit", "--foreground", "--readonly", "--threads", "64" };

    if (socket < 0) {
        return false;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(begin); i++) {
        g_ptr_array_add(words, (char *)begin[i]);
    }
    if (psk) {
        g_ptr_array_add(words, "--tls=require");
        g_ptr_array_add(words, keys);
    }
    g_ptr_array_add(words, "file");
    g_ptr_array_add(words, file);
    g_ptr_array_add(words, NULL);
    export->pid = fut_process_start((char **)words->pdata, log, socket, error);
    if (!export->pid) {
        g_prefix_error(error, "the disk's export: ");
        return false;
    }
    g_usleep(BEGIN_US);
    if (!fut_process_runs(export->pid)) {
        g_autofree char *last = fut_process_last_words(log);
        export->pid = 0;
        g_set_error(error, FUT_ERROR, FUT_ERR_IO, "disk %s cannot be exported: %s", export->name,
                    last);
        return false;
    }
    return true;
}

void fut_export_stop(FutExport *export)
{
    fut_process_end(export->pid, END_MS);
    export->pid = 0;
}

bool fut_export_sync(const FutExport *export, GError **error)
{
    int fd = open(export->image, O_RDONLY | O_CLOEXEC);
    bool ok = fd >= 0 && fdatasync(fd) == 0;

    if (!ok) {
        g_set_error(error, FUT_ERROR, FUT_ERR_IO, "%s cannot be made durable: %s", export->image,
                    g_strerror(errno));
    }
    if (fd >= 0) {
        close(fd);
    }
    return ok;
}

void fut_export_done(FutExport *export)
{
    g_free(export->name);
    g_free(export->given);
    g_free(export->image);
}
