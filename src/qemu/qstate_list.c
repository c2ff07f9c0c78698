/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Finding what QEMU does not export: its list of device sections, and a few descriptions. Both stand
 * in QEMU's data segments, which are searched for something of the right shape. Memory is read by
 * process_vm_readv(), so that a wrong guess is no fault.
 *
 * A list is accepted when the names, numbers and versions of its entries are exactly those that
 * QEMU has just written into a stream, in that order; only then is anything called through it.
 */
#include "qstate.h"

#include <elf.h>
#include <sys/auxv.h>
#include <sys/uio.h>

#define ENTRIES_MAX 4096
/* Words that look like the list's head; the list itself is told by the stream. */
#define HEADS_MAX 64
#define SECTION_FULL 0x04
#define SECTION_FOOTER 0x7e
#define STREAM_EOF 0x00
#define STREAM_HEAD 8

typedef struct {
    uintptr_t begin, end;
    bool writable;
} Segment;

/* -- QEMU's own segments -- */

/* Where the program was loaded, against the addresses in its headers. */
static uintptr_t load_bias(const Elf64_Phdr *headers, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (headers[i].p_type == PT_PHDR) {
            return (uintptr_t)headers - headers[i].p_vaddr;
        }
    }
    return 0;
}

static GArray *program_segments(void)
{
    GArray *segments = g_array_new(FALSE, FALSE, sizeof(Segment));
    const Elf64_Phdr *headers = (const Elf64_Phdr *)getauxval(AT_PHDR);
    size_t count = headers ? getauxval(AT_PHNUM) : 0;
    uintptr_t bias = load_bias(headers, count);

    for (size_t i = 0; i < count; i++) {
        if (headers[i].p_type == PT_LOAD) {
            uintptr_t begin = bias + headers[i].p_vaddr;
            Segment segment = { ROUND_UP(begin, 8), (begin + headers[i].p_memsz) & ~(uintptr_t)7,
                                headers[i].p_flags & PF_W };
            g_array_append_val(segments, segment);
        }
    }
    return segments;
}

static bool read_memory(uintptr_t from, void *to, size_t length)
{
    struct iovec local = { to, length };
    struct iovec remote = { (void *)from, length };

    return process_vm_readv(getpid(), &local, 1, &remote, 1, 0) == (ssize_t)length;
}

static bool inside(const GArray *segments, uintptr_t at, size_t length)
{
    for (guint i = 0; i < segments->len; i++) {
        const Segment *segment = &g_array_index(segments, Segment, i);
        if (at >= segment->begin && at < segment->end && length <= segment->end - at) {
            return true;
        }
    }
    return false;
}

/* -- entries -- */

static bool entry_is_plausible(const FutQemuEntry *entry)
{
    size_t length = strnlen(entry->idstr, sizeof(entry->idstr));

    if (length == 0 || length == sizeof(entry->idstr)) {
        return false;
    }
    for (size_t i = 0; i < length; i++) {
        if (!g_ascii_isprint(entry->idstr[i])) {
            return false;
        }
    }
    return true;
}

static void add_section(FutQcodes *codes, GArray *sections, FutQemuEntry *at,
                        const FutQemuEntry *entry)
{
    uint8_t head[1 + 4 + 1 + sizeof(entry->idstr) + 4 + 4];
    size_t name = strlen(entry->idstr);
    FutQsection section = { .entry = at,
                            .opaque = entry->opaque,
                            .saved = !entry->is_ram && (entry->vmsd || entry->ops),
                            .head_length = 1 + 4 + 1 + name + 4 + 4 };

    head[0] = SECTION_FULL;
    stl_be_p(head + 1, entry->section_id);
    head[5] = name;
    memcpy(head + 6, entry->idstr, name);
    stl_be_p(head + 6 + name, entry->instance_id);
    stl_be_p(head + 10 + name, entry->version_id);
    section.head = fut_qcode_keep(codes, head, section.head_length);
    section.foot[0] = SECTION_FOOTER;
    stl_be_p(section.foot + 1, entry->section_id);
    g_array_append_val(sections, section);
}

