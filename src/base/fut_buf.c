/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Growable byte buffer: the parts that allocate. */
#include "fut_buf.h"

#include <glib.h>

#define FUT_BUF_FIRST 4096

void fut_buf_done(FutBuf *buf)
{
    g_free(buf->data);
    *buf = (FutBuf){ 0 };
}

/* Doubles, so that many small appends cost a constant each; at least what is asked for. */
void fut_buf_reserve(FutBuf *buf, size_t more)
{
    if (buf->cap - buf->len >= more) {
        return;
    }
    g_assert(more <= G_MAXSSIZE - buf->len);
    size_t wanted = buf->len + more;
    size_t doubled = buf->cap < G_MAXSSIZE / 2 ? MAX(buf->cap * 2, FUT_BUF_FIRST) : wanted;
    buf->cap = MAX(wanted, doubled);
    buf->data = g_realloc(buf->data, buf->cap);
}

void fut_buf_trim(FutBuf *buf, size_t keep)
{
    if (buf->cap <= keep) {
        return;
    }
    if (buf->len > keep) {
        buf->len = 0;
    }
    buf->data = g_realloc(buf->data, keep); /* frees when keep is 0 */
    buf->cap = keep;
}
