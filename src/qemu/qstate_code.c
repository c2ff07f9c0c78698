/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Translates QEMU's descriptions of devices into operations over ranges of memory. What QEMU's
 * interpreter does with a field is migration/vmstate.c, vmstate_save_state_v(); what it writes for
 * each type is migration/vmstate-types.c.
 */
#include "qstate.h"

#include "hw/virtio/virtio.h"

/* Structures inside structures become part of the outer list up to this number of elements. */
#define INLINE_MAX 4
/* Memory for translations is taken in pieces of this size. */
#define ROOM (256 * 1024)
/* QEMU's marker of a subsection. */
#define SUBSECTION 0x05

typedef struct {
    const VMStateDescription *vmsd;
    int version;
} FutQcodeKey;

typedef struct {
    FutQcodes *codes;
    GArray *ops;
    guint
        joinable; /* operations before this one may be a jump's target: nothing is added to them */
} Translation;

static void add_description(Translation *to, const VMStateDescription *vmsd, int version,
                            size_t offset);

/* -- memory -- */

void *fut_qcode_keep(FutQcodes *codes, const void *bytes, size_t length)
{
    if (length > codes->room_size) {
        codes->room_size = MAX(ROOM, length);
        codes->room = g_malloc(codes->room_size);
    }
    void *at = memcpy(codes->room, bytes, length);
    size_t taken = MIN(ROUND_UP(length, 8), codes->room_size);
    codes->room += taken;
    codes->room_size -= taken;
    return at;
}

/* -- types -- */

typedef struct {
    const VMStateInfo *info;
    FutQopKind kind;
    unsigned width; /* 0: the field's size */
} PlainType;

static const PlainType plain_types[] = {
    { &vmstate_info_bool, FUT_QOP_BYTES, 1 },
    { &vmstate_info_int8, FUT_QOP_BYTES, 1 },
    { &vmstate_info_int16, FUT_QOP_BE16, 2 },
    { &vmstate_info_int32, FUT_QOP_BE32, 4 },
    { &vmstate_info_int64, FUT_QOP_BE64, 8 },
    { &vmstate_info_uint8_equal, FUT_QOP_BYTES, 1 },
    { &vmstate_info_uint16_equal, FUT_QOP_BE16, 2 },
    { &vmstate_info_int32_equal, FUT_QOP_BE32, 4 },
    { &vmstate_info_uint32_equal, FUT_QOP_BE32, 4 },
    { &vmstate_info_uint64_equal, FUT_QOP_BE64, 8 },
    { &vmstate_info_int32_le, FUT_QOP_BE32, 4 },
    { &vmstate_info_uint8, FUT_QOP_BYTES, 1 },
    { &vmstate_info_uint16, FUT_QOP_BE16, 2 },
    { &vmstate_info_uint32, FUT_QOP_BE32, 4 },
    { &vmstate_info_uint64, FUT_QOP_BE64, 8 },
    { &vmstate_info_cpudouble, FUT_QOP_BE64, 8 },
    { &vmstate_info_buffer, FUT_QOP_BYTES, 0 },
    { &vmstate_info_unused_buffer, FUT_QOP_ZEROS, 0 },
};

/* Types are numbered by their place in the table, from one; a bitmap comes last. */
#define TYPE_BITMAP (G_N_ELEMENTS(plain_types) + 1)

uint32_t fut_qcode_type(const VMStateInfo *info)
{
    for (size_t i = 0; i < G_N_ELEMENTS(plain_types); i++) {
        if (plain_types[i].info == info) {
            return i + 1;
        }
    }
    return info == &vmstate_info_bitmap ? TYPE_BITMAP : FUT_QCODE_OTHER;
}

void fut_qcode_plain(uint32_t type, size_t size, FutQopKind *ret_kind, unsigned *ret_count,
                     size_t *ret_length)
{
    if (type == TYPE_BITMAP) {
        *ret_kind = FUT_QOP_BE64;
        *ret_count = DIV_ROUND_UP(size, 64);
        *ret_length = *ret_count * 8;
        return;
    }
    const PlainType *plain = &plain_types[type - 1];
    *ret_kind = plain->kind;
    *ret_count = plain->width ? 1 : size;
    *ret_length = plain->width ? plain->width : size;
}

