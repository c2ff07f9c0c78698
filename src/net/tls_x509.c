/* SPDX-License-Identifier: GPL-2.0-or-later */
/* TLS with certificates of one private authority, in QEMU's folder layout. */
#include <string.h>
#include <unistd.h>

#include "fut_error.h"
#include "tls_internal.h"

#define NAME_MAX_LENGTH 255
#define CHAIN_MAX 16
#define NO_CERTIFICATE "holds no certificate in PEM form"
/* What a certificate may be used for; one that does not say may be used for both. */
#define FOR_SERVER GNUTLS_KP_TLS_WWW_SERVER
#define FOR_CLIENT GNUTLS_KP_TLS_WWW_CLIENT

/* -- what is wrong with a certificate -- */

static const char *verdict_text(unsigned status)
{
    static const struct {
        unsigned bits;
        const char *text;
    } verdicts[] = {
        { GNUTLS_CERT_EXPIRED, "has expired" },
        { GNUTLS_CERT_NOT_ACTIVATED, "is not valid yet (are the clocks right?)" },
        { GNUTLS_CERT_REVOKED, "was revoked" },
        { GNUTLS_CERT_SIGNER_NOT_FOUND | GNUTLS_CERT_SIGNER_NOT_CA | GNUTLS_CERT_SIGNATURE_FAILURE,
          "was not signed by the authority in ca-cert.pem" },
        { GNUTLS_CERT_PURPOSE_MISMATCH, "was made for another purpose" },
        { GNUTLS_CERT_INSECURE_ALGORITHM, "is too weak" },
    };
    for (size_t i = 0; i < G_N_ELEMENTS(verdicts); i++) {
        if (status & verdicts[i].bits) {
            return verdicts[i].text;
        }
    }
    return "was not accepted";
}

/* Printable whatever the certificate holds. */
static char *clean_name(const char *bytes, size_t length)
{
    char *name = g_strndup(bytes, MIN(length, 64));
    for (char *at = name; *at; at++) {
        *at = g_ascii_isgraph(*at) ? *at : '?';
    }
    return name;
}

/* First DNS name, else common name. */
static char *name_of(gnutls_x509_crt_t crt)
{
    char text[NAME_MAX_LENGTH + 1] = { 0 };
    for (unsigned i = 0; i < CHAIN_MAX; i++) {
        size_t length = NAME_MAX_LENGTH;
        int type = gnutls_x509_crt_get_subject_alt_name(crt, i, text, &length, NULL);
        if (type == GNUTLS_SAN_DNSNAME) {
            return clean_name(text, length);
        }
        if (type == GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE) {
            break;
        }
    }
    size_t length = NAME_MAX_LENGTH;
    bool found =
        gnutls_x509_crt_get_dn_by_oid(crt, GNUTLS_OID_X520_COMMON_NAME, 0, 0, text, &length) == 0;
    return found ? clean_name(text, length) : g_strdup("(no name)");
}

/* -- own files -- */

typedef struct {
    gnutls_datum_t authority, revoked, cert, key;
} Files;

static void files_done(Files *files)
{
    fut_tls_forget(&files->authority);
    fut_tls_forget(&files->revoked);
    fut_tls_forget(&files->cert);
    fut_tls_forget(&files->key);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Files, files_done)

static bool bad_file(const char *folder, const char *name, const char *why, GError **error)
{
    g_set_error(error, FUT_ERROR, FUT_ERR_ARG, "%s/%s %s", folder, name, why);
    return false;
}

static bool read_one(const char *folder, const char *name, bool secret, gnutls_datum_t *ret_data,
                     GError **error)
{
    g_autofree char *path = g_build_filename(folder, name, NULL);
    return fut_tls_read(path, secret, ret_data, error);
}

static bool read_files(const char *folder, const char *cert, const char *key, Files *files,
                       GError **error)
{
    g_autofree char *revoked = g_build_filename(folder, "ca-crl.pem", NULL);
    return read_one(folder, "ca-cert.pem", false, &files->authority, error) &&
           (access(revoked, F_OK) < 0 || fut_tls_read(revoked, false, &files->revoked, error)) &&
           read_one(folder, cert, false, &files->cert, error) &&
           read_one(folder, key, true, &files->key, error);
}

