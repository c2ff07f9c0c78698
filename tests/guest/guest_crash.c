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
 *   KEXEC                  the kernel /kernel is started in place of this one, with /initrd and this one's command line; likewise
 *   GETPPID <times>        that many system calls
 *   CALL <name> <number>   makes the system call of that number, without arguments
 *   CLOCK                  "OK <time-stamp counter>"
 *   SERVE <name> <port>    a service there: it answers P with P; on X it reads the counter's low 40 bits as an address that is
 *                          not mapped; "OK <pid> 0" when it listens
 *   LISTEN <name> <port>   listens there and accepts nothing; the answer, "OK <pid> 0", comes when it does
 *   DO <shell command>     in a shell; "OK <pid> <exit status>"
 *   START <shell command>  the same, not waited for: "OK 0 0"
 */
#include "guest_crash.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/reboot.h>
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
    } else if (strcmp(deed, "CALL") == 0) {
        syscall(number, 0, 0, 0, 0, 0, 0);
    } else if (strcmp(deed, "KILL") == 0) {
        pause();
    }
    _exit(0);
}

/* -1: it cannot. */
static int listen_at(long port, int backlog)
{
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;

    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0 && listen(fd, backlog) == 0) {
        return fd;
    }
    close(fd);
    return -1;
}

/* With room for one connection that nobody accepts. */
static void listen_and_sleep(const char *name, long port, int ready_fd)
{
    prctl(PR_SET_NAME, name);
    if (listen_at(port, 0) >= 0 && write(ready_fd, "", 1) == 1) {
        pause();
    }
    _exit(1);
}

/* Its address tells when it happened. */
static void fault_now(void)
{
    read_at(
        (long)(UINT64_C(0x100000000000) + (__builtin_ia32_rdtsc() & ((UINT64_C(1) << 40) - 1))));
}

static void serve_until_told(const char *name, long port, int ready_fd)
{
    int fd = listen_at(port, 16);
    char byte;

    /* One that was told to die a moment ago may still be at it. */
    for (int tries = 0; fd < 0 && tries < 1000; tries++) {
        usleep(5000);
        fd = listen_at(port, 16);
    }
    prctl(PR_SET_NAME, name);
    if (fd < 0 || write(ready_fd, "", 1) != 1) {
        _exit(1);
    }
    for (;;) {
        int one = accept(fd, NULL, NULL);
        if (one >= 0 && read(one, &byte, 1) == 1) {
            if (byte == 'X') {
                fault_now();
            }
            if (write(one, &byte, 1) != 1) {
                _exit(1);
            }
        }
        close(one);
    }
}

static void start_listener(bool serves, const char *name, long port, char *ret, size_t size)
{
    int fds[2];
    char byte;

    if (pipe(fds) < 0) {
        snprintf(ret, size, "ERR no pipe");
        return;
    }
    pid_t child = fork();
    if (child == 0) {
        /* Whose child is nobody's to wait for. */
        if (serves && fork() != 0) {
            _exit(0);
        }
        if (serves) {
            serve_until_told(name, port, fds[1]);
        }
        listen_and_sleep(name, port, fds[1]);
    }
    close(fds[1]);
    bool listens = child > 0 && read(fds[0], &byte, 1) == 1;
    if (serves && child > 0) {
        waitpid(child, NULL, 0);
    }
    close(fds[0]);
    snprintf(ret, size, listens ? "OK %d 0" : "ERR does not listen", child);
}

static void run_shell(const char *command, bool wait_for_it, char *ret, size_t size)
{
    int status = 0;
    pid_t child = fork();

    if (child == 0) {
        /* Whose child's child is nobody's to wait for. */
        if (wait_for_it || fork() == 0) {
            signal(SIGTERM, SIG_DFL);
            execl("/bin/sh", "sh", "-c", command, (char *)NULL);
        }
        _exit(wait_for_it ? 127 : 0);
    }
    if (child < 0 || waitpid(child, &status, 0) != child) {
        snprintf(ret, size, "ERR no process");
    } else {
        snprintf(ret, size, "OK %d %d", wait_for_it ? child : 0, WEXITSTATUS(status));
    }
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

/* What stands in /proc/cmdline, without its line's end. */
static size_t read_command_line(char *ret, size_t size)
{
    int fd = open("/proc/cmdline", O_RDONLY);
    ssize_t length = fd < 0 ? -1 : read(fd, ret, size - 1);

    close(fd);
    while (length > 0 && ret[length - 1] == '\n') {
        length--;
    }
    ret[length < 0 ? 0 : length] = '\0';
    return strlen(ret);
}

static void start_kernel(char *ret, size_t size)
{
    char line[2048];
    size_t length = read_command_line(line, sizeof(line));
    int kernel = open("/kernel", O_RDONLY), initrd = open("/initrd", O_RDONLY);

    if (syscall(SYS_kexec_file_load, kernel, initrd, length + 1, line, 0) < 0) {
        snprintf(ret, size, "ERR kexec_file_load: %s", strerror(errno));
    } else {
        reboot(RB_KEXEC);
        snprintf(ret, size, "ERR still here: %s", strerror(errno));
    }
}

static void obey(const char *line, char *ret, size_t size)
{
    char deed[16] = "", name[16] = "";
    long number = 0;
    int words = sscanf(line, "%15s %15s %li", deed, name, &number);
    bool waits = strcmp(deed, "DO") == 0;

    if (words == 1 && strcmp(deed, "PANIC") == 0) {
        panic(ret, size);
    } else if (words == 1 && strcmp(deed, "KEXEC") == 0) {
        start_kernel(ret, size);
    } else if (words == 1 && strcmp(deed, "CLOCK") == 0) {
        snprintf(ret, size, "OK %llu", (unsigned long long)__builtin_ia32_rdtsc());
    } else if (words == 2 && strcmp(deed, "GETPPID") == 0) {
        for (unsigned long left = strtoul(name, NULL, 10); left > 0; left--) {
            syscall(SYS_getppid);
        }
        snprintf(ret, size, "OK");
    } else if (words >= 2 && (waits || strcmp(deed, "START") == 0)) {
        run_shell(line + strlen(deed) + 1, waits, ret, size);
    } else if (words == 3 && (strcmp(deed, "LISTEN") == 0 || strcmp(deed, "SERVE") == 0)) {
        start_listener(strcmp(deed, "SERVE") == 0, name, number, ret, size);
    } else if (words >= 2) {
        run_child(deed, name, number, ret, size);
    } else {
        snprintf(
            ret, size,
            "ERR expected SEGV, KILL, EXIT, EAT, PANIC, KEXEC, GETPPID, CALL, CLOCK, SERVE, LISTEN, DO or START");
    }
}

void serve_crash(int fd)
{
    char line[512], answer[128];
    FILE *in = fdopen(dup(fd), "r");

    while (in && fgets(line, sizeof(line), in)) {
        obey(line, answer, sizeof(answer));
        dprintf(fd, "%s\n", answer);
    }
    if (in) {
        fclose(in);
    }
}
