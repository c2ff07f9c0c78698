/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Finding the kernel in a guest's memory. */
#include "guest_kernel.h"

#include <string.h>

#include "byteorder.h"
#include "fut_error.h"
#include "symbol_file.h"

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

/* False: it is not there. */
static bool read_banner(const FutGuestKernel *kernel, char *ret, size_t size)
{
    size_t place;

    return symbol_place(kernel, "linux_banner", &place) &&
           fut_guest_read_string(&kernel->memory, kernel->text + place, ret, size);
}

static bool read_clock(const FutGuestKernel *kernel, uint64_t *ret)
{
    uint8_t bytes[8];

    if (kernel->clock == 0 ||
        !fut_guest_read(&kernel->memory, kernel->clock, bytes, sizeof(bytes))) {
        return false;
    }
    *ret = fut_get_le64(bytes);
    return true;
}

static void find_clock(FutGuestKernel *kernel)
{
    FutSymbol symbol;

    if (fut_kallsyms_find(kernel->symbols, "jiffies_64", &symbol)) {
        kernel->clock = symbol.address;
        read_clock(kernel, &kernel->clock_seen);
    }
}

/* The old kernel's memory may lie there still, as it was, while the new one is in other memory at the same address. */
static bool has_moved(const FutGuestKernel *kernel, const FutGuestLook *look)
{
    uint64_t now, before;

    return kernel->own_table && fut_guest_translate(&look->memory, kernel->syscall_entry, &now) &&
           (!fut_guest_translate(&kernel->memory, kernel->syscall_entry, &before) || before != now);
}

bool fut_guest_kernel_runs(FutGuestKernel *kernel, const FutGuestLook *look)
{
    char banner[sizeof(kernel->banner)];
    uint64_t clock = 0;

    if (has_moved(kernel, look)) {
        return false;
    }
    if (read_banner(kernel, banner, sizeof(banner)) && strcmp(banner, kernel->banner) != 0) {
        return false;
    }
    bool known = read_clock(kernel, &clock);
    if (known && clock < kernel->clock_seen) {
        return false;
    }
    kernel->clock_seen = known ? clock : kernel->clock_seen;
    return true;
}

/* The kernel's own table, which stays as long as it runs: the one in use may go with its process. */
static void use_own_table(FutGuestKernel *kernel)
{
    static const char *const names[] = { "init_top_pgt", "swapper_pg_dir" };
    FutGuestMemory memory = kernel->memory;
    FutSymbol symbol;
    uint64_t here, there;

    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        if (fut_kallsyms_find(kernel->symbols, names[i], &symbol) &&
            fut_guest_translate(&kernel->memory, symbol.address, &memory.cr3) &&
            fut_guest_translate(&memory, kernel->syscall_entry, &here) &&
            fut_guest_translate(&kernel->memory, kernel->syscall_entry, &there) && here == there) {
            kernel->memory = memory;
            kernel->own_table = true;
            return;
        }
    }
}

static bool check_look(const FutGuestLook *look, GError **error)
{
    if (look->syscall_entry == 0) {
        g_set_error_literal(error, FUT_ERROR, FUT_ERR_STATE,
                            "no Linux kernel is up in the guest: wait until it has booted "
                            "(futago probe add --wait does)");
        return false;
    }
    if (look->syscall_entry < IMAGE_LOWEST) {
        g_set_error(
            error, FUT_ERROR, FUT_ERR_UNSUPPORTED,
            "the guest does not run Linux (x86-64): its kernel is entered at 0x%" G_GINT64_MODIFIER
            "x, where Linux never is; probes need Linux",
            look->syscall_entry);
        return false;
    }
    return true;
}

/* Symbols of a file are moved to where this boot has put the kernel: the system-call entry tells. */
static FutKallsyms *symbols_of_file(const FutGuestLook *look, const char *path, GError **error)
{
    g_autoptr(FutKallsyms) symbols = fut_symbol_file_read(path, error);
    FutSymbol entry;

    if (!symbols) {
        return NULL;
    }
    if (!fut_kallsyms_find(symbols, "entry_SYSCALL_64", &entry) ||
        (look->syscall_entry - entry.address) % IMAGE_ALIGN != 0) {
        g_set_error(error, FUT_ERROR, FUT_ERR_ARG,
                    "symbols %s: they are of another kernel than the guest runs", path);
        return NULL;
    }
    fut_kallsyms_move(symbols, look->syscall_entry - entry.address);
    return g_steal_pointer(&symbols);
}

static bool is_linux_banner(const FutGuestKernel *kernel)
{
    return g_str_has_prefix(kernel->banner, "Linux version ");
}

static bool read_symbols(FutGuestKernel *kernel, const FutGuestLook *look, const uint8_t *image,
                         const char *symbol_file, GError **error)
{
    kernel->symbols = symbol_file ? symbols_of_file(look, symbol_file, error)
                                  : fut_kallsyms_decode(image, IMAGE_MAX_BYTES, error);
    if (!kernel->symbols) {
        return false;
    }
    read_banner(kernel, kernel->banner, sizeof(kernel->banner));
    if (symbol_file && !is_linux_banner(kernel)) {
        g_set_error(error, FUT_ERROR, FUT_ERR_ARG,
                    "symbols %s: they are of another kernel than the guest runs", symbol_file);
        return false;
    }
    if (!is_consistent(kernel)) {
        g_set_error_literal(
            error, FUT_ERROR, FUT_ERR_UNSUPPORTED,
            "the symbol table of the guest's kernel does not fit its place in memory");
        return false;
    }
    return true;
}

FutGuestKernel *fut_guest_kernel_read(const FutGuestLook *look, const char *symbol_file,
                                      GError **error)
{
    if (!check_look(look, error)) {
        return NULL;
    }
    g_autoptr(FutGuestKernel) kernel = g_new0(FutGuestKernel, 1);
    kernel->syscall_entry = look->syscall_entry;
    kernel->boot = look->boot;
    kernel->memory = kernel_memory(look);
    kernel->text = find_text(&kernel->memory, look->syscall_entry);
    kernel->symbol_file = g_strdup(symbol_file);
    g_autofree uint8_t *image = read_image(&kernel->memory, kernel->text);
    if (!image) {
        g_set_error_literal(error, FUT_ERROR, FUT_ERR_IO, "no memory to read the guest's kernel");
        return NULL;
    }
    if (!read_symbols(kernel, look, image, symbol_file, error)) {
        return NULL;
    }
    use_own_table(kernel);
    read_types(kernel, image);
    find_current(kernel);
    find_clock(kernel);
    return g_steal_pointer(&kernel);
}

void fut_guest_kernel_free(FutGuestKernel *kernel)
{
    if (kernel) {
        fut_kallsyms_free(kernel->symbols);
        fut_guest_types_free(kernel->types);
        g_free(kernel->symbol_file);
        g_free(kernel);
    }
}
