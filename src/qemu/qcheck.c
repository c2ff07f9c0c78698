/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The machine in words: what must be equal in both QEMUs of a pair for the state of the one to make
 * sense in the other.
 *
 * Devices are taken from QEMU's object tree, not from a saved state: which sections a state has
 * also depends on what the guest did so far. QEMU's own sections that belong to no device follow
 * from its build and the machine type.
 */
#include "qvmm.h"

#include "fut_error.h"
#include "qemu-build.h"

static void add_line(GPtrArray *lines, const char *format, ...) G_GNUC_PRINTF(2, 3);

static void add_line(GPtrArray *lines, const char *format, ...)
{
    va_list list;

    va_start(list, format);
    g_ptr_array_add(lines, g_strdup_vprintf(format, list));
    va_end(list);
}

/* What the vCPU model offers the guest, as a short fingerprint. */
static char *cpu_fingerprint(CPUState *cpu)
{
    const CPUX86State *env = &X86_CPU(cpu)->env;
    g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA256);

    g_checksum_update(sum, (const guchar *)env->features, sizeof(env->features));
    g_checksum_update(sum, (const guchar *)&env->cpuid_version, sizeof(env->cpuid_version));
    g_checksum_update(sum, (const guchar *)&env->cpuid_vendor1, sizeof(env->cpuid_vendor1));
    g_checksum_update(sum, (const guchar *)&env->cpuid_level, sizeof(env->cpuid_level));
    g_checksum_update(sum, (const guchar *)&env->cpuid_xlevel, sizeof(env->cpuid_xlevel));
    return g_strndup(g_checksum_get_string(sum), 16);
}

static void describe_machine(GPtrArray *lines)
{
    g_autofree char *fingerprint = cpu_fingerprint(first_cpu);
    unsigned count = 0;
    CPUState *cpu;

    CPU_FOREACH (cpu) {
        count++;
    }
    add_line(lines, "qemu=%s %s", FUT_QEMU_VERSION, FUT_QEMU_PACKAGE);
    add_line(lines, "machine=%s", MACHINE_GET_CLASS(qdev_get_machine())->name);
    add_line(lines, "accel=%s", tcg_enabled() ? "tcg" : "kvm");
    add_line(lines, "cpu=%s/%s", object_get_typename(OBJECT(first_cpu)), fingerprint);
    add_line(lines, "vcpus=%u", count);
}

static void describe_memory(GPtrArray *lines, const FutQvmm *qvmm)
{
    for (unsigned i = 0; i < qvmm->memory.count; i++) {
        add_line(lines, "ram:%s=%" PRIu64, qvmm->blocks[i]->idstr, qvmm->memory.block[i].length);
    }
}

static void describe_nics(GPtrArray *lines, const FutQvmm *qvmm)
{
    for (guint i = 0; i < qvmm->net.nics->len; i++) {
        const FutQnic *nic = &g_array_index(qvmm->net.nics, FutQnic, i);
        bool header = nic->filters[0] && fut_qnet_has_header(nic->filters[0]);
        add_line(lines, "nic:%u=%s,mac=%s,queues=%u,vnet-header=%s", i, nic->model, nic->mac,
                 nic->queues, header ? "on" : "off");
    }
}

static int describe_device(Object *object, void *opaque)
{
    GPtrArray *lines = opaque;

    if (!object_dynamic_cast(object, TYPE_DEVICE)) {
        return 0;
    }
    const VMStateDescription *state = qdev_get_vmsd(DEVICE(object));
    g_autofree char *path = object_get_canonical_path(object);
    if (state) {
        add_line(lines, "device:%s=%s,%s v%d", path, object_get_typename(object), state->name,
                 state->version_id);
    } else {
        add_line(lines, "device:%s=%s", path, object_get_typename(object));
    }
    return 0;
}

static int compare_lines(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* QEMU keeps children in a hash table: their order says nothing. */
static void describe_devices(GPtrArray *lines)
{
    guint first = lines->len;

    object_child_foreach_recursive(qdev_get_machine(), describe_device, lines);
    qsort(lines->pdata + first, lines->len - first, sizeof(*lines->pdata), compare_lines);
}

bool fut_qcheck_describe(FutVmm *vmm, char ***ret_lines, GError **error)
{
    FutQvmm *qvmm = (FutQvmm *)vmm;
    bool taken = fut_qvmm_lock();
    bool ok = fut_qrefuse_machine(qvmm, error);

    if (ok) {
        GPtrArray *lines = g_ptr_array_new();
        describe_machine(lines);
        describe_memory(lines, qvmm);
        describe_nics(lines, qvmm);
        fut_qblock_describe(qvmm, lines);
        describe_devices(lines);
        g_ptr_array_add(lines, NULL);
        *ret_lines = (char **)g_ptr_array_free(lines, FALSE);
    }
    fut_qvmm_unlock(taken);
    return ok;
}
