/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Preloaded into a process (LD_PRELOAD), moves its clocks as those of its host would be moved: the file that FUT_CLOCK_FILE
 * names holds two int64_t, seconds by which the wall clock and the time since boot are ahead; it may be written at any time. */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

typedef struct {
    volatile int64_t wall_s, boot_s;
} Ahead;

static const Ahead *ahead;
static int (*real_clock_gettime)(clockid_t clock, struct timespec *ts);

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("FUT_CLOCK_FILE");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *at = fd >= 0 ? mmap(NULL, sizeof(Ahead), PROT_READ, MAP_SHARED, fd, 0) : MAP_FAILED;

    if (fd >= 0) {
        close(fd);
    }
    ahead = at == MAP_FAILED ? NULL : at;
}

static int true_time(clockid_t clock, struct timespec *ts)
{
    if (!real_clock_gettime) {
        real_clock_gettime =
            (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    }
    return real_clock_gettime(clock, ts);
}

__attribute__((visibility("default"))) int clock_gettime(clockid_t clock, struct timespec *ts)
{
    int result = true_time(clock, ts);

    if (result == 0 && ahead) {
        ts->tv_sec += clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE ? ahead->wall_s
                      : clock == CLOCK_BOOTTIME                                 ? ahead->boot_s
                                                                                : 0;
    }
    return result;
}

__attribute__((visibility("default"))) int gettimeofday(struct timeval *restrict tv,
                                                        void *restrict zone)
{
    struct timespec ts;

    clock_gettime(CLOCK_REALTIME, &ts);
    *tv = (struct timeval){ ts.tv_sec, ts.tv_nsec / 1000 };
    return 0;
}

__attribute__((visibility("default"))) time_t time(time_t *ret)
{
    struct timespec ts;

    clock_gettime(CLOCK_REALTIME, &ts);
    if (ret) {
        *ret = ts.tv_sec;
    }
    return ts.tv_sec;
}
