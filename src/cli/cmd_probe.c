/* SPDX-License-Identifier: GPL-2.0-or-later */
/* futago probe: looks into a guest's kernel while it runs. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "cli.h"
#include "fut_error.h"
#include "probe_suggest.h"

/* The VM may have to read its kernel first, on a busy host. */
#define ANSWER_MS 30000
#define PROBE_FILE_MAX 65536

/* -- add -- */

/* A probe as it is written, the name of a shipped one, or a file's path (with a "/"). Caller frees. */
static char *probe_text(const char *word, GError **error)
{
    char *text = NULL;
    gsize length = 0;

    if (strchr(word, ':')) {
        return g_strdup(word);
    }
    g_autofree char *path = strchr(word, '/') ? g_strdup(word) : fut_probe_shipped_path(word);
    if (!path) {
        g_set_error(
            error, FUT_ERROR, FUT_ERR_ARG,
            "'%s' is neither a probe (kprobe:FUNCTION...) nor one that comes with Futago: see man futago-probe",
            word);
        return NULL;
    }
    if (!g_file_get_contents(path, &text, &length, NULL) || length > PROBE_FILE_MAX ||
        strlen(text) != length) {
        g_set_error(error, FUT_ERROR, FUT_ERR_ARG, "%s: cannot be read as a probe", path);
        g_free(text);
        return NULL;
    }
    return text;
}

static bool print_result(json_t *take_result, bool as_json)
{
    if (!take_result) {
        return false;
    }
    if (as_json) {
        json_dumpf(take_result, stdout, JSON_COMPACT);
        printf("\n");
    }
    json_decref(take_result);
    return true;
}

/* What stands before a definition counts before it. NULL with an error. Caller frees. */
static char *whole_text(const char *word, const char *severity, const char *on, GError **error)
{
    g_autofree char *text = probe_text(word, error);

    if (!text) {
        return NULL;
    }
    return g_strconcat(severity ? "severity=" : "", severity ? severity : "", severity ? "\n" : "",
                       on ? "on=" : "", on ? on : "", on ? "\n" : "", text, NULL);
}

typedef struct {
    char *name, *filter, *severity, *on, *symbols, *vm; /* NULL: not said; owned */
    gboolean wait, disabled;
} Wanted;

static void wanted_clear(Wanted *wanted)
{
    g_free(wanted->name);
    g_free(wanted->filter);
    g_free(wanted->severity);
    g_free(wanted->on);
    g_free(wanted->symbols);
    g_free(wanted->vm);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Wanted, wanted_clear)

static void print_added(const char *vm, const json_t *result)
{
    if (strcmp(fut_cli_text(result, "state"), "waiting") == 0) {
        printf("%s: probe %s at %s waits: %s\n", vm, fut_cli_text(result, "name"),
               fut_cli_text(result, "function"), fut_cli_text(result, "reason"));
        return;
    }
    printf("%s: probe %s at %s (%s)\n", vm, fut_cli_text(result, "name"),
           fut_cli_text(result, "function"), fut_cli_text(result, "address"));
}

static bool add(const char *vm, const char *word, const Wanted *wanted, bool as_json,
                GError **error)
{
    g_autofree char *text = whole_text(word, wanted->severity, wanted->on, error);
    /* A shipped probe bears its own name, not its function's. */
    const char *own = wanted->name ? wanted->name : strpbrk(word, ":/") ? NULL : word;
    /* The module may be in another folder. */
    g_autofree char *symbols =
        wanted->symbols ? g_canonicalize_filename(wanted->symbols, NULL) : NULL;
    g_autoptr(FutControlClient) client = text ? fut_control_connect(vm, error) : NULL;

    if (!client) {
        return false;
    }
    json_t *args = json_pack("{s:s, s:s*, s:s*, s:s*, s:b, s:b}", "probe", text, "name", own,
                             "filter", wanted->filter, "symbols", symbols, "wait", wanted->wait,
                             "disabled", wanted->disabled);
    if (!args) {
        g_set_error(error, FUT_ERROR, FUT_ERR_ARG, "the probe is not UTF-8");
        return false;
    }
    json_t *result = fut_control_call(client, "probe-add", args, ANSWER_MS, error);
    if (result && !as_json) {
        print_added(vm, result);
    }
    return print_result(result, as_json);
}

