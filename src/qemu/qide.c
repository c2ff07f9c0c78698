/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * PCI IDE controllers (pc's). A guest's driver tells the disk of a transfer and then starts it at the controller, with two writes. What
 * the disk was told is in no device state in between: a twin made there would start nothing, and its guest's driver would give up
 * after half a minute. So no checkpoint is cut there. AHCI keeps its commands in the guest's memory and has no such gap.
 */
#include "qvmm.h"

#include "fut_clock.h"
#include "hw/ide/pci.h"

/* Two writes of a driver are microseconds apart: who lets more pass does not mean to start at all. */
#define GAP_MAX_NS (100 * FUT_NS_PER_MS)

static int add_controller(Object *object, void *opaque)
{
    FutQide *ide = opaque;

    if (object_dynamic_cast(object, TYPE_PCI_IDE)) {
        g_ptr_array_add(ide->controllers, object);
    }
    return 0;
}

void fut_qide_attach(FutQide *ide)
{
    ide->controllers = g_ptr_array_new();
    object_child_foreach_recursive(object_get_root(), add_controller, ide);
}

static bool told_not_started(const FutQide *ide)
{
    for (guint i = 0; i < ide->controllers->len; i++) {
        const PCIIDEState *controller = ide->controllers->pdata[i];
        for (size_t n = 0; n < G_N_ELEMENTS(controller->bmdma); n++) {
            const BMDMAState *channel = &controller->bmdma[n];
            if (channel->dma_cb && !(channel->status & BM_STATUS_DMAING)) {
                return true;
            }
        }
    }
    return false;
}

bool fut_qide_in_gap(FutQide *ide, uint64_t now_ns)
{
    if (!told_not_started(ide)) {
        ide->since_ns = 0;
        return false;
    }
    if (ide->since_ns == 0) {
        ide->since_ns = now_ns;
    }
    return now_ns - ide->since_ns < GAP_MAX_NS;
}
