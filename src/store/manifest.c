/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "manifest.h"

#include <errno.h>
#include <string.h>
#include <xxhash.h>

#include "byteorder.h"
#include "fut_error.h"

char *fut_manifest_name(uint64_t id)
{
    return g_strdup_printf("%010" G_GUINT64_FORMAT FUT_SNAP_SUFFIX, id);
}

bool fut_manifest_parse_name(const char *name, uint64_t *ret_id)
{
    char *end;
    uint64_t id = g_ascii_strtoull(name, &end, 10);
    g_autofree char *good = fut_manifest_name(id);

    *ret_id = id;
    return id > 0 && strcmp(name, good) == 0;
}

/* -- writing -- */

static void put_field(FutBuf *buf, uint32_t tag, const void *bytes, size_t length)
{
    uint8_t *head = fut_buf_extend(buf, 8);

    fut_put_le32(head, tag);
    fut_put_le32(head + 4, (uint32_t)length);
    fut_buf_append(buf, bytes, length);
}

static void put_number(FutBuf *buf, uint32_t tag, uint64_t value)
{
    uint8_t bytes[8];

    fut_put_le64(bytes, value);
    put_field(buf, tag, bytes, sizeof(bytes));
}

static void put_text(FutBuf *buf, uint32_t tag, const char *text)
{
    put_field(buf, tag, text, strlen(text));
}

static void put_area(FutBuf *buf, const FutArea *area)
{
    size_t length = strlen(area->name);
    g_autofree uint8_t *bytes = g_malloc0(A_NAME + length);

    fut_put_le32(bytes + A_KIND, area->kind);
    fut_put_le64(bytes + A_LENGTH, area->length);
    fut_put_le64(bytes + A_ROOT, area->root);
    fut_put_le64(bytes + A_PUT, area->put_units);
    memcpy(bytes + A_NAME, area->name, length);
    put_field(buf, FUT_FIELD_AREA, bytes, A_NAME + length);
}

static void put_bytes(FutBuf *buf, uint32_t tag, GBytes *bytes)
{
    if (bytes) {
        gsize length;
        const void *data = g_bytes_get_data(bytes, &length);
        put_field(buf, tag, data, length);
    }
}

static void put_fields(FutBuf *buf, const FutSnapshotInfo *info)
{
    put_number(buf, FUT_FIELD_PARENT, info->parent);
    put_number(buf, FUT_FIELD_TIME, info->time_us);
    put_number(buf, FUT_FIELD_STOP, info->stop_ns);
    put_number(buf, FUT_FIELD_TOOK, info->took_ns);
    put_number(buf, FUT_FIELD_HASH, info->memory_hash);
    put_number(buf, FUT_FIELD_STORED, info->stored);
    put_text(buf, FUT_FIELD_VM, info->vm);
    put_text(buf, FUT_FIELD_REASON, info->reason);
    for (char **word = info->command; *word; word++) {
        put_text(buf, FUT_FIELD_COMMAND, *word);
    }
    for (char **line = info->fingerprint; *line; line++) {
        put_text(buf, FUT_FIELD_FINGERPRINT, *line);
    }
    put_bytes(buf, FUT_FIELD_FLOWS, info->flows);
    put_bytes(buf, FUT_FIELD_HOT, info->hot);
    put_bytes(buf, FUT_FIELD_CODE, info->code);
    for (guint i = 0; i < info->areas->len; i++) {
        put_area(buf, info->areas->pdata[i]);
    }
}

void fut_manifest_encode(FutBuf *buf, const FutSnapshotInfo *info, const FutStoreIdentity *identity)
{
    size_t at = buf->len;

    memset(fut_buf_extend(buf, M_SIZE), 0, M_SIZE);
    put_fields(buf, info);
    uint8_t *head = buf->data + at;
    size_t length = buf->len - at - M_SIZE;
    memcpy(head + M_MAGIC, "FUTSNAP1", 8);
    fut_put_le32(head + M_VERSION, FUT_STORE_VERSION);
    fut_put_le32(head + M_LENGTH, (uint32_t)length);
    memcpy(head + M_ID, identity->id, sizeof(identity->id));
    fut_put_le64(head + M_SNAPSHOT, info->id);
    fut_put_le64(head + M_FIELDS_CHECK, XXH3_64bits(head + M_SIZE, length));
    fut_put_le64(head + M_CHECKSUM, XXH3_64bits(head, M_CHECKSUM));
}

bool fut_store_put_file(FutStoreFs *fs, const char *name, const uint8_t *bytes, size_t length,
                        GError **error)
{
    g_autofree char *tmp = g_strconcat(name, FUT_TMP_SUFFIX, NULL);
    int file;

    int code = fs->ops->create(fs, tmp, &file);
    if (code == 0) {
        code = fs->ops->write(fs, file, bytes, length, 0);
        code = code ? code : fs->ops->sync(fs, file);
        fs->ops->close(fs, file);
        code = code ? code : fs->ops->rename(fs, tmp, name);
        if (code) {
            fs->ops->remove(fs, tmp);
        }
        code = code ? code : fs->ops->sync_folder(fs);
    }
    return code == 0 || fut_store_fs_fail(fs, "write", name, code, error);
}

