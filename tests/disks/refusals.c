/* Makes single calls fail, or answer otherwise, below one folder: what filesystems do that are not here.

   REFUSE_BELOW  the folder
   REFUSE        call=errno,...  (see CALLS in diskkit.py); "call=" alone means the number 0
   REFUSE_NAMED  only of paths that have this text in them
   REFUSE_AFTER  so many calls that would fail go well first, in each process
   REFUSE_LOG    a file that gets one line, the call's name, for each call that was made to fail
*/
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static int refused(const char *call)
{
    const char *list = getenv("REFUSE");
    size_t length = strlen(call);
    for (const char *at = list; at && *at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL)
        if (!strncmp(at, call, length) && at[length] == '=')
            return atoi(at + length + 1);
    return -1;
}

static void note(const char *call)
{
    const char *path = getenv("REFUSE_LOG");
    int saved = errno;
    if (path) {
        int log = syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
        if (log >= 0) {
            dprintf(log, "%s\n", call);
            syscall(SYS_close, log);
        }
    }
    errno = saved;
}

static int below(const char *path)
{
    const char *root = getenv("REFUSE_BELOW");
    size_t length = root ? strlen(root) : 0;
    char whole[8192];
    if (!root || !path)
        return 0;
    if (path[0] != '/') {
        if (!getcwd(whole, sizeof whole / 2))
            return 0;
        strncat(whole, "/", 2);
        strncat(whole, path, sizeof whole / 2 - 2);
        path = whole;
    }
    const char *part = getenv("REFUSE_NAMED");
    if (part && !strstr(path, part))
        return 0;
    return !strncmp(path, root, length) && (path[length] == '/' || !path[length]);
}

static int is_below(int handle)
{
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", handle);
    ssize_t got = readlink(link, path, sizeof path - 1);
    if (got < 0)
        return 0;
    path[got] = 0;
    return below(path);
}

/* Whether this call goes well because it is one of the first. */
static int spared(void)
{
    static atomic_int calls;
    const char *after = getenv("REFUSE_AFTER");
    return after && atomic_fetch_add(&calls, 1) < atoi(after);
}

/* Whether `call` is to fail here; errno is set then. */
static int fails(const char *call, int here)
{
    int number = refused(call);
    if (number < 0 || !here || spared())
        return 0;
    note(call);
    errno = number;
    return 1;
}

int fchmod(int handle, mode_t mode)
{
    return fails("fchmod", is_below(handle)) ? -1 : NEXT(fchmod)(handle, mode);
}

int chmod(const char *path, mode_t mode)
{
    return fails("chmod", below(path)) ? -1 : NEXT(chmod)(path, mode);
}

int fchown(int handle, uid_t owner, gid_t group)
{
    return fails("fchown", is_below(handle)) ? -1 : NEXT(fchown)(handle, owner, group);
}

int flock(int handle, int operation)
{
    return fails("flock", is_below(handle)) ? -1 : NEXT(flock)(handle, operation);
}

int fsync(int handle)
{
    struct stat info;
    int folder = !fstat(handle, &info) && S_ISDIR(info.st_mode);
    return fails(folder ? "fsync_folder" : "fsync_file", is_below(handle)) ? -1 : NEXT(fsync)(handle);
}

static int lock_call(int command)
{
    return command == F_SETLK || command == F_SETLKW || command == F_GETLK || command == F_OFD_SETLK;
}

int fcntl64(int handle, int command, ...)
{
    va_list more;
    va_start(more, command);
    void *argument = va_arg(more, void *);
    va_end(more);
    if (lock_call(command) && fails("fcntl_lock", is_below(handle)))
        return -1;
    return NEXT(fcntl64)(handle, command, argument);
}

int fcntl(int handle, int command, ...)
{
    va_list more;
    va_start(more, command);
    void *argument = va_arg(more, void *);
    va_end(more);
    if (lock_call(command) && fails("fcntl_lock", is_below(handle)))
        return -1;
    return NEXT(fcntl)(handle, command, argument);
}

void *mmap64(void *address, size_t length, int protection, int flags, int handle, off64_t offset)
{
    if ((flags & MAP_SHARED) && handle >= 0 && fails("mmap_shared", is_below(handle)))
        return MAP_FAILED;
    return NEXT(mmap64)(address, length, protection, flags, handle, offset);
}

void *mmap(void *address, size_t length, int protection, int flags, int handle, off_t offset)
{
    if ((flags & MAP_SHARED) && handle >= 0 && fails("mmap_shared", is_below(handle)))
        return MAP_FAILED;
    return NEXT(mmap)(address, length, protection, flags, handle, offset);
}

int link(const char *path, const char *other)
{
    return fails("link", below(other)) ? -1 : NEXT(link)(path, other);
}

int linkat(int folder, const char *path, int other_folder, const char *other, int flags)
{
    return fails("link", below(other)) ? -1 : NEXT(linkat)(folder, path, other_folder, other, flags);
}

ssize_t write(int handle, const void *data, size_t size)
{
    return fails("write", is_below(handle)) ? -1 : NEXT(write)(handle, data, size);
}

ssize_t pwrite64(int handle, const void *data, size_t size, off64_t offset)
{
    return fails("write", is_below(handle)) ? -1 : NEXT(pwrite64)(handle, data, size, offset);
}

ssize_t pwrite(int handle, const void *data, size_t size, off_t offset)
{
    return fails("write", is_below(handle)) ? -1 : NEXT(pwrite)(handle, data, size, offset);
}

/* Disks that tell odd numbers: "no_blocks=0" (nothing is known), "no_inodes=0". */
static int odd(int done, struct statvfs *info, int here)
{
    if (done || !here)
        return done;
    if (refused("no_blocks") >= 0) {
        note("no_blocks");
        info->f_blocks = info->f_bfree = info->f_bavail = 0;
    }
    if (refused("no_inodes") >= 0) {
        note("no_inodes");
        info->f_ffree = info->f_favail = 0;
    }
    return 0;
}

int statvfs(const char *path, struct statvfs *info)
{
    return fails("statvfs", below(path)) ? -1 : odd(NEXT(statvfs)(path, info), info, below(path));
}

int statvfs64(const char *path, struct statvfs64 *info)
{
    if (fails("statvfs", below(path)))
        return -1;
    return odd(NEXT(statvfs64)(path, info), (struct statvfs *)info, below(path));
}

/* A new file for which there is no inode. */
static int creates(int flags)
{
    return (flags & O_CREAT) != 0;
}

int open64(const char *path, int flags, ...)
{
    va_list more;
    va_start(more, flags);
    mode_t mode = va_arg(more, int);
    va_end(more);
    if (creates(flags) && access(path, F_OK) && fails("create", below(path)))
        return -1;
    return NEXT(open64)(path, flags, mode);
}

int open(const char *path, int flags, ...)
{
    va_list more;
    va_start(more, flags);
    mode_t mode = va_arg(more, int);
    va_end(more);
    if (creates(flags) && access(path, F_OK) && fails("create", below(path)))
        return -1;
    return NEXT(open)(path, flags, mode);
}

int mkdir(const char *path, mode_t mode)
{
    return fails("create", below(path)) ? -1 : NEXT(mkdir)(path, mode);
}
