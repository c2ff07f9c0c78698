/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The pair state machine: finds the rule for each event. The link and its timers are in
 * pair_link.c; what happens in which state is in pair_primary.c and pair_backup.c. */
#include "pair_impl.h"

FutPair *fut_pair_new(const FutPairConfig *config, uint64_t now_ns)
{
    FutPair *pair = g_new0(FutPair, 1);

    g_assert(fut_wire_name_ok(config->vm) && fut_wire_name_ok(config->node));
    g_assert(config->window >= 1 && config->window <= FUT_PAIR_WINDOW_MAX);
    g_assert(config->heartbeat_ms > 0 && config->timeout_ms > 0 && config->retry_ms > 0);
    g_assert(config->generation < FUT_GENERATION_MAX);
    for (char *const *line = config->machine; *line; line++) {
        g_assert(fut_wire_line_ok(*line));
    }
    pair->role = config->role;
    pair->vm = g_strdup(config->vm);
    pair->node = g_strdup(config->node);
    pair->machine = g_strdupv((char **)config->machine);
    pair->generation = config->generation;
    pair->own_heartbeat_ms = pair->heartbeat_ms = config->heartbeat_ms;
    pair->own_timeout_ms = pair->timeout_ms = config->timeout_ms;
    pair->retry_ms = config->retry_ms;
    pair->commit_ms = config->commit_ms;
    pair->window = config->window;
    pair->moving = config->moving;
    pair->state = config->role == FUT_ROLE_PRIMARY ? FUT_STATE_ALONE : FUT_STATE_WAITING;
    pair->peer_node = g_strdup("");
    pair->last_reason = g_strdup("");
    pair->now_ns = now_ns;
    pair->retry_at_ns = FUT_NEVER;
    return pair;
}

void fut_pair_begin(FutPair *pair, uint64_t generation)
{
    g_assert(pair->role == FUT_ROLE_PRIMARY && pair->state == FUT_STATE_ALONE);
    g_assert(pair->generation == 0 && generation > 0 && generation < FUT_GENERATION_MAX);
    pair->generation = generation;
}

void fut_pair_free(FutPair *pair)
{
    if (!pair) {
        return;
    }
    fut_actions_done(pair);
    g_free(pair->vm);
    g_free(pair->node);
    g_strfreev(pair->machine);
    g_free(pair->peer_node);
    g_free(pair->last_reason);
    g_free(pair->doubt);
    g_free(pair->said);
    g_free(pair);
}

void fut_pair_set_fault(FutPair *pair, FutPairFault fault)
{
    pair->fault = fault;
}

void fut_pair_set_string(char **at, const char *text)
{
    char *copy = g_strdup(text);

    g_free(*at);
    *at = copy;
}

void fut_pair_set_state(FutPair *pair, FutPairState state)
{
    if (state != pair->state) {
        g_clear_pointer(&pair->doubt, g_free);
    }
    pair->state = state;
    pair->probing = false;
    pair->retry_at_ns = FUT_NEVER;
}

void fut_pair_forget_reasons(FutPair *pair)
{
    fut_pair_set_string(&pair->last_reason, "");
    g_clear_pointer(&pair->said, g_free);
}

/* -- rules -- */

FutPairRule fut_pair_rule(const FutPair *pair, FutPairEvent event)
{
    const FutPairRules *rules =
        pair->role == FUT_ROLE_PRIMARY ? fut_primary_rules : fut_backup_rules;
    return rules[pair->state][event];
}

bool fut_pair_dispatch(FutPair *pair, FutPairEvent event, const FutPairInput *in)
{
    FutPairRule rule = fut_pair_rule(pair, event);

    if (rule) {
        rule(pair, in);
    }
    return rule != NULL;
}

/* -- arbiter -- */

void fut_pair_ask(FutPair *pair, FutPairState state)
{
    FutPairInput granted = { .answer = FUT_ANSWER_GRANTED,
                             .generation = pair->generation + 1,
                             .why = "" };

    fut_pair_set_state(pair, state);
    if (pair->fault == FUT_FAULT_NO_ARBITER) {
        fut_pair_dispatch(pair, EV_ANSWER, &granted);
    } else {
        fut_act_number(pair, FUT_ACT_ASK, pair->generation + 1);
    }
}

void fut_pair_ask_again(FutPair *pair, const FutPairInput *in)
{
    fut_pair_ask(pair, pair->state);
}

