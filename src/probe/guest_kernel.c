/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Finding the kernel in a guest's memory. */
#include "guest_kernel.h"

#include <string.h>

#include "fut_error.h"

/* x86-64 Linux maps its image between these, at a multiple of 2 MiB (Documentation/arch/x86/x86_64/mm.rst). */
#define IMAGE_LOWEST UINT64_C(0xffffffff80000000)
#define IMAGE_ALIGN (UINT64_C(2) << 20)
#define IMAGE_MAX_BYTES ((size_t)64 << 20)
/* With page-table isolation a process has two tables, side by side; this bit tells which is in use. */
#define USER_TABLE_BIT UINT64_C(0x1000)

/*
 * A vCPU in user mode may use a table that lacks the kernel. The kernel's own is beside it: taken if it
 * leads to the same place.
 */
static FutGuestMemory kernel_memory(const FutGuestLook *look)
{
    FutGuestMemory memory = look->memory;
    uint64_t seen, beside;

    memory.cr3 &= ~USER_TABLE_BIT;
    bool same = fut_guest_translate(&look->memory, look->syscall_entry, &seen) &&
                fut_guest_translate(&memory, look->syscall_entry, &beside) && seen == beside;
    return same ? memory : look->memory;
}

/* The image has no hole below the system-call entry, and nothing is mapped right below the image. */
static uint64_t find_text(const FutGuestMemory *memory, uint64_t syscall_entry)
{
    uint64_t text = syscall_entry & ~(IMAGE_ALIGN - 1), unused;

    while (text > IMAGE_LOWEST && fut_guest_translate(memory, text - IMAGE_ALIGN, &unused)) {
        text -= IMAGE_ALIGN;
    }
    return text;
}

/* What is not there stays zero. NULL: no memory. */
static uint8_t *read_image(const FutGuestMemory *memory, uint64_t text)
{
    uint8_t *image = g_try_malloc0(IMAGE_MAX_BYTES);

    for (size_t at = 0; image && at < IMAGE_MAX_BYTES && text + at >= IMAGE_LOWEST;
         at += FUT_GUEST_PAGE_BYTES) {
        if (!fut_guest_read(memory, text + at, image + at, FUT_GUEST_PAGE_BYTES)) {
            memset(image + at, 0, FUT_GUEST_PAGE_BYTES);
        }
    }
    return image;
}

static bool symbol_place(const FutGuestKernel *kernel, const char *name, size_t *ret)
{
    FutSymbol symbol;

    if (!fut_kallsyms_find(kernel->symbols, name, &symbol) || symbol.address < kernel->text ||
        symbol.address - kernel->text >= IMAGE_MAX_BYTES) {
        return false;
    }
    *ret = symbol.address - kernel->text;
    return true;
}

static void read_types(FutGuestKernel *kernel, const uint8_t *image)
{
    size_t begin, end;

    if (symbol_place(kernel, "__start_BTF", &begin) && symbol_place(kernel, "__stop_BTF", &end) &&
        end > begin) {
        /* Bad ones are as none. */
        kernel->types = fut_guest_types_new(image + begin, end - begin, NULL);
    }
}

/* 6.2, "x86/percpu: Move current_task to pcpu_hot": it stands first there. */
static void find_current(FutGuestKernel *kernel)
{
    static const char *const names[] = { "current_task", "pcpu_hot" };
    FutSymbol symbol;

    for (size_t i = 0; i < G_N_ELEMENTS(names) && kernel->current_task == 0; i++) {
        if (fut_kallsyms_find(kernel->symbols, names[i], &symbol)) {
            kernel->current_task = symbol.address;
        }
    }
}

static bool is_consistent(const FutGuestKernel *kernel)
{
    size_t text;

    return symbol_place(kernel, "_text", &text) && text == 0;
}

static void read_banner(FutGuestKernel *kernel)
{
    size_t place;

    if (symbol_place(kernel, "linux_banner", &place)) {
        fut_guest_read_string(&kernel->memory, kernel->text + place, kernel->banner,
                              sizeof(kernel->banner));
    }
}

FutGuestKernel *fut_guest_kernel_read(const FutGuestLook *look, GError **error)
{
    if (look->syscall_entry < IMAGE_LOWEST) {
        g_set_error_literal(error, FUT_ERROR, FUT_ERR_STATE,
                            "no Linux kernel is up in the guest: wait until it has booted");
        return NULL;
    }
    g_autoptr(FutGuestKernel) kernel = g_new0(FutGuestKernel, 1);
    kernel->syscall_entry = look->syscall_entry;
    kernel->memory = kernel_memory(look);
    kernel->text = find_text(&kernel->memory, look->syscall_entry);
    g_autofree uint8_t *image = read_image(&kernel->memory, kernel->text);
    if (!image) {
        g_set_error_literal(error, FUT_ERROR, FUT_ERR_IO, "no memory to read the guest's kernel");
        return NULL;
    }
    kernel->symbols = fut_kallsyms_decode(image, IMAGE_MAX_BYTES, error);
    if (!kernel->symbols) {
        return NULL;
    }
    if (!is_consistent(kernel)) {
        g_set_error_literal(
            error, FUT_ERROR, FUT_ERR_UNSUPPORTED,
            "the symbol table of the guest's kernel does not fit its place in memory");
        return NULL;
    }
    read_types(kernel, image);
    find_current(kernel);
    read_banner(kernel);
    return g_steal_pointer(&kernel);
}

void fut_guest_kernel_free(FutGuestKernel *kernel)
{
    if (kernel) {
        fut_kallsyms_free(kernel->symbols);
        fut_guest_types_free(kernel->types);
        g_free(kernel);
    }
}
