/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Golden bytes of each message body of protocol version 6, and what decoders refuse. The bytes are
 * a contract with released versions: a change here needs a new protocol version. */
#include "byteorder.h"
#include "fut_error.h"
#include "wire.h"

static char *lines_one[] = { "machine=microvm", "ram.pc=1024", NULL };

/* clang-format off */
static const uint8_t golden_hello[] = {
    6, 0, 6, 0,  0, 0, 0, 0,                        /* versions, features */
    0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, /* nonce */
    7, 0, 0, 0, 0, 0, 0, 0,                         /* generation */
    50, 0, 0, 0,  0xf4, 1, 0, 0,                    /* heartbeat, timeout */
    0, 0, 0, 0, 0, 0, 0, 0,                         /* reserved */
    3, 0, 'w', 'e', 'b',
    5, 0, 'h', 'o', 's', 't', 'a',
    2, 0, 0, 0,
    15, 0, 'm', 'a', 'c', 'h', 'i', 'n', 'e', '=', 'm', 'i', 'c', 'r', 'o', 'v', 'm',
    11, 0, 'r', 'a', 'm', '.', 'p', 'c', '=', '1', '0', '2', '4',
};

static const uint8_t golden_welcome[] = {
    6, 0,  0, 0,  0xef, 0xbe, 0xad, 0xde,           /* version, reserved, session */
    7, 0, 0, 0, 0, 0, 0, 0,                         /* generation */
    0, 0, 0, 0, 0, 0, 0, 0,                         /* reserved */
    5, 0, 'h', 'o', 's', 't', 'b',
};

static const uint8_t golden_checkpoint[FUT_CHECKPOINT_SIZE] = {
    9, 0, 0, 0, 0, 0, 0, 0,                         /* epoch */
    0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, /* memory_hash */
    0, 0, 0, 0, 1, 0, 0, 0,                         /* stream_length */
    0, 0x22, 0, 0,  3, 0, 0, 0,                     /* state_length, flags */
    2, 0, 0, 0,  0, 0, 0, 0,                        /* parts, outputs_length */
    7, 0, 0, 0, 0, 0, 0, 0,                         /* released */
};

static const uint8_t golden_inbound[FUT_INBOUND_SIZE] = {
    9, 0, 0, 0, 0, 0, 0, 0,  1, 0, 0, 0,  4, 0, 0, 0,  0, 0, 0, 0, 0, 0, 0, 0,
};
/* clang-format on */

static FutHello hello_one(void)
{
    return (FutHello){
        .version_min = 6,
        .version_max = 6,
        .nonce = 0x1122334455667788,
        .generation = 7,
        .heartbeat_ms = 50,
        .timeout_ms = 500,
        .vm = (char *)"web",
        .node = (char *)"hosta",
        .machine = lines_one,
    };
}

