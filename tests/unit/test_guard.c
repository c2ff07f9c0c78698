/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Where this process may not handle faults there is nothing to test, and no guard. */
#include <fcntl.h>
#include <glib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "guard.h"
#include "resident.h"

#define PAGES 64
#define HUGE_PAGE (2u << 20)

typedef struct {
    FutGuard *guard;
    FutMemory memory;
    int faults, refusals;
    uint8_t before
        [PAGES]; /* what each page's first byte was when somebody wrote to it; read by the guard's thread */
} World;

static bool fault(void *opaque, const uint8_t *address)
{
    World *world = opaque;
    uint64_t page = (uint64_t)(address - world->memory.block[0].base) / FUT_PAGE_SIZE;

    if (world->refusals > 0) {
        world->refusals--;
        return false;
    }
    world->before[page] = world->memory.block[0].base[page * FUT_PAGE_SIZE];
    g_atomic_int_inc(&world->faults);
    fut_guard_set(world->guard, world->memory.block[0].base + page * FUT_PAGE_SIZE, FUT_PAGE_SIZE,
                  false);
    return true;
}

static bool begin(World *world)
{
    *world = (World){ 0 };
    world->memory.count = 1;
    world->memory.block[0].length = PAGES * FUT_PAGE_SIZE;
    world->memory.block[0].base = mmap(NULL, PAGES * FUT_PAGE_SIZE, PROT_READ | PROT_WRITE,
                                       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    g_assert_true(world->memory.block[0].base != MAP_FAILED);
    world->guard = fut_guard_new(&world->memory, fault, world);
    if (!world->guard) {
        g_test_message("no userfaultfd for this process");
    }
    return world->guard != NULL;
}

static void end(World *world)
{
    fut_guard_free(world->guard);
    munmap(world->memory.block[0].base, PAGES * FUT_PAGE_SIZE);
}

static void test_writers_wait(void)
{
    World world;

    if (begin(&world)) {
        uint8_t *base = world.memory.block[0].base;
        memset(base, 7, PAGES * FUT_PAGE_SIZE);
        world.refusals = 3;
        g_assert_true(fut_guard_set(world.guard, base, PAGES * FUT_PAGE_SIZE, true));
        base[5 * FUT_PAGE_SIZE] = 8;
        g_assert_cmpint(g_atomic_int_get(&world.faults), ==, 1);
        g_assert_cmpint(world.refusals, ==, 0);
        g_assert_cmpint(__atomic_load_n(&world.before[5], __ATOMIC_SEQ_CST), ==, 7);
        base[5 * FUT_PAGE_SIZE + 9] = 8; /* let go: no second one */
        g_assert_cmpint(g_atomic_int_get(&world.faults), ==, 1);
        int zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);
        g_assert_cmpint(read(zero, base + 6 * FUT_PAGE_SIZE, 2 * FUT_PAGE_SIZE), ==,
                        2 * FUT_PAGE_SIZE); /* by the kernel */
        close(zero);
        g_assert_cmpint(g_atomic_int_get(&world.faults), ==, 3);
        g_assert_cmpint(world.before[6] + world.before[7], ==, 14);
        g_assert_true(fut_guard_set(world.guard, base, PAGES * FUT_PAGE_SIZE, false));
        memset(base, 9, PAGES * FUT_PAGE_SIZE);
        g_assert_cmpint(g_atomic_int_get(&world.faults), ==, 3);
    }
    end(&world);
}

static void test_end_lets_go(void)
{
    World world;

    if (begin(&world)) {
        uint8_t *base = world.memory.block[0].base;
        memset(base, 7, PAGES * FUT_PAGE_SIZE);
        g_assert_true(fut_guard_set(world.guard, base, PAGES * FUT_PAGE_SIZE, true));
        fut_guard_free(g_steal_pointer(&world.guard));
        base[0] = 8;
        g_assert_cmpint(g_atomic_int_get(&world.faults), ==, 0);
    }
    end(&world);
}

static void test_touched_pages(void)
{
    uint64_t bits[1] = { 0 };
    uint8_t *base = mmap(NULL, PAGES * FUT_PAGE_SIZE, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    g_assert_true(base != MAP_FAILED);
    madvise(base, PAGES * FUT_PAGE_SIZE, MADV_NOHUGEPAGE);
    base[3 * FUT_PAGE_SIZE] = 1;
    base[63 * FUT_PAGE_SIZE] = 1;
    fut_resident_look_at(base, PAGES, bits);
    g_assert_cmphex(bits[0], ==, 1ull << 3 | 1ull << 63);
    munmap(base, PAGES * FUT_PAGE_SIZE);

    /* What others may have written counts as touched. */
    bits[0] = 0;
    base = mmap(NULL, PAGES * FUT_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
                0);
    g_assert_true(base != MAP_FAILED);
    fut_resident_look_at(base, PAGES, bits);
    g_assert_cmphex(bits[0], ==, ~0ull);
    munmap(base, PAGES * FUT_PAGE_SIZE);
}

/* A page of 2 MiB, or MAP_FAILED where none is set aside. */
static void *huge_page(void)
{
    return mmap(NULL, HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB,
                -1, 0);
}

/* A page of 2 MiB cannot be let go by parts: no guard for it. */
static void test_huge_pages(void)
{
    World world = { .memory = { .count = 1 } };
    void *base = huge_page();

    g_assert_true(base != MAP_FAILED);
    world.memory.block[0].base = base;
    world.memory.block[0].length = HUGE_PAGE;
    g_assert_null(fut_guard_new(&world.memory, fault, &world));
    munmap(base, HUGE_PAGE);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/guard/writers-wait", test_writers_wait);
    g_test_add_func("/guard/end-lets-go", test_end_lets_go);
    g_test_add_func("/guard/touched-pages", test_touched_pages);
    void *base = huge_page();
    if (base != MAP_FAILED) { /* few hosts have one set aside: no part of the run there */
        munmap(base, HUGE_PAGE);
        g_test_add_func("/guard/huge-pages", test_huge_pages);
    }
    return g_test_run();
}
