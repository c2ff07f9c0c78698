/* SPDX-License-Identifier: GPL-2.0-or-later */
/* TLS credentials: specifications, and everything that can be wrong with their files. */
#include <unistd.h>

#include "expect.h"
#include "link_tls.h"
#include "tls_fixture.h"

static struct {
    char *root;
    TestCert authority, other;
} files;

static char *path_of(const char *name)
{
    return g_build_filename(files.root, name, NULL);
}

/* The message without the folder of this run. */
static void refused(const char *kind, const char *name, const char *user, FutErr code,
                    const char *wanted)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *spec = g_strdup_printf("%s:%s/%s", kind, files.root, name);
    g_assert_null(fut_tls_new(spec, user, &error));
    g_assert_error(error, FUT_ERROR, (int)code);
    g_auto(GStrv) parts = g_strsplit(error->message, files.root, 0);
    g_autofree char *text = g_strjoinv("ROOT", parts);
    g_assert_cmpstr(text, ==, wanted);
}

static void test_check(void)
{
    static const struct {
        const char *spec, *names, *wanted;
    } cases[] = {
        { "", NULL, "TLS \"\": unknown kind; write x509:DIR or psk:FILE" },
        { "on", NULL, "TLS \"on\": unknown kind; write x509:DIR or psk:FILE" },
        { "psk", NULL, "TLS \"psk\": unknown kind; write x509:DIR or psk:FILE" },
        { "psk:", NULL, "TLS \"psk:\": the path must be absolute; write x509:DIR or psk:FILE" },
        { "x509:pki", NULL,
          "TLS \"x509:pki\": the path must be absolute; write x509:DIR or psk:FILE" },
        { "psk:/k", "",
          "TLS name \"\": with psk it is one user of the key file, 1 to 255 bytes "
          "without a colon" },
        { "psk:/k", "a:b",
          "TLS name \"a:b\": with psk it is one user of the key file, 1 to 255 "
          "bytes without a colon" },
        { "x509:/d", "",
          "TLS name \"\": write the host name in the peer's certificate; several "
          "are parted by commas" },
        { "x509:/d", "a,,b",
          "TLS name \"a,,b\": write the host name in the peer's certificate; "
          "several are parted by commas" },
        { "x509:/d", "a b",
          "TLS name \"a b\": write the host name in the peer's certificate; "
          "several are parted by commas" },
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;
        g_assert_false(fut_tls_check(cases[i].spec, cases[i].names, &error));
        g_assert_error(error, FUT_ERROR, FUT_ERR_ARG);
        g_assert_cmpstr(error->message, ==, cases[i].wanted);
        g_assert_null(fut_tls_new(cases[i].spec, cases[i].names, NULL));
    }
    g_assert_true(fut_tls_check("psk:/no/such/file", "web", NULL));
    g_assert_true(fut_tls_check("x509:/no/such/folder", "a.example,10.0.0.1,fe80::1", NULL));
}

/* -- keys -- */

static void key_file(const char *text, mode_t mode)
{
    test_write(files.root, "k", text, strlen(text), mode);
}

static void test_key_lines(void)
{
    static const char wrong[] =
        "ROOT/k: the key of user futago is not 16 to 128 bytes in hexadecimal: make one with "
        "\"psktool -u futago -p ROOT/k\"";
    static const char *const bad[] = {
        "futago:",
        "futago:00112233445566778899aabbccddee\n",    /* 15 bytes */
        "futago:00112233445566778899aabbccddeeff0\n", /* half a byte */
        "futago:00112233445566778899aabbccddeefg\n",
        "futago: 00112233445566778899aabbccddeeff\n",
        "futago:00112233445566778899aabbccddeeff:\n",
    };
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        key_file(bad[i], 0600);
        refused("psk", "k", NULL, FUT_ERR_ARG, wrong);
    }
    g_autofree char *many = g_strnfill(258, 'a');
    g_autofree char *line = g_strconcat("futago:", many, NULL);
    key_file(line, 0600);
    refused("psk", "k", NULL, FUT_ERR_ARG, wrong);
    key_file("", 0600);
    refused("psk", "k", NULL, FUT_ERR_ARG,
            "ROOT/k has no key for user futago: make one with \"psktool -u futago -p ROOT/k\"");
    key_file("futago2:00112233445566778899aabbccddeeff\nfutag:00\n", 0600);
    refused("psk", "k", NULL, FUT_ERR_ARG,
            "ROOT/k has no key for user futago: make one with \"psktool -u futago -p ROOT/k\"");
    refused("psk", "k", "web", FUT_ERR_ARG,
            "ROOT/k has no key for user web: make one with \"psktool -u web -p ROOT/k\"");
}

