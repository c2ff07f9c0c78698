/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "restore.h"

#include <string.h>

#include "code_list.h"
#include "disk_queue.h"
#include "fut_clock.h"
#include "fut_error.h"
#include "memhash.h"
#include "restore_fill.h"

struct FutRestore {
    FutVmm *vmm;
    FutStore *store;
    FutSnapshot *snapshot; /* the lazy thread's as soon as there is one */
    FutSnapshot *own;      /* another reader; NULL: the guest does not wait, or not yet */
    FutHotPages *hot;      /* NULL: none, or not any more */
    uint8_t *state;        /* owned: of the devices; NULL: not read yet */
    size_t state_length;
    bool force, check;       /* over what disks have; memory's hash */
    const FutLazyHost *host; /* NULL: all memory before the guest runs */
    void *opaque;            /* the host's */
    FutConnections connections;
    FutLazy *lazy;  /* atomic; NULL: not yet, or all memory before the guest runs */
    int filled;     /* atomic: that is there */
    unsigned codes; /* pieces of code that were translated ahead */
    FutRestoreTimes times;
};

/* -- is it this machine? -- */

/* Length of the part before the last "=" that names a thing. */
static size_t key_length(const char *line)
{
    const char *end = strchr(line, '=');

    if (g_str_has_prefix(line, "ram:")) {
        end = strrchr(line, '=');
    }
    return end ? (size_t)(end - line) : strlen(line);
}

static const char *line_of(char **lines, const char *key, size_t length)
{
    for (; *lines; lines++) {
        if (key_length(*lines) == length && strncmp(*lines, key, length) == 0) {
            return *lines;
        }
    }
    return NULL;
}

static const char *value_of(const char *line)
{
    return line[key_length(line)] ? line + key_length(line) + 1 : "";
}

char *fut_restore_difference(char **snapshot, char **machine)
{
    for (char **line = snapshot; *line; line++) {
        int length = (int)key_length(*line);
        const char *mine = line_of(machine, *line, key_length(*line));
        if (!mine) {
            return g_strdup_printf("the snapshot has %s, which this VM has not", *line);
        }
        if (strcmp(mine, *line) != 0) {
            return g_strdup_printf("%.*s is %s in the snapshot, and %s here", length, *line,
                                   value_of(*line), value_of(mine));
        }
    }
    for (char **line = machine; *line; line++) {
        if (!line_of(snapshot, *line, key_length(*line))) {
            return g_strdup_printf("this VM has %s, which the snapshot has not", *line);
        }
    }
    return NULL;
}

/* Number of areas of that kind, which must come in the order of what they fill. */
static bool check_areas(const FutRestore *restore, GError **error)
{
    const FutSnapshotInfo *info = fut_snapshot_info(restore->snapshot);
    const FutMemory *memory = restore->vmm->ops->memory(restore->vmm);
    unsigned disks = 0, blocks = 0, count = 0;
    const FutDiskInfo *disk =
        restore->vmm->ops->disks ? restore->vmm->ops->disks(restore->vmm, &count) : NULL;
    bool good = true;

    for (unsigned i = 0; i < info->areas->len && good; i++) {
        const FutArea *area = fut_snapshot_info_nth(info, i);
        if (area->kind == FUT_AREA_MEMORY) {
            good = blocks < memory->count && memory->block[blocks].length == area->length;
            blocks++;
        } else if (area->kind == FUT_AREA_DISK) {
            good = disks < count && disk[disks].length == area->length &&
                   strcmp(disk[disks].name, area->name) == 0;
            disks++;
        }
    }
    if (!good || blocks != memory->count || disks != count) {
        g_set_error(error, FUT_ERROR, FUT_ERR_MISMATCH,
                    "snapshot %" G_GUINT64_FORMAT
                    " is of another VM: its memory or disks are not those of this one",
                    info->id);
        return false;
    }
    return true;
}

static bool check(const FutRestore *restore, char **machine, GError **error)
{
    const FutSnapshotInfo *info = fut_snapshot_info(restore->snapshot);
    g_autofree char *difference = fut_restore_difference(info->fingerprint, machine);

    if (difference) {
        g_set_error(error, FUT_ERROR, FUT_ERR_MISMATCH,
                    "snapshot %" G_GUINT64_FORMAT
                    " cannot run here: %s: start the same VM with the same QEMU",
                    info->id, difference);
        return false;
    }
    return check_areas(restore, error);
}

