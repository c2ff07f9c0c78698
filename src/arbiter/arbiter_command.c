/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Arbiter "command:PATH[,limit=SECONDS][,id=NAME]": a program keeps the record, for fencing and for cluster
 * managers. futago-arbiter(7) is its contract; in short:
 *
 *   PATH claim VM GENERATION NODE      0 granted, 1 refused, else nobody can tell
 *   PATH read VM                       0 and the record's line, or nothing when there is none
 *   PATH release VM GENERATION NODE    0 done: GENERATION + 1 is NODE's, released
 *
 * What it answers to a claim counts only if the record it keeps says the same: a program that always
 * says yes, or ends with 1 because something in it broke, decides nothing.
 */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "arbiter_kinds.h"
#include "arbiter_record.h"
#include "fut_clock.h"
#include "fut_error.h"
#include "run_program.h"

#define LIMIT_DEFAULT_S 5
#define LIMIT_MAX_S 300
#define TEXT_MAX 200

typedef struct {
    FutArbiter arbiter;
    char *path, *vm;
    char *id;          /* what both hosts' programs have in common; owned */
    uint64_t limit_ns; /* for one claim, read or release, all it runs taken together */
} CommandArbiter;

/* -- address -- */

/* Takes ",key=value" off the end of the address; NULL if that is not what stands there. */
static const char *take_option(char *where, const char *key)
{
    char *comma = strrchr(where, ',');

    if (!comma || !g_str_has_prefix(comma + 1, key)) {
        return NULL;
    }
    *comma = '\0';
    return comma + 1 + strlen(key);
}

static bool take_options(char *program, const char *where, uint64_t *ret_limit_s,
                         const char **ret_id, GError **error)
{
    const char *limit = NULL, *id = NULL, *more = "";

    while (more) {
        more = NULL;
        if (!limit && (limit = take_option(program, "limit="))) {
            more = limit;
        } else if (!id && (id = take_option(program, "id="))) {
            more = id;
        }
    }
    *ret_limit_s = LIMIT_DEFAULT_S;
    if (limit && !g_ascii_string_to_unsigned(limit, 10, 1, LIMIT_MAX_S, ret_limit_s, NULL)) {
        g_set_error(error, FUT_ERROR, FUT_ERR_ARG,
                    "arbiter 'command:%s': limit is a number of seconds from 1 to %d", where,
                    LIMIT_MAX_S);
        return false;
    }
    if (id && !fut_arbiter_name_ok(id)) {
        g_set_error(error, FUT_ERROR, FUT_ERR_ARG,
                    "arbiter 'command:%s': id is a name of letters, digits, '.', '_' and '-'",
                    where);
        return false;
    }
    *ret_id = id;
    return true;
}

/* Without a name of its own a program is known by its text. */
static char *identity_of(const char *path, GError **error)
{
    g_autofree char *text = NULL;
    gsize length = 0;
    g_autoptr(GError) fault = NULL;

    if (!g_file_get_contents(path, &text, &length, &fault)) {
        g_set_error(error, FUT_ERROR, FUT_ERR_ARG,
                    "arbiter 'command:%s': cannot be read (%s): make it readable, or give it a "
                    "name (id=NAME)",
                    path, fault->message);
        return NULL;
    }
    g_autofree char *sum =
        g_compute_checksum_for_data(G_CHECKSUM_SHA256, (const guchar *)text, length);
    return g_strdup_printf("sha256 %.16s", sum);
}

static bool check_program(const char *path, GError **error)
{
    struct stat status;
    int code = 0;

    if (stat(path, &status) < 0) {
        code = errno;
    } else if (!S_ISREG(status.st_mode)) {
        code = EISDIR;
    } else if (access(path, X_OK) < 0) {
        code = errno;
    }
    if (code) {
        g_set_error(error, FUT_ERROR, FUT_ERR_ARG,
                    "arbiter 'command:%s': cannot be run (%s): name a program", path,
                    code == EISDIR ? "not a file" : g_strerror(code));
    }
    return code == 0;
}

static FutArbiter *command_open(const char *where, const char *vm, GError **error)
{
    g_autofree char *program = g_strdup(where);
    uint64_t limit_s;
    const char *name;

    if (!take_options(program, where, &limit_s, &name, error)) {
        return NULL;
    }
    g_autofree char *path = g_canonicalize_filename(program, NULL);
    if (!check_program(path, error)) {
        return NULL;
    }
    g_autofree char *id = name ? g_strdup_printf("id %s", name) : identity_of(path, error);
    if (!id) {
        return NULL;
    }
    CommandArbiter *command = g_new0(CommandArbiter, 1);
    command->arbiter.ops = &fut_arbiter_command;
    command->path = g_steal_pointer(&path);
    command->vm = g_strdup(vm);
    command->id = g_steal_pointer(&id);
    command->limit_ns = limit_s * FUT_NS_PER_S;
    return &command->arbiter;
}

