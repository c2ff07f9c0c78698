/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "disk_server.h"

#include <unistd.h>

#include "copier.h"
#include "disk_control.h"
#include "fut_clock.h"
#include "fut_error.h"
#include "fut_log.h"
#include "reloc_files.h"
#include "source_link.h"

struct FutDiskServer {
    FutDiskOptions options; /* strings owned */
    uint64_t size;
    FutRelocFiles files;
    FutReloc *reloc;
    FutRelocSource source;
    bool (*cancelled)(void);
    FutSourceLink *demand, *copy; /* NULL where nothing is missing */
    FutCopier *copier;
    FutDiskControl *control;
};

/* -- the source as the disk sees it -- */

static FutDiskServer *server_of(FutRelocSource *source)
{
    return (FutDiskServer *)((char *)source - G_STRUCT_OFFSET(FutDiskServer, source));
}

static int source_read(FutRelocSource *source, void *buf, uint32_t length, uint64_t offset)
{
    FutDiskServer *server = server_of(source);

    return fut_source_link_read(server->demand, buf, length, offset, server->options.wait_ms,
                                server->cancelled);
}

static bool source_cancelled(FutRelocSource *source)
{
    return server_of(source)->cancelled();
}

static const FutRelocSourceOps source_ops = { source_read, source_cancelled };

/* -- opening -- */

/* What is there, and what is to be done with it. */
typedef struct {
    char *bitmap; /* path; NULL: an ordinary disk without one */
    bool fresh;
} Plan;

static void plan_done(Plan *plan)
{
    g_free(plan->bitmap);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Plan, plan_done)

static void plan_bitmap(const FutDiskOptions *options, Plan *ret)
{
    ret->bitmap =
        options->bitmap ? g_strdup(options->bitmap) : g_strdup_printf("%s.bitmap", options->cache);
    if (!options->source && !options->bitmap && access(ret->bitmap, F_OK) < 0) {
        g_clear_pointer(&ret->bitmap, g_free);
    }
}

/* A cache that may hold something precious is not written over unasked. */
static bool check_fresh(const FutDiskServer *server, const Plan *plan, GError **error)
{
    const FutDiskOptions *options = &server->options;

    if (!options->source) {
        g_set_error(error, FUT_ERROR, FUT_ERR_ARG,
                    "%s is empty: say where the disk is (source=URI)", plan->bitmap);
        return false;
    }
    if (server->files.cache_used && !options->overwrite) {
        g_set_error(error, FUT_ERROR, FUT_ERR_ARG,
                    "%s has, or may have, something in it, and no bitmap: say overwrite=true if it "
                    "may go",
                    options->cache);
        return false;
    }
    return true;
}

/* Size and freshness, from the bitmap or from the source. */
static bool find_size(FutDiskServer *server, Plan *plan, GError **error)
{
    g_autoptr(GError) fault = NULL;
    FutBitmapIdentity is;
    bool complete;

    if (fut_bitmap_file_look(&server->files.io, &is, &complete, &fault)) {
        server->size = is.size;
        if (server->files.cache_size == is.size) {
            return true;
        }
        g_set_error(error, FUT_ERROR, FUT_ERR_MISMATCH,
                    "%s has %" G_GUINT64_FORMAT
                    " bytes, its bitmap is of a disk of %" G_GUINT64_FORMAT
                    ": bring the right files together",
                    server->options.cache, server->files.cache_size, is.size);
        return false;
    }
    if (fault) {
        g_propagate_prefixed_error(error, g_steal_pointer(&fault), "%s: ", plan->bitmap);
        return false;
    }
    plan->fresh = true;
    return check_fresh(server, plan, error) &&
           fut_source_size(server->options.source, &server->size, error) &&
           fut_reloc_files_reset(&server->files, error) &&
           fut_reloc_files_prepare(&server->files, server->size, error);
}

static bool open_disk(FutDiskServer *server, const Plan *plan, GError **error)
{
    const FutDiskOptions *options = &server->options;
    FutRelocSetup setup = { .io = &server->files.io,
                            .source = options->source ? &server->source : NULL,
                            .plain = !plan->bitmap,
                            .fresh = plan->fresh,
                            .adopt = options->adopt,
                            .asleep = options->asleep,
                            .policy = options->policy,
                            .adaptive = options->adaptive,
                            .rate = options->rate };

    setup.identity.size = server->size;
    setup.identity.cache_id[0] = server->files.cache_id[0];
    setup.identity.cache_id[1] = server->files.cache_id[1];
    g_strlcpy(setup.identity.source, options->source ? options->source : "", FUT_BITMAP_URI_MAX);
    fut_reloc_boot_id(setup.boot_id);
    server->reloc = fut_reloc_new(&setup, error);
    if (!server->reloc && plan->bitmap) {
        g_prefix_error(error, "%s: ", plan->bitmap);
    }
    return server->reloc != NULL;
}

