/* Lets one system call of a program fail: the Nth one that all its threads make, and if wanted all after it.
 *
 *   failing calls                            which calls may fail, and with which errors: a line CALL ERROR for each
 *   failing count FILE COMMAND...            runs COMMAND; in the end FILE has a line CALL COUNT for each call it made
 *   failing CALL ERROR N[+] FILE COMMAND...  runs COMMAND with the fault; FILE gets the line "hit" when it happens
 *
 * COMMAND keeps this process and its id. The kernel stops it at each such call and asks a second process, which counts
 * and decides (seccomp's user notification); that one ends when the last thread of COMMAND has. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MOST 128
#define CALL(name, ...) {#name, SYS_##name, {__VA_ARGS__}}

/* EINTR and EAGAIN only where the kernel may answer so; none where a failure would mean that the kernel is broken. */
static const struct {
    const char *name;
    int number, errors[4];
} calls[] = {
#ifdef SYS_open
    CALL(open, EIO, EMFILE, ENOSPC),
    CALL(stat, EIO),
    CALL(access, EIO),
    CALL(rename, EIO, ENOSPC),
    CALL(mkdir, EIO, ENOSPC),
    CALL(unlink, EIO),
    CALL(poll, EINTR, ENOMEM),
#endif
    CALL(openat, EIO, EMFILE, ENOSPC),
    CALL(newfstatat, EIO),
    CALL(fstat, EIO),
    CALL(statfs, EIO),
    CALL(fstatfs, EIO),
    CALL(renameat, EIO, ENOSPC),
    CALL(renameat2, EIO, ENOSPC),
    CALL(mkdirat, EIO, ENOSPC),
    CALL(unlinkat, EIO),
    CALL(faccessat, EIO),
    CALL(utimensat, EIO),
    CALL(flock, ENOLCK),
    CALL(read, EIO, EINTR),
    CALL(readv, EIO, EINTR),
    CALL(pread64, EIO, EINTR),
    CALL(preadv, EIO),
    CALL(write, EIO, ENOSPC, EINTR),
    CALL(writev, EIO, ENOSPC, EINTR),
    CALL(pwrite64, EIO, ENOSPC),
    CALL(pwritev, EIO, ENOSPC, EINTR),
    CALL(pwritev2, EIO, ENOSPC),
    CALL(fdatasync, EIO, ENOSPC),
    CALL(fsync, EIO, ENOSPC),
    CALL(ftruncate, EIO),
    CALL(fallocate, ENOSPC, EOPNOTSUPP),
    CALL(fadvise64, EINVAL),
    CALL(sendfile, EIO, EINTR, ECONNRESET),
    CALL(ppoll, EINTR, ENOMEM),
    CALL(pipe2, EMFILE),
    CALL(socket, EMFILE, ENOBUFS),
    CALL(bind, EADDRINUSE),
    CALL(listen, EADDRINUSE),
    CALL(connect, ECONNREFUSED, ENETUNREACH, EINTR),
    CALL(accept4, EMFILE, ECONNABORTED, EINTR),
    CALL(getsockname, ENOBUFS),
    CALL(getsockopt, ENOBUFS),
    CALL(setsockopt, ENOBUFS),
    CALL(recvfrom, ECONNRESET, EINTR, EAGAIN),
    CALL(recvmsg, ECONNRESET, EINTR, EAGAIN),
    CALL(sendto, EPIPE, ECONNRESET, EINTR),
    CALL(sendmsg, EPIPE, ECONNRESET, EINTR, EAGAIN),
    CALL(mmap, ENOMEM),
    CALL(munmap, ENOMEM),
    CALL(mprotect, ENOMEM),
    CALL(madvise, ENOMEM),
    CALL(brk, ENOMEM),
    CALL(clone, EAGAIN),
    CALL(clone3, EAGAIN),
    CALL(getrandom, EINTR),
    CALL(nanosleep, EINTR),
    CALL(clock_nanosleep, EINTR),
};
enum { CALLS = sizeof calls / sizeof *calls };

static const struct {
    const char *name;
    int number;
} errors[] = {
#define E(name) {#name, name}
    E(EIO), E(EMFILE), E(ENOSPC), E(EINTR), E(ENOMEM), E(ENOLCK), E(EOPNOTSUPP), E(EINVAL), E(ECONNRESET), E(ENOBUFS),
    E(EADDRINUSE), E(ECONNREFUSED), E(ENETUNREACH), E(ECONNABORTED), E(EAGAIN), E(EPIPE),
};
enum { ERRORS = sizeof errors / sizeof *errors };

static void fatal(const char *what) {
    fprintf(stderr, "failing: %s: %s\n", what, strerror(errno));
    exit(125);
}

