/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A kernel's types. The guest may have written anything there: libbpf checks the outline of BTF, but
 * neither that type numbers exist nor that types do not contain themselves. Each number is looked
 * up with care, and each chain is followed for a few steps only.
 */
#include "guest_types.h"

#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "alike.h"
#include "fut_error.h"

/* Typedefs and qualifiers in a row, and unnamed structs in each other. */
#define CHAIN_MAX 16
#define DEPTH_MAX 8
/* Members that are looked at for one name: unnamed structs may hold each other many times over. */
#define LOOKS_MAX 100000u
/* As the kernel has it (KSYM_NAME_LEN); longer ones are as none. */
#define NAME_MAX_BYTES 511u
#define NAMES_LISTED_MAX 12u

struct FutGuestTypes {
    struct btf *btf;
    uint32_t first_own; /* the number of the first type that is no base's */
};

/* Takes `parsed` over, which may be libbpf's "none". */
static FutGuestTypes *types_new(struct btf *parsed, uint32_t first_own, GError **error)
{
    if (!parsed || libbpf_get_error(parsed) != 0) {
        g_set_error_literal(error, FUT_ERROR, FUT_ERR_UNSUPPORTED,
                            "the types (BTF) of the guest's kernel cannot be read");
        return NULL;
    }
    FutGuestTypes *types = g_new0(FutGuestTypes, 1);
    types->btf = parsed;
    types->first_own = first_own;
    return types;
}

FutGuestTypes *fut_guest_types_new(const void *btf, size_t size, GError **error)
{
    libbpf_set_print(NULL);
    return types_new(size <= UINT32_MAX ? btf__new(btf, (uint32_t)size) : NULL, 1, error);
}

/* libbpf 1.1 declares btf__new_split() and does not export it; from a file it can. */
static struct btf *parse_split(struct btf *base, const void *btf, size_t size)
{
    int fd = memfd_create("futago-types", MFD_CLOEXEC);
    g_autofree char *path = g_strdup_printf("/proc/self/fd/%d", fd);
    struct btf *parsed = NULL;

    if (fd >= 0 && write(fd, btf, size) == (ssize_t)size) {
        parsed = btf__parse_raw_split(path, base);
    }
    if (fd >= 0) {
        close(fd);
    }
    return parsed;
}

FutGuestTypes *fut_guest_types_new_split(const FutGuestTypes *base, const void *btf, size_t size,
                                         GError **error)
{
    libbpf_set_print(NULL);
    return types_new(parse_split(base->btf, btf, size), btf__type_cnt(base->btf), error);
}

void fut_guest_types_free(FutGuestTypes *types)
{
    if (types) {
        btf__free(types->btf);
        g_free(types);
    }
}

/* A name goes into messages: what is none that can be printed is as none. */
static const char *name_at(const FutGuestTypes *types, uint32_t offset)
{
    const char *name = btf__name_by_offset(types->btf, offset);
    size_t length = 0;

    while (name && g_ascii_isgraph(name[length]) && length <= NAME_MAX_BYTES) {
        length++;
    }
    return name && name[length] == '\0' ? name : "";
}

/* Behind typedefs and qualifiers; NULL: nothing good. */
static const struct btf_type *plain_type(const FutGuestTypes *types, uint32_t *number)
{
    for (int i = 0; i < CHAIN_MAX; i++) {
        const struct btf_type *type = btf__type_by_id(types->btf, *number);
        if (!type || *number == 0) {
            return NULL;
        }
        if (!btf_is_mod(type) && !btf_is_typedef(type)) {
            return type;
        }
        *number = type->type;
    }
    return NULL;
}

static bool is_char(const struct btf_type *type)
{
    return type && btf_is_int(type) && type->size == 1;
}

static void shape_pointer(const FutGuestTypes *types, uint32_t target, FutShape *ret)
{
    const struct btf_type *type = plain_type(types, &target);

    ret->kind = is_char(type) ? FUT_SHAPE_TEXT_POINTER : FUT_SHAPE_POINTER;
    ret->type = type && btf_is_composite(type) ? target : 0;
    ret->length = sizeof(uint64_t);
}

static void shape_of(const FutGuestTypes *types, uint32_t number, FutShape *ret)
{
    const struct btf_type *type = plain_type(types, &number);

    *ret = (FutShape){ .kind = FUT_SHAPE_OTHER };
    if (!type) {
        return;
    }
    if (btf_is_ptr(type)) {
        shape_pointer(types, type->type, ret);
    } else if (btf_is_composite(type)) {
        *ret = (FutShape){ FUT_SHAPE_STRUCT, number, type->size };
    } else if (btf_is_array(type)) {
        uint32_t element = btf_array(type)->type;
        if (is_char(plain_type(types, &element))) {
            *ret = (FutShape){ FUT_SHAPE_TEXT, 0, btf_array(type)->nelems };
        }
    } else if ((btf_is_int(type) || btf_is_any_enum(type)) && type->size >= 1 &&
               type->size <= sizeof(uint64_t)) {
        bool is_signed = btf_is_int(type) ? (btf_int_encoding(type) & BTF_INT_SIGNED) != 0
                                          : btf_kflag(type) != 0;
        ret->kind = is_signed ? FUT_SHAPE_SIGNED : FUT_SHAPE_UNSIGNED;
        ret->length = type->size;
    }
}

