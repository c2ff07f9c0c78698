/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The image of the device state: section after section, as qemu_save_device_state() would write it,
 * and checked against that.
 */
#include "qstate.h"

#include "fut_log.h"

/* So many checkpoints are checked at first, whatever is asked for. */
#define FIRST_CHECKS 16
/* A clock of the host may tick between our run and QEMU's: then both are made again. */
#define TRIES 4
/* Most devices' state is shorter. */
#define PREPARED_BYTES (256u << 10)
/* Of these in one go: the guest may wait for the big lock meanwhile. */
#define PREPARE_STEP ((size_t)16 << 10)

static const uint8_t stream_head[] = { 'Q', 'E', 'V', 'M', 0, 0, 0, 3 };
static const uint8_t stream_end[] = { 0 };

FutQstate *fut_qstate_new(void)
{
    FutQstate *state = g_new0(FutQstate, 1);

    fut_qrun_init(&state->run, &state->codes);
    return state;
}

void fut_qstate_forget(FutQstate *state)
{
    fut_qrun_forget(&state->run);
    g_hash_table_remove_all(state->run.virtio);
}

static void give_up(FutQstate *state, const char *why)
{
    if (!state->off) {
        fut_log(FUT_LOG_WARN, "FUT-201",
                "QEMU saves all of its devices at each checkpoint, which is slower: %s", why);
    }
    state->off = true;
}

/* -- one image -- */

/* As QEMU does with a whole section. */
static bool put_section(FutQrun *run, const FutQemuEntry *entry)
{
    QEMUFile *file = fut_qrun_put(run);

    if (!entry->vmsd) {
        entry->ops->save_state(file, entry->opaque);
    } else if (vmstate_save_state(file, entry->vmsd, entry->opaque, NULL) != 0) {
        return false;
    }
    return fut_qrun_put_done(run);
}

static bool run_section(FutQrun *run, FutQsection *section)
{
    section->at = run->length;
    if (!section->saved || (section->needed && !section->needed(section->opaque))) {
        return true;
    }
    return fut_qrun_bytes(run, section->head, section->head_length) &&
           (section->stock || !section->code
                ? put_section(run, section->entry)
                : fut_qrun_code(run, section->code, section->opaque)) &&
           fut_qrun_bytes(run, section->foot, sizeof(section->foot));
}

static bool run_all(FutQstate *state)
{
    FutQrun *run = &state->run;

    fut_qrun_begin(run);
    bool ok = fut_qrun_bytes(run, stream_head, sizeof(stream_head));
    for (guint i = 0; ok && i < state->sections->len; i++) {
        ok = run_section(run, &g_array_index(state->sections, FutQsection, i));
    }
    ok = ok && fut_qrun_bytes(run, stream_end, sizeof(stream_end));
    if (!ok) {
        fut_qrun_forget(run);
    }
    return ok;
}

/* -- QEMU's own -- */

static bool run_stock(FutQstate *state)
{
    int result = qemu_save_device_state(fut_qfile_begin(&state->stock));

    return fut_qfile_end(&state->stock) && result == 0;
}

/* But for what QEMU itself saves differently each time. */
static bool images_equal(const FutQstate *state)
{
    const uint8_t *image = state->run.image, *stock = fut_qfile_data(&state->stock);
    size_t length = fut_qfile_length(&state->stock), from = 0;

    if (state->run.length != length) {
        return false;
    }
    for (guint i = 0; i + 1 < state->sections->len; i++) {
        const FutQsection *section = &g_array_index(state->sections, FutQsection, i);
        if (!section->restless) {
            continue;
        }
        if (memcmp(image + from, stock + from, section->at - from) != 0) {
            return false;
        }
        from = section[1].at;
    }
    return memcmp(image + from, stock + from, length - from) == 0;
}

/* Both images of the same moment, in state->run and state->stock. */
static bool compare(FutQstate *state, bool *ret_equal)
{
    *ret_equal = false;
    for (int i = 0; i < TRIES; i++) {
        if (!state->stock_fresh && !run_stock(state)) {
            return false;
        }
        state->stock_fresh = false;
        if (images_equal(state) || (run_all(state) && images_equal(state))) {
            *ret_equal = true;
            return true;
        }
    }
    return true;
}

static void blame(FutQstate *state)
{
    FutQsection *culprit =
        fut_qcheck_culprit(state->sections, &state->run, fut_qfile_data(&state->stock),
                           fut_qfile_length(&state->stock));

    if (culprit && culprit->stock && !culprit->restless) {
        /* Both came from the same functions of QEMU's: it is not ours that is wrong. */
        culprit->restless = true;
        return;
    }
    state->stats.mismatches++;
    if (!culprit || culprit->stock) {
        give_up(state, "the fast image of the device state differs from QEMU's");
        return;
    }
    culprit->stock = true;
    state->stats.stock++;
    fut_log(
        FUT_LOG_WARN, "FUT-202",
        "the fast image of device section %s differs from QEMU's: from now on QEMU saves it; please report this as a bug",
        culprit->entry->idstr);
}