FutRestore *fut_restore_new(FutVmm *vmm, char **machine, FutRestoreEarly *take_early, bool force,
                            GError **error)
{
    g_autoptr(FutRestore) restore = g_new0(FutRestore, 1);

    restore->vmm = vmm;
    restore->force = force;
    if (!fut_restore_early_take(take_early, &restore->store, &restore->snapshot, &restore->hot,
                                error) ||
        !check(restore, machine, error)) {
        return NULL;
    }
    restore->times.id = fut_snapshot_info(restore->snapshot)->id;
    return g_steal_pointer(&restore);
}

void fut_restore_free(FutRestore *restore)
{
    if (restore) {
        fut_lazy_free(restore->lazy);
        fut_hot_pages_free(restore->hot);
        g_free(restore->state);
        fut_snapshot_close(restore->own);
        fut_snapshot_close(restore->snapshot);
        fut_store_close(restore->store);
        g_free(restore);
    }
}

/* -- disks -- */

static bool fail_used(const FutDiskInfo *disk, GError **error)
{
    g_set_error(error, FUT_ERROR, FUT_ERR_REFUSED,
                "disk '%s': its image has content, which a restore would overwrite: give it an "
                "empty image of %" G_GUINT64_FORMAT " bytes, or add --force",
                disk->name, disk->length);
    return false;
}

static bool is_zero(const uint8_t *bytes, size_t length)
{
    return bytes[0] == 0 && memcmp(bytes, bytes + 1, length - 1) == 0;
}

/* Before anything is written to any of them. */
static bool check_empty(FutRestore *restore, unsigned area, unsigned number,
                        const FutDiskInfo *disk, uint8_t *buffer, GError **error)
{
    FutVmm *vmm = restore->vmm;

    for (uint64_t at = 0; at < disk->length;) {
        uint64_t length = disk->length - at;
        bool zero = false;
        if (!vmm->ops->disk_read(vmm, number, at, &length, buffer, &zero, error)) {
            return false;
        }
        if (!zero && !is_zero(buffer, length)) {
            return fail_used(disk, error);
        }
        at += length;
    }
    return true;
}

typedef struct {
    uint8_t *buffer;
    uint64_t first, length; /* of the chunk: first unit, bytes */
    bool any;
} Chunk;

static bool fill_chunk(void *opaque, uint64_t unit, const uint8_t *data, GError **error)
{
    Chunk *chunk = opaque;
    uint64_t at = (unit - chunk->first) << FUT_UNIT_SHIFT;

    memcpy(chunk->buffer + at, data, MIN(FUT_UNIT_SIZE, chunk->length - at));
    chunk->any = true;
    return true;
}

static bool write_record(FutRestore *restore, unsigned disk, FutDiskKind kind, uint64_t offset,
                         uint64_t length, const uint8_t *data, GError **error)
{
    FutDiskHead head = { .offset = offset, .length = length, .disk = disk, .kind = kind };

    return restore->vmm->ops->disk_write(restore->vmm, fut_disk_record_new(&head, data), error);
}

static bool fill_disk(FutRestore *restore, unsigned area, unsigned number, const FutDiskInfo *disk,
                      uint8_t *buffer, GError **error)
{
    for (uint64_t at = 0; at < disk->length; at += FUT_WIRE_DISK_MAX) {
        Chunk chunk = { buffer, at >> FUT_UNIT_SHIFT, MIN(FUT_WIRE_DISK_MAX, disk->length - at),
                        false };
        memset(buffer, 0, chunk.length);
        if (!fut_snapshot_each(restore->own ? restore->own : restore->snapshot, area, chunk.first,
                               FUT_WIRE_DISK_MAX >> FUT_UNIT_SHIFT, fill_chunk, &chunk, error)) {
            return false;
        }
        restore->times.disk_bytes += chunk.any ? chunk.length : 0;
        /* Where there is nothing, and was nothing, nothing is written. */
        if ((chunk.any || restore->force) &&
            !write_record(restore, number, chunk.any ? FUT_DISK_WRITE : FUT_DISK_ZEROES, at,
                          chunk.length, chunk.any ? buffer : NULL, error)) {
            return false;
        }
    }
    return write_record(restore, number, FUT_DISK_FLUSH, 0, 0, NULL, error);
}

