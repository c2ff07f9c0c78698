/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Carries out what qstate_code.c has made of a description, into the image. */
#include "qstate.h"

#include <sys/mman.h>

/* Tables of structures from this size on are compared before they are written. */
#define TABLE_MIN 1024
/* Source bytes of a table are kept in multiples of this. */
#define TABLE_GRAIN 64

void fut_qrun_init(FutQrun *run, FutQcodes *codes)
{
    run->codes = codes;
    run->virtio = g_hash_table_new_full(NULL, NULL, NULL, g_free);
    run->tables = g_array_new(FALSE, TRUE, sizeof(FutQtable));
    run->image = mmap(NULL, FUT_QSTATE_MAX, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    g_assert(run->image != MAP_FAILED);
    run->number = 2;
}

void fut_qrun_begin(FutQrun *run)
{
    run->number++;
    run->length = 0;
    run->table = 0;
    run->puts = 0;
    run->scratch_used = 0;
}

void fut_qrun_forget(FutQrun *run)
{
    run->number++;
}

/* -- bytes -- */

/* The bytes there are not what they were in the run before. */
static void changed(FutQrun *run, const uint8_t *at, size_t length)
{
    size_t first = (at - run->image) >> FUT_PAGE_SHIFT;
    size_t last = (at - run->image + length - 1) >> FUT_PAGE_SHIFT;

    for (size_t page = first; page <= last; page++) {
        run->changed[page / 64] |= 1ull << page % 64;
    }
}

/* Where the next bytes go; NULL if the image gets too long. */
static uint8_t *take(FutQrun *run, size_t length)
{
    if (length > FUT_QSTATE_MAX - run->length) {
        return NULL;
    }
    uint8_t *at = run->image + run->length;
    run->length += length;
    return at;
}

bool fut_qrun_bytes(FutQrun *run, const void *bytes, size_t length)
{
    uint8_t *to = take(run, length);

    if (to && memcmp(to, bytes, length) != 0) {
        memcpy(to, bytes, length);
        changed(run, to, length);
    }
    return to != NULL;
}

static bool put_zeros(FutQrun *run, size_t length)
{
    uint8_t *to = take(run, length);

    if (to && length > 0 && !buffer_is_zero(to, length)) {
        memset(to, 0, length);
        changed(run, to, length);
    }
    return to != NULL;
}

static bool put_be16(FutQrun *run, const uint8_t *from, size_t count)
{
    uint8_t *to = take(run, 2 * count);
    uint16_t difference = 0;

    for (size_t i = 0; to && i < count; i++) {
        uint16_t value = cpu_to_be16(lduw_he_p(from + 2 * i));
        difference |= value ^ (uint16_t)lduw_he_p(to + 2 * i);
        stw_he_p(to + 2 * i, value);
    }
    if (difference) {
        changed(run, to, 2 * count);
    }
    return to != NULL;
}

static bool put_be32(FutQrun *run, const uint8_t *from, size_t count)
{
    uint8_t *to = take(run, 4 * count);
    uint32_t difference = 0;

    for (size_t i = 0; to && i < count; i++) {
        uint32_t value = cpu_to_be32(ldl_he_p(from + 4 * i));
        difference |= value ^ (uint32_t)ldl_he_p(to + 4 * i);
        stl_he_p(to + 4 * i, value);
    }
    if (difference) {
        changed(run, to, 4 * count);
    }
    return to != NULL;
}

static bool put_be64(FutQrun *run, const uint8_t *from, size_t count)
{
    uint8_t *to = take(run, 8 * count);
    uint64_t difference = 0;

    for (size_t i = 0; to && i < count; i++) {
        uint64_t value = cpu_to_be64(ldq_he_p(from + 8 * i));
        difference |= value ^ (uint64_t)ldq_he_p(to + 8 * i);
        stq_he_p(to + 8 * i, value);
    }
    if (difference) {
        changed(run, to, 8 * count);
    }
    return to != NULL;
}

bool fut_qrun_plain(FutQrun *run, FutQopKind kind, const void *from, size_t count)
{
    switch (kind) {
    case FUT_QOP_BYTES:
        return fut_qrun_bytes(run, from, count);
    case FUT_QOP_BE16:
        return put_be16(run, from, count);
    case FUT_QOP_BE32:
        return put_be32(run, from, count);
    case FUT_QOP_BE64:
        return put_be64(run, from, count);
    case FUT_QOP_ZEROS:
        return put_zeros(run, count);
    default:
        g_assert_not_reached();
    }
}

bool fut_qrun_put_done(FutQrun *run)
{
    return fut_qfile_end(&run->file) &&
           fut_qrun_bytes(run, fut_qfile_data(&run->file), fut_qfile_length(&run->file));
}

/* -- tables -- */

static FutQtable *next_table(FutQrun *run)
{
    if (run->table == run->tables->len) {
        g_array_set_size(run->tables, run->tables->len + 1);
    }
    return &g_array_index(run->tables, FutQtable, run->table++);
}

/*
 * What the run before wrote at this place is still there: since then nobody wrote behind it, and
 * this run has written up to here only.
 */
static bool in_place(const FutQrun *run, const FutQtable *table, const void *op, const void *source)
{
    return table->number == run->number - 1 && table->op == op && table->source == source &&
           table->at == run->length;
}

static bool table_skip(FutQrun *run, FutQtable *table)
{
    table->number = run->number;
    return take(run, table->length) != NULL;
}

static void table_wrote(FutQrun *run, FutQtable *table, const void *op, const void *source,
                        size_t at)
{
    table->op = op;
    table->source = source;
    table->at = at;
    table->length = run->length - at;
    table->number = run->number;
}

static bool source_same(const FutQtable *table, const uint8_t *source)
{
    return memcmp(source, table->copy, table->kept) == 0 &&
           (table->kept == table->size ||
            buffer_is_zero(source + table->kept, table->size - table->kept));
}

static void keep_source(FutQtable *table, const uint8_t *source, size_t size)
{
    size_t kept = size;

    while (kept >= TABLE_GRAIN && buffer_is_zero(source + kept - TABLE_GRAIN, TABLE_GRAIN)) {
        kept -= TABLE_GRAIN;
    }
    table->copy = g_realloc(table->copy, kept);
    memcpy(table->copy, source, kept);
    table->kept = kept;
    table->size = size;
}

static bool run_structs(FutQrun *run, const FutQop *op, uint8_t *first)
{
    for (unsigned i = 0; i < op->count; i++) {
        if (!fut_qrun_code(run, op->code, first + i * op->stride)) {
            return false;
        }
    }
    return true;
}

static bool run_table(FutQrun *run, const FutQop *op, uint8_t *first)
{
    FutQtable *table = next_table(run);
    size_t at = run->length;

    if (in_place(run, table, op, first) && source_same(table, first)) {
        return table_skip(run, table);
    }
    /* Pure structures use no table: this one stays where it is. */
    if (!run_structs(run, op, first)) {
        return false;
    }
    keep_source(table, first, op->count * op->stride);
    table_wrote(run, table, op, first, at);
    return true;
}

bool fut_qrun_zeros(FutQrun *run, const void *key, size_t length)
{
    FutQtable *table = next_table(run);
    size_t at = run->length;

    if (in_place(run, table, NULL, key) && table->length == length) {
        return table_skip(run, table);
    }
    if (!put_zeros(run, length)) {
        return false;
    }
    table_wrote(run, table, NULL, key, at);
    return true;
}

/* -- operations -- */

static bool run_timer(FutQrun *run, QEMUTimer *timer)
{
    uint64_t expires = timer_expire_time_ns(timer);

    return put_be64(run, (const uint8_t *)&expires, 1);
}

static bool run_op(FutQrun *run, const FutQop *op, uint8_t *opaque)
{
    uint8_t *at = opaque + op->offset;

    switch (op->kind) {
    case FUT_QOP_CONST:
        return fut_qrun_bytes(run, op->bytes, op->count);
    case FUT_QOP_TIMER:
        return run_timer(run, (QEMUTimer *)at);
    case FUT_QOP_CALL:
        return op->call(at) == 0;
    case FUT_QOP_DEMAND:
        return op->exists(at, op->version);
    case FUT_QOP_STRUCTS:
        return op->code->pure && op->count * op->stride >= TABLE_MIN ? run_table(run, op, at)
                                                                     : run_structs(run, op, at);
    case FUT_QOP_FIELD:
        return fut_qfield_run(run, op, at);
    case FUT_QOP_VIRTIO:
        return fut_qvirtio_run(run, (VirtIODevice *)at);
    default:
        return fut_qrun_plain(run, op->kind, at, op->count);
    }
}

bool fut_qrun_code(FutQrun *run, const FutQcode *code, void *opaque)
{
    const FutQop *ops = code->ops;
    unsigned count = code->count;

    for (unsigned i = 0; i < count;) {
        const FutQop *op = &ops[i++];
        if (op->kind == FUT_QOP_NEEDED) {
            i = op->needed((uint8_t *)opaque + op->offset) ? i : op->next;
        } else if (op->kind == FUT_QOP_EXISTS) {
            i = op->exists((uint8_t *)opaque + op->offset, op->version) ? i : op->next;
        } else if (!run_op(run, op, opaque)) {
            return false;
        }
    }
    return true;
}
