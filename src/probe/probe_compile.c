/* SPDX-License-Identifier: GPL-2.0-or-later */
/* From a probe's text to registers and offsets of one kernel. */
#include <string.h>

#include "fut_error.h"
#include "probe.h"
#include "probe_place.h"

/* Records of one probe: so many at once, then one in each of these. */
#define RECORDS_BURST 200
#define RECORD_EVERY_NS 1000000u

typedef struct {
    const FutGuestKernel *kernel;
    const FutGuestTypes *types; /* the kernel's, or its module's; NULL: none */
    const FutGuestTypes *own;   /* in which the function is: the same, or NULL */
    const char *function;
    bool is_return, is_within;
    GError **error;
} Compiler;

/* The names of the function's; NULL: they are not known. Caller frees. */
static char *parameters(const Compiler *compiler)
{
    return compiler->own ? fut_guest_types_parameters(compiler->own, compiler->function) : NULL;
}

static bool fail_name(const Compiler *compiler, const char *name)
{
    const FutGuestTypes *types = compiler->types;
    g_autofree char *known = parameters(compiler);

    if (compiler->is_within) {
        g_set_error(
            compiler->error, FUT_ERROR, FUT_ERR_ARG,
            "probe: '%s': parameters are known at the entry of %s() only: within it use registers, comm, pid, tid or curtask",
            name, compiler->function);
    } else if (!types) {
        g_set_error(
            compiler->error, FUT_ERROR, FUT_ERR_ARG,
            "probe: '%s': this kernel has no types (BTF): only arg0 to arg5, retval and registers can be used",
            name);
    } else if (!known) {
        g_set_error(
            compiler->error, FUT_ERROR, FUT_ERR_ARG,
            "probe: '%s': the parameters of %s() are not known: use arg0 to arg5, comm, pid, tid or curtask",
            name, compiler->function);
    } else {
        g_set_error(compiler->error, FUT_ERROR, FUT_ERR_ARG,
                    "probe: '%s' is no parameter of %s(): it has %s", name, compiler->function,
                    *known ? known : "none");
    }
    return false;
}

static bool is_argument(const char *name, unsigned *ret)
{
    /* As bpftrace counts them: from 0. */
    if (strlen(name) != 4 || !g_str_has_prefix(name, "arg") || name[3] < '0' ||
        name[3] >= '0' + (int)FUT_PROBE_ARGUMENTS) {
        return false;
    }
    *ret = (unsigned)(name[3] - '0');
    return true;
}

/* A member of the current task that has a name of its own in the language; NULL: none. */
static const char *task_member(const char *name)
{
    static const char *const names[][2] = { { "comm", "comm" },
                                            { "pid", "tgid" },
                                            { "tid", "pid" } };

    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        if (strcmp(names[i][0], name) == 0) {
            return names[i][1];
        }
    }
    return NULL;
}

static bool fail_member(const Compiler *compiler, const FutShape *shape, const char *name)
{
    const FutGuestTypes *types = compiler->types;

    if (shape->type == 0) {
        g_set_error(compiler->error, FUT_ERROR, FUT_ERR_ARG,
                    "probe: there is no member '%s' there: what stands before it is no struct",
                    name);
        return false;
    }
    g_autofree char *alike = fut_guest_types_like(types, shape, name);
    const char *owner = fut_guest_types_name(types, shape);
    /* A bit field has that very name. */
    bool is_own =
        g_str_has_prefix(alike, name) && (alike[strlen(name)] == ',' || !alike[strlen(name)]);
    g_set_error(compiler->error, FUT_ERROR, FUT_ERR_ARG,
                "probe: there is no member '%s' in struct %s, or it is a bit field%s%s", name,
                *owner ? owner : "(without a name)", *alike && !is_own ? ": it has " : "",
                *alike && !is_own ? alike : "");
    return false;
}

