/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A conversation with another host's futago: requests and answers of control.h over a link. One thread, blocking. */
#ifndef FUT_CLI_TALK_H
#define FUT_CLI_TALK_H

#include "control.h"
#include "link_tls.h"

typedef struct FutTalk FutTalk;

/* Calls; `tls` NULL: not encrypted. FUT_ERR_IO, FUT_ERR_TIMEOUT, FUT_ERR_PEER. */
FutTalk *fut_talk_connect(const FutAddress *address, FutTls *tls, unsigned timeout_ms,
                          GError **error);
/* Somebody called. Takes the link over, also on failure. */
FutTalk *fut_talk_accept(FutLink *take_link, FutTls *tls, unsigned timeout_ms, GError **error);
void fut_talk_free(FutTalk *talk);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FutTalk, fut_talk_free)
/* The other's name for errors, borrowed; its numeric address, and ours as it sees it, without ports. Caller frees; NULL: not TCP. */
const char *fut_talk_name(const FutTalk *talk);
char *fut_talk_their_host(const FutTalk *talk);
char *fut_talk_our_host(const FutTalk *talk);

/* One request, one answer: its result (new reference), or the error it carries. */
json_t *fut_talk_call(FutTalk *talk, const char *verb, json_t *take_args, unsigned timeout_ms,
                      GError **error);
/* Next message (new reference); NULL without error: none came in time. FUT_ERR_IO when the other is gone. */
json_t *fut_talk_receive(FutTalk *talk, unsigned timeout_ms, GError **error);
/* An answer. Takes the line over. */
bool fut_talk_send(FutTalk *talk, char *take_line, GError **error);

#endif
