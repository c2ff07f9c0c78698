/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Probes in the guest's kernel under KVM. The guest's memory stays as it is here, too: over the page with the probed instruction lies
 * a copy that the guest can read and execute, and not write (a "ROM device" of QEMU's, so that KVM gets a memory slot of its own for it).
 * There the instruction begins with `out %al, $port`, a port that no device of the machine has. A vCPU that comes by leaves the guest,
 * and QEMU calls the port's device, which is ours, before the instruction counts as done: we carry out the one
 * that it stands for and set the registers to what they are behind it. KVM takes note that the instruction pointer is another one and
 * leaves it alone. So each execution is one call, whatever the other vCPUs do, nothing is taken out for a step, and the guest's
 * own breakpoints and debug registers are its own.
 *
 * Checkpoints, snapshots and the twin see the page below, which never has a trap in it. If the guest writes to the page (it patches its own code),
 * QEMU calls us: the write goes to the page below and into the copy, and a trap in whose place another instruction stands now sees nothing
 * until its own is there again. Copies are made anew when the guest goes on after its memory was replaced, and are all removed when the machine is reset.
 *
 * All of this is with the BQL held. Pages come and go while no vCPU executes.
 */
#include "qprobe.h"

#include "fut_error.h"
#include "insn_length.h"
#include "probe_step.h"

#define PAGE_BYTES ((hwaddr)FUT_GUEST_PAGE_BYTES)
#define OUT_IMMEDIATE 0xe6
#define TRAP_BYTES 2u
/* Of a PC's ports those that are least in use. */
#define PORT_FIRST 0xe0
#define PORT_LAST 0xef
/* Above whatever the machine has in memory; chipsets use small numbers. */
#define PRIORITY 100000
/* The control thread does not wait longer for a vCPU, which may want the BQL while the main loop stands still. */
#define LOOK_WAIT_MS 500
/* Before it knows anything. */
#define FIRST_LOOK_WAIT_MS 10000
/* What was seen so shortly before is seen again: one order may look many times. */
#define LOOK_FRESH_MS 20

typedef struct {
    MemoryRegion overlay; /* that part of `copies`; made once */
    MemoryRegion *real;   /* what is below */
    hwaddr physical, within;
    uint8_t *bytes; /* of what is below */
    unsigned users; /* 0: free */
} Page;

typedef struct {
    uint64_t address, physical; /* 0: none */
    Page *page;
    FutProbeStep step; /* the instruction that it stands for */
    uint8_t code[FUT_INSN_BYTES_MAX];
} Trap;

static struct {
    FutQvmm *qvmm;
    MemoryRegion copies, port;
    int port_number; /* 0: not there yet */
    Page pages[FUT_PROBES_MAX];
    Trap traps[FUT_PROBES_MAX]; /* by the probe's number */
    struct {                    /* for the stopped call */
        const FutProbe *probe;
        unsigned number;
        GError *error;
    } change;
    struct {
        GMutex lock;
        GCond answered;
        FutGuestLook value;
        uint64_t asked, given; /* how often */
        gint64 given_us;       /* when last */
    } look;
} kvm;

/* -- the copies -- */

static uint8_t *copy_of(const Page *page)
{
    return (uint8_t *)memory_region_get_ram_ptr(&kvm.copies) + (page - kvm.pages) * PAGE_BYTES;
}

/*
 * It stands where its instruction does, and in no other one's place: what is there may not be code any more. vCPUs may execute it
 * meanwhile, and find the old instruction or the new one.
 */
static void arm(const Trap *trap)
{
    size_t at = trap->physical % PAGE_BYTES;
    const uint8_t *below = trap->page->bytes + at;
    const uint8_t bytes[TRAP_BYTES] = { OUT_IMMEDIATE, (uint8_t)kvm.port_number };
    bool same = memcmp(below, trap->code, fut_probe_step_length(trap->step)) == 0;

    memcpy(copy_of(trap->page) + at, same ? bytes : below, TRAP_BYTES);
}

static bool is_in(const Trap *trap)
{
    return trap->address != 0;
}

static void refresh(const Page *page)
{
    memcpy(copy_of(page), page->bytes, PAGE_BYTES);
    for (unsigned i = 0; i < FUT_PROBES_MAX; i++) {
        if (is_in(&kvm.traps[i]) && kvm.traps[i].page == page) {
            arm(&kvm.traps[i]);
        }
    }
}

/* The guest's memory may have been replaced while it did not run. */
static void refresh_all(void *opaque, bool running, RunState state)
{
    for (unsigned i = 0; running && i < FUT_PROBES_MAX; i++) {
        if (kvm.pages[i].users > 0) {
            refresh(&kvm.pages[i]);
        }
    }
}

/* Not called: the guest reads the copy itself. */
static uint64_t read_copy(void *opaque, hwaddr at, unsigned size)
{
    uint64_t value = 0;

    memcpy(&value, (uint8_t *)memory_region_get_ram_ptr(&kvm.copies) + at, size);
    return value;
}

/* Is a byte of the trap's instruction among these? */
static bool touches(const Trap *trap, const Page *page, size_t at, unsigned size)
{
    size_t begin = trap->physical % PAGE_BYTES;

    return is_in(trap) && trap->page == page && at < begin + fut_probe_step_length(trap->step) &&
           begin < at + size;
}

static void write_copy(void *opaque, hwaddr at, uint64_t value, unsigned size)
{
    const Page *page = &kvm.pages[at / PAGE_BYTES];
    size_t within = at % PAGE_BYTES;

    if (page->users == 0) {
        return;
    }
    memcpy(page->bytes + within, &value, size);
    memory_region_set_dirty(page->real, page->within + within, size);
    memcpy(copy_of(page) + within, &value, size);
    for (unsigned i = 0; i < FUT_PROBES_MAX; i++) {
        if (touches(&kvm.traps[i], page, within, size)) {
            arm(&kvm.traps[i]);
        }
    }
}

static const MemoryRegionOps copy_ops = {
    .read = read_copy,
    .write = write_copy,
    .endianness = DEVICE_LITTLE_ENDIAN,
    .valid = { .min_access_size = 1, .max_access_size = 8, .unaligned = true },
    .impl = { .min_access_size = 1, .max_access_size = 8, .unaligned = true },
};

const void *fut_qprobe_kvm_below(const MemoryRegion *region, hwaddr within)
{
    const Page *page = &kvm.pages[within / PAGE_BYTES];

    return region == &kvm.copies && page->users > 0 ? page->bytes + within % PAGE_BYTES : NULL;
}

/* -- pages come and go: BQL, no vCPU executes -- */

static Page *page_over(hwaddr physical)
{
    for (unsigned i = 0; i < FUT_PROBES_MAX; i++) {
        if (kvm.pages[i].users > 0 && kvm.pages[i].physical == physical) {
            return &kvm.pages[i];
        }
    }
    return NULL;
}

static Page *free_page(void)
{
    for (unsigned i = 0; i < FUT_PROBES_MAX; i++) {
        if (kvm.pages[i].users == 0) {
            return &kvm.pages[i];
        }
    }
    g_assert_not_reached(); /* there are as many as probes */
}

/* NULL: no RAM of the guest is there. */
static Page *page_put(hwaddr physical)
{
    Page *page = page_over(physical);
    hwaddr within, available = PAGE_BYTES;

    if (page) {
        page->users++;
        return page;
    }
    RCU_READ_LOCK_GUARD();
    MemoryRegion *region = address_space_translate(&address_space_memory, physical, &within,
                                                   &available, false, MEMTXATTRS_UNSPECIFIED);
    if (!memory_region_is_ram(region) || memory_region_is_ram_device(region) ||
        memory_region_is_rom(region) || available < PAGE_BYTES) {
        return NULL;
    }
    page = free_page();
    page->real = region;
    page->within = within;
    page->physical = physical;
    page->bytes = (uint8_t *)memory_region_get_ram_ptr(region) + within;
    page->users = 1;
    refresh(page);
    memory_region_add_subregion_overlap(get_system_memory(), physical, &page->overlay, PRIORITY);
    return page;
}

static void page_drop(Page *page)
{
    if (--page->users == 0) {
        memory_region_del_subregion(get_system_memory(), &page->overlay);
    }
}

static void trap_remove(Trap *trap)
{
    Page *page = trap->page;

    if (is_in(trap)) {
        *trap = (Trap){ 0 };
        refresh(page);
        page_drop(page);
    }
}

static void machine_reset(void *opaque)
{
    for (unsigned i = 0; i < FUT_PROBES_MAX; i++) {
        trap_remove(&kvm.traps[i]);
    }
}

/* -- a hit: the vCPU's thread, in the middle of its `out` -- */

typedef struct {
    struct kvm_regs regs;
    struct kvm_sregs sregs;
    struct {
        struct kvm_msrs head;
        struct kvm_msr_entry entries[2]; /* LSTAR, KERNEL_GS_BASE */
    } msrs;
} Vcpu;

static bool vcpu_read(CPUState *cpu, Vcpu *ret)
{
    memset(&ret->msrs, 0, sizeof(ret->msrs));
    ret->msrs.head.nmsrs = G_N_ELEMENTS(ret->msrs.entries);
    ret->msrs.entries[0].index = MSR_LSTAR;
    ret->msrs.entries[1].index = MSR_KERNELGSBASE;
    return kvm_vcpu_ioctl(cpu, KVM_GET_REGS, &ret->regs) == 0 &&
           kvm_vcpu_ioctl(cpu, KVM_GET_SREGS, &ret->sregs) == 0 &&
           kvm_vcpu_ioctl(cpu, KVM_GET_MSRS, &ret->msrs) == (int)ret->msrs.head.nmsrs;
}

static FutGuestMemory memory_of(const Vcpu *vcpu)
{
    return fut_qprobe_memory_at(vcpu->sregs.cr3, vcpu->sregs.cr4);
}

/* As x86 numbers them. */
static void registers_get(const struct kvm_regs *regs, uint64_t ret[FUT_REGISTERS])
{
    const uint64_t all[] = { regs->rax, regs->rcx, regs->rdx, regs->rbx, regs->rsp, regs->rbp,
                             regs->rsi, regs->rdi, regs->r8,  regs->r9,  regs->r10, regs->r11,
                             regs->r12, regs->r13, regs->r14, regs->r15 };

    QEMU_BUILD_BUG_ON(sizeof(all) != FUT_REGISTERS * sizeof(uint64_t));
    memcpy(ret, all, sizeof(all));
}

static void registers_set(struct kvm_regs *regs, const uint64_t from[FUT_REGISTERS])
{
    __u64 *const all[] = { &regs->rax, &regs->rcx, &regs->rdx, &regs->rbx, &regs->rsp, &regs->rbp,
                           &regs->rsi, &regs->rdi, &regs->r8,  &regs->r9,  &regs->r10, &regs->r11,
                           &regs->r12, &regs->r13, &regs->r14, &regs->r15 };

    for (unsigned i = 0; i < FUT_REGISTERS; i++) {
        *all[i] = from[i];
    }
}

static FutProbeHit make_hit(CPUState *cpu, const Vcpu *vcpu)
{
    uint64_t gs = vcpu->sregs.gs.base;
    FutProbeHit hit = {
        .instruction = vcpu->regs.rip,
        /* Right after an interrupt the kernel has not put its own base in place yet. */
        .gs_base = (int64_t)gs < 0 ? gs : vcpu->msrs.entries[1].data,
        .syscall_entry = vcpu->msrs.entries[0].data,
        .boot = qatomic_read(&kvm.qvmm->boots),
        .memory = memory_of(vcpu),
        .guest_time_ns = (uint64_t)qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL),
        .vcpu = (unsigned)cpu->cpu_index,
    };

    registers_get(&vcpu->regs, hit.registers);
    return hit;
}

