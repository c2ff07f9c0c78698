/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Shared disks of a backup: what the primary may not have written, and getting hold of the images. */
#include "disks_shared.h"

#include "engine_internal.h"
#include "fut_clock.h"
#include "fut_error.h"

/* Silence about attempts that fail; patience when the primary could go on. */
#define SAY_NS (1 * FUT_NS_PER_S)
#define HANDED_NS (10 * FUT_NS_PER_S)
#define BATCH_BYTES (64u << 20)

bool fut_shared_marked(FutEngine *engine, uint64_t token, GError **error)
{
    const FutDisks *disks = &engine->disks;
    g_mutex_lock(&engine->lock);
    fut_disk_queue_clear(&engine->shared.writes);
    g_mutex_unlock(&engine->lock);
    for (unsigned i = 0; i < disks->count; i++) {
        if (disks->info[i].shared && !engine->vmm->ops->disk_marked(engine->vmm, i, token, error)) {
            return false;
        }
    }
    return true;
}

void fut_shared_keep(FutEngine *engine, const FutDiskHead *head, const uint8_t *data)
{
    g_mutex_lock(&engine->lock);
    if (head->kind == FUT_DISK_STORED) {
        fut_disk_queue_drop_epochs(&engine->shared.writes, head->epoch);
    } else {
        fut_disk_queue_add(&engine->shared.writes, head, data);
    }
    g_mutex_unlock(&engine->lock);
}

/* -- taking over -- */

/* Waits a moment. False: the process ends. */
static bool wait_a_moment(FutEngine *engine, bool handed)
{
    g_mutex_lock(&engine->lock);
    bool on =
        !engine->exiting && (handed ? fut_engine_act_wait(engine) : fut_engine_host_wait(engine));
    g_mutex_unlock(&engine->lock);
    return on;
}

/* It gave the VM away, and is there to take it back. One that is silent has perhaps not let go of the image. */
static bool primary_could_go_on(FutEngine *engine)
{
    FutPairStatus status;
    g_mutex_lock(&engine->lock);
    fut_pair_status(engine->pair, &status);
    g_mutex_unlock(&engine->lock);
    return status.linked;
}

static void say_waiting(FutEngine *engine, const GError *error)
{
    g_autofree char *text =
        g_strdup_printf("the guest waits, tried again until it works: %s", error->message);
    engine->host->report(engine->opaque, "FUT-193", text);
}

typedef bool (*Attempt)(FutEngine *engine, GError **error);

static bool until_it_works(FutEngine *engine, Attempt attempt, bool handed, GError **error)
{
    uint64_t begin_ns = fut_engine_now(engine), last_ns = begin_ns;
    bool said = false;
    for (;;) {
        g_autoptr(GError) failure = NULL;
        if (attempt(engine, &failure)) {
            return true;
        }
        uint64_t waited_ns = fut_engine_now(engine) - begin_ns;
        if (!said && waited_ns > SAY_NS) {
            say_waiting(engine, failure);
            said = true;
        }
        fut_standby_sign_of_life(engine, &last_ns);
        bool enough = handed && waited_ns > HANDED_NS && primary_could_go_on(engine);
        if (enough || !wait_a_moment(engine, handed)) {
            g_propagate_error(error, g_steal_pointer(&failure));
            return false;
        }
    }
}

/* The old primary may be frozen with the image in its hands: as long as it has it, it could still write. */
static bool claim(FutEngine *engine, GError **error)
{
    return engine->vmm->ops->disks_claim(engine->vmm, error);
}

/* What the primary has written of it already is written again: the order is the same, so the result is. */
static bool claim_and_write(FutEngine *engine, GError **error)
{
    FutShared *shared = &engine->shared;
    unsigned count = 0;
    bool ok = claim(engine, error);
    do {
        g_mutex_lock(&engine->lock);
        fut_disk_queue_drop(&shared->writes, count);
        FutDiskRecord *records =
            ok ? fut_disk_queue_copy(&shared->writes, BATCH_BYTES, &count) : NULL;
        g_mutex_unlock(&engine->lock);
        if (!records) {
            return ok;
        }
        ok = engine->vmm->ops->disk_write(engine->vmm, fut_shared_flush_behind(engine, records),
                                          error);
        count = ok ? count : 0;
    } while (ok);
    return false;
}

bool fut_shared_take(FutEngine *engine, bool handed, GError **error)
{
    if (engine->shared.count == 0) {
        return true;
    }
    g_mutex_lock(&engine->lock);
    fut_disk_queue_discard(&engine->shared.writes);
    g_mutex_unlock(&engine->lock);
    return until_it_works(engine, claim_and_write, handed, error);
}

bool fut_shared_claim(FutEngine *engine)
{
    return until_it_works(engine, claim, false, NULL);
}

void fut_shared_give_back(FutEngine *engine)
{
    if (engine->shared.count > 0) {
        engine->vmm->ops->disks_yield(engine->vmm);
    }
}
