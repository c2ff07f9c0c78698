/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Events that a checkpoint may be cut for and that nothing here has to do with otherwise: what the
 * guest writes to its consoles, and its timers. Packets and disk requests are seen by their filters.
 *
 * Both are seen where QEMU calls a function of the device by a pointer: the pointer is replaced by
 * one to a function that tells the engine and calls QEMU's.
 */
#include "qvmm.h"

#include "fut_error.h"

#include "chardev/char.h"
#include "hw/i386/apic_internal.h"
#include "hw/timer/i8254.h"
#include "hw/timer/i8254_internal.h"

/* -- consoles -- */

typedef struct {
    ChardevClass *class;
    int (*write)(Chardev *chardev, const uint8_t *data, int length);
} ConsoleClass;

/* One a process, as the classes are. Fixed once the guest runs. */
static struct {
    FutQvmm *qvmm;
    GPtrArray *consoles; /* Chardev, borrowed */
    GArray *classes;     /* ConsoleClass */
} watched;

static int console_write(Chardev *chardev, const uint8_t *data, int length)
{
    const ChardevClass *class = CHARDEV_GET_CLASS(chardev);

    if (g_ptr_array_find(watched.consoles, chardev, NULL)) {
        fut_qevent(watched.qvmm, FUT_EVENT_CONSOLE);
    }
    for (guint i = 0; i < watched.classes->len; i++) {
        const ConsoleClass *known = &g_array_index(watched.classes, ConsoleClass, i);
        if (known->class == class) {
            return known->write(chardev, data, length);
        }
    }
    g_assert_not_reached();
}

static void watch_console(Chardev *chardev)
{
    ChardevClass *class = CHARDEV_GET_CLASS(chardev);

    g_ptr_array_add(watched.consoles, chardev);
    if (class->chr_write && class->chr_write != console_write) {
        ConsoleClass known = { class, class->chr_write };
        g_array_append_val(watched.classes, known);
        class->chr_write = console_write;
    }
}

/* A device of the guest with a "chardev": serial ports, virtio consoles. */
static int find_console(Object *object, void *opaque)
{
    if (!object_dynamic_cast(object, TYPE_DEVICE) || !object_property_find(object, "chardev")) {
        return 0;
    }
    g_autofree char *label = object_property_get_str(object, "chardev", NULL);
    Chardev *chardev = label && *label ? qemu_chr_find(label) : NULL;
    if (chardev) {
        watch_console(chardev);
    }
    return 0;
}

/* -- timers -- */

typedef struct {
    QEMUTimerCB *expired;
    void *opaque;
} GuestTimer;

static void guest_timer_expired(void *opaque)
{
    const GuestTimer *timer = opaque;

    fut_qevent(watched.qvmm, FUT_EVENT_TIMER);
    timer->expired(timer->opaque);
}

static void watch_timer(QEMUTimer *timer)
{
    GuestTimer *known = g_new(GuestTimer, 1);

    *known = (GuestTimer){ timer->cb, timer->opaque };
    timer->opaque = known;
    timer->cb = guest_timer_expired;
}

/* *opaque becomes true where a timer is the kernel's. */
static int find_timer(Object *object, void *opaque)
{
    bool *in_kernel = opaque;

    if (object_dynamic_cast(object, TYPE_APIC_COMMON)) {
        QEMUTimer *timer = APIC_COMMON(object)->timer;
        *in_kernel |= !timer;
        if (timer) {
            watch_timer(timer);
        }
    } else if (object_dynamic_cast(object, TYPE_I8254)) {
        watch_timer(PIT_COMMON(object)->channels[0].irq_timer);
    }
    return 0;
}

bool fut_qevents_attach(FutQvmm *qvmm, FutEventSet events, GError **error)
{
    bool in_kernel = false;

    watched.qvmm = qvmm;
    watched.consoles = g_ptr_array_new();
    watched.classes = g_array_new(FALSE, FALSE, sizeof(ConsoleClass));
    if (events & FUT_EVENT_SET(FUT_EVENT_CONSOLE)) {
        object_child_foreach_recursive(object_get_root(), find_console, NULL);
    }
    if (events & FUT_EVENT_SET(FUT_EVENT_TIMER)) {
        object_child_foreach_recursive(object_get_root(), find_timer, &in_kernel);
    }
    if (in_kernel) {
        g_set_error(
            error, FUT_ERROR, FUT_ERR_UNSUPPORTED,
            "events=timer: the guest's timers are in the kernel, out of sight: leave timer out, "
            "or give QEMU -machine kernel-irqchip=off");
        return false;
    }
    return true;
}
