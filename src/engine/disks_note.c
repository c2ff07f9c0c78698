/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The notes beside the disks' images (disk_note.h), so that after an end of both processes, too, only what changed is copied again.
 *
 * What makes it exact:
 *  - A primary's note has a chunk before the guest's write to it is carried out, safe from a power cut; until then the write waits.
 *    It loses a chunk only when the backup said that all that was ever sent of it is safe there, and that mark was put into the note.
 *  - A backup's note names an image when all that was sent before a mark is safe on its disks; what comes later are chunks that the
 *    primary's note has. It is made void before the image becomes another, or a guest runs on it.
 *  - The two are believed when they name the same image and the backup's mark is the primary's, or the one after it, whose answer got
 *    lost: a copy of an older state of either has other marks.
 *  - A note is void when anybody else touched the image, when it belongs to the other role or to another disk, or is not whole. */
#include "byteorder.h"
#include "disk_note.h"
#include "disks.h"
#include "engine_internal.h"

static void put_note(FutEngine *engine, unsigned disk, FutRole role, uint64_t image, uint64_t mark)
{
    const FutDiskMap *map = &engine->disks.map[disk];
    FutDiskNote note = { map->length, map->shift, disk, role, image, mark };
    fut_disk_note_put(engine->disks.note[disk], &note);
}

static void drop_all(FutEngine *engine)
{
    FutDisks *disks = &engine->disks;
    for (unsigned i = 0; i < disks->count; i++) {
        engine->vmm->ops->disk_note_drop(engine->vmm, i);
    }
    g_mutex_lock(&engine->lock);
    disks->has_notes = disks->noting = false;
    g_mutex_unlock(&engine->lock);
    engine->host->report(
        engine->opaque, "FUT-198",
        "what changes on the disks cannot be noted beside their images: when this process has ended, its twin gets "
        "a full copy");
}

static bool sync_all(FutEngine *engine)
{
    for (unsigned i = 0; i < engine->disks.count; i++) {
        if (!engine->vmm->ops->disk_note_sync(engine->vmm, i)) {
            drop_all(engine);
            return false;
        }
    }
    return true;
}

bool fut_disks_note_all(FutEngine *engine, FutRole role, uint64_t image, uint64_t mark)
{
    if (!engine->disks.has_notes) {
        return false;
    }
    for (unsigned i = 0; i < engine->disks.count; i++) {
        put_note(engine, i, role, image, mark);
    }
    return sync_all(engine);
}

/* -- at the start -- */

static bool fits(const FutEngine *engine, unsigned disk, FutDiskNote *ret)
{
    const FutDiskMap *map = &engine->disks.map[disk];
    return fut_disk_note_get(engine->disks.note[disk], ret) && ret->length == map->length &&
           ret->shift == map->shift && ret->disk == disk && ret->role == engine->config.role &&
           ret->image != 0;
}

/* Do they all speak of one image? *ret_mark: of a primary the newest, of a backup the oldest. */
static bool agree(const FutEngine *engine, FutDiskNote *ret)
{
    FutDiskNote note;
    if (!fits(engine, 0, ret)) {
        return false;
    }
    for (unsigned i = 1; i < engine->disks.count; i++) {
        if (!fits(engine, i, &note) || note.image != ret->image) {
            return false;
        }
        ret->mark =
            ret->role == FUT_ROLE_PRIMARY ? MAX(ret->mark, note.mark) : MIN(ret->mark, note.mark);
    }
    return true;
}

static bool differs(void *opaque, uint64_t chunk)
{
    return fut_disk_note_differs(opaque, chunk);
}

static bool open_notes(FutEngine *engine, bool *ret_same)
{
    FutDisks *disks = &engine->disks;
    *ret_same = true;
    disks->note = g_new0(uint8_t *, disks->count);
    for (unsigned i = 0; i < disks->count; i++) {
        bool same = false;
        disks->note[i] =
            engine->vmm->ops->disk_note(engine->vmm, i, fut_disk_note_size(&disks->map[i]), &same);
        if (!disks->note[i]) {
            return false;
        }
        *ret_same &= same;
    }
    return true;
}

/* A shared disk has no image of the twin's own; where there is one, nothing is noted of the others either. */
static bool any_shared(const FutDisks *disks)
{
    for (unsigned i = 0; i < disks->count; i++) {
        if (disks->info[i].shared) {
            return true;
        }
    }
    return false;
}

void fut_disks_note_open(FutEngine *engine)
{
    FutDisks *disks = &engine->disks;
    FutRole role = engine->config.role;
    FutDiskNote note;
    bool same;
    if (disks->count == 0 || !engine->vmm->ops->disk_note || any_shared(disks)) {
        return;
    }
    disks->has_notes = open_notes(engine, &same);
    if (!disks->has_notes) {
        for (unsigned i = 0; i < disks->count && disks->note[i]; i++) {
            engine->vmm->ops->disk_note_drop(engine->vmm, i);
        }
        return;
    }
    /* What is noted is of an image that a restore overwrites. */
    if (!same || engine->config.restored || !agree(engine, &note)) {
        fut_disks_note_all(engine, role, 0, 0);
        return;
    }
    disks->image = note.image;
    disks->mark = disks->mark_sent = note.mark;
    if (role == FUT_ROLE_PRIMARY) {
        for (unsigned i = 0; i < disks->count; i++) {
            fut_disk_map_load(&disks->map[i], differs, disks->note[i]);
        }
        disks->noting = true;
    }
}

/* -- a primary's; disk thread -- */

