/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The types of a guest's kernel, from its BTF (read by libbpf): where members are and what functions take. */
#ifndef FUT_GUEST_TYPES_H
#define FUT_GUEST_TYPES_H

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct FutGuestTypes FutGuestTypes;

/* What stands at a place. */
typedef enum {
    FUT_SHAPE_UNSIGNED,
    FUT_SHAPE_SIGNED,
    FUT_SHAPE_POINTER,
    FUT_SHAPE_TEXT_POINTER, /* char * */
    FUT_SHAPE_TEXT,         /* char [n]; length n */
    FUT_SHAPE_STRUCT,       /* struct or union: has members */
    FUT_SHAPE_OTHER         /* cannot be recorded */
} FutShapeKind;

typedef struct {
    FutShapeKind kind;
    uint32_t type;   /* of the pointer's target, or of the struct; 0 = unknown */
    uint32_t length; /* bytes */
} FutShape;

/* FUT_ERR_UNSUPPORTED if these bytes are not BTF. Nothing points into them afterwards. */
FutGuestTypes *fut_guest_types_new(const void *btf, size_t size, GError **error);
/* Those of a module on top of its kernel's, which have to stay as long: functions are the module's own. Errors as above. */
FutGuestTypes *fut_guest_types_new_split(const FutGuestTypes *base, const void *btf, size_t size,
                                         GError **error);
void fut_guest_types_free(FutGuestTypes *types);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FutGuestTypes, fut_guest_types_free)

/* A pointer to struct NAME; false: there is none of that name. */
bool fut_guest_types_pointer_to(const FutGuestTypes *types, const char *name, FutShape *ret);
/* Parameter NAME of FUNCTION: its number and shape. False: no such parameter; or FUNCTION is unknown. */
bool fut_guest_types_parameter(const FutGuestTypes *types, const char *function, const char *name,
                               unsigned *ret_number, FutShape *ret);
/* What FUNCTION returns. False: nothing, or FUNCTION is unknown. */
bool fut_guest_types_returned(const FutGuestTypes *types, const char *function, FutShape *ret);
/* The parameters' names, "sig, info, t"; NULL: FUNCTION is unknown. Caller frees. */
char *fut_guest_types_parameters(const FutGuestTypes *types, const char *function);
/* The name of the struct (or of that which a pointer points to); "" if it has none. Borrowed. */
const char *fut_guest_types_name(const FutGuestTypes *types, const FutShape *shape);
/* Members whose names are like `word`, at most three, "a, b, c"; "" if there are none. Caller frees. */
char *fut_guest_types_like(const FutGuestTypes *types, const FutShape *of, const char *word);
/*
 * Member NAME of the struct (or that a pointer points to), members of unnamed members included: its
 * offset in bytes and shape. False: there is none, or it is a bit field.
 */
bool fut_guest_types_member(const FutGuestTypes *types, const FutShape *of, const char *name,
                            uint32_t *ret_offset, FutShape *ret);

#endif
