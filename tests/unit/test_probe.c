/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Probes on a kernel made for the test: found in memory, made ready, hit. */
#include <glib.h>

#include "fut_clock.h"
#include "fut_error.h"
#include "linux_fixture.h"
#include "symbol_file.h"
#include "test_tmp.h"

static FutProbe *made(const Guest *guest, const char *text)
{
    g_autoptr(GError) error = NULL;
    FutProbe *probe = fut_probe_new(guest->kernel, NULL, text, NULL, &error);

    g_assert_no_error(error);
    return probe;
}

static bool hits(const Guest *guest, const char *filter)
{
    g_autofree char *text = g_strdup_printf("kprobe:__send_signal_locked /%s/", filter);
    g_autoptr(FutProbe) probe = made(guest, text);
    FutProbeValue values[FUT_PROBE_FIELDS_MAX];

    return fut_probe_evaluate(probe, &guest->hit, values);
}

static void test_kernel(gconstpointer since_6_4)
{
    Guest guest;

    guest_init(&guest, GPOINTER_TO_INT(since_6_4), true);
    g_assert_cmphex(guest.kernel->text, ==, KERNEL_BASE);
    g_assert_cmpstr(guest.kernel->banner, ==, "Linux version 6");
    g_assert_nonnull(guest.kernel->types);
    g_autoptr(FutProbe) probe = made(&guest, "kprobe:__send_signal_locked");
    g_assert_cmpstr(probe->name, ==, "__send_signal_locked");
    g_assert_cmphex(probe->address, ==, KERNEL_BASE + 7 * 16);
    g_assert_cmphex(probe->physical, ==, PHYSICAL + 7 * 16);
    guest_done(&guest);
}

/* Another kernel at the same address, and the old one's memory as it was: it is elsewhere. */
static void test_moved(void)
{
    Guest guest;

    guest_init(&guest, false, true);
    guest.kernel->own_table = true;
    g_assert_true(fut_guest_kernel_runs(guest.kernel, &guest.look));
    FutGuestLook other = guest.look;
    other.memory.cr3 = guest.fixture.next_table;
    guest.fixture.next_table += FUT_GUEST_PAGE_BYTES;
    g_assert_true(fut_guest_kernel_runs(guest.kernel, &other)); /* tells nothing */
    fixture_map(&guest.fixture, &other.memory, KERNEL_BASE + 0x200000, 0, 2);
    g_assert_false(fut_guest_kernel_runs(guest.kernel, &other));
    guest.kernel->own_table = false;
    g_assert_true(fut_guest_kernel_runs(guest.kernel, &other));
    guest_done(&guest);
}

static void test_fields(void)
{
    static const char *const text =
        "kprobe:__send_signal_locked { sig, t, t->comm, why, n, a, comm, pid, tid, t->parent->comm, t->parent->pid,"
        " t->small, t->minus, t->mm.big, t->mm.name, t->parent->parent->pid }";
    Guest guest;
    FutProbeValue v[FUT_PROBE_FIELDS_MAX];

    guest_init(&guest, false, true);
    g_autoptr(FutProbe) probe = made(&guest, text);
    g_assert_true(fut_probe_evaluate(probe, &guest.hit, v));
    g_assert_cmpint(v[0].kind, ==, FUT_VALUE_SIGNED);
    g_assert_cmpint((gint64)v[0].number, ==,
                    11); /* the register's upper half is not the parameter's */
    g_assert_cmpint(v[1].kind, ==, FUT_VALUE_POINTER);
    g_assert_cmphex(v[1].number, ==, AREA + 0x100);
    g_assert_cmpstr(v[2].text, ==, "child");
    g_assert_cmpstr(v[3].text, ==, "for? good");
    g_assert_cmpuint(v[4].number, ==, 7);
    g_assert_cmpuint(v[5].number, ==, 0xff);
    g_assert_cmpstr(v[6].text, ==, "child");
    g_assert_cmpint((gint64)v[7].number, ==, 41);
    g_assert_cmpint((gint64)v[8].number, ==, 42);
    g_assert_cmpstr(v[9].text, ==, "fifteen-letters-");
    g_assert_cmpint((gint64)v[10].number, ==, -1);
    g_assert_cmpuint(v[11].number, ==, 200);
    g_assert_cmpint((gint64)v[12].number, ==, -2);
    g_assert_cmphex(v[13].number, ==, UINT64_MAX);
    g_assert_cmpstr(v[14].text, ==, "for? good");
    g_assert_cmpint(v[15].kind, ==, FUT_VALUE_NONE); /* no parent of the parent */
    guest_done(&guest);
}

