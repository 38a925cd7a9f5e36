/* The hooks: libc's calls on files, those below the root led past the model. See layer.py.

   The real file always holds what a reader must see, so reads, locks and stats are not hooked.
   A changing call that the model does not know ends the process when it meets a tracked file:
   nothing escapes in silence. The real calls are system calls, not libc's functions, which
   spares their look-up and any order of initialisation. */

#define _GNU_SOURCE
#include "gate.h"
#include "model.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define HOOK __attribute__((visibility("default")))
#define FDS 65536

static struct node *tracked[FDS];
static int open_count;

int files_open(void) { return open_count; }

/* The process that is looked at. A child (it may share our memory until its exec) is not. */
static bool is_owner(void) { return getpid() == disk_owner; }

struct node *node_of(int fd) {
    return fd >= 0 && fd < FDS && tracked[fd] && is_owner() ? tracked[fd] : NULL;
}

static void track(int fd, struct node *node) {
    if (fd < 0) return;
    if (fd >= FDS) die_loudly("more descriptors than the layer has room for", "");
    if (tracked[fd]) tracked[fd]->fds--, open_count--;
    tracked[fd] = node;
    if (node) node->fds++, open_count++;
}

static void forget(int fd) {
    if (!node_of(fd)) return;
    lock();
    track(fd, NULL);
    unlock();
}

/* ------------------------------------------------------------------ paths */

/* Take "//", "." and ".." out of an absolute path. Symbolic links are not followed:
   layer.py asks for a root without them. */
static void straighten(char *path) {
    char *to = path;
    for (char *from = path; *from;) {
        while (*from == '/') from++;
        size_t length = strcspn(from, "/");
        if (length == 2 && !strncmp(from, "..", 2)) {
            while (to > path && *--to != '/') {}
        } else if (length && !(length == 1 && *from == '.')) {
            *to++ = '/';
            memmove(to, from, length);
            to += length;
        }
        from += length;
    }
    *to = 0;
}

/* Whether the path is below the root (or the root itself); then `out` is its part behind it. */
bool is_ours(int folder, const char *path, char *out) {
    char whole[2 * PATH_MAX];
    if (!disk_root_length || !path) return false;
    if (*path != '/') {
        if (folder == AT_FDCWD) {
            if (!getcwd(whole, PATH_MAX)) return false;
        } else {
            char link[40];
            snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
            ssize_t n = readlink(link, whole, PATH_MAX - 1);
            if (n < 0) return false;
            whole[n] = 0;
        }
        size_t length = strlen(whole);
        snprintf(whole + length, sizeof whole - length, "/%s", path);
    } else {
        snprintf(whole, sizeof whole, "%s", path);
    }
    if (*path != '/' || strstr(path, "//") || strstr(path, "/.") || path[strlen(path) - 1] == '/')
        straighten(whole);
    if (strncmp(whole, disk_root, disk_root_length)) return false;
    const char *rest = whole + disk_root_length;
    if ((*rest && *rest != '/') || !is_owner()) return false;
    snprintf(out, PATH_MAX, "%s", *rest ? rest + 1 : rest);
    return true;
}

void not_modelled(const char *call, const char *path) {
    char words[200];
    snprintf(words, sizeof words, "%s on a tracked file is not modelled", call);
    die_loudly(words, path);
}

/* ------------------------------------------------------------------ operations */

/* End an operation that the gate let pass: the last one of a life is not heard of any more. */
static long ended(enum passage passage, long result) {
    if (passage == LAST || passage == HALFWAY) {
        fall_dead();
        errno = EIO;
        result = -1;
    }
    unlock();
    return result;
}

static long ended_in_vain(long result) {
    int error = errno;
    unlock();
    errno = error;
    return result;
}

