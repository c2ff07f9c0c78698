/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A kernel's image that holds anything: symbols or an error, in bounded work; each symbol can be found again. */
#include <glib.h>
#include <string.h>

#include "fuzz.h"
#include "kallsyms.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(FutKallsyms) symbols = fut_kallsyms_decode(data, size, &error);
    FutSymbol symbol, found;

    g_assert_true((symbols == NULL) == (error != NULL));
    if (!symbols) {
        return 0;
    }
    size_t count = fut_kallsyms_count(symbols);
    g_assert_cmpuint(count, <=, size); /* a name takes a byte at least */
    for (size_t i = 0; i < count; i += 1 + count / 16) {
        g_assert_true(fut_kallsyms_at(symbols, i, &symbol));
        g_assert_cmpuint(strlen(symbol.name), <, 512);
        g_assert_true(fut_kallsyms_find(symbols, symbol.name, &found));
    }
    g_assert_false(fut_kallsyms_at(symbols, count, &symbol));
    g_free(fut_kallsyms_like(symbols, "__send_signal"));
    return 0;
}
