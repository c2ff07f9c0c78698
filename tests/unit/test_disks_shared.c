/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A primary's shared disk at the instants that no load hits by chance: what the pair machine has decided is not carried out yet, or the
 * image is being written. */
#include <sys/uio.h>

#include "byteorder.h"
#include "engine_internal.h"
#include "fut_error.h"

typedef struct {
    FutVmm base;
    FutMemory memory;
    FutDiskInfo disk;
    FutEngine *engine;
    GString *image; /* what was done to it: a letter is a write of that data, '.' a flush */
    void (*meanwhile)(void *vm);
    bool broken;
    unsigned asked, out; /* cuts; packets */
} Vm;

/* -- vmm.h -- */

static const FutMemory *vm_memory(FutVmm *vmm)
{
    return &((Vm *)vmm)->memory;
}

static bool vm_dirty_start(FutVmm *vmm, FutPurpose purpose, GError **error)
{
    return true;
}

static void vm_nothing(FutVmm *vmm)
{
}

static void vm_dirty_stop(FutVmm *vmm, FutPurpose purpose)
{
}

static void vm_cut_request(FutVmm *vmm)
{
    ((Vm *)vmm)->asked++;
}

static void vm_packets_out(FutVmm *vmm, const FutPacket *list)
{
    for (; list; list = list->next) {
        ((Vm *)vmm)->out++;
    }
}

static const FutDiskInfo *vm_disks(FutVmm *vmm, unsigned *ret_count)
{
    *ret_count = 1;
    return &((Vm *)vmm)->disk;
}

static bool vm_disk_mark(FutVmm *vmm, unsigned disk, uint64_t token, GError **error)
{
    return true;
}

static bool vm_disk_write(FutVmm *vmm, FutDiskRecord *take_list, GError **error)
{
    Vm *vm = (Vm *)vmm;
    void (*meanwhile)(void *vm) = vm->meanwhile;

    for (const FutDiskRecord *r = take_list; r && !vm->broken; r = r->next) {
        g_string_append_c(vm->image, r->head.kind == FUT_DISK_FLUSH ? '.' : (char)r->data[0]);
    }
    fut_disk_records_free(take_list);
    vm->meanwhile = NULL;
    if (meanwhile) {
        meanwhile(vm);
    }
    if (vm->broken) {
        g_set_error_literal(error, FUT_ERROR, FUT_ERR_IO, "full");
    }
    return !vm->broken;
}

static const FutVmmOps vm_ops = {
    .memory = vm_memory,
    .dirty_start = vm_dirty_start,
    .dirty_stop = vm_dirty_stop,
    .cut_request = vm_cut_request,
    .cut_resume = vm_nothing,
    .packets_out = vm_packets_out,
    .disks = vm_disks,
    .disk_mark = vm_disk_mark,
    .disk_write = vm_disk_write,
};

/* -- the host -- */

static bool host_send(void *opaque, uint16_t type, uint16_t flags, const struct iovec *iov,
                      int count)
{
    return true;
}

static void host_session(void *opaque, uint32_t session)
{
}

static void host_nothing(void *opaque)
{
}

static void host_close(void *opaque, const char *why)
{
}

static void host_ask(void *opaque, uint64_t generation)
{
}

static void host_copy(void *opaque, bool on)
{
}

static void host_report(void *opaque, const char *id, const char *text)
{
}

static uint64_t host_now(void *opaque)
{
    static uint64_t now_ns;

    return now_ns += 1000;
}

static bool host_wait(void *opaque, GCond *changed, GMutex *lock)
{
    return false;
}

static const FutEngineHost host = {
    .send = host_send,
    .session = host_session,
    .connect = host_nothing,
    .close = host_close,
    .ask = host_ask,
    .copy = host_copy,
    .wake = host_nothing,
    .report = host_report,
    .now_ns = host_now,
    .disk = host_nothing,
    .wait = host_wait,
};

/* -- steps -- */

static Vm *vm_new(void)
{
    Vm *vm = g_new0(Vm, 1);
    FutEngineConfig config;

    vm->base.ops = &vm_ops;
    vm->disk = (FutDiskInfo){ "disk0", 1 << 20, true };
    vm->image = g_string_new(NULL);
    fut_engine_config_defaults(&config);
    config.vm = config.node = "vm";
    config.generation = 1;
    vm->engine = fut_engine_new(&vm->base, &config, (char *[]){ NULL }, &host, vm);
    g_assert_true(fut_engine_protect(vm->engine, NULL));
    return vm;
}

static void vm_free(Vm *vm)
{
    fut_engine_free(vm->engine);
    g_string_free(vm->image, TRUE);
    g_free(vm);
}

static void frame(Vm *vm, FutMsgType type, const void *body, size_t length)
{
    FutFrame one = { .type = type, .length = (uint32_t)length, .body = body };

    fut_engine_frame(vm->engine, &one, host_now(NULL));
}

