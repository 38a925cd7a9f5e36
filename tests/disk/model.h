/* The model of a disk that loses what was not synced. See model.h and layer.py.

   Which states a power cut may leave:
   - Each sector of a file shows one moment since the last sync of that file, independently of all
     other sectors: the kernel writes pages back when and in what order it likes, and the disk
     writes sectors whole. A write is so kept, lost, or torn at sectors. Bytes of two writes in one
     sector never appear in the wrong order: the sector is written from memory that had both.
   - The size of a file is one moment too, of its own. Where it grew and the data did not come,
     there are zeros: file systems in use do not show what was in a block before.
   - A change of a directory is there or not, whatever became of other changes, until the directory
     is synced. This is stricter than ext4, whose journal keeps their order and where a sync of
     a new file brings its name along: POSIX promises neither, other file systems do less.
     The one leniency: a rename is atomic, as POSIX asks and every journaled file system does
     (also across directories: a sync of either makes both ends durable).

   All functions of the model are called with the layer's lock held. */
#ifndef DISK_MODEL_H
#define DISK_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* What a disk writes as a whole or not at all; every drive and card keeps to this. */
#define SECTOR 512
/* What the kernel keeps as dirty or clean as a whole, and how it gives out space. */
#define PAGE 4096

/* The bytes of a file. Behind `size`, up to `room`, there are zeros. */
struct image {
    unsigned char *bytes;
    size_t size, room;
};

enum op_kind { OP_WRITE, OP_RESIZE };

/* A change of a file that no sync has made durable. OP_RESIZE: `size` is the new size. */
struct op {
    uint64_t number;
    enum op_kind kind;
    size_t at, size;
    unsigned char *bytes;
};

/* A file or directory, as an inode is: names point at it. */
struct node {
    struct node *next;
    char *folder; /* of a directory: its path below the root; else NULL */
    mode_t mode;
    int fds;
    bool marked;
    size_t size;          /* as every reader sees it now */
    struct image durable; /* as of the last sync */
    struct image known;   /* what the kernel holds to be on the disk; used if `diverged` */
    bool diverged;        /* a sync failed: the kernel forgot that pages were not written */
    struct op *ops;
    size_t count, room;
    char *home; /* during a power cut: a name that holds the new content already */
};

/* A path below the root, and what it names now and after a power cut without pending changes. */
struct name {
    char *path;
    struct node *now, *durable;
};

/* A change of names that no sync of the directory has made durable.
   from alone: unlink; to alone: create; both: rename. */
struct entry_op {
    uint64_t number;
    char *from, *to;
    struct node *node;
};

enum cut { CUT_RANDOM = 0, CUT_NOTHING_KEPT = 1, CUT_EVERYTHING_KEPT = 2 };

extern struct node *nodes;
extern struct name *names;
extern size_t name_count;
extern struct entry_op *entry_ops;
extern size_t entry_count;
extern uint64_t next_number;

/* content.c */
void *must(void *memory);
void throw_dice_from(uint64_t seed);
uint64_t below(uint64_t bound);
void *one_more(void *array, size_t count, size_t *room, size_t each);
void image_resize(struct image *image, size_t size);
bool image_same(const struct image *a, const struct image *b);
void image_free(struct image *image);
void free_node(struct node *node);
enum fate { LOST, KEPT, TORN };
void settle(struct node *node, const enum fate *fates, size_t unit);

/* names.c */
bool stands_in(const char *path, const char *folder);
void full_path(char *to, const char *root, const char *path);
struct node *new_node(const char *path, bool is_dir, mode_t mode);
struct name *name_for(const char *path);
void land_entry(const struct entry_op *op);
void drop_entry_op(size_t index);
void sync_folder(const char *folder, bool fails);
void sweep(void);

/* cut.c, and the operations of all three */
void model_reset(uint64_t seed);
int model_load(const char *root);
struct name *model_name(const char *path);
struct node *model_add(const char *path, bool is_dir, mode_t mode);
void model_link(const char *path, struct node *node);
void model_remove(const char *path);
void model_rename(const char *from, const char *to);
void model_write(struct node *node, size_t at, const void *bytes, size_t size);
void model_resize(struct node *node, size_t size);
void model_sync(struct node *node);
void model_sync_failed(struct node *node);
void model_power_cut(const char *root, uint64_t seed, enum cut cut);
struct image model_current(const struct node *node);
uint64_t model_used(void);
uint64_t model_pending(void);
bool model_verify(const char *root, char *path, size_t room);

/* The real files, past the layer's own hooks. */
int raw_open(const char *path, int flags, mode_t mode);
void die_loudly(const char *what, const char *path) __attribute__((noreturn));

#endif
