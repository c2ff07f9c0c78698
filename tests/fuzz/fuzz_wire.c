/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The decoders of pair messages. The first byte chooses one, the rest is the body. What a decoder
 * accepts must encode to the very same bytes again: there is one way to say a thing. */
#include "fuzz.h"
#include "wire.h"

static void same(const FutBuf *again, const uint8_t *body, size_t length)
{
    g_assert_cmpmem(again->data, again->len, body, length);
}

static void fuzz_hello(const uint8_t *body, size_t length)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(FutHello) hello = fut_hello_decode(body, length, &error);
    FutBuf again = { 0 };

    g_assert_true((hello == NULL) == (error != NULL));
    if (hello) {
        fut_hello_encode(&again, hello);
        same(&again, body, length);
        fut_buf_done(&again);
    }
}

static void fuzz_welcome(const uint8_t *body, size_t length)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(FutWelcome) welcome = fut_welcome_decode(body, length, &error);
    FutBuf again = { 0 };

    g_assert_true((welcome == NULL) == (error != NULL));
    if (welcome) {
        fut_welcome_encode(&again, welcome);
        same(&again, body, length);
        fut_buf_done(&again);
    }
}

static void fuzz_checkpoint(const uint8_t *body, size_t length)
{
    g_autoptr(GError) error = NULL;
    FutCheckpoint checkpoint;
    uint8_t again[FUT_CHECKPOINT_SIZE];

    if (fut_checkpoint_decode(body, length, &checkpoint, &error)) {
        fut_checkpoint_encode(again, &checkpoint);
        g_assert_cmpmem(again, sizeof(again), body, FUT_CHECKPOINT_SIZE);
    } else {
        g_assert_nonnull(error);
    }
}

static void fuzz_inbound(const uint8_t *body, size_t length)
{
    g_autoptr(GError) error = NULL;
    FutInbound inbound;
    uint8_t again[FUT_INBOUND_SIZE];

    if (fut_inbound_decode(body, length, &inbound, &error)) {
        fut_inbound_encode(again, &inbound);
        g_assert_cmpmem(again, sizeof(again), body, FUT_INBOUND_SIZE);
    } else {
        g_assert_nonnull(error);
    }
}

static void fuzz_bye(const uint8_t *body, size_t length)
{
    g_autofree char *text = fut_bye_decode(body, length);
    FutBuf again = { 0 };

    g_assert_true(g_utf8_validate(text, -1, NULL));
    g_assert_cmpuint(strlen(text), <=, FUT_WIRE_TEXT_MAX);
    fut_bye_encode(&again, text);
    g_autofree char *twice = fut_bye_decode(again.data, again.len);
    g_assert_cmpstr(text, ==, twice);
    fut_buf_done(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const targets[])(const uint8_t *, size_t) = {
        fuzz_hello, fuzz_welcome, fuzz_checkpoint, fuzz_inbound, fuzz_bye,
    };

    if (size > 0) {
        targets[data[0] % G_N_ELEMENTS(targets)](data + 1, size - 1);
    }
    return 0;
}