/* -- list, remove -- */

/* What is to be known of a probe that sees nothing. */
static const char *remark(const json_t *probe)
{
    static char line[512];
    const char *state = fut_cli_text(probe, "state");

    if (strcmp(state, "stale") == 0) {
        return json_is_true(json_object_get(probe, "wait"))
                   ? ""
                   : ": the guest has started anew, add it again";
    }
    if (strcmp(state, "waiting") == 0) {
        g_snprintf(line, sizeof(line), ": %s", fut_cli_text(probe, "reason"));
        return line;
    }
    return "";
}

static void print_probes(const json_t *result)
{
    const json_t *probes = json_object_get(result, "probes"), *probe;
    const char *kernel = fut_cli_text(result, "kernel");
    size_t i;

    if (*kernel) {
        printf("%s\n", kernel);
    }
    printf("%-20s %-24s %12s %10s %10s %10s\n", "PROBE", "FUNCTION", "HITS", "RECORDS", "SKIPPED",
           "MISSED");
    json_array_foreach(probes, i, probe)
    {
        const char *state = fut_cli_text(probe, "state");
        printf("%-20s %-24s %12.0f %10.0f %10.0f %10.0f%s%s%s\n", fut_cli_text(probe, "name"),
               fut_cli_text(probe, "function"), fut_cli_value(probe, "hits"),
               fut_cli_value(probe, "records"), fut_cli_value(probe, "skipped"),
               fut_cli_value(probe, "missed"), strcmp(state, "in") == 0 ? "" : "  ",
               strcmp(state, "in") == 0 ? "" : state, remark(probe));
    }
}

static bool list(const char *vm, bool as_json, GError **error)
{
    g_autoptr(FutControlClient) client = fut_control_connect(vm, error);
    json_t *result = client ? fut_control_call(client, "probe-list", NULL, ANSWER_MS, error) : NULL;

    if (result && !as_json) {
        print_probes(result);
    }
    return print_result(result, as_json);
}

/* remove, enable, disable */
static bool change(const char *vm, const char *deed, const char *name, GError **error)
{
    g_autoptr(FutControlClient) client = fut_control_connect(vm, error);
    g_autofree char *verb = g_strconcat("probe-", deed, NULL);

    return client && print_result(fut_control_call(client, verb, json_pack("{s:s}", "name", name),
                                                   ANSWER_MS, error),
                                  false);
}

/* -- watch -- */

static void print_value(const json_t *value)
{
    if (json_is_string(value)) {
        const char *text = json_string_value(value);
        printf(g_str_has_prefix(text, "0x") ? "%s" : "\"%s\"", text);
    } else if (json_is_integer(value)) {
        printf("%" JSON_INTEGER_FORMAT, json_integer_value(value));
    } else {
        printf("?");
    }
}

static void print_record(const json_t *record)
{
    double time_s = fut_cli_value(record, "time");
    time_t whole_s = (time_t)time_s;
    json_t *fields = json_object_get(record, "fields"), *value;
    const char *label;
    struct tm local;
    char clock[32] = "";

    if (strcmp(fut_cli_text(record, "event"), "PROBE") != 0) {
        printf("%.0f records were lost: they came faster than they were read\n",
               fut_cli_value(record, "lost"));
        return;
    }
    localtime_r(&whole_s, &local);
    strftime(clock, sizeof(clock), "%F %T", &local);
    printf("%s.%06d #%.0f vcpu %.0f %s", clock, (int)((time_s - (double)whole_s) * 1e6),
           fut_cli_value(record, "sequence"), fut_cli_value(record, "vcpu"),
           fut_cli_text(record, "probe"));
    json_object_foreach(fields, label, value)
    {
        printf(" %s=", label);
        print_value(value);
    }
    if (fut_cli_value(record, "skipped") > 0) {
        printf(" (%.0f hits before it left no record: too many)", fut_cli_value(record, "skipped"));
    }
    printf("\n");
}

