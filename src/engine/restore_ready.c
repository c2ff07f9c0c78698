/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "restore_ready.h"

#include <string.h>

#include "fut_clock.h"
#include "fut_error.h"
#include "keeper.h"
#include "sweep.h"

/* So long the control thread waits for the guest to run. Disks that have to be filled first take longer, and other clients want an answer, too. */
#define ANSWER_US G_USEC_PER_SEC

typedef enum {
    PREPARING,
    WAITING,
    GOING,
    RUNNING,
    FAILED /* the VM ends */
} Phase;

struct FutReady {
    GMutex lock; /* of all below */
    GCond changed;
    Phase phase;
    bool force;        /* of the word to go: whatever the arbiter's record says */
    uint64_t begin_ns; /* when it came */
    char *fault;       /* owned: what came of it; NULL: nothing was wrong */
    FutErr fault_code;

    GMutex claim_lock; /* while the arbiter is asked */
    bool claimed, exiting;
};

FutReady *fut_ready_new(void)
{
    FutReady *ready = g_new0(FutReady, 1);

    g_mutex_init(&ready->lock);
    g_cond_init(&ready->changed);
    g_mutex_init(&ready->claim_lock);
    return ready;
}

void fut_ready_free(FutReady *ready)
{
    if (ready) {
        g_mutex_clear(&ready->lock);
        g_cond_clear(&ready->changed);
        g_mutex_clear(&ready->claim_lock);
        g_free(ready->fault);
        g_free(ready);
    }
}

static void enter(FutReady *ready, Phase phase, const GError *fault)
{
    g_mutex_lock(&ready->lock);
    ready->phase = phase;
    if (fault) {
        g_free(ready->fault);
        ready->fault = g_strdup(fault->message);
        ready->fault_code = fault->domain == FUT_ERROR ? (FutErr)fault->code : FUT_ERR_IO;
    }
    g_cond_broadcast(&ready->changed);
    g_mutex_unlock(&ready->lock);
}

/* -- the arbiter -- */

void fut_ready_exiting(FutReady *ready)
{
    g_mutex_lock(&ready->claim_lock);
    ready->exiting = true;
    g_mutex_unlock(&ready->claim_lock);
}

bool fut_ready_unclaimed(FutReady *ready)
{
    if (!ready) {
        return false;
    }
    g_mutex_lock(&ready->claim_lock);
    bool claimed = ready->claimed;
    g_mutex_unlock(&ready->claim_lock);
    return !claimed;
}

static bool claim(FutService *service, bool force, GError **error)
{
    FutReady *ready = service->ready;
    FutOptions *options = service->options;
    uint64_t generation;

    g_mutex_lock(&ready->claim_lock);
    if (ready->exiting) {
        g_set_error_literal(error, FUT_ERROR, FUT_ERR_STATE, "this VM is about to end");
    } else if (fut_arbiter_start(service->arbiter, options->node,
                                 force || options->force_generation, &generation, error)) {
        fut_engine_granted(service->engine, generation);
        options->engine.generation = generation;
        ready->claimed = true;
    }
    bool claimed = ready->claimed;
    g_mutex_unlock(&ready->claim_lock);
    return claimed;
}

/* -- the restore thread -- */

static void tell_ready(FutService *service, const FutRestore *restore)
{
    const char *where = service->options->restore_lazy ? "what its guest used last is in memory"
                                                       : "all of its memory is in place";
    g_autofree char *text = g_strdup_printf("ready: snapshot %" G_GUINT64_FORMAT
                                            " waits, %s, %u pieces of its code are translated: "
                                            "futago restore --go %s lets it run",
                                            fut_restore_id(restore), where,
                                            fut_restore_codes(restore), service->options->vm);

    fut_service_report(service, "FUT-230", text);
}

static bool await_word(FutReady *ready, uint64_t *ret_begin_ns)
{
    g_mutex_lock(&ready->lock);
    while (ready->phase != GOING) {
        g_cond_wait(&ready->changed, &ready->lock);
    }
    bool force = ready->force;
    *ret_begin_ns = ready->begin_ns;
    g_mutex_unlock(&ready->lock);
    return force;
}

/* False: it goes on waiting, nothing has changed. */
static bool may_go(FutService *service, FutRestore *restore, bool force)
{
    g_autoptr(GError) fault = NULL;

    if (fut_restore_claim(restore, &fault)) {
        if (claim(service, force, &fault)) {
            return true;
        }
        fut_restore_yield(restore);
    }
    g_autofree char *text = g_strdup_printf("not let go, it waits on: %s", fault->message);
    enter(service->ready, WAITING, fault);
    fut_service_report(service, "FUT-231", text);
    return false;
}

