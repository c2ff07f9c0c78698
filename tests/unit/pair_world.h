/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Two pair machines, a wire between them, an arbiter and a clock, all in memory, for the tests of
 * src/pair. What a machine does is written to its host's trace, one word an action. */
#ifndef PAIR_WORLD_H
#define PAIR_WORLD_H

#include "fut_clock.h"
#include "fut_error.h"
#include "byteorder.h"
#include "pair.h"

#define HEARTBEAT_MS 50
#define TIMEOUT_MS 500
#define COMMIT_MS 5000
#define RETRY_MS 1000

typedef struct {
    FutMsgType type; /* 0: the link ended */
    uint16_t flags;
    GBytes *body;
} Message;

typedef struct Host Host;
typedef struct World World;
struct Host {
    World *world;
    Host *peer;
    FutPair *pair;
    const char *name;
    GString *trace;
    char *report; /* the last one's text */
    GQueue inbox; /* of Message, owned */
    bool linked;
    bool frozen; /* gets no time, no messages */
    bool running, halted, stopped;
    bool start_fails; /* TAKE_OVER comes to nothing */
    uint64_t asked;   /* question not answered yet; 0: none */
    uint64_t session;
    uint64_t applied;  /* last epoch */
    uint64_t released; /* last epoch let go by RELEASE; UINT64_MAX: all */
};

struct World {
    Host a, b;
    uint64_t now_ns;
    bool cut_off;        /* messages vanish, nobody is told */
    bool unreachable;    /* connecting fails */
    bool arbiter_down;   /* answers UNKNOWN */
    bool arbiter_slow;   /* questions stay open: see world_answer() */
    bool copy_slow;      /* fut_pair_copied() is the test's affair */
    uint64_t generation; /* the arbiter's record */
    const Host *holder;
    uint64_t nonce;
};

static void world_pump(World *world);

/* -- wire -- */

static void message_free(void *opaque)
{
    Message *message = opaque;

    g_bytes_unref(message->body);
    g_free(message);
}

static void host_post(Host *to, FutMsgType type, uint16_t flags, const void *body, size_t length)
{
    if (to->world->cut_off || !to->linked) {
        return;
    }
    Message *message = g_new0(Message, 1);
    message->type = type;
    message->flags = flags;
    message->body = g_bytes_new(body, length);
    g_queue_push_tail(&to->inbox, message);
}

static void host_unlink(Host *host)
{
    host->linked = false;
    g_queue_clear_full(&host->inbox, message_free);
}

static void host_close(Host *host)
{
    host_unlink(host);
    host_post(host->peer, 0, 0, NULL, 0);
}

static void host_connect(Host *host)
{
    World *world = host->world;

    if (world->unreachable || host->peer->linked) {
        fut_pair_link_down(host->pair, "connection refused", world->now_ns);
        return;
    }
    host->linked = host->peer->linked = true;
    fut_pair_link_up(host->peer->pair, ++world->nonce, world->now_ns);
    fut_pair_link_up(host->pair, ++world->nonce, world->now_ns);
}

/* -- arbiter -- */

static void world_answer(Host *host)
{
    World *world = host->world;
    uint64_t asked = host->asked;
    bool free_to_take = world->generation + 1 == asked;

    host->asked = 0;
    if (world->arbiter_down) {
        fut_pair_answer(host->pair, FUT_ANSWER_UNKNOWN, asked, "arbiter is down", world->now_ns);
        return;
    }
    if (free_to_take || (world->generation == asked && world->holder == host)) {
        world->generation = asked;
        world->holder = host;
        fut_pair_answer(host->pair, FUT_ANSWER_GRANTED, asked, "", world->now_ns);
    } else {
        fut_pair_answer(host->pair, FUT_ANSWER_REFUSED, asked, world->holder->name, world->now_ns);
    }
}

/* -- actions -- */

static const char *act_word(const FutAction *action)
{
    static const char *const words[] = {
        [FUT_ACT_SESSION] = "session",
        [FUT_ACT_CONNECT] = "connect",
        [FUT_ACT_CLOSE] = "close",
        [FUT_ACT_START_COPY] = "start-copy",
        [FUT_ACT_STOP_COPY] = "stop-copy",
        [FUT_ACT_HOLD] = "hold",
        [FUT_ACT_RELEASE] = "release",
        [FUT_ACT_RELEASE_ALL] = "release-all",
        [FUT_ACT_DROP_ALL] = "drop-all",
        [FUT_ACT_CUT] = "cut",
        [FUT_ACT_HALT] = "halt",
        [FUT_ACT_RESUME] = "resume",
        [FUT_ACT_ASK] = "ask",
        [FUT_ACT_APPLY] = "apply",
        [FUT_ACT_BARRIER_IN] = "barrier-in",
        [FUT_ACT_DISCARD] = "discard",
        [FUT_ACT_TAKE_OVER] = "take-over",
    };

    return action->kind == FUT_ACT_SEND     ? fut_wire_type_name(action->type)
           : action->kind == FUT_ACT_REPORT ? action->id
                                            : words[action->kind];
}

