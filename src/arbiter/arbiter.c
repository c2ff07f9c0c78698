/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The table of arbiters, and what is the same for all of them. */
#include <string.h>

#include "arbiter.h"
#include "arbiter_kinds.h"
#include "arbiter_record.h"
#include "fut_error.h"

static const FutArbiterOps *const kinds[] = {
    &fut_arbiter_file,
    &fut_arbiter_etcd,
    &fut_arbiter_command,
    &fut_arbiter_manual,
};

static void set_unknown_kind(const char *address, GError **error)
{
    g_autoptr(GString) usages = g_string_new(NULL);

    for (size_t i = 0; i < G_N_ELEMENTS(kinds); i++) {
        g_string_append_printf(usages, "%s%s", i ? ", " : "", kinds[i]->usage);
    }
    g_set_error(error, FUT_ERROR, FUT_ERR_ARG, "arbiter '%s': use %s", address, usages->str);
}

/* The kind that an address names, and the rest of the address. */
static const FutArbiterOps *kind_of(const char *address, const char **ret_where, GError **error)
{
    const char *colon = strchr(address, ':');
    size_t length = colon ? (size_t)(colon - address) : 0;

    for (size_t i = 0; colon && colon[1] && i < G_N_ELEMENTS(kinds); i++) {
        if (strlen(kinds[i]->kind) == length && strncmp(kinds[i]->kind, address, length) == 0) {
            *ret_where = colon + 1;
            return kinds[i];
        }
    }
    set_unknown_kind(address, error);
    return NULL;
}

bool fut_arbiter_check(const char *address, GError **error)
{
    const char *where;

    return kind_of(address, &where, error) != NULL;
}

FutArbiter *fut_arbiter_open(const char *address, const char *vm, GError **error)
{
    const char *where = NULL;
    const FutArbiterOps *ops = kind_of(address, &where, error);

    if (ops && !fut_arbiter_name_ok(vm)) {
        g_set_error(error, FUT_ERROR, FUT_ERR_ARG,
                    "VM name '%s': use letters, digits, '.', '_' and '-'", vm);
        return NULL;
    }
    return ops ? ops->open(where, vm, error) : NULL;
}

void fut_arbiter_close(FutArbiter *arbiter)
{
    if (arbiter) {
        arbiter->ops->close(arbiter);
    }
}

FutClaim fut_arbiter_claim(FutArbiter *arbiter, uint64_t generation, const char *node,
                           char **ret_text)
{
    g_assert(generation > 0);
    if (!fut_arbiter_name_ok(node)) {
        *ret_text = g_strdup_printf("node name '%s': use letters, digits, '.', '_' and '-'", node);
        return FUT_CLAIM_UNKNOWN;
    }
    *ret_text = NULL;
    FutClaim claim = arbiter->ops->claim(arbiter, generation, node, ret_text);
    if (!*ret_text) {
        *ret_text = g_strdup("");
    }
    return claim;
}

FutClaim fut_arbiter_confirm(FutArbiter *arbiter, uint64_t generation, const char *node,
                             char **ret_text)
{
    g_autoptr(GError) error = NULL;
    FutArbiterRecord record = { 0 };

    *ret_text = NULL;
    if (!fut_arbiter_read(arbiter, &record, &error)) {
        fut_arbiter_record_clear(&record);
        *ret_text = g_strdup(error->message);
        return FUT_CLAIM_UNKNOWN;
    }
    bool older = record.generation < generation;
    FutClaim claim = fut_arbiter_judge(&record, generation, node, "the record", "", ret_text);
    fut_arbiter_record_clear(&record);
    if (older) {
        g_free(*ret_text);
        *ret_text = g_strdup_printf("the arbiter's record is older than generation "
                                    "%" G_GUINT64_FORMAT,
                                    generation);
        return FUT_CLAIM_UNKNOWN;
    }
    *ret_text = *ret_text ? *ret_text : g_strdup("");
    return claim;
}

bool fut_arbiter_read(FutArbiter *arbiter, FutArbiterRecord *ret, GError **error)
{
    return arbiter->ops->read(arbiter, ret, error);
}

bool fut_arbiter_release(FutArbiter *arbiter, uint64_t generation, const char *node, GError **error)
{
    return arbiter->ops->release(arbiter, generation, node, error);
}

bool fut_arbiter_identify(FutArbiter *arbiter, char **ret_identity, GError **error)
{
    return arbiter->ops->identify(arbiter, ret_identity, error);
}

bool fut_arbiter_grant(FutArbiter *arbiter, uint64_t generation, const char *node, GError **error)
{
    if (!arbiter->ops->grant) {
        g_set_error(error, FUT_ERROR, FUT_ERR_UNSUPPORTED,
                    "a person grants nothing here: the arbiter '%s:' decides", arbiter->ops->kind);
        return false;
    }
    if (!fut_arbiter_name_ok(node) || generation == 0 || generation == G_MAXUINT64) {
        g_set_error(error, FUT_ERROR, FUT_ERR_ARG,
                    "grant of generation %" G_GUINT64_FORMAT
                    " to '%s': give a generation from 1 and the name of a node",
                    generation, node);
        return false;
    }
    return arbiter->ops->grant(arbiter, generation, node, error);
}

bool fut_arbiter_start(FutArbiter *arbiter, const char *node, bool force, uint64_t *ret_generation,
                       GError **error)
{
    g_autofree char *text = NULL;
    FutArbiterRecord record = { 0 };

    if (!fut_arbiter_read(arbiter, &record, error)) {
        return false;
    }
    uint64_t next = record.generation + 1;
    bool free_to_start =
        record.generation == 0 || record.released || force || strcmp(record.holder, node) == 0;
    if (!free_to_start) {
        g_set_error(error, FUT_ERROR, FUT_ERR_REFUSED,
                    "%s runs this VM (generation %" G_GUINT64_FORMAT "): stop it there, or make "
                    "sure that it is dead and add --force-generation",
                    record.holder, record.generation);
    }
    fut_arbiter_record_clear(&record);
    if (!free_to_start) {
        return false;
    }
    FutClaim claim = fut_arbiter_claim(arbiter, next, node, &text);
    if (claim != FUT_CLAIM_GRANTED) {
        g_set_error(error, FUT_ERROR, claim == FUT_CLAIM_REFUSED ? FUT_ERR_REFUSED : FUT_ERR_IO,
                    "%s", text);
        return false;
    }
    *ret_generation = next;
    return true;
}
