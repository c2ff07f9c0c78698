/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Everything the pair says to people, in one place. An id keeps its meaning for ever. */
#include "pair_impl.h"

static const struct {
    const char *id;
    const char *text;
} reports[FUT_REPORT_COUNT] = {
    [FUT_REPORT_COPYING] = { "FUT-101", "connected to {who}: copying memory" },
    [FUT_REPORT_PROTECTED] = { "FUT-102", "protected: {who} holds the VM (generation {n})" },
    [FUT_REPORT_UNREACHABLE] = { "FUT-103", "not protected, keeps trying: {why}" },
    [FUT_REPORT_REFUSED] = { "FUT-104", "not protected, the backup refuses: {why}" },
    [FUT_REPORT_LOST] = { "FUT-105",
                          "backup {who} lost: {why}; asking the arbiter for generation {n}" },
    [FUT_REPORT_NO_ANSWER] = { "FUT-106",
                               "the arbiter gives no answer, outputs stay held until it does: {why}" },
    [FUT_REPORT_ALONE] = { "FUT-107",
                           "goes on alone, unprotected, as generation {n}: give it a standby" },
    [FUT_REPORT_FENCED] = { "FUT-108",
                            "fenced, this VM is stopped for good: {why}; end it, and start a standby here" },
    [FUT_REPORT_HANDING] = { "FUT-109", "handing over to {who}" },
    [FUT_REPORT_HANDED] = { "FUT-110", "handed over to {who}" },
    [FUT_REPORT_TAKEN_BACK] = { "FUT-111",
                                "the hand-over failed, the guest runs on here as generation {n}" },
    [FUT_REPORT_ENDED] = { "FUT-112", "protection ended on request" },
    [FUT_REPORT_NOT_HANDING] = { "FUT-113",
                                 "the hand-over does not begin, the arbiter gives no answer: {why}" },
    [FUT_REPORT_RECEIVING] = { "FUT-121", "primary {who} connected: receiving memory" },
    [FUT_REPORT_STANDBY] = { "FUT-122", "standing by for {who} (generation {n})" },
    [FUT_REPORT_REFUSING] = { "FUT-123", "refused {who}: {why}" },
    [FUT_REPORT_PRIMARY_LOST] = { "FUT-124",
                                  "primary {who} lost: {why}; asking the arbiter for generation {n}" },
    [FUT_REPORT_NO_CLAIM] = { "FUT-125", "the arbiter gives no answer, keeps asking: {why}" },
    [FUT_REPORT_TAKING] = { "FUT-126", "taking over as generation {n}" },
    [FUT_REPORT_TAKEN] = { "FUT-127", "took over: the VM runs here as generation {n}" },
    [FUT_REPORT_FAILED] = { "FUT-128", "the VM could not be started here: {why}" },
    [FUT_REPORT_DISCARDED] = { "FUT-129", "image of {who} discarded: {why}" },
    [FUT_REPORT_ASKED_HANDOVER] = { "FUT-130", "asked {who} to hand over" },
    [FUT_REPORT_HANDED_US] = { "FUT-131",
                               "{who} handed over; asking the arbiter for generation {n}" },
};

static const char *const state_names[FUT_STATE_COUNT] = {
    [FUT_STATE_ALONE] = "alone",         [FUT_STATE_CONNECTING] = "connecting",
    [FUT_STATE_GREETING] = "greeting",   [FUT_STATE_COPYING] = "copying",
    [FUT_STATE_SETTLING] = "settling",   [FUT_STATE_PROTECTING] = "protecting",
    [FUT_STATE_PROTECTED] = "protected", [FUT_STATE_ASKING] = "asking",
    [FUT_STATE_HANDING] = "handing",     [FUT_STATE_FENCED] = "fenced",
    [FUT_STATE_WAITING] = "waiting",     [FUT_STATE_RECEIVING] = "receiving",
    [FUT_STATE_STANDBY] = "standby",     [FUT_STATE_CLAIMING] = "claiming",
    [FUT_STATE_TAKING] = "taking",       [FUT_STATE_FAILED] = "failed",
};

static const char *const explanations[FUT_STATE_COUNT] = {
    [FUT_STATE_ALONE] = "the VM runs unprotected",
    [FUT_STATE_CONNECTING] = "the backup is not connected",
    [FUT_STATE_GREETING] = "the backup has not answered yet",
    [FUT_STATE_COPYING] = "memory is still being copied",
    [FUT_STATE_SETTLING] = "memory is still being copied",
    [FUT_STATE_PROTECTING] = "the first checkpoint is not committed yet",
    [FUT_STATE_PROTECTED] = "the VM is protected",
    [FUT_STATE_ASKING] = "the backup is lost and the arbiter has not answered yet",
    [FUT_STATE_HANDING] = "a hand-over is under way",
    [FUT_STATE_FENCED] = "another host has this VM",
    [FUT_STATE_WAITING] = "this is the backup, and there is no committed image yet",
    [FUT_STATE_RECEIVING] =
        "this is the backup, and there is no committed image yet: memory is still coming in",
    [FUT_STATE_STANDBY] = "this is the backup: ask the primary",
    [FUT_STATE_CLAIMING] = "this is the backup, and it waits for the arbiter's answer",
    [FUT_STATE_TAKING] = "the takeover is under way",
    [FUT_STATE_FAILED] = "the VM could not be started here",
};

const char *fut_role_name(FutRole role)
{
    return role == FUT_ROLE_PRIMARY ? "primary" : "backup";
}

const char *fut_state_name(FutPairState state)
{
    g_assert(state < FUT_STATE_COUNT);
    return state_names[state];
}

const char *fut_state_explanation(FutPairState state)
{
    return explanations[state];
}

/* Appends what the placeholder at `at` stands for and returns what follows it. */
static const char *expand(GString *out, const char *at, const char *who, const char *why,
                          uint64_t number)
{
    if (g_str_has_prefix(at, "{n}")) {
        g_string_append_printf(out, "%" PRIu64, number);
        return at + strlen("{n}");
    }
    g_assert(g_str_has_prefix(at, "{who}") || g_str_has_prefix(at, "{why}"));
    const char *value = at[3] == 'o' ? who : why;
    g_assert(value);
    g_string_append(out, value);
    return at + strlen("{who}");
}

static char *compose(const char *text, const char *who, const char *why, uint64_t number)
{
    GString *out = g_string_new(NULL);

    while (*text) {
        if (*text == '{') {
            text = expand(out, text, who, why, number);
        } else {
            g_string_append_c(out, *text++);
        }
    }
    return g_string_free(out, FALSE);
}

void fut_pair_report(FutPair *pair, FutPairReport report, const char *who, const char *why,
                     uint64_t number)
{
    g_autofree char *text = compose(reports[report].text, who, why, number);
    fut_act_text(pair, FUT_ACT_REPORT, reports[report].id, text);
}

void fut_pair_report_change(FutPair *pair, FutPairReport report, const char *who, const char *why,
                            uint64_t number)
{
    g_autofree char *text = compose(reports[report].text, who, why, number);

    if (g_strcmp0(text, pair->said) != 0) {
        fut_act_text(pair, FUT_ACT_REPORT, reports[report].id, text);
        fut_pair_set_string(&pair->said, text);
    }
}
