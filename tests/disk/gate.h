/* What stands between a call and the model: counters, faults, and the moment of death. */
#ifndef DISK_GATE_H
#define DISK_GATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The operations that are counted and may fail. The order is known to layer.py. */
enum operation {
    ANY,
    CREATE,   /* open of a file that was not there */
    WRITE,
    TRUNCATE, /* ftruncate, truncate, open with O_TRUNC, fallocate */
    SYNC,     /* fsync and fdatasync of files */
    RENAME,
    UNLINK,
    LINK,
    MKDIR,
    RMDIR,
    SYNC_FOLDER, /* of directories */
    OPERATIONS
};

/* How an operation may go on. */
enum passage {
    REFUSED,  /* errno is set */
    ALLOWED,
    HALFWAY,  /* a write: do half of the bytes, then call `fall_dead` */
    LAST,     /* do it, then call `fall_dead` */
    SPOILED   /* a sync that fails: the model loses what it likes; errno is set */
};

extern char disk_root[4096];
extern size_t disk_root_length;
extern int disk_owner; /* the process id */
extern uint64_t written_bytes;

void lock(void);
void unlock(void);
enum passage pass(enum operation operation);
void fall_dead(void);
bool is_dead(void);
/* How many of `size` bytes at `at` find room; the file grows from `now`. */
size_t room_for(size_t now, size_t at, size_t size);

/* layer.c */

/* How many tracked files and directories are open. */
int files_open(void);
/* What a descriptor has open, if that is tracked. */
struct node *node_of(int fd);
/* Whether the path is below the root (or the root itself); then `out` is its part behind it. */
bool is_ours(int folder, const char *path, char *out);
void not_modelled(const char *call, const char *path) __attribute__((noreturn));

#endif