/* Each disk in turn. */
static bool each_disk(FutRestore *restore,
                      bool (*with)(FutRestore *, unsigned, unsigned, const FutDiskInfo *, uint8_t *,
                                   GError **),
                      GError **error)
{
    FutVmm *vmm = restore->vmm;
    const FutSnapshotInfo *info = fut_snapshot_info(restore->snapshot);
    unsigned disks = 0, count = 0;
    const FutDiskInfo *disk = vmm->ops->disks ? vmm->ops->disks(vmm, &count) : NULL;
    g_autofree uint8_t *buffer = count ? g_malloc(FUT_WIRE_DISK_MAX) : NULL;

    for (unsigned i = 0; i < info->areas->len; i++) {
        if (fut_snapshot_info_nth(info, i)->kind == FUT_AREA_DISK) {
            if (!with(restore, i, disks, &disk[disks], buffer, error)) {
                return false;
            }
            disks++;
        }
    }
    return true;
}

/* -- all of it -- */

void fut_restore_set_lazy(FutRestore *restore, const FutLazyHost *host, void *opaque)
{
    restore->host = host;
    restore->opaque = opaque;
    restore->times.lazy = true;
}

void fut_restore_set_connections(FutRestore *restore, FutConnections what)
{
    restore->connections = what;
}

void fut_restore_set_check(FutRestore *restore)
{
    restore->check = true;
}

void fut_restore_wait(FutRestore *restore)
{
    if (restore->lazy) {
        fut_lazy_wait(restore->lazy);
    }
}

unsigned fut_restore_permille(FutRestore *restore)
{
    FutLazy *lazy = g_atomic_pointer_get(&restore->lazy);

    return lazy ? fut_lazy_permille(lazy) : g_atomic_int_get(&restore->filled) ? 1000 : 0;
}

unsigned fut_restore_faults(FutRestore *restore)
{
    FutLazy *lazy = g_atomic_pointer_get(&restore->lazy);

    return lazy ? fut_lazy_faults(lazy) : 0;
}

unsigned fut_restore_hot(FutRestore *restore)
{
    return restore->lazy ? fut_lazy_hot(restore->lazy) : 0;
}

unsigned fut_restore_codes(const FutRestore *restore)
{
    return restore->codes;
}

static bool give_memory(FutRestore *restore, bool held, GError **error)
{
    FutVmm *vmm = restore->vmm;

    if (!restore->host) {
        return fut_restore_fill(restore->snapshot, vmm->ops->memory(vmm), &restore->times.pages,
                                error);
    }
    FutLazy *lazy = (held ? fut_lazy_new_held
                          : fut_lazy_new)(restore->snapshot, vmm->ops->memory(vmm), restore->hot,
                                          restore->host, restore->opaque, error);
    g_atomic_pointer_set(&restore->lazy, lazy);
    return lazy != NULL;
}

/* Before memory: the snapshot is the lazy thread's from then on. */
static bool read_state(FutRestore *restore, GError **error)
{
    restore->state = fut_snapshot_state(restore->snapshot, &restore->state_length, error);
    return restore->state != NULL;
}

/* What comes on demand comes by this, all of it. */
static bool check_hash(FutRestore *restore, GError **error)
{
    const FutSnapshotInfo *info = fut_snapshot_info(restore->snapshot);

    if (!restore->check) {
        return true;
    }
    if (info->memory_hash == 0) {
        g_set_error(error, FUT_ERROR, FUT_ERR_STATE,
                    "snapshot %" G_GUINT64_FORMAT
                    " has no hash of its memory: take snapshots with --hash, or leave out "
                    "--check-hash",
                    info->id);
        return false;
    }
    uint64_t hash = fut_memory_hash(restore->vmm->ops->memory(restore->vmm));
    restore->times.checked = hash == info->memory_hash;
    if (!restore->times.checked) {
        g_set_error(
            error, FUT_ERROR, FUT_ERR_MISMATCH,
            "snapshot %" G_GUINT64_FORMAT ": memory has the hash %016" G_GINT64_MODIFIER
            "x, and had %016" G_GINT64_MODIFIER
            "x at the cut: verify the store (futago snapshot verify --contents), or restore "
            "another",
            info->id, hash, info->memory_hash);
    }
    return restore->times.checked;
}

/* The guest would run as well without. */
static void begin_flows(FutRestore *restore)
{
    GBytes *flows = fut_snapshot_info(restore->snapshot)->flows;
    g_autoptr(GError) error = NULL;

    if (restore->vmm->engine &&
        !fut_flows_begin(restore->vmm->engine, flows, restore->connections, &error)) {
        g_strlcpy(restore->times.flows_fault, error->message, sizeof(restore->times.flows_fault));
    }
}

