/* The control of the layer: what layer.py calls, and what the environment says. See gate.h. */

#define _GNU_SOURCE
#include "gate.h"
#include "model.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

char disk_root[4096];
size_t disk_root_length;
int disk_owner;
uint64_t written_bytes;

/* Variables, not calls: the simulation looks at them behind each callback of a daemon. */
EXPORT uint64_t disk_refused;
EXPORT bool disk_dead;

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static uint64_t counts[OPERATIONS];
static uint64_t capacity;
static bool read_only;
enum where { BEFORE, HALF, AFTER };
static uint64_t die_at;
static enum where die_where;
static struct { uint64_t in; int error; } faults[OPERATIONS];

/* For a process of its own (the real daemon): death is a SIGKILL. */
static bool die_by_signal, cut_at_death;
static uint64_t cut_seed;

void lock(void) { pthread_mutex_lock(&mutex); }
void unlock(void) { pthread_mutex_unlock(&mutex); }
bool is_dead(void) { return disk_dead; }

int raw_open(const char *path, int flags, mode_t mode) {
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

void die_loudly(const char *what, const char *path) {
    dprintf(2, "disk layer: %s: %s (errno %d)\n", what, path, errno);
    abort();
}

void fall_dead(void) {
    disk_dead = true;
    if (!die_by_signal) return;
    if (cut_at_death) model_power_cut(disk_root, cut_seed, CUT_RANDOM);
    kill(getpid(), SIGKILL);
    for (;;) pause(); /* with the lock held: no other thread does anything any more */
}

static enum passage refuse(int error) {
    disk_refused++;
    errno = error;
    return REFUSED;
}

enum passage pass(enum operation operation) {
    if (disk_dead) return refuse(EIO);
    bool syncs = operation == SYNC || operation == SYNC_FOLDER;
    if (read_only && !syncs) return refuse(EROFS);
    counts[ANY]++;
    counts[operation]++;
    for (enum operation kind = ANY;; kind = operation) {
        if (faults[kind].in && --faults[kind].in == 0) {
            refuse(faults[kind].error);
            return syncs ? SPOILED : REFUSED;
        }
        if (kind == operation) break;
    }
    if (die_at && counts[ANY] == die_at) {
        if (die_where == AFTER) return LAST;
        if (die_where == HALF && operation == WRITE) return HALFWAY;
        fall_dead();
        return refuse(EIO);
    }
    return ALLOWED;
}

size_t room_for(size_t now, size_t at, size_t size) {
    size_t blocks = (now + PAGE - 1) / PAGE * PAGE;
    if (!capacity || at + size <= blocks) return size;
    uint64_t used = model_used();
    size_t end = blocks + (capacity > used ? (capacity - used) / PAGE * PAGE : 0);
    return at + size <= end ? size : end > at ? end - at : 0;
}

/* ------------------------------------------------------------------ called by layer.py */

/* -1 and errno when the root can't be read; -2 while tracked files are open. */
EXPORT int disk_reset(const char *root, uint64_t seed) {
    lock();
    int result = 0;
    if (files_open()) result = -2;
    else {
        snprintf(disk_root, sizeof disk_root, "%s", root);
        disk_root_length = strlen(disk_root);
        disk_owner = getpid();
        model_reset(seed);
        memset(counts, 0, sizeof counts);
        memset(faults, 0, sizeof faults);
        disk_refused = written_bytes = capacity = die_at = 0;
        read_only = disk_dead = false;
        if (disk_root_length && model_load(disk_root)) {
            result = -1;
            disk_root_length = 0;
        }
    }
    unlock();
    return result;
}

/* Alive, with no death and no fault to come. */
static void wake(void) {
    disk_dead = false;
    die_at = 0;
    memset(faults, 0, sizeof faults);
}

EXPORT int disk_power_cut(uint64_t seed, int cut) {
    lock();
    int open = files_open();
    if (!open) {
        model_power_cut(disk_root, seed, (enum cut)cut);
        wake();
    }
    unlock();
    return open;
}

EXPORT int disk_revive(void) {
    lock();
    int open = files_open();
    if (!open) wake();
    unlock();
    return open;
}

EXPORT void disk_die(void) {
    lock();
    fall_dead();
    unlock();
}

/* `n` counts from the call on; 0: never. */
EXPORT void disk_die_at(uint64_t n, int where) {
    lock();
    die_at = n ? counts[ANY] + n : 0;
    die_where = (enum where)where;
    unlock();
}

EXPORT void disk_fail(int operation, uint64_t n, int error) {
    lock();
    faults[operation].in = n;
    faults[operation].error = error;
    unlock();
}

EXPORT void disk_capacity(uint64_t bytes) {
    lock();
    capacity = bytes;
    unlock();
}

EXPORT void disk_read_only(int on) {
    lock();
    read_only = on != 0;
    unlock();
}

EXPORT uint64_t disk_count(int operation) { return counts[operation]; }
EXPORT uint64_t disk_written(void) { return written_bytes; }

EXPORT uint64_t disk_pending(void) {
    lock();
    uint64_t pending = model_pending();
    unlock();
    return pending;
}

EXPORT uint64_t disk_used(void) {
    lock();
    uint64_t used = model_used();
    unlock();
    return used;
}

/* The size of what is durable under this name, -1 if nothing is; copies up to `room` bytes. */
EXPORT int64_t disk_durable(const char *path, void *to, size_t room) {
    lock();
    struct name *name = model_name(path);
    int64_t size = -1;
    if (name && name->durable && !name->durable->folder) {
        struct image *image = &name->durable->durable;
        size = (int64_t)image->size;
        if (to && image->size) memcpy(to, image->bytes, image->size < room ? image->size : room);
    }
    unlock();
    return size;
}

EXPORT int disk_verify(char *wrong, size_t room) {
    lock();
    bool same = model_verify(disk_root, wrong, room);
    unlock();
    return same;
}

/* ------------------------------------------------------------------ told by the environment */

static uint64_t number_in(const char *name) {
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 10) : 0;
}

__attribute__((constructor)) static void begin(void) {
    const char *root = getenv("DISK_ROOT"), *where = getenv("DISK_DIE_WHERE");
    if (!root || !*root) return;
    if (disk_reset(root, 0)) die_loudly("cannot read DISK_ROOT", root);
    die_by_signal = true;
    cut_at_death = getenv("DISK_CUT_SEED") != NULL;
    cut_seed = number_in("DISK_CUT_SEED");
    capacity = number_in("DISK_CAPACITY");
    disk_die_at(number_in("DISK_DIE_AT"), where && !strcmp(where, "half")    ? HALF
                                          : where && !strcmp(where, "after") ? AFTER
                                                                             : BEFORE);
}

/* How many operations there were, for who wants to choose among them. */
__attribute__((destructor)) static void finish(void) {
    const char *path = getenv("DISK_COUNT_FILE");
    if (!path || !die_by_signal) return;
    int fd = raw_open(path, O_WRONLY | O_CREAT | O_TRUNC, 0640);
    if (fd >= 0) dprintf(fd, "%llu\n", (unsigned long long)counts[ANY]);
}