static void command_close(FutArbiter *arbiter)
{
    CommandArbiter *command = (CommandArbiter *)arbiter;

    g_free(command->path);
    g_free(command->vm);
    g_free(command->id);
    g_free(command);
}

/* -- running it -- */

/* First line as something that may be shown; NULL if there is none. */
static char *first_line(const char *text)
{
    g_autofree char *line = g_strndup(text, MIN(strcspn(text, "\r\n"), TEXT_MAX));
    g_autofree char *valid = g_utf8_make_valid(line, -1);

    for (char *at = valid; *at; at++) {
        if (g_ascii_iscntrl(*at)) {
            *at = ' ';
        }
    }
    return *g_strstrip(valid) ? g_steal_pointer(&valid) : NULL;
}

static char **environment(const CommandArbiter *command, const char *action, const char *generation,
                          const char *node)
{
    char **env = g_get_environ();

    env = g_environ_setenv(env, "FUTAGO_ACTION", action, TRUE);
    env = g_environ_setenv(env, "FUTAGO_VM", command->vm, TRUE);
    env = g_environ_setenv(env, "FUTAGO_GENERATION", generation ? generation : "", TRUE);
    return g_environ_setenv(env, "FUTAGO_NODE", node ? node : "", TRUE);
}

/* generation 0, node NULL: the action has none. */
static bool run(const CommandArbiter *command, const char *action, uint64_t generation,
                const char *node, uint64_t deadline_ns, FutRunResult *ret, GError **error)
{
    g_autofree char *number = node ? g_strdup_printf("%" G_GUINT64_FORMAT, generation) : NULL;
    g_auto(GStrv) env = environment(command, action, number, node);
    char *argv[] = { command->path, (char *)action, command->vm, number, (char *)node, NULL };

    return fut_run_program(argv, env, deadline_ns, ret, error);
}

/* How a run went wrong. */
static char *failure_text(const CommandArbiter *command, const FutRunResult *result)
{
    if (result->late) {
        return g_strdup_printf("no end within %u s (limit=SECONDS gives it more)",
                               (unsigned)(command->limit_ns / FUT_NS_PER_S));
    }
    return result->status < 0 ? g_strdup("ended by a signal")
                              : g_strdup_printf("exit status %d", result->status);
}

static void set_failure(const CommandArbiter *command, const char *action,
                        const FutRunResult *result, GError **error)
{
    g_autofree char *said = first_line(*result->errors ? result->errors : result->output);
    g_autofree char *how = failure_text(command, result);

    g_set_error(error, FUT_ERROR, result->late ? FUT_ERR_TIMEOUT : FUT_ERR_IO, "%s %s: %s%s%s",
                command->path, action, how, said ? ": " : "", said ? said : "");
}

static bool read_record(const CommandArbiter *command, uint64_t deadline_ns, FutArbiterRecord *ret,
                        GError **error)
{
    FutRunResult result;

    if (!run(command, "read", 0, NULL, deadline_ns, &result, error)) {
        return false;
    }
    if (result.late || result.status != 0) {
        set_failure(command, "read", &result, error);
        return false;
    }
    if (!*result.output) {
        *ret = (FutArbiterRecord){ .holder = g_strdup("") };
        return true;
    }
    if (!fut_arbiter_line_parse(result.output, ret)) {
        g_autofree char *said = first_line(result.output);
        g_set_error(error, FUT_ERROR, FUT_ERR_IO,
                    "%s read: '%s' is no record: see futago-arbiter(7) for its form", command->path,
                    said ? said : "");
        return false;
    }
    return true;
}

/* -- operations -- */

static const char *answer_name(FutClaim claim)
{
    return claim == FUT_CLAIM_GRANTED ? "granted" : "refused";
}

