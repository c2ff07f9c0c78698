/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The loader has compared version strings. This compares the build itself, by samples of what a
 * different configuration would shift: sizes of QOM instances and lengths of QAPI enumerations.
 */
#include "compat.h"

#include "hw/i386/x86.h"
#include "qapi/qapi-types-audio.h"
#include "qapi/qapi-types-block-core.h"
#include "qapi/qapi-types-char.h"
#include "qapi/qapi-types-migration.h"
#include "qapi/qapi-types-net.h"
#include "qapi/qapi-types-qom.h"
#include "qapi/qapi-types-sockets.h"
#include "qapi/qapi-types-ui.h"

#include "build_check.h"

typedef struct {
    const char *type;
    size_t size;
} InstanceSample;

typedef struct {
    const char *name;
    const QEnumLookup *lookup;
    int length;
} EnumSample;

static const InstanceSample instance_samples[] = {
    { "qemu64-x86_64-cpu", sizeof(X86CPU) },
    { TYPE_NETFILTER, sizeof(NetFilterState) },
    { TYPE_MEMORY_REGION, sizeof(MemoryRegion) },
    { TYPE_X86_MACHINE, sizeof(X86MachineState) },
    { TYPE_QIO_CHANNEL_BUFFER, sizeof(QIOChannelBuffer) },
};

static const EnumSample enum_samples[] = {
    { "AudiodevDriver", &AudiodevDriver_lookup, AUDIODEV_DRIVER__MAX },
    { "BlockdevDriver", &BlockdevDriver_lookup, BLOCKDEV_DRIVER__MAX },
    { "ChardevBackendKind", &ChardevBackendKind_lookup, CHARDEV_BACKEND_KIND__MAX },
    { "DisplayType", &DisplayType_lookup, DISPLAY_TYPE__MAX },
    { "MigrationCapability", &MigrationCapability_lookup, MIGRATION_CAPABILITY__MAX },
    { "MultiFDCompression", &MultiFDCompression_lookup, MULTIFD_COMPRESSION__MAX },
    { "NetClientDriver", &NetClientDriver_lookup, NET_CLIENT_DRIVER__MAX },
    { "ObjectType", &ObjectType_lookup, OBJECT_TYPE__MAX },
    { "SocketAddressType", &SocketAddressType_lookup, SOCKET_ADDRESS_TYPE__MAX },
};

static bool differs(GError **error, const char *what, size_t running, size_t built)
{
    g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL,
                "this QEMU was built otherwise than its package (%s is %zu, expected %zu): use the "
                "distribution's qemu-system-x86 unchanged",
                what, running, built);
    return false;
}

bool fut_build_check(GError **error)
{
    for (size_t i = 0; i < G_N_ELEMENTS(instance_samples); i++) {
        const InstanceSample *sample = &instance_samples[i];
        size_t running = fut_qemu_instance_size(sample->type);
        if (running != sample->size) {
            return differs(error, sample->type, running, sample->size);
        }
    }
    for (size_t i = 0; i < G_N_ELEMENTS(enum_samples); i++) {
        const EnumSample *sample = &enum_samples[i];
        if (sample->lookup->size != sample->length) {
            return differs(error, sample->name, sample->lookup->size, sample->length);
        }
    }
    return true;
}
