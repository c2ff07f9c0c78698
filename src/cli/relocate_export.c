/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "relocate_export.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli.h"
#include "cli_process.h"
#include "fut_error.h"

#define END_MS 5000
/* A program that cannot begin says so at once. */
#define BEGIN_US 100000
#define ANSWER_MS 5000

/* -- which file it is -- */

static bool is_same(const struct stat *one, const struct stat *other)
{
    if (S_ISBLK(one->st_mode)) {
        return S_ISBLK(other->st_mode) && one->st_rdev == other->st_rdev;
    }
    return one->st_dev == other->st_dev && one->st_ino == other->st_ino;
}

/* Through the process that has it open, so that it is the same file, whatever becomes of its name. */
static int open_as(pid_t pid, const struct stat *image, GError **error)
{
    g_autofree char *folder = g_strdup_printf("/proc/%d/fd", (int)pid);
    g_autoptr(GDir) dir = g_dir_open(folder, 0, error);
    const char *number;
    int fd = -1;

    while (dir && fd < 0 && (number = g_dir_read_name(dir))) {
        g_autofree char *path = g_build_filename(folder, number, NULL);
        struct stat about;
        if (stat(path, &about) == 0 && is_same(image, &about)) {
            fd = open(path, O_RDONLY | O_CLOEXEC);
        }
    }
    return fd;
}

static bool open_image(FutExport *export, pid_t pid, GError **error)
{
    g_autoptr(GError) fault = NULL;
    struct stat image;
    bool found = stat(export->image, &image) == 0;

    export->fd = found ? open_as(pid, &image, &fault) : -1;
    if (fault) {
        g_set_error(error, FUT_ERROR, FUT_ERR_IO, "disk %s: cannot see what QEMU has open: %s",
                    export->name, fault->message);
    } else if (export->fd < 0) {
        g_set_error(error, FUT_ERROR, FUT_ERR_MISMATCH,
                    "disk %s: %s is not the file that the VM has open: it was renamed or replaced; "
                    "give it its name back",
                    export->name, export->image);
    }
    return export->fd >= 0;
}

/* -- a disk behind one of our servers -- */

/* The socket of "nbd+unix://?socket=PATH"; NULL: that is no NBD server. */
static const char *socket_in(const char *given)
{
    static const char key[] = "?socket=";
    const char *at = g_str_has_prefix(given, "nbd+unix:") ? strstr(given, key) : NULL;

    return at ? at + strlen(key) : NULL;
}

/* The server's name where it is one that futago receive has started; NULL: it is not. Caller frees. */
static char *server_name(const char *socket)
{
    g_autofree char *rundir = fut_control_rundir();
    g_autofree char *ours = g_build_filename(rundir, "disks", NULL);
    g_autofree char *folder = g_path_get_dirname(socket);
    g_autofree char *file = g_path_get_basename(socket);
    bool is = strcmp(folder, ours) == 0 && g_str_has_suffix(file, ".nbd");

    return is ? g_strndup(file, strlen(file) - strlen(".nbd")) : NULL;
}

static json_t *ask_server(const char *name, GError **error)
{
    g_autoptr(FutControlClient) client = fut_control_connect_disk(name, error);

    return client ? fut_control_call(client, "image", NULL, ANSWER_MS, error) : NULL;
}

static bool check_here(const FutExport *export, const char *server, const json_t *said,
                       GError **error)
{
    if (strcmp(fut_cli_text(said, "state"), "complete") != 0) {
        g_set_error(error, FUT_ERROR, FUT_ERR_STATE,
                    "disk %s is still coming from where the VM was before (%.0f %% is here): move "
                    "the VM when it is complete, see futago disk status %s",
                    export->name, 100 * fut_cli_value(said, "share"), server);
        return false;
    }
    return true;
}

static bool take_served(FutExport *export, const char *socket, GError **error)
{
    g_autofree char *server = server_name(socket);
    gsize length = 0;

    if (!server) {
        g_set_error(error, FUT_ERROR, FUT_ERR_UNSUPPORTED,
                    "disk %s is on an NBD server (%s): only images in files, block devices and "
                    "disks that futago receive serves are moved",
                    export->name, socket);
        return false;
    }
    json_t *said = ask_server(server, error);
    const char *coded = fut_cli_text(said, "image");
    bool ok = said && check_here(export, server, said, error);
    if (ok) {
        g_autofree guchar *image = *coded ? g_base64_decode(coded, &length) : NULL;
        export->image = g_strndup((char *)image, length);
        ok = open_image(export, (pid_t)json_integer_value(json_object_get(said, "pid")), error);
    }
    json_decref(said);
    return ok;
}

