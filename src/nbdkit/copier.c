/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "copier.h"

#include <errno.h>

#include "fut_clock.h"
#include "fut_log.h"
#include "fut_repeat.h"

#define EXTENTS_AT_ONCE (1u << 30) /* bytes asked about */
#define LOOK_EVERY_NS (100 * FUT_NS_PER_MS)
#define SAVE_EVERY_NS (2 * FUT_NS_PER_S)
#define PAUSE_AFTER_ERROR_NS FUT_NS_PER_S
#define SAY_AFTER_NS (4 * FUT_NS_PER_S)
#define SAY_EVERY_MAX_NS (3600 * FUT_NS_PER_S)

/* A request of ours. */
typedef struct {
    FutSourceRequest request;
    FutCopyPiece piece;
} Job;

struct FutCopier {
    FutReloc *reloc;
    FutSourceLink *link;
    void (*complete)(void *opaque);
    void *opaque;
    GThread *thread;
    GAsyncQueue
        *ended; /* Job that was answered; &wake_job: look again; &saved_job: the saver is done */
    Job wake_job, saved_job;
    bool stopping; /* atomic */

    /* the thread's own */
    unsigned under_way;
    uint64_t extents_at; /* how far holes are known; the disk's size: everywhere */
    bool asking_extents;
    uint64_t saved_ns, not_before_ns;
    uint64_t saved_blocks, saving_blocks;
    GThread *saver; /* NULL: none */
    int save_error; /* the saver's answer, once it is done */
    FutRepeat not_durable;
};

static void on_done(FutSourceRequest *request)
{
    FutCopier *copier = request->owner;
    g_async_queue_push(copier->ended, request);
}

static Job *job_new(FutCopier *copier, uint64_t offset, uint32_t length)
{
    Job *job = g_new0(Job, 1);

    job->request =
        (FutSourceRequest){ .offset = offset, .length = length, .done = on_done, .owner = copier };
    copier->under_way++;
    return job;
}

static void job_free(Job *job)
{
    g_free(job->request.data);
    if (job->request.extents) {
        g_array_free(job->request.extents, TRUE);
    }
    g_free(job);
}

/* -- holes -- */

static void know_holes_up_to(FutCopier *copier, uint64_t offset, uint64_t size)
{
    copier->extents_at = offset;
    fut_reloc_holes_known(copier->reloc, offset >= size ? UINT64_MAX : offset);
}

static void ask_extents(FutCopier *copier, uint64_t size)
{
    if (fut_reloc_asleep(copier->reloc) || copier->asking_extents || copier->extents_at >= size ||
        !fut_source_link_up(copier->link)) {
        return;
    }
    if (!fut_source_link_has_extents(copier->link)) {
        know_holes_up_to(copier, size, size);
        return;
    }
    uint64_t length = MIN(EXTENTS_AT_ONCE, size - copier->extents_at);
    Job *job = job_new(copier, copier->extents_at, (uint32_t)length);
    job->request.extents = g_array_new(FALSE, FALSE, sizeof(FutSourceExtent));
    copier->asking_extents = true;
    fut_source_link_submit(copier->link, &job->request);
}

/* A source that answers nothing useful is taken for one without holes. */
static void take_extents(FutCopier *copier, const Job *job, uint64_t size)
{
    const GArray *extents = job->request.extents;
    uint64_t at = job->request.offset;

    copier->asking_extents = false;
    if (job->request.error == ENOTCONN) {
        return;
    }
    for (guint i = 0; i < extents->len && job->request.error == 0 && at < size; i++) {
        const FutSourceExtent *extent = &g_array_index(extents, FutSourceExtent, i);
        uint64_t length = MIN(extent->length, size - at);
        if (extent->zero && length > 0 && fut_reloc_hole(copier->reloc, length, at) != 0) {
            copier->not_before_ns = fut_now_ns() + PAUSE_AFTER_ERROR_NS;
        }
        at += length;
    }
    know_holes_up_to(copier, at > job->request.offset ? at : size, size);
}

/* -- pieces -- */

/* Sends for what may be fetched now; returns nanoseconds after which to look again. */
static uint64_t send_for_more(FutCopier *copier)
{
    uint64_t now_ns = fut_now_ns(), wait_ns = LOOK_EVERY_NS;
    FutCopyPiece piece;

    if (fut_reloc_asleep(copier->reloc)) {
        return LOOK_EVERY_NS;
    }
    if (now_ns < copier->not_before_ns) {
        return copier->not_before_ns - now_ns;
    }
    while (fut_source_link_up(copier->link) &&
           fut_reloc_copy_next(copier->reloc, now_ns, &piece, &wait_ns)) {
        Job *job = job_new(copier, piece.offset, piece.length);
        job->piece = piece;
        job->request.data = g_malloc(piece.length);
        fut_source_link_submit(copier->link, &job->request);
        now_ns = fut_now_ns();
    }
    return MIN(wait_ns, LOOK_EVERY_NS);
}

