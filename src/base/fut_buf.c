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

/* The capacity that room for `more` bytes asks for: doubled, so that many small appends cost a constant
 * each. */
static size_t grown(const FutBuf *buf, size_t more)
{
    g_assert(more <= G_MAXSSIZE - buf->len);
    size_t wanted = buf->len + more;
    size_t doubled = buf->cap < G_MAXSSIZE / 2 ? MAX(buf->cap * 2, FUT_BUF_FIRST) : wanted;
    return MAX(wanted, doubled);
}

void fut_buf_reserve(FutBuf *buf, size_t more)
{
    if (buf->cap - buf->len < more) {
        buf->cap = grown(buf, more);
        buf->data = g_realloc(buf->data, buf->cap);
    }
}

bool fut_buf_try_reserve(FutBuf *buf, size_t more)
{
    if (buf->cap - buf->len >= more) {
        return true;
    }
    size_t cap = grown(buf, more);
    uint8_t *data = g_try_realloc(buf->data, cap);
    if (data) {
        buf->data = data;
        buf->cap = cap;
    }
    return data != NULL;
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