static bool has_number(FutActionKind kind)
{
    return kind == FUT_ACT_RELEASE || kind == FUT_ACT_ASK || kind == FUT_ACT_APPLY;
}

static void host_note(Host *host, const FutAction *action)
{
    if (action->kind == FUT_ACT_SEND && action->type == FUT_MSG_HEARTBEAT) {
        return;
    }
    g_string_append_printf(host->trace, "%s%s", host->trace->len ? " " : "", act_word(action));
    if (has_number(action->kind)) {
        g_string_append_printf(host->trace, ":%d", (int)action->number);
    }
    if (action->kind == FUT_ACT_SEND && action->type == FUT_MSG_BYE) {
        g_string_append_printf(host->trace, ":%d", action->flags);
    }
    if (action->kind == FUT_ACT_REPORT) {
        g_free(host->report);
        host->report = g_strdup(action->text);
    }
}

static void host_take_over(Host *host)
{
    g_assert_false(host->halted);
    host->running = !host->start_fails;
    fut_pair_taken(host->pair, !host->start_fails, "bad device state", host->world->now_ns);
}

static void host_act(Host *host, const FutAction *action)
{
    switch (action->kind) {
    case FUT_ACT_SEND:
        host_post(host->peer, action->type, action->flags, action->body, action->length);
        break;
    case FUT_ACT_SESSION:
        host->session = action->number;
        break;
    case FUT_ACT_CONNECT:
        host_connect(host);
        break;
    case FUT_ACT_CLOSE:
        host_close(host);
        break;
    case FUT_ACT_START_COPY:
        if (!host->world->copy_slow) {
            fut_pair_copied(host->pair, host->world->now_ns);
        }
        break;
    case FUT_ACT_HOLD:
        host->released = 0;
        break;
    case FUT_ACT_RELEASE:
        host->released = action->number;
        break;
    case FUT_ACT_RELEASE_ALL:
        host->released = UINT64_MAX;
        break;
    case FUT_ACT_HALT:
        host->halted = true;
        host->running = false;
        break;
    case FUT_ACT_RESUME:
        g_assert_true(host->stopped);
        host->stopped = false;
        host->running = true;
        break;
    case FUT_ACT_ASK:
        host->asked = action->number;
        if (!host->world->arbiter_slow) {
            world_answer(host);
        }
        break;
    case FUT_ACT_APPLY:
        host->applied = action->number;
        break;
    case FUT_ACT_DISCARD:
        g_assert_false(host->running);
        host->applied = 0;
        break;
    case FUT_ACT_TAKE_OVER:
        host_take_over(host);
        break;
    default:
        break;
    }
}

static bool host_drain(Host *host)
{
    bool any = false;
    FutAction action;

    while (!host->frozen && fut_pair_next_action(host->pair, &action)) {
        host_note(host, &action);
        host_act(host, &action);
        any = true;
    }
    return any;
}

static bool host_receive(Host *host)
{
    if (host->frozen || g_queue_is_empty(&host->inbox)) {
        return false;
    }
    Message *message = g_queue_pop_head(&host->inbox);
    gsize length;
    const uint8_t *body = g_bytes_get_data(message->body, &length);
    FutFrame frame = {
        .type = message->type,
        .flags = message->flags,
        .length = length,
        .body = body,
    };

    if (message->type == 0) {
        host_unlink(host);
        fut_pair_link_down(host->pair, "connection closed by the peer", host->world->now_ns);
    } else {
        fut_pair_frame(host->pair, &frame, host->world->now_ns);
    }
    message_free(message);
    return true;
}

/* Until nobody has anything to do at this moment. */
static void world_pump(World *world)
{
    bool any = true;

    while (any) {
        any = host_drain(&world->a);
        any |= host_drain(&world->b);
        any |= host_receive(&world->a);
        any |= host_drain(&world->a);
        any |= host_receive(&world->b);
    }
}

/* -- time -- */

static uint64_t host_deadline(const Host *host)
{
    return host->frozen ? UINT64_MAX : fut_pair_deadline(host->pair);
}

static void host_tick(Host *host)
{
    if (host_deadline(host) <= host->world->now_ns) {
        fut_pair_tick(host->pair, host->world->now_ns);
        g_assert_cmpuint(fut_pair_deadline(host->pair), >, host->world->now_ns);
    }
}

static void world_advance(World *world, uint64_t ms)
{
    uint64_t end_ns = world->now_ns + ms * FUT_NS_PER_MS;
    uint64_t next_ns;

    while ((next_ns = MIN(host_deadline(&world->a), host_deadline(&world->b))) <= end_ns) {
        world->now_ns = MAX(world->now_ns, next_ns);
        host_tick(&world->a);
        host_tick(&world->b);
        world_pump(world);
    }
    world->now_ns = end_ns;
    world_pump(world);
}