bool fut_manifest_write(FutStoreFs *fs, const FutSnapshotInfo *info,
                        const FutStoreIdentity *identity, GError **error)
{
    g_autofree char *name = fut_manifest_name(info->id);
    FutBuf buf = { 0 };

    fut_manifest_encode(&buf, info, identity);
    bool good = fut_store_put_file(fs, name, buf.data, buf.len, error);
    if (!good) {
        fs->ops->remove(fs, name); /* it may be there, and not durable */
    }
    fut_buf_done(&buf);
    return good;
}

/* -- reading -- */

typedef struct {
    FutSnapshotInfo *info;
    GPtrArray *command, *fingerprint;
    const char *fault; /* NULL: none */
} Decoding;

/* NULL: there is a zero in it. */
static char *take_text(const uint8_t *bytes, uint32_t length)
{
    return memchr(bytes, 0, length) ? NULL : g_strndup((const char *)bytes, length);
}

static void take_area(Decoding *d, const uint8_t *bytes, uint32_t length)
{
    char *name = length >= A_NAME ? take_text(bytes + A_NAME, length - A_NAME) : NULL;

    if (!name || fut_get_le32(bytes + A_KIND) > FUT_AREA_STATE ||
        fut_get_le64(bytes + A_LENGTH) > FUT_STORE_AREA_MAX ||
        d->info->areas->len == FUT_STORE_AREAS_MAX ||
        fut_snapshot_info_area(d->info, (FutAreaKind)fut_get_le32(bytes + A_KIND), name, NULL)) {
        d->fault = "an impossible area";
    } else {
        unsigned number = fut_snapshot_info_add(d->info, (FutAreaKind)fut_get_le32(bytes + A_KIND),
                                                name, fut_get_le64(bytes + A_LENGTH));
        FutArea *area = d->info->areas->pdata[number];
        area->root = fut_get_le64(bytes + A_ROOT);
        area->put_units = fut_get_le64(bytes + A_PUT);
    }
    g_free(name);
}

static void take_number(Decoding *d, uint32_t tag, const uint8_t *bytes, uint32_t length)
{
    FutSnapshotInfo *info = d->info;
    uint64_t *const numbers[] = {
        [FUT_FIELD_PARENT] = &info->parent,    [FUT_FIELD_TIME] = &info->time_us,
        [FUT_FIELD_STOP] = &info->stop_ns,     [FUT_FIELD_TOOK] = &info->took_ns,
        [FUT_FIELD_HASH] = &info->memory_hash, [FUT_FIELD_STORED] = &info->stored
    };

    if (length == 8) {
        *numbers[tag] = fut_get_le64(bytes);
    } else {
        d->fault = "a number of another size";
    }
}

static void take_word(Decoding *d, uint32_t tag, const uint8_t *bytes, uint32_t length)
{
    char *text = take_text(bytes, length);
    GPtrArray *list = tag == FUT_FIELD_COMMAND ? d->command : d->fingerprint;

    if (!text || list->len >= FUT_MANIFEST_LIST_MAX) {
        d->fault = "an impossible text";
        g_free(text);
    } else if (tag == FUT_FIELD_VM || tag == FUT_FIELD_REASON) {
        char **where = tag == FUT_FIELD_VM ? &d->info->vm : &d->info->reason;
        g_free(*where);
        *where = text;
    } else {
        g_ptr_array_add(list, text);
    }
}

static void take_flows(Decoding *d, const uint8_t *bytes, uint32_t length)
{
    if (d->info->flows || length > FUT_STORE_FLOWS_MAX) {
        d->fault = "an impossible list of connections";
    } else {
        d->info->flows = g_bytes_new(bytes, length);
    }
}

/* What it says is a hint: a list that cannot be is none. */
static void take_hint(GBytes **where, const uint8_t *bytes, uint32_t length, uint32_t max)
{
    if (!*where && length <= max) {
        *where = g_bytes_new(bytes, length);
    }
}

static void take_field(Decoding *d, uint32_t tag, const uint8_t *bytes, uint32_t length)
{
    if (tag >= FUT_FIELD_PARENT && tag <= FUT_FIELD_STORED) {
        take_number(d, tag, bytes, length);
    } else if (tag >= FUT_FIELD_VM && tag <= FUT_FIELD_FINGERPRINT) {
        take_word(d, tag, bytes, length);
    } else if (tag == FUT_FIELD_FLOWS) {
        take_flows(d, bytes, length);
    } else if (tag == FUT_FIELD_HOT) {
        take_hint(&d->info->hot, bytes, length, FUT_STORE_HOT_MAX);
    } else if (tag == FUT_FIELD_CODE) {
        take_hint(&d->info->code, bytes, length, FUT_STORE_CODE_MAX);
    } else if (tag == (uint32_t)FUT_FIELD_AREA) {
        take_area(d, bytes, length);
    } else if (tag & FUT_FIELD_NEEDED) {
        d->fault = "something that only a later Futago knows";
    }
}