static bool leaves(const Guest *guest, FutProbe *probe, FutProbeHit *hit)
{
    uint64_t stack = hit->registers[FUT_RSP], back = fut_probe_enter(probe, &guest->hit);

    g_assert_cmphex(back, ==, KERNEL_BASE + 0x777);
    hit->instruction = back;
    hit->registers[FUT_RSP] = stack + 8;
    bool left = fut_probe_leave(probe, hit);
    hit->registers[FUT_RSP] = stack;
    return left;
}

/* The function has returned -2, as an int; its arguments are those of its entry. */
static void test_returns(void)
{
    Guest guest;
    FutProbeValue v[FUT_PROBE_FIELDS_MAX];

    guest_init(&guest, false, true);
    guest.hit.registers[FUT_RSP] = AREA + 0x800;
    fut_put_le64(guest.fixture.ram + AREA_PHYSICAL + 0x800, KERNEL_BASE + 0x777);
    g_autoptr(FutProbe) probe =
        made(&guest, "kretprobe:__send_signal_locked /retval < 0/ { retval, sig, t->comm, rbx }");
    FutProbeHit hit = guest.hit;
    memset(hit.registers, 0, sizeof(hit.registers));
    hit.registers[FUT_RAX] = 0xfffffffe;
    hit.registers[FUT_RBX] = 5;
    hit.registers[FUT_RSP] = AREA + 0x800;
    g_assert_true(leaves(&guest, probe, &hit));
    g_assert_true(fut_probe_evaluate(probe, &hit, v));
    g_assert_cmpint((gint64)v[0].number, ==, -2);
    g_assert_cmpint((gint64)v[1].number, ==, 11);
    g_assert_cmpstr(v[2].text, ==, "child");
    g_assert_cmpuint(v[3].number, ==, 5);
    g_assert_false(fut_probe_leave(probe, &hit));
    g_assert_cmpuint(atomic_load(&probe->missed), ==, 0);

    /* Returns to nowhere; from no stack. */
    fut_put_le64(guest.fixture.ram + AREA_PHYSICAL + 0x800, 0x777);
    g_assert_cmphex(fut_probe_enter(probe, &guest.hit), ==, 0);
    guest.hit.registers[FUT_RSP] = 0x10;
    g_assert_cmphex(fut_probe_enter(probe, &guest.hit), ==, 0);
    g_assert_cmpuint(atomic_load(&probe->missed), ==, 2);
    guest_done(&guest);
}

static void test_filters(void)
{
    static const struct {
        const char *filter;
        bool passes;
    } cases[] = {
        { "sig == SIGSEGV", true },
        { "sig != 11", false },
        { "t->minus < 0", true },
        { "t->minus <= -2", true },
        { "t->minus > -2", false },
        { "t->mm.big > 5", true },
        { "t->mm.big == -1", true },
        { "t->small & 0x40", true },
        { "t->small & 0x20", false },
        { "n >= 7 && n <= 7", true },
        { "comm == \"child\"", true },
        { "comm == \"chil\"", false },
        { "t->parent->comm != \"child\"", true },
        { "sig == 1 && n == 7 || n == 7 && sig == 11", true },
        { "sig == 11 && n == 8 || n == 7 && sig == 1", false },
        { "sig == 11 || n == 8 && n == 9", true },
        /* Two values: as numbers, whatever their types. */
        { "n < t->small", true },
        { "n >= t->small", false },
        { "t->minus < n", true },
        { "t->mm.big > t->minus", true },
        { "n == n", true },
        { "tid != pid", true },
        { "sig & n", true },
        { "comm == t->comm", true },
        { "comm != t->parent->comm", true },
        { "n == t->parent->parent->pid || n != t->parent->parent->pid", false },
        /* What cannot be read is neither equal nor unequal. */
        { "t->parent->parent->pid == 0", false },
        { "t->parent->parent->pid != 0", false },
    };
    Guest guest;

    guest_init(&guest, false, true);
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        if (hits(&guest, cases[i].filter) != cases[i].passes) {
            g_error("%s", cases[i].filter);
        }
    }
    guest_done(&guest);
}

