/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Arbiter "etcd:URL,...": one key a VM, PREFIX/VM, whose value is the record's line. A claim reads
 * it (through the majority, as etcd does unless told otherwise) and replaces it in a transaction
 * that fails if the key was changed since. So a request that is carried out late, or that is sent
 * again through another member because its answer was lost, changes nothing twice. PREFIX/VM/token
 * is made by who comes first and tells this cluster and prefix from others.
 *
 * The key has no lease: a record that expired would make a generation anew.
 */
#include <string.h>

#include "arbiter_kinds.h"
#include "arbiter_record.h"
#include "etcd_call.h"
#include "fut_clock.h"
#include "fut_error.h"

/* For one claim, read or release, whatever the number of members. */
#define LIMIT_MS 5000
/* Somebody else changed the record between our reading and our writing it. */
#define TRIES_MAX 5

typedef struct {
    FutArbiter arbiter;
    FutEtcd etcd;
    char *key, *key_base64;
    int first; /* atomic; the member that answered last is asked first */
} EtcdArbiter;

typedef struct {
    FutArbiterRecord record;
    int64_t revision; /* of the key; 0: there is none */
} Seen;

/* One operation, asked of one member. */
typedef struct {
    const EtcdArbiter *arbiter;
    guint server;
    uint64_t deadline_ns;
    uint64_t generation;
    const char *node;
    FutArbiterRecord *ret_record; /* read */
    char *ret_token;              /* identify; owned by who asks */
    FutClaim claim;               /* claim */
    char **ret_text;
} Question;

/* False: this member has no answer. */
typedef bool (*Ask)(Question *question, GError **error);

static FutArbiter *etcd_open(const char *where, const char *vm, GError **error)
{
    FutEtcd etcd;

    if (!fut_etcd_init(&etcd, where, error)) {
        return NULL;
    }
    EtcdArbiter *arbiter = g_new0(EtcdArbiter, 1);
    arbiter->arbiter.ops = &fut_arbiter_etcd;
    arbiter->etcd = etcd;
    arbiter->key = g_strdup_printf("%s/%s", etcd.prefix, vm);
    arbiter->key_base64 = g_base64_encode((const guchar *)arbiter->key, strlen(arbiter->key));
    return &arbiter->arbiter;
}

static void etcd_close(FutArbiter *base)
{
    EtcdArbiter *arbiter = (EtcdArbiter *)base;

    fut_etcd_done(&arbiter->etcd);
    g_free(arbiter->key);
    g_free(arbiter->key_base64);
    g_free(arbiter);
}

/* -- reading -- */

/* The gateway writes 64-bit numbers as strings. */
static bool number_of(const json_t *object, const char *key, int64_t *ret)
{
    const char *text = json_string_value(json_object_get(object, key));
    gint64 number = 0;

    if (!text || !g_ascii_string_to_signed(text, 10, 1, G_MAXINT64, &number, NULL)) {
        return false;
    }
    *ret = number;
    return true;
}

static bool decode_value(const json_t *pair, FutArbiterRecord *ret)
{
    const char *base64 = json_string_value(json_object_get(pair, "value"));
    gsize length = 0;

    if (!base64) {
        return false;
    }
    g_autofree guchar *bytes = g_base64_decode(base64, &length);
    g_autofree char *line = g_strndup((const char *)bytes, length);
    return strlen(line) == length && fut_arbiter_line_parse(line, ret);
}

static bool take_pair(const Question *question, const json_t *pair, Seen *ret, GError **error)
{
    const EtcdArbiter *arbiter = question->arbiter;
    const char *key = json_string_value(json_object_get(pair, "key"));

    if (!key || strcmp(key, arbiter->key_base64) != 0 ||
        !number_of(pair, "mod_revision", &ret->revision)) {
        g_set_error(error, FUT_ERROR, FUT_ERR_IO, "%s: does not answer as etcd does",
                    (const char *)g_ptr_array_index(arbiter->etcd.servers, question->server));
        return false;
    }
    if (!decode_value(pair, &ret->record)) {
        g_set_error(error, FUT_ERROR, FUT_ERR_IO,
                    "the record at key %s is damaged: correct it, or remove it once no host runs "
                    "the VM",
                    arbiter->key);
        return false;
    }
    return true;
}

