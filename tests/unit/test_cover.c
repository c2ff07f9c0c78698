/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cover.h"

#include <string.h>

static const FutCoverFacts best = {
    .role = FUT_ROLE_BACKUP,
    .state = FUT_STATE_STANDBY,
    .arbiter = "etcd:http://10.0.0.9:2379",
    .encrypted = true,
    .disks = 2,
    .flush_both = true,
};

/* All of it as one text. */
static char *described(const FutCoverFacts *facts)
{
    json_t *object = json_object();
    fut_cover_describe(object, facts);
    char *text = json_dumps(object, JSON_COMPACT);
    json_decref(object);
    return text;
}

static void check(const FutCoverFacts *facts, const char *word, bool there)
{
    char *text = described(facts);
    if ((strstr(text, word) != NULL) != there) {
        g_error("\"%s\" is %s in %s", word, there ? "not" : "wrongly", text);
    }
    free(text);
}

static void test_best(void)
{
    static const char *const absent[] = { "encrypted", "both hosts", "this machine", "folder",
                                          "person" };
    for (size_t i = 0; i < G_N_ELEMENTS(absent); i++) {
        check(&best, absent[i], false);
    }
    check(&best, "death of its host", true);
    check(&best, "disks", true);
    check(&best, "console", true);
}

/* A twin is there also while the VM is handed to it, or the arbiter is asked for that. */
static void test_handing(void)
{
    FutCoverFacts facts = best;
    facts.role = FUT_ROLE_PRIMARY;
    facts.state = FUT_STATE_HANDING;
    check(&facts, "death of its host", true);
    check(&facts, "any loss", false);
    facts.state = FUT_STATE_ASKING;
    check(&facts, "any loss", true);
}

static void test_gaps(void)
{
    FutCoverFacts facts = best;
    facts.encrypted = false;
    check(&facts, "not encrypted\",\"remedy\":\"--tls", true);
    facts.same_machine = true;
    check(&facts, "both are on this machine", true);
    check(&facts, "death of its host", false);
    check(&facts, "not encrypted", false);

    facts = best;
    facts.flush_both = false;
    check(&facts, "--flush both", true);
    facts.disks = 0;
    check(&facts, "--flush both", false);

    facts = best;
    facts.arbiter = "manual:/var/lib/futago";
    check(&facts, "futago grant", true);
}

/* A primary's death takes along a folder of its own; that of its backup has none to take. */
static void test_private_arbiter(void)
{
    FutCoverFacts facts = best;
    facts.arbiter = "file:/var/lib/futago";
    facts.arbiter_private = true;
    check(&facts, "death of its host", true);
    check(&facts, "dies, too", true);
    facts.role = FUT_ROLE_PRIMARY;
    facts.state = FUT_STATE_PROTECTED;
    check(&facts, "death of its host", false);
    check(&facts, "dies, too", true);
}

static void test_unprotected(void)
{
    FutCoverFacts facts = best;
    for (facts.state = 0; facts.state <= FUT_STATE_FAILED; facts.state++) {
        bool held = facts.state == FUT_STATE_PROTECTED || facts.state == FUT_STATE_HANDING ||
                    facts.state == FUT_STATE_STANDBY;
        check(&facts, "\"protects_against\":[]", !held);
        check(&facts, "any loss of this QEMU", !held);
    }
}

static void test_file_systems(void)
{
    g_assert_true(fut_cover_is_private("/"));
    g_assert_true(fut_cover_is_private("/proc"));
    g_assert_false(fut_cover_is_private("/no/such/folder"));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/cover/best", test_best);
    g_test_add_func("/cover/handing", test_handing);
    g_test_add_func("/cover/gaps", test_gaps);
    g_test_add_func("/cover/private-arbiter", test_private_arbiter);
    g_test_add_func("/cover/unprotected", test_unprotected);
    g_test_add_func("/cover/file-systems", test_file_systems);
    return g_test_run();
}
