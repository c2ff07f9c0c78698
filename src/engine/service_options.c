/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Options of the module: key=value strings into a checked structure. */
#include <string.h>
#include <unistd.h>

#include "control.h"
#include "fut_error.h"
#include "service_internal.h"

typedef bool (*OptionSetter)(FutOptions *options, const char *value, size_t offset, GError **error);

typedef struct {
    const char *key;
    OptionSetter set;
    size_t offset;     /* of the field, for the plain setters */
    uint32_t min, max; /* for numbers */
    const char *form;  /* what a value looks like */
} OptionRule;

static bool set_role(FutOptions *options, const char *value, size_t offset, GError **error)
{
    if (strcmp(value, "primary") == 0) {
        options->role = FUT_ROLE_PRIMARY;
    } else if (strcmp(value, "backup") == 0) {
        options->role = FUT_ROLE_BACKUP;
    } else {
        g_set_error(error, FUT_ERROR, FUT_ERR_ARG, "role=%s: must be primary or backup", value);
        return false;
    }
    return true;
}

static bool set_mode(FutOptions *options, const char *value, size_t offset, GError **error)
{
    if (strcmp(value, "pipeline") == 0) {
        options->engine.mode = FUT_MODE_PIPELINE;
    } else if (strcmp(value, "stop") == 0) {
        options->engine.mode = FUT_MODE_STOP;
    } else {
        g_set_error(error, FUT_ERROR, FUT_ERR_ARG, "mode=%s: must be pipeline or stop", value);
        return false;
    }
    return true;
}

static bool set_flush(FutOptions *options, const char *value, size_t offset, GError **error)
{
    if (strcmp(value, "local") != 0 && strcmp(value, "both") != 0) {
        g_set_error(error, FUT_ERROR, FUT_ERR_ARG, "flush=%s: must be local or both", value);
        return false;
    }
    options->engine.flush_both = strcmp(value, "both") == 0;
    return true;
}

const char *const fut_tracker_names[] = {
    [FUT_TRACKER_QUEUE] = "queue",
    [FUT_TRACKER_WORDS] = "words",
    [FUT_TRACKER_FLAGS] = "flags",
    [FUT_TRACKER_ALL] = "all",
};

static bool set_tracker(FutOptions *options, const char *value, size_t offset, GError **error)
{
    for (size_t i = 0; i < FUT_TRACKER_ALL; i++) {
        if (strcmp(value, fut_tracker_names[i]) == 0) {
            options->engine.tracker = (FutTracker)i;
            return true;
        }
    }
    g_set_error(error, FUT_ERROR, FUT_ERR_ARG, "tracker=%s: must be queue, words or flags", value);
    return false;
}

const char *const fut_compress_names[] = {
    [FUT_COMPRESS_NONE] = "none",
    [FUT_COMPRESS_LZ4] = "lz4",
    [FUT_COMPRESS_ZSTD] = "zstd",
    [FUT_COMPRESS_AUTO] = "auto",
};

static bool set_compress(FutOptions *options, const char *value, size_t offset, GError **error)
{
    for (size_t i = 0; i <= FUT_COMPRESS_AUTO; i++) {
        if (strcmp(value, fut_compress_names[i]) == 0) {
            options->compress = (FutCompress)i;
            return true;
        }
    }
    g_set_error(error, FUT_ERROR, FUT_ERR_ARG, "compress=%s: must be auto, none, lz4 or zstd",
                value);
    return false;
}

static bool set_events(FutOptions *options, const char *value, size_t offset, GError **error)
{
    return fut_event_set_parse(value, &options->engine.events, error);
}

static bool set_on_panic(FutOptions *options, const char *value, size_t offset, GError **error)
{
    static const struct {
        const char *name;
        FutPanic panic;
    } choices[] = {
        { "report", FUT_PANIC_REPORT },
        { "restart", FUT_PANIC_RESTART },
        { "stop", FUT_PANIC_STOP },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(choices); i++) {
        if (strcmp(value, choices[i].name) == 0) {
            options->engine.on_panic = choices[i].panic;
            return true;
        }
    }
    g_set_error(error, FUT_ERROR, FUT_ERR_ARG, "on_panic=%s: must be report, restart or stop",
                value);
    return false;
}

