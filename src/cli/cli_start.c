/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Options of `futago run` and `futago standby` into the module's argument and QEMU's command
 * line. */
#include <string.h>

#include "address.h"
#include "arbiter.h"
#include "cli_start.h"
#include "event_set.h"
#include "fut_error.h"
#include "link_tls.h"

/* Option of futago, key of the module, help. What range is good the module knows. */
static const struct {
    const char *option, *key, *help;
} numbers[FUT_START_NUMBERS] = {
    { "epoch-max-us", "epoch_max_us", "Longest epoch while protected" },
    { "batch-max-us", "batch_max_us", "Longest wait of an output for company under load" },
    { "heartbeat-ms", "heartbeat_ms", "Longest silence on the link to the other host" },
    { "timeout-ms", "timeout_ms", "Silence after which the other host counts as lost" },
    { "retry-ms", "retry_ms", "Time between attempts to reach the other host" },
    { "commit-ms", "commit_ms",
      "Wait for an acknowledgement after which the backup counts as lost" },
    { "verify", "verify", "Compare the hosts' memory at every N-th checkpoint (slow)" },
    { "state-check", "state_check",
      "Compare the device state with a save by QEMU alone at every N-th checkpoint" },
    { "tracker-check", "tracker_check",
      "Compare the queue of written pages with all marks at every N-th checkpoint" },
};

#define FIXED_OPTIONS 18

#define MODES "pipeline|stop"
#define FLUSHES "local|both"
#define TRACKERS "queue|words|flags"
#define COMPRESS "auto|none|lz4|zstd"
#define ON_PANIC "report|restart|stop"

void fut_start_done(FutStart *start)
{
    g_free(start->name);
    g_free(start->restore);
    g_free(start->node);
    g_free(start->arbiter);
    g_free(start->address);
    g_free(start->mode);
    g_free(start->flush);
    g_free(start->tracker);
    g_free(start->compress);
    g_free(start->events);
    g_free(start->on_panic);
    g_strfreev(start->shared_disks);
    g_strfreev(start->restore_identities);
    g_free(start->restore_hook);
    g_free(start->tls);
    g_free(start->tls_name);
    for (size_t i = 0; i < FUT_START_NUMBERS; i++) {
        g_free(start->numbers[i]);
    }
    memset(start, 0, sizeof(*start));
}

static GOptionEntry word_option(const char *name, char **at, const char *help, const char *value)
{
    return (GOptionEntry){ name, 0, 0, G_OPTION_ARG_FILENAME, at, help, value };
}

static GOptionEntry flag_option(const char *name, gboolean *at, const char *help)
{
    return (GOptionEntry){ name, 0, 0, G_OPTION_ARG_NONE, at, help, NULL };
}

