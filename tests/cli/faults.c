/* Errors where the disk would give them: preloaded before a program, it lets the nth call fail that
 * touches a file below a folder. The test `faults.rs` says what must happen then.
 *
 *   FAULTS_UNDER  folder; calls on other paths are passed on and not counted
 *   FAULTS_NTH    which call fails, from 1; 0 for none
 *   FAULTS_ERRNO  the error, as a number; 0 for a write of half the bytes, which is no error: then
 *                 only writes are counted
 *   FAULTS_LOG    a file that gets a line for every call that is counted: `kind path`, and behind
 *                 the one that fails ` !`
 *
 * Only what Rust's standard library calls is here. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static atomic_long calls;

/* Whether this call is the one to fail; then errno is set. `path` is whole. */
static int fails(const char *kind, const char *path) {
    const char *under = getenv("FAULTS_UNDER");
    const char *nth = getenv("FAULTS_NTH");
    const char *error = getenv("FAULTS_ERRNO");
    const char *log = getenv("FAULTS_LOG");
    if (!under || !nth || !error || !log) return 0;
    size_t length = strlen(under);
    if (strncmp(path, under, length) != 0 || (path[length] != '/' && path[length] != 0)) return 0;
    if (atoi(error) == 0 && strcmp(kind, "write") != 0) return 0;
    int hit = ++calls == atol(nth);
    char line[PATH_MAX + 64];
    int size = snprintf(line, sizeof line, "%s %s%s\n", kind, path, hit ? " !" : "");
    /* Not by the functions of this file. */
    int fd = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (fd >= 0) {
        if (syscall(SYS_write, fd, line, size) != size) abort();
        syscall(SYS_close, fd);
    }
    if (hit) errno = atoi(error);
    return hit;
}

/* The same of a path below a folder that is open, or of an open file where `name` is empty. */
static int fails_at(const char *kind, int folder, const char *name) {
    char path[2 * PATH_MAX] = "";
    int saved = errno;
    if (!name) return 0;
    if (name[0] != '/') {
        char link[64];
        if (folder == AT_FDCWD) snprintf(link, sizeof link, "/proc/self/cwd");
        else snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
        ssize_t size = syscall(SYS_readlinkat, AT_FDCWD, link, path, PATH_MAX);
        errno = saved;
        if (size < 0) return 0;
        path[size] = 0;
        if (name[0]) strcat(path, "/");
    }
    strncat(path, name, PATH_MAX);
    return fails(kind, path);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define MODE(flags) \
    mode_t mode = 0; \
    if ((flags) & (O_CREAT | O_TMPFILE)) { \
        va_list list; \
        va_start(list, flags); \
        mode = va_arg(list, mode_t); \
        va_end(list); \
    }
#define OPENED(flags) ((flags) & O_ACCMODE ? "create" : "open")

int open(const char *path, int flags, ...) {
    MODE(flags);
    return fails_at(OPENED(flags), AT_FDCWD, path) ? -1 : REAL(open)(path, flags, mode);
}
int open64(const char *path, int flags, ...) {
    MODE(flags);
    return fails_at(OPENED(flags), AT_FDCWD, path) ? -1 : REAL(open64)(path, flags, mode);
}
int openat(int folder, const char *path, int flags, ...) {
    MODE(flags);
    return fails_at(OPENED(flags), folder, path) ? -1 : REAL(openat)(folder, path, flags, mode);
}
int openat64(int folder, const char *path, int flags, ...) {
    MODE(flags);
    return fails_at(OPENED(flags), folder, path) ? -1 : REAL(openat64)(folder, path, flags, mode);
}
DIR *opendir(const char *path) {
    return fails_at("opendir", AT_FDCWD, path) ? NULL : REAL(opendir)(path);
}
struct dirent64 *readdir64(DIR *folder) {
    return fails_at("readdir", dirfd(folder), "") ? NULL : REAL(readdir64)(folder);
}
int statx(int folder, const char *restrict path, int flags, unsigned mask,
          struct statx *restrict found) {
    return fails_at("stat", folder, path) ? -1 : REAL(statx)(folder, path, flags, mask, found);
}
ssize_t read(int fd, void *bytes, size_t count) {
    return fails_at("read", fd, "") ? -1 : REAL(read)(fd, bytes, count);
}
ssize_t pread64(int fd, void *bytes, size_t count, off64_t at) {
    return fails_at("read", fd, "") ? -1 : REAL(pread64)(fd, bytes, count, at);
}
ssize_t write(int fd, const void *bytes, size_t count) {
    if (fails_at("write", fd, "")) {
        if (errno != 0) return -1;
        if (count > 1) count /= 2;
    }
    return REAL(write)(fd, bytes, count);
}
ssize_t writev(int fd, const struct iovec *parts, int count) {
    if (fails_at("write", fd, "")) {
        if (errno != 0) return -1;
        if (count > 1) count = 1;
    }
    return REAL(writev)(fd, parts, count);
}
int fsync(int fd) { return fails_at("sync", fd, "") ? -1 : REAL(fsync)(fd); }
int fdatasync(int fd) { return fails_at("sync", fd, "") ? -1 : REAL(fdatasync)(fd); }
int ftruncate64(int fd, off64_t size) {
    return fails_at("truncate", fd, "") ? -1 : REAL(ftruncate64)(fd, size);
}
int flock(int fd, int operation) {
    return fails_at("lock", fd, "") ? -1 : REAL(flock)(fd, operation);
}
int rename(const char *from, const char *to) {
    return fails_at("rename", AT_FDCWD, to) ? -1 : REAL(rename)(from, to);
}
int mkdir(const char *path, mode_t mode) {
    return fails_at("mkdir", AT_FDCWD, path) ? -1 : REAL(mkdir)(path, mode);
}
int unlink(const char *path) {
    return fails_at("remove", AT_FDCWD, path) ? -1 : REAL(unlink)(path);
}
int unlinkat(int folder, const char *path, int flags) {
    return fails_at("remove", folder, path) ? -1 : REAL(unlinkat)(folder, path, flags);
}
int rmdir(const char *path) { return fails_at("remove", AT_FDCWD, path) ? -1 : REAL(rmdir)(path); }
