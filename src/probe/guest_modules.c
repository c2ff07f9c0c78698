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
    uint32_t list, state, name, kallsyms; /* of struct module */
    uint32_t symbols, count, strings;     /* of struct mod_kallsyms */
} Layout;

typedef struct {
    uint32_t list, module, btf; /* of struct btf_module */
    uint32_t data, data_size;   /* of struct btf */
} TypesLayout;

static bool member(const FutGuestTypes *types, const char *of, const char *name, uint32_t *ret)
{
    FutShape whole, unused;

    return fut_guest_types_pointer_to(types, of, &whole) &&
           fut_guest_types_member(types, &whole, name, ret, &unused);
}

static bool find_layout(const FutGuestTypes *types, Layout *ret)
{
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

    *ret = (FutGuestModule){ .address = at, .name_at = at + layout->name };
    if (!read_half(kernel, at + layout->state, &state) || state != STATE_LIVE ||
        !fut_guest_read_string(&kernel->memory, ret->name_at, ret->name, sizeof(ret->name)) ||
        !*ret->name || !read_word(kernel, at + layout->kallsyms, &kallsyms) ||
        !read_word(kernel, kallsyms + layout->symbols, &ret->symbols) ||
        !read_half(kernel, kallsyms + layout->count, &ret->count) ||
        !read_word(kernel, kallsyms + layout->strings, &ret->strings)) {
        return false;
    }
    ret->count = MIN(ret->count, MODULE_SYMBOLS_MAX);
    return true;
}

/* Goes through a list of the kernel's: its links point to the one in the next, the last to the head. False: it makes no sense. */
static bool walk(const FutGuestKernel *kernel, uint64_t head,
                 bool (*see)(void *opaque, uint64_t link), void *opaque)
{
    uint64_t link = head;

    for (unsigned i = 0; i <= FUT_MODULES_MAX; i++) {
        if (!read_word(kernel, link, &link)) {
            return false;
        }
        if (link == head || !see(opaque, link)) {
            return true;
        }
    }
    return false;
}

typedef struct {
    const FutGuestKernel *kernel;
    Layout layout;
    GArray *modules;
} Collection;

static bool collect(void *opaque, uint64_t link)
{
    Collection *to = opaque;
    FutGuestModule module;

    if (read_module(to->kernel, &to->layout, link - to->layout.list, &module)) {
        g_array_append_val(to->modules, module);
    }
    return true;
}

GArray *fut_guest_modules_read(const FutGuestKernel *kernel, GError **error)
{
    FutSymbol head;
    Collection collection = { .kernel = kernel };

    if (!kernel->types || !fut_kallsyms_find(kernel->symbols, "modules", &head) ||
        !find_layout(kernel->types, &collection.layout)) {
        g_set_error_literal(error, FUT_ERROR, FUT_ERR_UNSUPPORTED,
                            "the modules of this kernel cannot be found: it has no types (BTF) "
                            "that say how");
        return NULL;
    }
    g_autoptr(GArray) modules = g_array_new(FALSE, FALSE, sizeof(FutGuestModule));
    collection.modules = modules;
    if (!walk(kernel, head.address, collect, &collection)) {
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

/* -- types -- */

typedef struct {
    const FutGuestKernel *kernel;
    TypesLayout layout;
    uint64_t module;
    uint64_t data; /* found; 0: not yet */
    uint32_t data_bytes;
} TypesSearch;

static bool find_types_layout(const FutGuestTypes *types, TypesLayout *ret)
{
    return member(types, "btf_module", "list", &ret->list) &&
           member(types, "btf_module", "module", &ret->module) &&
           member(types, "btf_module", "btf", &ret->btf) &&
           member(types, "btf", "data", &ret->data) &&
           member(types, "btf", "data_size", &ret->data_size);
}

static bool find_data(void *opaque, uint64_t link)
{
    TypesSearch *search = opaque;
    uint64_t at = link - search->layout.list, module, btf;

    if (!read_word(search->kernel, at + search->layout.module, &module) ||
        module != search->module) {
        return true;
    }
    if (read_word(search->kernel, at + search->layout.btf, &btf) &&
        read_word(search->kernel, btf + search->layout.data, &search->data) &&
        !read_half(search->kernel, btf + search->layout.data_size, &search->data_bytes)) {
        search->data_bytes = 0;
    }
    return false;
}

FutGuestTypes *fut_guest_module_types(const FutGuestKernel *kernel, const FutGuestModule *module)
{
    TypesSearch search = { .kernel = kernel, .module = module->address };
    FutSymbol head;

    if (!kernel->types || !fut_kallsyms_find(kernel->symbols, "btf_modules", &head) ||
        !find_types_layout(kernel->types, &search.layout) ||
        !walk(kernel, head.address, find_data, &search) || search.data_bytes == 0 ||
        search.data_bytes > BTF_BYTES_MAX) {
        return NULL;
    }
    g_autofree uint8_t *bytes = g_try_malloc(search.data_bytes);
    if (!bytes || !fut_guest_read(&kernel->memory, search.data, bytes, search.data_bytes)) {
        return NULL;
    }
    return fut_guest_types_new_split(kernel->types, bytes, search.data_bytes, NULL);
}

bool fut_guest_module_is_there(const FutGuestMemory *memory, uint64_t name_at, const char *name)
{
    char there[FUT_MODULE_NAME_BYTES];

    return fut_guest_read_string(memory, name_at, there, sizeof(there)) && strcmp(there, name) == 0;
}