static bool add_member(const Compiler *compiler, const char *name, FutShape *shape,
                       FutProbeFetch *fetch)
{
    FutShape member;
    uint32_t offset;

    if (shape->type == 0 ||
        !fut_guest_types_member(compiler->types, shape, name, &offset, &member)) {
        return fail_member(compiler, shape, name);
    }
    if (shape->kind == FUT_SHAPE_STRUCT) {
        fetch->offsets[fetch->steps - 1] += offset;
    } else if (fetch->steps == FUT_PROBE_MEMBERS_MAX) {
        g_set_error(compiler->error, FUT_ERROR, FUT_ERR_ARG,
                    "probe: '%s': too many members in a row", name);
        return false;
    } else {
        fetch->offsets[fetch->steps++] = offset;
    }
    *shape = member;
    return true;
}

static void fetch_argument(const Compiler *compiler, unsigned argument, FutProbeFetch *fetch)
{
    fetch->source = compiler->is_return ? FUT_FROM_ENTRY : FUT_FROM_REGISTER;
    fetch->number = compiler->is_return ? argument : fut_probe_argument_registers[argument];
}

static bool is_register(const char *name, unsigned *ret)
{
    static const char *const names[FUT_REGISTERS] = { "rax", "rcx", "rdx", "rbx", "rsp", "rbp",
                                                      "rsi", "rdi", "r8",  "r9",  "r10", "r11",
                                                      "r12", "r13", "r14", "r15" };

    for (unsigned i = 0; i < FUT_REGISTERS; i++) {
        if (strcmp(names[i], name) == 0) {
            *ret = i;
            return true;
        }
    }
    return false;
}

/* No C function takes or returns an array, but the guest's types may say so. */
static bool fits_register(const FutShape *shape)
{
    return shape->kind != FUT_SHAPE_STRUCT && shape->kind != FUT_SHAPE_TEXT;
}

/* What the function has returned: by its type, or as a number where types are not known. */
static bool begin_returned(const Compiler *compiler, FutShape *ret_shape, FutProbeFetch *fetch)
{
    *fetch = (FutProbeFetch){ .source = FUT_FROM_REGISTER, .number = FUT_RAX };
    if (!compiler->is_return) {
        g_set_error_literal(compiler->error, FUT_ERROR, FUT_ERR_ARG,
                            "probe: 'retval' is known when the function has returned: write "
                            "kretprobe: in place of kprobe:");
        return false;
    }
    if (!compiler->own || !fut_guest_types_returned(compiler->own, compiler->function, ret_shape)) {
        g_autofree char *known = parameters(compiler);
        *ret_shape = (FutShape){ FUT_SHAPE_SIGNED, 0, sizeof(uint64_t) };
        if (known) {
            g_set_error(compiler->error, FUT_ERROR, FUT_ERR_ARG,
                        "probe: %s() returns nothing: leave 'retval' out", compiler->function);
        }
        return !known;
    }
    if (!fits_register(ret_shape)) {
        *ret_shape = (FutShape){ FUT_SHAPE_UNSIGNED, 0, sizeof(uint64_t) };
    }
    return true;
}

/* A parameter of the function; false: it has none of that name, or they are not known here. */
static bool is_parameter(const Compiler *compiler, const char *name, unsigned *ret_number,
                         FutShape *ret)
{
    return compiler->own && !compiler->is_within &&
           fut_guest_types_parameter(compiler->own, compiler->function, name, ret_number, ret);
}

/* What the language itself knows: arguments by number, registers, the current task. */
static bool begin_known(const Compiler *compiler, const char *name, FutShape *ret_shape,
                        FutProbeFetch *fetch)
{
    const char *member = task_member(name);
    unsigned number;
    bool argument = !compiler->is_within && is_argument(name, &number);

    if (argument || is_register(name, &number)) {
        if (argument) {
            fetch_argument(compiler, number, fetch);
        } else {
            *fetch = (FutProbeFetch){ .source = FUT_FROM_REGISTER, .number = number };
        }
        *ret_shape = (FutShape){ FUT_SHAPE_UNSIGNED, 0, sizeof(uint64_t) };
        return true;
    }
    if ((!member && strcmp(name, "curtask") != 0) || !compiler->types ||
        compiler->kernel->current_task == 0 ||
        !fut_guest_types_pointer_to(compiler->types, "task_struct", ret_shape)) {
        return fail_name(compiler, name);
    }
    fetch->source = FUT_FROM_TASK;
    return !member || add_member(compiler, member, ret_shape, fetch);
}

