/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest's network: a filter on each queue of each NIC shows the engine what goes out (it may
 * hold it) and what comes in; what the engine lets go is passed on from here.
 *
 * A filter is put at the tail of its netdev's list: that is next to the NIC, so a filter of the
 * user's sees outgoing packets only when they were let go. QEMU's own way of creating filters takes
 * no netdev with several queues; they are linked into the list here instead.
 */
#include "qvmm.h"

#include <sys/uio.h>

#include "keeper.h"

#include "hw/virtio/virtio-net.h"

#define GUEST_ANNOUNCES_AFTER_MS 250

/* FutPacket.flags: QEMU's in the low half, the queue in the high half. */
#define QUEUE_SHIFT 16
#define QEMU_FLAGS 0xffffu

#define TYPE_FUT_QFILTER "futago-filter"
OBJECT_DECLARE_SIMPLE_TYPE(FutQfilter, FUT_QFILTER)

struct FutQfilter {
    NetFilterState parent;
    FutQvmm *qvmm;
    unsigned nic, queue;
    int fd; /* our own handle of the tap that packets may be written to as they are, or -1 */
};

/* -- what the filter sees -- */

/* Bytes before the frame: virtio's header, where netdev and NIC have agreed on one. */
static size_t head_of(const NetFilterState *filter, unsigned flags)
{
    const NetClientState *netdev = filter->netdev;
    bool raw = flags & QEMU_NET_PACKET_FLAG_RAW;

    return !raw && netdev->vnet_hdr_len > 0 ? (size_t)netdev->vnet_hdr_len : 0;
}

/* Whether it passes: what the engine says of a packet as the guest sees it. */
static bool passes(FutQfilter *self, bool out, uint32_t flags, const struct iovec *iov, int count)
{
    FutEngine *engine = self->qvmm->vmm.engine;

    if (!out) {
        fut_qevent(self->qvmm, FUT_EVENT_NET_RX);
        fut_engine_input(engine, self->nic, flags, iov, count);
        return true;
    }
    FutOutput output = fut_engine_output(engine, self->nic, flags, iov, count);
    if (output == FUT_OUTPUT_HELD && !current_cpu && fut_qcut_asleep()) {
        /* the main loop sends, and the guest fell asleep before it did */
        fut_engine_idle(engine);
    }
    return output == FUT_OUTPUT_PASS;
}

/* A clone's packet: another one, with the addresses of the other side, goes in its place. */
static void pass_changed(FutQfilter *self, const FutIdentity *identity, NetClientState *sender,
                         unsigned flags, const struct iovec *iov, int count)
{
    NetFilterState *filter = NETFILTER(self);
    uint32_t marked = (flags & QEMU_FLAGS) | self->queue << QUEUE_SHIFT;
    FutEngine *engine = self->qvmm->vmm.engine;
    struct iovec piece = { .iov_len = iov_size(iov, count) };
    size_t head = head_of(filter, flags);
    g_autofree uint8_t *data = g_malloc(piece.iov_len + 1);
    bool out = sender != filter->netdev;

    piece.iov_base = data;
    iov_to_buf(iov, count, 0, data, piece.iov_len);
    /* the first bit of virtio's header: the checksum is not complete */
    bool partial = head > 0 && data[0] & VIRTIO_NET_HDR_F_NEEDS_CSUM;
    if (piece.iov_len < head ||
        (out && fut_engine_flow(engine, self->nic, true, head, &piece, 1)) ||
        !fut_identity_change(identity, out ? FUT_END_GUEST : FUT_END_PEER, data + head,
                             piece.iov_len - head, partial) ||
        (!out && fut_engine_flow(engine, self->nic, false, head, &piece, 1))) {
        return;
    }
    if (passes(self, out, marked, &piece, 1)) {
        qemu_netfilter_pass_to_next(sender, flags, &piece, 1, filter);
    }
}

