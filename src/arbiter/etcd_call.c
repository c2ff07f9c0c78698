/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Addresses of etcd, and requests to it by libcurl. */
#include "etcd_call.h"

#include <string.h>
#include <unistd.h>

#include "address.h"
#include "curl_load.h"
#include "fut_clock.h"
#include "fut_error.h"

#define PREFIX_DEFAULT "/futago"
#define PORT_DEFAULT "2379"
#define SERVERS_MAX 16
#define CONNECT_MS 1000
/* A member that has lost its majority does not answer: the next one may have one. */
#define REQUEST_MS 1500

/* -- address -- */

static void set_bad(const char *part, const char *remedy, GError **error)
{
    g_set_error(error, FUT_ERROR, FUT_ERR_ARG, "arbiter etcd: '%s': %s", part, remedy);
}

static char *url_part(CURLU *url, CURLUPart part)
{
    char *text = NULL;

    if (fut_curl()->url_get(url, part, &text, 0) != CURLUE_OK) {
        return NULL;
    }
    char *copy = g_strdup(text);
    fut_curl()->free(text);
    return copy;
}

static bool has_part(CURLU *url, CURLUPart part)
{
    g_autofree char *text = url_part(url, part);

    return text != NULL;
}

static bool good_prefix(const char *prefix)
{
    for (const char *at = prefix; *at; at++) {
        if (!g_ascii_isalnum(*at) && !strchr("/._-", *at)) {
            return false;
        }
    }
    return strlen(prefix) <= 256;
}

/* `text` goes into messages. */
static bool take_url(FutEtcd *etcd, CURLU *url, const char *text, GError **error)
{
    g_autofree char *scheme = url_part(url, CURLUPART_SCHEME);
    g_autofree char *host = url_part(url, CURLUPART_HOST);
    g_autofree char *port = url_part(url, CURLUPART_PORT);
    g_autofree char *path = url_part(url, CURLUPART_PATH);

    if (!scheme || !host || (strcmp(scheme, "http") != 0 && strcmp(scheme, "https") != 0)) {
        set_bad(text, "use http://HOST:PORT or https://HOST:PORT", error);
        return false;
    }
    if (has_part(url, CURLUPART_USER) || has_part(url, CURLUPART_PASSWORD) ||
        has_part(url, CURLUPART_QUERY) || has_part(url, CURLUPART_FRAGMENT)) {
        set_bad(text, "a URL has HOST:PORT and, the last one, /PREFIX only", error);
        return false;
    }
    if (etcd->prefix || etcd->servers->len == SERVERS_MAX) {
        set_bad(text, "/PREFIX ends the list of at most 16 URLs", error);
        return false;
    }
    if (path && strcmp(path, "/") != 0) {
        if (!good_prefix(path)) {
            set_bad(text, "a prefix has letters, digits, '/', '.', '_' and '-'", error);
            return false;
        }
        while (g_str_has_suffix(path, "/")) {
            path[strlen(path) - 1] = '\0';
        }
        etcd->prefix = g_steal_pointer(&path);
    }
    g_ptr_array_add(etcd->servers,
                    g_strdup_printf("%s://%s:%s", scheme, host, port ? port : PORT_DEFAULT));
    return true;
}

static bool add_url(FutEtcd *etcd, const char *text, GError **error)
{
    CURLU *url = fut_curl()->url();
    CURLUcode code = fut_curl()->url_set(url, CURLUPART_URL, text, 0);
    bool ok = code == CURLUE_OK && take_url(etcd, url, text, error);

    if (code != CURLUE_OK) {
        set_bad(text, "use http://HOST:PORT or https://HOST:PORT", error);
    }
    fut_curl()->url_cleanup(url);
    return ok;
}