static int do_open(int folder, const char *path, int flags, mode_t mode) {
    char rest[PATH_MAX];
    if (!is_ours(folder, path, rest)) return (int)syscall(SYS_openat, folder, path, flags, mode);
    if ((flags & O_TMPFILE) == O_TMPFILE) not_modelled("O_TMPFILE", rest);
    lock();
    struct name *name = model_name(rest);
    struct node *node = name ? name->now : NULL;
    bool creates = !node && flags & O_CREAT;
    bool cuts = node && !node->folder && flags & O_TRUNC && (flags & O_ACCMODE) != O_RDONLY;
    enum passage passage = ALLOWED;
    if (creates || (cuts && node->size))
        if ((passage = pass(creates ? CREATE : TRUNCATE)) == REFUSED) return (int)ended_in_vain(-1);
    int fd = (int)syscall(SYS_openat, folder, path, flags, mode);
    if (fd >= 0) {
        struct stat info;
        if (creates) {
            if (fstat(fd, &info)) die_loudly("fstat", rest);
            node = model_add(rest, false, info.st_mode);
        }
        if (cuts) model_resize(node, 0);
        if (!node && (fstat(fd, &info) || S_ISREG(info.st_mode) || S_ISDIR(info.st_mode)))
            die_loudly("somebody else made this file since the reset", rest);
        track(fd, node);
        if (passage != ALLOWED) syscall(SYS_close, fd), track(fd, NULL);
    }
    return (int)ended(passage, fd);
}

static ssize_t do_write(int fd, const void *bytes, size_t size, off_t at, bool moves) {
    struct node *node = node_of(fd);
    if (!node)
        return moves ? syscall(SYS_write, fd, bytes, size)
                     : syscall(SYS_pwrite64, fd, bytes, size, at);
    lock();
    enum passage passage = pass(WRITE);
    if (passage == REFUSED) return ended_in_vain(-1);
    int flags = (int)syscall(SYS_fcntl, fd, F_GETFL);
    if (flags & O_APPEND) at = (off_t)node->size;
    else if (moves) at = syscall(SYS_lseek, fd, 0, SEEK_CUR);
    if (passage == HALFWAY) { /* a sector is never torn, neither by the kernel nor by the disk */
        size_t half = ((size_t)at + size / 2) / SECTOR * SECTOR;
        size = half > (size_t)at ? half - (size_t)at : 0;
    }
    size_t room = room_for(node->size, (size_t)at, size);
    if (size && !room) {
        errno = ENOSPC;
        return ended_in_vain(-1);
    }
    ssize_t done = moves ? syscall(SYS_write, fd, bytes, room)
                         : syscall(SYS_pwrite64, fd, bytes, room, at);
    if (done > 0) {
        model_write(node, (size_t)at, bytes, (size_t)done);
        written_bytes += (uint64_t)done;
        if (flags & O_DSYNC) model_sync(node);
    }
    return ended(passage, done);
}

static int do_sync(int fd, long call) {
    struct node *node = node_of(fd);
    if (!node) return (int)syscall(call, fd);
    lock();
    enum passage passage = pass(node->folder ? SYNC_FOLDER : SYNC);
    if (passage == REFUSED) return (int)ended_in_vain(-1);
    if (passage == SPOILED) {
        model_sync_failed(node);
        return (int)ended_in_vain(-1);
    }
    model_sync(node); /* that the real disk keeps it matters to nobody */
    return (int)ended(passage, 0);
}

static int resize(struct node *node, off_t size, long (*real)(const void *, off_t), const void *on) {
    lock();
    enum passage passage = pass(TRUNCATE);
    if (passage == REFUSED) return (int)ended_in_vain(-1);
    size_t growth = (size_t)size > node->size ? (size_t)size - node->size : 0;
    if (room_for(node->size, node->size, growth) < growth) {
        errno = ENOSPC;
        return (int)ended_in_vain(-1);
    }
    long result = real(on, size);
    if (!result) model_resize(node, (size_t)size);
    return (int)ended(passage, result);
}

static long cut_fd(const void *fd, off_t size) { return syscall(SYS_ftruncate, *(const int *)fd, size); }
static long cut_path(const void *path, off_t size) { return syscall(SYS_truncate, path, size); }
static long grow_fd(const void *fd, off_t size) {
    return syscall(SYS_fallocate, *(const int *)fd, 0, (off_t)0, size);
}

static int do_fallocate(int fd, int mode, off_t at, off_t size) {
    struct node *node = node_of(fd);
    if (!node) return (int)syscall(SYS_fallocate, fd, mode, at, size);
    if (mode & ~FALLOC_FL_KEEP_SIZE) not_modelled("fallocate with a mode", "");
    if (mode & FALLOC_FL_KEEP_SIZE || (size_t)(at + size) <= node->size) return 0;
    return resize(node, at + size, grow_fd, &fd);
}

static int do_truncate(const char *path, off_t size) {
    char rest[PATH_MAX];
    if (!is_ours(AT_FDCWD, path, rest)) return (int)syscall(SYS_truncate, path, size);
    struct name *name = model_name(rest);
    if (!name || !name->now) return errno = ENOENT, -1;
    return resize(name->now, size, cut_path, path);
}

