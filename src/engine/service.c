/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The service: an engine with its threads, socket, arbiter and control socket. */
#include "service.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "control.h"
#include "cover.h"
#include "fut_clock.h"
#include "fut_error.h"
#include "fut_log.h"
#include "resident.h"
#include "keeper.h"
#include "restore_ready.h"
#include "service_internal.h"
#include "snapper.h"

/* How long an orderly end waits for the last words to get out. */
#define FAREWELL_MS 300
/* Longest wait of an engine's thread before it looks round again. */
#define WAIT_US 10000
/* Lines about strangers: some at once, then one every so often. */
#define STRANGERS_BURST 10
#define STRANGERS_EVERY_NS (10 * FUT_NS_PER_S)
/* How long it waits for the arbiter and the storage, when the guest has just written to shared disks. */
#define SETTLE_MS 20000

/* -- host operations of the engine -- */

static bool host_send(void *opaque, uint16_t type, uint16_t flags, const struct iovec *iov,
                      int count)
{
    return fut_link_host_send(opaque, type, flags, iov, count);
}

static void host_session(void *opaque, uint32_t session)
{
    fut_link_host_session(opaque, session);
}

static void host_connect(void *opaque)
{
    FutService *service = opaque;
    g_atomic_int_set(&service->connect_wanted, TRUE);
    fut_wake_fd(service->link_wake_fd);
}

static void host_close(void *opaque, const char *why)
{
    fut_link_host_close(opaque, why);
}

static void host_ask(void *opaque, uint64_t generation)
{
    FutService *service = opaque;
    uint64_t *question = g_new(uint64_t, 1);
    *question = generation;
    g_async_queue_push(service->asks, question);
}

static void host_copy(void *opaque, bool on)
{
    fut_copy_host_copy(opaque, on);
}

static void host_wake(void *opaque)
{
    FutService *service = opaque;
    fut_wake_fd(service->link_wake_fd);
}

static void host_report(void *opaque, const char *id, const char *text)
{
    fut_service_report(opaque, id, text);
}

static uint64_t host_now(void *opaque)
{
    return fut_now_ns();
}

static size_t host_pending(void *opaque)
{
    return fut_link_host_pending(opaque);
}

static void host_disk(void *opaque)
{
    fut_disk_host_poke(opaque);
}

/* A sign of life may be due meanwhile. */
static bool host_wait(void *opaque, GCond *changed, GMutex *lock)
{
    g_cond_wait_until(changed, lock, g_get_monotonic_time() + WAIT_US);
    return true;
}

static void host_series(void *opaque)
{
    fut_snapper_poke(((FutService *)opaque)->snapper);
}

static bool host_guard_open(void *opaque, const FutMemory *memory)
{
    return fut_snapper_guard_open(((FutService *)opaque)->snapper, memory);
}

static void host_guard_close(void *opaque)
{
    fut_snapper_guard_close(((FutService *)opaque)->snapper);
}

static void host_background(void *opaque, bool on)
{
    fut_snapper_background(((FutService *)opaque)->snapper, on);
}

static void host_give_way(void *opaque)
{
    fut_snapper_give_way(((FutService *)opaque)->snapper);
}

static bool host_guard(void *opaque, uint8_t *at, size_t length, bool on)
{
    return fut_snapper_guard(((FutService *)opaque)->snapper, at, length, on);
}

static void host_resident(void *opaque, const uint8_t *at, uint64_t pages, uint64_t *bits)
{
    fut_resident_look_at(at, pages, bits);
}

static void host_probes(void *opaque)
{
    FutService *service = opaque;
    fut_wake_fd(service->control_wake_fd);
}

static const FutEngineHost service_host = {
    .send = host_send,
    .session = host_session,
    .connect = host_connect,
    .close = host_close,
    .ask = host_ask,
    .copy = host_copy,
    .wake = host_wake,
    .report = host_report,
    .now_ns = host_now,
    .pending = host_pending,
    .disk = host_disk,
    .wait = host_wait,
    .series = host_series,
    .guard_open = host_guard_open,
    .guard_close = host_guard_close,
    .guard = host_guard,
    .background = host_background,
    .give_way = host_give_way,
    .resident = host_resident,
    .probes = host_probes,
};

