/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Places for probes, and those where none may stand. */
#include "probe_place.h"

#include <string.h>

#include "alike.h"
#include "byteorder.h"
#include "fut_error.h"
#include "insn_length.h"

/* enum system_states: from this one on the memory of what runs at boot only is given away. */
#define SYSTEM_FREEING_INITMEM 2u

static bool is_between(const FutGuestKernel *kernel, uint64_t address, const char *begin_name,
                       const char *end_name)
{
    FutSymbol begin, end;

    return fut_kallsyms_find(kernel->symbols, begin_name, &begin) &&
           fut_kallsyms_find(kernel->symbols, end_name, &end) && address >= begin.address &&
           address < end.address;
}

static bool still_boots(const FutGuestKernel *kernel)
{
    FutSymbol state;
    uint8_t bytes[4];

    return fut_kallsyms_find(kernel->symbols, "system_state", &state) &&
           fut_guest_read(&kernel->memory, state.address, bytes, sizeof(bytes)) &&
           fut_get_le32(bytes) < SYSTEM_FREEING_INITMEM;
}

static bool is_of_boot(const FutGuestKernel *kernel, uint64_t address)
{
    return is_between(kernel, address, "_sinittext", "_einittext");
}

/* Code that is jumped to and not called: what is on top of the stack then is another one's. */
static bool is_jumped_to(const char *function)
{
    static const char *const prefixes[] = { "__x86_indirect_", "__x86_return_", "__fentry__",
                                            "ret_from_fork",   "srso_",         "retbleed_",
                                            "zen_untrain" };

    for (size_t i = 0; i < G_N_ELEMENTS(prefixes); i++) {
        if (g_str_has_prefix(function, prefixes[i])) {
            return true;
        }
    }
    return false;
}

/* NULL: a probe may stand there. */
static const char *objection(const FutGuestKernel *kernel, const FutSymbol *symbol, bool is_return)
{
    if (symbol->type != 't' && symbol->type != 'T' && symbol->type != 'W' && symbol->type != 'w') {
        return "is not a function";
    }
    if (is_of_boot(kernel, symbol->address) && !still_boots(kernel)) {
        return "is not in memory (any more): functions that run at boot only are dropped";
    }
    if (is_between(kernel, symbol->address, "__entry_text_start", "__entry_text_end")) {
        return "is code by which the kernel is entered: stack and current task are not set up there; probe what it calls";
    }
    if (is_return && is_jumped_to(symbol->name)) {
        return "is jumped to, not called: its returns cannot be probed";
    }
    return NULL;
}

/* -- the kernel's own functions -- */

/* Where the next one begins; 0: there is none. */
static uint64_t next_symbol(const FutGuestKernel *kernel, uint64_t address)
{
    FutSymbol symbol;
    uint64_t next = 0;

    for (size_t i = 0; fut_kallsyms_at(kernel->symbols, i, &symbol); i++) {
        if (symbol.address > address && (next == 0 || symbol.address < next)) {
            next = symbol.address;
        }
    }
    return next;
}

static bool fail_point(const FutProbePoint *point, const char *why, GError **error)
{
    g_set_error(error, FUT_ERROR, FUT_ERR_ARG, "probe: '%s%s%s' %s",
                point->module ? point->module : "", point->module ? ":" : "", point->function, why);
    return false;
}

/* `ret_size`: how long it is, only if there is an offset. */
static bool place_in_kernel(const FutGuestKernel *kernel, const FutProbePoint *point,
                            const FutSymbol *symbol, FutProbePlace *ret, uint64_t *ret_size,
                            GError **error)
{
    const char *why = objection(kernel, symbol, point->is_return);

    if (why) {
        return fail_point(point, why, error);
    }
    *ret = (FutProbePlace){ .address = symbol->address,
                            .passes = is_of_boot(kernel, symbol->address) };
    *ret_size = point->offset > 0 ? next_symbol(kernel, symbol->address) - symbol->address : 0;
    return true;
}

/* -- those of modules -- */

typedef struct {
    const FutProbePoint *point;
    const FutGuestModule *found; /* the first that has it */
    const FutGuestModule *other; /* another one */
    FutModuleFunction function;  /* of the first */
    GStringChunk *names;
    FutAlike alike; /* names like it, where none is it */
} Search;

static bool see_function(void *opaque, const FutGuestModule *module,
                         const FutModuleFunction *function)
{
    Search *search = opaque;

    if (strcmp(function->name, search->point->function) != 0) {
        if (!search->found) {
            fut_alike_add(&search->alike, g_string_chunk_insert(search->names, function->name));
        }
        return true;
    }
    if (!search->found) {
        search->found = module;
        search->function = *function;
    } else {
        search->other = module;
    }
    return false; /* of two in one module the first, as the kernel has it */
}

/* False: the module that is wanted is not loaded. */
static bool search_modules(const FutGuestKernel *kernel, const GArray *modules, Search *search)
{
    const char *wanted = search->point->module;
    uint32_t left = FUT_MODULE_SYMBOLS_MAX;
    bool seen = false;

    for (guint i = 0; i < modules->len && !search->other; i++) {
        const FutGuestModule *module = &g_array_index(modules, FutGuestModule, i);
        if (!wanted || strcmp(module->name, wanted) == 0) {
            fut_guest_module_functions(kernel, module, &left, see_function, search);
            seen = true;
        }
    }
    return seen || !wanted;
}

