/* SPDX-License-Identifier: GPL-2.0-or-later */
/* JSON lines between futago and what it controls (a module's socket). One object a line, at most
 * FUT_CONTROL_LINE_MAX bytes with its newline.
 *   request   {"id": N, "do": "status", "args": {...}}
 *   answer    {"id": N, "ok": {...}}  or  {"id": N, "error": {"code": "state", "message": "..."}}
 *   event     {"event": "FUT-110", "time": SECONDS_SINCE_1970, "text": "..."}
 *             after {"do": "events"} was answered
 * "args" may be left out. Codes of errors are those of fut_err_name().
 */
#ifndef FUT_CONTROL_H
#define FUT_CONTROL_H

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#define FUT_CONTROL_LINE_MAX 65536
#define FUT_CONTROL_NAME_MAX 63

/* $FUTAGO_RUNDIR, else /run/futago for root, else $XDG_RUNTIME_DIR/futago, else /tmp/futago-UID.
 * Caller frees. */
char *fut_control_rundir(void);
/* FUT_ERR_ARG for a name that is empty, longer than FUT_CONTROL_NAME_MAX, has other characters than
 * A-Za-z0-9._- or begins with one of the last three. Names of VMs and of nodes. */
bool fut_control_name_check(const char *vm, GError **error);
/* RUNDIR/VM.sock; FUT_ERR_ARG for a bad name. Caller frees. */
char *fut_control_path(const char *vm, GError **error);
/* RUNDIR/disks/DISK.sock, of a relocating disk; as above. */
char *fut_control_disk_path(const char *disk, GError **error);
/* Names that have a socket in RUNDIR (living or left over), sorted; empty when there is no
 * RUNDIR. */
GPtrArray *fut_control_list(void);
/* The same of relocating disks. */
GPtrArray *fut_control_list_disks(void);

/* -- both sides: lines out of bytes -- */
typedef struct FutLines FutLines;
FutLines *fut_lines_new(void);
void fut_lines_free(FutLines *lines);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FutLines, fut_lines_free)
/* Adds bytes. FUT_ERR_PEER when a line gets longer than the cap; then nothing was added. */
bool fut_lines_feed(FutLines *lines, const char *bytes, size_t length, GError **error);
/* Next whole line as an object (new reference); NULL without error: none yet; NULL with
 * FUT_ERR_PEER: not a JSON object (that line is gone, the next call goes on behind it). */
json_t *fut_lines_next(FutLines *lines, GError **error);

/* -- messages; each returns a new line, newline included, caller frees -- */
char *fut_control_request(uint64_t id, const char *verb, json_t *take_args);
char *fut_control_ok(uint64_t id, json_t *take_result);
char *fut_control_error(uint64_t id, const GError *error);
char *fut_control_event(const char *id, double time_s, const char *text);
/* Takes a request apart. Borrowed from `message`; *ret_args may be NULL. On FUT_ERR_PEER *ret_id is
 * the request's id if it has one, else 0, so that the refusal can be addressed. */
bool fut_control_request_parse(const json_t *message, uint64_t *ret_id, const char **ret_verb,
                               json_t **ret_args, GError **error);
/* Result of an answer (borrowed), or the error it carries. */
json_t *fut_control_answer_parse(const json_t *message, GError **error);

/* -- client; one thread at a time -- */
typedef struct FutControlClient FutControlClient;
/* FUT_ERR_STATE when no VM of that name runs here. */
FutControlClient *fut_control_connect(const char *vm, GError **error);
/* The same with a relocating disk. */
FutControlClient *fut_control_connect_disk(const char *disk, GError **error);
void fut_control_client_free(FutControlClient *client);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FutControlClient, fut_control_client_free)
/* One request, one answer (its result, new reference). Waits at most timeout_ms (FUT_ERR_TIMEOUT).
 * Events that arrive meanwhile are kept. FUT_ERR_IO when the VM is gone. */
json_t *fut_control_call(FutControlClient *client, const char *verb, json_t *take_args,
                         unsigned timeout_ms, GError **error);
/* Next event (new reference); NULL without error at timeout (-1: for ever); FUT_ERR_IO when the
 * VM is gone. */
json_t *fut_control_next_event(FutControlClient *client, int timeout_ms, GError **error);

/* -- server socket -- */
/* Creates the folder of PATH (0700), binds PATH with mode 0600 and listens; close-on-exec and
 * non-blocking. -1 on error: FUT_ERR_BUSY when a live process listens there; a stale one is
 * replaced. Whoever ends in an orderly way unlinks PATH. */
int fut_control_listen(const char *path, GError **error);

#endif