/* The first name: a parameter goes before what the language knows, but for what was returned. */
static bool begin_fetch(const Compiler *compiler, const char *name, FutShape *ret_shape,
                        FutProbeFetch *fetch)
{
    bool is_returned = strcmp(name, "retval") == 0;
    unsigned number;

    if (is_returned && compiler->is_return) {
        return begin_returned(compiler, ret_shape, fetch);
    }
    if (!is_parameter(compiler, name, &number, ret_shape)) {
        return is_returned ? begin_returned(compiler, ret_shape, fetch)
                           : begin_known(compiler, name, ret_shape, fetch);
    }
    if (number < FUT_PROBE_ARGUMENTS && fits_register(ret_shape)) {
        fetch_argument(compiler, number, fetch);
        return true;
    }
    g_set_error(compiler->error, FUT_ERROR, FUT_ERR_ARG,
                "probe: '%s' is not passed in a register: it cannot be read", name);
    return false;
}

static bool compile_value(const Compiler *compiler, const FutProbeValueText *value,
                          FutProbeFetch *ret)
{
    FutShape shape;

    if (!begin_fetch(compiler, value->names[0], &shape, ret)) {
        return false;
    }
    for (unsigned i = 1; i < value->count; i++) {
        if (!add_member(compiler, value->names[i], &shape, ret)) {
            return false;
        }
    }
    if (shape.kind == FUT_SHAPE_STRUCT || shape.kind == FUT_SHAPE_OTHER) {
        g_set_error(compiler->error, FUT_ERROR, FUT_ERR_ARG,
                    "probe: '%s' is neither a number, a pointer nor a text: name a member of it",
                    value->names[value->count - 1]);
        return false;
    }
    ret->kind = shape.kind;
    ret->length = shape.length;
    return true;
}

static bool is_text(const FutProbeFetch *fetch)
{
    return fetch->kind == FUT_SHAPE_TEXT || fetch->kind == FUT_SHAPE_TEXT_POINTER;
}

static bool compile_condition(const Compiler *compiler, const FutProbeConditionText *from,
                              FutProbeCondition *ret)
{
    if (!compile_value(compiler, &from->value, &ret->fetch)) {
        return false;
    }
    ret->has_other = from->other.count > 0;
    if (ret->has_other && !compile_value(compiler, &from->other, &ret->other)) {
        return false;
    }
    ret->is_text = is_text(&ret->fetch);
    if (ret->is_text && from->op != FUT_OP_EQUAL && from->op != FUT_OP_UNEQUAL) {
        g_set_error(compiler->error, FUT_ERROR, FUT_ERR_ARG,
                    "probe: '%s' is a text: it can be compared by == and != only",
                    from->value.label);
        return false;
    }
    if (ret->is_text != (ret->has_other ? is_text(&ret->other) : from->text != NULL)) {
        g_set_error(compiler->error, FUT_ERROR, FUT_ERR_ARG,
                    "probe: '%s' is a %s: compare it with one", from->value.label,
                    ret->is_text ? "text" : "number");
        return false;
    }
    ret->op = from->op;
    ret->or_before = from->or_before;
    ret->number = from->number;
    g_strlcpy(ret->text, from->text ? from->text : "", sizeof(ret->text));
    return true;
}

static void take_place(FutProbe *probe, const FutProbePlace *place)
{
    probe->address = place->address;
    probe->physical = place->physical;
    probe->passes = place->passes;
    g_strlcpy(probe->module, place->module.name, sizeof(probe->module));
    probe->module_at = place->module.name_at;
}

