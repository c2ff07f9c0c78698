/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Code translated ahead. TCG translates a piece of the guest's code when it is first executed, and a
 * guest that was restored has executed none: its first answer waits mostly for that. So a snapshot
 * has a list of the pieces that there were, and a guest that is kept ready has them translated while
 * it waits.
 *
 * QEMU finds a piece by the place of its code in memory, its address and the processor's mode. A
 * piece that was translated for nothing is never found, so a list may say what it likes. When its
 * code is written to, QEMU throws it away; what a guest that waits has in its memory is written by
 * nobody but QEMU's devices, of which it knows.
 *
 * Only 64-bit code is taken.
 */
#include "qvmm.h"

/* Pieces that are looked at. */
#define LOOKED_MAX (1u << 18)
/* Pieces that are translated in one go, some milliseconds, in which QEMU does nothing else. */
#define BATCH 256u
/* Where code without an address is translated; any two neighbouring pages will do. */
#define SOMEWHERE 0x7e0000000000ull
/* Of a piece's flags, those that are the processor's and not its hidden ones. */
#define EFLAGS_MASK (IOPL_MASK | TF_MASK | RF_MASK | VM_MASK | AC_MASK)
#define FLAGS_NEEDED (HF_CS64_MASK | HF_LMA_MASK | HF_PE_MASK)
#define FLAGS_UNWANTED (TF_MASK | RF_MASK | VM_MASK | HF_SMM_MASK | HF_GUEST_MASK)

static bool is_wanted(uint32_t flags)
{
    return (flags & FLAGS_NEEDED) == FLAGS_NEEDED && !(flags & FLAGS_UNWANTED);
}

/* -- what there is -- */

typedef struct {
    FutCode code;
    uint32_t age;    /* of its page */
    uint32_t number; /* the later translated, the larger */
} Seen;

typedef struct {
    const FutQvmm *qvmm;
    uint32_t cflags; /* of the pieces that are found when nothing special is going on */
    Seen *seen;
    size_t count;
} Look;

static uint64_t key_of(const FutQvmm *qvmm, tb_page_addr_t at)
{
    for (unsigned i = 0; i < qvmm->memory.count; i++) {
        const RAMBlock *block = qvmm->blocks[i];
        if (at >= block->offset && at - block->offset < block->used_length) {
            return fut_key(i, (at - block->offset) >> FUT_PAGE_SHIFT);
        }
    }
    return FUT_CODE_NONE;
}

typedef struct {
    const TranslationBlock **block;
    size_t count, max;
} Found;

/* QEMU's locks of all pieces are held, for which translating and a guest's fault wait: so nothing is looked at that the walk does not bring along. */
static gboolean take_block(gpointer key, gpointer value, gpointer opaque)
{
    Found *found = opaque;

    found->block[found->count++] = value;
    return found->count == found->max;
}

/* Without a lock: pieces are in QEMU's buffer for code, which stays where it is. If QEMU has thrown all of them away meanwhile this may be anything, and
 * is a line of the list that helps nobody at worst. */
static void look_at(Look *look, const TranslationBlock *block)
{
    if (qatomic_read(&block->cflags) != look->cflags || block->cs_base != 0 ||
        !is_wanted(block->flags)) {
        return;
    }
    uint64_t page = key_of(look->qvmm, block->page_addr[0]), next = FUT_CODE_NONE;
    if (block->page_addr[1] != (tb_page_addr_t)-1) {
        next = key_of(look->qvmm, block->page_addr[1]);
    }
    if (page != FUT_CODE_NONE) {
        look->seen[look->count] =
            (Seen){ { page, next, fut_qemu_code_address(block), block->flags },
                    fut_qhot_code_age(fut_key_block(page), fut_key_page(page)),
                    (uint32_t)look->count };
        look->count++;
    }
}

/* The pages executed last, then of those that were not since somebody looks the pieces that were translated last. */
static int by_age(const void *a, const void *b)
{
    const Seen *x = a, *y = b;

    return x->age != y->age ? (x->age < y->age ? -1 : 1) : x->number > y->number ? -1 : 1;
}

size_t fut_qahead_count(FutVmm *vmm)
{
    return fut_qemu_translates() ? tcg_nb_tbs() : 0;
}

size_t fut_qahead_pieces(FutVmm *vmm, FutCode *ret, size_t max)
{
    size_t room = MIN(fut_qahead_count(vmm), LOOKED_MAX);

    if (room == 0) {
        return 0;
    }
    g_autofree Seen *seen = g_new(Seen, room);
    g_autofree const TranslationBlock **block = g_new(const TranslationBlock *, room);
    Look look = { (FutQvmm *)vmm, curr_cflags(first_cpu), seen, 0 };
    Found found = { block, 0, room };
    memset(block, 0, room * sizeof(*block)); /* no page of it has to be found with the locks held */
    tcg_tb_foreach(take_block, &found);
    for (size_t i = 0; i < found.count; i++) {
        look_at(&look, block[i]);
    }
    qsort(seen, look.count, sizeof(*seen), by_age);
    size_t count = MIN(look.count, max);
    for (size_t i = 0; i < count; i++) {
        ret[i] = seen[i].code;
    }
    return count;
}