static void take_fields(Decoding *d, const uint8_t *bytes, size_t length)
{
    size_t at = 0;

    while (at < length && !d->fault) {
        uint32_t size = length - at >= 8 ? fut_get_le32(bytes + at + 4) : 0;
        if (length - at < 8 || length - at - 8 < size) {
            d->fault = "a field that goes beyond its end";
            return;
        }
        take_field(d, fut_get_le32(bytes + at), bytes + at + 8, size);
        at += 8 + size;
    }
}

static char **to_vector(GPtrArray *take_list)
{
    g_ptr_array_add(take_list, NULL);
    return (char **)g_ptr_array_free(take_list, FALSE);
}

static FutSnapshotInfo *decode_fields(const uint8_t *bytes, size_t length, uint64_t id,
                                      GError **error)
{
    Decoding d = { fut_snapshot_info_new(), g_ptr_array_new(), g_ptr_array_new(), NULL };

    take_fields(&d, bytes, length);
    g_strfreev(d.info->command);
    g_strfreev(d.info->fingerprint);
    d.info->command = to_vector(d.command);
    d.info->fingerprint = to_vector(d.fingerprint);
    d.info->id = id;
    if (d.fault) {
        g_set_error(error, FUT_ERROR, FUT_ERR_IO, "is damaged: it has %s", d.fault);
        g_clear_pointer(&d.info, fut_snapshot_info_free);
    }
    return d.info;
}

static const char *judge_head(const uint8_t *bytes, size_t length, uint64_t id,
                              const FutStoreIdentity *identity)
{
    if (length < M_SIZE || memcmp(bytes + M_MAGIC, "FUTSNAP1", 8) != 0 ||
        fut_get_le64(bytes + M_CHECKSUM) != XXH3_64bits(bytes, M_CHECKSUM)) {
        return "its head does not hold";
    }
    if (memcmp(bytes + M_ID, identity->id, sizeof(identity->id)) != 0) {
        return "it is of another store";
    }
    if (fut_get_le64(bytes + M_SNAPSHOT) != id) {
        return "it is not the file of that name";
    }
    if (fut_get_le32(bytes + M_LENGTH) != length - M_SIZE ||
        fut_get_le64(bytes + M_FIELDS_CHECK) != XXH3_64bits(bytes + M_SIZE, length - M_SIZE)) {
        return "its fields do not hold";
    }
    return NULL;
}

FutSnapshotInfo *fut_manifest_decode(const uint8_t *bytes, size_t length, uint64_t id,
                                     const FutStoreIdentity *identity, GError **error)
{
    const char *fault = judge_head(bytes, length, id, identity);

    if (fault) {
        g_set_error(error, FUT_ERROR, FUT_ERR_IO, "is damaged: %s", fault);
        return NULL;
    }
    if (fut_get_le32(bytes + M_VERSION) != FUT_STORE_VERSION) {
        g_set_error(error, FUT_ERROR, FUT_ERR_UNSUPPORTED,
                    "has version %u: this Futago knows version %u", fut_get_le32(bytes + M_VERSION),
                    FUT_STORE_VERSION);
        return NULL;
    }
    return decode_fields(bytes + M_SIZE, length - M_SIZE, id, error);
}

/* The file's bytes; 0 or errno. */
static int read_all(FutStoreFs *fs, const char *name, uint8_t **ret_bytes, size_t *ret_length)
{
    uint64_t length;
    int file;

    int code = fs->ops->open(fs, name, &file);
    if (code) {
        return code;
    }
    code = fs->ops->size(fs, file, &length);
    if (code == 0 && length > FUT_MANIFEST_MAX) {
        code = EFBIG;
    }
    if (code == 0) {
        *ret_bytes = g_malloc(length + 1);
        *ret_length = length;
        code = fs->ops->read(fs, file, *ret_bytes, length, 0);
    }
    fs->ops->close(fs, file);
    return code;
}

FutSnapshotInfo *fut_manifest_read(FutStoreFs *fs, uint64_t id, const FutStoreIdentity *identity,
                                   GError **error)
{
    g_autofree char *name = fut_manifest_name(id);
    g_autofree uint8_t *bytes = NULL;
    size_t length = 0;

    int code = read_all(fs, name, &bytes, &length);
    if (code == ENOENT) {
        g_set_error(error, FUT_ERROR, FUT_ERR_STATE,
                    "there is no snapshot %" G_GUINT64_FORMAT " in %s", id, fs->path);
        return NULL;
    }
    if (code) {
        fut_store_fs_fail(fs, "read", name, code, error);
        return NULL;
    }
    FutSnapshotInfo *info = fut_manifest_decode(bytes, length, id, identity, error);
    if (!info) {
        g_prefix_error(error, "%s/%s ", fs->path, name);
    }
    return info;
}
