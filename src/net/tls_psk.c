/* SPDX-License-Identifier: GPL-2.0-or-later */
/* TLS with a key both ends hold: one line of QEMU's keys.psk. */
#include <gnutls/crypto.h>
#include <string.h>

#include "fut_error.h"
#include "tls_internal.h"

#define USER_DEFAULT "futago"
#define USER_MAX 255
#define KEY_MIN 16 /* bytes: 128 bits */
#define KEY_MAX 128

static bool psk_check_names(const char *names, GError **error)
{
    if (*names && strlen(names) <= USER_MAX && !strpbrk(names, ":\r\n")) {
        return true;
    }
    g_set_error(error, FUT_ERROR, FUT_ERR_ARG,
                "TLS name \"%s\": with psk it is one user of the key file, 1 to %d bytes without "
                "a colon",
                names, USER_MAX);
    return false;
}

/* The key of a user in hexadecimal, borrowed from `lines`; NULL when there is none. */
static const char *find_key(char **lines, const char *user)
{
    size_t length = strlen(user);
    for (; *lines; lines++) {
        if (strncmp(*lines, user, length) == 0 && (*lines)[length] == ':') {
            return g_strchomp(*lines + length + 1);
        }
    }
    return NULL;
}

static bool decode_key(const char *hex, gnutls_datum_t *ret_key)
{
    size_t digits = strlen(hex);
    if (digits % 2 || digits < 2 * KEY_MIN || digits > 2 * KEY_MAX) {
        return false;
    }
    gnutls_datum_t key = { g_malloc(digits / 2), (unsigned)(digits / 2) };
    for (size_t i = 0; i < key.size; i++) {
        int high = g_ascii_xdigit_value(hex[2 * i]), low = g_ascii_xdigit_value(hex[2 * i + 1]);
        if (high < 0 || low < 0) {
            fut_tls_forget(&key);
            return false;
        }
        key.data[i] = (unsigned char)(high << 4 | low);
    }
    *ret_key = key;
    return true;
}

/* The key itself is never part of a message. */
static bool take_key(const char *path, const char *user, const gnutls_datum_t *file,
                     gnutls_datum_t *ret_key, GError **error)
{
    g_auto(GStrv) lines = g_strsplit((const char *)file->data, "\n", 0);
    const char *hex = find_key(lines, user);
    bool good = hex && decode_key(hex, ret_key);
    for (char **line = lines; *line; line++) {
        gnutls_memset(*line, 0, strlen(*line));
    }
    if (!hex) {
        g_set_error(error, FUT_ERROR, FUT_ERR_ARG,
                    "%s has no key for user %s: make one with \"psktool -u %s -p %s\"", path, user,
                    user, path);
    } else if (!good) {
        g_set_error(error, FUT_ERROR, FUT_ERR_ARG,
                    "%s: the key of user %s is not %d to %d bytes in hexadecimal: make one with "
                    "\"psktool -u %s -p %s\"",
                    path, user, KEY_MIN, KEY_MAX, user, path);
    }
    return good;
}

/* Server: the key of whoever calls. Another user is given a key nobody has, and so fails as with a
 * wrong key: a stranger does not even learn which users there are. */
static int key_of_user(gnutls_session_t session, const char *user, gnutls_datum_t *ret_key)
{
    const FutTls *tls = gnutls_session_get_ptr(session);
    ret_key->data = gnutls_malloc(tls->psk.key.size);
    ret_key->size = tls->psk.key.size;
    g_assert(ret_key->data);
    if (strcmp(user, tls->psk.user) == 0) {
        memcpy(ret_key->data, tls->psk.key.data, tls->psk.key.size);
        return 0;
    }
    return gnutls_rnd(GNUTLS_RND_KEY, ret_key->data, ret_key->size);
}

static bool psk_load(FutTls *tls, const char *path, const char *names, GError **error)
{
    gnutls_datum_t file;
    tls->psk.user = g_strdup(names ? names : USER_DEFAULT);
    if (!fut_tls_read(path, true, &file, error)) {
        return false;
    }
    bool ok = take_key(path, tls->psk.user, &file, &tls->psk.key, error);
    fut_tls_forget(&file);
    if (!ok) {
        return false;
    }
    int status = gnutls_psk_allocate_server_credentials(&tls->psk.server);
    g_assert(status == 0);
    gnutls_psk_set_server_credentials_function(tls->psk.server, key_of_user);
    status = gnutls_psk_allocate_client_credentials(&tls->psk.client);
    g_assert(status == 0);
    status = gnutls_psk_set_client_credentials(tls->psk.client, tls->psk.user, &tls->psk.key,
                                               GNUTLS_PSK_KEY_RAW);
    g_assert(status == 0);
    return true;
}

static void psk_unload(FutTls *tls)
{
    if (tls->psk.server) {
        gnutls_psk_free_server_credentials(tls->psk.server);
    }
    if (tls->psk.client) {
        gnutls_psk_free_client_credentials(tls->psk.client);
    }
    fut_tls_forget(&tls->psk.key);
    g_free(tls->psk.user);
}

static void psk_use(FutTls *tls, gnutls_session_t session, bool server)
{
    int status = gnutls_credentials_set(session, GNUTLS_CRD_PSK,
                                        server ? (void *)tls->psk.server : (void *)tls->psk.client);
    g_assert(status == 0);
}

/* No handshake with this priority ends without both ends having shown that they hold the key. */
static char *psk_judge(FutTls *tls, gnutls_session_t session, bool server, char **ret_why)
{
    gnutls_kx_algorithm_t kx = gnutls_kx_get(session);
    if (kx != GNUTLS_KX_ECDHE_PSK && kx != GNUTLS_KX_DHE_PSK) {
        *ret_why = g_strdup("the key was not used");
        return NULL;
    }
    return g_strdup(tls->psk.user);
}

const FutTlsKind fut_tls_psk = {
    .name = "psk",
    .priority = "NORMAL:-VERS-ALL:+VERS-TLS1.3:-KX-ALL:+ECDHE-PSK:+DHE-PSK:"
                "-CIPHER-ALL:+AES-128-GCM:+CHACHA20-POLY1305:-GROUP-ALL:+GROUP-X25519:"
                "+GROUP-SECP256R1:+GROUP-SECP384R1",
    .check_names = psk_check_names,
    .load = psk_load,
    .unload = psk_unload,
    .use = psk_use,
    .judge = psk_judge,
};
