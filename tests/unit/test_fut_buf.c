/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Growable buffer: contents survive growth, memory is kept and given back as said. */
#include "fut_buf.h"

#include <glib.h>

static void test_append(void)
{
    FutBuf buf = { 0 };
    for (unsigned i = 0; i < 100000; i++) {
        uint32_t value = i * 2654435761u;
        fut_buf_append(&buf, &value, sizeof(value));
    }
    g_assert_cmpuint(buf.len, ==, 400000);
    g_assert_cmpuint(buf.cap, >=, buf.len);
    for (unsigned i = 0; i < 100000; i++) {
        uint32_t value;
        memcpy(&value, buf.data + i * 4, 4);
        g_assert_cmpuint(value, ==, i * 2654435761u);
    }
    fut_buf_done(&buf);
    g_assert_null(buf.data);
    g_assert_cmpuint(buf.cap + buf.len, ==, 0);
}

static void test_append_nothing(void)
{
    FutBuf buf = { 0 };
    fut_buf_append(&buf, NULL, 0);
    g_assert_null(buf.data);
    fut_buf_append(&buf, "x", 1);
    fut_buf_append(&buf, NULL, 0);
    g_assert_cmpuint(buf.len, ==, 1);
    fut_buf_done(&buf);
}

static void test_extend(void)
{
    FutBuf buf = { 0 };
    fut_buf_append(&buf, "abc", 3);
    uint8_t *at = fut_buf_extend(&buf, 10);
    g_assert_true(at == buf.data + 3);
    memset(at, 'd', 10);
    g_assert_cmpmem(buf.data, buf.len, "abcdddddddddd", 13);
    fut_buf_done(&buf);
}

static void test_reserve_keeps_memory(void)
{
    FutBuf buf = { 0 };
    fut_buf_reserve(&buf, 10000);
    g_assert_cmpuint(buf.cap, >=, 10000);
    g_assert_cmpuint(buf.len, ==, 0);
    const uint8_t *data = buf.data;
    for (unsigned i = 0; i < 10; i++) {
        fut_buf_extend(&buf, 10000);
        fut_buf_clear(&buf);
        g_assert_true(buf.data == data);
    }
    fut_buf_done(&buf);
}

/* Many small reserves must not copy the contents each time. */
static void test_growth_doubles(void)
{
    FutBuf buf = { 0 };
    unsigned growths = 0;
    for (unsigned i = 0; i < 1000000; i++) {
        size_t cap = buf.cap;
        fut_buf_append(&buf, "12345678", 8);
        growths += buf.cap != cap;
    }
    g_assert_cmpuint(growths, <=, 12);
    fut_buf_done(&buf);
}

static void test_trim(void)
{
    FutBuf buf = { 0 };
    fut_buf_reserve(&buf, 1 << 20);
    fut_buf_append(&buf, "abc", 3);
    fut_buf_trim(&buf, 2 << 20);
    g_assert_cmpuint(buf.cap, >=, 1 << 20);
    fut_buf_trim(&buf, 4096);
    g_assert_cmpuint(buf.cap, ==, 4096);
    g_assert_cmpmem(buf.data, buf.len, "abc", 3);
    fut_buf_trim(&buf, 2);
    g_assert_cmpuint(buf.len, ==, 0);
    g_assert_cmpuint(buf.cap, ==, 2);
    fut_buf_trim(&buf, 0);
    g_assert_cmpuint(buf.cap, ==, 0);
    g_assert_null(buf.data);
    fut_buf_append(&buf, "again", 5);
    g_assert_cmpmem(buf.data, buf.len, "again", 5);
    fut_buf_done(&buf);
}

/* No memory: the buffer stays what it is. */
static void test_try_reserve(void)
{
    FutBuf buf = { 0 };

    fut_buf_append(&buf, "abc", 3);
    size_t cap = buf.cap;
    g_assert_false(fut_buf_try_reserve(&buf, (size_t)1 << 60));
    g_assert_cmpuint(buf.cap, ==, cap);
    g_assert_cmpmem(buf.data, buf.len, "abc", 3);
    g_assert_true(fut_buf_try_reserve(&buf, 1 << 20));
    g_assert_cmpuint(buf.cap, >=, 3 + (1 << 20));
    g_assert_cmpmem(buf.data, buf.len, "abc", 3);
    fut_buf_done(&buf);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/buf/append", test_append);
    g_test_add_func("/buf/append-nothing", test_append_nothing);
    g_test_add_func("/buf/extend", test_extend);
    g_test_add_func("/buf/reserve-keeps-memory", test_reserve_keeps_memory);
    g_test_add_func("/buf/growth-doubles", test_growth_doubles);
    g_test_add_func("/buf/trim", test_trim);
    g_test_add_func("/buf/try-reserve", test_try_reserve);
    return g_test_run();
}
