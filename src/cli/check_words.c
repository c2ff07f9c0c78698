/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "check_words.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli.h"

#define IMAGE_BYTES (1024 * 1024 * 1024)

typedef struct {
    FutCheckWords *to;
    GHashTable *sizes; /* of block nodes: name (owned) to bytes (guint64 *, owned) */
} Rewrite;

static void add(Rewrite *rewrite, const char *option, char *take_value)
{
    g_ptr_array_add(rewrite->to->words, g_strdup(option));
    if (take_value) {
        g_ptr_array_add(rewrite->to->words, take_value);
    }
}

static void note(Rewrite *rewrite, const char *format, ...) G_GNUC_PRINTF(2, 3);

static void note(Rewrite *rewrite, const char *format, ...)
{
    va_list list;

    va_start(list, format);
    g_ptr_array_add(rewrite->to->problems, g_strdup_vprintf(format, list));
    va_end(list);
}

/* -- values: "word,key=value,..." with doubled commas, or JSON -- */

static void set_item(json_t *values, const char *item, const char *implied)
{
    const char *equals = strchr(item, '=');

    if (!equals) {
        json_object_set_new(values, implied ? implied : item, json_string(implied ? item : "on"));
        return;
    }
    g_autofree char *key = g_strndup(item, (gsize)(equals - item));
    json_object_set_new(values, key, json_string(equals + 1));
}

/* New reference; what cannot be read is an empty object. `implied`: key of a first word that has none. */
static json_t *parse(const char *text, const char *implied)
{
    g_autoptr(GString) item = g_string_new(NULL);
    json_t *values = *text == '{' ? json_loads(text, 0, NULL) : NULL;
    bool first = true;

    if (json_is_object(values)) {
        return values;
    }
    json_decref(values);
    values = json_object();
    for (const char *at = text;; at++) {
        if (*at == '\0' || (*at == ',' && at[1] != ',')) {
            if (item->len) {
                set_item(values, item->str, first ? implied : NULL);
            }
            g_string_truncate(item, 0);
            first = false;
        } else {
            g_string_append_c(item, *at);
            at += *at == ','; /* the second of a doubled one */
        }
        if (*at == '\0') {
            return values;
        }
    }
}

static bool is_on(const json_t *values, const char *key)
{
    const json_t *value = json_object_get(values, key);
    const char *text = fut_cli_text(values, key);

    return json_is_true(value) || strcmp(text, "on") == 0 || strcmp(text, "yes") == 0;
}

/* "key=value" for each of the keys that is there, after what `text` holds. */
static void keep(GString *text, const json_t *values, const char *const *keys)
{
    for (; *keys; keys++) {
        const char *value = fut_cli_text(values, *keys);
        if (*value) {
            g_auto(GStrv) parts = g_strsplit(value, ",", -1);
            g_autofree char *doubled = g_strjoinv(",,", parts);
            g_string_append_printf(text, "%s%s=%s", text->len ? "," : "", *keys, doubled);
        }
    }
}

/* -- network -- */

static void look_at_netdev(Rewrite *rewrite, const json_t *values)
{
    const char *type = fut_cli_text(values, "type"), *id = fut_cli_text(values, "id");
    const char *name = *id ? id : type;

    if (g_str_has_prefix(type, "vhost-")) {
        note(rewrite, "netdev \"%s\" (%s) moves packets past QEMU: use -netdev tap", name, type);
    } else if (is_on(values, "vhost") || is_on(values, "vhostforce")) {
        note(rewrite, "netdev \"%s\" has vhost=on, which moves packets past QEMU: use vhost=off",
             name);
    }
}

static void rewrite_net(Rewrite *rewrite, const char *option, const char *value)
{
    static const char *const kept[] = { "id", "model", "mac", "addr", NULL };
    json_t *values = parse(value, "type");
    const char *type = fut_cli_text(values, "type");

    look_at_netdev(rewrite, values);
    if (strcmp(type, "none") == 0 || strcmp(type, "nic") == 0) {
        add(rewrite, option, g_strdup(value));
    } else {
        GString *text = g_string_new("user,restrict=on");
        keep(text, values, kept);
        add(rewrite, option, g_string_free(text, FALSE));
    }
    json_decref(values);
}