static bool compile(FutProbe *probe, const FutGuestKernel *kernel, const FutProbeText *text,
                    GError **error)
{
    FutProbePoint point = { text->module, text->function, text->offset, text->is_return };
    FutProbePlace place;

    if (!fut_probe_place_find(kernel, &point, &place, error)) {
        return false;
    }
    g_autoptr(FutGuestTypes) own =
        *place.module.name ? fut_guest_module_types(kernel, &place.module) : NULL;
    Compiler compiler = { .kernel = kernel,
                          .types = own ? own : kernel->types,
                          .own = *place.module.name ? own : kernel->types,
                          .function = text->function,
                          .is_return = text->is_return,
                          .is_within = text->offset > 0,
                          .error = error };
    take_place(probe, &place);
    for (; probe->condition_count < text->condition_count; probe->condition_count++) {
        unsigned i = probe->condition_count;
        if (!compile_condition(&compiler, &text->conditions[i], &probe->conditions[i])) {
            return false;
        }
    }
    for (; probe->field_count < text->field_count; probe->field_count++) {
        unsigned i = probe->field_count;
        if (!compile_value(&compiler, &text->fields[i], &probe->fields[i])) {
            return false;
        }
        probe->labels[i] = g_strdup(text->fields[i].label);
    }
    return true;
}

/* The probe of one alternative of a definition. */
static FutProbe *new_one(const FutGuestKernel *kernel, const char *name, const char *text,
                         const char *filter, GError **error)
{
    g_autoptr(FutProbeText) parsed = fut_probe_text_parse(text, error);

    if (!parsed || (filter && !fut_probe_text_narrow(parsed, filter, error))) {
        return NULL;
    }
    g_autoptr(FutProbe) probe = g_atomic_rc_box_new0(FutProbe);
    probe->name = g_strdup(name && *name ? name : parsed->function);
    probe->filter = g_strdup(filter);
    probe->point = fut_probe_text_point(parsed);
    probe->within = parsed->offset > 0;
    probe->memory = kernel->memory;
    probe->syscall_entry = kernel->syscall_entry;
    probe->boot = kernel->boot;
    probe->current_task = kernel->current_task;
    probe->calls = parsed->is_return ? fut_open_calls_new() : NULL;
    probe->rate = (FutRate)FUT_RATE_INIT(RECORDS_BURST, RECORD_EVERY_NS);
    return compile(probe, kernel, parsed, error) ? g_steal_pointer(&probe) : NULL;
}

/* An alternative may be for another kernel; none may be badly written. */
static bool all_can_be_read(const FutProbeKeys *keys, GError **error)
{
    for (unsigned i = 0; i < keys->probe_count; i++) {
        g_autoptr(FutProbeText) parsed = fut_probe_text_parse(keys->probes[i], error);
        if (!parsed) {
            return false;
        }
    }
    return true;
}

FutProbe *fut_probe_new(const FutGuestKernel *kernel, const char *name, const char *text,
                        const char *filter, GError **error)
{
    g_autoptr(FutProbeKeys) keys = fut_probe_keys_parse(text, error);
    g_autoptr(GError) fault = NULL;
    FutProbe *probe = NULL;

    if (!keys || !all_can_be_read(keys, error)) {
        return NULL;
    }
    for (unsigned i = 0; !probe && i < keys->probe_count; i++) {
        probe = new_one(kernel, name, keys->probes[i], filter, i == 0 ? &fault : NULL);
    }
    if (!probe) {
        g_propagate_error(error, g_steal_pointer(&fault));
        return NULL;
    }
    probe->text = g_strdup(text);
    probe->keys = g_steal_pointer(&keys);
    return probe;
}

FutProbe *fut_probe_ref(FutProbe *probe)
{
    return g_atomic_rc_box_acquire(probe);
}

static void probe_clear(gpointer data)
{
    FutProbe *probe = data;

    g_free(probe->name);
    g_free(probe->text);
    g_free(probe->filter);
    g_free(probe->point);
    fut_probe_keys_free(probe->keys);
    fut_open_calls_free(probe->calls);
    for (unsigned i = 0; i < probe->field_count; i++) {
        g_free(probe->labels[i]);
    }
}

void fut_probe_unref(FutProbe *probe)
{
    if (probe) {
        g_atomic_rc_box_release_full(probe, probe_clear);
    }
}