/* The record decides; what the program answered must agree with it. */
static FutClaim confirm(const CommandArbiter *command, FutClaim answer, uint64_t generation,
                        const char *node, uint64_t deadline_ns, char **ret_text, GError **error)
{
    FutArbiterRecord record = { 0 };

    if (!read_record(command, deadline_ns, &record, error)) {
        return FUT_CLAIM_UNKNOWN;
    }
    bool agrees =
        answer == FUT_CLAIM_GRANTED
            ? fut_arbiter_record_is(&record, generation, node)
            : record.generation >= generation && !fut_arbiter_record_is(&record, generation, node);
    if (!agrees) {
        g_set_error(error, FUT_ERROR, FUT_ERR_IO,
                    "%s claim: says %s, but the record it keeps says generation %" G_GUINT64_FORMAT
                    " held by '%s': correct the program",
                    command->path, answer_name(answer), record.generation, record.holder);
        answer = FUT_CLAIM_UNKNOWN;
    } else if (answer == FUT_CLAIM_REFUSED) {
        fut_arbiter_judge(&record, generation, node, command->path, "", ret_text);
    }
    fut_arbiter_record_clear(&record);
    return answer;
}

static FutClaim claim(const CommandArbiter *command, uint64_t generation, const char *node,
                      char **ret_text, GError **error)
{
    uint64_t deadline_ns = fut_now_ns() + command->limit_ns;
    FutRunResult result;

    if (!run(command, "claim", generation, node, deadline_ns, &result, error)) {
        return FUT_CLAIM_UNKNOWN;
    }
    if (result.late || result.status < 0 || result.status > 1) {
        set_failure(command, "claim", &result, error);
        return FUT_CLAIM_UNKNOWN;
    }
    FutClaim answer = confirm(command, result.status == 0 ? FUT_CLAIM_GRANTED : FUT_CLAIM_REFUSED,
                              generation, node, deadline_ns, ret_text, error);
    char *said = answer == FUT_CLAIM_REFUSED ? first_line(result.output) : NULL;
    if (said) {
        g_free(*ret_text);
        *ret_text = said;
    }
    return answer;
}

static FutClaim command_claim(FutArbiter *arbiter, uint64_t generation, const char *node,
                              char **ret_text)
{
    g_autoptr(GError) error = NULL;
    FutClaim answer = claim((const CommandArbiter *)arbiter, generation, node, ret_text, &error);

    if (error) {
        *ret_text = g_strdup_printf("arbiter: %s", error->message);
    }
    return answer;
}

static bool command_read(FutArbiter *arbiter, FutArbiterRecord *ret, GError **error)
{
    const CommandArbiter *command = (const CommandArbiter *)arbiter;

    if (!read_record(command, fut_now_ns() + command->limit_ns, ret, error)) {
        g_prefix_error(error, "arbiter: ");
        return false;
    }
    return true;
}

/* A generation that stays free could be claimed by the twin of a VM that has ended. */
static bool confirm_release(const CommandArbiter *command, uint64_t generation, const char *node,
                            uint64_t deadline_ns, GError **error)
{
    FutArbiterRecord record = { 0 };

    if (!read_record(command, deadline_ns, &record, error)) {
        return false;
    }
    bool free_still = record.generation == generation && strcmp(record.holder, node) == 0;
    if (free_still) {
        g_set_error(error, FUT_ERROR, FUT_ERR_IO,
                    "%s release: says done, but the record it keeps still says generation "
                    "%" G_GUINT64_FORMAT ": correct the program",
                    command->path, generation);
    }
    fut_arbiter_record_clear(&record);
    return !free_still;
}

static bool release(const CommandArbiter *command, uint64_t generation, const char *node,
                    GError **error)
{
    uint64_t deadline_ns = fut_now_ns() + command->limit_ns;
    FutRunResult result;

    if (!run(command, "release", generation, node, deadline_ns, &result, error)) {
        return false;
    }
    if (result.late || result.status != 0) {
        set_failure(command, "release", &result, error);
        return false;
    }
    return confirm_release(command, generation, node, deadline_ns, error);
}

static bool command_release(FutArbiter *arbiter, uint64_t generation, const char *node,
                            GError **error)
{
    if (!release((const CommandArbiter *)arbiter, generation, node, error)) {
        g_prefix_error(error, "arbiter: ");
        return false;
    }
    return true;
}

static bool command_identify(FutArbiter *arbiter, char **ret_identity, GError **error)
{
    *ret_identity = g_strdup_printf("command, %s", ((const CommandArbiter *)arbiter)->id);
    return true;
}

const FutArbiterOps fut_arbiter_command = {
    .kind = "command",
    .usage = "command:PATH[,limit=SECONDS][,id=NAME]",
    .open = command_open,
    .claim = command_claim,
    .read = command_read,
    .release = command_release,
    .identify = command_identify,
    .close = command_close,
};