static bool fail_module(const GArray *modules, const char *name, GError **error)
{
    FutAlike alike;

    fut_alike_init(&alike, name);
    for (guint i = 0; i < modules->len; i++) {
        fut_alike_add(&alike, g_array_index(modules, FutGuestModule, i).name);
    }
    g_autofree char *names = fut_alike_join(&alike);
    g_set_error(error, FUT_ERROR, FUT_ERR_STATE,
                "probe: the guest has no module '%s' loaded%s%s: load it first, or let the probe "
                "wait for it (--wait)",
                name, *names ? "; it has " : "", names);
    return false;
}

/* Nobody has it. */
static bool fail_unknown(const FutGuestKernel *kernel, const Search *search, GError **error)
{
    const FutProbePoint *point = search->point;
    g_autofree char *in_kernel =
        point->module ? g_strdup("") : fut_kallsyms_like(kernel->symbols, point->function);
    g_autofree char *in_modules = fut_alike_join(&search->alike);
    const char *names = *in_kernel ? in_kernel : in_modules;

    if (point->module) {
        g_set_error(error, FUT_ERROR, FUT_ERR_ARG, "probe: module %s has no function '%s'%s%s",
                    point->module, point->function, *names ? ": it has " : "", names);
    } else {
        g_set_error(error, FUT_ERROR, FUT_ERR_ARG,
                    "probe: the guest's kernel has no function '%s', nor has a module%s%s",
                    point->function, *names ? ": it has " : "", names);
    }
    return false;
}

static bool place_found(const FutGuestKernel *kernel, const Search *search, FutProbePlace *ret,
                        uint64_t *ret_size, GError **error)
{
    const char *function = search->point->function;

    if (!search->found) {
        return fail_unknown(kernel, search, error);
    }
    if (search->other) {
        g_set_error(error, FUT_ERROR, FUT_ERR_ARG,
                    "probe: '%s' is in more than one module: write %s:%s or %s:%s", function,
                    search->found->name, function, search->other->name, function);
        return false;
    }
    *ret = (FutProbePlace){ .address = search->function.address, .module = *search->found };
    *ret_size = search->function.size;
    return true;
}

static bool place_in_module(const FutGuestKernel *kernel, const FutProbePoint *point,
                            FutProbePlace *ret, uint64_t *ret_size, GError **error)
{
    g_autoptr(GError) fault = NULL;
    g_autoptr(GArray) modules = fut_guest_modules_read(kernel, &fault);
    Search search = { .point = point };

    if (!modules && point->module) {
        g_propagate_prefixed_error(error, g_steal_pointer(&fault),
                                   "probe: '%s:%s': ", point->module, point->function);
        return false;
    }
    search.names = g_string_chunk_new(4096);
    fut_alike_init(&search.alike, point->function);
    bool done = modules && !search_modules(kernel, modules, &search)
                    ? fail_module(modules, point->module, error)
                    : place_found(kernel, &search, ret, ret_size, error);
    g_string_chunk_free(search.names);
    return done;
}

/* -- within a function -- */

/* Does an instruction begin there? The function is gone through from its beginning, as the kernel itself does for its probes. */
static bool check_offset(const FutGuestKernel *kernel, const FutProbePoint *point, uint64_t address,
                         uint64_t size, GError **error)
{
    uint8_t code[FUT_INSN_BYTES_MAX];
    uint64_t at = 0, before = 0;
    g_autofree char *why = NULL;

    if (point->offset >= size) {
        why = g_strdup_printf("is 0x%" G_GINT64_MODIFIER "x bytes long: +0x%x is not in it", size,
                              point->offset);
        return fail_point(point, why, error);
    }
    while (at < point->offset) {
        size_t length = MIN(sizeof(code), size - at);
        size_t step = fut_guest_read(&kernel->memory, address + at, code, length)
                          ? fut_insn_length(code, length)
                          : 0;
        if (step == 0) {
            why = g_strdup_printf("cannot be read as code at +0x%" G_GINT64_MODIFIER
                                  "x: no probe can stand behind that",
                                  at);
            return fail_point(point, why, error);
        }
        before = at;
        at += step;
    }
    if (at != point->offset) {
        why = g_strdup_printf("has an instruction at +0x%" G_GINT64_MODIFIER
                              "x and the next at +0x%" G_GINT64_MODIFIER
                              "x: +0x%x is within the first",
                              before, at, point->offset);
        return fail_point(point, why, error);
    }
    return true;
}

bool fut_probe_place_find(const FutGuestKernel *kernel, const FutProbePoint *point,
                          FutProbePlace *ret, GError **error)
{
    FutProbePlace place;
    FutSymbol symbol;
    uint64_t size;
    bool own = !point->module && fut_kallsyms_find(kernel->symbols, point->function, &symbol);

    if (!(own ? place_in_kernel(kernel, point, &symbol, &place, &size, error)
              : place_in_module(kernel, point, &place, &size, error))) {
        return false;
    }
    if (point->offset > 0) {
        if (!check_offset(kernel, point, place.address, size, error)) {
            return false;
        }
        place.address += point->offset;
    }
    if (!fut_guest_translate(&kernel->memory, place.address, &place.physical)) {
        return fail_point(point, "is not in memory", error);
    }
    *ret = place;
    return true;
}