static int do_rename(int from_folder, const char *from, int to_folder, const char *to) {
    char old[PATH_MAX], new[PATH_MAX];
    bool ours = is_ours(from_folder, from, old);
    if (ours != is_ours(to_folder, to, new)) not_modelled("rename into or out of the root", from);
    if (!ours) return (int)syscall(SYS_renameat2, from_folder, from, to_folder, to, 0);
    lock();
    struct name *name = model_name(old);
    if (name && name->now && name->now->folder) not_modelled("rename of a directory", old);
    enum passage passage = pass(RENAME);
    if (passage == REFUSED) return (int)ended_in_vain(-1);
    long result = syscall(SYS_renameat2, from_folder, from, to_folder, to, 0);
    if (!result) model_rename(old, new);
    return (int)ended(passage, result);
}

static int do_unlink(int folder, const char *path, int flags) {
    char rest[PATH_MAX];
    if (!is_ours(folder, path, rest)) return (int)syscall(SYS_unlinkat, folder, path, flags);
    lock();
    struct name *name = model_name(rest);
    enum passage passage = ALLOWED;
    if (name && name->now) passage = pass(flags & AT_REMOVEDIR ? RMDIR : UNLINK);
    if (passage == REFUSED) return (int)ended_in_vain(-1);
    long result = syscall(SYS_unlinkat, folder, path, flags);
    if (!result) model_remove(rest);
    return (int)ended(passage, result);
}

static int do_mkdir(int folder, const char *path, mode_t mode) {
    char rest[PATH_MAX];
    if (!is_ours(folder, path, rest)) return (int)syscall(SYS_mkdirat, folder, path, mode);
    lock();
    struct name *name = model_name(rest);
    enum passage passage = ALLOWED;
    if (!name || !name->now) passage = pass(MKDIR);
    if (passage == REFUSED) return (int)ended_in_vain(-1);
    long result = syscall(SYS_mkdirat, folder, path, mode);
    if (!result) model_add(rest, true, mode);
    return (int)ended(passage, result);
}

static int do_link(int from_folder, const char *from, int to_folder, const char *to, int flags) {
    char old[PATH_MAX], new[PATH_MAX];
    bool ours = is_ours(from_folder, from, old);
    if (ours != is_ours(to_folder, to, new)) not_modelled("link into or out of the root", from);
    if (!ours) return (int)syscall(SYS_linkat, from_folder, from, to_folder, to, flags);
    lock();
    enum passage passage = pass(LINK);
    if (passage == REFUSED) return (int)ended_in_vain(-1);
    long result = syscall(SYS_linkat, from_folder, from, to_folder, to, flags);
    if (!result) model_link(new, model_name(old)->now);
    return (int)ended(passage, result);
}

static int do_dup(int from, int fd) {
    struct node *node = node_of(from);
    if (fd < 0 || (!node && !node_of(fd))) return fd;
    lock();
    track(fd, node);
    unlock();
    return fd;
}

/* ------------------------------------------------------------------ the names in libc */

#define MODE_OF(flags) \
    mode_t mode = 0; \
    if ((flags) & O_CREAT || ((flags) & O_TMPFILE) == O_TMPFILE) { \
        va_list more; \
        va_start(more, flags); \
        mode = va_arg(more, mode_t); \
        va_end(more); \
    }

