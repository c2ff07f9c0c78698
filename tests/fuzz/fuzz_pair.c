/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Any sequence of events for one pair machine, in either role: the first byte is the role, then each
 * byte is an event, followed by what it needs. All actions are taken and checked against what a
 * driver relies on. The peer may lie; the arbiter, too. */
#include "byteorder.h"
#include "fut_clock.h"
#include "fuzz.h"
#include "pair.h"
#include "wire_disk.h"

typedef struct {
    const uint8_t *at;
    size_t left;

    FutPair *pair;
    uint64_t now_ns;
    bool granted;    /* the event under way is a grant */
    bool connecting; /* CONNECT waits for its answer */
    bool copying, holding, stopped, taken_over, halted;
    uint64_t cut, released, applied;
    uint64_t acked, disk_epoch; /* of the session */
    bool late;                  /* the next epoch's ACK waits */
    uint64_t hold;              /* no ACK before this is written; 0: none waits */
} Fuzz;

static char *fuzz_machine[] = { "machine=microvm", "ram=1", NULL };

static uint8_t next(Fuzz *fuzz)
{
    if (fuzz->left == 0) {
        return 0;
    }
    fuzz->left--;
    return *fuzz->at++;
}

static FutPairStatus status_of(const Fuzz *fuzz)
{
    FutPairStatus status;

    fut_pair_status(fuzz->pair, &status);
    return status;
}

/* -- actions -- */

static void check_primary(Fuzz *fuzz, const FutAction *action)
{
    switch (action->kind) {
    case FUT_ACT_START_COPY:
    case FUT_ACT_STOP_COPY:
        g_assert_true(fuzz->copying == (action->kind == FUT_ACT_STOP_COPY));
        fuzz->copying = !fuzz->copying;
        break;
    case FUT_ACT_HOLD:
        g_assert_false(fuzz->holding);
        fuzz->holding = true;
        fuzz->cut = fuzz->released = 0;
        break;
    case FUT_ACT_RELEASE:
        g_assert_true(fuzz->holding && !fuzz->halted);
        g_assert_cmpuint(action->number, ==, fuzz->released + 1);
        g_assert_cmpuint(action->number, <=, fuzz->cut);
        fuzz->released = action->number;
        break;
    case FUT_ACT_RELEASE_ALL:
        g_assert_true(fuzz->holding && !fuzz->halted);
        g_assert_true(fuzz->cut == 0 || fuzz->granted);
        fuzz->holding = false;
        break;
    case FUT_ACT_HALT:
        g_assert_false(fuzz->halted);
        fuzz->halted = true;
        break;
    case FUT_ACT_DROP_ALL:
        g_assert_true(fuzz->holding && fuzz->halted);
        fuzz->holding = false;
        break;
    case FUT_ACT_RESUME:
        g_assert_true(fuzz->stopped && fuzz->granted);
        fuzz->stopped = false;
        break;
    case FUT_ACT_CONNECT:
        g_assert_false(fuzz->connecting);
        fuzz->connecting = true;
        break;
    default:
        break;
    }
}

static void check_backup(Fuzz *fuzz, const FutAction *action)
{
    switch (action->kind) {
    case FUT_ACT_APPLY:
        g_assert_cmpuint(action->number, ==, fuzz->applied + 1);
        g_assert_true(!fuzz->late || fuzz->acked < action->number);
        fuzz->applied = action->number;
        fuzz->hold = fuzz->late ? action->number : fuzz->hold;
        fuzz->late = false;
        break;
    case FUT_ACT_DISCARD:
        g_assert_false(fuzz->taken_over);
        fuzz->applied = 0;
        break;
    case FUT_ACT_TAKE_OVER:
        g_assert_true(fuzz->applied > 0 && fuzz->granted && !fuzz->taken_over);
        fuzz->taken_over = true;
        break;
    default:
        break;
    }
}

/* The ACK goes before the epoch is applied, but never before it is as safe as was asked for. */
static void check_sent(Fuzz *fuzz, const FutAction *action)
{
    if (action->type == FUT_MSG_WELCOME) {
        fuzz->acked = fuzz->disk_epoch = fuzz->hold = 0;
        fuzz->late = false;
    } else if (action->type == FUT_MSG_ACK) {
        g_assert_cmpuint(fut_get_le64(action->body), ==, ++fuzz->acked);
        g_assert_cmpuint(fuzz->acked, <=, fuzz->applied + 1);
        g_assert_cmpuint(fuzz->hold, ==, 0);
    }
}

