/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Where a VM is that was being handed over, and what a killed move leaves behind. */
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

#include "expect.h"
#include "fut_clock.h"
#include "fut_error.h"
#include "relocate_judge.h"
#include "relocate_record.h"

static json_t *object_of(const char *text)
{
    json_t *object = text ? json_loads(text, 0, NULL) : NULL;

    g_assert_true(object || !text);
    return object;
}

static FutOutcome judge_at(const char *here, bool ended, const char *said, uint64_t *stuck_ns,
                           uint64_t now_ns)
{
    json_t *mine = object_of(here), *theirs = object_of(said);
    FutOutcome outcome = fut_judge(mine, ended, theirs, stuck_ns, now_ns);

    json_decref(mine);
    json_decref(theirs);
    return outcome;
}

/* `here`: NULL: it has ended. */
static FutOutcome judge(const char *here, const char *said)
{
    uint64_t stuck_ns = 0;

    return judge_at(here, !here, said, &stuck_ns, FUT_NS_PER_S);
}

#define RUNS_HERE "{\"role\":\"primary\",\"running\":true,\"state\":\"alone\"}"
#define ASKING "{\"role\":\"primary\",\"running\":false,\"state\":\"asking\",\"moving\":true}"

static void test_one_says_it(void)
{
    g_assert_cmpint(judge(ASKING, "{\"vm\":{\"role\":\"primary\"},\"disks\":[]}"), ==,
                    FUT_OUTCOME_MOVED);
    g_assert_cmpint(judge(NULL, "{\"vm\":{\"role\":\"primary\"},\"disks\":[]}"), ==,
                    FUT_OUTCOME_MOVED);
    g_assert_cmpint(judge(RUNS_HERE, "{\"vm\":null,\"disks\":[]}"), ==, FUT_OUTCOME_STAYED);
    g_assert_cmpint(judge(NULL,
                          "{\"vm\":{\"role\":\"backup\",\"state\":\"waiting\"},\"disks\":[]}"),
                    ==, FUT_OUTCOME_ENDED);
}

static void test_silence_says_nothing(void)
{
    g_assert_cmpint(judge(ASKING, NULL), ==, FUT_OUTCOME_OPEN);
    g_assert_cmpint(judge(NULL, NULL), ==, FUT_OUTCOME_OPEN);
    g_assert_cmpint(judge(NULL, "{\"vm\":{},\"disks\":[]}"), ==, FUT_OUTCOME_OPEN);
    g_assert_cmpint(judge(ASKING, "{\"vm\":null,\"disks\":[],\"images\":0,\"whole\":0}"), ==,
                    FUT_OUTCOME_OPEN);
    g_assert_cmpint(judge(NULL,
                          "{\"vm\":{\"role\":\"backup\",\"state\":\"claiming\"},\"disks\":[]}"),
                    ==, FUT_OUTCOME_OPEN);
}

/* Neither QEMU is there: what lies at the destination tells. */
static void test_both_ended(void)
{
    g_assert_cmpint(judge(NULL, "{\"vm\":null,\"disks\":[],\"images\":0,\"whole\":0}"), ==,
                    FUT_OUTCOME_ENDED);
    g_assert_cmpint(judge(NULL, "{\"vm\":null,\"disks\":[],\"images\":2,\"whole\":2}"), ==,
                    FUT_OUTCOME_MOVED);
    g_assert_cmpint(
        judge(NULL, "{\"vm\":null,\"disks\":[{\"state\":\"copying\"}],\"images\":1,\"whole\":0}"),
        ==, FUT_OUTCOME_MOVED);
    g_assert_cmpint(judge(NULL,
                          "{\"vm\":null,\"disks\":[{\"state\":\"asleep\"},{\"state\":\"copying\"}],"
                          "\"images\":2,\"whole\":0}"),
                    ==, FUT_OUTCOME_MOVED);
    /* a server that does not answer, or none over an image that is not whole, may have been written to */
    g_assert_cmpint(judge(NULL, "{\"vm\":null,\"disks\":[{}],\"images\":1,\"whole\":0}"), ==,
                    FUT_OUTCOME_OPEN);
    g_assert_cmpint(judge(NULL, "{\"vm\":null,\"disks\":[],\"images\":2,\"whole\":1}"), ==,
                    FUT_OUTCOME_OPEN);
    /* an older receiver does not say what lies there */
    g_assert_cmpint(judge(NULL, "{\"vm\":null,\"disks\":[]}"), ==, FUT_OUTCOME_OPEN);
}

/* Servers that nobody has used and nobody puts away: their receiver was killed. */
static void test_asleep_for_ever(void)
{
    static const char said[] =
        "{\"vm\":null,\"disks\":[{\"state\":\"asleep\"}],\"images\":1,\"whole\":0}";
    uint64_t stuck_ns = 0;

    g_assert_cmpint(judge_at(NULL, true, said, &stuck_ns, FUT_NS_PER_S), ==, FUT_OUTCOME_OPEN);
    g_assert_cmpint(judge_at(NULL, true, NULL, &stuck_ns, 50 * FUT_NS_PER_S), ==, FUT_OUTCOME_OPEN);
    g_assert_cmpint(judge_at(NULL, true, said, &stuck_ns, 70 * FUT_NS_PER_S), ==, FUT_OUTCOME_OPEN);
    g_assert_cmpint(judge_at(NULL, true, said, &stuck_ns, 131 * FUT_NS_PER_S), ==,
                    FUT_OUTCOME_ENDED);
}

static void test_record(void)
{
    g_autofree char *folder = g_dir_make_tmp("fut-record-XXXXXX", NULL);
    g_autoptr(GError) error = NULL;
    json_t *left = NULL;

    g_setenv("FUTAGO_RUNDIR", folder, TRUE);
    int fd = fut_record_open("vm", &left, &error);
    g_assert_cmpint(fd, >=, 0);
    g_assert_null(left);
    g_assert_true(fut_record_write(fd, json_pack("{s:s}", "vm", "a longer content"), NULL));
    g_assert_true(fut_record_write(fd, json_pack("{s:s}", "vm", "b"), NULL));
    g_assert_cmpint(fut_record_open("vm", &left, &error), ==, -1);
    g_assert_error(error, FUT_ERROR, FUT_ERR_BUSY);
    g_auto(GStrv) none = fut_record_left();
    g_assert_cmpuint(g_strv_length(none), ==, 0);

    close(fd); /* as its process's end does */
    g_auto(GStrv) names = fut_record_left();
    g_assert_cmpuint(g_strv_length(names), ==, 1);
    g_assert_cmpstr(names[0], ==, "vm");
    fd = fut_record_open("vm", &left, NULL);
    g_assert_cmpstr(json_string_value(json_object_get(left, "vm")), ==, "b");
    json_decref(left);
    fut_record_remove(fd, "vm");
    g_auto(GStrv) gone = fut_record_left();
    g_assert_cmpuint(g_strv_length(gone), ==, 0);
    g_assert_cmpint(g_rmdir(folder), ==, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/relocate-judge/one-says-it", test_one_says_it);
    g_test_add_func("/relocate-judge/silence", test_silence_says_nothing);
    g_test_add_func("/relocate-judge/both-ended", test_both_ended);
    g_test_add_func("/relocate-judge/asleep-for-ever", test_asleep_for_ever);
    g_test_add_func("/relocate-judge/record", test_record);
    return g_test_run();
}