static void test_hello(void)
{
    FutHello hello = hello_one();
    FutBuf out = { 0 };

    fut_hello_encode(&out, &hello);
    g_assert_cmpmem(out.data, out.len, golden_hello, sizeof(golden_hello));
    g_autoptr(GError) error = NULL;
    g_autoptr(FutHello) back = fut_hello_decode(out.data, out.len, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(back->version_min, ==, 6);
    g_assert_cmpuint(back->version_max, ==, 6);
    g_assert_cmpuint(back->nonce, ==, hello.nonce);
    g_assert_cmpuint(back->generation, ==, 7);
    g_assert_cmpuint(back->heartbeat_ms, ==, 50);
    g_assert_cmpuint(back->timeout_ms, ==, 500);
    g_assert_cmpstr(back->vm, ==, "web");
    g_assert_cmpstr(back->node, ==, "hosta");
    g_assert_true(g_strv_equal((const char *const *)back->machine, (const char *const *)lines_one));
    fut_buf_done(&out);
}

static void check_bad_hello(const uint8_t *body, size_t length, FutErr code, const char *part)
{
    g_autoptr(GError) error = NULL;

    g_assert_null(fut_hello_decode(body, length, &error));
    g_assert_error(error, FUT_ERROR, (int)code);
    g_assert_nonnull(strstr(error->message, part));
}

static void check_patched_hello(size_t at, uint8_t value, FutErr code, const char *part)
{
    uint8_t body[sizeof(golden_hello)];

    memcpy(body, golden_hello, sizeof(body));
    body[at] = value;
    check_bad_hello(body, sizeof(body), code, part);
}

static void test_hello_bad(void)
{
    uint8_t longer[sizeof(golden_hello) + 1] = { 0 };

    for (size_t length = 0; length < sizeof(golden_hello); length++) {
        check_bad_hello(golden_hello, length, FUT_ERR_PEER, "bad HELLO from the peer");
    }
    memcpy(longer, golden_hello, sizeof(golden_hello));
    check_bad_hello(longer, sizeof(longer), FUT_ERR_PEER, "bytes after the end");
    check_patched_hello(0, 0, FUT_ERR_PEER, "version range");
    check_patched_hello(2, 0, FUT_ERR_PEER, "version range");
    check_patched_hello(39, 1, FUT_ERR_PEER, "reserved");
    check_patched_hello(40, 0, FUT_ERR_PEER, "not a name");
    check_patched_hello(40, 64, FUT_ERR_PEER, "not a name");
    check_patched_hello(42, '\n', FUT_ERR_PEER, "not a name");
    check_patched_hello(42, 0xff, FUT_ERR_PEER, "not a name");
    check_patched_hello(42, 0, FUT_ERR_PEER, "not a name");
    check_patched_hello(53, 0x10, FUT_ERR_PEER, "not a description"); /* 4098 lines */
    check_patched_hello(55, 0xff, FUT_ERR_PEER, "not a description");
    check_patched_hello(65, '-', FUT_ERR_PEER, "not a description"); /* "machine-microvm" */
    check_patched_hello(58, 27, FUT_ERR_PEER, "not a description");
}

/* The version comes first: of another version's body nothing else is understood. */
static void test_hello_versions(void)
{
    uint8_t newer[] = { 7, 0, 8, 0 }, older[] = { 2, 0, 2, 0 };
    uint8_t wider[sizeof(golden_hello)];

    check_bad_hello(newer, sizeof(newer), FUT_ERR_MISMATCH, "versions 7 to 8, the other 6 to 6");
    check_bad_hello(older, sizeof(older), FUT_ERR_MISMATCH, "versions 2 to 2, the other 6 to 6");
    memcpy(wider, golden_hello, sizeof(wider));
    wider[2] = 9; /* speaks 6 to 9 and has features to offer */
    wider[4] = 0xff;
    g_autoptr(FutHello) hello = fut_hello_decode(wider, sizeof(wider), NULL);
    g_assert_nonnull(hello);
    g_assert_cmpuint(hello->version_max, ==, 9);
    g_assert_cmpuint(hello->features, ==, 0xff);
}

/* All the lines there may be. */
static void test_hello_largest(void)
{
    FutHello hello = hello_one();
    g_autoptr(GStrvBuilder) builder = g_strv_builder_new();
    FutBuf out = { 0 };

    for (unsigned i = 0; i < FUT_WIRE_MACHINE_LINES_MAX; i++) {
        g_autofree char *line = g_strdup_printf("section.%u=%0200u", i, i);
        g_strv_builder_add(builder, line);
    }
    g_auto(GStrv) lines = g_strv_builder_end(builder);
    hello.machine = lines;
    fut_hello_encode(&out, &hello);
    g_autoptr(FutHello) back = fut_hello_decode(out.data, out.len, NULL);
    g_assert_cmpuint(g_strv_length(back->machine), ==, FUT_WIRE_MACHINE_LINES_MAX);
    g_assert_null(fut_machine_difference(back->machine, lines));
    fut_buf_done(&out);
}

static void test_welcome(void)
{
    FutWelcome welcome = {
        .version = 6, .session = 0xdeadbeef, .generation = 7, .node = (char *)"hostb"
    };
    FutBuf out = { 0 };

    fut_welcome_encode(&out, &welcome);
    g_assert_cmpmem(out.data, out.len, golden_welcome, sizeof(golden_welcome));
    g_autoptr(FutWelcome) back = fut_welcome_decode(out.data, out.len, NULL);
    g_assert_cmpuint(back->version, ==, 6);
    g_assert_cmpuint(back->session, ==, 0xdeadbeef);
    g_assert_cmpuint(back->generation, ==, 7);
    g_assert_cmpstr(back->node, ==, "hostb");
    fut_buf_done(&out);
}

static void check_bad_welcome(const uint8_t *body, size_t length, const char *part)
{
    g_autoptr(GError) error = NULL;

    g_assert_null(fut_welcome_decode(body, length, &error));
    g_assert_error(error, FUT_ERROR, FUT_ERR_PEER);
    g_assert_nonnull(strstr(error->message, part));
}

static void test_welcome_bad(void)
{
    uint8_t body[sizeof(golden_welcome) + 1] = { 0 };

    for (size_t length = 0; length < sizeof(golden_welcome); length++) {
        check_bad_welcome(golden_welcome, length, "bad WELCOME from the peer");
    }
    memcpy(body, golden_welcome, sizeof(golden_welcome));
    check_bad_welcome(body, sizeof(body), "bytes after the end");
    memset(body + 4, 0, 4);
    check_bad_welcome(body, sizeof(golden_welcome), "session 0");
    body[16] = 1;
    check_bad_welcome(body, sizeof(golden_welcome), "reserved");
}

static void test_checkpoint(void)
{
    FutCheckpoint checkpoint = {
        .epoch = 9,
        .memory_hash = 0x1122334455667788,
        .stream_length = UINT64_C(1) << 32,
        .state_length = 0x2200,
        .flags = FUT_CHECKPOINT_FINAL | FUT_CHECKPOINT_HASHED,
        .parts = 2,
        .released = 7,
    };
    uint8_t out[FUT_CHECKPOINT_SIZE];
    FutCheckpoint back;

    fut_checkpoint_encode(out, &checkpoint);
    g_assert_cmpmem(out, sizeof(out), golden_checkpoint, sizeof(golden_checkpoint));
    g_assert_true(fut_checkpoint_decode(out, sizeof(out), &back, NULL));
    g_assert_cmpuint(back.epoch, ==, checkpoint.epoch);
    g_assert_cmpuint(back.memory_hash, ==, checkpoint.memory_hash);
    g_assert_cmpuint(back.stream_length, ==, checkpoint.stream_length);
    g_assert_cmpuint(back.state_length, ==, checkpoint.state_length);
    g_assert_cmpuint(back.flags, ==, checkpoint.flags);
    g_assert_cmpuint(back.parts, ==, checkpoint.parts);
    g_assert_cmpuint(back.outputs_length, ==, 0);
    g_assert_cmpuint(back.released, ==, 7);
}

static void check_patched_checkpoint(size_t at, uint8_t value, const char *part)
{
    uint8_t body[FUT_CHECKPOINT_SIZE];
    FutCheckpoint ret = { .epoch = 77 };
    g_autoptr(GError) error = NULL;

    memcpy(body, golden_checkpoint, sizeof(body));
    body[at] = value;
    g_assert_false(fut_checkpoint_decode(body, sizeof(body), &ret, &error));
    g_assert_error(error, FUT_ERROR, FUT_ERR_PEER);
    g_assert_nonnull(strstr(error->message, part));
    g_assert_cmpuint(ret.epoch, ==, 77);
}

static void test_checkpoint_bad(void)
{
    FutCheckpoint ret;

    g_assert_false(fut_checkpoint_decode(golden_checkpoint, FUT_CHECKPOINT_SIZE - 1, &ret, NULL));
    check_patched_checkpoint(0, 0, "epoch 0");
    check_patched_checkpoint(27, 2, "device state too large");
    check_patched_checkpoint(28, 1, "hash without the flag");
    check_patched_checkpoint(28, 7, "unknown flags");
    check_patched_checkpoint(36, 1, "more outputs than bytes");
    check_patched_checkpoint(40, 9, "outputs released that were not sent");
    check_patched_checkpoint(47, 1, "outputs released that were not sent");
}

static void test_inbound(void)
{
    uint8_t out[FUT_INBOUND_SIZE + 1] = { 0 };
    FutInbound back;

    fut_inbound_encode(out, &(FutInbound){ .epoch = 9, .nic = 1, .flags = 4 });
    g_assert_cmpmem(out, FUT_INBOUND_SIZE, golden_inbound, sizeof(golden_inbound));
    g_assert_true(fut_inbound_decode(out, sizeof(out), &back, NULL));
    g_assert_cmpuint(back.epoch, ==, 9);
    g_assert_cmpuint(back.nic, ==, 1);
    g_assert_cmpuint(back.flags, ==, 4);
    g_assert_false(fut_inbound_decode(out, FUT_INBOUND_SIZE, &back, NULL)); /* no packet */
    out[16] = 1;
    g_assert_false(fut_inbound_decode(out, sizeof(out), &back, NULL));
    out[16] = 0;
    out[0] = 0;
    g_assert_false(fut_inbound_decode(out, sizeof(out), &back, NULL));
}

static void check_bye(const char *bytes, size_t length, const char *wanted)
{
    g_autofree char *text = fut_bye_decode((const uint8_t *)bytes, length);
    g_assert_cmpstr(text, ==, wanted);
}

static void test_bye(void)
{
    FutBuf out = { 0 };
    g_autofree char *many = g_strnfill(600, 'x');

    check_bye("", 0, "");
    check_bye("plain", 5, "plain");
    check_bye("a\033[2Jb\n\0c", 9, "a?[2Jb??c");
    check_bye("\xe5\x8f\x8c\xe5", 4, "\xe5\x8f\x8c?");
    check_bye("\xc2\x9b", 2, "??"); /* a control character in two bytes */
    memcpy(many + FUT_WIRE_TEXT_MAX - 1, "\xe5\x8f\x8c", 3);
    fut_bye_encode(&out, many);
    g_assert_cmpuint(out.len, ==, FUT_WIRE_TEXT_MAX - 1); /* not inside the character */
    fut_buf_clear(&out);
    fut_bye_encode(&out, "why");
    g_assert_cmpmem(out.data, out.len, "why", 3);
    fut_buf_done(&out);
}

static void test_types(void)
{
    static const struct {
        uint16_t type;
        uint32_t cap;
        bool empty;
        const char *name;
    } types[] = {
        { 1, 1 << 20, false, "HELLO" },
        { 2, 4 << 20, false, "PAGES" },
        { 3, 1, true, "BARRIER" },
        { 4, (4 << 20) + 8, false, "EPOCH_PART" },
        { 5, (4 << 20) + 48, false, "CHECKPOINT" },
        { 6, (128 << 10) + 24, false, "INBOUND" },
        { 7, (1 << 20) + 40, false, "DISK" },
        { 8, 24, false, "DISK_BASE" },
        { 9, 512 << 10, false, "PROBES" },
        { 10, 64 << 10, false, "FLOWS" },
        { 16, 89, false, "WELCOME" },
        { 17, 1, true, "BARRIER_DONE" },
        { 18, 8, false, "ACK" },
        { 19, 1, true, "HANDOVER" },
        { 20, 24, false, "DISK_KEPT" },
        { 21, 8, false, "DISK_SAFE" },
        { 32, 1, true, "HEARTBEAT" },
        { 33, 511, false, "BYE" },
        { 34, (4 << 20) + 48, false, "PACKED" },
    };
    unsigned known = 0;

    for (size_t i = 0; i < G_N_ELEMENTS(types); i++) {
        g_assert_cmpuint(fut_wire_cap(types[i].type), ==, types[i].cap);
        g_assert_cmpint(fut_wire_is_empty(types[i].type), ==, types[i].empty);
        g_assert_cmpstr(fut_wire_type_name(types[i].type), ==, types[i].name);
    }
    for (unsigned type = 0; type <= UINT16_MAX; type++) {
        known += fut_wire_cap((uint16_t)type) != 0;
    }
    g_assert_cmpuint(known, ==, G_N_ELEMENTS(types));
    g_assert_cmpstr(fut_wire_type_name(0), ==, "unknown");
}

static void check_difference(const char *here, const char *there, const char *wanted)
{
    g_auto(GStrv) a = g_strsplit(here, " ", 0);
    g_auto(GStrv) b = g_strsplit(there, " ", 0);
    g_autofree char *difference = fut_machine_difference(a, b);

    g_assert_cmpstr(difference, ==, wanted);
}

static void test_machine_difference(void)
{
    check_difference("", "", NULL);
    check_difference("a=1 b=2", "a=1 b=2", NULL);
    check_difference("a=1 b=2", "a=1 b=3", "b: here 2, there 3");
    check_difference("a=1 b=2", "a=1", "b: here 2, there none");
    check_difference("a=1", "a=1 b=2", "b: here none, there 2");
    check_difference("a=1 c=3", "a=1 b=2 c=3", "b: here none, there 2");
    check_difference("a=1 b=2 c=3", "a=1 c=3", "b: here 2, there none");
    check_difference("a=1 b=2", "b=2 a=1", "order: here a=1, there b=2");
    check_difference("a=1", "a=1 a=1", "a: here none, there 1");
    check_difference("a=x=1", "a=x=2", "a: here x=1, there x=2");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/wire/hello", test_hello);
    g_test_add_func("/wire/hello/bad", test_hello_bad);
    g_test_add_func("/wire/hello/versions", test_hello_versions);
    g_test_add_func("/wire/hello/largest", test_hello_largest);
    g_test_add_func("/wire/welcome", test_welcome);
    g_test_add_func("/wire/welcome/bad", test_welcome_bad);
    g_test_add_func("/wire/checkpoint", test_checkpoint);
    g_test_add_func("/wire/checkpoint/bad", test_checkpoint_bad);
    g_test_add_func("/wire/inbound", test_inbound);
    g_test_add_func("/wire/bye", test_bye);
    g_test_add_func("/wire/types", test_types);
    g_test_add_func("/wire/machine-difference", test_machine_difference);
    return g_test_run();
}