static void test_key_good(void)
{
    static const char *const good[] = {
        "futago:00112233445566778899aabbccddeeff",
        "futago:00112233445566778899AABBCCDDEEFF\r\n",
        "other:zz\nfutago:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\n\n",
    };
    g_autofree char *spec = g_strdup_printf("psk:%s/k", files.root);
    for (size_t i = 0; i < G_N_ELEMENTS(good); i++) {
        g_autoptr(GError) error = NULL;
        key_file(good[i], 0600);
        g_autoptr(FutTls) tls = fut_tls_new(spec, NULL, &error);
        g_assert_no_error(error);
        g_assert_cmpstr(fut_tls_kind(tls), ==, "psk");
    }
}

static void test_key_file_of_others(void)
{
    static const mode_t modes[] = { 0640, 0604, 0620, 0602, 0644, 0777 };
    for (size_t i = 0; i < G_N_ELEMENTS(modes); i++) {
        key_file("futago:00112233445566778899aabbccddeeff\n", modes[i]);
        refused("psk", "k", NULL, FUT_ERR_ARG,
                "ROOT/k holds a secret that others have access to: chmod 600 it, and make a new "
                "key if somebody may have read it");
    }
    if (geteuid() == 0) {
        g_autofree char *path = path_of("k");
        key_file("futago:00112233445566778899aabbccddeeff\n", 0600);
        g_assert_cmpint(chown(path, 12345, 0), ==, 0);
        refused("psk", "k", NULL, FUT_ERR_ARG,
                "ROOT/k belongs to another user: chown it to the user QEMU runs as");
        g_assert_cmpint(chown(path, 0, 0), ==, 0);
    }
}

static void test_no_such_file(void)
{
    g_autofree char *large = path_of("large");
    test_write(files.root, "large", "", 0, 0600);
    g_assert_cmpint(truncate(large, (1 << 20) + 1), ==, 0);
    refused("psk", "large", NULL, FUT_ERR_ARG,
            "ROOT/large is larger than 1 MiB: it cannot be a key or a certificate");
    refused("psk", "nowhere", NULL, FUT_ERR_ARG,
            "cannot open ROOT/nowhere: No such file or directory; TLS needs this file, readable "
            "for the user QEMU runs as");
    refused("psk", "", NULL, FUT_ERR_ARG, "ROOT/ is no regular file");
    refused("psk", "large/k", NULL, FUT_ERR_IO,
            "cannot open ROOT/large/k: Not a directory; TLS needs this file, readable for the "
            "user QEMU runs as");
}

/* -- certificates -- */

/* A host with everything right, to be spoiled; its name in the folder of this run. */
static char *sound_host(const char *name)
{
    return test_host(&files.authority, files.root, name);
}

static void test_certificates_good(void)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *folder = sound_host("good");
    g_autofree char *spec = g_strconcat("x509:", folder, NULL);
    g_autoptr(FutTls) tls = fut_tls_new(spec, "a,b", &error);
    g_assert_no_error(error);
    g_assert_cmpstr(fut_tls_kind(tls), ==, "x509");
    g_autoptr(FutTls) again = fut_tls_ref(tls);
    g_assert_true(again == tls);
}

static void test_file_missing(void)
{
    static const char *const names[] = { "ca-cert.pem", "server-cert.pem", "server-key.pem",
                                         "client-cert.pem", "client-key.pem" };
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autofree char *host = g_strdup_printf("without-%zu", i);
        g_autofree char *folder = sound_host(host);
        g_autofree char *path = g_build_filename(folder, names[i], NULL);
        g_assert_cmpint(unlink(path), ==, 0);
        g_autofree char *wanted =
            g_strdup_printf("cannot open ROOT/%s/%s: No such file or directory; TLS needs this "
                            "file, readable for the user QEMU runs as",
                            host, names[i]);
        refused("x509", host, NULL, FUT_ERR_ARG, wanted);
    }
}

static void test_file_malformed(void)
{
    static const struct {
        const char *name, *wanted;
    } cases[] = {
        { "ca-cert.pem", "ROOT/%s/ca-cert.pem holds no certificate in PEM form" },
        { "ca-crl.pem", "ROOT/%s/ca-crl.pem holds no revocation list in PEM form" },
        { "client-cert.pem", "ROOT/%s/client-cert.pem holds no certificate in PEM form" },
        { "client-key.pem", "ROOT/%s/client-key.pem holds no key in PEM form without a password" },
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *host = g_strdup_printf("malformed-%zu", i);
        g_autofree char *folder = sound_host(host);
        test_write(folder, cases[i].name, "rubbish\n", 8, 0600);
        g_auto(GStrv) parts = g_strsplit(cases[i].wanted, "%s", 2);
        g_autofree char *wanted = g_strjoinv(host, parts);
        refused("x509", host, NULL, FUT_ERR_ARG, wanted);
    }
}

