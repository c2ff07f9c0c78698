/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a move leaves behind should its process be killed: RUNDIR/VM.move, locked by that process for as long as it lives. Whoever finds it
 * unlocked brings the move to its end. JSON, only read by the version that wrote it:
 *   {"vm", "to", "bound" (it may have been handed over), "tls", "tls_name", "twin", "protect_to", "qemu", "birth", "disks": [{"name", "image", "pid", "birth"}]}   paths are base64 */
#ifndef FUT_RELOCATE_RECORD_H
#define FUT_RELOCATE_RECORD_H

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>

/* Its descriptor, locked; *ret_left (new reference): what a process that is no more has written, or NULL. -1 on error: FUT_ERR_BUSY while
 * another process moves that VM. */
int fut_record_open(const char *vm, json_t **ret_left, GError **error);
/* Takes the content over. */
bool fut_record_write(int fd, json_t *take_content, GError **error);
/* The move is over: removes it. */
void fut_record_remove(int fd, const char *vm);
/* VMs whose moves nobody looks after, sorted; NULL-terminated. Caller frees with g_strfreev(). */
char **fut_record_left(void);

#endif
