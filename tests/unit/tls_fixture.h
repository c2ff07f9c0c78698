/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Certificates and key files made on the spot, for tests. */
#ifndef FUT_TESTS_TLS_FIXTURE_H
#define FUT_TESTS_TLS_FIXTURE_H

#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "test_tmp.h"

#define DAY_S 86400

typedef struct {
    gnutls_x509_crt_t crt;
    gnutls_x509_privkey_t key;
} TestCert;

#define GNUTLS_OK(call) g_assert_cmpint((call), >=, 0)

static inline void test_cert_done(TestCert *cert)
{
    gnutls_x509_crt_deinit(cert->crt);
    gnutls_x509_privkey_deinit(cert->key);
}

/* Signed by `by` (NULL: an authority, by itself). Valid for a day from `from_day` days from now.
 * Purpose NULL: none named. */
static inline TestCert test_cert_new(const TestCert *by, const char *name, const char *purpose,
                                     int from_day)
{
    static unsigned char serial = 1;
    TestCert cert;
    time_t from = time(NULL) + (time_t)from_day * DAY_S - 3600;
    GNUTLS_OK(gnutls_x509_privkey_init(&cert.key));
    GNUTLS_OK(gnutls_x509_privkey_generate(cert.key, GNUTLS_PK_ECDSA,
                                           GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0));
    GNUTLS_OK(gnutls_x509_crt_init(&cert.crt));
    GNUTLS_OK(gnutls_x509_crt_set_version(cert.crt, 3));
    GNUTLS_OK(gnutls_x509_crt_set_serial(cert.crt, &serial, 1));
    serial++;
    GNUTLS_OK(gnutls_x509_crt_set_activation_time(cert.crt, from));
    GNUTLS_OK(gnutls_x509_crt_set_expiration_time(cert.crt, from + DAY_S));
    GNUTLS_OK(gnutls_x509_crt_set_dn_by_oid(cert.crt, GNUTLS_OID_X520_COMMON_NAME, 0, name,
                                            (unsigned)strlen(name)));
    GNUTLS_OK(gnutls_x509_crt_set_basic_constraints(cert.crt, by == NULL, -1));
    GNUTLS_OK(gnutls_x509_crt_set_key_usage(cert.crt,
                                            by ? GNUTLS_KEY_DIGITAL_SIGNATURE
                                               : GNUTLS_KEY_KEY_CERT_SIGN | GNUTLS_KEY_CRL_SIGN));
    if (by) {
        GNUTLS_OK(gnutls_x509_crt_set_subject_alt_name(cert.crt, GNUTLS_SAN_DNSNAME, name,
                                                       (unsigned)strlen(name), GNUTLS_FSAN_SET));
    }
    if (purpose) {
        GNUTLS_OK(gnutls_x509_crt_set_key_purpose_oid(cert.crt, purpose, 0));
    }
    GNUTLS_OK(gnutls_x509_crt_set_key(cert.crt, cert.key));
    GNUTLS_OK(gnutls_x509_crt_sign2(cert.crt, by ? by->crt : cert.crt, by ? by->key : cert.key,
                                    GNUTLS_DIG_SHA256, 0));
    return cert;
}

static inline void test_write(const char *folder, const char *name, const void *bytes,
                              size_t length, mode_t mode)
{
    g_autofree char *path = g_build_filename(folder, name, NULL);
    g_assert_true(g_file_set_contents(path, bytes, (gssize)length, NULL));
    g_assert_cmpint(chmod(path, mode), ==, 0);
}

static inline void test_cert_write(const TestCert *cert, const char *folder, const char *role,
                                   bool with_key)
{
    gnutls_datum_t text;
    g_autofree char *crt_name = g_strconcat(role, "-cert.pem", NULL);
    g_autofree char *key_name = g_strconcat(role, "-key.pem", NULL);
    GNUTLS_OK(gnutls_x509_crt_export2(cert->crt, GNUTLS_X509_FMT_PEM, &text));
    test_write(folder, crt_name, text.data, text.size, 0644);
    gnutls_free(text.data);
    if (with_key) {
        GNUTLS_OK(gnutls_x509_privkey_export2(cert->key, GNUTLS_X509_FMT_PEM, &text));
        test_write(folder, key_name, text.data, text.size, 0600);
        gnutls_free(text.data);
    }
}

/* One certificate of a host: role "server" or "client". */
static inline void test_host_cert(const TestCert *authority, const char *folder, const char *role,
                                  const char *name, int from_day)
{
    TestCert cert = test_cert_new(authority, name,
                                  strcmp(role, "server") == 0 ? GNUTLS_KP_TLS_WWW_SERVER
                                                              : GNUTLS_KP_TLS_WWW_CLIENT,
                                  from_day);
    test_cert_write(&cert, folder, role, true);
    test_cert_done(&cert);
}

/* All files of one host, in a folder of its own below `root`. Caller frees the path. */
static inline char *test_host(const TestCert *authority, const char *root, const char *name)
{
    char *folder = g_build_filename(root, name, NULL);
    g_assert_cmpint(mkdir(folder, 0700), ==, 0);
    test_cert_write(authority, folder, "ca", false);
    test_host_cert(authority, folder, "server", name, 0);
    test_host_cert(authority, folder, "client", name, 0);
    return folder;
}

#endif
