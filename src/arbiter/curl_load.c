/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "curl_load.h"

#include <dlfcn.h>
#include <stddef.h>

#include "fut_error.h"

/* QEMU may have loaded it as well: Debian's GnuTLS flavour, which comes first here, too. */
static const char *const libraries[] = { "libcurl-gnutls.so.4", "libcurl.so.4" };

typedef void (*Function)(void);

#define ENTRY(name)                                                                                \
    {                                                                                              \
        "curl_" #name, offsetof(FutCurl, name)                                                     \
    }

static const struct {
    const char *name;
    size_t at;
} functions[] = {
    ENTRY(easy_cleanup), ENTRY(easy_getinfo),   ENTRY(easy_init), ENTRY(easy_perform),
    ENTRY(easy_setopt),  ENTRY(easy_strerror),  ENTRY(free),      ENTRY(global_init),
    ENTRY(slist_append), ENTRY(slist_free_all), ENTRY(url),       ENTRY(url_cleanup),
    ENTRY(url_get),      ENTRY(url_set),
};

static FutCurl curl;
static GMutex lock; /* guards what follows */
static bool loaded;

G_STATIC_ASSERT(sizeof(curl) == G_N_ELEMENTS(functions) * sizeof(Function));

static void *open_any(void)
{
    void *library = NULL;

    for (size_t i = 0; i < G_N_ELEMENTS(libraries) && !library; i++) {
        library = dlopen(libraries[i], RTLD_NOW | RTLD_LOCAL);
    }
    return library;
}

static bool find_all(void *library)
{
    bool good = true;

    for (size_t i = 0; i < G_N_ELEMENTS(functions); i++) {
        Function found = (Function)dlsym(library, functions[i].name);
        *(Function *)((char *)&curl + functions[i].at) = found;
        good &= found != NULL;
    }
    return good;
}

static bool load(GError **error)
{
    void *library = open_any();

    if (!library || !find_all(library)) {
        g_set_error(error, FUT_ERROR, FUT_ERR_UNSUPPORTED,
                    "libcurl cannot be loaded: %s: install libcurl (Debian: libcurl3-gnutls)",
                    dlerror());
        return false;
    }
    if (curl.global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        g_set_error(error, FUT_ERROR, FUT_ERR_IO, "libcurl does not start");
        return false;
    }
    return true;
}

bool fut_curl_load(GError **error)
{
    g_mutex_lock(&lock);
    loaded = loaded || load(error);
    bool good = loaded;
    g_mutex_unlock(&lock);
    return good;
}

const FutCurl *fut_curl(void)
{
    return &curl;
}
