/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Saving the device state fast, byte for byte as qemu_save_device_state() does.
 *
 * QEMU walks its descriptions of devices (VMStateDescription) and moves one number a call. Here each
 * description is translated once into a short list of operations over whole ranges of memory
 * (qstate_code.c), which are carried out at each checkpoint (qstate_run.c). The translation depends
 * on the description alone, never on a device's state, so that nothing goes stale: pointers, counts
 * and conditions are looked at each time, QEMU's pre_save functions are called each time, and what
 * cannot be translated is written by QEMU's own functions. What is compared instead of written anew
 * are long tables: their source bytes are kept, and their place in the image.
 *
 * The image is compared with QEMU's own at the first checkpoints and every n-th after (qstate_check.c).
 *
 * All of this runs with the BQL held and the guest stopped.
 */
#ifndef FUT_QSTATE_H
#define FUT_QSTATE_H

#include "qemu_private.h"

#include "vmm.h"

#define FUT_QSTATE_MAX (16u << 20) /* longest image */
#define FUT_QSTATE_PAGES (FUT_QSTATE_MAX >> FUT_PAGE_SHIFT)
#define FUT_QSTATE_SCRATCH 4096 /* room for temporary structures of descriptions */

/* A QEMUFile into memory, used again and again. */
typedef struct {
    QIOChannelBuffer *buffer;
    QEMUFile *file;
} FutQfile;

/* Empties the file; what QEMU's functions write to the result is at fut_qfile_data() afterwards. */
QEMUFile *fut_qfile_begin(FutQfile *file);
/* False: a write failed, the file is closed. */
bool fut_qfile_end(FutQfile *file);
static inline const uint8_t *fut_qfile_data(const FutQfile *file)
{
    return file->buffer->data;
}
static inline size_t fut_qfile_length(const FutQfile *file)
{
    return file->buffer->usage;
}
/* Zeros up to the end of a page, behind what was written. */
bool fut_qfile_pad(FutQfile *file);
void fut_qfile_close(FutQfile *file);

/* -- qstate_code.c -- */

typedef enum {
    FUT_QOP_BYTES,   /* count bytes at offset */
    FUT_QOP_BE16,    /* count numbers at offset */
    FUT_QOP_BE32,    /*   "  */
    FUT_QOP_BE64,    /*   "  */
    FUT_QOP_ZEROS,   /* count zero bytes */
    FUT_QOP_CONST,   /* count bytes of QEMU's stream format */
    FUT_QOP_TIMER,   /* a QEMUTimer */
    FUT_QOP_CALL,    /* pre_save or post_save */
    FUT_QOP_NEEDED,  /* unless needed(): goes on at operation `next` */
    FUT_QOP_EXISTS,  /* unless exists(version): goes on at operation `next` */
    FUT_QOP_DEMAND,  /* unless exists(version): fails */
    FUT_QOP_STRUCTS, /* count structures of stride bytes, each by code */
    FUT_QOP_FIELD,   /* anything else: by its VMStateField */
    FUT_QOP_VIRTIO,  /* virtio_save() */
} FutQopKind;

typedef struct FutQcode FutQcode;

/*
 * Half a cache line: what is read at each checkpoint was driven from the cache by the guest.
 * Offsets are from the opaque pointer of the description.
 */
typedef struct {
    uint16_t kind; /* FutQopKind */
    int16_t version;
    uint32_t offset;
    uint32_t count;
    union {
        uint32_t stride;
        uint32_t next;
        uint32_t type; /* of a FIELD's elements, for fut_qcode_plain() */
    };
    union {
        const uint8_t *bytes;
        int (*call)(void *opaque);
        bool (*needed)(void *opaque);
        bool (*exists)(void *opaque, int version);
        const VMStateField *field;
    };
    const FutQcode *code; /* of a structure */
} FutQop;

QEMU_BUILD_BUG_ON(sizeof(FutQop) != 32);

struct FutQcode {
    FutQop *ops;
    unsigned count;
    /* The result depends on the bytes of the structure alone: no call, no pointer, no condition. */
    bool pure;
};

/* Translations, each made once, one behind the other; they live as long as the process. */
typedef struct {
    GHashTable *codes; /* FutQcodeKey -> FutQcode */
    uint8_t *room;     /* for the next ones */
    size_t room_size;
} FutQcodes;

const FutQcode *fut_qcode_get(FutQcodes *codes, const VMStateDescription *vmsd, int version);
/* Memory beside that of the translations, for good. */
void *fut_qcode_keep(FutQcodes *codes, const void *bytes, size_t length);
/* QEMU's marker, name and version in front of a subsection. Free with g_free. */
uint8_t *fut_qcode_subsection(const VMStateDescription *sub, size_t *ret_length);

#define FUT_QCODE_OTHER 0 /* type of an element that only QEMU's function can write */
uint32_t fut_qcode_type(const VMStateInfo *info);
/* Writing `size` bytes of a type: a range of `count` units, `length` bytes in all. */
void fut_qcode_plain(uint32_t type, size_t size, FutQopKind *ret_kind, unsigned *ret_count,
                     size_t *ret_length);

/* -- qstate_run.c -- */

