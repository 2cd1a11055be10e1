/* Keeps what a power cut would leave of a folder: each file as it was when it was last forced to disk, and each
 * folder's names as they were when it was. Loaded before the C library (LD_PRELOAD) into the process that writes.
 *
 * DURABLE_ROOT  the folder
 * DURABLE_KEPT  where to keep it: a file "<inode>-<time of birth>" per file, "names/<inode>-<birth>" per folder,
 *               with a line "<inode>-<birth> <d or f> <name>" for everything in it
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;

static int name_of(int folder, const char *path, char *name, int *is_folder) {
    struct statx found;
    if (statx(folder, path, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW, STATX_INO | STATX_TYPE | STATX_BTIME, &found)) return -1;
    *is_folder = S_ISDIR(found.stx_mode);
    return sprintf(name, "%llu-%lld.%u", (unsigned long long)found.stx_ino, (long long)found.stx_btime.tv_sec,
                   found.stx_btime.tv_nsec);
}

static void keep_names(int fd, FILE *out) {
    DIR *folder = fdopendir(openat(fd, ".", O_RDONLY | O_DIRECTORY));
    char name[96];
    int is_folder;
    for (struct dirent *one; folder && (one = readdir(folder));)
        if (strcmp(one->d_name, ".") && strcmp(one->d_name, "..") && name_of(fd, one->d_name, name, &is_folder) > 0)
            fprintf(out, "%s %c %s\n", name, is_folder ? 'd' : 'f', one->d_name);
    if (folder) closedir(folder);
}

static void keep_content(int fd, FILE *out) {
    char link[64], page[1 << 16];
    sprintf(link, "/proc/self/fd/%d", fd);
    int in = open(link, O_RDONLY | O_CLOEXEC);
    for (ssize_t n; in >= 0 && (n = read(in, page, sizeof page)) > 0;) fwrite(page, 1, n, out);
    if (in >= 0) close(in);
}

/* Copies what is there now; returns whether it belongs to the folder. Kept under its name once it is on disk. */
static int copy(int fd, char *draft, char *kept, size_t size) {
    char link[64], path[4096], name[96];
    const char *root = getenv("DURABLE_ROOT"), *to = getenv("DURABLE_KEPT");
    int is_folder;
    sprintf(link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (!root || !to || n <= 0) return 0;
    path[n] = 0;
    if (strncmp(path, root, strlen(root)) || name_of(fd, "", name, &is_folder) < 0) return 0;
    snprintf(kept, size, "%s/%s%s", to, is_folder ? "names/" : "", name);
    snprintf(draft, size, "%s/draft", to);
    FILE *out = fopen(draft, "w");
    if (!out) return 0;
    is_folder ? keep_names(fd, out) : keep_content(fd, out);
    return !fclose(out);
}

static int synced(const char *how, int fd) {
    int (*really)(int) = (int (*)(int))dlsym(RTLD_NEXT, how);
    char draft[4300], kept[4300];
    pthread_mutex_lock(&turn);
    int is_ours = copy(fd, draft, kept, sizeof draft);
    int result = really(fd);
    if (is_ours && !result) rename(draft, kept);
    pthread_mutex_unlock(&turn);
    return result;
}

int fsync(int fd) { return synced("fsync", fd); }
int fdatasync(int fd) { return synced("fdatasync", fd); }