static void watch_wake(void *opaque)
{
    FutService *service = opaque;

    /* Who watches goes first: on a busy host the thread that is woken may take the processor at once. */
    fut_wake_fd(service->control_wake_fd);
    fut_wake_fd(service->react_wake_fd);
}

/* -- events -- */

/* What anybody who reaches the port, or the other host, may cause to be said. */
static bool is_of_strangers(const char *id)
{
    static const char *const ids[] = { "FUT-123", "FUT-180", "FUT-181", "FUT-213" };

    for (size_t i = 0; i < G_N_ELEMENTS(ids); i++) {
        if (g_str_equal(ids[i], id)) {
            return true;
        }
    }
    return false;
}

/* The text as it is to be told; NULL: there were too many of them. Caller frees. */
static char *text_to_tell(FutService *service, const char *id, const char *text)
{
    uint64_t kept_back = 0;

    if (!is_of_strangers(id)) {
        return g_strdup(text);
    }
    g_mutex_lock(&service->events_lock);
    bool pass = fut_rate_pass(&service->strangers, fut_now_ns(), &kept_back);
    g_mutex_unlock(&service->events_lock);
    if (!pass) {
        return NULL;
    }
    return kept_back
               ? g_strdup_printf("%s (and %" G_GUINT64_FORMAT " more before it)", text, kept_back)
               : g_strdup(text);
}

void fut_service_report(FutService *service, const char *id, const char *text)
{
    char *told = text_to_tell(service, id, text);
    if (!told) {
        return;
    }
    fut_log(FUT_LOG_INFO, id, "%s", told);
    g_mutex_lock(&service->events_lock);
    FutEvent *event = &service->events[service->event_count++ % FUT_EVENTS_KEPT];
    g_free(event->id);
    g_free(event->text);
    event->id = g_strdup(id);
    event->text = told;
    event->time_s = (double)g_get_real_time() / G_USEC_PER_SEC;
    g_mutex_unlock(&service->events_lock);
    fut_wake_fd(service->control_wake_fd);
}

void fut_service_turned_away(FutService *service, const char *id, const char *text)
{
    fut_service_report(service, id, text);
    g_mutex_lock(&service->events_lock);
    g_free(service->turned_away);
    service->turned_away = g_strdup(text);
    service->turned_away_count++;
    g_mutex_unlock(&service->events_lock);
}

/* -- start -- */

static FutService *service_new(FutVmm *vmm, FutOptions *take_options)
{
    FutService *service = g_new0(FutService, 1);
    service->vmm = vmm;
    service->options = take_options;
    service->started_ns = fut_now_ns();
    service->asks = g_async_queue_new_full(g_free);
    service->strangers = (FutRate)FUT_RATE_INIT(STRANGERS_BURST, STRANGERS_EVERY_NS);
    service->control_fd = -1;
    service->link_wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    service->control_wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    g_assert(service->link_wake_fd >= 0 && service->control_wake_fd >= 0);
    g_mutex_init(&service->send_lock);
    g_mutex_init(&service->peer_lock);
    g_mutex_init(&service->copy_lock);
    g_cond_init(&service->copy_changed);
    g_mutex_init(&service->disk_lock);
    g_cond_init(&service->disk_changed);
    g_mutex_init(&service->events_lock);
    g_mutex_init(&service->restore_lock);
    service->snapper = fut_snapper_new(service);
    return service;
}

/* Only for a service whose threads were never started. */
static void service_free(FutService *service)
{
    fut_engine_free(service->engine);
    fut_snapper_free(service->snapper);
    fut_ready_free(service->ready);
    fut_listener_free(service->listener);
    fut_arbiter_close(service->arbiter);
    fut_tls_unref(service->tls);
    if (service->control_fd >= 0) {
        close(service->control_fd);
        unlink(service->control_path);
    }
    close(service->link_wake_fd);
    close(service->control_wake_fd);
    g_free(service->control_path);
    g_async_queue_unref(service->asks);
    fut_buf_done(&service->gather);
    fut_options_free(service->options);
    g_free(service);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FutService, service_free)

static bool open_control(FutService *service, GError **error)
{
    service->control_path = fut_control_path(service->options->vm, error);
    if (!service->control_path) {
        return false;
    }
    service->control_fd = fut_control_listen(service->control_path, error);
    return service->control_fd >= 0;
}