static bool set_connections(FutOptions *options, const char *value, size_t offset, GError **error)
{
    static const char *const names[] = { [FUT_CONNECTIONS_CHECK] = "check",
                                         [FUT_CONNECTIONS_KEEP] = "keep",
                                         [FUT_CONNECTIONS_END] = "end" };

    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        if (strcmp(value, names[i]) == 0) {
            options->restore_connections = (FutConnections)i;
            return true;
        }
    }
    g_set_error(error, FUT_ERROR, FUT_ERR_ARG, "restore_connections=%s: must be check, keep or end",
                value);
    return false;
}

static bool set_identity(FutOptions *options, const char *value, size_t offset, GError **error)
{
    return fut_identities_add(&options->identities, value, error);
}

static bool set_shared(FutOptions *options, const char *value, size_t offset, GError **error)
{
    if (!*value) {
        g_set_error_literal(error, FUT_ERROR, FUT_ERR_ARG, "must be the name of a disk, or all");
        return false;
    }
    g_ptr_array_add(options->shared, g_strdup(value));
    return true;
}

static bool set_name(FutOptions *options, const char *value, size_t offset, GError **error)
{
    if (!fut_control_name_check(value, error)) {
        return false;
    }
    char **field = (char **)((char *)options + offset);
    g_free(*field);
    *field = g_strdup(value);
    return true;
}

static bool set_text(FutOptions *options, const char *value, size_t offset, GError **error)
{
    char **field = (char **)((char *)options + offset);
    g_free(*field);
    *field = g_strdup(value);
    return true;
}

static bool set_address(FutOptions *options, const char *value, size_t offset, GError **error)
{
    FutAddress *address = fut_address_parse(value, error);
    if (!address) {
        return false;
    }
    FutAddress **field = (FutAddress **)((char *)options + offset);
    fut_address_free(*field);
    *field = address;
    return true;
}

static bool set_flag(FutOptions *options, const char *value, size_t offset, GError **error)
{
    bool *field = (bool *)((char *)options + offset);
    if (strcmp(value, "on") != 0 && strcmp(value, "off") != 0) {
        g_set_error(error, FUT_ERROR, FUT_ERR_ARG, "'%s': must be on or off", value);
        return false;
    }
    *field = strcmp(value, "on") == 0;
    return true;
}

#define FIELD(name) offsetof(FutOptions, name)
static const OptionRule rules[] = {
    { "role", set_role, 0, 0, 0, "primary|backup" },
    { "name", set_name, FIELD(vm), 0, 0, "VM" },
    { "node", set_name, FIELD(node), 0, 0, "HOST" },
    { "arbiter", set_text, FIELD(arbiter), 0, 0, "KIND:WHERE" },
    { "listen", set_address, FIELD(listen), 0, 0, "ADDR" },
    { "to", set_address, FIELD(to), 0, 0, "ADDR" },
    { "tls", set_text, FIELD(tls), 0, 0, "x509:DIR|psk:FILE" },
    { "tls_name", set_text, FIELD(tls_name), 0, 0, "NAME" },
    { "mode", set_mode, 0, 0, 0, "pipeline|stop" },
    { "flush", set_flush, 0, 0, 0, "local|both" },
    { "compress", set_compress, 0, 0, 0, "auto|none|lz4|zstd" },
    { "tracker", set_tracker, 0, 0, 0, "queue|words|flags" },
    { "events", set_events, 0, 0, 0, "all|none|NAME,..." },
    { "send_at_kick", set_flag, FIELD(engine.send_at_kick), 0, 0, "on|off" },
    { "on_panic", set_on_panic, 0, 0, 0, "report|restart|stop" },
    { "shared_disk", set_shared, 0, 0, 0, "DISK|all" },
    { "restore", set_text, FIELD(restore), 0, 0, "STORE@ID" },
    { "restore_force", set_flag, FIELD(restore_force), 0, 0, "on|off" },
    { "restore_lazy", set_flag, FIELD(restore_lazy), 0, 0, "on|off" },
    { "restore_ready", set_flag, FIELD(engine.waiting), 0, 0, "on|off" },
    { "restore_connections", set_connections, 0, 0, 0, "check|keep|end" },
    { "restore_identity", set_identity, 0, 0, 0, "NIC=MAC[,OLD=NEW...]" },
    { "restore_hook", set_text, FIELD(restore_hook), 0, 0, "PROGRAM" },
    { "restore_check", set_flag, FIELD(restore_check), 0, 0, "on|off" },
    { "restore_clock", set_flag, FIELD(restore_clock), 0, 0, "on|off" },
    { "force_generation", set_flag, FIELD(force_generation), 0, 0, "on|off" },
    { "insecure", set_flag, FIELD(insecure), 0, 0, "on|off" },
    { "moving", set_flag, FIELD(engine.moving), 0, 0, "on|off" },
    { "epoch_max_us", NULL, FIELD(engine.epoch_max_us), 500, 10000000, NULL },
    { "batch_max_us", NULL, FIELD(engine.batch_max_us), 0, 100000, NULL },
    { "heartbeat_ms", NULL, FIELD(engine.heartbeat_ms), 5, 10000, NULL },
    { "timeout_ms", NULL, FIELD(engine.timeout_ms), 20, 120000, NULL },
    { "retry_ms", NULL, FIELD(engine.retry_ms), 50, 60000, NULL },
    { "commit_ms", NULL, FIELD(engine.commit_ms), 0, 3600000, NULL },
    { "verify", NULL, FIELD(engine.verify_every), 0, 1000000, NULL },
    { "state_check", NULL, FIELD(engine.state_check_every), 0, 1000000, NULL },
    { "tracker_check", NULL, FIELD(engine.tracker_check_every), 0, 1000000, NULL },
};