bool fut_ready_run(FutService *service, FutRestore *restore, FutRestoreTimes *ret, GError **error)
{
    FutReady *ready = service->ready;
    uint64_t begin_ns;
    bool force;

    if (!fut_restore_prepare(restore, error)) {
        return false;
    }
    fut_sweep_promise((const char *const[]){ service->control_path, service->records_path, NULL });
    enter(ready, WAITING, NULL);
    tell_ready(service, restore);
    do {
        force = await_word(ready, &begin_ns);
    } while (!may_go(service, restore, force));
    bool good = fut_restore_go(restore, begin_ns, ret, error);
    fut_keeper_take_back();
    enter(ready, good ? RUNNING : FAILED, good ? NULL : *error);
    if (good) {
        fut_service_announce(service);
    }
    return good;
}

/* -- who asks -- */

const char *fut_ready_state(FutReady *ready)
{
    if (!ready) {
        return NULL;
    }
    g_mutex_lock(&ready->lock);
    Phase phase = ready->phase;
    g_mutex_unlock(&ready->lock);
    return phase == PREPARING ? "preparing"
           : phase == WAITING ? "ready"
           : phase == GOING   ? "going"
                              : NULL;
}

bool fut_ready_allows(FutService *service, const char *verb, GError **error)
{
    static const char *const always[] = { "status", "stop",       "events",          "restore-go",
                                          "health", "probe-list", "snapshot-status", NULL };

    if (!fut_ready_state(service->ready) || g_strv_contains(always, verb)) {
        return true;
    }
    g_set_error(error, FUT_ERROR, FUT_ERR_STATE,
                "its guest does not run yet, it is kept ready: let it go first (futago restore "
                "--go %s)",
                service->options->vm);
    return false;
}

void fut_ready_describe(FutService *service, json_t *status)
{
    FutReady *ready = service->ready;
    json_t *restore = json_object_get(status, "restore");

    g_mutex_lock(&ready->lock);
    json_object_set_new(status, "reason", json_string(ready->fault ? ready->fault : ""));
    g_mutex_unlock(&ready->lock);
    if (restore) {
        json_object_set_new(restore, "from", json_string(service->options->restore));
    }
}

/* The snapshot that somebody means has to be the one that is here. */
static bool check_word(FutService *service, json_t *args, GError **error)
{
    json_int_t id = json_integer_value(json_object_get(args, "id"));
    const char *at = strrchr(service->options->restore, '@');

    if (id > 0 && g_ascii_strtoull(at + 1, NULL, 10) != (guint64)id) {
        g_set_error(error, FUT_ERROR, FUT_ERR_REFUSED,
                    "what is kept ready here is snapshot %s, not %" JSON_INTEGER_FORMAT, at + 1,
                    id);
        return false;
    }
    return true;
}

/* Lock held. */
static bool begin(FutReady *ready, json_t *args, GError **error)
{
    const char *fault = ready->phase == PREPARING
                            ? "it is not ready yet: try again when its state is 'ready'"
                        : ready->phase == GOING   ? "it is being let go already"
                        : ready->phase != WAITING ? "its guest runs already"
                                                  : NULL;
    if (fault) {
        g_set_error_literal(error, FUT_ERROR,
                            ready->phase == PREPARING ? FUT_ERR_BUSY : FUT_ERR_STATE, fault);
        return false;
    }
    g_clear_pointer(&ready->fault, g_free);
    ready->force = json_is_true(json_object_get(args, "force_generation"));
    ready->begin_ns = fut_now_ns();
    ready->phase = GOING;
    g_cond_broadcast(&ready->changed);
    return true;
}

/* Lock held. */
static json_t *await_outcome(FutReady *ready, GError **error)
{
    gint64 end_us = g_get_monotonic_time() + ANSWER_US;

    while (ready->phase == GOING && g_cond_wait_until(&ready->changed, &ready->lock, end_us)) {
    }
    if (ready->fault) {
        g_set_error_literal(error, FUT_ERROR, (gint)ready->fault_code, ready->fault);
        return NULL;
    }
    return json_pack("{s:b}", "going", ready->phase == GOING);
}

json_t *fut_ready_verb_go(FutService *service, json_t *args, GError **error)
{
    FutReady *ready = service->ready;

    if (!ready) {
        g_set_error_literal(error, FUT_ERROR, FUT_ERR_STATE,
                            "this VM was not kept ready: futago restore STORE --ready makes one");
        return NULL;
    }
    if (!check_word(service, args, error)) {
        return NULL;
    }
    g_mutex_lock(&ready->lock);
    json_t *result = begin(ready, args, error) ? await_outcome(ready, error) : NULL;
    g_mutex_unlock(&ready->lock);
    return result;
}