/* Before anything is claimed or bound: a host with a bad key does not come up. */
static bool open_tls(FutService *service, GError **error)
{
    const FutOptions *options = service->options;
    if (!options->tls) {
        return true;
    }
    service->tls = fut_tls_new(options->tls, options->tls_name, error);
    service->tls_read_ns = fut_now_ns();
    return service->tls != NULL;
}

/* The machine's description as the peer gets to see it: with the arbiter, which must be the same one,
 * before all else. */
static bool add_arbiter(FutService *service, char ***machine, GError **error)
{
    g_autofree char *identity = NULL;
    GPtrArray *lines = g_ptr_array_new();

    if (!fut_arbiter_identify(service->arbiter, &identity, error)) {
        g_ptr_array_unref(lines);
        return false;
    }
    g_ptr_array_add(lines, g_strdup_printf(FUT_WIRE_ARBITER_KEY "=%s", identity));
    for (char **line = *machine; *line; line++) {
        g_ptr_array_add(lines, *line);
    }
    g_ptr_array_add(lines, NULL);
    g_free(*machine);
    *machine = (char **)g_ptr_array_free(lines, FALSE);
    return true;
}

static bool open_arbiter(FutService *service, char ***machine, GError **error)
{
    service->arbiter = fut_arbiter_open(service->options->arbiter, service->options->vm, error);
    return service->arbiter && add_arbiter(service, machine, error);
}

/* One that waits claims when it is let go. */
static bool open_role(FutService *service, GError **error)
{
    FutOptions *options = service->options;
    const char *where = strchr(options->arbiter, ':');
    service->arbiter_private =
        where && g_str_has_prefix(options->arbiter, "file:") && fut_cover_is_private(where + 1);
    if (options->role == FUT_ROLE_BACKUP) {
        service->listener = fut_listener_new(options->listen, error);
        return service->listener != NULL;
    }
    service->peer = options->to ? g_steal_pointer(&options->to) : NULL;
    return service->ready ||
           fut_arbiter_start(service->arbiter, options->node, options->force_generation,
                             &options->engine.generation, error);
}

static void start_threads(FutService *service)
{
    static const struct {
        const char *name;
        GThreadFunc run;
    } threads[] = {
        { "futago-link", fut_link_thread },       { "futago-copy", fut_copy_thread },
        { "futago-disk", fut_disk_thread },       { "futago-ask", fut_ask_thread },
        { "futago-control", fut_control_thread }, { "futago-snap", fut_snapper_thread },
        { "futago-react", fut_react_thread },
    };
    for (size_t i = 0; i < G_N_ELEMENTS(threads); i++) {
        g_thread_unref(g_thread_new(threads[i].name, threads[i].run, service));
    }
}

/* Before anything is claimed: a snapshot that does not fit leaves no trace. *early is taken unless that is refused. */
static bool open_restore(FutService *service, char **machine, FutRestoreEarly **early,
                         FutRestore **ret, GError **error)
{
    const FutOptions *options = service->options;

    if (options->restore && options->shared->len > 0) {
        g_set_error_literal(
            error, FUT_ERROR, FUT_ERR_ARG,
            "restore and shared_disk exclude each other: the other host's guest may "
            "be using the disk; give the restored VM disks of its own");
        return false;
    }
    if (options->restore) {
        g_assert(*early);
        *ret = fut_restore_new(service->vmm, machine, g_steal_pointer(early),
                               options->restore_force, error);
    }
    return !options->restore || *ret;
}

/* A clone: what the guest believes of itself is the machine's. */
static bool open_identities(FutService *service, char **machine, GError **error)
{
    FutOptions *options = service->options;

    if (options->identities.given == 0) {
        return true;
    }
    options->engine.identities = &options->identities;
    options->restore_connections = FUT_CONNECTIONS_END;
    return fut_identities_complete(&options->identities, machine, error);
}

