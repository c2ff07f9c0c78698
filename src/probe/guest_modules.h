/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The modules that are loaded into a guest's kernel, their functions and types, out of its memory: the list "modules", each one's own
 * symbol table (struct mod_kallsyms), and the list "btf_modules" with the BTF of each. Where these stand in the kernel's structs is known
 * from its own BTF.
 */
#ifndef FUT_GUEST_MODULES_H
#define FUT_GUEST_MODULES_H

#include "guest_kernel.h"

#define FUT_MODULE_NAME_BYTES 56u /* with its end; MODULE_NAME_LEN of a 64-bit kernel */
#define FUT_MODULES_MAX 1024u
/* Of all modules together. */
#define FUT_MODULE_SYMBOLS_MAX 500000u

typedef struct {
    char name[FUT_MODULE_NAME_BYTES];
    uint64_t address; /* of its struct module */
    uint64_t name_at; /* where its name stands in the guest's memory */
    uint64_t symbols, strings;
    uint32_t count; /* of symbols */
} FutGuestModule;

typedef struct {
    uint64_t address;
    uint64_t size; /* bytes */
    char name[128];
} FutModuleFunction;

/*
 * Those that are up, of FutGuestModule; caller frees the array. The guest may run. FUT_ERR_UNSUPPORTED: the kernel has no types, or none
 * of modules; FUT_ERR_STATE: the list makes no sense now, for instance has no end.
 */
GArray *fut_guest_modules_read(const FutGuestKernel *kernel, GError **error);
/* Calls `see` for each function whose address is in the kernel's half, until it returns false. What cannot be read is left out. `left`: how many symbols may be looked at; counts down. */
void fut_guest_module_functions(const FutGuestKernel *kernel, const FutGuestModule *module,
                                uint32_t *left,
                                bool (*see)(void *opaque, const FutGuestModule *module,
                                            const FutModuleFunction *function),
                                void *opaque);
/* Its types, on top of the kernel's, which have to stay. NULL: it has none that can be read. Caller frees. */
FutGuestTypes *fut_guest_module_types(const FutGuestKernel *kernel, const FutGuestModule *module);
/* Does that name stand there still? When a module is gone its memory is, or is another's. */
bool fut_guest_module_is_there(const FutGuestMemory *memory, uint64_t name_at, const char *name);

#endif