/* -- disks -- */

static void look_at_format(Rewrite *rewrite, const json_t *values, const char *format)
{
    static const char *const frozen[] = { "vmdk", "vdi",   "vpc",       "vhdx",
                                          "qcow", "bochs", "parallels", "vvfat" };

    for (size_t i = 0; i < G_N_ELEMENTS(frozen); i++) {
        if (strcmp(format, frozen[i]) == 0) {
            const char *node = fut_cli_text(values, "node-name");
            note(rewrite,
                 "disk \"%s\" has format %s, whose state QEMU cannot hand over: convert the image "
                 "to qcow2 or raw",
                 *node ? node : fut_cli_text(values, "id"), format);
        }
    }
}

/* Length of a raw image. Of all others, only that there is one. */
static guint64 image_bytes(Rewrite *rewrite, const char *path, const char *format)
{
    struct stat about;

    if (!*path || strchr(path, ':') || strcmp(path, "/dev/null") == 0) {
        return IMAGE_BYTES;
    }
    if (stat(path, &about) != 0) {
        note(rewrite, "image %s: %s: name one that is there", path, g_strerror(errno));
        return IMAGE_BYTES;
    }
    bool plain = strcmp(format, "raw") == 0 || strcmp(format, "file") == 0;
    return plain && S_ISREG(about.st_mode) ? (guint64)about.st_size : IMAGE_BYTES;
}

static void rewrite_drive(Rewrite *rewrite, const char *option, const char *value)
{
    static const char *const kept[] = { "id",     "if",     "index",    "bus",
                                        "unit",   "media",  "readonly", "read-only",
                                        "werror", "rerror", NULL };
    json_t *values = parse(value, NULL);
    const char *format = fut_cli_text(values, "format");
    const char *path = fut_cli_text(values, "file");
    bool medium = *path || json_object_get(values, "file.filename") ||
                  json_object_get(values, "driver") || json_object_get(values, "file.driver");

    if (!medium) {
        add(rewrite, option, g_strdup(value));
    } else {
        GString *text = g_string_new(NULL);
        path = *path ? path : fut_cli_text(values, "file.filename");
        format = *format ? format : fut_cli_text(values, "driver");
        bool flash = strcmp(fut_cli_text(values, "if"), "pflash") == 0;
        guint64 bytes = image_bytes(rewrite, path, flash && !*format ? "raw" : format);
        look_at_format(rewrite, values, format);
        keep(text, values, kept);
        g_string_append_printf(text,
                               "%sformat=raw,file.driver=null-co,file.size=%" G_GUINT64_FORMAT,
                               text->len ? "," : "", bytes);
        add(rewrite, option, g_string_free(text, FALSE));
    }
    json_decref(values);
}

/* Of the image, or of the node below. */
static guint64 node_bytes(Rewrite *rewrite, const json_t *values, const char *format)
{
    const char *below = fut_cli_text(values, "file");
    const char *path = fut_cli_text(values, "filename");
    const json_t *inner = json_object_get(values, "file");

    if (!*path) {
        path = fut_cli_text(values, "file.filename");
    }
    if (!*path && json_is_object(inner)) {
        path = fut_cli_text(inner, "filename");
    }
    const guint64 *known = *below ? g_hash_table_lookup(rewrite->sizes, below) : NULL;
    if (known) {
        return strcmp(format, "raw") == 0 ? *known : IMAGE_BYTES;
    }
    return image_bytes(rewrite, path, format);
}

static void rewrite_blockdev(Rewrite *rewrite, const char *option, const char *value)
{
    json_t *values = parse(value, "driver");
    const char *format = fut_cli_text(values, "driver"), *node = fut_cli_text(values, "node-name");
    guint64 bytes = node_bytes(rewrite, values, format);

    look_at_format(rewrite, values, format);
    g_hash_table_insert(rewrite->sizes, g_strdup(node), g_memdup2(&bytes, sizeof(bytes)));
    add(rewrite, option,
        g_strdup_printf("null-co,node-name=%s,size=%" G_GUINT64_FORMAT "%s", node, bytes,
                        is_on(values, "read-only") ? ",read-only=on" : ""));
    json_decref(values);
}

