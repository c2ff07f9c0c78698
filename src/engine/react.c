/* SPDX-License-Identifier: GPL-2.0-or-later */
/* From records to consequences. */
#include "react.h"

#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "fut_clock.h"
#include "fut_error.h"
#include "fut_rate.h"
#include "probe_says.h"
#include "run_program.h"

/* Probes with actions that are remembered for their rate; a few more than can be in. */
#define RATES_MAX 256u
#define REPORTS_BURST 30
#define REPORT_EVERY_NS FUT_NS_PER_S

struct FutReact {
    const FutReactOps *ops;
    void *opaque;
    char *vm, *node;
    GMutex lock;
    FutHealth health; /* lock */
    uint64_t lost;    /* lock */
    unsigned jobs;    /* lock; begun and not ended */
    GCond ended;      /* lock */
    GThreadPool *programs;
    GThreadPool *deeds;     /* on the VM: one after the other, and never behind a program */
    GThreadPool *snapshots; /* one after the other: the store may take long */
    GHashTable *rates;      /* probe -> FutRate; the taking thread */
    FutRate reports;        /* the taking thread */
};

/* One action on its way. */
typedef struct Job Job;
struct Job {
    FutDeed deed;
    FutScope scope;
    unsigned limit_s;
    char *path, *probe, *cause; /* owned; path may be NULL */
    char **env;                 /* owned */
    Job *beside;                /* the next of a list */
    Job *then;                  /* owned list: they begin when this one has ended */
};

static void job_free(Job *job)
{
    g_free(job->path);
    g_free(job->probe);
    g_free(job->cause);
    g_strfreev(job->env);
    g_free(job);
}

/* -- what came of it -- */

static void tell_outcome(FutReact *react, const Job *job, const char *text)
{
    g_autofree char *line =
        g_strdup_printf("%s after %s: %s", fut_deed_names[job->deed], job->probe, text);

    g_mutex_lock(&react->lock);
    FutFinding *finding = fut_health_find(&react->health, job->probe, job->cause);
    if (finding) {
        g_free(finding->outcome);
        finding->outcome = g_strdup_printf("%s: %s", fut_deed_names[job->deed], text);
    }
    g_mutex_unlock(&react->lock);
    react->ops->report(react->opaque, "FUT-211", line);
}

/* -- deeds on the VM -- */

static void hand_over(FutReact *react, const Job *job, const char *remark)
{
    g_autoptr(GError) error = NULL;

    if (!react->ops->failover(react->opaque, &error)) {
        tell_outcome(react, job, error->message);
        return;
    }
    g_autofree char *text = *remark ? g_strdup_printf("handing the VM over; %s", remark)
                                    : g_strdup("handing the VM over");
    tell_outcome(react, job, text);
}

static void take_snapshot(FutReact *react, const Job *job)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *reason = g_strdup_printf("%s: %s", job->probe, job->cause);
    uint64_t id;

    if (!react->ops->snapshot) {
        tell_outcome(react, job, "not done: this VM takes no snapshots");
    } else if (!react->ops->snapshot(react->opaque, job->path, reason, &id, &error)) {
        tell_outcome(react, job, error->message);
    } else {
        g_autofree char *text = g_strdup_printf("snapshot %" PRIu64 " is taken", id);
        tell_outcome(react, job, text);
    }
}

static void act_on_vm(FutReact *react, const Job *job)
{
    FutVerdict verdict =
        fut_policy_judge(job->deed, job->scope, react->ops->situation(react->opaque));

    if (!verdict.act) {
        tell_outcome(react, job, verdict.text);
    } else if (job->deed == FUT_DO_SNAPSHOT) {
        take_snapshot(react, job);
    } else if (job->deed == FUT_DO_STOP) {
        tell_outcome(react, job, "ending the VM");
        react->ops->stop(react->opaque);
    } else {
        hand_over(react, job, verdict.text);
    }
}

/* -- programs -- */

/* What it wrote first to its error output, for people; "" if nothing. Caller frees. */
static char *first_words(const FutRunResult *result)
{
    g_autofree char *line = g_strndup(result->errors, MIN(strcspn(result->errors, "\r\n"), 200));
    g_autofree char *valid = g_utf8_make_valid(line, -1);

    return *valid ? g_strdup_printf(" (%s)", valid) : g_strdup("");
}

