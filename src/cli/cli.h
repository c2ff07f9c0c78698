/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the commands of futago share. A command returns false with an error; futago.c prints it as
 * one line "futago: culprit: remedy" and ends with fut_err_exit_status() of its code. */
#ifndef FUT_CLI_H
#define FUT_CLI_H

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>

#include "control.h"

typedef struct {
    const char *name;
    const char *usage;   /* what follows "futago NAME [OPTION...]" */
    const char *summary; /* one line */
    /* argv[0] is the command's name; argv[argc] is NULL. */
    bool (*run)(int argc, char **argv, GError **error);
} FutCommand;

extern const FutCommand fut_cmd_run, fut_cmd_standby, fut_cmd_check, fut_cmd_protect,
    fut_cmd_unprotect, fut_cmd_failover, fut_cmd_grant, fut_cmd_status, fut_cmd_events,
    fut_cmd_probe, fut_cmd_health, fut_cmd_snapshot, fut_cmd_stop, fut_cmd_disk, fut_cmd_receive,
    fut_cmd_relocate, fut_cmd_restore;

/* -- words -- */
/* Takes the options out of argv; what remains from argv[1] on are other words. `entries` end with
 * an empty one; NULL: the command has no option but --help, which prints and exits.
 * FUT_ERR_ARG names the option. */
bool fut_cli_parse(const FutCommand *command, const GOptionEntry *entries, int *argc, char **argv,
                   GError **error);
/* After fut_cli_parse(): the VM that is named; borrowed from argv. FUT_ERR_ARG unless exactly one
 * (`optional`: at most one; then NULL without error when none) good name is there. */
const char *fut_cli_vm(const FutCommand *command, int argc, char **argv, bool optional,
                       GError **error);
/* Number of an option, from min to max. FUT_ERR_ARG names option and range. */
bool fut_cli_number(const char *option, const char *text, unsigned min, unsigned max,
                    unsigned *ret_number, GError **error);
/* The candidate that `word` is probably meant to be, or NULL. `count` candidates. */
const char *fut_cli_nearest(const char *word, const char *const *candidates, size_t count);

/* -- the VM -- */
#define FUT_CLI_ANSWER_MS 5000

/* A command that is one request without arguments. */
bool fut_cli_request(const char *vm, const char *verb, GError **error);

typedef enum {
    FUT_WAIT_ON,
    FUT_WAIT_DONE,
    FUT_WAIT_FAILED
} FutWait;
/* Judges a status; *ret_progress may be set to a few words for the progress line. */
typedef FutWait (*FutWaitJudge)(const json_t *status, char **ret_progress);
/* Looks at the status until it is judged. `wanted`: what is waited for ("protected"), for errors.
 * FUT_ERR_STATE on FUT_WAIT_FAILED, FUT_ERR_TIMEOUT after `seconds`, both with the VM's reason. */
bool fut_cli_wait(FutControlClient *client, const char *vm, const char *wanted, unsigned seconds,
                  FutWaitJudge judge, GError **error);

/* Member of a status as text, number or nothing: "" and 0 where it is missing or something else. */
const char *fut_cli_text(const json_t *status, const char *key);
double fut_cli_value(const json_t *status, const char *key);

#endif