static ssize_t filter_receive(NetFilterState *filter, NetClientState *sender, unsigned flags,
                              const struct iovec *iov, int count, NetPacketSent *sent)
{
    FutQfilter *self = FUT_QFILTER(filter);
    FutEngine *engine = self->qvmm->vmm.engine;
    uint32_t marked = (flags & QEMU_FLAGS) | self->queue << QUEUE_SHIFT;

    if (self->qvmm->standby) {
        /* QEMU would keep it, and the guest would begin with what was broadcast long ago, some of
         * it by itself, before it came to what somebody waits for. */
        return iov_size(iov, count);
    }
    if (!engine) {
        return 0;
    }
    const FutIdentity *identity = fut_engine_identity(engine, self->nic);
    if (G_UNLIKELY(identity)) {
        pass_changed(self, identity, sender, flags, iov, count);
        return iov_size(iov, count);
    }
    bool out = sender != filter->netdev;
    if (fut_engine_flow(engine, self->nic, out, head_of(filter, flags), iov, count)) {
        return iov_size(iov, count);
    }
    return passes(self, out, marked, iov, count) ? 0 : iov_size(iov, count);
}

/* The netdev is removed, or QEMU ends. BQL held. */
static void filter_cleanup(NetFilterState *filter)
{
    FutQfilter *self = FUT_QFILTER(filter);

    if (!self->qvmm) {
        return;
    }
    fut_keeper_take_back(); /* a tap that is still open has a name nobody else can take */
    FutQnet *net = &self->qvmm->net;
    g_mutex_lock(&net->lock);
    g_array_index(net->nics, FutQnic, self->nic).filters[self->queue] = NULL;
    if (self->fd >= 0) {
        close(self->fd);
    }
    g_mutex_unlock(&net->lock);
}

static void filter_class_init(ObjectClass *class, void *data)
{
    NetFilterClass *filter = NETFILTER_CLASS(class);

    filter->receive_iov = filter_receive;
    filter->cleanup = filter_cleanup;
}

void fut_qnet_register(void)
{
    static const TypeInfo filter_type = {
        .name = TYPE_FUT_QFILTER,
        .parent = TYPE_NETFILTER,
        .instance_size = sizeof(FutQfilter),
        .class_init = filter_class_init,
    };

    type_register_static(&filter_type);
}

/* -- attaching -- */

/*
 * A handle for writing packets to a tap without the BQL. What the guest's NIC handed over must be
 * what the tap wants: if the tap wants a header before each packet, only virtio-net makes it; for
 * others QEMU adds it on the way.
 */
static int open_direct(NetClientState *netdev, const char *model)
{
    if (g_strcmp0(NetClientDriver_str(netdev->info->type), "tap") != 0) {
        return -1;
    }
    if (qemu_has_vnet_hdr(netdev) && !g_str_has_prefix(model, "virtio-net")) {
        return -1;
    }
    return fcntl(tap_get_fd(netdev), F_DUPFD_CLOEXEC, 0);
}

static FutQfilter *filter_attach(FutQvmm *qvmm, unsigned nic, unsigned queue,
                                 NetClientState *netdev, const char *model)
{
    FutQfilter *self = FUT_QFILTER(object_new(TYPE_FUT_QFILTER));
    NetFilterState *filter = NETFILTER(self);
    g_autofree char *id = g_strdup_printf("futago-nic%u-queue%u", nic, queue);

    self->qvmm = qvmm;
    self->nic = nic;
    self->queue = queue;
    self->fd = open_direct(netdev, model);
    filter->netdev_id = g_strdup(netdev->name);
    filter->netdev = netdev;
    filter->direction = NET_FILTER_DIRECTION_ALL;
    QTAILQ_INSERT_TAIL(&netdev->filters, filter, next);
    object_property_add_child(object_get_objects_root(), id, OBJECT(self));
    object_unref(OBJECT(self));
    return self;
}