/* Entries of the list whose head is at that address; NULL if it is none. */
static GArray *read_list(FutQcodes *codes, uintptr_t head)
{
    GArray *sections = g_array_new(FALSE, TRUE, sizeof(FutQsection));
    uintptr_t at = 0, before = head;
    FutQemuEntry entry;

    if (!read_memory(head, &at, sizeof(at))) {
        at = 0;
    }
    /* Each entry points back to what points to it: nothing else has this shape for long. */
    for (int i = 0; at && i < ENTRIES_MAX; i++) {
        if (!read_memory(at, &entry, sizeof(entry)) ||
            (uintptr_t)entry.entry.tqe_circ.tql_prev != before || !entry_is_plausible(&entry)) {
            fut_qlist_free(sections);
            return NULL;
        }
        add_section(codes, sections, (FutQemuEntry *)at, &entry);
        before = at;
        at = (uintptr_t)entry.entry.tqe_next;
    }
    return sections;
}

/* -- a list against a stream -- */

static bool stands_at(const uint8_t *stream, size_t length, size_t at, const void *bytes,
                      size_t count)
{
    return at <= length && count <= length - at && memcmp(stream + at, bytes, count) == 0;
}

/* Number of the section, from `from` on, whose head stands there; sections->len if it is none. */
static guint section_at(const GArray *sections, guint from, const uint8_t *stream, size_t length,
                        size_t at)
{
    for (guint i = from; i < sections->len; i++) {
        const FutQsection *section = &g_array_index(sections, FutQsection, i);
        if (stands_at(stream, length, at, section->head, section->head_length)) {
            return i;
        }
    }
    return sections->len;
}

/* First place behind a section: after its foot stands a later section, or the end. 0: none. */
static size_t section_end(const GArray *sections, guint number, const uint8_t *stream,
                          size_t length, size_t from, guint *ret_next)
{
    const FutQsection *section = &g_array_index(sections, FutQsection, number);
    const uint8_t *foot;

    while (from < length &&
           (foot = memmem(stream + from, length - from, section->foot, sizeof(section->foot)))) {
        size_t end = foot - stream + sizeof(section->foot);
        *ret_next = section_at(sections, number + 1, stream, length, end);
        if (*ret_next < sections->len || (end + 1 == length && stream[end] == STREAM_EOF)) {
            return end;
        }
        from = foot - stream + 1;
    }
    return 0;
}

static bool list_explains(const GArray *sections, const uint8_t *stream, size_t length)
{
    size_t at = STREAM_HEAD;
    guint number = section_at(sections, 0, stream, length, at);
    guint found = 0;

    while (number < sections->len) {
        const FutQsection *section = &g_array_index(sections, FutQsection, number);
        if (!section->saved) {
            return false;
        }
        at = section_end(sections, number, stream, length, at + section->head_length, &number);
        if (at == 0) {
            return false;
        }
        found++;
    }
    return found > 0 && at + 1 == length;
}

/* The list there, if it explains the stream. */
static GArray *list_at(FutQcodes *codes, uintptr_t head, const uint8_t *stream, size_t length)
{
    GArray *sections = read_list(codes, head);

    if (sections && sections->len > 0 && list_explains(sections, stream, length)) {
        return sections;
    }
    fut_qlist_free(sections);
    return NULL;
}

static bool may_be_head(const GArray *segments, const uintptr_t *word)
{
    return word[0] && word[1] && word[0] % 8 == 0 && word[1] % 8 == 0 &&
           !inside(segments, word[0], 1) && !inside(segments, word[1], 1);
}

/* Does that word begin a list whose first entry has a name? */
static bool looks_like_head(const GArray *segments, uintptr_t at)
{
    const uintptr_t *word = (const uintptr_t *)at;
    FutQemuEntry entry;

    return may_be_head(segments, word) && read_memory(word[0], &entry, sizeof(entry)) &&
           (uintptr_t)entry.entry.tqe_circ.tql_prev == at && entry_is_plausible(&entry);
}

static GArray *search_segment(FutQcodes *codes, const GArray *segments, const Segment *segment,
                              const uint8_t *stream, size_t length)
{
    for (uintptr_t at = segment->begin; at + 16 <= segment->end; at += 8) {
        GArray *sections =
            looks_like_head(segments, at) ? list_at(codes, at, stream, length) : NULL;
        if (sections) {
            return sections;
        }
    }
    return NULL;
}

/* -- what was searched for ahead; a list's head does not move -- */

static GMutex ahead_lock;
static uintptr_t heads_ahead[HEADS_MAX];
static unsigned count_ahead;
static bool searched_ahead;

/* Lock held. */
static void search_heads(void)
{
    g_autoptr(GArray) segments = program_segments();

    for (guint i = 0; i < segments->len; i++) {
        const Segment *segment = &g_array_index(segments, Segment, i);
        for (uintptr_t at = segment->begin;
             segment->writable && count_ahead < HEADS_MAX && at + 16 <= segment->end; at += 8) {
            if (looks_like_head(segments, at)) {
                heads_ahead[count_ahead++] = at;
            }
        }
    }
}