static void fill_entries(FutStart *start, GOptionEntry *at)
{
    const GOptionEntry *first = at;

    *at++ = word_option("name", &start->name, "Name of the VM, the same on both hosts", "VM");
    *at++ = start->backup
                ? word_option("listen", &start->address, "Where the primary connects to", "ADDR")
                : word_option("protect-to", &start->address, "Where the standby listens", "ADDR");
    *at++ = word_option("arbiter", &start->arbiter, "Who decides which host may go on alone",
                        "KIND:WHERE");
    *at++ = word_option("tls", &start->tls, "Encrypt the link; what proves who is at its ends",
                        "x509:DIR|psk:FILE");
    *at++ = word_option("tls-name", &start->tls_name,
                        "Name in the other host's certificate, or of the key", "NAME");
    *at++ = word_option("node", &start->node, "Name of this host (default: its host name)", "NODE");
    *at++ = word_option("mode", &start->mode, "Whether the guest waits for each commit", MODES);
    *at++ =
        word_option("flush", &start->flush, "Where the guest's disk flushes are durable", FLUSHES);
    *at++ = word_option("events", &start->events, "What a checkpoint is cut for (default: net-tx)",
                        "all|none|NAME,...");
    *at++ = word_option("tracker", &start->tracker, "How written memory is found", TRACKERS);
    *at++ = word_option("compress", &start->compress, "Compression of what a slow link carries",
                        COMPRESS);
    *at++ = word_option("on-panic", &start->on_panic, "What becomes of a guest that panicked",
                        ON_PANIC);
    *at++ = (GOptionEntry){ "shared-disk",
                            0,
                            0,
                            G_OPTION_ARG_FILENAME_ARRAY,
                            &start->shared_disks,
                            "Disk whose one image both hosts reach; may be repeated",
                            "DISK|all" };
    for (size_t i = 0; i < FUT_START_NUMBERS; i++) {
        *at++ = word_option(numbers[i].option, &start->numbers[i], numbers[i].help, "N");
    }
    *at++ = flag_option("send-at-kick", &start->send_at_kick,
                        "Send packets in the vCPU's thread also while unprotected");
    *at++ = flag_option("force-generation", &start->force_generation,
                        "Start although another host is on record as running this VM");
    *at++ = flag_option("insecure", &start->insecure,
                        "Allow a link that is not encrypted to leave this machine");
    *at++ = flag_option("print", &start->print, "Print QEMU's arguments instead of starting it");
    *at = (GOptionEntry){ 0 };
    g_assert(at - first == FIXED_OPTIONS + FUT_START_NUMBERS - 1);
}

static bool check_address(const FutStart *start, GError **error)
{
    const char *option = start->backup ? "listen" : "protect-to";

    if (!start->address) {
        if (start->backup) {
            g_set_error(error, FUT_ERROR, FUT_ERR_ARG,
                        "--listen is missing: say where the primary shall connect to");
        }
        return !start->backup;
    }
    g_autoptr(FutAddress) address = fut_address_parse(start->address, error);
    if (!address) {
        g_prefix_error(error, "--%s: ", option);
        return false;
    }
    if (!start->tls && !start->insecure && !fut_address_is_local(address)) {
        g_set_error(error, FUT_ERROR, FUT_ERR_ARG,
                    "--%s %s: the link is not encrypted and leaves this machine: add --tls, or use "
                    "a private network and add --insecure",
                    option, start->address);
        return false;
    }
    return true;
}

/* What the files hold the module judges: with --print they may be another machine's. */
static bool check_tls(const FutStart *start, GError **error)
{
    if (start->tls_name && !start->tls) {
        g_set_error(error, FUT_ERROR, FUT_ERR_ARG,
                    "--tls-name needs --tls x509:DIR or --tls psk:FILE");
        return false;
    }
    if (start->tls && !fut_tls_check(start->tls, start->tls_name, error)) {
        g_prefix_error(error, "--tls: ");
        return false;
    }
    return true;
}

static bool check_names(const FutStart *start, const FutCommand *command, GError **error)
{
    if (!start->name) {
        g_set_error(error, FUT_ERROR, FUT_ERR_ARG,
                    "%s: --name is missing: give the VM one, the same on both hosts",
                    command->name);
        return false;
    }
    if (!fut_control_name_check(start->name, error)) {
        g_prefix_error(error, "--name: ");
        return false;
    }
    if (start->node && !fut_control_name_check(start->node, error)) {
        g_prefix_error(error, "--node: ");
        return false;
    }
    return true;
}

/* Each host alone has a default, but two defaults are two arbiters: neither would grant a takeover
 * of what it has no record of, and that would show only when a host is lost. */
static bool check_arbiter(const FutStart *start, const FutCommand *command, GError **error)
{
    if (start->arbiter) {
        return fut_arbiter_check(start->arbiter, error);
    }
    if (start->address) {
        g_set_error(error, FUT_ERROR, FUT_ERR_ARG,
                    "%s: --arbiter is missing: name the one that both hosts ask, file:DIR in a "
                    "folder both see",
                    command->name);
        return false;
    }
    return true;
}