static void check_common(Fuzz *fuzz, const FutAction *action)
{
    switch (action->kind) {
    case FUT_ACT_SEND:
        g_assert_cmpuint(action->length, <=, fut_wire_cap(action->type));
        g_assert_true(!fut_wire_is_empty(action->type) || action->length == 0);
        check_sent(fuzz, action);
        break;
    case FUT_ACT_SESSION:
        g_assert_true(action->number != 0 && action->number <= UINT32_MAX);
        break;
    case FUT_ACT_CLOSE:
        g_assert_nonnull(action->text);
        break;
    case FUT_ACT_REPORT:
        g_assert_true(action->text && g_str_has_prefix(action->id, "FUT-1"));
        g_assert_true(g_utf8_validate(action->text, -1, NULL));
        break;
    default:
        break;
    }
}

static void take_actions(Fuzz *fuzz)
{
    FutAction action;

    while (fut_pair_next_action(fuzz->pair, &action)) {
        check_common(fuzz, &action);
        check_primary(fuzz, &action);
        check_backup(fuzz, &action);
    }
    fuzz->granted = false;
}

/* -- events -- */

static void frame(Fuzz *fuzz, uint16_t type, uint16_t flags, const void *body, size_t length)
{
    FutFrame f = { .type = type, .flags = flags, .length = (uint32_t)length, .body = body };
    fut_pair_frame(fuzz->pair, &f, fuzz->now_ns);
}

static void event_link_up(Fuzz *fuzz)
{
    if (!status_of(fuzz).linked) {
        fuzz->connecting = false;
        fut_pair_link_up(fuzz->pair, next(fuzz), fuzz->now_ns);
    }
}

static void event_link_down(Fuzz *fuzz)
{
    fuzz->connecting = false;
    fut_pair_link_down(fuzz->pair, "gone", fuzz->now_ns);
}

/* Any frame that passes the caps of the layer below. */
static void event_frame(Fuzz *fuzz)
{
    uint16_t type = next(fuzz);
    uint16_t flags = next(fuzz);
    size_t wanted = next(fuzz);
    size_t length = MIN(MIN(wanted, fuzz->left), fut_wire_cap(type));
    g_autofree uint8_t *body = g_memdup2(fuzz->at, length); /* so that reading past it is seen */

    fuzz->at += length;
    fuzz->left -= length;
    frame(fuzz, type, flags, body, length);
}

static void event_hello(Fuzz *fuzz)
{
    FutHello hello = {
        .version_min = FUT_WIRE_VERSION_MIN,
        .version_max = FUT_WIRE_VERSION,
        .nonce = next(fuzz),
        .generation = status_of(fuzz).generation + next(fuzz) % 3,
        .heartbeat_ms = 10,
        .timeout_ms = 100,
        .vm = (char *)"vm",
        .node = (char *)"other",
        .machine = fuzz_machine,
    };
    FutBuf body = { 0 };

    fut_hello_encode(&body, &hello);
    frame(fuzz, FUT_MSG_HELLO, 0, body.data, body.len);
    fut_buf_done(&body);
}

static void event_welcome(Fuzz *fuzz)
{
    FutWelcome welcome = {
        .version = FUT_WIRE_VERSION,
        .session = 1 + next(fuzz),
        .generation = status_of(fuzz).generation + next(fuzz) / 128,
        .node = (char *)"other",
    };
    FutBuf body = { 0 };

    fut_welcome_encode(&body, &welcome);
    frame(fuzz, FUT_MSG_WELCOME, 0, body.data, body.len);
    fut_buf_done(&body);
}

static void event_checkpoint(Fuzz *fuzz)
{
    uint8_t body[FUT_CHECKPOINT_SIZE + 3] = { 0 };
    FutCheckpoint checkpoint = { .epoch = status_of(fuzz).committed + 1, .stream_length = 3 };

    checkpoint.flags = next(fuzz) & FUT_CHECKPOINT_FINAL;
    checkpoint.parts = next(fuzz) % 3;
    checkpoint.stream_length += checkpoint.parts * 2;
    fut_checkpoint_encode(body, &checkpoint);
    frame(fuzz, FUT_MSG_CHECKPOINT, 0, body, sizeof(body));
}

