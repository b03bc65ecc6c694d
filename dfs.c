/* dfs: a distributed file store in one C file and one static binary.
 *
 * A master orders all changes and keeps nothing on disk; nodes keep everything: contents, named by their SHA-256, and
 * the records of the namespace, in one append-only log each. Acknowledged means: the name is on disk on every node of
 * the roster, the bytes on two of them. docs/ARCHITECTURE.md explains how, docs/PROTOCOL.md shows every line,
 * docs/HTTP.md what browsers and scripts get on the same port.
 *
 *   build    make                              or: gcc -O2 -static dfs.c -o dfs -pthread
 *   try      make demo                         a master and three nodes on this machine
 *   test     make test, make dev, make tsan    ./test.sh NAME runs one test; make tidy checks the rules of style
 *   fuzz     clang -g -O1 -fsanitize=fuzzer,address,undefined -DDFS_FUZZ dfs.c -o dfs-fuzz -pthread && ./dfs-fuzz
 *   bench    dfs --bench up|down --files 10000 --size 1K --clients 16
 *
 * The file reads bottom up: a section calls only what stands above it.
 *
 *    1. Limits      every cap, default and size; the error table
 *    2. Base        log, memory, clocks, random numbers, the text of the last error
 *    3. Text        growing strings, tokens, strict numbers, escaping, paths
 *    4. System      system calls on files behind names of their own, with faults for tests
 *    5. Threads     ranked locks, conditions, threads, the pool of chunk buffers
 *    6. Net         names to addresses, connections, lines with a MAC, the mutual challenge
 *    7. Protocol    requests and replies, command tables, the dispatcher, the accept loop
 *    8. Tree        the namespace and all else that records change; master and nodes share it
 *    9. Store       a node's log on disk: append, sync in groups, index, space, scrubbing, recovery
 *   10. Placement   who gets a chunk, who copies to whom, how many of a roster are enough
 *   11. Client      calls with retry, upload, download
 *   12. Node        a node's handlers, its link to the master, its reports
 *   13. Master      a master's handlers, take-over, roster, commit, copies, drops, trash
 *   14. Answers     what the cluster says, in JSON
 *   15. HTTP        the same port for browsers and scripts: files, JSON, the page
 *   16. Viewer      the live screen of dfs -v
 *   17. Commands    options, help, one function for each thing that a user can ask
 *   18. Bench       many clients at once
 *   19. Self-test   what clang's fuzzer calls, under #ifdef DFS_FUZZ
 *   20. main        options to commands
 *
 * Threads. All are detached and end with the process, but where it says otherwise.
 *
 *   who           started by           how many             what it may touch, how it ends
 *   accept loop   main                 1 in a server        nothing that is shared; ends on SIGTERM or SIGINT
 *   connection    accept loop          1 per connection     what its handlers lock; waits a while for another one
 *   keeper        node_main            1 in a node          the store: closes full segments
 *   link          node_main            1 per master         node.lock: joins a master and pings it
 *   reporter      node_main            1 in a node          node.reports: tells the master what is on disk
 *   tidy          node_main            1 in a node          node.lock, the store: makes holes, checkpoints, rewrites
 *   scrub         node_main            1 in a node          the store: reads everything again
 *   reign         master_main          1 in a master        master.lock: take-over, who is dead, the roster
 *   planner       master_main          1 in a master        master.lock: orders copies
 *   stream        peer_make            1 per node           master.lock, one connection: sends records to the node
 *   copier        peer_make            2 per node           master.lock: has the node fetch chunks, and waits
 *   transfer      upload_once,         4 per transfer       upload.lock, download.lock; joined
 *                 client_download
 *   drawer        progress_begin       1 on a terminal      progress.lock: draws the bar; joined
 *   crew          crew_run             16 per folder        crew.lock; takes files to move, joined
 *   (HTTP)        the thread of the connection serves it; an upload has transfer threads, joined
 *   fetch, act    viewer_work          1 each               view.lock; end with the process
 *   bench         cmd_bench            --clients            its own files; joined
 *
 * Locks, in the order of their ranks. A thread that holds one takes only those of higher rank; lock_take ends the
 * program at once if not. No lock is held across the network, and none across a sync but where its head says so.
 *
 *   rank           lock                              guards
 *   RANK_CLUSTER   master.lock, node.lock            the tree, the roster, peers, promises; one of them per process
 *   RANK_STORE     store.lock                        segments, the index, sync rounds
 *   RANK_REPORTS   node.reports_lock                 what the master is to be told
 *   RANK_POOL      pool.lock                         idle connections
 *   RANK_TRANSFER  client.lock, upload.lock, ...     one upload or download and its threads
 *   RANK_BUFFERS   buffers.lock                      chunk buffers
 *   RANK_SCREEN    progress.lock                     who writes to the terminal
 */
#define _GNU_SOURCE
#define _FILE_OFFSET_BITS 64 /* on 32-bit machines too */
#define _TIME_BITS 64
#include <arpa/inet.h>
#include <assert.h>
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <inttypes.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "vendor/json.h"
#include "vendor/sha256.h"

#ifdef NDEBUG
#error "assertions stay on: do not define NDEBUG"
#endif

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

/* ======== 1. Limits ======== */
/* Every cap, default and size has its name here, with its unit last; the error table; assertions between limits.
 * Whatever a peer or a file declares is held against one of these before anything is allocated or waited for. */

#define DFS_VERSION "0.1.0"
#define DFS_DATE "2026-11-25" /* of that version, for the manual page */
#define UPLOADS_NAME "uploads" /* the directory that POST /upload stores into */
#define PROTOCOL_NAME "dfs/1"
#define FORMAT_VERSION 1

#define HOUR_MS ((uint64_t)3600000)
#define DAY_MS (24 * HOUR_MS)
#define KIB ((uint64_t)1024)
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)

enum {
    MASTER_PORT = 3370,
    NODE_PORT = 3371,

    LINE_MAX_BYTES = 16384,     /* one line of the protocol or of a record, with its newline */
    LINE_STRANGER_BYTES = 1024, /* the same before the peer has proved that it holds the key */
    INPUT_BYTES = 2 * LINE_MAX_BYTES,
    REPLIES_BYTES = 64 * 1024, /* replies to pipelined requests that are held back to be sent together */
    WORDS_MAX = 24,            /* words in one request or record line, but for lists of chunks */
    NAME_MAX_BYTES = 255,
    TRASH_NAME_MAX_BYTES = NAME_MAX_BYTES + 21, /* the same of an inode in the trash: a slash and a number of 64 bits */
    PATH_MAX_BYTES = 4096,
    ADDRESS_MAX_BYTES = 300, /* HOST:PORT */
    LABEL_MAX_BYTES = 63,    /* a node's name */
    DETAIL_BYTES = 1024,     /* the text of one error */
    KEY_BYTES = 32,          /* the cluster's secret */
    KEY_FILE_MAX_BYTES = 4096,
    MAC_HEX = 32, /* a line's MAC: 128 bits in hexadecimal */
    NONCE_BYTES = 16,

    MASTERS_MAX = 8,        /* masters that a node knows */
    NODES_MAX = 128,        /* nodes that one cluster can have; a chunk's holders are a bit set of this size */
    ROSTER_MAX = 7,         /* default of --roster */
    ROSTER_LIMIT = 32,      /* highest --roster */
    REIGNS_MAX = 64,        /* reigns remembered, to tell whether a node's history is a part of ours */
    FORCED_MAX = 16,        /* forced take-overs remembered for ever; later ones push out the oldest */
    TOKEN_BYTES = 16,       /* of a link, from getrandom: nobody guesses it */
    SHARES_MAX = 100000,    /* links */
    LIFE_MAX_S = 3650 * 86400, /* of a file or link that expires */
    REQUESTS_MAX = 4096,    /* request ids remembered, so that a repeated request is answered, not done twice */
    CONNECTIONS_MAX = 1024, /* open connections of one server */
    FILES_LEAST = 64,       /* descriptors that a server must be allowed to open */
    FILES_OWN = 320,        /* descriptors that a server keeps for its log and its calls to others */
    CONNECTIONS_TOLD = 64,  /* and so many more are told that there are too many, or a quarter; others are closed */
    CHUNKS_PER_LINE = 100,  /* in a CHUNKS line of a record */

    BUFFERS_MAX = 48,        /* chunk buffers of one process, all together */
    COPY_BATCH_CHUNKS = 256, /* chunks in one order to fetch */
    COPY_LINGER_MS = 5,      /* how long the planner waits for more chunks before it orders the first */
    COPY_WORKERS = 2,        /* orders to fetch under way for one node */
    COPY_SOURCE_MAX = 4,     /* orders that one node serves as a source */
    COPY_BUSY = 16,          /* transfers of a node from which on it takes one order at a time: clients come first */
    EVENTS_MAX = 10000,      /* events that a master remembers */
    UPLOAD_WORKERS = 4,
    DOWNLOAD_WORKERS = 4,
    NODE_ROW_WORDS = 19,   /* in a row of NODES */
    REPORT_BATCH = 4096,   /* stored chunks in one report of a node */
    LOST_SHOWN = 20,       /* paths of files that STATUS lists because a part of them is nowhere */
    TREE_MOST = 200000,    /* files and directories that one UNDELETE, RMALL or CP is about */
    DROP_BATCH = 1000,     /* chunks in one order to drop */
    SWEEP_STEP = 16384,    /* chunks that are looked at in one go for whether they may be dropped */
    UPLOADS_MAX = 1024,    /* clients with open uploads that a master keeps apart; while there are more, no drops */
    BENCH_CLIENTS_MAX = 256,

    THREAD_STACK_BYTES = 256 * 1024,

    STRANGER_TIMEOUT_MS = 5000, /* for the whole handshake */
    LINE_TIMEOUT_MS = 20000,    /* from the first byte of a line or body to its last, without any progress */
    IDLE_TIMEOUT_MS = 3600000,  /* a connection on which nothing is asked */
    DIAL_TIMEOUT_MS = 3000,
    GREET_TIMEOUT_MS = 3000,   /* for the answer to HELLO */
    MANY_TIMEOUT_MS = 2500,    /* for each step, where there is another server to ask */
    HURRY_MS = 500,            /* for a server to greet, where others answer or were not asked yet */
    CALL_TIMEOUT_MS = 20000,   /* for the reply to a request, unless said otherwise */
    FETCH_TIMEOUT_MS = 120000, /* for an order to fetch, which moves up to COPY_BATCH_BYTES */
    COMMIT_TIMEOUT_MS = 15000, /* for an upload's chunks to be on enough disks, and for the roster to answer */
    RETRY_TOTAL_MS = 12000,    /* how long a client goes on asking while a master restarts */
    RETRY_PAUSE_MS = 100,
    HOLD_MS = 100, /* so long a node may answer reads from its own records, when a master allowed it; */
    HOLD_MORE_MS = 10, /* so much longer the master keeps to that, for clocks are not all the same */
    RECONNECT_GRACE_MS = 200,  /* a node whose connection closed is dead unless it is back within this time */
    UPLOAD_KEEP_MS = 5000,     /* how often a client says that its upload is still open */
    UPLOAD_LOST_MS = 30000,    /* an upload is over when nothing was said of it for so long */
    GRACE_MS = 600000,         /* default of --grace */
    PING_MS = 1000,            /* default of --ping */
    DEAD_AFTER_MS = 3000,      /* default of --dead-after */
    SCRUB_EVERY_MS = 86400000, /* after this time a segment is due to be read again */
    TIDY_MS = 1000,         /* how often a node looks whether space can be given back; ten times, if that is urgent */
    WATCH_MS = 20,          /* how often the master looks after its nodes while something is under way, */
    CALM_MS = 300,          /* and when all is well; not longer than a tenth of --dead-after */
    IDLE_MS = 20000,        /* how long who waits for a signal sleeps at once */
    PROBE_MOST_MS = 300000, /* longest wait before a node that hung is given something to acknowledge */
    STOPPED_MS = 300000,    /* default of --repair-after for a node that was stopped; 0 for one that crashed */
    INVENTORY_MS = 10000,   /* so long repairs wait for what a node that has just joined holds */
    BALANCE_QUIET_MS = 10000, /* no balancing so long after a node went or came back: what is written evens much out */
    BALANCE_MS = 2000,      /* pause before the next look for chunks to move, when none was found */
    LOOK_MS = 200,          /* how often who waits for copies looks again: a holder may be lost meanwhile */
    BUFFERS_IDLE_MS = 5000, /* chunk buffers not used for so long go back to the system */
};

#define RESTORE_MOST_BYTES (16 * MIB)         /* of lines of one UNDELETE */
#define TRASH_BIT ((uint64_t)1 << 63)         /* in the parent of an inode that is in the trash */
#define CHUNK_MAX_BYTES (4 * MIB)             /* default and highest --chunk-size */
#define CHUNK_MIN_BYTES (4 * KIB)             /* lowest --chunk-size */
#define SMALL_CHUNK_BYTES (64 * KIB)          /* up to here a chunk is written under the store's lock */
#define BODY_MAX_BYTES (48 * MIB)             /* a request or reply of many lines */
#define PAYLOAD_MAX_BYTES (64 * MIB)          /* one entry of the log */
#define BATCH_MAX_BYTES (1 * MIB)             /* records sent to a node at once, unless one is larger */
#define SNAPSHOT_PART_BYTES (1 * MIB)
#define HISTORY_MAX_BYTES (4 * MIB)           /* records a master keeps, to send nodes that are a little behind */
#define HISTORY_PART_BYTES (2 * MIB)          /* of older ones that a node tells from its log at once */
#define COPY_BATCH_BYTES (8 * MIB)
#define CROWDED_BYTES (8 * CHUNK_MAX_BYTES)    /* with less than this above its reserve a node is relieved */
#define BALANCE_MIN_BYTES (1 * MIB)           /* by which the fullest node must exceed the emptiest, and by 5 % */
#define HISTORY_LIMIT_BYTES (64 * MIB)        /* as many while a node takes a snapshot and will need them behind it */
#define FILE_MAX_CHUNKS ((uint32_t)300000)    /* so that a list of chunks fits into one body */
#define SEGMENT_MAX_BYTES (64 * MIB)          /* default of --segment-size */
#define SEGMENT_LIMIT_BYTES (1 * GIB)
#define SEGMENTS_MAX ((uint32_t)2176782336)   /* ever begun: 36 to the power of SEGMENT_DIGITS */
#define CHECKPOINT_MIN_BYTES (16 * MIB)       /* that a checkpoint must be able to give back */
#define SCRUB_RATE_BYTES (10 * MIB)           /* default of --scrub-rate */
#define CHECKPOINT_PART_BYTES (64 * KIB)      /* written while records wait */
#define TIDY_RATE_BYTES (32 * MIB)            /* moved in a second when space is not short */
#define HOLE_MIN_BYTES (64 * KIB)             /* bytes of a dropped chunk from which on they are given back at once */
#define FILL_BYTES (256 * KIB)                /* zeros written ahead of small entries at once */
#define RESERVE_BYTES (256 * MIB)             /* left free for metadata, or 5 % of a smaller disk */

_Static_assert(PATH_MAX_BYTES * 3 + 1024 < LINE_MAX_BYTES, "an escaped path and its verb fit into one line");
_Static_assert(CHUNKS_PER_LINE * 80 < LINE_MAX_BYTES, "a line of chunks fits into one line");
_Static_assert(FILE_MAX_CHUNKS * 150ULL < BODY_MAX_BYTES, "a list of chunks with some holders fits into one body");
_Static_assert((SHARES_MAX + REQUESTS_MAX) * 80ULL + 2 * MIB < BODY_MAX_BYTES, "a snapshot's head fits into one body");
_Static_assert(BODY_MAX_BYTES < PAYLOAD_MAX_BYTES, "whatever came in one body can be stored as one entry");
_Static_assert(REQUESTS_MAX < UINT16_MAX, "request slots are 16 bit");

/* The error table. The numbers are exit codes; the words go over the wire. */
enum status {
    DONE,
    NO_SERVER,
    NOT_FOUND,
    EXISTS,
    UNAVAILABLE,
    INTERNAL,
    BAD_REQUEST,
    DENIED,
    NOT_EMPTY,
    WRONG_KIND,
    NO_SPACE,
    DAMAGED,
    UNKNOWN,
    READ_ONLY,
    FENCED,
    STATUS_COUNT,
    USAGE_ERROR = 64
};

static const struct status_row {
    const char *word;
    int http;
    const char *text;
} status_table[STATUS_COUNT] = {
    [DONE] = {"ok", 200, "done"},
    [NO_SERVER] = {"noserver", 503, "no server available"},
    [NOT_FOUND] = {"notfound", 404, "does not exist"},
    [EXISTS] = {"exists", 409, "already exists"},
    [UNAVAILABLE] = {"unavailable", 503, "file unavailable: no live node holds it"},
    [INTERNAL] = {"internal", 500, "internal error"},
    [BAD_REQUEST] = {"badrequest", 400, "bad request or name"},
    [DENIED] = {"denied", 403, "access denied"},
    [NOT_EMPTY] = {"notempty", 409, "directory not empty"},
    [WRONG_KIND] = {"wrongkind", 409, "wrong kind (file, directory)"},
    [NO_SPACE] = {"nospace", 507, "no space"},
    [DAMAGED] = {"damaged", 502, "data damaged"},
    [UNKNOWN] = {"unknown", 504, "outcome unknown"},
    [READ_ONLY] = {"readonly", 503, "read-only for now: waiting for nodes"},
    [FENCED] = {"fenced", 503, "a newer master has been promised"}, /* between masters and nodes only */
};

/* ======== 2. Base ======== */
/* Log, memory, clocks, random numbers, the detail text of the last error. Owns nothing but the log's stream.
 * Entry points: log_line, die, fail, mem_*, clock_*, random_*. */

static const char *log_role = "dfs"; /* set once before threads start */
static bool log_quiet;

/* Writes one line to standard error: time, role, text. One write, so that lines of threads do not mix. */
__attribute__((format(printf, 1, 2))) static void log_line(const char *format, ...) {
    char line[2048];
    struct timespec now;
    struct tm tm;
    va_list list;
    if (log_quiet) return;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &tm);
    size_t used = strftime(line, sizeof line, "%Y-%m-%dT%H:%M:%S", &tm);
    int more = snprintf(line + used, sizeof line - used, ".%03dZ %s: ", (int)(now.tv_nsec / 1000000), log_role);
    if (more > 0) used += (size_t)more;
    va_start(list, format);
    more = vsnprintf(line + used, sizeof line - used - 1, format, list);
    va_end(list);
    if (more > 0) used += (size_t)more;
    if (used > sizeof line - 2) used = sizeof line - 2;
    line[used++] = '\n';
    if (write(STDERR_FILENO, line, used) < 0) return; /* there is nowhere left to complain */
}

/* Ends the program: start-up failed, or memory did. The text says what failed, why, and what to do. */
__attribute__((format(printf, 2, 3), noreturn)) static void die(int code, const char *format, ...) {
    va_list list;
    fflush(stdout);
    va_start(list, format);
    fprintf(stderr, "dfs: ");
    vfprintf(stderr, format, list);
    fprintf(stderr, "\n");
    va_end(list);
    exit(code);
}

static _Thread_local char detail[DETAIL_BYTES]; /* why the last call that failed in this thread did so */

/* Notes why something failed and returns `status`, so that a function can end in `return fail(...)`. */
__attribute__((format(printf, 2, 3))) static enum status fail(enum status status, const char *format, ...) {
    char text[DETAIL_BYTES]; /* the arguments may point into `detail` itself */
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    memcpy(detail, text, sizeof text);
    return status;
}

/* Memory that cannot be had ends the process: a store that half works is worse than one that restarts. */
static void *mem_alloc(size_t size) {
    void *memory = calloc(1, size ? size : 1);
    if (!memory) die(INTERNAL, "out of memory for %zu bytes; give this machine more, or this process less to do", size);
    return memory;
}

static void *mem_resize(void *memory, size_t size) {
    void *resized = realloc(memory, size ? size : 1);
    if (!resized)
        die(INTERNAL, "out of memory for %zu bytes; give this machine more, or this process less to do", size);
    return resized;
}

static int64_t clock_read_ns(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Milliseconds on the monotonic clock: the only clock that decides anything. */
static int64_t clock_ms(void) {
    return clock_read_ns(CLOCK_BOOTTIME) / 1000000;
}

/* Nanoseconds since 1970 on the wall clock: shown to people and stored as a file's time. */
static int64_t clock_wall_ns(void) {
    return clock_read_ns(CLOCK_REALTIME);
}

/* The same in seconds: what files and links expire by. */
static uint32_t clock_wall_s(void) {
    return (uint32_t)(clock_wall_ns() / 1000000000);
}

static void sleep_ms(int64_t ms) {
    struct timespec pause = {ms / 1000, (long)(ms % 1000) * 1000000};
    while (nanosleep(&pause, &pause) != 0 && errno == EINTR) continue;
}

static void random_bytes(void *to, size_t length) {
    uint8_t *at = to;
    while (length > 0) {
        ssize_t got = getrandom(at, length, 0);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) die(INTERNAL, "no random numbers: %s", strerror(errno));
        at += got;
        length -= (size_t)got;
    }
}

static uint64_t random_u64(void) {
    uint64_t number;
    random_bytes(&number, sizeof number);
    return number ? number : 1;
}

/* The finalizer of splitmix64 (Steele, Lea, Flood 2014): spreads ids over hash buckets and treap priorities. */
static uint64_t mix64(uint64_t n) {
    n = (n ^ (n >> 30)) * 0xbf58476d1ce4e5b9ULL;
    n = (n ^ (n >> 27)) * 0x94d049bb133111ebULL;
    return n ^ (n >> 31);
}

/* ======== 3. Text ======== */
/* Growing buffers, tokens, strict integers, escaping, names of things for people. Pure; owns nothing.
 * Entry points: text_*, slice_*, words_split, parse_*, path_*. */

/* A growing string. `data` is NULL or NUL-terminated and `length` long; freed by text_free. */
struct text {
    char *data;
    size_t length, capacity;
};

/* A piece of somebody else's memory. */
struct slice {
    const char *at;
    size_t length;
};

struct words {
    int count;
    struct slice word[WORDS_MAX];
};

static void text_reserve(struct text *t, size_t more) {
    assert(more < SIZE_MAX / 4 && t->length < SIZE_MAX / 4);
    if (t->length + more + 1 <= t->capacity) return;
    size_t capacity = t->capacity ? t->capacity * 2 : 128;
    while (capacity < t->length + more + 1) capacity *= 2;
    t->data = mem_resize(t->data, capacity);
    t->capacity = capacity;
}

static void text_bytes(struct text *t, const void *bytes, size_t length) {
    text_reserve(t, length);
    if (length > 0) memcpy(t->data + t->length, bytes, length);
    t->length += length;
    t->data[t->length] = 0;
}

static void text_add(struct text *t, const char *string) {
    text_bytes(t, string, strlen(string));
}

static void text_byte(struct text *t, char byte) {
    text_bytes(t, &byte, 1);
}

static void text_free(struct text *t) {
    free(t->data);
    *t = (struct text){0};
}

static void text_clear(struct text *t) {
    t->length = 0;
    if (t->data) t->data[0] = 0;
}

/* Frees the memory of a buffer that grew for one large thing, so that an idle process stays small. */
static void text_recycle(struct text *t, size_t keep) {
    if (t->capacity > keep) text_free(t);
    else text_clear(t);
}

__attribute__((format(printf, 2, 3))) static void text_format(struct text *t, const char *format, ...) {
    va_list list, again;
    va_start(list, format);
    va_copy(again, list);
    text_reserve(t, 64);
    int length = vsnprintf(t->data + t->length, t->capacity - t->length, format, list);
    assert(length >= 0);
    if ((size_t)length >= t->capacity - t->length) {
        text_reserve(t, (size_t)length);
        vsnprintf(t->data + t->length, t->capacity - t->length, format, again);
    }
    t->length += (size_t)length;
    va_end(list);
    va_end(again);
}

/* A number in decimal; much faster than printf, and lines are made by the hundred thousand. */
static void text_u64(struct text *t, uint64_t number) {
    char digits[20];
    size_t count = 0;
    do digits[count++] = (char)('0' + number % 10);
    while ((number /= 10) > 0);
    text_reserve(t, count);
    while (count > 0) t->data[t->length++] = digits[--count];
    t->data[t->length] = 0;
}

static void text_i64(struct text *t, int64_t number) {
    if (number < 0) text_byte(t, '-');
    text_u64(t, number < 0 ? 0 - (uint64_t)number : (uint64_t)number);
}

static void hex_write(char *to, const uint8_t *bytes, size_t length) {
    static const char digit[] = "0123456789abcdef";
    for (size_t i = 0; i < length; i++) {
        to[2 * i] = digit[bytes[i] >> 4];
        to[2 * i + 1] = digit[bytes[i] & 15];
    }
}

static void text_hex(struct text *t, const uint8_t *bytes, size_t length) {
    text_reserve(t, 2 * length);
    hex_write(t->data + t->length, bytes, length);
    t->length += 2 * length;
    t->data[t->length] = 0;
}

/* An id of 64 bits as 16 hexadecimal digits. */
static void text_id(struct text *t, uint64_t id) {
    uint8_t bytes[8];
    for (int i = 0; i < 8; i++) bytes[i] = (uint8_t)(id >> (56 - 8 * i));
    text_hex(t, bytes, 8);
}

/* An argument: bytes that could end a word or a line, and `%`, become %XX; an empty one becomes `%`, a lone `-` %2D. */
static void text_escaped(struct text *t, const char *bytes, size_t length) {
    static const char digit[] = "0123456789ABCDEF";
    if (length == 0) text_byte(t, '%');
    if (length == 1 && bytes[0] == '-') {
        text_add(t, "%2D");
        return;
    }
    text_reserve(t, 3 * length);
    for (size_t i = 0; i < length; i++) {
        uint8_t byte = (uint8_t)bytes[i];
        if (byte > ' ' && byte != '%' && byte != 127) {
            t->data[t->length++] = (char)byte;
        } else {
            t->data[t->length++] = '%';
            t->data[t->length++] = digit[byte >> 4];
            t->data[t->length++] = digit[byte & 15];
        }
    }
    if (t->data) t->data[t->length] = 0;
}

/* Whether a node may have this name: it is shown in logs and in rows of lines as it is. */
static bool label_is_good(const char *name) {
    for (const char *at = name; *at; at++)
        if ((uint8_t)*at < ' ' || *at == 127) return false;
    return *name && strlen(name) <= LABEL_MAX_BYTES;
}

/* A name for people: like text_escaped, but spaces stay, and bytes that are not UTF-8 are escaped too. */
static void text_display(struct text *t, const char *bytes, size_t length) {
    static const char digit[] = "0123456789ABCDEF";
    for (size_t i = 0; i < length;) {
        size_t width = 1;
        uint8_t byte = (uint8_t)bytes[i];
        if (byte >= 0xf0) width = 4;
        else if (byte >= 0xe0) width = 3;
        else if (byte >= 0xc0) width = 2;
        bool shown = byte >= ' ' && byte != 127 && byte != '%' && i + width <= length;
        if (byte == 0xc2 && shown) shown = (uint8_t)bytes[i + 1] >= 0xa0; /* the other set of control characters */
        if (shown && json_utf8_valid(bytes + i, width)) {
            text_bytes(t, bytes + i, width);
            i += width;
        } else {
            char escape[3] = {'%', digit[byte >> 4], digit[byte & 15]};
            text_bytes(t, escape, 3);
            i++;
        }
    }
}

/* The same into a buffer of the thread's own; good until the fourth call after this one. For messages. */
static const char *shown(const char *name) {
    static _Thread_local char ring[4][600];
    static _Thread_local unsigned turn;
    struct text t = {0};
    char *to = ring[turn++ % 4];
    text_display(&t, name, strlen(name));
    snprintf(to, sizeof ring[0], "%s", t.data ? t.data : "");
    text_free(&t);
    return to;
}

static struct slice slice_of(const char *string) {
    return (struct slice){string, strlen(string)};
}

static bool slice_is(struct slice s, const char *string) {
    return s.length == strlen(string) && memcmp(s.at, string, s.length) == 0;
}

/* Copies a slice as a C string; false if it does not fit into `capacity` with its NUL. */
static bool slice_copy(struct slice s, char *to, size_t capacity) {
    if (s.length >= capacity) return false;
    memcpy(to, s.at, s.length);
    to[s.length] = 0;
    return true;
}

/* Takes the next line off `rest`, without its newline; false at the end or if the last line has no newline. */
static bool slice_line(struct slice *rest, struct slice *line) {
    const char *end = rest->length ? memchr(rest->at, '\n', rest->length) : NULL;
    if (!end) return false;
    *line = (struct slice){rest->at, (size_t)(end - rest->at)};
    rest->at = end + 1;
    rest->length -= line->length + 1;
    return true;
}

/* Takes the part before the next `separator`, or all that is left; false when nothing is left. */
static bool slice_part(struct slice *rest, char separator, struct slice *part) {
    if (rest->length == 0) return false;
    const char *end = memchr(rest->at, separator, rest->length);
    part->at = rest->at;
    part->length = end ? (size_t)(end - rest->at) : rest->length;
    size_t taken = part->length + (end ? 1 : 0);
    rest->at += taken;
    rest->length -= taken;
    return true;
}

/* Splits a line at single spaces. False if a word is empty, if there are more than WORDS_MAX, or a control byte. */
static bool words_split(struct slice line, struct words *w) {
    w->count = 0;
    for (size_t i = 0; i < line.length; i++)
        if ((uint8_t)line.at[i] < ' ' || line.at[i] == 127) return false;
    if (line.length == 0 || line.at[line.length - 1] == ' ') return false;
    while (line.length > 0) {
        if (w->count == WORDS_MAX) return false;
        struct slice *word = &w->word[w->count++];
        if (!slice_part(&line, ' ', word) || word->length == 0) return false;
    }
    return true;
}

/* Strict: digits only, no sign, no leading zero, not above `max`. */
static bool parse_u64(struct slice s, uint64_t max, uint64_t *out) {
    uint64_t number = 0;
    if (s.length == 0 || s.length > 20 || (s.length > 1 && s.at[0] == '0')) return false;
    for (size_t i = 0; i < s.length; i++) {
        if (s.at[i] < '0' || s.at[i] > '9') return false;
        uint64_t digit = (uint64_t)(s.at[i] - '0');
        if (number > (UINT64_MAX - digit) / 10) return false;
        number = number * 10 + digit;
    }
    if (number > max) return false;
    *out = number;
    return true;
}

static bool parse_u32(struct slice s, uint32_t max, uint32_t *out) {
    uint64_t number;
    if (!parse_u64(s, max, &number)) return false;
    *out = (uint32_t)number;
    return true;
}

static bool parse_i64(struct slice s, int64_t *out) {
    uint64_t number;
    bool negative = s.length > 1 && s.at[0] == '-';
    struct slice digits = {s.at + negative, s.length - negative};
    if (!parse_u64(digits, INT64_MAX, &number)) return false;
    *out = negative ? -(int64_t)number : (int64_t)number;
    return true;
}

/* The value of a lower-case hexadecimal digit, -1 if it is none. By a table: a start reads hashes by the million. */
static int hex_digit(char c) {
    static const int8_t above[256] = {['0'] = 1,  ['1'] = 2,  ['2'] = 3,  ['3'] = 4,  ['4'] = 5,  ['5'] = 6,
                                      ['6'] = 7,  ['7'] = 8,  ['8'] = 9,  ['9'] = 10, ['a'] = 11, ['b'] = 12,
                                      ['c'] = 13, ['d'] = 14, ['e'] = 15, ['f'] = 16};
    return above[(uint8_t)c] - 1;
}

/* Exactly 2 * `length` lower-case hexadecimal digits. */
static bool parse_hex(struct slice s, uint8_t *to, size_t length) {
    if (s.length != 2 * length) return false;
    for (size_t i = 0; i < length; i++) {
        int high = hex_digit(s.at[2 * i]), low = hex_digit(s.at[2 * i + 1]);
        if (high < 0 || low < 0) return false;
        to[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

static bool parse_id(struct slice s, uint64_t *id) {
    uint8_t bytes[8];
    if (!parse_hex(s, bytes, 8)) return false;
    *id = 0;
    for (int i = 0; i < 8; i++) *id = *id << 8 | bytes[i];
    return true;
}

/* Undoes text_escaped into a C string; false on a bad escape, a NUL, or if it does not fit. */
static bool parse_escaped(struct slice s, char *to, size_t capacity) {
    size_t used = 0;
    if (slice_is(s, "%")) s.length = 0;
    for (size_t i = 0; i < s.length; i++) {
        char byte = s.at[i];
        if (byte == '%') {
            if (s.length - i < 3) return false;
            int high = hex_digit((char)(s.at[i + 1] | (s.at[i + 1] >= 'A' ? 32 : 0)));
            int low = hex_digit((char)(s.at[i + 2] | (s.at[i + 2] >= 'A' ? 32 : 0)));
            if (high < 0 || low < 0 || (high | low) == 0) return false;
            byte = (char)(high << 4 | low);
            i += 2;
        }
        if (byte == 0 || used + 1 >= capacity) return false;
        to[used++] = byte;
    }
    to[used] = 0;
    return true;
}

/* A duration: a number and one of ms s m h d. */
static bool parse_duration_ms(const char *string, uint64_t *ms) {
    static const struct { const char *unit; uint64_t ms; } units[] = {
        {"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000}};
    size_t digits = strspn(string, "0123456789");
    uint64_t number;
    if (!parse_u64((struct slice){string, digits}, UINT32_MAX, &number)) return false;
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        if (strcmp(string + digits, units[i].unit) != 0) continue;
        *ms = number * units[i].ms;
        return true;
    }
    return false;
}

/* A size: a number, alone (bytes) or followed by one of K M G T, powers of 1024. */
static bool parse_size(const char *string, uint64_t *bytes) {
    static const char units[] = "KMGT";
    size_t digits = strspn(string, "0123456789");
    uint64_t number;
    if (!parse_u64((struct slice){string, digits}, UINT32_MAX * 1024ULL, &number)) return false;
    *bytes = number;
    if (string[digits] == 0) return true;
    const char *unit = strchr(units, string[digits]);
    if (!unit || string[digits + 1] != 0) return false;
    unsigned shift = 10 * ((unsigned)(unit - units) + 1);
    if (number > UINT64_MAX >> shift) return false;
    *bytes = number << shift;
    return true;
}

/* A size for people: 17 B, 4.0 KiB, 12.3 GiB. */
static void text_size(struct text *t, uint64_t bytes) {
    static const char *units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double number = (double)bytes;
    size_t unit = 0;
    while (number >= 1023.95 && unit < 6) {
        number /= 1024;
        unit++;
    }
    if (unit == 0) text_format(t, "%d B", (int)bytes);
    else text_format(t, "%.1f %s", number, units[unit]);
}

/* A time for people, local. */
static void text_time(struct text *t, int64_t ns) {
    time_t seconds = (time_t)(ns / 1000000000);
    struct tm tm;
    char shown_time[64];
    localtime_r(&seconds, &tm);
    strftime(shown_time, sizeof shown_time, "%Y-%m-%d %H:%M:%S", &tm);
    text_add(t, shown_time);
}

/* Brings a path into its one form: it starts with a slash, has no empty parts and none at its end; the root is "/".
 * `to` holds PATH_MAX_BYTES + 1. Refuses `.` and `..`, parts over 255 bytes, an empty path, one over 4096 bytes. */
static enum status path_normalize(const char *path, char *to) {
    size_t used = 0;
    if (*path == 0) return fail(BAD_REQUEST, "the path is empty; write / for the root");
    struct slice rest = slice_of(path), part;
    while (slice_part(&rest, '/', &part)) {
        if (part.length == 0) continue;
        if (slice_is(part, ".") || slice_is(part, ".."))
            return fail(BAD_REQUEST, "'%.*s' is not allowed in the path '%s'; write it out in full", (int)part.length,
                        part.at, shown(path));
        if (part.length > NAME_MAX_BYTES)
            return fail(BAD_REQUEST, "a name of %zu bytes; the most is %d", part.length, NAME_MAX_BYTES);
        if (used + 1 + part.length > PATH_MAX_BYTES)
            return fail(BAD_REQUEST, "a path of more than %d bytes; use shorter names", PATH_MAX_BYTES);
        to[used++] = '/';
        memcpy(to + used, part.at, part.length);
        used += part.length;
    }
    if (used == 0) to[used++] = '/';
    to[used] = 0;
    return DONE;
}

static enum status status_of_word(struct slice word) {
    for (int i = DONE + 1; i < STATUS_COUNT; i++) /* an error is never DONE, whatever it is called */
        if (slice_is(word, status_table[i].word)) return (enum status)i;
    return INTERNAL;
}
/* ======== 4. System ======== */
/* Every system call that touches the disk, behind a name of its own, with fault switches for tests: the environment
 * variable DFS_FAULT="write:3,sync:1+" lets the third write fail, and every sync from the first on. Off unless set.
 * Whole reads and writes: no caller handles a short count. Entry points: sys_*, file_*. */

enum fault { FAULT_OPEN, FAULT_READ, FAULT_WRITE, FAULT_SYNC, FAULT_RENAME, FAULT_COUNT };

static const char *const fault_names[FAULT_COUNT] = {"open", "read", "write", "sync", "rename"};

static struct {
    atomic_ullong nth; /* 0: none fails */
    atomic_bool on;    /* fails from the nth on, not just once */
    atomic_ullong seen;
} faults[FAULT_COUNT];

static bool fault_hit(enum fault fault) {
    uint64_t nth = atomic_load_explicit(&faults[fault].nth, memory_order_relaxed);
    if (nth == 0) return false;
    uint64_t now = atomic_fetch_add(&faults[fault].seen, 1) + 1;
    if (now != nth && !(atomic_load(&faults[fault].on) && now > nth)) return false;
    errno = EIO;
    return true;
}

/* From now on every call of this kind fails, or none. */
static void fault_set(enum fault fault, bool fails) {
    atomic_store(&faults[fault].on, fails);
    atomic_store(&faults[fault].nth, fails ? 1 : 0);
}

static void fault_setup(const char *setting) {
    struct slice rest = setting ? slice_of(setting) : (struct slice){0}, part, name;
    while (slice_part(&rest, ',', &part)) {
        int found = -1;
        if (!slice_part(&part, ':', &name)) name = (struct slice){"", 0};
        for (int i = 0; i < FAULT_COUNT; i++)
            if (slice_is(name, fault_names[i])) found = i;
        bool on = part.length > 0 && part.at[part.length - 1] == '+';
        part.length -= on;
        uint64_t nth;
        if (found < 0 || !parse_u64(part, UINT32_MAX, &nth) || nth == 0)
            die(USAGE_ERROR, "DFS_FAULT=%s: write KIND:N or KIND:N+, KIND one of open read write sync rename", setting);
        atomic_store(&faults[found].nth, nth);
        atomic_store(&faults[found].on, on);
    }
}

/* The status for a failed system call on a file that a user named. */
static enum status status_of_errno(void) {
    switch (errno) {
    case ENOENT: return NOT_FOUND;
    case EACCES: case EPERM: case EROFS: return DENIED;
    case ENOSPC: case EDQUOT: case EFBIG: return NO_SPACE;
    case EISDIR: case ENOTDIR: return WRONG_KIND;
    default: return INTERNAL;
    }
}

static int sys_open(const char *path, int flags, mode_t mode) {
    if (fault_hit(FAULT_OPEN)) return -1;
    return open(path, flags | O_CLOEXEC, mode);
}

/* Opens in a folder that is open itself. */
static int sys_openat(int folder, const char *name, int flags, mode_t mode) {
    if (fault_hit(FAULT_OPEN)) return -1;
    return openat(folder, name, flags | O_CLOEXEC, mode);
}

/* Makes a folder in one that is open, and opens it. */
static int sys_mkdirat(int folder, const char *name) {
    if (fault_hit(FAULT_OPEN) || mkdirat(folder, name, 0777) != 0) return -1;
    return openat(folder, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static int sys_rename(const char *from, const char *to) {
    if (fault_hit(FAULT_RENAME)) return -1;
    return rename(from, to);
}

/* A sync that fails is never only a lack of room: what it was to make durable may be lost. */
static int sys_fdatasync(int fd) {
    if (fault_hit(FAULT_SYNC)) return -1;
    if (fdatasync(fd) == 0) return 0;
    if (errno == ENOSPC || errno == EDQUOT) errno = EIO;
    return -1;
}

static int sys_fsync(int fd) {
    if (fault_hit(FAULT_SYNC)) return -1;
    if (fsync(fd) == 0) return 0;
    if (errno == ENOSPC || errno == EDQUOT) errno = EIO;
    return -1;
}

/* Reads exactly `length` bytes at `offset`; fewer are an error with errno 0 (the file ends before). */
static bool sys_pread(int fd, void *to, size_t length, uint64_t offset) {
    uint8_t *at = to;
    if (fault_hit(FAULT_READ)) return false;
    while (length > 0) {
        ssize_t got = pread(fd, at, length, (off_t)offset);
        if (got < 0 && errno == EINTR) continue;
        if (got == 0) errno = 0;
        if (got <= 0) return false;
        at += got;
        offset += (uint64_t)got;
        length -= (size_t)got;
    }
    return true;
}

/* Writes all pieces one after another at `offset`; changes `piece`. */
static bool sys_pwritev(int fd, struct iovec *piece, int count, uint64_t offset) {
    if (fault_hit(FAULT_WRITE)) return false;
    while (count > 0) {
        ssize_t done = pwritev(fd, piece, count, (off_t)offset);
        if (done < 0 && errno == EINTR) continue;
        if (done < 0) return false;
        offset += (uint64_t)done;
        while (count > 0 && (size_t)done >= piece->iov_len) {
            done -= (ssize_t)piece->iov_len;
            piece++;
            count--;
        }
        if (count == 0) break;
        piece->iov_base = (char *)piece->iov_base + done;
        piece->iov_len -= (size_t)done;
    }
    return true;
}

/* Gives a range of a file back to the file system, as far as it consists of whole blocks. Not every one can do this. */
static bool sys_punch(int fd, uint64_t offset, uint64_t length) {
    return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)length) == 0;
}

/* Ends a file at `length` bytes. */
static bool sys_truncate(int fd, uint64_t length) {
    if (fault_hit(FAULT_WRITE)) return false;
    return ftruncate(fd, (off_t)length) == 0;
}

/* Writes `length` bytes to a descriptor that may be a pipe. */
static bool sys_write(int fd, const void *from, size_t length) {
    const uint8_t *at = from;
    if (fault_hit(FAULT_WRITE)) return false;
    while (length > 0) {
        ssize_t done = write(fd, at, length);
        if (done < 0 && errno == EINTR) continue;
        if (done < 0) return false;
        at += done;
        length -= (size_t)done;
    }
    return true;
}

/* Reads until `length` bytes are there or the end; returns their number, or -1. */
static ssize_t sys_read(int fd, void *to, size_t length) {
    size_t used = 0;
    if (fault_hit(FAULT_READ)) return -1;
    while (used < length) {
        ssize_t got = read(fd, (char *)to + used, length - used);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return -1;
        if (got == 0) break;
        used += (size_t)got;
    }
    return (ssize_t)used;
}

/* What is there now, of keys that are typed; waits for the first. */
static ssize_t sys_read_some(int fd, void *to, size_t length) {
    return read(fd, to, length);
}

/* Makes everything durable that is on the same file system as this file. */
static bool sys_sync_all(int fd) {
    if (fault_hit(FAULT_SYNC)) return false;
    return syncfs(fd) == 0;
}

/* Makes names in a folder durable. */
static bool sys_sync_folder(const char *path) {
    int fd = sys_open(path, O_RDONLY | O_DIRECTORY, 0);
    if (fd < 0) return false;
    bool good = sys_fsync(fd) == 0;
    close(fd);
    return good;
}

/* Reads a whole small file; the caller frees `to`. */
static enum status file_read(const char *path, size_t most, struct text *to) {
    char piece[4096];
    ssize_t got;
    int fd = sys_open(path, O_RDONLY, 0);
    if (fd < 0) return fail(status_of_errno(), "%s: %s", path, strerror(errno));
    while ((got = sys_read(fd, piece, sizeof piece)) > 0 && to->length <= most) text_bytes(to, piece, (size_t)got);
    close(fd);
    if (got < 0) return fail(INTERNAL, "%s: %s", path, strerror(errno));
    if (to->length > most) return fail(INTERNAL, "%s: larger than %zu bytes", path, most);
    return DONE;
}

/* Writes a whole small file so that after a crash there is the old one or the new one: temp, sync, rename, sync. */
static enum status file_write(const char *folder, const char *name, const void *bytes, size_t length, mode_t mode) {
    char path[PATH_MAX], temporary[PATH_MAX + 8];
    bool good = false;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    snprintf(temporary, sizeof temporary, "%s.new", path);
    int fd = sys_open(temporary, O_WRONLY | O_CREAT | O_TRUNC, mode);
    if (fd >= 0) {
        good = sys_write(fd, bytes, length) && sys_fsync(fd) == 0;
        good = close(fd) == 0 && good;
    }
    good = good && sys_rename(temporary, path) == 0 && sys_sync_folder(folder);
    if (good) return DONE;
    enum status status = fail(status_of_errno(), "writing %s: %s", path, strerror(errno));
    unlink(temporary);
    return status;
}

/* ======== 5. Threads ======== */
/* Ranked locks, conditions with deadlines on the monotonic clock, detached threads, the pool of chunk buffers.
 * A thread takes locks in the order of their ranks; a wrong order or a second acquire ends the program at once, in
 * releases too, because it would else be a deadlock that a user meets. Entry points: lock_*, cond_*, thread_start,
 * buffer_take, buffer_give, buffers_trim. */

enum rank {
    RANK_CLUSTER = 10,
    RANK_STORE = 30,
    RANK_REPORTS = 40,
    RANK_POOL = 50,
    RANK_TRANSFER = 55,
    RANK_BUFFERS = 60,
    RANK_SCREEN = 70
};

struct lock {
    pthread_mutex_t mutex;
    enum rank rank;
};

struct cond {
    pthread_cond_t cond;
};

static _Thread_local int lock_held[8]; /* ranks held by this thread, in the order they were taken */
static _Thread_local int lock_depth;

static void lock_init(struct lock *l, enum rank rank) {
    pthread_mutex_init(&l->mutex, NULL);
    l->rank = rank;
}

static void lock_take(struct lock *l) {
    assert(lock_depth < 8 && (lock_depth == 0 || lock_held[lock_depth - 1] < (int)l->rank));
    int error = pthread_mutex_lock(&l->mutex);
    assert(error == 0);
    lock_held[lock_depth++] = (int)l->rank;
}

static void lock_drop(struct lock *l) {
    assert(lock_depth > 0 && lock_held[lock_depth - 1] == (int)l->rank);
    lock_depth--;
    pthread_mutex_unlock(&l->mutex);
}

static void lock_check(const struct lock *l) {
    assert(lock_depth > 0 && lock_held[lock_depth - 1] == (int)l->rank);
}

static void cond_init(struct cond *c) {
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&c->cond, &attributes);
    pthread_condattr_destroy(&attributes);
}

static void cond_wait(struct cond *c, struct lock *l) {
    lock_check(l);
    pthread_cond_wait(&c->cond, &l->mutex);
}

/* Waits until a signal or until clock_ms() reaches `until_ms`; false when that time has come. */
static bool cond_wait_until(struct cond *c, struct lock *l, int64_t until_ms) {
    int64_t until_ns = clock_read_ns(CLOCK_MONOTONIC) + (until_ms - clock_ms()) * 1000000;
    struct timespec until = {until_ns / 1000000000, (long)(until_ns % 1000000000)};
    lock_check(l);
    return pthread_cond_timedwait(&c->cond, &l->mutex, &until) == 0;
}

static void cond_signal(struct cond *c) {
    pthread_cond_signal(&c->cond);
}

static void cond_broadcast(struct cond *c) {
    pthread_cond_broadcast(&c->cond);
}

static void cond_free(struct cond *c) {
    pthread_cond_destroy(&c->cond);
}

static void thread_attributes(pthread_attr_t *attributes) {
    pthread_attr_init(attributes);
    pthread_attr_setstacksize(attributes, THREAD_STACK_BYTES * (SANITIZED ? 8 : 1));
}

/* Starts a detached thread; false if the system has no room for one more. */
static bool thread_start(void *(*run)(void *), void *argument) {
    pthread_t thread;
    pthread_attr_t attributes;
    thread_attributes(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    int error = pthread_create(&thread, &attributes, run, argument);
    pthread_attr_destroy(&attributes);
    return error == 0;
}

/* Starts a thread that the caller joins. False if the system has no room for one more; the detail says so. */
static bool thread_try(pthread_t *thread, void *(*run)(void *), void *argument) {
    pthread_attr_t attributes;
    thread_attributes(&attributes);
    int error = pthread_create(thread, &attributes, run, argument);
    pthread_attr_destroy(&attributes);
    if (error != 0) fail(INTERNAL, "no thread: %s; raise the limit on processes", strerror(error));
    return error == 0;
}

/* The same where a program is of no use without it, which ends then. */
static pthread_t thread_spawn(void *(*run)(void *), void *argument) {
    pthread_t thread;
    if (!thread_try(&thread, run, argument)) die(INTERNAL, "%s", detail);
    return thread;
}

/* Chunk buffers, CHUNK_MAX_BYTES each. They are kept for reuse, because the first touch of memory is dear, and given
 * back to the system when none was needed for BUFFERS_IDLE_MS. */
static struct {
    struct lock lock;
    struct cond freed;
    void *idle[BUFFERS_MAX]; /* a stack: the warmest on top */
    int idle_count, taken;
    int64_t used_ms;
} buffers;

static void buffers_init(void) {
    lock_init(&buffers.lock, RANK_BUFFERS);
    cond_init(&buffers.freed);
}

/* Waits for a buffer; NULL after CALL_TIMEOUT_MS. A request that will wait for `hops` other nodes while it holds the
 * buffer leaves some to those that wait for fewer, so that nodes that send to each other can't wait in a circle. */
static uint8_t *buffer_take(int hops) {
    int64_t until_ms = clock_ms() + CALL_TIMEOUT_MS;
    int most = BUFFERS_MAX - (hops > 5 ? 5 : hops) * (BUFFERS_MAX / 6);
    void *buffer = NULL;
    lock_take(&buffers.lock);
    while (buffers.taken >= most)
        if (!cond_wait_until(&buffers.freed, &buffers.lock, until_ms)) break;
    if (buffers.taken < most) {
        if (buffers.idle_count > 0) buffer = buffers.idle[--buffers.idle_count];
        else buffer = mmap(NULL, CHUNK_MAX_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (buffer == MAP_FAILED) buffer = NULL;
        if (buffer) buffers.taken++;
    }
    lock_drop(&buffers.lock);
    if (!buffer) fail(NO_SPACE, "all %d chunk buffers are busy; try again, or with fewer transfers at once", most);
    return buffer;
}

static void buffer_give(void *buffer) {
    if (!buffer) return;
    lock_take(&buffers.lock);
    buffers.idle[buffers.idle_count++] = buffer;
    buffers.taken--;
    buffers.used_ms = clock_ms();
    cond_broadcast(&buffers.freed);
    lock_drop(&buffers.lock);
}

/* Whether so many buffers are taken that who holds one for long should let others have it. */
static bool buffers_are_scarce(void) {
    lock_take(&buffers.lock);
    bool scarce = buffers.taken > BUFFERS_MAX / 2;
    lock_drop(&buffers.lock);
    return scarce;
}

/* Gives unused buffers back to the system; called about once a second. */
static void buffers_trim(void) {
    lock_take(&buffers.lock);
    while (buffers.idle_count > 0 && clock_ms() - buffers.used_ms > BUFFERS_IDLE_MS)
        munmap(buffers.idle[--buffers.idle_count], CHUNK_MAX_BYTES);
    lock_drop(&buffers.lock);
}

/* ======== 6. Net ======== */
/* Names to addresses, listening, dialling, and the connection: buffered lines with a MAC on each, bodies, timeouts,
 * the mutual challenge. A connection belongs to one thread at a time and has no lock.
 * Entry points: net_*, conn_*, key_*. */

/* The cluster's secret, the same in every process of a cluster; set once before threads start. */
static struct {
    bool set;
    struct hmac_sha256 mac; /* ready for one message; copied for each */
} cluster_key;

/* Who this process is in HELLO; set once before threads start. */
static char self_role[8] = "client";
static char self_id[17] = "0000000000000000";

struct endpoint {
    struct sockaddr_storage address;
    socklen_t length;
};

struct conn {
    uint64_t serial;         /* no two connections of a process have the same */
    int fd;
    bool secure;             /* HELLO and AUTH are done: every line carries a MAC */
    bool greeted;            /* HELLO was answered, AUTH not yet */
    char peer[64];           /* the other side's address */
    char role[8], id[17];    /* the other side's, from HELLO; "client" and zeros until then */
    struct hmac_sha256 send_key, receive_key;
    uint64_t sent, received; /* lines so far, part of their MACs */
    uint8_t proof[32];       /* expected in AUTH */
    char *in;                /* INPUT_BYTES; bytes [start, end) are not used up yet */
    void *kept;              /* one piece of memory that the server's thread keeps for its next connection */
    size_t start, end;
    struct text out;         /* lines not sent yet */
    size_t line_start;       /* where the line that is being written begins in `out` */
    int timeout_ms, send_timeout_ms; /* for each wait; what SO_RCVTIMEO and SO_SNDTIMEO are set to */
    int64_t idle_until_ms;   /* until then the next request may take its time to begin; 0 on the asking side */
    bool (*waits)(void *);   /* asked when nothing moved for timeout_ms: go on waiting? NULL: no */
    void *waits_for;         /* its argument */
    void (*moved)(size_t);   /* told of the bytes of bodies that moved; NULL: nobody asks */
};

/* ---- Names ---- */

/* Splits HOST:PORT, [V6]:PORT, :PORT or HOST. */
static bool net_split(const char *address, char *host, size_t capacity, uint16_t *port) {
    struct slice name = slice_of(address), digits = {0};
    if (*address == '[') {
        const char *end = strchr(address, ']');
        if (!end || (end[1] != 0 && end[1] != ':')) return false;
        name = (struct slice){address + 1, (size_t)(end - address - 1)};
        if (end[1] == ':') digits = slice_of(end + 2);
    } else {
        const char *colon = strchr(address, ':');
        if (colon && strchr(colon + 1, ':')) colon = NULL; /* a bare IPv6 address */
        if (colon) {
            name.length = (size_t)(colon - address);
            digits = slice_of(colon + 1);
        }
    }
    uint64_t number = *port;
    if (digits.at && !parse_u64(digits, 65535, &number)) return false;
    *port = (uint16_t)number;
    return slice_copy(name, host, capacity);
}

static void endpoint_v4(struct endpoint *e, const void *address, uint16_t port) {
    struct sockaddr_in *in = (struct sockaddr_in *)&e->address;
    memset(e, 0, sizeof *e);
    in->sin_family = AF_INET;
    in->sin_port = htons(port);
    memcpy(&in->sin_addr, address, 4);
    e->length = sizeof *in;
}

static void endpoint_v6(struct endpoint *e, const void *address, uint16_t port) {
    struct sockaddr_in6 *in = (struct sockaddr_in6 *)&e->address;
    memset(e, 0, sizeof *e);
    in->sin6_family = AF_INET6;
    in->sin6_port = htons(port);
    memcpy(&in->sin6_addr, address, 16);
    e->length = sizeof *in;
}

static bool endpoint_parse(const char *host, uint16_t port, struct endpoint *e) {
    uint8_t address[16];
    if (inet_pton(AF_INET, host, address) == 1) endpoint_v4(e, address, port);
    else if (inet_pton(AF_INET6, host, address) == 1) endpoint_v6(e, address, port);
    else return false;
    return true;
}

/* ADDRESS:PORT in numbers; the capacity is at least 64. */
static void endpoint_text(const struct endpoint *e, char *to, size_t capacity) {
    char host[INET6_ADDRSTRLEN] = "?";
    if (e->address.ss_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)&e->address;
        inet_ntop(AF_INET, &in->sin_addr, host, sizeof host);
        snprintf(to, capacity, "%s:%u", host, ntohs(in->sin_port));
    } else {
        const struct sockaddr_in6 *in = (const struct sockaddr_in6 *)&e->address;
        inet_ntop(AF_INET6, &in->sin6_addr, host, sizeof host);
        snprintf(to, capacity, "[%s]:%u", host, ntohs(in->sin6_port));
    }
}

/* Looks a name up in /etc/hosts. The next word of a line, white space between them; comments end it. */
static bool file_word(struct slice *line, struct slice *word) {
    while (line->length > 0 && (*line->at == ' ' || *line->at == '\t')) line->at++, line->length--;
    size_t length = 0;
    while (length < line->length && !strchr(" \t#\r", line->at[length])) length++;
    *word = (struct slice){line->at, length};
    line->at += length;
    line->length -= length;
    return length > 0;
}

static int hosts_lookup(const char *host, uint16_t port, struct endpoint *to, int most) {
    struct text file = {0};
    struct slice rest, line, word;
    char address[64];
    int count = 0;
    if (file_read("/etc/hosts", MIB, &file) != DONE) return 0;
    text_byte(&file, '\n');
    rest = (struct slice){file.data, file.length};
    while (count < most && slice_line(&rest, &line)) {
        if (!file_word(&line, &word) || !slice_copy(word, address, sizeof address)) continue;
        while (file_word(&line, &word))
            if (word.length == strlen(host) && strncasecmp(word.at, host, word.length) == 0) {
                if (endpoint_parse(address, port, &to[count])) count++;
                break;
            }
    }
    text_free(&file);
    return count;
}

/* A DNS question (RFC 1035, section 4): header, labels, type, class IN. Returns its length, 0 if the name is bad. */
static size_t dns_question(const char *name, uint16_t type, uint16_t id, uint8_t *to, size_t capacity) {
    struct slice rest = slice_of(name), label;
    size_t used = 12;
    if (rest.length == 0 || rest.length + 18 > capacity) return 0;
    memset(to, 0, 12);
    to[0] = (uint8_t)(id >> 8), to[1] = (uint8_t)id;
    to[2] = 1; /* recursion desired */
    to[5] = 1; /* one question */
    while (slice_part(&rest, '.', &label)) {
        if (label.length == 0 || label.length > 63) return 0;
        to[used++] = (uint8_t)label.length;
        memcpy(to + used, label.at, label.length);
        used += label.length;
    }
    const uint8_t tail[5] = {0, (uint8_t)(type >> 8), (uint8_t)type, 0, 1};
    memcpy(to + used, tail, sizeof tail);
    return used + sizeof tail;
}

static size_t dns_skip_name(const uint8_t *packet, size_t length, size_t at) {
    while (at < length) {
        uint8_t label = packet[at];
        if (label == 0) return at + 1;
        if (label >= 0xc0) return at + 2;
        at += 1 + (size_t)label;
    }
    return length + 1;
}

/* Takes the addresses of `type` (1 = A, 28 = AAAA) out of a reply; aliases are followed by the server. */
static int dns_answers(const uint8_t *packet, size_t length, uint16_t type, uint16_t port, struct endpoint *to,
                       int most) {
    int count = 0;
    if (length < 12 || (packet[3] & 15) != 0) return 0;
    int answers = packet[6] << 8 | packet[7];
    size_t at = dns_skip_name(packet, length, 12) + 4;
    for (; answers > 0 && count < most; answers--) {
        at = dns_skip_name(packet, length, at);
        if (at + 10 > length) break;
        int kind = packet[at] << 8 | packet[at + 1];
        size_t size = (size_t)(packet[at + 8] << 8 | packet[at + 9]);
        at += 10;
        if (at + size > length) break;
        if (kind == type && type == 1 && size == 4) endpoint_v4(&to[count++], packet + at, port);
        if (kind == type && type == 28 && size == 16) endpoint_v6(&to[count++], packet + at, port);
        at += size;
    }
    return count;
}

static int dns_ask(const struct endpoint *server, const char *name, uint16_t type, uint16_t port, struct endpoint *to,
                   int most) {
    uint8_t packet[1500];
    uint16_t id = (uint16_t)random_u64();
    int count = 0;
    size_t length = dns_question(name, type, id, packet, 512);
    if (length == 0) return 0;
    int fd = socket(server->address.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return 0;
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    if (connect(fd, (const struct sockaddr *)&server->address, server->length) == 0 &&
        send(fd, packet, length, 0) == (ssize_t)length && poll(&ready, 1, 2000) == 1) {
        ssize_t got = recv(fd, packet, sizeof packet, 0);
        if (got >= 12 && packet[0] == id >> 8 && packet[1] == (id & 255))
            count = dns_answers(packet, (size_t)got, type, port, to, most);
    }
    close(fd);
    return count;
}

/* Asks the name servers of /etc/resolv.conf, with its search domains for names without a dot. The C library's own
 * look-up can't be linked statically with every C library, so these hundred lines serve them all. */
static int dns_lookup(const char *host, uint16_t port, struct endpoint *to, int most) {
    struct endpoint server[3];
    char name[2][512], word_text[256];
    int servers = 0, names = 0, count = 0;
    struct text file = {0};
    struct slice rest, line, word;
    bool dotted = strchr(host, '.') != NULL;
    if (file_read("/etc/resolv.conf", MIB, &file) != DONE) return 0;
    text_byte(&file, '\n');
    rest = (struct slice){file.data, file.length};
    while (slice_line(&rest, &line)) {
        if (!file_word(&line, &word)) continue;
        bool domain = slice_is(word, "search") || slice_is(word, "domain");
        bool nameserver = slice_is(word, "nameserver");
        if (!file_word(&line, &word) || !slice_copy(word, word_text, sizeof word_text)) continue;
        if (nameserver && servers < 3 && endpoint_parse(word_text, 53, &server[servers])) servers++;
        if (domain && names == 0 && !dotted) snprintf(name[names++], sizeof name[0], "%s.%s", host, word_text);
    }
    text_free(&file);
    snprintf(name[names++], sizeof name[0], "%s", host);
    for (int n = 0; n < names && count == 0; n++)
        for (int s = 0; s < servers && count == 0; s++) {
            count = dns_ask(&server[s], name[n], 1, port, to, most);
            if (count < most) count += dns_ask(&server[s], name[n], 28, port, to + count, most - count);
        }
    return count;
}

/* All addresses of HOST:PORT, at most `most`; 0 with a detail text if there is none. */
static int net_resolve(const char *address, uint16_t default_port, struct endpoint *to, int most) {
    char host[256];
    uint16_t port = default_port;
    if (!net_split(address, host, sizeof host, &port)) {
        fail(BAD_REQUEST, "'%s' is not an address; write HOST:PORT", shown(address));
        return 0;
    }
    if (*host == 0 || strcmp(host, "*") == 0) snprintf(host, sizeof host, "0.0.0.0");
    if (endpoint_parse(host, port, to)) return 1;
    int count = hosts_lookup(host, port, to, most);
    if (count == 0 && strcmp(host, "localhost") == 0) return endpoint_parse("127.0.0.1", port, to);
    if (count == 0) count = dns_lookup(host, port, to, most);
    if (count == 0) fail(NO_SERVER, "host name '%s' not found; check it, or give the address in numbers", shown(host));
    return count;
}

/* ---- Sockets ---- */

/* Ends a connection that another thread uses: whatever it waits for there fails. -1 is no connection. */
static void net_cut(int fd) {
    if (fd >= 0 && shutdown(fd, SHUT_RDWR) != 0 && errno != ENOTCONN) log_line("shutdown: %s", strerror(errno));
}

/* How long one wait for bytes may take, or SO_SNDTIMEO: for room to send some. */
static void conn_limit(struct conn *c, int which, int timeout_ms) {
    struct timeval limit = {timeout_ms / 1000, (timeout_ms % 1000) * 1000};
    int *set = which == SO_RCVTIMEO ? &c->timeout_ms : &c->send_timeout_ms;
    if (*set == timeout_ms) return;
    *set = timeout_ms;
    setsockopt(c->fd, SOL_SOCKET, which, &limit, sizeof limit);
}

static void conn_timeout(struct conn *c, int timeout_ms) {
    conn_limit(c, SO_RCVTIMEO, timeout_ms);
    conn_limit(c, SO_SNDTIMEO, timeout_ms);
}

/* What a connection reads into. Not zeroed, so that its pages are not touched before they are used. */
static char *input_make(void) {
    char *input = malloc(INPUT_BYTES);
    if (!input) die(INTERNAL, "out of memory for a connection");
    return input;
}

/* Takes over a connected socket; it still lacks what it reads into. */
static struct conn *conn_new(int fd, const struct endpoint *peer) {
    static atomic_ullong serials;
    struct conn *c = mem_alloc(sizeof *c);
    c->serial = atomic_fetch_add(&serials, 1) + 1;
    c->fd = fd;
    endpoint_text(peer, c->peer, sizeof c->peer);
    snprintf(c->role, sizeof c->role, "client");
    snprintf(c->id, sizeof c->id, "0000000000000000");
    return c;
}

/* How all our connections are. Those that a listening socket accepts are as it is. */
static void net_setup(int fd) {
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
}

static void conn_close(struct conn *c) {
    if (!c) return;
    close(c->fd);
    free(c->in);
    text_free(&c->out);
    explicit_bzero(&c->send_key, sizeof c->send_key);
    explicit_bzero(&c->receive_key, sizeof c->receive_key);
    free(c);
}

/* Opens a listening socket and tells the address it got. Dies with what to do if it can't. */
static int net_listen(const char *address, uint16_t default_port, char *got, size_t capacity) {
    struct endpoint e;
    int on = 1;
    if (net_resolve(address, default_port, &e, 1) == 0) die(USAGE_ERROR, "-l %s: %s", address, detail);
    int fd = socket(e.address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) die(INTERNAL, "no socket: %s", strerror(errno));
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    struct conn listener = {.fd = fd}; /* what is accepted inherits all this */
    net_setup(fd);
    conn_timeout(&listener, STRANGER_TIMEOUT_MS);
    if (bind(fd, (struct sockaddr *)&e.address, e.length) != 0 || listen(fd, 1024) != 0)
        die(NO_SERVER,
            "cannot listen on %s: %s; is another server running there? choose another port with -l HOST:PORT", address,
            strerror(errno));
    e.length = sizeof e.address;
    getsockname(fd, (struct sockaddr *)&e.address, &e.length);
    endpoint_text(&e, got, capacity);
    return fd;
}

static int dial_one(const struct endpoint *e, int timeout_ms) {
    int error = 0;
    socklen_t size = sizeof error;
    int fd = socket(e->address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return -1;
    if (connect(fd, (const struct sockaddr *)&e->address, e->length) != 0) {
        struct pollfd ready = {.fd = fd, .events = POLLOUT};
        int waited = errno == EINPROGRESS ? poll(&ready, 1, timeout_ms) : -1;
        if (waited == 0) errno = ETIMEDOUT;
        if (waited == 1) {
            getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
            if (error != 0) errno = error;
        }
        if (waited != 1 || error != 0) {
            error = errno;
            close(fd);
            errno = error;
            return -1;
        }
    }
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
    return fd;
}

/* Connects a socket, without a word said; the caller closes it. */
static enum status net_dial(const char *address, uint16_t default_port, int timeout_ms, struct conn **out) {
    struct endpoint e[4];
    char text[64] = "?";
    int count = net_resolve(address, default_port, e, 4);
    if (count == 0) return NO_SERVER;
    for (int i = 0; i < count; i++) {
        int fd = dial_one(&e[i], timeout_ms < DIAL_TIMEOUT_MS ? timeout_ms : DIAL_TIMEOUT_MS);
        if (fd >= 0) {
            net_setup(fd);
            *out = conn_new(fd, &e[i]);
            (*out)->in = input_make();
            conn_timeout(*out, timeout_ms < GREET_TIMEOUT_MS ? timeout_ms : GREET_TIMEOUT_MS);
            return DONE;
        }
        endpoint_text(&e[i], text, sizeof text);
    }
    return fail(NO_SERVER, "%s: %s", text, strerror(errno));
}

/* ---- Lines ---- */

/* Reads more into the buffer. NO_SERVER at the end of the stream or when nothing comes in time. */
static enum status conn_fill(struct conn *c) {
    if (c->start > 0) {
        memmove(c->in, c->in + c->start, c->end - c->start);
        c->end -= c->start;
        c->start = 0;
    }
    assert(c->end < INPUT_BYTES);
    for (;;) {
        ssize_t got = recv(c->fd, c->in + c->end, INPUT_BYTES - c->end, 0);
        if (got > 0) {
            c->end += (size_t)got;
            return DONE;
        }
        if (got < 0 && errno == EINTR) continue;
        if (got == 0) return fail(NO_SERVER, "%s closed the connection", c->peer);
        if (errno == EAGAIN && c->end == 0 && clock_ms() < c->idle_until_ms) continue; /* nothing asked yet */
        if (errno == EAGAIN && c->waits && c->waits(c->waits_for)) continue;
        if (errno == EAGAIN) return fail(NO_SERVER, "%s does not answer (waited %d ms)", c->peer, c->timeout_ms);
        return fail(NO_SERVER, "%s: %s", c->peer, strerror(errno));
    }
}

/* The MAC of one line: HMAC over its number in this direction and its bytes. */
static void line_mac(const struct hmac_sha256 *key, uint64_t number, const char *line, size_t length,
                     char hex[MAC_HEX]) {
    struct hmac_sha256 mac = *key;
    uint8_t head[8], digest[32];
    for (int i = 0; i < 8; i++) head[i] = (uint8_t)(number >> (56 - 8 * i));
    hmac_sha256_update(&mac, head, sizeof head);
    hmac_sha256_update(&mac, line, length);
    hmac_sha256_final(&mac, digest);
    hex_write(hex, digest, MAC_HEX / 2);
}

/* Checks and takes off the MAC at the end of a line. */
static enum status conn_check_mac(struct conn *c, struct slice *line) {
    char expected[MAC_HEX];
    if (line->length < MAC_HEX + 1 || line->at[line->length - MAC_HEX - 1] != ' ')
        return fail(DENIED, "a line without a MAC from %s", c->peer);
    line->length -= MAC_HEX + 1;
    line_mac(&c->receive_key, c->received++, line->at, line->length, expected);
    if (!sha256_equal((const uint8_t *)expected, (const uint8_t *)line->at + line->length + 1, MAC_HEX))
        return fail(DENIED, "a line with a wrong MAC from %s: it was changed, repeated or left out on the way",
                    c->peer);
    return DONE;
}

/* Reads one line, without newline and MAC; it stays valid until the next read from `c`. BAD_REQUEST if it is too long.
 */
static enum status conn_read_line(struct conn *c, struct slice *line) {
    size_t scanned = 0, most = c->secure || !cluster_key.set ? LINE_MAX_BYTES : LINE_STRANGER_BYTES;
    int64_t begun_ms = 0;
    for (;;) {
        size_t have = c->end - c->start;
        const char *newline = memchr(c->in + c->start + scanned, '\n', have - scanned);
        size_t length = newline ? (size_t)(newline - c->in) - c->start : have;
        if (length >= most) return fail(BAD_REQUEST, "a line of more than %zu bytes from %s", most, c->peer);
        if (newline) {
            *line = (struct slice){c->in + c->start, length};
            c->start += length + 1;
            return c->secure ? conn_check_mac(c, line) : DONE;
        }
        scanned = have;
        if (have > 0 && begun_ms == 0) begun_ms = clock_ms();
        if (begun_ms != 0 && clock_ms() - begun_ms > (most == LINE_MAX_BYTES ? LINE_TIMEOUT_MS : STRANGER_TIMEOUT_MS))
            return fail(NO_SERVER, "%s takes too long to finish a line", c->peer);
        enum status status = conn_fill(c);
        if (status != DONE) return status;
    }
}

/* Begins a line; what the caller appends to the returned buffer belongs to it until conn_line_end. */
static struct text *conn_line(struct conn *c) {
    c->line_start = c->out.length;
    return &c->out;
}

static void conn_line_end(struct conn *c) {
    if (c->secure) {
        char mac[MAC_HEX + 1] = " ";
        line_mac(&c->send_key, c->sent++, c->out.data + c->line_start, c->out.length - c->line_start, mac + 1);
        text_bytes(&c->out, mac, sizeof mac);
    }
    text_byte(&c->out, '\n');
}

/* Sends the lines not sent yet and then `length` bytes of a body. */
static enum status conn_send(struct conn *c, const void *body, size_t length) {
    enum { PIECE_BYTES = 256 * KIB };
    struct iovec piece[2] = {{c->out.data, c->out.length}, {(void *)(uintptr_t)body, length}};
    struct msghdr message = {.msg_iov = piece, .msg_iovlen = 2};
    while (piece[0].iov_len + length > 0) {
        piece[1].iov_len = c->moved && length > PIECE_BYTES ? PIECE_BYTES : length;
        ssize_t sent = sendmsg(c->fd, &message, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR) continue;
        if (sent < 0 && errno == EAGAIN && c->waits && c->waits(c->waits_for)) continue;
        if (sent < 0)
            return fail(NO_SERVER, "sending to %s: %s", c->peer,
                        errno == EAGAIN ? "it does not take it" : strerror(errno));
        size_t head = (size_t)sent < piece[0].iov_len ? (size_t)sent : piece[0].iov_len, part = (size_t)sent - head;
        if (head > 0) piece[0].iov_base = (char *)piece[0].iov_base + head; /* nothing is added to a pointer NULL */
        if (part > 0) piece[1].iov_base = (char *)piece[1].iov_base + part;
        piece[0].iov_len -= head;
        length -= part;
        if (c->moved && part > 0) c->moved(part);
    }
    text_recycle(&c->out, 64 * KIB);
    return DONE;
}

static enum status conn_flush(struct conn *c) {
    return c->out.length > 0 ? conn_send(c, NULL, 0) : DONE;
}

/* Sends the lines not sent yet and then a piece of a file, without copying it. DAMAGED if the file can't be read. */
static enum status conn_send_file(struct conn *c, int fd, uint64_t offset, uint64_t length) {
    off_t at = (off_t)offset;
    while (c->out.length > 0) {
        ssize_t sent = send(c->fd, c->out.data, c->out.length, MSG_NOSIGNAL | MSG_MORE);
        if (sent < 0 && errno == EINTR) continue;
        if (sent < 0) return fail(NO_SERVER, "sending to %s: %s", c->peer, strerror(errno));
        memmove(c->out.data, c->out.data + sent, c->out.length - (size_t)sent);
        c->out.length -= (size_t)sent;
    }
    while (length > 0) {
        ssize_t sent = sendfile(c->fd, fd, &at, length < GIB ? (size_t)length : (size_t)GIB);
        if (sent < 0 && errno == EINTR) continue;
        if (sent == 0) return fail(NO_SERVER, "sending to %s: the file ended", c->peer);
        if (sent < 0) return fail(errno == EIO ? DAMAGED : NO_SERVER, "sending to %s: %s", c->peer, strerror(errno));
        length -= (uint64_t)sent;
    }
    return DONE;
}

/* Reads 1 to `length` bytes of a body. */
static enum status conn_read_some(struct conn *c, void *to, size_t length, size_t *got) {
    size_t have = c->end - c->start;
    if (have > 0) {
        *got = have < length ? have : length;
        memcpy(to, c->in + c->start, *got);
        c->start += *got;
        return DONE;
    }
    for (;;) {
        ssize_t n = recv(c->fd, to, length, 0);
        if (n > 0) {
            *got = (size_t)n;
            return DONE;
        }
        if (n < 0 && errno == EINTR) continue;
        if (n == 0) return fail(NO_SERVER, "%s closed the connection in the middle of a body", c->peer);
        return fail(NO_SERVER, "%s: %s", c->peer, errno == EAGAIN ? "no data in time" : strerror(errno));
    }
}

static enum status conn_read_body(struct conn *c, void *to, size_t length) {
    uint8_t *at = to;
    while (length > 0) {
        size_t got;
        enum status status = conn_read_some(c, at, length, &got);
        if (status != DONE) return status;
        if (c->moved) c->moved(got);
        at += got;
        length -= got;
    }
    return DONE;
}

/* Reads a body into memory that grows as bytes arrive, not as they are announced, and checks its hash. */
static enum status conn_read_text(struct conn *c, uint64_t length, const uint8_t hash[32], struct text *to) {
    uint8_t digest[32];
    text_clear(to);
    while (to->length < length) {
        size_t part = (size_t)(length - to->length < 256 * KIB ? length - to->length : 256 * KIB);
        text_reserve(to, part);
        enum status status = conn_read_body(c, to->data + to->length, part);
        if (status != DONE) return status;
        to->length += part;
        to->data[to->length] = 0;
    }
    sha256_digest(to->data, to->length, digest);
    if (memcmp(digest, hash, 32) != 0) return fail(DAMAGED, "a body from %s that is not what its line says", c->peer);
    return DONE;
}

/* ---- The mutual challenge ---- */

/* HMAC of the key over a label and everything both sides said. */
static void hello_mac(const char *label, const struct text *said, uint8_t mac[32]) {
    struct hmac_sha256 h = cluster_key.mac;
    hmac_sha256_update(&h, label, strlen(label) + 1);
    hmac_sha256_update(&h, said->data, said->length);
    hmac_sha256_final(&h, mac);
}

/* Derives the keys of the two directions, which have a MAC key each, so that no line can be sent back to its sender. */
static void conn_secure(struct conn *c, const struct text *said, bool client) {
    uint8_t up[32], down[32];
    hello_mac("dfs/1 from client", said, up);
    hello_mac("dfs/1 from server", said, down);
    hmac_sha256_init(&c->send_key, client ? up : down, 32);
    hmac_sha256_init(&c->receive_key, client ? down : up, 32);
    explicit_bzero(up, sizeof up);
    explicit_bzero(down, sizeof down);
}

static void hello_said(struct text *said, const char *role, const char *id, const char *nonce, const char *server_role,
                       const char *server_id, const char *server_nonce) {
    text_format(said, PROTOCOL_NAME " %s %s %s %s %s %s", role, id, nonce, server_role, server_id, server_nonce);
}

/* The dialling side: proves to each other that both hold the key. Without a key it only says who it is. */
static enum status conn_hello(struct conn *c) {
    uint8_t bytes[NONCE_BYTES], proof[32], given[32];
    char nonce[2 * NONCE_BYTES + 1] = "-", theirs[2 * NONCE_BYTES + 1];
    struct slice line;
    struct words w;
    struct text said = {0};
    enum status status;
    if (cluster_key.set) {
        random_bytes(bytes, sizeof bytes);
        hex_write(nonce, bytes, sizeof bytes);
        nonce[2 * NONCE_BYTES] = 0;
    }
    text_format(conn_line(c), "HELLO " PROTOCOL_NAME " %s %s %s", self_role, self_id, nonce);
    conn_line_end(c);
    if ((status = conn_flush(c)) != DONE || (status = conn_read_line(c, &line)) != DONE) return status;
    if (line.length > 4 && memcmp(line.at, "ERR ", 4) == 0) {
        struct slice rest = {line.at + 4, line.length - 4}, word;
        if (!slice_part(&rest, ' ', &word)) return fail(INTERNAL, "an empty error from %s", c->peer);
        /* It has not proved the key yet: nothing that it says of files is believed. */
        return fail(slice_is(word, status_table[DENIED].word) ? DENIED : NO_SERVER, "%s: %.*s", c->peer,
                    (int)rest.length, rest.at);
    }
    if (!words_split(line, &w) || w.count != 6 || !slice_is(w.word[0], "OK") || !slice_is(w.word[1], PROTOCOL_NAME) ||
        !slice_copy(w.word[2], c->role, sizeof c->role) || !slice_copy(w.word[3], c->id, sizeof c->id) ||
        !slice_copy(w.word[4], theirs, sizeof theirs))
        return fail(BAD_REQUEST, "%s does not speak " PROTOCOL_NAME "; is it another kind of server?", c->peer);
    if (!cluster_key.set) return DONE;
    if (slice_is(w.word[5], "-"))
        return fail(DENIED, "%s runs without a key (--insecure) and this client has one; give --insecure to talk to it",
                    c->peer);
    hello_said(&said, self_role, self_id, nonce, c->role, c->id, theirs);
    hello_mac("dfs/1 server", &said, proof);
    bool same = parse_hex(w.word[5], given, 32) && sha256_equal(given, proof, 32);
    if (same) {
        hello_mac("dfs/1 client", &said, proof);
        text_add(conn_line(c), "AUTH ");
        text_hex(&c->out, proof, 32);
        conn_line_end(c);
        conn_secure(c, &said, true);
        c->secure = true; /* the server's next line and all of ours carry a MAC from here on */
    }
    text_free(&said);
    return same ? DONE : fail(DENIED, "%s holds another key; is this the right cluster, the right key file?", c->peer);
}

/* The answering side of HELLO. The rest of the exchange is AUTH. */
static enum status conn_answer_hello(struct conn *c, const struct words *w, const char *role) {
    uint8_t bytes[NONCE_BYTES], proof[32];
    char nonce[2 * NONCE_BYTES + 1], theirs[2 * NONCE_BYTES + 1];
    uint64_t id;
    if (c->secure || c->greeted) return fail(BAD_REQUEST, "HELLO comes once, and first");
    if (!slice_is(w->word[1], PROTOCOL_NAME))
        return fail(BAD_REQUEST, "this server speaks " PROTOCOL_NAME " only; use the same version everywhere");
    if (!slice_is(w->word[2], "client") && !slice_is(w->word[2], "node") && !slice_is(w->word[2], "master"))
        return fail(BAD_REQUEST, "a role is client, node or master");
    if (!parse_id(w->word[3], &id)) return fail(BAD_REQUEST, "an id is 16 hexadecimal digits");
    slice_copy(w->word[2], c->role, sizeof c->role);
    slice_copy(w->word[3], c->id, sizeof c->id);
    if (!cluster_key.set) {
        text_format(&c->out, " " PROTOCOL_NAME " %s %s - -", role, self_id);
        return DONE;
    }
    if (!parse_hex(w->word[4], bytes, NONCE_BYTES))
        return fail(DENIED,
                    "this cluster has a key and you gave none; use -k FILE, DFS_KEY_FILE or the default key file");
    slice_copy(w->word[4], theirs, sizeof theirs);
    random_bytes(bytes, sizeof bytes);
    hex_write(nonce, bytes, sizeof bytes);
    nonce[2 * NONCE_BYTES] = 0;
    struct text said = {0};
    hello_said(&said, c->role, c->id, theirs, role, self_id, nonce);
    hello_mac("dfs/1 client", &said, c->proof);
    hello_mac("dfs/1 server", &said, proof);
    conn_secure(c, &said, false);
    text_free(&said);
    c->greeted = true;
    text_format(&c->out, " " PROTOCOL_NAME " %s %s %s ", role, self_id, nonce);
    text_hex(&c->out, proof, 32);
    return DONE;
}

static enum status conn_answer_auth(struct conn *c, const struct words *w) {
    uint8_t given[32];
    if (!c->greeted) return fail(DENIED, "AUTH comes after HELLO");
    c->greeted = false;
    if (!parse_hex(w->word[1], given, 32) || !sha256_equal(given, c->proof, 32))
        return fail(DENIED, "wrong key");
    c->secure = true;
    return DONE;
}

/* Reads a key file: 64 hexadecimal digits. Refuses one that others can read. */
static void key_load(const char *path) {
    struct text file = {0};
    uint8_t key[KEY_BYTES];
    struct stat about;
    if (stat(path, &about) == 0 && (about.st_mode & 077) != 0 && S_ISREG(about.st_mode))
        die(USAGE_ERROR, "the key file %s can be read by others; run: chmod 600 %s", path, path);
    if (file_read(path, KEY_FILE_MAX_BYTES, &file) != DONE) die(USAGE_ERROR, "no key: %s", detail);
    while (file.length > 0 && strchr(" \r\n", file.data[file.length - 1])) file.length--;
    if (!parse_hex((struct slice){file.data, file.length}, key, sizeof key))
        die(USAGE_ERROR, "the key file %s does not hold a key: 64 hexadecimal digits; copy it again", path);
    hmac_sha256_init(&cluster_key.mac, key, sizeof key);
    cluster_key.set = true;
    explicit_bzero(key, sizeof key);
    explicit_bzero(file.data, file.capacity);
    text_free(&file);
}

/* ======== 7. Protocol ======== */
/* Requests and replies, the dispatcher and the server's accept loop. A handler appends its words to the reply line and
 * its lines to the reply's body, and returns a status; parsing, arity, roles, bodies, limits and logging are done here.
 * Docs: docs/PROTOCOL.md. Entry points: call_*, server_run. */

enum body { NO_BODY, LINES_BODY, STREAM_BODY }; /* STREAM_BODY: the handler reads it */

enum { FROM_CLIENT = 1, FROM_NODE = 2, FROM_MASTER = 4, FROM_ALL = 7 };

struct request {
    struct conn *c;
    struct words w;           /* w.word[0] is the verb */
    bool understood;          /* verb and number of arguments are right, and the peer may ask this */
    bool dropped;             /* it is not answered */
    uint64_t body_length, body_left; /* left: not read from the connection yet */
    uint8_t body_hash[32];
    struct text body;         /* LINES_BODY: read and checked */
    struct text *line;        /* the reply's line: append " WORD" */
    struct text reply;        /* the reply's body, if has_reply */
    bool has_reply, hash_known; /* known: reply_hash is its hash */
    int file_fd;              /* or a piece of a file as the reply's body; -1: none */
    uint64_t file_offset, file_length;
    uint8_t reply_hash[32];
    void (*file_done)(struct request *, enum status); /* called when the piece was sent, or it failed */
    void *file_owner;
};

struct command {
    const char *verb;
    enum status (*run)(struct request *r);
    int arguments;            /* exactly so many, without the two of a body */
    enum body body;
    unsigned from;            /* which roles may ask */
    const char *usage;        /* the arguments, for HELP and the manual */
    const char *summary;
};

/* One server is one process; set up before its first connection. */
static struct {
    const struct command *table;
    const char *role;
    int listen_fd;
    char address[64];
    atomic_int connections;
    int connections_most;    /* CONNECTIONS_MAX, or fewer if the system allows fewer open files */
    atomic_ullong requests, refused;
    void (*gone)(struct conn *); /* told when a connection ends */
    void (*listening)(void); /* called once, when `address` is known; NULL: nothing is */
    void (*http)(struct conn *); /* serves a connection that begins with a request of HTTP; NULL: none does */
    void (*http_forget)(void *); /* frees what that left in conn.kept */
    bool (*hold)(const struct request *, bool answered); /* called before a request is run, and before it is answered:
                                                          * may wait; false drops the connection without a word */
} server;

static atomic_int stop_signal; /* the signal that came; the handler may run on any thread */
static int stop_pipe[2] = {-1, -1};

static enum status proto_hello(struct request *r) {
    return conn_answer_hello(r->c, &r->w, server.role);
}

static enum status proto_help(struct request *r);

static const struct command common_table[] = {
    {"HELLO", proto_hello, 4, NO_BODY, FROM_ALL, "dfs/1 ROLE ID NONCE", "say who you are; answered with a challenge"},
    {"AUTH", NULL, 1, NO_BODY, FROM_ALL, "PROOF", "answer the challenge; from then on every line carries a MAC"},
    {"HELP", proto_help, 0, NO_BODY, FROM_ALL, "", "list the verbs"},
    {0}};

static enum status proto_help(struct request *r) {
    const struct command *tables[2] = {common_table, server.table};
    r->has_reply = true;
    for (int t = 0; t < 2; t++)
        for (const struct command *row = tables[t]; row->verb; row++)
            text_format(&r->reply, "%s%s%s%s  %s\n", row->verb, *row->usage ? " " : "", row->usage,
                        row->body == NO_BODY ? "" : " LENGTH SHA256", row->summary);
    return DONE;
}

static const struct command *command_find(struct slice verb) {
    const struct command *tables[2] = {common_table, server.table};
    for (int t = 0; t < 2; t++)
        for (const struct command *row = tables[t]; row->verb; row++)
            if (slice_is(verb, row->verb)) return row;
    return NULL;
}

static unsigned conn_role_bit(const struct conn *c) {
    return c->role[0] == 'n' ? FROM_NODE : c->role[0] == 'm' ? FROM_MASTER : FROM_CLIENT;
}

/* Reads a body that the line announced: its last two words are the length and the SHA-256. */
static enum status request_body(struct request *r, const struct command *row) {
    uint64_t most = row->body == STREAM_BODY ? CHUNK_MAX_BYTES : BODY_MAX_BYTES;
    int at = r->w.count - 2;
    if (!parse_u64(r->w.word[at], UINT64_MAX, &r->body_length) || !parse_hex(r->w.word[at + 1], r->body_hash, 32))
        return fail(BAD_REQUEST, "%s ends in the length and the SHA-256 of its body", row->verb);
    if (r->body_length > most) {
        uint64_t length = r->body_length;
        r->body_left = UINT64_MAX; /* it will not be read: the connection is over */
        return fail(BAD_REQUEST, "a body of %" PRIu64 " bytes; the most is %" PRIu64, length, most);
    }
    r->body_left = r->body_length;
    if (row->body == STREAM_BODY) return DONE;
    enum status status = conn_read_text(r->c, r->body_length, r->body_hash, &r->body);
    r->body_left = status == DONE || status == DAMAGED ? 0 : UINT64_MAX;
    return status;
}

/* Sends the replies to earlier requests, before a body is waited for: the peer may want them first. */
static enum status conn_flush_replies(struct conn *c) {
    if (c->line_start == 0) return DONE;
    assert(c->out.length == c->line_start + 2); /* nothing but "OK" of this reply */
    c->out.length = c->line_start;
    enum status status = conn_flush(c);
    text_add(conn_line(c), "OK");
    return status;
}

/* Whether a line that was not understood ends in the length and the SHA-256 of a body. */
static bool line_announces_body(struct slice line) {
    struct slice part, length = {0}, last = {0};
    uint8_t hash[32];
    uint64_t number;
    while (slice_part(&line, ' ', &part)) length = last, last = part;
    return parse_hex(last, hash, 32) && parse_u64(length, UINT64_MAX, &number);
}

/* Finds and runs the command of one line. */
static enum status request_run(struct request *r, struct slice line) {
    if (!words_split(line, &r->w)) return fail(BAD_REQUEST, "a line is words with one space between them");
    const struct command *row = command_find(r->w.word[0]);
    bool stranger = cluster_key.set && !r->c->secure;
    if (stranger && row != &common_table[0] && row != &common_table[1]) {
        r->body_left = UINT64_MAX;
        return fail(DENIED, "this cluster has a key; open with HELLO and AUTH");
    }
    if (!row) return fail(BAD_REQUEST, "no such verb; HELP lists them");
    if (r->w.count - 1 != row->arguments + (row->body == NO_BODY ? 0 : 2))
        return fail(BAD_REQUEST, "write %s %s%s", row->verb, row->usage, row->body == NO_BODY ? "" : " LENGTH SHA256");
    if (!(row->from & conn_role_bit(r->c))) return fail(DENIED, "%s is not for a %s", row->verb, r->c->role);
    r->understood = true;
    if (row->run == NULL) return conn_answer_auth(r->c, &r->w);
    enum status status = row->body == NO_BODY ? DONE : conn_flush_replies(r->c);
    if (status == DONE && row->body != NO_BODY) status = request_body(r, row);
    if (status != DONE) return status;
    atomic_fetch_add_explicit(&server.requests, 1, memory_order_relaxed);
    r->dropped = server.hold && !server.hold(r, false);
    if (r->dropped) return DONE;
    status = row->run(r);
    r->dropped = server.hold && !server.hold(r, true);
    return status;
}

/* Reads what the handler left of a body, so that the next line is found. */
static enum status request_drain(struct request *r) {
    char sink[4096];
    while (r->body_left > 0) {
        size_t got, part = r->body_left < sizeof sink ? (size_t)r->body_left : sizeof sink;
        enum status status = conn_read_some(r->c, sink, part, &got);
        if (status != DONE) return status;
        r->body_left -= got;
    }
    return DONE;
}

/* Reads the path of a request. */
static enum status request_path(const struct request *r, int word, char path[PATH_MAX_BYTES + 1]) {
    char raw[PATH_MAX_BYTES + 2];
    if (!parse_escaped(r->w.word[word], raw, sizeof raw))
        return fail(BAD_REQUEST, "a path of more than %d bytes, or with a bad escape", PATH_MAX_BYTES);
    return path_normalize(raw, path);
}

/* Finishes and sends the reply. The reply to AUTH is the first line with a MAC. */
static enum status request_reply(struct request *r, enum status outcome) {
    struct conn *c = r->c;
    if (outcome != DONE) {
        c->out.length = c->line_start;
        text_format(&c->out, "ERR %s ", status_table[outcome].word);
        for (const char *at = detail; *at; at++) text_byte(&c->out, (uint8_t)*at < ' ' || *at == 127 ? '?' : *at);
        while (c->out.data[c->out.length - 1] == ' ') c->out.length--;
    } else if (r->has_reply) {
        if (!r->hash_known) sha256_digest(r->reply.data ? r->reply.data : "", r->reply.length, r->reply_hash);
        text_byte(&c->out, ' ');
        text_u64(&c->out, r->reply.length);
        text_byte(&c->out, ' ');
        text_hex(&c->out, r->reply_hash, 32);
    } else if (r->file_fd >= 0) {
        text_byte(&c->out, ' ');
        text_u64(&c->out, r->file_length);
        text_byte(&c->out, ' ');
        text_hex(&c->out, r->reply_hash, 32);
    }
    conn_line_end(c);
    enum status status = DONE;
    if (outcome == DONE && r->file_fd >= 0) status = conn_send_file(c, r->file_fd, r->file_offset, r->file_length);
    else if (outcome == DONE && r->has_reply) status = conn_send(c, r->reply.data, r->reply.length);
    if (r->file_fd >= 0) r->file_done(r, status);
    return status;
}

/* Ends a connection whose last line is an error. What the peer still sends is read for a while, or the system would
 * answer it by throwing away what was sent. */
static void conn_part(struct conn *c) {
    enum { PART_TIMEOUT_MS = 1000, PART_BYTES = 2 * 1024 * 1024 };
    char sink[4096];
    int64_t until_ms = clock_ms() + PART_TIMEOUT_MS;
    if (conn_flush(c) != DONE || shutdown(c->fd, SHUT_WR) != 0) return;
    conn_timeout(c, PART_TIMEOUT_MS);
    for (int left = PART_BYTES; left > 0 && clock_ms() < until_ms; left -= (int)sizeof sink)
        if (recv(c->fd, sink, sizeof sink, 0) <= 0) return;
}

/* One request, from its line to its reply; false when the connection is over. */
static bool conn_serve_one(struct request *r) {
    struct conn *c = r->c;
    struct slice line;
    /* Requests that have arrived are answered together; before waiting for more, the answers go out. */
    bool more = memchr(c->in + c->start, '\n', c->end - c->start) != NULL;
    if ((!more || c->out.length > REPLIES_BYTES) && conn_flush(c) != DONE) return false;
    enum status status = conn_read_line(c, &line);
    if (status == NO_SERVER) return false;
    bool broken = status != DONE; /* too long, or not from whom it should be: what follows can't be trusted */
    r->has_reply = r->hash_known = false;
    r->file_fd = -1;
    r->understood = r->dropped = false;
    r->body_left = 0;
    text_recycle(&r->body, 64 * KIB);
    text_recycle(&r->reply, 64 * KIB);
    r->line = conn_line(c);
    text_add(r->line, "OK");
    bool stranger = cluster_key.set && !c->secure;
    if (!broken) status = request_run(r, line);
    if (r->dropped) {
        if (r->file_fd >= 0) r->file_done(r, DONE);
        return false;
    }
    if (!broken && !r->understood && line_announces_body(line))
        r->body_left = UINT64_MAX; /* not to be taken for lines */
    if (status == DENIED) {
        atomic_fetch_add(&server.refused, 1);
        log_line("refused %s: %s", c->peer, detail);
    }
    if (broken && status != DENIED) log_line("refused %s: %s", c->peer, detail);
    if (status != DONE && (stranger || r->body_left == UINT64_MAX)) broken = true;
    if (!broken && r->body_left > 0) {
        char why[DETAIL_BYTES];
        memcpy(why, detail, sizeof why);
        if (request_drain(r) != DONE) return false;
        memcpy(detail, why, sizeof why);
    }
    if (request_reply(r, status) != DONE) return false;
    if (broken) conn_part(c);
    return !broken;
}

/* What the first bytes are the beginning of: 1, a request of HTTP; 0, a line; -1, nothing came. Our own verbs are never
 * followed by such a thing. */
static int conn_speaks_http(struct conn *c) {
    static const char *const methods[] = {"GET ", "HEAD ", "PUT ", "POST ", "DELETE ", "OPTIONS ", "PATCH ", "TRACE "};
    static const char *const targets[] = {"/", "*", "http://", " "};
    for (bool begun = false;;) {
        if (!begun && c->end - c->start >= 2 && memcmp(c->in + c->start, "\r\n", 2) == 0) c->start += 2;
        size_t have = c->end - c->start;
        bool may = have == 0 || (!begun && have == 1 && c->in[c->start] == '\r');
        begun = begun || have > 1 || c->start > 0; /* one empty line before a request is passed over */
        for (size_t i = 0; i < sizeof methods / sizeof *methods; i++)
            for (size_t k = 0; k < sizeof targets / sizeof *targets; k++) {
                char begin[16];
                size_t length = (size_t)snprintf(begin, sizeof begin, "%s%s", methods[i], targets[k]);
                if (memcmp(c->in + c->start, begin, have < length ? have : length) != 0) continue;
                if (have >= length) return 1;
                may = true;
            }
        if (!may) return 0;
        if (conn_fill(c) != DONE) return -1;
    }
}

/* Serves a connection until it is over. */
static void conn_serve(struct conn *c) {
    struct request r = {.c = c, .file_fd = -1};
    int64_t begun_ms = clock_ms();
    if (!cluster_key.set) r.c->idle_until_ms = clock_ms() + IDLE_TIMEOUT_MS; /* somebody may type */
    int http = server.http ? conn_speaks_http(r.c) : 0;
    if (http > 0) server.http(r.c);
    while (http == 0 && conn_serve_one(&r)) {
        if (!r.c->secure && cluster_key.set && clock_ms() - begun_ms > STRANGER_TIMEOUT_MS) break;
        if (!r.c->secure && cluster_key.set) continue;
        conn_timeout(r.c, LINE_TIMEOUT_MS);
        r.c->idle_until_ms = clock_ms() + IDLE_TIMEOUT_MS;
    }
    if (server.gone) server.gone(r.c);
    text_free(&r.body);
    text_free(&r.reply);
}

enum { THREADS_IDLE_MAX = 32, THREAD_IDLE_MS = 2000 };

/* Threads whose connection is over wait here a while for the next one: to make a thread costs more than many a request.
 */
static struct {
    struct lock lock;
    struct cond wanted;
    struct conn *queue[THREADS_IDLE_MAX]; /* one for each thread that was woken and has not come yet */
    int queued, idle;                     /* queued is never more than idle */
} resting;

/* The next connection for a thread that has served one; NULL: none came in time, or enough others wait. */
static struct conn *threads_wait(void) {
    struct conn *c = NULL;
    int64_t until_ms = clock_ms() + THREAD_IDLE_MS;
    lock_take(&resting.lock);
    if (resting.idle < THREADS_IDLE_MAX) {
        resting.idle++;
        while (resting.queued == 0 && cond_wait_until(&resting.wanted, &resting.lock, until_ms)) continue;
        if (resting.queued > 0) c = resting.queue[--resting.queued];
        resting.idle--;
    }
    lock_drop(&resting.lock);
    return c;
}

/* Gives a connection to a thread that waits for one. False if none does. */
static bool threads_give(struct conn *c) {
    lock_take(&resting.lock);
    bool given = resting.queued < resting.idle;
    if (given) resting.queue[resting.queued++] = c;
    if (given) cond_signal(&resting.wanted);
    lock_drop(&resting.lock);
    return given;
}

/* Thread: one connection after the other. */
static void *conn_main(void *argument) {
    char *input = input_make();
    void *kept = NULL;
    for (struct conn *c = argument; c; c = threads_wait()) {
        c->in = input;
        c->kept = kept;
        conn_serve(c);
        kept = c->kept;
        c->in = NULL; /* for the next one */
        conn_close(c);
        atomic_fetch_sub(&server.connections, 1);
    }
    free(input);
    if (kept) server.http_forget(kept);
    return NULL;
}

/* One more connection than there may be: it is told so. */
static void *conn_refuse(void *argument) {
    struct conn *c = argument;
    text_add(conn_line(c), "ERR noserver this server has too many connections; try again later");
    conn_line_end(c);
    conn_part(c);
    conn_close(c);
    atomic_fetch_sub(&server.connections, 1);
    return NULL;
}

/* Takes one connection. False if there is none. */
static bool server_accept(void) {
    struct endpoint peer = {.length = sizeof peer.address};
    int fd = accept4(server.listen_fd, (struct sockaddr *)&peer.address, &peer.length, SOCK_CLOEXEC);
    if (fd < 0) {
        if (errno == EMFILE || errno == ENFILE || errno == ENOMEM) {
            log_line("cannot take a connection: %s", strerror(errno));
            sleep_ms(50);
        }
        return false;
    }
    struct conn *c = conn_new(fd, &peer);
    c->timeout_ms = c->send_timeout_ms = STRANGER_TIMEOUT_MS; /* as the listening socket's */
    int count = atomic_fetch_add(&server.connections, 1);
    if (count == server.connections_most)
        log_line("too many connections: refusing those over %d", server.connections_most);
    if (count < server.connections_most && (threads_give(c) || thread_start(conn_main, c))) return true;
    int told = server.connections_most / 4 < CONNECTIONS_TOLD ? server.connections_most / 4 : CONNECTIONS_TOLD;
    if (count >= server.connections_most && count < server.connections_most + told && thread_start(conn_refuse, c))
        return true;
    conn_close(c);
    atomic_fetch_sub(&server.connections, 1);
    return true;
}

static void on_stop_signal(int number) {
    char byte = 0;
    atomic_store(&stop_signal, number);
    if (write(stop_pipe[1], &byte, 1) < 0) return;
}

/* Before any thread: SIGTERM and SIGINT end the accept loop, writing to a closed socket is an error, not a signal. */
static void server_signals(void) {
    struct sigaction action = {.sa_handler = on_stop_signal};
    struct rlimit files;
    server.connections_most = CONNECTIONS_MAX;
    lock_init(&resting.lock, RANK_TRANSFER);
    cond_init(&resting.wanted);
    if (pipe2(stop_pipe, O_CLOEXEC) != 0) die(INTERNAL, "no pipe: %s", strerror(errno));
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_max < FILES_LEAST)
        die(USAGE_ERROR, "this process may open %d files, and needs %d; raise the limit (ulimit -n)",
            (int)files.rlim_max, FILES_LEAST);
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
        uint64_t left = files.rlim_cur < 2 * FILES_OWN ? files.rlim_cur / 2 : files.rlim_cur - FILES_OWN;
        if (left < CONNECTIONS_MAX) server.connections_most = (int)left;
    }
}

/* Serves until SIGTERM or SIGINT. The first line on standard output tells the address, once it serves there. */
static void server_run(void) {
    struct pollfd ready[2] = {{.fd = server.listen_fd, .events = POLLIN}, {.fd = stop_pipe[0], .events = POLLIN}};
    if (server.listening) server.listening();
    printf("listening %s\n", server.address);
    fflush(stdout);
    fcntl(server.listen_fd, F_SETFL, fcntl(server.listen_fd, F_GETFL) | O_NONBLOCK);
    while (atomic_load(&stop_signal) == 0) {
        bool more = poll(ready, 2, -1) > 0 && (ready[0].revents & POLLIN);
        while (more && atomic_load(&stop_signal) == 0) more = server_accept();
    }
    log_line("stopping on signal %d", atomic_load(&stop_signal));
}

/* ---- The asking side ---- */

/* Connects and proves the key. Tells in `detail` what to do when there is nobody. */
static enum status call_open(const char *address, uint16_t default_port, int timeout_ms, struct conn **out) {
    enum status status = net_dial(address, default_port, timeout_ms, out);
    if (status == DONE && (status = conn_hello(*out)) != DONE) {
        conn_close(*out);
        *out = NULL;
    }
    if (status == DONE) conn_timeout(*out, timeout_ms);
    return status; /* with a key, the reply to AUTH is read before the first reply: see call_reply */
}

/* Reads a reply. DONE with the words of its line (the first is OK), or the error that the server named. */
static enum status call_reply(struct conn *c, struct words *w) {
    struct slice line, word;
    if (c->secure && c->received == 0) { /* the reply to AUTH */
        enum status opened = conn_read_line(c, &line);
        if (opened != DONE) return NO_SERVER;
        if (!slice_is(line, "OK")) return fail(NO_SERVER, "%s did not accept the key that it has itself", c->peer);
    }
    enum status status = conn_read_line(c, &line);
    if (status != DONE) return NO_SERVER; /* also if the line was too long or its MAC wrong: nothing was answered */
    if (line.length >= 4 && memcmp(line.at, "ERR ", 4) == 0) {
        line.at += 4;
        line.length -= 4;
        if (!slice_part(&line, ' ', &word)) return fail(INTERNAL, "an empty error from %s", c->peer);
        return fail(status_of_word(word), "%.*s", (int)line.length, line.at);
    }
    if (!words_split(line, w) || !slice_is(w->word[0], "OK"))
        return fail(NO_SERVER, "%s answered with something that is no reply", c->peer);
    return DONE;
}

/* Reads the body of a reply: its last two words are the length and the SHA-256. */
static enum status call_body(struct conn *c, const struct words *w, struct text *to) {
    uint64_t length;
    uint8_t hash[32];
    if (w->count < 3 || !parse_u64(w->word[w->count - 2], PAYLOAD_MAX_BYTES, &length) ||
        !parse_hex(w->word[w->count - 1], hash, 32))
        return fail(NO_SERVER, "a reply without a body from %s", c->peer);
    return conn_read_text(c, length, hash, to) == DONE ? DONE : NO_SERVER; /* a body that was changed is no answer */
}

/* Ends a request's line with its body's length and hash, and sends both. */
static enum status call_send(struct conn *c, const void *body, size_t length) {
    uint8_t hash[32];
    sha256_digest(body, length, hash);
    text_format(&c->out, " %zu ", length);
    text_hex(&c->out, hash, 32);
    conn_line_end(c);
    return conn_send(c, body, length);
}

/* A request without a body, and the line of its reply. */
__attribute__((format(printf, 3, 4))) static enum status call(struct conn *c, struct words *w, const char *format,
                                                              ...) {
    va_list list;
    char line[512];
    va_start(list, format);
    int length = vsnprintf(line, sizeof line, format, list);
    va_end(list);
    assert(length > 0 && (size_t)length < sizeof line);
    text_bytes(conn_line(c), line, (size_t)length);
    conn_line_end(c);
    enum status status = conn_flush(c);
    return status == DONE ? call_reply(c, w) : status;
}
/* ======== 8. Tree ======== */
/* The namespace and everything else that records change: inodes, chunks and who names them, members, roster, reigns,
 * answered requests. Master and nodes hold one each and apply the same records to it, so they are the same. Pure: no
 * sockets, no files, no lock; the owner's lock (RANK_CLUSTER) guards it.
 * A record is text; section 7 of docs/PROTOCOL.md lists its lines. Entry points: tree_*. */

enum kind { KIND_DIRECTORY = 1, KIND_FILE = 2 };

#define ROOT_ID ((uint64_t)1)
#define COPIES_ALL 255 /* of a chunk: one on every node. As many as there are of an inode else; 0: as its directory */
#define NONE UINT32_MAX

/* A set of the master's peers, by slot. */
struct node_set {
    uint64_t bits[NODES_MAX / 64];
};

/* A chunk that an inode names or a node holds. Kept in blocks, so that an index of 32 bits finds it and a small file
 * costs 64 bytes here. `hash` never changes while the entry is in use; an entry with neither references nor holders may
 * be used again. */
struct chunk {
    uint8_t hash[32];
    uint32_t length;         /* bytes; 0 while only its hash is known */
    uint32_t references;     /* by inodes */
    uint32_t next;           /* in its hash bucket, or NONE; for a free entry the next free one */
    uint32_t flags;          /* CHUNK_* below, the master's */
    struct node_set holders; /* the master's: peers that have it on disk */
};

enum {
    CHUNK_FRESH = 1,   /* stored for an upload that may still be open: worth copying before a record names it */
    CHUNK_QUEUED = 2,  /* waits in a queue of the master's, that of CHUNK_QUEUE */
    CHUNK_COPYING = 4, /* part of an order to fetch under way */
    CHUNK_DAMAGED = 8, /* some node had it and found it damaged, and nobody said since that he has it */
    CHUNK_QUEUE_SHIFT = 4,
    CHUNK_QUEUE = 3 << CHUNK_QUEUE_SHIFT,
    /* Four bits count in how many sweeps it was seen that no record names it, since it was stored or lost its last
       name. */
    CHUNK_AGE_SHIFT = 8,
    CHUNK_AGE_MAX = 15,
    CHUNK_AGE = CHUNK_AGE_MAX << CHUNK_AGE_SHIFT,
    /* Eight bits say how many copies there are to be, where that is not the same for all; 0: as the root says. */
    CHUNK_COPIES_SHIFT = 16,
    CHUNK_COPIES = 0xff << CHUNK_COPIES_SHIFT,
};

/* What a file of more than one chunk needs beside its inode. */
struct chunk_list {
    uint8_t sha256[32];
    uint32_t chunk[];
};

/* A file or directory. In the treap by (parent, name) and in a bucket by id. A file of one chunk has that chunk's
 * SHA-256, so it needs no list. One in the trash has its parent's id with TRASH_BIT, and behind its name a slash and
 * the seq of the record that put it there: so it is out of every directory, and found by where it was. */
struct inode {
    struct inode *left, *right; /* treap */
    struct inode *next;         /* bucket by id */
    uint64_t id, parent;
    uint64_t size;              /* bytes; directories: 0 */
    int64_t mtime_ns;
    union {
        uint32_t only;            /* chunk_count 1 */
        struct chunk_list *list;  /* chunk_count > 1 */
    } chunks;
    uint32_t chunk_count;
    uint32_t expiry_s;          /* seconds since 1970 from which on it is gone; 0: never */
    uint16_t name_length;
    uint8_t kind;
    uint8_t saved;              /* the turn of the last save that has it */
    uint8_t copies; /* of its chunks, or of what is in it: 1 to NODES_MAX, COPIES_ALL; 0: as its directory */
    char name[];
};

/* A snapshot that is written piece by piece while records go on being applied: each inode as it was when the save
 * began, and none that is newer. One that changes before its turn comes is written at once, to `early`. */
struct saving {
    bool on;
    uint8_t turn;               /* 1 to 255, another one in each save */
    uint64_t limit;             /* inodes from this id on are newer */
    uint64_t parent;            /* key of the last inode that was visited, */
    char name[TRASH_NAME_MAX_BYTES];
    size_t name_length;         /* and its name's length */
    struct text early;
};

/* A node that the cluster knows, whether it is there or not. */
struct member {
    uint64_t id;
    bool draining; /* it gives up what it holds */
    char name[LABEL_MAX_BYTES + 1], address[ADDRESS_MAX_BYTES + 1];
};

struct position {
    uint64_t epoch, seq;
};

struct roster {
    struct position at; /* of the record that made it; 0,0: there is none yet */
    int count;
    uint64_t id[ROSTER_LIMIT];
};

/* A link by which a file is read without the key. It goes with the file to other names and to its next version. */
struct share {
    uint8_t token[TOKEN_BYTES];
    uint32_t expiry_s; /* 0: never */
    uint64_t inode;
};

/* When a file that expires does so. */
struct due {
    uint32_t expiry_s;
    uint64_t inode;
};

/* A request that was done: answered again with the same words if it is repeated. */
struct done_request {
    uint8_t id[16];
    uint64_t seq, inode;
    uint16_t next; /* in its bucket, or UINT16_MAX */
};

struct tree {
    struct position at;            /* of the last record */
    uint64_t next_id;              /* of the next inode */
    struct inode *root;            /* of the treap */
    struct inode **by_id;          /* buckets, a power of two */
    size_t bucket_count, inode_count;
    size_t copies_count;           /* inodes but the root that say how many copies there are to be */
    struct count {
        uint64_t files, directories, bytes;
    } live, trash;

    struct chunk **blocks;         /* of CHUNK_BLOCK entries */
    uint32_t *chunk_buckets;       /* heads, a power of two, or NONE */
    uint32_t chunk_bucket_count, chunk_high, chunk_free, chunk_count; /* high: entries ever used; free: list's head */

    struct roster roster;
    struct member *members;
    int member_count;
    struct position reigns[REIGNS_MAX]; /* each reign's first record, oldest first */
    int reign_count;
    struct forced { uint64_t epoch, id; } forced[FORCED_MAX]; /* take-overs by --force-from, and from which node */
    int forced_count;
    struct done_request *requests; /* a ring of REQUESTS_MAX */
    uint16_t *request_buckets;
    uint32_t request_count;        /* ever; the next slot is this modulo REQUESTS_MAX */
    struct share *shares;          /* in the order of their tokens */
    size_t share_count, share_room;
    struct due *due;               /* a heap, the next one first; some of files that are gone, or expire no more */
    size_t due_count, due_room;
    uint32_t now_s;                /* what expired by then is not found by paths and in lists, though still here */
    struct saving saving;
};

enum { CHUNK_BLOCK = 1024 };

/* ---- Chunks ---- */

static struct chunk *tree_chunk(const struct tree *t, uint32_t index) {
    assert(index < t->chunk_high);
    return &t->blocks[index / CHUNK_BLOCK][index % CHUNK_BLOCK];
}

static uint32_t chunk_bucket(const struct tree *t, const uint8_t hash[32]) {
    uint32_t number;
    memcpy(&number, hash, sizeof number); /* a SHA-256 is as random as can be */
    return number & (t->chunk_bucket_count - 1);
}

static void chunk_link(struct tree *t, uint32_t index) {
    struct chunk *chunk = tree_chunk(t, index);
    uint32_t *head = &t->chunk_buckets[chunk_bucket(t, chunk->hash)];
    chunk->next = *head;
    *head = index;
}

/* Doubles the buckets and puts every chunk in use into its new one. */
static void chunk_buckets_grow(struct tree *t) {
    uint32_t old_count = t->chunk_bucket_count, *old = t->chunk_buckets;
    t->chunk_bucket_count = old_count ? old_count * 2 : 256;
    t->chunk_buckets = mem_alloc(t->chunk_bucket_count * sizeof *t->chunk_buckets);
    memset(t->chunk_buckets, 0xff, t->chunk_bucket_count * sizeof *t->chunk_buckets);
    for (uint32_t b = 0; b < old_count; b++)
        for (uint32_t i = old[b], next; i != NONE; i = next) {
            next = tree_chunk(t, i)->next;
            chunk_link(t, i);
        }
    free(old);
}

/* The index of a chunk, or NONE. */
static uint32_t tree_chunk_find(const struct tree *t, const uint8_t hash[32]) {
    if (t->chunk_bucket_count == 0) return NONE;
    uint32_t index = t->chunk_buckets[chunk_bucket(t, hash)];
    while (index != NONE && memcmp(tree_chunk(t, index)->hash, hash, 32) != 0) index = tree_chunk(t, index)->next;
    return index;
}

/* The same, made if it is not there. */
static uint32_t tree_chunk_make(struct tree *t, const uint8_t hash[32], uint32_t length) {
    uint32_t index = tree_chunk_find(t, hash);
    if (index != NONE) return index;
    if (t->chunk_count >= t->chunk_bucket_count) chunk_buckets_grow(t);
    if (t->chunk_free != NONE) {
        index = t->chunk_free;
        t->chunk_free = tree_chunk(t, index)->next;
    } else {
        index = t->chunk_high;
        if (index % CHUNK_BLOCK == 0) {
            t->blocks = mem_resize(t->blocks, (index / CHUNK_BLOCK + 1) * sizeof *t->blocks);
            t->blocks[index / CHUNK_BLOCK] = malloc(CHUNK_BLOCK * sizeof(struct chunk)); /* touched as it is used */
            if (!t->blocks[index / CHUNK_BLOCK]) die(INTERNAL, "out of memory for the list of chunks");
        }
        t->chunk_high++;
    }
    struct chunk *chunk = tree_chunk(t, index);
    *chunk = (struct chunk){.length = length};
    memcpy(chunk->hash, hash, 32);
    chunk_link(t, index);
    t->chunk_count++;
    return index;
}

static bool node_set_empty(const struct node_set *s) {
    return (s->bits[0] | s->bits[1]) == 0;
}

static bool node_set_has(const struct node_set *s, int slot) {
    return s->bits[slot / 64] >> (slot % 64) & 1;
}

static void node_set_add(struct node_set *s, int slot) {
    s->bits[slot / 64] |= (uint64_t)1 << (slot % 64);
}

static void node_set_remove(struct node_set *s, int slot) {
    s->bits[slot / 64] &= ~((uint64_t)1 << (slot % 64));
}

static int node_set_count(const struct node_set *s) {
    return __builtin_popcountll(s->bits[0]) + __builtin_popcountll(s->bits[1]);
}

static struct node_set node_set_less(const struct node_set *a, const struct node_set *b) {
    struct node_set left;
    for (int i = 0; i < NODES_MAX / 64; i++) left.bits[i] = a->bits[i] & ~b->bits[i];
    return left;
}

static struct node_set node_set_and(const struct node_set *a, const struct node_set *b) {
    return (struct node_set){{a->bits[0] & b->bits[0], a->bits[1] & b->bits[1]}};
}

/* Forgets a chunk that nobody names, nobody holds and no queue refers to. */
static void tree_chunk_release(struct tree *t, uint32_t index) {
    struct chunk *chunk = tree_chunk(t, index);
    if (chunk->references > 0 || !node_set_empty(&chunk->holders)) return;
    if ((chunk->flags & ~(uint32_t)(CHUNK_AGE | CHUNK_DAMAGED | CHUNK_COPIES | CHUNK_QUEUE)) != 0) return;
    uint32_t *link = &t->chunk_buckets[chunk_bucket(t, chunk->hash)];
    while (*link != index) link = &tree_chunk(t, *link)->next;
    *link = chunk->next;
    chunk->next = t->chunk_free;
    chunk->length = 0;
    memset(chunk->hash, 0, 32);
    t->chunk_free = index;
    t->chunk_count--;
}

static uint32_t inode_chunk(const struct inode *n, uint32_t i) {
    return n->chunk_count == 1 ? n->chunks.only : n->chunks.list->chunk[i];
}

/* The SHA-256 of a whole file; that of nothing if it has no chunk. */
static const uint8_t *inode_sha256(const struct tree *t, const struct inode *n) {
    static const uint8_t nothing[32] = {0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4,
                                        0xc8, 0x99, 0x6f, 0xb9, 0x24, 0x27, 0xae, 0x41, 0xe4, 0x64, 0x9b,
                                        0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55};
    if (n->chunk_count == 0) return nothing;
    return n->chunk_count == 1 ? tree_chunk(t, n->chunks.only)->hash : n->chunks.list->sha256;
}

/* ---- Making lines ---- */

static void line_directory(struct text *t, uint64_t id, uint64_t parent, struct slice name, int64_t mtime_ns) {
    text_add(t, "DIR ");
    text_u64(t, id);
    text_byte(t, ' ');
    text_u64(t, parent);
    text_byte(t, ' ');
    text_escaped(t, name.at, name.length);
    text_byte(t, ' ');
    text_i64(t, mtime_ns);
    text_byte(t, '\n');
}

static void line_file(struct text *t, uint64_t id, uint64_t parent, struct slice name, uint64_t size, int64_t mtime_ns,
                      uint32_t expiry_s, const uint8_t sha256[32], uint32_t chunks) {
    text_add(t, "FILE ");
    text_u64(t, id);
    text_byte(t, ' ');
    text_u64(t, parent);
    text_byte(t, ' ');
    text_escaped(t, name.at, name.length);
    text_byte(t, ' ');
    text_u64(t, size);
    text_byte(t, ' ');
    text_i64(t, mtime_ns);
    text_byte(t, ' ');
    text_u64(t, expiry_s);
    text_byte(t, ' ');
    text_hex(t, sha256, 32);
    text_byte(t, ' ');
    text_u64(t, chunks);
    text_byte(t, '\n');
}

/* One chunk of a file of many; `number` counts from 0 and decides where lines begin and end. */
static void line_chunk(struct text *t, uint32_t number, uint32_t count, const uint8_t hash[32], uint32_t length) {
    text_add(t, number % CHUNKS_PER_LINE == 0 ? "CHUNKS " : " ");
    text_hex(t, hash, 32);
    text_byte(t, ':');
    text_u64(t, length);
    if (number % CHUNKS_PER_LINE == CHUNKS_PER_LINE - 1 || number == count - 1) text_byte(t, '\n');
}

static void line_move(struct text *t, uint64_t id, uint64_t parent, struct slice name) {
    text_format(t, "MV %" PRIu64 " %" PRIu64 " ", id, parent);
    text_escaped(t, name.at, name.length);
    text_byte(t, '\n');
}

static void line_forced(struct text *t, uint64_t id, uint64_t epoch) {
    text_format(t, "FORCED %016" PRIx64 " %" PRIu64 "\n", id, epoch);
}

static void line_roster(struct text *t, const uint64_t *id, int count) {
    text_add(t, "ROSTER ");
    for (int i = 0; i < count; i++) {
        if (i > 0) text_byte(t, ',');
        text_id(t, id[i]);
    }
    text_byte(t, '\n');
}

/* COPIES ID N: of a file, or of what is in a directory, there are to be so many copies; 0: as many as around it. */
static void line_copies(struct text *t, uint64_t id, int copies) {
    if (copies == COPIES_ALL) text_format(t, "COPIES %" PRIu64 " all\n", id);
    else text_format(t, "COPIES %" PRIu64 " %d\n", id, copies);
}

/* SHARE TOKEN ID EXPIRY: a link to a file. */
static void line_share(struct text *t, const struct share *share) {
    text_add(t, "SHARE ");
    text_hex(t, share->token, TOKEN_BYTES);
    text_format(t, " %" PRIu64 " %u\n", share->inode, share->expiry_s);
}

static void line_unshare(struct text *t, const struct share *share) {
    text_add(t, "UNSHARE ");
    text_hex(t, share->token, TOKEN_BYTES);
    text_byte(t, '\n');
}

/* DRAIN ID 1: this node is to give up what it holds; 0: it is not, any more. */
static void line_drain(struct text *t, uint64_t id, bool draining) {
    text_add(t, "DRAIN ");
    text_id(t, id);
    text_add(t, draining ? " 1\n" : " 0\n");
}

static void line_node(struct text *t, const struct member *m) {
    text_add(t, "NODE ");
    text_id(t, m->id);
    text_byte(t, ' ');
    text_escaped(t, m->name, strlen(m->name));
    text_byte(t, ' ');
    text_escaped(t, m->address, strlen(m->address));
    text_byte(t, '\n');
}

static void line_inode(struct text *t, const struct tree *tree, const struct inode *n) {
    struct slice name = {n->name, n->name_length};
    if (n->kind == KIND_DIRECTORY) {
        line_directory(t, n->id, n->parent, name, n->mtime_ns);
        if (n->expiry_s != 0) {
            t->data[t->length - 1] = ' '; /* one more word, in the trash */
            text_u64(t, n->expiry_s);
            text_byte(t, '\n');
        }
    } else {
        line_file(t, n->id, n->parent, name, n->size, n->mtime_ns, n->expiry_s, inode_sha256(tree, n), n->chunk_count);
        for (uint32_t i = 0; i < n->chunk_count && n->chunk_count > 1; i++) {
            const struct chunk *chunk = tree_chunk(tree, inode_chunk(n, i));
            line_chunk(t, i, n->chunk_count, chunk->hash, chunk->length);
        }
    }
    if (n->copies != 0) line_copies(t, n->id, n->copies);
}

/* ---- Inodes: a treap (Seidel and Aragon 1996) by (parent, name), whose priorities are hashes of the ids ---- */

static int inode_compare(const struct inode *n, uint64_t parent, const char *name, size_t length) {
    if (n->parent != parent) return n->parent < parent ? -1 : 1;
    size_t shorter = n->name_length < length ? n->name_length : length;
    int order = memcmp(n->name, name, shorter);
    if (order != 0) return order;
    return n->name_length < length ? -1 : n->name_length > length;
}

static struct inode *tree_lookup(const struct tree *t, uint64_t parent, const char *name, size_t length) {
    struct inode *n = t->root;
    while (n) {
        int order = inode_compare(n, parent, name, length);
        if (order == 0) return n;
        n = order < 0 ? n->right : n->left;
    }
    return NULL;
}

/* The first inode after (parent, name), in any directory. */
static struct inode *tree_after(const struct tree *t, uint64_t parent, const char *name, size_t length) {
    struct inode *n = t->root, *found = NULL;
    while (n) {
        if (inode_compare(n, parent, name, length) <= 0) {
            n = n->right;
        } else {
            found = n;
            n = n->left;
        }
    }
    return found;
}

/* The next entry of a directory after `name`; "" asks for the first. NULL at the end. */
static struct inode *tree_next(const struct tree *t, uint64_t directory, const char *name) {
    struct inode *n = tree_after(t, directory, name, strlen(name));
    return n && n->parent == directory ? n : NULL;
}

/* The entry behind `n` in its directory. */
static struct inode *tree_next_behind(const struct tree *t, const struct inode *n) {
    struct inode *next = tree_after(t, n->parent, n->name, n->name_length);
    return next && next->parent == n->parent ? next : NULL;
}

static struct inode *tree_by_id(const struct tree *t, uint64_t id) {
    if (t->bucket_count == 0) return NULL;
    struct inode *n = t->by_id[mix64(id) & (t->bucket_count - 1)];
    while (n && n->id != id) n = n->next;
    return n;
}

/* The next inode in `top` and all directories below it: a directory before what is in it. Begin with `top` itself; NULL
 * at the end. No recursion: a tree may be as deep as a path is long. */
static struct inode *tree_below(const struct tree *t, const struct inode *top, const struct inode *n) {
    struct inode *next = n->kind == KIND_DIRECTORY ? tree_next(t, n->id, "") : NULL;
    while (!next && n != top) {
        next = tree_after(t, n->parent, n->name, n->name_length);
        if (next && next->parent != n->parent) next = NULL;
        if (!next) n = tree_by_id(t, n->parent);
    }
    return next;
}

/* The entry of the trash that was called `name` in a directory and came there last; NULL if there is none. */
static struct inode *trash_newest(const struct tree *t, uint64_t directory, struct slice name) {
    char key[TRASH_NAME_MAX_BYTES + 1];
    struct inode *newest = NULL;
    uint64_t seq, newest_seq = 0;
    size_t length = (size_t)snprintf(key, sizeof key, "%.*s/", (int)name.length, name.at);
    struct inode *n = tree_after(t, directory | TRASH_BIT, key, length);
    for (; n && n->parent == (directory | TRASH_BIT); n = tree_after(t, n->parent, n->name, n->name_length)) {
        if (n->name_length <= length || memcmp(n->name, key, length) != 0) break;
        struct slice digits = {n->name + length, n->name_length - length};
        if (!parse_u64(digits, UINT64_MAX, &seq) || (newest && seq < newest_seq)) continue;
        newest = n;
        newest_seq = seq;
    }
    return newest;
}

/* The name that an inode in the trash had. */
static struct slice trash_name(const struct inode *n) {
    const char *slash = memchr(n->name, '/', n->name_length);
    return (struct slice){n->name, slash ? (size_t)(slash - n->name) : n->name_length};
}

static void treap_insert(struct tree *t, struct inode *added) {
    struct inode **link = &t->root;
    uint64_t priority = mix64(added->id);
    while (*link && mix64((*link)->id) > priority)
        link =
            inode_compare(*link, added->parent, added->name, added->name_length) < 0 ? &(*link)->right : &(*link)->left;
    struct inode *rest = *link, **left = &added->left, **right = &added->right;
    *link = added;
    while (rest) { /* split what hung here into what is before and after the new one */
        if (inode_compare(rest, added->parent, added->name, added->name_length) < 0) {
            *left = rest;
            left = &rest->right;
            rest = rest->right;
        } else {
            *right = rest;
            right = &rest->left;
            rest = rest->left;
        }
    }
    *left = *right = NULL;
}

static void treap_remove(struct tree *t, struct inode *removed) {
    struct inode **link = &t->root, *left = removed->left, *right = removed->right;
    while (*link != removed)
        link = inode_compare(*link, removed->parent, removed->name, removed->name_length) < 0 ? &(*link)->right
                                                                                             : &(*link)->left;
    while (left && right) { /* merge its two sides in its place */
        if (mix64(left->id) > mix64(right->id)) {
            *link = left;
            link = &left->right;
            left = left->right;
        } else {
            *link = right;
            link = &right->left;
            right = right->left;
        }
    }
    *link = left ? left : right;
}

static void id_buckets_grow(struct tree *t) {
    size_t old_count = t->bucket_count;
    struct inode **old = t->by_id;
    t->bucket_count = old_count ? old_count * 2 : 64;
    t->by_id = mem_alloc(t->bucket_count * sizeof *t->by_id);
    for (size_t b = 0; b < old_count; b++)
        for (struct inode *n = old[b], *next; n; n = next) {
            next = n->next;
            struct inode **head = &t->by_id[mix64(n->id) & (t->bucket_count - 1)];
            n->next = *head;
            *head = n;
        }
    free(old);
}

/* Writes an inode for the save that is under way, if it has to be and was not yet. */
static void save_inode(struct tree *t, struct inode *n, struct text *to) {
    if (!t->saving.on || n->saved == t->saving.turn || n->id >= t->saving.limit) return;
    line_inode(to, t, n);
    n->saved = t->saving.turn;
}

/* Takes an inode out of both indexes. */
static void inode_unlink(struct tree *t, struct inode *n) {
    save_inode(t, n, &t->saving.early);
    struct inode **link = &t->by_id[mix64(n->id) & (t->bucket_count - 1)];
    while (*link != n) link = &(*link)->next;
    *link = n->next;
    treap_remove(t, n);
}

/* Puts one into both indexes. */
static void inode_link(struct tree *t, struct inode *n) {
    struct inode **head = &t->by_id[mix64(n->id) & (t->bucket_count - 1)];
    n->next = *head;
    *head = n;
    treap_insert(t, n);
}

/* Counts an inode in (1) or out (UINT64_MAX). */
static void inode_count(struct tree *t, const struct inode *n, uint64_t sign) {
    struct count *count = n->parent & TRASH_BIT ? &t->trash : &t->live;
    if (n->kind == KIND_FILE) count->files += sign;
    else count->directories += sign;
    count->bytes += sign * n->size;
}

/* Puts a new inode into both indexes. Its chunks, if any, are set and counted by the caller. */
static struct inode *inode_make(struct tree *t, uint64_t id, uint64_t parent, struct slice name, enum kind kind) {
    struct inode *n = mem_alloc(sizeof *n + name.length);
    n->id = id;
    n->parent = parent;
    n->kind = (uint8_t)kind;
    n->name_length = (uint16_t)name.length;
    if (name.length > 0) memcpy(n->name, name.at, name.length);
    if (t->inode_count >= t->bucket_count) id_buckets_grow(t);
    inode_link(t, n);
    t->inode_count++;
    inode_count(t, n, 1);
    if (id >= t->next_id) t->next_id = id + 1;
    return n;
}

static void inode_drop_chunks(struct tree *t, struct inode *n) {
    for (uint32_t i = 0; i < n->chunk_count; i++) {
        uint32_t index = inode_chunk(n, i);
        assert(tree_chunk(t, index)->references > 0);
        tree_chunk(t, index)->references--;
        tree_chunk(t, index)->flags &= ~(uint32_t)CHUNK_AGE;
        tree_chunk_release(t, index);
    }
    if (n->chunk_count > 1) free(n->chunks.list);
    n->chunk_count = 0;
}

/* Gives an inode another parent and name (not its own one's bytes), and maybe another place in memory. What is in a
 * directory moves with it. */
static void inode_move(struct tree *t, struct inode *n, uint64_t parent, struct slice name, uint32_t expiry_s) {
    inode_unlink(t, n);
    inode_count(t, n, UINT64_MAX);
    n = mem_resize(n, sizeof *n + name.length);
    n->parent = parent;
    n->expiry_s = expiry_s;
    n->name_length = (uint16_t)name.length;
    memcpy(n->name, name.at, name.length);
    inode_link(t, n);
    inode_count(t, n, 1);
}

static void inode_remove(struct tree *t, struct inode *n) {
    t->copies_count -= n->copies != 0;
    inode_unlink(t, n);
    inode_drop_chunks(t, n);
    t->inode_count--;
    inode_count(t, n, UINT64_MAX);
    free(n);
}

/* An empty tree holds the root directory. */
static void tree_init(struct tree *t) {
    *t = (struct tree){.next_id = ROOT_ID, .chunk_free = NONE};
    inode_make(t, ROOT_ID, 0, (struct slice){"", 0}, KIND_DIRECTORY);
    t->live.directories = 0; /* the root is not counted */
}

static void tree_free(struct tree *t) {
    for (size_t b = 0; b < t->bucket_count; b++)
        for (struct inode *n = t->by_id[b], *next; n; n = next) {
            next = n->next;
            if (n->chunk_count > 1) free(n->chunks.list);
            free(n);
        }
    for (uint32_t i = 0; i < t->chunk_high; i += CHUNK_BLOCK) free(t->blocks[i / CHUNK_BLOCK]);
    free(t->blocks);
    free(t->chunk_buckets);
    free(t->by_id);
    free(t->members);
    free(t->shares);
    free(t->due);
    free(t->requests);
    free(t->request_buckets);
    text_free(&t->saving.early);
    *t = (struct tree){0};
}

/* ---- What expires ---- */

/* Whether a file's time is over. What is in the trash has another one. */
static bool inode_expired(const struct tree *t, const struct inode *n) {
    return n->expiry_s != 0 && n->expiry_s <= t->now_s && !(n->parent & TRASH_BIT);
}

static bool due_holds(const struct tree *t, const struct due *due) {
    const struct inode *n = tree_by_id(t, due->inode);
    return n && n->expiry_s == due->expiry_s && !(n->parent & TRASH_BIT);
}

/* Moves the entry at `i` down to where it belongs. */
static void due_sink(struct tree *t, size_t i) {
    for (;;) {
        size_t next = 2 * i + 1;
        if (next + 1 < t->due_count && t->due[next + 1].expiry_s < t->due[next].expiry_s) next++;
        if (next >= t->due_count || t->due[i].expiry_s <= t->due[next].expiry_s) return;
        struct due moved = t->due[i];
        t->due[i] = t->due[next];
        t->due[next] = moved;
        i = next;
    }
}

/* Notes that a file expires. Before there is more room made, entries that do not hold any more are thrown out. */
static void due_add(struct tree *t, const struct inode *n) {
    if (t->due_count == t->due_room) {
        size_t kept = 0;
        for (size_t i = 0; i < t->due_count; i++)
            if (due_holds(t, &t->due[i])) t->due[kept++] = t->due[i];
        t->due_count = kept;
        for (size_t i = kept / 2; i-- > 0;) due_sink(t, i);
        if (kept >= t->due_room / 2) t->due_room = t->due_room ? 2 * t->due_room : 64;
        t->due = mem_resize(t->due, t->due_room * sizeof *t->due);
    }
    size_t i = t->due_count++;
    for (; i > 0 && t->due[(i - 1) / 2].expiry_s > n->expiry_s; i = (i - 1) / 2) t->due[i] = t->due[(i - 1) / 2];
    t->due[i] = (struct due){n->expiry_s, n->id};
}

/* Takes the next file whose time is over at t->now_s out of the heap, which is that of Williams 1964; NULL: there is
 * none. It stays in the tree. */
static const struct inode *due_take(struct tree *t) {
    while (t->due_count > 0 && t->due[0].expiry_s <= t->now_s) {
        struct due first = t->due[0];
        t->due[0] = t->due[--t->due_count];
        due_sink(t, 0);
        if (due_holds(t, &first)) return tree_by_id(t, first.inode);
    }
    return NULL;
}

/* Where a token is among the shares, or would be. */
static size_t share_place(const struct tree *t, const uint8_t token[TOKEN_BYTES]) {
    size_t low = 0, high = t->share_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (memcmp(t->shares[middle].token, token, TOKEN_BYTES) < 0) low = middle + 1;
        else high = middle;
    }
    return low;
}

/* The link with this token; NULL: there is none, or its time is over, or its file is in the trash or gone. */
static const struct share *tree_share(const struct tree *t, const uint8_t token[TOKEN_BYTES]) {
    size_t i = share_place(t, token);
    if (i == t->share_count || memcmp(t->shares[i].token, token, TOKEN_BYTES) != 0) return NULL;
    const struct share *share = &t->shares[i];
    const struct inode *n = tree_by_id(t, share->inode);
    bool over = share->expiry_s != 0 && share->expiry_s <= t->now_s;
    return over || !n || n->parent & TRASH_BIT || inode_expired(t, n) ? NULL : share;
}

/* Finds what a normalized path names; not a file whose time is over. On NOT_FOUND `*parent` is the directory that lacks
 * the last part if only that is missing, else NULL; `*last` is the last part of the path. Both may be NULL. */
static enum status tree_resolve(const struct tree *t, const char *path, struct inode **out, struct inode **parent,
                                struct slice *last) {
    struct inode *n = tree_by_id(t, ROOT_ID), *above = NULL;
    struct slice rest = slice_of(path + 1), part = {path, 0};
    while (slice_part(&rest, '/', &part)) {
        if (n && inode_expired(t, n)) n = NULL;
        if (n && n->kind != KIND_DIRECTORY)
            return fail(WRONG_KIND, "'%s' goes through a file as if it were a directory", shown(path));
        above = n;
        n = n ? tree_lookup(t, n->id, part.at, part.length) : NULL;
    }
    if (n && inode_expired(t, n)) n = NULL;
    if (out) *out = n;
    if (parent) *parent = above;
    if (last) *last = part;
    return n ? DONE : fail(NOT_FOUND, "'%s' does not exist; dfs --ls shows what does", shown(path));
}

/* How many copies there are to be of a file's chunks, or of what is in a directory: what it says itself, or the nearest
 * directory above it that does; COPIES_ALL if none does. */
static int tree_copies(const struct tree *t, const struct inode *n) {
    for (size_t depth = 0; n && n->copies == 0 && n->id != ROOT_ID && depth < t->inode_count; depth++)
        n = tree_by_id(t, n->parent & ~TRASH_BIT);
    if (!n || n->copies == 0) n = tree_by_id(t, ROOT_ID); /* in the trash its directory may be gone */
    return n->copies ? n->copies : COPIES_ALL;
}

/* Takes `all`, or a number from 1 to NODES_MAX. */
static bool parse_copies(struct slice word, int *copies) {
    uint32_t number;
    *copies = COPIES_ALL;
    if (slice_is(word, "all")) return true;
    if (!parse_u32(word, NODES_MAX, &number) || number == 0) return false;
    *copies = (int)number;
    return true;
}

/* ---- Members, roster, reigns, requests ---- */

static struct member *tree_member(const struct tree *t, uint64_t id) {
    for (int i = 0; i < t->member_count; i++)
        if (t->members[i].id == id) return &t->members[i];
    return NULL;
}

static bool position_newer(struct position a, struct position b) {
    return a.epoch > b.epoch || (a.epoch == b.epoch && a.seq > b.seq);
}

static bool position_same(struct position a, struct position b) {
    return a.epoch == b.epoch && a.seq == b.seq;
}

/* Whether a node whose last record is `at` holds a beginning of this tree's history and nothing else. */
static bool tree_continues(const struct tree *t, struct position at) {
    if (at.seq == 0) return true;
    for (int i = t->reign_count - 1; i >= 0; i--) {
        uint64_t last = i + 1 < t->reign_count ? t->reigns[i + 1].seq - 1 : t->at.seq;
        if (t->reigns[i].epoch == at.epoch) return at.seq >= t->reigns[i].seq && at.seq <= last;
    }
    return false;
}

static void reign_add(struct tree *t, struct position at) {
    if (t->reign_count == REIGNS_MAX) {
        memmove(t->reigns, t->reigns + 1, (REIGNS_MAX - 1) * sizeof *t->reigns);
        t->reign_count--;
    }
    t->reigns[t->reign_count++] = at;
}

static uint16_t request_bucket(const uint8_t id[16]) {
    uint16_t bucket;
    memcpy(&bucket, id, sizeof bucket);
    return bucket & (REQUESTS_MAX - 1);
}

static const struct done_request *tree_request(const struct tree *t, const uint8_t id[16]) {
    if (!t->requests) return NULL;
    uint16_t slot = t->request_buckets[request_bucket(id)];
    while (slot != UINT16_MAX && memcmp(t->requests[slot].id, id, 16) != 0) slot = t->requests[slot].next;
    return slot == UINT16_MAX ? NULL : &t->requests[slot];
}

/* Remembers a request that was done, in place of the one that was done longest ago. */
static void request_add(struct tree *t, const uint8_t id[16], uint64_t seq, uint64_t inode) {
    if (!t->requests) {
        t->requests = mem_alloc(REQUESTS_MAX * sizeof *t->requests);
        t->request_buckets = mem_alloc(REQUESTS_MAX * sizeof *t->request_buckets);
        memset(t->request_buckets, 0xff, REQUESTS_MAX * sizeof *t->request_buckets);
    }
    uint16_t slot = (uint16_t)(t->request_count % REQUESTS_MAX);
    struct done_request *request = &t->requests[slot];
    if (t->request_count >= REQUESTS_MAX) {
        uint16_t *link = &t->request_buckets[request_bucket(request->id)];
        while (*link != slot) link = &t->requests[*link].next;
        *link = request->next;
    }
    uint16_t *head = &t->request_buckets[request_bucket(id)];
    *request = (struct done_request){.seq = seq, .inode = inode, .next = *head};
    memcpy(request->id, id, 16);
    *head = slot;
    t->request_count++;
}

/* ---- Records ---- */

/* What a line of a record may need from the lines before it. */
struct apply {
    struct tree *t;
    struct inode *filling; /* a file whose CHUNKS lines are still coming */
    uint32_t filled;
    uint64_t sum;          /* of their lengths */
    uint64_t before;       /* epoch of the record before this one */
    bool new_reign;        /* this record has a higher epoch, and REIGN was not seen yet */
    uint8_t request[16];
    bool has_request;
    uint64_t subject;      /* the inode that the request made or removed */
};

static enum status bad_line(struct slice line, const char *why) {
    return fail(DAMAGED, "record line '%.*s%s': %s", (int)(line.length > 100 ? 100 : line.length), line.at,
                line.length > 100 ? "..." : "", why);
}

static enum status apply_directory(struct apply *a, const struct words *w, struct slice line) {
    uint64_t id, parent;
    int64_t mtime_ns;
    uint32_t expiry_s = 0;
    char name[TRASH_NAME_MAX_BYTES + 1];
    if ((w->count != 5 && w->count != 6) || !parse_u64(w->word[1], UINT64_MAX - 1, &id) ||
        !parse_u64(w->word[2], UINT64_MAX - 1, &parent) || !parse_escaped(w->word[3], name, sizeof name) ||
        !parse_i64(w->word[4], &mtime_ns) || (w->count == 6 && !parse_u32(w->word[5], UINT32_MAX, &expiry_s)))
        return bad_line(line, "not DIR ID PARENT NAME MTIME");
    if (*name == 0 || tree_by_id(a->t, id) || tree_lookup(a->t, parent, name, strlen(name)))
        return bad_line(line, "its id or name is in use");
    struct inode *n = inode_make(a->t, id, parent, slice_of(name), KIND_DIRECTORY);
    n->mtime_ns = mtime_ns;
    n->expiry_s = expiry_s;
    a->subject = id;
    return DONE;
}

static enum status apply_file(struct apply *a, const struct words *w, struct slice line) {
    uint64_t id, parent, size;
    int64_t mtime_ns;
    uint32_t expiry_s, count;
    uint8_t sha256[32];
    char name[TRASH_NAME_MAX_BYTES + 1];
    if (w->count != 9 || !parse_u64(w->word[1], UINT64_MAX - 1, &id) ||
        !parse_u64(w->word[2], UINT64_MAX - 1, &parent) || !parse_escaped(w->word[3], name, sizeof name) ||
        !parse_u64(w->word[4], UINT64_MAX, &size) || !parse_i64(w->word[5], &mtime_ns) ||
        !parse_u32(w->word[6], UINT32_MAX, &expiry_s) || !parse_hex(w->word[7], sha256, 32) ||
        !parse_u32(w->word[8], FILE_MAX_CHUNKS, &count))
        return bad_line(line, "not FILE ID PARENT NAME SIZE MTIME EXPIRY SHA256 CHUNKS");
    if (*name == 0 || tree_by_id(a->t, id) || tree_lookup(a->t, parent, name, strlen(name)))
        return bad_line(line, "its id or name is in use");
    if ((count == 0) != (size == 0) || size > count * CHUNK_MAX_BYTES) return bad_line(line, "its size does not fit");
    struct inode *n = inode_make(a->t, id, parent, slice_of(name), KIND_FILE);
    n->size = size;
    n->mtime_ns = mtime_ns;
    n->expiry_s = expiry_s;
    if (expiry_s != 0 && !(parent & TRASH_BIT)) due_add(a->t, n);
    if (parent & TRASH_BIT) a->t->trash.bytes += size;
    else a->t->live.bytes += size;
    a->subject = id;
    if (count == 1) {
        uint32_t index = tree_chunk_make(a->t, sha256, (uint32_t)size);
        tree_chunk(a->t, index)->references++;
        if (tree_chunk(a->t, index)->length != size) return bad_line(line, "its chunk has another length elsewhere");
        n->chunks.only = index;
        n->chunk_count = 1;
    } else if (count > 1) {
        n->chunks.list = mem_alloc(sizeof *n->chunks.list + count * sizeof *n->chunks.list->chunk);
        memcpy(n->chunks.list->sha256, sha256, 32);
        n->chunk_count = count;
        for (uint32_t i = 0; i < count; i++) n->chunks.list->chunk[i] = NONE;
        a->filling = n;
        a->filled = 0;
        a->sum = 0;
    }
    return DONE;
}

/* CHUNKS SHA256:LENGTH ... : the next chunks of the file in the line before. */
static enum status apply_chunks(struct apply *a, struct slice line) {
    struct slice rest = line, part, hash;
    uint8_t bytes[32];
    uint32_t length;
    slice_part(&rest, ' ', &part);
    while (slice_part(&rest, ' ', &part)) {
        if (!a->filling || !slice_part(&part, ':', &hash) || !parse_hex(hash, bytes, 32) ||
            !parse_u32(part, CHUNK_MAX_BYTES, &length) || length == 0)
            return bad_line(line, "not CHUNKS SHA256:LENGTH ... after a FILE");
        uint32_t index = tree_chunk_make(a->t, bytes, length);
        tree_chunk(a->t, index)->references++;
        if (tree_chunk(a->t, index)->length != length) return bad_line(line, "a chunk has another length elsewhere");
        a->filling->chunks.list->chunk[a->filled++] = index;
        a->sum += length;
        if (a->filled < a->filling->chunk_count) continue;
        if (a->sum != a->filling->size) return bad_line(line, "the chunks do not add up to the file's size");
        a->filling = NULL;
    }
    return DONE;
}

static enum status apply_remove(struct apply *a, const struct words *w, struct slice line) {
    uint64_t id;
    if (w->count != 2 || !parse_u64(w->word[1], UINT64_MAX, &id) || id == ROOT_ID) return bad_line(line, "not RM ID");
    struct inode *n = tree_by_id(a->t, id);
    if (!n) return bad_line(line, "no such inode");
    if (n->kind == KIND_DIRECTORY && tree_next(a->t, id, "")) return bad_line(line, "the directory is not empty");
    inode_remove(a->t, n);
    a->subject = id;
    return DONE;
}

/* MV ID PARENT NAME: neither into itself or what is in it, nor over anything: that is removed by a line before. */
static enum status apply_move(struct apply *a, const struct words *w, struct slice line) {
    uint64_t id, parent;
    char name[NAME_MAX_BYTES + 1];
    if (w->count != 4 || !parse_u64(w->word[1], UINT64_MAX, &id) || id == ROOT_ID ||
        !parse_u64(w->word[2], UINT64_MAX, &parent) || !parse_escaped(w->word[3], name, sizeof name) || *name == 0)
        return bad_line(line, "not MV ID PARENT NAME");
    struct inode *n = tree_by_id(a->t, id);
    const struct inode *above = tree_by_id(a->t, parent);
    if (!n || !above || above->kind != KIND_DIRECTORY || above->parent & TRASH_BIT)
        return bad_line(line, "no such inode");
    if (tree_lookup(a->t, parent, name, strlen(name))) return bad_line(line, "its name is in use");
    for (size_t depth = 0; above && above->id != ROOT_ID; depth++) {
        if (above == n || depth > a->t->inode_count) return bad_line(line, "a directory into itself");
        above = tree_by_id(a->t, above->parent);
    }
    inode_move(a->t, n, parent, slice_of(name), n->parent & TRASH_BIT ? 0 : n->expiry_s);
    a->subject = id;
    return DONE;
}

/* Makes a copy of one inode, without what is in it. It names the same chunks, and does not expire. */
static struct inode *inode_copy(struct tree *t, const struct inode *from, uint64_t parent, struct slice name) {
    struct inode *n = inode_make(t, t->next_id, parent, name, (enum kind)from->kind);
    n->size = from->size;
    n->mtime_ns = from->mtime_ns;
    n->copies = from->copies;
    t->live.bytes += n->size;
    t->copies_count += n->copies != 0;
    n->chunk_count = from->chunk_count;
    n->chunks = from->chunks;
    if (n->chunk_count > 1) {
        size_t bytes = sizeof *n->chunks.list + n->chunk_count * sizeof *n->chunks.list->chunk;
        n->chunks.list = mem_alloc(bytes);
        memcpy(n->chunks.list, from->chunks.list, bytes);
    }
    for (uint32_t i = 0; i < n->chunk_count; i++) tree_chunk(t, inode_chunk(n, i))->references++;
    return n;
}

/* CP ID PARENT NAME: a copy of a file, or of a directory with all that is in it. The new inodes' ids are the next ones,
 * in the order of tree_below, so all nodes give the same ones. */
static enum status apply_copy(struct apply *a, const struct words *w, struct slice line) {
    uint64_t id, parent;
    char name[NAME_MAX_BYTES + 1];
    if (w->count != 4 || !parse_u64(w->word[1], UINT64_MAX, &id) || id == ROOT_ID ||
        !parse_u64(w->word[2], UINT64_MAX, &parent) || !parse_escaped(w->word[3], name, sizeof name) || *name == 0)
        return bad_line(line, "not CP ID PARENT NAME");
    struct inode *top = tree_by_id(a->t, id), *above = tree_by_id(a->t, parent);
    if (!top || top->parent & TRASH_BIT || !above || above->kind != KIND_DIRECTORY || above->parent & TRASH_BIT)
        return bad_line(line, "no such inode");
    if (tree_lookup(a->t, parent, name, strlen(name))) return bad_line(line, "its name is in use");
    for (size_t depth = 0; above && above->id != ROOT_ID; depth++) {
        if (above == top || depth > a->t->inode_count) return bad_line(line, "a directory into itself");
        above = tree_by_id(a->t, above->parent);
    }
    struct inode *into = inode_copy(a->t, top, parent, slice_of(name)), *before = top;
    a->subject = into->id;
    for (struct inode *n = tree_below(a->t, top, top); n; before = n, n = tree_below(a->t, top, n)) {
        if (n->parent != before->id) /* not the first entry of the directory before it, but of one further up */
            for (const struct inode *up = before; up->parent != n->parent; up = tree_by_id(a->t, up->parent))
                into = tree_by_id(a->t, into->parent);
        uint64_t in = n->parent == before->id ? into->id : into->parent;
        into = inode_copy(a->t, n, in, (struct slice){n->name, n->name_length});
    }
    return DONE;
}

/* TIME ID MTIME: a file's or directory's time. */
static enum status apply_time(struct apply *a, const struct words *w, struct slice line) {
    uint64_t id;
    int64_t mtime_ns;
    if (w->count != 3 || !parse_u64(w->word[1], UINT64_MAX, &id) || id == ROOT_ID ||
        !parse_i64(w->word[2], &mtime_ns))
        return bad_line(line, "not TIME ID MTIME");
    struct inode *n = tree_by_id(a->t, id);
    if (!n) return bad_line(line, "no such inode");
    save_inode(a->t, n, &a->t->saving.early);
    n->mtime_ns = mtime_ns;
    a->subject = id;
    return DONE;
}

/* TRASH ID EXPIRY: out of its directory, which it stays bound to, and to be removed after EXPIRY. */
static enum status apply_trash(struct apply *a, const struct words *w, struct slice line) {
    uint64_t id;
    uint32_t expiry_s;
    char name[TRASH_NAME_MAX_BYTES + 1];
    if (w->count != 3 || !parse_u64(w->word[1], UINT64_MAX, &id) || id == ROOT_ID ||
        !parse_u32(w->word[2], UINT32_MAX, &expiry_s))
        return bad_line(line, "not TRASH ID EXPIRY");
    struct inode *n = tree_by_id(a->t, id);
    if (!n || n->parent & TRASH_BIT) return bad_line(line, "no such inode, or it is in the trash already");
    if (n->kind == KIND_DIRECTORY && tree_next(a->t, id, "")) return bad_line(line, "the directory is not empty");
    int length = snprintf(name, sizeof name, "%.*s/%" PRIu64, n->name_length, n->name, a->t->at.seq);
    inode_move(a->t, n, n->parent | TRASH_BIT, (struct slice){name, (size_t)length}, expiry_s);
    a->subject = id;
    return DONE;
}

static enum status apply_roster(struct apply *a, const struct words *w, struct slice line, struct position at) {
    struct roster roster = {.at = at};
    struct slice rest, part;
    if (w->count != 2) return bad_line(line, "not ROSTER NODE,NODE,...");
    rest = w->word[1];
    while (slice_part(&rest, ',', &part)) {
        if (roster.count == ROSTER_LIMIT || !parse_id(part, &roster.id[roster.count]))
            return bad_line(line, "bad node");
        roster.count++;
    }
    a->t->roster = roster;
    return DONE;
}

static enum status apply_node(struct apply *a, const struct words *w, struct slice line) {
    struct member added, *m;
    if (w->count != 4 || !parse_id(w->word[1], &added.id) ||
        !parse_escaped(w->word[2], added.name, sizeof added.name) ||
        !parse_escaped(w->word[3], added.address, sizeof added.address))
        return bad_line(line, "not NODE ID NAME ADDRESS");
    m = tree_member(a->t, added.id);
    added.draining = m && m->draining;
    if (!m) {
        if (a->t->member_count == NODES_MAX) return bad_line(line, "too many nodes");
        a->t->members = mem_resize(a->t->members, (size_t)(a->t->member_count + 1) * sizeof *a->t->members);
        m = &a->t->members[a->t->member_count++];
    }
    *m = added;
    return DONE;
}

/* FORCED ID EPOCH: the reign of EPOCH began from this node alone, by order of the operator. */
static enum status apply_forced(struct apply *a, const struct words *w, struct slice line) {
    struct forced forced;
    if (w->count != 3 || !parse_id(w->word[1], &forced.id) || !parse_u64(w->word[2], UINT64_MAX, &forced.epoch))
        return bad_line(line, "not FORCED ID EPOCH");
    if (a->t->forced_count == FORCED_MAX) {
        memmove(a->t->forced, a->t->forced + 1, (FORCED_MAX - 1) * sizeof *a->t->forced);
        a->t->forced_count--;
    }
    a->t->forced[a->t->forced_count++] = forced;
    return DONE;
}

static enum status apply_forget(struct apply *a, const struct words *w, struct slice line) {
    uint64_t id;
    if (w->count != 2 || !parse_id(w->word[1], &id)) return bad_line(line, "not FORGET ID");
    struct member *m = tree_member(a->t, id);
    if (m) *m = a->t->members[--a->t->member_count];
    return DONE;
}

static enum status apply_drain(struct apply *a, const struct words *w, struct slice line) {
    uint64_t id;
    uint32_t draining;
    struct member *m = NULL;
    if (w->count != 3 || !parse_id(w->word[1], &id) || !parse_u32(w->word[2], 1, &draining) ||
        !(m = tree_member(a->t, id)))
        return bad_line(line, "not DRAIN ID 0 or 1 of a node that is known");
    m->draining = draining != 0;
    return DONE;
}

/* COPIES ID N */
static enum status apply_copies(struct apply *a, const struct words *w, struct slice line) {
    uint64_t id;
    int copies = 0;
    if (w->count != 3 || !parse_u64(w->word[1], UINT64_MAX, &id) ||
        !(slice_is(w->word[2], "0") || parse_copies(w->word[2], &copies)))
        return bad_line(line, "not COPIES ID N");
    struct inode *n = tree_by_id(a->t, id);
    if (!n) return bad_line(line, "no such inode");
    if (id != ROOT_ID) save_inode(a->t, n, &a->t->saving.early); /* the root's are in a snapshot's head */
    if (id != ROOT_ID) a->t->copies_count += (size_t)(copies != 0) - (size_t)(n->copies != 0);
    n->copies = (uint8_t)copies;
    a->subject = id;
    return DONE;
}

/* SHARE TOKEN ID EXPIRY: a link that is there gets another file or time. */
static enum status apply_share(struct apply *a, const struct words *w, struct slice line) {
    struct share share;
    struct tree *t = a->t;
    if (w->count != 4 || !parse_hex(w->word[1], share.token, TOKEN_BYTES) ||
        !parse_u64(w->word[2], UINT64_MAX, &share.inode) || !parse_u32(w->word[3], UINT32_MAX, &share.expiry_s))
        return bad_line(line, "not SHARE TOKEN ID EXPIRY");
    size_t i = share_place(t, share.token);
    if (i == t->share_count || memcmp(t->shares[i].token, share.token, TOKEN_BYTES) != 0) {
        if (t->share_count == SHARES_MAX) return bad_line(line, "too many links");
        if (t->share_count == t->share_room) {
            t->share_room = t->share_room ? 2 * t->share_room : 16;
            t->shares = mem_resize(t->shares, t->share_room * sizeof *t->shares);
        }
        memmove(t->shares + i + 1, t->shares + i, (t->share_count++ - i) * sizeof *t->shares);
    }
    t->shares[i] = share;
    a->subject = share.inode;
    return DONE;
}

/* UNSHARE TOKEN */
static enum status apply_unshare(struct apply *a, const struct words *w, struct slice line) {
    uint8_t token[TOKEN_BYTES];
    struct tree *t = a->t;
    if (w->count != 2 || !parse_hex(w->word[1], token, TOKEN_BYTES)) return bad_line(line, "not UNSHARE TOKEN");
    size_t i = share_place(t, token);
    if (i == t->share_count || memcmp(t->shares[i].token, token, TOKEN_BYTES) != 0)
        return bad_line(line, "no such link");
    a->subject = t->shares[i].inode;
    memmove(t->shares + i, t->shares + i + 1, (--t->share_count - i) * sizeof *t->shares);
    return DONE;
}

/* The lines that both records and snapshots are made of. */
static enum status apply_line(struct apply *a, const struct words *w, struct slice line, struct position at) {
    if (slice_is(w->word[0], "FILE")) return apply_file(a, w, line);
    if (slice_is(w->word[0], "DIR")) return apply_directory(a, w, line);
    if (slice_is(w->word[0], "RM")) return apply_remove(a, w, line);
    if (slice_is(w->word[0], "MV")) return apply_move(a, w, line);
    if (slice_is(w->word[0], "CP")) return apply_copy(a, w, line);
    if (slice_is(w->word[0], "TIME")) return apply_time(a, w, line);
    if (slice_is(w->word[0], "TRASH")) return apply_trash(a, w, line);
    if (slice_is(w->word[0], "ROSTER")) return apply_roster(a, w, line, at);
    if (slice_is(w->word[0], "NODE")) return apply_node(a, w, line);
    if (slice_is(w->word[0], "FORGET")) return apply_forget(a, w, line);
    if (slice_is(w->word[0], "DRAIN")) return apply_drain(a, w, line);
    if (slice_is(w->word[0], "COPIES")) return apply_copies(a, w, line);
    if (slice_is(w->word[0], "FORCED")) return apply_forced(a, w, line);
    if (slice_is(w->word[0], "SHARE")) return apply_share(a, w, line);
    if (slice_is(w->word[0], "UNSHARE")) return apply_unshare(a, w, line);
    return bad_line(line, "no such kind of line");
}

/* TX EPOCH SEQ REQUEST TIME: the head of a transaction. */
static bool tx_head(const struct words *w, struct position *at) {
    return w->count == 5 && slice_is(w->word[0], "TX") && parse_u64(w->word[1], UINT64_MAX, &at->epoch) &&
           parse_u64(w->word[2], UINT64_MAX, &at->seq);
}

static void apply_finish(struct apply *a) {
    if (a->has_request) request_add(a->t, a->request, a->t->at.seq, a->subject);
    a->has_request = false;
    a->subject = 0;
}

static enum status apply_tx_line(struct apply *a, struct slice line) {
    struct words w;
    struct position at;
    if (line.length > 7 && memcmp(line.at, "CHUNKS ", 7) == 0) return apply_chunks(a, line);
    if (a->filling) return bad_line(line, "a file's chunks are missing before it");
    if (!words_split(line, &w)) return bad_line(line, "not words");
    if (tx_head(&w, &at)) {
        apply_finish(a);
        if (at.seq != a->t->at.seq + 1 || at.epoch < a->t->at.epoch || a->new_reign)
            return bad_line(line, "not the next record");
        a->has_request = parse_hex(w.word[3], a->request, 16);
        a->before = a->t->at.epoch;
        a->new_reign = at.epoch > a->before;
        a->t->at = at;
        return DONE;
    }
    if (a->new_reign) { /* says which epoch it follows, so that no record is applied behind another history */
        uint64_t after;
        if (w.count != 3 || !slice_is(w.word[0], "REIGN") || !parse_u64(w.word[2], UINT64_MAX, &after) ||
            after != a->before)
            return bad_line(line, "not REIGN MASTER EPOCH-BEFORE, with which an epoch begins");
        a->new_reign = false;
        reign_add(a->t, a->t->at);
        return DONE;
    }
    return apply_line(a, &w, line, a->t->at);
}

/* Applies one or more whole records. An error leaves the tree in between and unusable: it is a bug or damage, because
 * what reaches this was made by a master from its own tree, and checked by its hash. */
static enum status tree_apply(struct tree *t, const char *records, size_t length) {
    struct apply a = {.t = t};
    struct slice rest = {records, length}, line;
    while (slice_line(&rest, &line)) {
        enum status status = apply_tx_line(&a, line);
        if (status != DONE) return status;
    }
    if (rest.length > 0 || a.filling || a.new_reign) return fail(DAMAGED, "a record ends too early");
    apply_finish(&a);
    return DONE;
}

/* The position of the first and the last record in a batch, without applying it. */
static enum status records_span(const char *records, size_t length, struct position *first, struct position *last) {
    struct slice rest = {records, length}, line;
    struct words w;
    int count = 0;
    while (slice_line(&rest, &line)) {
        if (line.length < 3 || memcmp(line.at, "TX ", 3) != 0) continue;
        if (!words_split(line, &w) || !tx_head(&w, last)) return bad_line(line, "not TX EPOCH SEQ REQUEST TIME");
        if (count++ == 0) *first = *last;
    }
    return count > 0 && rest.length == 0 ? DONE : fail(BAD_REQUEST, "no whole record");
}

/* Passes over the records up to this seq. DAMAGED if those are no whole records; `rest` may be empty then. */
static enum status records_skip(struct slice *rest, uint64_t seq) {
    struct position at;
    struct words w;
    while (rest->length > 0) {
        struct slice line, behind = *rest;
        if (!slice_line(&behind, &line) || !words_split(line, &w) || !tx_head(&w, &at))
            return fail(DAMAGED, "records that do not begin with TX EPOCH SEQ REQUEST TIME");
        if (at.seq > seq) return DONE;
        while (behind.length > 0 && (behind.length < 3 || memcmp(behind.at, "TX ", 3) != 0))
            if (!slice_line(&behind, &line)) return fail(DAMAGED, "a record without an end");
        *rest = behind;
    }
    return DONE;
}

/* ---- Snapshots ---- */

/* Everything but the inodes: the head of a snapshot. */
static void snapshot_head(struct text *t, const struct tree *tree) {
    text_format(t, "SNAPSHOT %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", tree->at.epoch, tree->at.seq, tree->next_id);
    for (int i = 0; i < tree->reign_count; i++)
        text_format(t, "REIGNED %" PRIu64 " %" PRIu64 "\n", tree->reigns[i].epoch, tree->reigns[i].seq);
    for (int i = 0; i < tree->forced_count; i++) line_forced(t, tree->forced[i].id, tree->forced[i].epoch);
    for (int i = 0; i < tree->member_count; i++) {
        line_node(t, &tree->members[i]);
        if (tree->members[i].draining) line_drain(t, tree->members[i].id, true);
    }
    for (size_t i = 0; i < tree->share_count; i++) line_share(t, &tree->shares[i]);
    const struct inode *root = tree_by_id(tree, ROOT_ID);
    if (root->copies != 0) line_copies(t, ROOT_ID, root->copies);
    text_format(t, "ROSTERED %" PRIu64 " %" PRIu64 "\n", tree->roster.at.epoch, tree->roster.at.seq);
    if (tree->roster.count > 0) line_roster(t, tree->roster.id, tree->roster.count);
    uint32_t oldest = tree->request_count > REQUESTS_MAX ? tree->request_count - REQUESTS_MAX : 0;
    for (uint32_t i = oldest; i < tree->request_count; i++) {
        const struct done_request *request = &tree->requests[i % REQUESTS_MAX];
        text_add(t, "REQUEST ");
        text_hex(t, request->id, 16);
        text_format(t, " %" PRIu64 " %" PRIu64 "\n", request->seq, request->inode);
    }
}

/* Appends inodes in the order of the treap, beginning after (parent, name), until `t` holds `most` bytes. False at the
 * end; else the last one's key is the next call's beginning. Recursion is as deep as the treap, some fifty levels. */
static bool snapshot_walk(struct text *t, const struct tree *tree, const struct inode *n, uint64_t parent,
                          const char *name, size_t length, size_t most, const struct inode **last) {
    if (!n) return false;
    if (inode_compare(n, parent, name, length) > 0) {
        if (snapshot_walk(t, tree, n->left, parent, name, length, most, last)) return true;
        if (t->length >= most) return true;
        line_inode(t, tree, n);
        *last = n;
    }
    return snapshot_walk(t, tree, n->right, parent, name, length, most, last);
}

/* Begins a save: from here on save_next gives the inodes as they are now. Its head is snapshot_head's of now. */
static void save_begin(struct tree *t) {
    uint8_t turn = t->saving.turn == UINT8_MAX ? 1 : (uint8_t)(t->saving.turn + 1);
    text_clear(&t->saving.early);
    struct text early = t->saving.early;
    t->saving = (struct saving){.on = true, .turn = turn, .limit = t->next_id, .early = early};
}

static bool save_walk(struct tree *t, struct inode *n, struct text *to, size_t most) {
    struct saving *saving = &t->saving;
    if (!n) return false;
    if (inode_compare(n, saving->parent, saving->name, saving->name_length) > 0) {
        if (save_walk(t, n->left, to, most)) return true;
        if (to->length >= most) return true;
        save_inode(t, n, to);
        saving->parent = n->parent;
        saving->name_length = n->name_length;
        memcpy(saving->name, n->name, n->name_length);
    }
    return save_walk(t, n->right, to, most);
}

/* Appends the next inodes until `to` holds about `most` bytes. False when these were the last: the save is over. */
static bool save_next(struct tree *t, struct text *to, size_t most) {
    assert(t->saving.on);
    if (t->saving.early.length > 0) {
        text_bytes(to, t->saving.early.data, t->saving.early.length);
        text_recycle(&t->saving.early, 64 * KIB);
    }
    if (save_walk(t, t->root, to, most)) return true;
    t->saving.on = false;
    return false;
}

/* Reads snapshots: the parts' lines in their order. Begin with an empty tree from tree_init. */
static enum status snapshot_line(struct apply *a, struct slice line) {
    struct words w;
    struct position at;
    uint64_t inode;
    uint8_t request[16];
    if (line.length > 7 && memcmp(line.at, "CHUNKS ", 7) == 0) return apply_chunks(a, line);
    if (a->filling) return bad_line(line, "a file's chunks are missing before it");
    if (!words_split(line, &w)) return bad_line(line, "not words");
    bool pair =
        w.count >= 3 && parse_u64(w.word[1], UINT64_MAX, &at.epoch) && parse_u64(w.word[2], UINT64_MAX, &at.seq);
    if (slice_is(w.word[0], "SNAPSHOT") && w.count == 4 && pair && parse_u64(w.word[3], UINT64_MAX, &a->t->next_id)) {
        a->t->at = at;
    } else if (slice_is(w.word[0], "REIGNED") && w.count == 3 && pair) {
        reign_add(a->t, at);
    } else if (slice_is(w.word[0], "ROSTERED") && w.count == 3 && pair) {
        a->t->roster.at = at;
    } else if (slice_is(w.word[0], "REQUEST")) {
        if (w.count != 4 || !parse_hex(w.word[1], request, 16) || !parse_u64(w.word[2], UINT64_MAX, &at.seq) ||
            !parse_u64(w.word[3], UINT64_MAX, &inode))
            return bad_line(line, "not REQUEST ID SEQ INODE");
        request_add(a->t, request, at.seq, inode);
    } else {
        return apply_line(a, &w, line, a->t->roster.at);
    }
    return DONE;
}

static enum status snapshot_load(struct tree *t, const char *part, size_t length) {
    struct apply a = {.t = t};
    struct slice rest = {part, length}, line;
    while (slice_line(&rest, &line)) {
        enum status status = snapshot_line(&a, line);
        if (status != DONE) return status;
    }
    return rest.length == 0 && !a.filling ? DONE : fail(DAMAGED, "a part of a snapshot ends too early");
}

/* The words of an answer to STAT: KIND ID SIZE MTIME SHA256 CHUNKS EXPIRY, each behind a space. */
static void text_inode(struct text *to, const struct tree *t, const struct inode *n) {
    text_add(to, n->kind == KIND_FILE ? " file " : " dir ");
    text_u64(to, n->id);
    text_byte(to, ' ');
    text_u64(to, n->size);
    text_byte(to, ' ');
    text_i64(to, n->mtime_ns);
    text_byte(to, ' ');
    text_hex(to, inode_sha256(t, n), 32);
    text_byte(to, ' ');
    text_u64(to, n->chunk_count);
    text_byte(to, ' ');
    text_u64(to, n->expiry_s);
}

/* The rows of an answer to LIST, about 1 MiB: the entries of a directory after the name `after`, or the file itself.
 * `copies` says how many copies there are of a file. `words` gets the answer's own words. */
static void text_entries(struct text *rows, struct text *words, const struct tree *t, const struct inode *directory,
                         const char *after, int (*copies)(const struct inode *)) {
    bool file = directory->kind == KIND_FILE;
    const struct inode *n = file ? directory : tree_next(t, directory->id, after);
    while (n && rows->length < MIB) {
        if (inode_expired(t, n)) {
            n = tree_next_behind(t, n);
            continue;
        }
        text_format(rows, "%s %" PRIu64 " %" PRIu64 " %" PRId64 " %d ", n->kind == KIND_FILE ? "file" : "dir", n->id,
                    n->size, n->mtime_ns, n->kind == KIND_FILE ? copies(n) : 0);
        text_hex(rows, inode_sha256(t, n), 32);
        text_byte(rows, ' ');
        text_escaped(rows, n->name, n->name_length);
        text_byte(rows, '\n');
        if (file) break;
        n = tree_next_behind(t, n);
    }
    text_add(words, file ? " file" : " dir");
    text_add(words, n && !file ? " more" : " end");
}

/* The path of an inode, or the one that it had before it came to the trash. False if one of the directories above is
 * gone for good. */
static bool inode_path(const struct tree *t, const struct inode *n, struct text *to) {
    struct slice parts[PATH_MAX_BYTES / 2];
    int count = 0;
    while (n && n->id != ROOT_ID && count < PATH_MAX_BYTES / 2) {
        parts[count++] = n->parent & TRASH_BIT ? trash_name(n) : (struct slice){n->name, n->name_length};
        n = tree_by_id(t, n->parent & ~TRASH_BIT);
    }
    if (!n || n->id != ROOT_ID) return false;
    while (count > 0) {
        text_byte(to, '/');
        text_bytes(to, parts[count - 1].at, parts[count - 1].length);
        count--;
    }
    return true;
}

/* When a link ends: by itself, or with its file; 0: never. */
static uint32_t share_ends(const struct tree *t, const struct share *share) {
    const struct inode *n = tree_by_id(t, share->inode);
    if (!n || n->expiry_s == 0) return share->expiry_s;
    return share->expiry_s != 0 && share->expiry_s < n->expiry_s ? share->expiry_s : n->expiry_s;
}

/* The answer to SHARED: the words EXPIRY ID, each behind a space, and the path as a row. */
static enum status share_answer(const struct tree *t, struct slice word, struct text *words, struct text *row) {
    uint8_t token[TOKEN_BYTES];
    struct text path = {0};
    const struct share *share = parse_hex(word, token, TOKEN_BYTES) ? tree_share(t, token) : NULL;
    bool good = share && inode_path(t, tree_by_id(t, share->inode), &path);
    if (good) {
        text_format(words, " %u %" PRIu64, share_ends(t, share), share->inode);
        text_escaped(row, path.data, path.length);
        text_byte(row, '\n');
    }
    text_free(&path);
    return good ? DONE : fail(NOT_FOUND, "there is no such link, or its time is over");
}

/* The SHA-256 over all inodes in order, and the links: equal on all that hold the same namespace. */
static void tree_digest(const struct tree *t, uint8_t digest[32]) {
    struct sha256 state;
    struct text part = {0};
    const struct inode *last = NULL;
    bool more = true;
    sha256_init(&state);
    while (more) {
        text_clear(&part);
        more = snapshot_walk(&part, t, t->root, last ? last->parent : 0, last ? last->name : "",
                             last ? last->name_length : 0, SNAPSHOT_PART_BYTES, &last);
        sha256_update(&state, part.data ? part.data : "", part.length);
    }
    text_clear(&part);
    for (size_t i = 0; i < t->share_count; i++) line_share(&part, &t->shares[i]);
    sha256_update(&state, part.data ? part.data : "", part.length);
    sha256_final(&state, digest);
    text_free(&part);
}

/* ======== 9. Store ======== */
/* A node's directory: identity, lock, and one append-only log that holds chunks and records alike. No sockets.
 * docs/PROTOCOL.md, section 9, shows the format byte by byte; here is the order of disk writes, which is what makes an
 * acknowledgement true:
 *
 *   chunk    header and payload written; durable after the next sync round that begins later, and reported then
 *   record   written whole, made only when enough nodes had reported its chunks; then store_sync: the round that begins
 *            now covers it. When it returns, the record IS committed on this node.
 *   promise  written and synced before the answer goes out
 *   roll     a full segment is synced, gets its table of contents, and is synced again; nobody waits for it
 *   drop     a note that the chunks are gone, synced; then holes in place of their bytes
 *   keep     what still counts of the metadata before it; then a snapshot, synced: the checkpoint counts
 *   rewrite  what lives in a segment is appended again and synced; a note that it is gone, synced; the file goes
 *
 * Lock: store.lock guards struct store, but for what is marked. It is not held across a sync, but for the first line of
 * a new segment; a chunk larger than SMALL_CHUNK_BYTES is written outside it, into the place it reserved.
 * After a failed write or sync nothing is tried again: the store is failed, and says so. No room is no failure.
 * Entry points: store_open, store_format, store_recover, store_put, store_record, store_sync, store_promise,
 * store_find, store_drop, store_keep, store_rewrite, store_scrub. */

enum entry_kind {
    ENTRY_CHUNK,
    ENTRY_RECORD,
    ENTRY_PROMISE,
    ENTRY_SNAPSHOT,
    ENTRY_ASIDE, /* chunks that are damaged where they lie */
    ENTRY_DROP,  /* chunks whose bytes were given back, segments that were removed */
    ENTRY_KEEP,  /* begins a checkpoint: what of the entries before it still counts */
    ENTRY_TOC,
    ENTRY_KINDS
};

static const char *const entry_names[ENTRY_KINDS] = {"chunk", "record", "promise", "snapshot", "aside", "drop", "keep",
                                                      "toc"};

enum {
    HEADER_MAX_BYTES = 160,
    SEGMENT_LINE_MAX_BYTES = 256,
    END_LINE_BYTES = 32,      /* "end OFFSET CHECK\n": the last bytes of a closed segment */
    SEGMENT_FILES_MAX = 64,   /* files of the log kept open */
    INFLIGHT_MAX = 64,        /* large chunks being written at once */
    SALT_BYTES = 16,
    INDEX_PARTS = 256,        /* of the index, by the last byte of a hash */
    SEGMENT_DIGITS = 6,       /* of a segment's number in its path */
    CHECK_HEX = 16,
    SEGMENT_ENTRIES_MAX = 400000, /* so that the table of contents is one entry */
    FILL_AFTER = 16,          /* small entries in a row after which zeros are written ahead of them */
    ENTRY_OVERHEAD = 200,     /* bytes of a small chunk's header, its row in the table of contents, ends of lines */
    PLACES_PER_LINE = 100,    /* in a DEAD line */
};

_Static_assert(SEGMENT_ENTRIES_MAX * 100ULL < PAYLOAD_MAX_BYTES, "a table of contents can be read back");

/* A place in the log. */
struct place {
    uint32_t segment, offset;
};

static bool place_before(struct place a, struct place b) {
    return a.segment < b.segment || (a.segment == b.segment && a.offset < b.offset);
}

/* An entry as the table of contents lists it; `offset` is the payload's. */
struct entry {
    uint8_t hash[32];
    uint32_t offset, length;
    enum entry_kind kind;
    bool good; /* while recovering: its payload is what its header says */
};

struct segment {
    uint32_t number;
    int fd;                   /* -1: not open now */
    int users;                /* who rely on fd staying open */
    int writers;              /* large chunks being written into it */
    uint64_t size;            /* reserved for entries so far; the table of contents comes behind */
    uint64_t before;          /* the size of the segment before this one, when this was begun */
    uint64_t filled;          /* the file has zeros up to here, written ahead; 0: none */
    uint32_t small_run;       /* small entries since the last large one */
    uint64_t writes, synced;  /* counts of finished writes: now, and when the last sync began */
    int64_t used_ms;
    uint8_t salt[SALT_BYTES];
    uint64_t live;            /* bytes of the chunks in it that the index knows, with ENTRY_OVERHEAD for each */
    uint64_t taken;           /* bytes that its file takes on the disk, as of its closing or the last hole in it */
    int64_t checked_ms;       /* since 1970: when all in it was read and found right, or written */
    uint32_t *dead;           /* offsets of chunks in it that are not what its table of contents says */
    uint32_t dead_count;
    uint64_t first_seq;       /* of the first record in it that this node's tree is made of; 0: there is none */
    uint32_t first_at;        /* the place of the entry in which that is */
    bool full, closed;        /* full: takes no more entries; closed: has its table of contents */
    bool gone;                /* nothing lives in it, and the log says that it is not there any more */
    bool damaged;             /* gets no table of contents, which would leave out for good what can't be read now */
    struct entry *entries;    /* until it is closed */
    uint32_t entry_count, entry_capacity;
};

/* Where a chunk is: 48 bytes for each, in an open-addressing table that is at most three quarters full. */
struct slot {
    uint8_t hash[32];
    struct place at;
    uint32_t length;  /* 0: the slot is free */
    uint32_t touched; /* when it was stored last, or would have been if it had not been here: units of 64 ms */
};

/* A part of the index: those with the same last byte of their hash. Each grows by itself, so that nobody waits for all
 * of a large index to be doubled. */
struct part {
    struct slot *slots;
    uint64_t size, used; /* slots, a power of two or 0; those in use */
};

/* A chunk that was dropped: where it lay. */
struct hole {
    struct place at;
    uint32_t length;
};

struct store {
    struct lock lock;
    struct cond synced;       /* a sync round ended */
    struct cond rolled;       /* a segment became full, or its last writer finished */
    char folder[PATH_MAX - 64];
    int lock_fd;
    bool check;               /* only looked at: nothing is written, and what is wrong goes to `problem` */
    void (*problem)(uint32_t segment, uint64_t offset, const char *what, bool matters);
    bool formatted;
    char cluster[33], name[LABEL_MAX_BYTES + 1];
    uint64_t id;              /* of this node */
    uint64_t born_s;          /* when it was started for the first time, in seconds since 1970; 0: not known */
    uint64_t segment_max;     /* bytes */
    struct segment **segments; /* those that are there, in the order of their numbers */
    uint32_t segment_count, segment_capacity;
    uint32_t next_number;     /* of the next segment: no number is used twice */
    uint32_t open_from;       /* the segments of lower numbers are closed, or will never be */
    bool cramped;             /* there was no room for a table of contents */
    bool began;               /* this process began a segment: the folders above it are durable */
    struct segment *current;  /* takes appends; NULL: the next append makes one */
    int files_open;
    struct part parts[INDEX_PARTS];
    uint64_t chunk_count, chunk_bytes;
    uint64_t round_begun, round_done;
    bool round_running;
    struct place inflight[INFLIGHT_MAX];
    int inflight_count;
    struct place durable;     /* all before it is on disk; written into headers, for recovery after a power cut */
    struct hole *holes;       /* whose bytes are to be given back */
    size_t hole_count, hole_capacity;
    struct place checkpoint;  /* all metadata before it is dead; 0.0: there was no checkpoint yet */
    uint64_t checkpoint_bytes; /* of metadata in the last one */
    void (*lost)(const uint8_t hash[32]); /* told of a chunk that was found damaged */
    bool failed;
    char why[256];            /* it failed */
    uint64_t damaged;         /* chunks set aside since the start */
    uint8_t (*asides)[32];    /* chunks that were ever set aside here, so that the master knows what became of them */
    uint32_t aside_count;
    uint64_t promised, promised_to; /* epoch and master; the owner's lock guards them, and the next */
    bool metadata_scrubbed;   /* the scrubber found metadata damaged that counts: a checkpoint writes it anew */
    bool metadata_damaged;    /* recovery lost records: this node is a learner */
    atomic_bool full;         /* told to behave as if the disk were full */
    atomic_ullong free_bytes, total_bytes; /* of the file system; refreshed by store_space */
};

/* What a node keeps free of a disk of this size, for metadata. */
static uint64_t disk_reserve(uint64_t total_bytes) {
    return total_bytes / 20 < RESERVE_BYTES ? total_bytes / 20 : RESERVE_BYTES;
}

/* Reads a piece of a file and compares it with its hash. If it is false and errno is not 0, it could not be read. */
static bool read_verified(int fd, void *to, size_t length, uint64_t offset, const uint8_t hash[32]) {
    uint8_t digest[32];
    if (!sys_pread(fd, to, length, offset)) return false;
    sha256_digest(to, length, digest);
    errno = 0;
    return memcmp(digest, hash, 32) == 0;
}

/* ---- Paths, headers ---- */

/* DIR/log/a/b/c/d/e/f for segment number abcdef in base 36. */
static void segment_path(const struct store *s, uint32_t number, char *path, size_t capacity) {
    static const char digit[] = "0123456789abcdefghijklmnopqrstuvwxyz";
    int used = snprintf(path, capacity, "%s/log", s->folder);
    for (uint32_t power = SEGMENTS_MAX / 36; power > 0; power /= 36)
        used += snprintf(path + used, capacity - (size_t)used, "/%c", digit[number / power % 36]);
}

/* Makes the folders above a segment, and their names durable: those that are new, or all of them the first time, since
 * a process that ended here may have left some that are not. */
static bool segment_folders(const struct store *s, const char *path) {
    char folder[PATH_MAX], parent[PATH_MAX];
    for (const char *end = strchr(path + strlen(s->folder) + 1, '/'); end; end = strchr(end + 1, '/')) {
        snprintf(folder, sizeof folder, "%.*s", (int)(end - path), path);
        snprintf(parent, sizeof parent, "%s", folder);
        *strrchr(parent, '/') = 0;
        bool made = mkdir(folder, 0700) == 0;
        if (!made && errno != EEXIST) return false;
        if ((made || !s->began) && !sys_sync_folder(parent)) return false;
    }
    return true;
}

/* Removes the folder of a segment that is gone, and those above it, as far as they are empty. Changes `folder`. */
static void segment_prune(char *folder) {
    for (int level = 1; level < SEGMENT_DIGITS && rmdir(folder) == 0; level++) *strrchr(folder, '/') = 0;
}

/* The checksum of a header line: the beginning of a SHA-256 over the segment's salt, the place and the line. So no
 * bytes that somebody uploaded, and no header from elsewhere, can be taken for a header here. */
static void header_check(const struct segment *g, uint64_t offset, const char *line, size_t length,
                         char hex[CHECK_HEX]) {
    struct sha256 state;
    uint8_t digest[32];
    char place[40];
    int size = snprintf(place, sizeof place, "%u.%" PRIu64 " ", g->number, offset);
    sha256_init(&state);
    sha256_update(&state, g->salt, SALT_BYTES);
    sha256_update(&state, place, (size_t)size);
    sha256_update(&state, line, length);
    sha256_final(&state, digest);
    hex_write(hex, digest, CHECK_HEX / 2);
}

/* KIND LENGTH SHA256 DURABLE CHECK\n */
static size_t header_write(const struct segment *g, uint64_t offset, enum entry_kind kind, const uint8_t hash[32],
                           size_t length, struct place durable, char to[HEADER_MAX_BYTES]) {
    char hex[65];
    hex_write(hex, hash, 32);
    hex[64] = 0;
    int used = snprintf(to, HEADER_MAX_BYTES, "%s %zu %s %u.%u ", entry_names[kind], length, hex, durable.segment,
                        durable.offset);
    header_check(g, offset, to, (size_t)used, to + used);
    to[used + CHECK_HEX] = '\n';
    return (size_t)used + CHECK_HEX + 1;
}

static bool parse_place(struct slice word, struct place *place) {
    struct slice part;
    return slice_part(&word, '.', &part) && parse_u32(part, UINT32_MAX, &place->segment) &&
           parse_u32(word, UINT32_MAX, &place->offset);
}

/* Takes bytes for a header at `offset`. Returns its length, 0 if it is none. */
static size_t header_read(const struct segment *g, uint64_t offset, const char *bytes, size_t have, struct entry *entry,
                          struct place *durable) {
    char check[CHECK_HEX];
    struct words w;
    const char *end = memchr(bytes, '\n', have < HEADER_MAX_BYTES ? have : HEADER_MAX_BYTES);
    size_t length = end ? (size_t)(end - bytes) : 0;
    if (length < CHECK_HEX + 2 || !words_split((struct slice){bytes, length}, &w) || w.count != 5) return 0;
    if (w.word[4].length != CHECK_HEX || !parse_u32(w.word[1], PAYLOAD_MAX_BYTES, &entry->length) ||
        !parse_hex(w.word[2], entry->hash, 32) || !parse_place(w.word[3], durable))
        return 0;
    entry->kind = ENTRY_KINDS;
    for (int i = 0; i < ENTRY_KINDS; i++)
        if (slice_is(w.word[0], entry_names[i])) entry->kind = (enum entry_kind)i;
    header_check(g, offset, bytes, length - CHECK_HEX, check);
    if (entry->kind == ENTRY_KINDS || memcmp(check, w.word[4].at, CHECK_HEX) != 0) return 0;
    entry->offset = (uint32_t)(offset + length + 1);
    entry->good = true;
    return length + 1;
}

static enum status store_fail(struct store *s, const char *what) {
    lock_check(&s->lock);
    int error = errno;
    if (!s->failed) {
        s->failed = true;
        snprintf(s->why, sizeof s->why, "%s: %s", what, strerror(error));
        log_line("STORE FAILED: %s; this node acknowledges nothing more; mend the disk and start it again", s->why);
        cond_broadcast(&s->rolled);
        cond_broadcast(&s->synced);
    }
    return fail(INTERNAL, "the store of this node failed: %s", s->why);
}

/* ---- The list of segments ---- */

/* Where in the list the first segment stands whose number is not lower. */
static uint32_t segment_rank(const struct store *s, uint32_t number) {
    uint32_t low = 0, high = s->segment_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (s->segments[middle]->number < number) low = middle + 1;
        else high = middle;
    }
    return low;
}

/* The segment of a number, or NULL. */
static struct segment *segment_at(const struct store *s, uint32_t number) {
    uint32_t i = segment_rank(s, number);
    return i < s->segment_count && s->segments[i]->number == number ? s->segments[i] : NULL;
}

static struct segment *segment_new(struct store *s, uint32_t number) {
    struct segment *g = mem_alloc(sizeof *g);
    uint32_t i = segment_rank(s, number);
    g->number = number;
    g->fd = -1;
    if (s->segment_count == s->segment_capacity) {
        s->segment_capacity = s->segment_capacity ? 2 * s->segment_capacity : 16;
        s->segments = mem_resize(s->segments, s->segment_capacity * sizeof(struct segment *));
    }
    memmove(s->segments + i + 1, s->segments + i, (s->segment_count - i) * sizeof(struct segment *));
    s->segments[i] = g;
    s->segment_count++;
    if (number >= s->next_number) s->next_number = number + 1;
    return g;
}

/* Takes a segment off the list and frees it. Its file stays. */
static void segment_free(struct store *s, struct segment *g) {
    uint32_t i = segment_rank(s, g->number);
    memmove(s->segments + i, s->segments + i + 1, (--s->segment_count - i) * sizeof(struct segment *));
    if (g->fd >= 0) {
        close(g->fd);
        s->files_open--;
    }
    free(g->dead);
    free(g->entries);
    free(g);
}

/* ---- The index ---- */

static uint64_t slot_home(const struct part *part, const uint8_t hash[32]) {
    uint64_t number;
    memcpy(&number, hash, sizeof number);
    return number & (part->size - 1);
}

static struct slot *slot_find(const struct store *s, const uint8_t hash[32]) {
    const struct part *part = &s->parts[hash[31]];
    if (part->size == 0) return NULL;
    for (uint64_t i = slot_home(part, hash);; i = (i + 1) & (part->size - 1)) {
        if (part->slots[i].length == 0) return NULL;
        if (memcmp(part->slots[i].hash, hash, 32) == 0) return &part->slots[i];
    }
}

static void slot_insert(struct part *part, const struct slot *added) {
    uint64_t i = slot_home(part, added->hash);
    while (part->slots[i].length != 0) i = (i + 1) & (part->size - 1);
    part->slots[i] = *added;
}

static uint32_t touch_now(void) {
    return (uint32_t)(clock_ms() / 64);
}

/* Adds a chunk, or moves it to a newer place. */
static void index_add(struct store *s, const uint8_t hash[32], struct place at, uint32_t length) {
    struct slot *found = slot_find(s, hash), added = {.at = at, .length = length, .touched = touch_now()};
    segment_at(s, at.segment)->live += length + ENTRY_OVERHEAD;
    if (found) {
        segment_at(s, found->at.segment)->live -= length + ENTRY_OVERHEAD;
        found->at = at;
        return;
    }
    struct part *part = &s->parts[hash[31]], old = *part;
    if ((part->used + 1) * 4 > part->size * 3) {
        part->size = old.size ? old.size * 2 : 8;
        part->slots = mem_alloc((size_t)part->size * sizeof *part->slots);
        for (uint64_t i = 0; i < old.size; i++)
            if (old.slots[i].length != 0) slot_insert(part, &old.slots[i]);
        free(old.slots);
    }
    memcpy(added.hash, hash, 32);
    slot_insert(part, &added);
    part->used++;
    s->chunk_count++;
    s->chunk_bytes += length;
}

/* Removes a slot and closes the gap, so that no search ends too early (Knuth, volume 3, 6.4, algorithm R). */
static void index_remove(struct store *s, struct slot *removed) {
    struct part *part = &s->parts[removed->hash[31]];
    uint64_t mask = part->size - 1, gap = (uint64_t)(removed - part->slots);
    segment_at(s, removed->at.segment)->live -= removed->length + ENTRY_OVERHEAD;
    part->used--;
    s->chunk_count--;
    s->chunk_bytes -= removed->length;
    for (uint64_t i = (gap + 1) & mask; part->slots[i].length != 0; i = (i + 1) & mask) {
        uint64_t home = slot_home(part, part->slots[i].hash);
        if (((i - home) & mask) < ((i - gap) & mask)) continue; /* its home lies behind the gap: it stays */
        part->slots[gap] = part->slots[i];
        gap = i;
    }
    part->slots[gap].length = 0;
}

/* ---- Segments ---- */

/* Closes the file that was used longest ago among those that nobody needs open. */
static void segment_evict(struct store *s) {
    struct segment *oldest = NULL;
    for (uint32_t i = 0; i < s->segment_count; i++) {
        struct segment *g = s->segments[i];
        if (g->fd < 0 || g->users > 0 || !g->closed) continue;
        if (!oldest || g->used_ms < oldest->used_ms) oldest = g;
    }
    if (!oldest) return;
    close(oldest->fd);
    oldest->fd = -1;
    s->files_open--;
}

/* Makes sure that the file is open and stays so until segment_unuse. */
static bool segment_use(struct store *s, struct segment *g) {
    char path[PATH_MAX];
    lock_check(&s->lock);
    if (g->fd < 0) {
        if (s->files_open >= SEGMENT_FILES_MAX) segment_evict(s);
        segment_path(s, g->number, path, sizeof path);
        g->fd = sys_open(path, s->check ? O_RDONLY : O_RDWR, 0);
        if (g->fd < 0) return false;
        s->files_open++;
    }
    g->users++;
    g->used_ms = clock_ms();
    return true;
}

static void segment_unuse(struct store *s, struct segment *g) {
    lock_check(&s->lock);
    assert(g->users > 0);
    g->users--;
}

static int offset_compare(const void *a, const void *b) {
    uint32_t left, right;
    memcpy(&left, a, sizeof left);
    memcpy(&right, b, sizeof right);
    return left < right ? -1 : left > right;
}

/* Notes that the chunk at an offset is not to be found there any more, whatever the table of contents says. */
static void segment_bury(struct segment *g, uint32_t offset) {
    if ((g->dead_count & (g->dead_count - 1)) == 0) /* a power of two, or none: it is full */
        g->dead = mem_resize(g->dead, (g->dead_count ? 2 * (size_t)g->dead_count : 1) * sizeof *g->dead);
    uint32_t i = g->dead_count++;
    for (; i > 0 && g->dead[i - 1] > offset; i--) g->dead[i] = g->dead[i - 1];
    g->dead[i] = offset;
}

static bool segment_buried(const struct segment *g, uint32_t offset) {
    return g->dead_count > 0 && bsearch(&offset, g->dead, g->dead_count, sizeof offset, offset_compare) != NULL;
}

/* Looks how many bytes of the disk a segment's file takes. */
static void segment_measure(struct segment *g) {
    struct stat about;
    if (g->fd >= 0 && fstat(g->fd, &about) == 0) g->taken = (uint64_t)about.st_blocks * 512;
}

/* Bytes of the disk that rewriting it would give back. */
static uint64_t segment_dead_bytes(const struct segment *g) {
    return g->taken > g->live ? g->taken - g->live : 0;
}

/* Notes that an entry of records begins with this one. */
static void segment_records(struct segment *g, uint64_t seq, uint32_t offset) {
    if (g->first_seq != 0) return;
    g->first_seq = seq;
    g->first_at = offset;
}

static void segment_note(struct segment *g, const struct entry *entry) {
    if (g->entry_count == g->entry_capacity) {
        g->entry_capacity = g->entry_capacity ? g->entry_capacity * 2 : 16;
        g->entries = mem_resize(g->entries, g->entry_capacity * sizeof *g->entries);
    }
    g->entries[g->entry_count++] = *entry;
}

/* segment FORMAT CLUSTER NODE NUMBER BEFORE SALT CHECK\n : the first line of every segment. */
static size_t segment_line(const struct store *s, struct segment *g, char to[SEGMENT_LINE_MAX_BYTES]) {
    char salt[2 * SALT_BYTES + 1] = "";
    hex_write(salt, g->salt, SALT_BYTES);
    int used = snprintf(to, SEGMENT_LINE_MAX_BYTES, "segment %d %s %016" PRIx64 " %u %" PRIu64 " %.*s ", FORMAT_VERSION,
                        s->cluster, s->id, g->number, g->before, 2 * SALT_BYTES, salt);
    header_check(g, 0, to, (size_t)used, to + used);
    to[used + CHECK_HEX] = '\n';
    return (size_t)used + CHECK_HEX + 1;
}

/* Whether a write failed only because there is no room: that is no failure of the disk. */
static bool no_room(int error) {
    return error == ENOSPC || error == EDQUOT || error == EFBIG;
}

/* Begins a new segment; its name and first line are durable before anything is appended. NO_SPACE if there is no room.
 */
static enum status segment_begin(struct store *s) {
    char path[PATH_MAX], line[SEGMENT_LINE_MAX_BYTES];
    if (s->next_number == SEGMENTS_MAX) return fail(NO_SPACE, "the log has had all %u segments", SEGMENTS_MAX);
    const struct segment *last = segment_at(s, s->next_number - 1);
    struct segment *g = segment_new(s, s->next_number);
    g->before = last ? last->size : 0;
    random_bytes(g->salt, SALT_BYTES);
    size_t length = segment_line(s, g, line);
    struct iovec piece = {line, length};
    if (s->files_open >= SEGMENT_FILES_MAX) segment_evict(s);
    segment_path(s, g->number, path, sizeof path);
    if (segment_folders(s, path)) g->fd = sys_open(path, O_RDWR | O_CREAT | O_EXCL, 0600);
    s->files_open += g->fd >= 0;
    if (g->fd < 0 || !sys_pwritev(g->fd, &piece, 1, 0) || sys_fdatasync(g->fd) != 0) {
        if (!no_room(errno) || (g->fd >= 0 && unlink(path) != 0)) return store_fail(s, "making a segment");
        s->next_number = g->number;
        segment_free(s, g);
        return fail(NO_SPACE, "the disk of node %s is full", s->name);
    }
    *strrchr(path, '/') = 0;
    if (!sys_sync_folder(path)) return store_fail(s, "syncing a folder of the log");
    g->size = length;
    g->checked_ms = clock_wall_ns() / 1000000;
    s->began = true;
    s->current = g;
    return DONE;
}

/* Writes the table of contents behind the entries of a full segment and makes it durable. The lock is not held. */
static bool segment_write_toc(const struct segment *g, struct place durable) {
    struct text toc = {0};
    uint8_t hash[32];
    char header[HEADER_MAX_BYTES], end[END_LINE_BYTES + 1];
    for (uint32_t i = 0; i < g->entry_count; i++) {
        const struct entry *entry = &g->entries[i];
        if (!entry->good) continue;
        text_u64(&toc, entry->offset);
        text_byte(&toc, ' ');
        text_add(&toc, entry_names[entry->kind]);
        text_byte(&toc, ' ');
        text_u64(&toc, entry->length);
        text_byte(&toc, ' ');
        text_hex(&toc, entry->hash, 32);
        text_byte(&toc, '\n');
    }
    sha256_digest(toc.data ? toc.data : "", toc.length, hash);
    size_t used = header_write(g, g->size, ENTRY_TOC, hash, toc.length, durable, header);
    uint64_t end_at = g->size + used + toc.length + 1;
    snprintf(end, sizeof end, "end %010" PRIu64 " ", g->size);
    header_check(g, end_at, end, 15, end + 15);
    end[END_LINE_BYTES - 1] = '\n';
    struct iovec piece[4] = {{header, used}, {toc.data, toc.length}, {(char[]){'\n'}, 1}, {end, END_LINE_BYTES}};
    bool good = sys_pwritev(g->fd, piece, 4, g->size) && sys_truncate(g->fd, end_at + END_LINE_BYTES) &&
                sys_fdatasync(g->fd) == 0;
    text_free(&toc);
    return good;
}

/* Gives back the bytes of chunks that were dropped while their segment was open: its table of contents lacks them. */
static void holes_of_closing(const struct segment *g) {
    for (uint32_t i = 0; i < g->entry_count; i++)
        if (g->entries[i].kind == ENTRY_CHUNK && !g->entries[i].good && g->entries[i].length >= HOLE_MIN_BYTES)
            sys_punch(g->fd, g->entries[i].offset, g->entries[i].length);
}

/* Reads the table of contents at the end of a segment of `size` bytes into `lines`. `at` is where it begins. False if
 * there is none that is whole. */
static bool toc_read(const struct segment *g, uint64_t size, struct text *lines, uint64_t *at, struct place *durable) {
    char end[END_LINE_BYTES], check[CHECK_HEX], header[HEADER_MAX_BYTES];
    struct entry toc;
    errno = 0; /* but for a read error */
    if (size < END_LINE_BYTES + HEADER_MAX_BYTES || !sys_pread(g->fd, end, sizeof end, size - END_LINE_BYTES))
        return false;
    header_check(g, size - END_LINE_BYTES, end, 15, check);
    if (memcmp(end, "end ", 4) != 0 || memcmp(check, end + 15, CHECK_HEX) != 0) return false;
    struct slice digits = {end + 4, 10};
    while (digits.length > 1 && *digits.at == '0') digits.at++, digits.length--;
    if (!parse_u64(digits, size - END_LINE_BYTES, at)) return false;
    size_t have = size - *at < sizeof header ? (size_t)(size - *at) : sizeof header;
    if (!sys_pread(g->fd, header, have, *at) || header_read(g, *at, header, have, &toc, durable) == 0) return false;
    text_reserve(lines, toc.length);
    lines->length = toc.length;
    return read_verified(g->fd, lines->data, toc.length, toc.offset, toc.hash);
}

/* Takes the next row off a table of contents: OFFSET KIND LENGTH SHA256. False at the end. */
static bool toc_entry(struct slice *rest, struct entry *entry) {
    struct slice line;
    struct words w;
    *entry = (struct entry){.good = true};
    while (slice_line(rest, &line)) {
        if (!words_split(line, &w) || w.count != 4 || !parse_u32(w.word[0], UINT32_MAX, &entry->offset) ||
            !parse_u32(w.word[2], UINT32_MAX, &entry->length) || !parse_hex(w.word[3], entry->hash, 32))
            continue; /* can't be: its hash is right */
        for (int i = 0; i < ENTRY_KINDS; i++)
            if (slice_is(w.word[1], entry_names[i])) entry->kind = (enum entry_kind)i;
        return true;
    }
    return false;
}

/* Closes a full segment that nobody writes into any more. */
static enum status segment_close(struct store *s, struct segment *g) {
    lock_check(&s->lock);
    assert(g->full && g->writers == 0 && !g->closed);
    if (!segment_use(s, g)) return store_fail(s, "opening a segment");
    uint64_t writes = g->writes;
    struct place durable = s->durable;
    lock_drop(&s->lock);
    bool good = sys_fdatasync(g->fd) == 0 && segment_write_toc(g, durable);
    if (good) holes_of_closing(g);
    lock_take(&s->lock);
    segment_unuse(s, g);
    s->cramped = !good && no_room(errno);
    if (s->cramped) cond_broadcast(&s->rolled);
    if (s->cramped) return fail(NO_SPACE, "no room for a table of contents"); /* it is tried again */
    if (!good) return store_fail(s, "closing a segment");
    g->synced = writes;
    g->closed = true;
    segment_measure(g);
    free(g->entries);
    g->entries = NULL;
    g->entry_count = g->entry_capacity = 0;
    cond_broadcast(&s->rolled);
    return DONE;
}

/* Closes segments as they get full. Runs as a thread for the life of the process. */
static void *store_keeper(void *argument) {
    struct store *s = argument;
    lock_take(&s->lock);
    for (;;) {
        struct segment *ready = NULL;
        uint32_t i = segment_rank(s, s->open_from);
        while (i < s->segment_count && (s->segments[i]->closed || s->segments[i]->damaged))
            s->open_from = s->segments[i++]->number + 1;
        for (; i < s->segment_count && !ready && !s->failed; i++) {
            struct segment *g = s->segments[i];
            if (g->full && !g->closed && !g->damaged && g->writers == 0) ready = g;
        }
        if (!ready) cond_wait(&s->rolled, &s->lock);
        else if (segment_close(s, ready) != DONE) {
            log_line("a segment stays without its table of contents: %s", detail);
            lock_drop(&s->lock);
            sleep_ms(TIDY_MS);
            lock_take(&s->lock);
        }
    }
    return NULL;
}

/* At an orderly stop, and before a scrub: has the keeper close the segment that takes appends, so that no open end is
 * left that could be torn. Waits for at most CALL_TIMEOUT_MS; what is appended meanwhile goes into a new segment. */
static enum status store_close(struct store *s) {
    int64_t until_ms = clock_ms() + CALL_TIMEOUT_MS;
    enum status status = DONE;
    lock_take(&s->lock);
    struct segment *g = s->current;
    uint32_t number = g ? g->number : 0;
    if (g) g->full = true;
    s->current = NULL;
    s->cramped = false;
    cond_broadcast(&s->rolled);
    while (g && !g->closed && !s->failed && !s->cramped && cond_wait_until(&s->rolled, &s->lock, until_ms))
        g = segment_at(s, number); /* closed and rewritten meanwhile: NULL */
    if (s->failed) status = fail(INTERNAL, "the store of this node failed: %s", s->why);
    else if (g && !g->closed) status = fail(INTERNAL, "the log was not closed; the next start looks through its end");
    lock_drop(&s->lock);
    return status;
}

/* ---- Appending ---- */

/* Whether the disk has so little room that giving space back is urgent. */
static bool store_is_short(const struct store *s) {
    return atomic_load(&s->free_bytes) < 4 * disk_reserve(atomic_load(&s->total_bytes));
}

/* Makes room in the current segment, going on to a new one if this entry would not fit. */
static enum status append_begin(struct store *s, size_t length) {
    if (s->failed) return fail(INTERNAL, "the store of this node failed: %s", s->why);
    struct segment *g = s->current;
    if (!s->formatted) return fail(READ_ONLY, "this node is blank: it has not joined a cluster yet");
    if (g && g->entry_count > 0 &&
        (g->size + length + HEADER_MAX_BYTES > s->segment_max || g->entry_count == SEGMENT_ENTRIES_MAX)) {
        s->current->full = true;
        s->current = NULL;
        cond_broadcast(&s->rolled);
    }
    return s->current ? DONE : segment_begin(s);
}

/* Writes zeros ahead of small entries that come one after another. A sync of bytes that the file system has allocated
 * already does not wait for its journal: half the time of one that makes the file longer. Recovery takes zeros at the
 * end of a segment for no entry, and a table of contents ends the file. */
static bool append_fill(struct segment *g, uint64_t end) {
    static char zeros[64 * KIB];
    struct iovec piece[FILL_BYTES / sizeof zeros];
    if (g->filled < end) g->filled = end;
    for (size_t i = 0; i < FILL_BYTES / sizeof zeros; i++) piece[i] = (struct iovec){zeros, sizeof zeros};
    if (!sys_pwritev(g->fd, piece, FILL_BYTES / sizeof zeros, g->filled)) return false;
    g->filled += FILL_BYTES;
    return true;
}

/* Writes a large chunk's payload into its place, outside the lock. */
static enum status append_outside(struct store *s, struct segment *g, struct place header, uint64_t at,
                                  const void *payload, size_t length) {
    struct iovec piece[2] = {{(void *)(uintptr_t)payload, length}, {(char[]){'\n'}, 1}};
    int mine = 0;
    while (s->inflight_count == INFLIGHT_MAX) cond_wait(&s->rolled, &s->lock);
    s->inflight[s->inflight_count++] = header;
    g->writers++;
    g->users++;
    lock_drop(&s->lock);
    bool good = sys_pwritev(g->fd, piece, 2, at);
    int error = errno;
    lock_take(&s->lock);
    errno = error;
    while (s->inflight[mine].segment != header.segment || s->inflight[mine].offset != header.offset) mine++;
    s->inflight[mine] = s->inflight[--s->inflight_count];
    g->writers--;
    g->users--;
    cond_broadcast(&s->rolled);
    if (!good && no_room(errno)) return fail(NO_SPACE, "the disk of node %s is full", s->name);
    return good ? DONE : store_fail(s, "writing a chunk");
}

/* Appends one entry and returns its payload's place. Not durable before the next store_sync. */
static enum status store_append(struct store *s, enum entry_kind kind, const uint8_t hash[32], const void *payload,
                                size_t length, struct place *place) {
    assert(length <= PAYLOAD_MAX_BYTES); /* or it could not be read back */
    char header[HEADER_MAX_BYTES];
    enum status status = append_begin(s, length);
    if (status != DONE) return status;
    struct segment *g = s->current;
    uint64_t offset = g->size;
    size_t used = header_write(g, offset, kind, hash, length, s->durable, header);
    struct entry entry = {.offset = (uint32_t)(offset + used), .length = (uint32_t)length, .kind = kind, .good = true};
    memcpy(entry.hash, hash, 32);
    *place = (struct place){g->number, entry.offset};
    struct place from = {g->number, (uint32_t)offset};
    bool outside = kind == ENTRY_CHUNK && length > SMALL_CHUNK_BYTES;
    struct iovec piece[3] = {{header, used}, {(void *)(uintptr_t)payload, length}, {(char[]){'\n'}, 1}};
    g->size += used + length + 1;
    g->small_run = outside ? 0 : g->small_run + 1;
    if (g->small_run > FILL_AFTER && g->size > g->filled && !store_is_short(s) && !append_fill(g, g->size) &&
        !no_room(errno))
        return store_fail(s, "writing ahead to the log");
    if (!sys_pwritev(g->fd, piece, outside ? 1 : 3, offset)) {
        if (!no_room(errno)) return store_fail(s, "writing to the log");
        g->size = offset; /* the next entry is written over what came of this one */
        return fail(NO_SPACE, "the disk of node %s is full", s->name);
    }
    segment_note(g, &entry);
    uint32_t number = g->entry_count - 1;
    if (outside && (status = append_outside(s, g, from, entry.offset, payload, length)) != DONE) {
        g->entries[number].good = false;
        g->writes++; /* its header is to be synced all the same: what comes behind it says that it is on disk */
        return status;
    }
    g->writes++;
    return DONE;
}

/* Whether a chunk is here, and how long it is. */
static bool store_has(struct store *s, const uint8_t hash[32], uint32_t *length) {
    lock_take(&s->lock);
    struct slot *slot = slot_find(s, hash);
    if (slot) *length = slot->length;
    lock_drop(&s->lock);
    return slot != NULL;
}

/* Looks how much room the disk has. */
static void store_space(struct store *s) {
    struct statvfs about;
    if (statvfs(s->folder, &about) != 0) return;
    atomic_store(&s->free_bytes, atomic_load(&s->full) ? 0 : (uint64_t)about.f_bavail * about.f_frsize);
    atomic_store(&s->total_bytes, (uint64_t)about.f_blocks * about.f_frsize);
}

/* Whether a chunk is here; then it counts as stored just now, and is not dropped for the grace time. */
static bool store_touch(struct store *s, const uint8_t hash[32]) {
    lock_take(&s->lock);
    struct slot *slot = slot_find(s, hash);
    if (slot) slot->touched = touch_now();
    lock_drop(&s->lock);
    return slot != NULL;
}

/* Stores a chunk that the caller has verified. `length` is 1 to CHUNK_MAX_BYTES. One that is here already is left. */
static enum status store_put(struct store *s, const uint8_t hash[32], const void *bytes, size_t length) {
    struct place place;
    assert(length > 0 && length <= CHUNK_MAX_BYTES);
    uint64_t reserve = disk_reserve(atomic_load(&s->total_bytes));
    if (atomic_load(&s->free_bytes) < reserve + length) store_space(s); /* it may be old */
    lock_take(&s->lock);
    enum status status = DONE;
    struct slot *slot = slot_find(s, hash);
    if (slot) {
        slot->touched = touch_now(); /* somebody counts on it: it is not dropped now */
    } else if (atomic_load(&s->free_bytes) < reserve + length + ENTRY_OVERHEAD) {
        status = fail(NO_SPACE, "the disk of node %s is full; delete files or add a node", s->name);
    } else {
        atomic_fetch_sub(&s->free_bytes, length + ENTRY_OVERHEAD); /* until it is looked up again */
        status = store_append(s, ENTRY_CHUNK, hash, bytes, length, &place);
        if (status == DONE) index_add(s, hash, place, (uint32_t)length);
    }
    lock_drop(&s->lock);
    return status;
}

/* Appends one batch of records, a part of a snapshot or a promise, already checked against `hash`. `seq` is that of the
 * first record, 0 if there is none. */
static enum status store_record(struct store *s, enum entry_kind kind, const uint8_t hash[32], uint64_t seq,
                                const void *records, size_t length) {
    struct place place;
    lock_take(&s->lock);
    enum status status = store_append(s, kind, hash, records, length, &place);
    if (status == DONE && seq != 0) segment_records(segment_at(s, place.segment), seq, place.offset);
    lock_drop(&s->lock);
    return status;
}

/* Writes what the segments did not sync yet; the caller runs a round. */
static enum status sync_round(struct store *s) {
    struct segment *dirty[SEGMENT_FILES_MAX];
    uint64_t writes[SEGMENT_FILES_MAX];
    bool good = true;
    struct place durable = s->current ? (struct place){s->current->number, (uint32_t)s->current->size} : s->durable;
    for (int i = 0; i < s->inflight_count; i++)
        if (s->inflight[i].segment < durable.segment ||
            (s->inflight[i].segment == durable.segment && s->inflight[i].offset < durable.offset))
            durable = s->inflight[i];
    for (uint32_t number = s->open_from; good;) { /* as many files at once as there may be open */
        int count = 0;
        for (uint32_t i = segment_rank(s, number); i < s->segment_count && count < SEGMENT_FILES_MAX; i++) {
            struct segment *g = s->segments[i];
            number = g->number + 1;
            if (g->closed || g->writes == g->synced || g->fd < 0) continue;
            g->users++;
            writes[count] = g->writes;
            dirty[count++] = g;
        }
        if (count == 0) break;
        lock_drop(&s->lock);
        for (int k = 0; k < count; k++) good = sys_fdatasync(dirty[k]->fd) == 0 && good;
        int error = errno;
        lock_take(&s->lock);
        errno = error;
        for (int k = 0; k < count; k++) {
            dirty[k]->users--;
            if (good && writes[k] > dirty[k]->synced) dirty[k]->synced = writes[k];
        }
    }
    if (!good) return store_fail(s, "syncing the log");
    if (durable.segment > s->durable.segment ||
        (durable.segment == s->durable.segment && durable.offset > s->durable.offset))
        s->durable = durable;
    return DONE;
}

/* Returns when everything that was appended before this call is on disk. Whoever comes while a round runs shares the
 * next one. */
static enum status store_sync(struct store *s) {
    enum status status = DONE;
    lock_take(&s->lock);
    uint64_t mine = s->round_begun + 1; /* the first round that begins after this moment */
    while (s->round_done < mine && !s->failed) {
        if (s->round_running) {
            cond_wait(&s->synced, &s->lock);
            continue;
        }
        s->round_running = true;
        uint64_t round = ++s->round_begun;
        status = sync_round(s);
        s->round_running = false;
        if (status == DONE) s->round_done = round;
        cond_broadcast(&s->synced);
    }
    if (s->failed) status = fail(INTERNAL, "the store of this node failed: %s", s->why);
    lock_drop(&s->lock);
    return status;
}

/* Appends the promise of an epoch to a master. It binds once it is synced; the caller answers after store_sync. */
static enum status store_promise(struct store *s, uint64_t epoch, uint64_t master) {
    char line[80];
    uint8_t hash[32];
    int length = snprintf(line, sizeof line, "PROMISE %" PRIu64 " %016" PRIx64 "\n", epoch, master);
    sha256_digest(line, (size_t)length, hash);
    return store_record(s, ENTRY_PROMISE, hash, 0, line, (size_t)length);
}

/* Whether the disk failed, and why, if `why` is not NULL (256 bytes). */
static bool store_failed(struct store *s, char *why) {
    lock_take(&s->lock);
    bool failed = s->failed;
    if (failed && why) memcpy(why, s->why, sizeof s->why);
    lock_drop(&s->lock);
    return failed;
}

/* ---- Reading ---- */

/* A chunk found: its file stays open until store_release. */
struct found {
    struct segment *segment;
    int fd;
    uint64_t offset;
    uint32_t length;
};

/* NOT_FOUND if the chunk is not here. */
static enum status store_find(struct store *s, const uint8_t hash[32], struct found *found) {
    lock_take(&s->lock);
    struct slot *slot = slot_find(s, hash);
    enum status status = DONE;
    if (!slot) {
        status = fail(NOT_FOUND, "this node does not hold that chunk");
    } else {
        struct segment *g = segment_at(s, slot->at.segment);
        bool open = segment_use(s, g);
        if (!open && errno != EMFILE && errno != ENFILE && errno != ENOMEM) status = store_fail(s, "opening a segment");
        else if (!open) status = fail(INTERNAL, "opening segment %u: %s", g->number, strerror(errno));
        else *found = (struct found){g, g->fd, slot->at.offset, slot->length};
    }
    lock_drop(&s->lock);
    return status;
}

static void store_release(struct store *s, struct found *found) {
    lock_take(&s->lock);
    segment_unuse(s, found->segment);
    lock_drop(&s->lock);
}

/* Whether a slot of the index, or NULL, names this place. */
static bool slot_is_at(const struct slot *slot, struct place at) {
    return slot && slot->at.segment == at.segment && slot->at.offset == at.offset;
}

/* Whether a closed segment's chunk still lives at this place. */
static bool entry_lives(struct store *s, const struct segment *g, const struct entry *entry) {
    lock_take(&s->lock);
    bool lives = slot_is_at(slot_find(s, entry->hash), (struct place){g->number, entry->offset});
    lock_drop(&s->lock);
    return lives;
}

/* Notes that the disk can't read what it was given; errno says why. From now on it is not trusted. */
static enum status store_unreadable(struct store *s, const struct segment *g) {
    char what[64];
    int error = errno;
    snprintf(what, sizeof what, "reading segment %u", g->number);
    lock_take(&s->lock);
    errno = error;
    enum status status = store_fail(s, what);
    lock_drop(&s->lock);
    return status;
}

/* Reads the table of contents of a closed segment that is open. DAMAGED if it is; the segment is not touched then. */
static enum status toc_load(struct store *s, struct segment *g, struct text *lines) {
    struct place durable;
    struct stat about;
    uint64_t at;
    if (fstat(g->fd, &about) != 0) return store_unreadable(s, g);
    if (toc_read(g, (uint64_t)about.st_size, lines, &at, &durable)) return DONE;
    if (errno != 0) return store_unreadable(s, g);
    lock_take(&s->lock);
    if (!g->damaged) log_line("DAMAGED: the table of contents of segment %u; the next start makes it anew", g->number);
    g->damaged = true;
    lock_drop(&s->lock);
    return fail(DAMAGED, "the table of contents of segment %u is damaged: it stays", g->number);
}

/* The entries of records in a segment, from the first on that counts for store_history. The caller frees them. */
static enum status history_entries(struct store *s, struct segment *g, struct entry **list, uint32_t *count) {
    struct text lines = {0};
    struct segment found = {0}; /* only to take entries */
    struct entry entry;
    lock_take(&s->lock);
    bool closed = g->closed;
    uint32_t first_at = g->first_at;
    for (uint32_t i = 0; i < g->entry_count && !closed; i++)
        if (g->entries[i].kind == ENTRY_RECORD && g->entries[i].offset >= first_at)
            segment_note(&found, &g->entries[i]);
    lock_drop(&s->lock);
    enum status status = closed ? toc_load(s, g, &lines) : DONE;
    struct slice rest = {lines.data, lines.length};
    while (status == DONE && closed && toc_entry(&rest, &entry))
        if (entry.kind == ENTRY_RECORD && entry.offset >= first_at) segment_note(&found, &entry);
    text_free(&lines);
    *list = found.entries;
    *count = found.entry_count;
    return status;
}

/* What store_history takes from one segment. */
static enum status history_segment(struct store *s, struct segment *g, uint64_t *seq, struct text *to, size_t most) {
    struct entry *list;
    struct position first, last;
    uint32_t count;
    enum status status = history_entries(s, g, &list, &count);
    for (uint32_t i = 0; i < count && status == DONE && to->length < most; i++) {
        char *payload = malloc((size_t)list[i].length + 1);
        if (!payload) die(INTERNAL, "out of memory");
        struct slice rest = {payload, list[i].length};
        bool good = read_verified(g->fd, payload, list[i].length, list[i].offset, list[i].hash);
        if (!good) status = errno != 0 ? store_unreadable(s, g) : fail(DAMAGED, "a record is damaged");
        if (status == DONE) status = records_skip(&rest, *seq);
        if (status == DONE && rest.length > 0) status = records_span(rest.at, rest.length, &first, &last);
        if (status == DONE && rest.length > 0 && first.seq != *seq + 1) status = fail(DAMAGED, "records are missing");
        if (status == DONE && rest.length > 0) {
            text_bytes(to, rest.at, rest.length);
            *seq = last.seq;
        }
        free(payload);
    }
    free(list);
    return status;
}

/* Tells records from the log: those behind `seq`, one after another, until there are at least `most` bytes of them.
 * NOT_FOUND if the next one is not there: there is none, or it was before the last snapshot. */
static enum status store_history(struct store *s, uint64_t seq, struct text *to, size_t most) {
    enum status status = DONE;
    uint64_t before = UINT64_MAX;
    while (status == DONE && to->length < most && seq != before) {
        before = seq;
        lock_take(&s->lock);
        struct segment *g = NULL;
        for (uint32_t i = s->segment_count; i > 0 && !g; i--)
            if (s->segments[i - 1]->first_seq != 0 && s->segments[i - 1]->first_seq <= seq + 1) g = s->segments[i - 1];
        bool used = g && segment_use(s, g);
        lock_drop(&s->lock);
        if (!used) break;
        status = history_segment(s, g, &seq, to, most);
        lock_take(&s->lock);
        segment_unuse(s, g);
        lock_drop(&s->lock);
    }
    if (status == DONE && to->length == 0)
        return fail(NOT_FOUND, "the log does not tell the records behind %" PRIu64, seq);
    return status;
}

/* From now on store_history tells only what comes behind this: the tree is a snapshot from elsewhere. */
static void store_history_reset(struct store *s) {
    lock_take(&s->lock);
    for (uint32_t i = 0; i < s->segment_count; i++) s->segments[i]->first_seq = 0;
    lock_drop(&s->lock);
}

/* Notes that a chunk was found damaged here. */
static void aside_note(struct store *s, const uint8_t hash[32]) {
    for (uint32_t i = 0; i < s->aside_count; i++)
        if (memcmp(s->asides[i], hash, 32) == 0) return;
    if ((s->aside_count & (s->aside_count - 1)) == 0)
        s->asides = mem_resize(s->asides, (s->aside_count ? 2 * (size_t)s->aside_count : 1) * sizeof *s->asides);
    memcpy(s->asides[s->aside_count++], hash, 32);
}

/* Lists, as rows of REPORT, the chunks that were found damaged here and did not come back. */
static void store_asides(struct store *s, struct text *to) {
    lock_take(&s->lock);
    for (uint32_t i = 0; i < s->aside_count; i++) {
        if (slot_find(s, s->asides[i])) continue;
        text_add(to, "lost ");
        text_hex(to, s->asides[i], 32);
        text_add(to, " 0\n");
    }
    lock_drop(&s->lock);
}

/* Takes a chunk that was found damaged at a place out of service, for good: noted in the log, so that a restart does
 * not bring it back. NOT_FOUND if it is not there any more: what was read there says nothing of where it is now. */
static enum status store_set_aside(struct store *s, const uint8_t hash[32], struct place at) {
    struct text line = {0};
    uint8_t digest[32];
    struct place place;
    enum status status = DONE;
    lock_take(&s->lock);
    struct slot *slot = slot_find(s, hash);
    if (!slot_is_at(slot, at)) {
        status = NOT_FOUND;
    } else {
        text_add(&line, "ASIDE ");
        text_hex(&line, hash, 32);
        text_format(&line, " %u.%u\n", at.segment, at.offset);
        sha256_digest(line.data, line.length, digest);
        segment_bury(segment_at(s, at.segment), at.offset);
        index_remove(s, slot);
        aside_note(s, hash);
        s->damaged++;
        status = store_append(s, ENTRY_ASIDE, digest, line.data, line.length, &place);
    }
    lock_drop(&s->lock);
    text_free(&line);
    return status;
}

/* Takes a dropped chunk off the list of an open segment, whose entries are in the order of their offsets. */
static void segment_forget(struct segment *g, uint32_t offset) {
    uint32_t low = 0, high = g->entry_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (g->entries[middle].offset < offset) low = middle + 1;
        else high = middle;
    }
    if (low < g->entry_count && g->entries[low].offset == offset) g->entries[low].good = false;
}

/* Takes a chunk out of the index if nobody stored it within the last `grace_ms`. If its bytes can be given back without
 * rewriting its segment, because it is large and that is closed, that is noted for store_punch, and in `lines` for the
 * log. False if it is kept. */
static bool drop_one(struct store *s, const uint8_t hash[32], int64_t grace_ms, struct text *lines) {
    struct slot *slot = slot_find(s, hash);
    if (!slot) return true;
    if ((int64_t)(uint32_t)(touch_now() - slot->touched) * 64 < grace_ms) return false;
    struct segment *g = segment_at(s, slot->at.segment);
    if (!g->full) segment_forget(g, slot->at.offset); /* it is not closed yet, and will not list it */
    if (slot->length >= HOLE_MIN_BYTES && g->closed && !g->damaged) {
        if (s->hole_count == s->hole_capacity) {
            s->hole_capacity = s->hole_capacity ? 2 * s->hole_capacity : 64;
            s->holes = mem_resize(s->holes, s->hole_capacity * sizeof *s->holes);
        }
        s->holes[s->hole_count++] = (struct hole){slot->at, slot->length};
        segment_bury(g, slot->at.offset);
        text_add(lines, "DROP ");
        text_hex(lines, hash, 32);
        text_format(lines, " %u.%u\n", slot->at.segment, slot->at.offset);
    }
    index_remove(s, slot);
    return true;
}

/* Gives the bytes of chunks that were dropped back to the file system, some of them: that they are gone is in the log,
 * and synced first. A file system that can't do that keeps them until the segment is rewritten. False when none are
 * left. */
static bool store_punch(struct store *s) {
    enum { AT_ONCE = 64 };
    struct hole hole[AT_ONCE];
    int count = 0;
    lock_take(&s->lock);
    while (count < AT_ONCE && s->hole_count > 0) hole[count++] = s->holes[--s->hole_count];
    lock_drop(&s->lock);
    if (count == 0 || store_sync(s) != DONE) return false;
    for (int i = 0; i < count; i++) {
        lock_take(&s->lock);
        struct segment *g = segment_at(s, hole[i].at.segment);
        bool open = g && segment_use(s, g);
        lock_drop(&s->lock);
        if (!open) continue;
        sys_punch(g->fd, hole[i].at.offset, hole[i].length);
        lock_take(&s->lock);
        segment_measure(g);
        segment_unuse(s, g);
        lock_drop(&s->lock);
    }
    return true;
}

/* Drops chunks, at most DROP_BATCH, for good; store_punch gives their bytes back later. Those stored within the last
 * `grace_ms` are kept, and `kept` tells which. */
static enum status store_drop(struct store *s, const uint8_t (*hash)[32], int count, int64_t grace_ms, bool *kept) {
    struct text lines = {0};
    uint8_t digest[32];
    struct place place;
    enum status status = DONE;
    lock_take(&s->lock);
    size_t holes = s->hole_count;
    for (int i = 0; i < count; i++) kept[i] = !drop_one(s, hash[i], grace_ms, &lines);
    if (lines.length > 0) {
        sha256_digest(lines.data, lines.length, digest);
        status = store_append(s, ENTRY_DROP, digest, lines.data, lines.length, &place);
        if (status != DONE) s->hole_count = holes; /* their bytes stay: after a restart the chunks are here again */
    }
    lock_drop(&s->lock);
    text_free(&lines);
    return status;
}

/* Reads a chunk again, past the page cache as far as the system allows, and compares it with its hash. DAMAGED if it
 * is not what it was, and then it is set aside; NOT_FOUND if it is not here. */
static enum status store_verify(struct store *s, const uint8_t hash[32]) {
    struct found found;
    enum status status = store_find(s, hash, &found);
    if (status != DONE) return status;
    uint8_t *buffer = buffer_take(0);
    if (!buffer) {
        store_release(s, &found);
        return NO_SPACE;
    }
    posix_fadvise(found.fd, (off_t)found.offset, found.length, POSIX_FADV_DONTNEED);
    bool good = read_verified(found.fd, buffer, found.length, found.offset, hash);
    uint32_t segment = found.segment->number;
    if (!good && errno != 0) status = store_unreadable(s, found.segment);
    buffer_give(buffer);
    store_release(s, &found);
    if (good || status != DONE) return status;
    status = store_set_aside(s, hash, (struct place){segment, (uint32_t)found.offset});
    if (status == NOT_FOUND) return fail(NOT_FOUND, "the chunk was dropped or moved meanwhile");
    char hex[65] = "";
    hex_write(hex, hash, 32);
    log_line("DAMAGED chunk %.64s in segment %u at offset %" PRIu64 ": set aside, to be fetched from another node", hex,
             segment, found.offset);
    return status == DONE ? fail(DAMAGED, "the chunk was damaged and is set aside") : status;
}

/* ---- Giving space back ---- */

/* Copies one chunk to the end of the log. It is read outside the lock; if it was dropped or moved since, nothing is
 * done, or a copy is left that nobody knows. DAMAGED if it is: it is set aside, and its segment stays. */
static enum status chunk_move(struct store *s, struct segment *g, const struct entry *entry, uint8_t *buffer) {
    struct place from = {g->number, entry->offset}, to;
    enum status aside = NOT_FOUND;
    if (!read_verified(g->fd, buffer, entry->length, entry->offset, entry->hash)) {
        if (errno != 0) return store_unreadable(s, g);
        aside = store_set_aside(s, entry->hash, from);
        if (aside == DONE && s->lost) s->lost(entry->hash);
    }
    lock_take(&s->lock);
    enum status status = DONE;
    const struct slot *slot = slot_find(s, entry->hash);
    if (aside != NOT_FOUND) { /* NOT_FOUND: it was dropped, and what was read is a hole */
        g->damaged = true;
        status = fail(DAMAGED, "a chunk in segment %u is damaged: the segment stays", g->number);
    } else if (slot_is_at(slot, from)) {
        status = store_append(s, ENTRY_CHUNK, entry->hash, buffer, entry->length, &to);
        slot = slot_find(s, entry->hash); /* the lock may have been dropped for a while */
        uint32_t touched = slot ? slot->touched : 0;
        if (status == DONE && slot_is_at(slot, from)) {
            index_add(s, entry->hash, to, entry->length);
            slot_find(s, entry->hash)->touched = touched;
        }
    }
    lock_drop(&s->lock);
    return status;
}

/* Removes a segment in which nothing lives any more. That it is gone is on disk before it is. */
static enum status segment_remove(struct store *s, struct segment *g) {
    char line[32], path[PATH_MAX];
    uint8_t hash[32];
    struct place place;
    int length = snprintf(line, sizeof line, "GONE %u %u\n", g->number, g->number);
    sha256_digest(line, (size_t)length, hash);
    enum status status = store_append(s, ENTRY_DROP, hash, line, (size_t)length, &place);
    g->gone = status == DONE;
    lock_drop(&s->lock);
    if (status == DONE) status = store_sync(s);
    lock_take(&s->lock);
    if (status != DONE) return status;
    while (g->users > 0) { /* somebody still reads what was there when he came */
        lock_drop(&s->lock);
        sleep_ms(10);
        lock_take(&s->lock);
    }
    segment_path(s, g->number, path, sizeof path);
    int fd = g->fd; /* to close it frees the bytes of a large file, which takes a while */
    s->files_open -= fd >= 0;
    g->fd = -1;
    segment_free(s, g); /* nobody finds it any more */
    lock_drop(&s->lock);
    bool good = unlink(path) == 0;
    if (!good) log_line("removing %s: %s; the next start will try again", path, strerror(errno));
    if (fd >= 0) close(fd);
    *strrchr(path, '/') = 0;
    lock_take(&s->lock);
    segment_prune(path); /* under the lock: segment_begin may want the same folder */
    return DONE;
}

/* Moves what lives in a closed segment to the end of the log. `rate`: bytes in a second, 0 for no limit. */
static enum status segment_empty(struct store *s, struct segment *g, uint64_t rate) {
    struct text lines = {0};
    struct entry entry;
    uint64_t owed = 0;
    uint8_t *buffer = buffer_take(0);
    enum status status = buffer ? toc_load(s, g, &lines) : NO_SPACE;
    struct slice rest = {lines.data, lines.length};
    while (status == DONE && toc_entry(&rest, &entry)) {
        if (entry.kind != ENTRY_CHUNK || !entry_lives(s, g, &entry)) continue;
        status = chunk_move(s, g, &entry, buffer);
        owed += entry.length + ENTRY_OVERHEAD;
        if (rate == 0 || owed < rate / 100) continue;
        sleep_ms((int64_t)(owed * 1000 / rate));
        owed = 0;
    }
    text_free(&lines);
    if (buffer) buffer_give(buffer);
    return status == DONE ? store_sync(s) : status;
}

/* Gives back a closed segment: moves what lives in it, and removes it. */
static enum status store_rewrite(struct store *s, uint32_t number, uint64_t rate) {
    lock_take(&s->lock);
    struct segment *g = segment_at(s, number);
    uint64_t before = g->taken;
    bool used = segment_use(s, g);
    enum status status = used ? DONE : fail(INTERNAL, "opening segment %u: %s", number, strerror(errno));
    lock_drop(&s->lock);
    if (status == DONE) status = segment_empty(s, g, rate);
    lock_take(&s->lock);
    if (used) segment_unuse(s, g);
    if (status == DONE && g->live > 0) { /* its table of contents lacks something: it stays as it is */
        g->damaged = true;
        status = fail(DAMAGED, "the table of contents of segment %u is not complete: it stays", number);
    }
    if (status == DONE) status = segment_remove(s, g);
    lock_drop(&s->lock);
    if (status == DONE) log_line("gave back segment %u: %" PRIu64 " KiB", number, before / 1024);
    return status;
}

/* The segment whose rewriting gives back most of what it takes, if that is at least half (an eighth when space is
 * short). Only those before the checkpoint: the metadata in them is dead; and, as long as space is not short, only
 * those whose records begin up to `seq`: store_history tells the later ones. False if there is none. */
static bool store_victim(struct store *s, uint64_t seq, uint32_t *number) {
    uint64_t best = 0;
    bool is_short = store_is_short(s);
    lock_take(&s->lock);
    uint32_t end = segment_rank(s, s->checkpoint.segment);
    for (uint32_t i = 0; i < end && !s->failed; i++) {
        const struct segment *g = s->segments[i];
        if (!g->closed || g->damaged || g->taken == 0)
            continue; /* what is damaged stays, for whoever can read it */
        if (g->first_seq > seq && !is_short) continue;
        uint64_t share = segment_dead_bytes(g) * 1000 / g->taken;
        if (share < (is_short ? 125 : 500) || share <= best) continue;
        best = share;
        *number = g->number;
    }
    lock_drop(&s->lock);
    return best > 0;
}

/* Whether a checkpoint is worth its while: enough is dead, or would be, in the segments behind the last one. */
static bool store_wants_checkpoint(struct store *s) {
    uint64_t dead = 0, enough = CHECKPOINT_MIN_BYTES;
    lock_take(&s->lock);
    if (store_is_short(s)) enough = MIB;
    if (enough > 2 * s->segment_max) enough = 2 * s->segment_max; /* two files are something where files are small */
    if (enough < 2 * s->checkpoint_bytes) enough = 2 * s->checkpoint_bytes;
    for (uint32_t i = segment_rank(s, s->checkpoint.segment); i < s->segment_count; i++) {
        const struct segment *g = s->segments[i];
        if (g->closed && !g->damaged) dead += segment_dead_bytes(g);
    }
    bool wanted = (dead > enough || s->metadata_scrubbed) && s->formatted && !s->failed;
    lock_drop(&s->lock);
    return wanted;
}

/* What the notes of a checkpoint say of one segment that is there: the places where no chunk is any more, when it was
 * checked. */
static void segment_notes(const struct segment *g, struct text *t) {
    for (uint32_t k = 0; k < g->dead_count; k++) {
        text_format(t, "%s%u.%u", k % PLACES_PER_LINE == 0 ? "DEAD " : " ", g->number, g->dead[k]);
        if (k % PLACES_PER_LINE == PLACES_PER_LINE - 1 || k == g->dead_count - 1) text_byte(t, '\n');
    }
    text_format(t, "CHECKED %u %" PRId64 "\n", g->number, g->checked_ms);
}

/* Appends notes, if there are any. */
static enum status notes_append(struct store *s, struct text *lines) {
    uint8_t hash[32];
    struct place place;
    if (lines->length == 0) return DONE;
    sha256_digest(lines->data, lines->length, hash);
    enum status status = store_append(s, ENTRY_DROP, hash, lines->data, lines->length, &place);
    text_clear(lines);
    return status;
}

/* Begins a checkpoint: says what was promised. The parts of a snapshot of the same moment must follow, and store_notes
 * before the last of them. Returns the place of its payload; it counts when store_checkpointed is called after a sync
 * of the last part. */
static enum status store_keep(struct store *s, struct place *place) {
    char line[80];
    uint8_t hash[32];
    int length = snprintf(line, sizeof line, "PROMISE %" PRIu64 " %016" PRIx64 "\n", s->promised, s->promised_to);
    sha256_digest(line, (size_t)length, hash);
    lock_take(&s->lock);
    enum status status = store_append(s, ENTRY_KEEP, hash, line, (size_t)length, place);
    lock_drop(&s->lock);
    return status;
}

/* The other part of what still counts of the entries before a checkpoint: which segments are gone, and of the others
 * segment_notes; which chunks were set aside and did not come back. In entries of some 64 KiB, so that nobody waits
 * long for the lock. */
static enum status store_notes(struct store *s) {
    struct text lines = {0};
    enum status status = DONE;
    lock_take(&s->lock);
    for (uint32_t number = 0, i; number < s->next_number && status == DONE; number++) {
        i = segment_rank(s, number); /* looked for anew: the lock was dropped */
        while (i < s->segment_count && s->segments[i]->gone) i++;
        uint32_t there = i < s->segment_count ? s->segments[i]->number : s->next_number;
        if (there > number) text_format(&lines, "GONE %u %u\n", number, there - 1);
        if (i < s->segment_count) segment_notes(s->segments[i], &lines);
        number = there;
        if (lines.length < CHECKPOINT_PART_BYTES) continue;
        status = notes_append(s, &lines);
        lock_drop(&s->lock);
        lock_take(&s->lock);
    }
    for (uint32_t i = 0; i < s->aside_count && status == DONE; i++) {
        if (slot_find(s, s->asides[i])) continue;
        text_add(&lines, "LOST ");
        text_hex(&lines, s->asides[i], 32);
        text_byte(&lines, '\n');
        if (lines.length > CHECKPOINT_PART_BYTES) status = notes_append(s, &lines);
    }
    if (status == DONE) status = notes_append(s, &lines);
    lock_drop(&s->lock);
    text_free(&lines);
    return status;
}

static void store_checkpointed(struct store *s, struct place place, uint64_t bytes) {
    lock_take(&s->lock);
    s->checkpoint = place;
    s->checkpoint_bytes = bytes;
    s->metadata_scrubbed = false;
    lock_drop(&s->lock);
}

/* ---- Scrubbing ---- */

/* Reads an entry of metadata again. DAMAGED if it is not what it was. */
static enum status scrub_metadata(struct store *s, struct segment *g, const struct entry *entry) {
    char *payload = malloc((size_t)entry->length + 1);
    if (!payload) die(INTERNAL, "out of memory");
    posix_fadvise(g->fd, (off_t)entry->offset, entry->length, POSIX_FADV_DONTNEED);
    bool good = read_verified(g->fd, payload, entry->length, entry->offset, entry->hash);
    enum status status = good ? DONE : errno != 0 ? store_unreadable(s, g) : DAMAGED;
    free(payload);
    if (status == DAMAGED)
        log_line("DAMAGED: an entry of metadata in segment %u at offset %u; a checkpoint replaces it", g->number,
                 entry->offset);
    return status;
}

/* Reads a segment again, past the page cache: each chunk that lives in it, which store_verify sets aside if it is
 * damaged, and each entry of metadata that counts: DAMAGED if one of those is. `rate`: bytes in a second, 0 for no
 * limit. Adds what it read to *bytes. */
static enum status scrub_entries(struct store *s, struct segment *g, struct slice rest, uint64_t rate,
                                 atomic_ullong *bytes) {
    struct entry entry;
    uint64_t owed = 0;
    bool damaged = false;
    while (toc_entry(&rest, &entry)) {
        lock_take(&s->lock);
        bool counts = !place_before((struct place){g->number, entry.offset}, s->checkpoint);
        lock_drop(&s->lock);
        bool chunk = entry.kind == ENTRY_CHUNK;
        if (chunk ? !entry_lives(s, g, &entry) : !counts) continue;
        enum status status = chunk ? store_verify(s, entry.hash) : scrub_metadata(s, g, &entry);
        if (status == INTERNAL) return status;
        if (status == DAMAGED && chunk && s->lost) s->lost(entry.hash);
        damaged |= status == DAMAGED && !chunk;
        atomic_fetch_add(bytes, entry.length);
        owed += entry.length;
        if (rate == 0 || owed < rate / 100) continue; /* small ones are paid for together */
        sleep_ms((int64_t)(owed * 1000 / rate));
        owed = 0;
    }
    return damaged ? DAMAGED : DONE;
}

/* The closed segment that was checked longest ago, if before `before_ms`. False if there is none. */
static bool scrub_next(struct store *s, int64_t before_ms, uint32_t *number) {
    int64_t oldest_ms = before_ms;
    lock_take(&s->lock);
    for (uint32_t i = 0; i < s->segment_count && !s->failed; i++) {
        const struct segment *g = s->segments[i];
        if (!g->closed || g->checked_ms >= oldest_ms) continue;
        oldest_ms = g->checked_ms;
        *number = g->number;
    }
    lock_drop(&s->lock);
    return oldest_ms < before_ms;
}

/* Scrubs one segment and notes when; not before `since_ms`, whatever the clock says. */
static enum status store_scrub(struct store *s, uint32_t number, int64_t since_ms, uint64_t rate,
                               atomic_ullong *bytes) {
    struct text lines = {0}, note = {0};
    int64_t begun_ms = clock_wall_ns() / 1000000;
    if (begun_ms < since_ms) begun_ms = since_ms;
    lock_take(&s->lock);
    struct segment *g = segment_at(s, number);
    bool open = g && segment_use(s, g);
    lock_drop(&s->lock);
    if (!open) return fail(INTERNAL, "opening segment %u: %s", number, strerror(errno));
    enum status listed = toc_load(s, g, &lines), status = listed;
    if (listed == DONE) status = scrub_entries(s, g, (struct slice){lines.data, lines.length}, rate, bytes);
    lock_take(&s->lock);
    g->checked_ms = begun_ms;
    segment_unuse(s, g);
    if (listed == DONE && status == DAMAGED) s->metadata_scrubbed = true; /* store_wants_checkpoint sees to it */
    text_format(&note, "CHECKED %u %" PRId64 "\n", number, begun_ms);
    if (status != INTERNAL) status = notes_append(s, &note);
    lock_drop(&s->lock);
    text_free(&lines);
    text_free(&note);
    return status;
}

/* When a chunk was read and found right last, or written, in ms since 1970; 0 if it is not here. */
static int64_t store_checked(struct store *s, const uint8_t hash[32]) {
    lock_take(&s->lock);
    const struct slot *slot = slot_find(s, hash);
    int64_t when_ms = slot ? segment_at(s, slot->at.segment)->checked_ms : 0;
    lock_drop(&s->lock);
    return when_ms;
}

/* How far a list of all chunks is: the part of the index, a slot in it, and how large it was. */
struct cursor {
    int part;
    uint64_t slot, size;
};

/* Lists all chunks, about `most` bytes at a time; the cursor begins as zeros. It goes by the slots in which chunks
 * would like to be, which stay the same when one is removed; a part that has grown meanwhile is listed from its
 * beginning. Chunks added meanwhile may or may not be among them. False at the end. */
static bool store_list(struct store *s, struct cursor *at, struct text *to, size_t most) {
    lock_take(&s->lock);
    for (; at->part < INDEX_PARTS && to->length < most; at->part++, at->slot = 0) {
        const struct part *part = &s->parts[at->part];
        if (at->size != part->size) at->slot = 0;
        at->size = part->size;
        for (; at->slot < part->size && to->length < most; at->slot++)
            for (uint64_t i = at->slot; part->slots[i].length != 0; i = (i + 1) & (part->size - 1)) {
                const struct slot *slot = &part->slots[i];
                if (slot_home(part, slot->hash) != at->slot) continue;
                text_hex(to, slot->hash, 32);
                text_byte(to, ' ');
                text_u64(to, slot->length);
                text_byte(to, '\n');
            }
        if (at->slot < part->size) break;
    }
    bool more = at->part < INDEX_PARTS;
    lock_drop(&s->lock);
    return more;
}

/* Damages a chunk where it lies, on purpose. */
static enum status store_corrupt(struct store *s, const uint8_t hash[32]) {
    struct found found;
    char byte;
    enum status status = store_find(s, hash, &found);
    if (status != DONE) return status;
    bool good = sys_pread(found.fd, &byte, 1, found.offset);
    byte = (char)(byte ^ 1);
    good = good && sys_pwritev(found.fd, &(struct iovec){&byte, 1}, 1, found.offset);
    store_release(s, &found);
    return good ? DONE : fail(INTERNAL, "changing the chunk: %s", strerror(errno));
}

/* ---- Opening and recovery ---- */

/* Reads DIR/node.json, if it is there. */
static void store_identify(struct store *s) {
    char path[PATH_MAX];
    struct text file = {0};
    struct json_token tokens[64];
    uint32_t used;
    uint64_t format;
    size_t offset, length;
    char id[17];
    snprintf(path, sizeof path, "%s/node.json", s->folder);
    enum status status = file_read(path, 64 * KIB, &file);
    if (status == NOT_FOUND) {
        snprintf(path, sizeof path, "%s/log", s->folder);
        if (access(path, F_OK) == 0)
            die(DAMAGED, "%s has a log but no node.json, which says whose it is; put it back, or start with an empty "
                "directory", s->folder);
        return;
    }
    if (status != DONE) die(INTERNAL, "%s", detail);
    enum json_error error = json_parse(file.data ? file.data : "", file.length, tokens, 64, &used, &offset);
    if (error != JSON_OK || tokens[0].type != JSON_OBJECT)
        die(DAMAGED, "%s is damaged (%s at byte %zu); put back a copy of it, or start with an empty directory", path,
            json_error_text(error), offset);
    const struct json_token *m = json_member(file.data, tokens, tokens, "format");
    if (!m || !json_get_unsigned(file.data, m, &format)) die(DAMAGED, "%s is damaged: no format", path);
    if (format > FORMAT_VERSION)
        die(BAD_REQUEST, "%s has format %" PRIu64 ", this program knows up to %d; use a newer dfs", path, format,
            FORMAT_VERSION);
    bool good = (m = json_member(file.data, tokens, tokens, "cluster")) &&
                json_get_string(file.data, m, s->cluster, sizeof s->cluster, &length) && length == 32;
    good = good && (m = json_member(file.data, tokens, tokens, "node")) &&
           json_get_string(file.data, m, id, sizeof id, &length) && parse_id(slice_of(id), &s->id);
    good = good && (m = json_member(file.data, tokens, tokens, "name")) &&
           json_get_string(file.data, m, s->name, sizeof s->name, &length);
    if (!good) die(DAMAGED, "%s is damaged: it lacks cluster, node or name", path);
    if ((m = json_member(file.data, tokens, tokens, "born"))) json_get_unsigned(file.data, m, &s->born_s);
    s->formatted = true;
    text_free(&file);
}

static void store_init(struct store *s, const char *folder) {
    *s = (struct store){.lock_fd = -1};
    lock_init(&s->lock, RANK_STORE);
    cond_init(&s->synced);
    cond_init(&s->rolled);
    if (strlen(folder) >= sizeof s->folder) die(USAGE_ERROR, "the path of the directory is too long");
    snprintf(s->folder, sizeof s->folder, "%s", folder);
}

/* Opens a directory to look at it, and nothing else. It need not be writable. */
static void store_open_check(struct store *s, const char *folder) {
    char path[PATH_MAX];
    store_init(s, folder);
    s->check = true;
    snprintf(path, sizeof path, "%s/lock", folder);
    s->lock_fd = sys_open(path, O_RDONLY, 0);
    if (s->lock_fd < 0 && errno != ENOENT) die(INTERNAL, "opening %s: %s", path, strerror(errno));
    if (s->lock_fd >= 0 && flock(s->lock_fd, LOCK_EX | LOCK_NB) != 0)
        die(EXISTS, "a node serves %s; stop it first, or ask it with dfs --scrub", folder);
    store_identify(s);
    if (!s->formatted) die(NOT_FOUND, "%s is no node's directory: it has no node.json", folder);
}

/* Opens a directory, made if it is not there, and locks it. Dies with what to do if it can't. */
static void store_open(struct store *s, const char *folder, uint64_t segment_max) {
    char path[PATH_MAX];
    store_init(s, folder);
    s->segment_max = segment_max;
    if (mkdir(folder, 0700) != 0 && errno != EEXIST) die(INTERNAL, "making %s: %s", folder, strerror(errno));
    snprintf(path, sizeof path, "%s/lock", folder);
    s->lock_fd = sys_open(path, O_RDWR | O_CREAT, 0600);
    if (s->lock_fd < 0) die(INTERNAL, "opening %s: %s", path, strerror(errno));
    if (flock(s->lock_fd, LOCK_EX | LOCK_NB) != 0)
        die(EXISTS, "another process serves %s; a directory has one node at a time", folder);
    store_identify(s);
    store_space(s);
    uint64_t most = atomic_load(&s->total_bytes) / 32; /* on a small disk small ones, so that space comes back sooner */
    if (segment_max == 0) s->segment_max = most < MIB ? MIB : most < SEGMENT_MAX_BYTES ? most : SEGMENT_MAX_BYTES;
    struct rlimit file;
    if (getrlimit(RLIMIT_FSIZE, &file) != 0 || file.rlim_cur == RLIM_INFINITY) return;
    if (file.rlim_cur < 4 * CHUNK_MAX_BYTES)
        die(USAGE_ERROR, "files of this process may have %" PRIu64 " bytes, and a node's must be able to have %" PRIu64
            "; raise the limit (ulimit -f)", (uint64_t)file.rlim_cur, 4 * CHUNK_MAX_BYTES);
    if (s->segment_max > file.rlim_cur / 2) s->segment_max = file.rlim_cur / 2; /* a table of contents comes behind */
}

/* Makes a blank directory a node of a cluster, for good. */
static enum status store_format(struct store *s, const char *cluster, uint64_t id, const char *name, uint64_t born_s) {
    struct json_writer w;
    char text_of_id[17];
    snprintf(text_of_id, sizeof text_of_id, "%016" PRIx64, id);
    json_start(&w);
    w.json_pretty = true;
    json_object(&w);
    json_key_unsigned(&w, "format", FORMAT_VERSION);
    json_key_string(&w, "cluster", cluster);
    json_key_string(&w, "node", text_of_id);
    json_key_string(&w, "name", name);
    json_key_unsigned(&w, "born", born_s);
    json_object_end(&w);
    if (!json_done(&w)) die(INTERNAL, "out of memory");
    enum status status = file_write(s->folder, "node.json", w.data, w.length, 0600);
    json_free(&w);
    return status;
}

/* Takes on the identity that store_format wrote. */
static void store_adopt(struct store *s, const char *cluster, uint64_t id, const char *name, uint64_t born_s) {
    lock_take(&s->lock);
    snprintf(s->cluster, sizeof s->cluster, "%s", cluster);
    snprintf(s->name, sizeof s->name, "%s", name);
    s->id = id;
    s->born_s = born_s;
    s->formatted = true;
    lock_drop(&s->lock);
}

/* Numbers of segments. */
struct range {
    uint32_t first, last;
};

/* What recovery knows while it goes through the log. */
struct recovery {
    struct store *s;
    struct tree *tree;      /* what the records make */
    struct tree loading;    /* a snapshot whose last part was not seen yet */
    bool loading_used, loaded; /* loaded: the snapshot that counts is the tree now */
    uint32_t loading_next;  /* number of its next part */
    struct place durable;   /* the furthest mark in any header: damage before it is damage, after it a torn tail */
    bool scan_only;         /* first pass: find the furthest mark, the last whole snapshot, and what is gone */
    struct range *gone; /* numbers of segments that were removed; sorted after the first pass, none touches another */
    size_t gone_count, gone_capacity;
    struct place keep, part;   /* first pass: the last entry that may begin a checkpoint, and part 0 behind it */
    uint32_t part_next;        /* number of the part that must come next; 0: none has begun */
    bool keep_good;            /* it is whole */
    bool forgot;               /* the last whole snapshot has no such entry: what was promised is not known */
    struct place begin, first; /* where the last whole snapshot begins: its keep entry, if it has one; its part 0 */
    uint64_t begin_bytes, part_bytes;
    struct text after;      /* records between the parts of that snapshot, to be applied behind it */
    bool lost;              /* something before the mark is gone that may have been a record */
    uint64_t torn, bad_chunks;
};

static void recovery_drop_snapshot(struct recovery *r) {
    if (r->loading_used) tree_free(&r->loading);
    r->loading_used = false;
}

/* Notes that segments were removed. */
static void recovery_gone(struct recovery *r, uint32_t first, uint32_t last) {
    if (last < first) return;
    if (r->gone_count == r->gone_capacity) {
        r->gone_capacity = r->gone_capacity ? 2 * r->gone_capacity : 64;
        r->gone = mem_resize(r->gone, r->gone_capacity * sizeof *r->gone);
    }
    r->gone[r->gone_count++] = (struct range){first, last};
    if (last >= r->s->next_number) r->s->next_number = last + 1;
}

static int range_compare(const void *a, const void *b) {
    const struct range *left = a, *right = b;
    return left->first < right->first ? -1 : left->first > right->first;
}

/* Sorts what is gone and makes one of ranges that touch. */
static void recovery_gone_sort(struct recovery *r) {
    size_t used = 0;
    if (r->gone_count > 0) qsort(r->gone, r->gone_count, sizeof *r->gone, range_compare);
    for (size_t i = 0; i < r->gone_count; i++) {
        struct range *before = used > 0 ? &r->gone[used - 1] : NULL;
        if (!before || r->gone[i].first > before->last + 1) r->gone[used++] = r->gone[i];
        else if (r->gone[i].last > before->last) before->last = r->gone[i].last;
    }
    r->gone_count = used;
}

/* The first number from this one on that was not removed. */
static uint32_t recovery_kept(const struct recovery *r, uint32_t number) {
    size_t low = 0, high = r->gone_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (r->gone[middle].last < number) low = middle + 1;
        else high = middle;
    }
    return low < r->gone_count && r->gone[low].first <= number ? r->gone[low].last + 1 : number;
}

/* The lines of aside, drop and keep entries: DEAD PLACE ... and ASIDE or DROP SHA256 PLACE: no chunk is there any more;
 * GONE FIRST LAST: segments; CHECKED NUMBER TIME: when one was found right; LOST SHA256: a chunk was set aside. A
 * promise is taken in the second pass. */
static enum status recovery_notes(struct recovery *r, const char *payload, size_t length) {
    struct slice rest = {payload, length}, line, word;
    struct place place;
    uint32_t first, last;
    while (slice_line(&rest, &line)) {
        bool good = slice_part(&line, ' ', &word);
        if (good && slice_is(word, "GONE")) {
            good = slice_part(&line, ' ', &word) && parse_u32(word, SEGMENTS_MAX - 1, &first) &&
                   parse_u32(line, SEGMENTS_MAX - 1, &last);
            if (good) recovery_gone(r, first, last);
        } else if (good && slice_is(word, "CHECKED")) {
            int64_t when_ms;
            good = slice_part(&line, ' ', &word) && parse_u32(word, SEGMENTS_MAX, &first) && parse_i64(line, &when_ms);
            struct segment *g = good ? segment_at(r->s, first) : NULL;
            if (g) g->checked_ms = when_ms;
        } else if (good && slice_is(word, "LOST")) {
            uint8_t hash[32];
            good = parse_hex(line, hash, 32);
            if (good) aside_note(r->s, hash);
        } else if (good && !slice_is(word, "PROMISE")) {
            bool aside = slice_is(word, "ASIDE"), dead = slice_is(word, "DEAD");
            uint8_t hash[32];
            if (!dead) good = slice_part(&line, ' ', &word) && parse_hex(word, hash, 32);
            if (good && aside) aside_note(r->s, hash);
            while (good && slice_part(&line, ' ', &word)) {
                good = parse_place(word, &place);
                struct segment *g = good ? segment_at(r->s, place.segment) : NULL;
                if (g && !segment_buried(g, place.offset)) segment_bury(g, place.offset);
            }
        }
        if (!good) return fail(DAMAGED, "a note about chunks that is none");
    }
    return DONE;
}

/* First pass: follows the parts of snapshots. */
static void recovery_part(struct recovery *r, struct place at, const char *payload, size_t length) {
    struct slice rest = {payload, length}, line;
    struct words w;
    uint32_t number = 1, last = 0;
    bool good = slice_line(&rest, &line) && words_split(line, &w) && w.count == 3 &&
                parse_u32(w.word[1], UINT32_MAX, &number) && parse_u32(w.word[2], 1, &last);
    if (good && number == 0) {
        r->part = at;
        r->part_next = 0;
        r->part_bytes = 0;
    } else if (!good || r->part_next == 0) {
        number = UINT32_MAX;
    }
    if (number != r->part_next) { /* its beginning is missing, or one between */
        r->part_next = 0;
        r->keep = (struct place){0, 0};
        return;
    }
    r->part_next++;
    r->part_bytes += length;
    if (!last) return;
    r->first = r->part;
    r->begin = r->keep.offset != 0 ? r->keep : r->part;
    r->forgot = r->keep.offset == 0 || !r->keep_good;
    r->begin_bytes = r->part_bytes;
    r->part_next = 0;
    r->keep = (struct place){0, 0};
}

/* First pass: what an entry of metadata says of others. One that is not whole says nothing. */
static void recovery_look(struct recovery *r, struct segment *g, const struct entry *entry) {
    struct place at = {g->number, entry->offset};
    if (entry->kind != ENTRY_SNAPSHOT && entry->kind != ENTRY_ASIDE && entry->kind != ENTRY_DROP &&
        entry->kind != ENTRY_KEEP)
        return;
    char *payload = malloc((size_t)entry->length + 1);
    if (!payload) die(INTERNAL, "out of memory");
    bool good = read_verified(g->fd, payload, entry->length, entry->offset, entry->hash);
    if (entry->kind == ENTRY_SNAPSHOT) recovery_part(r, at, payload, good ? entry->length : 0);
    else if (good) recovery_notes(r, payload, entry->length);
    if (entry->kind == ENTRY_KEEP) {
        r->keep = at;
        r->keep_good = good;
        r->part_next = 0;
    }
    free(payload);
}

static bool recovery_is_durable(const struct recovery *r, const struct segment *g, uint64_t offset) {
    const struct segment *next = segment_at(r->s, g->number + 1);
    if (g->closed) return true;
    if (next && next->before > 0 && offset >= next->before) return false; /* a table of contents that was torn */
    return g->number < r->durable.segment || (g->number == r->durable.segment && offset < r->durable.offset);
}

static void recovery_bad(struct recovery *r, struct segment *g, uint64_t offset, const char *what) {
    if (r->scan_only) return;
    bool matters = g->damaged || recovery_is_durable(r, g, offset);
    if (r->s->problem) r->s->problem(g->number, offset, what, matters);
    if (!matters) {
        r->torn++;
        return;
    }
    g->damaged = true;
    if (!r->s->problem) log_line("DAMAGED: %s in segment %u at offset %" PRIu64, what, g->number, offset);
    if (place_before((struct place){g->number, (uint32_t)offset}, r->begin)) return; /* a chunk, or dead metadata */
    r->lost = true;
}

/* Notes how far a header says that the log was on disk when it was written. */
static void recovery_mark(struct recovery *r, struct place durable) {
    if (durable.segment > r->durable.segment ||
        (durable.segment == r->durable.segment && durable.offset > r->durable.offset))
        r->durable = durable;
}

/* Reads from a segment. What the disk can't read was not torn by a crash: it is damage, wherever it is. */
static bool recovery_read(struct segment *g, void *to, size_t length, uint64_t offset) {
    if (sys_pread(g->fd, to, length, offset)) return true;
    if (errno != 0 && !g->damaged) {
        log_line("DAMAGED: segment %u can't be read at offset %" PRIu64 ": %s", g->number, offset, strerror(errno));
        g->damaged = true;
    }
    return false;
}

/* Applies records. Those that lie between the parts of the snapshot are of its history, some of them in it. */
static enum status recovery_records(struct recovery *r, const char *records, size_t length) {
    struct position first, last;
    struct slice rest = {records, length};
    if (records_skip(&rest, r->tree->at.seq) != DONE) return DAMAGED; /* what is in the snapshot already */
    if (rest.length == 0) return DONE;
    if (records_span(rest.at, rest.length, &first, &last) != DONE) return DAMAGED;
    if (first.seq != r->tree->at.seq + 1) return fail(DAMAGED, "a gap before record %" PRIu64, first.seq);
    if (tree_apply(r->tree, rest.at, rest.length) != DONE) return WRONG_KIND;
    if (last.epoch > r->s->promised) r->s->promised = last.epoch;
    r->lost = false;
    return DONE;
}

/* SNAPSHOTPART NUMBER LAST\n, then lines of a snapshot. */
static enum status recovery_snapshot(struct recovery *r, const char *payload, size_t length) {
    struct slice rest = {payload, length}, line;
    struct words w;
    uint32_t number, last;
    if (!slice_line(&rest, &line) || !words_split(line, &w) || w.count != 3 || !slice_is(w.word[0], "SNAPSHOTPART") ||
        !parse_u32(w.word[1], UINT32_MAX, &number) || !parse_u32(w.word[2], 1, &last))
        return fail(DAMAGED, "a snapshot part without its first line");
    if (number == 0) {
        recovery_drop_snapshot(r);
        tree_init(&r->loading);
        r->loading_used = true;
        r->loading_next = 0;
    }
    if (!r->loading_used || number != r->loading_next++)
        return fail(DAMAGED, "a snapshot without its part before this");
    enum status status = snapshot_load(&r->loading, rest.at, rest.length);
    if (status != DONE || !last) return status;
    tree_free(r->tree);
    *r->tree = r->loading;
    r->loading_used = false;
    r->loaded = true;
    r->lost = false;
    if (r->tree->at.epoch > r->s->promised) r->s->promised = r->tree->at.epoch;
    status = recovery_records(r, r->after.data ? r->after.data : "", r->after.length);
    text_free(&r->after);
    return status;
}

static enum status recovery_payload(struct recovery *r, struct segment *g, const struct entry *entry,
                                    const char *payload) {
    struct position promise, first, last;
    struct slice line, rest = {payload, entry->length};
    struct words w;
    struct place at = {g->number, entry->offset};
    enum status status;
    switch (entry->kind) {
    case ENTRY_RECORD:
        if (!r->loaded && r->first.offset != 0) { /* made while the snapshot was written: it comes first */
            text_bytes(&r->after, payload, entry->length);
            return DONE;
        }
        status = recovery_records(r, payload, entry->length);
        if (status == DONE && records_span(payload, entry->length, &first, &last) == DONE)
            segment_records(g, first.seq, entry->offset);
        if (status != WRONG_KIND) return status;
        tree_free(r->tree); /* half applied: only a snapshot helps now, and no record of this log fits any more */
        tree_init(r->tree);
        r->lost = g->damaged = true; /* it is whole, so no crash tore it, wherever it is */
        return fail(DAMAGED, "a record that does not fit: %s", detail);
    case ENTRY_SNAPSHOT:
        if (r->loaded || place_before(at, r->first) || r->first.offset == 0) return DONE; /* of one that is not whole */
        return recovery_snapshot(r, payload, entry->length);
    case ENTRY_PROMISE:
    case ENTRY_KEEP:
        if (!slice_line(&rest, &line) || !words_split(line, &w) || w.count != 3 || !slice_is(w.word[0], "PROMISE") ||
            !parse_u64(w.word[1], UINT64_MAX, &promise.epoch) || !parse_id(w.word[2], &promise.seq))
            return fail(DAMAGED, "a promise that is none");
        if (promise.epoch >= r->s->promised) r->s->promised = promise.epoch, r->s->promised_to = promise.seq;
        return DONE;
    default: return DONE; /* the first pass took it in */
    }
}

/* Takes one entry in. In a segment with a table of contents chunks are not read. */
static void recovery_entry(struct recovery *r, struct segment *g, struct entry *entry) {
    uint8_t digest[32];
    bool chunk = entry->kind == ENTRY_CHUNK;
    struct place at = {g->number, entry->offset};
    if (r->scan_only) {
        recovery_look(r, g, entry);
        return;
    }
    if (chunk ? segment_buried(g, entry->offset) : place_before(at, r->begin)) { /* dead, or not there any more */
        entry->good = !chunk;
        return;
    }
    if (chunk && g->closed) {
        index_add(r->s, entry->hash, (struct place){g->number, entry->offset}, entry->length);
        return;
    }
    char *payload = malloc((size_t)entry->length + 1);
    if (!payload) die(INTERNAL, "out of memory");
    entry->good = recovery_read(g, payload, entry->length, entry->offset);
    if (entry->good) {
        payload[entry->length] = 0;
        sha256_digest(payload, entry->length, digest);
        entry->good = memcmp(digest, entry->hash, 32) == 0;
    }
    if (chunk && entry->good) {
        index_add(r->s, entry->hash, (struct place){g->number, entry->offset}, entry->length);
    } else if (chunk) {
        /* Maybe the trace of an interrupted upload: only a chunk that a record names is missed, and it is fetched. */
        r->bad_chunks++;
        if (r->s->problem) r->s->problem(g->number, entry->offset, "an incomplete or damaged chunk", false);
        else log_line("an incomplete or damaged chunk in segment %u at offset %u: set aside", g->number, entry->offset);
    } else if (!entry->good) {
        recovery_bad(r, g, entry->offset, "an entry of metadata");
    } else if (recovery_payload(r, g, entry, payload) != DONE) {
        entry->good = false;
        recovery_bad(r, g, entry->offset, detail);
    }
    free(payload);
}

/* Where a segment's file ends but for zeros: they were written ahead of entries that did not come, and are no damage.
 */
static uint64_t recovery_end(struct segment *g, uint64_t end) {
    char window[8192];
    while (end > 0) {
        size_t have = end < sizeof window ? (size_t)end : sizeof window;
        if (!recovery_read(g, window, have, end - have)) break;
        while (have > 0 && window[have - 1] == 0) have--, end--;
        if (have > 0) break;
    }
    return end;
}

/* Looks for the next header after damage, stepping over what can't be read. Returns its offset, or the segment's size.
 */
static uint64_t recovery_resync(struct segment *g, uint64_t from) {
    enum { STEP = 512 };
    char window[8192];
    struct entry entry;
    struct place durable;
    for (uint64_t at = from; at < g->size;) {
        size_t have = g->size - at < sizeof window ? (size_t)(g->size - at) : sizeof window;
        if (!recovery_read(g, window, have, at)) {
            have = have < STEP ? have : STEP;
            if (!recovery_read(g, window, have, at)) {
                at += have;
                continue;
            }
        }
        for (size_t i = 0; i < have; i++) {
            if (!strchr("crpsadkt", window[i]) || window[i] == 0) continue;
            if (have - i < HEADER_MAX_BYTES && at + have < g->size) break; /* read on from here */
            if (header_read(g, at + i, window + i, have - i, &entry, &durable) > 0) return at + i;
        }
        if (at + have >= g->size) break;
        at += have - HEADER_MAX_BYTES;
    }
    return g->size;
}

/* Goes through a segment that has no table of contents, header by header. */
static void recovery_scan(struct recovery *r, struct segment *g, uint64_t at) {
    char bytes[HEADER_MAX_BYTES];
    while (at < g->size) {
        struct entry entry;
        struct place durable = {0, 0};
        size_t have = g->size - at < sizeof bytes ? (size_t)(g->size - at) : sizeof bytes;
        size_t used = recovery_read(g, bytes, have, at) ? header_read(g, at, bytes, have, &entry, &durable) : 0;
        if (used == 0) {
            uint64_t next = recovery_resync(g, at + 1);
            recovery_bad(r, g, at, "something that is no entry");
            at = next;
            continue;
        }
        recovery_mark(r, durable);
        uint64_t end = at + used + entry.length + 1;
        if (entry.kind == ENTRY_TOC) return; /* a table whose end line is damaged: all before it was just read */
        if (end > g->size) {
            if (entry.kind != ENTRY_CHUNK) recovery_bad(r, g, at, "a cut entry of metadata");
            else if (!r->scan_only) r->bad_chunks++;
            end = recovery_resync(g, at + used);
        } else {
            recovery_entry(r, g, &entry);
            if (entry.good && !r->scan_only) segment_note(g, &entry);
        }
        at = end;
    }
}

/* Takes in the table of contents, if the segment was closed. False if there is none that is whole. */
static bool recovery_toc(struct recovery *r, struct segment *g) {
    struct entry entry;
    struct place durable;
    struct text lines = {0};
    uint64_t at;
    bool good = toc_read(g, g->size, &lines, &at, &durable);
    struct slice rest = {lines.data, lines.length};
    g->closed = g->full = good;
    if (good) recovery_mark(r, durable);
    if (good) g->size = at;
    while (good && toc_entry(&rest, &entry)) recovery_entry(r, g, &entry);
    text_free(&lines);
    return good;
}

/* Dies if this is the first line of a segment of a later format, in which all but its first two and last two words may
 * mean something else. */
static void recovery_format(const struct store *s, const struct segment *g, const char *line, const struct words *w) {
    struct segment other = {.number = g->number};
    char check[CHECK_HEX];
    uint32_t format;
    if (w->count < 4 || !slice_is(w->word[0], "segment") || !parse_u32(w->word[1], UINT32_MAX, &format) ||
        format <= FORMAT_VERSION || w->word[w->count - 1].length != CHECK_HEX ||
        !parse_hex(w->word[w->count - 2], other.salt, SALT_BYTES))
        return;
    header_check(&other, 0, line, (size_t)(w->word[w->count - 1].at - line), check);
    if (memcmp(check, w->word[w->count - 1].at, CHECK_HEX) != 0) return;
    die(BAD_REQUEST, "segment %u of %s has format %u, this program knows up to %d; use a newer dfs", g->number,
        s->folder, format, FORMAT_VERSION);
}

/* Opens a segment's file and checks its first line. Returns that line's length, 0 if this is not our segment. Dies if
 * the file can't be opened: to go on without it would be to forget what it holds. */
static size_t recovery_open(struct recovery *r, struct segment *g) {
    char line[SEGMENT_LINE_MAX_BYTES], expected[SEGMENT_LINE_MAX_BYTES];
    struct words w;
    struct stat about;
    if ((!segment_use(r->s, g) || fstat(g->fd, &about) != 0) && r->s->check) {
        if (r->scan_only) r->s->problem(g->number, 0, strerror(errno), true);
        g->damaged = true;
        return 0;
    }
    if (g->fd < 0)
        die(INTERNAL, "segment %u of %s can't be opened: %s; mend the disk, or start with an empty directory",
            g->number, r->s->folder, strerror(errno));
    g->size = recovery_end(g, (uint64_t)about.st_size);
    g->taken = (uint64_t)about.st_blocks * 512;
    if (g->checked_ms == 0) g->checked_ms = (int64_t)about.st_mtim.tv_sec * 1000; /* the first pass may know better */
    size_t have = g->size < sizeof line ? (size_t)g->size : sizeof line;
    if (!recovery_read(g, line, have, 0)) return 0;
    const char *end = memchr(line, '\n', have);
    bool good = end && words_split((struct slice){line, (size_t)(end - line)}, &w);
    if (good) recovery_format(r->s, g, line, &w);
    good = good && w.count == 8 && parse_u64(w.word[5], UINT32_MAX, &g->before) &&
           parse_hex(w.word[6], g->salt, SALT_BYTES);
    size_t length = good ? segment_line(r->s, g, expected) : 0;
    if (good && length == (size_t)(end - line) + 1 && memcmp(line, expected, length) == 0) return length;
    g->before = 0; /* what a bad line says is not believed */
    return 0;
}

/* Removes a segment's file, for good. */
static void recovery_unlink(struct store *s, struct segment *g) {
    char path[PATH_MAX];
    segment_path(s, g->number, path, sizeof path);
    bool good = unlink(path) == 0;
    *strrchr(path, '/') = 0;
    if (!good || !sys_sync_folder(path)) die(INTERNAL, "removing a segment in %s: %s", path, strerror(errno));
    segment_prune(path);
    segment_free(s, g);
}

/* One segment of the second pass. A segment that was not closed is closed now, so that it is scanned only once. */
static void recovery_segment(struct recovery *r, struct segment *g) {
    char line[SEGMENT_LINE_MAX_BYTES];
    struct segment longest = {.number = g->number, .before = UINT32_MAX};
    struct stat about;
    size_t first = recovery_open(r, g);
    uint64_t end = g->size;
    bool last = g->number + 1 == r->s->next_number;
    if (first == 0 && last && !g->damaged && g->size <= segment_line(r->s, &longest, line)) {
        g->full = g->closed = true; /* a crash left it without its first line: nothing was ever appended to it */
        if (r->s->check) return;
        r->s->next_number = g->number;
        recovery_unlink(r->s, g);
        return;
    }
    if (first == 0) {
        g->full = g->closed = true;
        recovery_bad(r, g, 0, "the first line is not this node's");
    } else if (!recovery_toc(r, g)) {
        recovery_scan(r, g, first);
        g->full = true;
        g->writes = g->damaged ? 0 : 1;
        bool writes = !r->s->check;
        if (!last && !g->damaged) { /* a crash, or damage: what it lists is all here */
            if (r->s->problem)
                r->s->problem(g->number, g->size, "no whole table of contents; a start makes it anew", false);
            else log_line("segment %u has no whole table of contents: it is made anew", g->number);
        }
        if (writes && g->damaged && sys_fdatasync(g->fd) != 0) store_fail(r->s, "syncing a damaged segment");
        if (writes && !g->damaged && segment_close(r->s, g) != DONE)
            log_line("segment %u stays without its table of contents: %s", g->number, detail);
    } else if (!r->s->check && fstat(g->fd, &about) == 0 && (uint64_t)about.st_size > end &&
               !sys_truncate(g->fd, end)) {
        store_fail(r->s, "cutting the zeros behind a table of contents off"); /* a crash came before that */
    }
    if (g->users > 0) segment_unuse(r->s, g);
}

/* Removes the files of segments that are gone, which a crash left. */
static void recovery_removed(struct recovery *r) {
    struct store *s = r->s;
    for (uint32_t i = s->segment_count; i > 0; i--) {
        struct segment *g = s->segments[i - 1];
        if (recovery_kept(r, g->number) == g->number) continue;
        if (s->check) segment_free(s, g);
        else recovery_unlink(s, g);
    }
}

/* The second pass: segments in their order; the last may be removed then. A number that is not there and was not
 * removed is a segment that is missing. */
static void recovery_second(struct recovery *r) {
    struct store *s = r->s;
    uint32_t expected = 0;
    for (uint32_t i = 0; i <= s->segment_count; i++) {
        uint32_t number = i < s->segment_count ? s->segments[i]->number : s->next_number;
        uint32_t kept = recovery_kept(r, expected);
        if (kept < number)
            recovery_bad(r, &(struct segment){.number = kept, .closed = true}, 0, "nothing at all: it is missing");
        if (i < s->segment_count) recovery_segment(r, s->segments[i]);
        expected = number + 1;
    }
}

/* Finds the files of the log: folders named by base 36 digits, one below the other. */
static void recovery_list(struct store *s, const char *folder, int level, uint32_t prefix) {
    static const char digit[] = "0123456789abcdefghijklmnopqrstuvwxyz";
    char path[PATH_MAX];
    DIR *d = opendir(folder);
    struct dirent *e;
    if (!d && errno == ENOENT && level == 0) return; /* nothing was ever written */
    while (d && (errno = 0, e = readdir(d))) {
        const char *at = e->d_name[0] && !e->d_name[1] ? strchr(digit, e->d_name[0]) : NULL;
        if (!at) continue;
        uint32_t number = prefix * 36 + (uint32_t)(at - digit);
        if (level == SEGMENT_DIGITS - 1) {
            segment_new(s, number);
            continue;
        }
        snprintf(path, sizeof path, "%s/%c", folder, *at);
        recovery_list(s, path, level + 1, number);
    }
    if (!d || errno != 0) /* to go on without what is in it would be to forget it */
        die(INTERNAL, "reading the folder %s: %s; mend the disk, or start with an empty directory", folder,
            strerror(errno));
    closedir(d);
}

/* Reads the whole log: builds the index, applies every record to `tree` (which must be new). A node whose records are
 * damaged gets an empty tree and s->metadata_damaged: it counts for nothing until it has been given a snapshot. */
static void store_recover(struct store *s, struct tree *tree) {
    char path[PATH_MAX];
    struct recovery r = {.s = s, .tree = tree, .scan_only = true};
    int64_t begun_ms = clock_ms();
    /* What a process that was killed left is perhaps in memory alone. Nothing may be built on what a power cut takes.
     */
    if (!s->check && !sys_sync_all(s->lock_fd)) die(INTERNAL, "syncing the disk of %s: %s", s->folder, strerror(errno));
    lock_take(&s->lock);
    snprintf(path, sizeof path, "%s/log", s->folder);
    recovery_list(s, path, 0, 0);
    for (uint32_t i = 0; i < s->segment_count; i++) {
        struct segment *g = s->segments[i];
        size_t first = recovery_open(&r, g);
        if (first > 0 && !recovery_toc(&r, g)) recovery_scan(&r, g, first);
        g->closed = g->full = false;
        if (g->users > 0) segment_unuse(s, g);
        if (s->files_open >= SEGMENT_FILES_MAX) close(g->fd), g->fd = -1, s->files_open--;
    }
    r.scan_only = false;
    s->checkpoint = r.begin;
    s->checkpoint_bytes = r.begin_bytes;
    recovery_gone_sort(&r);
    recovery_removed(&r);
    s->durable = r.durable; /* for the tables of contents that are written now, and read by the next start */
    recovery_second(&r);
    recovery_drop_snapshot(&r);
    free(r.gone);
    text_free(&r.after);
    if (r.forgot) log_line("DAMAGED: the entry that begins the last checkpoint");
    r.lost = r.lost || r.forgot;
    s->metadata_damaged = r.lost;
    if (r.lost && !s->check) { /* a check goes on with what it has */
        log_line("records are damaged or missing; this node starts as a learner and gets them from the others");
        tree_free(tree);
        tree_init(tree);
    }
    lock_drop(&s->lock);
    if (s->check) return;
    log_line("%s: %" PRIu64 " chunks, %" PRIu64 " files, last record %" PRIu64 ".%" PRIu64 ", promised %" PRIu64
             ", read in %" PRId64 " ms%s", s->folder, s->chunk_count, tree->live.files, tree->at.epoch, tree->at.seq,
             s->promised, clock_ms() - begun_ms, r.torn + r.bad_chunks ? "; traces of an interrupted write" : "");
}
/* ======== 10. Placement ======== */
/* Who gets a chunk, who copies to whom, and the arithmetic of rosters. Pure functions over plain numbers: no locks, no
 * clocks, no sockets. Entry points: roster_may_*, place_*. */

/* A master may go on with `staying` of `all` members if at least half of the roster takes the smaller roster. */
static bool roster_may_shrink(int staying, int all) {
    return staying > 0 && 2 * staying >= all;
}

/* A new master needs promises from more than half of the newest roster it hears of. */
static bool roster_may_take_over(int promised, int all) {
    return all > 0 && 2 * promised > all;
}

/* A master's reads are current while at least half of the roster has acknowledged a recent pong. */
static bool roster_has_lease(int acknowledged, int all) {
    return acknowledged > 0 && 2 * acknowledged >= all;
}

/* One node, as placement sees it. */
struct candidate {
    uint64_t used_bytes; /* of chunks that it holds or is about to */
    uint64_t sent_bytes; /* to other nodes, ever */
    int busy;            /* transfers under way */
    int sending;         /* orders to copy that it serves */
    int zone;            /* nodes of one zone may fail together */
    bool source, target; /* it may give chunks, and be given some */
    bool ready;          /* to be given some now */
    bool crowded;        /* it will be full soon: copies move away from it */
    bool tight;          /* or would be if more came: none move to it, and what it gave away does not come back */
};

/* Counts how many nodes of a set are in each zone. Zones are numbers below NODES_MAX. */
static void zones_count(const struct candidate *nodes, int count, const struct node_set *set, int *in_zone) {
    memset(in_zone, 0, NODES_MAX * sizeof *in_zone);
    for (int i = 0; i < count; i++) in_zone[nodes[i].zone] += node_set_has(set, i);
}

/* Whether a target is in one of the best zones for one more copy of a chunk that `taken` hold: those that the fewest of
 * them are in, of the zones of all targets. */
static bool place_suits(const struct candidate *nodes, int count, const struct node_set *taken, int slot) {
    int in_zone[NODES_MAX];
    zones_count(nodes, count, taken, in_zone);
    for (int i = 0; i < count; i++)
        if (nodes[i].target && !node_set_has(taken, i) && in_zone[nodes[i].zone] < in_zone[nodes[slot].zone])
            return false;
    return true;
}

/* The best place for one more copy of a chunk that `taken` hold: in the best zones, the target that is ready and has
 * the least used bytes, of those the least busy. -1 if none there is ready: a place in another zone would not be as
 * good. */
static int place_target(const struct candidate *nodes, int count, const struct node_set *taken) {
    int in_zone[NODES_MAX], best = -1, least = INT_MAX;
    zones_count(nodes, count, taken, in_zone);
    for (int i = 0; i < count; i++)
        if (nodes[i].target && !node_set_has(taken, i) && in_zone[nodes[i].zone] < least)
            least = in_zone[nodes[i].zone];
    for (int i = 0; i < count; i++) {
        const struct candidate *n = &nodes[i], *b = best < 0 ? NULL : &nodes[best];
        if (!n->target || !n->ready || node_set_has(taken, i) || in_zone[n->zone] > least) continue;
        if (b && (n->used_bytes > b->used_bytes || (n->used_bytes == b->used_bytes && n->busy >= b->busy))) continue;
        best = i;
    }
    return best;
}

/* The holder to copy from: the one that serves the fewest orders, of those the one that has sent least, so that a new
 * chunk spreads from all that have it and nobody sends much more than others. -1 if all have enough to do. */
static int place_source(const struct candidate *nodes, int count, const struct node_set *holders) {
    int best = -1;
    for (int i = 0; i < count; i++) {
        if (!nodes[i].source || !node_set_has(holders, i) || nodes[i].sending >= COPY_SOURCE_MAX) continue;
        if (best >= 0 && nodes[i].sending > nodes[best].sending) continue;
        if (best >= 0 && nodes[i].sending == nodes[best].sending && nodes[i].sent_bytes >= nodes[best].sent_bytes)
            continue;
        best = i;
    }
    return best;
}

/* The copy that is missed least when there is one too many: in the zone that most holders are in, there on the node
 * with most on it. -1 if there is none. */
static int place_surplus(const struct candidate *nodes, int count, const struct node_set *holders) {
    int in_zone[NODES_MAX], worst = -1;
    zones_count(nodes, count, holders, in_zone);
    for (int i = 0; i < count; i++) {
        if (!node_set_has(holders, i)) continue;
        if (worst >= 0) {
            int zone = in_zone[nodes[i].zone] - in_zone[nodes[worst].zone];
            if (zone < 0 || (zone == 0 && nodes[i].used_bytes <= nodes[worst].used_bytes)) continue;
        }
        worst = i;
    }
    return worst;
}

/* Whether a copy may move from one node to another: the copies would be in no fewer zones. */
static bool place_may_move(const struct candidate *nodes, int count, const struct node_set *holders, int from, int to) {
    int in_zone[NODES_MAX];
    if (node_set_has(holders, to) || !node_set_has(holders, from)) return false;
    zones_count(nodes, count, holders, in_zone);
    return in_zone[nodes[from].zone] > 1 || in_zone[nodes[to].zone] == 0 || nodes[from].zone == nodes[to].zone;
}

/* Sorts the nodes of a set by how much is on them, the fullest first; crowded ones before all others. */
static int place_sort(const struct candidate *nodes, int count, const struct node_set *here, int *order) {
    int sorted = 0;
    for (int i = 0; i < count; i++) {
        if (!node_set_has(here, i)) continue;
        int at = sorted++;
        for (; at > 0; at--) {
            const struct candidate *before = &nodes[order[at - 1]];
            if (before->crowded != nodes[i].crowded ? before->crowded : before->used_bytes >= nodes[i].used_bytes)
                break;
            order[at] = order[at - 1];
        }
        order[at] = i;
    }
    return sorted;
}

/* Finds from where to where chunks should move: the pair number `skip` of those where the first is crowded, or has over
 * 5 % of the average more than the second, or half of that if the first pair has more; the fullest and the emptiest
 * come first. With `relieve` only crowded ones count. Returns how long a chunk may be that moves, at most half the
 * difference, so that this comes to an end; 0: there is no such pair. */
static uint64_t place_pair(const struct candidate *nodes, int count, const struct node_set *here, bool relieve,
                           int skip, int *from, int *to) {
    int order[NODES_MAX], sorted = place_sort(nodes, count, here, order);
    uint64_t sum = 0;
    for (int i = 0; i < sorted; i++) sum += nodes[order[i]].used_bytes;
    uint64_t least = sorted > 0 ? sum / (uint64_t)sorted / 20 : 0;
    if (least < BALANCE_MIN_BYTES) least = BALANCE_MIN_BYTES;
    uint64_t bar = least;
    for (int i = 0; i < sorted; i++)
        for (int k = sorted - 1; k > i; k--) {
            const struct candidate *full = &nodes[order[i]], *empty = &nodes[order[k]];
            if (relieve && !full->crowded) return 0;
            if (!empty->target || !empty->ready || empty->tight) continue;
            if (!full->crowded && full->used_bytes <= empty->used_bytes + bar) break; /* nor from any other */
            if (!full->crowded) bar = least / 2; /* what may not go there at once can by way of a third node */
            if (skip-- > 0) continue;
            *from = order[i];
            *to = order[k];
            return full->crowded ? UINT64_MAX : (full->used_bytes - empty->used_bytes) / 2;
        }
    return 0;
}
/* ======== 11. Client ======== */
/* Calls to masters and nodes with retry, a pool of open connections, upload, download. Nodes and masters use the same
 * code to talk to each other. Locks: pool.lock (RANK_POOL) for the idle connections, never held across the network;
 * transfer.lock (RANK_TRANSFER) for one upload or download and its threads.
 * Entry points: pool_*, client_ask, client_upload, client_download. */

enum {
    POOL_MAX = 128,
    POOL_IDLE_MS = 60000,
    DATA_TIMEOUT_MS = 8000,  /* nothing moves: the other side is given up */
    GREET_MS = 1000,         /* for a node to greet, where a chunk can go to another one */
    TARGETS_AGE_MS = 500,    /* so old may an answer to TARGETS be */
    WINDOW_CHUNKS = 8
};

/* Connections that nobody uses now, by address. One process has one pool. */
static struct {
    struct lock lock;
    struct {
        struct conn *c;
        char address[ADDRESS_MAX_BYTES + 1];
        int64_t since_ms;
    } idle[POOL_MAX]; /* the one that was given back first comes first */
    int count;
} pool;

static void pool_init(void) {
    lock_init(&pool.lock, RANK_POOL);
}

/* Takes number `i` out of the pool. */
static struct conn *pool_remove(int i) {
    struct conn *c = pool.idle[i].c;
    lock_check(&pool.lock);
    pool.count--;
    memmove(&pool.idle[i], &pool.idle[i + 1], (size_t)(pool.count - i) * sizeof pool.idle[0]);
    return c;
}

/* Whether a connection is closed by the other side, or in any case not silent as an idle one must be. */
static bool conn_is_over(const struct conn *c) {
    struct pollfd ready = {.fd = c->fd, .events = POLLIN};
    return poll(&ready, 1, 0) != 0;
}

/* Closes idle connections that are over or were not needed for POOL_IDLE_MS; called about once a second. */
static void pool_trim(void) {
    struct pollfd ready[POOL_MAX];
    int64_t now_ms = clock_ms();
    lock_take(&pool.lock);
    for (int i = 0; i < pool.count; i++) ready[i] = (struct pollfd){.fd = pool.idle[i].c->fd, .events = POLLIN};
    if (pool.count > 0) poll(ready, (nfds_t)pool.count, 0);
    for (int i = pool.count - 1; i >= 0; i--)
        if (now_ms - pool.idle[i].since_ms > POOL_IDLE_MS || ready[i].revents != 0) conn_close(pool_remove(i));
    lock_drop(&pool.lock);
}

/* A connection to `address`: an idle one that is still open, or a new one. The caller gives it back or closes it. */
static enum status pool_take(const char *address, uint16_t default_port, int timeout_ms, struct conn **out) {
    enum { FRESH_MS = 100 };
    for (;;) {
        struct conn *c = NULL;
        int64_t since_ms = 0;
        lock_take(&pool.lock);
        for (int i = pool.count - 1; i >= 0 && !c; i--) {
            if (strcmp(pool.idle[i].address, address) != 0) continue;
            since_ms = pool.idle[i].since_ms;
            c = pool_remove(i);
        }
        lock_drop(&pool.lock);
        if (!c) break;
        if (clock_ms() - since_ms < FRESH_MS || !conn_is_over(c)) {
            conn_timeout(c, timeout_ms);
            *out = c;
            return DONE;
        }
        conn_close(c); /* the other side closed it while it was idle */
    }
    return call_open(address, default_port, timeout_ms, out);
}

/* Gives a connection back on which no request is open. */
static void pool_give(const char *address, struct conn *c) {
    lock_take(&pool.lock);
    struct conn *oldest = pool.count == POOL_MAX ? pool_remove(0) : NULL;
    pool.idle[pool.count].c = c;
    pool.idle[pool.count].since_ms = clock_ms();
    snprintf(pool.idle[pool.count++].address, sizeof pool.idle[0].address, "%s", address);
    lock_drop(&pool.lock);
    conn_close(oldest);
}

/* Whether the connection is still in step after a call that ended so: the server answered, if only with an error. */
static bool status_keeps_conn(enum status status) {
    return status != NO_SERVER && status != DENIED;
}

/* A node as a client knows it. */
struct node_address {
    uint64_t id;
    char address[ADDRESS_MAX_BYTES + 1];
};

/* A node that takes chunks. */
struct target {
    struct node_address node;
    uint64_t used_bytes; /* as the master said, and what this client has sent there since */
    int zone;
};

/* Hashes, each once: open addressing, at most half full. SHA-256 is as random as can be. */
struct hash_set {
    uint8_t (*hash)[32];
    uint8_t *used;
    size_t capacity, count;
};

static void hash_set_free(struct hash_set *set) {
    free(set->hash);
    free(set->used);
    *set = (struct hash_set){0};
}

/* Adds a hash; false if it is there already. */
static bool hash_set_add(struct hash_set *set, const uint8_t hash[32]) {
    size_t at;
    if (2 * (set->count + 1) > set->capacity) {
        struct hash_set old = *set;
        set->capacity = old.capacity ? 2 * old.capacity : 16;
        set->hash = mem_alloc(set->capacity * sizeof *set->hash);
        set->used = mem_alloc(set->capacity);
        set->count = 0;
        for (size_t i = 0; i < old.capacity; i++)
            if (old.used[i]) hash_set_add(set, old.hash[i]);
        hash_set_free(&old);
    }
    memcpy(&at, hash, sizeof at);
    for (at &= set->capacity - 1; set->used[at]; at = (at + 1) & (set->capacity - 1))
        if (memcmp(set->hash[at], hash, 32) == 0) return false;
    set->used[at] = 1;
    memcpy(set->hash[at], hash, 32);
    set->count++;
    return true;
}

/* One upload that is open, somewhere on the stack of who does it. */
struct upload_open {
    int64_t since_ms;
    struct upload_open *next;
};

struct client {
    char masters[1024];          /* HOST:PORT[,...] */
    struct text nodes;           /* the same for the nodes, asked for reads when no master answers; "" if not known */
    atomic_int first;            /* number of the master that answered last */
    int noted;                   /* the same, as it was noted for the next run; -1: it was not */
    atomic_bool saw_old;         /* some answer is possibly old */
    atomic_bool met;             /* some call was answered: from now on a silent master is waited for */
    struct lock lock;            /* RANK_TRANSFER; guards the rest, which is what TARGETS said last */
    uint64_t only;               /* the node whose copies alone are read; 0: all are */
    int retry_ms;                /* how long a request is repeated while no master answers */
    bool cache_on;               /* --cache-ttl: what is read is kept, */
    int64_t cache_ttl_ms;        /* and read from there without a question so long, */
    uint64_t cache_bytes;        /* as long as all of it is not larger */
    struct target target[NODES_MAX];
    int target_count, copies;
    int64_t targets_ms;          /* when; 0: never */
    unsigned turn;
    struct upload_open *uploads; /* open ones */
    bool told;                   /* the master was told of one of them */
    atomic_ullong put_bytes;     /* that were sent to nodes, each chunk counted once */
    struct hash_set sent;        /* chunks that those that are open have sent, or are about to */
};

/* An answer: the words of its line, which point into `line`, and its body. Freed by answer_free. */
struct answer {
    struct words w;
    struct text line, body;
};

static void answer_free(struct answer *a) {
    text_free(&a->line);
    text_free(&a->body);
}

static void client_init(struct client *cl, const char *masters) {
    *cl = (struct client){.copies = 1, .noted = -1, .retry_ms = RETRY_TOTAL_MS};
    snprintf(cl->masters, sizeof cl->masters, "%s", masters);
    lock_init(&cl->lock, RANK_TRANSFER);
}

/* Copies the reply's words out of the connection, which will be used by others, and reads its body if it has one. */
static enum status answer_take(struct conn *c, const struct words *w, bool has_body, struct answer *a) {
    text_clear(&a->line);
    for (int i = 0; i < w->count; i++) {
        if (i > 0) text_byte(&a->line, ' ');
        text_bytes(&a->line, w->word[i].at, w->word[i].length);
    }
    if (!words_split((struct slice){a->line.data, a->line.length}, &a->w)) return fail(INTERNAL, "an empty reply");
    return has_body ? call_body(c, &a->w, &a->body) : DONE;
}

/* Asks one server once; waits greet_ms for it to be there, timeout_ms for its answer. */
static enum status ask_once(const char *address, const struct text *line, const struct slice *body, bool has_body,
                            int greet_ms, int timeout_ms, struct answer *a, bool *sent) {
    struct conn *c;
    struct words w;
    enum status status = pool_take(address, MASTER_PORT, greet_ms, &c);
    if (status != DONE) return status;
    conn_timeout(c, timeout_ms);
    *sent = true;
    text_bytes(conn_line(c), line->data, line->length);
    if (body) {
        status = call_send(c, body->at, body->length);
    } else {
        conn_line_end(c);
        status = conn_flush(c);
    }
    if (status == DONE) status = call_reply(c, &w);
    if (status == DONE) status = answer_take(c, &w, has_body, a);
    if (status_keeps_conn(status)) pool_give(address, c);
    else conn_close(c);
    return status;
}

static bool status_may_pass(enum status status) {
    return status == NO_SERVER || status == READ_ONLY || status == FENCED || status == UNKNOWN;
}

/* Asks the nodes, when no master can answer. Only STAT and LIST are known to them. */
static bool ask_nodes(struct client *cl, const struct text *line, struct answer *a) {
    char address[ADDRESS_MAX_BYTES + 1];
    struct slice rest = {cl->nodes.data, cl->nodes.length}, part;
    while (slice_part(&rest, ',', &part)) {
        bool sent = false;
        if (!slice_copy(part, address, sizeof address)) continue;
        if (ask_once(address, line, NULL, true, MANY_TIMEOUT_MS, MANY_TIMEOUT_MS, a, &sent) != DONE) continue;
        atomic_store(&cl->saw_old, true);
        return true;
    }
    return false;
}

/* Asks the masters of the list until one answers. A request that changes something must carry a request id; if its
 * outcome is not known after all tries, the status is UNKNOWN. Fails at once if no master ever answered and none is
 * reachable; a master that is waiting for nodes, or was there before, is asked again for RETRY_TOTAL_MS. */
static enum status client_ask(struct client *cl, const struct text *line, const struct slice *body, bool changes,
                              bool has_body, struct answer *a) {
    int64_t until_ms = clock_ms() + cl->retry_ms;
    bool sent_ever = false;
    /* In the run before some master was there: perhaps it is being started again. Nodes answer what only reads. */
    bool upload = memcmp(line->data, "TARGETS", 7) == 0 || memcmp(line->data, "HAVE", 4) == 0;
    bool was_there = cl->noted >= 0 && (changes || upload);
    char address[ADDRESS_MAX_BYTES + 1], why[DETAIL_BYTES];
    enum status status = NO_SERVER;
    for (int turn = 0;; turn++) {
        struct slice rest = slice_of(cl->masters), list[MASTERS_MAX];
        bool reached = false, kept = false;
        struct answer old = {0};
        enum status best = NO_SERVER;
        int count = 0, first = atomic_load(&cl->first), answered = -1;
        while (count < MASTERS_MAX && slice_part(&rest, ',', &list[count])) count++;
        if (first >= count) first = 0;
        snprintf(why, sizeof why, "no master is given");
        for (int i = 0; i < count; i++) { /* the one that answered last comes first: another may be hung */
            int which = (first + i) % count;
            bool sent = false;
            if (!slice_copy(list[which], address, sizeof address)) continue;
            int timeout_ms = count > 1 ? MANY_TIMEOUT_MS : CALL_TIMEOUT_MS;
            bool hurry = count > 1 && (turn == 0 || answered >= 0); /* one that hangs is waited for if all do */
            status = ask_once(address, line, body, has_body, hurry ? HURRY_MS : timeout_ms, timeout_ms, a, &sent);
            sent_ever = sent_ever || (sent && status != READ_ONLY && status != FENCED);
            reached = reached || sent;
            if (answered < 0 && sent && status != NO_SERVER) answered = which;
            if (status == DONE) atomic_store(&cl->met, true);
            if (status == DONE && a->w.count > 1 &&
                slice_is(a->w.word[1], "old")) { /* perhaps another master knows better */
                answer_free(&old);
                old = *a;
                *a = (struct answer){0};
                kept = true;
                continue;
            }
            if (!status_may_pass(status)) {
                atomic_store(&cl->first, which);
                answer_free(&old);
                return status;
            }
            if (status != NO_SERVER || best == NO_SERVER) {
                best = status;
                snprintf(why, sizeof why, "%s", detail);
            }
        }
        if (answered >= 0) atomic_store(&cl->first, answered); /* who is hung is asked last */
        if (kept) { /* its words point into its line, which moves along */
            answer_free(a);
            *a = old;
            atomic_store(&cl->saw_old, true);
            return DONE;
        }
        status = best;
        if (clock_ms() > until_ms || (!reached && !was_there && !atomic_load(&cl->met) && !sent_ever)) break;
        sleep_ms(RETRY_PAUSE_MS);
    }
    if ((status == NO_SERVER || status == READ_ONLY) && !changes && has_body && ask_nodes(cl, line, a)) return DONE;
    if (changes && sent_ever && (status == NO_SERVER || status == READ_ONLY || status == FENCED))
        return fail(UNKNOWN, "%s; whether the change was made is not known: look, and repeat it if it was not", why);
    if (status == NO_SERVER) return fail(NO_SERVER, "%s; is a master running there? start one with: dfs master", why);
    return fail(status == FENCED ? READ_ONLY : status, "%s", why);
}

/* The value of a `word value` row. */
static struct slice row_value(const struct answer *a, const char *word) {
    struct slice rest = {a->body.data, a->body.length}, row, name;
    while (slice_line(&rest, &row))
        if (slice_part(&row, ' ', &name) && slice_is(name, word)) return row;
    return (struct slice){"", 0};
}

/* A request id: random, so that a repeated request is known for what it is. */
static void text_request_id(struct text *t) {
    uint8_t id[16];
    random_bytes(id, sizeof id);
    text_hex(t, id, sizeof id);
}

/* Begins a request that changes one path: VERB REQUEST PATH. */
static void change_line(struct text *line, const char *verb, const char *path) {
    text_format(line, "%s ", verb);
    text_request_id(line);
    text_byte(line, ' ');
    text_escaped(line, path, strlen(path));
}

/* ---- What the user sees while it goes on ---- */

/* How far a command is: a bar on standard error, if that is a terminal. There is one in a process; any thread adds, and
 * a thread of its own draws it, ten times a second, once half a second is over. */
static struct {
    const char *verb;
    atomic_ullong done, total, files, files_total; /* bytes, files; totals of 0 are not known */
    int64_t begun_ms;
    bool on;                 /* there is a drawer, from progress_begin to progress_end */
    pthread_t drawer;
    struct lock lock;        /* RANK_SCREEN; who has it writes to the terminal, and guards what follows */
    struct cond changed;
    bool shown, over;        /* the bar is on the screen; nothing more is to be drawn */
} progress;

static bool option_quiet;
static void (*complain_to)(const char *text); /* where complaints go that must not be written over a full screen */

/* Columns of a terminal; 80 if it does not tell. */
static int terminal_columns(int fd) {
    struct winsize size;
    return ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

/* VERB [#####.....]  42% 1.2 GiB  89.0 MiB/s  12 s left  17 of 230 files */
static void progress_draw(int64_t elapsed_ms) {
    struct text t = {0};
    uint64_t done = atomic_load(&progress.done), total = atomic_load(&progress.total);
    uint64_t files = atomic_load(&progress.files), files_total = atomic_load(&progress.files_total);
    uint64_t rate = done * 1000 / (uint64_t)(elapsed_ms > 0 ? elapsed_ms : 1);
    int columns = terminal_columns(STDERR_FILENO), width = columns >= 80 ? 24 : 10;
    text_format(&t, "%s ", progress.verb);
    if (total > 0) {
        uint64_t part = done < total ? done : total;
        int filled = (int)((double)part / (double)total * width);
        text_byte(&t, '[');
        for (int i = 0; i < width; i++) text_byte(&t, i < filled ? '#' : '.');
        text_format(&t, "] %3d%% ", (int)((double)part / (double)total * 100));
    }
    text_size(&t, done);
    text_add(&t, "  ");
    text_size(&t, rate);
    text_add(&t, "/s");
    if (total > done && rate > 0) text_format(&t, "  %" PRIu64 " s left", (total - done) / rate + 1);
    if (files_total > 1) text_format(&t, "  %" PRIu64 " of %" PRIu64 " files", files, files_total);
    if (t.length >= (size_t)columns) t.length = (size_t)columns - 1;
    struct text line = {0};
    text_byte(&line, '\r');
    text_bytes(&line, t.data, t.length);
    text_add(&line, "\033[K");
    progress.over = !sys_write(STDERR_FILENO, line.data, line.length);
    progress.shown = true;
    text_free(&line);
    text_free(&t);
}

static void *progress_drawer(void *unused) {
    enum { FIRST_MS = 500, EVERY_MS = 100 };
    int64_t next_ms = progress.begun_ms + FIRST_MS;
    (void)unused;
    lock_take(&progress.lock);
    while (!progress.over) {
        if (cond_wait_until(&progress.changed, &progress.lock, next_ms)) continue;
        progress_draw(clock_ms() - progress.begun_ms);
        next_ms = clock_ms() + EVERY_MS;
    }
    lock_drop(&progress.lock);
    return NULL;
}

/* Begins to count; progress_end follows, in the same thread, and nothing else begins before. */
static void progress_begin(const char *verb, uint64_t total, uint64_t files_total) {
    progress.verb = verb;
    atomic_store(&progress.done, 0);
    atomic_store(&progress.total, total);
    atomic_store(&progress.files, 0);
    atomic_store(&progress.files_total, files_total);
    progress.begun_ms = clock_ms();
    progress.on = !option_quiet && !complain_to && isatty(STDERR_FILENO);
    if (!progress.on) return;
    lock_init(&progress.lock, RANK_SCREEN);
    cond_init(&progress.changed);
    progress.shown = progress.over = false;
    progress.on = thread_try(&progress.drawer, progress_drawer, NULL);
}

/* Counts bytes and files that are done. */
static void progress_add(uint64_t bytes, uint64_t files) {
    atomic_fetch_add(&progress.done, bytes);
    atomic_fetch_add(&progress.files, files);
}

/* There is more to do than was known, or less: what turned out to be there already. */
static void progress_more(int64_t bytes, int64_t files) {
    atomic_fetch_add(&progress.total, (unsigned long long)bytes);
    atomic_fetch_add(&progress.files_total, (unsigned long long)files);
}

/* What moves of a chunk between progress_chunk and progress_chunk_end, in the same thread, is counted as it moves, and
 * once, however often it is sent. */
static _Thread_local struct {
    bool on;
    uint64_t moved, counted; /* bytes: in this try, and the most that any try moved */
} progress_piece;

static void progress_chunk(void) {
    progress_piece.on = progress.on;
    progress_piece.moved = progress_piece.counted = 0;
}

static void progress_moved(size_t bytes) {
    progress_piece.moved += bytes;
    if (progress_piece.moved <= progress_piece.counted) return;
    progress_add(progress_piece.moved - progress_piece.counted, 0);
    progress_piece.counted = progress_piece.moved;
}

/* A connection tells from now on what it moves of the chunk, which is tried once more. */
static void progress_watch(struct conn *c) {
    progress_piece.moved = 0;
    c->moved = progress_piece.on ? progress_moved : NULL;
}

/* The chunk is done, or given up: it was to be of so many bytes. */
static void progress_chunk_end(uint64_t bytes) {
    progress_add(bytes - (progress_piece.counted < bytes ? progress_piece.counted : bytes), 0);
    progress_piece.on = false;
}

/* Writes a text to the terminal in place of the bar, which comes again below it. */
static void progress_say(const char *text) {
    if (progress.on) lock_take(&progress.lock);
    bool written = (!progress.on || !progress.shown || sys_write(STDERR_FILENO, "\r\033[K", 4)) &&
                   sys_write(STDERR_FILENO, text, strlen(text));
    if (progress.on) {
        progress.shown = false;
        if (!written) progress.over = true; /* there is nowhere left to complain */
        lock_drop(&progress.lock);
    }
}

/* Takes the bar off the screen. */
static void progress_end(void) {
    if (!progress.on) return;
    lock_take(&progress.lock);
    progress.over = true;
    cond_broadcast(&progress.changed);
    lock_drop(&progress.lock);
    pthread_join(progress.drawer, NULL);
    progress_say("");
    progress.on = false;
    cond_free(&progress.changed);
}

/* Says what failed, why, and what to do; returns the exit code. */
static int complain(const char *what, enum status status) {
    struct text t = {0};
    text_format(&t, "dfs: %s: %s: %s\n", what, status_table[status].text, detail);
    fflush(stdout);
    if (complain_to) complain_to(t.data);
    else progress_say(t.data);
    text_free(&t);
    return (int)status;
}

/* ---- Sending chunks ---- */

/* Asks for targets if the last answer is old. */
static enum status client_targets(struct client *cl, bool fresh) {
    struct text line = {0};
    struct answer a = {0};
    struct slice rest, row;
    struct words w;
    enum status status = DONE;
    lock_take(&cl->lock);
    bool known = !fresh && cl->targets_ms != 0 && clock_ms() - cl->targets_ms < TARGETS_AGE_MS;
    int64_t now_ms = clock_ms(), since_ms = now_ms;
    for (const struct upload_open *one = cl->uploads; one; one = one->next)
        if (one->since_ms < since_ms) since_ms = one->since_ms;
    if (cl->uploads) text_format(&line, "TARGETS %" PRId64, now_ms - since_ms);
    else text_add(&line, "TARGETS -");
    if (!known) cl->told = cl->uploads != NULL;
    lock_drop(&cl->lock);
    if (known) goto out;
    status = client_ask(cl, &line, NULL, false, true, &a);
    uint32_t copies = 1;
    if (status == DONE && (a.w.count != 4 || !parse_u32(a.w.word[1], NODES_MAX, &copies)))
        status = fail(INTERNAL, "the master's answer to TARGETS is none");
    if (status == DONE) {
        lock_take(&cl->lock);
        cl->target_count = 0;
        cl->copies = (int)copies;
        cl->targets_ms = clock_ms();
        rest = (struct slice){a.body.data, a.body.length};
        while (slice_line(&rest, &row) && cl->target_count < NODES_MAX) {
            struct target *to = &cl->target[cl->target_count];
            uint32_t zone = 0;
            if (words_split(row, &w) && w.count == 4 && parse_id(w.word[0], &to->node.id) &&
                slice_copy(w.word[1], to->node.address, sizeof to->node.address) &&
                parse_u64(w.word[2], UINT64_MAX / 2, &to->used_bytes) && parse_u32(w.word[3], NODES_MAX - 1, &zone))
                cl->target_count++;
            to->zone = (int)zone;
        }
        lock_drop(&cl->lock);
    }
out:
    text_free(&line);
    answer_free(&a);
    return status;
}

/* An upload begins: from the next question for targets on, at the latest TARGETS_AGE_MS from now, the master drops no
 * chunk that was stored since. */
static void upload_begin(struct client *cl, struct upload_open *one) {
    lock_take(&cl->lock);
    *one = (struct upload_open){clock_ms(), cl->uploads};
    cl->uploads = one;
    lock_drop(&cl->lock);
}

/* It ends, well or not; a master that is not told keeps what was stored since for a while. */
static void upload_end(struct client *cl, struct upload_open *one) {
    lock_take(&cl->lock);
    struct upload_open **link = &cl->uploads;
    while (*link != one) link = &(*link)->next;
    *link = one->next;
    bool last = cl->told && !cl->uploads;
    if (last) cl->told = false;
    if (!cl->uploads) hash_set_free(&cl->sent);
    lock_drop(&cl->lock);
    if (!last) return;
    char why[DETAIL_BYTES], address[ADDRESS_MAX_BYTES + 1] = "";
    struct slice rest = slice_of(cl->masters), part;
    struct text line = {0};
    struct answer a = {0};
    bool sent = false;
    memcpy(why, detail, sizeof why);
    for (int i = atomic_load(&cl->first); i >= 0 && slice_part(&rest, ',', &part); i--)
        if (!slice_copy(part, address, sizeof address)) return;
    text_add(&line, "TARGETS -");
    ask_once(address, &line, NULL, true, HURRY_MS, HURRY_MS, &a, &sent);
    lock_take(&cl->lock);
    if (cl->uploads) cl->targets_ms = 0; /* one began meanwhile: what was said last must not be that there is none */
    lock_drop(&cl->lock);
    text_free(&line);
    answer_free(&a);
    memcpy(detail, why, sizeof detail);
}

/* Nodes that hold a chunk that is being uploaded. */
struct stored {
    uint64_t id[NODES_MAX];
    int count;
};

static bool stored_has(const struct stored *s, uint64_t id) {
    for (int i = 0; i < s->count; i++)
        if (s->id[i] == id) return true;
    return false;
}

/* Where a chunk is sent: to `first`, which passes it on along `rest`. */
struct chain {
    struct client *cl;
    char first[ADDRESS_MAX_BYTES + 1];
    struct text rest; /* ID@ADDRESS,... or "-" */
    struct stored to; /* all of them */
    int64_t asked_ms, silent_ms; /* when chain_waits was asked last, and first since something moved */
};

/* Picks the next chain for a chunk of so many bytes: nodes that lack it, the best places first. Returns its length;
 * `wanted` gets how many copies there should be in all. */
static int chain_pick(struct chain *chain, const struct stored *stored, size_t length, int *wanted) {
    struct client *cl = chain->cl;
    struct candidate nodes[NODES_MAX];
    struct node_set taken = {{0}};
    int count = 0;
    text_clear(&chain->rest);
    lock_take(&cl->lock);
    *wanted = cl->target_count < cl->copies ? cl->target_count : cl->copies;
    unsigned turn = cl->turn++;
    for (int i = 0; i < cl->target_count; i++) {
        const struct target *to = &cl->target[i];
        int busy = (int)(((unsigned)i + turn) % (unsigned)cl->target_count); /* of equals another one each time */
        nodes[i] = (struct candidate){
            .used_bytes = to->used_bytes, .busy = busy, .zone = to->zone, .target = true, .ready = true};
        if (stored_has(stored, to->node.id)) node_set_add(&taken, i);
    }
    for (int i; stored->count + count < *wanted && (i = place_target(nodes, cl->target_count, &taken)) >= 0; count++) {
        struct target *to = &cl->target[i];
        node_set_add(&taken, i);
        to->used_bytes += length;
        chain->to.id[count] = to->node.id;
        if (count == 0) {
            snprintf(chain->first, sizeof chain->first, "%s", to->node.address);
            continue;
        }
        if (count > 1) text_byte(&chain->rest, ',');
        text_id(&chain->rest, to->node.id);
        text_byte(&chain->rest, '@');
        text_add(&chain->rest, to->node.address);
    }
    lock_drop(&cl->lock);
    if (count < 2) text_add(&chain->rest, "-");
    return chain->to.count = count;
}

/* Asked when a chain does not move: whether to wait on. Slow is not dead, and dead is not slow: the master knows which,
 * and no node that it has given up is waited for. */
static bool chain_waits(void *argument) {
    struct chain *chain = argument;
    struct client *cl = chain->cl;
    int64_t now_ms = clock_ms();
    int listed = 0;
    if (now_ms - chain->asked_ms > 2 * TARGETS_AGE_MS) chain->silent_ms = now_ms; /* it moved in between */
    if (now_ms - chain->silent_ms > LINE_TIMEOUT_MS) return false;
    bool known = client_targets(cl, false) == DONE;
    chain->asked_ms = clock_ms();
    lock_take(&cl->lock);
    for (int i = 0; i < cl->target_count; i++) listed += stored_has(&chain->to, cl->target[i].node.id);
    lock_drop(&cl->lock);
    return !known || listed == chain->to.count;
}

/* Sends one chunk down a chain and notes who stored it. */
static enum status put_once(struct chain *chain, const uint8_t hash[32], const void *bytes, size_t length,
                            struct stored *stored) {
    struct conn *c;
    struct words w;
    struct slice part;
    lock_take(&chain->cl->lock);
    bool others = chain->cl->target_count > 1; /* one that hangs is not waited for */
    lock_drop(&chain->cl->lock);
    enum status status = pool_take(chain->first, NODE_PORT, others ? GREET_MS : DATA_TIMEOUT_MS, &c);
    if (status != DONE) return status;
    conn_timeout(c, TARGETS_AGE_MS);
    c->waits = chain_waits;
    c->waits_for = chain;
    progress_watch(c);
    struct text *line = conn_line(c);
    text_add(line, "PUT ");
    text_bytes(line, chain->rest.data, chain->rest.length);
    text_byte(line, ' ');
    text_u64(line, length);
    text_byte(line, ' ');
    text_hex(line, hash, 32);
    conn_line_end(c);
    status = conn_send(c, bytes, length);
    if (status == DONE) status = call_reply(c, &w);
    if (status == DONE && w.count == 2)
        while (slice_part(&w.word[1], ',', &part) && stored->count < NODES_MAX)
            if (parse_id(part, &stored->id[stored->count]) && !stored_has(stored, stored->id[stored->count]))
                stored->count++;
    c->waits = NULL;
    c->moved = NULL;
    if (status_keeps_conn(status)) pool_give(chain->first, c);
    else conn_close(c);
    return status;
}

/* Stores a chunk on as many nodes as the cluster wants before it acknowledges. Goes on to other nodes for
 * RETRY_TOTAL_MS; if by then there are fewer copies but at least one, the commit decides whether that is enough. */
static enum status client_put(struct client *cl, const uint8_t hash[32], const void *bytes, size_t length) {
    int64_t until_ms = clock_ms() + RETRY_TOTAL_MS;
    struct stored *stored = mem_alloc(sizeof *stored);
    struct chain *chain = mem_alloc(sizeof *chain);
    chain->cl = cl;
    enum status status = client_targets(cl, false);
    while (status == DONE) {
        int wanted, count = chain_pick(chain, stored, length, &wanted);
        if (count == 0 && stored->count > 0) break;
        if (count > 0) status = put_once(chain, hash, bytes, length, stored);
        else status = fail(NO_SERVER, "no node takes data now; dfs --nodes shows why");
        if (status == DONE && stored->count >= wanted) break;
        if (status == DENIED || status == BAD_REQUEST || clock_ms() > until_ms) break;
        if (status != DONE) sleep_ms(RETRY_PAUSE_MS);
        status = client_targets(cl, true);
    }
    if (stored->count > 0 && status != NO_SPACE) status = DONE; /* the commit decides whether that is enough */
    if (status == DONE) atomic_fetch_add(&cl->put_bytes, length);
    text_free(&chain->rest);
    free(chain);
    free(stored);
    return status;
}

/* ---- Upload ---- */

/* Which of these chunks the cluster has, so that they need not be sent: `have` gets a row for each. What can't be found
 * out is sent; an error says that no master can be asked. An upload must be open: from now on the master drops none of
 * them until it ends. */
static enum status client_have(struct client *cl, const uint8_t (*hash)[32], int count, bool *have) {
    struct text line = {0}, rows = {0};
    struct answer a = {0};
    struct slice row;
    char hex[65] = "";
    for (int i = 0; i < count; i++) {
        have[i] = false;
        text_hex(&rows, hash[i], 32);
        text_byte(&rows, '\n');
    }
    lock_take(&cl->lock);
    int64_t now_ms = clock_ms(), since_ms = now_ms;
    for (const struct upload_open *one = cl->uploads; one; one = one->next)
        if (one->since_ms < since_ms) since_ms = one->since_ms;
    cl->told = true;
    lock_drop(&cl->lock);
    text_format(&line, "HAVE %" PRId64, now_ms - since_ms);
    struct slice body = {rows.data, rows.length};
    enum status status = client_ask(cl, &line, &body, false, true, &a);
    if (status == DONE) {
        struct slice rest = {a.body.data, a.body.length};
        int i = 0;
        while (slice_line(&rest, &row) && row.length == 64) /* in the order that was asked for */
            for (bool found = false; i < count && !found; i++) {
                hex_write(hex, hash[i], 32);
                found = have[i] = memcmp(hex, row.at, 64) == 0;
            }
    }
    text_free(&line);
    text_free(&rows);
    answer_free(&a);
    return status == NO_SERVER || status == READ_ONLY || status == DENIED ? status : DONE;
}

/* What to upload, and how. */
struct put {
    const char *path;       /* normalized */
    const char *condition;  /* IF of COMMIT: "-", "none", or the SHA-256 that the file there must have */
    uint64_t size_hint;     /* 0: not known */
    int64_t mtime_ns;
    size_t chunk_size;
    uint32_t life_s;        /* it is gone so long after it is there; 0: never */
    bool alone;             /* relies on no other upload of its client: what failed could not be had once more */
    ssize_t (*pull)(void *source, const uint8_t **at); /* the next CHUNK_MAX_BYTES, less only at the end; -1: broken */
    void *source;           /* NULL in `pull`: a file descriptor is read */
    uint64_t size;          /* what it was, and its hash, when it is done */
    uint8_t sha256[32];
};

/* Bytes in memory, for struct put. */
struct memory_source {
    const uint8_t *at;
    size_t left;
};

static ssize_t memory_next(void *source, const uint8_t **at) {
    struct memory_source *m = source;
    size_t part = m->left < CHUNK_MAX_BYTES ? m->left : CHUNK_MAX_BYTES;
    *at = m->at;
    m->at += part;
    m->left -= part;
    return (ssize_t)part;
}

struct piece {
    uint8_t *buffer;
    uint8_t hash[32];
    uint32_t length;
};

/* One upload. The caller's thread reads and hashes; workers send. */
struct upload {
    struct client *cl;
    struct lock lock;
    struct cond changed;
    struct piece queue[WINDOW_CHUNKS]; /* waiting to be sent */
    int queued, sending;
    bool over;                         /* nothing more comes */
    bool resend;                       /* send what should be there already */
    atomic_bool spared;                /* some chunk was not sent, because it is there, or on its way */
    struct hash_set *sent, own;        /* chunks that were sent: by all uploads of the client, or by this one */
    enum status status;                /* the first error */
    char why[DETAIL_BYTES];
    struct text list;                  /* SHA256 LENGTH\n for each chunk */
    uint32_t chunk_count;
};

static void upload_failed(struct upload *u, enum status status) {
    if (u->status != DONE) return;
    u->status = status;
    memcpy(u->why, detail, sizeof u->why);
}

/* Sends one chunk, unless the cluster has it. */
static enum status upload_piece(struct upload *u, const struct piece *piece) {
    bool have = false;
    enum status status = u->resend ? DONE : client_have(u->cl, &piece->hash, 1, &have);
    if (have) atomic_store(&u->spared, true);
    return status != DONE || have ? status : client_put(u->cl, piece->hash, piece->buffer, piece->length);
}

static void *upload_worker(void *argument) {
    struct upload *u = argument;
    lock_take(&u->lock);
    for (;;) {
        while (u->queued == 0 && !u->over && u->status == DONE) {
            if (cond_wait_until(&u->changed, &u->lock, clock_ms() + UPLOAD_KEEP_MS)) continue;
            lock_drop(&u->lock);
            client_targets(u->cl, false); /* a slow source: says that this upload is still open */
            lock_take(&u->lock);
        }
        if (u->queued == 0 || u->status != DONE) break;
        struct piece piece = u->queue[0];
        u->queued--;
        memmove(u->queue, u->queue + 1, (size_t)u->queued * sizeof *u->queue);
        cond_broadcast(&u->changed);
        lock_drop(&u->lock);
        progress_chunk();
        enum status status = upload_piece(u, &piece);
        progress_chunk_end(piece.length);
        buffer_give(piece.buffer);
        lock_take(&u->lock);
        if (status != DONE) upload_failed(u, status);
        cond_broadcast(&u->changed);
    }
    lock_drop(&u->lock);
    return NULL;
}

/* Notes a chunk in the list; true if it is to be sent: none that shares what it sends with this upload has done so. */
static bool upload_note(struct upload *u, const uint8_t hash[32], size_t length) {
    text_hex(&u->list, hash, 32);
    text_byte(&u->list, ' ');
    text_u64(&u->list, length);
    text_byte(&u->list, '\n');
    u->chunk_count++;
    lock_take(&u->cl->lock);
    bool fresh = hash_set_add(u->sent, hash) || u->resend;
    lock_drop(&u->cl->lock);
    if (!fresh) atomic_store(&u->spared, true);
    return fresh;
}

/* Reads the next chunk of the source into a buffer that it takes; at the end there is none. What is pulled may take its
 * time, and no buffer is held meanwhile. */
static enum status upload_next(int fd, struct put *put, struct piece *piece) {
    const uint8_t *at = NULL;
    ssize_t got = put->pull ? put->pull(put->source, &at) : 1;
    piece->buffer = NULL;
    if (got <= 0) return got == 0 ? DONE : BAD_REQUEST; /* the source said why */
    /* A server's uploads wait for a chain of nodes, which may begin at this one: they leave buffers to it. */
    if (!(piece->buffer = buffer_take(put->alone ? 3 : 0))) return NO_SPACE;
    if (at) memcpy(piece->buffer, at, (size_t)got);
    else got = sys_read(fd, piece->buffer, put->chunk_size);
    piece->length = got > 0 ? (uint32_t)got : 0;
    if (got > 0) return DONE;
    buffer_give(piece->buffer);
    piece->buffer = NULL;
    return got == 0 ? DONE : fail(INTERNAL, "reading the file: %s", strerror(errno));
}

/* Reads the source to its end, hashing each chunk and the whole in one pass, and hands new chunks to the workers. */
static enum status upload_read(struct upload *u, int fd, struct put *put, struct sha256 *whole) {
    for (;;) {
        struct sha256 state;
        struct piece piece;
        enum status status = upload_next(fd, put, &piece);
        if (!piece.buffer) return status;
        sha256_init(&state);
        sha256_update2(&state, whole, piece.buffer, piece.length);
        sha256_final(&state, piece.hash);
        put->size += piece.length;
        if (u->chunk_count == FILE_MAX_CHUNKS) {
            buffer_give(piece.buffer);
            return fail(BAD_REQUEST, "the file has more than %u chunks; use a larger --chunk-size", FILE_MAX_CHUNKS);
        }
        bool fresh = upload_note(u, piece.hash, piece.length);
        lock_take(&u->lock);
        while (u->queued == WINDOW_CHUNKS && u->status == DONE) cond_wait(&u->changed, &u->lock);
        bool going = u->status == DONE;
        if (going && fresh) u->queue[u->queued++] = piece;
        cond_broadcast(&u->changed);
        lock_drop(&u->lock);
        if (!going || !fresh) buffer_give(piece.buffer);
        if (!going) return DONE; /* the worker's error counts */
        if (!fresh) progress_add(piece.length, 0);
        if (piece.length < put->chunk_size) return DONE;
    }
}

/* Commits the file at the master: it compares what this client says with what the nodes said. */
static enum status upload_commit(struct upload *u, const struct put *put) {
    struct text line = {0};
    struct answer a = {0};
    struct slice body = {u->list.data ? u->list.data : "", u->list.length};
    text_add(&line, "COMMIT ");
    text_request_id(&line);
    text_byte(&line, ' ');
    text_escaped(&line, put->path, strlen(put->path));
    text_byte(&line, ' ');
    text_u64(&line, put->size);
    text_byte(&line, ' ');
    text_i64(&line, put->mtime_ns);
    text_format(&line, " %s ", put->condition);
    text_hex(&line, put->sha256, 32);
    text_format(&line, " %u", put->life_s);
    enum status status = client_ask(u->cl, &line, &body, true, false, &a);
    text_free(&line);
    answer_free(&a);
    return status;
}

/* One try of an upload, from where `fd` stands. */
static enum status upload_once(struct client *cl, struct put *put, int fd, bool resend, bool *spared) {
    struct upload u = {.cl = cl, .resend = resend};
    struct sha256 whole;
    pthread_t worker[UPLOAD_WORKERS];
    struct stat before, after;
    int workers = 0, most = put->size_hint != 0 && put->size_hint <= put->chunk_size ? 1 : UPLOAD_WORKERS;
    before.st_mode = 0;
    if (!put->pull && fstat(fd, &before) != 0) return fail(INTERNAL, "reading the file: %s", strerror(errno));
    put->size = 0;
    lock_init(&u.lock, RANK_TRANSFER);
    cond_init(&u.changed);
    sha256_init(&whole);
    u.sent = put->alone ? &u.own : &cl->sent;
    while (workers < most && thread_try(&worker[workers], upload_worker, &u)) workers++;
    enum status status = workers > 0 ? upload_read(&u, fd, put, &whole) : INTERNAL;
    if (status == DONE && S_ISREG(before.st_mode) &&
        (fstat(fd, &after) != 0 || after.st_size != before.st_size || after.st_mtim.tv_sec != before.st_mtim.tv_sec ||
         after.st_mtim.tv_nsec != before.st_mtim.tv_nsec))
        status = fail(BAD_REQUEST, "the file was changed while it was read; upload it again");
    lock_take(&u.lock);
    if (status != DONE) upload_failed(&u, status);
    u.over = true;
    cond_broadcast(&u.changed);
    lock_drop(&u.lock);
    for (int i = 0; i < workers; i++) pthread_join(worker[i], NULL);
    for (int i = 0; i < u.queued; i++) buffer_give(u.queue[i].buffer);
    sha256_final(&whole, put->sha256);
    status = u.status == DONE ? upload_commit(&u, put) : fail(u.status, "%s", u.why);
    *spared = atomic_load(&u.spared);
    text_free(&u.list);
    hash_set_free(&u.own);
    cond_free(&u.changed);
    return status;
}

/* Uploads what `fd`, or put->pull, gives until its end. If chunks that were spared turn out not to be there, all are
 * sent. */
static enum status client_upload(struct client *cl, struct put *put, int fd) {
    struct upload_open open;
    bool spared = false;
    off_t begin = put->pull ? -1 : lseek(fd, 0, SEEK_CUR);
    upload_begin(cl, &open);
    enum status status = upload_once(cl, put, fd, false, &spared);
    if (status == UNAVAILABLE && spared && begin >= 0 && lseek(fd, begin, SEEK_SET) == begin)
        status = upload_once(cl, put, fd, true, &spared);
    upload_end(cl, &open);
    return status;
}

/* A file of at most one chunk from memory, without the threads that a large one wants. `put` says its size and hash;
 * `have`: the cluster has the chunk. */
static enum status client_upload_small(struct client *cl, const struct put *put, const void *bytes, bool have) {
    struct upload u = {.cl = cl};
    enum status status = DONE;
    struct upload_open open;
    u.sent = put->alone ? &u.own : &cl->sent;
    upload_begin(cl, &open);
    bool spared = put->size > 0 && (!upload_note(&u, put->sha256, (size_t)put->size) || have);
    if (put->size > 0 && !spared) status = client_put(cl, put->sha256, bytes, (size_t)put->size);
    if (status == DONE) status = upload_commit(&u, put);
    if (status == UNAVAILABLE && spared) {
        status = client_put(cl, put->sha256, bytes, (size_t)put->size);
        if (status == DONE) status = upload_commit(&u, put);
    }
    upload_end(cl, &open);
    text_free(&u.list);
    hash_set_free(&u.own);
    return status;
}

/* ---- Download ---- */

struct chunk_info {
    uint8_t hash[32];
    uint32_t length;
    bool damaged; /* the master knows of no holder, and of one that found it damaged */
    struct node_set holders; /* indexes into file_info.node */
};

/* What STAT says of a file or directory; freed by file_info_free. */
struct file_info {
    bool directory, old; /* old: the master could not be sure that this is current */
    uint64_t id, size;
    int64_t mtime_ns;
    uint8_t sha256[32];
    uint32_t expiry_s;         /* seconds since 1970; 0: never */
    struct node_address *node; /* node_count of them */
    atomic_bool failed[NODES_MAX]; /* did not send what it was asked for */
    int node_count;
    struct chunk_info *chunk;
    uint32_t chunk_count;
};

static void file_info_free(struct file_info *f) {
    free(f->node);
    free(f->chunk);
    free(f);
}

static bool file_info_row(struct file_info *f, struct slice row, uint32_t *chunks) {
    struct words w;
    struct slice part;
    uint32_t index;
    if (!words_split(row, &w)) return false;
    if (w.count == 3 && slice_is(w.word[0], "node") && f->node_count < NODES_MAX) {
        f->node = mem_resize(f->node, (size_t)(f->node_count + 1) * sizeof *f->node);
        struct node_address *node = &f->node[f->node_count++];
        return parse_id(w.word[1], &node->id) && slice_copy(w.word[2], node->address, sizeof node->address);
    }
    if (w.count != 4 || !slice_is(w.word[0], "chunk") || *chunks >= f->chunk_count) return false;
    struct chunk_info *chunk = &f->chunk[(*chunks)++];
    if (!parse_hex(w.word[1], chunk->hash, 32) || !parse_u32(w.word[2], CHUNK_MAX_BYTES, &chunk->length)) return false;
    chunk->damaged = slice_is(w.word[3], "damaged");
    if (chunk->damaged || slice_is(w.word[3], "-")) return true;
    while (slice_part(&w.word[3], ',', &part)) {
        if (f->node_count == 0 || !parse_u32(part, (uint32_t)f->node_count - 1, &index)) return false;
        node_set_add(&chunk->holders, (int)index);
    }
    return true;
}

/* OK current|old file|dir ID SIZE MTIME SHA256 CHUNKS EXPIRY LENGTH SHA256, then the rows. */
static enum status file_info_parse(const struct answer *a, struct file_info *f) {
    struct slice rest = {a->body.data, a->body.length}, row;
    uint32_t chunks = 0;
    uint64_t sum = 0;
    bool good = a->w.count == 11 && parse_u64(a->w.word[3], UINT64_MAX, &f->id) &&
                parse_u64(a->w.word[4], UINT64_MAX, &f->size) && parse_i64(a->w.word[5], &f->mtime_ns) &&
                parse_hex(a->w.word[6], f->sha256, 32) && parse_u32(a->w.word[7], FILE_MAX_CHUNKS, &f->chunk_count) &&
                parse_u32(a->w.word[8], UINT32_MAX, &f->expiry_s);
    if (!good) return fail(INTERNAL, "the master's answer to STAT is none");
    f->old = slice_is(a->w.word[1], "old");
    f->directory = slice_is(a->w.word[2], "dir");
    f->chunk = mem_alloc(f->chunk_count * sizeof *f->chunk);
    while (slice_line(&rest, &row))
        if (!file_info_row(f, row, &chunks)) return fail(INTERNAL, "a bad row in the answer to STAT");
    for (uint32_t i = 0; i < chunks; i++) sum += f->chunk[i].length;
    if (chunks != f->chunk_count || (!f->directory && sum != f->size))
        return fail(INTERNAL, "the answer to STAT lacks chunks");
    return DONE;
}

/* Forgets all copies but those of one node. */
static void file_info_only(struct file_info *f, uint64_t id) {
    struct node_set kept = {{0}};
    for (int i = 0; i < f->node_count; i++)
        if (f->node[i].id == id) node_set_add(&kept, i);
    for (uint32_t i = 0; i < f->chunk_count; i++) f->chunk[i].holders = node_set_and(&f->chunk[i].holders, &kept);
}

/* Asks what is known of a path. The caller frees `*out` with file_info_free when the status is DONE. */
static enum status client_stat(struct client *cl, const char *path, struct file_info **out) {
    struct text line = {0};
    struct answer a = {0};
    text_add(&line, "STAT ");
    text_escaped(&line, path, strlen(path));
    enum status status = client_ask(cl, &line, NULL, false, true, &a);
    *out = NULL;
    if (status == DONE) {
        struct file_info *f = mem_alloc(sizeof *f);
        status = file_info_parse(&a, f);
        if (status == DONE && cl->only != 0) file_info_only(f, cl->only);
        if (status == DONE) *out = f;
        else file_info_free(f);
    }
    text_free(&line);
    answer_free(&a);
    return status;
}

/* Reads one chunk from one node into `to`, which has room for it. Not verified. */
static enum status get_once(const char *address, const struct chunk_info *chunk, int timeout_ms, void *to) {
    struct conn *c;
    struct words w;
    uint64_t length;
    enum status status = pool_take(address, NODE_PORT, timeout_ms, &c);
    if (status != DONE) return status;
    text_add(conn_line(c), "GET ");
    text_hex(&c->out, chunk->hash, 32);
    conn_line_end(c);
    status = conn_flush(c);
    if (status == DONE) status = call_reply(c, &w);
    progress_watch(c);
    if (status == DONE) {
        if (w.count != 3 || !parse_u64(w.word[1], CHUNK_MAX_BYTES, &length) || length != chunk->length)
            status = fail(NO_SERVER, "%s sent a chunk of another length", c->peer);
        else status = conn_read_body(c, to, chunk->length);
    }
    c->moved = NULL;
    if (status_keeps_conn(status)) pool_give(address, c);
    else conn_close(c);
    return status;
}

static enum status chunk_check(const struct chunk_info *chunk, const void *bytes) {
    uint8_t digest[32];
    sha256_digest(bytes, chunk->length, digest);
    return memcmp(digest, chunk->hash, 32) == 0 ? DONE : fail(DAMAGED, "a chunk arrived damaged");
}

/* Tells a node that what it sent was damaged, so that it looks at its disk. */
static void report_damage(const char *address, const struct chunk_info *chunk) {
    struct conn *c;
    struct words w;
    char hex[65];
    hex_write(hex, chunk->hash, 32);
    hex[64] = 0;
    if (pool_take(address, NODE_PORT, DATA_TIMEOUT_MS, &c) != DONE) return;
    enum status status = call(c, &w, "VERIFY %s", hex);
    if (status_keeps_conn(status)) pool_give(address, c);
    else conn_close(c);
}

/* Reads a chunk from any holder but those in `*tried`, beginning with another one for each `turn`, and with those that
 * did not fail before; with `verify` it is checked here. Holders that were tried are added. */
static enum status get_any(struct file_info *f, uint32_t number, unsigned turn, struct node_set *tried, bool verify,
                           void *to, int *from) {
    const struct chunk_info *chunk = &f->chunk[number];
    enum status status = chunk->damaged ? fail(DAMAGED, "chunk %u of %u was found damaged wherever it was; upload the "
                                               "file again if you have it", number + 1, f->chunk_count)
                                        : fail(UNAVAILABLE, "no live node holds chunk %u of %u", number + 1,
                                               f->chunk_count);
    for (unsigned i = 0; i < 2 * (unsigned)f->node_count; i++) {
        int n = (int)((turn + i) % (unsigned)f->node_count);
        bool last = i >= (unsigned)f->node_count; /* the second time round, those that were passed over */
        if (!node_set_has(&chunk->holders, n) || node_set_has(tried, n)) continue;
        if (!last && atomic_load(&f->failed[n])) continue;
        node_set_add(tried, n);
        bool other = !last && node_set_count(&chunk->holders) > 1;
        enum status got = get_once(f->node[n].address, chunk, other ? MANY_TIMEOUT_MS : DATA_TIMEOUT_MS, to);
        if (got == NO_SERVER) atomic_store(&f->failed[n], true);
        if (got == DONE && verify && (got = chunk_check(chunk, to)) == DAMAGED)
            report_damage(f->node[n].address, chunk);
        *from = n;
        if (got == DONE) return DONE;
        if (status != DAMAGED) status = fail(got == DAMAGED ? DAMAGED : UNAVAILABLE, "%s", detail);
    }
    return status;
}

/* One download. Workers fetch a window of chunks; the caller's thread verifies and writes them in order. */
struct download {
    unsigned turn; /* which node is asked for the first chunk: another one each time, so that all are read */
    struct client *cl;
    const char *path;
    struct file_info *f;
    struct lock lock;
    struct cond changed;
    uint32_t next_fetch, next_write;
    struct { uint8_t *buffer; int from; enum status status; bool ready; } slot[WINDOW_CHUNKS];
    bool over;
};

static void *download_worker(void *argument) {
    struct download *d = argument;
    lock_take(&d->lock);
    for (;;) {
        while (!d->over && d->next_fetch < d->f->chunk_count && d->next_fetch >= d->next_write + WINDOW_CHUNKS)
            cond_wait(&d->changed, &d->lock);
        if (d->over || d->next_fetch == d->f->chunk_count) break;
        lock_drop(&d->lock);
        uint8_t *buffer = buffer_take(0); /* before a number: who has the lowest one always has a buffer */
        lock_take(&d->lock);
        if (d->over || d->next_fetch == d->f->chunk_count || d->next_fetch >= d->next_write + WINDOW_CHUNKS) {
            buffer_give(buffer);
            continue;
        }
        uint32_t number = d->next_fetch++;
        lock_drop(&d->lock);
        struct node_set tried = {{0}};
        int from = -1;
        progress_chunk();
        enum status status = buffer ? get_any(d->f, number, d->turn + number, &tried, false, buffer, &from) : NO_SPACE;
        progress_chunk_end(d->f->chunk[number].length);
        lock_take(&d->lock);
        d->slot[number % WINDOW_CHUNKS].buffer = buffer;
        d->slot[number % WINDOW_CHUNKS].from = from;
        d->slot[number % WINDOW_CHUNKS].status = status;
        d->slot[number % WINDOW_CHUNKS].ready = true;
        cond_broadcast(&d->changed);
    }
    lock_drop(&d->lock);
    return NULL;
}

/* The slow way to one chunk: every other holder, then the master is asked again who holds it, until RETRY_TOTAL_MS, or
 * until HOLDERS_WAIT_MS if it knows of none. */
static enum status download_again(struct download *d, uint32_t number, int bad, void *to) {
    enum { HOLDERS_WAIT_MS = 3000 };
    int64_t begun_ms = clock_ms(), until_ms = begun_ms + RETRY_TOTAL_MS;
    struct node_set tried = {{0}};
    int from;
    if (bad >= 0) node_set_add(&tried, bad);
    enum status status = get_any(d->f, number, d->turn + number, &tried, true, to, &from);
    while (status != DONE && clock_ms() < until_ms) {
        struct file_info *fresh = NULL;
        enum status asked = client_stat(d->cl, d->path, &fresh);
        if (asked == DONE && !fresh->directory && number < fresh->chunk_count &&
            memcmp(fresh->chunk[number].hash, d->f->chunk[number].hash, 32) == 0) {
            tried = (struct node_set){{0}};
            if (node_set_empty(&fresh->chunk[number].holders)) until_ms = begun_ms + HOLDERS_WAIT_MS;
            enum status got = get_any(fresh, number, d->turn + number, &tried, true, to, &from);
            if (got == DONE || status != DAMAGED) status = got;
        } else if (asked == DONE || asked == NOT_FOUND) {
            until_ms = 0; /* replaced or deleted, and its old bytes are gone */
        }
        if (asked == DONE) file_info_free(fresh);
        if (status != DONE && until_ms != 0) sleep_ms(RETRY_PAUSE_MS);
    }
    return status;
}

/* Checks a chunk and adds it to the whole's hash in one pass; the whole's state is only kept if the chunk is right. */
static bool download_check(const struct chunk_info *chunk, const void *bytes, struct sha256 *whole) {
    struct sha256 state, next = *whole;
    uint8_t digest[32];
    sha256_init(&state);
    sha256_update2(&state, &next, bytes, chunk->length);
    sha256_final(&state, digest);
    if (memcmp(digest, chunk->hash, 32) != 0) return false;
    *whole = next;
    return true;
}

/* Verifies and writes chunk `number`, which came with `status` from node `from`. */
static enum status download_take(struct download *d, uint32_t number, uint8_t *buffer, enum status status, int from,
                                 struct sha256 *whole, int fd) {
    const struct chunk_info *chunk = &d->f->chunk[number];
    if (!buffer) return fail(NO_SPACE, "no memory for a chunk");
    if (status == DONE && !download_check(chunk, buffer, whole)) {
        report_damage(d->f->node[from].address, chunk);
        status = DAMAGED;
    } else if (status == DONE) {
        return sys_write(fd, buffer, chunk->length)
                   ? DONE
                   : fail(status_of_errno(), "writing: %s", strerror(errno));
    }
    status = download_again(d, number, status == DAMAGED ? from : -1, buffer);
    if (status != DONE) return status;
    if (!download_check(chunk, buffer, whole)) return fail(DAMAGED, "a chunk changed in memory");
    return sys_write(fd, buffer, chunk->length)
               ? DONE
               : fail(status_of_errno(), "writing: %s", strerror(errno));
}

/* Writes the chunks from number `begin` on into `fd`, as they come from the workers; without workers it fetches them
 * itself. */
static enum status download_run(struct download *d, uint32_t begin, int workers, struct sha256 *whole, int fd) {
    enum status status = DONE;
    for (uint32_t n = begin; n < d->f->chunk_count && status == DONE; n++) {
        uint32_t at = n % WINDOW_CHUNKS;
        if (workers == 0) {
            struct node_set tried = {{0}};
            uint8_t *buffer = buffer_take(0);
            int from = -1;
            progress_chunk();
            status = buffer ? get_any(d->f, n, d->turn, &tried, false, buffer, &from) : NO_SPACE;
            status = download_take(d, n, buffer, status, from, whole, fd);
            progress_chunk_end(d->f->chunk[n].length);
            buffer_give(buffer);
            continue;
        }
        lock_take(&d->lock);
        while (!d->slot[at].ready) cond_wait(&d->changed, &d->lock);
        uint8_t *buffer = d->slot[at].buffer;
        lock_drop(&d->lock);
        status = download_take(d, n, buffer, d->slot[at].status, d->slot[at].from, whole, fd);
        buffer_give(buffer);
        lock_take(&d->lock);
        d->slot[at].ready = false;
        d->slot[at].buffer = NULL;
        d->next_write++;
        cond_broadcast(&d->changed);
        lock_drop(&d->lock);
    }
    return status;
}

/* Downloads a file that was looked up into `fd`. Only verified bytes are written, in order. The chunks before number
 * `begin` are there already, and `whole` has been through them. */
static enum status client_download(struct client *cl, const char *path, struct file_info *f, int fd, uint32_t begin,
                                   struct sha256 *whole) {
    struct download d = {.cl = cl, .path = path, .f = f, .turn = (unsigned)(random_u64() % NODES_MAX)};
    pthread_t worker[DOWNLOAD_WORKERS];
    uint8_t digest[32];
    char why[DETAIL_BYTES];
    uint32_t left = f->chunk_count - begin;
    int workers = left < 2 ? 0 : left < DOWNLOAD_WORKERS ? (int)left : DOWNLOAD_WORKERS;
    d.next_fetch = d.next_write = begin;
    lock_init(&d.lock, RANK_TRANSFER);
    cond_init(&d.changed);
    for (int i = 0; i < workers; i++) worker[i] = thread_spawn(download_worker, &d);
    enum status status = download_run(&d, begin, workers, whole, fd);
    memcpy(why, detail, sizeof why);
    lock_take(&d.lock);
    d.over = true;
    cond_broadcast(&d.changed);
    lock_drop(&d.lock);
    for (int i = 0; i < workers; i++) pthread_join(worker[i], NULL);
    for (int i = 0; i < WINDOW_CHUNKS; i++) buffer_give(d.slot[i].buffer);
    cond_free(&d.changed);
    if (status != DONE) return fail(status, "'%s': %s", shown(path), why);
    sha256_final(whole, digest);
    if (memcmp(digest, f->sha256, 32) != 0)
        return fail(DAMAGED, "'%s': the chunks are right but the whole is not", shown(path));
    return DONE;
}

/* ---- Where a download lands: beside its target, and in its place when it is whole ---- */

enum {
    LANDINGS_MAX = 64, /* downloads of one process at once */
    PART_NAME_HEX = 16,
    COPY_BYTES = 65536,
};
#define PART_MIN_BYTES (16 * MIB) /* so much of a file that has arrived stays when its download is broken off */

/* Files that are not whole yet, so that a signal can clean up. */
static struct {
    atomic_bool taken;  /* by a download, which may write `path` while it is not used */
    atomic_bool making; /* it is about to be made: a signal handler waits for that */
    atomic_bool used;   /* it is there */
    char path[PATH_MAX + 40];
} temporaries[LANDINGS_MAX];

static atomic_bool landing_over; /* the process is about to end */

struct landing {
    int fd;
    int slot;              /* in `temporaries`; -1: a pipe or a device, written as it is */
    char target[PATH_MAX];
};

/* Removes temporary files, but for those that are worth going on with. Also called by signal handlers. */
static void temporaries_clean(void) {
    static const char said[] = "\ndfs: what has arrived of a large file is kept; repeat the command to go on with it\n";
    enum { WAITS = 60, WAIT_MS = 5 }; /* this may have interrupted the very thread that it waits for */
    struct stat about;
    bool kept = false;
    atomic_store(&landing_over, true);
    for (int i = 0, waits = 0; i < LANDINGS_MAX; i++)
        for (; atomic_load(&temporaries[i].making) && waits < WAITS; waits++) sleep_ms(WAIT_MS);
    for (int i = 0; i < LANDINGS_MAX; i++) {
        if (!atomic_load(&temporaries[i].used) && !atomic_load(&temporaries[i].making)) continue;
        bool part = strstr(temporaries[i].path, "/.dfs-part-") || strncmp(temporaries[i].path, ".dfs-part-", 10) == 0;
        if (part && stat(temporaries[i].path, &about) == 0 && (uint64_t)about.st_size >= PART_MIN_BYTES) kept = true;
        else unlink(temporaries[i].path);
        atomic_store(&temporaries[i].used, false);
    }
    if (kept && write(STDERR_FILENO, said, sizeof said - 1) < 0) return;
}

/* Opens the temporary file beside the target. That of a large file has a name by which the next try finds it. */
static enum status landing_temporary(struct landing *l, const struct file_info *f, bool exists, mode_t mode) {
    struct sha256 state;
    uint8_t digest[32];
    char name[PART_NAME_HEX + 1];
    struct stat about, now;
    const char *slash = strrchr(l->target, '/');
    int folder = slash ? (int)(slash + 1 - l->target) : 0;
    for (l->slot = 0; l->slot < LANDINGS_MAX && atomic_exchange(&temporaries[l->slot].taken, true);) l->slot++;
    assert(l->slot < LANDINGS_MAX);
    char *path = temporaries[l->slot].path;
    sha256_init(&state);
    sha256_update(&state, l->target, strlen(l->target) + 1);
    sha256_update(&state, f->sha256, 32);
    sha256_final(&state, digest);
    hex_write(name, digest, PART_NAME_HEX / 2);
    name[PART_NAME_HEX] = 0;
    atomic_store(&temporaries[l->slot].making, true);
    while (atomic_load(&landing_over)) { /* a signal handler is cleaning up: nothing more is made */
        atomic_store(&temporaries[l->slot].making, false);
        pause();
    }
    if (f->size >= PART_MIN_BYTES) {
        snprintf(path, sizeof temporaries[0].path, "%.*s.dfs-part-%s", folder, l->target, name);
        l->fd = sys_open(path, O_RDWR | O_CREAT | O_NOFOLLOW, 0666);
        /* unless another process is at it, or just put it in its place */
        if (l->fd >= 0 && (flock(l->fd, LOCK_EX | LOCK_NB) != 0 || fstat(l->fd, &about) != 0 || stat(path, &now) != 0 ||
                           about.st_ino != now.st_ino || !S_ISREG(about.st_mode))) {
            close(l->fd);
            l->fd = -1;
        }
    }
    if (l->fd < 0) {
        snprintf(path, sizeof temporaries[0].path, "%.*s.dfs-%08x", folder, l->target, (unsigned)random_u64());
        l->fd = sys_open(path, O_RDWR | O_CREAT | O_EXCL, 0666);
    }
    int error = errno;
    atomic_store(&temporaries[l->slot].used, l->fd >= 0);
    atomic_store(&temporaries[l->slot].making, false);
    errno = error;
    if (l->fd >= 0 && (!exists || fchmod(l->fd, mode & 07777) == 0)) return DONE;
    if (l->fd < 0 && errno == ENOENT)
        return fail(NOT_FOUND, "the folder of %s is not there; make it first", shown(l->target));
    return fail(status_of_errno(), "writing beside %s: %s", shown(l->target), strerror(errno));
}

/* Gives the slot of a temporary file back. */
static void landing_close(struct landing *l) {
    if (l->slot >= 0) {
        atomic_store(&temporaries[l->slot].used, false);
        atomic_store(&temporaries[l->slot].taken, false);
    }
    if (l->fd > STDERR_FILENO) close(l->fd);
    l->fd = -1;
}

/* Opens what a download is written into: a temporary file in the target's folder, with the mode of the file that it
 * will replace, or standard output for "-". With `follow` what a link points to is replaced, and a device or a pipe is
 * written; else these are replaced themselves. The caller ends it by landing_finish or landing_drop, if it is DONE. */
static enum status landing_open(struct landing *l, const struct file_info *f, const char *local, bool follow) {
    struct stat about;
    *l = (struct landing){.fd = -1, .slot = -1};
    if (strcmp(local, "-") == 0) {
        l->fd = STDOUT_FILENO;
        return DONE;
    }
    bool exists = (follow ? stat(local, &about) : lstat(local, &about)) == 0, link = exists && S_ISLNK(about.st_mode);
    if (strlen(local) >= PATH_MAX) return fail(BAD_REQUEST, "%s: the path is too long", shown(local));
    if (!exists || !follow || !realpath(local, l->target)) snprintf(l->target, PATH_MAX, "%s", local);
    if (exists && S_ISDIR(about.st_mode)) return fail(WRONG_KIND, "%s is a folder", shown(local));
    if (link || (!follow && exists && !S_ISREG(about.st_mode))) exists = false; /* it is replaced */
    if (exists && !S_ISREG(about.st_mode)) { /* a device or a pipe is written as it is */
        l->fd = sys_open(l->target, O_WRONLY, 0);
        return l->fd >= 0 ? DONE : fail(status_of_errno(), "%s: %s", shown(l->target), strerror(errno));
    }
    enum status status = landing_temporary(l, f, exists, about.st_mode);
    if (status == DONE) return DONE;
    if (l->fd >= 0) unlink(temporaries[l->slot].path);
    landing_close(l);
    return status;
}

/* How many chunks are there already, of an earlier try; `whole` goes through them. */
static uint32_t landing_resume(struct landing *l, const struct file_info *f, struct sha256 *whole) {
    struct stat about;
    uint32_t count = 0;
    uint64_t offset = 0;
    if (l->slot < 0 || fstat(l->fd, &about) != 0 || about.st_size == 0) return 0;
    uint8_t *buffer = buffer_take(0);
    for (; buffer && count < f->chunk_count; count++) {
        const struct chunk_info *chunk = &f->chunk[count];
        if (!sys_pread(l->fd, buffer, chunk->length, offset) || !download_check(chunk, buffer, whole)) break;
        offset += chunk->length;
    }
    buffer_give(buffer);
    progress_more(-(int64_t)offset, 0);
    if (sys_truncate(l->fd, offset) && lseek(l->fd, (off_t)offset, SEEK_SET) == (off_t)offset) return count;
    sha256_init(whole);
    lseek(l->fd, 0, SEEK_SET);
    return 0;
}

/* A file's time in nanoseconds, as far as they go: from 1677 to 2262. */
static int64_t time_ns(struct timespec t) {
    const int64_t most_s = INT64_MAX / 1000000000 - 1;
    int64_t seconds = t.tv_sec > most_s ? most_s : t.tv_sec < -most_s ? -most_s : (int64_t)t.tv_sec;
    return seconds * 1000000000 + t.tv_nsec;
}

static void time_split(int64_t ns, struct timespec *to) {
    *to = (struct timespec){ns / 1000000000, (long)(ns % 1000000000)};
    if (to->tv_nsec < 0) to->tv_nsec += 1000000000, to->tv_sec--;
}

/* Puts the finished file in the target's place, with its time. */
static enum status landing_finish(struct landing *l, int64_t mtime_ns) {
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}};
    enum status status = DONE;
    time_split(mtime_ns, &times[1]);
    int fd = l->fd, lock = -1; /* its lock holds until it is in place */
    l->fd = -1;
    bool good = true;
    if (l->slot >= 0) {
        lock = fcntl(fd, F_DUPFD_CLOEXEC, 0);
        off_t end = lseek(fd, 0, SEEK_CUR);
        good = end >= 0 && sys_truncate(fd, (uint64_t)end); /* an earlier try may have left more */
        futimens(fd, times); /* a file system without times still has the contents */
    }
    if (fd > STDERR_FILENO) good = close(fd) == 0 && good;
    if (!good || (l->slot >= 0 && sys_rename(temporaries[l->slot].path, l->target) != 0)) {
        status = fail(status_of_errno(), "%s: %s", shown(l->target), strerror(errno));
        if (l->slot >= 0) unlink(temporaries[l->slot].path);
    }
    if (lock >= 0) close(lock);
    landing_close(l);
    return status;
}

/* Gives up. What has arrived of a large file stays for the next try, if that may want it. */
static void landing_drop(struct landing *l, bool keep) {
    struct stat about;
    bool part = keep && l->slot >= 0 && strstr(temporaries[l->slot].path, ".dfs-part-") && fstat(l->fd, &about) == 0 &&
                (uint64_t)about.st_size >= PART_MIN_BYTES;
    if (part && !option_quiet)
        fprintf(stderr, "dfs: what has arrived is kept in %s; repeat the command to go on with it\n",
                shown(temporaries[l->slot].path));
    if (l->slot >= 0 && !part) unlink(temporaries[l->slot].path);
    landing_close(l);
}

/* Downloads a file that was looked up into the local file `local`, or to standard output. */
static enum status fetch_once(struct client *cl, const char *path, struct file_info *f, const char *local,
                              bool follow) {
    struct landing l;
    struct sha256 whole;
    struct file_info *fresh;
    char why[DETAIL_BYTES];
    enum status status = landing_open(&l, f, local, follow);
    if (status != DONE) return status;
    sha256_init(&whole);
    uint32_t begin = landing_resume(&l, f, &whole);
    status = client_download(cl, path, f, l.fd, begin, &whole);
    if (status == DONE) return landing_finish(&l, f->mtime_ns);
    memcpy(why, detail, sizeof why);
    bool replaced = false;
    if ((status == UNAVAILABLE || status == DAMAGED) && client_stat(cl, path, &fresh) == DONE) {
        replaced = memcmp(fresh->sha256, f->sha256, 32) != 0;
        file_info_free(fresh);
    }
    bool again = replaced && l.slot >= 0;
    landing_drop(&l, !replaced);
    /* FENCED: there is a newer version, and this one's bytes are gone */
    return fail(again ? FENCED : status, "%s", why);
}

/* Downloads the file `path` into the local file `local`, or to standard output. It is replaced only by a whole version;
 * `follow`: if it is a link, what it points to is. `*out` is what the file was then; the caller frees it, if this is
 * DONE, and is NULL else. */
static enum status client_fetch(struct client *cl, const char *path, const char *local, bool follow,
                                struct file_info **out) {
    enum { TRIES = 5 };
    enum status status = FENCED;
    for (int turn = 0; turn < TRIES && status == FENCED; turn++) {
        status = client_stat(cl, path, out);
        if (status != DONE) return status;
        status = (*out)->directory ? fail(WRONG_KIND, "'%s' is a directory", shown(path))
                                   : fetch_once(cl, path, *out, local, follow);
        if (status == DONE) return DONE;
        file_info_free(*out);
        *out = NULL;
    }
    return status == FENCED ? fail(UNAVAILABLE, "'%s' is replaced all the time", shown(path)) : status;
}

/* ---- Directories ---- */

/* One row of LIST. */
struct list_row {
    bool directory;
    bool itself; /* what was listed is a file, and this is it */
    uint64_t id, size;
    int64_t mtime_ns;
    uint32_t copies;
    uint8_t sha256[32];
    char name[NAME_MAX_BYTES + 1];
};

/* Calls `each` for every entry of a directory, or for the file itself. */
static enum status client_list(struct client *cl, const char *path, const char *holder,
                               void (*each)(void *, const struct list_row *), void *context) {
    struct text line = {0};
    struct answer a = {0};
    struct list_row row = {.name = ""};
    struct slice rest, text_row;
    struct words w;
    enum status status = DONE;
    for (bool more = true; more && status == DONE;) {
        text_clear(&line);
        text_add(&line, "LIST ");
        text_escaped(&line, path, strlen(path));
        text_byte(&line, ' ');
        text_escaped(&line, row.name, strlen(row.name));
        text_byte(&line, ' ');
        if (holder) text_escaped(&line, holder, strlen(holder));
        else text_byte(&line, '-');
        status = client_ask(cl, &line, NULL, false, true, &a);
        if (status != DONE) break;
        more = a.w.count == 6 && slice_is(a.w.word[3], "more");
        rest = (struct slice){a.body.data, a.body.length};
        while (slice_line(&rest, &text_row)) {
            if (!words_split(text_row, &w) || w.count != 7 || !parse_u64(w.word[1], UINT64_MAX, &row.id) ||
                !parse_u64(w.word[2], UINT64_MAX, &row.size) || !parse_i64(w.word[3], &row.mtime_ns) ||
                !parse_u32(w.word[4], NODES_MAX, &row.copies) || !parse_hex(w.word[5], row.sha256, 32) ||
                !parse_escaped(w.word[6], row.name, sizeof row.name) || strchr(row.name, '/') ||
                strcmp(row.name, ".") == 0 || strcmp(row.name, "..") == 0) {
                status = fail(INTERNAL, "a row of LIST that is none");
                break;
            }
            row.directory = slice_is(w.word[0], "dir");
            row.itself = slice_is(a.w.word[2], "file");
            if (!holder || row.directory || row.copies > 0) each(context, &row);
        }
    }
    text_free(&line);
    answer_free(&a);
    return status;
}

/* Rows of one directory, kept while its entries are gone through. */
struct list_rows {
    struct list_row *row;
    size_t count, capacity;
};

static void list_keep(void *context, const struct list_row *row) {
    struct list_rows *rows = context;
    if (rows->count == rows->capacity) {
        rows->capacity = rows->capacity ? rows->capacity * 2 : 16;
        rows->row = mem_resize(rows->row, rows->capacity * sizeof *rows->row);
    }
    rows->row[rows->count++] = *row;
}

/* A row of NODES. */
struct node_row {
    uint64_t id, files, chunks, bytes, free_bytes, total_bytes, damaged, transfers, sent, received, left;
    uint64_t born_s, started_s; /* its first and its last start, in seconds since 1970; 0: not known */
    int64_t ping_ms; /* how long ago its last ping came; -1: it never did */
    char id_text[17], name[LABEL_MAX_BYTES + 1], address[ADDRESS_MAX_BYTES + 1], state[16];
    char zone[LABEL_MAX_BYTES + 1], version[LABEL_MAX_BYTES + 1];
};

static bool node_row_parse(struct slice row, struct node_row *n) {
    struct words w;
    uint64_t *const numbers[] = {&n->files, &n->chunks, &n->bytes, &n->free_bytes, &n->total_bytes, &n->damaged,
                                 &n->transfers};
    if (!words_split(row, &w) || w.count != NODE_ROW_WORDS || !parse_id(w.word[0], &n->id) ||
        !slice_copy(w.word[0], n->id_text, sizeof n->id_text) ||
        !parse_escaped(w.word[1], n->name, sizeof n->name) || !slice_copy(w.word[2], n->address, sizeof n->address) ||
        !slice_copy(w.word[3], n->state, sizeof n->state) || !parse_i64(w.word[4], &n->ping_ms))
        return false;
    for (int i = 0; i < 7; i++)
        if (!parse_u64(w.word[5 + i], UINT64_MAX, numbers[i])) return false;
    return parse_escaped(w.word[12], n->zone, sizeof n->zone) &&
           slice_copy(w.word[13], n->version, sizeof n->version) && parse_u64(w.word[14], UINT64_MAX, &n->sent) &&
           parse_u64(w.word[15], UINT64_MAX, &n->received) && parse_u64(w.word[16], UINT64_MAX, &n->left) &&
           parse_u64(w.word[17], UINT32_MAX, &n->born_s) && parse_u64(w.word[18], UINT32_MAX, &n->started_s);
}

/* The client's folder for what it can do without: ~/.cache/dfs. False if there is no such place. */
static bool cache_folder(char folder[PATH_MAX]) {
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    if (cache && *cache) snprintf(folder, PATH_MAX, "%s/dfs", cache);
    else if (home && *home) snprintf(folder, PATH_MAX, "%s/.cache/dfs", home);
    else return false;
    return true;
}

/* Makes that folder, and ~/.cache if this is the first program that uses it. What fails is seen by who writes there. */
static void cache_folder_make(const char *folder) {
    char above[PATH_MAX];
    snprintf(above, sizeof above, "%s", folder);
    *strrchr(above, '/') = 0;
    mkdir(above, 0700);
    mkdir(folder, 0700);
}

/* FOLDER/NAME; the caller frees it. */
static char *path_join(const char *folder, const char *name) {
    size_t length = strlen(folder);
    bool slash = length > 0 && folder[length - 1] != '/';
    char *path = mem_alloc(length + strlen(name) + 2);
    memcpy(path, folder, length);
    if (slash) path[length++] = '/';
    memcpy(path + length, name, strlen(name) + 1);
    return path;
}

/* Goes through a remote directory and all below it: a directory before what is in it, entries by their names. Recursion
 * is as deep as the tree. */
static enum status client_walk(struct client *cl, const char *path, const char *holder,
                               void (*each)(void *, const char *path, const struct list_row *), void *context) {
    struct list_rows rows = {0};
    enum status status = client_list(cl, path, holder, list_keep, &rows);
    for (size_t i = 0; i < rows.count && status == DONE; i++) {
        char *below = rows.row[i].itself ? path_join("", path) : path_join(path, rows.row[i].name);
        each(context, below, &rows.row[i]);
        if (rows.row[i].directory) status = client_walk(cl, below, holder, each, context);
        if (status == NOT_FOUND) status = DONE; /* it went away meanwhile */
        free(below);
    }
    free(rows.row);
    return status;
}

/* Reads a whole local file of `size` bytes, as it was found, into `buffer`, and its SHA-256. */
static enum status file_hash(int fd, uint64_t size, uint8_t *buffer, size_t capacity, uint8_t sha256[32]) {
    struct sha256 state;
    uint64_t left = size;
    sha256_init(&state);
    for (ssize_t got = 1; got > 0;) {
        got = sys_read(fd, buffer, capacity);
        if (got < 0) return fail(INTERNAL, "reading it: %s", strerror(errno));
        sha256_update(&state, buffer, (size_t)got);
        left -= (uint64_t)got <= left ? (uint64_t)got : left + 1;
        if ((size_t)got < capacity) break;
    }
    if (left != 0) return fail(BAD_REQUEST, "it was changed while it was read; do it again");
    sha256_final(&state, sha256);
    return DONE;
}

/* ---- The cache: contents by their SHA-256, and what was known of a path and when ---- */

/* What the cache knows of a path: a file in ~/.cache/dfs/names whose line is PATH SIZE MTIME SHA256 WHEN. */
struct cached {
    char folder[PATH_MAX], name[20], content[PATH_MAX + 80];
    uint64_t size;
    int64_t mtime_ns, when_ms, asked_ms; /* when it was so; when the read that goes on began */
    uint8_t sha256[32];
    bool known;
};

static bool cached_line(struct slice line, const char *path, struct cached *c) {
    struct words w;
    char of[PATH_MAX_BYTES + 1];
    return words_split(line, &w) && w.count == 5 && parse_escaped(w.word[0], of, sizeof of) && strcmp(of, path) == 0 &&
           parse_u64(w.word[1], UINT64_MAX, &c->size) && parse_i64(w.word[2], &c->mtime_ns) &&
           parse_hex(w.word[3], c->sha256, 32) && parse_i64(w.word[4], &c->when_ms);
}

static void cached_content(struct cached *c, const uint8_t sha256[32]) {
    char hex[65] = "";
    memcpy(c->sha256, sha256, 32);
    hex_write(hex, sha256, 32);
    snprintf(c->content, sizeof c->content, "%s/files/%s", c->folder, hex);
}

/* Looks a path up. False if there is no place for a cache. */
static bool cache_look(const struct client *cl, const char *path, struct cached *c) {
    struct sha256 state;
    uint8_t digest[32];
    struct text note = {0};
    struct slice rest, line;
    char file[PATH_MAX + 40];
    *c = (struct cached){.known = false};
    if (!cache_folder(c->folder)) return false;
    sha256_init(&state);
    sha256_update(&state, cl->masters, strlen(cl->masters) + 1);
    sha256_update(&state, path, strlen(path));
    sha256_final(&state, digest);
    hex_write(c->name, digest, 8);
    snprintf(file, sizeof file, "%s/names/%s", c->folder, c->name);
    if (access(file, F_OK) == 0 && file_read(file, LINE_MAX_BYTES, &note) == DONE) {
        rest = (struct slice){note.data, note.length};
        c->known = slice_line(&rest, &line) && cached_line(line, path, c);
    }
    if (c->known) cached_content(c, c->sha256);
    text_free(&note);
    return true;
}

/* Whether a path may be read from the cache without asking anybody. */
static bool cached_is_fresh(const struct client *cl, const struct cached *c) {
    int64_t age_ms = clock_wall_ns() / 1000000 - c->when_ms;
    return c->known && age_ms >= 0 && age_ms < cl->cache_ttl_ms && access(c->content, R_OK) == 0;
}

static bool cache_is_fresh(const struct client *cl, const char *path) {
    struct cached c;
    return cl->cache_on && cl->only == 0 && cache_look(cl, path, &c) && cached_is_fresh(cl, &c);
}

/* Notes what a path is now. */
static void cache_note(const char *path, const struct cached *c) {
    char folder[PATH_MAX + 8];
    struct text line = {0};
    snprintf(folder, sizeof folder, "%s/names", c->folder);
    text_escaped(&line, path, strlen(path));
    text_format(&line, " %" PRIu64 " %" PRId64 " ", c->size, c->mtime_ns);
    text_hex(&line, c->sha256, 32);
    text_format(&line, " %" PRId64 "\n", c->asked_ms);
    file_write(folder, c->name, line.data, line.length, 0600); /* if not, the next read asks again */
    text_free(&line);
}

/* Forgets what is known of a path and all below it: this client changed something there. */
static void cache_forget(const struct client *cl, const char *path) {
    char folder[PATH_MAX], names[PATH_MAX + 8], of[PATH_MAX_BYTES + 1];
    size_t length = strlen(path);
    (void)cl;
    if (!cache_folder(folder)) return;
    snprintf(names, sizeof names, "%s/names", folder);
    DIR *dir = opendir(names);
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        char *file = path_join(names, entry->d_name);
        struct text note = {0};
        struct words w;
        struct slice rest, line;
        bool gone = entry->d_name[0] != '.' && file_read(file, LINE_MAX_BYTES, &note) == DONE;
        rest = (struct slice){note.data, note.length};
        gone = gone && slice_line(&rest, &line) && words_split(line, &w) && parse_escaped(w.word[0], of, sizeof of) &&
               strncmp(of, path, length) == 0 && (of[length] == 0 || of[length] == '/' || length == 1);
        if (gone) unlink(file);
        text_free(&note);
        free(file);
    }
    if (dir) closedir(dir);
}

/* Removes contents that were not used for longest, until all of them together are not larger than they may be. */
static void cache_trim(const struct client *cl, const struct cached *c) {
    char files[PATH_MAX + 8];
    snprintf(files, sizeof files, "%s/files", c->folder);
    for (;;) {
        char *oldest = NULL;
        struct stat about;
        uint64_t sum = 0;
        int64_t oldest_ns = INT64_MAX;
        DIR *dir = opendir(files);
        for (struct dirent *entry; dir && (entry = readdir(dir));) {
            char *file = path_join(files, entry->d_name);
            bool counts = lstat(file, &about) == 0 && S_ISREG(about.st_mode);
            if (counts) sum += (uint64_t)about.st_size;
            if (counts && time_ns(about.st_mtim) < oldest_ns) {
                oldest_ns = time_ns(about.st_mtim);
                free(oldest);
                oldest = file;
            } else {
                free(file);
            }
        }
        if (dir) closedir(dir);
        bool more = oldest && sum > cl->cache_bytes && unlink(oldest) == 0;
        free(oldest);
        if (!more) return;
    }
}

/* Whether a content of the cache is what its name says; it is removed if not. */
static bool cache_verify(const struct cached *c) {
    uint8_t digest[32], *buffer = mem_alloc(COPY_BYTES);
    int fd = sys_open(c->content, O_RDONLY, 0);
    bool good = fd >= 0 && file_hash(fd, c->size, buffer, COPY_BYTES, digest) == DONE &&
                memcmp(digest, c->sha256, 32) == 0;
    if (fd >= 0) close(fd);
    if (!good) unlink(c->content);
    free(buffer);
    return good;
}

/* Copies a content of the cache to where it was asked for. DAMAGED if it is not what its name says; it is gone then. */
static enum status cache_copy(const struct cached *c, const char *local) {
    struct landing l;
    struct sha256 state;
    struct file_info *f = mem_alloc(sizeof *f);
    uint8_t digest[32], *buffer = mem_alloc(COPY_BYTES);
    uint64_t left = c->size;
    memcpy(f->sha256, c->sha256, 32);
    int fd = sys_open(c->content, O_RDONLY, 0);
    enum status status = fd >= 0 ? landing_open(&l, f, local, true) : fail(DAMAGED, "it is not in the cache any more");
    bool opened = fd >= 0 && status == DONE;
    if (opened && l.slot < 0 && !cache_verify(c)) status = fail(DAMAGED, "its copy in the cache is damaged");
    sha256_init(&state);
    while (status == DONE && left > 0) {
        size_t piece = left < COPY_BYTES ? (size_t)left : COPY_BYTES;
        if (sys_read(fd, buffer, piece) != (ssize_t)piece) status = fail(DAMAGED, "it is cut");
        else if (!sys_write(l.fd, buffer, piece)) status = fail(status_of_errno(), "writing: %s", strerror(errno));
        sha256_update(&state, buffer, piece);
        progress_add(piece, 0);
        left -= piece;
    }
    sha256_final(&state, digest);
    if (status == DONE && memcmp(digest, c->sha256, 32) != 0)
        status = fail(DAMAGED, "its copy in the cache is damaged");
    if (status == DAMAGED) unlink(c->content);
    if (status == DONE) {
        futimens(fd, NULL); /* used just now */
        status = landing_finish(&l, c->mtime_ns);
    } else if (opened) {
        landing_drop(&l, false);
    }
    if (fd >= 0) close(fd);
    free(buffer);
    free(f);
    return status;
}

/* As client_fetch, but from the cache if there is one and that may be: within its time without a question, behind it
 * with one. To standard output nothing goes that may turn out to be damaged: a content is read once before. */
static enum status cache_fetch(struct client *cl, const char *path, const char *local, struct file_info **out) {
    *out = NULL;
    struct cached c;
    char files[PATH_MAX + 8];
    if (!cl->cache_on || cl->only != 0 || !cache_look(cl, path, &c)) return client_fetch(cl, path, local, true, out);
    c.asked_ms = clock_wall_ns() / 1000000;
    struct file_info *f = mem_alloc(sizeof *f);
    bool fresh = cached_is_fresh(cl, &c);
    if (!fresh) {
        file_info_free(f);
        enum status status = client_stat(cl, path, &f);
        if (status != DONE) return status;
        if (f->directory || f->size > cl->cache_bytes) {
            file_info_free(f);
            return client_fetch(cl, path, local, true, out);
        }
        c.size = f->size;
        c.mtime_ns = f->mtime_ns;
        cached_content(&c, f->sha256);
    }
    f->size = c.size;
    f->mtime_ns = c.mtime_ns;
    memcpy(f->sha256, c.sha256, 32);
    cache_folder_make(c.folder);
    snprintf(files, sizeof files, "%s/names", c.folder);
    mkdir(files, 0700);
    snprintf(files, sizeof files, "%s/files", c.folder);
    mkdir(files, 0700);
    if (access(files, W_OK) != 0) { /* no place for a cache: then without one */
        file_info_free(f);
        return client_fetch(cl, path, local, true, out);
    }
    enum status status = access(c.content, R_OK) == 0 ? cache_copy(&c, local) : DAMAGED;
    if (status == DAMAGED) { /* it is not there: fetched, and copied from there */
        file_info_free(f);
        fresh = false;
        status = client_fetch(cl, path, c.content, true, &f);
        if (status == NO_SPACE) return client_fetch(cl, path, local, true, out);
        if (status != DONE) return status;
        c.size = f->size;
        c.mtime_ns = f->mtime_ns;
        if (memcmp(c.sha256, f->sha256, 32) != 0) { /* another version by now */
            char *old = path_join("", c.content);
            cached_content(&c, f->sha256);
            if (sys_rename(old, c.content) != 0) unlink(old);
            free(old);
        }
        status = cache_copy(&c, local);
        cache_trim(cl, &c);
    }
    if (status == DONE && !fresh && !f->old) cache_note(path, &c);
    if (status == DONE) *out = f;
    else file_info_free(f);
    return status;
}

/* ---- Whole folders, up and down ---- */

enum {
    CREW_MAX = 16,      /* files under way at once */
    JOBS_MAX = 16384,   /* files that were found and wait */
    LARGE_MAX = 2,      /* files of several chunks at once: each takes up to a dozen chunk buffers */
    BATCH_FILES = 16,   /* small files that one worker takes at once, to ask for all of them which the cluster has */
    EXCLUDES_MAX = 64,
};

struct folder_options {
    bool delete;       /* what is not in the source goes from the target */
    void (*would)(const char *action, const char *path, bool directory); /* is told what else was done; NULL: do it */
    bool follow_links;
    bool no_clobber;
    size_t chunk_size;
    uint32_t life_s;   /* of what is uploaded; 0: for ever */
    const char *exclude[EXCLUDES_MAX]; /* patterns, for names, or with a slash for paths below the folder */
    int exclude_count;
};

/* One file or directory to be looked at. */
struct job {
    char *local, *remote;      /* its own */
    bool directory, there;     /* there: the target has one of this kind */
    uint64_t size, there_size;
    int64_t mtime_ns, there_mtime_ns;
    uint8_t sha256[32];        /* of the remote file */
};

/* One transfer of a folder. The caller's thread walks through the source and finds jobs; workers do them. */
struct crew {
    struct client *cl;
    const struct folder_options *how;
    void (*work)(struct crew *, struct job **, int count, uint8_t *buffer);
    size_t local_base, remote_base;    /* lengths of the folder's own paths */
    atomic_ullong sent, sent_bytes, same, skipped, failed, removed;
    atomic_bool stopped;               /* the rest would fail as well */
    struct lock lock;                  /* RANK_TRANSFER; guards the rest */
    struct cond changed;
    struct job **queue;                /* a ring of JOBS_MAX */
    int head, queued, large;
    bool over;                         /* nothing more comes */
    enum status status;                /* the first error */
    struct text times;                 /* download: local folders whose times are set at the end: 8 bytes, path, NUL */
    struct text doomed;                /* what --delete removes at the end: paths, each with its NUL */
};

static void job_free(struct job *j) {
    free(j->local);
    free(j->remote);
    free(j);
}

/* Says what could not be done. The transfer goes on with the next file, if that may fare better; after an error of the
 * cluster that all others would meet as well it stops. */
static void crew_failed(struct crew *c, const char *what, enum status status) {
    bool hopeless = status == NO_SERVER || status == READ_ONLY || status == DENIED || status == NO_SPACE;
    if (atomic_load(&c->stopped) && hopeless) return; /* that was said already */
    if (hopeless) fail(status, "%.900s; the rest was not looked at: repeat the command", detail);
    complain(shown(what), status);
    atomic_fetch_add(&c->failed, 1);
    if (hopeless) atomic_store(&c->stopped, true);
    lock_take(&c->lock);
    if (c->status == DONE) c->status = status;
    cond_broadcast(&c->changed);
    lock_drop(&c->lock);
}

/* The same for a local file: others may be better off. */
static void crew_failed_here(struct crew *c, const char *what, const char *why) {
    enum status status = status_of_errno();
    fail(status, "%s: %s", why, strerror(errno));
    complain(shown(what), status);
    atomic_fetch_add(&c->failed, 1);
    lock_take(&c->lock);
    if (c->status == DONE) c->status = status;
    lock_drop(&c->lock);
}

/* Says what is passed over. */
static void crew_skips(struct crew *c, const char *what, const char *why) {
    atomic_fetch_add(&c->skipped, 1);
    if (option_quiet) return;
    struct text t = {0};
    text_format(&t, "dfs: skipped %s: %s\n", shown(what), why);
    progress_say(t.data);
    text_free(&t);
}

/* Whether a name, or the path below the folder, is left out by --exclude. */
static bool crew_excludes(const struct crew *c, const char *below, const char *name) {
    while (*below == '/') below++;
    for (int i = 0; i < c->how->exclude_count; i++)
        if (fnmatch(c->how->exclude[i], strchr(c->how->exclude[i], '/') ? below : name, FNM_PATHNAME) == 0) return true;
    return false;
}

/* Hands a job to the workers, who free it. */
static void crew_add(struct crew *c, struct job *j) {
    if (!j->directory) progress_more((int64_t)j->size, 1);
    lock_take(&c->lock);
    while (c->queued == JOBS_MAX && !atomic_load(&c->stopped)) cond_wait(&c->changed, &c->lock);
    if (c->queued < JOBS_MAX) {
        c->queue[(c->head + c->queued++) % JOBS_MAX] = j;
        j = NULL;
    }
    cond_broadcast(&c->changed);
    lock_drop(&c->lock);
    if (j) job_free(j);
}

/* Takes the next job, or several if they are small; large ones only while there are few. Returns 0 at the end. */
static int crew_take(struct crew *c, struct job **taken) {
    int count = 0;
    uint64_t bytes = 0;
    lock_take(&c->lock);
    for (;;) {
        bool may = c->queued > 0 && (c->large < LARGE_MAX || c->queue[c->head]->size <= CHUNK_MAX_BYTES);
        if (may || (c->over && c->queued == 0) || atomic_load(&c->stopped)) break;
        cond_wait(&c->changed, &c->lock);
    }
    while (c->queued > 0 && !atomic_load(&c->stopped)) {
        struct job *j = c->queue[c->head];
        if (count > 0 && (count == BATCH_FILES || bytes + j->size > MIB)) break;
        taken[count++] = j;
        bytes += j->size;
        c->head = (c->head + 1) % JOBS_MAX;
        c->queued--;
        if (c->queued < 4 * BATCH_FILES) break; /* the end is near: something for everybody */
    }
    if (count > 0 && taken[0]->size > CHUNK_MAX_BYTES) c->large++;
    cond_broadcast(&c->changed);
    lock_drop(&c->lock);
    return count;
}

static void *crew_main(void *argument) {
    struct crew *c = argument;
    struct job *taken[BATCH_FILES];
    uint8_t *buffer = mem_alloc(CHUNK_MAX_BYTES);
    for (int count; (count = crew_take(c, taken)) > 0;) {
        c->work(c, taken, count, buffer);
        lock_take(&c->lock);
        c->large -= taken[0]->size > CHUNK_MAX_BYTES;
        cond_broadcast(&c->changed);
        lock_drop(&c->lock);
        for (int i = 0; i < count; i++) job_free(taken[i]);
    }
    free(buffer);
    return NULL;
}

/* Walks by `walk` while the workers work, then waits for them. */
static enum status crew_run(struct crew *c, void (*walk)(struct crew *, const char *, const char *), const char *local,
                            const char *remote) {
    pthread_t worker[CREW_MAX];
    c->queue = mem_alloc(JOBS_MAX * sizeof *c->queue);
    lock_init(&c->lock, RANK_TRANSFER);
    cond_init(&c->changed);
    for (int i = 0; i < CREW_MAX; i++) worker[i] = thread_spawn(crew_main, c);
    walk(c, local, remote);
    lock_take(&c->lock);
    c->over = true;
    cond_broadcast(&c->changed);
    lock_drop(&c->lock);
    for (int i = 0; i < CREW_MAX; i++) pthread_join(worker[i], NULL);
    while (c->queued > 0) {
        job_free(c->queue[c->head]);
        c->head = (c->head + 1) % JOBS_MAX;
        c->queued--;
    }
    free(c->queue);
    cond_free(&c->changed);
    return c->status;
}

/* Whether a file is of a download under way, or broken off: neither uploaded nor removed. */
static bool is_temporary(const char *name) {
    if (strncmp(name, ".dfs-", 5) != 0) return false;
    bool part = strncmp(name, ".dfs-part-", 10) == 0;
    size_t digits = part ? PART_NAME_HEX : 8, begin = part ? 10 : 5;
    return strlen(name) == begin + digits && strspn(name + begin, "0123456789abcdef") == digits;
}

static int names_compare(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Entries of a local folder, sorted by their bytes as the cluster does; the caller frees them. */
static enum status folder_names(const char *folder, char ***names, size_t *count) {
    size_t capacity = 0;
    DIR *dir = opendir(*folder ? folder : "/");
    *names = NULL;
    *count = 0;
    if (!dir) return fail(status_of_errno(), "%s: %s", shown(folder), strerror(errno));
    errno = 0;
    for (struct dirent *entry; (entry = readdir(dir)); errno = 0) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        if (is_temporary(entry->d_name)) continue;
        if (*count == capacity) {
            capacity = capacity ? 2 * capacity : 64;
            *names = mem_resize(*names, capacity * sizeof **names);
        }
        (*names)[(*count)++] = path_join("", entry->d_name);
    }
    enum status status = errno == 0 ? DONE : fail(status_of_errno(), "%s: %s", shown(folder), strerror(errno));
    int error = errno;
    closedir(dir);
    errno = error;
    if (*count > 0) qsort(*names, *count, sizeof **names, names_compare);
    return status;
}

static void names_free(char **names, size_t count) {
    for (size_t i = 0; i < count; i++) free(names[i]);
    free(names);
}

/* Sets the time of a remote file or directory. */
static enum status client_touch(struct client *cl, const char *path, int64_t mtime_ns) {
    struct text line = {0};
    struct answer a = {0};
    change_line(&line, "TOUCH", path);
    text_byte(&line, ' ');
    text_i64(&line, mtime_ns);
    enum status status = client_ask(cl, &line, NULL, true, false, &a);
    text_free(&line);
    answer_free(&a);
    return status;
}

/* A request that changes one path: VERB REQUEST PATH. */
static enum status client_change(struct client *cl, const char *verb, const char *path) {
    struct text line = {0};
    struct answer a = {0};
    change_line(&line, verb, path);
    enum status status = client_ask(cl, &line, NULL, true, false, &a);
    text_free(&line);
    answer_free(&a);
    return status;
}

/* What is the same on both sides but for its time gets that. */
static void upload_same(struct crew *c, const struct job *j) {
    enum status status = DONE;
    atomic_fetch_add(&c->same, 1);
    progress_more(-(int64_t)j->size, 0);
    progress_add(0, 1);
    if (j->mtime_ns == j->there_mtime_ns || c->how->no_clobber) return;
    if (c->how->would) c->how->would("touch", j->remote, j->directory);
    else status = client_touch(c->cl, j->remote, j->mtime_ns);
    if (status != DONE) crew_failed(c, j->remote, status);
}

static void upload_directory(struct crew *c, struct job *j) {
    enum status status = DONE;
    if (c->how->would) {
        if (!j->there) c->how->would("make", j->remote, true);
        return;
    }
    if (!j->there) status = client_change(c->cl, "MKDIR", j->remote);
    if (status == EXISTS) status = DONE; /* a file in it came first */
    if (status == DONE && !(j->there && c->how->no_clobber)) status = client_touch(c->cl, j->remote, j->mtime_ns);
    if (status != DONE) crew_failed(c, j->remote, status);
}

static int job_open(struct crew *c, const struct job *j) {
    int fd = sys_open(j->local, O_RDONLY | (c->how->follow_links ? 0 : O_NOFOLLOW), 0);
    if (fd < 0) crew_failed_here(c, j->local, "opening it");
    return fd;
}

static void upload_done(struct crew *c, const struct job *j, const struct put *put, enum status status) {
    if (status != DONE) {
        crew_failed(c, j->local, status);
        return;
    }
    atomic_fetch_add(&c->sent, 1);
    atomic_fetch_add(&c->sent_bytes, put->size);
}

/* Whether what a file is now has to be sent; if not, that is seen to. */
static bool upload_wanted(struct crew *c, const struct job *j, const struct put *put) {
    bool same = j->there && j->there_size == put->size && memcmp(j->sha256, put->sha256, 32) == 0;
    if (same && (put->life_s == 0 || c->how->no_clobber)) {
        upload_same(c, j);
        return false;
    }
    if (j->there && c->how->no_clobber) {
        crew_failed(c, j->remote, fail(EXISTS, "it is there with another content, and stays"));
        return false;
    }
    if (c->how->would) c->how->would("upload", j->remote, false);
    return !c->how->would;
}

/* A file that is sent as it is read. If the target has one of its size, it is read once more before. */
static void upload_large(struct crew *c, struct job *j, uint8_t *buffer) {
    struct put put = {.path = j->remote, .condition = c->how->no_clobber ? "none" : "-", .size_hint = j->size,
                      .mtime_ns = j->mtime_ns, .chunk_size = c->how->chunk_size, .size = j->size,
                      .life_s = c->how->life_s};
    enum status status = DONE;
    int fd = job_open(c, j);
    if (fd < 0) return;
    if (j->there && j->there_size == j->size) status = file_hash(fd, j->size, buffer, CHUNK_MAX_BYTES, put.sha256);
    if (status == DONE && upload_wanted(c, j, &put)) {
        if (lseek(fd, 0, SEEK_SET) == 0) status = client_upload(c->cl, &put, fd);
        else status = fail(INTERNAL, "reading it: %s", strerror(errno));
        upload_done(c, j, &put, status);
        progress_add(0, 1);
    } else if (status != DONE) {
        crew_failed(c, j->local, status);
    }
    close(fd);
}

/* Small files, all of them together not larger than the buffer: they are read, what is the same is left out, one
 * question tells which chunks the cluster has, and each is sent and committed. */
static void upload_small(struct crew *c, struct job **jobs, int count, uint8_t *buffer) {
    struct put put[BATCH_FILES];
    uint8_t hash[BATCH_FILES][32], *bytes[BATCH_FILES];
    bool have[BATCH_FILES];
    struct job *wanted[BATCH_FILES];
    int left = 0;
    for (int i = 0; i < count; i++) {
        struct job *j = jobs[i];
        int fd = job_open(c, j);
        if (fd < 0) continue;
        put[left] = (struct put){.path = j->remote, .condition = c->how->no_clobber ? "none" : "-", .size = j->size,
                                 .mtime_ns = j->mtime_ns, .life_s = c->how->life_s};
        enum status read = file_hash(fd, j->size, buffer, (size_t)j->size + 1, put[left].sha256);
        close(fd);
        if (read != DONE) crew_failed(c, j->local, read);
        if (read != DONE || !upload_wanted(c, j, &put[left])) continue;
        memcpy(hash[left], put[left].sha256, 32);
        bytes[left] = buffer;
        buffer += j->size;
        wanted[left++] = j;
    }
    enum status status = left > 0 ? client_have(c->cl, hash, left, have) : DONE;
    if (status != DONE) crew_failed(c, wanted[0]->local, status);
    for (int i = 0; i < left && !atomic_load(&c->stopped); i++) {
        progress_chunk();
        upload_done(c, wanted[i], &put[i], client_upload_small(c->cl, &put[i], bytes[i], have[i]));
        progress_chunk_end(put[i].size);
        progress_add(0, 1);
    }
}

static void upload_work(struct crew *c, struct job **jobs, int count, uint8_t *buffer) {
    struct job *small[BATCH_FILES];
    int smalls = 0;
    for (int i = 0; i < count; i++) {
        if (jobs[i]->directory) upload_directory(c, jobs[i]);
        else if (jobs[i]->size >= c->how->chunk_size || jobs[i]->size >= MIB) upload_large(c, jobs[i], buffer);
        else small[smalls++] = jobs[i];
    }
    if (smalls > 0) upload_small(c, small, smalls, buffer);
}

/* The folders above the one that is walked through, so that links in a circle are seen. */
struct ancestor {
    const struct ancestor *above;
    dev_t dev;
    ino_t ino;
};

/* Notes what --delete is to remove from the target, at the end. */
static void crew_doom(struct crew *c, const char *folder, size_t base, const char *name) {
    char *path = path_join(folder, name);
    if (c->how->delete && !crew_excludes(c, path + base, name)) text_bytes(&c->doomed, path, strlen(path) + 1);
    free(path);
}

/* Looks at one entry of a local folder; `row` is what the cluster has by that name, or NULL. The caller gets the job,
 * or NULL if there is nothing to do. */
static struct job *upload_find(struct crew *c, const char *folder, const char *remote, const char *name,
                               const struct list_row *row, const struct ancestor *above, struct ancestor *inner) {
    struct stat about;
    struct job *j = mem_alloc(sizeof *j);
    j->local = path_join(folder, name);
    j->remote = path_join(remote, name);
    const char *why = NULL;
    int failed = c->how->follow_links ? stat(j->local, &about) : lstat(j->local, &about);
    bool excluded = crew_excludes(c, j->local + c->local_base, name);
    if (failed && !excluded) crew_failed_here(c, j->local, "looking at it");
    if (!failed && !excluded) {
        *inner = (struct ancestor){above, about.st_dev, about.st_ino};
        j->directory = S_ISDIR(about.st_mode);
        j->size = j->directory ? 0 : (uint64_t)about.st_size;
        j->mtime_ns = time_ns(about.st_mtim);
        if (S_ISLNK(about.st_mode)) why = "a symbolic link; --follow-links takes what it points to";
        else if (!j->directory && !S_ISREG(about.st_mode)) why = "neither a file nor a folder";
        for (const struct ancestor *up = above; up && j->directory; up = up->above)
            if (up->dev == about.st_dev && up->ino == about.st_ino) why = "a link to a folder that it is in";
        if (why) crew_skips(c, j->local, why);
    }
    if (failed || excluded || why) {
        job_free(j);
        return NULL;
    }
    if (!row) return j;
    if (row->directory != j->directory) {
        crew_failed(c, j->local,
                    fail(WRONG_KIND, "'%s' is a %s", shown(j->remote), row->directory ? "directory" : "file"));
        job_free(j);
        return NULL;
    }
    j->there = true;
    j->there_size = row->size;
    j->there_mtime_ns = row->mtime_ns;
    memcpy(j->sha256, row->sha256, 32);
    return j;
}

/* Goes through a local folder beside the remote directory, if there is one. Recursion is as deep as the folders are. */
static void upload_folder(struct crew *c, const char *local, const char *remote, bool there,
                          const struct ancestor *above) {
    char **names;
    size_t count, r = 0;
    struct list_rows rows = {0};
    enum status status = folder_names(local, &names, &count);
    if (status != DONE) crew_failed_here(c, local, "reading the folder");
    else if (there && (status = client_list(c->cl, remote, NULL, list_keep, &rows)) != DONE)
        crew_failed(c, remote, status);
    for (size_t i = 0; i < count && status == DONE && !atomic_load(&c->stopped); i++) {
        struct ancestor inner;
        for (; r < rows.count && strcmp(rows.row[r].name, names[i]) < 0; r++)
            crew_doom(c, remote, c->remote_base, rows.row[r].name);
        bool found = r < rows.count && strcmp(rows.row[r].name, names[i]) == 0;
        struct job *j = upload_find(c, local, remote, names[i], found ? &rows.row[r] : NULL, above, &inner);
        r += found;
        if (j && j->directory) upload_folder(c, j->local, j->remote, j->there, &inner);
        if (j && j->directory && j->there && j->mtime_ns == j->there_mtime_ns) job_free(j);
        else if (j) crew_add(c, j);
    }
    for (; r < rows.count && status == DONE; r++) crew_doom(c, remote, c->remote_base, rows.row[r].name);
    names_free(names, count);
    free(rows.row);
}

static void upload_walk(struct crew *c, const char *local, const char *remote) {
    struct stat about;
    struct file_info *f = NULL;
    enum status status = client_stat(c->cl, remote, &f);
    bool there = status == DONE, same = false;
    if (stat(local, &about) != 0) crew_failed_here(c, local, "looking at it");
    else if (there && !f->directory)
        crew_failed(c, local, fail(WRONG_KIND, "%s is a folder, '%s' a file", shown(local), shown(remote)));
    else if (!there && status != NOT_FOUND) crew_failed(c, remote, status);
    else {
        struct ancestor top = {NULL, about.st_dev, about.st_ino};
        same = there && f->mtime_ns == time_ns(about.st_mtim);
        upload_folder(c, local, remote, there, &top);
        if (strcmp(remote, "/") != 0 && !same && !atomic_load(&c->stopped)) {
            struct job *j = mem_alloc(sizeof *j);
            *j = (struct job){.local = path_join(local, ""), .remote = path_join("", remote), .directory = true,
                              .there = there, .mtime_ns = time_ns(about.st_mtim)};
            crew_add(c, j);
        }
    }
    if (there) file_info_free(f);
}

/* What is not in a listing may be there all the same if no master stands for it. */
static enum status crew_may_remove(const struct crew *c) {
    if (c->doomed.length == 0 || !atomic_load(&c->cl->saw_old)) return c->status;
    return fail(READ_ONLY,
                "what the cluster has is possibly old, so nothing is removed; repeat it when a master reigns");
}

/* Removes a directory and all in it; one that is too large for that, entry by entry. */
static enum status client_remove_all(struct client *cl, const char *path) {
    struct list_rows rows = {0};
    enum status status = client_change(cl, "RMALL", path);
    if (status != BAD_REQUEST || strcmp(path, "/") == 0) return status;
    status = client_list(cl, path, NULL, list_keep, &rows);
    for (size_t i = 0; i < rows.count && status == DONE; i++) {
        char *below = path_join(path, rows.row[i].name);
        status = client_remove_all(cl, below);
        if (status == NOT_FOUND) status = DONE; /* somebody else was quicker */
        free(below);
    }
    free(rows.row);
    return status == DONE ? client_change(cl, "RMALL", path) : status;
}

/* Uploads what is in a folder into a remote directory: only what differs is sent. Goes on after errors; returns the
 * first. `c` has cl, how and the bases' lengths set, and counts what was done. */
static enum status client_upload_folder(struct crew *c, const char *local, const char *remote) {
    struct upload_open open;
    c->work = upload_work;
    c->local_base = strlen(local);
    c->remote_base = strlen(remote);
    upload_begin(c->cl, &open);
    enum status status = crew_run(c, upload_walk, local, remote);
    upload_end(c->cl, &open);
    if (status == DONE && (status = crew_may_remove(c)) != DONE) crew_failed(c, remote, status);
    if (status == DONE && atomic_load(&c->same) > 0 && atomic_load(&c->cl->saw_old))
        crew_failed(c, remote,
                    status = fail(READ_ONLY, "what is there is possibly old; repeat it when a master reigns"));
    for (size_t at = 0; at < c->doomed.length && status == DONE; at += strlen(c->doomed.data + at) + 1) {
        const char *path = c->doomed.data + at;
        if (c->how->would) c->how->would("remove", path, false);
        else if ((status = client_remove_all(c->cl, path)) == NOT_FOUND) status = DONE; /* somebody was quicker */
        if (status != DONE) crew_failed(c, path, status);
        atomic_fetch_add(&c->removed, status == DONE);
    }
    text_free(&c->doomed);
    return c->status;
}

/* Removes a local file, or a folder with all in it. */
static enum status local_remove_all(const char *path) {
    struct stat about;
    char **names;
    size_t count;
    if (lstat(path, &about) != 0) return fail(status_of_errno(), "%s", strerror(errno));
    if (!S_ISDIR(about.st_mode)) return unlink(path) == 0 ? DONE : fail(status_of_errno(), "%s", strerror(errno));
    enum status status = folder_names(path, &names, &count);
    for (size_t i = 0; i < count && status == DONE; i++) {
        char *below = path_join(path, names[i]);
        status = local_remove_all(below);
        free(below);
    }
    names_free(names, count);
    if (status == DONE && rmdir(path) != 0) status = fail(status_of_errno(), "%s", strerror(errno));
    return status;
}

/* Whether a local file is the remote one already; its time is set if it is. */
static bool download_is_same(struct crew *c, const struct job *j, uint8_t *buffer) {
    uint8_t sha256[32];
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}};
    if (!j->there || j->there_size != j->size) return false;
    int fd = sys_open(j->local, O_RDONLY, 0);
    bool same = fd >= 0 && file_hash(fd, j->size, buffer, CHUNK_MAX_BYTES, sha256) == DONE &&
                memcmp(sha256, j->sha256, 32) == 0;
    if (fd >= 0) close(fd);
    if (!same) return false;
    atomic_fetch_add(&c->same, 1);
    progress_more(-(int64_t)j->size, 0);
    progress_add(0, 1);
    time_split(j->mtime_ns, &times[1]);
    if (j->mtime_ns != j->there_mtime_ns && !c->how->would && !c->how->no_clobber)
        utimensat(AT_FDCWD, j->local, times, 0);
    return true;
}

static void download_work(struct crew *c, struct job **jobs, int count, uint8_t *buffer) {
    struct file_info *f;
    for (int i = 0; i < count && !atomic_load(&c->stopped); i++) {
        struct job *j = jobs[i];
        if (download_is_same(c, j, buffer)) continue;
        enum status status = DONE;
        if (j->there && c->how->no_clobber) status = fail(EXISTS, "it is there with another content, and stays");
        else if (c->how->would) c->how->would("download", j->remote, false);
        else status = client_fetch(c->cl, j->remote, j->local, false, &f);
        if (status != DONE) {
            crew_failed(c, j->remote, status);
        } else if (!c->how->would) {
            atomic_fetch_add(&c->sent, 1);
            atomic_fetch_add(&c->sent_bytes, f->size);
            file_info_free(f);
        }
        progress_add(0, 1);
    }
}

/* Makes the local folder for a remote directory, and notes the time that it is to have. False if that can't be. */
static bool download_make(struct crew *c, const char *local, int64_t mtime_ns, bool top) {
    struct stat about;
    /* a link below the top may lead out of the folder */
    bool there = (top ? stat(local, &about) : lstat(local, &about)) == 0;
    if (there && !S_ISDIR(about.st_mode)) {
        crew_failed(c, local, fail(WRONG_KIND, "it is no folder, and a directory is to come there"));
        return false;
    }
    if (!there && c->how->would) c->how->would("make", local, true);
    if (!there && !c->how->would && mkdir(local, 0777) != 0) {
        crew_failed_here(c, local, "making it");
        return false;
    }
    if (there && c->how->no_clobber) return true;
    text_bytes(&c->times, &mtime_ns, sizeof mtime_ns);
    text_bytes(&c->times, local, strlen(local) + 1);
    return true;
}

/* Notes what is in a local folder and not among these rows. */
static void download_doom(struct crew *c, const char *local, const struct list_rows *rows) {
    char **names;
    size_t count, r = 0;
    struct stat about;
    if (!c->how->delete || stat(local, &about) != 0) return;
    enum status status = folder_names(local, &names, &count);
    if (status != DONE) crew_failed_here(c, local, "reading the folder");
    for (size_t i = 0; i < count && status == DONE; i++) {
        while (r < rows->count && strcmp(rows->row[r].name, names[i]) < 0) r++;
        if (r == rows->count || strcmp(rows->row[r].name, names[i]) != 0)
            crew_doom(c, local, c->local_base, names[i]);
    }
    names_free(names, count);
}

/* Goes through a remote directory and finds jobs. Recursion is as deep as the tree. */
static void download_folder(struct crew *c, const char *local, const char *remote) {
    struct list_rows rows = {0};
    struct stat about;
    enum status status = client_list(c->cl, remote, NULL, list_keep, &rows);
    if (status != DONE) crew_failed(c, remote, status);
    else download_doom(c, local, &rows);
    for (size_t i = 0; i < rows.count && status == DONE && !atomic_load(&c->stopped); i++) {
        const struct list_row *row = &rows.row[i];
        struct job *j = mem_alloc(sizeof *j);
        *j = (struct job){.local = path_join(local, row->name), .remote = path_join(remote, row->name),
                          .directory = row->directory, .size = row->size, .mtime_ns = row->mtime_ns};
        memcpy(j->sha256, row->sha256, 32);
        if (crew_excludes(c, j->remote + c->remote_base, row->name)) {
            job_free(j);
            continue;
        }
        if (row->directory) {
            if (download_make(c, j->local, row->mtime_ns, false)) download_folder(c, j->local, j->remote);
            job_free(j);
            continue;
        }
        j->there = lstat(j->local, &about) == 0 && !(S_ISLNK(about.st_mode) && !c->how->no_clobber);
        if (j->there) {
            j->there_size = S_ISREG(about.st_mode) ? (uint64_t)about.st_size : UINT64_MAX;
            j->there_mtime_ns = time_ns(about.st_mtim);
        }
        crew_add(c, j);
    }
    free(rows.row);
}

/* Downloads what is in a remote directory into a local folder; only what differs moves. As client_upload_folder. */
static enum status client_download_folder(struct crew *c, const char *local, const char *remote, int64_t mtime_ns) {
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}};
    c->work = download_work;
    c->local_base = strlen(local);
    c->remote_base = strcmp(remote, "/") == 0 ? 0 : strlen(remote);
    enum status status =
        download_make(c, local, mtime_ns, true) ? crew_run(c, download_folder, local, remote) : c->status;
    if (status == DONE && (status = crew_may_remove(c)) != DONE) crew_failed(c, remote, status);
    for (size_t at = 0; at < c->doomed.length && status == DONE; at += strlen(c->doomed.data + at) + 1) {
        const char *path = c->doomed.data + at;
        if (c->how->would) c->how->would("remove", path, false);
        else if ((status = local_remove_all(path)) == NOT_FOUND) status = DONE;
        if (status != DONE) crew_failed_here(c, path, "removing it");
        atomic_fetch_add(&c->removed, status == DONE);
    }
    for (size_t at = 0; at < c->times.length && !c->how->would;) { /* when nothing is written into them any more */
        memcpy(&mtime_ns, c->times.data + at, sizeof mtime_ns);
        const char *path = c->times.data + at + sizeof mtime_ns;
        time_split(mtime_ns, &times[1]);
        if (mtime_ns != 0) utimensat(AT_FDCWD, path, times, 0); /* the root of the cluster has no time */
        at += sizeof mtime_ns + strlen(path) + 1;
    }
    text_free(&c->times);
    text_free(&c->doomed);
    return c->status;
}

/* Remote paths, each its own; freed by paths_free. */
struct paths {
    char **path;
    size_t count, capacity;
};

static void paths_add(struct paths *list, const char *path) {
    if (list->count == list->capacity) {
        list->capacity = list->capacity ? 2 * list->capacity : 16;
        list->path = mem_resize(list->path, list->capacity * sizeof *list->path);
    }
    list->path[list->count++] = path_join("", path);
}

static void paths_free(struct paths *list) {
    names_free(list->path, list->count);
    *list = (struct paths){0};
}

/* Asks for one MV or CP. */
static enum status move_once(struct client *cl, const char *verb, const char *from, const char *to) {
    struct text line = {0};
    struct answer a = {0};
    change_line(&line, verb, from);
    text_byte(&line, ' ');
    text_escaped(&line, to, strlen(to));
    enum status status = client_ask(cl, &line, NULL, true, false, &a);
    text_free(&line);
    answer_free(&a);
    cache_forget(cl, to);
    if (*verb == 'M') cache_forget(cl, from);
    return status;
}

/* MV or CP of one path, into TO if that is a directory, or if `inside` says that it must be; `to` gets where it is. */
static enum status move_one(struct client *cl, const char *verb, const char *from, char to[PATH_MAX_BYTES + 1],
                            bool inside) {
    enum status status = inside ? EXISTS : move_once(cl, verb, from, to);
    if (!inside && (status == EXISTS || status == WRONG_KIND)) { /* TO is a directory, or else it is not possible */
        char why[DETAIL_BYTES];
        struct file_info *f = NULL;
        memcpy(why, detail, sizeof why);
        inside = client_stat(cl, to, &f) == DONE && f->directory;
        if (f) file_info_free(f);
        memcpy(detail, why, sizeof detail);
    }
    if (!inside) return status;
    char *into = path_join(to, strrchr(from, '/') + 1);
    status = path_normalize(into, to);
    free(into);
    return status == DONE ? move_once(cl, verb, from, to) : status;
}

/* What was removed and can be taken back. */
struct trash_row {
    bool directory;
    uint64_t size, expiry_s;  /* when it will be gone for good, in seconds since 1970 */
    char path[PATH_MAX_BYTES + 1];
};

/* Calls `each` for all that is in the trash. */
static enum status client_trash(struct client *cl, void (*each)(void *, const struct trash_row *), void *context) {
    struct text line = {0}, place = {0}; /* place: where the next answer goes on */
    struct answer a = {0};
    struct trash_row found;
    enum status status = DONE;
    text_add(&place, "0 %");
    do {
        text_clear(&line);
        text_format(&line, "TRASH %s", place.data);
        text_clear(&place);
        status = client_ask(cl, &line, NULL, false, true, &a);
        struct slice rest = {a.body.data, a.body.length}, row;
        struct words words;
        if (status == DONE && a.w.count != 6) status = fail(INTERNAL, "the master's answer to TRASH is none");
        if (status == DONE && !slice_is(a.w.word[3], "%")) {
            text_bytes(&place, a.w.word[2].at, a.w.word[2].length);
            text_byte(&place, ' ');
            text_bytes(&place, a.w.word[3].at, a.w.word[3].length);
        }
        while (status == DONE && slice_line(&rest, &row)) {
            if (!words_split(row, &words) || words.count != 5 || !parse_u64(words.word[2], UINT64_MAX, &found.size) ||
                !parse_u64(words.word[3], UINT32_MAX, &found.expiry_s) ||
                !parse_escaped(words.word[4], found.path, sizeof found.path))
                continue;
            found.directory = slice_is(words.word[0], "dir");
            each(context, &found);
        }
    } while (status == DONE && place.length > 0);
    text_free(&line);
    text_free(&place);
    answer_free(&a);
    return status;
}

/* A link as SHARES lists it. */
struct share_row {
    char token[2 * TOKEN_BYTES + 1];
    uint64_t expiry_s; /* 0: never */
    uint64_t id;       /* of the file, if SHARED said it */
    char path[PATH_MAX_BYTES + 1];
};

/* Calls `each` for every link, in the order of their tokens. */
static enum status client_shares(struct client *cl, void (*each)(void *context, const struct share_row *row),
                                 void *context) {
    struct text line = {0};
    struct answer a = {0};
    struct share_row found = {.token = "-"};
    enum status status;
    bool more;
    do {
        text_clear(&line);
        text_format(&line, "SHARES %s", found.token);
        status = client_ask(cl, &line, NULL, false, true, &a);
        more = status == DONE && slice_is(a.w.word[2], "more");
        struct slice rest = {a.body.data, a.body.length}, row;
        struct words words;
        while (status == DONE && slice_line(&rest, &row)) {
            if (!words_split(row, &words) || words.count != 3 || !slice_copy(words.word[0], found.token, 33) ||
                !parse_u64(words.word[1], UINT32_MAX, &found.expiry_s) ||
                !parse_escaped(words.word[2], found.path, sizeof found.path))
                status = fail(INTERNAL, "a bad row in the answer to SHARES");
            else each(context, &found);
        }
    } while (status == DONE && more);
    text_free(&line);
    answer_free(&a);
    return status;
}

/* A new name for a link. */
static void token_make(char token[2 * TOKEN_BYTES + 1]) {
    uint8_t bytes[TOKEN_BYTES];
    random_bytes(bytes, sizeof bytes);
    hex_write(token, bytes, TOKEN_BYTES);
    token[2 * TOKEN_BYTES] = 0;
}

/* Makes a link to a file, for so many seconds, 0 for ever; `token` is one that token_make made. */
static enum status client_share(struct client *cl, const char *path, uint32_t life_s, const char *token) {
    struct text line = {0};
    struct answer a = {0};
    change_line(&line, "SHARE", path);
    text_format(&line, " %s %u", token, life_s);
    enum status status = client_ask(cl, &line, NULL, true, false, &a);
    text_free(&line);
    answer_free(&a);
    return status;
}

/* Ends a link of a file, or with NULL all that it has. */
static enum status client_unshare(struct client *cl, const char *path, const char *token) {
    struct text line = {0};
    struct answer a = {0};
    change_line(&line, "UNSHARE", path);
    text_byte(&line, ' ');
    if (token) text_escaped(&line, token, strlen(token));
    else text_byte(&line, '-');
    enum status status = client_ask(cl, &line, NULL, true, false, &a);
    text_free(&line);
    answer_free(&a);
    return status;
}

/* Which file a link is of, and when it ends. */
static enum status client_shared(struct client *cl, const char *token, struct share_row *found) {
    struct text line = {0};
    struct answer a = {0};
    text_add(&line, "SHARED ");
    text_escaped(&line, token, strlen(token));
    enum status status = client_ask(cl, &line, NULL, false, true, &a);
    struct slice rest = {a.body.data, a.body.length}, row;
    snprintf(found->token, sizeof found->token, "%s", token);
    if (status == DONE && (a.w.count != 6 || !parse_u64(a.w.word[2], UINT32_MAX, &found->expiry_s) ||
                           !parse_u64(a.w.word[3], UINT64_MAX, &found->id) || !slice_line(&rest, &row) ||
                           !parse_escaped(row, found->path, sizeof found->path)))
        status = fail(INTERNAL, "the answer to SHARED is none");
    text_free(&line);
    answer_free(&a);
    return status;
}

/* Makes a link to made->path, with a token that it makes. When it ends is what the master says, whose clock counts; if
 * it says nothing any more, what this machine's clock says. */
static enum status client_share_new(struct client *cl, struct share_row *made, uint32_t life_s) {
    struct share_row found;
    token_make(made->token);
    enum status status = client_share(cl, made->path, life_s, made->token);
    made->expiry_s = life_s == 0 ? 0 : clock_wall_s() + life_s;
    if (status == DONE && client_shared(cl, made->token, &found) == DONE) made->expiry_s = found.expiry_s;
    return status;
}

/* A request about a member: VERB REQUEST NODE [ARGUMENT]. */
static enum status member_ask(struct client *cl, const char *verb, const char *name, const char *argument) {
    struct text line = {0};
    struct answer a = {0};
    text_format(&line, "%s ", verb);
    text_request_id(&line);
    text_byte(&line, ' ');
    text_escaped(&line, name, strlen(name));
    if (argument) text_format(&line, " %s", argument);
    enum status status = client_ask(cl, &line, NULL, true, false, &a);
    text_free(&line);
    answer_free(&a);
    return status;
}

/* ======== 12. Node ======== */
/* A node's handlers and its threads: the link that joins a master and pings it, the reporter that tells the master what
 * is on this disk. Lock: node.lock (RANK_CLUSTER) guards the tree, the promise and the link's state; it is held while a
 * record is appended and applied, so that their orders are the same, and never across a sync or the network.
 * Entry points: node_main. */

/* The connection to one of the masters that this node knows: it joins and pings them all, and obeys the one that it
 * promised its epoch to. */
struct link {
    char address[ADDRESS_MAX_BYTES + 1];
    bool up;
    uint64_t master, session; /* its id, and what it calls this connection */
    uint64_t epoch;           /* of its reign; 0: it has none */
};

struct node {
    struct lock lock;
    struct store store;      /* has its own lock, below this one */
    struct tree tree;
    struct tree loading;     /* a snapshot that is being installed */
    bool loading_used;
    uint32_t loading_next;   /* number of its next part */
    struct place loading_place; /* where it begins in the log */
    uint64_t loading_bytes;
    uint64_t id, instance;   /* instance: of this process, to tell a restart from a second process */
    char name[LABEL_MAX_BYTES + 1], zone[LABEL_MAX_BYTES + 1], listen[64];
    uint64_t started_s;      /* when this process began, in seconds since 1970 */
    int64_t ping_ms, dead_after_ms;
    struct link links[MASTERS_MAX];
    int link_count;
    int64_t bound_for_ms;    /* the longest dead-after of this node and all masters: so long counts a sign of life */
    int64_t heard_ms;        /* when the master that was promised to gave its last sign of life; none is promised
                              * anything before dead-after has passed since then */
    uint64_t stream;         /* connection of the last PROMISE: records and snapshots come on no other */
    int report_fd;           /* connection on which a REPORT is under way; -1: none */
    atomic_int transfers;

    uint64_t scrub_rate;     /* bytes in a second; 0: only when asked to */
    atomic_llong scrub_ms;   /* what was not checked since then is read now; 0: nothing is */
    atomic_ullong scrubbed;  /* bytes */

    atomic_bool faults_allowed; /* by the master that it joined last */
    atomic_bool paused;         /* faults on purpose: see node_fault */
    atomic_int slow_ms;
    atomic_bool dropping;       /* drop_from is not "" */
    char drop_from[ADDRESS_MAX_BYTES + 1];

    struct lock reports_lock; /* RANK_REPORTS */
    struct cond report;
    struct text reports;     /* lines of REPORT not sent yet */
    bool inventory_due;      /* everything is to be reported from the start */

    struct position current; /* until hold_until_ms the tree is current if it ends here; guarded by lock, as the tree */
    int64_t hold_until_ms, position_ms; /* position_ms: when that was asked last */
};

static struct node node;

/* The link to the master that this node promised its epoch to; NULL if it is down. */
static struct link *node_followed(void) {
    lock_check(&node.lock);
    for (int i = 0; i < node.link_count; i++) {
        struct link *link = &node.links[i];
        if (link->up && link->master == node.store.promised_to && node.store.promised != 0) return link;
    }
    return NULL;
}

/* How much later than --ping the next ping goes out, so that not all nodes' come at once; earlier, if otherwise the
 * master might have to wait longer for it than for dead-after. */
static int64_t node_spread_ms(void) {
    int64_t spread_ms = (int64_t)(random_u64() % (uint64_t)(node.ping_ms / 8 + 1));
    return 2 * node.dead_after_ms >= 5 * node.ping_ms ? spread_ms : -spread_ms;
}

/* How long this node still keeps its promise to the master that it gave it to, though that one is silent; 0: it is free
 * to promise to another. */
static int64_t node_bound_ms(void) {
    lock_check(&node.lock);
    int64_t left_ms = node.heard_ms + node.bound_for_ms - clock_ms();
    return node.store.promised == 0 || left_ms < 0 ? 0 : left_ms;
}

/* ---- Faults on purpose ---- */

/* Whether what comes from `address` is dropped: it is the one given, or begins with it and a colon. */
static bool fault_matches(const char *address) {
    size_t length = strlen(node.drop_from);
    lock_check(&node.lock);
    if (length == 0 || strncmp(address, node.drop_from, length) != 0) return false;
    return address[length] == 0 || address[length] == ':';
}

/* The same for a server that this node calls. */
static bool fault_drops(const char *address) {
    if (!atomic_load(&node.dropping)) return false;
    lock_take(&node.lock);
    bool drops = fault_matches(address);
    lock_drop(&node.lock);
    if (drops) fail(NO_SERVER, "what comes from %s is dropped on purpose", address);
    return drops;
}

/* The same for a connection to this node: by the address it comes from, or by that of the server that it says it is. */
static bool fault_drops_conn(const struct conn *c) {
    uint64_t id = 0;
    if (!atomic_load(&node.dropping)) return false;
    parse_id(slice_of(c->id), &id);
    lock_take(&node.lock);
    bool drops = fault_matches(c->peer);
    const struct member *m = tree_member(&node.tree, id);
    if (m && fault_matches(m->address)) drops = true;
    for (int i = 0; i < node.link_count; i++)
        if (node.links[i].master == id && id != 0 && fault_matches(node.links[i].address)) drops = true;
    lock_drop(&node.lock);
    return drops;
}

/* What a paused or slow node does before each thing it does. */
static void fault_wait(void) {
    int slow_ms = atomic_load(&node.slow_ms);
    if (slow_ms > 0) sleep_ms(slow_ms);
    while (atomic_load(&node.paused)) sleep_ms(10);
}

/* Where faults act on requests. A paused node does what it was asked when it goes on, like any process that was
 * stopped; a request whose answer is dropped was done. */
static bool node_hold(const struct request *r, bool answered) {
    int64_t begun_ms = clock_ms();
    if (slice_is(r->w.word[0], "FAULT") || slice_is(r->w.word[0], "HELLO")) return true;
    if (!answered) fault_wait();
    while (atomic_load(&node.paused)) sleep_ms(10);
    if (!fault_drops_conn(r->c)) return true;
    while (fault_drops_conn(r->c) && clock_ms() - begun_ms < LINE_TIMEOUT_MS)
        sleep_ms(10); /* no answer is not an end */
    return false;
}

enum play { PLAY_PAUSE, PLAY_SLOW, PLAY_DROP, PLAY_CORRUPT, PLAY_FULL, PLAY_SYNC, PLAY_NONE, PLAY_COUNT };

static const char *const play_names[PLAY_COUNT] = {"pause", "slow",      "drop-from", "corrupt",
                                                   "full",  "fail-sync", "none"};

/* FAULT KIND ARGUMENT: do something wrong from now on, in addition to what was asked before; `none` ends it all, but a
 * disk that failed stays failed until the next start. */
static enum status node_fault(struct request *r) {
    struct slice argument = r->w.word[2];
    char address[ADDRESS_MAX_BYTES + 1] = "";
    uint8_t hash[32];
    uint32_t ms = 0;
    int play = 0;
    while (play < PLAY_COUNT && !slice_is(r->w.word[1], play_names[play])) play++;
    if (!atomic_load(&node.faults_allowed))
        return fail(DENIED, "this cluster does not play with faults; its master must be started with --allow-faults");
    if (play == PLAY_COUNT)
        return fail(BAD_REQUEST,
                    "a fault is pause, slow MS, drop-from ADDRESS, corrupt SHA256, full, fail-sync or none");
    if (play == PLAY_SLOW ? !parse_u32(argument, IDLE_TIMEOUT_MS, &ms)
        : play == PLAY_DROP ? !parse_escaped(argument, address, sizeof address)
        : play == PLAY_CORRUPT ? !parse_hex(argument, hash, 32) : !slice_is(argument, "-"))
        return fail(BAD_REQUEST, "slow takes milliseconds, drop-from HOST or HOST:PORT, corrupt 64 hexadecimal digits, "
                                 "and the other faults -");
    log_line("FAULT on purpose: %s %.*s", play_names[play], (int)argument.length, argument.at);
    if (play == PLAY_CORRUPT) return store_corrupt(&node.store, hash);
    if (play == PLAY_SLOW || play == PLAY_NONE) atomic_store(&node.slow_ms, (int)ms);
    if (play == PLAY_SYNC || play == PLAY_NONE) fault_set(FAULT_SYNC, play == PLAY_SYNC);
    if (play == PLAY_FULL || play == PLAY_NONE) {
        atomic_store(&node.store.full, play == PLAY_FULL);
        store_space(&node.store);
    }
    if (play == PLAY_DROP || play == PLAY_NONE) {
        lock_take(&node.lock);
        memcpy(node.drop_from, address, sizeof address);
        atomic_store(&node.dropping, *address != 0);
        lock_drop(&node.lock);
    }
    if (play == PLAY_PAUSE || play == PLAY_NONE) atomic_store(&node.paused, play == PLAY_PAUSE);
    return DONE;
}

/* ---- Reports ---- */

static void report_add(const char *what, const uint8_t hash[32], uint64_t length) {
    lock_take(&node.reports_lock);
    if (!node.inventory_due) { /* else the inventory will tell it */
        text_add(&node.reports, what);
        text_byte(&node.reports, ' ');
        text_hex(&node.reports, hash, 32);
        text_byte(&node.reports, ' ');
        text_u64(&node.reports, length);
        text_byte(&node.reports, '\n');
        cond_signal(&node.report);
    }
    lock_drop(&node.reports_lock);
}

/* A chunk turned out to be damaged and was set aside. */
static void report_lost(const uint8_t hash[32]) {
    report_add("lost", hash, 0);
}

static void report_restart(void) {
    lock_take(&node.reports_lock);
    node.inventory_due = true;
    text_clear(&node.reports);
    cond_signal(&node.report);
    lock_drop(&node.reports_lock);
}

/* Reports. What a node says that it holds is on its disk: so a record, which is not made before, never names bytes that
 * a power cut takes away. */
static enum status report_send(const char *address, uint64_t session, uint64_t epoch, const struct text *lines) {
    struct conn *c;
    struct words w;
    fault_wait();
    enum status status = store_sync(&node.store);
    if (status == DONE) status = pool_take(address, MASTER_PORT, (int)node.dead_after_ms, &c);
    if (status != DONE) return status;
    lock_take(&node.lock);
    const struct link *link = node_followed();
    bool going = link && link->session == session && strcmp(link->address, address) == 0;
    if (going) node.report_fd = c->fd;
    lock_drop(&node.lock);
    if (!going) {
        conn_close(c);
        return fail(FENCED, "this node follows another master now");
    }
    text_format(conn_line(c), "REPORT %" PRIu64 " %" PRIu64, session, epoch);
    status = call_send(c, lines->data, lines->length);
    if (status == DONE) status = call_reply(c, &w);
    lock_take(&node.lock);
    node.report_fd = -1;
    lock_drop(&node.lock);
    if (status_keeps_conn(status)) pool_give(address, c);
    else conn_close(c);
    return status;
}

/* Tells the master of everything on this disk, then that this was all. */
static enum status report_inventory(const char *address, uint64_t session, uint64_t epoch) {
    struct text lines = {0};
    struct cursor cursor = {0};
    bool more = true;
    store_asides(&node.store, &lines);
    enum status status = lines.length > 0 ? report_send(address, session, epoch, &lines) : DONE;
    while (more && status == DONE) {
        text_clear(&lines);
        more = store_list(&node.store, &cursor, &lines, REPORT_BATCH * 80);
        if (!more) text_add(&lines, "all\n");
        status = report_send(address, session, epoch, &lines);
    }
    text_free(&lines);
    return status;
}

/* Thread: sends reports while there is a master with a reign. To each reign and on each connection, and after any
 * failure, it begins with a whole inventory. */
static void *node_reporter(void *unused) {
    struct text lines = {0};
    uint64_t told_session = 0, told_epoch = 0;
    char address[ADDRESS_MAX_BYTES + 1];
    (void)unused;
    for (;;) {
        lock_take(&node.lock);
        const struct link *link = node_followed();
        bool ready = link && link->epoch != 0;
        uint64_t session = ready ? link->session : 0, epoch = ready ? link->epoch : 0;
        if (ready) memcpy(address, link->address, sizeof address);
        lock_drop(&node.lock);
        if (ready && (session != told_session || epoch != told_epoch)) {
            report_restart();
            told_session = session;
            told_epoch = epoch;
        }
        lock_take(&node.reports_lock);
        if (!ready || (!node.inventory_due && node.reports.length == 0)) {
            cond_wait_until(&node.report, &node.reports_lock, clock_ms() + (ready ? node.ping_ms : 50));
            lock_drop(&node.reports_lock);
            continue;
        }
        bool inventory = node.inventory_due;
        node.inventory_due = false;
        text_recycle(&lines, 256 * KIB);
        struct text swap = lines;
        lines = node.reports;
        node.reports = swap;
        lock_drop(&node.reports_lock);
        enum status status = inventory ? report_inventory(address, session, epoch) : DONE;
        if (status == DONE && lines.length > 0) status = report_send(address, session, epoch, &lines);
        if (status == DONE) continue;
        report_restart();
        sleep_ms(RETRY_PAUSE_MS / 2);
    }
    return NULL;
}

/* ---- Chunks ---- */

/* Takes the first ID@ADDRESS off a chain. */
static bool chain_next(struct slice *chain, char *address) {
    struct slice part, id;
    uint64_t number;
    if (slice_is(*chain, "-") || !slice_part(chain, ',', &part)) return false;
    return slice_part(&part, '@', &id) && parse_id(id, &number) && slice_copy(part, address, ADDRESS_MAX_BYTES + 1);
}

static int chain_length(struct slice chain) {
    struct slice part;
    int count = 0;
    if (slice_is(chain, "-")) return 0;
    while (slice_part(&chain, ',', &part)) count++;
    return count;
}

/* The next node of the chain: its connection, or NULL if there is none or it can't be reached. */
static struct conn *put_forward(struct slice chain, int hops, uint64_t length, const uint8_t hash[32], char *address) {
    struct conn *next;
    if (!chain_next(&chain, address) || fault_drops(address)) return NULL;
    /* The further down the chain, the shorter the wait, so that each gives up before the one that waits for it. */
    if (pool_take(address, NODE_PORT, DATA_TIMEOUT_MS * hops / (hops + 1), &next) != DONE) return NULL;
    struct text *line = conn_line(next);
    text_add(line, "PUT ");
    if (chain.length > 0) text_bytes(line, chain.at, chain.length);
    else text_byte(line, '-');
    text_byte(line, ' ');
    text_u64(line, length);
    text_byte(line, ' ');
    text_hex(line, hash, 32);
    conn_line_end(next);
    return next;
}

/* Receives the body, hashes it and passes it on while it arrives. A next node that fails is given up: *next becomes
 * NULL. */
static enum status put_receive(struct request *r, uint8_t *buffer, struct conn **next) {
    struct sha256 state;
    uint8_t digest[32];
    uint64_t have = 0;
    sha256_init(&state);
    while (have < r->body_length) {
        size_t got, part = r->body_length - have < 256 * KIB ? (size_t)(r->body_length - have) : (size_t)(256 * KIB);
        enum status status = conn_read_some(r->c, buffer + have, part, &got);
        if (status != DONE) return status;
        r->body_left -= got;
        sha256_update(&state, buffer + have, got);
        if (*next && conn_send(*next, buffer + have, got) != DONE) {
            conn_close(*next);
            *next = NULL;
        }
        have += got;
    }
    sha256_final(&state, digest);
    if (memcmp(digest, r->body_hash, 32) != 0)
        return fail(DAMAGED, "the chunk is not what its hash says; send it again");
    return DONE;
}

/* PUT CHAIN LENGTH SHA256 and the bytes: store a chunk here and on the nodes of the chain. */
static enum status node_put(struct request *r) {
    char address[ADDRESS_MAX_BYTES + 1];
    struct words w;
    struct slice chain = r->w.word[1];
    int hops = chain_length(chain);
    if (r->body_length == 0) return fail(BAD_REQUEST, "a chunk has at least one byte");
    if (hops > 8) return fail(BAD_REQUEST, "a chain of more than 8 nodes");
    bool small = r->body_length <= SMALL_CHUNK_BYTES;
    if (small) text_reserve(&r->body, (size_t)r->body_length);
    uint8_t *buffer = small ? (uint8_t *)r->body.data : buffer_take(hops);
    if (!buffer) return NO_SPACE;
    atomic_fetch_add(&node.transfers, 1);
    struct conn *next = put_forward(chain, hops, r->body_length, r->body_hash, address);
    enum status status = put_receive(r, buffer, &next);
    if (status == DONE) status = store_put(&node.store, r->body_hash, buffer, (size_t)r->body_length);
    if (status == DONE) {
        report_add("new", r->body_hash, r->body_length);
        text_byte(r->line, ' ');
        text_add(r->line, self_id);
    }
    char why[DETAIL_BYTES];
    memcpy(why, detail, sizeof why);
    if (next && r->body_left > 0) { /* the client is gone, and the next node waits for the rest as this one did */
        conn_close(next);
        next = NULL;
    }
    if (next) { /* its answer is read in any case, so that the connection stays in step */
        enum status passed = call_reply(next, &w);
        if (passed == DONE && status == DONE && w.count == 2) {
            text_byte(r->line, ',');
            text_bytes(r->line, w.word[1].at, w.word[1].length);
        }
        if (status_keeps_conn(passed)) pool_give(address, next);
        else conn_close(next);
    }
    memcpy(detail, why, sizeof why);
    if (!small) buffer_give(buffer);
    atomic_fetch_sub(&node.transfers, 1);
    return status;
}

static void node_get_done(struct request *r, enum status status) {
    struct found *found = r->file_owner;
    errno = EIO; /* that is what DAMAGED stands for */
    if (status == DAMAGED) store_unreadable(&node.store, found->segment);
    store_release(&node.store, found);
    free(found);
    atomic_fetch_sub(&node.transfers, 1);
}

/* GET SHA256: the bytes of a chunk, as they are on disk. */
static enum status node_get(struct request *r) {
    struct found found;
    if (!parse_hex(r->w.word[1], r->reply_hash, 32))
        return fail(BAD_REQUEST, "a chunk is named by 64 hexadecimal digits");
    enum status status = store_find(&node.store, r->reply_hash, &found);
    if (status != DONE) return status;
    if (found.length <= SMALL_CHUNK_BYTES) {
        text_reserve(&r->reply, found.length);
        bool good = sys_pread(found.fd, r->reply.data, found.length, found.offset);
        if (!good && errno != 0) status = store_unreadable(&node.store, found.segment);
        else if (!good) status = fail(DAMAGED, "the log of this node ends before the chunk does");
        r->reply.length = found.length;
        r->has_reply = r->hash_known = true;
        store_release(&node.store, &found);
        return status;
    }
    struct found *kept = mem_alloc(sizeof *kept);
    *kept = found;
    r->file_fd = found.fd;
    r->file_offset = found.offset;
    r->file_length = found.length;
    r->file_done = node_get_done;
    r->file_owner = kept;
    atomic_fetch_add(&node.transfers, 1);
    return DONE;
}

/* VERIFY SHA256: read a chunk again and say whether it is good; a damaged one is set aside and fetched anew. */
static enum status node_verify(struct request *r) {
    uint8_t hash[32];
    if (!parse_hex(r->w.word[1], hash, 32)) return fail(BAD_REQUEST, "a chunk is named by 64 hexadecimal digits");
    enum status status = store_verify(&node.store, hash);
    if (status != DONE && status != DAMAGED && status != NOT_FOUND) return status;
    if (status == DAMAGED) report_add("lost", hash, 0);
    text_add(r->line, status == DONE ? " good" : status == DAMAGED ? " damaged" : " absent");
    return DONE;
}

/* One chunk of an order to fetch: the reply to a GET that was sent before. */
static enum status fetch_one(struct conn *c, const struct chunk_info *chunk, uint8_t *buffer) {
    struct words w;
    uint32_t length;
    enum status status = call_reply(c, &w);
    if (status != DONE) return status;
    if (w.count != 3 || !parse_u32(w.word[1], CHUNK_MAX_BYTES, &length))
        return fail(NO_SERVER, "an answer to GET that is none");
    status = conn_read_body(c, buffer, length);
    if (status != DONE) return status;
    if (length != chunk->length) return fail(DAMAGED, "a chunk of another length");
    status = chunk_check(chunk, buffer);
    if (status != DONE) return status;
    return store_put(&node.store, chunk->hash, buffer, length);
}

/* Fetches `count` chunks from one node, asking for the next ones before the last has come. Notes which failed. */
static enum status fetch_all(const char *address, const struct chunk_info *list, int count, struct text *failed) {
    enum { AHEAD = 32 };
    struct conn *c = NULL;
    int asked = 0;
    uint8_t *buffer = buffer_take(0);
    enum status status = !buffer ? NO_SPACE : fault_drops(address) ? NO_SERVER : DONE;
    if (status == DONE) status = pool_take(address, NODE_PORT, DATA_TIMEOUT_MS, &c);
    if (status == DONE) conn_timeout(c, node.dead_after_ms < GREET_TIMEOUT_MS / 3 ? GREET_TIMEOUT_MS / 3
                                                                                : (int)node.dead_after_ms);
    for (int i = 0; i < count && status == DONE; i++) {
        for (; asked < count && asked < i + AHEAD && (asked == i || asked % AHEAD != 0); asked++) {
            text_add(conn_line(c), "GET ");
            text_hex(&c->out, list[asked].hash, 32);
            conn_line_end(c);
        }
        if (conn_flush(c) != DONE) {
            status = NO_SERVER;
            break;
        }
        enum status got = fetch_one(c, &list[i], buffer);
        if (got == DAMAGED) report_damage(address, &list[i]);
        if (got == NO_SERVER || got == DENIED) status = got;
        if (got == DONE) continue;
        text_hex(failed, list[i].hash, 32);
        text_byte(failed, '\n');
        if (got == NO_SPACE || got == INTERNAL) status = got;
    }
    buffer_give(buffer);
    if (c && status == DONE) pool_give(address, c);
    else conn_close(c);
    return status;
}

/* The session of this node at the master that it follows; 0: there is none. */
static uint64_t node_session(void) {
    lock_take(&node.lock);
    const struct link *link = node_followed();
    uint64_t session = link ? link->session : 0;
    lock_drop(&node.lock);
    return session;
}

/* Reports those of the chunks of an order that are here, for its answer may not say so, or count for nothing. */
static void fetch_report(struct slice rows) {
    struct slice row;
    struct words w;
    uint8_t hash[32];
    uint32_t length;
    while (slice_line(&rows, &row))
        if (words_split(row, &w) && w.count == 2 && parse_hex(w.word[0], hash, 32) &&
            store_has(&node.store, hash, &length))
            report_add("new", hash, length);
}

/* FETCH ADDRESS, with rows SHA256 LENGTH: get these chunks from that node, make them durable, answer which failed. */
static enum status node_fetch(struct request *r) {
    char address[ADDRESS_MAX_BYTES + 1];
    struct slice rest = {r->body.data, r->body.length}, row;
    struct words w;
    int count = 0;
    if (!slice_copy(r->w.word[1], address, sizeof address)) return fail(BAD_REQUEST, "an address of at most 300 bytes");
    uint64_t session = node_session();
    struct chunk_info *list = mem_alloc(COPY_BATCH_CHUNKS * sizeof *list);
    enum status status = DONE;
    while (status == DONE && slice_line(&rest, &row)) {
        struct chunk_info *chunk = &list[count];
        if (count == COPY_BATCH_CHUNKS || !words_split(row, &w) || w.count != 2 ||
            !parse_hex(w.word[0], chunk->hash, 32) || !parse_u32(w.word[1], CHUNK_MAX_BYTES, &chunk->length))
            status = fail(BAD_REQUEST, "a row is SHA256 LENGTH, at most %d of them", COPY_BATCH_CHUNKS);
        else if (!store_touch(&node.store, chunk->hash)) count++;
    }
    atomic_fetch_add(&node.transfers, 1);
    r->has_reply = true;
    if (status == DONE && count > 0) status = fetch_all(address, list, count, &r->reply);
    if (status == DONE) status = store_sync(&node.store); /* those that were here already may not be on disk either */
    if (status != DONE || conn_is_over(r->c) || node_session() != session)
        fetch_report((struct slice){r->body.data, r->body.length});
    atomic_fetch_sub(&node.transfers, 1);
    free(list);
    return status;
}

/* ---- Records ---- */

/* Checks that a request comes from the master that this node promised its epoch to. */
static enum status node_check_epoch(const struct request *r, uint64_t epoch) {
    uint64_t master = 0;
    if (!parse_id(slice_of(r->c->id), &master)) return fail(BAD_REQUEST, "a master says its id in HELLO");
    if (epoch > 0 && epoch == node.store.promised && master == node.store.promised_to) return DONE;
    return fail(FENCED, "promised epoch %" PRIu64, node.store.promised);
}

/* Checks also that it came on the connection on which this master asked for the promise last. What is still on its way
 * on an older one, given up by the master, comes too late: this node may have acknowledged more since. */
static enum status node_check_stream(const struct request *r, uint64_t epoch) {
    enum status status = node_check_epoch(r, epoch);
    if (status == DONE && node.stream != r->c->serial)
        return fail(BAD_REQUEST, "records and snapshots come on the connection of the last PROMISE");
    return status;
}

/* EPOCH SEQ ROSTER-EPOCH ROSTER-SEQ ROSTER: which records a tree is made of, and the newest roster in them. */
static void text_history(struct text *to, const struct tree *t) {
    text_format(to, "%" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " ", t->at.epoch, t->at.seq, t->roster.at.epoch,
                t->roster.at.seq);
    for (int i = 0; i < t->roster.count; i++) {
        if (i > 0) text_byte(to, ',');
        text_id(to, t->roster.id[i]);
    }
    if (t->roster.count == 0) text_byte(to, '-');
}

/* PROMISE EPOCH: take no record of a lower epoch from now on. Answers this node's state. */
static enum status node_promise(struct request *r) {
    uint64_t epoch, master = 0;
    if (!parse_u64(r->w.word[1], UINT64_MAX - 1, &epoch) || epoch == 0 || !parse_id(slice_of(r->c->id), &master))
        return fail(BAD_REQUEST, "an epoch is a number from 1");
    lock_take(&node.lock);
    enum status status = DONE;
    uint64_t promised = node.store.promised, promised_to = node.store.promised_to;
    if (!node.store.formatted) status = fail(READ_ONLY, "this node is blank: it has not joined a cluster yet");
    else if (epoch < promised || (epoch == promised && master != node.store.promised_to))
        status = fail(FENCED, "promised epoch %" PRIu64, promised);
    else if (epoch > promised && node.store.promised_to != master && node_bound_ms() > 0)
        status = fail(READ_ONLY, "promised epoch %" PRIu64 ", and that master is alive", promised);
    if (status == DONE && epoch > promised) { /* refuse others at once, answer when it is on disk */
        if (node.store.promised_to != master) net_cut(node.report_fd); /* the old one may hang, the new one must know */
        node.store.promised = epoch;
        node.store.promised_to = master;
        node.heard_ms = clock_ms();
        status = store_promise(&node.store, epoch, master);
        if (status != DONE) node.store.promised = promised, node.store.promised_to = promised_to; /* it was not given */
    }
    if (status == DONE && node.stream != r->c->serial) {
        node.stream = r->c->serial;
        if (node.loading_used) tree_free(&node.loading); /* no part of it can come any more */
        node.loading_used = false;
    }
    text_format(r->line, " %d ", (int)node.store.metadata_damaged);
    text_history(r->line, &node.tree); /* the sync below makes it durable, if it was not yet */
    lock_drop(&node.lock);
    if (status == DONE) status = store_sync(&node.store); /* a promise is given here, for good */
    if (status != DONE) return status;
    lock_take(&node.lock);
    status = node_check_epoch(r, epoch);
    lock_drop(&node.lock);
    return status;
}

/* RECORDS EPOCH with the records: append, apply, sync, and only then answer. */
static enum status node_records(struct request *r) {
    uint64_t epoch;
    struct position first, last;
    if (!parse_u64(r->w.word[1], UINT64_MAX, &epoch)) return fail(BAD_REQUEST, "an epoch is a number");
    enum status status = records_span(r->body.data ? r->body.data : "", r->body.length, &first, &last);
    if (status != DONE) return status;
    lock_take(&node.lock);
    status = node_check_stream(r, epoch);
    if (status == DONE && node.store.metadata_damaged) status = fail(BAD_REQUEST, "this node needs a snapshot first");
    if (status == DONE && (first.seq != node.tree.at.seq + 1 || last.epoch > epoch))
        status = fail(BAD_REQUEST, "the next record is %" PRIu64, node.tree.at.seq + 1);
    if (status == DONE)
        status = store_record(&node.store, ENTRY_RECORD, r->body_hash, first.seq, r->body.data, r->body.length);
    if (status == DONE && tree_apply(&node.tree, r->body.data, r->body.length) != DONE) {
        log_line("a record contradicts this node's tree: %s; this node takes no more", detail);
        node.store.metadata_damaged = true;
        tree_free(&node.tree); /* it is half applied */
        tree_init(&node.tree);
        status = INTERNAL;
    }
    struct link *link = node_followed();
    bool new_reign = status == DONE && link && link->epoch != epoch;
    if (new_reign) link->epoch = epoch;
    if (status == DONE) node.heard_ms = clock_ms();
    lock_drop(&node.lock);
    if (status == DONE) status = store_sync(&node.store);
    if (status != DONE) return status;
    if (new_reign) cond_signal(&node.report);
    text_byte(r->line, ' '); /* from here on this node holds the records, whatever happens to it */
    text_u64(r->line, last.seq);
    return DONE;
}

/* INSTALL EPOCH with one part of a snapshot: the last one replaces this node's tree. */
static enum status node_install(struct request *r) {
    uint64_t epoch;
    uint32_t number, last;
    struct slice rest = {r->body.data, r->body.length}, line;
    struct words w;
    if (!parse_u64(r->w.word[1], UINT64_MAX, &epoch) || !slice_line(&rest, &line) || !words_split(line, &w) ||
        w.count != 3 || !slice_is(w.word[0], "SNAPSHOTPART") || !parse_u32(w.word[1], UINT32_MAX, &number) ||
        !parse_u32(w.word[2], 1, &last))
        return fail(BAD_REQUEST, "a part begins with SNAPSHOTPART NUMBER LAST");
    enum status status = last ? store_notes(&node.store) : DONE;
    lock_take(&node.lock);
    if (status == DONE) status = node_check_stream(r, epoch);
    if (status == DONE && number == 0) {
        node.tree.saving.on = false; /* a checkpoint of the old tree is not finished: its parts would be among these */
        if (node.loading_used) tree_free(&node.loading);
        tree_init(&node.loading);
        node.loading_used = true;
        node.loading_next = 0;
        node.loading_bytes = 0;
        status = store_keep(&node.store, &node.loading_place);
    }
    if (status == DONE && (!node.loading_used || number != node.loading_next++))
        status = fail(BAD_REQUEST, "parts of a snapshot come in their order");
    if (status == DONE)
        status = store_record(&node.store, ENTRY_SNAPSHOT, r->body_hash, 0, r->body.data, r->body.length);
    if (status == DONE) status = snapshot_load(&node.loading, rest.at, rest.length);
    if (status == DONE) node.loading_bytes += r->body.length;
    if (status == DONE && last) {
        tree_free(&node.tree);
        node.tree = node.loading;
        node.loading_used = false;
        node.store.metadata_damaged = false;
        store_history_reset(&node.store);
        log_line("took a snapshot: last record %" PRIu64 ".%" PRIu64 ", %" PRIu64 " files", node.tree.at.epoch,
                 node.tree.at.seq, node.tree.live.files);
    }
    struct place begin = node.loading_place;
    uint64_t bytes = node.loading_bytes;
    lock_drop(&node.lock);
    if (status == DONE) status = store_sync(&node.store); /* so the next part's header says that this is durable */
    if (status == DONE && last) store_checkpointed(&node.store, begin, bytes);
    return status;
}

/* ---- Giving space back ---- */

/* Writes all that this node's metadata amounts to, so that everything before it is dead: a snapshot, piece by piece,
 * while records go on being appended between its parts. */
static enum status node_checkpoint(void) {
    struct text part = {0}, head = {0};
    struct place begin;
    uint8_t hash[32];
    uint64_t bytes = 0, synced = 0;
    bool more = true;
    int64_t begun_ms = clock_ms();
    lock_take(&node.lock);
    enum status status = DONE;
    if (node.loading_used || node.store.metadata_damaged)
        status = fail(READ_ONLY, "this node is being given a snapshot");
    if (status == DONE) status = store_keep(&node.store, &begin);
    if (status == DONE) {
        save_begin(&node.tree);
        snapshot_head(&head, &node.tree);
    }
    lock_drop(&node.lock);
    if (status == DONE) status = store_notes(&node.store);
    lock_take(&node.lock);
    for (uint32_t number = 0; status == DONE && more; number++) {
        text_clear(&part);
        text_format(&part, "SNAPSHOTPART %u 0\n", number);
        if (number == 0) text_bytes(&part, head.data, head.length);
        if (!node.tree.saving.on) {
            status = fail(READ_ONLY, "this node was given a snapshot meanwhile");
            break;
        }
        more = save_next(&node.tree, &part, CHECKPOINT_PART_BYTES);
        if (!more) *(strchr(part.data, '\n') - 1) = '1';
        sha256_digest(part.data, part.length, hash);
        status = store_record(&node.store, ENTRY_SNAPSHOT, hash, 0, part.data, part.length);
        bytes += part.length;
        lock_drop(&node.lock);
        if (status == DONE &&
            (!more || bytes - synced > MIB)) { /* not so much that others wait for it in their syncs */
            status = store_sync(&node.store);
            synced = bytes;
        }
        lock_take(&node.lock);
    }
    if (status != DONE) node.tree.saving.on = false; /* nobody goes on with it */
    lock_drop(&node.lock);
    text_free(&part);
    text_free(&head);
    if (status != DONE) return status;
    store_checkpointed(&node.store, begin, bytes);
    log_line("checkpoint: %" PRIu64 " KiB in %" PRId64 " ms", bytes / 1024, clock_ms() - begun_ms);
    return DONE;
}

/* Thread: reads everything on this disk again, each segment once in SCRUB_EVERY_MS at a limited rate; at once and
 * without a limit when it was asked to. */
static void *node_scrub(void *unused) {
    uint32_t number = 0;
    (void)unused;
    for (;;) {
        long long asked_ms = atomic_load(&node.scrub_ms);
        int64_t due_ms = clock_wall_ns() / 1000000 - SCRUB_EVERY_MS;
        bool asked = asked_ms != 0 && scrub_next(&node.store, asked_ms, &number);
        if (asked_ms != 0 && !asked) atomic_compare_exchange_strong(&node.scrub_ms, &asked_ms, 0);
        if (!asked && (node.scrub_rate == 0 || !scrub_next(&node.store, due_ms, &number))) {
            for (int i = 0; i < 10 && atomic_load(&node.scrub_ms) == 0; i++) sleep_ms(TIDY_MS / 10);
            continue;
        }
        if (store_scrub(&node.store, number, asked ? asked_ms : due_ms, asked ? 0 : node.scrub_rate, &node.scrubbed) ==
            DONE)
            continue;
        log_line("scrubbing: %s", detail);
        sleep_ms(10 * TIDY_MS);
    }
    return NULL;
}

/* SCRUB: read everything that is here now again. Answers at once; STATE tells how far it is. */
static enum status node_scrub_now(struct request *r) {
    (void)r;
    enum status status = store_close(&node.store); /* the open segment is read too */
    atomic_store(&node.scrub_ms, clock_wall_ns() / 1000000);
    return status;
}

/* CHECKED with rows SHA256: when each of these chunks was read and found right last, or written; 0 if it is not here.
 */
static enum status node_checked(struct request *r) {
    struct slice rest = {r->body.data, r->body.length}, row;
    uint8_t hash[32];
    r->has_reply = true;
    while (slice_line(&rest, &row)) {
        if (!parse_hex(row, hash, 32)) return fail(BAD_REQUEST, "a row is SHA256");
        text_i64(&r->reply, store_checked(&node.store, hash));
        text_byte(&r->reply, '\n');
    }
    return DONE;
}

/* Records up to this one are of no use to a node that was away: a snapshot would be less. */
static uint64_t node_told_from(void) {
    lock_take(&node.lock);
    uint64_t seq = node.tree.at.seq, inodes = node.tree.inode_count;
    lock_drop(&node.lock);
    return seq > inodes ? seq - inodes : 0;
}

/* Thread: writes checkpoints and rewrites segments, when that gives enough space back. */
static void *node_tidy(void *unused) {
    uint32_t number = 0;
    (void)unused;
    for (;;) {
        enum status status = DONE;
        sleep_ms(store_is_short(&node.store) ? TIDY_MS / 10 : TIDY_MS);
        while (store_punch(&node.store)) store_space(&node.store);
        if (store_wants_checkpoint(&node.store)) status = node_checkpoint();
        while (status == DONE && store_victim(&node.store, node_told_from(), &number)) {
            status = store_rewrite(&node.store, number, store_is_short(&node.store) ? 0 : TIDY_RATE_BYTES);
            store_space(&node.store);
        }
        if (status == DONE) continue;
        log_line("giving space back: %s", detail);
        sleep_ms(10 * TIDY_MS);
    }
    return NULL;
}

/* HISTORY SEQ: records behind this one, from the log, for a node that was away; as many as fit into a reply. */
static enum status node_history(struct request *r) {
    uint64_t seq;
    if (!parse_u64(r->w.word[1], UINT64_MAX - 1, &seq)) return fail(BAD_REQUEST, "a record is a number");
    r->has_reply = true;
    return store_history(&node.store, seq, &r->reply, HISTORY_PART_BYTES);
}

/* SNAPSHOT AFTER: the next part of this node's tree; AFTER is the last inode of the part before, 0 at first. */
static enum status node_snapshot(struct request *r) {
    uint64_t after;
    const struct inode *last = NULL;
    if (!parse_u64(r->w.word[1], UINT64_MAX, &after)) return fail(BAD_REQUEST, "an inode is a number");
    lock_take(&node.lock);
    if (after != 0) last = tree_by_id(&node.tree, after);
    enum status status = after != 0 && !last ? fail(NOT_FOUND, "no such inode") : DONE;
    if (status == DONE) {
        if (after == 0) snapshot_head(&r->reply, &node.tree);
        const struct inode *from = last;
        size_t most = r->reply.length + SNAPSHOT_PART_BYTES; /* at least one inode, however long the head is */
        bool more = snapshot_walk(&r->reply, &node.tree, node.tree.root, from ? from->parent : 0,
                                  from ? from->name : "", from ? from->name_length : 0, most, &last);
        r->has_reply = true;
        text_format(r->line, " %" PRIu64 " %" PRIu64 " %" PRIu64, node.tree.at.epoch, node.tree.at.seq,
                    more && last ? last->id : 0);
    }
    lock_drop(&node.lock);
    return status;
}

/* DROP EPOCH GRACE with rows SHA256: drop these chunks, but those that a record names here and those that were stored
 * within the last GRACE ms; they are reported anew. */
static enum status node_drop(struct request *r) {
    uint64_t epoch, grace_ms;
    struct slice rest = {r->body.data, r->body.length}, row;
    uint8_t (*hash)[32] = mem_alloc(DROP_BATCH * sizeof *hash);
    bool *kept = mem_alloc(DROP_BATCH * sizeof *kept);
    int count = 0, keeps = 0;
    enum status status = DONE;
    if (!parse_u64(r->w.word[1], UINT64_MAX, &epoch) || !parse_u64(r->w.word[2], 36500 * DAY_MS, &grace_ms))
        status = fail(BAD_REQUEST, "an epoch and a grace time in milliseconds are numbers");
    lock_take(&node.lock);
    if (status == DONE) status = node_check_stream(r, epoch);
    for (int row_number = 0; status == DONE && slice_line(&rest, &row); row_number++) {
        struct slice word;
        bool good = slice_part(&row, ' ', &word) && parse_hex(word, hash[count], 32),
             surplus = slice_is(row, "surplus");
        if (row_number == DROP_BATCH || !good || (row.length > 0 && !surplus)) {
            status = fail(BAD_REQUEST, "a row is SHA256 or SHA256 surplus, at most %d of them", DROP_BATCH);
            break;
        }
        uint32_t index = tree_chunk_find(&node.tree, hash[count]), length;
        if (surplus || index == NONE || tree_chunk(&node.tree, index)->references == 0) count++;
        else if (store_has(&node.store, hash[count], &length)) report_add("new", hash[count], length);
    }
    lock_drop(&node.lock);
    if (status == DONE) status = store_drop(&node.store, (const uint8_t (*)[32])hash, count, (int64_t)grace_ms, kept);
    for (int i = 0; i < count && status == DONE; i++) {
        uint32_t length;
        bool here = kept[i] && store_has(&node.store, hash[i], &length);
        report_add(here ? "new" : "gone", hash[i], here ? length : 0); /* behind all that was said of it before */
        keeps += here;
    }
    text_format(r->line, " %d %d", count - keeps, keeps);
    free(hash);
    free(kept);
    return status;
}

/* DIGEST: position and SHA-256 of the namespace, to compare nodes. */
static enum status node_digest(struct request *r) {
    uint8_t digest[32];
    lock_take(&node.lock);
    tree_digest(&node.tree, digest);
    text_format(r->line, " %" PRIu64 " %" PRIu64 " ", node.tree.at.epoch, node.tree.at.seq);
    text_hex(r->line, digest, 32);
    lock_drop(&node.lock);
    return DONE;
}

/* MEMBERS: the nodes that this node knows, as lines of records. */
static enum status node_members(struct request *r) {
    r->has_reply = true;
    lock_take(&node.lock);
    for (int i = 0; i < node.tree.member_count; i++) line_node(&r->reply, &node.tree.members[i]);
    lock_drop(&node.lock);
    return DONE;
}

/* STATE: what this node knows of itself, one word and its value to a line. */
static enum status node_state(struct request *r) {
    struct text *t = &r->reply;
    r->has_reply = true;
    bool failed = store_failed(&node.store, NULL);
    lock_take(&node.lock);
    text_format(t, "node %016" PRIx64 "\nname %s\ncluster %s\n", node.id, node.name,
                node.store.formatted ? node.store.cluster : "-");
    text_format(t, "epoch %" PRIu64 "\nseq %" PRIu64 "\npromised %" PRIu64 "\n", node.tree.at.epoch, node.tree.at.seq,
                node.store.promised);
    lock_take(&node.store.lock);
    text_format(t, "files %" PRIu64 "\nchunks %" PRIu64 "\nbytes %" PRIu64 "\n", node.tree.live.files,
                node.store.chunk_count, node.store.chunk_bytes);
    text_format(t, "damaged %" PRIu64 "\n", node.store.damaged);
    lock_drop(&node.store.lock);
    const struct link *link = node_followed();
    text_format(t, "master %s\n", link ? link->address : "-");
    text_format(t, "state %s\n", failed ? "failed" : node.store.metadata_damaged ? "learner" : "ok");
    text_format(t, "scrub %s\nscrubbed %llu\n", atomic_load(&node.scrub_ms) != 0 ? "now" : "-",
                atomic_load(&node.scrubbed));
    lock_drop(&node.lock);
    return DONE;
}

/* STAT PATH: as this node knows it, which is possibly old. Every node that it knows may hold the chunks. */
static enum status node_stat(struct request *r) {
    char path[PATH_MAX_BYTES + 1];
    struct inode *n = NULL;
    enum status status = request_path(r, 1, path);
    if (status != DONE) return status;
    lock_take(&node.lock);
    const struct tree *t = &node.tree;
    node.tree.now_s = clock_wall_s();
    status = tree_resolve(&node.tree, path, &n, NULL, NULL);
    if (status == DONE) {
        text_add(r->line, " old");
        text_inode(r->line, t, n);
        for (int i = 0; i < t->member_count; i++)
            text_format(&r->reply, "node %016" PRIx64 " %s\n", t->members[i].id, t->members[i].address);
        for (uint32_t i = 0; i < n->chunk_count; i++) {
            const struct chunk *chunk = tree_chunk(t, inode_chunk(n, i));
            text_add(&r->reply, "chunk ");
            text_hex(&r->reply, chunk->hash, 32);
            text_format(&r->reply, " %u ", chunk->length);
            for (int k = 0; k < t->member_count; k++) text_format(&r->reply, k > 0 ? ",%d" : "%d", k);
            text_add(&r->reply, t->member_count > 0 ? "\n" : "-\n");
        }
        r->has_reply = true;
    }
    lock_drop(&node.lock);
    return status;
}

/* A node knows of no other's copies. */
static int node_copies(const struct inode *n) {
    uint32_t length;
    for (uint32_t i = 0; i < n->chunk_count; i++)
        if (!store_has(&node.store, tree_chunk(&node.tree, inode_chunk(n, i))->hash, &length)) return 0;
    return 1;
}

/* LIST PATH AFTER -: as this node knows it, which is possibly old. */
static enum status node_list(struct request *r) {
    char path[PATH_MAX_BYTES + 1], after[NAME_MAX_BYTES + 1];
    struct inode *directory = NULL;
    if (!parse_escaped(r->w.word[2], after, sizeof after)) return fail(BAD_REQUEST, "AFTER is a name");
    if (!slice_is(r->w.word[3], "-")) return fail(BAD_REQUEST, "only a master knows what another node holds");
    enum status status = request_path(r, 1, path);
    if (status != DONE) return status;
    lock_take(&node.lock);
    node.tree.now_s = clock_wall_s();
    status = tree_resolve(&node.tree, path, &directory, NULL, NULL);
    if (status == DONE) {
        text_add(r->line, " old");
        text_entries(&r->reply, r->line, &node.tree, directory, after, node_copies);
        r->has_reply = true;
    }
    lock_drop(&node.lock);
    return status;
}

/* SHARED TOKEN: which file a link is of, as this node knows it, which is possibly old. */
static enum status node_shared(struct request *r) {
    lock_take(&node.lock);
    node.tree.now_s = clock_wall_s();
    text_add(r->line, " old");
    enum status status = share_answer(&node.tree, r->w.word[1], r->line, &r->reply);
    r->has_reply = status == DONE;
    lock_drop(&node.lock);
    return status;
}

static const struct command node_table[] = {
    {"PUT", node_put, 1, STREAM_BODY, FROM_ALL, "CHAIN", "store a chunk here and on the nodes of the chain"},
    {"GET", node_get, 1, NO_BODY, FROM_ALL, "SHA256", "the bytes of a chunk"},
    {"VERIFY", node_verify, 1, NO_BODY, FROM_ALL, "SHA256", "read a chunk again: good, damaged or absent"},
    {"STATE", node_state, 0, NO_BODY, FROM_ALL, "", "what this node knows of itself"},
    {"DIGEST", node_digest, 0, NO_BODY, FROM_ALL, "", "epoch, seq and SHA-256 of the namespace"},
    {"STAT", node_stat, 1, NO_BODY, FROM_ALL, "PATH", "what a path is, as this node knows it"},
    {"LIST", node_list, 3, NO_BODY, FROM_ALL, "PATH AFTER NODE", "entries of a directory, as this node knows it"},
    {"SHARED", node_shared, 1, NO_BODY, FROM_ALL, "TOKEN", "which file a link is of, as this node knows it"},
    {"SCRUB", node_scrub_now, 0, NO_BODY, FROM_ALL, "", "read everything again now"},
    {"CHECKED", node_checked, 0, LINES_BODY, FROM_ALL, "", "when chunks were read and found right last"},
    {"MEMBERS", node_members, 0, NO_BODY, FROM_ALL, "", "the nodes that this node knows"},
    {"FAULT", node_fault, 2, NO_BODY, FROM_CLIENT, "KIND ARGUMENT", "do something wrong on purpose"},
    {"FETCH", node_fetch, 1, LINES_BODY, FROM_MASTER, "ADDRESS", "get chunks from another node"},
    {"PROMISE", node_promise, 1, NO_BODY, FROM_MASTER, "EPOCH", "refuse all lower epochs from now on"},
    {"RECORDS", node_records, 1, LINES_BODY, FROM_MASTER, "EPOCH", "append records, sync, then answer"},
    {"INSTALL", node_install, 1, LINES_BODY, FROM_MASTER, "EPOCH", "take a part of a snapshot"},
    {"DROP", node_drop, 2, LINES_BODY, FROM_MASTER, "EPOCH GRACE", "drop chunks that no record names"},
    {"SNAPSHOT", node_snapshot, 1, NO_BODY, FROM_MASTER, "AFTER", "a part of this node's tree"},
    {"HISTORY", node_history, 1, NO_BODY, FROM_MASTER, "SEQ", "the records behind this one, some of them"},
    {0}};

/* ---- The link to the master ---- */

/* The address that others reach this node at: the one it listens on, or, if that is all of them, the one from which it
 * reached the master. */
static void node_advertise(const struct conn *c, char *to, size_t capacity) {
    struct endpoint e = {.length = sizeof e.address};
    bool wildcard = strncmp(server.address, "0.0.0.0:", 8) == 0 || strncmp(server.address, "[::]:", 5) == 0;
    snprintf(to, capacity, "%s", server.address);
    if (!wildcard || getsockname(c->fd, (struct sockaddr *)&e.address, &e.length) != 0) return;
    char host[64];
    endpoint_text(&e, host, sizeof host);
    *strrchr(host, ':') = 0;
    snprintf(to, capacity, "%s%s", host, strrchr(server.address, ':'));
}

/* Joins one master. A blank node is formatted by the answer. */
static enum status node_join(struct conn *c, struct link *link) {
    char here[ADDRESS_MAX_BYTES + 1], cluster[33];
    struct words w;
    uint64_t session = 0, epoch = 0, dead_after_ms, id = 0;
    uint32_t faults_allowed;
    bool twice = false;
    parse_id(slice_of(c->id), &id);
    lock_take(&node.lock);
    for (int i = 0; i < node.link_count; i++)
        twice = twice || (&node.links[i] != link && node.links[i].up && node.links[i].master == id);
    lock_drop(&node.lock);
    if (twice) return fail(EXISTS, "this master is listed under another address too");
    struct text *line = conn_line(c);
    node_advertise(c, here, sizeof here);
    lock_take(&node.lock);
    bool blank = !node.store.formatted;
    text_format(line, "JOIN %016" PRIx64 " %s ", node.instance, blank ? "-" : node.store.cluster);
    text_escaped(line, node.name, strlen(node.name));
    text_format(line, " %s ", here);
    text_escaped(line, node.zone, strlen(node.zone));
    text_format(line, " " DFS_VERSION " %" PRIu64 " %" PRIu64, blank ? node.started_s : node.store.born_s,
                node.started_s);
    lock_drop(&node.lock);
    conn_line_end(c);
    enum status status = conn_flush(c);
    if (status == DONE) status = call_reply(c, &w);
    if (status != DONE) return status;
    if (w.count != 6 || !parse_u64(w.word[1], UINT64_MAX, &session) ||
        !slice_copy(w.word[2], cluster, sizeof cluster) || !parse_u64(w.word[3], UINT64_MAX, &epoch) ||
        !parse_u64(w.word[4], INT32_MAX, &dead_after_ms) || !parse_u32(w.word[5], 1, &faults_allowed))
        return fail(BAD_REQUEST, "an answer to JOIN that is none");
    lock_take(&node.lock);
    blank = !node.store.formatted;
    if (blank) { /* once in its life; the disk is waited for under the lock, because two masters may answer at once */
        if (store_format(&node.store, cluster, node.id, node.name, node.started_s) != DONE) die(INTERNAL, "%s", detail);
        store_adopt(&node.store, cluster, node.id, node.name, node.started_s);
    } else if (strcmp(cluster, node.store.cluster) != 0) {
        status = fail(DENIED, "it serves cluster %s, this node is of cluster %s", cluster, node.store.cluster);
    }
    if (status == DONE) {
        link->up = true;
        link->session = session;
        link->epoch = epoch;
        link->master = id;
        if ((int64_t)dead_after_ms > node.bound_for_ms) node.bound_for_ms = (int64_t)dead_after_ms;
    }
    lock_drop(&node.lock);
    if (status != DONE) return status;
    atomic_store(&node.faults_allowed, faults_allowed != 0);
    cond_signal(&node.report); /* the reporter looks whether this is the master to tell */
    if (blank) log_line("now node %s (%s) of cluster %s", node.name, self_id, cluster);
    log_line("joined master %s", link->address);
    return DONE;
}

/* PING: how this node is, whom it is bound to, and which records it has. */
static void node_ping_line(struct text *line, const struct link *link, uint64_t stamp) {
    const char *state = store_failed(&node.store, NULL) ? "failed" : "ok";
    lock_take(&node.lock);
    const struct tree *t = &node.tree;
    if (node.store.metadata_damaged && *state == 'o') state = "damaged";
    text_format(line, "PING %" PRIu64 " %s %" PRIu64, link->session, state, t->live.files);
    lock_take(&node.store.lock);
    text_format(line, " %" PRIu64 " %" PRIu64 " %" PRIu64, node.store.chunk_count, node.store.chunk_bytes,
                node.store.damaged);
    lock_drop(&node.store.lock);
    text_format(line, " %llu %llu %d %" PRIu64 " ", atomic_load(&node.store.free_bytes),
                atomic_load(&node.store.total_bytes), atomic_load(&node.transfers), stamp);
    if (node_bound_ms() > 0) text_id(line, node.store.promised_to);
    else text_byte(line, '-');
    text_format(line, " %" PRIu64 " ", node.store.promised);
    text_history(line, t);
    lock_drop(&node.lock);
}

/* Pings until something fails. */
static enum status node_ping(struct conn *c, struct link *link) {
    struct words w;
    uint64_t stamp = 0, epoch, asked;
    for (;;) {
        store_space(&node.store);
        buffers_trim();
        pool_trim();
        fault_wait();
        node_ping_line(conn_line(c), link, stamp);
        conn_line_end(c);
        enum status status = conn_flush(c);
        if (status == DONE) status = call_reply(c, &w);
        if (status == DONE && fault_drops(link->address)) {
            sleep_ms(node.dead_after_ms); /* so long it would have waited for an answer */
            status = NO_SERVER;
        }
        if (status != DONE) return status;
        if (w.count != 4 || !parse_u64(w.word[1], UINT64_MAX, &stamp) || !parse_u64(w.word[2], UINT64_MAX, &epoch) ||
            !parse_u64(w.word[3], UINT64_MAX, &asked))
            return fail(BAD_REQUEST, "an answer to PING that is none");
        lock_take(&node.lock);
        bool followed = link == node_followed();
        link->epoch = epoch;
        if (followed && asked == node.store.promised) node.heard_ms = clock_ms(); /* else its promise runs out */
        int64_t bound_ms = node_bound_ms(), wait_ms = node.ping_ms;
        if (!followed && bound_ms > 0 && bound_ms < wait_ms) wait_ms = bound_ms + 1; /* another may take over then */
        else wait_ms += node_spread_ms();
        lock_drop(&node.lock);
        sleep_ms(wait_ms);
    }
}

/* Thread, one for each master: joins it, pings it; again when it is gone. */
static void *node_link(void *argument) {
    struct link *link = argument;
    char said[DETAIL_BYTES] = "";
    for (;;) {
        struct conn *c = NULL;
        fault_wait();
        enum status status = fault_drops(link->address) ? NO_SERVER
                                                        : call_open(link->address, MASTER_PORT, CALL_TIMEOUT_MS, &c);
        if (status == DONE) {
            conn_timeout(c, (int)node.dead_after_ms);
            status = node_join(c, link);
        }
        if (status == DONE) {
            *said = 0;
            node_ping(c, link);
            log_line("master %s is gone: %s", link->address, detail);
        } else if (strcmp(said, detail) != 0) { /* say each new reason once */
            log_line("no master at %s yet: %s", link->address, detail);
            memcpy(said, detail, sizeof said);
        }
        lock_take(&node.lock);
        link->up = false;
        link->session = link->epoch = 0;
        lock_drop(&node.lock);
        conn_close(c);
        sleep_ms(RETRY_PAUSE_MS);
    }
    return NULL;
}

/* Takes on the masters' addresses, separated by commas. */
static void links_make(const char *masters) {
    struct slice rest = slice_of(masters), part;
    while (slice_part(&rest, ',', &part)) {
        if (node.link_count == MASTERS_MAX) die(USAGE_ERROR, "--master: at most %d addresses", MASTERS_MAX);
        if (part.length == 0 || !slice_copy(part, node.links[node.link_count++].address, ADDRESS_MAX_BYTES + 1))
            die(USAGE_ERROR, "--master: an address has 1 to %d bytes", ADDRESS_MAX_BYTES);
    }
}

/* Tells the masters that this node was stopped, so that its copies are waited for. It does not matter if they don't
 * hear it. */
static void node_bye(void) {
    struct words w;
    for (int i = 0; i < node.link_count; i++) {
        struct conn *c = NULL;
        lock_take(&node.lock);
        uint64_t session = node.links[i].up ? node.links[i].session : 0;
        lock_drop(&node.lock);
        if (session == 0 || fault_drops(node.links[i].address)) continue;
        if (call_open(node.links[i].address, MASTER_PORT, HURRY_MS, &c) == DONE) call(c, &w, "BYE %" PRIu64, session);
        conn_close(c);
    }
}

/* Runs a node until it is told to stop. `folder` and the addresses come from the command line. */
static int node_main(const char *folder, const char *listen_address, const char *masters, const char *name,
                     const char *zone, uint64_t segment_max, uint64_t scrub_rate, int64_t ping_ms,
                     int64_t dead_after_ms) {
    log_role = "node";
    snprintf(self_role, sizeof self_role, "node");
    lock_init(&node.lock, RANK_CLUSTER);
    lock_init(&node.reports_lock, RANK_REPORTS);
    cond_init(&node.report);
    store_open(&node.store, folder, segment_max);
    tree_init(&node.tree);
    node.id = node.store.formatted ? node.store.id : random_u64();
    node.instance = random_u64();
    node.started_s = clock_wall_s();
    node.ping_ms = ping_ms;
    node.dead_after_ms = dead_after_ms;
    node.bound_for_ms = dead_after_ms;
    node.report_fd = -1;
    node.scrub_rate = scrub_rate;
    snprintf(node.zone, sizeof node.zone, "%s", zone ? zone : "");
    snprintf(self_id, sizeof self_id, "%016" PRIx64, node.id);
    snprintf(node.name, sizeof node.name, "%s", name ? name : node.store.formatted ? node.store.name : "node");
    if (!name && !node.store.formatted && gethostname(node.name, sizeof node.name) != 0) node.name[0] = 'n';
    node.name[sizeof node.name - 1] = 0;
    links_make(masters);
    node.store.lost = report_lost;
    if (node.store.formatted) store_recover(&node.store, &node.tree);
    node.heard_ms = clock_ms(); /* maybe the process before this one heard from its master just now */
    server.table = node_table;
    server.role = "node";
    server.hold = node_hold;
    server.listen_fd = net_listen(listen_address, NODE_PORT, server.address, sizeof server.address);
    bool good = thread_start(store_keeper, &node.store) && thread_start(node_reporter, NULL) &&
                thread_start(node_tidy, NULL) && thread_start(node_scrub, NULL);
    for (int i = 0; i < node.link_count; i++) good = thread_start(node_link, &node.links[i]) && good;
    if (!good) die(INTERNAL, "no threads; raise the limit on processes");
    server_run();
    node_bye();
    if (node.store.formatted && store_close(&node.store) != DONE) die(INTERNAL, "%s", detail);
    return 0;
}
/* ======== 13. Master ======== */
/* Orders all changes, tells clients where bytes are, keeps the number of copies. It has no disk: what it knows it read
 * from the nodes when its reign began. The rules of the roster (docs/ARCHITECTURE.md, section 3) are in reign_*.
 *
 * Lock: master.lock (RANK_CLUSTER) guards everything in struct master, its peers and its tree; it is never held across
 * the network. Threads: the accept loop and one per connection; reign (take-over, watching, roster); planner (copies);
 * and for each node that ever joined, one that sends it records and COPY_WORKERS that order it to fetch.
 * Entry points: master_main. */

enum reign { WAITING, PROMISING, LOADING, ESTABLISHING, REIGNING };

static const char *const reign_names[] = {"waiting", "asking for promises", "loading", "establishing", "reigning"};

/* One order to fetch: chunks that `target` gets from `source`. */
struct copy_order {
    uint64_t epoch; /* the chunks' numbers are of this reign's tree */
    uint64_t bytes;
    int source, count;
    int from;       /* the node that gives its copies up for these, or -1 */
    uint32_t chunk[COPY_BATCH_CHUNKS];
};

/* A node that joined at any time in the life of this master. Never freed; the slot is its number in node_set. */
struct peer {
    uint64_t id, instance, session;
    char name[LABEL_MAX_BYTES + 1], address[ADDRESS_MAX_BYTES + 1];
    char zone[LABEL_MAX_BYTES + 1], version[LABEL_MAX_BYTES + 1];
    uint64_t born_s, started_s; /* its first start, and its last one, in seconds since 1970; 0: not known */
    int zone_number;          /* equal for nodes of one zone, below NODES_MAX */
    bool up;                  /* joined, and neither silent nor closed for too long */
    bool failed;              /* its disk */
    struct conn *link;        /* the connection it pings on; NULL: closed since gone_ms */
    int64_t gone_ms, ping_ms, down_ms; /* down_ms: since when it is not up */
    int64_t echo_ms;          /* our clock when we sent the last pong that it acknowledged: the lease */
    uint64_t files, chunks, bytes, damaged_chunks, free_bytes, total_bytes;
    uint32_t transfers;
    bool inventoried;         /* all its chunks are known to this reign */
    int64_t joined_ms;
    bool draining;            /* as its member says */
    bool forgotten;           /* by order of the operator, until it joins again */
    uint64_t held_bytes;      /* of the chunks whose holder it is */
    uint64_t coming_bytes, going_bytes; /* of orders under way: chunks that it will hold, and not any more */
    /* When it is lost: what became of its copies. */
    bool stopping;            /* it said goodbye */
    bool waited_for;          /* its copies still count, though it is down: in master.away */
    bool repairing;           /* there was no event yet that says that all is whole again, */
    bool partly;              /* but one that says so but for what nobody holds */
    int64_t alive_ms, repair_ms; /* its last sign of life; since when its copies are made anew, or will be, or it is
                               * back */
    uint64_t repair_from;     /* master.copied_bytes then */
    /* What its pings say while nobody reigns here, then what it said when it promised. */
    bool told;                /* the next four are of now, not of before a reign */
    struct position at;
    struct roster roster;
    bool damaged;             /* its records are: it counts for nothing */
    bool forgot;              /* they were in this reign, and what it promised with them: it is lost as a member */
    bool bound;               /* another master lives, or did until lately, and this node keeps its promise to it */
    uint64_t promised;
    bool answered, agreed;    /* to the promise asked for now */
    /* The stream of records. */
    struct cond wake;         /* there is something to send, or the reign changed */
    char why[256];            /* its stream ended last; "" while it goes */
    bool streaming;
    int stream_fd, copy_fd[COPY_WORKERS]; /* connections to it that somebody waits on; -1: none */
    uint64_t snapshot_seq;    /* the last record in the snapshot that it takes now; 0: it takes none */
    uint64_t acked;           /* last record it has on disk, in this reign */
    int64_t progress_ms;      /* when `acked` grew last, or when there was nothing to wait for */
    uint64_t no_room;         /* epoch in which it had no room for a record, and acknowledged none since; or 0 */
    bool unproved;            /* it hung: until it acknowledges something in good time it is not waited for again */
    int64_t probe_ms,
        probe_wait_ms; /* when it is given something to acknowledge, if nothing else comes; the next wait */
    /* Copies. */
    struct cond order_ready;
    struct copy_order *orders[COPY_WORKERS], *running[COPY_WORKERS]; /* not taken yet; taken by a worker */
    struct drop {
        uint8_t hash[32];
        bool surplus;         /* there are enough copies without it; else no record names it */
        bool sent;            /* it may be gone already: the answer did not come */
        uint32_t length;
        int64_t since_ms;     /* it was not stored since then, by all that was reported */
    } *drops;                 /* chunks that it is to drop; its holder bits are gone already */
    uint32_t drop_count, drop_capacity;
    int64_t order_ms;         /* no order before this time: --repair-rate */
    int order_count, receiving, sending;
    int64_t fetched_ms;       /* when an order ended last */
    bool behind;              /* its last order was as large as one may be: there is more to fetch */
    uint64_t ordered_bytes;   /* that it was to fetch since it said how much is free */
    uint64_t received_bytes, sent_bytes; /* by orders, for status */
};

/* A thread that waits for its record to be committed, or, with a claim, for that claim's next chunk to be on enough
 * nodes. Who wakes it takes it off the list, so that it is signalled once. */
struct waiter {
    uint64_t seq;
    const struct claim *claim;
    bool woken;
    struct cond ready;
    struct waiter *next;
};

struct record {
    uint64_t seq;
    char *data;
    size_t length;
};

/* Chunks to look at, in order; a ring. */
enum { CHUNK_QUEUES = 4 };

struct chunk_queue {
    uint32_t *index;
    size_t capacity, head, count;
};

static struct master {
    struct lock lock;
    struct cond changed;      /* state, peers, holders: whoever waits looks again */
    enum reign state;
    bool init;                /* was started to found a cluster */
    bool allow_faults;        /* nodes may be asked for faults on purpose */
    char force[LABEL_MAX_BYTES + 1]; /* the node of --force-from, by name or id; "" when there is none, or it is done */
    int64_t force_ms;         /* since when it is here and the rule does not allow a take-over */
    int forcing;              /* its slot, while a take-over from it alone is under way; else -1 */
    struct node_set founders; /* to whom a founding record was proposed that was never committed */
    bool may_found;           /* and nobody who holds records was ever heard of */
    int64_t found_ms;         /* when to found it; 0: no blank node is here yet */
    bool foreign;             /* a node of another cluster came before this one was founded: --init was a mistake */
    char cluster[33];         /* "" until known */
    uint64_t id;
    char waiting_for[512];    /* why it does not reign */
    struct position named;    /* the roster whose nodes' names were asked for */
    uint64_t epoch;           /* of the reign, or the one asked for */
    uint64_t highest_seen;    /* epoch that anybody promised */
    int64_t half_ms;          /* since when more than half of the newest roster is there */
    int64_t free_ms;          /* since when more than half is free too; the others are so within a ping */
    int64_t retry_ms;         /* no take-over before this time: the last one failed */
    bool saw_other;           /* some node was bound to another master */
    int64_t turn_ms;          /* a take-over that is due begins then; 0: none is due */
    struct tree tree;
    uint64_t committed;       /* seq: acknowledged by the whole roster */
    uint64_t established;     /* seq of the record that began this reign */
    int64_t established_ms;
    int64_t hold_until_ms;    /* until then no node leaves the roster: one was allowed to answer reads by itself */
    struct node_set roster, next_roster;
    uint64_t next_roster_seq; /* 0: no change of the roster is under way */
    struct record *history;   /* records of this reign, oldest first */
    size_t history_count, history_capacity, history_bytes;
    uint64_t history_first;   /* seq of history[0] */
    struct waiter *waiters, *claims;
    int stat_waiters;         /* reads that wait for nodes to tell what they hold */
    struct peer *peers[NODES_MAX];
    uint64_t peer_id[NODES_MAX]; /* their ids, together, because they are looked through for every ping */
    int peer_count;
    struct chunk_queue queues[CHUNK_QUEUES]; /* chunks of which there is one copy, are two, three, more */
    struct cond copy_wanted;
    struct node_set away;     /* nodes that are down and waited for: their holder bits stay */
    int copies;               /* --copies, to be recorded; 0: as it is */
    bool copies_changed;      /* what files and directories say of copies: CHUNK_COPIES is to be found out anew */
    int counted_on;           /* the node of the LIST that is being answered, or -1 */
    bool stuck;               /* nothing in the queues can be copied now: those who could take it are full */
    int orders, moves;        /* under way: all orders to fetch, and those of them that only balance */
    uint64_t copied_bytes;    /* by orders, in all, but for moves */
    uint64_t copied_before, copy_rate; /* the same a second ago; bytes in a second, of late */
    int64_t repair_wait_ms, stopped_wait_ms; /* --repair-after: of a node that crashed, that was stopped */
    uint64_t repair_rate;     /* bytes in a second that one node takes; 0: no limit */
    uint32_t move_next, surplus_next; /* the next chunks to be looked at */
    uint32_t move_looked;     /* how many were looked at for the pair of nodes number */
    int move_pair;
    uint32_t zone_next;       /* the same for plan_zones, */
    bool zones_due, zones_again; /* whether it has to look at all, and whether it found something since it began */
    int64_t zones_ms;         /* and when it looks on */
    int64_t move_ms;          /* when to look for chunks to move again */
    int64_t surplus_ms;       /* when to look for surplus copies; 0: there is no reason to */
    bool surplus_again;       /* some may be where that look has been already */
    int64_t changed_ms;       /* when a node went, or came back, last */
    struct event {
        uint64_t number;
        int64_t wall_ms;
        char *text;
    } *events;                /* a ring of EVENTS_MAX */
    uint64_t event_count;     /* ever */
    /* Drops. Sweeps go over all chunks, SWEEP_STEP at a time, and count how often each was seen unnamed. */
    uint32_t sweep_next;      /* the next chunk of this sweep; 0: it has not begun */
    int64_t swept_ms[CHUNK_AGE_MAX + 1]; /* ends of the last sweeps, the newest first */
    uint64_t swept_seq[CHUNK_AGE_MAX + 1]; /* last record of the tree that they went by */
    int sweeps;               /* of this reign */
    struct open_upload {
        uint64_t client;
        int64_t since_ms, until_ms; /* open since; forgotten unless the client says so again by then */
    } uploads[UPLOADS_MAX];
    int upload_count;
    int64_t crowded_ms;       /* until then there may be uploads that found no place in it */
    uint64_t dropped_chunks, dropped_bytes;
    bool allow_drops;         /* also after --force-from */
    int64_t wall_ms;          /* the wall clock less clock_ms(), when this process began */
    int64_t steady_ms, ahead_ms; /* the same as it is believed now; since when the wall clock is ahead of it, 0: not */
    size_t share_next;        /* the next link to look at */
    uint64_t trash_s;         /* how long what is removed stays in the trash; 0: it does not */
    uint64_t trash_parent;    /* key of the entry of the trash that trash_watch looked at last */
    char trash_key[TRASH_NAME_MAX_BYTES];
    size_t trash_key_length;
    uint32_t early_s;         /* what expires until then is removed now */
    int64_t early_ms;         /* when to look again whether more must be */
    int64_t grace_ms;
    int sync_copies, roster_most;
    int64_t ping_ms, dead_after_ms;
    uint64_t next_session;
} master;

/* The time by which the trash goes, in seconds since 1970: the wall clock of when this process began, and what has
 * passed since. So a clock that jumps empties no trash. */
static uint64_t trash_now_s(void) {
    return (uint64_t)(master.wall_ms + clock_ms()) / 1000;
}

/* The time by which files and links expire, in milliseconds since 1970: the wall clock's. One that jumps ahead is not
 * believed before it stayed there for the grace time: until then the time is what it was, and what has passed since. */
static int64_t expiry_clock_ms(void) {
    int64_t wall_ms = clock_wall_ns() / 1000000, steady_ms = master.steady_ms + clock_ms();
    if (wall_ms - steady_ms < 1000) master.ahead_ms = 0;
    else if (master.ahead_ms == 0) master.ahead_ms = clock_ms();
    else if (clock_ms() - master.ahead_ms > master.grace_ms) master.steady_ms = wall_ms - clock_ms();
    return wall_ms < steady_ms ? wall_ms : steady_ms;
}

/* Whether what expired may be removed for good: not in the first grace time of a reign, for the clock of this machine
 * may be wrong, and be noticed. Until then it is out of sight only. */
static bool expiry_removes(void) {
    return master.state == REIGNING && clock_ms() - master.established_ms >= master.grace_ms;
}

/* ---- Events ---- */

/* Notes what happened, for who asks for EVENTS, and says it in the log. */
__attribute__((format(printf, 1, 2))) static void event_say(const char *format, ...) {
    char text[DETAIL_BYTES];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    lock_check(&master.lock);
    if (!master.events) master.events = mem_alloc(EVENTS_MAX * sizeof *master.events);
    struct event *event = &master.events[master.event_count % EVENTS_MAX];
    free(event->text);
    event->text = mem_alloc(strlen(text) + 1);
    memcpy(event->text, text, strlen(text) + 1);
    event->number = ++master.event_count;
    event->wall_ms = clock_wall_ns() / 1000000;
    log_line("%s", text);
    cond_broadcast(&master.changed);
}

/* ---- Peers ---- */

static int peer_slot(uint64_t id) {
    for (int i = 0; i < master.peer_count; i++)
        if (master.peer_id[i] == id) return i;
    return -1;
}

static bool peer_usable(const struct peer *p) {
    return p->up && !p->failed && p->no_room != master.epoch && p->streaming;
}

/* Whether a node has no room for one more chunk. It keeps its reserve for names. */
static bool peer_is_full(const struct peer *p) {
    return p->total_bytes > 0 && p->free_bytes <= disk_reserve(p->total_bytes) + CHUNK_MAX_BYTES;
}

/* Whether a node has the copies that it lacked: its last order took all there were, or it has none, and would have been
 * given one. */
static bool peer_has_all(const struct peer *p) {
    return !p->behind || (p->receiving == 0 && clock_ms() - p->fetched_ms > master.dead_after_ms / 4);
}

/* Whether a node will be full soon: what can go elsewhere does. */
/* Whether a node will be full soon, when so many bytes more have come. */
static bool peer_is_crowded(const struct peer *p, uint64_t more) {
    return p->total_bytes > 0 && p->free_bytes < disk_reserve(p->total_bytes) + CROWDED_BYTES + more;
}

/* Whether a node never held a record, by what it said last. */
static bool peer_is_blank(const struct peer *p) {
    return p->at.seq == 0 && p->roster.count == 0 && !p->damaged;
}

/* Ends the connections to a node that is gone, so that nobody waits on them for an answer that can't come. */
static void peer_cut(const struct peer *p) {
    net_cut(p->stream_fd);
    for (int i = 0; i < COPY_WORKERS; i++) net_cut(p->copy_fd[i]);
}

/* Names of peers in a set, for messages. */
static void text_peers(struct text *t, const struct node_set *set) {
    bool any = false;
    for (int i = 0; i < master.peer_count; i++) {
        if (!node_set_has(set, i)) continue;
        text_add(t, any ? ", " : "");
        text_add(t, master.peers[i]->name);
        any = true;
    }
}

/* Takes over from the tree who is draining. */
static void peers_drain(void) {
    for (int i = 0; i < master.peer_count; i++) {
        const struct member *m = tree_member(&master.tree, master.peers[i]->id);
        master.peers[i]->draining = m && m->draining;
    }
}

static int usable_count(void) {
    int count = 0;
    for (int i = 0; i < master.peer_count; i++) count += peer_usable(master.peers[i]);
    return count;
}

/* Whether half of a roster acknowledged a sign of life that was sent within the dead-after time before `now_ms`. */
static bool lease_from(const struct node_set *roster, int64_t now_ms) {
    int all = 0, acknowledged = 0;
    for (int i = 0; i < master.peer_count; i++) {
        if (!node_set_has(roster, i)) continue;
        all++;
        acknowledged += master.peers[i]->up && now_ms - master.peers[i]->echo_ms < master.dead_after_ms;
    }
    return roster_has_lease(acknowledged, all);
}

/* Whether reads are current: so many nodes promise nothing to another master now that none can take over. While the
 * roster changes, another might go by the old one or by the new one. */
static bool master_has_lease(void) {
    if (master.state != REIGNING || !lease_from(&master.roster, clock_ms())) return false;
    return master.next_roster_seq == 0 || lease_from(&master.next_roster, clock_ms());
}

/* ---- Copies wanted ---- */

static void queue_push(struct chunk_queue *q, uint32_t index) {
    if (q->count == q->capacity) {
        size_t capacity = q->capacity ? q->capacity * 2 : 256;
        uint32_t *grown = mem_alloc(capacity * sizeof *grown);
        for (size_t i = 0; i < q->count; i++) grown[i] = q->index[(q->head + i) % q->capacity];
        free(q->index);
        *q = (struct chunk_queue){grown, capacity, 0, q->count};
    }
    q->index[(q->head + q->count++) % q->capacity] = index;
}

static size_t queues_count(void) {
    size_t count = 0;
    for (int i = 0; i < CHUNK_QUEUES; i++) count += master.queues[i].count;
    return count;
}

static void queues_clear(void) {
    for (int i = 0; i < CHUNK_QUEUES; i++) master.queues[i].count = 0;
}

/* Whether a chunk that came off a queue was still to be found there: it may have gone on to a more urgent one. */
static bool queue_has(int queue, const struct chunk *chunk) {
    return chunk->flags & CHUNK_QUEUED && (int)(chunk->flags & CHUNK_QUEUE) >> CHUNK_QUEUE_SHIFT == queue;
}

static uint32_t queue_pop(struct chunk_queue *q) {
    uint32_t index = q->index[q->head];
    q->head = (q->head + 1) % q->capacity;
    q->count--;
    return index;
}

/* The nodes that count for copies. */
struct standing {
    struct node_set here;    /* they hold chunks, and may be given some: usable, inventoried, not draining */
    struct node_set counted; /* whose copies count: those, and nodes that are away and waited for */
    int here_count, counted_count;
};

static struct standing standing_now(void) {
    struct standing now = {.counted = master.away};
    for (int i = 0; i < master.peer_count; i++) {
        const struct peer *p = master.peers[i];
        if (!peer_usable(p) || !p->inventoried || p->draining) continue;
        node_set_add(&now.here, i);
        node_set_add(&now.counted, i);
    }
    now.here_count = node_set_count(&now.here);
    now.counted_count = node_set_count(&now.counted);
    return now;
}

/* The holders of a chunk that are there now. */
static struct node_set chunk_live(const struct chunk *chunk) {
    return node_set_less(&chunk->holders, &master.away);
}

/* How many copies of a chunk there are to be: COPIES_ALL, or a number. */
static int chunk_wanted(const struct chunk *chunk) {
    int copies = (int)(chunk->flags & CHUNK_COPIES) >> CHUNK_COPIES_SHIFT;
    if (master.tree.copies_count > 0 && copies != 0) return copies;
    return tree_copies(&master.tree, tree_by_id(&master.tree, ROOT_ID));
}

/* How many copies a chunk lacks; less than 0: how many there are too many. */
static int copies_lacking(const struct chunk *chunk, const struct standing *now) {
    int wanted = chunk_wanted(chunk);
    struct node_set have = node_set_and(&chunk->holders, wanted == COPIES_ALL ? &now->here : &now->counted);
    if (wanted == COPIES_ALL) wanted = now->here_count;
    return (wanted < now->counted_count ? wanted : now->counted_count) - node_set_count(&have);
}

/* Notes that there are to be at least so many copies of a chunk. */
static void chunk_raise(uint32_t index, int copies) {
    struct chunk *chunk = tree_chunk(&master.tree, index);
    if ((int)(chunk->flags & CHUNK_COPIES) >> CHUNK_COPIES_SHIFT < copies)
        chunk->flags = (chunk->flags & ~(uint32_t)CHUNK_COPIES) | (uint32_t)copies << CHUNK_COPIES_SHIFT;
}

/* Adds and removes a holder of a chunk. */
static void holder_add(struct chunk *chunk, int slot) {
    if (node_set_has(&chunk->holders, slot)) return;
    node_set_add(&chunk->holders, slot);
    master.peers[slot]->held_bytes += chunk->length;
}

static void holder_remove(struct chunk *chunk, int slot) {
    if (!node_set_has(&chunk->holders, slot)) return;
    node_set_remove(&chunk->holders, slot);
    master.peers[slot]->held_bytes -= chunk->length;
}

/* Whether copies are being made, or will be. */
static bool copies_go_on(void) {
    return master.orders > master.moves || (queues_count() > 0 && !master.stuck);
}

/* Puts a chunk in line to be looked at by the planner: those with the fewest copies come first. */
static void chunk_enqueue(uint32_t index) {
    struct chunk *chunk = tree_chunk(&master.tree, index);
    struct node_set live = chunk_live(chunk);
    int queue = node_set_count(&live) < CHUNK_QUEUES ? node_set_count(&live) - 1 : CHUNK_QUEUES - 1;
    if (chunk->flags & CHUNK_COPYING) return;
    if (chunk->flags & CHUNK_QUEUED && (int)(chunk->flags & CHUNK_QUEUE) >> CHUNK_QUEUE_SHIFT <= queue) return;
    if (chunk->references == 0 && !(chunk->flags & CHUNK_FRESH)) return;
    if (node_set_empty(&live)) return;
    chunk->flags = (chunk->flags & ~(uint32_t)CHUNK_QUEUE) | CHUNK_QUEUED | (uint32_t)queue << CHUNK_QUEUE_SHIFT;
    master.stuck = false;
    queue_push(&master.queues[queue], index);
    cond_signal(&master.copy_wanted);
}

/* There may be chunks with too many copies: has them be looked for, the grace time from now. */
static void surplus_look(void) {
    master.surplus_again |= master.surplus_next > 0;
    if (master.surplus_ms == 0) master.surplus_ms = clock_ms() + master.grace_ms;
}

/* Puts every chunk that lacks copies in line. */
static void chunks_lacking(void) {
    struct standing now = standing_now();
    for (uint32_t i = 0; i < master.tree.chunk_high; i++)
        if (tree_chunk(&master.tree, i)->references > 0 && copies_lacking(tree_chunk(&master.tree, i), &now) > 0)
            chunk_enqueue(i);
    cond_signal(&master.copy_wanted);
}

/* After nodes came or went: what lacks copies is put in line; what has too many waits for the grace time from now, for
 * more may come or go. */
static void chunks_review(void) {
    chunks_lacking();
    master.surplus_ms = clock_ms() + master.grace_ms;
    master.surplus_again |= master.surplus_next > 0;
}

/* In the order of the treap, in which the entries of a directory stand together. */
static void wants_walk(const struct inode *n, uint64_t *parent, int *copies) {
    if (!n) return;
    wants_walk(n->left, parent, copies);
    if (n->chunk_count > 0) {
        if (*parent != n->parent) {
            *parent = n->parent;
            *copies = tree_copies(&master.tree, tree_by_id(&master.tree, n->parent & ~TRASH_BIT));
        }
        for (uint32_t i = 0; i < n->chunk_count; i++) chunk_raise(inode_chunk(n, i), n->copies ? n->copies : *copies);
    }
    wants_walk(n->right, parent, copies);
}

/* Finds out for each chunk how many copies there are to be: as many as any file that names it wants. */
static void wants_review(void) {
    uint64_t parent = 0;
    int copies = COPIES_ALL;
    master.copies_changed = false;
    for (uint32_t i = 0; i < master.tree.chunk_high && master.tree.copies_count > 0; i++)
        tree_chunk(&master.tree, i)->flags &= ~(uint32_t)CHUNK_COPIES;
    if (master.tree.copies_count > 0) wants_walk(master.tree.root, &parent, &copies);
    chunks_lacking();
    surplus_look();
}

static void holders_clear(int slot) {
    for (uint32_t i = 0; i < master.tree.chunk_high; i++) {
        struct chunk *chunk = tree_chunk(&master.tree, i);
        if (!node_set_has(&chunk->holders, slot)) continue;
        holder_remove(chunk, slot);
        tree_chunk_release(&master.tree, i);
    }
    node_set_remove(&master.away, slot);
    master.peers[slot]->waited_for = master.peers[slot]->inventoried = false;
}

/* Has a holder drop a chunk. From here on nobody counts it as one: whoever stores the chunk again says so. */
static void chunk_drop_at(struct chunk *chunk, int slot, bool surplus, int64_t since_ms) {
    struct peer *p = master.peers[slot];
    if (p->drop_count == p->drop_capacity) {
        p->drop_capacity = p->drop_capacity ? p->drop_capacity * 2 : 64;
        p->drops = mem_resize(p->drops, p->drop_capacity * sizeof *p->drops);
    }
    struct drop *drop = &p->drops[p->drop_count++];
    *drop = (struct drop){.surplus = surplus, .since_ms = since_ms, .length = chunk->length};
    memcpy(drop->hash, chunk->hash, 32);
    holder_remove(chunk, slot);
    master.dropped_chunks++;
    master.dropped_bytes += chunk->length;
    cond_signal(&p->wake);
}

/* ---- Records: proposing, committing, waiting ---- */

/* Wakes those on a list that `ready` lets through; all if it is NULL. */
static void waiters_wake(struct waiter **link, bool (*ready)(const struct waiter *)) {
    while (*link) {
        struct waiter *w = *link;
        if (ready && !ready(w)) {
            link = &w->next;
            continue;
        }
        *link = w->next;
        w->woken = true;
        cond_signal(&w->ready);
    }
}

/* Waits on a list until woken or until `until_ms`; false in the latter case. */
static bool waiter_sleep(struct waiter **list, struct waiter *self, int64_t until_ms) {
    bool in_time = true;
    cond_init(&self->ready);
    self->woken = false;
    self->next = *list;
    *list = self;
    while (!self->woken && in_time) in_time = cond_wait_until(&self->ready, &master.lock, until_ms);
    if (!self->woken) {
        while (*list != self) list = &(*list)->next;
        *list = self->next;
    }
    cond_free(&self->ready);
    return self->woken;
}

static bool waiter_committed(const struct waiter *w) {
    return w->seq <= master.committed;
}

static void peers_wake(void) {
    for (int i = 0; i < master.peer_count; i++) cond_signal(&master.peers[i]->wake);
    cond_broadcast(&master.changed);
    cond_signal(&master.copy_wanted);
}

static void history_clear(void) {
    for (size_t i = 0; i < master.history_count; i++) free(master.history[i].data);
    master.history_count = master.history_bytes = 0;
}

/* Forgets the oldest records while there are too many bytes of them; a node that would need them gets a snapshot. */
static void history_trim(void) {
    size_t drop = 0;
    uint64_t needed = UINT64_MAX; /* by a node that catches up, or takes a snapshot and will have to */
    for (int i = 0; i < master.peer_count; i++) {
        const struct peer *p = master.peers[i];
        uint64_t has = p->snapshot_seq != 0 ? p->snapshot_seq : p->streaming ? p->acked : UINT64_MAX;
        if (has < needed) needed = has;
    }
    while (drop < master.history_count && master.history_bytes > HISTORY_MAX_BYTES &&
           master.history[drop].seq <= master.committed &&
           (master.history[drop].seq <= needed || master.history_bytes > HISTORY_LIMIT_BYTES)) {
        master.history_bytes -= master.history[drop].length;
        free(master.history[drop++].data);
    }
    if (drop == 0) return;
    master.history_count -= drop;
    master.history_first += drop;
    memmove(master.history, master.history + drop, master.history_count * sizeof *master.history);
}

/* Ends the reign: everything this master knows is forgotten, whoever waits is told that the outcome is unknown. */
static void reign_end(const char *why) {
    lock_check(&master.lock);
    if (master.state >= ESTABLISHING) event_say("epoch %" PRIu64 " ends: %s", master.epoch, why);
    if (master.state != WAITING) snprintf(master.waiting_for, sizeof master.waiting_for, "%s", why);
    master.state = WAITING;
    master.half_ms = 0;
    for (int i = 0; i < master.peer_count; i++) master.peers[i]->streaming = master.peers[i]->told = false;
    waiters_wake(&master.waiters, NULL);
    waiters_wake(&master.claims, NULL);
    peers_wake();
}

static uint64_t roster_acked(const struct node_set *set) {
    uint64_t least = UINT64_MAX;
    for (int i = 0; i < master.peer_count; i++) {
        if (!node_set_has(set, i)) continue;
        uint64_t acked = master.peers[i]->streaming ? master.peers[i]->acked : 0;
        if (acked < least) least = acked;
    }
    return least == UINT64_MAX ? 0 : least;
}

/* The write rule: a record is acknowledged when every node of the roster has it on disk; a change of the roster when
 * every node of the old one that stays, and of the new one, has it. */
static void commit_update(void) {
    uint64_t reached = roster_acked(&master.roster);
    if (master.next_roster_seq != 0) {
        uint64_t next = roster_acked(&master.next_roster);
        bool grows = node_set_count(&master.next_roster) > node_set_count(&master.roster);
        if (grows && reached < next) next = reached;
        if (next >= master.next_roster_seq) {
            master.roster = master.next_roster; /* from here on the new roster is the roster */
            master.next_roster_seq = 0;
            reached = next;
            cond_broadcast(&master.changed);
        } else if (reached >= master.next_roster_seq) {
            reached = master.next_roster_seq - 1;
        }
    }
    if (reached <= master.committed) return;
    master.committed = reached;
    waiters_wake(&master.waiters, waiter_committed);
}

/* Gives a change its place in the order: applies it here and sends it to all nodes. `lines` are the record's lines
 * after TX; `request` may be NULL. Returns its seq; it is not committed yet. */
static uint64_t master_propose(const struct text *lines, const char *request) {
    struct text record = {0};
    lock_check(&master.lock);
    text_add(&record, "TX ");
    text_u64(&record, master.epoch);
    text_byte(&record, ' ');
    text_u64(&record, master.tree.at.seq + 1);
    text_byte(&record, ' ');
    text_add(&record, request ? request : "-");
    text_byte(&record, ' ');
    text_i64(&record, clock_wall_ns() / 1000000);
    text_byte(&record, '\n');
    text_bytes(&record, lines->data, lines->length);
    if (tree_apply(&master.tree, record.data, record.length) != DONE)
        die(INTERNAL, "a record that this master made does not fit its own tree: %s", detail);
    if (master.history_count == master.history_capacity) {
        master.history_capacity = master.history_capacity ? master.history_capacity * 2 : 64;
        master.history = mem_resize(master.history, master.history_capacity * sizeof *master.history);
    }
    record.data = mem_resize(record.data, record.length); /* kept for long: what it grew to in advance goes back */
    if (master.history_count == 0) master.history_first = master.tree.at.seq;
    master.history[master.history_count++] = (struct record){master.tree.at.seq, record.data, record.length};
    master.history_bytes += record.length;
    history_trim();
    int64_t now_ms = clock_ms();
    for (int i = 0; i < master.peer_count; i++) {
        struct peer *p = master.peers[i];
        if (p->acked + 1 == master.tree.at.seq) p->progress_ms = now_ms;
        if (p->streaming) cond_signal(&p->wake);
    }
    return master.tree.at.seq;
}

/* Waits until a record is committed. UNKNOWN if the reign ends first: it may or may not survive. */
static enum status master_wait(uint64_t seq) {
    struct waiter self = {.seq = seq};
    uint64_t epoch = master.epoch;
    int64_t until_ms = clock_ms() + COMMIT_TIMEOUT_MS;
    if (master.committed < seq) waiter_sleep(&master.waiters, &self, until_ms);
    if (master.epoch == epoch && master.state >= ESTABLISHING && master.committed >= seq) return DONE;
    return fail(UNKNOWN, "the nodes did not confirm the change; repeat the request, which is safe");
}

static enum status master_check_reign(void) {
    if (master.state == REIGNING) return DONE;
    return fail(READ_ONLY, "%s", *master.waiting_for ? master.waiting_for : "no node has joined yet");
}

/* How many live nodes hold a chunk, on disk or on its way there. */
static int chunk_copies(const struct chunk *chunk) {
    int count = 0;
    for (int i = 0; i < master.peer_count; i++)
        count += node_set_has(&chunk->holders, i) && peer_usable(master.peers[i]);
    return count;
}

/* On how many disks a chunk is, for an acknowledgement: also on that of a node that is down and waited for. */
static int chunk_disks(const struct chunk *chunk) {
    struct node_set away = node_set_and(&chunk->holders, &master.away);
    return chunk_copies(chunk) + node_set_count(&away);
}

/* One upload's claim: what the client says it stored. */
struct claim {
    uint32_t count, next;   /* chunks; the first of them that is not known to be on enough nodes */
    int copies;             /* that there are to be, as its path says */
    uint64_t size;
    int64_t mtime_ns;
    uint32_t life_s;
    uint8_t sha256[32], request[16];
    char request_hex[33];
    enum {
        IF_ANY,
        IF_NONE,
        IF_SAME
    } condition; /* what may have the path: anything, nothing, only the file of if_sha256 */
    uint8_t if_sha256[32];
    struct claimed {
        uint8_t hash[32];
        uint32_t length;
    } *chunk;
};

/* How many copies an acknowledgement needs now, of a file of which there are to be so many. */
static int copies_needed(int wanted) {
    int usable = usable_count(), most = wanted < master.sync_copies ? wanted : master.sync_copies;
    return usable < most ? usable : most;
}

/* Whether who waits for a claim can go on: the next chunk is on enough disks. That is what the nodes said, the third
 * party's word; they say it when they have synced. */
static bool claim_ready(const struct waiter *w) {
    uint32_t index = tree_chunk_find(&master.tree, w->claim->chunk[w->claim->next].hash);
    int needed = copies_needed(w->claim->copies);
    return index != NONE && needed > 0 && chunk_disks(tree_chunk(&master.tree, index)) >= needed;
}

/* Called when nodes said what they hold, or acknowledged a record. */
static void holders_changed(void) {
    if (master.claims) waiters_wake(&master.claims, claim_ready);
    if (master.stat_waiters > 0) cond_broadcast(&master.changed);
}

/* Waits until every chunk of a claim is on as many disks as an acknowledgement needs. */
static enum status claim_wait(struct claim *claim) {
    struct waiter self = {.claim = claim};
    int64_t until_ms = clock_ms() + COMMIT_TIMEOUT_MS;
    uint64_t epoch = master.epoch;
    for (claim->next = 0; claim->next < claim->count;) {
        struct claimed *claimed = &claim->chunk[claim->next];
        uint32_t index = tree_chunk_find(&master.tree, claimed->hash);
        if (index != NONE && tree_chunk(&master.tree, index)->length != claimed->length)
            return fail(DAMAGED, "a chunk that the nodes stored has another length than the client says");
        if (claim_ready(&self)) {
            claim->next++;
            continue;
        }
        if (index != NONE) {
            tree_chunk(&master.tree, index)->flags |= CHUNK_FRESH;
            chunk_raise(index, claim->copies);
            chunk_enqueue(index);
        }
        waiter_sleep(&master.claims, &self, clock_ms() + LOOK_MS);
        if (master.epoch != epoch || master.state != REIGNING)
            return fail(UNKNOWN, "the master's reign ended; repeat the request, which is safe");
        if (clock_ms() >= until_ms)
            return fail(UNAVAILABLE, "chunk %u of %u is not on %d nodes; upload the file again", claim->next + 1,
                        claim->count, copies_needed(claim->copies));
    }
    return DONE;
}

/* ---- The stream of records to one node ---- */

/* EPOCH SEQ ROSTER-EPOCH ROSTER-SEQ ROSTER, in five words. */
static bool parse_history(const struct slice *word, struct position *at, struct roster *roster) {
    struct slice rest = word[4], part;
    *roster = (struct roster){.count = 0};
    if (!parse_u64(word[0], UINT64_MAX, &at->epoch) || !parse_u64(word[1], UINT64_MAX, &at->seq) ||
        !parse_u64(word[2], UINT64_MAX, &roster->at.epoch) || !parse_u64(word[3], UINT64_MAX, &roster->at.seq))
        return false;
    while (!slice_is(rest, "-") && slice_part(&rest, ',', &part))
        if (roster->count == ROSTER_LIMIT || !parse_id(part, &roster->id[roster->count++])) return false;
    return true;
}

/* PROMISE at the node. Notes its answer in the peer. */
static enum status stream_promise(struct peer *p, struct conn *c, uint64_t epoch) {
    struct words w;
    struct roster roster;
    struct position at;
    uint32_t damaged = 0;
    enum status status = call(c, &w, "PROMISE %" PRIu64, epoch);
    if (status == DONE &&
        (w.count != 7 || !parse_u32(w.word[1], 1, &damaged) || !parse_history(&w.word[2], &at, &roster)))
        status = fail(NO_SERVER, "an answer to PROMISE that is none");
    char why[DETAIL_BYTES];
    memcpy(why, detail, sizeof why);
    lock_take(&master.lock);
    if (master.epoch == epoch) {
        p->answered = true;
        p->agreed = status == DONE;
        if (status == DONE) {
            p->at = at;
            p->roster = roster;
            p->promised = epoch;
            p->damaged = damaged != 0;
            p->forgot = p->forgot || (p->damaged && master.state >= ESTABLISHING);
            p->told = true;
            p->bound = false;
            if (!peer_is_blank(p)) master.may_found = false;
        }
        if (status == FENCED || status == READ_ONLY) { /* "promised epoch N" */
            struct slice words = slice_of(why), part = {0};
            uint64_t seen;
            for (int i = 0; i < 3 && slice_part(&words, ' ', &part); i++)
                if (part.length > 0 && part.at[part.length - 1] == ',') part.length--;
            if (parse_u64(part, UINT64_MAX - 1, &seen) && seen > master.highest_seen) master.highest_seen = seen;
            if (status == FENCED && master.state >= ESTABLISHING) reign_end("a node has promised a newer master");
        }
        cond_broadcast(&master.changed);
    }
    lock_drop(&master.lock);
    memcpy(detail, why, sizeof detail);
    return status;
}

/* Writes the whole tree into parts as nodes store them. */
static void snapshot_parts(const struct tree *t, struct text *parts, size_t *count, size_t most) {
    const struct inode *last = NULL;
    bool more = true;
    for (*count = 0; more && *count < most; ++*count) {
        struct text *part = &parts[*count];
        *part = (struct text){0};
        text_format(part, "SNAPSHOTPART %zu 0\n", *count);
        if (*count == 0) snapshot_head(part, t);
        more = snapshot_walk(part, t, t->root, last ? last->parent : 0, last ? last->name : "",
                             last ? last->name_length : 0, SNAPSHOT_PART_BYTES, &last);
        if (!more) *(strchr(part->data, '\n') - 1) = '1';
    }
}

/* Sends a node everything, because it has nothing, or something that is not a beginning of this history. */
static enum status stream_snapshot(struct peer *p, struct conn *c, uint64_t epoch) {
    enum { PARTS_MAX = 4096 };
    struct text *parts = mem_alloc(PARTS_MAX * sizeof *parts);
    struct words w;
    size_t count = 0;
    lock_take(&master.lock);
    bool going = master.epoch == epoch && master.state >= ESTABLISHING;
    struct position at = master.tree.at;
    p->snapshot_seq = going ? at.seq : 0;
    if (going) snapshot_parts(&master.tree, parts, &count, PARTS_MAX);
    lock_drop(&master.lock);
    enum status status = going ? DONE : fail(FENCED, "the reign is over");
    for (size_t i = 0; i < count && status == DONE; i++) {
        text_format(conn_line(c), "INSTALL %" PRIu64, epoch);
        status = call_send(c, parts[i].data, parts[i].length);
        if (status == DONE) status = call_reply(c, &w);
    }
    for (size_t i = 0; i < count; i++) text_free(&parts[i]);
    free(parts);
    lock_take(&master.lock);
    if (status == DONE) {
        p->at = at;
        p->damaged = false;
    }
    lock_drop(&master.lock);
    return status;
}

/* Copies the next records for a node into `batch`, waiting for some; it stays empty when there are chunks to drop
 * instead. False when this stream is over. */
static bool stream_next(struct peer *p, uint64_t epoch, struct text *batch, uint64_t *last) {
    text_recycle(batch, 256 * KIB);
    lock_check(&master.lock);
    while (master.epoch == epoch && master.state >= ESTABLISHING && p->up && p->streaming) {
        uint64_t next = p->acked + 1;
        if (master.history_count > 0 && next < master.history_first) return false; /* it fell behind: a snapshot */
        if (next <= master.tree.at.seq) {
            for (size_t i = (size_t)(next - master.history_first); i < master.history_count; i++) {
                const struct record *record = &master.history[i];
                if (batch->length > 0 && batch->length + record->length > BATCH_MAX_BYTES) break;
                text_bytes(batch, record->data, record->length);
                *last = record->seq;
            }
            return true;
        }
        p->progress_ms = clock_ms();
        if (p->drop_count > 0) return true;
        cond_wait_until(&p->wake, &master.lock, clock_ms() + IDLE_MS); /* whoever has something for it signals */
    }
    return false;
}

/* What a node is to be told of a chunk that it was to drop; NULL: nothing, for it is its holder again, or never ceased
 * to be. One that is wanted again after all may be gone already, if the node was told: then it has to say so. Who is
 * told without "surplus" keeps what has a name, and reports it. */
static const char *drop_row(int slot, const struct drop *drop, const struct standing *now) {
    uint32_t index = tree_chunk_find(&master.tree, drop->hash);
    struct chunk *chunk = index == NONE ? NULL : tree_chunk(&master.tree, index);
    if (chunk && node_set_has(&chunk->holders, slot)) return NULL;
    if (!drop->surplus) return "\n";
    if (chunk && chunk->references > 0 && copies_lacking(chunk, now) <= 0) return " surplus\n";
    if (drop->sent) return "\n";
    holder_add(tree_chunk(&master.tree, tree_chunk_make(&master.tree, drop->hash, drop->length)), slot);
    return NULL;
}

/* Has a node drop chunks, of one kind. If that fails it is tried again with the next stream, unless the node was
 * inventoried anew. */
static enum status stream_drops(struct peer *p, struct conn *c, uint64_t epoch) {
    struct text rows = {0};
    struct words w;
    uint64_t session = p->session;
    uint32_t count = 0;
    int slot = peer_slot(p->id);
    bool surplus = p->drops[0].surplus;
    int64_t now_ms = clock_ms(), since_ms = surplus ? now_ms : now_ms - master.grace_ms;
    struct standing now = standing_now();
    lock_check(&master.lock);
    for (; count < p->drop_count && count < DROP_BATCH && p->drops[count].surplus == surplus; count++) {
        struct drop *drop = &p->drops[count];
        const char *end = drop_row(slot, drop, &now);
        if (!end) continue;
        if (drop->since_ms < since_ms) since_ms = drop->since_ms;
        text_hex(&rows, drop->hash, 32);
        text_add(&rows, end);
        drop->sent = true;
    }
    lock_drop(&master.lock);
    enum status status = DONE;
    if (rows.length > 0) { /* however late this comes: what the node stored since then is kept */
        text_format(conn_line(c), "DROP %" PRIu64 " %" PRId64, epoch, now_ms - since_ms);
        status = call_send(c, rows.data, rows.length);
        if (status == DONE) status = call_reply(c, &w);
    }
    text_free(&rows);
    lock_take(&master.lock);
    if (status == DONE && master.epoch == epoch && p->session == session && p->drop_count >= count) {
        p->drop_count -= count;
        memmove(p->drops, p->drops + count, p->drop_count * sizeof *p->drops);
    }
    return status;
}

/* Sends records as they come, a batch at a time; the node answers when they are on its disk. */
static enum status stream_records(struct peer *p, struct conn *c, uint64_t epoch) {
    struct text batch = {0};
    struct words w;
    uint64_t last = 0, acked;
    enum status status = DONE;
    lock_take(&master.lock);
    while (status == DONE && stream_next(p, epoch, &batch, &last)) {
        int64_t sent_ms = clock_ms();
        if (batch.length == 0) {
            status = stream_drops(p, c, epoch);
            continue;
        }
        lock_drop(&master.lock);
        text_format(conn_line(c), "RECORDS %" PRIu64, epoch);
        status = call_send(c, batch.data, batch.length);
        if (status == DONE) status = call_reply(c, &w);
        if (status == DONE && (w.count != 2 || !parse_u64(w.word[1], UINT64_MAX, &acked) || acked != last))
            status = fail(NO_SERVER, "an answer to RECORDS that is none");
        lock_take(&master.lock);
        if (status == DONE && master.epoch == epoch && p->streaming) {
            bool mended = p->no_room == epoch;
            p->acked = last;
            p->no_room = 0;
            *p->why = 0;
            if (mended) chunks_review();
            p->progress_ms = clock_ms();
            if (p->progress_ms - sent_ms < master.dead_after_ms / 2 && peer_has_all(p)) p->unproved = false;
            if (p->echo_ms < sent_ms) p->echo_ms = sent_ms; /* the node took it for a sign of life, as it does a pong */
            commit_update();
            holders_changed();
        }
        if (status == FENCED && master.epoch == epoch && master.state >= ESTABLISHING)
            reign_end("a node has promised a newer master");
    }
    lock_drop(&master.lock);
    text_free(&batch);
    return status;
}

/* Finds a node that holds all records before those that this master keeps itself. */
static bool history_source(const struct peer *p, char *address) {
    lock_check(&master.lock);
    for (int i = 0; i < master.peer_count; i++) {
        const struct peer *q = master.peers[i];
        uint64_t has = q->streaming ? q->acked : q->at.seq;
        if (q == p || !q->up || q->damaged || q->failed || !tree_continues(&master.tree, q->at)) continue;
        if (has + 1 < master.history_first) continue;
        memcpy(address, q->address, sizeof q->address);
        return true;
    }
    return false;
}

/* Sends a node the records that it lacks up to those that this master keeps itself, as another node tells them. */
static enum status stream_difference(struct peer *p, struct conn *c, uint64_t epoch, const char *from) {
    struct text records = {0};
    struct position first, last = p->at;
    struct words w;
    struct conn *source = NULL;
    enum status status = call_open(from, NODE_PORT, CALL_TIMEOUT_MS, &source);
    for (bool more = true; status == DONE && more;) {
        status = call(source, &w, "HISTORY %" PRIu64, last.seq);
        if (status == DONE) status = call_body(source, &w, &records);
        if (status == DONE) status = records_span(records.data ? records.data : "", records.length, &first, &last);
        if (status == DONE) {
            text_format(conn_line(c), "RECORDS %" PRIu64, epoch);
            status = call_send(c, records.data, records.length);
        }
        if (status == DONE) status = call_reply(c, &w);
        lock_take(&master.lock);
        if (status == DONE) p->at = last;
        more = p->at.seq + 1 < master.history_first;
        if (master.epoch != epoch || master.state < ESTABLISHING) status = fail(FENCED, "the reign is over");
        lock_drop(&master.lock);
    }
    conn_close(source);
    text_free(&records);
    return status;
}

/* Brings a node to where the records that this master keeps begin: by the difference, or by a snapshot, whichever is
 * less. A record is about as long as what a snapshot says of a file. */
static enum status stream_catch_up(struct peer *p, struct conn *c, uint64_t epoch) {
    char from[ADDRESS_MAX_BYTES + 1];
    lock_take(&master.lock);
    bool going = master.epoch == epoch && master.state >= ESTABLISHING && p->up;
    bool known = !p->damaged && tree_continues(&master.tree, p->at);
    uint64_t lacks = p->at.seq + 1 < master.history_first ? master.history_first - 1 - p->at.seq : 0;
    bool less = master.tree.at.seq - p->at.seq <= master.tree.inode_count;
    bool difference = known && less && history_source(p, from);
    lock_drop(&master.lock);
    if (!going) return fail(FENCED, "the reign is over");
    if (known && lacks == 0) return DONE;
    if (!difference || stream_difference(p, c, epoch, from) != DONE) return stream_snapshot(p, c, epoch);
    log_line("node %s got %" PRIu64 " records that it lacked, from %s", p->name, lacks, from);
    return DONE;
}

/* One connection's worth of streaming: promise, catch up, records until something ends it. */
static enum status stream_once(struct peer *p, uint64_t epoch) {
    char address[ADDRESS_MAX_BYTES + 1];
    struct conn *c = NULL;
    lock_take(&master.lock);
    memcpy(address, p->address, sizeof address);
    lock_drop(&master.lock);
    enum status status = call_open(address, NODE_PORT, CALL_TIMEOUT_MS, &c);
    if (status == DONE) {
        lock_take(&master.lock);
        p->stream_fd = c->fd;
        lock_drop(&master.lock);
        status = stream_promise(p, c, epoch);
    }
    if (status != DONE) goto out;
    lock_take(&master.lock);
    while (master.epoch == epoch && (master.state == PROMISING || master.state == LOADING) && p->up)
        cond_wait_until(&p->wake, &master.lock, clock_ms() + 1000);
    lock_drop(&master.lock);
    status = stream_catch_up(p, c, epoch);
    if (status != DONE) goto out;
    lock_take(&master.lock);
    p->snapshot_seq =
        0; /* from here on `acked` says what it needs, and stream_next looks whether that is still there */
    if (master.epoch == epoch && master.state >= ESTABLISHING) {
        p->streaming = true;
        if (p->at.seq > p->acked || p->at.seq == master.tree.at.seq) p->no_room = 0; /* it took some, or has them all */
        if (p->no_room != epoch) *p->why = 0;
        p->acked = p->at.seq;
        p->progress_ms = clock_ms();
        commit_update();
        if (p->inventoried) chunks_review(); /* its inventory came first */
        cond_broadcast(&master.changed);
    }
    lock_drop(&master.lock);
    status = stream_records(p, c, epoch);
    lock_take(&master.lock);
    if (master.epoch == epoch) p->streaming = false;
    lock_drop(&master.lock);
out:
    lock_take(&master.lock);
    p->snapshot_seq = 0;
    p->stream_fd = -1;
    lock_drop(&master.lock);
    conn_close(c);
    return status;
}

/* Thread: one for each peer, for the life of this process. */
static void *peer_stream(void *argument) {
    struct peer *p = argument;
    for (;;) {
        lock_take(&master.lock);
        while (!p->up || master.state == WAITING) cond_wait(&p->wake, &master.lock);
        uint64_t epoch = master.epoch;
        lock_drop(&master.lock);
        enum status status = stream_once(p, epoch);
        if (status == DONE) continue;
        char why[sizeof p->why];
        snprintf(why, sizeof why, "%.255s", detail);
        lock_take(&master.lock);
        if (master.epoch == epoch && p->up) {
            if (strcmp(p->why, why) != 0) log_line("node %s: %s", p->name, why);
            memcpy(p->why, why, sizeof why);
            if (status == NO_SPACE &&
                master.state >= ESTABLISHING) { /* nobody waits for it until it takes records again */
                p->no_room = epoch;
                p->unproved = true;
                cond_broadcast(&master.changed);
            }
            if (!p->answered) { /* it can't be reached: do not wait for its promise */
                p->answered = true;
                p->agreed = false;
                cond_broadcast(&master.changed);
            }
        }
        cond_wait_until(&p->wake, &master.lock, clock_ms() + RETRY_PAUSE_MS);
        lock_drop(&master.lock);
    }
    return NULL;
}

/* ---- Copies: the planner and the workers ---- */

/* Notes the connection that worker number `worker` waits on. */
static void copy_note(struct peer *p, int worker, int fd) {
    lock_take(&master.lock);
    p->copy_fd[worker] = fd;
    lock_drop(&master.lock);
}

/* Orders a node to fetch a batch. Returns which chunks failed in `failed`. */
static enum status copy_run(struct peer *p, int worker, const char *target, const char *source, const struct text *rows,
                            struct text *failed) {
    struct conn *c;
    struct words w;
    enum status status = pool_take(target, NODE_PORT, FETCH_TIMEOUT_MS, &c);
    if (status != DONE) return status;
    copy_note(p, worker, c->fd);
    text_format(conn_line(c), "FETCH %s", source);
    status = call_send(c, rows->data, rows->length);
    if (status == DONE) status = call_reply(c, &w);
    if (status == DONE) status = call_body(c, &w, failed);
    copy_note(p, worker, -1);
    if (status_keeps_conn(status)) pool_give(target, c);
    else conn_close(c);
    return status;
}

/* Notes what an order achieved. `session` is from when it began: what came of it later counts for nothing. */
static void copy_done(struct peer *p, int slot, const struct copy_order *order, uint64_t session, enum status status,
                      const struct text *failed) {
    if (master.epoch != order->epoch || master.state < ESTABLISHING) return;
    struct standing now = standing_now();
    for (int i = 0; i < order->count; i++) {
        uint32_t index = order->chunk[i];
        struct chunk *chunk = tree_chunk(&master.tree, index);
        char hex[65];
        hex_write(hex, chunk->hash, 32);
        hex[64] = 0;
        chunk->flags &= ~(uint32_t)CHUNK_COPYING;
        bool good = status == DONE && p->session == session && p->up;
        if (good && !(failed->length > 0 && strstr(failed->data, hex))) {
            holder_add(chunk, slot);
            if (order->from < 0) master.copied_bytes += chunk->length;
            p->received_bytes += chunk->length;
            master.peers[order->source]->sent_bytes += chunk->length;
        }
        int lacking = copies_lacking(chunk, &now);
        if (lacking > 0) chunk_enqueue(index);
        else chunk->flags &= ~(uint32_t)CHUNK_FRESH;
        if (order->from >= 0 && lacking < 0 && node_set_has(&chunk->holders, order->from) &&
            peer_usable(master.peers[order->from])) {
            chunk_drop_at(chunk, order->from, true, clock_ms());
            lacking++;
        }
        if (lacking < 0) surplus_look();
        tree_chunk_release(&master.tree, index);
    }
    holders_changed();
}

/* Takes an order off the books. */
static void order_end(struct peer *p, struct copy_order *order) {
    p->receiving--;
    p->fetched_ms = clock_ms();
    p->coming_bytes -= order->bytes;
    master.peers[order->source]->sending--;
    master.orders--;
    if (order->from >= 0) {
        master.peers[order->from]->going_bytes -= order->bytes;
        master.moves--;
    }
    free(order);
    cond_signal(&master.copy_wanted);
}

/* Thread: takes orders for one peer and sees them through. */
static void *peer_copier(void *argument) {
    struct peer *p = argument;
    struct text rows = {0}, failed = {0};
    char target[ADDRESS_MAX_BYTES + 1], source[ADDRESS_MAX_BYTES + 1];
    lock_take(&master.lock);
    for (;;) {
        while (p->order_count == 0) cond_wait(&p->order_ready, &master.lock);
        int worker = 0;
        while (p->running[worker]) worker++;
        struct copy_order *order = p->orders[--p->order_count];
        p->running[worker] = order;
        uint64_t session = p->session;
        bool good = order->epoch == master.epoch && master.state >= ESTABLISHING; /* else its numbers mean nothing */
        text_recycle(&rows, 64 * KIB);
        text_recycle(&failed, 64 * KIB);
        for (int i = 0; i < order->count && good; i++) {
            const struct chunk *chunk = tree_chunk(&master.tree, order->chunk[i]);
            text_hex(&rows, chunk->hash, 32);
            text_byte(&rows, ' ');
            text_u64(&rows, chunk->length);
            text_byte(&rows, '\n');
        }
        memcpy(target, p->address, sizeof target);
        memcpy(source, master.peers[order->source]->address, sizeof source);
        lock_drop(&master.lock);
        enum status status = good ? copy_run(p, worker, target, source, &rows, &failed) : FENCED;
        if (good && status != DONE) {
            log_line("copying to node %s: %s", p->name, detail);
            sleep_ms(RETRY_PAUSE_MS);
        }
        lock_take(&master.lock);
        p->running[worker] = NULL;
        copy_done(p, peer_slot(p->id), order, session, status, &failed);
        order_end(p, order);
    }
    return NULL;
}

/* How placement sees the nodes now. */
static void candidates_now(struct candidate *nodes) {
    for (int i = 0; i < master.peer_count; i++) {
        const struct peer *p = master.peers[i];
        uint64_t used = p->held_bytes + p->coming_bytes;
        bool good = peer_usable(p) && p->inventoried;
        nodes[i] = (struct candidate){.used_bytes = used > p->going_bytes ? used - p->going_bytes : 0,
                                      .sent_bytes = p->sent_bytes,
                                      .busy = (int)p->transfers,
                                      .sending = p->sending,
                                      .zone = p->zone_number,
                                      .source = good,
                                      .target = good && !p->draining && !peer_is_full(p),
                                      .ready = true,
                                      .crowded = peer_is_crowded(p, 0),
                                      .tight = peer_is_crowded(p, p->ordered_bytes + CROWDED_BYTES)};
    }
}

/* The same for orders to copy: a node that has enough of them, or of its clients, is no target. */
static bool candidates_for_orders(struct candidate *nodes) {
    bool any = false;
    int64_t now_ms = clock_ms();
    candidates_now(nodes);
    for (int i = 0; i < master.peer_count; i++) {
        const struct peer *p = master.peers[i];
        int most = p->unproved || (int)p->transfers > COPY_BUSY + p->sending ? 1 : COPY_WORKERS;
        nodes[i].ready = p->receiving < most && now_ms >= p->order_ms;
        any = any || (nodes[i].target && nodes[i].ready);
    }
    return any;
}

static void order_add(struct copy_order *order, uint32_t index) {
    struct chunk *chunk = tree_chunk(&master.tree, index);
    chunk->flags = (chunk->flags & ~(uint32_t)CHUNK_QUEUED) | CHUNK_COPYING;
    order->chunk[order->count++] = index;
    order->bytes += chunk->length;
}

/* How many bytes one order to fetch is about: less when --repair-rate spaces orders out, so that they are no bursts. */
static uint64_t order_most_bytes(void) {
    uint64_t quarter = master.repair_rate / 4;
    return master.repair_rate == 0 || quarter > COPY_BATCH_BYTES ? COPY_BATCH_BYTES : quarter;
}

/* Gives an order to a node. `from` gives its copies up afterwards, unless it is -1. */
static void order_give(struct copy_order *order, int target) {
    struct peer *p = master.peers[target];
    int64_t now_ms = clock_ms();
    p->orders[p->order_count++] = order;
    p->receiving++;
    p->behind = order->count == COPY_BATCH_CHUNKS || order->bytes >= order_most_bytes();
    p->coming_bytes += order->bytes;
    p->ordered_bytes += order->bytes;
    master.peers[order->source]->sending++;
    master.orders++;
    if (order->from >= 0) {
        master.peers[order->from]->going_bytes += order->bytes;
        master.moves++;
    }
    if (master.repair_rate > 0) {
        if (p->order_ms < now_ms) p->order_ms = now_ms;
        p->order_ms += (int64_t)(order->bytes * 1000 / master.repair_rate);
    }
    cond_signal(&p->order_ready);
}

static struct copy_order *order_make(int source, int from) {
    struct copy_order *order = mem_alloc(sizeof *order);
    order->epoch = master.epoch;
    order->source = source;
    order->from = from;
    return order;
}

/* Fills an order with more chunks from the queue that lack the same target and are held by the same source. */
static void order_fill(int queue, struct copy_order *order, int target, const struct candidate *nodes,
                       const struct standing *now) {
    struct chunk_queue *q = &master.queues[queue];
    size_t look = q->count < 4 * COPY_BATCH_CHUNKS ? q->count : 4 * COPY_BATCH_CHUNKS;
    bool all = chunk_wanted(tree_chunk(&master.tree, order->chunk[0])) == COPIES_ALL;
    for (; look > 0 && order->count < COPY_BATCH_CHUNKS && order->bytes < order_most_bytes(); look--) {
        uint32_t index = queue_pop(q);
        struct chunk *chunk = tree_chunk(&master.tree, index);
        if (!queue_has(queue, chunk)) continue;
        if (node_set_has(&chunk->holders, target) || !node_set_has(&chunk->holders, order->source) ||
            copies_lacking(chunk, now) <= 0 || (chunk_wanted(chunk) == COPIES_ALL) != all ||
            !place_suits(nodes, master.peer_count, &chunk->holders, target)) {
            queue_push(q, index);
            continue;
        }
        order_add(order, index);
    }
}

/* Whether a node has just joined and did not tell yet what it holds, or still gets the records that it lacks, or may
 * still join after a take-over: what seems to lack may be there. */
static bool inventories_wait(void) {
    int64_t now_ms = clock_ms();
    bool early = now_ms - master.established_ms < 2 * master.dead_after_ms;
    for (int i = 0; i < master.peer_count; i++) {
        const struct peer *p = master.peers[i];
        bool settled = p->up && p->inventoried && p->streaming;
        if (p->link && !p->failed && !settled && now_ms - p->joined_ms < INVENTORY_MS) return true;
    }
    for (int i = 0; i < master.tree.member_count && early; i++) {
        int slot = peer_slot(master.tree.members[i].id);
        if (slot < 0 || (!master.peers[slot]->up && master.peers[slot]->down_ms == 0)) return true;
    }
    return false;
}

/* Whether a node takes no order for now because of --repair-rate alone. */
static bool rate_waits(void) {
    int64_t now_ms = clock_ms();
    for (int i = 0; i < master.peer_count; i++)
        if (master.peers[i]->up && now_ms < master.peers[i]->order_ms) return true;
    return false;
}

/* Makes one order from the first chunk of a queue for which there is a source and a target. False if there is none. */
static bool plan_order(int queue) {
    struct chunk_queue *q = &master.queues[queue];
    struct candidate nodes[NODES_MAX];
    bool room = q->count > 0 && candidates_for_orders(nodes), waits = room && inventories_wait();
    if (waits && master.tree.copies_count == 0 &&
        chunk_wanted(tree_chunk(&master.tree, q->index[q->head])) != COPIES_ALL)
        return false;
    struct standing now = standing_now();
    for (size_t look = room ? q->count : 0; look > 0; look--) {
        uint32_t index = queue_pop(q);
        struct chunk *chunk = tree_chunk(&master.tree, index);
        struct node_set live = chunk_live(chunk);
        if (!queue_has(queue, chunk)) continue;
        if (copies_lacking(chunk, &now) <= 0 || node_set_empty(&live)) {
            chunk->flags &= ~(uint32_t)CHUNK_QUEUED;
            tree_chunk_release(&master.tree, index);
            continue;
        }
        bool held = waits && chunk_wanted(chunk) != COPIES_ALL;
        int source = held ? -1 : place_source(nodes, master.peer_count, &live);
        int target = source < 0 ? -1 : place_target(nodes, master.peer_count, &chunk->holders);
        if (target < 0) {
            queue_push(q, index);
            continue;
        }
        struct copy_order *order = order_make(source, -1);
        order_add(order, index);
        order_fill(queue, order, target, nodes, &now);
        order_give(order, target);
        return true;
    }
    return false;
}

/* Whether a chunk may move from one node to another, as far as its copies are concerned. */
static bool move_suits(const struct chunk *chunk, const struct candidate *nodes, const struct standing *now, int from,
                       int to, uint64_t most) {
    return chunk->references > 0 && chunk->length <= most && !(chunk->flags & (CHUNK_QUEUED | CHUNK_COPYING)) &&
           chunk_wanted(chunk) != COPIES_ALL && copies_lacking(chunk, now) <= 0 &&
           place_may_move(nodes, master.peer_count, &chunk->holders, from, to);
}

/* Balances: has one node fetch chunks that another gives up then. One order of this kind at a time, when no chunk lacks
 * copies; a part of the chunks is looked at each time, for one pair of nodes after the other. False if it is of no use
 * to go on at once. */
static bool plan_move(void) {
    struct candidate nodes[NODES_MAX];
    int from = 0, to = 0;
    int64_t now_ms = clock_ms();
    if (master.moves > 0 || copies_go_on() || now_ms < master.move_ms) return false;
    if (master.tree.forced_count > 0 && !master.allow_drops) return false; /* it would end with a drop */
    if (!candidates_for_orders(nodes) || inventories_wait()) return false;
    struct standing now = standing_now();
    bool relieve = now_ms - master.changed_ms < BALANCE_QUIET_MS;
    uint64_t most = place_pair(nodes, master.peer_count, &now.here, relieve, master.move_pair, &from, &to);
    uint64_t limit = order_most_bytes() > CHUNK_MAX_BYTES ? order_most_bytes() : CHUNK_MAX_BYTES; /* of any length */
    if (most > limit) most = limit;
    if (most == 0) {
        master.move_ms = master.move_pair > 0 ? now_ms + 5 * BALANCE_MS : now_ms; /* none of the pairs has any */
        master.move_pair = 0;
        return false;
    }
    struct copy_order *order = order_make(from, from);
    for (int look = 0; look < SWEEP_STEP && master.move_looked < master.tree.chunk_high; look++, master.move_looked++) {
        if (master.move_next >= master.tree.chunk_high) master.move_next = 0;
        uint32_t index = master.move_next++;
        if (order->count < COPY_BATCH_CHUNKS &&
            move_suits(tree_chunk(&master.tree, index), nodes, &now, from, to, most - order->bytes))
            order_add(order, index);
    }
    bool any = order->count > 0;
    if (!any && master.move_looked < master.tree.chunk_high)
        master.move_ms = now_ms + WATCH_MS; /* the rest a little later */
    else if (!any) master.move_pair++;
    else master.move_pair = 0;
    if (any || master.move_looked >= master.tree.chunk_high) master.move_looked = 0;
    if (any && nodes[from].crowded)
        master.move_ms = now_ms + BALANCE_MS; /* room comes a little later */
    if (any) order_give(order, to);
    else free(order);
    return any;
}

/* Whether a chunk has copies in one zone of which one would be better in another: from where to where. */
static bool zone_move(const struct chunk *chunk, const struct candidate *nodes, const struct standing *now, int *from,
                      int *to) {
    int in_zone[NODES_MAX];
    struct node_set have = node_set_and(&chunk->holders, &now->here);
    if (chunk->references == 0 || chunk->flags & (CHUNK_QUEUED | CHUNK_COPYING) || chunk_wanted(chunk) == COPIES_ALL ||
        copies_lacking(chunk, now) > 0)
        return false;
    *from = place_surplus(nodes, master.peer_count, &have);
    *to = place_target(nodes, master.peer_count, &chunk->holders);
    if (*from < 0 || *to < 0) return false;
    zones_count(nodes, master.peer_count, &have, in_zone);
    return in_zone[nodes[*from].zone] > in_zone[nodes[*to].zone] + 1;
}

/* Spreads copies over zones that were not there, or not known, when they were made; a part of the chunks each time. */
static bool plan_zones(void) {
    struct candidate nodes[NODES_MAX];
    int from = 0, to = 0, source = 0, target = 0;
    if (!master.zones_due || master.moves > 0 || copies_go_on() || clock_ms() < master.zones_ms) return false;
    if (master.tree.forced_count > 0 && !master.allow_drops) return false; /* it would end with a drop */
    if (!candidates_for_orders(nodes) || inventories_wait()) return false;
    struct standing now = standing_now();
    struct copy_order *order = NULL;
    for (int look = 0; look < SWEEP_STEP && master.zone_next < master.tree.chunk_high; look++, master.zone_next++) {
        const struct chunk *chunk = tree_chunk(&master.tree, master.zone_next);
        if (order && (order->count == COPY_BATCH_CHUNKS || order->bytes >= order_most_bytes())) break;
        if (!zone_move(chunk, nodes, &now, &from, &to)) continue;
        master.zones_again = true;
        if (!order) order = order_make(source = from, from), target = to;
        if (source == from && target == to) order_add(order, master.zone_next);
    }
    if (master.zone_next >= master.tree.chunk_high) {
        master.zones_due = master.zones_again;
        master.zones_again = false;
        master.zone_next = 0;
    }
    if (order) order_give(order, target);
    else master.zones_ms = clock_ms() + WATCH_MS; /* the rest a little later */
    return order != NULL;
}

/* Thread: gives orders while chunks lack copies and nodes have room for transfers. */
static void *master_planner(void *unused) {
    (void)unused;
    lock_take(&master.lock);
    for (;;) {
        bool any = false;
        for (int queue = 0; queue < CHUNK_QUEUES && !any; queue++) any = master.state == REIGNING && plan_order(queue);
        master.stuck = !any && master.orders == master.moves && !inventories_wait() && !rate_waits();
        if (any || (master.state == REIGNING && (plan_zones() || plan_move()))) continue;
        cond_wait_until(&master.copy_wanted, &master.lock, clock_ms() + LOOK_MS);
        size_t waiting = queues_count();
        if (waiting == 0 || waiting >= COPY_BATCH_CHUNKS) continue;
        lock_drop(&master.lock);
        sleep_ms(COPY_LINGER_MS); /* small files come by the thousand: an order takes many of them */
        lock_take(&master.lock);
    }
    return NULL;
}

/* ---- The reign: take-over, watching, roster ---- */

/* The newest roster that any node that is here has heard of. */
static struct roster newest_roster(bool promised) {
    struct roster newest = {0};
    for (int i = 0; i < master.peer_count; i++) {
        const struct peer *p = master.peers[i];
        if (!p->up || !p->told || (promised && !p->agreed) || p->roster.count == 0) continue;
        if (position_newer(p->roster.at, newest.at)) newest = p->roster;
    }
    return newest;
}

/* Members of `r` that are here, whether they are bound to another master or not. */
static int roster_here(const struct roster *r) {
    int count = 0;
    for (int i = 0; i < r->count; i++) {
        int slot = peer_slot(r->id[i]);
        const struct peer *p = slot >= 0 ? master.peers[slot] : NULL;
        count += p && p->up && p->told && !p->damaged && !p->failed;
    }
    return count;
}

/* Members of `r` that are here and free to promise, or that promised. */
static struct node_set roster_present(const struct roster *r, bool promised) {
    struct node_set set = {{0}};
    for (int i = 0; i < r->count; i++) {
        int slot = peer_slot(r->id[i]);
        if (slot < 0) continue;
        const struct peer *p = master.peers[slot];
        if (!p->up || !p->told || p->damaged || p->failed) continue;
        if (promised ? p->agreed : !p->bound) node_set_add(&set, slot);
    }
    return set;
}

/* Says which members of a roster are missed. */
static void waiting_say(const struct roster *r, const struct node_set *present) {
    struct text t = {0};
    text_format(&t, "waiting for more than half of the %d nodes of the last roster; here:", r->count);
    int here = 0;
    for (int i = 0; i < r->count; i++) {
        int slot = peer_slot(r->id[i]);
        if (slot < 0 || !node_set_has(present, slot)) continue;
        text_format(&t, " %s", master.peers[slot]->name);
        here++;
    }
    text_add(&t, here == 0 ? " none; missing:" : "; missing:");
    for (int i = 0; i < r->count; i++) {
        int slot = peer_slot(r->id[i]);
        if (slot >= 0 && node_set_has(present, slot)) continue;
        const struct member *m = tree_member(&master.tree, r->id[i]);
        text_format(&t, " %s", slot >= 0 ? master.peers[slot]->name : m ? m->name : "");
        if (slot < 0 && !m) text_id(&t, r->id[i]);
    }
    if (strcmp(master.waiting_for, t.data) != 0) log_line("%s", t.data);
    snprintf(master.waiting_for, sizeof master.waiting_for, "%s", t.data);
    text_free(&t);
}

/* Asks a node that holds the newest roster for the names in it, so that a master without a tree can say whom it waits
 * for. The lock is not held meanwhile. */
static void waiting_names(const struct roster *r) {
    char address[ADDRESS_MAX_BYTES + 1] = "";
    struct conn *c = NULL;
    struct words w;
    struct text rows = {0};
    for (int i = 0; i < master.peer_count; i++)
        if (master.peers[i]->up && position_same(master.peers[i]->roster.at, r->at))
            memcpy(address, master.peers[i]->address, sizeof address);
    lock_drop(&master.lock);
    enum status status = call_open(address, NODE_PORT, (int)master.dead_after_ms, &c);
    if (status == DONE) status = call(c, &w, "MEMBERS");
    if (status == DONE) status = call_body(c, &w, &rows);
    if (status != DONE) log_line("asking %s for names: %s", address, detail);
    conn_close(c);
    lock_take(&master.lock);
    struct apply a = {.t = &master.tree};
    struct slice rest = {rows.data, rows.length}, line;
    while (status == DONE && master.state == WAITING && slice_line(&rest, &line))
        if (!words_split(line, &w) || !slice_is(w.word[0], "NODE") || apply_node(&a, &w, line) != DONE) break;
    text_free(&rows);
}

/* Says that nodes keep to another master. False if none does. */
static bool standby_say(void) {
    struct node_set bound = {{0}};
    struct text t = {0};
    for (int i = 0; i < master.peer_count; i++)
        if (master.peers[i]->up && master.peers[i]->told && master.peers[i]->bound) node_set_add(&bound, i);
    if (node_set_empty(&bound)) return false;
    text_peers(&t, &bound);
    snprintf(master.waiting_for, sizeof master.waiting_for, "standing by: %s follow another master", t.data);
    text_free(&t);
    return true;
}

/* The node of --force-from if it is here, free and sound; else -1. */
static int force_slot(void) {
    char id[17];
    for (int i = 0; i < master.peer_count && *master.force; i++) {
        const struct peer *p = master.peers[i];
        snprintf(id, sizeof id, "%016" PRIx64, p->id);
        if (strcmp(master.force, p->name) != 0 && strcmp(master.force, id) != 0) continue;
        if (p->up && p->told && !p->damaged && !p->failed && !p->bound && p->at.seq > 0) return i;
    }
    return -1;
}

/* Whether to take over from one node alone: only by order, and only when a take-over by the rule was not possible for
 * the dead-after time. */
static bool force_is_due(void) {
    if (force_slot() < 0) {
        master.force_ms = 0;
        return false;
    }
    if (master.force_ms == 0) master.force_ms = clock_ms();
    if (clock_ms() - master.force_ms < master.dead_after_ms) return false;
    master.forcing = force_slot();
    event_say("FORCED: taking over from node %s alone; what others acknowledged and it lacks is lost",
             master.peers[master.forcing]->name);
    return true;
}

/* Whether to try a take-over now: at once when the whole roster is here, after dead-after when more than half is. */
static bool takeover_is_due(void) {
    struct roster newest = newest_roster(false);
    int blank = 0;
    if (clock_ms() < master.retry_ms || clock_ms() < master.hold_until_ms) return false;
    if (newest.count == 0 && master.tree.roster.count > 0) { /* all are gone that it reigned over */
        waiting_say(&master.tree.roster, &(struct node_set){{0}});
        return false;
    }
    if (newest.count == 0) {
        for (int i = 0; i < master.peer_count; i++)
            blank += master.peers[i]->up && master.peers[i]->told && !master.peers[i]->damaged;
        if (blank > 0 && master.may_found && master.found_ms == 0) master.found_ms = clock_ms() + master.ping_ms / 2;
        if (blank > 0 && master.may_found)
            return clock_ms() >= master.found_ms; /* nodes of another cluster come first */
        snprintf(master.waiting_for, sizeof master.waiting_for, blank > 0 ?
                 "no node that has joined holds any records; waiting for one that does" : "no node has joined yet");
        return false;
    }
    struct node_set present = roster_present(&newest, false);
    int here = node_set_count(&present);
    if (here == newest.count) return true;
    if (master.tree.member_count == 0 && !position_same(master.named, newest.at)) {
        master.named = newest.at; /* once for each roster */
        waiting_names(&newest);
        return false;             /* things may have changed */
    }
    if (!standby_say()) waiting_say(&newest, &present);
    if (!roster_may_take_over(roster_here(&newest), newest.count)) master.half_ms = 0;
    else if (master.half_ms == 0) master.half_ms = clock_ms();
    if (!roster_may_take_over(here, newest.count)) {
        master.free_ms = 0;
        return force_is_due();
    }
    if (master.free_ms == 0) master.free_ms = clock_ms();
    if (roster_here(&newest) > here && clock_ms() - master.free_ms < master.ping_ms + WATCH_MS) return false;
    return clock_ms() - master.half_ms >= master.dead_after_ms; /* the others had time to turn up */
}

/* Whether to begin a take-over that is due. Where there are other masters it waits a random moment, so that two of them
 * do not split the promises: the nodes become free for all of them at the same time. */
static bool takeover_turn(bool due) {
    if (!due) master.turn_ms = 0;
    if (!due || !master.saw_other) return due;
    if (master.turn_ms == 0)
        master.turn_ms = clock_ms() + (int64_t)(random_u64() % (uint64_t)(master.dead_after_ms / 8 + 1));
    return clock_ms() >= master.turn_ms;
}

/* Asks every node that is here for a promise and waits for the answers. */
static void takeover_promises(void) {
    int64_t until_ms = clock_ms() + master.dead_after_ms;
    for (int i = 0; i < master.peer_count; i++) {
        struct peer *p = master.peers[i];
        p->answered = p->agreed = p->streaming = p->forgot = false;
        p->acked = 0;
        if (p->promised > master.highest_seen) master.highest_seen = p->promised;
    }
    master.epoch = master.highest_seen + 1;
    master.highest_seen = master.epoch;
    master.state = PROMISING;
    peers_wake();
    for (;;) {
        bool all = true;
        for (int i = 0; i < master.peer_count; i++) all = all && (!master.peers[i]->up || master.peers[i]->answered);
        if (all || !cond_wait_until(&master.changed, &master.lock, until_ms)) return;
    }
}

/* Reads the tree of one node, part by part. The lock is not held. */
static enum status takeover_load(const char *address, struct position at, struct tree *t) {
    struct conn *c = NULL;
    struct words w;
    struct text part = {0};
    struct position now;
    uint64_t after = 0;
    tree_init(t);
    enum status status = call_open(address, NODE_PORT, CALL_TIMEOUT_MS, &c);
    if (status == DONE) conn_timeout(c, (int)master.dead_after_ms);
    do {
        if (status == DONE) status = call(c, &w, "SNAPSHOT %" PRIu64, after);
        if (status == DONE &&
            (w.count != 6 || !parse_u64(w.word[1], UINT64_MAX, &now.epoch) ||
             !parse_u64(w.word[2], UINT64_MAX, &now.seq) || !parse_u64(w.word[3], UINT64_MAX, &after)))
            status = fail(INTERNAL, "an answer to SNAPSHOT that is none");
        if (status == DONE && !position_same(now, at)) status = fail(INTERNAL, "the node's records changed meanwhile");
        if (status == DONE) status = call_body(c, &w, &part);
        if (status == DONE) status = snapshot_load(t, part.data ? part.data : "", part.length);
    } while (status == DONE && after != 0);
    conn_close(c);
    text_free(&part);
    return status;
}

/* Puts a loaded tree in place of the old one. No chunk has a holder until the nodes have told what they hold. */
static void takeover_adopt(struct tree *loaded) {
    tree_free(&master.tree);
    master.tree = *loaded;
    history_clear();
    master.history_first = master.tree.at.seq + 1;
    queues_clear();
    master.committed = 0;
    master.next_roster_seq = 0;
    master.sweeps = 0;
    master.sweep_next = 0;
    for (int i = 0; i < master.peer_count; i++) {
        struct peer *p = master.peers[i];
        p->inventoried = p->waited_for = p->repairing = p->partly = false;
        p->drop_count = 0;
        p->held_bytes = 0;
    }
    master.away = (struct node_set){{0}};
    master.move_next = master.surplus_next = master.move_looked = 0;
    master.move_pair = 0;
    peers_drain();
    master.copies_changed = true;
}

/* The member of the newest roster that promised and holds the newest record. */
static int takeover_best(const struct node_set *present) {
    int best = -1;
    for (int i = 0; i < master.peer_count; i++) {
        if (!node_set_has(present, i)) continue;
        if (best < 0 || position_newer(master.peers[i]->at, master.peers[best]->at)) best = i;
    }
    return best;
}

/* The record that begins a reign: its roster is those of the newest roster that were heard; a new cluster begins with
 * all nodes that are here. Serving begins when all of them have it on disk. */
static void takeover_establish(const struct roster *newest, const struct node_set *present, int forced) {
    struct text lines = {0};
    uint64_t id[ROSTER_LIMIT];
    int count = 0;
    master.roster = (struct node_set){{0}};
    int most =
        newest->count > 0 ? ROSTER_LIMIT : master.roster_most; /* whoever was heard stays, or it would be a shrink */
    for (int i = 0; i < master.peer_count && count < most; i++) {
        if (!node_set_has(present, i)) continue;
        node_set_add(&master.roster, i);
        id[count++] = master.peers[i]->id;
    }
    text_format(&lines, "REIGN %016" PRIx64 " %" PRIu64 "\n", master.id, master.tree.at.epoch);
    if (forced >= 0) line_forced(&lines, master.peers[forced]->id, master.epoch);
    line_roster(&lines, id, count);
    master.state = ESTABLISHING;
    master.established_ms = clock_ms();
    master.established = master_propose(&lines, NULL);
    text_free(&lines);
    peers_wake();
}

/* One attempt at taking over: promises, the newest state, a record with the new epoch. */
static void takeover(void) {
    char address[ADDRESS_MAX_BYTES + 1];
    struct tree loaded;
    takeover_promises();
    uint64_t epoch = master.epoch;
    struct roster newest = newest_roster(true);
    struct node_set present = roster_present(&newest, true);
    int forced = master.forcing;
    master.forcing = -1;
    if (roster_may_take_over(node_set_count(&present), newest.count)) forced = -1; /* the rule allows it after all */
    if (forced >= 0 && !master.peers[forced]->agreed) forced = -1;
    if (forced >= 0) {
        present = (struct node_set){{0}};
        node_set_add(&present, forced);
    }
    if (master.may_found) { /* nobody that was ever heard of holds a record */
        for (int i = 0; i < master.peer_count; i++)
            if (master.peers[i]->up && master.peers[i]->agreed) node_set_add(&present, i);
        struct node_set again = node_set_and(&master.founders, &present);
        if (node_set_empty(&present) || node_set_count(&again) < node_set_count(&master.founders)) {
            master.state = WAITING; /* who is not here may hold the founding record, and have followed another since */
            return;
        }
        master.founders = present;
        tree_init(&loaded);
    } else {
        int best = takeover_best(&present);
        if (best < 0 || (forced < 0 && !roster_may_take_over(node_set_count(&present), newest.count))) {
            master.state = WAITING;
            if (newest.count > 0) waiting_say(&newest, &present);
            return;
        }
        struct position at = master.peers[best]->at;
        memcpy(address, master.peers[best]->address, sizeof address);
        master.state = LOADING;
        lock_drop(&master.lock);
        enum status status = takeover_load(address, at, &loaded);
        if (status != DONE) log_line("reading the namespace from %s: %s", address, detail);
        lock_take(&master.lock);
        if (status != DONE || master.state != LOADING || master.epoch != epoch) {
            tree_free(&loaded);
            if (master.state == LOADING) master.state = WAITING;
            return;
        }
    }
    takeover_adopt(&loaded);
    takeover_establish(&newest, &present, forced);
}

/* Proposes a new roster and remembers it until it is committed. */
static void roster_propose(const struct node_set *set) {
    struct text lines = {0}, names = {0};
    uint64_t id[ROSTER_LIMIT];
    int count = 0;
    for (int i = 0; i < master.peer_count; i++)
        if (node_set_has(set, i)) id[count++] = master.peers[i]->id;
    line_roster(&lines, id, count);
    text_peers(&names, set);
    event_say("roster: %s", names.data);
    master.next_roster = *set;
    master.next_roster_seq = master.tree.at.seq + 1;
    master_propose(&lines, NULL);
    text_free(&lines);
    text_free(&names);
    commit_update();
}

/* Whether a node acknowledges nothing though records wait for it. */
static bool peer_is_stalled(const struct peer *p, int64_t now_ms) {
    return p->acked < master.tree.at.seq && now_ms - p->progress_ms > master.dead_after_ms;
}

/* A member that can't be waited for: gone, its disk failed, it lost its records, or it acknowledges nothing though it
 * answers pings. */
static bool member_is_lost(const struct peer *p, int64_t now_ms) {
    return !p->up || p->failed || p->forgot || p->no_room == master.epoch || peer_is_stalled(p, now_ms);
}

/* Notes that a node hung, or seemed to. Nobody waits for what it was to fetch. */
static void peer_hung(struct peer *p) {
    p->unproved = true;
    for (int i = 0; i < COPY_WORKERS; i++) net_cut(p->copy_fd[i]);
    p->probe_wait_ms = master.dead_after_ms;
    p->probe_ms = clock_ms() + p->probe_wait_ms;
}

/* Whether a node that caught up may be waited for. One that hung must have the copies that it lacked, and acknowledge
 * something in good time, or a slow disk would make it come and go, and every time a write would wait for it. */
static bool peer_is_proved(struct peer *p) {
    const struct text nothing = {0};
    if (!p->unproved || clock_ms() < p->probe_ms) return !p->unproved;
    if (!peer_has_all(p)) return false;
    if (p->probe_wait_ms < PROBE_MOST_MS) p->probe_wait_ms *= 2;
    p->probe_ms = clock_ms() + p->probe_wait_ms;
    master_propose(&nothing, NULL);
    return false;
}

/* Whether chunks may be dropped at all: not in the first moments of a reign, when nothing was said yet of open uploads;
 * not before all nodes that are here have told what they hold; not after --force-from, until told to. */
static bool drops_are_allowed(void) {
    int64_t quiet_ms = master.grace_ms > UPLOAD_LOST_MS / 2 ? master.grace_ms : UPLOAD_LOST_MS / 2;
    if (master.state != REIGNING || clock_ms() - master.established_ms < quiet_ms) return false;
    if (master.tree.forced_count > 0 && !master.allow_drops) return false;
    for (int i = 0; i < master.peer_count; i++)
        if (master.peers[i]->up && !master.peers[i]->failed && !master.peers[i]->inventoried) return false;
    return true;
}

/* Since when the oldest upload may be open: now, if there is none. Forgets those of which nothing was heard. */
static int64_t oldest_upload(int64_t now_ms) {
    int64_t oldest_ms = now_ms < master.crowded_ms ? 0 : now_ms;
    for (int i = master.upload_count - 1; i >= 0; i--) {
        if (now_ms > master.uploads[i].until_ms) master.uploads[i] = master.uploads[--master.upload_count];
        else if (master.uploads[i].since_ms < oldest_ms) oldest_ms = master.uploads[i].since_ms;
    }
    return oldest_ms;
}

/* Has every holder of a chunk that no record names drop it. Whoever stores it again from here on is then not asked to
 * drop it for the grace time. */
static void chunk_drop(uint32_t index, int64_t since_ms) {
    struct chunk *chunk = tree_chunk(&master.tree, index);
    for (int i = 0; i < master.peer_count; i++)
        if (node_set_has(&chunk->holders, i) && peer_usable(master.peers[i])) chunk_drop_at(chunk, i, false, since_ms);
    if (!node_set_empty(&chunk->holders)) return; /* of one that is gone just now */
    chunk->flags = 0;
    tree_chunk_release(&master.tree, index);
}

/* The drops, a part of a sweep at a time. A chunk of age a was seen unnamed in each of the last a sweeps, and was not
 * stored since the first of them ended: it goes if that is longer ago than the grace time, and if no upload that is
 * open now began before. */
static void drops_watch(void) {
    int64_t now_ms = clock_ms(), oldest_ms = oldest_upload(now_ms);
    if (!drops_are_allowed()) return; /* a sweep that has begun waits, or chunks would be counted twice in one */
    int64_t window_ms = (now_ms - oldest_ms) / (CHUNK_AGE_MAX / 2); /* so that ages reach back to before the oldest */
    if (window_ms < master.grace_ms) window_ms = master.grace_ms;
    if (master.sweep_next == 0 && master.sweeps > 0 && now_ms - master.swept_ms[0] < window_ms) return;
    for (int step = 0; step < SWEEP_STEP && master.sweep_next < master.tree.chunk_high; step++) {
        uint32_t index = master.sweep_next++;
        struct chunk *chunk = tree_chunk(&master.tree, index);
        int age = (int)((chunk->flags & CHUNK_AGE) >> CHUNK_AGE_SHIFT);
        if (chunk->references > 0 || node_set_empty(&chunk->holders)) continue;
        if (chunk->flags & (CHUNK_QUEUED | CHUNK_COPYING)) continue;
        if (age > 0 && now_ms - master.swept_ms[age - 1] >= master.grace_ms &&
            master.swept_ms[age - 1] <= oldest_ms && master.swept_seq[age - 1] <= master.committed)
            chunk_drop(index, master.swept_ms[age - 1]);
        else if (age < CHUNK_AGE_MAX) chunk->flags += 1 << CHUNK_AGE_SHIFT;
    }
    if (master.sweep_next < master.tree.chunk_high) return;
    master.sweep_next = 0;
    memmove(master.swept_ms + 1, master.swept_ms, CHUNK_AGE_MAX * sizeof *master.swept_ms);
    memmove(master.swept_seq + 1, master.swept_seq, CHUNK_AGE_MAX * sizeof *master.swept_seq);
    master.swept_ms[0] = now_ms;
    master.swept_seq[0] = master.tree.at.seq;
    master.sweeps++;
}

/* The rules of shrinking and growing. */
static void roster_watch(void) {
    struct node_set staying = {{0}};
    int64_t now_ms = clock_ms();
    bool lost_one = false, overdue = false;
    struct node_set *members = master.next_roster_seq ? &master.next_roster : &master.roster;
    for (int i = 0; i < master.peer_count; i++) {
        if (!node_set_has(members, i)) continue;
        if (member_is_lost(master.peers[i], now_ms)) {
            lost_one = true;
        } else {
            node_set_add(&staying, i);
            overdue = overdue || now_ms - master.peers[i]->ping_ms > master.ping_ms * 3 / 2;
        }
    }
    if (lost_one && now_ms < master.hold_until_ms) return; /* perhaps it answers reads until then */
    if (lost_one && overdue) return; /* in a cut many fall silent, within a ping: they leave together, or the reign ends
                                      * with the roster as it was, by which another master may take over */
    int all = node_set_count(members), left = node_set_count(&staying);
    if (lost_one &&
        master.next_roster_seq) { /* a change was under way: which roster holds is not ours to say any more */
        reign_end("a node was lost while the roster was changing");
    } else if (lost_one && !roster_may_shrink(left, all)) {
        reign_end("fewer than half of the roster's nodes are left");
    } else if (lost_one) {
        roster_propose(&staying);
    }
    if (lost_one || master.next_roster_seq || all >= master.roster_most) return;
    for (int i = 0; i < master.peer_count; i++) {
        struct peer *p = master.peers[i];
        if (!node_set_has(members, i)) p->forgot = false; /* as a learner it is as good as any */
        if (node_set_has(members, i) || !peer_usable(p) || p->acked < master.tree.at.seq || !peer_is_proved(p))
            continue;
        node_set_add(&staying, i);
        roster_propose(&staying);
        return;
    }
}

/* Records nodes that the tree does not know yet, or under another name or address. */
static void members_watch(void) {
    struct text lines = {0};
    for (int i = 0; i < master.peer_count; i++) {
        const struct peer *p = master.peers[i];
        const struct member *m = tree_member(&master.tree, p->id);
        if (!p->up || (m && strcmp(m->name, p->name) == 0 && strcmp(m->address, p->address) == 0)) continue;
        if (!m && master.tree.member_count == NODES_MAX) continue;
        struct member now = {.id = p->id};
        memcpy(now.name, p->name, sizeof now.name);
        memcpy(now.address, p->address, sizeof now.address);
        line_node(&lines, &now);
    }
    if (lines.length > 0) master_propose(&lines, NULL);
    text_free(&lines);
}

/* Counts what lacks copies on the nodes that are there, whether they were told of it yet or not, and the chunks that
 * none of them holds. */
static void count_missing(uint64_t *copies, uint64_t *bytes, uint64_t *unavailable) {
    struct standing now = {0};
    *copies = *bytes = *unavailable = 0;
    for (int i = 0; i < master.peer_count; i++)
        if (master.peers[i]->up && !master.peers[i]->failed && !master.peers[i]->draining) node_set_add(&now.here, i);
    now.counted = now.here;
    now.here_count = now.counted_count = node_set_count(&now.here);
    for (uint32_t i = 0; i < master.tree.chunk_high; i++) {
        const struct chunk *chunk = tree_chunk(&master.tree, i);
        if (chunk->references == 0) continue;
        struct node_set live = chunk_live(chunk);
        int lacking = copies_lacking(chunk, &now);
        if (node_set_empty(&live)) {
            ++*unavailable;
        } else if (lacking > 0) {
            *copies += (uint64_t)lacking;
            *bytes += (uint64_t)lacking * chunk->length;
        }
    }
}

static bool inventories_due(void) {
    for (int i = 0; i < master.peer_count; i++)
        if (master.peers[i]->up && !master.peers[i]->failed && !master.peers[i]->inventoried) return true;
    return false;
}

/* From now on the copies of a lost node do not count any more, and are made anew. */
static void repair_begin(int slot) {
    uint64_t copies, bytes, unavailable;
    struct peer *p = master.peers[slot];
    struct text size = {0};
    holders_clear(slot);
    chunks_review();
    p->repair_ms = clock_ms();
    p->repair_from = master.copied_bytes;
    count_missing(&copies, &bytes, &unavailable);
    text_size(&size, bytes);
    if (copies > 0)
        event_say("repair of what was on node %s begins: %" PRIu64 " copies, %s", p->name, copies, size.data);
    if (unavailable > 0)
        event_say("%" PRIu64 " chunks are on no live node since node %s is lost", unavailable, p->name);
    text_free(&size);
}

/* A node is there no longer: its orders are given up, and its copies are, or are waited for. */
static void peer_lost(int slot, bool silent) {
    struct peer *p = master.peers[slot];
    int64_t now_ms = clock_ms(), wait_ms = p->stopping ? master.stopped_wait_ms : master.repair_wait_ms;
    p->alive_ms = silent ? p->ping_ms : p->gone_ms;
    if (silent) peer_hung(p);
    event_say("node %s is down: %s", p->name,
              silent        ? "no ping"
              : p->stopping ? "it was stopped"
                            : "its connection closed");
    p->up = p->streaming = p->inventoried = false;
    p->down_ms = master.changed_ms = now_ms;
    p->session = 0;
    p->repairing = master.state >= ESTABLISHING;
    p->partly = false;
    peer_cut(p);
    for (int i = 0; i < master.peer_count; i++) /* and who fetches from it is given another source */
        for (int k = 0; k < COPY_WORKERS; k++)
            if (master.peers[i]->running[k] && master.peers[i]->running[k]->source == slot)
                net_cut(master.peers[i]->copy_fd[k]);
    if (master.state < ESTABLISHING) {
        holders_clear(slot);
    } else if (wait_ms == 0) {
        repair_begin(slot);
    } else {
        p->waited_for = true;
        p->repair_ms = now_ms + wait_ms;
        node_set_add(&master.away, slot);
        chunks_review();
    }
    peers_wake();
}

/* Declares nodes dead that are silent, or whose connection closed and did not come back. */
static void peers_watch(void) {
    int64_t now_ms = clock_ms();
    for (int i = 0; i < master.peer_count; i++) {
        struct peer *p = master.peers[i];
        if (!p->up) continue;
        if (p->streaming && peer_is_stalled(p, now_ms)) { /* it pings, but its disk hangs: nobody waits for it */
            event_say("node %s acknowledges nothing", p->name);
            peer_hung(p);
            p->streaming = false;
            if (master.state >= ESTABLISHING) chunks_review();
            cond_broadcast(&master.changed);
        }
        bool silent = now_ms - p->ping_ms > master.dead_after_ms;
        bool closed = !p->link && (p->stopping || now_ms - p->gone_ms > RECONNECT_GRACE_MS);
        if (silent || closed) peer_lost(i, silent);
    }
}

/* Says when all is whole again after a node was lost, and begins to make copies anew when a node was waited for long
 * enough. */
static void repairs_watch(void) {
    static int64_t counted_ms;
    int64_t now_ms = clock_ms();
    bool any = false, urgent = false; /* what nobody holds may stay away for long: looked for once in a second */
    for (int i = 0; i < master.peer_count; i++) {
        const struct peer *p = master.peers[i];
        if (p->waited_for && now_ms >= p->repair_ms) repair_begin(i);
        any = any || (p->repairing && !p->waited_for);
        urgent = urgent || (p->repairing && !p->waited_for && !p->partly);
    }
    if (!any || master.state != REIGNING || copies_go_on() || inventories_due()) return;
    if (now_ms - counted_ms < (urgent ? WATCH_MS : TIDY_MS)) return;
    uint64_t copies, bytes, unavailable;
    count_missing(&copies, &bytes, &unavailable);
    counted_ms = clock_ms();
    if (copies > 0) return;
    for (int i = 0; i < master.peer_count; i++) {
        struct peer *p = master.peers[i];
        if (!p->repairing || p->waited_for || (p->partly && unavailable > 0)) continue;
        struct text size = {0};
        int64_t copied_ms = now_ms > p->repair_ms ? now_ms - p->repair_ms : 0; /* none if it was only waited for */
        text_size(&size, master.copied_bytes - p->repair_from);
        event_say("node %s %s, %s after %.1f s: noticed %.1f s, copied %s in %.1f s", p->name,
                  p->up && !p->failed ? "was lost and is back" : "is lost",
                  unavailable > 0 ? "but for what nobody holds all is whole again" : "whole again",
                  (double)(now_ms - p->alive_ms) / 1000, (double)(p->down_ms - p->alive_ms) / 1000, size.data,
                  (double)copied_ms / 1000);
        p->partly = p->repairing = unavailable > 0;
        text_free(&size);
    }
}

/* Drops copies of which there are more than there are to be, a part of all chunks at a time: not before the grace time
 * after the last change, and only when nothing else is to be done. */
static void surplus_watch(void) {
    struct candidate nodes[NODES_MAX];
    int64_t now_ms = clock_ms();
    if (master.surplus_ms == 0 || now_ms < master.surplus_ms || master.state != REIGNING) return;
    if (master.tree.forced_count > 0 && !master.allow_drops) return;
    if (copies_go_on() || inventories_due()) return;
    struct standing now = standing_now();
    candidates_now(nodes);
    for (int step = 0; step < SWEEP_STEP && master.surplus_next < master.tree.chunk_high; step++) {
        struct chunk *chunk = tree_chunk(&master.tree, master.surplus_next++);
        int wanted = chunk_wanted(chunk);
        if (chunk->references == 0 || wanted == COPIES_ALL) continue;
        struct node_set have = node_set_and(&chunk->holders, &now.here);
        if (chunk->flags & CHUNK_COPYING) {
            master.surplus_again |= node_set_count(&have) > wanted;
            continue;
        }
        for (int left = node_set_count(&have); left > wanted; left--) {
            int slot = place_surplus(nodes, master.peer_count, &have);
            node_set_remove(&have, slot);
            nodes[slot].used_bytes -= chunk->length;
            chunk_drop_at(chunk, slot, true, now_ms);
        }
    }
    if (master.surplus_next < master.tree.chunk_high) return;
    master.surplus_next = 0;
    master.surplus_ms = master.surplus_again ? now_ms + master.grace_ms : 0;
    master.surplus_again = false;
}

/* Removes for good what has been in the trash for its time; when a disk is short of space, the oldest before. What is
 * looked at in one go is little: the next call goes on behind it. */
static void trash_watch(void) {
    enum { LOOK = 2000, REMOVE_MOST = 500 };
    struct text lines = {0};
    uint32_t now_s = (uint32_t)trash_now_s();
    int64_t patience_ms = master.trash_s * 1000 < HOUR_MS ? (int64_t)master.trash_s * 1000 : (int64_t)HOUR_MS;
    const struct inode *n = NULL;
    int removed = 0;
    if (master.state != REIGNING || (master.tree.trash.files == 0 && master.tree.trash.directories == 0)) return;
    if (clock_ms() - master.established_ms < patience_ms)
        now_s = 0; /* this machine's clock may be wrong, and be noticed */
    uint32_t until_s = now_s > master.early_s ? now_s : master.early_s;
    for (int look = 0; look < LOOK && removed < REMOVE_MOST; look++) {
        n = tree_after(&master.tree, n ? n->parent : master.trash_parent | TRASH_BIT, n ? n->name : master.trash_key,
                       n ? n->name_length : master.trash_key_length);
        if (!n) break;
        if (n->expiry_s > until_s) continue;
        text_format(&lines, "RM %" PRIu64 "\n", n->id);
        removed++;
    }
    master.trash_parent = n ? n->parent & ~TRASH_BIT : 0;
    master.trash_key_length = n ? n->name_length : 0;
    if (n) memcpy(master.trash_key, n->name, n->name_length);
    if (lines.length > 0) master_propose(&lines, NULL);
    text_free(&lines);
}

/* Removes files and links whose time is over, and links of files that are gone for good; some at a time, for they are
 * out of sight already. */
static void expiry_watch(void) {
    enum { REMOVE_MOST = 1000, LOOK = 2000 };
    struct tree *t = &master.tree;
    struct text lines = {0};
    const struct inode *n;
    t->now_s = (uint32_t)(expiry_clock_ms() / 1000);
    if (!expiry_removes()) return;
    for (int i = 0; i < REMOVE_MOST && (n = due_take(t)); i++) text_format(&lines, "RM %" PRIu64 "\n", n->id);
    if (master.share_next >= t->share_count) master.share_next = 0;
    for (int i = 0; i < LOOK && master.share_next < t->share_count; i++) {
        const struct share *share = &t->shares[master.share_next++];
        bool over = share->expiry_s != 0 && share->expiry_s <= t->now_s;
        if (over || !tree_by_id(t, share->inode)) line_unshare(&lines, share);
    }
    if (lines.length > 0) master_propose(&lines, NULL);
    text_free(&lines);
}

/* Until when the reign may rest: something expires then. */
static int64_t expiry_next_ms(int64_t until_ms) {
    if (master.tree.due_count == 0 || !expiry_removes()) return until_ms;
    int64_t left_ms = (int64_t)master.tree.due[0].expiry_s * 1000 - expiry_clock_ms();
    return left_ms < until_ms - clock_ms() ? clock_ms() + (left_ms > 0 ? left_ms : 0) : until_ms;
}

/* When a disk is short of space: decides up to which expiry the trash is emptied early, so that the oldest of it go
 * that take as much as is missing. Nothing more is decided until that space had the time to come back. */
static void trash_early(void) {
    enum { STEPS = 64 };
    uint64_t missing = 0, bytes[STEPS] = {0}, sum = 0;
    uint32_t least = UINT32_MAX, most = 0;
    int64_t now_ms = clock_ms();
    int step = 0;
    if (master.state != REIGNING || now_ms < master.early_ms || master.tree.trash.bytes == 0) return;
    for (int i = 0; i < master.peer_count; i++) {
        const struct peer *p = master.peers[i];
        uint64_t wanted = 3 * disk_reserve(p->total_bytes) + CHUNK_MAX_BYTES;
        if (peer_usable(p) && p->total_bytes > 0 && p->free_bytes < wanted && wanted - p->free_bytes > missing)
            missing = wanted - p->free_bytes;
    }
    if (missing == 0) return;
    for (int pass = 0; pass < 2; pass++)
        for (const struct inode *n = tree_after(&master.tree, TRASH_BIT, "", 0); n;
             n = tree_after(&master.tree, n->parent, n->name, n->name_length)) {
            if (pass == 1) bytes[(uint64_t)(n->expiry_s - least) * (STEPS - 1) / (most - least + 1)] += n->size;
            if (pass == 0 && n->expiry_s < least) least = n->expiry_s;
            if (pass == 0 && n->expiry_s > most) most = n->expiry_s;
        }
    while (step < STEPS - 1 && sum < missing) sum += bytes[step++];
    master.early_s = step == STEPS - 1 ? most : least + (uint32_t)((uint64_t)step * (most - least + 1) / (STEPS - 1));
    master.early_ms = now_ms + 3 * master.grace_ms + 1000;
    event_say("a disk is short of space: emptying the oldest part of the trash, about %" PRIu64 " MiB", sum / MIB);
}

/* Records what --copies says, if that is not how it is. */
static void copies_record(void) {
    struct text lines = {0};
    if (master.copies == 0 || tree_by_id(&master.tree, ROOT_ID)->copies == master.copies) return;
    line_copies(&lines, ROOT_ID, master.copies);
    master_propose(&lines, NULL);
    text_free(&lines);
    event_say(master.copies == COPIES_ALL ? "copies: one on every node" : "copies: %d of each file", master.copies);
    chunks_review();
}

/* Whether nothing is under way that has to be looked after soon. Who changes that wakes the thread. */
static bool all_is_calm(void) {
    bool calm = master.state == REIGNING && master.next_roster_seq == 0 && master.committed >= master.tree.at.seq;
    for (int i = 0; i < master.peer_count && calm; i++) {
        const struct peer *p = master.peers[i];
        calm = !p->up || (p->link && p->inventoried && !p->repairing && !p->failed && p->streaming);
    }
    return calm && !copies_go_on();
}

/* Thread: the life of a master. */
static void *master_reign(void *unused) {
    (void)unused;
    int64_t trimmed_ms = 0, reviewed_ms = 0;
    lock_take(&master.lock);
    for (;;) {
        if (clock_ms() - trimmed_ms > 1000) {
            trimmed_ms = clock_ms();
            pool_trim();
            buffers_trim();
            master.copy_rate = (master.copy_rate + master.copied_bytes - master.copied_before) / 2;
            master.copied_before = master.copied_bytes;
        }
        peers_watch();
        if (master.state == WAITING && takeover_turn(takeover_is_due())) {
            takeover();
            master.turn_ms = 0;
            if (master.state == WAITING) /* a random time, so that two masters do not split the promises for ever */
                master.retry_ms =
                    clock_ms() + master.dead_after_ms + (int64_t)(random_u64() % (uint64_t)master.dead_after_ms);
        }
        if (master.state == ESTABLISHING && master.committed >= master.established) {
            master.state = REIGNING;
            master.may_found = false;
            *master.waiting_for = *master.force = 0; /* an order holds for one take-over */
            event_say("reigning: epoch %" PRIu64 ", %" PRIu64 " files, last record %" PRIu64, master.epoch,
                     master.tree.live.files, master.tree.at.seq);
            copies_record();
            peers_wake();
        }
        if (master.state == ESTABLISHING && clock_ms() - master.established_ms > 2 * master.dead_after_ms + 2000)
            reign_end("the nodes did not confirm the new epoch");
        if (master.state == REIGNING) members_watch();
        drops_watch();
        if (master.copies_changed && master.state >= ESTABLISHING && clock_ms() - reviewed_ms > 1000) {
            reviewed_ms = clock_ms(); /* it is a walk over the whole tree */
            wants_review();
        }
        repairs_watch();
        surplus_watch();
        expiry_watch();
        trash_early();
        trash_watch();
        if (master.state >= ESTABLISHING) {
            if (master.state == REIGNING) roster_watch();
            else
                for (int i = 0; i < master.peer_count; i++)
                    if (node_set_has(&master.roster, i) && !master.peers[i]->up && master.state == ESTABLISHING)
                        reign_end("a node was lost while the reign began");
        }
        int64_t pause_ms = master.dead_after_ms / 10 < CALM_MS ? master.dead_after_ms / 10 : CALM_MS;
        int64_t until_ms = clock_ms() + (all_is_calm() ? pause_ms : WATCH_MS);
        cond_wait_until(&master.changed, &master.lock, expiry_next_ms(until_ms));
    }
    return NULL;
}

/* ---- What nodes ask ---- */

static struct peer *peer_make(uint64_t id) {
    struct peer *p = mem_alloc(sizeof *p);
    p->id = id;
    p->stream_fd = -1;
    for (int i = 0; i < COPY_WORKERS; i++) p->copy_fd[i] = -1;
    cond_init(&p->wake);
    cond_init(&p->order_ready);
    master.peer_id[master.peer_count] = id;
    master.peers[master.peer_count++] = p;
    bool good = thread_start(peer_stream, p);
    for (int i = 0; i < COPY_WORKERS; i++) good = thread_start(peer_copier, p) && good;
    if (!good) log_line("no threads for node %016" PRIx64 "; raise the limit on processes", id);
    return p;
}

/* Whether this master may still turn out to be of another cluster: it learned its id from a node that is gone again. */
static bool cluster_is_open(void) {
    for (int i = 0; i < master.peer_count; i++)
        if (master.peers[i]->up || master.peers[i]->link) return false;
    return !master.init && master.state == WAITING;
}

/* Takes on the cluster of a node that joins. Nodes of another one that was learned before are no help any more. */
static void cluster_learn(struct slice cluster) {
    if (slice_is(cluster, master.cluster)) return;
    slice_copy(cluster, master.cluster, sizeof master.cluster);
    for (int i = 0; i < master.peer_count; i++) {
        master.peers[i]->at = (struct position){0, 0};
        master.peers[i]->roster = (struct roster){.count = 0};
    }
}

/* Whether a node may join: of this cluster, not a second process with the same identity. */
static enum status join_check(const struct peer *p, uint64_t instance, struct slice cluster) {
    bool blank = slice_is(cluster, "-");
    if (!blank && master.may_found && !slice_is(cluster, master.cluster))
        master.foreign = true, master.may_found = false;
    if (blank && master.foreign)
        return fail(READ_ONLY, "a node of another cluster came to this master, which was told to make a new one; start "
                               "the master without --init, or give it nodes of its own");
    if (!blank && *master.cluster && !slice_is(cluster, master.cluster) && !cluster_is_open())
        return fail(DENIED, "this node belongs to cluster %.*s, this master serves cluster %s%s", (int)cluster.length,
                    cluster.at, master.cluster, master.init ? "; start the master without --init" : "");
    if (blank && !*master.cluster)
        return fail(READ_ONLY,
                    "this master waits for a node that knows the cluster; for a new cluster start it with --init");
    if (p && p->up && p->link && p->instance != instance)
        return fail(EXISTS,
                    "a node with this id is up at %s; was its directory copied? start this one with an empty one",
                    p->address);
    return DONE;
}

/* JOIN INSTANCE CLUSTER NAME ADDRESS ZONE VERSION BORN STARTED: a node is here. It counts from its first PING on. */
static enum status master_join(struct request *r) {
    struct peer said = {0};
    uint64_t id;
    if (!parse_id(slice_of(r->c->id), &id) || !parse_id(r->w.word[1], &said.instance) ||
        !parse_escaped(r->w.word[3], said.name, sizeof said.name) ||
        !slice_copy(r->w.word[4], said.address, sizeof said.address) ||
        !parse_escaped(r->w.word[5], said.zone, sizeof said.zone) ||
        !parse_escaped(r->w.word[6], said.version, sizeof said.version) ||
        !parse_u64(r->w.word[7], UINT32_MAX, &said.born_s) || !parse_u64(r->w.word[8], UINT32_MAX, &said.started_s))
        return fail(BAD_REQUEST, "an argument of JOIN that is none");
    if (!label_is_good(said.name) || (*said.zone && !label_is_good(said.zone)) || !label_is_good(said.version))
        return fail(BAD_REQUEST, "a node's name, zone or version has a byte that is not printable");
    lock_take(&master.lock);
    int slot = peer_slot(id);
    struct peer *p = slot >= 0 ? master.peers[slot] : NULL;
    enum status status = join_check(p, said.instance, r->w.word[2]);
    if (status == DONE && !p && master.peer_count == NODES_MAX)
        status = fail(NO_SPACE, "a cluster has at most %d nodes", NODES_MAX);
    if (status != DONE) {
        lock_drop(&master.lock);
        return status;
    }
    if (!slice_is(r->w.word[2], "-")) cluster_learn(r->w.word[2]);
    if (!p) p = peer_make(id), slot = master.peer_count - 1;
    peers_drain();
    holders_clear(slot);
    if (p->instance != said.instance) { /* another process: what the last one had says nothing of it */
        p->streaming = p->told = p->unproved = p->failed = false;
        p->no_room = 0;
        p->acked = 0;
        peer_cut(p);
    }
    p->instance = said.instance;
    memcpy(p->name, said.name, sizeof p->name);
    memcpy(p->address, said.address, sizeof p->address);
    memcpy(p->zone, said.zone, sizeof p->zone);
    memcpy(p->version, said.version, sizeof p->version);
    p->born_s = said.born_s;
    p->started_s = said.started_s;
    for (int i = 0; i < master.peer_count; i++) {
        int number = 0;
        while (strcmp(master.peers[number]->zone, master.peers[i]->zone) != 0) number++;
        master.peers[i]->zone_number = number;
    }
    p->link = r->c;
    p->stopping = p->forgotten = false;
    p->joined_ms = p->ping_ms = clock_ms();
    p->echo_ms = 0;
    p->drop_count = 0; /* its inventory will tell what is left to drop */
    p->session = ++master.next_session;
    text_format(r->line, " %" PRIu64 " %s %" PRIu64 " %" PRId64 " %d", p->session, master.cluster,
                master.state >= ESTABLISHING ? master.epoch : 0, master.dead_after_ms, (int)master.allow_faults);
    peers_wake();
    lock_drop(&master.lock);
    return DONE;
}

/* A connection ended: if a node pinged on it, the node is given RECONNECT_GRACE_MS. */
static void master_gone(struct conn *c) {
    lock_take(&master.lock);
    for (int i = 0; i < master.peer_count; i++)
        if (master.peers[i]->link == c) {
            master.peers[i]->link = NULL;
            master.peers[i]->gone_ms = clock_ms();
            cond_broadcast(&master.changed);
        }
    uint64_t client = 0;
    int64_t until_ms = clock_ms() + 2 * UPLOAD_KEEP_MS; /* its upload is over unless it says more by another way */
    parse_id(slice_of(c->id), &client);
    for (int i = 0; i < master.upload_count; i++)
        if (master.uploads[i].client == client && master.uploads[i].until_ms > until_ms)
            master.uploads[i].until_ms = until_ms;
    lock_drop(&master.lock);
}

static struct peer *peer_of_session(const struct request *r, struct slice word) {
    uint64_t id, session;
    if (!parse_id(slice_of(r->c->id), &id) || !parse_u64(word, UINT64_MAX, &session)) return NULL;
    int slot = peer_slot(id);
    return slot >= 0 && session != 0 && master.peers[slot]->session == session ? master.peers[slot] : NULL;
}

/* Takes in what a ping says of the node's records. While somebody reigns here, the stream of records knows better. */
static void ping_history(struct peer *p, const struct peer *said, uint64_t follows) {
    if (said->promised > master.highest_seen) master.highest_seen = said->promised;
    if (!peer_is_blank(said)) master.may_found = false;
    if (master.state >= ESTABLISHING && said->promised > master.epoch) reign_end("a node has promised a newer master");
    if (master.state >= ESTABLISHING && said->damaged && p->streaming) { /* it found out just now */
        p->streaming = false;
        p->forgot = true;
        p->acked = 0;
        peer_cut(p);
    }
    if (master.state != WAITING) return;
    p->told = true;
    p->at = said->at;
    p->roster = said->roster;
    p->damaged = said->damaged;
    p->promised = said->promised;
    p->bound = follows != 0 && follows != master.id;
    master.saw_other = master.saw_other || p->bound;
    if (p->bound && master.tree.at.seq > 0 &&
        position_newer(said->at, master.tree.at)) { /* another reigns: what this one knew is worth nothing */
        tree_free(&master.tree);
        tree_init(&master.tree);
        history_clear();
        queues_clear();
    }
}

/* A node's disk failed: its copies count no longer, though who needs them may still read them. */
static void disk_failed(struct peer *p) {
    event_say("node %s: its disk failed", p->name);
    p->alive_ms = p->down_ms = p->repair_ms = clock_ms();
    p->repair_from = master.copied_bytes;
    p->repairing = master.state >= ESTABLISHING;
    if (master.state >= ESTABLISHING) chunks_review();
}

/* PING SESSION STATE FILES CHUNKS BYTES DAMAGED FREE TOTAL TRANSFERS ECHO FOLLOWS PROMISED EPOCH SEQ ROSTER-EPOCH
 * ROSTER-SEQ ROSTER: answered with a stamp that the next ping repeats, the epoch if this master reigns, and the epoch
 * that it reigns by or asks promises for. */
static enum status master_ping(struct request *r) {
    struct peer said = {0};
    uint64_t echo, follows = 0;
    const struct slice *word = r->w.word;
    if (!parse_u64(word[3], UINT64_MAX, &said.files) || !parse_u64(word[4], UINT64_MAX, &said.chunks) ||
        !parse_u64(word[5], UINT64_MAX, &said.bytes) || !parse_u64(word[6], UINT64_MAX, &said.damaged_chunks) ||
        !parse_u64(word[7], UINT64_MAX, &said.free_bytes) || !parse_u64(word[8], UINT64_MAX, &said.total_bytes) ||
        !parse_u32(word[9], UINT32_MAX, &said.transfers) || !parse_u64(word[10], INT64_MAX, &echo) ||
        !(slice_is(word[11], "-") || parse_id(word[11], &follows)) ||
        !parse_u64(word[12], UINT64_MAX - 1, &said.promised) || !parse_history(&word[13], &said.at, &said.roster))
        return fail(BAD_REQUEST, "an argument of PING that is none");
    said.failed = slice_is(word[2], "failed");
    said.damaged = slice_is(word[2], "damaged");
    lock_take(&master.lock);
    struct peer *p = peer_of_session(r, word[1]);
    if (p) {
        int64_t now_ms = clock_ms();
        bool mended = p->failed && !said.failed, broke = !p->failed && said.failed;
        p->failed = said.failed;
        if (mended && master.state >= ESTABLISHING) chunks_review(); /* its inventory may have come first */
        if (broke) disk_failed(p);
        p->ping_ms = now_ms;
        ping_history(p, &said, follows);
        if (!p->up) { /* its first ping: it took the answer to JOIN in, and a blank node is formatted now */
            if (p->down_ms == 0) event_say("node %s joined from %s", p->name, p->address);
            else
                event_say("node %s joined from %s, back after %.1f s", p->name, p->address,
                          (double)(now_ms - p->down_ms) / 1000);
            p->up = true;
            if (p->down_ms != 0) master.changed_ms = now_ms;
            if (p->repairing && p->repair_ms > now_ms) { /* it was waited for */
                p->repair_ms = now_ms;
                p->repair_from = master.copied_bytes;
            }
            master.retry_ms = 0;
            peers_wake();
        }
        if (follows == master.id && (int64_t)echo <= now_ms && (int64_t)echo > p->echo_ms) p->echo_ms = (int64_t)echo;
        bool was_full = peer_is_full(p);
        p->files = said.files;
        p->chunks = said.chunks;
        p->bytes = said.bytes;
        p->damaged_chunks = said.damaged_chunks;
        p->free_bytes = said.free_bytes;
        p->ordered_bytes = p->coming_bytes;
        p->total_bytes = said.total_bytes;
        p->transfers = said.transfers;
        if (was_full && !peer_is_full(p)) cond_signal(&master.copy_wanted); /* the queues hold what it lacks */
        text_format(r->line, " %" PRId64 " %" PRIu64 " %" PRIu64, now_ms,
                    master.state >= ESTABLISHING ? master.epoch : 0, master.state != WAITING ? master.epoch : 0);
    }
    lock_drop(&master.lock);
    return p ? DONE : fail(NOT_FOUND, "no such session; join again");
}

/* Notes that a node holds a chunk. */
static void report_holder(int slot, const uint8_t hash[32], uint32_t length, bool fresh, const struct standing *now) {
    uint32_t index = tree_chunk_make(&master.tree, hash, length);
    struct chunk *chunk = tree_chunk(&master.tree, index);
    if (chunk->length != length) return; /* can't be: the node verified it */
    holder_add(chunk, slot);
    chunk->flags &= ~(uint32_t)(fresh ? CHUNK_AGE | CHUNK_DAMAGED : CHUNK_DAMAGED); /* an inventory is no news */
    if (fresh) chunk->flags |= CHUNK_FRESH;
    /* While the chain of an upload still fills its copies, nobody else need hurry. */
    bool chain_done = chunk->references > 0 || node_set_count(&chunk->holders) >= master.sync_copies;
    int lacking = copies_lacking(chunk, now);
    if (chain_done && lacking > 0 && (fresh || master.peers[slot]->inventoried)) chunk_enqueue(index);
    if (lacking < 0) surplus_look();
}

/* BYE SESSION: a node is being stopped, and will be back. */
static enum status master_bye(struct request *r) {
    lock_take(&master.lock);
    struct peer *p = peer_of_session(r, r->w.word[1]);
    if (p) p->stopping = true;
    lock_drop(&master.lock);
    return p ? DONE : fail(NOT_FOUND, "no such session; join again");
}

/* Appends the paths of files that name chunk `index`, or with NONE those that name one that is on no live node; at most
 * `most` rows, each behind `word`. Takes a walk over all files. */
static void chunk_paths(struct text *t, const char *word, uint32_t index, int most) {
    struct text path = {0};
    const struct tree *tree = &master.tree;
    for (size_t b = 0; b < tree->bucket_count && most > 0; b++)
        for (const struct inode *n = tree->by_id[b]; n && most > 0; n = n->next) {
            bool named = false;
            for (uint32_t i = 0; i < n->chunk_count && !named; i++) {
                uint32_t one = inode_chunk(n, i);
                named = index != NONE ? one == index : node_set_empty(&tree_chunk(tree, one)->holders);
            }
            text_clear(&path);
            if (!named || !inode_path(&master.tree, n, &path)) continue;
            text_add(t, word);
            text_escaped(t, path.data, path.length);
            text_add(t, n->parent & TRASH_BIT ? " (in the trash)\n" : "\n");
            most--;
        }
    text_free(&path);
}

/* Says what a node found damaged, with the name of a file that it belongs to; to find that takes a walk over all files,
 * so not more than once a second. */
static void damage_say(const struct peer *p, uint32_t index) {
    static int64_t said_ms;
    char hex[65] = "";
    struct text path = {0};
    hex_write(hex, tree_chunk(&master.tree, index)->hash, 32);
    if (clock_ms() - said_ms > 1000) {
        said_ms = clock_ms();
        chunk_paths(&path, " of ", index, 1);
        if (path.length > 0) path.data[path.length - 1] = 0;
    }
    event_say("node %s: chunk %.64s%s was damaged", p->name, hex, path.data ? path.data : "");
    text_free(&path);
}

/* One row of REPORT: `new` or nothing, SHA256 LENGTH; `lost SHA256 0`; `gone SHA256 0`, dropped; `all` after a whole
 * inventory. */
static enum status report_row(struct peer *p, int slot, struct slice row, struct standing *now) {
    struct words w;
    uint8_t hash[32];
    uint32_t length;
    if (!words_split(row, &w)) return fail(BAD_REQUEST, "a row of REPORT that is none");
    if (w.count == 1 && slice_is(w.word[0], "all")) {
        p->inventoried = master.zones_due = true;
        *now = standing_now();
        chunks_review();
        return DONE;
    }
    bool gone = w.count == 3 && slice_is(w.word[0], "gone");
    int at = w.count - 2;
    if (at < 0 || at > 1 || !parse_hex(w.word[at], hash, 32) || !parse_u32(w.word[at + 1], CHUNK_MAX_BYTES, &length))
        return fail(BAD_REQUEST, "a row of REPORT that is none");
    if (at == 0 || slice_is(w.word[0], "new")) {
        if (length > 0) report_holder(slot, hash, length, at == 1, now);
        return DONE;
    }
    uint32_t index = tree_chunk_find(&master.tree, hash);
    if (index == NONE) return DONE;
    if (!gone) damage_say(p, index);
    holder_remove(tree_chunk(&master.tree, index), slot);
    if (!gone) tree_chunk(&master.tree, index)->flags |= CHUNK_DAMAGED;
    chunk_enqueue(index);
    tree_chunk_release(&master.tree, index);
    return DONE;
}

/* REPORT SESSION EPOCH with rows: what a node has on its disk. */
static enum status master_report(struct request *r) {
    uint64_t epoch;
    struct slice rest = {r->body.data, r->body.length}, row;
    if (!parse_u64(r->w.word[2], UINT64_MAX, &epoch)) return fail(BAD_REQUEST, "an epoch is a number");
    lock_take(&master.lock);
    struct peer *p = peer_of_session(r, r->w.word[1]);
    enum status status = p ? DONE : fail(NOT_FOUND, "no such session; join again");
    if (status == DONE && (master.state < ESTABLISHING || master.epoch != epoch))
        status = fail(READ_ONLY, "no reign of epoch %" PRIu64 " here", epoch);
    struct standing now = standing_now();
    while (status == DONE && slice_line(&rest, &row)) status = report_row(p, peer_slot(p->id), row, &now);
    holders_changed();
    lock_drop(&master.lock);
    return status;
}

/* ---- What clients ask ---- */

/* Notes that a client has an upload open since `age_ms` ago, or none if `open` is false. */
static void upload_heard(uint64_t client, bool open, int64_t age_ms) {
    int64_t now_ms = clock_ms();
    int i = 0;
    while (i < master.upload_count && master.uploads[i].client != client) i++;
    if (!open) {
        if (i < master.upload_count) master.uploads[i] = master.uploads[--master.upload_count];
        return;
    }
    if (i == UPLOADS_MAX) {
        master.crowded_ms = now_ms + UPLOAD_LOST_MS;
        return;
    }
    if (i == master.upload_count) master.upload_count++;
    master.uploads[i] = (struct open_upload){client, now_ms - age_ms, now_ms + UPLOAD_LOST_MS};
}

/* TARGETS AGE: how many copies an upload needs before its commit, and the nodes that take chunks: ID ADDRESS USED ZONE.
 * USED is 0 for all if every node gets every chunk in any case. AGE is since when, in ms, the client's oldest open
 * upload is open, or -. */
static enum status master_targets(struct request *r) {
    struct candidate nodes[NODES_MAX];
    int full = 0, up = 0, sound = 0, count = 0;
    uint64_t client, age_ms = 0;
    bool open = !slice_is(r->w.word[1], "-");
    if ((open && !parse_u64(r->w.word[1], 3650 * DAY_MS, &age_ms)) || !parse_id(slice_of(r->c->id), &client))
        return fail(BAD_REQUEST, "AGE is in milliseconds, or -");
    lock_take(&master.lock);
    upload_heard(client, open, (int64_t)age_ms);
    enum status status = master_check_reign();
    int wanted = tree_copies(&master.tree, tree_by_id(&master.tree, ROOT_ID)), needed = copies_needed(wanted);
    bool spread = wanted != COPIES_ALL || master.tree.copies_count > 0;
    candidates_now(nodes);
    for (int i = 0; i < master.peer_count; i++) {
        const struct peer *p = master.peers[i];
        full += peer_usable(p) && peer_is_full(p);
        up += p->up && !p->failed;
        nodes[i].target = peer_usable(p) && !peer_is_full(p) && !p->draining;
        sound += nodes[i].target && !p->unproved;
    }
    for (int i = 0; i < master.peer_count; i++) { /* one that hung is sent nothing as long as there are others */
        if (sound >= needed && master.peers[i]->unproved) nodes[i].target = false;
        count += nodes[i].target;
    }
    if (status == DONE && count == 0)
        status = full > 0 ? fail(NO_SPACE, "all nodes are full; delete files or add a node")
                 : up > 0 ? fail(READ_ONLY, "the nodes are still catching up")
                          : fail(UNAVAILABLE, "no node is up; start one with: dfs node DIR");
    if (status == DONE && full > 0 && count < needed)
        status = fail(NO_SPACE, "only %d of %d nodes have room, and %d must have the bytes; delete files or add a node",
                      count, count + full, needed);
    r->has_reply = true;
    text_format(r->line, " %d", needed < count ? needed : count);
    for (int i = 0; i < master.peer_count; i++) {
        const struct peer *p = master.peers[i];
        if (!nodes[i].target) continue;
        text_id(&r->reply, p->id);
        text_format(&r->reply, " %s %" PRIu64 " %d\n", p->address, spread ? nodes[i].used_bytes : 0, nodes[i].zone);
    }
    lock_drop(&master.lock);
    return status;
}

/* HAVE AGE with rows SHA256: answers with the rows of those that are on as many disks as an acknowledgement needs, so
 * that nobody has to send them. AGE as in TARGETS. They count as stored just now: none is dropped while the upload is
 * open that asks. */
static enum status master_have(struct request *r) {
    struct slice rest = {r->body.data, r->body.length}, row;
    uint64_t client, age_ms;
    uint8_t hash[32];
    if (!parse_u64(r->w.word[1], 3650 * DAY_MS, &age_ms) || !parse_id(slice_of(r->c->id), &client))
        return fail(BAD_REQUEST, "AGE is in milliseconds");
    lock_take(&master.lock);
    enum status status = master_check_reign();
    upload_heard(client, true, (int64_t)age_ms);
    int needed = copies_needed(tree_copies(&master.tree, tree_by_id(&master.tree, ROOT_ID)));
    r->has_reply = true;
    while (status == DONE && slice_line(&rest, &row)) {
        if (!parse_hex(row, hash, 32)) {
            status = fail(BAD_REQUEST, "a row of HAVE is SHA256");
            break;
        }
        uint32_t index = tree_chunk_find(&master.tree, hash);
        struct chunk *chunk = index == NONE ? NULL : tree_chunk(&master.tree, index);
        if (!chunk || needed == 0 || chunk_disks(chunk) < needed) continue;
        chunk->flags &= ~(uint32_t)CHUNK_AGE;
        chunk->flags |= CHUNK_FRESH;
        text_bytes(&r->reply, row.at, row.length);
        text_byte(&r->reply, '\n');
    }
    if (status == DONE && rest.length > 0) status = fail(BAD_REQUEST, "a row of HAVE is SHA256");
    lock_drop(&master.lock);
    return status;
}

/* Ends a request that changed nothing: what its answer was read from may not be acknowledged yet, and must be before
 * the answer goes out. Returns `status`, or READ_ONLY when the reign ends first. */
static enum status answer_settle(enum status status) {
    char why[DETAIL_BYTES];
    if (master.state != REIGNING || master.committed >= master.tree.at.seq) return status;
    memcpy(why, detail, sizeof why);
    if (master_wait(master.tree.at.seq) != DONE) return fail(READ_ONLY, "the master's reign ended; ask again");
    memcpy(detail, why, sizeof detail);
    return status;
}

/* Ends a change. If it was refused because of what the tree holds, that must be acknowledged and current. */
static enum status change_end(enum status status) {
    uint64_t epoch = master.epoch;
    if (status != NOT_FOUND && status != EXISTS && status != NOT_EMPTY && status != WRONG_KIND) return status;
    status = answer_settle(status);
    if (status == READ_ONLY || (master_has_lease() && master.epoch == epoch)) return status;
    return fail(READ_ONLY, "perhaps not true any more, for this master has no hold on its nodes: %s", detail);
}

/* Answers a request that was done before. False if it was not. */
static bool request_repeated(const struct request *r, const uint8_t id[16], enum status *status) {
    const struct done_request *done = tree_request(&master.tree, id);
    if (!done) return false;
    uint64_t inode = done->inode, seq = done->seq;
    *status = master_wait(seq);
    if (*status == DONE) text_format(r->line, " %" PRIu64 " %" PRIu64, inode, seq);
    return true;
}

/* The line that takes an inode out of its directory: into the trash, if there is one. */
static void line_discard(struct text *lines, uint64_t id) {
    const struct inode *n = tree_by_id(&master.tree, id);
    uint64_t expiry_s = trash_now_s() + master.trash_s;
    bool keep = master.trash_s > 0 && !inode_expired(&master.tree, n);
    if (n->expiry_s != 0 && n->expiry_s < expiry_s) expiry_s = n->expiry_s; /* not longer than it would have lived */
    text_add(lines, keep ? "TRASH " : "RM ");
    text_u64(lines, id);
    if (keep) text_byte(lines, ' ');
    if (keep) text_u64(lines, expiry_s);
    text_byte(lines, '\n');
}

/* What is in the way of something new: not a file whose time is over, which the lines remove then. */
static const struct inode *not_expired(const struct inode *n, struct text *lines) {
    if (!n || !inode_expired(&master.tree, n)) return n;
    line_discard(lines, n->id);
    return NULL;
}

/* The lines that make the directories a path lacks above its last part. `*parent` gets the last one's id, `*last` that
 * part. `*made` counts new inodes. */
static enum status make_parents(const char *path, struct text *lines, uint64_t *parent, struct slice *last,
                                uint64_t *made) {
    struct slice rest = slice_of(path + 1), part;
    const struct inode *n = tree_by_id(&master.tree, ROOT_ID);
    uint64_t id = ROOT_ID;
    if (rest.length == 0) return fail(EXISTS, "'/' is there always");
    while (slice_part(&rest, '/', &part)) {
        *last = part;
        *parent = id;
        if (rest.length == 0) return DONE;
        n = n ? tree_lookup(&master.tree, id, part.at, part.length) : NULL;
        n = not_expired(n, lines);
        if (n && n->kind != KIND_DIRECTORY)
            return fail(WRONG_KIND, "'%s' goes through a file as if it were a directory", shown(path));
        if (n) {
            id = n->id;
            continue;
        }
        uint64_t above = id;
        id = master.tree.next_id + (*made)++;
        line_directory(lines, id, above, part, clock_wall_ns());
    }
    return DONE;
}

/* How many copies there are to be of what has this path, or would have it. */
static int path_copies(const char *path) {
    const struct inode *n = tree_by_id(&master.tree, ROOT_ID);
    struct slice rest = slice_of(path + 1), part;
    for (const struct inode *next; slice_part(&rest, '/', &part); n = next)
        if (!(next = tree_lookup(&master.tree, n->id, part.at, part.length))) break;
    return tree_copies(&master.tree, n);
}

static enum status claim_parse(const struct request *r, struct claim *claim) {
    struct slice rest = {r->body.data, r->body.length}, row;
    struct words w;
    uint64_t sum = 0;
    if (!parse_hex(r->w.word[1], claim->request, 16) || !slice_copy(r->w.word[1], claim->request_hex, 33) ||
        !parse_u64(r->w.word[3], UINT64_MAX, &claim->size) || !parse_i64(r->w.word[4], &claim->mtime_ns) ||
        !parse_hex(r->w.word[6], claim->sha256, 32) || !parse_u32(r->w.word[7], LIFE_MAX_S, &claim->life_s))
        return fail(BAD_REQUEST, "an argument of COMMIT that is none");
    if (slice_is(r->w.word[5], "none")) claim->condition = IF_NONE;
    else if (parse_hex(r->w.word[5], claim->if_sha256, 32)) claim->condition = IF_SAME;
    else if (!slice_is(r->w.word[5], "-")) return fail(BAD_REQUEST, "IF is -, none or a SHA-256");
    for (size_t i = 0; i < r->body.length; i++) claim->count += r->body.data[i] == '\n';
    if (claim->count > FILE_MAX_CHUNKS) return fail(BAD_REQUEST, "a file has at most %u chunks", FILE_MAX_CHUNKS);
    claim->chunk = mem_alloc(claim->count * sizeof *claim->chunk);
    for (uint32_t i = 0; i < claim->count; i++) {
        struct claimed *chunk = &claim->chunk[i];
        if (!slice_line(&rest, &row) || !words_split(row, &w) || w.count != 2 ||
            !parse_hex(w.word[0], chunk->hash, 32) || !parse_u32(w.word[1], CHUNK_MAX_BYTES, &chunk->length) ||
            chunk->length == 0)
            return fail(BAD_REQUEST, "a row of COMMIT is SHA256 LENGTH");
        sum += chunk->length;
    }
    if (rest.length > 0 || sum != claim->size) return fail(BAD_REQUEST, "the chunks do not add up to the file's size");
    if (claim->count == 1 && memcmp(claim->chunk[0].hash, claim->sha256, 32) != 0)
        return fail(DAMAGED, "a file of one chunk has that chunk's SHA-256");
    return DONE;
}

/* Puts a claim's chunks in line to be copied: before its record named them nobody had to. */
static void claim_review(const struct claim *claim) {
    struct standing now = standing_now();
    for (uint32_t i = 0; i < claim->count; i++) {
        uint32_t index = tree_chunk_find(&master.tree, claim->chunk[i].hash);
        if (index == NONE) continue;
        chunk_raise(index, claim->copies);
        int lacking = copies_lacking(tree_chunk(&master.tree, index), &now);
        if (lacking > 0) chunk_enqueue(index);
        else if (lacking < 0) surplus_look();
    }
}

/* After the record that made a claim's file `id`: if a holder was lost meanwhile, waits until the bytes are on enough
 * disks again. */
static enum status claim_settle(struct claim *claim, uint64_t id) {
    if (!tree_by_id(&master.tree, id)) return DONE; /* it was there, and somebody removed it since */
    if (claim_wait(claim) == DONE) return DONE;
    return fail(UNKNOWN, "the file is there, but its bytes are not on %d disks yet; repeat the request, which is safe",
                copies_needed(claim->copies));
}

/* Whether what is at the path of a claim now is what its client expects to be there. */
static enum status claim_expects(const struct claim *claim, const char *path, const struct inode *old) {
    if (old && inode_expired(&master.tree, old)) old = NULL;
    if (claim->condition == IF_NONE && old) return fail(EXISTS, "'%s' is there already", shown(path));
    if (claim->condition != IF_SAME) return DONE;
    if (!old) return fail(NOT_FOUND, "'%s' does not exist any more", shown(path));
    if (memcmp(inode_sha256(&master.tree, old), claim->if_sha256, 32) == 0) return DONE;
    return fail(EXISTS, "'%s' has been changed meanwhile", shown(path));
}

/* Seconds since 1970 at the end of a life that begins now; 0: it has no end. By the wall clock: if that is ahead of the
 * clock by which things expire, rightly or not, it is too late rather than too early. */
static uint32_t expiry_of(uint32_t life_s) {
    return life_s == 0 ? 0 : clock_wall_s() + life_s;
}

/* The lines that give the links of a file to its next version. */
static void shares_follow(struct text *lines, uint64_t from, uint64_t to) {
    for (size_t i = 0; i < master.tree.share_count; i++) {
        struct share share = master.tree.shares[i];
        if (share.inode != from) continue;
        share.inode = to;
        line_share(lines, &share);
    }
}

/* Writes the record of a claim and waits for it. */
static enum status claim_commit(struct request *r, struct claim *claim, const char *path) {
    struct text lines = {0};
    struct slice last;
    uint64_t parent, made = 0;
    enum status status = make_parents(path, &lines, &parent, &last, &made);
    const struct inode *old =
        status == DONE && made == 0 ? tree_lookup(&master.tree, parent, last.at, last.length) : NULL;
    if (status == EXISTS || (old && old->kind == KIND_DIRECTORY))
        status = fail(WRONG_KIND, "'%s' is a directory; give the file a name of its own", shown(path));
    if (status == DONE) status = claim_expects(claim, path, old);
    if (status == DONE) {
        uint64_t id = master.tree.next_id + made;
        if (old) line_discard(&lines, old->id);
        line_file(&lines, id, parent, last, claim->size, claim->mtime_ns, expiry_of(claim->life_s), claim->sha256,
                  claim->count);
        for (uint32_t i = 0; i < claim->count && claim->count > 1; i++)
            line_chunk(&lines, i, claim->count, claim->chunk[i].hash, claim->chunk[i].length);
        bool next = old && !inode_expired(&master.tree, old); /* the next version of what is there */
        if (next && old->copies != 0) line_copies(&lines, id, old->copies);
        if (next) shares_follow(&lines, old->id, id);
        uint64_t seq = master_propose(&lines, claim->request_hex); /* not before the bytes were on enough disks */
        claim_review(claim);
        status = master_wait(seq); /* every node of the roster has the name on disk too: acknowledged, if no disk with
                                    * the bytes was lost meanwhile */
        if (status == DONE) status = claim_settle(claim, id);
        if (status == DONE) text_format(r->line, " %" PRIu64 " %" PRIu64, id, seq);
    }
    text_free(&lines);
    return status;
}

/* COMMIT REQUEST PATH SIZE MTIME IF SHA256 LIFE, with rows SHA256 LENGTH: make these chunks a file, if what IF says is
 * true of what is there: - nothing is asked, none: there is nothing, SHA256: it is a file with this content. LIFE: for
 * how many seconds it is there, 0 for ever. */
static enum status master_commit(struct request *r) {
    struct claim claim = {0};
    char path[PATH_MAX_BYTES + 1];
    enum status status = claim_parse(r, &claim);
    if (status == DONE) status = request_path(r, 2, path);
    if (status == DONE) {
        lock_take(&master.lock);
        status = master_check_reign();
        const struct done_request *done = NULL;
        claim.copies = path_copies(path);
        if (status == DONE && !(done = tree_request(&master.tree, claim.request))) status = claim_wait(&claim);
        if (status == DONE && !done) done = tree_request(&master.tree, claim.request);
        if (status == DONE && !done) {
            status = claim_commit(r, &claim, path);
        } else if (status == DONE) { /* a repeated request: the answer of the first */
            uint64_t id = done->inode;
            request_repeated(r, claim.request, &status);
            if (status == DONE) status = claim_settle(&claim, id);
        }
        status = change_end(status);
        lock_drop(&master.lock);
    }
    free(claim.chunk);
    return status;
}

/* What MKDIR, RM, MV and others have in common: the request id, a path, and what a third word says. */
struct change {
    uint8_t id[16];
    char request[33], path[PATH_MAX_BYTES + 1], to[PATH_MAX_BYTES + 1];
    int copies;
    int64_t mtime_ns;
    struct share share; /* of SHARE and UNSHARE, but for the inode; UNSHARE: */
    bool all;           /* all links of the file */
    uint32_t life_s;
};

static enum status change_parse(const struct request *r, struct change *change) {
    if (!parse_hex(r->w.word[1], change->id, 16) || !slice_copy(r->w.word[1], change->request, sizeof change->request))
        return fail(BAD_REQUEST, "a request id is 32 hexadecimal digits");
    enum status status = request_path(r, 2, change->path);
    if (status != DONE || r->w.count == 3) return status;
    if (slice_is(r->w.word[0], "SHARE") || slice_is(r->w.word[0], "UNSHARE")) {
        change->all = slice_is(r->w.word[3], "-") && r->w.count == 4;
        bool good = (change->all || parse_hex(r->w.word[3], change->share.token, TOKEN_BYTES)) &&
                    (r->w.count == 4 || parse_u32(r->w.word[4], LIFE_MAX_S, &change->life_s));
        return good ? DONE : fail(BAD_REQUEST, "a link has a token of %d hexadecimal digits, and a life in seconds",
                                  2 * TOKEN_BYTES);
    }
    if (slice_is(r->w.word[0], "TOUCH"))
        return parse_i64(r->w.word[3], &change->mtime_ns) ? DONE : fail(BAD_REQUEST, "a time is in nanoseconds");
    if (!slice_is(r->w.word[0], "COPIES")) return request_path(r, 3, change->to);
    change->copies = 0;
    return slice_is(r->w.word[3], "-") || parse_copies(r->w.word[3], &change->copies)
               ? DONE
               : fail(BAD_REQUEST, "copies: write all, a number from 1 to %d, or - for as many as around it",
                      NODES_MAX);
}

/* Writes the record of a change of inode `id`, waits for it, and answers. */
static enum status change_commit(struct request *r, const struct change *change, const struct text *lines,
                                 uint64_t id) {
    uint64_t seq = master_propose(lines, change->request);
    enum status status = master_wait(seq);
    if (status == DONE) text_format(r->line, " %" PRIu64 " %" PRIu64, id, seq);
    return status;
}

/* Does a change, by `make`, which writes its record's lines and says which inode it is about; once for each id. */
static enum status change_run(struct request *r,
                              enum status (*make)(const struct change *change, struct text *lines, uint64_t *id)) {
    struct change change;
    struct text lines = {0};
    uint64_t id;
    enum status status = change_parse(r, &change);
    if (status != DONE) return status;
    lock_take(&master.lock);
    status = master_check_reign();
    if (status == DONE && !request_repeated(r, change.id, &status)) {
        status = make(&change, &lines, &id);
        if (status == DONE) status = change_commit(r, &change, &lines, id);
    }
    if (status == DONE && master.tree.copies_count > 0) master.copies_changed = true;
    status = change_end(status);
    lock_drop(&master.lock);
    text_free(&lines);
    return status;
}

static enum status make_directory(const struct change *change, struct text *lines, uint64_t *id) {
    struct slice last;
    uint64_t parent, made = 0;
    enum status status = make_parents(change->path, lines, &parent, &last, &made);
    if (status != DONE) return status;
    const struct inode *there = made == 0 ? tree_lookup(&master.tree, parent, last.at, last.length) : NULL;
    if (not_expired(there, lines)) return fail(EXISTS, "'%s' is there already", shown(change->path));
    *id = master.tree.next_id + made;
    line_directory(lines, *id, parent, last, clock_wall_ns());
    return DONE;
}

/* MKDIR REQUEST PATH: make a directory, and those above it that are missing. */
static enum status master_mkdir(struct request *r) {
    return change_run(r, make_directory);
}

static enum status make_removal(const struct change *change, struct text *lines, uint64_t *id) {
    struct inode *n;
    enum status status = tree_resolve(&master.tree, change->path, &n, NULL, NULL);
    if (status != DONE) return status;
    if (n->id == ROOT_ID) return fail(BAD_REQUEST, "the root stays");
    const struct inode *in = n->kind == KIND_DIRECTORY ? tree_next(&master.tree, n->id, "") : NULL;
    for (int count = 0; in; in = tree_next_behind(&master.tree, in)) {
        if (!inode_expired(&master.tree, in) || count++ == TREE_MOST)
            return fail(NOT_EMPTY, "the directory '%s' is not empty; remove what is in it first", shown(change->path));
        line_discard(lines, in->id);
    }
    *id = n->id;
    line_discard(lines, n->id);
    return DONE;
}

/* RM REQUEST PATH: remove a file or an empty directory. */
static enum status master_rm(struct request *r) {
    return change_run(r, make_removal);
}

static enum status make_rmdir(const struct change *change, struct text *lines, uint64_t *id) {
    struct inode *n;
    enum status status = tree_resolve(&master.tree, change->path, &n, NULL, NULL);
    if (status == DONE && n->kind != KIND_DIRECTORY)
        return fail(WRONG_KIND, "'%s' is a file; dfs --rm removes it", shown(change->path));
    return status == DONE ? make_removal(change, lines, id) : status;
}

/* RMDIR REQUEST PATH: remove an empty directory, and nothing else. */
static enum status master_rmdir(struct request *r) {
    return change_run(r, make_rmdir);
}

/* A growing list of inodes' ids. */
struct ids {
    uint64_t *id;
    size_t count, capacity;
};

static void ids_add(struct ids *list, uint64_t id) {
    if (list->count == list->capacity) {
        list->capacity = list->capacity ? 2 * list->capacity : 64;
        list->id = mem_resize(list->id, list->capacity * sizeof *list->id);
    }
    list->id[list->count++] = id;
}

/* The ids of `top` and all that is in it, in the order of tree_below; the caller frees them. */
static enum status ids_below(const struct inode *top, struct ids *list) {
    *list = (struct ids){0};
    for (const struct inode *n = top; n; n = tree_below(&master.tree, top, n)) {
        if (list->count == TREE_MOST) {
            free(list->id);
            return fail(BAD_REQUEST, "more than %d files and directories; do it in parts", TREE_MOST);
        }
        ids_add(list, n->id);
    }
    return DONE;
}

static enum status make_removals(const struct change *change, struct text *lines, uint64_t *id) {
    struct inode *top;
    struct ids all;
    enum status status = tree_resolve(&master.tree, change->path, &top, NULL, NULL);
    if (status != DONE) return status;
    if (top->id == ROOT_ID) return fail(BAD_REQUEST, "the root stays");
    status = ids_below(top, &all);
    if (status != DONE) return status;
    *id = top->id;
    while (all.count > 0) line_discard(lines, all.id[--all.count]); /* what is in a directory before it */
    free(all.id);
    return DONE;
}

/* RMALL REQUEST PATH: remove a file, or a directory with all that is in it, in one transaction. */
static enum status master_rmall(struct request *r) {
    return change_run(r, make_removals);
}

static enum status make_touch(const struct change *change, struct text *lines, uint64_t *id) {
    struct inode *n;
    enum status status = tree_resolve(&master.tree, change->path, &n, NULL, NULL);
    if (status != DONE) return status;
    if (n->id == ROOT_ID) return fail(BAD_REQUEST, "the root has no time");
    *id = n->id;
    text_format(lines, "TIME %" PRIu64 " %" PRId64 "\n", n->id, change->mtime_ns);
    return DONE;
}

/* TOUCH REQUEST PATH MTIME: set the time of a file or directory. */
static enum status master_touch(struct request *r) {
    return change_run(r, make_touch);
}

/* The length of the longest path below an inode, from its own end. */
static size_t path_longest(const struct inode *top) {
    size_t longest = 0, length = 0;
    const struct inode *before = top;
    for (const struct inode *n = tree_below(&master.tree, top, top); n;
         before = n, n = tree_below(&master.tree, top, n)) {
        for (const struct inode *up = before; up->id != n->parent; up = tree_by_id(&master.tree, up->parent))
            length -= 1 + (size_t)up->name_length;
        length += 1 + (size_t)n->name_length;
        if (length > longest) longest = length;
    }
    return longest;
}

/* The lines that make way for what MV or CP puts at another path: missing directories, and a file that is there goes.
 * `*n` gets what is to go there, `*parent` and `*last` its new place, `*made` counts new inodes. */
static enum status make_way(const struct change *change, const char *what, struct text *lines, struct inode **n,
                            uint64_t *parent, struct slice *last, uint64_t *made) {
    struct inode *old = NULL;
    size_t length = strlen(change->path);
    if (strncmp(change->path, change->to, length) == 0 && (change->to[length] == '/' || change->to[length] == 0))
        return fail(BAD_REQUEST, "'%s' can't be %s %s", shown(change->path), what,
                    change->to[length] ? "into itself" : "to where it is");
    enum status status = tree_resolve(&master.tree, change->path, n, NULL, NULL);
    if (status == DONE && (*n)->id == ROOT_ID) return fail(BAD_REQUEST, "the root stays what and where it is");
    if (status == DONE && strlen(change->to) > length && strlen(change->to) + path_longest(*n) > PATH_MAX_BYTES)
        return fail(BAD_REQUEST, "what is in '%s' would have paths of more than %d bytes there", shown(change->path),
                    PATH_MAX_BYTES);
    if (status == DONE) status = make_parents(change->to, lines, parent, last, made);
    if (status != DONE) return status;
    if (*made == 0) old = tree_lookup(&master.tree, *parent, last->at, last->length);
    old = (struct inode *)(uintptr_t)not_expired(old, lines);
    if (old && old->kind == KIND_DIRECTORY)
        return fail((*n)->kind == KIND_DIRECTORY ? EXISTS : WRONG_KIND, "'%s' is a directory", shown(change->to));
    if (old && (*n)->kind == KIND_DIRECTORY)
        return fail(WRONG_KIND, "'%s' is a file, '%s' a directory", shown(change->to), shown(change->path));
    if (old) line_discard(lines, old->id);
    return DONE;
}

static enum status make_move(const struct change *change, struct text *lines, uint64_t *id) {
    struct inode *n;
    struct slice last;
    uint64_t parent, made = 0;
    enum status status = make_way(change, "moved", lines, &n, &parent, &last, &made);
    if (status != DONE) return status;
    *id = n->id;
    line_move(lines, n->id, parent, last);
    return DONE;
}

/* MV REQUEST FROM TO: give a file or directory another path, in place of a file that is there. */
static enum status master_mv(struct request *r) {
    return change_run(r, make_move);
}

static enum status make_copy(const struct change *change, struct text *lines, uint64_t *id) {
    struct inode *n;
    struct slice last;
    struct ids all;
    uint64_t parent, made = 0;
    enum status status = make_way(change, "copied", lines, &n, &parent, &last, &made);
    if (status == DONE) status = ids_below(n, &all);
    if (status != DONE) return status;
    free(all.id);
    *id = master.tree.next_id + made;
    text_format(lines, "CP %" PRIu64 " %" PRIu64 " ", n->id, parent);
    text_escaped(lines, last.at, last.length);
    text_byte(lines, '\n');
    uint64_t copy = *id, gone = 0; /* the copies have the ids that follow, in this order */
    for (const struct inode *m = n; m; m = tree_below(&master.tree, n, m), copy++)
        if (inode_expired(&master.tree, m) && ++gone) text_format(lines, "RM %" PRIu64 "\n", copy);
    if (gone > 0) /* so that the record is about the copy */
        text_format(lines, "TIME %" PRIu64 " %" PRId64 "\n", *id, n->mtime_ns);
    return DONE;
}

/* CP REQUEST FROM TO: copy a file, or a directory with all that is in it, by naming the same chunks, in one
 * transaction; in place of a file that is there. */
static enum status master_cp(struct request *r) {
    return change_run(r, make_copy);
}

/* Lines that take what is in the trash back into a directory where no name is in the way. `below` gets the directories
 * that are in it then. `left`: how many more there may be. */
static enum status restore_entries(uint64_t directory, struct text *lines, int *left, struct ids *below) {
    const struct tree *t = &master.tree;
    char behind[TRASH_NAME_MAX_BYTES + 1];
    struct inode *n = tree_after(t, directory | TRASH_BIT, "", 0);
    while (n && n->parent == (directory | TRASH_BIT)) {
        if (lines->length > RESTORE_MOST_BYTES) *left = 0;
        struct slice name = trash_name(n);
        const struct inode *newest = trash_newest(t, directory, name);
        const struct inode *there = newest ? tree_lookup(t, directory, name.at, name.length) : NULL;
        if (newest && !not_expired(there, lines)) {
            if ((*left)-- == 0)
                return fail(BAD_REQUEST, "more than %d files and directories; take them back in parts", TREE_MOST);
            line_move(lines, newest->id, directory, name);
            if (newest->kind == KIND_DIRECTORY) ids_add(below, newest->id);
        }
        int length = snprintf(behind, sizeof behind, "%.*s/:", (int)name.length, name.at); /* ':' comes behind digits */
        n = tree_after(t, n->parent, behind, (size_t)length);
    }
    for (n = tree_next(t, directory, ""); n && n->parent == directory;
         n = tree_after(t, directory, n->name, n->name_length))
        if (n->kind == KIND_DIRECTORY) ids_add(below, n->id);
    return DONE;
}

/* The same for a directory and all that are below it, there or taken back. No recursion: see tree_below. */
static enum status restore_below(uint64_t directory, struct text *lines) {
    struct ids below = {0};
    int left = TREE_MOST;
    enum status status = restore_entries(directory, lines, &left, &below);
    while (status == DONE && below.count > 0)
        status = restore_entries(below.id[--below.count], lines, &left, &below);
    free(below.id);
    return status;
}

static enum status make_restore(const struct change *change, struct text *lines, uint64_t *id) {
    struct slice rest = slice_of(change->path + 1), part;
    uint64_t parent = ROOT_ID;
    *id = ROOT_ID;
    while (slice_part(&rest, '/', &part)) {
        struct inode *n = tree_lookup(&master.tree, parent, part.at, part.length);
        const struct inode *trashed = trash_newest(&master.tree, parent, part);
        bool last = rest.length == 0, keep = n && (n->kind == KIND_DIRECTORY || !last);
        if (!keep && !trashed)
            return fail(NOT_FOUND, "nothing in the trash was called '%s'; dfs --undelete lists what is there",
                        shown(change->path));
        if (!keep && n) line_discard(lines, n->id); /* another version has that name: they change places */
        if (!keep) line_move(lines, trashed->id, parent, part);
        const struct inode *taken = keep ? n : trashed;
        if (!last && taken->kind != KIND_DIRECTORY)
            return fail(WRONG_KIND, "'%s' goes through a file as if it were a directory", shown(change->path));
        *id = parent = taken->id;
        if (taken->kind != KIND_DIRECTORY) return DONE;
    }
    enum status status = restore_below(parent, lines);
    if (status == DONE && lines->length == 0)
        status = fail(NOT_FOUND, "'%s' is there, and nothing in the trash was in it", shown(change->path));
    return status;
}

static enum status make_copies(const struct change *change, struct text *lines, uint64_t *id) {
    struct inode *n;
    enum status status = tree_resolve(&master.tree, change->path, &n, NULL, NULL);
    if (status != DONE) return status;
    *id = n->id;
    line_copies(lines, n->id, change->copies);
    return DONE;
}

/* COPIES REQUEST PATH N: how many copies there are to be of a file, or of what is in a directory. */
static enum status master_copies(struct request *r) {
    enum status status = change_run(r, make_copies);
    lock_take(&master.lock);
    master.copies_changed = true; /* the last such line may have gone */
    lock_drop(&master.lock);
    return status;
}

/* The node of a name or an id; NULL, with why in `detail`, if there is none or more than one. */
static const struct member *member_named(struct slice word, enum status *status) {
    char name[LABEL_MAX_BYTES + 1];
    const struct member *found = NULL;
    uint64_t id = 0;
    bool by_id = parse_id(word, &id);
    *status = DONE;
    if (!parse_escaped(word, name, sizeof name)) *name = 0;
    for (int i = 0; i < master.tree.member_count && *status == DONE; i++) {
        const struct member *m = &master.tree.members[i];
        if (by_id ? m->id != id : strcmp(m->name, name) != 0) continue;
        if (found) *status = fail(BAD_REQUEST, "several nodes are called '%s'; name it by its id", shown(name));
        found = m;
    }
    if (!found) *status = fail(NOT_FOUND, "no node is called '%s'; dfs --nodes lists them", shown(name));
    return *status == DONE ? found : NULL;
}

/* DRAIN REQUEST NODE 0|1: have a node give up what it holds, or not any more. */
static enum status make_drain(const struct request *r, const struct member *m, struct text *lines) {
    uint32_t draining;
    if (!parse_u32(r->w.word[3], 1, &draining)) return fail(BAD_REQUEST, "DRAIN takes 1, or 0 to go on as before");
    line_drain(lines, m->id, draining != 0);
    return DONE;
}

/* FORGET REQUEST NODE: a node that will not come back is missed no longer. */
static enum status make_forget(const struct request *r, const struct member *m, struct text *lines) {
    int slot = peer_slot(m->id);
    (void)r;
    if (slot >= 0 && (master.peers[slot]->up || master.peers[slot]->link))
        return fail(EXISTS, "node %s is up; stop it first", m->name);
    if (slot >= 0 && (node_set_has(&master.roster, slot) || node_set_has(&master.next_roster, slot)))
        return fail(READ_ONLY, "node %s is still in the roster; ask again", m->name);
    text_add(lines, "FORGET ");
    text_id(lines, m->id);
    text_byte(lines, '\n');
    return DONE;
}

/* It is forgotten, and not waited for any more. */
static void member_forgotten(uint64_t id) {
    int slot = peer_slot(id);
    if (slot < 0 || master.peers[slot]->up || tree_member(&master.tree, id)) return;
    if (master.peers[slot]->waited_for) repair_begin(slot);
    master.peers[slot]->forgotten = true;
}

/* What both have in common. */
static enum status member_run(struct request *r, enum status (*make)(const struct request *r, const struct member *m,
                                                                      struct text *lines)) {
    struct text lines = {0};
    struct change change = {0};
    enum status status = DONE;
    if (!parse_hex(r->w.word[1], change.id, 16) || !slice_copy(r->w.word[1], change.request, sizeof change.request))
        return fail(BAD_REQUEST, "a request id is 32 hexadecimal digits");
    lock_take(&master.lock);
    status = master_check_reign();
    if (status == DONE && !request_repeated(r, change.id, &status)) {
        const struct member *m = member_named(r->w.word[2], &status);
        uint64_t id = m ? m->id : 0;
        if (m) status = make(r, m, &lines);
        if (status == DONE) status = change_commit(r, &change, &lines, 0);
        if (status == DONE) member_forgotten(id);
    }
    peers_drain();
    if (master.state >= ESTABLISHING) chunks_review();
    status = change_end(status);
    lock_drop(&master.lock);
    text_free(&lines);
    return status;
}

static enum status master_drain(struct request *r) {
    return member_run(r, make_drain);
}

static enum status master_forget(struct request *r) {
    return member_run(r, make_forget);
}

/* UNDELETE REQUEST PATH: take a file or directory back from the trash, with all that was in it. */
static enum status master_undelete(struct request *r) {
    return change_run(r, make_restore);
}

/* SHARE REQUEST PATH TOKEN LIFE: a link to a file. The token is the client's: repeated, it is the same link. */
static enum status make_share(const struct change *change, struct text *lines, uint64_t *id) {
    struct inode *n;
    struct share share = change->share;
    const struct tree *t = &master.tree;
    enum status status = tree_resolve(t, change->path, &n, NULL, NULL);
    if (status != DONE) return status;
    if (n->kind != KIND_FILE) return fail(WRONG_KIND, "'%s' is a directory; a link is to a file", shown(change->path));
    if (tree_share(t, share.token)) return fail(EXISTS, "there is a link with this token already");
    if (t->share_count == SHARES_MAX)
        return fail(BAD_REQUEST, "there are %d links, which is the most; dfs --unshare ends some", SHARES_MAX);
    share.inode = *id = n->id;
    share.expiry_s = expiry_of(change->life_s);
    line_share(lines, &share);
    return DONE;
}

static enum status master_share(struct request *r) {
    return change_run(r, make_share);
}

/* UNSHARE REQUEST PATH TOKEN: end a link of a file, or with - all that it has. */
static enum status make_unshare(const struct change *change, struct text *lines, uint64_t *id) {
    struct inode *n;
    enum status status = tree_resolve(&master.tree, change->path, &n, NULL, NULL);
    if (status != DONE) return status;
    *id = n->id;
    for (size_t i = 0; i < master.tree.share_count; i++) {
        const struct share *share = &master.tree.shares[i];
        bool meant = change->all || memcmp(share->token, change->share.token, TOKEN_BYTES) == 0;
        if (share->inode == n->id && meant) line_unshare(lines, share);
    }
    return lines->length > 0 ? DONE : fail(NOT_FOUND, "'%s' has no such link; dfs --share lists them",
                                           shown(change->path));
}

static enum status master_unshare(struct request *r) {
    return change_run(r, make_unshare);
}

/* Begins a read. A master whose reign ended answers from what it knows. */
static enum status read_begin(uint64_t *epoch) {
    *epoch = master.epoch;
    return master.tree.at.seq > 0 ? DONE : master_check_reign();
}

/* Ends a read: says whether the answer `words` is current, or possibly old. It is current if this master reigned from
 * beginning to end and all that the answer was read from is committed now. What is possibly old is no proof that
 * something is not there. */
static enum status read_end(struct request *r, enum status status, uint64_t epoch, struct text *words) {
    status = answer_settle(status);
    bool current = master_has_lease() && master.epoch == epoch;
    if (status == DONE) {
        text_add(r->line, current ? " current" : " old");
        text_bytes(r->line, words->data, words->length);
    } else if (status != READ_ONLY && !current) {
        status = fail(READ_ONLY, "perhaps not true any more, for this master has no hold on its nodes: %s", detail);
    }
    text_free(words);
    return status;
}

/* TRASH DIRECTORY KEY: what is in the trash behind this place, 0 and % for all; as much as fits, and the next place. */
static enum status master_trash(struct request *r) {
    char key[TRASH_NAME_MAX_BYTES + 1];
    uint64_t directory, epoch;
    struct text words = {0}, path = {0};
    const struct inode *n = NULL;
    bool more = false;
    if (!parse_u64(r->w.word[1], TRASH_BIT - 1, &directory) || !parse_escaped(r->w.word[2], key, sizeof key))
        return fail(BAD_REQUEST, "a directory is a number, a key what the answer before said");
    lock_take(&master.lock);
    enum status status = read_begin(&epoch);
    if (status == DONE) n = tree_after(&master.tree, directory | TRASH_BIT, key, strlen(key));
    for (; n && !more; n = more ? n : tree_after(&master.tree, n->parent, n->name, n->name_length)) {
        more = r->reply.length > MIB;
        text_clear(&path);
        if (!inode_path(&master.tree, n, &path)) continue;
        text_format(&r->reply, "%s %" PRIu64 " %" PRIu64 " %u ", n->kind == KIND_FILE ? "file" : "dir", n->id, n->size,
                    n->expiry_s);
        text_escaped(&r->reply, path.data, path.length);
        text_byte(&r->reply, '\n');
    }
    r->has_reply = status == DONE;
    text_format(&words, " %" PRIu64 " ", more ? n->parent & ~TRASH_BIT : 0);
    text_escaped(&words, more ? n->name : "", more ? n->name_length : 0);
    status = read_end(r, status, epoch, &words);
    lock_drop(&master.lock);
    text_free(&path);
    return status;
}

/* SHARES AFTER: the links behind this token, - for all; as many as fit, and whether there are more. */
static enum status master_shares(struct request *r) {
    uint8_t token[TOKEN_BYTES];
    uint64_t epoch;
    struct text words = {0}, path = {0};
    const struct tree *t = &master.tree;
    bool first = slice_is(r->w.word[1], "-");
    if (!first && !parse_hex(r->w.word[1], token, TOKEN_BYTES)) return fail(BAD_REQUEST, "AFTER is a token, or -");
    lock_take(&master.lock);
    enum status status = read_begin(&epoch);
    size_t i = first ? 0 : share_place(t, token);
    if (!first && i < t->share_count && memcmp(t->shares[i].token, token, TOKEN_BYTES) == 0) i++;
    for (; status == DONE && i < t->share_count && r->reply.length < MIB; i++) {
        const struct share *share = &t->shares[i];
        text_clear(&path);
        if (!tree_share(t, share->token) || !inode_path(t, tree_by_id(t, share->inode), &path)) continue;
        text_hex(&r->reply, share->token, TOKEN_BYTES);
        text_format(&r->reply, " %u ", share_ends(t, share));
        text_escaped(&r->reply, path.data, path.length);
        text_byte(&r->reply, '\n');
    }
    r->has_reply = status == DONE;
    text_add(&words, i < t->share_count ? " more" : " end");
    status = read_end(r, status, epoch, &words);
    lock_drop(&master.lock);
    text_free(&path);
    return status;
}

/* Whether a node may answer reads for HOLD_MS from its own records, if they end where this master's do: it is in the
 * roster, and none leaves that before then (roster_watch, takeover_is_due), so nothing is acknowledged that it does not
 * have; all that it has is acknowledged; and no other master can take over before then. */
static bool hold_may(const struct request *r) {
    int64_t now_ms = clock_ms();
    const struct peer *p = peer_of_session(r, r->w.word[1]);
    int slot = p ? peer_slot(p->id) : -1;
    if (slot < 0 || master.state != REIGNING || master.next_roster_seq != 0 || !node_set_has(&master.roster, slot) ||
        master.committed < master.tree.at.seq || !lease_from(&master.roster, now_ms + HOLD_MS + HOLD_MORE_MS))
        return false;
    for (int i = 0; i < master.peer_count; i++)
        if (node_set_has(&master.roster, i) && member_is_lost(master.peers[i], now_ms)) return false;
    master.hold_until_ms = now_ms + HOLD_MS + HOLD_MORE_MS;
    return true;
}

/* POSITION SESSION: of the last record, when it is acknowledged, and for how long the node that asks may rely on it. */
static enum status master_position(struct request *r) {
    struct text words = {0};
    uint64_t epoch;
    lock_take(&master.lock);
    enum status status = read_begin(&epoch);
    struct position at = master.tree.at;
    text_format(&words, " %" PRIu64 " %" PRIu64, at.epoch, at.seq);
    status = read_end(r, status, epoch, &words);
    bool hold = status == DONE && position_same(at, master.tree.at) && hold_may(r);
    if (status == DONE) text_format(r->line, " %d", hold ? HOLD_MS : 0);
    lock_drop(&master.lock);
    return status;
}

/* SHARED TOKEN: which file a link is of. */
static enum status master_shared(struct request *r) {
    struct text words = {0};
    uint64_t epoch;
    lock_take(&master.lock);
    enum status status = read_begin(&epoch);
    if (status == DONE) status = share_answer(&master.tree, r->w.word[1], &words, &r->reply);
    r->has_reply = status == DONE;
    status = read_end(r, status, epoch, &words);
    lock_drop(&master.lock);
    return status;
}

/* Rows of STAT: the nodes that hold anything of the file, then its chunks with the numbers of their nodes. */
static void stat_rows(struct text *t, const struct inode *n) {
    struct node_set all = {{0}};
    int number[NODES_MAX], count = 0;
    for (uint32_t i = 0; i < n->chunk_count; i++) {
        const struct node_set *holders = &tree_chunk(&master.tree, inode_chunk(n, i))->holders;
        all.bits[0] |= holders->bits[0];
        all.bits[1] |= holders->bits[1];
    }
    for (int i = 0; i < master.peer_count; i++) {
        if (!node_set_has(&all, i) || !master.peers[i]->up) continue;
        number[i] = count++;
        text_add(t, "node ");
        text_id(t, master.peers[i]->id);
        text_byte(t, ' ');
        text_add(t, master.peers[i]->address);
        text_byte(t, '\n');
    }
    for (uint32_t i = 0; i < n->chunk_count; i++) {
        const struct chunk *chunk = tree_chunk(&master.tree, inode_chunk(n, i));
        bool any = false;
        text_add(t, "chunk ");
        text_hex(t, chunk->hash, 32);
        text_byte(t, ' ');
        text_u64(t, chunk->length);
        text_byte(t, ' ');
        for (int k = 0; k < master.peer_count; k++) {
            if (!node_set_has(&chunk->holders, k) || !master.peers[k]->up) continue;
            if (any) text_byte(t, ',');
            text_u64(t, (uint64_t)number[k]);
            any = true;
        }
        if (!any) text_add(t, chunk->flags & CHUNK_DAMAGED ? "damaged" : "-");
        text_byte(t, '\n');
    }
}

/* STAT PATH: what it is, and for a file, which nodes hold its chunks. */
static enum status master_stat(struct request *r) {
    char path[PATH_MAX_BYTES + 1];
    struct inode *n = NULL;
    struct text words = {0};
    uint64_t epoch;
    enum status status = request_path(r, 1, path);
    if (status != DONE) return status;
    int64_t until_ms = clock_ms() + master.dead_after_ms;
    lock_take(&master.lock);
    status = read_begin(&epoch);
    for (bool again = true; again && status == DONE;) {
        again = false;
        status = tree_resolve(&master.tree, path, &n, NULL, NULL);
        if (status != DONE || n->kind != KIND_FILE || master.state != REIGNING || !inventories_due()) break;
        for (uint32_t i = 0; i < n->chunk_count && !again; i++)
            again = node_set_empty(&tree_chunk(&master.tree, inode_chunk(n, i))->holders);
        master.stat_waiters += again;
        int waiting = again;
        if (again) again = cond_wait_until(&master.changed, &master.lock, until_ms); /* the nodes are still telling */
        master.stat_waiters -= waiting;
    }
    if (status == DONE) {
        text_inode(&words, &master.tree, n);
        stat_rows(&r->reply, n);
        r->has_reply = true;
    }
    status = read_end(r, status, epoch, &words);
    lock_drop(&master.lock);
    return status;
}

/* The least number of copies that any chunk of a file has; on one node, if master.counted_on says so. */
static int inode_copies(const struct inode *n) {
    int least = n->chunk_count == 0 ? node_set_count(&master.roster) : NODES_MAX;
    if (master.counted_on >= 0 && least > 1) least = 1;
    for (uint32_t i = 0; i < n->chunk_count; i++) {
        const struct chunk *chunk = tree_chunk(&master.tree, inode_chunk(n, i));
        int copies = master.counted_on < 0 ? chunk_copies(chunk)
                                           : node_set_has(&chunk->holders, master.counted_on) &&
                                                 peer_usable(master.peers[master.counted_on]);
        if (copies < least) least = copies;
    }
    return least;
}

/* LIST PATH AFTER NODE: entries of a directory after the name AFTER, in byte order, as many as fit; with a file,
 * itself. With a NODE, the copies of files are counted on it alone: 0, or 1 if it holds all of one. */
static enum status master_list(struct request *r) {
    char path[PATH_MAX_BYTES + 1], after[NAME_MAX_BYTES + 1];
    struct inode *directory = NULL;
    struct text words = {0};
    uint64_t epoch;
    if (!parse_escaped(r->w.word[2], after, sizeof after)) return fail(BAD_REQUEST, "AFTER is a name");
    enum status status = request_path(r, 1, path);
    if (status != DONE) return status;
    lock_take(&master.lock);
    status = read_begin(&epoch);
    if (status == DONE) status = tree_resolve(&master.tree, path, &directory, NULL, NULL);
    master.counted_on = -1;
    if (status == DONE && !slice_is(r->w.word[3], "-")) {
        const struct member *m = member_named(r->w.word[3], &status);
        if (m) master.counted_on = peer_slot(m->id);
        if (m && (master.counted_on < 0 || !master.peers[master.counted_on]->up))
            status = fail(UNAVAILABLE, "node %s is down", m->name);
    }
    if (status == DONE) {
        text_entries(&r->reply, &words, &master.tree, directory, after, inode_copies);
        r->has_reply = true;
    }
    status = read_end(r, status, epoch, &words);
    lock_drop(&master.lock);
    return status;
}

static const char *peer_state(const struct peer *p) {
    if (!p->up) return "down";
    if (p->failed) return "failed";
    if (p->draining) return "draining";
    int slot = peer_slot(p->id);
    return master.state == REIGNING && node_set_has(&master.roster, slot) ? "up" : "learner";
}

/* How many chunks that a draining node holds lack a copy elsewhere. */
static uint64_t drain_left(int slot) {
    struct standing now = standing_now();
    uint64_t left = 0;
    for (uint32_t i = 0; i < master.tree.chunk_high; i++) {
        const struct chunk *chunk = tree_chunk(&master.tree, i);
        struct node_set here = node_set_and(&chunk->holders, &now.here);
        if (chunk->references == 0 || !node_set_has(&chunk->holders, slot)) continue;
        left += node_set_empty(&here) || copies_lacking(chunk, &now) > 0; /* if nobody else is there, all is left */
    }
    return left + (uint64_t)!master.peers[slot]->inventoried;
}

/* EVENTS AFTER WAIT: what happened behind event number AFTER, as many as fit; waits for at most WAIT ms for one. The
 * master's id is in the answer, since another one counts anew. */
static enum status master_events(struct request *r) {
    uint64_t after, wait_ms;
    if (!parse_u64(r->w.word[1], UINT64_MAX, &after) || !parse_u64(r->w.word[2], CALL_TIMEOUT_MS / 2, &wait_ms))
        return fail(BAD_REQUEST, "EVENTS takes a number and a time of at most %d ms", CALL_TIMEOUT_MS / 2);
    int64_t until_ms = clock_ms() + (int64_t)wait_ms;
    r->has_reply = true;
    lock_take(&master.lock);
    enum status status = master_check_reign();
    while (status == DONE && after == master.event_count && cond_wait_until(&master.changed, &master.lock, until_ms))
        status = master_check_reign();
    uint64_t first = master.event_count > EVENTS_MAX ? master.event_count - EVENTS_MAX : 0;
    if (after < first || after > master.event_count) after = first;
    for (; status == DONE && after < master.event_count && r->reply.length < MIB; after++) {
        const struct event *event = &master.events[after % EVENTS_MAX];
        text_format(&r->reply, "%" PRIu64 " %" PRId64 " %s\n", event->number, event->wall_ms, event->text);
    }
    text_format(r->line, " %016" PRIx64 " %" PRIu64, master.id, after);
    lock_drop(&master.lock);
    return status;
}

/* NODES: one row for each node that the cluster knows. */
static enum status master_nodes(struct request *r) {
    int64_t now_ms = clock_ms();
    r->has_reply = true;
    lock_take(&master.lock);
    text_add(r->line, master_has_lease() ? " current" : " old");
    for (int i = 0; i < master.peer_count; i++) {
        const struct peer *p = master.peers[i];
        if (p->forgotten) continue;
        text_id(&r->reply, p->id);
        text_byte(&r->reply, ' ');
        text_escaped(&r->reply, p->name, strlen(p->name));
        text_format(&r->reply,
                    " %s %s %" PRId64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %u ",
                    p->address, peer_state(p), now_ms - p->ping_ms, p->files, p->chunks, p->bytes, p->free_bytes,
                    p->total_bytes, p->damaged_chunks, p->transfers);
        text_escaped(&r->reply, p->zone, strlen(p->zone));
        text_format(&r->reply, " %s %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", p->version,
                    p->sent_bytes, p->received_bytes, p->draining ? drain_left(i) : 0, p->born_s, p->started_s);
    }
    for (int i = 0; i < master.tree.member_count; i++) {
        const struct member *m = &master.tree.members[i];
        if (peer_slot(m->id) >= 0) continue;
        text_id(&r->reply, m->id);
        text_byte(&r->reply, ' ');
        text_escaped(&r->reply, m->name, strlen(m->name));
        text_format(&r->reply, " %s down -1 0 0 0 0 0 0 0 %% - 0 0 0 0 0\n", m->address);
    }
    lock_drop(&master.lock);
    return DONE;
}

/* Why the cluster is not healthy, one row each. Returns how many rows. */
static int status_reasons(struct text *t) {
    int count = 0;
    for (int i = 0; i < master.tree.member_count; i++) {
        const struct member *m = &master.tree.members[i];
        int slot = peer_slot(m->id);
        if (slot >= 0 && master.peers[slot]->up && !master.peers[slot]->failed) continue;
        text_add(t, "why node ");
        text_escaped(t, m->name, strlen(m->name));
        const struct peer *p = slot >= 0 ? master.peers[slot] : NULL;
        int64_t now_ms = clock_ms();
        text_add(t, p && p->up ? " has a failed disk" : p && p->stopping ? " was stopped" : " is down");
        if (p && p->up && *p->why) text_format(t, ": %s", p->why);
        if (p && !p->up) text_format(t, " since %" PRId64 " s", (now_ms - p->down_ms) / 1000);
        if (p && p->waited_for)
            text_format(t, ", and is waited for %" PRId64 " s more", (p->repair_ms - now_ms) / 1000);
        text_byte(t, '\n');
        count++;
    }
    int wanted = tree_copies(&master.tree, tree_by_id(&master.tree, ROOT_ID)), places = 0;
    for (int i = 0; i < master.peer_count; i++)
        places += master.peers[i]->up && !master.peers[i]->failed && !master.peers[i]->draining;
    if (wanted != COPIES_ALL && places < wanted && ++count)
        text_format(t, "why there are to be %d copies of each file, and %d nodes to hold them\n", wanted, places);
    for (int i = 0; i < master.peer_count; i++) {
        const struct peer *p = master.peers[i];
        if (!p->up || p->failed || !peer_is_full(p)) continue;
        text_add(t, "why node ");
        text_escaped(t, p->name, strlen(p->name));
        text_add(t, " is full: ");
        text_size(t, p->free_bytes);
        text_add(t, " of ");
        text_size(t, p->total_bytes);
        text_add(t, " are free, and what is left is kept for names\n");
        count++;
    }
    for (int i = 0; i < master.peer_count; i++) {
        const struct peer *p = master.peers[i];
        if (!p->up || p->failed || master.state != REIGNING) continue;
        bool member = node_set_has(&master.roster, i);
        if (member && p->streaming && p->acked >= master.committed) continue;
        if (!member && p->streaming && node_set_count(&master.roster) >= master.roster_most) continue;
        text_add(t, "why node ");
        text_escaped(t, p->name, strlen(p->name));
        text_add(t, p->unproved ? " hung, and has not acknowledged a change in good time since" : " is catching up");
        if (*p->why) text_format(t, ": %s", p->why);
        text_byte(t, '\n');
        count++;
    }
    return count;
}

/* STATUS: one word and its value to a line. */
static enum status master_status(struct request *r) {
    uint64_t copies, bytes, unavailable;
    struct text why = {0};
    struct text *t = &r->reply;
    r->has_reply = true;
    lock_take(&master.lock);
    text_add(r->line, master_has_lease() ? " current" : " old");
    count_missing(&copies, &bytes, &unavailable);
    int reasons = status_reasons(&why);
    if (unavailable > 0) text_format(&why, "why %" PRIu64 " chunks are on no live node\n", unavailable);
    bool reigning = master.state == REIGNING;
    const char *state = !reigning ? "read-only" : reasons > 0 || unavailable > 0 ? "degraded" : "healthy";
    if (reigning && copies > 0) {
        text_format(&why, "why %" PRIu64 " copies are missing, ", copies);
        text_size(&why, bytes);
        bool going = copies_go_on() || inventories_due();
        if (going && master.copy_rate > 0) {
            text_add(&why, "; copying ");
            text_size(&why, master.copy_rate);
            text_format(&why, "/s, %" PRIu64 " s left", bytes / master.copy_rate + 1);
        }
        text_add(&why, "\n");
        state = going ? "healing" : "degraded";
    }
    if (!reigning) text_format(&why, "why %s\n", *master.waiting_for ? master.waiting_for : reign_names[master.state]);
    text_format(t, "state %s\nepoch %" PRIu64 "\nseq %" PRIu64 "\nmaster %s\ncluster %s\n", state, master.epoch,
                master.tree.at.seq, server.address, *master.cluster ? master.cluster : "-");
    text_format(t, "files %" PRIu64 "\ndirectories %" PRIu64 "\nbytes %" PRIu64 "\nchunks %u\n", master.tree.live.files,
                master.tree.live.directories, master.tree.live.bytes, master.tree.chunk_count);
    text_format(t, "copies_missing %" PRIu64 "\nbytes_missing %" PRIu64 "\nunavailable_chunks %" PRIu64 "\n", copies,
                bytes, unavailable);
    text_format(t, "dropped_chunks %" PRIu64 "\ndropped_bytes %" PRIu64 "\n", master.dropped_chunks,
                master.dropped_bytes);
    text_format(t, "roster %d\nreads %s\n", node_set_count(&master.roster), master_has_lease() ? "current" : "old");
    int wanted = tree_copies(&master.tree, tree_by_id(&master.tree, ROOT_ID));
    if (wanted == COPIES_ALL) text_add(t, "copies all\n");
    else text_format(t, "copies %d\n", wanted);
    text_format(t, "orders %d\nmoves %d\ncopied_bytes %" PRIu64 "\ncopy_rate %" PRIu64 "\n", master.orders,
                master.moves, master.copied_bytes, master.copy_rate);
    text_format(t, "sync_copies %d\nrequests %llu\nrefused %llu\nconnections %d\n", master.sync_copies,
                atomic_load(&server.requests), atomic_load(&server.refused), atomic_load(&server.connections));
    for (int i = 0; i < master.tree.forced_count; i++) {
        const struct member *m = tree_member(&master.tree, master.tree.forced[i].id);
        text_format(t, "forced epoch %" PRIu64 " began from node %016" PRIx64 " ", master.tree.forced[i].epoch,
                    master.tree.forced[i].id);
        text_escaped(t, m ? m->name : "", m ? strlen(m->name) : 0);
        text_format(t, " alone%s\n",
                    master.allow_drops ? "" : "; no chunk is dropped until the master is started with --allow-drops");
    }
    if (unavailable > 0 && reigning) chunk_paths(t, "lost ", NONE, LOST_SHOWN);
    if (why.length > 0) text_bytes(t, why.data, why.length);
    lock_drop(&master.lock);
    text_free(&why);
    return DONE;
}

static enum status master_digest(struct request *r) {
    uint8_t digest[32];
    lock_take(&master.lock);
    tree_digest(&master.tree, digest);
    text_format(r->line, " %" PRIu64 " %" PRIu64 " ", master.tree.at.epoch, master.tree.at.seq);
    text_hex(r->line, digest, 32);
    lock_drop(&master.lock);
    return DONE;
}

static const struct command master_table[] = {
    {"STAT", master_stat, 1, NO_BODY, FROM_ALL, "PATH", "what a path is, and which nodes hold its chunks"},
    {"LIST", master_list, 3, NO_BODY, FROM_ALL, "PATH AFTER NODE", "entries of a directory behind the name AFTER"},
    {"TARGETS", master_targets, 1, NO_BODY, FROM_ALL, "AGE", "nodes to send chunks to, best first"},
    {"HAVE", master_have, 1, LINES_BODY, FROM_ALL, "AGE", "which of these chunks need not be sent"},
    {"COMMIT", master_commit, 7, LINES_BODY, FROM_ALL, "REQUEST PATH SIZE MTIME IF SHA256 LIFE",
     "make stored chunks a file"},
    {"MKDIR", master_mkdir, 2, NO_BODY, FROM_ALL, "REQUEST PATH", "make a directory and those above it"},
    {"RM", master_rm, 2, NO_BODY, FROM_ALL, "REQUEST PATH", "remove a file or an empty directory"},
    {"RMDIR", master_rmdir, 2, NO_BODY, FROM_ALL, "REQUEST PATH", "remove an empty directory"},
    {"RMALL", master_rmall, 2, NO_BODY, FROM_ALL, "REQUEST PATH", "remove a file, or a directory with all in it"},
    {"CP", master_cp, 3, NO_BODY, FROM_ALL, "REQUEST FROM TO", "copy a file, or a directory with all in it"},
    {"TOUCH", master_touch, 3, NO_BODY, FROM_ALL, "REQUEST PATH MTIME", "set the time of a file or directory"},
    {"MV", master_mv, 3, NO_BODY, FROM_ALL, "REQUEST FROM TO", "give a file or directory another path"},
    {"COPIES", master_copies, 3, NO_BODY, FROM_ALL, "REQUEST PATH N", "how many copies there are to be"},
    {"UNDELETE", master_undelete, 2, NO_BODY, FROM_ALL, "REQUEST PATH", "take back from the trash"},
    {"TRASH", master_trash, 2, NO_BODY, FROM_ALL, "DIRECTORY KEY", "what is in the trash, behind this place"},
    {"SHARE", master_share, 4, NO_BODY, FROM_ALL, "REQUEST PATH TOKEN LIFE", "a link that needs no key"},
    {"UNSHARE", master_unshare, 3, NO_BODY, FROM_ALL, "REQUEST PATH TOKEN", "end a link, or all of a file"},
    {"SHARED", master_shared, 1, NO_BODY, FROM_ALL, "TOKEN", "which file a link is of"},
    {"SHARES", master_shares, 1, NO_BODY, FROM_ALL, "AFTER", "the links behind this token"},
    {"STATUS", master_status, 0, NO_BODY, FROM_ALL, "", "state of the cluster"},
    {"NODES", master_nodes, 0, NO_BODY, FROM_ALL, "", "state of every node"},
    {"EVENTS", master_events, 2, NO_BODY, FROM_ALL, "AFTER WAIT", "what happened behind event AFTER; waits for one"},
    {"DRAIN", master_drain, 3, NO_BODY, FROM_ALL, "REQUEST NODE 0|1", "have a node give up what it holds"},
    {"FORGET", master_forget, 2, NO_BODY, FROM_ALL, "REQUEST NODE", "do not miss a node any longer"},
    {"DIGEST", master_digest, 0, NO_BODY, FROM_ALL, "", "epoch, seq and SHA-256 of the namespace"},
    {"JOIN", master_join, 8, NO_BODY, FROM_NODE, "INSTANCE CLUSTER NAME ADDRESS ZONE VERSION BORN STARTED",
     "a node is here"},
    {"POSITION", master_position, 1, NO_BODY, FROM_NODE, "SESSION",
     "of the last record, and how long that may be relied on"},
    {"BYE", master_bye, 1, NO_BODY, FROM_NODE, "SESSION", "this node is being stopped"},
    {"PING", master_ping, 17, NO_BODY, FROM_NODE,
     "SESSION STATE FILES CHUNKS BYTES DAMAGED FREE TOTAL TRANSFERS ECHO FOLLOWS PROMISED EPOCH SEQ ROSTER-EPOCH "
     "ROSTER-SEQ ROSTER",
     "a node is still here"},
    {"REPORT", master_report, 2, LINES_BODY, FROM_NODE, "SESSION EPOCH", "what a node has on its disk"},
    {0}};

/* Runs a master that listens already, and whose settings are in `master`, until it is told to stop. With `init` it may
 * found a cluster. */
static int master_main(bool init) {
    uint8_t cluster[16];
    log_role = "master";
    snprintf(self_role, sizeof self_role, "master");
    lock_init(&master.lock, RANK_CLUSTER);
    cond_init(&master.changed);
    cond_init(&master.copy_wanted);
    tree_init(&master.tree);
    master.counted_on = -1;
    master.id = random_u64();
    snprintf(self_id, sizeof self_id, "%016" PRIx64, master.id);
    master.init = master.may_found = init;
    master.forcing = -1;
    master.wall_ms = master.steady_ms = clock_wall_ns() / 1000000 - clock_ms();
    if (master.allow_faults) log_line("nodes may be asked for faults on purpose: dfs --fault NODE KIND");
    if (init) {
        random_bytes(cluster, sizeof cluster);
        hex_write(master.cluster, cluster, sizeof cluster);
    }
    server.table = master_table;
    server.role = "master";
    server.gone = master_gone;
    if (!thread_start(master_reign, NULL) || !thread_start(master_planner, NULL))
        die(INTERNAL, "no threads; raise the limit on processes");
    server_run();
    return 0;
}

/* ======== 14. Answers ======== */
/* What the cluster says, in JSON: the same keys for the command line and over HTTP (docs/JSON.md). Pure but for
 * file_checked and usage_of, which ask. Entry points: json_*, usage_of. */

/* Seconds since 1970. */
static void json_time(struct json_writer *w, int64_t ns) {
    if (ns < 0) json_signed(w, ns / 1000000000);
    else json_fixed(w, (uint64_t)(ns / 1000000));
}

/* JSON keys for a path: the path as text, and its exact bytes escaped if it is not UTF-8. */
static void json_path(struct json_writer *w, const char *path) {
    json_key_string(w, "path", path);
    if (json_utf8_valid(path, strlen(path))) return;
    struct text t = {0};
    text_display(&t, path, strlen(path));
    json_key_string(w, "path_escaped", t.data);
    text_free(&t);
}

static void json_sha256(struct json_writer *w, const char *key, const uint8_t sha[32]) {
    char hex[65];
    hex_write(hex, sha, 32);
    hex[64] = 0;
    json_key_string(w, key, hex);
}

static void json_begin(struct json_writer *w) {
    json_start(w);
    w->json_pretty = true;
}

/* The keys of one file or directory of a list. */
static void json_row(struct json_writer *w, const char *path, const struct list_row *row) {
    json_object(w);
    json_key_string(w, "name", row->name);
    if (!json_utf8_valid(row->name, strlen(row->name))) {
        struct text t = {0};
        text_display(&t, row->name, strlen(row->name));
        json_key_string(w, "name_escaped", t.data);
        text_free(&t);
    }
    json_path(w, path);
    json_key_string(w, "kind", row->directory ? "directory" : "file");
    json_key(w, "mtime");
    json_time(w, row->mtime_ns);
    if (!row->directory) {
        json_key_unsigned(w, "size", row->size);
        json_key_unsigned(w, "copies", row->copies);
        json_sha256(w, "sha256", row->sha256);
    }
    json_object_end(w);
}

/* One thing in the trash; `writer` is a struct json_writer. */
static void json_trash_row(void *writer, const struct trash_row *row) {
    json_object(writer);
    json_path(writer, row->path);
    json_key_string(writer, "kind", row->directory ? "directory" : "file");
    json_key_unsigned(writer, "size", row->size);
    json_key_unsigned(writer, "expires", row->expiry_s);
    json_object_end(writer);
}

/* A link; `link` is where it is read. */
static void json_share(struct json_writer *w, const struct share_row *row, const char *link) {
    json_object(w);
    json_path(w, row->path);
    json_key_string(w, "token", row->token);
    json_key_string(w, "link", link);
    json_key(w, "expires");
    if (row->expiry_s != 0) json_unsigned(w, row->expiry_s);
    else json_null(w);
    json_object_end(w);
}

/* One row of EVENTS: NUMBER TIME TEXT. */
static bool event_parse(struct slice *row, uint64_t *number, int64_t *wall_ms) {
    struct slice word;
    return slice_part(row, ' ', &word) && parse_u64(word, UINT64_MAX, number) && slice_part(row, ' ', &word) &&
           parse_i64(word, wall_ms);
}

static void json_event(struct json_writer *w, struct slice row) {
    uint64_t number;
    int64_t wall_ms;
    if (!event_parse(&row, &number, &wall_ms)) return;
    json_object(w);
    json_key_unsigned(w, "number", number);
    json_key(w, "time");
    json_time(w, wall_ms * 1000000);
    json_key(w, "event");
    json_string_bytes(w, row.at, row.length);
    json_object_end(w);
}

/* What one directory, or one entry of it, amounts to. */
struct usage {
    char *path;
    uint64_t bytes, files;
    bool directory;
};

struct usages {
    struct usage *list;
    size_t count, capacity, skip; /* skip: length of the path that is asked about, with its slash */
};

static void usage_add(void *context, const char *path, const struct list_row *row) {
    struct usages *u = context;
    if (!strchr(path + u->skip, '/')) { /* the next entry of the directory itself */
        if (u->count == u->capacity) {
            u->capacity = u->capacity ? 2 * u->capacity : 16;
            u->list = mem_resize(u->list, u->capacity * sizeof *u->list);
        }
        u->list[u->count++] = (struct usage){.path = path_join("", path), .directory = row->directory};
    }
    u->list[u->count - 1].bytes += row->size;
    u->list[u->count - 1].files += !row->directory;
}

/* Calls `each` for what is in a directory, entry by entry, and then for all of it. */
static enum status usage_of(struct client *cl, const char *path, void (*each)(void *, const struct usage *),
                            void *context) {
    struct usages u = {.skip = strcmp(path, "/") == 0 ? 1 : strlen(path) + 1};
    struct usage all = {.path = path_join("", path), .directory = true};
    struct file_info *f = NULL;
    enum status status = client_stat(cl, path, &f);
    if (status == DONE && f->directory) status = client_walk(cl, path, NULL, usage_add, &u);
    else if (status == DONE) all = (struct usage){all.path, f->size, 1, false};
    for (size_t i = 0; i < u.count; i++) {
        if (status == DONE) each(context, &u.list[i]);
        all.bytes += u.list[i].bytes;
        all.files += u.list[i].files;
        free(u.list[i].path);
    }
    if (status == DONE) each(context, &all);
    if (f) file_info_free(f);
    free(u.list);
    free(all.path);
    return status;
}

/* One row of --du; `writer` is a struct json_writer. */
static void json_usage(void *writer, const struct usage *u) {
    json_object(writer);
    json_path(writer, u->path);
    json_key_unsigned(writer, "bytes", u->bytes);
    json_key_unsigned(writer, "files", u->files);
    json_object_end(writer);
}

/* When all copies of a file were read and found right, or written: of the chunk and node for which that is longest ago.
 * 0 if a node does not tell. */
static int64_t file_checked(const struct file_info *f) {
    struct text line = {0}, body = {0};
    int64_t oldest_ms = INT64_MAX, when_ms;
    text_add(&line, "CHECKED");
    for (uint32_t i = 0; i < f->chunk_count; i++) {
        text_hex(&body, f->chunk[i].hash, 32);
        text_byte(&body, '\n');
    }
    for (int n = 0; n < f->node_count; n++) {
        struct answer a = {0};
        struct slice rows = {body.data, body.length}, row;
        bool sent = false;
        uint32_t i = 0;
        if (ask_once(f->node[n].address, &line, &rows, true, MANY_TIMEOUT_MS, MANY_TIMEOUT_MS, &a, &sent) != DONE)
            oldest_ms = 0;
        struct slice rest = {a.body.data, a.body.length};
        for (; i < f->chunk_count && slice_line(&rest, &row) && parse_i64(row, &when_ms); i++)
            if (node_set_has(&f->chunk[i].holders, n) && when_ms < oldest_ms) oldest_ms = when_ms;
        answer_free(&a);
    }
    text_free(&line);
    text_free(&body);
    return oldest_ms == INT64_MAX ? 0 : oldest_ms;
}

/* What STAT says of a path. `name` gives a node's name; what it returns is used before it is called again. */
static void json_stat(struct json_writer *writer, const char *path, const struct file_info *f,
                      const char *(*name)(void *, uint64_t id), void *context) {
    json_object(writer);
    json_path(writer, path);
    json_key_string(writer, "kind", f->directory ? "directory" : "file");
    json_key_unsigned(writer, "id", f->id);
    json_key_unsigned(writer, "size", f->size);
    json_key(writer, "mtime");
    json_time(writer, f->mtime_ns);
    if (!f->directory) json_sha256(writer, "sha256", f->sha256);
    json_key_bool(writer, "possibly_old", f->old);
    if (!f->directory) {
        json_key(writer, "checked");
        json_time(writer, file_checked(f) * 1000000);
        json_key(writer, "expires");
        if (f->expiry_s != 0) json_unsigned(writer, f->expiry_s);
        else json_null(writer);
    }
    json_key(writer, "chunks");
    json_array(writer);
    for (uint32_t i = 0; i < f->chunk_count; i++) {
        json_object(writer);
        json_sha256(writer, "sha256", f->chunk[i].hash);
        json_key_unsigned(writer, "size", f->chunk[i].length);
        json_key(writer, "nodes");
        json_array(writer);
        for (int n = 0; n < f->node_count; n++)
            if (node_set_has(&f->chunk[i].holders, n)) json_string(writer, name(context, f->node[n].id));
        json_array_end(writer);
        json_object_end(writer);
    }
    json_array_end(writer);
    json_object_end(writer);
}

/* All rows of one word, as an array of texts. */
static void json_status_rows(struct json_writer *w, const struct answer *status, const char *word) {
    struct slice rest = {status->body.data, status->body.length}, row, name;
    json_key(w, word);
    json_array(w);
    while (slice_line(&rest, &row))
        if (slice_part(&row, ' ', &name) && slice_is(name, word)) json_string_bytes(w, row.at, row.length);
    json_array_end(w);
}

/* What STATUS and NODES say. */
static void json_status(struct json_writer *w, const struct answer *status, const struct answer *nodes) {
    static const char *const numbers[] = {"epoch", "seq", "files", "directories", "bytes", "chunks", "copies_missing",
                                          "bytes_missing", "unavailable_chunks", "roster", "sync_copies",
                                          "orders", "moves", "copied_bytes", "copy_rate"};
    static const char *const texts[] = {"state", "master", "cluster", "reads", "copies"};
    struct slice rest, row;
    uint64_t number;
    json_object(w);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct slice value = row_value(status, texts[i]);
        json_key(w, texts[i]);
        json_string_bytes(w, value.at, value.length);
    }
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (parse_u64(row_value(status, numbers[i]), UINT64_MAX, &number)) json_key_unsigned(w, numbers[i], number);
    json_status_rows(w, status, "why");
    json_status_rows(w, status, "forced");
    json_status_rows(w, status, "lost");
    json_key(w, "nodes");
    json_array(w);
    rest = (struct slice){nodes->body.data, nodes->body.length};
    struct node_row n;
    while (slice_line(&rest, &row)) {
        if (!node_row_parse(row, &n)) continue;
        const struct { const char *key; uint64_t number; } values[] = {
            {"files", n.files}, {"chunks", n.chunks}, {"bytes", n.bytes}, {"free", n.free_bytes},
            {"total", n.total_bytes}, {"damaged_chunks", n.damaged}, {"transfers", n.transfers},
            {"sent_bytes", n.sent}, {"received_bytes", n.received}, {"left_to_copy", n.left},
            {"first_start", n.born_s}, {"last_start", n.started_s}};
        json_object(w);
        json_key_string(w, "name", n.name);
        json_key_string(w, "id", n.id_text);
        json_key_string(w, "address", n.address);
        json_key_string(w, "state", n.state);
        json_key_string(w, "zone", n.zone);
        json_key_string(w, "version", n.version);
        json_key(w, "ping_ms");
        if (n.ping_ms >= 0) json_signed(w, n.ping_ms);
        else json_null(w);
        for (size_t i = 0; i < sizeof values / sizeof *values; i++)
            json_key_unsigned(w, values[i].key, values[i].number);
        json_object_end(w);
    }
    json_array_end(w);
    json_object_end(w);
}

/* ======== 15. HTTP ======== */
/* A gateway on the port of every server: a request line of HTTP gets this instead of the line protocol. What it is
 * asked for it asks for as any other client does; on a node it sends what is on its own disk from there, once that was
 * checked. RFC 9110 and 9112, read strictly: what they call an error is refused, and ends the connection. Docs:
 * docs/HTTP.md. Locks: verified.lock and feed.lock (RANK_TRANSFER). Entry points: http_begin. */

enum {
    HTTP_LINE_MAX_BYTES = 8192,
    HTTP_HEAD_MAX_BYTES = 24 * 1024,
    HTTP_HEADERS_MAX = 64,
    HTTP_HEAD_MS = 10000,       /* from a head's first byte to its last */
    HTTP_IDLE_MS = 30000,       /* between the requests of one connection */
    HTTP_STALL_MS = 10000,      /* something of a body moves at least once in this time, */
    HTTP_PATIENCE_MS = 15000,   /* and in every so long a time it moves this fast on average: */
    HTTP_LEAST_RATE = 4096,     /* bytes a second */
    HTTP_FORM_MAX_BYTES = 16 * 1024 * 1024, /* a body that is read into memory */
    HTTP_FORMS_MAX = 8,         /* of more than HTTP_DRAIN_BYTES, at once */
    HTTP_HELD_MAX_BYTES = 128 * 1024 * 1024, /* of all uploads, in memory */
    HTTP_DRAIN_BYTES = 65536,   /* so much of a body that nobody wants is read, to keep the connection */
    HTTP_SEND_BYTES = 1024 * 1024,
    HTTP_RETRY_MS = 5000,       /* how long a cluster that does not answer is asked again, */
    HOLDERS_AGAIN_MS = 200,     /* and who has a chunk that none of those has who had it, so often, */
    LINK_AGAIN_MS = 10,         /* and which file a link is of that is replaced just then */
    HTTP_TOKENS_MAX = 64,       /* of a body in JSON */
    HTTP_SESSION_DAYS = 30,
    HTTP_LIVE_MS = 700,         /* how often what is live is looked at */
    VERIFIED_MAX = 4096,
    VERIFIED_MS = 600000,       /* a chunk that was read and found right is sent unread so long */
};

enum { HTTP_GONE = -1 }; /* instead of a status code: there is nobody to answer */

struct http_header {
    struct slice name, value;
};

/* One request. It belongs to the thread of its connection. */
struct http {
    struct conn *c;
    struct text head;           /* its lines, each with a NUL behind it; what follows points into it */
    struct slice method, query;
    struct http_header header[HTTP_HEADERS_MAX];
    int header_count;
    char path[PATH_MAX_BYTES + 1]; /* of the target, decoded */
    bool old;                   /* HTTP/1.0 */
    bool keeps;                 /* another request may follow on this connection */
    const char *verb;           /* of the route */
    bool large_form;            /* it is counted in gateway.forms */
    bool stranger;              /* may not be told more than whether there is something for him */
    bool cut;                   /* it is reset, with what was not taken yet */
    bool head_only, answered;
    bool chunked, expects;      /* expects: the client waits for a word before it sends the body */
    bool body_over, body_bad;
    uint64_t left;              /* of the body, or of its chunk, not read yet */
    bool chunk_begun;
    int64_t pace_ms;            /* since when `moved` counts */
    int64_t read_ms;            /* when something of the body came last */
    uint64_t moved;
    struct text extra;          /* header lines of the answer */
    struct text form;           /* the body, when it was read into memory */
    size_t held;                /* of that, counted in gateway.held */
    struct json_token token[HTTP_TOKENS_MAX];
    bool form_json;
};

static struct {
    const char *names;          /* more names that this server goes by, separated by commas; NULL: none */
    bool open_metrics;          /* /metrics and /healthz need no key */
    struct client client;       /* for what can be asked again: it does not wait long for a master */
    struct client uploads;      /* for all bodies that are stored, so that the master hears of the oldest */
    atomic_int forms;
    atomic_size_t held;         /* bytes of HTTP_HELD_MAX_BYTES */
} gateway;

/* ---- The page ---- */

/* What a browser shows. It is all that this server sends it but for answers of the API, works without any other, and
 * puts names and texts of others into the page as text only. */
static const char page_html[] =
    "<!doctype html>\n"
    "<html lang='en'>\n"
    "<head>\n"
    "<meta charset='utf-8'>\n"
    "<meta name='viewport' content='width=device-width, initial-scale=1'>\n"
    "<meta name='color-scheme' content='light dark'>\n"
    "<title>dfs</title>\n"
    "<link rel='icon' href='data:,'>\n"
    "<link rel='stylesheet' href='/app.css'>\n"
    "</head>\n"
    "<body>\n"
    "<header>\n"
    "<b>dfs</b><span id='state' role='status'>asking</span><span id='sum'></span>\n"
    "<button id='leave' hidden>Forget the key</button>\n"
    "</header>\n"
    "<main>\n"
    "<section id='files' aria-label='Files'>\n"
    "<div class='bar'>\n"
    "<nav id='crumbs' aria-label='Path'></nav>\n"
    "<input id='search' type='search' placeholder='Search' aria-label='Search'>\n"
    "<button id='add'>Upload</button><button id='addfolder'>Upload folder</button><button id='mkdir'>New"
    " folder</button>\n"
    "<input id='pick' type='file' multiple hidden><input id='pickfolder' type='file' webkitdirectory hidden>\n"
    "</div>\n"
    "<div id='uploads' aria-live='polite'></div>\n"
    "<table>\n"
    "<thead><tr><th>Name</th><th class='r'>Size</th><th class='date'>Changed</th><th>Copies</th></tr></thead>\n"
    "<tbody id='list'></tbody>\n"
    "</table>\n"
    "<p id='empty' hidden>Nothing here. Drop files or folders anywhere on this page.</p>\n"
    "</section>\n"
    "<aside>\n"
    "<section id='detail' aria-label='Details' hidden></section>\n"
    "<section aria-label='Nodes'><h2>Nodes</h2><div id='nodes'></div></section>\n"
    "<section aria-label='Events'><h2>Events</h2><ol id='events'></ol></section>\n"
    "</aside>\n"
    "</main>\n"
    "<div id='toast' role='alert' hidden></div>\n"
    "<dialog id='ask'><form method='dialog'>\n"
    "<label id='asktext' for='askvalue'></label><input id='askvalue' autocomplete='off' spellcheck='false'>\n"
    "<p id='askwhy'></p>\n"
    "<menu><button id='askno' value='no' type='button'>Cancel</button><button value='yes'"
    " id='askyes'>OK</button></menu>\n"
    "</form></dialog>\n"
    "<noscript>This page needs its script. The same is told by GET /api/ and by the program dfs.</noscript>\n"
    "<script src='/app.js'></script>\n"
    "</body>\n"
    "</html>\n";

static const char page_style[] =
    ":root { --back: #f6f7f9; --card: #fff; --ink: #1c2430; --soft: #667085; --line: #e3e6eb; --blue: #2563eb;\n"
    "  --green: #16834a; --amber: #a15c00; --red: #c42b2b; }\n"
    "@media (prefers-color-scheme: dark) { :root { --back: #12161c; --card: #1a2029; --ink: #e6e9ee;"
    " --soft: #97a1b0;\n"
    "  --line: #2b3340; --blue: #7aa7ff; --green: #4ccb88; --amber: #f0b455; --red: #ff7b7b; } }\n"
    "* { box-sizing: border-box; }\n"
    "body { margin: 0; background: var(--back); color: var(--ink); font: 15px/1.45 system-ui, sans-serif; }\n"
    "header { display: flex; gap: 12px; align-items: center; padding: 12px 20px; background: var(--card);\n"
    "  border-bottom: 1px solid var(--line); position: sticky; top: 0; z-index: 1; }\n"
    "header b { font-size: 18px; letter-spacing: .02em; }\n"
    "header #leave { margin-left: auto; }\n"
    "#state { padding: 2px 10px; border-radius: 99px; border: 1px solid currentColor; font-size: 13px;"
    " color: var(--amber); }\n"
    "#state.healthy { color: var(--green); } #state.no, #state.read-only { color: var(--red); }\n"
    "#sum { color: var(--soft); }\n"
    "main { display: grid; grid-template-columns: minmax(0, 1fr) 330px; gap: 20px; padding: 20px;"
    " max-width: 1300px;\n"
    "  margin: auto; align-items: start; }\n"
    "section, .card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 14px; }\n"
    "aside { display: grid; gap: 14px; } aside > section { min-width: 0; }\n"
    "h2 { font-size: 13px; margin: 0 0 8px; color: var(--soft); font-weight: 600; }\n"
    ".bar { display: flex; flex-wrap: wrap; gap: 8px; margin-bottom: 10px; align-items: center; }\n"
    "#crumbs { flex: 1 1 100%; overflow-wrap: anywhere; } #search { flex: 1 1 140px; min-width: 0; }\n"
    "button, input { font: inherit; color: inherit; background: var(--card); border: 1px solid var(--line);\n"
    "  border-radius: 7px; padding: 6px 11px; }\n"
    "button { cursor: pointer; } button:hover { border-color: var(--soft); }\n"
    ":focus-visible { outline: 2px solid var(--blue); outline-offset: 1px; }\n"
    "#add, #askyes { background: var(--blue); border-color: var(--blue); color: #fff; }\n"
    "@media (prefers-color-scheme: dark) { #add, #askyes { color: #0b1220; } }\n"
    ".link { border: 0; background: none; padding: 0; color: var(--blue); text-align: left;"
    " overflow-wrap: anywhere; }\n"
    "table { width: 100%; border-collapse: collapse; table-layout: fixed; }\n"
    "th { text-align: left; font-size: 13px; font-weight: 600; color: var(--soft); padding: 4px 6px; }\n"
    "td { border-top: 1px solid var(--line); padding: 7px 6px; overflow-wrap: anywhere; vertical-align: top; }\n"
    "th:nth-child(2) { width: 92px; } th:nth-child(3) { width: 190px; } th:nth-child(4) { width: 84px; }\n"
    ".r { text-align: right; } td.r, .date { font-variant-numeric: tabular-nums; white-space: nowrap; }\n"
    "tr.on td { background: color-mix(in srgb, var(--blue) 9%, transparent); }\n"
    "#empty { color: var(--soft); text-align: center; padding: 30px 0; }\n"
    ".dot { display: inline-block; width: 9px; height: 9px; margin: 1px; border-radius: 50%; background:"
    " var(--line); }\n"
    ".dot.has { background: var(--green); } .dot.some { background: var(--amber); }\n"
    ".node { border-top: 1px solid var(--line); padding: 8px 0; } .node:first-child { border: 0; padding-top: 0; }\n"
    ".node p { margin: 0; color: var(--soft); font-size: 13px; } .node strong { font-weight: 600; }\n"
    ".node i { font-style: normal; font-size: 13px; float: right; color: var(--amber); }\n"
    ".node.up i { color: var(--green); } .node.down i, .node.failed i { color: var(--red); }\n"
    "#events { list-style: none; margin: 0; padding: 0; max-height: 300px; overflow: auto; font-size: 13px; }\n"
    "#events li { padding: 3px 0; overflow-wrap: anywhere; } #events time { color: var(--soft);"
    " margin-right: 6px; }\n"
    "#events .good { color: var(--green); } #events .bad { color: var(--red); }\n"
    "#detail dl { margin: 0; font-size: 13px; } #detail dt { color: var(--soft); } #detail dd { margin: 0 0 6px;\n"
    "  overflow-wrap: anywhere; } #detail h2 { color: var(--ink); font-size: 15px; overflow-wrap: anywhere; }\n"
    ".share { display: flex; flex-wrap: wrap; gap: 6px; align-items: center; margin: 0 0 8px; }\n"
    ".share input { flex: 1 1 140px; min-width: 0; font-size: 13px; } .share small { color: var(--soft); }\n"
    ".acts { display: flex; flex-wrap: wrap; gap: 6px; margin: 8px 0; }\n"
    ".acts a { text-decoration: none; color: inherit; border: 1px solid var(--line); border-radius: 7px;"
    " padding: 6px 11px; }\n"
    ".job { margin-bottom: 6px; font-size: 13px; } .job progress { width: 100%; display: block; }"
    " .job.bad { color: var(--red); }\n"
    "#toast { position: fixed; bottom: 18px; left: 50%; transform: translateX(-50%); background: var(--ink);\n"
    "  color: var(--back); border-radius: 9px; padding: 10px 16px; display: flex; gap: 12px; align-items: center;\n"
    "  max-width: 92vw; z-index: 2; } #toast[hidden] { display: none; }\n"
    "#toast button { background: none; border: 0; color: inherit; text-decoration: underline; padding: 0; }\n"
    "dialog { border: 1px solid var(--line); border-radius: 12px; background: var(--card); color:"
    " inherit; width: 420px;\n"
    "  max-width: 92vw; } dialog::backdrop { background: rgb(0 0 0 / .4); }\n"
    "dialog input { width: 100%; margin-top: 8px; } #askwhy { color: var(--red); margin: 6px 0 0; }\n"
    "menu { display: flex; gap: 8px; justify-content: flex-end; padding: 0; margin: 12px 0 0; }\n"
    "body.drop::after { content: 'Drop to upload'; position: fixed; inset: 10px; border: 3px dashed var(--blue);\n"
    "  border-radius: 14px; display: grid; place-items: center; font-size: 22px; pointer-events: none; z-index: 3;\n"
    "  background: color-mix(in srgb, var(--back) 75%, transparent); }\n"
    "@media (max-width: 820px) { main { grid-template-columns: minmax(0, 1fr); padding: 10px; } .date {"
    " display: none; }\n"
    "  th:nth-child(4) { width: 70px; } header { padding: 10px; } }\n";

static const char page_script[] =
    "'use strict';\n"
    "const $ = id => document.getElementById(id);\n"
    "let here = '/', rows = [], chosen = null, status = {nodes: []}, seq = '', found = null, stream ="
    " null, told = 0;\n"
    "\n"
    "function make(tag, words, ...inside) { // an element; text is only ever text\n"
    "  const e = document.createElement(tag);\n"
    "  for (const [k, v] of Object.entries(words || {}))\n"
    "    if (k === 'on') e.addEventListener('click', v); else if (k === 'text') e.textContent = v; else"
    " e.setAttribute(k, v);\n"
    "  e.append(...inside);\n"
    "  return e;\n"
    "}\n"
    "function size(n) {\n"
    "  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];\n"
    "  let i = 0;\n"
    "  while (n >= 1024 && i < 4) n /= 1024, i++;\n"
    "  return (i ? n.toFixed(1) : n) + ' ' + units[i];\n"
    "}\n"
    "const date = s => new Date(s * 1000).toLocaleString([], {dateStyle: 'medium', timeStyle: 'short'});\n"
    "const join = (folder, name) => (folder === '/' ? '' : folder) + '/' + name;\n"
    "const encode = path => path.toWellFormed().split('/').map(encodeURIComponent).join('/');\n"
    "const wait = ms => new Promise(done => setTimeout(done, ms));\n"
    "\n"
    "async function call(method, url, words) {\n"
    "  const answer = await fetch(url, {method, headers: Object.assign({'X-Dfs': '1'},\n"
    "    words ? {'Content-Type': 'application/json'} : {}), body: words ? JSON.stringify(words) : undefined});\n"
    "  const said = await answer.json().catch(() => null);\n"
    "  if (answer.ok) return said;\n"
    "  const error = new Error(said && said.error ? said.error.text : 'status ' + answer.status);\n"
    "  error.code = answer.status;\n"
    "  throw error;\n"
    "}\n"
    "\n"
    "let toastTimer;\n"
    "function toast(text, label, act) {\n"
    "  $('toast').replaceChildren(make('span', {text}));\n"
    "  if (label) $('toast').append(make('button', {text: label, on: () => { $('toast').hidden = true; act(); }}));\n"
    "  $('toast').hidden = false;\n"
    "  clearTimeout(toastTimer);\n"
    "  toastTimer = setTimeout(() => { $('toast').hidden = true; }, 9000);\n"
    "}\n"
    "const complain = error => error.code === 401 ? login('') : toast(error.message);\n"
    "\n"
    "function ask(text, value, secret, why) { // resolves to what was typed, or null\n"
    "  const d = $('ask');\n"
    "  $('asktext').textContent = text;\n"
    "  $('askvalue').value = value;\n"
    "  $('askvalue').type = secret ? 'password' : 'text';\n"
    "  $('askwhy').textContent = why || '';\n"
    "  d.showModal();\n"
    "  $('askvalue').select();\n"
    "  return new Promise(done => {\n"
    "    $('askno').onclick = () => d.close('no');\n"
    "    d.onclose = () => done(d.returnValue === 'yes' ? $('askvalue').value : null);\n"
    "    d.returnValue = 'no';\n"
    "  });\n"
    "}\n"
    "function remember(what) { // a browser may refuse to keep anything; then the button that forgets is not shown\n"
    "  try {\n"
    "    if (what) localStorage.setItem('dfs', what); else localStorage.removeItem('dfs');\n"
    "  } catch { return; }\n"
    "}\n"
    "function remembered() { try { return localStorage.getItem('dfs'); } catch { return null; } }\n"
    "let asking = false;\n"
    "async function login(why) {\n"
    "  if (asking) return;\n"
    "  asking = true;\n"
    "  if ($('ask').open) {\n"
    "    const closed = new Promise(done => $('ask').addEventListener('close', done, {once: true}));\n"
    "    $('ask').close('no');\n"
    "    await closed;\n"
    "  }\n"
    "  const key = await ask('The key of this cluster', '', true, why).finally(() => { asking = false; });\n"
    "  if (key === null) return toast('Without the key nothing is shown.', 'Give it', () => login(''));\n"
    "  try {\n"
    "    await call('POST', '/login', {key});\n"
    "    remember('knows the key');\n"
    "    start();\n"
    "  } catch (error) { login(error.message); }\n"
    "}\n"
    "\n"
    "function dots(has, of) {\n"
    "  const box = make('span', {title: has + ' of ' + of + ' nodes', role: 'img', 'aria-label': has + ' copies'});\n"
    "  for (let i = 0; i < Math.max(has, Math.min(of, 12)); i++) box.append(make('span', {class: i < has"
    " ? 'dot has' : 'dot'}));\n"
    "  return box;\n"
    "}\n"
    "\n"
    "function drawList() {\n"
    "  const shown = found || rows, list = [];\n"
    "  const of = status.nodes.filter(n => n.state !== 'down').length;\n"
    "  const order = (a, b) => (a.kind === b.kind ? a.path.localeCompare(b.path) : a.kind ==="
    " 'directory' ? -1 : 1);\n"
    "  for (const row of [...shown].sort(order)) {\n"
    "    const folder = row.kind === 'directory';\n"
    "    const act = () => {\n"
    "      if (row.path_escaped) toast('A browser has no way to say this name, which is no UTF-8; the program dfs"
    " has.');\n"
    "      else if (folder) go(row.path);\n"
    "      else choose(row.path);\n"
    "    };\n"
    "    const name = (found ? row.path : row.name) + (folder ? '/' : '');\n"
    "    const tr = make('tr', row.path === chosen ? {class: 'on'} : {}, make('td', {}, make('button',"
    " {class: 'link',\n"
    "      text: name, on: act})), make('td', {class: 'r', text: folder ? '' : size(row.size)}),\n"
    "      make('td', {class: 'date', text: date(row.mtime)}), make('td', {}, folder ? make('button',"
    " {class: 'link',\n"
    "        text: 'details', 'aria-label': 'details of ' + name, on: row.path_escaped ? act : () =>"
    " choose(row.path)}) :"
    " dots(row.copies, of)));\n"
    "    list.push(tr);\n"
    "  }\n"
    "  $('list').replaceChildren(...list);\n"
    "  $('empty').hidden = list.length > 0;\n"
    "  const parts = here.split('/').filter(Boolean), crumbs = [make('button', {class: 'link', text: 'All files',\n"
    "    on: () => go('/')})];\n"
    "  parts.forEach((part, i) => crumbs.push(' / ', make('button', {class: 'link', text: part,\n"
    "    on: () => go('/' + parts.slice(0, i + 1).join('/'))})));\n"
    "  $('crumbs').replaceChildren(...crumbs);\n"
    "}\n"
    "\n"
    "async function load() {\n"
    "  try {\n"
    "    const path = here, answer = await call('GET', '/api/list?path=' + encodeURIComponent(path));\n"
    "    if (path === here) rows = answer;\n"
    "    if (found) $('search').oninput();\n"
    "    drawList();\n"
    "    if (chosen) await drawDetail();\n"
    "  } catch (error) {\n"
    "    if (error.code === 404 && here !== '/') go('/'); else complain(error);\n"
    "  }\n"
    "}\n"
    "function go(path) {\n"
    "  if (location.hash === '#' + encode(path) || path === here) arrived(); else location.hash = encode(path);\n"
    "}\n"
    "function arrived() {\n"
    "  let path = '/';\n"
    "  try { path = decodeURIComponent(location.hash.slice(1)) || '/'; } catch { path = '/'; }\n"
    "  if (path[0] !== '/') path = '/';\n"
    "  if (path !== here) chosen = null;\n"
    "  here = path;\n"
    "  found = null;\n"
    "  $('search').value = '';\n"
    "  drawDetail();\n"
    "  load();\n"
    "}\n"
    "function choose(path) {\n"
    "  chosen = chosen === path ? null : path;\n"
    "  drawList();\n"
    "  drawDetail();\n"
    "}\n"
    "\n"
    "async function drawDetail() {\n"
    "  const path = chosen, box = $('detail');\n"
    "  if (!path) { box.hidden = true; return; }\n"
    "  let s, shared;\n"
    "  try {\n"
    "    shared = call('GET', '/api/shares').catch(() => []);\n"
    "    s = await call('GET', '/api/stat?path=' + encodeURIComponent(path));\n"
    "    shared = await shared;\n"
    "  } catch (error) {\n"
    "    if (path === chosen) { chosen = null; box.hidden = true; }\n"
    "    return;\n"
    "  }\n"
    "  if (path !== chosen) return;\n"
    "  const name = path.split('/').pop(), file = s.kind === 'file', map = make('div', {});\n"
    "  const holders = [...new Set(s.chunks.flatMap(c => c.nodes))].sort();\n"
    "  for (const n of holders) {\n"
    "    const line = make('div', {}, make('span', {text: n + ' '}));\n"
    "    const cells = Math.min(s.chunks.length, 64);\n"
    "    for (let i = 0; i < cells; i++) {\n"
    "      const part = s.chunks.slice(Math.floor(i * s.chunks.length / cells), Math.floor((i + 1) *"
    " s.chunks.length / cells));\n"
    "      const has = part.filter(c => c.nodes.includes(n)).length;\n"
    "      line.append(make('span', {class: 'dot' + (has === part.length ? ' has' : has ? ' some' : '')}));\n"
    "    }\n"
    "    map.append(line);\n"
    "  }\n"
    "  const terms = [['Path', path], ['Changed', date(s.mtime)], ['Id', String(s.id)]];\n"
    "  if (file) terms.push(['Size', size(s.size) + ' (' + s.size + ' bytes)'], ['SHA-256', s.sha256],\n"
    "    ['Checked', s.checked ? date(s.checked) : 'not known'], ['Replicas', holders.join(', ') || 'on"
    " no live node']);\n"
    "  if (s.expires) terms.push(['Expires', date(s.expires)]);\n"
    "  if (s.possibly_old) terms.push(['Note', 'possibly old: no master answered for sure']);\n"
    "  const list = make('dl', {});\n"
    "  for (const [k, v] of terms) list.append(make('dt', {text: k}), make('dd', {text: v}));\n"
    "  const acts = make('div', {class: 'acts'});\n"
    "  if (file) acts.append(make('a', {href: '/files' + encode(path), download: name, text: 'Download'}));\n"
    "  if (file) acts.append(make('button', {text: 'Share', on: () => share(path)}));\n"
    "  acts.append(make('button', {text: 'Rename', on: () => rename(path)}), make('button', {text: 'Delete',\n"
    "    on: () => remove(path)}), make('button', {text: 'Close', on: () => choose(path)}));\n"
    "  const links = file ? linksOf(path, shared, s.expires) : [];\n"
    "  box.replaceChildren(make('h2', {text: name}), acts, ...links, list);\n"
    "  if (file && holders.length) box.append(make('h2', {text: 'Chunks by node'}), map);\n"
    "  box.hidden = false;\n"
    "}\n"
    "\n"
    "// ---- Links that need no key\n"
    "function linksOf(path, shared, expires) {\n"
    "  return shared.filter(l => l.path === path).map(l => {\n"
    "    const url = make('input', {readonly: '', value: location.origin + l.link, 'aria-label': 'link'});\n"
    "    const end = Math.min(l.expires || Infinity, expires || Infinity);\n"
    "    return make('p', {class: 'share'}, url, make('button', {text: 'Copy', on: () => copy(url)}),\n"
    "      make('button', {text: 'End', on: () => unshare(path, l.token)}),\n"
    "      make('small', {text: end < Infinity ? 'until ' + date(end) : 'no end'}));\n"
    "  });\n"
    "}\n"
    "async function share(path) {\n"
    "  const expire = await ask('For how long? 2h, 7d; nothing for ever', '', false);\n"
    "  if (expire === null) return;\n"
    "  try { await call('POST', '/api/share', {path, expire}); } catch (e) { complain(e); }\n"
    "  drawDetail();\n"
    "}\n"
    "async function unshare(path, token) {\n"
    "  try { await call('POST', '/api/unshare', {path, token}); } catch (e) { complain(e); }\n"
    "  drawDetail();\n"
    "}\n"
    "function copy(url) {\n"
    "  url.select();\n"
    "  const plain = () => document.execCommand('copy'); // where there is no clipboard: not by https,"
    " not this machine\n"
    "  (navigator.clipboard ? navigator.clipboard.writeText(url.value).catch(plain) : Promise.resolve(plain()))\n"
    "    .then(() => toast('Copied'));\n"
    "}\n"
    "\n"
    "async function rename(path, text) {\n"
    "  const to = await ask(text || 'New path', path, false);\n"
    "  if (!to || to === path) return;\n"
    "  if (rows.some(r => r.path === to && r.kind === 'file') && !confirmed(to)) return rename(path,"
    " 'There is a file already; the same path again replaces it');\n"
    "  chosen = null; // it is looked up no more\n"
    "  try { await call('POST', '/api/move', {from: path, to}); } catch (e) { complain(e); }\n"
    "  drawDetail();\n"
    "  load();\n"
    "}\n"
    "let replaces = '';\n"
    "function confirmed(path) { // the same path for the second time\n"
    "  const again = replaces === path;\n"
    "  replaces = again ? '' : path;\n"
    "  return again;\n"
    "}\n"
    "async function remove(path) {\n"
    "  chosen = null;\n"
    "  try {\n"
    "    await call('POST', '/api/remove', {path, recursive: '1'});\n"
    "    drawDetail();\n"
    "    load();\n"
    "    toast('Deleted ' + path, 'Undo', async () => {\n"
    "      try { await call('POST', '/api/undelete', {path}); load(); } catch (e) { complain(e); }\n"
    "    });\n"
    "  } catch (e) { complain(e); }\n"
    "}\n"
    "\n"
    "// ---- Uploads: a few at a time\n"
    "const queue = [];\n"
    "let running = 0;\n"
    "function put(path, file, replace) {\n"
    "  const name = path, bar = make('progress', {max: '100', value: '0', 'aria-label': 'upload of ' + name});\n"
    "  const text = make('span', {text: name}), box = make('div', {class: 'job'}, text, bar);\n"
    "  $('uploads').append(box);\n"
    "  queue.push({path, file, replace, bar, text, box});\n"
    "  next();\n"
    "}\n"
    "function next() {\n"
    "  if (running >= 3 || queue.length === 0) return;\n"
    "  const job = queue.shift(), x = new XMLHttpRequest(), begun = Date.now();\n"
    "  running++;\n"
    "  x.upload.onprogress = e => {\n"
    "    job.bar.value = e.total ? 100 * e.loaded / e.total : 0;\n"
    "    job.text.textContent = job.path + '  ' + size(e.loaded) + ' of ' + size(e.total) + ', ' +\n"
    "      size(Math.round(e.loaded * 1000 / Math.max(1, Date.now() - begun))) + '/s';\n"
    "  };\n"
    "  x.onloadend = () => {\n"
    "    running--;\n"
    "    if (x.status === 200 || x.status === 201) job.box.remove();\n"
    "    else if (x.status === 412) {\n"
    "      job.bar.remove();\n"
    "      job.text.textContent = job.path + ' is there already ';\n"
    "      job.box.append(make('button', {text: 'Replace', on: () => { job.box.remove(); put(job.path,"
    " job.file, true); }}),\n"
    "        make('button', {text: 'Leave it', on: () => job.box.remove()}));\n"
    "    } else {\n"
    "      let why = x.status ? 'status ' + x.status : 'the connection broke';\n"
    "      try { why = JSON.parse(x.responseText).error.text; } catch { why += ''; }\n"
    "      job.box.className = 'job bad';\n"
    "      job.text.textContent = job.path + ': ' + why;\n"
    "      job.bar.remove();\n"
    "      job.box.append(make('button', {text: 'Again', on: () => { job.box.remove(); put(job.path,"
    " job.file, job.replace); }}),\n"
    "        make('button', {text: 'Close', on: () => job.box.remove()}));\n"
    "    }\n"
    "    load();\n"
    "    next();\n"
    "  };\n"
    "  x.open('PUT', '/files' + encode(job.path));\n"
    "  x.setRequestHeader('X-Dfs', '1');\n"
    "  if (!job.replace) x.setRequestHeader('If-None-Match', '*');\n"
    "  x.send(job.file);\n"
    "  next();\n"
    "}\n"
    "async function entry(e, folder) { // what was dropped: a file, or a folder with all in it\n"
    "  const path = join(folder, e.name);\n"
    "  if (e.isFile) return put(path, await new Promise((good, bad) => e.file(good, bad)));\n"
    "  await call('POST', '/api/mkdir', {path}).catch(error => { if (error.code !== 409) throw error; });\n"
    "  const reader = e.createReader();\n"
    "  for (;;) {\n"
    "    const some = await new Promise((good, bad) => reader.readEntries(good, bad));\n"
    "    if (some.length === 0) return;\n"
    "    for (const one of some) await entry(one, path);\n"
    "  }\n"
    "}\n"
    "$('add').onclick = () => $('pick').click();\n"
    "$('addfolder').onclick = () => $('pickfolder').click();\n"
    "$('pick').onchange = () => { for (const f of $('pick').files) put(join(here, f.name), f);"
    " $('pick').value = ''; };\n"
    "$('pickfolder').onchange = () => {\n"
    "  for (const f of $('pickfolder').files) put(join(here, f.webkitRelativePath), f);\n"
    "  $('pickfolder').value = '';\n"
    "};\n"
    "addEventListener('dragover', e => { e.preventDefault(); document.body.classList.add('drop'); });\n"
    "addEventListener('dragleave', e => { if (!e.relatedTarget) document.body.classList.remove('drop'); });\n"
    "addEventListener('drop', async e => {\n"
    "  e.preventDefault();\n"
    "  document.body.classList.remove('drop');\n"
    "  const items = [...e.dataTransfer.items].map(i => i.webkitGetAsEntry &&"
    " i.webkitGetAsEntry()).filter(Boolean);\n"
    "  const files = [...e.dataTransfer.files];\n"
    "  try {\n"
    "    if (items.length) for (const i of items) await entry(i, here);\n"
    "    else for (const f of files) put(join(here, f.name), f);\n"
    "  } catch (error) { complain(error); }\n"
    "});\n"
    "$('mkdir').onclick = async () => {\n"
    "  const name = await ask('Name of the new folder', '', false);\n"
    "  if (!name) return;\n"
    "  try { await call('POST', '/api/mkdir', {path: join(here, name)}); load(); } catch (e) { complain(e); }\n"
    "};\n"
    "let searching;\n"
    "$('search').oninput = () => {\n"
    "  clearTimeout(searching);\n"
    "  searching = setTimeout(async () => {\n"
    "    const text = $('search').value;\n"
    "    if (!text) { found = null; return drawList(); }\n"
    "    const glob = '*' + text.replace(/[\\\\*?[\\]]/g, '\\\\$&') + '*';\n"
    "    try {\n"
    "      const answer = await call('GET', '/api/list?path=' + encodeURIComponent(here) + '&glob=' +"
    " encodeURIComponent(glob));\n"
    "      if (text === $('search').value) { found = answer; drawList(); }\n"
    "    } catch (e) { complain(e); }\n"
    "  }, 250);\n"
    "};\n"
    "\n"
    "// ---- What is live\n"
    "function drawStatus() {\n"
    "  $('state').textContent = status.state;\n"
    "  $('state').className = status.state;\n"
    "  const text = [];\n"
    "  if (status.files !== undefined) text.push(status.files + ' files', size(status.bytes));\n"
    "  if (status.copies_missing) text.push(status.copies_missing + ' copies to make');\n"
    "  if (status.unavailable_chunks) text.push(status.unavailable_chunks + ' chunks unavailable');\n"
    "  if (status.state === 'no master') text.push(status.why);\n"
    "  $('sum').textContent = text.join('  ·  ');\n"
    "  const nodes = [...status.nodes].sort((a, b) => a.name.localeCompare(b.name, [], {numeric: true}));\n"
    "  $('nodes').replaceChildren(...nodes.map(n => make('div', {class: 'node ' + n.state}, make('i',"
    " {text: n.state}),\n"
    "    make('strong', {text: n.name}), make('p', {text: n.files + ' files, ' + size(n.bytes) + '"
    " stored, ' + size(n.free) +\n"
    "      ' free' + (n.damaged_chunks ? ', ' + n.damaged_chunks + ' damaged chunks' : '')}),\n"
    "    make('p', {text: n.first_start ? 'first start ' + date(n.first_start) + ', last start ' +"
    " date(n.last_start) : ''}),\n"
    "    make('p', {text: (n.ping_ms === null ? 'never pinged' : 'last ping ' + (n.ping_ms /"
    " 1000).toFixed(1) + ' s ago') +\n"
    "      ', ' + n.address + (n.zone ? ', zone ' + n.zone : '')}))));\n"
    "}\n"
    "function watch() {\n"
    "  if (stream) stream.close();\n"
    "  stream = new EventSource('/api/live');\n"
    "  stream.addEventListener('status', e => {\n"
    "    const before = JSON.stringify([status.state, status.seq, status.copies_missing, status.copied_bytes]);\n"
    "    const nodes = status.nodes;\n"
    "    status = JSON.parse(e.data);\n"
    "    if (!status.nodes) status.nodes = nodes;\n"
    "    drawStatus();\n"
    "    if (before !== JSON.stringify([status.state, status.seq, status.copies_missing,"
    " status.copied_bytes])) load();\n"
    "  });\n"
    "  stream.addEventListener('event', e => {\n"
    "    const said = JSON.parse(e.data), text = said.event;\n"
    "    if (said.number + said.time === told) return;\n"
    "    told = said.number + said.time;\n"
    "    const kind = /whole again/.test(text) ? 'good' : / down|is lost|failed/.test(text) ? 'bad' : '';\n"
    "    $('events').prepend(make('li', {class: kind}, make('time', {text: new Date(said.time *"
    " 1000).toLocaleTimeString()}), text));\n"
    "    while ($('events').children.length > 200) $('events').lastChild.remove();\n"
    "  });\n"
    "  stream.onopen = () => { told = 0; $('events').replaceChildren(); };\n"
    "  stream.onerror = () => {\n"
    "    status = Object.assign({}, status, {state: 'no server'});\n"
    "    drawStatus();\n"
    "    const gone = stream;\n"
    "    if (stream.readyState === 2) wait(1500).then(async () => {\n"
    "      const error = await call('GET', '/api/status').then(() => null, e => e);\n"
    "      if (stream !== gone) return;\n"
    "      if (error && error.code === 401) login(''); else watch();\n"
    "    });\n"
    "  };\n"
    "}\n"
    "async function start() {\n"
    "  $('leave').hidden = !remembered();\n"
    "  try {\n"
    "    status = await call('GET', '/api/status');\n"
    "    drawStatus();\n"
    "  } catch (error) {\n"
    "    if (error.code === 401) return login('');\n"
    "    status = {state: 'no master', why: error.message, nodes: []};\n"
    "    drawStatus();\n"
    "  }\n"
    "  arrived();\n"
    "  watch();\n"
    "}\n"
    "$('leave').onclick = async () => {\n"
    "  await call('POST', '/logout').catch(() => null);\n"
    "  remember('');\n"
    "  location.reload();\n"
    "};\n"
    "addEventListener('hashchange', arrived);\n"
    "start();\n";

/* ---- Sending ---- */

static const char *http_reason(int code) {
    static const struct { int code; const char *reason; } list[] = {
        {100, "Continue"}, {200, "OK"}, {201, "Created"}, {204, "No Content"}, {206, "Partial Content"},
        {304, "Not Modified"}, {400, "Bad Request"}, {401, "Unauthorized"}, {403, "Forbidden"}, {404, "Not Found"},
        {405, "Method Not Allowed"}, {408, "Request Timeout"}, {409, "Conflict"}, {411, "Length Required"},
        {412, "Precondition Failed"}, {413, "Content Too Large"}, {414, "URI Too Long"},
        {415, "Unsupported Media Type"}, {416, "Range Not Satisfiable"}, {417, "Expectation Failed"},
        {421, "Misdirected Request"}, {431, "Request Header Fields Too Large"}, {500, "Internal Server Error"},
        {501, "Not Implemented"}, {502, "Bad Gateway"}, {503, "Service Unavailable"}, {504, "Gateway Timeout"},
        {505, "HTTP Version Not Supported"}, {507, "Insufficient Storage"}};
    for (size_t i = 0; i < sizeof list / sizeof *list; i++)
        if (list[i].code == code) return list[i].reason;
    return "Other";
}

/* Whether the other side is quick enough: `bytes` more have moved. Each stretch of HTTP_PATIENCE_MS counts alone. */
static enum status http_pace(struct http *h, size_t bytes) {
    int64_t elapsed_ms = clock_ms() - h->pace_ms;
    h->moved += bytes;
    if (elapsed_ms < HTTP_PATIENCE_MS) return DONE;
    bool good = h->moved * 1000 / (uint64_t)elapsed_ms >= HTTP_LEAST_RATE;
    h->pace_ms += elapsed_ms;
    h->moved = 0;
    if (good) return DONE;
    h->cut = true;
    return fail(NO_SERVER, "%s is too slow", h->c->peer);
}

static void http_pace_begin(struct http *h) {
    h->pace_ms = clock_ms();
    h->read_ms = 0;
    h->moved = 0;
    conn_limit(h->c, SO_SNDTIMEO, HTTP_STALL_MS);
}

/* Sends what is in the connection's buffer, and then these bytes. */
static enum status http_send(struct http *h, const void *bytes, size_t length, int flags) {
    struct conn *c = h->c;
    struct iovec piece[2] = {{c->out.data, c->out.length}, {(void *)(uintptr_t)bytes, length}};
    struct msghdr message = {.msg_iov = piece, .msg_iovlen = 2};
    while (piece[0].iov_len + piece[1].iov_len > 0) {
        ssize_t sent = sendmsg(c->fd, &message, MSG_NOSIGNAL | flags);
        if (sent < 0 && errno == EINTR) continue;
        if (sent < 0) {
            h->cut = true;
            return fail(NO_SERVER, "sending to %s: %s", c->peer, strerror(errno));
        }
        if (http_pace(h, (size_t)sent) != DONE) return NO_SERVER;
        for (int i = 0; i < 2; i++) {
            size_t part = (size_t)sent < piece[i].iov_len ? (size_t)sent : piece[i].iov_len;
            if (part == 0) continue;
            piece[i].iov_base = (char *)piece[i].iov_base + part;
            piece[i].iov_len -= part;
            sent -= (ssize_t)part;
        }
    }
    text_recycle(&c->out, 64 * KIB);
    return DONE;
}

/* The date as HTTP writes it, in English whatever the locale is. */
static void text_http_date(struct text *t, int64_t ns) {
    static const char *const days[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static const char *const months[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                         "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    time_t seconds = (time_t)(ns / 1000000000);
    struct tm tm;
    if (seconds < 0 || !gmtime_r(&seconds, &tm)) seconds = 0, gmtime_r(&seconds, &tm);
    text_format(t, "%s, %02d %s %04d %02d:%02d:%02d GMT", days[tm.tm_wday], tm.tm_mday, months[tm.tm_mon],
                tm.tm_year + 1900, tm.tm_hour, tm.tm_min, tm.tm_sec);
}

/* Puts the head of an answer into the connection's buffer. `length` UINT64_MAX: the body ends with the connection. */
static void http_answer_head(struct http *h, int code, const char *type, uint64_t length) {
    struct text *t = &h->c->out;
    h->answered = true;
    if (length == UINT64_MAX) h->keeps = false;
    if (!h->body_over && h->expects) h->keeps = false; /* it may send the body all the same, or not */
    text_format(t, "HTTP/1.1 %d %s\r\nDate: ", code, http_reason(code));
    text_http_date(t, clock_wall_ns());
    text_add(t, "\r\nX-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\n"
                "Cross-Origin-Resource-Policy: same-origin\r\n");
    if (type) text_format(t, "Content-Type: %s\r\n", type);
    if (length != UINT64_MAX && code != 204 && code != 304) text_format(t, "Content-Length: %" PRIu64 "\r\n", length);
    text_bytes(t, h->extra.data ? h->extra.data : "", h->extra.length);
    text_format(t, "Connection: %s\r\n\r\n", h->keeps ? "keep-alive" : "close");
    http_pace_begin(h);
}

__attribute__((format(printf, 2, 3))) static void http_add(struct http *h, const char *format, ...) {
    char line[2 * PATH_MAX_BYTES];
    va_list list;
    va_start(list, format);
    vsnprintf(line, sizeof line, format, list);
    va_end(list);
    text_format(&h->extra, "%s\r\n", line);
}

static void http_answer(struct http *h, int code, const char *type, const void *body, size_t length) {
    http_answer_head(h, code, type, length);
    http_send(h, body, h->head_only || code == 304 ? 0 : length, 0);
}

/* Sends a document of JSON and frees the writer. */
static void http_answer_json(struct http *h, int code, struct json_writer *w) {
    if (!json_done(w)) die(INTERNAL, "out of memory for an answer");
    if (!strstr(h->extra.data ? h->extra.data : "", "Cache-Control")) http_add(h, "Cache-Control: no-store");
    http_answer(h, code, "application/json", w->data, w->length);
    json_free(w);
}

/* Says that a request failed: `code` is the status, `status` and the detail text what the cluster calls it. */
static void http_refuse(struct http *h, int code, enum status status) {
    struct json_writer w;
    bool legacy = strcmp(h->path, "/file") == 0 || strncmp(h->path, "/file/", 6) == 0;
    json_start(&w);
    json_object(&w);
    if (legacy) {
        json_key_unsigned(&w, "errorCode", (uint64_t)status);
        json_key_string(&w, "data", detail);
    } else {
        json_key(&w, "error");
        json_object(&w);
        json_key_unsigned(&w, "code", (uint64_t)status);
        json_key_string(&w, "word", status_table[status].word);
        json_key_string(&w, "text", detail);
        json_object_end(&w);
    }
    json_object_end(&w);
    http_answer_json(h, code, &w);
}

static void http_fail(struct http *h, enum status status) {
    if (h->answered) { /* too late to say so: the other side sees that it is not whole */
        h->cut = true;
        return;
    }
    if (h->stranger) fail(status, status == NOT_FOUND ? "there is no such link, or its time is over"
                                                      : "the file can't be had now; try again later");
    http_refuse(h, status_table[status].http, status);
}

/* Answers DONE with an object that has the path. */
static void http_done(struct http *h, const char *path) {
    struct json_writer w;
    json_start(&w);
    json_object(&w);
    json_path(&w, path);
    json_key_string(&w, "result", "ok");
    json_object_end(&w);
    http_answer_json(h, 200, &w);
}

/* ---- Reading a head ---- */

/* One line that ends in CR LF, without them; it is good until the next read. Returns 0, a status code, or HTTP_GONE. */
static int http_line(struct http *h, size_t most, int too_long, int64_t until_ms, struct slice *line) {
    struct conn *c = h->c;
    for (size_t scanned = 0;;) {
        size_t have = c->end - c->start;
        const char *at = c->in + c->start, *newline = memchr(at + scanned, '\n', have - scanned);
        size_t length = newline ? (size_t)(newline - at) : have;
        if (length > most) {
            fail(BAD_REQUEST, "a line of more than %zu bytes", most);
            return too_long;
        }
        if (newline) {
            c->start += length + 1;
            *line = (struct slice){at, length - 1};
            if (length == 0 || at[length - 1] != '\r' || memchr(at, '\r', length - 1) || memchr(at, 0, length)) {
                fail(BAD_REQUEST, "a line ends in CR and LF, and has neither of them, nor NUL, in it");
                return 400;
            }
            return 0;
        }
        scanned = have;
        int64_t left_ms = until_ms - clock_ms();
        if (left_ms <= 0) {
            fail(BAD_REQUEST, "the request takes too long");
            return have > 0 ? 408 : HTTP_GONE;
        }
        conn_limit(c, SO_RCVTIMEO, (int)left_ms);
        if (conn_fill(c) != DONE && clock_ms() < until_ms) return HTTP_GONE;
    }
}

static bool is_token(struct slice s) {
    for (size_t i = 0; i < s.length; i++)
        if (!isalnum((uint8_t)s.at[i]) && !memchr("!#$%&'*+-.^_`|~", s.at[i], 15)) return false;
    return s.length > 0;
}

static struct slice slice_trimmed(struct slice s) {
    while (s.length > 0 && (*s.at == ' ' || *s.at == '\t')) s.at++, s.length--;
    while (s.length > 0 && (s.at[s.length - 1] == ' ' || s.at[s.length - 1] == '\t')) s.length--;
    return s;
}

static bool slice_is_word(struct slice s, const char *word) { /* whatever their case */
    return s.length == strlen(word) && strncasecmp(s.at, word, s.length) == 0;
}

/* The value of a header; one without bytes if it is not there. */
static struct slice http_header(const struct http *h, const char *name) {
    for (int i = 0; i < h->header_count; i++)
        if (slice_is_word(h->header[i].name, name)) return h->header[i].value;
    return (struct slice){NULL, 0};
}

/* Decodes %XX, and + to a space in what a form sends. False: a bad escape, a NUL, or too long. */
static bool url_decode(struct slice s, bool form, char *to, size_t capacity) {
    size_t used = 0;
    for (size_t i = 0; i < s.length; i++) {
        int byte = (uint8_t)s.at[i];
        if (byte == '%') {
            uint8_t high = i + 2 < s.length ? (uint8_t)s.at[i + 1] : 0, low = high ? (uint8_t)s.at[i + 2] : 0;
            if (!isxdigit(high) || !isxdigit(low)) return false;
            byte = hex_digit((char)tolower(high)) << 4 | hex_digit((char)tolower(low));
            if (byte == '/' && !form) return false; /* would be another path than the one that was looked at */
            i += 2;
        } else if (byte == '+' && form) {
            byte = ' ';
        }
        if (byte == 0 || used + 1 >= capacity) return false;
        to[used++] = (char)byte;
    }
    to[used] = 0;
    return true;
}

/* Whether a path has parts that are empty, . or .., which some take for something else than others. */
static bool path_is_plain(const char *path) {
    struct slice rest = slice_of(path + 1), part;
    while (rest.length > 0 && slice_part(&rest, '/', &part))
        if (slice_is(part, "") || slice_is(part, ".") || slice_is(part, "..")) return false;
    return true;
}

/* METHOD SP TARGET SP HTTP/1.x */
static int http_request_line(struct http *h, struct slice line) {
    struct slice rest = line, target, version, host;
    fail(BAD_REQUEST, "a request begins with METHOD /PATH HTTP/1.1");
    if (!slice_part(&rest, ' ', &h->method) || !slice_part(&rest, ' ', &target) || !slice_part(&rest, ' ', &version) ||
        rest.length > 0 || line.at[line.length - 1] == ' ')
        return 400;
    if (!is_token(h->method) || version.length != 8 || memcmp(version.at, "HTTP/", 5) != 0) return 400;
    if (!isdigit((uint8_t)version.at[5]) || version.at[6] != '.' || !isdigit((uint8_t)version.at[7])) return 400;
    if (version.at[5] != '1' || version.at[7] > '1') {
        fail(BAD_REQUEST, "this server speaks HTTP/1.1");
        return 505;
    }
    h->old = version.at[7] == '0';
    for (size_t i = 0; i < target.length; i++)
        if (target.at[i] <= ' ' || target.at[i] > '~' || target.at[i] == '#') return 400;
    if (target.length > 7 && strncasecmp(target.at, "http://", 7) == 0) { /* as to a proxy; Host says the same */
        target = (struct slice){target.at + 7, target.length - 7};
        const char *slash = memchr(target.at, '/', target.length);
        size_t length = slash ? (size_t)(slash - target.at) : target.length;
        host = (struct slice){target.at, length};
        target = slash ? (struct slice){slash, target.length - length} : slice_of("/");
        h->header[h->header_count++] = (struct http_header){slice_of(":authority"), host};
    }
    if (target.length == 0 || *target.at != '/') return 400;
    const char *question = memchr(target.at, '?', target.length);
    if (question) {
        size_t length = (size_t)(question - target.at);
        h->query = (struct slice){question + 1, target.length - length - 1};
        target.length = length;
    }
    fail(BAD_REQUEST, "a path has no %%00, %%2F, empty part, . or .. in it, and at most %d bytes", PATH_MAX_BYTES);
    return url_decode(target, false, h->path, sizeof h->path) && path_is_plain(h->path) ? 0 : 400;
}

/* NAME: VALUE */
static int http_header_line(struct http *h, struct slice line) {
    static const char *const once[] = {"host", "content-length", "transfer-encoding", "content-type", "authorization",
                                       "range", "expect", "origin", "cookie", "if-range"};
    const char *colon = memchr(line.at, ':', line.length);
    struct http_header *header = &h->header[h->header_count];
    fail(BAD_REQUEST, "a header is NAME: VALUE, with nothing between the name and the colon");
    if (!colon) return 400;
    header->name = (struct slice){line.at, (size_t)(colon - line.at)};
    header->value = (struct slice){colon + 1, line.length - header->name.length - 1};
    if (!is_token(header->name)) return 400;
    header->value = slice_trimmed(header->value);
    for (size_t i = 0; i < header->value.length; i++)
        if ((uint8_t)header->value.at[i] < ' ' ? header->value.at[i] != '\t' : header->value.at[i] == 127) return 400;
    for (size_t i = 0; i < sizeof once / sizeof *once; i++)
        if (slice_is_word(header->name, once[i]) && http_header(h, once[i]).at) {
            fail(BAD_REQUEST, "%s is there twice", once[i]);
            return 400;
        }
    h->header_count++;
    return 0;
}

/* What the headers say of the body and the connection. */
static int http_framing(struct http *h) {
    struct slice length = http_header(h, "content-length"), coding = http_header(h, "transfer-encoding");
    struct slice part, expect = http_header(h, "expect");
    bool closes = false;
    h->keeps = !h->old;
    for (int i = 0; i < h->header_count; i++) {
        struct slice connection = h->header[i].value;
        while (slice_is_word(h->header[i].name, "connection") && slice_part(&connection, ',', &part)) {
            part = slice_trimmed(part);
            if (h->old && !closes && slice_is_word(part, "keep-alive")) h->keeps = true;
            if (slice_is_word(part, "close")) h->keeps = false, closes = true;
        }
    }
    fail(BAD_REQUEST, "a body has one Content-Length, in digits, or is chunked");
    if (coding.at && (length.at || h->old)) return 400;
    if (coding.at && !slice_is_word(coding, "chunked")) return 501;
    h->chunked = coding.at != NULL;
    if (length.at && !parse_u64(length, INT64_MAX, &h->left)) return 400;
    h->body_over = !h->chunked && h->left == 0;
    if (expect.at && !slice_is_word(expect, "100-continue")) {
        fail(BAD_REQUEST, "nothing but 100-continue may be expected");
        return 417;
    }
    h->expects = expect.at && !h->old && !h->body_over;
    return 0;
}

/* Reads the head of the next request. Returns 0, a status code, or HTTP_GONE. */
static int http_read_head(struct http *h) {
    struct slice line;
    size_t offset[HTTP_HEADERS_MAX + 1], length[HTTP_HEADERS_MAX + 1];
    int lines = 0, empty = 0, code;
    if (h->c->end == h->c->start) { /* nothing of it is here yet: that may take a while */
        conn_limit(h->c, SO_RCVTIMEO, HTTP_IDLE_MS);
        if (conn_fill(h->c) != DONE) return HTTP_GONE;
    }
    int64_t until_ms = clock_ms() + HTTP_HEAD_MS;
    for (;;) {
        code = http_line(h, HTTP_LINE_MAX_BYTES, lines == 0 ? 414 : 431, until_ms, &line);
        if (code != 0) return code;
        if (line.length == 0 && lines == 0 && empty++ == 0) continue; /* one is left by clients of long ago */
        if (line.length == 0 && lines == 0) return fail(BAD_REQUEST, "no request, but empty lines"), 400;
        if (line.length == 0) break;
        fail(BAD_REQUEST, "more than %d headers, or more than %d bytes of them", HTTP_HEADERS_MAX - 1,
             HTTP_HEAD_MAX_BYTES);
        if (lines == HTTP_HEADERS_MAX || h->head.length + line.length > HTTP_HEAD_MAX_BYTES) return 431;
        if (lines > 0 && (*line.at == ' ' || *line.at == '\t')) return 400; /* a header in several lines */
        offset[lines] = h->head.length;
        length[lines++] = line.length;
        text_bytes(&h->head, line.at, line.length);
        text_byte(&h->head, 0);
    }
    for (int i = 0; i < lines; i++) {
        line = (struct slice){h->head.data + offset[i], length[i]};
        code = i == 0 ? http_request_line(h, line) : http_header_line(h, line);
        if (code != 0) return code;
    }
    if (!h->old && !http_header(h, "host").at) {
        fail(BAD_REQUEST, "no Host");
        return 400;
    }
    return http_framing(h);
}

/* ---- Reading a body ---- */

static enum status http_body_is_bad(struct http *h, const char *why) {
    h->body_bad = true;
    h->keeps = false;
    return fail(BAD_REQUEST, "%s", why);
}

/* Goes on to the next chunk of a chunked body, or to its end. */
static enum status http_next_chunk(struct http *h) {
    struct slice line, number = {NULL, 0};
    uint64_t length = 0;
    int64_t until_ms = clock_ms() + HTTP_STALL_MS;
    if (h->chunk_begun && (http_line(h, 1, 400, until_ms, &line) != 0))
        return http_body_is_bad(h, "a chunk of the body is not followed by CR and LF");
    h->chunk_begun = true;
    if (http_line(h, 256, 400, until_ms, &line) != 0) return http_body_is_bad(h, "a chunk without its length");
    slice_part(&line, ';', &number);
    if (number.length == 0 || number.length > 15) return http_body_is_bad(h, "a chunk without its length");
    for (size_t i = 0; i < number.length; i++) {
        if (!isxdigit((uint8_t)number.at[i])) return http_body_is_bad(h, "a chunk whose length is no number");
        length = length << 4 | (uint64_t)hex_digit((char)tolower((uint8_t)number.at[i]));
    }
    for (size_t i = 0; i < line.length; i++)
        if ((uint8_t)line.at[i] < ' ' || line.at[i] == 127) return http_body_is_bad(h, "a bad extension of a chunk");
    h->left = length;
    for (int lines = 0; length == 0; lines++) { /* what follows the last one is passed over */
        if (lines > HTTP_HEADERS_MAX || http_line(h, HTTP_LINE_MAX_BYTES, 431, until_ms, &line) != 0)
            return http_body_is_bad(h, "a bad end of the body");
        if (line.length == 0) break;
    }
    h->body_over = length == 0;
    return DONE;
}

/* Reads 1 to `length` bytes of the body; *got 0 at its end. */
static enum status http_body_some(struct http *h, void *to, size_t length, size_t *got) {
    *got = 0;
    if (h->pace_ms == 0) http_pace_begin(h);
    else if (h->read_ms != 0) h->pace_ms += clock_ms() - h->read_ms; /* the cluster took so long, not the client */
    h->read_ms = 0;
    if (h->expects && !h->body_over) {
        h->expects = false;
        text_add(&h->c->out, "HTTP/1.1 100 Continue\r\n\r\n");
        if (http_send(h, NULL, 0, 0) != DONE) return NO_SERVER;
    }
    if (h->body_bad) return fail(BAD_REQUEST, "a broken body");
    if (h->chunked && h->left == 0 && !h->body_over) {
        enum status status = http_next_chunk(h);
        if (status != DONE) return status;
    }
    if (h->body_over) return DONE;
    conn_limit(h->c, SO_RCVTIMEO, HTTP_STALL_MS);
    enum status status = conn_read_some(h->c, to, length < h->left ? length : (size_t)h->left, got);
    if (status == DONE) status = http_pace(h, *got);
    if (status != DONE) {
        h->body_bad = true;
        h->keeps = false;
        return status;
    }
    h->read_ms = clock_ms();
    h->left -= *got;
    if (!h->chunked && h->left == 0) h->body_over = true;
    return DONE;
}

/* Fills `to`, less only at the end of the body. -1: the body is broken. For http_store. */
static ssize_t http_body_read(void *request, void *to, size_t length) {
    struct http *h = request;
    size_t have = 0, got;
    while (have < length) {
        if (http_body_some(h, (uint8_t *)to + have, length - have, &got) != DONE) return -1;
        if (got == 0) break;
        have += got;
    }
    return (ssize_t)have;
}

/* Reads what is left of a body that nobody wants, if it is little. */
static void http_body_drain(struct http *h) {
    char sink[4096];
    size_t got = 1;
    for (size_t sum = 0; !h->body_over && h->keeps && got > 0; sum += got)
        if (sum > HTTP_DRAIN_BYTES || http_body_some(h, sink, sizeof sink, &got) != DONE) h->keeps = false;
}

/* Reads the body into memory. It grows as bytes arrive. False: the error was answered. */
static bool http_form_read(struct http *h, size_t most) {
    size_t got = 1;
    bool good = true;
    while (good && got > 0) {
        if (h->form.length > HTTP_DRAIN_BYTES && !h->large_form) {
            h->large_form = true;
            good = atomic_fetch_add(&gateway.forms, 1) < HTTP_FORMS_MAX;
            h->keeps &= good;
            if (!good) http_refuse(h, 503, fail(NO_SERVER, "too many large forms at once; try again"));
        }
        if (!good) break;
        if (h->form.length > most) {
            h->keeps = false;
            http_refuse(h, 413, fail(BAD_REQUEST, "a body of more than %zu bytes; PUT /files/PATH takes any", most));
            good = false;
            break;
        }
        text_reserve(&h->form, 64 * KIB);
        good = http_body_some(h, h->form.data + h->form.length, 64 * KIB, &got) == DONE;
        if (!good) http_fail(h, BAD_REQUEST);
        h->form.length += got;
        h->form.data[h->form.length] = 0;
    }
    if (!good) h->keeps = false;
    return good;
}

/* ---- Parameters: of the query, a form, or an object of JSON ---- */

static bool form_find(struct slice rest, const char *name, struct slice *value) {
    struct slice pair, key;
    while (slice_part(&rest, '&', &pair)) {
        bool has = slice_part(&pair, '=', &key);
        if (has && slice_is(key, name)) {
            *value = pair;
            return true;
        }
    }
    return false;
}

/* Puts a parameter into `to`. 1: it is there; 0: it is not; -1: it is, and is no text, or too long, and that was
 * answered. */
static int http_param(struct http *h, const char *name, char *to, size_t capacity) {
    struct slice value;
    int found = 1;
    *to = 0;
    if (form_find(h->query, name, &value) ||
        (!h->form_json && form_find((struct slice){h->form.data, h->form.length}, name, &value))) {
        if (!url_decode(value, true, to, capacity)) found = -1;
    } else if (h->form_json) {
        const struct json_token *token = json_member(h->form.data, h->token, &h->token[0], name);
        size_t length = 0;
        if (!token) return 0;
        if (!json_get_string(h->form.data, token, to, capacity, &length) || strlen(to) != length) found = -1;
    } else {
        return 0;
    }
    if (found < 0)
        http_refuse(h, 400, fail(BAD_REQUEST, "'%s' must be a text of at most %zu bytes", name, capacity - 1));
    return found;
}

/* The same, for a path of the cluster that must be there. False: the error was answered. */
static bool http_param_path(struct http *h, const char *name, const char *otherwise, char path[PATH_MAX_BYTES + 1]) {
    char raw[PATH_MAX_BYTES + 2];
    int found = http_param(h, name, raw, sizeof raw);
    if (found < 0) return false;
    if (found == 0 && otherwise) snprintf(raw, sizeof raw, "%s", otherwise);
    if (found == 0 && !otherwise) {
        http_refuse(h, 400, fail(BAD_REQUEST, "'%s' is missing", name));
        return false;
    }
    if (path_normalize(raw, path) == DONE) return true;
    http_fail(h, BAD_REQUEST);
    return false;
}

/* Reads the body that parameters are in. False: the error was answered. */
static bool http_params(struct http *h, size_t most) {
    struct slice type = http_header(h, "content-type");
    uint32_t used;
    size_t at;
    if (!http_form_read(h, most)) return false;
    h->form_json = h->form.length > 0 && type.length >= 16 && strncasecmp(type.at, "application/json", 16) == 0;
    if (!h->form_json) return true;
    if (json_parse(h->form.data, h->form.length, h->token, HTTP_TOKENS_MAX, &used, &at) == JSON_OK &&
        h->token[0].type == JSON_OBJECT)
        return true;
    http_refuse(h, 400, fail(BAD_REQUEST, "the body is no object of JSON"));
    return false;
}

/* The parameter `expire`, in seconds; 0: it is not there. False: the error was answered. */
static bool http_life(struct http *h, uint32_t *life_s) {
    char text[24];
    uint64_t ms = 0;
    int found = http_param(h, "expire", text, sizeof text);
    if (found < 0) return false;
    bool good = found == 0 || !*text || (parse_duration_ms(text, &ms) && ms > 0 && ms <= (uint64_t)LIFE_MAX_S * 1000);
    *life_s = (uint32_t)((ms + 999) / 1000);
    if (!good) http_refuse(h, 400, fail(BAD_REQUEST, "'expire' is a time such as 90s, 2h, 7d; ten years at most"));
    return good;
}

/* ---- Who may ask ---- */

/* Whether this is the cluster's key: 64 hexadecimal digits. Takes as long whatever is wrong with it. */
static bool http_key_is_right(struct slice given) {
    struct hmac_sha256 ours = cluster_key.mac, theirs;
    uint8_t key[KEY_BYTES] = {0}, a[32], b[32];
    bool good = parse_hex(given, key, sizeof key);
    hmac_sha256_init(&theirs, key, sizeof key);
    hmac_sha256_update(&ours, "dfs http key", 12);
    hmac_sha256_update(&theirs, "dfs http key", 12);
    hmac_sha256_final(&ours, a);
    hmac_sha256_final(&theirs, b);
    explicit_bzero(key, sizeof key);
    return sha256_equal(a, b, 32) && good;
}

/* The proof in a cookie that whoever has it gave the key, until `day`. The same on all servers of the cluster. */
static void http_session(uint64_t day, char hex[65]) {
    struct hmac_sha256 mac = cluster_key.mac;
    char said[64];
    uint8_t digest[32];
    int length = snprintf(said, sizeof said, "dfs http session until day %" PRIu64, day);
    hmac_sha256_update(&mac, said, (size_t)length);
    hmac_sha256_final(&mac, digest);
    hex_write(hex, digest, 32);
    hex[64] = 0;
}

static uint64_t http_today(void) {
    return (uint64_t)(clock_wall_ns() / 1000000000 / 86400);
}

static bool http_cookie_is_right(struct slice cookies) {
    struct slice one, name, day;
    uint64_t until;
    char hex[65];
    while (slice_part(&cookies, ';', &one)) {
        while (one.length > 0 && *one.at == ' ') one.at++, one.length--;
        if (!slice_part(&one, '=', &name) || !slice_is(name, "dfs")) continue;
        if (!slice_part(&one, '.', &day) || !parse_u64(day, UINT32_MAX, &until) || until < http_today()) continue;
        http_session(until, hex);
        if (one.length == 64 && sha256_equal((const uint8_t *)hex, (const uint8_t *)one.at, 64)) return true;
    }
    return false;
}

static const char base64_digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* Decodes base64 (RFC 4648, section 4) without line breaks. False if it is none. Returns the length in *length. */
static bool base64_decode(const char *from, size_t count, uint8_t *to, size_t *length) {
    uint32_t bits = 0;
    int have = 0;
    *length = 0;
    while (count > 0 && from[count - 1] == '=' && count % 4 != 1) count--;
    for (size_t i = 0; i < count; i++) {
        const char *digit = from[i] ? strchr(base64_digits, from[i]) : NULL;
        if (!digit) return false;
        bits = bits << 6 | (uint32_t)(digit - base64_digits);
        have += 6;
        if (have < 8) continue;
        have -= 8;
        to[(*length)++] = (uint8_t)(bits >> have);
    }
    return have < 6;
}

static void text_base64(struct text *t, const uint8_t *bytes, size_t length) {
    text_reserve(t, (length + 2) / 3 * 4);
    for (size_t i = 0; i < length; i += 3) {
        uint32_t bits = (uint32_t)bytes[i] << 16;
        if (i + 1 < length) bits |= (uint32_t)bytes[i + 1] << 8;
        if (i + 2 < length) bits |= bytes[i + 2];
        text_byte(t, base64_digits[bits >> 18]);
        text_byte(t, base64_digits[bits >> 12 & 63]);
        text_byte(t, i + 1 < length ? base64_digits[bits >> 6 & 63] : '=');
        text_byte(t, i + 2 < length ? base64_digits[bits & 63] : '=');
    }
}

/* Whether the request carries the key, or proof of it: a bearer token, the password of Basic, or the page's cookie. */
static bool http_has_key(struct http *h) {
    struct slice given = http_header(h, "authorization"), scheme;
    uint8_t decoded[512];
    size_t length;
    if (!cluster_key.set) return true;
    if (given.at && slice_part(&given, ' ', &scheme)) {
        if (slice_is_word(scheme, "bearer")) return http_key_is_right(given);
        if (!slice_is_word(scheme, "basic") || given.length > sizeof decoded / 3 * 4 ||
            !base64_decode(given.at, given.length, decoded, &length))
            return false;
        const char *colon = memchr(decoded, ':', length);
        if (!colon) return false;
        return http_key_is_right((struct slice){colon + 1, length - (size_t)(colon + 1 - (const char *)decoded)});
    }
    return http_cookie_is_right(http_header(h, "cookie"));
}

/* The name or address in Host, without the port and brackets; false if it is none. */
static bool http_host_name(struct slice host, char name[256]) {
    uint16_t port = 0;
    char address[264];
    for (size_t i = 0; i < host.length; i++)
        if (!isalnum((uint8_t)host.at[i]) && !strchr(".-_:[]", host.at[i])) return false;
    if (host.length == 0 || !slice_copy(host, address, sizeof address)) return false;
    if (!net_split(address, name, 256, &port)) return false;
    for (char *at = name; *at; at++) *at = (char)tolower((uint8_t)*at);
    size_t length = strlen(name);
    if (length > 0 && name[length - 1] == '.') name[length - 1] = 0;
    return *name != 0;
}

/* Whether this server goes by the name in Host: a page from elsewhere whose name was made to point here does not. */
static bool http_host_is_ours(struct http *h, struct slice host) {
    struct endpoint own = {.length = sizeof own.address}, given;
    char name[256], ours[256], local[64], text[64];
    struct slice rest = slice_of(gateway.names ? gateway.names : ""), one;
    if (!http_host_name(host, name)) return false;
    if (strcmp(name, "localhost") == 0) return true;
    if (endpoint_parse(name, 0, &given)) {
        endpoint_text(&given, text, sizeof text);
        if (strncmp(text, "127.", 4) == 0 || strcmp(text, "[::1]:0") == 0) return true;
        if (getsockname(h->c->fd, (struct sockaddr *)&own.address, &own.length) != 0) return false;
        endpoint_text(&own, local, sizeof local);
        *strrchr(local, ':') = *strrchr(text, ':') = 0;
        if (strcmp(local, text) == 0) return true;
        size_t end = strlen(local); /* an IPv4 address as a socket of IPv6 sees it */
        if (strncmp(local, "[::ffff:", 8) == 0 && end > 9 && strlen(text) == end - 9 &&
            memcmp(local + 8, text, end - 9) == 0)
            return true;
    } else if (gethostname(ours, sizeof ours - 1) == 0) {
        ours[sizeof ours - 1] = 0;
        if (strcasecmp(ours, name) == 0) return true;
    }
    while (slice_part(&rest, ',', &one))
        if (slice_is_word(one, name)) return true;
    return false;
}

/* Whether an Origin is this server as the browser calls it. */
static bool http_origin_is_ours(struct slice origin, struct slice host) {
    size_t skip = origin.length > 7 && strncasecmp(origin.at, "http://", 7) == 0    ? 7
                  : origin.length > 8 && strncasecmp(origin.at, "https://", 8) == 0 ? 8
                                                                                    : 0;
    return skip > 0 && origin.length - skip == host.length &&
           strncasecmp(origin.at + skip, host.at, host.length) == 0;
}

/* What is refused whatever is asked for: other hosts, other origins. Returns 0 or a status code. */
static int http_check_source(struct http *h, bool changes) {
    struct slice host = http_header(h, "host"), origin = http_header(h, "origin");
    struct slice authority = http_header(h, ":authority");
    bool browser = origin.at || http_header(h, "cookie").at || http_header(h, "sec-fetch-site").at;
    bool by_link = !changes && strncmp(h->path, "/download/", 10) == 0; /* whoever knows it may come by any name */
    if (!by_link &&
        ((host.at && !http_host_is_ours(h, host)) || (authority.at && !http_host_is_ours(h, authority)))) {
        fail(DENIED, "this server does not go by that name; start it with --http-host NAME if it does");
        return 421;
    }
    if (origin.at && !http_origin_is_ours(origin, host)) {
        fail(DENIED, "a page from another place may not ask this");
        return 403;
    }
    if (changes && browser && !http_header(h, "x-dfs").at) {
        fail(DENIED, "a browser must send the header X-Dfs with what changes something");
        return 403;
    }
    return 0;
}

/* ---- Reading from this node's own records ---- */

/* Asks the master that this node follows whether it may answer by itself for a moment; not if that was asked just now.
 */
static void position_ask(void) {
    enum { AGAIN_MS = 10, REFUSED_MS = 1000 };
    struct text line = {0};
    struct answer a = {0};
    struct position at = {0};
    char address[ADDRESS_MAX_BYTES + 1] = "";
    uint32_t hold_ms;
    bool sent = false;
    int64_t begun_ms = clock_ms(); /* the time counts from before the question went out */
    lock_take(&node.lock);
    const struct link *link = node_followed();
    if (link && begun_ms - node.position_ms >= AGAIN_MS) {
        node.position_ms = begun_ms;
        memcpy(address, link->address, sizeof address);
        text_format(&line, "POSITION %" PRIu64, link->session);
    }
    lock_drop(&node.lock);
    if (!*address) return;
    bool good = ask_once(address, &line, NULL, false, HURRY_MS, HURRY_MS, &a, &sent) == DONE && a.w.count == 5 &&
                slice_is(a.w.word[1], "current") && parse_u64(a.w.word[2], UINT64_MAX, &at.epoch) &&
                parse_u64(a.w.word[3], UINT64_MAX, &at.seq) && parse_u32(a.w.word[4], HOLD_MS, &hold_ms);
    lock_take(&node.lock);
    if (good) {
        node.current = at;
        node.hold_until_ms = begun_ms + hold_ms;
    } else { /* it hangs, or is none any more: others do not wait for that too */
        node.position_ms = clock_ms() + REFUSED_MS;
    }
    lock_drop(&node.lock);
    text_free(&line);
    answer_free(&a);
}

/* What a path is, from this node's own records. False if they may not be current, or it does not hold the whole file,
 * or that expires: the master is to be asked then. */
static bool position_stat(const char *path, struct file_info **out, enum status *status) {
    const struct tree *t = &node.tree;
    struct inode *n;
    uint32_t length;
    bool good = false;
    lock_take(&node.lock);
    node.tree.now_s = 0;
    if (clock_ms() >= node.hold_until_ms || !position_same(t->at, node.current)) goto out;
    *status = tree_resolve(t, path, &n, NULL, NULL);
    good = *status == DONE ? n->expiry_s == 0 : true;
    for (uint32_t i = 0; *status == DONE && good && i < n->chunk_count; i++)
        good = store_has(&node.store, tree_chunk(t, inode_chunk(n, i))->hash, &length);
    if (*status != DONE || !good) goto out;
    struct file_info *f = mem_alloc(sizeof *f);
    *f = (struct file_info){.directory = n->kind == KIND_DIRECTORY, .id = n->id, .size = n->size,
                            .mtime_ns = n->mtime_ns, .chunk_count = n->chunk_count};
    memcpy(f->sha256, inode_sha256(t, n), 32);
    f->chunk = mem_alloc(n->chunk_count * sizeof *f->chunk);
    for (uint32_t i = 0; i < n->chunk_count; i++) {
        const struct chunk *chunk = tree_chunk(t, inode_chunk(n, i));
        memcpy(f->chunk[i].hash, chunk->hash, 32);
        f->chunk[i].length = chunk->length;
    }
    *out = f;
out:
    lock_drop(&node.lock);
    return good;
}

/* What a path is, as client_stat has it. A node answers from its own records if a master allowed it just now: then the
 * file has no nodes, for all of it is here. */
static enum status http_stat(const char *path, struct file_info **out) {
    enum status status;
    *out = NULL;
    if (strcmp(server.role, "node") != 0) return client_stat(&gateway.client, path, out);
    if (position_stat(path, out, &status)) return status;
    position_ask();
    if (position_stat(path, out, &status)) return status;
    return client_stat(&gateway.client, path, out);
}

/* Asks who has the chunks of a file, which were thought to be here, or on nodes that are away. */
static enum status http_holders(const char *path, struct file_info *f) {
    struct file_info *fresh;
    enum status status = client_stat(&gateway.client, path, &fresh);
    if (status != DONE) return status;
    bool same = fresh->id == f->id && fresh->chunk_count == f->chunk_count;
    if (same) {
        struct chunk_info *chunk = f->chunk;
        struct node_address *nodes = f->node;
        f->node = fresh->node;
        f->node_count = fresh->node_count;
        f->chunk = fresh->chunk;
        fresh->node = nodes;
        fresh->chunk = chunk;
        for (int i = 0; i < f->node_count; i++) atomic_store(&f->failed[i], false);
    }
    file_info_free(fresh);
    return same ? DONE : fail(UNAVAILABLE, "the file was replaced while it was sent");
}

/* ---- Files ---- */

/* Chunks of this node's disk that were read and found right a short while ago. */
static struct {
    struct lock lock;
    struct { uint8_t hash[32]; int64_t ms; } slot[VERIFIED_MAX];
} verified;

static bool verified_lately(const uint8_t hash[32]) {
    size_t at = (size_t)(hash[0] << 8 | hash[1]) % VERIFIED_MAX;
    lock_take(&verified.lock);
    bool good = verified.slot[at].ms != 0 && memcmp(verified.slot[at].hash, hash, 32) == 0 &&
                clock_ms() - verified.slot[at].ms < VERIFIED_MS;
    lock_drop(&verified.lock);
    return good;
}

static void verified_note(const uint8_t hash[32]) {
    size_t at = (size_t)(hash[0] << 8 | hash[1]) % VERIFIED_MAX;
    lock_take(&verified.lock);
    memcpy(verified.slot[at].hash, hash, 32);
    verified.slot[at].ms = clock_ms();
    lock_drop(&verified.lock);
}

/* Whether a chunk is still where it was found. When it is dropped it leaves the index first, and its bytes go later. */
static bool http_still_there(const struct chunk_info *chunk, const struct found *found) {
    struct found now;
    if (store_find(&node.store, chunk->hash, &now) != DONE) return false;
    bool same = now.segment == found->segment && now.offset == found->offset;
    store_release(&node.store, &now);
    return same;
}

/* Reads a small chunk, or a large one that was not verified lately, and checks it. A small one is left in `small`. */
static enum status http_verify_local(const struct chunk_info *chunk, const struct found *found, struct text *small) {
    bool is_small = chunk->length <= SMALL_CHUNK_BYTES, right = false;
    uint8_t *buffer = NULL;
    if (found->length != chunk->length) return NOT_FOUND;
    if (!is_small && verified_lately(chunk->hash)) return DONE;
    if (is_small) text_reserve(small, chunk->length);
    else if (!(buffer = buffer_take(0))) return NO_SPACE;
    void *to = is_small ? (void *)small->data : buffer;
    right = sys_pread(found->fd, to, chunk->length, found->offset) && chunk_check(chunk, to) == DONE;
    if (right && !is_small) verified_note(chunk->hash);
    buffer_give(buffer);
    return right ? DONE : DAMAGED;
}

/* Sends a part of a chunk that is on this node's own disk. NOT_FOUND if it is not, or not right: nothing was sent then.
 * A large one goes from the disk to the socket; its last byte follows when it is sure that none of it was given back to
 * the file system meanwhile, so that nobody takes holes for the whole. */
static enum status http_send_local(struct http *h, const struct chunk_info *chunk, uint32_t skip, uint32_t length) {
    struct found found;
    uint8_t last;
    if (strcmp(server.role, "node") != 0 || length == 0) return length == 0 ? DONE : NOT_FOUND;
    if (store_find(&node.store, chunk->hash, &found) != DONE) return NOT_FOUND;
    text_clear(&h->form);
    enum status status = http_verify_local(chunk, &found, &h->form);
    if (status == DONE && chunk->length <= SMALL_CHUNK_BYTES) {
        store_release(&node.store, &found);
        return http_send(h, h->form.data + skip, length, 0);
    }
    off_t at = (off_t)(found.offset + skip);
    bool read = status == DONE && sys_pread(found.fd, &last, 1, (uint64_t)at + length - 1);
    if (status == DONE && (!read || !http_still_there(chunk, &found))) status = NOT_FOUND;
    if (status != DONE) {
        store_release(&node.store, &found);
        if (status == DAMAGED && store_verify(&node.store, chunk->hash) == DAMAGED) report_add("lost", chunk->hash, 0);
        return status == NO_SPACE ? NO_SPACE : NOT_FOUND;
    }
    status = http_send(h, NULL, 0, MSG_MORE);
    while (status == DONE && length > 1) {
        size_t piece = length - 1 < HTTP_SEND_BYTES ? length - 1 : HTTP_SEND_BYTES;
        ssize_t sent = sendfile(h->c->fd, found.fd, &at, piece);
        if (sent < 0 && errno == EINTR) continue;
        if (sent <= 0) {
            status = fail(NO_SERVER, "sending to %s: %s", h->c->peer, strerror(errno));
            break;
        }
        length -= (uint32_t)sent;
        status = http_pace(h, (size_t)sent);
    }
    if (status == DONE && !http_still_there(chunk, &found))
        status = fail(UNAVAILABLE, "a chunk was dropped while it was sent");
    store_release(&node.store, &found);
    return status == DONE ? http_send(h, &last, 1, 0) : status;
}

/* Reads a chunk from any node that has it into a buffer, which it takes first. If none of those that are known has it
 * any more, others may: the master is asked again for a while. The time that all this takes is not the fault of who
 * waits for it. */
static enum status http_fetch(struct http *h, const char *path, struct file_info *f, uint32_t number, unsigned turn,
                              uint8_t **buffer) {
    int64_t begun_ms = clock_ms();
    int from;
    enum status status;
    for (;;) {
        struct node_set tried = {{0}};
        if (!*buffer && !(*buffer = buffer_take(0))) return NO_SPACE;
        status = get_any(f, number, turn, &tried, true, *buffer, &from);
        bool others = status == UNAVAILABLE || (status == DAMAGED && !f->chunk[number].damaged);
        if (!others || clock_ms() - begun_ms > HTTP_RETRY_MS) break;
        buffer_give(*buffer);
        *buffer = NULL;
        sleep_ms(HOLDERS_AGAIN_MS);
        if (http_holders(path, f) == DONE) continue;
        status = fail(UNAVAILABLE, "%s", detail);
        break;
    }
    h->pace_ms += clock_ms() - begun_ms;
    return status;
}

/* Sends bytes [skip, skip + length) of a chunk that other nodes have. A client that does not take them is waited for
 * without the buffer, if others need it; the chunk is fetched again then. */
static enum status http_send_remote(struct http *h, const char *path, struct file_info *f, uint32_t number,
                                    unsigned turn, uint8_t **buffer, uint32_t skip, uint32_t length) {
    enum { LOOK_AGAIN_MS = 500 };
    struct pollfd ready = {.fd = h->c->fd, .events = POLLOUT};
    enum status status = http_fetch(h, path, f, number, turn, buffer);
    if (status == DONE) status = http_send(h, NULL, 0, MSG_MORE);
    while (status == DONE && length > 0) {
        if (!*buffer) status = http_fetch(h, path, f, number, turn, buffer);
        if (status != DONE) break;
        ssize_t sent = send(h->c->fd, *buffer + skip, length, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent > 0) {
            skip += (uint32_t)sent;
            length -= (uint32_t)sent;
            status = http_pace(h, (size_t)sent);
            continue;
        }
        if (sent < 0 && errno != EAGAIN && errno != EINTR)
            return fail(NO_SERVER, "sending to %s: %s", h->c->peer, strerror(errno));
        if (poll(&ready, 1, LOOK_AGAIN_MS) > 0) continue;
        if (buffers_are_scarce()) {
            buffer_give(*buffer);
            *buffer = NULL;
        }
        if (poll(&ready, 1, HTTP_STALL_MS) == 0) return fail(NO_SERVER, "%s takes nothing any more", h->c->peer);
        status = http_pace(h, 0);
    }
    return status;
}

/* Ends an answer whose body can't be sent to its end. If not even its head went out the client is told why; else it
 * must not take what it has for the whole. `what` is the path or the chunk, and no secret. */
static void http_break_off(struct http *h, const char *what, enum status status) {
    if (h->c->out.length > 0 && !h->cut) {
        text_clear(&h->c->out);
        text_clear(&h->extra);
        h->answered = false;
        http_fail(h, status);
        return;
    }
    h->cut = true;
    if (status != NO_SERVER) log_line("HTTP: '%s' broken off: %s", shown(what), detail);
}

/* Sends bytes [first, first + length) of a file, each chunk verified before any byte of it goes out. */
static enum status http_send_file(struct http *h, const char *path, struct file_info *f, uint64_t first,
                                  uint64_t length) {
    uint64_t begin = 0, end = first + length;
    uint8_t *buffer = NULL;
    enum status status = DONE;
    static atomic_uint turns; /* another node is asked first each time */
    unsigned turn = atomic_fetch_add(&turns, 1);
    for (uint32_t i = 0; i < f->chunk_count && status == DONE; begin += f->chunk[i++].length) {
        const struct chunk_info *chunk = &f->chunk[i];
        if (begin + chunk->length <= first || begin >= end) continue;
        uint32_t skip = first > begin ? (uint32_t)(first - begin) : 0;
        uint32_t take = (uint32_t)((begin + chunk->length < end ? begin + chunk->length : end) - begin) - skip;
        status = http_send_local(h, chunk, skip, take);
        if (status == NOT_FOUND && f->node_count == 0 && http_holders(path, f) != DONE) status = UNAVAILABLE;
        if (status == NOT_FOUND) status = http_send_remote(h, path, f, i, turn + i, &buffer, skip, take);
    }
    buffer_give(buffer);
    if (status == DONE) status = http_send(h, NULL, 0, 0);
    if (status != DONE) http_break_off(h, path, status);
    return status;
}

/* The type under which a file is shown in the browser; NULL: it is only saved. Nothing in this list can hold a script.
 */
static const char *http_type(const char *path) {
    static const struct { const char *ending, *type; } list[] = {
        {".txt", "text/plain; charset=utf-8"}, {".md", "text/plain; charset=utf-8"},
        {".log", "text/plain; charset=utf-8"}, {".png", "image/png"}, {".jpg", "image/jpeg"}, {".jpeg", "image/jpeg"},
        {".gif", "image/gif"}, {".webp", "image/webp"}, {".mp3", "audio/mpeg"}, {".ogg", "audio/ogg"},
        {".mp4", "video/mp4"}, {".webm", "video/webm"}};
    size_t length = strlen(path);
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        size_t end = strlen(list[i].ending);
        if (length > end && strcasecmp(path + length - end, list[i].ending) == 0) return list[i].type;
    }
    return NULL;
}

/* Whether a list of entity tags (If-Match, If-None-Match) has this one. */
static bool http_tags_have(struct slice list, const char *hex) {
    struct slice tag;
    while (slice_part(&list, ',', &tag)) {
        tag = slice_trimmed(tag);
        if (slice_is(tag, "*")) return true;
        if (tag.length > 2 && memcmp(tag.at, "W/", 2) == 0) tag.at += 2, tag.length -= 2;
        if (tag.length == 66 && *tag.at == '"' && tag.at[65] == '"' && memcmp(tag.at + 1, hex, 64) == 0) return true;
    }
    return false;
}

/* One range of bytes: 1, it is good; 0, there is none to be heeded; -1, it can't be had. */
static int http_range(struct http *h, uint64_t size, const char *hex, const char *date, uint64_t *first,
                      uint64_t *length) {
    struct slice range = http_header(h, "range"), begin, guard = http_header(h, "if-range");
    uint64_t from, to;
    if (range.length < 7 || strncasecmp(range.at, "bytes=", 6) != 0 || memchr(range.at, ',', range.length)) return 0;
    if (guard.at && !slice_is(guard, date) && (!http_tags_have(guard, hex) || *guard.at != '"')) return 0;
    range.at += 6;
    range.length -= 6;
    if (!memchr(range.at, '-', range.length) || !slice_part(&range, '-', &begin)) return 0;
    if (begin.length == 0) { /* the last so many */
        if (!parse_u64(range, UINT64_MAX, &to)) return 0;
        if (to == 0 || size == 0) return -1;
        *length = to < size ? to : size;
        *first = size - *length;
        return 1;
    }
    if (!parse_u64(begin, UINT64_MAX, &from)) return 0;
    if (range.length == 0) to = UINT64_MAX;
    else if (!parse_u64(range, UINT64_MAX, &to) || to < from) return 0;
    if (from >= size) return -1;
    *first = from;
    *length = (to < size ? to + 1 : size) - from;
    return 1;
}

/* The date of a header in seconds; false if it is none. Only the form that HTTP writes today. */
static bool http_date_parse(struct slice s, int64_t *seconds) {
    struct tm tm = {0};
    char text[64];
    if (!slice_copy(s, text, sizeof text)) return false;
    const char *end = strptime(text, "%a, %d %b %Y %H:%M:%S GMT", &tm);
    *seconds = end && !*end ? (int64_t)timegm(&tm) : 0;
    return end && !*end;
}

/* What the conditional headers make of a request for a file that is there: 0 to go on, or 304 or 412. */
static int http_condition(const struct http *h, const char *hex, int64_t mtime_ns) {
    struct slice match = http_header(h, "if-match"), none = http_header(h, "if-none-match");
    struct slice since = http_header(h, "if-modified-since"), unless = http_header(h, "if-unmodified-since");
    int64_t seconds;
    if (match.at && !http_tags_have(match, hex)) return 412;
    if (!match.at && unless.at && http_date_parse(unless, &seconds) && mtime_ns / 1000000000 > seconds) return 412;
    if (none.at) return http_tags_have(none, hex) ? 304 : 0;
    if (since.at && http_date_parse(since, &seconds) && mtime_ns / 1000000000 <= seconds) return 304;
    return 0;
}

/* Header lines about a file that goes out: how to save it, and that nothing in it may run. */
static void http_file_headers(struct http *h, const char *path, const char *type) {
    const char *name = strrchr(path, '/') + 1;
    struct text escaped = {0};
    bool uploaded = strncmp(path, "/" UPLOADS_NAME "/", strlen("/" UPLOADS_NAME "/")) == 0;
    if (uploaded && strlen(name) > 2 * TOKEN_BYTES + 1 && name[2 * TOKEN_BYTES] == '.') name += 2 * TOKEN_BYTES + 1;
    for (const char *at = name; *at; at++) {
        if (isalnum((uint8_t)*at) || strchr("-._", *at)) text_byte(&escaped, *at);
        else text_format(&escaped, "%%%02X", (uint8_t)*at);
    }
    http_add(h, "Content-Disposition: %s; filename*=UTF-8''%s", type ? "inline" : "attachment",
             escaped.data ? escaped.data : "");
    http_add(h, "Content-Security-Policy: sandbox; default-src 'none'; media-src 'self'; img-src 'self'");
    text_free(&escaped);
}

/* What a file is, freed by http_give_file. `id`: it must still be this one; 0: any. */
static enum status http_find_file(const char *path, uint64_t id, struct file_info **f) {
    enum status status = http_stat(path, f);
    if (status != DONE || (!(*f)->directory && (id == 0 || (*f)->id == id))) return status;
    status = (*f)->directory ? fail(WRONG_KIND, "'%s' is a directory; /api/list?path= lists it", shown(path))
                             : fail(NOT_FOUND, "the file was replaced this moment; try again");
    file_info_free(*f);
    return status;
}

/* Answers with a file, or a part of it. */
static void http_give_file(struct http *h, const char *path, struct file_info *f) {
    char hex[65] = "";
    struct text date = {0};
    uint64_t first = 0, length;
    hex_write(hex, f->sha256, 32);
    text_http_date(&date, f->mtime_ns);
    length = f->size;
    const char *type = http_type(path);
    http_add(h, "ETag: \"%s\"\r\nLast-Modified: %s\r\nAccept-Ranges: bytes\r\nCache-Control: no-cache", hex, date.data);
    if (f->old) http_add(h, "X-Dfs-Possibly-Old: 1");
    int code = http_condition(h, hex, f->mtime_ns);
    int range = code == 0 && !h->head_only ? http_range(h, f->size, hex, date.data, &first, &length) : 0;
    if (code == 412) {
        http_refuse(h, 412, fail(EXISTS, "the file is not the one that the request is about"));
    } else if (code == 304) {
        http_answer(h, 304, NULL, NULL, 0);
    } else if (range < 0) {
        http_add(h, "Content-Range: bytes */%" PRIu64, f->size);
        http_refuse(h, 416, fail(BAD_REQUEST, "the file has %" PRIu64 " bytes", f->size));
    } else {
        http_file_headers(h, path, type);
        if (range)
            http_add(h, "Content-Range: bytes %" PRIu64 "-%" PRIu64 "/%" PRIu64, first, first + length - 1, f->size);
        http_answer_head(h, range ? 206 : 200, type ? type : "application/octet-stream", length);
        if (h->head_only) http_send(h, NULL, 0, 0);
        else http_send_file(h, path, f, first, length);
    }
    text_free(&date);
    file_info_free(f);
}

/* Waits until uploads may hold so many bytes more in memory, which http_release gives back. A small one need not wait.
 * False: that took too long. */
static bool http_hold(struct http *h, size_t bytes) {
    enum { LOOK_AGAIN_MS = 20 };
    if (bytes <= HTTP_DRAIN_BYTES) return true;
    for (int64_t until_ms = clock_ms() + HTTP_STALL_MS;;) {
        if (atomic_fetch_add(&gateway.held, bytes) + bytes <= HTTP_HELD_MAX_BYTES) break;
        atomic_fetch_sub(&gateway.held, bytes);
        if (clock_ms() > until_ms) return false;
        sleep_ms(LOOK_AGAIN_MS);
    }
    h->held += bytes;
    return true;
}

static void http_release(struct http *h) {
    text_recycle(&h->form, 256 * KIB);
    atomic_fetch_sub(&gateway.held, h->held);
    h->held = 0;
    if (h->large_form) atomic_fetch_sub(&gateway.forms, 1);
    h->large_form = false;
}

/* A file that comes over HTTP: the next chunk of it is gathered in memory, in h->form. So a slow client, however many
 * there are, holds none of the buffers that a node needs for others. */
struct http_source {
    struct http *h;
    ssize_t (*take)(void *from, void *to, size_t length); /* fills `to`, less only at the end; -1: it is broken */
    void *from;
    bool ready, over; /* a chunk was gathered and not asked for; it is the last one */
};

static bool http_gather(struct http_source *s) {
    enum { PIECE_BYTES = 256 * 1024 };
    struct text *form = &s->h->form;
    text_clear(form);
    while (!s->over && form->length < CHUNK_MAX_BYTES) {
        size_t room = CHUNK_MAX_BYTES - form->length, want = room < PIECE_BYTES ? room : PIECE_BYTES;
        text_reserve(form, want);
        ssize_t got = s->take(s->from, form->data + form->length, want);
        if (got < 0) return false;
        form->length += (size_t)got;
        s->over = (size_t)got < want;
    }
    return s->ready = true;
}

/* For struct put. */
static ssize_t http_next(void *source, const uint8_t **at) {
    struct http_source *s = source;
    if (!s->ready && !http_gather(s)) return -1;
    s->ready = false;
    *at = (uint8_t *)s->h->form.data;
    return (ssize_t)s->h->form.length;
}

/* A master that this server has met may be being started again, and uploads wait for it. */
static struct client *http_uploads(void) {
    if (atomic_load(&gateway.client.met)) atomic_store(&gateway.uploads.met, true);
    return &gateway.uploads;
}

/* Stores what `take` gives as it comes: in constant memory, and as one whole new version or not at all. The memory is
 * waited for before anything is read, and kept until all of it is done. */
static enum status http_store(struct http *h, struct put *put, ssize_t (*take)(void *, void *, size_t), void *from) {
    struct http_source source = {.h = h, .take = take, .from = from};
    put->mtime_ns = clock_wall_ns();
    put->chunk_size = CHUNK_MAX_BYTES;
    put->alone = true;
    size_t most = h->chunked || h->left > CHUNK_MAX_BYTES ? CHUNK_MAX_BYTES : (size_t)h->left;
    if (!http_hold(h, most)) return fail(NO_SERVER, "too many uploads at once; try again");
    if (!http_gather(&source)) return BAD_REQUEST;
    if (!source.over) {
        put->pull = http_next;
        put->source = &source;
        return client_upload(http_uploads(), put, -1);
    }
    put->size = h->form.length;
    sha256_digest(h->form.data, h->form.length, put->sha256);
    return client_upload_small(http_uploads(), put, h->form.data, false);
}

/* What a file was stored as. */
static void http_stored(struct http *h, const struct put *put, bool fresh) {
    struct json_writer w;
    char hex[65] = "";
    hex_write(hex, put->sha256, 32);
    http_add(h, "ETag: \"%s\"", hex);
    json_start(&w);
    json_object(&w);
    json_path(&w, put->path);
    json_key_unsigned(&w, "size", put->size);
    json_key_string(&w, "sha256", hex);
    json_object_end(&w);
    http_answer_json(h, fresh ? 201 : 200, &w);
}

static void http_put_file(struct http *h, const char *path) {
    struct slice match = http_header(h, "if-match"), none = http_header(h, "if-none-match");
    struct file_info *f = NULL;
    char hex[65] = "";
    struct put put = {.path = path, .condition = "-"};
    if (!http_life(h, &put.life_s)) return;
    enum status status = client_stat(&gateway.client, path, &f);
    if (status == DONE && f->directory) status = fail(WRONG_KIND, "'%s' is a directory", shown(path));
    bool there = status == DONE;
    if (there) hex_write(hex, f->sha256, 32);
    if (f) file_info_free(f);
    if (status != DONE && status != NOT_FOUND) {
        http_fail(h, status);
        return;
    }
    if (there ? (none.at && http_tags_have(none, hex)) || (match.at && !http_tags_have(match, hex))
              : match.at != NULL) {
        http_refuse(h, 412,
                    fail(there ? EXISTS : NOT_FOUND, there ? "there is a file, and not the one that the request "
                                                             "is about"
                                                           : "there is no such file"));
        return;
    }
    if (match.at || (none.at && there)) put.condition = hex; /* it must still be that one when all is here */
    else if (none.at) put.condition = "none";
    status = http_store(h, &put, http_body_read, h);
    if (status == DONE) http_stored(h, &put, !there);
    else if ((status == EXISTS || status == NOT_FOUND) && *put.condition != '-') http_refuse(h, 412, status);
    else http_fail(h, status);
}

/* Header lines that would change what a request does, and that are not done: better refused than passed over. */
static const char *http_not_done(const struct http *h) {
    struct slice coding = http_header(h, "content-encoding");
    if (http_header(h, "content-range").at) return "Content-Range";
    if (coding.at && !slice_is_word(coding, "identity")) return "Content-Encoding";
    if (http_header(h, "if-unmodified-since").at) return "If-Unmodified-Since";
    if (slice_is(h->method, "DELETE") && (http_header(h, "if-match").at || http_header(h, "if-none-match").at))
        return "If-Match or If-None-Match with DELETE";
    return NULL;
}

static void http_files(struct http *h) {
    char path[PATH_MAX_BYTES + 1];
    const char *not_done = slice_is(h->method, "GET") ? NULL : http_not_done(h);
    if (not_done) {
        http_refuse(h, 400, fail(BAD_REQUEST, "%s is not done here; nothing was changed", not_done));
    } else if (path_normalize(h->path + 6, path) != DONE) {
        http_fail(h, BAD_REQUEST);
    } else if (slice_is(h->method, "GET")) {
        struct file_info *f;
        enum status status = http_find_file(path, 0, &f);
        if (status == DONE) http_give_file(h, path, f);
        else http_fail(h, status);
    } else if (slice_is(h->method, "PUT")) {
        http_put_file(h, path);
    } else {
        enum status status = client_change(&gateway.client, "RM", path);
        if (status == DONE) http_done(h, path);
        else http_fail(h, status);
    }
}

/* ---- The older interface: files by name, in base64 ---- */

static void http_legacy_put(struct http *h) {
    char name[PATH_MAX_BYTES + 1], path[PATH_MAX_BYTES + 1];
    char *text = NULL;
    uint8_t *bytes = NULL;
    size_t length = 0;
    struct put put = {.path = path, .condition = "none", .mtime_ns = clock_wall_ns(), .chunk_size = CHUNK_MAX_BYTES};
    struct memory_source source;
    if (!http_params(h, HTTP_FORM_MAX_BYTES) || http_param(h, "filename", name, sizeof name) < 0) return;
    text = mem_alloc(h->form.length + 1);
    int found = http_param(h, "file", text, h->form.length + 1);
    if (found < 0) goto out;
    for (char *at = text; *at; at++)
        if (*at == ' ') *at = '+'; /* as forms send it that are not careful */
    bytes = mem_alloc(strlen(text) + 1);
    enum status status = path_normalize(name, path);
    if (!*name || found == 0) status = fail(BAD_REQUEST, "'filename' and 'file' are to be sent");
    else if (status == DONE && !base64_decode(text, strlen(text), bytes, &length))
        status = fail(BAD_REQUEST, "'file' is no base64");
    source = (struct memory_source){bytes, length};
    put.pull = memory_next;
    put.source = &source;
    put.alone = true;
    put.size_hint = length;
    struct file_info *f = NULL;
    if (status == DONE && client_stat(&gateway.client, path, &f) == DONE) status = fail(EXISTS, "'%s' is there", path);
    if (f) file_info_free(f);
    if (status == DONE) status = client_upload(http_uploads(), &put, -1);
    if (status == DONE) status = client_stat(&gateway.client, path, &f);
    if (status == DONE) {
        struct json_writer w;
        char id[17];
        snprintf(id, sizeof id, "%016" PRIx64, f->id);
        json_start(&w);
        json_object(&w);
        json_key_string(&w, "filename", name);
        json_key_string(&w, "id", id);
        json_object_end(&w);
        file_info_free(f);
        http_answer_json(h, 200, &w);
    } else {
        http_fail(h, status);
    }
out:
    free(text);
    free(bytes);
}

/* Sends a file in base64, chunk by chunk; what does not fill three bytes waits for the next one. No buffer is held
 * while the client takes its time. */
static enum status http_send_base64(struct http *h, const char *path, struct file_info *f) {
    uint8_t carry[3];
    struct text t = {0};
    size_t kept = 0;
    enum status status = DONE;
    for (uint32_t i = 0; i < f->chunk_count && status == DONE; i++) {
        uint8_t *buffer = NULL;
        size_t at = 0, length = f->chunk[i].length;
        status = http_fetch(h, path, f, i, i, &buffer);
        while (status == DONE && kept > 0 && kept < 3 && at < length) carry[kept++] = buffer[at++];
        if (status == DONE && kept == 3) text_base64(&t, carry, 3), kept = 0;
        size_t whole = (length - at) / 3 * 3;
        if (status == DONE) text_base64(&t, buffer + at, whole);
        for (at += whole; status == DONE && at < length; at++) carry[kept++] = buffer[at];
        buffer_give(buffer);
        if (status == DONE) status = http_send(h, t.data ? t.data : "", t.length, 0);
        text_clear(&t);
    }
    if (status == DONE && kept > 0) {
        text_base64(&t, carry, kept);
        status = http_send(h, t.data, t.length, 0);
    }
    text_free(&t);
    return status;
}

static void http_legacy_one(struct http *h) {
    char path[PATH_MAX_BYTES + 1];
    const char *name = h->path + 6;
    struct file_info *f = NULL;
    enum status status = path_normalize(name, path);
    if (status == DONE) status = client_stat(&gateway.client, path, &f);
    if (status == DONE && f->directory) status = fail(WRONG_KIND, "'%s' is a directory", shown(path));
    if (status == DONE && slice_is(h->method, "DELETE")) status = client_change(&gateway.client, "RM", path);
    struct json_writer w;
    json_start(&w);
    json_object(&w);
    json_key_string(&w, "filename", name);
    if (status != DONE) {
        http_fail(h, status);
    } else if (slice_is(h->method, "DELETE")) {
        json_object_end(&w);
        http_answer_json(h, 200, &w);
        w = (struct json_writer){0};
    } else { /* {"filename":"...","id":"...","file":" and the end are around what is sent piece by piece */
        char id[17];
        snprintf(id, sizeof id, "%016" PRIx64, f->id);
        json_key_string(&w, "id", id);
        json_key_string(&w, "file", "");
        size_t front = w.length - 1;
        http_add(h, "Cache-Control: no-store");
        http_answer_head(h, 200, "application/json", front + (f->size + 2) / 3 * 4 + 2);
        text_bytes(&h->c->out, w.data, front);
        if (h->head_only) h->c->out.length -= front;
        else status = http_send_base64(h, path, f);
        if (status == DONE) status = h->head_only ? http_send(h, NULL, 0, 0) : http_send(h, "\"}", 2, 0);
        if (status != DONE) http_break_off(h, path, status);
    }
    json_free(&w);
    if (f) file_info_free(f);
}

/* ---- Links, and uploads as a form sends them ---- */

static void http_download(struct http *h) {
    struct share_row found = {0};
    const char *token = h->path + strlen("/download/");
    uint8_t bytes[TOKEN_BYTES];
    h->stranger = !http_has_key(h);
    struct file_info *f = NULL;
    enum status status = fail(NOT_FOUND, "a link has %d hexadecimal digits", 2 * TOKEN_BYTES);
    bool again = parse_hex(slice_of(token), bytes, TOKEN_BYTES);
    for (int64_t begun_ms = clock_ms(); again;) {
        status = client_shared(&gateway.client, token, &found);
        if (status != DONE) break;
        status = http_find_file(found.path, found.id, &f);
        again = (status == NOT_FOUND || status == WRONG_KIND) && clock_ms() - begun_ms < HTTP_RETRY_MS;
        if (again) sleep_ms(LINK_AGAIN_MS); /* it was replaced or renamed between the two: the link is with the next */
    }
    if (status == DONE) http_give_file(h, found.path, f);
    else http_fail(h, status);
}

enum { FORM_WINDOW_BYTES = 65536, FORM_FIELD_MAX_BYTES = 4096, FORM_MARK_MAX_BYTES = 70 };

/* A body of multipart/form-data (RFC 7578, RFC 2046) while it is read. */
struct form {
    struct http *h;
    char mark[FORM_MARK_MAX_BYTES + 5]; /* CR LF -- and the boundary, with which a part ends */
    size_t mark_length;
    uint8_t window[FORM_WINDOW_BYTES]; /* what was read and not taken: from start to end */
    size_t start, end;
    bool part_over;
    char name[64], file[PATH_MAX_BYTES + 1]; /* of the part; file: "" if it is a field */
};

/* Reads more into the window. False: there is no more, or no room for it. */
static bool form_fill(struct form *f) {
    memmove(f->window, f->window + f->start, f->end - f->start);
    f->end -= f->start;
    f->start = 0;
    size_t got = 0, room = sizeof f->window - f->end;
    if (room == 0 || http_body_some(f->h, f->window + f->end, room, &got) != DONE) return false;
    f->end += got;
    return got > 0;
}

/* Fills `to` from the part that is being read, less only at its end. -1: the body is broken. For http_store. */
static ssize_t form_read(void *form, void *to, size_t length) {
    struct form *f = form;
    size_t have = 0;
    while (have < length && !f->part_over) {
        const uint8_t *at = f->window + f->start;
        size_t ready = f->end - f->start;
        const uint8_t *mark = memmem(at, ready, f->mark, f->mark_length), *behind = mark ? mark + f->mark_length : NULL;
        if (behind && at + ready - behind < 2) mark = behind = NULL; /* what follows is not here yet */
        if (behind && memcmp(behind, "--", 2) != 0 && memcmp(behind, "\r\n", 2) != 0) {
            http_body_is_bad(f->h, "the form's boundary in the middle of a line");
            return -1;
        }
        if (mark) ready = (size_t)(mark - at);
        else ready = ready < f->mark_length + 2 ? 0 : ready - f->mark_length - 1; /* behind that a mark may begin */
        if (ready > length - have) ready = length - have;
        else f->part_over = mark != NULL;
        memcpy((uint8_t *)to + have, at, ready);
        have += ready;
        f->start += ready + (f->part_over ? f->mark_length : 0);
        if (f->part_over || ready > 0 || form_fill(f)) continue;
        if (!f->h->body_bad) http_body_is_bad(f->h, "the form ends in the middle of a part");
        return -1;
    }
    return (ssize_t)have;
}

/* The value of a parameter in a header line of a part: a word, or in quotes, where a backslash before a byte stands for
 * that byte, and %22 for the quote, as browsers write it. False: it is not there, or too long. */
static bool form_word(struct slice line, const char *name, char *to, size_t capacity) {
    const char *at = memchr(line.at, ';', line.length), *end = line.at + line.length;
    while (at && at < end) {
        while (at < end && strchr("; \t", *at)) at++;
        struct slice word = {at, 0};
        while (at < end && *at != '=' && *at != ';') at++, word.length++;
        bool meant = slice_is_word(slice_trimmed(word), name), quoted = end - at > 1 && at[1] == '"';
        size_t used = 0;
        for (at += quoted ? 2 : 1; at < end && *at != (quoted ? '"' : ';') && used + 1 < capacity; at++) {
            bool quote = quoted && end - at > 2 && memcmp(at, "%22", 3) == 0;
            if (quote) at += 2;
            else if (quoted && *at == '\\' && end - at > 1 && (at[1] == '"' || at[1] == '\\')) at++;
            to[used++] = quote ? '"' : *at;
        }
        to[used] = 0;
        if (meant) return quoted ? at < end && *at == '"' : at >= end || *at == ';';
        if (at < end && quoted) at++;
    }
    *to = 0;
    return false;
}

/* Goes on to the next part and reads its head. False at the end, or if the body is broken, which h->body_bad says. */
static bool form_next(struct form *f) {
    static const char disposition[] = "content-disposition:";
    struct slice head, line;
    const uint8_t *end;
    while (f->end - f->start < 2)
        if (!form_fill(f)) return http_body_is_bad(f->h, "the form ends without its last mark"), false;
    bool last = memcmp(f->window + f->start, "--", 2) == 0;
    if (last) return false;
    for (;;) {
        size_t ready = f->end - f->start;
        end = memmem(f->window + f->start, ready < FORM_FIELD_MAX_BYTES ? ready : FORM_FIELD_MAX_BYTES, "\r\n\r\n", 4);
        if (end) break;
        if (ready >= FORM_FIELD_MAX_BYTES || !form_fill(f))
            return http_body_is_bad(f->h, "a part of the form without a head of at most 4 KiB"), false;
    }
    head = (struct slice){(char *)f->window + f->start, (size_t)(end - f->window) - f->start + 2};
    f->start += head.length + 2;
    f->part_over = false;
    *f->name = *f->file = 0;
    if (head.length < 2 || memcmp(head.at, "\r\n", 2) != 0 || memchr(head.at, 0, head.length))
        return http_body_is_bad(f->h, "a mark of the form without CR and LF behind it, or NUL in a part's head"), false;
    while (slice_line(&head, &line)) {
        if (line.length <= strlen(disposition) || strncasecmp(line.at, disposition, strlen(disposition)) != 0) continue;
        struct slice rest = {line.at + strlen(disposition), line.length - strlen(disposition)}, kind;
        slice_part(&rest, ';', &kind);
        if (!slice_is_word(slice_trimmed(kind), "form-data")) continue;
        if (!form_word(line, "name", f->name, sizeof f->name)) *f->name = 0;
        char full[PATH_MAX_BYTES + 1];
        if (!form_word(line, "filename", full, sizeof full) || !*full) continue; /* "": no file was chosen */
        const char *slash = strrchr(full, '/'); /* some send the path that it had */
        snprintf(f->file, sizeof f->file, "%s", slash ? slash + 1 : full);
        if (!*f->file) snprintf(f->file, sizeof f->file, "file");
    }
    return true;
}

/* Begins to read a form. False: the body is none, and that was answered. */
static bool form_begin(struct form *f, struct http *h) {
    struct slice type = http_header(h, "content-type"), part;
    f->h = h;
    f->mark_length = 0;
    f->start = f->end = 0;
    bool form = slice_part(&type, ';', &part) && slice_is_word(slice_trimmed(part), "multipart/form-data");
    while (form && slice_part(&type, ';', &part)) {
        part = slice_trimmed(part);
        if (part.length < 10 || strncasecmp(part.at, "boundary=", 9) != 0) continue;
        part = (struct slice){part.at + 9, part.length - 9};
        if (part.length > 2 && *part.at == '"' && part.at[part.length - 1] == '"')
            part = (struct slice){part.at + 1, part.length - 2};
        if (part.length <= FORM_MARK_MAX_BYTES)
            f->mark_length = (size_t)snprintf(f->mark, sizeof f->mark, "\r\n--%.*s", (int)part.length, part.at);
    }
    if (f->mark_length == 0) {
        http_refuse(h, 415, fail(BAD_REQUEST, "the body is to be multipart/form-data with a boundary; PUT /files/PATH "
                                              "takes a file as it is"));
        return false;
    }
    memcpy(f->window, "\r\n", 2); /* as before all marks but the first */
    f->end = 2;
    while (f->end < f->mark_length && form_fill(f)) continue;
    if (f->end >= f->mark_length && memcmp(f->window, f->mark, f->mark_length) == 0) {
        f->start = f->mark_length;
        return true;
    }
    http_refuse(h, 400, http_body_is_bad(h, "the form does not begin with its boundary"));
    return false;
}

/* Reads a field; the value of `expire` goes into h->form, as a pair of a form, all others nowhere. */
static enum status form_field(struct form *f) {
    char value[FORM_FIELD_MAX_BYTES + 1];
    ssize_t length = form_read(f, value, sizeof value);
    if (length < 0) return BAD_REQUEST;
    if (length > FORM_FIELD_MAX_BYTES) return http_body_is_bad(f->h, "a field of more than 4 KiB in the form");
    if (strcmp(f->name, "expire") != 0) return DONE;
    text_clear(&f->h->form);
    text_format(&f->h->form, "expire=%.*s", (int)length, value);
    return DONE;
}

/* The path that an upload gets. */
static enum status upload_path(const char *token, const char *name, char path[PATH_MAX_BYTES + 1]) {
    char raw[2 * PATH_MAX_BYTES];
    if (strlen(name) > NAME_MAX_BYTES - 2 * TOKEN_BYTES - 1)
        return fail(BAD_REQUEST, "the name of the file has more than %d bytes", NAME_MAX_BYTES - 2 * TOKEN_BYTES - 1);
    snprintf(raw, sizeof raw, "/" UPLOADS_NAME "/%s.%s", token, name);
    return path_normalize(raw, path);
}

/* POST /upload: the first file of a form is stored, and gets a link, whose token is answered as its id. */
static void http_form_upload(struct http *h) {
    char token[2 * TOKEN_BYTES + 1], path[PATH_MAX_BYTES + 1], hex[65] = "";
    struct put put = {.path = path, .condition = "none"};
    struct form *f = mem_alloc(sizeof *f);
    struct json_writer w;
    token_make(token);
    if (!form_begin(f, h)) goto out;
    enum status status = DONE;
    bool found = false;
    while (status == DONE && !found && form_next(f)) {
        found = *f->file != 0;
        if (!found) status = form_field(f);
    }
    if (h->body_bad) status = BAD_REQUEST; /* the detail says why */
    if (status == DONE && !found) status = fail(BAD_REQUEST, "the form has no file in it");
    if (status == DONE) status = upload_path(token, f->file, path);
    if (status == DONE && !http_life(h, &put.life_s)) goto out;
    if (status == DONE) status = http_store(h, &put, form_read, f);
    if (status == DONE && (status = client_share(&gateway.client, path, 0, token)) != DONE) { /* nobody would find it */
        char why[DETAIL_BYTES];
        memcpy(why, detail, sizeof why);
        client_change(&gateway.client, "RM", path);
        fail(status, "%s", why);
    }
    if (status != DONE) {
        http_fail(h, status);
        goto out;
    }
    hex_write(hex, put.sha256, 32);
    json_start(&w);
    json_object(&w);
    json_key_string(&w, "id", token);
    json_key_string(&w, "filename", f->file);
    json_path(&w, path);
    json_key_unsigned(&w, "size", put.size);
    json_key_string(&w, "sha256", hex);
    char link[64];
    snprintf(link, sizeof link, "/download/%s", token);
    json_key_string(&w, "link", link);
    json_object_end(&w);
    http_answer_json(h, 201, &w);
out:
    free(f);
}

/* ---- Chunks, on nodes ---- */

static bool http_on_node(struct http *h) {
    if (strcmp(server.role, "node") == 0 && node.store.formatted) return true;
    http_refuse(h, 404, fail(NOT_FOUND, "chunks are on nodes; /active-nodes lists them"));
    return false;
}

static void http_chunk_get(struct http *h) {
    struct chunk_info chunk = {.length = 0};
    struct found found;
    if (!http_on_node(h)) return;
    if (!parse_hex(slice_of(h->path + 7), chunk.hash, 32)) {
        http_refuse(h, 400, fail(BAD_REQUEST, "a chunk is named by 64 hexadecimal digits"));
        return;
    }
    enum status status = store_find(&node.store, chunk.hash, &found);
    if (status == DONE) {
        chunk.length = found.length;
        store_release(&node.store, &found);
        http_add(h, "Cache-Control: no-cache\r\nETag: \"%s\"", h->path + 7);
        http_answer_head(h, 200, "application/octet-stream", chunk.length);
        for (int tries = 0; tries == 0 || (status == NOT_FOUND && tries < 3); tries++) /* it may just have been moved */
            status = http_send_local(h, &chunk, 0, h->head_only ? 0 : chunk.length);
        if (status == NOT_FOUND) fail(NOT_FOUND, "the chunk is not here any more");
        if (status == DONE) status = http_send(h, NULL, 0, 0);
        if (status != DONE) http_break_off(h, h->path, status);
    } else {
        http_fail(h, status);
    }
}

static void http_chunk_post(struct http *h) {
    struct slice said = http_header(h, "x-dfs-sha256");
    uint8_t hash[32], digest[32];
    if (!http_on_node(h)) return;
    if ((!said.at && !form_find(h->query, "sha256", &said)) || !parse_hex(said, hash, 32)) {
        http_refuse(h, 400, fail(BAD_REQUEST, "X-Dfs-Sha256, or ?sha256=, has the chunk's hash in 64 digits"));
        return;
    }
    if (!h->chunked && h->left > CHUNK_MAX_BYTES) {
        http_refuse(h, 413, fail(BAD_REQUEST, "a chunk has at most %u bytes", (unsigned)CHUNK_MAX_BYTES));
        return;
    }
    if (!http_form_read(h, CHUNK_MAX_BYTES)) return;
    size_t got = h->form.length;
    enum status status = got == 0 ? fail(BAD_REQUEST, "a chunk has at least one byte") : DONE;
    if (status == DONE) sha256_digest(h->form.data, got, digest);
    if (status == DONE && memcmp(digest, hash, 32) != 0)
        status = fail(DAMAGED, "the chunk is not what its hash says; send it again");
    if (status == DONE) status = store_put(&node.store, hash, h->form.data, got);
    if (status == DONE) {
        struct json_writer w;
        report_add("new", hash, got);
        json_start(&w);
        json_object(&w);
        json_sha256(&w, "sha256", hash);
        json_key_unsigned(&w, "size", got);
        json_object_end(&w);
        http_answer_json(h, 201, &w);
    } else {
        http_refuse(h, status == DAMAGED ? 400 : status_table[status].http, status);
    }
}

/* ---- What the cluster says ---- */

/* Asks for a verb whose answer has a body. */
static enum status http_ask(const char *words, struct answer *a) {
    struct text line = {0};
    text_add(&line, words);
    enum status status = client_ask(&gateway.client, &line, NULL, false, true, a);
    text_free(&line);
    return status;
}

/* The status of the cluster and its nodes, as an object. */
static enum status http_status(struct json_writer *w) {
    struct answer status_answer = {0}, nodes_answer = {0};
    enum status status = http_ask("STATUS", &status_answer);
    if (status == DONE) status = http_ask("NODES", &nodes_answer);
    if (status == DONE) json_status(w, &status_answer, &nodes_answer);
    answer_free(&status_answer);
    answer_free(&nodes_answer);
    return status;
}

static void api_status(struct http *h) {
    struct json_writer w;
    json_start(&w);
    enum status status = http_status(&w);
    if (status == DONE) {
        http_answer_json(h, 200, &w);
    } else {
        json_free(&w);
        http_fail(h, status);
    }
}

struct api_rows {
    struct json_writer w;
    const char *folder, *glob;
};

static void api_row(void *context, const char *path, const struct list_row *row) {
    struct api_rows *rows = context;
    if (!rows->glob || fnmatch(rows->glob, row->name, 0) == 0) json_row(&rows->w, path, row);
}

static void api_entry(void *context, const struct list_row *row) {
    struct api_rows *rows = context;
    char *path = path_join(rows->folder, row->name);
    api_row(rows, row->itself ? rows->folder : path, row);
    free(path);
}

static void api_rows_answer(struct http *h, struct api_rows *rows, enum status status) {
    json_array_end(&rows->w);
    if (status == DONE) {
        http_answer_json(h, 200, &rows->w);
        return;
    }
    json_free(&rows->w);
    http_fail(h, status);
}

static void api_list(struct http *h) {
    char path[PATH_MAX_BYTES + 1], glob[NAME_MAX_BYTES + 1], recursive[8];
    struct api_rows rows = {.folder = path};
    if (!http_param_path(h, "path", "/", path) || http_param(h, "recursive", recursive, sizeof recursive) < 0) return;
    int found = http_param(h, "glob", glob, sizeof glob);
    if (found < 0) return;
    if (found > 0) rows.glob = glob;
    json_start(&rows.w);
    json_array(&rows.w);
    bool all = found > 0 || strcmp(recursive, "1") == 0;
    api_rows_answer(h, &rows, all ? client_walk(&gateway.client, path, NULL, api_row, &rows)
                                  : client_list(&gateway.client, path, NULL, api_entry, &rows));
}

/* The nodes' names by their ids, for one answer. */
struct api_names {
    struct node_row *row;
    int count;
    char unknown[17];
};

static const char *api_name(void *context, uint64_t id) {
    struct api_names *names = context;
    for (int i = 0; i < names->count; i++)
        if (names->row[i].id == id) return names->row[i].name;
    snprintf(names->unknown, sizeof names->unknown, "%016" PRIx64, id);
    return names->unknown;
}

static void api_stat(struct http *h) {
    char path[PATH_MAX_BYTES + 1];
    struct file_info *f;
    struct answer nodes = {0};
    struct api_names names = {.count = 0};
    struct json_writer w;
    struct slice row;
    if (!http_param_path(h, "path", NULL, path)) return;
    enum status status = client_stat(&gateway.client, path, &f);
    if (status != DONE) {
        http_fail(h, status);
        return;
    }
    names.row = mem_alloc(2 * NODES_MAX * sizeof *names.row);
    if (http_ask("NODES", &nodes) == DONE) {
        struct slice rest = {nodes.body.data, nodes.body.length};
        while (names.count < 2 * NODES_MAX && slice_line(&rest, &row))
            names.count += node_row_parse(row, &names.row[names.count]);
    }
    json_start(&w);
    json_stat(&w, path, f, api_name, &names);
    http_answer_json(h, 200, &w);
    file_info_free(f);
    free(names.row);
    answer_free(&nodes);
}

static void api_usage(struct http *h) {
    char path[PATH_MAX_BYTES + 1];
    struct api_rows rows = {.folder = path};
    if (!http_param_path(h, "path", "/", path)) return;
    json_start(&rows.w);
    json_array(&rows.w);
    api_rows_answer(h, &rows, usage_of(&gateway.client, path, json_usage, &rows.w));
}

static void api_trash(struct http *h) {
    struct api_rows rows = {.folder = "/"};
    json_start(&rows.w);
    json_array(&rows.w);
    api_rows_answer(h, &rows, client_trash(&gateway.client, json_trash_row, &rows.w));
}

static void api_events(struct http *h) {
    char after[24], words[64];
    struct api_rows rows = {.folder = "/"};
    struct answer a = {0};
    uint64_t number = 0;
    struct slice row;
    int found = http_param(h, "after", after, sizeof after);
    if (found < 0) return;
    if (found > 0 && !parse_u64(slice_of(after), UINT64_MAX, &number)) {
        http_refuse(h, 400, fail(BAD_REQUEST, "'after' is the number of an event"));
        return;
    }
    snprintf(words, sizeof words, "EVENTS %" PRIu64 " 0", number);
    json_start(&rows.w);
    json_array(&rows.w);
    enum status status = http_ask(words, &a);
    struct slice rest = {a.body.data, a.body.length};
    while (status == DONE && slice_line(&rest, &row)) json_event(&rows.w, row);
    api_rows_answer(h, &rows, status);
    answer_free(&a);
}

static void api_share_row(void *context, const struct share_row *row) {
    struct api_rows *rows = context;
    char link[64];
    snprintf(link, sizeof link, "/download/%s", row->token);
    json_share(&rows->w, row, link);
}

static void api_shares(struct http *h) {
    struct api_rows rows = {.folder = "/"};
    json_start(&rows.w);
    json_array(&rows.w);
    api_rows_answer(h, &rows, client_shares(&gateway.client, api_share_row, &rows));
}

/* ---- What changes the cluster ---- */

static void api_share(struct http *h) {
    struct share_row made;
    struct api_rows rows = {.folder = "/"};
    uint32_t life_s;
    if (!http_params(h, HTTP_DRAIN_BYTES) || !http_param_path(h, "path", NULL, made.path) || !http_life(h, &life_s))
        return;
    enum status status = client_share_new(&gateway.client, &made, life_s);
    if (status != DONE) {
        http_fail(h, status);
        return;
    }
    json_start(&rows.w);
    api_share_row(&rows, &made);
    http_answer_json(h, 201, &rows.w);
}

static void api_changed(struct http *h, const char *path, enum status status) {
    if (status == DONE) http_done(h, path);
    else http_fail(h, status);
}

static void api_path_change(struct http *h) {
    char path[PATH_MAX_BYTES + 1];
    if (http_params(h, HTTP_DRAIN_BYTES) && http_param_path(h, "path", NULL, path))
        api_changed(h, path, client_change(&gateway.client, h->verb, path));
}

static void api_remove(struct http *h) {
    char path[PATH_MAX_BYTES + 1], recursive[8];
    if (!http_params(h, HTTP_DRAIN_BYTES) || !http_param_path(h, "path", NULL, path) ||
        http_param(h, "recursive", recursive, sizeof recursive) < 0)
        return;
    bool all = strcmp(recursive, "1") == 0;
    api_changed(h, path, all ? client_remove_all(&gateway.client, path) : client_change(&gateway.client, "RM", path));
}

static void api_move_or_copy(struct http *h) {
    char from[PATH_MAX_BYTES + 1], to[PATH_MAX_BYTES + 1];
    if (http_params(h, HTTP_DRAIN_BYTES) && http_param_path(h, "from", NULL, from) &&
        http_param_path(h, "to", NULL, to))
        api_changed(h, to, move_once(&gateway.client, h->verb, from, to));
}

static void api_unshare(struct http *h) {
    char path[PATH_MAX_BYTES + 1], token[2 * TOKEN_BYTES + 1];
    if (!http_params(h, HTTP_DRAIN_BYTES) || !http_param_path(h, "path", NULL, path)) return;
    int found = http_param(h, "token", token, sizeof token);
    if (found >= 0) api_changed(h, path, client_unshare(&gateway.client, path, found > 0 ? token : NULL));
}

static void api_copies(struct http *h) {
    char path[PATH_MAX_BYTES + 1], value[16];
    int number;
    struct text line = {0};
    struct answer a = {0};
    if (!http_params(h, HTTP_DRAIN_BYTES) || !http_param_path(h, "path", NULL, path) ||
        http_param(h, "copies", value, sizeof value) < 0)
        return;
    enum status status = fail(BAD_REQUEST, "'copies' is all, a number from 1 to %d, or -", NODES_MAX);
    if (strcmp(value, "-") == 0 || parse_copies(slice_of(value), &number)) {
        change_line(&line, "COPIES", path);
        text_format(&line, " %s", value);
        status = client_ask(&gateway.client, &line, NULL, true, false, &a);
    }
    api_changed(h, path, status);
    text_free(&line);
    answer_free(&a);
}

static void api_member(struct http *h) {
    char name[LABEL_MAX_BYTES + 1], cancel[8];
    if (!http_params(h, HTTP_DRAIN_BYTES) || http_param(h, "node", name, sizeof name) < 0 ||
        http_param(h, "cancel", cancel, sizeof cancel) < 0)
        return;
    const char *argument = strcmp(h->verb, "DRAIN") != 0 ? NULL : strcmp(cancel, "1") == 0 ? "0" : "1";
    if (!*name) http_refuse(h, 400, fail(BAD_REQUEST, "'node' is missing"));
    else api_changed(h, name, member_ask(&gateway.client, h->verb, name, argument));
}

/* ---- Live: server-sent events ---- */

enum { LIVE_EVENTS = 200 };

/* What all pages that are open are told; looked up by whoever finds it old, once for all. */
static struct {
    struct lock lock;
    struct text status;
    int64_t asked_ms;
    bool asking;
    char master[17];
    uint64_t next;              /* the first event that is not here yet */
    char *event[LIVE_EVENTS];   /* a ring, of event_total ever */
    uint64_t event_total;
} feed;

static void live_events(const struct answer *a) {
    struct slice rest = {a->body.data, a->body.length}, row;
    while (slice_line(&rest, &row)) {
        struct json_writer w;
        json_start(&w);
        json_event(&w, row);
        char **place = &feed.event[feed.event_total++ % LIVE_EVENTS];
        free(*place);
        *place = json_done(&w) ? strdup(w.data) : NULL;
        json_free(&w);
    }
}

/* Looks what is new, if that is some time ago. */
static void live_look(void) {
    struct json_writer w;
    struct answer events = {0};
    char words[64];
    lock_take(&feed.lock);
    bool look = !feed.asking && clock_ms() - feed.asked_ms >= HTTP_LIVE_MS;
    if (look) feed.asking = true;
    snprintf(words, sizeof words, "EVENTS %" PRIu64 " 0", feed.next);
    lock_drop(&feed.lock);
    if (!look) return;
    json_start(&w);
    enum status status = http_status(&w), heard = http_ask(words, &events);
    if (status != DONE) {
        json_free(&w);
        json_start(&w);
        json_object(&w);
        json_key_string(&w, "state", "no master");
        json_key_string(&w, "why", detail);
        json_object_end(&w);
    }
    lock_take(&feed.lock);
    text_clear(&feed.status);
    if (json_done(&w)) text_bytes(&feed.status, w.data, w.length);
    if (heard == DONE && events.w.count == 5) {
        bool other = !slice_is(events.w.word[1], feed.master);
        slice_copy(events.w.word[1], feed.master, sizeof feed.master);
        if (other && feed.next > 0) feed.next = 0; /* another master begins with its first event */
        else if (parse_u64(events.w.word[2], UINT64_MAX, &feed.next)) live_events(&events);
    }
    feed.asked_ms = clock_ms();
    feed.asking = false;
    lock_drop(&feed.lock);
    json_free(&w);
    answer_free(&events);
}

static void api_live(struct http *h) {
    uint64_t seen = 0;
    int64_t told_ms = 0;
    http_add(h, "Cache-Control: no-store");
    http_answer_head(h, 200, "text/event-stream", UINT64_MAX);
    if (h->head_only) {
        http_send(h, NULL, 0, 0);
        return;
    }
    text_add(&h->c->out, "retry: 1000\n\n");
    for (;;) {
        live_look();
        struct text *t = &h->c->out;
        lock_take(&feed.lock);
        if (feed.event_total > seen + LIVE_EVENTS) seen = feed.event_total - LIVE_EVENTS;
        for (; seen < feed.event_total; seen++)
            if (feed.event[seen % LIVE_EVENTS])
                text_format(t, "event: event\ndata: %s\n\n", feed.event[seen % LIVE_EVENTS]);
        if (feed.asked_ms != told_ms && feed.status.length > 0) {
            told_ms = feed.asked_ms;
            text_format(t, "event: status\ndata: %s\n\n", feed.status.data);
        }
        lock_drop(&feed.lock);
        http_pace_begin(h);
        if (http_send(h, NULL, 0, 0) != DONE) return;
        sleep_ms(HTTP_LIVE_MS / 2);
        if (atomic_load(&stop_signal) != 0) return;
    }
}

/* ---- For operators ---- */

static void http_healthz(struct http *h) {
    struct answer a = {0};
    enum status status = http_ask("STATUS", &a);
    struct slice state = row_value(&a, "state");
    http_add(h, "Cache-Control: no-store");
    struct text t = {0};
    if (status == DONE) text_bytes(&t, state.at, state.length);
    else text_add(&t, status_table[status].word);
    text_byte(&t, '\n');
    bool good = status == DONE && !slice_is(state, "read-only");
    http_answer(h, good ? 200 : 503, "text/plain; charset=utf-8", t.data, t.length);
    text_free(&t);
    answer_free(&a);
}

/* A label's value in the text format of Prometheus. */
static void text_label(struct text *t, const char *value) {
    struct text safe = {0};
    text_display(&safe, value, strlen(value));
    for (size_t i = 0; i < safe.length; i++) {
        if (safe.data[i] == '"' || safe.data[i] == '\\') text_byte(t, '\\');
        text_byte(t, safe.data[i]);
    }
    text_free(&safe);
}

static void http_metrics(struct http *h) {
    static const char *const numbers[] = {"epoch", "seq", "files", "directories", "bytes", "chunks", "copies_missing",
                                          "bytes_missing", "unavailable_chunks", "orders", "copied_bytes", "copy_rate",
                                          "connections", "requests", "refused"};
    struct answer status_answer = {0}, nodes = {0};
    struct text t = {0};
    struct node_row n;
    struct slice row;
    uint64_t value;
    enum status status = http_ask("STATUS", &status_answer);
    if (status == DONE) status = http_ask("NODES", &nodes);
    text_format(&t, "# TYPE dfs_up gauge\ndfs_up %d\n", status == DONE);
    struct slice state = row_value(&status_answer, "state");
    static const char *const states[] = {"healthy", "healing", "degraded", "read-only"};
    text_add(&t, "# TYPE dfs_state gauge\n");
    for (size_t i = 0; status == DONE && i < sizeof states / sizeof *states; i++)
        text_format(&t, "dfs_state{state=\"%s\"} %d\n", states[i], slice_is(state, states[i]));
    for (size_t i = 0; status == DONE && i < sizeof numbers / sizeof *numbers; i++)
        if (parse_u64(row_value(&status_answer, numbers[i]), UINT64_MAX, &value))
            text_format(&t, "# TYPE dfs_%s gauge\ndfs_%s %" PRIu64 "\n", numbers[i], numbers[i], value);
    static const char *const keys[] = {"up", "files", "chunks", "bytes", "free_bytes"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        struct slice rest = {nodes.body.data, nodes.body.length};
        text_format(&t, "# TYPE dfs_node_%s gauge\n", keys[i]);
        while (status == DONE && slice_line(&rest, &row)) {
            if (!node_row_parse(row, &n)) continue;
            bool up = strcmp(n.state, "down") != 0 && strcmp(n.state, "failed") != 0;
            const uint64_t values[] = {up, n.files, n.chunks, n.bytes, n.free_bytes};
            text_format(&t, "dfs_node_%s{node=\"", keys[i]);
            text_label(&t, n.name);
            text_format(&t, "\"} %" PRIu64 "\n", values[i]);
        }
    }
    http_add(h, "Cache-Control: no-store");
    http_answer(h, 200, "text/plain; version=0.0.4; charset=utf-8", t.data, t.length);
    text_free(&t);
    answer_free(&status_answer);
    answer_free(&nodes);
}

static void http_active_nodes(struct http *h) {
    struct api_rows rows = {.folder = "/"};
    struct answer nodes = {0};
    struct node_row n;
    struct slice row;
    enum status status = http_ask("NODES", &nodes);
    struct slice rest = {nodes.body.data, nodes.body.length};
    json_start(&rows.w);
    json_array(&rows.w);
    while (status == DONE && slice_line(&rest, &row)) {
        if (!node_row_parse(row, &n) || strcmp(n.state, "down") == 0 || strcmp(n.state, "failed") == 0) continue;
        json_object(&rows.w);
        json_key_string(&rows.w, "name", n.name);
        json_key_string(&rows.w, "id", n.id_text);
        json_key_string(&rows.w, "address", n.address);
        json_object_end(&rows.w);
    }
    api_rows_answer(h, &rows, status);
    answer_free(&nodes);
}

/* ---- The page's key ---- */

static void http_login(struct http *h) {
    char key[2 * KEY_BYTES + 8], hex[65];
    if (!http_params(h, 4096) || http_param(h, "key", key, sizeof key) < 0) return;
    size_t end = strlen(key);
    while (end > 0 && strchr(" \r\n\t", key[end - 1])) key[--end] = 0;
    bool right = !cluster_key.set || http_key_is_right(slice_of(key));
    explicit_bzero(key, sizeof key);
    explicit_bzero(h->form.data, h->form.length);
    if (!right) {
        log_line("refused a wrong key from %s over HTTP", h->c->peer);
        http_refuse(h, 403, fail(DENIED, "that is not the key of this cluster"));
        return;
    }
    uint64_t until = http_today() + HTTP_SESSION_DAYS;
    if (cluster_key.set) {
        http_session(until, hex);
        http_add(h, "Set-Cookie: dfs=%" PRIu64 ".%s; HttpOnly; SameSite=Strict; Path=/; Max-Age=%d", until, hex,
                 HTTP_SESSION_DAYS * 86400);
    }
    http_done(h, "/");
}

static void http_logout(struct http *h) {
    http_add(h, "Set-Cookie: dfs=; HttpOnly; SameSite=Strict; Path=/; Max-Age=0");
    http_done(h, "/");
}

static void http_page(struct http *h) {
    bool script = strcmp(h->path, "/app.js") == 0, style = strcmp(h->path, "/app.css") == 0;
    const char *body = script ? page_script : style ? page_style : page_html;
    http_add(h, "Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
                "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'");
    http_add(h, "Cache-Control: no-cache");
    http_answer(h, 200, script ? "text/javascript; charset=utf-8" : style ? "text/css; charset=utf-8"
                                                                          : "text/html; charset=utf-8",
                body, strlen(body));
}

/* ---- Routes ---- */

enum access {
    FOR_ALL,       /* nothing in it is secret */
    FOR_READERS,
    FOR_WRITERS,
    FOR_OPERATORS  /* readers, or all if --open-metrics says so */
};

static void http_help(struct http *h);

static const struct route {
    const char *method, *path; /* one that ends in a slash stands for all below it */
    enum access access;
    void (*run)(struct http *);
    const char *summary;
    const char *verb;      /* of the line protocol, for what serves several of them */
} route_table[] = {
    {"GET", "/", FOR_ALL, http_page, "the page", NULL},
    {"GET", "/app.js", FOR_ALL, http_page, "its script", NULL},
    {"GET", "/app.css", FOR_ALL, http_page, "its style", NULL},
    {"POST", "/login", FOR_ALL, http_login, "key: gives the page its cookie", NULL},
    {"POST", "/logout", FOR_ALL, http_logout, "takes it back", NULL},
    {"GET", "/files/", FOR_READERS, http_files, "a file; with Range, If-None-Match and their like", NULL},
    {"PUT", "/files/", FOR_WRITERS, http_files, "stores the body as a file; with ?expire, If-Match, If-None-Match: *",
     NULL},
    {"DELETE", "/files/", FOR_WRITERS, http_files, "removes a file", NULL},
    {"GET", "/api/", FOR_ALL, http_help, "this list", NULL},
    {"GET", "/api/status", FOR_READERS, api_status, "as dfs --status -j", NULL},
    {"GET", "/api/list", FOR_READERS, api_list, "path, recursive=1, glob: as dfs --ls -j and --find -j", NULL},
    {"GET", "/api/stat", FOR_READERS, api_stat, "path: as dfs --stat -j", NULL},
    {"GET", "/api/du", FOR_READERS, api_usage, "path: as dfs --du -j", NULL},
    {"GET", "/api/trash", FOR_READERS, api_trash, "as dfs --undelete -j", NULL},
    {"GET", "/api/events", FOR_READERS, api_events, "after: as dfs --events -j, in an array", NULL},
    {"GET", "/api/live", FOR_READERS, api_live, "status and events as they come (server-sent events)", NULL},
    {"POST", "/api/mkdir", FOR_WRITERS, api_path_change, "path: makes a directory", "MKDIR"},
    {"POST", "/api/rmdir", FOR_WRITERS, api_path_change, "path: removes an empty directory", "RMDIR"},
    {"POST", "/api/move", FOR_WRITERS, api_move_or_copy, "from, to: renames, or moves", "MV"},
    {"POST", "/api/copy", FOR_WRITERS, api_move_or_copy, "from, to: copies by reference", "CP"},
    {"POST", "/api/remove", FOR_WRITERS, api_remove, "path, recursive=1: into the trash", NULL},
    {"POST", "/api/undelete", FOR_WRITERS, api_path_change, "path: out of the trash", "UNDELETE"},
    {"GET", "/api/shares", FOR_READERS, api_shares, "all links, as dfs --share -j", NULL},
    {"POST", "/api/share", FOR_WRITERS, api_share, "path, expire: a link that needs no key", NULL},
    {"POST", "/api/unshare", FOR_WRITERS, api_unshare, "path, token: ends a link; without token, all of a file", NULL},
    {"POST", "/api/copies", FOR_WRITERS, api_copies, "path, copies: how many there are to be", NULL},
    {"POST", "/api/drain", FOR_WRITERS, api_member, "node, cancel=1: empties a node", "DRAIN"},
    {"POST", "/api/forget", FOR_WRITERS, api_member, "node: for good", "FORGET"},
    {"POST", "/file", FOR_WRITERS, http_legacy_put, "filename, file in base64: stores it, if there is none", NULL},
    {"GET", "/file/", FOR_READERS, http_legacy_one, "the file in base64", NULL},
    {"DELETE", "/file/", FOR_WRITERS, http_legacy_one, "removes it", NULL},
    {"POST", "/upload", FOR_WRITERS, http_form_upload, "multipart form with a file, and expire: answers its id", NULL},
    {"GET", "/download/", FOR_ALL, http_download, "a file, by the id of an upload or the token of a link", NULL},
    {"POST", "/chunk", FOR_WRITERS, http_chunk_post,
     "X-Dfs-Sha256: stores a chunk on this node, if that is its hash", NULL},
    {"GET", "/chunk/", FOR_READERS, http_chunk_get, "a chunk that this node holds", NULL},
    {"GET", "/active-nodes", FOR_READERS, http_active_nodes, "the nodes that are up", NULL},
    {"GET", "/metrics", FOR_OPERATORS, http_metrics, "numbers for Prometheus", NULL},
    {"GET", "/healthz", FOR_OPERATORS, http_healthz, "200 if the cluster takes reads and writes, else 503", NULL},
    {0}};

static void http_help(struct http *h) {
    struct text t = {0};
    if (strcmp(h->path, "/api/") != 0) {
        http_refuse(h, 404, fail(NOT_FOUND, "there is nothing at %s; GET /api/ lists what there is", shown(h->path)));
        return;
    }
    for (const struct route *r = route_table; r->method; r++)
        text_format(&t, "%-6s %-14s %s\n", r->method, r->path, r->summary);
    http_answer(h, 200, "text/plain; charset=utf-8", t.data, t.length);
    text_free(&t);
}

/* Whether a route is for this path. */
static bool route_fits(const struct route *r, const char *path) {
    size_t length = strlen(r->path);
    bool prefix = length > 1 && r->path[length - 1] == '/';
    return prefix ? strncmp(path, r->path, length) == 0 : strcmp(path, r->path) == 0;
}

/* The route for a request; NULL: there is none, and that was answered. */
static const struct route *http_route(struct http *h) {
    struct text allowed = {0};
    const struct route *found = NULL;
    bool exact = false;
    for (const struct route *r = route_table; r->method; r++) exact = exact || strcmp(r->path, h->path) == 0;
    for (const struct route *r = route_table; r->method; r++) {
        if (exact ? strcmp(r->path, h->path) != 0 : !route_fits(r, h->path)) continue;
        text_format(&allowed, "%s%s", allowed.length ? ", " : "", r->method);
        bool closer = !found || strlen(r->path) > strlen(found->path);
        if (slice_is(h->method, r->method) && closer) found = r;
    }
    if (!found && allowed.length > 0) {
        http_add(h, "Allow: %s", allowed.data);
        http_refuse(h, 405, fail(BAD_REQUEST, "%s takes %s", shown(h->path), allowed.data));
    } else if (!found) {
        http_refuse(h, 404, fail(NOT_FOUND, "there is nothing at %s; GET /api/ lists what there is", shown(h->path)));
    }
    text_free(&allowed);
    return found;
}

/* Finds the route and runs it, if the request may have it. */
static void http_run(struct http *h) {
    static const char *const methods[] = {"GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS", "PATCH", "TRACE"};
    bool known = false;
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++) known = known || slice_is(h->method, methods[i]);
    if (!known) {
        h->keeps = false;
        http_refuse(h, 501, fail(BAD_REQUEST, "no such method"));
        return;
    }
    h->head_only = slice_is(h->method, "HEAD");
    if (h->head_only) h->method = slice_of("GET");
    int code = http_check_source(h, !slice_is(h->method, "GET"));
    if (code != 0) {
        h->keeps = false;
        http_refuse(h, code, DENIED);
        return;
    }
    const struct route *route = http_route(h);
    if (!route) return;
    bool open = route->access == FOR_ALL || (route->access == FOR_OPERATORS && gateway.open_metrics);
    bool has_key = http_has_key(h), crowded = atomic_load(&server.connections) > server.connections_most / 2;
    if (crowded && !has_key) h->keeps = false; /* strangers do not sit on what others need */
    if (open || has_key) {
        atomic_fetch_add_explicit(&server.requests, 1, memory_order_relaxed);
        h->verb = route->verb;
        route->run(h);
        return;
    }
    h->keeps = h->body_over && h->keeps; /* whoever does not have the key has no body read */
    atomic_fetch_add(&server.refused, 1);
    if (!http_header(h, "x-dfs").at && !http_header(h, "sec-fetch-site").at)
        http_add(h, "WWW-Authenticate: Basic realm=\"dfs: the key is the password\", charset=\"UTF-8\"");
    http_refuse(h, 401, fail(DENIED, "this cluster has a key; send it as bearer token or as password"));
}

/* One request and its answer; false when the connection is over. */
static bool http_serve_one(struct http *h, struct conn *c) {
    struct text head = h->head, extra = h->extra, form = h->form;
    text_recycle(&head, 64 * KIB);
    text_recycle(&extra, 64 * KIB);
    text_recycle(&form, 256 * KIB);
    *h = (struct http){.c = c, .head = head, .extra = extra, .form = form};
    int code = http_read_head(h);
    if (code == HTTP_GONE) return false;
    if (code != 0) {
        h->keeps = false;
        *h->path = 0;
        http_refuse(h, code, BAD_REQUEST);
    } else {
        http_run(h);
    }
    if (!h->answered && !h->cut) http_refuse(h, 500, fail(INTERNAL, "no answer"));
    if (!h->cut) http_body_drain(h);
    http_release(h);
    if (h->cut) {
        struct linger reset = {.l_onoff = 1, .l_linger = 0};
        setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
        return false;
    }
    if (h->keeps) return true;
    bool over = code == 0 && h->body_over && c->start == c->end && !conn_is_over(c); /* nothing came behind it */
    if (over) conn_flush(c);
    else conn_part(c);
    return false;
}

static void http_serve(struct conn *c) {
    if (!c->kept) c->kept = mem_alloc(sizeof(struct http));
    struct http *h = c->kept;
    c->idle_until_ms = 0;
    while (http_serve_one(h, c)) continue;
}

/* Frees what http_serve left for the next connection. */
static void http_forget(void *kept) {
    struct http *h = kept;
    text_free(&h->head);
    text_free(&h->extra);
    text_free(&h->form);
    free(h);
}

/* A node is asked itself when no master answers. */
static void http_listening(void) {
    if (strcmp(server.role, "node") == 0) text_add(&gateway.client.nodes, server.address);
}

/* Makes this server one that speaks HTTP as well. `masters`: whom it asks; `names`: more names that Host may have,
 * separated by commas, NULL: none. Called before the server listens; the strings stay. */
static void http_begin(const char *masters, const char *names, bool open_metrics) {
    client_init(&gateway.client, masters);
    client_init(&gateway.uploads, masters);
    gateway.client.retry_ms = HTTP_RETRY_MS;
    gateway.names = names;
    gateway.open_metrics = open_metrics;
    lock_init(&verified.lock, RANK_TRANSFER);
    lock_init(&feed.lock, RANK_TRANSFER);
    server.http = http_serve;
    server.http_forget = http_forget;
    server.listening = http_listening;
}

/* ======== 16. Viewer ======== */
/* dfs -v on a terminal: files, copies and nodes, live. The process that the user started only waits, and restores the
 * terminal however the other one ends. In that one three threads work: the first reads keys and draws; `fetch` asks the
 * master; `act` does what takes time, one thing after the other. Lock: view.lock (RANK_TRANSFER) guards what they
 * share; nobody holds it while he asks. Entry point: viewer_run. */

enum {
    VIEW_ROWS_MIN = 12,
    VIEW_COLUMNS_MIN = 40,
    VIEW_NODES_COLUMNS = 28,
    VIEW_DETAIL_ROWS = 8,
    VIEW_EVENT_ROWS = 5,
    VIEW_EVENTS_MAX = 64,
    VIEW_ENTRIES_MAX = 50000, /* lines of the tree */
    VIEW_PROMPT_MAX = PATH_MAX_BYTES,
    VIEW_REFRESH_MS = 700,
    VIEW_HEARTBEAT_MS = 150,
    VIEW_FRESH_MS = 400, /* a heart beats so long after a ping */
};

enum style { PLAIN, BOLD, REVERSE, GREEN, RED, YELLOW, FAINT };

/* One line of the tree: a file or directory, and how deep it is. */
struct view_entry {
    char *path;
    int depth;
    bool open;
    struct list_row row;
};

enum view_order { BY_NAME, BY_SIZE, BY_TIME };

/* What the keys below do, when it takes time. */
enum view_deed {
    DEED_NONE,
    DEED_DOWNLOAD,
    DEED_UPLOAD,
    DEED_RENAME,
    DEED_REMOVE,
    DEED_UNDELETE,
    DEED_MKDIR,
    DEED_SEARCH
};

static struct view {
    struct lock lock;
    struct cond changed;
    struct client fetcher, actor;       /* their threads' own */
    /* Shared: what is known of the cluster. */
    struct view_entry *entries;
    size_t count;
    bool loaded;                        /* the tree was read once */
    bool crowded;                       /* it has more lines than are kept */
    struct answer status;
    struct node_row *nodes;
    int node_count;
    struct file_info *info;             /* of the selected file, NULL: of none */
    char info_path[PATH_MAX_BYTES + 1];
    char trouble[DETAIL_BYTES];         /* why the last question was not answered; "" if it was */
    int64_t known_ms;                   /* when `nodes` was told */
    char *events[VIEW_EVENTS_MAX];      /* a ring, of event_total ever */
    uint64_t event_total;
    /* Shared: what the user wants. */
    char top[PATH_MAX_BYTES + 1], selected[PATH_MAX_BYTES + 1];
    struct paths open;                  /* directories that are shown with what is in them */
    enum view_order order;
    bool hurry, over;                   /* look again now; end */
    enum view_deed deed;                /* what the actor is to do, or does */
    char deed_path[PATH_MAX_BYTES + 1], deed_other[PATH_MAX_BYTES + 1];
    char said[DETAIL_BYTES];            /* how the last one ended */
    bool said_bad;
    char removed[PATH_MAX_BYTES + 1];   /* what was deleted last */
    /* The first thread's own. */
    struct termios cooked;
    int rows, columns;
    size_t scroll;
    bool utf8, colour, help;
    enum view_deed prompt;              /* what is being asked; DEED_NONE: nothing */
    char typed[VIEW_PROMPT_MAX + 1], sought[NAME_MAX_BYTES + 1];
    struct text *shown;                 /* the rows that are on the screen */
    int shown_rows;
} view;

static volatile sig_atomic_t view_resized, view_killed;
static volatile pid_t view_child;

/* ---- Text on a screen ---- */

/* The columns that a character takes. Marks that combine take none; what is wide in East Asia takes two. */
static int character_columns(uint32_t c) {
    static const struct { uint32_t first, last; int columns; } ranges[] = {
        {0x300, 0x36f, 0}, {0x200b, 0x200f, 0}, {0x202a, 0x202e, 0}, {0x2060, 0x206f, 0}, {0xfe00, 0xfe0f, 0},
        {0x1100, 0x115f, 2}, {0x2e80, 0xa4cf, 2}, {0xac00, 0xd7a3, 2}, {0xf900, 0xfaff, 2}, {0xfe30, 0xfe6f, 2},
        {0xff00, 0xff60, 2}, {0xffe0, 0xffe6, 2}, {0x1f300, 0x1faff, 2}, {0x20000, 0x3fffd, 2}};
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++)
        if (c >= ranges[i].first && c <= ranges[i].last) return ranges[i].columns;
    return 1;
}

/* The next character of a valid text; `*length` gets its bytes. */
static uint32_t character_next(const char *at, size_t *length) {
    const uint8_t *b = (const uint8_t *)at;
    *length = b[0] < 0x80 ? 1 : b[0] < 0xe0 ? 2 : b[0] < 0xf0 ? 3 : 4;
    uint32_t c = b[0] < 0x80 ? b[0] : b[0] & (0xffu >> (*length + 1));
    for (size_t i = 1; i < *length; i++) c = c << 6 | (b[i] & 0x3f);
    return c;
}

/* A row of the screen while it is put together. */
struct row {
    struct text t;
    int columns; /* that are taken */
};

static void row_style(struct row *r, enum style style) {
    static const char *const codes[] = {"0", "1", "7", "32", "31", "33", "2"};
    if (style >= GREEN && !view.colour) style = style == RED ? BOLD : PLAIN;
    text_format(&r->t, "\033[%sm", codes[style]);
}

/* Appends a text, as far as it fits before column `end`. What a terminal might take for orders is shown as %XX, and
 * what it can't show. */
static void row_put(struct row *r, int end, enum style style, const char *string) {
    struct text safe = {0};
    text_display(&safe, string, strlen(string));
    if (style != PLAIN) row_style(r, style);
    for (size_t i = 0, length; i < safe.length; i += length) {
        uint32_t c = character_next(safe.data + i, &length);
        int columns = character_columns(c);
        bool hidden = columns == 0 && (c < 0x300 || c > 0x36f); /* could turn the direction of what follows */
        bool escape = hidden || (c >= 0x80 && !view.utf8);
        if (r->columns + (escape ? 3 * (int)length : columns) > end) break;
        if (!escape) text_bytes(&r->t, safe.data + i, length);
        for (size_t k = 0; escape && k < length; k++) text_format(&r->t, "%%%02X", (uint8_t)safe.data[i + k]);
        r->columns += escape ? 3 * (int)length : columns;
    }
    if (style != PLAIN) row_style(r, PLAIN);
    text_free(&safe);
}

__attribute__((format(printf, 4, 5))) static void row_format(struct row *r, int end, enum style style,
                                                             const char *format, ...) {
    char text[2 * PATH_MAX_BYTES];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    row_put(r, end, style, text);
}

static void row_pad(struct row *r, int end) {
    for (; r->columns < end; r->columns++) text_byte(&r->t, ' ');
}

/* Puts a row on the screen, if it is not there already. */
static void row_show(struct row *r, int number) {
    struct text *old = &view.shown[number];
    row_style(r, PLAIN);
    if (old->length != r->t.length ||
        memcmp(old->data ? old->data : "", r->t.data ? r->t.data : "", r->t.length) != 0) {
        struct text out = {0};
        text_format(&out, "\033[%d;1H", number + 1);
        text_bytes(&out, r->t.data, r->t.length);
        text_add(&out, "\033[K");
        if (!sys_write(STDOUT_FILENO, out.data, out.length)) view_killed = SIGHUP;
        text_free(&out);
        text_free(old);
        *old = r->t;
        return;
    }
    text_free(&r->t);
}

/* ---- The panes ---- */

static enum style state_style(const char *state) {
    static const struct { const char *word; enum style style; } styles[] = {
        {"healthy", GREEN}, {"up", GREEN}, {"healing", YELLOW}, {"learner", YELLOW}, {"draining", YELLOW}};
    for (size_t i = 0; i < sizeof styles / sizeof *styles; i++)
        if (strcmp(state, styles[i].word) == 0) return styles[i].style;
    return RED;
}

static uint64_t status_number(const char *word) {
    uint64_t number = 0;
    parse_u64(row_value(&view.status, word), UINT64_MAX, &number);
    return number;
}

static void draw_title(struct row *r) {
    char state[32] = "", address[ADDRESS_MAX_BYTES + 1] = "";
    struct text size = {0};
    int end = view.columns;
    row_put(r, end, REVERSE, " dfs ");
    if (*view.trouble || view.status.body.length == 0) {
        row_put(r, end, RED, *view.trouble ? "  no master: " : "  asking ");
        row_put(r, end, PLAIN, *view.trouble ? view.trouble : view.fetcher.masters);
        return;
    }
    slice_copy(row_value(&view.status, "state"), state, sizeof state);
    slice_copy(row_value(&view.status, "master"), address, sizeof address);
    text_size(&size, status_number("bytes"));
    row_format(r, end, PLAIN, "  %s  ", address);
    row_put(r, end, state_style(state), state);
    row_format(r, end, PLAIN, "  %" PRIu64 " files  %s", status_number("files"), size.data);
    uint64_t missing = status_number("copies_missing"), lost = status_number("unavailable_chunks");
    if (missing > 0) row_format(r, end, YELLOW, "  %" PRIu64 " copies to make", missing);
    if (lost > 0) row_format(r, end, RED, "  %" PRIu64 " chunks unavailable", lost);
    text_free(&size);
}

/* One line of the tree. */
static void draw_entry(struct row *r, const struct view_entry *e, int end) {
    struct text size = {0};
    bool selected = strcmp(e->path, view.selected) == 0;
    const char *mark = !e->row.directory ? " " : e->open ? (view.utf8 ? "▾" : "-") : view.utf8 ? "▸" : "+";
    int right = end - 18;
    if (selected) row_style(r, REVERSE);
    row_put(r, end, PLAIN, selected ? ">" : " ");
    for (int i = 0; i < e->depth && r->columns < right; i++) row_put(r, right, PLAIN, "  ");
    row_put(r, right, PLAIN, mark);
    row_put(r, right, PLAIN, " ");
    row_put(r, right, PLAIN, e->row.name);
    if (e->row.directory) row_put(r, right, PLAIN, "/");
    row_pad(r, right);
    if (!e->row.directory) {
        text_size(&size, e->row.size);
        row_format(r, end, PLAIN, " %10s %3ux ", size.data, e->row.copies);
    }
    row_pad(r, end);
    if (selected) row_style(r, PLAIN);
    text_free(&size);
}

/* A node's chunks of the selected file, as dots: full, partly there, or missing. */
static void draw_dots(struct row *r, int end, int which) {
    const struct file_info *f = view.info;
    uint32_t cells = end > r->columns ? (uint32_t)(end - r->columns) : 0;
    if (cells > f->chunk_count) cells = f->chunk_count;
    for (uint32_t cell = 0; cell < cells; cell++) {
        uint32_t first = (uint32_t)((uint64_t)cell * f->chunk_count / cells);
        uint32_t behind = (uint32_t)((uint64_t)(cell + 1) * f->chunk_count / cells), has = 0;
        for (uint32_t i = first; i < behind; i++) has += node_set_has(&f->chunk[i].holders, which);
        bool all = has == behind - first;
        const char *dot = view.utf8 ? (all ? "●" : has > 0 ? "◐" : "○") : all ? "#" : has > 0 ? "+" : ".";
        row_put(r, end, all ? GREEN : has > 0 ? YELLOW : FAINT, dot);
    }
}

static const char *view_node_name(uint64_t id) {
    for (int i = 0; i < view.node_count; i++)
        if (view.nodes[i].id == id) return view.nodes[i].name;
    return "?";
}

/* What is known of the selected file: row `number` of the pane. */
static void draw_detail(struct row *r, int number, int end) {
    const struct file_info *f = view.info;
    char hex[65] = "";
    struct text t = {0};
    bool known = f && strcmp(view.info_path, view.selected) == 0;
    if (number == 0) {
        for (int i = 0; i < end; i++) row_put(r, end, FAINT, view.utf8 ? "─" : "-");
    } else if (number == 1) {
        row_format(r, end, BOLD, " %s", *view.selected ? view.selected : "");
    } else if (known && number == 2) {
        text_size(&t, f->size);
        text_format(&t, " (%" PRIu64 ")  ", f->size);
        text_time(&t, f->mtime_ns);
        row_format(r, end, PLAIN, f->directory ? " directory  " : " %s", t.data);
        if (f->directory) {
            text_clear(&t);
            text_time(&t, f->mtime_ns);
            row_put(r, end, PLAIN, t.data);
        }
        if (f->old) row_put(r, end, YELLOW, "  possibly old");
    } else if (known && number == 3 && !f->directory) {
        hex_write(hex, f->sha256, 32);
        row_format(r, end, PLAIN, " sha256 %s", hex);
    } else if (known && number >= 4 && number - 4 < f->node_count) {
        bool more = number == VIEW_DETAIL_ROWS - 1 && f->node_count > VIEW_DETAIL_ROWS - 4;
        if (more) row_format(r, end, PLAIN, " and %d nodes more", f->node_count - (VIEW_DETAIL_ROWS - 5));
        else {
            row_format(r, end, PLAIN, " %-10.10s ", view_node_name(f->node[number - 4].id));
            draw_dots(r, end, number - 4);
        }
    } else if (known && number == 4 && f->chunk_count > 0) {
        row_put(r, end, RED, " on no live node");
    }
    text_free(&t);
}

/* A node takes two rows: name, state, heartbeat; files and bytes. */
static void draw_node(struct row *r, int number, int height) {
    int shown_nodes = height / 2, which = number / 2, end = view.columns;
    if (which == shown_nodes - 1 && view.node_count > shown_nodes) {
        if (number % 2 == 0) row_format(r, end, PLAIN, " and %d nodes more", view.node_count - which);
        return;
    }
    if (which >= view.node_count || which >= shown_nodes) return;
    const struct node_row *n = &view.nodes[which];
    int64_t ago_ms = n->ping_ms < 0 ? -1 : n->ping_ms + (clock_ms() - view.known_ms);
    bool down = strcmp(n->state, "down") == 0, beat = ago_ms >= 0 && ago_ms < VIEW_FRESH_MS && !down;
    struct text t = {0};
    if (number % 2 == 0) {
        row_put(r, end, state_style(n->state), view.utf8 ? (down ? " ○ " : " ● ") : down ? " o " : " * ");
        row_format(r, end, BOLD, "%-9.9s ", n->name);
        row_format(r, end, state_style(n->state), "%-8s ", n->state);
        if (!down) row_put(r, end, beat ? RED : FAINT, view.utf8 ? (beat ? "♥" : "♡") : beat ? "@" : ".");
        if (ago_ms >= 0 && ago_ms < 100000) row_format(r, end, PLAIN, "%4.1fs", (double)ago_ms / 1000);
    } else {
        text_size(&t, n->bytes);
        row_format(r, end, PLAIN, "   %" PRIu64 " files  %s", n->files, t.data);
        if (strcmp(n->state, "draining") == 0) row_format(r, end, YELLOW, "  %" PRIu64 " left", n->left);
    }
    text_free(&t);
}

/* The last rows of what happened. */
static void draw_event(struct row *r, int number) {
    uint64_t kept = view.event_total < VIEW_EVENTS_MAX ? view.event_total : VIEW_EVENTS_MAX;
    if (number == 0) {
        for (int i = 0; i < view.columns; i++) row_put(r, view.columns, FAINT, view.utf8 ? "─" : "-");
        return;
    }
    uint64_t back = (uint64_t)(VIEW_EVENT_ROWS - number);
    if (back > kept || back == 0) return;
    const char *text = view.events[(view.event_total - back) % VIEW_EVENTS_MAX];
    row_put(r, view.columns, strstr(text, "whole again") ? GREEN : strstr(text, " down") ? RED : PLAIN, text);
}

static const char *const deed_questions[] = {
    [DEED_DOWNLOAD] = "download to: ", [DEED_UPLOAD] = "upload this file or folder: ", [DEED_RENAME] = "new path: ",
    [DEED_REMOVE] = "", [DEED_UNDELETE] = "take back from the trash: ", [DEED_MKDIR] = "new directory: ",
    [DEED_SEARCH] = "search: "};

static const char *const deed_names[] = {
    [DEED_DOWNLOAD] = "downloading", [DEED_UPLOAD] = "uploading", [DEED_RENAME] = "renaming",
    [DEED_REMOVE] = "deleting", [DEED_UNDELETE] = "taking back", [DEED_MKDIR] = "making"};

/* The last row: a question, what goes on, how it ended, or the keys. */
static void draw_bottom(struct row *r) {
    int end = view.columns;
    if (view.prompt == DEED_REMOVE) {
        row_format(r, end, BOLD, "delete %s, with all that is in it? (y/n) ", view.selected);
    } else if (view.prompt != DEED_NONE) {
        int room = end - (int)strlen(deed_questions[view.prompt]) - 2;
        size_t length = strlen(view.typed), skip = room > 0 && length > (size_t)room ? length - (size_t)room : 0;
        while (skip < length && ((uint8_t)view.typed[skip] & 0xc0) == 0x80) skip++;
        row_put(r, end, BOLD, deed_questions[view.prompt]);
        row_put(r, end - 1, PLAIN, view.typed + skip);
        row_put(r, end, REVERSE, " ");
    } else if (view.deed != DEED_NONE) {
        struct text t = {0};
        uint64_t done = atomic_load(&progress.done), total = atomic_load(&progress.total);
        text_size(&t, done);
        row_format(r, end, YELLOW, "%s %s  %s", deed_names[view.deed], view.deed_path, t.data);
        if (total > 0) row_format(r, end, YELLOW, "  %d%%", (int)((double)done * 100 / (double)total));
        text_free(&t);
    } else if (*view.said) {
        row_put(r, end, view.said_bad ? RED : GREEN, view.said);
    } else {
        row_put(r, end, FAINT, "enter open  / search  s sort  d get  u put  r rename  x delete  ? help  q quit");
    }
}

static const char *const view_help[] = {"",
                                        "  up down, j k        move",
                                        "  right, enter, l     open a directory",
                                        "  left, h             close it, or go up",
                                        "  page up, page down  move by a page; home, end",
                                        "  /  n                search a name; the next one",
                                        "  s                   sort by name, size, time",
                                        "  d                   download",
                                        "  u                   upload into the selected directory",
                                        "  r                   rename or move",
                                        "  x, del              delete, with a question",
                                        "  U                   take back from the trash",
                                        "  m                   make a directory",
                                        "  ctrl-l              draw anew",
                                        "  q, ctrl-c           quit",
                                        "",
                                        "  any key goes on"};

/* Draws everything. Only rows that changed are sent. */
static void view_draw(void) {
    int bottom = view.rows - 1, events = bottom - VIEW_EVENT_ROWS, details = events - VIEW_DETAIL_ROWS;
    bool wide = view.columns >= 60;
    int left = wide ? view.columns - VIEW_NODES_COLUMNS - 1 : view.columns;
    if (view.rows < VIEW_ROWS_MIN + 10) details = events; /* a small screen does without */
    size_t selected = 0, height = (size_t)(details - 1);
    for (size_t i = 0; i < view.count; i++)
        if (strcmp(view.entries[i].path, view.selected) == 0) selected = i;
    if (selected < view.scroll) view.scroll = selected;
    if (selected >= view.scroll + height) view.scroll = selected - height + 1;
    for (int number = 0; number < view.rows; number++) {
        struct row r = {.columns = 0};
        size_t entry = view.scroll + (size_t)number - 1;
        if (number == 0) draw_title(&r);
        else if (number == bottom) draw_bottom(&r);
        else if (view.help && number - 1 < (int)(sizeof view_help / sizeof *view_help))
            row_put(&r, view.columns, PLAIN, view_help[number - 1]);
        else if (view.help) row_put(&r, view.columns, PLAIN, "");
        else if (number >= events) draw_event(&r, number - events);
        else {
            if (number >= details) draw_detail(&r, number - details, left);
            else if (entry < view.count) draw_entry(&r, &view.entries[entry], left);
            else if (number == 1) row_put(&r, left, FAINT, view.loaded ? " (empty: u uploads something)" : " ...");
            if (wide) {
                row_pad(&r, left);
                row_put(&r, view.columns, FAINT, view.utf8 ? "│" : "|");
                draw_node(&r, number - 1, events - 1);
            }
        }
        row_show(&r, number);
    }
}

/* ---- Asking ---- */

static int entries_compare(const void *a, const void *b) {
    const struct list_row *x = a, *y = b;
    if (x->directory != y->directory) return x->directory ? -1 : 1;
    if (view.order == BY_SIZE && x->size != y->size) return x->size > y->size ? -1 : 1;
    if (view.order == BY_TIME && x->mtime_ns != y->mtime_ns) return x->mtime_ns > y->mtime_ns ? -1 : 1;
    return strcmp(x->name, y->name);
}

/* The lines of the tree while it is read. */
struct view_tree {
    struct view_entry *entries;
    size_t count, capacity;
    struct paths open;
    bool crowded;
};

/* Reads a directory and those in it that are open. Recursion is as deep as those are. */
static enum status tree_read(struct view_tree *tree, const char *path, int depth) {
    struct list_rows rows = {0};
    enum status status = client_list(&view.fetcher, path, NULL, list_keep, &rows);
    if (rows.count > 1) qsort(rows.row, rows.count, sizeof *rows.row, entries_compare);
    for (size_t i = 0; i < rows.count && status == DONE; i++) {
        if (tree->count == VIEW_ENTRIES_MAX) {
            tree->crowded = true;
            break;
        }
        if (tree->count == tree->capacity) {
            tree->capacity = tree->capacity ? 2 * tree->capacity : 64;
            tree->entries = mem_resize(tree->entries, tree->capacity * sizeof *tree->entries);
        }
        struct view_entry *e = &tree->entries[tree->count++];
        *e = (struct view_entry){.path = path_join(path, rows.row[i].name), .depth = depth, .row = rows.row[i]};
        for (size_t k = 0; k < tree->open.count && e->row.directory; k++)
            e->open = e->open || strcmp(tree->open.path[k], e->path) == 0;
        if (e->open) status = tree_read(tree, e->path, depth + 1);
        if (status == NOT_FOUND) status = DONE; /* removed meanwhile */
    }
    free(rows.row);
    return status;
}

static void entries_free(struct view_entry *entries, size_t count) {
    for (size_t i = 0; i < count; i++) free(entries[i].path);
    free(entries);
}

static enum status fetch_tree(void) {
    struct view_tree tree = {0};
    char top[PATH_MAX_BYTES + 1];
    lock_take(&view.lock);
    memcpy(top, view.top, sizeof top);
    for (size_t i = 0; i < view.open.count; i++) paths_add(&tree.open, view.open.path[i]);
    lock_drop(&view.lock);
    enum status status = tree_read(&tree, top, 0);
    paths_free(&tree.open);
    if (status != DONE) {
        entries_free(tree.entries, tree.count);
        return status;
    }
    lock_take(&view.lock);
    bool there = false;
    size_t was = 0;
    for (size_t i = 0; i < tree.count; i++) there = there || strcmp(tree.entries[i].path, view.selected) == 0;
    for (size_t i = 0; i < view.count; i++)
        if (strcmp(view.entries[i].path, view.selected) == 0) was = i;
    if (!there && tree.count > 0) /* what was selected is gone: its place is */
        snprintf(view.selected, sizeof view.selected, "%s", tree.entries[was < tree.count ? was : tree.count - 1].path);
    if (tree.count == 0) *view.selected = 0;
    entries_free(view.entries, view.count);
    view.entries = tree.entries;
    view.count = tree.count;
    view.crowded = tree.crowded;
    view.loaded = true;
    lock_drop(&view.lock);
    return DONE;
}

static enum status fetch_nodes(void) {
    struct text line = {0};
    struct answer status_answer = {0}, a = {0};
    struct slice rest, row;
    text_add(&line, "STATUS");
    enum status status = client_ask(&view.fetcher, &line, NULL, false, true, &status_answer);
    text_clear(&line);
    text_add(&line, "NODES");
    if (status == DONE) status = client_ask(&view.fetcher, &line, NULL, false, true, &a);
    lock_take(&view.lock);
    if (status == DONE) {
        answer_free(&view.status);
        view.status = status_answer;
        status_answer = (struct answer){0};
        view.node_count = 0;
        rest = (struct slice){a.body.data, a.body.length};
        while (slice_line(&rest, &row) && view.node_count < 2 * NODES_MAX)
            view.node_count += node_row_parse(row, &view.nodes[view.node_count]);
        view.known_ms = clock_ms();
    }
    lock_drop(&view.lock);
    answer_free(&status_answer);
    answer_free(&a);
    text_free(&line);
    return status;
}

/* Adds an event as it is shown: its local time of day, and what happened. */
static void view_event(struct slice row) {
    struct slice number, when;
    struct text t = {0};
    int64_t ms;
    if (!slice_part(&row, ' ', &number) || !slice_part(&row, ' ', &when) || !parse_i64(when, &ms)) return;
    text_time(&t, ms * 1000000);
    memmove(t.data, t.data + 11, t.length - 11); /* without the date */
    t.length -= 11;
    text_add(&t, "  ");
    text_bytes(&t, row.at, row.length);
    char **place = &view.events[view.event_total++ % VIEW_EVENTS_MAX];
    free(*place);
    *place = t.data;
}

static enum status fetch_events(void) {
    static char master_id[17];
    static uint64_t after;
    struct text line = {0};
    struct answer a = {0};
    struct slice row;
    uint64_t next = 0;
    text_format(&line, "EVENTS %" PRIu64 " 0", after);
    enum status status = client_ask(&view.fetcher, &line, NULL, false, true, &a);
    if (status == DONE && a.w.count == 5 && parse_u64(a.w.word[2], UINT64_MAX, &next)) {
        bool other = *master_id && !slice_is(a.w.word[1], master_id); /* its numbers begin anew */
        slice_copy(a.w.word[1], master_id, sizeof master_id);
        struct slice rest = {a.body.data, a.body.length};
        lock_take(&view.lock);
        while (!other && slice_line(&rest, &row)) view_event(row);
        lock_drop(&view.lock);
        after = other ? 0 : next;
    }
    text_free(&line);
    answer_free(&a);
    return status;
}

static void fetch_info(void) {
    char path[PATH_MAX_BYTES + 1];
    struct file_info *f = NULL;
    lock_take(&view.lock);
    memcpy(path, view.selected, sizeof path);
    lock_drop(&view.lock);
    if (*path && client_stat(&view.fetcher, path, &f) != DONE) f = NULL;
    lock_take(&view.lock);
    if (view.info) file_info_free(view.info);
    view.info = f;
    memcpy(view.info_path, path, sizeof path);
    lock_drop(&view.lock);
}

/* Asks for everything, again and again. */
static void *fetch_main(void *argument) {
    (void)argument;
    lock_take(&view.lock);
    while (!view.over) {
        view.hurry = false;
        lock_drop(&view.lock);
        atomic_store(&view.fetcher.saw_old, false);
        enum status status = fetch_nodes(), tree = fetch_tree();
        if (status == DONE) fetch_events();
        fetch_info();
        lock_take(&view.lock);
        if (status == DONE || tree == DONE) *view.trouble = 0;
        if (status != DONE) snprintf(view.trouble, sizeof view.trouble, "%s", detail);
        if (status != DONE) view.node_count = 0;
        cond_broadcast(&view.changed);
        int64_t until_ms = clock_ms() + VIEW_REFRESH_MS;
        while (!view.over && !view.hurry && cond_wait_until(&view.changed, &view.lock, until_ms)) continue;
    }
    lock_drop(&view.lock);
    return NULL;
}

/* ---- Doing ---- */

static void view_complaint(const char *text) {
    lock_take(&view.lock);
    if (!view.said_bad) snprintf(view.said, sizeof view.said, "%.*s", (int)strcspn(text, "\n"), text);
    view.said_bad = true;
    lock_drop(&view.lock);
}

/* ~/x is x in the home folder, as in a shell. */
static char *local_expand(const char *typed) {
    const char *home = getenv("HOME");
    if (strncmp(typed, "~/", 2) == 0 && home) return path_join(home, typed + 2);
    return path_join("", typed);
}

static enum status act_download(const char *path, const char *local) {
    struct folder_options how = {.chunk_size = CHUNK_MAX_BYTES};
    struct crew crew = {.cl = &view.actor, .how = &how};
    struct file_info *f;
    struct stat about;
    enum status status = client_stat(&view.actor, path, &f);
    if (status != DONE) return status;
    bool into = stat(local, &about) == 0 && S_ISDIR(about.st_mode);
    char *target = into ? path_join(local, strrchr(path, '/') + 1) : path_join("", local);
    progress_begin("down", f->directory ? 0 : f->size, 0);
    if (f->directory) { /* what cannot be had is named by the first complaint */
        status = client_download_folder(&crew, target, path, f->mtime_ns);
        file_info_free(f);
    } else {
        file_info_free(f);
        status = client_fetch(&view.actor, path, target, true, &f);
        if (status == DONE) file_info_free(f);
    }
    free(target);
    return status;
}

static enum status act_upload(const char *path, const char *local) {
    struct folder_options how = {.chunk_size = CHUNK_MAX_BYTES};
    struct crew crew = {.cl = &view.actor, .how = &how};
    struct stat about;
    int fd = sys_open(local, O_RDONLY, 0);
    if (fd < 0 || fstat(fd, &about) != 0) {
        enum status status = fail(status_of_errno(), "%s: %s", shown(local), strerror(errno));
        if (fd >= 0) close(fd);
        return status;
    }
    progress_begin("up", S_ISREG(about.st_mode) ? (uint64_t)about.st_size : 0, 0);
    enum status status;
    if (S_ISDIR(about.st_mode)) {
        status = client_upload_folder(&crew, local, path);
    } else {
        struct put put = {.path = path, .condition = "-", .chunk_size = CHUNK_MAX_BYTES,
                          .size_hint = (uint64_t)about.st_size, .mtime_ns = time_ns(about.st_mtim)};
        status = client_upload(&view.actor, &put, fd);
    }
    close(fd);
    return status;
}

static enum status act(enum view_deed deed, const char *path, const char *other) {
    char to[PATH_MAX_BYTES + 1];
    char *local = local_expand(other);
    enum status status = DONE;
    switch (deed) {
    case DEED_DOWNLOAD: status = act_download(path, local); break;
    case DEED_UPLOAD: status = act_upload(path, local); break;
    case DEED_REMOVE: status = client_remove_all(&view.actor, path); break;
    case DEED_RENAME:
        status = path_normalize(other, to);
        if (status == DONE) status = move_one(&view.actor, "MV", path, to, false);
        break;
    case DEED_UNDELETE:
    case DEED_MKDIR:
        status = path_normalize(other, to);
        if (status == DONE) status = client_change(&view.actor, deed == DEED_MKDIR ? "MKDIR" : "UNDELETE", to);
        break;
    default: break;
    }
    free(local);
    if (status == DONE) cache_forget(&view.actor, path);
    return status;
}

/* Does what the user asked for, one thing after the other. */
static void *act_main(void *argument) {
    (void)argument;
    lock_take(&view.lock);
    while (!view.over) {
        if (view.deed == DEED_NONE) {
            cond_wait(&view.changed, &view.lock);
            continue;
        }
        enum view_deed deed = view.deed;
        char path[PATH_MAX_BYTES + 1], other[PATH_MAX_BYTES + 1];
        memcpy(path, view.deed_path, sizeof path);
        memcpy(other, view.deed_other, sizeof other);
        lock_drop(&view.lock);
        enum status status = act(deed, path, other);
        lock_take(&view.lock);
        if (status == DONE) snprintf(view.said, sizeof view.said, "%s %s: done", deed_names[deed], shown(path));
        else if (!view.said_bad)
            snprintf(view.said, sizeof view.said, "%s: %.900s", status_table[status].text, detail);
        view.said_bad = status != DONE;
        if (status == DONE && deed == DEED_REMOVE) memcpy(view.removed, path, sizeof path);
        view.deed = DEED_NONE;
        view.hurry = true;
        cond_broadcast(&view.changed);
    }
    lock_drop(&view.lock);
    return NULL;
}

/* ---- Keys ---- */

enum key { KEY_NONE = 0, KEY_ESCAPE = 27, KEY_UP = 1000, KEY_DOWN, KEY_LEFT, KEY_RIGHT, KEY_PAGE_UP, KEY_PAGE_DOWN,
           KEY_HOME, KEY_END, KEY_DELETE };

/* One key out of `bytes`; what it took is cut off. Sequences of terminals: ESC [ A, ESC O A, ESC [ 5 ~. */
static int key_next(struct slice *bytes) {
    static const struct { const char *sequence; int key; } keys[] = {
        {"[A", KEY_UP}, {"[B", KEY_DOWN}, {"[C", KEY_RIGHT}, {"[D", KEY_LEFT}, {"OA", KEY_UP}, {"OB", KEY_DOWN},
        {"OC", KEY_RIGHT}, {"OD", KEY_LEFT}, {"[5~", KEY_PAGE_UP}, {"[6~", KEY_PAGE_DOWN}, {"[H", KEY_HOME},
        {"[F", KEY_END}, {"OH", KEY_HOME}, {"OF", KEY_END}, {"[1~", KEY_HOME}, {"[4~", KEY_END}, {"[3~", KEY_DELETE}};
    int key = (uint8_t)*bytes->at;
    *bytes = (struct slice){bytes->at + 1, bytes->length - 1};
    if (key != KEY_ESCAPE || bytes->length == 0) return key;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        size_t length = strlen(keys[i].sequence);
        if (bytes->length < length || memcmp(bytes->at, keys[i].sequence, length) != 0) continue;
        *bytes = (struct slice){bytes->at + length, bytes->length - length};
        return keys[i].key;
    }
    if (*bytes->at != '[' && *bytes->at != 'O') return key;
    size_t used = 1; /* some other sequence: passed over */
    while (used < bytes->length && ((uint8_t)bytes->at[used] < 0x40 || (uint8_t)bytes->at[used] > 0x7e)) used++;
    if (used < bytes->length) used++;
    *bytes = (struct slice){bytes->at + used, bytes->length - used};
    return KEY_NONE;
}

static size_t view_selected(void) {
    for (size_t i = 0; i < view.count; i++)
        if (strcmp(view.entries[i].path, view.selected) == 0) return i;
    return 0;
}

static void view_select(size_t number) {
    if (view.count == 0) return;
    if (number >= view.count) number = view.count - 1;
    snprintf(view.selected, sizeof view.selected, "%s", view.entries[number].path);
    view.hurry = true;
    cond_broadcast(&view.changed);
}

/* Opens or closes the selected directory. */
static void view_open(bool open) {
    struct view_entry *e = view.count > 0 ? &view.entries[view_selected()] : NULL;
    if (!e || !e->row.directory || e->open == open) return;
    if (open) paths_add(&view.open, e->path);
    for (size_t i = 0; i < view.open.count && !open; i++) {
        if (strcmp(view.open.path[i], e->path) != 0) continue;
        free(view.open.path[i]);
        view.open.path[i] = view.open.path[--view.open.count];
        break;
    }
    view.hurry = true;
    cond_broadcast(&view.changed);
}

/* Selects the directory that the selected one is in, if that is shown. */
static void view_up(void) {
    char above[PATH_MAX_BYTES + 1];
    memcpy(above, view.selected, sizeof above);
    char *slash = strrchr(above, '/');
    if (!slash || slash == above) return;
    *slash = 0;
    for (size_t i = 0; i < view.count; i++)
        if (strcmp(view.entries[i].path, above) == 0) view_select(i);
}

/* The next entry behind the selected one whose name has what is sought in it. */
static void view_search(void) {
    size_t begin = view_selected();
    for (size_t i = 1; i <= view.count && *view.sought; i++) {
        size_t at = (begin + i) % view.count;
        if (!strcasestr(view.entries[at].row.name, view.sought)) continue;
        view_select(at);
        return;
    }
    snprintf(view.said, sizeof view.said, "nothing that is open has '%s' in its name", shown(view.sought));
    view.said_bad = true;
}

/* Begins a deed, when what it needs is known. */
static void view_begin(enum view_deed deed, const char *path, const char *other) {
    if (view.deed != DEED_NONE) {
        snprintf(view.said, sizeof view.said, "one thing at a time: that goes on still");
        view.said_bad = true;
        return;
    }
    view.deed = deed;
    snprintf(view.deed_path, sizeof view.deed_path, "%s", path);
    snprintf(view.deed_other, sizeof view.deed_other, "%s", other);
    *view.said = 0;
    view.said_bad = false;
    progress_begin("", 0, 0);
    cond_broadcast(&view.changed);
}

/* The directory that something new goes into: the selected one, or that of the selected file. */
static void view_directory(char to[PATH_MAX_BYTES + 1]) {
    const struct view_entry *e = view.count > 0 ? &view.entries[view_selected()] : NULL;
    snprintf(to, PATH_MAX_BYTES + 1, "%s", e ? e->path : view.top);
    if (!e || e->row.directory) return;
    char *slash = strrchr(to, '/');
    slash[slash == to] = 0;
}

/* Asks for what a deed needs; what is likely is typed already. */
static void view_ask(enum view_deed deed) {
    const struct view_entry *e = view.count > 0 ? &view.entries[view_selected()] : NULL;
    char directory[PATH_MAX_BYTES + 1];
    bool needs = deed == DEED_DOWNLOAD || deed == DEED_RENAME || deed == DEED_REMOVE;
    if (needs && !e) return;
    view.prompt = deed;
    *view.typed = *view.said = 0;
    view_directory(directory);
    if (deed == DEED_DOWNLOAD) snprintf(view.typed, sizeof view.typed, "./%s", e->row.name);
    if (deed == DEED_RENAME) snprintf(view.typed, sizeof view.typed, "%s", e->path);
    if (deed == DEED_UNDELETE) snprintf(view.typed, sizeof view.typed, "%s", view.removed);
    if (deed == DEED_MKDIR)
        snprintf(view.typed, sizeof view.typed, "%.4000s%s", directory, strcmp(directory, "/") == 0 ? "" : "/");
}

/* The prompt was answered. */
static void view_answered(void) {
    enum view_deed deed = view.prompt;
    char path[PATH_MAX_BYTES + 1];
    view.prompt = DEED_NONE;
    if (!*view.typed) return;
    if (deed == DEED_SEARCH) {
        snprintf(view.sought, sizeof view.sought, "%.*s", NAME_MAX_BYTES, view.typed);
        view_search();
        return;
    }
    if (deed != DEED_UPLOAD) {
        view_begin(deed, deed == DEED_MKDIR || deed == DEED_UNDELETE ? view.typed : view.selected, view.typed);
        return;
    }
    size_t end = strlen(view.typed);
    while (end > 1 && view.typed[end - 1] == '/') view.typed[--end] = 0;
    const char *name = strrchr(view.typed, '/') ? strrchr(view.typed, '/') + 1 : view.typed;
    view_directory(path);
    char *target = path_join(path, name);
    if (path_normalize(target, path) == DONE) view_begin(DEED_UPLOAD, path, view.typed);
    else snprintf(view.said, sizeof view.said, "%s", detail);
    free(target);
}

/* A key while something is typed. */
static void view_key_prompt(int key) {
    size_t length = strlen(view.typed);
    if (view.prompt == DEED_REMOVE) {
        view.prompt = DEED_NONE;
        if (key == 'y' || key == 'Y') view_begin(DEED_REMOVE, view.selected, "");
        return;
    }
    if (key == KEY_ESCAPE || key == 3) view.prompt = DEED_NONE;
    else if (key == '\r' || key == '\n') view_answered();
    else if (key == 21) *view.typed = 0; /* ctrl-u */
    else if (key == 127 || key == 8) {
        while (length > 0 && ((uint8_t)view.typed[length - 1] & 0xc0) == 0x80) length--;
        if (length > 0) view.typed[length - 1] = 0;
    } else if (key >= ' ' && key < 256 && length < VIEW_PROMPT_MAX) {
        view.typed[length] = (char)key;
        view.typed[length + 1] = 0;
    }
}

/* A key. False: that was the last one. */
static bool view_key(int key) {
    size_t at = view_selected(), page = (size_t)(view.rows > 20 ? view.rows - 16 : 5);
    bool directory = view.count > 0 && view.entries[at].row.directory, open = view.count > 0 && view.entries[at].open;
    if (view.prompt != DEED_NONE) {
        view_key_prompt(key);
        return true;
    }
    if (view.help) {
        view.help = false;
        return true;
    }
    *view.said = 0;
    view.said_bad = false;
    switch (key) {
    case 'q': case 3: return false;
    case KEY_UP: case 'k': view_select(at > 0 ? at - 1 : 0); break;
    case KEY_DOWN: case 'j': view_select(at + 1); break;
    case KEY_PAGE_UP: view_select(at > page ? at - page : 0); break;
    case KEY_PAGE_DOWN: view_select(at + page); break;
    case KEY_HOME: case 'g': view_select(0); break;
    case KEY_END: case 'G': view_select(SIZE_MAX - 1); break;
    case KEY_RIGHT: case 'l': view_open(true); break;
    case '\r': case '\n': if (directory) view_open(!open); break;
    case KEY_LEFT: case 'h': if (open) view_open(false); else view_up(); break;
    case '/': view_ask(DEED_SEARCH); break;
    case 'n': view_search(); break;
    case 's':
        view.order = view.order == BY_TIME ? BY_NAME : view.order + 1;
        snprintf(view.said, sizeof view.said, "sorted by %s",
                 view.order == BY_NAME ? "name" : view.order == BY_SIZE ? "size" : "time");
        view.hurry = true;
        cond_broadcast(&view.changed);
        break;
    case 'd': view_ask(DEED_DOWNLOAD); break;
    case 'u': view_ask(DEED_UPLOAD); break;
    case 'r': view_ask(DEED_RENAME); break;
    case 'x': case KEY_DELETE: view_ask(DEED_REMOVE); break;
    case 'U': view_ask(DEED_UNDELETE); break;
    case 'm': view_ask(DEED_MKDIR); break;
    case '?': view.help = true; break;
    case 12: view_resized = 1; break;
    default: break;
    }
    return true;
}

/* ---- The terminal ---- */

static const char view_leave[] = "\033[0m\033[?25h\033[?1049l"; /* cursor and the screen that was there before */

static void on_resize(int number) {
    (void)number;
    view_resized = 1;
}

/* In both processes: the one that waits passes a signal on, the one that works ends in good order. */
static void on_view_signal(int number) {
    view_killed = number;
    if (view_child > 0) kill(view_child, number);
}

static void view_measure(void) {
    struct winsize size;
    view_resized = 0;
    bool known = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > 0 && size.ws_col > 0;
    for (int i = 0; i < view.shown_rows; i++) text_free(&view.shown[i]);
    free(view.shown);
    view.rows = known ? size.ws_row : 24;
    view.columns = known ? size.ws_col : 80;
    if (view.rows < VIEW_ROWS_MIN) view.rows = VIEW_ROWS_MIN;
    if (view.columns < VIEW_COLUMNS_MIN) view.columns = VIEW_COLUMNS_MIN;
    view.shown = mem_alloc((size_t)view.rows * sizeof *view.shown);
    view.shown_rows = view.rows;
    for (int i = 0; i < view.rows; i++) text_add(&view.shown[i], "?"); /* on the screen is none of these yet */
    if (!sys_write(STDOUT_FILENO, "\033[2J", 4)) view_killed = SIGHUP;
}

/* Whether the terminal shows UTF-8, by the environment as for every program. */
static bool terminal_is_utf8(void) {
    static const char *const names[] = {"LC_ALL", "LC_CTYPE", "LANG"};
    for (int i = 0; i < 3; i++) {
        const char *value = getenv(names[i]);
        if (value && *value) return strcasestr(value, "UTF-8") || strcasestr(value, "UTF8");
    }
    return false;
}

/* Draws, and takes keys, until the user has enough. */
static void view_loop(void) {
    char bytes[256];
    for (bool more = true; more && !view_killed;) {
        struct pollfd ready = {.fd = STDIN_FILENO, .events = POLLIN};
        if (view_resized) view_measure();
        lock_take(&view.lock);
        view_draw();
        lock_drop(&view.lock);
        if (poll(&ready, 1, VIEW_HEARTBEAT_MS) <= 0) continue;
        ssize_t got = sys_read_some(STDIN_FILENO, bytes, sizeof bytes);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) break; /* the terminal is gone */
        lock_take(&view.lock);
        struct slice rest = {bytes, (size_t)got};
        while (rest.length > 0 && more) more = view_key(key_next(&rest));
        lock_drop(&view.lock);
    }
}

/* The process that works, for the one that is `waiting`. Its end ends its threads. */
static void viewer_work(struct client *cl, const char *top, pid_t waiting) {
    struct termios raw = view.cooked;
    const char *colour = getenv("NO_COLOR");
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != waiting) return; /* it was ended before */
    view_child = 0;
    snprintf(view.top, sizeof view.top, "%s", top);
    view.utf8 = terminal_is_utf8();
    view.colour = !colour || !*colour;
    view.nodes = mem_alloc(2 * NODES_MAX * sizeof *view.nodes);
    option_quiet = true;
    complain_to = view_complaint;
    lock_init(&view.lock, RANK_TRANSFER);
    cond_init(&view.changed);
    client_init(&view.fetcher, cl->masters);
    client_init(&view.actor, cl->masters);
    view.fetcher.retry_ms = 0;
    text_bytes(&view.fetcher.nodes, cl->nodes.data ? cl->nodes.data : "", cl->nodes.length);
    signal(SIGWINCH, on_resize);
    raw.c_iflag &= ~(tcflag_t)(ICRNL | IXON | BRKINT | INPCK | ISTRIP);
    raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO | ISIG | IEXTEN);
    raw.c_cc[VMIN] = 1;
    raw.c_cc[VTIME] = 0;
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &raw);
    if (!sys_write(STDOUT_FILENO, "\033[?1049h\033[?25l", 14)) return;
    view_measure();
    pthread_t threads[2] = {thread_spawn(fetch_main, NULL), thread_spawn(act_main, NULL)};
    view_loop();
    if (sys_write(STDOUT_FILENO, view_leave, sizeof view_leave - 1)) tcsetattr(STDIN_FILENO, TCSAFLUSH, &view.cooked);
    (void)threads; /* one may wait for a server: it is not waited for */
}

/* Runs the viewer on a terminal, for the directory `top`. Returns the exit code. The terminal is as before when this
 * returns, whatever happened. */
static int viewer_run(struct client *cl, const char *top) {
    static const int ends[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
    pid_t here = getpid();
    int ended = 0;
    if (tcgetattr(STDIN_FILENO, &view.cooked) != 0)
        return complain("view", fail(INTERNAL, "the terminal does not answer: %s", strerror(errno)));
    for (int i = 0; i < 4; i++) signal(ends[i], on_view_signal);
    fflush(stdout);
    view_child = fork();
    if (view_child < 0) return complain("view", fail(INTERNAL, "no process: %s", strerror(errno)));
    if (view_child == 0) {
        viewer_work(cl, top, here);
        temporaries_clean();
        _exit(view_killed ? 128 + view_killed : 0);
    }
    while (waitpid(view_child, &ended, 0) < 0 && errno == EINTR) continue;
    view_child = 0;
    if (!WIFEXITED(ended) && sys_write(STDOUT_FILENO, view_leave, sizeof view_leave - 1))
        fprintf(stderr, "dfs: the viewer ended by signal %d\n", WTERMSIG(ended));
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &view.cooked);
    return WIFEXITED(ended) ? WEXITSTATUS(ended) : INTERNAL;
}

/* ======== 17. Commands ======== */
/* The options, their help, and one function for each thing a user can ask. Data goes to standard output, everything
 * else to standard error. Entry points: options_parse, cmd_*. */

enum option {
    OPT_UPLOAD,
    OPT_DOWNLOAD,
    OPT_VIEW,
    OPT_STAT,
    OPT_LS,
    OPT_FIND,
    OPT_DU,
    OPT_CAT,
    OPT_CP,
    OPT_MV,
    OPT_RM,
    OPT_RMDIR,
    OPT_UNDELETE,
    OPT_MKDIR,
    OPT_SHARE,
    OPT_UNSHARE,
    OPT_EDIT,
    OPT_STATUS,
    OPT_NODES,
    OPT_WHERE,
    OPT_EVENTS,
    OPT_DRAIN,
    OPT_FORGET,
    OPT_BENCH,
    OPT_SCRUB,
    OPT_FSCK,
    OPT_EXTRACT,
    OPT_FAULT,
    OPT_HELP,
    OPT_VERSION,
    OPT_COMPLETION,
    OPT_MAN,
    OPT_COMMANDS_END, /* those above are commands, those below change how they work */
    OPT_MASTER = OPT_COMMANDS_END,
    OPT_KEY,
    OPT_INSECURE,
    OPT_REPAIR,
    OPT_JSON,
    OPT_QUIET,
    OPT_YES,
    OPT_RECURSIVE,
    OPT_HUMAN,
    OPT_PARENTS,
    OPT_NO_CLOBBER,
    OPT_EXCLUDE,
    OPT_DELETE,
    OPT_DRY_RUN,
    OPT_FOLLOW_LINKS,
    OPT_CACHE_TTL,
    OPT_CACHE_SIZE,
    OPT_CHUNK_SIZE,
    OPT_EXPIRE,
    OPT_FROM,
    OPT_NODE,
    OPT_FOLLOW,
    OPT_CANCEL,
    OPT_LISTEN,
    OPT_NAME,
    OPT_ZONE,
    OPT_HTTP_HOST,
    OPT_OPEN_METRICS,
    OPT_INIT,
    OPT_FORCE_FROM,
    OPT_ALLOW_FAULTS,
    OPT_ALLOW_DROPS,
    OPT_GRACE,
    OPT_TRASH_TIME,
    OPT_COPIES,
    OPT_SYNC_COPIES,
    OPT_REPAIR_AFTER,
    OPT_REPAIR_RATE,
    OPT_ROSTER,
    OPT_PING,
    OPT_DEAD_AFTER,
    OPT_SEGMENT_SIZE,
    OPT_SCRUB_RATE,
    OPT_FILES,
    OPT_SIZE,
    OPT_CLIENTS,
    OPT_COUNT
};

/* Who takes an option: for the order of help, and to refuse one where it would do nothing. */
enum { AT_CLIENT = 1, AT_MASTER = 2, AT_NODE = 4 };

static const struct option_row {
    const char *name;     /* without its dashes */
    char letter;          /* 0: none */
    const char *argument; /* of an option; NULL: it takes none */
    unsigned at;
    const char *help;
    const char *words;    /* of a command: what it takes */
} option_table[OPT_COUNT] = {
    [OPT_UPLOAD] = {"upload", 'u', NULL, AT_CLIENT, "upload a file, a folder, or - for standard input", "REMOTE LOCAL"},
    [OPT_DOWNLOAD] = {"download", 'd', NULL, AT_CLIENT, "download a file, a folder, or - for standard output",
                      "REMOTE LOCAL"},
    [OPT_VIEW] = {"view", 'v', NULL, AT_CLIENT, "the viewer: live on a terminal, a plain tree into a pipe", "[REMOTE]"},
    [OPT_STAT] = {"stat", 0, NULL, AT_CLIENT, "size, time, SHA-256, chunks, and which nodes hold them", "REMOTE"},
    [OPT_LS] = {"ls", 0, NULL, AT_CLIENT, "list directories: size, copies, time, name", "[REMOTE ...]"},
    [OPT_FIND] = {"find", 0, NULL, AT_CLIENT, "paths whose name, or path if it has a slash, matches GLOB",
                  "GLOB [REMOTE]"},
    [OPT_DU] = {"du", 0, NULL, AT_CLIENT, "bytes and files of what is in a directory, and of all", "[REMOTE ...]"},
    [OPT_CAT] = {"cat", 0, NULL, AT_CLIENT, "files to standard output, one behind the other", "REMOTE ..."},
    [OPT_CP] = {"cp", 0, NULL, AT_CLIENT, "copy files and directories, at once, without moving a byte",
                "FROM ... TO"},
    [OPT_MV] = {"mv", 0, NULL, AT_CLIENT, "rename a file or directory, or move it into a directory", "FROM ... TO"},
    [OPT_RM] = {"rm", 0, NULL, AT_CLIENT, "remove files or empty directories; -r: directories with all in them",
                "REMOTE ..."},
    [OPT_RMDIR] = {"rmdir", 0, NULL, AT_CLIENT, "remove empty directories", "REMOTE ..."},
    [OPT_UNDELETE] = {"undelete", 0, NULL, AT_CLIENT, "take back from the trash, or list what is in it",
                      "[REMOTE ...]"},
    [OPT_MKDIR] = {"mkdir", 0, NULL, AT_CLIENT, "make directories, and those above them", "REMOTE ..."},
    [OPT_SHARE] = {"share", 0, NULL, AT_CLIENT, "a link by which anyone gets a file without the key, or list all links",
                   "[REMOTE]"},
    [OPT_UNSHARE] = {"unshare", 0, NULL, AT_CLIENT, "end a link, or all links of a file", "REMOTE|LINK ..."},
    [OPT_EDIT] = {"edit", 0, NULL, AT_CLIENT, "open a file in $EDITOR, and upload it if it was changed", "REMOTE"},
    [OPT_STATUS] = {"status", 0, NULL, AT_CLIENT, "how the cluster is: healthy, degraded, healing or read-only", ""},
    [OPT_NODES] = {"nodes", 0, NULL, AT_CLIENT, "how each node is", ""},
    [OPT_WHERE] = {"where", 0, NULL, AT_CLIENT, "chunk by chunk, which nodes hold it", "REMOTE"},
    [OPT_EVENTS] = {"events", 0, NULL, AT_CLIENT, "what happened: nodes joined, lost, copies made anew; -f goes on",
                    ""},
    [OPT_DRAIN] = {"drain", 0, NULL, AT_CLIENT, "have others take what a node holds, until it is safe to unplug",
                   "NODE"},
    [OPT_FORGET] = {"forget", 0, NULL, AT_CLIENT, "do not miss a node any longer that will not come back", "NODE"},
    [OPT_BENCH] = {"bench", 0, NULL, AT_CLIENT, "move --files files of --size bytes with --clients at once", "up|down"},
    [OPT_SCRUB] = {"scrub", 0, NULL, AT_CLIENT, "have nodes, or all, read everything that they hold again now",
                   "[NODE ...]"},
    [OPT_FSCK] = {"fsck", 0, NULL, AT_CLIENT, "check a node's directory, with its node stopped; nothing is changed",
                  "DIR"},
    [OPT_EXTRACT] = {"extract", 0, NULL, AT_CLIENT, "get all files out of a node's directory, with no server",
                     "DIR OUT"},
    [OPT_FAULT] = {"fault", 0, NULL, AT_CLIENT,
                   "break a node on purpose: pause, slow MS, drop-from ADDRESS, corrupt SHA256, full, fail-sync, none",
                   "NODE KIND [ARGUMENT]"},
    [OPT_HELP] = {"help", 'h', NULL, AT_CLIENT, "the short help, or all of it", "[all]"},
    [OPT_VERSION] = {"version", 0, NULL, AT_CLIENT, "versions of the program, the protocol and the disk format", ""},
    [OPT_COMPLETION] = {"completion", 0, NULL, AT_CLIENT, "what a shell needs to complete commands and options",
                        "bash|zsh|fish"},
    [OPT_MAN] = {"man", 0, NULL, AT_CLIENT, "a manual page: dfs --man | man -l -", ""},
    [OPT_MASTER] = {"master", 'm', "HOST:PORT[,...]", AT_CLIENT | AT_NODE, "where the master is (127.0.0.1:3370)", ""},
    [OPT_KEY] = {"key", 'k', "FILE", AT_CLIENT | AT_MASTER | AT_NODE,
                 "the cluster's key (~/.config/dfs/key, /etc/dfs/key)", ""},
    [OPT_INSECURE] = {"insecure", 0, NULL, AT_CLIENT | AT_MASTER | AT_NODE,
                      "no key; servers then listen on 127.0.0.1 only", ""},
    [OPT_REPAIR] = {"repair", 0, NULL, AT_CLIENT, "set damaged chunks aside, to be fetched from other nodes", ""},
    [OPT_JSON] = {"json", 'j', NULL, AT_CLIENT, "answer in JSON", ""},
    [OPT_QUIET] = {"quiet", 'q', NULL, AT_CLIENT, "no progress, no summary", ""},
    [OPT_YES] = {"yes", 'y', NULL, AT_CLIENT, "do not ask", ""},
    [OPT_RECURSIVE] = {"recursive", 'r', NULL, AT_CLIENT, "with all that is in directories", ""},
    [OPT_HUMAN] = {"human", 'H', NULL, AT_CLIENT, "sizes as 4.0 KiB, not to the byte", ""},
    [OPT_PARENTS] = {"parents", 'p', NULL, AT_CLIENT, "a directory that is there already is no error", ""},
    [OPT_NO_CLOBBER] = {"no-clobber", 0, NULL, AT_CLIENT, "leave what is there already as it is", ""},
    [OPT_EXCLUDE] = {"exclude", 'x', "GLOB", AT_CLIENT,
                     "leave out of a folder what has such a name, or path if it has a slash; may be repeated", ""},
    [OPT_DELETE] = {"delete", 0, NULL, AT_CLIENT, "remove from the target what is not in the folder that it comes from",
                    ""},
    [OPT_DRY_RUN] = {"dry-run", 0, NULL, AT_CLIENT, "say what would be done with a folder, and do nothing", ""},
    [OPT_FOLLOW_LINKS] = {"follow-links", 'L', NULL, AT_CLIENT, "upload what symbolic links point to", ""},
    [OPT_CACHE_TTL] = {"cache-ttl", 0, "TIME", AT_CLIENT,
                       "keep files that are read, and read them from there so long without asking anyone", ""},
    [OPT_CACHE_SIZE] = {"cache-size", 0, "SIZE", AT_CLIENT, "keep so much at most (1G)", ""},
    [OPT_CHUNK_SIZE] = {"chunk-size", 0, "SIZE", AT_CLIENT, "cut uploads into chunks of this size (4M)", ""},
    [OPT_EXPIRE] = {"expire", 0, "TIME", AT_CLIENT, "what is uploaded, or the link, is gone after this time", ""},
    [OPT_FROM] = {"from", 0, "NODE", AT_CLIENT, "read from this node's copies alone", ""},
    [OPT_NODE] = {"node", 0, "NODE", AT_CLIENT, "only files of which this node holds all", ""},
    [OPT_FOLLOW] = {"follow", 'f', NULL, AT_CLIENT, "go on until interrupted", ""},
    [OPT_CANCEL] = {"cancel", 0, NULL, AT_CLIENT, "the node goes on as before", ""},
    [OPT_LISTEN] = {"listen", 'l', "HOST:PORT", AT_MASTER | AT_NODE,
                    "serve here (0.0.0.0:3370, a node 0.0.0.0:3371); port 0 takes a free one", ""},
    [OPT_NAME] = {"name", 'n', "NAME", AT_NODE, "the node's name for people (the host's name)", ""},
    [OPT_ZONE] = {"zone", 0, "NAME", AT_NODE, "what may fail together with it; copies are spread over zones first",
                  ""},
    [OPT_HTTP_HOST] = {"http-host", 0, "NAME[,...]", AT_MASTER | AT_NODE,
                       "more names that browsers may call this server by", ""},
    [OPT_OPEN_METRICS] = {"open-metrics", 0, NULL, AT_MASTER | AT_NODE, "/metrics and /healthz need no key", ""},
    [OPT_INIT] = {"init", 0, NULL, AT_MASTER, "make a new cluster, and its key if there is none", ""},
    [OPT_FORCE_FROM] = {"force-from", 0, "NODE", AT_MASTER,
                        "go on from this node alone if too few are left; others' changes are lost", ""},
    [OPT_ALLOW_FAULTS] = {"allow-faults", 0, NULL, AT_MASTER,
                          "let clients break nodes on purpose, for lessons and tests", ""},
    [OPT_ALLOW_DROPS] = {"allow-drops", 0, NULL, AT_MASTER, "after --force-from: drop what no record names, for good",
                         ""},
    [OPT_GRACE] = {"grace", 0, "TIME", AT_MASTER, "drop a chunk that no record names not before this time (10m)", ""},
    [OPT_TRASH_TIME] = {"trash-time", 0, "TIME", AT_MASTER,
                        "keep what is removed or overwritten so long (1d); 0s: not at all", ""},
    [OPT_COPIES] =
        {"copies", 0, "N", AT_MASTER | AT_CLIENT,
         "copies of each file: all (one on every node), or a number; dfs --copies N REMOTE ...: of what is there",
         "REMOTE ..."},
    [OPT_REPAIR_AFTER] = {"repair-after", 0, "TIME", AT_MASTER,
                          "make a lost node's copies anew after this time (0s; 5m if it was stopped)", ""},
    [OPT_REPAIR_RATE] = {"repair-rate", 0, "SIZE", AT_MASTER,
                         "a node fetches at most so many bytes in a second, to make copies (0: no limit)", ""},
    [OPT_SYNC_COPIES] = {"sync-copies", 0, "N", AT_MASTER,
                         "copies of the bytes on disk before an upload is acknowledged (2)", ""},
    [OPT_ROSTER] = {"roster", 0, "N", AT_MASTER, "how many nodes must confirm every change (7)", ""},
    [OPT_PING] = {"ping", 0, "TIME", AT_MASTER | AT_NODE, "how often a node pings (1s)", ""},
    [OPT_DEAD_AFTER] = {"dead-after", 0, "TIME", AT_MASTER | AT_NODE,
                        "silent for so long is dead (3s); the same everywhere", ""},
    [OPT_SEGMENT_SIZE] = {"segment-size", 0, "SIZE", AT_NODE,
                          "size of one file of the log (64M, less on a disk of less than 2G)", ""},
    [OPT_SCRUB_RATE] = {"scrub-rate", 0, "SIZE", AT_NODE,
                        "read everything again once a day, so many bytes in a second (10M); 0: never", ""},
    [OPT_FILES] = {"files", 0, "N", AT_CLIENT, "how many files (10000)", ""},
    [OPT_SIZE] = {"size", 0, "SIZE", AT_CLIENT, "how large each (1K)", ""},
    [OPT_CLIENTS] = {"clients", 0, "N", AT_CLIENT, "how many at once (16)", ""},
};

/* Which commands an option of the client is for; one that is not here is for all. */
static const struct { enum option option, command; } option_belongs[] = {
    {OPT_REPAIR, OPT_FSCK}, {OPT_COPIES, OPT_COPIES}, {OPT_FROM, OPT_DOWNLOAD}, {OPT_FROM, OPT_CAT}, {OPT_NODE, OPT_LS},
    {OPT_FOLLOW, OPT_EVENTS}, {OPT_CANCEL, OPT_DRAIN}, {OPT_YES, OPT_RM}, {OPT_RECURSIVE, OPT_RM},
    {OPT_RECURSIVE, OPT_LS}, {OPT_HUMAN, OPT_LS}, {OPT_HUMAN, OPT_DU}, {OPT_HUMAN, OPT_FIND}, {OPT_PARENTS, OPT_MKDIR},
    {OPT_NO_CLOBBER, OPT_UPLOAD}, {OPT_NO_CLOBBER, OPT_DOWNLOAD}, {OPT_EXCLUDE, OPT_UPLOAD},
    {OPT_EXCLUDE, OPT_DOWNLOAD}, {OPT_DELETE, OPT_UPLOAD}, {OPT_DELETE, OPT_DOWNLOAD}, {OPT_DRY_RUN, OPT_UPLOAD},
    {OPT_DRY_RUN, OPT_DOWNLOAD}, {OPT_FOLLOW_LINKS, OPT_UPLOAD}, {OPT_CHUNK_SIZE, OPT_UPLOAD},
    {OPT_EXPIRE, OPT_UPLOAD}, {OPT_EXPIRE, OPT_SHARE},
    {OPT_CHUNK_SIZE, OPT_EDIT}, {OPT_FILES, OPT_BENCH}, {OPT_SIZE, OPT_BENCH}, {OPT_CLIENTS, OPT_BENCH}};

static const char *option_value[OPT_COUNT]; /* NULL: not given; "" for those without an argument */
static const char *option_exclude[EXCLUDES_MAX]; /* --exclude may be repeated */
static int option_exclude_count;

static const char usage_text[] =
    "dfs keeps files on several machines: every file on every node, checked by SHA-256, repaired when one dies.\n"
    "\n"
    "  dfs master --init              start a new cluster here; prints what to run on the other machines\n"
    "  dfs node DIR -m HOST           keep files in DIR for the cluster whose master is HOST\n"
    "  dfs -u docs/a.pdf a.pdf        upload a file, or a folder: dfs -u photos ~/photos\n"
    "  dfs -d docs/a.pdf b.pdf        download a file or a folder\n"
    "  dfs -v                         watch files, copies and nodes\n"
    "\n";

/* `-u, --upload REMOTE LOCAL` */
static void text_option(struct text *t, const struct option_row *row, bool command) {
    if (row->letter) text_format(t, "-%c, ", row->letter);
    text_format(t, "--%s", row->name);
    if (row->argument) text_format(t, " %s", row->argument);
    if (command && *row->words) text_format(t, " %s", row->words);
}

/* For which commands an option is, as ` (for -u, -d)`; nothing if it is for all. */
static void text_belongs(struct text *t, int option) {
    int count = 0;
    for (size_t i = 0; i < sizeof option_belongs / sizeof *option_belongs; i++)
        if ((int)option_belongs[i].option == option && option != OPT_COPIES)
            text_format(t, "%s--%s", count++ ? ", " : "  (for ", option_table[option_belongs[i].command].name);
    if (count > 0) text_byte(t, ')');
}

static const struct help_group {
    bool commands;
    unsigned at;
    const char *title;
} help_groups[] = {{true, AT_CLIENT, "Commands"}, {false, AT_CLIENT, "Options of the client"},
                   {false, AT_MASTER, "Options of dfs master"}, {false, AT_NODE, "Options of dfs node DIR"}};

static bool help_has(const struct help_group *group, int option) {
    bool command = option < OPT_COMMANDS_END || (option == OPT_COPIES && group->commands);
    return group->commands == command && (option_table[option].at & group->at) != 0;
}

static const char environment_text[] =
    "Every option --foo-bar is also the environment variable DFS_FOO_BAR (the key: DFS_KEY_FILE; options without a\n"
    "value: 1 or 0). Times are written 250ms 3s 5m 2h 7d, sizes 4K 10M 1G. A REMOTE may be a pattern with * ? [...].\n";

static void options_help_all(void) {
    printf("%s", usage_text);
    for (size_t g = 0; g < sizeof help_groups / sizeof *help_groups; g++) {
        printf("%s:\n", help_groups[g].title);
        for (int i = 0; i < OPT_COUNT; i++) {
            struct text left = {0}, right = {0};
            if (!help_has(&help_groups[g], i)) continue;
            if (!option_table[i].letter) text_add(&left, "    ");
            text_option(&left, &option_table[i], help_groups[g].commands);
            text_add(&right, option_table[i].help);
            if (!help_groups[g].commands && help_groups[g].at == AT_CLIENT) text_belongs(&right, i);
            printf("  %-34s %s\n", left.data, right.data);
            text_free(&left);
            text_free(&right);
        }
        printf("\n");
    }
    printf("%sExit codes:", environment_text);
    for (int i = 0; i <= READ_ONLY; i++) printf("%s %d %s", i ? ";" : "", i, status_table[i].text);
    printf("; 64 wrong usage.\n");
}

/* dfs --help: the names of the commands; dfs --help all: everything. */
static int options_help(int rest, char **words) {
    if (rest == 1 && strcmp(words[0], "all") == 0) {
        options_help_all();
        return 0;
    }
    if (rest > 0) die(USAGE_ERROR, "write dfs --help, or dfs --help all");
    printf("%sCommands:\n", usage_text);
    for (int i = 0; i < OPT_COUNT; i++) {
        struct text left = {0};
        if (!help_has(&help_groups[0], i) || i == OPT_HELP || i == OPT_COMPLETION || i == OPT_MAN) continue;
        if (!option_table[i].letter) text_add(&left, "    ");
        text_option(&left, &option_table[i], true);
        printf("  %-34s %.*s\n", left.data, (int)strcspn(option_table[i].help, ";:"), option_table[i].help);
        text_free(&left);
    }
    printf("\nOften used with them: -m HOST:PORT (where the master is), -r, -j (JSON), -q. dfs --help all lists all "
           "options\nand exit codes.\n");
    return 0;
}

static void print_completion_fish(void) {
    for (int i = 0; i < OPT_COUNT; i++) {
        const struct option_row *row = &option_table[i];
        printf("complete -c dfs -l %s", row->name);
        if (row->letter) printf(" -s %c", row->letter);
        if (row->argument) printf(" -r");
        printf(" -d '");
        for (const char *at = row->help; *at; at++) printf(*at == '\'' ? "\\'" : "%c", *at);
        printf("'\n");
    }
    printf("complete -c dfs -n __fish_use_subcommand -a 'master node'\n");
}

/* dfs --completion bash|zsh|fish: from the table of options; what is remote is completed by asking the cluster. */
static int print_completion(int rest, char **words) {
    const char *shell = rest == 1 ? words[0] : "";
    if (strcmp(shell, "fish") == 0) {
        print_completion_fish();
        return 0;
    }
    if (strcmp(shell, "bash") != 0 && strcmp(shell, "zsh") != 0)
        die(USAGE_ERROR, "write dfs --completion bash, zsh or fish; in ~/.bashrc: source <(dfs --completion bash)");
    if (strcmp(shell, "zsh") == 0) printf("autoload -U +X bashcompinit && bashcompinit\n");
    printf("_dfs() {\n    local word=${COMP_WORDS[COMP_CWORD]} IFS=$'\\n'\n"
           "    case $word in\n    -*) COMPREPLY=($(compgen -W '");
    for (int i = 0; i < OPT_COUNT; i++) printf("%s--%s", i ? "\n" : "", option_table[i].name);
    printf(
        "' -- \"$word\")) ;;\n"
        "    *)  COMPREPLY=($(compgen -f -- \"$word\"))\n"
        "        if [ \"$COMP_CWORD\" = 1 ]; then COMPREPLY+=($(compgen -W $'master\\nnode' -- \"$word\"))\n"
        "        else\n"
        "            local folder=${word%%/*}/ name\n"
        "            [[ $word == */* ]] || folder=/\n"
        "            while read -r name; do [[ ${folder#/}$name != \"${word#/}\"* ]] || COMPREPLY+=(\"$folder$name\")\n"
        "            done < <(dfs -q --ls \"$folder\" 2>/dev/null | cut -c 40-)\n"
        "        fi ;;\n"
        "    esac\n}\ncomplete -o filenames -F _dfs dfs\n");
    return 0;
}

/* A text for a manual page: a backslash is doubled, a hyphen is one, and no line begins with a dot. */
static void print_roff(const char *text) {
    for (const char *at = text; *at; at++) {
        if (*at == '-' || *at == '\\') putchar('\\');
        if (*at == '.' && (at == text || at[-1] == '\n')) printf("\\&");
        putchar(*at);
    }
}

/* dfs --man: a manual page, from the same tables as --help. */
static int print_man(int rest, char **words) {
    (void)words;
    if (rest > 0) die(USAGE_ERROR, "write dfs --man | man -l -");
    printf(".TH DFS 1 \"" DFS_DATE "\" \"dfs " DFS_VERSION
           "\"\n.SH NAME\ndfs \\- a distributed file store\n.SH SYNOPSIS\n"
           ".B dfs master\n[options]\n.br\n.B dfs node\nDIR [options]\n.br\n.B dfs\nCOMMAND [options]\n"
           ".SH DESCRIPTION\n.nf\n");
    print_roff(usage_text);
    printf(".fi\n");
    for (size_t g = 0; g < sizeof help_groups / sizeof *help_groups; g++) {
        printf(".SH \"%s\"\n", help_groups[g].title);
        for (int i = 0; i < OPT_COUNT; i++) {
            struct text left = {0}, right = {0};
            if (!help_has(&help_groups[g], i)) continue;
            text_option(&left, &option_table[i], help_groups[g].commands);
            text_add(&right, option_table[i].help);
            if (!help_groups[g].commands && help_groups[g].at == AT_CLIENT) text_belongs(&right, i);
            printf(".TP\n.B ");
            print_roff(left.data);
            printf("\n");
            print_roff(right.data);
            printf("\n");
            text_free(&left);
            text_free(&right);
        }
    }
    printf(".SH ENVIRONMENT\n");
    print_roff(environment_text);
    printf(".SH \"EXIT STATUS\"\n");
    for (int i = 0; i <= READ_ONLY; i++) printf(".TP\n%d\n%s\n", i, status_table[i].text);
    printf(".TP\n64\nwrong usage\n");
    return 0;
}

/* How many single changes make one word of the other: a letter more, less, or another one, or two that are swapped
 * (Damerau; only neighbours, and none changed twice). Words longer than WORD_MAX are far from everything. */
static int word_distance(const char *a, const char *b) {
    enum { WORD_MAX = 24 };
    int d[WORD_MAX + 1][WORD_MAX + 1], m = (int)strlen(a), n = (int)strlen(b);
    if (m > WORD_MAX || n > WORD_MAX) return INT_MAX;
    for (int i = 0; i <= m; i++) d[i][0] = i;
    for (int j = 0; j <= n; j++) d[0][j] = j;
    for (int i = 1; i <= m; i++)
        for (int j = 1; j <= n; j++) {
            int best = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
            if (d[i - 1][j] + 1 < best) best = d[i - 1][j] + 1;
            if (d[i][j - 1] + 1 < best) best = d[i][j - 1] + 1;
            bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
            if (swapped && d[i - 2][j - 2] + 1 < best) best = d[i - 2][j - 2] + 1;
            d[i][j] = best;
        }
    return d[m][n];
}

/* The option whose name is most like a word; -1 if none is. */
static int option_like(const char *word) {
    int best = -1, least = 3;
    if (strlen(word) < 5) least = 2; /* more and it is another word */
    for (int i = 0; i < OPT_COUNT; i++) {
        int distance = word_distance(word, option_table[i].name);
        if (distance >= least) continue;
        least = distance;
        best = i;
    }
    return best;
}

/* The environment variable of an option. */
static const char *option_environment(int option) {
    char name[64] = "DFS_";
    size_t used = 4;
    if (option == OPT_KEY) return getenv("DFS_KEY_FILE");
    for (const char *at = option_table[option].name; *at && used < sizeof name - 1; at++)
        name[used++] = *at == '-' ? '_' : (char)(*at >= 'a' && *at <= 'z' ? *at - 32 : *at);
    name[used] = 0;
    return getenv(name);
}

static int option_by_name(struct slice name) {
    char word[64] = "";
    for (int i = 0; i < OPT_COUNT; i++)
        if (slice_is(name, option_table[i].name)) return i;
    int like = slice_copy(name, word, sizeof word) ? option_like(word) : -1;
    if (like >= 0) die(USAGE_ERROR, "there is no option --%s; did you mean --%s?", word, option_table[like].name);
    die(USAGE_ERROR, "there is no option --%.*s; dfs --help all lists them", (int)name.length, name.at);
}

static int option_by_letter(char letter) {
    for (int i = 0; i < OPT_COUNT; i++)
        if (option_table[i].letter == letter) return i;
    die(USAGE_ERROR, "there is no option -%c; dfs --help all lists them", letter);
}

/* Takes one option with its argument, attached or as the next word. Returns how many words it took. */
static int option_take(int option, const char *attached, const char *next, const char *word) {
    if (option_value[option] && option != OPT_EXCLUDE) die(USAGE_ERROR, "%s is given twice", word);
    if (!option_table[option].argument) {
        if (attached) die(USAGE_ERROR, "--%s takes no value", option_table[option].name);
        option_value[option] = "";
        return 1;
    }
    option_value[option] = attached ? attached : next;
    if (!option_value[option]) die(USAGE_ERROR, "%s needs a value: %s", word, option_table[option].argument);
    if (option == OPT_EXCLUDE && option_exclude_count == EXCLUDES_MAX)
        die(USAGE_ERROR, "%s: %d patterns at most", word, EXCLUDES_MAX);
    if (option == OPT_EXCLUDE) option_exclude[option_exclude_count++] = option_value[option];
    return attached ? 1 : 2;
}

/* Sorts the words of the command line into options and the rest; then the environment fills in what was not given.
 * Returns the number of rest words, which it moves to the front of `words`. */
static int options_parse(int count, char **words) {
    int rest = 0;
    bool ended = false;
    for (int i = 0; i < count;) {
        char *word = words[i];
        if (ended || word[0] != '-' || word[1] == 0) {
            words[rest++] = word;
            i++;
        } else if (strcmp(word, "--") == 0) {
            ended = true;
            i++;
        } else if (word[1] == '-') {
            const char *equals = strchr(word, '=');
            struct slice name = {word + 2, equals ? (size_t)(equals - word - 2) : strlen(word + 2)};
            i += option_take(option_by_name(name), equals ? equals + 1 : NULL, i + 1 < count ? words[i + 1] : NULL,
                             word);
        } else {
            int option = option_by_letter(word[1]);
            for (const char *at = word + 1; at[1] && !option_table[option].argument; at++) { /* -jq is -j -q */
                option_take(option, NULL, NULL, word);
                option = option_by_letter(at[1]);
                word = words[i] + (at + 1 - words[i]) - 1;
            }
            i += option_take(option, word[2] ? word + 2 : NULL, i + 1 < count ? words[i + 1] : NULL, words[i]);
        }
    }
    for (int i = OPT_COMMANDS_END; i < OPT_COUNT; i++) {
        const char *value = option_value[i] ? NULL : option_environment(i);
        if (!value || !*value) continue;
        bool off = strcmp(value, "0") == 0 || strcmp(value, "no") == 0;
        bool on = strcmp(value, "1") == 0 || strcmp(value, "yes") == 0;
        if (!option_table[i].argument && !on && !off)
            die(USAGE_ERROR, "the environment's value for --%s is '%s'; write 1 or yes, 0 or no", option_table[i].name,
                value);
        if (option_table[i].argument || on) option_value[i] = value;
        if (i == OPT_EXCLUDE) option_exclude[option_exclude_count++] = value;
    }
    return rest;
}

/* Whether an option is on the command line: what is in the environment may be for others. */
static bool option_is_given(int option) {
    return option_value[option] && option_value[option] != option_environment(option);
}

static uint64_t option_number(int option, uint64_t missing, uint64_t least, uint64_t most) {
    uint64_t number = missing;
    if (option_value[option] && (!parse_u64(slice_of(option_value[option]), most, &number) || number < least))
        die(USAGE_ERROR, "--%s %s: write a number from %" PRIu64 " to %" PRIu64, option_table[option].name,
            option_value[option], least, most);
    return number;
}

static uint64_t option_size(int option, uint64_t missing, uint64_t least, uint64_t most) {
    uint64_t number = missing;
    if (option_value[option] && (!parse_size(option_value[option], &number) || number < least || number > most))
        die(USAGE_ERROR, "--%s %s: write a size such as 4K 10M 1G, from %" PRIu64 " to %" PRIu64 " bytes",
            option_table[option].name, option_value[option], least, most);
    return number;
}

static int64_t option_ms(int option, int64_t missing, uint64_t least, uint64_t most) {
    uint64_t ms = (uint64_t)missing;
    if (option_value[option] && (!parse_duration_ms(option_value[option], &ms) || ms < least || ms > most))
        die(USAGE_ERROR, "--%s %s: write a time such as 250ms 3s 5m, from %" PRIu64 "ms to %" PRIu64 "h",
            option_table[option].name, option_value[option], least, most / HOUR_MS);
    return (int64_t)ms;
}

/* ---- Keys ---- */

static void key_default_path(char *to, size_t capacity) {
    const char *config = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
    if (config && *config) snprintf(to, capacity, "%s/dfs/key", config);
    else if (home && *home) snprintf(to, capacity, "%s/.config/dfs/key", home);
    else snprintf(to, capacity, "/etc/dfs/key");
}

/* Finds the key by the rules of the manual. Without --insecure a server must have one; a client may go without, and is
 * then told by the server if it needs one. */
static void key_setup(bool needed) {
    char path[PATH_MAX];
    if (option_value[OPT_INSECURE]) return;
    if (option_value[OPT_KEY]) {
        key_load(option_value[OPT_KEY]);
        return;
    }
    key_default_path(path, sizeof path);
    if (access(path, F_OK) != 0) snprintf(path, sizeof path, "/etc/dfs/key");
    if (access(path, F_OK) == 0) key_load(path);
    else if (needed)
        die(USAGE_ERROR, "no key: give it with -k FILE; for a new cluster start the master with --init, to go without "
                         "one on this machine only, give --insecure everywhere");
}

/* Makes every folder above a file. */
static void make_folders(const char *path) {
    char folder[PATH_MAX];
    snprintf(folder, sizeof folder, "%s", path);
    for (char *at = folder + 1; *at; at++) {
        if (*at != '/') continue;
        *at = 0;
        if (mkdir(folder, 0700) != 0 && errno != EEXIST) die(INTERNAL, "making %s: %s", folder, strerror(errno));
        *at = '/';
    }
}

/* dfs master --init: makes the key if there is none. Returns whether it did; `path` says where it is. */
static bool key_make(char *path, size_t capacity, char hex[2 * KEY_BYTES + 2]) {
    uint8_t key[KEY_BYTES];
    if (option_value[OPT_KEY]) snprintf(path, capacity, "%s", option_value[OPT_KEY]);
    else key_default_path(path, capacity);
    if (access(path, F_OK) == 0) return false;
    random_bytes(key, sizeof key);
    hex_write(hex, key, sizeof key);
    hex[2 * KEY_BYTES] = '\n';
    hex[2 * KEY_BYTES + 1] = 0;
    make_folders(path);
    int fd = sys_open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
    if (fd < 0 || !sys_write(fd, hex, 2 * KEY_BYTES + 1) || sys_fsync(fd) != 0 || close(fd) != 0)
        die(INTERNAL, "writing the key to %s: %s", path, strerror(errno));
    hex[2 * KEY_BYTES] = 0;
    explicit_bzero(key, sizeof key);
    return true;
}

/* ---- Servers ---- */

/* What to run on the other machines. The secret is shown this once, and stays out of every argv: echo is part of the
 * shell. */
static void print_join(const char *listen_address, const char *path, const char *hex, bool made) {
    char host[256] = "", name[128] = "THIS-HOST";
    uint16_t port = MASTER_PORT;
    bool named = net_split(listen_address, host, sizeof host, &port) && strcmp(host, "0.0.0.0") != 0 &&
                 strcmp(host, "::") != 0;
    if (!named && gethostname(name, sizeof name - 1) == 0) snprintf(host, sizeof host, "%s", name);
    bool brackets = strchr(host, ':') != NULL;
    fprintf(stderr, "A new cluster. On each machine that shall keep files:\n\n");
    if (made)
        fprintf(stderr, "  (umask 077; mkdir -p ~/.config/dfs; echo %s >~/.config/dfs/key)\n", hex);
    else if (cluster_key.set)
        fprintf(stderr, "  copy the key file %s to ~/.config/dfs/key, readable by its owner only\n", path);
    fprintf(stderr, "  dfs node /srv/dfs -m %s%s%s:%u%s\n\n", brackets ? "[" : "", host, brackets ? "]" : "", port,
            cluster_key.set ? "" : " --insecure");
    if (made) fprintf(stderr, "The key is in %s and is not shown again.\n", path);
}

static int cmd_master(int rest) {
    char path[PATH_MAX] = "", hex[2 * KEY_BYTES + 2] = "";
    bool init = option_value[OPT_INIT] != NULL, insecure = option_value[OPT_INSECURE] != NULL, made = false;
    if (rest != 0) die(USAGE_ERROR, "dfs master takes options only; dfs --help lists them");
    master.ping_ms = option_ms(OPT_PING, PING_MS, 10, DAY_MS);
    master.dead_after_ms = option_ms(OPT_DEAD_AFTER, DEAD_AFTER_MS, 30, DAY_MS);
    if (master.dead_after_ms < 2 * master.ping_ms) die(USAGE_ERROR, "--dead-after must be at least twice --ping");
    master.sync_copies = (int)option_number(OPT_SYNC_COPIES, 2, 1, 8);
    if (option_value[OPT_COPIES] && !parse_copies(slice_of(option_value[OPT_COPIES]), &master.copies))
        die(USAGE_ERROR, "--copies %s: write all, or a number from 1 to %d", option_value[OPT_COPIES], NODES_MAX);
    master.repair_wait_ms = option_ms(OPT_REPAIR_AFTER, 0, 0, 365 * DAY_MS);
    master.stopped_wait_ms = option_ms(OPT_REPAIR_AFTER, STOPPED_MS, 0, 365 * DAY_MS);
    master.repair_rate = option_size(OPT_REPAIR_RATE, 0, 0, 64 * GIB);
    master.roster_most = (int)option_number(OPT_ROSTER, ROSTER_MAX, 1, ROSTER_LIMIT);
    master.allow_faults = option_value[OPT_ALLOW_FAULTS] != NULL;
    master.allow_drops = option_value[OPT_ALLOW_DROPS] != NULL;
    master.grace_ms = option_ms(OPT_GRACE, GRACE_MS, 100, 30 * DAY_MS);
    master.trash_s = (uint64_t)(option_ms(OPT_TRASH_TIME, DAY_MS, 0, 3650 * DAY_MS) + 999) / 1000;
    if (option_value[OPT_FORCE_FROM] &&
        !slice_copy(slice_of(option_value[OPT_FORCE_FROM]), master.force, sizeof master.force))
        die(USAGE_ERROR, "--force-from: a node's name or id");
    if (init && option_value[OPT_FORCE_FROM])
        die(USAGE_ERROR, "--init makes a new cluster, --force-from goes on with one");
    if (!init) key_setup(true);
    const char *address = option_value[OPT_LISTEN] ? option_value[OPT_LISTEN] : insecure ? "127.0.0.1" : "0.0.0.0";
    server.listen_fd = net_listen(address, MASTER_PORT, server.address, sizeof server.address);
    if (init && !insecure) made = key_make(path, sizeof path, hex); /* last: until here anything may have been wrong */
    if (init) key_setup(true);
    if (init) print_join(server.address, path, hex, made);
    explicit_bzero(hex, sizeof hex);
    http_begin(server.address, option_value[OPT_HTTP_HOST], option_value[OPT_OPEN_METRICS] != NULL);
    return master_main(init);
}

static const char *masters_option(void) {
    return option_value[OPT_MASTER] ? option_value[OPT_MASTER] : "127.0.0.1:3370";
}

static int cmd_node(int rest, char **words) {
    bool insecure = option_value[OPT_INSECURE] != NULL;
    if (rest != 1) die(USAGE_ERROR, "write dfs node DIR -m HOST:PORT; DIR is where this node keeps its data");
    if (option_value[OPT_NAME] && !label_is_good(option_value[OPT_NAME]))
        die(USAGE_ERROR, "--name: 1 to %d bytes, all of them printable", LABEL_MAX_BYTES);
    key_setup(true);
    const char *address = option_value[OPT_LISTEN] ? option_value[OPT_LISTEN] : insecure ? "127.0.0.1" : "0.0.0.0";
    int64_t ping_ms = option_ms(OPT_PING, PING_MS, 10, DAY_MS),
            dead_ms = option_ms(OPT_DEAD_AFTER, DEAD_AFTER_MS, 30, DAY_MS);
    if (dead_ms < 2 * ping_ms) die(USAGE_ERROR, "--dead-after must be at least twice --ping");
    if (option_value[OPT_ZONE] && !label_is_good(option_value[OPT_ZONE]))
        die(USAGE_ERROR, "--zone: 1 to %d bytes, all of them printable", LABEL_MAX_BYTES);
    http_begin(masters_option(), option_value[OPT_HTTP_HOST], option_value[OPT_OPEN_METRICS] != NULL);
    return node_main(words[0], address, masters_option(), option_value[OPT_NAME], option_value[OPT_ZONE],
                     option_size(OPT_SEGMENT_SIZE, 0, 64 * KIB, SEGMENT_LIMIT_BYTES),
                     option_size(OPT_SCRUB_RATE, SCRUB_RATE_BYTES, 0, 64 * GIB), ping_ms, dead_ms);
}

/* ---- Clients ---- */

/* Where the client keeps the addresses of the nodes behind these masters. False if there is no such place. */
static bool nodes_path(const struct client *cl, char folder[PATH_MAX], char name[32]) {
    uint8_t digest[32];
    char hex[17] = "";
    if (!cache_folder(folder)) return false;
    sha256_digest(cl->masters, strlen(cl->masters), digest);
    hex_write(hex, digest, 8);
    snprintf(name, 32, "nodes-%.16s", hex);
    return true;
}

/* Recalls which master answered last, to ask it first: another may hang. And the nodes, for reads while no master
 * answers. The note is NUMBER,ADDRESS,ADDRESS... */
static void nodes_recall(struct client *cl) {
    char folder[PATH_MAX], name[32], path[PATH_MAX + 40];
    struct text note = {0};
    uint32_t first;
    cl->noted = -1;
    if (!nodes_path(cl, folder, name)) return;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    if (file_read(path, 64 * KIB, &note) == DONE) {
        struct slice rest = {note.data, note.length}, number;
        if (slice_part(&rest, ',', &number) && parse_u32(number, MASTERS_MAX - 1, &first)) {
            cl->noted = (int)first;
            atomic_store(&cl->first, cl->noted);
            text_bytes(&cl->nodes, rest.at, rest.length);
        }
    }
    text_free(&note);
}

/* Notes them, once an hour or when another master answers. What goes wrong is no loss: then there is no note. */
static void nodes_note(struct client *cl) {
    enum { NODES_AGE_S = 3600 };
    char folder[PATH_MAX], name[32], path[PATH_MAX + 40];
    struct stat about;
    struct text line = {0}, list = {0};
    struct answer a = {0};
    struct words w;
    struct slice rest, row;
    if (!atomic_load(&cl->met) || atomic_load(&cl->saw_old) || !nodes_path(cl, folder, name)) return;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    if (atomic_load(&cl->first) == cl->noted && stat(path, &about) == 0 &&
        clock_wall_ns() / 1000000000 - about.st_mtim.tv_sec < NODES_AGE_S)
        return;
    text_add(&line, "NODES");
    text_format(&list, "%d", atomic_load(&cl->first));
    if (client_ask(cl, &line, NULL, false, true, &a) == DONE) {
        rest = (struct slice){a.body.data, a.body.length};
        while (slice_line(&rest, &row)) {
            if (!words_split(row, &w) || w.count != NODE_ROW_WORDS) continue;
            text_byte(&list, ',');
            text_bytes(&list, w.word[2].at, w.word[2].length);
        }
    }
    cache_folder_make(folder);
    if (list.length > 2 && file_write(folder, name, list.data, list.length, 0600) != DONE) unlink(path);
    text_free(&line);
    text_free(&list);
    answer_free(&a);
}

/* A path as users write it: with or without the slash in front. */
static enum status remote_path(const char *given, char to[PATH_MAX_BYTES + 1]) {
    return path_normalize(given, to);
}

static void json_print(struct json_writer *w) {
    if (!json_done(w)) die(INTERNAL, "out of memory for the answer");
    fwrite(w->data, 1, w->length, stdout);
    json_free(w);
}

static bool has_glob(struct slice part) {
    for (size_t i = 0; i < part.length; i++)
        if (strchr("*?[", part.at[i])) return true;
    return false;
}

/* Adds what is below `folder` and matches the rest of a pattern, part by part. */
static enum status glob_below(struct client *cl, const char *folder, struct slice rest, struct paths *list) {
    struct list_rows rows = {0};
    struct slice part;
    char name[NAME_MAX_BYTES + 1];
    enum status status = DONE;
    if (!slice_part(&rest, '/', &part)) {
        paths_add(list, folder);
        return DONE;
    }
    if (!slice_copy(part, name, sizeof name)) return fail(BAD_REQUEST, "a name in a path is too long");
    if (!has_glob(part) && rest.length > 0) {
        char *below = path_join(folder, name);
        status = glob_below(cl, below, rest, list);
        free(below);
        return status;
    }
    status = client_list(cl, folder, NULL, list_keep, &rows);
    if (status == NOT_FOUND || status == WRONG_KIND) status = DONE;
    for (size_t i = 0; i < rows.count && status == DONE; i++) {
        if (fnmatch(name, rows.row[i].name, 0) != 0 || (rest.length > 0 && !rows.row[i].directory)) continue;
        char *below = path_join(folder, rows.row[i].name);
        status = glob_below(cl, below, rest, list);
        free(below);
    }
    free(rows.row);
    return status;
}

/* The paths that a word of the command line means: itself, or, if nothing is called that, what matches it as a pattern
 * with * ? [...]. */
static enum status remote_expand(struct client *cl, const char *given, struct paths *list) {
    char path[PATH_MAX_BYTES + 1];
    struct file_info *f;
    size_t before = list->count;
    enum status status = remote_path(given, path);
    if (status != DONE) return status;
    if (has_glob(slice_of(path))) {
        status = client_stat(cl, path, &f);
        if (status == DONE) file_info_free(f);
        if (status == NOT_FOUND || status == WRONG_KIND) {
            status = glob_below(cl, "/", slice_of(path + 1), list);
            if (status == DONE && list->count == before) return fail(NOT_FOUND, "nothing matches '%s'", shown(path));
            return status;
        }
        if (status != DONE) return status;
    }
    paths_add(list, path);
    return DONE;
}

/* The same for several words. */
static enum status remote_expand_all(struct client *cl, int count, char **words, struct paths *list) {
    enum status status = DONE;
    for (int i = 0; i < count && status == DONE; i++) status = remote_expand(cl, words[i], list);
    return status;
}

/* What NODES says; asked once. Returns how many rows there are; *status says why there may be none. */
static int nodes_known(struct client *cl, const struct node_row **rows, enum status *status) {
    static struct node_row known[2 * NODES_MAX];
    static int count = -1;
    static enum status asked = DONE;
    *rows = known;
    if (count < 0) {
        struct text line = {0};
        struct answer a = {0};
        struct slice row;
        count = 0;
        text_add(&line, "NODES");
        asked = client_ask(cl, &line, NULL, false, true, &a);
        struct slice rest = {a.body.data, a.body.length};
        while (asked == DONE && count < 2 * NODES_MAX && slice_line(&rest, &row))
            count += node_row_parse(row, &known[count]);
        text_free(&line);
        answer_free(&a);
    }
    *status = asked;
    return count;
}

/* A node's name by its id. */
static const char *node_name(void *client, uint64_t id) {
    static char unknown[17];
    const struct node_row *rows;
    enum status status;
    int count = nodes_known(client, &rows, &status);
    for (int i = 0; i < count; i++)
        if (rows[i].id == id) return rows[i].name;
    snprintf(unknown, sizeof unknown, "%016" PRIx64, id);
    return unknown;
}

/* The node of this name or id; of several with one name one that is there. The row is good until the process ends. */
static enum status node_find(struct client *cl, const char *name, const struct node_row **found) {
    const struct node_row *rows;
    enum status status;
    int count = nodes_known(cl, &rows, &status);
    *found = NULL;
    for (int i = 0; i < count; i++)
        if ((strcmp(rows[i].name, name) == 0 || strcmp(rows[i].id_text, name) == 0) &&
            (!*found || strcmp(rows[i].state, "down") != 0))
            *found = &rows[i];
    if (status != DONE || *found) return status;
    return fail(NOT_FOUND, "no node is called '%s'; dfs --nodes lists them", shown(name));
}

/* The address of a node: of the one with this name or id, or `name` itself if it is HOST:PORT. */
static enum status node_locate(struct client *cl, const char *name, char address[ADDRESS_MAX_BYTES + 1]) {
    const struct node_row *n;
    if (strchr(name, ':') && slice_copy(slice_of(name), address, ADDRESS_MAX_BYTES + 1)) return DONE;
    enum status status = node_find(cl, name, &n);
    if (status == DONE) memcpy(address, n->address, sizeof n->address);
    return status;
}

/* The id of the node of this name or id. */
static enum status node_identify(struct client *cl, const char *name, uint64_t *id) {
    const struct node_row *n;
    enum status status = node_find(cl, name, &n);
    if (status == DONE) *id = n->id;
    return status;
}

/* Says what one upload or download moved. `sent`: bytes of an upload that the cluster did not have already; NULL: it
 * was none. */
static void summary(const char *what, const char *path, uint64_t size, const uint8_t sha[32], const uint64_t *sent,
                    int64_t begun_ms) {
    char hex[65];
    hex_write(hex, sha, 32);
    hex[64] = 0;
    if (option_value[OPT_JSON]) {
        struct json_writer w;
        json_begin(&w);
        json_object(&w);
        json_path(&w, path);
        json_key_unsigned(&w, "size", size);
        json_key_string(&w, "sha256", hex);
        if (sent) json_key_unsigned(&w, "sent_bytes", *sent);
        json_key(&w, "seconds");
        json_fixed(&w, (uint64_t)(clock_ms() - begun_ms));
        json_object_end(&w);
        json_print(&w);
    } else if (!option_quiet) {
        struct text t = {0};
        text_format(&t, "%s %s  ", what, shown(path));
        text_size(&t, size);
        if (sent && *sent < size) {
            text_add(&t, ", ");
            text_size(&t, *sent);
            text_add(&t, " sent");
        }
        text_format(&t, "  sha256 %s  %.2f s\n", hex, (double)(clock_ms() - begun_ms) / 1000);
        fputs(t.data, stderr);
        text_free(&t);
    }
}

/* The same for a whole folder. */
static void summary_folder(const char *what, const char *path, struct crew *c, int64_t begun_ms) {
    const struct { const char *key, *text; atomic_ullong *count; } counts[] = {
        {"sent", "files", &c->sent}, {"same", "the same already", &c->same}, {"skipped", "skipped", &c->skipped},
        {"removed", "removed", &c->removed}, {"failed", "failed", &c->failed}};
    int64_t ms = clock_ms() - begun_ms;
    if (option_value[OPT_JSON]) {
        struct json_writer w;
        json_begin(&w);
        json_object(&w);
        json_path(&w, path);
        for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
            json_key_unsigned(&w, counts[i].key, atomic_load(counts[i].count));
        json_key_unsigned(&w, "bytes", atomic_load(&c->sent_bytes));
        json_key_unsigned(&w, "sent_bytes", atomic_load(&c->cl->put_bytes));
        json_key(&w, "seconds");
        json_fixed(&w, (uint64_t)ms);
        json_object_end(&w);
        json_print(&w);
    } else if (!option_quiet) {
        struct text t = {0};
        text_format(&t, "%s %s  ", what, shown(path));
        text_size(&t, atomic_load(&c->sent_bytes));
        for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
            if (i == 0 || atomic_load(counts[i].count) > 0)
                text_format(&t, "  %llu %s", atomic_load(counts[i].count), counts[i].text);
        text_format(&t, "  %.2f s\n", (double)ms / 1000);
        fputs(t.data, stderr);
        text_free(&t);
    }
}

static size_t chunk_size_option(void) {
    return (size_t)option_size(OPT_CHUNK_SIZE, CHUNK_MAX_BYTES, CHUNK_MIN_BYTES, CHUNK_MAX_BYTES);
}

/* --dry-run: one line for each thing that would be done. Called by several threads. */
static void would_say(const char *action, const char *path, bool directory) {
    struct text t = {0};
    if (option_value[OPT_JSON]) {
        struct json_writer w;
        json_start(&w);
        json_object(&w);
        json_key_string(&w, "action", action);
        json_path(&w, path);
        json_key_string(&w, "kind", directory ? "directory" : "file");
        json_object_end(&w);
        if (json_done(&w)) text_bytes(&t, w.data, w.length);
        json_free(&w);
    } else {
        text_format(&t, "%s ", action);
        text_display(&t, path, strlen(path));
        if (directory) text_byte(&t, '/');
    }
    text_byte(&t, '\n');
    fwrite(t.data, 1, t.length, stdout);
    text_free(&t);
}

/* --expire in seconds; 0: it was not given. */
static uint32_t life_option(void) {
    return (uint32_t)((option_ms(OPT_EXPIRE, 0, 1000, (uint64_t)LIFE_MAX_S * 1000) + 999) / 1000);
}

static void folder_options_read(struct folder_options *how) {
    *how = (struct folder_options){
        .delete = option_value[OPT_DELETE] != NULL, .would = option_value[OPT_DRY_RUN] ? would_say : NULL,
        .follow_links = option_value[OPT_FOLLOW_LINKS] != NULL, .no_clobber = option_value[OPT_NO_CLOBBER] != NULL,
        .chunk_size = chunk_size_option(), .life_s = life_option(), .exclude_count = option_exclude_count};
    memcpy(how->exclude, option_exclude, sizeof option_exclude);
}

/* The first option given that is for whole folders alone; NULL if there is none. */
static const char *folder_option_given(void) {
    static const int list[] = {OPT_DELETE, OPT_DRY_RUN, OPT_FOLLOW_LINKS, OPT_EXCLUDE};
    for (size_t i = 0; i < sizeof list / sizeof *list; i++)
        if (option_is_given(list[i])) return option_table[list[i]].name;
    return NULL;
}

/* Where a file or folder goes: under its own name, if the target as it was given ends in a slash. */
static enum status remote_target(const char *given, const char *local, char path[PATH_MAX_BYTES + 1]) {
    size_t length = strlen(given);
    struct text named = {0};
    enum status status;
    text_add(&named, given);
    if (length > 0 && given[length - 1] == '/' && strcmp(local, "-") != 0) {
        size_t end = strlen(local);
        while (end > 1 && local[end - 1] == '/') end--;
        size_t begin = end;
        while (begin > 0 && local[begin - 1] != '/') begin--;
        bool dots = end - begin <= 2 && strspn(local + begin, ".") >= end - begin;
        char *real = dots ? realpath(local, NULL) : NULL; /* the name that . and .. have */
        if (real) text_add(&named, strrchr(real, '/') + 1);
        else text_bytes(&named, local + begin, end - begin);
        free(real);
    }
    status = remote_path(named.data, path);
    text_free(&named);
    return status;
}

static int upload_folder_run(struct client *cl, const char *path, const char *local) {
    struct folder_options how;
    struct crew crew = {.cl = cl, .how = &how};
    int64_t begun_ms = clock_ms();
    folder_options_read(&how);
    progress_begin("up", 0, 0);
    enum status status = client_upload_folder(&crew, local, path);
    progress_end();
    cache_forget(cl, path);
    if (!how.would) summary_folder("uploaded", path, &crew, begun_ms);
    return (int)status;
}

/* dfs -u REMOTE LOCAL */
static int cmd_upload(struct client *cl, int rest, char **words) {
    char path[PATH_MAX_BYTES + 1];
    struct stat about;
    int64_t begun_ms = clock_ms();
    if (rest != 2) die(USAGE_ERROR, "write dfs -u REMOTE LOCAL; LOCAL may be a folder, or - for standard input");
    const char *local = words[1];
    bool pipe_in = strcmp(local, "-") == 0;
    int fd = pipe_in ? STDIN_FILENO : sys_open(local, O_RDONLY, 0);
    if (fd < 0 && errno == ENOENT && stat(words[0], &about) == 0)
        return complain("upload", fail(NOT_FOUND, "%s is not here, but %s is: write dfs -u REMOTE LOCAL, in this order",
                                       shown(local), shown(words[0])));
    if (fd < 0) return complain("upload", fail(status_of_errno(), "%s: %s", shown(local), strerror(errno)));
    enum status status = remote_target(words[0], local, path);
    if (status != DONE) return complain("upload", status);
    if (fstat(fd, &about) != 0) die(INTERNAL, "%s: %s", local, strerror(errno));
    if (S_ISDIR(about.st_mode)) {
        close(fd);
        return upload_folder_run(cl, path, local);
    }
    if (folder_option_given()) die(USAGE_ERROR, "--%s is for whole folders", folder_option_given());
    bool regular = S_ISREG(about.st_mode);
    struct put put = {.path = path, .condition = option_value[OPT_NO_CLOBBER] ? "none" : "-",
                      .size_hint = regular ? (uint64_t)about.st_size : 0, .chunk_size = chunk_size_option(),
                      .life_s = life_option(), .mtime_ns = regular ? time_ns(about.st_mtim) : clock_wall_ns()};
    posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    struct file_info *f = NULL;
    if (option_value[OPT_NO_CLOBBER] && client_stat(cl, path, &f) == DONE) { /* before anything is sent */
        status = fail(f->directory ? WRONG_KIND : EXISTS, "'%s' is there already", shown(path));
        file_info_free(f);
    }
    progress_begin("up", put.size_hint, 0);
    if (status == DONE) status = client_upload(cl, &put, fd);
    progress_end();
    if (!pipe_in) close(fd);
    cache_forget(cl, path);
    if (status != DONE) return complain("upload", status);
    uint64_t sent = atomic_load(&cl->put_bytes);
    summary("uploaded", path, put.size, put.sha256, &sent, begun_ms);
    return 0;
}

static int download_folder_run(struct client *cl, const char *path, const char *local, int64_t mtime_ns) {
    struct folder_options how;
    struct crew crew = {.cl = cl, .how = &how};
    int64_t begun_ms = clock_ms();
    folder_options_read(&how);
    if (strcmp(local, "-") == 0)
        return complain("download", fail(WRONG_KIND, "'%s' is a directory; name a folder that it is to go to",
                                         shown(path)));
    progress_begin("down", 0, 0);
    enum status status = client_download_folder(&crew, local, path, mtime_ns);
    progress_end();
    if (!how.would) summary_folder("downloaded", path, &crew, begun_ms);
    return (int)status;
}

/* Downloads one file, from the cache if that may be. */
static int download_file(struct client *cl, const char *path, const char *local, const struct file_info *f) {
    struct file_info *got = NULL;
    struct stat about;
    int64_t begun_ms = clock_ms();
    bool pipe_out = strcmp(local, "-") == 0;
    if (folder_option_given()) die(USAGE_ERROR, "--%s is for whole folders", folder_option_given());
    if (option_value[OPT_NO_CLOBBER] && !pipe_out && lstat(local, &about) == 0)
        return complain("download", fail(EXISTS, "%s is there already", shown(local)));
    if (!pipe_out || !isatty(STDOUT_FILENO)) progress_begin("down", f ? f->size : 0, 0);
    enum status status = cache_fetch(cl, path, local, &got);
    progress_end();
    if (status != DONE) return complain("download", status);
    if (!(pipe_out && option_value[OPT_JSON])) summary("downloaded", path, got->size, got->sha256, NULL, begun_ms);
    file_info_free(got);
    return 0;
}

/* Several paths that go into one directory must have different names. */
static enum status names_differ(const struct paths *list) {
    for (size_t i = 0; i < list->count; i++)
        for (size_t k = 0; k < i; k++)
            if (strcmp(strrchr(list->path[i], '/'), strrchr(list->path[k], '/')) == 0)
                return fail(BAD_REQUEST, "'%s' and '%s' would get the same name there; take them one by one",
                            shown(list->path[k]), shown(list->path[i]));
    return DONE;
}

/* When there is nothing to download: perhaps the two words were given the wrong way round. */
static enum status download_swapped(struct client *cl, enum status status, const char *remote, const char *local) {
    char why[DETAIL_BYTES], other[PATH_MAX_BYTES + 1];
    struct file_info *f;
    if ((status != NOT_FOUND && status != BAD_REQUEST) || strcmp(local, "-") == 0) return status;
    memcpy(why, detail, sizeof why);
    if (remote_path(local, other) == DONE && client_stat(cl, other, &f) == DONE) {
        file_info_free(f);
        return fail(NOT_FOUND, "'%s' is not in the cluster, but '%s' is: write dfs -d REMOTE LOCAL, in this order",
                    shown(remote), shown(other));
    }
    return fail(status, "%s", why);
}

/* Downloads one path. `into`: LOCAL is a folder that it goes into, under its own name, for there are several. */
static int download_one(struct client *cl, const char *path, const char *local, bool into) {
    struct file_info *f = NULL;
    struct stat about;
    bool folder = stat(local, &about) == 0 && S_ISDIR(about.st_mode), inside = into;
    size_t length = strlen(local);
    if (length > 0 && local[length - 1] == '/') inside = true;
    bool fresh = cache_is_fresh(cl, path); /* then it is a file, and nobody is asked */
    enum status status = fresh ? DONE : client_stat(cl, path, &f);
    if (status != DONE) return complain("download", download_swapped(cl, status, path, local));
    bool directory = f && f->directory;
    const char *name = strcmp(path, "/") == 0 ? "" : strrchr(path, '/') + 1;
    char *target = inside || (folder && !directory) ? path_join(local, name) : path_join("", local);
    int code = directory ? download_folder_run(cl, path, target, f->mtime_ns) : download_file(cl, path, target, f);
    free(target);
    if (f) file_info_free(f);
    return code;
}

/* dfs -d REMOTE LOCAL */
static int cmd_download(struct client *cl, int rest, char **words) {
    struct paths list = {0};
    int code = 0;
    if (rest != 2) die(USAGE_ERROR, "write dfs -d REMOTE LOCAL; LOCAL may be - for standard output");
    enum status status = remote_expand(cl, words[0], &list);
    status = download_swapped(cl, status, words[0], words[1]);
    bool into = list.count > 1 && rest == 2 && strcmp(words[1], "-") != 0;
    if (status == DONE && into) status = names_differ(&list);
    if (status == DONE && option_value[OPT_FROM]) status = node_identify(cl, option_value[OPT_FROM], &cl->only);
    if (status != DONE) code = complain("download", status);
    for (size_t i = 0; i < list.count && code == 0; i++)
        code = download_one(cl, list.path[i], words[1], into);
    paths_free(&list);
    return code;
}

static void on_client_signal(int number) {
    temporaries_clean();
    signal(number, SIG_DFL);
    raise(number);
}

static void stat_print_json(struct client *cl, const char *path, const struct file_info *f) {
    struct json_writer w;
    json_begin(&w);
    json_stat(&w, path, f, node_name, cl);
    json_print(&w);
}

static void stat_text(struct client *cl, const char *path, const struct file_info *f) {
    struct text t = {0};
    text_add(&t, "path    ");
    text_display(&t, path, strlen(path));
    text_format(&t, "\nkind    %s%s\n", f->directory ? "directory" : "file", f->old ? "  (possibly old)" : "");
    if (!f->directory) {
        text_format(&t, "size    %" PRIu64 "  (", f->size);
        text_size(&t, f->size);
        text_add(&t, ")\n");
    }
    text_add(&t, "time    ");
    text_time(&t, f->mtime_ns);
    if (!f->directory) {
        text_add(&t, "\nsha256  ");
        text_hex(&t, f->sha256, 32);
        int64_t checked_ms = file_checked(f);
        text_add(&t, "\nchecked ");
        if (checked_ms > 0) text_time(&t, checked_ms * 1000000);
        else text_add(&t, "not known");
        text_format(&t, "\nchunks  %u", f->chunk_count);
    }
    if (f->expiry_s != 0) text_add(&t, "\nexpires ");
    if (f->expiry_s != 0) text_time(&t, (int64_t)f->expiry_s * 1000000000);
    text_byte(&t, '\n');
    for (uint32_t i = 0; i < f->chunk_count; i++) {
        text_format(&t, "  %5u  ", i + 1);
        text_hex(&t, f->chunk[i].hash, 8);
        text_format(&t, "...  %8u  ", f->chunk[i].length);
        for (int n = 0; n < f->node_count; n++)
            if (node_set_has(&f->chunk[i].holders, n)) text_format(&t, " %s", shown(node_name(cl, f->node[n].id)));
        if (node_set_empty(&f->chunk[i].holders)) text_add(&t, " on no live node");
        text_byte(&t, '\n');
    }
    fwrite(t.data, 1, t.length, stdout);
    text_free(&t);
}

/* dfs --stat REMOTE */
static int cmd_stat(struct client *cl, int rest, char **words) {
    char path[PATH_MAX_BYTES + 1];
    struct file_info *f;
    if (rest != 1) die(USAGE_ERROR, "write dfs --stat REMOTE");
    enum status status = remote_path(words[0], path);
    if (status == DONE) status = client_stat(cl, path, &f);
    if (status != DONE) return complain("stat", status);
    if (option_value[OPT_JSON]) stat_print_json(cl, path, f);
    else stat_text(cl, path, f);
    file_info_free(f);
    return 0;
}

static void text_amount(struct text *t, uint64_t bytes) {
    if (option_value[OPT_HUMAN]) text_size(t, bytes);
    else text_u64(t, bytes);
}

/* What --ls and --find print: rows of JSON, or lines. */
struct listing {
    struct client *cl;
    struct json_writer *w; /* NULL: lines */
    const char *folder;    /* what is listed; names are shown, or with -r paths below it */
    const char *glob;      /* --find: only what matches */
    bool paths;            /* the whole path alone is shown */
};

static void listing_row(void *context, const char *path, const struct list_row *row) {
    struct listing *l = context;
    struct text t = {0}, size = {0};
    bool whole = l->glob && strchr(l->glob, '/');
    if (l->glob && fnmatch(l->glob, whole ? path : row->name, whole ? FNM_PATHNAME : 0) != 0) return;
    if (l->w) {
        json_row(l->w, path, row);
        return;
    }
    if (!l->paths) {
        if (!row->directory) text_amount(&size, row->size);
        text_format(&t, "%12s  ", row->directory ? "-" : size.data);
        if (row->directory) text_add(&t, " -  ");
        else text_format(&t, "%2u  ", row->copies);
        text_time(&t, row->mtime_ns);
        text_add(&t, "  ");
    }
    size_t skip = strcmp(l->folder, "/") == 0 ? 1 : strlen(l->folder) + 1;
    const char *name = l->glob ? path : option_value[OPT_RECURSIVE] && !row->itself ? path + skip : row->name;
    text_display(&t, name, strlen(name));
    text_add(&t, row->directory ? "/\n" : "\n");
    fwrite(t.data, 1, t.length, stdout);
    text_free(&t);
    text_free(&size);
}

/* A row of a directory that is listed alone. */
static void listing_entry(void *context, const struct list_row *row) {
    struct listing *l = context;
    char *path = path_join(l->folder, row->name);
    listing_row(l, row->itself ? l->folder : path, row);
    free(path);
}

/* dfs --ls [REMOTE ...] */
static int cmd_ls(struct client *cl, int rest, char **words) {
    static char root[] = "/";
    char *only_root[] = {root};
    struct paths list = {0};
    struct json_writer w;
    struct listing l = {.cl = cl};
    enum status status = remote_expand_all(cl, rest ? rest : 1, rest ? words : only_root, &list);
    json_begin(&w);
    json_array(&w);
    if (option_value[OPT_JSON]) l.w = &w;
    for (size_t i = 0; i < list.count && status == DONE; i++) {
        l.folder = list.path[i];
        if (list.count > 1 && !l.w) printf("%s%s:\n", i ? "\n" : "", shown(l.folder));
        status = option_value[OPT_RECURSIVE] ? client_walk(cl, l.folder, option_value[OPT_NODE], listing_row, &l)
                                             : client_list(cl, l.folder, option_value[OPT_NODE], listing_entry, &l);
    }
    json_array_end(&w);
    if (l.w && status == DONE) json_print(&w);
    else json_free(&w);
    paths_free(&list);
    return status == DONE ? 0 : complain("ls", status);
}

/* dfs --find GLOB [REMOTE] */
static int cmd_find(struct client *cl, int rest, char **words) {
    char path[PATH_MAX_BYTES + 1];
    struct json_writer w;
    if (rest < 1 || rest > 2) die(USAGE_ERROR, "write dfs --find GLOB [REMOTE], with GLOB in quotes: '*.jpg'");
    bool slash = strchr(words[0], '/') && words[0][0] != '/'; /* as a path may lack its first one */
    char *glob = path_join(slash ? "/" : "", words[0]);
    struct listing l = {.cl = cl, .glob = glob, .paths = !option_value[OPT_HUMAN]};
    enum status status = remote_path(rest > 1 ? words[1] : "/", path);
    l.folder = path;
    json_begin(&w);
    json_array(&w);
    if (option_value[OPT_JSON]) l.w = &w;
    if (status == DONE) status = client_walk(cl, path, NULL, listing_row, &l);
    json_array_end(&w);
    if (l.w && status == DONE) json_print(&w);
    else json_free(&w);
    free(glob);
    return status == DONE ? 0 : complain("find", status);
}

/* A row of --du, for people. */
static void usage_print(void *context, const struct usage *u) {
    struct text t = {0}, size = {0};
    (void)context;
    text_amount(&size, u->bytes);
    text_format(&t, "%12s  %8" PRIu64 "  ", size.data, u->files);
    text_display(&t, u->path, strlen(u->path));
    text_add(&t, u->directory && strcmp(u->path, "/") != 0 ? "/\n" : "\n");
    fwrite(t.data, 1, t.length, stdout);
    text_free(&t);
    text_free(&size);
}

/* dfs --du [REMOTE ...] */
static int cmd_du(struct client *cl, int rest, char **words) {
    static char root[] = "/";
    char *only_root[] = {root};
    struct paths list = {0};
    struct json_writer w;
    enum status status = remote_expand_all(cl, rest ? rest : 1, rest ? words : only_root, &list);
    json_begin(&w);
    json_array(&w);
    for (size_t i = 0; i < list.count && status == DONE; i++)
        status = usage_of(cl, list.path[i], option_value[OPT_JSON] ? json_usage : usage_print, &w);
    json_array_end(&w);
    if (option_value[OPT_JSON] && status == DONE) json_print(&w);
    else json_free(&w);
    paths_free(&list);
    return status == DONE ? 0 : complain("du", status);
}

/* dfs --cat REMOTE ... */
static int cmd_cat(struct client *cl, int rest, char **words) {
    struct paths list = {0};
    if (rest < 1) die(USAGE_ERROR, "write dfs --cat REMOTE ...");
    if (option_value[OPT_JSON]) die(USAGE_ERROR, "--cat has no answer in JSON");
    enum status status = remote_expand_all(cl, rest, words, &list);
    if (status == DONE && option_value[OPT_FROM]) status = node_identify(cl, option_value[OPT_FROM], &cl->only);
    if (!isatty(STDOUT_FILENO)) progress_begin("down", 0, 0);
    for (size_t i = 0; i < list.count && status == DONE; i++) {
        struct file_info *f;
        status = cache_fetch(cl, list.path[i], "-", &f);
        if (status == DONE) file_info_free(f);
    }
    progress_end();
    paths_free(&list);
    return status == DONE ? 0 : complain("cat", status);
}

/* One level of the tree. Recursion is as deep as the tree, at most PATH_MAX_BYTES / 2. */
static enum status view_level(struct client *cl, const char *path, const char *indent, struct json_writer *w,
                              uint64_t totals[3]) {
    struct list_rows rows = {0};
    enum status status = client_list(cl, path, NULL, list_keep, &rows);
    for (size_t i = 0; i < rows.count && status == DONE; i++) {
        const struct list_row *row = &rows.row[i];
        bool last = i + 1 == rows.count;
        struct text t = {0}, deeper = {0}, below = {0};
        totals[row->directory ? 1 : 0]++;
        totals[2] += row->size;
        text_format(&below, "%s/%s", strcmp(path, "/") == 0 ? "" : path, row->name);
        if (w) { /* a flat list: folders may be nested deeper than JSON should be */
            json_object(w);
            json_path(w, below.data);
            json_key_string(w, "kind", row->directory ? "directory" : "file");
            if (!row->directory) {
                json_key_unsigned(w, "size", row->size);
                json_key_unsigned(w, "copies", row->copies);
            }
            json_object_end(w);
        } else {
            text_format(&t, "%s%s ", indent, last ? "`--" : "|--");
            text_display(&t, row->name, strlen(row->name));
            if (!row->directory) {
                text_add(&t, "  ");
                text_size(&t, row->size);
                text_format(&t, "  %u cop%s", row->copies, row->copies == 1 ? "y" : "ies");
            }
            text_add(&t, row->directory ? "/\n" : "\n");
            fwrite(t.data, 1, t.length, stdout);
        }
        if (row->directory) {
            text_format(&deeper, "%s%s", indent, last ? "    " : "|   ");
            status = view_level(cl, below.data, deeper.data, w, totals);
        }
        text_free(&t);
        text_free(&deeper);
        text_free(&below);
    }
    free(rows.row);
    return status;
}

/* dfs -v [REMOTE] */
static int cmd_view(struct client *cl, int rest, char **words) {
    char path[PATH_MAX_BYTES + 1];
    struct json_writer w;
    uint64_t totals[3] = {0};
    if (rest > 1) die(USAGE_ERROR, "write dfs -v [REMOTE]");
    bool json = option_value[OPT_JSON] != NULL;
    const char *terminal = getenv("TERM");
    enum status status = remote_path(rest ? words[0] : "/", path);
    if (status != DONE) return complain("view", status);
    if (!json && isatty(STDIN_FILENO) && isatty(STDOUT_FILENO) && terminal && strcmp(terminal, "dumb") != 0)
        return viewer_run(cl, path);
    if (json) {
        json_begin(&w);
        json_object(&w);
        json_path(&w, path);
        json_key(&w, "entries");
        json_array(&w);
    } else {
        printf("%s\n", shown(path));
    }
    status = view_level(cl, path, "", json ? &w : NULL, totals);
    if (json) {
        json_array_end(&w);
        json_object_end(&w);
        if (status == DONE) json_print(&w);
        else json_free(&w);
    } else if (status == DONE) {
        struct text t = {0};
        text_size(&t, totals[2]);
        printf("%" PRIu64 " files, %" PRIu64 " directories, %s\n", totals[0], totals[1], t.data);
        text_free(&t);
    }
    return status == DONE ? 0 : complain("view", status);
}

/* A row of the trash, for people. */
static void trash_print(void *context, const struct trash_row *row) {
    struct text when = {0}, size = {0};
    (void)context;
    text_time(&when, (int64_t)row->expiry_s * 1000000000);
    if (!row->directory) text_size(&size, row->size);
    printf("%11s  until %s  %s%s\n", row->directory ? "-" : size.data, when.data, shown(row->path),
           row->directory ? "/" : "");
    text_free(&when);
    text_free(&size);
}

/* dfs --undelete: what is in the trash. */
static int cmd_trash(struct client *cl) {
    struct json_writer w;
    json_begin(&w);
    json_array(&w);
    bool json = option_value[OPT_JSON] != NULL;
    enum status status = client_trash(cl, json ? json_trash_row : trash_print, &w);
    json_array_end(&w);
    if (status == DONE && json) json_print(&w);
    else json_free(&w);
    return status == DONE ? 0 : complain("undelete", status);
}

/* A list of results, one for each path: printed with --json, and the first error is the exit code. */
struct results {
    struct json_writer w;
    const char *what;
    int code;
};

static void results_begin(struct results *r, const char *what) {
    *r = (struct results){.what = what};
    json_begin(&r->w);
    json_array(&r->w);
}

static void results_add(struct results *r, const char *path, enum status status) {
    json_object(&r->w);
    json_path(&r->w, path);
    json_key_string(&r->w, "result", status_table[status].word);
    json_object_end(&r->w);
    if (status != DONE && r->code == 0) r->code = (int)status;
    if (status != DONE) complain(r->what, status);
}

static int results_end(struct results *r) {
    json_array_end(&r->w);
    if (option_value[OPT_JSON]) json_print(&r->w);
    else json_free(&r->w);
    return r->code;
}

/* Asks the user, if there is one: both ends of the question are a terminal. */
static bool user_agrees(const char *question) {
    char answer[16] = "";
    if (option_value[OPT_YES] || !isatty(STDIN_FILENO) || !isatty(STDERR_FILENO)) return true;
    fprintf(stderr, "%s [y/N] ", question);
    return fgets(answer, sizeof answer, stdin) && (answer[0] == 'y' || answer[0] == 'Y');
}

/* dfs --rm [-r] REMOTE ...: asks before it removes directories with all in them, or what a pattern matched. */
static int cmd_rm(struct client *cl, int rest, char **words) {
    struct results r;
    bool all = option_value[OPT_RECURSIVE] != NULL;
    if (rest < 1) die(USAGE_ERROR, "write dfs --rm [-r] REMOTE ...");
    results_begin(&r, "rm");
    for (int i = 0; i < rest; i++) {
        struct paths list = {0};
        struct text question = {0};
        enum status status = remote_expand(cl, words[i], &list);
        if (status != DONE) results_add(&r, words[i], status);
        if (list.count > 1) text_format(&question, "remove %zu paths that match %s", list.count, shown(words[i]));
        else if (all && list.count > 0) text_format(&question, "remove %s", shown(list.path[0]));
        if (question.length > 0) text_add(&question, all ? ", with all that is in directories?" : "?");
        bool agreed = question.length == 0 || user_agrees(question.data);
        if (!agreed && r.code == 0) r.code = (int)DENIED;
        for (size_t k = 0; k < list.count && agreed; k++) {
            results_add(&r, list.path[k], all ? client_remove_all(cl, list.path[k])
                                              : client_change(cl, "RM", list.path[k]));
            cache_forget(cl, list.path[k]);
        }
        text_free(&question);
        paths_free(&list);
    }
    return results_end(&r);
}

/* dfs --rmdir REMOTE ... */
static int cmd_rmdir(struct client *cl, int rest, char **words) {
    struct results r;
    if (rest < 1) die(USAGE_ERROR, "write dfs --rmdir REMOTE ...");
    results_begin(&r, "rmdir");
    for (int i = 0; i < rest; i++) {
        struct paths list = {0};
        enum status status = remote_expand(cl, words[i], &list);
        if (status != DONE) results_add(&r, words[i], status);
        for (size_t k = 0; k < list.count; k++) results_add(&r, list.path[k], client_change(cl, "RMDIR", list.path[k]));
        paths_free(&list);
    }
    return results_end(&r);
}

/* dfs --mkdir [-p] REMOTE ... */
static int cmd_mkdir(struct client *cl, int rest, char **words) {
    char path[PATH_MAX_BYTES + 1];
    struct results r;
    struct file_info *f;
    if (rest < 1) die(USAGE_ERROR, "write dfs --mkdir [-p] REMOTE ...");
    results_begin(&r, "mkdir");
    for (int i = 0; i < rest; i++) {
        enum status status = remote_path(words[i], path), asked;
        if (status == DONE) status = client_change(cl, "MKDIR", path);
        if (status == EXISTS && option_value[OPT_PARENTS] && (asked = client_stat(cl, path, &f)) == DONE) {
            status = f->directory ? DONE : fail(EXISTS, "'%s' is there already, and is a file", shown(path));
            file_info_free(f);
        }
        results_add(&r, status == BAD_REQUEST ? words[i] : path, status);
    }
    return results_end(&r);
}

/* dfs --undelete REMOTE ... */
static int cmd_undelete(struct client *cl, int rest, char **words) {
    char path[PATH_MAX_BYTES + 1];
    struct results r;
    if (rest == 0) return cmd_trash(cl);
    results_begin(&r, "undelete");
    for (int i = 0; i < rest; i++) {
        enum status status = remote_path(words[i], path);
        if (status == DONE) status = client_change(cl, "UNDELETE", path);
        results_add(&r, status == BAD_REQUEST ? words[i] : path, status);
        cache_forget(cl, path);
    }
    return results_end(&r);
}

/* The address at which a link is read: at the master that answered last, as this client calls it. Any other server of
 * the cluster gives the file as well. */
static void text_link(struct text *t, struct client *cl, const char *token) {
    struct slice rest = slice_of(cl->masters), one = {NULL, 0};
    char given[ADDRESS_MAX_BYTES + 1] = "", host[ADDRESS_MAX_BYTES + 1] = "";
    uint16_t port = MASTER_PORT;
    for (int i = atomic_load(&cl->first); i >= 0 && slice_part(&rest, ',', &one); i--) continue;
    if (!slice_copy(one, given, sizeof given) || !net_split(given, host, sizeof host, &port)) return;
    text_format(t, strchr(host, ':') ? "http://[%s]:%u/download/%s" : "http://%s:%u/download/%s", host, port, token);
}

/* What cmd_share prints its rows with. */
struct share_listing {
    struct client *cl;
    struct json_writer w;
};

static void share_print(void *context, const struct share_row *row) {
    struct share_listing *list = context;
    struct text t = {0};
    text_link(&t, list->cl, row->token);
    if (option_value[OPT_JSON]) {
        json_share(&list->w, row, t.data);
        text_free(&t);
        return;
    }
    if (row->expiry_s != 0) text_add(&t, "  until ");
    if (row->expiry_s != 0) text_time(&t, (int64_t)row->expiry_s * 1000000000);
    printf("%s  %s\n", t.data, shown(row->path));
    text_free(&t);
}

/* dfs --share: all links. */
static int cmd_shares(struct client *cl) {
    struct share_listing list = {.cl = cl};
    json_begin(&list.w);
    json_array(&list.w);
    enum status status = client_shares(cl, share_print, &list);
    json_array_end(&list.w);
    if (status == DONE && option_value[OPT_JSON]) json_print(&list.w);
    else json_free(&list.w);
    return status == DONE ? 0 : complain("share", status);
}

/* dfs --share REMOTE: makes a link and prints it. */
static int cmd_share(struct client *cl, int rest, char **words) {
    struct share_row made;
    struct text link = {0};
    uint32_t life_s = life_option();
    if (rest == 0 && !option_is_given(OPT_EXPIRE)) return cmd_shares(cl);
    if (rest != 1) die(USAGE_ERROR, "write dfs --share REMOTE [--expire TIME], or dfs --share alone for all links");
    enum status status = remote_path(words[0], made.path);
    if (status == DONE) status = client_share_new(cl, &made, life_s);
    if (status != DONE) return complain("share", status);
    text_link(&link, cl, made.token);
    if (option_value[OPT_JSON]) {
        struct json_writer w;
        json_begin(&w);
        json_share(&w, &made, link.data);
        json_print(&w);
    } else {
        printf("%s\n", link.data);
    }
    text_free(&link);
    return 0;
}

/* dfs --unshare REMOTE|LINK ...: what is after the last slash of an address is a token. */
static int cmd_unshare(struct client *cl, int rest, char **words) {
    struct results r;
    struct share_row found;
    uint8_t token[TOKEN_BYTES];
    if (rest < 1) die(USAGE_ERROR, "write dfs --unshare REMOTE|LINK ...");
    results_begin(&r, "unshare");
    for (int i = 0; i < rest; i++) {
        const char *slash = strrchr(words[i], '/'), *last = slash ? slash + 1 : words[i];
        bool link = (strncmp(words[i], "http://", 7) == 0 || strncmp(words[i], "https://", 8) == 0) &&
                    parse_hex(slice_of(last), token, TOKEN_BYTES);
        enum status status = link ? client_shared(cl, last, &found) : remote_path(words[i], found.path);
        bool known = status == DONE;
        if (known) status = client_unshare(cl, found.path, link ? last : NULL);
        results_add(&r, known ? found.path : words[i], status);
    }
    return results_end(&r);
}

/* dfs --copies N REMOTE ... */
static int cmd_copies(struct client *cl, int rest, char **words) {
    int number;
    struct results r;
    const char *value = option_value[OPT_COPIES];
    if (rest < 1)
        die(USAGE_ERROR, "write dfs --copies N REMOTE ...; N is all, a number, or - for as many as around it");
    if (strcmp(value, "-") != 0 && !parse_copies(slice_of(value), &number))
        die(USAGE_ERROR, "--copies %s: write all, a number from 1 to %d, or -", value, NODES_MAX);
    results_begin(&r, "copies");
    for (int i = 0; i < rest; i++) {
        struct paths list = {0};
        enum status status = remote_expand(cl, words[i], &list);
        if (status != DONE) results_add(&r, words[i], status);
        for (size_t k = 0; k < list.count; k++) {
            struct text line = {0};
            struct answer a = {0};
            change_line(&line, "COPIES", list.path[k]);
            text_format(&line, " %s", value);
            results_add(&r, list.path[k], client_ask(cl, &line, NULL, true, false, &a));
            text_free(&line);
            answer_free(&a);
        }
        paths_free(&list);
    }
    return results_end(&r);
}

/* dfs --mv and --cp FROM ... TO: like mv and cp, into TO if that is a directory. */
static int move_all(struct client *cl, const char *verb, const char *what, int rest, char **words) {
    char to[PATH_MAX_BYTES + 1];
    struct paths list = {0};
    struct results r;
    struct file_info *f = NULL;
    if (rest < 2) die(USAGE_ERROR, "write dfs --%s FROM ... TO", what);
    const char *target = words[rest - 1];
    bool inside = *target && target[strlen(target) - 1] == '/';
    enum status status = remote_expand_all(cl, rest - 1, words, &list);
    if (status == DONE) status = remote_path(target, to);
    if (status == DONE) status = names_differ(&list);
    if (status == DONE && list.count > 1 && !inside) {
        status = client_stat(cl, to, &f);
        inside = status == DONE && f->directory;
        if (f) file_info_free(f);
        if (status == DONE && !inside)
            status = fail(WRONG_KIND, "'%s' is a file, and there are several to go there", shown(to));
    }
    if (status != DONE) {
        paths_free(&list);
        return complain(what, status);
    }
    results_begin(&r, what);
    for (size_t i = 0; i < list.count; i++) {
        if (remote_path(target, to) != DONE) break;
        status = move_one(cl, verb, list.path[i], to, inside);
        results_add(&r, to, status);
    }
    paths_free(&list);
    return results_end(&r);
}

static int cmd_mv(struct client *cl, int rest, char **words) {
    return move_all(cl, "MV", "mv", rest, words);
}

static int cmd_cp(struct client *cl, int rest, char **words) {
    return move_all(cl, "CP", "cp", rest, words);
}

/* Runs $VISUAL or $EDITOR on a local file, and waits. */
static enum status editor_run(const char *file) {
    const char *editor = getenv("VISUAL");
    struct text command = {0};
    int ended = 0;
    if (!editor || !*editor) editor = getenv("EDITOR");
    if (!editor || !*editor) editor = "vi";
    text_format(&command, "%s \"$1\"", editor);
    pid_t child = fork();
    if (child == 0) {
        for (int number = SIGHUP; number <= SIGTERM; number++) signal(number, SIG_DFL);
        execl("/bin/sh", "sh", "-c", command.data, "sh", file, (char *)NULL);
        _exit(127);
    }
    text_free(&command);
    if (child < 0) return fail(INTERNAL, "no process for the editor: %s", strerror(errno));
    signal(SIGINT, SIG_IGN); /* that is for the editor now */
    while (waitpid(child, &ended, 0) < 0 && errno == EINTR) continue;
    signal(SIGINT, on_client_signal);
    if (WIFEXITED(ended) && WEXITSTATUS(ended) == 0) return DONE;
    return fail(INTERNAL, "the editor '%s' ended with an error; set $EDITOR", editor);
}

/* Uploads what was edited, if nobody else changed the file meanwhile. */
static enum status edit_upload(struct client *cl, const char *path, const char *file, const char *before) {
    struct stat about;
    int fd = sys_open(file, O_RDONLY, 0);
    if (fd < 0 || fstat(fd, &about) != 0) return fail(status_of_errno(), "%s: %s", file, strerror(errno));
    struct put put = {.path = path, .condition = before, .size_hint = (uint64_t)about.st_size,
                      .chunk_size = chunk_size_option(), .mtime_ns = time_ns(about.st_mtim)};
    enum status status = client_upload(cl, &put, fd);
    close(fd);
    cache_forget(cl, path);
    return status;
}

static void edit_say(const char *path, bool changed) {
    struct json_writer w;
    if (option_value[OPT_JSON]) {
        json_begin(&w);
        json_object(&w);
        json_path(&w, path);
        json_key_bool(&w, "changed", changed);
        json_object_end(&w);
        json_print(&w);
    } else if (!option_quiet) {
        fprintf(stderr, changed ? "uploaded %s\n" : "%s is unchanged\n", shown(path));
    }
}

/* dfs --edit REMOTE */
static int cmd_edit(struct client *cl, int rest, char **words) {
    char path[PATH_MAX_BYTES + 1], folder[PATH_MAX], before[65] = "none", after[65] = "none", *file, why[DETAIL_BYTES];
    uint8_t sha256[32], *buffer = mem_alloc(COPY_BYTES);
    struct file_info *f = NULL;
    struct stat about;
    if (rest != 1) die(USAGE_ERROR, "write dfs --edit REMOTE");
    enum status status = remote_path(words[0], path);
    if (status == DONE && strcmp(path, "/") == 0) status = fail(WRONG_KIND, "'/' is a directory");
    if (status != DONE) return complain("edit", status);
    const char *temporary = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%s/dfs-edit-XXXXXX", temporary && *temporary ? temporary : "/tmp");
    if (!mkdtemp(folder)) return complain("edit", fail(INTERNAL, "%s: %s", folder, strerror(errno)));
    file = path_join(folder, strrchr(path, '/') + 1);
    cl->cache_ttl_ms = 0; /* what is edited is what is there now */
    status = cache_fetch(cl, path, file, &f);
    if (status == DONE) hex_write(before, f->sha256, 32);
    if (f) file_info_free(f);
    if (status == NOT_FOUND) status = DONE; /* a new file */
    bool opened = status == DONE;
    if (opened) status = editor_run(file);
    memcpy(why, detail, sizeof why);
    int fd = opened ? sys_open(file, O_RDONLY, 0) : -1;
    bool read = fd >= 0 && fstat(fd, &about) == 0 &&
                file_hash(fd, (uint64_t)about.st_size, buffer, COPY_BYTES, sha256) == DONE;
    if (read) hex_write(after, sha256, 32);
    if (fd >= 0) close(fd);
    bool changed = opened && (read ? strcmp(before, after) != 0 : access(file, F_OK) == 0);
    if (status == DONE && changed) {
        status = read ? edit_upload(cl, path, file, before) : fail(INTERNAL, "what was written can't be read");
        memcpy(why, detail, sizeof why);
    }
    if (changed && status != DONE) { /* what somebody wrote is never thrown away */
        status = fail(status, "%.900s; what you wrote is kept in %s", why, file);
    } else {
        unlink(file);
        rmdir(folder); /* stays if the editor left something there */
        if (status != DONE) fail(status, "%s", why);
        if (status == DONE) edit_say(path, changed);
    }
    free(file);
    free(buffer);
    return status == DONE ? 0 : complain("edit", status);
}

static void nodes_text(const struct answer *nodes) {
    struct slice rest = {nodes->body.data, nodes->body.length}, row;
    struct node_row n;
    printf("%-16s %-8s %9s %9s %9s %11s %11s %5s  %-21s %-8s %s\n", "NODE", "STATE", "PING", "FILES", "CHUNKS",
           "STORED", "FREE", "LOAD", "ADDRESS", "VERSION", "ZONE");
    while (slice_line(&rest, &row)) {
        struct text stored = {0}, space = {0}, ping = {0};
        if (!node_row_parse(row, &n)) continue;
        text_size(&stored, n.bytes);
        text_size(&space, n.free_bytes);
        if (n.ping_ms < 0) text_add(&ping, "never");
        else text_format(&ping, "%.1fs ago", (double)n.ping_ms / 1000);
        printf("%-16s %-8s %9s %9" PRIu64 " %9" PRIu64 " %11s %11s %5" PRIu64 "  %-21s %-8s %s", shown(n.name), n.state,
               ping.data, n.files, n.chunks, stored.data, space.data, n.transfers, n.address, n.version,
               shown(n.zone));
        bool draining = strcmp(n.state, "draining") == 0;
        if (n.damaged > 0) printf("  %" PRIu64 " damaged chunks set aside", n.damaged);
        if (draining && n.left > 0) printf("  %" PRIu64 " chunks left to copy", n.left);
        else if (draining) printf("  safe to unplug");
        printf("\n");
        text_free(&stored);
        text_free(&space);
        text_free(&ping);
    }
}

static void status_text(const struct answer *a) {
    static const struct { const char *word, *shown; } rows[] = {
        {"state", "state"}, {"master", "master"}, {"epoch", "epoch"}, {"seq", "last record"}, {"files", "files"},
        {"bytes", "bytes"}, {"copies", "copies"}, {"copies_missing", "copies missing"}, {"reads", "reads"}};
    struct slice rest = {a->body.data, a->body.length}, row, name;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct slice value = row_value(a, rows[i].word);
        printf("%-15s %.*s\n", rows[i].shown, (int)value.length, value.at);
    }
    while (slice_line(&rest, &row))
        if (slice_part(&row, ' ', &name) &&
            (slice_is(name, "why") || slice_is(name, "forced") || slice_is(name, "lost")))
            printf("%-15.*s %.*s\n", (int)name.length, name.at, (int)row.length, row.at);
}

/* dfs --status and --nodes */
static int status_print(struct client *cl, bool nodes_only, int rest) {
    struct text line = {0};
    struct answer status_answer = {0}, nodes_answer = {0};
    if (rest > 0) die(USAGE_ERROR, "--status and --nodes take no path");
    text_add(&line, "STATUS");
    enum status status = client_ask(cl, &line, NULL, false, true, &status_answer);
    text_clear(&line);
    text_add(&line, "NODES");
    if (status == DONE) status = client_ask(cl, &line, NULL, false, true, &nodes_answer);
    if (status == DONE && option_value[OPT_JSON]) {
        struct json_writer w;
        json_begin(&w);
        json_status(&w, &status_answer, &nodes_answer);
        json_print(&w);
    } else if (status == DONE && nodes_only) nodes_text(&nodes_answer);
    else if (status == DONE) status_text(&status_answer);
    struct slice state = row_value(&status_answer, "state");
    int code = nodes_only || slice_is(state, "healthy") ? 0 : slice_is(state, "read-only") ? READ_ONLY : UNAVAILABLE;
    text_free(&line);
    answer_free(&status_answer);
    answer_free(&nodes_answer);
    return status == DONE ? code : complain(nodes_only ? "nodes" : "status", status);
}

static int cmd_status(struct client *cl, int rest, char **words) {
    (void)words;
    return status_print(cl, false, rest);
}

static int cmd_nodes(struct client *cl, int rest, char **words) {
    (void)words;
    return status_print(cl, true, rest);
}

/* A node that is being scrubbed. */
struct scrubbed {
    const char *name;
    char address[ADDRESS_MAX_BYTES + 1];
    uint64_t total;          /* bytes that it holds */
    uint64_t bytes, damaged; /* before, then what this scrub adds */
    bool done;
};

/* Asks a node for its STATE: what it holds, what it read so far and found damaged, and whether it is still at it. */
static enum status scrub_state(struct scrubbed *n, uint64_t *bytes, uint64_t *damaged, bool *busy) {
    struct text line = {0};
    struct answer a = {0};
    bool sent = false;
    text_add(&line, "STATE");
    enum status status = ask_once(n->address, &line, NULL, true, CALL_TIMEOUT_MS, CALL_TIMEOUT_MS, &a, &sent);
    if (status == DONE && (!parse_u64(row_value(&a, "bytes"), UINT64_MAX, &n->total) ||
                           !parse_u64(row_value(&a, "scrubbed"), UINT64_MAX, bytes) ||
                           !parse_u64(row_value(&a, "damaged"), UINT64_MAX, damaged)))
        status = fail(INTERNAL, "the node's answer to STATE is none");
    *busy = slice_is(row_value(&a, "scrub"), "now");
    if (status == DONE && slice_is(row_value(&a, "state"), "failed"))
        status = fail(INTERNAL, "its disk failed; its log says how: mend the disk and start it again");
    if (status != DONE) status = fail(status, "node %s: %s", shown(n->name), detail);
    text_free(&line);
    answer_free(&a);
    return status;
}

/* Begins the scrub of one node. */
static enum status scrub_begin(struct client *cl, struct scrubbed *n) {
    struct text line = {0};
    struct answer a = {0};
    bool sent = false, busy;
    enum status status = *n->address ? DONE : node_locate(cl, n->name, n->address);
    if (status == DONE) status = scrub_state(n, &n->bytes, &n->damaged, &busy);
    text_add(&line, "SCRUB");
    if (status == DONE) {
        status = ask_once(n->address, &line, NULL, false, CALL_TIMEOUT_MS, CALL_TIMEOUT_MS, &a, &sent);
        if (status != DONE) status = fail(status, "node %s: %s", shown(n->name), detail);
    }
    text_free(&line);
    answer_free(&a);
    return status;
}

/* Waits until all are done. */
static enum status scrub_wait(struct scrubbed *list, int count) {
    uint64_t bytes, damaged, shown_bytes = 0, total = 0;
    enum status status = DONE;
    for (int i = 0; i < count; i++) total += list[i].total;
    progress_begin("read", total, 0);
    for (int left = count; left > 0 && status == DONE;) {
        uint64_t sum = 0;
        sleep_ms(LOOK_MS);
        for (int i = 0; i < count && status == DONE; i++) {
            bool busy;
            status = scrub_state(&list[i], &bytes, &damaged, &busy);
            sum += status != DONE || list[i].done ? list[i].bytes : bytes - list[i].bytes;
            if (status != DONE || busy || list[i].done) continue;
            list[i].bytes = bytes - list[i].bytes;
            list[i].damaged = damaged - list[i].damaged;
            list[i].done = true;
            left--;
        }
        if (sum > shown_bytes) progress_add(sum - shown_bytes, 0);
        if (sum > shown_bytes) shown_bytes = sum;
    }
    progress_end();
    return status;
}

/* dfs --scrub [NODE ...] */
static int cmd_scrub(struct client *cl, int rest, char **words) {
    const struct node_row *rows = NULL;
    struct json_writer w;
    uint64_t damaged = 0;
    enum status status = DONE;
    int known = rest == 0 ? nodes_known(cl, &rows, &status) : 0, count = rest;
    struct scrubbed *list = mem_alloc((size_t)(rest + known) * sizeof *list);
    for (int i = 0; i < rest; i++) list[i].name = words[i];
    for (int i = 0; i < known; i++) {
        if (strcmp(rows[i].state, "down") == 0) continue;
        list[count].name = rows[i].name;
        memcpy(list[count++].address, rows[i].address, sizeof rows[i].address);
    }
    for (int i = 0; i < count && status == DONE; i++) status = scrub_begin(cl, &list[i]);
    if (status == DONE) status = scrub_wait(list, count);
    json_begin(&w);
    json_array(&w);
    for (int i = 0; i < count && status == DONE; i++) {
        struct text size = {0};
        damaged += list[i].damaged;
        text_size(&size, list[i].bytes);
        if (!option_value[OPT_JSON])
            printf("%-20s read %s, %" PRIu64 " damaged chunks\n", shown(list[i].name), size.data, list[i].damaged);
        json_object(&w);
        json_key_string(&w, "node", list[i].name);
        json_key_unsigned(&w, "bytes", list[i].bytes);
        json_key_unsigned(&w, "damaged", list[i].damaged);
        json_object_end(&w);
        text_free(&size);
    }
    json_array_end(&w);
    if (status == DONE && option_value[OPT_JSON]) json_print(&w);
    else json_free(&w);
    free(list);
    if (status == DONE && damaged > 0)
        status = fail(DAMAGED,
                      "%" PRIu64 " chunks, which are set aside and fetched from nodes that have them; dfs --status "
                      "names what nobody has",
                      damaged);
    return status == DONE ? 0 : complain("scrub", status);
}

/* dfs --fault NODE KIND [ARGUMENT] */
static int cmd_fault(struct client *cl, int rest, char **words) {
    char address[ADDRESS_MAX_BYTES + 1];
    struct text line = {0};
    struct answer a = {0};
    struct json_writer w;
    bool sent;
    if (rest != 2 && rest != 3) die(USAGE_ERROR, "write dfs --fault NODE KIND [ARGUMENT]; dfs --help says which kinds");
    enum status status = node_locate(cl, words[0], address);
    text_add(&line, "FAULT ");
    text_escaped(&line, words[1], strlen(words[1]));
    text_byte(&line, ' ');
    if (rest == 3) text_escaped(&line, words[2], strlen(words[2]));
    else text_byte(&line, '-');
    if (status == DONE) status = ask_once(address, &line, NULL, false, CALL_TIMEOUT_MS, CALL_TIMEOUT_MS, &a, &sent);
    text_free(&line);
    answer_free(&a);
    if (status != DONE) return complain("fault", status);
    if (!option_value[OPT_JSON]) return 0;
    json_begin(&w);
    json_object(&w);
    json_key_string(&w, "node", words[0]);
    json_key_string(&w, "fault", words[1]);
    json_object_end(&w);
    json_print(&w);
    return 0;
}

/* ---- Copies: where they are, how many, who gives them up ---- */

/* dfs --where REMOTE */
static int cmd_where(struct client *cl, int rest, char **words) {
    char path[PATH_MAX_BYTES + 1];
    struct file_info *f;
    struct text t = {0};
    if (rest != 1) die(USAGE_ERROR, "write dfs --where REMOTE");
    enum status status = remote_path(words[0], path);
    if (status == DONE) status = client_stat(cl, path, &f);
    if (status == DONE && f->directory) {
        file_info_free(f);
        status = fail(WRONG_KIND, "'%s' is a directory; name a file in it", shown(path));
    }
    if (status != DONE) return complain("where", status);
    if (option_value[OPT_JSON]) {
        stat_print_json(cl, path, f);
        file_info_free(f);
        return 0;
    }
    for (uint32_t i = 0; i < f->chunk_count; i++) {
        text_format(&t, "%6u  ", i + 1);
        text_hex(&t, f->chunk[i].hash, 32);
        text_format(&t, "  %8u ", f->chunk[i].length);
        for (int n = 0; n < f->node_count; n++)
            if (node_set_has(&f->chunk[i].holders, n)) text_format(&t, " %s", shown(node_name(cl, f->node[n].id)));
        text_add(&t, node_set_empty(&f->chunk[i].holders) ? " on no live node\n" : "\n");
    }
    for (int n = 0; n < f->node_count; n++) {
        uint64_t chunks = 0, bytes = 0;
        for (uint32_t i = 0; i < f->chunk_count; i++) {
            if (!node_set_has(&f->chunk[i].holders, n)) continue;
            chunks++;
            bytes += f->chunk[i].length;
        }
        text_format(&t, "%s: %" PRIu64 " of %u chunks, ", shown(node_name(cl, f->node[n].id)), chunks, f->chunk_count);
        text_size(&t, bytes);
        text_byte(&t, '\n');
    }
    if (t.length > 0) fwrite(t.data, 1, t.length, stdout);
    text_free(&t);
    file_info_free(f);
    return 0;
}

/* Prints one row of EVENTS. */
static void event_print(struct slice row) {
    struct text t = {0};
    uint64_t number;
    int64_t wall_ms;
    if (option_value[OPT_JSON]) {
        struct json_writer w;
        json_start(&w);
        json_event(&w, row);
        if (json_done(&w)) text_bytes(&t, w.data, w.length);
        json_free(&w);
    } else if (event_parse(&row, &number, &wall_ms)) {
        text_time(&t, wall_ms * 1000000);
        text_format(&t, ".%03d  ", (int)(wall_ms % 1000));
        text_display(&t, row.at, row.length);
    }
    if (t.length == 0) return;
    text_byte(&t, '\n');
    fwrite(t.data, 1, t.length, stdout);
    text_free(&t);
}

/* dfs --events [-f]: what the master that reigns remembers. When another one does, it begins with that one's first. */
static int cmd_events(struct client *cl, int rest, char **words) {
    (void)words;
    enum { WAIT_MS = 2000 };
    char master_id[17] = "";
    uint64_t after = 0, next;
    enum status status = DONE;
    bool more = true;
    if (rest > 0) die(USAGE_ERROR, "write dfs --events, or dfs --events -f");
    while (more && status == DONE) {
        struct text line = {0};
        struct answer a = {0};
        struct slice row;
        text_format(&line, "EVENTS %" PRIu64 " %d", after, option_value[OPT_FOLLOW] ? WAIT_MS : 0);
        status = client_ask(cl, &line, NULL, false, true, &a);
        if (status == DONE && (a.w.count != 5 || !parse_u64(a.w.word[2], UINT64_MAX, &next)))
            status = fail(INTERNAL, "the master's answer to EVENTS is none");
        bool other = status == DONE && *master_id && !slice_is(a.w.word[1], master_id);
        struct slice events = {a.body.data, a.body.length};
        if (status == DONE && !other) {
            while (slice_line(&events, &row)) event_print(row);
            fflush(stdout);
            more = option_value[OPT_FOLLOW] || next != after;
            after = next;
        } else if (other) {
            after = 0;
        }
        if (status == DONE) slice_copy(a.w.word[1], master_id, sizeof master_id);
        text_free(&line);
        answer_free(&a);
    }
    return status == DONE ? 0 : complain("events", status);
}

/* Asks how many chunks a draining node still has to be copied from. UNAVAILABLE if it is down, or not draining any
 * more. */
static enum status drain_left_ask(struct client *cl, const char *name, uint64_t *left) {
    struct text line = {0};
    struct answer a = {0};
    struct slice row;
    struct node_row n;
    text_add(&line, "NODES");
    enum status status = client_ask(cl, &line, NULL, false, true, &a);
    bool found = false;
    struct slice rest = {a.body.data, a.body.length};
    while (status == DONE && !found && slice_line(&rest, &row)) {
        if (!node_row_parse(row, &n)) continue;
        found = (strcmp(n.name, name) == 0 || strcmp(n.id_text, name) == 0) && strcmp(n.state, "draining") == 0;
        if (found) *left = n.left;
    }
    if (status == DONE && !found)
        status = fail(UNAVAILABLE, "node %s is not there, or not draining any more; dfs --nodes shows", shown(name));
    text_free(&line);
    answer_free(&a);
    return status;
}

/* dfs --drain NODE [--cancel] */
static int cmd_drain(struct client *cl, int rest, char **words) {
    uint64_t left = 1;
    bool cancel = option_value[OPT_CANCEL] != NULL;
    if (rest != 1) die(USAGE_ERROR, "write dfs --drain NODE, or dfs --drain NODE --cancel");
    enum status status = member_ask(cl, "DRAIN", words[0], cancel ? "0" : "1");
    while (status == DONE && !cancel && left > 0) {
        status = drain_left_ask(cl, words[0], &left);
        if (status == DONE && left > 0 && !option_quiet && isatty(STDERR_FILENO))
            fprintf(stderr, "\r%" PRIu64 " chunks left to copy\033[K", left);
        if (status == DONE && left > 0) sleep_ms(LOOK_MS);
    }
    if (isatty(STDERR_FILENO) && !option_quiet) fprintf(stderr, "\r\033[K");
    if (status != DONE) return complain("drain", status);
    if (option_value[OPT_JSON]) {
        struct json_writer w;
        json_begin(&w);
        json_object(&w);
        json_key_string(&w, "node", words[0]);
        json_key_bool(&w, "draining", !cancel);
        json_object_end(&w);
        json_print(&w);
    } else if (!option_quiet) {
        printf(cancel ? "node %s goes on as before\n" : "node %s: safe to unplug, all it holds is elsewhere\n",
               shown(words[0]));
    }
    return 0;
}

/* dfs --forget NODE */
static int cmd_forget(struct client *cl, int rest, char **words) {
    if (rest != 1) die(USAGE_ERROR, "write dfs --forget NODE");
    enum status status = member_ask(cl, "FORGET", words[0], NULL);
    if (status != DONE) return complain("forget", status);
    if (option_value[OPT_JSON]) {
        struct json_writer w;
        json_begin(&w);
        json_object(&w);
        json_key_string(&w, "forgotten", words[0]);
        json_object_end(&w);
        json_print(&w);
    }
    return 0;
}

/* ---- Checking and rescue: a node's directory without a server ---- */

/* What --fsck found. There is one check in a process. */
static struct {
    struct store store;
    struct tree tree;
    struct json_writer w;
    uint64_t entries, problems, traces; /* traces: of interrupted writes, which are no damage */
    uint64_t damaged_chunks, missing_chunks;
    bool metadata;                      /* some problem is not of a chunk */
} check;

/* Reports one problem, or a trace of an interrupted write if it does not matter. */
static void check_problem(uint32_t segment, uint64_t offset, const char *what, bool matters) {
    char path[PATH_MAX];
    if (matters) check.problems++;
    else check.traces++;
    segment_path(&check.store, segment, path, sizeof path);
    if (option_value[OPT_JSON]) {
        json_object(&check.w);
        json_key_string(&check.w, "file", path);
        json_key_unsigned(&check.w, "offset", offset);
        json_key_string(&check.w, "problem", what);
        json_key_bool(&check.w, "matters", matters);
        json_object_end(&check.w);
    } else {
        printf("%s, byte %" PRIu64 ": %s%s\n", path, offset, shown(what), matters ? "" : " (a trace of a crash)");
    }
}

/* Reports a problem of one file or directory. */
static void check_path_problem(const char *path, const char *what) {
    check.problems++;
    if (option_value[OPT_JSON]) {
        json_object(&check.w);
        json_path(&check.w, path);
        json_key_string(&check.w, "problem", what);
        json_object_end(&check.w);
    } else {
        printf("%s: %s\n", shown(path), what);
    }
}

/* The path of an inode of the tree that is checked; false if a directory above it is missing. */
static bool check_path(const struct inode *n, char to[2 * PATH_MAX_BYTES]) {
    struct text path = {0}, front = {0};
    for (int depth = 0; n && n->id != ROOT_ID && depth < PATH_MAX_BYTES; depth++) {
        struct slice name = n->parent & TRASH_BIT ? trash_name(n) : (struct slice){n->name, n->name_length};
        text_clear(&front);
        text_byte(&front, '/');
        text_bytes(&front, name.at, name.length);
        if (path.length > 0) text_bytes(&front, path.data, path.length);
        struct text swap = path;
        path = front;
        front = swap;
        n = tree_by_id(&check.tree, n->parent & ~TRASH_BIT);
    }
    bool good = n && n->id == ROOT_ID && path.length < 2 * PATH_MAX_BYTES;
    snprintf(to, 2 * PATH_MAX_BYTES, "%s", good && path.data ? path.data : "?");
    text_free(&path);
    text_free(&front);
    return good;
}

/* Goes through a closed segment: every row of its table of contents against the header before its place and the bytes
 * there. What was dropped or set aside is passed over; metadata from before the checkpoint only has to be there. */
static void check_segment(struct segment *g, uint8_t *buffer) {
    struct text lines = {0};
    struct stat about;
    struct entry row, entry;
    struct place durable;
    uint64_t at;
    char header[HEADER_MAX_BYTES];
    if (fstat(g->fd, &about) != 0 ||
        !toc_read(g, recovery_end(g, (uint64_t)about.st_size), &lines, &at, &durable)) {
        text_free(&lines);
        return; /* recovery said so, or went through it entry by entry */
    }
    struct slice rest = {lines.data, lines.length};
    while (toc_entry(&rest, &row)) {
        check.entries++;
        bool chunk = row.kind == ENTRY_CHUNK;
        const struct slot *slot = chunk ? slot_find(&check.store, row.hash) : NULL;
        if (chunk && (!slot || slot->at.segment != g->number || slot->at.offset != row.offset)) continue;
        size_t used = 0, back = row.offset < HEADER_MAX_BYTES ? row.offset : HEADER_MAX_BYTES;
        for (size_t i = 2; i <= back && used == 0;
             i++) { /* the header is the line that ends where the payload begins */
            if (!sys_pread(g->fd, header, i, row.offset - i)) break;
            used = header_read(g, row.offset - i, header, i, &entry, &durable);
            if (used != i) used = 0;
        }
        if (used == 0 || entry.kind != row.kind || entry.length != row.length || memcmp(entry.hash, row.hash, 32) != 0)
            check_problem(g->number, row.offset, "an entry whose header is not what the table of contents says", true);
        progress_add(row.length, 0);
        if (row.length > PAYLOAD_MAX_BYTES || read_verified(g->fd, buffer, row.length, row.offset, row.hash))
            continue;
        check_problem(g->number, row.offset, chunk ? "a damaged chunk" : "damaged metadata", true);
        if (chunk) check.damaged_chunks++;
        else check.metadata = true;
        if (chunk && option_value[OPT_REPAIR]) store_set_aside(&check.store, row.hash, slot->at);
    }
    text_free(&lines);
}

/* What must hold in every tree: parents are there and are directories, sizes add up, and, for a node that holds
 * everything, every chunk that is named is here. */
static void check_tree(void) {
    char path[2 * PATH_MAX_BYTES];
    const struct tree *t = &check.tree;
    for (size_t b = 0; b < t->bucket_count; b++)
        for (const struct inode *n = t->by_id[b]; n; n = n->next) {
            const struct inode *parent = tree_by_id(t, n->parent & ~TRASH_BIT);
            bool live = !(n->parent & TRASH_BIT);
            uint64_t sum = 0, missing = 0;
            uint32_t length;
            check_path(n, path);
            if (n->id != ROOT_ID && live && (!parent || parent->kind != KIND_DIRECTORY || parent->parent & TRASH_BIT)) {
                check.metadata = true;
                check_path_problem(path, "its directory is not there");
            }
            for (uint32_t i = 0; i < n->chunk_count; i++) {
                const struct chunk *chunk = tree_chunk(t, inode_chunk(n, i));
                sum += chunk->length;
                missing += !store_has(&check.store, chunk->hash, &length);
            }
            if (n->kind == KIND_FILE && sum != n->size) {
                check.metadata = true;
                check_path_problem(path, "its chunks do not add up to its size");
            }
            if (missing == 0) continue;
            char what[80];
            check.missing_chunks += missing;
            snprintf(what, sizeof what, "%" PRIu64 " of %u chunks are not here", missing, n->chunk_count);
            check_path_problem(path, what);
        }
}

/* Opens a directory for --fsck and --extract and reads its log. */
static void check_open(const char *folder, bool writes) {
    if (writes) store_open(&check.store, folder, 0);
    else store_open_check(&check.store, folder);
    if (!check.store.formatted) die(NOT_FOUND, "%s is no node's directory: it has no node.json", folder);
    check.store.problem = check_problem;
    tree_init(&check.tree);
    store_recover(&check.store, &check.tree);
}

/* dfs --fsck DIR [--repair] */
static int cmd_fsck(struct client *cl, int rest, char **words) {
    (void)cl;
    static const char *const results[] = {"clean", "damaged", "lost"};
    if (rest != 1) die(USAGE_ERROR, "write dfs --fsck DIR; DIR is a node's directory, and its node is stopped");
    json_begin(&check.w);
    json_object(&check.w);
    json_key(&check.w, "problems");
    json_array(&check.w);
    check_open(words[0], option_value[OPT_REPAIR] != NULL);
    uint8_t *buffer = mem_alloc(PAYLOAD_MAX_BYTES);
    progress_begin("check", check.store.chunk_bytes, 0);
    for (uint32_t i = 0; i < check.store.segment_count; i++) {
        struct segment *g = check.store.segments[i];
        lock_take(&check.store.lock);
        bool open = segment_use(&check.store, g);
        lock_drop(&check.store.lock);
        if (open) check_segment(g, buffer);
        lock_take(&check.store.lock);
        if (open) segment_unuse(&check.store, g);
        lock_drop(&check.store.lock);
    }
    progress_end();
    check_tree();
    if (option_value[OPT_REPAIR] && store_sync(&check.store) != DONE) die(INTERNAL, "%s", detail);
    bool bad = check.problems > 0 || check.missing_chunks > 0 || check.store.metadata_damaged;
    int result = !bad ? 0 : check.tree.roster.count == 1 && check.tree.roster.id[0] == check.store.id ? 2 : 1;
    json_array_end(&check.w);
    json_key_string(&check.w, "result", results[result]);
    json_key_string(&check.w, "cluster", check.store.cluster);
    json_key_string(&check.w, "name", check.store.name);
    json_key_unsigned(&check.w, "files", check.tree.live.files);
    json_key_unsigned(&check.w, "chunks", check.store.chunk_count);
    json_key_unsigned(&check.w, "damaged_chunks", check.damaged_chunks);
    json_key_unsigned(&check.w, "missing_chunks", check.missing_chunks);
    json_key_bool(&check.w, "metadata_damaged", check.metadata || check.store.metadata_damaged);
    json_object_end(&check.w);
    if (option_value[OPT_JSON]) json_print(&check.w);
    else
        printf("%s: node %s, %" PRIu64 " files, %" PRIu64 " chunks, %" PRIu64 " damaged, %" PRIu64
               " missing, last record %" PRIu64 ".%" PRIu64 "\n",
               results[result], shown(check.store.name), check.tree.live.files, check.store.chunk_count,
               check.damaged_chunks, check.missing_chunks, check.tree.at.epoch, check.tree.at.seq);
    free(buffer);
    if (result == 0) return 0;
    return complain("fsck", result == 1
                                  ? fail(DAMAGED, "other nodes held the same: start this one, and it gets from them "
                                                  "what it lacks")
                                  : fail(UNAVAILABLE, "this node was the last that held everything: dfs --extract "
                                                      "gets out what is left"));
}

/* How --extract does. */
struct extract {
    uint64_t files, incomplete;
    uint8_t *buffer;
};

/* Writes one file into a folder. What is missing or damaged stays a hole, and the name says so. */
static enum status extract_file(struct extract *x, const struct inode *n, int folder, const char *name) {
    char incomplete[NAME_MAX_BYTES + 16], path[2 * PATH_MAX_BYTES];
    uint64_t offset = 0, bad = 0;
    int fd = sys_openat(folder, name, O_WRONLY | O_CREAT | O_EXCL, 0666);
    if (fd < 0) return fail(status_of_errno(), "%s: %s", shown(name), strerror(errno));
    enum status status = DONE;
    for (uint32_t i = 0; i < n->chunk_count && status == DONE; i++) {
        const struct chunk *chunk = tree_chunk(&check.tree, inode_chunk(n, i));
        struct found found;
        bool good = store_find(&check.store, chunk->hash, &found) == DONE;
        if (good) {
            good = found.length == chunk->length &&
                   read_verified(found.fd, x->buffer, found.length, found.offset, chunk->hash);
            store_release(&check.store, &found);
        }
        struct iovec piece = {x->buffer, chunk->length};
        if (good && !sys_pwritev(fd, &piece, 1, offset))
            status = fail(status_of_errno(), "%s: %s", shown(name), strerror(errno));
        bad += !good;
        progress_add(chunk->length, 0);
        offset += chunk->length;
    }
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {n->mtime_ns / 1000000000, (long)(n->mtime_ns % 1000000000)}};
    if (times[1].tv_nsec < 0) times[1].tv_sec--, times[1].tv_nsec += 1000000000;
    if (status == DONE && (!sys_truncate(fd, n->size) || futimens(fd, times) != 0))
        status = fail(status_of_errno(), "%s: %s", shown(name), strerror(errno));
    if (close(fd) != 0 && status == DONE) status = fail(status_of_errno(), "%s: %s", shown(name), strerror(errno));
    x->files++;
    progress_add(0, 1);
    if (status != DONE || bad == 0) return status;
    x->incomplete++;
    check_path(n, path);
    snprintf(incomplete, sizeof incomplete, "%.240s.incomplete", name);
    if (renameat(folder, name, folder, incomplete) != 0)
        return fail(status_of_errno(), "%s: %s", shown(name), strerror(errno));
    fprintf(option_value[OPT_JSON] ? stderr : stdout,
            "%s: %" PRIu64 " of %u chunks are missing or damaged; what is there is in %s\n", shown(path), bad,
            n->chunk_count, shown(incomplete));
    return DONE;
}

/* Writes what is in a directory. A level of folders costs a descriptor. */
static enum status extract_directory(struct extract *x, uint64_t id, int folder) {
    char name[NAME_MAX_BYTES + 1] = "";
    enum status status = DONE;
    for (const struct inode *n; status == DONE && (n = tree_next(&check.tree, id, name));) {
        memcpy(name, n->name, n->name_length);
        name[n->name_length] = 0;
        if (n->kind == KIND_FILE) {
            status = extract_file(x, n, folder, name);
            continue;
        }
        int below = sys_mkdirat(folder, name);
        if (below < 0) return fail(status_of_errno(), "%s: %s", shown(name), strerror(errno));
        status = extract_directory(x, n->id, below);
        close(below);
    }
    return status;
}

/* dfs --extract DIR OUT: all files of a node's directory, with no server. */
static int cmd_extract(struct client *cl, int rest, char **words) {
    (void)cl;
    struct extract x = {0};
    struct rlimit files;
    if (rest != 2)
        die(USAGE_ERROR, "write dfs --extract DIR OUT; DIR is a node's directory, OUT a folder that is made");
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    check_open(words[0], false);
    if (mkdir(words[1], 0777) != 0)
        return complain("extract", fail(status_of_errno() == INTERNAL ? EXISTS : status_of_errno(), "making %s: %s",
                                          words[1], strerror(errno)));
    int out = sys_open(words[1], O_RDONLY | O_DIRECTORY, 0);
    x.buffer = mem_alloc(CHUNK_MAX_BYTES);
    progress_begin("extract", check.tree.live.bytes, check.tree.live.files);
    enum status status = out >= 0 ? extract_directory(&x, ROOT_ID, out)
                                  : fail(status_of_errno(), "%s: %s", words[1], strerror(errno));
    progress_end();
    if (out >= 0) close(out);
    free(x.buffer);
    if (status != DONE) return complain("extract", status);
    if (option_value[OPT_JSON]) {
        struct json_writer w;
        json_begin(&w);
        json_object(&w);
        json_key_unsigned(&w, "files", x.files);
        json_key_unsigned(&w, "incomplete", x.incomplete);
        json_object_end(&w);
        json_print(&w);
    } else {
        printf("%" PRIu64 " files, %" PRIu64 " of them incomplete\n", x.files, x.incomplete);
    }
    if (check.store.metadata_damaged)
        status = fail(DAMAGED,
                      "records are damaged: what changed behind the damage is not here; another node may know more");
    else if (x.incomplete > 0)
        status = fail(DAMAGED, "some files are incomplete, as said above; another node may have what is missing");
    return status == DONE ? 0 : complain("extract", status);
}

/* ======== 18. Bench ======== */
/* dfs --bench: many clients at once, as the table of figures wants them measured. Entry point: cmd_bench. */

struct bench {
    bool up;
    uint64_t files, size, clients;
    atomic_ullong next, failed;
    int64_t begun_ms;
};

struct bench_client {
    struct bench *b;
    struct client cl;
};

static enum status bench_up(struct client *cl, const char *path, const uint8_t *bytes, size_t length) {
    struct put put = {.path = path, .condition = "-", .size = length, .mtime_ns = clock_wall_ns()};
    sha256_digest(bytes, length, put.sha256);
    return client_upload_small(cl, &put, bytes, false);
}

static enum status bench_down(struct client *cl, const char *path, uint8_t *bytes, size_t length, unsigned turn) {
    struct file_info *f;
    struct node_set tried = {{0}};
    int from;
    enum status status = client_stat(cl, path, &f);
    if (status != DONE) return status;
    if (f->directory || f->chunk_count != (length > 0) || f->size != length)
        status = fail(WRONG_KIND, "not what bench up made");
    else if (f->chunk_count == 1) status = get_any(f, 0, turn, &tried, true, bytes, &from);
    file_info_free(f);
    return status;
}

static void *bench_main(void *argument) {
    struct bench_client *self = argument;
    struct bench *b = self->b;
    uint8_t *bytes = mem_alloc((size_t)b->size + 8);
    char path[64];
    for (;;) {
        uint64_t number = atomic_fetch_add(&b->next, 1);
        if (number >= b->files) break;
        snprintf(path, sizeof path, "/bench/%03" PRIu64 "/%" PRIu64, number / 1000, number);
        if (b->up) {
            uint64_t seed = mix64(number + (uint64_t)b->begun_ms);
            for (size_t i = 0; i < b->size; i += 8) memcpy(bytes + i, &(uint64_t){mix64(seed + i)}, 8);
        }
        enum status status = b->up ? bench_up(&self->cl, path, bytes, (size_t)b->size)
                                   : bench_down(&self->cl, path, bytes, (size_t)b->size, (unsigned)number);
        if (status == DONE) continue;
        if (atomic_fetch_add(&b->failed, 1) == 0) complain("bench", status);
        break; /* this client gives up; the count of failures says how many did */
    }
    free(bytes);
    return NULL;
}

static void bench_say(struct bench *b, const char *way, double seconds) {
    double rate = (double)b->files / seconds, bytes_rate = (double)(b->files * b->size) / seconds;
    struct json_writer w;
    if (!option_value[OPT_JSON]) {
        printf("%s: %" PRIu64 " files of %" PRIu64 " bytes, %" PRIu64
               " clients, %llu gave up, %.3f s, %.0f files/s, %.1f MiB/s\n",
               way, b->files, b->size, b->clients, atomic_load(&b->failed), seconds, rate, bytes_rate / 1048576);
        return;
    }
    json_begin(&w);
    json_object(&w);
    json_key_string(&w, "way", way);
    json_key_unsigned(&w, "files", b->files);
    json_key_unsigned(&w, "size", b->size);
    json_key_unsigned(&w, "clients", b->clients);
    json_key_unsigned(&w, "gave_up", atomic_load(&b->failed));
    json_key(&w, "seconds");
    json_fixed(&w, (uint64_t)(seconds * 1000));
    json_key_unsigned(&w, "files_per_second", (uint64_t)rate);
    json_key_unsigned(&w, "bytes_per_second", (uint64_t)bytes_rate);
    json_object_end(&w);
    json_print(&w);
}

/* dfs --bench up|down */
static int cmd_bench(struct client *cl, int rest, char **words) {
    struct bench b = {.files = option_number(OPT_FILES, 10000, 1, 100000000), .begun_ms = clock_ms()};
    pthread_t thread[BENCH_CLIENTS_MAX];
    if (rest != 1 || (strcmp(words[0], "up") != 0 && strcmp(words[0], "down") != 0))
        die(USAGE_ERROR, "write dfs --bench up or dfs --bench down");
    b.up = strcmp(words[0], "up") == 0;
    b.size = option_size(OPT_SIZE, KIB, 0, CHUNK_MAX_BYTES);
    b.clients = option_number(OPT_CLIENTS, 16, 1, BENCH_CLIENTS_MAX);
    struct bench_client *clients = mem_alloc((size_t)b.clients * sizeof *clients);
    for (uint64_t i = 0; i < b.clients; i++) {
        clients[i].b = &b;
        client_init(&clients[i].cl, cl->masters);
        thread[i] = thread_spawn(bench_main, &clients[i]);
    }
    for (uint64_t i = 0; i < b.clients; i++) pthread_join(thread[i], NULL);
    double seconds = (double)(clock_ms() - b.begun_ms) / 1000;
    free(clients);
    bench_say(&b, words[0], seconds);
    return atomic_load(&b.failed) > 0 ? INTERNAL : 0;
}

/* ======== 19. Self-test ======== */
#ifdef DFS_FUZZ
/* What reads bytes from elsewhere, for clang's fuzzer; the first byte of its input chooses. Besides memory errors it
 * looks for what must always hold: a tree survives its own snapshot, escaping survives its own reading. */

static void fuzz_records(const char *bytes, size_t length) {
    struct tree t, copy;
    struct text part = {0};
    const struct inode *last = NULL;
    uint8_t digest[2][32];
    tree_init(&t);
    tree_init(&copy);
    if (tree_apply(&t, bytes, length) == DONE) {
        snapshot_head(&part, &t);
        if (!snapshot_walk(&part, &t, t.root, 0, "", 0, SIZE_MAX, &last)) {
            enum status status = snapshot_load(&copy, part.data, part.length);
            assert(status == DONE && position_same(t.at, copy.at) && t.live.files == copy.live.files);
            tree_digest(&t, digest[0]);
            tree_digest(&copy, digest[1]);
            assert(memcmp(digest[0], digest[1], 32) == 0);
        }
    }
    text_free(&part);
    tree_free(&t);
    tree_free(&copy);
}

static void fuzz_snapshot(const char *bytes, size_t length) {
    struct tree t;
    uint8_t digest[32];
    tree_init(&t);
    if (snapshot_load(&t, bytes, length) == DONE) tree_digest(&t, digest);
    tree_free(&t);
}

static void fuzz_text(const char *bytes, size_t length) {
    char name[300], path[PATH_MAX_BYTES + 1], host[64];
    uint64_t number;
    uint16_t port = 1;
    struct text string = {0}, escaped = {0};
    struct words w;
    words_split((struct slice){bytes, length}, &w);
    text_bytes(&string, bytes, strnlen(bytes, length));
    text_byte(&string, 0);
    text_escaped(&escaped, string.data, string.length - 1);
    if (parse_escaped((struct slice){escaped.data, escaped.length}, name, sizeof name))
        assert(strcmp(name, string.data) == 0);
    if (path_normalize(string.data, path) == DONE) assert(path_normalize(path, path) == DONE);
    if (parse_size(string.data, &number) && parse_duration_ms(string.data, &number))
        assert(number == 0 || *string.data);
    net_split(string.data, host, sizeof host, &port);
    text_free(&string);
    text_free(&escaped);
}

/* What place_target and place_surplus choose by, one number after the other; the lowest is best. */
static void place_key(const struct candidate *nodes, int count, const struct node_set *set, int slot, uint64_t key[4]) {
    key[0] = 0;
    for (int i = 0; i < count; i++) key[0] += node_set_has(set, i) && nodes[i].zone == nodes[slot].zone;
    key[1] = nodes[slot].used_bytes;
    key[2] = (uint64_t)nodes[slot].busy;
    key[3] = (uint64_t)slot;
}

static bool key_less(const uint64_t a[4], const uint64_t b[4]) {
    int i = 0;
    while (i < 3 && a[i] == b[i]) i++;
    return a[i] < b[i];
}

/* Placement in any state of the nodes, against the plainest way to say the same. */
static void fuzz_placement(const uint8_t *bytes, size_t length) {
    struct candidate nodes[NODES_MAX] = {{0}};
    struct node_set set = {{0}};
    uint64_t key[4], best_key[4] = {0}, least = UINT64_MAX;
    int count = 0, best = -1, worst = -1, source = -1;
    for (; length >= 5 && count < NODES_MAX; bytes += 5, length -= 5, count++) {
        nodes[count] = (struct candidate){.used_bytes = bytes[0], .sent_bytes = bytes[1], .busy = bytes[2] & 3,
                                          .sending = bytes[2] >> 5, .zone = bytes[3] & 7,
                                          .source = bytes[4] & 1, .target = (bytes[4] & 2) != 0,
                                          .ready = (bytes[4] & 8) == 0};
        if (bytes[4] & 4) node_set_add(&set, count);
    }
    for (int i = 0; i < count; i++) {
        if (!nodes[i].target || node_set_has(&set, i)) continue;
        place_key(nodes, count, &set, i, key);
        if (key[0] < least) least = key[0];
    }
    for (int i = 0; i < count; i++) {
        if (!nodes[i].target || node_set_has(&set, i)) continue;
        place_key(nodes, count, &set, i, key);
        assert(place_suits(nodes, count, &set, i) == (key[0] == least));
        if (!nodes[i].ready || key[0] > least) continue;
        if (best < 0 || key_less(key, best_key)) best = i, memcpy(best_key, key, sizeof key);
    }
    assert(place_target(nodes, count, &set) == best);
    for (int i = 0; i < count; i++) {
        if (!node_set_has(&set, i)) continue;
        place_key(nodes, count, &set, i, key);
        key[2] = 0; /* which of equals goes is all the same, but always the first */
        if (worst < 0 || key[0] > best_key[0] || (key[0] == best_key[0] && key[1] > best_key[1]))
            worst = i, memcpy(best_key, key, sizeof key);
    }
    assert(place_surplus(nodes, count, &set) == worst);
    for (int i = 0; i < count; i++) {
        if (!nodes[i].source || !node_set_has(&set, i) || nodes[i].sending >= COPY_SOURCE_MAX) continue;
        uint64_t rank = (uint64_t)nodes[i].sending << 32 | nodes[i].sent_bytes << 8 | (uint64_t)i;
        if (source < 0 ||
            rank < ((uint64_t)nodes[source].sending << 32 | nodes[source].sent_bytes << 8 | (uint64_t)source))
            source = i;
    }
    assert(place_source(nodes, count, &set) == source);
    for (int to = 0; to < count && worst >= 0; to++) { /* a move never leaves fewer zones */
        struct node_set moved = set;
        int before[NODES_MAX], after[NODES_MAX], zones = 0;
        node_set_remove(&moved, worst);
        node_set_add(&moved, to);
        zones_count(nodes, count, &set, before);
        zones_count(nodes, count, &moved, after);
        for (int i = 0; i < NODES_MAX; i++) zones += (after[i] > 0) - (before[i] > 0);
        if (place_may_move(nodes, count, &set, worst, to)) assert(!node_set_has(&set, to) && zones >= 0);
        else assert(node_set_has(&set, to) || zones < 0);
    }
}

struct fuzz_chunk {
    uint64_t length;
    struct node_set holders;
};

/* How full a disk of so many bytes is, or 0: of any size. */
static void fuzz_room(struct candidate *n, uint64_t disk_bytes) {
    enum { CLOSE = 4 * MIB }; /* the largest chunk there is */
    n->crowded = disk_bytes > 0 && n->used_bytes + CLOSE > disk_bytes;
    n->tight = disk_bytes > 0 && n->used_bytes + 2 * CLOSE > disk_bytes;
}

/* Moves chunks as plan_move does, until it finds none, never there and back. Then no chunk may move between two nodes
 * of which one has too much. Returns by how much the fullest has more than the emptiest. */
static uint64_t balance(struct candidate *nodes, int count, struct fuzz_chunk *chunks, int chunk_count,
                        const uint64_t *disk_bytes) {
    struct node_set here = {{0}};
    uint64_t most, sum = 0, largest = 0, least = UINT64_MAX;
    int from, to, pair = 0, moves = 0;
    for (int i = 0; i < count; i++) node_set_add(&here, i);
    while ((most = place_pair(nodes, count, &here, false, pair, &from, &to)) > 0) {
        int i = 0;
        while (i < chunk_count && (chunks[i].length > most ||
                                   !place_may_move(nodes, count, &chunks[i].holders, from, to))) i++;
        pair = i == chunk_count ? pair + 1 : 0;
        if (i == chunk_count) continue;
        node_set_remove(&chunks[i].holders, from);
        node_set_add(&chunks[i].holders, to);
        nodes[from].used_bytes -= chunks[i].length;
        nodes[to].used_bytes += chunks[i].length;
        assert(nodes[from].crowded || nodes[from].used_bytes >= nodes[to].used_bytes);
        fuzz_room(&nodes[from], disk_bytes[from]);
        fuzz_room(&nodes[to], disk_bytes[to]);
        assert(nodes[to].target && nodes[to].ready && !nodes[to].crowded && ++moves < 100000);
    }
    for (int i = 0; i < count; i++) {
        sum += nodes[i].used_bytes;
        if (nodes[i].used_bytes > largest) largest = nodes[i].used_bytes;
        if (nodes[i].used_bytes < least) least = nodes[i].used_bytes;
    }
    uint64_t bar = sum / (uint64_t)count / 20 > BALANCE_MIN_BYTES ? sum / (uint64_t)count / 20 : BALANCE_MIN_BYTES;
    for (from = 0; from < count; from++)
        for (to = 0; to < count; to++) {
            bool wanted = nodes[from].crowded || nodes[from].used_bytes > nodes[to].used_bytes + bar;
            if (!wanted || !nodes[to].target || !nodes[to].ready || nodes[to].tight) continue;
            for (int i = 0; i < chunk_count; i++)
                assert((!nodes[from].crowded &&
                        chunks[i].length > (nodes[from].used_bytes - nodes[to].used_bytes) / 2) ||
                       !place_may_move(nodes, count, &chunks[i].holders, from, to));
        }
    return largest - least;
}

/* Balance from any state. */
static void fuzz_balance(const uint8_t *bytes, size_t length) {
    struct candidate nodes[8] = {{0}};
    struct fuzz_chunk chunks[64] = {{0}};
    uint64_t disk_bytes[8];
    int count = 0, chunk_count = 0;
    for (; length > 0 && count < 8; bytes++, length--) {
        disk_bytes[count] = (uint64_t)(*bytes >> 6) * 40 * MIB;
        nodes[count++] = (struct candidate){
            .zone = *bytes & 3, .target = (*bytes & 12) != 0, .ready = (*bytes & 48) != 0};
    }
    for (; length > 1 && chunk_count < 64; bytes += 2, length -= 2) {
        struct fuzz_chunk *chunk = &chunks[chunk_count++];
        chunk->length = (bytes[0] + 1) * 16 * KIB;
        for (int i = 0; i < count; i++) {
            if (!(bytes[1] >> i & 1)) continue;
            node_set_add(&chunk->holders, i);
            nodes[i].used_bytes += chunk->length;
        }
    }
    for (int i = 0; i < count; i++) fuzz_room(&nodes[i], disk_bytes[i]);
    if (count > 0) balance(nodes, count, chunks, chunk_count, disk_bytes);
}

/* Nodes 0 to 5 in zones 0 to 2, two each. Only from node 1 to node 5 there is too much, and all that node 1 has is in
 * the zone of node 5 already: it goes by way of zone 0. */
static void balance_way_round(void) {
    static const struct { int one, other, count; } held[] = {
        {1, 2, 20}, {1, 5, 17}, {4, 0, 17}, {4, 3, 18}, {2, 0, 16}, {5, 3, 15}};
    struct candidate nodes[6];
    struct fuzz_chunk chunks[256] = {{0}};
    int count = 0;
    for (int i = 0; i < 6; i++) nodes[i] = (struct candidate){.zone = i % 3, .target = true, .ready = true};
    for (size_t i = 0; i < sizeof held / sizeof *held; i++)
        for (int k = 0; k < held[i].count; k++) {
            struct fuzz_chunk *chunk = &chunks[count++];
            chunk->length = 256 * KIB;
            node_set_add(&chunk->holders, held[i].one);
            node_set_add(&chunk->holders, held[i].other);
            nodes[held[i].one].used_bytes += chunk->length;
            nodes[held[i].other].used_bytes += chunk->length;
        }
    assert(nodes[1].used_bytes - nodes[5].used_bytes > BALANCE_MIN_BYTES);
    static const uint64_t any_size[6];
    uint64_t left = balance(nodes, 6, chunks, count, any_size);
    assert(left <= BALANCE_MIN_BYTES);
}

/* A connection's whole input, as a node that is blank serves it. */
static void fuzz_requests(const void *bytes, size_t length) {
    int pair[2];
    struct endpoint peer = {.length = 0};
    struct request r = {.file_fd = -1};
    if (length > 64 * KIB || socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0) return;
    if (send(pair[0], bytes, length, MSG_NOSIGNAL) == (ssize_t)length && shutdown(pair[0], SHUT_WR) == 0) {
        r.c = conn_new(pair[1], &peer);
        r.c->in = input_make();
        while (conn_serve_one(&r)) {
            char sink[4096];
            while (recv(pair[0], sink, sizeof sink, MSG_DONTWAIT) > 0) continue;
        }
        text_free(&r.body);
        text_free(&r.reply);
        conn_close(r.c);
    } else {
        close(pair[1]);
    }
    close(pair[0]);
}

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc;
    (void)argv;
    log_quiet = true;
    signal(SIGPIPE, SIG_IGN);
    buffers_init();
    pool_init();
    lock_init(&node.lock, RANK_CLUSTER);
    lock_init(&node.reports_lock, RANK_REPORTS);
    cond_init(&node.report);
    lock_init(&node.store.lock, RANK_STORE);
    cond_init(&node.store.synced);
    cond_init(&node.store.rolled);
    tree_init(&node.tree);
    server.table = node_table;
    server.role = "node";
    balance_way_round();
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct endpoint found[4];
    if (size < 2) return 0;
    char *bytes = mem_alloc(size); /* of its own, so that a read behind its end is seen */
    memcpy(bytes, data + 1, size - 1);
    switch (data[0] % 7) {
    case 0: fuzz_records(bytes, size - 1); break;
    case 1: fuzz_snapshot(bytes, size - 1); break;
    case 2: fuzz_text(bytes, size - 1); break;
    case 5: fuzz_placement((const uint8_t *)bytes, size - 1); break;
    case 6: fuzz_balance((const uint8_t *)bytes, size - 1); break;
    case 3: dns_answers(data + 1, size - 1, data[1] & 1 ? 1 : 28, 53, found, 4); break;
    default: fuzz_requests(bytes, size - 1); break;
    }
    free(bytes);
    return 0;
}
#endif

/* ======== 20. main ======== */
/* From the words of the command line to one of the commands, or to a server. */

/* Which command was asked for; several are an error. */
static int command_given(void) {
    int found = -1;
    for (int i = 0; i < OPT_COMMANDS_END; i++) {
        if (!option_value[i]) continue;
        if (found >= 0)
            die(USAGE_ERROR, "--%s and --%s: one thing at a time", option_table[found].name, option_table[i].name);
        found = i;
    }
    return found;
}

/* Refuses options that would do nothing here, rather than to ignore them. */
static void options_refuse(unsigned at, const char *where) {
    for (int i = OPT_COMMANDS_END; i < OPT_COUNT; i++)
        if (option_is_given(i) && !(option_table[i].at & at))
            die(USAGE_ERROR, "--%s does nothing for %s; dfs --help says what it is for", option_table[i].name, where);
}

/* Which function does what was asked for. Help and versions are main's. */
static const struct client_command {
    enum option option;
    int (*run)(struct client *cl, int rest, char **words);
    bool offline; /* asks no server, and needs no key */
} client_table[] = {
    {OPT_UPLOAD, cmd_upload, false}, {OPT_DOWNLOAD, cmd_download, false}, {OPT_VIEW, cmd_view, false},
    {OPT_STAT, cmd_stat, false}, {OPT_LS, cmd_ls, false}, {OPT_FIND, cmd_find, false}, {OPT_DU, cmd_du, false},
    {OPT_CAT, cmd_cat, false}, {OPT_CP, cmd_cp, false}, {OPT_MV, cmd_mv, false}, {OPT_RM, cmd_rm, false},
    {OPT_RMDIR, cmd_rmdir, false}, {OPT_UNDELETE, cmd_undelete, false}, {OPT_MKDIR, cmd_mkdir, false},
    {OPT_SHARE, cmd_share, false}, {OPT_UNSHARE, cmd_unshare, false},
    {OPT_EDIT, cmd_edit, false}, {OPT_STATUS, cmd_status, false}, {OPT_NODES, cmd_nodes, false},
    {OPT_WHERE, cmd_where, false}, {OPT_COPIES, cmd_copies, false}, {OPT_EVENTS, cmd_events, false},
    {OPT_DRAIN, cmd_drain, false}, {OPT_FORGET, cmd_forget, false}, {OPT_BENCH, cmd_bench, false},
    {OPT_SCRUB, cmd_scrub, false}, {OPT_FSCK, cmd_fsck, true}, {OPT_EXTRACT, cmd_extract, true},
    {OPT_FAULT, cmd_fault, false}};

/* Refuses options that are for other commands than this one. */
static void options_refuse_for(int command) {
    for (int i = OPT_COMMANDS_END; i < OPT_COUNT; i++) {
        struct text belongs = {0};
        bool free_for_all = true, good = false;
        for (size_t k = 0; k < sizeof option_belongs / sizeof *option_belongs; k++) {
            if ((int)option_belongs[k].option != i) continue;
            free_for_all = false;
            good = good || (int)option_belongs[k].command == command;
        }
        text_belongs(&belongs, i);
        if (option_is_given(i) && !free_for_all && !good)
            die(USAGE_ERROR, "--%s is not for --%s%s", option_table[i].name, option_table[command].name,
                belongs.data ? belongs.data : "");
        text_free(&belongs);
    }
}

static int run_client(int command, int rest, char **words) {
    static struct client cl;
    const struct client_command *row = client_table;
    while ((int)row->option != command) row++;
    snprintf(self_id, sizeof self_id, "%016" PRIx64, random_u64());
    option_quiet = option_value[OPT_QUIET] != NULL;
    static const int ends[] = {SIGINT, SIGTERM, SIGHUP};
    for (int i = 0; i < 3; i++) /* nohup's choice stays */
        if (signal(ends[i], SIG_IGN) != SIG_IGN) signal(ends[i], on_client_signal);
    atexit(temporaries_clean); /* for when it dies of something else */
    options_refuse(AT_CLIENT, "this command");
    options_refuse_for(command);
    if (!row->offline) key_setup(false);
    client_init(&cl, masters_option());
    if (row->offline) return row->run(&cl, rest, words);
    cl.cache_on = option_value[OPT_CACHE_TTL] != NULL;
    cl.cache_ttl_ms = option_ms(OPT_CACHE_TTL, 0, 0, 3650 * DAY_MS);
    cl.cache_bytes = option_size(OPT_CACHE_SIZE, GIB, 0, UINT64_MAX / 2);
    nodes_recall(&cl);
    int code = row->run(&cl, rest, words);
    nodes_note(&cl);
    text_free(&cl.nodes);
    if (atomic_load(&cl.saw_old) && command != OPT_STATUS && command != OPT_NODES)
        fprintf(stderr, "dfs: possibly old: no master has a hold on its nodes now\n");
    return code;
}

/* Says what is meant by words without a command: most likely one that lacks its dashes. */
static int usage_failed(int rest, char **words) {
    int like = rest > 0 ? option_like(words[0]) : -1;
    if (like >= 0) {
        fprintf(stderr, "dfs: there is no command '%s'; did you mean dfs --%s?\n", words[0], option_table[like].name);
    } else if (rest > 0) {
        fprintf(stderr, "dfs: '%s' is no command; dfs --help lists them\n", words[0]);
    } else {
        fprintf(stderr, "%sdfs --help says more.\n", usage_text);
    }
    return USAGE_ERROR;
}

/* A closed standard descriptor would be taken by the next file or socket, and output would go into that. */
static void descriptors_fill(void) {
    for (int fd = 0; fd <= 2; fd++) /* a write into one of these fails, and is seen */
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDONLY) != fd) _exit(INTERNAL);
}

#ifdef DFS_FUZZ
#define main dfs_main /* the fuzzer brings its own */
#endif
int main(int argc, char **argv) {
    const char *role = argc > 1 ? argv[1] : "";
    signal(SIGXFSZ, SIG_IGN); /* a file over the limit is an error of the write */
    bool serve_master = strcmp(role, "master") == 0, serve_node = strcmp(role, "node") == 0;
    int skip = serve_master || serve_node ? 2 : 1;
    char **words = argv + skip;
    descriptors_fill();
    int rest = options_parse(argc - skip, words), command = command_given();
    fault_setup(getenv("DFS_FAULT"));
    buffers_init();
    pool_init();
    if (command == OPT_HELP) return options_help(rest, words);
    if (command == OPT_COMPLETION) return print_completion(rest, words);
    if (command == OPT_MAN) return print_man(rest, words);
    if (command == OPT_VERSION) {
        printf("dfs %s, protocol " PROTOCOL_NAME ", disk format %d, sha256 %s\n", DFS_VERSION, FORMAT_VERSION,
               sha256_backend_name());
        return 0;
    }
    if (serve_master || serve_node) {
        server_signals();
        if (command >= 0) die(USAGE_ERROR, "--%s is for clients", option_table[command].name);
        options_refuse(serve_master ? AT_MASTER : AT_NODE, serve_master ? "dfs master" : "dfs node");
        return serve_master ? cmd_master(rest) : cmd_node(rest, words);
    }
    if (command < 0 && option_is_given(OPT_COPIES)) command = OPT_COPIES;
    if (command < 0) return usage_failed(rest, words);
    int code = run_client(command, rest, words);
    if (fflush(stdout) == 0 && !ferror(stdout)) return code;
    fprintf(stderr, "dfs: writing the output: %s\n", strerror(errno));
    return code ? code : errno == ENOSPC ? NO_SPACE : INTERNAL;
}