/* -- translating -- */

typedef struct {
    FutQvmm *qvmm;
    const FutCode *codes;
    size_t count;
    GArray *ranges; /* RamRange */
} Batch;

/* Guest memory that is RAM at that address. */
typedef struct {
    unsigned block;
    uint64_t offset, length, physical;
} RamRange;

static bool note_range(Int128 start, Int128 length, const MemoryRegion *mr, hwaddr offset,
                       void *opaque)
{
    Batch *batch = opaque;

    for (unsigned i = 0; i < batch->qvmm->memory.count; i++) {
        if (batch->qvmm->blocks[i]->mr == mr && !mr->readonly) {
            RamRange range = { i, offset, int128_get64(length), int128_get64(start) };
            g_array_append_val(batch->ranges, range);
        }
    }
    return false;
}

static bool find_page(const Batch *batch, uint64_t key, hwaddr *ret)
{
    uint64_t at = fut_key_page(key) << FUT_PAGE_SHIFT;

    for (guint i = 0; i < batch->ranges->len; i++) {
        const RamRange *range = &g_array_index(batch->ranges, RamRange, i);
        if (range->block == fut_key_block(key) && at >= range->offset &&
            at - range->offset < range->length) {
            *ret = range->physical + (at - range->offset);
            return true;
        }
    }
    return false;
}

/* Makes the vCPU find the piece's pages at its address, in the piece's mode. What does not go on in a second page never looks there. */
static void translate(CPUState *cpu, const FutCode *code, hwaddr page, hwaddr next)
{
    CPUX86State *env = &X86_CPU(cpu)->env;
    uint64_t place = code->address & ~TARGET_PAGE_MASK;
    uint64_t at = code->address == place ? SOMEWHERE : code->address - place;

    env->hflags = code->flags & ~EFLAGS_MASK;
    env->eflags = code->flags & EFLAGS_MASK;
    int mmu = fut_qemu_code_mmu(cpu);
    tlb_set_page(cpu, at, page, PAGE_READ | PAGE_EXEC, mmu, TARGET_PAGE_SIZE);
    tlb_set_page(cpu, at + TARGET_PAGE_SIZE, next, PAGE_READ | PAGE_EXEC, mmu, TARGET_PAGE_SIZE);
    tb_gen_code(cpu, at + place, 0, code->flags, curr_cflags(cpu));
}

/* Nothing that QEMU has to make room for. */
static bool has_room(void)
{
    return tcg_code_size() < tcg_code_capacity() / 2;
}

static void translate_all(CPUState *cpu, const Batch *batch)
{
    for (size_t i = 0; i < batch->count && has_room(); i++) {
        const FutCode *code = &batch->codes[i];
        hwaddr page, next;
        if (is_wanted(code->flags) && find_page(batch, code->page, &page)) {
            if (code->next == FUT_CODE_NONE || !find_page(batch, code->next, &next)) {
                next = page;
            }
            translate(cpu, code, page, next);
            batch->qvmm->translated++;
        }
    }
}

/* The vCPU's thread, BQL held; its state is about to be loaded. */
static void translate_batch(CPUState *cpu, run_on_cpu_data data)
{
    Batch *batch = data.host_ptr;
    CPUX86State *env = &X86_CPU(cpu)->env;
    uint32_t hflags = env->hflags;
    target_ulong eflags = env->eflags;

    RCU_READ_LOCK_GUARD();
    g_array_set_size(batch->ranges, 0);
    flatview_for_each_range(address_space_to_flatview(&address_space_memory), note_range, batch);
    /* QEMU's own way out of the translator leads here; it takes it where there is no memory. */
    if (sigsetjmp(cpu->jmp_env, 0) == 0) {
        translate_all(cpu, batch);
    }
    env->hflags = hflags;
    env->eflags = eflags;
    tlb_flush(cpu);
}

size_t fut_qahead_prepare(FutVmm *vmm, const FutCode *codes, size_t count)
{
    FutQvmm *qvmm = (FutQvmm *)vmm;
    g_autoptr(GArray) ranges = g_array_new(FALSE, FALSE, sizeof(RamRange));

    for (size_t i = 0; fut_qemu_translates() && i < count; i += BATCH) {
        Batch batch = { qvmm, codes + i, MIN(BATCH, count - i), ranges };
        bool taken = fut_qvmm_lock();
        run_on_cpu(first_cpu, translate_batch, RUN_ON_CPU_HOST_PTR(&batch));
        fut_qvmm_unlock(taken);
    }
    return qvmm->translated;
}

/*
 * Loading a vCPU's state has told all vCPUs to throw translated code away, for memory might have
 * been written by a migration. They do that when they get the BQL, unless somebody has done it
 * since they were told: so it looks as if somebody had.
 */
void fut_qahead_keep(const FutQvmm *qvmm)
{
    if (qvmm->translated > 0) {
        qatomic_set(&tb_ctx.tb_flush_count, tb_ctx.tb_flush_count + 1);
    }
}
