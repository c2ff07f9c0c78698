/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Guest memory that comes out of a snapshot when it is touched, and the rest of it meanwhile (userfaultfd). The way is post-copy migration's:
 * Hines, Gopalan: Post-copy based live virtual machine migration using adaptive pre-paging and dynamic self-ballooning, VEE 2009. */
#ifndef FUT_LAZY_H
#define FUT_LAZY_H

#include "hot_pages.h"
#include "pageset.h"
#include "store.h"

typedef struct FutLazy FutLazy;

/* Called in the thread that fetches pages. Neither may wait for a lock that is held while guest memory is touched: its holder may be waiting for a
 * page. */
typedef struct {
    /* The store cannot be read; it tries again, and who needs the page waits. `ends`: if that lasts, lost() follows. */
    void (*trouble)(void *opaque, const char *why, bool ends);
    /* A page that somebody waits for does not come. Must not return, and must not let the guest go on: the page cannot be made up. */
    void (*lost)(void *opaque, const char *why);
    uint64_t patience_ns; /* so long is tried before lost() */
} FutLazyHost;

/* Empties `memory`, whose content from now on is the snapshot's: areas of memory in its order. `hot` (NULL: none) are pages of it that come before all
 * others that nobody waits for. All are borrowed until it is freed, the snapshot and the hot pages belong to this alone. FUT_ERR_UNSUPPORTED: not with this kernel, these rights, this kind of memory (its content may be lost). */
FutLazy *fut_lazy_new(FutSnapshot *snapshot, const FutMemory *memory, FutHotPages *hot,
                      const FutLazyHost *host, void *opaque, GError **error);
/* The same, and after the hot pages nothing comes but what somebody waits for, until fut_lazy_go(). */
FutLazy *fut_lazy_new_held(FutSnapshot *snapshot, const FutMemory *memory, FutHotPages *hot,
                           const FutLazyHost *host, void *opaque, GError **error);
/* Of one that is held: returns when the hot pages are there; `hot` is not looked at any more. */
void fut_lazy_wait_hot(FutLazy *lazy);
void fut_lazy_go(FutLazy *lazy);
/* Any thread, no lock: thousandths that are there; how many accesses had to wait. */
unsigned fut_lazy_permille(const FutLazy *lazy);
unsigned fut_lazy_faults(const FutLazy *lazy);
/* After fut_lazy_wait(): how many came because they were hot. */
unsigned fut_lazy_hot(const FutLazy *lazy);
/* Returns when all is there: memory is as any other again. Once. */
void fut_lazy_wait(FutLazy *lazy);
/* After fut_lazy_wait(), or when nobody will look at the memory. Takes NULL. */
void fut_lazy_free(FutLazy *lazy);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FutLazy, fut_lazy_free)

#endif