/* *ret needs fut_arbiter_record_clear() also after an error. */
static bool look(const Question *question, Seen *ret, GError **error)
{
    const EtcdArbiter *arbiter = question->arbiter;
    json_t *request = json_pack("{s:s}", "key", arbiter->key_base64);
    json_t *answer = fut_etcd_call(&arbiter->etcd, question->server, "kv/range", request,
                                   question->deadline_ns, error);

    *ret = (Seen){ 0 };
    if (!answer) {
        return false;
    }
    const json_t *pair = json_array_get(json_object_get(answer, "kvs"), 0);
    bool ok = true;
    if (pair) {
        ok = take_pair(question, pair, ret, error);
    } else {
        ret->record.holder = g_strdup("");
    }
    json_decref(answer);
    return ok;
}

/* -- writing -- */

static json_t *replacement(const EtcdArbiter *arbiter, int64_t revision, const char *line)
{
    g_autofree char *number = g_strdup_printf("%" G_GINT64_FORMAT, revision);
    g_autofree char *value = g_base64_encode((const guchar *)line, strlen(line));

    return json_pack("{s:[{s:s,s:s,s:s,s:s}],s:[{s:{s:s,s:s}}]}", "compare", "key",
                     arbiter->key_base64, "target", "MOD", "result", "EQUAL", "mod_revision",
                     number, "success", "request_put", "key", arbiter->key_base64, "value", value);
}

/* Puts the record in the place of what was seen. *ret_done: false when that is there no more. */
static bool replace(const Question *question, int64_t revision, uint64_t generation, bool released,
                    bool *ret_done, GError **error)
{
    const EtcdArbiter *arbiter = question->arbiter;
    g_autofree char *line = fut_arbiter_line(generation, question->node, released);
    json_t *answer =
        fut_etcd_call(&arbiter->etcd, question->server, "kv/txn",
                      replacement(arbiter, revision, line), question->deadline_ns, error);

    if (!answer) {
        return false;
    }
    *ret_done = json_is_true(json_object_get(answer, "succeeded"));
    json_decref(answer);
    return true;
}

/* -- operations -- */

static bool ask_read(Question *question, GError **error)
{
    Seen seen;

    if (!look(question, &seen, error)) {
        fut_arbiter_record_clear(&seen.record);
        return false;
    }
    *question->ret_record = seen.record;
    return true;
}

/* Puts the token, if there is none; else asks for the one that is there. */
static json_t *token_request(const char *key, const char *token)
{
    g_autofree char *value = g_base64_encode((const guchar *)token, strlen(token));

    return json_pack("{s:[{s:s,s:s,s:s,s:s}],s:[{s:{s:s,s:s}}],s:[{s:{s:s}}]}", "compare", "key",
                     key, "target", "CREATE", "result", "EQUAL", "create_revision", "0", "success",
                     "request_put", "key", key, "value", value, "failure", "request_range", "key",
                     key);
}

/* NULL if that is none. Caller frees. */
static char *token_of(const json_t *answer)
{
    const json_t *response = json_array_get(json_object_get(answer, "responses"), 0);
    const json_t *range = json_object_get(response, "response_range");
    const json_t *pair = json_array_get(json_object_get(range, "kvs"), 0);
    const char *base64 = json_string_value(json_object_get(pair, "value"));
    gsize length = 0;
    g_autofree guchar *bytes = base64 ? g_base64_decode(base64, &length) : NULL;
    g_autofree char *token = g_strndup(bytes ? (const char *)bytes : "", length);

    return strlen(token) == length && g_uuid_string_is_valid(token) ? g_steal_pointer(&token)
                                                                    : NULL;
}

/* The cluster's own number would not do: it is the same for any two that were set up alike. */
static bool ask_token(Question *question, GError **error)
{
    const EtcdArbiter *arbiter = question->arbiter;
    g_autofree char *name = g_strdup_printf("%s/token", arbiter->key);
    g_autofree char *key = g_base64_encode((const guchar *)name, strlen(name));
    g_autofree char *token = g_uuid_string_random();
    json_t *answer = fut_etcd_call(&arbiter->etcd, question->server, "kv/txn",
                                   token_request(key, token), question->deadline_ns, error);

    if (!answer) {
        return false;
    }
    bool made = json_is_true(json_object_get(answer, "succeeded"));
    question->ret_token = made ? g_steal_pointer(&token) : token_of(answer);
    json_decref(answer);
    if (!question->ret_token) {
        g_set_error(error, FUT_ERROR, FUT_ERR_IO,
                    "key %s is damaged: remove it while no host runs the VM", name);
    }
    return question->ret_token != NULL;
}

