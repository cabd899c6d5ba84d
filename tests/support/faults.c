/* Lets system calls on files below FAULT_DIR fail as FAULT_CONTROL, a mapping shared with the test, says.

   Fields of the test's: errno of write, sync and read, 0 for none; 1 in `readonly` for a file system that statvfs calls
   read-only; 1 in `once` for a fault that is over after one call; 1 in `database` where the WAL is spared. Then two counts of ours: calls that failed, and writes
   that came after the first of them. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/statvfs.h>
#include <unistd.h>

struct control { int32_t write, sync, read, readonly, once, database, failed, written_after; };
static volatile struct control *control;
static const char *folder;

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("FAULT_CONTROL");
    folder = getenv("FAULT_DIR");
    int fd = path && folder ? REAL(open)(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0) return;
    void *mapped = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (mapped != MAP_FAILED) control = mapped;
}

static int inside(int fd) {
    char link[64], path[PATH_MAX];
    if (!control) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    if (control->database && strstr(path, "-wal")) return 0;
    return !strncmp(path, folder, strlen(folder)) && !strstr(path, "-shm");
}

static int fails(int fd, int32_t error) {
    if (!error || !inside(fd)) return 0;
    __sync_fetch_and_add(&control->failed, 1);
    if (control->once) control->write = control->sync = control->read = 0;
    errno = error;
    return 1;
}

static void wrote(int fd) {
    if (control && control->failed && inside(fd)) __sync_fetch_and_add(&control->written_after, 1);
}

#define WRITER(name, offset_type)                                                        \
    ssize_t name(int fd, const void *data, size_t length, offset_type offset) {          \
        if (control && fails(fd, control->write)) return -1;                             \
        wrote(fd);                                                                       \
        return REAL(name)(fd, data, length, offset);                                     \
    }
WRITER(pwrite, off_t)
WRITER(pwrite64, off64_t)

#define READER(name, offset_type)                                                        \
    ssize_t name(int fd, void *data, size_t length, offset_type offset) {                \
        if (control && fails(fd, control->read)) return -1;                              \
        return REAL(name)(fd, data, length, offset);                                     \
    }
READER(pread, off_t)
READER(pread64, off64_t)

#define SYNCER(name)                                                                     \
    int name(int fd) { return control && fails(fd, control->sync) ? -1 : REAL(name)(fd); }
SYNCER(fsync)
SYNCER(fdatasync)

#define ASKED(name, kind)                                                                \
    int name(const char *path, struct kind *found) {                                     \
        int failed = REAL(name)(path, found);                                            \
        int ours = control && control->readonly && !strncmp(path, folder, strlen(folder)); \
        if (!failed && ours) found->f_flag |= ST_RDONLY;                                 \
        return failed;                                                                   \
    }
ASKED(statvfs, statvfs)
ASKED(statvfs64, statvfs64)
