/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "identities.h"

#include <string.h>

#include "fut_error.h"

bool fut_identities_add(FutIdentities *identities, const char *text, GError **error)
{
    const char *rest = strchr(text, '=');
    g_autofree char *number = g_strndup(text, rest ? (gsize)(rest - text) : 0);
    guint64 nic = 0;

    if (!g_ascii_string_to_unsigned(number, 10, 0, FUT_IDENTITIES_MAX - 1, &nic, NULL) ||
        identities->given >> nic & 1) {
        g_set_error(error, FUT_ERROR, FUT_ERR_ARG,
                    "'%s': must begin with the number of a NIC and =, once for each, as in "
                    "0=52:54:00:12:34:56",
                    text);
        return false;
    }
    if (!fut_identity_parse(rest + 1, &identities->nic[nic], error)) {
        return false;
    }
    identities->given |= 1u << nic;
    return true;
}

static bool own_mac(const char *line, uint8_t ret[6])
{
    const char *at = strstr(line, ",mac=");
    g_autofree char *text = at ? g_strndup(at + 5, 17) : NULL;
    FutIdentity parsed = { .count = 0 };

    if (!text || !fut_identity_parse(text, &parsed, NULL)) {
        return false;
    }
    memcpy(ret, parsed.mac[1], 6);
    return true;
}

bool fut_identities_complete(FutIdentities *identities, char *const *machine, GError **error)
{
    unsigned count = 0;

    for (char *const *line = machine; *line && count < FUT_IDENTITIES_MAX; line++) {
        g_autofree char *head = g_strdup_printf("nic:%u=", count);
        if (g_str_has_prefix(*line, head)) {
            count += own_mac(*line, identities->nic[count].mac[0]);
        }
    }
    if (identities->given != (uint32_t)((1ull << count) - 1)) {
        g_set_error(error, FUT_ERROR, FUT_ERR_ARG,
                    "the VM has %u NICs (numbered from 0): each needs an identity of its own",
                    count);
        return false;
    }
    identities->count = count;
    return true;
}

static void add_address(GString *text, const uint8_t *address)
{
    g_string_append_printf(text, "%u.%u.%u.%u", address[0], address[1], address[2], address[3]);
}

char *fut_identities_text(const FutIdentities *identities)
{
    GString *text = g_string_new(NULL);

    for (unsigned i = 0; i < identities->count; i++) {
        const FutIdentity *nic = &identities->nic[i];
        const uint8_t *mac = nic->mac[1];
        g_string_append_printf(text, "%sNIC %u is %02x:%02x:%02x:%02x:%02x:%02x", i ? "; " : "", i,
                               mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
        for (unsigned j = 0; j < nic->count; j++) {
            g_string_append(text, ", and ");
            add_address(text, nic->address[j][0]);
            g_string_append(text, " is ");
            add_address(text, nic->address[j][1]);
        }
    }
    return g_string_free(text, FALSE);
}
