/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A guest for KVM on machines where that is too slow for Linux: no operating system, no interrupts, no devices but a
 * serial port. Each processor writes pages of memory of its own, round after round, and notes in a table what it wrote;
 * before it writes a page again it compares the page with its note. A page that was lost on the way to the twin shows there. The
 * first processor does the same with pages that only a device writes (QEMU's fw_cfg, by DMA).
 *
 * Prints "GUEST-READY", then "round N" each 64 rounds of the first processor, with the number of processors at work; "BAD" and
 * where if a page is not what was written.
 */
#include <stdint.h>

#define PAGES 2048 /* a processor's */
#define PAGE_WORDS 1024
#define PAGES_A_ROUND 48
#define MEMORY 0x1000000u /* the first processor's pages; 8 MB a processor */
#define PROCESSORS_MAX 15
#define ROUND_CYCLES 4000000u
#define SERIAL 0x3f8

#define DMA_PAGES 64
#define FW_CFG_DMA 0x514
#define FW_CFG_SELECT_AND_READ 0x0a

/* As fw_cfg wants it: big-endian. */
typedef struct {
    uint32_t control, length, address_high, address_low;
} DmaOrder;

void pages_main(unsigned processor);

static uint32_t noted[PROCESSORS_MAX][PAGES];
static volatile uint32_t rounds[PROCESSORS_MAX];

static uint32_t dma_pages[DMA_PAGES][PAGE_WORDS] __attribute__((aligned(4096)));
static uint32_t dma_noted[DMA_PAGES];
static volatile DmaOrder dma_order;

static void out_long(uint16_t port, uint32_t value)
{
    __asm__ volatile("outl %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

static void put(char c)
{
    uint8_t status;

    do {
        __asm__ volatile("inb %1, %0" : "=a"(status) : "Nd"((uint16_t)(SERIAL + 5)));
    } while (!(status & 0x20));
    __asm__ volatile("outb %0, %1" : : "a"(c), "Nd"((uint16_t)SERIAL));
}

static void say(const char *text)
{
    while (*text) {
        put(*text++);
    }
}

static void say_number(uint32_t number)
{
    if (number >= 10) {
        say_number(number / 10);
    }
    put('0' + number % 10);
}

static void say_round(void)
{
    uint32_t working = 0;

    for (unsigned i = 0; i < PROCESSORS_MAX; i++) {
        working += rounds[i] > 0;
    }
    say("round ");
    say_number(rounds[0]);
    say(" processors ");
    say_number(working);
    say("\n");
}

static void fail(unsigned processor, uint32_t page)
{
    say("BAD page ");
    say_number(page);
    say(" of processor ");
    say_number(processor);
    say("\n");
}

static void wait_cycles(uint32_t cycles)
{
    uint64_t begin = __builtin_ia32_rdtsc();

    while (__builtin_ia32_rdtsc() - begin < cycles) {
        __builtin_ia32_pause();
    }
}

/* Word 0 and one more tell the round in which the page was written. */
static void write_page(unsigned processor, uint32_t page, uint32_t round)
{
    volatile uint32_t *words =
        (volatile uint32_t *)(MEMORY + (processor * PAGES + page) * PAGE_WORDS * 4);
    uint32_t before = noted[processor][page];

    if (words[0] != before || (before > 0 && words[1 + before % (PAGE_WORDS - 1)] != before)) {
        fail(processor, page);
    }
    words[0] = round;
    words[1 + round % (PAGE_WORDS - 1)] = round;
    noted[processor][page] = round;
}

/* The device writes one of two words into a page: the item of that number. */
static void read_item(uint32_t item, volatile uint32_t *to)
{
    dma_order.address_low = __builtin_bswap32((uint32_t)to);
    dma_order.length = __builtin_bswap32(sizeof(*to));
    dma_order.control = __builtin_bswap32(item << 16 | FW_CFG_SELECT_AND_READ);
    out_long(FW_CFG_DMA, 0);
    out_long(FW_CFG_DMA + 4, __builtin_bswap32((uint32_t)&dma_order));
    while (dma_order.control != 0) {
        __builtin_ia32_pause();
    }
}

/* A page that no processor ever writes. */
static void let_device_write(uint32_t round)
{
    uint32_t page = round % DMA_PAGES;
    volatile uint32_t *word = &dma_pages[page][page];

    if (*word != dma_noted[page]) {
        fail(PROCESSORS_MAX, page);
    }
    read_item(round / DMA_PAGES % 2, word);
    if (*word == dma_noted[page]) {
        say("BAD device: it has not written\n");
    }
    dma_noted[page] = *word;
}

void pages_main(unsigned processor)
{
    if (processor >= PROCESSORS_MAX) {
        for (;;) {
            __asm__ volatile("cli; hlt");
        }
    }
    if (processor == 0) {
        say("GUEST-READY\n");
    }
    for (uint32_t round = 1;; round++) {
        for (uint32_t i = 0; i < PAGES_A_ROUND; i++) {
            write_page(processor, (round * 31 + i * 37) % PAGES, round);
        }
        if (processor == 0) {
            let_device_write(round);
        }
        rounds[processor] = round;
        if (processor == 0 && round % 64 == 0) {
            say_round();
        }
        wait_cycles(ROUND_CYCLES);
    }
}
