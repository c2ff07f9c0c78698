/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Growable byte buffer that keeps its memory between uses: the hot path must not allocate. */
#ifndef FUT_BUF_H
#define FUT_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct {
    uint8_t *data; /* owned */
    size_t len;    /* bytes in use */
    size_t cap;    /* bytes allocated */
} FutBuf;

/* A zeroed FutBuf is a valid empty buffer. */
void fut_buf_done(FutBuf *buf);
/* Makes room for `more` bytes after len; aborts on out of memory like g_malloc. len is
 * unchanged. */
void fut_buf_reserve(FutBuf *buf, size_t more);
/* Likewise, but false when there is no memory; the buffer is as before then. */
bool fut_buf_try_reserve(FutBuf *buf, size_t more);
/* Gives memory beyond `keep` bytes back (after one very large epoch). Contents are lost if len >
 * keep. */
void fut_buf_trim(FutBuf *buf, size_t keep);

static inline void fut_buf_clear(FutBuf *buf)
{
    buf->len = 0;
}

/* Extends by n bytes and returns where they are; valid until the next growth. */
static inline void *fut_buf_extend(FutBuf *buf, size_t n)
{
    if (buf->cap - buf->len < n) {
        fut_buf_reserve(buf, n);
    }
    void *at = buf->data + buf->len;
    buf->len += n;
    return at;
}

static inline void fut_buf_append(FutBuf *buf, const void *bytes, size_t n)
{
    if (n > 0) {
        memcpy(fut_buf_extend(buf, n), bytes, n);
    }
}

#endif
