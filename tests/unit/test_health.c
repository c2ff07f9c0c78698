/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Health out of findings, and the policy: what may be done about one. */
#include <glib.h>
#include <string.h>

#include "health.h"
#include "policy.h"

static FutFinding found(const char *probe, const char *cause, FutSeverity severity, FutScope scope)
{
    return (FutFinding){ .probe = (char *)probe,
                         .cause = (char *)cause,
                         .means = (char *)"",
                         .severity = severity,
                         .scope = scope,
                         .last_us = 100 };
}

static void test_levels(void)
{
    FutHealth health;
    fut_health_init(&health);

    g_assert_cmpint(fut_health_level(&health, false, 0), ==, FUT_HEALTH_UNKNOWN);
    g_assert_cmpint(fut_health_level(&health, true, 0), ==, FUT_HEALTH_GOOD);
    FutFinding info = found("a", "x", FUT_SEVERITY_INFO, FUT_SCOPE_SYSTEM);
    fut_health_add(&health, &info);
    g_assert_cmpint(fut_health_level(&health, true, 0), ==, FUT_HEALTH_GOOD);
    FutFinding warning = found("b", "x", FUT_SEVERITY_WARNING, FUT_SCOPE_SYSTEM);
    warning.until_us = 1000;
    fut_health_add(&health, &warning);
    g_assert_cmpint(fut_health_level(&health, true, 999), ==, FUT_HEALTH_WARNING);
    g_assert_cmpint(fut_health_level(&health, true, 1000), ==, FUT_HEALTH_GOOD);
    FutFinding service = found("c", "x", FUT_SEVERITY_CRITICAL, FUT_SCOPE_SERVICE);
    fut_health_add(&health, &service);
    g_assert_cmpint(fut_health_level(&health, true, 0), ==, FUT_HEALTH_SERVICE_FAILED);
    FutFinding host = found("d", "x", FUT_SEVERITY_ERROR, FUT_SCOPE_HOST);
    fut_health_add(&health, &host);
    g_assert_cmpint(fut_health_level(&health, false, 0), ==, FUT_HEALTH_SYSTEM_FAILED);
    g_assert_cmpuint(fut_health_clear(&health, "d"), ==, 1);
    g_assert_cmpuint(fut_health_clear(&health, "d"), ==, 0);
    g_assert_cmpint(fut_health_level(&health, true, 0), ==, FUT_HEALTH_SERVICE_FAILED);
    g_assert_cmpuint(fut_health_clear(&health, NULL), ==, 3);
    fut_health_done(&health);
}

static void test_same_cause(void)
{
    FutHealth health;
    fut_health_init(&health);

    FutFinding first = found("a", "x", FUT_SEVERITY_ERROR, FUT_SCOPE_SERVICE);
    FutFinding other = found("a", "y", FUT_SEVERITY_ERROR, FUT_SCOPE_SERVICE);
    fut_health_add(&health, &first);
    fut_health_add(&health, &other);
    first.last_us = 200;
    FutFinding *again = fut_health_add(&health, &first);
    g_assert_cmpuint(health.findings.length, ==, 2);
    g_assert_cmpuint(again->count, ==, 2);
    g_assert_cmpint(again->first_us, ==, 100);
    g_assert_cmpint(again->last_us, ==, 200);
    g_assert_true(g_queue_peek_tail(&health.findings) == again);
    g_assert_true(fut_health_find(&health, "a", "y") == g_queue_peek_head(&health.findings));
    g_assert_null(fut_health_find(&health, "b", "y"));
    fut_health_done(&health);
}

/* Whatever a guest does, so many are kept, and bad ones longer than others. */
static void test_bounded(void)
{
    FutHealth health;
    fut_health_init(&health);

    FutFinding bad = found("bad", "x", FUT_SEVERITY_CRITICAL, FUT_SCOPE_SYSTEM);
    fut_health_add(&health, &bad);
    for (unsigned i = 0; i < 1000; i++) {
        g_autofree char *cause = g_strdup_printf("%u", i);
        FutFinding one = found("a", cause, FUT_SEVERITY_WARNING, FUT_SCOPE_SERVICE);
        fut_health_add(&health, &one);
    }
    g_assert_cmpuint(health.findings.length, ==, FUT_FINDINGS_KEPT);
    g_assert_cmpuint(health.forgotten, ==, 1001 - FUT_FINDINGS_KEPT);
    g_assert_nonnull(fut_health_find(&health, "bad", "x"));
    g_assert_nonnull(fut_health_find(&health, "a", "999"));
    fut_health_done(&health);
}

/* -- policy -- */

static void check(FutDeed deed, FutScope scope, bool primary, bool is_protected, bool act,
                  const char *words)
{
    FutVerdict verdict = fut_policy_judge(deed, scope, (FutSituation){ primary, is_protected });

    g_assert_cmpint(verdict.act, ==, act);
    if (!strstr(verdict.text, words)) {
        g_error("'%s' does not say '%s'", verdict.text, words);
    }
}

/* A twin holds what the guest holds: only a host's failure is left behind by a hand-over. */
static void test_policy(void)
{
    check(FUT_DO_FAILOVER, FUT_SCOPE_HOST, true, true, true, "");
    check(FUT_DO_FAILOVER, FUT_SCOPE_HOST, true, false, false, "no twin that is ready");
    check(FUT_DO_FAILOVER, FUT_SCOPE_HOST, false, true, false, "does not run here");
    check(FUT_DO_FAILOVER, FUT_SCOPE_SERVICE, true, true, false, "same failed service: restart");
    check(FUT_DO_FAILOVER, FUT_SCOPE_SYSTEM, true, true, false, "go back to a snapshot");
    check(FUT_DO_FAILOVER_ANYWAY, FUT_SCOPE_SYSTEM, true, true, true,
          "holds the same failed state");
    check(FUT_DO_FAILOVER_ANYWAY, FUT_SCOPE_HOST, true, true, true, "");
    check(FUT_DO_FAILOVER_ANYWAY, FUT_SCOPE_SYSTEM, true, false, false, "no twin");
    check(FUT_DO_SNAPSHOT, FUT_SCOPE_SYSTEM, true, false, true, "");
    check(FUT_DO_STOP, FUT_SCOPE_SYSTEM, false, false, false, "does not run here");
    check(FUT_DO_COMMAND, FUT_SCOPE_SYSTEM, false, false, true, "");
}

static void test_answers(void)
{
    FutDeed deed;

    g_assert_true(fut_policy_answer(0, &deed) && deed == FUT_DO_REPORT);
    g_assert_true(fut_policy_answer(10, &deed) && deed == FUT_DO_FAILOVER);
    g_assert_true(fut_policy_answer(11, &deed) && deed == FUT_DO_FAILOVER_ANYWAY);
    g_assert_true(fut_policy_answer(12, &deed) && deed == FUT_DO_SNAPSHOT);
    g_assert_true(fut_policy_answer(13, &deed) && deed == FUT_DO_STOP);
    g_assert_false(fut_policy_answer(1, &deed));
    g_assert_false(fut_policy_answer(127, &deed));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/health/levels", test_levels);
    g_test_add_func("/health/same-cause", test_same_cause);
    g_test_add_func("/health/bounded", test_bounded);
    g_test_add_func("/policy/judge", test_policy);
    g_test_add_func("/policy/answers", test_answers);
    return g_test_run();
}