static bool set_number(FutOptions *options, const OptionRule *rule, const char *value,
                       GError **error)
{
    guint64 number = 0;
    if (!g_ascii_string_to_unsigned(value, 10, rule->min, rule->max, &number, NULL)) {
        g_set_error(error, FUT_ERROR, FUT_ERR_ARG, "%s=%s: must be a number from %u to %u",
                    rule->key, value, rule->min, rule->max);
        return false;
    }
    *(uint32_t *)((char *)options + rule->offset) = (uint32_t)number;
    return true;
}

static bool set_option(FutOptions *options, const char *key, const char *value, GError **error)
{
    for (size_t i = 0; i < G_N_ELEMENTS(rules); i++) {
        if (strcmp(rules[i].key, key) != 0) {
            continue;
        }
        if (!rules[i].set) {
            return set_number(options, &rules[i], value, error);
        }
        if (!rules[i].set(options, value, rules[i].offset, error)) {
            g_prefix_error(error, "%s: ", key);
            return false;
        }
        return true;
    }
    g_autoptr(GString) known = g_string_new(NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(rules); i++) {
        g_string_append_printf(known, "%s%s", i ? ", " : "", rules[i].key);
    }
    g_set_error(error, FUT_ERROR, FUT_ERR_ARG, "unknown option '%s': there are %s", key,
                known->str);
    return false;
}

static void set_defaults(FutOptions *options)
{
    if (!options->node) {
        options->node = g_strdup(g_get_host_name());
    }
    if (!options->arbiter) {
        g_autofree char *rundir = fut_control_rundir();
        options->arbiter = g_strdup_printf("file:%s/arbiter", rundir);
    }
    options->engine.vm = options->vm;
    options->engine.node = options->node;
    options->engine.role = options->role;
    options->engine.restored = options->restore != NULL;
}

bool fut_options_address_allowed(const FutOptions *options, const FutAddress *address,
                                 GError **error)
{
    if (options->tls || options->insecure || fut_address_is_local(address)) {
        return true;
    }
    g_autofree char *text = fut_address_text(address);
    g_set_error(
        error, FUT_ERROR, FUT_ERR_ARG,
        "%s: guest memory would cross the network unencrypted: give both hosts keys (--tls, tls=), or use a private replication network and say --insecure (insecure=on)",
        text);
    return false;
}