/* Ends only with the VM, or when nobody reads any more. */
static bool watch(const char *vm, bool as_json, GError **error)
{
    g_autoptr(FutControlClient) client = fut_control_connect(vm, error);
    json_t *message =
        client ? fut_control_call(client, "probe-watch", NULL, FUT_CLI_ANSWER_MS, error) : NULL;

    if (!message) {
        return false;
    }
    json_decref(message);
    while ((message = fut_control_next_event(client, -1, error))) {
        if (!as_json) {
            print_record(message);
        }
        print_result(message, as_json);
        fflush(stdout);
    }
    return false;
}

/* -- suggest -- */

static void print_suggestion(const json_t *one)
{
    g_autoptr(GString) functions = g_string_new("");
    const json_t *name;
    size_t i;

    json_array_foreach(json_object_get(one, "functions"), i, name)
    {
        g_string_append_printf(functions, "%s%s", i ? ", or " : "", json_string_value(name));
    }
    printf("%-14s %s, %s; at %s\n    %s\n", fut_cli_text(one, "name"),
           fut_cli_text(one, "severity"), fut_cli_text(one, "scope"), functions->str,
           fut_cli_text(one, "means"));
}

/* "vfs_write(file, buf, count, pos)", or the name alone. */
static void print_function(const json_t *one)
{
    const json_t *parameters = json_object_get(one, "parameters");

    printf("kprobe:%s%s%s%s\n", fut_cli_text(one, "function"), parameters ? "  (" : "",
           parameters ? json_string_value(parameters) : "", parameters ? ")" : "");
}

static void print_suggestions(const json_t *found, bool as_json)
{
    const json_t *one;
    size_t i;

    if (as_json) {
        json_dumpf(found, stdout, JSON_COMPACT);
        printf("\n");
        return;
    }
    json_array_foreach(found, i, one)
    {
        (json_object_get(one, "name") ? print_suggestion : print_function)(one);
    }
}

/* Adds the functions of the guest's kernel. */
static bool add_functions(json_t *found, const char *vm, const char *symptom, GError **error)
{
    g_autoptr(FutControlClient) client =
        fut_control_name_check(vm, error) ? fut_control_connect(vm, error) : NULL;
    json_t *args = client ? json_pack("{s:s}", "words", symptom) : NULL;

    if (client && !args) {
        g_set_error(error, FUT_ERROR, FUT_ERR_ARG, "the words are not UTF-8");
    }
    json_t *result =
        args ? fut_control_call(client, "probe-functions", args, ANSWER_MS, error) : NULL;
    if (!result) {
        return false;
    }
    json_array_extend(found, json_object_get(result, "functions"));
    json_decref(result);
    return true;
}

/* `vm` may be NULL. */
static bool suggest(const char *symptom, const char *vm, bool as_json, GError **error)
{
    g_autofree char *folder = fut_probe_shipped_folder();
    json_t *found = fut_probe_suggest(folder, symptom);
    bool done = !vm || add_functions(found, vm, symptom, error);

    if (done) {
        print_suggestions(found, as_json);
    }
    if (done && json_array_size(found) == 0) {
        g_set_error(
            error, FUT_ERROR, FUT_ERR_STATE,
            "no probe in %s%s fits '%s': name what fails (memory, disk, crash, hang), or a function",
            folder, vm ? ", and no function of the guest's kernel," : "", symptom);
        done = false;
    }
    json_decref(found);
    return done;
}

/* -- words -- */