static size_t unit_of(FutQopKind kind)
{
    switch (kind) {
    case FUT_QOP_BE16:
        return 2;
    case FUT_QOP_BE32:
        return 4;
    case FUT_QOP_BE64:
        return 8;
    default:
        return 1;
    }
}

/* -- operations -- */

static void add(Translation *to, FutQop op)
{
    g_array_append_val(to->ops, op);
}

/* Joins it to the operation before it where both are one range. */
static void add_range(Translation *to, FutQopKind kind, size_t offset, unsigned count)
{
    if (count == 0) {
        return;
    }
    if (to->ops->len > to->joinable) {
        FutQop *last = &g_array_index(to->ops, FutQop, to->ops->len - 1);
        bool follows = last->offset + last->count * unit_of(kind) == offset;
        if (last->kind == kind && (follows || kind == FUT_QOP_ZEROS)) {
            last->count += count;
            return;
        }
    }
    add(to, (FutQop){ .kind = kind, .offset = offset, .count = count });
}

static void add_call(Translation *to, int (*call)(void *opaque), size_t offset)
{
    if (call) {
        add(to, (FutQop){ .kind = FUT_QOP_CALL, .offset = offset, .call = call });
    }
}

/* The condition at that place leads to here if it is not met. */
static void jump_here(Translation *to, guint condition)
{
    g_array_index(to->ops, FutQop, condition).next = to->ops->len;
    to->joinable = to->ops->len;
}

/* -- fields -- */

/* An element, or an array of known length, that lies in the structure itself. */
static bool lies_inside(const VMStateField *field)
{
    int flags = VMS_SINGLE | VMS_ARRAY | VMS_STRUCT | VMS_VSTRUCT | VMS_BUFFER | VMS_MUST_EXIST;

    return (field->flags & ~flags) == 0;
}

static const FutQcode *code_of_field(Translation *to, const VMStateField *field)
{
    if (field->flags & VMS_STRUCT) {
        return fut_qcode_get(to->codes, field->vmsd, field->vmsd->version_id);
    }
    if (field->flags & VMS_VSTRUCT) {
        return fut_qcode_get(to->codes, field->vmsd, field->struct_version_id);
    }
    return field->info == &vmstate_info_tmp
               ? fut_qcode_get(to->codes, field->vmsd, field->vmsd->version_id)
               : NULL;
}

static void add_general(Translation *to, const VMStateField *field, size_t offset)
{
    add(to, (FutQop){ .kind = FUT_QOP_FIELD,
                      .offset = offset,
                      .type = fut_qcode_type(field->info),
                      .field = field,
                      .code = code_of_field(to, field) });
}

static void add_structs(Translation *to, const VMStateField *field, unsigned count, size_t offset)
{
    int version = field->flags & VMS_STRUCT ? field->vmsd->version_id : field->struct_version_id;

    if (count <= INLINE_MAX) {
        for (unsigned i = 0; i < count; i++) {
            add_description(to, field->vmsd, version, offset + i * field->size);
        }
        return;
    }
    add(to, (FutQop){ .kind = FUT_QOP_STRUCTS,
                      .offset = offset,
                      .count = count,
                      .stride = field->size,
                      .code = fut_qcode_get(to->codes, field->vmsd, version) });
}

static void add_inside(Translation *to, const VMStateField *field, size_t offset)
{
    unsigned count = field->flags & VMS_ARRAY ? MAX(field->num, 0) : 1;
    size_t at = offset + field->offset;
    uint32_t type = fut_qcode_type(field->info);
    FutQopKind kind;
    unsigned units;
    size_t length = 0;

    if (type != FUT_QCODE_OTHER) {
        fut_qcode_plain(type, field->size, &kind, &units, &length);
    }
    if (field->flags & (VMS_STRUCT | VMS_VSTRUCT)) {
        add_structs(to, field, count, at);
    } else if (type != FUT_QCODE_OTHER && (count <= 1 || length == field->size)) {
        add_range(to, kind, at, units * count);
    } else if (field->info == &vmstate_info_timer && count == 1) {
        add(to, (FutQop){ .kind = FUT_QOP_TIMER, .offset = at });
    } else if (field->info == &virtio_vmstate_info && count == 1) {
        add(to, (FutQop){ .kind = FUT_QOP_VIRTIO, .offset = at });
    } else {
        add_general(to, field, offset);
    }
}

