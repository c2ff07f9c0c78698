/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Places for probes, and those where none may stand. */
#include "probe_place.h"

#include <string.h>

#include "byteorder.h"
#include "fut_error.h"

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

bool fut_probe_place_find(const FutGuestKernel *kernel, const char *function, bool is_return,
                          FutProbePlace *ret, GError **error)
{
    FutSymbol symbol;
    uint64_t physical;

    if (!fut_kallsyms_find(kernel->symbols, function, &symbol)) {
        g_autofree char *alike = fut_kallsyms_like(kernel->symbols, function);
        g_set_error(error, FUT_ERROR, FUT_ERR_ARG,
                    "probe: the guest's kernel has no function '%s'%s%s", function,
                    *alike ? ": it has " : "", alike);
        return false;
    }
    const char *why = objection(kernel, &symbol, is_return);
    if (!why && !fut_guest_translate(&kernel->memory, symbol.address, &physical)) {
        why = "is not in memory";
    }
    if (why) {
        g_set_error(error, FUT_ERROR, FUT_ERR_ARG, "probe: '%s' %s", function, why);
        return false;
    }
    *ret = (FutProbePlace){ symbol.address, physical, is_of_boot(kernel, symbol.address) };
    return true;
}