static bool add_option(FutEtcd *etcd, const char *text, GError **error)
{
    if (g_str_has_prefix(text, "login=") && !etcd->login) {
        etcd->login = fut_etcd_login_new(text + strlen("login="), error);
        return etcd->login != NULL;
    }
    const struct {
        const char *key;
        char **file;
    } options[] = {
        { "cacert=", &etcd->cacert },
        { "cert=", &etcd->cert },
        { "key=", &etcd->key },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(options); i++) {
        if (!g_str_has_prefix(text, options[i].key)) {
            continue;
        }
        /* The process may change its folder later on. */
        g_free(*options[i].file);
        *options[i].file = g_canonicalize_filename(text + strlen(options[i].key), NULL);
        if (!g_file_test(*options[i].file, G_FILE_TEST_IS_REGULAR) ||
            access(*options[i].file, R_OK) < 0) {
            set_bad(text, "that file cannot be read", error);
            return false;
        }
        return true;
    }
    set_bad(text, "there are URLs, cacert=FILE, cert=FILE, key=FILE and login=FILE", error);
    return false;
}

static bool check_tls(const FutEtcd *etcd, GError **error)
{
    bool any = etcd->cacert || etcd->cert || etcd->key;

    if (!etcd->cert != !etcd->key) {
        set_bad(etcd->cert ? etcd->cert : etcd->key, "cert= and key= go together", error);
        return false;
    }
    for (guint i = 0; any && i < etcd->servers->len; i++) {
        const char *server = g_ptr_array_index(etcd->servers, i);
        if (!g_str_has_prefix(server, "https:")) {
            set_bad(server, "certificates need https://", error);
            return false;
        }
    }
    return true;
}

/* A name that only begins like a number (127.0.0.1.example.org) may be anywhere. */
static bool is_safe(const char *server)
{
    if (!g_str_has_prefix(server, "http://")) {
        return true;
    }
    g_autofree char *text = g_strdup_printf("tcp:%s", server + strlen("http://"));
    g_autoptr(FutAddress) address = fut_address_parse(text, NULL);

    return address && fut_address_is_local(address);
}

static bool check_login(const FutEtcd *etcd, GError **error)
{
    for (guint i = 0; etcd->login && i < etcd->servers->len; i++) {
        const char *server = g_ptr_array_index(etcd->servers, i);
        if (!is_safe(server)) {
            set_bad(server, "a password leaves this machine by https:// only", error);
            return false;
        }
    }
    return true;
}

bool fut_etcd_init(FutEtcd *etcd, const char *where, GError **error)
{
    g_auto(GStrv) parts = g_strsplit(where, ",", -1);
    bool ok = true;

    if (!fut_curl_load(error)) {
        g_prefix_error(error, "arbiter etcd: ");
        return false;
    }
    *etcd = (FutEtcd){ .servers = g_ptr_array_new_with_free_func(g_free) };
    for (char **part = parts; ok && *part; part++) {
        ok = strstr(*part, "://") ? add_url(etcd, *part, error) : add_option(etcd, *part, error);
    }
    if (ok && etcd->servers->len == 0) {
        set_bad(where, "name a member: http://HOST:PORT", error);
        ok = false;
    }
    if (!ok || !check_tls(etcd, error) || !check_login(etcd, error)) {
        fut_etcd_done(etcd);
        return false;
    }
    etcd->prefix = etcd->prefix ? etcd->prefix : g_strdup(PREFIX_DEFAULT);
    return true;
}

void fut_etcd_done(FutEtcd *etcd)
{
    g_ptr_array_unref(etcd->servers);
    g_free(etcd->prefix);
    g_free(etcd->cacert);
    g_free(etcd->cert);
    g_free(etcd->key);
    fut_etcd_login_free(etcd->login);
}

/* -- requests -- */

static size_t collect(char *bytes, size_t size, size_t count, void *opaque)
{
    GString *answer = opaque;

    if (answer->len + count > FUT_ETCD_ANSWER_MAX) {
        return 0; /* ends the transfer */
    }
    g_string_append_len(answer, bytes, (gssize)count);
    return count;
}