/* `choices` as the help shows them, with "|" in between. */
static bool check_choice(const char *option, const char *value, const char *choices, GError **error)
{
    g_auto(GStrv) words = g_strsplit(choices, "|", -1);

    if (!value || g_strv_contains((const char *const *)words, value)) {
        return true;
    }
    g_autofree char *text = g_strjoinv(" or ", words);
    g_set_error(error, FUT_ERROR, FUT_ERR_ARG, "--%s %s: use %s", option, value, text);
    return false;
}

static bool check_events(const char *value, GError **error)
{
    FutEventSet set;

    if (value && !fut_event_set_parse(value, &set, error)) {
        g_prefix_error(error, "--events: ");
        return false;
    }
    return true;
}

static bool check_values(const FutStart *start, GError **error)
{
    if (!check_choice("mode", start->mode, MODES, error) ||
        !check_choice("flush", start->flush, FLUSHES, error) ||
        !check_choice("tracker", start->tracker, TRACKERS, error) ||
        !check_choice("compress", start->compress, COMPRESS, error) ||
        !check_choice("on-panic", start->on_panic, ON_PANIC, error) ||
        !check_events(start->events, error)) {
        return false;
    }
    for (char **name = start->shared_disks; name && *name; name++) {
        if (!**name) {
            g_set_error(error, FUT_ERROR, FUT_ERR_ARG,
                        "--shared-disk: use the id of a disk's device, or all");
            return false;
        }
    }
    for (size_t i = 0; i < FUT_START_NUMBERS; i++) {
        unsigned number;
        if (start->numbers[i] &&
            !fut_cli_number(numbers[i].option, start->numbers[i], 0, G_MAXINT32, &number, error)) {
            return false;
        }
    }
    return true;
}

static bool check_command(const FutStart *start, const FutCommand *command, GError **error)
{
    if (!start->qemu) {
        return true;
    }
    if (!start->qemu[0] || start->qemu[0][0] == '-') {
        g_set_error(error, FUT_ERROR, FUT_ERR_ARG,
                    "%s: no QEMU program after --: add qemu-system-x86_64 and its options",
                    command->name);
        return false;
    }
    return true;
}

int fut_start_separator(int argc, char **argv)
{
    int at = 1;

    while (at < argc && strcmp(argv[at], "--") != 0) {
        at++;
    }
    return at;
}

/* Without "--" QEMU's own options would be taken for ours: say what is really missing. */
static bool check_separator(const FutCommand *command, int argc, char **argv, GError **error)
{
    static const char *const alone[] = { "--print", "--help", "-h", "-?", "--help-all" };

    for (int i = 1; i < argc; i++) {
        for (size_t j = 0; j < G_N_ELEMENTS(alone); j++) {
            if (strcmp(argv[i], alone[j]) == 0) {
                return true;
            }
        }
    }
    g_set_error(error, FUT_ERROR, FUT_ERR_ARG,
                "%s: no QEMU command line: add -- qemu-system-x86_64 and its options",
                command->name);
    return false;
}

bool fut_start_parse(FutStart *start, const FutCommand *command, bool backup, int argc, char **argv,
                     GError **error)
{
    GOptionEntry entries[FIXED_OPTIONS + FUT_START_NUMBERS];
    int own = fut_start_separator(argc, argv);
    g_autofree char **words = g_memdup2(argv, (own + 1) * sizeof(*argv));

    memset(start, 0, sizeof(*start));
    start->backup = backup;
    if (own == argc && !check_separator(command, argc, argv, error)) {
        return false;
    }
    start->qemu = own < argc ? argv + own + 1 : NULL;
    words[own] = NULL;
    fill_entries(start, entries);
    if (!fut_cli_parse(command, entries, &own, words, error)) {
        return false;
    }
    if (own > 1) {
        g_set_error(error, FUT_ERROR, FUT_ERR_ARG,
                    "unexpected word '%s': QEMU's command line comes after --", words[1]);
        return false;
    }
    return check_names(start, command, error) && check_tls(start, error) &&
           check_address(start, error) && check_arbiter(start, command, error) &&
           check_values(start, error) && check_command(start, command, error);
}

