/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A clone's addresses: what others see of the guest's frames, and it of theirs; checksums stay right. */
#include <string.h>

#include "expect.h"
#include "fut_error.h"
#include "identities.h"

#define OWN_MAC "52:54:00:77:00:02"
#define NEW_MAC "52:54:00:aa:00:03"

static const uint8_t own_mac[6] = { 0x52, 0x54, 0, 0x77, 0, 2 },
                     new_mac[6] = { 0x52, 0x54, 0, 0xaa, 0, 3 }, peer_mac[6] = { 2, 0, 0, 0, 0, 9 };
static const uint8_t own_ip[4] = { 10, 77, 0, 2 }, new_ip[4] = { 192, 168, 250, 251 },
                     peer_ip[4] = { 10, 77, 0, 1 };

static FutIdentity identity_of(void)
{
    FutIdentity identity = { .count = 0 };
    GError *error = NULL;

    memcpy(identity.mac[0], own_mac, 6);
    g_assert_true(fut_identity_parse(NEW_MAC ",10.77.0.2=192.168.250.251", &identity, &error));
    g_assert_no_error(error);
    return identity;
}

/* -- IPv4 -- */

static uint32_t sum_of(const uint8_t *bytes, size_t length, uint32_t sum)
{
    for (size_t i = 0; i < length; i++) {
        sum += (uint32_t)bytes[i] << (i % 2 ? 0 : 8);
    }
    return sum;
}

static uint16_t folded(uint32_t sum)
{
    sum = (sum >> 16) + (sum & 0xffff);
    return (uint16_t)((sum >> 16) + (sum & 0xffff));
}

static void put16(uint8_t *at, uint16_t value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

typedef struct {
    uint8_t bytes[64]; /* 14 Ethernet, 20 IPv4, then 30 of TCP or UDP */
} Frame;

static uint32_t pseudo(const Frame *frame)
{
    return sum_of(frame->bytes + 26, 8, frame->bytes[23] + 30u);
}

static size_t sum_at(const Frame *frame)
{
    return 34 + (frame->bytes[23] == 6 ? 16 : 6);
}

static Frame frame_of(uint8_t protocol, bool out, bool partial)
{
    Frame frame = { { 0 } };
    uint8_t *bytes = frame.bytes;

    memcpy(bytes + (out ? 6 : 0), out ? own_mac : new_mac, 6);
    memcpy(bytes + (out ? 0 : 6), peer_mac, 6);
    put16(bytes + 12, 0x0800);
    bytes[14] = 0x45;
    put16(bytes + 16, 50);
    bytes[23] = protocol;
    memcpy(bytes + (out ? 26 : 30), out ? own_ip : new_ip, 4);
    memcpy(bytes + (out ? 30 : 26), peer_ip, 4);
    put16(bytes + 24, (uint16_t)~folded(sum_of(bytes + 14, 20, 0)));
    for (size_t i = 34; i < 64; i++) {
        bytes[i] = (uint8_t)(i * 37);
    }
    put16(bytes + sum_at(&frame), 0);
    uint32_t sum = partial ? pseudo(&frame) : sum_of(bytes + 34, 30, pseudo(&frame));
    put16(bytes + sum_at(&frame), partial ? folded(sum) : (uint16_t)~folded(sum));
    return frame;
}

static void check_sums(const Frame *frame, bool partial)
{
    g_assert_cmphex(folded(sum_of(frame->bytes + 14, 20, 0)), ==, 0xffff);
    if (partial) {
        uint16_t is =
            (uint16_t)(frame->bytes[sum_at(frame)] << 8 | frame->bytes[sum_at(frame) + 1]);
        g_assert_cmphex(is, ==, folded(pseudo(frame)));
    } else {
        g_assert_cmphex(folded(sum_of(frame->bytes + 34, 30, pseudo(frame))), ==, 0xffff);
    }
}

static void test_ipv4(void)
{
    FutIdentity identity = identity_of();

    for (unsigned i = 0; i < 8; i++) {
        bool out = i & 1, partial = i & 2;
        Frame frame = frame_of(i & 4 ? 6 : 17, out, partial);
        check_sums(&frame, partial);
        g_assert_true(fut_identity_change(&identity, out ? FUT_END_GUEST : FUT_END_PEER,
                                          frame.bytes, sizeof(frame.bytes), partial));
        const uint8_t *bytes = frame.bytes;
        g_assert_cmpmem(bytes + (out ? 6 : 0), 6, out ? new_mac : own_mac, 6);
        g_assert_cmpmem(bytes + (out ? 0 : 6), 6, peer_mac, 6);
        g_assert_cmpmem(bytes + (out ? 26 : 30), 4, out ? new_ip : own_ip, 4);
        g_assert_cmpmem(bytes + (out ? 30 : 26), 4, peer_ip, 4);
        check_sums(&frame, partial);
    }
}

/* What is for the addresses that the guest believes to have is for the VM that has them. */
static void test_not_ours(void)
{
    FutIdentity identity = identity_of();
    Frame frame = frame_of(6, false, false);

    memcpy(frame.bytes, own_mac, 6);
    g_assert_false(fut_identity_change(&identity, FUT_END_PEER, frame.bytes, 64, false));
    memset(frame.bytes, 0xff, 6);
    memcpy(frame.bytes + 30, own_ip, 4);
    g_assert_false(fut_identity_change(&identity, FUT_END_PEER, frame.bytes, 64, false));
    put16(frame.bytes + 12, 0x86dd);
    g_assert_false(fut_identity_change(&identity, FUT_END_PEER, frame.bytes, 64, false));
    g_assert_false(fut_identity_change(&identity, FUT_END_GUEST, frame.bytes, 64, false));
}

/* -- ARP -- */

static void arp(uint8_t frame[42], const uint8_t *sender_mac, const uint8_t *sender_ip,
                const uint8_t *target_mac, const uint8_t *target_ip)
{
    static const uint8_t head[] = { 0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1 };

    memset(frame, 0xff, 6);
    memcpy(frame + 6, sender_mac, 6);
    memcpy(frame + 12, head, sizeof(head));
    memcpy(frame + 22, sender_mac, 6);
    memcpy(frame + 28, sender_ip, 4);
    memcpy(frame + 32, target_mac, 6);
    memcpy(frame + 38, target_ip, 4);
}

static void expect_arp(const uint8_t frame[42], const uint8_t *sender_mac, const uint8_t *sender_ip,
                       const uint8_t *target_mac, const uint8_t *target_ip)
{
    uint8_t wanted[42];

    arp(wanted, sender_mac, sender_ip, target_mac, target_ip);
    g_assert_cmpmem(frame, 42, wanted, 42);
}

static void test_arp(void)
{
    FutIdentity identity = identity_of();
    static const uint8_t none[6];
    uint8_t frame[42];

    arp(frame, own_mac, own_ip, none, peer_ip); /* asks */
    g_assert_true(fut_identity_change(&identity, FUT_END_GUEST, frame, 42, false));
    expect_arp(frame, new_mac, new_ip, none, peer_ip);
    arp(frame, own_mac, own_ip, none, own_ip); /* tells of itself */
    g_assert_true(fut_identity_change(&identity, FUT_END_GUEST, frame, 42, false));
    expect_arp(frame, new_mac, new_ip, none, new_ip);
    arp(frame, peer_mac, peer_ip, none, new_ip); /* is asked */
    g_assert_true(fut_identity_change(&identity, FUT_END_PEER, frame, 42, false));
    expect_arp(frame, peer_mac, peer_ip, none, own_ip);
    arp(frame, peer_mac, peer_ip, new_mac, new_ip); /* is answered */
    g_assert_true(fut_identity_change(&identity, FUT_END_PEER, frame, 42, false));
    expect_arp(frame, peer_mac, peer_ip, own_mac, own_ip);
    arp(frame, peer_mac, peer_ip, none, own_ip); /* the other is asked */
    g_assert_false(fut_identity_change(&identity, FUT_END_PEER, frame, 42, false));
}

/* -- short ones -- */

static void test_short(void)
{
    FutIdentity identity = identity_of();

    for (unsigned i = 0; i < 2; i++) {
        Frame whole = frame_of(i ? 6 : 17, true, false);
        for (size_t length = 0; length < sizeof(whole.bytes); length++) {
            g_autofree uint8_t *exact = g_memdup2(whole.bytes, length);
            bool passes = fut_identity_change(&identity, FUT_END_GUEST, exact, length, false);
            g_assert_true(passes == (length >= 34));
        }
    }
}

/* -- the text -- */

static void test_text(void)
{
    static const char *const bad[] = {
        "",
        "0",
        "0=",
        "32=" NEW_MAC,
        "x=" NEW_MAC,
        "0=52:54:00:aa:00",
        "0=53:54:00:aa:00:03",
        "0=52:54:00:aa:00:03x",
        "0=" NEW_MAC ",10.0.0.1",
        "0=" NEW_MAC ",10.0.0.1=10.0.0.256",
        "0=" NEW_MAC ",10.0.0.1=10.0.0.2,10.0.0.1=10.0.0.3",
        "0=" NEW_MAC ",10.0.0.1=10.0.0.2,10.0.0.3=10.0.0.2",
    };

    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        FutIdentities identities = { .count = 0 };
        g_autoptr(GError) error = NULL;
        g_assert_false(fut_identities_add(&identities, bad[i], &error));
        g_assert_error(error, FUT_ERROR, FUT_ERR_ARG);
        g_assert_cmpuint(identities.given, ==, 0);
    }
}

