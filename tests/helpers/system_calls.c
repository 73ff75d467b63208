/* Preloaded into a process: counts the system calls that change files below one folder, and kills the process at the
   n-th of them, or lets that call and the later ones fail. Writes to one file in a row count once, and a kill at them
   leaves half of the first one's bytes. See crash_lab.py. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static char folder[PATH_MAX], last_written[PATH_MAX];
static int log_file = -1, failure;
static long fatal_call, calls;

/* Start counting the calls below `path`; each is written to `log` as one line. At call number `fatal` (0: never), kill
   the process if `error` is 0; else that call and all later ones fail with this errno. A full disk (ENOSPC) can still
   delete and rename. */
void watch_calls(const char *path, int log, long fatal, int error) {
    snprintf(folder, sizeof folder, "%s", path);
    failure = error;
    fatal_call = fatal;
    calls = 0;
    last_written[0] = 0;
    log_file = log;
}

static void full_path(int at, const char *path, char *full) {
    char link[64];
    full[0] = 0;
    if (path && path[0] == '/') {
        snprintf(full, PATH_MAX, "%s", path);
        return;
    }
    snprintf(link, sizeof link, at == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d", at);
    ssize_t size = readlink(link, full, PATH_MAX - 1);
    if (size < 0) size = 0;
    full[size] = 0;
    if (path) snprintf(full + size, PATH_MAX - size, "/%s", path);
}

static int is_inside(const char *full) {
    size_t size = strlen(folder);
    return !strncmp(full, folder, size) && (full[size] == '/' || full[size] == 0);
}

/* Whether this call goes on with the write that was counted last. */
static int goes_on(const char *name, const char *full) {
    int write = strstr(name, "write") != NULL, same = write && !strcmp(last_written, full);
    snprintf(last_written, sizeof last_written, "%s", write ? full : "");
    return same;
}

/* Whether the next call is the fatal one, so that a write can leave the half of its bytes. */
static int is_next_fatal(const char *full) {
    return log_file >= 0 && !failure && fatal_call == calls + 1 && is_inside(full);
}

/* Count one call; return -1 if it must fail. */
static int count(const char *name, const char *full, int needs_room) {
    char line[PATH_MAX + 64];
    if (log_file < 0 || !is_inside(full)) return 0;
    long number = calls;
    if (!goes_on(name, full)) {
        number = __sync_add_and_fetch(&calls, 1);
        int size = snprintf(line, sizeof line, "%s %s\n", name, full);
        syscall(SYS_write, log_file, line, size);
    }
    if (!fatal_call || number < fatal_call) return 0;
    if (!failure) syscall(SYS_kill, getpid(), SIGKILL);
    if (failure == ENOSPC && !needs_room) return 0;
    errno = failure;
    return -1;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define PATH_CALL(name, at, path, needs_room, ...)                          \
    char full[PATH_MAX];                                                    \
    full_path(at, path, full);                                              \
    if (count(#name, full, needs_room)) return -1;                          \
    return REAL(name)(__VA_ARGS__);

int rename(const char *from, const char *to) { PATH_CALL(rename, AT_FDCWD, to, 0, from, to) }
int renameat(int a, const char *from, int b, const char *to) { PATH_CALL(renameat, b, to, 0, a, from, b, to) }
int unlink(const char *path) { PATH_CALL(unlink, AT_FDCWD, path, 0, path) }
int unlinkat(int at, const char *path, int flags) { PATH_CALL(unlinkat, at, path, 0, at, path, flags) }
int rmdir(const char *path) { PATH_CALL(rmdir, AT_FDCWD, path, 0, path) }
int mkdir(const char *path, mode_t mode) {
    if (!access(path, F_OK)) return REAL(mkdir)(path, mode); /* changes nothing */
    PATH_CALL(mkdir, AT_FDCWD, path, 1, path, mode)
}
int link(const char *from, const char *to) { PATH_CALL(link, AT_FDCWD, to, 1, from, to) }
int symlink(const char *from, const char *to) { PATH_CALL(symlink, AT_FDCWD, to, 1, from, to) }
int truncate(const char *path, off_t size) { PATH_CALL(truncate, AT_FDCWD, path, 1, path, size) }
int fsync(int file) { PATH_CALL(fsync, file, NULL, 1, file) }
int fdatasync(int file) { PATH_CALL(fdatasync, file, NULL, 1, file) }
int ftruncate(int file, off_t size) { PATH_CALL(ftruncate, file, NULL, 1, file, size) }
int ftruncate64(int file, off64_t size) { PATH_CALL(ftruncate64, file, NULL, 1, file, size) }

#define WRITE_CALL(name, half, ...)                                         \
    char full[PATH_MAX];                                                    \
    full_path(file, NULL, full);                                            \
    if (is_next_fatal(full)) half;                                          \
    if (count(#name, full, 1)) return -1;                                   \
    return REAL(name)(__VA_ARGS__);

ssize_t write(int file, const void *bytes, size_t size) {
    WRITE_CALL(write, syscall(SYS_write, file, bytes, size / 2), file, bytes, size)
}
ssize_t pwrite(int file, const void *bytes, size_t size, off_t at) {
    WRITE_CALL(pwrite, syscall(SYS_pwrite64, file, bytes, size / 2, at), file, bytes, size, at)
}
ssize_t pwrite64(int file, const void *bytes, size_t size, off64_t at) {
    WRITE_CALL(pwrite64, syscall(SYS_pwrite64, file, bytes, size / 2, at), file, bytes, size, at)
}
ssize_t writev(int file, const struct iovec *parts, int number) {
    WRITE_CALL(writev, syscall(SYS_writev, file, parts, number / 2), file, parts, number)
}
ssize_t sendfile(int file, int from, off_t *at, size_t size) { WRITE_CALL(sendfile, (void)0, file, from, at, size) }
ssize_t sendfile64(int file, int from, off64_t *at, size_t size) {
    WRITE_CALL(sendfile64, (void)0, file, from, at, size)
}
ssize_t copy_file_range(int from, off64_t *from_at, int file, off64_t *at, size_t size, unsigned flags) {
    WRITE_CALL(copy_file_range, (void)0, from, from_at, file, at, size, flags)
}

#define CHANGES (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC)
#define OPEN_CALL(name, at, ...)                                            \
    mode_t mode = 0;                                                        \
    if (flags & (O_CREAT | __O_TMPFILE)) {                                  \
        va_list more;                                                       \
        va_start(more, flags);                                              \
        mode = va_arg(more, mode_t);                                        \
        va_end(more);                                                       \
    }                                                                       \
    if (flags & CHANGES) {                                                  \
        char full[PATH_MAX];                                                \
        full_path(at, path, full);                                          \
        if (count(#name, full, flags & O_CREAT)) return -1;                 \
    }                                                                       \
    return REAL(name)(__VA_ARGS__);

int open(const char *path, int flags, ...) { OPEN_CALL(open, AT_FDCWD, path, flags, mode) }
int open64(const char *path, int flags, ...) { OPEN_CALL(open64, AT_FDCWD, path, flags, mode) }
int openat(int at, const char *path, int flags, ...) { OPEN_CALL(openat, at, at, path, flags, mode) }
int openat64(int at, const char *path, int flags, ...) { OPEN_CALL(openat64, at, at, path, flags, mode) }

#define FOPEN_CALL(name)                                                    \
    if (mode[0] != 'r' || strchr(mode, '+')) {                              \
        char full[PATH_MAX];                                                \
        full_path(AT_FDCWD, path, full);                                    \
        if (count(#name, full, 1)) return NULL;                             \
    }                                                                       \
    return REAL(name)(path, mode);

FILE *fopen(const char *path, const char *mode) { FOPEN_CALL(fopen) }
FILE *fopen64(const char *path, const char *mode) { FOPEN_CALL(fopen64) }