static void set_options(CURL *curl, const FutEtcd *etcd, long wait_ms, char *reason)
{
    fut_curl()->easy_setopt(curl, CURLOPT_NOSIGNAL, 1L); /* the signals of the process are QEMU's */
    fut_curl()->easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    fut_curl()->easy_setopt(curl, CURLOPT_PROXY, ""); /* whatever the environment says */
    fut_curl()->easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, MIN(wait_ms, CONNECT_MS));
    fut_curl()->easy_setopt(curl, CURLOPT_TIMEOUT_MS, wait_ms);
    fut_curl()->easy_setopt(curl, CURLOPT_ERRORBUFFER, reason);
    fut_curl()->easy_setopt(curl, CURLOPT_WRITEFUNCTION, collect);
    if (etcd->cacert) {
        fut_curl()->easy_setopt(curl, CURLOPT_CAINFO, etcd->cacert);
    }
    if (etcd->cert) {
        fut_curl()->easy_setopt(curl, CURLOPT_SSLCERT, etcd->cert);
        fut_curl()->easy_setopt(curl, CURLOPT_SSLKEY, etcd->key);
    }
}

/* One request and what came of it. */
typedef struct {
    const FutEtcd *etcd;
    const char *server;
    const char *verb;
    const char *body;
    const char *token; /* NULL: none */
    uint64_t deadline_ns;
    bool stale; /* set: etcd does not take the token, or wants one */
} Exchange;

/* A token lasts for minutes, and not beyond a change of users or a restart of etcd. */
static bool is_stale(long status, const char *said)
{
    return status == 401 || strstr(said, "auth token") || strstr(said, "auth store is old");
}

/* What etcd says of itself when it cannot: {"error": "..."}. */
static bool check_status(CURL *curl, Exchange *exchange, const json_t *object, const char *text,
                         GError **error)
{
    long status = 0;
    const char *said = json_string_value(json_object_get(object, "error"));

    fut_curl()->easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    if (status == 200 && json_is_object(json_object_get(object, "header"))) {
        return true;
    }
    if (said) {
        exchange->stale = is_stale(status, said);
        g_set_error(error, FUT_ERROR, FUT_ERR_IO, "%s: %.120s", exchange->server, said);
    } else {
        g_autofree char *line = g_strndup(text, MIN(strcspn(text, "\r\n"), 120));
        g_autofree char *shown = g_strescape(line, NULL);
        g_set_error(error, FUT_ERROR, FUT_ERR_IO,
                    "%s: does not answer as etcd does (status %ld)%s%s", exchange->server, status,
                    *shown ? ": " : "", shown);
    }
    return false;
}

static json_t *take_answer(CURL *curl, CURLcode code, Exchange *exchange, const char *reason,
                           const GString *answer, GError **error)
{
    if (code == CURLE_WRITE_ERROR) {
        reason = "the answer is too long for etcd's";
    }
    if (code != CURLE_OK) {
        g_set_error(error, FUT_ERROR,
                    code == CURLE_OPERATION_TIMEDOUT ? FUT_ERR_TIMEOUT : FUT_ERR_IO, "%s: %s",
                    exchange->server, *reason ? reason : fut_curl()->easy_strerror(code));
        return NULL;
    }
    json_t *object = json_loadb(answer->str, answer->len, JSON_REJECT_DUPLICATES, NULL);
    if (!check_status(curl, exchange, object, answer->str, error)) {
        json_decref(object);
        return NULL;
    }
    return object;
}

static struct curl_slist *headers_of(const Exchange *exchange)
{
    struct curl_slist *headers = fut_curl()->slist_append(NULL, "Content-Type: application/json");
    g_autofree char *login =
        exchange->token ? g_strdup_printf("Authorization: %s", exchange->token) : NULL;

    return login ? fut_curl()->slist_append(headers, login) : headers;
}

