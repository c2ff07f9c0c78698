/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A jump over the first bytes of a function. No instruction of the function is kept, so none has to
 * be understood.
 *
 * It is written through /proc/self/mem: the pages of the program stay unwritable, and become
 * private copies of this process.
 */
#include "qdetour.h"

#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include "fut_error.h"

/* jmp *0(%rip), and the address after it. */
typedef struct __attribute__((packed)) {
    uint8_t instruction[6];
    uint64_t to;
} Jump;

/* What the program's own symbol table says of it is long enough to be written over. */
static bool has_room(void *function, GError **error)
{
    Dl_info info;
    const Elf64_Sym *symbol = NULL;

    if (dladdr1(function, &info, (void **)&symbol, RTLD_DL_SYMENT) == 0 || !symbol ||
        info.dli_saddr != function || symbol->st_size < sizeof(Jump)) {
        g_set_error(error, FUT_ERROR, FUT_ERR_UNSUPPORTED,
                    "QEMU has no function of %zu bytes or more there", sizeof(Jump));
        return false;
    }
    return true;
}

static bool write_text(void *at, const void *bytes, size_t length, GError **error)
{
    int fd = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
    bool written = fd >= 0 && pwrite(fd, bytes, length, (off_t)(uintptr_t)at) == (ssize_t)length;

    if (!written) {
        g_set_error(error, FUT_ERROR, FUT_ERR_UNSUPPORTED, "/proc/self/mem: %s", g_strerror(errno));
    }
    if (fd >= 0) {
        close(fd);
    }
    return written;
}

bool fut_qdetour(void *function, const void *to, GError **error)
{
#if defined(__x86_64__)
    Jump jump = { { 0xff, 0x25, 0, 0, 0, 0 }, (uintptr_t)to };

    if (!has_room(function, error) || !write_text(function, &jump, sizeof(jump), error)) {
        return false;
    }
    g_assert(memcmp(function, &jump, sizeof(jump)) == 0);
    return true;
#else
    g_set_error(error, FUT_ERROR, FUT_ERR_UNSUPPORTED, "not done on this processor");
    return false;
#endif
}
