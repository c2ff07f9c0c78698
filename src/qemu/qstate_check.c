/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which section it is that differs between our image of the device state and QEMU's. */
#include "qstate.h"

FutQsection *fut_qcheck_culprit(GArray *sections, const FutQrun *run, const uint8_t *stream,
                                size_t length)
{
    size_t same = 0;
    FutQsection *culprit = NULL;

    while (same < MIN(run->length, length) && run->image[same] == stream[same]) {
        same++;
    }
    /* A section that is not needed has no bytes: the last that begins there is the one. */
    for (guint i = 0; i < sections->len; i++) {
        FutQsection *section = &g_array_index(sections, FutQsection, i);
        if (section->saved && section->at <= same) {
            culprit = section;
        }
    }
    return culprit;
}