static void nic_attach(NICState *state, void *opaque)
{
    FutQvmm *qvmm = opaque;
    NetClientState *first = qemu_get_queue(state);
    FutQnic nic = { .queues = MAX(state->conf->peers.queues, 1), .model = first->model };
    const uint8_t *mac = state->conf->macaddr.a;

    nic.mac = g_strdup_printf("%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3],
                              mac[4], mac[5]);
    nic.filters = g_new0(FutQfilter *, nic.queues);
    for (unsigned queue = 0; queue < nic.queues; queue++) {
        NetClientState *netdev = qemu_get_subqueue(state, queue)->peer;
        if (netdev) {
            nic.filters[queue] = filter_attach(qvmm, qvmm->net.nics->len, queue, netdev, nic.model);
        }
    }
    g_array_append_val(qvmm->net.nics, nic);
}

/*
 * The main loop is about to wait, with nothing of its own under way but the BQL, which it would let go
 * next: the time to tell the backup of what came in a while ago. Else it does not wait longer than that.
 */
static void main_loop_waits(Notifier *notifier, void *data)
{
    FutQvmm *qvmm = container_of(notifier, FutQvmm, net.waits);
    MainLoopPoll *poll = data;
    FutEngine *engine = qvmm->vmm.engine;

    if (poll->state != MAIN_LOOP_POLL_FILL || !engine) {
        return;
    }
    int wait_ms = fut_engine_inputs_wait_ms(engine);
    if (wait_ms == 0) {
        bql_unlock();
        fut_engine_inputs_given(engine);
        bql_lock();
    } else if (wait_ms > 0) {
        poll->timeout = MIN(poll->timeout, (uint32_t)wait_ms);
    }
}

void fut_qnet_attach(FutQvmm *qvmm)
{
    g_mutex_init(&qvmm->net.lock);
    qvmm->net.nics = g_array_new(FALSE, FALSE, sizeof(FutQnic));
    qemu_foreach_nic(nic_attach, qvmm);
    qvmm->net.waits.notify = main_loop_waits;
    main_loop_poll_add_notifier(&qvmm->net.waits);
}

/*
 * A loaded virtio-net asks its guest at once to announce itself. To a vCPU that has none of the
 * guest's code translated this is some 30 ms of work that nobody waits for, done before the
 * question is answered that somebody does wait for. The switches know the way from what QEMU sends in
 * the guest's name, so the guest's own announcement can come when the first answers are out.
 */
void fut_qnet_quieten(FutQvmm *qvmm)
{
    for (guint i = 0; i < qvmm->virtio->len; i++) {
        Object *object = qvmm->virtio->pdata[i];
        if (!object_dynamic_cast(object, TYPE_VIRTIO_NET)) {
            continue;
        }
        AnnounceTimer *timer = &VIRTIO_NET(object)->announce_timer;
        if (timer->tm && timer->round > 0) {
            timer_mod(timer->tm, qemu_clock_get_ms(timer->type) + GUEST_ANNOUNCES_AFTER_MS);
        }
    }
}

bool fut_qnet_has_header(FutQfilter *filter)
{
    return qemu_has_vnet_hdr(NETFILTER(filter)->netdev);
}

static bool add_input(const FutQnic *nic, unsigned number, unsigned queue, FutInput *ret)
{
    const FutQfilter *self = nic->filters[queue];

    if (!self || self->fd < 0 || !(fcntl(self->fd, F_GETFL) & O_NONBLOCK)) {
        return false;
    }
    *ret = (FutInput){ fcntl(self->fd, F_DUPFD_CLOEXEC, 0), number, queue << QUEUE_SHIFT };
    return ret->fd >= 0;
}

