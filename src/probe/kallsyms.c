/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The kernel's symbol table out of its image.
 *
 *   6.1:       offsets, relative base, count, names, markers, [sequences,] tokens, token index
 *   since 6.4: count, names, markers, tokens, token index, offsets, relative base, sequences
 *
 * Each part begins at a multiple of eight (the names: after the eight bytes of the count). A name is
 * a length and that many token numbers; every 256th name's place is in the markers.
 */
#include "kallsyms.h"

#include <string.h>

#include "alike.h"
#include "byteorder.h"
#include "fut_error.h"

#define SYMBOLS_MIN 1000u
#define SYMBOLS_MAX 500000u
#define NAME_MAX_BYTES 512u
#define NAMES_MAX_BYTES (32u << 20) /* all of them; what comes after is left out */
#define TOKENS 256u
#define MARKER_EVERY 256u
/* Names that are looked at before the search is given up: a true table is found after few more than it has. */
#define LOOKS_MAX (64u << 20)
#define KERNEL_HALF_HIGH_WORD 0xffffffffu

typedef struct {
    uint64_t address;
    uint32_t name; /* where it begins in `names` */
    char type;
} Entry;

struct FutKallsyms {
    Entry *entries;
    size_t count, room;
    GString *names; /* each terminated */
};

/* Places are offsets into the image. */
typedef struct {
    const uint8_t *image;
    size_t size;
    size_t tokens, token_index;
    size_t names, names_end, offsets;
    uint32_t count;
    uint64_t relative_base;
    uint32_t looks;
} Table;

static size_t aligned(size_t place)
{
    return (place + 7) & ~(size_t)7;
}

static uint16_t token_place(const Table *table, unsigned token)
{
    return fut_get_le16(table->image + table->token_index + 2 * token);
}

/* Is there an index at `place` that grows, and by two between the digits? */
static bool is_token_index(const Table *table, size_t place)
{
    const uint8_t *at = table->image + place;

    if (fut_get_le16(at) != 0) {
        return false;
    }
    for (unsigned i = 1; i < TOKENS; i++) {
        unsigned step = fut_get_le16(at + 2 * i) - fut_get_le16(at + 2 * i - 2);
        if (step == 0 || step > UINT16_MAX || (i > '0' && i <= '9' && step != 2)) {
            return false;
        }
    }
    return true;
}

/* The tokens begin so far before the digits as the index says. */
static bool find_token_index(Table *table, size_t digits)
{
    size_t end = MIN(digits + 4096, table->size - 2 * TOKENS);

    for (size_t place = (digits + 3) & ~(size_t)3; place < end; place += 4) {
        if (is_token_index(table, place)) {
            table->token_index = place;
            uint16_t before = token_place(table, '0');
            size_t last = token_place(table, TOKENS - 1);
            if (before > digits || digits - before + last >= place) {
                continue;
            }
            table->tokens = digits - before;
            return table->image[place - 1] == '\0';
        }
    }
    return false;
}

static bool find_tokens(Table *table)
{
    static const char digits[20] = "0\0"
                                   "1\0"
                                   "2\0"
                                   "3\0"
                                   "4\0"
                                   "5\0"
                                   "6\0"
                                   "7\0"
                                   "8\0"
                                   "9";
    const uint8_t *from = table->image, *end = table->image + table->size;

    while (end - from > (ptrdiff_t)(sizeof(digits) + 2 * TOKENS)) {
        const uint8_t *hit = memmem(from, end - from - 2 * TOKENS, digits, sizeof(digits));
        if (!hit) {
            return false;
        }
        if (find_token_index(table, hit - table->image)) {
            return true;
        }
        from = hit + 1;
    }
    return false;
}

/* Length of the name at *place, which goes on to its tokens. 0: no name. */
static size_t name_length(const Table *table, size_t *place, size_t end)
{
    size_t length;

    if (*place + 2 > end) {
        return 0;
    }
    length = table->image[(*place)++];
    if (length & 0x80) {
        length = (length & 0x7f) | (size_t)table->image[(*place)++] << 7;
    }
    return *place + length <= end ? length : 0;
}

/* Do `count` names that agree with the first marker stand between `place` and the tokens? */
static bool are_names(Table *table, size_t place, uint32_t count)
{
    size_t at = place, second_marker = 0;

    for (uint32_t i = 0; i < count; i++) {
        if (i == MARKER_EVERY) {
            second_marker = at - place;
        }
        size_t length = name_length(table, &at, table->tokens);
        if (length == 0 || ++table->looks > LOOKS_MAX) {
            return false;
        }
        at += length;
    }
    size_t markers = aligned(at);
    if (markers + 8 > table->tokens || fut_get_le32(table->image + markers) != 0 ||
        fut_get_le32(table->image + markers + 4) != second_marker) {
        return false;
    }
    table->names = place;
    table->names_end = at;
    table->count = count;
    return true;
}

/* The count stands before the names: look for it from the tokens backwards. */
static bool find_names(Table *table)
{
    for (size_t place = (table->tokens - 64) & ~(size_t)7; place > 64; place -= 8) {
        uint64_t count = fut_get_le64(table->image + place - 8);
        if (count >= SYMBOLS_MIN && count <= SYMBOLS_MAX && are_names(table, place, count)) {
            return true;
        }
        if (table->looks > LOOKS_MAX) {
            return false;
        }
    }
    return false;
}

static bool is_base(uint64_t base)
{
    return base >> 32 == KERNEL_HALF_HIGH_WORD;
}