static void test_wrong(void)
{
    static const struct {
        const char *text, *says;
    } cases[] = {
        { "kprobe:send_signal_locked", "it has __send_signal_locked" },
        { "kprobe:nothing_of_the_kind", "has no function 'nothing_of_the_kind'" },
        { "kprobe:some_data", "is not a function" },
        { "kprobe:__send_signal_locked { signal }", "sig, t, why, n, a, b, seventh" },
        { "kprobe:__send_signal_locked { t->nothing }", "no member 'nothing'" },
        { "kprobe:__send_signal_locked { t->bit }", "bit field" },
        { "kprobe:__send_signal_locked { t->mm }", "name a member" },
        { "kprobe:__send_signal_locked { sig->pid }", "no member 'pid'" },
        { "kprobe:__send_signal_locked { b->pid }", "no member 'pid'" },
        { "kprobe:__send_signal_locked { arg0->pid }", "no member 'pid'" },
        { "kprobe:__send_signal_locked { seventh }", "not passed in a register" },
        { "kprobe:__send_signal_locked { arg6 }", "no parameter" },
        { "kprobe:__send_signal_locked /sig == \"x\"/", "is a number" },
        { "kprobe:__send_signal_locked /comm == 5/", "is a text" },
        { "kprobe:__send_signal_locked /comm == n/", "is a text" },
        { "kprobe:__send_signal_locked /n == comm/", "is a number" },
        { "kprobe:__send_signal_locked /comm < t->comm/", "== and != only" },
        { "kprobe:__send_signal_locked /n == nothing/", "'nothing' is no parameter" },
        { "kprobe:__send_signal_locked /n == t->mm/", "name a member" },
        { "kprobe:function_99 { sig }", "use arg0 to arg5" },
        { "kprobe:__send_signal_lokced", "it has __send_signal_locked" },
        { "kprobe:__send_signal_locked { t->com }",
          "in struct task_struct, or it is a bit field: it has comm" },
        { "kprobe:__send_signal_locked { retval }", "write kretprobe:" },
        { "kretprobe:__send_signal_locked { retval->pid }", "no member 'pid' there" },
    };
    Guest guest;

    guest_init(&guest, false, true);
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;
        g_assert_null(fut_probe_new(guest.kernel, NULL, cases[i].text, NULL, &error));
        g_assert_error(error, FUT_ERROR, FUT_ERR_ARG);
        if (!strstr(error->message, cases[i].says)) {
            g_error("%s: %s", cases[i].text, error->message);
        }
    }
    guest_done(&guest);
}

/* A kernel without types: registers only. */
static void test_no_types(void)
{
    Guest guest;
    FutProbeValue values[FUT_PROBE_FIELDS_MAX];
    g_autoptr(GError) error = NULL;

    guest_init(&guest, true, false);
    g_assert_null(guest.kernel->types);
    g_autoptr(FutProbe) probe = made(&guest, "kprobe:__send_signal_locked { arg3, arg0 }");
    g_assert_true(fut_probe_evaluate(probe, &guest.hit, values));
    g_assert_cmpuint(values[0].number, ==, 7);
    g_assert_cmphex(values[1].number, ==, 0xf0000000b);
    g_assert_null(
        fut_probe_new(guest.kernel, NULL, "kprobe:__send_signal_locked { comm }", NULL, &error));
    g_assert_nonnull(strstr(error->message, "no types"));
    guest_done(&guest);
}

