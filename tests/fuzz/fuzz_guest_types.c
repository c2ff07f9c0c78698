/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A kernel's types that hold anything: parameters, returned values, members and the like of them. */
#include <glib.h>

#include "fuzz.h"
#include "guest_types.h"

static void fuzz_members(const FutGuestTypes *types, const FutShape *of)
{
    static const char *const members[] = { "comm", "small", "parent", "mm", "name", "none" };
    FutShape member;
    uint32_t offset;

    for (size_t i = 0; i < G_N_ELEMENTS(members); i++) {
        if (fut_guest_types_member(types, of, members[i], &offset, &member)) {
            g_assert_cmpint(member.kind, <=, FUT_SHAPE_OTHER);
            g_assert_true(member.kind > FUT_SHAPE_TEXT_POINTER ||
                          (member.length >= 1 && member.length <= 8));
        }
    }
    g_free(fut_guest_types_like(types, of, "com"));
    g_assert_nonnull(fut_guest_types_name(types, of));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[] = { "sig", "t", "why", "n", "a", "b", "seventh" };
    static const char function[] = "__send_signal_locked";
    g_autoptr(GError) error = NULL;
    g_autoptr(FutGuestTypes) types = fut_guest_types_new(data, size, &error);
    FutShape shape;
    unsigned number;

    g_assert_true((types == NULL) == (error != NULL));
    if (!types) {
        return 0;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        if (fut_guest_types_parameter(types, function, names[i], &number, &shape)) {
            fuzz_members(types, &shape);
        }
    }
    if (fut_guest_types_returned(types, function, &shape)) {
        fuzz_members(types, &shape);
    }
    if (fut_guest_types_pointer_to(types, "task_struct", &shape)) {
        fuzz_members(types, &shape);
    }
    g_free(fut_guest_types_parameters(types, function));
    return 0;
}
