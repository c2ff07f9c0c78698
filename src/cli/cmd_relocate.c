/* SPDX-License-Identifier: GPL-2.0-or-later */
/* futago relocate: moves running VMs, with their disks, to another host. A process for each VM does it; this one looks on. With --follow those that
 * another one has begun. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli.h"
#include "fut_error.h"
#include "receive_vm.h"
#include "relocate_record.h"
#include "relocate_show.h"
#include "relocate_vm.h"

#define PARALLEL_DEFAULT 2
#define PARALLEL_MAX 64
#define VMS_MAX 1024

typedef struct {
    const char *vm;
    pid_t pid; /* 0: not begun */
    int fd;    /* what it tells; -1: nothing more */
    FutLines *lines;
    json_t *last; /* what it told last; NULL: nothing */
    char *phase;  /* for which a line was printed */
} Moving;

typedef struct {
    FutRelocate how;
    Moving *vms;
    size_t count;
    unsigned parallel;
    gboolean json, no_wait;
    gboolean follow; /* no move of ours: those whose processes were killed */
    int width;
    bool drawn; /* on a terminal: the lines are there */
} Relocation;

static volatile sig_atomic_t interrupted, told_to_switch;

static void on_interrupt(int number)
{
    interrupted = 1;
}

static void on_switch(int number)
{
    told_to_switch = 1;
}

/* -- one VM's process -- */

/* Whoever reads what we say does not wait for its end. */
static void leave_terminal(void)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    for (int fd = 0; null >= 0 && fd <= STDERR_FILENO; fd++) {
        dup2(null, fd);
    }
}

static bool begin(Relocation *all, Moving *one, GError **error)
{
    int pipe_fds[2];

    if (pipe2(pipe_fds, O_CLOEXEC) < 0) {
        g_set_error(error, FUT_ERROR, FUT_ERR_IO, "pipe: %s", g_strerror(errno));
        return false;
    }
    fflush(NULL);
    one->pid = fork();
    if (one->pid == 0) {
        setsid(); /* it has to finish what it has begun, whatever becomes of the terminal */
        signal(SIGINT, SIG_IGN);
        signal(SIGHUP, SIG_IGN);
        leave_terminal();
        close(pipe_fds[0]);
        for (size_t i = 0; i < all->count; i++) {
            if (all->vms[i].fd >= 0) {
                close(all->vms[i].fd);
            }
        }
        if (all->follow) {
            fut_relocate_follow(one->vm, pipe_fds[1]);
        } else {
            fut_relocate_vm(&all->how, one->vm, pipe_fds[1]);
        }
        _exit(EXIT_SUCCESS);
    }
    close(pipe_fds[1]);
    one->fd = pipe_fds[0];
    one->lines = fut_lines_new();
    return true;
}

static bool has_outcome(const Moving *one, const char *outcome)
{
    const char *is = one->last ? fut_cli_text(one->last, "outcome") : "";

    return outcome ? strcmp(is, outcome) == 0 : *is != '\0';
}

static bool phase_is(const Moving *one, const char *phase)
{
    return one->last && strcmp(fut_cli_text(one->last, "phase"), phase) == 0;
}

/* Nothing more is to be waited for. */
static bool is_over(const Relocation *all, const Moving *one)
{
    return (one->pid && one->fd < 0) || has_outcome(one, NULL) ||
           (all->no_wait && phase_is(one, "disks"));
}

/* -- showing -- */

static void show_json(const json_t *told)
{
    char *text = json_dumps(told, JSON_COMPACT);

    printf("%s\n", text);
    free(text);
}

/* A line for each new phase, where nobody sees lines that move. */
static void show_line(Relocation *all, Moving *one)
{
    const char *phase = fut_cli_text(one->last, "phase");

    if (g_strcmp0(one->phase, phase) != 0 || has_outcome(one, NULL)) {
        g_autofree char *line = fut_relocate_line(one->last, all->width);
        printf("%s\n", line);
        g_free(one->phase);
        one->phase = g_strdup(phase);
    }
}

static void draw(Relocation *all)
{
    if (all->drawn) {
        printf("\033[%zuA", all->count);
    }
    for (size_t i = 0; i < all->count; i++) {
        const Moving *one = &all->vms[i];
        g_autofree char *line = one->last ? fut_relocate_line(one->last, all->width)
                                          : g_strdup_printf("%-*s  waiting", all->width, one->vm);
        printf("\r\033[K%s\n", line);
    }
    all->drawn = true;
    fflush(stdout);
}

static void hear(Relocation *all, Moving *one)
{
    char buffer[4096];
    ssize_t got = read(one->fd, buffer, sizeof(buffer));
    json_t *told;

    if (got <= 0 || !fut_lines_feed(one->lines, buffer, (size_t)got, NULL)) {
        close(one->fd);
        one->fd = -1;
        waitpid(one->pid, NULL, WNOHANG);
        return;
    }
    while ((told = fut_lines_next(one->lines, NULL))) {
        json_decref(one->last);
        one->last = told;
        if (all->json) {
            show_json(told);
        } else if (!isatty(STDOUT_FILENO)) {
            show_line(all, one);
        }
        fflush(stdout);
    }
}

