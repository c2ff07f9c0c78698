/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Modules of a guest's kernel. All of it is the guest's word: lists and counts have limits, and what cannot be read is as nothing. */
#include "guest_modules.h"

#include <elf.h>
#include <string.h>

#include "byteorder.h"
#include "fut_error.h"

#define STATE_LIVE 0u /* enum module_state */
#define MODULE_SYMBOLS_MAX 100000u
#define BTF_BYTES_MAX (16u << 20)
#define SYMBOLS_AT_ONCE 128u

/* From the beginning of a struct. */
typedef struct {
    uint32_t list, state, name, kallsyms, btf, btf_size; /* of struct module */
    bool has_btf;
    uint32_t symbols, count, strings; /* of struct mod_kallsyms */
} Layout;

static bool member(const FutGuestTypes *types, const char *of, const char *name, uint32_t *ret)
{
    FutShape whole, unused;

    return fut_guest_types_pointer_to(types, of, &whole) &&
           fut_guest_types_member(types, &whole, name, ret, &unused);
}

static bool find_layout(const FutGuestTypes *types, Layout *ret)
{
    ret->has_btf = member(types, "module", "btf_data", &ret->btf) &&
                   member(types, "module", "btf_data_size", &ret->btf_size);
    return member(types, "module", "list", &ret->list) &&
           member(types, "module", "state", &ret->state) &&
           member(types, "module", "name", &ret->name) &&
           member(types, "module", "kallsyms", &ret->kallsyms) &&
           member(types, "mod_kallsyms", "symtab", &ret->symbols) &&
           member(types, "mod_kallsyms", "num_symtab", &ret->count) &&
           member(types, "mod_kallsyms", "strtab", &ret->strings);
}

static bool read_word(const FutGuestKernel *kernel, uint64_t address, uint64_t *ret)
{
    uint8_t bytes[8];

    if (!fut_guest_read(&kernel->memory, address, bytes, sizeof(bytes))) {
        return false;
    }
    *ret = fut_get_le64(bytes);
    return true;
}

static bool read_half(const FutGuestKernel *kernel, uint64_t address, uint32_t *ret)
{
    uint8_t bytes[4];

    if (!fut_guest_read(&kernel->memory, address, bytes, sizeof(bytes))) {
        return false;
    }
    *ret = fut_get_le32(bytes);
    return true;
}

/* False: it is not up, or is none. */
static bool read_module(const FutGuestKernel *kernel, const Layout *layout, uint64_t at,
                        FutGuestModule *ret)
{
    uint64_t kallsyms;
    uint32_t state;

    *ret = (FutGuestModule){ .name_at = at + layout->name };
    if (!read_half(kernel, at + layout->state, &state) || state != STATE_LIVE ||
        !fut_guest_read_string(&kernel->memory, ret->name_at, ret->name, sizeof(ret->name)) ||
        !*ret->name || !read_word(kernel, at + layout->kallsyms, &kallsyms) ||
        !read_word(kernel, kallsyms + layout->symbols, &ret->symbols) ||
        !read_half(kernel, kallsyms + layout->count, &ret->count) ||
        !read_word(kernel, kallsyms + layout->strings, &ret->strings)) {
        return false;
    }
    ret->count = MIN(ret->count, MODULE_SYMBOLS_MAX);
    if (!layout->has_btf || !read_word(kernel, at + layout->btf, &ret->btf) ||
        !read_half(kernel, at + layout->btf_size, &ret->btf_bytes) ||
        ret->btf_bytes > BTF_BYTES_MAX) {
        ret->btf_bytes = 0;
    }
    return true;
}

/* The list's links point to the one in the next module; the last to the head. */
static bool read_list(const FutGuestKernel *kernel, const Layout *layout, uint64_t head,
                      GArray *modules)
{
    uint64_t link = head;
    FutGuestModule module;

    for (unsigned i = 0; i <= FUT_MODULES_MAX; i++) {
        if (!read_word(kernel, link, &link)) {
            return false;
        }
        if (link == head) {
            return true;
        }
        if (read_module(kernel, layout, link - layout->list, &module)) {
            g_array_append_val(modules, module);
        }
    }
    return false;
}

GArray *fut_guest_modules_read(const FutGuestKernel *kernel, GError **error)
{
    FutSymbol head;
    Layout layout;

    if (!kernel->types || !fut_kallsyms_find(kernel->symbols, "modules", &head) ||
        !find_layout(kernel->types, &layout)) {
        g_set_error_literal(error, FUT_ERROR, FUT_ERR_UNSUPPORTED,
                            "the modules of this kernel cannot be found: it has no types (BTF) "
                            "that say how");
        return NULL;
    }
    g_autoptr(GArray) modules = g_array_new(FALSE, FALSE, sizeof(FutGuestModule));
    if (!read_list(kernel, &layout, head.address, modules)) {
        g_set_error_literal(error, FUT_ERROR, FUT_ERR_STATE,
                            "the list of the guest's modules makes no sense: perhaps one came or "
                            "went just now, try again");
        return NULL;
    }
    return g_steal_pointer(&modules);
}

static bool is_function(const Elf64_Sym *symbol)
{
    /* Up to 5.1 the kernel wrote its own letter there. */
    return (ELF64_ST_TYPE(symbol->st_info) == STT_FUNC || symbol->st_info == 't' ||
            symbol->st_info == 'T') &&
           symbol->st_shndx != SHN_UNDEF && (int64_t)symbol->st_value < 0;
}

void fut_guest_module_functions(const FutGuestKernel *kernel, const FutGuestModule *module,
                                uint32_t *left,
                                bool (*see)(void *opaque, const FutGuestModule *module,
                                            const FutModuleFunction *function),
                                void *opaque)
{
    Elf64_Sym some[SYMBOLS_AT_ONCE];
    FutModuleFunction function;

    for (uint32_t i = 0; i<module->count && * left> 0; i++, (*left)--) {
        const Elf64_Sym *symbol = &some[i % SYMBOLS_AT_ONCE];
        if (i % SYMBOLS_AT_ONCE == 0 &&
            !fut_guest_read(&kernel->memory, module->symbols + i * sizeof(*symbol), some,
                            MIN(SYMBOLS_AT_ONCE, module->count - i) * sizeof(*symbol))) {
            return;
        }
        if (!is_function(symbol) ||
            !fut_guest_read_string(&kernel->memory, module->strings + symbol->st_name,
                                   function.name, sizeof(function.name))) {
            continue;
        }
        function.address = symbol->st_value;
        function.size = symbol->st_size;
        if (!see(opaque, module, &function)) {
            return;
        }
    }
}

FutGuestTypes *fut_guest_module_types(const FutGuestKernel *kernel, const FutGuestModule *module)
{
    g_autofree uint8_t *bytes = module->btf_bytes ? g_try_malloc(module->btf_bytes) : NULL;

    if (!bytes || !fut_guest_read(&kernel->memory, module->btf, bytes, module->btf_bytes)) {
        return NULL;
    }
    return fut_guest_types_new_split(kernel->types, bytes, module->btf_bytes, NULL);
}

bool fut_guest_module_is_there(const FutGuestMemory *memory, uint64_t name_at, const char *name)
{
    char there[FUT_MODULE_NAME_BYTES];

    return fut_guest_read_string(memory, name_at, there, sizeof(there)) && strcmp(there, name) == 0;
}