/* -- making and looking -- */

static char *world_machine[] = { "machine=microvm", "cpu=max", "ram.pc=268435456", NULL };

static FutPairConfig host_config(FutRole role, const char *name)
{
    return (FutPairConfig){
        .role = role,
        .vm = "web",
        .node = name,
        .machine = world_machine,
        .generation = role == FUT_ROLE_PRIMARY ? 1 : 0,
        .heartbeat_ms = HEARTBEAT_MS,
        .timeout_ms = TIMEOUT_MS,
        .retry_ms = RETRY_MS,
        .commit_ms = COMMIT_MS,
        .window = 2,
    };
}

static void host_init_with(Host *host, World *world, Host *peer, const FutPairConfig *config)
{
    *host = (Host){ .world = world, .peer = peer, .name = config->node };
    host->trace = g_string_new(NULL);
    host->pair = fut_pair_new(config, world->now_ns);
    host->running = config->role == FUT_ROLE_PRIMARY;
    host->released = UINT64_MAX;
    g_queue_init(&host->inbox);
}

static void host_done(Host *host)
{
    fut_pair_free(host->pair);
    g_queue_clear_full(&host->inbox, message_free);
    g_string_free(host->trace, TRUE);
    g_free(host->report);
}

static World *world_new_with(const FutPairConfig *a, const FutPairConfig *b)
{
    World *world = g_new0(World, 1);

    world->now_ns = 5 * FUT_NS_PER_S;
    world->generation = a->generation;
    world->holder = &world->a;
    host_init_with(&world->a, world, &world->b, a);
    host_init_with(&world->b, world, &world->a, b);
    return world;
}

static World *world_new(void)
{
    FutPairConfig a = host_config(FUT_ROLE_PRIMARY, "hosta");
    FutPairConfig b = host_config(FUT_ROLE_BACKUP, "hostb");

    return world_new_with(&a, &b);
}

static void world_free(World *world)
{
    host_done(&world->a);
    host_done(&world->b);
    g_free(world);
}

static FutPairStatus host_status(const Host *host)
{
    FutPairStatus status;

    fut_pair_status(host->pair, &status);
    return status;
}

#define expect_state(host, wanted)                                                                 \
    g_assert_cmpstr(fut_state_name(host_status(host).state), ==, fut_state_name(wanted))
/* What it did since the last look. */
#define expect(host, words)                                                                        \
    do {                                                                                           \
        g_assert_cmpstr((host)->trace->str, ==, words);                                            \
        g_string_truncate((host)->trace, 0);                                                       \
    } while (0)
#define expect_report(host, part) g_assert_nonnull(strstr((host)->report, part))
#define expect_refused(call, part)                                                                 \
    do {                                                                                           \
        g_autoptr(GError) refusal = NULL;                                                          \
        GError **error = &refusal;                                                                 \
        g_assert_false(call);                                                                      \
        g_assert_error(refusal, FUT_ERROR, FUT_ERR_STATE);                                         \
        g_assert_nonnull(strstr(refusal->message, part));                                          \
    } while (0)

static inline void world_forget(World *world)
{
    g_string_truncate(world->a.trace, 0);
    g_string_truncate(world->b.trace, 0);
}

/* -- what the engine does -- */

static inline void host_send_checkpoint(Host *host, uint64_t epoch, uint32_t flags, uint32_t parts,
                                        uint64_t part_bytes)
{
    uint8_t body[FUT_CHECKPOINT_SIZE + 8] = { 0 };
    FutCheckpoint checkpoint = {
        .epoch = epoch,
        .stream_length = part_bytes + 8,
        .state_length = 9,
        .flags = flags,
        .parts = parts,
    };

    fut_checkpoint_encode(body, &checkpoint);
    host_post(host->peer, FUT_MSG_CHECKPOINT, 0, body, sizeof(body));
    fut_pair_sent(host->pair, host->world->now_ns);
}

/* Cuts and sends; the backup does not see it before the next pump. */
static inline uint64_t host_cut(Host *host)
{
    uint32_t flags;
    uint64_t epoch = fut_pair_cut(host->pair, &flags, host->world->now_ns);

    if (flags & FUT_CHECKPOINT_FINAL) {
        host->stopped = true;
        host->running = false;
    }
    host_send_checkpoint(host, epoch, flags, 0, 0);
    return epoch;
}

/* From nothing to the first committed epoch. */
static inline void world_protect(World *world)
{
    g_assert_true(fut_pair_protect(world->a.pair, world->now_ns, NULL));
    world_pump(world);
    expect_state(&world->a, FUT_STATE_PROTECTING);
    host_cut(&world->a);
    world_pump(world);
    expect_state(&world->a, FUT_STATE_PROTECTED);
    expect_state(&world->b, FUT_STATE_STANDBY);
    world_forget(world);
}

#endif
