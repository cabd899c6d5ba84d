/* Records what a process writes below CRASH_DIR, in the order in which it happened, to CRASH_LOG.

   A record: operation u8, length of the name u8, offset i64, length of the data u32 (all of this machine's order), name,
   data. Operations: W write, T truncate (offset is the new size), S fsync or fdatasync (of a file, or of the folder "."),
   U unlink, R rename (data is the new name). The process itself appends records of its own, P for plain JSON. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

static const char *folder;
static size_t folder_length;
static int log_fd = -1;

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

__attribute__((constructor)) static void begin(void) {
    const char *log = getenv("CRASH_LOG");
    folder = getenv("CRASH_DIR");
    if (log && folder) {
        folder_length = strlen(folder);
        log_fd = REAL(open)(log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    }
}

/* The name below the folder, "." for the folder itself, NULL for all else and for the shared memory of the WAL. */
static const char *inside(const char *path) {
    if (log_fd < 0 || strncmp(path, folder, folder_length)) return NULL;
    if (!path[folder_length]) return ".";
    if (path[folder_length] != '/') return NULL;
    const char *name = path + folder_length + 1, *end = strrchr(name, '-');
    return end && !strcmp(end, "-shm") ? NULL : name;
}

static const char *of(int fd, char *buffer) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, buffer, PATH_MAX - 1);
    if (length < 0) return NULL;
    buffer[length] = 0;
    return inside(buffer);
}

static void record(char operation, const char *name, int64_t offset, const void *data, uint32_t length) {
    unsigned char head[14];
    head[0] = operation;
    head[1] = strlen(name);
    memcpy(head + 2, &offset, 8);
    memcpy(head + 10, &length, 4);
    struct iovec parts[3] = {{head, 14}, {(void *)name, head[1]}, {(void *)data, length}};
    if (writev(log_fd, parts, 3) != (ssize_t)(14 + head[1] + length)) abort();
}

#define WRITER(function, offset_type)                                                      \
    ssize_t function(int fd, const void *data, size_t length, offset_type offset) {        \
        ssize_t done = REAL(function)(fd, data, length, offset);                           \
        char path[PATH_MAX];                                                               \
        const char *name = done > 0 ? of(fd, path) : NULL;                                 \
        if (name) record('W', name, offset, data, done);                                   \
        return done;                                                                       \
    }
WRITER(pwrite, off_t)
WRITER(pwrite64, off64_t)

#define TRUNCATER(function, offset_type)                                                   \
    int function(int fd, offset_type size) {                                               \
        int failed = REAL(function)(fd, size);                                             \
        char path[PATH_MAX];                                                               \
        const char *name = failed ? NULL : of(fd, path);                                   \
        if (name) record('T', name, size, "", 0);                                          \
        return failed;                                                                     \
    }
TRUNCATER(ftruncate, off_t)
TRUNCATER(ftruncate64, off64_t)

#define SYNCER(function)                                                                   \
    int function(int fd) {                                                                 \
        int failed = REAL(function)(fd);                                                   \
        char path[PATH_MAX];                                                               \
        const char *name = failed ? NULL : of(fd, path);                                   \
        if (name) record('S', name, 0, "", 0);                                             \
        return failed;                                                                     \
    }
SYNCER(fsync)
SYNCER(fdatasync)

ssize_t write(int fd, const void *data, size_t length) {
    char path[PATH_MAX];
    const char *name = log_fd >= 0 && fd != log_fd ? of(fd, path) : NULL;
    off_t offset = name ? lseek(fd, 0, SEEK_CUR) : 0;
    ssize_t done = REAL(write)(fd, data, length);
    if (name && done > 0) record('W', name, offset, data, done);
    return done;
}

int unlink(const char *path) {
    int failed = REAL(unlink)(path);
    const char *name = failed ? NULL : inside(path);
    if (name) record('U', name, 0, "", 0);
    return failed;
}

int rename(const char *from, const char *to) {
    int failed = REAL(rename)(from, to);
    const char *name = failed ? NULL : inside(from), *target = failed ? NULL : inside(to);
    if (name && target) record('R', name, 0, target, strlen(target));
    return failed;
}