/* One look and, if it is to be, one write. *ret_again: somebody else came in between. */
static bool try_claim(Question *question, bool *ret_again, GError **error)
{
    Seen seen;
    bool done = true;
    bool ok = look(question, &seen, error);

    if (ok) {
        question->claim =
            fut_arbiter_judge(&seen.record, question->generation, question->node,
                              question->arbiter->key, "is this the right cluster and prefix?",
                              question->ret_text);
        if (question->claim == FUT_CLAIM_GRANTED &&
            !fut_arbiter_record_is(&seen.record, question->generation, question->node)) {
            ok = replace(question, seen.revision, question->generation, false, &done, error);
        }
    }
    fut_arbiter_record_clear(&seen.record);
    *ret_again = !done;
    return ok;
}

static bool try_release(Question *question, bool *ret_again, GError **error)
{
    Seen seen;
    bool done = true;
    bool ok = look(question, &seen, error);

    if (ok && fut_arbiter_record_is(&seen.record, question->generation, question->node)) {
        ok = replace(question, seen.revision, question->generation + 1, true, &done, error);
    }
    fut_arbiter_record_clear(&seen.record);
    *ret_again = !done;
    return ok;
}

static bool repeat(Question *question, bool (*attempt)(Question *, bool *, GError **),
                   GError **error)
{
    bool again = true;

    for (int i = 0; i < TRIES_MAX && again; i++) {
        if (!attempt(question, &again, error)) {
            return false;
        }
    }
    if (again) {
        g_set_error(error, FUT_ERROR, FUT_ERR_BUSY,
                    "key %s changes all the time: see who writes it", question->arbiter->key);
    }
    return !again;
}

static bool ask_claim(Question *question, GError **error)
{
    return repeat(question, try_claim, error);
}

static bool ask_release(Question *question, GError **error)
{
    return repeat(question, try_release, error);
}

/* One member after the other until one answers. The error has what each of them said. */
static bool ask_all(EtcdArbiter *arbiter, Question *question, Ask ask, GError **error)
{
    g_autoptr(GString) said = g_string_new(NULL);
    guint count = arbiter->etcd.servers->len;
    guint first = (guint)g_atomic_int_get(&arbiter->first);

    question->arbiter = arbiter;
    question->deadline_ns = fut_now_ns() + LIMIT_MS * FUT_NS_PER_MS;
    for (guint i = 0; i < count; i++) {
        g_autoptr(GError) fault = NULL;
        question->server = (first + i) % count;
        if (ask(question, &fault)) {
            g_atomic_int_set(&arbiter->first, (int)question->server);
            return true;
        }
        if (!strstr(said->str, fault->message)) {
            g_string_append_printf(said, "%s%s", i ? "; " : "", fault->message);
        }
    }
    g_set_error(error, FUT_ERROR, FUT_ERR_IO, "arbiter etcd: %s", said->str);
    return false;
}

static FutClaim etcd_claim(FutArbiter *arbiter, uint64_t generation, const char *node,
                           char **ret_text)
{
    g_autoptr(GError) error = NULL;
    Question question = {
        .generation = generation, .node = node, .claim = FUT_CLAIM_UNKNOWN, .ret_text = ret_text
    };

    if (!ask_all((EtcdArbiter *)arbiter, &question, ask_claim, &error)) {
        *ret_text = g_strdup(error->message);
        return FUT_CLAIM_UNKNOWN;
    }
    return question.claim;
}

static bool etcd_read(FutArbiter *arbiter, FutArbiterRecord *ret, GError **error)
{
    Question question = { .ret_record = ret };

    return ask_all((EtcdArbiter *)arbiter, &question, ask_read, error);
}

static bool etcd_release(FutArbiter *arbiter, uint64_t generation, const char *node, GError **error)
{
    Question question = { .generation = generation, .node = node };

    return ask_all((EtcdArbiter *)arbiter, &question, ask_release, error);
}

static bool etcd_identify(FutArbiter *arbiter, char **ret_identity, GError **error)
{
    Question question = { 0 };

    if (!ask_all((EtcdArbiter *)arbiter, &question, ask_token, error)) {
        return false;
    }
    *ret_identity = g_strdup_printf("etcd, token %s", question.ret_token);
    g_free(question.ret_token);
    return true;
}

const FutArbiterOps fut_arbiter_etcd = {
    .kind = "etcd",
    .usage = "etcd:URL[,URL...][/PREFIX]",
    .open = etcd_open,
    .claim = etcd_claim,
    .read = etcd_read,
    .release = etcd_release,
    .identify = etcd_identify,
    .close = etcd_close,
};
