/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cover.h"

#include <string.h>
#include <sys/vfs.h>

#include <linux/magic.h>

/* Those that <linux/magic.h> does not name. */
#define FUT_MAGIC_GFS2 0x01161970
#define FUT_MAGIC_GPFS 0x47504653
#define FUT_MAGIC_LUSTRE 0x0bd00bd0

bool fut_cover_is_private(const char *path)
{
    static const uint64_t shared[] = {
        NFS_SUPER_MAGIC,  CIFS_SUPER_MAGIC, SMB2_SUPER_MAGIC, CEPH_SUPER_MAGIC,
        AFS_SUPER_MAGIC,  FUSE_SUPER_MAGIC, V9FS_MAGIC,       OCFS2_SUPER_MAGIC,
        CODA_SUPER_MAGIC, FUT_MAGIC_GFS2,   FUT_MAGIC_GPFS,   FUT_MAGIC_LUSTRE,
    };
    struct statfs about;

    if (statfs(path, &about) != 0) {
        return false;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(shared); i++) {
        if ((uint32_t)about.f_type == shared[i]) {
            return false;
        }
    }
    return true;
}

static void add_gap(json_t *gaps, const char *what, const char *remedy)
{
    json_array_append_new(gaps, json_pack("{s:s, s:s}", "what", what, "remedy", remedy));
}

/* The twin could not ask. */
static bool arbiter_dies_too(const FutCoverFacts *facts)
{
    return facts->arbiter_private && facts->role == FUT_ROLE_PRIMARY;
}

static void add_protection(json_t *against, const FutCoverFacts *facts)
{
    json_array_append_new(against, json_string("death or freeze of the primary's QEMU"));
    if (!facts->same_machine && !arbiter_dies_too(facts)) {
        json_array_append_new(against, json_string("death of its host"));
    }
    if (!facts->same_machine) {
        json_array_append_new(against, json_string("a cut between the hosts"));
    }
    if (facts->disks > 0) {
        json_array_append_new(against, json_string("loss of its disks"));
    }
}

static void add_gaps_of_hosts(json_t *gaps, const FutCoverFacts *facts)
{
    if (facts->same_machine) {
        add_gap(gaps, "death of the host: both are on this machine",
                "run the standby on another host");
        return;
    }
    if (facts->arbiter_private) {
        add_gap(gaps,
                "death of this host: the arbiter's folder is on its own file system and dies, too",
                "put the folder on storage that outlives either host, or use etcd:");
    }
    if (!facts->encrypted) {
        add_gap(gaps, "listening on the link: it is not encrypted", "--tls");
    }
}

static void add_gaps_of_disks(json_t *gaps, const FutCoverFacts *facts)
{
    if (facts->shared_disks > 0) {
        add_gap(gaps, "loss of the storage that both hosts share", "");
    }
    if (facts->disks == 0) {
        return;
    }
    if (facts->role == FUT_ROLE_PRIMARY) {
        add_gap(gaps, "death of both hosts at once, unless the standby has --flush both", "");
    } else if (!facts->flush_both) {
        add_gap(gaps, "death of both hosts at once: flushed writes may be on one only",
                "--flush both on the standby");
    }
}

void fut_cover_describe(json_t *object, const FutCoverFacts *facts)
{
    json_t *against = json_array(), *gaps = json_array();

    if (facts->state == FUT_STATE_PROTECTED || facts->state == FUT_STATE_HANDING ||
        facts->state == FUT_STATE_STANDBY) {
        add_protection(against, facts);
        add_gaps_of_hosts(gaps, facts);
        if (g_str_has_prefix(facts->arbiter, "manual:")) {
            add_gap(gaps, "a loss that nobody notices: the twin waits for a person",
                    "futago grant");
        }
        add_gaps_of_disks(gaps, facts);
        add_gap(gaps, "faults of the guest's own software: the twin has them, too", "");
        add_gap(gaps, "console output twice: it is not held back", "");
    } else {
        add_gap(gaps, "any loss of this QEMU or its host", "");
    }
    json_object_set_new(object, "protects_against", against);
    json_object_set_new(object, "not_against", gaps);
}