static bool start_guest(FutRestore *restore, GError **error)
{
    FutVmm *vmm = restore->vmm;

    if (!vmm->ops->state_load(vmm, restore->state, restore->state_length, error)) {
        return false;
    }
    g_clear_pointer(&restore->state, g_free);
    begin_flows(restore);
    if (!vmm->ops->run(vmm, error)) {
        return false;
    }
    restore->times.run_us = (uint64_t)g_get_real_time();
    vmm->ops->announce(vmm);
    return true;
}

static void finish(FutRestore *restore, uint64_t begin_ns, FutRestoreTimes *ret)
{
    restore->times.total_ns = fut_now_ns() - begin_ns;
    restore->times.time_us = fut_restore_time_us(restore);
    *ret = restore->times;
}

bool fut_restore_do(FutRestore *restore, FutRestoreTimes *ret, GError **error)
{
    uint64_t start_ns = fut_now_ns();

    restore->vmm->ops->settle(restore->vmm);
    if ((!restore->force && !each_disk(restore, check_empty, error)) ||
        !each_disk(restore, fill_disk, error)) {
        return false;
    }
    uint64_t disks_ns = fut_now_ns();
    if (!read_state(restore, error) || !give_memory(restore, false, error)) {
        return false;
    }
    uint64_t memory_ns = fut_now_ns();
    if (!check_hash(restore, error) || !start_guest(restore, error)) {
        return false;
    }
    restore->times.disks_ns = disks_ns - start_ns;
    restore->times.memory_ns = memory_ns - disks_ns;
    finish(restore, start_ns, ret);
    return true;
}

/* -- one that waits -- */

/* The guest would run as well without. */
static void prepare_code(FutRestore *restore)
{
    FutVmm *vmm = restore->vmm;

    if (vmm->ops->code_prepare) {
        g_autoptr(GArray) codes = fut_code_list_decode(fut_snapshot_info(restore->own));
        restore->codes =
            (unsigned)vmm->ops->code_prepare(vmm, (const FutCode *)(void *)codes->data, codes->len);
    }
}

bool fut_restore_prepare(FutRestore *restore, GError **error)
{
    uint64_t start_ns = fut_now_ns();

    restore->vmm->ops->settle(restore->vmm);
    restore->own = fut_snapshot_copy(restore->snapshot);
    if (!read_state(restore, error) || !give_memory(restore, true, error)) {
        return false;
    }
    if (restore->lazy) {
        fut_lazy_wait_hot(restore->lazy);
        g_clear_pointer(&restore->hot, fut_hot_pages_free);
    }
    prepare_code(restore);
    g_atomic_int_set(&restore->filled, TRUE);
    restore->times.ready = true;
    restore->times.memory_ns = fut_now_ns() - start_ns;
    return check_hash(restore, error);
}

/* With all memory in place and no disk nothing is read any more. */
static bool needs_store(const FutRestore *restore)
{
    unsigned count = 0;

    if (restore->vmm->ops->disks) {
        restore->vmm->ops->disks(restore->vmm, &count);
    }
    return restore->lazy || count > 0;
}

bool fut_restore_claim(FutRestore *restore, GError **error)
{
    FutVmm *vmm = restore->vmm;

    if (needs_store(restore) && !fut_snapshot_reachable(restore->own, error)) {
        return false;
    }
    if (vmm->ops->disks_claim && !vmm->ops->disks_claim(vmm, error)) {
        return false;
    }
    if (!restore->force && !each_disk(restore, check_empty, error)) {
        fut_restore_yield(restore);
        return false;
    }
    return true;
}

void fut_restore_yield(FutRestore *restore)
{
    if (restore->vmm->ops->disks_yield) {
        restore->vmm->ops->disks_yield(restore->vmm);
    }
}

bool fut_restore_go(FutRestore *restore, uint64_t begin_ns, FutRestoreTimes *ret, GError **error)
{
    uint64_t start_ns = fut_now_ns();

    if (!each_disk(restore, fill_disk, error)) {
        return false;
    }
    restore->times.disks_ns = fut_now_ns() - start_ns;
    if (!start_guest(restore, error)) {
        return false;
    }
    finish(restore, begin_ns, ret);
    return true;
}

void fut_restore_fetch_rest(FutRestore *restore)
{
    if (restore->lazy) {
        fut_lazy_go(restore->lazy);
    }
}

uint64_t fut_restore_id(const FutRestore *restore)
{
    return restore->times.id;
}

uint64_t fut_restore_time_us(const FutRestore *restore)
{
    return fut_snapshot_info(restore->own ? restore->own : restore->snapshot)->time_us;
}