/* Would a peer with the same authority accept it? Found out now rather than at the first call. */
static unsigned judge_chain(gnutls_x509_crt_t *chain, unsigned count, const Files *files,
                            const char *purpose)
{
    gnutls_x509_trust_list_t trust;
    gnutls_typed_vdata_st wanted = { GNUTLS_DT_KEY_PURPOSE_OID, (unsigned char *)purpose, 0 };
    unsigned status = 0;
    int failed = gnutls_x509_trust_list_init(&trust, 0);
    g_assert(failed == 0);
    gnutls_x509_trust_list_add_trust_mem(trust, &files->authority,
                                         files->revoked.data ? &files->revoked : NULL,
                                         GNUTLS_X509_FMT_PEM, 0, 0);
    failed = gnutls_x509_trust_list_verify_crt2(trust, chain, count, &wanted, 1,
                                                GNUTLS_PROFILE_TO_VFLAGS(GNUTLS_PROFILE_MEDIUM),
                                                &status, NULL);
    gnutls_x509_trust_list_deinit(trust, 1);
    return failed < 0 ? GNUTLS_CERT_INVALID : status;
}

/* How many certificates there are; 0 = it is not a file of such. */
static unsigned import_chain(const gnutls_datum_t *pem, gnutls_x509_crt_t chain[CHAIN_MAX])
{
    unsigned count = CHAIN_MAX;
    int got = gnutls_x509_crt_list_import(chain, &count, pem, GNUTLS_X509_FMT_PEM,
                                          GNUTLS_X509_CRT_LIST_IMPORT_FAIL_IF_EXCEED);
    return got > 0 ? (unsigned)got : 0;
}

static void drop_chain(gnutls_x509_crt_t *chain, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        gnutls_x509_crt_deinit(chain[i]);
    }
}

static bool holds_certificate(const gnutls_datum_t *pem)
{
    gnutls_x509_crt_t chain[CHAIN_MAX];
    unsigned count = import_chain(pem, chain);
    drop_chain(chain, count);
    return count > 0;
}

static bool check_own(const char *folder, const char *name, const Files *files, const char *purpose,
                      GError **error)
{
    gnutls_x509_crt_t chain[CHAIN_MAX];
    unsigned count = import_chain(&files->cert, chain);
    if (count == 0) {
        return bad_file(folder, name, NO_CERTIFICATE, error);
    }
    unsigned status = judge_chain(chain, count, files, purpose);
    drop_chain(chain, count);
    if (status != 0) {
        g_autofree char *why =
            g_strdup_printf("%s: make a new one with certtool%s", verdict_text(status),
                            status & GNUTLS_CERT_PURPOSE_MISMATCH
                                ? (strcmp(purpose, FOR_SERVER) == 0 ? " (tls_www_server)"
                                                                    : " (tls_www_client)")
                                : "");
        return bad_file(folder, name, why, error);
    }
    return true;
}

static bool fill(gnutls_certificate_credentials_t to, const char *folder, const char *cert,
                 const char *key, const Files *files, GError **error)
{
    if (gnutls_certificate_set_x509_trust_mem(to, &files->authority, GNUTLS_X509_FMT_PEM) < 1) {
        return bad_file(folder, "ca-cert.pem", NO_CERTIFICATE, error);
    }
    if (files->revoked.data &&
        gnutls_certificate_set_x509_crl_mem(to, &files->revoked, GNUTLS_X509_FMT_PEM) < 0) {
        return bad_file(folder, "ca-crl.pem", "holds no revocation list in PEM form", error);
    }
    int status = gnutls_certificate_set_x509_key_mem2(to, &files->cert, &files->key,
                                                      GNUTLS_X509_FMT_PEM, NULL, 0);
    if (status == GNUTLS_E_CERTIFICATE_KEY_MISMATCH) {
        g_autofree char *why = g_strdup_printf("is not the key of %s", cert);
        return bad_file(folder, key, why, error);
    }
    if (status < 0 && holds_certificate(&files->cert)) {
        return bad_file(folder, key, "holds no key in PEM form without a password", error);
    }
    return status >= 0 || bad_file(folder, cert, NO_CERTIFICATE, error);
}

static bool load_role(gnutls_certificate_credentials_t *ret, const char *folder, bool server,
                      GError **error)
{
    const char *cert = server ? "server-cert.pem" : "client-cert.pem";
    const char *key = server ? "server-key.pem" : "client-key.pem";
    g_auto(Files) files = { 0 };
    int status = gnutls_certificate_allocate_credentials(ret);
    g_assert(status == 0);
    return read_files(folder, cert, key, &files, error) &&
           fill(*ret, folder, cert, key, &files, error) &&
           check_own(folder, cert, &files, server ? FOR_SERVER : FOR_CLIENT, error);
}