void fut_qlist_prepare(void)
{
    g_mutex_lock(&ahead_lock);
    if (!searched_ahead) {
        search_heads();
        searched_ahead = true;
    }
    g_mutex_unlock(&ahead_lock);
    fut_qlist_description("virtio");
}

static GArray *find_ahead(FutQcodes *codes, const uint8_t *stream, size_t length)
{
    GArray *sections = NULL;

    g_mutex_lock(&ahead_lock);
    for (unsigned i = 0; !sections && i < count_ahead; i++) {
        sections = list_at(codes, heads_ahead[i], stream, length);
    }
    g_mutex_unlock(&ahead_lock);
    return sections;
}

GArray *fut_qlist_find(FutQcodes *codes, const uint8_t *stream, size_t length, const char **ret_why)
{
    g_autoptr(GArray) segments = program_segments();
    GArray *sections = find_ahead(codes, stream, length);

    for (guint i = 0; !sections && i < segments->len; i++) {
        const Segment *segment = &g_array_index(segments, Segment, i);
        if (segment->writable) {
            sections = search_segment(codes, segments, segment, stream, length);
        }
    }
    if (!sections) {
        *ret_why = "QEMU's list of device sections was not found";
    }
    return sections;
}

bool fut_qlist_same(const GArray *sections)
{
    const FutQsection *section = &g_array_index(sections, FutQsection, 0);
    bool same = true;

    /* Addresses are known: the processor need not wait for one entry to find the next. */
    for (guint i = 0; i + 1 < sections->len; i++) {
        same &= section[i].entry->entry.tqe_next == section[i + 1].entry;
    }
    return same && section[sections->len - 1].entry->entry.tqe_next == NULL;
}

void fut_qlist_free(GArray *sections)
{
    if (sections) {
        g_array_unref(sections);
    }
}

/* -- descriptions -- */

typedef struct {
    const char *name, *first;
    const VMStateDescription *found;
    unsigned count;
} Wanted;

static bool text_is(const GArray *segments, const char *at, const char *text)
{
    size_t length = strlen(text) + 1;

    return inside(segments, (uintptr_t)at, length) && memcmp(at, text, length) == 0;
}

static bool is_wanted(const GArray *segments, const VMStateDescription *vmsd, const Wanted *wanted)
{
    return text_is(segments, vmsd->name, wanted->name) &&
           inside(segments, (uintptr_t)vmsd->fields, sizeof(*vmsd->fields)) &&
           inside(segments, (uintptr_t)vmsd->subsections, sizeof(*vmsd->subsections)) &&
           inside(segments, (uintptr_t)vmsd->subsections[0], sizeof(*vmsd)) &&
           text_is(segments, vmsd->subsections[0]->name, wanted->first);
}

static void search_descriptions(Wanted *wanted, size_t count)
{
    g_autoptr(GArray) segments = program_segments();

    for (guint i = 0; i < segments->len; i++) {
        const Segment *segment = &g_array_index(segments, Segment, i);
        uintptr_t end = segment->writable ? segment->end - sizeof(VMStateDescription) : 0;
        for (uintptr_t at = segment->begin; at <= end; at += 8) {
            const VMStateDescription *vmsd = (const VMStateDescription *)at;
            for (size_t k = 0; vmsd->name && k < count; k++) {
                if (is_wanted(segments, vmsd, &wanted[k])) {
                    wanted[k].found = vmsd;
                    wanted[k].count++;
                }
            }
        }
    }
}

const VMStateDescription *fut_qlist_description(const char *name)
{
    static Wanted wanted[] = {
        { "virtio", "virtio/device_endian", NULL, 0 },
        { "virtio_pci", "virtio_pci/modern_state", NULL, 0 },
        { "virtio_mmio", "virtio_mmio/state", NULL, 0 },
    };
    static GMutex lock;
    static bool searched;

    g_mutex_lock(&lock);
    if (!searched) {
        search_descriptions(wanted, G_N_ELEMENTS(wanted));
        searched = true;
    }
    g_mutex_unlock(&lock);
    for (size_t k = 0; k < G_N_ELEMENTS(wanted); k++) {
        if (g_str_equal(wanted[k].name, name)) {
            return wanted[k].count == 1 ? wanted[k].found : NULL;
        }
    }
    return NULL;
}
