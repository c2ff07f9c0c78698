/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The QEMU implementation of FutVmmOps: its table, its object, and the lock that its operations
 * share.
 */
#include "qvmm.h"

static const FutVmmOps qvmm_ops = {
    .describe = fut_qcheck_describe,
    .memory = fut_qmemory_get,
    .dirty_start = fut_qmemory_start,
    .dirty_stop = fut_qmemory_stop,
    .dirty_collect = fut_qmemory_collect,
    .dirty_stats = fut_qmemory_stats,
    .hot_pages = fut_qhot_pages,
    .code_count = fut_qahead_count,
    .code_pieces = fut_qahead_pieces,
    .code_prepare = fut_qahead_prepare,
    .cut_request = fut_qcut_request,
    .cut_resume = fut_qcut_resume,
    .state_prepare = fut_qdevices_prepare,
    .state_save = fut_qdevices_save,
    .state_load = fut_qdevices_load,
    .state_stats = fut_qdevices_stats,
    .run = fut_qlife_run,
    .settle = fut_qlife_settle,
    .announce = fut_qlife_announce,
    .halt = fut_qlife_halt,
    .quit = fut_qlife_quit,
    .running = fut_qlife_running,
    .packets_out = fut_qnet_out,
    .inputs = fut_qnet_inputs,
    .packet_in = fut_qnet_in,
    .packet_head = fut_qnet_head,
    .disks = fut_qblock_disks,
    .disk_read = fut_qblock_read,
    .disk_write = fut_qblock_write,
    .disk_image = fut_qblock_image,
    .disk_mark = fut_qblock_mark,
    .disk_marked = fut_qblock_marked,
    .disks_claim = fut_qblock_claim,
    .disks_yield = fut_qblock_yield,
    .disk_note = fut_qblock_note,
    .disk_note_sync = fut_qblock_note_sync,
    .disk_note_drop = fut_qblock_note_drop,
    .guest_look = fut_qprobe_look,
    .probe_insert = fut_qprobe_insert,
    .probe_remove = fut_qprobe_remove,
    .guest_write = fut_qprobe_write,
};

FutQvmm *fut_qvmm_new(bool standby)
{
    FutQvmm *qvmm = g_new0(FutQvmm, 1);

    qvmm->vmm.ops = &qvmm_ops;
    qvmm->standby = standby;
    fut_qmemory_init(qvmm);
    fut_qcut_init(qvmm);
    fut_qnet_attach(qvmm);
    fut_qtx_attach(qvmm);
    fut_qnotify_attach(qvmm);
    fut_qide_attach(&qvmm->ide);
    fut_qlife_init(qvmm);
    return qvmm;
}

static void thread_ends(gpointer data)
{
    rcu_unregister_thread();
}

void fut_qvmm_register_thread(void)
{
    /*
     * QEMU's own threads are registered. They come here with the BQL held, but for vCPUs on their
     * way out of the guest.
     */
    static GPrivate registered = G_PRIVATE_INIT(thread_ends);

    if (!bql_locked() && !current_cpu && !g_private_get(&registered)) {
        rcu_register_thread();
        g_private_set(&registered, &registered);
    }
}

bool fut_qvmm_lock(void)
{
    if (bql_locked()) {
        return false;
    }
    fut_qvmm_register_thread();
    bql_lock();
    return true;
}

void fut_qvmm_unlock(bool taken)
{
    if (taken) {
        bql_unlock();
    }
}