/* -- all of them -- */

static bool begin_more(Relocation *all, GError **error)
{
    unsigned busy = 0;

    for (size_t i = 0; i < all->count; i++) {
        busy += all->vms[i].pid != 0 && !is_over(all, &all->vms[i]);
    }
    for (size_t i = 0; i < all->count && busy < all->parallel && !interrupted; i++) {
        if (all->vms[i].pid == 0) {
            if (!begin(all, &all->vms[i], error)) {
                return false;
            }
            busy++;
        }
    }
    return true;
}

/* What has not been switched stays; what has, finishes without us. One that has just begun may not listen yet: it is told again. */
static void cancel(Relocation *all)
{
    for (size_t i = 0; i < all->count; i++) {
        const Moving *one = &all->vms[i];
        if (one->pid && one->fd >= 0 &&
            (!one->last || phase_is(one, "preparing") || phase_is(one, "memory") ||
             phase_is(one, "held"))) {
            kill(one->pid, SIGTERM);
        }
    }
    all->no_wait = TRUE;
}

/* A word from the keyboard, or SIGUSR1, lets those switch that are held, and those that come. */
static void let_switch(const Relocation *all, bool typed)
{
    char word[64];

    if (typed && read(STDIN_FILENO, word, sizeof(word)) > 0) {
        told_to_switch = 1;
    }
    for (size_t i = 0; i < all->count && told_to_switch; i++) {
        if (all->vms[i].pid && phase_is(&all->vms[i], "held")) {
            kill(all->vms[i].pid, SIGUSR1);
        }
    }
}

static bool all_over(const Relocation *all)
{
    for (size_t i = 0; i < all->count; i++) {
        const Moving *one = &all->vms[i];
        if (one->pid ? !is_over(all, one) : !interrupted) {
            return false;
        }
    }
    return true;
}

static bool look_on(Relocation *all, GError **error)
{
    while (!all_over(all)) {
        g_autofree struct pollfd *at = g_new0(struct pollfd, all->count + 1);
        if (!begin_more(all, error)) {
            return false;
        }
        for (size_t i = 0; i < all->count; i++) {
            at[i] =
                (struct pollfd){ .fd = all->vms[i].pid ? all->vms[i].fd : -1, .events = POLLIN };
        }
        bool typing = all->how.hold && !told_to_switch && isatty(STDIN_FILENO);
        at[all->count] = (struct pollfd){ .fd = typing ? STDIN_FILENO : -1, .events = POLLIN };
        poll(at, all->count + 1, 500);
        for (size_t i = 0; i < all->count; i++) {
            if (at[i].revents) {
                hear(all, &all->vms[i]);
            }
        }
        let_switch(all, at[all->count].revents & POLLIN);
        if (interrupted) {
            cancel(all);
        }
        if (!all->json && isatty(STDOUT_FILENO)) {
            draw(all);
        }
    }
    return true;
}

/* Where the VM is now was for others to decide: known is good. */
static bool is_good(const Relocation *all, const Moving *one)
{
    if (all->follow) {
        return has_outcome(one, NULL) && !has_outcome(one, "unknown");
    }
    return has_outcome(one, "moved") || (all->no_wait && phase_is(one, "disks"));
}

static bool judge(const Relocation *all, GError **error)
{
    g_autoptr(GString) names = g_string_new(NULL);

    for (size_t i = 0; i < all->count; i++) {
        const Moving *one = &all->vms[i];
        if (!is_good(all, one)) {
            const char *what = one->last ? fut_cli_text(one->last, "outcome") : "not begun";
            g_string_append_printf(names, "%s%s (%s)", names->len ? ", " : "", one->vm,
                                   *what ? what : "unknown: look with futago status on both hosts");
        }
    }
    if (names->len == 0) {
        return true;
    }
    g_set_error(error, FUT_ERROR, FUT_ERR_STATE, "%s: %s",
                all->follow ? "not decided" : "not moved", names->str);
    return false;
}

/* -- those whose processes were killed -- */

/* Looks after them, and says nothing: that is not what was asked for. */
static void follow_others(const Relocation *all)
{
    g_auto(GStrv) left = fut_record_left();

    for (char **vm = left; *vm; vm++) {
        Relocation other = { .follow = TRUE };
        Moving one = { .vm = *vm, .fd = -1 };
        bool ours = false;
        for (size_t i = 0; i < all->count; i++) {
            ours = ours || strcmp(all->vms[i].vm, *vm) == 0;
        }
        if (!ours && begin(&other, &one, NULL)) {
            close(one.fd);
            fut_lines_free(one.lines);
        }
    }
}