bool fut_guest_types_pointer_to(const FutGuestTypes *types, const char *name, FutShape *ret)
{
    int number = btf__find_by_name_kind(types->btf, name, BTF_KIND_STRUCT);

    *ret = (FutShape){ FUT_SHAPE_POINTER, number > 0 ? (uint32_t)number : 0, sizeof(uint64_t) };
    return number > 0;
}

/* NULL: there is none of that name. */
static const struct btf_type *find_function(const FutGuestTypes *types, const char *name)
{
    for (uint32_t i = types->first_own; i < btf__type_cnt(types->btf); i++) {
        const struct btf_type *type = btf__type_by_id(types->btf, i);
        if (type && btf_is_func(type) && strcmp(name_at(types, type->name_off), name) == 0) {
            return type;
        }
    }
    return NULL;
}

static const struct btf_type *prototype(const FutGuestTypes *types, const char *function)
{
    const struct btf_type *type = find_function(types, function);
    const struct btf_type *proto = type ? btf__type_by_id(types->btf, type->type) : NULL;

    return proto && btf_is_func_proto(proto) ? proto : NULL;
}

bool fut_guest_types_parameter(const FutGuestTypes *types, const char *function, const char *name,
                               unsigned *ret_number, FutShape *ret)
{
    const struct btf_type *proto = prototype(types, function);
    const struct btf_param *parameters = proto ? btf_params(proto) : NULL;

    for (unsigned i = 0; proto && i < btf_vlen(proto); i++) {
        if (parameters[i].type != 0 && strcmp(name_at(types, parameters[i].name_off), name) == 0) {
            *ret_number = i;
            shape_of(types, parameters[i].type, ret);
            return true;
        }
    }
    return false;
}

bool fut_guest_types_returned(const FutGuestTypes *types, const char *function, FutShape *ret)
{
    const struct btf_type *proto = prototype(types, function);

    if (proto) {
        shape_of(types, proto->type, ret);
    }
    return proto && proto->type != 0;
}

char *fut_guest_types_parameters(const FutGuestTypes *types, const char *function)
{
    const struct btf_type *proto = prototype(types, function);
    const struct btf_param *parameters = proto ? btf_params(proto) : NULL;
    GString *names = proto ? g_string_new("") : NULL;

    for (unsigned i = 0; proto && i < MIN(btf_vlen(proto), NAMES_LISTED_MAX); i++) {
        const char *name = name_at(types, parameters[i].name_off);
        g_string_append_printf(names, "%s%s", *name && i > 0 ? ", " : "", name);
    }
    return names ? g_string_free(names, FALSE) : NULL;
}

const char *fut_guest_types_name(const FutGuestTypes *types, const FutShape *shape)
{
    const struct btf_type *type = shape->type ? btf__type_by_id(types->btf, shape->type) : NULL;

    return type ? name_at(types, type->name_off) : "";
}

static void add_like(const FutGuestTypes *types, uint32_t number, int depth, unsigned *looks,
                     FutAlike *alike)
{
    const struct btf_type *type = plain_type(types, &number);

    if (!type || !btf_is_composite(type) || depth > DEPTH_MAX) {
        return;
    }
    const struct btf_member *members = btf_members(type);
    for (unsigned i = 0; i < btf_vlen(type) && *looks < LOOKS_MAX; i++) {
        const char *own = name_at(types, members[i].name_off);
        (*looks)++;
        if (*own) {
            fut_alike_add(alike, own);
        } else {
            add_like(types, members[i].type, depth + 1, looks, alike);
        }
    }
}

char *fut_guest_types_like(const FutGuestTypes *types, const FutShape *of, const char *word)
{
    FutAlike alike;
    unsigned looks = 0;

    fut_alike_init(&alike, word);
    if (of->type != 0) {
        add_like(types, of->type, 0, &looks, &alike);
    }
    return fut_alike_join(&alike);
}

/* `offset` is that of the struct within the outermost one. */
static bool find_member(const FutGuestTypes *types, uint32_t number, const char *name,
                        uint32_t offset, int depth, unsigned *looks, uint32_t *ret_offset,
                        FutShape *ret)
{
    const struct btf_type *type = plain_type(types, &number);

    if (!type || !btf_is_composite(type) || depth > DEPTH_MAX) {
        return false;
    }
    const struct btf_member *members = btf_members(type);
    for (unsigned i = 0; i < btf_vlen(type) && *looks < LOOKS_MAX; i++) {
        const char *own = name_at(types, members[i].name_off);
        uint32_t bits = btf_member_bit_offset(type, i);
        (*looks)++;
        if (!*own && find_member(types, members[i].type, name, offset + bits / 8, depth + 1, looks,
                                 ret_offset, ret)) {
            return true;
        }
        if (*own && strcmp(own, name) == 0) {
            shape_of(types, members[i].type, ret);
            *ret_offset = offset + bits / 8;
            return bits % 8 == 0 && btf_member_bitfield_size(type, i) == 0;
        }
    }
    return false;
}

bool fut_guest_types_member(const FutGuestTypes *types, const FutShape *of, const char *name,
                            uint32_t *ret_offset, FutShape *ret)
{
    unsigned looks = 0;

    return of->type != 0 && find_member(types, of->type, name, 0, 0, &looks, ret_offset, ret);
}