static json_t *post(CURL *curl, Exchange *exchange, uint64_t left_ms, GError **error)
{
    g_autoptr(GString) answer = g_string_new(NULL);
    g_autofree char *url = g_strdup_printf("%s/v3/%s", exchange->server, exchange->verb);
    char reason[CURL_ERROR_SIZE] = "";
    struct curl_slist *headers = headers_of(exchange);

    set_options(curl, exchange->etcd, (long)MIN(left_ms, REQUEST_MS), reason);
    fut_curl()->easy_setopt(curl, CURLOPT_URL, url);
    fut_curl()->easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    fut_curl()->easy_setopt(curl, CURLOPT_POSTFIELDS, exchange->body);
    fut_curl()->easy_setopt(curl, CURLOPT_WRITEDATA, answer);
    CURLcode code = fut_curl()->easy_perform(curl);
    json_t *object = take_answer(curl, code, exchange, reason, answer, error);
    fut_curl()->slist_free_all(headers);
    return object;
}

static json_t *exchange_once(Exchange *exchange, GError **error)
{
    uint64_t now_ns = fut_now_ns();

    exchange->stale = false;
    if (now_ns + FUT_NS_PER_MS >= exchange->deadline_ns) {
        g_set_error(error, FUT_ERROR, FUT_ERR_TIMEOUT, "%s: no time left to ask", exchange->server);
        return NULL;
    }
    CURL *curl = fut_curl()->easy_init();
    g_assert(curl);
    json_t *answer = post(curl, exchange, (exchange->deadline_ns - now_ns) / FUT_NS_PER_MS, error);
    fut_curl()->easy_cleanup(curl);
    return answer;
}

/* Gets a token from that server and keeps it. */
static bool authenticate(const Exchange *wanted, GError **error)
{
    FutEtcdLogin *login = wanted->etcd->login;
    json_t *request = fut_etcd_login_request(login, error);
    char *body = request ? json_dumps(request, JSON_COMPACT) : NULL;
    Exchange exchange = *wanted;

    json_decref(request);
    if (!body) {
        return false;
    }
    exchange.verb = "auth/authenticate";
    exchange.body = body;
    exchange.token = NULL;
    json_t *answer = exchange_once(&exchange, error);
    explicit_bzero(body, strlen(body));
    free(body);
    const char *token = json_string_value(json_object_get(answer, "token"));
    if (answer && !token) {
        g_set_error(error, FUT_ERROR, FUT_ERR_IO, "%s: gives no token for the login",
                    exchange.server);
    }
    fut_etcd_login_set_token(login, token);
    json_decref(answer);
    return token != NULL;
}

/* Once as it is, once with a new token. */
static json_t *exchange_logged_in(Exchange *exchange, GError **error)
{
    FutEtcdLogin *login = exchange->etcd->login;
    g_autofree char *known = fut_etcd_login_token(login);
    g_autoptr(GError) fault = NULL;

    if (known) {
        exchange->token = known;
        json_t *answer = exchange_once(exchange, &fault);
        if (answer) {
            return answer;
        }
        if (!exchange->stale) {
            g_propagate_error(error, g_steal_pointer(&fault));
            return NULL;
        }
    }
    if (!authenticate(exchange, error)) {
        return NULL;
    }
    g_autofree char *fresh = fut_etcd_login_token(login);
    exchange->token = fresh;
    return exchange_once(exchange, error);
}

json_t *fut_etcd_call(const FutEtcd *etcd, guint server, const char *verb, json_t *take_request,
                      uint64_t deadline_ns, GError **error)
{
    char *body = json_dumps(take_request, JSON_COMPACT);
    Exchange exchange = { .etcd = etcd,
                          .server = g_ptr_array_index(etcd->servers, server),
                          .verb = verb,
                          .body = body,
                          .deadline_ns = deadline_ns };

    json_decref(take_request);
    json_t *answer =
        etcd->login ? exchange_logged_in(&exchange, error) : exchange_once(&exchange, error);
    free(body);
    return answer;
}
