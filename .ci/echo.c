/* echo CLIENTS SECONDS: what the least server costs that answers as many pings as a master does. A thread for each
 * connection reads 242 bytes and sends 49, as often as each of so many processes asks: once in a second. Prints the
 * milliseconds of CPU that the server took in so many seconds. */
#include <arpa/inet.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static void *serve(void *argument) {
    int fd = *(int *)argument;
    char bytes[1024];
    free(argument);
    while (recv(fd, bytes, 242, MSG_WAITALL) == 242 && send(fd, bytes, 49, MSG_NOSIGNAL) == 49) continue;
    return NULL;
}

int main(int count, char **words) {
    int clients = count == 3 ? atoi(words[1]) : 0, seconds = count == 3 ? atoi(words[2]) : 0;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int listening = socket(AF_INET, SOCK_STREAM, 0);
    if (clients < 1 || seconds < 1 || bind(listening, (struct sockaddr *)&address, length) != 0 ||
        listen(listening, clients) != 0 || getsockname(listening, (struct sockaddr *)&address, &length) != 0)
        return 1;
    pid_t server = fork();
    while (server == 0) {
        int *fd = malloc(sizeof *fd);
        pthread_t thread;
        if (!fd || (*fd = accept(listening, NULL, NULL)) < 0 || pthread_create(&thread, NULL, serve, fd) != 0) _exit(1);
    }
    for (int i = 0; i < clients; i++) {
        if (fork() != 0) continue;
        char bytes[242] = "PING";
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        usleep((useconds_t)(1000000LL * i / clients));
        if (connect(fd, (struct sockaddr *)&address, length) != 0) _exit(1);
        for (int k = 0; k < seconds; k++, usleep(1000000))
            if (send(fd, bytes, 242, MSG_NOSIGNAL) != 242 || recv(fd, bytes, 49, MSG_WAITALL) != 49) _exit(1);
        _exit(0);
    }
    struct rusage used;
    int ended, bad = 0;
    for (int i = 0; i < clients; i++) bad += wait(&ended) < 0 || ended != 0;
    kill(server, SIGKILL);
    if (wait4(server, &ended, 0, &used) != server || bad > 0) return 1;
    printf("%ld\n", (used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1000 +
                        (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1000);
    return 0;
}
