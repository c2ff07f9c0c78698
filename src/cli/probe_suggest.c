/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Shipped probes by symptom. */
#include "probe_suggest.h"

#include <string.h>

#include "cli_config.h"
#include "probe_keys.h"

#define SUGGESTED_MAX 8u
#define WORDS_MAX 16u
#define SHORT_WORD 3u /* letters */
/* How much it says that a word was found there. */
#define POINTS_NAME 6
#define POINTS_FUNCTION 4
#define POINTS_ABOUT 3
#define POINTS_MEANS 1

typedef struct {
    char *name, *text; /* owned */
    FutProbeKeys *keys;
    int points;
} Shipped;

static void shipped_free(gpointer data)
{
    Shipped *shipped = data;

    g_free(shipped->name);
    g_free(shipped->text);
    fut_probe_keys_free(shipped->keys);
    g_free(shipped);
}

char *fut_probe_shipped_folder(void)
{
    g_autofree char *self = g_file_read_link("/proc/self/exe", NULL);
    g_autofree char *beside = self ? g_path_get_dirname(self) : g_strdup(".");
    g_autofree char *tree = g_canonicalize_filename("../../../probes", beside);
    g_autofree char *sample = g_build_filename(tree, "segv.probe", NULL);

    return g_strdup(g_file_test(sample, G_FILE_TEST_IS_REGULAR) ? tree : FUT_CLI_PROBES);
}

char *fut_probe_shipped_path(const char *name)
{
    g_autofree char *folder = fut_probe_shipped_folder();
    g_autofree char *file = g_strconcat(name, ".probe", NULL);
    g_autofree char *path = g_build_filename(folder, file, NULL);

    return g_file_test(path, G_FILE_TEST_IS_REGULAR) ? g_steal_pointer(&path) : NULL;
}

/* -- how well one fits -- */

/* A short word, which is in many longer ones, stands for itself; of others a part will do. */
static bool has(const char *text, const char *word)
{
    g_autofree char *lower = g_ascii_strdown(text, -1);
    size_t length = strlen(word);

    for (const char *at = lower; (at = strstr(at, word)); at++) {
        bool whole = (at == lower || !g_ascii_isalnum(at[-1])) && !g_ascii_isalnum(at[length]);
        if (whole || length > SHORT_WORD) {
            return true;
        }
    }
    return false;
}

/* Words that are in every sentence. */
static bool says_nothing(const char *word)
{
    static const char *const words[] = { "a",  "an",  "and", "by",  "for", "has", "in",
                                         "is", "it",  "my",  "no",  "not", "of",  "on",
                                         "or", "the", "to",  "was", "with" };

    for (size_t i = 0; i < G_N_ELEMENTS(words); i++) {
        if (strcmp(words[i], word) == 0) {
            return true;
        }
    }
    return false;
}

/* Names of the functions it stands at; strings owned by the array. */
static GPtrArray *functions_of(const FutProbeKeys *keys)
{
    GPtrArray *names = g_ptr_array_new_with_free_func(g_free);

    for (unsigned i = 0; i < keys->probe_count; i++) {
        const char *begin = strstr(keys->probes[i], "probe:");
        begin = begin ? begin + strlen("probe:") : "";
        size_t length = strspn(begin, G_CSET_A_2_Z G_CSET_a_2_z G_CSET_DIGITS "_");
        if (length > 0) {
            g_ptr_array_add(names, g_strndup(begin, length));
        }
    }
    return names;
}

static bool any_has(const GPtrArray *names, const char *word)
{
    for (guint i = 0; i < names->len; i++) {
        if (has(names->pdata[i], word)) {
            return true;
        }
    }
    return false;
}

static int points_of(const Shipped *shipped, const char *word)
{
    g_autoptr(GPtrArray) functions = functions_of(shipped->keys);

    return (has(shipped->name, word) ? POINTS_NAME : 0) +
           (any_has(functions, word) ? POINTS_FUNCTION : 0) +
           (has(shipped->keys->about, word) ? POINTS_ABOUT : 0) +
           (has(shipped->keys->means, word) || has(shipped->keys->says, word) ? POINTS_MEANS : 0);
}

/* -- all of them -- */

static Shipped *read_one(const char *folder, const char *file)
{
    g_autofree char *path = g_build_filename(folder, file, NULL);
    char *text = NULL;

    if (!g_str_has_suffix(file, ".probe") || !g_file_get_contents(path, &text, NULL, NULL)) {
        return NULL;
    }
    Shipped *shipped = g_new0(Shipped, 1);
    shipped->name = g_strndup(file, strlen(file) - strlen(".probe"));
    shipped->text = text;
    shipped->keys = fut_probe_keys_parse(text, NULL);
    if (!shipped->keys) {
        shipped_free(shipped);
        return NULL;
    }
    return shipped;
}

static GPtrArray *read_all(const char *folder)
{
    GPtrArray *all = g_ptr_array_new_with_free_func(shipped_free);
    g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
    const char *file;

    while (dir && (file = g_dir_read_name(dir))) {
        Shipped *shipped = read_one(folder, file);
        if (shipped) {
            g_ptr_array_add(all, shipped);
        }
    }
    return all;
}

static int best_first(gconstpointer left, gconstpointer right)
{
    const Shipped *a = *(Shipped *const *)left, *b = *(Shipped *const *)right;

    return a->points != b->points ? b->points - a->points : strcmp(a->name, b->name);
}

static void rate(const GPtrArray *all, const char *symptom)
{
    g_autofree char *lower = g_ascii_strdown(symptom, -1);
    g_auto(GStrv) words = g_strsplit_set(lower, " \t\n,;:.!?\"'()", -1);
    unsigned used = 0;

    for (char **word = words; *word && used < WORDS_MAX; word++) {
        if (strlen(*word) < 2 || says_nothing(*word)) {
            continue;
        }
        used++;
        for (guint i = 0; i < all->len; i++) {
            Shipped *shipped = all->pdata[i];
            shipped->points += points_of(shipped, *word);
        }
    }
}

static json_t *describe(const Shipped *shipped)
{
    g_autoptr(GPtrArray) functions = functions_of(shipped->keys);
    json_t *names = json_array();

    for (guint i = 0; i < functions->len; i++) {
        json_array_append_new(names, json_string(functions->pdata[i]));
    }
    return json_pack("{s:s, s:s, s:s, s:s, s:o}", "name", shipped->name, "severity",
                     fut_severity_names[shipped->keys->severity], "scope",
                     fut_scope_names[shipped->keys->scope], "means", shipped->keys->means,
                     "functions", names);
}

json_t *fut_probe_suggest(const char *folder, const char *symptom)
{
    g_autoptr(GPtrArray) all = read_all(folder);
    json_t *found = json_array();

    rate(all, symptom);
    g_ptr_array_sort(all, best_first);
    for (guint i = 0; i < all->len && i < SUGGESTED_MAX; i++) {
        const Shipped *shipped = all->pdata[i];
        if (shipped->points > 0) {
            json_array_append_new(found, describe(shipped));
        }
    }
    return found;
}
