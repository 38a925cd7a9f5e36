/* The whole model: begun from what is there, cut by a power loss, compared with the real files. */

#define _GNU_SOURCE
#include "model.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>



void model_reset(uint64_t seed) {
    while (entry_count) drop_entry_op(entry_count - 1);
    for (size_t i = 0; i < name_count; i++) free(names[i].path);
    name_count = 0;
    for (struct node *node = nodes, *next; node; node = next) {
        next = node->next;
        free_node(node);
    }
    nodes = NULL;
    next_number = 0;
    throw_dice_from(seed);
}

static int read_real(const char *path, struct image *image) {
    struct stat info;
    int fd = raw_open(path, O_RDONLY | O_CLOEXEC, 0);
    if (fd < 0 || fstat(fd, &info)) return -1;
    image_resize(image, (size_t)info.st_size);
    size_t done = 0;
    while (done < image->size) {
        ssize_t n = pread(fd, image->bytes + done, image->size - done, (off_t)done);
        if (n <= 0) break;
        done += (size_t)n;
    }
    syscall(SYS_close, fd);
    return done == image->size ? 0 : -1;
}

static int load_folder(const char *root, const char *folder) {
    char path[4096], below_root[4096];
    struct dirent **found;
    full_path(path, root, folder);
    int count = scandir(path, &found, NULL, alphasort);
    int failed = count < 0 ? -1 : 0;
    for (int i = 0; i < count; i++) {
        const char *entry = found[i]->d_name;
        struct stat info;
        if (!failed && strcmp(entry, ".") && strcmp(entry, "..")) {
            snprintf(below_root, sizeof below_root, "%s%s%s", folder, *folder ? "/" : "", entry);
            full_path(path, root, below_root);
            if (lstat(path, &info)) failed = -1;
            else if (S_ISDIR(info.st_mode) || S_ISREG(info.st_mode)) {
                struct node *node = new_node(below_root, S_ISDIR(info.st_mode), info.st_mode);
                struct name *name = name_for(below_root);
                name->now = name->durable = node;
                failed = node->folder ? load_folder(root, below_root)
                                      : read_real(path, &node->durable);
                node->size = node->durable.size;
            }
        }
        free(found[i]);
    }
    if (count >= 0) free(found);
    return failed;
}

/* All that is there is durable. Sockets, links and devices are not looked at. */
int model_load(const char *root) {
    struct node *node = new_node("", true, 0750);
    struct name *name = name_for("");
    name->now = name->durable = node;
    return load_folder(root, "");
}

/* Bytes in use, in whole blocks; a removed file counts while somebody has it open. */
uint64_t model_used(void) {
    uint64_t used = 0;
    for (struct node *node = nodes; node; node = node->next) node->marked = node->fds > 0;
    for (size_t i = 0; i < name_count; i++)
        if (names[i].now) names[i].now->marked = true;
    for (struct node *node = nodes; node; node = node->next)
        if (node->marked) used += (node->size + PAGE - 1) / PAGE * PAGE;
    return used;
}

uint64_t model_pending(void) {
    uint64_t pending = entry_count;
    for (struct node *node = nodes; node; node = node->next) pending += node->count;
    return pending;
}

static bool is_known(const char *root, const struct name *name) {
    char path[4096];
    struct image real = {0};
    struct stat info;
    full_path(path, root, name->path);
    bool there = !lstat(path, &info), same = there == (name->now != NULL);
    if (same && there && !name->now->folder) {
        struct image believed = model_current(name->now);
        same = !read_real(path, &real) && image_same(&real, &believed);
        image_free(&believed);
        image_free(&real);
    }
    return same;
}

/* Whether the real files are what the model believes: nothing escaped the layer's hooks.
   Else false and the first path that is not. */
bool model_verify(const char *root, char *wrong, size_t room) {
    char path[4096];
    for (size_t i = 0; i < name_count; i++) {
        bool same = is_known(root, &names[i]);
        snprintf(wrong, room, "%s", names[i].path);
        if (!same) return false;
        if (!names[i].now || !names[i].now->folder) continue;
        full_path(path, root, names[i].path);
        struct dirent **found;
        int count = scandir(path, &found, NULL, alphasort);
        for (int n = 0; n < count; n++) {
            const char *entry = found[n]->d_name;
            snprintf(path, sizeof path, "%s%s%s", names[i].path, *names[i].path ? "/" : "", entry);
            if (same && strcmp(entry, ".") && strcmp(entry, "..") && !model_name(path)) {
                snprintf(wrong, room, "%s", path);
                same = false;
            }
            free(found[n]);
        }
        if (count >= 0) free(found);
        if (!same) return false;
    }
    return true;
}

/* ------------------------------------------------------------------ power cut */


/* How a disk came to be cut short; each cut draws one, so that also rare orders are met. */
enum style {
    EACH_BY_CHANCE, /* every change for itself, mostly lost, mostly kept, or half of each */
    IN_ORDER,       /* all up to some moment: the last one torn */
    NEWEST_FIRST,   /* all since some moment, nothing before it */
    FILE_BY_FILE,   /* all of a file or none of it */
    STYLES
};