HOOK int open(const char *path, int flags, ...) {
    MODE_OF(flags)
    return do_open(AT_FDCWD, path, flags, mode);
}
HOOK int open64(const char *path, int flags, ...) {
    MODE_OF(flags)
    return do_open(AT_FDCWD, path, flags, mode);
}
HOOK int openat(int folder, const char *path, int flags, ...) {
    MODE_OF(flags)
    return do_open(folder, path, flags, mode);
}
HOOK int openat64(int folder, const char *path, int flags, ...) {
    MODE_OF(flags)
    return do_open(folder, path, flags, mode);
}
HOOK int __open_2(const char *path, int flags) { return do_open(AT_FDCWD, path, flags, 0); }
HOOK int __open64_2(const char *path, int flags) { return do_open(AT_FDCWD, path, flags, 0); }
HOOK int creat(const char *path, mode_t mode) {
    return do_open(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}
HOOK int creat64(const char *path, mode_t mode) { return creat(path, mode); }

HOOK int close(int fd) {
    forget(fd);
    return (int)syscall(SYS_close, fd);
}
HOOK int close_range(unsigned first, unsigned last, int flags) {
    for (unsigned fd = first; fd <= last && fd < FDS && !flags; fd++) forget((int)fd);
    return (int)syscall(SYS_close_range, first, last, flags);
}
HOOK int closedir(DIR *dir) {
    static int (*real)(DIR *);
    if (!real) real = (int (*)(DIR *))dlsym(RTLD_NEXT, "closedir");
    forget(dirfd(dir));
    return real(dir);
}

HOOK int dup(int fd) { return do_dup(fd, (int)syscall(SYS_dup, fd)); }
HOOK int dup3(int fd, int to, int flags) {
    return do_dup(fd, (int)syscall(SYS_dup3, fd, to, flags));
}
HOOK int dup2(int fd, int to) {
    if (fd == to) return syscall(SYS_fcntl, fd, F_GETFD) < 0 ? -1 : to;
    return dup3(fd, to, 0);
}
HOOK int fcntl64(int fd, int command, ...) {
    va_list more;
    va_start(more, command);
    void *argument = va_arg(more, void *);
    va_end(more);
    int result = (int)syscall(SYS_fcntl, fd, command, argument);
    return command == F_DUPFD || command == F_DUPFD_CLOEXEC ? do_dup(fd, result) : result;
}
HOOK int fcntl(int fd, int command, ...) {
    va_list more;
    va_start(more, command);
    void *argument = va_arg(more, void *);
    va_end(more);
    return fcntl64(fd, command, argument);
}

HOOK ssize_t write(int fd, const void *bytes, size_t size) {
    return do_write(fd, bytes, size, 0, true);
}
HOOK ssize_t pwrite(int fd, const void *bytes, size_t size, off_t at) {
    return do_write(fd, bytes, size, at, false);
}
HOOK ssize_t pwrite64(int fd, const void *bytes, size_t size, off_t at) {
    return do_write(fd, bytes, size, at, false);
}

HOOK int fsync(int fd) { return do_sync(fd, SYS_fsync); }
HOOK int fdatasync(int fd) { return do_sync(fd, SYS_fdatasync); }

HOOK int ftruncate(int fd, off_t size) {
    struct node *node = node_of(fd);
    return node ? resize(node, size, cut_fd, &fd) : (int)syscall(SYS_ftruncate, fd, size);
}
HOOK int ftruncate64(int fd, off_t size) { return ftruncate(fd, size); }
HOOK int truncate(const char *path, off_t size) { return do_truncate(path, size); }
HOOK int truncate64(const char *path, off_t size) { return do_truncate(path, size); }
HOOK int fallocate(int fd, int mode, off_t at, off_t size) {
    return do_fallocate(fd, mode, at, size);
}
HOOK int fallocate64(int fd, int mode, off_t at, off_t size) {
    return do_fallocate(fd, mode, at, size);
}
HOOK int posix_fallocate(int fd, off_t at, off_t size) {
    return do_fallocate(fd, 0, at, size) ? errno : 0;
}
HOOK int posix_fallocate64(int fd, off_t at, off_t size) { return posix_fallocate(fd, at, size); }

HOOK int rename(const char *from, const char *to) {
    return do_rename(AT_FDCWD, from, AT_FDCWD, to);
}
HOOK int renameat(int from_folder, const char *from, int to_folder, const char *to) {
    return do_rename(from_folder, from, to_folder, to);
}
HOOK int unlink(const char *path) { return do_unlink(AT_FDCWD, path, 0); }
HOOK int unlinkat(int folder, const char *path, int flags) {
    return do_unlink(folder, path, flags);
}
HOOK int rmdir(const char *path) { return do_unlink(AT_FDCWD, path, AT_REMOVEDIR); }
HOOK int mkdir(const char *path, mode_t mode) { return do_mkdir(AT_FDCWD, path, mode); }
HOOK int mkdirat(int folder, const char *path, mode_t mode) { return do_mkdir(folder, path, mode); }
HOOK int link(const char *from, const char *to) { return do_link(AT_FDCWD, from, AT_FDCWD, to, 0); }
HOOK int linkat(int from_folder, const char *from, int to_folder, const char *to, int flags) {
    return do_link(from_folder, from, to_folder, to, flags);
}
