/* Counts what a program changes below a folder, notes it, and lets one change fail or kill.

   Loaded with LD_PRELOAD. A change is a file that is made, a write, a truncation, an fsync, a
   rename, an unlink or a new folder. Settings come from the environment:

     IO_SHIM_FOLDER   changes below this folder count; others pass
     IO_SHIM_ONLY     only in programs whose name begins so (empty: in all)
     IO_SHIM_COUNTER  a file of 8 bytes: the number of changes, shared by all processes
     IO_SHIM_JOURNAL  each change is appended here, as `io_shim.py` reads it
     IO_SHIM_AT       the number of the change that does not happen (0: none)
     IO_SHIM_ERROR    its errno; 0: the process is killed instead
*/
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static char folder[PATH_MAX];
static size_t folder_length;
static uint64_t *counter;
static uint64_t at;
static int error_number;
static int journal = -1;
static pthread_mutex_t order = PTHREAD_MUTEX_INITIALIZER;

static const char *env(const char *name) {
    const char *value = getenv(name);
    return value ? value : "";
}

__attribute__((constructor)) static void begin(void) {
    char name[64] = "";
    int comm = syscall(SYS_openat, AT_FDCWD, "/proc/self/comm", O_RDONLY | O_CLOEXEC, 0);
    if (comm >= 0) {
        ssize_t got = syscall(SYS_read, comm, name, sizeof name - 1);
        (void)got;
        syscall(SYS_close, comm);
    }
    const char *only = env("IO_SHIM_ONLY");
    if (!*env("IO_SHIM_FOLDER") || strncmp(name, only, strlen(only)) != 0) return;
    snprintf(folder, sizeof folder, "%s/", env("IO_SHIM_FOLDER"));
    int file = syscall(SYS_openat, AT_FDCWD, env("IO_SHIM_COUNTER"), O_RDWR | O_CLOEXEC, 0);
    if (file < 0) return;
    counter = mmap(NULL, 8, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    syscall(SYS_close, file);
    if (counter == MAP_FAILED) return;
    at = strtoull(env("IO_SHIM_AT"), NULL, 10);
    error_number = atoi(env("IO_SHIM_ERROR"));
    if (*env("IO_SHIM_JOURNAL"))
        journal = syscall(SYS_openat, AT_FDCWD, env("IO_SHIM_JOURNAL"),
                          O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    folder_length = strlen(folder);
}

struct record {
    uint32_t kind, first, second, unused;
    uint64_t inode;
    int64_t offset;
    uint64_t length;
};

static int within(const char *path) {
    return folder_length && strncmp(path, folder, folder_length) == 0;
}

static void absolute(int dir, const char *path, char *into) {
    char base[PATH_MAX] = "";
    if (path[0] == '/') {
        snprintf(into, PATH_MAX, "%s", path);
        return;
    }
    if (dir == AT_FDCWD) {
        if (!getcwd(base, sizeof base)) base[0] = 0;
    } else {
        char link[64];
        snprintf(link, sizeof link, "/proc/self/fd/%d", dir);
        ssize_t got = readlink(link, base, sizeof base - 1);
        base[got > 0 ? got : 0] = 0;
    }
    if (strncmp(path, "./", 2) == 0) path += 2;
    if (snprintf(into, PATH_MAX, "%s/%s", base, path) >= PATH_MAX) into[0] = 0;
}

static int named(int file, char *into) {
    char link[64];
    if (!folder_length) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t got = readlink(link, into, PATH_MAX - 1);
    if (got <= 0) return 0;
    into[got] = 0;
    /* The folder itself has no slash after it. */
    return within(into) || ((size_t)got + 1 == folder_length && !strncmp(into, folder, got));
}

/* Notes a change; -1 with errno when it is to fail. The lock is held until `done`. */
static int change(char kind, const char *first, const char *second, uint64_t inode,
                  int64_t offset, const void *data, uint64_t length) {
    pthread_mutex_lock(&order);
    uint64_t number = __atomic_add_fetch(counter, 1, __ATOMIC_SEQ_CST);
    if (at && number == at) {
        if (!error_number) kill(getpid(), SIGKILL);
        pthread_mutex_unlock(&order);
        errno = error_number;
        return -1;
    }
    if (journal >= 0) {
        uint64_t held = data ? length : 0;
        struct record head = {(uint32_t)kind, (uint32_t)strlen(first),
                              second ? (uint32_t)strlen(second) : 0, data != NULL, inode, offset,
                              length};
        struct iovec parts[4] = {{&head, sizeof head}, {(void *)first, head.first},
                                 {(void *)second, head.second}, {(void *)data, held}};
        ssize_t put = syscall(SYS_writev, journal, parts, 4);
        (void)put;
    }
    return 0;
}

static void done(void) { pthread_mutex_unlock(&order); }

static uint64_t inode_of(int file) {
    struct stat state;
    return fstat(file, &state) ? 0 : state.st_ino;
}


static int opened(int dir, const char *path, int flags, mode_t mode) {
    char whole[PATH_MAX];
    struct stat before;
    int makes = 0, empties = 0;
    if (folder_length && (flags & (O_CREAT | O_TRUNC))) {
        absolute(dir, path, whole);
        if (within(whole)) {
            makes = (flags & O_CREAT) && lstat(whole, &before) != 0;
            empties = !makes && (flags & O_TRUNC) && lstat(whole, &before) == 0;
        }
    }
    if (!makes && !empties) return syscall(SYS_openat, dir, path, flags, mode);
    /* Made first, since only then it has an inode; taken back if it is to fail. */
    if (empties) {
        if (change('t', whole, NULL, before.st_ino, 0, NULL, 0)) return -1;
        int file = syscall(SYS_openat, dir, path, flags, mode);
        done();
        return file;
    }
    int file = syscall(SYS_openat, dir, path, flags, mode);
    if (file < 0) return file;
    if (change('c', whole, NULL, inode_of(file), 0, NULL, 0)) {
        int why = errno;
        syscall(SYS_close, file);
        syscall(SYS_unlinkat, dir, path, 0);
        errno = why;
        return -1;
    }
    done();
    return file;
}

#define MODE                                         \
    mode_t mode = 0;                                 \
    if (flags & (O_CREAT | O_TMPFILE)) {             \
        va_list rest;                                \
        va_start(rest, flags);                       \
        mode = va_arg(rest, mode_t);                 \
        va_end(rest);                                \
    }

int open(const char *path, int flags, ...) { MODE return opened(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE return opened(AT_FDCWD, path, flags, mode); }
int openat(int dir, const char *path, int flags, ...) { MODE return opened(dir, path, flags, mode); }
int openat64(int dir, const char *path, int flags, ...) {
    MODE return opened(dir, path, flags, mode);
}

ssize_t write(int file, const void *data, size_t length) {
    char path[PATH_MAX];
    if (!named(file, path)) return syscall(SYS_write, file, data, length);
    int64_t offset = lseek(file, 0, SEEK_CUR);
    if (fcntl(file, F_GETFL) & O_APPEND) offset = lseek(file, 0, SEEK_END);
    if (change('w', path, NULL, inode_of(file), offset, data, length)) return -1;
    ssize_t put = syscall(SYS_write, file, data, length);
    done();
    return put;
}

ssize_t pwrite64(int file, const void *data, size_t length, off64_t offset) {
    char path[PATH_MAX];
    if (!named(file, path)) return syscall(SYS_pwrite64, file, data, length, offset);
    if (change('w', path, NULL, inode_of(file), offset, data, length)) return -1;
    ssize_t put = syscall(SYS_pwrite64, file, data, length, offset);
    done();
    return put;
}
ssize_t pwrite(int file, const void *data, size_t length, off_t offset) {
    return pwrite64(file, data, length, offset);
}

static int truncated(int file, int64_t length) {
    char path[PATH_MAX];
    if (!named(file, path)) return syscall(SYS_ftruncate, file, length);
    if (change('t', path, NULL, inode_of(file), length, NULL, 0)) return -1;
    int result = syscall(SYS_ftruncate, file, length);
    done();
    return result;
}
int ftruncate(int file, off_t length) { return truncated(file, length); }
int ftruncate64(int file, off64_t length) { return truncated(file, length); }

static int synced(int file, long call) {
    char path[PATH_MAX];
    struct stat state;
    if (!named(file, path) || fstat(file, &state)) return syscall(call, file);
    char kind = S_ISDIR(state.st_mode) ? 'd' : 's';
    if (change(kind, path, NULL, state.st_ino, 0, NULL, 0)) return -1;
    int result = syscall(call, file);
    done();
    return result;
}
int fsync(int file) { return synced(file, SYS_fsync); }
int fdatasync(int file) { return synced(file, SYS_fdatasync); }

static int renamed(int dir, const char *from, int other, const char *to) {
    char first[PATH_MAX], second[PATH_MAX];
    if (folder_length) {
        absolute(dir, from, first);
        absolute(other, to, second);
    }
    if (!folder_length || (!within(first) && !within(second)))
        return syscall(SYS_renameat2, dir, from, other, to, 0);
    if (change('r', first, second, 0, 0, NULL, 0)) return -1;
    int result = syscall(SYS_renameat2, dir, from, other, to, 0);
    done();
    return result;
}
int rename(const char *from, const char *to) { return renamed(AT_FDCWD, from, AT_FDCWD, to); }
int renameat(int dir, const char *from, int other, const char *to) {
    return renamed(dir, from, other, to);
}

static int unlinked(int dir, const char *path, int flags) {
    char whole[PATH_MAX];
    if (folder_length) absolute(dir, path, whole);
    if (!folder_length || !within(whole) || flags)
        return syscall(SYS_unlinkat, dir, path, flags);
    if (change('u', whole, NULL, 0, 0, NULL, 0)) return -1;
    int result = syscall(SYS_unlinkat, dir, path, flags);
    done();
    return result;
}
int unlink(const char *path) { return unlinked(AT_FDCWD, path, 0); }
int unlinkat(int dir, const char *path, int flags) { return unlinked(dir, path, flags); }

int mkdir(const char *path, mode_t mode) {
    char whole[PATH_MAX];
    if (folder_length) absolute(AT_FDCWD, path, whole);
    if (!folder_length || !within(whole)) return syscall(SYS_mkdirat, AT_FDCWD, path, mode);
    if (change('m', whole, NULL, 0, 0, NULL, 0)) return -1;
    int result = syscall(SYS_mkdirat, AT_FDCWD, path, mode);
    done();
    return result;
}
