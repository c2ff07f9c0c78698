/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Functions of modules, and places within functions; modules that lie. */
#include <elf.h>
#include <glib.h>

#include "fut_error.h"
#include "linux_fixture.h"

#define MODULES UINT64_C(0xffffffffc0000000)
#define MODULES_PHYSICAL 0x300000u
#define MODULES_COUNT 3u
#define MODULE_BYTES 0x1000u

/* Within a module's page; struct module comes first. */
enum {
    BTF_MODULE = 0x80,
    BTF = 0xc0,
    KALLSYMS = 0x100,
    SYMBOLS = 0x200,
    STRINGS = 0x400,
    CODE = 0x800,
    TYPES = 0xa00
};

#define FUNCTIONS 3u
static const char *const module_names[MODULES_COUNT] = { "virtio_net", "virtio_blk", "leaving" };
static const char *const function_names[MODULES_COUNT][FUNCTIONS] = {
    { "start_xmit", "probe", "function_20" },
    { "queue_rq", "probe", "reset" },
    { "gone", "gone_too", "gone_three" },
};

static uint64_t module_at(unsigned number)
{
    return MODULES + number * MODULE_BYTES;
}

static uint8_t *module_page(const Guest *guest, unsigned number)
{
    return guest->fixture.ram + MODULES_PHYSICAL + number * MODULE_BYTES;
}

/* start_xmit(struct task_struct *t, char *dev), on top of the kernel's. */
static void put_types(uint8_t *page)
{
    struct btf *base = make_btf(), *own = btf__new_empty_split(base);
    int task = btf__find_by_name_kind(base, "task_struct", BTF_KIND_STRUCT);
    int chars = btf__find_by_name_kind(base, "char", BTF_KIND_INT);
    int pointer = btf__add_ptr(own, task), text = btf__add_ptr(own, chars);
    int proto = btf__add_func_proto(own, 0);
    uint32_t bytes;

    btf__add_func_param(own, "t", pointer);
    btf__add_func_param(own, "dev", text);
    g_assert_cmpint(btf__add_func(own, "start_xmit", BTF_FUNC_STATIC, proto), >, 0);
    const void *raw = btf__raw_data(own, &bytes);
    g_assert_cmpuint(bytes, <, MODULE_BYTES - TYPES);
    memcpy(page + TYPES, raw, bytes);
    fut_put_le64(page + BTF_MODULE, TYPES_LIST_HEAD);
    fut_put_le64(page + BTF_MODULE + 16, module_at(0));
    fut_put_le64(page + BTF_MODULE + 24, module_at(0) + BTF);
    fut_put_le64(page + BTF, module_at(0) + TYPES);
    fut_put_le32(page + BTF + 8, bytes);
    btf__free(own);
    btf__free(base);
}

/* The first of its symbols is none, as in any table. */
static void put_module(const Guest *guest, unsigned number)
{
    uint8_t *page = module_page(guest, number);
    uint64_t at = module_at(number);
    uint64_t next =
        number + 1 < MODULES_COUNT ? module_at(number + 1) + MODULE_LIST : MODULE_LIST_HEAD;
    size_t strings = 1;

    fut_put_le32(page + MODULE_STATE, number == 2 ? 2 : 0);
    fut_put_le64(page + MODULE_LIST, next);
    strcpy((char *)page + MODULE_NAME, module_names[number]);
    fut_put_le64(page + MODULE_KALLSYMS, at + KALLSYMS);
    fut_put_le64(page + KALLSYMS, at + SYMBOLS);
    fut_put_le32(page + KALLSYMS + 8, FUNCTIONS + 1);
    fut_put_le64(page + KALLSYMS + 16, at + STRINGS);
    for (unsigned i = 0; i < FUNCTIONS; i++) {
        Elf64_Sym symbol = { .st_name = (uint32_t)strings,
                             .st_info = ELF64_ST_INFO(STB_LOCAL, STT_FUNC),
                             .st_shndx = 1,
                             .st_value = at + CODE + i * sizeof(send_signal_code),
                             .st_size = sizeof(send_signal_code) };
        memcpy(page + SYMBOLS + (i + 1) * sizeof(symbol), &symbol, sizeof(symbol));
        strcpy((char *)page + STRINGS + strings, function_names[number][i]);
        strings += strlen(function_names[number][i]) + 1;
        memcpy(page + CODE + i * sizeof(send_signal_code), send_signal_code,
               sizeof(send_signal_code));
    }
}