static bool take_file(FutExport *export, pid_t qemu, GError **error)
{
    g_autofree char *cwd_path = g_strdup_printf("/proc/%d/cwd", (int)qemu);
    g_autofree char *cwd = g_file_read_link(cwd_path, NULL);

    export->image = g_canonicalize_filename(export->given, cwd);
    return open_image(export, qemu, error);
}

bool fut_export_take(FutExport *export, const json_t *said, pid_t qemu, GError **error)
{
    const char *fault = json_string_value(json_object_get(said, "fault"));
    const char *coded = fut_cli_text(said, "image");
    gsize length = 0;

    export->fd = -1;
    if (fault || json_is_true(json_object_get(said, "shared"))) {
        g_set_error(error, FUT_ERROR, FUT_ERR_UNSUPPORTED, "%s",
                    fault ? fault
                          : "the VM has shared disks, which the other host reaches already: use "
                            "a standby and futago failover");
        return false;
    }
    g_autofree guchar *bytes = *coded ? g_base64_decode(coded, &length) : NULL;
    g_autofree char *given = g_strndup((char *)bytes, length);
    const char *socket = socket_in(given);
    export->name = g_strdup(fut_cli_text(said, "name"));
    export->given = g_strdup(socket ? socket : given);
    export->length = (uint64_t)json_integer_value(json_object_get(said, "length"));
    return socket ? take_served(export, socket, error) : take_file(export, qemu, error);
}

/* -- serving it -- */

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

bool fut_export_start(FutExport *export, const char *host, const char *tls, const char *log,
                      GError **error)
{
    int socket = listen_at(host, &export->port, error);
    bool x509 = tls && g_str_has_prefix(tls, "x509:");
    const char *files = tls ? strchr(tls, ':') + 1 : "";
    g_autofree char *keys = g_strdup_printf(x509 ? "--tls-certificates=%s" : "--tls-psk=%s", files);
    g_autoptr(GPtrArray) words = g_ptr_array_new();
    const char *const begin[] = { "nbdkit", "--foreground", "--readonly", "--threads", "64" };

    if (socket < 0) {
        return false;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(begin); i++) {
        g_ptr_array_add(words, (char *)begin[i]);
    }
    if (tls) {
        g_ptr_array_add(words, "--tls=require");
        g_ptr_array_add(words, keys);
    }
    if (x509) {
        g_ptr_array_add(words, "--tls-verify-peer");
    }
    g_ptr_array_add(words, "file");
    g_ptr_array_add(words, "file=/proc/self/fd/4"); /* the plugin opens it for each connection */
    g_ptr_array_add(words, NULL);
    const FutProcessHow how = { socket, export->fd, true };
    export->pid = fut_process_start((char **)words->pdata, log, &how, error);
    close(socket);
    if (!export->pid) {
        g_prefix_error(error, "the disk's export: ");
        return false;
    }
    export->birth = fut_process_birth(export->pid);
    g_usleep(BEGIN_US);
    if (!export->birth || fut_process_birth(export->pid) != export->birth) {
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
    fut_process_end_one(export->pid, export->birth, END_MS);
    export->pid = 0;
}

bool fut_export_sync(const FutExport *export, GError **error)
{
    int fd = export->fd >= 0 ? export->fd : open(export->image, O_RDONLY | O_CLOEXEC);
    bool ok = fd >= 0 && fdatasync(fd) == 0;

    if (!ok) {
        g_set_error(error, FUT_ERROR, FUT_ERR_IO, "%s cannot be made durable: %s", export->image,
                    g_strerror(errno));
    }
    if (fd >= 0 && fd != export->fd) {
        close(fd);
    }
    return ok;
}

void fut_export_done(FutExport *export)
{
    g_free(export->name);
    g_free(export->given);
    g_free(export->image);
    if (export->fd >= 0) {
        close(export->fd);
    }
}