static bool check_whole(const FutOptions *options, bool role_given, GError **error)
{
    const char *fault = NULL;
    if (!role_given) {
        fault = "role is missing: say role=primary or role=backup";
    } else if (!options->vm) {
        fault = "name is missing: say name=VM, the same on both hosts";
    } else if (options->role == FUT_ROLE_BACKUP && !options->listen) {
        fault = "listen is missing: a backup needs listen=ADDR";
    } else if (options->role == FUT_ROLE_BACKUP && options->to) {
        fault = "to=ADDR is for a primary: a backup is told where to listen";
    } else if (options->role == FUT_ROLE_PRIMARY && options->listen) {
        fault = "listen=ADDR is for a backup: a primary is told where its backup is (to=ADDR)";
    } else if (options->role == FUT_ROLE_PRIMARY && options->engine.moving) {
        fault = "moving=on is for a backup: a primary is told by futago relocate";
    } else if (options->restore && options->role == FUT_ROLE_BACKUP) {
        fault = "restore=STORE@ID is for a primary: a backup gets its memory from one";
    } else if (options->restore && options->to) {
        fault = "restore= and to= exclude each other: protect the VM when it runs";
    } else if ((options->identities.given || options->restore_hook) && !options->restore) {
        fault = "restore_identity= and restore_hook= are for a VM that begins as a snapshot";
    } else if (options->engine.waiting && !options->restore) {
        fault = "restore_ready=on is for a VM that begins as a snapshot";
    } else if (options->tls_name && !options->tls) {
        fault = "tls_name needs tls=x509:DIR or tls=psk:FILE";
    } else if (options->engine.timeout_ms < 2 * options->engine.heartbeat_ms) {
        fault = "timeout_ms must be at least twice heartbeat_ms";
    }
    if (fault) {
        g_set_error_literal(error, FUT_ERROR, FUT_ERR_ARG, fault);
        return false;
    }
    return (!options->tls || fut_tls_check(options->tls, options->tls_name, error)) &&
           (!options->listen || fut_options_address_allowed(options, options->listen, error)) &&
           (!options->to || fut_options_address_allowed(options, options->to, error));
}

FutOptions *fut_options_parse(int argc, char **argv, GError **error)
{
    g_autoptr(FutOptions) options = g_new0(FutOptions, 1);
    bool role_given = false;
    fut_engine_config_defaults(&options->engine);
    options->restore_clock = true;
    options->compress = FUT_COMPRESS_AUTO;
    options->shared = g_ptr_array_new_with_free_func(g_free);
    for (int i = 0; i < argc; i++) {
        const char *equals = strchr(argv[i], '=');
        if (!equals) {
            g_set_error(error, FUT_ERROR, FUT_ERR_ARG, "'%s': options have the form key=value",
                        argv[i]);
            return NULL;
        }
        g_autofree char *key = g_strndup(argv[i], (gsize)(equals - argv[i]));
        if (!set_option(options, key, equals + 1, error)) {
            return NULL;
        }
        role_given |= strcmp(key, "role") == 0;
    }
    if (!check_whole(options, role_given, error)) {
        return NULL;
    }
    set_defaults(options);
    return g_steal_pointer(&options);
}

void fut_options_free(FutOptions *options)
{
    if (!options) {
        return;
    }
    g_free(options->vm);
    g_free(options->restore);
    g_free(options->restore_hook);
    g_free(options->node);
    g_free(options->arbiter);
    g_free(options->tls);
    g_free(options->tls_name);
    fut_address_free(options->listen);
    fut_address_free(options->to);
    g_ptr_array_unref(options->shared);
    g_free(options);
}

bool fut_service_check_options(int argc, char **argv, GError **error)
{
    g_autoptr(FutOptions) options = fut_options_parse(argc, argv, error);
    return options != NULL;
}

FutEventSet fut_service_events(int argc, char **argv)
{
    g_autoptr(FutOptions) options = fut_options_parse(argc, argv, NULL);
    g_assert(options);
    return options->engine.events;
}

FutRole fut_service_role(int argc, char **argv)
{
    g_autoptr(FutOptions) options = fut_options_parse(argc, argv, NULL);
    g_assert(options);
    return options->role;
}

bool fut_service_waits(int argc, char **argv)
{
    g_autoptr(FutOptions) options = fut_options_parse(argc, argv, NULL);
    g_assert(options);
    return options->engine.waiting;
}

FutRestoreEarly *fut_service_begin_early(int argc, char **argv)
{
    g_autoptr(FutOptions) options = fut_options_parse(argc, argv, NULL);
    g_assert(options);
    return options->restore ? fut_restore_early_new(options->restore, options->restore_lazy) : NULL;
}

GStrv fut_service_shared_disks(int argc, char **argv)
{
    g_autoptr(FutOptions) options = fut_options_parse(argc, argv, NULL);
    g_assert(options);
    g_ptr_array_add(options->shared, NULL);
    return g_strdupv((char **)options->shared->pdata);
}