/* The first of those that are there, by the physical address: the same code may be mapped at another one. NULL: none is. */
static const Trap *trap_at(const Vcpu *vcpu)
{
    FutGuestMemory memory = memory_of(vcpu);
    uint64_t physical;

    if (!fut_guest_translate(&memory, vcpu->regs.rip, &physical)) {
        return NULL;
    }
    for (unsigned i = 0; i < FUT_PROBES_MAX; i++) {
        if (is_in(&kvm.traps[i]) && kvm.traps[i].physical == physical) {
            return &kvm.traps[i];
        }
    }
    return NULL;
}

/* A kernel's stack is always there. */
static void push(const FutProbeHit *hit, uint64_t value)
{
    uint64_t physical;

    if (fut_guest_translate(&hit->memory, hit->registers[FUT_RSP], &physical)) {
        uint64_t bytes = cpu_to_le64(value);
        address_space_write(&address_space_memory, physical, MEMTXATTRS_UNSPECIFIED, &bytes,
                            sizeof(bytes));
    }
}

/* What the guest writes to that port itself goes nowhere, as without us. */
static void port_write(void *opaque, hwaddr at, uint64_t value, unsigned size)
{
    CPUState *cpu = current_cpu;
    Vcpu vcpu;
    const Trap *trap = cpu && vcpu_read(cpu, &vcpu) ? trap_at(&vcpu) : NULL;

    if (!trap) {
        return;
    }
    FutProbeHit hit = make_hit(cpu, &vcpu);
    for (unsigned i = 0; i < FUT_PROBES_MAX; i++) {
        if (is_in(&kvm.traps[i]) && kvm.traps[i].address == hit.instruction) {
            fut_watch_hit(kvm.qvmm->vmm.watch, i, &hit);
        }
    }
    uint64_t pushed = fut_probe_step_do(trap->step, hit.registers, &hit.instruction);
    if (pushed != 0) {
        push(&hit, pushed);
    }
    registers_set(&vcpu.regs, hit.registers);
    vcpu.regs.rip = hit.instruction;
    kvm_vcpu_ioctl(cpu, KVM_SET_REGS, &vcpu.regs);
}