static void add_field(Translation *to, const VMStateField *field, int version, size_t offset)
{
    guint condition = to->ops->len;

    if (field->field_exists) {
        add(to, (FutQop){ .kind = field->flags & VMS_MUST_EXIST ? FUT_QOP_DEMAND : FUT_QOP_EXISTS,
                          .offset = offset,
                          .version = version,
                          .exists = field->field_exists });
        to->joinable = to->ops->len;
    } else if (field->version_id > version) {
        return;
    }
    if (lies_inside(field)) {
        add_inside(to, field, offset);
    } else {
        add_general(to, field, offset);
    }
    if (field->field_exists) {
        jump_here(to, condition);
    }
}

/* -- descriptions -- */

uint8_t *fut_qcode_subsection(const VMStateDescription *sub, size_t *ret_length)
{
    size_t name = strlen(sub->name);
    uint8_t *head = g_malloc(2 + name + 4);

    head[0] = SUBSECTION;
    head[1] = name;
    memcpy(head + 2, sub->name, name);
    stl_be_p(head + 2 + name, sub->version_id);
    *ret_length = 2 + name + 4;
    return head;
}

static void add_subsection(Translation *to, const VMStateDescription *sub, size_t offset)
{
    guint condition = to->ops->len;
    size_t length;
    g_autofree uint8_t *head = fut_qcode_subsection(sub, &length);

    if (sub->needed) {
        add(to, (FutQop){ .kind = FUT_QOP_NEEDED, .offset = offset, .needed = sub->needed });
    }
    add(to, (FutQop){ .kind = FUT_QOP_CONST,
                      .bytes = fut_qcode_keep(to->codes, head, length),
                      .count = length });
    add_description(to, sub, sub->version_id, offset);
    if (sub->needed) {
        jump_here(to, condition);
    }
}

static void add_description(Translation *to, const VMStateDescription *vmsd, int version,
                            size_t offset)
{
    add_call(to, vmsd->pre_save, offset);
    for (const VMStateField *field = vmsd->fields; field->name; field++) {
        add_field(to, field, version, offset);
    }
    for (int i = 0; vmsd->subsections && vmsd->subsections[i]; i++) {
        add_subsection(to, vmsd->subsections[i], offset);
    }
    add_call(to, vmsd->post_save, offset);
}

static bool is_pure(const FutQcode *code)
{
    for (unsigned i = 0; i < code->count; i++) {
        const FutQop *op = &code->ops[i];
        if (op->kind > FUT_QOP_CONST && !(op->kind == FUT_QOP_STRUCTS && op->code->pure)) {
            return false;
        }
    }
    return true;
}

static guint key_hash(gconstpointer key)
{
    const FutQcodeKey *code = key;

    return g_direct_hash(code->vmsd) ^ (guint)code->version;
}

static gboolean key_equal(gconstpointer a, gconstpointer b)
{
    const FutQcodeKey *left = a, *right = b;

    return left->vmsd == right->vmsd && left->version == right->version;
}

const FutQcode *fut_qcode_get(FutQcodes *codes, const VMStateDescription *vmsd, int version)
{
    FutQcodeKey key = { vmsd, version };

    if (!codes->codes) {
        codes->codes = g_hash_table_new(key_hash, key_equal);
    }
    FutQcode *code = g_hash_table_lookup(codes->codes, &key);
    if (!code) {
        /* Known before it is complete: a description may lead back to itself, behind a pointer. */
        static const FutQcode empty;
        g_autoptr(GArray) ops = g_array_new(FALSE, FALSE, sizeof(FutQop));
        code = fut_qcode_keep(codes, &empty, sizeof(empty));
        g_hash_table_insert(codes->codes, g_memdup2(&key, sizeof(key)), code);
        Translation to = { codes, ops, 0 };
        add_description(&to, vmsd, version, 0);
        code->ops = fut_qcode_keep(codes, ops->data, ops->len * sizeof(FutQop));
        code->count = ops->len;
        code->pure = is_pure(code);
    }
    return code;
}