static bool take_left(Relocation *all, char **left, int words, const char *to, GError **error)
{
    if (words > 1 || to) {
        g_set_error_literal(error, FUT_ERROR, FUT_ERR_ARG,
                            "relocate --follow takes neither VMs nor --to: it looks after all "
                            "whose move was interrupted");
        return false;
    }
    all->count = g_strv_length(left);
    all->vms = g_new0(Moving, all->count);
    all->parallel = PARALLEL_MAX;
    for (size_t i = 0; i < all->count; i++) {
        all->vms[i] = (Moving){ .vm = left[i], .fd = -1 };
        all->width = MAX(all->width, (int)strlen(left[i]));
    }
    if (all->count == 0 && !all->json) {
        printf("no move was interrupted\n");
    }
    return true;
}

/* -- words -- */

static bool take_vms(Relocation *all, int argc, char **argv, GError **error)
{
    if (argc < 2 || argc > VMS_MAX) {
        g_set_error_literal(error, FUT_ERROR, FUT_ERR_ARG,
                            "relocate: which VMs? Add their names (futago status lists them)");
        return false;
    }
    all->count = (size_t)argc - 1;
    all->vms = g_new0(Moving, all->count);
    for (int i = 1; i < argc; i++) {
        if (!fut_control_name_check(argv[i], error)) {
            return false;
        }
        for (int k = 1; k < i; k++) {
            if (strcmp(argv[k], argv[i]) == 0) {
                g_set_error(error, FUT_ERROR, FUT_ERR_ARG, "relocate: '%s' is named twice",
                            argv[i]);
                return false;
            }
        }
        all->vms[i - 1] = (Moving){ .vm = argv[i], .fd = -1 };
        all->width = MAX(all->width, (int)strlen(argv[i]));
    }
    return true;
}

static bool take_options(Relocation *all, const char *to, const char *parallel, GError **error)
{
    if (!to) {
        g_set_error_literal(error, FUT_ERROR, FUT_ERR_ARG,
                            "relocate: --to is missing: name the host where futago receive waits");
        return false;
    }
    all->how.to = fut_receive_address(to, error);
    if (!all->how.to) {
        g_prefix_error(error, "--to: ");
        return false;
    }
    g_autoptr(FutAddress) twin =
        all->how.protect_to ? fut_address_parse(all->how.protect_to, error) : NULL;
    if (all->how.protect_to && !twin) {
        g_prefix_error(error, "--protect-to: ");
        return false;
    }
    return !parallel ||
           fut_cli_number("parallel", parallel, 1, PARALLEL_MAX, &all->parallel, error);
}

static void done(Relocation *all)
{
    for (size_t i = 0; i < all->count && all->vms; i++) {
        Moving *one = &all->vms[i];
        fut_lines_free(one->lines);
        json_decref(one->last);
        g_free(one->phase);
        if (one->fd >= 0) {
            close(one->fd);
        }
    }
    g_free(all->vms);
    fut_address_free(all->how.to);
    g_free(all->how.protect_to);
}

static bool run(int argc, char **argv, GError **error)
{
    Relocation all = { .parallel = PARALLEL_DEFAULT };
    g_autofree char *to = NULL;
    g_autofree char *parallel = NULL;
    gboolean hold = FALSE;
    const GOptionEntry entries[] = {
        { "to", 0, 0, G_OPTION_ARG_FILENAME, &to, "Where futago receive waits", "HOST[:PORT]" },
        { "parallel", 0, 0, G_OPTION_ARG_FILENAME, &parallel, "So many VMs at a time (default: 2)",
          "N" },
        { "protect-to", 0, 0, G_OPTION_ARG_FILENAME, &all.how.protect_to,
          "Where a standby waits for the VM at its new place", "ADDR" },
        { "hold", 0, 0, G_OPTION_ARG_NONE, &hold,
          "Do all but the switch, until Enter or SIGUSR1 comes", NULL },
        { "no-wait", 0, 0, G_OPTION_ARG_NONE, &all.no_wait,
          "Return when the VMs run there; their disks follow", NULL },
        { "follow", 0, 0, G_OPTION_ARG_NONE, &all.follow,
          "Instead: look after moves whose process was killed", NULL },
        { "json", 0, 0, G_OPTION_ARG_NONE, &all.json, "As JSON, a line for each thing that happens",
          NULL },
        { 0 },
    };
    struct sigaction interrupt = { .sa_handler = on_interrupt };
    g_auto(GStrv) left = NULL;

    bool ok = fut_cli_parse(&fut_cmd_relocate, entries, &argc, argv, error);
    if (ok && all.follow) {
        left = fut_record_left();
        ok = take_left(&all, left, argc, to, error);
    } else if (ok) {
        ok = take_vms(&all, argc, argv, error) && take_options(&all, to, parallel, error);
    }
    if (ok) {
        sigaction(SIGINT, &interrupt, NULL);
        sigaction(SIGTERM, &interrupt, NULL);
        signal(SIGUSR1, on_switch);
        all.how.hold = hold;
        if (!all.follow) {
            follow_others(&all);
        }
        ok = look_on(&all, error) && judge(&all, error);
    }
    done(&all);
    return ok;
}

const FutCommand fut_cmd_relocate = {
    .name = "relocate",
    .usage = "VM... | --follow",
    .summary = "Move running VMs, with their disks, to another host",
    .run = run,
};
