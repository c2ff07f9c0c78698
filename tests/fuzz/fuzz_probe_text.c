/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What people and peers write: the first byte chooses the language, a filter that narrows, or a set of definitions. What is accepted
 * of the last encodes to the very same bytes again. */
#include <glib.h>
#include <string.h>

#include "fuzz.h"
#include "probe_definition.h"
#include "probe_text.h"

static void fuzz_text(const char *text, const char *filter)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(FutProbeText) probe = fut_probe_text_parse(text, &error);

    g_assert_true((probe == NULL) == (error != NULL));
    if (!probe) {
        return;
    }
    g_assert_nonnull(probe->function);
    g_assert_cmpuint(probe->field_count, <=, FUT_PROBE_FIELDS_MAX);
    g_assert_cmpuint(probe->condition_count, <=, FUT_PROBE_CONDITIONS_MAX);
    if (!fut_probe_text_narrow(probe, filter, &error)) {
        g_assert_nonnull(error);
    }
}

static void fuzz_set(const uint8_t *body, size_t length)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(FutProbeSet) set = fut_probe_set_decode(body, length, &error);
    FutBuf again = { 0 };

    g_assert_true((set == NULL) == (error != NULL));
    if (set) {
        fut_probe_set_encode(&again, set);
        g_assert_cmpmem(again.data, again.len, body, length);
    }
    fut_buf_done(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) {
        return 0;
    }
    if (data[0] & 1) {
        fuzz_set(data + 1, size - 1);
        return 0;
    }
    /* Two texts with a zero between them, or the same one twice. */
    g_autofree char *text = g_strndup((const char *)data + 1, size - 1);
    size_t length = strlen(text);
    g_autofree char *filter = length + 2 < size
                                  ? g_strndup((const char *)data + length + 2, size - length - 2)
                                  : g_strdup(text);
    fuzz_text(text, filter);
    return 0;
}