static void init(Guest *guest)
{
    guest_init(guest, false, true);
    for (unsigned i = 0; i < MODULES_COUNT; i++) {
        fixture_map(&guest->fixture, &guest->look.memory, module_at(i),
                    MODULES_PHYSICAL + i * MODULE_BYTES, 1);
        put_module(guest, i);
    }
    put_types(module_page(guest, 0));
    fut_put_le64(guest->fixture.ram + PHYSICAL + 9 * 16, module_at(0) + MODULE_LIST);
    fut_put_le64(guest->fixture.ram + PHYSICAL + 10 * 16, module_at(0) + BTF_MODULE);
}

static FutProbe *made(const Guest *guest, const char *text)
{
    g_autoptr(GError) error = NULL;
    FutProbe *probe = fut_probe_new(guest->kernel, NULL, text, NULL, &error);

    g_assert_no_error(error);
    return probe;
}

static void refused_as(const Guest *guest, FutErr code, const char *text, const char *why)
{
    g_autoptr(GError) error = NULL;

    g_assert_null(fut_probe_new(guest->kernel, NULL, text, NULL, &error));
    g_assert_error(error, FUT_ERROR, (int)code);
    if (!strstr(error->message, why)) {
        g_test_message("%s: %s", text, error->message);
        g_test_fail();
    }
}

static void refused(const Guest *guest, const char *text, const char *why)
{
    refused_as(guest, FUT_ERR_ARG, text, why);
}

static void test_find(void)
{
    Guest guest;
    FutProbeValue v[FUT_PROBE_FIELDS_MAX];

    init(&guest);
    g_autoptr(FutProbe) plain = made(&guest, "kprobe:start_xmit { t->comm, dev }");
    guest.hit.registers[FUT_RDI] = AREA + 0x100;
    guest.hit.registers[FUT_RSI] = AREA + 0x300;
    g_assert_cmphex(plain->address, ==, module_at(0) + CODE);
    g_assert_cmphex(plain->physical, ==, MODULES_PHYSICAL + CODE);
    g_assert_cmpstr(plain->module, ==, "virtio_net");
    g_assert_cmpstr(plain->point, ==, "start_xmit");
    g_assert_true(fut_probe_evaluate(plain, &guest.hit, v));
    g_assert_cmpstr(v[0].text, ==, "child");
    g_assert_cmpstr(v[1].text, ==, "for? good");

    g_autoptr(FutProbe) named = made(&guest, "kprobe:virtio_blk:probe { arg0, comm }");
    g_assert_cmphex(named->address, ==, module_at(1) + CODE + 16);
    g_assert_cmpstr(named->point, ==, "virtio_blk:probe");
    g_assert_cmpstr(named->name, ==, "probe");
    /* The kernel's own goes first; the module's has to be named. */
    g_autoptr(FutProbe) own = made(&guest, "kprobe:function_20");
    g_assert_cmpstr(own->module, ==, "");
    g_autoptr(FutProbe) its = made(&guest, "kprobe:virtio_net:function_20");
    g_assert_cmphex(its->address, ==, module_at(0) + CODE + 32);
    /* Returns, and what they give: nothing here. */
    g_autoptr(FutProbe) back = made(&guest, "kretprobe:virtio_net:start_xmit { t->pid }");
    g_assert_nonnull(back->calls);
    guest_done(&guest);
}

