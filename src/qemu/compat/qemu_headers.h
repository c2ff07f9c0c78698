/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The QEMU headers that the module uses, chosen by what exists: 10.0 moved sysemu/ to system/ and
 * qapi/qmp/ to qobject/. QEMU's inline functions are not written for our warning flags, hence a
 * system header.
 */
#ifndef FUT_QEMU_HEADERS_H
#define FUT_QEMU_HEADERS_H

#pragma GCC system_header

#include "qemu/osdep.h"

#include "cpu.h"
#include "qapi/error.h"
#include "qemu/cutils.h"
#include "qemu/error-report.h"
#include "qemu/iov.h"
#include "qemu/main-loop.h"
#include "qemu/memalign.h"
#include "qemu/rcu.h"
#include "qemu/seqlock.h"
#include "qemu/thread.h"
#include "qemu/timer.h"
#include "qom/object.h"
#include "qom/qom-qobject.h"

#if __has_include("qobject/qdict.h")
#include "qobject/qdict.h"
#include "qobject/qlist.h"
#else
#include "qapi/qmp/qdict.h"
#include "qapi/qmp/qlist.h"
#endif

#if __has_include("system/system.h")
#include "system/block-backend.h"
#include "system/cpu-timers.h"
#include "system/cpus.h"
#include "system/kvm.h"
#include "system/kvm_int.h"
#include "system/replay.h"
#include "system/reset.h"
#include "system/runstate-action.h"
#include "system/runstate.h"
#include "system/system.h"
#include "system/tcg.h"
#else
#include "sysemu/block-backend.h"
#include "sysemu/cpu-timers.h"
#include "sysemu/cpus.h"
#include "sysemu/kvm.h"
#include "sysemu/kvm_int.h"
#include "sysemu/replay.h"
#include "sysemu/reset.h"
#include "sysemu/runstate-action.h"
#include "sysemu/runstate.h"
#include "sysemu/sysemu.h"
#include "sysemu/tcg.h"
#endif

/* The clocks' private state. */
#if __has_include("system/cpu-timers-internal.h")
#include "system/cpu-timers-internal.h"
#else
#include "softmmu/timers-state.h"
#endif

#include "exec/address-spaces.h"
#include "exec/exec-all.h"
#include "exec/memory.h"
#include "exec/ram_addr.h"
#include "exec/ramlist.h"
#if __has_include("exec/tb-flush.h")
#include "exec/tb-flush.h"
#endif
#if __has_include("exec/cputlb.h")
#include "exec/cputlb.h"
#endif

#include "hw/boards.h"
#include "hw/qdev-core.h"

#include "block/block.h"
#include "block/block_int.h"
#include "io/channel-buffer.h"
#include "migration/blocker.h"
#include "migration/colo.h"
#include "migration/global_state.h"
#include "migration/migration.h"
#include "migration/misc.h"
#include "migration/qemu-file-types.h"
#include "migration/qemu-file.h"
#include "migration/savevm.h"
#include "migration/register.h"
#include "migration/vmstate.h"
#include "net/announce.h"
#include "net/filter.h"
#include "net/net.h"
#if __has_include("accel/tcg/cpu-ops.h")
#include "accel/tcg/cpu-ops.h"
#else
#include "hw/core/tcg-cpu-ops.h"
#endif

#include "net/tap.h"
#include "net/vhost_net.h"
#include "qemu/qemu-plugin.h"
#include "tcg/tcg.h"
/* Translated code. */
#include "accel/tcg/tb-context.h"
#if __has_include("exec/translation-block.h")
#include "exec/translation-block.h"
#endif

#endif