static void event_part(Fuzz *fuzz)
{
    uint8_t body[10] = { 0 };

    fut_put_le64(body, status_of(fuzz).committed + 1);
    frame(fuzz, FUT_MSG_EPOCH_PART, 0, body, sizeof(body));
}

static void event_ack(Fuzz *fuzz)
{
    uint8_t body[8];

    fut_put_le64(body, status_of(fuzz).committed + 1);
    frame(fuzz, FUT_MSG_ACK, 0, body, sizeof(body));
}

/* What is accepted keeps the order that the driver's queue relies on. */
static void event_disk(Fuzz *fuzz)
{
    static const uint16_t kinds[] = { FUT_DISK_WRITE, FUT_DISK_ZEROES, FUT_DISK_DISCARD,
                                      FUT_DISK_FLUSH };
    uint8_t body[FUT_DISK_HEAD_SIZE + 16] = { 0 };
    FutPairStatus before = status_of(fuzz);
    uint8_t ahead = next(fuzz);
    FutDiskHead head = { .epoch = ahead == 0 ? 0 : before.committed + ahead - 1 };

    head.kind = kinds[next(fuzz) % G_N_ELEMENTS(kinds)];
    head.length = head.kind == FUT_DISK_FLUSH ? 0 : 16;
    fut_disk_head_encode(body, &head);
    frame(fuzz, FUT_MSG_DISK, 0, body,
          FUT_DISK_HEAD_SIZE + (head.kind == FUT_DISK_WRITE ? head.length : 0));
    bool takes = before.state == FUT_STATE_RECEIVING || before.state == FUT_STATE_STANDBY;
    if (takes && status_of(fuzz).linked) {
        g_assert_true(head.epoch > before.committed || (head.epoch == 0 && before.committed == 0));
        g_assert_cmpuint(head.epoch, >=, fuzz->disk_epoch);
        fuzz->disk_epoch = head.epoch;
    }
}

static void event_disk_base(Fuzz *fuzz)
{
    uint8_t body[FUT_DISK_BASE_SIZE];
    FutDiskBase base = { .base = next(fuzz), .next = 1 + next(fuzz) };

    fut_disk_base_encode(body, &base);
    frame(fuzz, FUT_MSG_DISK_BASE, 0, body, sizeof(body));
}

static void event_disk_kept(Fuzz *fuzz)
{
    uint8_t body[FUT_DISK_KEPT_SIZE];
    FutDiskKept kept = { .base = next(fuzz), .mark = 1, .life = 1 };

    fut_disk_kept_encode(body, &kept);
    frame(fuzz, FUT_MSG_DISK_KEPT, 0, body, sizeof(body));
    frame(fuzz, FUT_MSG_DISK_SAFE, 0, body + 8, 8);
}

static void event_ack_late(Fuzz *fuzz)
{
    if (status_of(fuzz).role == FUT_ROLE_BACKUP) {
        fut_pair_ack_late(fuzz->pair);
        fuzz->late = true;
    }
}

static void event_written(Fuzz *fuzz)
{
    uint64_t epoch = next(fuzz);

    fuzz->hold = epoch >= fuzz->hold ? 0 : fuzz->hold;
    fut_pair_written(fuzz->pair, epoch, fuzz->now_ns);
}

static void event_image_bad(Fuzz *fuzz)
{
    FutPairState state = status_of(fuzz).state;

    fut_pair_image_bad(fuzz->pair, "disk full", fuzz->now_ns);
    if (state == FUT_STATE_RECEIVING || state == FUT_STATE_STANDBY) {
        g_assert_cmpuint(status_of(fuzz).state, ==, FUT_STATE_WAITING);
    }
}

static void event_empty(Fuzz *fuzz)
{
    static const uint16_t types[] = { FUT_MSG_BARRIER, FUT_MSG_BARRIER_DONE, FUT_MSG_HANDOVER,
                                      FUT_MSG_HEARTBEAT };
    frame(fuzz, types[next(fuzz) % G_N_ELEMENTS(types)], 0, NULL, 0);
}

static void event_bye(Fuzz *fuzz)
{
    frame(fuzz, FUT_MSG_BYE, next(fuzz) % 8, "bye", 3);
}