static bool open_all(FutDiskServer *server, GError **error)
{
    const FutDiskOptions *options = &server->options;
    g_auto(Plan) plan = { 0 };

    plan_bitmap(options, &plan);
    if (!fut_reloc_files_open(&server->files, options->cache, plan.bitmap, error)) {
        return false;
    }
    if (!plan.bitmap) {
        server->size = server->files.cache_size;
        if (server->size == 0) {
            g_set_error(error, FUT_ERROR, FUT_ERR_ARG,
                        "%s is empty: say where the disk is (source=URI)", options->cache);
            return false;
        }
    }
    return (!plan.bitmap || find_size(server, &plan, error)) && open_disk(server, &plan, error);
}

FutDiskServer *fut_disk_server_open(const FutDiskOptions *options, GError **error)
{
    FutDiskServer *server = g_new0(FutDiskServer, 1);

    server->options = *options;
    server->options.source = g_strdup(options->source);
    server->options.cache = g_strdup(options->cache);
    server->options.bitmap = g_strdup(options->bitmap);
    server->options.name = g_strdup(options->name);
    server->source.ops = &source_ops;
    server->files.cache_fd = server->files.bitmap_fd = -1;
    if (!open_all(server, error)) {
        fut_disk_server_free(server);
        return NULL;
    }
    return server;
}

/* -- running -- */

static void on_complete(void *opaque)
{
    FutDiskServer *server = opaque;

    fut_log(FUT_LOG_INFO, "FUT-304", "everything is here: the source is needed no more");
    fut_source_link_retire(server->demand);
    fut_source_link_retire(server->copy);
}

static char *source_fault(void *opaque)
{
    FutDiskServer *server = opaque;
    return server->copy ? fut_source_link_fault(server->copy) : NULL;
}

static void on_control(void *opaque)
{
    FutDiskServer *server = opaque;

    if (server->copier) {
        fut_copier_wake(server->copier);
    }
}

static bool start_control(FutDiskServer *server, GError **error)
{
    FutDiskControlSetup setup = { .name = server->options.name,
                                  .source = server->options.source ? server->options.source : "",
                                  .cache = server->options.cache,
                                  .reloc = server->reloc,
                                  .fault = source_fault,
                                  .changed = on_control,
                                  .opaque = server };

    if (server->options.name) {
        server->control = fut_disk_control_new(&setup, error);
    }
    return server->control || !server->options.name;
}

static bool start_copy(FutDiskServer *server, GError **error)
{
    if (fut_reloc_is_complete(server->reloc)) {
        return true;
    }
    if (server->options.source) {
        server->demand =
            fut_source_link_new(server->options.source, server->size, "reads of the VM");
        server->copy = fut_source_link_new(server->options.source, server->size, "copy");
        server->copier = fut_copier_new(server->reloc, server->copy, on_complete, server);
    } else if (fut_reloc_complete(server->reloc) != 0) {
        g_set_error(error, FUT_ERROR, FUT_ERR_IO, "cannot write the bitmap of %s",
                    server->options.cache);
        return false;
    }
    return true;
}

bool fut_disk_server_start(FutDiskServer *server, bool (*cancelled)(void), GError **error)
{
    server->cancelled = cancelled;
    return start_copy(server, error) && start_control(server, error);
}

void fut_disk_server_free(FutDiskServer *server)
{
    if (!server) {
        return;
    }
    fut_disk_control_free(server->control);
    if (server->copy) {
        fut_source_link_stop(server->copy); /* what the copier waits for ends */
    }
    fut_copier_free(server->copier);
    fut_source_link_free(server->copy);
    fut_source_link_free(server->demand);
    if (server->reloc && fut_reloc_flush(server->reloc) != 0) {
        fut_log(FUT_LOG_ERROR, "FUT-305", "what was written last could not be made durable");
    }
    fut_reloc_free(server->reloc);
    fut_reloc_files_close(&server->files);
    g_free(server->options.source);
    g_free(server->options.cache);
    g_free(server->options.bitmap);
    g_free(server->options.name);
    g_free(server);
}

FutReloc *fut_disk_server_disk(FutDiskServer *server)
{
    return server->reloc;
}

uint64_t fut_disk_server_size(const FutDiskServer *server)
{
    return server->size;
}