static uint64_t port_read(void *opaque, hwaddr at, unsigned size)
{
    return 0xff; /* nobody is there */
}

static const MemoryRegionOps port_ops = {
    .read = port_read,
    .write = port_write,
    .endianness = DEVICE_LITTLE_ENDIAN,
    .valid = { .min_access_size = 1, .max_access_size = 1 },
    .impl = { .min_access_size = 1, .max_access_size = 1 },
};

/* -- coming and going -- */

static bool port_take(void)
{
    for (int port = PORT_FIRST; port <= PORT_LAST && kvm.port_number == 0; port++) {
        if (!memory_region_present(get_system_io(), port)) {
            memory_region_add_subregion(get_system_io(), port, &kvm.port);
            kvm.port_number = port;
        }
    }
    return kvm.port_number != 0;
}

void fut_qprobe_kvm_init(FutQvmm *qvmm)
{
    kvm.qvmm = qvmm;
    g_mutex_init(&kvm.look.lock);
    g_cond_init(&kvm.look.answered);
    /* Not migratable: no part of what a twin or a snapshot gets. */
    memory_region_init_rom_device_nomigrate(&kvm.copies, NULL, &copy_ops, NULL, "futago-probes",
                                            FUT_PROBES_MAX * PAGE_BYTES, &error_fatal);
    for (unsigned i = 0; i < FUT_PROBES_MAX; i++) {
        memory_region_init_alias(&kvm.pages[i].overlay, NULL, "futago-probes-page", &kvm.copies,
                                 i * PAGE_BYTES, PAGE_BYTES);
    }
    memory_region_init_io(&kvm.port, NULL, &port_ops, NULL, "futago-probes-port", 1);
    qemu_register_reset(machine_reset, NULL);
    qemu_add_vm_change_state_handler(refresh_all, NULL);
}

