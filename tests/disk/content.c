/* The content of files: pending changes, syncs, and what of them lands. See model.h. */

#define _GNU_SOURCE
#include "model.h"

#include <stdlib.h>
#include <string.h>

static uint64_t dice;


void *must(void *memory) {
    if (!memory) die_loudly("memory", "none is left");
    return memory;
}

/* splitmix64: https://prng.di.unimi.it/splitmix64.c */
static uint64_t roll(void) {
    uint64_t z = (dice += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

uint64_t below(uint64_t bound) { return bound ? roll() % bound : 0; }

void throw_dice_from(uint64_t seed) { dice = seed; }

/* Room for one more element of an array. */
void *one_more(void *array, size_t count, size_t *room, size_t each) {
    if (count < *room) return array;
    *room = *room ? *room * 2 : 16;
    return must(realloc(array, *room * each));
}

static void image_room(struct image *image, size_t room) {
    if (room <= image->room) return;
    size_t wanted = room + room / 2 + PAGE;
    image->bytes = must(realloc(image->bytes, wanted));
    memset(image->bytes + image->room, 0, wanted - image->room);
    image->room = wanted;
}

void image_resize(struct image *image, size_t size) {
    image_room(image, size);
    if (size < image->size) memset(image->bytes + size, 0, image->size - size);
    image->size = size;
}

static void image_put(struct image *image, size_t at, const void *bytes, size_t size) {
    if (at + size > image->size) image_resize(image, at + size);
    memcpy(image->bytes + at, bytes, size);
}

static struct image image_copy(const struct image *from) {
    struct image copy = {0};
    image_resize(&copy, from->size);
    memcpy(copy.bytes, from->bytes ? from->bytes : (unsigned char *)"", from->size);
    return copy;
}

void image_free(struct image *image) {
    free(image->bytes);
    *image = (struct image){0};
}

bool image_same(const struct image *a, const struct image *b) {
    return a->size == b->size && (!a->size || !memcmp(a->bytes, b->bytes, a->size));
}

static void apply(const struct op *op, struct image *image) {
    if (op->kind == OP_WRITE) image_put(image, op->at, op->bytes, op->size);
    else image_resize(image, op->size);
}

static void forget_ops(struct node *node) {
    for (size_t i = 0; i < node->count; i++) free(node->ops[i].bytes);
    node->count = 0;
}

void free_node(struct node *node) {
    forget_ops(node);
    free(node->ops);
    free(node->folder);
    image_free(&node->durable);
    image_free(&node->known);
    free(node);
}



static void note_op(struct node *node, struct op op) {
    node->ops = one_more(node->ops, node->count, &node->room, sizeof *node->ops);
    op.number = next_number++;
    node->ops[node->count++] = op;
}

void model_write(struct node *node, size_t at, const void *bytes, size_t size) {
    if (!size) return;
    unsigned char *copy = must(malloc(size));
    memcpy(copy, bytes, size);
    note_op(node, (struct op){.kind = OP_WRITE, .at = at, .size = size, .bytes = copy});
    if (at + size > node->size) node->size = at + size;
}

void model_resize(struct node *node, size_t size) {
    if (size == node->size) return;
    note_op(node, (struct op){.kind = OP_RESIZE, .size = size});
    node->size = size;
}

struct image model_current(const struct node *node) {
    struct image now = image_copy(node->diverged ? &node->known : &node->durable);
    for (size_t i = 0; i < node->count; i++) apply(&node->ops[i], &now);
    return now;
}

/* Copy the units (sectors or pages) of a write from memory to the disk. */
static void land_write(const struct op *op, enum fate fate, size_t unit, const struct image *memory,
                       struct image *disk) {
    size_t first = op->at / unit, last = (op->at + op->size - 1) / unit, torn = last;
    bool scattered = false;
    if (fate == TORN) {
        scattered = below(2); /* any of its sectors, or the first ones */
        torn = first + below(last - first + 1);
    }
    for (size_t i = first; i <= last; i++) {
        if (fate == TORN && (scattered ? below(2) == 0 : i >= torn)) continue;
        size_t at = i * unit, end = at + unit;
        if (end > memory->size) end = memory->size;
        image_put(disk, at, memory->bytes + at, end - at);
    }
}

/* Bring the changes to `disk` as their fates say, and all of them to `memory`. */
static void replay(struct node *node, const enum fate *fates, size_t unit, struct image *memory,
                   struct image *disk) {
    /* The inode is written as a whole: its newest size that lands brings older changes along. */
    size_t size = memory->size, new_size = disk->size, sized = 0;
    for (size_t i = 0; i < node->count; i++) {
        const struct op *op = &node->ops[i];
        size_t after = op->kind == OP_RESIZE ? op->size
                       : op->at + op->size > size ? op->at + op->size
                                                  : size;
        if (after != size && fates[i] != LOST) {
            sized = i + 1;
            new_size = after;
        }
        size = after;
    }
    for (size_t i = 0; i < node->count; i++) {
        const struct op *op = &node->ops[i];
        apply(op, memory);
        if (op->kind == OP_WRITE && fates[i] != LOST) land_write(op, fates[i], unit, memory, disk);
        /* Blocks behind the new end are given up, also those that only memory had. */
        if (op->kind == OP_RESIZE && i < sized && op->size < disk->size)
            image_resize(disk, op->size);
    }
    image_resize(disk, new_size);
}

/* Both images of the node as the fates leave them; no operation is pending then. */
void settle(struct node *node, const enum fate *fates, size_t unit) {
    struct image memory = image_copy(node->diverged ? &node->known : &node->durable);
    replay(node, fates, unit, &memory, &node->durable);
    forget_ops(node);
    image_free(&node->known);
    node->diverged = !image_same(&memory, &node->durable);
    if (node->diverged) node->known = memory;
    else image_free(&memory);
}

void model_sync(struct node *node) {
    if (node->folder) {
        sync_folder(node->folder, false);
    } else if (node->diverged) {
        enum fate *fates = must(calloc(node->count + 1, sizeof *fates));
        for (size_t i = 0; i < node->count; i++) fates[i] = KEPT;
        /* The inode stays in memory, and is written again with the next change of the file. */
        if (node->count) image_resize(&node->durable, node->known.size);
        settle(node, fates, PAGE);
        free(fates);
    } else {
        for (size_t i = 0; i < node->count; i++) apply(&node->ops[i], &node->durable);
        forget_ops(node);
    }
}

/* Linux marks the pages clean all the same: readers see the new content, the disk has some of it,
   and no later sync writes the rest, unless the page is written again.
   https://wiki.postgresql.org/wiki/Fsync_Errors */
void model_sync_failed(struct node *node) {
    if (node->folder) {
        sync_folder(node->folder, true);
        return;
    }
    enum fate *fates = must(calloc(node->count + 1, sizeof *fates));
    for (size_t i = 0; i < node->count; i++) fates[i] = (enum fate)below(3);
    settle(node, fates, SECTOR);
    free(fates);
}

