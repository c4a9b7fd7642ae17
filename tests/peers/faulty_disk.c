/* A file layer with faults, for LD_PRELOAD: calls on files of one folder go to the C library, late, or fail.

   What fails and how is read on every call from a shared mapping of the file that FAULTY_DISK names, so that a test can
   turn a fault on and off under the running process. tests/peers/faulty_disk.py writes it. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { RULES = 16, FOLDER_BYTES = 256, ENDING_BYTES = 40 };
enum { WAL_FRAME_HEADER_BYTES = 24, TORN_FROM_BYTES = 1024 };

enum op { NONE, CREATE, WRITE, COMMIT, SYNC, GROW, DELETE, OPEN, READ };

struct rule {
    int32_t op;    /* NONE: not in force */
    int32_t error; /* 0: late only */
    int32_t delay_milliseconds;
    int32_t times; /* so many calls; 0: all */
    int64_t hits;
    int64_t spared; /* calls before */
    char ending[ENDING_BYTES]; /* of the file's name; empty for every file */
};

struct control {
    char folder[FOLDER_BYTES];
    char platter[FOLDER_BYTES]; /* where a file is copied to when it was synced; empty: nowhere */
    struct rule rules[RULES];
};

static struct control *control;

__attribute__((constructor)) static void begin(void) {
    const char *name = getenv("FAULTY_DISK");
    int file = name ? open(name, O_RDWR | O_CLOEXEC) : -1;
    if (file < 0) {
        return;
    }
    void *mapped = mmap(NULL, sizeof(struct control), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (mapped != MAP_FAILED) {
        control = mapped;
    }
}

static int ends_with(const char *text, const char *ending) {
    size_t length = strlen(text), wanted = strlen(ending);
    return length >= wanted && memcmp(text + length - wanted, ending, wanted) == 0;
}

/* Waits as the rules say; returns the error that they ask for, or 0. */
static int fault(enum op op, const char *path) {
    if (control == NULL || strncmp(path, control->folder, strlen(control->folder)) != 0) {
        return 0;
    }
    for (struct rule *rule = control->rules; rule < control->rules + RULES; rule++) {
        if (__atomic_load_n(&rule->op, __ATOMIC_ACQUIRE) != (int32_t)op || !ends_with(path, rule->ending)) {
            continue;
        }
        int64_t after = __atomic_add_fetch(&rule->hits, 1, __ATOMIC_RELAXED) - rule->spared;
        if (after <= 0 || (rule->times && after > rule->times)) {
            continue;
        }
        struct timespec delay = {rule->delay_milliseconds / 1000, rule->delay_milliseconds % 1000 * 1000000L};
        nanosleep(&delay, NULL);
        if (rule->error) {
            return rule->error;
        }
    }
    return 0;
}

static int in_force(enum op op) {
    if (control != NULL) {
        for (struct rule *rule = control->rules; rule < control->rules + RULES; rule++) {
            if (__atomic_load_n(&rule->op, __ATOMIC_ACQUIRE) == (int32_t)op) {
                return 1;
            }
        }
    }
    return 0;
}

static int path_of(int file, char path[PATH_MAX]) {
    char link[32];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    path[length < 0 ? 0 : length] = 0;
    return length > 0;
}

/* The same for an open file. */
static int fault_of(enum op op, int file) {
    char path[PATH_MAX];
    return in_force(op) && path_of(file, path) ? fault(op, path) : 0;
}

/* A write that commits: the header of a frame of SQLite's log that says how many pages the database has after it. */
static int commits(const void *bytes, size_t count) {
    uint32_t pages;
    if (count != WAL_FRAME_HEADER_BYTES) {
        return 0;
    }
    memcpy(&pages, (const char *)bytes + 4, sizeof pages);
    return pages != 0;
}

static int fault_of_write(int file, const void *bytes, size_t count) {
    int error = commits(bytes, count) ? fault_of(COMMIT, file) : 0;
    return error ? error : fault_of(WRITE, file);
}

#define REAL(name) ((__typeof__(&name))real(#name))

static void *real(const char *name) { return dlsym(RTLD_NEXT, name); }

#define FAIL_WITH(error)     \
    do {                     \
        int why = (error);   \
        if (why) {           \
            errno = why;     \
            return -1;       \
        }                    \
    } while (0)

/* A disk that fills up takes the first part of what is written. */
#define WRITE_WITH(error, count, write_some)              \
    do {                                                  \
        int why = (error);                                \
        if (why == ENOSPC && (count) >= TORN_FROM_BYTES) { \
            (count) /= 2;                                 \
        } else if (why) {                                 \
            errno = why;                                  \
            return -1;                                    \
        }                                                 \
        return (write_some);                              \
    } while (0)

ssize_t pwrite(int file, const void *bytes, size_t count, off_t at) {
    WRITE_WITH(fault_of_write(file, bytes, count), count, REAL(pwrite)(file, bytes, count, at));
}

ssize_t pwrite64(int file, const void *bytes, size_t count, off64_t at) {
    WRITE_WITH(fault_of_write(file, bytes, count), count, REAL(pwrite64)(file, bytes, count, at));
}

ssize_t write(int file, const void *bytes, size_t count) {
    WRITE_WITH(fault_of_write(file, bytes, count), count, REAL(write)(file, bytes, count));
}

ssize_t pread(int file, void *bytes, size_t count, off_t at) {
    FAIL_WITH(fault_of(READ, file));
    return REAL(pread)(file, bytes, count, at);
}

ssize_t pread64(int file, void *bytes, size_t count, off64_t at) {
    FAIL_WITH(fault_of(READ, file));
    return REAL(pread64)(file, bytes, count, at);
}

ssize_t read(int file, void *bytes, size_t count) {
    FAIL_WITH(fault_of(READ, file));
    return REAL(read)(file, bytes, count);
}

/* What a power cut would leave for certain: each file as it was when it was last synced. */
static void keep_on_platter(int file) {
    char from[PATH_MAX], to[FOLDER_BYTES + NAME_MAX + 2], draft[sizeof to + 16], bytes[1 << 16];
    if (control == NULL || !control->platter[0] || !path_of(file, from) ||
        strncmp(from, control->folder, strlen(control->folder)) != 0 || from[strlen(control->folder)] != '/') {
        return;
    }
    snprintf(to, sizeof to, "%s/%s", control->platter, strrchr(from, '/') + 1);
    snprintf(draft, sizeof draft, "%s.%d", to, file); /* whoever looks after a kill finds the old copy or the new one */
    int source = REAL(open)(from, O_RDONLY | O_CLOEXEC), copy = REAL(open)(draft, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    for (ssize_t read_bytes; (read_bytes = read(source, bytes, sizeof bytes)) > 0;) {
        if (REAL(write)(copy, bytes, read_bytes) != read_bytes) {
            abort();
        }
    }
    close(source);
    close(copy);
    REAL(rename)(draft, to);
}

int fsync(int file) {
    FAIL_WITH(fault_of(SYNC, file));
    int failed = REAL(fsync)(file);
    if (!failed) {
        keep_on_platter(file);
    }
    return failed;
}

int fdatasync(int file) {
    FAIL_WITH(fault_of(SYNC, file));
    int failed = REAL(fdatasync)(file);
    if (!failed) {
        keep_on_platter(file);
    }
    return failed;
}

int ftruncate(int file, off_t size) {
    FAIL_WITH(fault_of(GROW, file));
    return REAL(ftruncate)(file, size);
}

int ftruncate64(int file, off64_t size) {
    FAIL_WITH(fault_of(GROW, file));
    return REAL(ftruncate64)(file, size);
}

int posix_fallocate(int file, off_t from, off_t size) {
    int why = fault_of(GROW, file);
    return why ? why : REAL(posix_fallocate)(file, from, size);
}

int posix_fallocate64(int file, off64_t from, off64_t size) {
    int why = fault_of(GROW, file);
    return why ? why : REAL(posix_fallocate64)(file, from, size);
}

int unlink(const char *path) {
    FAIL_WITH(fault(DELETE, path));
    return REAL(unlink)(path);
}

int rename(const char *from, const char *to) {
    FAIL_WITH(fault(DELETE, from));
    return REAL(rename)(from, to);
}

#define MODE_OF(mode, flags)                                \
    mode_t mode = 0;                                        \
    if ((flags) & (O_CREAT | O_TMPFILE)) {                  \
        va_list rest;                                       \
        va_start(rest, flags);                              \
        mode = va_arg(rest, mode_t);                        \
        va_end(rest);                                       \
    }

static int fault_of_open(const char *path, int flags) {
    return fault((flags & O_CREAT) && access(path, F_OK) != 0 ? CREATE : OPEN, path);
}

int open(const char *path, int flags, ...) {
    MODE_OF(mode, flags)
    FAIL_WITH(fault_of_open(path, flags));
    return REAL(open)(path, flags, mode);
}

int open64(const char *path, int flags, ...) {
    MODE_OF(mode, flags)
    FAIL_WITH(fault_of_open(path, flags));
    return REAL(open64)(path, flags, mode);
}
