/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A guest with a kernel made for a test: its image, types and two tasks in memory, and a vCPU at the entry of a function. */
#ifndef FUT_LINUX_FIXTURE_H
#define FUT_LINUX_FIXTURE_H

#include <bpf/btf.h>
#include <glib.h>

#include "guest_kernel.h"
#include "kernel_fixture.h"
#include "probe.h"
#include "probe_fixture.h"

#define PHYSICAL 0x800000u /* of the image */
#define AREA UINT64_C(0xffff888000000000)
#define AREA_PHYSICAL 0x200000u
#define GS_BASE (AREA - KERNEL_CURRENT)

#define SEND_SIGNAL (KERNEL_BASE + 7 * 16) /* the function */
#define MODULE_LIST_HEAD (KERNEL_BASE + 9 * 16)
#define TYPES_LIST_HEAD (KERNEL_BASE + 10 * 16)
enum {
    MODULE_STATE = 0,
    MODULE_LIST = 8,
    MODULE_NAME = 24,
    MODULE_KALLSYMS = 80
};

typedef struct {
    Fixture fixture;
    FutGuestLook look;
    FutGuestKernel *kernel;
    FutProbeHit hit;
} Guest;

/* struct module, as far as it is read: the places are MODULE_... below. */
static inline void add_module_types(struct btf *btf, int s32, int u64, int chars)
{
    int name = btf__add_array(btf, u64, chars, 56);
    int list = btf__add_struct(btf, "list_head", 16);
    btf__add_field(btf, "next", u64, 0, 0);
    btf__add_field(btf, "prev", u64, 64, 0);
    btf__add_struct(btf, "module", 88);
    btf__add_field(btf, "state", s32, MODULE_STATE * 8, 0);
    btf__add_field(btf, "list", list, MODULE_LIST * 8, 0);
    btf__add_field(btf, "name", name, MODULE_NAME * 8, 0);
    btf__add_field(btf, "kallsyms", u64, MODULE_KALLSYMS * 8, 0);
    btf__add_struct(btf, "mod_kallsyms", 24);
    btf__add_field(btf, "symtab", u64, 0, 0);
    btf__add_field(btf, "num_symtab", s32, 64, 0);
    btf__add_field(btf, "strtab", u64, 128, 0);
    btf__add_struct(btf, "btf_module", 32);
    btf__add_field(btf, "list", list, 0, 0);
    btf__add_field(btf, "module", u64, 128, 0);
    btf__add_field(btf, "btf", u64, 192, 0);
    btf__add_struct(btf, "btf", 16);
    btf__add_field(btf, "data", u64, 0, 0);
    btf__add_field(btf, "data_size", s32, 64, 0);
}

/*
 * struct task_struct { char comm[16]; int pid; int tgid; struct task_struct *parent; struct { u8 small; s16 minus; }; u32 bit : 1; } with
 * struct mm { u64 big; char *name; } mm;
 * int __send_signal_locked(int sig, struct task_struct *t, char *why, unsigned long long n, u8 a, void *b, int seventh)
 */
static inline struct btf *make_btf(void)
{
    struct btf *btf = btf__new_empty();
    int s32 = btf__add_int(btf, "int", 4, BTF_INT_SIGNED);
    int u64 = btf__add_int(btf, "unsigned long long", 8, 0);
    int u8 = btf__add_int(btf, "u8", 1, 0);
    int s16 = btf__add_int(btf, "s16", 2, BTF_INT_SIGNED);
    int chars = btf__add_int(btf, "char", 1, BTF_INT_SIGNED);
    int text = btf__add_array(btf, u64, btf__add_const(btf, chars), 16);
    int text_pointer = btf__add_ptr(btf, btf__add_const(btf, chars));
    int nothing_pointer = btf__add_ptr(btf, 0);
    int mm = btf__add_struct(btf, "mm", 16);
    btf__add_field(btf, "big", u64, 0, 0);
    btf__add_field(btf, "name", text_pointer, 64, 0);
    int unnamed = btf__add_struct(btf, NULL, 4);
    btf__add_field(btf, "small", u8, 0, 0);
    btf__add_field(btf, "minus", s16, 16, 0);
    int task = btf__add_struct(btf, "task_struct", 64);
    int pointer_id = task + 1;
    btf__add_field(btf, "comm", text, 0, 0);
    btf__add_field(btf, "pid", s32, 16 * 8, 0);
    btf__add_field(btf, "tgid", s32, 20 * 8, 0);
    btf__add_field(btf, "parent", pointer_id, 24 * 8, 0);
    btf__add_field(btf, NULL, unnamed, 32 * 8, 0);
    btf__add_field(btf, "bit", s32, 36 * 8, 1);
    btf__add_field(btf, "mm", mm, 40 * 8, 0);
    int task_pointer = btf__add_ptr(btf, task);
    g_assert_cmpint(task_pointer, ==, pointer_id);
    int proto = btf__add_func_proto(btf, s32);
    btf__add_func_param(btf, "sig", s32);
    btf__add_func_param(btf, "t", task_pointer);
    btf__add_func_param(btf, "why", text_pointer);
    btf__add_func_param(btf, "n", u64);
    btf__add_func_param(btf, "a", u8);
    btf__add_func_param(btf, "b", nothing_pointer);
    btf__add_func_param(btf, "seventh", s32);
    g_assert_cmpint(btf__add_func(btf, "__send_signal_locked", BTF_FUNC_STATIC, proto), >, 0);
    add_module_types(btf, s32, u64, chars);
    return btf;
}

