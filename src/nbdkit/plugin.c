/* SPDX-License-Identifier: GPL-2.0-or-later */
/* nbdkit's view of a relocating disk: parameters in, requests through. No logic of its own. */
#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "control.h"
#include "disk_server.h"
#include "fut_error.h"
#include "fut_log.h"

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL
#define REQUEST_MAX (32u << 20)
#define WAIT_MAX_S 86400

static FutDiskOptions options = { .policy = FUT_COPY_HOT_FIRST,
                                  .adaptive = true,
                                  .wait_ms = 30000 };
static FutDiskServer *server;

static int fail(GError *take_error)
{
    nbdkit_error("%s", take_error->message);
    g_error_free(take_error);
    return -1;
}

/* -- parameters -- */

static int take_text(char **text, const char *value)
{
    g_free(*text);
    *text = g_strdup(value);
    return 0;
}

static int take_path(char **path, const char *value)
{
    free(*path);
    *path = nbdkit_absolute_path(value); /* nbdkit changes its folder */
    return *path ? 0 : -1;
}

static int take_bool(bool *flag, const char *value)
{
    int parsed = nbdkit_parse_bool(value);

    *flag = parsed == 1;
    return parsed < 0 ? -1 : 0;
}

static int take_policy(const char *value)
{
    options.policy = fut_copy_policy_from_name(value);
    if (options.policy == FUT_COPY_POLICIES) {
        nbdkit_error("policy=%s: use hot-first, sequential, idle-only or none", value);
        return -1;
    }
    return 0;
}

static int take_rate(const char *value)
{
    int64_t rate = nbdkit_parse_size(value);

    options.rate = (uint64_t)MAX(rate, 0);
    return rate < 0 ? -1 : 0;
}

static int take_wait(const char *value)
{
    unsigned seconds = 0;

    if (nbdkit_parse_unsigned("wait", value, &seconds) < 0) {
        return -1;
    }
    if (seconds > WAIT_MAX_S) {
        nbdkit_error("wait=%s: give seconds, %d at most", value, WAIT_MAX_S);
        return -1;
    }
    options.wait_ms = seconds * 1000;
    return 0;
}

static int take_source(const char *value)
{
    if (strlen(value) >= FUT_BITMAP_URI_MAX) {
        nbdkit_error("source: a URI of %d characters at most", FUT_BITMAP_URI_MAX - 1);
        return -1;
    }
    return take_text(&options.source, value);
}

static int take_name(const char *value)
{
    GError *error = NULL;

    return fut_control_name_check(value, &error) ? take_text(&options.name, value) : fail(error);
}

static int plugin_config(const char *key, const char *value)
{
    if (strcmp(key, "source") == 0) {
        return take_source(value);
    }
    if (strcmp(key, "cache") == 0) {
        return take_path(&options.cache, value);
    }
    if (strcmp(key, "bitmap") == 0) {
        return take_path(&options.bitmap, value);
    }
    if (strcmp(key, "name") == 0) {
        return take_name(value);
    }
    if (strcmp(key, "policy") == 0) {
        return take_policy(value);
    }
    if (strcmp(key, "rate") == 0) {
        return take_rate(value);
    }
    if (strcmp(key, "wait") == 0) {
        return take_wait(value);
    }
    if (strcmp(key, "adaptive") == 0) {
        return take_bool(&options.adaptive, value);
    }
    if (strcmp(key, "overwrite") == 0) {
        return take_bool(&options.overwrite, value);
    }
    if (strcmp(key, "adopt") == 0) {
        return take_bool(&options.adopt, value);
    }
    if (strcmp(key, "asleep") == 0) {
        return take_bool(&options.asleep, value);
    }
    nbdkit_error("unknown parameter '%s': see nbdkit-futago-plugin(1)", key);
    return -1;
}

static int plugin_config_complete(void)
{
    if (!options.cache) {
        nbdkit_error("where is the disk to be kept? Add cache=FILE");
        return -1;
    }
    return 0;
}

/* -- life -- */

static int plugin_get_ready(void)
{
    GError *error = NULL;

    fut_log_setup(options.name ? options.name : "disk", FUT_LOG_INFO);
    server = fut_disk_server_open(&options, &error);
    return server ? 0 : fail(error);
}

/* nbdkit's sleep says at once if the server or the connection is about to end. */
static bool is_cancelled(void)
{
    return nbdkit_nanosleep(0, 1) < 0;
}

static int plugin_after_fork(void)
{
    GError *error = NULL;

    return fut_disk_server_start(server, is_cancelled, &error) ? 0 : fail(error);
}

static void plugin_cleanup(void)
{
    g_clear_pointer(&server, fut_disk_server_free);
}

static void plugin_unload(void)
{
    plugin_cleanup();
    g_free(options.source);
    g_free(options.name);
    free(options.cache);
    free(options.bitmap);
}

static void *plugin_open(int readonly)
{
    return NBDKIT_HANDLE_NOT_NEEDED;
}

static int64_t plugin_get_size(void *handle)
{
    return (int64_t)fut_disk_server_size(server);
}

/* -- what it can do -- */

static int yes(void *handle)
{
    return 1;
}