struct plan {
    enum cut cut;
    enum style style;
    uint64_t moment, chance;
    bool whole_file;
};

static enum fate fate_of(const struct plan *plan, uint64_t number) {
    if (plan->cut != CUT_RANDOM) return plan->cut == CUT_EVERYTHING_KEPT ? KEPT : LOST;
    switch (plan->style) {
    case IN_ORDER:
        return number < plan->moment ? KEPT : number == plan->moment ? TORN : LOST;
    case NEWEST_FIRST:
        return number > plan->moment ? KEPT : LOST;
    case FILE_BY_FILE:
        return plan->whole_file ? KEPT : LOST;
    default:
        if (below(100) >= plan->chance) return LOST;
        return below(3) ? KEPT : TORN;
    }
}

static uint64_t oldest_pending(void) {
    uint64_t oldest = entry_count ? entry_ops[0].number : next_number;
    for (struct node *node = nodes; node; node = node->next)
        if (node->count && node->ops[0].number < oldest) oldest = node->ops[0].number;
    return oldest;
}

static void write_real(const char *root, struct name *name, bool fresh, const struct image *was) {
    char path[4096], other[4096];
    struct node *node = name->durable;
    full_path(path, root, name->path);
    if (node->folder) {
        if (fresh && syscall(SYS_mkdirat, AT_FDCWD, path, node->mode)) die_loudly("mkdir", path);
        return;
    }
    if (fresh && node->home) {
        full_path(other, root, node->home);
        if (syscall(SYS_linkat, AT_FDCWD, other, AT_FDCWD, path, 0)) die_loudly("link", path);
        return;
    }
    node->home = name->path;
    if (!fresh && was == NULL) return; /* nothing was pending */
    int fd = raw_open(path, O_WRONLY | O_CREAT | O_CLOEXEC, node->mode);
    if (fd < 0) die_loudly("open", path);
    for (size_t done = 0; done < node->durable.size;) {
        long n = syscall(SYS_pwrite64, fd, node->durable.bytes + done, node->durable.size - done,
                         (off_t)done);
        if (n <= 0) die_loudly("write", path);
        done += (size_t)n;
    }
    if (syscall(SYS_ftruncate, fd, (off_t)node->durable.size)) die_loudly("ftruncate", path);
    syscall(SYS_close, fd);
}

static bool parent_is_there(const char *path) {
    char parent[4096];
    const char *end = strrchr(path, '/');
    if (!end) return true;
    snprintf(parent, sizeof parent, "%.*s", (int)(end - path), path);
    struct name *name = model_name(parent);
    return name && name->durable && parent_is_there(parent);
}

static int by_path(const void *a, const void *b) {
    return strcmp(((const struct name *)a)->path, ((const struct name *)b)->path);
}

void model_power_cut(const char *root, uint64_t seed, enum cut cut) {
    char path[4096];
    uint64_t oldest = oldest_pending();
    throw_dice_from(seed);
    struct plan plan = {.cut = cut, .style = below(STYLES)};
    plan.moment = oldest + below(next_number - oldest + 1);
    plan.chance = (uint64_t[]){10, 50, 90}[below(3)];
    plan.whole_file = below(2);
    for (size_t i = 0; i < entry_count; i++)
        if (fate_of(&plan, entry_ops[i].number) != LOST) land_entry(&entry_ops[i]);
    while (entry_count) drop_entry_op(entry_count - 1);
    for (struct node *node = nodes; node; node = node->next) {
        node->home = NULL;
        node->marked = node->count || node->diverged; /* its real content may change */
        plan.whole_file = below(2);
        if (!node->count) continue;
        enum fate *fates = must(malloc(node->count * sizeof *fates));
        for (size_t i = 0; i < node->count; i++) fates[i] = fate_of(&plan, node->ops[i].number);
        settle(node, fates, SECTOR);
        free(fates);
        node->marked = node->diverged;
    }
    /* Sorted: a directory comes before what is in it, and goes after it. */
    qsort(names, name_count, sizeof *names, by_path);
    for (size_t i = name_count; i--;) {
        struct name *name = &names[i];
        if (name->durable && !parent_is_there(name->path)) name->durable = NULL;
        if (!name->now || name->now == name->durable) continue;
        full_path(path, root, name->path);
        int flags = name->now->folder ? AT_REMOVEDIR : 0;
        if (syscall(SYS_unlinkat, AT_FDCWD, path, flags)) die_loudly("unlink", path);
    }
    for (size_t i = 0; i < name_count; i++) {
        struct name *name = &names[i];
        if (name->durable)
            write_real(root, name, name->now != name->durable,
                       name->durable->marked ? &name->durable->known : NULL);
        name->now = name->durable;
    }
    for (struct node *node = nodes; node; node = node->next) {
        node->size = node->durable.size;
        node->diverged = false;
        image_free(&node->known);
    }
    sweep();
}