static void take_piece(FutCopier *copier, const Job *job)
{
    const FutSourceRequest *request = &job->request;
    uint64_t now_ns = fut_now_ns();
    int error = request->error;

    if (error) {
        fut_reloc_copy_drop(copier->reloc, &job->piece, now_ns);
    } else {
        error = fut_reloc_copy_store(copier->reloc, &job->piece, request->data,
                                     MAX(request->done_ns - request->sent_ns, 1), now_ns);
    }
    if (error && error != ENOTCONN) {
        copier->not_before_ns = now_ns + PAUSE_AFTER_ERROR_NS;
    }
}

static void end_saver(FutCopier *copier)
{
    if (copier->saver) {
        g_thread_join(g_steal_pointer(&copier->saver));
        copier->saved_blocks = copier->save_error ? copier->saved_blocks : copier->saving_blocks;
        copier->saved_ns = fut_now_ns();
    }
}

static void take(FutCopier *copier, Job *job, uint64_t size)
{
    if (job == &copier->saved_job) {
        end_saver(copier);
        return;
    }
    if (!job || job == &copier->wake_job) {
        return;
    }
    copier->under_way--;
    if (job->request.data) {
        take_piece(copier, job);
    } else {
        take_extents(copier, job, size);
    }
    job_free(job);
}

/* -- progress -- */

static void *saver_main(void *opaque)
{
    FutCopier *copier = opaque;

    copier->save_error = fut_reloc_flush(copier->reloc);
    g_async_queue_push(copier->ended, &copier->saved_job);
    return NULL;
}

/* What came since the last time becomes durable, so that a host that goes down need not fetch it again. A disk may take seconds for that, and
 * the link would stand empty: another thread waits for it. */
static void save(FutCopier *copier, const FutRelocStats *stats)
{
    if (copier->saver || fut_now_ns() - copier->saved_ns < SAVE_EVERY_NS ||
        stats->valid_blocks == copier->saved_blocks) {
        return;
    }
    copier->saving_blocks = stats->valid_blocks;
    copier->saver = g_thread_new("saver", saver_main, copier);
}

static bool finish(FutCopier *copier)
{
    uint64_t now_ns = fut_now_ns();

    if (!fut_reloc_all_valid(copier->reloc) || now_ns < copier->not_before_ns) {
        return false;
    }
    int error = fut_reloc_complete(copier->reloc);
    if (error) {
        if (fut_repeat_due(&copier->not_durable, now_ns, SAY_AFTER_NS, SAY_EVERY_MAX_NS)) {
            fut_log(FUT_LOG_ERROR, "FUT-303", "everything is here, but cannot be made durable: %s",
                    g_strerror(error));
        }
        copier->not_before_ns = now_ns + PAUSE_AFTER_ERROR_NS;
        return false;
    }
    return true;
}

static void *copier_main(void *opaque)
{
    FutCopier *copier = opaque;
    FutRelocStats stats;

    fut_reloc_stats(copier->reloc, &stats);
    while (!__atomic_load_n(&copier->stopping, __ATOMIC_ACQUIRE)) {
        ask_extents(copier, stats.size);
        uint64_t wait_ns = send_for_more(copier);
        take(copier, g_async_queue_timeout_pop(copier->ended, wait_ns / FUT_NS_PER_US + 1),
             stats.size);
        fut_reloc_note_progress(copier->reloc);
        fut_reloc_stats(copier->reloc, &stats);
        save(copier, &stats);
        if (finish(copier)) {
            copier->complete(copier->opaque);
            break;
        }
    }
    while (copier->under_way > 0) {
        take(copier, g_async_queue_pop(copier->ended), stats.size);
    }
    end_saver(copier);
    return NULL;
}

FutCopier *fut_copier_new(FutReloc *reloc, FutSourceLink *link, void (*complete)(void *opaque),
                          void *opaque)
{
    FutCopier *copier = g_new0(FutCopier, 1);

    copier->reloc = reloc;
    copier->link = link;
    copier->complete = complete;
    copier->opaque = opaque;
    copier->ended = g_async_queue_new();
    copier->saved_ns = fut_now_ns();
    fut_reloc_holes_known(reloc, 0);
    copier->thread = g_thread_new("copier", copier_main, copier);
    return copier;
}

void fut_copier_wake(FutCopier *copier)
{
    g_async_queue_push(copier->ended, &copier->wake_job);
}

void fut_copier_free(FutCopier *copier)
{
    if (!copier) {
        return;
    }
    __atomic_store_n(&copier->stopping, true, __ATOMIC_RELEASE);
    fut_copier_wake(copier);
    g_thread_join(copier->thread);
    g_async_queue_unref(copier->ended);
    g_free(copier);
}
