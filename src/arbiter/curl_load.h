/* SPDX-License-Identifier: GPL-2.0-or-later */
/* libcurl, loaded when it is wanted first: it brings two dozen libraries, which a program that asks no etcd would load at each start. */
#ifndef FUT_CURL_LOAD_H
#define FUT_CURL_LOAD_H

#include <curl/curl.h>
#include <glib.h>
#include <stdbool.h>

/* libcurl's functions without "curl_". */
typedef struct {
    __typeof__(&curl_easy_cleanup) easy_cleanup;
    __typeof__(&curl_easy_getinfo) easy_getinfo;
    __typeof__(&curl_easy_init) easy_init;
    __typeof__(&curl_easy_perform) easy_perform;
    __typeof__(&curl_easy_setopt) easy_setopt;
    __typeof__(&curl_easy_strerror) easy_strerror;
    __typeof__(&curl_free) free;
    __typeof__(&curl_global_init) global_init;
    __typeof__(&curl_slist_append) slist_append;
    __typeof__(&curl_slist_free_all) slist_free_all;
    __typeof__(&curl_url) url;
    __typeof__(&curl_url_cleanup) url_cleanup;
    __typeof__(&curl_url_get) url_get;
    __typeof__(&curl_url_set) url_set;
} FutCurl;

/* Any thread, any number of times; it stays loaded. FUT_ERR_UNSUPPORTED: it is not there. */
bool fut_curl_load(GError **error);
/* Only after fut_curl_load() was true. */
const FutCurl *fut_curl(void);

#endif
