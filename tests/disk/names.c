/* Names: directories and their pending changes. See model.h. */

#define _GNU_SOURCE
#include "model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct node *nodes;
struct name *names;
size_t name_count;
struct entry_op *entry_ops;
size_t entry_count;
uint64_t next_number;
static size_t name_room, entry_room;

/* Whether `path` stands directly in `folder` ("" is the root). */
bool stands_in(const char *path, const char *folder) {
    size_t length = strlen(folder);
    if (length && (strncmp(path, folder, length) || path[length] != '/')) return false;
    return *path && !strchr(path + (length ? length + 1 : 0), '/');
}

void full_path(char *to, const char *root, const char *path) {
    if (snprintf(to, 4096, "%s%s%s", root, *path ? "/" : "", path) >= 4096)
        die_loudly("a path of more than 4096 bytes", path);
}



struct name *model_name(const char *path) {
    for (size_t i = 0; i < name_count; i++)
        if (!strcmp(names[i].path, path)) return &names[i];
    return NULL;
}

struct name *name_for(const char *path) {
    struct name *known = model_name(path);
    if (known) return known;
    names = one_more(names, name_count, &name_room, sizeof *names);
    names[name_count] = (struct name){.path = must(strdup(path))};
    return &names[name_count++];
}

struct node *new_node(const char *path, bool is_dir, mode_t mode) {
    struct node *node = must(calloc(1, sizeof *node));
    node->mode = mode & 07777;
    node->folder = is_dir ? must(strdup(path)) : NULL;
    struct node **last = &nodes; /* in the order of their making: a cut's dice follow it */
    while (*last) last = &(*last)->next;
    return *last = node;
}

static void note_entry(const char *from, const char *to, struct node *node) {
    entry_ops = one_more(entry_ops, entry_count, &entry_room, sizeof *entry_ops);
    entry_ops[entry_count++] = (struct entry_op){
        .number = next_number++,
        .from = from ? must(strdup(from)) : NULL,
        .to = to ? must(strdup(to)) : NULL,
        .node = node,
    };
}

void model_link(const char *path, struct node *node) {
    name_for(path)->now = node;
    note_entry(NULL, path, node);
}

struct node *model_add(const char *path, bool is_dir, mode_t mode) {
    struct node *node = new_node(path, is_dir, mode);
    model_link(path, node);
    return node;
}

void model_remove(const char *path) {
    struct name *name = model_name(path);
    if (!name || !name->now) return;
    note_entry(path, NULL, name->now);
    name->now = NULL;
}

void model_rename(const char *from, const char *to) {
    struct node *node = model_name(from)->now;
    if (!strcmp(from, to)) return;
    note_entry(from, to, node);
    name_for(to)->now = node;
    model_name(from)->now = NULL;
}

static bool has_durable_children(const char *folder) {
    for (size_t i = 0; i < name_count; i++)
        if (names[i].durable && stands_in(names[i].path, folder)) return true;
    return false;
}

void land_entry(const struct entry_op *op) {
    if (op->from && !op->to && op->node->folder && has_durable_children(op->from))
        return; /* no file system removes a directory from under its entries */
    if (op->from) {
        struct name *from = name_for(op->from);
        /* A lost unlink of an older file of this name is not made good by a later rename of it. */
        if (!op->to || from->durable == op->node) from->durable = NULL;
    }
    if (op->to) name_for(op->to)->durable = op->node;
}

void drop_entry_op(size_t index) {
    free(entry_ops[index].from);
    free(entry_ops[index].to);
    memmove(entry_ops + index, entry_ops + index + 1,
            (--entry_count - index) * sizeof *entry_ops);
}

/* Forget names that name nothing, and nodes that nothing leads to. */
void sweep(void) {
    size_t kept = 0;
    for (struct node *node = nodes; node; node = node->next) node->marked = node->fds > 0;
    for (size_t i = 0; i < entry_count; i++) entry_ops[i].node->marked = true;
    for (size_t i = 0; i < name_count; i++) {
        if (names[i].now) names[i].now->marked = true;
        if (names[i].durable) names[i].durable->marked = true;
        if (names[i].now || names[i].durable) names[kept++] = names[i];
        else free(names[i].path);
    }
    name_count = kept;
    for (struct node **at = &nodes; *at;) {
        struct node *node = *at;
        if (node->marked) {
            at = &node->next;
        } else {
            *at = node->next;
            free_node(node);
        }
    }
}

void sync_folder(const char *folder, bool fails) {
    for (size_t i = 0; i < entry_count;) {
        const struct entry_op *op = &entry_ops[i];
        if ((op->from && stands_in(op->from, folder)) || (op->to && stands_in(op->to, folder))) {
            if (!fails || below(2)) land_entry(op);
            drop_entry_op(i);
        } else {
            i++;
        }
    }
    sweep();
}