/* A grant is a fact about the world, however late: whoever waits goes on with it, else it is at
 * least remembered. Refused and unknown matter only as answers to the question that is open. */
void fut_pair_answer(FutPair *pair, FutAnswer answer, uint64_t generation, const char *text,
                     uint64_t now_ns)
{
    FutPairInput in = { .answer = answer, .generation = generation, .why = text ? text : "" };
    bool granted = answer == FUT_ANSWER_GRANTED;

    fut_pair_enter(pair, now_ns);
    if (pair->probing && generation == pair->generation) {
        pair->probing = false;
        fut_pair_dispatch(pair, EV_PROBED, &in);
        return;
    }
    if (granted ? generation <= pair->generation : generation != pair->generation + 1) {
        return;
    }
    if (!fut_pair_dispatch(pair, EV_ANSWER, &in) && granted) {
        pair->generation = generation;
    }
}

/* -- commands -- */

static bool refuse(const FutPair *pair, const char *verb, GError **error)
{
    g_set_error(error, FUT_ERROR, FUT_ERR_STATE, "cannot %s: %s", verb,
                fut_state_explanation(pair->state));
    return false;
}

static bool command(FutPair *pair, FutPairEvent event, const char *verb, uint64_t now_ns,
                    GError **error)
{
    FutPairInput in = { 0 };

    fut_pair_enter(pair, now_ns);
    return fut_pair_dispatch(pair, event, &in) || refuse(pair, verb, error);
}

static bool want(FutPair *pair, bool moving, const char *verb, uint64_t now_ns, GError **error)
{
    if (fut_pair_rule(pair, EV_PROTECT)) {
        pair->moving = moving;
    }
    return command(pair, EV_PROTECT, verb, now_ns, error);
}

bool fut_pair_protect(FutPair *pair, uint64_t now_ns, GError **error)
{
    return want(pair, false, "protect", now_ns, error);
}

bool fut_pair_move(FutPair *pair, uint64_t now_ns, GError **error)
{
    return want(pair, true, "move", now_ns, error);
}

bool fut_pair_moving(const FutPair *pair)
{
    return pair->moving;
}

bool fut_pair_unprotect(FutPair *pair, uint64_t now_ns, GError **error)
{
    const char *verb = "end the protection";

    fut_pair_enter(pair, now_ns);
    if (pair->state == FUT_STATE_HANDING && pair->final_cut) {
        return refuse(pair, verb, error); /* the twin may run the VM already */
    }
    return command(pair, EV_UNPROTECT, verb, now_ns, error);
}

bool fut_pair_failover(FutPair *pair, uint64_t now_ns, GError **error)
{
    return command(pair, EV_FAILOVER, "fail over", now_ns, error);
}

void fut_pair_copied(FutPair *pair, uint64_t now_ns)
{
    FutPairInput in = { 0 };

    fut_pair_enter(pair, now_ns);
    fut_pair_dispatch(pair, EV_COPIED, &in);
}

void fut_pair_taken(FutPair *pair, bool ok, const char *why, uint64_t now_ns)
{
    FutPairInput in = { .ok = ok, .why = why ? why : "" };

    g_assert(pair->state == FUT_STATE_TAKING);
    fut_pair_enter(pair, now_ns);
    fut_pair_dispatch(pair, EV_TAKEN, &in);
}

void fut_pair_image_bad(FutPair *pair, const char *why, uint64_t now_ns)
{
    FutPairInput in = { .why = why };

    fut_pair_enter(pair, now_ns);
    fut_pair_dispatch(pair, EV_IMAGE_BAD, &in);
}

void fut_pair_busy_bye(const FutPair *pair, FutBuf *out)
{
    g_autofree char *text =
        g_strdup_printf("%s is busy: it has a connection to %s already", pair->node,
                        *pair->peer_node ? pair->peer_node : "another host");
    fut_bye_encode(out, text);
}

/* -- sight -- */

void fut_pair_status(const FutPair *pair, FutPairStatus *ret)
{
    bool primary = pair->role == FUT_ROLE_PRIMARY;

    *ret = (FutPairStatus){
        .role = pair->role,
        .state = pair->state,
        .generation = pair->generation,
        .epoch = primary ? pair->epoch : pair->committed,
        .committed = pair->committed,
        .in_flight = primary ? (unsigned)fut_pair_under_way(pair) : 0,
        .peer_node = pair->peer_node,
        .last_reason = pair->doubt ? pair->doubt : pair->last_reason,
        .linked = pair->linked,
    };
}
