/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Port 7008: failures on demand, one line each. A process of its own does it, and the answer comes when it is dead:
 * "OK <pid> <signal>" (0: it ended by itself), or "ERR <reason>".
 *
 *   SEGV <name> <address>  reads there
 *   KILL <name> <signal>   is sent that signal by this service
 *   EXIT <name>            ends
 *   EAT <name>             takes memory until it is killed
 *   PANIC                  the kernel panics; no answer comes
 *   GETPPID <times>        that many system calls
 */
#include "guest_crash.h"

#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define STEP_BYTES (1 << 20)

static void read_at(long address)
{
    volatile const uint8_t *at = (const uint8_t *)address;

    _exit(*at);
}

static void eat(void)
{
    for (;;) {
        char *memory = malloc(STEP_BYTES);
        if (memory) {
            memset(memory, 1, STEP_BYTES);
        }
    }
}

static void be(const char *deed, long number)
{
    if (strcmp(deed, "SEGV") == 0) {
        read_at(number);
    } else if (strcmp(deed, "EAT") == 0) {
        eat();
    } else if (strcmp(deed, "KILL") == 0) {
        pause();
    }
    _exit(0);
}

/* Its answer, in `ret`. */
static void run_child(const char *deed, const char *name, long number, char *ret, size_t size)
{
    pid_t child = fork();
    int status = 0;

    if (child == 0) {
        prctl(PR_SET_NAME, name);
        signal(SIGTERM, SIG_DFL);
        be(deed, number);
    }
    if (child > 0 && strcmp(deed, "KILL") == 0) {
        usleep(100000); /* it has its name by then */
        kill(child, (int)number);
    }
    if (child < 0 || waitpid(child, &status, 0) != child) {
        snprintf(ret, size, "ERR no process");
    } else {
        snprintf(ret, size, "OK %d %d", child, WIFSIGNALED(status) ? WTERMSIG(status) : 0);
    }
}

static void panic(char *ret, size_t size)
{
    int fd = open("/proc/sysrq-trigger", O_WRONLY);

    snprintf(ret, size, fd < 0 || write(fd, "c", 1) != 1 ? "ERR no sysrq" : "ERR still here");
}

static void obey(const char *line, char *ret, size_t size)
{
    char deed[16], name[16] = "";
    long number = 0;
    int words = sscanf(line, "%15s %15s %li", deed, name, &number);

    if (words == 1 && strcmp(deed, "PANIC") == 0) {
        panic(ret, size);
    } else if (words == 2 && strcmp(deed, "GETPPID") == 0) {
        for (unsigned long left = strtoul(name, NULL, 10); left > 0; left--) {
            syscall(SYS_getppid);
        }
        snprintf(ret, size, "OK");
    } else if (words >= 2) {
        run_child(deed, name, number, ret, size);
    } else {
        snprintf(ret, size, "ERR expected SEGV, KILL, EXIT, EAT, PANIC or GETPPID");
    }
}

void serve_crash(int fd)
{
    char line[128], answer[64];
    FILE *in = fdopen(dup(fd), "r");

    while (in && fgets(line, sizeof(line), in)) {
        obey(line, answer, sizeof(answer));
        dprintf(fd, "%s\n", answer);
    }
    if (in) {
        fclose(in);
    }
}