/* The kernel has no symbols in its memory: they come from a file, and are moved to where it is. */
static void test_symbol_file(void)
{
    g_autofree char *folder = fut_test_tmp();
    g_autofree char *path = g_build_filename(folder, "System.map", NULL);
    g_autoptr(GError) error = NULL;
    Guest guest;

    guest_init(&guest, false, false);
    memset(guest.fixture.ram + PHYSICAL + 0x1000, 0, 0x100000);
    g_assert_null(fut_guest_kernel_read(&guest.look, NULL, &error));
    g_assert_nonnull(strstr(error->message, "--symbols"));
    g_clear_error(&error);
    g_assert_null(fut_guest_kernel_read(&guest.look, path, &error));
    g_assert_error(error, FUT_ERROR, FUT_ERR_ARG);
    g_clear_error(&error);
    g_assert_true(g_file_set_contents(path,
                                      "ffffffff80e00000 T _text\n"
                                      "ffffffff80e00060 D linux_banner\n"
                                      "ffffffff80e00070 t __send_signal_locked\n"
                                      "junk\n\n0000000000012340 A current_task\n"
                                      "ffffffffc0000000 t in_module [ext4]\n"
                                      "ffffffff81100000 T entry_SYSCALL_64\n",
                                      -1, NULL));
    fut_guest_kernel_free(guest.kernel);
    guest.kernel = fut_guest_kernel_read(&guest.look, path, &error);
    g_assert_no_error(error);
    g_autoptr(FutProbe) probe =
        made(&guest, "kretprobe:__send_signal_locked { rdi, arg3, retval }");
    g_assert_cmphex(probe->address, ==, KERNEL_BASE + 7 * 16);
    FutSymbol symbol;
    g_assert_true(fut_kallsyms_find(guest.kernel->symbols, "current_task", &symbol));
    g_assert_cmphex(symbol.address, ==, 0x12340);
    g_assert_false(fut_kallsyms_find(guest.kernel->symbols, "in_module", &symbol));
    /* Another kernel's: its banner is not there. */
    guest.fixture.ram[PHYSICAL + 6 * 16] = 'l';
    g_assert_null(fut_guest_kernel_read(&guest.look, path, &error));
    g_assert_nonnull(strstr(error->message, "another kernel"));
    guest_done(&guest);
    fut_test_tmp_remove(folder);
}

/* This program itself has a symbol table. */
static void test_symbol_elf(void)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(FutKallsyms) symbols = fut_symbol_file_read("/proc/self/exe", &error);
    FutSymbol symbol;

    g_assert_no_error(error);
    g_assert_true(fut_kallsyms_find(symbols, "main", &symbol));
    g_assert_cmpint(symbol.type, ==, 'T');
    g_assert_null(fut_symbol_file_read("/proc", &error));
    g_assert_error(error, FUT_ERROR, FUT_ERR_ARG);
}

static void test_no_kernel(void)
{
    Guest guest;
    g_autoptr(GError) error = NULL;

    guest_init(&guest, false, true);
    guest.look.syscall_entry = 0;
    g_assert_null(fut_guest_kernel_read(&guest.look, NULL, &error));
    g_assert_error(error, FUT_ERROR, FUT_ERR_STATE);
    g_clear_error(&error);
    guest.look.syscall_entry = guest.hit.syscall_entry;
    guest.look.syscall_entry = UINT64_C(0xfffff80312345678); /* Windows' */
    g_assert_null(fut_guest_kernel_read(&guest.look, NULL, &error));
    g_assert_error(error, FUT_ERROR, FUT_ERR_UNSUPPORTED);
    g_assert_nonnull(strstr(error->message, "does not run Linux"));
    g_clear_error(&error);
    guest.look.syscall_entry = guest.hit.syscall_entry;
    guest.look.memory.cr3 = 0x5000; /* tables that lead nowhere */
    g_assert_null(fut_guest_kernel_read(&guest.look, NULL, &error));
    g_assert_error(error, FUT_ERROR, FUT_ERR_UNSUPPORTED);
    guest_done(&guest);
}