/* False: it was told of. */
static bool run_program(FutReact *react, const Job *job, FutRunResult *ret)
{
    g_autoptr(GError) error = NULL;
    char *argv[] = { job->path, job->probe, react->vm, NULL };
    g_autofree char *fault = NULL;

    if (!fut_run_program(argv, job->env, fut_now_ns() + job->limit_s * FUT_NS_PER_S, ret, &error)) {
        fault = g_strdup(error->message);
    } else if (ret->late) {
        fault = g_strdup_printf("%s: no end within %u s, killed (limit=SECONDS gives it more)",
                                job->path, job->limit_s);
    } else if (ret->status < 0) {
        fault = g_strdup_printf("%s: ended by a signal", job->path);
    }
    if (fault) {
        tell_outcome(react, job, fault);
    }
    return fault == NULL;
}

/* False: the job goes on as what was answered. */
static bool obey_answer(FutReact *react, Job *job, int status, const char *words)
{
    FutDeed deed;

    if (!fut_policy_answer(status, &deed)) {
        g_autofree char *text =
            g_strdup_printf("%s: exit status %d means nothing: see ask in man futago-probe%s",
                            job->path, status, words);
        tell_outcome(react, job, text);
        return true;
    }
    if (deed == FUT_DO_REPORT) {
        tell_outcome(react, job, "nothing is to be done");
        return true;
    }
    job->deed = deed;
    g_clear_pointer(&job->path, g_free);
    return false;
}

/* As obey_answer(). */
static bool carry_out(FutReact *react, Job *job)
{
    g_autofree FutRunResult *result = g_new0(FutRunResult, 1);

    if (job->deed != FUT_DO_COMMAND && job->deed != FUT_DO_ASK) {
        act_on_vm(react, job);
        return true;
    }
    if (!run_program(react, job, result)) {
        return true;
    }
    g_autofree char *words = first_words(result);
    if (job->deed == FUT_DO_ASK) {
        return obey_answer(react, job, result->status, words);
    }
    g_autofree char *text =
        g_strdup_printf("%s: exit status %d%s", job->path, result->status, words);
    tell_outcome(react, job, text);
    return true;
}

/* -- jobs -- */

/* What begins after it is handed back. */
static Job *end_job(FutReact *react, Job *take_job)
{
    Job *then = take_job->then;

    job_free(take_job);
    g_mutex_lock(&react->lock);
    if (--react->jobs == 0) {
        g_cond_broadcast(&react->ended);
    }
    g_mutex_unlock(&react->lock);
    return then;
}

static GThreadPool *pool_of(const FutReact *react, FutDeed deed)
{
    switch (deed) {
    case FUT_DO_COMMAND:
    case FUT_DO_ASK:
        return react->programs;
    case FUT_DO_SNAPSHOT:
        return react->snapshots;
    default:
        return react->deeds;
    }
}

static void begin_jobs(FutReact *react, Job *take_list)
{
    while (take_list) {
        Job *job = take_list, **end = &take_list;
        take_list = job->beside;
        job->beside = NULL;
        GThreadPool *pool = pool_of(react, job->deed);
        if (g_thread_pool_unprocessed(pool) < FUT_REACT_WAITING) {
            g_thread_pool_push(pool, job, NULL);
            continue;
        }
        tell_outcome(react, job, "not done: too many actions wait already");
        while (*end) {
            end = &(*end)->beside;
        }
        *end = end_job(react, job);
    }
}

/* A thread of a pool. */
static void work(gpointer data, gpointer opaque)
{
    FutReact *react = opaque;
    Job *job = data;

    begin_jobs(react, carry_out(react, job) ? end_job(react, job) : job);
}

/* -- life -- */

FutReact *fut_react_new(const FutReactOps *ops, void *opaque, const char *vm, const char *node)
{
    FutReact *react = g_new0(FutReact, 1);

    react->ops = ops;
    react->opaque = opaque;
    react->vm = g_strdup(vm);
    react->node = g_strdup(node);
    g_mutex_init(&react->lock);
    g_cond_init(&react->ended);
    fut_health_init(&react->health);
    /* Not exclusive: its threads begin when there is something to do. */
    react->programs = g_thread_pool_new(work, react, FUT_REACT_PROGRAMS, FALSE, NULL);
    react->deeds = g_thread_pool_new(work, react, 1, FALSE, NULL);
    react->snapshots = g_thread_pool_new(work, react, 1, FALSE, NULL);
    react->rates = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    react->reports = (FutRate)FUT_RATE_INIT(REPORTS_BURST, REPORT_EVERY_NS);
    return react;
}