/* nopl; push %rbp; mov %rsp,%rbp; call; pop %rbp; ret */
static const uint8_t send_signal_code[16] = { 0x0f, 0x1f, 0x44, 0, 0, 0x55, 0x48, 0x89,
                                              0xe5, 0xe8, 1,    0, 0, 0,    0x5d, 0xc3 };

static inline void put_image(Guest *guest, bool since_6_4, bool types)
{
    struct btf *btf = make_btf();
    uint32_t bytes;
    const void *raw = btf__raw_data(btf, &bytes);
    g_autoptr(GByteArray) image = kernel_image(since_6_4, types ? bytes : 0);

    g_assert_cmpuint(image->len, <, KERNEL_BTF);
    memcpy(guest->fixture.ram + PHYSICAL, image->data, image->len);
    memcpy(guest->fixture.ram + PHYSICAL + 6 * 16, "Linux version 6", 16);
    memcpy(guest->fixture.ram + PHYSICAL + 7 * 16, send_signal_code, sizeof(send_signal_code));
    fut_put_le64(guest->fixture.ram + PHYSICAL + 9 * 16, MODULE_LIST_HEAD); /* none */
    fut_put_le64(guest->fixture.ram + PHYSICAL + 10 * 16, TYPES_LIST_HEAD);
    if (types) {
        memcpy(guest->fixture.ram + PHYSICAL + KERNEL_BTF, raw, bytes);
    }
    btf__free(btf);
}

/* Two tasks in the area; the first is current, the second its parent. */
static inline void put_tasks(Guest *guest)
{
    uint8_t *area = guest->fixture.ram + AREA_PHYSICAL;

    fut_put_le64(area, AREA + 0x100);
    strcpy((char *)area + 0x100, "child");
    fut_put_le32(area + 0x110, 42);
    fut_put_le32(area + 0x114, 41);
    fut_put_le64(area + 0x118, AREA + 0x200);
    area[0x120] = 200;
    fut_put_le16(area + 0x122, 0xfffe);
    fut_put_le64(area + 0x128, UINT64_MAX);
    fut_put_le64(area + 0x130, AREA + 0x300);
    strcpy((char *)area + 0x200, "fifteen-letters-and-more");
    fut_put_le32(area + 0x210, (uint32_t)-1);
    strcpy((char *)area + 0x300, "for\x07 good\n");
}

static inline void guest_init(Guest *guest, bool since_6_4, bool types)
{
    FutGuestMemory memory = fixture_memory(&guest->fixture);

    for (unsigned i = 0; i < 4; i++) {
        fixture_map(&guest->fixture, &memory, KERNEL_BASE + i * 0x200000, PHYSICAL + i * 0x200000,
                    2);
    }
    fixture_map(&guest->fixture, &memory, AREA, AREA_PHYSICAL, 1);
    put_image(guest, since_6_4, types);
    put_tasks(guest);
    guest->look = (FutGuestLook){ .syscall_entry = KERNEL_BASE + 0x300000, .memory = memory };
    guest->hit = (FutProbeHit){ .registers = { [FUT_RDI] = 0xf0000000b,
                                               [FUT_RSI] = AREA + 0x100,
                                               [FUT_RDX] = AREA + 0x300,
                                               [FUT_RCX] = 7,
                                               [8] = 0x1ff,
                                               [9] = 0xffff },
                                .gs_base = GS_BASE,
                                .syscall_entry = guest->look.syscall_entry,
                                .memory = memory };
    g_autoptr(GError) error = NULL;
    guest->kernel = fut_guest_kernel_read(&guest->look, NULL, &error);
    g_assert_no_error(error);
}

static inline void guest_done(Guest *guest)
{
    fut_guest_kernel_free(guest->kernel);
    g_free(guest->fixture.ram);
}

#endif