static void test_refused(void)
{
    Guest guest;

    init(&guest);
    refused(&guest, "kprobe:probe", "write virtio_net:probe or virtio_blk:probe");
    refused_as(&guest, FUT_ERR_STATE, "kprobe:virtio_nets:probe",
               "no module 'virtio_nets' loaded; it has virtio_net");
    refused_as(&guest, FUT_ERR_STATE, "kprobe:leaving:gone", "no module 'leaving' loaded");
    refused(&guest, "kprobe:gone", "no function 'gone'");
    refused(&guest, "kprobe:virtio_net:start_xmi",
            "module virtio_net has no function 'start_xmi': it has start_xmit");
    refused(&guest, "kprobe:queue_rqs", "it has queue_rq");
    refused(&guest, "kprobe:start_xmit { what }", "it has t, dev");
    refused(&guest, "kprobe:virtio_blk:probe { what }", "not known");
    refused(&guest, "kprobe:virtio_blk:probe { sig }", "not known");
    refused(&guest, "kprobe:start_xmit { retval }", "kretprobe");
    refused(&guest, "kretprobe:start_xmit { retval }", "returns nothing");
    guest_done(&guest);

    guest_init(&guest, false, false);
    refused_as(&guest, FUT_ERR_UNSUPPORTED, "kprobe:virtio_net:probe", "no types");
    refused(&guest, "kprobe:nothing", "no function 'nothing'");
    guest_done(&guest);
}

static void test_within(void)
{
    Guest guest;
    FutProbeValue v[FUT_PROBE_FIELDS_MAX];

    init(&guest);
    g_autoptr(FutProbe) probe =
        made(&guest, "kprobe:__send_signal_locked+0x9 { rdi, comm, curtask->pid }");
    g_assert_cmphex(probe->address, ==, SEND_SIGNAL + 9);
    g_assert_cmpstr(probe->point, ==, "__send_signal_locked+0x9");
    g_assert_cmpstr(probe->name, ==, "__send_signal_locked");
    g_assert_true(probe->within);
    g_assert_true(fut_probe_evaluate(probe, &guest.hit, v));
    g_assert_cmphex(v[0].number, ==, 0xf0000000b);
    g_assert_cmpstr(v[1].text, ==, "child");
    g_assert_cmpint((gint64)v[2].number, ==, 42);
    g_autoptr(FutProbe) entry = made(&guest, "kprobe:__send_signal_locked+0 { sig }");
    g_assert_false(entry->within);
    g_autoptr(FutProbe) last = made(&guest, "kprobe:__send_signal_locked+15");
    g_assert_cmphex(last->address, ==, SEND_SIGNAL + 15);
    g_autoptr(FutProbe) its = made(&guest, "kprobe:virtio_blk:probe+0x5");
    g_assert_cmphex(its->address, ==, module_at(1) + CODE + 16 + 5);

    refused(&guest, "kprobe:__send_signal_locked+0xa",
            "an instruction at +0x9 and the next at +0xe: +0xa is within the first");
    refused(&guest, "kprobe:__send_signal_locked+0x10", "0x10 bytes long");
    refused(&guest, "kprobe:virtio_blk:probe+0x10", "0x10 bytes long");
    refused(&guest, "kprobe:__send_signal_locked+0x5 { sig }", "at the entry");
    refused(&guest, "kprobe:__send_signal_locked+0x5 { arg0 }", "at the entry");
    refused(&guest, "kprobe:__send_signal_locked+0x5 { retval }", "kretprobe");
    guest.fixture.ram[PHYSICAL + 7 * 16 + 5] = 0x06; /* no instruction */
    refused(&guest, "kprobe:__send_signal_locked+0x9", "cannot be read as code at +0x5");
    guest_done(&guest);
}

/* It has gone; another is in its place. */
static void test_gone(void)
{
    Guest guest;

    init(&guest);
    g_autoptr(FutProbe) probe = made(&guest, "kprobe:start_xmit");
    g_autoptr(FutProbe) own = made(&guest, "kprobe:__send_signal_locked");
    g_assert_true(fut_probe_is_there(probe, &guest.look.memory));
    strcpy((char *)module_page(&guest, 0) + MODULE_NAME, "virtio_new");
    g_assert_false(fut_probe_is_there(probe, &guest.look.memory));
    g_assert_true(fut_probe_is_there(own, &guest.look.memory));
    guest_done(&guest);
}