static void refuse(FutErr code, const char *why)
{
    g_set_error(&kvm.change.error, FUT_ERROR, code, "probe: '%s' %s", kvm.change.probe->point, why);
}

/* BQL, no vCPU executes. */
static void insert(FutQvmm *qvmm)
{
    const FutProbe *probe = kvm.change.probe;
    size_t at = probe->physical % PAGE_BYTES,
           length = MIN(PAGE_BYTES - at, sizeof(((Trap *)0)->code));
    Trap trap = { .address = probe->address, .physical = probe->physical };

    trap.page = page_put(probe->physical & ~(PAGE_BYTES - 1));
    if (!trap.page) {
        refuse(FUT_ERR_ARG, "is not in memory");
        return;
    }
    memcpy(trap.code, trap.page->bytes + at, length);
    trap.step = fut_probe_step_decode(trap.code, length);
    if (fut_probe_step_length(trap.step) < TRAP_BYTES) {
        page_drop(trap.page);
        refuse(
            FUT_ERR_UNSUPPORTED,
            probe->within
                ? "is an instruction that cannot be replaced under KVM: only nops, calls and moves "
                  "between registers can; probe one of these, or run under TCG"
                : "begins with an instruction that cannot be replaced under KVM: probe a function "
                  "that the kernel's own tracer could (its available_filter_functions), or run "
                  "under TCG");
        return;
    }
    kvm.traps[kvm.change.number] = trap;
    arm(&trap);
}

static bool check(const FutProbe *probe, GError **error)
{
    if (probe->calls) {
        g_set_error(
            error, FUT_ERROR, FUT_ERR_UNSUPPORTED,
            "probe: returns (kretprobe) are seen under TCG only: probe the entry of '%s', or "
            "a function that is called after it",
            probe->point);
        return false;
    }
    if (*probe->module) {
        g_set_error(
            error, FUT_ERROR, FUT_ERR_UNSUPPORTED,
            "probe: '%s' is of module %s, whose memory the guest may put to another use: it can be "
            "probed under TCG only",
            probe->point, probe->module);
        return false;
    }
    if (probe->passes) {
        g_set_error(
            error, FUT_ERROR, FUT_ERR_UNSUPPORTED,
            "probe: '%s' runs at boot only and goes from memory then: it can be probed under "
            "TCG only",
            probe->point);
        return false;
    }
    return true;
}