/* False: the image must not be used. */
static bool check(FutQstate *state)
{
    bool equal;

    state->stats.checks++;
    while (!state->off) {
        if (!compare(state, &equal)) {
            return false;
        }
        if (equal) {
            return true;
        }
        blame(state);
        if (!run_all(state)) {
            return false;
        }
    }
    return false;
}

/* -- beginning -- */

static void translate(FutQstate *state)
{
    state->stats.sections = state->stats.stock = 0;
    for (guint i = 0; i < state->sections->len; i++) {
        FutQsection *section = &g_array_index(state->sections, FutQsection, i);
        const VMStateDescription *vmsd = section->entry->vmsd;
        if (section->saved && vmsd) {
            section->needed = vmsd->needed;
            section->code = fut_qcode_get(&state->codes, vmsd, vmsd->version_id);
        } else if (section->saved) {
            section->saved = section->entry->ops->save_state != NULL;
        }
        state->stats.sections += section->saved;
        state->stats.stock += section->saved && !vmsd;
    }
}

static bool find_sections(FutQstate *state)
{
    const char *why = "";

    if (migration_in_colo_state() || !run_stock(state)) {
        return false;
    }
    state->sections = fut_qlist_find(&state->codes, fut_qfile_data(&state->stock),
                                     fut_qfile_length(&state->stock), &why);
    if (!state->sections) {
        give_up(state, why);
        return false;
    }
    translate(state);
    state->stock_fresh = true;
    return true;
}

static bool ready(FutQstate *state)
{
    if (state->sections && !fut_qlist_same(state->sections)) {
        g_clear_pointer(&state->sections, fut_qlist_free);
        fut_qstate_forget(state);
        state->saves = 0;
    }
    return state->sections || find_sections(state);
}

static bool check_is_due(const FutQstate *state, unsigned check_every)
{
    return state->saves <= FIRST_CHECKS || (check_every > 0 && state->saves % check_every == 0);
}

/* The engine takes whole pages, and learns which of them are new to it. */
static void hand_out(FutQstate *state, FutStateImage *ret)
{
    FutQrun *run = &state->run;
    size_t end = ROUND_UP(run->length, FUT_PAGE_SIZE);
    size_t pages = end >> FUT_PAGE_SHIFT;

    if (end > run->length && !buffer_is_zero(run->image + run->length, end - run->length)) {
        memset(run->image + run->length, 0, end - run->length);
        bitmap_set((unsigned long *)run->changed, pages - 1, 1);
    }
    size_t known = ROUND_UP(state->known, FUT_PAGE_SIZE) >> FUT_PAGE_SHIFT;
    if (known < pages) {
        bitmap_set((unsigned long *)run->changed, known, pages - known);
    }
    *ret = (FutStateImage){ run->image, run->length, run->changed };
    state->known = run->length;
}

bool fut_qstate_prepare(FutQstate *state, size_t *touched)
{
    uint8_t *at = state->run.image + *touched;
    size_t left = PREPARED_BYTES;

    if (state->saves > 0 || state->sections || state->off) {
        return false;
    }
    if (*touched == PREPARED_BYTES) {
        fut_qfile_begin(&state->stock);
    }
    if (*touched >= PREPARED_BYTES) {
        at = state->stock.buffer->data + (*touched - PREPARED_BYTES);
        left += state->stock.buffer->capacity;
    }
    size_t length = MIN(PREPARE_STEP, left - *touched);
    memset(at, 0, length);
    *touched += length;
    return *touched <= PREPARED_BYTES || *touched < left;
}

bool fut_qstate_save(FutQstate *state, unsigned check_every, FutStateImage *ret)
{
    state->stock_fresh = false;
    if (state->off || !ready(state)) {
        return false;
    }
    memset(state->run.changed, 0, sizeof(state->run.changed));
    cpu_synchronize_all_states();
    if (!run_all(state)) {
        return false;
    }
    state->saves++;
    if (check_is_due(state, check_every) && !check(state)) {
        return false;
    }
    hand_out(state, ret);
    return true;
}

int fut_qstate_save_stock(FutQstate *state, FutStateImage *ret)
{
    FutQfile *file = &state->stock;
    int result = qemu_save_device_state(fut_qfile_begin(file));

    if (result == 0) {
        result = qemu_file_get_error(file->file);
    }
    state->known = 0;
    if (!fut_qfile_end(file) || result < 0) {
        fut_qfile_close(file);
        return result < 0 ? result : -EIO;
    }
    size_t length = fut_qfile_length(file);
    if (!fut_qfile_pad(file)) {
        return -EIO;
    }
    *ret = (FutStateImage){ file->buffer->data, length, NULL };
    return 0;
}