static void test_key_of_another(void)
{
    g_autofree char *folder = sound_host("keys");
    g_autofree char *from = g_build_filename(folder, "server-key.pem", NULL);
    g_autofree char *to = g_build_filename(folder, "client-key.pem", NULL);
    g_assert_cmpint(chmod(from, 0640), ==, 0);
    refused("x509", "keys", NULL, FUT_ERR_ARG,
            "ROOT/keys/server-key.pem holds a secret that others have access to: chmod 600 it, "
            "and make a new key if somebody may have read it");
    g_assert_cmpint(chmod(from, 0600), ==, 0);
    g_assert_cmpint(rename(from, to), ==, 0);
    test_host_cert(&files.authority, folder, "server", "keys", 0);
    refused("x509", "keys", NULL, FUT_ERR_ARG,
            "ROOT/keys/client-key.pem is not the key of client-cert.pem");
}

static void test_not_valid(void)
{
    g_autofree char *expired = sound_host("expired");
    g_autofree char *early = sound_host("early");
    g_autofree char *foreign = sound_host("foreign");
    g_autofree char *purpose = sound_host("purpose");
    test_host_cert(&files.authority, expired, "server", "expired", -3);
    refused("x509", "expired", NULL, FUT_ERR_ARG,
            "ROOT/expired/server-cert.pem has expired: make a new one with certtool");
    test_host_cert(&files.authority, early, "client", "early", 3);
    refused("x509", "early", NULL, FUT_ERR_ARG,
            "ROOT/early/client-cert.pem is not valid yet (are the clocks right?): make a new one "
            "with certtool");
    test_host_cert(&files.other, foreign, "client", "foreign", 0);
    refused("x509", "foreign", NULL, FUT_ERR_ARG,
            "ROOT/foreign/client-cert.pem was not signed by the authority in ca-cert.pem: make a "
            "new one with certtool");
    TestCert cert = test_cert_new(&files.authority, "purpose", GNUTLS_KP_TLS_WWW_CLIENT, 0);
    test_cert_write(&cert, purpose, "server", true);
    test_cert_done(&cert);
    refused("x509", "purpose", NULL, FUT_ERR_ARG,
            "ROOT/purpose/server-cert.pem was made for another purpose: make a new one with "
            "certtool (tls_www_server)");
}

/* Withdrawn by the authority: nobody starts with it. */
static void test_revoked(void)
{
    g_autofree char *folder = sound_host("revoked");
    TestCert cert = test_cert_new(&files.authority, "revoked", GNUTLS_KP_TLS_WWW_CLIENT, 0);
    gnutls_x509_crl_t list;
    gnutls_datum_t text;
    test_cert_write(&cert, folder, "client", true);
    GNUTLS_OK(gnutls_x509_crl_init(&list));
    GNUTLS_OK(gnutls_x509_crl_set_version(list, 2));
    GNUTLS_OK(gnutls_x509_crl_set_this_update(list, time(NULL) - 60));
    GNUTLS_OK(gnutls_x509_crl_set_next_update(list, time(NULL) + DAY_S));
    GNUTLS_OK(gnutls_x509_crl_set_number(list, "\1", 1));
    GNUTLS_OK(gnutls_x509_crl_set_crt(list, cert.crt, time(NULL) - 60));
    GNUTLS_OK(gnutls_x509_crl_sign2(list, files.authority.crt, files.authority.key,
                                    GNUTLS_DIG_SHA256, 0));
    GNUTLS_OK(gnutls_x509_crl_export2(list, GNUTLS_X509_FMT_PEM, &text));
    test_write(folder, "ca-crl.pem", text.data, text.size, 0644);
    gnutls_free(text.data);
    gnutls_x509_crl_deinit(list);
    test_cert_done(&cert);
    refused("x509", "revoked", NULL, FUT_ERR_ARG,
            "ROOT/revoked/client-cert.pem was revoked: make a new one with certtool");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_autofree char *relative = fut_test_tmp();
    files.root = g_canonicalize_filename(relative, NULL);
    files.authority = test_cert_new(NULL, "our authority", NULL, 0);
    files.other = test_cert_new(NULL, "another", NULL, 0);
    g_test_add_func("/tls-files/check", test_check);
    g_test_add_func("/tls-files/key-lines", test_key_lines);
    g_test_add_func("/tls-files/key-good", test_key_good);
    g_test_add_func("/tls-files/key-file-of-others", test_key_file_of_others);
    g_test_add_func("/tls-files/no-such-file", test_no_such_file);
    g_test_add_func("/tls-files/certificates-good", test_certificates_good);
    g_test_add_func("/tls-files/file-missing", test_file_missing);
    g_test_add_func("/tls-files/file-malformed", test_file_malformed);
    g_test_add_func("/tls-files/key-of-another", test_key_of_another);
    g_test_add_func("/tls-files/not-valid", test_not_valid);
    g_test_add_func("/tls-files/revoked", test_revoked);
    int status = g_test_run();
    fut_test_tmp_remove(files.root);
    test_cert_done(&files.authority);
    test_cert_done(&files.other);
    g_free(files.root);
    return status;
}