static int can_fua(void *handle)
{
    return NBDKIT_FUA_NATIVE;
}

static int can_cache(void *handle)
{
    return NBDKIT_CACHE_NATIVE;
}

/* Smaller requests are served, but a write of less than a sector may have to wait for the source. */
static int plugin_block_size(void *handle, uint32_t *minimum, uint32_t *preferred,
                             uint32_t *maximum)
{
    *minimum = fut_disk_server_size(server) % FUT_SECTOR_SIZE ? 1 : FUT_SECTOR_SIZE;
    *preferred = FUT_BLOCK_SIZE;
    *maximum = REQUEST_MAX;
    return 0;
}

/* -- requests -- */

/* A source that cannot be reached is an I/O error to the VM. */
static int answer(int error, const char *what, uint64_t offset)
{
    if (error == 0) {
        return 0;
    }
    nbdkit_error("%s at %" G_GUINT64_FORMAT ": %s", what, offset, g_strerror(error));
    nbdkit_set_error(error == ENOSPC || error == ESHUTDOWN ? error : EIO);
    return -1;
}

static int flush_if(uint32_t flags, int error)
{
    return error == 0 && flags & NBDKIT_FLAG_FUA ? fut_reloc_flush(fut_disk_server_disk(server))
                                                 : error;
}

static int plugin_pread(void *handle, void *buf, uint32_t count, uint64_t offset, uint32_t flags)
{
    return answer(fut_reloc_read(fut_disk_server_disk(server), buf, count, offset), "read", offset);
}

static int plugin_pwrite(void *handle, const void *buf, uint32_t count, uint64_t offset,
                         uint32_t flags)
{
    int error = fut_reloc_write(fut_disk_server_disk(server), buf, count, offset);
    return answer(flush_if(flags, error), "write", offset);
}

static int plugin_zero(void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
    int error =
        fut_reloc_zero(fut_disk_server_disk(server), count, offset, flags & NBDKIT_FLAG_MAY_TRIM);
    return answer(flush_if(flags, error), "zero", offset);
}

static int plugin_trim(void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
    int error = fut_reloc_trim(fut_disk_server_disk(server), count, offset);
    return answer(flush_if(flags, error), "trim", offset);
}

static int plugin_flush(void *handle, uint32_t flags)
{
    return answer(fut_reloc_flush(fut_disk_server_disk(server)), "flush", 0);
}

static int plugin_cache(void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
    return answer(fut_reloc_fetch(fut_disk_server_disk(server), count, offset), "fetch", offset);
}

static int plugin_extents(void *handle, uint32_t count, uint64_t offset, uint32_t flags,
                          struct nbdkit_extents *extents)
{
    uint64_t end = offset + count;

    while (offset < end) {
        uint64_t length = 0;
        bool hole = false;
        int error =
            fut_reloc_extent(fut_disk_server_disk(server), end - offset, offset, &length, &hole);
        if (error) {
            return answer(error, "extents", offset);
        }
        if (nbdkit_add_extent(extents, offset, length,
                              hole ? NBDKIT_EXTENT_HOLE | NBDKIT_EXTENT_ZERO : 0) < 0) {
            return -1;
        }
        offset += length;
        if (flags & NBDKIT_FLAG_REQ_ONE) {
            break;
        }
    }
    return 0;
}

static struct nbdkit_plugin plugin = {
    .name = "futago",
    .longname = "Futago's relocating disk",
    .description = "serves a disk that is still elsewhere, and brings it here",
    .config = plugin_config,
    .config_complete = plugin_config_complete,
    .config_help = "source=URI           where the disk is (NBD)\n"
                   "cache=FILE           (required) where it is kept here\n"
                   "bitmap=FILE          what of it is here (default: CACHE.bitmap)\n"
                   "name=NAME            for futago disk\n"
                   "policy=POLICY        hot-first (default), sequential, idle-only, none\n"
                   "rate=BYTES           the copy's limit a second (default: 0, none)\n"
                   "adaptive=BOOL        the copy makes way for the VM's reads (default: true)\n"
                   "wait=SECONDS         reads wait for a source that is away (default: 30)\n"
                   "overwrite=BOOL       the cache's old content may go\n"
                   "adopt=BOOL           cache or source have another name now\n"
                   "asleep=BOOL          nothing is kept until the first write",
    .get_ready = plugin_get_ready,
    .after_fork = plugin_after_fork,
    .cleanup = plugin_cleanup,
    .unload = plugin_unload,
    .open = plugin_open,
    .get_size = plugin_get_size,
    .block_size = plugin_block_size,
    .can_write = yes,
    .can_flush = yes,
    .can_trim = yes,
    .can_zero = yes,
    .can_extents = yes,
    .can_multi_conn = yes,
    .can_fua = can_fua,
    .can_cache = can_cache,
    .pread = plugin_pread,
    .pwrite = plugin_pwrite,
    .flush = plugin_flush,
    .trim = plugin_trim,
    .zero = plugin_zero,
    .extents = plugin_extents,
    .cache = plugin_cache,
    /* Errors carry their own text, and errno is not touched by nbdkit in between. */
    .errno_is_preserved = 0,
};

NBDKIT_REGISTER_PLUGIN(plugin)