static void frame_number(Vm *vm, FutMsgType type, uint64_t number)
{
    uint8_t body[8];

    fut_put_le64(body, number);
    frame(vm, type, body, sizeof(body));
}

/* A backup is there, and has the copy; the last word is missing. */
static void copy_all(Vm *vm)
{
    FutWelcome welcome = { FUT_WIRE_VERSION, 1, 1, "other" };
    FutBuf body = { 0 };
    FutPairStatus status;
    uint8_t kept[FUT_DISK_KEPT_SIZE];

    fut_pair_status(vm->engine->pair, &status);
    welcome.generation = status.generation;
    fut_engine_link_up(vm->engine, 5, host_now(NULL));
    fut_welcome_encode(&body, &welcome);
    frame(vm, FUT_MSG_WELCOME, body.data, body.len);
    fut_buf_done(&body);
    fut_disk_kept_encode(kept, &(FutDiskKept){ .life = 1 });
    frame(vm, FUT_MSG_DISK_KEPT, kept, sizeof(kept));
    fut_pair_copied(vm->engine->pair, host_now(NULL));
    fut_engine_act(vm->engine);
}

static void protect(Vm *vm)
{
    copy_all(vm);
    frame(vm, FUT_MSG_BARRIER_DONE, NULL, 0);
}

static uint64_t cut(Vm *vm)
{
    uint32_t flags;

    g_assert_true(fut_primary_may_cut(vm->engine));
    return fut_pair_cut(vm->engine->pair, &flags, host_now(NULL));
}

static void checkpoint(Vm *vm)
{
    frame_number(vm, FUT_MSG_ACK, cut(vm));
}

static void settle(Vm *vm)
{
    while (fut_engine_disk_step(vm->engine)) {
    }
    g_assert_true(fut_primary_may_cut(vm->engine));
}

static void lose(Vm *vm)
{
    fut_engine_link_down(vm->engine, "gone", host_now(NULL));
}

/* Its actions are still to be carried out. */
static void grant(Vm *vm)
{
    fut_pair_answer(vm->engine->pair, FUT_ANSWER_GRANTED, 2, "", host_now(NULL));
}

static void put(Vm *vm, char letter)
{
    FutDiskHead head = { .length = 1, .kind = letter == '.' ? FUT_DISK_FLUSH : FUT_DISK_WRITE };

    head.length = letter == '.' ? 0 : 1;
    fut_engine_shared_hold(vm->engine, fut_disk_record_new(&head, (const uint8_t *)&letter));
}

static void write_held(Vm *vm, char letter)
{
    g_assert_cmpint(fut_engine_shared_write(vm->engine, false), ==, FUT_SHARED_HOLD);
    put(vm, letter);
}

static void flush_held(Vm *vm)
{
    g_assert_cmpint(fut_engine_shared_flush(vm->engine), ==, FUT_SHARED_HOLD);
    put(vm, '.');
}

static FutOutput emit(Vm *vm)
{
    struct iovec iov = { "packet", 6 };

    return fut_engine_output(vm->engine, 0, 0, &iov, 1);
}

/* -- tests -- */

static void test_commit(void)
{
    Vm *vm = vm_new();

    protect(vm);
    settle(vm);
    write_held(vm, 'a');
    g_assert_cmpint(emit(vm), ==, FUT_OUTPUT_HELD);
    g_assert_false(fut_engine_disk_step(vm->engine));
    g_assert_cmpstr(vm->image->str, ==, ".");
    checkpoint(vm);
    write_held(vm, 'b');
    g_assert_cmpuint(vm->out, ==, 1);
    g_assert_true(fut_engine_disk_step(vm->engine));
    g_assert_cmpstr(vm->image->str, ==, ".a.");
    vm_free(vm);
}

/* A write between the grant and what it leads to is younger than all that is held. */
static void test_order_after_grant(void)
{
    Vm *vm = vm_new();

    protect(vm);
    settle(vm);
    write_held(vm, 'a');
    cut(vm);
    lose(vm);
    write_held(vm, 'b');
    grant(vm);
    g_assert_cmpint(fut_engine_shared_write(vm->engine, true), ==, FUT_SHARED_HOLD);
    put(vm, 'c');
    fut_engine_act(vm->engine);
    FutDiskRecord *held = fut_engine_shared_read(vm->engine, 0, 0, 1);
    while (held->next) {
        FutDiskRecord *next = held->next;
        g_free(held);
        held = next;
    }
    g_assert_cmpint(held->data[0], ==, 'c');
    fut_disk_records_free(held);
    while (fut_engine_disk_step(vm->engine)) {
    }
    g_assert_cmpstr(vm->image->str, ==, ".abc.");
    vm_free(vm);
}