/* The twin gets a new image: all may differ. In between nothing is known. */
static void note_reset(FutEngine *engine, uint64_t image)
{
    FutDisks *disks = &engine->disks;
    bool noted = fut_disks_note_all(engine, FUT_ROLE_PRIMARY, 0, 0);
    for (unsigned i = 0; i < disks->count && noted; i++) {
        fut_disk_note_set_all(disks->note[i], &disks->map[i]);
    }
    noted = noted && sync_all(engine) && fut_disks_note_all(engine, FUT_ROLE_PRIMARY, image, 0);
    g_mutex_lock(&engine->lock);
    for (unsigned i = 0; i < disks->count && noted; i++) {
        memset(disks->map[i].flags, FUT_CHUNK_NOTED | FUT_CHUNK_RECENT, disks->map[i].chunks);
    }
    disks->noting = noted;
    disks->reset_due = false;
    g_mutex_unlock(&engine->lock);
}

static void note_chunks(FutEngine *engine, unsigned disk, GArray *chunks)
{
    FutDisks *disks = &engine->disks;
    for (guint i = 0; i < chunks->len && disks->has_notes; i++) {
        fut_disk_note_set(disks->note[disk], g_array_index(chunks, uint64_t, i), true);
    }
    if (disks->has_notes && !engine->vmm->ops->disk_note_sync(engine->vmm, disk)) {
        drop_all(engine);
    }
    g_mutex_lock(&engine->lock);
    for (guint i = 0; i < chunks->len; i++) {
        disks->map[disk].flags[g_array_index(chunks, uint64_t, i)] |= FUT_CHUNK_NOTED;
    }
    g_mutex_unlock(&engine->lock);
}

static void clean(void *opaque, uint64_t chunk)
{
    if (opaque) {
        fut_disk_note_set(opaque, chunk, false);
    }
}

/* The mark first: what is taken out of the note is known to be safe since then. */
static void note_safe(FutEngine *engine, uint64_t mark)
{
    FutDisks *disks = &engine->disks;
    /* Here it has to be safe, too, before it counts as the same on both. */
    bool noted = disks->noting && fut_disks_flush(engine, NULL) &&
                 fut_disks_note_all(engine, FUT_ROLE_PRIMARY, disks->image, mark);
    g_mutex_lock(&engine->lock);
    for (unsigned i = 0; i < disks->count; i++) {
        fut_disk_map_clean(&disks->map[i], clean, noted ? disks->note[i] : NULL);
    }
    disks->safe_due = disks->mark_out = false;
    g_mutex_unlock(&engine->lock);
}

/* A backup's image becomes another. */
static void note_void(FutEngine *engine)
{
    fut_disks_note_all(engine, FUT_ROLE_BACKUP, 0, 0);
    g_mutex_lock(&engine->lock);
    engine->disks.void_due = false;
    fut_engine_changed(engine);
    g_mutex_unlock(&engine->lock);
}

static GArray *take_unnoted(FutEngine *engine, unsigned *ret_disk)
{
    FutDisks *disks = &engine->disks;
    for (*ret_disk = 0; *ret_disk < disks->count; (*ret_disk)++) {
        FutDiskMap *map = &disks->map[*ret_disk];
        if (map->unnoted->len > 0) {
            GArray *taken = map->unnoted;
            map->unnoted = g_array_new(FALSE, FALSE, sizeof(uint64_t));
            return taken;
        }
    }
    return NULL;
}

bool fut_disks_note_step(FutEngine *engine)
{
    FutDisks *disks = &engine->disks;
    unsigned disk;
    g_mutex_lock(&engine->lock);
    bool reset = disks->reset_due, safe = disks->safe_due, no_image = disks->void_due;
    uint64_t image = disks->image, mark = disks->mark;
    g_autoptr(GArray) chunks = reset || safe ? NULL : take_unnoted(engine, &disk);
    g_mutex_unlock(&engine->lock);
    if (no_image) {
        note_void(engine);
    } else if (reset) {
        note_reset(engine, image);
    } else if (safe) {
        note_safe(engine, mark);
    } else if (chunks) {
        note_chunks(engine, disk, chunks);
    }
    return no_image || reset || safe || chunks;
}

/* -- marks; primary -- */

bool fut_disks_mark(FutEngine *engine, uint64_t epoch, FutDiskHead *ret)
{
    FutDisks *disks = &engine->disks;
    if (!disks->sending || disks->mark_out || disks->safe_due || disks->reset_due ||
        disks->on_the_way > 0 || disks->unmarked_bytes == 0 || any_shared(disks)) {
        return false;
    }
    for (unsigned i = 0; i < disks->count; i++) {
        fut_disk_map_mark(&disks->map[i]);
    }
    disks->mark_out = true;
    disks->mark_sent = disks->mark + 1;
    disks->unmarked_bytes = 0;
    *ret = (FutDiskHead){ .epoch = epoch, .offset = disks->mark_sent, .kind = FUT_DISK_MARK };
    return true;
}

/* With the lock held. */
void fut_disks_mark_safe(FutEngine *engine)
{
    FutDisks *disks = &engine->disks;
    for (unsigned i = 0; i < disks->count; i++) {
        fut_disk_map_safe(&disks->map[i]);
    }
    disks->mark = disks->mark_sent;
    disks->safe_due = true;
}

void fut_disks_safe(FutEngine *engine, const FutFrame *frame)
{
    FutDisks *disks = &engine->disks;
    g_mutex_lock(&engine->lock);
    bool expected =
        disks->mark_out && !disks->safe_due && fut_get_le64(frame->body) == disks->mark_sent;
    if (expected) {
        fut_disks_mark_safe(engine);
    }
    g_mutex_unlock(&engine->lock);
    if (expected) {
        engine->host->disk(engine->opaque);
    }
}