/* QEMU ends a value at a comma unless it is doubled. */
static void add_value(GString *plugin, const char *key, const char *value)
{
    if (!value) {
        return;
    }
    g_string_append_printf(plugin, "%s%s=", plugin->len ? "," : "", key);
    for (const char *at = value; *at; at++) {
        g_string_append_c(plugin, *at);
        if (*at == ',') {
            g_string_append_c(plugin, ',');
        }
    }
}

char *fut_start_plugin(const FutStart *start, const char *module)
{
    GString *plugin = g_string_new(NULL);

    add_value(plugin, "file", module);
    add_value(plugin, "role", start->backup ? "backup" : "primary");
    add_value(plugin, "name", start->name);
    add_value(plugin, "node", start->node);
    add_value(plugin, "arbiter", start->arbiter);
    add_value(plugin, start->backup ? "listen" : "to", start->address);
    add_value(plugin, "tls", start->tls);
    add_value(plugin, "tls_name", start->tls_name);
    add_value(plugin, "mode", start->mode);
    add_value(plugin, "flush", start->flush);
    add_value(plugin, "tracker", start->tracker);
    add_value(plugin, "compress", start->compress);
    add_value(plugin, "events", start->events);
    add_value(plugin, "on_panic", start->on_panic);
    for (char **name = start->shared_disks; name && *name; name++) {
        add_value(plugin, "shared_disk", *name);
    }
    for (size_t i = 0; i < FUT_START_NUMBERS; i++) {
        add_value(plugin, numbers[i].key, start->numbers[i]);
    }
    add_value(plugin, "send_at_kick", start->send_at_kick ? "on" : NULL);
    add_value(plugin, "force_generation", start->force_generation ? "on" : NULL);
    add_value(plugin, "restore", start->restore);
    add_value(plugin, "restore_force", start->restore_force ? "on" : NULL);
    add_value(plugin, "restore_lazy", start->restore_lazy ? "on" : NULL);
    add_value(plugin, "restore_ready", start->restore_ready ? "on" : NULL);
    add_value(plugin, "restore_connections", start->restore_connections);
    for (char **nic = start->restore_identities; nic && *nic; nic++) {
        add_value(plugin, "restore_identity", *nic);
    }
    add_value(plugin, "restore_hook", start->restore_hook);
    add_value(plugin, "restore_check", start->restore_check ? "on" : NULL);
    add_value(plugin, "restore_clock", start->restore_keep_clock ? "off" : NULL);
    add_value(plugin, "insecure", start->insecure ? "on" : NULL);
    return g_string_free(plugin, FALSE);
}

GPtrArray *fut_start_command(const FutStart *start, const char *module)
{
    GPtrArray *words = g_ptr_array_new_with_free_func(g_free);

    if (start->qemu) {
        g_ptr_array_add(words, g_strdup(start->qemu[0]));
    }
    if (start->backup || start->restore) {
        g_ptr_array_add(words, g_strdup("-S"));
    }
    if ((start->backup && start->shared_disks) || start->restore_ready) {
        /* QEMU is to open images without locking them: who runs the guest now has the locks. */
        g_ptr_array_add(words, g_strdup("-incoming"));
        g_ptr_array_add(words, g_strdup("defer"));
    }
    g_ptr_array_add(words, g_strdup("-plugin"));
    g_ptr_array_add(words, fut_start_plugin(start, module));
    for (char **word = start->qemu; word && word[0] && word[1]; word++) {
        g_ptr_array_add(words, g_strdup(word[1]));
    }
    g_ptr_array_add(words, NULL);
    return words;
}