bool fut_qprobe_kvm_insert(FutQvmm *qvmm, unsigned number, const FutProbe *probe, GError **error)
{
    if (!check(probe, error)) {
        return false;
    }
    bool taken = fut_qvmm_lock();
    bool port = port_take();
    fut_qvmm_unlock(taken);
    if (!port) {
        g_set_error_literal(error, FUT_ERROR, FUT_ERR_UNSUPPORTED,
                            "probes under KVM need a free I/O port between 0xe0 and 0xef: the "
                            "machine's devices have them all");
        return false;
    }
    kvm.change.probe = probe;
    kvm.change.number = number;
    if (!fut_qstop_call(qvmm, insert)) {
        g_set_error_literal(error, FUT_ERROR, FUT_ERR_STATE, "the VM is about to end");
        return false;
    }
    if (kvm.change.error) {
        g_propagate_error(error, g_steal_pointer(&kvm.change.error));
        return false;
    }
    return true;
}

static void remove_one(FutQvmm *qvmm)
{
    trap_remove(&kvm.traps[kvm.change.number]);
}

bool fut_qprobe_kvm_remove(FutQvmm *qvmm, unsigned number)
{
    kvm.change.number = number;
    return fut_qstop_call(qvmm, remove_one);
}

/* -- looking at the first vCPU: its registers are read by its own thread -- */

static FutGuestLook look_at(CPUState *cpu)
{
    const CPUX86State *env = &X86_CPU(cpu)->env;
    FutGuestLook look = { .boot = qatomic_read(&kvm.qvmm->boots) };
    Vcpu vcpu;

    if (cpu->vcpu_dirty) {
        look.syscall_entry = env->lstar;
        look.memory = fut_qprobe_memory(env);
    } else if (vcpu_read(cpu, &vcpu)) {
        look.syscall_entry = vcpu.msrs.entries[0].data;
        look.memory = memory_of(&vcpu);
    }
    return look;
}

static void answer(CPUState *cpu, run_on_cpu_data data)
{
    FutGuestLook look = look_at(cpu);

    g_mutex_lock(&kvm.look.lock);
    kvm.look.value = look;
    kvm.look.given = kvm.look.asked;
    kvm.look.given_us = g_get_monotonic_time();
    g_cond_broadcast(&kvm.look.answered);
    g_mutex_unlock(&kvm.look.lock);
}

static bool look_again(FutGuestLook *ret)
{
    g_mutex_lock(&kvm.look.lock);
    bool fresh = kvm.look.given > 0 && g_get_monotonic_time() - kvm.look.given_us <
                                           LOOK_FRESH_MS * G_TIME_SPAN_MILLISECOND;
    *ret = fresh ? kvm.look.value : *ret;
    g_mutex_unlock(&kvm.look.lock);
    return fresh;
}

bool fut_qprobe_kvm_look(FutGuestLook *ret, GError **error)
{
    if (look_again(ret)) {
        return true;
    }
    g_mutex_lock(&kvm.look.lock);
    gint64 wait_ms = kvm.look.given > 0 ? LOOK_WAIT_MS : FIRST_LOOK_WAIT_MS;
    gint64 end = g_get_monotonic_time() + wait_ms * G_TIME_SPAN_MILLISECOND;
    bool late = kvm.look.given != kvm.look.asked; /* one did not wait that long before us */
    uint64_t number = late ? kvm.look.asked : ++kvm.look.asked;
    g_mutex_unlock(&kvm.look.lock);
    if (!late) {
        async_run_on_cpu(first_cpu, answer, RUN_ON_CPU_NULL);
    }
    g_mutex_lock(&kvm.look.lock);
    while (kvm.look.given < number && !(late && kvm.look.given > 0) &&
           g_cond_wait_until(&kvm.look.answered, &kvm.look.lock, end)) {
    }
    bool known = kvm.look.given > 0; /* perhaps not of this moment */
    *ret = kvm.look.value;
    g_mutex_unlock(&kvm.look.lock);
    if (!known) {
        g_set_error_literal(error, FUT_ERROR, FUT_ERR_BUSY,
                            "the guest's first processor does not answer: try again");
    }
    return known;
}