/* A list that goes round, ends nowhere, or has no end. */
static void test_lists(void)
{
    Guest guest;
    g_autoptr(GError) error = NULL;

    init(&guest);
    fut_put_le64(module_page(&guest, 1) + MODULE_LIST, module_at(0) + MODULE_LIST);
    g_assert_null(fut_guest_modules_read(guest.kernel, &error));
    g_assert_error(error, FUT_ERROR, FUT_ERR_STATE);
    refused_as(&guest, FUT_ERR_STATE, "kprobe:virtio_net:start_xmit", "makes no sense");
    refused(&guest, "kprobe:start_xmit", "no function 'start_xmit'");
    g_clear_error(&error);
    fut_put_le64(module_page(&guest, 1) + MODULE_LIST, 0x1000);
    g_assert_null(fut_guest_modules_read(guest.kernel, &error));
    g_assert_error(error, FUT_ERROR, FUT_ERR_STATE);
    guest_done(&guest);
}

static bool count_one(void *opaque, const FutGuestModule *module, const FutModuleFunction *function)
{
    (*(unsigned *)opaque)++;
    return true;
}

/* More symbols than there are; more than are ever looked at. */
static void test_counts(void)
{
    Guest guest;
    unsigned seen = 0;
    uint32_t left = 3;

    init(&guest);
    fut_put_le32(module_page(&guest, 0) + KALLSYMS + 8, UINT32_MAX);
    fut_put_le32(module_page(&guest, 0) + BTF + 8, UINT32_MAX);
    g_autoptr(GArray) modules = fut_guest_modules_read(guest.kernel, NULL);
    g_assert_cmpuint(modules->len, ==, 2);
    const FutGuestModule *first = &g_array_index(modules, FutGuestModule, 0);
    g_assert_cmpuint(first->count, <=, 100000);
    g_assert_null(fut_guest_module_types(guest.kernel, first));
    fut_guest_module_functions(guest.kernel, &g_array_index(modules, FutGuestModule, 1), &left,
                               count_one, &seen);
    g_assert_cmpuint(left, ==, 0);
    g_assert_cmpuint(seen, ==, 2);
    guest_done(&guest);
}

static void test_hostile(void)
{
    g_autoptr(GRand) random = g_rand_new_with_seed(5);
    Guest guest;

    init(&guest);
    g_autofree uint8_t *good = g_memdup2(module_page(&guest, 0), MODULES_COUNT * MODULE_BYTES);
    for (unsigned round = 0; round < 3000; round++) {
        static const char *const texts[] = { "kprobe:start_xmit { t->comm }",
                                             "kprobe:virtio_blk:probe+0x5", "kprobe:probe" };
        uint8_t *bad = module_page(&guest, 0);
        memcpy(bad, good, MODULES_COUNT * MODULE_BYTES);
        for (unsigned i = 0; i < 1 + round % 40; i++) {
            unsigned module = (unsigned)g_rand_int_range(random, 0, MODULES_COUNT);
            bad[module * MODULE_BYTES +
                (unsigned)g_rand_int_range(random, 0, i % 2 ? 0x120 : MODULE_BYTES)] =
                (uint8_t)g_rand_int(random);
        }
        g_autoptr(GError) error = NULL;
        g_autoptr(FutProbe) probe =
            fut_probe_new(guest.kernel, NULL, texts[round % 3], NULL, &error);
        g_assert_true(probe || error);
    }
    guest_done(&guest);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/guest-modules/find", test_find);
    g_test_add_func("/guest-modules/refused", test_refused);
    g_test_add_func("/guest-modules/within", test_within);
    g_test_add_func("/guest-modules/gone", test_gone);
    g_test_add_func("/guest-modules/lists", test_lists);
    g_test_add_func("/guest-modules/counts", test_counts);
    g_test_add_func("/guest-modules/hostile", test_hostile);
    return g_test_run();
}