void fut_react_free(FutReact *react)
{
    if (!react) {
        return;
    }
    g_mutex_lock(&react->lock);
    while (react->jobs > 0) {
        g_cond_wait(&react->ended, &react->lock);
    }
    g_mutex_unlock(&react->lock);
    g_thread_pool_free(react->programs, FALSE, TRUE);
    g_thread_pool_free(react->deeds, FALSE, TRUE);
    g_thread_pool_free(react->snapshots, FALSE, TRUE);
    g_hash_table_unref(react->rates);
    fut_health_done(&react->health);
    g_mutex_clear(&react->lock);
    g_cond_clear(&react->ended);
    g_free(react->vm);
    g_free(react->node);
    g_free(react);
}

bool fut_react_check(const FutReact *react, const FutProbeKeys *keys, GError **error)
{
    for (unsigned i = 0; i < keys->action_count; i++) {
        const FutProbeAction *action = &keys->actions[i];
        bool program = action->deed == FUT_DO_COMMAND || action->deed == FUT_DO_ASK;
        if (program && (!g_file_test(action->path, G_FILE_TEST_IS_REGULAR) ||
                        access(action->path, X_OK) < 0)) {
            g_set_error(error, FUT_ERROR, FUT_ERR_ARG,
                        "probe: on=%s:%s: is no program that can be run here",
                        fut_deed_names[action->deed], action->path);
            return false;
        }
        if (action->deed == FUT_DO_SNAPSHOT && !react->ops->snapshot) {
            g_set_error_literal(error, FUT_ERROR, FUT_ERR_UNSUPPORTED,
                                "probe: on=snapshot: this VM takes no snapshots");
            return false;
        }
    }
    return true;
}

/* -- taking records -- */

static void set_env(char ***env, const char *key, char *take_value)
{
    *env = g_environ_setenv(*env, key, take_value, TRUE);
    g_free(take_value);
}

