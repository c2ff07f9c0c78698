/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Makes a store of a small VM's snapshots, one an hour, each but the first the difference to the one before: for tests without a VM.
 *
 *   store_make FOLDER COUNT */
#include "store_fixture.h"

#define HOUR_US (3600ull * 1000000)
#define BEGIN_US (1700000000ull * 1000000)

int main(int argc, char **argv)
{
    GError *error = NULL;
    StoreWorld w = { .image = g_new0(Image, 1), .was = g_new0(Image, 1) };

    if (argc != 3) {
        fprintf(stderr, "usage: store_make FOLDER COUNT\n");
        return 2;
    }
    w.store = fut_store_open(argv[1], FUT_STORE_CREATE, &error);
    g_assert_no_error(error);
    for (unsigned i = 0; i < RAM_UNITS; i += 3) {
        image_set(w.image, RAM, i, i + 1);
    }
    for (unsigned n = 0; n < strtoul(argv[2], NULL, 10); n++) {
        store_world_next(&w, n, BEGIN_US + n * HOUR_US);
    }
    fut_store_close(w.store);
    return 0;
}
