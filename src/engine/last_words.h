/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Last words of a killed primary: packets that nobody had read yet, and those that the twin had not been told of.
 *
 * A client's request may lie in the tap when QEMU dies, or in the log (input_log.h). It would be lost, and the client's TCP sends it again after
 * 200 ms at the earliest. The keeper (keeper.h) has a copy of the tap's and of the link's descriptors: it reads what lies there, and
 * sends it to the twin as inbound packets, before the link closes. A hint like all of them: whether the twin gets them is
 * no promise. Not over TLS, whose state is no longer to be trusted then. */
#ifndef FUT_LAST_WORDS_H
#define FUT_LAST_WORDS_H

typedef struct FutService FutService;

/* This is the primary of a session: from now on. Any thread, no lock held. */
void fut_last_words_arm(FutService *service);

#endif