/* -- the kind -- */

static bool x509_check_names(const char *names, GError **error)
{
    g_auto(GStrv) list = g_strsplit(names, ",", 0);
    bool good = list[0] != NULL;
    for (char **name = list; *name; name++) {
        good =
            good && **name && strlen(*name) <= NAME_MAX_LENGTH &&
            strspn(*name, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.:-_") ==
                strlen(*name);
    }
    if (!good) {
        g_set_error(error, FUT_ERROR, FUT_ERR_ARG,
                    "TLS name \"%s\": write the host name in the peer's certificate; several are "
                    "parted by commas",
                    names);
    }
    return good;
}

static bool x509_load(FutTls *tls, const char *path, const char *names, GError **error)
{
    tls->x509.names = names ? g_strsplit(names, ",", 0) : NULL;
    return load_role(&tls->x509.server, path, true, error) &&
           load_role(&tls->x509.client, path, false, error);
}

static void x509_unload(FutTls *tls)
{
    if (tls->x509.server) {
        gnutls_certificate_free_credentials(tls->x509.server);
    }
    if (tls->x509.client) {
        gnutls_certificate_free_credentials(tls->x509.client);
    }
    g_strfreev(tls->x509.names);
}

static void x509_use(FutTls *tls, gnutls_session_t session, bool server)
{
    int status = gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE,
                                        server ? tls->x509.server : tls->x509.client);
    g_assert(status == 0);
    if (server) {
        gnutls_certificate_server_set_request(session, GNUTLS_CERT_REQUIRE);
        /* The authority's name is nobody's business; and a wrong certificate is to be shown, so
         * that we can say what is wrong. */
        gnutls_certificate_send_x509_rdn_sequence(session, 1);
    }
}

static bool has_wanted_name(const FutTls *tls, gnutls_x509_crt_t crt)
{
    for (char **name = tls->x509.names; name && *name; name++) {
        if (gnutls_x509_crt_check_hostname2(crt, *name, 0)) {
            return true;
        }
    }
    return tls->x509.names == NULL;
}

/* The peer's own certificate, or NULL. */
static gnutls_x509_crt_t certificate_of(gnutls_session_t session)
{
    unsigned count = 0;
    const gnutls_datum_t *chain = gnutls_certificate_get_peers(session, &count);
    gnutls_x509_crt_t crt = NULL;
    if (!chain || count == 0 || gnutls_x509_crt_init(&crt) < 0) {
        return NULL;
    }
    if (gnutls_x509_crt_import(crt, &chain[0], GNUTLS_X509_FMT_DER) < 0) {
        gnutls_x509_crt_deinit(crt);
        return NULL;
    }
    return crt;
}

static char *x509_judge(FutTls *tls, gnutls_session_t session, bool server, char **ret_why)
{
    const char *purpose = server ? FOR_CLIENT : FOR_SERVER;
    gnutls_typed_vdata_st wanted = { GNUTLS_DT_KEY_PURPOSE_OID, (unsigned char *)purpose, 0 };
    unsigned status = 0;
    gnutls_x509_crt_t crt = certificate_of(session);
    if (!crt) {
        *ret_why = g_strdup("it showed no certificate");
        return NULL;
    }
    g_autofree char *name = name_of(crt);
    bool named = has_wanted_name(tls, crt);
    gnutls_x509_crt_deinit(crt);
    if (gnutls_certificate_verify_peers(session, &wanted, 1, &status) < 0) {
        status = GNUTLS_CERT_INVALID;
    }
    if (status != 0) {
        *ret_why = g_strdup_printf("its certificate (%s) %s", name, verdict_text(status));
        return NULL;
    }
    if (!named) {
        g_autofree char *names = g_strjoinv(",", tls->x509.names);
        *ret_why = g_strdup_printf("its certificate is that of %s, not of %s", name, names);
        return NULL;
    }
    return g_steal_pointer(&name);
}

const FutTlsKind fut_tls_x509 = {
    .name = "x509",
    .priority = "NORMAL:-VERS-ALL:+VERS-TLS1.3:-CIPHER-ALL:+AES-128-GCM:+AES-256-GCM:"
                "+CHACHA20-POLY1305:-GROUP-ALL:+GROUP-X25519:+GROUP-SECP256R1:+GROUP-SECP384R1:"
                "%PROFILE_MEDIUM",
    .check_names = x509_check_names,
    .load = x509_load,
    .unload = x509_unload,
    .use = x509_use,
    .judge = x509_judge,
};