void fut_service_announce(FutService *service)
{
    const FutOptions *options = service->options;
    g_autofree char *text = NULL;
    if (options->role == FUT_ROLE_BACKUP) {
        g_autofree char *where = fut_address_text(options->listen);
        text = g_strdup_printf("standby for %s on %s, listening at %s", options->vm, options->node,
                               where);
    } else {
        text = g_strdup_printf("%s runs on %s, generation %" G_GUINT64_FORMAT, options->vm,
                               options->node, options->engine.generation);
    }
    fut_service_report(service, "FUT-170", text);
}

FutService *fut_service_start(FutVmm *vmm, int argc, char **argv, FutRestoreEarly *take_early,
                              GError **error)
{
    g_autoptr(FutRestoreEarly) early = take_early;
    FutOptions *options = fut_options_parse(argc, argv, error);
    if (!options) {
        return NULL;
    }
    fut_log_setup(options->vm, FUT_LOG_INFO);
    g_autoptr(FutService) service = service_new(vmm, options);
    service->ready = options->engine.waiting ? fut_ready_new() : NULL;
    g_auto(GStrv) machine = NULL;
    g_autoptr(FutRestore) restore = NULL;
    if (!vmm->ops->describe(vmm, &machine, error) ||
        !open_restore(service, machine, &early, &restore, error) ||
        !open_identities(service, machine, error) || !open_tls(service, error) ||
        !open_control(service, error) || !open_arbiter(service, &machine, error) ||
        !open_role(service, error)) {
        return NULL;
    }
    service->engine = fut_engine_new(vmm, &options->engine, machine, &service_host, service);
    service->restore = g_steal_pointer(&restore);
    service->watch = vmm->watch = fut_watch_new(vmm, watch_wake, service);
    fut_react_host_init(service);
    if (!service->ready) {
        fut_service_announce(service);
    }
    fut_keeper_start();
    start_threads(service);
    if (service->restore) {
        g_thread_unref(g_thread_new("futago-restore", fut_restore_thread, service));
    }
    if (service->peer) {
        fut_engine_protect(service->engine, NULL);
    }
    return g_steal_pointer(&service);
}

/* -- end -- */

bool fut_service_settled(FutService *service)
{
    uint64_t now_ns = fut_now_ns();
    if (fut_engine_settled(service->engine)) {
        return true;
    }
    service->settling_ns = service->settling_ns ? service->settling_ns : now_ns;
    if (now_ns - service->settling_ns < SETTLE_MS * FUT_NS_PER_MS) {
        return false;
    }
    fut_service_report(
        service, "FUT-194",
        "the guest's last writes to shared disks could not be stored, nobody outside was told of them: "
        "for their images this is a power cut");
    return true;
}

/* So that nobody takes the VM over any more. The next generation may be ours already: asked for, and
 * the answer not heard. */
static void release(FutService *service, uint64_t generation)
{
    g_autoptr(GError) error = NULL;
    const char *node = service->options->node;

    if (!fut_arbiter_release(service->arbiter, generation, node, &error) ||
        !fut_arbiter_release(service->arbiter, generation + 1, node, &error)) {
        g_autofree char *text = g_strdup_printf(
            "the VM ends, but the arbiter could not be told (%s): a backup that was cut off would "
            "bring it back; stop it there",
            error->message);
        fut_service_report(service, "FUT-171", text);
    }
}

/* In a hand-over the VM may be the twin's already. */
static bool is_ours_to_end(FutService *service, uint64_t *ret_generation)
{
    FutEngineStatus status;

    fut_engine_status(service->engine, &status);
    *ret_generation = status.generation;
    return status.role == FUT_ROLE_PRIMARY && status.state != FUT_STATE_FENCED &&
           status.state != FUT_STATE_HANDING && !fut_ready_unclaimed(service->ready);
}

/* The arbiter is told before the twin is: a twin that only sees the connection close would ask it. */
void fut_service_exiting(FutService *service)
{
    uint64_t generation;

    g_atomic_int_set(&service->exiting, TRUE);
    if (service->ready) {
        fut_ready_exiting(service->ready);
    }
    bool told = is_ours_to_end(service, &generation);
    if (told) {
        release(service, generation);
    }
    fut_engine_exiting(service->engine);
    fut_link_host_drain(service, FAREWELL_MS);
    if (!told && is_ours_to_end(service, &generation)) {
        release(service, generation);
    }
    unlink(service->control_path);
    if (service->records_path) {
        unlink(service->records_path);
    }
}