static void event_answer(Fuzz *fuzz)
{
    uint8_t what = next(fuzz);
    uint64_t generation = status_of(fuzz).generation + 1;
    FutAnswer answer = what % 3;

    if (what < 16) { /* to another question than the last */
        generation += next(fuzz) % 4;
        generation -= 2;
    }
    fuzz->granted = answer == FUT_ANSWER_GRANTED;
    fut_pair_answer(fuzz->pair, answer, generation, "somebody", fuzz->now_ns);
    if (answer == FUT_ANSWER_GRANTED) {
        g_assert_cmpuint(status_of(fuzz).generation, >=, generation);
    }
}

static void event_cut(Fuzz *fuzz)
{
    uint32_t flags;

    if (!fut_pair_may_cut(fuzz->pair)) {
        return;
    }
    g_assert_cmpuint(fut_pair_output_epoch(fuzz->pair), ==, fuzz->cut + 1);
    g_assert_cmpuint(fut_pair_cut(fuzz->pair, &flags, fuzz->now_ns), ==, fuzz->cut + 1);
    fuzz->cut++;
    fuzz->stopped = flags & FUT_CHECKPOINT_FINAL;
}

static void event_command(Fuzz *fuzz)
{
    static bool (*const commands[])(FutPair *, uint64_t, GError **) = {
        fut_pair_protect,
        fut_pair_unprotect,
        fut_pair_failover,
    };
    g_autoptr(GError) error = NULL;
    bool ok = commands[next(fuzz) % G_N_ELEMENTS(commands)](fuzz->pair, fuzz->now_ns, &error);

    g_assert_true(ok == (error == NULL));
}

static void event_copied(Fuzz *fuzz)
{
    fut_pair_copied(fuzz->pair, fuzz->now_ns);
}

static void event_taken(Fuzz *fuzz)
{
    if (status_of(fuzz).state == FUT_STATE_TAKING) {
        fut_pair_taken(fuzz->pair, next(fuzz) % 4 != 0, "no", fuzz->now_ns);
    }
}

static void event_bad_peer(Fuzz *fuzz)
{
    fut_pair_bad_peer(fuzz->pair, "bad delta", fuzz->now_ns);
}

static void event_time(Fuzz *fuzz)
{
    fuzz->now_ns += next(fuzz) * FUT_NS_PER_MS;
    fut_pair_tick(fuzz->pair, fuzz->now_ns);
    g_assert_cmpuint(fut_pair_deadline(fuzz->pair), >, fuzz->now_ns);
}

static void event_alive(Fuzz *fuzz)
{
    fuzz->now_ns += next(fuzz) * FUT_NS_PER_MS;
    fut_pair_alive(fuzz->pair, fuzz->now_ns);
    fut_pair_sent(fuzz->pair, fuzz->now_ns);
}

static void check_state(const Fuzz *fuzz)
{
    FutPairStatus status = status_of(fuzz);
    uint64_t epoch = fut_pair_output_epoch(fuzz->pair);

    g_assert_true((status.state == FUT_STATE_FENCED) == fuzz->halted);
    g_assert_cmpuint(epoch, ==, fuzz->halted ? UINT64_MAX : fuzz->holding ? fuzz->cut + 1 : 0);
    g_assert_true((status.role == FUT_ROLE_PRIMARY) == (status.state < FUT_STATE_WAITING));
    g_assert_true(*status.peer_node == 0 || status.linked);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const events[])(Fuzz *) = {
        event_link_up,    event_link_down, event_frame,   event_hello,     event_welcome,
        event_checkpoint, event_part,      event_ack,     event_empty,     event_bye,
        event_answer,     event_cut,       event_command, event_copied,    event_taken,
        event_bad_peer,   event_time,      event_alive,   event_disk,      event_disk_base,
        event_disk_kept,  event_ack_late,  event_written, event_image_bad,
    };
    Fuzz fuzz = { .at = data, .left = size, .now_ns = FUT_NS_PER_S };
    FutPairConfig config = {
        .role = next(&fuzz) % 2 ? FUT_ROLE_BACKUP : FUT_ROLE_PRIMARY,
        .vm = "vm",
        .node = "this",
        .machine = fuzz_machine,
        .generation = 3,
        .heartbeat_ms = 10,
        .timeout_ms = 100,
        .retry_ms = 50,
        .window = 2,
    };

    fuzz.pair = fut_pair_new(&config, fuzz.now_ns);
    while (fuzz.left > 0) {
        events[next(&fuzz) % G_N_ELEMENTS(events)](&fuzz);
        take_actions(&fuzz);
        check_state(&fuzz);
    }
    fut_pair_free(fuzz.pair);
    return 0;
}