/* -hda and its like: a drive in short. */
static void rewrite_short_drive(Rewrite *rewrite, const char *option, const char *value)
{
    static const struct {
        const char *option, *place;
    } places[] = {
        { "-hda", "index=0,media=disk" },    { "-hdb", "index=1,media=disk" },
        { "-hdc", "index=2,media=disk" },    { "-hdd", "index=3,media=disk" },
        { "-cdrom", "index=2,media=cdrom" }, { "-fda", "if=floppy,index=0" },
        { "-fdb", "if=floppy,index=1" },     { "-pflash", "if=pflash,format=raw" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(places); i++) {
        if (strcmp(option, places[i].option) == 0) {
            g_auto(GStrv) parts = g_strsplit(value, ",", -1);
            g_autofree char *doubled = g_strjoinv(",,", parts);
            g_autofree char *drive = g_strdup_printf("%s,file=%s", places[i].place, doubled);
            rewrite_drive(rewrite, "-drive", drive);
        }
    }
}

/* -- devices and objects -- */

static void rewrite_device(Rewrite *rewrite, const char *option, const char *value)
{
    static const char *const passing_by[] = { "vfio-",      "vhost-",       "x-vfio-", "pci-assign",
                                              "scsi-block", "scsi-generic", "usb-host" };
    json_t *values = parse(value, "driver");
    const char *type = fut_cli_text(values, "driver"), *id = fut_cli_text(values, "id");
    bool past = false;

    for (size_t i = 0; i < G_N_ELEMENTS(passing_by); i++) {
        past = past || g_str_has_prefix(type, passing_by[i]);
    }
    if (past) {
        note(rewrite,
             "device \"%s\" (%s) works past QEMU and cannot be protected: use an emulated or "
             "virtio device",
             *id ? id : type, type);
    } else {
        add(rewrite, option, g_strdup(value));
    }
    json_decref(values);
}

static void rewrite_object(Rewrite *rewrite, const char *option, const char *value)
{
    static const char *const left_out[] = { "secret",    "tls-",   "filter-", "authz-",
                                            "throttle-", "input-", "colo-" };
    static const char *const kept[] = { "id", "size", NULL };
    json_t *values = parse(value, "qom-type");
    const char *type = fut_cli_text(values, "qom-type");
    bool out = false;

    for (size_t i = 0; i < G_N_ELEMENTS(left_out); i++) {
        out = out || g_str_has_prefix(type, left_out[i]);
    }
    if (g_str_has_prefix(type, "memory-backend-")) {
        GString *text = g_string_new("memory-backend-ram");
        const json_t *size = json_object_get(values, "size");
        keep(text, values, kept);
        if (json_is_integer(size)) {
            g_string_append_printf(text, ",size=%" JSON_INTEGER_FORMAT, json_integer_value(size));
        }
        add(rewrite, option, g_string_free(text, FALSE));
    } else if (!out) {
        add(rewrite, option, g_strdup(value));
    }
    json_decref(values);
}

/* -- consoles -- */

static void rewrite_chardev(Rewrite *rewrite, const char *option, const char *value)
{
    json_t *values = parse(value, "backend");

    add(rewrite, option,
        g_strdup_printf("null,id=%s%s", fut_cli_text(values, "id"),
                        is_on(values, "mux") ? ",mux=on" : ""));
    json_decref(values);
}

static void rewrite_serial(Rewrite *rewrite, const char *option, const char *value)
{
    bool plain = g_str_has_prefix(value, "chardev:") || strcmp(value, "none") == 0;

    add(rewrite, option, g_strdup(plain ? value : "null"));
}

static void rewrite_audio(Rewrite *rewrite, const char *option, const char *value)
{
    json_t *values = parse(value, "driver");

    add(rewrite, option, g_strdup_printf("none,id=%s", fut_cli_text(values, "id")));
    json_decref(values);
}

static void leave_out(Rewrite *rewrite, const char *option, const char *value)
{
}

static void refuse_incoming(Rewrite *rewrite, const char *option, const char *value)
{
    note(rewrite, "-incoming and futago exclude each other: leave out -incoming");
}

static void refuse_readconfig(Rewrite *rewrite, const char *option, const char *value)
{
    note(rewrite, "-readconfig %s is not looked into: put what it says on the command line", value);
}

/* What is not named here stays as it is. */
static const struct {
    const char *option;
    bool alone; /* takes no value */
    void (*rewrite)(Rewrite *rewrite, const char *option, const char *value);
} rules[] = {
    { "-netdev", false, rewrite_net },
    { "-nic", false, rewrite_net },
    { "-net", false, rewrite_net },
    { "-drive", false, rewrite_drive },
    { "-blockdev", false, rewrite_blockdev },
    { "-hda", false, rewrite_short_drive },
    { "-hdb", false, rewrite_short_drive },
    { "-hdc", false, rewrite_short_drive },
    { "-hdd", false, rewrite_short_drive },
    { "-cdrom", false, rewrite_short_drive },
    { "-fda", false, rewrite_short_drive },
    { "-fdb", false, rewrite_short_drive },
    { "-pflash", false, rewrite_short_drive },
    { "-device", false, rewrite_device },
    { "-object", false, rewrite_object },
    { "-chardev", false, rewrite_chardev },
    { "-serial", false, rewrite_serial },
    { "-parallel", false, rewrite_serial },
    { "-debugcon", false, rewrite_serial },
    { "-audiodev", false, rewrite_audio },
    { "-incoming", false, refuse_incoming },
    { "-readconfig", false, refuse_readconfig },
    { "-monitor", false, leave_out },
    { "-qmp", false, leave_out },
    { "-qmp-pretty", false, leave_out },
    { "-mon", false, leave_out },
    { "-vnc", false, leave_out },
    { "-spice", false, leave_out },
    { "-display", false, leave_out },
    { "-pidfile", false, leave_out },
    { "-D", false, leave_out },
    { "-d", false, leave_out },
    { "-trace", false, leave_out },
    { "-gdb", false, leave_out },
    { "-runas", false, leave_out },
    { "-chroot", false, leave_out },
    { "-sandbox", false, leave_out },
    { "-plugin", false, leave_out },
    { "-loadvm", false, leave_out },
    { "-mem-path", false, leave_out },
    { "-daemonize", true, leave_out },
    { "-mem-prealloc", true, leave_out },
    { "-nographic", true, leave_out },
    { "-preconfig", true, leave_out },
    { "-snapshot", true, leave_out },
    { "-S", true, leave_out },
    { "-s", true, leave_out },
};

/* Rewrites the word at argv[0]; returns how many words were taken. */
static size_t take(Rewrite *rewrite, char *const *argv)
{
    const char *word = argv[0] + (g_str_has_prefix(argv[0], "--") ? 1 : 0);

    for (size_t i = 0; i < G_N_ELEMENTS(rules); i++) {
        if (strcmp(word, rules[i].option) == 0 && (rules[i].alone || argv[1])) {
            rules[i].rewrite(rewrite, rules[i].option, rules[i].alone ? NULL : argv[1]);
            return rules[i].alone ? 1 : 2;
        }
    }
    add(rewrite, argv[0], NULL);
    return 1;
}

void fut_check_words_init(FutCheckWords *check, char *const *argv)
{
    Rewrite rewrite = { .to = check };

    check->words = g_ptr_array_new_with_free_func(g_free);
    check->problems = g_ptr_array_new_with_free_func(g_free);
    rewrite.sizes = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    add(&rewrite, argv[0], NULL);
    for (argv++; *argv;) {
        argv += take(&rewrite, argv);
    }
    g_hash_table_unref(rewrite.sizes);
}

void fut_check_words_done(FutCheckWords *check)
{
    g_ptr_array_unref(check->words);
    g_ptr_array_unref(check->problems);
}