static const char *error_name(int number) {
    for (int i = 0; i < ERRORS; i++)
        if (errors[i].number == number) return errors[i].name;
    return "?";
}

/* Asks the other process about call `chosen`, or about all; returns the descriptor on which it is asked. */
static int filter(int chosen) {
    struct sock_filter code[MOST + 4];
    int used = 0, count = chosen < 0 ? CALLS : 1;
    code[used++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (int i = 0; i < count; i++) {
        unsigned number = (unsigned)calls[chosen < 0 ? i : chosen].number;
        code[used++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, (unsigned char)(count - i), 0);
    }
    code[used++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    code[used++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF);
    struct sock_fprog program = {(unsigned short)used, code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) fatal("no_new_privs");
    return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
}

/* Answers until the last thread of the program has ended. */
static void decide(int listener, int chosen, int error, unsigned long nth, int on, int out) {
    unsigned long count[CALLS] = {0};
    int hit = 0;
    struct seccomp_notif asked;
    struct seccomp_notif_resp answer;
    for (;;) {
        struct pollfd wait = {listener, POLLIN, 0};
        if (poll(&wait, 1, -1) < 0 && errno != EINTR) break;
        if (!(wait.revents & POLLIN)) {
            if (wait.revents & (POLLHUP | POLLERR)) break;
            continue;
        }
        memset(&asked, 0, sizeof asked);
        if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &asked) != 0) continue; /* the thread was killed meanwhile */
        answer = (struct seccomp_notif_resp){.id = asked.id, .flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE};
        int call = 0;
        while (call < CALLS && calls[call].number != asked.data.nr) call++;
        unsigned long now = call < CALLS ? ++count[call] : 0;
        if (call == chosen && (now == nth || (on && now > nth))) {
            answer.flags = 0;
            answer.error = -error;
            if (!hit && write(out, "hit\n", 4) != 4) _exit(125);
            hit = 1;
        }
        ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer);
    }
    if (chosen < 0)
        for (int i = 0; i < CALLS; i++)
            if (count[i] > 0) dprintf(out, "%s %lu\n", calls[i].name, count[i]);
    _exit(0);
}

int main(int argc, char **argv) {
    int chosen = -1, error = 0, on = 0, at = 2;
    unsigned long nth = 0;
    if (argc == 2 && strcmp(argv[1], "calls") == 0) {
        for (int i = 0; i < CALLS; i++)
            for (int k = 0; k < 4 && calls[i].errors[k] != 0; k++)
                printf("%s %s\n", calls[i].name, error_name(calls[i].errors[k]));
        return 0;
    }
    errno = EINVAL;
    if (argc < 4) fatal("see the head of failing.c");
    if (strcmp(argv[1], "count") != 0) {
        if (argc < 6) fatal("see the head of failing.c");
        for (int i = 0; i < CALLS; i++)
            if (strcmp(argv[1], calls[i].name) == 0) chosen = i;
        for (int i = 0; i < ERRORS; i++)
            if (strcmp(argv[2], errors[i].name) == 0) error = errors[i].number;
        char *end;
        nth = strtoul(argv[3], &end, 10);
        on = *end == '+';
        if (chosen < 0 || error == 0 || nth == 0) fatal("CALL, ERROR or N");
        at = 4;
    }
    int out = open(argv[at], O_WRONLY | O_CREAT | O_TRUNC | O_APPEND, 0600);
    int *listener = mmap(NULL, sizeof *listener, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (out < 0 || listener == MAP_FAILED) fatal(argv[at]);
    *(volatile int *)listener = -2;
    /* the other process shares the descriptors until it has the one that the filter comes with: nothing needs to be
     * sent by a call that may be one of those that wait for an answer */
    pid_t parent = getpid();
    long child = syscall(SYS_clone, CLONE_FILES, 0, 0, 0, 0);
    if (child < 0) fatal("clone");
    if (child == 0) {
        prctl(PR_SET_NAME, "failing");
        while (*(volatile int *)listener == -2 && getppid() == parent) usleep(200);
        int mine = *(volatile int *)listener;
        if (mine < 0 || unshare(CLONE_FILES) != 0) _exit(125);
        for (int fd = 0; fd < 1024; fd++)
            if (fd != mine && fd != out) close(fd);
        decide(mine, chosen, error, nth, on, out);
    }
    fcntl(out, F_SETFD, FD_CLOEXEC);
    *(volatile int *)listener = filter(chosen);
    if (*(volatile int *)listener < 0) fatal("seccomp");
    execvp(argv[at + 1], argv + at + 1);
    fatal(argv[at + 1]);
}
