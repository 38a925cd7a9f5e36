/* Calls that change files in ways that the model does not know: they end the process when they
   meet a tracked file. Nothing of ours or of SQLite's uses them there today. */

#define _GNU_SOURCE
#include "gate.h"
#include "model.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define HOOK __attribute__((visibility("default")))

static void refuse_fd(const char *call, int fd) {
    if (node_of(fd)) not_modelled(call, "");
}

static void refuse_path(const char *call, int folder, const char *path) {
    char rest[PATH_MAX];
    if (is_ours(folder, path, rest)) not_modelled(call, rest);
}

HOOK void *mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset) {
    if (fd >= 0 && flags & MAP_SHARED && protection & PROT_WRITE) refuse_fd("mmap", fd);
    return (void *)syscall(SYS_mmap, at, size, protection, flags, fd, offset);
}
HOOK void *mmap64(void *at, size_t size, int protection, int flags, int fd, off_t offset) {
    return mmap(at, size, protection, flags, fd, offset);
}

HOOK ssize_t writev(int fd, const struct iovec *parts, int count) {
    refuse_fd("writev", fd);
    return syscall(SYS_writev, fd, parts, count);
}
/* The kernel takes the offset in two halves, of which a 64-bit system uses the first. */
HOOK ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t at) {
    refuse_fd("pwritev", fd);
    return syscall(SYS_pwritev, fd, parts, count, at, 0);
}
HOOK ssize_t pwritev64(int fd, const struct iovec *parts, int count, off_t at) {
    return pwritev(fd, parts, count, at);
}
HOOK ssize_t pwritev2(int fd, const struct iovec *parts, int count, off_t at, int flags) {
    refuse_fd("pwritev2", fd);
    return syscall(SYS_pwritev2, fd, parts, count, at, 0, flags);
}
HOOK ssize_t pwritev64v2(int fd, const struct iovec *parts, int count, off_t at, int flags) {
    return pwritev2(fd, parts, count, at, flags);
}
HOOK ssize_t copy_file_range(int from, off_t *in, int to, off_t *out, size_t size, unsigned flags) {
    refuse_fd("copy_file_range", to);
    return syscall(SYS_copy_file_range, from, in, to, out, size, flags);
}
HOOK ssize_t sendfile(int to, int from, off_t *at, size_t size) {
    refuse_fd("sendfile", to);
    return syscall(SYS_sendfile, to, from, at, size);
}
HOOK ssize_t sendfile64(int to, int from, off_t *at, size_t size) {
    return sendfile(to, from, at, size);
}
HOOK ssize_t splice(int from, off_t *in, int to, off_t *out, size_t size, unsigned flags) {
    refuse_fd("splice", to);
    return syscall(SYS_splice, from, in, to, out, size, flags);
}

HOOK FILE *fopen(const char *path, const char *mode) {
    static FILE *(*real)(const char *, const char *);
    if (!real) real = (FILE * (*)(const char *, const char *)) dlsym(RTLD_NEXT, "fopen");
    if (strpbrk(mode, "wa+")) refuse_path("fopen for writing", AT_FDCWD, path);
    return real(path, mode);
}
HOOK FILE *fopen64(const char *path, const char *mode) { return fopen(path, mode); }

HOOK int symlinkat(const char *target, int folder, const char *path) {
    refuse_path("symlink", folder, path);
    return (int)syscall(SYS_symlinkat, target, folder, path);
}
HOOK int symlink(const char *target, const char *path) {
    return symlinkat(target, AT_FDCWD, path);
}
HOOK int mknodat(int folder, const char *path, mode_t mode, dev_t device) {
    refuse_path("mknod", folder, path);
    return (int)syscall(SYS_mknodat, folder, path, mode, device);
}
HOOK int mknod(const char *path, mode_t mode, dev_t device) {
    return mknodat(AT_FDCWD, path, mode, device);
}
HOOK int renameat2(int from_folder, const char *from, int to_folder, const char *to,
                   unsigned flags) {
    refuse_path("renameat2", from_folder, from);
    refuse_path("renameat2", to_folder, to);
    return (int)syscall(SYS_renameat2, from_folder, from, to_folder, to, flags);
}