static void test_each_nic(void)
{
    char *machine[] = { "vmm=1", "nic:0=virtio-net-pci,mac=" OWN_MAC ",queues=1",
                        "nic:1=e1000,mac=52:54:00:77:00:03,queues=1", NULL };
    FutIdentities identities = { .count = 0 };
    g_autoptr(GError) error = NULL;

    g_assert_true(fut_identities_add(&identities, "0=" NEW_MAC ",10.0.0.5=10.0.0.6", NULL));
    g_assert_false(fut_identities_complete(&identities, machine, &error));
    g_assert_nonnull(strstr(error->message, "has 2 NICs"));
    g_assert_true(fut_identities_add(&identities, "1=52:54:00:aa:00:04", NULL));
    g_assert_false(fut_identities_add(&identities, "1=52:54:00:aa:00:05", NULL));
    g_assert_true(fut_identities_complete(&identities, machine, NULL));
    g_assert_cmpuint(identities.count, ==, 2);
    g_assert_cmpmem(identities.nic[0].mac[0], 6, own_mac, 6);
    g_autofree char *text = fut_identities_text(&identities);
    g_assert_cmpstr(text, ==,
                    "NIC 0 is " NEW_MAC ", and 10.0.0.5 is 10.0.0.6; NIC 1 is 52:54:00:aa:00:04");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/identity/ipv4", test_ipv4);
    g_test_add_func("/identity/not-ours", test_not_ours);
    g_test_add_func("/identity/arp", test_arp);
    g_test_add_func("/identity/short", test_short);
    g_test_add_func("/identity/text", test_text);
    g_test_add_func("/identity/each-nic", test_each_nic);
    return g_test_run();
}
