/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Symbol files. A person names the file, and yet nothing in it is believed. */
#include "symbol_file.h"

#include <errno.h>
#include <fcntl.h>
#include <gelf.h>
#include <libelf.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fut_error.h"

#define TEXT_MAX_BYTES ((gsize)64 << 20)
#define ELF_MAX_BYTES ((off_t)4 << 30)

static bool fail(GError **error, const char *path, const char *why)
{
    g_set_error(error, FUT_ERROR, FUT_ERR_ARG,
                "symbols %s: %s: name the System.map or vmlinux of the guest's kernel", path, why);
    return false;
}

/* "ffffffff81000000 T _text", perhaps with "[module]" after it: modules are left out. */
static void add_line(FutKallsyms *symbols, char *line)
{
    char *rest, *name;
    guint64 address = g_ascii_strtoull(line, &rest, 16);

    if (rest == line || rest[0] != ' ' || !g_ascii_isalpha(rest[1]) || rest[2] != ' ') {
        return;
    }
    name = rest + 3;
    size_t length = strcspn(name, " \t\r");
    if (length > 0 && strchr(name + length, '[') == NULL) {
        name[length] = '\0';
        fut_kallsyms_add(symbols, address, rest[1], name);
    }
}

static bool read_text(FutKallsyms *symbols, const char *path, GError **error)
{
    g_autofree char *text = NULL;
    gsize length = 0;
    struct stat info;

    if (stat(path, &info) != 0 || !S_ISREG(info.st_mode) || (gsize)info.st_size > TEXT_MAX_BYTES ||
        !g_file_get_contents(path, &text, &length, NULL)) {
        return fail(error, path, "cannot be read");
    }
    for (char *line = text; line < text + length;) {
        char *end = memchr(line, '\n', (size_t)(text + length - line));
        char *next = end ? end + 1 : text + length;
        if (end) {
            *end = '\0';
        }
        add_line(symbols, line);
        line = next;
    }
    return true;
}

static void add_elf_symbols(FutKallsyms *symbols, Elf *elf, Elf_Scn *section,
                            const GElf_Shdr *header)
{
    Elf_Data *data = elf_getdata(section, NULL);
    size_t count = data && header->sh_entsize > 0 ? header->sh_size / header->sh_entsize : 0;

    for (size_t i = 0; i < MIN(count, G_MAXINT); i++) {
        GElf_Sym symbol;
        if (!gelf_getsym(data, (int)i, &symbol) || symbol.st_shndx == SHN_UNDEF) {
            continue;
        }
        int kind = GELF_ST_TYPE(symbol.st_info);
        const char *name = elf_strptr(elf, header->sh_link, symbol.st_name);
        if (name && *name && (kind == STT_FUNC || kind == STT_OBJECT || kind == STT_NOTYPE)) {
            bool code =
                kind == STT_FUNC || (kind == STT_NOTYPE && g_str_has_prefix(name, "entry_SYSCALL"));
            char type = symbol.st_shndx == SHN_ABS ? 'A' : code ? 'T' : 'D';
            fut_kallsyms_add(symbols, symbol.st_value, type, name);
        }
    }
}

static bool read_elf(FutKallsyms *symbols, int fd, const char *path, GError **error)
{
    Elf_Scn *section = NULL;
    GElf_Shdr header;
    Elf *elf = elf_version(EV_CURRENT) == EV_NONE ? NULL : elf_begin(fd, ELF_C_READ_MMAP, NULL);

    while (elf && (section = elf_nextscn(elf, section))) {
        if (gelf_getshdr(section, &header) && header.sh_type == SHT_SYMTAB) {
            add_elf_symbols(symbols, elf, section, &header);
        }
    }
    elf_end(elf);
    return elf ? true : fail(error, path, "is a broken ELF file");
}

static bool read_any(FutKallsyms *symbols, const char *path, GError **error)
{
    char magic[4] = "";
    struct stat info;

    /* To open a device may already do something. */
    if (stat(path, &info) == 0 && !S_ISREG(info.st_mode)) {
        return fail(error, path, "is no file");
    }
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) {
        return fail(error, path, g_strerror(errno));
    }
    bool elf = pread(fd, magic, sizeof(magic), 0) == sizeof(magic) &&
               memcmp(magic, ELFMAG, SELFMAG) == 0 && fstat(fd, &info) == 0 &&
               info.st_size <= ELF_MAX_BYTES;
    bool read = elf ? read_elf(symbols, fd, path, error) : read_text(symbols, path, error);
    close(fd);
    return read;
}

FutKallsyms *fut_symbol_file_read(const char *path, GError **error)
{
    g_autoptr(FutKallsyms) symbols = fut_kallsyms_new();

    if (!read_any(symbols, path, error)) {
        return NULL;
    }
    if (fut_kallsyms_count(symbols) == 0) {
        fail(error, path, "no symbols are in it");
        return NULL;
    }
    return g_steal_pointer(&symbols);
}
