/* SPDX-License-Identifier: GPL-2.0-or-later */
/* TLS: specifications, and reading files that must be nobody else's. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fut_error.h"
#include "tls_internal.h"

#define FILE_MAX ((off_t)1 << 20)
#define FORMS "write x509:DIR or psk:FILE"

static const FutTlsKind *const kinds[] = { &fut_tls_x509, &fut_tls_psk };

/* The kind, and the path behind the colon. */
static const FutTlsKind *find_kind(const char *spec, const char **ret_path, GError **error)
{
    for (size_t i = 0; i < G_N_ELEMENTS(kinds); i++) {
        size_t length = strlen(kinds[i]->name);
        if (strncmp(spec, kinds[i]->name, length) != 0 || spec[length] != ':') {
            continue;
        }
        if (spec[length + 1] != '/') {
            g_set_error(error, FUT_ERROR, FUT_ERR_ARG,
                        "TLS \"%s\": the path must be absolute; " FORMS, spec);
            return NULL;
        }
        *ret_path = spec + length + 1;
        return kinds[i];
    }
    g_set_error(error, FUT_ERROR, FUT_ERR_ARG, "TLS \"%s\": unknown kind; " FORMS, spec);
    return NULL;
}

bool fut_tls_check(const char *spec, const char *names, GError **error)
{
    const char *path;
    const FutTlsKind *kind = find_kind(spec, &path, error);
    return kind && (!names || kind->check_names(names, error));
}

FutTls *fut_tls_new(const char *spec, const char *names, GError **error)
{
    const char *path;
    const FutTlsKind *kind = find_kind(spec, &path, error);
    if (!kind || (names && !kind->check_names(names, error))) {
        return NULL;
    }
    g_autoptr(FutTls) tls = g_new0(FutTls, 1);
    g_atomic_ref_count_init(&tls->refs);
    tls->kind = kind;
    return kind->load(tls, path, names, error) ? g_steal_pointer(&tls) : NULL;
}

FutTls *fut_tls_ref(FutTls *tls)
{
    g_atomic_ref_count_inc(&tls->refs);
    return tls;
}

void fut_tls_unref(FutTls *tls)
{
    if (tls && g_atomic_ref_count_dec(&tls->refs)) {
        tls->kind->unload(tls);
        g_free(tls);
    }
}

const char *fut_tls_kind(const FutTls *tls)
{
    return tls->kind->name;
}

void fut_link_start_tls(FutLink *link, FutTls *tls, bool server)
{
    fut_link_take_stream(link, fut_stream_tls_new(fut_link_fd(link), tls, server));
}

/* -- files -- */

static bool check_file(const char *path, const struct stat *st, bool secret, GError **error)
{
    const char *fault = NULL;
    if (!S_ISREG(st->st_mode)) {
        fault = "is no regular file";
    } else if (st->st_size > FILE_MAX) {
        fault = "is larger than 1 MiB: it cannot be a key or a certificate";
    } else if (secret && st->st_uid != geteuid() && st->st_uid != 0) {
        fault = "belongs to another user: chown it to the user QEMU runs as";
    } else if (secret && (st->st_mode & (S_IRWXG | S_IRWXO))) {
        fault = "holds a secret that others have access to: chmod 600 it, and make a new key if "
                "somebody may have read it";
    }
    if (fault) {
        g_set_error(error, FUT_ERROR, FUT_ERR_ARG, "%s %s", path, fault);
    }
    return !fault;
}

/* Bytes read, or -1 with errno. The file may shrink or grow meanwhile. */
static ssize_t read_all(int fd, unsigned char *to, size_t room)
{
    size_t done = 0;
    while (done < room) {
        ssize_t got = read(fd, to + done, room - done);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            return got < 0 ? -1 : (ssize_t)done;
        }
        done += (size_t)got;
    }
    return (ssize_t)done;
}

static bool read_checked(int fd, const char *path, bool secret, gnutls_datum_t *ret_data,
                         GError **error)
{
    struct stat st;
    if (fstat(fd, &st) < 0) {
        g_set_error(error, FUT_ERROR, FUT_ERR_IO, "cannot look at %s: %s", path, g_strerror(errno));
        return false;
    }
    if (!check_file(path, &st, secret, error)) {
        return false;
    }
    gnutls_datum_t data = { g_malloc0((size_t)st.st_size + 1), (unsigned)st.st_size };
    ssize_t got = read_all(fd, data.data, data.size);
    if (got < 0) {
        int status = errno;
        fut_tls_forget(&data);
        g_set_error(error, FUT_ERROR, FUT_ERR_IO, "cannot read %s: %s", path, g_strerror(status));
        return false;
    }
    data.size = (unsigned)got;
    *ret_data = data;
    return true;
}

bool fut_tls_read(const char *path, bool secret, gnutls_datum_t *ret_data, GError **error)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) {
        int status = errno;
        g_set_error(error, FUT_ERROR, status == ENOENT ? FUT_ERR_ARG : FUT_ERR_IO,
                    "cannot open %s: %s; TLS needs this file, readable for the user QEMU runs as",
                    path, g_strerror(status));
        return false;
    }
    bool ok = read_checked(fd, path, secret, ret_data, error);
    close(fd);
    return ok;
}

void fut_tls_forget(gnutls_datum_t *data)
{
    if (data->data) {
        gnutls_memset(data->data, 0, data->size);
    }
    g_free(data->data);
    *data = (gnutls_datum_t){ NULL, 0 };
}
