/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A user of etcd. */
#include "etcd_login.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fut_error.h"

#define LINE_MAX_BYTES 1024

struct FutEtcdLogin {
    char *path;
    GMutex lock;
    char *token; /* owned; lock */
};

static const char *fault_of(int fd)
{
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0) {
        return g_strerror(errno);
    }
    if (!S_ISREG(st.st_mode)) {
        return "it is no regular file";
    }
    if (st.st_uid != geteuid() && st.st_uid != 0) {
        return "it belongs to another user: chown it to the user QEMU runs as";
    }
    if (st.st_mode & (S_IRWXG | S_IRWXO)) {
        return "others have access to it: chmod 600 it, and change the password if somebody may "
               "have read it";
    }
    return NULL;
}

/* The line without its end; the caller wipes it. */
static const char *read_line(int fd, char line[LINE_MAX_BYTES + 1])
{
    ssize_t got = read(fd, line, LINE_MAX_BYTES);

    line[MAX(got, 0)] = '\0';
    if (got < 0) {
        return g_strerror(errno);
    }
    size_t length = strcspn(line, "\r\n");
    bool more = line[length + strspn(line + length, "\r\n")] != '\0';
    bool whole = strlen(line) == (size_t)got && got < LINE_MAX_BYTES && !more;
    line[length] = '\0';
    const char *colon = strchr(line, ':');
    if (!whole || !colon || colon == line || !colon[1] || !g_utf8_validate(line, -1, NULL)) {
        return "it must have one line, USER:PASSWORD";
    }
    return NULL;
}

json_t *fut_etcd_login_request(const FutEtcdLogin *login, GError **error)
{
    int fd = open(login->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    char line[LINE_MAX_BYTES + 1] = "";
    const char *fault = fault_of(fd);
    json_t *request = NULL;

    if (!fault) {
        fault = read_line(fd, line);
    }
    if (fault) {
        g_set_error(error, FUT_ERROR, FUT_ERR_ARG, "arbiter etcd: login=%s: %s", login->path,
                    fault);
    } else {
        char *colon = strchr(line, ':');
        *colon = '\0';
        request = json_pack("{s:s,s:s}", "name", line, "password", colon + 1);
    }
    explicit_bzero(line, sizeof(line));
    if (fd >= 0) {
        close(fd);
    }
    return request;
}

FutEtcdLogin *fut_etcd_login_new(const char *path, GError **error)
{
    FutEtcdLogin *login = g_new0(FutEtcdLogin, 1);

    g_mutex_init(&login->lock);
    login->path = g_canonicalize_filename(path, NULL); /* the process may change its folder later */
    json_t *request = fut_etcd_login_request(login, error);
    if (!request) {
        fut_etcd_login_free(login);
        return NULL;
    }
    json_decref(request);
    return login;
}

void fut_etcd_login_free(FutEtcdLogin *login)
{
    if (login) {
        g_mutex_clear(&login->lock);
        g_free(login->path);
        g_free(login->token);
        g_free(login);
    }
}

char *fut_etcd_login_token(FutEtcdLogin *login)
{
    g_mutex_lock(&login->lock);
    char *token = g_strdup(login->token);
    g_mutex_unlock(&login->lock);
    return token;
}

void fut_etcd_login_set_token(FutEtcdLogin *login, const char *token)
{
    g_mutex_lock(&login->lock);
    g_free(login->token);
    login->token = g_strdup(token);
    g_mutex_unlock(&login->lock);
}
