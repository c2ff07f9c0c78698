/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A field that is more than a range of its structure: behind pointers, of variable length, or of a
 * type that only its own function can write. As QEMU's vmstate_save_state_v() does it.
 */
#include "qstate.h"

/* What QEMU writes for a null pointer in an array of pointers. */
static const uint8_t null_marker = VMS_NULLPTR_MARKER;

static int count_of(const VMStateField *field, const uint8_t *opaque)
{
    const uint8_t *at = opaque + field->num_offset;
    int count = 1;

    if (field->flags & VMS_ARRAY) {
        count = field->num;
    } else if (field->flags & VMS_VARRAY_INT32) {
        count = (int32_t)ldl_he_p(at);
    } else if (field->flags & VMS_VARRAY_UINT32) {
        count = (int)ldl_he_p(at);
    } else if (field->flags & VMS_VARRAY_UINT16) {
        count = (uint16_t)lduw_he_p(at);
    } else if (field->flags & VMS_VARRAY_UINT8) {
        count = *at;
    }
    return field->flags & VMS_MULTIPLY_ELEMENTS ? count * field->num : count;
}

static int size_of(const VMStateField *field, const uint8_t *opaque)
{
    int size = field->size;

    if (field->flags & VMS_VBUFFER) {
        size = (int)ldl_he_p(opaque + field->size_offset);
        if (field->flags & VMS_MULTIPLY) {
            size *= field->size;
        }
    }
    return size;
}

static bool run_put(FutQrun *run, const VMStateField *field, void *element, size_t size)
{
    QEMUFile *file = fut_qrun_put(run);

    return field->info->put(file, element, size, field, NULL) == 0 && fut_qrun_put_done(run);
}

/* A structure that exists for the stream only; it begins with a pointer to the real one. */
static bool run_temporary(FutQrun *run, const FutQop *op, void *element, size_t size)
{
    size_t used = run->scratch_used;
    size_t room = ROUND_UP(size, 16);

    if (room > sizeof(run->scratch) - used) {
        return run_put(run, op->field, element, size);
    }
    void *temporary = run->scratch + used;
    run->scratch_used += room;
    *(void **)temporary = element;
    bool ok = fut_qrun_code(run, op->code, temporary);
    run->scratch_used = used;
    return ok;
}

static bool run_element(FutQrun *run, const FutQop *op, void *element, int size)
{
    const VMStateField *field = op->field;
    FutQopKind kind;
    unsigned count;
    size_t length;

    if (!element && size) {
        return fut_qrun_bytes(run, &null_marker, 1);
    }
    if (field->flags & (VMS_STRUCT | VMS_VSTRUCT)) {
        return fut_qrun_code(run, op->code, element);
    }
    if (field->info == &vmstate_info_tmp) {
        return run_temporary(run, op, element, size);
    }
    if (op->type == FUT_QCODE_OTHER) {
        return run_put(run, field, element, size);
    }
    fut_qcode_plain(op->type, size, &kind, &count, &length);
    return fut_qrun_plain(run, kind, element, count);
}

/* All elements at once, where they are one range. */
static bool is_range(const FutQop *op, int size, FutQopKind *ret_kind, unsigned *ret_count)
{
    size_t length;

    if (op->type == FUT_QCODE_OTHER || size <= 0 ||
        (op->field->flags & (VMS_STRUCT | VMS_VSTRUCT | VMS_ARRAY_OF_POINTER))) {
        return false;
    }
    fut_qcode_plain(op->type, size, ret_kind, ret_count, &length);
    return length == (size_t)size;
}

bool fut_qfield_run(FutQrun *run, const FutQop *op, uint8_t *opaque)
{
    const VMStateField *field = op->field;
    uint8_t *first = opaque + field->offset;
    int count = count_of(field, opaque);
    int size = size_of(field, opaque);
    FutQopKind kind;
    unsigned units;

    if (field->flags & VMS_POINTER) {
        first = *(uint8_t **)first;
    }
    if (first && count > 0 && is_range(op, size, &kind, &units)) {
        return fut_qrun_plain(run, kind, first, (size_t)units * count);
    }
    for (int i = 0; i < count; i++) {
        uint8_t *element = first + (ssize_t)size * i;
        if (field->flags & VMS_ARRAY_OF_POINTER) {
            element = *(uint8_t **)element;
        }
        if (!run_element(run, op, element, size)) {
            return false;
        }
    }
    return true;
}