/* Seen in user mode with page-table isolation: only the entry is mapped, the kernel's table is beside. */
static void test_user_table(void)
{
    Guest guest;

    guest_init(&guest, false, true);
    fut_guest_kernel_free(guest.kernel);
    FutGuestMemory user = guest.look.memory;
    memmove(guest.fixture.ram + 0x600000, guest.fixture.ram + FIXTURE_CR3, 4096);
    user.cr3 = 0x601000;
    fixture_map(&guest.fixture, &user, KERNEL_BASE + 0x300000, PHYSICAL + 0x300000, 1);
    guest.look.memory = user;
    guest.kernel = fut_guest_kernel_read(&guest.look, NULL, NULL);
    g_assert_nonnull(guest.kernel);
    g_assert_cmphex(guest.kernel->memory.cr3, ==, 0x600000);
    guest_done(&guest);
}

/* BTF with any bytes changed: no crash, no endless way. */
static void test_hostile_types(void)
{
    struct btf *btf = make_btf();
    uint32_t bytes;
    const void *raw = btf__raw_data(btf, &bytes);
    g_autoptr(GRand) random = g_rand_new_with_seed(5);
    unsigned good = 0;

    for (unsigned round = 0; round < 20000; round++) {
        g_autofree uint8_t *bad = g_memdup2(raw, bytes);
        for (unsigned i = 0; i <= round % 8; i++) {
            bad[g_rand_int_range(random, 24, (gint32)bytes)] =
                (uint8_t)g_rand_int_range(random, 0, 32);
        }
        g_autoptr(FutGuestTypes) types = fut_guest_types_new(bad, bytes, NULL);
        static const char *const names[] = { "sig", "t", "why", "b" };
        static const char *const members[] = { "comm", "small", "parent", "mm", "none" };
        for (size_t i = 0; types && i < G_N_ELEMENTS(names); i++) {
            unsigned number;
            FutShape shape, member;
            uint32_t offset;
            if (!fut_guest_types_parameter(types, "__send_signal_locked", names[i], &number,
                                           &shape)) {
                continue;
            }
            for (size_t j = 0; j < G_N_ELEMENTS(members); j++) {
                good += fut_guest_types_member(types, &shape, members[j], &offset, &member);
            }
        }
        g_free(types ? fut_guest_types_parameters(types, "__send_signal_locked") : NULL);
    }
    g_assert_cmpuint(good, >, 1000);
    btf__free(btf);
}

/* A struct full of unnamed ones that are itself, and a text and a parameter of any length: all of it the guest's word. */
static struct btf *make_hostile_btf(void)
{
    struct btf *btf = btf__new_empty();
    int chars = btf__add_int(btf, "char", 1, BTF_INT_SIGNED);
    int text = btf__add_array(btf, chars, chars, UINT32_MAX);
    int task = btf__add_struct(btf, "task_struct", 64);

    btf__add_field(btf, "comm", text, 0, 0);
    for (int i = 0; i < 60000; i++) {
        btf__add_field(btf, NULL, task, 0, 0);
    }
    int proto = btf__add_func_proto(btf, text);
    btf__add_func_param(btf, "array", text);
    btf__add_func_param(btf, "t", btf__type_cnt(btf) + 1);
    btf__add_func_param(btf, "not\033printable", chars);
    btf__add_func(btf, "__send_signal_locked", BTF_FUNC_STATIC, proto);
    btf__add_ptr(btf, task);
    return btf;
}