/* A long table whose source bytes are compared with those of the run before. */
typedef struct {
    const void *op, *source;
    size_t at, length; /* in the image */
    uint64_t number;   /* of the run that wrote it or found it unchanged */
    uint8_t *copy;     /* owned: of the first `kept` bytes, the rest were zero */
    size_t kept, size;
} FutQtable;

typedef struct {
    FutQcodes *codes;
    GHashTable *virtio; /* VirtIODevice -> FutQvirtio */
    FutQfile file;
    uint8_t *image; /* [FUT_QSTATE_MAX], stays from run to run */
    size_t length;
    uint64_t changed[FUT_QSTATE_PAGES / 64]; /* pages written with other bytes, a bit each */
    uint64_t number;
    GArray *tables; /* FutQtable, in the order of their use */
    unsigned table;
    uint64_t puts; /* calls of QEMU's own functions in this run */
    uint8_t scratch[FUT_QSTATE_SCRATCH] __attribute__((aligned(16)));
    size_t scratch_used;
} FutQrun;

void fut_qrun_init(FutQrun *run, FutQcodes *codes);
void fut_qrun_begin(FutQrun *run);
/* After a run that failed, or when the image was changed by others: nothing of it is relied on. */
void fut_qrun_forget(FutQrun *run);
bool fut_qrun_code(FutQrun *run, const FutQcode *code, void *opaque);
/* One of the kinds up to FUT_QOP_ZEROS. */
bool fut_qrun_plain(FutQrun *run, FutQopKind kind, const void *from, size_t count);
bool fut_qrun_bytes(FutQrun *run, const void *bytes, size_t length);
/* Zero bytes that are not written again while they stay where they are. */
bool fut_qrun_zeros(FutQrun *run, const void *key, size_t length);
/* What QEMU's own functions write between the two calls is added to the image. */
static inline QEMUFile *fut_qrun_put(FutQrun *run)
{
    run->puts++;
    return fut_qfile_begin(&run->file);
}
bool fut_qrun_put_done(FutQrun *run);

/* -- qstate_field.c -- */
bool fut_qfield_run(FutQrun *run, const FutQop *op, uint8_t *opaque);

/* -- qstate_virtio.c -- */
bool fut_qvirtio_run(FutQrun *run, VirtIODevice *device);

/* -- qstate_list.c -- */

typedef struct {
    FutQemuEntry *entry;
    void *opaque;                 /* the entry's */
    bool (*needed)(void *opaque); /* its description's, or NULL */
    const FutQcode *code;         /* NULL: old style, by its own function */
    const uint8_t *head;          /* what stands before it in the stream */
    uint16_t head_length;
    bool saved;    /* QEMU saves it, when it is needed */
    bool stock;    /* written by QEMU's functions as a whole, as it was found to differ */
    bool restless; /* QEMU itself saves it differently each time (kvmclock): not compared */
    uint8_t foot[5];
    size_t at; /* in the image; of a section that is not needed: where it would be */
} FutQsection;

/*
 * Finds QEMU's list of sections, such that it explains a stream that QEMU has just written. NULL if
 * there is none. Elements are FutQsection.
 */
/* Searches ahead for what find() and description() look for: tens of ms, once. Any thread, guest running, no lock. */
void fut_qlist_prepare(void);
GArray *fut_qlist_find(FutQcodes *codes, const uint8_t *stream, size_t length,
                       const char **ret_why);
/* The list is still the same. */
bool fut_qlist_same(const GArray *sections);
void fut_qlist_free(GArray *sections);
/* A description that QEMU does not export: "virtio", "virtio_pci", "virtio_mmio". NULL: not found. */
const VMStateDescription *fut_qlist_description(const char *name);

/* -- qstate_check.c -- */
/* The section in which the image first differs from the stream; NULL if that is none of them. */
FutQsection *fut_qcheck_culprit(GArray *sections, const FutQrun *run, const uint8_t *stream,
                                size_t length);

/* -- qstate.c -- */

typedef struct FutQstate {
    FutQrun run;
    FutQcodes codes;
    FutQfile stock;   /* QEMU's own save */
    GArray *sections; /* NULL before the first save */
    bool stock_fresh; /* that is of this stop already */
    bool off;         /* QEMU's own save each time, from now on */
    uint64_t saves;
    size_t known; /* length of the image that was handed out last, 0: it was another one */
    FutStateStats stats;
} FutQstate;

FutQstate *fut_qstate_new(void);
/* Before the first save: touches some of the memory that it will fill, which would take longer than filling it. *touched: 0 at first. False:
 * that was all. */
bool fut_qstate_prepare(FutQstate *state, size_t *touched);
/*
 * The device state. check_every: compare with QEMU's own save every n-th time. False: not possible;
 * fut_qstate_save_stock() has to be used.
 */
bool fut_qstate_save(FutQstate *state, unsigned check_every, FutStateImage *ret);
/* All of it by QEMU's own functions. 0, or QEMU's negative error number. */
int fut_qstate_save_stock(FutQstate *state, FutStateImage *ret);
/* The machine's state was replaced. */
void fut_qstate_forget(FutQstate *state);

#endif