/* A tap that may be written to as it is may be read from so, too. */
unsigned fut_qnet_inputs(FutVmm *vmm, FutInput *ret, unsigned max)
{
    FutQnet *net = &((FutQvmm *)vmm)->net;
    unsigned count = 0;

    g_mutex_lock(&net->lock);
    for (guint i = 0; i < net->nics->len; i++) {
        const FutQnic *nic = &g_array_index(net->nics, FutQnic, i);
        for (unsigned queue = 0; queue < nic->queues && count < max; queue++) {
            count += add_input(nic, i, queue, &ret[count]);
        }
    }
    g_mutex_unlock(&net->lock);
    return count;
}

/* -- passing on -- */

/* NULL if the netdev is gone. Numbers may come from the peer. BQL or net lock held. */
static FutQfilter *filter_of(FutQvmm *qvmm, const FutPacket *packet)
{
    unsigned queue = packet->flags >> QUEUE_SHIFT;

    if (packet->nic >= qvmm->net.nics->len) {
        return NULL;
    }
    FutQnic *nic = &g_array_index(qvmm->net.nics, FutQnic, packet->nic);
    return queue < nic->queues ? nic->filters[queue] : NULL;
}

size_t fut_qnet_head(FutVmm *vmm, uint32_t nic)
{
    const FutPacket packet = { .nic = nic };
    bool taken = fut_qvmm_lock();
    const FutQfilter *self = filter_of((FutQvmm *)vmm, &packet);
    size_t head = self ? head_of(NETFILTER(self), 0) : 0;

    fut_qvmm_unlock(taken);
    return head;
}

/* Net lock held. False: QEMU has to do it. */
static bool write_direct(FutQvmm *qvmm, const FutPacket *packet)
{
    FutQfilter *self = filter_of(qvmm, packet);
    ssize_t written;

    if (!self || self->fd < 0 || (packet->flags & QEMU_FLAGS)) {
        return false;
    }
    NetFilterState *filter = NETFILTER(self);
    if (filter->netdev->link_down || QTAILQ_FIRST(&filter->netdev->filters) != filter) {
        return false;
    }
    do {
        written = write(self->fd, packet->data, packet->length);
    } while (written < 0 && errno == EINTR);
    /* QEMU waits for a tap that is full; with other errors it drops the packet, too. */
    return written >= 0 || errno != EAGAIN;
}

/* BQL held. */
static void pass_on(FutQvmm *qvmm, const FutPacket *packet)
{
    FutQfilter *self = filter_of(qvmm, packet);
    struct iovec iov = { (void *)packet->data, packet->length };

    if (self) {
        NetFilterState *filter = NETFILTER(self);
        qemu_netfilter_pass_to_next(filter->netdev->peer, packet->flags & QEMU_FLAGS, &iov, 1,
                                    filter);
    }
}

/* Returns the first packet that could not be written so. */
static const FutPacket *out_direct(FutQvmm *qvmm, const FutPacket *list)
{
    g_mutex_lock(&qvmm->net.lock);
    while (list && write_direct(qvmm, list)) {
        list = list->next;
    }
    g_mutex_unlock(&qvmm->net.lock);
    return list;
}

void fut_qnet_out(FutVmm *vmm, const FutPacket *list)
{
    FutQvmm *qvmm = (FutQvmm *)vmm;

    list = out_direct(qvmm, list);
    if (!list) {
        return;
    }
    bool taken = fut_qvmm_lock();
    for (; list; list = list->next) {
        pass_on(qvmm, list);
    }
    fut_qvmm_unlock(taken);
}

void fut_qnet_in(FutVmm *vmm, const FutPacket *packet)
{
    FutQvmm *qvmm = (FutQvmm *)vmm;
    struct iovec iov = { (void *)packet->data, packet->length };
    bool taken = fut_qvmm_lock();
    FutQfilter *self = filter_of(qvmm, packet);

    if (self) {
        NetFilterState *filter = NETFILTER(self);
        qemu_netfilter_pass_to_next(filter->netdev, packet->flags & QEMU_FLAGS, &iov, 1, filter);
    }
    fut_qvmm_unlock(taken);
}