static void test_lying_types(void)
{
    Guest guest;
    FutShape task, member;
    FutProbeValue v[FUT_PROBE_FIELDS_MAX] = { [1] = { .text = "untouched" } };
    struct btf *btf = make_hostile_btf();
    uint32_t bytes, offset;
    const void *raw = btf__raw_data(btf, &bytes);

    guest_init(&guest, false, true);
    fut_guest_types_free(guest.kernel->types);
    guest.kernel->types = fut_guest_types_new(raw, bytes, NULL);
    btf__free(btf);
    g_assert_nonnull(guest.kernel->types);
    g_assert_true(fut_guest_types_pointer_to(guest.kernel->types, "task_struct", &task));
    g_assert_false(fut_guest_types_member(guest.kernel->types, &task, "none", &offset, &member));
    g_autofree char *alike = fut_guest_types_like(guest.kernel->types, &task, "com");
    g_assert_cmpstr(alike, ==, "comm");
    g_autofree char *parameters =
        fut_guest_types_parameters(guest.kernel->types, "__send_signal_locked");
    g_assert_cmpstr(parameters, ==, "array, t");

    memset(guest.fixture.ram + AREA_PHYSICAL + 0x100, 'x', 0xf00);
    g_autoptr(FutProbe) probe = made(&guest, "kprobe:__send_signal_locked { t->comm }");
    g_assert_true(fut_probe_evaluate(probe, &guest.hit, v));
    g_assert_cmpuint(strlen(v[0].text), ==, FUT_PROBE_STRING_MAX - 1);
    g_assert_cmpstr(v[1].text, ==, "untouched");
    g_assert_null(
        fut_probe_new(guest.kernel, NULL, "kprobe:__send_signal_locked { array }", NULL, NULL));
    g_autoptr(FutProbe) back = made(&guest, "kretprobe:__send_signal_locked { retval }");
    g_assert_cmpint(back->fields[0].kind, ==, FUT_SHAPE_UNSIGNED);
    guest_done(&guest);
}

/* Too much time spent: left alone until the next window. */
static void test_too_hot(void)
{
    FutProbe probe = { 0 };
    uint64_t now_ns = 1000 * FUT_NS_PER_S;

    g_assert_false(fut_probe_is_too_hot(&probe, now_ns));
    for (unsigned i = 0; i < 9; i++) {
        fut_probe_spent(&probe, FUT_NS_PER_MS);
    }
    g_assert_false(fut_probe_is_too_hot(&probe, now_ns + FUT_NS_PER_MS));
    fut_probe_spent(&probe, FUT_NS_PER_MS);
    fut_probe_spent(&probe, FUT_NS_PER_MS);
    g_assert_true(fut_probe_is_too_hot(&probe, now_ns + 2 * FUT_NS_PER_MS));
    g_assert_true(fut_probe_is_too_hot(&probe, now_ns + 99 * FUT_NS_PER_MS));
    g_assert_cmpuint(probe.skipped, ==, 2);
    g_assert_false(fut_probe_is_too_hot(&probe, now_ns + 101 * FUT_NS_PER_MS));
    g_assert_cmpuint(probe.skipped, ==, 2);
}

/* The host took the processor away in the middle of a hit: the next one is looked at nevertheless. */
static void test_taken_away(void)
{
    FutProbe probe = { 0 };
    uint64_t now_ns = 1000 * FUT_NS_PER_S;

    g_assert_false(fut_probe_is_too_hot(&probe, now_ns));
    fut_probe_spent(&probe, 60 * FUT_NS_PER_MS);
    g_assert_false(fut_probe_is_too_hot(&probe, now_ns + 61 * FUT_NS_PER_MS));
    g_assert_cmpuint(probe.skipped, ==, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_data_func("/probe/kernel/6.1", GINT_TO_POINTER(false), test_kernel);
    g_test_add_data_func("/probe/kernel/since-6.4", GINT_TO_POINTER(true), test_kernel);
    g_test_add_func("/probe/moved", test_moved);
    g_test_add_func("/probe/fields", test_fields);
    g_test_add_func("/probe/returns", test_returns);
    g_test_add_func("/probe/filters", test_filters);
    g_test_add_func("/probe/wrong", test_wrong);
    g_test_add_func("/probe/no-types", test_no_types);
    g_test_add_func("/probe/symbol-file", test_symbol_file);
    g_test_add_func("/probe/symbol-elf", test_symbol_elf);
    g_test_add_func("/probe/no-kernel", test_no_kernel);
    g_test_add_func("/probe/user-table", test_user_table);
    g_test_add_func("/probe/hostile-types", test_hostile_types);
    g_test_add_func("/probe/lying-types", test_lying_types);
    g_test_add_func("/probe/too-hot", test_too_hot);
    g_test_add_func("/probe/taken-away", test_taken_away);
    return g_test_run();
}