static char **environment(const FutReact *react, const FutProbeRecord *record, const char *cause)
{
    const FutProbe *probe = record->probe;
    char **env = g_get_environ();

    set_env(&env, "FUTAGO_VM", g_strdup(react->vm));
    set_env(&env, "FUTAGO_NODE", g_strdup(react->node));
    set_env(&env, "FUTAGO_PROBE", g_strdup(probe->name));
    set_env(&env, "FUTAGO_SEVERITY", g_strdup(fut_severity_names[probe->keys->severity]));
    set_env(&env, "FUTAGO_SCOPE", g_strdup(fut_scope_names[probe->keys->scope]));
    set_env(&env, "FUTAGO_CAUSE", g_strdup(cause));
    set_env(&env, "FUTAGO_TIME",
            g_strdup_printf("%" PRId64 ".%06d", record->host_time_us / G_USEC_PER_SEC,
                            (int)(record->host_time_us % G_USEC_PER_SEC)));
    set_env(&env, "FUTAGO_GUEST_TIME",
            g_strdup_printf("%" PRIu64 ".%09d", (uint64_t)(record->guest_time_ns / FUT_NS_PER_S),
                            (int)(record->guest_time_ns % FUT_NS_PER_S)));
    set_env(&env, "FUTAGO_SEQUENCE", g_strdup_printf("%" PRIu64, record->sequence));
    set_env(&env, "FUTAGO_VCPU", g_strdup_printf("%u", record->vcpu));
    for (unsigned i = 0; i < probe->field_count; i++) {
        g_autofree char *label = g_ascii_strup(probe->labels[i], -1);
        g_autofree char *key = g_strconcat("FUTAGO_FIELD_", label, NULL);
        g_strcanon(key, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_", '_');
        set_env(&env, key, fut_probe_value_text(&record->values[i]));
    }
    return env;
}

static FutRate *rate_of(FutReact *react, const char *probe)
{
    FutRate *rate = g_hash_table_lookup(react->rates, probe);

    if (!rate) {
        if (g_hash_table_size(react->rates) >= RATES_MAX) {
            g_hash_table_remove_all(react->rates);
        }
        rate = g_new(FutRate, 1);
        *rate = (FutRate)FUT_RATE_INIT(FUT_REACT_BURST, FUT_REACT_EVERY_S * FUT_NS_PER_S);
        g_hash_table_insert(react->rates, g_strdup(probe), rate);
    }
    return rate;
}

/* May another action of this probe be carried out now? */
static bool may_act(FutReact *react, const char *probe)
{
    FutRate *rate = rate_of(react, probe);
    uint64_t kept_back = 0;
    g_autofree char *line = NULL;
    bool pass = fut_rate_pass(rate, fut_now_ns(), &kept_back);

    if (pass && kept_back > 0) {
        line = g_strdup_printf("%s: before this, nothing was done after %" PRIu64 " records", probe,
                               kept_back);
    } else if (!pass && rate->kept_back == 1) {
        line = g_strdup_printf("%s: nothing is done after this record: they come too fast", probe);
    }
    if (line) {
        react->ops->report(react->opaque, "FUT-211", line);
    }
    return pass;
}

static Job *new_job(FutReact *react, const FutProbeAction *action, const FutProbeRecord *record,
                    const char *cause)
{
    const FutProbe *probe = record->probe;
    bool program = action->deed == FUT_DO_COMMAND || action->deed == FUT_DO_ASK;
    Job *job = g_new(Job, 1);

    *job = (Job){
        .deed = action->deed,
        .scope = probe->keys->scope,
        .limit_s = probe->keys->limit_s,
        .path = g_strdup(action->path),
        .probe = g_strdup(probe->name),
        .cause = g_strdup(cause),
        .env = program ? environment(react, record, cause) : NULL,
    };
    g_mutex_lock(&react->lock);
    react->jobs++;
    g_mutex_unlock(&react->lock);
    return job;
}

/* What stands behind a snapshot waits for it, all else begins at once. */
static void begin_actions(FutReact *react, const FutProbeRecord *record, const char *cause)
{
    const FutProbeKeys *keys = record->probe->keys;
    Job *first = NULL, **end = &first;

    for (unsigned i = 0; i < keys->action_count; i++) {
        if (keys->actions[i].deed == FUT_DO_REPORT) {
            continue;
        }
        /* Asked once, and only if there is something to do. */
        if (!first && !may_act(react, record->probe->name)) {
            return;
        }
        *end = new_job(react, &keys->actions[i], record, cause);
        end = (*end)->deed == FUT_DO_SNAPSHOT ? &(*end)->then : &(*end)->beside;
    }
    begin_jobs(react, first);
}

static void add_finding(FutReact *react, const FutProbeRecord *record, char *cause, uint64_t lost)
{
    const FutProbe *probe = record->probe;
    FutFinding found = {
        .probe = probe->name,
        .cause = cause,
        .means = probe->keys->means,
        .severity = probe->keys->severity,
        .scope = probe->keys->scope,
        .last_us = record->host_time_us,
        .until_us =
            probe->keys->holds_s ? record->host_time_us + probe->keys->holds_s * G_USEC_PER_SEC : 0,
        .guest_time_ns = record->guest_time_ns,
        .sequence = record->sequence,
        .vcpu = record->vcpu,
    };

    g_mutex_lock(&react->lock);
    fut_health_add(&react->health, &found);
    react->lost += lost;
    g_mutex_unlock(&react->lock);
}

static void report(FutReact *react, const FutProbe *probe, const char *cause)
{
    uint64_t kept_back = 0;

    if (!fut_rate_pass(&react->reports, fut_now_ns(), &kept_back)) {
        return;
    }
    g_autofree char *more =
        kept_back ? g_strdup_printf(" (and %" PRIu64 " more before it)", kept_back) : g_strdup("");
    g_autofree char *line =
        g_strdup_printf("%s, %s, %s: %s%s", probe->name, fut_severity_names[probe->keys->severity],
                        fut_scope_names[probe->keys->scope], cause, more);
    react->ops->report(react->opaque, "FUT-210", line);
}

void fut_react_take(FutReact *react, const FutProbeRecord *record, uint64_t lost)
{
    const FutProbe *probe = record->probe;

    if (!probe->keys->has_consequences) {
        if (lost) {
            g_mutex_lock(&react->lock);
            react->lost += lost;
            g_mutex_unlock(&react->lock);
        }
        return;
    }
    g_autofree char *cause = fut_probe_says(probe, record->values);
    add_finding(react, record, cause, lost);
    report(react, probe, cause);
    begin_actions(react, record, cause);
}

/* -- the health -- */

FutHealth *fut_react_lock(FutReact *react, uint64_t *ret_lost)
{
    g_mutex_lock(&react->lock);
    *ret_lost = react->lost;
    return &react->health;
}

void fut_react_unlock(FutReact *react)
{
    g_mutex_unlock(&react->lock);
}