static bool find_offsets(Table *table)
{
    size_t bytes = aligned((size_t)table->count * 4);
    size_t after = table->token_index + 2 * TOKENS;

    if (table->names >= bytes + 16) {
        table->relative_base = fut_get_le64(table->image + table->names - 16);
        table->offsets = table->names - 16 - bytes;
        if (is_base(table->relative_base)) {
            return true;
        }
    }
    if (after + bytes + 8 > table->size) {
        return false;
    }
    table->offsets = after;
    table->relative_base = fut_get_le64(table->image + after + bytes);
    return is_base(table->relative_base);
}

/* Appends the name without its first letter, which is the type. */
static char append_name(const Table *table, GString *names, size_t place, size_t length)
{
    size_t begin = names->len;

    for (size_t i = 0; i < length && names->len - begin < NAME_MAX_BYTES; i++) {
        const char *token = (const char *)table->image + table->tokens +
                            token_place(table, table->image[place + i]);
        g_string_append_len(names, token, strnlen(token, NAME_MAX_BYTES));
    }
    g_string_truncate(names, MIN(names->len, begin + NAME_MAX_BYTES));
    /* They go into messages. */
    for (size_t i = begin; i < names->len; i++) {
        names->str[i] = g_ascii_isgraph(names->str[i]) ? names->str[i] : '?';
    }
    char type = names->len > begin ? names->str[begin] : '?';
    g_string_erase(names, begin, MIN(names->len - begin, 1));
    g_string_append_c(names, '\0');
    return type;
}

static FutKallsyms *expand(const Table *table)
{
    FutKallsyms *symbols = g_new0(FutKallsyms, 1);
    size_t place = table->names;

    symbols->entries = g_new0(Entry, table->count);
    symbols->names = g_string_sized_new(2 * (table->names_end - table->names));
    for (uint32_t i = 0; i < table->count && symbols->names->len < NAMES_MAX_BYTES; i++) {
        Entry *entry = &symbols->entries[i];
        int32_t offset = (int32_t)fut_get_le32(table->image + table->offsets + 4 * (size_t)i);
        size_t length = name_length(table, &place, table->names_end);
        /* Positive ones are absolute (per-CPU variables), the others count down from the base. */
        entry->address =
            offset >= 0 ? (uint64_t)offset : table->relative_base - 1 - (int64_t)offset;
        entry->name = symbols->names->len;
        entry->type = append_name(table, symbols->names, place, length);
        place += length;
        symbols->count++;
    }
    return symbols;
}

FutKallsyms *fut_kallsyms_decode(const uint8_t *image, size_t size, GError **error)
{
    Table table = { .image = image, .size = size };

    if (size < 4096 || !find_tokens(&table) || table.tokens < 128 || !find_names(&table) ||
        !find_offsets(&table)) {
        g_set_error_literal(
            error, FUT_ERROR, FUT_ERR_UNSUPPORTED,
            "no symbol table (kallsyms) is in the guest's kernel: probes need a Linux "
            "kernel with CONFIG_KALLSYMS, or its System.map or vmlinux (--symbols)");
        return NULL;
    }
    return expand(&table);
}

void fut_kallsyms_free(FutKallsyms *symbols)
{
    if (symbols) {
        g_string_free(symbols->names, TRUE);
        g_free(symbols->entries);
        g_free(symbols);
    }
}

FutKallsyms *fut_kallsyms_new(void)
{
    FutKallsyms *symbols = g_new0(FutKallsyms, 1);

    symbols->names = g_string_new("");
    return symbols;
}

void fut_kallsyms_add(FutKallsyms *symbols, uint64_t address, char type, const char *name)
{
    if (symbols->count == SYMBOLS_MAX || symbols->names->len >= NAMES_MAX_BYTES) {
        return;
    }
    if (symbols->count == symbols->room) {
        symbols->room = MAX(2 * symbols->room, 1024);
        symbols->entries = g_renew(Entry, symbols->entries, symbols->room);
    }
    symbols->entries[symbols->count++] = (Entry){ address, symbols->names->len, type };
    g_string_append_len(symbols->names, name, (gssize)strnlen(name, NAME_MAX_BYTES - 1));
    g_string_append_c(symbols->names, '\0');
}

void fut_kallsyms_move(FutKallsyms *symbols, uint64_t by)
{
    for (size_t i = 0; i < symbols->count; i++) {
        if (is_base(symbols->entries[i].address)) {
            symbols->entries[i].address += by;
        }
    }
}

size_t fut_kallsyms_count(const FutKallsyms *symbols)
{
    return symbols->count;
}

static const char *name_of(const FutKallsyms *symbols, size_t number)
{
    return symbols->names->str + symbols->entries[number].name;
}

bool fut_kallsyms_find(const FutKallsyms *symbols, const char *name, FutSymbol *ret)
{
    for (size_t i = 0; i < symbols->count; i++) {
        if (strcmp(name_of(symbols, i), name) == 0) {
            const Entry *entry = &symbols->entries[i];
            *ret = (FutSymbol){ entry->address, entry->type, name_of(symbols, i) };
            return true;
        }
    }
    return false;
}

bool fut_kallsyms_at(const FutKallsyms *symbols, size_t number, FutSymbol *ret)
{
    if (number >= symbols->count) {
        return false;
    }
    const Entry *entry = &symbols->entries[number];
    *ret = (FutSymbol){ entry->address, entry->type, name_of(symbols, number) };
    return true;
}

char *fut_kallsyms_like(const FutKallsyms *symbols, const char *word)
{
    FutAlike alike;

    fut_alike_init(&alike, word);
    for (size_t i = 0; i < symbols->count; i++) {
        if (symbols->entries[i].type == 't' || symbols->entries[i].type == 'T') {
            fut_alike_add(&alike, name_of(symbols, i));
        }
    }
    return fut_alike_join(&alike);
}
