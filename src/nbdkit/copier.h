/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The background copy: a thread and a connection to the source of its own, and a thread for as long as a flush lasts. Marks the
 * source's holes, fetches the rest as policy and pace allow, makes the progress durable now and then, and when everything is
 * here declares the disk complete. */
#ifndef FUT_COPIER_H
#define FUT_COPIER_H

#include "reloc.h"
#include "source_link.h"

typedef struct FutCopier FutCopier;

/* `complete` is called once, from the copier's thread, when the source is needed no more. All borrowed. */
FutCopier *fut_copier_new(FutReloc *reloc, FutSourceLink *link, void (*complete)(void *opaque),
                          void *opaque);
/* Ends the thread; what is under way is dropped. The link must still be there. */
void fut_copier_free(FutCopier *copier);
/* The control was changed: look again. */
void fut_copier_wake(FutCopier *copier);

#endif