/* Alone: the guest's flush and the next backup wait for the queue, so nothing more goes in. */
static void test_queue_becomes_empty(void)
{
    Vm *vm = vm_new();

    protect(vm);
    settle(vm);
    write_held(vm, 'a');
    cut(vm);
    lose(vm);
    grant(vm);
    fut_engine_act(vm->engine);
    g_assert_cmpint(fut_engine_shared_write(vm->engine, false), ==, FUT_SHARED_WAIT);
    g_assert_cmpint(fut_engine_shared_flush(vm->engine), ==, FUT_SHARED_WAIT);
    vm->broken = true;
    g_assert_true(fut_engine_disk_step(vm->engine));
    write_held(vm, 'b');
    g_assert_cmpint(fut_engine_shared_flush(vm->engine), ==, FUT_SHARED_FAIL);
    vm->broken = false;
    g_assert_true(fut_engine_disk_step(vm->engine));
    g_assert_cmpstr(vm->image->str, ==, ".ab.");
    g_assert_cmpint(fut_engine_shared_write(vm->engine, false), ==, FUT_SHARED_PASS);
    fut_engine_shared_passed(vm->engine);
    g_assert_cmpint(fut_engine_shared_flush(vm->engine), ==, FUT_SHARED_PASS);
    vm_free(vm);
}

/* The first checkpoint waits for the image also while that is only decided. */
static void test_no_checkpoint_before(void)
{
    Vm *vm = vm_new();
    FutFrame done = { .type = FUT_MSG_BARRIER_DONE };

    copy_all(vm);
    fut_pair_frame(vm->engine->pair, &done, host_now(NULL));
    g_assert_true(fut_pair_may_cut(vm->engine->pair));
    g_assert_false(fut_primary_may_cut(vm->engine));
    fut_engine_act(vm->engine);
    g_assert_false(fut_primary_may_cut(vm->engine));
    settle(vm);
    vm_free(vm);
}

static void lost_and_protected_again(void *opaque)
{
    Vm *vm = opaque;

    lose(vm);
    fut_engine_tick(vm->engine, UINT64_MAX / 2);
    g_assert_cmpint(fut_engine_shared_write(vm->engine, false), ==, FUT_SHARED_PASS);
    protect(vm);
    fut_engine_shared_passed(vm->engine);
}

/* A flush that began before the guest's last direct write ended says nothing about that write. */
static void test_flush_begun_before(void)
{
    Vm *vm = vm_new();

    protect(vm);
    vm->meanwhile = lost_and_protected_again;
    g_assert_true(fut_engine_disk_step(vm->engine));
    g_assert_false(fut_primary_may_cut(vm->engine));
    g_assert_true(fut_engine_disk_step(vm->engine));
    g_assert_true(fut_primary_may_cut(vm->engine));
    g_assert_cmpstr(vm->image->str, ==, "..");
    vm_free(vm);
}

static void test_flushes_do_not_pile_up(void)
{
    Vm *vm = vm_new();

    protect(vm);
    settle(vm);
    write_held(vm, 'a');
    flush_held(vm);
    g_assert_cmpint(fut_engine_shared_flush(vm->engine), ==, FUT_SHARED_DROP);
    write_held(vm, 'b');
    flush_held(vm);
    g_assert_cmpint(fut_engine_shared_flush(vm->engine), ==, FUT_SHARED_DROP);
    cut(vm);
    flush_held(vm);
    g_assert_cmpint(fut_engine_shared_flush(vm->engine), ==, FUT_SHARED_DROP);
    vm_free(vm);
}

/* What waited for the image without a backup goes with the next backup's first commit, and does not stop what is behind it. */
static void test_output_of_no_epoch(void)
{
    Vm *vm = vm_new();

    protect(vm);
    settle(vm);
    flush_held(vm);
    cut(vm);
    lose(vm);
    grant(vm);
    g_assert_cmpint(emit(vm), ==, FUT_OUTPUT_HELD); /* the flush comes first */
    fut_engine_act(vm->engine);
    g_assert_cmpint(emit(vm), ==, FUT_OUTPUT_HELD);
    g_assert_cmpuint(vm->out, ==, 0);
    protect(vm);
    g_assert_cmpint(emit(vm), ==, FUT_OUTPUT_HELD);
    settle(vm);
    g_assert_cmpuint(vm->out, ==, 0);
    checkpoint(vm);
    g_assert_cmpuint(vm->out, ==, 3);
    vm_free(vm);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/disks-shared/commit", test_commit);
    g_test_add_func("/disks-shared/order-after-grant", test_order_after_grant);
    g_test_add_func("/disks-shared/queue-becomes-empty", test_queue_becomes_empty);
    g_test_add_func("/disks-shared/no-checkpoint-before", test_no_checkpoint_before);
    g_test_add_func("/disks-shared/flush-begun-before", test_flush_begun_before);
    g_test_add_func("/disks-shared/flushes-do-not-pile-up", test_flushes_do_not_pile_up);
    g_test_add_func("/disks-shared/output-of-no-epoch", test_output_of_no_epoch);
    return g_test_run();
}
