/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Shapes of QEMU's private structures that are the same in all supported versions (7.2 to 10.0).
 * Nothing is read through them before it was compared with what QEMU itself says: see
 * qstate_list.c (list of sections) and qstate_virtio.c (queues).
 */
#ifndef FUT_QEMU_PRIVATE_H
#define FUT_QEMU_PRIVATE_H

#include "compat.h"

/* migration/savevm.c: one section of the device state. */
typedef struct FutQemuEntry FutQemuEntry;
struct FutQemuEntry {
    QTAILQ_ENTRY(FutQemuEntry) entry;
    char idstr[256];
    uint32_t instance_id;
    int alias_id;
    int version_id;
    int load_version_id;
    int section_id;
    int load_section_id;
    const SaveVMHandlers *ops;
    const VMStateDescription *vmsd;
    void *opaque;
    void *compat;
    int is_ram;
};

typedef QTAILQ_HEAD(, FutQemuEntry) FutQemuEntries;

/* hw/virtio/virtio.c: the beginning of a queue. */
typedef struct {
    unsigned int num;
    unsigned int num_default;
    unsigned int align;
    hwaddr desc;
    hwaddr avail;
    hwaddr used;
    void *caches;
    void *used_elems;
    uint16_t last_avail_idx;
} FutQemuQueue;

#endif