static bool check_words(int argc, char **argv, int wanted, GError **error)
{
    static const char *const deeds[] = { "add", "list", "remove", "enable", "disable", "watch" };

    for (size_t i = 0; argc > 1 && i < G_N_ELEMENTS(deeds); i++) {
        if (strcmp(argv[1], deeds[i]) == 0) {
            if (argc == wanted) {
                return fut_control_name_check(argv[2], error);
            }
            g_set_error(error, FUT_ERROR, FUT_ERR_ARG,
                        "probe %s takes the VM's name%s: see futago probe --help", deeds[i],
                        wanted == 4 ? " and one word more" : "");
            return false;
        }
    }
    g_set_error(error, FUT_ERROR, FUT_ERR_ARG,
                "probe%s%s%s: say add, list, remove, enable, disable or watch, and the VM's name",
                argc > 1 ? " '" : "", argc > 1 ? argv[1] : "", argc > 1 ? "'" : "");
    return false;
}

static bool run(int argc, char **argv, GError **error)
{
    gboolean as_json = FALSE;
    g_auto(Wanted) wanted = { 0 };
    const GOptionEntry entries[] = {
        { "name", 0, 0, G_OPTION_ARG_STRING, &wanted.name,
          "add: what to call it (default: the function)", "NAME" },
        { "filter", 0, 0, G_OPTION_ARG_STRING, &wanted.filter,
          "add: a hit has to pass this as well", "FILTER" },
        { "severity", 0, 0, G_OPTION_ARG_STRING, &wanted.severity,
          "add: info, warning, error or critical", "LEVEL" },
        { "on", 0, 0, G_OPTION_ARG_STRING, &wanted.on,
          "add: what to do: report, command:/PATH, ask:/PATH, failover, ...", "ACTION,..." },
        { "symbols", 0, 0, G_OPTION_ARG_FILENAME, &wanted.symbols,
          "add: System.map or vmlinux of a kernel that has no symbols in its memory", "FILE" },
        { "wait", 0, 0, G_OPTION_ARG_NONE, &wanted.wait,
          "add: until the guest's kernel is up, and after each start of the guest", NULL },
        { "disabled", 0, 0, G_OPTION_ARG_NONE, &wanted.disabled, "add: see nothing until enabled",
          NULL },
        { "vm", 0, 0, G_OPTION_ARG_STRING, &wanted.vm,
          "suggest: look into the kernel of that VM's guest, too", "VM" },
        { "json", 0, 0, G_OPTION_ARG_NONE, &as_json, "One JSON object a line", NULL },
        { 0 },
    };

    if (!fut_cli_parse(&fut_cmd_probe, entries, &argc, argv, error)) {
        return false;
    }
    const char *deed = argc > 1 ? argv[1] : "";
    if (strcmp(deed, "suggest") == 0 && argc > 2) {
        g_autofree char *symptom = g_strjoinv(" ", argv + 2);
        return suggest(symptom, wanted.vm, as_json, error);
    }
    bool alone = strcmp(deed, "list") == 0 || strcmp(deed, "watch") == 0;
    if (!check_words(argc, argv, alone ? 3 : 4, error)) {
        return false;
    }
    bool adds = strcmp(deed, "add") == 0;
    if (wanted.vm) {
        g_set_error_literal(error, FUT_ERROR, FUT_ERR_ARG, "--vm goes with probe suggest only");
        return false;
    }
    if (!adds && (wanted.name || wanted.filter || wanted.severity || wanted.on || wanted.symbols ||
                  wanted.wait || wanted.disabled)) {
        g_set_error(error, FUT_ERROR, FUT_ERR_ARG,
                    "--name, --filter, --severity, --on, --symbols, --wait and --disabled go with "
                    "probe add only");
        return false;
    }
    if (adds) {
        return add(argv[2], argv[3], &wanted, as_json, error);
    }
    if (!alone) {
        return change(argv[2], deed, argv[3], error);
    }
    return strcmp(deed, "list") == 0 ? list(argv[2], as_json, error)
                                     : watch(argv[2], as_json, error);
}

const FutCommand fut_cmd_probe = {
    .name = "probe",
    .usage =
        "add VM PROBE | list VM | remove VM NAME | enable VM NAME | disable VM NAME | watch VM | "
        "suggest SYMPTOM [--vm VM]",
    .summary = "Look into a guest's kernel while it runs",
    .run = run,
};
