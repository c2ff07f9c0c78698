/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The probes that come with Futago: where they are, and which of them fit a symptom. */
#ifndef FUT_PROBE_SUGGEST_H
#define FUT_PROBE_SUGGEST_H

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>

/* The folder beside src/cli/futago in the tree that it was built in, else where it was installed. Caller frees. */
char *fut_probe_shipped_folder(void);
/* Path of a shipped probe; NULL: there is none of that name. Caller frees. */
char *fut_probe_shipped_path(const char *name);
/*
 * The shipped probes that fit best, best first, at most eight: [{"name", "severity", "scope", "means", "functions": [...]}], new
 * reference. `symptom`: words; each is looked for in names, functions and what is said about a probe. Files that cannot be read are passed over.
 */
json_t *fut_probe_suggest(const char *folder, const char *symptom);

#endif
